//! The socket: how one gets in, how one is sent away, and that every request gets its one answer.

use super::support::{RawSocket, SOON, TestClient, TestNode, TestUser, eventually, http};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use hubbub::auth::tokens::Tokens;
use hubbub::client::{ClientError, Connection, Options};
use hubbub::config;
use hubbub::error::Code;
use hubbub::protocol::codec::{Format, decode_push};
use hubbub::protocol::entry::RoomKind;
use hubbub::protocol::ids::{DeviceId, UserId};
use hubbub::protocol::ops::Push;
use hubbub::protocol::ws::{Op, client_frame};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SECRET: &str = "a secret that only this test knows, 32 bytes and more";

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}
fn cid() -> String {
    uuid::Uuid::new_v4().to_string()
}
fn once(room: &str, mut fields: Value) -> Value {
    fields["room"] = room.into();
    fields["cid"] = cid().into();
    fields
}
async fn create(socket: &mut RawSocket, kind: &str, members: &[&TestUser]) -> String {
    let members: Vec<String> = members.iter().map(|m| m.id.to_string()).collect();
    let mut fields = json!({ "kind": kind, "members": members, "cid": cid() });
    if kind != "direct" {
        fields["name"] = "a room".into();
    }
    let answer = socket.ask("create", fields).await;
    answer["room"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}
async fn sends(socket: &mut RawSocket, room: &str, text: &str) -> u64 {
    let answer = socket.ask("send", once(room, json!({ "text": text }))).await;
    answer["seq"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}
/// Waits for a push of this op.
async fn push(socket: &mut RawSocket, op: &str) -> Value {
    if let Some(at) = socket.pushes.iter().position(|p| p["op"] == op) {
        return socket.pushes.remove(at);
    }
    loop {
        let value = socket.value().await;
        if value["op"] == op {
            return value;
        }
        socket.pushes.push(value);
    }
}

#[tokio::test]
async fn a_subprotocol_is_chosen_and_a_token_never_echoed() {
    let node = TestNode::start().await;
    let token = node.user("alice").await.token;
    let bearer = format!("hubbub.bearer.{token}");
    let (json, msgpack) = ("hubbub.v1.json", "hubbub.v1.msgpack");
    for (offered, chosen) in [
        (vec![], None),
        (vec![json.to_owned()], Some(json)),
        (vec![msgpack.to_owned()], Some(msgpack)),
        (vec!["mqtt".into(), format!("{msgpack}, {json}")], Some(msgpack)),
        (vec![format!("{json},{msgpack}")], Some(json)),
        (vec![format!("{bearer}, {msgpack}")], Some(msgpack)),
        (vec![bearer.clone()], None),
    ] {
        let headers: Vec<String> = offered.iter().map(|o| format!("Sec-WebSocket-Protocol: {o}")).collect();
        let (mut socket, response) =
            RawSocket::handshake(&node, "/v1/socket", &headers).await.unwrap_or_else(|r| panic!("{offered:?}: {r:?}"));
        assert_eq!(response.header("sec-websocket-protocol"), chosen, "{offered:?}");
        assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!format!("{response:?}").contains(&token), "{offered:?}");
        if offered.iter().any(|o| o.contains("bearer")) {
            let frame = socket.next().await.expect("a hello");
            let format = if chosen == Some(msgpack) { Format::Msgpack } else { Format::Json };
            let hello = decode_push(format, &frame.payload).expect("a frame");
            assert!(matches!(hello, Push::Hello(h) if h.reference == 0 && h.name == "alice"), "{offered:?}");
        }
    }
    let refused =
        RawSocket::handshake(&node, "/v1/socket", &["Sec-WebSocket-Protocol: mqtt, graphql-ws".into()]).await.err().expect("refused");
    assert_eq!(refused.status / 100, 4, "{refused:?}");
    assert_eq!(refused.status, 400, "{refused:?}");
}

#[tokio::test]
async fn a_handshake_that_is_not_one_is_refused_and_said_why() {
    let node = TestNode::builder().set("http.origins", r#"["https://chat.example"]"#).start().await;
    let own = format!("Origin: http://{}", node.address());
    let table: Vec<(&str, &str, Vec<String>, u16)> = vec![
        ("a good one", "/v1/socket", vec![], 101),
        ("the allowed origin", "/v1/socket", vec!["Origin: https://chat.example".into()], 101),
        ("its own origin", "/v1/socket", vec![own], 101),
        ("another origin", "/v1/socket", vec!["Origin: https://evil.example".into()], 403),
        ("an opaque origin", "/v1/socket", vec!["Origin: null".into()], 403),
        ("an origin that begins like the allowed one", "/v1/socket", vec!["Origin: https://chat.example.evil.example".into()], 403),
        ("a token in the address", "/v1/socket?token=abc", vec![], 422),
        ("an access token in the address", "/v1/socket?a=b&access_token=abc", vec![], 422),
        ("version 8", "/v1/socket", vec!["Sec-WebSocket-Version: 8".into()], 426),
        ("no version", "/v1/socket", vec!["Sec-WebSocket-Version:".into()], 426),
        ("no key", "/v1/socket", vec!["Sec-WebSocket-Key:".into()], 400),
        ("a short key", "/v1/socket", vec!["Sec-WebSocket-Key: c2hvcnQ=".into()], 400),
        ("a key that is not base64", "/v1/socket", vec!["Sec-WebSocket-Key: ?????????????????????==".into()], 400),
        ("another protocol", "/v1/socket", vec!["Upgrade: h2c".into()], 426),
        ("no upgrade", "/v1/socket", vec!["Upgrade:".into(), "Connection:".into()], 426),
        ("no such address", "/v1/sockets", vec![], 404),
        ("an address that takes no upgrade", "/v1/me", vec![], 401),
    ];
    for (what, target, headers, status) in table {
        let found = RawSocket::handshake(&node, target, &headers).await;
        let (code, response) = match &found {
            Ok((_, response)) => (101, response),
            Err(response) => (response.status, response),
        };
        assert_eq!(code, status, "{what}: {response:?}");
        if status == 426 {
            assert_eq!(response.header("sec-websocket-version"), Some("13"), "{what}");
        }
        if status != 101 {
            assert!(response.header("content-type").is_some_and(|t| t.starts_with("application/problem+json")), "{what}: {response:?}");
        }
    }
}

#[tokio::test]
async fn nothing_is_answered_before_sign_in_and_one_signs_in_once() {
    let node = TestNode::start().await;
    let user = node.user("alice").await;
    let mut socket = RawSocket::json(&node).await;
    for (op, fields) in [
        ("ping", json!({})),
        ("rooms", json!({})),
        ("resume", json!({ "rooms": [], "last": true })),
        ("send", json!({ "room": "1", "cid": cid(), "text": "x" })),
        ("refresh", json!({ "token": user.token })),
    ] {
        let answer = socket.ask(op, fields).await;
        assert_eq!(answer["code"], "unauthorized", "{op}: {answer}");
    }
    let hello = socket.ask("auth", json!({ "token": user.token })).await;
    assert_eq!((&hello["op"], &hello["user"], &hello["name"]), (&json!("hello"), &json!(user.id.to_string()), &json!("alice")));
    assert_eq!((&hello["frame_bytes_max"], &hello["heartbeat_ms"]), (&json!(65536), &json!(25000)));
    assert_eq!(socket.ask("auth", json!({ "token": user.token })).await["code"], "conflict");
    assert_eq!(socket.ask("ping", json!({})).await["op"], "ok", "a second auth changes nothing");
    assert_eq!(socket.pushes, Vec::<Value>::new(), "no push before a resume");
}

#[tokio::test]
async fn who_does_not_sign_in_is_closed_in_time() {
    let node = TestNode::builder().set("socket.auth_timeout_ms", 300).start().await;
    let mut silent = RawSocket::json(&node).await;
    let mut chatty = RawSocket::json(&node).await;
    chatty.request("ping", json!({})).await;
    assert_eq!(silent.closed().await, 4200);
    assert_eq!(chatty.closed().await, 4200, "talking is not signing in");
}

#[tokio::test]
async fn a_socket_ends_with_its_token_unless_it_gets_a_newer_one() {
    let node = TestNode::builder().set("auth.access_ttl_s", 3).start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let mut kept = RawSocket::signed_in(&node, &alice).await;
    let (mut over, began) = (RawSocket::signed_in(&node, &alice).await, Instant::now());
    // A token ends with a whole second: the next one must be made in a later one.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let renewed = node.rest().refresh(&alice.refresh).await.expect("refreshed");
    let foreign = kept.ask("refresh", json!({ "token": bob.token })).await;
    assert_eq!(foreign["code"], "forbidden", "{foreign}");
    assert_eq!(kept.ask("refresh", json!({ "token": "nonsense" })).await["code"], "unauthorized");
    assert_eq!(kept.ask("refresh", json!({ "token": renewed.access_token })).await["expires"], json!(renewed.expires));
    assert_eq!(over.closed().await, 4202);
    assert!(began.elapsed() < Duration::from_secs(5), "closed after {:?}", began.elapsed());
    if now_ms() + 200 < renewed.expires {
        assert_eq!(kept.ask("ping", json!({})).await["op"], "ok", "the newer token keeps it open");
    }
    assert_eq!(kept.closed().await, 4202);
    assert!(now_ms() >= renewed.expires, "closed before its token ended");
}

#[tokio::test]
async fn a_revoked_session_is_closed_within_five_seconds() {
    let node = TestNode::start().await;
    let post = |path: &'static str, token: String, body: Value| {
        let rest = node.rest();
        async move { rest.call::<Value>("POST", path, Some(&token), Some(body)).await.expect("done") }
    };
    let began = Instant::now();
    // One device signs out: its sockets end, another device's go on.
    let (phone, laptop) = (node.user("alice").await, node.user("alice").await);
    let (mut a, mut b) = (RawSocket::signed_in(&node, &phone).await, RawSocket::signed_in(&node, &laptop).await);
    post("/v1/auth/logout", phone.token.clone(), json!({})).await;
    assert_eq!(a.closed().await, 4203);
    assert_eq!(b.ask("ping", json!({})).await["op"], "ok");
    // Everywhere.
    post("/v1/auth/logout", laptop.token.clone(), json!({ "everywhere": true })).await;
    assert_eq!(b.closed().await, 4203);
    let mut again = RawSocket::json(&node).await;
    assert_eq!(again.ask("auth", json!({ "token": laptop.token })).await["code"], "token_revoked");
    assert_eq!(again.closed().await, 4203);
    // An operator disables the account, by the command line, while the server runs.
    let bob = node.user("bob").await;
    let mut c = RawSocket::signed_in(&node, &bob).await;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hubbub"));
    command.args(["user", "disable", "bob"]).env("HUBBUB_STORAGE__DATA_DIR", node.data_dir());
    let done = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(c.closed().await, 4203);
    assert!(began.elapsed() < Duration::from_secs(15), "three revocations took {:?}", began.elapsed());
}

fn sign(algorithm: Algorithm, secret: &[u8], input: &str) -> String {
    jsonwebtoken::crypto::sign(input.as_bytes(), &EncodingKey::from_secret(secret), algorithm).expect("signs")
}

/// Tokens that must not be accepted; the secret is the server's own, so only what is named is wrong with each.
fn attacks(user: UserId, device: DeviceId) -> Vec<(String, String)> {
    let (header, now) = (json!({"typ": "JWT", "alg": "HS256", "kid": "1"}), now_ms());
    let claims = json!({"iss": "hubbub", "sub": user.to_string(), "dev": device.to_string(), "iat": now / 1000, "iat_ms": now, "exp": now / 1000 + 900});
    let raw = |h: &str, c: &str| {
        let input = format!("{}.{}", B64.encode(h), B64.encode(c));
        format!("{input}.{}", sign(Algorithm::HS256, SECRET.as_bytes(), &input))
    };
    let good = raw(&header.to_string(), &claims.to_string());
    let parts: Vec<&str> = good.split('.').collect();
    let (h, p, s) = (parts[0], parts[1], parts[2]);
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |what: &str, token: String| all.push((what.to_owned(), token));
    for alg in ["none", "None", "NONE", "nOnE", "HS384", "HS512", "RS256", "ES256", "EdDSA", ""] {
        let input = format!("{}.{p}", B64.encode(json!({"typ": "JWT", "alg": alg, "kid": "1"}).to_string()));
        add(&format!("alg {alg} without signature"), format!("{input}."));
        add(&format!("alg {alg} signed as HS256"), format!("{input}.{}", sign(Algorithm::HS256, SECRET.as_bytes(), &input)));
    }
    for (alg, name) in [(Algorithm::HS384, "HS384"), (Algorithm::HS512, "HS512")] {
        let input = format!("{}.{p}", B64.encode(json!({"typ": "JWT", "alg": name, "kid": "1"}).to_string()));
        add(&format!("really signed with {name}"), format!("{input}.{}", sign(alg, SECRET.as_bytes(), &input)));
    }
    for (what, secret) in
        [("an empty secret", ""), ("another secret", "another secret that is long enough!!"), ("the key id as secret", "1")]
    {
        add(what, format!("{h}.{p}.{}", sign(Algorithm::HS256, secret.as_bytes(), &format!("{h}.{p}"))));
    }
    for (name, value) in [
        ("kid", json!("2")),
        ("kid", json!("../../../../dev/null")),
        ("kid", json!("1' OR '1'='1")),
        ("kid", json!(null)),
        ("kid", json!(1)),
        ("jku", json!("http://127.0.0.1/keys")),
        ("x5u", json!("http://127.0.0.1/cert")),
        ("jwk", json!({"kty": "oct", "k": "AAAA"})),
        ("crit", json!(["exp"])),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("typ", json!("at+jwt")),
        ("b64", json!(false)),
    ] {
        let mut changed = header.clone();
        changed[name] = value.clone();
        add(&format!("header {name} = {value}"), raw(&changed.to_string(), &claims.to_string()));
    }
    for (name, value) in [
        ("iss", json!("somebody")),
        ("iss", json!(null)),
        ("sub", json!("0")),
        ("sub", json!("-1")),
        ("sub", json!(user.0)),
        ("sub", json!(format!("{user} "))),
        ("sub", json!(null)),
        ("sub", json!("99999999999999999999")),
        ("dev", json!("0")),
        ("dev", json!(null)),
        ("dev", json!("1")),
        ("exp", json!(null)),
        ("exp", json!("9999999999")),
        ("exp", json!(1)),
        ("exp", json!(now / 1000 - 1)),
        ("exp", json!(1e300)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(-1)),
        ("iat", json!(0)),
        ("iat", json!(null)),
        ("iat_ms", json!(null)),
        ("iat_ms", json!(0)),
    ] {
        let mut changed = claims.clone();
        changed[name] = value.clone();
        add(&format!("claim {name} = {value}"), raw(&header.to_string(), &changed.to_string()));
    }
    let flipped = |text: &str, at: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).expect("ASCII")
    };
    add("a changed payload", format!("{h}.{}.{s}", flipped(p, 10)));
    add("a changed signature", format!("{h}.{p}.{}", flipped(s, 5)));
    add("no signature", format!("{h}.{p}."));
    add("two parts", format!("{h}.{p}"));
    add("four parts", format!("{good}.{s}"));
    add("five parts", format!("{good}.{s}.{s}"));
    add("twice", format!("{good}{good}"));
    add("padded base64", format!("{h}.{p}.{s}="));
    add("empty", String::new());
    add("dots", "..".into());
    add("not base64", format!("{h}.????.{s}"));
    add("a zero byte in it", format!("{h}.{p}\\u0000.{s}"));
    add("very long", format!("{h}.{}.{s}", "A".repeat(20_000)));
    all
}

