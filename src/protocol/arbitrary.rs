//! Arbitrary requests and pushes for property tests. Boxed where they are large: proptest builds its values on the stack.

use super::entry::*;
use super::ids::{ClientId, DeviceId, MessageId, RoomId, Seq, UserId};
use super::ops::*;
use crate::error::{ApiError, Code, Retry};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

fn id() -> impl Strategy<Value = u64> {
    prop_oneof![0..10u64, 0..=i64::MAX as u64]
}
fn room() -> impl Strategy<Value = RoomId> {
    id().prop_map(RoomId)
}
fn user() -> impl Strategy<Value = UserId> {
    id().prop_map(UserId)
}
fn cid() -> impl Strategy<Value = ClientId> {
    any::<u128>().prop_map(|n| ClientId(uuid::Uuid::from_u128(n)))
}
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300u64, any::<u64>()]
}
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{0,12}", any::<String>()]
}
fn users() -> impl Strategy<Value = Vec<UserId>> {
    vec(user(), 0..4)
}
fn role() -> impl Strategy<Value = Role> {
    select(&[Role::Reader, Role::Member, Role::Moderator, Role::Admin, Role::Owner][..])
}
fn kind() -> impl Strategy<Value = RoomKind> {
    select(&[RoomKind::Direct, RoomKind::Group, RoomKind::Channel][..])
}
fn state() -> impl Strategy<Value = PresenceState> {
    select(&[PresenceState::Offline, PresenceState::Away, PresenceState::Busy, PresenceState::Online][..])
}
fn attachments() -> BoxedStrategy<Vec<Attachment>> {
    vec((text(), text(), text(), number()).prop_map(|(url, mime, name, size)| Attachment { url, mime, name, size }), 0..3).boxed()
}
fn target() -> impl Strategy<Value = (RoomId, Seq, ClientId, Seq)> {
    (room(), number(), cid(), number())
}

/// Any request.
pub fn request() -> BoxedStrategy<Request> {
    prop_oneof![talk(), ask(), govern()].boxed()
}

fn talk() -> BoxedStrategy<Request> {
    let send = ((room(), cid(), number(), text()), (of(number()), of(number()), users(), attachments(), of(text())));
    prop_oneof![
        text().prop_map(|token| Request::Auth(Auth { token })),
        text().prop_map(|token| Request::Refresh(Refresh { token })),
        Just(Request::Ping(Empty {})),
        send.prop_map(|((room, cid, since, text), (reply_to, thread, mentions, attachments, data))| {
            Request::Send(Send { room, cid, since, text, reply_to, thread, mentions, attachments, data })
        }),
        (target(), text(), users())
            .prop_map(|((room, seq, cid, since), text, mentions)| { Request::Edit(EditMessage { room, seq, text, mentions, cid, since }) }),
        target().prop_map(|(room, seq, cid, since)| Request::Delete(OnMessage { room, seq, cid, since })),
        (target(), text(), any::<bool>()).prop_map(|((room, seq, cid, since), emoji, on)| Request::React(ReactTo {
            room,
            seq,
            emoji,
            on,
            cid,
            since
        })),
        (target(), any::<bool>()).prop_map(|((room, seq, cid, since), on)| Request::Pin(PinMessage { room, seq, on, cid, since })),
        (room(), any::<bool>()).prop_map(|(room, on)| Request::Typing(Typing { room, on })),
        (room(), of(number()), of(number())).prop_map(|(room, read, delivered)| Request::Cursor(MoveCursor { room, read, delivered })),
    ]
    .boxed()
}

fn ask() -> BoxedStrategy<Request> {
    let have = (room(), number()).prop_map(|(room, have)| Have { room, have });
    prop_oneof![
        (of(state()), of(text())).prop_map(|(state, status)| Request::Presence(SetPresence { state, status })),
        (users(), any::<bool>()).prop_map(|(users, on)| Request::Watch(Watch { users, on })),
        (room(), of(number()), of(number()), of(number()), of(any::<u32>()))
            .prop_map(|(room, before, after, around, limit)| Request::History(History { room, before, after, around, limit })),
        (any::<u32>(), of(any::<u32>())).prop_map(|(offset, limit)| Request::Rooms(Rooms { offset, limit })),
        (room(), of(user()), of(any::<u32>())).prop_map(|(room, after, limit)| Request::Members(Members { room, after, limit })),
        (vec(have, 0..5), any::<bool>()).prop_map(|(rooms, last)| Request::Resume(Resume { rooms, last })),
    ]
    .boxed()
}

