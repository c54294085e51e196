//! Identity as people and attackers meet it: passwords, links in mails, addresses, devices, second factors, cookies, keys.
//! Over HTTP and sockets, against a real node.

use super::support::{RawSocket, Response, SOON, TestNode, TestUser, eventually, http};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use totp_rs::{Builder, Secret};

/// Of every test user (`TestNode::user`).
pub(crate) const PASSWORD: &str = "correct horse battery staple";
pub(crate) const NEW: &str = "another horse altogether";

/// One request; `token` as bearer, unless it is empty.
pub(crate) async fn call_with(node: &TestNode, method: &str, path: &str, token: &str, headers: &str, body: &Value) -> Response {
    let bearer = if token.is_empty() { String::new() } else { format!("\r\nAuthorization: Bearer {token}") };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http(node.address(), &format!("{method} {path} HTTP/1.1\r\nContent-Type: application/json{bearer}{headers}"), &body).await
}

pub(crate) async fn call(node: &TestNode, method: &str, path: &str, token: &str, body: Value) -> Response {
    call_with(node, method, path, token, "", &body).await
}

pub(crate) trait Answered {
    /// The body of a success.
    fn done(&self, status: u16) -> Value;
    /// Status and code of a failure.
    fn refused(&self) -> (u16, String);
}

impl Answered for Response {
    #[track_caller]
    fn done(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        if self.body.is_empty() { Value::Null } else { serde_json::from_str(&self.body).unwrap() }
    }
    #[track_caller]
    fn refused(&self) -> (u16, String) {
        assert!(self.status >= 400, "{} {}", self.status, self.body);
        (self.status, self.code())
    }
}

pub(crate) fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned()
}

pub(crate) async fn login(node: &TestNode, name: &str, password: &str) -> Response {
    call(node, "POST", "/v1/auth/login", "", json!({ "name": name, "password": password })).await
}

/// Whether the access token still counts.
pub(crate) async fn counts(node: &TestNode, token: &str) -> bool {
    call(node, "GET", "/v1/me", token, Value::Null).await.status == 200
}

/// Mails of the outbox to an address, oldest first.
fn mails(node: &TestNode, to: &str) -> Vec<String> {
    let Ok(dir) = std::fs::read_dir(node.data_dir().join("outbox")) else { return Vec::new() };
    let mut paths: Vec<_> = dir.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "eml")).collect();
    paths.sort();
    let all = paths.iter().map(|p: &std::path::PathBuf| std::fs::read_to_string(p).unwrap());
    all.filter(|m| m.contains(&format!("To: {to}\r\n"))).collect()
}

/// The headers that say something of the answer, in an order of their own.
fn said(answer: &Response) -> Vec<(String, String)> {
    let of_time = |name: &str| name == "date" || name.starts_with("ratelimit-");
    let mut headers: Vec<_> = answer.headers.iter().filter(|(name, _)| !of_time(name)).cloned().collect();
    headers.sort();
    headers
}

/// Waits for the n-th mail to an address (from 1).
async fn mail(node: &TestNode, to: &str, n: usize) -> String {
    eventually(&format!("mail {n} to {to}"), SOON, || async { mails(node, to).len() >= n }).await;
    mails(node, to).remove(n - 1)
}

/// The token of a mail's link.
fn token_of(mail: &str) -> String {
    let token = mail.split("#token=").nth(1).unwrap_or_else(|| panic!("no link in {mail}")).split_whitespace().next().unwrap().to_owned();
    assert!(mail.contains(&format!("\r\n{token}\r\n")), "the token stands by itself too");
    token
}

/// Gives the user a verified address.
pub(crate) async fn with_email(node: &TestNode, user: &TestUser, address: &str) {
    let before = mails(node, address);
    call(node, "PUT", "/v1/me/email", &user.token, json!({ "email": address, "password": PASSWORD })).await.done(202);
    let link = || mails(node, address).into_iter().find(|mail| mail.contains("#token=") && !before.contains(mail));
    eventually(&format!("a link to {address}"), SOON, || async { link().is_some() }).await;
    let token = token_of(&link().unwrap());
    call(node, "POST", "/v1/auth/email/verify", "", json!({ "token": token })).await.done(204);
}

