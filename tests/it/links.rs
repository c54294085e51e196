//! The bus over a real Redis, and the leases in it: what arrives, what is missed and told, and what a node does while Redis is away.

use super::support::redis::RedisServer;
use super::support::{SOON, TestNode, eventually};
use bytes::Bytes;
use hubbub::bus::redis::RedisBus;
use hubbub::bus::redis::member::{Member, Standing};
use hubbub::bus::{Arrival, Bus, Envelope, Framed, UserEvent};
use hubbub::cluster::NodeId;
use hubbub::cluster::membership::{Change, Lease, Timing};
use hubbub::cluster::shared::Shared;
use hubbub::cluster::view::{Event, View};
use hubbub::config::Config;
use hubbub::protocol::codec::Format;
use hubbub::protocol::entry::{Body, Entry, Message};
use hubbub::protocol::ids::{MessageId, RoomId, UserId};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SHARDS: u32 = 64;
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

/// A node without actors: a bus and a lease, and what they told.
struct Peer {
    shared: Shared,
    bus: Arc<RedisBus>,
    member: Option<Member>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    changes: Arc<Mutex<Vec<Change>>>,
    config: Config,
}

impl Peer {
    fn new(redis: &RedisServer, node: NodeId, change: impl FnOnce(&mut Config)) -> Peer {
        let peer = Peer::closed(redis, node, change);
        peer.bus.open();
        peer
    }

    /// One that has not got its lease yet.
    fn closed(redis: &RedisServer, node: NodeId, change: impl FnOnce(&mut Config)) -> Peer {
        let mut config = Config::default();
        redis.configure(&mut config, node.0);
        change(&mut config);
        assert_eq!(config.validate(), Ok(()));
        let lease = Lease { node, incarnation: rand::random(), weight: 100 };
        let shared = Shared::new(View::new(lease, Timing::from(&config.cluster), SHARDS));
        let bus = Arc::new(RedisBus::new(&config, shared.clone()).unwrap());
        let (arrivals, changes) = (Arc::<Mutex<Vec<Arrival>>>::default(), Arc::<Mutex<Vec<Change>>>::default());
        let (came, told) = (arrivals.clone(), changes.clone());
        bus.listen(Arc::new(move |arrival| came.lock().push(arrival))).unwrap();
        shared.listen(Arc::new(move |event| {
            if let Event::Member(change) = event {
                told.lock().push(change.clone());
            }
        }));
        Peer { shared, bus, member: None, arrivals, changes, config }
    }

    fn keeps_lease(mut self) -> Peer {
        let bus = self.bus.clone();
        self.member = Some(Member::launch(&self.config, self.shared.clone(), Box::new(move || bus.open())).unwrap());
        self
    }

    async fn up(&self) {
        eventually("the bus is up", SOON, || async { self.bus.status().is_up() }).await;
    }
    async fn knows(&self, nodes: &[NodeId]) {
        eventually(&format!("{nodes:?} are there"), SOON, || async { self.nodes() == nodes }).await;
    }
    fn nodes(&self) -> Vec<NodeId> {
        self.shared.look(|view| view.membership().nodes().map(|(node, _)| node).collect())
    }

    /// The words that came from a node so far.
    fn words(&self, of: NodeId) -> Vec<String> {
        let text = |arrival: &Arrival| match arrival {
            Arrival::Envelope(from, Envelope::Tell { body }) if *from == of => Some(String::from_utf8_lossy(body).into_owned()),
            _ => None,
        };
        self.arrivals.lock().iter().filter_map(text).collect()
    }
    fn missed(&self, of: NodeId) -> usize {
        self.arrivals.lock().iter().filter(|a| matches!(a, Arrival::Missed(node) if *node == of)).count()
    }
    async fn hears(&self, of: NodeId, word: &str) {
        eventually(&format!("{word:?} arrives"), SOON, || async { self.words(of).iter().any(|w| w == word) }).await;
    }
    async fn has_missed(&self, of: NodeId, more_than: usize) {
        eventually("it is told that something was missed", SOON, || async { self.missed(of) > more_than }).await;
    }
    fn was_told(&self, change: &Change) -> bool {
        self.changes.lock().contains(change)
    }
    async fn is_told(&self, change: Change) {
        eventually(&format!("{change:?} is told"), SOON, || async { self.was_told(&change) }).await;
    }
}

