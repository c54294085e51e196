//! What a shard promises at one node, and two nodes that want the same.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const ROOM: RoomId = RoomId(1);
const OTHER: NodeId = NodeId(9);

fn cell(epoch: u64, token: u128) -> EpochCell {
    EpochCell { epoch, token }
}
fn activate(room: RoomId) -> In {
    In::Activate { room, above: Epoch(0) }
}
/// A shard that is owned under epoch 1 with token 7, with `ROOM` started.
fn owned() -> (ShardCore, Epoch) {
    let mut core = ShardCore::new(Placed::Mine);
    let [Do::Read(ticket)] = core.step(Mono(0), activate(ROOM))[..] else { panic!("the cell is not read") };
    let [Do::Raise(ticket, ..)] = core.step(Mono(0), In::Read(ticket, Some(EpochCell::default()), 7))[..] else { panic!("not raised") };
    let done = core.step(Mono(0), In::Raised(ticket, Raised::Applied));
    let [Do::Announce(1), Do::Granted(ROOM, epoch)] = done[..] else { panic!("{done:?}") };
    (core, epoch)
}

#[test]
fn only_a_claim_that_was_answered_applied_gives_an_epoch() {
    for outcome in [Raised::Refused, Raised::Unknown] {
        let mut core = ShardCore::new(Placed::Mine);
        let [Do::Read(ticket)] = core.step(Mono(0), activate(ROOM))[..] else { panic!("the cell is not read") };
        let [Do::Raise(ticket, ..)] = core.step(Mono(0), In::Read(ticket, Some(EpochCell::default()), 7))[..] else { panic!("not raised") };
        let [Do::Read(again)] = core.step(Mono(0), In::Raised(ticket, outcome))[..] else { panic!("not tried again") };
        // It reads back the very cell that it tried to write: not its own all the same.
        let raised = core.step(Mono(0), In::Read(again, Some(cell(1, 7)), 8));
        assert!(matches!(raised[..], [Do::Raise(_, was, next)] if was == cell(1, 7) && next == cell(2, 8)), "{raised:?}");
    }
}

#[test]
fn an_answer_that_comes_after_its_time_is_void() {
    let mut core = ShardCore::new(Placed::Mine);
    let [Do::Read(ticket)] = core.step(Mono(0), activate(ROOM))[..] else { panic!("the cell is not read") };
    let [Do::Raise(ticket, ..)] = core.step(Mono(0), In::Read(ticket, Some(EpochCell::default()), 7))[..] else { panic!("not raised") };
    assert!(matches!(core.step(Mono(CLAIM_MS_MAX + 1), In::Tick)[..], [Do::Read(_)]));
    assert_eq!(core.step(Mono(CLAIM_MS_MAX + 2), In::Raised(ticket, Raised::Applied)), []);
    assert_eq!(core.owned(), None);
}

#[test]
fn who_asks_while_a_check_runs_waits_for_the_next() {
    let (mut core, epoch) = owned();
    let check = In::Check { room: ROOM, epoch };
    let [Do::Check(first)] = core.step(Mono(1), check.clone())[..] else { panic!("no check") };
    assert_eq!(core.step(Mono(2), check), []);
    let done = core.step(Mono(3), In::Checked(first, Some(cell(1, 7))));
    let [Do::Verdict(ROOM, _, Verdict::Passed), Do::Check(second)] = done[..] else { panic!("{done:?}") };
    let done = core.step(Mono(4), In::Checked(second, None));
    assert_eq!(done, [Do::Verdict(ROOM, epoch, Verdict::Again)], "a check that failed says nothing");
    assert!(core.is_sure(Mono(3), 2) && !core.is_sure(Mono(4), 2), "sure since the last check that passed began");
}

#[test]
fn a_newer_activation_ends_the_older_one() {
    let (mut core, old) = owned();
    let [Do::Granted(ROOM, new)] = core.step(Mono(1), activate(ROOM))[..] else { panic!("no activation") };
    assert!(new > old);
    assert_eq!(core.step(Mono(1), In::Check { room: ROOM, epoch: old }), [Do::Verdict(ROOM, old, Verdict::Lost)]);
    let [Do::Check(ticket)] = core.step(Mono(1), In::Check { room: ROOM, epoch: new })[..] else { panic!("no check") };
    // An activation that is overtaken while its check runs does not pass either.
    core.step(Mono(1), activate(ROOM));
    assert_eq!(core.step(Mono(1), In::Checked(ticket, Some(cell(1, 7)))), [Do::Verdict(ROOM, new, Verdict::Lost)]);
}

