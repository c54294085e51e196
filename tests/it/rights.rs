//! P8: nobody reads, writes or learns of what their membership does not allow, also while that changes. Who may do what at rest is the
//! table of `matrix.rs`.

use super::support::{RawSocket, SOON, TestClient, TestNode, TestUser, eventually, http, judge};
use hubbub::auth::tokens::Tokens;
use hubbub::check::Options as Rules;
use hubbub::client::{Connection, Options};
use hubbub::config;
use hubbub::protocol::codec::Format;
use hubbub::protocol::entry::RoomKind;
use hubbub::protocol::ids::{ClientId, RoomId, Seq, UserId};
use hubbub::protocol::ops::{Have, InRoom, OnMember, Push, Request, Resume, Standing};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const QUIET: Duration = Duration::from_millis(300);

fn cid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Fields that make an entry, with a fresh client id.
fn once(mut fields: Value) -> Value {
    fields["cid"] = cid().into();
    fields
}

fn room_of(answer: &Value) -> String {
    answer["room"].as_str().unwrap_or_else(|| panic!("no room: {answer}")).to_owned()
}

/// An answer as a letter: `+` done, `F` forbidden, `C` conflict.
fn letter(answer: &Value) -> char {
    match (answer["op"].as_str(), answer["code"].as_str()) {
        (Some("ok"), _) => '+',
        (_, Some("forbidden")) => 'F',
        (_, Some("conflict")) => 'C',
        _ => '?',
    }
}

fn in_room(room: RoomId) -> InRoom {
    InRoom { room, cid: ClientId::fresh(), since: 0 }
}
fn on_member(room: RoomId, user: UserId) -> OnMember {
    OnMember { room, user, cid: ClientId::fresh(), since: 0 }
}

/// The greatest seq of a room among pushes.
fn greatest(pushes: &[Push], room: RoomId) -> Seq {
    let of = |push: &Push| match push {
        Push::Entry(e) if e.room == room => e.seq,
        Push::Entries(page) if page.room == room => page.entries.last().map_or(0, |e| e.seq),
        _ => 0,
    };
    pushes.iter().map(of).max().unwrap_or(0)
}

/// Reads the whole log by a resume on a connection of its own; gives everything that came until it was over, and for a while after.
async fn resumes(url: String, user: TestUser, room: RoomId) -> Vec<Push> {
    let (connection, mut pushes) = Connection::open(&url, &user.token, Format::Msgpack, &Options::default()).await.expect("connects");
    let asking = connection.clone();
    let asked =
        tokio::spawn(async move { asking.request(Request::Resume(Resume { rooms: vec![Have { room, have: 0 }], last: true })).await });
    let mut all = Vec::new();
    while let Ok(Some(push)) = tokio::time::timeout(QUIET * 3, pushes.recv()).await {
        all.push(push);
    }
    asked.await.expect("no panic").expect("the resume");
    connection.close().await;
    all
}

