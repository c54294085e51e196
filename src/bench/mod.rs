//! The load generator: one thread that owns every client socket, so that what is measured is the server.
//!
//! [`setup`] makes users and rooms through the server's own interfaces; [`driver`] opens the sockets, sends, and receives;
//! [`record`] counts and times; [`wire`] is the frames, kept so cheap that ten thousand sockets fit on one core.
//! Two kinds of load: **closed** keeps a window of messages in flight per room and finds the highest throughput; **open**
//! sends by a clock, and counts latency from the instant a message was due, so that a server that stalls cannot hide it
//! (coordinated omission). **Idle** opens sessions and measures what each costs in memory.
//! The sessions may be spread over several nodes of a cluster: member `m` of every room sits at node `m` modulo their number.

pub mod driver;
pub mod record;
pub mod setup;
pub mod wire;

use crate::client::ClientError;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// So many messages in flight per room.
    Closed {
        /// How many.
        window: u32,
    },
    /// So many messages per second over all rooms, whatever the server does.
    Open {
        /// How many.
        rate: f64,
    },
    /// None: sessions only, measured at two numbers of them.
    Idle {
        /// The smaller number.
        from: usize,
        /// The larger number.
        to: usize,
    },
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rooms.
    pub rooms: usize,
    /// Sessions in each room.
    pub members: usize,
    /// Members of a room that send, in turns.
    pub senders: usize,
    /// Distinct users in each room; sessions are spread over them.
    pub users_per_room: usize,
    /// How messages are sent.
    pub load: Load,
    /// Bytes of a message's text.
    pub size: usize,
    /// Load before the measurement begins.
    pub warmup: Duration,
    /// The measurement.
    pub measure: Duration,
    /// Waiting for what is still under way after it.
    pub drain: Duration,
    /// Sockets being opened at one time.
    pub opening_max: usize,
    /// Other processes of this machine (a database, a bus) whose processor time is told beside.
    pub watched: Vec<u32>,
}

impl Plan {
    /// The member of its room that sends message `n`: the senders have turns.
    pub fn sender_of(&self, n: usize) -> usize {
        n % self.senders
    }
}

/// At which of `nodes` a member of a room sits.
pub fn node_of(member: usize, nodes: usize) -> usize {
    member % nodes.max(1)
}

/// On what to do it.
#[derive(Clone, Debug)]
pub enum Target {
    /// Nodes of one server on this machine, known by their data directories. Users and rooms are made at the first; sessions sit at
    /// all of them by turns.
    Nodes(Vec<PathBuf>),
    /// A server anywhere.
    Server {
        /// Its clients' address (`http://host:port`).
        url: String,
        /// Its operators' address.
        admin_url: String,
        /// The operators' token.
        admin_token: String,
        /// Its process, if it is of this machine.
        pid: Option<u32>,
    },
    /// The bare broadcast server of benches/ceilings.
    Bare {
        /// Where it listens.
        address: SocketAddr,
        /// Its process.
        pid: Option<u32>,
    },
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The target cannot be found or understood.
    #[error("{0}")]
    Target(String),
    /// Users or rooms could not be made.
    #[error("setting up: {0}")]
    Setup(#[from] ClientError),
    /// The driver's own sockets.
    #[error("driving: {0}")]
    Io(#[from] std::io::Error),
    /// Not all sessions could be opened.
    #[error("only {joined} of {wanted} sessions could be opened: {why}")]
    NotOpened {
        /// How many are open.
        joined: usize,
        /// How many were wanted.
        wanted: usize,
        /// The first errors.
        why: String,
    },
}

/// Sets up, drives, and gives the result as one JSON object.
pub fn run(plan: &Plan, target: &Target) -> Result<Value, BenchError> {
    let stage = setup::stage(plan, target)?;
    driver::Driver::new(plan, stage)?.run()
}

// The bare server is a program of its own for measuring; here it is what the driver is tested against.
#[cfg(test)]
#[path = "../../benches/ceilings/broadcast.rs"]
mod broadcast;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn bare_server() -> Target {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        std::thread::spawn(move || broadcast::run(&address.to_string()).map_err(|e| e.to_string()));
        while TcpStream::connect(address).is_err() {
            std::thread::yield_now();
        }
        Target::Bare { address, pid: Some(std::process::id()) }
    }
    fn plan(load: Load) -> Plan {
        let short = Duration::from_millis(200);
        Plan {
            rooms: 2,
            members: 3,
            senders: 2,
            users_per_room: 3,
            load,
            size: 64,
            warmup: short,
            measure: short,
            drain: short * 50,
            opening_max: 2,
            watched: Vec::new(),
        }
    }

    #[test]
    fn a_closed_loop_delivers_everything_once_to_everybody() {
        let result = run(&plan(Load::Closed { window: 3 }), &bare_server()).unwrap();
        let number = |key: &str| result[key].as_f64().unwrap();
        assert!(number("acked_per_s") > 0.0 && number("deliveries_per_s") > number("acked_per_s"), "{result}");
        for key in ["lost", "doubled", "unanswered", "ended", "errors"] {
            assert_eq!(number(key), 0.0, "{key}: {result}");
        }
        assert!(result["ack_ms"]["p50"].as_f64().unwrap() > 0.0 && result["deliver_ms"]["count"].as_u64().unwrap() > 0, "{result}");
    }

    #[test]
    fn members_sit_at_all_nodes_by_turns_and_senders_send_by_turns() {
        let plan = plan(Load::Open { rate: 1.0 });
        assert_eq!((0..5).map(|n| plan.sender_of(n)).collect::<Vec<_>>(), [0, 1, 0, 1, 0]);
        assert_eq!((0..5).map(|member| node_of(member, 3)).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
        assert_eq!(node_of(7, 1), 0);
    }

    #[test]
    fn an_open_loop_sends_by_the_clock() {
        let result = run(&plan(Load::Open { rate: 200.0 }), &bare_server()).unwrap();
        let sent = result["sent"].as_u64().unwrap();
        assert!((70..=90).contains(&sent), "0.4 s at 200/s: {result}");
        assert_eq!((result["lost"].as_u64(), result["unanswered"].as_u64()), (Some(0), Some(0)), "{result}");
    }

    #[test]
    fn a_server_that_is_not_there_is_an_error_and_not_a_result() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let result = run(&plan(Load::Closed { window: 1 }), &Target::Bare { address, pid: None });
        assert!(matches!(result, Err(BenchError::NotOpened { joined: 0, wanted: 6, .. })), "{result:?}");
    }
}
