//! What rooms may be told beside messages: mutes, slow mode, archives, another owner. Through the socket, and again after the process was
//! killed: all of it is in the log.

use super::support::{RawSocket, SOON, TestNode, TestUser};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn cid() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// A request on a room, with a fresh client id.
async fn ask(socket: &mut RawSocket, room: &str, op: &str, mut fields: Value) -> Value {
    fields["room"] = room.into();
    fields["cid"] = cid().into();
    socket.ask(op, fields).await
}

/// A request that must succeed.
async fn done(socket: &mut RawSocket, room: &str, op: &str, fields: Value) -> Value {
    let answer = ask(socket, room, op, fields).await;
    assert_eq!(answer["op"], "ok", "{op}: {answer}");
    answer
}

/// The code of a refusal; `ok` when there is none.
async fn code(socket: &mut RawSocket, room: &str, op: &str, fields: Value) -> String {
    let answer = ask(socket, room, op, fields).await;
    answer["code"].as_str().unwrap_or("ok").to_owned()
}

/// An owner, a member, and their room.
struct Two {
    owner: TestUser,
    member: TestUser,
    room: String,
}

impl Two {
    async fn meet(node: &TestNode, kind: &str) -> Two {
        let (owner, member) = (node.user("owner").await, node.user("member").await);
        let mut socket = RawSocket::live(node, &owner).await;
        let create = json!({ "kind": kind, "name": "a room", "members": [member.id.to_string()], "cid": cid() });
        let made = socket.ask("create", create).await;
        let room = made["room"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        Two { owner, member, room }
    }
    /// Sockets of both.
    async fn sockets(&self, node: &TestNode) -> (RawSocket, RawSocket) {
        (RawSocket::live(node, &self.owner).await, RawSocket::live(node, &self.member).await)
    }
}

/// What a muted member may and may not do, in a room where the message at `seq` is its own.
async fn is_muted(socket: &mut RawSocket, room: &str, seq: u64) {
    for (op, fields) in [
        ("send", json!({ "text": "but" })),
        ("edit", json!({ "seq": seq, "text": "but" })),
        ("react", json!({ "seq": seq, "emoji": "👎", "on": true })),
        ("pin", json!({ "seq": seq, "on": true })),
        ("typing", json!({ "on": true })),
    ] {
        assert_eq!(code(socket, room, op, fields).await, "forbidden", "{op}");
    }
    for (op, fields) in [("history", json!({})), ("members", json!({})), ("cursor", json!({ "read": seq }))] {
        assert_eq!(code(socket, room, op, fields).await, "ok", "{op}");
    }
}

async fn summary(socket: &mut RawSocket, room: &str) -> Value {
    let listed = socket.ask("rooms", json!({})).await;
    let rooms = listed["rooms"].as_array().unwrap_or_else(|| panic!("{listed}"));
    rooms.iter().find(|r| r["room"] == room).unwrap_or_else(|| panic!("no room {room}: {listed}")).clone()
}

#[tokio::test]
async fn a_muted_member_stays_muted_after_a_restart() {
    let mut node = TestNode::start().await;
    let two = Two::meet(&node, "group").await;
    let (mut owner, mut member) = two.sockets(&node).await;
    let own = done(&mut member, &two.room, "send", json!({ "text": "I have an opinion" })).await["seq"].as_u64().expect("a seq");
    done(&mut owner, &two.room, "mute", json!({ "user": two.member.id.to_string() })).await;
    is_muted(&mut member, &two.room, own).await;

    node.kill9().await;
    node.restart().await;
    let (mut owner, mut member) = two.sockets(&node).await;
    // At once: nobody waits for what was derived from the log.
    is_muted(&mut member, &two.room, own).await;
    let told = summary(&mut member, &two.room).await;
    assert_eq!(told["muted_until"], 253_402_300_799_999u64, "{told}");
    assert!(summary(&mut owner, &two.room).await["muted_until"].is_null());
    let listed = owner.ask("members", json!({ "room": two.room })).await;
    let muted: Vec<bool> = listed["members"].as_array().expect("members").iter().map(|m| m["muted_until"].is_u64()).collect();
    assert_eq!(muted.iter().filter(|m| **m).count(), 1, "{listed}");

    // Going and coming back is no way out of it.
    done(&mut member, &two.room, "leave", json!({})).await;
    done(&mut owner, &two.room, "invite", json!({ "user": two.member.id.to_string() })).await;
    is_muted(&mut member, &two.room, own).await;
    done(&mut owner, &two.room, "unmute", json!({ "user": two.member.id.to_string() })).await;
    done(&mut member, &two.room, "send", json!({ "text": "as I was saying" })).await;
    assert_eq!(code(&mut owner, &two.room, "unmute", json!({ "user": two.member.id.to_string() })).await, "conflict");
}

#[tokio::test]
async fn a_mute_in_a_channel_goes_on_over_leaving_joining_and_a_restart() {
    let mut node = TestNode::start().await;
    let two = Two::meet(&node, "channel").await;
    let (mut owner, mut member) = two.sockets(&node).await;
    done(&mut owner, &two.room, "mute", json!({ "user": two.member.id.to_string() })).await;
    done(&mut member, &two.room, "leave", json!({})).await;
    node.kill9().await;
    node.restart().await;
    let (_, mut member) = two.sockets(&node).await;
    assert_eq!(code(&mut member, &two.room, "send", json!({ "text": "x" })).await, "forbidden", "it is out");
    done(&mut member, &two.room, "join", json!({})).await;
    assert_eq!(code(&mut member, &two.room, "send", json!({ "text": "x" })).await, "forbidden", "it is muted");
    assert_eq!(code(&mut member, &two.room, "history", json!({})).await, "ok");
}

#[tokio::test]
async fn a_mute_ends_by_itself_at_its_time() {
    let node = TestNode::start().await;
    let two = Two::meet(&node, "group").await;
    let (mut owner, mut member) = two.sockets(&node).await;
    let until = now_ms() + 1_500;
    done(&mut owner, &two.room, "mute", json!({ "user": two.member.id.to_string(), "until": until })).await;
    let answer = ask(&mut member, &two.room, "send", json!({ "text": "too soon" })).await;
    assert!(now_ms() >= until || answer["code"] == "forbidden", "{answer}");
    let mut sent = Value::Null;
    let end = tokio::time::Instant::now() + SOON;
    while sent["op"] != "ok" {
        assert!(tokio::time::Instant::now() < end, "{sent}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        sent = ask(&mut member, &two.room, "send", json!({ "text": "in time" })).await;
    }
    assert!(sent["at"].as_u64() >= Some(until), "{sent}: the entry is of a time when its author was muted");
    let past = json!({ "user": two.member.id.to_string(), "until": 1_000 });
    assert_eq!(code(&mut owner, &two.room, "mute", past).await, "conflict");
}

/// A member who spoke a little while ago must wait for the rest of ten minutes.
async fn too_soon(member: &mut RawSocket, room: &str, when: &str) {
    let answer = ask(member, room, "send", json!({ "text": "and another thing" })).await;
    assert_eq!((&answer["code"], &answer["retry"]), (&json!("rate_limited"), &json!("later")), "{when}: {answer}");
    let wait = answer["retry_after_ms"].as_u64().unwrap_or_default();
    assert!((500_000..=600_000).contains(&wait), "{when}: {answer}");
}

#[tokio::test]
async fn slow_mode_survives_a_takeover() {
    let mut node = TestNode::builder().set("dev.faults", true).start().await;
    let two = Two::meet(&node, "group").await;
    let (mut owner, mut member) = two.sockets(&node).await;
    done(&mut owner, &two.room, "update", json!({ "slow_mode_s": 600 })).await;
    let once = json!({ "room": two.room, "cid": cid(), "text": "my word for the next ten minutes" });
    let first = member.ask("send", once.clone()).await;
    assert_eq!(first["op"], "ok", "{first}");
    // More than the room keeps in memory of its log, by somebody whom slow mode does not bind.
    for n in 0..1_200 {
        owner.request("send", json!({ "room": two.room, "cid": cid(), "text": format!("{n}") })).await;
    }
    done(&mut owner, &two.room, "send", json!({ "text": "the last" })).await;
    too_soon(&mut member, &two.room, "at once").await;

    node.operate("POST", &format!("/admin/fault?actor=room&id={}", two.room), None).await.expect("a panic");
    // The room is rebuilt; until then it says so.
    let end = tokio::time::Instant::now() + SOON;
    while code(&mut owner, &two.room, "typing", json!({ "on": true })).await != "ok" {
        assert!(tokio::time::Instant::now() < end, "the room does not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    too_soon(&mut member, &two.room, "after a panic").await;

    node.kill9().await;
    node.restart().await;
    let (mut owner, mut member) = two.sockets(&node).await;
    too_soon(&mut member, &two.room, "after a kill").await;
    // What was answered once is answered again, slow or not.
    let again = member.ask("send", once).await;
    assert_eq!((&again["op"], &again["seq"]), (&first["op"], &first["seq"]), "{again}");
    for _ in 0..3 {
        done(&mut owner, &two.room, "send", json!({ "text": "moderators do not wait" })).await;
    }
    assert_eq!(summary(&mut member, &two.room).await["slow_mode_s"], 600);
    done(&mut owner, &two.room, "update", json!({ "slow_mode_s": 0 })).await;
    done(&mut member, &two.room, "send", json!({ "text": "and another thing" })).await;
}

#[tokio::test]
async fn an_archived_room_is_read_and_not_written_also_after_a_restart() {
    let mut node = TestNode::start().await;
    let two = Two::meet(&node, "group").await;
    let (mut owner, mut member) = two.sockets(&node).await;
    let seq = done(&mut owner, &two.room, "send", json!({ "text": "the last word" })).await["seq"].as_u64().expect("a seq");
    done(&mut owner, &two.room, "update", json!({ "archived": true })).await;
    for round in 0..2 {
        let other = two.member.id.to_string();
        for (op, fields) in [
            ("send", json!({ "text": "x" })),
            ("edit", json!({ "seq": seq, "text": "x" })),
            ("delete", json!({ "seq": seq })),
            ("react", json!({ "seq": seq, "emoji": "x", "on": true })),
            ("pin", json!({ "seq": seq, "on": true })),
            ("typing", json!({ "on": true })),
            ("invite", json!({ "user": other })),
            ("kick", json!({ "user": other })),
            ("mute", json!({ "user": other })),
            ("role", json!({ "user": other, "role": "reader" })),
            ("transfer", json!({ "user": other })),
            ("update", json!({ "name": "x" })),
        ] {
            assert_eq!(code(&mut owner, &two.room, op, fields).await, "forbidden", "{op}, round {round}");
        }
        let read = done(&mut member, &two.room, "history", json!({})).await;
        assert_eq!(read["messages"].as_array().map(Vec::len), Some(1), "{read}");
        done(&mut member, &two.room, "cursor", json!({ "read": seq })).await;
        assert_eq!(code(&mut member, &two.room, "update", json!({ "archived": false })).await, "forbidden");
        assert_eq!(summary(&mut member, &two.room).await["archived"], true);
        if round == 0 {
            node.kill9().await;
            node.restart().await;
            (owner, member) = two.sockets(&node).await;
        }
    }
    done(&mut owner, &two.room, "update", json!({ "archived": false, "name": "open again" })).await;
    done(&mut member, &two.room, "send", json!({ "text": "hello again" })).await;
    done(&mut owner, &two.room, "update", json!({ "archived": true })).await;
    done(&mut member, &two.room, "leave", json!({})).await;
}

#[tokio::test]
async fn a_room_that_was_given_away_has_one_owner_before_and_after_a_restart() {
    let mut node = TestNode::start().await;
    for kind in ["group", "channel"] {
        let two = Two::meet(&node, kind).await;
        let (mut owner, mut member) = two.sockets(&node).await;
        let user = |user: &TestUser| json!({ "user": user.id.to_string() });
        assert_eq!(code(&mut owner, &two.room, "transfer", user(&two.owner)).await, "conflict", "to oneself");
        assert_eq!(code(&mut member, &two.room, "transfer", user(&two.owner)).await, "forbidden");
        let gave = json!({ "room": two.room, "cid": cid(), "user": two.member.id.to_string() });
        let first = owner.ask("transfer", gave.clone()).await;
        assert!(first["seq"].is_u64(), "{first}");
        assert_eq!(owner.ask("transfer", gave.clone()).await["seq"], first["seq"], "a resend is answered as the first time");
        node.kill9().await;
        node.restart().await;
        let (mut owner, mut member) = two.sockets(&node).await;
        assert_eq!(owner.ask("transfer", gave).await["seq"], first["seq"]);
        let end = tokio::time::Instant::now() + SOON;
        loop {
            let (a, b) = (summary(&mut owner, &two.room).await, summary(&mut member, &two.room).await);
            if a["role"] == "admin" && b["role"] == "owner" && a["members"] == 2 {
                break;
            }
            assert!(tokio::time::Instant::now() < end, "the roles are not derived: {a} {b}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(code(&mut member, &two.room, "leave", json!({})).await, "conflict", "the last owner stays");
        done(&mut owner, &two.room, "leave", json!({})).await;
    }
}