#[tokio::test]
async fn who_was_kicked_gets_nothing_more() {
    let node = TestNode::start().await;
    let owner = TestClient::connect(&node, &node.user("owner").await, "owner").await;
    let mut out = Vec::new();
    for name in ["kicked", "banned", "leaves", "resuming"] {
        out.push(TestClient::connect(&node, &node.user(name).await, name).await);
    }
    let stays = Arc::new(TestClient::connect(&node, &node.user("stays").await, "stays").await);
    let ids: Vec<UserId> = out.iter().chain([&*stays]).map(|c| c.user.id).collect();
    let room = owner.create(RoomKind::Group, &ids).await;
    for client in out.iter().chain([&*stays]) {
        client.reaches(room, 1).await;
    }
    // A log that takes a while to resume.
    let bodies = (0..2_000).map(|i| owner.request(owner.message(room, &format!("before {i}"))));
    futures_util::future::try_join_all(bodies).await.expect("sent");

    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let (stop, stays) = (stop.clone(), stays.clone());
        tokio::spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let some = (0..8).map(|i| stays.request(stays.message(room, &format!("load {sent} {i}"))));
                futures_util::future::try_join_all(some).await.expect("sent");
                sent += 8;
            }
        })
    };
    let began: Vec<_> = (0..6).map(|_| tokio::spawn(resumes(node.url(), out[3].user.clone(), room))).collect();
    let mut ends = HashMap::new();
    for (index, request) in [
        (3, owner.request(Request::Kick(on_member(room, out[3].user.id)))),
        (0, owner.request(Request::Kick(on_member(room, out[0].user.id)))),
        (1, owner.request(Request::Ban(on_member(room, out[1].user.id)))),
    ] {
        ends.insert(index, request.await.expect("put out").seq.expect("an entry"));
    }
    ends.insert(2, out[2].request(Request::Leave(in_room(room))).await.expect("left").seq.expect("an entry"));
    let last_end = *ends.values().max().expect("four");
    stays.reaches(room, last_end + 200).await;
    owner.request(Request::Typing(hubbub::protocol::ops::Typing { room, on: true })).await.expect("types");
    stop.store(true, Ordering::Relaxed);
    load.await.expect("the load");
    tokio::time::sleep(QUIET).await;

    for resumed in began {
        let pushes = resumed.await.expect("no panic");
        assert!(greatest(&pushes, room) <= ends[&3], "a resume gave {} and the kick was {}", greatest(&pushes, room), ends[&3]);
    }
    for (index, client) in out.iter_mut().enumerate() {
        let (end, name) = (ends[&index], client.user.name.clone());
        let pushes = client.take_pushes();
        assert_eq!(greatest(&pushes, room), end, "{name}: the entry that says so is the last");
        assert!(!pushes.iter().any(|p| matches!(p, Push::Typing(_))), "{name} was told who types");
        // Nor does asking help.
        client.reconnect(&node).await;
        assert_eq!(greatest(&client.take_pushes(), room), 0, "{name} resumes");
        assert_eq!(client.view(|r| r.rooms().count()), 0, "{name} forgot the room");
    }
    owner.read_log(&node, room).await;
    judge(out.iter().chain([&owner, &*stays]), &Rules::default());
}

/// Every request on a room that a stranger could try, with its fields.
fn tries(room: &str, other: &str) -> Vec<(&'static str, Value)> {
    let mut tries = vec![
        ("send", json!({ "text": "let me in" })),
        ("send", json!({ "text": "let me in", "since": 5 })),
        ("send", json!({ "text": "let me in", "since": 1u64 << 40 })),
        ("edit", json!({ "seq": 2, "text": "edited" })),
        ("delete", json!({ "seq": 2 })),
        ("react", json!({ "seq": 2, "emoji": "x", "on": true })),
        ("pin", json!({ "seq": 2, "on": true })),
        ("typing", json!({ "on": true })),
        ("cursor", json!({ "read": 2 })),
        ("history", json!({})),
        ("history", json!({ "after": 0, "limit": 200 })),
        ("history", json!({ "around": 2 })),
        ("members", json!({})),
        ("join", json!({})),
        ("leave", json!({})),
        ("leave", json!({ "since": 1u64 << 40 })),
        ("invite", json!({ "user": other })),
        ("kick", json!({ "user": other })),
        ("ban", json!({ "user": other })),
        ("unban", json!({ "user": other })),
        ("role", json!({ "user": other, "role": "owner" })),
        ("update", json!({ "name": "mine now" })),
    ];
    for (_, fields) in &mut tries {
        fields["room"] = room.into();
        fields["cid"] = cid().into();
    }
    tries
}

