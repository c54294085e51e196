//! The guardian: one per thread for rooms and presence. Starts, watches and restarts the rooms and presences of its shards, and is
//! the only way to them.
//!
//! A child that ends, by a panic too, tells by the drop of its [`ChildGuard`]. Requests that were in its mailbox are answered with a
//! retriable error by their dropped replies. A room that panicked is rebuilt from the log at once; a child that panics again and again is rebuilt with growing pauses, in which requests are refused with the time
//! to wait. Other rooms never notice. Rooms without interest and requests are passivated and cost nothing in memory.

use super::applier::Applier;
use super::delivery::Delivery;
use super::node::NodeContext;
use super::presence::{Past, Presence, PresenceMsg};
use super::room::{Room, RoomMsg};
use super::router::{GuardianAddr, Verdict};
use crate::bus::Envelope;
use crate::cluster::NodeId;
use crate::cluster::claims::Told;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{RoomId, Shard, UserId};
use crate::telemetry::metrics;
use actix::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

mod resting;

/// Panics of one child within [`STORM_WINDOW`] after which it is rebuilt with pauses.
const STORM_FREE: u32 = 3;
/// A child that did not panic for so long begins anew.
const STORM_WINDOW: Duration = Duration::from_secs(60);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A room that could not be loaded, or not be ended in order, is loaded again after this.
const LOAD_AGAIN: Duration = Duration::from_secs(5);
/// Messages kept for a room that is just ending.
const HELD_MAX: usize = 4_096;

/// What the rooms and presences of one thread share with their guardian.
pub struct Local {
    /// The node.
    pub node: Arc<NodeContext>,
    /// Which nodes have sessions that care about a room. Held here, per shard and not per room, so that an idle room costs no actor.
    pub interest: RefCell<HashMap<RoomId, Vec<NodeId>>>,
    /// Users of this thread's shards who have a connected device.
    pub online: RefCell<HashSet<UserId>>,
    /// Entries that wait for the applier.
    pub applying: Rc<Cell<usize>>,
    /// Carries entries' consequences out.
    pub applier: Addr<Applier>,
    /// Sees to what follows from entries outside the room.
    pub delivery: Addr<Delivery>,
    /// The guardian.
    pub guardian: Addr<Guardian>,
    untold: resting::Untold,
}

impl Local {
    /// Sends an envelope to every node that follows the room.
    pub fn fan_out(&self, room: RoomId, envelope: impl Fn() -> Envelope) {
        if let Some(nodes) = self.interest.borrow().get(&room) {
            for node in nodes {
                self.node.send(*node, envelope());
            }
        }
    }
    /// A node follows the room from now on.
    pub fn interested(&self, node: NodeId, room: RoomId) {
        let mut interest = self.interest.borrow_mut();
        let nodes = interest.entry(room).or_default();
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    /// Whether the node follows the room.
    pub fn is_followed_by(&self, node: NodeId, room: RoomId) -> bool {
        self.interest.borrow().get(&room).is_some_and(|nodes| nodes.contains(&node))
    }
    /// Whether anybody follows the room.
    pub fn is_followed(&self, room: RoomId) -> bool {
        self.interest.borrow().contains_key(&room)
    }
}

/// A child's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Child {
    /// A room.
    Room(RoomId),
    /// A user's presence.
    Presence(UserId),
}

