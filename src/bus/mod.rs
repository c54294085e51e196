//! How nodes tell each other things: envelopes, and the trait that carries them.
//!
//! A bus may lose, never reorder within one link: the log is the truth, and whoever misses an entry backfills it. Alone, the
//! in-process bus hands every envelope to this node itself; nothing above the trait knows the difference.

pub mod asks;

use crate::cluster::{Alone, NodeId};
use crate::protocol::codec::{self, Format};
use crate::protocol::entry::Entry;
use crate::protocol::ids::{DeviceId, RoomId, Seq, UserId};
use crate::protocol::ops::Push;
use crate::protocol::ws;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

pub mod link;
pub mod redis;
pub mod wire;

/// A push that is encoded at most once per format and node, as a finished WebSocket frame, whoever needs it first.
#[derive(Debug)]
pub struct Framed<T> {
    /// What is pushed.
    pub what: T,
    json: OnceLock<Bytes>,
    msgpack: OnceLock<Bytes>,
}

/// What can be pushed as a frame.
pub trait Encode {
    /// The frame's payload.
    fn encode(&self, format: Format) -> Vec<u8>;
}
impl Encode for Arc<Entry> {
    fn encode(&self, format: Format) -> Vec<u8> {
        codec::encode_entry(format, self)
    }
}
impl Encode for Push {
    fn encode(&self, format: Format) -> Vec<u8> {
        codec::encode_push(format, self)
    }
}

impl<T: Encode> Framed<T> {
    /// Not encoded yet.
    pub fn new(what: T) -> Self {
        Framed { what, json: OnceLock::new(), msgpack: OnceLock::new() }
    }
    /// From another node: this node's sessions get its MessagePack as it came.
    pub fn packed_elsewhere(what: T, packed: &[u8]) -> Self {
        let frame = ws::frame(ws::Op::Binary, packed);
        Framed { what, json: OnceLock::new(), msgpack: OnceLock::from(frame) }
    }
    /// The MessagePack alone, as other nodes get it.
    pub fn packed(&self) -> Bytes {
        let frame = self.frame(Format::Msgpack);
        // A server's frame has no mask: two bytes, and those of a longer length.
        let head = match frame.get(1) {
            Some(126) => 4,
            Some(127) => 10,
            _ => 2,
        };
        frame.slice(head.min(frame.len())..)
    }
    /// The finished frame.
    pub fn frame(&self, format: Format) -> Bytes {
        match format {
            Format::Json => self.json.get_or_init(|| ws::frame(ws::Op::Text, &self.what.encode(format))).clone(),
            Format::Msgpack => self.msgpack.get_or_init(|| ws::frame(ws::Op::Binary, &self.what.encode(format))).clone(),
        }
    }
}

/// An entry on its way to sessions.
pub type FramedEntry = Arc<Framed<Arc<Entry>>>;

/// Something that concerns one user's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserEvent {
    /// The user's membership in a room began with the entry `seq` (in channels: after the head `seq`).
    Joined {
        /// The room.
        room: RoomId,
        /// Where.
        seq: Seq,
    },
    /// The user's membership ended without an entry (channels), at head `seq`.
    Left {
        /// The room.
        room: RoomId,
        /// Where.
        seq: Seq,
    },
    /// The user and another are contacts now, or are no longer.
    Contact {
        /// The other.
        other: UserId,
    },
}

/// What travels between nodes.
#[derive(Clone, Debug)]
pub enum Envelope {
    /// New entries of a room, contiguous, in order.
    Entries {
        /// The room.
        room: RoomId,
        /// The entries.
        entries: Arc<[FramedEntry]>,
    },
    /// The committed head of a room: who has less has missed something (anti-entropy).
    Head {
        /// The room.
        room: RoomId,
        /// Its head.
        head: Seq,
    },
    /// An ephemeral event for everybody in a room but one user.
    Ephemeral {
        /// The room.
        room: RoomId,
        /// Not to this user.
        except: Option<UserId>,
        /// The event.
        push: Arc<Framed<Push>>,
    },
    /// Something for one user's sessions.
    User {
        /// Whose.
        user: UserId,
        /// What.
        event: UserEvent,
    },
    /// A contact's presence, for the users who watch it.
    Presence {
        /// The watchers on that node.
        watchers: Arc<[UserId]>,
        /// The presence.
        push: Arc<Framed<Push>>,
    },
    /// The presence actor of this user was rebuilt: announce its sessions and watchers again.
    PresenceLost {
        /// Whose.
        user: UserId,
    },
    /// Tokens of this user (or of one device) are no longer accepted: close its sockets.
    Revoked {
        /// Whose.
        user: UserId,
        /// Which device; all when none.
        device: Option<DeviceId>,
    },
    /// A question to the owner of a room or a presence; it is answered with the same number, or not at all.
    Ask {
        /// Its number at who asks.
        id: u64,
        /// So many milliseconds who asks will wait for the answer.
        wait_ms: u32,
        /// What is asked: an encoding of its own, so that a bus need not know it.
        body: Bytes,
    },
    /// The answer to [`Envelope::Ask`].
    Answer {
        /// The question's number.
        id: u64,
        /// What is answered.
        body: Bytes,
    },
    /// A word to a node's actors that wants no answer.
    Tell {
        /// What is told.
        body: Bytes,
    },
}

/// Carries envelopes to nodes.
pub trait Bus: Send + Sync + 'static {
    /// To one node. Never blocks; in order per destination; may lose.
    fn send(&self, to: NodeId, envelope: Envelope);
    /// To every node, this one included.
    fn broadcast(&self, envelope: Envelope);
}

/// What a node gets from its bus.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// An envelope, and who sent it.
    Envelope(NodeId, Envelope),
    /// Envelopes of this node may have been lost, or it is another process now: whoever depends on them looks into the log, and asks again.
    Missed(NodeId),
}

/// What takes them in. Called on a thread of the bus: passes on and returns.
pub type Inbox = Arc<dyn Fn(Arrival) + Send + Sync>;

/// The bus of a cluster of one. With `lose_every` it loses that often: to prove that nothing depends on it.
#[derive(Default)]
pub struct InProcess {
    inbox: OnceLock<Inbox>,
    lose_every: u64,
    sent: AtomicU64,
}

impl InProcess {
    /// A bus that loses every n-th envelope that carries entries; 0: none.
    pub fn new(lose_every: u64) -> Self {
        InProcess { lose_every, ..InProcess::default() }
    }
    /// Where envelopes go from now on. The first call counts.
    pub fn connect(&self, inbox: Inbox) {
        let _ = self.inbox.set(inbox);
    }
}

impl Bus for InProcess {
    fn send(&self, _: NodeId, envelope: Envelope) {
        if self.lose_every > 0 && matches!(envelope, Envelope::Entries { .. }) {
            let n = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
            if n.is_multiple_of(self.lose_every) {
                return;
            }
        }
        if let Some(inbox) = self.inbox.get() {
            inbox(Arrival::Envelope(Alone::ME, envelope));
        }
    }
    fn broadcast(&self, envelope: Envelope) {
        if let Some(inbox) = self.inbox.get() {
            inbox(Arrival::Envelope(Alone::ME, envelope));
        }
    }
}
