//! Rooms, members, messages, invite links and the directory over HTTP, against a real node; what must survive is looked at again after
//! the process was killed.

use super::rooms::cid;
use super::support::{RawSocket, Response, TestNode, TestUser, http};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// One request of a user. `more`: further headers, each `Name: value`.
async fn call(node: &TestNode, user: &TestUser, line: &str, body: Value, more: &[&str]) -> Response {
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let mut head = format!("{method} {path} HTTP/1.1\r\nAuthorization: Bearer {}", user.token);
    let text = if body.is_null() { String::new() } else { body.to_string() };
    if !text.is_empty() {
        head += "\r\nContent-Type: application/json";
    }
    for header in more {
        head += &format!("\r\n{header}");
    }
    http(node.address(), &head, &text).await
}

/// The same, which must be answered with this status; gives the body.
async fn gets(node: &TestNode, user: &TestUser, status: u16, line: &str, body: Value) -> Value {
    let response = call(node, user, line, body, &[]).await;
    assert_eq!(response.status, status, "{line}: {}", response.body);
    serde_json::from_str(&response.body).unwrap_or(Value::Null)
}

async fn open(node: &TestNode, user: &TestUser, kind: &str, name: &str, members: &[&TestUser]) -> String {
    let members: Vec<String> = members.iter().map(|m| m.id.to_string()).collect();
    let made = gets(node, user, 201, "POST /v1/rooms", json!({ "kind": kind, "name": name, "members": members })).await;
    made["room"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

async fn say(node: &TestNode, user: &TestUser, room: &str, message: Value) -> u64 {
    let sent = gets(node, user, 201, &format!("POST /v1/rooms/{room}/messages"), message).await;
    sent["seq"].as_u64().unwrap_or_else(|| panic!("{sent}"))
}

fn seqs(page: &Value) -> Vec<u64> {
    let of = |item: &Value| item["entry"]["seq"].as_u64().or(item["seq"].as_u64()).unwrap_or_else(|| panic!("{item}"));
    page["items"].as_array().unwrap_or_else(|| panic!("{page}")).iter().map(of).collect()
}

#[tokio::test]
async fn a_room_is_opened_read_and_changed_and_each_answer_shows_what_was_done() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    let new = json!({ "kind": "group", "name": "Lunch", "topic": "where and when", "members": [ben.id.to_string()] });
    let first = call(&node, &ann, "POST /v1/rooms", new.clone(), &["Idempotency-Key: lunch"]).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let room: Value = serde_json::from_str(&first.body).expect("JSON");
    let at = format!("/v1/rooms/{}", room["room"].as_str().expect("an id"));
    assert_eq!(first.header("location"), Some(at.as_str()));
    let (members, role, notify) = (&room["members"], &room["role"], &room["notify"]["level"]);
    assert_eq!((members, role, notify), (&json!(2), &json!("owner"), &json!("all")), "{room}");
    let again = call(&node, &ann, "POST /v1/rooms", new, &["Idempotency-Key: lunch"]).await;
    assert_eq!((again.status, &again.body), (201, &first.body), "the same key opens the same room");
    let other = call(&node, &ann, "POST /v1/rooms", json!({ "kind": "group", "name": "Tea" }), &["Idempotency-Key: lunch"]).await;
    assert_eq!((other.status, other.code().as_str()), (409, "conflict"));

    let read = call(&node, &ben, &format!("GET {at}"), Value::Null, &[]).await;
    let tag = format!("If-None-Match: {}", read.header("etag").expect("a tag"));
    assert_eq!(call(&node, &ben, &format!("GET {at}"), Value::Null, &[&tag]).await.status, 304);
    let tag = format!("If-Match: {}", call(&node, &ann, &format!("GET {at}"), Value::Null, &[]).await.header("etag").expect("a tag"));
    let changes = json!({ "name": "Dinner", "topic": "", "slow_mode_s": 30 });
    let changed = call(&node, &ann, &format!("PATCH {at}"), changes, &[&tag]).await;
    let now: Value = serde_json::from_str(&changed.body).expect("JSON");
    assert_eq!((changed.status, &now["name"], &now["slow_mode_s"]), (200, &json!("Dinner"), &json!(30)), "{now}");
    let stale = call(&node, &ann, &format!("PATCH {at}"), json!({ "name": "Supper" }), &[&tag]).await;
    assert_eq!((stale.status, stale.code().as_str()), (412, "precondition_failed"));
    gets(&node, &ben, 403, &format!("PATCH {at}"), json!({ "name": "mine" })).await;
    gets(&node, &ann, 422, &format!("PATCH {at}"), json!({ "slow_mode_s": 21_601 })).await;
    assert_eq!(gets(&node, &ben, 200, &format!("PATCH {at}"), json!({})).await["name"], "Dinner", "nothing is changed by nobody");

    // A pair has one direct room, and it says so by its status.
    let direct = json!({ "kind": "direct", "members": [ben.id.to_string()] });
    let made = gets(&node, &ann, 201, "POST /v1/rooms", direct).await;
    let found = gets(&node, &ben, 200, "POST /v1/rooms", json!({ "kind": "direct", "members": [ann.id.to_string()] })).await;
    assert_eq!((&made["room"], &found["peer"]), (&found["room"], &json!(ann.id.to_string())));

    // Pages of the list, newest activity first.
    let mut opened: Vec<String> = vec![made["room"].as_str().expect("an id").into(), room["room"].as_str().expect("an id").into()];
    for n in 0..5 {
        opened.insert(0, open(&node, &ann, "group", &format!("room {n}"), &[]).await);
    }
    let (mut listed, mut path) = (Vec::new(), "GET /v1/rooms?limit=3".to_owned());
    loop {
        let page = gets(&node, &ann, 200, &path, Value::Null).await;
        listed.extend(page["items"].as_array().expect("items").iter().map(|r| r["room"].as_str().expect("an id").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("GET /v1/rooms?limit=3&cursor={next}");
    }
    assert_eq!(listed.iter().collect::<BTreeSet<_>>(), opened.iter().collect(), "each once");
    assert_eq!((listed.len(), &listed[..5]), (7, &opened[..5]));
}

#[tokio::test]
async fn a_message_is_sent_once_per_key_and_all_that_follows_is_seen_at_once() {
    let mut node = TestNode::start().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    let room = open(&node, &ann, "group", "talk", &[&ben]).await;
    let at = format!("/v1/rooms/{room}/messages");
    let send = |key: &'static str, text: &'static str| {
        let (node, ann, line) = (&node, &ann, format!("POST {at}"));
        async move { call(node, ann, &line, json!({ "text": text, "mentions": [] }), &[key]).await }
    };
    let first = send("Idempotency-Key: one", "hello").await;
    assert_eq!(first.status, 201, "{}", first.body);
    let all = join_all((0..8).map(|_| send("Idempotency-Key: two", "at once"))).await;
    let done: BTreeSet<&str> = all.iter().filter(|r| r.status == 201).map(|r| r.body.as_str()).collect();
    assert_eq!(done.len(), 1, "one answer");
    let busy = |r: &&Response| r.status != 201;
    assert!(all.iter().filter(busy).all(|r| r.status == 409), "{all:?}");
    node.kill9().await;
    node.restart().await;
    let again = call(&node, &ann, &format!("POST {at}"), json!({ "text": "hello", "mentions": [] }), &["Idempotency-Key: one"]).await;
    assert_eq!((again.status, &again.body), (201, &first.body), "after a kill, too");
    let own = json!({ "text": "by my own id", "cid": cid() });
    let (a, b) = (say(&node, &ann, &room, own.clone()).await, say(&node, &ann, &room, own).await);
    assert_eq!((a, b), (4, 4));

    let answer = say(&node, &ben, &room, json!({ "text": "in the thread", "thread": 2 })).await;
    say(&node, &ben, &room, json!({ "text": "beside it" })).await;
    say(&node, &ann, &room, json!({ "text": "and again", "thread": 2 })).await;
    assert_eq!(seqs(&gets(&node, &ann, 200, &format!("GET {at}/2/thread"), Value::Null).await), [answer, 7]);
    let page = gets(&node, &ann, 200, &format!("GET {at}/2/thread?limit=1"), Value::Null).await;
    let next = page["next"].as_str().expect("more");
    assert_eq!(seqs(&gets(&node, &ann, 200, &format!("GET {at}/2/thread?cursor={next}"), Value::Null).await), [7]);

    let tag = call(&node, &ann, &format!("GET {at}/2"), Value::Null, &[]).await.header("etag").expect("a tag").to_owned();
    let edited = call(&node, &ann, &format!("PATCH {at}/2"), json!({ "text": "hello, all" }), &[&format!("If-Match: {tag}")]).await;
    assert!(edited.status == 200 && edited.body.contains("hello, all"), "{edited:?}");
    assert_eq!(call(&node, &ann, &format!("PATCH {at}/2"), json!({ "text": "x" }), &[&format!("If-Match: {tag}")]).await.status, 412);
    gets(&node, &ben, 403, &format!("PATCH {at}/2"), json!({ "text": "not mine" })).await;
    gets(&node, &ben, 204, &format!("PUT {at}/2/reactions/%F0%9F%91%8D"), Value::Null).await;
    gets(&node, &ann, 204, &format!("PUT {at}/2/pin"), Value::Null).await;
    let shown = gets(&node, &ben, 200, &format!("GET {at}/2"), Value::Null).await;
    assert_eq!((&shown["pinned"], &shown["reactions"][0]["emoji"]), (&json!(true), &json!("👍")), "{shown}");
    assert_eq!(seqs(&gets(&node, &ben, 200, &format!("GET /v1/rooms/{room}/pins"), Value::Null).await), [2]);
    gets(&node, &ben, 204, &format!("DELETE {at}/2/reactions/%F0%9F%91%8D"), Value::Null).await;
    gets(&node, &ann, 204, &format!("DELETE {at}/2/pin"), Value::Null).await;
    assert!(seqs(&gets(&node, &ben, 200, &format!("GET /v1/rooms/{room}/pins"), Value::Null).await).is_empty());

    let cursor = gets(&node, &ben, 200, &format!("PUT /v1/rooms/{room}/cursor"), json!({ "read": 4 })).await;
    assert_eq!((&cursor["read"], &cursor["delivered"]), (&json!(4), &json!(4)));
    let readers = |seq: u64| format!("GET {at}/{seq}/readers");
    let read = gets(&node, &ann, 200, &readers(4), Value::Null).await;
    assert_eq!(read["items"], json!([{ "user": ben.id.to_string(), "name": "ben" }]));
    assert_eq!(gets(&node, &ann, 200, &readers(7), Value::Null).await["items"], json!([]));
    let receipts = gets(&node, &ann, 200, &format!("GET /v1/rooms/{room}/receipts"), Value::Null).await;
    assert_eq!(receipts["items"], json!([{ "room": room, "user": ben.id.to_string(), "read": 4, "delivered": 4 }]));

    for _ in 0..2 {
        gets(&node, &ann, 204, &format!("DELETE {at}/4"), Value::Null).await;
    }
    let gone = gets(&node, &ben, 200, &format!("GET {at}/4"), Value::Null).await;
    assert!(gone["deleted"].is_u64() && gone["entry"]["body"]["message"]["text"] == "", "{gone}");
    let window = async |query: &str| gets(&node, &ben, 200, &format!("GET {at}?{query}"), Value::Null).await;
    assert_eq!(seqs(&window("limit=2").await), [6, 7]);
    assert_eq!(seqs(&window("before=5&limit=2").await), [3, 4]);
    assert_eq!(seqs(&window("after=5").await), [6, 7]);
    assert_eq!(seqs(&window("around=4&limit=2").await), [4, 5]);
    gets(&node, &ben, 422, &format!("GET {at}?before=3&after=4"), Value::Null).await;
    gets(&node, &ben, 404, &format!("GET {at}/1"), Value::Null).await;
    gets(&node, &ben, 404, &format!("GET {at}/999"), Value::Null).await;

    // What a program that polls reads: every entry once, in order, to the end.
    let (mut seen, mut path) = (Vec::new(), format!("GET /v1/rooms/{room}/entries?limit=4"));
    loop {
        let page = gets(&node, &ben, 200, &path, Value::Null).await;
        seen.extend(seqs(&page));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("GET /v1/rooms/{room}/entries?limit=4&cursor={next}");
    }
    let last = *seen.last().expect("some");
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());
    assert!(seqs(&gets(&node, &ben, 200, &format!("GET /v1/rooms/{room}/entries?after={last}"), Value::Null).await).is_empty());
}

#[tokio::test]
async fn who_writes_over_http_is_seen_on_sockets_like_anybody() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    let mut socket = RawSocket::live(&node, &ben).await;
    let room = open(&node, &ann, "group", "talk", &[&ben]).await;
    let seq = say(&node, &ann, &room, json!({ "text": "over HTTP" })).await;
    loop {
        let push = socket.value().await;
        let entries = if push["op"] == "entries" { push["entries"].as_array().cloned().unwrap_or_default() } else { vec![push.clone()] };
        if let Some(entry) = entries.iter().find(|e| e["seq"] == seq) {
            assert_eq!(entry["body"]["message"]["text"], "over HTTP", "{entry}");
            break;
        }
    }
}

#[tokio::test]
async fn members_are_what_they_were_last_made_and_saying_it_twice_is_no_conflict() {
    let node = TestNode::start().await;
    let (ann, ben, eve) = (node.user("ann").await, node.user("ben").await, node.user("eve").await);
    let room = open(&node, &ann, "group", "us", &[]).await;
    let at = format!("/v1/rooms/{room}");
    let (member, reader) = (format!("PUT {at}/members/{}", ben.id), format!("PUT {at}/members/{}", eve.id));
    let brought = gets(&node, &ann, 201, &member, Value::Null).await;
    assert_eq!((&brought["name"], &brought["role"]), (&json!("ben"), &json!("member")));
    assert_eq!(gets(&node, &ann, 200, &member, json!({ "role": "admin" })).await["role"], "member", "who is in stays what it is");
    assert_eq!(gets(&node, &ben, 201, &reader, json!({ "role": "reader" })).await["role"], "reader");
    gets(&node, &eve, 403, &format!("POST {at}/messages"), json!({ "text": "x" })).await;
    let nobody = node.user("nobody").await;
    gets(&node, &ben, 403, &format!("PUT {at}/members/{}", nobody.id), json!({ "role": "admin" })).await;
    gets(&node, &ann, 404, &format!("PUT {at}/members/123456789"), Value::Null).await;

    gets(&node, &ann, 204, &format!("PATCH {at}/members/{}", ben.id), json!({ "role": "moderator" })).await;
    let listed = gets(&node, &eve, 200, &format!("GET {at}/members?limit=2"), Value::Null).await;
    let next = listed["next"].as_str().expect("more");
    let rest = gets(&node, &eve, 200, &format!("GET {at}/members?limit=2&cursor={next}"), Value::Null).await;
    let roles: Vec<&Value> = [&listed, &rest].into_iter().flat_map(|p| p["items"].as_array().expect("items")).map(|m| &m["role"]).collect();
    assert_eq!(roles, ["owner", "moderator", "reader"]);

    let (mute, ban) = (format!("{at}/mutes/{}", eve.id), format!("{at}/bans/{}", eve.id));
    gets(&node, &ann, 204, &format!("PATCH {at}/members/{}", eve.id), json!({ "role": "member" })).await;
    for _ in 0..2 {
        gets(&node, &ben, 204, &format!("PUT {mute}"), json!({ "until": 4_102_444_800_000u64 })).await;
    }
    gets(&node, &eve, 403, &format!("POST {at}/messages"), json!({ "text": "x" })).await;
    assert_eq!(gets(&node, &eve, 200, &format!("GET {at}"), Value::Null).await["muted_until"], 4_102_444_800_000u64);
    gets(&node, &ben, 409, &format!("PUT {mute}"), json!({ "until": 1 })).await;
    for _ in 0..2 {
        gets(&node, &ben, 204, &format!("DELETE {mute}"), Value::Null).await;
    }
    say(&node, &eve, &room, json!({ "text": "at last" })).await;
    for _ in 0..2 {
        gets(&node, &ben, 204, &format!("PUT {ban}"), Value::Null).await;
    }
    let bans = gets(&node, &ben, 200, &format!("GET {at}/bans"), Value::Null).await;
    assert_eq!(bans["items"], json!([{ "user": eve.id.to_string(), "name": "eve" }]));
    gets(&node, &eve, 404, &format!("GET {at}"), Value::Null).await;
    for _ in 0..2 {
        gets(&node, &ben, 204, &format!("DELETE {ban}"), Value::Null).await;
    }
    gets(&node, &ben, 403, &format!("DELETE {at}/members/{}", ann.id), Value::Null).await;
    gets(&node, &ann, 204, &format!("POST {at}/transfer"), json!({ "user": ben.id.to_string() })).await;
    assert_eq!(gets(&node, &ann, 200, &format!("GET {at}"), Value::Null).await["role"], "admin");
    gets(&node, &ben, 409, &format!("POST {at}/leave"), Value::Null).await;
    gets(&node, &ann, 204, &format!("POST {at}/leave"), Value::Null).await;
    gets(&node, &ann, 404, &format!("GET {at}"), Value::Null).await;
}

#[tokio::test]
async fn a_link_is_never_used_more_often_than_allowed() {
    let mut node = TestNode::start().await;
    let ann = node.user("ann").await;
    let room = open(&node, &ann, "group", "the few", &[]).await;
    let links = format!("POST /v1/rooms/{room}/invites");
    let link = gets(&node, &ann, 201, &links, json!({ "uses_max": 10, "expires_s": 3_600 })).await;
    let code = link["code"].as_str().expect("a code").to_owned();
    let mut crowd = Vec::new();
    for n in 0..50 {
        crowd.push(node.user(&format!("guest{n}")).await);
    }
    let accept = format!("POST /v1/invites/{code}/accept");
    let come = async |user: &TestUser| call(&node, user, &accept, Value::Null, &[]).await.status;
    let statuses = join_all(crowd.iter().map(come)).await;
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 10, "{statuses:?}");
    assert!(statuses.iter().all(|s| [200, 404].contains(s)), "{statuses:?}");
    let room_now = gets(&node, &ann, 200, &format!("GET /v1/rooms/{room}"), Value::Null).await;
    assert_eq!(room_now["members"], 11);
    // The log says who came, and by whose link.
    let entries = gets(&node, &ann, 200, &format!("GET /v1/rooms/{room}/entries?limit=200"), Value::Null).await;
    let joins: Vec<&Value> =
        entries["items"].as_array().expect("items").iter().map(|e| &e["body"]["member"]).filter(|m| !m.is_null()).collect();
    assert_eq!(joins.len(), 10);
    assert!(joins.iter().all(|m| m["change"] == "join" && m["link_by"] == ann.id.to_string()), "{joins:?}");

    node.kill9().await;
    node.restart().await;
    let late = node.user("late").await;
    gets(&node, &late, 404, &accept, Value::Null).await;
    let member = &crowd[statuses.iter().position(|s| *s == 200).expect("ten")];
    let kept = gets(&node, &ann, 200, &format!("GET /v1/rooms/{room}/invites"), Value::Null).await;
    assert_eq!((&kept["items"][0]["uses"], &kept["items"][0]["code"]), (&json!(10), &json!(code)));
    gets(&node, member, 200, &accept, Value::Null).await;
    let kept = gets(&node, &ann, 200, &format!("GET /v1/rooms/{room}/invites"), Value::Null).await;
    assert_eq!(kept["items"][0]["uses"], 10, "who is in uses nothing up");
}

