//! Real nodes behind a real HAProxy with the file of `deploy/`: clients know its address only, and come back as the client library does.
//!
//! How long anybody was without service is measured from what clients wrote down. It is printed, and bounded loosely always, tightly in a soak:
//! here a database and a build may stand on the same two cores.

use super::*;
use crate::promises::{pick, soak};
use crate::support::balancer::{Balancer, Kind};
use crate::support::{SOON, TestUser, eventually};
use hubbub::check::history::{History, Micros, What};
use hubbub::check::recorder::now;
use hubbub::client::{Client, ClientError, Event, Rest, Settings};
use hubbub::config::Config;
use hubbub::protocol::close::{Close, Next};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// Over how long a node that drains sends its clients away, in milliseconds.
const SPREAD_MS: u64 = 4_000;
/// What anybody may go without service in a planned restart, on a quiet machine.
const OUTAGE: Duration = Duration::from_secs(1);
/// The same on any machine: what is worse is no noise.
const OUTAGE_ANYWHERE: Duration = Duration::from_secs(10);
/// A client that is closed so much before its time is said to be closed in time: it noted the time a little late.
const EARLY: Micros = 50_000;

impl Stage {
    /// Comes back by the balancer's address, which is all it knows, and when the client library would.
    pub(super) async fn come_back(&self, guest: &mut Guest, url: &str) {
        let (end, mut backoff) = (Instant::now() + BACK, Settings::new(url, "").backoff);
        guest.returned += 1;
        let mut next = guest.client.connection.end().map_or(Next::Now, |end| hubbub::protocol::close::next(end.code));
        let told = guest.client.partings().last().map(|until| Duration::from_micros(until.saturating_sub(now())));
        let mut asked = told.filter(|_| next == Next::Later);
        while Instant::now() < end {
            sleep(backoff.wait(next, asked.take()).expect("no node ends a client for good here")).await;
            match guest.client.try_reconnect(url).await {
                Ok(()) => return,
                Err(e) => next = e.next(),
            }
        }
        panic!("{} was not back within {BACK:?}: {:?}", guest.client.user.name, guest.client.connection.end());
    }

    fn balancer(&self) -> &Balancer {
        self.cluster.balancer.as_ref().expect("a cluster behind one")
    }

    /// Asks over HTTP all along, reading and changing something by turns; what failed, and when.
    async fn ask(self: Arc<Self>, user: TestUser) -> Asked {
        let (rest, mut asked) = (Rest::new(&self.balancer().url()), Asked::default());
        while !self.over.load(Ordering::Relaxed) {
            let read: Result<Value, _> = rest.call("GET", "/v1/me", Some(&user.token), None).await;
            asked.note("GET", read);
            let named = Some(json!({ "display_name": format!("number {}", asked.answered) }));
            let changed: Result<Value, _> = rest.call("PATCH", "/v1/me", Some(&user.token), named).await;
            asked.note("PATCH", changed);
            sleep(Duration::from_millis(10)).await;
        }
        asked
    }
}

#[derive(Default)]
struct Asked {
    answered: usize,
    failed: Vec<(Micros, &'static str, ClientError)>,
}

impl Asked {
    fn note(&mut self, method: &'static str, result: Result<Value, ClientError>) {
        match result {
            Ok(_) => self.answered += 1,
            Err(e) => self.failed.push((now(), method, e)),
        }
    }
}

/// A program that uses the client library and only listens: it has to come back by itself.
struct Listener {
    client: Client,
    /// How often its connection was lost.
    lost: JoinHandle<u32>,
}

impl Listener {
    async fn start(url: &str, user: &TestUser) -> Listener {
        let (client, mut events) = Client::start(Settings::new(url, &user.token));
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let lost = tokio::spawn(async move {
            let (mut lost, mut here, mut ready) = (0, false, Some(ready));
            while let Some(event) = events.recv().await {
                match event {
                    Event::CaughtUp { .. } => {
                        here = true;
                        if let Some(ready) = ready.take() {
                            let _ = ready.send(());
                        }
                    }
                    // An attempt that fails ends like this too.
                    Event::Disconnected { .. } => lost += u32::from(std::mem::take(&mut here)),
                    _ => {}
                }
            }
            lost
        });
        tokio::time::timeout(SOON, is_ready).await.expect("it connects in time").expect("it connects");
        Listener { client, lost }
    }

