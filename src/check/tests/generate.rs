//! Correct histories by seed: a tiny server without faults, and clients that lose answers, connections and memberships.

use crate::check::history::{Acked, Event, History, Saw, Sent, Via, What};
use crate::error::{Code, Retry};
use crate::protocol::ids::{ClientId, MessageId, RoomId, Seq, UserId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub const GROUP: RoomId = RoomId(1);
pub const CHANNEL: RoomId = RoomId(2);
/// Is kicked from the group and invited again.
pub const KICKED: UserId = UserId(4);
/// Leaves the channel and comes back.
pub const ROAMER: UserId = UserId(3);

struct Room {
    id: RoomId,
    log: Vec<Saw>,
    members: BTreeSet<UserId>,
    edited: BTreeSet<Seq>,
}

struct Client {
    history: History,
    online: bool,
    /// What the server wrote to the socket and the client has not read yet.
    inbox: VecDeque<What>,
    applied: BTreeMap<RoomId, Seq>,
    /// Sent and not answered.
    open: Vec<Sent>,
}

pub struct Sim {
    rng: StdRng,
    now: u64,
    rooms: Vec<Room>,
    clients: Vec<Client>,
}

/// Histories of a correct server.
pub fn correct(seed: u64) -> Vec<History> {
    let mut sim = Sim::new(seed);
    for _ in 0..sim.rng.random_range(150..500) {
        sim.step();
    }
    sim.finish()
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let rng = StdRng::seed_from_u64(seed);
        let room = |id| Room { id, log: Vec::new(), members: BTreeSet::new(), edited: BTreeSet::new() };
        let mut sim = Sim { rng, now: 1, rooms: vec![room(GROUP), room(CHANNEL)], clients: Vec::new() };
        for (user, replica) in [(1, "a"), (2, "a"), (2, "b"), (3, "a"), (4, "a")] {
            let history = History { user: UserId(user), replica: replica.into(), clock: 5, ..History::default() };
            let client = Client { history, online: true, inbox: VecDeque::new(), applied: BTreeMap::new(), open: Vec::new() };
            sim.clients.push(client);
            sim.note(sim.clients.len() - 1, What::Connected);
        }
        for r in 0..2 {
            let sent = Sent { kind: "room".into(), digest: None, ..sim.request(0, RoomId(0), "room") };
            sim.note(0, What::Sent(sent.clone()));
            let members = if r == 0 { vec![1, 2, 3, 4] } else { vec![1, 2] };
            let members: Vec<_> = members.into_iter().map(|u| (UserId(u), true)).collect();
            sim.rooms[r].members = members.iter().map(|(u, _)| *u).collect();
            sim.append(r, UserId(1), sent.cid, "room", 7, members);
        }
        sim
    }

    fn note(&mut self, c: usize, what: What) {
        self.now += self.rng.random_range(1..20);
        self.clients[c].history.events.push(Event { at: self.now, what });
    }

    fn request(&mut self, c: usize, room: RoomId, kind: &str) -> Sent {
        let cid = ClientId(uuid::Uuid::from_u128(self.rng.random()));
        let since = self.clients[c].applied.get(&room).copied().unwrap_or(0);
        Sent { room, cid, since, kind: kind.into(), digest: Some(self.rng.random()) }
    }

    fn append(&mut self, r: usize, by: UserId, cid: ClientId, kind: &str, digest: u64, members: Vec<(UserId, bool)>) {
        let id = MessageId(self.rng.random_range(1..1 << 62));
        let room = &mut self.rooms[r];
        let n = room.log.last().map_or(0, |e| e.n) + u64::from(kind == "message");
        let seq = room.log.len() as u64 + 1;
        let saw = Saw { room: room.id, seq, n, id, by, cid: Some(cid), kind: kind.into(), digest, folded: false, members, via: Via::Live };
        room.log.push(saw.clone());
        for (user, _) in saw.members.iter().filter(|(_, begins)| *begins) {
            room.members.insert(*user);
        }
        for client in self.clients.iter_mut().filter(|c| c.online && room.members.contains(&c.history.user)) {
            client.inbox.push_back(What::Saw(saw.clone()));
        }
        for (user, _) in saw.members.iter().filter(|(_, begins)| !*begins) {
            room.members.remove(user);
        }
    }

    /// Transmits a request; the server carries it out (once) and answers.
    fn transmit(&mut self, c: usize, sent: Sent, members: Vec<(UserId, bool)>) {
        let user = self.clients[c].history.user;
        self.note(c, What::Sent(sent.clone()));
        let (room, cid) = (sent.room, sent.cid);
        let r = (room.0 - 1) as usize;
        if self.clients[c].open.iter().all(|open| open.cid != cid) {
            self.clients[c].open.push(sent.clone());
        }
        match self.rng.random_range(0..10) {
            0 => return self.clients[c].inbox.push_back(What::Refused { room, cid, code: Code::Busy, retry: Retry::Later }),
            1 => return, // Lost on the way: neither done nor answered.
            _ => {}
        }
        let found = |room: &Room| room.log.iter().find(|e| e.cid == Some(cid)).cloned();
        if found(&self.rooms[r]).is_none() {
            if !self.rooms[r].members.contains(&user) {
                return self.clients[c].inbox.push_back(What::Refused { room, cid, code: Code::NotFound, retry: Retry::Never });
            }
            self.append(r, user, cid, &sent.kind, sent.digest.unwrap_or(1), members);
        }
        if let Some(e) = found(&self.rooms[r]) {
            let acked = Acked { room, cid, seq: e.seq, n: Some(e.n), id: Some(e.id) };
            self.clients[c].inbox.push_back(What::Acked(acked));
        }
    }

    /// The client reads one thing from its socket.
    fn read(&mut self, c: usize) {
        let Some(what) = self.clients[c].inbox.pop_front() else { return };
        self.note(c, what.clone());
        let client = &mut self.clients[c];
        let user = client.history.user;
        match what {
            What::Saw(saw) if saw.members.contains(&(user, false)) => drop(client.applied.remove(&saw.room)),
            What::Saw(saw) => drop(client.applied.insert(saw.room, saw.seq)),
            What::Left { room } => drop(client.applied.remove(&room)),
            What::Acked(Acked { cid, .. }) => client.open.retain(|sent| sent.cid != cid),
            What::Refused { cid, code: Code::NotFound, .. } => client.open.retain(|sent| sent.cid != cid),
            _ => {}
        }
    }

    fn close(&mut self, c: usize) {
        self.clients[c].online = false;
        self.clients[c].inbox.clear();
        self.note(c, What::Closed { code: 1006 });
        for sent in self.clients[c].open.clone() {
            self.note(c, What::Unknown { room: sent.room, cid: sent.cid });
        }
    }

    fn connect(&mut self, c: usize) {
        self.clients[c].online = true;
        self.note(c, What::Connected);
        let user = self.clients[c].history.user;
        let had = self.clients[c].applied.clone();
        for (room, have) in &had {
            self.note(c, What::ResumeStarted { room: *room, have: *have });
        }
        for r in 0..2 {
            let (room, head) = (self.rooms[r].id, self.rooms[r].log.len() as u64);
            let mut from = match had.get(&room) {
                Some(_) if !self.rooms[r].members.contains(&user) => {
                    self.clients[c].inbox.push_back(What::Left { room });
                    continue;
                }
                Some(_) if self.rng.random_range(0..8) == 0 => {
                    self.clients[c].inbox.push_back(What::Resync { room, head });
                    head
                }
                Some(have) => *have,
                None if !self.rooms[r].members.contains(&user) => continue,
                None => {
                    let from = head.saturating_sub(3);
                    self.clients[c].inbox.push_back(What::Began { room, from, head });
                    from
                }
            };
            while from < head {
                let saw = Saw { via: Via::Resume, ..self.rooms[r].log[from as usize].clone() };
                self.clients[c].inbox.push_back(What::Saw(saw));
                from += 1;
            }
            self.clients[c].inbox.push_back(What::Resumed { room, head });
        }
    }

    fn history(&mut self, c: usize, r: usize) {
        if !self.rooms[r].members.contains(&self.clients[c].history.user) {
            return;
        }
        let (room, head, began) = (self.rooms[r].id, self.rooms[r].log.len() as u64, self.now);
        let from = self.rng.random_range(1..=head);
        let to = self.rng.random_range(from..=head);
        self.now += 3;
        for seq in from..=to {
            let saw = self.rooms[r].log[seq as usize - 1].clone();
            let folded = self.rooms[r].edited.contains(&seq);
            if saw.kind == "message" {
                self.note(c, What::Saw(Saw { via: Via::History, folded, digest: saw.digest + u64::from(folded), ..saw }));
            }
        }
        self.note(c, What::HistoryRead { room, began, from, to, head });
    }

    fn send(&mut self, c: usize, r: usize) {
        let room = self.rooms[r].id;
        let edit = self.rng.random_range(0..6) == 0;
        let sent = self.request(c, room, if edit { "edit" } else { "message" });
        if let Some(seq) = self.rooms[r].log.iter().rposition(|e| edit && e.kind == "message" && e.digest < u64::MAX) {
            self.rooms[r].edited.insert(seq as u64 + 1);
        }
        self.transmit(c, sent, Vec::new());
    }

    /// Kicks, or brings back.
    fn membership(&mut self) {
        let back = !self.rooms[0].members.contains(&KICKED);
        let sent = Sent { digest: None, ..self.request(0, GROUP, "member") };
        if self.clients[0].online && self.clients[0].open.iter().all(|open| open.kind != "member") {
            self.transmit(0, sent, vec![(KICKED, back)]);
            // Membership requests are not sent again: who is in by then may differ.
            self.clients[0].open.retain(|open| open.kind != "member");
        }
    }

    /// Leaves the channel, or comes back.
    fn roam(&mut self) {
        let c = 3;
        if !self.clients[c].online {
            return;
        }
        let sent = Sent { digest: None, ..self.request(c, CHANNEL, "member") };
        self.note(c, What::Sent(sent));
        let left = self.rooms[1].members.remove(&ROAMER);
        if !left {
            self.rooms[1].members.insert(ROAMER);
        }
        let answer = if left { What::Left { room: CHANNEL } } else { What::Entered { room: CHANNEL } };
        self.clients[c].inbox.push_back(answer);
    }

    fn step(&mut self) {
        let (c, r) = (self.rng.random_range(0..self.clients.len()), self.rng.random_range(0..2));
        let online = self.clients[c].online;
        match self.rng.random_range(0..40) {
            0 if online => self.close(c),
            0..8 if !online => self.connect(c),
            1..10 if online => self.send(c, r),
            10 if online && !self.clients[c].open.is_empty() => {
                let sent = self.clients[c].open[0].clone();
                self.transmit(c, sent, Vec::new());
            }
            11..13 if online => self.history(c, r),
            13 => self.membership(),
            14 => self.roam(),
            _ if online => (0..self.rng.random_range(1..4)).for_each(|_| self.read(c)),
            _ => {}
        }
    }

    fn drain(&mut self) {
        for c in 0..self.clients.len() {
            while !self.clients[c].inbox.is_empty() {
                self.read(c);
            }
        }
    }

    fn finish(mut self) -> Vec<History> {
        for c in 0..self.clients.len() {
            if !self.clients[c].online {
                self.connect(c);
            }
        }
        self.drain();
        for c in 0..self.clients.len() {
            (0..3).for_each(|_| self.send(c, 0));
        }
        self.drain();
        let since = self.now + 1;
        for c in 0..self.clients.len() {
            self.note(c, What::Settled { since });
        }
        let began = self.now;
        self.now += 1;
        let mut observer = History { user: UserId(99), replica: "observer".into(), clock: 5, ..History::default() };
        for room in &self.rooms {
            let log = room.log.iter().map(|saw| What::Saw(Saw { via: Via::Log, ..saw.clone() }));
            let end = What::LogRead { room: room.id, began, from: 1, head: room.log.len() as u64 };
            observer.events.extend(log.chain([end]).map(|what| Event { at: self.now, what }));
        }
        self.clients.into_iter().map(|c| c.history).chain([observer]).collect()
    }
}
