//! Offline push: members without a connected device are told, once, by their own rules, whatever the push service answers and
//! whenever the server is killed.

use crate::strangers;
use crate::support::vendor::{Answer, Got, Vendor, browser, browser_secrets};
use crate::support::{Builder, RawSocket, SOON, TestClient, TestNode, TestUser, eventually};
use hmac::{Hmac, Mac};
use hubbub::client::ClientError;
use hubbub::error::Code;
use hubbub::protocol::entry::RoomKind;
use hubbub::protocol::ids::{ClientId, RoomId, Seq, UserId};
use hubbub::protocol::ops::{self, MoveCursor, Request};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Long enough for what must not come to have come.
const QUIET: Duration = Duration::from_millis(1_500);

/// A node that may call this machine and does not wait long.
fn builder() -> Builder {
    TestNode::builder()
        .set("outbound.allowed_ranges", "127.0.0.0/8")
        .set("outbound.timeout_ms", 700)
        .set("push.delay_ms", 150)
        .set("push.interval_ms", 200)
}

async fn call(node: &TestNode, method: &'static str, path: &str, user: &TestUser, body: Option<Value>) -> Result<Value, ClientError> {
    node.rest().call(method, path, Some(&user.token), body).await
}

async fn subscribe(node: &TestNode, user: &TestUser, endpoint: &str) {
    call(node, "PUT", "/v1/push/subscription", user, Some(browser(endpoint))).await.expect("subscribed");
}

async fn subscriptions(node: &TestNode, user: &TestUser) -> Vec<Value> {
    let all = call(node, "GET", "/v1/push/subscriptions", user, None).await.expect("a list");
    all["items"].as_array().expect("items").clone()
}

async fn notify(node: &TestNode, user: &TestUser, room: RoomId, level: Value) {
    call(node, "PUT", &format!("/v1/rooms/{room}/notify"), user, Some(level)).await.expect("set");
}

/// A node, alice who is connected, bob who is not and has a browser, and a group of both.
struct Scene {
    vendor: Vendor,
    node: TestNode,
    alice: TestClient,
    bob: TestUser,
    room: RoomId,
}