#[tokio::test]
async fn nobody_reads_or_writes_where_they_are_no_member() {
    let node = TestNode::start().await;
    let (alice, bob, eve) = (node.user("alice").await, node.user("bob").await, node.user("eve").await);
    let member = TestClient::connect(&node, &alice, "alice").await;
    let group = member.create(RoomKind::Group, &[bob.id]).await;
    let direct = member.create(RoomKind::Direct, &[bob.id]).await;
    for room in [group, direct] {
        member.send(room, "a secret").await;
    }
    let (absent, mut stranger) = (RoomId(direct.0 + 1).to_string(), RawSocket::live(&node, &eve).await);
    for hidden in [group, direct].map(|r| r.to_string()) {
        let other = bob.id.to_string();
        for ((op, fields), (_, nowhere)) in tries(&hidden, &other).into_iter().zip(tries(&absent, &other)) {
            let mut found = stranger.ask(op, fields.clone()).await;
            let mut expected = stranger.ask(op, nowhere).await;
            (found["ref"], expected["ref"]) = (Value::Null, Value::Null);
            let text = |v: &Value| v.to_string().replace(&hidden, "R").replace(&absent, "R");
            assert_eq!(text(&found), text(&expected), "{op} {fields}: a hidden room is told from one that is not there");
            assert_eq!(found["code"], "not_found", "{op} {fields}");
        }
        for have in [0, 1, 2, 3, 1u64 << 40] {
            let rooms = json!([{ "room": hidden, "have": have }, { "room": absent, "have": have }]);
            let answer = stranger.ask("resume", json!({ "rooms": rooms })).await;
            assert_eq!(answer["op"], "ok");
        }
    }
    let expected = |p: &Value| p["op"] == "room" && p["standing"] == "left" && p["head"] == 0 && p["summary"].is_null();
    assert_eq!(stranger.pushes.len(), 20);
    assert!(stranger.pushes.iter().all(expected), "{:?}", stranger.pushes);
    let watched = stranger.ask("watch", json!({ "users": [alice.id.to_string()], "on": true })).await;
    assert_eq!(watched["presence"], json!([]), "{watched}");
    assert_eq!(stranger.ask("rooms", json!({})).await["rooms"], json!([]));

    // Nothing of all that left a trace, and nothing that happens now reaches the stranger.
    stranger.pushes.clear();
    for room in [group, direct] {
        let sent = member.send(room, "another secret").await;
        assert_eq!(sent.seq, Some(3), "somebody else wrote");
        member.reaches(room, 3).await;
    }
    assert!(!member.take_pushes().iter().any(|p| matches!(p, Push::Typing(_) | Push::Receipt(_))), "the stranger was seen");
    tokio::time::sleep(QUIET).await;
    assert_eq!(stranger.ask("ping", json!({})).await["op"], "ok");
    assert_eq!(stranger.pushes, Vec::<Value>::new());
    member.read_log(&node, group).await;
    member.read_log(&node, direct).await;
    judge([&member], &Rules::default());
}

const SECRET: &str = "a secret that only this test knows, 32 bytes and more";

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let node = TestNode::builder().set("auth.secret", SECRET).start().await;
    let user = node.user("alice").await;
    let tokens = Tokens::new(SECRET.as_bytes(), &config::Auth::default()).expect("a ring");
    // Both were made after the sign-in, by the server's own key: only the time of one is over.
    let (expired, ends) = tokens.issue_for(user.id, user.device, now_ms(), 1_000);
    let (good, _) = tokens.issue_for(user.id, user.device, now_ms(), 60_000);
    tokio::time::sleep(Duration::from_millis(ends.saturating_sub(now_ms()) + 10)).await;

    let mut socket = RawSocket::json(&node).await;
    let answer = socket.ask("auth", json!({ "token": expired })).await;
    assert_eq!((&answer["op"], &answer["code"]), (&json!("error"), &json!("token_expired")), "{answer}");
    assert_eq!(socket.closed().await, 4202);

    let mut socket = RawSocket::offering(&node, &format!("hubbub.v1.json, hubbub.bearer.{expired}")).await;
    assert_eq!(socket.closed().await, 4202);
    assert!(!socket.pushes.iter().any(|p| p["op"] == "hello"), "{:?}", socket.pushes);

    let get = |token: &str| format!("GET /v1/me HTTP/1.1\r\nAuthorization: Bearer {token}");
    let refused = http(node.address(), &get(&expired), "").await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "token_expired"));
    assert_eq!(http(node.address(), &get(&good), "").await.status, 200);

    let mut socket = RawSocket::json(&node).await;
    assert_eq!(socket.ask("auth", json!({ "token": good })).await["op"], "hello");
    let answer = socket.ask("refresh", json!({ "token": expired })).await;
    assert_eq!(answer["code"], "token_expired", "{answer}");
    assert_eq!(socket.ask("ping", json!({})).await["op"], "ok", "the good token still counts");
}

#[tokio::test]
async fn a_pair_has_one_direct_room_however_many_open_it_at_once() {
    let node = TestNode::start().await;
    let alice = TestClient::connect(&node, &node.user("alice").await, "alice").await;
    let bob = TestClient::connect(&node, &node.user("bob").await, "bob").await;
    let opens = (0..50).map(|i| {
        let (me, other) = if i % 2 == 0 { (&alice, bob.user.id) } else { (&bob, alice.user.id) };
        async move { me.create(RoomKind::Direct, &[other]).await }
    });
    let rooms: BTreeSet<RoomId> = futures_util::future::join_all(opens).await.into_iter().collect();
    assert_eq!(rooms.len(), 1, "{rooms:?}");
    let room = *rooms.first().expect("one");
    alice.reaches(room, 1).await;
    bob.reaches(room, 1).await;
    alice.send(room, "hello").await;
    bob.reaches(room, 2).await;
    alice.read_log(&node, room).await;
    judge([&alice, &bob], &Rules::default());
}

