//! Requests, replies and pushes of the wire protocol, version 1. docs/PROTOCOL.md is the same for readers.
//!
//! A frame is one map. A request has `op` and `ref` (chosen by the client) beside its own fields; the reply echoes the `ref`
//! as `ok` or `error`. A push has an `op` and no `ref`. Field order is free and unknown fields are ignored, so the head
//! (`op`, `ref`) is read in one pass and the fields in a second: no part of a frame is ever buffered as a tree.

use super::entry::{Attachment, Entry, Opaque, Role, RoomKind};
use super::ids::{ClientId, DeviceId, MessageId, Millis, RoomId, Seq, UserId};
use crate::error::{ApiError, Code};
use serde::{Deserialize, Serialize};

macro_rules! requests {
    ($($(#[$doc:meta])* $variant:ident($ty:ty) = $op:literal;)*) => {
        /// A request of a client.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request { $($(#[$doc])* $variant($ty),)* }
        impl Request {
            /// All requests' names.
            pub const OPS: &'static [&'static str] = &[$($op,)*];
            /// Its name on the wire.
            pub fn op(&self) -> &'static str { match self { $(Request::$variant(_) => $op,)* } }
            /// Reads the fields of request `op` with `reader`, which decodes the whole frame as one type.
            pub fn read<'a, R: FieldReader<'a>>(op: &str, reader: R) -> Result<Request, ApiError> {
                match op {
                    $($op => reader.fields::<$ty>().map(Request::$variant),)*
                    _ => Err(ApiError::new(Code::UnknownOp, format!("there is no request named {:?}", op.chars().take(40).collect::<String>()))),
                }
            }
            /// Hands the fields to `writer`, which encodes them beside the op.
            pub fn write<W: FieldWriter>(&self, writer: W) -> W::Out {
                match self { $(Request::$variant(fields) => writer.fields($op, fields),)* }
            }
        }
    };
}

/// Encodes a request's fields; one implementation for each use.
pub trait FieldWriter {
    /// What becomes of it.
    type Out;
    /// Encodes the fields of request `op`.
    fn fields<T: Serialize>(self, op: &'static str, fields: &T) -> Self::Out;
}

/// Decodes a frame's fields as a type; one implementation per encoding.
pub trait FieldReader<'a> {
    /// The fields, or why they could not be read ([`Code::Malformed`]).
    fn fields<T: Deserialize<'a>>(self) -> Result<T, ApiError>;
}

requests! {
    /// Signs the socket in. The first request, unless the token came as a subprotocol.
    Auth(Auth) = "auth";
    /// Gives the session a new access token before the old one ends.
    Refresh(Refresh) = "refresh";
    /// Answers with `ok`: a heartbeat for clients that cannot send WebSocket pings.
    Ping(Empty) = "ping";
    /// Sends a message.
    Send(Send) = "send";
    /// Changes a message's text.
    Edit(EditMessage) = "edit";
    /// Deletes a message.
    Delete(OnMessage) = "delete";
    /// Adds a reaction or takes it back.
    React(ReactTo) = "react";
    /// Pins or unpins.
    Pin(PinMessage) = "pin";
    /// Says that one is typing, or has stopped.
    Typing(Typing) = "typing";
    /// Moves one's cursors forward.
    Cursor(MoveCursor) = "cursor";
    /// Sets one's own presence on this device, and the status text.
    Presence(SetPresence) = "presence";
    /// Begins or ends watching contacts' presence.
    Watch(Watch) = "watch";
    /// Pages of a room's messages.
    History(History) = "history";
    /// A window of one's room list, newest activity first.
    Rooms(Rooms) = "rooms";
    /// Members of a room, in pages.
    Members(Members) = "members";
    /// Everything missed since `have`, then live.
    Resume(Resume) = "resume";
    /// Creates a room, or finds the direct room of a pair.
    Create(Create) = "create";
    /// Joins a channel.
    Join(InRoom) = "join";
    /// Leaves a room.
    Leave(InRoom) = "leave";
    /// Brings a user in.
    Invite(OnMember) = "invite";
    /// Puts a member out.
    Kick(OnMember) = "kick";
    /// Puts a user out for good.
    Ban(OnMember) = "ban";
    /// Lets a banned user come back.
    Unban(OnMember) = "unban";
    /// Gives a member another role.
    Role(SetRole) = "role";
    /// Changes a room's settings.
    Update(UpdateRoom) = "update";
}

/// No fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// See [`Request::Auth`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// An access token.
    pub token: String,
}

/// See [`Request::Refresh`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// A newer access token of the same user and device.
    pub token: String,
}

/// What every request that becomes an entry carries, for P3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// The same in every resend.
    pub cid: ClientId,
    /// The last seq of the room that the client had seen when it *first* transmitted this request. Never changed in a resend.
    #[serde(default)]
    pub since: Seq,
}

/// See [`Request::Send`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// The room.
    pub room: RoomId,
    /// The same in every resend.
    pub cid: ClientId,
    /// See [`Once::since`].
    #[serde(default)]
    pub since: Seq,
    /// The text.
    #[serde(default)]
    pub text: String,
    /// Answers this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Seq>,
    /// Belongs to the thread of this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<Seq>,
    /// Members to mention.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Anything else, never looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Opaque>,
}

