//! P7: nothing grows without bound. What is over a limit is refused, said so, and costs nobody else anything.

use super::support::{RawSocket, SOON, TestNode, eventually, http};
use hubbub::protocol::ws::{Op, client_frame};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MIB_IN_KIB: u64 = 1024;

fn cid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The head of a masked text frame that announces so many bytes.
fn announces(bytes: u64) -> Vec<u8> {
    let mut head = vec![0x81, 0x80 | 127];
    head.extend_from_slice(&bytes.to_be_bytes());
    head.extend_from_slice(&[1, 2, 3, 4]);
    head
}

#[tokio::test]
async fn a_frame_too_large_is_refused_at_its_head() {
    let node = TestNode::start().await;
    let user = node.user("alice").await;
    let (before, began) = (node.rss_kib(), Instant::now());
    for announced in [65_537, 300 << 20, 1 << 40, u64::MAX >> 1] {
        let mut socket = RawSocket::signed_in(&node, &user).await;
        socket.bytes(&announces(announced)).await;
        // Some of what was announced follows; nobody waits for the rest.
        socket.bytes(&vec![b'x'; 256 * 1024]).await;
        assert_eq!(socket.closed().await, 1009, "{announced} bytes");
    }
    // A message joined from fragments has the same limit.
    let mut socket = RawSocket::signed_in(&node, &user).await;
    socket.bytes(&client_frame(false, Op::Text, [1; 4], &[b' '; 30_000])).await;
    socket.bytes(&client_frame(false, Op::Continuation, [1; 4], &[b' '; 30_000])).await;
    socket.bytes(&client_frame(true, Op::Continuation, [1; 4], &[b' '; 30_000])).await;
    assert_eq!(socket.closed().await, 1009);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let grown = node.rss_kib().saturating_sub(before);
    assert!(grown < 20 * MIB_IN_KIB, "the memory grew by {grown} KiB");
}

#[tokio::test]
async fn fragments_are_joined_whatever_comes_between() {
    let node = TestNode::start().await;
    let mut socket = RawSocket::signed_in(&node, &node.user("alice").await).await;
    let text = format!(r#"{{"op":"ping","ref":77,"fill":"{}"}}"#, "ü".repeat(20_000));
    let (mut parts, mut op) = (text.as_bytes().chunks(777).peekable(), Op::Text);
    while let Some(part) = parts.next() {
        socket.bytes(&client_frame(parts.peek().is_none(), op, [5, 6, 7, 8], part)).await;
        op = Op::Continuation;
        socket.frame(Op::Ping, b"between").await;
    }
    let mut pongs = 0;
    loop {
        let frame = socket.next().await.expect("it stays open");
        match frame.op {
            10 => pongs += usize::from(frame.payload == b"between"),
            _ => {
                let answer: Value = serde_json::from_slice(&frame.payload).expect("JSON");
                assert_eq!((&answer["op"], &answer["ref"]), (&json!("ok"), &json!(77)));
                break;
            }
        }
    }
    assert!(pongs >= text.len() / 777, "{pongs}");
}

#[tokio::test]
async fn a_user_has_so_many_requests_a_second_over_all_sockets() {
    let node = TestNode::builder().set("limits.requests_per_second", 2).start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (mut one, mut two) = (RawSocket::signed_in(&node, &alice).await, RawSocket::signed_in(&node, &alice).await);
    let mut answers = Vec::new();
    for n in 0..30 {
        let socket = if n % 2 == 0 { &mut one } else { &mut two };
        answers.push(socket.ask("ping", json!({})).await);
    }
    let refused: Vec<&Value> = answers.iter().filter(|a| a["op"] == "error").collect();
    // A bucket of twenty, and what flowed in meanwhile.
    assert!((5..=10).contains(&refused.len()), "{} of 30 were refused", refused.len());
    for answer in refused {
        assert_eq!((&answer["code"], &answer["retry"]), (&json!("rate_limited"), &json!("later")), "{answer}");
        assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| (1..=1_000).contains(&ms)), "{answer}");
    }
    let mut other = RawSocket::signed_in(&node, &bob).await;
    assert_eq!(other.ask("ping", json!({})).await["op"], "ok", "another user is not concerned");
    // Who goes on regardless is sent away.
    for _ in 0..3_000 {
        one.text(r#"{"op":"ping","ref":1}"#).await;
    }
    assert_eq!(one.closed().await, 4102);
    assert_eq!(other.ask("ping", json!({})).await["op"], "ok");
}

#[tokio::test]
async fn one_address_has_so_many_sockets_and_another_is_not_concerned() {
    let node = TestNode::builder().set("socket.connections_per_address_max", 2).start().await;
    let user = node.user("alice").await;
    let (first, _second) = (RawSocket::signed_in(&node, &user).await, RawSocket::signed_in(&node, &user).await);
    let refused = RawSocket::handshake(&node, "/v1/socket", &[]).await.err().expect("a third is let in");
    assert_eq!((refused.status, refused.code().as_str()), (503, "busy"), "{refused:?}");
    assert!(from_address(&node, [127, 0, 0, 9]).await.starts_with("HTTP/1.1 101 "), "another address");
    drop(first);
    eventually("the place is free again", SOON, || async { RawSocket::handshake(&node, "/v1/socket", &[]).await.is_ok() }).await;
}

