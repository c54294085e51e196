//! The bus over Redis: one channel per node, an envelope is published to the channel of the node it is for.
//!
//! [`RedisBus::send`] packs an envelope and leaves it in the [`outbox`] of its node; it never waits. One thread publishes: whatever waits
//! for a node goes as one message ([`publishing`]); one hears this node's channel ([`hearing`]). Both connect anew by themselves, for ever.
//! Publishing is tried once: what may not have arrived is noticed by its number there ([`super::link`]), and after every connection of the
//! hearing side all nodes count as missed, since nothing says what was published meanwhile. [`member`] keeps this node's lease.

use super::link::Incoming;
use super::wire::{self, ENVELOPE_BYTES_MAX, Head};
use super::{Arrival, Bus, Envelope, Inbox};
use crate::cluster::NodeId;
use crate::cluster::shared::Shared;
use crate::config::Config;
use crate::telemetry::metrics;
use bytes::Bytes;
use connect::{Connector, SetupError};
use outbox::{Bounds, Leaving, Outbox, Waiting};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

pub mod connect;
mod hearing;
pub mod member;
pub mod outbox;
mod publishing;

/// Nodes whose links are known at most; more are nodes of somebody else's making.
const PEERS_MAX: usize = 65_536;

/// How the bus is, for health and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Redis takes what is published.
    pub publishes: bool,
    /// This node's channel is heard.
    pub hears: bool,
    /// Envelopes that wait for other nodes.
    pub waiting: usize,
    /// Their bytes, with what they cost in memory.
    pub waiting_bytes: usize,
}

impl Status {
    /// Both ways work, as far as is known.
    pub fn is_up(&self) -> bool {
        self.publishes && self.hears
    }
}

/// The bus. Dropped, it stops.
pub struct RedisBus {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Inner {
    me: NodeId,
    life: u64,
    /// Channels are named by this and the node.
    channels: String,
    shared: Shared,
    connector: Connector,
    bounds: Bounds,
    batch_bytes: usize,
    lose_every: u64,
    /// Envelopes of entries so far, for `lose_every`.
    entries: AtomicU64,
    inbox: OnceLock<Inbox>,
    outboxes: Mutex<HashMap<NodeId, Outbox>>,
    /// Something waits.
    wake: Notify,
    peers: Mutex<HashMap<NodeId, Incoming>>,
    /// Before this it says nothing, and takes nothing in.
    open: watch::Sender<bool>,
    publishes: AtomicBool,
    /// None: it has not been found out yet.
    hears: watch::Sender<Option<bool>>,
    /// A message that could not be read was told of in the log.
    complained: AtomicBool,
    stop: watch::Sender<bool>,
}

impl RedisBus {
    /// The bus of the node whose lease `shared` renews; it is deaf and silent until [`RedisBus::open`].
    ///
    /// # Errors
    /// When Redis cannot be used as configured. That it does not answer is none.
    pub fn new(config: &Config, shared: Shared) -> Result<RedisBus, SetupError> {
        let lease = shared.lease();
        let redis = &config.redis;
        let inner = Inner {
            me: lease.node,
            life: lease.incarnation,
            channels: format!("hubbub:{}:node:", config.cluster.name),
            shared,
            connector: Connector::new(redis)?,
            bounds: Bounds { count: redis.queue_envelopes_max, bytes: redis.queue_bytes_max },
            batch_bytes: redis.batch_bytes_max,
            lose_every: config.dev.lose_envelopes_every,
            entries: AtomicU64::new(0),
            inbox: OnceLock::new(),
            outboxes: Mutex::default(),
            wake: Notify::new(),
            peers: Mutex::default(),
            open: watch::channel(false).0,
            publishes: AtomicBool::new(false),
            hears: watch::channel(None).0,
            complained: AtomicBool::new(false),
            stop: watch::channel(false).0,
        };
        Ok(RedisBus { inner: Arc::new(inner), threads: Mutex::default() })
    }

    /// Where envelopes go. Begins to listen to this node's channel; what comes is taken in from [`RedisBus::open`] on. The first call counts.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn listen(&self, inbox: Inbox) -> Result<(), SetupError> {
        if self.inner.inbox.set(inbox).is_err() {
            return Ok(());
        }
        let (out, ear) = (self.inner.clone(), self.inner.clone());
        let threads = [thread("bus-out", publishing::run(out))?, thread("bus-in", hearing::run(ear))?];
        self.threads.lock().extend(threads);
        Ok(())
    }

