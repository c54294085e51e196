//! How a room's log is taken over: ownership rules 3, 4 and 13, step by step. Pure: each answer gives the next thing to do.
//!
//! First an epoch of one's own, only then the tail; then what the chain holds above the base again under that epoch, in one atomic batch per
//! bucket, the higher bucket first; then a check. Until it has passed, none of it may be shown, acknowledged or used to answer a repeat.

use super::Mono;
use super::chain::{self, Takeover};
use super::shard::Verdict;
use crate::protocol::ids::{Epoch, RoomId, Seq, Shard, bucket_of};
use crate::storage::{Append, LogRow, StorageError, Tail};

/// A takeover ends within this, or gives up; in milliseconds.
pub const TAKEOVER_MS_MAX: u64 = 5_000;
/// The pause before what failed is done again.
const AGAIN_MS: u64 = 50;
/// Epochs that a takeover asks for at most: a row with a higher one makes it ask again.
const EPOCHS_MAX: u32 = 4;

/// What is to be done next, after a pause of so many milliseconds.
#[derive(Clone, Debug)]
pub enum Step {
    /// Take an activation under an epoch higher than this; see [`TakeOver::activated`].
    Activate(Epoch),
    /// Read the tail at quorum, beginning now; see [`TakeOver::read`].
    Read,
    /// Write these rows in one atomic batch; see [`TakeOver::written`].
    Write(Append, u64),
    /// Begin a check now; see [`TakeOver::checked`].
    Check(u64),
    /// The room is this node's, and committed up to the head.
    Done {
        /// Its epoch.
        epoch: Epoch,
        /// Its committed head.
        head: Seq,
    },
    /// It cannot be taken over now.
    GiveUp(StorageError),
}

enum Phase {
    Activating,
    Reading,
    /// Batches that are still to be written, the next one last.
    Writing(Vec<Append>, Seq),
    Checking(Seq),
    Over,
}

/// See the module.
pub struct TakeOver {
    room: RoomId,
    shard: Shard,
    /// A committed head that is known for a fact (rule 8).
    known: Seq,
    since: Mono,
    epoch: Epoch,
    epochs: u32,
    phase: Phase,
    /// With a rule broken on purpose: the tail, read before the epoch.
    early: Option<Tail>,
}

impl TakeOver {
    /// Begins; `known` is a committed head that is known for a fact, or 0.
    pub fn begin(now: Mono, room: RoomId, shard: Shard, known: Seq) -> (TakeOver, Step) {
        let take = TakeOver { room, shard, known, since: now, epoch: Epoch(0), epochs: 0, phase: Phase::Activating, early: None };
        match crate::sabotage::is("head_before_cas") {
            true => (TakeOver { phase: Phase::Reading, ..take }, Step::Read),
            false => (take, Step::Activate(Epoch(0))),
        }
    }

    fn give_up(&mut self, why: StorageError) -> Step {
        self.phase = Phase::Over;
        Step::GiveUp(why)
    }
    fn is_late(&self, now: Mono) -> bool {
        now.since(self.since) >= TAKEOVER_MS_MAX
    }

    /// The activation was granted, or not.
    pub fn activated(&mut self, granted: Result<Epoch, StorageError>) -> Step {
        match granted {
            Ok(epoch) => {
                (self.epoch, self.epochs, self.phase) = (epoch, self.epochs + 1, Phase::Reading);
                match self.early.take() {
                    Some(tail) => self.read(Ok(tail)),
                    None => Step::Read,
                }
            }
            Err(why) => self.give_up(why),
        }
    }

    /// The tail was read, or not.
    pub fn read(&mut self, tail: Result<Tail, StorageError>) -> Step {
        let tail = match tail {
            Ok(tail) => tail,
            Err(why) => return self.give_up(why),
        };
        if self.epochs == 0 {
            (self.early, self.phase) = (Some(tail), Phase::Activating);
            return Step::Activate(Epoch(0));
        }
        let found = chain::takeover(&tail, self.known);
        if found.highest >= self.epoch && !crate::sabotage::is("same_epoch_restart") {
            // A row of a higher epoch: what this node may write would be dead (rule 7).
            if self.epochs >= EPOCHS_MAX {
                return self.give_up(StorageError::NotOwner("another node takes the room over"));
            }
            self.phase = Phase::Activating;
            return Step::Activate(found.highest);
        }
        self.adopt(found)
    }

    fn adopt(&mut self, found: Takeover) -> Step {
        let head = found.base + found.adopt.len() as Seq;
        if found.adopt.is_empty() || crate::sabotage::is("adopt_as_is") {
            return self.done(head);
        }
        if crate::sabotage::is("reuse_seq") {
            return self.done(found.base);
        }
        let batches = adoption(self.room, self.shard, found, self.epoch);
        self.phase = Phase::Writing(batches, head);
        self.write_next(0)
    }

    fn write_next(&mut self, after: u64) -> Step {
        let Phase::Writing(batches, head) = &self.phase else { return self.nonsense() };
        match batches.last() {
            Some(batch) => Step::Write(batch.clone(), after),
            None => {
                self.phase = Phase::Checking(*head);
                Step::Check(0)
            }
        }
    }

    /// The batch is durable, or not.
    pub fn written(&mut self, now: Mono, result: Result<(), StorageError>) -> Step {
        let Phase::Writing(batches, _) = &mut self.phase else { return self.nonsense() };
        match result {
            Ok(()) => {
                batches.pop();
                self.write_next(0)
            }
            // The same rows again, until they are durable (rule 7).
            Err(StorageError::InDoubt(_)) if !self.is_late(now) => self.write_next(AGAIN_MS),
            Err(why) => self.give_up(why),
        }
    }