fn say(word: &str) -> Envelope {
    Envelope::Tell { body: Bytes::copy_from_slice(word.as_bytes()) }
}

fn entries(room: u64, seqs: std::ops::RangeInclusive<u64>) -> Envelope {
    let entry = |seq| {
        let body = Body::Message(Message { text: format!("message {seq}"), ..Message::default() });
        Entry { room: RoomId(room), seq, n: seq, id: MessageId(seq), at: 1, by: UserId(9), cid: None, body }
    };
    Envelope::Entries { room: RoomId(room), entries: seqs.map(|seq| Arc::new(Framed::new(Arc::new(entry(seq))))).collect() }
}

/// Two that hear each other.
async fn pair(redis: &RedisServer, change: impl Fn(&mut Config)) -> (Peer, Peer) {
    let (a, b) = (Peer::new(redis, A, &change), Peer::new(redis, B, &change));
    a.up().await;
    b.up().await;
    (a, b)
}

#[tokio::test]
async fn what_is_sent_to_a_node_arrives_there_in_order_and_nowhere_else() {
    let redis = RedisServer::start();
    let (a, b) = pair(&redis, |_| {}).await;
    for n in 0..5_000 {
        a.bus.send(B, say(&format!("{n}")));
    }
    a.bus.send(B, entries(5, 1..=300));
    a.bus.send(B, Envelope::User { user: UserId(3), event: UserEvent::Joined { room: RoomId(5), seq: 7 } });
    a.bus.send(B, Envelope::Ask { id: 4, wait_ms: 500, body: Bytes::from_static(b"?") });
    a.bus.send(A, say("to myself"));
    a.bus.send(B, say("last"));
    assert_eq!(a.words(A), ["to myself"], "without Redis in between");
    b.hears(A, "last").await;
    let numbers: Vec<String> = (0..5_000).map(|n| n.to_string()).chain(["last".into()]).collect();
    assert_eq!(b.words(A), numbers);
    let arrivals = b.arrivals.lock().clone();
    let asked =
        arrivals.iter().any(|a| matches!(a, Arrival::Envelope(A, Envelope::Ask { id: 4, wait_ms: 500, body }) if &body[..] == b"?"));
    let joined =
        arrivals.iter().any(|a| matches!(a, Arrival::Envelope(A, Envelope::User { user: UserId(3), event: UserEvent::Joined { .. } })));
    assert!(asked && joined);
    let seqs = arrivals.iter().filter_map(|arrival| match arrival {
        Arrival::Envelope(A, Envelope::Entries { entries, .. }) => Some(entries.clone()),
        _ => None,
    });
    let got: Vec<_> = seqs.flat_map(|entries| entries.to_vec()).collect();
    assert_eq!(got.iter().map(|e| e.what.seq).collect::<Vec<_>>(), (1..=300).collect::<Vec<_>>());
    let Envelope::Entries { entries: sent, .. } = entries(5, 7..=7) else { unreachable!() };
    assert_eq!((&got[6].what, got[6].frame(Format::Json)), (&sent[0].what, sent[0].frame(Format::Json)));
    b.bus.send(A, Envelope::Answer { id: 4, body: Bytes::from_static(b"!") });
    b.bus.send(A, say("answered"));
    a.hears(B, "answered").await;
    assert_eq!((b.missed(A), a.missed(B)), (0, 0), "nothing was missed");
    assert!(redis.cli(&["pubsub", "channels"]).contains("hubbub:hubbub:node:2"));
}

#[tokio::test]
async fn a_broadcast_reaches_all_who_are_there_and_oneself() {
    let redis = RedisServer::start();
    let (a, b) = pair(&redis, |_| {}).await;
    let (a, b) = (a.keeps_lease(), b.keeps_lease());
    a.knows(&[A, B]).await;
    a.bus.broadcast(say("to all"));
    b.hears(A, "to all").await;
    assert_eq!((a.words(A), b.words(A)), (vec!["to all".into()], vec!["to all".into()]));
    assert_eq!(b.member.as_ref().unwrap().settled(SOON).await, Standing::Held);
}