    /// It has everything that a guest has; how often it had to come back.
    async fn heard_all(self, guest: &TestClient, rooms: &[RoomId]) -> u32 {
        let have = |room| self.client.view(|replica| replica.have(room));
        eventually("who only listens has everything too", SOON, || async { rooms.iter().all(|room| have(*room) >= guest.have(*room)) })
            .await;
        self.client.stop().await;
        self.lost.await.expect("no panic")
    }
}

/// How long a client was without something at most, and how that went, as it wrote it down.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Longest {
    time: Duration,
    story: Vec<String>,
}

impl Longest {
    /// The longest from what `begins` something to what `ends` it. One event may end several.
    fn of<K: std::hash::Hash + Eq>(history: &History, begins: impl Fn(&What) -> Option<K>, ends: impl Fn(&What) -> Vec<K>) -> Longest {
        let (mut open, mut longest) = (HashMap::<K, Micros>::new(), (0, 0));
        for event in &history.events {
            for what in ends(&event.what) {
                longest = open.remove(&what).map_or(longest, |since| longest.max((event.at - since, since)));
            }
            if let Some(what) = begins(&event.what) {
                open.entry(what).or_insert(event.at);
            }
        }
        let (time, since) = longest;
        let told = history.events.iter().filter(|event| (since..=since + time).contains(&event.at)).filter_map(|event| {
            let what = match &event.what {
                What::Closed { code } => format!("closed {code}"),
                What::Refused { code, .. } => format!("{code:?}"),
                What::Connected => "connected".into(),
                What::Unknown { .. } => "unknown".into(),
                What::Resumed { .. } => "resumed".into(),
                _ => return None,
            };
            Some(format!("{}: {what}", (event.at - since) / 1_000))
        });
        Longest { time: Duration::from_micros(time), story: told.take(40).collect() }
    }

    /// From the first refusal of a request, or the end of the connection, to the next success.
    fn failing(history: &History) -> Longest {
        let begins = |what: &What| match what {
            What::Closed { .. } => Some(None),
            What::Refused { cid, .. } | What::Unknown { cid, .. } => Some(Some(*cid)),
            _ => None,
        };
        let ends = |what: &What| match what {
            What::Resumed { .. } => vec![None],
            What::Acked(acked) => vec![None, Some(acked.cid)],
            _ => Vec::new(),
        };
        Longest::of(history, begins, ends)
    }

    /// From the first transmission of a request to its answer.
    fn waiting(history: &History) -> Longest {
        let begins = |what: &What| if let What::Sent(it) = what { Some(it.cid) } else { None };
        let ends = |what: &What| if let What::Acked(it) = what { vec![it.cid] } else { Vec::new() };
        Longest::of(history, begins, ends)
    }

    /// Each client's, shortest first; printed, with what the longest was.
    fn each(histories: &[History], what: &str, of: impl Fn(&History) -> Longest) -> Vec<Duration> {
        let mut all: Vec<Longest> = histories.iter().map(of).collect();
        all.sort();
        let times: Vec<Duration> = all.iter().map(|longest| longest.time).collect();
        println!("{what} at most {times:?}; the longest, in ms: {:?}", all.last().map(|longest| &longest.story));
        times
    }
}

