//! Random requests against a model that folds the whole log: numbers, repeats, rights, and that a rebuilt room decides as the old one.

use super::*;
use crate::protocol::ids::ClientId;
use crate::protocol::policy::allows;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

const ROOM: RoomId = RoomId(7);
const REPEAT_WINDOW: u64 = 1_500;

fn cid(n: u64) -> ClientId {
    ClientId(uuid::Uuid::from_u128(u128::from(n)))
}

/// What the log says, folded from its beginning.
#[derive(Default)]
struct Model {
    log: Vec<Entry>,
    standings: HashMap<UserId, Standing>,
}

impl Model {
    fn push(&mut self, entry: Entry) {
        match &entry.body {
            Body::Room(change) => self.standings.extend(change.members.iter().map(|(u, r)| (*u, Standing::Member(*r)))),
            Body::Member(change) => drop(self.standings.insert(change.user, standing_after(change))),
            _ => {}
        }
        self.log.push(entry);
    }
    fn standing(&self, user: UserId) -> Standing {
        self.standings.get(&user).copied().unwrap_or(Standing::Stranger)
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
        self.standings.values().filter(|s| matches!(s, Standing::Member(r) if role.is_none_or(|want| want == *r))).count() as u64
    }
    /// Whether the policy allows what became an entry.
    fn may(&self, kind: RoomKind, user: UserId, body: &Body) -> bool {
        let act = match body {
            Body::Message(_) => Act::Send,
            Body::Edit(e) if self.old(e.seq) == (Old { by: Some(user), deleted: false }) => Act::EditOwn,
            Body::Delete(t) if !self.old(t.seq).deleted => Act::Delete { own: self.old(t.seq).by == Some(user) },
            Body::React(r) if !self.old(r.seq).deleted => Act::React,
            Body::Pin(p) if !self.old(p.seq).deleted => Act::Pin,
            Body::Room(_) => Act::UpdateRoom,
            Body::Member(m) => match (m.change, self.standing(m.user)) {
                (Change::Leave, Standing::Member(_)) => Act::Leave,
                (Change::Invite, Standing::Stranger) => Act::Invite { as_role: Role::Member },
                (Change::Kick, Standing::Member(target)) => Act::Kick { target },
                (Change::Ban, Standing::Member(target)) => Act::Ban { target: Some(target) },
                (Change::Ban, Standing::Stranger) => Act::Ban { target: None },
                (Change::Unban, Standing::Banned) => Act::Unban,
                (Change::Role, Standing::Member(target)) => Act::SetRole { target, to: m.role.unwrap_or(Role::Owner) },
                _ => return false,
            },
            _ => return false,
        };
        allows(kind, self.standing(user), act).is_ok()
    }
}

/// Decides, and answers whatever is asked for from the model.
fn settle(log: &mut RoomLog, model: &Model, user: UserId, request: &Request) -> Decision {
    let mut searched = None;
    for _ in 0..10 {
        match log.decide(user, request, searched.clone(), REPEAT_WINDOW) {
            Decision::Need(Need::Standing(who)) => log.learn_standing(who, model.standing(who)),
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
        };
        let create: Create = serde_json::from_value(json!({ "kind": kind, "name": "r", "members": ["2", "3"], "cid": cid(1) })).unwrap();
        run.append(UserId(1), Some(create.cid), creation(UserId(1), &create));
        run
    }

    fn append(&mut self, user: UserId, cid: Option<ClientId>, body: Body) {
        let entry = self.log.number(user, cid, body, MessageId(self.model.log.len() as u64 + 1), 0);
        assert_eq!(entry.seq, self.model.log.len() as u64 + 1, "contiguous from 1");
        self.model.push(entry.clone());
        assert_eq!(entry.n, self.model.messages(), "n counts messages");
        if self.rng.random_ratio(2, 3) {
            let to = self.rng.random_range(self.log.committed()..=self.log.head());
            self.log.commit(to);
        }
    }

    fn request(&mut self) -> (UserId, Request) {
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
        let request = match self.rng.random_range(0..14) {
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
            11 => Request::Update(read(&fields)),
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
        let decision = settle(&mut self.log, &self.model, user, &request);
        let first = self.model.first(user, id).map(|e| (e.seq, hash_body(&e.body)));
        let reads = allows(self.kind, self.model.standing(user), Act::Read).is_ok();
        match (decision, first) {
            (Decision::Append(body), None) => {
                assert!(self.model.may(self.kind, user, &body), "{user:?} may not: {body:?}");
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
                self.model.standings.insert(who, role.map_or(Standing::Stranger, Standing::Member));
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
            }
            past.push(entry.clone());
        }
        (settings.members, settings.owners) = (past.count(None), past.count(Some(Role::Owner)));
        let mut log = RoomLog::new(ROOM, settings, past.standings);
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
            let (a, b) = (settle(&mut run.log, &run.model, user, &request), settle(&mut again, &run.model, user, &request));
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
            if let Decision::Append(body) = settle(&mut run.log, &run.model, UserId(1), &request) {
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
