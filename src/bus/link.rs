//! A link: what goes from one process to another, numbered, so that the receiver notices what it missed. Pure.
//!
//! The sender numbers its envelopes per destination from 1 up, as long as its process lives; what it has to drop takes its number with it,
//! and now and then it says how far it is, so that a loss at the end is noticed too. The receiver hands on what is new, in order and at
//! most once, and says `missed` at every hole, at a start in the middle, and when another process speaks under the same node id.
//! Nothing is sent again: whoever missed something looks into the log.

/// The sender's end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The number of the next envelope.
    next: u64,
    /// Numbers were given since the receiver was last told how far they go.
    untold: bool,
}

impl Default for Outgoing {
    fn default() -> Self {
        Outgoing { next: 1, untold: false }
    }
}

impl Outgoing {
    /// Numbers so many envelopes that are sent now; gives the number of the first.
    pub fn number(&mut self, count: u64) -> u64 {
        let first = self.next;
        self.next += count;
        self.untold = true;
        first
    }
    /// So many envelopes will never be sent: the receiver shall notice.
    pub fn lost(&mut self, count: u64) {
        self.number(count);
    }
    /// What to say about how far the numbers go: the number of the next envelope; nothing when that was said since the last one.
    pub fn position(&mut self) -> Option<u64> {
        std::mem::take(&mut self.untold).then_some(self.next)
    }
    /// What was said last may not have arrived.
    pub fn unsure(&mut self) {
        self.untold = true;
    }
}

/// What to do with a batch that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Something was missed before it.
    pub missed: bool,
    /// So many envelopes at its beginning were there already.
    pub skip: u64,
}

/// The receiver's end of a link. Knows nothing at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// The process that speaks, and the number that its next envelope should have.
    current: Option<(u64, u64)>,
    /// The process that spoke before it: what still comes of it is too late.
    before: Option<u64>,
    /// Batches that came of that one since the other was last heard.
    late: u32,
}

/// So many batches in a row are not late: that process lives, and the other was a mistake (two with one number, of which one was put out).
const LATE_MAX: u32 = 8;

