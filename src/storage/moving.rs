//! Rows on their way from one backend to another: what is kept, by noun, whatever the layout of the store it comes from.
//!
//! Log rows go as they are, byte for byte with their epochs (ownership rule 4), so that ids, seqs and cursors are the same afterwards. The
//! new store's epochs are raised above every row's before anybody may own a shard there (rule 15).

use super::{ContactState, CursorRow, DeviceRow, EpochCell, FoldRow, LogRow, MemberRow, Result, RoomRow, Seq, Table, UserRow};
use crate::protocol::ids::{Millis, RoomId, Shard, UserId};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use xxhash_rust::xxh3::Xxh3;

/// Something that is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// A row of a room's log.
    Log(RoomId, LogRow),
    /// A shard's epoch.
    Epoch(Shard, EpochCell),
    /// Until when ids may have been given in a sequencer's slot.
    Worker(u16, Millis),
    /// A room's marker.
    Mark(RoomId, Seq),
    /// A room's bucket pointer.
    Bucket(RoomId, u32),
    /// A room's floor.
    Floor(RoomId, Seq),
    /// A room that may have entries which are not applied.
    Unapplied(Shard, RoomId),
    /// A room's row.
    Room(RoomRow),
    /// A membership.
    Member(RoomId, MemberRow),
    /// What changed about a message.
    Fold(RoomId, Seq, FoldRow),
    /// A mention.
    Mention(UserId, RoomId, Seq),
    /// A pinned message.
    Pin(RoomId, Seq),
    /// A pair's room.
    Direct(UserId, UserId, RoomId),
    /// What a creator's client id made, and the hash of what was asked for.
    Creation(UserId, u128, RoomId, u64),
    /// A user's cursors in a room.
    Cursor(UserId, RoomId, CursorRow),
    /// An account.
    User(UserRow),
    /// A device.
    Device(DeviceRow),
    /// How the first stands to the second.
    Contact(UserId, UserId, ContactState),
    /// A record, with its version where its table has them.
    Record {
        /// Its table.
        table: Table,
        /// Its partition.
        partition: Vec<u8>,
        /// Its key.
        key: Vec<u8>,
        /// Its version; 0 where the table has none.
        version: u64,
        /// The record.
        value: Bytes,
    },
    /// Follows from others, or is about the store it was in.
    Other,
}

/// What the rows of a room's log are, in whatever order they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomSum {
    /// Rows, every epoch.
    pub rows: u64,
    /// Checksum of keys and values.
    pub sum: u64,
    /// The greatest seq.
    pub last: Seq,
}

impl RoomSum {
    /// Takes a row in.
    pub fn add(&mut self, room: RoomId, row: &LogRow) {
        let mut hash = Xxh3::new();
        hash.update(&super::record::key(room, row.seq, row.epoch));
        hash.update(&row.committed.to_be_bytes());
        hash.update(&row.payload);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash.digest());
        self.last = self.last.max(row.seq);
    }
}

/// What was moved.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// By room.
    pub rooms: BTreeMap<RoomId, RoomSum>,
    /// The highest epoch of each shard, of its cell and its rows.
    pub epochs: HashMap<u32, u64>,
    /// Rows that are no log rows.
    pub others: u64,
}

impl Moved {
    /// Takes something in.
    pub fn add(&mut self, kept: &Kept, shards: u32) {
        let mut saw = |shard: u32, epoch: u64| {
            let known = self.epochs.entry(shard).or_default();
            *known = epoch.max(*known);
        };
        match kept {
            Kept::Log(room, row) => {
                saw(Shard::of_room(*room, shards).0, row.epoch.shard_epoch());
                self.rooms.entry(*room).or_default().add(*room, row);
                return;
            }
            Kept::Epoch(shard, cell) => saw(shard.0, cell.epoch),
            _ => {}
        }
        self.others += u64::from(*kept != Kept::Other);
    }
}

/// A store into which another is moved. Nobody serves from it until that is done.
#[async_trait]
pub trait Receiving: Send + Sync {
    /// Begins, or goes on with, moving the store that `source` names. Fails when the store holds anything else.
    async fn begin(&self, source: u128) -> Result<()>;
    /// Writes what is kept. The same again changes nothing. `stamps` has the rooms' rows of the source, as their derived rows need them.
    async fn receive(&self, rows: Vec<Kept>, stamps: &HashMap<RoomId, super::Stamp>) -> Result<()>;
    /// Both directions of a contact.
    async fn contact(&self, a: UserId, b: UserId, a_to_b: Option<ContactState>, b_to_a: Option<ContactState>) -> Result<()>;
    /// What is there of a room's log, as a quorum has it.
    async fn sum(&self, room: RoomId, last: Seq) -> Result<RoomSum>;
    /// Raises the epochs above those given, and opens the store to nodes.
    async fn finish(&self, source: u128, epochs: &HashMap<u32, u64>) -> Result<()>;
}
