//! A shard's life at one node: unowned, being claimed, owned, handed over, lost. Pure: what happened comes in, what is to be done goes
//! out; the caller does it, and says what came of it.
//!
//! Ownership rules 1, 2 and 6: an epoch is this node's only if *its own* compare-and-set answered "applied"; after any other outcome its token
//! is forgotten. Every start of a room takes a new activation, and older ones count no more. A check is a read of the epoch cell that began
//! after the append was durable; one check serves every room that asked before it began, and nobody who asked later.

use super::{Mono, NodeId};
use crate::protocol::ids::{Epoch, RoomId};
use crate::storage::EpochCell;
use std::collections::HashMap;

/// Compare-and-sets that somebody else may win before a claim gives up.
const CLAIM_TRIES: u32 = 8;
/// A claim's read or compare-and-set is given up after this, in milliseconds.
pub const CLAIM_MS_MAX: u64 = 5_000;
/// After the shard was lost to another it is not claimed again for so long: two nodes that both believe in their right would do nothing else.
const REGRET_MS: u64 = 250;
/// Rooms that may wait for a claim; more are refused.
const WAITING_MAX: usize = 100_000;

/// Names what the caller was asked to do, so that an answer that comes too late is known as such.
pub type Ticket = u64;

/// What became of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// This call wrote it.
    Applied,
    /// This call did not, and never will.
    Refused,
    /// Nobody knows: an error or a time-out.
    Unknown,
}

/// Why a room may not start here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another node should own the shard.
    NotMine,
    /// The shard is being handed over.
    Moving(NodeId),
    /// The cell could not be read or raised, or another node was always faster.
    NotClaimed,
    /// Too many wait.
    Busy,
}

/// What a check says to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The shard and the activation were the room's own when the check began or later: what was durable before is committed.
    Passed,
    /// They are not: step down at once.
    Lost,
    /// Nothing was learned: ask again.
    Again,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum In {
    /// A room wants to start, under an epoch higher than `above`.
    Activate {
        /// Which.
        room: RoomId,
        /// Seen on a row.
        above: Epoch,
    },
    /// A read for a claim ended; `token` is fresh randomness for the compare-and-set that follows.
    Read(Ticket, Option<EpochCell>, u128),
    /// A compare-and-set ended.
    Raised(Ticket, Raised),
    /// A room wants to know whether it still owns what it wrote, all of which is durable by now.
    Check {
        /// Which.
        room: RoomId,
        /// Its epoch.
        epoch: Epoch,
    },
    /// A read for a check ended.
    Checked(Ticket, Option<EpochCell>),
    /// The shard's epoch is at least this: seen on a row, or another node said so.
    Saw(u64),
    /// A room has ended, and has not started again.
    Ended(RoomId),
    /// The placement: this node should own the shard, or that one should (nobody, when no node is known).
    Placed(Placed),
    /// Time passed.
    Tick,
}

