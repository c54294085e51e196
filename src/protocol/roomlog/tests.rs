//! Random requests against a model that folds the whole log: numbers, repeats, rights, and that a rebuilt room decides as the old one.

use super::*;
use crate::protocol::entry::FOREVER;
use crate::protocol::ids::ClientId;
use crate::protocol::ops::Create;
use crate::protocol::policy::{allows, allows_now};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

const ROOM: RoomId = RoomId(7);
const REPEAT_WINDOW: u64 = 1_500;
const BOUNDS: Bounds = Bounds { repeat_window: REPEAT_WINDOW, members_max: 1_000 };

fn cid(n: u64) -> ClientId {
    ClientId(uuid::Uuid::from_u128(u128::from(n)))
}

/// What the log says, folded from its beginning.
#[derive(Default)]
struct Model {
    log: Vec<Entry>,
    places: HashMap<UserId, Place>,
    slow_mode_s: u32,
    archived: bool,
}

impl Model {
    fn push(&mut self, entry: Entry) {
        match &entry.body {
            Body::Room(change) => {
                self.places.extend(change.members.iter().map(|(u, r)| (*u, Place::from(Standing::Member(*r)))));
                self.slow_mode_s = change.slow_mode_s.unwrap_or(self.slow_mode_s);
                self.archived = change.archived.unwrap_or(self.archived);
            }
            Body::Member(change) => {
                let after = place_after(self.place(change.user), change);
                self.places.insert(change.user, after);
                if change.change == Change::Transfer {
                    self.places.insert(entry.by, Standing::Member(Role::Admin).into());
                }
            }
            _ => {}
        }
        self.log.push(entry);
    }
    fn place(&self, user: UserId) -> Place {
        self.places.get(&user).copied().unwrap_or(Place::NONE)
    }
    fn standing(&self, user: UserId) -> Standing {
        self.place(user).standing
    }
    /// Whether slow mode lets the user speak at `now`, by a search of the whole log.
    fn may_speak(&self, kind: RoomKind, user: UserId, now: Millis) -> bool {
        let last = self.log.iter().rev().find(|e| e.by == user && e.body.is_message()).map(|e| e.at);
        let free = allows(kind, self.standing(user), Act::SkipSlowMode).is_ok();
        free || last.is_none_or(|at| at + u64::from(self.slow_mode_s) * 1_000 <= now)
    }
    fn at(&self, seq: Seq) -> Option<&Entry> {
        self.log.get((seq as usize).checked_sub(1)?)
    }
    fn first(&self, user: UserId, cid: ClientId) -> Option<&Entry> {
        self.log.iter().find(|e| e.by == user && e.cid == Some(cid))
    }
    fn old(&self, seq: Seq) -> Old {
        let deleted = self.log.iter().any(|e| matches!(&e.body, Body::Delete(t) if t.seq == seq));
        Old { by: self.at(seq).filter(|e| e.body.is_message()).map(|e| e.by), deleted }
    }
    fn messages(&self) -> u64 {
        self.log.iter().filter(|e| e.body.is_message()).count() as u64
    }
    fn count(&self, role: Option<Role>) -> u64 {
        let is = |p: &&Place| matches!(p.standing, Standing::Member(r) if role.is_none_or(|want| want == r));
        self.places.values().filter(is).count() as u64
    }
    /// Whether the policy allows what became an entry.
    fn may(&self, kind: RoomKind, user: UserId, now: Millis, body: &Body) -> bool {
        let act = match body {
            Body::Message(_) if !self.may_speak(kind, user, now) => return false,
            Body::Message(_) => Act::Send,
            Body::Edit(e) if self.old(e.seq) == (Old { by: Some(user), deleted: false }) => Act::EditOwn,
            Body::Delete(t) if !self.old(t.seq).deleted => Act::Delete { own: self.old(t.seq).by == Some(user) },
            Body::React(r) if !self.old(r.seq).deleted => Act::React,
            Body::Pin(p) if !self.old(p.seq).deleted => Act::Pin,
            Body::Room(RoomChange { archived: Some(false), .. }) => Act::Unarchive,
            Body::Room(_) => Act::UpdateRoom,
            Body::Member(m) => match (m.change, self.standing(m.user)) {
                (Change::Leave, Standing::Member(_)) => Act::Leave,
                (Change::Invite, Standing::Stranger) => Act::Invite { as_role: m.role.unwrap_or(Role::Owner) },
                (Change::Kick, Standing::Member(target)) => Act::Kick { target },
                (Change::Ban, Standing::Member(target)) => Act::Ban { target: Some(target) },
                (Change::Ban, Standing::Stranger) => Act::Ban { target: None },
                (Change::Unban, Standing::Banned) => Act::Unban,
                (Change::Mute, Standing::Member(target)) if m.until.is_none_or(|until| until > now) => Act::Mute { target },
                (Change::Unmute, Standing::Member(target)) if self.place(m.user).is_muted(now) => Act::Mute { target },
                (Change::Transfer, Standing::Member(_)) if m.user != user => Act::Transfer,
                (Change::Role, Standing::Member(target)) => Act::SetRole { target, to: m.role.unwrap_or(Role::Owner) },
                _ => return false,
            },
            _ => return false,
        };
        let restraint = Restraint { archived: self.archived, muted: self.place(user).is_muted(now) };
        allows_now(kind, self.standing(user), restraint, act).is_ok()
    }
}

