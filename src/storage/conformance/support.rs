//! What the suite's tests share: rows, rooms and users to write.

use crate::protocol::entry::{Body, Entry, Message, Role, RoomKind};
use crate::protocol::ids::{DeviceId, Epoch, MessageId, RoomId, Seq, Shard, UserId};
use crate::storage::{Append, DeviceRow, LogRow, MemberRow, RoomRow, Stamp, Store, UserRow, record};
use std::sync::atomic::{AtomicU32, Ordering};

/// An epoch of the first owner.
pub const EPOCH: Epoch = Epoch(1 << Epoch::ACTIVATION_BITS);

/// A row with a message that tells rows apart.
pub fn row(room: RoomId, seq: Seq, epoch: Epoch, committed: Seq) -> LogRow {
    let body = Body::Message(Message { text: format!("message {seq} of room {room}"), ..Message::default() });
    let entry = Entry { room, seq, n: seq, id: MessageId(room.0 * 1_000_000 + seq), at: 1_700_000_000_000, by: UserId(7), cid: None, body };
    LogRow { seq, epoch, committed, payload: record::encode_entry(&entry) }
}

/// Rows `from..=to` of one epoch, as one append.
pub fn batch(room: RoomId, from: Seq, to: Seq, committed: Seq) -> Append {
    rows(room, (from..=to).map(|seq| row(room, seq, EPOCH, committed)).collect())
}

/// An append of these rows.
pub fn rows(room: RoomId, rows: Vec<LogRow>) -> Append {
    Append { room, shard: Shard(0), rows, mark_unapplied: false, new_bucket: false }
}

/// Appends `from..=to` one batch per bucket, each knowing what was before it as committed.
pub async fn fill(store: &dyn Store, room: RoomId, from: Seq, to: Seq) {
    let mut first = from;
    while first <= to {
        let last = to.min(first / 4096 * 4096 + 4095);
        let append = Append { new_bucket: first.is_multiple_of(4096) || first == 1, ..batch(room, first, last, first - 1) };
        store.append(append).await.expect("an append to a healthy store");
        first = last + 1;
    }
}

/// The seqs of rows.
pub fn seqs(rows: &[LogRow]) -> Vec<Seq> {
    rows.iter().map(|r| r.seq).collect()
}

/// A room's row.
pub fn room_row(room: RoomId, applied: Seq) -> RoomRow {
    RoomRow {
        room,
        kind: RoomKind::Group,
        name: format!("room {room}"),
        topic: "what it is about".into(),
        pair: None,
        members: 3,
        owners: 1,
        applied,
        followed: Some(applied),
        n: applied,
        at: 1_700_000_000_000,
        last_message: applied,
        slow_mode_s: 30,
        archived: true,
        unlisted: true,
        turn: 0,
    }
}

/// A stamp that is greater than all before it, and than those of every entry of these tests.
pub fn next() -> Stamp {
    static TURNS: AtomicU32 = AtomicU32::new(0);
    Stamp::new(1_000_000, TURNS.fetch_add(1, Ordering::Relaxed))
}

/// A membership.
pub fn member(user: u64, seq: Seq) -> MemberRow {
    MemberRow { user: UserId(user), role: Some(Role::Member), seq, muted_until: 0, out: false }
}

/// An account.
pub fn user(id: u64, name: &str) -> UserRow {
    UserRow {
        user: UserId(id),
        name: name.into(),
        password: "$argon2id$".into(),
        disabled: false,
        tokens_after: 0,
        created: 5,
        status: String::new(),
        last_seen: 0,
        display_name: String::new(),
        avatar_url: String::new(),
        bot: false,
    }
}

/// A device.
pub fn device(user: u64, id: u64, refresh: u8) -> DeviceRow {
    DeviceRow {
        user: UserId(user),
        device: DeviceId(id),
        name: "a browser".into(),
        refresh: [refresh; 32],
        previous: [0; 32],
        expires: 9,
        revoked: false,
        created: 5,
        used: 6,
    }
}