/// The answer to a WebSocket handshake from that address of this machine.
async fn from_address(node: &TestNode, address: [u8; 4]) -> String {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    let host = node.url().trim_start_matches("http://").to_owned();
    let mut stream = socket.connect(host.parse().unwrap()).await.unwrap();
    let head = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    stream.write_all(format!("GET /v1/socket HTTP/1.1\r\nHost: {host}\r\n{head}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 256];
    let n = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

#[tokio::test]
async fn sockets_over_a_limit_are_refused_until_others_go() {
    let node = TestNode::builder().set("socket.connections_max", 5).set("socket.unauthenticated_per_address_max", 2).start().await;
    let user = node.user("alice").await;
    let refused = |what: &'static str| {
        let node = &node;
        async move {
            let response = RawSocket::handshake(node, "/v1/socket", &[]).await.err().unwrap_or_else(|| panic!("{what}: let in"));
            assert_eq!((response.status, response.code().as_str()), (503, "busy"), "{what}: {response:?}");
            assert!(response.header("retry-after").is_some_and(|s| s.parse::<u64>().is_ok_and(|s| s > 0)), "{what}: {response:?}");
        }
    };
    let (silent, mut second) = (RawSocket::json(&node).await, RawSocket::json(&node).await);
    refused("a third that has not signed in").await;
    assert_eq!(second.ask("auth", json!({ "token": user.token })).await["op"], "hello");
    let mut more = vec![second, RawSocket::signed_in(&node, &user).await, RawSocket::signed_in(&node, &user).await];
    more.push(RawSocket::signed_in(&node, &user).await);
    refused("a sixth").await;
    drop(silent);
    eventually("the place is free again", SOON, || async { RawSocket::handshake(&node, "/v1/socket", &[]).await.is_ok() }).await;
    // What HTTP serves is still served.
    assert_eq!(http(node.address(), "GET /livez HTTP/1.1", "").await.status, 200);
    let refusals = node.metric("hubbub_sockets_refused_total").await;
    assert!(refusals >= 2.0, "{refusals}");
}

#[tokio::test]
async fn new_sockets_of_an_address_are_limited() {
    let node = TestNode::builder().set("limits.connects_per_second", 1).start().await;
    let mut found = Vec::new();
    for _ in 0..15 {
        found.push(match RawSocket::handshake(&node, "/v1/socket", &[]).await {
            Ok(_) => 101,
            Err(response) => {
                assert_eq!(response.code(), "rate_limited");
                assert!(response.header("retry-after").is_some(), "{response:?}");
                response.status
            }
        });
    }
    assert_eq!(found[..10], [101; 10], "a burst of ten seconds' worth");
    assert!(found[10..].contains(&429), "{found:?}");
}

#[tokio::test]
async fn a_flood_into_a_room_is_answered_busy_and_costs_no_memory() {
    let node = TestNode::builder().set("rooms.waiting_max", 16).set("rooms.batch_max", 4).start().await;
    let mut sockets = Vec::new();
    let alice = node.user("alice").await;
    let mut first = RawSocket::live(&node, &alice).await;
    let create = json!({ "kind": "group", "name": "flooded", "cid": cid() });
    let room = first.ask("create", create).await["room"].as_str().expect("a room").to_owned();
    for _ in 0..8 {
        sockets.push(RawSocket::signed_in(&node, &alice).await);
    }
    let before = node.rss_kib();
    const EACH: u64 = 1_500;
    let text = "x".repeat(1_000);
    let floods = sockets.into_iter().map(|mut socket| {
        let (room, text) = (room.clone(), text.clone());
        tokio::spawn(async move {
            let (mut done, mut busy, mut sent) = (0, 0, 0);
            while done + busy < EACH {
                while sent < EACH && sent - done - busy < 60 {
                    socket.request("send", json!({ "room": room, "text": text, "cid": cid() })).await;
                    sent += 1;
                }
                let answer = socket.value().await;
                match (answer["op"].as_str(), answer["code"].as_str()) {
                    (Some("ok"), _) => done += 1,
                    (_, Some("busy")) => {
                        assert_eq!(answer["retry"], "later", "{answer}");
                        busy += 1;
                    }
                    _ => panic!("{answer}"),
                }
            }
            (done, busy)
        })
    });
    let (mut done, mut busy) = (0, 0);
    for flood in floods.collect::<Vec<_>>() {
        let (a, b) = flood.await.expect("no panic");
        done += a;
        busy += b;
    }
    assert!(busy > 0, "{done} done, nothing refused: the flood was none");
    let grown = node.rss_kib().saturating_sub(before);
    assert!(grown < 150 * MIB_IN_KIB, "the memory grew by {grown} KiB");
    let history = first.ask("history", json!({ "room": room, "limit": 1 })).await;
    assert_eq!(history["messages"][0]["entry"]["n"], done, "busy means that nothing was done");
}

#[tokio::test]
async fn http_bodies_and_heads_have_limits() {
    let node = TestNode::builder().set("http.body_bytes_max", 2_000).start().await;
    let post = |length: usize| {
        let body = format!(r#"{{"name":"alice","password":"{}"}}"#, "x".repeat(length));
        let at = node.address();
        async move { http(at, "POST /v1/auth/login HTTP/1.1\r\nContent-Type: application/json", &body).await }
    };
    let large = post(3_000).await;
    assert_eq!((large.status, large.code().as_str()), (413, "too_large"), "{large:?}");
    assert_eq!(post(20).await.status, 401);
    let headers = format!("GET /v1/me HTTP/1.1\r\nX-Fill: {}", "x".repeat(300_000));
    assert!((400..500).contains(&http(node.address(), &headers, "").await.status));

    // A head that never ends is given up.
    let mut slow = TcpStream::connect(node.address()).await.expect("the node listens");
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await.expect("written");
    let mut all = Vec::new();
    tokio::time::timeout(SOON, slow.read_to_end(&mut all)).await.expect("it is given up").expect("read");
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(text.starts_with("HTTP/1.1 408"), "{text:?}");
}

#[tokio::test]
async fn values_over_their_limit_are_refused_by_name() {
    let node = TestNode::start().await;
    let user = node.user("alice").await;
    let mut socket = RawSocket::live(&node, &user).await;
    let create = json!({ "kind": "group", "name": "room", "cid": cid() });
    let room = socket.ask("create", create).await["room"].as_str().expect("a room").to_owned();
    let long = |n: usize| "x".repeat(n);
    let many = |n: u64| (1..=n).map(|i| i.to_string()).collect::<Vec<_>>();
    for (op, fields, code) in [
        ("send", json!({ "text": long(16 * 1024 + 1) }), "too_large"),
        ("send", json!({ "data": long(16 * 1024 + 1) }), "too_large"),
        ("send", json!({ "text": "" }), "invalid"),
        ("send", json!({ "text": "x", "mentions": many(51) }), "invalid"),
        ("send", json!({ "text": "x", "mentions": ["1", "1"] }), "invalid"),
        ("send", json!({ "text": "x", "attachments": vec![json!({ "url": "/a" }); 11] }), "invalid"),
        ("send", json!({ "attachments": [{ "url": "javascript:alert(1)" }] }), "invalid"),
        ("react", json!({ "seq": 2, "emoji": long(65), "on": true }), "invalid"),
        ("update", json!({ "name": long(101) }), "invalid"),
        ("update", json!({ "topic": long(1_001) }), "invalid"),
        ("create", json!({ "kind": "group", "name": " x" }), "invalid"),
        ("create", json!({ "kind": "group", "name": "x", "members": many(1_000) }), "invalid"),
        ("create", json!({ "kind": "direct", "members": many(2) }), "invalid"),
        ("presence", json!({ "status": long(141) }), "invalid"),
        ("presence", json!({ "state": "offline" }), "invalid"),
        ("watch", json!({ "users": many(501), "on": true }), "invalid"),
        ("members", json!({ "limit": 1_001 }), "invalid"),
        ("rooms", json!({ "limit": 0 }), "invalid"),
    ] {
        let mut fields = fields;
        fields["room"] = room.clone().into();
        fields["cid"] = cid().into();
        let answer = socket.ask(op, fields).await;
        assert_eq!(answer["code"], code, "{op}: {answer}");
    }
    let rooms: Vec<Value> = (1..=501u64).map(|i| json!({ "room": i.to_string(), "have": 0 })).collect();
    let answer = socket.ask("resume", json!({ "rooms": rooms, "last": false })).await;
    assert_eq!(answer["code"], "invalid", "{answer}");
    assert_eq!(socket.ask("rooms", json!({})).await["rooms"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn nobody_is_brought_into_more_rooms_than_a_resume_tells_of() {
    let node = TestNode::builder().set("rooms.rooms_per_user_max", 3).start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (mut a, mut b) = (RawSocket::live(&node, &alice).await, RawSocket::live(&node, &bob).await);
    let group = |members: Vec<String>| json!({ "kind": "group", "name": "x", "members": members, "cid": cid() });
    for _ in 0..2 {
        assert_eq!(a.ask("create", group(vec![bob.id.to_string()])).await["op"], "ok");
    }
    let answer = a.ask("create", group(vec![])).await;
    let room = answer["room"].as_str().expect("a room").to_owned();
    assert_eq!(b.ask("create", group(vec![])).await["op"], "ok");
    // Rooms of a user follow the entries; they are there soon after.
    loop {
        let rooms = b.ask("rooms", json!({})).await;
        if rooms["rooms"].as_array().map(Vec::len) == Some(3) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (op, fields) in
        [("invite", json!({ "room": room, "user": bob.id.to_string(), "cid": cid() })), ("create", group(vec![bob.id.to_string()]))]
    {
        let answer = a.ask(op, fields).await;
        assert_eq!(answer["code"], "conflict", "{op}: {answer}");
    }
    assert_eq!(b.ask("create", group(vec![])).await["code"], "conflict");
}