/// A field of a child whose drop tells the guardian that the child is gone, however it went.
pub struct ChildGuard {
    guardian: Addr<Guardian>,
    child: Child,
    generation: u64,
    settled: bool,
}
impl ChildGuard {
    /// Everything of the child is in the store: it can be read without it.
    pub fn settled(&mut self) {
        self.settled = true;
    }
    /// Which life of the child this is.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
impl Drop for ChildGuard {
    fn drop(&mut self) {
        let (child, generation, settled) = (self.child, self.generation, self.settled);
        let gone = GuardianMsg::Gone { child, generation, panicked: std::thread::panicking(), settled };
        self.guardian.do_send(gone);
    }
}

/// What reaches a guardian.
#[derive(Message)]
#[rtype(result = "()")]
pub enum GuardianMsg {
    /// For a room; starts it.
    Room(RoomId, RoomMsg),
    /// The same from this thread, which counts as no request: for a room that was taken to rest and must answer itself.
    Resting(RoomId, RoomMsg),
    /// For a user's presence; starts it where the message is of a kind that needs one.
    Presence(UserId, PresenceMsg),
    /// See `Router::attach`.
    Attach {
        /// Who wants to follow.
        user: UserId,
        /// From where; none: only how the rooms stand is wanted.
        node: Option<NodeId>,
        /// What.
        rooms: Vec<RoomId>,
        /// The answer.
        reply: oneshot::Sender<Result<Vec<Verdict>, ApiError>>,
    },
    /// See `Router::settle`.
    Settle(RoomId, oneshot::Sender<()>),
    /// A node follows the rooms; it is told their heads: of `all`, or of those that are active.
    Follow {
        /// Which node.
        node: NodeId,
        /// Which rooms.
        rooms: Vec<RoomId>,
        /// Those that rest too.
        all: bool,
    },
    /// A node follows the rooms no more.
    NoInterest(NodeId, Vec<RoomId>),
    /// A node's process is gone, with its interest and its sessions.
    NodeGone(NodeId),
    /// What a node said may have been missed: it is asked to say again who is connected, and who it does not name is not.
    Doubt(NodeId),
    /// Shards that are no longer this node's: presences and interest are another's to keep.
    Left(Arc<HashSet<Shard>>),
    /// A shard has come to this node: its rooms redo what was not applied.
    TakeOver(Shard),
    /// See `Router::online`.
    Online {
        /// Who is asked about.
        users: Vec<UserId>,
        /// Those with a connected device.
        reply: oneshot::Sender<Vec<UserId>>,
    },
    /// What became of a room's shard.
    Told(Shard, Told),
    /// A child would like to end.
    MayStop(Child, u64),
    /// A child has ended.
    Gone {
        /// Which.
        child: Child,
        /// Which life of it.
        generation: u64,
        /// By a panic.
        panicked: bool,
        /// See [`ChildGuard::settled`].
        settled: bool,
    },
    /// Rooms with unapplied entries: start them.
    Redo(Vec<RoomId>),
    /// For tests: this child panics.
    Panic(Child),
    /// Ends every room after its append in flight, with a marker written; answers when none is left or the time is over.
    PassivateAll(oneshot::Sender<()>),
}

#[derive(Default)]
struct Storm {
    panics: u32,
    last: Option<Instant>,
    until: Option<Instant>,
}

impl Storm {
    /// Another panic; gives the pause before the next start.
    fn panicked(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now - last > STORM_WINDOW) {
            self.panics = 0;
        }
        self.panics += 1;
        self.last = Some(now);
        let over = self.panics.saturating_sub(STORM_FREE);
        let pause = if over == 0 { Duration::ZERO } else { (Duration::from_millis(100) * (1 << over.min(10))).min(PAUSE_MAX) };
        self.until = Some(now + pause);
        pause
    }
}

enum Slot<A: Actor, M> {
    Live(Addr<A>, u64),
    /// It is ending; what comes meanwhile goes to its next life.
    Stopping(u64, Vec<M>),
}

/// See the module.
pub struct Guardian {
    local: Rc<Local>,
    waiting: Arc<AtomicUsize>,
    rooms: HashMap<RoomId, Slot<Room, RoomMsg>>,
    presences: HashMap<UserId, (Addr<Presence>, u64)>,
    storms: HashMap<Child, Storm>,
    /// Rooms that ended with something unapplied or without a marker: what the store says of them may be old, so only they answer.
    unsettled: HashSet<RoomId>,
    generations: u64,
    on_empty: Option<oneshot::Sender<()>>,
}

