//! Embedding: an issuer of the embedder's own, API keys with scopes, and a bot that answers.

use crate::support::{RawSocket, Receiver, Reply, SOON, TestClient, TestNode, TestUser, eventually};
use hubbub::client::ClientError;
use hubbub::error::Code;
use hubbub::protocol::entry::RoomKind;
use hubbub::protocol::ids::UserId;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const RSA_1: &[u8] = include_bytes!("../keys/rsa-1.pem");
const RSA_2: &[u8] = include_bytes!("../keys/rsa-2.pem");
const ED: &[u8] = include_bytes!("../keys/ed25519.pem");
const RSA_1_PUBLIC: &[u8] = include_bytes!("../keys/rsa-1.pub.pem");
const ISSUER: &str = "https://login.example";
/// Seconds between two looks at the issuer's keys.
const PAUSE_S: u64 = 1;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// An issuer: its keys are at an address, and may be changed.
struct Issuer {
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
    server: Receiver,
}

fn rsa(pem: &[u8]) -> EncodingKey {
    EncodingKey::from_rsa_pem(pem).expect("a key")
}
fn ed() -> EncodingKey {
    EncodingKey::from_ed_pem(ED).expect("a key")
}

impl Issuer {
    async fn start() -> Issuer {
        let keys = Arc::new(Mutex::new(Value::Null));
        let asked = Arc::new(AtomicUsize::new(0));
        let (given, count) = (keys.clone(), asked.clone());
        let server = Receiver::start(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            match &*given.lock() {
                Value::Null => Reply::Status(503),
                keys => Reply::json(keys),
            }
        })
        .await;
        Issuer { keys, asked, server }
    }
    fn publishes(&self, keys: &[(&str, EncodingKey, Algorithm)]) {
        let jwk = |(id, key, algorithm): &(&str, EncodingKey, Algorithm)| {
            let mut jwk = Jwk::from_encoding_key(key, *algorithm).expect("a public key");
            jwk.common.key_id = Some((*id).into());
            json!(jwk)
        };
        *self.keys.lock() = json!({ "keys": keys.iter().map(jwk).collect::<Vec<_>>() });
    }
    async fn node(&self) -> TestNode {
        let issuers = format!(
            r#"[{{ issuer = "{ISSUER}", audience = "chat", algorithms = ["RS256", "EdDSA"], jwks_url = "{}", jwks_pause_s = {PAUSE_S} }}]"#,
            self.server.url("/jwks.json")
        );
        TestNode::builder().set("outbound.allowed_ranges", "127.0.0.0/8").set("auth.issuers", issuers).start().await
    }
}

fn claims(subject: &str, more: Value) -> Value {
    let now = now_s();
    let mut all = json!({ "iss": ISSUER, "aud": "chat", "sub": subject, "iat": now, "exp": now + 600,
        "preferred_username": subject, "name": "A Person", "picture": "https://login.example/p.png" });
    all.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    all
}

fn token(key: &EncodingKey, algorithm: Algorithm, id: &str, claims: &Value) -> String {
    let header = Header { kid: Some(id.into()), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).expect("signed")
}

async fn me(node: &TestNode, token: &str) -> Result<Value, Code> {
    node.rest().call("GET", "/v1/me", Some(token), None).await.map_err(|e| match e {
        ClientError::Api(e) => e.code,
        other => panic!("{other}"),
    })
}

fn user(id: &Value, token: &str) -> TestUser {
    let id: UserId = id["user"].as_str().unwrap().parse().unwrap();
    TestUser { id, name: "foreign".into(), device: Default::default(), token: token.into(), refresh: String::new() }
}

#[actix_rt::test]
async fn a_token_of_a_configured_issuer_signs_in_over_http_and_the_socket() {
    let issuer = Issuer::start().await;
    issuer.publishes(&[("a", rsa(RSA_1), Algorithm::RS256), ("b", ed(), Algorithm::EdDSA)]);
    let node = issuer.node().await;
    let alice = token(&rsa(RSA_1), Algorithm::RS256, "a", &claims("alice", json!({})));
    let bob = token(&ed(), Algorithm::EdDSA, "b", &claims("bob", json!({})));
    let (a, b) = (me(&node, &alice).await.expect("let in"), me(&node, &bob).await.expect("let in"));
    assert_eq!((a["name"].as_str(), a["display_name"].as_str()), (Some("alice"), Some("A Person")));
    assert_eq!((b["name"].as_str(), b["avatar_url"].as_str()), (Some("bob"), Some("https://login.example/p.png")));
    assert_eq!(me(&node, &alice).await.expect("again")["user"], a["user"], "one user");
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1, "the keys are kept");
    let client = TestClient::connect(&node, &user(&a, &alice), "a").await;
    let other = TestClient::connect(&node, &user(&b, &bob), "b").await;
    let room = client.create(RoomKind::Direct, &[other.user.id]).await;
    let sent = client.send(room, "hello").await;
    other.reaches(room, sent.seq.expect("a send has a seq")).await;
}

