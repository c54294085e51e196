//! A session's socket: its outbox, its reader, and the thread's flusher.
//!
//! Everything here runs on the one web worker thread of the session. A frame for many is pushed straight into the outboxes of the
//! thread and written by one flusher, without waking each session's task: measured, this is what makes a burst cheap.
//! Bounds (P7): an outbox over its hard limit, or over its soft limit without progress for the stall time, ends the
//! session with [`Close::SLOW`]; ephemeral frames are dropped above the soft limit. An idle session holds no read buffer.

use crate::protocol::close::Close;
use crate::protocol::ws::{self, Message, Parser};
use crate::telemetry::metrics;
use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket, plain or TLS.
pub trait Io: AsyncRead + AsyncWrite + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Io for T {}

/// Bytes that one read or one joined write moves at most; one such buffer per thread.
const SCRATCH_BYTES: usize = 64 * 1024;
/// How long after our Close the peer may take to end its side.
const LINGER: Duration = Duration::from_secs(2);
/// An outbox's queue that was larger than this is given back when it is empty.
const QUEUE_KEPT: usize = 8;

/// Limits of an outbox.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// Above it ephemeral frames are dropped, and no progress for `stall` ends the session.
    pub soft_bytes: usize,
    /// Above it the session ends.
    pub hard_bytes: usize,
    /// See `soft_bytes`.
    pub stall: Duration,
}

#[derive(Default)]
struct Outbox {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// When the socket took nothing any more.
    stuck: Option<Instant>,
    /// The session's task.
    waker: Option<Waker>,
    /// Somebody who waits for room, see [`Conn::roomy`].
    patient: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Open,
    /// What is queued (a Close at its end) is still written, then our side is shut down.
    Closing(Instant),
    /// Our side is shut down; the peer's bytes are thrown away until it ends its own.
    Lingering(Instant),
    Gone,
}

/// The owner of one socket.
pub struct Conn {
    io: RefCell<Option<Box<dyn Io>>>,
    out: RefCell<Outbox>,
    dirty: Cell<bool>,
    ending: Cell<Ending>,
    /// The code of the Close that was sent; 1006 when there was none.
    code: Cell<u16>,
    /// Something was written that the socket may still hold back (TLS does): it must be flushed although nothing is queued.
    unflushed: Cell<bool>,
    /// Reading pauses while the session has as many requests under way as it may.
    paused: Cell<bool>,
    limits: OutboxLimits,
}

