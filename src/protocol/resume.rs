//! Coming back without a hole or a double, pure: where a feed stands, what a room of a resume needs, how a seam is closed.

use super::entry::{Body, Change, Entry};
use super::ids::{Seq, UserId};
use super::ops::Standing;
use std::collections::VecDeque;

/// What a feed does with entries `first..=last` when the next one it expects is `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All known already.
    Known,
    /// Take them, without the first `skip`.
    Take {
        /// How many are known already.
        skip: usize,
    },
    /// Something before them is missing: `from..first` must be read from the log first.
    Hole {
        /// The first missing seq.
        from: Seq,
    },
}

/// See [`Step`]. A feed that has no position yet begins with whatever comes first.
pub fn step(next: Option<Seq>, first: Seq, last: Seq) -> Step {
    match next {
        Some(next) if last < next => Step::Known,
        Some(next) if first > next => Step::Hole { from: next },
        Some(next) => Step::Take { skip: (next - first) as usize },
        None => Step::Take { skip: 0 },
    }
}

/// How a session that has everything up to its position comes to be fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seam {
    /// It reads the log up to here first.
    Read(Seq),
    /// It is given this many of the newest entries that the feed still holds, and from there what comes.
    Feed(usize),
}

/// See [`Seam`]. The feed expects `next` and holds its last `held` entries; the owner's head was `as_of` when the session's room was looked
/// at. A feed may be behind that: what it has yet to give would come after the word that the session has caught up.
pub fn seam(next: Seq, position: Seq, as_of: Seq, held: usize) -> Seam {
    let given = next.saturating_sub(1);
    if position < as_of && given < as_of {
        return Seam::Read(as_of);
    }
    match given.saturating_sub(position) as usize {
        missing if missing > held => Seam::Read(given),
        missing => Seam::Feed(missing),
    }
}

/// How a member's room stands when its client has applied `have` (none: it does not know the room), the log begins at `floor` and the
/// committed head is `head`. `None`: unchanged, nothing is to be said.
pub fn standing(have: Option<Seq>, floor: Seq, head: Seq, entries_max: u64) -> Option<(Standing, Seq)> {
    match have {
        Some(have) if have == head => None,
        // Ahead of the log: the client knows entries that this log never had.
        Some(have) if have > head => Some((Standing::Resync, head)),
        // What comes next is no longer kept.
        Some(have) if have + 1 < floor => Some((Standing::Resync, head)),
        Some(have) if head - have > entries_max => Some((Standing::Resync, head)),
        Some(have) => Some((Standing::CatchUp, have)),
        None => Some((Standing::Joined, head)),
    }
}

/// Who was put out of a room lately, and where: a catch-up must not read past that, and an attach that was decided on before
/// it must not count. Bounded; what is forgotten is older than any attach under way.
#[derive(Clone, Debug, Default)]
pub struct PutOut(VecDeque<(UserId, Seq)>);

/// Put-outs that a feed remembers.
const PUT_OUT_MAX: usize = 256;

impl PutOut {
    /// The user's membership ended at `seq`.
    pub fn note(&mut self, user: UserId, seq: Seq) {
        if self.0.len() == PUT_OUT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((user, seq));
    }
    /// Where the user was put out after `as_of`, the first time.
    pub fn after(&self, user: UserId, as_of: Seq) -> Option<Seq> {
        self.0.iter().filter(|(u, s)| *u == user && *s > as_of).map(|(_, s)| *s).min()
    }
}

/// The user whose membership an entry ends.
pub fn ends_membership(entry: &Entry) -> Option<UserId> {
    match &entry.body {
        Body::Member(m) if matches!(m.change, Change::Leave | Change::Kick | Change::Ban) => Some(m.user),
        _ => None,
    }
}

/// The users whose membership an entry begins.
pub fn begins_membership(entry: &Entry) -> Vec<UserId> {
    match &entry.body {
        Body::Member(m) if matches!(m.change, Change::Join | Change::Invite) => vec![m.user],
        Body::Room(change) => change.members.iter().map(|(user, _)| *user).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_room_stands_as_its_client_left_it() {
        assert_eq!(standing(Some(7), 1, 7, 100), None);
        assert_eq!(standing(Some(5), 1, 7, 100), Some((Standing::CatchUp, 5)));
        assert_eq!(standing(Some(8), 1, 7, 100), Some((Standing::Resync, 7)));
        assert_eq!(standing(Some(1), 1, 200, 100), Some((Standing::Resync, 200)));
        assert_eq!(standing(None, 1, 7, 100), Some((Standing::Joined, 7)));
        assert_eq!(standing(Some(0), 1, 0, 100), None);
        // The log begins at 5: who has 4 misses nothing that is gone.
        assert_eq!(standing(Some(4), 5, 7, 100), Some((Standing::CatchUp, 4)));
        assert_eq!(standing(Some(3), 5, 7, 100), Some((Standing::Resync, 7)));
        assert_eq!(standing(None, 5, 7, 100), Some((Standing::Joined, 7)));
    }

    #[test]
    fn an_attach_decided_before_a_put_out_does_not_count() {
        let mut out = PutOut::default();
        out.note(UserId(1), 10);
        out.note(UserId(1), 20);
        assert_eq!(out.after(UserId(1), 9), Some(10));
        assert_eq!(out.after(UserId(1), 12), Some(20));
        assert_eq!(out.after(UserId(1), 20), None);
        assert_eq!(out.after(UserId(2), 0), None);
    }

    proptest! {
        /// Whoever catches up has everything that the owner had when it asked, however far the feed is behind, and everything once.
        #[test]
        fn a_session_has_caught_up_when_it_is_fed(have in 0u64..40, as_of in 0u64..60, behind in 0u64..20, steps in prop::collection::vec(0u64..5, 1..20), kept in 0usize..8) {
            let have = have.min(as_of);
            let (mut next, mut position, mut shown) = ((as_of + 1).saturating_sub(behind).max(1), have, Vec::new());
            for step in steps {
                match seam(next, position, as_of, kept) {
                    Seam::Read(to) => {
                        prop_assert!(to > position);
                        shown.extend(position + 1..=to);
                        position = to;
                    }
                    Seam::Feed(missing) => {
                        prop_assert!(missing <= kept);
                        shown.extend(next - missing as u64..next);
                        prop_assert_eq!(shown.last().copied().unwrap_or(have).max(position), position.max(next - 1));
                        prop_assert!(position.max(next - 1) >= as_of, "fed from {}, the head was {}", position.max(next - 1), as_of);
                        break;
                    }
                }
                next += step;
            }
            prop_assert!(shown.iter().copied().eq(have + 1..have + 1 + shown.len() as u64), "{:?}", shown);
        }

        /// Whatever is lost, doubled or late: a feed that reads holes from the log gives every seq once, in order.
        #[test]
        fn a_feed_gives_every_entry_once_and_in_order(batches in prop::collection::vec((1u64..60, 1u64..6), 1..80)) {
            let (mut next, mut given) = (None, Vec::new());
            for (first, len) in batches {
                let last = first + len - 1;
                match step(next, first, last) {
                    Step::Known => {}
                    Step::Take { skip } => given.extend(first + skip as u64..=last),
                    Step::Hole { from } => given.extend(from..=last),
                }
                next = Some(next.unwrap_or(first).max(last + 1));
            }
            prop_assert!(given.windows(2).all(|w| w[1] == w[0] + 1), "{given:?}");
        }
    }
}