    /// The check has ended.
    pub fn checked(&mut self, now: Mono, verdict: Verdict) -> Step {
        let Phase::Checking(head) = self.phase else { return self.nonsense() };
        match verdict {
            Verdict::Passed => self.done(head),
            Verdict::Again if !self.is_late(now) => Step::Check(AGAIN_MS),
            _ => self.give_up(StorageError::InDoubt("the shard has another owner".into())),
        }
    }

    fn done(&mut self, head: Seq) -> Step {
        self.phase = Phase::Over;
        Step::Done { epoch: self.epoch, head }
    }

    fn nonsense(&mut self) -> Step {
        self.give_up(StorageError::Failed("a takeover got an answer it did not ask for".into()))
    }
}

/// The batches that write the chain above the base again: one for each bucket, to be written from the last to the first, so that the higher
/// bucket comes first. A takeover that dies between two leaves a suffix with the new epoch, which the chain rule keeps whole.
pub fn adoption(room: RoomId, shard: Shard, found: Takeover, epoch: Epoch) -> Vec<Append> {
    let base = found.base;
    let mut batches: Vec<Append> = Vec::new();
    for row in found.adopt {
        let epoch = if crate::sabotage::is("old_epoch_rewrite") { row.epoch } else { epoch };
        let row = LogRow { epoch, committed: base, ..row };
        let piece = crate::sabotage::is("ascending_pieces");
        match batches.last_mut() {
            Some(batch) if !piece && batch.rows.last().is_some_and(|last| bucket_of(last.seq) == bucket_of(row.seq)) => {
                batch.rows.push(row)
            }
            _ => batches.push(Append { room, shard, rows: vec![row], mark_unapplied: true, new_bucket: true }),
        }
    }
    if crate::sabotage::is("ascending_pieces") {
        batches.reverse();
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::BUCKET_ENTRIES;
    use bytes::Bytes;

    const EPOCH: Epoch = Epoch(9);

    fn rows(seqs: std::ops::RangeInclusive<Seq>, epoch: u64) -> Vec<LogRow> {
        seqs.map(|seq| LogRow { seq, epoch: Epoch(epoch), committed: 0, payload: Bytes::new() }).collect()
    }
    fn begin() -> TakeOver {
        let (mut take, step) = TakeOver::begin(Mono(0), RoomId(1), Shard(0), 0);
        assert!(matches!(step, Step::Activate(Epoch(0))), "an epoch comes before everything else");
        assert!(matches!(take.activated(Ok(EPOCH)), Step::Read));
        take
    }

    #[test]
    fn what_is_adopted_is_written_and_checked_before_it_counts() {
        let mut take = begin();
        let Step::Write(append, 0) = take.read(Ok(Tail { base: 1, rows: rows(1..=3, 4) })) else { panic!("nothing is written") };
        assert!(append.rows.iter().map(|r| (r.seq, r.epoch, r.committed)).eq([(2, EPOCH, 1), (3, EPOCH, 1)]));
        assert!(matches!(take.written(Mono(2), Ok(())), Step::Check(0)));
        assert!(matches!(take.checked(Mono(3), Verdict::Again), Step::Check(_)), "a failed check is repeated");
        assert!(matches!(take.checked(Mono(4), Verdict::Passed), Step::Done { epoch: EPOCH, head: 3 }));
    }

    #[test]
    fn a_clean_tail_needs_nothing_written() {
        assert!(matches!(begin().read(Ok(Tail { base: 3, rows: rows(3..=3, 4) })), Step::Done { epoch: EPOCH, head: 3 }));
        assert!(matches!(begin().read(Ok(Tail::default())), Step::Done { epoch: EPOCH, head: 0 }));
    }

    #[test]
    fn across_a_bucket_border_the_higher_bucket_comes_first() {
        let mut take = begin();
        let border = BUCKET_ENTRIES;
        let tail = Tail { base: border - 2, rows: rows(border - 2..=border + 1, 4) };
        let Step::Write(first, 0) = take.read(Ok(tail)) else { panic!("nothing is written") };
        let Step::Write(again, _) = take.written(Mono(2), Err(StorageError::InDoubt("slow".into()))) else { panic!("it gave up") };
        assert_eq!(first.rows, again.rows, "in doubt the same rows are written again");
        let Step::Write(second, 0) = take.written(Mono(3), Ok(())) else { panic!("the rest is missing") };
        let seqs = |append: &Append| append.rows.iter().map(|r| r.seq).collect::<Vec<_>>();
        assert_eq!((seqs(&first), seqs(&second)), (vec![border, border + 1], vec![border - 1]));
        assert!(matches!(take.written(Mono(4), Ok(())), Step::Check(0)));
    }

    #[test]
    fn a_row_of_a_higher_epoch_needs_a_higher_epoch_and_the_tail_read_anew() {
        let mut take = begin();
        assert!(matches!(take.read(Ok(Tail { base: 0, rows: rows(1..=1, 30) })), Step::Activate(Epoch(30))));
        assert!(matches!(take.activated(Ok(Epoch(40))), Step::Read));
    }

    #[test]
    fn a_takeover_that_is_fenced_or_late_gives_up() {
        let mut take = begin();
        take.read(Ok(Tail { base: 0, rows: rows(1..=1, 4) }));
        take.written(Mono(2), Ok(()));
        assert!(matches!(take.checked(Mono(3), Verdict::Lost), Step::GiveUp(_)));
        let mut take = begin();
        take.read(Ok(Tail { base: 0, rows: rows(1..=1, 4) }));
        assert!(matches!(take.written(Mono(TAKEOVER_MS_MAX), Err(StorageError::InDoubt("slow".into()))), Step::GiveUp(_)));
        assert!(matches!(begin().read(Err(StorageError::Failed("slow".into()))), Step::GiveUp(_)));
    }
}