thread_local! {
    static DIRTY: RefCell<Vec<Rc<Conn>>> = const { RefCell::new(Vec::new()) };
    static FLUSHER: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

impl Conn {
    /// Takes over a socket.
    pub fn new(io: Box<dyn Io>, limits: OutboxLimits) -> Rc<Conn> {
        Rc::new(Conn {
            io: RefCell::new(Some(io)),
            out: RefCell::default(),
            dirty: Cell::new(false),
            ending: Cell::new(Ending::Open),
            code: Cell::new(1006),
            unflushed: Cell::new(false),
            paused: Cell::new(false),
            limits,
        })
    }

    /// Whether frames are still taken.
    pub fn is_open(&self) -> bool {
        self.ending.get() == Ending::Open
    }
    /// Bytes waiting.
    pub fn queued_bytes(&self) -> usize {
        self.out.borrow().bytes
    }
    /// Whether the outbox is so full that a sender of much should wait.
    pub fn is_crowded(&self) -> bool {
        self.queued_bytes() > self.limits.soft_bytes / 2
    }
    /// Waits until the outbox is no longer crowded, or the socket is over.
    pub async fn roomy(&self) {
        std::future::poll_fn(|cx| {
            if !self.is_crowded() || !self.is_open() {
                return Poll::Ready(());
            }
            self.out.borrow_mut().patient = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
    /// The code the socket was closed with.
    pub fn close_code(&self) -> u16 {
        self.code.get()
    }

    /// Queues a frame. False: the session is over (the hard limit was reached, or it was closed before).
    pub fn push(self: &Rc<Self>, frame: Bytes) -> bool {
        if !self.is_open() {
            return false;
        }
        if self.queued_bytes() + frame.len() > self.limits.hard_bytes && !crate::sabotage::is("slow_reader_kept") {
            self.overrun();
            return false;
        }
        self.enqueue(frame);
        true
    }

    /// Queues a frame that may be dropped: it is when the outbox is over its soft limit.
    pub fn push_ephemeral(self: &Rc<Self>, frame: Bytes) {
        if self.queued_bytes() > self.limits.soft_bytes {
            metrics().ephemeral_dropped_total.inc();
            return;
        }
        self.push(frame);
    }

    fn enqueue(self: &Rc<Self>, frame: Bytes) {
        let mut out = self.out.borrow_mut();
        out.bytes += frame.len();
        out.queue.push_back(frame);
        if !self.dirty.replace(true) {
            DIRTY.with_borrow_mut(|dirty| {
                if dirty.is_empty() {
                    FLUSHER.with_borrow(|flusher| flusher.iter().for_each(Waker::wake_by_ref));
                }
                dirty.push(self.clone());
            });
        }
    }

    /// Whether the thread's flusher is about to write.
    fn is_flushed_soon(&self) -> bool {
        self.dirty.get() && FLUSHER.with_borrow(Option::is_some)
    }

    /// Sends a Close after what is queued and takes no more frames.
    pub fn finish(self: &Rc<Self>, close: Close) {
        self.finish_with(close.code, close.reason);
    }
    /// [`Conn::finish`] with a code that the peer chose.
    pub fn finish_with(self: &Rc<Self>, code: u16, reason: &str) {
        if !self.is_open() {
            return;
        }
        self.code.set(code);
        self.enqueue(ws::close_frame(code, reason));
        self.ending.set(Ending::Closing(Instant::now()));
        self.wake();
    }

    /// The client does not read. No Close could reach it either: a frame may be half written, and the socket is full.
    fn overrun(&self) {
        metrics().outbox_overruns_total.inc();
        self.code.set(Close::SLOW.code);
        self.kill();
    }

    /// Drops the socket now.
    pub fn kill(&self) {
        self.ending.set(Ending::Gone);
        if let Ok(mut io) = self.io.try_borrow_mut() {
            *io = None;
        }
        if let Ok(mut out) = self.out.try_borrow_mut() {
            let (waker, patient) = (out.waker.take(), out.patient.take());
            *out = Outbox::default();
            drop(out);
            waker.iter().chain(&patient).for_each(Waker::wake_by_ref);
        }
    }

    /// To be called now and then: ends what is stuck.
    pub fn sweep(self: &Rc<Self>, now: Instant) {
        let stuck = {
            let out = self.out.borrow();
            out.bytes > self.limits.soft_bytes && out.stuck.is_some_and(|since| now - since > self.limits.stall)
        };
        match self.ending.get() {
            Ending::Open if stuck && !crate::sabotage::is("slow_reader_kept") => self.overrun(),
            Ending::Closing(since) | Ending::Lingering(since) if now - since > LINGER => self.kill(),
            _ => {}
        }
    }

    /// Stops or goes on reading.
    pub fn pause(&self, paused: bool) {
        if self.paused.replace(paused) && !paused {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = &self.out.borrow().waker {
            waker.wake_by_ref();
        }
    }

    /// Writes until the queue is empty or the socket is full. `Ready(false)`: the socket is of no more use.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<bool> {
        self.dirty.set(false);
        let mut out = self.out.borrow_mut();
        if out.queue.is_empty() && self.is_open() && !self.unflushed.get() {
            return Poll::Ready(true);
        }
        let mut io = self.io.borrow_mut();
        let Some(io) = io.as_mut() else { return Poll::Ready(false) };
        while !out.queue.is_empty() {
            match write_some(io, &out, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(written)) => {
                    self.unflushed.set(true);
                    out.written(written);
                }
                Poll::Pending => {
                    out.stuck.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        out.stuck = None;
        if let Some(patient) = out.patient.take() {
            patient.wake();
        }
        if out.queue.capacity() > QUEUE_KEPT {
            out.queue = VecDeque::new();
        }
        if ready!(Pin::new(&mut *io).poll_flush(cx)).is_err() {
            return Poll::Ready(false);
        }
        self.unflushed.set(false);
        if matches!(self.ending.get(), Ending::Closing(_)) {
            let _ = ready!(Pin::new(&mut *io).poll_shutdown(cx));
            self.ending.set(Ending::Lingering(Instant::now()));
        }
        Poll::Ready(true)
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut BytesMut, keep: bool) -> Poll<std::io::Result<usize>> {
        let mut io = self.io.borrow_mut();
        let Some(io) = io.as_mut() else { return Poll::Ready(Ok(0)) };
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(io).poll_read(cx, &mut read))?;
            if keep {
                buf.extend_from_slice(read.filled());
            }
            Poll::Ready(Ok(read.filled().len()))
        })
    }
}

impl Outbox {
    fn written(&mut self, mut n: usize) {
        self.bytes -= n;
        self.stuck = None;
        while n > 0 {
            let Some(first) = self.queue.front_mut() else { break };
            if n >= first.len() {
                n -= first.len();
                self.queue.pop_front();
            } else {
                first.advance(n);
                n = 0;
            }
        }
    }
}

/// One write: a single frame as it is, several joined in the thread's scratch buffer (for short frames cheaper than `writev`).
fn write_some(io: &mut Box<dyn Io>, out: &Outbox, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
    if out.queue.len() == 1 {
        return Pin::new(io).poll_write(cx, &out.queue[0]);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let mut filled = 0;
        for frame in &out.queue {
            let n = frame.len().min(scratch.len() - filled);
            scratch[filled..filled + n].copy_from_slice(&frame[..n]);
            filled += n;
            if filled == scratch.len() {
                break;
            }
        }
        Pin::new(io).poll_write(cx, &scratch[..filled])
    })
}

/// The session actor's stream: what the client sends, as messages. Polled with the actor's task, it also writes what is queued.
pub struct Incoming {
    conn: Rc<Conn>,
    buf: BytesMut,
    parser: Parser,
    broken: bool,
}

impl Incoming {
    /// Reads from `conn`; `buf` is what was read with the handshake.
    pub fn new(conn: Rc<Conn>, buf: BytesMut, frame_bytes_max: usize) -> Self {
        Incoming { conn, buf, parser: Parser::new(frame_bytes_max), broken: false }
    }
}

impl Stream for Incoming {
    type Item = Result<Message, Close>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let me = &mut *self;
        {
            let mut out = me.conn.out.borrow_mut();
            if !out.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                out.waker = Some(cx.waker().clone());
            }
        }
        // What was queued just now the flusher writes, with whatever else is queued for this socket until its turn comes.
        if !me.conn.is_flushed_soon()
            && let Poll::Ready(false) = me.conn.poll_flush(cx)
        {
            me.conn.kill();
            return Poll::Ready(None);
        }
        loop {
            let open = me.conn.is_open() && !me.broken;
            if open {
                if me.conn.paused.get() {
                    return Poll::Pending;
                }
                match me.parser.next(&mut me.buf) {
                    Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                    Ok(None) => {}
                    Err(close) => {
                        me.broken = true;
                        me.buf = BytesMut::new();
                        return Poll::Ready(Some(Err(close)));
                    }
                }
            }
            if me.buf.is_empty() || !open {
                me.buf = BytesMut::new();
            }
            match me.conn.poll_read(cx, &mut me.buf, open) {
                Poll::Ready(Ok(0) | Err(_)) => {
                    me.conn.kill();
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The thread's flusher: writes for every connection that was pushed to since its last run. Spawn one per web worker thread.
pub struct Flusher;

impl Future for Flusher {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        FLUSHER.with_borrow_mut(|flusher| {
            if !flusher.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *flusher = Some(cx.waker().clone());
            }
        });
        let mut list = DIRTY.with_borrow_mut(std::mem::take);
        for conn in &list {
            // A socket that is full must wake the session's task later, not this one.
            let waker = conn.out.borrow().waker.clone();
            if let Some(waker) = waker
                && let Poll::Ready(false) = conn.poll_flush(&mut Context::from_waker(&waker))
            {
                conn.kill();
            }
        }
        list.clear();
        DIRTY.with_borrow_mut(|dirty| {
            if dirty.is_empty() {
                *dirty = list;
            } else {
                cx.waker().wake_by_ref();
            }
        });
        Poll::Pending
    }
}
