//! Questions to the owner of a shard, whoever that is: asked again elsewhere when it is another, and requests to a room in order.
//!
//! Requests of this node to a room stand in its [`Line`] until they are answered. Alone at an owner they go at once; while one is being
//! asked again, or those before it are still at a former owner, the later ones wait behind it: at most [`ASK_MS`], and at most
//! [`WAITING_MAX`] of all rooms, then they are refused. A request that this node takes in as the owner is only counted, by shard
//! ([`Here`]): should the shard go, what its rooms pass on goes before whatever comes after.

use super::line::Line;
use super::{ASK_MS, Peers, TRIES, Then, look_again, serving, unavailable};
use crate::actors::node::NodeContext;
use crate::actors::room::RoomMsg;
use crate::actors::router::{Place, Reply, lost};
use crate::bus::asks::{self, Question, Said};
use crate::cluster::{NodeId, Placement};
use crate::error::{ApiError, Code};
use crate::protocol::ids::{RoomId, Shard};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Requests that may wait in lines; more are refused with `busy`.
const WAITING_MAX: usize = 65_536;
/// Locks that the lines are spread over, so that threads seldom meet.
const STRIPES: usize = 64;

/// A request in a line.
struct Asked {
    shard: Shard,
    order: u64,
    /// See [`Place`].
    through: Vec<NodeId>,
    question: Question,
    then: Then,
    tries: u32,
    until: Instant,
}

struct Held {
    line: Line<Asked>,
    shard: Shard,
    /// Somebody is sending what is next. Whoever comes meanwhile leaves it to them, so that nothing is overtaken between line and bus.
    sending: bool,
    /// Its owner is being changed: not before.
    not_before: Option<Instant>,
}

/// All lines of a node.
pub(super) struct Lines {
    stripes: Vec<Mutex<HashMap<RoomId, Held>>>,
    me: NodeId,
    tickets: AtomicU64,
    rounds: AtomicU64,
    waiting: AtomicUsize,
    /// Requests that this node has taken in as the owner and not answered, by shard.
    here: Vec<AtomicU32>,
}

impl Lines {
    pub fn new(me: NodeId, shards: u32) -> Lines {
        Lines {
            me,
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            tickets: AtomicU64::default(),
            // Another process may have been refused under this node's number.
            rounds: AtomicU64::new(u64::from(rand::random::<u32>())),
            waiting: AtomicUsize::default(),
            here: (0..shards).map(|_| AtomicU32::default()).collect(),
        }
    }

    fn stripe(&self, room: RoomId) -> &Mutex<HashMap<RoomId, Held>> {
        &self.stripes[(xxhash_rust::xxh3::xxh3_64(&room.0.to_le_bytes()) % STRIPES as u64) as usize]
    }

    fn is_here(&self, shard: Shard) -> bool {
        self.here.get(shard.0 as usize).is_some_and(|count| count.load(SeqCst) > 0)
    }

    fn fresh(&self) -> u64 {
        self.tickets.fetch_add(1, SeqCst)
    }

    fn push(&self, room: RoomId, passed_on: bool, asked: Asked) {
        let (ticket, order) = (self.fresh(), asked.order);
        self.waiting.fetch_add(1, SeqCst);
        let mut lines = self.stripe(room).lock();
        let shard = asked.shard;
        let fresh = || Held { line: Line::new(self.me, self.rounds.load(SeqCst)), shard, sending: false, not_before: None };
        lines.entry(room).or_insert_with(fresh).line.push(ticket, order, passed_on, asked);
    }

    /// What is to be sent next to the owner, if anything is; to be followed by [`Lines::sent`].
    fn next(&self, room: RoomId, owner: NodeId, is_here: bool) -> Option<(u64, u64, Asked)> {
        let mut lines = self.stripe(room).lock();
        let held = lines.get_mut(&room)?;
        if held.sending || held.not_before.is_some_and(|at| at > Instant::now()) {
            return None;
        }
        held.not_before = None;
        let next = held.line.next(owner, is_here)?;
        held.sending = true;
        self.waiting.fetch_sub(1, SeqCst);
        Some(next)
    }

    fn change(&self, room: RoomId, change: impl FnOnce(&mut Held)) {
        let mut lines = self.stripe(room).lock();
        let Some(held) = lines.get_mut(&room) else { return };
        change(held);
        if held.line.is_empty() && !held.sending {
            lines.remove(&room);
        }
    }

