//! Outgoing and incoming webhooks, against a real receiver on loopback.

use crate::support::{Received, Receiver, Reply, Response, SOON, TestClient, TestNode, eventually, http};
use hmac::{Hmac, Mac};
use hubbub::client::ClientError;
use hubbub::error::Code;
use hubbub::protocol::entry::{Body, RoomKind};
use hubbub::protocol::ids::{ClientId, RoomId};
use hubbub::protocol::ops::{History, InRoom, Request};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

/// A node that may call this machine, and retries at once.
async fn node() -> TestNode {
    let node = TestNode::builder().set("outbound.allowed_ranges", "127.0.0.0/8").set("outbound.timeout_ms", 500);
    node.set("webhooks.retry_first_ms", 100).set("webhooks.retry_max_ms", 400).start().await
}

async fn hook(node: &TestNode, url: &str, more: Value) -> Value {
    let mut body = json!({ "url": url });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    node.operate("POST", "/admin/webhooks", Some(body)).await.expect("a webhook")
}

async fn shown(node: &TestNode, hook: &Value) -> Value {
    node.operate("GET", &format!("/admin/webhooks/{}", hook["id"].as_str().unwrap()), None).await.expect("the webhook")
}

async fn dead(node: &TestNode, hook: &Value) -> Vec<Value> {
    let page = node.operate("GET", &format!("/admin/webhooks/{}/dead", hook["id"].as_str().unwrap()), None).await.expect("dead letters");
    page["items"].as_array().cloned().unwrap_or_default()
}

fn text(received: &Received) -> String {
    received.json()["entry"]["body"]["message"]["text"].as_str().unwrap_or_default().to_owned()
}

async fn room(client: &TestClient) -> RoomId {
    client.create(RoomKind::Group, &[]).await
}

#[actix_rt::test]
async fn a_message_reaches_the_webhook_signed_and_in_order() {
    let node = node().await;
    let mut receiver = Receiver::start(|_| Reply::Status(204)).await;
    let hook = hook(&node, &receiver.url("/bot?x=1"), json!({ "events": ["message"] })).await;
    let alice = TestClient::connect(&node, &node.user("alice").await, "a").await;
    let room = room(&alice).await;
    for n in 1..=5 {
        alice.send(room, &format!("text {n}")).await;
    }
    for n in 1..=5 {
        let got = receiver.next().await;
        assert_eq!((got.method.as_str(), got.path.as_str(), text(&got)), ("POST", "/bot?x=1", format!("text {n}")));
        let event = got.json();
        assert_eq!((event["type"].as_str(), event["room"].as_str()), (Some("message"), Some(room.to_string().as_str())));
        assert_eq!(event["id"].as_str().unwrap(), got.header("hubbub-event"));
        assert_eq!(got.header("hubbub-webhook"), hook["id"].as_str().unwrap());
        assert_eq!(got.header("content-type"), "application/json");
        let signature = got.header("hubbub-signature");
        let (at, given) = signature.strip_prefix("t=").and_then(|s| s.split_once(",v1=")).expect("a time and a signature");
        // As a receiver does that has only read the documents.
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(hook["secret"].as_str().unwrap().as_bytes()).unwrap();
        mac.update(format!("{at}.").as_bytes());
        mac.update(&got.body);
        assert_eq!(hex::encode(mac.finalize().into_bytes()), given);
    }
    receiver.silence(300).await;
    eventually("nothing waits any more", SOON, || async { shown(&node, &hook).await["waiting"] == 0 }).await;
}