/// Decides, and answers whatever is asked for from the model.
fn settle(log: &mut RoomLog, model: &Model, user: UserId, request: &Request, now: Millis) -> Decision {
    let mut searched = None;
    for _ in 0..10 {
        match log.decide(user, request, now, searched.clone(), BOUNDS) {
            Decision::Need(Need::Standing(who)) => log.learn_place(who, model.place(who)),
            Decision::Need(Need::Old(seq)) => log.learn_old(seq, model.old(seq)),
            Decision::Need(Need::Search { from, to }) => {
                let wanted = once(request).map(|(cid, _)| cid);
                let hit = (from..=to).filter_map(|seq| model.at(seq)).find(|e| e.by == user && e.cid == wanted);
                searched = Some(hit.map(Recent::of));
            }
            decision => return decision,
        }
    }
    panic!("{request:?} is never decided");
}

struct Run {
    rng: StdRng,
    kind: RoomKind,
    log: RoomLog,
    model: Model,
    /// Requests that were sent, with their users: to be sent again.
    sent: Vec<(UserId, Request)>,
    fresh: u64,
    /// The owner's clock.
    now: Millis,
}

impl Run {
    fn new(seed: u64, kind: RoomKind) -> Run {
        let settings = Settings::default();
        let mut run = Run {
            rng: StdRng::seed_from_u64(seed),
            kind,
            log: RoomLog::new(ROOM, settings, []),
            model: Model::default(),
            sent: Vec::new(),
            fresh: 1,
            now: 1_000,
        };
        let create: Create = serde_json::from_value(json!({ "kind": kind, "name": "r", "members": ["2", "3"], "cid": cid(1) })).unwrap();
        run.append(UserId(1), Some(create.cid), creation(UserId(1), &create));
        run
    }

    fn append(&mut self, user: UserId, cid: Option<ClientId>, body: Body) {
        let entry = self.log.number(user, cid, body, MessageId(self.model.log.len() as u64 + 1), self.now);
        assert_eq!(entry.seq, self.model.log.len() as u64 + 1, "contiguous from 1");
        self.model.push(entry.clone());
        assert_eq!(entry.n, self.model.messages(), "n counts messages");
        if self.rng.random_ratio(2, 3) {
            let to = self.rng.random_range(self.log.committed()..=self.log.head());
            self.log.commit(to);
        }
    }

