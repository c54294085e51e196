//! Presence: contacts are told, once and nobody else; a flap tells nobody.

use super::support::{RawSocket, SOON, TestNode, TestUser};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Long enough for what must not happen to have happened, beyond every deadline of presence in these tests.
const QUIET: Duration = Duration::from_millis(1_300);
const DEBOUNCE_MS: u64 = 400;

async fn node() -> TestNode {
    TestNode::builder().set("presence.offline_debounce_ms", DEBOUNCE_MS).start().await
}

async fn http(node: &TestNode, method: &'static str, path: String, user: &TestUser) {
    node.rest().call::<Value>(method, &path, Some(&user.token), None).await.unwrap_or_else(|e| panic!("{method} {path}: {e}"));
}
async fn befriend(node: &TestNode, a: &TestUser, b: &TestUser) {
    http(node, "PUT", format!("/v1/contacts/{}", b.id), a).await;
    http(node, "PUT", format!("/v1/contacts/{}", a.id), b).await;
}

/// The next presence of `of` that the socket is told, which must be this.
async fn told(socket: &mut RawSocket, of: &TestUser, state: &str) -> Value {
    let push = told_of(socket, of).await;
    assert_eq!(push["state"], state, "{push}");
    push
}
/// The next presence of `of` that the socket is told.
async fn told_of(socket: &mut RawSocket, of: &TestUser) -> Value {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < SOON, "nothing is told of {}", of.name);
        let push = match socket.pushes.iter().position(|p| p["op"] == "presence") {
            Some(at) => socket.pushes.remove(at),
            None => socket.value().await,
        };
        if push["op"] == "presence" && push["user"] == of.id.to_string() {
            return push;
        }
    }
}
/// Nothing about `of` is told, until now.
async fn told_nothing(socket: &mut RawSocket, of: &TestUser) {
    assert_eq!(socket.ask("ping", json!({})).await["op"], "ok");
    let about: Vec<&Value> = socket.pushes.iter().filter(|p| p["op"] == "presence" && p["user"] == of.id.to_string()).collect();
    assert!(about.is_empty(), "told of {}: {about:?}", of.name);
}

#[tokio::test]
async fn devices_are_merged_and_contacts_told_each_change_once() {
    let node = node().await;
    let (alice, phone, laptop) = (node.user("alice").await, node.user("bob").await, node.user("bob").await);
    befriend(&node, &alice, &phone).await;
    let mut watcher = RawSocket::live(&node, &alice).await;
    let mut first = RawSocket::live(&node, &phone).await;
    told(&mut watcher, &phone, "online").await;
    let mut second = RawSocket::live(&node, &laptop).await;
    for (who, state, merged) in [(0, "away", None), (1, "away", Some("away")), (0, "busy", Some("busy")), (0, "online", Some("online"))] {
        let socket = if who == 0 { &mut first } else { &mut second };
        assert_eq!(socket.ask("presence", json!({ "state": state })).await["op"], "ok");
        match merged {
            Some(merged) => drop(told(&mut watcher, &phone, merged).await),
            None => told_nothing(&mut watcher, &phone).await,
        }
    }
    // One of two devices goes: what is left counts.
    drop(first);
    told(&mut watcher, &phone, "away").await;
    let before = second.ask("ping", json!({})).await;
    assert_eq!(before["op"], "ok");
    drop(second);
    let gone = told(&mut watcher, &phone, "offline").await;
    let seen = gone["last_seen"].as_u64().expect("a time");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    assert!(seen <= now && now - seen < 20_000, "{gone}");
    // A later session begins with the same.
    let mut again = RawSocket::signed_in(&node, &alice).await;
    let resumed = again.ask("resume", json!({ "rooms": [], "last": true })).await;
    assert_eq!(resumed["presence"], json!([{ "user": phone.id.to_string(), "state": "offline", "last_seen": seen }]), "{resumed}");
}

