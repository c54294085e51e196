//! Nodes that die, stand still, are cut off or have a wrong clock; Redis that is gone; a bus that loses.

use super::*;
use crate::promises::pick;
use crate::support::link::Fault;

/// P1 to P3, P5, P6: owners die under load; who was connected to another node does not even notice.
#[tokio::test]
async fn acked_messages_survive_kill_9_of_their_owners_and_other_sockets_never_drop() {
    let mut random = seeded();
    let (stage, talkers) = Stage::talk(TestCluster::start(3).await, 6, 3).await;
    for round in 0..pick(3, 10) {
        a_moment(&mut random).await;
        // The first lives: its clients are those who must not notice.
        let victim = &stage.cluster.members[1 + round % 2];
        victim.kill9().await;
        stage.cluster.together(2).await;
        a_moment(&mut random).await;
        victim.restart().await;
        stage.cluster.together(3).await;
    }
    let (guests, _) = stage.silence(talkers).await;
    let spared = guests.iter().enumerate().filter(|(n, _)| n % 3 == 0);
    assert!(spared.clone().all(|(_, guest)| guest.returned == 0), "a socket of a node that lived was dropped");
    assert!(guests.iter().any(|guest| guest.returned > 0), "nobody was hit");
}

/// P5: an owner that slept is refused when it wakes up, steps down by itself, and what it had not acknowledged is settled by a resend.
#[tokio::test]
async fn an_owner_that_stood_still_is_refused_when_it_wakes_up() {
    let mut random = seeded();
    let (stage, talkers) = Stage::talk(TestCluster::start(3).await, 6, 3).await;
    for _ in 0..pick(1, 4) {
        a_moment(&mut random).await;
        let victim = &stage.cluster.members[1];
        victim.pause().await;
        stage.cluster.together(2).await;
        sleep(Duration::from_secs(pick(4, 20))).await;
        victim.resume().await;
        stage.cluster.together(3).await;
        a_moment(&mut random).await;
    }
    stage.silence(talkers).await;
}

/// No shard moves because Redis is silent; who is cut off in one direction or in both loses nothing.
#[tokio::test]
async fn a_node_that_is_cut_off_from_redis_in_either_direction_loses_nothing() {
    let mut random = seeded();
    let (stage, talkers) = Stage::talk(TestCluster::start(3).await, 6, 3).await;
    let deaf = Fault { cut_in: true, ..Fault::NONE };
    let mute = Fault { cut_out: true, ..Fault::NONE };
    for fault in [Fault::CUT, deaf, mute] {
        a_moment(&mut random).await;
        stage.cluster.members[2].redis.set(fault);
        sleep(Duration::from_secs(pick(4, 15))).await;
        stage.cluster.members[2].redis.set(Fault::NONE);
        stage.cluster.together(3).await;
    }
    stage.silence(talkers).await;
}

#[tokio::test]
async fn a_node_that_is_cut_off_from_the_store_refuses_and_loses_nothing() {
    let mut random = seeded();
    let (stage, talkers) = Stage::talk(TestCluster::start(3).await, 6, 3).await;
    a_moment(&mut random).await;
    stage.cluster.members[1].store.set(Fault::CUT);
    sleep(Duration::from_secs(pick(5, 20))).await;
    stage.cluster.members[1].store.set(Fault::NONE);
    a_moment(&mut random).await;
    stage.silence(talkers).await;
}

/// P5: what an owner had written before it was followed lands after the takeover, and counts for nothing.
#[tokio::test]
async fn a_write_that_lands_after_a_takeover_is_never_acknowledged() {
    let mut random = seeded();
    let (stage, talkers) = Stage::talk(TestCluster::start(3).await, 6, 3).await;
    for _ in 0..pick(2, 10) {
        a_moment(&mut random).await;
        let victim = &stage.cluster.members[1];
        // What it writes from now on arrives when another has had its shards for a while.
        victim.store.set(Fault { late_out: Duration::from_secs(4), ..Fault::NONE });
        victim.redis.set(Fault::CUT);
        sleep(Duration::from_secs(5)).await;
        victim.store.set(Fault::NONE);
        victim.redis.set(Fault::NONE);
        stage.cluster.together(3).await;
    }
    stage.silence(talkers).await;
}

/// P6: Redis keeps nothing that may not be lost.
#[tokio::test]
async fn redis_that_is_killed_and_comes_back_empty_costs_nothing() {
    let mut random = seeded();
    let (stage, talkers) = Stage::talk(TestCluster::start(3).await, 6, 3).await;
    a_moment(&mut random).await;
    stage.cluster.redis.write().await.kill9();
    sleep(Duration::from_secs(pick(3, 10))).await;
    stage.cluster.redis.write().await.restart();
    stage.cluster.together(3).await;
    a_moment(&mut random).await;
    let (guests, _) = stage.silence(talkers).await;
    assert!(guests.iter().all(|guest| guest.returned == 0), "a socket was dropped because Redis was gone");
}

/// P4: pub/sub is a hint.
#[tokio::test]
async fn a_bus_that_loses_every_tenth_envelope_hides_nothing() {
    let cluster = TestCluster::start_with(3, |_, node| node.set("dev.lose_envelopes_every", 10)).await;
    let (stage, talkers) = Stage::talk(cluster, 6, 3).await;
    sleep(Duration::from_secs(pick(3, 30))).await;
    stage.silence(talkers).await;
}

/// A wall clock orders nothing.
#[tokio::test]
async fn a_node_whose_clock_is_an_hour_off_harms_nobody() {
    let mut random = seeded();
    let cluster = TestCluster::start_with(3, |n, node| {
        // Tokens end by the clock: theirs last longer than it is wrong.
        let node = node.set("auth.access_ttl_s", 20_000);
        if n == 2 { node.set("dev.clock_offset_ms", 3_600_000) } else { node }
    })
    .await;
    let (stage, talkers) = Stage::talk(cluster, 6, 3).await;
    a_moment(&mut random).await;
    stage.cluster.members[0].kill9().await;
    stage.cluster.together(2).await;
    a_moment(&mut random).await;
    stage.cluster.members[0].restart().await;
    stage.cluster.together(3).await;
    stage.silence(talkers).await;
}
