//! The HTTP API as clients meet it: status codes, bodies, headers, limits. Over the real store and a node that only writes down
//! what it was told.

use super::*;
use crate::protocol::ops::PresenceState;
use crate::storage::embedded::EmbeddedStore;
use actix_http::Request;
use actix_web::body::to_bytes;
use actix_web::http::Method;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, dev::Service};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const ADMIN: &str = "the admin token";

#[derive(Default)]
struct FakeNode {
    ids: AtomicU64,
    revoked: Mutex<Vec<(UserId, Option<DeviceId>)>>,
    contacts: Mutex<Vec<(UserId, UserId)>>,
    statuses: Mutex<Vec<(UserId, String)>>,
    status: Mutex<Option<NodeStatus>>,
    /// Another node does what only one may do.
    owns_nothing: AtomicBool,
}

#[async_trait]
impl NodePort for FakeNode {
    async fn next_id(&self) -> Result<u64, ApiError> {
        Ok(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }
    fn revoked(&self, user: UserId, device: Option<DeviceId>) {
        self.revoked.lock().push((user, device));
    }
    fn contacts_changed(&self, a: UserId, b: UserId) {
        self.contacts.lock().push((a, b));
    }
    async fn kind_for(&self, _: UserId, _: RoomId) -> Result<RoomKind, ApiError> {
        Err(ApiError::new(Code::NotFound, "no room"))
    }
    async fn settle(&self, _: RoomId) {}
    fn status_changed(&self, user: UserId, status: String) {
        self.statuses.lock().push((user, status));
    }
    async fn presence(&self, users: &[UserId]) -> Vec<PresencePush> {
        let online = |user: &UserId| PresencePush { user: *user, state: PresenceState::Online, last_seen: 9, status: "here".into() };
        users.iter().take(1).map(online).collect()
    }
    async fn ask_at(&self, _: Caller, request: ops::Request, _: Option<Seq>) -> Result<ops::Ok, ApiError> {
        Err(ApiError::new(Code::UnknownOp, request.op()))
    }
    fn status(&self) -> NodeStatus {
        self.status.lock().clone().unwrap_or(NodeStatus { draining: false, ready: Ok(()), warnings: Vec::new() })
    }
    fn cluster(&self) -> Option<cluster::ClusterStatus> {
        None
    }
    fn drain(&self, _: u32) {}
    fn owns(&self, _: UserId) -> bool {
        !self.owns_nothing.load(Ordering::Relaxed)
    }
    fn fault(&self, actor: &str, id: u64) -> bool {
        actor == "room" && id == 7
    }
}

struct World {
    api: web::Data<Api>,
    node: Arc<FakeNode>,
    _dir: tempfile::TempDir,
}

fn api(config: Config, store: Arc<EmbeddedStore>, node: Arc<FakeNode>, admin_token: &str) -> Result<Api, SetupError> {
    let outbound = Arc::new(Outbound::new(&config.outbound).unwrap());
    let webhooks = Arc::new(Webhooks::new(store.clone(), config.webhooks.clone()));
    let tokens = Tokens::new(&[1; 32], &config.auth).unwrap();
    let pushes = Arc::new(Pushes::new(store.clone(), &config, outbound.clone(), &"7".repeat(64), String::new()).unwrap());
    Api::new(Arc::new(config), store, Outside { outbound, pushes, webhooks }, node, tokens, admin_token.into())
}

fn world_with(change: impl FnOnce(&mut Config)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    (config.auth.argon2_memory_kib, config.auth.argon2_passes) = (8, 1);
    config.auth.attempts_per_minute = 0;
    change(&mut config);
    let store = EmbeddedStore::open(dir.path(), Default::default()).unwrap();
    let node = Arc::new(FakeNode::default());
    let api = api(config, store, node.clone(), ADMIN).unwrap();
    World { api: web::Data::new(api), node, _dir: dir }
}

fn world() -> World {
    world_with(|_| {})
}

/// What came back: status, headers, and the body as JSON (or as a JSON string of its text).
struct Reply {
    status: u16,
    headers: header::HeaderMap,
    body: Value,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    /// Checks that it is a problem with this status and code.
    fn problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!((self.header("cache-control"), self.header("x-content-type-options")), ("no-store", "nosniff"));
        assert_eq!((&self.body["type"], &self.body["status"]), (&json!("about:blank"), &json!(status)));
        assert!(!self.body["title"].as_str().unwrap().is_empty() && !self.body["detail"].as_str().unwrap().is_empty());
        assert!(["never", "now", "later"].contains(&self.body["retry"].as_str().unwrap()));
        assert_eq!(status == 401, !self.header("www-authenticate").is_empty());
    }
    fn text(&self, key: &str) -> String {
        self.body[key].as_str().unwrap_or_else(|| panic!("no {key} in {}", self.body)).to_string()
    }
}