#[actix_rt::test]
async fn a_token_that_is_not_good_is_refused_by_a_code_that_says_whether_a_new_one_helps() {
    let issuer = Issuer::start().await;
    issuer.publishes(&[("a", rsa(RSA_1), Algorithm::RS256), ("b", ed(), Algorithm::EdDSA)]);
    let node = issuer.node().await;
    let by = |key: &EncodingKey, algorithm, id: &str, more: Value| token(key, algorithm, id, &claims("alice", more));
    let confused = by(&EncodingKey::from_secret(RSA_1_PUBLIC), Algorithm::HS256, "a", json!({}));
    for (what, token, expected) in [
        ("another audience", by(&rsa(RSA_1), Algorithm::RS256, "a", json!({ "aud": "shop" })), Code::Unauthorized),
        ("another issuer", by(&rsa(RSA_1), Algorithm::RS256, "a", json!({ "iss": "https://other.example" })), Code::Unauthorized),
        ("another key", by(&rsa(RSA_2), Algorithm::RS256, "a", json!({})), Code::Unauthorized),
        ("an algorithm that is not listed", by(&rsa(RSA_1), Algorithm::PS256, "a", json!({})), Code::Unauthorized),
        ("a key of another kind", by(&ed(), Algorithm::EdDSA, "a", json!({})), Code::Unauthorized),
        ("the public key as a secret", confused, Code::Unauthorized),
        ("over", by(&rsa(RSA_1), Algorithm::RS256, "a", json!({ "iat": now_s() - 60, "exp": now_s() - 1 })), Code::TokenExpired),
    ] {
        assert_eq!(me(&node, &token).await, Err(expected), "{what}");
        let mut socket = RawSocket::json(&node).await;
        let refused = socket.ask("auth", json!({ "token": token })).await;
        assert_eq!(refused["code"], expected.as_str(), "{what}: {refused}");
    }
    assert!(node.rest().register("carol", "correct horse").await.is_ok(), "our own accounts go on beside it");
}

#[actix_rt::test]
async fn a_socket_ends_when_its_foreign_token_does_and_when_its_device_is_revoked() {
    let issuer = Issuer::start().await;
    issuer.publishes(&[("a", rsa(RSA_1), Algorithm::RS256)]);
    let node = issuer.node().await;
    let short = token(&rsa(RSA_1), Algorithm::RS256, "a", &claims("alice", json!({ "exp": now_s() + 3 })));
    let alice = me(&node, &short).await.expect("let in");
    let client = TestClient::connect(&node, &user(&alice, &short), "a").await;
    assert_eq!(client.ended().await.code, 4202, "at the token's end");

    let long = token(&rsa(RSA_1), Algorithm::RS256, "a", &claims("bob", json!({ "sid": "s1" })));
    let bob = me(&node, &long).await.expect("let in");
    let client = TestClient::connect(&node, &user(&bob, &long), "b").await;
    node.rest().call::<Value>("POST", "/v1/auth/logout", Some(&long), None).await.expect("signed out");
    assert_eq!(client.ended().await.code, 4203, "revoked");
    assert_eq!(me(&node, &long).await, Err(Code::TokenRevoked));
    // The issuer signs the same session in again, later.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let newer = token(&rsa(RSA_1), Algorithm::RS256, "a", &claims("bob", json!({ "sid": "s1" })));
    assert_eq!(me(&node, &newer).await.expect("let in")["user"], bob["user"]);
    assert_eq!(me(&node, &long).await, Err(Code::TokenRevoked), "the old token stays dead");
}

