//! The client against a server that follows a script, over a real socket on loopback.

use super::*;
use crate::protocol::codec;
use crate::protocol::entry::{Body, Message as Text};
use crate::protocol::ids::{DeviceId, MessageId, Seq, UserId};
use crate::protocol::ops::{Drain, Entries, Failed, Have, Resumed};
use futures_util::SinkExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{Request as Upgrade, Response};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

const ROOM: RoomId = RoomId(5);
const ME: UserId = UserId(7);
const LIMIT: Duration = Duration::from_secs(10);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.expect("it happens in time")
}

struct Server(TcpListener);

impl Server {
    async fn start() -> (Server, Settings) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut settings = Settings::new(&url, "secret-token");
        settings.format = Format::Json;
        settings.backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(40));
        (Server(listener), settings)
    }

    /// The next connection, signed in.
    async fn accept(&self) -> Peer {
        soon(async {
            let (tcp, _) = self.0.accept().await.unwrap();
            #[allow(clippy::result_large_err)] // the library's own type
            let choose = |request: &Upgrade, mut response: Response| {
                let offered = request.headers()["sec-websocket-protocol"].clone();
                response.headers_mut().insert("sec-websocket-protocol", offered);
                Ok(response)
            };
            let mut peer = Peer(accept_hdr_async(tcp, choose).await.unwrap());
            let (reference, request) = peer.request().await;
            assert_eq!(request, Request::Auth(crate::protocol::ops::Auth { token: "secret-token".into() }));
            let hello = Hello {
                reference,
                user: ME,
                name: "me".into(),
                device: DeviceId(1),
                expires: 1_000_000,
                now: 0,
                heartbeat_ms: 25_000,
                frame_bytes_max: 65_536,
                server: "script".into(),
            };
            peer.push(Push::Hello(hello)).await;
            peer
        })
        .await
    }
}

struct Peer(WebSocketStream<TcpStream>);