async fn call<S, B>(app: &S, request: TestRequest) -> Reply
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    let response = call_service(app, request.to_request()).await;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = to_bytes(response.into_body()).await.unwrap_or_else(|_| panic!("the body ends"));
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into()));
    Reply { status, headers, body }
}

fn request(method: &str, uri: &str) -> TestRequest {
    TestRequest::default().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(uri).peer_addr("192.0.2.1:1".parse().unwrap())
}

fn with_token(method: &str, uri: &str, token: &str) -> TestRequest {
    request(method, uri).insert_header(("authorization", format!("Bearer {token}")))
}

/// Both route tables.
macro_rules! public {
    ($world:expr) => {
        init_service(App::new().configure(routes($world.api.clone()))).await
    };
}
macro_rules! operators {
    ($world:expr) => {
        init_service(App::new().configure(admin_routes($world.api.clone()))).await
    };
}
/// Registers a user; gives the answer.
macro_rules! register {
    ($app:expr, $name:expr) => {{
        let reply = call(&$app, request("POST", "/v1/auth/register").set_json(json!({"name": $name, "password": "correct horse"}))).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        reply
    }};
}

#[actix_rt::test]
async fn one_registers_signs_in_renews_and_signs_out() {
    let w = world();
    let app = public!(w);
    let new = register!(app, "alice");
    assert_eq!((new.header("cache-control"), new.header("x-content-type-options")), ("no-store", "nosniff"));
    assert!(new.body["expires"].as_u64().unwrap() < new.body["refresh_expires"].as_u64().unwrap());
    let body = json!({"name": "alice", "password": "correct horse", "device": "Firefox"});
    let login = call(&app, request("POST", "/v1/auth/login").set_json(body)).await;
    assert_eq!((login.status, login.text("user"), login.text("name")), (200, new.text("user"), "alice".into()));
    assert_ne!(login.text("device"), new.text("device"));
    let me = call(&app, with_token("GET", "/v1/me", &login.text("access_token"))).await;
    assert_eq!((me.status, me.text("user"), me.text("device")), (200, new.text("user"), login.text("device")));

    let renew = |token: String| request("POST", "/v1/auth/refresh").set_json(json!({"refresh_token": token}));
    let next = call(&app, renew(login.text("refresh_token"))).await;
    assert_eq!((next.status, next.text("device")), (200, login.text("device")));
    let after = call(&app, renew(next.text("refresh_token"))).await;
    assert_eq!(after.status, 200);
    // The one from the beginning again: somebody has a copy.
    call(&app, renew(login.text("refresh_token"))).await.problem(401, "token_revoked");
    call(&app, renew(after.text("refresh_token"))).await.problem(401, "token_revoked");
    call(&app, with_token("GET", "/v1/me", &after.text("access_token"))).await.problem(401, "token_revoked");
    let device = Some(login.text("device").parse().unwrap());
    assert_eq!(*w.node.revoked.lock(), [(new.text("user").parse().unwrap(), device)]);

    let out = call(&app, with_token("POST", "/v1/auth/logout", &new.text("access_token"))).await;
    assert_eq!(out.status, 204);
    call(&app, with_token("GET", "/v1/me", &new.text("access_token"))).await.problem(401, "token_revoked");
    call(&app, renew(new.text("refresh_token"))).await.problem(401, "token_revoked");
    assert_eq!(w.node.revoked.lock().len(), 2);
}

