//! The world of a run: time, the network, Redis, clients, readers and what goes wrong. Everything random comes from the seed.

use super::judge::{Judge, Verdict, What};
use super::node::Node;
use super::store::{Answer, Cell, QUORUM, REPLICAS, Replica, Request};
use crate::cluster::membership::{Lease, Listing};
use crate::cluster::shard::{In, Placed};
use crate::cluster::{NodeId, chain, shard};
use crate::protocol::ids::{BUCKET_ENTRIES, Epoch, RoomId, Seq, Shard};
use crate::storage::joining::{Ask, Page, ReadId};
use crate::storage::{Append, LogRow};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

/// A storage call that is not answered within this is in doubt.
const CALL_MS: u64 = 400;
/// So long things go wrong; then they heal.
const FAULTS_MS: u64 = 9_000;
/// So long after that everybody must have been answered.
const HEALED_MS: u64 = 60_000;
/// A client that was not answered sends again after about this.
const RESEND_MS: u64 = 400;
pub const TICK_MS: u64 = 150;

/// A send, as a client repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    pub client: usize,
    pub what: What,
}

/// Who waits for the replicas.
pub enum For {
    /// A room's pipeline; what is to be written when the bucket pointer is.
    Append(Option<Append>),
    /// A takeover that writes, and one that reads.
    Adopt(Option<Append>),
    Tail(Option<crate::storage::tailing::Tailing>),
    /// A room that reads what it has taken over.
    Fill(Seq),
    /// A room that ends.
    Mark,
    /// Readers.
    Page(ReadId, Page),
}

/// What is to be done by a node, later or by the answer to something.
pub enum Later {
    Write(For, Append),
    Check,
    AdoptCheck,
}

pub enum Event {
    Arrives {
        replica: usize,
        op: u64,
        request: Request,
    },
    Answers {
        op: u64,
        answer: Answer,
    },
    TimesOut(u64),
    CellArrives {
        node: usize,
        life: u64,
        shard: Shard,
        what: shard::Do,
    },
    CellAnswers {
        node: usize,
        life: u64,
        shard: Shard,
        answer: In,
        version: Option<usize>,
    },
    Tick(usize, u64),
    Listed(usize, u64, Listing),
    Later {
        node: usize,
        life: u64,
        room: RoomId,
        room_life: u64,
        what: Later,
    },
    Sent {
        node: usize,
        via: usize,
        room: RoomId,
        send: Send,
    },
    /// A node was asked, by way of another, for what is not its own.
    NotMine {
        node: usize,
        shard: Shard,
        by: NodeId,
    },
    Acknowledged {
        send: Send,
        seq: Seq,
    },
    Client {
        client: usize,
        what: What,
    },
    Announced {
        node: usize,
        shard: Shard,
        by: NodeId,
        epoch: u64,
        released: bool,
    },
    Reader,
    Fault,
    Wakes(usize),
}

struct Op {
    node: usize,
    life: u64,
    room: RoomId,
    room_life: u64,
    who: For,
    got: Answer,
    answers: usize,
}

struct Client {
    room: RoomId,
    what: What,
}

struct Redis {
    run: u64,
    silent_until: u64,
    leases: BTreeMap<NodeId, (Lease, u64)>,
}

/// How much goes wrong, out of a thousand.
struct Weather {
    lost: u32,
    late: u32,
    very_late: u32,
    /// Milliseconds between faults, about.
    fault_ms: u64,
    /// Nearly all faults are nodes that wrongly take a shard for theirs: takeovers overlap all the time.
    contested: bool,
    /// Clients think so long between sends at most.
    think_ms: u64,
}

