//! One thread, one poll, every socket: opens sessions, sends by window or by clock, receives.
//!
//! The loop never sleeps longer than to the next message that is due. Readiness is edge-triggered: a socket is read until it
//! has nothing more, and written until it takes nothing more. A socket that ends is an error in the result, never reopened.

use super::record::{self, Record, Seen, round};
use super::setup::Stage;
use super::wire::{self, Dialect, Heard, Seat};
use super::{BenchError, Load, Plan, node_of};
use memchr::memmem::Finder;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Opening all sessions may take this long without any progress.
const OPENING_STALL: Duration = Duration::from_secs(20);
/// Presence and other news of the sign-ins get this long to calm down before anything is measured.
const SETTLE: Duration = Duration::from_millis(500);
/// The same before memory is read: allocators and timers are slower.
const SETTLE_IDLE: Duration = Duration::from_secs(3);
/// Poll's clock has milliseconds: shorter waits are spent polling without a wait.
const POLL_GRAIN: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Upgrading,
    Open,
    Joined,
    Ended,
}

struct Conn {
    socket: TcpStream,
    seat: Seat,
    state: State,
    /// The beginning of a frame whose end has not come.
    input: Vec<u8>,
    /// The beginning of a message in fragments.
    fragments: Vec<u8>,
    /// What the kernel did not take yet.
    out: Vec<u8>,
    seen: Seen,
}

/// The load generator's loop.
pub struct Driver<'p> {
    plan: &'p Plan,
    addresses: Vec<SocketAddr>,
    dialect: Dialect,
    pids: Vec<u32>,
    seats: std::vec::IntoIter<Seat>,
    poll: Poll,
    events: Events,
    conns: Vec<Conn>,
    record: Record,
    /// Rooms in which something arrived: their windows may have room.
    touched: Vec<usize>,
    joined: usize,
    ended: usize,
    buffer: Vec<u8>,
    finder: Finder<'static>,
    began: Instant,
}

struct Mark {
    at: Instant,
    server_cpu: Option<f64>,
    own_cpu: Option<f64>,
    watched: Vec<Option<f64>>,
}

