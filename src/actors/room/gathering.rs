//! When a room's next batch begins: at once, or when the check of the one before it has ended, so that more ride in it. Pure.
//!
//! Each batch costs the store a write, a check and a derived row, however many messages are in it: a few messages wait for the check that
//! is under way and become one batch with what comes meanwhile. They do not wait for long: a check that does not end says that the store
//! is slow or gone, and whoever waits must hear of that soon.

use std::time::{Duration, Instant};

/// So many requests are worth a write that overlaps the check of the one before it, and wait for nothing.
const MANY: usize = 16;
/// A check is waited for so long at most.
const CHECK_MAX: Duration = Duration::from_millis(50);

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
    /// How many entries the last batch had.
    usual: usize,
    /// Since when requests wait for a check.
    since: Option<Instant>,
}

impl Gathering {
    /// So many wait. `settled`: no batch is on its way; one that is being written is not asked about.
    pub(super) fn begin(&mut self, now: Instant, waiting: usize, settled: bool) -> Begin {
        if settled || waiting >= MANY {
            return Begin::Now;
        }
        match self.since {
            Some(since) if now.duration_since(since) >= CHECK_MAX => Begin::Now,
            Some(_) => Begin::Later,
            None => {
                self.since = Some(now);
                Begin::After(CHECK_MAX)
            }
        }
    }

    /// How many entries the last batch had.
    pub(super) fn usual(&self) -> usize {
        self.usual
    }

    /// A batch of so many entries begins.
    pub(super) fn begun(&mut self, entries: usize) {
        (self.usual, self.since) = (entries, None);
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
        gathering.begun(1);
        assert_eq!(gathering.begin(now + CHECK_MAX, 1, false), Begin::After(CHECK_MAX), "each batch waits for itself");
    }
}
