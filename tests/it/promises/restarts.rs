//! P2 over restarts of a room's actor and of the node, and how soon a node with a long log is ready.

use super::{Stage, all_is_well, answered, connected, fault, groups, people, pick};
use crate::support::TestNode;
use futures_util::future::join_all;
use hubbub::protocol::ids::Seq;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// P2: what was durable when the room's actor ended is in its next life's log, and its seqs are never given again.
#[tokio::test]
async fn a_room_that_was_restarted_never_gives_a_seq_again() {
    let node = TestNode::builder().set("dev.faults", true).start().await;
    let users = people(&node, 8).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 2).await;
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    for _ in 0..3 {
        for room in &rooms {
            sleep(Duration::from_millis(120)).await;
            fault(&*stage.node.read().await, "room", room.0).await;
        }
    }
    for _ in 0..pick(1, 20) {
        sleep(Duration::from_millis(200)).await;
        let mut node = stage.node.write().await;
        node.kill9().await;
        node.restart().await;
    }
    let clients = stage.silence(talkers).await;
    all_is_well(&*stage.node.read().await, &clients, &rooms).await;
}

/// What a start may take here at most; what it took is printed, and measured by `make bench`.
const READY: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_node_with_a_long_log_is_soon_ready() {
    let entries: Seq = pick(20_000, 100_000);
    // The whole log is read at the end, by one resume.
    let mut node = TestNode::builder().set("rooms.resume_entries_max", 2 * entries).start().await;
    let users = people(&node, 1).await;
    let mut client = connected(&node, &users).await.pop().unwrap();
    let room = groups(std::slice::from_ref(&client), 1).await[0];
    let mut written = 1;
    while written < entries {
        let burst: Vec<_> = (0..250).map(|i| client.message(room, &format!("entry {written}.{i} of a long log"))).collect();
        for answer in join_all(burst.iter().map(|request| answered(&client, request))).await {
            written = written.max(answer.expect("the connection lives").seq.unwrap());
        }
    }
    for how in ["kill -9", "a stop"] {
        if how == "a stop" {
            assert!(node.stop().await.success());
        } else {
            node.kill9().await;
        }
        let began = Instant::now();
        node.restart().await;
        let took = began.elapsed();
        println!("ready {took:?} after {how}, with {written} entries");
        assert!(took < READY, "ready only {took:?} after {how}");
        client.reconnect(&node).await;
        client.send(room, "still there").await;
        written += 1;
    }
    all_is_well(&node, &[client], &[room]).await;
}
