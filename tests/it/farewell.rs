//! Farewells over HTTP, against a real node: accounts that are deleted, by themselves and by others, what is left of them, and what one
//! takes along.

use super::identity::{Answered, NEW, PASSWORD, call, code, counts, hubbub, login, mfa_token, text, with_email, with_totp};
use super::support::{RawSocket, SOON, TestNode, TestUser, eventually};
use serde_json::{Value, json};

/// A room of these users, the first of whom owns it.
async fn room(socket: &mut RawSocket, kind: &str, members: &[&TestUser]) -> String {
    let members: Vec<String> = members.iter().map(|m| m.id.to_string()).collect();
    let mut fields = json!({ "kind": kind, "members": members, "cid": uuid::Uuid::new_v4().to_string() });
    if kind != "direct" {
        fields["name"] = "a room".into();
    }
    text(&socket.ask("create", fields).await, "room")
}

/// Sends, and gives the seq.
async fn send(socket: &mut RawSocket, room: &str, says: &str) -> Value {
    let sent = socket.ask("send", json!({ "room": room, "text": says, "cid": uuid::Uuid::new_v4().to_string() })).await;
    assert_eq!(sent["op"], "ok", "{sent}");
    sent["seq"].clone()
}

/// Waits for an entry among the pushes that says of `user` what `fits` looks for.
async fn told(socket: &mut RawSocket, fits: impl Fn(&Value) -> bool) {
    let end = tokio::time::Instant::now() + SOON;
    while !socket.pushes.iter().any(&fits) {
        assert!(tokio::time::Instant::now() < end, "not told: {:#?}", socket.pushes);
        let value = socket.value().await;
        socket.pushes.push(value);
    }
}

#[tokio::test]
async fn a_deleted_account_is_gone_and_its_rooms_know() {
    let mut node = TestNode::start().await;
    let (alice, bob, carol) = (node.user("alice").await, node.user("bob").await, node.user("carol").await);
    with_email(&node, &alice, "alice@example.org").await;
    let (_, codes) = with_totp(&node, &alice).await;
    let (mut a, mut b) = (RawSocket::live(&node, &alice).await, RawSocket::live(&node, &bob).await);
    let group = room(&mut a, "group", &[&bob, &carol]).await;
    let direct = room(&mut a, "direct", &[&bob]).await;
    let alone = room(&mut a, "channel", &[]).await;
    let archived = room(&mut a, "group", &[&bob]).await;
    call(&node, "PATCH", &format!("/v1/rooms/{archived}"), &alice.token, json!({ "archived": true })).await.done(200);
    for room in [&group, &direct, &alone] {
        send(&mut a, room, "remember me").await;
    }
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        call(&node, "PUT", &format!("/v1/contacts/{}", to.id), &from.token, json!({})).await.done(200);
    }
    let delete = |body: Value| call(&node, "DELETE", "/v1/me", &alice.token, body);
    assert_eq!(delete(json!({ "password": "wrong horse", "code": codes[0] })).await.refused(), (401, "bad_credentials".into()));
    assert_eq!(delete(json!({ "password": PASSWORD })).await.refused(), (401, "bad_credentials".into()), "the second factor too");
    assert!(counts(&node, &alice.token).await);
    delete(json!({ "password": PASSWORD, "code": codes[0] })).await.done(204);

    assert_eq!(a.closed().await, 4203);
    assert!(!counts(&node, &alice.token).await);
    assert_eq!(login(&node, "alice", PASSWORD).await.refused(), (401, "bad_credentials".into()), "as if she had never been");
    // Her last owner's role went to somebody, and then she left: both are entries.
    let member = |p: &Value| p.to_string().contains("\"member\"");
    told(&mut b, |p| member(p) && p.to_string().contains(&alice.id.to_string()) && p.to_string().contains("leave")).await;
    assert!(b.pushes.iter().any(|p| member(p) && p.to_string().contains("owner")), "{:#?}", b.pushes);
    eventually("the deletion is done", SOON, || async { node.log().contains("an account was deleted") }).await;
    let members = b.ask("members", json!({ "room": group })).await;
    let ids: Vec<&str> = members["members"].as_array().unwrap().iter().map(|m| m["user"].as_str().unwrap()).collect();
    assert!(ids.len() == 2 && !ids.contains(&alice.id.to_string().as_str()), "{members}");
    assert_eq!(members["members"].as_array().unwrap().iter().filter(|m| m["role"] == "owner").count(), 1);
    let left = call(&node, "GET", &format!("/v1/rooms/{archived}"), &bob.token, Value::Null).await.done(200);
    assert_eq!((&left["archived"], &left["members"], &left["role"]), (&json!(true), &json!(1), &json!("owner")), "{left}");
    // What she wrote stays, by nobody who can be found.
    let history = b.ask("history", json!({ "room": direct })).await;
    assert!(history.to_string().contains("remember me"), "{history}");
    let found = call(&node, "GET", "/v1/users/by-name/alice", &bob.token, Value::Null).await;
    assert_eq!(found.refused(), (404, "not_found".into()));
    let tombstone = call(&node, "GET", &format!("/v1/users/{}", alice.id), &bob.token, Value::Null).await.done(200);
    let name = format!("deleted:{}", alice.id);
    let empty =
        json!({ "user": alice.id, "name": name, "display_name": name, "avatar_url": "", "status": "", "bot": false, "deleted": true });
    assert_eq!(tombstone, empty);
    let contacts = call(&node, "GET", "/v1/contacts", &bob.token, Value::Null).await.done(200);
    assert!(!contacts.to_string().contains(&alice.id.to_string()), "{contacts}");
    // Nobody gets her name; her address is free.
    let register = call(&node, "POST", "/v1/auth/register", "", json!({ "name": "alice", "password": NEW })).await;
    assert_eq!(register.refused(), (409, "conflict".into()));
    with_email(&node, &bob, "alice@example.org").await;
    // It stays so.
    node.kill9().await;
    node.restart().await;
    assert_eq!(login(&node, "alice", PASSWORD).await.refused(), (401, "bad_credentials".into()));
}