/// P6: whoever was connected to the node that dies comes back by the same address to another node, and nobody else notices.
#[tokio::test]
async fn behind_a_balancer_a_killed_node_costs_its_own_clients_a_reconnect_and_nobody_else_anything() {
    let mut random = seeded();
    let (stage, talkers) = Stage::talk(TestCluster::balanced(Kind::HAProxy, |_, node| node).await, 9, 3).await;
    let url = stage.balancer().url();
    let everybody = stage.cluster.people(9).await;
    let mut listeners = Vec::new();
    for user in &everybody[..3] {
        listeners.push(Listener::start(&url, user).await);
    }
    let asking = tokio::spawn(stage.clone().ask(everybody[8].clone()));
    let (mut hit, mut deaths) = (0, Vec::new());
    for round in 0..pick(1, 6) {
        a_moment(&mut random).await;
        let (number, victim) = (2 + round % 2, &stage.cluster.members[1 + round % 2]);
        let there = victim.node.read().await.metric("hubbub_sockets_open").await as u32;
        assert!(there > 0, "the balancer gave node {number} nobody");
        hit += there;
        deaths.push(now());
        victim.kill9().await;
        stage.balancer().notices(number, false).await;
        stage.cluster.together(2).await;
        a_moment(&mut random).await;
        victim.restart().await;
        stage.cluster.together(3).await;
        stage.balancer().notices(number, true).await;
    }
    a_moment(&mut random).await;
    let (guests, verdict) = stage.silence(talkers).await;
    let asked = asking.await.expect("no panic");
    let mut returned: u32 = guests.iter().map(|guest| guest.returned).sum();
    for listener in listeners {
        returned += listener.heard_all(&guests[0].client, &stage.rooms).await;
    }
    let histories: Vec<History> = guests.iter().map(|guest| guest.client.history()).collect();
    println!("{} acknowledged, {} answered over HTTP", verdict.stats.acked, asked.answered);
    Longest::each(&histories, "failing", Longest::failing);
    Longest::each(&histories, "waiting", Longest::waiting);
    assert_eq!(returned, hit, "connections were lost that were not at a node that died");
    assert!(asked.answered > 10, "too little was asked");
    for (at, method, error) in &asked.failed {
        let after = deaths.iter().filter(|death| *death <= at).map(|death| at - death).min();
        println!("{method} failed {after:?} µs after a death: {error}");
        // What only reads is asked again by the balancer itself.
        assert!(*method != "GET" && after.is_some_and(|after| after < 1_000_000), "{method} at {at}: {error}, deaths at {deaths:?}");
    }
}

/// The same for nginx, which has no checks: it finds out by who comes.
#[tokio::test]
async fn behind_nginx_a_killed_node_costs_its_own_clients_a_reconnect_and_nobody_else_anything() {
    let mut random = seeded();
    let (stage, talkers) = Stage::talk(TestCluster::balanced(Kind::Nginx, |_, node| node).await, 6, 3).await;
    let everybody = stage.cluster.people(6).await;
    let asking = tokio::spawn(stage.clone().ask(everybody[5].clone()));
    a_moment(&mut random).await;
    let victim = &stage.cluster.members[1];
    let hit = victim.node.read().await.metric("hubbub_sockets_open").await as u32;
    assert!(hit > 0, "the balancer gave the node nobody");
    victim.kill9().await;
    stage.cluster.together(2).await;
    a_moment(&mut random).await;
    victim.restart().await;
    stage.cluster.together(3).await;
    a_moment(&mut random).await;
    let (guests, _) = stage.silence(talkers).await;
    let asked = asking.await.expect("no panic");
    assert_eq!(guests.iter().map(|guest| guest.returned).sum::<u32>(), hit, "connections were lost that were not at the node that died");
    assert!(asked.answered > 10, "too little was asked");
    assert!(asked.failed.iter().all(|(_, method, _)| *method != "GET"), "{:?}", asked.failed);
}

