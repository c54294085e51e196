//! When a room's next batch begins: at once, or a moment later so that more ride in it. Pure.
//!
//! Each batch costs the store a write, a check and a derived row, however many messages are in it. What comes while a batch is on its way
//! waits for its end, unless it is much. And where batches take long and several at once want to be in them, the first message waits a
//! moment for those that come with it: an eighth of what it will wait for the store anyway. A room in which one speaks at a time, and a
//! store that is quick, never wait.

use std::time::{Duration, Instant};

/// So many requests are worth a write that overlaps the check of the one before it, and wait for nobody.
const MANY: usize = 16;
/// This part of what the last batch took.
const SHARE: u32 = 8;
/// A shorter pause than this is none: timers count milliseconds.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(10);
/// What a batch longer ago took says nothing about now.
const RECENT: Duration = Duration::from_secs(1);

/// Whether to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Now.
    Now,
    /// Look again after this.
    After(Duration),
    /// Look again when the batch under way ends, or the pause that was begun.
    Later,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// The last batch that was committed: when, how long that took, and how many entries it had.
    last: Option<(Instant, Duration, usize)>,
    /// The end of the pause that was begun.
    until: Option<Instant>,
}

impl Gathering {
    /// So many wait. `settled`: no batch is on its way; one that is being written is not asked about.
    pub(super) fn begin(&mut self, now: Instant, waiting: usize, settled: bool) -> Begin {
        if waiting >= MANY {
            return Begin::Now;
        }
        if !settled {
            return Begin::Later;
        }
        if let Some(until) = self.until {
            return if now < until { Begin::Later } else { Begin::Now };
        }
        let pause = match self.last {
            Some((when, took, entries)) if entries > 1 && now.duration_since(when) < RECENT => (took / SHARE).min(PAUSE_MAX),
            _ => Duration::ZERO,
        };
        if pause < PAUSE_MIN {
            return Begin::Now;
        }
        self.until = Some(now + pause);
        Begin::After(pause)
    }

    /// How many entries the last batch had.
    pub(super) fn usual(&self) -> usize {
        self.last.map_or(0, |(_, _, entries)| entries)
    }

    /// A batch begins.
    pub(super) fn begun(&mut self) {
        self.until = None;
    }

    /// A batch that began then is committed.
    pub(super) fn committed(&mut self, began: Instant, now: Instant, entries: usize) {
        self.last = Some((now, now.duration_since(began), entries));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_comes_while_a_batch_is_on_its_way_waits_unless_it_is_much() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        assert_eq!(gathering.begin(now, 1, true), Begin::Now);
        assert_eq!(gathering.begin(now, MANY - 1, false), Begin::Later);
        assert_eq!(gathering.begin(now, MANY, false), Begin::Now);
    }

    #[test]
    fn several_who_wait_long_anyway_wait_a_little_for_each_other() {
        let (mut gathering, began) = (Gathering::default(), Instant::now());
        let now = began + MS * 40;
        gathering.committed(began, now, 3);
        assert_eq!(gathering.begin(now, 1, true), Begin::After(MS * 5));
        assert_eq!(gathering.begin(now + MS * 2, 2, true), Begin::Later);
        assert_eq!(gathering.begin(now + MS * 3, MANY, true), Begin::Now);
        assert_eq!(gathering.begin(now + MS * 5, 2, true), Begin::Now, "the pause is over");
        gathering.begun();
        gathering.committed(now, now + MS * 4_000, 2);
        assert_eq!(gathering.begin(now + MS * 4_000, 1, true), Begin::After(PAUSE_MAX), "a pause is bounded");
        gathering.begun();
        assert_eq!(gathering.begin(now + MS * 4_000 + RECENT, 1, true), Begin::Now, "that was long ago");
    }

    #[test]
    fn who_speaks_alone_and_who_has_a_quick_store_never_waits() {
        let (mut gathering, began) = (Gathering::default(), Instant::now());
        let now = began + MS * 80;
        gathering.committed(began, now, 1);
        assert_eq!(gathering.begin(now, 1, true), Begin::Now);
        gathering.committed(now - MS * 7, now, 9);
        assert_eq!(gathering.begin(now, 1, true), Begin::Now);
    }
}
