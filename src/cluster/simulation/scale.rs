//! A thousand nodes and a hundred thousand rooms, from one seed: how even the placement is, what a join and a death cost, how soon everybody
//! knows. Prints the figures of docs/SCALING.md. The real placement and membership; Redis is a list of leases.

use super::node::TIMING;
use crate::cluster::membership::{Change, Lease, Listing};
use crate::cluster::placement::{Balance, Move, Plan, WEIGHT_DEFAULT};
use crate::cluster::view::{Event, View};
use crate::cluster::{Mono, NodeId};
use crate::protocol::ids::{RoomId, Shard};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

const SEED: u64 = 20_261_125;
const NODES: u32 = 1_000;
const ROOMS: usize = 100_000;
/// Nodes whose view of the others is followed.
const WATCHED: usize = 20;

fn members(nodes: impl IntoIterator<Item = u32>) -> BTreeMap<NodeId, u32> {
    nodes.into_iter().map(|node| (NodeId(node), WEIGHT_DEFAULT)).collect()
}

/// Rooms as a sequencer numbers them: ids differ by their time.
fn rooms(rng: &mut StdRng) -> Vec<RoomId> {
    (0..ROOMS).map(|_| RoomId(rng.random::<u64>() >> 22 << 12 | rng.random_range(0..4_096))).collect()
}

struct Cost {
    shards: usize,
    rooms: usize,
    /// Nodes that give or get something.
    touched: usize,
    /// Rooms that one node gets at most.
    most: usize,
}

fn cost(moves: &[Move], per_shard: &[usize], side: fn(&Move) -> Option<NodeId>) -> Cost {
    let mut rooms: BTreeMap<Option<NodeId>, usize> = BTreeMap::new();
    for moved in moves {
        *rooms.entry(side(moved)).or_default() += per_shard[moved.shard.0 as usize];
    }
    Cost { shards: moves.len(), rooms: rooms.values().sum(), touched: rooms.len(), most: rooms.values().copied().max().unwrap_or(0) }
}

fn balance(plan: &Plan, per_shard: &[usize]) -> (Balance, Balance) {
    let mut counts: BTreeMap<NodeId, (usize, usize)> = plan.members().keys().map(|node| (*node, (0, 0))).collect();
    for (shard, owner) in plan.each() {
        let count = owner.and_then(|owner| counts.get_mut(&owner)).expect("every shard has an owner that is a member");
        *count = (count.0 + 1, count.1 + per_shard[shard.0 as usize]);
    }
    (Balance::of(counts.values().map(|c| c.0)), Balance::of(counts.values().map(|c| c.1)))
}

/// One line of the table: so many nodes, so many shards.
fn line(nodes: u32, shards: u32, rooms: &[RoomId]) {
    let mut per_shard = vec![0; shards as usize];
    rooms.iter().for_each(|room| per_shard[Shard::of_room(*room, shards).0 as usize] += 1);
    let mut plan = Plan::new(shards);
    plan.set(&members(0..nodes));
    let (even, by_room) = balance(&plan, &per_shard);
    let fair = f64::from(shards) / f64::from(nodes);

    let came = plan.set(&members(0..=nodes));
    assert!(came.iter().all(|m| m.to == Some(NodeId(nodes))), "something moved that the newcomer does not own");
    let join = cost(&came, &per_shard, |m| m.from);
    assert!((join.shards as f64) < fair * 2.0 + 12.0, "a join moved {} shards where {fair} are fair", join.shards);

    plan.set(&members(0..nodes));
    let died = NodeId(nodes / 3);
    let went = plan.set(&members((0..nodes).filter(|n| *n != died.0)));
    assert!(went.iter().all(|m| m.from == Some(died)), "something moved that was not the dead node's");
    let death = cost(&went, &per_shard, |m| m.to);
    println!(
        "| {nodes} | {shards} | {} / {:.1} / {} | {} / {:.0} / {} | {} shards, {} rooms | {} shards, {} rooms to {} nodes, {} to one |",
        even.least,
        even.mean,
        even.most,
        by_room.least,
        by_room.mean,
        by_room.most,
        join.shards,
        join.rooms,
        death.shards,
        death.rooms,
        death.touched,
        death.most
    );
}

/// What the watched nodes see, and Redis between them.
struct Cluster {
    rng: StdRng,
    now: u64,
    alive: BTreeSet<u32>,
    /// When each node renews next.
    next: BTreeMap<u32, u64>,
    leases: BTreeMap<u32, u64>,
    watched: Vec<View>,
    silent: bool,
    /// Calls of Redis, and leases that it listed.
    calls: u64,
}

impl Cluster {
    fn lease(node: u32) -> Lease {
        Lease { node: NodeId(node), incarnation: u64::from(node) + 1, weight: WEIGHT_DEFAULT }
    }

