//! The entry: one record of a room's log, as it is stored, sent and shown.
//!
//! Everything in a room that must not be missed is an entry: messages, edits, deletions, reactions, pins, membership and
//! room changes. So resume, gap detection and audit need one mechanism. Fields are named in every encoding and unknown
//! ones are ignored; an unknown kind of body decodes as [`Body::Unknown`], so that an older reader keeps counting `seq`.

use super::ids::{ClientId, DeviceId, MessageId, Millis, RoomId, Seq, UserId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use std::fmt;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// One entry of a room's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// The room.
    pub room: RoomId,
    /// Position in the room's log: 1, 2, 3, …
    pub seq: Seq,
    /// Number of messages in the room up to and including this entry.
    pub n: u64,
    /// The snowflake the sequencer gave it.
    pub id: MessageId,
    /// When it was numbered.
    pub at: Millis,
    /// Who did it.
    pub by: UserId,
    /// The client id of the request; none for what the server did by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<ClientId>,
    /// What happened.
    pub body: Body,
}

/// What an entry says happened. On the wire a map with one key, the kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// A message.
    Message(Message),
    /// A message's text was changed by its author.
    Edit(Edit),
    /// A message was deleted; its entry becomes a tombstone when shown.
    Delete(Target),
    /// A reaction was added or taken back.
    React(React),
    /// A message was pinned or unpinned.
    Pin(Pin),
    /// Somebody's membership began, changed or ended.
    Member(MemberChange),
    /// The room was created or its settings were changed.
    Room(RoomChange),
    /// A call began, changed or ended in this room (opaque until calls are built).
    Call(Opaque),
    /// A kind that this build does not know. Written as `{"unknown":{}}`, so that whoever gets it keeps counting.
    #[serde(serialize_with = "empty_map")]
    Unknown,
}

fn empty_map<S: Serializer>(s: S) -> Result<S::Ok, S::Error> {
    s.serialize_map(Some(0))?.end()
}

/// Names of the known kinds, in the order of [`Body`].
pub const KINDS: &[&str] = &["message", "edit", "delete", "react", "pin", "member", "room", "call"];

/// A message as its author sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// The text; may be empty when there are attachments or data.
    #[serde(default)]
    pub text: String,
    /// The seq of the message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Seq>,
    /// The seq of the message whose thread this one belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<Seq>,
    /// Members who are mentioned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// Files that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Whatever the embedding product wants to carry; never looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Opaque>,
}

/// A file that belongs to a message: where it is and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// Address of the file.
    #[schema(max_length = 2048, pattern = r"^(https?://[^/\\?#\s\x00-\x1f\x7f-\x9f][!-~]*|/([!-.0-\[\]-~][!-~]*)?)$")]
    pub url: String,
    /// Media type (`image/png`).
    #[serde(default)]
    #[schema(max_length = 255, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub mime: String,
    /// Name to show.
    #[serde(default)]
    #[schema(max_length = 255, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub name: String,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
}

/// Text that the server carries and never interprets (JSON, base64, ciphertext: the client's own business).
pub type Opaque = String;

/// A message's new text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Edit {
    /// The message.
    pub seq: Seq,
    /// Its text from now on.
    pub text: String,
    /// Who is mentioned from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
}

/// A message that is acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// The message.
    pub seq: Seq,
}

/// A reaction to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct React {
    /// The message.
    pub seq: Seq,
    /// An emoji or a short name, 1 to 64 bytes.
    pub emoji: String,
    /// Added, or taken back.
    pub on: bool,
}

/// A pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pin {
    /// The message.
    pub seq: Seq,
    /// Pinned, or unpinned.
    pub on: bool,
}

/// How a membership changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Came by itself.
    Join,
    /// Was brought in by a member.
    Invite,
    /// Left by itself.
    Leave,
    /// Was put out.
    Kick,
    /// Was put out and may not come back.
    Ban,
    /// May come back.
    Unban,
    /// Has another role.
    Role,
    /// May read and not write, for a time or until it is lifted.
    Mute,
    /// May write again.
    Unmute,
    /// Is the owner now; who did it was, and is an admin from here on.
    Transfer,
    /// A change that this build does not know: it says nothing about the membership.
    #[serde(other)]
    Unknown,
}

/// When a mute without an end ends: the last millisecond of the year 9999, which every client's numbers can hold.
pub const FOREVER: Millis = 253_402_300_799_999;

/// A change of one membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberChange {
    /// Whose membership.
    pub user: UserId,
    /// What became of it.
    pub change: Change,
    /// The role from now on, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// When a mute ends by itself; none: it is lifted by somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
    /// Who made the invite link that the user came by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_by: Option<UserId>,
}

impl MemberChange {
    /// A change that needs no more than these.
    pub fn new(user: UserId, change: Change, role: Option<Role>) -> Self {
        MemberChange { user, change, role, until: None, link_by: None }
    }
}

/// A room's settings after a change; what is absent stayed as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoomChange {
    /// The kind; only in the entry that creates the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<RoomKind>,
    /// Name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the room is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Seconds that a member below moderator waits between two messages; 0: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_mode_s: Option<u32>,
    /// Nobody writes any more; reading goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// A channel that the directory does not show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<bool>,
    /// The first members with their roles; only in the entry that creates the room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<(UserId, Role)>,
}

