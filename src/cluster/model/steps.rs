//! What may happen next in a run, and what it does.

use super::{Batch, Mistake, Owner, Phase, Replica, Row, SEQS, Search, State, Step};

impl Search {
    pub(super) fn steps(&self, state: &State, out: &mut Vec<Step>) {
        for (who, owner) in (0u8..).zip(&state.owners[..self.owners]) {
            match owner.phase {
                // One after the other: which of those who have done nothing comes first makes no difference.
                Phase::NotYet => {
                    self.beginnings(state, who, out);
                    break;
                }
                Phase::Peeked => out.push(Step::Cas(who)),
                Phase::Owning => self.owning(state, who, owner, out),
            }
        }
        for (at, batch) in (0u8..).zip(&state.late) {
            out.extend((0..3).filter(|r| batch.landed >> r & 1 == 0).map(|r| Step::LandLate(at, r)));
        }
        if self.has(Mistake::CoalescedReader) {
            match state.page {
                None => out.extend((0..3).map(Step::Page)),
                Some(_) => out.push(Step::Show),
            }
        }
        if self.has(Mistake::ForgetfulReplica) && !state.lost {
            let rows = |r: u8| (0..self.seqs).map(move |seq| Step::Lose(r, seq));
            out.extend((0..3).flat_map(rows).filter(|step| {
                let Step::Lose(r, seq) = step else { return false };
                state.replicas[*r as usize].rows[*seq as usize].is_there()
            }));
        }
    }

    fn beginnings(&self, state: &State, who: u8, out: &mut Vec<Step>) {
        let equal = state.replicas[0] == state.replicas[1] && state.replicas[1] == state.replicas[2];
        let pairs = 0..if equal { 1 } else { 3 };
        if self.has(Mistake::HeadBeforeCas) {
            return out.extend(pairs.map(|pair| Step::Peek(who, pair)));
        }
        let holders = state.owners.iter().filter(|o| o.phase == Phase::Owning && o.epoch == state.epoch).count();
        if self.has(Mistake::NoToken) && holders == 1 {
            out.extend(pairs.clone().map(|pair| Step::TakeOverSame(who, pair)));
        }
        out.extend(pairs.map(|pair| Step::TakeOver(who, pair)));
    }

    fn owning(&self, state: &State, who: u8, owner: &Owner, out: &mut Vec<Step>) {
        match &owner.batch {
            Some(batch) => {
                out.extend((0..3).filter(|r| batch.landed >> r & 1 == 0).map(|r| Step::Land(who, r)));
                if self.has(Mistake::SeqReuse) {
                    out.push(Step::Forget(who));
                }
            }
            None if self.pipeline || owner.committed == owner.head => self.appends(state, who, owner, out),
            None => {}
        }
        if self.has(Mistake::EarlyCheck) {
            match owner.check {
                0 if owner.head > owner.committed && state.epoch == owner.epoch => out.push(Step::CheckBegins(who)),
                upto if upto > 0 && owner.durable >= upto => out.push(Step::CheckEnds(who)),
                _ => {}
            }
        } else if owner.durable > owner.committed && (state.epoch == owner.epoch || self.has(Mistake::NoCheck)) {
            out.push(Step::Check(who));
        }
        if self.has(Mistake::SameEpochRestart) && owner.activation == 0 {
            out.extend((0..3).map(|pair| Step::Restart(who, pair)));
        }
    }

    fn appends(&self, state: &State, who: u8, owner: &Owner, out: &mut Vec<Step>) {
        if owner.head >= self.seqs {
            return;
        }
        // An id that was used before is one that its client sends again; of those that were not, the next stands for all.
        let known = |used: u8| (1..=self.ids.min(used + 1)).filter(|id| !owner.log.contains(id));
        for first in known(state.used) {
            out.push(Step::Append(who, first, 0));
            if self.batch > 1 && owner.head + 1 < self.seqs {
                out.extend(known(state.used.max(first)).filter(|second| *second != first).map(|second| Step::Append(who, first, second)));
            }
        }
    }

