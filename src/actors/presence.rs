//! Presence: one per user with sessions or watchers. Merges the user's devices and tells contacts, nobody else.
//!
//! What to tell and when is decided by [`Devices`] (pure). The actor keeps who watches from which hub, arms a timer for the next
//! deadline, stores `last_seen`, and passes events on to the user's hubs. After a panic it is rebuilt from what hubs announce
//! again. A presence without sessions, watchers and deadlines ends and costs nothing.

use super::guardian::{Child, ChildGuard, GuardianMsg, Local};
use super::node::now_ms;
use crate::bus::{Envelope, Framed, UserEvent};
use crate::cluster::NodeId;
use crate::protocol::ids::{DeviceId, UserId};
use crate::protocol::ops::{PresencePush, PresenceState, Push};
use crate::protocol::presence::{Devices, Effect};
use crate::webhooks::event;
use actix::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Watchers of one user at most; more are not told (contacts are bounded by configuration, this is the last bound).
const WATCHERS_MAX: usize = 20_000;

/// What reaches a presence.
#[derive(Message)]
#[rtype(result = "()")]
pub enum PresenceMsg {
    /// A session of the user is connected (also said again after a rebuild).
    Up {
        /// At which node.
        node: NodeId,
        /// Its number in its node.
        session: u64,
        /// On which device.
        device: DeviceId,
        /// In which hub.
        hub: usize,
        /// What its client said its user is.
        state: PresenceState,
    },
    /// It is gone.
    Down {
        /// At which node.
        node: NodeId,
        /// Its number.
        session: u64,
    },
    /// A session says what its user is.
    Set {
        /// At which node.
        node: NodeId,
        /// Its number.
        session: u64,
        /// The state.
        state: PresenceState,
    },
    /// The user's status text is another.
    Status(String),
    /// A contact wants to be told.
    Watch {
        /// At which node.
        node: NodeId,
        /// The contact.
        watcher: UserId,
        /// In which hub its sessions are.
        hub: usize,
        /// What the user is now.
        reply: Option<oneshot::Sender<PresencePush>>,
    },
    /// Somebody wants to know what the user is now.
    Look(oneshot::Sender<PresencePush>),
    /// A contact need not, or must not, be told any more.
    Unwatch {
        /// The contact.
        watcher: UserId,
        /// In one hub of a node, or anywhere.
        hub: Option<(NodeId, usize)>,
    },
    /// For the user's sessions.
    Event(UserEvent),
    /// A node's process is gone, and its sessions with it.
    NodeGone(NodeId),
    /// What a node said may have been missed. It says again who is connected there; who it does not name within [`DOUBT`] is not.
    Doubt(NodeId),
    /// Another node keeps this presence now: it ends, and tells nobody.
    Leave,
    /// The guardian lets it end.
    Stop,
    /// For tests: panic.
    Panic,
}

impl PresenceMsg {
    /// Whether it makes sense without an actor that is there already.
    pub fn needs_actor(&self) -> bool {
        matches!(self, PresenceMsg::Up { .. } | PresenceMsg::Watch { .. })
    }
}

/// How long a node may take to say again who is connected.
pub const DOUBT: Duration = Duration::from_secs(5);
/// Of a session's number at its node so many bits count: more sessions than that are not open at once.
const SESSION_BITS: u32 = 32;

/// What may be known elsewhere of a presence that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// Nothing.
    None,
    /// The last one panicked, and what it told is not known.
    Panicked,
    /// Another node kept it and handed it over.
    Moved,
    /// Another node kept it and died.
    OwnerDied,
}

/// A session or a watcher's hub, at its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    node: NodeId,
    hub: usize,
    /// Its node was asked to say again that it is there, and has not yet.
    doubted: bool,
}

/// A session's number over all nodes.
fn number(node: NodeId, session: u64) -> u64 {
    u64::from(node.0) << SESSION_BITS | (session & ((1 << SESSION_BITS) - 1))
}

/// See the module.
pub struct Presence {
    user: UserId,
    local: Rc<Local>,
    guard: ChildGuard,
    devices: Devices,
    /// Where each session is, by its [`number`].
    hubs: HashMap<u64, Place>,
    /// Who watches, and the hubs of its sessions.
    watchers: HashMap<UserId, Vec<Place>>,
    /// Until when sessions may be there that have not announced themselves.
    young: Option<Instant>,
    status: String,
    last_seen: u64,
    timer: Option<SpawnHandle>,
    /// It is noted now and then that the user is connected.
    noting: Option<SpawnHandle>,
    known: bool,
    /// Asked for before the row was read.
    early: Vec<oneshot::Sender<PresencePush>>,
}

