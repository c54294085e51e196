//! What is counted and timed, and what /proc says about a process.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Clock ticks per second in /proc/PID/stat: fixed at 100 by Linux's interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;
/// Latencies above this are recorded as this.
const LATENCY_MAX_NS: u64 = 120_000_000_000;

/// Which of a room's messages one session has received: everything below `low`, and `ahead`.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    low: u32,
    ahead: Vec<u32>,
}

impl Seen {
    /// Notes a message; false: it was received before.
    pub fn note(&mut self, n: u32) -> bool {
        if n < self.low || self.ahead.contains(&n) {
            return false;
        }
        if n > self.low {
            self.ahead.push(n);
            return true;
        }
        self.low += 1;
        while let Some(at) = self.ahead.iter().position(|a| *a == self.low) {
            self.ahead.swap_remove(at);
            self.low += 1;
        }
        true
    }
    /// How many different messages were received.
    pub fn count(&self) -> u64 {
        u64::from(self.low) + self.ahead.len() as u64
    }
}

/// The messages of one room.
#[derive(Clone, Debug, Default)]
pub struct RoomTally {
    /// When each message was due (open loop) or sent (closed loop), by number; nanoseconds.
    pub due: Vec<u64>,
    /// Answers received.
    pub acked: u64,
    /// Deliveries to all sessions together, doubles not counted.
    pub delivered: u64,
    /// The highest seq of an answer.
    pub head: u64,
}

/// Everything that is counted.
pub struct Record {
    /// By room.
    pub rooms: Vec<RoomTally>,
    /// The measurement: from, to; nanoseconds.
    pub window: (u64, u64),
    /// Answers within it.
    pub acked: u64,
    /// Deliveries within it.
    pub delivered: u64,
    /// Messages that a session received twice, in all.
    pub doubled: u64,
    /// Requests that failed and sockets that ended, in all.
    pub errors: u64,
    /// The first of them.
    pub first_errors: Vec<String>,
    ack: Histogram<u64>,
    deliver: Histogram<u64>,
    /// Those of `deliver` to sessions at another node than the sender's.
    across: Histogram<u64>,
}

impl Record {
    /// An empty one.
    pub fn new(rooms: usize) -> Record {
        let histogram = || Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3).expect("the bounds are constants that it takes");
        Record {
            rooms: vec![RoomTally::default(); rooms],
            window: (u64::MAX, u64::MAX),
            acked: 0,
            delivered: 0,
            doubled: 0,
            errors: 0,
            first_errors: Vec::new(),
            ack: histogram(),
            deliver: histogram(),
            across: histogram(),
        }
    }

    fn measures(&self, at: u64) -> bool {
        at >= self.window.0 && at < self.window.1
    }

    /// A session of the room received message `n`; `across`: the sender's session is at another node.
    pub fn delivery(&mut self, room: usize, n: u32, seen: &mut Seen, now: u64, across: bool) {
        let Some(due) = self.rooms[room].due.get(n as usize).copied() else {
            self.error(format!("message {n} of room {room} was received but never sent"));
            return;
        };
        if !seen.note(n) {
            self.doubled += 1;
            return;
        }
        self.rooms[room].delivered += 1;
        self.delivered += u64::from(self.measures(now));
        if self.measures(due) {
            self.deliver.saturating_record(now.saturating_sub(due));
            if across {
                self.across.saturating_record(now.saturating_sub(due));
            }
        }
    }

    /// Message `n` was acknowledged.
    pub fn ack(&mut self, room: usize, n: u32, seq: u64, now: u64) {
        let tally = &mut self.rooms[room];
        let Some(due) = tally.due.get(n as usize).copied() else {
            self.error(format!("message {n} of room {room} was acknowledged but never sent"));
            return;
        };
        tally.acked += 1;
        tally.head = tally.head.max(seq);
        self.acked += u64::from(self.measures(now));
        if self.measures(due) {
            self.ack.saturating_record(now.saturating_sub(due));
        }
    }

    /// Something failed.
    pub fn error(&mut self, why: String) {
        self.errors += 1;
        if self.first_errors.len() < 5 {
            self.first_errors.push(why);
        }
    }

    /// The latencies.
    pub fn latencies(&self) -> Value {
        json!({"ack_ms": millis(&self.ack), "deliver_ms": millis(&self.deliver), "deliver_across_ms": millis(&self.across)})
    }
}

fn millis(h: &Histogram<u64>) -> Value {
    if h.is_empty() {
        return Value::Null;
    }
    let ms = |ns: u64| round(ns as f64 / 1e6, 3);
    let at = |q: f64| ms(h.value_at_quantile(q));
    json!({"count": h.len(), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99_9": at(0.999), "max": ms(h.max())})
}

/// Rounds for printing.
pub fn round(x: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (x * scale).round() / scale
}

/// User and system CPU seconds of a process, all its threads.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name and may hold anything; it ends with the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

/// Resident memory of a process in KiB.
pub fn rss_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_new_once_in_any_order() {
        let mut seen = Seen::default();
        for (n, new) in [(2, true), (0, true), (2, false), (1, true), (0, false), (2, false), (5, true), (3, true), (5, false)] {
            assert_eq!(seen.note(n), new, "{n}");
        }
        assert_eq!((seen.count(), seen.low, seen.ahead.as_slice()), (5, 4, [5].as_slice()));
    }

    #[test]
    fn latency_counts_from_the_due_instant_and_only_inside_the_window() {
        let mut r = Record::new(1);
        r.window = (1_000_000, 9_000_000);
        r.rooms[0].due = vec![500_000, 2_000_000, 3_000_000];
        let mut seen = Seen::default();
        r.delivery(0, 0, &mut seen, 5_000_000, true); // due before the window: counts as a delivery, not as a latency
        r.delivery(0, 1, &mut seen, 5_000_000, false);
        r.delivery(0, 1, &mut seen, 5_500_000, false);
        r.delivery(0, 2, &mut seen, 9_500_000, true); // arrives behind the window: a latency, not a delivery
        r.ack(0, 1, 17, 3_000_000);
        r.delivery(0, 7, &mut seen, 5_000_000, false);
        assert_eq!((r.delivered, r.doubled, r.errors, r.rooms[0].delivered, r.rooms[0].head), (2, 1, 1, 3, 17));
        let l = r.latencies();
        assert_eq!((l["deliver_ms"]["count"].as_u64(), l["ack_ms"]["count"].as_u64()), (Some(2), Some(1)));
        assert!((l["deliver_ms"]["max"].as_f64().unwrap() - 6.5).abs() < 0.01, "{l}");
        assert_eq!(l["deliver_across_ms"]["count"].as_u64(), Some(1));
    }

    #[test]
    fn proc_knows_this_process() {
        let me = std::process::id();
        assert!(rss_kib(me).unwrap() > 100 && cpu_seconds(me).unwrap() >= 0.0);
        assert_eq!(rss_kib(u32::MAX), None);
    }
}