    fn sent(&self, room: RoomId) {
        self.change(room, |held| held.sending = false);
    }
    fn done(&self, room: RoomId, ticket: u64) {
        self.change(room, |held| held.line.done(ticket));
    }
    fn back(&self, room: RoomId, ticket: u64, asked: Asked, not_before: Option<Instant>) {
        self.waiting.fetch_add(1, SeqCst);
        self.change(room, |held| {
            held.line.back(ticket, asked, || self.rounds.fetch_add(1, SeqCst) + 1);
            held.not_before = not_before;
        });
    }

    /// Rooms with something that waits.
    fn rooms(&self, of: impl Fn(Shard) -> bool) -> Vec<RoomId> {
        let of_stripe = |stripe: &Mutex<HashMap<RoomId, Held>>| -> Vec<RoomId> {
            stripe.lock().iter().filter(|(_, held)| of(held.shard) && held.line.waiting() > 0).map(|(room, _)| *room).collect()
        };
        self.stripes.iter().flat_map(of_stripe).collect()
    }

    fn expired(&self, now: Instant) -> Vec<Asked> {
        let mut over = Vec::new();
        for stripe in &self.stripes {
            stripe.lock().retain(|_, held| {
                over.extend(held.line.expire(|asked| asked.until <= now));
                held.sending || !held.line.is_empty()
            });
        }
        self.waiting.fetch_sub(over.len(), SeqCst);
        over
    }
}

/// A request that this node has taken in as the owner, until it is answered; goes with its reply.
pub struct Here {
    peers: Arc<Peers>,
    shard: Shard,
    /// When it came, among those of this node.
    pub order: u64,
}

impl Here {
    /// One more; of that order, or the last one.
    pub fn new(peers: Arc<Peers>, shard: Shard, order: Option<u64>) -> Option<Here> {
        peers.lines.here.get(shard.0 as usize)?.fetch_add(1, SeqCst);
        let order = order.unwrap_or_else(|| peers.lines.fresh());
        Some(Here { peers, shard, order })
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let lines = &self.peers.lines;
        let last = lines.here.get(self.shard.0 as usize).is_some_and(|count| count.fetch_sub(1, SeqCst) == 1);
        if last && lines.waiting.load(SeqCst) > 0 {
            lines.rooms(|shard| shard == self.shard).into_iter().for_each(|room| self.peers.drain(room));
        }
    }
}

fn to_reply(reply: Reply) -> Then {
    Box::new(move |said| {
        reply.send(match said {
            Ok(Said::Done(answer)) => Ok(answer),
            Ok(Said::Failed(error)) | Err(error) => Err(error),
            Ok(_) => Err(lost()),
        });
    })
}

impl Peers {
    /// Whether requests of this node to the room are not answered, or not sent: who comes now comes after them.
    pub fn has_line(&self, room: RoomId) -> bool {
        self.lines.stripe(room).lock().contains_key(&room)
    }

    /// Asks the owner of a shard, whoever that is, this node too; looks for it `tries` times. `surely`: also when nothing was answered.
    pub(super) fn ask_owner(self: &Arc<Self>, shard: Shard, question: Question, surely: bool, tries: u32, then: Then) {
        let Some(node) = self.node.upgrade() else { return then(Err(lost())) };
        let owner = self.owner(&node, shard);
        let (peers, again) = (self.clone(), question.clone());
        let then: Then = Box::new(move |said| match said {
            Ok(Said::Elsewhere(_)) if tries == 0 => then(Err(unavailable())),
            Ok(Said::Elsewhere(_)) => peers.look_again(owner, shard, again, surely, tries - 1, then),
            Err(_) if surely && tries > 0 => peers.look_again(owner, shard, again, surely, tries - 1, then),
            said => then(said),
        });
        self.put(&node, owner, question, then);
    }

    fn put(self: &Arc<Self>, node: &Arc<NodeContext>, owner: NodeId, question: Question, then: Then) {
        if owner == self.me() {
            serving::serve(node, self, owner, question, Box::new(move |said| then(Ok(said))));
        } else {
            self.ask(node, owner, asks::encode(&question), then);
        }
    }

