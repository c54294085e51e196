//! What operators see: metrics, health and logs; and what must not be seen there.

use super::support::{RawSocket, SOON, TestNode, eventually, http};
use hubbub::client::ClientError;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const BODY: &str = "a-marker-that-no-log-may-hold-7f3a";
const NAME: &str = "marker-name-51c9";

fn cid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Some of everything; gives the ids, names, tokens and bodies that were used.
async fn traffic(node: &TestNode) -> Vec<String> {
    let (alice, bob) = (node.user(NAME).await, node.user("bob").await);
    let (mut a, mut b) = (RawSocket::live(node, &alice).await, RawSocket::live(node, &bob).await);
    let create = json!({ "kind": "group", "name": BODY, "members": [bob.id.to_string()], "cid": cid() });
    let room = a.ask("create", create).await["room"].as_str().expect("a room").to_owned();
    for (op, fields) in [
        ("send", json!({ "text": BODY })),
        ("send", json!({ "data": BODY })),
        ("edit", json!({ "seq": 2, "text": BODY })),
        ("react", json!({ "seq": 2, "emoji": "x", "on": true })),
        ("update", json!({ "topic": BODY })),
        ("presence", json!({ "status": BODY })),
        ("history", json!({})),
        ("typing", json!({ "on": true })),
        ("cursor", json!({ "read": 2 })),
        ("edit", json!({ "seq": 99, "text": BODY })),
    ] {
        let mut fields = fields;
        fields["room"] = room.clone().into();
        fields["cid"] = cid().into();
        let _ = a.ask(op, fields).await;
    }
    // What goes wrong is logged more than what goes right.
    a.text(&format!(r#"{{"op":"send","ref":900,"text":"{BODY}""#)).await;
    b.text(&format!(r#"{{"op":"{BODY}","ref":901}}"#)).await;
    let forged = format!("{}x{BODY}", alice.token);
    let mut c = RawSocket::json(node).await;
    assert_eq!(c.ask("auth", json!({ "token": forged })).await["op"], "error");
    let _ = RawSocket::handshake(node, &format!("/v1/socket?token={}", alice.token), &[]).await;
    let _ = http(node.address(), &format!("GET /v1/me?x={BODY} HTTP/1.1\r\nAuthorization: Bearer {}", bob.token), "").await;
    let login = json!({ "name": NAME, "password": BODY }).to_string();
    let answer = http(node.address(), "POST /v1/auth/login HTTP/1.1\r\nContent-Type: application/json", &login).await;
    assert_eq!(answer.status, 401);
    let _ = node.rest().refresh(&alice.refresh).await.expect("refreshed");
    assert!(matches!(node.rest().refresh(&format!("{}x", bob.refresh)).await, Err(ClientError::Api(_))), "a forged refresh token");
    [alice.token, alice.refresh, bob.token, bob.refresh, BODY.into(), "correct horse battery staple".into(), room].into()
}

#[tokio::test]
async fn metrics_can_be_parsed_and_name_nobody() {
    let node = TestNode::start().await;
    let secret = traffic(&node).await;
    let ids: Vec<String> = secret.into_iter().chain([node.user("bob").await.id.to_string(), NAME.into(), "bob".into()]).collect();
    let text = node.metrics().await;
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");
    let (mut types, mut helps, mut series) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for line in text.lines().filter(|l| *l != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            helps.insert(rest.split(' ').next().unwrap_or_default().to_owned());
        } else if !line.starts_with('#') {
            let (what, value) = line.rsplit_once(' ').expect("a sample");
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            let (name, labels) = what.split_once('{').unwrap_or((what, ""));
            assert!(series.entry(name.to_owned()).or_default().insert(labels.to_owned()), "{line} twice");
        }
    }
    for (name, kind) in &types {
        assert!(name.starts_with("hubbub_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert!(helps.contains(name), "{name} has no help");
        if kind == "counter" {
            assert!(series.contains_key(&format!("{name}_total")), "{name}");
        }
    }
    for (name, labels) in &series {
        assert!(labels.len() <= 64, "{name} has {} series", labels.len());
        for label in labels {
            assert!(!ids.iter().any(|id| label.contains(id.as_str())), "{name}{{{label}: it names somebody");
            let long_number = label.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 6);
            assert!(!long_number || label.starts_with("le="), "{name}{{{label}: an id?");
        }
    }
    // What happened can be read off.
    let sum = |name: &str, has: &str| -> f64 {
        let of = |l: &str| l.starts_with(name) && l.contains(has);
        text.lines().filter(|l| of(l)).filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    assert_eq!(sum("hubbub_requests_total", "op=\"send\""), 2.0);
    assert_eq!(sum("hubbub_entries_appended_total", "message"), 2.0);
    assert!(sum("hubbub_request_errors_total", "not_found") >= 1.0 && sum("hubbub_request_errors_total", "malformed") >= 1.0);
    assert!(sum("hubbub_sockets_opened_total", "") >= 3.0);
    eventually("all sockets are gone", SOON, || async { node.metric("hubbub_sockets_open").await == 0.0 }).await;
}

#[tokio::test]
async fn the_log_is_json_and_holds_neither_bodies_nor_tokens() {
    let mut node = TestNode::builder().set("log.format", "json").set("log.filter", "trace").start().await;
    let secret = traffic(&node).await;
    let admin = node.admin_token();
    node.stop().await;
    let log = node.log();
    let mut levels = BTreeSet::new();
    for line in log.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for key in ["timestamp", "level"] {
            assert!(value[key].is_string(), "{line}");
        }
        levels.insert(value["level"].as_str().unwrap_or_default().to_owned());
    }
    assert!(levels.contains("INFO") && log.lines().count() > 10, "{log}");
    // The last is a room's id, which may be there.
    for what in secret.iter().take(secret.len() - 1).chain([&admin]) {
        let found: Vec<&str> = log.lines().filter(|l| l.contains(what.as_str())).collect();
        assert!(found.is_empty(), "the log holds {what:?}: {found:?}");
    }
}

#[tokio::test]
async fn health_is_told_to_balancers_and_reasons_to_operators() {
    let mut node =
        TestNode::builder().set("storage.disk_free_bytes_min", 1u64 << 60).set("http.drain_spread_ms", 200).start_unready().await;
    let admin: std::net::SocketAddr = node.admin().trim_start_matches("http://").parse().expect("an address");
    for at in [node.address(), admin] {
        assert_eq!(http(at, "GET /livez HTTP/1.1", "").await.status, 200);
        let ready = http(at, "GET /readyz HTTP/1.1", "").await;
        assert_eq!(ready.status, 503, "a full disk is no place for traffic: {ready:?}");
    }
    let told = http(admin, "GET /readyz HTTP/1.1", "").await;
    assert!(told.body.contains("free"), "{told:?}");
    // The public one is asked by anybody: what a path or a number of the store says is not for them.
    let public = http(node.address(), "GET /readyz HTTP/1.1", "").await;
    assert!(!public.body.contains(&node.data_dir().display().to_string()), "{public:?}");
    assert_eq!(http(node.address(), "GET /metrics HTTP/1.1", "").await.status, 404, "metrics are not public");
    assert_eq!(http(node.address(), "GET /admin/users HTTP/1.1", "").await.status, 404);
    assert_eq!(http(admin, "GET /admin/users HTTP/1.1", "").await.status, 401);
    assert!(node.stop().await.success());
}