/// Gives the user a second factor; its secret and recovery codes.
pub(crate) async fn with_totp(node: &TestNode, user: &TestUser) -> (String, Vec<String>) {
    let set_up = call(node, "POST", "/v1/me/totp", &user.token, json!({ "password": PASSWORD })).await.done(200);
    let secret = text(&set_up, "secret");
    assert!(text(&set_up, "uri").starts_with("otpauth://totp/"));
    let on = call(node, "POST", "/v1/me/totp/confirm", &user.token, json!({ "code": code(&secret, 0) })).await.done(200);
    (secret, serde_json::from_value(on["recovery_codes"].clone()).unwrap())
}

/// The code of the step now, or of one later.
pub(crate) fn code(secret: &str, later: u64) -> String {
    let totp = Builder::new().with_secret(Secret::try_from_base32(secret).unwrap()).build().unwrap();
    totp.generate(hubbub::auth::now() / 1000 + later * 30).to_string()
}

pub(crate) async fn mfa_token(node: &TestNode, name: &str) -> String {
    let asked = login(node, name, PASSWORD).await;
    assert_eq!(asked.refused(), (401, "mfa_required".into()));
    text(&serde_json::from_str(&asked.body).unwrap(), "mfa_token")
}

async fn second_step(node: &TestNode, token: &str, code: &str) -> Response {
    call(node, "POST", "/v1/auth/login/mfa", "", json!({ "mfa_token": token, "code": code })).await
}

#[tokio::test]
async fn unknown_names_wrong_passwords_and_accounts_without_one_are_answered_alike_in_words_and_in_time() {
    // So much work that it is longer than all else.
    let node = TestNode::builder().set("auth.argon2_memory_kib", 16_384).set("auth.argon2_passes", 4).start().await;
    node.user("alice").await;
    let key = node.operate("POST", "/admin/api-keys", Some(json!({ "name": "k", "scopes": ["users:write"] }))).await.unwrap();
    call(&node, "POST", "/v1/users", &text(&key, "key"), json!({ "name": "robot", "bot": true })).await.done(201);
    let names = ["alice", "nobody", "robot"];
    let mut times: [Vec<Duration>; 3] = Default::default();
    let mut answers = Vec::new();
    for _ in 0..7 {
        for (n, name) in names.iter().enumerate() {
            let begun = Instant::now();
            let answer = login(&node, name, "not the password").await;
            times[n].push(begun.elapsed());
            let headers = said(&answer);
            answers.push((answer.refused(), answer.body, headers));
        }
    }
    assert!(answers.iter().all(|a| *a == answers[0] && a.0 == (401, "bad_credentials".into())), "{answers:#?}");
    // The machine may be busy, and only ever takes longer: the quickest answers say how much work there was.
    let quickest = times.map(|t| t.into_iter().min().unwrap());
    assert!(quickest.iter().all(|t| *t * 2 > *quickest.iter().max().unwrap()), "{quickest:?}");
}

