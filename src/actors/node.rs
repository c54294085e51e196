//! What the actors of a node share: configuration, store, claims, bus, router, hubs. Nothing in it blocks.

use super::delivery::Consequence;
use super::hub::{HubAddr, HubMsg};
use super::router::Router;
use super::screening::Filter;
use super::sequencer::IdSource;
use super::unreached::Unreached;
use crate::bus::asks::Changed;
use crate::bus::{Bus, Envelope};
use crate::cluster::claims::Claims;
use crate::cluster::{NodeId, Placement};
use crate::config::Config;
use crate::outbound::Outbound;
use crate::protocol::ids::RoomId;
use crate::push::Pushes;
use crate::storage::Store;
use crate::webhooks::Webhooks;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// See the module.
pub struct NodeContext {
    /// Configuration.
    pub config: Arc<Config>,
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Epochs and activations.
    pub claims: Claims,
    /// Who should own what.
    pub placement: Arc<dyn Placement>,
    /// To other nodes, and to this one's hubs.
    pub bus: Arc<dyn Bus>,
    /// To rooms and presence.
    pub router: Router,
    /// To the sequencer.
    pub ids: IdSource,
    /// This node's hubs.
    pub hubs: Hubs,
    /// Offline push.
    pub pushes: Arc<Pushes>,
    /// Takes the ends of sessions.
    pub unreached: Unreached,
    /// What follows from committed entries outside the rooms; set once, before the first room starts.
    pub consequences: OnceLock<Vec<Arc<dyn Consequence>>>,
    /// To the world outside.
    pub outbound: Arc<Outbound>,
    /// Who outside is told of what.
    pub webhooks: Arc<Webhooks>,
    /// An operator wants this node to leave, as on SIGTERM.
    pub leave: tokio::sync::Notify,
    /// Going away: no new sockets.
    pub draining: AtomicBool,
    /// What screens messages before they are stored, if something does.
    pub filter: Option<Arc<dyn Filter>>,
    /// Gives sessions their numbers.
    pub sessions: AtomicU64,
    /// Who remembers something of the store that others may change.
    pub remembering: Remembering,
}

/// Who is told that something is another now. Must neither block nor wait.
type Forget = Box<dyn Fn(Changed) + Send + Sync>;

/// Those who remember something of the store beside `pushes` and `webhooks`.
#[derive(Default)]
pub struct Remembering(RwLock<Vec<Forget>>);

impl Remembering {
    /// One more.
    pub fn listen(&self, forget: impl Fn(Changed) + Send + Sync + 'static) {
        self.0.write().push(Box::new(forget));
    }
}

impl NodeContext {
    /// Sends to a node. In a cluster what is for this one needs no bus.
    pub fn send(&self, to: NodeId, envelope: Envelope) {
        if to == self.placement.me() && self.router.peers().is_some() {
            self.hubs.dispatch(envelope);
        } else {
            self.bus.send(to, envelope);
        }
    }

    /// Has what is changed here told to the other nodes.
    pub fn tell_of_changes(self: &Arc<Self>) {
        let (of_users, of_rooms) = (Arc::downgrade(self), Arc::downgrade(self));
        let tell = |node: &Weak<NodeContext>, changed| {
            if let Some(node) = node.upgrade() {
                node.changed(changed);
            }
        };
        self.pushes.subscriptions.told_to(move |user| tell(&of_users, Changed::Subscriptions(user)));
        self.pushes.levels.told_to(move |room| tell(&of_rooms, Changed::Levels(room)));
    }

    /// Something was changed, here or at another node: what is remembered of it is forgotten.
    pub fn forget(&self, changed: Changed) {
        match changed {
            Changed::Subscriptions(user) => self.pushes.subscriptions.forget(Some(user)),
            Changed::Levels(room) => self.pushes.levels.forget_eager(Some(room)),
            Changed::Anything => {
                self.pushes.subscriptions.forget(None);
                self.pushes.levels.forget_eager(None);
            }
            Changed::ApiKey(_) | Changed::Deletions => {}
        }
        self.remembering.0.read().iter().for_each(|forget| forget(changed));
    }