#[tokio::test]
async fn a_group_is_created_once_per_client_id() {
    let node = TestNode::start().await;
    let alice = node.user("alice").await;
    let (mut one, mut two) = (RawSocket::live(&node, &alice).await, RawSocket::live(&node, &alice).await);
    let ask = json!({ "kind": "group", "name": "Lunch", "cid": cid() });
    let first = one.ask("create", ask.clone()).await;
    assert_eq!((&first["seq"], &first["n"]), (&json!(1), &json!(0)), "{first}");
    assert!(first["id"].is_string() && first["at"].is_u64(), "{first}");
    for socket in [&mut one, &mut two] {
        let again = socket.ask("create", ask.clone()).await;
        assert_eq!(again["room"], first["room"], "{again}");
    }
    let other = json!({ "kind": "group", "name": "Dinner", "cid": ask["cid"] });
    assert_eq!(two.ask("create", other).await["code"], "conflict");
    assert_eq!(two.ask("rooms", json!({})).await["rooms"].as_array().expect("a list").len(), 1);
    // Whom one cannot see one cannot open a room with.
    let absent = json!({ "kind": "direct", "members": ["123456789"], "cid": cid() });
    assert_eq!(one.ask("create", absent).await["code"], "not_found");
    let blocks = node.user("blocks").await;
    node.rest().call::<Value>("PUT", &format!("/v1/blocks/{}", alice.id), Some(&blocks.token), None).await.expect("blocked");
    let hidden = json!({ "kind": "direct", "members": [blocks.id.to_string()], "cid": cid() });
    assert_eq!(one.ask("create", hidden).await["code"], "not_found");
    let invite = once(json!({ "room": first["room"], "user": blocks.id.to_string() }));
    assert_eq!(one.ask("invite", invite).await["code"], "not_found");
}

#[tokio::test]
async fn a_room_keeps_an_owner() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (mut a, mut b) = (RawSocket::live(&node, &alice).await, RawSocket::live(&node, &bob).await);
    for kind in ["group", "channel"] {
        let create = json!({ "kind": kind, "name": "x", "members": [bob.id.to_string()], "cid": cid() });
        let room = room_of(&a.ask("create", create).await);
        let role = |user: &TestUser, role: &str| once(json!({ "room": room, "user": user.id.to_string(), "role": role }));
        let here = || once(json!({ "room": room }));
        assert_eq!(letter(&a.ask("leave", here()).await), 'C');
        assert_eq!(letter(&a.ask("role", role(&alice, "member")).await), 'C');
        assert_eq!(letter(&a.ask("role", role(&bob, "owner")).await), '+');
        // From here on there are two: either may go, then the other may not.
        assert_eq!(letter(&b.ask("role", role(&alice, "reader")).await), '+');
        assert_eq!(letter(&a.ask("send", once(json!({ "room": room, "text": "still?" }))).await), 'F', "a role counts at once");
        assert_eq!(letter(&b.ask("leave", here()).await), 'C');
        assert_eq!(letter(&a.ask("leave", here()).await), '+');
        // Alone, one may close the door behind oneself.
        assert_eq!(letter(&b.ask("leave", here()).await), '+');
    }
}