#[tokio::test]
async fn no_forged_token_lets_anybody_in() {
    let node = TestNode::builder().set("auth.secret", SECRET).set("socket.malformed_max", 1_000).start().await;
    let user = node.user("alice").await;
    let tokens = Tokens::new(SECRET.as_bytes(), &config::Auth::default()).expect("a ring");
    let (good, _) = tokens.issue(user.id, user.device, now_ms());
    let mut socket = RawSocket::json(&node).await;
    assert_eq!(socket.ask("auth", json!({ "token": good })).await["op"], "hello", "the attacks differ from this one only in what is named");
    let mut all = attacks(user.id, user.device);
    let (gone, _) = tokens.issue(UserId(user.id.0 + 1), user.device, now_ms());
    all.push(("of somebody who does not exist".into(), gone));
    let (elsewhere, _) = tokens.issue(user.id, DeviceId(user.device.0 + 1), now_ms());
    all.push(("of a device that does not exist".into(), elsewhere));
    all.push(("the refresh token".into(), user.refresh.clone()));
    assert!(all.len() >= 50, "{}", all.len());
    let refused = ["unauthorized", "token_expired", "token_revoked", "malformed", "invalid", "too_large"];
    for (what, token) in all {
        let mut socket = RawSocket::json(&node).await;
        let answer = socket.ask("auth", json!({ "token": token })).await;
        let code = answer["code"].as_str().unwrap_or_default();
        assert!(answer["op"] == "error" && refused.contains(&code), "{what}: {answer}");
        assert!(!answer.to_string().contains(&token) || token.len() < 5, "{what}: the answer repeats the token");
        if code.starts_with("unauth") || code.starts_with("token") {
            assert!([4201, 4202, 4203].contains(&socket.closed().await), "{what}");
        }
        if token.len() > 4_000 || token.chars().any(|c| c.is_control()) {
            continue;
        }
        let answer = http(node.address(), &format!("GET /v1/me HTTP/1.1\r\nAuthorization: Bearer {token}"), "").await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
    }
    let two = format!("GET /v1/me HTTP/1.1\r\nAuthorization: Bearer {good}\r\nAuthorization: Bearer {good}");
    assert_eq!(http(node.address(), &two, "").await.status, 401, "which of two tokens counts?");
    for other in [format!("Basic {good}"), good.clone(), format!("bearer  {good}x")] {
        assert_eq!(http(node.address(), &format!("GET /v1/me HTTP/1.1\r\nAuthorization: {other}"), "").await.status, 401);
    }
}

