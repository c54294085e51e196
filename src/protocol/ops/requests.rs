//! The fields of each request of [`Request`](super::Request), what may be left out and what it is then.
//! Which values are allowed is `protocol::validate`'s matter.

use super::super::entry::{Attachment, Opaque, Role, RoomKind};
use super::super::ids::{ClientId, Millis, RoomId, Seq, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

impl Send {
    /// A text and nothing else, under a fresh client id.
    pub fn text(room: RoomId, since: Seq, text: impl Into<String>) -> Send {
        Send {
            room,
            cid: ClientId::fresh(),
            since,
            text: text.into(),
            reply_to: None,
            thread: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            data: None,
        }
    }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
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

/// See [`Request::Invite`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteMember {
    /// The room.
    pub room: RoomId,
    /// Who is brought in.
    pub user: UserId,
    /// As what; a member when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The same in every resend.
    pub cid: ClientId,
    /// See [`Once::since`].
    #[serde(default)]
    pub since: Seq,
}

impl From<OnMember> for InviteMember {
    fn from(OnMember { room, user, cid, since }: OnMember) -> Self {
        InviteMember { room, user, role: None, cid, since }
    }
}

/// See [`Request::Mute`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MuteMember {
    /// The room.
    pub room: RoomId,
    /// The member.
    pub user: UserId,
    /// When it ends by itself, by the server's clock; absent: when somebody lifts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
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
    /// Seconds between two messages of a member below moderator; 0 ends slow mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_mode_s: Option<u32>,
    /// Ends all writing, or lets it go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Takes a channel out of the directory, or puts it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<bool>,
    /// The same in every resend.
    pub cid: ClientId,
    /// See [`Once::since`].
    #[serde(default)]
    pub since: Seq,
}

impl UpdateRoom {
    /// One that changes nothing yet, with a client id of its own.
    pub fn of(room: RoomId) -> UpdateRoom {
        UpdateRoom { room, name: None, topic: None, slow_mode_s: None, archived: None, unlisted: None, cid: ClientId::fresh(), since: 0 }
    }
}