#[tokio::test]
async fn a_deletion_that_was_answered_is_finished_also_after_a_kill() {
    let mut node = TestNode::start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let mut a = RawSocket::live(&node, &alice).await;
    let mut rooms = Vec::new();
    for _ in 0..30 {
        rooms.push(room(&mut a, "group", &[&bob]).await);
    }
    call(&node, "DELETE", "/v1/me", &alice.token, json!({ "password": PASSWORD })).await.done(204);
    node.kill9().await;
    node.restart().await;
    eventually("every room is left", SOON, || async {
        let mut b = RawSocket::live(&node, &bob).await;
        let members = members_of(&mut b, &rooms).await;
        members.iter().all(|m| !m.contains(&alice.id.to_string()))
    })
    .await;
    let register = call(&node, "POST", "/v1/auth/register", "", json!({ "name": "alice", "password": NEW })).await;
    assert_eq!(register.refused(), (409, "conflict".into()));
    eventually("the name is given up", SOON, || async {
        let users = node.operate("GET", "/admin/users?limit=100", None).await.unwrap();
        users.to_string().contains(&format!("deleted:{}", alice.id)) && !users.to_string().contains("\"alice\"")
    })
    .await;
}

async fn members_of(socket: &mut RawSocket, rooms: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for room in rooms {
        all.push(socket.ask("members", json!({ "room": room })).await["members"].to_string());
    }
    all
}