#[actix_rt::test]
async fn a_receiver_that_fails_gets_the_event_again_under_the_same_id_and_the_next_one_waits() {
    let node = node().await;
    let count = Arc::new(AtomicUsize::new(0));
    let counting = count.clone();
    // 500, then silence, then a broken promise of more, and at last 200.
    let mut receiver = Receiver::start(move |_| match counting.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Status(500),
        1 => Reply::Hang,
        2 => Reply::Full(429, vec![("retry-after", "0".into())], String::new()),
        _ => Reply::Status(200),
    })
    .await;
    let hook = hook(&node, &receiver.url("/"), json!({ "events": ["message"] })).await;
    let alice = TestClient::connect(&node, &node.user("alice").await, "a").await;
    let room = room(&alice).await;
    alice.send(room, "first").await;
    alice.send(room, "second").await;
    let mut ids = BTreeSet::new();
    for attempt in 1..=4 {
        let got = receiver.next().await;
        assert_eq!((text(&got).as_str(), got.header("hubbub-attempt")), ("first", attempt.to_string().as_str()));
        ids.insert(got.header("hubbub-event").to_owned());
        if attempt == 2 {
            assert!(shown(&node, &hook).await["failing"]["error"].as_str().is_some(), "an operator sees that it fails");
        }
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(text(&receiver.next().await), "second");
    eventually("it is well again", SOON, || async { shown(&node, &hook).await["failing"].is_null() }).await;
    assert!(dead(&node, &hook).await.is_empty());
}

#[actix_rt::test]
async fn what_a_receiver_will_not_take_is_a_dead_letter_that_can_be_replayed() {
    let node = node().await;
    let inside = Receiver::start(|_| Reply::Status(200)).await;
    let (status, to) = (Arc::new(AtomicU16::new(410)), inside.url("/secret"));
    let answer = status.clone();
    let mut receiver = Receiver::start(move |_| match answer.load(Ordering::SeqCst) {
        307 => Reply::Full(307, vec![("location", to.clone())], String::new()),
        status => Reply::Status(status),
    })
    .await;
    let hook = hook(&node, &receiver.url("/"), json!({ "events": ["message"] })).await;
    let alice = TestClient::connect(&node, &node.user("alice").await, "a").await;
    let room = room(&alice).await;
    alice.send(room, "refused").await;
    let first = receiver.next().await;
    status.store(307, Ordering::SeqCst);
    alice.send(room, "redirected").await;
    eventually("both are dead letters", SOON, || async { dead(&node, &hook).await.len() == 2 }).await;
    let letters = dead(&node, &hook).await;
    assert_eq!((letters[0]["event"].as_str(), letters[0]["status"].as_u64()), (Some(first.header("hubbub-event")), Some(410)));
    assert!(letters[1]["error"].as_str().unwrap().contains("redirects are not followed"), "{letters:?}");
    let mut inside = inside;
    inside.silence(100).await;

    status.store(200, Ordering::SeqCst);
    receiver.next_where(|r| text(r) == "redirected").await;
    let path = format!("/admin/webhooks/{}/replay", hook["id"].as_str().unwrap());
    let none = node.operate("POST", &path, Some(json!({ "ids": ["1-2-3"] }))).await;
    assert!(none.unwrap_err().to_string().contains("there is no dead letter"));
    let replayed = node.operate("POST", &path, Some(json!({ "ids": [letters[0]["id"]] }))).await.expect("replayed");
    assert_eq!(replayed["replayed"], 1);
    let again = receiver.next().await;
    assert_eq!((again.header("hubbub-event"), text(&again).as_str()), (first.header("hubbub-event"), "refused"));
    assert_eq!(node.operate("POST", &path, None).await.expect("replayed")["replayed"], 1);
    assert_eq!(text(&receiver.next().await), "redirected");
    eventually("no dead letter is left", SOON, || async { dead(&node, &hook).await.is_empty() }).await;
}

#[actix_rt::test]
async fn a_private_address_is_refused_when_it_is_named_and_when_a_name_leads_there() {
    let node = TestNode::start().await;
    let mut receiver = Receiver::start(|_| Reply::Status(200)).await;
    for url in [receiver.url("/"), "https://10.0.0.1/".into(), "https://[::1]/".into(), "https://169.254.169.254/".into(), "ftp://x".into()]
    {
        let refused = node.operate("POST", "/admin/webhooks", Some(json!({ "url": url }))).await;
        assert!(matches!(&refused, Err(ClientError::Api(e)) if e.code == Code::Invalid), "{url}: {refused:?}");
    }
    // A name is looked at when it is called.
    let url = format!("https://localhost:{}/", receiver.port);
    let hook = hook(&node, &url, json!({ "events": ["message"] })).await;
    let alice = TestClient::connect(&node, &node.user("alice").await, "a").await;
    let room = room(&alice).await;
    alice.send(room, "for nobody").await;
    eventually("it is a dead letter", SOON, || async { dead(&node, &hook).await.len() == 1 }).await;
    assert!(dead(&node, &hook).await[0]["error"].as_str().unwrap().starts_with("refused"));
    receiver.silence(100).await;
}

