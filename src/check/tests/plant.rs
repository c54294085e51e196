//! One fault of every kind, planted in correct histories.

use super::generate::{CHANNEL, GROUP, KICKED, ROAMER};
use crate::check::Kind;
use crate::check::history::{Acked, Event, History, Saw, Via, What};
use crate::error::{Code, Retry};
use crate::protocol::ids::{ClientId, MessageId, RoomId, Seq, UserId};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

type Found = Option<()>;
type Spot = (usize, usize);

/// Plants a fault of this kind; `None` when these histories offer no place for it.
pub fn plant(kind: Kind, histories: &mut Vec<History>, rng: &mut StdRng) -> Found {
    let mut p = Planter { histories, rng };
    match kind {
        Kind::Lost => p.lost(),
        Kind::RefusedButDone => p.refused(),
        Kind::SeqGap => p.remove(|_, saw| saw.via == Via::Log),
        Kind::SeqReuse => p.reuse(),
        Kind::Disagreement => p.disagree(),
        Kind::WrongCount => p.count(),
        Kind::Reordered => p.reorder(),
        Kind::RealTime => p.real_time(),
        Kind::Doubled => p.doubled(),
        Kind::ShownTwice => p.twice(),
        Kind::TwoAnswers => p.two_answers(),
        Kind::AckMismatch => p.mismatch(),
        Kind::Phantom => p.phantom(),
        Kind::Gap => p.passed_over(Via::Live),
        Kind::HoleAfterResume => p.passed_over(Via::Resume),
        Kind::Missed => p.missed(),
        Kind::HistoryHole => p.remove(|h, saw| saw.via == Via::History && saw.by != h.user),
        Kind::ReadYourWrites => p.own_write(),
        Kind::Leak => p.leak(),
        Kind::NeverMember => p.stranger(),
    }
}

struct Planter<'a> {
    histories: &'a mut Vec<History>,
    rng: &'a mut StdRng,
}