#[tokio::test]
async fn a_reset_link_works_once() {
    let node = TestNode::start().await;
    let alice = node.user("alice").await;
    with_email(&node, &alice, "alice@example.org").await;
    let mut socket = RawSocket::signed_in(&node, &alice).await;
    call(&node, "POST", "/v1/auth/password/forgot", "", json!({ "name": "alice" })).await.done(202);
    let first = token_of(&mail(&node, "alice@example.org", 2).await);
    call(&node, "POST", "/v1/auth/password/forgot", "", json!({ "email": "Alice@Example.org" })).await.done(202);
    let second = token_of(&mail(&node, "alice@example.org", 3).await);
    let reset = |token: String, password: &'static str| {
        let node = &node;
        async move { call(node, "POST", "/v1/auth/password/reset", "", json!({ "token": token, "password": password })).await }
    };
    // A password that cannot be does not use the link up.
    assert_eq!(reset(first.clone(), "short").await.refused(), (422, "invalid".into()));
    let all = futures_util::future::join_all((0..6).map(|_| reset(first.clone(), NEW))).await;
    assert_eq!(all.iter().filter(|r| r.status == 204).count(), 1, "{all:?}");
    assert!(all.iter().all(|r| r.status == 204 || r.refused() == (422, "invalid".into())));
    assert_eq!(reset(first, NEW).await.refused(), (422, "invalid".into()));
    assert_eq!(reset(second, NEW).await.refused(), (422, "invalid".into()), "the other open link is void");
    assert_eq!(socket.closed().await, 4203);
    assert!(!counts(&node, &alice.token).await);
    assert_eq!(login(&node, "alice", PASSWORD).await.refused(), (401, "bad_credentials".into()));
    login(&node, "alice", NEW).await.done(200);
    assert!(mail(&node, "alice@example.org", 4).await.contains("was just changed"), "the owner is told");
    // No link of one kind does for another.
    let verify = |token: &str| call(&node, "POST", "/v1/auth/email/verify", "", json!({ "token": token }));
    call(&node, "POST", "/v1/auth/password/forgot", "", json!({ "name": "alice" })).await.done(202);
    let third = token_of(&mail(&node, "alice@example.org", 5).await);
    assert_eq!(verify(&third).await.refused(), (422, "invalid".into()));
    assert!(!counts(&node, &third).await);
    // Nothing of a link is kept but its hash, and nothing of it is logged.
    assert!(!node.log().contains(&third));
}

#[tokio::test]
async fn forgetting_answers_alike_for_unknown_accounts() {
    let node = TestNode::start().await;
    let alice = node.user("alice").await;
    with_email(&node, &alice, "alice@example.org").await;
    node.user("bob").await;
    let forgot = |body: Value| call(&node, "POST", "/v1/auth/password/forgot", "", body);
    let bodies = [
        json!({"name": "alice"}),
        json!({"name": "bob"}),
        json!({"name": "nobody"}),
        json!({"email": "nobody@example.org"}),
        json!({"name": "Not A Name"}),
    ];
    let mut answers = Vec::new();
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..40 {
        for (n, body) in bodies.iter().enumerate() {
            let begun = Instant::now();
            let answer = forgot(body.clone()).await;
            if round > 0 && (n == 0 || n == 2) {
                times[n / 2].push(begun.elapsed());
            }
            answers.push((answer.status, answer.body.clone(), said(&answer)));
        }
    }
    assert!(answers.iter().all(|a| *a == answers[0] && a.0 == 202 && a.1.is_empty()), "{:?}", answers[0]);
    // The looking up comes after the answer; the medians differ by noise.
    let medians = times.map(|mut t| {
        t.sort();
        t[t.len() / 2]
    });
    assert!(medians[0].abs_diff(medians[1]) < Duration::from_millis(20), "{medians:?}");
    mail(&node, "alice@example.org", 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(mails(&node, "alice@example.org").len() <= 6, "nobody's mailbox is filled by who knows a name");
    assert_eq!(forgot(json!({})).await.refused(), (422, "invalid".into()));
    assert_eq!(forgot(json!({"name": "alice", "email": "a@b.c"})).await.refused(), (422, "invalid".into()));
}

#[tokio::test]
async fn an_address_counts_once_its_owner_has_followed_the_link() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let want = |user: &TestUser, email: &str, password: &str| {
        let (token, body) = (user.token.clone(), json!({ "email": email, "password": password }));
        let node = &node;
        async move { call(node, "PUT", "/v1/me/email", &token, body).await }
    };
    assert_eq!(want(&alice, "a@example.org", "wrong horse").await.refused(), (401, "bad_credentials".into()), "changes need the password");
    assert_eq!(want(&alice, "not an address", PASSWORD).await.refused(), (422, "invalid".into()));
    // One may give it at once, or never.
    let register = |name: &str, email: &str| {
        let body = json!({ "name": name, "password": PASSWORD, "email": email });
        let node = &node;
        async move { call(node, "POST", "/v1/auth/register", "", body).await }
    };
    assert_eq!(register("carol", "not an address").await.refused(), (422, "invalid".into()));
    let carol = register("carol", "carol@example.org").await.done(201);
    let carols = text(&carol, "access_token");
    let of_carol = || call(&node, "GET", "/v1/me", &carols, Value::Null);
    assert_eq!(of_carol().await.done(200)["email_verified"], false);
    let token = token_of(&mail(&node, "carol@example.org", 1).await);
    call(&node, "POST", "/v1/auth/email/verify", "", json!({ "token": token })).await.done(204);
    let me = of_carol().await.done(200);
    assert_eq!((&me["email"], &me["email_verified"]), (&json!("carol@example.org"), &json!(true)));
    want(&alice, "A@example.org", PASSWORD).await.done(202);
    let first = token_of(&mail(&node, "a@example.org", 1).await);
    // Not verified: no link goes there. The answer comes before anybody has looked.
    call(&node, "POST", "/v1/auth/password/forgot", "", json!({ "name": "alice" })).await.done(202);
    let found_out = async || node.metrics().await.contains("hubbub_mails_total{result=\"none\"} 1");
    eventually("nobody to write to was found", SOON, found_out).await;
    call(&node, "POST", "/v1/auth/email/verify", "", json!({ "token": first })).await.done(204);
    let again = call(&node, "POST", "/v1/auth/email/verify", "", json!({ "token": first })).await;
    assert_eq!(again.refused(), (422, "invalid".into()), "a link works once");
    assert_eq!(mails(&node, "a@example.org").len(), 1);
    // Another account may ask for it, learns nothing, and does not get it.
    want(&bob, "a@example.org", PASSWORD).await.done(202);
    let token = token_of(&mail(&node, "a@example.org", 2).await);
    assert_eq!(call(&node, "POST", "/v1/auth/email/verify", "", json!({ "token": token })).await.refused(), (409, "conflict".into()));
    // Another address takes its place when it is verified, and the old one is told.
    want(&alice, "b@example.org", PASSWORD).await.done(202);
    let token = token_of(&mail(&node, "b@example.org", 1).await);
    call(&node, "POST", "/v1/auth/password/forgot", "", json!({ "email": "a@example.org" })).await.done(202);
    mail(&node, "a@example.org", 3).await;
    call(&node, "POST", "/v1/auth/email/verify", "", json!({ "token": token })).await.done(204);
    assert!(mail(&node, "a@example.org", 4).await.contains("another address"));
    let gone = call(&node, "DELETE", "/v1/me/email", &alice.token, json!({ "password": "wrong horse" })).await;
    assert_eq!(gone.refused(), (401, "bad_credentials".into()));
    call(&node, "DELETE", "/v1/me/email", &alice.token, json!({ "password": PASSWORD })).await.done(204);
    with_email(&node, &bob, "b@example.org").await;
}

