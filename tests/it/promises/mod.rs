//! The promises P1 to P7 on one node: a real process, real sockets, and a judge who believes only what clients wrote down.
//!
//! Every test of a promise that can be broken on purpose is named in `scripts/sabotage.tsv` and must fail under it. Each has a
//! short form that is always run and, with `HUBBUB_SOAK=1`, a long one. Choices are seeded; a failure prints the node's log.

mod bounds;
mod database;
mod disk;
mod drain;
mod moving;
mod order;
mod panics;
mod repeats;
mod restarts;
mod resume;
mod survive;

use crate::support::{TestClient, TestNode, TestUser, judge};
use futures_util::future::join_all;
use hubbub::check::recorder::now;
use hubbub::check::{Options as Rules, Verdict};
use hubbub::client::ClientError;
use hubbub::error::{Code, Retry};
use hubbub::protocol::ids::{RoomId, Seq, UserId};
use hubbub::protocol::ops::{History, Ok as Reply, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// A request that is not answered for so long will not be. A database that is started anew on a busy machine takes half of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages of one sender under way at once.
const BURST: usize = 3;

/// Whether the long forms are wanted.
pub fn soak() -> bool {
    std::env::var_os("HUBBUB_SOAK").is_some()
}

/// `short`, or `long` in a soak.
pub fn pick<T>(short: T, long: T) -> T {
    if soak() { long } else { short }
}

/// So many new users.
pub async fn people(node: &TestNode, count: usize) -> Vec<TestUser> {
    let names: Vec<String> = (0..count).map(|i| format!("user{i}")).collect();
    join_all(names.iter().map(|name| node.user(name))).await
}

/// One connected client for each.
pub async fn connected(node: &TestNode, users: &[TestUser]) -> Vec<TestClient> {
    join_all(users.iter().map(|user| TestClient::connect(node, user, "device"))).await
}

pub fn ids(users: &[TestUser]) -> Vec<UserId> {
    users.iter().map(|u| u.id).collect()
}

/// Groups of all these clients, opened by the first.
pub async fn groups(clients: &[TestClient], count: usize) -> Vec<RoomId> {
    let others: Vec<UserId> = clients[1..].iter().map(|c| c.user.id).collect();
    let mut rooms = Vec::new();
    for _ in 0..count {
        rooms.push(clients[0].create(hubbub::protocol::entry::RoomKind::Group, &others).await);
    }
    for client in clients {
        for room in &rooms {
            client.reaches(*room, 1).await;
        }
    }
    rooms
}

/// Makes a request, with the same client id again where the server says that this may help. `None`: the connection ended.
pub async fn answered(client: &TestClient, request: &Request) -> Option<Reply> {
    let end = Instant::now() + PATIENCE;
    loop {
        match client.request(request.clone()).await {
            Ok(reply) => return Some(reply),
            Err(ClientError::Api(e)) if e.retry != Retry::Never => {
                assert!(Instant::now() < end, "{}: refused for {PATIENCE:?}, last: {e}", client.user.name);
                sleep(Duration::from_millis(e.retry_after_ms.unwrap_or(20).min(250))).await;
            }
            Err(ClientError::Api(e)) => panic!("{}: {request:?}: {e}", client.user.name),
            Err(_) => return None,
        }
    }
}

/// The code of a refusal; panics when it was none.
pub fn refusal(result: Result<Reply, ClientError>) -> Code {
    match result {
        Err(ClientError::Api(e)) => e.code,
        other => panic!("not a refusal: {other:?}"),
    }
}

/// A node and the clients who talk on it whatever happens to it.
pub struct Stage {
    pub node: RwLock<TestNode>,
    over: AtomicBool,
}

impl Stage {
    pub fn new(node: TestNode) -> Arc<Stage> {
        Arc::new(Stage { node: RwLock::new(node), over: AtomicBool::new(false) })
    }

    /// Each client sends in the rooms by turns, until the end; what is not answered is sent again, over a new connection if need be.
    pub fn talk(self: &Arc<Self>, clients: Vec<TestClient>, rooms: &[RoomId]) -> Vec<JoinHandle<TestClient>> {
        let each = |(turn, client): (usize, TestClient)| tokio::spawn(self.clone().talker(client, rooms.to_vec(), turn));
        clients.into_iter().enumerate().map(each).collect()
    }

    async fn talker(self: Arc<Self>, mut client: TestClient, rooms: Vec<RoomId>, mut turn: usize) -> TestClient {
        while !self.over.load(Ordering::Relaxed) {
            let mut due: Vec<Request> = (0..BURST)
                .map(|i| client.message(rooms[(turn + i) % rooms.len()], &format!("{} says {turn}.{i}", client.user.name)))
                .collect();
            turn += 1;
            loop {
                let answers = join_all(due.iter().map(|request| answered(&client, request))).await;
                due = due.into_iter().zip(answers).filter(|(_, answer)| answer.is_none()).map(|(request, _)| request).collect();
                if due.is_empty() {
                    break;
                }
                // Whoever changes the node holds the lock for writing.
                client.reconnect(&*self.node.read().await).await;
            }
        }
        client
    }

    /// Lets everybody finish their sentence.
    pub async fn silence(&self, talkers: Vec<JoinHandle<TestClient>>) -> Vec<TestClient> {
        self.over.store(true, Ordering::Relaxed);
        join_all(talkers).await.into_iter().map(|c| c.expect("a talker does not panic")).collect()
    }
}

/// The committed head of a room, as the server tells this client.
pub async fn head(client: &TestClient, room: RoomId) -> Seq {
    let page = client.read_history(History { room, limit: Some(200), ..History::default() }).await;
    page.head.expect("history tells the head")
}

/// All is said: every client has every entry of every room, and the judge finds nothing. All are members of all rooms.
pub async fn all_is_well(node: &TestNode, clients: &[TestClient], rooms: &[RoomId]) -> Verdict {
    let quiet = now();
    for room in rooms {
        let head = head(&clients[0], *room).await;
        join_all(clients.iter().map(|client| client.reaches(*room, head))).await;
    }
    clients.iter().for_each(|client| client.settled(quiet));
    for room in rooms {
        clients[0].read_log(node, *room).await;
    }
    let verdict = judge(clients, &Rules::default());
    println!("{verdict}");
    verdict
}

/// A page of the operators' listener that needs no token: its status and text.
pub async fn look(node: &TestNode, path: &str) -> (u16, String) {
    let url = format!("{}{path}", node.admin());
    let read = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut response = agent.get(&url).call().expect("the operators' listener answers");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("text"))
    };
    tokio::task::spawn_blocking(read).await.expect("no panic")
}

/// Makes an actor panic (`dev.faults`).
pub async fn fault(node: &TestNode, actor: &str, id: u64) {
    let done = node.operate("POST", &format!("/admin/fault?actor={actor}&id={id}"), None).await;
    done.unwrap_or_else(|e| panic!("the fault in {actor} {id}: {e}"));
}

/// How often actors of this kind were rebuilt.
pub async fn rebuilt(node: &TestNode, actor: &str) -> u64 {
    let line = format!("hubbub_actor_restarts_total{{actor=\"{actor}\"}} ");
    let text = node.metrics().await;
    let value = text.lines().find_map(|l| l.strip_prefix(&line)).unwrap_or_else(|| panic!("no metric {line}"));
    value.parse::<f64>().expect("a number") as u64
}
