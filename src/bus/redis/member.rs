//! Keeps this node's lease in Redis, and tells [`Shared`] who else has one.
//!
//! Every `cluster.renew_ms` one script renews the lease and lists all of them, with the life of Redis that answers; what follows from that
//! is decided in [`crate::cluster::membership`]. A lease is a key of its own that ends by itself. A lease that another process holds under
//! this node's number is never touched. All keys of a cluster have one hash tag, so that they are in one place of a Redis Cluster.

use super::connect::{Connection, Connector, SetupError};
use crate::cluster::membership::{Lease, Listing, Timing};
use crate::cluster::shared::Shared;
use crate::cluster::{Mono, NodeId};
use crate::config::{self, Config};
use crate::telemetry::metrics;
use ::redis::{RedisResult, Script};
use parking_lot::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use xxhash_rust::xxh3::xxh3_64;

/// How nice the lease's thread is: it sleeps nearly always, and when it is due it comes before all that keeps the processors busy. A
/// node that is late only because it has much to do must not be taken for dead.
const NICE: i32 = -10;
/// What a lease's weight is when its node has left.
const LEFT: &str = "left";

/// Keys: the set of nodes that may have a lease, and this node's lease. Arguments: node, process, weight, milliseconds, what keys of leases
/// begin with. Gives the life of Redis, then node and lease of each. The set forgets nodes whose lease is over.
const RENEW: &str = r"
local mine = redis.call('GET', KEYS[2])
if not mine or string.match(mine, '^%d+') == ARGV[2] or string.match(mine, 'left$') then
    redis.call('SET', KEYS[2], ARGV[2] .. ' ' .. ARGV[3], 'PX', ARGV[4])
    redis.call('SADD', KEYS[1], ARGV[1])