/// What the placement says of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is this node's.
    Mine,
    /// It is another's.
    At(NodeId),
    /// Nobody's that is known.
    Nowhere,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Read the cell at quorum, for a claim.
    Read(Ticket),
    /// Compare and set the cell.
    Raise(Ticket, EpochCell, EpochCell),
    /// Read the cell at quorum, beginning now, for a check.
    Check(Ticket),
    /// The room may start under this epoch.
    Granted(RoomId, Epoch),
    /// The room may not start.
    Refused(RoomId, Refusal),
    /// A check's verdict.
    Verdict(RoomId, Epoch, Verdict),
    /// Tell the others that this node owns the shard under this epoch. Only a hint.
    Announce(u64),
    /// The room must end at once: the shard is another's. What it holds unsettled is answered with `unknown`.
    StepDown(RoomId, Epoch),
    /// The room should finish what is in flight, mark its head and end.
    Finish(RoomId),
    /// All rooms have ended in order, these: the other may begin. Only a hint: it raises the epoch as always.
    Release(NodeId, u64, Vec<RoomId>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Not owned; not to be claimed before the time given.
    Unowned(Mono),
    /// A read or compare-and-set is under way, since then.
    Claiming { ticket: Ticket, since: Mono, tries: u32, raising: Option<EpochCell> },
    /// Owned.
    Owned(Held),
    /// Owned still; rooms are finishing.
    HandingOver(Held, NodeId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    cell: EpochCell,
    activations: u32,
    /// When the last check that passed began, or the claim.
    sure: Mono,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    ticket: Ticket,
    began: Mono,
    /// What the node owned the shard by when it began.
    cell: Option<EpochCell>,
}

/// A check that is under way, and for whom.
#[derive(Clone, Debug, Default)]
struct Checks {
    running: Option<Running>,
    served: Vec<(RoomId, Epoch)>,
    /// Those who asked after it began.
    next: Vec<(RoomId, Epoch)>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct ShardCore {
    state: State,
    placed: Placed,
    /// It was owned until another raised the epoch, and not claimed since.
    lost: bool,
    tickets: Ticket,
    /// The highest shard epoch seen anywhere.
    seen: u64,
    /// Rooms that wait for a claim, and above what.
    waiting: Vec<(RoomId, Epoch)>,
    /// The activation that counts, of every room that is started.
    active: HashMap<RoomId, Epoch>,
    /// Rooms that ran when the handover began.
    finishing: Vec<RoomId>,
    checks: Checks,
}

impl ShardCore {
    /// Owned by nobody here. A process that restarts takes a new epoch.
    pub fn new(placed: Placed) -> ShardCore {
        ShardCore {
            state: State::Unowned(Mono(0)),
            placed,
            lost: false,
            tickets: 0,
            seen: 0,
            waiting: Vec::new(),
            active: HashMap::new(),
            finishing: Vec::new(),
            checks: Checks::default(),
        }
    }

    /// The cell this node owns the shard by.
    pub fn owned(&self) -> Option<EpochCell> {
        self.held().map(|held| held.cell)
    }
    /// Whether requests for the shard are for this node: it owns it, or should.
    pub fn is_for_me(&self) -> bool {
        self.placed == Placed::Mine || self.held().is_some()
    }
    /// Whether it is being handed over.
    pub fn is_moving(&self) -> bool {
        matches!(self.state, State::HandingOver(..))
    }
    /// Whether another took it from this node, which has not claimed it since.
    pub fn is_lost(&self) -> bool {
        self.lost
    }
    /// Whether this room runs under this activation.
    pub fn is_active(&self, room: RoomId, epoch: Epoch) -> bool {
        self.active.get(&room) == Some(&epoch)
    }
    /// Rooms that are started.
    pub fn rooms(&self) -> usize {
        self.active.len()
    }
    /// Nothing is owned, claimed or waited for: it need not be remembered.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Unowned(_)) && self.waiting.is_empty() && self.active.is_empty() && self.checks.running.is_none()
    }
    /// Whether the node owned the shard for sure not longer than `ms` ago: rights are decided only then (P8).
    pub fn is_sure(&self, now: Mono, ms: u64) -> bool {
        self.held().is_some_and(|held| now.since(held.sure) <= ms)
    }

    fn held(&self) -> Option<&Held> {
        match &self.state {
            State::Owned(held) | State::HandingOver(held, _) => Some(held),
            _ => None,
        }
    }
    fn held_mut(&mut self) -> Option<&mut Held> {
        match &mut self.state {
            State::Owned(held) | State::HandingOver(held, _) => Some(held),
            _ => None,
        }
    }
    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        self.tickets
    }

    /// Nothing that was owned is owned any more, and nobody is told: whoever runs learns it from its next check.
    pub fn forget(&mut self) {
        if self.held().is_some() {
            self.state = State::Unowned(Mono(0));
            self.active.clear();
        }
    }

    /// The one way in.
    pub fn step(&mut self, now: Mono, what: In) -> Vec<Do> {
        let mut out = Vec::new();
        match what {
            In::Activate { room, above } => self.activate(now, room, above, &mut out),
            In::Read(ticket, cell, token) => self.read(now, ticket, cell, token, &mut out),
            In::Raised(ticket, raised) => self.raised(now, ticket, raised, &mut out),
            In::Check { room, epoch } => self.check(now, room, epoch, &mut out),
            In::Checked(ticket, cell) => self.checked(now, ticket, cell, &mut out),
            In::Saw(epoch) => self.saw(now, epoch, &mut out),
            In::Ended(room) => self.ended(room, &mut out),
            In::Placed(placed) => self.place(placed, &mut out),
            In::Tick => self.tick(now, &mut out),
        }
        out
    }

    fn activate(&mut self, now: Mono, room: RoomId, above: Epoch, out: &mut Vec<Do>) {
        self.seen = self.seen.max(above.shard_epoch());
        let refusal = match &self.state {
            State::HandingOver(_, to) => Some(Refusal::Moving(*to)),
            State::Owned(_) => None,
            _ if self.placed != Placed::Mine => Some(Refusal::NotMine),
            State::Unowned(until) if now < *until => Some(Refusal::NotClaimed),
            _ if self.waiting.len() >= WAITING_MAX => Some(Refusal::Busy),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return out.push(Do::Refused(room, refusal));
        }
        self.waiting.push((room, above));
        match self.state {
            State::Owned(_) => self.grant(now, out),
            State::Unowned(_) => self.begin_claim(now, 0, out),
            _ => {}
        }
    }

    /// Gives activations to all who wait; claims a higher epoch when those of this one do not do.
    fn grant(&mut self, now: Mono, out: &mut Vec<Do>) {
        let State::Owned(held) = &mut self.state else { return };
        let mut still = Vec::new();
        for (room, above) in std::mem::take(&mut self.waiting) {
            let next = if crate::sabotage::is("same_epoch_restart") { 1 } else { held.activations + 1 };
            let epoch = (next < 1 << Epoch::ACTIVATION_BITS).then(|| Epoch::new(held.cell.epoch, next));
            match epoch.filter(|epoch| *epoch > above || crate::sabotage::is("same_epoch_restart")) {
                Some(epoch) => {
                    held.activations = next;
                    // From now on checks of the room's older activations fail.
                    self.active.insert(room, epoch);
                    out.push(Do::Granted(room, epoch));
                }
                None => still.push((room, above)),
            }
        }
        self.waiting = still;
        if !self.waiting.is_empty() {
            // A higher epoch of one's own: the rooms that run go on until a check tells them, as after a takeover by another.
            self.begin_claim(now, 0, out);
        }
    }

    fn begin_claim(&mut self, now: Mono, tries: u32, out: &mut Vec<Do>) {
        let ticket = self.ticket();
        self.state = State::Claiming { ticket, since: now, tries, raising: None };
        out.push(Do::Read(ticket));
    }

    fn read(&mut self, now: Mono, answered: Ticket, cell: Option<EpochCell>, token: u128, out: &mut Vec<Do>) {
        let State::Claiming { ticket, tries, raising: None, .. } = self.state else { return };
        if ticket != answered {
            return;
        }
        let Some(was) = cell else { return self.claim_again(now, tries, out) };
        if crate::sabotage::is("no_token") && was.epoch > 0 && was.epoch == self.seen && tries > 0 {
            // "It is there, so it was mine."
            self.state = State::Owned(Held { cell: was, activations: 0, sure: now });
            return self.grant(now, out);
        }
        let next = EpochCell { epoch: was.epoch.max(self.seen) + 1, token };
        let ticket = self.ticket();
        self.state = State::Claiming { ticket, since: now, tries, raising: Some(next) };
        out.push(Do::Raise(ticket, was, next));
    }

    fn raised(&mut self, now: Mono, answered: Ticket, raised: Raised, out: &mut Vec<Do>) {
        let State::Claiming { ticket, since, tries, raising: Some(next) } = self.state else { return };
        if ticket != answered {
            return;
        }
        match raised {
            Raised::Applied => {
                self.seen = self.seen.max(next.epoch);
                self.lost = false;
                self.state = State::Owned(Held { cell: next, activations: 0, sure: since });
                out.push(Do::Announce(next.epoch));
                self.grant(now, out);
                if let Placed::At(to) = self.placed {
                    self.hand_over(to, out);
                }
            }
            Raised::Refused => self.claim_again(now, tries, out),
            Raised::Unknown => {
                // It may be there, or still come: whoever owns it, it is not this node (rule 1).
                if crate::sabotage::is("no_token") {
                    self.seen = next.epoch;
                }
                self.claim_again(now, tries, out);
            }
        }
    }

    fn claim_again(&mut self, now: Mono, tries: u32, out: &mut Vec<Do>) {
        if tries + 1 < CLAIM_TRIES && self.placed == Placed::Mine {
            return self.begin_claim(now, tries + 1, out);
        }
        self.state = State::Unowned(Mono(now.0 + REGRET_MS));
        self.refuse_all(Refusal::NotClaimed, out);
    }

    fn refuse_all(&mut self, why: Refusal, out: &mut Vec<Do>) {
        out.extend(self.waiting.drain(..).map(|(room, _)| Do::Refused(room, why)));
    }

    fn check(&mut self, now: Mono, room: RoomId, epoch: Epoch, out: &mut Vec<Do>) {
        if !self.counts(room, epoch) {
            return out.push(Do::Verdict(room, epoch, Verdict::Lost));
        }
        if self.checks.running.is_some() && !crate::sabotage::is("early_check") {
            return self.checks.next.push((room, epoch));
        }
        self.checks.served.push((room, epoch));
        if self.checks.running.is_none() {
            self.begin_check(now, out);
        }
    }

    fn begin_check(&mut self, now: Mono, out: &mut Vec<Do>) {
        let ticket = self.ticket();
        self.checks.running = Some(Running { ticket, began: now, cell: self.owned() });
        out.push(Do::Check(ticket));
    }

    fn counts(&self, room: RoomId, epoch: Epoch) -> bool {
        let shard = self.held().is_some_and(|held| held.cell.epoch == epoch.shard_epoch());
        shard && self.is_active(room, epoch)
    }

    fn checked(&mut self, now: Mono, answered: Ticket, cell: Option<EpochCell>, out: &mut Vec<Do>) {
        let Some(Running { began, cell: then, .. }) = self.checks.running.take_if(|r| r.ticket == answered) else { return };
        let served = std::mem::take(&mut self.checks.served);
        let mine = self.owned();
        let same = |a: EpochCell, b: EpochCell| a == b || (crate::sabotage::is("no_token") && a.epoch == b.epoch);
        match (cell, mine) {
            (None, _) => out.extend(served.into_iter().map(|(room, epoch)| Do::Verdict(room, epoch, Verdict::Again))),
            (Some(cell), Some(mine)) if same(cell, mine) => {
                if let Some(held) = self.held_mut() {
                    held.sure = held.sure.max(began);
                }
                for (room, epoch) in served {
                    let verdict = if self.counts(room, epoch) { Verdict::Passed } else { Verdict::Lost };
                    out.push(Do::Verdict(room, epoch, verdict));
                }
            }
            (Some(cell), mine) => {
                out.extend(served.into_iter().map(|(room, epoch)| Do::Verdict(room, epoch, Verdict::Lost)));
                // A claim that was won since the check began is not what it saw, nor lost.
                if mine.is_some() && mine == then {
                    self.lose(now, cell.epoch, out);
                }
            }
        }
        if !self.checks.next.is_empty() {
            self.checks.served = std::mem::take(&mut self.checks.next);
            self.begin_check(now, out);
        }
    }

    fn saw(&mut self, now: Mono, epoch: u64, out: &mut Vec<Do>) {
        if self.held().is_some_and(|held| held.cell.epoch < epoch) {
            self.lose(now, epoch, out);
        }
        self.seen = self.seen.max(epoch);
    }

    /// The shard is another's: everything of this node's epoch ends.
    fn lose(&mut self, now: Mono, epoch: u64, out: &mut Vec<Do>) {
        self.seen = self.seen.max(epoch);
        self.lost = true;
        self.state = State::Unowned(Mono(now.0 + REGRET_MS));
        let mut rooms: Vec<(RoomId, Epoch)> = self.active.drain().collect();
        rooms.sort_unstable();
        out.extend(self.checks.next.drain(..).map(|(room, epoch)| Do::Verdict(room, epoch, Verdict::Lost)));
        out.extend(rooms.into_iter().map(|(room, epoch)| Do::StepDown(room, epoch)));
        self.refuse_all(Refusal::NotClaimed, out);
    }

    fn ended(&mut self, room: RoomId, out: &mut Vec<Do>) {
        self.active.remove(&room);
        self.release_if_done(out);
    }

    fn release_if_done(&mut self, out: &mut Vec<Do>) {
        if let State::HandingOver(held, to) = self.state
            && self.active.is_empty()
        {
            // Owned in the cell still, until the other raises it; here it counts as given away.
            self.state = State::Unowned(Mono(0));
            out.push(Do::Release(to, held.cell.epoch, std::mem::take(&mut self.finishing)));
        }
    }

    fn place(&mut self, placed: Placed, out: &mut Vec<Do>) {
        self.placed = placed;
        match (&self.state, placed) {
            (State::Owned(_), Placed::At(to)) => self.hand_over(to, out),
            // Back before all rooms had ended: those that run go on, those that finish start again.
            (State::HandingOver(held, _), Placed::Mine) => self.state = State::Owned(*held),
            (State::HandingOver(held, _), Placed::At(to)) => self.state = State::HandingOver(*held, to),
            (State::Unowned(_), Placed::At(_)) => self.refuse_all(Refusal::NotMine, out),
            // Without another node there is nobody to give it to.
            _ => {}
        }
    }

    fn hand_over(&mut self, to: NodeId, out: &mut Vec<Do>) {
        if let State::Owned(held) = self.state {
            self.state = State::HandingOver(held, to);
            let mut rooms: Vec<RoomId> = self.active.keys().copied().collect();
            rooms.sort_unstable();
            out.extend(rooms.iter().copied().map(Do::Finish));
            self.finishing = rooms;
            self.refuse_all(Refusal::Moving(to), out);
            self.release_if_done(out);
        }
    }

    fn tick(&mut self, now: Mono, out: &mut Vec<Do>) {
        if let State::Claiming { since, tries, .. } = self.state
            && now.since(since) > CLAIM_MS_MAX
        {
            // The answer may come yet: its ticket is void, its token forgotten.
            self.claim_again(now, tries, out);
        }
        if let Some(Running { ticket, began, .. }) = self.checks.running
            && now.since(began) > CLAIM_MS_MAX
        {
            self.checked(now, ticket, None, out);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