impl Peer {
    async fn request(&mut self) -> (u64, Request) {
        soon(async {
            loop {
                match self.0.next().await.unwrap().unwrap() {
                    Message::Text(text) => return codec::decode_request(Format::Json, text.as_bytes()).unwrap(),
                    Message::Ping(_) => {}
                    other => panic!("a request, not {other:?}"),
                }
            }
        })
        .await
    }
    async fn push(&mut self, push: Push) {
        let frame = String::from_utf8(codec::encode_push(Format::Json, &push)).unwrap();
        self.0.send(Message::text(frame)).await.unwrap();
    }
    async fn ok(&mut self, reference: u64, seq: Seq) {
        self.push(Push::Ok(Reply { reference, seq: Some(seq), ..Reply::default() })).await;
    }
    async fn fail(&mut self, reference: u64, error: ApiError) {
        self.push(Push::Error(Failed { reference, error })).await;
    }
    /// Takes the resume, gives `entries`, and says that it is complete. What the client had.
    async fn resume(&mut self, entries: Vec<Entry>) -> Vec<Have> {
        let (reference, request) = self.request().await;
        let Request::Resume(resume) = request else { panic!("a resume, not {request:?}") };
        assert!(resume.last);
        if !entries.is_empty() {
            self.push(Push::Entries(Entries { room: ROOM, entries, more: false })).await;
        }
        self.push(Push::Resumed(Resumed { reference, ..Resumed::default() })).await;
        resume.rooms
    }
    async fn send_request(&mut self) -> (u64, Send) {
        match self.request().await {
            (reference, Request::Send(send)) => (reference, send),
            other => panic!("a send, not {other:?}"),
        }
    }
    async fn close(mut self, code: u16) {
        self.0.close(Some(CloseFrame { code: code.into(), reason: "as the script says".into() })).await.unwrap();
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

fn entry(seq: Seq, by: UserId, cid: Option<ClientId>) -> Entry {
    Entry {
        room: ROOM,
        seq,
        n: seq,
        id: MessageId(seq),
        at: 0,
        by,
        cid,
        body: Body::Message(Text { text: format!("m{seq}"), ..Text::default() }),
    }
}

/// Takes events until one is as wanted.
async fn until(events: &mut mpsc::Receiver<Event>, wanted: impl Fn(&Event) -> bool) -> Event {
    soon(async {
        loop {
            let event = events.recv().await.expect("the client goes on");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_unanswered_send_goes_out_again_after_the_resume_with_the_same_client_id_and_since() {
    let (server, settings) = Server::start().await;
    let (client, mut events) = Client::start(settings);
    let mut first = server.accept().await;
    assert!(first.resume(vec![entry(1, UserId(8), None)]).await.is_empty());
    until(&mut events, |e| matches!(e, Event::CaughtUp { missed: 1, again: false })).await;
    let ticket = client.send(ROOM, "hello").await.unwrap();
    let (_, sent) = first.send_request().await;
    assert_eq!((sent.since, sent.text.as_str()), (1, "hello"));
    drop(first);

    let mut second = server.accept().await;
    let have = second.resume(vec![entry(2, UserId(8), None)]).await;
    assert_eq!(have, [Have { room: ROOM, have: 1 }]);
    let (reference, again) = second.send_request().await;
    assert_eq!(again, sent, "the same in every field, also `since`");
    second.ok(reference, 3).await;
    assert_eq!(soon(ticket).await.unwrap().seq, Some(3));
    until(&mut events, |e| matches!(e, Event::CaughtUp { missed: 1, again: true })).await;
}

#[tokio::test]
async fn an_entry_seen_in_the_resume_answers_the_send_and_nothing_goes_out_again() {
    let (server, settings) = Server::start().await;
    let (client, mut events) = Client::start(settings);
    let mut first = server.accept().await;
    first.resume(vec![]).await;
    let ticket = client.send(ROOM, "hello").await.unwrap();
    let next = client.send(ROOM, "next").await.unwrap();
    let (_, sent) = first.send_request().await;
    drop(first);

    let mut second = server.accept().await;
    second.resume(vec![entry(1, ME, Some(sent.cid))]).await;
    assert_eq!(soon(ticket).await.unwrap().seq, Some(1));
    let (reference, following) = second.send_request().await;
    assert_eq!((following.text.as_str(), following.cid), ("next", next.cid));
    second.ok(reference, 2).await;
    assert_eq!(soon(next).await.unwrap().seq, Some(2));
    let shown = until(&mut events, |e| matches!(e, Event::Entry { .. })).await;
    assert!(matches!(shown, Event::Entry { entry, live: false } if entry.seq == 1));
}

#[tokio::test]
async fn a_hole_makes_the_client_resume_from_what_it_has() {
    let (server, settings) = Server::start().await;
    let (client, mut events) = Client::start(settings);
    let mut first = server.accept().await;
    first.resume(vec![]).await;
    first.push(Push::Entry(entry(1, UserId(8), None))).await;
    first.push(Push::Entry(entry(3, UserId(8), None))).await;

    let mut second = server.accept().await;
    let have = second.resume(vec![entry(2, UserId(8), None), entry(3, UserId(8), None)]).await;
    assert_eq!(have, [Have { room: ROOM, have: 1 }]);
    second.push(Push::Entry(entry(3, UserId(8), None))).await;
    second.push(Push::Entry(entry(4, UserId(8), None))).await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        if let Event::Entry { entry, .. } = until(&mut events, |e| matches!(e, Event::Entry { .. })).await {
            seen.push(entry.seq);
        }
    }
    assert_eq!(seen, [1, 2, 3, 4]);
    assert_eq!(client.view(|r| r.have(ROOM)), 4);
}

#[tokio::test]
async fn resync_makes_the_client_look_first_and_then_send_with_a_new_since() {
    let (server, settings) = Server::start().await;
    let (client, _events) = Client::start(settings);
    let mut first = server.accept().await;
    first.resume(vec![]).await;
    let ticket = client.send(ROOM, "hello").await.unwrap();
    let (reference, sent) = first.send_request().await;
    first.fail(reference, ApiError::new(Code::Resync, "too far back")).await;

    let mut second = server.accept().await;
    second.resume(vec![entry(1, UserId(8), None), entry(2, UserId(8), None)]).await;
    let (reference, again) = second.send_request().await;
    assert_eq!((again.cid, sent.since, again.since), (sent.cid, 0, 2));
    second.ok(reference, 3).await;
    assert_eq!(soon(ticket).await.unwrap().seq, Some(3));
}

#[tokio::test]
async fn errors_that_allow_it_are_tried_again_and_others_are_the_answer() {
    let (server, settings) = Server::start().await;
    let (client, _events) = Client::start(settings);
    let mut peer = server.accept().await;
    peer.resume(vec![]).await;
    let ticket = client.send(ROOM, "hello").await.unwrap();
    let (reference, sent) = peer.send_request().await;
    peer.fail(reference, ApiError::after(Code::Busy, "wait a little", Duration::from_millis(3))).await;
    let (reference, again) = peer.send_request().await;
    assert_eq!(again, sent);
    peer.fail(reference, ApiError::new(Code::Forbidden, "readers do not write")).await;
    let refused = soon(ticket).await.unwrap_err();
    assert!(matches!(refused, ClientError::Api(e) if e.code == Code::Forbidden));
}

#[tokio::test]
async fn a_drain_names_the_time_and_a_final_close_code_ends_the_client() {
    let (server, settings) = Server::start().await;
    let (client, mut events) = Client::start(settings);
    let mut first = server.accept().await;
    first.resume(vec![]).await;
    first.push(Push::Drain(Drain { after_ms: 300 })).await;
    let drained = Instant::now();
    first.close(Close::DRAINING.code).await;

    let mut second = server.accept().await;
    assert!(drained.elapsed() >= Duration::from_millis(250), "came back after {:?}", drained.elapsed());
    second.resume(vec![]).await;
    until(&mut events, |e| matches!(e, Event::CaughtUp { again: true, .. })).await;
    let ticket = client.send(ROOM, "too late").await.unwrap();
    second.send_request().await;
    second.close(Close::REVOKED.code).await;
    let end = until(&mut events, |e| matches!(e, Event::Ended(_))).await;
    assert!(matches!(end, Event::Ended(ClientError::Closed(end)) if end.code == Close::REVOKED.code));
    assert!(matches!(soon(ticket).await, Err(ClientError::Closed(_))));
    assert_eq!(client.ask(Request::Rooms(Default::default())).await, Err(ClientError::NotConnected));
}

#[tokio::test]
async fn a_client_goes_on_until_the_time_that_a_drain_named_and_then_leaves_by_itself() {
    let (server, settings) = Server::start().await;
    let (client, _events) = Client::start(settings);
    let mut first = server.accept().await;
    first.resume(vec![]).await;
    first.push(Push::Drain(Drain { after_ms: 300 })).await;
    let drained = Instant::now();
    let ticket = client.send(ROOM, "still here").await.unwrap();
    let (reference, _) = first.send_request().await;
    first.ok(reference, 1).await;
    soon(ticket).await.unwrap();
    assert!(drained.elapsed() < Duration::from_millis(300), "it was not served meanwhile");
    // Its old connection is left open.
    let mut second = server.accept().await;
    assert!(drained.elapsed() >= Duration::from_millis(250), "came back after {:?}", drained.elapsed());
    second.resume(vec![]).await;
}

#[tokio::test]
async fn a_connection_matches_replies_times_out_and_knows_its_close_code() {
    let (server, settings) = Server::start().await;
    let options = Options { request_timeout: Duration::from_millis(200), ..Options::default() };
    let script = async {
        let mut peer = server.accept().await;
        let (a, _) = peer.request().await;
        let (b, _) = peer.request().await;
        peer.ok(b, 2).await;
        peer.ok(a, 1).await;
        peer.request().await; // never answered
        peer
    };
    let user = async {
        let (connection, pushes) = Connection::open(&settings.url, "secret-token", Format::Json, &options).await.unwrap();
        let ask = |offset| connection.request(Request::Rooms(crate::protocol::ops::Rooms { offset, limit: None }));
        let (one, two) = tokio::join!(ask(1), ask(2));
        assert_eq!((one.unwrap().seq, two.unwrap().seq), (Some(1), Some(2)));
        assert_eq!(ask(3).await, Err(ClientError::Timeout(Duration::from_millis(200))));
        (connection, pushes)
    };
    let (peer, (connection, mut pushes)) = tokio::join!(script, user);
    peer.close(Close::SLOW.code).await;
    assert_eq!(soon(connection.ended()).await.code, Close::SLOW.code);
    assert!(soon(pushes.recv()).await.is_none());
    assert!(matches!(connection.request(Request::Ping(Default::default())).await, Err(ClientError::Closed(end)) if end.code == 4000));
}
