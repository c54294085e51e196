//! How long a client waits before it connects again. Pure but for the dice.
//!
//! Doubling with full jitter in the upper half: clients that lost the same server do not come back at the same instant,
//! and none of them waits much longer than it must.

use crate::protocol::close::Next;
use rand::Rng;
use std::time::Duration;

/// The first and the longest wait.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Scale of the wait after the first failure.
    pub first: Duration,
    /// No wait is longer.
    pub max: Duration,
    failures: u32,
}

/// "Later" begins here when the server did not name a time (protocol/close.rs).
const LATER_FIRST: Duration = Duration::from_secs(1);

impl Backoff {
    /// A fresh one.
    pub fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { first, max, failures: 0 }
    }
    /// A resume went through: the next failure is a first one again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
    /// The wait before the next attempt; `None`: do not try again. `asked` is what a `drain` said.
    pub fn wait(&mut self, next: Next, asked: Option<Duration>) -> Option<Duration> {
        let first = match next {
            Next::Never => return None,
            Next::Now => self.first,
            Next::Later => self.first.max(LATER_FIRST.min(self.max)),
        };
        let full = first.saturating_mul(1 << self.failures.min(16)).min(self.max);
        self.failures += 1;
        let jittered = full.mul_f64(rand::rng().random_range(0.5..=1.0));
        // What the server chose is already spread over its clients.
        Some(asked.unwrap_or(jittered))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_over_after_success() {
        let (first, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut b = Backoff::new(first, max);
        for full in [100, 200, 400, 800, 1600, 2000, 2000] {
            let w = b.wait(Next::Now, None).unwrap();
            assert!(w >= Duration::from_millis(full / 2) && w <= Duration::from_millis(full), "{w:?} of {full}");
        }
        b.succeeded();
        assert!(b.wait(Next::Now, None).unwrap() <= first);
    }

    #[test]
    fn the_close_code_decides_and_a_drain_names_the_time() {
        let mut b = Backoff::new(Duration::from_millis(10), Duration::from_secs(30));
        assert_eq!(b.wait(Next::Never, Some(Duration::from_secs(1))), None);
        assert_eq!(b.wait(Next::Later, Some(Duration::from_millis(1234))), Some(Duration::from_millis(1234)));
        b.succeeded();
        assert!(b.wait(Next::Later, None).unwrap() >= LATER_FIRST / 2);
    }
}