impl Presence {
    /// Nobody is connected yet. Where what the last one told is not known, whatever is true is told again.
    pub fn new(user: UserId, local: Rc<Local>, guard: ChildGuard, past: Past) -> Self {
        let debounce = local.node.config.presence.offline_debounce_ms;
        let devices = match past {
            Past::None => Devices::new(debounce),
            Past::Panicked => Devices::rebuilt(debounce, now_ms()),
            Past::Moved | Past::OwnerDied => Devices::moved(debounce, now_ms(), past == Past::OwnerDied),
        };
        let young = (past != Past::None && local.node.router.peers().is_some()).then(|| Instant::now() + DOUBT);
        Presence {
            user,
            local,
            guard,
            devices,
            hubs: HashMap::new(),
            watchers: HashMap::new(),
            young,
            status: String::new(),
            last_seen: 0,
            timer: None,
            noting: None,
            known: false,
            early: Vec::new(),
        }
    }

    fn push(&self) -> PresencePush {
        let state = self.devices.told();
        PresencePush { user: self.user, state, last_seen: self.last_seen, status: self.status.clone() }
    }

    fn carry_out(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::SetLastSeen(at) => {
                    self.last_seen = at;
                    self.store_seen(at);
                }
                Effect::Announce(_) => self.announce(),
            }
        }
        self.note_seen(ctx);
        self.arm(ctx);
    }

    fn store_seen(&self, at: u64) {
        let (node, user) = (self.local.node.clone(), self.user);
        actix::spawn(async move {
            if let Err(error) = super::reading::in_time(node.store.seen(user, at)).await {
                tracing::warn!(%error, "last seen was not stored");
            }
        });
    }

    /// Whoever keeps this presence may die together with the user's sessions, and then nobody knows when they were there last. So that is noted
    /// while they are: not at once and not for all users at one time, since many come back together when a node goes.
    fn note_seen(&mut self, ctx: &mut Context<Self>) {
        match (self.hubs.is_empty(), self.noting) {
            (false, None) => {
                let every = self.local.node.config.presence.seen_every_ms;
                let first = Duration::from_millis(rand::random_range(every / 2..=every));
                self.noting = Some(ctx.run_later(first, |me, ctx| {
                    me.noting = None;
                    me.store_seen(now_ms());
                    me.note_seen(ctx);
                }));
            }
            (true, Some(noting)) => {
                ctx.cancel_future(noting);
                self.noting = None;
            }
            (false, Some(_)) | (true, None) => {}
        }
    }

    /// Tells the webhooks, and every hub that has watchers. Hubs of other nodes are reached through their node.
    fn announce(&self) {
        let now = self.push();
        self.local.node.webhooks.once(event::PRESENCE, None, || event::presence(&now, now_ms()));
        if self.watchers.is_empty() {
            return;
        }
        let mut by_node: BTreeMap<NodeId, Vec<UserId>> = BTreeMap::new();
        for (watcher, places) in &self.watchers {
            for (index, place) in places.iter().enumerate() {
                if places[..index].iter().all(|before| before.node != place.node) {
                    by_node.entry(place.node).or_default().push(*watcher);
                }
            }
        }
        let push = Arc::new(Framed::new(Push::Presence(now)));
        for (node, watchers) in by_node {
            self.local.node.send(node, Envelope::Presence { watchers: watchers.into(), push: push.clone() });
        }
    }

    /// For the user's sessions, wherever they are.
    fn pass_on(&self, event: UserEvent) {
        let (node, user) = (&self.local.node, self.user);
        if self.young.is_some_and(|until| Instant::now() < until) {
            // Not all have announced themselves yet.
            return node.bus.broadcast(Envelope::User { user, event });
        }
        let mut nodes: BTreeSet<NodeId> = self.hubs.values().map(|place| place.node).collect();
        if node.router.peers().is_none() {
            nodes.insert(node.placement.me());
        }
        for to in nodes {
            node.send(to, Envelope::User { user, event: event.clone() });
        }
    }

    /// Sessions and watchers that are no more.
    fn forget(&mut self, gone: impl Fn(&Place) -> bool) -> Vec<Effect> {
        let before = self.hubs.len();
        let sessions: Vec<u64> = self.hubs.extract_if(|_, place| gone(place)).map(|(session, _)| session).collect();
        self.watchers.retain(|_, places| {
            places.retain(|place| !gone(place));
            !places.is_empty()
        });
        let now = now_ms();
        let effects = sessions.into_iter().flat_map(|session| self.devices.disconnect(session, now)).collect();
        self.online();
        if before > 0 && self.hubs.is_empty() {
            // What was sent there since it was last heard may not have arrived.
            let socket = Duration::from_millis(self.local.node.config.socket.heartbeat_ms * 2);
            let reached = Instant::now().checked_sub(socket).unwrap_or_else(Instant::now);
            let back = Duration::from_millis(self.local.node.config.presence.offline_debounce_ms);
            self.local.node.unreached.ended(self.user, reached, back);
        }
        effects
    }

    fn doubt(&mut self, node: NodeId, ctx: &mut Context<Self>) {
        let places = self.hubs.values_mut().chain(self.watchers.values_mut().flatten());
        let mut any = false;
        for place in places.filter(|place| place.node == node) {
            place.doubted = true;
            any = true;
        }
        if any {
            ctx.run_later(DOUBT, move |me, ctx| {
                let effects = me.forget(|place| place.node == node && place.doubted);
                me.carry_out(effects, ctx);
            });
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(due) = self.devices.next_deadline() {
            let wait = Duration::from_millis(due.saturating_sub(now_ms()).max(1));
            self.timer = Some(ctx.run_later(wait, |me, ctx| {
                let effects = me.devices.tick(now_ms());
                me.carry_out(effects, ctx);
            }));
        } else if self.hubs.is_empty() && self.watchers.is_empty() {
            self.timer = Some(ctx.run_later(Duration::from_millis(self.local.node.config.rooms.idle_ms), |me, _| {
                if me.is_idle() {
                    me.local.guardian.do_send(GuardianMsg::MayStop(Child::Presence(me.user), me.guard.generation()));
                }
            }));
        }
    }

    fn is_idle(&self) -> bool {
        self.hubs.is_empty() && self.watchers.is_empty() && self.devices.is_idle()
    }

    fn watch(&mut self, watcher: UserId, at: Place, reply: Option<oneshot::Sender<PresencePush>>) {
        if self.watchers.len() < WATCHERS_MAX || self.watchers.contains_key(&watcher) {
            let places = self.watchers.entry(watcher).or_default();
            match places.iter_mut().find(|place| (place.node, place.hub) == (at.node, at.hub)) {
                Some(known) => known.doubted = false,
                None => places.push(at),
            }
        }
        if let Some(reply) = reply {
            self.answer(reply);
        }
    }

    /// Says what the user is, as soon as that is known.
    fn answer(&mut self, reply: oneshot::Sender<PresencePush>) {
        if self.known {
            let _ = reply.send(self.push());
        } else {
            self.early.push(reply);
        }
    }

    fn unwatch(&mut self, watcher: UserId, hub: Option<(NodeId, usize)>) {
        if let Some(places) = self.watchers.get_mut(&watcher) {
            places.retain(|place| hub.is_some_and(|gone| gone != (place.node, place.hub)));
            if places.is_empty() {
                self.watchers.remove(&watcher);
            }
        }
    }

    /// Reads what the store knows of the user: status text and when it was last connected.
    fn read(&mut self, ctx: &mut Context<Self>) {
        let (node, user) = (self.local.node.clone(), self.user);
        let read = async move { super::reading::in_time(node.store.user(user)).await };
        ctx.spawn(read.into_actor(self).map(|row, me, _| {
            if let Ok(Some(row)) = row {
                me.last_seen = me.last_seen.max(row.last_seen);
                if me.status.is_empty() {
                    me.status = row.status;
                }
            }
            me.known = true;
            for reply in std::mem::take(&mut me.early) {
                let _ = reply.send(me.push());
            }
        }));
    }

    fn online(&self) {
        let mut online = self.local.online.borrow_mut();
        if self.hubs.is_empty() {
            online.remove(&self.user);
        } else {
            online.insert(self.user);
        }
    }
}

