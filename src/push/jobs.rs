//! Jobs: what is owed to devices, durably. One row for each message and device; pure but for [`write`] and [`page`].
//!
//! Rows of a user's shard lie in the order (user, device, room, seq), so the jobs of a room for one device are neighbours: a **group**.
//! A group that is due becomes one notification: it is **sealed**, in one atomic write, into the row of its newest message before the
//! first attempt. From then on that row stands for the same messages under the same id, over every attempt and restart; what
//! comes meanwhile waits until it is settled. A job that is written again (a room redoes what it is not sure of) changes nothing
//! while it is there, and after it was sent makes a notification with the same id.

use crate::protocol::ids::{DeviceId, MessageId, Millis, RoomId, Seq, Shard, UserId};
use crate::storage::records::{RecordWrite, decode, encode};
use crate::storage::{Result, StorageError, Store, Table};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// A group with more rows is joined before it is due, so that one room cannot fill the store for a device that is away.
pub const GROUP_ROWS_MAX: usize = 64;
/// The pause after a failed attempt doubles from the first to the second.
const PAUSE_MIN_MS: Millis = 1_000;
const PAUSE_MAX_MS: Millis = 15 * 60 * 1_000;

/// Which room's news for which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    /// Whose.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// The room.
    pub room: RoomId,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Orders its writes.
    pub version: u64,
    /// Messages it stands for, itself included.
    pub n: u64,
    /// The oldest of them.
    pub from: Seq,
    /// The id of the entry by which the newest of them is told. After a restore a seq may be another message's; an id never is.
    #[serde(default)]
    pub entry: MessageId,
    /// One of them mentions the user.
    pub mention: bool,
    /// When the oldest was sent.
    pub at: Millis,
    /// Not to be sent before.
    pub due: Millis,
    /// Attempts that were begun. From the first on the row is sealed.
    pub attempts: u32,
}

impl Row {
    /// One message's.
    pub fn new(seq: Seq, entry: MessageId, mention: bool, at: Millis, due: Millis) -> Row {
        Row { version: 1, n: 1, from: seq, entry, mention, at, due, attempts: 0 }
    }
    /// Whether it has become a notification.
    pub fn is_sealed(&self) -> bool {
        self.attempts > 0
    }
}

/// A job's key: group and seq, big endian.
pub fn key(group: Group, seq: Seq) -> Vec<u8> {
    [group.user.0, group.device.0, group.room.0, seq].iter().flat_map(|n| n.to_be_bytes()).collect()
}

fn parse(key: &[u8]) -> Option<(Group, Seq)> {
    let mut numbers = key.chunks_exact(8).map(|b| b.try_into().map(u64::from_be_bytes).unwrap_or_default());
    let mut next = || numbers.next();
    let (user, device, room, seq) = (next()?, next()?, next()?, next()?);
    (key.len() == 32).then_some((Group { user: UserId(user), device: DeviceId(device), room: RoomId(room) }, seq))
}

/// A shard's partition.
fn partition(shard: Shard) -> [u8; 4] {
    shard.0.to_be_bytes()
}

/// Writes and removals of one shard, all or none, durably.
pub async fn write(store: &dyn Store, shard: Shard, writes: Vec<RecordWrite>) -> Result<()> {
    store.put_records(Table::PushJob, &partition(shard), writes).await
}

/// A write of a row.
pub fn put(group: Group, seq: Seq, row: &Row) -> RecordWrite {
    RecordWrite { key: key(group, seq), version: row.version, value: Some(encode(row)) }
}

/// Its removal.
pub fn remove(group: Group, seq: Seq, row: &Row) -> RecordWrite {
    RecordWrite { key: key(group, seq), version: row.version, value: None }
}

/// A group, a seq and the row there.
pub type Job = (Group, Seq, Row);

/// Jobs of a shard behind a key, in order; the key of the last one to go on behind, if there may be more.
pub async fn page(store: &dyn Store, shard: Shard, after: Option<&[u8]>, limit: usize) -> Result<(Vec<Job>, Option<Vec<u8>>)> {
    let rows = store.records(Table::PushJob, &partition(shard), after, limit).await?;
    let last = rows.last().filter(|_| rows.len() == limit).map(|(key, _)| key.clone());
    let damaged = || StorageError::Damaged("a push job's key".into());
    let jobs = rows.iter().map(|(key, row)| {
        let (group, seq) = parse(key).ok_or_else(damaged)?;
        Ok((group, seq, decode(row)?))
    });
    Ok((jobs.collect::<Result<_>>()?, last))
}