    fn request(&mut self) -> (UserId, Request) {
        self.now += self.rng.random_range(0..2_000);
        if !self.sent.is_empty() && self.rng.random_ratio(1, 4) {
            let again = self.sent[self.rng.random_range(0..self.sent.len())].clone();
            return if self.rng.random_ratio(1, 5) { (again.0, with_other_body(again.1)) } else { again };
        }
        self.fresh += 1;
        let user = UserId(self.rng.random_range(1..=4));
        let (seq, other) = (self.rng.random_range(0..=self.log.head() + 1), self.rng.random_range(1u64..=4).to_string());
        let role = [Role::Reader, Role::Member, Role::Moderator, Role::Admin, Role::Owner][self.rng.random_range(0..5)];
        let mut fields = json!({
            "room": "7", "cid": cid(self.fresh), "since": self.log.committed(), "text": format!("t{}", self.fresh), "seq": seq,
            "emoji": "x", "on": self.rng.random::<bool>(), "user": other, "role": role, "name": format!("n{}", self.fresh),
        });
        if self.rng.random_ratio(2, 3) {
            fields["until"] = (self.now + self.rng.random_range(0..20_000)).into();
        }
        if self.rng.random_ratio(1, 2) {
            fields["slow_mode_s"] = self.rng.random_range(0u32..5).into();
        }
        // Seldom, or nothing else would be seen.
        if let 0..6 = self.rng.random_range(0..12) {
            fields["archived"] = self.rng.random_ratio(1, 6).into();
        }
        let request = match self.rng.random_range(0..18) {
            0 => Request::Edit(read(&fields)),
            1 => Request::Delete(read(&fields)),
            2 => Request::React(read(&fields)),
            3 => Request::Pin(read(&fields)),
            4 => Request::Leave(read(&fields)),
            5 | 6 => Request::Invite(read(&fields)),
            7 => Request::Kick(read(&fields)),
            8 => Request::Ban(read(&fields)),
            9 => Request::Unban(read(&fields)),
            10 => Request::Role(read(&fields)),
            11 | 12 => Request::Update(read(&fields)),
            13 => Request::Mute(read(&fields)),
            14 => Request::Unmute(read(&fields)),
            15 if self.rng.random_ratio(1, 3) => Request::Transfer(read(&fields)),
            _ => {
                fields["reply_to"] = serde_json::Value::Null;
                Request::Send(read(&fields))
            }
        };
        self.sent.push((user, request.clone()));
        (user, request)
    }

    fn step(&mut self) {
        let (user, request) = self.request();
        self.take(user, request);
    }

    /// Something that was sent before, once more.
    fn again(&mut self) {
        let (user, request) = self.sent[self.rng.random_range(0..self.sent.len())].clone();
        let request = if self.rng.random_ratio(1, 5) { with_other_body(request) } else { request };
        self.take(user, request);
    }

    /// Decides, and holds the decision against what the whole log says.
    fn take(&mut self, user: UserId, request: Request) {
        let (id, since) = once(&request).unwrap();
        let decision = settle(&mut self.log, &self.model, user, &request, self.now);
        let first = self.model.first(user, id).map(|e| (e.seq, hash_body(&e.body)));
        let reads = allows(self.kind, self.model.standing(user), Act::Read).is_ok();
        match (decision, first) {
            (Decision::Append(body), None) => {
                assert!(self.model.may(self.kind, user, self.now, &body), "{user:?} may not: {body:?}");
                self.append(user, Some(id), body);
            }
            (Decision::Append(_), Some((seq, _))) => panic!("{request:?} is at seq {seq} already"),
            (Decision::Repeat(found), first) => {
                let body = plain_body(&request, user).unwrap();
                assert_eq!(first, Some((found.seq, hash_body(&body))), "a repeat is the same request");
            }
            (Decision::Refuse(error), Some((_, hash))) if reads => {
                let other = plain_body(&request, user).is_some_and(|b| hash_body(&b) != hash);
                let far = error.code == Code::Resync && self.log.head() - since > REPEAT_WINDOW;
                assert!(far || (other && error.code == Code::Conflict), "{request:?}: {error:?}");
            }
            (Decision::Subscribe(who, role), _) => {
                let standing = role.map_or(Standing::Stranger, Standing::Member);
                self.model.places.insert(who, Place { standing, ..self.model.place(who) });
                self.log.subscribed(who, role);
            }
            (Decision::Refuse(_) | Decision::Done, _) => {}
            (decision, _) => panic!("{decision:?}"),
        }
        assert_eq!((self.log.members(), self.log.settings().owners), (self.model.count(None), self.model.count(Some(Role::Owner))));
        assert!(self.model.count(None) == 0 || self.model.count(Some(Role::Owner)) > 0, "a room with members keeps an owner");
    }

