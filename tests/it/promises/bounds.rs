//! P7: who does not read is closed, alone; what is idle costs nothing.

use super::{all_is_well, answered, connected, groups, people, pick};
use crate::support::{SOON, TestClient, TestNode, TestUser, eventually};
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use hubbub::client::{Connection, Options};
use hubbub::protocol::codec::{self, Format};
use hubbub::protocol::entry::RoomKind;
use hubbub::protocol::ids::{RoomId, Seq};
use hubbub::protocol::ops::{Push, Request, Resume};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

fn everything() -> Request {
    Request::Resume(Resume { rooms: Vec::new(), last: true })
}

/// A live socket that takes little into its kernel's buffer, and that nobody reads from now on.
async fn unread(node: &TestNode, user: &TestUser) -> WebSocketStream<TcpStream> {
    let address: SocketAddr = node.url().trim_start_matches("http://").parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut request = format!("ws://{address}/v1/socket").into_client_request().unwrap();
    let offered = format!("{}, hubbub.bearer.{}", Format::Msgpack.subprotocol(), user.token);
    request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
    let (mut socket, _) = client_async(request, socket.connect(address).await.unwrap()).await.unwrap();
    // Nothing is taken before the sign-in is answered.
    until(&mut socket, |push| matches!(push, Push::Hello(_))).await;
    socket.send(Message::binary(codec::encode_request(Format::Msgpack, 1, &everything()))).await.unwrap();
    until(&mut socket, |push| matches!(push, Push::Resumed(_))).await;
    socket
}

async fn until(socket: &mut WebSocketStream<TcpStream>, fits: impl Fn(&Push) -> bool) {
    loop {
        let frame = tokio::time::timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
        if frame.is_binary() && codec::decode_push(Format::Msgpack, &frame.into_data()).is_ok_and(|push| fits(&push)) {
            return;
        }
    }
}

/// A live session that reads: ends when it was shown everything up to `last`, each seq once and in order.
async fn reader(node: &TestNode, user: &TestUser, room: RoomId, last: Seq) -> JoinHandle<()> {
    let opened = Connection::open(&node.url(), &user.token, Format::Msgpack, &Options::default()).await;
    let (connection, mut pushes) = opened.unwrap();
    connection.request(everything()).await.unwrap();
    tokio::spawn(async move {
        let mut next = None;
        while let Some(push) = pushes.recv().await {
            match push {
                Push::Room(told) if told.room == room => next = Some(told.from + 1),
                Push::Entries(page) if page.room == room => next = page.entries.last().map(|e| e.seq + 1),
                Push::Entry(entry) if entry.room == room => {
                    assert_eq!(Some(entry.seq), next, "a hole, or a double");
                    next = Some(entry.seq + 1);
                }
                _ => {}
            }
            if next == Some(last + 1) {
                // The socket stays open, and is read, until the test is over.
                tokio::spawn(async move {
                    while pushes.recv().await.is_some() {}
                    drop(connection);
                });
                return;
            }
        }
        panic!("the connection ended: {:?}", connection.end());
    })
}

/// P7: in a room of a thousand sessions the one that does not read is closed, and nobody else notices.
#[tokio::test]
async fn a_slow_reader_is_closed_alone() {
    const USERS: usize = 20;
    const EACH: usize = 50;
    let messages: Seq = pick(100, 2_000);
    let node = TestNode::builder()
        .set("socket.send_buffer_bytes", 8_192)
        .set("socket.outbox_soft_bytes", 32 * 1024)
        .set("socket.outbox_stall_ms", 500)
        .start()
        .await;
    let users = people(&node, USERS + 2).await;
    let sender = TestClient::connect(&node, &users[USERS], "sender").await;
    let members: Vec<_> = users.iter().filter(|u| u.id != sender.user.id).map(|u| u.id).collect();
    let room = sender.create(RoomKind::Group, &members).await;
    let slow = unread(&node, &users[USERS + 1]).await;
    let mut readers = Vec::new();
    for user in &users[..USERS] {
        readers.extend(join_all((0..EACH).map(|_| reader(&node, user, room, messages + 1))).await);
    }
    let sockets = (readers.len() + 2) as f64;
    assert_eq!(node.metric("hubbub_sockets_open").await, sockets);
    let before = node.rss_kib();
    for i in 0..messages {
        sender.send(room, &format!("{i} {}", "x".repeat(2_000))).await;
    }
    for reader in readers {
        tokio::time::timeout(SOON, reader).await.expect("everybody else gets everything").expect("no panic");
    }
    let node = &node;
    eventually("the slow reader is closed", SOON, || async { node.metric("hubbub_outbox_overruns_total").await > 0.0 }).await;
    eventually("its socket is gone", SOON, || async { node.metric("hubbub_sockets_open").await == sockets - 1.0 }).await;
    assert_eq!(node.metric("hubbub_outbox_overruns_total").await, 1.0, "others were closed too");
    let grown = node.rss_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more than before the {messages} messages");
    // When it reads at last it finds what lay in the buffers, and the end.
    let rest = tokio::time::timeout(SOON, slow.take_while(|frame| std::future::ready(frame.is_ok())).count()).await;
    assert!((rest.expect("its socket was really closed") as Seq) < messages);
    // It comes back and resumes like anybody else.
    let back = TestClient::connect(node, &users[USERS + 1], "slow").await;
    all_is_well(node, &[sender, back], &[room]).await;
}

/// P7: rooms and presences that idle have no actor, and come back with everything.
#[tokio::test]
async fn what_is_idle_is_passivated_and_comes_back() {
    let node = TestNode::builder().set("rooms.idle_ms", 300).set("presence.offline_debounce_ms", 100).start().await;
    let users = people(&node, 3).await;
    let mut clients = connected(&node, &users).await;
    let rooms = groups(&clients, 5).await;
    let node = &node;
    let gone = |metric: &'static str| eventually(metric, SOON, move || async move { node.metric(metric).await == 0.0 });
    let mut first = Vec::new();
    for round in 0..3 {
        for room in &rooms {
            let request = clients[round].message(*room, &format!("round {round}"));
            let seq = answered(&clients[round], &request).await.unwrap().seq;
            assert_eq!(seq, Some(round as Seq + 2), "the room goes on where it was");
            first.push((round, request, seq));
        }
        for (by, request, seq) in &first {
            assert_eq!(answered(&clients[*by], request).await.unwrap().seq, *seq, "a resend is found in every life");
        }
        gone("hubbub_rooms_active").await;
    }
    all_is_well(node, &clients, &rooms).await;
    for client in &mut clients {
        client.disconnect().await;
    }
    let began = Instant::now();
    gone("hubbub_presences_active").await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    for client in &mut clients {
        client.reconnect(node).await;
    }
    assert!(node.metric("hubbub_presences_active").await >= 3.0);
    clients[0].send(rooms[0], "back").await;
    all_is_well(node, &clients, &rooms).await;
}