/// See [`Request::Edit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditMessage {
    /// The room.
    pub room: RoomId,
    /// The message.
    pub seq: Seq,
    /// Its new text.
    pub text: String,
    /// Members to mention from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// The same in every resend.
    pub cid: ClientId,
    /// See [`Once::since`].
    #[serde(default)]
    pub since: Seq,
}

/// A request on one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnMessage {
    /// The room.
    pub room: RoomId,
    /// The message.
    pub seq: Seq,
    /// The same in every resend.
    pub cid: ClientId,
    /// See [`Once::since`].
    #[serde(default)]
    pub since: Seq,
}

/// See [`Request::React`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReactTo {
    /// The room.
    pub room: RoomId,
    /// The message.
    pub seq: Seq,
    /// An emoji or short name, 1 to 64 bytes.
    pub emoji: String,
    /// Add, or take back.
    pub on: bool,
    /// The same in every resend.
    pub cid: ClientId,
    /// See [`Once::since`].
    #[serde(default)]
    pub since: Seq,
}

/// See [`Request::Pin`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinMessage {
    /// The room.
    pub room: RoomId,
    /// The message.
    pub seq: Seq,
    /// Pin, or unpin.
    pub on: bool,
    /// The same in every resend.
    pub cid: ClientId,
    /// See [`Once::since`].
    #[serde(default)]
    pub since: Seq,
}

/// See [`Request::Typing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typing {
    /// The room.
    pub room: RoomId,
    /// Typing, or stopped.
    pub on: bool,
}

/// See [`Request::Cursor`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveCursor {
    /// The room.
    pub room: RoomId,
    /// Everything up to here was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Seq>,
    /// Everything up to here has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Seq>,
}

/// What a user is, as contacts see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    /// No device is connected.
    #[default]
    Offline,
    /// Connected, but not looking.
    Away,
    /// Connected, wants no interruption.
    Busy,
    /// Connected.
    Online,
}

/// See [`Request::Presence`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPresence {
    /// This device's state; `offline` is refused (close the socket for that).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PresenceState>,
    /// The user's status text, at most 140 characters; empty clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// See [`Request::Watch`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Contacts, at most 500 a request. Users who are not contacts are answered as if they did not exist.
    pub users: Vec<UserId>,
    /// Begin, or end.
    pub on: bool,
}

/// See [`Request::History`]. At most one of `before`, `after` and `around`; none is "the newest".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The room.
    pub room: RoomId,
    /// Messages with a smaller seq, newest first in the log, given in seq order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Seq>,
    /// Messages with a greater seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// Messages on both sides of this seq and the one at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub around: Option<Seq>,
    /// How many messages, 1 to 200; 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// See [`Request::Rooms`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rooms {
    /// How many rooms to skip from the newest.
    #[serde(default)]
    pub offset: u32,
    /// How many to give, 1 to 200; 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// See [`Request::Members`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The room.
    pub room: RoomId,
    /// Only members with a greater user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<UserId>,
    /// 1 to 1,000; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// See [`Request::Resume`]. The client sends its rooms in pages of at most 500, 5,000 in all; the last page has `last`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Rooms the client knows, with the last seq it has *applied* in each.
    #[serde(default)]
    pub rooms: Vec<Have>,
    /// No further page follows: the server now also tells of rooms that are not in any page.
    #[serde(default)]
    pub last: bool,
}

/// The last seq a client has applied in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// The room.
    pub room: RoomId,
    /// The seq; 0 for nothing.
    pub have: Seq,
}

/// See [`Request::Create`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// The kind.
    pub kind: RoomKind,
    /// Name to show; not for direct rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Who else is in it: exactly one for a direct room, at most 1,000 for a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<UserId>,
    /// The same in every resend: a group or channel is created once per client id.
    pub cid: ClientId,
}

/// A request on a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InRoom {
    /// The room.
    pub room: RoomId,
    /// The same in every resend.
    pub cid: ClientId,
    /// See [`Once::since`].
    #[serde(default)]
    pub since: Seq,
}

/// A request on a member of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnMember {
    /// The room.
    pub room: RoomId,
    /// The member.
    pub user: UserId,
    /// The same in every resend.
    pub cid: ClientId,
    /// See [`Once::since`].
    #[serde(default)]
    pub since: Seq,
}

/// See [`Request::Role`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRole {
    /// The room.
    pub room: RoomId,
    /// The member.
    pub user: UserId,
    /// The role from now on.
    pub role: Role,
    /// The same in every resend.
    pub cid: ClientId,
    /// See [`Once::since`].
    #[serde(default)]
    pub since: Seq,
}

/// See [`Request::Update`]. What is absent stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRoom {
    /// The room.
    pub room: RoomId,
    /// Its new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its new topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The same in every resend.
    pub cid: ClientId,
    /// See [`Once::since`].
    #[serde(default)]
    pub since: Seq,
}

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
    pub summary: Option<RoomSummary>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// Who, in order of time.
    pub users: Vec<UserId>,
}

/// A room as the room list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The newest message as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Shown>,
}

/// A member as the member list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberShown {
    /// Who.
    pub user: UserId,
    /// The account's name.
    pub name: String,
    /// Its role here.
    pub role: Role,
}