impl<'p> Driver<'p> {
    /// Ready to run on a stage.
    pub fn new(plan: &'p Plan, stage: Stage) -> Result<Driver<'p>, BenchError> {
        let rooms = stage.seats.iter().map(|s| s.index + 1).max().unwrap_or(0);
        Ok(Driver {
            plan,
            addresses: stage.addresses,
            dialect: stage.dialect,
            pids: stage.pids,
            seats: stage.seats.into_iter(),
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            conns: Vec::new(),
            record: Record::new(rooms),
            touched: Vec::new(),
            joined: 0,
            ended: 0,
            buffer: vec![0; 256 * 1024],
            finder: Finder::new(wire::MARK),
            began: Instant::now(),
        })
    }

    /// Runs the plan.
    pub fn run(mut self) -> Result<Value, BenchError> {
        match self.plan.load {
            Load::Idle { from, to } => self.idle(from, to),
            Load::Closed { window } => {
                self.open_sessions(usize::MAX)?;
                self.pump(SETTLE)?;
                let marks = self.measured(|driver, until| driver.closed(window, until))?;
                self.result(marks)
            }
            Load::Open { rate } => {
                self.open_sessions(usize::MAX)?;
                self.pump(SETTLE)?;
                let marks = self.measured(|driver, until| driver.open(rate, until))?;
                self.result(marks)
            }
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn mark(&self) -> Mark {
        let own_cpu = record::cpu_seconds(std::process::id());
        let watched = self.plan.watched.iter().map(|pid| record::cpu_seconds(*pid)).collect();
        Mark { at: Instant::now(), server_cpu: self.of_server(record::cpu_seconds), own_cpu, watched }
    }

    /// The sum over the server's processes, when there are any here and all can be asked.
    fn of_server<T: std::iter::Sum>(&self, ask: impl Fn(u32) -> Option<T>) -> Option<T> {
        let sum = self.pids.iter().map(|pid| ask(*pid)).sum();
        if self.pids.is_empty() { None } else { sum }
    }

    /// Warms up, measures, and waits for what is still under way.
    fn measured(&mut self, load: impl Fn(&mut Self, u64) -> io::Result<()>) -> Result<(Mark, Mark), BenchError> {
        let from = self.now() + self.plan.warmup.as_nanos() as u64;
        let to = from + self.plan.measure.as_nanos() as u64;
        self.record.window = (from, to);
        load(self, from)?;
        let begin = self.mark();
        load(self, to)?;
        let end = self.mark();
        let deadline = Instant::now() + self.plan.drain;
        while self.unfinished() > 0 && Instant::now() < deadline {
            self.step(Some(POLL_GRAIN * 10))?;
        }
        Ok((begin, end))
    }

    fn unfinished(&self) -> u64 {
        let fan = self.plan.members as u64;
        self.record
            .rooms
            .iter()
            .map(|r| (r.due.len() as u64 * fan).saturating_sub(r.delivered) + (r.due.len() as u64).saturating_sub(r.acked))
            .sum()
    }

    /// Closed loop until `until`: every room has `window` messages that are not both acknowledged and received by all.
    fn closed(&mut self, window: u32, until: u64) -> io::Result<()> {
        self.touched.extend(0..self.record.rooms.len());
        while self.now() < until && self.ended == 0 {
            let mut touched = std::mem::take(&mut self.touched);
            touched.sort_unstable();
            touched.dedup();
            let mut senders = Vec::new();
            for room in touched.drain(..) {
                while self.in_flight(room) < u64::from(window) {
                    let now = self.now();
                    senders.push(self.queue(room, now));
                }
                // What somebody sends in one moment goes in one write.
                senders.sort_unstable();
                senders.dedup();
                senders.drain(..).for_each(|sender| self.flush(sender));
            }
            if self.touched.is_empty() {
                self.touched = touched; // its memory, not its content
            }
            let left = Duration::from_nanos(until.saturating_sub(self.now()));
            self.step(Some(left.min(POLL_GRAIN * 100)))?;
        }
        Ok(())
    }

    fn in_flight(&self, room: usize) -> u64 {
        let tally = &self.record.rooms[room];
        let finished = tally.acked.min(tally.delivered / self.plan.members as u64);
        (tally.due.len() as u64).saturating_sub(finished)
    }

    /// Open loop until `until`: messages are due at fixed intervals over all rooms in turn.
    fn open(&mut self, rate: f64, until: u64) -> io::Result<()> {
        let interval = 1e9 / rate;
        let start = self.now();
        let rooms = self.record.rooms.len();
        let mut count = 0u64;
        loop {
            let due = start + (count as f64 * interval) as u64;
            if due >= until || self.ended > 0 {
                break;
            }
            let now = self.now();
            if due <= now {
                self.send(count as usize % rooms, due);
                count += 1;
                continue;
            }
            let wait = Duration::from_nanos(due - now);
            self.step(Some(wait.saturating_sub(POLL_GRAIN).min(POLL_GRAIN * 100)))?;
        }
        while self.now() < until && self.ended == 0 {
            self.step(Some(POLL_GRAIN))?;
        }
        Ok(())
    }

    fn send(&mut self, room: usize, due: u64) {
        let sender = self.queue(room, due);
        self.flush(sender);
    }

    /// Queues the room's next message; gives its sender.
    fn queue(&mut self, room: usize, due: u64) -> usize {
        let rooms = self.record.rooms.len();
        let tally = &mut self.record.rooms[room];
        let n = tally.due.len() as u32;
        tally.due.push(due);
        let sender = self.plan.sender_of(n as usize) * rooms + room;
        let conn = &mut self.conns[sender];
        self.dialect.send(&conn.seat, n, tally.head, self.plan.size, &mut conn.out);
        sender
    }

    fn idle(&mut self, from: usize, to: usize) -> Result<Value, BenchError> {
        let memory = |driver: &mut Self| {
            driver.pump(SETTLE_IDLE)?;
            Ok::<_, BenchError>(driver.of_server(record::rss_kib))
        };
        let before = memory(self)?;
        self.open_sessions(from)?;
        let small = memory(self)?;
        self.open_sessions(to)?;
        let large = memory(self)?;
        let begin = self.mark();
        self.pump(self.plan.measure)?;
        let end = self.mark();
        let slope = small.zip(large).map(|(s, l)| round((l as f64 - s as f64) / (to - from).max(1) as f64, 3));
        let cpu = end.server_cpu.zip(begin.server_cpu).map(|(e, b)| round((e - b) / end.at.duration_since(begin.at).as_secs_f64(), 4));
        Ok(json!({
            "mode": "idle", "sessions_from": from, "sessions_to": to, "kib_per_session": slope,
            "rss_kib": {"none": before, "from": small, "to": large}, "server_cpu_s_per_s": cpu,
            "ended": self.ended, "errors": self.record.errors, "first_errors": self.record.first_errors,
        }))
    }

    fn result(&self, (begin, end): (Mark, Mark)) -> Result<Value, BenchError> {
        let seconds = end.at.duration_since(begin.at).as_secs_f64();
        let per_second = |n: u64| round(n as f64 / seconds, 1);
        let per_million =
            |n: Option<f64>| n.filter(|_| self.record.delivered > 0).map(|s| round(s * 1e6 / self.record.delivered as f64, 3));
        let spent = |e: Option<f64>, b: Option<f64>| e.zip(b).map(|(e, b)| e - b);
        let sent: u64 = self.record.rooms.iter().map(|r| r.due.len() as u64).sum();
        let acked: u64 = self.record.rooms.iter().map(|r| r.acked).sum();
        let received: u64 = self.conns.iter().map(|c| c.seen.count()).sum();
        let (mode, pace) = match self.plan.load {
            Load::Closed { window } => ("closed", json!(window)),
            Load::Open { rate } => ("open", json!(rate)),
            Load::Idle { .. } => ("idle", Value::Null),
        };
        let mut result = json!({
            "mode": mode, if mode == "open" { "rate" } else { "window" }: pace,
            "rooms": self.plan.rooms, "members": self.plan.members, "senders": self.plan.senders, "size": self.plan.size,
            "seconds": round(seconds, 3), "acked_per_s": per_second(self.record.acked), "deliveries_per_s": per_second(self.record.delivered),
            "server_cpu_s_per_million_deliveries": per_million(spent(end.server_cpu, begin.server_cpu)),
            "client_cpu_s_per_million_deliveries": per_million(spent(end.own_cpu, begin.own_cpu)),
            "sent": sent, "unanswered": sent.saturating_sub(acked), "lost": (sent * self.plan.members as u64).saturating_sub(received),
            "doubled": self.record.doubled, "ended": self.ended, "errors": self.record.errors, "first_errors": self.record.first_errors,
            "rss_kib": self.of_server(record::rss_kib), "nodes": self.addresses.len(),
            "watched_cpu_s_per_s": begin.watched.iter().zip(&end.watched).map(|(b, e)| spent(*e, *b).map(|s| round(s / seconds, 3))).collect::<Vec<_>>(),
        });
        if let (Some(result), Value::Object(latencies)) = (result.as_object_mut(), self.record.latencies()) {
            result.extend(latencies);
        }
        Ok(result)
    }

    /// Opens sessions until `wanted` (or all) are joined, a bounded number at a time.
    fn open_sessions(&mut self, wanted: usize) -> Result<(), BenchError> {
        let wanted = wanted.min(self.conns.len() + self.seats.len());
        let mut progress = (self.joined, Instant::now());
        while self.joined < wanted {
            while self.conns.len() < wanted && self.conns.len() - self.joined < self.plan.opening_max {
                let Some(seat) = self.seats.next() else { break };
                self.connect(seat)?;
            }
            self.step(Some(POLL_GRAIN * 50))?;
            if self.joined != progress.0 {
                progress = (self.joined, Instant::now());
            }
            if self.ended > 0 || progress.1.elapsed() > OPENING_STALL {
                let why = self.record.first_errors.join("; ");
                let why = if why.is_empty() { format!("nothing happened for {OPENING_STALL:?}") } else { why };
                return Err(BenchError::NotOpened { joined: self.joined, wanted, why });
            }
        }
        Ok(())
    }

    fn connect(&mut self, seat: Seat) -> io::Result<()> {
        let address = self.addresses[seat.node];
        let mut socket = TcpStream::connect(address)?;
        let id = self.conns.len();
        self.poll.registry().register(&mut socket, Token(id), Interest::READABLE | Interest::WRITABLE)?;
        let out = self.dialect.upgrade(&address.to_string()).into_bytes();
        self.conns.push(Conn {
            socket,
            seat,
            state: State::Upgrading,
            input: Vec::new(),
            fragments: Vec::new(),
            out,
            seen: Seen::default(),
        });
        Ok(())
    }

    fn pump(&mut self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.step(Some(left.max(POLL_GRAIN)))?;
        }
        Ok(())
    }

    fn step(&mut self, wait: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, wait) {
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(()),
            done => done?,
        }
        let ready: Vec<(usize, bool, bool)> =
            self.events.iter().map(|e| (e.token().0, e.is_readable() || e.is_read_closed() || e.is_error(), e.is_writable())).collect();
        for (id, readable, writable) in ready {
            if writable {
                // Nagle's wait would be measured as the server's; it can be switched off only once connected.
                if self.conns[id].state == State::Upgrading {
                    let _ = self.conns[id].socket.set_nodelay(true);
                }
                self.flush(id);
            }
            if readable {
                self.receive(id);
            }
        }
        Ok(())
    }

    fn receive(&mut self, id: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while self.conns[id].state != State::Ended {
            match self.conns[id].socket.read(&mut buffer) {
                Ok(0) => self.end(id, "the server closed the connection"),
                Ok(n) => self.take_in(id, &buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => self.end(id, &e.to_string()),
            }
        }
        self.buffer = buffer;
        self.flush(id);
    }

    fn take_in(&mut self, id: usize, bytes: &[u8]) {
        let mut input = std::mem::take(&mut self.conns[id].input);
        if input.is_empty() {
            let used = self.consume(id, bytes);
            input.extend_from_slice(&bytes[used..]);
        } else {
            input.extend_from_slice(bytes);
            let used = self.consume(id, &input);
            input.drain(..used);
        }
        if input.is_empty() && input.capacity() > 4096 {
            input = Vec::new(); // ten thousand idle connections keep no buffers
        }
        self.conns[id].input = input;
    }

    /// Handles every whole frame of `data`; how many bytes that were.
    fn consume(&mut self, id: usize, data: &[u8]) -> usize {
        let now = self.now();
        let mut used = 0;
        if self.conns[id].state == State::Upgrading {
            let Some(end) = memchr::memmem::find(data, b"\r\n\r\n") else { return 0 };
            if !data.starts_with(b"HTTP/1.1 101") {
                let line = String::from_utf8_lossy(data.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
                self.end(id, &line);
                return data.len();
            }
            used = end + 4;
            let conn = &mut self.conns[id];
            conn.state = State::Open;
            self.dialect.opened(&conn.seat, &mut conn.out);
        }
        while self.conns[id].state != State::Ended {
            let Some(frame) = wire::parse(&data[used..]) else { break };
            used += frame.len;
            self.on_frame(id, &frame, now);
        }
        used
    }

    fn on_frame(&mut self, id: usize, frame: &wire::Frame<'_>, now: u64) {
        match frame.opcode {
            wire::PING => wire::frame(&mut self.conns[id].out, wire::PONG, frame.payload),
            wire::PONG => {}
            wire::CLOSE => {
                let code = frame.payload.get(..2).map_or(1005, |c| u16::from_be_bytes([c[0], c[1]]));
                let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into_owned();
                self.end(id, &format!("closed: {code} {reason}"));
            }
            _ if frame.fin && self.conns[id].fragments.is_empty() => self.on_message(id, frame.payload, now),
            _ => {
                self.conns[id].fragments.extend_from_slice(frame.payload);
                if frame.fin {
                    let whole = std::mem::take(&mut self.conns[id].fragments);
                    self.on_message(id, &whole, now);
                }
            }
        }
    }

    fn on_message(&mut self, id: usize, payload: &[u8], now: u64) {
        let nodes = self.addresses.len();
        let conn = &mut self.conns[id];
        let room = conn.seat.index;
        let mut deliveries = false;
        for n in wire::numbers(payload, &self.finder) {
            deliveries = true;
            let across = conn.seat.node != node_of(self.plan.sender_of(n as usize), nodes);
            self.record.delivery(room, n, &mut conn.seen, now, across);
        }
        if deliveries {
            self.touched.push(room);
            return;
        }
        match self.dialect.heard(payload, &mut conn.out) {
            Heard::Nothing => {}
            Heard::Joined => {
                if conn.state == State::Open {
                    conn.state = State::Joined;
                    self.joined += 1;
                }
            }
            Heard::Ack { n, seq } => {
                self.record.ack(room, n, seq, now);
                self.touched.push(room);
            }
            Heard::Failed(why) => self.record.error(why),
        }
    }

    fn end(&mut self, id: usize, why: &str) {
        let conn = &mut self.conns[id];
        if conn.state != State::Ended {
            conn.state = State::Ended;
            self.ended += 1;
            self.record.error(format!("session {id}: {why}"));
            // The socket is dropped with the driver; nothing more of it is wanted.
            let _ = self.poll.registry().deregister(&mut conn.socket);
        }
    }

    fn flush(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        let mut written = 0;
        let mut failed = None;
        while written < conn.out.len() && conn.state != State::Ended {
            match conn.socket.write(&conn.out[written..]) {
                Ok(n) => written += n,
                // Not connected yet is WouldBlock's brother: the next readiness tells.
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
        }
        conn.out.drain(..written);
        if let Some(e) = failed {
            self.end(id, &e.to_string());
        }
    }
}
