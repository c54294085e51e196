//! What the server sends: replies, pushes, and the shapes they are made of.

use super::super::entry::{Entry, Role, RoomKind};
use super::super::ids::{DeviceId, MessageId, Millis, RoomId, Seq, UserId};
use super::{FieldReader, PresenceState};
use crate::error::{ApiError, Code};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A reply or a push of the server. `op` is the variant's name in lower case. Decoding is by `op` and not derived: serde
/// would buffer the fields first, and ids do not survive that in MessagePack.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Push {
    /// The request with this `ref` succeeded.
    Ok(Ok),
    /// The request with this `ref` failed (`ref` 0: a frame whose `ref` could not be read).
    Error(Failed),
    /// The socket is signed in.
    Hello(Hello),
    /// One new entry of a room, live.
    Entry(Entry),
    /// Entries that were missed, in order: a page of a resume or a backfill.
    Entries(Entries),
    /// How one room of a resume stands, before its entries.
    Room(RoomStanding),
    /// The resume is complete: everything after this is live.
    Resumed(Resumed),
    /// Somebody types, or stopped. Ends by itself after `ttl_ms`.
    Typing(TypingPush),
    /// Somebody's cursors moved.
    Receipt(Receipt),
    /// A contact's presence.
    Presence(PresencePush),
    /// The server is going away: reconnect after `after_ms`.
    Drain(Drain),
}

impl Push {
    /// All pushes' names.
    pub const OPS: &'static [&'static str] =
        &["ok", "error", "hello", "entry", "entries", "room", "resumed", "typing", "receipt", "presence", "drain"];
    /// Reads the fields of push `op`; a name that this build does not know is [`Code::UnknownOp`], which a client passes over.
    ///
    /// # Errors
    /// What the reader says, or the unknown name.
    pub fn read<'a, R: FieldReader<'a>>(op: &str, reader: R) -> Result<Push, ApiError> {
        Ok(match op {
            "ok" => Push::Ok(reader.fields()?),
            "error" => Push::Error(reader.fields()?),
            "hello" => Push::Hello(reader.fields()?),
            "entry" => Push::Entry(reader.fields()?),
            "entries" => Push::Entries(reader.fields()?),
            "room" => Push::Room(reader.fields()?),
            "resumed" => Push::Resumed(reader.fields()?),
            "typing" => Push::Typing(reader.fields()?),
            "receipt" => Push::Receipt(reader.fields()?),
            "presence" => Push::Presence(reader.fields()?),
            "drain" => Push::Drain(reader.fields()?),
            _ => {
                return Err(ApiError::new(
                    Code::UnknownOp,
                    format!("there is no push named {:?}", op.chars().take(40).collect::<String>()),
                ));
            }
        })
    }
}

/// A request's success. Which of the fields are there depends on the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ok {
    /// The request's `ref`.
    #[serde(rename = "ref")]
    pub reference: u64,
    /// The room (create).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    /// The entry's seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// Messages in the room up to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The entry's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// When it was numbered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
    /// When the access token now in use ends (auth, refresh), milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Millis>,
    /// Messages as they are now (history).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Shown>>,
    /// The committed head at the time of reading (history).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Seq>,
    /// The first seq that is still kept, where older ones are not and the page goes as far back as it can (history).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Seq>,
    /// More in that direction (history, rooms, members).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<bool>,
    /// A window of the room list (rooms).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rooms: Option<Vec<RoomSummary>>,
    /// Members (members).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<MemberShown>>,
    /// Presence of those now watched (watch).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Vec<PresencePush>>,
}

/// A request's failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// The request's `ref`.
    #[serde(rename = "ref")]
    pub reference: u64,
    /// What is wrong.
    #[serde(flatten)]
    pub error: ApiError,
}

/// See [`Push::Hello`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The `ref` of the `auth` request; 0 when the token came as a subprotocol.
    #[serde(rename = "ref")]
    pub reference: u64,
    /// Who signed in.
    pub user: UserId,
    /// The account's name.
    pub name: String,
    /// On which device.
    pub device: DeviceId,
    /// When the access token ends, milliseconds since 1970.
    pub expires: Millis,
    /// The server's clock, milliseconds since 1970.
    pub now: Millis,
    /// Send something (a WebSocket ping will do) at least this often, milliseconds.
    pub heartbeat_ms: u64,
    /// The largest frame it takes, bytes.
    pub frame_bytes_max: u64,
    /// The server's version.
    pub server: String,
}

