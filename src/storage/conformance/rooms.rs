//! Promises about what is derived from the log, about claims and about cursors.

use super::Backend;
use super::support::{batch, member, next, room_row};
use crate::protocol::ids::{ClientId, RoomId, Shard, UserId};
use crate::storage::{CursorRow, Effect, FoldRow, MemberRow};
use futures_util::future::join_all;
use std::time::Duration;

const ROOM: RoomId = RoomId(42);
const SHARD: Shard = Shard(1);

fn fold(text: &str) -> FoldRow {
    FoldRow {
        edit: Some((9, text.into(), vec![UserId(2)])),
        deleted: None,
        reactions: vec![("+1".into(), vec![UserId(3)])],
        pinned: Some(8),
    }
}

fn effects() -> Vec<Effect> {
    vec![
        Effect::Room(room_row(ROOM, 9)),
        Effect::Member(ROOM, member(1, 1)),
        Effect::Member(ROOM, member(2, 2)),
        Effect::Fold(ROOM, 3, fold("new")),
        Effect::Mention(UserId(2), ROOM, 3),
    ]
}

async fn assert_effects(s: &dyn crate::storage::Store) {
    assert_eq!(s.rooms(&[RoomId(1), ROOM]).await.expect("rooms"), [None, Some(room_row(ROOM, 9))]);
    assert_eq!(s.members(ROOM, UserId(0), 10).await.expect("members"), [member(1, 1), member(2, 2)]);
    assert_eq!(s.memberships(UserId(2), &[ROOM, RoomId(1)]).await.expect("memberships"), [Some(member(2, 2)), None]);
    assert_eq!(s.rooms_of(UserId(2), 10).await.expect("rooms_of"), [ROOM]);
    assert_eq!(s.folds(ROOM, &[2, 3]).await.expect("folds"), [None, Some(fold("new"))]);
    assert_eq!(s.mentions(UserId(2), ROOM, 0, 10).await.expect("mentions"), 1);
}

/// The next read sees them.
pub async fn effects_are_visible(b: &dyn Backend) {
    let s = b.open().await;
    s.apply(ROOM, SHARD, next(), effects(), false).await.expect("apply");
    assert_effects(&*s).await;
}

/// The applier redoes what it did before a crash.
pub async fn effects_again_change_nothing(b: &dyn Backend) {
    let s = b.open().await;
    for _ in 0..3 {
        s.apply(ROOM, SHARD, next(), effects(), false).await.expect("apply");
    }
    assert_effects(&*s).await;
}

/// The next append that answers takes them along.
pub async fn effects_are_durable_with_the_next_append(b: &dyn Backend) {
    let s = b.open().await;
    s.apply(ROOM, SHARD, next(), effects(), false).await.expect("apply");
    s.append(batch(RoomId(7), 1, 1, 0)).await.expect("append");
    s.close();
    assert_effects(&*b.open().await).await;
}

/// A ban is a row among the members, and the room is out of the user's rooms.
pub async fn a_ban_is_no_membership(b: &dyn Backend) {
    let s = b.open().await;
    s.apply(ROOM, SHARD, next(), effects(), false).await.expect("apply");
    let ban = MemberRow { role: None, ..member(2, 12) };
    s.apply(ROOM, SHARD, next(), vec![Effect::Member(ROOM, ban)], false).await.expect("apply");
    assert_eq!(s.memberships(UserId(2), &[ROOM]).await.expect("memberships"), [Some(ban)]);
    assert_eq!(s.members(ROOM, UserId(0), 10).await.expect("members"), [member(1, 1), ban]);
    assert!(s.rooms_of(UserId(2), 10).await.expect("rooms_of").is_empty());
}

/// A mute is kept with the membership, and after it: then the room is out of the user's rooms, and the user no member.
pub async fn a_mute_outlives_a_membership(b: &dyn Backend) {
    let s = b.open().await;
    s.apply(ROOM, SHARD, next(), effects(), false).await.expect("apply");
    for muted in [MemberRow { muted_until: 99, ..member(2, 12) }, MemberRow { role: None, muted_until: 99, out: true, ..member(2, 13) }] {
        s.apply_durably(ROOM, SHARD, next(), vec![Effect::Member(ROOM, muted)]).await.expect("apply");
        assert_eq!(s.memberships(UserId(2), &[ROOM]).await.expect("memberships"), [Some(muted)]);
        assert_eq!(s.members(ROOM, UserId(0), 10).await.expect("members"), [member(1, 1), muted]);
        let rooms: &[RoomId] = if muted.out { &[] } else { &[ROOM] };
        assert_eq!(s.rooms_of(UserId(2), 10).await.expect("rooms_of"), rooms);
    }
}

