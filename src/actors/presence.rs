//! Presence: one per user with sessions or watchers. Merges the user's devices and tells contacts, nobody else.
//!
//! What to tell and when is decided by [`Devices`] (pure). The actor keeps who watches from which hub, arms a timer for the next
//! deadline, stores `last_seen`, and passes events on to the user's hubs. After a panic it is rebuilt from what hubs announce
//! again. A presence without sessions, watchers and deadlines ends and costs nothing.

use super::guardian::{Child, ChildGuard, GuardianMsg, Local};
use super::node::now_ms;
use crate::bus::{Envelope, Framed, UserEvent};
use crate::protocol::ids::{DeviceId, UserId};
use crate::protocol::ops::{PresencePush, PresenceState, Push};
use crate::protocol::presence::{Devices, Effect};
use crate::webhooks::event;
use actix::prelude::*;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Watchers of one user at most; more are not told (contacts are bounded by configuration, this is the last bound).
const WATCHERS_MAX: usize = 20_000;

/// What reaches a presence.
#[derive(Message)]
#[rtype(result = "()")]
pub enum PresenceMsg {
    /// A session of the user is connected (also said again after a rebuild).
    Up {
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
        /// Its number.
        session: u64,
    },
    /// A session says what its user is.
    Set {
        /// Its number.
        session: u64,
        /// The state.
        state: PresenceState,
    },
    /// The user's status text is another.
    Status(String),
    /// A contact wants to be told.
    Watch {
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
        /// In one hub, or anywhere.
        hub: Option<usize>,
    },
    /// For the user's sessions.
    Event(UserEvent),
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

/// See the module.
pub struct Presence {
    user: UserId,
    local: Rc<Local>,
    guard: ChildGuard,
    devices: Devices,
    /// Session → hub.
    hubs: HashMap<u64, usize>,
    /// Who watches, and the hubs of its sessions.
    watchers: HashMap<UserId, Vec<usize>>,
    status: String,
    last_seen: u64,
    timer: Option<SpawnHandle>,
    known: bool,
    /// Asked for before the row was read.
    early: Vec<oneshot::Sender<PresencePush>>,
}

impl Presence {
    /// Nobody is connected yet. `rebuilt`: the last one panicked, and what it told is not known: then whatever is true is told again, also
    /// that nobody is connected any more.
    pub fn new(user: UserId, local: Rc<Local>, guard: ChildGuard, rebuilt: bool) -> Self {
        let debounce = local.node.config.presence.offline_debounce_ms;
        let devices = if rebuilt { Devices::rebuilt(debounce, now_ms()) } else { Devices::new(debounce) };
        Presence {
            user,
            local,
            guard,
            devices,
            hubs: HashMap::new(),
            watchers: HashMap::new(),
            status: String::new(),
            last_seen: 0,
            timer: None,
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
                    let (node, user) = (self.local.node.clone(), self.user);
                    actix::spawn(async move {
                        if let Err(error) = super::reading::in_time(node.store.seen(user, at)).await {
                            tracing::warn!(%error, "last seen was not stored");
                        }
                    });
                }
                Effect::Announce(_) => self.announce(),
            }
        }
        self.arm(ctx);
    }

    /// Tells the webhooks, and every hub that has watchers. Hubs of other nodes are reached through their node.
    fn announce(&self) {
        let now = self.push();
        self.local.node.webhooks.once(event::PRESENCE, None, || event::presence(&now, now_ms()));
        if self.watchers.is_empty() {
            return;
        }
        let watchers: Arc<[UserId]> = self.watchers.keys().copied().collect();
        let push = Arc::new(Framed::new(Push::Presence(now)));
        self.local.node.bus.send(self.local.node.placement.me(), Envelope::Presence { watchers, push });
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

    fn watch(&mut self, watcher: UserId, hub: usize, reply: Option<oneshot::Sender<PresencePush>>) {
        if self.watchers.len() < WATCHERS_MAX || self.watchers.contains_key(&watcher) {
            let hubs = self.watchers.entry(watcher).or_default();
            if !hubs.contains(&hub) {
                hubs.push(hub);
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

    fn unwatch(&mut self, watcher: UserId, hub: Option<usize>) {
        if let Some(hubs) = self.watchers.get_mut(&watcher) {
            hubs.retain(|h| hub.is_some_and(|gone| gone != *h));
            if hubs.is_empty() {
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
            PresenceMsg::Up { session, device, hub, state } => {
                self.hubs.insert(session, hub);
                self.online();
                self.devices.connect(session, device, hub as u64, state, now)
            }
            PresenceMsg::Down { session } => {
                self.hubs.remove(&session);
                self.online();
                self.devices.disconnect(session, now)
            }
            PresenceMsg::Set { session, state } => self.devices.set(session, state, now),
            PresenceMsg::Status(text) => {
                if self.status != text {
                    self.status = text;
                    self.announce();
                }
                Vec::new()
            }
            PresenceMsg::Watch { watcher, hub, reply } => {
                self.watch(watcher, hub, reply);
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
                let envelope = Envelope::User { user: self.user, event };
                self.local.node.bus.send(self.local.node.placement.me(), envelope);
                Vec::new()
            }
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