fn not_json_frames() -> Vec<Vec<u8>> {
    let deep = |n: usize| format!(r#"{{"op":"ping","ref":1,"x":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    let texts = [
        "",
        " ",
        "null",
        "1",
        "[]",
        "\"ping\"",
        "{",
        "{}",
        "{\"op\":\"ping\"}",
        "{\"ref\":1}",
        "{\"op\":1,\"ref\":1}",
        "{\"op\":\"ping\",\"ref\":\"1\"}",
        "{\"op\":\"ping\",\"ref\":-1}",
        "{\"op\":\"ping\",\"ref\":1.5}",
        "{\"op\":\"ping\",\"ref\":18446744073709551616}",
        "{\"op\":\"ping\",\"ref\":0}",
        "{\"op\":\"ping\",\"ref\":1} {}",
        "{\"op\":\"ping\",\"ref\":1}x",
        "{\"op\":\"ping\",\"op\":\"ping\",\"ref\":1}",
        "{\"op\":\"ping\",\"ref\":1,\"ref\":2}",
        "{\"op\":\"typing\",\"ref\":1,\"room\":5,\"on\":true}",
        "{\"op\":\"typing\",\"ref\":1,\"room\":\"05\",\"on\":true}",
        "{\"op\":\"typing\",\"ref\":1,\"room\":\"1\",\"on\":\"yes\"}",
        "{\"op\":\"auth\",\"ref\":1,\"token\":\"\\ud800\"}",
        "{'op':'ping','ref':1}",
        "{\"op\":\"nosuch\",\"ref\":1}",
        "{\"op\":\"send\",\"ref\":1,\"room\":\"1\",\"cid\":\"short\",\"text\":\"x\"}",
    ];
    texts.iter().map(|t| t.as_bytes().to_vec()).chain([deep(33).into_bytes(), deep(20_000).into_bytes()]).collect()
}

