//! Rules on what one replica was shown, live and by resumes: in order, once, without holes, over all its reconnects.
//!
//! A gap counts when its connection (or the resume before it) is over: an entry that still came, too late, is reordered instead.

use super::Options;
use super::facts::Facts;
use super::history::{History, Micros, Saw, Via, What};
use super::verdict::{At, Kind, Report};
use crate::protocol::ids::{RoomId, Seq};
use std::collections::{BTreeMap, BTreeSet};

/// Of a single gap this many seqs are looked at one by one; a longer one is a fault anyway.
const GAP_MAX: u64 = 10_000;

/// Where a replica stands in a room.
#[derive(Default)]
struct Place {
    /// The last seq shown in order; none after a reconnect without a resume.
    applied: Option<Seq>,
    /// What the client said it has, or was told to take as applied.
    held: Seq,
    shown: BTreeSet<Seq>,
    /// Passed over: where that was noticed, and whether by a resume.
    missing: BTreeMap<Seq, (At, bool)>,
    /// A resume is under way; when it began.
    resuming: Option<Micros>,
}

struct Stream<'a, 'r, 'h> {
    facts: &'a Facts<'h>,
    options: &'a Options,
    report: &'a mut Report<'r>,
    history: &'a History,
    places: BTreeMap<RoomId, Place>,
    /// When this connection began: a resume on it asked no earlier.
    connected: Micros,
}

pub(super) fn check<'h>(facts: &Facts<'h>, options: &Options, report: &mut Report<'h>) {
    for (h, history) in facts.histories.iter().enumerate() {
        let mut stream = Stream { facts, options, report: &mut *report, history, places: BTreeMap::new(), connected: 0 };
        for (e, event) in history.events.iter().enumerate() {
            stream.event((h, e), event.at, &event.what);
        }
        stream.settle_all();
    }
}