#[tokio::test]
async fn an_export_holds_everything_of_ones_own_and_nothing_of_others() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    with_email(&node, &alice, "alice@example.org").await;
    let (mut a, mut b) = (RawSocket::live(&node, &alice).await, RawSocket::live(&node, &bob).await);
    let group = room(&mut a, "group", &[&bob]).await;
    for n in 0..450 {
        send(&mut a, &group, &format!("mine {n}")).await;
    }
    let theirs = send(&mut b, &group, "not hers").await;
    let cid = || uuid::Uuid::new_v4().to_string();
    let reacted = a.ask("react", json!({ "room": group, "seq": theirs, "emoji": "👍", "on": true, "cid": cid() })).await;
    assert_eq!(reacted["op"], "ok", "{reacted}");
    assert_eq!(a.ask("cursor", json!({ "room": group, "read": theirs })).await["op"], "ok");
    call(&node, "PUT", &format!("/v1/rooms/{group}/notify"), &alice.token, json!({ "level": "mentions" })).await.done(200);
    let other = room(&mut b, "group", &[]).await;
    send(&mut b, &other, "not hers either").await;
    let (url, token) = (format!("{}/v1/me/export", node.url()), alice.token.clone());
    let read =
        move || ureq::get(&url).header("authorization", format!("Bearer {token}")).call().unwrap().body_mut().read_to_string().unwrap();
    let whole = tokio::task::spawn_blocking(read).await.unwrap();
    let export: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(export["complete"], true);
    assert_eq!((text(&export["account"], "name"), text(&export["account"], "email")), ("alice".into(), "alice@example.org".into()));
    assert_eq!(export["rooms"].as_array().unwrap().len(), 1);
    let texts: Vec<String> = export["messages"].as_array().unwrap().iter().map(|m| m.to_string()).collect();
    assert_eq!(texts.len(), 450);
    assert!((0..450).all(|n| texts[n].contains(&format!("\"mine {n}\""))), "in order, over several pages");
    assert_eq!(export["reactions"], json!([{ "room": group, "seq": theirs, "emoji": "👍" }]));
    let (room, device) = (&export["rooms"][0], &export["devices"][0]);
    assert_eq!((&room["read"], &room["notify"]["level"], &device["current"]), (&theirs, &json!("mentions"), &Value::Null), "{room}");
    assert!(!whole.contains("not hers") && !whole.contains("argon2"), "neither others' messages nor secrets");
    assert_eq!(export["devices"].as_array().unwrap().len(), 1);
    assert_eq!(call(&node, "GET", "/v1/me/export", "", Value::Null).await.refused().0, 401);
}

/// An API key with these scopes.
async fn key(node: &TestNode, scopes: &[&str], user: Option<&str>) -> String {
    let made = node.operate("POST", "/admin/api-keys", Some(json!({ "name": "k", "scopes": scopes, "user": user }))).await.unwrap();
    text(&made, "key")
}

async fn gone(node: &TestNode, id: &str, who: &TestUser) {
    eventually("a tombstone is left", SOON, || async {
        call(node, "GET", &format!("/v1/users/{id}"), &who.token, Value::Null).await.body.contains("\"deleted\":true")
    })
    .await;
}

#[tokio::test]
async fn an_embedders_key_deletes_who_has_no_password_and_all_that_acts_as_them() {
    let node = TestNode::start().await;
    let alice = node.user("alice").await;
    let mut a = RawSocket::live(&node, &alice).await;
    let group = room(&mut a, "group", &[]).await;
    let hook = node.operate("POST", "/admin/incoming-hooks", Some(json!({ "room": group, "name": "Echo" }))).await.unwrap();
    let (bot, path) = (text(&hook, "user"), text(&hook, "path"));
    let keys = key(&node, &["users:write"], None).await;
    let bound = key(&node, &["users:write"], Some(&bot)).await;
    assert_eq!(call(&node, "DELETE", &format!("/v1/users/{}", alice.id), &bound, Value::Null).await.refused(), (403, "forbidden".into()));
    let reading = key(&node, &["messages:read"], None).await;
    assert_eq!(call(&node, "DELETE", &format!("/v1/users/{bot}"), &reading, Value::Null).await.refused(), (403, "forbidden".into()));
    assert_eq!(call(&node, "DELETE", &format!("/v1/users/{bot}"), &alice.token, Value::Null).await.refused(), (403, "forbidden".into()));
    call(&node, "POST", &path, "", json!({ "text": "still here" })).await.done(201);
    call(&node, "DELETE", &format!("/v1/users/{bot}"), &keys, Value::Null).await.done(204);
    gone(&node, &bot, &alice).await;
    assert_eq!(call(&node, "POST", &path, "", json!({ "text": "and now?" })).await.refused(), (404, "not_found".into()));
    assert_eq!(call(&node, "GET", "/v1/me", &bound, Value::Null).await.refused().0, 401);
    let left = node.operate("GET", "/admin/api-keys", None).await.unwrap().to_string();
    assert!(!left.contains(&bot), "{left}");
    assert_eq!(call(&node, "DELETE", &format!("/v1/users/{bot}"), &keys, Value::Null).await.refused(), (404, "not_found".into()));
    assert!(a.ask("history", json!({ "room": group })).await.to_string().contains("still here"), "what it said stays");
    // Its name is nobody's again, whichever way somebody is made.
    call(&node, "DELETE", &format!("/v1/users/{}", alice.id), &keys, Value::Null).await.done(204);
    eventually("signed out", SOON, || async { !counts(&node, &alice.token).await }).await;
    let bob = node.user("bob").await;
    gone(&node, &alice.id.to_string(), &bob).await;
    let again = call(&node, "POST", "/v1/users", &keys, json!({ "name": "alice" })).await;
    assert_eq!(again.refused(), (409, "conflict".into()));
    let other = call(&node, "POST", "/v1/users", &keys, json!({ "name": "alice", "external_id": "1" })).await.done(201);
    assert_eq!(text(&other, "name"), "alice-2");
    // Who has no password here cannot be asked for it.
    let id = text(&other, "user");
    let bound = key(&node, &["users:write"], Some(&id)).await;
    assert_eq!(call(&node, "DELETE", "/v1/me", &bound, json!({ "password": "" })).await.refused(), (403, "forbidden".into()));
}