impl Scene {
    async fn of(builder: Builder) -> Scene {
        let (vendor, node) = (Vendor::start().await, builder.start().await);
        let (alice, bob) = (node.user("alice").await, node.user("bob").await);
        subscribe(&node, &bob, &vendor.at("/bob")).await;
        let alice = TestClient::connect(&node, &alice, "alice").await;
        let room = alice.create(RoomKind::Group, &[bob.id]).await;
        Scene { vendor, node, alice, bob, room }
    }
    async fn new() -> Scene {
        Scene::of(builder()).await
    }
    async fn send(&self, text: &str) -> Seq {
        self.alice.send(self.room, text).await.seq.expect("a seq")
    }
    async fn settled(&self, reason: &str) -> f64 {
        let text = self.node.metrics().await;
        let series = format!("hubbub_push_settled_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&series)).expect("the series").parse().expect("a number")
    }
    async fn eventually_settled(&self, reason: &str, count: f64) {
        eventually(&format!("{count} are settled as {reason}"), SOON, || async { self.settled(reason).await >= count }).await;
    }
}

/// The newest message that a push tells of.
fn seq_of(got: &Got) -> Seq {
    got.opened()["seq"].as_u64().expect("a seq")
}

fn ids(got: &[Got]) -> BTreeSet<String> {
    got.iter().map(|g| g.opened()["id"].as_str().expect("an id").to_owned()).collect()
}

fn mentioning(client: &TestClient, room: RoomId, who: &TestUser) -> Request {
    match client.message(room, "you there?") {
        Request::Send(send) => Request::Send(ops::Send { mentions: vec![who.id], ..send }),
        other => other,
    }
}

#[tokio::test]
async fn a_member_who_is_away_is_told_so_that_a_stranger_can_read_it() {
    let scene = Scene::of(builder().set("push.show_text", true).set("push.contact", "mailto:ops@example.org")).await;
    let seq = scene.send("hällo 👍").await;
    let got = scene.vendor.until_count("/bob", 1).await.remove(0);
    assert_eq!(got.header("content-encoding"), "aes128gcm");
    assert!((86_000..=86_400).contains(&got.header("ttl").parse().unwrap()), "{}", got.header("ttl"));
    assert_eq!(got.header("urgency"), "normal");

    let python = strangers::python_with("webpush-venv", &["http_ece==1.2.1", "cryptography"]).await;
    let (key, auth) = browser_secrets();
    let origin = scene.vendor.at("");
    let request = json!({ "body": hex::encode(&got.body), "authorization": got.header("authorization") }).to_string();
    let mut command = Command::new(python);
    command.arg(strangers::scripts().join("python_webpush.py")).args([&key, &auth, &origin]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", strangers::said(&output));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let plain = &read["plain"];
    assert_eq!(plain["room"], scene.room.to_string());
    assert_eq!((plain["seq"].as_u64(), plain["n"].as_u64(), plain["unread"].as_u64()), (Some(seq), Some(1), Some(1)));
    assert_eq!((&plain["title"], &plain["body"], &plain["user"]), (&"test".into(), &"hällo 👍".into(), &scene.bob.id.to_string().into()));
    assert_eq!(plain["id"], got.header("topic"));
    assert_eq!(read["claims"]["sub"], "mailto:ops@example.org");
    let known: Value = scene.node.rest().call("GET", "/v1/push/vapid", None, None).await.unwrap();
    assert_eq!(known["public_key"], read["key"]);
}

#[tokio::test]
async fn who_is_connected_or_has_no_subscription_is_not_told_and_without_leave_no_text_is() {
    let scene = Scene::new().await;
    let before = scene.node.metric("hubbub_offline_recipients_total").await;
    let there = TestClient::connect(&scene.node, &scene.bob, "bob").await;
    let seq = scene.send("bob is here").await;
    there.reaches(scene.room, seq).await;
    assert!(scene.vendor.after("/bob", QUIET).await.is_empty());
    assert_eq!(scene.node.metric("hubbub_offline_recipients_total").await, before);
    let mut there = there;
    there.disconnect().await;
    // Until the server has noticed, he may count as connected.
    eventually("bob is away", SOON, || async {
        let room = scene.alice.create(RoomKind::Direct, &[scene.bob.id]).await;
        scene.alice.send(room, "and now?").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        !scene.vendor.got("/bob").is_empty()
    })
    .await;
    let told = scene.vendor.got("/bob")[0].opened();
    assert_eq!(told["title"], "alice");
    assert!(told.get("body").is_none(), "{told}");
    assert!(scene.node.metric("hubbub_offline_recipients_total").await > before);
    let carol = scene.node.user("carol").await;
    let room = scene.alice.create(RoomKind::Group, &[carol.id]).await;
    let jobs = scene.node.metric("hubbub_push_jobs_total").await;
    scene.alice.send(room, "carol has no browser").await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(scene.node.metric("hubbub_push_jobs_total").await, jobs);
}

#[tokio::test]
async fn what_came_to_a_connection_that_was_dead_already_is_pushed_when_that_is_noticed() {
    let scene = Scene::of(builder().set("socket.heartbeat_ms", 700).set("presence.offline_debounce_ms", 300)).await;
    let (node, bob) = (&scene.node, &scene.bob);
    // They answer no ping, as a phone does that lost its network.
    let dead = RawSocket::live(node, bob).await;
    let carol = node.user("carol").await;
    subscribe(node, &carol, &scene.vendor.at("/carol")).await;
    let other = scene.alice.create(RoomKind::Direct, &[carol.id]).await;
    let also_dead = RawSocket::live(node, &carol).await;
    let seq = scene.send("can you hear me?").await;
    scene.alice.send(other, "and you?").await;
    assert!(scene.vendor.after("/bob", Duration::from_millis(300)).await.is_empty(), "he counts as connected");
    let got = scene.vendor.until_count("/bob", 1).await.remove(0);
    assert_eq!((seq_of(&got), got.opened()["room"].as_str()), (seq, Some(scene.room.to_string().as_str())));
    scene.vendor.until_count("/carol", 1).await;
    drop((dead, also_dead));
    // Who is back by then is not told: a resume brings it.
    let dead = RawSocket::live(node, &carol).await;
    scene.alice.send(other, "and now?").await;
    let back = TestClient::connect(node, &carol, "carol").await;
    drop(dead);
    tokio::time::sleep(QUIET).await;
    assert_eq!(scene.vendor.got("/carol").len(), 1);
    drop(back);
}

#[tokio::test]
async fn a_subscription_that_is_over_is_removed() {
    for status in [404, 410] {
        let scene = Scene::new().await;
        assert_eq!(subscriptions(&scene.node, &scene.bob).await.len(), 1);
        scene.vendor.answer("/bob", [Answer::Status(status, "")]);
        scene.send("one").await;
        scene.eventually_settled("gone", 1.0).await;
        assert!(subscriptions(&scene.node, &scene.bob).await.is_empty(), "{status}");
        scene.send("two").await;
        assert_eq!(scene.vendor.after("/bob", QUIET).await.len(), 1, "{status}");
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_under_the_same_id_until_it_is_taken() {
    let scene = Scene::new().await;
    let hard = [Answer::Status(429, "Retry-After: 1\r\n"), Answer::Status(500, ""), Answer::Hang, Answer::Status(201, "")];
    scene.vendor.answer("/bob", hard);
    let began = tokio::time::Instant::now();
    scene.send("hard to bring").await;
    let got = scene.vendor.until_count("/bob", 4).await;
    assert!(began.elapsed() >= Duration::from_millis(1_000), "Retry-After was passed over");
    scene.eventually_settled("sent", 1.0).await;
    assert_eq!(ids(&got).len(), 1);
    let topics: BTreeSet<&str> = got.iter().map(|g| g.header("topic")).collect();
    assert_eq!(topics.into_iter().map(String::from).collect::<BTreeSet<_>>(), ids(&got));
    assert_eq!(scene.vendor.after("/bob", QUIET).await.len(), 4, "taken is taken");
}

#[tokio::test]
async fn every_push_thread_sends_what_is_its_own_at_once() {
    let (vendor, node) = (Vendor::start().await, builder().set("push.threads", 2).start().await);
    let mut away = Vec::new();
    for n in 0..8 {
        let user = node.user(&format!("user{n}")).await;
        subscribe(&node, &user, &vendor.at(&format!("/{n}"))).await;
        away.push(user.id);
    }
    let alice = TestClient::connect(&node, &node.user("alice").await, "alice").await;
    let room = alice.create(RoomKind::Group, &away).await;
    alice.send(room, "to all of you").await;
    for n in 0..8 {
        vendor.until_count(&format!("/{n}"), 1).await;
    }
}

/// Rooms of alice and the users, with a message in each.
async fn rooms_with_news(alice: &TestClient, users: &[UserId], count: usize) {
    let each = (0..count).map(|_| async {
        let room = alice.create(RoomKind::Group, users).await;
        alice.send(room, "news").await;
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test]
async fn a_device_that_answers_slowly_keeps_nobody_waiting() {
    let scene = Scene::of(builder().set("outbound.timeout_ms", 60_000)).await;
    scene.vendor.answer("/bob", (0..200).map(|_| Answer::Hang));
    // More than may wait in memory.
    rooms_with_news(&scene.alice, &[scene.bob.id], 140).await;
    scene.vendor.until_count("/bob", 1).await;
    let carol = scene.node.user("carol").await;
    subscribe(&scene.node, &carol, &scene.vendor.at("/carol")).await;
    rooms_with_news(&scene.alice, &[carol.id], 1).await;
    scene.vendor.until_count("/carol", 1).await;
    assert_eq!(scene.vendor.got("/bob").len(), 1, "one at a time");
}

#[tokio::test]
async fn what_a_failing_host_holds_up_is_passed_over() {
    let scene = Scene::new().await;
    let failing = Vendor::start().await;
    // In the store the jobs of the first devices come first, and all of them are one shard's.
    for path in ["/0", "/1", "/2", "/3"] {
        failing.answer(path, (0..1_000).map(|_| Answer::Status(503, "")));
        subscribe(&scene.node, &scene.node.user("bob").await, &failing.at(path)).await;
    }
    let healthy = scene.node.user("bob").await;
    subscribe(&scene.node, &healthy, &scene.vendor.at("/healthy")).await;
    rooms_with_news(&scene.alice, &[scene.bob.id], 20).await;
    scene.vendor.until_count("/healthy", 20).await;
    let asked: usize = (0..4).map(|n| failing.got(&format!("/{n}")).len()).sum();
    assert!(asked < 40, "a host that fails is left alone: {asked} requests");
}

#[tokio::test]
async fn signing_in_anew_in_one_browser_moves_its_subscription() {
    let scene = Scene::new().await;
    let again = scene.node.user("bob").await;
    subscribe(&scene.node, &again, &scene.vendor.at("/bob")).await;
    let all = subscriptions(&scene.node, &again).await;
    assert_eq!((all.len(), &all[0]["current"]), (1, &true.into()));
    scene.send("once").await;
    scene.vendor.until_count("/bob", 1).await;
    assert_eq!(scene.vendor.after("/bob", QUIET).await.len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_what_is_refused_is_given_up() {
    let scene = Scene::new().await;
    scene.vendor.answer("/bob", [Answer::Redirect("/inside"), Answer::Status(400, "")]);
    scene.send("one").await;
    scene.eventually_settled("refused", 1.0).await;
    scene.send("two").await;
    scene.eventually_settled("refused", 2.0).await;
    let third = scene.send("three").await;
    let got = scene.vendor.until_count("/bob", 3).await;
    assert_eq!(seq_of(&got[2]), third);
    assert!(scene.vendor.got("/inside").is_empty());
    assert_eq!(subscriptions(&scene.node, &scene.bob).await.len(), 1);
}

#[tokio::test]
async fn addresses_in_private_ranges_are_refused_at_the_subscription_and_at_the_push() {
    let node = TestNode::builder().set("push.delay_ms", 50).start().await;
    let bob = node.user("bob").await;
    for bad in [
        "http://127.0.0.1:1/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://10.1.2.3/x",
        "https://169.254.169.254/latest",
        "https://user:word@push.example.org/x",
        "ftp://push.example.org/x",
        "push.example.org",
    ] {
        let answer = call(&node, "PUT", "/v1/push/subscription", &bob, Some(browser(bad))).await;
        assert!(matches!(&answer, Err(ClientError::Api(e)) if e.code == Code::Invalid), "{bad}: {answer:?}");
    }
    // A name is looked up with each push: this one leads to where nobody may be led.
    call(&node, "PUT", "/v1/push/subscription", &bob, Some(browser("https://localhost:1/x"))).await.expect("a name may be anything");
    let alice = TestClient::connect(&node, &node.user("alice").await, "alice").await;
    let room = alice.create(RoomKind::Direct, &[bob.id]).await;
    alice.send(room, "into the house").await;
    eventually("the push is refused", SOON, || async {
        node.metrics().await.contains("hubbub_push_settled_total{reason=\"refused\"} 1\n")
    })
    .await;
}

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_pushed_after_it() {
    let mut scene = Scene::of(builder().set("push.delay_ms", 400).set("push.interval_ms", 0)).await;
    let mut sent = BTreeSet::new();
    for round in 0..3 {
        for n in 0..round + 1 {
            sent.insert(scene.send(&format!("{round}.{n}")).await);
        }
        // Between the acknowledgement and the job, or between the job and the attempt.
        scene.node.kill9().await;
        scene.node.restart().await;
        let last = *sent.last().expect("something was sent");
        let got = scene.vendor.until("/bob", "the last one is told of", |got| got.iter().any(|g| seq_of(g) == last)).await;
        let told: u64 = got.iter().map(|g| g.opened()["n"].as_u64().expect("a number")).sum();
        assert!(told as usize >= sent.len(), "{told} of {}", sent.len());
        scene.alice.reconnect(&scene.node).await;
    }
}

#[tokio::test]
async fn an_attempt_that_a_kill_interrupted_is_repeated_under_its_id() {
    let mut scene = Scene::of(builder().set("outbound.timeout_ms", 20_000)).await;
    scene.vendor.answer("/bob", [Answer::Hang]);
    scene.send("one").await;
    scene.vendor.until_count("/bob", 1).await;
    // It comes while the first is under way, and must not change what that is.
    scene.send("two").await;
    scene.node.kill9().await;
    scene.node.restart().await;
    let got = scene.vendor.until_count("/bob", 3).await;
    assert_eq!((seq_of(&got[0]), ids(&got[..2]).len()), (seq_of(&got[1]), 1));
    assert!(seq_of(&got[2]) > seq_of(&got[0]));
    assert_eq!(ids(&got).len(), 2);
}

#[tokio::test]
async fn what_is_read_elsewhere_just_before_is_not_pushed() {
    let scene = Scene::of(builder().set("push.delay_ms", 2_500)).await;
    let seq = scene.send("read me elsewhere").await;
    eventually("the job is there", SOON, || async { scene.node.metric("hubbub_push_jobs_total").await >= 1.0 }).await;
    let other = TestClient::connect(&scene.node, &scene.node.user("bob").await, "bob's other device").await;
    other.request(Request::Cursor(MoveCursor { room: scene.room, read: Some(seq), delivered: None })).await.expect("read");
    scene.eventually_settled("read", 1.0).await;
    assert!(scene.vendor.after("/bob", Duration::from_millis(200)).await.is_empty());
}

#[tokio::test]
async fn who_was_put_out_or_signed_out_just_before_is_not_told() {
    let scene = Scene::of(builder().set("push.delay_ms", 1_500)).await;
    scene.send("not for your eyes").await;
    let out = ops::OnMember { room: scene.room, user: scene.bob.id, cid: ClientId::fresh(), since: 0 };
    scene.alice.request(Request::Kick(out)).await.expect("kicked");
    scene.eventually_settled("left", 1.0).await;

    let carol = scene.node.user("carol").await;
    subscribe(&scene.node, &carol, &scene.vendor.at("/carol")).await;
    let room = scene.alice.create(RoomKind::Direct, &[carol.id]).await;
    scene.alice.send(room, "gone already?").await;
    eventually("the job is there", SOON, || async { scene.node.metric("hubbub_push_jobs_total").await >= 2.0 }).await;
    call(&scene.node, "POST", "/v1/auth/logout", &carol, Some(json!({}))).await.expect("signed out");
    eventually("it is settled", SOON, || async { scene.settled("unsubscribed").await + scene.settled("signed_out").await >= 1.0 }).await;
    // A new sign-in has no subscription of the old device.
    let again = scene.node.user("carol").await;
    assert!(subscriptions(&scene.node, &again).await.is_empty());
    assert!(scene.vendor.got("/bob").is_empty() && scene.vendor.got("/carol").is_empty());
}

#[tokio::test]
async fn level_mute_and_block_decide_who_is_told() {
    let scene = Scene::new().await;
    let (node, alice, bob) = (&scene.node, &scene.alice, &scene.bob);
    let carol = TestClient::connect(node, &node.user("carol").await, "carol").await;
    call(node, "PUT", &format!("/v1/blocks/{}", carol.user.id), bob, None).await.expect("blocked");
    let mut there = TestClient::connect(node, bob, "bob").await;
    let far = 4_000_000_000_000u64;
    // kind, level and mute as set (null: nothing set), mentioned, sent by whom he blocks: told?
    let table: &[(RoomKind, Value, bool, bool, bool)] = &[
        (RoomKind::Group, Value::Null, false, false, true),
        (RoomKind::Group, Value::Null, false, true, false),
        (RoomKind::Group, json!({"level": "all"}), false, false, true),
        (RoomKind::Group, json!({"level": "mentions"}), false, false, false),
        (RoomKind::Group, json!({"level": "mentions"}), true, false, true),
        (RoomKind::Group, json!({"level": "mentions"}), true, true, false),
        (RoomKind::Group, json!({"level": "none"}), true, false, false),
        (RoomKind::Group, json!({"level": "all", "muted_until": far}), true, false, false),
        (RoomKind::Group, json!({"level": "all", "muted_until": 1}), false, false, true),
        (RoomKind::Channel, Value::Null, false, false, false),
        (RoomKind::Channel, Value::Null, true, false, true),
        (RoomKind::Channel, Value::Null, true, true, false),
        (RoomKind::Channel, json!({"level": "all"}), false, false, true),
        (RoomKind::Channel, json!({"level": "all", "muted_until": far}), false, false, false),
        (RoomKind::Channel, json!({"level": "none"}), true, false, false),
    ];
    let mut rooms = Vec::new();
    for (kind, level, ..) in table {
        let members = if *kind == RoomKind::Group { vec![bob.id, carol.user.id] } else { vec![] };
        let room = alice.create(*kind, &members).await;
        if *kind == RoomKind::Channel {
            for joins in [&there, &carol] {
                let join = ops::InRoom { room, cid: ClientId::fresh(), since: 0 };
                joins.request(Request::Join(join)).await.expect("joined");
            }
        }
        if !level.is_null() {
            notify(node, bob, room, level.clone()).await;
            let read = call(node, "GET", &format!("/v1/rooms/{room}/notify"), bob, None).await.expect("the level");
            assert_eq!(&read, level);
        }
        rooms.push(room);
    }
    there.disconnect().await;
    eventually("bob is away", SOON, || async {
        alice.send(scene.room, "away?").await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        !scene.vendor.got("/bob").is_empty()
    })
    .await;
    let mut expected = BTreeSet::new();
    for ((_, _, mentioned, blocked, told), room) in table.iter().zip(&rooms) {
        let sender = if *blocked { &carol } else { alice };
        let request = if *mentioned { mentioning(sender, *room, bob) } else { sender.message(*room, "news") };
        sender.request(request).await.expect("sent");
        if *told {
            expected.insert(room.to_string());
        }
    }
    let told = |got: &[Got]| -> BTreeSet<String> {
        let rooms = got.iter().map(|g| g.opened()["room"].as_str().expect("a room").to_owned());
        rooms.filter(|room| *room != scene.room.to_string()).collect()
    };
    let came = scene.vendor.until("/bob", "all who are to be told are told", |got| told(got).is_superset(&expected)).await;
    assert_eq!(told(&came), expected);
    assert_eq!(told(&scene.vendor.after("/bob", QUIET).await), expected);
    let stranger = node.user("dave").await;
    let hidden = call(node, "GET", &format!("/v1/rooms/{}/notify", rooms[0]), &stranger, None).await;
    assert!(matches!(&hidden, Err(ClientError::Api(e)) if e.code == Code::NotFound), "{hidden:?}");
}

#[tokio::test]
async fn a_mention_by_an_edit_is_told_like_one_by_the_message() {
    let scene = Scene::new().await;
    notify(&scene.node, &scene.bob, scene.room, json!({"level": "mentions"})).await;
    let seq = scene.send("nobody in particular").await;
    assert!(scene.vendor.after("/bob", QUIET).await.is_empty());
    let (room, cid, mentions) = (scene.room, ClientId::fresh(), vec![scene.bob.id]);
    let edit = ops::EditMessage { room, seq, text: "@bob".into(), mentions, cid, since: seq };
    scene.alice.request(Request::Edit(edit)).await.expect("edited");
    let got = scene.vendor.until_count("/bob", 1).await.remove(0);
    assert_eq!((seq_of(&got), &got.opened()["mention"], got.header("urgency")), (seq, &true.into(), "high"));
}

#[tokio::test]
async fn a_burst_becomes_one_push_that_counts() {
    let scene = Scene::of(builder().set("push.delay_ms", 700)).await;
    let mut last = 0;
    for n in 0..20 {
        last = scene.send(&format!("{n}")).await;
    }
    let count = |got: &[Got]| got.iter().map(|g| g.opened()["n"].as_u64().expect("a number")).sum::<u64>();
    let got = scene.vendor.until("/bob", "all are told of", |got| count(got) >= 20).await;
    assert!(got.len() <= 2, "{} pushes", got.len());
    let newest = got.last().expect("one");
    assert_eq!((count(&got), seq_of(newest), newest.opened()["unread"].as_u64()), (20, last, Some(20)));
    assert_eq!(scene.vendor.after("/bob", QUIET).await.len(), got.len());
}

#[tokio::test]
async fn the_gateway_gets_what_it_can_check_and_ends_a_token_that_is_over() {
    let vendor = Vendor::start().await;
    let node = builder().set("push.gateway_url", vendor.at("/gateway")).start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    call(&node, "PUT", "/v1/push/subscription", &bob, Some(json!({"token": "apns:4711"}))).await.expect("subscribed");
    let shown = subscriptions(&node, &bob).await;
    assert_eq!((&shown[0]["kind"], &shown[0]["current"]), (&"gateway".into(), &true.into()));
    assert!(!shown[0].to_string().contains("4711"));
    let alice = TestClient::connect(&node, &alice, "alice").await;
    let room = alice.create(RoomKind::Direct, &[bob.id]).await;
    // A 404 comes from a wrong path as well: it ends the push, and not the token.
    vendor.answer("/gateway", [Answer::Status(202, ""), Answer::Status(404, ""), Answer::Status(410, "")]);
    alice.send(room, "hello").await;
    let got = vendor.until_count("/gateway", 1).await.remove(0);
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!((&body["token"], &body["push"]["room"]), (&"apns:4711".into(), &room.to_string().into()));
    assert_eq!(got.header("idempotency-key"), body["push"]["id"]);
    let secret = std::fs::read_to_string(node.data_dir().join("secrets/push_gateway.secret")).unwrap();
    let (time, given) = got.header("hubbub-signature").strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.trim().as_bytes()).unwrap();
    mac.update(format!("{time}.").as_bytes());
    mac.update(&got.body);
    assert_eq!(hex::encode(mac.finalize().into_bytes()), given);
    alice.send(room, "lost").await;
    eventually("it is given up", SOON, || async { node.metrics().await.contains("hubbub_push_settled_total{reason=\"refused\"} 1\n") })
        .await;
    assert_eq!(subscriptions(&node, &bob).await.len(), 1);
    alice.send(room, "and again").await;
    vendor.until_count("/gateway", 3).await;
    eventually("the token is forgotten", SOON, || async { subscriptions(&node, &bob).await.is_empty() }).await;
}

#[tokio::test]
async fn a_subscription_belongs_to_its_device_and_shows_nothing_that_opens_it() {
    let scene = Scene::new().await;
    let (node, bob) = (&scene.node, &scene.bob);
    let other = node.user("bob").await;
    subscribe(node, &other, &scene.vendor.at("/other")).await;
    let all = subscriptions(node, bob).await;
    assert_eq!(all.len(), 2);
    for shown in &all {
        assert_eq!(shown["current"], shown["device"] == bob.device.to_string());
        assert_eq!(shown["host"], scene.vendor.at(""));
        assert!(!shown.to_string().contains("/bob") && shown.get("keys").is_none());
    }
    let seq = scene.send("to both").await;
    for path in ["/bob", "/other"] {
        assert_eq!(seq_of(&scene.vendor.until_count(path, 1).await[0]), seq);
    }
    call(node, "DELETE", "/v1/push/subscription", bob, None).await.expect("ended");
    scene.send("to the other").await;
    scene.vendor.until_count("/other", 2).await;
    assert_eq!(scene.vendor.after("/bob", QUIET).await.len(), 1);
    let bad = [
        json!({}),
        json!({"endpoint": scene.vendor.at("/x")}),
        json!({"token": "x"}),
        json!({"endpoint": scene.vendor.at("/x"), "keys": {"p256dh": "AA", "auth": "AA"}}),
    ];
    for body in bad {
        let answer = call(node, "PUT", "/v1/push/subscription", bob, Some(body.clone())).await;
        assert!(matches!(&answer, Err(ClientError::Api(e)) if e.code == Code::Invalid), "{body}: {answer:?}");
    }
}
