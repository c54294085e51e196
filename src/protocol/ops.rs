//! Requests, replies and pushes of the wire protocol, version 1. docs/PROTOCOL.md is the same for readers.
//!
//! A frame is one map. A request has `op` and `ref` (chosen by the client) beside its own fields; the reply echoes the `ref`
//! as `ok` or `error`. A push has an `op` and no `ref`. Field order is free and unknown fields are ignored, so the head
//! (`op`, `ref`) is read in one pass and the fields in a second: no part of a frame is ever buffered as a tree.

use crate::error::{ApiError, Code};
use serde::{Deserialize, Serialize};

mod pushes;
mod requests;

pub use pushes::*;
pub use requests::*;

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
    Invite(InviteMember) = "invite";
    /// Puts a member out.
    Kick(OnMember) = "kick";
    /// Puts a user out for good.
    Ban(OnMember) = "ban";
    /// Lets a banned user come back.
    Unban(OnMember) = "unban";
    /// Takes a member's voice, for a time or until it is given back.
    Mute(MuteMember) = "mute";
    /// Gives it back.
    Unmute(OnMember) = "unmute";
    /// Gives a member another role.
    Role(SetRole) = "role";
    /// Makes a member the owner in one's own place.
    Transfer(OnMember) = "transfer";
    /// Changes a room's settings.
    Update(UpdateRoom) = "update";
}
