//! A cluster of its own for a test: real nodes over one real Redis and a keyspace of a real CQL server.
//!
//! Users and devices are the cluster's, whatever node they talk to: all nodes sign with one key. A node's links to Redis and to the database
//! go through a [`FaultyLink`] each; a database of several nodes is reached without one, because the driver finds all of them by itself.

use super::balancer::{self, Balancer, Kind};
use super::cql::{self, Keyspace};
use super::link::FaultyLink;
use super::redis::RedisServer;
use super::{Builder, SOON, TestClient, TestNode, TestUser, eventually};
use futures_util::future::join_all;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::RwLock;

/// What all nodes sign access tokens with.
const SIGNING: &str = "a secret that all nodes of a test share, of 32 bytes and more";

/// One node of a cluster, and its ways to the rest of the world.
pub struct Member {
    pub node: RwLock<TestNode>,
    pub redis: FaultyLink,
    pub store: FaultyLink,
    /// Clients do not go there: it stands still, and a balancer would know.
    pub avoided: AtomicBool,
}

/// See the module.
pub struct TestCluster {
    pub members: Vec<Member>,
    pub redis: RwLock<RedisServer>,
    pub keyspace: Keyspace,
    /// In front of the nodes; then clients know its address only.
    pub balancer: Option<Balancer>,
}

impl TestCluster {
    /// So many nodes, with the usual settings.
    pub async fn start(nodes: u32) -> TestCluster {
        TestCluster::start_with(nodes, |_, builder| builder).await
    }

    /// So many nodes; `settings` may change what each, counted from 1, is started with.
    pub async fn start_with(nodes: u32, settings: impl Fn(u32, Builder) -> Builder) -> TestCluster {
        TestCluster::over(cql::keyspace().await, nodes, settings).await
    }

    /// The same over a database of the test's choice.
    pub async fn over(keyspace: Keyspace, nodes: u32, settings: impl Fn(u32, Builder) -> Builder) -> TestCluster {
        let redis = RedisServer::start();
        let started = (1..=nodes).map(|number| {
            let (settings, keyspace, address) = (&settings, &keyspace, redis.address());
            async move {
                let (redis, store) = (FaultyLink::to(address).await, FaultyLink::to(keyspace.first()).await);
                let contacts = if keyspace.nodes() == 1 { store.address().to_string() } else { keyspace.address() };
                let builder = keyspace
                    .under(TestNode::builder())
                    .set("scylla.nodes", contacts)
                    .set("cluster.node", number)
                    // A machine that builds beside the tests is slow now and then.
                    .set("cluster.lease_ms", 1_500)
                    .set("cluster.renew_ms", 250)
                    .set("cluster.confirm_ms", 500)
                    .set("redis.url", format!("redis://{}", redis.address()))
                    .set("auth.secret", SIGNING);
                let node = settings(number, builder).start().await;
                Member { node: RwLock::new(node), redis, store, avoided: AtomicBool::new(false) }
            }
        });
        let members = join_all(started).await;
        let cluster = TestCluster { members, redis: RwLock::new(redis), keyspace, balancer: None };
        cluster.together(nodes as usize).await;
        cluster
    }

    /// Three nodes behind a balancer, which has taken them in.
    pub async fn balanced(kind: Kind, settings: impl Fn(u32, Builder) -> Builder) -> TestCluster {
        let nodes: [_; 3] = balancer::addresses();
        let balancer = Balancer::before(kind, nodes).await;
        let behind = |number: u32, node: Builder| {
            let node = node.behind(balancer.url()).set("http.listen", nodes[number as usize - 1]);
            settings(number, node.set("proxy.trusted", "127.0.0.1").set("proxy.protocol", kind == Kind::HAProxy))
        };
        let mut cluster = TestCluster::start_with(3, behind).await;
        if kind == Kind::HAProxy {
            for number in 1..=3 {
                balancer.notices(number, true).await;
            }
        }
        cluster.balancer = Some(balancer);
        cluster
    }

    /// Waits until every node that runs knows of so many.
    pub async fn together(&self, nodes: usize) {
        for member in &self.members {
            let node = member.node.read().await;
            if node.is_running() && !member.is_avoided() {
                let what = format!("a node knows of {nodes}");
                eventually(&what, SOON, || async { node.metric("hubbub_cluster_nodes").await as usize == nodes }).await;
            }
        }
    }

    /// New users of the cluster.
    pub async fn people(&self, count: usize) -> Vec<TestUser> {
        let node = self.members[0].node.read().await;
        let names: Vec<String> = (0..count).map(|i| format!("user{i}")).collect();
        join_all(names.iter().map(|name| node.user(name))).await
    }

    /// One client for each user, by turns on each node.
    pub async fn connected(&self, users: &[TestUser]) -> Vec<TestClient> {
        let connecting = users.iter().enumerate().map(|(n, user)| async move {
            let node = self.members[n % self.members.len()].node.read().await;
            TestClient::connect(&node, user, "device").await
        });
        join_all(connecting).await
    }

    /// A metric, over all nodes that run.
    pub async fn metric(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for member in &self.members {
            let node = member.node.read().await;
            if node.is_running() && !member.is_avoided() {
                sum += node.metric(name).await;
            }
        }
        sum
    }
}

impl Member {
    /// See the field.
    pub fn is_avoided(&self) -> bool {
        self.avoided.load(Ordering::Relaxed)
    }
    /// SIGKILL.
    pub async fn kill9(&self) {
        self.node.write().await.kill9().await;
    }
    /// Starts it again.
    pub async fn restart(&self) {
        self.node.write().await.restart().await;
    }
    /// SIGSTOP; clients go elsewhere.
    pub async fn pause(&self) {
        self.avoided.store(true, Ordering::Relaxed);
        self.node.read().await.pause();
    }
    /// SIGCONT.
    pub async fn resume(&self) {
        self.node.read().await.resume();
        self.avoided.store(false, Ordering::Relaxed);
    }
}
