//! A WebSocket and HTTP client that does what a good one would not: any handshake, any frame, any bytes.

use super::node::{TestNode, TestUser};
use super::{SOON, eventually};
use bytes::{Buf, BytesMut};
use hubbub::protocol::ws::{Op, client_frame};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [7, 21, 99, 3];

/// An HTTP answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    /// The `code` of a problem+json.
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
    fn parse(head: &str) -> Response {
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{head:?}"));
        let headers = lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_lowercase(), v.trim().to_owned())).collect();
        Response { status, headers, body: String::new() }
    }
}

/// One HTTP request as text, without its last empty line; the connection is closed by the answer or by us.
pub async fn http(at: SocketAddr, head: &str, body: &str) -> Response {
    let mut io = TcpStream::connect(at).await.expect("the node listens");
    let request = format!("{head}\r\nHost: {at}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    // A server that refuses by the head need not read the body.
    let _ = io.write_all(request.as_bytes()).await;
    let mut all = Vec::new();
    let _ = tokio::time::timeout(SOON, io.read_to_end(&mut all)).await.expect("the answer ends");
    let text = String::from_utf8_lossy(&all).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    Response { body: body.to_owned(), ..Response::parse(head) }
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub op: u8,
    pub payload: Vec<u8>,
}

/// A socket of which the test sees every frame.
pub struct RawSocket {
    io: TcpStream,
    read: BytesMut,
    next_ref: u64,
    /// Pushes that came while an answer was waited for.
    pub pushes: Vec<Value>,
}

impl RawSocket {
    /// A handshake with these headers beside the usual ones (`Name: value`, one a line); the socket, or why not.
    pub async fn handshake(node: &TestNode, target: &str, headers: &[String]) -> Result<(RawSocket, Response), Response> {
        let at = node.address();
        let usual = [
            format!("GET {target} HTTP/1.1"),
            format!("Host: {at}"),
            "Upgrade: websocket".into(),
            "Connection: Upgrade".into(),
            "Sec-WebSocket-Version: 13".into(),
            format!("Sec-WebSocket-Key: {KEY}"),
        ];
        // A header that is given replaces the usual one; `Name:` leaves it out.
        let name = |line: &str| line.split(':').next().unwrap_or_default().to_lowercase();
        let kept = usual.into_iter().filter(|line| line.starts_with("GET ") || !headers.iter().any(|h| name(h) == name(line)));
        let given = headers.iter().filter(|h| !h.ends_with(':')).cloned();
        let text: String = kept.chain(given).map(|line| line + "\r\n").collect::<String>() + "\r\n";
        let mut io = TcpStream::connect(at).await.expect("the node listens");
        io.write_all(text.as_bytes()).await.expect("written");
        let mut read = BytesMut::new();
        let head = loop {
            if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&read.split_to(end)).into_owned();
                read.advance(4);
                break head;
            }
            let n = tokio::time::timeout(SOON, io.read_buf(&mut read)).await.expect("an answer").expect("an answer");
            assert!(n > 0, "the handshake was not answered");
        };
        let mut response = Response::parse(&head);
        if response.status == 101 {
            return Ok((RawSocket { io, read, next_ref: 0, pushes: Vec::new() }, response));
        }
        let _ = tokio::time::timeout(SOON, io.read_buf(&mut read)).await;
        response.body = String::from_utf8_lossy(&read).into_owned();
        Err(response)
    }
    /// A JSON socket, not signed in.
    pub async fn json(node: &TestNode) -> RawSocket {
        RawSocket::offering(node, "hubbub.v1.json").await
    }
    /// A socket with these subprotocols.
    pub async fn offering(node: &TestNode, protocols: &str) -> RawSocket {
        let made = RawSocket::handshake(node, "/v1/socket", &[format!("Sec-WebSocket-Protocol: {protocols}")]).await;
        made.unwrap_or_else(|r| panic!("refused: {r:?}")).0
    }
    /// A JSON socket that is signed in.
    pub async fn signed_in(node: &TestNode, user: &TestUser) -> RawSocket {
        let mut socket = RawSocket::json(node).await;
        let hello = socket.ask("auth", json!({ "token": user.token })).await;
        assert_eq!(hello["op"], "hello", "{hello}");
        socket
    }
    /// A JSON socket that is live.
    pub async fn live(node: &TestNode, user: &TestUser) -> RawSocket {
        let mut socket = RawSocket::signed_in(node, user).await;
        let resumed = socket.ask("resume", json!({ "rooms": [], "last": true })).await;
        assert_eq!(resumed["op"], "resumed", "{resumed}");
        socket
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("written");
    }
    pub async fn frame(&mut self, op: Op, payload: &[u8]) {
        self.bytes(&client_frame(true, op, MASK, payload)).await;
    }
    pub async fn text(&mut self, text: &str) {
        self.frame(Op::Text, text.as_bytes()).await;
    }
    /// Sends a request with the next `ref` and gives that.
    pub async fn request(&mut self, op: &str, mut fields: Value) -> u64 {
        self.next_ref += 1;
        fields["op"] = op.into();
        fields["ref"] = self.next_ref.into();
        self.text(&fields.to_string()).await;
        self.next_ref
    }
    /// Sends a request and waits for its answer.
    pub async fn ask(&mut self, op: &str, fields: Value) -> Value {
        let reference = self.request(op, fields).await;
        self.answer(reference).await
    }
    /// Waits for the answer to a request; pushes are kept.
    pub async fn answer(&mut self, reference: u64) -> Value {
        loop {
            let value = self.value().await;
            if value["ref"] == reference {
                return value;
            }
            self.pushes.push(value);
        }
    }
    /// The next frame; none: the connection ended without one.
    pub async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(SOON, self.read_frame()).await.expect("a frame in time")
    }
    async fn read_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = take_frame(&mut self.read) {
                return Some(frame);
            }
            if matches!(self.io.read_buf(&mut self.read).await, Ok(0) | Err(_)) {
                return None;
            }
        }
    }
    /// The next text frame, as JSON; anything else but pings is a failure.
    pub async fn value(&mut self) -> Value {
        loop {
            let frame = self.next().await.expect("the connection goes on");
            match frame.op {
                1 => return serde_json::from_slice(&frame.payload).expect("JSON"),
                9 => {}
                8 => panic!("closed with {}", close_code(&frame)),
                other => panic!("a frame of kind {other}"),
            }
        }
    }
    /// Reads until the Close and gives its code; 1006 when there is none. What came before it is kept.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match self.next().await {
                None => return 1006,
                Some(frame) if frame.op == 8 => return close_code(&frame),
                Some(frame) if frame.op == 1 => self.pushes.push(serde_json::from_slice(&frame.payload).expect("JSON")),
                Some(_) => {}
            }
        }
    }
    /// Whether the server has ended its side.
    pub async fn is_over(&mut self) -> bool {
        matches!(tokio::time::timeout(SOON, self.io.read(&mut [0; 64])).await, Ok(Ok(0) | Err(_)))
    }
}

fn close_code(frame: &Frame) -> u16 {
    frame.payload.get(..2).map_or(1005, |c| u16::from_be_bytes([c[0], c[1]]))
}

/// A server's frame is whole and unmasked.
fn take_frame(read: &mut BytesMut) -> Option<Frame> {
    let (first, second) = (*read.first()?, *read.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "the server fragments or uses extensions");
    assert_eq!(second & 0x80, 0, "the server masks");
    let (length, head) = match second {
        126 => (u16::from_be_bytes(read.get(2..4)?.try_into().ok()?) as usize, 4),
        127 => (u64::from_be_bytes(read.get(2..10)?.try_into().ok()?) as usize, 10),
        short => (short as usize, 2),
    };
    if read.len() < head + length {
        return None;
    }
    read.advance(head);
    Some(Frame { op: first & 0x0f, payload: read.split_to(length).to_vec() })
}

/// Waits until a metric has this value.
pub async fn metric_is(node: &TestNode, name: &str, value: f64) {
    eventually(&format!("{name} is {value}"), SOON, || async { node.metric(name).await == value }).await;
}