impl Actor for Presence {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        self.read(ctx);
    }
}

impl Handler<PresenceMsg> for Presence {
    type Result = ();
    fn handle(&mut self, msg: PresenceMsg, ctx: &mut Self::Context) {
        let now = now_ms();
        let effects = match msg {
            PresenceMsg::Up { node, session, device, hub, state } => {
                let session = number(node, session);
                self.hubs.insert(session, Place { node, hub, doubted: false });
                self.online();
                self.devices.connect(session, device, number(node, hub as u64), state, now)
            }
            PresenceMsg::Down { node, session } => {
                let session = number(node, session);
                self.hubs.remove(&session);
                self.online();
                self.devices.disconnect(session, now)
            }
            PresenceMsg::Set { node, session, state } => self.devices.set(number(node, session), state, now),
            PresenceMsg::Status(text) => {
                if self.status != text {
                    self.status = text;
                    self.announce();
                }
                Vec::new()
            }
            PresenceMsg::Watch { node, watcher, hub, reply } => {
                self.watch(watcher, Place { node, hub, doubted: false }, reply);
                Vec::new()
            }
            PresenceMsg::Look(reply) => {
                self.answer(reply);
                Vec::new()
            }
            PresenceMsg::Unwatch { watcher, hub } => {
                self.unwatch(watcher, hub);
                Vec::new()
            }
            PresenceMsg::Event(event) => {
                self.pass_on(event);
                Vec::new()
            }
            PresenceMsg::NodeGone(node) => self.forget(|place| place.node == node),
            PresenceMsg::Doubt(node) => {
                self.doubt(node, ctx);
                Vec::new()
            }
            PresenceMsg::Leave => return ctx.stop(),
            PresenceMsg::Stop => {
                if !self.is_idle() {
                    // Somebody came while it was ending: a new life takes over from what hubs announce.
                    self.local.online.borrow_mut().remove(&self.user);
                    self.local.node.bus.broadcast(Envelope::PresenceLost { user: self.user });
                }
                return ctx.stop();
            }
            PresenceMsg::Panic => panic!("a test asked the presence to panic"),
        };
        self.carry_out(effects, ctx);
    }
}