#[test]
fn anothers_epoch_or_token_ends_everything_at_once() {
    for found in [cell(2, 1), cell(1, 8)] {
        let (mut core, epoch) = owned();
        let [Do::Check(ticket)] = core.step(Mono(1), In::Check { room: ROOM, epoch })[..] else { panic!("no check") };
        let done = core.step(Mono(2), In::Checked(ticket, Some(found)));
        assert_eq!(done, [Do::Verdict(ROOM, epoch, Verdict::Lost), Do::StepDown(ROOM, epoch)]);
        assert_eq!(core.owned(), None);
        assert_eq!(core.step(Mono(3), activate(ROOM)), [Do::Refused(ROOM, Refusal::NotClaimed)], "not taken back at once");
        assert!(matches!(core.step(Mono(2 + REGRET_MS), activate(ROOM))[..], [Do::Read(_)]));
    }
    let (mut core, epoch) = owned();
    assert_eq!(core.step(Mono(1), In::Saw(1)), []);
    assert_eq!(core.step(Mono(1), In::Saw(2)), [Do::StepDown(ROOM, epoch)]);
}

#[test]
fn a_shard_is_handed_over_when_its_last_room_has_ended() {
    let (mut core, epoch) = owned();
    assert_eq!(core.step(Mono(1), In::Placed(Placed::At(OTHER))), [Do::Finish(ROOM)]);
    assert_eq!(core.step(Mono(1), activate(RoomId(2))), [Do::Refused(RoomId(2), Refusal::Moving(OTHER))]);
    let [Do::Check(ticket)] = core.step(Mono(1), In::Check { room: ROOM, epoch })[..] else { panic!("no check") };
    let passed = core.step(Mono(1), In::Checked(ticket, Some(cell(1, 7))));
    assert_eq!(passed, [Do::Verdict(ROOM, epoch, Verdict::Passed)], "what was in flight is still committed");
    assert_eq!(core.step(Mono(2), In::Ended(ROOM)), [Do::Release(OTHER, 1, vec![ROOM])]);
    assert_eq!((core.owned(), core.step(Mono(2), activate(ROOM))), (None, vec![Do::Refused(ROOM, Refusal::NotMine)]));
}

#[test]
fn a_shard_that_comes_back_before_it_is_gone_stays() {
    let (mut core, _) = owned();
    core.step(Mono(1), In::Placed(Placed::At(OTHER)));
    core.step(Mono(1), In::Placed(Placed::Mine));
    assert!(matches!(core.step(Mono(1), activate(RoomId(2)))[..], [Do::Granted(RoomId(2), _)]));
    assert_eq!(core.step(Mono(1), In::Placed(Placed::Nowhere)), [], "without another node there is nobody to give it to");
    assert_eq!(core.step(Mono(1), In::Ended(ROOM)), []);
}

#[test]
fn a_row_of_a_higher_epoch_makes_the_node_claim_above_it() {
    let (mut core, old) = owned();
    let [Do::Read(ticket)] = core.step(Mono(1), In::Activate { room: RoomId(2), above: Epoch::new(5, 3) })[..] else {
        panic!("not claimed")
    };
    let raise = core.step(Mono(1), In::Read(ticket, Some(cell(1, 7)), 8));
    let [Do::Raise(ticket, _, next)] = raise[..] else { panic!("{raise:?}") };
    assert_eq!(next, cell(6, 8));
    let done = core.step(Mono(1), In::Raised(ticket, Raised::Applied));
    assert!(matches!(done[..], [Do::Announce(6), Do::Granted(RoomId(2), epoch)] if epoch > Epoch::new(5, 3)), "{done:?}");
    assert_eq!(core.step(Mono(1), In::Check { room: ROOM, epoch: old }), [Do::Verdict(ROOM, old, Verdict::Lost)]);
}

/// One thing that may happen in a run of two nodes over one cell: by a number, so that runs shrink well.
type Choice = (u8, u8, u8);