    /// Waits until this node's channel is heard, or cannot be.
    pub async fn listens(&self) {
        // The sender is in there.
        let _ = self.inner.hears.subscribe().wait_for(Option::is_some).await;
    }

    /// Takes in what comes, and publishes what waits, from now on: this process is the node of that number. The nodes that are there have
    /// said things before.
    pub fn open(&self) {
        self.inner.open.send_replace(true);
        self.inner.missed_all();
    }

    /// How it is.
    pub fn status(&self) -> Status {
        let (mut waiting, mut waiting_bytes) = (0, 0);
        for outbox in self.inner.outboxes.lock().values() {
            waiting += outbox.len();
            waiting_bytes += outbox.bytes();
        }
        metrics().bus_waiting_bytes.set(i64::try_from(waiting_bytes).unwrap_or(i64::MAX));
        Status { publishes: self.inner.publishes.load(Ordering::Relaxed), hears: self.inner.hears(), waiting, waiting_bytes }
    }

    /// Publishes what waits, if Redis takes it in time, and ends. Blocks for about `redis.response_timeout_ms` at most; afterwards
    /// envelopes for other nodes lead nowhere.
    pub fn close(&self) {
        self.inner.stop.send_replace(true);
        for thread in self.threads.lock().drain(..) {
            // One that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        self.inner.stop.send_replace(true);
    }
}

/// Runs a future on a thread of its own, so that nothing else makes it late.
fn thread(name: &str, work: impl Future<Output = ()> + Send + 'static) -> Result<JoinHandle<()>, SetupError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SetupError::System)?;
    let run = move || {
        runtime.block_on(work);
        // A name that is being looked up cannot be interrupted, and is not waited for.
        runtime.shutdown_background();
    };
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(SetupError::System)
}

/// Whether nobody looks for it when it is lost, and how long it is of use.
fn nature(envelope: &Envelope) -> (bool, Option<Instant>) {
    match envelope {
        // Heads are told again and again.
        Envelope::Ephemeral { .. } | Envelope::Head { .. } => (true, None),
        Envelope::Ask { wait_ms, .. } => (false, Instant::now().checked_add(Duration::from_millis(u64::from(*wait_ms)))),
        _ => (false, None),
    }
}

impl Bus for RedisBus {
    fn send(&self, to: NodeId, envelope: Envelope) {
        let lose = self.inner.loses(&envelope);
        match to == self.inner.me {
            true if lose => {}
            true => self.inner.hand_on(Arrival::Envelope(to, envelope)),
            false => self.inner.leave_for(&[to], &envelope, lose),
        }
    }

    fn broadcast(&self, envelope: Envelope) {
        let lose = self.inner.loses(&envelope);
        let mut nodes: Vec<NodeId> = self.inner.shared.look(|view| view.membership().nodes().map(|(node, _)| node).collect());
        nodes.retain(|node| *node != self.inner.me);
        self.inner.leave_for(&nodes, &envelope, lose);
        if !lose {
            self.inner.hand_on(Arrival::Envelope(self.inner.me, envelope));
        }
    }
}

impl Inner {
    fn loses(&self, envelope: &Envelope) -> bool {
        self.lose_every > 0
            && matches!(envelope, Envelope::Entries { .. })
            && (self.entries.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.lose_every)
    }

    fn hand_on(&self, arrival: Arrival) {
        if let Some(inbox) = self.inbox.get() {
            inbox(arrival);
        }
    }

    fn channel(&self, node: NodeId) -> String {
        format!("{}{}", self.channels, node.0)
    }

    /// Packs once, whatever the number of nodes.
    fn leave_for(&self, nodes: &[NodeId], envelope: &Envelope, lose: bool) {
        if nodes.is_empty() {
            return;
        }
        let (ephemeral, until) = nature(envelope);
        let packed = if lose { Vec::new() } else { wire::pack(envelope) };
        let mut full = 0;
        let mut outboxes = self.outboxes.lock();
        for node in nodes {
            let outbox = outboxes.entry(*node).or_default();
            if lose {
                outbox.lost();
                metrics().bus_dropped_total.of("on_purpose").inc();
            }
            for bytes in &packed {
                if bytes.len() > ENVELOPE_BYTES_MAX {
                    outbox.lost();
                    metrics().bus_dropped_total.of("too_large").inc();
                } else {
                    full += outbox.push(Waiting { bytes: bytes.clone(), ephemeral, until }, self.bounds);
                }
            }
        }
        drop(outboxes);
        if full > 0 {
            metrics().bus_dropped_total.of("full").inc_by(full);
        }
        self.wake.notify_one();
    }

