//! What all histories say together: entries, sends, answers, memberships and readings of the log, indexed for the rules.

use super::history::{Acked, History, Micros, Saw, Sent, Via, What};
use super::verdict::{At, Stats};
use crate::protocol::ids::{ClientId, RoomId, Seq, UserId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A client id belongs to its user.
pub type Key = (UserId, ClientId);

/// An entry as somebody was shown it first.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// Where.
    pub at: At,
    /// What.
    pub saw: &'a Saw,
    /// Where another client was shown the same.
    pub other: Option<At>,
}

/// One request, over all its transmissions.
#[derive(Default)]
pub struct Request<'a> {
    /// Its transmissions.
    pub sent: Vec<(At, &'a Sent)>,
    /// Refusals that promise that nothing was done.
    pub refused: Vec<At>,
}

/// A reading of a room's whole log.
pub struct Log {
    /// Where it was noted.
    pub at: At,
    /// When it began.
    pub began: Micros,
    /// The first seq.
    pub from: Seq,
    /// The committed head.
    pub head: Seq,
    /// The seqs it gave.
    pub seqs: BTreeSet<Seq>,
}

/// A change of one user's membership of one room.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The entry.
    pub seq: Seq,
    /// Begins, or ends.
    pub begins: bool,
    /// Whose request it was.
    pub by: Option<Key>,
}

/// Something a user's own client asked or was told about its membership.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Which clock.
    pub clock: u64,
    /// When.
    pub at: Micros,
    /// What.
    pub step: Step,
}

/// See [`Move`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Some membership request in the room was transmitted.
    Asked,
    /// It is in.
    Came,
    /// It is out.
    Went,
}

/// Acknowledged seqs of one clock, by the time of the answer, with the largest so far.
#[derive(Default)]
pub struct Heads(Vec<(Micros, Seq, At)>);

impl Heads {
    /// The largest seq acknowledged before `time`, and the answer.
    pub fn before(&self, time: Micros) -> Option<(Seq, At)> {
        let upto = self.0.partition_point(|(at, ..)| *at < time);
        upto.checked_sub(1).map(|i| (self.0[i].1, self.0[i].2))
    }
    fn finish(&mut self) {
        self.0.sort_unstable();
        let mut best: Option<(Seq, At)> = None;
        for (_, seq, at) in &mut self.0 {
            best = best.filter(|(s, _)| s >= seq).or(Some((*seq, *at)));
            (*seq, *at) = best.unwrap_or((*seq, *at));
        }
    }
}

/// Everything the histories say.
#[derive(Default)]
pub struct Facts<'a> {
    /// The histories.
    pub histories: &'a [History],
    /// The distinct contents that were shown at each place; more than one is a fault.
    pub entries: BTreeMap<(RoomId, Seq), Vec<Sight<'a>>>,
    /// Requests.
    pub requests: HashMap<Key, Request<'a>>,
    /// Answers.
    pub answers: HashMap<Key, Vec<(At, &'a Acked)>>,
    /// Readings of logs.
    pub logs: BTreeMap<RoomId, Vec<Log>>,
    /// Membership changes, by seq.
    pub turns: HashMap<(RoomId, UserId), Vec<Turn>>,
    /// What a user's own clients asked and were told about its membership.
    pub moves: HashMap<(RoomId, UserId), Vec<Move>>,
    /// Users with a history.
    pub users: HashSet<UserId>,
    heads: HashMap<(u64, RoomId), Heads>,
    own_heads: HashMap<(u64, RoomId, UserId), Heads>,
    shown: usize,
}

