//! The store: three replicas that know only what landed on them, and epoch cells as a quorum sees them.

use crate::protocol::ids::{Epoch, RoomId, Seq, bucket_of};
use crate::storage::{EpochCell, LogRow};
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

pub const REPLICAS: usize = 3;
/// Answers that are a quorum.
pub const QUORUM: usize = 2;

/// What a replica is asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// Store these rows, all at once.
    Rows(RoomId, Vec<LogRow>),
    /// Raise the bucket pointer.
    Pointer(RoomId, u32),
    /// Raise the marker.
    Mark(RoomId, Seq),
    /// Pointer and marker.
    Where(RoomId),
    /// Rows of a range of seqs.
    Read(RoomId, Seq, Seq),
}

/// What it answers; several answers are merged into one.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub pointer: u32,
    pub marker: Seq,
    pub rows: BTreeMap<(Seq, Epoch), LogRow>,
}

impl Answer {
    pub fn merge(&mut self, other: Answer) {
        self.pointer = self.pointer.max(other.pointer);
        self.marker = self.marker.max(other.marker);
        self.rows.extend(other.rows);
    }
}

#[derive(Default)]
struct Room {
    pointer: u32,
    marker: Seq,
    rows: BTreeMap<(Seq, Epoch), LogRow>,
}

#[derive(Default)]
pub struct Replica(BTreeMap<RoomId, Room>);

impl Replica {
    pub fn take(&mut self, request: &Request) -> Answer {
        let mut answer = Answer::default();
        match request {
            Request::Rows(room, rows) => {
                let stored = &mut self.0.entry(*room).or_default().rows;
                stored.extend(rows.iter().map(|row| ((row.seq, row.epoch), row.clone())));
            }
            Request::Pointer(room, bucket) => {
                let pointer = &mut self.0.entry(*room).or_default().pointer;
                *pointer = (*pointer).max(*bucket);
            }
            Request::Mark(room, seq) => {
                let marker = &mut self.0.entry(*room).or_default().marker;
                *marker = (*marker).max(*seq);
            }
            Request::Where(room) => {
                if let Some(room) = self.0.get(room) {
                    (answer.pointer, answer.marker) = (room.pointer, room.marker);
                }
            }
            Request::Read(room, from, to) => answer.rows = self.rows(*room, *from, *to).map(|(key, row)| (*key, row.clone())).collect(),
        }
        answer
    }

    fn rows(&self, room: RoomId, from: Seq, to: Seq) -> impl Iterator<Item = (&(Seq, Epoch), &LogRow)> {
        let room = self.0.get(&room).filter(|_| from <= to);
        room.into_iter().flat_map(move |room| room.rows.range((from, Epoch(0))..=(to, Epoch(u64::MAX))))
    }

    /// The row that counts at each seq of a range.
    pub fn best(&self, room: RoomId, from: Seq, to: Seq) -> BTreeMap<Seq, LogRow> {
        self.rows(room, from, to).map(|((seq, _), row)| (*seq, row.clone())).collect()
    }

    /// What was there before the run begins.
    pub fn seed(&mut self, room: RoomId, row: LogRow) {
        let stored = Room { pointer: bucket_of(row.seq), marker: row.seq, rows: BTreeMap::from([((row.seq, row.epoch), row)]) };
        self.0.insert(room, stored);
    }
}

/// A shard's epoch cell: all it ever was. What was decided last is seen for sure by reads that begin after its writer was answered, or
/// after the next compare-and-set was decided; until then a read may see it or not.
pub struct Cell {
    versions: Vec<EpochCell>,
    visible: usize,
}

impl Cell {
    pub fn new() -> Cell {
        Cell { versions: vec![EpochCell::default()], visible: 0 }
    }
    /// Decides a compare-and-set; gives the version that it made.
    pub fn compare_and_set(&mut self, was: EpochCell, next: EpochCell) -> Option<usize> {
        self.visible = self.versions.len() - 1;
        (self.versions[self.visible] == was).then(|| {
            self.versions.push(next);
            self.versions.len() - 1
        })
    }
    /// The writer of a version was answered.
    pub fn answered(&mut self, version: usize) {
        self.visible = self.visible.max(version);
    }
    /// What a read that begins now must see at least.
    pub fn begin_read(&self) -> usize {
        self.visible
    }
    /// What such a read may give when it ends now.
    pub fn end_read(&self, began: usize, rng: &mut StdRng) -> EpochCell {
        self.versions[rng.random_range(began..self.versions.len())]
    }
}
