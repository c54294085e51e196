//! What a request is about and what it becomes: functions of the request alone.

use super::super::entry::{Body, Change, Edit, MemberChange, Message, Pin, React, Role, RoomChange, RoomKind, Target};
use super::super::ids::{ClientId, RoomId, Seq, UserId};
use super::super::ops::{Create, Request};

/// The first entry of a room: its creator is the owner (both are members of a direct room).
pub fn creation(by: UserId, create: &Create) -> Body {
    let (own, rest) = match create.kind {
        RoomKind::Direct => (Role::Member, Role::Member),
        _ => (Role::Owner, Role::Member),
    };
    let mut members = vec![(by, own)];
    members.extend(create.members.iter().filter(|u| **u != by).map(|u| (*u, rest)));
    let (name, topic) = (create.name.clone(), create.topic.clone());
    Body::Room(RoomChange { kind: Some(create.kind), name, topic, members, ..RoomChange::default() })
}

/// The client id and `since` of a request that becomes an entry.
pub fn once(request: &Request) -> Option<(ClientId, Seq)> {
    Some(match request {
        Request::Send(r) => (r.cid, r.since),
        Request::Edit(r) => (r.cid, r.since),
        Request::Delete(r) => (r.cid, r.since),
        Request::React(r) => (r.cid, r.since),
        Request::Pin(r) => (r.cid, r.since),
        Request::Join(r) | Request::Leave(r) => (r.cid, r.since),
        Request::Invite(r) => (r.cid, r.since),
        Request::Kick(r) | Request::Ban(r) | Request::Unban(r) => (r.cid, r.since),
        Request::Unmute(r) | Request::Transfer(r) => (r.cid, r.since),
        Request::Mute(r) => (r.cid, r.since),
        Request::Role(r) => (r.cid, r.since),
        Request::Update(r) => (r.cid, r.since),
        _ => return None,
    })
}

/// The room that a request is about, for requests that its owner answers.
pub fn room_of(request: &Request) -> Option<RoomId> {
    Some(match request {
        Request::Send(r) => r.room,
        Request::Edit(r) => r.room,
        Request::Delete(r) => r.room,
        Request::React(r) => r.room,
        Request::Pin(r) => r.room,
        Request::Join(r) | Request::Leave(r) => r.room,
        Request::Invite(r) => r.room,
        Request::Kick(r) | Request::Ban(r) | Request::Unban(r) => r.room,
        Request::Unmute(r) | Request::Transfer(r) => r.room,
        Request::Mute(r) => r.room,
        Request::Role(r) => r.room,
        Request::Update(r) => r.room,
        Request::Typing(r) => r.room,
        Request::Cursor(r) => r.room,
        _ => return None,
    })
}

/// The body that a request becomes, whoever may or may not send it: a function of the request alone, so that a resend
/// has the same one.
pub(super) fn plain_body(request: &Request, user: UserId) -> Option<Body> {
    let member = |user, change, role| Body::Member(MemberChange::new(user, change, role));
    Some(match request {
        Request::Send(r) => Body::Message(Message {
            text: r.text.clone(),
            reply_to: r.reply_to,
            thread: r.thread,
            mentions: r.mentions.clone(),
            attachments: r.attachments.clone(),
            data: r.data.clone(),
        }),
        Request::Edit(r) => Body::Edit(Edit { seq: r.seq, text: r.text.clone(), mentions: r.mentions.clone() }),
        Request::Delete(r) => Body::Delete(Target { seq: r.seq }),
        Request::React(r) => Body::React(React { seq: r.seq, emoji: r.emoji.clone(), on: r.on }),
        Request::Pin(r) => Body::Pin(Pin { seq: r.seq, on: r.on }),
        Request::Leave(_) => member(user, Change::Leave, None),
        Request::Invite(r) => member(r.user, Change::Invite, r.role.or(Some(Role::Member))),
        Request::Kick(r) => member(r.user, Change::Kick, None),
        Request::Ban(r) => member(r.user, Change::Ban, None),
        Request::Unban(r) => member(r.user, Change::Unban, None),
        Request::Role(r) => member(r.user, Change::Role, Some(r.role)),
        Request::Mute(r) => Body::Member(MemberChange { until: r.until, ..MemberChange::new(r.user, Change::Mute, None) }),
        Request::Unmute(r) => member(r.user, Change::Unmute, None),
        Request::Transfer(r) => member(r.user, Change::Transfer, Some(Role::Owner)),
        Request::Update(r) => Body::Room(RoomChange {
            name: r.name.clone(),
            topic: r.topic.clone(),
            slow_mode_s: r.slow_mode_s,
            archived: r.archived,
            unlisted: r.unlisted,
            ..RoomChange::default()
        }),
        _ => return None,
    })
}