#[tokio::test]
async fn who_is_brought_in_gets_the_room_at_once_and_from_there() {
    let node = TestNode::start().await;
    let alice = TestClient::connect(&node, &node.user("alice").await, "alice").await;
    let bob = TestClient::connect(&node, &node.user("bob").await, "bob").await;
    let room = alice.create(RoomKind::Group, &[]).await;
    alice.send(room, "before bob").await;
    for round in 0..10 {
        let invited = alice.request(Request::Invite(on_member(room, bob.user.id).into())).await.expect("invited").seq.expect("an entry");
        let said = alice.send(room, &format!("hello bob {round}")).await.seq.expect("an entry");
        bob.reaches(room, said).await;
        let pushes = bob.take_pushes();
        let joined = pushes.iter().find_map(|p| match p {
            Push::Room(r) if r.room == room && r.standing == Standing::Joined => Some(r.from),
            _ => None,
        });
        assert_eq!(joined, Some(invited - 1), "round {round}: {pushes:?}");
        // Out and in again, faster than anybody could follow.
        alice.request(Request::Kick(on_member(room, bob.user.id))).await.expect("kicked");
        alice.request(Request::Invite(on_member(room, bob.user.id).into())).await.expect("invited");
        let again = alice.send(room, "are you still here?").await.seq.expect("an entry");
        bob.reaches(room, again).await;
        let kicked = alice.request(Request::Kick(on_member(room, bob.user.id))).await.expect("kicked").seq.expect("an entry");
        bob.expect_push("the kick", |p| {
            matches!(p, Push::Entry(e) if e.seq == kicked)
                || matches!(p, Push::Entries(page) if page.entries.iter().any(|e| e.seq == kicked))
        })
        .await;
    }
    alice.read_log(&node, room).await;
    judge([&alice, &bob], &Rules::default());
}

#[tokio::test]
async fn a_session_s_requests_on_a_room_take_effect_in_the_order_sent() {
    let node = TestNode::start().await;
    let alice = node.user("alice").await;
    let mut socket = RawSocket::live(&node, &alice).await;
    let create = json!({ "kind": "group", "name": "x", "cid": cid() });
    let room = room_of(&socket.ask("create", create).await);
    let mut answers = Vec::new();
    for n in 0..20 {
        let other = node.user(&format!("other{n}")).await.id.to_string();
        for op in ["invite", "role", "kick", "ban", "unban"] {
            let mut fields = once(json!({ "room": room, "user": other }));
            if op == "role" {
                fields["role"] = "reader".into();
            }
            answers.push((op, socket.request(op, fields).await));
        }
    }
    let mut seqs = Vec::new();
    let mut known = HashMap::new();
    while known.len() < answers.len() {
        let value = socket.value().await;
        if value["op"] == "ok" || value["op"] == "error" {
            known.insert(value["ref"].as_u64().expect("a ref"), value);
        }
    }
    for (op, reference) in answers {
        let answer = &known[&reference];
        assert_eq!(answer["op"], "ok", "{op}: {answer}");
        seqs.push(answer["seq"].as_u64().expect("an entry"));
    }
    assert!(seqs.is_sorted(), "{seqs:?}");
}

#[tokio::test]
async fn a_channel_is_joined_and_left_without_entries_and_that_survives_a_kill() {
    let mut node = TestNode::start().await;
    let owner = TestClient::connect(&node, &node.user("owner").await, "owner").await;
    let mut reader = TestClient::connect(&node, &node.user("reader").await, "reader").await;
    let gone = TestClient::connect(&node, &node.user("gone").await, "gone").await;
    let room = owner.create(RoomKind::Channel, &[]).await;
    for client in [&reader, &gone] {
        let joined = client.request(Request::Join(in_room(room))).await.expect("joined");
        assert_eq!(joined.seq, None, "joining a channel is no entry");
        client.expect_push("the channel", |p| matches!(p, Push::Room(r) if r.room == room && r.standing == Standing::Joined)).await;
        // Joining twice is joining once.
        assert!(client.request(Request::Join(in_room(room))).await.is_ok());
    }
    assert_eq!(owner.send(room, "welcome").await.seq, Some(2));
    gone.reaches(room, 2).await;
    reader.reaches(room, 2).await;
    gone.request(Request::Leave(in_room(room))).await.expect("left");
    gone.expect_push("the end", |p| matches!(p, Push::Room(r) if r.room == room && r.standing == Standing::Left)).await;
    assert_eq!(owner.send(room, "who is still here?").await.seq, Some(3), "leaving is no entry");
    reader.reaches(room, 3).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(greatest(&gone.take_pushes(), room), 0);

    node.kill9().await;
    node.restart().await;
    reader.reconnect(&node).await;
    assert_eq!(reader.send(room, "I am").await.seq, Some(4));
    let mut eve = RawSocket::live(&node, &gone.user).await;
    let answer = eve.ask("history", json!({ "room": room.to_string() })).await;
    assert_eq!(letter(&answer), 'F', "who left a channel is out after a crash, too: {answer}");
    eventually("the members are the two", SOON, || async {
        let answer =
            reader.request(Request::Members(hubbub::protocol::ops::Members { room, ..Default::default() })).await.expect("members");
        answer.members.map(|m| m.len()) == Some(2)
    })
    .await;
}