    fn look_again(self: Arc<Self>, was: NodeId, shard: Shard, question: Question, surely: bool, tries: u32, then: Then) {
        if self.shared.owner(shard) != was {
            return self.ask_owner(shard, question, surely, tries, then);
        }
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            tokio::time::sleep(look_again(tries + 1)).await;
            self.ask_owner(shard, question, surely, tries, then);
        });
    }

    /// A message for a room that another node owns, or that others are before.
    pub fn to_room(self: &Arc<Self>, shard: Shard, room: RoomId, msg: RoomMsg) {
        let (question, reply): (Question, Reply) = match msg {
            RoomMsg::Ask(ask) => (Question::request(ask.caller, &ask.request, ask.only_at), ask.reply),
            RoomMsg::Create { by, create, reply } => {
                return self.ask_owner(shard, Question::Create { room, by, create: *create }, false, TRIES, to_reply(reply));
            }
            RoomMsg::Admit { user, link, reply } => {
                let question = Question::Admit { room, user, by: link.by, role: link.role };
                return self.ask_owner(shard, question, false, TRIES, to_reply(reply));
            }
            RoomMsg::Settle(reply) => {
                let then: Then = Box::new(move |_| {
                    let _ = reply.send(());
                });
                return self.ask_owner(shard, Question::Settle { room }, false, 1, then);
            }
            RoomMsg::Verdict { .. } => return msg.refuse(lost()),
            // Its owner sees to that.
            RoomMsg::Wake | RoomMsg::Stop | RoomMsg::StepDown(_) | RoomMsg::Panic => return,
        };
        let (taken_in, through) = (reply.taken_in(), reply.through().to_vec());
        let then = to_reply(reply);
        if taken_in.is_some() && through.contains(&self.me()) {
            // It stands in this node's line already, and would wait for itself.
            return then(Err(unavailable()));
        }
        if self.lines.waiting.load(SeqCst) >= WAITING_MAX {
            return then(Err(ApiError::new(Code::Busy, "too many requests wait for the owner of their room; try again in a moment")));
        }
        let until = Instant::now() + Duration::from_millis(u64::from(ASK_MS));
        let order = taken_in.unwrap_or_else(|| self.lines.fresh());
        self.lines.push(room, taken_in.is_some(), Asked { shard, order, through, question, then, tries: TRIES, until });
        self.drain(room);
    }

    /// Sends what may be sent of a room's line.
    fn drain(self: &Arc<Self>, room: RoomId) {
        let Some(node) = self.node.upgrade() else { return };
        let shard = node.router.shard(room);
        loop {
            let owner = self.owner(&node, shard);
            let Some((ticket, round, asked)) = self.lines.next(room, owner, self.lines.is_here(shard)) else { return };
            let (question, place) = (asked.question.clone(), Place { order: Some(asked.order), through: asked.through.clone() });
            let peers = self.clone();
            let then: Then = Box::new(move |said| peers.said(room, ticket, owner, asked, said));
            if owner == self.me() {
                serving::serve_at(&node, self, owner, question, place, Box::new(move |said| then(Ok(said))));
            } else {
                let through = place.through.iter().map(|node| node.0).collect();
                self.ask(&node, owner, asks::encode(&question.in_line(round, through)), then);
            }
            self.lines.sent(room);
        }
    }

    fn said(self: &Arc<Self>, room: RoomId, ticket: u64, owner: NodeId, asked: Asked, said: Result<Said, ApiError>) {
        match said {
            Ok(Said::Elsewhere(_)) if asked.tries > 0 && asked.until > Instant::now() => {
                let moved = self.shared.owner(asked.shard) != owner;
                let not_before = (!moved).then(|| Instant::now() + look_again(asked.tries));
                self.lines.back(room, ticket, Asked { tries: asked.tries - 1, ..asked }, not_before);
                if let Some(at) = not_before {
                    let peers = self.clone();
                    self.runtime.spawn(async move {
                        tokio::time::sleep_until(at.into()).await;
                        peers.drain(room);
                    });
                }
            }
            said => {
                self.lines.done(room, ticket);
                (asked.then)(if matches!(said, Ok(Said::Elsewhere(_))) { Err(unavailable()) } else { said });
            }
        }
        self.drain(room);
    }

    /// Refuses what has waited too long in a line, and looks whether what waits may go.
    pub(super) fn mind_lines(self: &Arc<Self>) {
        if self.lines.waiting.load(SeqCst) == 0 {
            return;
        }
        for asked in self.lines.expired(Instant::now()) {
            (asked.then)(Err(unavailable()));
        }
        self.lines.rooms(|_| true).into_iter().for_each(|room| self.drain(room));
    }
}