#[tokio::test]
async fn a_link_that_is_over_looks_like_one_that_never_was() {
    let node = TestNode::start().await;
    let (ann, ben, eve) = (node.user("ann").await, node.user("ben").await, node.user("eve").await);
    let room = open(&node, &ann, "group", "a secret", &[&ben]).await;
    let links = format!("/v1/rooms/{room}/invites");
    let make = async |user: &TestUser, wanted: Value| {
        let link = gets(&node, user, 201, &format!("POST {links}"), wanted).await;
        link["code"].as_str().unwrap_or_else(|| panic!("{link}")).to_owned()
    };
    let never = call(&node, &eve, "GET /v1/invites/AAAAAAAAAAAAAAAAAAAAAA", Value::Null, &[]).await;
    assert_eq!(never.status, 404);
    let dead = async |code: &str, why: &str| {
        for line in [format!("GET /v1/invites/{code}"), format!("POST /v1/invites/{code}/accept")] {
            let found = call(&node, &eve, &line, Value::Null, &[]).await;
            assert_eq!((found.status, &found.body), (404, &never.body), "{why}: {line}");
        }
    };
    let short = make(&ann, json!({ "expires_s": 1 })).await;
    let (good, of_ben) = (make(&ann, json!({ "role": "reader" })).await, make(&ben, Value::Null).await);
    let seen = gets(&node, &eve, 200, &format!("GET /v1/invites/{good}"), Value::Null).await;
    let expected = json!({ "room": room, "kind": "group", "name": "a secret", "topic": "", "members": 2, "by": ann.id.to_string() });
    assert_eq!(seen, expected);
    // One's own are one's own; a moderator sees all.
    let count = |page: &Value| page["items"].as_array().map(Vec::len);
    assert_eq!(count(&gets(&node, &ben, 200, &format!("GET {links}"), Value::Null).await), Some(1));
    assert_eq!(count(&gets(&node, &ann, 200, &format!("GET {links}"), Value::Null).await), Some(3));
    gets(&node, &ben, 404, &format!("DELETE {links}/{good}"), Value::Null).await;
    gets(&node, &eve, 404, &format!("GET {links}"), Value::Null).await;
    for bad in [json!({ "uses_max": 0 }), json!({ "expires_s": 0 }), json!({ "role": "admin" })] {
        gets(&node, &ann, 422, &format!("POST {links}"), bad).await;
    }

    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    dead(&short, "it is over").await;
    gets(&node, &ann, 204, &format!("DELETE /v1/rooms/{room}/members/{}", ben.id), Value::Null).await;
    assert_eq!(
        gets(&node, &eve, 404, &format!("POST /v1/invites/{of_ben}/accept"), Value::Null).await["code"],
        "not_found",
        "its maker is out"
    );
    gets(&node, &ann, 200, &format!("PATCH /v1/rooms/{room}"), json!({ "archived": true })).await;
    dead(&good, "the room is archived").await;
    gets(&node, &ann, 200, &format!("PATCH /v1/rooms/{room}"), json!({ "archived": false })).await;
    let came = gets(&node, &eve, 200, &format!("POST /v1/invites/{good}/accept"), Value::Null).await;
    assert_eq!((&came["room"], &came["role"]), (&json!(room), &json!("reader")));
    gets(&node, &ann, 204, &format!("PUT /v1/rooms/{room}/bans/{}", eve.id), Value::Null).await;
    dead(&good, "who is banned has no link").await;
    gets(&node, &ann, 204, &format!("DELETE /v1/rooms/{room}/bans/{}", eve.id), Value::Null).await;
    gets(&node, &ann, 204, &format!("DELETE {links}/{good}"), Value::Null).await;
    dead(&good, "it was revoked").await;
    let keyed = async || call(&node, &ann, &format!("POST {links}"), json!({}), &["Idempotency-Key: once"]).await.body;
    assert_eq!(keyed().await, keyed().await, "the same key makes one link");
}

