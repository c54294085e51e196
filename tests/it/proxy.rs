//! Behind proxies: limits, the same-origin check and the audit log see who is really asking, and nobody can pretend to be another.

use super::support::{RawSocket, SOON, TestNode, http};
use serde_json::json;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Statuses of `n` attempts to sign in with this head more.
async fn attempts(node: &TestNode, n: usize, head: impl Fn(usize) -> String) -> Vec<u16> {
    let mut out = Vec::new();
    for i in 0..n {
        let request = format!("POST /v1/auth/login HTTP/1.1\r\nContent-Type: application/json\r\n{}", head(i));
        let body = json!({ "name": format!("nobody{i}"), "password": "wrong horse" }).to_string();
        out.push(http(node.address(), &request, &body).await.status);
    }
    out
}

#[tokio::test]
async fn who_is_no_trusted_proxy_cannot_get_around_a_limit_by_headers() {
    let node = TestNode::builder().set("auth.attempts_per_minute", 5).start().await;
    let statuses = attempts(&node, 7, |i| format!("X-Forwarded-For: 192.0.2.{i}\r\nForwarded: for=192.0.2.{i}")).await;
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_limit_and_none_can_invent_another() {
    let node = TestNode::builder().set("auth.attempts_per_minute", 5).set("proxy.trusted", "127.0.0.1").start().await;
    for client in [1, 2] {
        // What the client sends itself stands left of what the proxy adds, and changes with every request.
        let statuses = attempts(&node, 7, |i| format!("X-Forwarded-For: 198.51.100.{i}, 203.0.113.{client}")).await;
        assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429], "client {client}");
    }
    // The other header passes through the proxy unread, and so does the server pass over it.
    let statuses = attempts(&node, 7, |i| format!("X-Forwarded-For: 203.0.113.9\r\nForwarded: for=192.0.2.{i}")).await;
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
}

#[tokio::test]
async fn sockets_are_counted_by_the_real_address_and_pages_by_the_real_scheme_and_host() {
    let builder = TestNode::builder().set("proxy.trusted", "127.0.0.0/8").set("proxy.header", "forwarded");
    let node = builder.set("socket.unauthenticated_per_address_max", 1).start().await;
    let open = |headers: Vec<String>| {
        let node = &node;
        async move { RawSocket::handshake(node, "/v1/socket", &headers).await.map_err(|r| r.status) }
    };
    let first = open(vec!["Forwarded: for=203.0.113.1".into()]).await;
    assert!(first.is_ok());
    assert_eq!(open(vec!["Forwarded: for=203.0.113.1".into()]).await.err(), Some(503));
    let second = open(vec!["Forwarded: for=203.0.113.2".into()]).await;
    assert!(second.is_ok());

    let page =
        |n: u8, origin: &str| vec![format!("Forwarded: for=203.0.113.{n};proto=https;host=chat.example"), format!("Origin: {origin}")];
    assert!(open(page(3, "https://chat.example")).await.is_ok(), "its own page, by the name that the proxy was asked for");
    assert_eq!(open(page(4, "http://chat.example")).await.err(), Some(403), "a page that came without TLS");
    assert_eq!(open(page(5, "https://evil.example")).await.err(), Some(403));
    let spoofed = vec!["Forwarded: for=6.6.6.6;host=evil.example, for=203.0.113.6".into(), "Origin: https://evil.example".into()];
    assert_eq!(open(spoofed).await.err(), Some(403), "what the client wrote itself");
}

#[tokio::test]
async fn browsers_are_told_of_tls_where_the_proxy_says_it_was_there() {
    let node = TestNode::builder().set("proxy.trusted", "127.0.0.1").start().await;
    let with = http(node.address(), "GET /livez HTTP/1.1\r\nX-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: https", "").await;
    assert_eq!(with.header("strict-transport-security"), Some("max-age=31536000"));
    let without = http(node.address(), "GET /livez HTTP/1.1\r\nX-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: http", "").await;
    assert_eq!(without.header("strict-transport-security"), None);
    let stranger = TestNode::start().await;
    let spoofed = http(stranger.address(), "GET /livez HTTP/1.1\r\nX-Forwarded-Proto: https", "").await;
    assert_eq!(spoofed.header("strict-transport-security"), None);
    for (name, value) in [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("x-frame-options", "DENY")] {
        assert_eq!(spoofed.header(name), Some(value));
    }
}

