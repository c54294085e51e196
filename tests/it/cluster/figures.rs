//! Measurements, run by hand on a quiet machine: `cargo test --test it -- --ignored --nocapture cluster::figures`.

use super::*;
use hubbub::check::history::What;
use hubbub::check::recorder::now;
use std::collections::BTreeMap;

/// How long after each moment the first message was acknowledged in the room that waited longest, in milliseconds, in order of size.
fn waits(guests: &[Guest], moments: &[u64]) -> Vec<f64> {
    let mut acked: BTreeMap<RoomId, Vec<u64>> = BTreeMap::new();
    for guest in guests {
        for event in guest.client.history().events {
            if let What::Acked(it) = event.what {
                acked.entry(it.room).or_default().push(event.at);
            }
        }
    }
    let of = |moment: &u64| {
        let first = acked.values().filter_map(|times| times.iter().filter(|at| *at > moment).min());
        first.max().map_or(f64::NAN, |at| (at - moment) as f64 / 1_000.0)
    };
    let mut waits: Vec<f64> = moments.iter().map(of).collect();
    waits.sort_by(f64::total_cmp);
    waits
}

/// The longest that a message waited for its acknowledgement which was under way at each moment or sent within the next two seconds, in
/// milliseconds: of those whose connection stayed, and of those who had to come back.
fn pauses(guests: &[Guest], moments: &[u64]) -> Vec<(f64, f64)> {
    const AFTER: u64 = 2_000_000;
    let longest = |moment: u64, returned: bool| {
        let mut longest = 0;
        for guest in guests {
            let events = guest.client.history().events;
            let hit = events.iter().any(|e| matches!(e.what, What::Closed { .. }) && (moment..moment + 2 * AFTER).contains(&e.at));
            if hit != returned {
                continue;
            }
            let mut sent = BTreeMap::new();
            for event in &events {
                match &event.what {
                    What::Sent(it) => drop(sent.entry(it.cid).or_insert(event.at)),
                    What::Acked(it) => {
                        if let Some(from) = sent.remove(&it.cid).filter(|from| *from < moment + AFTER && event.at > moment) {
                            longest = longest.max(event.at - from);
                        }
                    }
                    _ => {}
                }
            }
        }
        longest as f64 / 1_000.0
    };
    moments.iter().map(|moment| (longest(*moment, false), longest(*moment, true))).collect()
}

fn default_lease(_: u32, node: crate::support::Builder) -> crate::support::Builder {
    node.set("cluster.lease_ms", 600).set("cluster.renew_ms", 150).set("cluster.confirm_ms", 150).set("http.drain_spread_ms", 300)
}

#[tokio::test]
#[ignore = "a measurement"]
async fn from_the_death_of_an_owner_to_the_next_acknowledged_message() {
    let mut random = seeded();
    let (stage, talkers) = Stage::talk(TestCluster::start_with(3, default_lease).await, 6, 12).await;
    let mut deaths = Vec::new();
    for round in 0..10 {
        a_moment(&mut random).await;
        let victim = &stage.cluster.members[1 + round % 2];
        deaths.push(now());
        victim.kill9().await;
        sleep(Duration::from_secs(4)).await;
        victim.restart().await;
        stage.cluster.together(3).await;
    }
    let (guests, verdict) = stage.silence(talkers).await;
    println!("{} acknowledged; the room that waited longest, ms: {:?}", verdict.stats.acked, waits(&guests, &deaths));
}

#[tokio::test]
#[ignore = "a measurement"]
async fn from_a_planned_leave_to_the_next_acknowledged_message() {
    let mut random = seeded();
    let (stage, talkers) = Stage::talk(TestCluster::start_with(3, default_lease).await, 6, 12).await;
    let (mut leaves, mut returns, mut quiet) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..6 {
        sleep(Duration::from_secs(3)).await;
        quiet.push(now());
        sleep(Duration::from_secs(3)).await;
        a_moment(&mut random).await;
        let mut node = stage.cluster.members[1 + round % 2].node.write().await;
        leaves.push(now());
        assert!(node.stop().await.success());
        // Its return is another thing.
        sleep(Duration::from_secs(3)).await;
        returns.push(now());
        node.restart().await;
        drop(node);
        stage.cluster.together(3).await;
    }
    let (guests, verdict) = stage.silence(talkers).await;
    println!("{} acknowledged; the room that waited longest, ms: {:?}", verdict.stats.acked, waits(&guests, &leaves));
    println!("the longest acknowledgement for who stayed and for who had to come back, ms: {:?}", pauses(&guests, &leaves));
    println!("the same for a node that comes back, from the start of its process on: {:?}", pauses(&guests, &returns));
    println!("the same at moments at which nothing happened: {:?}", pauses(&guests, &quiet));
}