pub struct World {
    pub rng: StdRng,
    pub now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    weather: Weather,
    pub replicas: [Replica; REPLICAS],
    cells: Vec<Cell>,
    redis: Redis,
    pub nodes: Vec<Node>,
    ops: BTreeMap<u64, Op>,
    clients: Vec<Client>,
    next_what: What,
    pub judge: Judge,
    pub rooms: Vec<RoomId>,
    /// Readers that wait, by node and read.
    readers: BTreeMap<(usize, ReadId), Vec<Page>>,
    healed: bool,
    unanswered: BTreeSet<usize>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let (nodes, shards) = (rng.random_range(2..=7), rng.random_range(1..=2u32));
        let contested = rng.random_bool(0.3);
        let weather = Weather {
            lost: rng.random_range(0..150),
            late: rng.random_range(0..if contested { 400 } else { 150 }),
            very_late: rng.random_range(0..60),
            fault_ms: if contested { rng.random_range(10..100) } else { rng.random_range(40..800) },
            contested,
            think_ms: if rng.random_bool(0.5) { 60 } else { 1_200 },
        };
        let mut world = World {
            now: 0,
            queue: BTreeMap::new(),
            events: 0,
            weather,
            replicas: Default::default(),
            cells: (0..shards).map(|_| Cell::new()).collect(),
            redis: Redis { run: 1, silent_until: 0, leases: BTreeMap::new() },
            nodes: (0..nodes).map(|n| Node::new(n as u32, 1, shards, rng.random_range(0..10_000))).collect(),
            ops: BTreeMap::new(),
            clients: Vec::new(),
            next_what: 0,
            judge: Judge::default(),
            rooms: (1..=rng.random_range(1..=3)).map(RoomId).collect(),
            readers: BTreeMap::new(),
            healed: false,
            unanswered: BTreeSet::new(),
            rng,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        for room in self.rooms.clone() {
            // Near the end of a bucket, or at the very beginning.
            let start = if self.rng.random_bool(0.5) { 0 } else { BUCKET_ENTRIES - self.rng.random_range(2..6) };
            self.judge.begin(room, start);
            if start > 0 {
                let row = LogRow { seq: start, epoch: Epoch(1), committed: start - 1, payload: bytes::Bytes::from_static(b"old!") };
                self.replicas.iter_mut().for_each(|replica| replica.seed(room, row.clone()));
            }
            for _ in 0..self.rng.random_range(1..=3) {
                self.clients.push(Client { room, what: 0 });
            }
        }
        for client in 0..self.clients.len() {
            self.next_send(client, 0);
        }
        for node in 0..self.nodes.len() {
            self.at(node as u64, Event::Tick(node, 1));
        }
        self.at(200, Event::Reader);
        self.at(100, Event::Fault);
    }

    /// Runs until everything has healed and everybody was answered.
    pub fn run(mut self) -> (Verdict, usize) {
        let verdict = self.go();
        (verdict.map_err(|why| format!("at {} ms: {why}", self.now)), self.judge.committed())
    }