fn not_msgpack_frames() -> Vec<Vec<u8>> {
    let ping = || vec![0x82, 0xa2, b'o', b'p', 0xa4, b'p', b'i', b'n', b'g', 0xa3, b'r', b'e', b'f', 0x01];
    let with = |tail: &[u8]| ping().into_iter().chain(tail.iter().copied()).collect::<Vec<u8>>();
    let third = |value: &[u8]| {
        let mut map = with(&[0xa1, b'x']);
        map[0] = 0x83;
        map.extend_from_slice(value);
        map
    };
    vec![
        vec![],
        vec![0xc1],
        vec![0xc0],
        vec![0x93, 1, 2, 3],
        with(&[0x00]),
        with(&ping()),
        ping()[..13].to_vec(),
        vec![0xdf, 0xff, 0xff, 0xff, 0xff],
        vec![0xdd, 0xff, 0xff, 0xff, 0xff],
        third(&[0xdb, 0xff, 0xff, 0xff, 0xff, b'x']),
        third(&[0xc6, 0xff, 0xff, 0xff, 0xff]),
        third(&[0xdd, 0xff, 0xff, 0xff, 0xff]),
        third(&[0xdf, 0xff, 0xff, 0xff, 0xff]),
        third(&[0x91; 64]),
        third(&[0x91; 30_000]),
        third(&[0xa2, 0xff, 0xfe]),
        vec![0x82, 0xa2, b'o', b'p', 0xa4, 0xff, 0xfe, b'n', b'g', 0xa3, b'r', b'e', b'f', 0x01],
    ]
}