fn govern() -> BoxedStrategy<Request> {
    let in_room = || target().prop_map(|(room, _, cid, since)| InRoom { room, cid, since });
    let on_member = || (target(), user()).prop_map(|((room, _, cid, since), user)| OnMember { room, user, cid, since });
    prop_oneof![
        (kind(), of(text()), of(text()), users(), cid()).prop_map(|(kind, name, topic, members, cid)| Request::Create(Create {
            kind,
            name,
            topic,
            members,
            cid
        })),
        in_room().prop_map(Request::Join),
        in_room().prop_map(Request::Leave),
        (on_member(), of(role())).prop_map(|(r, role)| Request::Invite(InviteMember { role, ..r.into() })),
        on_member().prop_map(Request::Kick),
        on_member().prop_map(Request::Ban),
        on_member().prop_map(Request::Unban),
        (target(), user(), of(number())).prop_map(|((room, _, cid, since), user, until)| Request::Mute(MuteMember {
            room,
            user,
            until,
            cid,
            since
        })),
        on_member().prop_map(Request::Unmute),
        on_member().prop_map(Request::Transfer),
        (target(), user(), role()).prop_map(|((room, _, cid, since), user, role)| Request::Role(SetRole { room, user, role, cid, since })),
        (target(), of(text()), of(text()), of(any::<u32>()), of(any::<bool>()), of(any::<bool>())).prop_map(
            |((room, _, cid, since), name, topic, slow_mode_s, archived, unlisted)| {
                Request::Update(UpdateRoom { room, name, topic, slow_mode_s, archived, unlisted, cid, since })
            }
        ),
    ]
    .boxed()
}

fn body() -> BoxedStrategy<Body> {
    let change = select(
        &[
            Change::Join,
            Change::Invite,
            Change::Leave,
            Change::Kick,
            Change::Ban,
            Change::Unban,
            Change::Role,
            Change::Mute,
            Change::Unmute,
            Change::Transfer,
        ][..],
    );
    let message = (text(), of(number()), of(number()), users(), attachments(), of(text()));
    prop_oneof![
        message.prop_map(|(text, reply_to, thread, mentions, attachments, data)| {
            Body::Message(Message { text, reply_to, thread, mentions, attachments, data })
        }),
        (number(), text(), users()).prop_map(|(seq, text, mentions)| Body::Edit(Edit { seq, text, mentions })),
        number().prop_map(|seq| Body::Delete(Target { seq })),
        (number(), text(), any::<bool>()).prop_map(|(seq, emoji, on)| Body::React(React { seq, emoji, on })),
        (number(), any::<bool>()).prop_map(|(seq, on)| Body::Pin(Pin { seq, on })),
        (user(), change, of(role()), of(number()), of(user()))
            .prop_map(|(user, change, role, until, link_by)| Body::Member(MemberChange { user, change, role, until, link_by })),
        ((of(kind()), of(text()), of(text()), vec((user(), role()), 0..3)), (of(any::<u32>()), of(any::<bool>()), of(any::<bool>())))
            .prop_map(|((kind, name, topic, members), (slow_mode_s, archived, unlisted))| {
                Body::Room(RoomChange { kind, name, topic, slow_mode_s, archived, unlisted, members })
            }),
        text().prop_map(Body::Call),
        Just(Body::Unknown),
    ]
    .boxed()
}

/// Any entry.
pub fn entry() -> BoxedStrategy<Entry> {
    ((room(), number(), number(), id()), (number(), user(), of(cid()), body()))
        .prop_map(|((room, seq, n, id), (at, by, cid, body))| Entry { room, seq, n, id: MessageId(id), at, by, cid, body })
        .boxed()
}

fn shown() -> BoxedStrategy<Shown> {
    let reaction = (text(), users()).prop_map(|(emoji, users)| Reaction { emoji, users });
    (entry(), of(number()), of(number()), vec(reaction, 0..3), any::<bool>())
        .prop_map(|(entry, edited, deleted, reactions, pinned)| Shown { entry, edited, deleted, reactions, pinned })
        .boxed()
}

