//! When members last spoke: what slow mode is decided by. Kept only while a room has it.

use super::super::ids::{Millis, UserId};
use std::collections::{HashMap, VecDeque};

/// Messages that are remembered at most; older ones count as over. More speak within six hours only in a room that slow mode cannot help.
const SPOKEN_MAX: usize = 50_000;

/// See the module. Each message costs one insertion, and in the long run one removal.
#[derive(Clone, Debug, Default)]
pub(super) struct Spoken {
    last: HashMap<UserId, Millis>,
    order: VecDeque<(Millis, UserId)>,
}

impl Spoken {
    pub fn clear(&mut self) {
        *self = Spoken::default();
    }

    /// A message of `user` at `at`; what is `pause` older is forgotten.
    pub fn note(&mut self, user: UserId, at: Millis, pause: Millis) {
        self.last.insert(user, at);
        self.order.push_back((at, user));
        while let Some((oldest, who)) = self.order.front().copied()
            && (oldest.saturating_add(pause) <= at || self.order.len() > SPOKEN_MAX)
        {
            self.order.pop_front();
            if self.last.get(&who) == Some(&oldest) {
                self.last.remove(&who);
            }
        }
    }

    /// How long the user must still wait at `now`; none: it may speak. A message that lies further ahead than a pause is one of a
    /// clock that was wrong.
    pub fn wait(&self, user: UserId, now: Millis, pause: Millis) -> Option<Millis> {
        let last = *self.last.get(&user)?;
        let ends = last.saturating_add(pause);
        (now < ends && last <= now.saturating_add(pause)).then(|| ends - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: UserId = UserId(1);
    const BEN: UserId = UserId(2);

    #[test]
    fn one_waits_for_ones_own_last_message_only() {
        let mut spoken = Spoken::default();
        spoken.note(ANN, 1_000, 500);
        assert_eq!((spoken.wait(ANN, 1_200, 500), spoken.wait(BEN, 1_200, 500)), (Some(300), None));
        assert_eq!(spoken.wait(ANN, 1_500, 500), None);
        spoken.note(ANN, 1_600, 500);
        assert_eq!(spoken.wait(ANN, 1_600, 500), Some(500));
    }

    #[test]
    fn a_clock_that_went_back_silences_nobody_for_long() {
        let mut spoken = Spoken::default();
        spoken.note(ANN, 10_000, 500);
        assert_eq!(spoken.wait(ANN, 9_800, 500), Some(700));
        assert_eq!(spoken.wait(ANN, 1_000, 500), None);
    }

    #[test]
    fn what_is_over_is_forgotten_and_what_is_kept_has_a_bound() {
        let mut spoken = Spoken::default();
        for n in 0..SPOKEN_MAX as u64 * 2 {
            spoken.note(UserId(n), n, 100);
            assert!(spoken.order.len() <= 101);
        }
        for n in 0..SPOKEN_MAX as u64 * 2 {
            spoken.note(UserId(n % 7), 1_000_000 + n, 1_000_000);
        }
        assert!(spoken.order.len() <= SPOKEN_MAX && spoken.last.len() == 7, "{} {}", spoken.order.len(), spoken.last.len());
    }
}