#[tokio::test]
async fn a_new_password_signs_the_other_devices_out_and_closes_every_socket() {
    let node = TestNode::start().await;
    let (phone, laptop) = (node.user("alice").await, node.user("alice").await);
    let (mut a, mut b) = (RawSocket::signed_in(&node, &phone).await, RawSocket::signed_in(&node, &laptop).await);
    let change = |old: &'static str| call(&node, "PUT", "/v1/me/password", &phone.token, json!({ "old": old, "new": NEW }));
    assert_eq!(change("wrong horse").await.refused(), (401, "bad_credentials".into()));
    let begun = Instant::now();
    let session = change(PASSWORD).await.done(200);
    assert_eq!((a.closed().await, b.closed().await), (4203, 4203), "a thief may have had either");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(text(&session, "device"), phone.device.to_string(), "the device stays the same one");
    for ended in [&phone, &laptop] {
        assert!(!counts(&node, &ended.token).await);
        let renewed = call(&node, "POST", "/v1/auth/refresh", "", json!({ "refresh_token": ended.refresh })).await;
        assert_eq!(renewed.refused().0, 401);
    }
    assert!(counts(&node, &text(&session, "access_token")).await);
    call(&node, "POST", "/v1/auth/refresh", "", json!({ "refresh_token": text(&session, "refresh_token") })).await.done(200);
    login(&node, "alice", NEW).await.done(200);
}