/// P6: each client is served until the time that it was told, by whichever node, and the balancer sends nobody to a node that goes.
#[tokio::test]
async fn a_rolling_restart_behind_a_balancer_is_no_outage_for_anybody() {
    let mut random = seeded();
    let cluster = TestCluster::balanced(Kind::HAProxy, |_, node| node.set("http.drain_spread_ms", SPREAD_MS)).await;
    let (stage, talkers) = Stage::talk(cluster, 9, 3).await;
    let everybody = stage.cluster.people(9).await;
    let mut listeners = Vec::new();
    for user in &everybody {
        listeners.push(Listener::start(&stage.balancer().url(), user).await);
    }
    let asking = tokio::spawn(stage.clone().ask(everybody[8].clone()));
    let mut served_unseen = 0;
    for (number, member) in (1..).zip(&stage.cluster.members) {
        a_moment(&mut random).await;
        let mut node = member.node.write().await;
        node.signal("TERM");
        served_unseen += stage.balancer().notices(number, false).await;
        assert!(node.wait().await.success());
        node.restart().await;
        drop(node);
        stage.cluster.together(3).await;
        stage.balancer().notices(number, true).await;
    }
    a_moment(&mut random).await;
    let (guests, verdict) = stage.silence(talkers).await;
    let asked = asking.await.expect("no panic");
    for listener in listeners {
        listener.heard_all(&guests[0].client, &stage.rooms).await;
    }
    assert!(served_unseen > 0, "no node still had a socket when the balancer knew that it drains");
    assert!(guests.iter().all(|guest| guest.returned > 0), "somebody was at no node");
    let histories: Vec<History> = guests.iter().map(|guest| guest.client.history()).collect();
    for (guest, history) in guests.iter().zip(&histories) {
        let drained = history.events.iter().filter(|e| matches!(e.what, What::Closed { code } if code == Close::DRAINING.code));
        let (closed, until): (Vec<Micros>, _) = (drained.map(|event| event.at).collect(), guest.client.partings());
        assert_eq!(closed.len(), until.len(), "{}: closed at {closed:?}, told {until:?}", guest.client.user.name);
        let early = closed.iter().zip(&until).find(|(closed, until)| **closed + EARLY < **until);
        assert_eq!(early, None, "{} was closed before its time", guest.client.user.name);
    }
    println!("{} acknowledged, {} answered over HTTP", verdict.stats.acked, asked.answered);
    let failing = Longest::each(&histories, "failing", Longest::failing);
    let waiting = Longest::each(&histories, "waiting", Longest::waiting);
    assert!(asked.failed.is_empty() && asked.answered > 10, "HTTP: {} answered, {:?}", asked.answered, asked.failed);
    let bound = if soak() { OUTAGE } else { OUTAGE_ANYWHERE };
    assert!(waiting.iter().chain(&failing).all(|time| *time < bound), "longer than {bound:?}: failing {failing:?}, waiting {waiting:?}");
}

/// One sign-in with a wrong password, from this address of the loopback network; its status.
async fn attempt(balancer: &Balancer, from: Ipv4Addr, n: usize) -> u16 {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("all of 127.0.0.0/8 is this machine's");
    let mut io = socket.connect(balancer.address()).await.expect("the balancer listens");
    let body = json!({ "name": format!("nobody{n}"), "password": "wrong horse" }).to_string();
    let head =
        "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.1";
    let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    io.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    tokio::time::timeout(SOON, io.read_to_string(&mut answer)).await.expect("an answer in time").expect("an answer");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

#[tokio::test]
async fn behind_a_balancer_nodes_see_the_clients_own_addresses() {
    let limit = 20;
    let cluster = TestCluster::balanced(Kind::HAProxy, |_, node| node.set("auth.attempts_per_minute", limit)).await;
    let balancer = cluster.balancer.as_ref().expect("it is behind one");
    let [greedy, other] = [2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last));
    // Each of the three nodes counts for itself, and a little comes back while this runs.
    let mut statuses = Vec::new();
    for n in 0..5 * limit {
        statuses.push(attempt(balancer, greedy, n).await);
    }
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    assert_eq!((statuses[0], statuses.last()), (401, Some(&429)), "{statuses:?}");
    for n in 0..6 {
        assert_eq!(attempt(balancer, other, n).await, 401, "another client pays for the first");
    }
}

/// A socket on which nobody talks is kept by its heartbeat, since nothing on the way ends it sooner.
#[test]
fn a_quiet_socket_outlives_the_balancers_idle_timeout() {
    let heartbeat = Duration::from_millis(Config::default().socket.heartbeat_ms);
    let text = std::fs::read_to_string(Balancer::file()).expect("the balancer's configuration");
    let value = text.lines().find_map(|line| line.trim().strip_prefix("timeout tunnel "));
    let seconds = value.and_then(|value| value.strip_suffix('s')?.parse().ok());
    let tunnel = Duration::from_secs(seconds.unwrap_or_else(|| panic!("timeout tunnel: {value:?}")));
    // The server pings after one heartbeat of silence and gives up after two; until it has, the balancer must not.
    assert!(tunnel > 2 * heartbeat, "sockets are cut before the node knows that they are dead");
}