    /// Something was changed here: the other nodes are told.
    pub fn changed(&self, changed: Changed) {
        match self.router.peers() {
            Some(peers) => peers.changed_here(self, changed),
            None => self.forget(changed),
        }
    }
}

pub use crate::clock::now_ms;

const INTEREST_SHARDS: usize = 16;

/// The hubs of this node and what each follows.
#[derive(Default)]
pub struct Hubs {
    reserved: AtomicUsize,
    hubs: RwLock<Vec<Option<HubAddr>>>,
    /// Room → bit set of hubs. Split, so that threads seldom meet.
    interest: [Mutex<HashMap<RoomId, u64>>; INTEREST_SHARDS],
}

/// Hubs of a node at most: a bit each.
pub const HUBS_MAX: usize = 64;

impl Hubs {
    /// A number for a new hub.
    ///
    /// # Panics
    /// When there are more than [`HUBS_MAX`]; configuration is checked for that.
    pub fn reserve(&self) -> usize {
        let index = self.reserved.fetch_add(1, Ordering::Relaxed);
        assert!(index < HUBS_MAX, "at most {HUBS_MAX} web workers (checked with the configuration)");
        index
    }
    /// The hub is there.
    pub fn register(&self, index: usize, addr: HubAddr) {
        let mut hubs = self.hubs.write();
        if hubs.len() <= index {
            hubs.resize(index + 1, None);
        }
        hubs[index] = Some(addr);
    }
    /// Sends to one hub.
    pub fn send(&self, index: usize, msg: HubMsg) {
        if let Some(Some(hub)) = self.hubs.read().get(index) {
            hub.send(msg);
        }
    }
    /// Sends to all hubs.
    pub fn each(&self, msg: impl Fn() -> HubMsg) {
        for hub in self.hubs.read().iter().flatten() {
            hub.send(msg());
        }
    }
    /// Notes whether a hub follows a room; true when after this none does.
    pub fn interested(&self, room: RoomId, hub: usize, on: bool) -> bool {
        let mut interest = self.interest[room.0 as usize % INTEREST_SHARDS].lock();
        if on {
            *interest.entry(room).or_default() |= 1 << hub;
            return false;
        }
        let Some(bits) = interest.get_mut(&room) else { return true };
        *bits &= !(1 << hub);
        if *bits == 0 {
            interest.remove(&room);
            return true;
        }
        false
    }
    /// Whether any hub of this node follows the room.
    pub fn follows(&self, room: RoomId) -> bool {
        self.following(room) != 0
    }
    fn following(&self, room: RoomId) -> u64 {
        self.interest[room.0 as usize % INTEREST_SHARDS].lock().get(&room).copied().unwrap_or(0)
    }

    /// Rooms that any hub of this node follows, of those that are wanted.
    pub fn followed(&self, wanted: impl Fn(RoomId) -> bool) -> Vec<RoomId> {
        let rooms = |interest: &Mutex<HashMap<RoomId, u64>>| interest.lock().keys().copied().collect::<Vec<_>>();
        self.interest.iter().flat_map(rooms).filter(|room| wanted(*room)).collect()
    }

    /// Hands an envelope that reached this node to the hubs it is for.
    pub fn dispatch(&self, envelope: Envelope) {
        let room = match &envelope {
            Envelope::Entries { room, .. } | Envelope::Head { room, .. } | Envelope::Ephemeral { room, .. } => *room,
            _ => return self.each(|| HubMsg::Take(envelope.clone())),
        };
        let bits = self.following(room);
        if bits == 0 {
            return;
        }
        let hubs = self.hubs.read();
        for (index, hub) in hubs.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1) {
            match hub {
                Some(hub) => hub.send(HubMsg::Take(envelope.clone())),
                None => tracing::error!(index, "a hub follows a room and is not registered"),
            }
        }
    }
}
