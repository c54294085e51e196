//! A POST with an `Idempotency-Key` makes one thing, whatever happens to the server in between.

use super::support::TestNode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const KEYS: usize = 24;

/// Sends the message of a key; `None` when the server went away meanwhile.
async fn send(url: String, token: String, n: usize) -> Option<(u16, Value)> {
    let post = move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20))).http_status_as_error(false).build().into();
        let request = agent.post(&url).header("authorization", format!("Bearer {token}")).header("idempotency-key", format!("key-{n}"));
        let mut answer = request.send_json(json!({ "text": format!("message {n}") })).ok()?;
        Some((answer.status().as_u16(), answer.body_mut().read_json().ok()?))
    };
    tokio::task::spawn_blocking(post).await.expect("no panic")
}

#[tokio::test]
async fn a_message_with_a_key_is_there_once_however_often_the_server_is_killed() {
    // How long a try may take bounds how long a key whose try died with the server is held to be under way.
    let mut node = TestNode::builder().set("socket.request_timeout_ms", 500).start().await;
    let alice = node.user("alice").await;
    let create = json!({ "kind": "group", "name": "once" });
    let room: Value = node.rest().call("POST", "/v1/rooms", Some(&alice.token), Some(create)).await.expect("a room");
    let path = format!("/v1/rooms/{}/messages", room["room"].as_str().expect("an id"));
    let all = |node: &TestNode| {
        let (url, token) = (format!("{}{path}", node.url()), alice.token.clone());
        (0..KEYS).map(move |n| tokio::spawn(send(url.clone(), token.clone(), n))).collect::<Vec<_>>()
    };
    for round in 0..6 {
        let under_way = all(&node);
        tokio::time::sleep(Duration::from_millis(3 + 7 * round)).await;
        node.kill9().await;
        futures_util::future::join_all(under_way).await;
        node.restart().await;
    }
    let mut made: BTreeMap<usize, u64> = BTreeMap::new();
    for _ in 0..50 {
        for (n, answer) in futures_util::future::join_all(all(&node)).await.into_iter().enumerate() {
            match answer.expect("no panic").expect("the server stays") {
                (201, sent) => {
                    let seq = sent["seq"].as_u64().expect("a seq");
                    assert_eq!(*made.entry(n).or_insert(seq), seq, "key {n} got another answer");
                }
                (status, problem) => assert_eq!(problem["retry"], "later", "{status} {problem}"),
            }
        }
        if made.len() == KEYS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(made.len(), KEYS, "not all were sent");
    let entries = format!("/v1/rooms/{}/entries", room["room"].as_str().expect("an id"));
    let entries: Vec<Value> = node.rest().list(&entries, &alice.token).await.expect("the log");
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for entry in entries.iter().filter(|e| e["body"]["message"].is_object()) {
        let text = entry["body"]["message"]["text"].as_str().expect("a text").to_owned();
        found.entry(text).or_default().push(entry["seq"].as_u64().expect("a seq"));
    }
    let expected: BTreeMap<String, Vec<u64>> = made.into_iter().map(|(n, seq)| (format!("message {n}"), vec![seq])).collect();
    assert_eq!(found, expected);
}
