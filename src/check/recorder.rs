//! Writes down what a client does and sees while it does it: cheap, thread-safe, bounded.
//!
//! All recorders of a process share one monotonic clock, so that the judge can tell "after" between clients. A recorder that is
//! full drops further events and says so in its history, which the judge then refuses to judge.

use super::history::{Event, History, Micros, What};
use crate::protocol::ids::UserId;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Events a recorder keeps, unless chosen otherwise (about 1 GiB in the worst case).
pub const EVENTS_MAX: usize = 8_000_000;

struct Clock {
    origin: Instant,
    id: u64,
}

fn clock() -> &'static Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(|| Clock { origin: Instant::now(), id: rand::random() })
}

/// Microseconds since the first use in this process.
pub fn now() -> Micros {
    clock().origin.elapsed().as_micros() as Micros
}

/// One replica's recorder. Clones write to the same history.
#[derive(Clone)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
    events_max: usize,
}

impl Recorder {
    /// A recorder for a replica: one per device and its state, kept over reconnects.
    pub fn new(user: UserId, replica: impl Into<String>) -> Recorder {
        Recorder::bounded(user, replica, EVENTS_MAX)
    }
    /// The same with a bound of one's own.
    pub fn bounded(user: UserId, replica: impl Into<String>, events_max: usize) -> Recorder {
        let history = History { user, replica: replica.into(), clock: clock().id, ..History::default() };
        Recorder { history: Arc::new(Mutex::new(history)), events_max }
    }
    /// Notes one event, now. Call it *before* a request's bytes leave and *after* a reply has arrived.
    pub fn note(&self, what: What) {
        self.note_all([what]);
    }
    /// Notes several events that came together, such as a page, with nothing in between.
    pub fn note_all(&self, what: impl IntoIterator<Item = What>) {
        let mut history = self.history.lock();
        // Taken under the lock: a history's times never go backwards.
        let at = now();
        for what in what {
            if history.events.len() >= self.events_max {
                history.truncated = true;
                return;
            }
            history.events.push(Event { at, what });
        }
    }
    /// Everything noted so far.
    pub fn history(&self) -> History {
        self.history.lock().clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn many_threads_write_one_history_in_order_of_time() {
        let recorder = Recorder::new(UserId(1), "r");
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..500).for_each(|_| recorder.note(What::Connected)));
            }
        });
        let history = recorder.history();
        assert_eq!(history.events.len(), 2_000);
        assert!(history.events.is_sorted_by_key(|e| e.at) && !history.truncated);
        assert_eq!(history.clock, Recorder::new(UserId(2), "s").history().clock);
    }

    #[test]
    fn a_full_recorder_says_that_it_lost_events() {
        let recorder = Recorder::bounded(UserId(1), "r", 2);
        recorder.note_all([What::Connected, What::Closed { code: 1000 }]);
        assert!(!recorder.history().truncated);
        recorder.note(What::Connected);
        assert!(recorder.history().truncated && recorder.history().events.len() == 2);
    }
}