#[tokio::test]
async fn what_is_no_frame_is_answered_with_an_error_and_nothing_is_lost() {
    let node = TestNode::builder().set("socket.malformed_max", 1_000).start().await;
    let user = node.user("alice").await;
    let mut socket = RawSocket::signed_in(&node, &user).await;
    for bytes in not_json_frames() {
        socket.frame(Op::Text, &bytes).await;
        let answer = socket.value().await;
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        assert_eq!(answer["op"], "error", "{text}: {answer}");
        assert!(["malformed", "invalid", "unknown_op"].contains(&answer["code"].as_str().expect("a code")), "{text}: {answer}");
        assert_eq!(socket.ask("ping", json!({})).await["op"], "ok", "{text}");
    }
    let protocols = format!("hubbub.v1.msgpack, hubbub.bearer.{}", user.token);
    let mut socket = RawSocket::offering(&node, &protocols).await;
    socket.next().await.expect("a hello");
    let ping = not_msgpack_frames()[4][..14].to_vec();
    for bytes in not_msgpack_frames() {
        socket.frame(Op::Binary, &bytes).await;
        let answer = decode_push(Format::Msgpack, &socket.next().await.expect("an answer").payload).expect("a frame");
        let refused = matches!(&answer, Push::Error(e) if [Code::Malformed, Code::UnknownOp, Code::Invalid].contains(&e.error.code));
        assert!(refused, "{:x?}: {answer:?}", &bytes[..bytes.len().min(40)]);
        socket.frame(Op::Binary, &ping).await;
        let answer = decode_push(Format::Msgpack, &socket.next().await.expect("an answer").payload).expect("a frame");
        assert!(matches!(answer, Push::Ok(ok) if ok.reference == 1));
    }
}

#[tokio::test]
async fn too_many_malformed_frames_close_the_socket() {
    let node = TestNode::start().await;
    let user = node.user("alice").await;
    let mut socket = RawSocket::signed_in(&node, &user).await;
    for _ in 0..20 {
        socket.text("{").await;
    }
    assert_eq!(socket.closed().await, 4204);
    assert_eq!(socket.pushes.len(), 20, "each was answered");
}

#[tokio::test]
async fn a_frame_that_breaks_the_rules_of_websockets_closes_with_the_right_code() {
    let node = TestNode::start().await;
    let user = node.user("alice").await;
    let table: Vec<(&str, Vec<u8>, u16)> = vec![
        ("binary on JSON", client_frame(true, Op::Binary, [1, 2, 3, 4], b"{}").to_vec(), 1003),
        ("text that is not UTF-8", client_frame(true, Op::Text, [0; 4], &[0xff, 0xfe]).to_vec(), 1007),
        ("no mask", vec![0x81, 0x02, b'{', b'}'], 1002),
        ("a reserved bit", vec![0xc1, 0x80, 0, 0, 0, 0], 1002),
        ("an unknown opcode", vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        ("a continuation of nothing", client_frame(true, Op::Continuation, [0; 4], b"x").to_vec(), 1002),
        ("a fragmented ping", client_frame(false, Op::Ping, [0; 4], b"x").to_vec(), 1002),
        ("a ping of 126 bytes", client_frame(true, Op::Ping, [0; 4], &[0; 126]).to_vec(), 1002),
        ("a Close with a code nobody may send", client_frame(true, Op::Close, [0; 4], &1005u16.to_be_bytes()).to_vec(), 1002),
        ("a Close of one byte", client_frame(true, Op::Close, [0; 4], &[3]).to_vec(), 1002),
        ("a Close", client_frame(true, Op::Close, [0; 4], &4321u16.to_be_bytes()).to_vec(), 4321),
        ("a Close without a code", client_frame(true, Op::Close, [0; 4], &[]).to_vec(), 1000),
    ];
    for (what, bytes, code) in table {
        let mut socket = RawSocket::signed_in(&node, &user).await;
        socket.bytes(&bytes).await;
        let found = socket.closed().await;
        assert!(found == code || (code == 1000 && found == 1005), "{what}: {found}, not {code}");
        assert!(socket.is_over().await, "{what}: the server ends its side");
    }
    let mut packed = RawSocket::offering(&node, "hubbub.v1.msgpack").await;
    packed.text("{}").await;
    assert_eq!(packed.closed().await, 1003);
    eventually("no socket is left", SOON, || async { node.metric("hubbub_sockets_open").await == 0.0 }).await;
}

#[tokio::test]
async fn an_idle_client_is_pinged_and_a_silent_one_closed() {
    let node = TestNode::builder().set("socket.heartbeat_ms", 1_000).start().await;
    let user = node.user("alice").await;
    let (mut silent, mut answers) = (RawSocket::signed_in(&node, &user).await, RawSocket::signed_in(&node, &user).await);
    let talking = tokio::spawn(async move {
        let (mut pings, began) = (0, Instant::now());
        while began.elapsed() < Duration::from_secs(4) {
            let frame = answers.next().await.expect("it stays open");
            assert_eq!(frame.op, 9, "a ping: {frame:?}");
            answers.frame(Op::Pong, &frame.payload).await;
            pings += 1;
        }
        assert_eq!(answers.ask("ping", json!({})).await["op"], "ok");
        pings
    });
    let began = Instant::now();
    assert_eq!(silent.closed().await, 4003);
    assert!(began.elapsed() >= Duration::from_millis(1_900), "closed after {:?}", began.elapsed());
    assert!(talking.await.expect("no panic") >= 2);
}

#[tokio::test]
async fn clients_of_both_encodings_see_the_same() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let a = TestClient::connect_with(&node, &alice, "json", Format::Json, Options::default()).await;
    let b = TestClient::connect_with(&node, &bob, "msgpack", Format::Msgpack, Options::default()).await;
    let room = a.create(RoomKind::Group, &[bob.id]).await;
    for (n, client) in [&a, &b, &a, &b].into_iter().enumerate() {
        client.send(room, &format!("ünïcödé \u{0} \"{n}\" 👍")).await;
    }
    a.reaches(room, 5).await;
    b.reaches(room, 5).await;
    let entries = |client: &TestClient| -> Vec<_> {
        let of = |p: Push| match p {
            Push::Entry(e) => vec![e],
            Push::Entries(page) => page.entries,
            _ => vec![],
        };
        client.take_pushes().into_iter().flat_map(of).collect()
    };
    let (of_a, of_b) = (entries(&a), entries(&b));
    assert_eq!(of_a.len(), 5);
    assert_eq!(of_a, of_b);
}