impl Incoming {
    /// A batch of `count` envelopes came, numbered from `first`, of the process `life`. With 0 it only says how far the numbers go.
    pub fn take(&mut self, life: u64, first: u64, count: u64) -> Taken {
        if self.before == Some(life) {
            self.late += 1;
            if self.late < LATE_MAX {
                return Taken { missed: false, skip: count };
            }
        }
        self.late = 0;
        let after = first.saturating_add(count);
        match &mut self.current {
            Some((known, next)) if *known == life => {
                let taken = Taken { missed: first > *next, skip: next.saturating_sub(first).min(count) };
                *next = after.max(*next);
                taken
            }
            current => {
                let was = current.replace((life, after));
                self.before = was.map(|(life, _)| life);
                // Who spoke from the beginning on, and was never heard before, has told everything.
                Taken { missed: was.is_some() || first > 1, skip: 0 }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FINE: Taken = Taken { missed: false, skip: 0 };
    const MISSED: Taken = Taken { missed: true, skip: 0 };

    #[test]
    fn a_link_that_loses_nothing_misses_nothing() {
        let (mut out, mut link) = (Outgoing::default(), Incoming::default());
        for count in [1, 5, 0, 2] {
            assert_eq!(link.take(7, out.number(count), count), FINE);
        }
        let position = out.position().unwrap();
        assert_eq!((position, link.take(7, position, 0), out.position()), (9, FINE, None));
        out.unsure();
        assert_eq!(out.position(), Some(9));
    }

    #[test]
    fn a_loss_at_the_end_is_noticed_when_the_position_is_told() {
        let (mut out, mut link) = (Outgoing::default(), Incoming::default());
        link.take(7, out.number(3), 3);
        out.lost(1);
        assert_eq!(link.take(7, out.position().unwrap(), 0), MISSED);
        assert_eq!(link.take(7, out.number(1), 1), FINE, "it was told once");
    }

    #[test]
    fn repeats_are_skipped_and_what_is_new_in_them_is_not() {
        let mut link = Incoming::default();
        assert_eq!(link.take(7, 1, 4), FINE);
        assert_eq!(link.take(7, 1, 4), Taken { missed: false, skip: 4 });
        assert_eq!(link.take(7, 3, 4), Taken { missed: false, skip: 2 });
        assert_eq!(link.take(7, 7, 1), FINE);
    }

    #[test]
    fn a_start_in_the_middle_and_another_process_are_told() {
        let mut link = Incoming::default();
        assert_eq!(link.take(7, 5, 1), MISSED, "it spoke before it was heard");
        assert_eq!(link.take(8, 1, 1), MISSED, "what the process before it said last is not known");
        assert_eq!(link.take(7, 6, 2), Taken { missed: false, skip: 2 }, "it comes too late");
        assert_eq!(link.take(8, 2, 1), FINE);
        assert_eq!(link.take(9, u64::MAX, 5), MISSED, "strange numbers are only numbers");
        assert_eq!(link.take(9, u64::MAX, 0), FINE);
    }

    #[test]
    fn who_goes_on_when_its_double_is_silent_is_heard_again() {
        let mut link = Incoming::default();
        assert_eq!((link.take(7, 1, 3), link.take(8, 1, 1)), (FINE, MISSED));
        for n in 0..7 {
            assert_eq!(link.take(7, 4 + n, 1), Taken { missed: false, skip: 1 });
        }
        assert_eq!(link.take(7, 11, 1), MISSED, "it speaks and the other does not");
        assert_eq!(link.take(7, 12, 1), FINE);
    }

    /// What happens on the way.
    #[derive(Clone, Debug)]
    enum Step {
        /// So many envelopes are sent as one batch, which arrives, is lost, arrives twice, or only after the next one.
        Send(u64, Fate),
        /// So many are dropped before they are sent.
        Drop(u64),
        /// The position is told, and arrives.
        Tell,
        /// The sender is another process from now on.
        Restart,
    }
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fate {
        Arrives,
        Lost,
        Twice,
        Late,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let fate = prop_oneof![5 => Just(Fate::Arrives), 1 => Just(Fate::Lost), 1 => Just(Fate::Twice), 1 => Just(Fate::Late)];
        let step = prop_oneof![
            8 => (1u64..5, fate).prop_map(|(n, fate)| Step::Send(n, fate)),
            1 => (1u64..3).prop_map(Step::Drop),
            2 => Just(Step::Tell),
            1 => Just(Step::Restart),
        ];
        proptest::collection::vec(step, 1..60)
    }

    /// Every envelope of every life: arrived, or the time of the loss; and when something missed was told.
    #[derive(Default)]
    struct Told {
        /// (life, number) in the order they were handed on.
        handed: Vec<(u64, u64)>,
        /// How much had been handed on when something missed was told.
        missed: Vec<usize>,
    }

    impl Told {
        fn take(&mut self, link: &mut Incoming, (life, first, count): (u64, u64, u64)) {
            let taken = link.take(life, first, count);
            if taken.missed {
                self.missed.push(self.handed.len());
            }
            self.handed.extend((first + taken.skip..first + count).map(|n| (life, n)));
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_without_a_word_and_nothing_comes_twice(steps in steps()) {
            let (mut out, mut link, mut told) = (Outgoing::default(), Incoming::default(), Told::default());
            let (mut life, mut late) = (1, None);
            // What the sender gave numbers to in this life, and how many arrivals had been told before.
            let mut sent: Vec<(u64, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Send(count, fate) => {
                        let first = out.number(count);
                        sent.extend((first..first + count).map(|n| (life, n)));
                        let batch = (life, first, count);
                        let times = match fate { Fate::Arrives => 1, Fate::Twice => 2, _ => 0 };
                        for _ in 0..times {
                            told.take(&mut link, batch);
                        }
                        if let Some(batch) = std::mem::replace(&mut late, (fate == Fate::Late).then_some(batch)) {
                            told.take(&mut link, batch);
                        }
                    }
                    Step::Drop(count) => {
                        let first = out.position().unwrap_or(out.next);
                        out.lost(count);
                        sent.extend((first..first + count).map(|n| (life, n)));
                    }
                    Step::Tell => {
                        out.unsure();
                        told.take(&mut link, (life, out.position().unwrap(), 0));
                        // From here on: whatever of this life is not there was told as missed, at a point after everything before it.
                        let gone: Vec<_> = sent.iter().filter(|e| e.0 == life && !told.handed.contains(e)).collect();
                        for (_, number) in gone {
                            let before = told.handed.iter().rposition(|e| e.0 == life && e.1 < *number).map_or(0, |at| at + 1);
                            prop_assert!(told.missed.iter().any(|at| *at >= before), "{} of life {} is missing without a word", number, life);
                        }
                    }
                    Step::Restart => {
                        life += 1;
                        out = Outgoing::default();
                        sent.clear();
                    }
                }
            }
            for life in 1..=life {
                let numbers: Vec<u64> = told.handed.iter().filter(|e| e.0 == life).map(|e| e.1).collect();
                prop_assert!(numbers.windows(2).all(|w| w[0] < w[1]), "repeated or out of order in life {}: {:?}", life, numbers);
            }
        }
    }
}