#[actix_rt::test]
async fn signing_out_everywhere_ends_all_devices_and_nobody_elses() {
    let w = world();
    let app = public!(w);
    let first = register!(app, "alice");
    let other = register!(app, "bob");
    let login = || request("POST", "/v1/auth/login").set_json(json!({"name": "alice", "password": "correct horse"}));
    let second = call(&app, login()).await;
    let out = with_token("POST", "/v1/auth/logout", &second.text("access_token")).set_json(json!({"everywhere": true}));
    assert_eq!(call(&app, out).await.status, 204);
    for ended in [&first, &second] {
        call(&app, with_token("GET", "/v1/me", &ended.text("access_token"))).await.problem(401, "token_revoked");
        let renew = request("POST", "/v1/auth/refresh").set_json(json!({"refresh_token": ended.text("refresh_token")}));
        call(&app, renew).await.problem(401, "token_revoked");
    }
    assert_eq!(*w.node.revoked.lock(), [(first.text("user").parse().unwrap(), None)]);
    assert_eq!(call(&app, with_token("GET", "/v1/me", &other.text("access_token"))).await.status, 200);
    let third = call(&app, login()).await;
    assert_eq!(call(&app, with_token("GET", "/v1/me", &third.text("access_token"))).await.status, 200, "at once, in the same millisecond");
}