/// What comes back for these bytes.
async fn raw(at: SocketAddr, bytes: &[u8]) -> String {
    let mut io = TcpStream::connect(at).await.unwrap();
    let _ = io.write_all(bytes).await;
    let mut all = Vec::new();
    let _ = tokio::time::timeout(SOON, io.read_to_end(&mut all)).await.expect("it ends");
    String::from_utf8_lossy(&all).into_owned()
}

fn login(n: usize) -> String {
    let body = json!({ "name": format!("nobody{n}"), "password": "wrong horse" }).to_string();
    let head = "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_proxy_protocol_header_says_who_the_client_is_in_both_versions() {
    let builder = TestNode::builder().set("auth.attempts_per_minute", 3).set("proxy.trusted", "127.0.0.1").set("proxy.protocol", true);
    let node = builder.start().await;
    let v1 = |client: &str, n| [format!("PROXY TCP4 {client} 10.0.0.1 4000 443\r\n").into_bytes(), login(n).into_bytes()].concat();
    for client in ["203.0.113.1", "203.0.113.2"] {
        for n in 0..3 {
            let answer = raw(node.address(), &v1(client, n)).await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{client} {n}: {answer}");
        }
        let answer = raw(node.address(), &v1(client, 99)).await;
        assert!(answer.starts_with("HTTP/1.1 429"), "{client}: {answer}");
    }
    // Version 2 of the same client shares its limit; a header of the client's own behind it does not help.
    let addresses = [203, 0, 113, 1, 10, 0, 0, 1, 0x0f, 0xa0, 0x01, 0xbb];
    let v2 = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".as_slice(), &addresses, login(5).as_bytes()].concat();
    assert!(raw(node.address(), &v2).await.starts_with("HTTP/1.1 429"));
    let again = [b"PROXY TCP4 203.0.113.1 10.0.0.1 4000 443\r\n".as_slice(), &v1("203.0.113.77", 6)].concat();
    assert!(!raw(node.address(), &again).await.contains(" 401 "), "a second header is no request");
    assert_eq!(raw(node.address(), login(7).as_bytes()).await, "", "without a header nobody is let in");
    assert!(node.metric("hubbub_connections_refused_total").await >= 1.0);
}

#[tokio::test]
async fn a_proxy_protocol_header_from_elsewhere_is_refused() {
    let node = TestNode::builder().set("proxy.trusted", "10.0.0.0/8").set("proxy.protocol", true).start().await;
    let bytes = [b"PROXY TCP4 203.0.113.1 10.0.0.1 4000 443\r\n".as_slice(), login(0).as_bytes()].concat();
    assert_eq!(raw(node.address(), &bytes).await, "");
}

#[tokio::test]
async fn every_administrative_act_is_written_down_with_who_what_and_from_where() {
    let node = TestNode::start().await;
    let body = json!({ "name": "alice", "password": "correct horse battery" });
    node.operate("POST", "/admin/users", Some(body.clone())).await.unwrap();
    node.operate("POST", "/admin/users/alice/disable", Some(json!({}))).await.unwrap();
    assert!(node.operate("POST", "/admin/users", Some(body)).await.is_err(), "the name is taken");
    node.operate("GET", "/admin/users", None).await.unwrap();
    let without = http(node.admin().trim_start_matches("http://").parse().unwrap(), "POST /admin/users/alice/enable HTTP/1.1", "").await;
    assert_eq!(without.status, 401);

    let page = node.operate("GET", "/admin/audit?limit=2", None).await.unwrap();
    let next: &'static str = Box::leak(format!("/admin/audit?cursor={}", page["next"].as_str().unwrap()).into_boxed_str());
    let rest = node.operate("GET", next, None).await.unwrap();
    let deeds: Vec<_> = page["items"].as_array().unwrap().iter().chain(rest["items"].as_array().unwrap()).cloned().collect();
    let short =
        |d: &serde_json::Value| (d["act"].as_str().unwrap().to_owned(), d["target"].as_str().unwrap().to_owned(), d["status"].clone());
    let seen: Vec<_> = deeds.iter().map(short).collect();
    assert_eq!(
        seen,
        [
            ("POST /admin/users".into(), "/admin/users".into(), json!(409)),
            ("POST /admin/users/{name}/disable".into(), "/admin/users/alice/disable".to_owned(), json!(200)),
            ("POST /admin/users".to_owned(), "/admin/users".into(), json!(201)),
        ]
    );
    for deed in &deeds {
        assert_eq!((&deed["by"], &deed["from"]), (&json!("operator"), &json!("127.0.0.1")), "{deed}");
        assert!(!deed.to_string().contains("correct horse"), "{deed}");
    }
}