    fn new(shards: u32) -> Cluster {
        let mut rng = StdRng::seed_from_u64(SEED);
        let watched = (0..WATCHED as u32).map(|node| View::new(Cluster::lease(node), TIMING, shards)).collect();
        let next = (0..NODES).map(|node| (node, rng.random_range(0..TIMING.renew))).collect();
        let alive = (0..NODES).collect();
        Cluster { rng, now: 0, alive, next, leases: BTreeMap::new(), watched, silent: false, calls: 0 }
    }

    /// Lets time pass; gives what the watched nodes concluded, and when.
    fn pass(&mut self, ms: u64) -> Vec<(u64, usize, Event)> {
        let mut events = Vec::new();
        for now in self.now..self.now + ms {
            let due: Vec<u32> = self.alive.iter().copied().filter(|node| self.next[node] <= now).collect();
            for node in due {
                self.next.insert(node, now + TIMING.renew + self.rng.random_range(0..5));
                if !self.silent {
                    self.calls += 1;
                    self.leases.insert(node, now + TIMING.lease);
                    self.leases.retain(|_, until| *until > now);
                }
                if let Some(view) = self.watched.get_mut(node as usize) {
                    let seen = if self.silent {
                        view.tick(Mono(now))
                    } else {
                        let leases = self.leases.keys().map(|node| Cluster::lease(*node)).collect();
                        view.listed(Mono(now), Listing { asked: Mono(now), server: 1, leases })
                    };
                    events.extend(seen.into_iter().map(|event| (now, node as usize, event)));
                }
            }
        }
        self.now += ms;
        events
    }

    fn agree(&self) -> bool {
        self.watched.windows(2).all(|w| w[0].plan() == w[1].plan())
    }
}

/// From an event on, how long until each watched node knew; sorted.
fn heard(events: &[(u64, usize, Event)], since: u64, what: impl Fn(&Change) -> bool) -> Vec<u64> {
    let known = events.iter().filter(|(_, _, event)| matches!(event, Event::Member(change) if what(change)));
    let mut times: Vec<u64> = known.map(|(at, ..)| at - since).collect();
    times.sort_unstable();
    times
}

#[test]
#[ignore = "takes half a minute; prints the figures of docs/SCALING.md"]
fn a_thousand_nodes_and_a_hundred_thousand_rooms() {
    let rooms = rooms(&mut StdRng::seed_from_u64(SEED));
    println!("| nodes | shards | shards of a node: least / mean / most | rooms of a node | a join moves | a death moves |");
    println!("|---|---|---|---|---|---|");
    for (nodes, shards) in [(3, 4_096), (10, 4_096), (100, 4_096), (100, 16_384), (NODES, 4_096), (NODES, 16_384), (NODES, 65_536)] {
        line(nodes, shards, &rooms);
    }

    let mut cluster = Cluster::new(4_096);
    cluster.pass(2_000);
    assert!(cluster.watched.iter().all(|view| view.plan().members().len() == NODES as usize) && cluster.agree());
    let calls = cluster.calls;
    cluster.pass(1_000);
    println!("\nRedis calls a second by {NODES} nodes: {}, each lists {NODES} leases", cluster.calls - calls);

    let (at, dead) = (cluster.now, 500);
    cluster.alive.remove(&dead);
    let events = cluster.pass(3_000);
    let times = heard(&events, at, |change| *change == Change::Died(NodeId(dead)));
    assert!(times.len() == WATCHED && cluster.agree());
    println!(
        "a death is known to the first after {} ms, to half after {} ms, to all after {} ms",
        times[0],
        times[WATCHED / 2],
        times[WATCHED - 1]
    );

    let at = cluster.now;
    cluster.alive.insert(dead);
    let events = cluster.pass(1_000);
    let times = heard(&events, at, |change| *change == Change::Came(NodeId(dead)));
    assert!(times.len() == WATCHED && cluster.agree());
    println!("a join is known to the first after {} ms, to all after {} ms", times[0], times[WATCHED - 1]);

    let before = cluster.watched[0].plan().clone();
    cluster.silent = true;
    let events = cluster.pass(10_000);
    cluster.silent = false;
    let after = cluster.pass(2_000);
    let moved = |events: &[(u64, usize, Event)]| events.iter().filter(|(.., event)| !matches!(event, Event::Member(_))).count();
    assert_eq!((moved(&events), moved(&after)), (0, 0), "a shard moved because Redis was silent");
    assert!(*cluster.watched[0].plan() == before);
    println!("ten seconds of silence of Redis, and its return with no lease left, move 0 shards");

    let at = cluster.now;
    cluster.alive.retain(|node| node % 10 != 9 || *node < WATCHED as u32);
    let events = cluster.pass(3_000);
    assert!(cluster.agree() && cluster.watched[0].plan().members().len() == cluster.alive.len());
    let times = heard(&events, at, |change| matches!(change, Change::Died(_)));
    let moved = before.each().filter(|(shard, owner)| cluster.watched[0].plan().owner(*shard) != *owner).count();
    println!(
        "{} nodes die at once: known to all after {} ms, {moved} of 4096 shards move",
        NODES as usize - cluster.alive.len(),
        times[times.len() - 1]
    );
}