impl Planter<'_> {
    fn spots(&self, want: impl Fn(&History, &What) -> bool) -> Vec<Spot> {
        let each = |(h, history): (usize, &History)| {
            let events = history.events.iter().enumerate().filter(|(_, event)| want(history, &event.what));
            events.map(|(e, _)| (h, e)).collect::<Vec<_>>()
        };
        self.histories.iter().enumerate().flat_map(each).collect()
    }
    fn saws(&self, want: impl Fn(&History, &Saw) -> bool) -> Vec<(Spot, Saw)> {
        let spots = self.spots(|h, what| matches!(what, What::Saw(saw) if want(h, saw)));
        spots.into_iter().map(|spot| (spot, self.saw(spot))).collect()
    }
    fn saw(&self, (h, e): Spot) -> Saw {
        match &self.histories[h].events[e].what {
            What::Saw(saw) => saw.clone(),
            other => panic!("not a sight: {other:?}"),
        }
    }
    fn acks(&self) -> Vec<(Spot, Acked)> {
        let spots = self.spots(|_, what| matches!(what, What::Acked(_)));
        let acked = |(h, e): Spot| match &self.histories[h].events[e].what {
            What::Acked(acked) => acked.clone(),
            other => panic!("not an answer: {other:?}"),
        };
        spots.into_iter().map(|spot| (spot, acked(spot))).collect()
    }
    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        from.choose(self.rng).cloned()
    }
    fn each_saw(&mut self, mut change: impl FnMut(&mut Saw)) {
        for event in self.histories.iter_mut().flat_map(|h| &mut h.events) {
            if let What::Saw(saw) = &mut event.what {
                change(saw);
            }
        }
    }
    fn each_ack(&mut self, mut change: impl FnMut(&mut Acked)) {
        for event in self.histories.iter_mut().flat_map(|h| &mut h.events) {
            if let What::Acked(acked) = &mut event.what {
                change(acked);
            }
        }
    }
    fn remove(&mut self, want: impl Fn(&History, &Saw) -> bool) -> Found {
        let ((h, e), _) = self.pick(&self.saws(want))?;
        self.histories[h].events.remove(e);
        Some(())
    }

    /// The log ends before an acknowledged entry; nobody ever saw it or what came after.
    fn lost(&mut self) -> Found {
        let (_, lost) = self.pick(&self.acks())?;
        for history in &mut *self.histories {
            history.events.retain(|event| !matches!(&event.what, What::Saw(s) if s.room == lost.room && s.seq >= lost.seq));
            for event in &mut history.events {
                match &mut event.what {
                    What::LogRead { room, head, .. } if *room == lost.room => *head = lost.seq - 1,
                    _ => {}
                }
            }
        }
        Some(())
    }
    fn refused(&mut self) -> Found {
        let ((h, _), acked) = self.pick(&self.acks())?;
        for event in &mut self.histories[h].events {
            let cid_of = match &event.what {
                What::Sent(s) => s.cid,
                What::Acked(a) => a.cid,
                _ => continue,
            };
            if cid_of == acked.cid && matches!(event.what, What::Acked(_)) {
                event.what = What::Refused { room: acked.room, cid: acked.cid, code: Code::Forbidden, retry: Retry::Never };
            }
        }
        // Only a request whose every transmission was answered.
        let count = |want: &dyn Fn(&What) -> bool| self.histories[h].events.iter().filter(|e| want(&e.what)).count();
        let sent = count(&|w| matches!(w, What::Sent(s) if s.cid == acked.cid));
        (sent == count(&|w| matches!(w, What::Refused { cid, .. } if *cid == acked.cid))).then_some(())
    }
    fn reuse(&mut self) -> Found {
        let acks = self.acks();
        let (_, a) = self.pick(&acks)?;
        let others: Vec<_> = acks.into_iter().filter(|(_, b)| b.cid != a.cid && b.room == a.room).collect();
        let (_, b) = self.pick(&others)?;
        if self.rng.random() {
            self.each_ack(|ack| ack.seq = if ack.cid == b.cid { a.seq } else { ack.seq });
        } else {
            let id = a.id?;
            self.each_saw(|saw| saw.id = if saw.cid == Some(b.cid) { id } else { saw.id });
        }
        Some(())
    }
    fn disagree(&mut self) -> Found {
        let ((h, e), _) = self.pick(&self.saws(|_, saw| saw.via == Via::Live))?;
        let how = self.rng.random_range(0..3);
        let What::Saw(saw) = &mut self.histories[h].events[e].what else { return None };
        match how {
            0 => saw.digest ^= 1,
            1 => saw.id = MessageId(saw.id.0 ^ 1),
            _ => saw.cid = Some(ClientId::fresh()),
        }
        Some(())
    }
    fn count(&mut self) -> Found {
        let (_, one) = self.pick(&self.saws(|_, saw| saw.via == Via::Log))?;
        if self.rng.random() {
            self.each_saw(|saw| saw.n += u64::from((saw.room, saw.seq) == (one.room, one.seq)));
        } else {
            self.each_saw(|saw| saw.n += u64::from(saw.room == one.room && saw.seq >= one.seq));
        }
        Some(())
    }
    /// Neighbours in one connection, in one room.
    fn neighbours(&self, via: Via) -> Vec<(usize, Vec<usize>)> {
        let mut runs = Vec::new();
        for (h, history) in self.histories.iter().enumerate() {
            for room in [GROUP, CHANNEL] {
                let mut run: Vec<usize> = Vec::new();
                for (e, event) in history.events.iter().enumerate() {
                    match &event.what {
                        What::Saw(s) if s.room == room && s.via == via && !s.members.iter().any(|(u, _)| *u == history.user) => run.push(e),
                        What::Saw(s) if s.room != room || matches!(s.via, Via::History | Via::Log) => {}
                        What::Sent(_) | What::Acked(_) | What::Refused { .. } | What::HistoryRead { .. } => {}
                        _ => runs.push((h, std::mem::take(&mut run))),
                    }
                }
                runs.push((h, run));
            }
        }
        runs
    }
    fn reorder(&mut self) -> Found {
        let runs: Vec<_> = self.neighbours(Via::Live).into_iter().filter(|(_, run)| run.len() >= 2).collect();
        let (h, run) = self.pick(&runs)?;
        let i = self.rng.random_range(1..run.len());
        let events = &mut self.histories[h].events;
        let (a, b) = (events[run[i - 1]].what.clone(), events[run[i]].what.clone());
        (events[run[i - 1]].what, events[run[i]].what) = (b, a);
        Some(())
    }
    fn passed_over(&mut self, via: Via) -> Found {
        let runs: Vec<_> = self.neighbours(via).into_iter().filter(|(_, run)| run.len() >= 3).collect();
        let (h, run) = self.pick(&runs)?;
        let i = self.rng.random_range(1..run.len() - 1);
        self.histories[h].events.remove(run[i]);
        Some(())
    }
    /// Exchanges two entries, answers included, of which one was sent after the other's answer.
    fn real_time(&mut self) -> Found {
        let messages: Vec<Saw> = self.saws(|_, s| s.via == Via::Log && s.kind == "message").into_iter().map(|(_, s)| s).collect();
        let ends = |room| (messages.iter().find(|s| s.room == room), messages.iter().rfind(|s| s.room == room));
        let (Some(a), Some(b)) = ends(GROUP) else { return None };
        let other = |saw: &Saw| if saw.cid == a.cid { Some(b.clone()) } else { (saw.cid == b.cid).then(|| a.clone()) };
        self.each_saw(|saw| {
            if let Some(other) = other(saw) {
                *saw = Saw { seq: saw.seq, n: saw.n, via: saw.via, folded: saw.folded, ..other };
            }
        });
        self.each_ack(|ack| {
            let place = if Some(ack.cid) == a.cid { b } else { a };
            if [a.cid, b.cid].contains(&Some(ack.cid)) {
                (ack.seq, ack.n) = (place.seq, Some(place.n));
            }
        });
        Some(())
    }
    fn doubled(&mut self) -> Found {
        let logs = self.saws(|_, s| s.via == Via::Log && s.kind == "message");
        let (_, a) = self.pick(&logs)?;
        let rest: Vec<_> = logs.into_iter().filter(|(_, b)| b.cid != a.cid).collect();
        let (_, b) = self.pick(&rest)?;
        self.each_saw(|saw| {
            if saw.cid == b.cid {
                (saw.by, saw.cid, saw.digest) = (a.by, a.cid, a.digest);
            }
        });
        Some(())
    }
    fn twice(&mut self) -> Found {
        let ((h, e), _) = self.pick(&self.saws(|_, s| matches!(s.via, Via::Live | Via::Resume)))?;
        let again = self.histories[h].events[e].clone();
        self.histories[h].events.insert(e + 1, again);
        Some(())
    }
    fn two_answers(&mut self) -> Found {
        let ((h, e), _) = self.pick(&self.acks())?;
        let mut again = self.histories[h].events[e].clone();
        let What::Acked(acked) = &mut again.what else { return None };
        acked.seq += 1;
        self.histories[h].events.insert(e + 1, again);
        Some(())
    }
    fn mismatch(&mut self) -> Found {
        let acks = self.acks();
        let (_, a) = self.pick(&acks)?;
        let seen = self.saws(|_, s| s.cid == Some(a.cid) && s.kind == "message");
        if self.rng.random() && !seen.is_empty() {
            self.each_saw(|saw| saw.digest ^= u64::from(saw.cid == Some(a.cid)));
        } else {
            let seq: Seq = if a.seq > 1 { a.seq - 1 } else { 2 };
            self.each_ack(|ack| ack.seq = if ack.cid == a.cid { seq } else { ack.seq });
        }
        Some(())
    }
    fn phantom(&mut self) -> Found {
        let (spot, last) = self.saws(|_, s| s.via == Via::Log && s.room == GROUP).pop()?;
        let ghost = Saw {
            seq: last.seq + 1,
            n: last.n + 1,
            id: MessageId(last.id.0 ^ 1),
            cid: self.rng.random::<bool>().then(ClientId::fresh),
            kind: "message".into(),
            members: Vec::new(),
            ..last
        };
        let events = &mut self.histories[spot.0].events;
        let at = events[spot.1].at;
        events.insert(spot.1 + 1, Event { at, what: What::Saw(ghost) });
        for event in events {
            if let What::LogRead { room: GROUP, head, .. } = &mut event.what {
                *head += 1;
            }
        }
        Some(())
    }
    /// The last live entries do not arrive.
    fn missed(&mut self) -> Found {
        let tail = self.acks().into_iter().filter(|(_, a)| a.room == GROUP).max_by_key(|(_, a)| a.seq)?.1;
        let h = self.rng.random_range(0..3);
        let live = |e: &Event| matches!(&e.what, What::Saw(s) if s.room == GROUP && s.seq >= tail.seq && s.via == Via::Live);
        let before = self.histories[h].events.len();
        self.histories[h].events.retain(|e| !live(e));
        (self.histories[h].events.len() < before).then_some(())
    }
    fn own_write(&mut self) -> Found {
        let acks = self.acks();
        let acked = |h: &History, s: &Saw| s.by == h.user && acks.iter().any(|(_, a)| Some(a.cid) == s.cid);
        self.remove(|h, s| s.via == Via::History && acked(h, s))
    }
    /// After a membership's end, something that was sent later is shown.
    fn leak(&mut self) -> Found {
        let (user, room) = if self.rng.random() { (KICKED, GROUP) } else { (ROAMER, CHANNEL) };
        let h = self.histories.iter().position(|h| h.user == user)?;
        let ends = |e: &Event| match &e.what {
            What::Saw(s) => room == GROUP && s.room == room && s.members.contains(&(user, false)),
            What::Left { room: left } => room == CHANNEL && *left == room,
            _ => false,
        };
        let e = self.histories[h].events.iter().position(ends)?;
        let since = self.histories[h].events[e].at;
        let (sender, sent) = self.next_send(room, since)?;
        let (_, saw) = self.saws(|_, s| s.via == Via::Log && s.cid == Some(sent)).pop()?;
        let at = self.histories[sender.0].events[sender.1].at + 1;
        self.is_out(h, e, &saw)?;
        self.no_return(user, room, since, at)?;
        let place = self.histories[h].events.partition_point(|e| e.at <= at);
        self.histories[h].events.insert(place, Event { at, what: What::Saw(Saw { via: Via::Live, ..saw }) });
        Some(())
    }
    /// The server, too, had the user outside at that entry: a return may be under way before its own end is read.
    fn is_out(&self, h: usize, e: usize, saw: &Saw) -> Found {
        let (user, events) = (self.histories[h].user, &self.histories[h].events[..=e]);
        if saw.room == GROUP {
            let about = |s: &Saw| s.members.iter().find(|(u, _)| *u == user).map(|(_, begins)| (s.seq, *begins));
            let turns = self.saws(|_, s| s.via == Via::Log && s.room == GROUP).into_iter().filter_map(|(_, s)| about(&s));
            return turns.filter(|(seq, _)| *seq < saw.seq).last().filter(|(_, begins)| !begins).map(drop);
        }
        let asked = events.iter().filter(|e| matches!(&e.what, What::Sent(s) if s.room == CHANNEL && s.kind == "member")).count();
        let told = |e: &&Event| matches!(&e.what, What::Left { room } | What::Entered { room } if *room == CHANNEL);
        (asked == events.iter().filter(told).count()).then_some(())
    }
    fn next_send(&self, room: RoomId, since: u64) -> Option<(Spot, ClientId)> {
        let mut first: Option<(u64, Spot, ClientId)> = None;
        let mut known = std::collections::BTreeSet::new();
        for (h, history) in self.histories.iter().enumerate() {
            for (e, event) in history.events.iter().enumerate() {
                let What::Sent(s) = &event.what else { continue };
                let fresh = known.insert(s.cid);
                if fresh && s.room == room && s.kind == "message" && event.at > since && first.is_none_or(|(at, ..)| event.at < at) {
                    first = Some((event.at, (h, e), s.cid));
                }
            }
        }
        first.map(|(_, spot, cid)| (spot, cid))
    }
    /// Nobody asked for the user's return in between.
    fn no_return(&self, user: UserId, room: RoomId, since: u64, until: u64) -> Found {
        let asks = |h: &History, e: &Event| {
            matches!(&e.what, What::Sent(s) if s.kind == "member" && s.room == room && (room == GROUP || h.user == user))
                || matches!(&e.what, What::Entered { room: r } if *r == room && h.user == user)
        };
        let back = self.histories.iter().any(|h| h.events.iter().any(|e| e.at > since && e.at <= until && asks(h, e)));
        (!back).then_some(())
    }
    fn stranger(&mut self) -> Found {
        let (_, saw) = self.pick(&self.saws(|_, s| s.via == Via::Live))?;
        let via = if self.rng.random() { Via::Live } else { Via::History };
        let events = vec![Event { at: 1_000_000, what: What::Saw(Saw { via, ..saw }) }];
        self.histories.push(History { user: UserId(77), replica: "spy".into(), clock: 5, truncated: false, events });
        Some(())
    }
}
