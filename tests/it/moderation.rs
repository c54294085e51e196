//! Moderation: reports, the queue, deletion with a tombstone, bans from the server, and the filter that sees messages first.

use super::promises::{connected, ids, people, refusal};
use super::support::{SOON, TestClient, TestNode, TestUser, eventually};
use hubbub::client::{ClientError, Rest};
use hubbub::error::Code;
use hubbub::protocol::entry::{Body, RoomKind};
use hubbub::protocol::ids::{ClientId, RoomId, Seq, UserId};
use hubbub::protocol::ops::{EditMessage, History, Push, Request, Send};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

async fn report(node: &TestNode, by: &TestUser, body: Value) -> Result<Value, Code> {
    let sent = Rest::new(&node.url()).call("POST", "/v1/reports", Some(&by.token), Some(body)).await;
    sent.map_err(|e| match e {
        ClientError::Api(e) => e.code,
        e => panic!("{e}"),
    })
}

async fn two(node: &TestNode) -> (Vec<TestUser>, Vec<TestClient>, RoomId) {
    let users = people(node, 3).await;
    let clients = connected(node, &users).await;
    let room = clients[0].create(RoomKind::Group, &ids(&users)[1..2]).await;
    clients[1].reaches(room, 1).await;
    (users, clients, room)
}

#[tokio::test]
async fn one_reports_what_one_can_see_and_nothing_else() {
    let node = TestNode::builder().set("moderation.reports_per_hour", 6).start().await;
    let (users, clients, room) = two(&node).await;
    let seq = clients[1].send(room, "buy cheap watches").await.seq.unwrap();
    let of = |seq: Seq| json!({ "room": room, "seq": seq, "reason": " spam " });
    let made = report(&node, &users[0], of(seq)).await.unwrap();
    assert_eq!(made["state"], "open");
    assert_eq!(report(&node, &users[0], of(1)).await, Err(Code::NotFound), "the room's creation is no message");
    assert_eq!(report(&node, &users[0], of(99)).await, Err(Code::NotFound));
    assert_eq!(report(&node, &users[2], of(seq)).await, Err(Code::NotFound), "a stranger sees no such room");
    assert!(report(&node, &users[2], json!({ "user": users[1].id, "reason": "rude" })).await.is_ok());
    for bad in [
        json!({ "room": room, "seq": seq, "reason": "  " }),
        json!({ "room": room, "reason": "x" }),
        json!({ "reason": "x" }),
        json!({ "room": room, "seq": seq, "user": users[1].id, "reason": "x" }),
    ] {
        assert_eq!(report(&node, &users[1], bad.clone()).await, Err(Code::Invalid), "{bad}");
    }
    assert_eq!(report(&node, &users[2], json!({ "user": UserId(1), "reason": "x" })).await, Err(Code::NotFound));

    let queue = node.operate("GET", "/admin/reports", None).await.unwrap();
    let items = queue["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{queue}");
    let want = json!(["buy cheap watches", "spam", users[1].id, users[0].id]);
    assert_eq!(json!([items[0]["text"], items[0]["reason"], items[0]["user"], items[0]["by"]]), want);
    assert!(
        Rest::new(&node.url()).call::<Value>("GET", "/admin/reports", Some(&node.admin_token()), None).await.is_err(),
        "not for clients"
    );
    let mut last = Ok(json!(null));
    for _ in 0..7 {
        last = report(&node, &users[0], of(seq)).await;
    }
    assert_eq!(last, Err(Code::RateLimited));
}

async fn resolve(node: &TestNode, id: &Value, action: &str) -> Result<Value, ClientError> {
    let path = leak(format!("/admin/reports/{}/resolve", id.as_str().unwrap()));
    node.operate("POST", path, Some(json!({ "action": action, "note": "seen" }))).await
}