fn summary() -> BoxedStrategy<RoomSummary> {
    let who = (room(), kind(), text(), text(), of(user()), role());
    let state = (number(), any::<u32>(), any::<bool>(), any::<bool>(), of(number()));
    (who, (number(), number(), number(), number(), number(), number()), state, of(shown()))
        .prop_map(|((room, kind, name, topic, peer, role), (head, n, at, read, unread, mentions), state, last)| RoomSummary {
            room,
            kind,
            name,
            topic,
            peer,
            role,
            head,
            n,
            at,
            read,
            unread,
            mentions,
            members: state.0,
            slow_mode_s: state.1,
            archived: state.2,
            unlisted: state.3,
            muted_until: state.4,
            last,
        })
        .boxed()
}

fn presence() -> BoxedStrategy<PresencePush> {
    (user(), state(), number(), text()).prop_map(|(user, state, last_seen, status)| PresencePush { user, state, last_seen, status }).boxed()
}

fn ok() -> BoxedStrategy<Ok> {
    let member =
        (user(), text(), role(), of(number())).prop_map(|(user, name, role, muted_until)| MemberShown { user, name, role, muted_until });
    let one = (of(room()), of(number()), of(number()), of(id()), of(number()), of(number()));
    let lists = (of(vec(shown(), 0..3)), of(vec(summary(), 0..2)), of(vec(member, 0..3)), of(vec(presence(), 0..3)));
    (number(), one, (of(number()), of(number())), of(any::<bool>()), lists)
        .prop_map(|(reference, (room, seq, n, id, at, expires), (head, first), more, (messages, rooms, members, presence))| Ok {
            reference,
            room,
            seq,
            n,
            id: id.map(MessageId),
            at,
            expires,
            messages,
            head,
            first,
            more,
            rooms,
            members,
            presence,
        })
        .boxed()
}

/// Any push.
pub fn push() -> BoxedStrategy<Push> {
    prop_oneof![ok().prop_map(Push::Ok), failed(), hello(), streams(), passing()].boxed()
}

fn failed() -> BoxedStrategy<Push> {
    let retry = select(&[Retry::Never, Retry::Now, Retry::Later][..]);
    (number(), select(Code::ALL), text(), retry, of(number()))
        .prop_map(|(reference, code, message, retry, retry_after_ms)| {
            Push::Error(Failed { reference, error: ApiError { code, message: message.into(), retry, retry_after_ms } })
        })
        .boxed()
}

fn hello() -> BoxedStrategy<Push> {
    ((number(), user(), text(), id()), (number(), number(), number(), number(), text()))
        .prop_map(|((reference, user, name, device), (expires, now, heartbeat_ms, frame_bytes_max, server))| {
            Push::Hello(Hello { reference, user, name, device: DeviceId(device), expires, now, heartbeat_ms, frame_bytes_max, server })
        })
        .boxed()
}

fn streams() -> BoxedStrategy<Push> {
    let standing = select(&[Standing::CatchUp, Standing::Joined, Standing::Left, Standing::Resync][..]);
    let cursor = (room(), number(), number()).prop_map(|(room, read, delivered)| CursorShown { room, read, delivered });
    prop_oneof![
        entry().prop_map(Push::Entry),
        (room(), vec(entry(), 0..3), any::<bool>()).prop_map(|(room, entries, more)| Push::Entries(Entries { room, entries, more })),
        (room(), standing, number(), number(), of(summary())).prop_map(|(room, standing, from, head, summary)| Push::Room(RoomStanding {
            room,
            standing,
            from,
            head,
            summary: summary.map(Box::new),
        })),
        (number(), vec(cursor, 0..3), vec(presence(), 0..3)).prop_map(|(reference, cursors, presence)| Push::Resumed(Resumed {
            reference,
            cursors,
            presence
        })),
    ]
    .boxed()
}

fn passing() -> BoxedStrategy<Push> {
    prop_oneof![
        (room(), user(), any::<bool>(), number()).prop_map(|(room, user, on, ttl_ms)| Push::Typing(TypingPush { room, user, on, ttl_ms })),
        (room(), user(), number(), number()).prop_map(|(room, user, read, delivered)| Push::Receipt(Receipt {
            room,
            user,
            read,
            delivered
        })),
        presence().prop_map(Push::Presence),
        number().prop_map(|after_ms| Push::Drain(Drain { after_ms })),
    ]
    .boxed()
}
