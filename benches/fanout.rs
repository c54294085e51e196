//! One entry to every session of a thread: encode once, push the same bytes into each outbox, write each with the thread's flusher.
//! The sockets are in memory and take everything at once, so this is our own cost alone; `ceilings` has the kernel's.

use actix::prelude::*;
use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_core::Stream;
use hubbub::actors::conn::{Conn, Flusher, Incoming, OutboxLimits};
use hubbub::bus::Framed;
use hubbub::protocol::codec::Format;
use hubbub::protocol::entry::{Body, Entry, Message};
use hubbub::protocol::ids::{MessageId, RoomId, UserId};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Sessions of one room on one thread.
const SESSIONS: [usize; 3] = [10, 1_000, 10_000];

/// A socket whose peer says nothing and reads everything.
struct Hole;

impl AsyncRead for Hole {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}
impl AsyncWrite for Hole {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(std::hint::black_box(bytes).len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn entry() -> Arc<Entry> {
    let body = Body::Message(Message { text: "x".repeat(128), ..Message::default() });
    Arc::new(Entry {
        room: RoomId(1 << 50),
        seq: 4712,
        n: 4000,
        id: MessageId(1 << 51),
        at: 1_790_000_000_000,
        by: UserId(77),
        cid: None,
        body,
    })
}

/// A connection that was read from once, so that it is known to the flusher.
async fn session() -> (Rc<Conn>, Incoming) {
    let limits = OutboxLimits { soft_bytes: 1 << 20, hard_bytes: 4 << 20, stall: Duration::from_secs(10) };
    let conn = Conn::new(Box::new(Hole), limits);
    let mut incoming = Incoming::new(conn.clone(), BytesMut::new(), 1 << 16);
    poll_fn(|cx| {
        assert!(Pin::new(&mut incoming).poll_next(cx).is_pending(), "nobody says anything");
        Poll::Ready(())
    })
    .await;
    (conn, incoming)
}

async fn rounds(rounds: u64, sessions: &[(Rc<Conn>, Incoming)]) -> Duration {
    let entry = entry();
    let began = Instant::now();
    for _ in 0..rounds {
        let framed = Framed::new(entry.clone());
        for (conn, _) in sessions {
            conn.push(framed.frame(Format::Msgpack));
        }
        while sessions.iter().rev().take(1).any(|(conn, _)| conn.queued_bytes() > 0) {
            tokio::task::yield_now().await;
        }
    }
    began.elapsed()
}

fn fan_out(c: &mut Criterion) {
    let system = System::new();
    // The handle, not what it would wait for: the flusher never ends by itself.
    let mut flusher = None;
    system.block_on(async { flusher = Some(actix::spawn(Flusher)) });
    let mut group = c.benchmark_group("fanout");
    for count in SESSIONS {
        let sessions = system.block_on(async {
            let mut sessions = Vec::with_capacity(count);
            for _ in 0..count {
                sessions.push(session().await);
            }
            sessions
        });
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(count.to_string(), |b| b.iter_custom(|n| system.block_on(rounds(n, &sessions))));
    }
    group.finish();
    flusher.iter().for_each(|f| f.abort());
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