#[tokio::test]
async fn a_moderator_deletes_by_an_entry_and_bans_for_good() {
    let node = TestNode::start().await;
    let (users, clients, room) = two(&node).await;
    let seq = clients[1].send(room, "buy cheap watches").await.seq.unwrap();
    let first = report(&node, &users[0], json!({ "room": room, "seq": seq, "reason": "spam" })).await.unwrap();
    let second = report(&node, &users[0], json!({ "user": users[1].id, "reason": "spam" })).await.unwrap();
    let third = report(&node, &users[1], json!({ "user": users[0].id, "reason": "reports" })).await.unwrap();

    let done = resolve(&node, &first["id"], "delete").await.unwrap();
    assert_eq!((&done["state"], &done["resolution"]["action"]), (&json!("resolved"), &json!("delete")));
    let deletion = |p: &Push| matches!(p, Push::Entry(e) if matches!(&e.body, Body::Delete(target) if target.seq == seq));
    let Push::Entry(entry) = clients[0].expect_push("the deletion", deletion).await else { unreachable!() };
    assert_eq!(entry.by, UserId::SERVER, "no member did it, and the entry says so");
    let page = clients[0].request(Request::History(History { room, ..History::default() })).await.unwrap();
    let shown = page.messages.unwrap().into_iter().find(|m| m.entry.seq == seq).unwrap();
    assert!(shown.deleted.is_some() && !format!("{:?}", shown.entry.body).contains("watches"));
    assert_eq!(resolve(&node, &first["id"], "delete").await.unwrap()["resolution"], done["resolution"], "again: as before");
    assert!(resolve(&node, &first["id"], "none").await.is_err(), "another action is a conflict");
    assert!(resolve(&node, &second["id"], "delete").await.is_err(), "there is no message to delete");
    resolve(&node, &third["id"], "none").await.unwrap();

    // Also in a direct room, where nobody may delete what the other wrote.
    let direct = clients[0].create(RoomKind::Direct, &[users[1].id]).await;
    let there = clients[1].send(direct, "psst, watches").await.seq.unwrap();
    let fourth = report(&node, &users[0], json!({ "room": direct, "seq": there, "reason": "spam" })).await.unwrap();
    resolve(&node, &fourth["id"], "delete").await.unwrap();

    let ban = resolve(&node, &second["id"], "ban").await.unwrap();
    assert_eq!(ban["resolution"]["action"], "ban");
    assert_eq!(clients[1].ended().await.code, 4203, "every socket is closed");
    let rest = node.rest();
    let login = rest.login(&users[1].name, "correct horse battery staple").await;
    assert!(matches!(login, Err(ClientError::Api(e)) if e.code == Code::Forbidden));
    let register = rest.register(&users[1].name, "correct horse battery staple").await;
    assert!(matches!(register, Err(ClientError::Api(e)) if e.code == Code::Conflict));
    let me = rest.call::<Value>("GET", "/v1/me", Some(&users[1].token), None).await;
    assert!(me.is_err(), "its tokens are worth nothing");

    let open = node.operate("GET", "/admin/reports?state=open", None).await.unwrap();
    assert_eq!(open["items"], json!([]));
    let resolved = node.operate("GET", "/admin/reports?state=resolved&limit=2", None).await.unwrap();
    let next = leak(format!("/admin/reports?state=resolved&cursor={}", resolved["next"].as_str().unwrap()));
    assert_eq!(node.operate("GET", next, None).await.unwrap()["items"].as_array().unwrap().len(), 2);
    let path = leak(format!("/admin/server-bans/{}", users[1].id));
    assert_eq!(node.operate("GET", "/admin/server-bans", None).await.unwrap()["items"][0]["name"], users[1].name);
    let enable = format!("/admin/users/{}/enable", users[1].name);
    assert!(node.operate("POST", &enable, None).await.is_err(), "a ban is lifted, not switched off by another way");
    node.operate("DELETE", path, None).await.unwrap();
    // The same address written otherwise.
    node.operate("POST", &enable.replace("/admin", "/%61dmin"), None).await.unwrap();
    assert!(rest.login(&users[1].name, "correct horse battery staple").await.is_ok(), "a ban can be lifted");
    let audit = node.operate("GET", "/admin/audit", None).await.unwrap().to_string();
    assert!(audit.contains("/admin/reports/{id}/resolve") && audit.contains("DELETE /admin/server-bans/{user}"), "{audit}");
    assert!(audit.contains("/%61dmin/users/"), "no act escapes it: {audit}");
}