#[tokio::test]
async fn ten_thousand_requests_at_once_are_each_answered_once() {
    let node = TestNode::start().await;
    let user = node.user("alice").await;
    let mut socket = RawSocket::live(&node, &user).await;
    let room = create(&mut socket, "group", &[]).await;
    const ALL: u64 = 10_000;
    let first = socket.request("ping", json!({})).await;
    let mut frames = Vec::new();
    for n in 1..ALL {
        let mut fields = if n % 2 == 0 { json!({ "op": "ping" }) } else { once(&room, json!({ "op": "send", "text": "x" })) };
        fields["ref"] = (first + n).into();
        frames.push(client_frame(true, Op::Text, [9, 9, 9, 9], fields.to_string().as_bytes()));
    }
    // Always far more under way than the server takes on at once (64): what it does not read waits in the socket.
    let (mut counts, mut sent, mut answered) = (vec![0u8; ALL as usize], 1, 0);
    let mut parts = frames.chunks(200);
    while answered < ALL {
        if sent - answered <= 400
            && let Some(part) = parts.next()
        {
            socket.bytes(&part.concat()).await;
            sent += part.len() as u64;
            continue;
        }
        let value = socket.value().await;
        if let Some(reference) = value["ref"].as_u64() {
            assert_eq!(value["op"], "ok", "{value}");
            counts[(reference - first) as usize] += 1;
            answered += 1;
        }
    }
    assert!(counts.iter().all(|c| *c == 1));
    let history = socket.ask("history", json!({ "room": room, "limit": 1 })).await;
    assert_eq!(history["messages"][0]["entry"]["n"], ALL / 2);
}