#[actix_rt::test]
async fn keys_may_be_rotated_and_neither_strangers_nor_a_silent_issuer_make_it_asked_often() {
    let issuer = Issuer::start().await;
    let node = issuer.node().await;
    let old = token(&rsa(RSA_1), Algorithm::RS256, "old", &claims("alice", json!({})));
    let new = token(&rsa(RSA_2), Algorithm::RS256, "new", &claims("alice", json!({})));
    for _ in 0..20 {
        assert_eq!(me(&node, &old).await, Err(Code::Unavailable), "no keys can be had");
    }
    assert!(issuer.asked.load(Ordering::SeqCst) <= 3, "{} times in a moment", issuer.asked.load(Ordering::SeqCst));
    issuer.publishes(&[("old", rsa(RSA_1), Algorithm::RS256)]);
    eventually("the keys are fetched", SOON, || async { me(&node, &old).await.is_ok() }).await;
    issuer.publishes(&[("new", rsa(RSA_2), Algorithm::RS256)]);
    eventually("an unknown key is looked for", SOON, || async { me(&node, &new).await.is_ok() }).await;
    assert_eq!(me(&node, &old).await, Err(Code::Unauthorized), "a key that is gone counts no more");
    let (before, begun) = (issuer.asked.load(Ordering::SeqCst), std::time::Instant::now());
    for n in 0..200 {
        let invented = token(&rsa(RSA_2), Algorithm::RS256, &format!("invented-{n}"), &claims("alice", json!({})));
        assert_eq!(me(&node, &invented).await, Err(Code::Unauthorized));
    }
    let asked = issuer.asked.load(Ordering::SeqCst) - before;
    assert!(asked as u64 <= begun.elapsed().as_secs() / PAUSE_S + 2, "{asked} times in {:?}", begun.elapsed());
    *issuer.keys.lock() = Value::Null;
    assert!(me(&node, &new).await.is_ok(), "the keys that are there go on while the issuer is silent");
}

/// An API key of these scopes.
async fn key(node: &TestNode, scopes: &[&str], user: Option<UserId>) -> String {
    let body = json!({ "name": "test", "scopes": scopes, "user": user });
    node.operate("POST", "/admin/api-keys", Some(body)).await.expect("a key")["key"].as_str().expect("its text").to_owned()
}