    pub(super) fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::TakeOver(who, pair) => {
                state.epoch += 1;
                let seen = state.read(pair);
                self.take_over(state, who, &seen, Owner { epoch: state.epoch, ..Owner::default() });
            }
            Step::TakeOverSame(who, pair) => {
                let seen = state.read(pair);
                self.take_over(state, who, &seen, Owner { epoch: state.epoch, ..Owner::default() });
            }
            Step::Restart(who, pair) => {
                state.give_up_batch(who as usize);
                let seen = state.read(pair);
                let Owner { epoch, activation, .. } = state.owners[who as usize];
                self.take_over(state, who, &seen, Owner { epoch, activation: activation + 1, ..Owner::default() });
            }
            Step::Peek(who, pair) => {
                let seen = state.read(pair);
                state.owners[who as usize] = Owner { phase: Phase::Peeked, ..self.found(&seen) };
            }
            Step::Cas(who) => {
                state.epoch += 1;
                let owner = Owner { epoch: state.epoch, ..state.owners[who as usize] };
                self.adopt(state, who, owner, [Row::default(); SEQS]);
            }
            Step::Append(who, first, second) => append(state, who as usize, [first, second]),
            Step::Land(who, replica) => self.land(state, who as usize, replica),
            Step::LandLate(at, replica) => {
                let mut batch = state.late[at as usize];
                state.land(&mut batch, replica);
                state.late[at as usize] = batch;
            }
            Step::Check(who) => state.commit(who as usize, state.owners[who as usize].durable),
            Step::CheckBegins(who) => state.owners[who as usize].check = state.owners[who as usize].head,
            Step::CheckEnds(who) => {
                let upto = std::mem::take(&mut state.owners[who as usize].check);
                state.commit(who as usize, upto);
            }
            Step::Forget(who) => {
                state.give_up_batch(who as usize);
                let owner = &mut state.owners[who as usize];
                owner.log[owner.durable as usize..].fill(0);
                owner.head = owner.durable;
            }
            Step::Page(pair) => state.page = Some(state.read(pair).rows.map(|row| row.what)),
            Step::Show => {
                let page = state.page.take().unwrap_or_default();
                let shown = page.iter().zip(state.truth).take(state.head as usize);
                // A seq that is missing is an error to retry, not shown.
                state.shown_wrong |= shown.into_iter().any(|(shown, truth)| *shown != 0 && *shown != truth);
            }
            Step::Lose(replica, seq) => {
                state.replicas[replica as usize].rows[seq as usize] = Row::default();
                state.lost = true;
            }
        }
    }

    /// What a takeover makes of what it read: the log by the chain rule, committed up to the base.
    fn found(&self, seen: &Replica) -> Owner {
        let mut owner = Owner { durable: seen.committed, committed: seen.committed, ..Owner::default() };
        let mut epoch = 0;
        for (seq, row) in (1u8..).zip(&seen.rows) {
            let dead = seq > seen.committed && row.epoch < epoch && !self.has(Mistake::NoChain);
            if !row.is_there() || dead {
                break;
            }
            if seq >= seen.committed {
                epoch = row.epoch;
            }
            (owner.log[seq as usize - 1], owner.head) = (row.what, seq);
        }
        owner.head = owner.head.max(seen.committed);
        owner
    }

    fn take_over(&self, state: &mut State, who: u8, seen: &Replica, new: Owner) {
        let owner = Owner { epoch: new.epoch, activation: new.activation, ..self.found(seen) };
        self.adopt(state, who, owner, seen.rows);
    }

    /// The chain above the base is written again, or whatever the mistake makes of that.
    fn adopt(&self, state: &mut State, who: u8, owner: Owner, seen: [Row; SEQS]) {
        let index = who as usize;
        let (base, head) = (owner.committed, owner.head);
        state.owners[index] = Owner { phase: Phase::Owning, ..owner };
        if head == base {
            return;
        }
        if self.has(Mistake::AdoptAsIs) {
            state.owners[index].durable = head;
            return state.commit(index, head);
        }
        if self.has(Mistake::AscendingPieces) {
            state.owners[index].pieces = (base + 1, head);
            return next_piece(&mut state.owners[index]);
        }
        let mut batch = batch_of(&state.owners[index], base + 1..=head);
        if self.has(Mistake::OldEpochRewrite) {
            for (row, old) in batch.rows.iter_mut().zip(seen).filter(|(row, _)| row.is_there()) {
                *row = old;
            }
        }
        state.owners[index].batch = Some(batch);
    }

    fn land(&self, state: &mut State, who: usize, replica: u8) {
        let Some(mut batch) = state.owners[who].batch else { return };
        let durable = state.land(&mut batch, replica);
        state.owners[who].batch = Some(batch);
        if durable {
            // Where it is not yet it may land later, with nobody waiting for it.
            state.give_up_batch(who);
            let owner = &mut state.owners[who];
            match owner.pieces {
                (0, _) => owner.durable = owner.head,
                _ => next_piece(owner),
            }
        }
    }
}

/// Rows of an owner's log, under its epoch.
fn batch_of(owner: &Owner, seqs: std::ops::RangeInclusive<u8>) -> Batch {
    let mut batch = Batch { committed: owner.committed, ..Batch::default() };
    for seq in seqs {
        let at = seq as usize - 1;
        batch.rows[at] = Row { epoch: owner.epoch, activation: owner.activation, what: owner.log[at] };
    }
    batch
}

/// Adopting in pieces: the next one.
fn next_piece(owner: &mut Owner) {
    let (next, last) = owner.pieces;
    owner.batch = Some(batch_of(owner, next..=next));
    owner.pieces = if next == last { (0, 0) } else { (next + 1, last) };
}

fn append(state: &mut State, who: usize, ids: [u8; 2]) {
    let owner = &mut state.owners[who];
    let first = owner.head + 1;
    for id in ids.into_iter().filter(|id| *id != 0) {
        owner.log[owner.head as usize] = id;
        owner.head += 1;
        state.used = state.used.max(id);
    }
    owner.batch = Some(batch_of(owner, first..=owner.head));
}
