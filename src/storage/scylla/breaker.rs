//! When a store that does not answer is left alone for a moment: a circuit breaker. Pure.
//!
//! A request that waited for its whole time while nobody was answered counts for more than one that was refused: when the database stands
//! still, requests end one time-out apart, and few would have to wait for many. After so many failures in a row nobody is let through for a while, so that callers are refused at once and do not all wait for a
//! time-out. Then one is let through to see; its success opens the way for all.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    Trying { since: Instant },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    failures: u32,
    succeeded: Option<Instant>,
    limit: u32,
    pause: Duration,
    /// A trial that has not ended after this counts as lost.
    trial: Duration,
}

impl Breaker {
    /// `limit` failures in a row, then `pause`; a request ends within `trial`.
    pub(super) fn new(limit: u32, pause: Duration, trial: Duration) -> Self {
        Breaker { state: State::Closed, failures: 0, succeeded: None, limit: limit.max(1), pause, trial }
    }

    /// Whether a request may be sent now.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let free = match self.state {
            State::Closed => return true,
            State::Open { until } => now >= until,
            State::Trying { since } => now.duration_since(since) >= self.trial,
        };
        if free {
            self.state = State::Trying { since: now };
        }
        free
    }

    /// A request was answered.
    pub(super) fn succeeded(&mut self, now: Instant) {
        (self.state, self.failures, self.succeeded) = (State::Closed, 0, Some(now));
    }

    /// A request found nobody, or what came was no answer.
    pub(super) fn failed(&mut self, now: Instant) {
        self.fail(1, now);
    }

    /// A request that began then has waited for its whole time.
    pub(super) fn timed_out(&mut self, began: Instant, now: Instant) {
        let silence = self.succeeded.is_none_or(|last| last < began);
        self.fail(if silence { self.limit.div_ceil(2) } else { 1 }, now);
    }

    fn fail(&mut self, weight: u32, now: Instant) {
        self.failures = self.failures.saturating_add(weight);
        if self.failures >= self.limit || matches!(self.state, State::Trying { .. }) {
            self.state = State::Open { until: now + self.pause };
        }
    }

    /// Whether requests are refused.
    pub(super) fn is_open(&self) -> bool {
        self.state != State::Closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn failures_in_a_row_close_the_way_and_one_trial_opens_it() {
        let (mut breaker, now) = (Breaker::new(3, SECOND, SECOND * 2), Instant::now());
        for _ in 0..2 {
            breaker.failed(now);
        }
        breaker.succeeded(now);
        for _ in 0..2 {
            breaker.failed(now);
            assert!(breaker.admit(now), "not in a row");
        }
        breaker.failed(now);
        assert!(!breaker.admit(now) && !breaker.admit(now + SECOND / 2) && breaker.is_open());
        assert!(breaker.admit(now + SECOND), "one to see");
        assert!(!breaker.admit(now + SECOND), "and no second");
        breaker.failed(now + SECOND);
        assert!(!breaker.admit(now + SECOND * 3 / 2));
        assert!(breaker.admit(now + SECOND * 2));
        breaker.succeeded(now + SECOND * 2);
        assert!(breaker.admit(now + SECOND * 2) && !breaker.is_open());
    }

    #[test]
    fn two_time_outs_in_a_silence_are_enough() {
        let (mut breaker, now) = (Breaker::new(8, SECOND, SECOND * 2), Instant::now());
        breaker.succeeded(now + SECOND);
        for _ in 0..3 {
            breaker.timed_out(now, now + SECOND * 2);
            assert!(!breaker.is_open(), "others were answered meanwhile");
        }
        breaker.succeeded(now + SECOND * 2);
        breaker.timed_out(now + SECOND * 3, now + SECOND * 5);
        assert!(!breaker.is_open());
        breaker.timed_out(now + SECOND * 3, now + SECOND * 5);
        assert!(breaker.is_open());
    }

    #[test]
    fn a_trial_that_is_lost_is_followed_by_another() {
        let (mut breaker, now) = (Breaker::new(1, SECOND, SECOND * 2), Instant::now());
        breaker.failed(now);
        assert!(breaker.admit(now + SECOND) && !breaker.admit(now + SECOND * 2));
        assert!(breaker.admit(now + SECOND * 3));
    }
}