/// Two nodes' cores, one cell, and whatever is under way between them.
#[derive(Default)]
struct Run {
    cell: EpochCell,
    now: u64,
    tokens: u128,
    /// Under way: of which node, what, and what a read may answer (the cell when it began).
    calls: Vec<(usize, Do, EpochCell)>,
    granted: BTreeMap<(usize, RoomId), Epoch>,
    epochs: BTreeSet<Epoch>,
    asked: BTreeMap<(usize, RoomId, Epoch), usize>,
    waiting: BTreeMap<(usize, RoomId), usize>,
    /// What the cell was, by time: whose epoch it is at the moment.
    owner: BTreeMap<u64, usize>,
}

impl Run {
    fn feed(&mut self, cores: &mut [ShardCore; 2], node: usize, what: In) -> Result<(), TestCaseError> {
        for done in cores[node].step(Mono(self.now), what) {
            match done {
                Do::Read(_) | Do::Check(_) | Do::Raise(..) => self.calls.push((node, done, self.cell)),
                Do::Granted(room, epoch) => {
                    prop_assert!(self.epochs.insert(epoch), "{epoch:?} was given twice");
                    prop_assert_eq!(self.owner.get(&epoch.shard_epoch()), Some(&node), "an epoch of another's compare-and-set");
                    self.granted.insert((node, room), epoch);
                    *self.waiting.entry((node, room)).or_default() -= 1;
                }
                Do::Refused(room, _) => *self.waiting.entry((node, room)).or_default() -= 1,
                Do::Verdict(room, epoch, _) => *self.asked.entry((node, room, epoch)).or_default() -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, cores: &mut [ShardCore; 2], at: usize, how: u8) -> Result<(), TestCaseError> {
        let (node, call, began) = self.calls.swap_remove(at);
        // A quorum read gives the cell of its beginning or a later one; a write may be refused, lost, or done and its answer lost.
        let seen = if how.is_multiple_of(2) { began } else { self.cell };
        let read = (!how.is_multiple_of(7)).then_some(seen);
        self.tokens += 1;
        let answer = match call {
            Do::Read(ticket) => In::Read(ticket, read, self.tokens),
            Do::Check(ticket) => In::Checked(ticket, read),
            Do::Raise(ticket, was, next) => {
                let applied = self.cell == was && !how.is_multiple_of(5);
                if applied {
                    self.cell = next;
                    self.owner.insert(next.epoch, node);
                }
                match (applied, how % 3) {
                    (_, 0) => In::Raised(ticket, Raised::Unknown),
                    (true, _) => In::Raised(ticket, Raised::Applied),
                    (false, _) => In::Raised(ticket, Raised::Refused),
                }
            }
            _ => return Ok(()),
        };
        self.feed(cores, node, answer)
    }
}

proptest! {
    /// Whatever order answers come in, lost, late or not: no epoch is given twice or to whom it does not belong, and everybody who asked
    /// is answered exactly once when all calls have ended.
    #[test]
    fn two_nodes_never_share_an_epoch_and_everybody_is_answered(choices in proptest::collection::vec(any::<Choice>(), 1..200)) {
        let mut cores = [ShardCore::new(Placed::Mine), ShardCore::new(Placed::Mine)];
        let mut run = Run::default();
        for (what, who, how) in choices {
            let (node, room) = (usize::from(who % 2), RoomId(u64::from(who / 2 % 3)));
            run.now += u64::from(how) * 3;
            match what % 8 {
                0 | 1 => {
                    *run.waiting.entry((node, room)).or_default() += 1;
                    run.feed(&mut cores, node, activate(room))?;
                }
                2 | 3 => {
                    if let Some(epoch) = run.granted.get(&(node, room)).copied() {
                        *run.asked.entry((node, room, epoch)).or_default() += 1;
                        run.feed(&mut cores, node, In::Check { room, epoch })?;
                    }
                }
                4 => run.feed(&mut cores, node, [In::Tick, In::Ended(room), In::Saw(u64::from(how) / 100), In::Placed(Placed::At(OTHER)), In::Placed(Placed::Mine)][usize::from(how) % 5].clone())?,
                _ if !run.calls.is_empty() => {
                    let at = usize::from(who) % run.calls.len();
                    run.answer(&mut cores, at, how)?;
                }
                _ => {}
            }
        }
        while let Some(last) = run.calls.len().checked_sub(1) {
            run.answer(&mut cores, last, 11)?;
        }
        prop_assert!(run.waiting.values().all(|n| *n == 0), "somebody waits for ever: {:?}", run.waiting);
        prop_assert!(run.asked.values().all(|n| *n == 0), "a check was never answered: {:?}", run.asked);
    }
}
