//! Retention: what is no longer kept is gone for everybody, and nobody mistakes that for a hole or a repeat.

use super::promises::{answered, connected, ids, people, refusal};
use super::support::{SOON, TestNode, eventually};
use hubbub::error::Code;
use hubbub::protocol::entry::RoomKind;
use hubbub::protocol::ids::{ClientId, RoomId, Seq};
use hubbub::protocol::ops::{History, Push, Request, Send, Standing};
use serde_json::{Value, json};

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

async fn retention(node: &TestNode, method: &'static str, room: RoomId, body: Option<Value>) -> Value {
    node.operate(method, leak(format!("/admin/rooms/{room}/retention")), body).await.unwrap()
}

async fn purged(node: &TestNode, room: RoomId, first: Seq) {
    let reached = || async { retention(node, "GET", room, None).await["first"].as_u64() >= Some(first) };
    eventually("the old entries are removed", SOON, reached).await;
}

#[tokio::test]
async fn what_is_no_longer_kept_is_gone_and_said_so_to_history_resume_and_resends() {
    let node = TestNode::builder().set("rooms.purge_every_s", 1).set("rooms.idle_ms", 500).start().await;
    let users = people(&node, 2).await;
    let mut clients = connected(&node, &users).await;
    let room = clients[0].create(RoomKind::Group, &ids(&users)[1..]).await;
    let kept = clients[0].create(RoomKind::Group, &ids(&users)[1..]).await;
    clients[1].reaches(room, 1).await;
    clients[1].disconnect().await;
    let behind = clients[1].have(room);
    let send = |since: Seq, cid: ClientId, text: &str, mentions| {
        Request::Send(Send {
            room,
            cid,
            since,
            text: text.into(),
            reply_to: None,
            thread: None,
            mentions,
            attachments: Vec::new(),
            data: None,
        })
    };
    let first_cid = ClientId::fresh();
    answered(&clients[0], &send(1, first_cid, "the first", vec![users[1].id])).await.unwrap();
    // So many that a restarted room does not know them by heart.
    for n in 0..1_200 {
        answered(&clients[0], &send(n / 2 + 1, ClientId::fresh(), "old", Vec::new())).await.unwrap();
        if n == 0 {
            clients[0].send(kept, "kept").await;
        }
    }
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    let last = clients[0].send(room, "new").await.seq.unwrap();
    assert_eq!(retention(&node, "GET", room, None).await, json!({ "keep_s": 0, "own": false, "first": 1 }));
    assert_eq!(retention(&node, "PUT", room, Some(json!({ "keep_s": 2 }))).await["own"], true);
    // The newest entry stays, however old it gets.
    purged(&node, room, last).await;

    // History ends where the log begins.
    let page = clients[0].request(Request::History(History { room, limit: Some(200), ..History::default() })).await.unwrap();
    let first = page.first.expect("the page says where the log begins");
    assert!(first == last && page.more == Some(false) && page.messages.unwrap().iter().all(|m| m.entry.seq >= first));
    let around = History { room, around: Some(5), limit: Some(10), ..History::default() };
    assert!(clients[0].request(Request::History(around)).await.unwrap().messages.unwrap().iter().all(|m| m.entry.seq >= first));
    let after = History { room, after: Some(1), limit: Some(10), ..History::default() };
    assert_eq!(clients[0].request(Request::History(after)).await.unwrap().messages.unwrap()[0].entry.seq, first);
    assert_eq!(refusal(clients[0].request(send(last, ClientId::fresh(), "", Vec::new())).await), Code::Invalid);

    // Who was away for longer is told so; who was not, is not.
    assert!(behind < first);
    clients[1].reconnect(&node).await;
    let told = clients[1]
        .expect_push("how the room stands", |p| matches!(p, Push::Room(r) if r.room == room && r.standing != Standing::Joined))
        .await;
    let Push::Room(told) = told else { unreachable!() };
    assert_eq!((told.standing, told.head), (Standing::Resync, last));
    let summary = told.summary.expect("a member gets the summary");
    assert_eq!((summary.n, summary.mentions), (1_202, 0), "counts go on, mentions of what is gone do not");

    // A resend of what is no longer there is not stored again, in memory or after a restart of the room.
    eventually("the room ends", SOON, || async { node.metric("hubbub_rooms_active").await == 0.0 }).await;
    assert_eq!(refusal(clients[0].request(send(1, first_cid, "the first", vec![users[1].id])).await), Code::Resync);
    let next = clients[1].send(room, "it goes on").await;
    assert_eq!(next.seq, Some(last + 1));
    clients[0].reaches(room, last + 1).await;
    let cursor = Request::Cursor(hubbub::protocol::ops::MoveCursor { room, read: Some(3), delivered: None });
    clients[1].request(cursor).await.expect("a cursor may be at what is gone");

    assert_eq!(retention(&node, "GET", kept, None).await["first"], 1);
    assert_eq!(retention(&node, "DELETE", room, None).await["own"], false);
}

#[tokio::test]
async fn the_servers_setting_counts_where_a_room_has_none() {
    let node = TestNode::builder().set("rooms.purge_every_s", 1).set("rooms.keep_s", 1).start().await;
    let users = people(&node, 1).await;
    let client = connected(&node, &users).await.pop().unwrap();
    let (room, own) = (client.create(RoomKind::Group, &[]).await, client.create(RoomKind::Group, &[]).await);
    retention(&node, "PUT", own, Some(json!({ "keep_s": 0 }))).await;
    for room in [room, own] {
        for n in 0..5 {
            client.send(room, &format!("{n}")).await;
        }
    }
    // The last row says only that the one before it is committed, until the room ends with a marker: up to there all is removed.
    purged(&node, room, 5).await;
    assert_eq!(retention(&node, "GET", own, None).await, json!({ "keep_s": 0, "own": true, "first": 1 }));
    let refused = node.operate("PUT", leak(format!("/admin/rooms/{}/retention", RoomId(1))), Some(json!({ "keep_s": 5 }))).await;
    assert!(refused.is_err(), "there is no such room");
}