    /// The room as a restart builds it, its derived state being as of `applied`.
    fn rebuilt(&self, applied: Seq) -> RoomLog {
        let (before, after) = self.model.log.split_at(applied as usize);
        let mut past = Model::default();
        let mut settings = Settings { applied, n: before.last().map_or(0, |e| e.n), ..Settings::default() };
        for entry in before {
            if let Body::Room(change) = &entry.body {
                settings.kind = change.kind.or(settings.kind);
                settings.name = change.name.clone().unwrap_or(settings.name);
                settings.topic = change.topic.clone().unwrap_or(settings.topic);
                settings.slow_mode_s = change.slow_mode_s.unwrap_or(settings.slow_mode_s);
                settings.archived = change.archived.unwrap_or(settings.archived);
            }
            past.push(entry.clone());
        }
        (settings.members, settings.owners) = (past.count(None), past.count(Some(Role::Owner)));
        let mut log = RoomLog::new(ROOM, settings, past.places);
        let from = before.len().min(self.model.log.len().saturating_sub(WINDOW));
        before[from..].iter().for_each(|entry| log.remember(entry));
        after.iter().for_each(|entry| log.replay(entry));
        log
    }
}

fn read<T: serde::de::DeserializeOwned>(fields: &serde_json::Value) -> T {
    serde_json::from_value(fields.clone()).unwrap()
}

