//! Reads of the log that many want at once are done once: ownership rule 9's part about sharing. Pure.
//!
//! Who wants seqs up to a committed head may join a read only if it began after the head was known to whoever began it: rows above the head
//! known then may be dead, and what is shown must not be. Nothing is kept when a read has ended.

use crate::protocol::ids::{RoomId, Seq};
use std::collections::HashMap;

/// Names a read.
pub type ReadId = u64;

/// What a page is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    /// The room.
    pub room: RoomId,
    /// First seq.
    pub from: Seq,
    /// Last seq.
    pub to: Seq,
}

/// What somebody who wants a page does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Begin this read.
    Begin(ReadId),
    /// Wait for this one, which covers the page.
    Join(ReadId),
}

struct Reading {
    page: Page,
    id: ReadId,
    /// How many wait beside the one who began it.
    joined: usize,
}

/// Those who may wait for one read; more begin another.
const JOINED_MAX: usize = 10_000;

/// The reads that are under way.
#[derive(Default)]
pub struct Reads {
    running: HashMap<RoomId, Vec<Reading>>,
    ids: ReadId,
}

impl Reads {
    /// Somebody wants a page, all of which is committed as far as it knows.
    pub fn ask(&mut self, page: Page) -> Ask {
        let running = self.running.entry(page.room).or_default();
        // A read up to `to` was begun by somebody who knew that `to` is committed: whatever it holds up to there may be shown. What lies
        // above was not asked for, and is not given.
        let covers = |r: &&mut Reading| {
            r.joined < JOINED_MAX && r.page.from <= page.from && (page.to <= r.page.to || crate::sabotage::is("coalesced_reader"))
        };
        if let Some(reading) = running.iter_mut().find(covers) {
            reading.joined += 1;
            return Ask::Join(reading.id);
        }
        self.ids += 1;
        running.push(Reading { page, id: self.ids, joined: 0 });
        Ask::Begin(self.ids)
    }

    /// A read has ended, or failed: nobody joins it any more.
    pub fn ended(&mut self, room: RoomId, id: ReadId) {
        if let Some(running) = self.running.get_mut(&room) {
            running.retain(|reading| reading.id != id);
            if running.is_empty() {
                self.running.remove(&room);
            }
        }
    }

    /// Reads under way.
    pub fn len(&self) -> usize {
        self.running.values().map(Vec::len).sum()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(from: Seq, to: Seq) -> Page {
        Page { room: RoomId(1), from, to }
    }

    #[test]
    fn a_page_within_one_that_is_being_read_waits_for_it() {
        let mut reads = Reads::default();
        assert_eq!(reads.ask(page(1, 50)), Ask::Begin(1));
        assert_eq!(reads.ask(page(1, 50)), Ask::Join(1));
        assert_eq!(reads.ask(page(10, 20)), Ask::Join(1));
        reads.ended(RoomId(1), 1);
        assert_eq!(reads.ask(page(10, 20)), Ask::Begin(2), "what has ended is not kept");
    }

    #[test]
    fn a_head_that_was_learned_since_needs_a_read_of_its_own() {
        let mut reads = Reads::default();
        assert_eq!(reads.ask(page(1, 50)), Ask::Begin(1));
        assert_eq!(reads.ask(page(1, 51)), Ask::Begin(2), "51 was not known to be committed when the first began");
        reads.ended(RoomId(1), 1);
        reads.ended(RoomId(1), 2);
        assert!(reads.is_empty());
    }
}
