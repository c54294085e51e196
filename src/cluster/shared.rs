//! The [`View`] that all actors of a node share: one lock, and listeners that carry out what follows from what is learnt.

use super::membership::{Lease, Listing};
use super::view::{Event, View};
use super::{Mono, NodeId, Placement};
use crate::protocol::ids::Shard;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;

/// Who is told what follows. Called without the lock: it may look at the view.
pub type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

struct Inner {
    me: NodeId,
    started: Instant,
    view: Mutex<View>,
    listeners: Mutex<Vec<Listener>>,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

impl Shared {
    /// Shares a view.
    pub fn new(view: View) -> Shared {
        Shared(Arc::new(Inner { me: view.me(), started: Instant::now(), view: Mutex::new(view), listeners: Mutex::default() }))
    }

    /// Who is told, after those who listen already; what happens before it is not told.
    pub fn listen(&self, listener: Listener) {
        self.0.listeners.lock().push(listener);
    }

    /// The time that the view goes by.
    pub fn now(&self) -> Mono {
        Mono(self.0.started.elapsed().as_millis() as u64)
    }

    /// Looks at the view. The lock is held meanwhile: no call from in there may come back here.
    pub fn look<R>(&self, look: impl FnOnce(&View) -> R) -> R {
        look(&self.0.view.lock())
    }

    /// The lease that this node renews.
    pub fn lease(&self) -> Lease {
        self.look(|view| view.membership().me())
    }

    /// See [`View::tick`].
    pub fn tick(&self) {
        let now = self.now();
        self.change(|view| view.tick(now));
    }
    /// See [`View::listed`].
    pub fn listed(&self, listing: Listing) {
        let now = self.now();
        self.change(|view| view.listed(now, listing));
    }
    /// See [`View::left`].
    pub fn left(&self, node: NodeId, incarnation: u64) {
        self.change(|view| view.left(node, incarnation));
    }
    /// See [`View::set_weight`].
    pub fn set_weight(&self, weight: u32) {
        self.change(|view| view.set_weight(weight));
    }
    /// See [`View::announced`].
    pub fn announced(&self, shard: Shard, node: NodeId, epoch: u64) -> bool {
        self.0.view.lock().announced(shard, node, epoch)
    }
    /// See [`View::released`].
    pub fn released(&self, shard: Shard, node: NodeId, epoch: u64) {
        self.0.view.lock().released(shard, node, epoch);
    }
    /// See [`View::refused`].
    pub fn refused(&self, shard: Shard, node: NodeId) {
        self.0.view.lock().refused(shard, node);
    }

    fn change(&self, change: impl FnOnce(&mut View) -> Vec<Event>) {
        let events = change(&mut self.0.view.lock());
        if events.is_empty() {
            return;
        }
        let listeners = self.0.listeners.lock().clone();
        for event in &events {
            listeners.iter().for_each(|listener| listener(event));
        }
    }
}

impl Placement for Shared {
    fn me(&self) -> NodeId {
        self.0.me
    }
    /// This node where nobody is known: its claim will find out.
    fn owner(&self, shard: Shard) -> NodeId {
        self.look(|view| view.owner(shard)).unwrap_or(self.0.me)
    }
    fn should_own(&self, shard: Shard) -> NodeId {
        self.look(|view| view.plan().owner(shard)).unwrap_or(self.0.me)
    }
    fn is_blind(&self) -> bool {
        let now = self.now();
        self.look(|view| view.membership().is_blind(now))
    }
}