impl Stream<'_, '_, '_> {
    fn event(&mut self, at: At, time: Micros, what: &What) {
        match what {
            What::Saw(saw) if matches!(saw.via, Via::Live | Via::Resume) => self.saw(at, saw),
            What::Connected | What::Closed { .. } => {
                self.settle_all();
                self.connected = time;
                for place in self.places.values_mut() {
                    (place.applied, place.resuming) = (None, None);
                }
            }
            What::ResumeStarted { room, have } => self.start(*room, *have, Some(time)),
            What::Began { room, from, .. } => self.start(*room, *from, Some(self.connected)),
            What::Resync { room, head } => {
                self.settle(*room);
                self.places.remove(room);
                self.start(*room, *head, None);
            }
            What::Resumed { room, head } => self.resumed(at, *room, *head),
            What::Left { room } => {
                self.settle(*room);
                self.places.remove(room);
            }
            What::Settled { since } => self.settled(at, *since),
            What::Acked(acked) if !self.options.own_shown => {
                let place = self.places.entry(acked.room).or_default();
                if place.applied.is_some_and(|applied| applied + 1 == acked.seq) {
                    place.applied = Some(acked.seq);
                }
            }
            _ => {}
        }
    }

    fn saw(&mut self, at: At, saw: &Saw) {
        let place = self.places.entry(saw.room).or_default();
        let (seq, position) = (saw.seq, (saw.room, Some(saw.seq)));
        let applied = place.applied.unwrap_or(seq.saturating_sub(1));
        if place.missing.remove(&seq).is_some() {
            let what = format!("came after seq {applied}");
            self.report.add(Kind::Reordered, position, saw.cid, &[at], what);
        } else if place.shown.contains(&seq) || (seq <= place.held && seq <= applied) {
            self.report.add(Kind::ShownTwice, position, saw.cid, &[at], "this replica already had it");
        } else if seq <= applied {
            // With own entries not shown, the answer counted; their late entry is neither a repeat nor out of order.
            let own = !self.options.own_shown && saw.by == self.history.user;
            if !own {
                self.report.add(Kind::Reordered, position, saw.cid, &[at], format!("came after seq {applied}"));
            }
        }
        let by_resume = place.resuming.is_some() || saw.via == Via::Resume;
        let gap = applied + 1..seq.min(applied.saturating_add(GAP_MAX));
        place.missing.extend(gap.map(|passed| (passed, (at, by_resume))));
        place.shown.insert(seq);
        place.applied = Some(applied.max(seq));
    }

    fn start(&mut self, room: RoomId, have: Seq, resuming: Option<Micros>) {
        self.settle(room);
        let place = self.places.entry(room).or_default();
        // A client that asks from further back has forgotten the rest.
        place.shown.split_off(&(have + 1));
        (place.applied, place.held) = (Some(have), have);
        place.resuming = place.resuming.or(resuming);
    }

    fn resumed(&mut self, at: At, room: RoomId, head: Seq) {
        self.settle(room);
        let (user, clock) = (self.history.user, self.history.clock);
        let place = self.places.entry(room).or_default();
        let Some(started) = place.resuming.take() else { return };
        let applied = place.applied.unwrap_or(head);
        if applied < head && self.facts.member_at(room, user, head) {
            let what = format!("the resume ended at seq {applied}, the head is {head}");
            self.report.add(Kind::HoleAfterResume, (room, Some(applied + 1)), None, &[at], what);
        }
        let newer = |(seq, _): &(Seq, At)| *seq > applied && self.facts.member_at(room, user, *seq);
        let what = |seq| format!("the resume ended at seq {applied}; seq {seq} was acknowledged before it began");
        if let Some((seq, acked)) = self.facts.own_head_before(clock, room, user, started).filter(newer) {
            self.report.add(Kind::ReadYourWrites, (room, Some(seq)), None, &[acked, at], what(seq));
        } else if let Some((seq, acked)) = self.facts.head_before(clock, room, started).filter(newer) {
            self.report.add(Kind::HoleAfterResume, (room, Some(seq)), None, &[acked, at], what(seq));
        }
    }

    fn settled(&mut self, at: At, since: Micros) {
        self.settle_all();
        let (user, clock) = (self.history.user, self.history.clock);
        for room in self.facts.rooms_acked() {
            // A room that this replica was never told of counts when entries say that the user is in it.
            let place = self.places.get(&room);
            let Some((seq, acked)) = self.facts.head_before(clock, room, since) else { continue };
            let by_entries = self.facts.turns.contains_key(&(room, user)) && !self.facts.out_at(room, user, seq);
            if (place.is_none() && !by_entries) || !self.facts.member_at(room, user, seq) {
                continue;
            }
            let applied = place.and_then(|p| p.applied.or(p.shown.last().copied())).unwrap_or(0);
            let own = !self.options.own_shown && self.facts.own_answer(user, room, seq).is_some();
            if applied < seq && !own {
                let what = format!("all was quiet, and this replica was shown nothing after seq {applied}");
                self.report.add(Kind::Missed, (room, Some(seq)), None, &[acked, at], what);
            }
        }
    }

    fn settle_all(&mut self) {
        for room in self.places.keys().copied().collect::<Vec<_>>() {
            self.settle(room);
        }
    }

    /// What was passed over and has not come by now will not come any more.
    fn settle(&mut self, room: RoomId) {
        let Some(place) = self.places.get_mut(&room) else { return };
        for (seq, (at, by_resume)) in std::mem::take(&mut place.missing) {
            let own = self.facts.own_answer(self.history.user, room, seq);
            if !self.facts.member_at(room, self.history.user, seq) || (own.is_some() && !self.options.own_shown) {
                continue;
            }
            let kind = if by_resume { Kind::HoleAfterResume } else { Kind::Gap };
            self.report.add(kind, (room, Some(seq)), None, &[at], "passed over and never shown");
            if let Some(acked) = own {
                self.report.add(Kind::ReadYourWrites, (room, Some(seq)), None, &[acked, at], "acknowledged to this user, then left out");
            }
        }
    }
}
