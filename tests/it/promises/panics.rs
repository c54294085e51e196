//! P6: a panic in any actor loses nothing, is noticed, and troubles nobody who has nothing to do with it.

use super::{Stage, all_is_well, answered, connected, fault, groups, people, pick, rebuilt};
use crate::support::{SOON, TestClient, TestNode, TestUser, eventually};
use hubbub::client::ClientError;
use hubbub::error::Code;
use hubbub::protocol::close::Close;
use hubbub::protocol::ids::RoomId;
use hubbub::protocol::ops::{PresenceState, Push, Request, SetPresence};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const BETWEEN: Duration = Duration::from_millis(250);
/// What an untouched room's answer may take on a busy machine.
const UNTROUBLED: Duration = Duration::from_secs(2);

async fn faulty_node() -> TestNode {
    // One thread for all rooms: the one that panics and the others are neighbours.
    TestNode::builder().set("dev.faults", true).set("rooms.threads", 1).start().await
}

/// Sends one message after the other until told to stop; each must be answered at the first try. Gives the longest wait.
async fn untroubled(client: &TestClient, room: RoomId, until: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    while Instant::now() < until {
        let began = Instant::now();
        client.send(room, "nothing is wrong here").await;
        longest = longest.max(began.elapsed());
    }
    longest
}

#[tokio::test]
async fn a_room_that_panics_loses_nothing_and_others_never_notice() {
    let node = faulty_node().await;
    let users = people(&node, 8).await;
    let mut clients = connected(&node, &users).await;
    let rooms = groups(&clients, 2).await;
    let neighbour = clients.pop().unwrap();
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms[..1]);
    let panics = async {
        let node = stage.node.read().await;
        for _ in 0..3 {
            sleep(BETWEEN).await;
            fault(&node, "room", rooms[0].0).await;
        }
        let (node, count) = (&*node, 3);
        eventually("the room was rebuilt", SOON, || async move { rebuilt(node, "room").await == count }).await;
    };
    let watched = untroubled(&neighbour, rooms[1], Instant::now() + BETWEEN * 4);
    let ((), longest) = tokio::join!(panics, watched);
    assert!(longest < UNTROUBLED, "the other room's answers took up to {longest:?}");
    let mut clients = stage.silence(talkers).await;
    clients.push(neighbour);
    all_is_well(&*stage.node.read().await, &clients, &rooms).await;
}

/// P7: a room that panics again and again is rebuilt with pauses; whoever asks meanwhile is told how long to wait.
#[tokio::test]
async fn a_storm_of_panics_is_limited_and_ends() {
    let node = faulty_node().await;
    let users = people(&node, 2).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 2).await;
    let mut wait = None;
    for i in 0..200 {
        fault(&node, "room", rooms[0].0).await;
        let request = clients[0].message(rooms[0], &format!("in the storm {i}"));
        match clients[0].request(request).await {
            Err(ClientError::Api(e)) if e.retry_after_ms.is_some() => {
                assert_eq!(e.code, Code::Unavailable, "{e}");
                wait = e.retry_after_ms;
                break;
            }
            Err(ClientError::Api(e)) => assert!(matches!(e.code, Code::Unavailable | Code::Unknown), "{e}"),
            Ok(_) => {}
            Err(e) => panic!("{e}"),
        }
    }
    let wait = Duration::from_millis(wait.expect("the storm was never limited"));
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(10), "{wait:?}");
    let before = rebuilt(&node, "room").await;
    for _ in 0..100 {
        fault(&node, "room", rooms[0].0).await;
    }
    assert!(rebuilt(&node, "room").await <= before + 3, "a hundred faults are a hundred restarts");
    assert!(untroubled(&clients[1], rooms[1], Instant::now() + BETWEEN).await < UNTROUBLED);
    let request = clients[0].message(rooms[0], "after the storm");
    answered(&clients[0], &request).await.expect("the connection lives");
    all_is_well(&node, &clients, &rooms).await;
}

async fn befriend(node: &TestNode, a: &TestUser, b: &TestUser) {
    node.rest().add_contact(&a.token, b.id).await.unwrap();
    node.rest().add_contact(&b.token, a.id).await.unwrap();
}

fn state(push: &Push, of: &TestUser) -> Option<PresenceState> {
    if let Push::Presence(p) = push { (p.user == of.id).then_some(p.state) } else { None }
}