/// See [`Push::Entries`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entries {
    /// The room.
    pub room: RoomId,
    /// Contiguous, in order.
    pub entries: Vec<Entry>,
    /// Further pages of this room follow.
    pub more: bool,
}

/// How a room of a resume stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// What was missed follows as `entries`.
    CatchUp,
    /// A room the client did not list: entries follow from where the server says (`from`), older ones by `history`.
    Joined,
    /// No longer a member (or the room never existed): forget it.
    Left,
    /// Continuity cannot be proven (the client is ahead of the log, or too far behind): drop what you hold of the
    /// room, take `head` as applied and read `history`. Live entries follow from there.
    Resync,
}

/// See [`Push::Room`]. An unchanged room gets none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoomStanding {
    /// The room.
    pub room: RoomId,
    /// How it stands.
    pub standing: Standing,
    /// Entries that follow have a greater seq than this.
    pub from: Seq,
    /// The committed head now.
    pub head: Seq,
    /// The room as in the room list; absent for rooms that were left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Box<RoomSummary>>,
}

/// See [`Push::Resumed`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// The `ref` of the page that had `last`.
    #[serde(rename = "ref")]
    pub reference: u64,
    /// One's cursors in every room that has any.
    pub cursors: Vec<CursorShown>,
    /// The contacts' presence; contacts who are offline and were never seen are left out.
    pub presence: Vec<PresencePush>,
}

/// A user's cursors in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CursorShown {
    /// The room.
    pub room: RoomId,
    /// Read up to here.
    pub read: Seq,
    /// Arrived up to here.
    pub delivered: Seq,
}

/// See [`Push::Typing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingPush {
    /// The room.
    pub room: RoomId,
    /// Who.
    pub user: UserId,
    /// Typing, or stopped.
    pub on: bool,
    /// Show it no longer than this.
    pub ttl_ms: u64,
}

/// See [`Push::Receipt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The room.
    pub room: RoomId,
    /// Whose cursors.
    pub user: UserId,
    /// Read up to here.
    pub read: Seq,
    /// Arrived up to here.
    pub delivered: Seq,
}

/// See [`Push::Presence`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PresencePush {
    /// Who.
    pub user: UserId,
    /// The merged state of all devices.
    pub state: PresenceState,
    /// When the user was last connected; 0: unknown or never.
    pub last_seen: Millis,
    /// Status text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
}

/// See [`Push::Drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Reconnect after so many milliseconds, chosen per session so that not all come at once.
    pub after_ms: u64,
}

/// A message as it is now: edits, deletion, reactions and pin folded in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Shown {
    /// The entry as it was sent; a deleted message's body is empty.
    pub entry: Entry,
    /// The seq of the newest edit, if it was edited; the entry's text is the edited one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited: Option<Seq>,
    /// The seq of the deletion, if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Seq>,
    /// Who reacted with what, in the order of the first use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reaction>,
    /// Pinned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

/// One emoji's reactions to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// Who, in order of time.
    pub users: Vec<UserId>,
}

/// A room as the room list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RoomSummary {
    /// The room.
    pub room: RoomId,
    /// Its kind.
    pub kind: RoomKind,
    /// Its name; empty for direct rooms.
    #[serde(default)]
    pub name: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub topic: String,
    /// The other user of a direct room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<UserId>,
    /// One's own role.
    pub role: Role,
    /// The committed head.
    pub head: Seq,
    /// Messages up to the head.
    pub n: u64,
    /// When the newest entry was numbered.
    pub at: Millis,
    /// One's read cursor.
    pub read: Seq,
    /// Messages after the read cursor.
    pub unread: u64,
    /// Mentions of oneself after the read cursor (counted up to 100).
    #[serde(default)]
    pub mentions: u64,
    /// Members.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub members: u64,
    /// Seconds that a member below moderator waits between two messages; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slow_mode_s: u32,
    /// Nobody writes; reading goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
    /// A channel that the directory does not show.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlisted: bool,
    /// Until when one may not write here oneself ([`FOREVER`](super::super::entry::FOREVER): until it is lifted); absent: one may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until: Option<Millis>,
    /// The newest message as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Shown>,
}

fn is_zero<N: Default + PartialEq>(n: &N) -> bool {
    *n == N::default()
}

/// A member as the member list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberShown {
    /// Who.
    pub user: UserId,
    /// The account's name.
    pub name: String,
    /// Its role here.
    pub role: Role,
    /// Until when it may not write, where it may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until: Option<Millis>,
}
