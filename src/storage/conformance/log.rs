//! Promises of the message log.

use super::Backend;
use super::support::{EPOCH, batch, fill, next, row, rows, seqs};
use crate::protocol::entry::{Body, Entry, Message};
use crate::protocol::ids::{Epoch, MessageId, RoomId, Shard, UserId};
use crate::storage::{Append, Effect, FoldRow, LogEnd, LogRow, Tail, record};
use futures_util::future::join_all;
use std::sync::Arc;

const ROOM: RoomId = RoomId(42);

/// What was acknowledged is there after the store was closed and opened again.
pub async fn append_is_durable_when_it_answers(b: &dyn Backend) {
    let s = b.open().await;
    fill(&*s, ROOM, 1, 100).await;
    s.close();
    let s = b.open().await;
    let got = s.rows(ROOM, 1, 4096).await.expect("rows");
    assert_eq!(got, (1..=100).map(|seq| row(ROOM, seq, EPOCH, 0)).collect::<Vec<_>>());
}

/// A refused or failed append leaves nothing; a done one leaves all of it.
pub async fn append_writes_all_rows_or_none(b: &dyn Backend) {
    let s = b.open().await;
    let appends: Vec<_> = (0..20).map(|i| s.append(batch(RoomId(i), 1, 50, 0))).collect();
    let done = join_all(appends).await;
    s.close();
    assert!(s.append(batch(RoomId(99), 1, 50, 0)).await.is_err(), "a closed store takes nothing");
    let s = b.open().await;
    for (i, done) in done.into_iter().enumerate() {
        let there = s.rows(RoomId(i as u64), 1, 50).await.expect("rows").len();
        assert_eq!(there, if done.is_ok() { 50 } else { there / 50 * 50 });
    }
    assert!(s.rows(RoomId(99), 1, 50).await.expect("rows").is_empty());
}

/// An owner in doubt writes the same rows again (rule 7).
pub async fn the_same_row_again_is_no_error(b: &dyn Backend) {
    let s = b.open().await;
    for _ in 0..3 {
        s.append(batch(ROOM, 1, 5, 0)).await.expect("append");
    }
    assert_eq!(seqs(&s.rows(ROOM, 1, 10).await.expect("rows")), [1, 2, 3, 4, 5]);
}

/// Every epoch of a seq, ascending by (seq, epoch), in whatever order they were written.
pub async fn rows_are_ordered_by_seq_and_epoch(b: &dyn Backend) {
    let s = b.open().await;
    let late = Epoch::new(300, 0);
    for r in [row(ROOM, 2, late, 1), row(ROOM, 1, EPOCH, 0), row(ROOM, 2, EPOCH, 0), row(ROOM, 2, Epoch::new(2, 9), 0)] {
        s.append(rows(ROOM, vec![r])).await.expect("append");
    }
    let got: Vec<_> = s.rows(ROOM, 1, 2).await.expect("rows").iter().map(|r| (r.seq, r.epoch)).collect();
    assert_eq!(got, [(1, EPOCH), (2, EPOCH), (2, Epoch::new(2, 9)), (2, late)]);
}

/// Both ends belong to the range; nothing beyond them is given.
pub async fn rows_are_read_by_range(b: &dyn Backend) {
    let s = b.open().await;
    fill(&*s, ROOM, 1, 300).await;
    assert_eq!(seqs(&s.rows(ROOM, 255, 258).await.expect("rows")), [255, 256, 257, 258]);
    assert_eq!(seqs(&s.rows(ROOM, 299, 900).await.expect("rows")), [299, 300]);
    assert!(s.rows(ROOM, 301, 400).await.expect("rows").is_empty());
    assert!(s.rows(ROOM, 5, 4).await.expect("rows").is_empty());
}

/// A read has a bound.
pub async fn rows_of_more_than_4096_seqs_are_refused(b: &dyn Backend) {
    let s = b.open().await;
    assert!(s.rows(ROOM, 1, 4096).await.is_ok());
    assert!(s.rows(ROOM, 1, 4097).await.is_err());
    assert!(s.rows(ROOM, 0, u64::MAX).await.is_err());
}

/// Buckets are the store's own affair.
pub async fn rows_cross_buckets(b: &dyn Backend) {
    let s = b.open().await;
    fill(&*s, ROOM, 4000, 4200).await;
    assert_eq!(seqs(&s.rows(ROOM, 4001, 4199).await.expect("rows")), (4001..=4199).collect::<Vec<_>>());
}

/// Neighbouring room ids do not see each other's rows.
pub async fn rooms_do_not_mix(b: &dyn Backend) {
    let s = b.open().await;
    for room in 41..=43 {
        fill(&*s, RoomId(room), 1, room - 40).await;
    }
    assert_eq!(s.rows(ROOM, 1, 4096).await.expect("rows").len(), 2);
    assert_eq!(s.tail(RoomId(41)).await.expect("tail").rows.len(), 1);
    assert_eq!(s.tail(RoomId(43)).await.expect("tail").rows.len(), 3);
}

