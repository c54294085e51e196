//! Several nodes are one server.

use super::*;
use crate::support::TestNode;
use hubbub::protocol::entry::RoomKind;
use hubbub::protocol::ops::{PresenceState, Push};

#[tokio::test]
async fn people_on_different_nodes_see_one_order() {
    let (stage, talkers) = Stage::talk(TestCluster::start(3).await, 6, 3).await;
    sleep(Duration::from_secs(2)).await;
    let (guests, _) = stage.silence(talkers).await;
    assert!(guests.iter().all(|guest| guest.returned == 0), "nobody's connection broke");
    assert!(stage.cluster.metric("hubbub_bus_received_total").await > 0.0, "nothing went between nodes");
}

#[tokio::test]
async fn a_user_is_online_while_one_of_its_devices_is_on_whatever_node() {
    let cluster = TestCluster::start_with(3, |_, node| node.set("presence.offline_debounce_ms", 300)).await;
    let users = cluster.people(2).await;
    let (alice, bob) = (&users[0], &users[1]);
    let first = cluster.members[0].node.read().await;
    contacts(&first, alice, bob).await;
    let watcher = TestClient::connect(&first, alice, "watcher").await;
    let mut devices = Vec::new();
    for member in &cluster.members {
        devices.push(TestClient::connect(&*member.node.read().await, bob, "device").await);
    }
    let tells = |state: PresenceState| move |push: &Push| matches!(push, Push::Presence(p) if p.user == bob.id && p.state == state);
    watcher.expect_push("online", tells(PresenceState::Online)).await;
    devices[0].disconnect().await;
    drop(first);
    // The node of another device is killed; the third goes on.
    cluster.members[1].kill9().await;
    watcher.expect_none("offline", Duration::from_secs(4), tells(PresenceState::Offline)).await;
    devices[2].disconnect().await;
    watcher.expect_push("offline", tells(PresenceState::Offline)).await;
    watcher.expect_none("a second word", Duration::from_secs(2), tells(PresenceState::Offline)).await;
}

#[tokio::test]
async fn the_users_of_a_dead_node_go_offline_once() {
    let cluster = TestCluster::start_with(3, |_, node| node.set("presence.offline_debounce_ms", 300)).await;
    let users = cluster.people(2).await;
    let (alice, bob) = (&users[0], &users[1]);
    contacts(&*cluster.members[0].node.read().await, alice, bob).await;
    let watcher = TestClient::connect(&*cluster.members[0].node.read().await, alice, "watcher").await;
    let _device = TestClient::connect(&*cluster.members[2].node.read().await, bob, "device").await;
    let tells = |state: PresenceState| move |push: &Push| matches!(push, Push::Presence(p) if p.user == bob.id && p.state == state);
    watcher.expect_push("online", tells(PresenceState::Online)).await;
    cluster.members[2].kill9().await;
    watcher.expect_push("offline", tells(PresenceState::Offline)).await;
    watcher.expect_none("a second word", Duration::from_secs(3), tells(PresenceState::Offline)).await;
}

#[tokio::test]
async fn a_second_process_with_a_nodes_number_does_not_stay_and_harms_nothing() {
    let (stage, talkers) = Stage::talk(TestCluster::start(2).await, 4, 2).await;
    let keyspace = &stage.cluster.keyspace;
    let twin = keyspace
        .under(TestNode::builder())
        .set("cluster.node", 1)
        .set("redis.url", stage.cluster.redis.read().await.url())
        .set("auth.secret", "a secret that all nodes of a test share, of 32 bytes and more");
    let (status, log) = twin.start_failing().await;
    assert!(!status.success() && log.contains("is node 1 of cluster"), "{log}");
    sleep(Duration::from_secs(1)).await;
    stage.silence(talkers).await;
}

#[tokio::test]
async fn a_room_that_was_opened_at_one_node_is_there_at_all() {
    let cluster = TestCluster::start(3).await;
    let clients = cluster.connected(&cluster.people(3).await).await;
    let others: Vec<_> = clients[1..].iter().map(|client| client.user.id).collect();
    let room = clients[0].create(RoomKind::Group, &others).await;
    for (n, client) in clients.iter().enumerate() {
        client.reaches(room, 1).await;
        client.send(room, &format!("{n} is here")).await;
    }
    for client in &clients {
        client.reaches(room, 4).await;
    }
    eventually("the owner's marker is at the head, whoever asks", SOON, || async { clients[2].have(room) == 4 }).await;
    all_is_well(&*cluster.members[2].node.read().await, &clients, &[room]).await;
}

async fn contacts(node: &TestNode, a: &crate::support::TestUser, b: &crate::support::TestUser) {
    let rest = node.rest();
    for (from, to) in [(a, b), (b, a)] {
        let path = format!("/v1/contacts/{}", to.id);
        let asked: Result<serde_json::Value, _> = rest.call("PUT", &path, Some(&from.token), None).await;
        asked.unwrap_or_else(|e| panic!("{} and {}: {e}", from.name, to.name));
    }
}
