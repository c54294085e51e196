//! From socket to socket through a whole server, in a process of its own: send → acknowledged (the entry is on the disk) and
//! send → delivered to another user. One message under way at a time: this is latency; `hubbub bench` measures load.

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::{SinkExt, StreamExt};
use hubbub::protocol::codec::{Format, decode_push, encode_request};
use hubbub::protocol::ids::{ClientId, RoomId, Seq};
use hubbub::protocol::ops::{Auth, Push, Request, Resume, Send};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, http::HeaderValue};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// A server that ends with the benchmark.
struct Server {
    child: Child,
    socket: String,
    tokens: Vec<String>,
    _dir: tempfile::TempDir,
}
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server() -> Server {
    let dir = tempfile::tempdir().expect("a directory for temporary files");
    let mut child = Command::new(env!("CARGO_BIN_EXE_hubbub"))
        .args(["dev", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--set", "limits.requests_per_second=0"])
        .arg("--data-dir")
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let lines = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
    let said: Vec<serde_json::Value> =
        lines.take(4).map(|l| serde_json::from_str(&l.expect("it says where it listens")).expect("in JSON")).collect();
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().map(str::to_owned);
    let socket = text(&said[0], "socket").expect("the first line has the address");
    Server { child, socket, tokens: said[1..].iter().filter_map(|v| text(v, "token")).collect(), _dir: dir }
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    room: RoomId,
    head: Seq,
}

impl Client {
    async fn connect(server: &Server, who: usize) -> Client {
        let mut request = server.socket.as_str().into_client_request().expect("an address");
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("hubbub.v1.msgpack"));
        let (socket, _) = connect_async(request).await.expect("the server takes the socket");
        let mut client = Client { socket, room: RoomId(0), head: 0 };
        client.send(1, &Request::Auth(Auth { token: server.tokens[who].clone() })).await;
        while !matches!(client.next().await, Push::Hello(_)) {}
        client.send(2, &Request::Resume(Resume { rooms: Vec::new(), last: true })).await;
        loop {
            match client.next().await {
                Push::Room(standing) => (client.room, client.head) = (standing.room, standing.head),
                Push::Resumed(_) => return client,
                _ => {}
            }
        }
    }
    async fn send(&mut self, reference: u64, request: &Request) {
        let frame = encode_request(Format::Msgpack, reference, request);
        self.socket.send(Message::Binary(frame.into())).await.expect("the socket is open");
    }
    async fn next(&mut self) -> Push {
        loop {
            if let Message::Binary(frame) = self.socket.next().await.expect("the socket is open").expect("and whole") {
                return decode_push(Format::Msgpack, &frame).expect("a push");
            }
        }
    }
    async fn say(&mut self) {
        let (room, since) = (self.room, self.head);
        let send = Send {
            room,
            cid: ClientId::fresh(),
            since,
            text: "x".repeat(128),
            reply_to: None,
            thread: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            data: None,
        };
        self.send(3, &Request::Send(send)).await;
    }
    async fn acknowledged(&mut self) {
        loop {
            match self.next().await {
                Push::Ok(ok) => return self.head = ok.seq.expect("a send is answered with its seq"),
                Push::Error(failed) => panic!("{:?}", failed.error),
                _ => {}
            }
        }
    }
    async fn delivered(&mut self) {
        while !matches!(self.next().await, Push::Entry(_)) {}
    }
}

fn latency(c: &mut Criterion) {
    let server = server();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut alice, mut bob) = runtime.block_on(async { (Client::connect(&server, 0).await, Client::connect(&server, 1).await) });
    let mut group = c.benchmark_group("end_to_end");
    group.bench_function("send_to_ack", |b| b.iter_custom(|n| runtime.block_on(rounds(n, &mut alice, &mut bob, true))));
    group.bench_function("send_to_deliver", |b| b.iter_custom(|n| runtime.block_on(rounds(n, &mut alice, &mut bob, false))));
    group.finish();
}

/// Both answers are waited for in each round, so that none is left over for the next; `ack`: which of them is measured.
async fn rounds(n: u64, alice: &mut Client, bob: &mut Client, ack: bool) -> Duration {
    let mut all = Duration::ZERO;
    for _ in 0..n {
        let began = Instant::now();
        alice.say().await;
        if ack {
            alice.acknowledged().await;
            all += began.elapsed();
            bob.delivered().await;
        } else {
            bob.delivered().await;
            all += began.elapsed();
            alice.acknowledged().await;
        }
    }
    all
}

criterion_group!(benches, latency);
criterion_main!(benches);