/// Appends of many rooms at once: each sees its own as soon as it is acknowledged, all are durable.
pub async fn sixty_four_concurrent_appenders(b: &dyn Backend) {
    const ROOMS: u64 = 64;
    const EACH: u64 = 20;
    let s = b.open().await;
    join_all((0..ROOMS).map(|room| {
        let s = Arc::clone(&s);
        async move {
            for seq in 1..=EACH {
                s.append(batch(RoomId(room), seq, seq, seq - 1)).await.expect("append");
                let got = s.rows(RoomId(room), 1, EACH).await.expect("rows");
                assert_eq!(seqs(&got), (1..=seq).collect::<Vec<_>>(), "an acknowledged append is seen by the next read");
            }
        }
    }))
    .await;
    s.close();
    let s = b.open().await;
    for room in 0..ROOMS {
        assert_eq!(seqs(&s.rows(RoomId(room), 1, EACH).await.expect("rows")), (1..=EACH).collect::<Vec<_>>());
    }
}

/// The base is the largest `committed` on any row, dead ones too, and every row from it upward is given.
pub async fn tail_begins_at_the_largest_committed(b: &dyn Backend) {
    let s = b.open().await;
    fill(&*s, ROOM, 1, 10).await;
    let late = Epoch::new(2, 0);
    s.append(rows(ROOM, vec![row(ROOM, 8, late, 7), row(ROOM, 9, late, 7)])).await.expect("append");
    // A stale owner's rows, further up, knew less.
    s.append(rows(ROOM, (11..=14).map(|seq| row(ROOM, seq, EPOCH, 3)).collect())).await.expect("append");
    let tail = s.tail(ROOM).await.expect("tail");
    assert_eq!(tail.base, 7);
    let got: Vec<_> = tail.rows.iter().map(|r| (r.seq, r.epoch)).collect();
    assert_eq!(
        got,
        [7, 8, 9, 10, 11, 12, 13, 14]
            .iter()
            .flat_map(|s| match s {
                8 | 9 => vec![(*s, EPOCH), (*s, late)],
                _ => vec![(*s, EPOCH)],
            })
            .collect::<Vec<_>>()
    );
}

/// A marker counts like a row's `committed`.
pub async fn tail_begins_at_the_marker(b: &dyn Backend) {
    let s = b.open().await;
    fill(&*s, ROOM, 1, 10).await;
    s.mark(ROOM, 9).await.expect("mark");
    let tail = s.tail(ROOM).await.expect("tail");
    assert_eq!((tail.base, seqs(&tail.rows)), (9, vec![9, 10]));
}

/// A room without rows.
pub async fn tail_of_an_empty_room_is_empty(b: &dyn Backend) {
    let s = b.open().await;
    assert_eq!(s.tail(ROOM).await.expect("tail"), Tail::default());
    assert_eq!(s.ends(&[ROOM]).await.expect("ends"), [LogEnd::default()]);
}

/// A tail may begin one bucket below the newest (rule 13).
pub async fn tail_crosses_buckets(b: &dyn Backend) {
    let s = b.open().await;
    fill(&*s, ROOM, 4080, 4095).await;
    let above = Append { new_bucket: true, ..rows(ROOM, (4096..=4100).map(|seq| row(ROOM, seq, EPOCH, 4090)).collect()) };
    s.append(above).await.expect("append");
    let tail = s.tail(ROOM).await.expect("tail");
    assert_eq!((tail.base, seqs(&tail.rows)), (4090, (4090..=4100).collect()));
}

/// Heads come from rows and markers, whichever is larger, also where the newest rows knew less; and rows above them are told of.
pub async fn ends_take_the_largest_head_and_the_highest_row(b: &dyn Backend) {
    let s = b.open().await;
    fill(&*s, RoomId(1), 1, 5).await;
    s.append(batch(RoomId(1), 6, 6, 5)).await.expect("append");
    s.append(batch(RoomId(1), 7, 9, 2)).await.expect("append");
    fill(&*s, RoomId(2), 1, 5).await;
    s.mark(RoomId(2), 5).await.expect("mark");
    let ends = s.ends(&[RoomId(1), RoomId(2), RoomId(3)]).await.expect("ends");
    assert_eq!(ends, [(5, 9), (5, 5), (0, 0)].map(|(head, top)| LogEnd { head, top }));
}

/// A marker is never lowered.
pub async fn marks_are_max_registers(b: &dyn Backend) {
    let s = b.open().await;
    for committed in [3, 7, 5] {
        s.mark(ROOM, committed).await.expect("mark");
    }
    assert_eq!(s.ends(&[ROOM]).await.expect("ends"), [LogEnd { head: 7, top: 7 }]);
}