#[tokio::test]
async fn the_directory_shows_public_channels_by_name_and_forgets_what_is_hidden_also_after_a_kill() {
    let mut node = TestNode::start().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    open(&node, &ann, "group", "News for friends", &[]).await;
    let mut rooms = Vec::new();
    for name in ["News", "new things", "NEWTON", "Other"] {
        rooms.push(open(&node, &ann, "channel", name, &[]).await);
    }
    let find = async |node: &TestNode, q: &str| -> Vec<String> {
        let (mut names, mut path) = (Vec::new(), format!("GET /v1/channels?limit=2&q={q}"));
        loop {
            let page = gets(node, &ben, 200, &path, Value::Null).await;
            names.extend(page["items"].as_array().expect("items").iter().map(|c| c["name"].as_str().expect("a name").to_owned()));
            let Some(next) = page["next"].as_str() else { return names };
            path = format!("GET /v1/channels?limit=2&q={q}&cursor={next}");
        }
    };
    assert_eq!(find(&node, "new").await, ["new things", "News", "NEWTON"]);
    assert_eq!(find(&node, "").await, ["new things", "News", "NEWTON", "Other"]);
    assert_eq!(find(&node, "NEWS").await, ["News"]);
    assert!(find(&node, "newz").await.is_empty());
    let change =
        async |node: &TestNode, room: &str, changes: Value| drop(gets(node, &ann, 200, &format!("PATCH /v1/rooms/{room}"), changes).await);
    change(&node, &rooms[0], json!({ "name": "Alerts" })).await;
    change(&node, &rooms[1], json!({ "unlisted": true })).await;
    change(&node, &rooms[2], json!({ "archived": true })).await;
    assert_eq!(find(&node, "").await, ["Alerts", "Other"]);
    node.kill9().await;
    node.restart().await;
    assert_eq!(find(&node, "").await, ["Alerts", "Other"]);
    change(&node, &rooms[1], json!({ "unlisted": false })).await;
    change(&node, &rooms[0], json!({ "name": "News" })).await;
    assert_eq!(find(&node, "new").await, ["new things", "News"]);

    let joined = gets(&node, &ben, 200, &format!("POST /v1/rooms/{}/join", rooms[0]), Value::Null).await;
    assert_eq!((&joined["members"], &joined["notify"]["level"]), (&json!(2), &json!("mentions")));
    let listed = gets(&node, &ben, 200, "GET /v1/channels?q=news", Value::Null).await;
    let expected = json!([{ "room": rooms[0], "name": "News", "topic": "", "members": 2, "joined": true }]);
    assert_eq!(listed["items"], expected);
    // Not in the directory is not closed: who knows it may join.
    change(&node, &rooms[3], json!({ "unlisted": true })).await;
    gets(&node, &ben, 200, &format!("POST /v1/rooms/{}/join", rooms[3]), Value::Null).await;
    gets(&node, &ben, 403, &format!("POST /v1/rooms/{}/join", rooms[2]), Value::Null).await;
}