    fn go(&mut self) -> Verdict {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            if !self.healed && at > FAULTS_MS {
                self.heal()?;
            }
            if self.healed && self.unanswered.is_empty() {
                break;
            }
            if at > FAULTS_MS + HEALED_MS {
                let waiting: Vec<_> = self.unanswered.iter().map(|c| (self.clients[*c].room, self.clients[*c].what)).collect();
                let nodes: Vec<String> = self.nodes.iter().map(Node::told).collect();
                return Err(format!("P6: everything has healed, and these were never answered: {waiting:?}\n{}", nodes.join("\n")));
            }
            self.happen(event)?;
        }
        // Whatever is still on its way lands.
        for (_, event) in std::mem::take(&mut self.queue) {
            if let Event::Arrives { replica, request, .. } = event {
                self.replicas[replica].take(&request);
            }
        }
        self.rooms.iter().try_for_each(|room| self.judge.replicas(*room, 0, &self.replicas))
    }

    pub fn at(&mut self, at: u64, event: Event) {
        self.events += 1;
        self.queue.insert((at, self.events), event);
    }
    pub fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now + ms, event);
    }
    /// How long a message takes; none when it is lost.
    fn way(&mut self) -> Option<u64> {
        let Weather { lost, late, very_late, .. } = self.weather;
        let luck = self.rng.random_range(0..1_000);
        let soon = self.rng.random_range(1..12);
        if self.healed {
            return Some(soon);
        }
        if luck < lost {
            None
        } else if luck < lost + late {
            Some(self.rng.random_range(12..if self.weather.contested { 200 } else { 1_500 }))
        } else if luck < lost + late + very_late {
            Some(self.rng.random_range(1_500..15_000))
        } else {
            Some(soon)
        }
    }
    /// Sends something that may be lost.
    pub fn send(&mut self, event: Event) {
        if let Some(ms) = self.way() {
            self.after(ms, event);
        }
    }

    /// Whether a node is there to notice something now; what a paused one would notice waits until it wakes.
    fn awake(&mut self, node: usize, event: Event) -> Option<Event> {
        let until = self.nodes[node].paused_until;
        if until > self.now {
            self.at(until, event);
            return None;
        }
        self.nodes[node].up.then_some(event)
    }

    fn happen(&mut self, event: Event) -> Verdict {
        let node = match &event {
            Event::Tick(node, _) | Event::Listed(node, ..) | Event::Sent { node, .. } | Event::Announced { node, .. } => Some(*node),
            Event::CellAnswers { node, .. } | Event::Later { node, .. } | Event::NotMine { node, .. } => Some(*node),
            Event::Answers { op, .. } | Event::TimesOut(op) => self.ops.get(op).map(|op| op.node),
            _ => None,
        };
        let event = match node {
            Some(node) => match self.awake(node, event) {
                Some(event) => event,
                None => return Ok(()),
            },
            None => event,
        };
        match event {
            Event::Arrives { replica, op, request } => {
                let answer = self.replicas[replica].take(&request);
                self.send(Event::Answers { op, answer });
                Ok(())
            }
            Event::Answers { op, answer } => self.answered(op, answer),
            Event::TimesOut(op) => match self.ops.remove(&op) {
                Some(op) => self.ended(op, false),
                None => Ok(()),
            },
            Event::CellArrives { node, life, shard, what } => {
                self.cell(node, life, shard, what);
                Ok(())
            }
            Event::CellAnswers { node, life, shard, answer, version } => {
                if let Some(version) = version {
                    self.cells[shard.0 as usize].answered(version);
                }
                if self.nodes[node].life == life { self.core(node, shard, answer) } else { Ok(()) }
            }
            Event::Tick(node, life) if self.nodes[node].life == life => self.tick(node),
            Event::Listed(node, life, listing) if self.nodes[node].life == life => self.listed(node, listing),
            Event::Tick(..) | Event::Listed(..) => Ok(()),
            Event::Later { node, life, room, room_life, what } => {
                if self.nodes[node].life == life {
                    self.later(node, room, room_life, what)
                } else {
                    Ok(())
                }
            }
            Event::Sent { node, via, room, send } => self.sent(node, via, room, send),
            Event::NotMine { node, shard, by } => {
                self.nodes[node].view.refused(shard, by);
                Ok(())
            }
            Event::Acknowledged { send, seq } => {
                self.acknowledged(send, seq);
                Ok(())
            }
            Event::Client { client, what } => {
                self.resend(client, what);
                Ok(())
            }
            Event::Announced { node, shard, by, epoch, released } => self.announced(node, shard, by, epoch, released),
            Event::Reader => self.read(),
            Event::Fault => self.fault(),
            Event::Wakes(node) => {
                self.wake(node);
                Ok(())
            }
        }
    }

    /// Asks all replicas; a quorum of answers is an answer.
    pub fn ask(&mut self, node: usize, room: RoomId, room_life: u64, who: For, request: Request) {
        self.events += 1;
        let (op, life) = (self.events, self.nodes[node].life);
        self.ops.insert(op, Op { node, life, room, room_life, who, got: Answer::default(), answers: 0 });
        for replica in 0..REPLICAS {
            self.send(Event::Arrives { replica, op, request: request.clone() });
        }
        self.after(CALL_MS, Event::TimesOut(op));
    }

    fn answered(&mut self, id: u64, answer: Answer) -> Verdict {
        let Some(op) = self.ops.get_mut(&id) else { return Ok(()) };
        op.got.merge(answer);
        op.answers += 1;
        if op.answers < QUORUM {
            return Ok(());
        }
        match self.ops.remove(&id) {
            Some(op) => self.ended(op, true),
            None => Ok(()),
        }
    }

    fn ended(&mut self, op: Op, ok: bool) -> Verdict {
        if self.nodes[op.node].life != op.life {
            return Ok(());
        }
        match op.who {
            For::Page(id, page) => self.page(op.node, id, page, ok.then_some(op.got)),
            who => self.room_answer(op.node, op.room, op.room_life, who, ok.then_some(op.got)),
        }
    }

    /// A node asks for an epoch cell.
    pub fn ask_cell(&mut self, node: usize, shard: Shard, what: shard::Do) {
        let life = self.nodes[node].life;
        let began = self.cells[shard.0 as usize].begin_read();
        if let shard::Do::Read(ticket) | shard::Do::Check(ticket) = what {
            let check = matches!(what, shard::Do::Check(_));
            let answer = match self.way().filter(|ms| *ms < CALL_MS) {
                Some(ms) => (ms, Some(began)),
                None => (CALL_MS, None),
            };
            // What it gives is settled when it ends; nothing happens at the replicas.
            let seen = answer.1.map(|began| self.cells[shard.0 as usize].end_read(began, &mut self.rng));
            let token = self.rng.random();
            let answer_in = if check { In::Checked(ticket, seen) } else { In::Read(ticket, seen, token) };
            return self.after(answer.0, Event::CellAnswers { node, life, shard, answer: answer_in, version: None });
        }
        if let shard::Do::Raise(ticket, ..) = what {
            self.after(
                CALL_MS,
                Event::CellAnswers { node, life, shard, answer: In::Raised(ticket, shard::Raised::Unknown), version: None },
            );
            self.send(Event::CellArrives { node, life, shard, what });
        }
    }

    fn cell(&mut self, node: usize, life: u64, shard: Shard, what: shard::Do) {
        let shard::Do::Raise(ticket, was, next) = what else { return };
        let version = self.cells[shard.0 as usize].compare_and_set(was, next);
        let raised = if version.is_some() { shard::Raised::Applied } else { shard::Raised::Refused };
        self.send(Event::CellAnswers { node, life, shard, answer: In::Raised(ticket, raised), version });
    }

    fn tick(&mut self, node: usize) -> Verdict {
        let life = self.nodes[node].life;
        self.after(TICK_MS, Event::Tick(node, life));
        let mono = self.mono(node);
        let (now, redis) = (self.now, &mut self.redis);
        if now >= redis.silent_until && now >= self.nodes[node].cut_until {
            redis.leases.retain(|_, (_, until)| *until > now);
            let me = self.nodes[node].view.membership().me();
            let lease = redis.leases.entry(me.node).or_insert((me, 0));
            if lease.0.incarnation == me.incarnation {
                *lease = (me, now + super::node::TIMING.lease);
            }
            let leases = redis.leases.values().map(|(lease, _)| *lease).collect();
            let listing = Listing { asked: mono, server: redis.run, leases };
            self.send(Event::Listed(node, life, listing));
        }
        let events = self.nodes[node].view.tick(mono);
        self.follow(node, events)?;
        (0..self.cells.len()).try_for_each(|shard| self.core(node, Shard(shard as u32), In::Tick))
    }

    fn listed(&mut self, node: usize, listing: Listing) -> Verdict {
        let mono = self.mono(node);
        let events = self.nodes[node].view.listed(mono, listing);
        self.follow(node, events)
    }

    // Clients.

    fn next_send(&mut self, client: usize, after: u64) {
        self.next_what += 1;
        self.clients[client].what = self.next_what;
        self.unanswered.insert(client);
        self.after(after, Event::Client { client, what: self.next_what });
    }

    fn resend(&mut self, client: usize, what: What) {
        if self.clients[client].what != what {
            return;
        }
        let room = self.clients[client].room;
        let any = self.rng.random_range(0..self.nodes.len());
        let by = self.nodes[any].view.owner(super::node::shard_of(room, self.cells.len() as u32));
        let node = by.map_or(any, |node| node.0 as usize);
        let node = if self.rng.random_bool(0.2) && !self.healed { any } else { node };
        self.send(Event::Sent { node, via: any, room, send: Send { client, what } });
        let again = self.rng.random_range(RESEND_MS / 2..RESEND_MS * 2);
        self.after(again, Event::Client { client, what });
    }

    fn acknowledged(&mut self, send: Send, _: Seq) {
        if self.clients[send.client].what == send.what {
            self.unanswered.remove(&send.client);
            self.clients[send.client].what = 0;
            if !self.healed {
                let think = self.rng.random_range(0..self.weather.think_ms);
                self.next_send(send.client, think);
            }
        }
    }

    // Readers.

    fn read(&mut self) -> Verdict {
        let again = self.rng.random_range(1..80);
        self.after(again, Event::Reader);
        let (room, node) = (self.rooms[self.rng.random_range(0..self.rooms.len())], self.rng.random_range(0..self.nodes.len()));
        // The head first, then the read.
        let page = Page { room, from: self.judge.start(room) + 1, to: self.judge.head(room) };
        if !self.nodes[node].up || page.to < page.from {
            return Ok(());
        }
        let id = match self.nodes[node].reads.ask(page) {
            Ask::Join(id) => id,
            Ask::Begin(id) => {
                // A store that reads whole pages reads what lies above, too.
                self.ask(node, room, 0, For::Page(id, page), Request::Read(room, page.from, page.to + 100));
                id
            }
        };
        self.readers.entry((node, id)).or_default().push(page);
        Ok(())
    }

    fn page(&mut self, node: usize, id: ReadId, page: Page, got: Option<Answer>) -> Verdict {
        self.nodes[node].reads.ended(page.room, id);
        let readers = self.readers.remove(&(node, id)).unwrap_or_default();
        let Some(got) = got else { return Ok(()) };
        let rows: Vec<LogRow> = got.rows.into_values().collect();
        for page in readers {
            // A seq that is missing is an error to retry, never shown.
            if let Ok(shown) = chain::committed(rows.clone(), page.from, page.to) {
                self.judge.shown(page.room, &shown)?;
            }
        }
        Ok(())
    }

    // What goes wrong.

    fn fault(&mut self) -> Verdict {
        if self.healed {
            return Ok(());
        }
        let next = self.rng.random_range(1..=2 * self.weather.fault_ms);
        self.after(next, Event::Fault);
        let node = self.rng.random_range(0..self.nodes.len());
        let shard = Shard(self.rng.random_range(0..self.cells.len() as u32));
        let ms = self.rng.random_range(50..4_000);
        let what = if self.weather.contested && self.rng.random_bool(0.9) { 60 } else { self.rng.random_range(0..100) };
        match what {
            0..10 => self.kill(node, ms / 2),
            10..25 => self.nodes[node].paused_until = self.now + ms,
            25..30 => self.redis.silent_until = self.now + ms,
            30..35 => {
                self.redis.run += 1;
                self.redis.leases.clear();
            }
            35..45 => self.nodes[node].cut_until = self.now + ms,
            45..50 => self.nodes[node].skew += ms,
            50..55 => {
                let weight = if self.rng.random_bool(0.5) { 0 } else { 100 };
                let events = self.nodes[node].view.set_weight(weight);
                return self.follow(node, events);
            }
            // A node that is wrong about the placement.
            55..80 if self.nodes[node].up => {
                return self.core(node, shard, In::Placed(Placed::Mine)).and_then(|()| self.seize(node, shard));
            }
            80..95 => self.panic(node),
            _ => return self.passivate(node),
        }
        Ok(())
    }

    fn kill(&mut self, node: usize, for_ms: u64) {
        if self.nodes[node].up {
            self.nodes[node].up = false;
            self.readers.retain(|(n, _), _| *n != node);
            self.after(for_ms, Event::Wakes(node));
        }
    }

    /// A node that died starts again: as a new process.
    fn wake(&mut self, node: usize) {
        let (life, skew) = (self.nodes[node].life + 1, self.rng.random_range(0..10_000));
        self.nodes[node] = Node::new(node as u32, life, self.cells.len() as u32, skew);
        self.after(0, Event::Tick(node, life));
    }

    fn heal(&mut self) -> Verdict {
        self.healed = true;
        (self.redis.silent_until, self.weather.fault_ms) = (0, u64::MAX / 4);
        for node in 0..self.nodes.len() {
            (self.nodes[node].paused_until, self.nodes[node].cut_until) = (0, 0);
            let events = self.nodes[node].view.set_weight(100);
            self.follow(node, events)?;
            for shard in (0..self.cells.len() as u32).map(Shard) {
                let placed = self.nodes[node].view.placed(shard);
                self.core(node, shard, In::Placed(placed))?;
            }
        }
        Ok(())
    }
}
