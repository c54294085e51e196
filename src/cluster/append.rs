//! How a room's batches become committed: ownership rules 5 to 7. Pure; `B` is what the room wants back with a batch.
//!
//! One batch is being written at a time; when it is durable a check begins, which counts for every batch that was durable before it, while
//! the next batch may be written. A write whose outcome is not known is repeated with the *same rows* until it is durable, or the room
//! gives up: a seq is neither reused nor skipped, and a check that failed is repeated, never assumed.

use super::Mono;
use super::shard::Verdict;
use crate::protocol::ids::{Epoch, Seq};
use crate::storage::{Append, StorageError};

/// Rows in doubt are written again for so long, then the room gives up; in milliseconds, and below what a client waits for its answer.
pub const DOUBT_MS_MAX: u64 = 5_000;
/// The first pause before the same rows are written again; it doubles.
const AGAIN_MS: u64 = 20;

/// What is to be done.
#[derive(Debug)]
pub enum Do<B> {
    /// Write these rows after a pause of so many milliseconds.
    Write(Append, u64),
    /// Begin a check now.
    Check,
    /// Begin a check, after a pause.
    CheckLater,
    /// Everything up to the seq is committed: acknowledge these batches, in order, and fan them out.
    Committed(Vec<B>, Seq),
    /// Nothing in memory is to be trusted any more; the room loads again under a new activation or ends. See [`Unsettled`].
    GiveUp(Unsettled<B>),
}

/// What a room that gives up has not settled. Its clients are told, and send again.
#[derive(Debug)]
pub struct Unsettled<B> {
    /// Why.
    pub why: StorageError,
    /// Not known to be stored, nor not to be: answered with `unknown`.
    pub unknown: Vec<B>,
    /// Certainly not stored, and never will be: answered with `why`.
    pub refused: Option<B>,
}

struct Writing<B> {
    append: Append,
    batch: B,
    /// When it was first written.
    since: Mono,
    /// How often its outcome was not known.
    doubts: u32,
}

/// The batches of one activation of a room.
pub struct Appends<B> {
    epoch: Epoch,
    committed: Seq,
    writing: Option<Writing<B>>,
    /// Durable, in order; the check that counts for them has not begun.
    durable: Vec<(Seq, B)>,
    /// What the check under way counts for.
    checking: Option<Vec<(Seq, B)>>,
}

impl<B> Appends<B> {
    /// Begins at a committed head.
    pub fn new(epoch: Epoch, committed: Seq) -> Self {
        Appends { epoch, committed, writing: None, durable: Vec::new(), checking: None }
    }