/// A call by a key, perhaps as a user.
async fn by(node: &TestNode, key: &str, as_user: Option<&Value>, method: &str, path: &str, body: Value) -> (u16, Value) {
    let mut head = format!("{method} {path} HTTP/1.1\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json");
    if let Some(user) = as_user {
        head += &format!("\r\nHubbub-As: {}", user.as_str().unwrap());
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = crate::support::http(node.address(), &head, &body).await;
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
}

#[actix_rt::test]
async fn a_key_does_what_its_scopes_say_and_nothing_else() {
    let node = TestNode::start().await;
    let all = key(&node, &["users:write", "rooms:write", "messages:write", "messages:read", "hooks:write", "moderate"], None).await;
    let (status, alice) = by(&node, &all, None, "POST", "/v1/users", json!({ "name": "alice", "external_id": "1" })).await;
    assert_eq!((status, alice["bot"].as_bool()), (201, Some(false)), "{alice}");
    let (status, again) = by(&node, &all, None, "POST", "/v1/users", json!({ "name": "alice", "external_id": "1" })).await;
    assert_eq!((status, &again["user"]), (200, &alice["user"]), "one user for one external id");
    let (_, bot) = by(&node, &all, None, "POST", "/v1/users", json!({ "name": "helper", "bot": true })).await;
    assert_eq!(bot["bot"], true);
    let taken = by(&node, &all, None, "POST", "/v1/users", json!({ "name": "helper" })).await;
    assert_eq!((taken.0, taken.1["code"].as_str()), (409, Some("conflict")));

    let contacts = async |scopes: &[&str]| {
        let key = key(&node, scopes, None).await;
        by(&node, &key, Some(&alice["user"]), "PUT", &format!("/v1/contacts/{}", bot["user"].as_str().unwrap()), Value::Null).await.0
    };
    assert_eq!(contacts(&["messages:read", "messages:write", "rooms:write", "hooks:write", "moderate"]).await, 403);
    assert_eq!(contacts(&["users:write"]).await, 200);
    for (what, key, as_user, expected) in
        [("not for keys", all.as_str(), Some(&alice["user"]), 403), ("no key", "hbk_1_00", Some(&alice["user"]), 401)]
    {
        let got = by(&node, key, as_user, "POST", "/v1/auth/logout", Value::Null).await;
        assert_eq!(got.0, expected, "{what}: {got:?}");
    }
    let nobody = json!("999");
    for (what, as_user) in [("as nobody", Some(&nobody)), ("as no one in particular", None)] {
        assert_eq!(by(&node, &all, as_user, "GET", "/v1/contacts", Value::Null).await.0, 422, "{what}");
    }
    let bound = key(&node, &["users:write"], Some(bot["user"].as_str().unwrap().parse().unwrap())).await;
    assert_eq!(by(&node, &bound, None, "GET", "/v1/me", Value::Null).await.1["user"], bot["user"]);
    assert_eq!(by(&node, &bound, Some(&alice["user"]), "GET", "/v1/me", Value::Null).await.0, 403, "as another user");

    let id = bound.split('_').nth(1).unwrap();
    node.operate("DELETE", &format!("/admin/api-keys/{id}"), None).await.expect("revoked");
    assert_eq!(by(&node, &bound, None, "GET", "/v1/me", Value::Null).await.0, 401, "at once");
    let shown = node.operate("GET", "/admin/api-keys", None).await.expect("keys").to_string();
    assert!(!shown.contains(all.rsplit('_').next().unwrap()), "a key is shown once");
}

#[actix_rt::test]
async fn a_user_whom_the_embedder_made_is_the_one_who_signs_in_by_its_issuer() {
    let issuer = Issuer::start().await;
    issuer.publishes(&[("a", rsa(RSA_1), Algorithm::RS256)]);
    let node = issuer.node().await;
    let key = key(&node, &["users:write"], None).await;
    let (_, made) = by(&node, &key, None, "POST", "/v1/users", json!({ "name": "alice", "external_id": "42" })).await;
    let token = token(&rsa(RSA_1), Algorithm::RS256, "a", &claims("42", json!({})));
    assert_eq!(me(&node, &token).await.expect("let in")["user"], made["user"]);
}

#[actix_rt::test]
async fn an_issuers_token_does_not_bring_a_deleted_account_back() {
    let issuer = Issuer::start().await;
    issuer.publishes(&[("a", rsa(RSA_1), Algorithm::RS256)]);
    let node = issuer.node().await;
    let key = key(&node, &["users:write"], None).await;
    let token_of = |subject: &str| token(&rsa(RSA_1), Algorithm::RS256, "a", &claims(subject, json!({ "preferred_username": "alice" })));
    let alice = me(&node, &token_of("42")).await.expect("let in");
    let gone = by(&node, &key, None, "DELETE", &format!("/v1/users/{}", alice["user"].as_str().unwrap()), Value::Null).await;
    assert_eq!(gone.0, 204, "{gone:?}");
    eventually("the deletion is done", SOON, || async { node.log().contains("an account was deleted") }).await;
    // Neither by a token that the issuer makes afterwards, nor by its server.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(me(&node, &token_of("42")).await.expect_err("refused"), Code::TokenRevoked);
    let made = by(&node, &key, None, "POST", "/v1/users", json!({ "name": "alice", "external_id": "42" })).await;
    assert_eq!((made.0, made.1["code"].as_str()), (409, Some("conflict")), "{made:?}");
    // Somebody else there is somebody else here, under another name.
    let other = me(&node, &token_of("43")).await.expect("let in");
    assert!(other["user"] != alice["user"] && other["name"] == "alice-2", "{other}");
}

#[actix_rt::test]
async fn a_bot_answers_messages_and_a_repeated_event_makes_no_second_answer() {
    let node = TestNode::builder().set("outbound.allowed_ranges", "127.0.0.0/8").set("webhooks.retry_first_ms", 50).start().await;
    let embedder = key(&node, &["users:write", "rooms:write", "messages:write"], None).await;
    let user = async |name: &str, bot: bool| {
        by(&node, &embedder, None, "POST", "/v1/users", json!({ "name": name, "bot": bot })).await.1["user"].clone()
    };
    let (alice, bot) = (user("alice", false).await, user("helper", true).await);
    let open = async |members: Value| {
        let new = json!({ "kind": "group", "name": "Help", "members": members });
        let (status, room) = by(&node, &embedder, Some(&alice), "POST", "/v1/rooms", new).await;
        assert_eq!((status, room["role"].as_str()), (201, Some("owner")), "{room}");
        format!("/v1/rooms/{}/messages", room["room"].as_str().unwrap())
    };
    let (room, other) = (open(json!([bot])).await, open(json!([])).await);
    // The first answer gets lost on the way: the event comes twice.
    let lost = AtomicUsize::new(1);
    let mut receiver = Receiver::start(move |_| match lost.fetch_sub(1, Ordering::SeqCst) {
        1 => Reply::Status(500),
        _ => Reply::Status(204),
    })
    .await;
    let hook = json!({ "url": receiver.url("/"), "events": ["message"] });
    node.operate("POST", "/admin/webhooks", Some(hook)).await.expect("a webhook");
    let (status, asked) = by(&node, &embedder, Some(&alice), "POST", &room, json!({ "text": "are you there?" })).await;
    assert_eq!(status, 201, "{asked}");

    let helper = key(&node, &["messages:read", "messages:write"], Some(bot.as_str().unwrap().parse().unwrap())).await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        let event = receiver.next_where(|e| e.json()["entry"]["by"] != bot).await;
        let (once, event) = (event.header("hubbub-event").to_owned(), event.json());
        let head = format!(
            "POST /v1/rooms/{}/messages HTTP/1.1\r\nAuthorization: Bearer {helper}\r\nContent-Type: application/json\r\nIdempotency-Key: {once}",
            event["room"].as_str().unwrap(),
        );
        let text = format!("you said: {}", event["entry"]["body"]["message"]["text"].as_str().unwrap());
        let answer = crate::support::http(node.address(), &head, &json!({ "text": text, "reply_to": event["seq"] }).to_string()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answers.push(answer.body);
    }
    assert_eq!(answers[0], answers[1], "one message");
    let own = receiver.next_where(|e| e.json()["entry"]["by"] == bot).await;
    assert_eq!(own.json()["entry"]["body"]["message"]["reply_to"], asked["seq"], "a bot hears itself, and knows it by `by`");
    let (_, history) = by(&node, &helper, None, "GET", &format!("{room}?after=1"), Value::Null).await;
    let said: Vec<_> = history["items"].as_array().expect("messages").iter().map(|m| (&m["entry"]["by"], &m["entry"]["seq"])).collect();
    assert_eq!(said, [(&alice, &json!(2)), (&bot, &json!(3))], "nothing twice: {history}");

    // The key is the bot's, with the bot's rights.
    for (expected, as_user, path) in [(404, None, &other), (403, Some(&alice), &other), (403, Some(&alice), &room)] {
        assert_eq!(by(&node, &helper, as_user, "GET", path, Value::Null).await.0, expected, "{path} {as_user:?}");
    }
    assert_eq!(
        by(&node, &helper, None, "POST", "/v1/rooms", json!({ "kind": "group", "name": "mine" })).await.0,
        403,
        "a scope that lacks"
    );
    assert_eq!(by(&node, &embedder, Some(&alice), "GET", &room, Value::Null).await.0, 403, "who may only write does not read");
    let (_, tried) = by(&node, &embedder, Some(&bot), "PATCH", &format!("{room}/2"), json!({ "text": "mine now" })).await;
    assert_eq!(tried["code"], "forbidden", "a key makes nobody more than it is");
}

#[actix_rt::test]
async fn the_command_line_makes_lists_and_revokes_keys_of_the_running_server() {
    let node = TestNode::start().await;
    let dir = node.data_dir().to_owned();
    let run = async |args: &'static [&'static str]| {
        let dir = dir.clone();
        let ran = tokio::task::spawn_blocking(move || {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hubbub"));
            command.arg("api-key").args(args).env("HUBBUB_STORAGE__DATA_DIR", &dir).current_dir(&dir).output().expect("it runs")
        });
        let ran = ran.await.expect("no panic");
        (ran.status.code(), String::from_utf8_lossy(&ran.stdout).trim().to_owned())
    };
    let (code, key) = run(&["create", "--name", "shop", "--scopes", "users:write,messages:read"]).await;
    assert!(code == Some(0) && key.starts_with("hbk_"), "{key}");
    assert_eq!(by(&node, &key, None, "POST", "/v1/users", json!({ "name": "alice" })).await.0, 201);
    let (_, listed) = run(&["list"]).await;
    let id = key.split('_').nth(1).unwrap().to_owned();
    assert_eq!(listed, format!("{id}\tshop\tusers:write,messages:read\tany user"));
    assert_eq!(run(&["create", "--scopes", "everything"]).await.0, Some(2), "a wrong scope is wrong usage");
    let id: &'static str = Box::leak(id.into_boxed_str());
    let args: &'static [&'static str] = Box::leak(vec!["revoke", id].into_boxed_slice());
    assert_eq!(run(args).await.0, Some(0));
    assert_eq!(by(&node, &key, None, "POST", "/v1/users", json!({ "name": "bob" })).await.0, 401);
}