#[tokio::test]
async fn a_message_is_edited_reacted_to_pinned_and_deleted() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (mut a, mut b) = (RawSocket::live(&node, &alice).await, RawSocket::live(&node, &bob).await);
    let room = create(&mut a, "group", &[&bob]).await;
    let first = sends(&mut a, &room, "first").await;
    let fields = json!({ "text": "an answer", "reply_to": first, "thread": first, "mentions": [alice.id.to_string()], "data": "{}",
        "attachments": [{ "url": "/v1/files/9", "mime": "image/png", "name": "cat.png", "size": 3 }] });
    let second = b.ask("send", once(&room, fields.clone())).await["seq"].as_u64().expect("an entry");
    for (op, fields) in [
        ("edit", json!({ "seq": first, "text": "first, edited" })),
        ("react", json!({ "seq": second, "emoji": "👍", "on": true })),
        ("react", json!({ "seq": second, "emoji": "tada", "on": true })),
        ("react", json!({ "seq": second, "emoji": "tada", "on": false })),
        ("pin", json!({ "seq": second, "on": true })),
    ] {
        let answer = a.ask(op, once(&room, fields)).await;
        assert!(answer["op"] == "ok" && answer["n"] == 2, "{op}: {answer}");
    }
    let third = sends(&mut a, &room, "to be deleted").await;
    assert_eq!(a.ask("delete", once(&room, json!({ "seq": third }))).await["op"], "ok");
    for (op, fields) in [("edit", json!({ "seq": third, "text": "x" })), ("react", json!({ "seq": third, "emoji": "x", "on": true }))] {
        assert_eq!(a.ask(op, once(&room, fields)).await["code"], "conflict", "{op} of a tombstone");
    }
    assert_eq!(a.ask("edit", once(&room, json!({ "seq": 1, "text": "x" }))).await["code"], "not_found", "an entry that is no message");
    assert_eq!(a.ask("send", once(&room, json!({ "text": "x", "reply_to": 99 }))).await["code"], "conflict");

    // What bob was shown live is what happened; what history shows is what came of it.
    let mut kinds = Vec::new();
    while kinds.len() < 10 {
        let entry = push(&mut b, if kinds.is_empty() { "entries" } else { "entry" }).await;
        let entries = entry["entries"].as_array().cloned().unwrap_or_else(|| vec![entry]);
        kinds.extend(entries.iter().map(|e| e["body"].as_object().expect("a body").keys().next().expect("a kind").clone()));
    }
    assert_eq!(kinds, ["room", "message", "message", "edit", "react", "react", "react", "pin", "message", "delete"]);
    let check = |shown: &Value| {
        let m = shown["messages"].as_array().expect("messages");
        assert_eq!(m.len(), 3, "{shown}");
        assert_eq!((&m[0]["entry"]["body"]["message"]["text"], &m[0]["edited"]), (&json!("first, edited"), &json!(4)));
        let body = &m[1]["entry"]["body"]["message"];
        for key in ["text", "reply_to", "thread", "mentions", "data", "attachments"] {
            assert_eq!(body[key], fields[key], "{key}");
        }
        assert_eq!((&m[1]["reactions"], &m[1]["pinned"]), (&json!([{ "emoji": "👍", "users": [alice.id.to_string()] }]), &json!(true)));
        assert_eq!((&m[2]["entry"]["body"], &m[2]["deleted"]), (&json!({ "message": { "text": "" } }), &json!(11 - 1)));
        assert!(!shown.to_string().contains("to be deleted"));
        assert_eq!((&shown["head"], &shown["more"]), (&json!(10), &json!(false)));
    };
    // The folded form follows the entries; it is there soon after.
    loop {
        let shown = b.ask("history", json!({ "room": room })).await;
        if shown["messages"][2]["deleted"].is_u64() {
            check(&shown);
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn history_and_members_come_in_pages() {
    let node = TestNode::start().await;
    let alice = node.user("alice").await;
    let mut others = Vec::new();
    for n in 0..7 {
        others.push(node.user(&format!("user{n}")).await);
    }
    let mut a = RawSocket::live(&node, &alice).await;
    let room = create(&mut a, "group", &others.iter().collect::<Vec<_>>()).await;
    for n in 0..30 {
        let seq = sends(&mut a, &room, &format!("{n}")).await;
        a.ask("react", once(&room, json!({ "seq": seq, "emoji": "x", "on": true }))).await;
    }
    let texts = |answer: &Value| -> Vec<u64> {
        let text = |m: &Value| m["entry"]["body"]["message"]["text"].as_str().expect("a text").parse().expect("a number");
        answer["messages"].as_array().unwrap_or_else(|| panic!("{answer}")).iter().map(text).collect()
    };
    let range = |r: std::ops::Range<u64>| r.collect::<Vec<u64>>();
    // Message n has seq 2 + 2n.
    for (ask, expected, more) in [
        (json!({}), range(0..30), false),
        (json!({ "limit": 10 }), range(20..30), true),
        (json!({ "limit": 10, "before": 42 }), range(10..20), true),
        (json!({ "limit": 10, "before": 22 }), range(0..10), false),
        (json!({ "limit": 10, "before": 1 }), vec![], false),
        (json!({ "limit": 10, "after": 0 }), range(0..10), true),
        (json!({ "limit": 10, "after": 41 }), range(20..30), false),
        (json!({ "limit": 10, "after": 1_000 }), vec![], false),
        (json!({ "limit": 4, "around": 22 }), range(9..13), true),
        (json!({ "limit": 1, "around": 22 }), range(10..11), true),
    ] {
        let mut fields = ask.clone();
        fields["room"] = room.clone().into();
        let answer = a.ask("history", fields).await;
        assert_eq!((texts(&answer), &answer["more"]), (expected, &json!(more)), "{ask}");
        assert_eq!(answer["head"], 61);
    }
    assert_eq!(a.ask("history", json!({ "room": room, "before": 9, "after": 3 })).await["code"], "invalid");
    assert_eq!(a.ask("history", json!({ "room": room, "limit": 201 })).await["code"], "invalid");

    let (mut seen, mut after) = (Vec::new(), json!(null));
    loop {
        let page = a.ask("members", json!({ "room": room, "limit": 3, "after": after })).await;
        let members = page["members"].as_array().unwrap_or_else(|| panic!("{page}"));
        seen.extend(members.iter().map(|m| m["name"].as_str().expect("a name").to_owned()));
        after = members.last().map_or(json!(null), |m| m["user"].clone());
        if page["more"] == false {
            break;
        }
        assert_eq!(members.len(), 3);
    }
    seen.sort();
    let mut expected: Vec<String> = others.iter().map(|o| o.name.clone()).chain(["alice".into()]).collect();
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn the_room_list_counts_what_is_unread() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (mut a, mut b) = (RawSocket::live(&node, &alice).await, RawSocket::live(&node, &bob).await);
    let mut rooms = Vec::new();
    for _ in 0..5 {
        rooms.push(create(&mut a, "group", &[&bob]).await);
    }
    let direct = create(&mut a, "direct", &[&bob]).await;
    for text in ["one", "two", "three"] {
        sends(&mut a, &rooms[2], text).await;
    }
    let mention = once(&rooms[2], json!({ "text": "@bob", "mentions": [bob.id.to_string()] }));
    let last = a.ask("send", mention).await["seq"].clone();
    let newest_first = |list: &Value| -> Vec<String> {
        list["rooms"].as_array().expect("rooms").iter().map(|r| r["room"].as_str().expect("an id").into()).collect()
    };
    // The list follows the entries; it is there soon after.
    let list = loop {
        let list = b.ask("rooms", json!({})).await;
        if list["rooms"].as_array().is_some_and(|r| r.len() == 6) && list["rooms"][0]["mentions"] == 1 {
            break list;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(newest_first(&list)[..2], [rooms[2].clone(), direct.clone()], "{list}");
    let first = &list["rooms"][0];
    assert_eq!((&first["unread"], &first["n"], &first["read"], &first["role"]), (&json!(4), &json!(4), &json!(0), &json!("member")));
    assert_eq!(first["last"]["entry"]["body"]["message"]["text"], "@bob");
    assert_eq!((&list["rooms"][1]["kind"], &list["rooms"][1]["peer"]), (&json!("direct"), &json!(alice.id.to_string())));
    let window = b.ask("rooms", json!({ "offset": 1, "limit": 2 })).await;
    assert_eq!((newest_first(&window), &window["more"]), (newest_first(&list)[1..3].to_vec(), &json!(true)));

    // Reading moves the cursor, tells the other, and never goes back.
    assert_eq!(b.ask("cursor", json!({ "room": rooms[2], "read": last })).await["op"], "ok");
    let receipt = push(&mut a, "receipt").await;
    assert_eq!((&receipt["user"], &receipt["read"], &receipt["delivered"]), (&json!(bob.id.to_string()), &last, &last));
    assert_eq!(b.ask("cursor", json!({ "room": rooms[2], "read": 2 })).await["op"], "ok");
    let list = b.ask("rooms", json!({ "limit": 1 })).await;
    assert_eq!((&list["rooms"][0]["unread"], &list["rooms"][0]["mentions"], &list["rooms"][0]["read"]), (&json!(0), &json!(0), &last));
    let mut again = RawSocket::signed_in(&node, &bob).await;
    let resumed = again.ask("resume", json!({ "rooms": [], "last": true })).await;
    assert_eq!(resumed["cursors"], json!([{ "room": rooms[2], "read": last, "delivered": last }]));
}

#[tokio::test]
async fn typing_is_told_to_the_others_and_ends_by_itself() {
    let node = TestNode::builder().set("rooms.typing_ttl_ms", 1_234).set("rooms.receipts_members_max", 2).start().await;
    let (alice, bob, carol) = (node.user("alice").await, node.user("bob").await, node.user("carol").await);
    let (mut a, mut b) = (RawSocket::live(&node, &alice).await, RawSocket::live(&node, &bob).await);
    let room = create(&mut a, "group", &[&bob]).await;
    push(&mut b, "entries").await;
    for on in [true, false] {
        assert_eq!(a.ask("typing", json!({ "room": room, "on": on })).await["op"], "ok");
        let told = push(&mut b, "typing").await;
        assert_eq!((&told["user"], &told["on"], &told["ttl_ms"]), (&json!(alice.id.to_string()), &json!(on), &json!(1234)));
    }
    assert!(!a.pushes.iter().any(|p| p["op"] == "typing"), "one is not told of oneself");
    assert_eq!(b.ask("cursor", json!({ "room": room, "read": 1 })).await["op"], "ok");
    push(&mut a, "receipt").await;
    // Above the limit receipts are counted, not told.
    assert_eq!(a.ask("invite", once(&room, json!({ "user": carol.id.to_string() }))).await["op"], "ok");
    assert_eq!(b.ask("cursor", json!({ "room": room, "read": 2 })).await["op"], "ok");
    let said = sends(&mut b, &room, "read it").await;
    loop {
        let entry = push(&mut a, "entry").await;
        if entry["seq"] == said {
            break;
        }
    }
    assert!(!a.pushes.iter().any(|p| p["op"] == "receipt"), "{:?}", a.pushes);
    let changed = a.ask("update", once(&room, json!({ "name": "Dinner", "topic": "" }))).await;
    assert_eq!(changed["op"], "ok", "{changed}");
    loop {
        let entry = push(&mut b, "entry").await;
        if entry["body"]["room"].is_object() {
            assert_eq!(entry["body"]["room"]["name"], "Dinner");
            break;
        }
    }
}

#[tokio::test]
async fn a_token_that_is_refused_ends_the_connection_for_good() {
    let node = TestNode::start().await;
    let refused = Connection::open(&node.url(), "nonsense", Format::Msgpack, &Options::default()).await.err().expect("refused");
    assert!(matches!(&refused, ClientError::Api(e) if e.code == Code::Unauthorized), "{refused:?}");
}