#[actix_rt::test]
async fn a_server_that_is_killed_between_commit_and_delivery_loses_no_event() {
    let mut node = node().await;
    let (down, seen) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
    let (is_down, count) = (down.clone(), seen.clone());
    let mut receiver = Receiver::start(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        if is_down.load(Ordering::SeqCst) == 1 { Reply::Status(503) } else { Reply::Status(200) }
    })
    .await;
    hook(&node, &receiver.url("/"), json!({ "events": ["message"] })).await;
    let user = node.user("alice").await;
    let mut alice = TestClient::connect(&node, &user, "a").await;
    let room = room(&alice).await;
    // Each round is killed at another moment: right after the acknowledgement, and when the receiver was asked already.
    let mut sent = Vec::new();
    for round in 0..4 {
        for n in 0..5 {
            let text = format!("{round}-{n}");
            alice.send(room, &text).await;
            sent.push(text);
        }
        if round % 2 == 1 {
            let before = seen.load(Ordering::SeqCst);
            eventually("the receiver was asked", SOON, || async { seen.load(Ordering::SeqCst) > before }).await;
        }
        node.kill9().await;
        node.restart().await;
        alice.reconnect(&node).await;
    }
    down.store(0, Ordering::SeqCst);
    let mut got: Vec<(String, String)> = Vec::new();
    while got.iter().map(|(_, text)| text).collect::<BTreeSet<_>>().len() < sent.len() || got.last().map(|g| &g.1) != sent.last() {
        let request = receiver.next().await;
        got.push((request.header("hubbub-event").to_owned(), text(&request)));
    }
    // Repeats are told by their id: one id is one text.
    let pairs: BTreeSet<&(String, String)> = got.iter().collect();
    let ids: BTreeSet<&String> = got.iter().map(|(id, _)| id).collect();
    assert_eq!((pairs.len(), ids.len()), (sent.len(), sent.len()));
}

#[actix_rt::test]
async fn a_sender_that_panics_begins_anew_and_loses_no_event() {
    let node = TestNode::builder().set("outbound.allowed_ranges", "127.0.0.0/8").set("dev.faults", true).start().await;
    // What is under way when it panics is in doubt, and comes again.
    let silent = Arc::new(AtomicUsize::new(1));
    let hangs = silent.clone();
    let mut receiver = Receiver::start(move |_| if hangs.load(Ordering::SeqCst) == 1 { Reply::Hang } else { Reply::Status(200) }).await;
    let hook = hook(&node, &receiver.url("/"), json!({ "events": ["message"] })).await;
    let alice = TestClient::connect(&node, &node.user("alice").await, "a").await;
    let room = room(&alice).await;
    alice.send(room, "before").await;
    let first = receiver.next().await;
    silent.store(0, Ordering::SeqCst);
    node.operate("POST", "/admin/fault?actor=webhooks", None).await.expect("a fault");
    alice.send(room, "meanwhile").await;
    let again = receiver.next().await;
    assert_eq!((text(&again), again.header("hubbub-event")), ("before".into(), first.header("hubbub-event")));
    assert_eq!(text(&receiver.next().await), "meanwhile");
    alice.send(room, "after").await;
    assert_eq!(text(&receiver.next().await), "after");
    assert_eq!(node.metric("hubbub_actor_restarts_total{actor=\"webhooks\"}").await, 1.0);
    eventually("nothing waits any more", SOON, || async { shown(&node, &hook).await["waiting"] == 0 }).await;
    assert_eq!(node.metric("hubbub_webhook_jobs_waiting").await, 0.0);
}