    /// What leaves now, a batch for each node; `position`: also how far the numbers go, where that was not told.
    fn collect(&self, position: bool) -> Vec<(NodeId, Leaving)> {
        let now = Instant::now();
        let mut batches = Vec::new();
        let mut more = false;
        for (node, outbox) in self.outboxes.lock().iter_mut() {
            let Some(leaving) = outbox.leave(now, self.batch_bytes, position) else { continue };
            more |= !outbox.is_empty();
            if leaving.expired > 0 {
                metrics().bus_dropped_total.of("expired").inc_by(leaving.expired);
            }
            if leaving.first.is_some() {
                batches.push((*node, leaving));
            }
        }
        if more {
            self.wake.notify_one();
        }
        batches
    }

    /// What left last for these nodes may not have arrived: they are told how far the numbers go.
    fn unsure(&self, which: impl Fn(NodeId) -> bool) {
        self.outboxes.lock().iter_mut().filter(|(node, _)| which(**node)).for_each(|(_, outbox)| outbox.unsure());
    }

    /// A message on this node's channel.
    fn came(&self, bytes: &Bytes) {
        if !*self.open.borrow() {
            // For another process of this number.
            return;
        }
        let (head, all) = match wire::open(bytes) {
            Ok(opened) => opened,
            Err(error) => return self.refuse(&error),
        };
        if head.from == self.me {
            // A word of this node to itself, or of another process under its number: the lease decides about that.
            return;
        }
        let taken = {
            let mut peers = self.peers.lock();
            if peers.len() >= PEERS_MAX && !peers.contains_key(&head.from) {
                peers.clear();
            }
            peers.entry(head.from).or_default().take(head.life, head.first, all.len() as u64)
        };
        if taken.missed {
            self.missed(head.from);
        }
        let mut unreadable = false;
        for one in all.iter().skip(usize::try_from(taken.skip).unwrap_or(usize::MAX)) {
            match wire::unpack(one) {
                Ok(Some(envelope)) => {
                    metrics().bus_received_total.inc();
                    self.hand_on(Arrival::Envelope(head.from, envelope));
                }
                Ok(None) => {}
                Err(error) => {
                    self.refuse(&error);
                    unreadable = true;
                }
            }
        }
        if unreadable {
            self.missed(head.from);
        }
    }

    fn refuse(&self, error: &wire::WireError) {
        metrics().bus_refused_total.inc();
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "a message on this node's channel could not be read (bus_refused_total counts them; told once)");
        }
    }

    fn missed(&self, node: NodeId) {
        metrics().bus_missed_total.inc();
        self.hand_on(Arrival::Missed(node));
    }

    /// Nothing says what was published while this node did not hear.
    fn missed_all(&self) {
        let mut nodes: BTreeSet<NodeId> = self.shared.look(|view| view.membership().nodes().map(|(node, _)| node).collect());
        nodes.extend(self.peers.lock().keys());
        nodes.remove(&self.me);
        nodes.into_iter().for_each(|node| self.missed(node));
    }

    fn head(&self, first: u64) -> Head {
        Head { from: self.me, life: self.life, first }
    }

    fn hears(&self) -> bool {
        self.hears.borrow().is_some_and(|hears| hears)
    }
    fn hears_now(&self, hears: bool) {
        self.hears.send_replace(Some(hears));
        self.tell_connected();
    }
    fn publishes_now(&self, publishes: bool) {
        self.publishes.store(publishes, Ordering::Relaxed);
        self.tell_connected();
    }
    fn tell_connected(&self) {
        metrics().bus_connected.set(i64::from(self.publishes.load(Ordering::Relaxed) && self.hears()));
    }
}

/// Waits until the bus stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Without a sender nothing is left to run for.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits, unless the bus stops meanwhile; true when it stops.
async fn rest(stop: &mut watch::Receiver<bool>, pause: Duration) -> bool {
    tokio::time::timeout(pause, stopped(stop)).await.is_ok()
}
