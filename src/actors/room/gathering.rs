//! When a room's next batch begins: at once, or a moment later, so that more ride in it. Pure.
//!
//! Each batch costs the store a write, a check and now and then a derived row, and everybody in the room a frame, however many messages
//! are in it. So a few messages wait for the check that is under way and become one batch with what comes meanwhile. They do not wait for
//! long: a check that does not end says that the store is slow or gone, and whoever waits must hear of that soon.
//! When a batch of some size is committed, those who were acknowledged send again within moments: without waiting for them a busy room
//! would fall into parts that take turns, each with a small batch of its own. The first of them waits at most as long as the last batch took,
//! and only until as many are there as were under way; in a room where batches are small nobody waits for others.

use std::time::{Duration, Instant};

/// So many requests are worth a write that overlaps the check of the one before it, and wait for nothing.
const MANY: usize = 64;
/// A check is waited for so long at most.
const CHECK_MAX: Duration = Duration::from_millis(250);
/// A batch of so many entries or more is one of a busy room.
const BUSY: usize = 8;
/// Others are waited for at most as long as the last batch took, and at most so long.
const OTHERS_MAX: Duration = Duration::from_millis(40);

/// Whether to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Now.
    Now,
    /// Look again after this, if not before.
    After(Duration),
    /// Look again when the batch under way ends, or the time is over that was named before.
    Later,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// When the last batch began, and how many entries it had.
    last: Option<(Instant, usize)>,
    /// How many entries batches have: no less than the last one, nor than half of what this was before.
    usual: usize,
    /// Since when requests wait for a check, or for others.
    since: Option<Instant>,
    /// How many requests are under way in this room at a time: those of a batch and those that wait meanwhile, no less than seven eighths of
    /// what it was before. Some are on their way to here, and are not seen.
    crowd: usize,
    /// For how long the next batch waits for them.
    others: Option<Duration>,
}

impl Gathering {
    /// So many wait. `settled`: no batch is on its way; one that is being written is not asked about.
    pub(super) fn begin(&mut self, now: Instant, waiting: usize, settled: bool) -> Begin {
        let most = match (settled, self.others) {
            (false, _) if waiting < MANY => CHECK_MAX,
            (true, Some(most)) if waiting < self.crowd.min(MANY) => most,
            _ => return Begin::Now,
        };
        match self.since {
            Some(since) if now.duration_since(since) >= most => Begin::Now,
            Some(_) => Begin::Later,
            None => {
                self.since = Some(now);
                Begin::After(most)
            }
        }
    }

    /// How many entries a batch is to be expected to have.
    pub(super) fn usual(&self) -> usize {
        self.usual
    }

    /// A batch of so many entries begins.
    pub(super) fn begun(&mut self, now: Instant, entries: usize) {
        self.usual = entries.max(self.usual / 2);
        (self.last, self.since, self.others) = (Some((now, entries)), None, None);
    }

    /// Everything that was on its way is committed, while so many wait.
    pub(super) fn settled(&mut self, now: Instant, waiting: usize) {
        self.since = None;
        self.others = None;
        if let Some((began, entries)) = self.last {
            self.crowd = (entries + waiting).max(self.crowd - self.crowd.div_ceil(8));
            if self.usual >= BUSY {
                self.others = Some(now.duration_since(began).min(OTHERS_MAX));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_a_batch_is_checked_waits_unless_it_is_much() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        assert_eq!(gathering.begin(now, 1, true), Begin::Now);
        assert_eq!(gathering.begin(now, MANY, false), Begin::Now);
        assert_eq!(gathering.begin(now, MANY - 1, false), Begin::After(CHECK_MAX));
        assert_eq!(gathering.begin(now, MANY - 1, false), Begin::Later);
        assert_eq!(gathering.begin(now, 1, true), Begin::Now, "the check has ended");
    }

    #[test]
    fn a_check_that_does_not_end_is_not_waited_for() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        assert_eq!(gathering.begin(now, 1, false), Begin::After(CHECK_MAX));
        assert_eq!(gathering.begin(now + CHECK_MAX, 1, false), Begin::Now);
        gathering.begun(now, 1);
        assert_eq!(gathering.begin(now + CHECK_MAX, 1, false), Begin::After(CHECK_MAX), "each batch waits for itself");
    }

    #[test]
    fn in_a_busy_room_those_who_were_acknowledged_are_waited_for_a_moment() {
        let (mut gathering, began) = (Gathering::default(), Instant::now());
        gathering.begun(began, 10);
        let most = Duration::from_millis(16);
        let ended = began + most;
        gathering.settled(ended, 6);
        let first = ended + Duration::from_millis(9);
        assert_eq!(gathering.begin(first, 6, true), Begin::After(most), "from the first who waits on");
        assert_eq!(gathering.begin(first, 15, true), Begin::Later);
        assert_eq!(gathering.begin(first, 16, true), Begin::Now, "all are there");
        assert_eq!(gathering.begin(first + most, 7, true), Begin::Now, "or the time is over");
        gathering.begun(ended, 8);
        gathering.settled(ended + Duration::from_secs(1), 0);
        assert_eq!(gathering.begin(first, 13, true), Begin::After(OTHERS_MAX), "never for long; some are still on their way");
        assert_eq!(gathering.begin(first, 14, true), Begin::Now);
    }

    #[test]
    fn in_a_quiet_room_nobody_waits_for_others() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        let ended = now + Duration::from_millis(16);
        gathering.begun(now, 2 * BUSY);
        gathering.settled(ended, 0);
        gathering.begun(now, 1);
        gathering.settled(ended, 1);
        assert_ne!(gathering.begin(ended, 1, true), Begin::Now, "one small batch makes no quiet room");
        gathering.begun(now, 1);
        gathering.settled(ended, 1);
        assert_eq!(gathering.begin(ended, 1, true), Begin::Now);
    }
}