/// The mark comes with the rows, stays until everything is applied, and is found by shard and for all shards.
pub async fn unapplied_rooms_are_found_after_a_restart(b: &dyn Backend) {
    let s = b.open().await;
    for (room, shard) in [(1, 0), (2, 3), (3, 3), (4, 9)] {
        let append = Append { shard: Shard(shard), mark_unapplied: room != 4, ..batch(RoomId(room), 1, 2, 0) };
        s.append(append).await.expect("append");
    }
    s.apply(RoomId(3), Shard(3), next(), Vec::new(), false).await.expect("apply");
    s.close();
    let s = b.open().await;
    assert_eq!(s.unapplied(Some(Shard(3))).await.expect("unapplied"), [RoomId(2), RoomId(3)]);
    s.apply(RoomId(3), Shard(3), next(), Vec::new(), true).await.expect("apply");
    let mut all = s.unapplied(None).await.expect("unapplied");
    all.sort();
    assert_eq!(all, [RoomId(1), RoomId(2)]);
    assert!(s.unapplied(Some(Shard(9))).await.expect("unapplied").is_empty());
}

/// What an entry looks like is not the log's business (rule 4).
pub async fn payloads_are_kept_byte_for_byte(b: &dyn Backend) {
    let s = b.open().await;
    let mut odd = row(ROOM, 1, EPOCH, 0);
    odd.payload = (0..=255u8).cycle().take(100_000).collect::<Vec<_>>().into();
    let mut empty = row(ROOM, 2, EPOCH, 0);
    empty.payload = bytes::Bytes::new();
    s.append(rows(ROOM, vec![odd.clone(), empty.clone()])).await.expect("append");
    s.close();
    let s = b.open().await;
    assert_eq!(s.rows(ROOM, 1, 2).await.expect("rows"), [odd, empty]);
}

/// What a purge leaves begins at the floor, nothing below it is read again, and what a takeover reads is never removed. Of what was appended
/// at once all may be kept while some of it is.
pub async fn purging_raises_the_floor_and_keeps_the_base(b: &dyn Backend) {
    let s = b.open().await;
    for first in (1..300).step_by(20) {
        fill(&*s, ROOM, first, first + 19).await;
    }
    s.mark(ROOM, 300).await.expect("mark");
    assert_eq!(s.floors(&[ROOM, RoomId(1)]).await.expect("floors"), [1, 1]);
    let purged = s.purge(ROOM, 101, 40).await.expect("purge");
    assert_eq!((purged.floor, purged.rows, purged.more), (41, 40, true));
    let purged = s.purge(ROOM, 101, 1_000).await.expect("purge");
    assert_eq!((purged.floor, purged.rows, purged.more), (101, 60, false));
    assert_eq!(s.purge(ROOM, 50, 1_000).await.expect("purge").rows, 0, "a floor never falls");
    assert_eq!(seqs(&s.rows(ROOM, 1, 300).await.expect("rows")), (101..=300).collect::<Vec<_>>());
    let floor = s.purge(ROOM, 9_999, 10_000).await.expect("purge").floor;
    assert!((281..=300).contains(&floor), "the base stays: {floor}");
    assert_eq!(seqs(&s.rows(ROOM, 1, 300).await.expect("rows")), (floor..=300).collect::<Vec<_>>());
    assert_eq!(s.purge(ROOM, 295, 10_000).await.expect("purge").floor, floor, "nothing is left to be removed");
    s.append(batch(ROOM, 301, 301, 300)).await.expect("append");
    s.close();
    let s = b.open().await;
    assert_eq!(s.floors(&[ROOM]).await.expect("floors"), [floor]);
    let tail = s.tail(ROOM).await.expect("tail");
    assert_eq!((tail.base, seqs(&tail.rows)), (300, vec![300, 301]));
}

/// What was derived from purged messages goes with them, and nothing else.
pub async fn purging_takes_folds_and_mentions_along(b: &dyn Backend) {
    let s = b.open().await;
    let mention = |seq| {
        let body = Body::Message(Message { mentions: vec![UserId(5)], ..Message::default() });
        let entry = Entry { room: ROOM, seq, n: seq, id: MessageId(seq), at: 1, by: UserId(7), cid: None, body };
        LogRow { seq, epoch: EPOCH, committed: seq - 1, payload: record::encode_entry(&entry) }
    };
    s.append(rows(ROOM, (1..=5).map(mention).collect())).await.expect("append");
    s.append(rows(ROOM, (6..=10).map(mention).collect())).await.expect("append");
    s.mark(ROOM, 10).await.expect("mark");
    let effects = (1..=10).flat_map(|seq| {
        let fold = FoldRow { deleted: Some(seq), ..FoldRow::default() };
        [Effect::Mention(UserId(5), ROOM, seq), Effect::Fold(ROOM, seq, fold)]
    });
    s.apply(ROOM, Shard(0), next(), effects.collect(), false).await.expect("apply");
    s.purge(ROOM, 6, 100).await.expect("purge");
    assert_eq!(s.mentions(UserId(5), ROOM, 0, 100).await.expect("mentions"), 5);
    let folds = s.folds(ROOM, &[1, 5, 6, 10]).await.expect("folds");
    assert_eq!(folds.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true, true]);
}
