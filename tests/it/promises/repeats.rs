//! P3: a message is stored once and answered with one answer, however often it is sent, across restarts and long logs.

use super::{all_is_well, answered, connected, groups, people, pick, refusal};
use crate::support::{TestClient, TestNode};
use futures_util::future::join_all;
use hubbub::error::Code;
use hubbub::protocol::entry::RoomKind;
use hubbub::protocol::ids::{ClientId, RoomId};
use hubbub::protocol::ops::{Create, Ok as Reply, Request};

/// Entries that a room keeps in memory; older ones are searched in the log.
const WINDOW: usize = hubbub::protocol::roomlog::WINDOW;

async fn fill(client: &TestClient, room: RoomId, messages: usize) {
    let mut left = messages;
    while left > 0 {
        let burst: Vec<Request> = (0..left.min(64)).map(|i| client.message(room, &format!("filler {left}.{i}"))).collect();
        for answer in join_all(burst.iter().map(|request| answered(client, request))).await {
            answer.expect("the connection lives");
        }
        left -= burst.len();
    }
}

fn with_text(request: &Request, other: &str) -> Request {
    let Request::Send(send) = request else { panic!("a send") };
    Request::Send(hubbub::protocol::ops::Send { text: other.into(), ..send.clone() })
}

async fn once_more(client: &TestClient, request: &Request) -> Reply {
    Reply { reference: 0, ..answered(client, request).await.expect("the connection lives") }
}

#[tokio::test]
async fn a_thousand_resends_are_one_message_and_one_answer() {
    let mut node = TestNode::builder().set("rooms.repeat_window", WINDOW * 2).start().await;
    let users = people(&node, 2).await;
    let mut clients = connected(&node, &users).await;
    let room = groups(&clients, 1).await[0];
    // Several sockets of one user, all at once.
    let devices = join_all((0..8).map(|i| TestClient::connect(&node, &users[0], if i % 2 == 0 { "phone" } else { "tablet" }))).await;
    let request = clients[0].message(room, "once");
    let resends = pick(1_000, 20_000) / devices.len();
    let answers = join_all(devices.iter().flat_map(|device| (0..resends).map(|_| once_more(device, &request)))).await;
    let first = answers[0].clone();
    assert!(answers.iter().all(|answer| *answer == first), "more than one answer");
    assert_eq!(first.seq, Some(2), "the room's creation is 1");
    assert_eq!(refusal(devices[3].request(with_text(&request, "something else")).await), Code::Conflict);
    drop(devices);

    // After a restart, from the window that was read from the log.
    node.kill9().await;
    node.restart().await;
    for client in &mut clients {
        client.reconnect(&node).await;
    }
    assert_eq!(once_more(&clients[0], &request).await, first);

    // Behind the window, by a search of the log.
    fill(&clients[1], room, WINDOW + 50).await;
    assert_eq!(once_more(&clients[0], &request).await, first);
    assert_eq!(refusal(clients[0].request(with_text(&request, "something else")).await), Code::Conflict);
    let fresh = clients[0].message(room, "never sent before, with an old since");
    let Request::Send(send) = &fresh else { panic!("a send") };
    let old = Request::Send(hubbub::protocol::ops::Send { since: 1, ..send.clone() });
    let stored = once_more(&clients[0], &old).await;
    assert_eq!(stored.seq, Some(2 + WINDOW as u64 + 50 + 1), "what the search does not find is new");

    // Further back than the owner searches it does not guess.
    fill(&clients[1], room, WINDOW).await;
    assert_eq!(refusal(clients[0].request(request.clone()).await), Code::Resync);
    all_is_well(&node, &clients, &[room]).await;
}

/// A room is opened once per client id, and a direct room once per pair, whoever asks and how often.
#[tokio::test]
async fn a_room_is_opened_once() {
    let node = TestNode::start().await;
    let users = people(&node, 2).await;
    let clients = connected(&node, &users).await;
    let cid = ClientId::fresh();
    let group = Request::Create(Create { kind: RoomKind::Group, name: Some("one".into()), topic: None, members: vec![users[1].id], cid });
    let rooms = join_all((0..50).map(|_| once_more(&clients[0], &group))).await;
    assert!(rooms.iter().all(|answer| answer.room.is_some() && answer.room == rooms[0].room), "{rooms:?}");
    let direct = join_all((0..50).map(async |i| clients[i % 2].create(RoomKind::Direct, &[users[1 - i % 2].id]).await)).await;
    assert!(direct.iter().all(|room| *room == direct[0]), "{direct:?}");
    let room = direct[0];
    clients[0].send(room, "hello").await;
    all_is_well(&node, &clients, &[room, rooms[0].room.unwrap()]).await;
}