#[tokio::test]
async fn redis_that_was_killed_and_comes_back_empty_is_found_again_and_the_loss_is_told() {
    let mut redis = RedisServer::start();
    let (a, b) = pair(&redis, |_| {}).await;
    let (a, b) = (a.keeps_lease(), b.keeps_lease());
    a.knows(&[A, B]).await;
    b.knows(&[A, B]).await;
    a.bus.send(B, say("before"));
    b.hears(A, "before").await;
    let (missed_a, missed_b) = (a.missed(B), b.missed(A));
    redis.kill9();
    a.is_told(Change::Silent).await;
    a.bus.send(B, say("meanwhile"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!a.bus.status().is_up() && !b.bus.status().is_up());
    redis.restart();
    let back = Instant::now();
    a.up().await;
    b.up().await;
    a.has_missed(B, missed_a).await;
    b.has_missed(A, missed_b).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    a.bus.send(B, say("after"));
    b.bus.send(A, say("after"));
    b.hears(A, "after").await;
    a.hears(B, "after").await;
    a.is_told(Change::Answers).await;
    // Long enough that somebody whose lease is missing would be dead.
    let timing = Timing::from(&a.config.cluster);
    tokio::time::sleep(Duration::from_millis(2 * timing.grace() + timing.confirm)).await;
    assert_eq!((a.nodes(), b.nodes()), (vec![A, B], vec![A, B]));
    assert!(!a.was_told(&Change::Died(B)) && !b.was_told(&Change::Died(A)), "nobody dies because Redis was empty");
}

#[tokio::test]
async fn a_bus_that_loses_every_third_envelope_is_noticed_by_numbers() {
    let redis = RedisServer::start();
    let (a, b) = pair(&redis, |c| c.dev.lose_envelopes_every = 3).await;
    let came = || -> Vec<u64> {
        let seq = |arrival: &Arrival| match arrival {
            Arrival::Envelope(A, Envelope::Entries { entries, .. }) => Some(entries[0].what.seq),
            _ => None,
        };
        b.arrivals.lock().iter().filter_map(seq).collect()
    };
    for seq in 1..=8 {
        a.bus.send(B, entries(5, seq..=seq));
    }
    eventually("the others arrive", SOON, || async { came().contains(&8) }).await;
    let missed = b.missed(A);
    assert!(missed > 0);
    // The ninth is lost, and nothing follows: only the word about how far the numbers go tells of it.
    a.bus.send(B, entries(5, 9..=9));
    b.has_missed(A, missed).await;
    assert_eq!(came(), [1, 2, 4, 5, 7, 8]);
}

#[tokio::test]
async fn while_redis_stands_still_sends_do_not_wait_and_the_queue_is_bounded() {
    let redis = RedisServer::start();
    let bounds = |c: &mut Config| (c.redis.queue_envelopes_max, c.redis.response_timeout_ms) = (1_000, 300);
    let (a, b) = pair(&redis, bounds).await;
    redis.pause();
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    for n in 0..20_000 {
        let sent = Instant::now();
        a.bus.send(B, say(&format!("{n}")));
        longest = longest.max(sent.elapsed());
        assert!(a.bus.status().waiting <= 1_000);
    }
    assert!(longest < Duration::from_millis(500) && began.elapsed() < Duration::from_secs(10), "{longest:?}, {:?}", began.elapsed());
    eventually("it is noticed", SOON, || async { !a.bus.status().publishes && !b.bus.status().hears }).await;
    redis.resume();
    a.up().await;
    b.up().await;
    a.bus.send(B, say("after"));
    b.hears(A, "after").await;
    b.has_missed(A, 0).await;
    let words: Vec<u32> = b.words(A).iter().filter_map(|w| w.parse().ok()).collect();
    assert!(words.len() < 20_000 && words.windows(2).all(|w| w[0] < w[1]), "what came, came in order");
}

#[tokio::test]
async fn a_node_that_stops_renewing_is_dead_soon_and_one_that_leaves_at_once() {
    let redis = RedisServer::start();
    let (a, b) = pair(&redis, |_| {}).await;
    let (a, mut b) = (a.keeps_lease(), b.keeps_lease());
    a.knows(&[A, B]).await;
    let timing = Timing::from(&a.config.cluster);
    // Until the grace after the start is over nobody is missed.
    tokio::time::sleep(Duration::from_millis(timing.grace() + timing.renew)).await;
    let stopped = Instant::now();
    drop(b.member.take());
    a.is_told(Change::Died(B)).await;
    let took = stopped.elapsed();
    let due = Duration::from_millis(timing.lease + timing.confirm + 3 * timing.renew);
    assert!(took <= due + Duration::from_millis(500), "{took:?} instead of {due:?}");
    assert!(took >= Duration::from_millis(timing.lease - timing.renew), "{took:?}: it had just renewed");
    b = b.keeps_lease();
    a.knows(&[A, B]).await;
    a.changes.lock().clear();
    let left = Instant::now();
    b.member.take().unwrap().leave();
    a.is_told(Change::Died(B)).await;
    assert!(left.elapsed() < Duration::from_millis(timing.lease), "{:?}", left.elapsed());
    assert_eq!(a.shared.look(|view| view.plan().shards_of(A).count()), SHARDS as usize);
}

/// What is asked of a node as soon as its lease can be seen must not be lost: it would be waited for in vain.
#[tokio::test]
async fn who_has_its_lease_hears_and_is_heard_from_that_moment_on_and_not_before() {
    let redis = RedisServer::start();
    let (a, first) = pair(&redis, |_| {}).await;
    let (a, first) = (a.keeps_lease(), first.keeps_lease());
    a.knows(&[A, B]).await;
    let second = Peer::closed(&redis, B, |_| {});
    second.bus.listens().await;
    second.bus.send(A, say("of another process"));
    a.bus.send(B, say("for the first"));
    first.hears(A, "for the first").await;
    let second = second.keeps_lease();
    let greeter = a.bus.clone();
    a.shared.listen(Arc::new(move |event| {
        if let Event::Member(Change::Came(B) | Change::Restarted(B)) = event {
            greeter.send(B, say("welcome"));
        }
    }));
    assert_eq!((a.words(B).len(), second.words(A).len()), (0, 0));
    first.member.as_ref().unwrap().leave();
    second.hears(A, "welcome").await;
    a.hears(B, "of another process").await;
    assert!(second.words(A).iter().all(|word| word == "welcome"), "{:?}", second.words(A));
}

#[tokio::test]
async fn nobody_dies_while_redis_is_silent() {
    let redis = RedisServer::start();
    let (a, b) = pair(&redis, |_| {}).await;
    let (a, b) = (a.keeps_lease(), b.keeps_lease());
    a.knows(&[A, B]).await;
    b.knows(&[A, B]).await;
    let timing = Timing::from(&a.config.cluster);
    tokio::time::sleep(Duration::from_millis(timing.grace() + timing.renew)).await;
    let plan = a.shared.look(|view| view.plan().clone());
    redis.pause();
    a.is_told(Change::Silent).await;
    tokio::time::sleep(Duration::from_millis(4 * timing.lease)).await;
    redis.resume();
    a.is_told(Change::Answers).await;
    b.is_told(Change::Answers).await;
    tokio::time::sleep(Duration::from_millis(2 * timing.grace() + timing.confirm)).await;
    for peer in [&a, &b] {
        let changes = peer.changes.lock();
        assert!(!changes.iter().any(|c| matches!(c, Change::Died(_) | Change::Usurped | Change::Restarted(_))), "{changes:?}");
    }
    assert_eq!(a.shared.look(|view| view.plan().clone()), plan);
}

/// A node with a log of its own, as far as its configuration goes one of a cluster.
fn node(redis: &RedisServer, number: u32) -> super::support::Builder {
    TestNode::builder().set("redis.url", redis.url()).set("redis.response_timeout_ms", 300).set("cluster.node", number)
}

#[tokio::test]
async fn of_two_processes_with_one_number_the_second_stops_and_says_why() {
    let redis = RedisServer::start();
    // Long enough that the first does not lose its lease because the machine is busy.
    let patient = || node(&redis, 7).set("cluster.lease_ms", 3_000);
    let first = patient().start().await;
    let (status, log) = patient().start_failing().await;
    assert!(!status.success() && log.contains("another process is node 7 of cluster \"hubbub\" too"), "{status}\n{log}");
    assert!(log.contains("cluster.node"), "and what to do:\n{log}");
    assert!(first.rest().register("still", "correct horse battery staple").await.is_ok(), "the first goes on");
}

#[tokio::test]
async fn a_process_that_slept_while_another_took_its_number_stops_when_it_wakes() {
    let redis = RedisServer::start();
    let mut sleeper = node(&redis, 7).start().await;
    sleeper.pause();
    let second = node(&redis, 7).start().await;
    sleeper.resume();
    let status = sleeper.wait().await;
    assert!(!status.success() && sleeper.log().contains("another process is node 7"), "{status}\n{}", sleeper.log());
    assert!(second.rest().register("anna", "correct horse battery staple").await.is_ok());
}

#[tokio::test]
async fn a_node_serves_while_redis_is_away_and_says_so() {
    let mut redis = RedisServer::start();
    // A lease that lasts, so that it can be seen what became of it.
    let mut node = node(&redis, 3).set("cluster.lease_ms", 20_000).start().await;
    assert!(redis.cli(&["get", "hubbub:{hubbub}:lease:3"]).trim().ends_with(" 100"));
    redis.kill9();
    let ready = || {
        let url = format!("{}/readyz", node.admin());
        async move { tokio::task::spawn_blocking(move || ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap()).await.unwrap() }
    };
    eventually("it is a warning", SOON, || async { ready().await.contains(r#""ready":true,"warnings":["Redis does not answer"#) }).await;
    assert_eq!(node.metric("hubbub_bus_connected").await, 0.0);
    node.user("bea").await;
    redis.restart();
    eventually("it is over", SOON, || async { ready().await == r#"{"ready":true}"# }).await;
    assert_eq!(node.metric("hubbub_bus_connected").await, 1.0);
    assert_eq!(node.metric("hubbub_cluster_nodes").await, 1.0);
    assert!(node.metric("hubbub_bus_reconnects_total").await >= 2.0);
    assert!(node.stop().await.success());
    assert!(redis.cli(&["get", "hubbub:{hubbub}:lease:3"]).trim().ends_with(" left"), "it gave its lease back:\n{}", node.log());
    node.restart().await;
    assert!(redis.cli(&["get", "hubbub:{hubbub}:lease:3"]).trim().ends_with(" 100"), "and the next process need not wait for its end");
}

#[tokio::test]
async fn tls_and_a_password_are_enough_and_needed() {
    let redis = RedisServer::start_closed("open sesame");
    let (a, b) = pair(&redis, |_| {}).await;
    let (a, b) = (a.keeps_lease(), b.keeps_lease());
    a.knows(&[A, B]).await;
    a.bus.broadcast(say("hello"));
    b.hears(A, "hello").await;
    let stranger = Peer::new(&redis, NodeId(3), |c| c.redis.password = "open barley".into());
    let distrustful = Peer::new(&redis, NodeId(4), |c| c.redis.ca_file = std::path::PathBuf::new());
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    for refused in [&stranger, &distrustful] {
        let status = refused.bus.status();
        assert!(!status.publishes && !status.hears);
    }
    assert!(!format!("{:?}", a.config).contains("sesame"), "the password is not printed");
}

#[tokio::test]
async fn a_redis_cluster_carries_the_bus_by_sharded_channels() {
    let mut servers = RedisServer::start_cluster();
    let urls = servers.iter().map(RedisServer::url).collect::<Vec<_>>().join(",");
    let sharded = |c: &mut Config| (c.redis.url, c.redis.sharded) = (urls.clone(), true);
    let (a, b) = pair(&servers[0], sharded).await;
    let (a, b) = (a.keeps_lease(), b.keeps_lease());
    a.knows(&[A, B]).await;
    b.knows(&[A, B]).await;
    for n in 0..1_000 {
        a.bus.send(B, say(&n.to_string()));
        b.bus.broadcast(say(&n.to_string()));
    }
    b.hears(A, "999").await;
    a.hears(B, "999").await;
    let numbers: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    assert_eq!((a.words(B), b.words(A)), (numbers.clone(), numbers));
    let channels: Vec<String> = servers.iter().map(|s| s.cli(&["pubsub", "shardchannels"])).collect();
    assert_eq!(channels.iter().filter(|c| c.contains("node:1")).count(), 1, "{channels:?}");
    // The server of B's channel goes and comes back: the subscription is made again.
    let at = channels.iter().position(|c| c.contains("node:2")).expect("somebody has it");
    let missed = b.missed(A);
    servers[at].kill9();
    eventually("it is noticed", SOON, || async { !b.bus.status().hears }).await;
    servers[at].restart();
    b.has_missed(A, missed).await;
    a.up().await;
    b.up().await;
    eventually("words arrive again", SOON, || async {
        a.bus.send(B, say("after"));
        b.words(A).contains(&"after".into())
    })
    .await;
}