    /// The activation's epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
    /// The last seq that is committed.
    pub fn committed(&self) -> Seq {
        self.committed
    }
    /// Whether a batch is being written: what comes meanwhile is the next one.
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }
    /// Whether nothing is on its way.
    pub fn is_settled(&self) -> bool {
        self.writing.is_none() && self.durable.is_empty() && self.checking.is_none()
    }

    /// A new batch, of one bucket. Nothing may be being written.
    pub fn write(&mut self, now: Mono, append: Append, batch: B) -> Vec<Do<B>> {
        debug_assert!(self.writing.is_none() && append.rows.iter().all(|row| row.epoch == self.epoch));
        let mut out = vec![Do::Write(append.clone(), 0)];
        self.writing = Some(Writing { append, batch, since: now, doubts: 0 });
        if crate::sabotage::is("early_check") && self.checking.is_none() {
            self.checking = Some(Vec::new());
            out.push(Do::Check);
        }
        out
    }

    /// The write under way has ended.
    pub fn written(&mut self, now: Mono, result: Result<(), StorageError>) -> Vec<Do<B>> {
        let Some(mut writing) = self.writing.take() else { return Vec::new() };
        match result {
            Ok(()) => {
                let last = writing.append.rows.last().map_or(self.committed, |row| row.seq);
                match &mut self.checking {
                    Some(begun) if crate::sabotage::is("early_check") => {
                        begun.push((last, writing.batch));
                        Vec::new()
                    }
                    _ => {
                        self.durable.push((last, writing.batch));
                        self.check()
                    }
                }
            }
            // "It was not stored": the room numbers on from before it.
            Err(StorageError::InDoubt(_)) if crate::sabotage::is("skip_rewrite") => Vec::new(),
            Err(StorageError::InDoubt(_)) if now.since(writing.since) < DOUBT_MS_MAX => {
                let pause = AGAIN_MS << writing.doubts.min(6);
                writing.doubts += 1;
                let again = writing.append.clone();
                self.writing = Some(writing);
                vec![Do::Write(again, pause)]
            }
            // A refusal says that *this* write did nothing: an earlier one of the same rows may still land.
            Err(why) if writing.doubts > 0 || matches!(why, StorageError::InDoubt(_) | StorageError::Failed(_)) => {
                vec![Do::GiveUp(self.unsettled(
                    StorageError::InDoubt("the write's outcome is not known".into()),
                    Some(writing.batch),
                    None,
                ))]
            }
            Err(why) => vec![Do::GiveUp(self.unsettled(why, None, Some(writing.batch)))],
        }
    }

    /// It is time for the check that was put off.
    pub fn check(&mut self) -> Vec<Do<B>> {
        if self.checking.is_some() || self.durable.is_empty() {
            return Vec::new();
        }
        self.checking = Some(std::mem::take(&mut self.durable));
        vec![Do::Check]
    }

    /// The check under way has ended.
    pub fn checked(&mut self, verdict: Verdict) -> Vec<Do<B>> {
        let Some(mut begun) = self.checking.take() else { return Vec::new() };
        match verdict {
            Verdict::Passed => {
                let mut out = Vec::new();
                if let Some((last, _)) = begun.last() {
                    self.committed = *last;
                    out.push(Do::Committed(begun.into_iter().map(|(_, batch)| batch).collect(), self.committed));
                }
                out.extend(self.check());
                out
            }
            Verdict::Again => {
                begun.append(&mut self.durable);
                self.durable = begun;
                vec![Do::CheckLater]
            }
            Verdict::Lost => {
                self.checking = Some(begun);
                self.give_up(StorageError::InDoubt("the shard has another owner".into()))
            }
        }
    }

    /// The room must end: the shard is lost, or something else went wrong.
    pub fn give_up(&mut self, why: StorageError) -> Vec<Do<B>> {
        let writing = self.writing.take().map(|writing| writing.batch);
        vec![Do::GiveUp(self.unsettled(why, writing, None))]
    }

    fn unsettled(&mut self, why: StorageError, writing: Option<B>, refused: Option<B>) -> Unsettled<B> {
        let begun = self.checking.take().into_iter().flatten().chain(self.durable.drain(..)).map(|(_, batch)| batch);
        Unsettled { why, unknown: begun.chain(writing).collect(), refused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{RoomId, Shard};
    use crate::storage::LogRow;
    use bytes::Bytes;

    const EPOCH: Epoch = Epoch(7);

    fn append(seq: Seq) -> Append {
        let row = LogRow { seq, epoch: EPOCH, committed: 0, payload: Bytes::new() };
        Append { room: RoomId(1), shard: Shard(0), rows: vec![row], mark_unapplied: false, new_bucket: false }
    }
    fn doubt() -> Result<(), StorageError> {
        Err(StorageError::InDoubt("slow".into()))
    }
    /// The effects in short.
    fn told(what: Vec<Do<&'static str>>) -> String {
        let one = |what| match what {
            Do::Write(append, after) => format!("write {} after {after}", append.rows[0].seq),
            Do::Check => "check".into(),
            Do::CheckLater => "check later".into(),
            Do::Committed(batches, head) => format!("committed {} to {head}", batches.join("+")),
            Do::GiveUp(u) => format!("give up: unknown {}, refused {}", u.unknown.join("+"), u.refused.unwrap_or("none")),
        };
        what.into_iter().map(one).collect::<Vec<String>>().join("; ")
    }

    #[test]
    fn a_check_counts_only_for_what_was_durable_before_it() {
        let mut appends = Appends::new(EPOCH, 0);
        assert_eq!(told(appends.write(Mono(0), append(1), "a")), "write 1 after 0");
        assert_eq!(told(appends.written(Mono(1), Ok(()))), "check");
        assert_eq!(told(appends.write(Mono(1), append(2), "b")), "write 2 after 0");
        assert_eq!(told(appends.written(Mono(2), Ok(()))), "", "the check that runs began too early for it");
        assert_eq!(told(appends.checked(Verdict::Passed)), "committed a to 1; check");
        assert_eq!(told(appends.checked(Verdict::Passed)), "committed b to 2");
        assert!(appends.is_settled());
    }

    #[test]
    fn a_check_that_failed_is_repeated_for_all_that_is_durable_by_then() {
        let mut appends = Appends::new(EPOCH, 0);
        appends.write(Mono(0), append(1), "a");
        appends.written(Mono(1), Ok(()));
        appends.write(Mono(1), append(2), "b");
        appends.written(Mono(2), Ok(()));
        assert_eq!(told(appends.checked(Verdict::Again)), "check later");
        assert_eq!(told(appends.check()), "check");
        assert_eq!(told(appends.checked(Verdict::Passed)), "committed a+b to 2");
    }

    #[test]
    fn in_doubt_the_same_rows_are_written_again_until_they_are_durable() {
        let mut appends = Appends::new(EPOCH, 0);
        appends.write(Mono(0), append(1), "a");
        assert_eq!(told(appends.written(Mono(100), doubt())), "write 1 after 20");
        assert_eq!(told(appends.written(Mono(200), doubt())), "write 1 after 40");
        assert_eq!(told(appends.written(Mono(300), Ok(()))), "check");
    }

    #[test]
    fn doubt_ends_by_giving_up_and_nobody_is_told_that_it_is_not_stored() {
        let mut appends = Appends::new(EPOCH, 0);
        appends.write(Mono(0), append(1), "a");
        appends.written(Mono(100), doubt());
        assert_eq!(told(appends.written(Mono(200), Err(StorageError::Busy("full")))), "give up: unknown a, refused none");
        let mut appends = Appends::new(EPOCH, 0);
        appends.write(Mono(0), append(1), "a");
        assert_eq!(told(appends.written(Mono(DOUBT_MS_MAX), doubt())), "give up: unknown a, refused none");
    }

    #[test]
    fn a_refused_write_is_answered_as_what_it_is() {
        let mut appends = Appends::new(EPOCH, 0);
        appends.write(Mono(0), append(1), "a");
        appends.written(Mono(1), Ok(()));
        appends.write(Mono(1), append(2), "b");
        assert_eq!(told(appends.written(Mono(2), Err(StorageError::Busy("full")))), "give up: unknown a, refused b");
    }

    #[test]
    fn who_lost_the_shard_tells_nobody_that_anything_was_stored() {
        let mut appends = Appends::new(EPOCH, 0);
        appends.write(Mono(0), append(1), "a");
        appends.written(Mono(1), Ok(()));
        appends.write(Mono(1), append(2), "b");
        assert_eq!(told(appends.checked(Verdict::Lost)), "give up: unknown a+b, refused none");
        assert!(appends.is_settled());
    }
}