end
local found = { string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '' }
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local lease = redis.call('GET', ARGV[5] .. node)
    if lease then
        found[#found + 1] = node
        found[#found + 1] = lease
    else
        redis.call('SREM', KEYS[1], node)
    end
end
return found
";

/// Keys and arguments as above. The lease says for its last time that its node has left; also where Redis had forgotten it, so that the
/// others need not find out.
const LEAVE: &str = r"
local mine = redis.call('GET', KEYS[2])
if not mine or string.match(mine, '^%d+') == ARGV[2] then
    redis.call('SET', KEYS[2], ARGV[2] .. ' left', 'PX', ARGV[4])
    redis.call('SADD', KEYS[1], ARGV[1])
end
return 0
";

impl From<&config::Cluster> for Timing {
    fn from(cluster: &config::Cluster) -> Timing {
        Timing { lease: cluster.lease_ms, renew: cluster.renew_ms, confirm: cluster.confirm_ms }
    }
}

/// How this node's lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not asked yet, or another process still has it.
    Waiting,
    /// This process has it.
    Held,
    /// Redis did not answer the last time.
    Silent,
}

/// Keeps the lease, on a thread of its own. Dropped, it stops without leaving.
pub struct Member {
    leave: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    standing: watch::Receiver<Standing>,
}

impl Member {
    /// Begins to renew. `held` is called as soon as this process has the lease, before anything follows from the others'.
    ///
    /// # Errors
    /// When Redis cannot be used as configured. That it does not answer is none.
    pub fn launch(config: &Config, shared: Shared, held: Held) -> Result<Member, SetupError> {
        let timing = Timing::from(&config.cluster);
        // An answer that comes later is worth nothing.
        let connector = Connector::new(&config.redis)?.with_response_timeout(Duration::from_millis(timing.late()));
        let (leave, left) = oneshot::channel();
        let (standing, seen) = watch::channel(Standing::Waiting);
        let keeper = Keeper {
            renewed: None,
            held: Some(held),
            keys: Keys::of(&config.cluster.name, shared.lease().node),
            renew: Script::new(RENEW),
            leave: Script::new(LEAVE),
            connection: None,
            standing,
            shared,
            timing,
            connector,
        };
        let thread = super::thread("lease", keeper.run(left))?;
        Ok(Member { leave: Mutex::new(Some(leave)), thread: Mutex::new(Some(thread)), standing: seen })
    }

    /// Waits until this process holds the lease, or Redis does not answer, or the time is over.
    pub async fn settled(&self, limit: Duration) -> Standing {
        let mut standing = self.standing.clone();
        let _ = tokio::time::timeout(limit, standing.wait_for(|s| *s != Standing::Waiting)).await;
        *standing.borrow()
    }

    /// How the lease is now.
    pub fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Gives the lease back, so that the others need not wait for its end, and stops. Blocks until that is done or Redis took too long.
    pub fn leave(&self) {
        if let Some(leave) = self.leave.lock().take() {
            let _ = leave.send(());
        }
        if let Some(thread) = self.thread.lock().take() {
            // One that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

/// What a cluster calls its keys.
struct Keys {
    nodes: String,
    leases: String,
    mine: String,
}

impl Keys {
    fn of(cluster: &str, node: NodeId) -> Keys {
        let leases = format!("hubbub:{{{cluster}}}:lease:");
        Keys { nodes: format!("hubbub:{{{cluster}}}:nodes"), mine: format!("{leases}{}", node.0), leases }
    }
}

/// What is called when a process has its lease; on the thread that keeps it: passes on and returns.
pub type Held = Box<dyn FnOnce() + Send>;

struct Keeper {
    held: Option<Held>,
    /// When the last renewal was asked for that was taken.
    renewed: Option<Mono>,
    shared: Shared,
    timing: Timing,
    connector: Connector,
    connection: Option<Connection>,
    keys: Keys,
    renew: Script,
    leave: Script,
    standing: watch::Sender<Standing>,
}

/// What the script says.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    server: u64,
    leases: Vec<Lease>,
    left: Vec<(NodeId, u64)>,
}

impl Answer {
    /// What is not a lease is passed over: somebody else's, or a later version's.
    fn read(found: &[String]) -> Answer {
        let (server, rest) = found.split_first().map_or(("", found), |(server, rest)| (server.as_str(), rest));
        let mut answer = Answer { server: xxh3_64(server.as_bytes()), leases: Vec::new(), left: Vec::new() };
        for pair in rest.chunks_exact(2) {
            let mut words = pair[1].split(' ');
            let (node, incarnation, weight) = (pair[0].parse(), words.next().map(str::parse), words.next());
            let (Ok(node), Some(Ok(incarnation)), Some(weight)) = (node, incarnation, weight) else { continue };
            match weight.parse() {
                Ok(weight) => answer.leases.push(Lease { node: NodeId(node), incarnation, weight }),
                Err(_) if weight == LEFT => answer.left.push((NodeId(node), incarnation)),
                Err(_) => {}
            }
        }
        answer
    }
}

impl Keeper {
    async fn run(mut self, left: oneshot::Receiver<()>) {
        prefer();
        let ticking = tick(self.shared.clone(), Duration::from_millis(self.timing.renew));
        let leaves = tokio::select! {
            () = ticking => false,
            () = self.keep() => false,
            left = left => left.is_ok(),
        };
        if leaves && let Err(error) = self.give_back().await {
            tracing::warn!(%error, "the lease could not be given back; it ends by itself");
        }
    }

    async fn keep(&mut self) {
        let mut each = tokio::time::interval(Duration::from_millis(self.timing.renew));
        each.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            each.tick().await;
            let asked = self.shared.now();
            match self.ask().await {
                Ok(answer) => self.heard(asked, answer),
                Err(error) => {
                    tracing::debug!(%error, "the lease was not renewed");
                    metrics().cluster_lease_renewals_total.of("failed").inc();
                    self.connection = None;
                    self.standing.send_replace(Standing::Silent);
                }
            }
        }
    }

    async fn ask(&mut self) -> RedisResult<Answer> {
        let found: Vec<String> = self.invoke(false).await?;
        Ok(Answer::read(&found))
    }

    async fn invoke<T: ::redis::FromRedisValue>(&mut self, leave: bool) -> RedisResult<T> {
        let lease = self.shared.lease();
        let mut call = if leave { self.leave.prepare_invoke() } else { self.renew.prepare_invoke() };
        call.key(&self.keys.nodes).key(&self.keys.mine).arg(lease.node.0).arg(lease.incarnation).arg(lease.weight);
        call.arg(self.timing.lease).arg(&self.keys.leases);
        match self.connection {
            Some(ref mut connection) => call.invoke_async(connection).await,
            None => call.invoke_async(self.connection.insert(self.connector.connect(None).await?)).await,
        }
    }

    fn heard(&mut self, asked: Mono, answer: Answer) {
        let me = self.shared.lease();
        let mine = answer.leases.iter().find(|lease| lease.node == me.node);
        let held = mine.is_some_and(|lease| lease.incarnation == me.incarnation);
        metrics().cluster_lease_renewals_total.of(if held { "renewed" } else { "other" }).inc();
        if held && let Some(held) = self.held.take() {
            held();
        }
        if held && let Some(before) = self.renewed.replace(asked) {
            metrics().cluster_lease_gap_seconds.observe(asked.since(before) as f64 / 1e3);
        }
        for (node, incarnation) in answer.left {
            self.shared.left(node, incarnation);
        }
        self.shared.listed(Listing { asked, server: answer.server, leases: answer.leases });
        let nodes = self.shared.look(|view| view.membership().nodes().count());
        metrics().cluster_nodes.set(i64::try_from(nodes).unwrap_or(i64::MAX));
        self.standing.send_replace(if held { Standing::Held } else { Standing::Waiting });
    }

    async fn give_back(&mut self) -> RedisResult<()> {
        let limit = Duration::from_millis(2 * self.timing.late());
        let give = async {
            match self.invoke::<i64>(true).await {
                // The connection may have ended since the last renewal.
                Err(_) => {
                    self.connection = None;
                    self.invoke::<i64>(true).await
                }
                given => given,
            }
        };
        let given = tokio::time::timeout(limit, give).await;
        given.unwrap_or_else(|_| Err((::redis::ErrorKind::Io, "no answer in time").into())).map(drop)
    }
}

/// Has the calling thread come first; Linux counts it for that thread alone. Who may not be preferred is not: a lease lasts four renewals.
fn prefer() {
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// Silence is noticed also while an answer is awaited.
async fn tick(shared: Shared, every: Duration) {
    let mut each = tokio::time::interval(every);
    each.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        each.tick().await;
        shared.tick();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_read_and_what_is_none_is_passed_over() {
        let words = ["abc", "1", "77 100", "2", "78 left", "x", "1 1", "3", "y 1", "4", "80", "5", "81 0 later", "6"].map(String::from);
        let answer = Answer::read(&words);
        let lease = |node, incarnation, weight| Lease { node: NodeId(node), incarnation, weight };
        assert_eq!(answer.leases, [lease(1, 77, 100), lease(5, 81, 0)]);
        assert_eq!((answer.left, answer.server), (vec![(NodeId(2), 78)], xxh3_64(b"abc")));
        assert_eq!(Answer::read(&[]).leases, []);
    }

    #[test]
    fn one_thread_is_preferred_and_no_other() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // The name may hold anything; the state is the third field, and how nice the thread is the nineteenth.
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();
        let preferred = std::thread::spawn(move || {
            prefer();
            nice()
        });
        let preferred = preferred.join().unwrap();
        assert!(preferred == NICE || preferred == before, "{preferred}: only who may is preferred");
        assert_eq!(nice(), before);
    }

    #[test]
    fn all_keys_of_a_cluster_are_in_one_place() {
        let keys = Keys::of("a", NodeId(7));
        assert_eq!((keys.nodes.as_str(), keys.mine.as_str()), ("hubbub:{a}:nodes", "hubbub:{a}:lease:7"));
        assert!(keys.mine.starts_with(&keys.leases));
    }
}
