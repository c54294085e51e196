//! What a webhook sends: one event as JSON.

use super::Job;
use crate::protocol::entry::{Change, Entry, KINDS, Role};
use crate::protocol::ids::{Millis, RoomId, Seq, UserId};
use crate::protocol::ops::{PresencePush, PresenceState};
use crate::storage::records::RECORD_BYTES_MAX;
use bytes::Bytes;
use serde::Serialize;

/// The type of presence events.
pub const PRESENCE: &str = "presence";

/// The type of events about memberships.
pub const MEMBER: &str = "member";

/// All types of events: the kinds of entries, and presence.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().copied().chain([PRESENCE])
}

/// Bytes of an entry's event at most. A longer one is told without the entry: what cannot be stored would be tried for ever, and
/// everything of its room behind it would wait. What is left of a record is for why it died.
pub const BYTES_MAX: usize = RECORD_BYTES_MAX - 8 * 1024;

/// The id of an entry's event: the same for every webhook, attempt and replay. It is the entry's own, because after a restore from a backup
/// the same room and seq may be another entry's.
fn id(entry: &Entry) -> String {
    entry.id.to_string()
}

/// An event that is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// What is sent.
    pub body: Bytes,
}

#[derive(Serialize)]
struct Of<'a, T> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    at: Millis,
    #[serde(flatten)]
    what: T,
}

fn body<T: Serialize>(id: &str, kind: &'static str, at: Millis, what: T) -> Vec<u8> {
    serde_json::to_vec(&Of { id, kind, at, what }).expect("an event of plain types is JSON")
}

/// The job of an entry.
pub fn job(entry: &Entry, now: Millis) -> Job {
    #[derive(Serialize)]
    struct What<'a> {
        room: RoomId,
        seq: Seq,
        #[serde(skip_serializing_if = "Option::is_none")]
        entry: Option<&'a Entry>,
        /// The entry is too long to be told, and has to be read.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        reduced: bool,
    }
    let (kind, id, room, seq) = (entry.body.kind(), id(entry), entry.room, entry.seq);
    let mut told = body(&id, kind, entry.at, What { room, seq, entry: Some(entry), reduced: false });
    if told.len() > BYTES_MAX {
        told = body(&id, kind, entry.at, What { room, seq, entry: None, reduced: true });
    }
    Job { room, seq, event: id, kind: kind.into(), at: entry.at, made: now, version: 1, body: told }
}

/// A user's presence is another.
pub fn presence(now: &PresencePush, at: Millis) -> Event {
    #[derive(Serialize)]
    struct What<'a> {
        user: UserId,
        state: PresenceState,
        last_seen: Millis,
        status: &'a str,
    }
    let PresencePush { user, state, last_seen, ref status } = *now;
    let id = format!("presence-{user}-{at}");
    Event { body: body(&id, PRESENCE, at, What { user, state, last_seen, status }).into(), id }
}

/// Somebody came into a channel (with a role) or left it, at the committed head `seq`.
pub fn subscription(room: RoomId, user: UserId, role: Option<Role>, seq: Seq, at: Millis) -> Event {
    #[derive(Serialize)]
    struct Member {
        user: UserId,
        change: Change,
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
    }
    #[derive(Serialize)]
    struct What {
        room: RoomId,
        seq: Seq,
        member: Member,
    }
    let change = if role.is_some() { Change::Join } else { Change::Leave };
    let id = format!("member-{room}-{user}-{at}");
    let what = What { room, seq, member: Member { user, change, role } };
    Event { body: body(&id, MEMBER, at, what).into(), id }
}