#[tokio::test]
async fn of_many_who_saw_the_same_exactly_one_changes_it_also_in_a_busy_room() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    let room = open(&node, &ann, "group", "talk", &[&ben]).await;
    let seq = say(&node, &ann, &room, json!({ "text": "version 0" })).await;
    let (room_at, message_at) = (format!("/v1/rooms/{room}"), format!("/v1/rooms/{room}/messages/{seq}"));
    for (path, field) in [(&room_at, "topic"), (&message_at, "text")] {
        let tag = call(&node, &ann, &format!("GET {path}"), Value::Null, &[]).await.header("etag").expect("a tag").to_owned();
        let (line, condition) = (format!("PATCH {path}"), format!("If-Match: {tag}"));
        let busy = async {
            // What others write in the room is no change of the message; of the room's summary it is.
            for n in 0..if field == "text" { 20 } else { 0 } {
                say(&node, &ben, &room, json!({ "text": format!("beside it {n}") })).await;
            }
        };
        let changes = join_all((0..12).map(|n| {
            let (line, condition, node, ann) = (&line, &condition, &node, &ann);
            async move { (n, call(node, ann, line, json!({ field: format!("version {n}") }), &[condition.as_str()]).await) }
        }));
        let (changes, ()) = tokio::join!(changes, busy);
        let won: Vec<_> = changes.iter().filter(|(_, r)| r.status == 200).map(|(n, _)| *n).collect();
        assert_eq!(won.len(), 1, "{field}: {changes:?}");
        assert!(changes.iter().all(|(_, r)| [200, 412].contains(&r.status)), "{field}: {changes:?}");
        let now = gets(&node, &ben, 200, &format!("GET {path}"), Value::Null).await.to_string();
        assert!(now.contains(&format!("version {}", won[0])), "{now}");
    }
}