/// A filter: refuses "bad", changes "watches", takes its time, and can be down. Counts what it was asked.
struct TestFilter {
    url: String,
    asked: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    pause_ms: Arc<AtomicUsize>,
    last_head: Arc<Mutex<String>>,
}

async fn filter() -> TestFilter {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let filter = TestFilter {
        url: format!("http://{}/screen", listener.local_addr().unwrap()),
        asked: Arc::default(),
        down: Arc::default(),
        pause_ms: Arc::default(),
        last_head: Arc::default(),
    };
    let (asked, down, pause, last) = (filter.asked.clone(), filter.down.clone(), filter.pause_ms.clone(), filter.last_head.clone());
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            let (asked, down, pause, last) = (asked.clone(), down.clone(), pause.clone(), last.clone());
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                let body = loop {
                    let mut part = [0; 4096];
                    let Ok(n @ 1..) = io.read(&mut part).await else { return };
                    bytes.extend_from_slice(&part[..n]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length =
                        head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ").map(|n| n.parse::<usize>().unwrap()));
                    if body.len() >= length.unwrap_or(0) {
                        *last.lock() = head.to_lowercase();
                        break body.to_owned();
                    }
                };
                asked.fetch_add(1, Ordering::SeqCst);
                let question: Value = serde_json::from_str(&body).unwrap();
                let text = question["text"].as_str().unwrap();
                // Earlier ones take longer, so that an order that is not kept is seen.
                let pause = pause.load(Ordering::SeqCst);
                let slow = text.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis((pause as u64).saturating_sub(slow * 10))).await;
                let answer = match text {
                    _ if down.load(Ordering::SeqCst) => String::new(),
                    text if text.contains("bad") => json!({ "action": "refuse", "message": "no bad words here" }).to_string(),
                    text if text.contains("watches") => json!({ "action": "change", "text": text.replace("watches", "***") }).to_string(),
                    _ => json!({ "action": "pass" }).to_string(),
                };
                let status = if answer.is_empty() { "500 Down" } else { "200 OK" };
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
                let _ = io.write_all((head + &answer).as_bytes()).await;
            });
        }
    });
    filter
}

fn send(room: RoomId, cid: ClientId, since: Seq, text: &str) -> Request {
    Request::Send(Send {
        room,
        cid,
        since,
        text: text.into(),
        reply_to: None,
        thread: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
        data: None,
    })
}

async fn texts(client: &TestClient, room: RoomId) -> Vec<String> {
    let page = client.request(Request::History(History { room, limit: Some(200), ..History::default() })).await.unwrap();
    let text = |body: &Body| match body {
        Body::Message(message) => message.text.clone(),
        _ => String::new(),
    };
    page.messages.unwrap().iter().map(|m| text(&m.entry.body)).collect()
}