impl<'a> Facts<'a> {
    /// Reads the histories once.
    pub fn gather(histories: &'a [History]) -> Facts<'a> {
        let mut facts = Facts { histories, ..Facts::default() };
        for (h, history) in histories.iter().enumerate() {
            facts.users.insert(history.user);
            let mut log: HashMap<RoomId, BTreeSet<Seq>> = HashMap::new();
            for (e, event) in history.events.iter().enumerate() {
                match &event.what {
                    What::Saw(saw) => {
                        if saw.via == Via::Log {
                            log.entry(saw.room).or_default().insert(saw.seq);
                        }
                        facts.shown((h, e), saw);
                    }
                    What::LogRead { room, began, from, head } => {
                        let seqs = log.remove(room).unwrap_or_default();
                        let log = Log { at: (h, e), began: *began, from: *from, head: *head, seqs };
                        facts.logs.entry(*room).or_default().push(log);
                    }
                    what => facts.noted((h, e), event.at, what),
                }
            }
        }
        facts.memberships();
        facts.moves.values_mut().for_each(|moves| moves.sort_by_key(|m| m.at));
        facts.heads.values_mut().chain(facts.own_heads.values_mut()).for_each(Heads::finish);
        facts
    }

    fn shown(&mut self, at: At, saw: &'a Saw) {
        self.shown += 1;
        let sights = self.entries.entry((saw.room, saw.seq)).or_default();
        match sights.iter_mut().find(|s| same(s.saw, saw)) {
            Some(known) => {
                if known.other.is_none() && known.at.0 != at.0 {
                    known.other = Some(at);
                }
                // The entry as it was sent says more than one with an edit folded in.
                if known.saw.folded && !saw.folded {
                    known.saw = saw;
                }
            }
            None => sights.push(Sight { at, saw, other: None }),
        }
    }

    fn noted(&mut self, at: At, time: Micros, what: &'a What) {
        let History { user, clock, .. } = self.histories[at.0];
        let mut moved = |room: RoomId, step| self.moves.entry((room, user)).or_default().push(Move { clock, at: time, step });
        match what {
            What::Sent(sent) => {
                if sent.kind == "member" {
                    moved(sent.room, Step::Asked);
                }
                self.requests.entry((user, sent.cid)).or_default().sent.push((at, sent));
            }
            What::Acked(acked) => {
                self.answers.entry((user, acked.cid)).or_default().push((at, acked));
                self.heads.entry((clock, acked.room)).or_default().0.push((time, acked.seq, at));
                self.own_heads.entry((clock, acked.room, user)).or_default().0.push((time, acked.seq, at));
            }
            What::Refused { cid, code, .. } if nothing_done(*code) => self.requests.entry((user, *cid)).or_default().refused.push(at),
            What::Entered { room } => moved(*room, Step::Came),
            What::Left { room } => moved(*room, Step::Went),
            _ => {}
        }
    }

    fn memberships(&mut self) {
        for ((room, seq), sights) in &self.entries {
            let saw = sights[0].saw;
            for (user, begins) in &saw.members {
                let turn = Turn { seq: *seq, begins: *begins, by: saw.cid.map(|cid| (saw.by, cid)) };
                self.turns.entry((*room, *user)).or_default().push(turn);
            }
        }
    }

    /// The entry at a place, as it was shown first.
    pub fn entry(&self, room: RoomId, seq: Seq) -> Option<Sight<'a>> {
        self.entries.get(&(room, seq)).map(|sights| sights[0])
    }
    /// An event's time and clock.
    pub fn time(&self, at: At) -> (u64, Micros) {
        (self.histories[at.0].clock, self.histories[at.0].events[at.1].at)
    }
    /// When a request was first transmitted.
    pub fn first_sent(&self, key: Key) -> Option<(u64, Micros)> {
        self.requests.get(&key)?.sent.iter().map(|(at, _)| self.time(*at)).min_by_key(|(_, time)| *time)
    }
    /// The largest seq that anybody of this clock had acknowledged before `time`.
    pub fn head_before(&self, clock: u64, room: RoomId, time: Micros) -> Option<(Seq, At)> {
        self.heads.get(&(clock, room))?.before(time)
    }
    /// The largest seq that the user itself had acknowledged before `time`.
    pub fn own_head_before(&self, clock: u64, room: RoomId, user: UserId, time: Micros) -> Option<(Seq, At)> {
        self.own_heads.get(&(clock, room, user))?.before(time)
    }
    /// The answer that gave the user's own entry at a place.
    pub fn own_answer(&self, user: UserId, room: RoomId, seq: Seq) -> Option<At> {
        let saw = self.entry(room, seq)?.saw;
        let answers = self.answers.get(&(user, saw.cid?)).filter(|_| saw.by == user)?;
        answers.iter().find(|(_, acked)| acked.room == room && acked.seq == seq).map(|(at, _)| *at)
    }
    /// Whether the user was to be shown the entry live. Where entries do not tell (channels), a join that was asked for does.
    pub fn member_at(&self, room: RoomId, user: UserId, seq: Seq) -> bool {
        let turns = self.turns.get(&(room, user)).map(Vec::as_slice).unwrap_or_default();
        match turns.iter().rev().find(|turn| turn.seq <= seq) {
            Some(turn) => turn.begins || turn.seq == seq,
            None => self.moves.contains_key(&(room, user)),
        }
    }
    /// Whether the user is out at `seq`, or goes out with it: who was away then is told so by the resume and not by the entry.
    pub fn out_at(&self, room: RoomId, user: UserId, seq: Seq) -> bool {
        let turns = self.turns.get(&(room, user)).map(Vec::as_slice).unwrap_or_default();
        turns.iter().rev().find(|turn| turn.seq <= seq).is_some_and(|turn| !turn.begins)
    }
    /// Rooms in which something was acknowledged.
    pub fn rooms_acked(&self) -> impl Iterator<Item = RoomId> + '_ {
        let rooms: BTreeSet<RoomId> = self.heads.keys().map(|(_, room)| *room).collect();
        rooms.into_iter()
    }
    /// How much there is.
    pub fn stats(&self) -> Stats {
        Stats {
            clients: self.histories.len(),
            events: self.histories.iter().map(|h| h.events.len()).sum(),
            rooms: self.entries.keys().map(|(room, _)| *room).chain(self.rooms_acked()).collect::<BTreeSet<_>>().len(),
            sent: self.requests.values().filter(|r| !r.sent.is_empty()).count(),
            acked: self.answers.len(),
            entries: self.entries.len(),
            shown: self.shown,
        }
    }
}

/// Two sights of one place agree; where an edit or a deletion is folded in, the text may differ.
pub fn same(a: &Saw, b: &Saw) -> bool {
    let facts = |s: &Saw| (s.id, s.by, s.cid, s.n);
    facts(a) == facts(b) && a.kind == b.kind && (a.folded || b.folded || a.digest == b.digest)
}

/// The code promises that the request changed nothing.
fn nothing_done(code: crate::error::Code) -> bool {
    use crate::error::Code::*;
    matches!(code, Malformed | Invalid | UnknownOp | Forbidden | NotFound | TooLarge | RateLimited | Busy | QuotaExceeded)
}