/// All pages of a list, with something done after each.
async fn pages(node: &TestNode, user: &TestUser, path: &str, limit: u32, mut between: impl AsyncFnMut()) -> Vec<Value> {
    let (mut items, mut line) = (Vec::new(), format!("GET {path}?limit={limit}"));
    loop {
        let page = gets(node, user, 200, &line, Value::Null).await;
        items.extend(page["items"].as_array().expect("items").iter().cloned());
        between().await;
        let Some(next) = page["next"].as_str() else { return items };
        line = format!("GET {path}?limit={limit}&cursor={next}");
    }
}

#[tokio::test]
async fn pages_show_once_whatever_stays_while_the_list_changes_under_them() {
    let node = TestNode::start().await;
    let ann = node.user("ann").await;
    let mut users = Vec::new();
    for n in 0..24 {
        users.push(node.user(&format!("user{n}")).await);
    }
    // Every third one comes and goes.
    let moving: Vec<&TestUser> = users.iter().step_by(3).collect();
    let staying: Vec<&TestUser> = users.iter().enumerate().filter(|(n, _)| n % 3 != 0).map(|(_, user)| user).collect();
    let room = open(&node, &ann, "group", "all of us", &users.iter().collect::<Vec<_>>()).await;
    let mut turn = 0;
    let path = format!("/v1/rooms/{room}/members");
    let members = pages(&node, &ann, &path, 3, async || {
        let goes = moving[turn % moving.len()];
        let comes = moving[(turn + moving.len() / 2) % moving.len()];
        gets(&node, &ann, 204, &format!("DELETE /v1/rooms/{room}/members/{}", goes.id), Value::Null).await;
        call(&node, &ann, &format!("PUT /v1/rooms/{room}/members/{}", comes.id), Value::Null, &[]).await;
        turn += 1;
    });
    let members = members.await;
    let of = |user: &TestUser| members.iter().filter(|m| m["user"] == user.id.to_string()).count();
    assert!(staying.iter().all(|user| of(user) == 1) && moving.iter().all(|user| of(user) <= 1), "{members:?}");

    // Rooms in which something is said move to the beginning of the list; the others are where they were.
    let mut rooms = Vec::new();
    for n in 0..12 {
        rooms.push(open(&node, &ann, "group", &format!("room {n}"), &[]).await);
    }
    let (busy, quiet): (Vec<_>, Vec<_>) = rooms.iter().enumerate().partition(|(n, _)| n % 4 == 0);
    let mut turn = 0;
    let listed = pages(&node, &ann, "/v1/rooms", 2, async || {
        say(&node, &ann, busy[turn % busy.len()].1, json!({ "text": "hello" })).await;
        turn += 1;
    });
    let listed = listed.await;
    for (n, room) in quiet {
        assert_eq!(listed.iter().filter(|r| r["room"] == **room).count(), 1, "room {n}: {listed:?}");
    }
}

