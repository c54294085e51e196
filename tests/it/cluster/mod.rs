//! The promises over several nodes: real processes over a real Redis and a real CQL server, real sockets, and the same judge.
//!
//! Whatever is broken on purpose, people go on talking: who loses its connection comes back at any node that runs, resumes, and sends again what was
//! not answered. In the end everybody has everything, in one order. Choices are seeded (`HUBBUB_SEED`), and the seed is printed.

mod balancer;
mod faults;
mod figures;
mod keys;
mod leaving;
mod replicas;
mod together;

use super::promises::{all_is_well, answered, groups, head};
use super::support::cluster::TestCluster;
use super::support::{SOON, TestClient, eventually};
use futures_util::future::join_all;
use hubbub::check::Verdict;
use hubbub::protocol::ids::RoomId;
use hubbub::protocol::ops::Request;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Messages of one sender under way at once.
const BURST: usize = 2;
/// With less said, nothing is shown.
const ENOUGH: usize = 50;
/// Somebody who lost its connection is back within this.
const BACK: Duration = Duration::from_secs(30);

/// The random choices of a test.
fn seeded() -> StdRng {
    let seed = std::env::var("HUBBUB_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    println!("HUBBUB_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Somebody who talks.
struct Guest {
    client: TestClient,
    /// Where it is connected.
    at: usize,
    /// How often it had to come back.
    returned: u32,
}

/// A cluster and those who talk on it whatever happens to it.
struct Stage {
    cluster: TestCluster,
    rooms: Vec<RoomId>,
    over: AtomicBool,
    /// Messages that were acknowledged to their senders.
    said: AtomicUsize,
}

impl Stage {
    /// So many people, each in all of so many rooms, and all of them talking.
    async fn talk(cluster: TestCluster, people: usize, rooms: usize) -> (Arc<Stage>, Vec<JoinHandle<Guest>>) {
        let users = cluster.people(people).await;
        let clients = cluster.connected(&users).await;
        let rooms = groups(&clients, rooms).await;
        let nodes = cluster.members.len();
        let stage = Arc::new(Stage { cluster, rooms, over: AtomicBool::new(false), said: AtomicUsize::new(0) });
        let guests = clients.into_iter().enumerate().map(|(n, client)| Guest { client, at: n % nodes, returned: 0 });
        let talkers = guests.enumerate().map(|(turn, guest)| tokio::spawn(stage.clone().talker(guest, turn))).collect();
        (stage, talkers)
    }

    async fn talker(self: Arc<Self>, mut guest: Guest, mut turn: usize) -> Guest {
        while !self.over.load(Ordering::Relaxed) {
            let message = |i: usize| {
                let room = self.rooms[(turn + i) % self.rooms.len()];
                guest.client.message(room, &format!("{} says {turn}.{i}", guest.client.user.name))
            };
            let mut due: Vec<Request> = (0..BURST).map(message).collect();
            turn += 1;
            loop {
                let answers = join_all(due.iter().map(|request| answered(&guest.client, request))).await;
                self.said.fetch_add(answers.iter().flatten().count(), Ordering::Relaxed);
                due = due.into_iter().zip(answers).filter(|(_, answer)| answer.is_none()).map(|(request, _)| request).collect();
                if due.is_empty() {
                    break;
                }
                self.bring_back(&mut guest).await;
            }
            // Not as fast as possible: databases of three nodes stand on two cores here.
            sleep(Duration::from_millis(10)).await;
        }
        guest
    }

    /// Connects it to any node that takes it.
    async fn bring_back(&self, guest: &mut Guest) {
        if let Some(balancer) = &self.cluster.balancer {
            return self.come_back(guest, &balancer.url()).await;
        }
        let (end, nodes) = (Instant::now() + BACK, self.cluster.members.len());
        guest.returned += 1;
        let mut why = String::from("no node runs");
        while Instant::now() < end {
            guest.at = (guest.at + 1) % nodes;
            let member = &self.cluster.members[guest.at];
            if let Ok(node) = member.node.try_read()
                && node.is_running()
                && !member.is_avoided()
            {
                match guest.client.try_reconnect(&node.url()).await {
                    Ok(()) => return,
                    Err(e) => why = e.to_string(),
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("{} was not back within {BACK:?}: {why}", guest.client.user.name);
    }

    /// Lets everybody finish their sentence, brings back who is gone, and has the judge look at it all.
    async fn silence(&self, talkers: Vec<JoinHandle<Guest>>) -> (Vec<Guest>, Verdict) {
        // On a machine that is busy with other things too, a moment may be too short to say much.
        eventually("enough was said", SOON, || async { self.said.load(Ordering::Relaxed) > ENOUGH }).await;
        self.over.store(true, Ordering::Relaxed);
        let guests = join_all(talkers).await.into_iter().map(|guest| guest.expect("a talker does not panic"));
        let mut guests: Vec<Guest> = guests.collect();
        // As clients do, whoever is told to resume comes back: a hub whose node has a slow store may have to say so for a while.
        let end = Instant::now() + SOON;
        loop {
            for guest in &mut guests {
                if guest.client.connection.end().is_some() {
                    self.bring_back(guest).await;
                }
            }
            let mut all = true;
            for room in &self.rooms {
                let head = head(&guests[0].client, *room).await;
                all &= guests.iter().all(|guest| guest.client.have(*room) >= head);
            }
            let stay = guests.iter().all(|guest| guest.client.connection.end().is_none());
            if (all && stay) || Instant::now() > end {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let node = self.cluster.members[0].node.read().await;
        let homes: Vec<(usize, u32)> = guests.iter().map(|guest| (guest.at, guest.returned)).collect();
        let clients: Vec<TestClient> = guests.into_iter().map(|guest| guest.client).collect();
        let verdict = all_is_well(&node, &clients, &self.rooms).await;
        assert!(verdict.stats.acked > ENOUGH, "too little happened: {:?}", verdict.stats);
        let back = clients.into_iter().zip(homes).map(|(client, (at, returned))| Guest { client, at, returned });
        (back.collect(), verdict)
    }
}

/// A while of talk.
async fn a_moment(random: &mut StdRng) {
    sleep(Duration::from_millis(random.random_range(300..700))).await;
}