#[tokio::test]
async fn an_operator_deletes_accounts_and_lets_in_who_lost_the_second_factor_also_while_no_server_runs() {
    let mut node = TestNode::start().await;
    let (alice, bob, carol) = (node.user("alice").await, node.user("bob").await, node.user("carol").await);
    with_totp(&node, &alice).await;
    mfa_token(&node, "alice").await;
    hubbub(&node, &["user", "no-totp", "alice"]).await;
    login(&node, "alice", PASSWORD).await.done(200);
    let (secret, _) = with_totp(&node, &carol).await;
    hubbub(&node, &["user", "delete", "bob", "--yes"]).await;
    assert!(!counts(&node, &bob.token).await);
    gone(&node, &bob.id.to_string(), &alice).await;
    node.stop().await;
    hubbub(&node, &["user", "no-totp", "carol"]).await;
    hubbub(&node, &["user", "delete", "alice", "--yes"]).await;
    node.restart().await;
    login(&node, "carol", PASSWORD).await.done(200);
    gone(&node, &alice.id.to_string(), &carol).await;
    assert!(code(&secret, 0).len() == 6 && login(&node, "alice", PASSWORD).await.refused() == (401, "bad_credentials".into()));
}

#[tokio::test]
async fn what_an_api_key_changes_is_written_down_with_the_key_and_whom_it_acts_as() {
    let node = TestNode::start().await;
    let alice = node.user("alice").await;
    let key = key(&node, &["users:write"], None).await;
    let id = key.split('_').nth(1).unwrap().to_owned();
    let made = call(&node, "POST", "/v1/users", &key, json!({ "name": "robot", "bot": true })).await.done(201);
    let me = |method: &'static str, body: Value| {
        let (node, key, alice) = (&node, &key, &alice);
        async move { super::identity::call_with(node, method, "/v1/me", key, &format!("\r\nHubbub-As: {}", alice.id), &body).await }
    };
    me("GET", Value::Null).await.done(200);
    me("PATCH", json!({ "status": "away" })).await.done(200);
    assert_eq!(me("DELETE", json!({ "password": PASSWORD })).await.refused().0, 403);
    call(&node, "DELETE", "/v1/users/1", &key, Value::Null).await.refused();
    let log = node.operate("GET", "/admin/audit", None).await.unwrap();
    let mut acts: Vec<_> = log["items"].as_array().unwrap().iter().filter(|d| d["by"] == format!("key:{id}")).collect();
    acts.reverse();
    let said: Vec<_> = acts.iter().map(|d| (d["act"].as_str().unwrap(), d["status"].as_u64().unwrap(), d["note"].as_str())).collect();
    let as_alice = format!("as user:{}", alice.id);
    let wanted = [("POST /v1/users", 201, None), ("PATCH /v1/me", 200, Some(as_alice.as_str())), ("DELETE /v1/users/{user}", 404, None)];
    assert_eq!(said, wanted, "neither what only reads nor what was refused for want of a scope");
    assert!(acts.iter().all(|d| d["from"] == "127.0.0.1") && !log.to_string().contains("robot"), "{log}");
    assert!(!made.is_null());
}
