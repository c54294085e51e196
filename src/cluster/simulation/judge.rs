//! Knows what is committed, and says what broke a promise.

use super::store::Replica;
use crate::protocol::ids::{RoomId, Seq};
use crate::storage::LogRow;
use std::collections::{BTreeMap, HashMap};

/// Which promise a run broke, or that it broke none.
pub type Verdict = Result<(), String>;

/// What stands for an entry's content: the client id of its send.
pub type What = u32;

/// The content of a row.
pub fn what(row: &LogRow) -> What {
    row.payload.iter().take(4).fold(0, |what, byte| what << 8 | u32::from(*byte))
}

#[derive(Default)]
struct Truth {
    /// Where the run found the log.
    start: Seq,
    log: Vec<What>,
    seqs: HashMap<What, Seq>,
}

#[derive(Default)]
pub struct Judge {
    rooms: BTreeMap<RoomId, Truth>,
}

impl Judge {
    /// The room's log before the run begins: its entries up to here are nobody's concern.
    pub fn begin(&mut self, room: RoomId, start: Seq) {
        self.rooms.insert(room, Truth { start, ..Truth::default() });
    }
    pub fn head(&self, room: RoomId) -> Seq {
        self.rooms[&room].start + self.rooms[&room].log.len() as Seq
    }
    pub fn start(&self, room: RoomId) -> Seq {
        self.rooms[&room].start
    }
    /// Entries that were committed in all.
    pub fn committed(&self) -> usize {
        self.rooms.values().map(|truth| truth.log.len()).sum()
    }

    /// An owner counts this as committed.
    pub fn commit(&mut self, room: RoomId, seq: Seq, what: What) -> Verdict {
        let Some(truth) = self.rooms.get_mut(&room) else { return Ok(()) };
        let at = (seq - truth.start) as usize;
        match truth.log.get(at - 1) {
            Some(known) if *known == what => Ok(()),
            Some(known) => Err(format!("P2: {room:?} {seq} is committed as {what} and as {known}")),
            None if at == truth.log.len() + 1 => {
                truth.log.push(what);
                match truth.seqs.insert(what, seq) {
                    Some(first) => Err(format!("P3: client id {what} is committed at {first} and at {seq} of {room:?}")),
                    None => Ok(()),
                }
            }
            None => Err(format!("P2: {room:?} has a committed hole before {seq}")),
        }
    }

    /// A client was told that its send is at this seq.
    pub fn acknowledged(&self, room: RoomId, seq: Seq, what: What) -> Verdict {
        match self.rooms[&room].seqs.get(&what) {
            Some(known) if *known == seq => Ok(()),
            known => Err(format!("P1: {what} was acknowledged at {seq} of {room:?} and is committed at {known:?}")),
        }
    }

    /// Somebody was shown this page, or took it for the room's log.
    pub fn shown(&self, room: RoomId, rows: &[LogRow]) -> Verdict {
        let truth = &self.rooms[&room];
        for row in rows.iter().filter(|row| row.seq > truth.start) {
            let known = truth.log.get((row.seq - truth.start) as usize - 1);
            if known != Some(&what(row)) {
                return Err(format!("P2: {:?} {} was shown as {} and is {known:?}", room, row.seq, what(row)));
            }
        }
        Ok(())
    }

    /// Every pair of replicas shows the committed log from `from` on.
    pub fn replicas(&self, room: RoomId, from: Seq, replicas: &[Replica; 3]) -> Verdict {
        let truth = &self.rooms[&room];
        let (from, head) = (from.max(truth.start + 1), self.head(room));
        let best = replicas.each_ref().map(|replica| replica.best(room, from, head));
        for seq in from..=head {
            let known = truth.log[(seq - truth.start) as usize - 1];
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                let rows = [best[a].get(&seq), best[b].get(&seq)];
                let row = rows.into_iter().flatten().max_by_key(|row| row.epoch);
                if row.map(what) != Some(known) {
                    return Err(format!(
                        "P1: replicas {a} and {b} show {:?} at {seq} of {room:?}, where {known} is committed",
                        row.map(what)
                    ));
                }
            }
        }
        Ok(())
    }
}