/// What a room is for, and with it who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    /// Two users; one room per pair. Nobody joins or is put out.
    Direct,
    /// Private: members bring others in.
    Group,
    /// Public: anybody may join; may be huge, so coming and going are subscriptions and not entries.
    Channel,
}

/// What a member may do, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads only.
    Reader,
    /// Reads and writes.
    Member,
    /// Also deletes others' messages, pins, mutes, kicks and bans those below; slow mode does not bind it.
    Moderator,
    /// Also changes the room and roles below its own.
    Admin,
    /// Everything, for ever: the last owner cannot leave or step down.
    Owner,
}

impl Body {
    /// The kind's name, as on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Body::Message(_) => "message",
            Body::Edit(_) => "edit",
            Body::Delete(_) => "delete",
            Body::React(_) => "react",
            Body::Pin(_) => "pin",
            Body::Member(_) => "member",
            Body::Room(_) => "room",
            Body::Call(_) => "call",
            Body::Unknown => "unknown",
        }
    }
    /// Whether it counts in `n`.
    pub fn is_message(&self) -> bool {
        matches!(self, Body::Message(_))
    }
}

/// As an OpenAPI document says it: an object with one member, the kind.
impl PartialSchema for Body {
    fn schema() -> RefOr<Schema> {
        let part = |name: &str| Ref::from_schema_name(name);
        ObjectBuilder::new()
            .description(Some("What happened: one member, named after the kind. Later servers may add kinds."))
            .property("message", part("Message"))
            .property("edit", part("Edit"))
            .property("delete", part("Target"))
            .property("react", part("React"))
            .property("pin", part("Pin"))
            .property("member", part("MemberChange"))
            .property("room", part("RoomChange"))
            .property("call", ObjectBuilder::new().schema_type(Type::String))
            .min_properties(Some(1))
            .max_properties(Some(1))
            .into()
    }
}
impl ToSchema for Body {
    fn schemas(found: &mut Vec<(String, RefOr<Schema>)>) {
        fn add<T: ToSchema>(found: &mut Vec<(String, RefOr<Schema>)>) {
            found.push((T::name().into(), T::schema()));
            T::schemas(found);
        }
        add::<Message>(found);
        add::<Edit>(found);
        add::<Target>(found);
        add::<React>(found);
        add::<Pin>(found);
        add::<MemberChange>(found);
        add::<RoomChange>(found);
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct OneKey;
        impl<'de> de::Visitor<'de> for OneKey {
            type Value = Body;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map with one key, the kind of the entry")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
                let Some(kind) = map.next_key::<String>()? else { return Err(de::Error::invalid_length(0, &self)) };
                let body = match kind.as_str() {
                    "message" => Body::Message(map.next_value()?),
                    "edit" => Body::Edit(map.next_value()?),
                    "delete" => Body::Delete(map.next_value()?),
                    "react" => Body::React(map.next_value()?),
                    "pin" => Body::Pin(map.next_value()?),
                    "member" => Body::Member(map.next_value()?),
                    "room" => Body::Room(map.next_value()?),
                    "call" => Body::Call(map.next_value()?),
                    _ => {
                        map.next_value::<de::IgnoredAny>()?;
                        Body::Unknown
                    }
                };
                match map.next_key::<de::IgnoredAny>()? {
                    None => Ok(body),
                    Some(_) => Err(de::Error::custom("an entry's body has exactly one kind")),
                }
            }
        }
        d.deserialize_map(OneKey)
    }
}

/// Who asks: which user, on which of the user's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: Body) -> Entry {
        Entry { room: RoomId(5), seq: 2, n: 1, id: MessageId(9), at: 1_700_000_000_000, by: UserId(7), cid: None, body }
    }

    #[test]
    fn an_entry_survives_both_encodings() {
        let e = entry(Body::Member(MemberChange::new(UserId(8), Change::Invite, Some(Role::Member))));
        let json = serde_json::to_string(&e).unwrap();
        assert!(json.contains(r#""body":{"member":{"user":"8","change":"invite","role":"member"}}"#), "{json}");
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), e);
        assert_eq!(rmp_serde::from_slice::<Entry>(&rmp_serde::to_vec_named(&e).unwrap()).unwrap(), e);
    }

    #[test]
    fn an_unknown_kind_and_unknown_fields_are_tolerated() {
        let json = r#"{"room":"5","seq":2,"n":1,"id":"9","at":0,"by":"7","later":[1],"body":{"poll":{"q":"?"}}}"#;
        assert_eq!(serde_json::from_str::<Entry>(json).unwrap().body, Body::Unknown);
        let later = r#"{"room":"5","seq":2,"n":1,"id":"9","at":0,"by":"7","body":{"member":{"user":"8","change":"promoted"}}}"#;
        let body = serde_json::from_str::<Entry>(later).unwrap().body;
        assert_eq!(body, Body::Member(MemberChange::new(UserId(8), Change::Unknown, None)));
        let two = r#"{"room":"5","seq":2,"n":1,"id":"9","at":0,"by":"7","body":{"delete":{"seq":1},"pin":{"seq":1,"on":true}}}"#;
        assert!(serde_json::from_str::<Entry>(two).is_err());
    }
}