#[tokio::test]
async fn a_revoked_device_is_closed_within_five_seconds_and_nobody_elses() {
    let node = TestNode::start().await;
    let (phone, laptop, bob) = (node.user("alice").await, node.user("alice").await, node.user("bob").await);
    let list = call(&node, "GET", "/v1/me/devices", &laptop.token, Value::Null).await.done(200);
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{list}");
    assert!(items.iter().all(|d| d["current"] == (d["device"] == laptop.device.to_string())), "{list}");
    let mut a = RawSocket::signed_in(&node, &phone).await;
    let mut c = RawSocket::signed_in(&node, &bob).await;
    let revoke = |token: String, device: String| {
        let node = &node;
        async move { call(node, "DELETE", &format!("/v1/me/devices/{device}"), &token, Value::Null).await }
    };
    assert_eq!(revoke(bob.token.clone(), phone.device.to_string()).await.refused(), (404, "not_found".into()));
    let begun = Instant::now();
    revoke(laptop.token.clone(), phone.device.to_string()).await.done(204);
    assert_eq!(a.closed().await, 4203);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(revoke(laptop.token.clone(), phone.device.to_string()).await.refused(), (404, "not_found".into()));
    assert!(!counts(&node, &phone.token).await && counts(&node, &laptop.token).await);
    assert_eq!(c.ask("ping", json!({})).await["op"], "ok");
    let list = call(&node, "GET", "/v1/me/devices", &laptop.token, Value::Null).await.done(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_totp_code_works_once() {
    let node = TestNode::start().await;
    let alice = node.user("alice").await;
    let wrong = call(&node, "POST", "/v1/me/totp", &alice.token, json!({ "password": "wrong horse" })).await;
    assert_eq!(wrong.refused(), (401, "bad_credentials".into()));
    let (secret, _) = with_totp(&node, &alice).await;
    // The one answer for unknown user and wrong password stays the same with a second factor.
    let (unknown, wrong) = (login(&node, "nobody", "wrong horse").await, login(&node, "alice", "wrong horse").await);
    assert_eq!((wrong.refused(), wrong.body), ((401, "bad_credentials".into()), unknown.body));
    // The step that confirmed is used up; the next one is accepted already (a clock may be slow), once.
    let token = mfa_token(&node, "alice").await;
    let next = code(&secret, 1);
    let all = futures_util::future::join_all((0..4).map(|_| second_step(&node, &token, &next))).await;
    assert_eq!(all.iter().filter(|r| r.status == 200).count(), 1, "{all:?}");
    assert_eq!(second_step(&node, &token, &next).await.refused(), (401, "bad_credentials".into()));
    let entered = all.iter().find(|r| r.status == 200).unwrap().done(200);
    assert!(counts(&node, &text(&entered, "access_token")).await);
}

#[tokio::test]
async fn a_recovery_code_works_once_even_when_used_twice_at_once() {
    let node = TestNode::start().await;
    let alice = node.user("alice").await;
    let (_, codes) = with_totp(&node, &alice).await;
    assert_eq!(codes.len(), 10);
    let token = mfa_token(&node, "alice").await;
    let (a, b) = tokio::join!(second_step(&node, &token, &codes[0]), second_step(&node, &token, &codes[0]));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
    assert_eq!(second_step(&node, &token, &codes[0]).await.refused(), (401, "bad_credentials".into()));
    second_step(&node, &token, &codes[1].to_uppercase()).await.done(200);
    // Off with the password and a code, and then a password is enough.
    let off = |code: String| call(&node, "DELETE", "/v1/me/totp", &alice.token, json!({ "password": PASSWORD, "code": code }));
    assert_eq!(off(codes[1].clone()).await.refused(), (401, "bad_credentials".into()));
    off(codes[2].clone()).await.done(204);
    login(&node, "alice", PASSWORD).await.done(200);
}

#[tokio::test]
async fn guessing_codes_is_limited_by_account_also_over_a_restart() {
    let mut node = TestNode::start().await;
    let alice = node.user("alice").await;
    let (_, codes) = with_totp(&node, &alice).await;
    let token = mfa_token(&node, "alice").await;
    let all =
        futures_util::future::join_all((0..12).map(|n| second_step(&node, &token, if n % 2 == 0 { "000000" } else { "wrong" }))).await;
    let limited = all.iter().filter(|r| r.code() == "rate_limited").count();
    assert!(all.iter().all(|r| r.status != 200) && limited >= 7, "{limited}");
    node.kill9().await;
    node.restart().await;
    let refused = second_step(&node, &token, &codes[0]).await;
    assert_eq!(refused.refused(), (429, "rate_limited".into()), "now even a right one");
    assert!(refused.header("retry-after").is_some_and(|s| s.parse::<u64>().unwrap() <= 30), "{refused:?}");
}

#[tokio::test]
async fn the_token_between_two_steps_opens_nothing_else() {
    let node = TestNode::start().await;
    let alice = node.user("alice").await;
    let (secret, codes) = with_totp(&node, &alice).await;
    let token = mfa_token(&node, "alice").await;
    assert!(!counts(&node, &token).await);
    assert_eq!(RawSocket::json(&node).await.ask("auth", json!({ "token": token })).await["op"], "error");
    assert_eq!(
        call(&node, "POST", "/v1/auth/refresh", "", json!({ "refresh_token": token })).await.refused(),
        (401, "unauthorized".into())
    );
    for foreign in [alice.token.as_str(), &alice.refresh, "", "hbm_AAAA"] {
        assert_eq!(second_step(&node, foreign, &codes[0]).await.refused(), (401, "unauthorized".into()), "{foreign}");
    }
    // What ends the account's sessions ends it too.
    call(&node, "POST", "/v1/auth/logout", &alice.token, json!({ "everywhere": true })).await.done(204);
    assert_eq!(second_step(&node, &token, &code(&secret, 1)).await.refused(), (401, "unauthorized".into()));
    second_step(&node, &mfa_token(&node, "alice").await, &codes[0]).await.done(200);
}

/// The refresh cookie of an answer: its value, and its attributes in lower case.
fn cookie(answer: &Response) -> (String, Vec<String>) {
    let line = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {answer:?}"));
    let mut parts = line.split(';').map(str::trim);
    let value = parts.next().unwrap().strip_prefix("hubbub_refresh=").unwrap().to_owned();
    (value, parts.map(str::to_lowercase).collect())
}

#[tokio::test]
async fn a_refresh_cookie_from_another_origin_is_refused() {
    let node = TestNode::builder().set("http.origins", "https://chat.example").start().await;
    node.user("alice").await;
    let own = format!("\r\nOrigin: http://{}", node.address());
    let csrf = "\r\nHubbub-CSRF: 1";
    let body = json!({ "name": "alice", "password": PASSWORD, "cookie": true });
    let enter = |headers: String| {
        let (node, body) = (&node, &body);
        async move { call_with(node, "POST", "/v1/auth/login", "", &headers, body).await }
    };
    let login = enter(format!("{own}{csrf}")).await;
    let session = login.done(200);
    assert!(session.get("refresh_token").is_none(), "not in the body too");
    let (value, attributes) = cookie(&login);
    for wanted in ["httponly", "samesite=strict", "path=/v1/auth"] {
        assert!(attributes.iter().any(|a| a == wanted), "{wanted}: {attributes:?}");
    }
    assert!(!attributes.iter().any(|a| a == "secure"), "this machine, in the clear");
    let max_age = attributes.iter().find_map(|a| a.strip_prefix("max-age=")).unwrap().parse::<u64>().unwrap();
    assert!((30 * 86_400 - 60..=30 * 86_400).contains(&max_age));
    let refresh = |headers: String, value: String| {
        let node = &node;
        async move {
            call_with(node, "POST", "/v1/auth/refresh", "", &format!("\r\nCookie: hubbub_refresh={value}{headers}"), &Value::Null).await
        }
    };
    for (what, headers) in [
        ("another origin", format!("\r\nOrigin: https://evil.example{csrf}")),
        ("another scheme of an allowed host", format!("\r\nOrigin: http://chat.example{csrf}")),
        ("no origin", csrf.to_owned()),
        ("an opaque origin", format!("\r\nOrigin: null{csrf}")),
        ("no header", own.clone()),
    ] {
        assert_eq!(refresh(headers.clone(), value.clone()).await.refused(), (403, "forbidden".into()), "{what}");
        let login = enter(headers).await;
        assert!(login.refused() == (403, "forbidden".into()) && login.header("set-cookie").is_none(), "{what}");
    }
    // A configured origin: a page behind TLS, to which the cookie goes by TLS only. And the token rotates.
    let renewed = refresh(format!("\r\nOrigin: https://chat.example{csrf}"), value.clone()).await;
    assert!(renewed.done(200).get("refresh_token").is_none());
    let (next, attributes) = cookie(&renewed);
    assert!(next != value && attributes.iter().any(|a| a == "secure"), "{attributes:?}");
    // By body for programs: without cookie, origin or header.
    let by_body = call(&node, "POST", "/v1/auth/refresh", "", json!({ "refresh_token": next })).await;
    assert!(by_body.done(200).get("refresh_token").is_some() && by_body.header("set-cookie").is_none());
    let out = call_with(
        &node,
        "POST",
        "/v1/auth/logout",
        &text(&session, "access_token"),
        &format!("\r\nCookie: hubbub_refresh={next}"),
        &Value::Null,
    )
    .await;
    out.done(204);
    assert_eq!(cookie(&out).0, "", "taken away");
    assert_eq!(call(&node, "POST", "/v1/auth/refresh", "", Value::Null).await.refused(), (401, "unauthorized".into()));
}

/// Runs the command line on the node's directory.
pub(crate) async fn hubbub(node: &TestNode, args: &[&str]) -> Value {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hubbub"));
    command.args(args).arg("--json").env("HUBBUB_STORAGE__DATA_DIR", node.data_dir()).env("HUBBUB_STORAGE__DISK_FREE_BYTES_MIN", "0");
    let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn kid(token: &str) -> String {
    text(&serde_json::to_value(jsonwebtoken::decode_header(token).unwrap()).unwrap(), "kid")
}

#[tokio::test]
async fn rotating_keys_logs_nobody_out() {
    let mut node = TestNode::start().await;
    let alice = node.user("alice").await;
    let mut socket = RawSocket::signed_in(&node, &alice).await;
    let rotated = hubbub(&node, &["keys", "rotate"]).await;
    let fresh = text(&rotated["items"][0], "id");
    assert_eq!((rotated["items"].as_array().unwrap().len(), rotated["dropped"].as_array().unwrap().len()), (2, 0));
    // At once, while it runs: what was given out counts, what is given out now is by the new key.
    assert!(counts(&node, &alice.token).await);
    assert_eq!(socket.ask("ping", json!({})).await["op"], "ok");
    let renewed = call(&node, "POST", "/v1/auth/refresh", "", json!({ "refresh_token": alice.refresh })).await.done(200);
    assert_eq!((kid(&text(&renewed, "access_token")), kid(&alice.token)), (fresh.clone(), "1".into()));
    // A token that is asked for again is answered as before the rotation.
    let again = call(&node, "POST", "/v1/auth/refresh", "", json!({ "refresh_token": alice.refresh })).await.done(200);
    assert_eq!(text(&again, "refresh_token"), text(&renewed, "refresh_token"));
    node.kill9().await;
    node.restart().await;
    assert!(counts(&node, &alice.token).await && counts(&node, &text(&renewed, "access_token")).await, "also after a restart");
    assert_eq!(hubbub(&node, &["keys", "list"]).await["items"][0]["id"], fresh);
    // Somebody may have read the key: nothing it signed counts any more, and who holds a refresh token goes on.
    let rotated = hubbub(&node, &["keys", "rotate", "--keep", "0"]).await;
    assert_eq!((rotated["items"].as_array().unwrap().len(), rotated["dropped"].as_array().unwrap().len()), (1, 2));
    assert!(!counts(&node, &alice.token).await && !counts(&node, &text(&renewed, "access_token")).await);
    let renewed = call(&node, "POST", "/v1/auth/refresh", "", json!({ "refresh_token": text(&renewed, "refresh_token") })).await.done(200);
    assert!(counts(&node, &text(&renewed, "access_token")).await);
    // Without a server.
    node.stop().await;
    hubbub(&node, &["keys", "rotate"]).await;
    node.restart().await;
    assert!(counts(&node, &text(&renewed, "access_token")).await);
}

/// A mail server of the plainest kind. The first connections are refused as long as `busy` lasts.
async fn smtp(listener: TcpListener, busy: usize) -> Vec<String> {
    let mut n = 0;
    loop {
        let (mut io, _) = listener.accept().await.unwrap();
        n += 1;
        if n <= busy {
            io.write_all(b"421 try again later\r\n").await.unwrap();
            continue;
        }
        io.write_all(b"220 test ESMTP\r\n").await.unwrap();
        let (read, mut write) = io.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut said = Vec::new();
        while let Ok(Some(line)) = lines.next_line().await {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
            said.push(line);
            let answer: &[u8] = match verb.as_str() {
                "EHLO" => b"250-test\r\n250 AUTH PLAIN\r\n",
                "AUTH" => b"235 welcome\r\n",
                "DATA" => {
                    write.write_all(b"354 go on\r\n").await.unwrap();
                    while let Ok(Some(line)) = lines.next_line().await {
                        let end = line == ".";
                        said.push(line);
                        if end {
                            break;
                        }
                    }
                    write.write_all(b"250 taken\r\n").await.unwrap();
                    return said;
                }
                _ => b"250 fine\r\n",
            };
            write.write_all(answer).await.unwrap();
        }
    }
}

#[tokio::test]
async fn mail_goes_to_a_mail_server_and_waits_while_it_cannot_take_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(smtp(listener, 2));
    let node = TestNode::builder()
        .set("mail.transport", "smtp")
        .set("mail.smtp_host", "127.0.0.1")
        .set("mail.smtp_port", port)
        .set("mail.smtp_tls", "none")
        .set("mail.smtp_user", "hubbub")
        .set("mail.smtp_password", "mail secret")
        .set("mail.from", "Hubbub <chat@example.org>")
        .set("mail.public_url", "https://chat.example")
        .set("mail.retry_ms", 20)
        .start()
        .await;
    let alice = node.user("alice").await;
    let begun = Instant::now();
    call(&node, "PUT", "/v1/me/email", &alice.token, json!({ "email": "alice@example.org", "password": PASSWORD })).await.done(202);
    assert!(begun.elapsed() < Duration::from_secs(3), "nobody waits for the mail server");
    let said = tokio::time::timeout(SOON, server).await.expect("a mail in time").unwrap();
    let has = |what: &str| said.iter().any(|l| l.contains(what));
    assert!(has("MAIL FROM:<chat@example.org>") && has("RCPT TO:<alice@example.org>") && has("Subject: Confirm your address"), "{said:#?}");
    assert!(has("AUTH PLAIN") && has("From: Hubbub <chat@example.org>"));
    let link = said.iter().find_map(|l| l.strip_prefix("https://chat.example/verify#token=")).unwrap().to_owned();
    call(&node, "POST", "/v1/auth/email/verify", "", json!({ "token": link })).await.done(204);
    assert!(!node.log().contains("mail secret") && !node.log().contains(&link) && !node.log().contains("alice@example.org"));
    eventually("two retries and a mail", SOON, || async {
        let metrics = node.metrics().await;
        metrics.contains("hubbub_mails_total{result=\"sent\"} 1\n") && metrics.contains("hubbub_mails_total{result=\"retried\"} 2\n")
    })
    .await;
}

#[tokio::test]
async fn without_mail_a_link_is_refused_and_nothing_else() {
    let node = TestNode::builder().set("mail.transport", "none").start().await;
    let alice = node.user("alice").await;
    for name in ["alice", "nobody"] {
        let answer = call(&node, "POST", "/v1/auth/password/forgot", "", json!({ "name": name })).await;
        assert_eq!(answer.refused(), (403, "forbidden".into()), "the same for everybody");
    }
    let change = call(&node, "PUT", "/v1/me/password", &alice.token, json!({ "old": PASSWORD, "new": NEW })).await;
    change.done(200);
    let with_address = json!({ "name": "bob", "password": PASSWORD, "email": "bob@example.org" });
    assert_eq!(call(&node, "POST", "/v1/auth/register", "", with_address).await.refused(), (403, "forbidden".into()));
    call(&node, "POST", "/v1/auth/register", "", json!({ "name": "bob", "password": PASSWORD })).await.done(201);
}