/// Who left is in neither list.
pub async fn leaving_removes_both_ways(b: &dyn Backend) {
    let s = b.open().await;
    s.apply(ROOM, SHARD, next(), effects(), false).await.expect("apply");
    s.apply(ROOM, SHARD, next(), vec![Effect::NoMember(ROOM, UserId(1))], false).await.expect("apply");
    assert_eq!(s.members(ROOM, UserId(0), 10).await.expect("members"), [member(2, 2)]);
    assert_eq!(s.memberships(UserId(1), &[ROOM]).await.expect("memberships"), [None]);
    assert!(s.rooms_of(UserId(1), 10).await.expect("rooms_of").is_empty());
}

/// Ascending by user id, from behind `after`, at most `limit`; nobody of the next room.
pub async fn members_are_paged(b: &dyn Backend) {
    let s = b.open().await;
    let ids: Vec<u64> = (0..300).map(|i| i * 3 + 1).collect();
    let joins = ids.iter().rev().map(|u| Effect::Member(ROOM, member(*u, *u))).collect();
    s.apply(ROOM, SHARD, next(), joins, false).await.expect("apply");
    s.apply(RoomId(43), SHARD, next(), vec![Effect::Member(RoomId(43), member(2, 2))], false).await.expect("apply");
    let (mut after, mut seen) = (UserId(0), Vec::new());
    loop {
        let page = s.members(ROOM, after, 70).await.expect("members");
        assert!(page.len() <= 70);
        let Some(last) = page.last() else { break };
        after = last.user;
        seen.extend(page.iter().map(|m| m.user.0));
    }
    assert_eq!(seen, ids);
    assert!(s.members(ROOM, UserId(u64::MAX), 70).await.expect("members").is_empty());
}

/// Ascending, at most `limit`, only the user's own.
pub async fn rooms_of_a_user_are_ordered_and_limited(b: &dyn Backend) {
    let s = b.open().await;
    for room in [300, 2, 256, 1] {
        s.apply(RoomId(room), SHARD, next(), vec![Effect::Member(RoomId(room), member(7, 1))], false).await.expect("apply");
    }
    s.apply(RoomId(3), SHARD, next(), vec![Effect::Member(RoomId(3), member(8, 1))], false).await.expect("apply");
    assert_eq!(s.rooms_of(UserId(7), 10).await.expect("rooms_of"), [1, 2, 256, 300].map(RoomId));
    assert_eq!(s.rooms_of(UserId(7), 2).await.expect("rooms_of"), [1, 2].map(RoomId));
}

/// Only those behind the cursor, of this room, counted up to the limit.
pub async fn mentions_are_counted_after_a_seq(b: &dyn Backend) {
    let s = b.open().await;
    let mentions = (1..=40).map(|seq| Effect::Mention(UserId(2), ROOM, seq * 10)).collect();
    s.apply(ROOM, SHARD, next(), mentions, false).await.expect("apply");
    s.apply(RoomId(43), SHARD, next(), vec![Effect::Mention(UserId(2), RoomId(43), 5)], false).await.expect("apply");
    for (after, limit, want) in [(0, 100, 40), (10, 100, 39), (395, 100, 1), (400, 100, 0), (0, 7, 7)] {
        assert_eq!(s.mentions(UserId(2), ROOM, after, limit).await.expect("mentions"), want, "after {after}");
    }
    assert_eq!(s.mentions(UserId(3), ROOM, 0, 100).await.expect("mentions"), 0);
}

/// Ascending, from behind `after`, at most `limit`, only this room's; unpinned ones are gone.
pub async fn pins_are_listed_in_order(b: &dyn Backend) {
    let s = b.open().await;
    let pins = [300, 2, 256, 1].map(|seq| Effect::Pin(ROOM, seq, true));
    s.apply(ROOM, SHARD, next(), pins.into(), false).await.expect("apply");
    s.apply(RoomId(43), SHARD, next(), vec![Effect::Pin(RoomId(43), 7, true)], false).await.expect("apply");
    assert_eq!(s.pins(ROOM, 0, 10).await.expect("pins"), [1, 2, 256, 300]);
    assert_eq!(s.pins(ROOM, 1, 2).await.expect("pins"), [2, 256]);
    let off = vec![Effect::Pin(ROOM, 2, false), Effect::Pin(ROOM, 3, false)];
    s.apply(ROOM, SHARD, next(), off, false).await.expect("apply");
    assert_eq!(s.pins(ROOM, 0, 10).await.expect("pins"), [1, 256, 300]);
}