async fn says(client: &TestClient, state: PresenceState) {
    client.request(Request::Presence(SetPresence { state: Some(state), status: None })).await.unwrap();
}

#[tokio::test]
async fn a_presence_that_panics_is_rebuilt_from_what_sessions_announce() {
    let node = faulty_node().await;
    let users = people(&node, 2).await;
    befriend(&node, &users[0], &users[1]).await;
    let mut clients = connected(&node, &users).await;
    says(&clients[1], PresenceState::Away).await;
    clients[0].expect_push("the contact is away", |p| state(p, &users[1]) == Some(PresenceState::Away)).await;
    fault(&node, "presence", users[1].id.0).await;
    eventually("the presence was rebuilt", SOON, || async { rebuilt(&node, "presence").await == 1 }).await;
    // It learns from the sessions what they had said, in whatever order that and what they say now arrive.
    clients[0].expect_push("the contact is still away", |p| state(p, &users[1]) == Some(PresenceState::Away)).await;
    says(&clients[1], PresenceState::Busy).await;
    clients[0].expect_push("the contact is busy", |p| state(p, &users[1]) == Some(PresenceState::Busy)).await;
    // Also whoever comes only now sees it, and its end is told.
    clients[0].reconnect(&node).await;
    let shown = clients[0].expect_push("resumed", |p| matches!(p, Push::Resumed(_))).await;
    let Push::Resumed(resumed) = shown else { panic!("a resumed") };
    assert!(resumed.presence.iter().any(|p| p.user == users[1].id && p.state == PresenceState::Busy), "{resumed:?}");
    clients[1].disconnect().await;
    clients[0].expect_push("the contact is offline", |p| state(p, &users[1]) == Some(PresenceState::Offline)).await;
}

/// P2: ids stay unique, sends are answered.
#[tokio::test]
async fn a_sequencer_that_panics_gives_no_id_twice() {
    let node = faulty_node().await;
    let users = people(&node, 6).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 2).await;
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    for _ in 0..pick(4, 40) {
        sleep(BETWEEN).await;
        fault(&*stage.node.read().await, "sequencer", 0).await;
    }
    let clients = stage.silence(talkers).await;
    let node = stage.node.read().await;
    assert_eq!(rebuilt(&node, "sequencer").await, pick(4, 40));
    all_is_well(&node, &clients, &rooms).await;
}

#[tokio::test]
async fn a_session_that_panics_costs_its_client_a_resume_and_others_nothing() {
    let node = faulty_node().await;
    let users = people(&node, 6).await;
    let mut clients = connected(&node, &users).await;
    let rooms = groups(&clients, 2).await;
    let mut victim = clients.pop().unwrap();
    let neighbour = clients.pop().unwrap();
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    {
        let node = stage.node.read().await;
        let panics = async {
            for _ in 0..pick(3, 30) {
                sleep(BETWEEN).await;
                fault(&node, "session", victim.user.id.0).await;
                let end = victim.ended().await;
                assert_eq!(end.code, Close::RESTART.code, "{end}");
                victim.reconnect(&node).await;
            }
        };
        let ((), longest) = tokio::join!(panics, untroubled(&neighbour, rooms[0], Instant::now() + BETWEEN * 4));
        assert!(longest < UNTROUBLED, "another session's answers took up to {longest:?}");
        assert_eq!(rebuilt(&node, "session").await, pick(3, 30));
    }
    let mut clients = stage.silence(talkers).await;
    clients.extend([neighbour, victim]);
    let node = stage.node.read().await;
    assert_eq!(node.metric("hubbub_sockets_open").await, 6.0, "a socket of a panicked session is still counted");
    all_is_well(&node, &clients, &rooms).await;
}

#[tokio::test]
async fn a_hub_that_panics_makes_its_sessions_resume() {
    let node = faulty_node().await;
    let users = people(&node, 6).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 2).await;
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    for _ in 0..pick(3, 30) {
        sleep(BETWEEN).await;
        fault(&*stage.node.read().await, "hub", 0).await;
    }
    sleep(BETWEEN).await;
    let clients = stage.silence(talkers).await;
    let node = stage.node.read().await;
    assert!(rebuilt(&node, "hub").await >= pick(3, 30));
    all_is_well(&node, &clients, &rooms).await;
}