#[actix_rt::test]
async fn an_unknown_user_and_a_wrong_password_look_alike() {
    let w = world();
    let app = public!(w);
    register!(app, "alice");
    let login = |name: &str, password: &str| request("POST", "/v1/auth/login").set_json(json!({"name": name, "password": password}));
    let wrong = call(&app, login("alice", "wrong horse")).await;
    let unknown = call(&app, login("nobody", "wrong horse")).await;
    wrong.problem(401, "bad_credentials");
    assert_eq!(wrong.body, unknown.body);
    let names = |r: &Reply| r.headers.keys().map(|k| k.to_string()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(names(&wrong), names(&unknown));
}

#[actix_rt::test]
async fn what_cannot_be_is_refused_as_a_problem() {
    let w = world_with(|c| c.http.body_bytes_max = 1000);
    let app = public!(w);
    register!(app, "alice");
    let post =
        |body: &str| request("POST", "/v1/auth/register").insert_header(("content-type", "application/json")).set_payload(body.to_string());
    for body in ["", "{", "[]", "null", r#"{"name":"bob"}"#, r#"{"name":1,"password":"correct horse"}"#, "{\"name\":\"\u{0}", "{} {}"] {
        call(&app, post(body)).await.problem(400, "malformed");
    }
    call(&app, post(&"[".repeat(900))).await.problem(400, "malformed");
    call(&app, post(&" ".repeat(1001))).await.problem(413, "too_large");
    call(&app, request("POST", "/v1/auth/register").set_payload("{}")).await.problem(400, "malformed");
    call(&app, post(r#"{"name":"bob","password":"short"}"#)).await.problem(422, "invalid");
    call(&app, post(r#"{"name":"B b","password":"correct horse"}"#)).await.problem(422, "invalid");
    call(&app, post(r#"{"name":"alice","password":"correct horse"}"#)).await.problem(409, "conflict");
    call(&app, request("GET", "/v1/nothing")).await.problem(404, "not_found");
    for (what, token) in [("none", None), ("empty", Some("")), ("no token", Some("x.y.z")), ("an id", Some("1"))] {
        let request = token.map_or_else(|| request("GET", "/v1/me"), |t| with_token("GET", "/v1/me", t));
        let reply = call(&app, request).await;
        reply.problem(401, "unauthorized");
        assert!(reply.header("www-authenticate").starts_with("Bearer"), "{what}");
    }
    let basic = request("GET", "/v1/me").insert_header(("authorization", "Basic YWxpY2U6cGFzc3dvcmQ="));
    call(&app, basic).await.problem(401, "unauthorized");
    let closed = world_with(|c| c.auth.registration = false);
    let reply =
        call(&public!(closed), request("POST", "/v1/auth/register").set_json(json!({"name": "bob", "password": "correct horse"}))).await;
    reply.problem(403, "forbidden");
}

#[actix_rt::test]
async fn an_expired_token_says_so() {
    let w = world();
    let app = public!(w);
    let new = register!(app, "alice");
    let (user, device) = (new.text("user").parse().unwrap(), new.text("device").parse().unwrap());
    let (old, _) = w.api.tokens.issue(user, device, crate::auth::now() - 1_000_000);
    let reply = call(&app, with_token("GET", "/v1/me", &old)).await;
    reply.problem(401, "token_expired");
    assert!(reply.header("www-authenticate").contains("invalid_token"));
}

#[actix_rt::test]
async fn every_address_answers_other_methods_with_405_and_what_it_allows() {
    const PUBLIC: &[(&str, &str)] = &[
        ("/v1/auth/register", "POST"),
        ("/v1/auth/login", "POST"),
        ("/v1/auth/refresh", "POST"),
        ("/v1/auth/logout", "POST"),
        ("/v1/auth/login/mfa", "POST"),
        ("/v1/auth/password/forgot", "POST"),
        ("/v1/auth/password/reset", "POST"),
        ("/v1/auth/email/verify", "POST"),
        ("/v1/me", "GET, HEAD, PATCH, DELETE"),
        ("/v1/me/password", "PUT"),
        ("/v1/me/email", "PUT, DELETE"),
        ("/v1/me/devices", "GET, HEAD"),
        ("/v1/me/devices/5", "DELETE"),
        ("/v1/me/totp", "POST, DELETE"),
        ("/v1/me/totp/confirm", "POST"),
        ("/v1/me/export", "GET, HEAD"),
        ("/v1/users/5", "GET, HEAD, DELETE"),
        ("/v1/users/by-name/alice", "GET, HEAD"),
        ("/v1/contacts", "GET, HEAD"),
        ("/v1/contacts/presence", "GET, HEAD"),
        ("/v1/contacts/5", "PUT, DELETE"),
        ("/v1/blocks", "GET, HEAD"),
        ("/v1/blocks/5", "PUT, DELETE"),
        ("/v1/reports", "GET, HEAD, POST"),
        ("/v1/reports/5/resolve", "POST"),
        ("/v1/server-bans", "GET, HEAD"),
        ("/v1/server-bans/5", "PUT, DELETE"),
        ("/v1/openapi.json", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/docs/index.html", "GET, HEAD"),
        ("/livez", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/", "GET, HEAD"),
    ];
    const OPERATORS: &[(&str, &str)] = &[
        ("/metrics", "GET, HEAD"),
        ("/livez", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/admin/users", "GET, HEAD, POST"),
        ("/admin/users/alice", "DELETE"),
        ("/admin/users/alice/totp", "DELETE"),
        ("/admin/users/alice/disable", "POST"),
        ("/admin/users/alice/enable", "POST"),
        ("/admin/users/alice/password", "POST"),
        ("/admin/users/alice/token", "POST"),
        ("/admin/keys", "GET, HEAD"),
        ("/admin/keys/prepare", "POST"),
        ("/admin/keys/reload", "POST"),
        ("/admin/keys/rotate", "POST"),
        ("/admin/audit", "GET, HEAD"),
        ("/admin/reports", "GET, HEAD"),
        ("/admin/reports/5/resolve", "POST"),
        ("/admin/server-bans", "GET, HEAD"),
        ("/admin/backup", "POST"),
        ("/admin/fault", "POST"),
    ];
    let w = world();
    let (public, operators) = (public!(w), operators!(w));
    for (table, routes) in [(PUBLIC, true), (OPERATORS, false)] {
        for (path, allow) in table {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                let reply = if routes { call(&public, request(method, path)).await } else { call(&operators, request(method, path)).await };
                if allow.split(", ").any(|m| m == method) {
                    assert!(![404, 405].contains(&reply.status), "{method} {path}: {}", reply.status);
                } else {
                    if method == "OPTIONS" {
                        assert_eq!(reply.status, 204)
                    } else {
                        reply.problem(405, "method_not_allowed")
                    }
                    assert_eq!(reply.header("allow"), format!("{allow}, OPTIONS"), "{method} {path}");
                }
            }
        }
    }
    for path in ["/metrics", "/admin/users"] {
        call(&public, request("GET", path)).await.problem(404, "not_found");
    }
}

#[actix_rt::test]
async fn attempts_and_requests_are_limited_by_address_and_by_name() {
    let w = world_with(|c| c.auth.attempts_per_minute = 5);
    let app = public!(w);
    let login = |name: &str, from: &str| {
        let body = json!({"name": name, "password": "wrong horse"});
        request("POST", "/v1/auth/login").peer_addr(from.parse().unwrap()).set_json(body)
    };
    for n in 0..5 {
        call(&app, login(&format!("user{n}"), "192.0.2.1:1")).await.problem(401, "bad_credentials");
    }
    let reply = call(&app, login("user9", "192.0.2.1:2")).await;
    reply.problem(429, "rate_limited");
    assert!((1..=12).contains(&reply.header("retry-after").parse::<u64>().unwrap()));
    assert!(reply.body["retry_after_ms"].as_u64().unwrap() > 0);
    // From ever new addresses, at one name.
    for n in 0..5 {
        call(&app, login("victim", &format!("198.51.100.{n}:1"))).await.problem(401, "bad_credentials");
    }
    call(&app, login("victim", "198.51.100.99:1")).await.problem(429, "rate_limited");

    let w = world_with(|c| c.limits.http_per_second = 1);
    let app = public!(w);
    for _ in 0..10 {
        call(&app, request("GET", "/v1/me")).await.problem(401, "unauthorized");
    }
    call(&app, request("GET", "/v1/me")).await.problem(429, "rate_limited");
    for _ in 0..20 {
        assert_eq!(call(&app, request("GET", "/livez")).await.status, 200, "load balancers are not limited");
    }
}

#[actix_rt::test]
async fn contacts_are_asked_accepted_ended_and_blocked() {
    let w = world();
    let app = public!(w);
    let (a, b) = (register!(app, "alice"), register!(app, "bob"));
    let (at, bt) = (a.text("access_token"), b.text("access_token"));
    let (ai, bi) = (a.text("user"), b.text("user"));
    let on = |i: &str| format!("/v1/contacts/{i}");
    let state = async |token: &str| {
        let reply = call(&app, with_token("GET", "/v1/contacts", token)).await;
        assert_eq!(reply.status, 200);
        reply.body["items"]
            .as_array()
            .unwrap()
            .first()
            .map(|c| (c["name"].as_str().unwrap().to_string(), c["state"].as_str().unwrap().to_string()))
    };
    let is = |name: &str, s: &str| Some((name.to_string(), s.to_string()));
    assert_eq!(state(&at).await, None);
    for _ in 0..2 {
        let reply = call(&app, with_token("PUT", &on(&bi), &at)).await;
        assert_eq!((reply.status, reply.text("state"), reply.text("name")), (200, "requested".into(), "bob".into()));
    }
    assert_eq!(w.node.contacts.lock().len(), 1, "the same again is no change");
    assert_eq!((state(&at).await, state(&bt).await), (is("bob", "requested"), is("alice", "pending")));
    assert_eq!(call(&app, with_token("PUT", &on(&ai), &bt)).await.text("state"), "accepted");
    assert_eq!((state(&at).await, state(&bt).await), (is("bob", "accepted"), is("alice", "accepted")));
    assert_eq!(call(&app, with_token("DELETE", &on(&bi), &at)).await.status, 204);
    assert_eq!(call(&app, with_token("DELETE", &on(&bi), &at)).await.status, 204);
    assert_eq!((state(&at).await, state(&bt).await), (None, None));

    call(&app, with_token("PUT", &on(&bi), &at)).await;
    let find = format!("/v1/users/by-name/{}", "bob");
    assert_eq!(call(&app, with_token("GET", &find, &at)).await.text("user"), bi);
    assert_eq!(call(&app, with_token("PUT", &format!("/v1/blocks/{ai}"), &bt)).await.status, 204);
    assert_eq!((state(&at).await, state(&bt).await), (None, is("alice", "blocked")));
    // To who is blocked, the other does not exist: the very same answers as for an id or name that nobody has.
    let (blocked, nobody) = (call(&app, with_token("PUT", &on(&bi), &at)).await, call(&app, with_token("PUT", &on("999"), &at)).await);
    blocked.problem(404, "not_found");
    assert_eq!(blocked.body, nobody.body);
    let nobody = call(&app, with_token("GET", "/v1/users/by-name/nobody", &at)).await;
    assert_eq!(call(&app, with_token("GET", &find, &at)).await.body, nobody.body);
    call(&app, with_token("PUT", &on(&ai), &bt)).await.problem(409, "conflict");
    call(&app, with_token("DELETE", &on(&bi), &at)).await;
    assert_eq!(state(&bt).await, is("alice", "blocked"), "who is blocked cannot end the block");
    assert_eq!(call(&app, with_token("DELETE", &format!("/v1/blocks/{ai}"), &bt)).await.status, 204);
    assert_eq!(call(&app, with_token("PUT", &on(&bi), &at)).await.text("state"), "requested");
    call(&app, with_token("PUT", &on(&ai), &at)).await.problem(422, "invalid");
    call(&app, with_token("PUT", &on("x"), &at)).await.problem(404, "not_found");
    assert!(w.node.contacts.lock().iter().all(|&(x, y)| x != y) && w.node.contacts.lock().len() == 7, "{:?}", w.node.contacts.lock());
}

#[actix_rt::test]
async fn nobody_fills_anothers_list_beyond_its_bound() {
    let w = world_with(|c| c.presence.contacts_max = 2);
    let app = public!(w);
    let target = register!(app, "target").text("user");
    for n in 0..3 {
        let token = register!(app, format!("user{n}")).text("access_token");
        let reply = call(&app, with_token("PUT", &format!("/v1/contacts/{target}"), &token)).await;
        if n < 2 { assert_eq!(reply.status, 200) } else { reply.problem(409, "conflict") }
    }
}

#[actix_rt::test]
async fn operators_manage_accounts_and_nobody_else_does() {
    let w = world_with(|c| c.dev.faults = true);
    let (app, admin) = (public!(w), operators!(w));
    let account = json!({"name": "alice", "password": "correct horse"});
    for token in ["", "the admin toke", "the admin token2"] {
        for (method, path) in [("GET", "/admin/users"), ("POST", "/admin/users/alice/disable"), ("POST", "/admin/fault?actor=room&id=7")] {
            call(&admin, with_token(method, path, token)).await.problem(401, "unauthorized");
        }
        call(&admin, with_token("POST", "/admin/users", token).set_json(&account)).await.problem(401, "unauthorized");
    }
    let made = call(&admin, with_token("POST", "/admin/users", ADMIN).set_json(&account)).await;
    assert_eq!((made.status, made.text("name")), (201, "alice".into()));
    let user: UserId = made.text("user").parse().unwrap();
    call(&admin, with_token("POST", "/admin/users", ADMIN).set_json(&account)).await.problem(409, "conflict");
    for name in ["bob", "carol"] {
        let body = json!({"name": name, "password": "correct horse"});
        assert_eq!(call(&admin, with_token("POST", "/admin/users", ADMIN).set_json(body)).await.status, 201);
    }
    let page = call(&admin, with_token("GET", "/admin/users?limit=2", ADMIN)).await;
    let users = page.body["users"].as_array().unwrap();
    assert_eq!((users.len(), &users[0]["disabled"], &users[0]["user"]), (2, &json!(false), &json!(user)));
    let rest = call(&admin, with_token("GET", &format!("/admin/users?limit=2&after={}", users[1]["user"].as_str().unwrap()), ADMIN)).await;
    assert_eq!(rest.body["users"].as_array().unwrap().len(), 1);
    call(&admin, with_token("GET", "/admin/users?limit=x", ADMIN)).await.problem(400, "malformed");

    let life = |s: u64| with_token("POST", "/admin/users/alice/token", ADMIN).set_json(json!({"ttl_s": s}));
    let token = call(&admin, life(3600)).await;
    assert_eq!(token.status, 200);
    assert_eq!(call(&app, with_token("GET", "/v1/me", &token.text("token"))).await.text("name"), "alice");
    call(&admin, life(0)).await.problem(422, "invalid");
    assert_eq!(call(&admin, with_token("POST", "/admin/users/alice/disable", ADMIN)).await.body["disabled"], json!(true));
    assert_eq!(*w.node.revoked.lock(), [(user, None)]);
    call(&app, with_token("GET", "/v1/me", &token.text("token"))).await.problem(401, "token_revoked");
    call(&app, request("POST", "/v1/auth/login").set_json(&account)).await.problem(403, "forbidden");
    call(&admin, life(3600)).await.problem(409, "conflict");
    assert_eq!(call(&admin, with_token("POST", "/admin/users/alice/enable", ADMIN)).await.body["disabled"], json!(false));
    let new = with_token("POST", "/admin/users/alice/password", ADMIN).set_json(json!({"password": "another horse"}));
    assert_eq!(call(&admin, new).await.status, 200);
    call(&app, request("POST", "/v1/auth/login").set_json(&account)).await.problem(401, "bad_credentials");
    call(&admin, with_token("POST", "/admin/users/nobody/disable", ADMIN)).await.problem(404, "not_found");

    let fault = |query: &str| with_token("POST", &format!("/admin/fault?{query}"), ADMIN);
    assert_eq!(call(&admin, fault("actor=room&id=7")).await.status, 204);
    call(&admin, fault("actor=room&id=8")).await.problem(404, "not_found");
    call(&admin, fault("actor=everything&id=7")).await.problem(422, "invalid");
    let off = world();
    call(&operators!(off), fault("actor=room&id=7")).await.problem(404, "not_found");
    // Without a token configured nobody gets in, not even with an empty one.
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), Default::default()).unwrap();
    let api = api(Config::clone(&w.api.config), store, w.node.clone(), "").unwrap();
    let open = init_service(App::new().configure(admin_routes(web::Data::new(api)))).await;
    call(&open, with_token("GET", "/admin/users", "")).await.problem(401, "unauthorized");
    call(&open, request("GET", "/admin/users")).await.problem(401, "unauthorized");
}

#[actix_rt::test]
async fn health_says_why_and_metrics_are_for_operators() {
    let w = world();
    let (app, admin) = (public!(w), operators!(w));
    for path in ["/livez", "/readyz", "/"] {
        assert_eq!(call(&app, request("GET", path)).await.status, 200, "{path}");
    }
    let front = call(&app, request("GET", "/")).await;
    assert!(
        front.header("content-security-policy").starts_with("default-src 'none'") && !front.body.as_str().unwrap().contains("<script>")
    );
    *w.node.status.lock() =
        Some(NodeStatus { draining: true, ready: Err(vec!["the sequencer has no worker id".into()]), warnings: Vec::new() });
    for reply in [call(&app, request("GET", "/readyz")).await, call(&admin, request("GET", "/readyz")).await] {
        assert_eq!(reply.status, 503);
        assert_eq!(reply.body, json!({"ready": false, "reasons": ["draining", "the sequencer has no worker id"]}));
    }
    assert_eq!(call(&app, request("GET", "/livez")).await.status, 200, "draining is not dying");
    *w.node.status.lock() = Some(NodeStatus { draining: false, ready: Ok(()), warnings: vec!["Redis does not answer".into()] });
    let warned = call(&app, request("GET", "/readyz")).await;
    assert_eq!((warned.status, warned.body), (200, json!({"ready": true, "warnings": ["Redis does not answer"]})));
    *w.node.status.lock() = Some(NodeStatus { draining: true, ready: Ok(()), warnings: Vec::new() });
    let metrics = call(&admin, request("GET", "/metrics")).await;
    assert_eq!((metrics.status, metrics.header("content-type")), (200, crate::telemetry::CONTENT_TYPE));
    let text = metrics.body.as_str().unwrap();
    assert!(text.contains("\nhubbub_node_ready 0\n") && text.contains("hubbub_storage_disk_bytes ") && text.ends_with("# EOF\n"));
}

#[actix_rt::test]
async fn the_operators_listener_starts_on_a_free_port_and_answers() {
    let w = world();
    let config = crate::config::Admin { listen: ([127, 0, 0, 1], 0).into() };
    let (server, address) = admin::start(&config, w.api.clone()).unwrap();
    let handle = server.handle();
    actix_rt::spawn(server);
    let answer = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(std::time::Duration::from_secs(5))).build().into();
        agent.get(format!("http://{address}/livez")).call().unwrap().body_mut().read_to_string().unwrap()
    });
    assert_eq!(answer.await.unwrap(), "live\n");
    handle.stop(true).await;
}

mod conventions;
mod people;