#[tokio::test]
async fn a_filter_may_change_or_refuse_what_is_not_yet_in_the_log() {
    let filter = filter().await;
    let builder = TestNode::builder().set("moderation.filter_url", &filter.url).set("moderation.filter_secret", "a secret of the two");
    let mut node = builder.start().await;
    let (_, mut clients, room) = two(&node).await;
    let cid = ClientId::fresh();
    let first = clients[0].request(send(room, cid, 1, "buy watches")).await.unwrap();
    assert!(filter.last_head.lock().contains("hubbub-signature: t="), "{}", filter.last_head.lock());
    clients[1].reaches(room, first.seq.unwrap()).await;
    assert_eq!(texts(&clients[1], room).await, ["buy ***"]);
    let refused = clients[0].request(send(room, ClientId::fresh(), 1, "a bad word")).await;
    let Err(ClientError::Api(error)) = refused else { panic!("{refused:?}") };
    assert_eq!((error.code, &*error.message), (Code::Forbidden, "no bad words here"));
    let edit = |text: &str| {
        Request::Edit(EditMessage {
            room,
            seq: first.seq.unwrap(),
            text: text.into(),
            mentions: Vec::new(),
            cid: ClientId::fresh(),
            since: 1,
        })
    };
    assert_eq!(refusal(clients[0].request(edit("worse: bad")).await), Code::Forbidden);
    clients[0].request(edit("sell watches")).await.unwrap();
    eventually("the edit is shown", SOON, || async { texts(&clients[1], room).await == ["sell ***"] }).await;

    // A resend is answered as the first time, and the filter is not asked again: it may have changed its mind.
    let asked = filter.asked.load(Ordering::SeqCst);
    assert_eq!(clients[0].request(send(room, cid, 1, "buy watches")).await.unwrap().seq, first.seq);
    node.kill9().await;
    node.restart().await;
    clients[0].reconnect(&node).await;
    assert_eq!(clients[0].request(send(room, cid, 1, "buy watches")).await.unwrap().seq, first.seq, "after a restart too");
    assert_eq!(filter.asked.load(Ordering::SeqCst), asked);
    assert!(node.metric("hubbub_filter_answers_total").await == 0.0, "counted since the start");
}

#[tokio::test]
async fn ones_messages_keep_their_order_while_a_filter_is_slow_and_nobody_waits_for_another() {
    let filter = filter().await;
    let node = TestNode::builder().set("moderation.filter_url", &filter.url).set("moderation.filter_timeout_ms", 5_000).start().await;
    let (_, clients, room) = two(&node).await;
    filter.pause_ms.store(200, Ordering::SeqCst);
    let requests: Vec<Request> = (0..10).map(|n| send(room, ClientId::fresh(), 1, &format!("number {n}"))).collect();
    let began = Instant::now();
    let all = futures_util::future::join_all(requests.iter().map(|request| clients[0].request(request.clone())));
    let other = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        clients[1].request(send(room, ClientId::fresh(), 1, "not behind them 15")).await.unwrap();
        // A reaction is no message: nothing asks about it, and it does not wait either.
        let reacted =
            Request::React(hubbub::protocol::ops::ReactTo { room, seq: 1, emoji: "+1".into(), on: true, cid: ClientId::fresh(), since: 1 });
        let _ = clients[1].request(reacted).await;
        began.elapsed()
    };
    let (answers, passed) = tokio::join!(all, other);
    let seqs: Vec<Seq> = answers.into_iter().map(|a| a.unwrap().seq.unwrap()).collect();
    assert!(seqs.windows(2).all(|w| w[0] < w[1]), "{seqs:?}");
    assert!(passed < Duration::from_millis(700), "another one waited {passed:?}");
}

#[tokio::test]
async fn while_the_filter_is_down_messages_pass_or_wait_as_configured() {
    for (down, stored) in [("closed", false), ("open", true)] {
        let filter = filter().await;
        let builder = TestNode::builder().set("moderation.filter_url", &filter.url).set("moderation.filter_timeout_ms", 300);
        let node = builder.set("moderation.filter_down", down).start().await;
        let (_, clients, room) = two(&node).await;
        for slow in [false, true] {
            // It answers nonsense; then it does not answer in time.
            filter.down.store(!slow, Ordering::SeqCst);
            filter.pause_ms.store(if slow { 3_000 } else { 0 }, Ordering::SeqCst);
            let began = Instant::now();
            let sent = clients[0].request(send(room, ClientId::fresh(), 1, "hello")).await;
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
            match sent {
                Ok(_) => assert!(stored, "{down}"),
                Err(ClientError::Api(e)) => assert_eq!((stored, e.code, e.retry_after_ms), (false, Code::Busy, Some(1_000))),
                Err(e) => panic!("{e}"),
            }
        }
        filter.down.store(false, Ordering::SeqCst);
        filter.pause_ms.store(0, Ordering::SeqCst);
        eventually("it is up again", SOON, || async { clients[0].request(send(room, ClientId::fresh(), 1, "again")).await.is_ok() }).await;
    }
}