#[tokio::test]
async fn a_flap_tells_nobody() {
    let node = TestNode::builder().set("presence.offline_debounce_ms", 2_000).start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    befriend(&node, &alice, &bob).await;
    let mut watcher = RawSocket::live(&node, &alice).await;
    let mut socket = RawSocket::live(&node, &bob).await;
    told(&mut watcher, &bob, "online").await;
    for _ in 0..5 {
        drop(socket);
        socket = RawSocket::live(&node, &bob).await;
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    told_nothing(&mut watcher, &bob).await;
    drop(socket);
    told(&mut watcher, &bob, "offline").await;
}

#[tokio::test]
async fn a_stranger_is_told_nothing_whatever_it_asks() {
    let node = node().await;
    let (alice, bob, eve, asked) = (node.user("alice").await, node.user("bob").await, node.user("eve").await, node.user("asked").await);
    befriend(&node, &alice, &bob).await;
    // Asking to be a contact is not being one.
    http(&node, "PUT", format!("/v1/contacts/{}", bob.id), &asked).await;
    let mut friend = RawSocket::live(&node, &alice).await;
    let (mut stranger, mut asking) = (RawSocket::live(&node, &eve).await, RawSocket::live(&node, &asked).await);
    let watch = json!({ "users": [bob.id.to_string(), alice.id.to_string(), "12345"], "on": true });
    for socket in [&mut stranger, &mut asking] {
        assert_eq!(socket.ask("watch", watch.clone()).await["presence"], json!([]));
    }
    let mut socket = RawSocket::live(&node, &bob).await;
    told(&mut friend, &bob, "online").await;
    assert_eq!(socket.ask("presence", json!({ "status": "at my desk" })).await["op"], "ok");
    assert_eq!(told(&mut friend, &bob, "online").await["status"], "at my desk");
    drop(socket);
    assert_eq!(told(&mut friend, &bob, "offline").await["status"], "at my desk");
    for socket in [&mut stranger, &mut asking] {
        told_nothing(socket, &bob).await;
        assert_eq!(socket.ask("watch", watch.clone()).await["presence"], json!([]));
    }
}

#[tokio::test]
async fn who_is_no_contact_any_more_is_told_nothing_from_then_on() {
    let node = node().await;
    let bob = node.user("bob").await;
    let mut socket = RawSocket::live(&node, &bob).await;
    for (n, end) in ["DELETE /v1/contacts", "PUT /v1/blocks", "DELETE by the watcher", "PUT block by the watcher"].into_iter().enumerate() {
        let watcher = node.user(&format!("watcher{n}")).await;
        let mut watching = RawSocket::live(&node, &watcher).await;
        befriend(&node, &watcher, &bob).await;
        told_of(&mut watching, &bob).await;
        let (by, other) = if n < 2 { (&bob, &watcher) } else { (&watcher, &bob) };
        let (method, path) = if end.starts_with("DELETE") { ("DELETE", "contacts") } else { ("PUT", "blocks") };
        http(&node, method, format!("/v1/{path}/{}", other.id), by).await;
        // From the answer on: state, status and offline are changed, and nothing of it is told.
        let state = if n % 2 == 0 { "busy" } else { "online" };
        let set = json!({ "state": state, "status": format!("after {n}") });
        assert_eq!(socket.ask("presence", set).await["op"], "ok");
        let again = watching.ask("watch", json!({ "users": [bob.id.to_string()], "on": true })).await;
        assert_eq!(again["presence"], json!([]), "{end}");
        tokio::time::sleep(QUIET).await;
        told_nothing(&mut watching, &bob).await;
        // Nor after a reconnect.
        let mut reconnected = RawSocket::signed_in(&node, &watcher).await;
        let resumed = reconnected.ask("resume", json!({ "rooms": [], "last": true })).await;
        assert_eq!(resumed["presence"], json!([]), "{end}");
    }
}

#[tokio::test]
async fn new_contacts_see_each_other_at_once_and_watching_can_end() {
    let node = node().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (mut a, mut b) = (RawSocket::live(&node, &alice).await, RawSocket::live(&node, &bob).await);
    befriend(&node, &alice, &bob).await;
    told(&mut a, &bob, "online").await;
    told(&mut b, &alice, "online").await;
    assert_eq!(a.ask("watch", json!({ "users": [bob.id.to_string()], "on": false })).await["op"], "ok");
    assert_eq!(b.ask("presence", json!({ "state": "busy" })).await["op"], "ok");
    tokio::time::sleep(QUIET).await;
    told_nothing(&mut a, &bob).await;
    let now = a.ask("watch", json!({ "users": [bob.id.to_string()], "on": true })).await;
    assert_eq!(now["presence"][0]["state"], "busy", "{now}");
}