/// The same client id with something else in it, where that is possible.
fn with_other_body(request: Request) -> Request {
    match request {
        Request::Send(mut r) => {
            r.text.push('!');
            Request::Send(r)
        }
        Request::React(mut r) => {
            r.on = !r.on;
            Request::React(r)
        }
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_decision_is_what_the_whole_log_says(seed: u64) {
        let mut run = Run::new(seed, RoomKind::Group);
        (0..400).for_each(|_| run.step());
    }

    #[test]
    fn a_room_that_was_built_again_decides_the_same(seed: u64, at in 0.0..1.0f64) {
        let mut run = Run::new(seed, RoomKind::Group);
        (0..250).for_each(|_| run.step());
        run.log.commit(run.log.head());
        let mut again = run.rebuilt((run.log.head() as f64 * at) as Seq);
        prop_assert_eq!(again.settings(), run.log.settings());
        for _ in 0..60 {
            let (user, request) = run.request();
            let now = run.now;
            let (a, b) = (settle(&mut run.log, &run.model, user, &request, now), settle(&mut again, &run.model, user, &request, now));
            prop_assert_eq!(a, b, "{:?} of {:?}", request, user);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Far more entries than the window: repeats behind it are searched for, or refused with `resync`, and never appended.
    #[test]
    fn a_repeat_never_gets_through_behind_the_window(seed: u64) {
        let mut run = Run::new(seed, RoomKind::Group);
        for n in 0..3_000u64 {
            let text = json!({ "room": "7", "cid": cid(1_000_000 + n), "since": run.log.committed(), "text": "x" });
            let request = Request::Send(read(&text));
            if let Decision::Append(body) = settle(&mut run.log, &run.model, UserId(1), &request, run.now) {
                run.append(UserId(1), Some(cid(1_000_000 + n)), body);
            }
            run.sent.push((UserId(1), request));
            if n % 5 == 0 {
                run.again();
            }
        }
        prop_assert!(run.log.head() > 2 * WINDOW as u64);
    }
}

/// A group of an owner (1), a member (2) and a moderator (3).
fn group() -> Run {
    let mut run = Run::new(7, RoomKind::Group);
    run.append(UserId(1), None, Body::Member(MemberChange::new(UserId(3), Change::Role, Some(Role::Moderator))));
    run
}

fn said(run: &mut Run, user: u64) -> Decision {
    run.fresh += 1;
    let send = json!({ "room": "7", "cid": cid(run.fresh), "since": 0, "text": "x" });
    let decision = settle(&mut run.log, &run.model, UserId(user), &Request::Send(read(&send)), run.now);
    if let Decision::Append(body) = decision.clone() {
        run.append(UserId(user), Some(cid(run.fresh)), body);
    }
    decision
}

fn code(decision: Decision) -> Option<Code> {
    if let Decision::Refuse(e) = decision { Some(e.code) } else { None }
}

#[test]
fn a_mute_ends_by_itself_at_its_time_and_not_before() {
    let mut run = group();
    let until = run.now + 500;
    run.append(UserId(3), None, Body::Member(MemberChange { until: Some(until), ..MemberChange::new(UserId(2), Change::Mute, None) }));
    for now in [run.now, until - 1] {
        run.now = now;
        assert_eq!(code(said(&mut run, 2)), Some(Code::Forbidden));
    }
    run.now = until;
    assert!(matches!(said(&mut run, 2), Decision::Append(_)));
}

#[test]
fn a_mute_goes_on_when_its_user_leaves_and_comes_back() {
    let mut run = group();
    for (by, change) in [(3, Change::Mute), (2, Change::Leave), (1, Change::Invite)] {
        run.append(UserId(by), None, Body::Member(MemberChange::new(UserId(2), change, None)));
    }
    assert_eq!(run.log.place(UserId(2)), Some(Place { standing: Standing::Member(Role::Member), muted_until: FOREVER }));
    assert_eq!(code(said(&mut run, 2)), Some(Code::Forbidden));
    run.append(UserId(1), None, Body::Member(MemberChange::new(UserId(2), Change::Transfer, Some(Role::Owner))));
    assert!(matches!(said(&mut run, 2), Decision::Append(_)), "nobody could give an owner its voice back");
    assert_eq!(run.log.place(UserId(1)).unwrap().standing, Standing::Member(Role::Admin));
}

#[test]
fn slow_mode_binds_members_and_a_resend_is_answered_all_the_same() {
    let mut run = group();
    run.append(UserId(1), None, Body::Room(RoomChange { slow_mode_s: Some(10), ..RoomChange::default() }));
    assert!(matches!(said(&mut run, 2), Decision::Append(_)));
    let first = run.fresh;
    run.now += 4_000;
    match said(&mut run, 2) {
        Decision::Refuse(e) => assert_eq!((e.code, e.retry_after_ms), (Code::RateLimited, Some(6_000))),
        other => panic!("{other:?}"),
    }
    let again = json!({ "room": "7", "cid": cid(first), "since": 0, "text": "x" });
    let again = settle(&mut run.log, &run.model, UserId(2), &Request::Send(read(&again)), run.now);
    assert!(matches!(again, Decision::Repeat(_)), "{again:?}");
    for _ in 0..3 {
        assert!(matches!(said(&mut run, 3), Decision::Append(_)), "a moderator does not wait");
    }
    run.now += 6_000;
    assert!(matches!(said(&mut run, 2), Decision::Append(_)));
}

#[test]
fn a_link_is_worth_what_its_maker_may_do_now() {
    let mut run = group();
    let (link, bounds) = (Link { by: UserId(2), role: Role::Member }, Bounds { members_max: 4, ..BOUNDS });
    let joins = |run: &Run, user| run.log.admit(UserId(user), link, run.now, bounds);
    match joins(&run, 9) {
        Decision::Append(Body::Member(m)) => assert_eq!((m.user, m.change, m.link_by), (UserId(9), Change::Join, Some(UserId(2)))),
        other => panic!("{other:?}"),
    }
    assert_eq!(joins(&run, 3), Decision::Done, "who is in has what it wants");
    run.append(UserId(1), None, Body::Member(MemberChange::new(UserId(9), Change::Invite, Some(Role::Member))));
    assert_eq!(code(joins(&run, 10)), Some(Code::Conflict), "the group is full");
    run.append(UserId(1), None, Body::Member(MemberChange::new(UserId(9), Change::Ban, None)));
    assert_eq!(code(joins(&run, 9)), Some(Code::NotFound), "a link lets nobody in who was banned");
    run.append(UserId(1), None, Body::Member(MemberChange::new(UserId(2), Change::Kick, None)));
    assert_eq!(code(joins(&run, 10)), Some(Code::NotFound), "who was put out brings nobody in");
}
