//! TLS of the clients' listener: HTTP and sockets, a certificate that is replaced under way, and one that cannot be.

use super::support::{SOON, TestNode, eventually};
use futures_util::{SinkExt, StreamExt};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const HOST: &str = "chat.test";

/// Writes a fresh certificate and key; gives the certificate.
fn certify(dir: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([HOST.to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

async fn start(dir: &Path) -> TestNode {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    TestNode::builder().set("tls.certificate", cert.display()).set("tls.key", key.display()).start().await
}

/// A handshake with a client that believes this certificate alone.
async fn connect(at: SocketAddr, trusted: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    // A small buffer, so that who does not read is soon felt by the server.
    let tcp = TcpSocket::new_v4()?;
    tcp.set_recv_buffer_size(8 * 1024)?;
    connector.connect(ServerName::try_from(HOST).unwrap(), tcp.connect(at).await?).await
}

async fn get(io: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), target: &str) -> String {
    io.write_all(format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let _ = tokio::time::timeout(SOON, io.read_to_end(&mut all)).await.expect("the answer ends");
    String::from_utf8_lossy(&all).into_owned()
}

/// An account and a token, by the operators' listener, which speaks no TLS.
async fn token(node: &TestNode, name: &str) -> String {
    let body = json!({ "name": name, "password": "correct horse battery" });
    node.operate("POST", "/admin/users", Some(body)).await.unwrap();
    let path: &'static str = Box::leak(format!("/admin/users/{name}/token").into_boxed_str());
    let answer = node.operate("POST", path, Some(json!({ "ttl_s": 3600 }))).await.unwrap();
    answer["token"].as_str().unwrap().to_owned()
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn socket(at: SocketAddr, trusted: &CertificateDer<'static>, token: &str) -> Socket {
    let mut request = format!("wss://{HOST}/v1/socket").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "hubbub.v1.json".parse().unwrap());
    let io = connect(at, trusted).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, io).await.unwrap();
    assert_eq!(ask(&mut socket, json!({ "op": "auth", "ref": 1, "token": token })).await["op"], "hello");
    assert_eq!(ask(&mut socket, json!({ "op": "resume", "ref": 2, "rooms": [], "last": true })).await["op"], "resumed");
    socket
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = tokio::time::timeout(SOON, socket.next()).await.expect("a frame in time").expect("it goes on").expect("no error");
        if let Message::Text(text) = message {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

async fn ask(socket: &mut Socket, request: Value) -> Value {
    socket.send(Message::text(request.to_string())).await.unwrap();
    loop {
        let value = next(socket).await;
        if value["ref"] == request["ref"] {
            return value;
        }
    }
}

async fn room(socket: &mut Socket) -> String {
    let cid = uuid::Uuid::new_v4();
    let made = ask(socket, json!({ "op": "create", "ref": 3, "kind": "group", "name": "tls", "members": [], "cid": cid })).await;
    made["room"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

fn message(room: &str, reference: u64, text: &str) -> Value {
    json!({ "op": "send", "ref": reference, "room": room, "cid": uuid::Uuid::new_v4(), "since": 0, "text": text })
}

#[tokio::test]
async fn http_and_sockets_work_over_tls_and_browsers_are_told_to_stay_there() {
    let dir = tempfile::tempdir().unwrap();
    let cert = certify(dir.path());
    let node = start(dir.path()).await;
    let answer = get(&mut connect(node.address(), &cert).await.unwrap(), "/v1/me").await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(answer.to_lowercase().contains("strict-transport-security: max-age=31536000"), "{answer}");
    // Without TLS there is no answer at all.
    let plain = get(&mut TcpStream::connect(node.address()).await.unwrap(), "/livez").await;
    assert!(!plain.starts_with("HTTP/1.1 200"), "{plain}");

    let mut alice = socket(node.address(), &cert, &token(&node, "alice").await).await;
    let room = room(&mut alice).await;
    assert_eq!(ask(&mut alice, message(&room, 4, "over TLS")).await["op"], "ok");
}

#[tokio::test]
async fn a_slow_reader_over_tls_gets_everything_and_nothing_stays_in_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let cert = certify(dir.path());
    let (file, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let builder = TestNode::builder().set("tls.certificate", file.display()).set("tls.key", key.display());
    let node = builder.set("socket.outbox_stall_ms", 60_000).start().await;
    let token = token(&node, "alice").await;
    let (mut writer, mut reader) = (socket(node.address(), &cert, &token).await, socket(node.address(), &cert, &token).await);
    let room = room(&mut writer).await;
    let text = "x".repeat(12_000);
    // More than the kernels' buffers take while the reader does not read: the rest waits in the outbox, and in TLS's own buffer.
    for n in 0..60 {
        assert_eq!(ask(&mut writer, message(&room, 10 + n, &format!("{n} {text}"))).await["op"], "ok");
    }
    let mut seen = Vec::new();
    while seen.len() < 60 {
        let value = next(&mut reader).await;
        let entries = value["entries"].as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        let texts = entries.iter().filter_map(|e| e["body"]["message"]["text"].as_str().or(e["entry"]["body"]["message"]["text"].as_str()));
        seen.extend(texts.map(|t| t.split(' ').next().unwrap().parse::<u64>().unwrap()));
    }
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_new_certificate_is_taken_without_dropping_a_connection_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let old = certify(dir.path());
    let node = start(dir.path()).await;
    let mut alice = socket(node.address(), &old, &token(&node, "alice").await).await;
    let room = room(&mut alice).await;

    // Half a pair: nothing changes but the log.
    std::fs::write(dir.path().join("cert.pem"), "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n").unwrap();
    node.signal("HUP");
    eventually("it says so", SOON, || async { node.log().contains("the old one stays") }).await;
    connect(node.address(), &old).await.expect("the old certificate is still there");

    let new = certify(dir.path());
    node.signal("HUP");
    let taken = || async { connect(node.address(), &new).await.is_ok() };
    eventually("the new certificate is taken on SIGHUP", SOON, taken).await;
    assert!(connect(node.address(), &old).await.is_err(), "new connections get the new one");
    assert_eq!(ask(&mut alice, message(&room, 5, "still here")).await["op"], "ok");

    // Nobody says anything: the files alone have changed.
    let newest = certify(dir.path());
    eventually("the files are looked at", Duration::from_secs(30), || async { connect(node.address(), &newest).await.is_ok() }).await;
    assert_eq!(ask(&mut alice, message(&room, 6, "and still")).await["op"], "ok");
}

#[tokio::test]
async fn a_server_whose_certificate_cannot_be_used_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    certify(dir.path());
    let other = tempfile::tempdir().unwrap();
    certify(other.path());
    let (cert, key) = (dir.path().join("cert.pem"), other.path().join("key.pem"));
    let builder = TestNode::builder().set("tls.certificate", cert.display()).set("tls.key", key.display());
    let (status, log) = builder.start_failing().await;
    assert!(!status.success() && log.contains("cert.pem"), "{log}");
}