#[tokio::test]
async fn a_hidden_room_looks_like_none_at_every_address() {
    let node = TestNode::start().await;
    let (ann, ben, eve) = (node.user("ann").await, node.user("ben").await, node.user("eve").await);
    let hidden = open(&node, &ann, "group", "a secret", &[&ben]).await;
    say(&node, &ann, &hidden, json!({ "text": "a secret" })).await;
    let absent = (hidden.parse::<u64>().expect("an id") + 1).to_string();
    let other = ben.id;
    let lines = [
        ("GET /v1/rooms/R".to_owned(), Value::Null),
        ("PATCH /v1/rooms/R".into(), json!({ "name": "x" })),
        ("POST /v1/rooms/R/join".into(), Value::Null),
        ("POST /v1/rooms/R/leave".into(), Value::Null),
        ("POST /v1/rooms/R/transfer".into(), json!({ "user": other.to_string() })),
        ("GET /v1/rooms/R/cursor".into(), Value::Null),
        ("PUT /v1/rooms/R/cursor".into(), json!({ "read": 1 })),
        ("GET /v1/rooms/R/members".into(), Value::Null),
        (format!("PUT /v1/rooms/R/members/{other}"), Value::Null),
        (format!("PATCH /v1/rooms/R/members/{other}"), json!({ "role": "reader" })),
        (format!("DELETE /v1/rooms/R/members/{other}"), Value::Null),
        ("GET /v1/rooms/R/bans".into(), Value::Null),
        (format!("PUT /v1/rooms/R/bans/{other}"), Value::Null),
        (format!("DELETE /v1/rooms/R/bans/{other}"), Value::Null),
        (format!("PUT /v1/rooms/R/mutes/{other}"), Value::Null),
        (format!("DELETE /v1/rooms/R/mutes/{other}"), Value::Null),
        ("GET /v1/rooms/R/invites".into(), Value::Null),
        ("POST /v1/rooms/R/invites".into(), json!({})),
        ("DELETE /v1/rooms/R/invites/AAAAAAAAAAAAAAAAAAAAAA".into(), Value::Null),
        ("GET /v1/rooms/R/messages".into(), Value::Null),
        ("POST /v1/rooms/R/messages".into(), json!({ "text": "x" })),
        ("GET /v1/rooms/R/messages/2".into(), Value::Null),
        ("PATCH /v1/rooms/R/messages/2".into(), json!({ "text": "x" })),
        ("DELETE /v1/rooms/R/messages/2".into(), Value::Null),
        ("PUT /v1/rooms/R/messages/2/reactions/x".into(), Value::Null),
        ("DELETE /v1/rooms/R/messages/2/reactions/x".into(), Value::Null),
        ("PUT /v1/rooms/R/messages/2/pin".into(), Value::Null),
        ("DELETE /v1/rooms/R/messages/2/pin".into(), Value::Null),
        ("GET /v1/rooms/R/messages/2/thread".into(), Value::Null),
        ("GET /v1/rooms/R/messages/2/readers".into(), Value::Null),
        ("GET /v1/rooms/R/receipts".into(), Value::Null),
        ("GET /v1/rooms/R/pins".into(), Value::Null),
        ("GET /v1/rooms/R/entries".into(), Value::Null),
    ];
    for (line, body) in lines {
        let found = call(&node, &eve, &line.replace("/R", &format!("/{hidden}")), body.clone(), &[]).await;
        let none = call(&node, &eve, &line.replace("/R", &format!("/{absent}")), body, &[]).await;
        assert_eq!((found.status, &found.body), (404, &none.body), "{line}");
        assert_eq!(none.status, 404, "{line}");
    }
    let history = gets(&node, &ann, 200, &format!("GET /v1/rooms/{hidden}/entries"), Value::Null).await;
    assert_eq!(seqs(&history), [1, 2], "nothing of all that left a trace");
}