/// A notification: a sealed row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// For whom, about what.
    pub group: Group,
    /// The newest message.
    pub seq: Seq,
    /// The row from now on.
    pub row: Row,
}

impl Notification {
    /// The same for the same device, room and newest message, whenever and wherever it is made: 32 characters of base64url.
    pub fn id(&self) -> String {
        let mut key = key(self.group, self.seq);
        key.extend(self.row.entry.0.to_be_bytes());
        let bytes = [&xxh3_128(&key).to_be_bytes()[..], &xxh3_64(&key).to_be_bytes()[..]].concat();
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// What is to be done about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing before this.
    Wait(Millis),
    /// Send this. The writes seal it and come first.
    Send(Notification, Vec<RecordWrite>),
    /// Nothing is due, but these writes make fewer rows of it; due then.
    Join(Vec<RecordWrite>, Millis),
}

/// Plans for the rows of one group, ascending, of which none is over its time. Nothing is sent before `not_before`.
pub fn plan(group: Group, rows: &[(Seq, Row)], now: Millis, not_before: Millis) -> Plan {
    if let Some((seq, row)) = rows.iter().find(|(_, row)| row.is_sealed()) {
        let due = row.due.max(not_before);
        if due > now {
            return Plan::Wait(due);
        }
        let again = Row { version: row.version + 1, attempts: row.attempts.saturating_add(1), ..row.clone() };
        return send(group, *seq, again, Vec::new());
    }
    let due = rows.iter().map(|(_, row)| row.due).min().unwrap_or(Millis::MAX).max(not_before);
    let joined = join(rows);
    match joined {
        Some((seq, row)) if due <= now => {
            let sealed = Row { version: row.version + 1, attempts: 1, ..row };
            send(group, seq, sealed, removals(group, seq, rows))
        }
        Some((seq, row)) if rows.len() > GROUP_ROWS_MAX => {
            let row = Row { version: row.version + 1, ..row };
            let mut writes = removals(group, seq, rows);
            writes.push(put(group, seq, &row));
            Plan::Join(writes, due)
        }
        _ => Plan::Wait(due),
    }
}

fn send(group: Group, seq: Seq, row: Row, mut writes: Vec<RecordWrite>) -> Plan {
    writes.push(put(group, seq, &row));
    Plan::Send(Notification { group, seq, row }, writes)
}

fn removals(group: Group, kept: Seq, rows: &[(Seq, Row)]) -> Vec<RecordWrite> {
    rows.iter().filter(|(seq, _)| *seq != kept).map(|(seq, row)| remove(group, *seq, row)).collect()
}

/// The rows as one, at the newest message.
fn join(rows: &[(Seq, Row)]) -> Option<(Seq, Row)> {
    let (seq, last) = rows.last()?;
    let row = Row {
        n: rows.iter().map(|(_, row)| row.n).sum(),
        from: rows.iter().map(|(_, row)| row.from).min().unwrap_or(*seq),
        mention: rows.iter().any(|(_, row)| row.mention),
        at: rows.iter().map(|(_, row)| row.at).min().unwrap_or(last.at),
        due: rows.iter().map(|(_, row)| row.due).min().unwrap_or(last.due),
        ..last.clone()
    };
    Some((*seq, row))
}

/// The row after an attempt that failed: due again after a pause that grows, half of it by chance, or after what the other side asked for.
pub fn postponed(row: &Row, now: Millis, asked: Option<Millis>, chance: f64) -> Row {
    let doubled = PAUSE_MIN_MS.saturating_mul(1 << row.attempts.saturating_sub(1).min(20)).min(PAUSE_MAX_MS);
    let pause = (doubled as f64 * (0.5 + chance / 2.0)) as Millis;
    Row { version: row.version + 1, due: now + pause.max(asked.unwrap_or(0)), ..row.clone() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
