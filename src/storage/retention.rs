//! How long a room's entries are kept, and removing older ones.
//!
//! A room has a setting of its own, else the server's (`rooms.keep_s`); 0 keeps for ever. What is removed is gone for everybody: entries,
//! and with them folded bodies and mentions. A room's seqs go on as they were: its log then begins later, at its **floor**. The last
//! applied entry always stays, and nothing is removed that a takeover would read (ownership rule 15: below the base only), or of which
//! somebody outside the room is still to be told (`RoomRow::followed`).
//! Work is bounded: so many rows a round, and what is left is the next round's.

use super::{Result, Store, Table, record};
use crate::protocol::ids::{Millis, RoomId, Seq};

/// Partition of the rooms' own settings.
const PARTITION: &[u8] = b"retention";
/// Rows of one write.
const ROWS: usize = 512;
/// Rooms of one read.
const ROOMS: usize = 500;
/// Changes of one setting that may collide.
const TRIES: usize = 8;

/// Seconds that a room keeps its entries by its own setting.
pub async fn of_room(store: &dyn Store, room: RoomId) -> Result<Option<u64>> {
    store.record(Table::Setting, PARTITION, &room.0.to_be_bytes()).await?.map(|bytes| super::records::decode(&bytes)).transpose()
}

/// Sets it, or takes it away.
pub async fn set(store: &dyn Store, room: RoomId, seconds: Option<u64>) -> Result<()> {
    let key = room.0.to_be_bytes();
    for _ in 0..TRIES {
        let was = store.record(Table::Setting, PARTITION, &key).await?;
        if store.replace_record(Table::Setting, PARTITION, &key, was, seconds.map(|s| super::records::encode(&s))).await? {
            return Ok(());
        }
    }
    Err(super::StorageError::Busy("the setting is being changed by others"))
}

/// Where a round goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The last room that was looked at.
    after: RoomId,
    /// Rows removed so far.
    pub removed: usize,
}

/// Removes what is older than is kept, at most about `rows_max` rows. Called again with the same round it goes on behind the
/// last room; a round that has seen every room begins anew.
pub async fn purge(store: &dyn Store, default_s: u64, now: Millis, rows_max: usize, round: &mut Round) -> Result<()> {
    let mut left = rows_max;
    loop {
        let rooms = due(store, default_s, round.after).await?;
        if rooms.is_empty() {
            round.after = RoomId(0);
            return Ok(());
        }
        for (room, keep_s) in rooms {
            if keep_s > 0 {
                match purge_room(store, room, now.saturating_sub(keep_s.saturating_mul(1000)), left).await {
                    Ok(removed) => {
                        round.removed += removed;
                        left -= removed.min(left);
                    }
                    // One room whose rows cannot be read keeps them; the others are not kept for it.
                    Err(error @ super::StorageError::Damaged(_)) => {
                        tracing::warn!(%error, %room, "a room's old entries could not be removed")
                    }
                    Err(error) => return Err(error),
                }
            }
            if left == 0 {
                // The same room is looked at first next time.
                return Ok(());
            }
            round.after = room;
        }
    }
}

/// Rooms after `after` that may have something to remove, with the seconds that each keeps.
async fn due(store: &dyn Store, default_s: u64, after: RoomId) -> Result<Vec<(RoomId, u64)>> {
    if default_s == 0 {
        // Only rooms with a setting of their own.
        let own = store.records(Table::Setting, PARTITION, Some(&after.0.to_be_bytes()), ROOMS).await?;
        let mut out = Vec::new();
        for (key, value) in own {
            if let Ok(room) = key.try_into().map(u64::from_be_bytes) {
                out.push((RoomId(room), super::records::decode(&value)?));
            }
        }
        return Ok(out);
    }
    let mut out = Vec::new();
    for row in store.list_rooms(after, ROOMS).await? {
        out.push((row.room, of_room(store, row.room).await?.unwrap_or(default_s)));
    }
    Ok(out)
}

/// Removes a room's entries of before `cutoff`; how many rows.
async fn purge_room(store: &dyn Store, room: RoomId, cutoff: Millis, rows_max: usize) -> Result<usize> {
    let Some(row) = store.rooms(&[room]).await?.pop().flatten() else { return Ok(0) };
    let floor = store.floors(&[room]).await?.pop().unwrap_or(1);
    let followed = row.followed.unwrap_or(row.applied);
    let below = first_since(store, room, floor, row.applied.min(followed), cutoff).await?;
    let mut removed = 0;
    while removed < rows_max {
        let purged = store.purge(room, below, ROWS.min(rows_max - removed)).await?;
        removed += purged.rows;
        if purged.rows == 0 || !purged.more {
            break;
        }
    }
    Ok(removed)
}

/// The first seq of `from..=to` whose entry was numbered at or after `cutoff`; `to` when none was. Times grow with seqs, but for clocks
/// that were set back, where some entries are then kept longer.
async fn first_since(store: &dyn Store, room: RoomId, from: Seq, to: Seq, cutoff: Millis) -> Result<Seq> {
    let (mut low, mut high) = (from, to);
    while low < high {
        let middle = low + (high - low) / 2;
        let rows = store.rows(room, middle, middle).await?;
        let at = rows.last().map(|row| record::decode_entry(&row.payload)).transpose()?.map(|entry| entry.at);
        // What is not there was removed by another round meanwhile.
        if at.is_none_or(|at| at < cutoff) { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}