impl Guardian {
    /// Starts a guardian with its applier and delivery on an arbiter.
    pub fn launch(on: &ArbiterHandle, node: Arc<NodeContext>) -> GuardianAddr {
        let waiting = Arc::new(AtomicUsize::new(0));
        let taken = waiting.clone();
        let addr = Guardian::start_in_arbiter(on, move |ctx| {
            let applying = Rc::new(Cell::new(0));
            let applier = Applier::new(node.clone(), ctx.address(), applying.clone()).start();
            let local = Rc::new(Local {
                delivery: Delivery::new(node.clone(), applier.clone()).start(),
                applier,
                interest: RefCell::default(),
                online: RefCell::default(),
                applying,
                guardian: ctx.address(),
                untold: resting::Untold::default(),
                node,
            });
            Guardian {
                local,
                waiting: taken,
                rooms: HashMap::new(),
                presences: HashMap::new(),
                storms: HashMap::new(),
                unsettled: HashSet::new(),
                generations: 0,
                on_empty: None,
            }
        });
        GuardianAddr { addr, waiting }
    }

    fn guard(&mut self, child: Child) -> ChildGuard {
        self.generations += 1;
        ChildGuard { guardian: self.local.guardian.clone(), child, generation: self.generations, settled: false }
    }

    /// The pause that a storm of panics still imposes on a child.
    fn paused(&self, child: Child) -> Option<Duration> {
        let until = self.storms.get(&child)?.until?;
        until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero())
    }

    fn pass_to_room(&mut self, room: RoomId, msg: RoomMsg) {
        match self.rooms.get_mut(&room) {
            Some(Slot::Live(addr, _)) => addr.do_send(msg),
            Some(Slot::Stopping(_, held)) if held.len() < HELD_MAX => held.push(msg),
            Some(Slot::Stopping(..)) => msg.refuse(ApiError::new(Code::Busy, "too much is waiting for this room")),
            None => match self.paused(Child::Room(room)) {
                Some(wait) => msg.refuse(ApiError::after(Code::Unavailable, "this room keeps failing and is being rebuilt", wait)),
                None => self.start_room(room).do_send(msg),
            },
        }
    }

    fn start_room(&mut self, room: RoomId) -> Addr<Room> {
        let guard = self.guard(Child::Room(room));
        let generation = guard.generation;
        let addr = Room::new(room, self.local.clone(), guard).start();
        self.rooms.insert(room, Slot::Live(addr.clone(), generation));
        metrics().rooms_active.inc();
        addr
    }

    fn pass_to_presence(&mut self, user: UserId, msg: PresenceMsg) {
        if let Some((addr, _)) = self.presences.get(&user) {
            addr.do_send(msg);
        } else if msg.needs_actor() && self.paused(Child::Presence(user)).is_none() {
            let guard = self.guard(Child::Presence(user));
            let generation = guard.generation;
            let addr = Presence::new(user, self.local.clone(), guard, self.past(user)).start();
            self.presences.insert(user, (addr.clone(), generation));
            metrics().presences_active.inc();
            addr.do_send(msg);
        } else if let PresenceMsg::Event(event) = msg
            && self.past(user) != Past::None
        {
            // Its sessions are not known yet: whoever has one passes it on.
            self.local.node.bus.broadcast(Envelope::User { user, event });
        }
    }

    /// What may be known elsewhere of a presence that begins here.
    fn past(&self, user: UserId) -> Past {
        let router = &self.local.node.router;
        let gained = router.peers().and_then(|peers| peers.gained(router.shard_of_user(user)));
        match gained {
            _ if self.storms.contains_key(&Child::Presence(user)) => Past::Panicked,
            Some(true) => Past::OwnerDied,
            Some(false) => Past::Moved,
            None => Past::None,
        }
    }

    /// A node follows rooms from now on, and is told their heads: of `all`, or of those that are active.
    fn follow(&mut self, follower: NodeId, rooms: Vec<RoomId>, all: bool) {
        let (mut heads, mut idle) = (Vec::new(), Vec::new());
        for room in rooms {
            self.local.interested(follower, room);
            match self.local.node.claims.committed(room) {
                head if head > 0 && self.rooms.contains_key(&room) => heads.push((room, head)),
                _ if all => idle.push(room),
                _ => {}
            }
        }
        resting::tell_heads(self.local.clone(), follower, heads, idle);
    }

    /// The rooms of a shard that may have something unapplied redo it: their last owner did not end them.
    fn take_over(&self, shard: Shard) {
        let (node, guardian) = (self.local.node.clone(), self.local.guardian.clone());
        actix::spawn(async move {
            match super::reading::in_time(node.store.unapplied(Some(shard))).await {
                Ok(rooms) if rooms.is_empty() => {}
                Ok(rooms) => guardian.do_send(GuardianMsg::Redo(rooms)),
                Err(error) => {
                    tracing::warn!(%error, "what a shard's last owner left unapplied could not be found; its rooms redo it when they start")
                }
            }
        });
    }

    /// A node's interest and sessions are gone.
    fn node_gone(&self, gone: NodeId) {
        self.local.interest.borrow_mut().retain(|_, nodes| {
            nodes.retain(|node| *node != gone);
            !nodes.is_empty()
        });
        for (presence, _) in self.presences.values() {
            presence.do_send(PresenceMsg::NodeGone(gone));
        }
    }

    /// Shards are another's now.
    fn left(&mut self, shards: &HashSet<Shard>) {
        let router = &self.local.node.router;
        // Taken back meanwhile: then nothing has ended.
        let left = |shard: Shard| shards.contains(&shard) && !router.owns(shard);
        self.local.interest.borrow_mut().retain(|room, _| !left(router.shard(*room)));
        self.presences.retain(|user, (presence, _)| {
            let left = left(router.shard_of_user(*user));
            if left {
                presence.do_send(PresenceMsg::Leave);
                self.local.online.borrow_mut().remove(user);
                metrics().presences_active.dec();
            }
            !left
        });
    }

    fn attach(
        &mut self,
        user: UserId,
        follower: Option<NodeId>,
        rooms: Vec<RoomId>,
        reply: oneshot::Sender<Result<Vec<Verdict>, ApiError>>,
    ) {
        let (mut idle, mut active) = (Vec::new(), Vec::new());
        for room in rooms {
            // Interest first: whatever is committed from now on reaches the node, so the head below cannot be too old.
            if let Some(node) = follower {
                self.local.interested(node, room);
            }
            if self.rooms.contains_key(&room) || self.unsettled.contains(&room) {
                let (tx, rx) = oneshot::channel();
                self.pass_to_room(room, RoomMsg::Verdict { user, reply: tx });
                active.push(rx);
            } else {
                idle.push(room);
            }
        }
        let local = self.local.clone();
        actix::spawn(async move {
            let _ = reply.send(resting::verdicts(&local, user, idle, active).await);
        });
    }

    fn gone(&mut self, child: Child, generation: u64, panicked: bool, settled: bool) {
        match child {
            Child::Room(room) => {
                let current = match self.rooms.get(&room) {
                    Some(Slot::Live(_, g) | Slot::Stopping(g, _)) => *g == generation,
                    None => false,
                };
                if !current {
                    return;
                }
                metrics().rooms_active.dec();
                let slot = self.rooms.remove(&room);
                let node = self.local.node.clone();
                let shard = node.router.shard(room);
                // Asked before the room's end may give the shard away. If it is another's, that one finds what is left to do.
                let rebuild = !settled && node.claims.is_for_me(shard);
                if !settled {
                    node.claims.deactivate(shard, room, false);
                }
                if rebuild {
                    self.unsettled.insert(room);
                    let pause = if panicked { self.panicked(child) } else { LOAD_AGAIN };
                    self.rebuild_room(room, pause);
                } else {
                    self.unsettled.remove(&room);
                }
                if let Some(Slot::Stopping(_, held)) = slot {
                    let router = &self.local.node.router;
                    match router.owns(router.shard(room)) {
                        true => held.into_iter().for_each(|msg| self.pass_to_room(room, msg)),
                        false => held.into_iter().for_each(|msg| router.to_room(room, msg)),
                    }
                }
            }
            Child::Presence(user) => {
                if self.presences.get(&user).is_none_or(|(_, g)| *g != generation) {
                    return;
                }
                metrics().presences_active.dec();
                self.presences.remove(&user);
                self.local.online.borrow_mut().remove(&user);
                if panicked {
                    let (pause, bus) = (self.panicked(child), self.local.node.bus.clone());
                    // Whoever has sessions of this user, or watches it, says so again, once it may start.
                    actix::spawn(async move {
                        tokio::time::sleep(pause).await;
                        bus.broadcast(Envelope::PresenceLost { user });
                    });
                }
            }
        }
        if self.rooms.is_empty()
            && let Some(done) = self.on_empty.take()
        {
            let _ = done.send(());
        }
    }

    fn panicked(&mut self, child: Child) -> Duration {
        metrics()
            .actor_restarts_total
            .of(match child {
                Child::Room(_) => "room",
                Child::Presence(_) => "presence",
            })
            .inc();
        let now = Instant::now();
        self.storms.retain(|_, s| s.last.is_some_and(|last| now - last < STORM_WINDOW));
        let pause = self.storms.entry(child).or_default().panicked(now);
        tracing::error!(?child, pause_ms = pause.as_millis() as u64, "an actor panicked and is rebuilt");
        pause
    }

    fn rebuild_room(&self, room: RoomId, pause: Duration) {
        let guardian = self.local.guardian.clone();
        actix::spawn(async move {
            tokio::time::sleep(pause).await;
            guardian.do_send(GuardianMsg::Redo(vec![room]));
        });
    }

    fn may_stop(&mut self, child: Child, generation: u64) {
        match child {
            Child::Room(room) => {
                if let Some(Slot::Live(addr, g)) = self.rooms.get(&room)
                    && *g == generation
                {
                    let addr = addr.clone();
                    addr.do_send(RoomMsg::Stop);
                    self.rooms.insert(room, Slot::Stopping(generation, Vec::new()));
                }
            }
            Child::Presence(user) => {
                if let Some((addr, g)) = self.presences.get(&user)
                    && *g == generation
                {
                    // What reaches it before this is answered; it stays if that gave it something to do.
                    addr.do_send(PresenceMsg::Stop);
                    self.presences.remove(&user);
                    metrics().presences_active.dec();
                }
            }
        }
    }

    fn take(&mut self, msg: GuardianMsg) {
        match msg {
            GuardianMsg::Room(room, msg) | GuardianMsg::Resting(room, msg) => self.pass_to_room(room, msg),
            GuardianMsg::Presence(user, msg) => self.pass_to_presence(user, msg),
            GuardianMsg::Attach { user, node, rooms, reply } => self.attach(user, node, rooms, reply),
            GuardianMsg::Settle(room, reply) if self.rooms.contains_key(&room) || self.unsettled.contains(&room) => {
                self.pass_to_room(room, RoomMsg::Settle(reply));
            }
            GuardianMsg::Settle(_, reply) => drop(reply.send(())),
            GuardianMsg::Follow { node, rooms, all } => self.follow(node, rooms, all),
            GuardianMsg::NoInterest(node, rooms) => rooms.into_iter().for_each(|room| self.no_interest(node, room)),
            GuardianMsg::NodeGone(node) => self.node_gone(node),
            GuardianMsg::Doubt(node) => self.presences.values().for_each(|(presence, _)| presence.do_send(PresenceMsg::Doubt(node))),
            GuardianMsg::Left(shards) => self.left(&shards),
            GuardianMsg::TakeOver(shard) => self.take_over(shard),
            GuardianMsg::Online { users, reply } => {
                let online = self.local.online.borrow();
                let _ = reply.send(users.into_iter().filter(|user| online.contains(user)).collect());
            }
            GuardianMsg::Told(shard, told) => self.told(shard, told),
            GuardianMsg::MayStop(child, generation) => self.may_stop(child, generation),
            GuardianMsg::Gone { child, generation, panicked, settled } => self.gone(child, generation, panicked, settled),
            GuardianMsg::Redo(rooms) => rooms.into_iter().for_each(|room| self.pass_to_room(room, RoomMsg::Wake)),
            GuardianMsg::Panic(Child::Room(room)) => self.pass_to_room(room, RoomMsg::Panic),
            GuardianMsg::Panic(Child::Presence(user)) => self.pass_to_presence(user, PresenceMsg::Panic),
            GuardianMsg::PassivateAll(done) => self.passivate_all(done),
        }
    }

    fn no_interest(&self, node: NodeId, room: RoomId) {
        // A hub may have begun to follow since this was sent, and its own message may have been faster.
        if node == self.local.node.placement.me() && self.local.node.hubs.follows(room) {
            return;
        }
        let mut interest = self.local.interest.borrow_mut();
        if let Some(nodes) = interest.get_mut(&room) {
            nodes.retain(|other| *other != node);
            if nodes.is_empty() {
                interest.remove(&room);
            }
        }
    }

    /// A shard was lost, or is being handed over, or was taken.
    fn told(&mut self, shard: Shard, told: Told) {
        match told {
            Told::StepDown(room, epoch) => {
                // One that is ending learns it from its check.
                if let Some(Slot::Live(addr, _)) = self.rooms.get(&room) {
                    addr.do_send(RoomMsg::StepDown(epoch));
                }
            }
            Told::Finish(room) => match self.rooms.get(&room) {
                Some(Slot::Live(_, generation)) => self.may_stop(Child::Room(room), *generation),
                Some(Slot::Stopping(..)) => {}
                None => self.local.node.claims.deactivate(shard, room, false),
            },
            // Alone, the start of the process has looked.
            Told::Owned(_) if self.local.node.router.peers().is_some() => self.take_over(shard),
            Told::Owned(_) | Told::Released(..) => {}
        }
    }

    fn passivate_all(&mut self, done: oneshot::Sender<()>) {
        let live: Vec<(RoomId, u64)> =
            self.rooms.iter().filter_map(|(room, slot)| if let Slot::Live(_, g) = slot { Some((*room, *g)) } else { None }).collect();
        for (room, generation) in live {
            self.may_stop(Child::Room(room), generation);
        }
        if self.rooms.is_empty() {
            let _ = done.send(());
        } else {
            self.on_empty = Some(done);
        }
    }
}

impl Actor for Guardian {
    type Context = Context<Self>;
}

impl Handler<GuardianMsg> for Guardian {
    type Result = ();
    fn handle(&mut self, msg: GuardianMsg, _: &mut Self::Context) {
        if matches!(
            msg,
            GuardianMsg::Room(..)
                | GuardianMsg::Presence(..)
                | GuardianMsg::Attach { .. }
                | GuardianMsg::Settle(..)
                | GuardianMsg::Follow { .. }
                | GuardianMsg::NoInterest(..)
                | GuardianMsg::Online { .. }
        ) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        // The guardian is what everything else is restarted by: a fault in it must not end it.
        if catch_unwind(AssertUnwindSafe(|| self.take(msg))).is_err() {
            tracing::error!("a guardian panicked on a message and goes on");
            metrics().actor_restarts_total.of("guardian").inc();
        }
    }
}