#[actix_rt::test]
async fn membership_and_presence_are_told_to_who_asks_for_them() {
    let node = node().await;
    let mut receiver = Receiver::start(|_| Reply::Status(204)).await;
    let alice = TestClient::connect(&node, &node.user("alice").await, "a").await;
    let channel = alice.create(RoomKind::Channel, &[]).await;
    hook(&node, &receiver.url("/"), json!({ "events": ["member", "presence"] })).await;
    let bob = node.user("bob").await;
    let mut bobs = TestClient::connect(&node, &bob, "b").await;
    let online = receiver.next_where(|r| r.json()["user"] == bob.id.to_string().as_str()).await.json();
    assert_eq!((online["type"].as_str(), online["state"].as_str()), (Some("presence"), Some("online")));
    let join = InRoom { room: channel, cid: ClientId::fresh(), since: 0 };
    bobs.request(Request::Join(join)).await.expect("anybody may join a channel");
    let joined = receiver.next_where(|r| r.json()["type"] == "member").await.json();
    assert_eq!((joined["room"].as_str(), joined["member"]["change"].as_str()), (Some(channel.to_string().as_str()), Some("join")));
    assert_eq!(joined["member"]["user"], bob.id.to_string().as_str());
    bobs.disconnect().await;
    let offline = receiver.next_where(|r| r.json()["state"] == "offline").await.json();
    assert_eq!(offline["user"], bob.id.to_string().as_str());
}

#[actix_rt::test]
async fn an_incoming_webhook_posts_into_its_room_once_per_key_until_it_is_revoked() {
    let node = TestNode::start().await;
    let alice = TestClient::connect(&node, &node.user("alice").await, "a").await;
    let room = room(&alice).await;
    let made = node.operate("POST", "/admin/incoming-hooks", Some(json!({ "room": room, "name": "Build Bot" }))).await.expect("a webhook");
    let path = made["path"].as_str().expect("its address").to_owned();
    let post = async |body: Value, key: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nIdempotency-Key: {key}");
        http(node.address(), &head, &body.to_string()).await
    };
    let body = json!({ "text": "build 7 is green", "username": "CI", "data": { "build": 7 } });
    let first = post(body.clone(), "k1").await;
    assert_eq!(first.status, 201, "{first:?}");
    let again = post(body.clone(), "k1").await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!(post(json!({ "text": "another" }), "k1").await.status, 409);
    let second = post(body, "k2").await;
    let seq = |r: &Response| serde_json::from_str::<Value>(&r.body).unwrap()["seq"].as_u64().unwrap();
    assert_eq!(seq(&second), seq(&first) + 1, "one message for each key");
    let page = alice.read_history(History { room, around: Some(seq(&first)), ..History::default() }).await;
    let shown = page.messages.unwrap_or_default().into_iter().find(|m| m.entry.seq == seq(&first)).expect("it is there");
    let entry = shown.entry;
    let Body::Message(message) = &entry.body else { panic!("{entry:?}") };
    assert_eq!((entry.by.to_string(), message.text.as_str()), (made["user"].as_str().unwrap().into(), "build 7 is green"));
    let data: Value = serde_json::from_str(message.data.as_deref().unwrap()).unwrap();
    assert_eq!(data, json!({ "build": 7, "username": "CI" }));

    for bad in [path.replace(['a', '0'], "b"), "/v1/hooks/1/x".into()] {
        let refused = http(node.address(), &format!("POST {bad} HTTP/1.1\r\nContent-Type: application/json"), "{\"text\":\"x\"}").await;
        assert_eq!((refused.status, refused.code().as_str()), (404, "not_found"), "{bad}");
    }
    let id = made["id"].as_str().unwrap();
    node.operate("DELETE", &format!("/admin/incoming-hooks/{id}"), None).await.expect("revoked");
    assert_eq!(post(json!({ "text": "late" }), "k3").await.status, 404);
}
