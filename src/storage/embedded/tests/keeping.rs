//! What leaves the store: purged rows and their space, and copies that become stores.

use super::*;
use crate::protocol::ids::{Epoch, RoomId, Seq, Shard};
use crate::storage::conformance::support::{batch, rows};
use crate::storage::copying::CopiedRow;
use crate::storage::{LogRow, MessageLog, Ownership, Rooms, record, retention};

const ROOM: RoomId = RoomId(7);

/// Bytes of the engine's tables, without its journal.
fn table_bytes(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sum += table_bytes(&path);
        } else if path.extension().is_none_or(|e| e != "jnl") {
            sum += std::fs::metadata(&path).unwrap().len();
        }
    }
    sum
}

/// A row of 16 KiB that was numbered at a time.
fn heavy(seq: Seq, at: u64) -> LogRow {
    use crate::protocol::entry::{Body, Entry, Message};
    // Random, so that nothing makes it small.
    let text: String = (0..8_192).map(|_| char::from(rand::random_range(b' '..b'~'))).collect();
    let body = Body::Message(Message { text, ..Message::default() });
    let entry = Entry { room: ROOM, seq, n: seq, id: Default::default(), at, by: Default::default(), cid: None, body };
    LogRow { seq, epoch: Epoch::new(1, 1), committed: seq - 1, payload: record::encode_entry(&entry) }
}

#[tokio::test]
async fn what_is_older_than_is_kept_is_removed_and_its_space_given_back() {
    let t = Temporary::new();
    let store = open(t.dir.path());
    for first in (1..=1_000).step_by(50) {
        store.append(rows(ROOM, (first..first + 50).map(|seq| heavy(seq, seq * 1_000)).collect())).await.unwrap();
    }
    store.mark(ROOM, 1_000).await.unwrap();
    let row = |followed| crate::storage::RoomRow { applied: 1_000, followed, n: 1_000, ..crate::storage::derive::blank(ROOM) };
    store
        .apply_durably(ROOM, Shard(0), crate::storage::Stamp::default(), vec![crate::storage::Effect::Room(row(Some(700)))])
        .await
        .unwrap();
    store.shared.engine.read().as_ref().unwrap().flush_tables();
    let full = table_bytes(&t.dir.path().join(DB));
    assert!(full > 6 << 20, "{full} bytes");

    // It is second 1,000: 100 seconds are kept, the room's own setting; the server's is to keep all.
    retention::set(&*store, ROOM, Some(100)).await.unwrap();
    let mut round = retention::Round::default();
    retention::purge(&*store, 0, 1_000_000, 300, &mut round).await.unwrap();
    assert_eq!(round.removed, 300, "a round does no more than it may");
    retention::purge(&*store, 0, 1_000_000, 100_000, &mut round).await.unwrap();
    assert_eq!(round.removed, 699, "of what is behind 700 somebody is still to be told");
    store
        .apply_durably(ROOM, Shard(0), crate::storage::Stamp::default(), vec![crate::storage::Effect::Room(row(Some(1_000)))])
        .await
        .unwrap();
    retention::purge(&*store, 0, 1_000_000, 100_000, &mut round).await.unwrap();
    assert_eq!(round.removed, 899);
    assert_eq!(store.floors(&[ROOM]).await.unwrap(), [900]);
    assert!(store.reclaim().await.unwrap() && !store.reclaim().await.unwrap());
    let left = table_bytes(&t.dir.path().join(DB));
    assert!(left < full / 4, "{left} of {full} bytes are left");
    assert_eq!(store.rows(ROOM, 1, 1_000).await.unwrap().len(), 101);
}

#[tokio::test]
async fn the_newest_entry_stays_however_old_it_is_and_a_room_may_keep_all() {
    let t = Temporary::new();
    let store = open(t.dir.path());
    for room in [ROOM, RoomId(8)] {
        store.append(batch(room, 1, 20, 0)).await.unwrap();
        store.mark(room, 20).await.unwrap();
        let row = crate::storage::RoomRow { applied: 20, followed: Some(20), n: 20, ..crate::storage::derive::blank(room) };
        store.apply_durably(room, Shard(0), crate::storage::Stamp::default(), vec![crate::storage::Effect::Room(row)]).await.unwrap();
    }
    retention::set(&*store, RoomId(8), Some(0)).await.unwrap();
    let mut round = retention::Round::default();
    retention::purge(&*store, 1, u64::MAX, 1_000, &mut round).await.unwrap();
    assert_eq!(store.floors(&[ROOM, RoomId(8)]).await.unwrap(), [20, 1]);
    retention::set(&*store, RoomId(8), None).await.unwrap();
    retention::purge(&*store, 1, u64::MAX, 1_000, &mut round).await.unwrap();
    assert_eq!(store.floors(&[ROOM, RoomId(8)]).await.unwrap(), [20, 20]);
}

fn pages(copy: &mut dyn crate::storage::copying::Copying) -> Vec<CopiedRow> {
    let mut all = Vec::new();
    loop {
        let page = copy.next().unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

#[tokio::test]
async fn a_copy_is_of_one_instant_and_becomes_a_store_with_every_epoch_raised() {
    let (t, to) = (Temporary::new(), Temporary::new());
    let store = open(t.dir.path());
    let cell = crate::storage::EpochCell { epoch: 4, token: 9 };
    assert!(store.raise_epoch(Shard(3), Default::default(), cell).await.unwrap());
    store.take_worker(5, 77, 1_000, 60_000).await.unwrap();
    store.append(batch(ROOM, 1, 50, 0)).await.unwrap();
    let mut copy = store.copy().unwrap();
    store.append(batch(ROOM, 51, 60, 50)).await.unwrap();
    let all = pages(&mut *copy);
    assert_eq!(all.iter().filter(|row| row.log).count(), 50, "what came later is not in it");

    let dir = to.dir.path().join("data");
    let mut restoring = Restoring::begin(&dir, 16).unwrap();
    restoring.rows(all, 90_000).unwrap();
    assert!(EmbeddedStore::open(&dir, options()).is_err(), "it is no store yet");
    restoring.finish().unwrap();
    let store = open(&dir);
    assert_eq!(store.rows(ROOM, 1, 100).await.unwrap().len(), 50);
    assert!(store.epoch(Shard(3)).await.unwrap().epoch == 5);
    let mine = Shard::of_room(ROOM, 16);
    assert!(store.epoch(mine).await.unwrap().epoch > 1, "above its rows, though it had no cell");
    assert_eq!(store.take_worker(5, 78, 89_999, 99_000).await.unwrap(), None, "its last holder is still in its time");
    assert_eq!(store.take_worker(5, 78, 90_000, 99_000).await.unwrap(), Some(90_000));
    assert!(Restoring::begin(&dir, 16).is_err());
}