/// A fold is put as a whole: what the newer one does not say is gone.
pub async fn folds_are_replaced_whole(b: &dyn Backend) {
    let s = b.open().await;
    s.apply(ROOM, SHARD, next(), vec![Effect::Fold(ROOM, 3, fold("first"))], false).await.expect("apply");
    let deleted = FoldRow { deleted: Some(11), ..FoldRow::default() };
    s.apply(ROOM, SHARD, next(), vec![Effect::Fold(ROOM, 3, deleted.clone())], false).await.expect("apply");
    assert_eq!(s.folds(ROOM, &[3]).await.expect("folds"), [Some(deleted)]);
}

/// However many open it at once and in whichever order the two are named.
pub async fn a_pair_has_one_direct_room(b: &dyn Backend) {
    let s = b.open().await;
    let claims = (1..=32).map(|i| {
        let (x, y) = if i % 2 == 0 { (5, 9) } else { (9, 5) };
        s.claim_direct(UserId(x), UserId(y), RoomId(i))
    });
    let got: Vec<RoomId> = join_all(claims).await.into_iter().map(|r| r.expect("claim")).collect();
    assert!(got.iter().all(|r| *r == got[0]), "{got:?}");
    assert_eq!(s.claim_direct(UserId(5), UserId(10), RoomId(77)).await.expect("claim"), RoomId(77), "another pair");
}

/// It is the same one after a restart.
pub async fn a_direct_room_is_durable(b: &dyn Backend) {
    let s = b.open().await;
    assert_eq!(s.claim_direct(UserId(5), UserId(9), RoomId(1)).await.expect("claim"), RoomId(1));
    s.close();
    let s = b.open().await;
    assert_eq!(s.claim_direct(UserId(9), UserId(5), RoomId(2)).await.expect("claim"), RoomId(1));
}

/// A creation that is sent again gets the first one's room and hash, also after a restart.
pub async fn a_creation_is_claimed_once(b: &dyn Backend) {
    let s = b.open().await;
    let (cid, other) = (ClientId(uuid::Uuid::from_u128(1 << 100)), ClientId(uuid::Uuid::from_u128(2)));
    assert_eq!(s.claim_creation(UserId(1), cid, RoomId(1), 10).await.expect("claim"), (RoomId(1), 10));
    assert_eq!(s.claim_creation(UserId(1), other, RoomId(2), 20).await.expect("claim"), (RoomId(2), 20));
    s.close();
    let s = b.open().await;
    assert_eq!(s.claim_creation(UserId(1), cid, RoomId(3), 30).await.expect("claim"), (RoomId(1), 10));
    assert_eq!(s.claim_creation(UserId(2), cid, RoomId(4), 40).await.expect("claim"), (RoomId(4), 40), "another user's");
}

/// Each cursor grows only; `read_n` goes with its `read`.
pub async fn cursors_are_max_registers(b: &dyn Backend) {
    let s = b.open().await;
    let at = |read, read_n, delivered| CursorRow { read, read_n, delivered };
    for cursor in [at(5, 4, 7), at(3, 2, 9), at(6, 5, 1), at(6, 1, 0)] {
        s.raise(UserId(1), ROOM, cursor).await.expect("raise");
    }
    assert_eq!(s.cursors(UserId(1), &[ROOM, RoomId(1)]).await.expect("cursors"), [at(6, 5, 9), at(0, 0, 0)]);
    assert_eq!(s.cursors(UserId(2), &[ROOM]).await.expect("cursors"), [at(0, 0, 0)]);
}

/// They need no append to become durable.
pub async fn cursors_are_durable_within_a_second(b: &dyn Backend) {
    let s = b.open().await;
    let cursor = CursorRow { read: 5, read_n: 4, delivered: 7 };
    s.raise(UserId(1), ROOM, cursor).await.expect("raise");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    s.close();
    assert_eq!(b.open().await.cursors(UserId(1), &[ROOM]).await.expect("cursors"), [cursor]);
}

/// By id, from behind the one given.
pub async fn rooms_are_listed_in_order(b: &dyn Backend) {
    let s = b.open().await;
    for id in [5, 1 << 40, 3] {
        s.apply(RoomId(id), SHARD, next(), vec![Effect::Room(room_row(RoomId(id), 1))], false).await.expect("apply");
    }
    let ids = |rows: Vec<crate::storage::RoomRow>| rows.into_iter().map(|row| row.room.0).collect::<Vec<_>>();
    assert_eq!(ids(s.list_rooms(RoomId(0), 2).await.expect("rooms")), [3, 5]);
    assert_eq!(ids(s.list_rooms(RoomId(5), 2).await.expect("rooms")), [1 << 40]);
}
