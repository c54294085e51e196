//! A node as one of several: who is there ([`Shared`]), the bus to them, and this node's lease.
//!
//! Redis that does not answer is no fault of this node: it goes on with the rooms it owns. Another process that holds this node's lease is
//! one: two nodes with one number would take each other's envelopes, so this one stops.

use super::NodeError;
use crate::actors::node::NodeContext;
use crate::bus::redis::RedisBus;
use crate::bus::redis::member::Member;
use crate::cluster::NodeId;
use crate::cluster::membership::{Change, Lease, Standing, Timing};
use crate::cluster::shared::Shared;
use crate::cluster::view::{Event, View};
use crate::config::Config;
use crate::http::cluster::{ClusterStatus, Links, NodeSeen};
use crate::protocol::ids::Shard;
use crate::telemetry::metrics;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// See the module.
pub struct Joined {
    /// Who is there, and who should own what.
    pub shared: Shared,
    /// To the others.
    pub bus: Arc<RedisBus>,
    member: Mutex<Option<Arc<Member>>>,
    usurped: watch::Sender<bool>,
    name: String,
}

impl Joined {
    /// Where Redis is configured: a node that knows only itself yet, and says nothing. A fresh process every time.
    pub fn of(config: &Config, shards: u32) -> Result<Option<Arc<Joined>>, NodeError> {
        if !config.redis.is_on() {
            return Ok(None);
        }
        let lease = Lease { node: NodeId(config.cluster.node), incarnation: rand::random(), weight: config.cluster.weight };
        let shared = Shared::new(View::new(lease, Timing::from(&config.cluster), shards));
        let bus = RedisBus::new(config, shared.clone()).map_err(|e| NodeError::Config(e.to_string()))?;
        let usurped = watch::channel(false).0;
        let name = config.cluster.name.clone();
        Ok(Some(Arc::new(Joined { shared, bus: Arc::new(bus), member: Mutex::default(), usurped, name })))
    }

    /// Begins to keep the lease. Waits until this process has it, unless Redis does not answer. From the moment on in which others can see
    /// the lease they may ask this node: it takes in what comes.
    ///
    /// # Errors
    /// When another process has it.
    pub async fn join(self: &Arc<Joined>, config: &Config) -> Result<(), NodeError> {
        let usurped = self.usurped.clone();
        self.shared.listen(Arc::new(move |event| match event {
            Event::Member(change) => {
                tell(change);
                if *change == Change::Usurped {
                    usurped.send_replace(true);
                }
            }
            Event::TakeOver(_) => {
                metrics().cluster_takeovers_total.inc();
            }
            Event::Placed(..) => {}
        }));
        let bus = self.bus.clone();
        let member = Member::launch(config, self.shared.clone(), Box::new(move || bus.open()));
        let member = member.map_err(|e| NodeError::Failed(e.to_string()))?;
        let member = self.member.lock().insert(Arc::new(member)).clone();
        let grace = Timing::from(&config.cluster).grace() + config.redis.connect_timeout_ms + config.redis.response_timeout_ms;
        let settled = tokio::select! {
            settled = member.settled(Duration::from_millis(grace)) => settled,
            () = self.usurped() => return Err(self.taken()),
        };
        // Also where Redis does not answer yet; and who is known by now may have said things before.
        self.bus.open();
        tracing::info!(node = self.shared.lease().node.0, cluster = %self.name, lease = ?settled, "one of a cluster");
        Ok(())
    }

    /// Waits until another process has this node's lease.
    pub async fn usurped(&self) {
        // The sender lives in here.
        let _ = self.usurped.subscribe().wait_for(|usurped| *usurped).await;
    }

    /// Why this node must stop then.
    pub fn taken(&self) -> NodeError {
        let node = self.shared.lease().node.0;
        NodeError::Failed(format!(
            "another process is node {node} of cluster {:?} too, and has its lease; give every node a number of its own (cluster.node)",
            self.name
        ))
    }

    /// Gives the lease back, publishes what waits, and is silent from then on.
    pub async fn leave(self: &Arc<Joined>) {
        let joined = self.clone();
        let left = tokio::task::spawn_blocking(move || {
            if let Some(member) = joined.member.lock().take() {
                member.leave();
            }
            joined.bus.close();
        });
        // It cannot be cancelled, and a panic has said so itself.
        let _ = left.await;
    }

    /// The cluster as this node sees it.
    pub fn seen(&self, node: &NodeContext) -> ClusterStatus {
        let status = self.bus.status();
        let shards = node.store.shards();
        self.shared.look(|view| {
            let weights = view.membership().weights();
            let each = view.membership().nodes().map(|(id, standing)| NodeSeen {
                node: id.0,
                standing: if standing == Standing::Live { "live" } else { "suspected" }.into(),
                weight: weights.get(&id).copied().unwrap_or(0),
                should_own: view.plan().shards_of(id).count(),
                secrets: node.router.peers().map_or_else(String::new, |peers| peers.secrets_of(id)),
                said_to_own: (0..shards).filter(|shard| view.told(Shard(*shard)).is_some_and(|(_, owner)| owner == id)).count(),
            });
            ClusterStatus {
                node: view.me().0,
                name: self.name.clone(),
                shards,
                owned: node.claims.owned_shards(),
                nodes: each.collect(),
                links: Links {
                    publishes: status.publishes,
                    hears: status.hears,
                    leases: !view.membership().is_silent(),
                    waiting: status.waiting,
                    waiting_bytes: status.waiting_bytes,
                    questions: node.router.peers().map_or(0, |peers| peers.open()),
                },
                store_waiting: 0,
            }
        })
    }

    /// What is wrong and yet no reason to send clients elsewhere: elsewhere it is the same.
    pub fn warnings(&self) -> Vec<String> {
        let up = self.bus.status().is_up();
        let silent = self.shared.look(|view| view.membership().is_silent());
        match (up, silent) {
            (false, _) => vec!["Redis does not answer: rooms of other nodes cannot be reached, and their news comes late".into()],
            (true, true) => vec!["Redis does not say which nodes are there: nothing is taken over until it does".into()],
            (true, false) => Vec::new(),
        }
    }
}

/// A log line for what happens to members; what is only suspected is worth one to who looks closely.
fn tell(change: &Change) {
    match change {
        Change::Came(node) => tracing::info!(node = node.0, "a node came"),
        Change::Restarted(node) => tracing::info!(node = node.0, "a node came back as a new process"),
        Change::Suspected(node) => {
            metrics().cluster_leases_ended_total.inc();
            tracing::debug!(node = node.0, "a node did not renew its lease");
        }
        Change::Back(node) => tracing::debug!(node = node.0, "a node renews its lease again"),
        Change::Died(node) => {
            metrics().cluster_deaths_total.inc();
            tracing::warn!(node = node.0, "a node is gone");
        }
        Change::Usurped => tracing::error!("another process has this node's lease"),
        Change::Silent => tracing::warn!("Redis does not answer; what this node owns it keeps, and takes nothing over"),
        Change::Answers => tracing::info!("Redis answers again"),
        Change::Weights => {}
    }
}
