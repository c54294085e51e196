//! What a session answers by itself: reads, room creation, status and contacts. Nothing here writes a room's log.

use super::hub::{Hub, Seat};
use super::node::NodeContext;
use super::presence::PresenceMsg;
use super::reading::{self, in_time};
use super::room::{RoomMsg, storage_error};
use super::router::{Reply, lost};
use crate::config::Config;
use crate::error::{ApiError, Code};
use crate::protocol::entry::{Body, RoomChange, RoomKind};
use crate::protocol::ids::{RoomId, Seq, UserId};
use crate::protocol::ops::{self, Create, Members, Ok as Success, PresencePush, Push, Request, Watch};
use crate::protocol::roomlog::not_found;
use crate::protocol::validate::Limits;
use crate::storage::ContactState;
use std::collections::HashSet;
use std::rc::Rc;
use xxhash_rust::xxh3::xxh3_64;

type Result<T> = std::result::Result<T, ApiError>;

/// The answer to a request whose time is over.
pub fn too_slow() -> ApiError {
    ApiError::new(Code::Timeout, "the request took too long; send it again (with the same client id, if it has one)")
}

/// The limits that requests are held against.
pub fn limits(config: &Config) -> Limits {
    let rooms = &config.rooms;
    Limits {
        text_bytes_max: rooms.text_bytes_max,
        data_bytes_max: rooms.data_bytes_max,
        mentions_max: rooms.mentions_max,
        attachments_max: rooms.attachments_max,
        members_max: rooms.group_members_max as usize,
    }
}

/// Answers a request that reads, or creates a room.
pub async fn read(node: &NodeContext, user: UserId, request: Request) -> Result<Success> {
    match request {
        Request::History(ask) => {
            let head = readable_head(node, user, ask.room).await?;
            let (messages, more) = reading::history(node, &ask, head).await.map_err(storage_error)?;
            let first = match more {
                true => None,
                false => Some(reading::floor(node, ask.room).await.map_err(storage_error)?).filter(|first| *first > 1),
            };
            Ok(Success { messages: Some(messages), more: Some(more), head: Some(head), first, ..Success::default() })
        }
        Request::Members(ask) => members(node, user, &ask).await,
        Request::Rooms(ask) => {
            let (offset, limit) = (ask.offset as usize, ask.limit.unwrap_or(50) as usize);
            let (rooms, more) = reading::room_list(node, user, offset, limit).await.map_err(storage_error)?;
            Ok(Success { rooms: Some(rooms), more: Some(more), ..Success::default() })
        }
        Request::Create(create) => self::create(node, user, create).await,
        _ => Err(ApiError::new(Code::UnknownOp, "not a request that reads")),
    }
}

/// The committed head of a room that the user may read. Asks the owner, without following the room.
pub async fn readable_head(node: &NodeContext, user: UserId, room: RoomId) -> Result<Seq> {
    let verdicts = node.router.look(user, room).await?;
    if verdicts.member {
        return Ok(verdicts.head);
    }
    // A channel's existence is public; what is hidden looks like what is not there (policy.rs).
    match in_time(node.store.rooms(&[room])).await.map_err(storage_error)?.pop().flatten() {
        Some(row) if row.kind == RoomKind::Channel => Err(ApiError::new(Code::Forbidden, "only members may read this channel")),
        _ => Err(not_found()),
    }
}

/// The kind of a room that the user may read.
pub async fn kind_for(node: &NodeContext, user: UserId, room: RoomId) -> Result<RoomKind> {
    readable_head(node, user, room).await?;
    if let Some(row) = in_time(node.store.rooms(&[room])).await.map_err(storage_error)?.pop().flatten() {
        return Ok(row.kind);
    }
    // So young that nothing of it was applied yet: its first entry says what it is.
    let first = reading::entries(node, room, 1, 1).await.map_err(storage_error)?;
    match first.first().map(|e| &e.body) {
        Some(Body::Room(RoomChange { kind: Some(kind), .. })) => Ok(*kind),
        _ => Err(not_found()),
    }
}

/// Members of a room that the user is in.
pub async fn members(node: &NodeContext, user: UserId, ask: &Members) -> Result<Success> {
    readable_head(node, user, ask.room).await?;
    let limit = ask.limit.unwrap_or(100) as usize;
    let (mut found, mut after) = (Vec::new(), ask.after.unwrap_or(UserId(0)));
    // Bans are kept beside memberships and are not members: read on until the page is full.
    loop {
        let page = in_time(node.store.members(ask.room, after, limit + 1)).await.map_err(storage_error)?;
        let full = page.len() > limit;
        after = page.last().map_or(after, |m| m.user);
        found.extend(page.into_iter().filter_map(|m| Some((m.user, m.role?, m.muted_until))));
        if !full || found.len() > limit {
            break;
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let ids: Vec<UserId> = found.iter().map(|(user, ..)| *user).collect();
    let users = in_time(node.store.users(&ids)).await.map_err(storage_error)?;
    let members = found
        .into_iter()
        .zip(users)
        .map(|((user, role, muted), row)| {
            let name = row.map_or_else(String::new, |r| r.name);
            ops::MemberShown { user, role, name, muted_until: reading::still_muted(muted) }
        })
        .collect();
    Ok(Success { members: Some(members), more: Some(more), ..Success::default() })
}

/// An error when one of the users does not exist.
pub async fn exists(node: &NodeContext, users: &[UserId]) -> Result<()> {
    let rows = in_time(node.store.users(users)).await.map_err(storage_error)?;
    match users.iter().zip(rows).find(|(_, row)| row.as_ref().is_none_or(|r| r.disabled)) {
        None => Ok(()),
        Some((user, _)) => Err(ApiError::new(Code::NotFound, format!("there is no user {user}"))),
    }
}

/// What must be true of the users concerned before a room decides: who does not exist cannot be brought in or put out, who blocks
/// the caller is not there to be brought in, and nobody is in more rooms than a resume tells of.
pub async fn may_be_asked(node: &NodeContext, user: UserId, request: &Request) -> Result<()> {
    match request {
        Request::Invite(r) => {
            exists(node, &[r.user]).await?;
            may_bring_in(node, user, r.user).await
        }
        Request::Ban(r) => exists(node, &[r.user]).await,
        Request::Join(_) => has_room(node, user, "you are in as many rooms as one may be").await,
        _ => Ok(()),
    }
}

/// An error when the user is in as many rooms as one may be.
pub async fn has_room(node: &NodeContext, user: UserId, or: &'static str) -> Result<()> {
    let max = node.config.rooms.rooms_per_user_max;
    let has = in_time(node.store.rooms_of(user, max)).await.map_err(storage_error)?.len();
    if has < max { Ok(()) } else { Err(ApiError::new(Code::Conflict, or)) }
}

/// Creates a room once per client id (a direct room: once per pair).
async fn create(node: &NodeContext, user: UserId, create: Create) -> Result<Success> {
    let mut create = create;
    create.members.retain(|member| *member != user);
    create.members.sort_unstable();
    create.members.dedup();
    if create.kind == RoomKind::Direct && create.members.len() != 1 {
        return Err(ApiError::new(Code::Conflict, "a direct room has exactly one other member, and that is not yourself"));
    }
    exists(node, &create.members).await?;
    for other in &create.members {
        may_bring_in(node, user, *other).await?;
    }
    has_room(node, user, "you are in as many rooms as one may be").await?;
    let fresh = RoomId(node.ids.one().await?);
    let room = match (create.kind, &create.members[..]) {
        (RoomKind::Direct, [other]) => in_time(node.store.claim_direct(user, *other, fresh)).await.map_err(storage_error)?,
        _ => {
            let hash = xxh3_64(&rmp_serde::to_vec(&(&create.kind, &create.name, &create.topic, &create.members)).unwrap_or_default());
            let claimed = in_time(node.store.claim_creation(user, create.cid, fresh, hash)).await.map_err(storage_error)?;
            if claimed.1 != hash {
                return Err(ApiError::new(Code::Conflict, "the client id was used to create another room"));
            }
            claimed.0
        }
    };
    let (reply, answer) = Reply::task();
    node.router.to_room(room, RoomMsg::Create { by: user, create: Box::new(create), reply });
    let answer = answer.await.map_err(|_| lost())??;
    Ok(Success { room: Some(room), seq: answer.seq, n: answer.n, id: answer.id, at: answer.at, ..Success::default() })
}

/// A user who blocks the caller looks like one who does not exist.
async fn may_bring_in(node: &NodeContext, user: UserId, other: UserId) -> Result<()> {
    let state = in_time(node.store.contact_states(other, &[user])).await.map_err(storage_error)?.pop().flatten();
    match state {
        Some(ContactState::Blocked) => Err(ApiError::new(Code::NotFound, format!("there is no user {other}"))),
        _ => has_room(node, other, "somebody of these is in as many rooms as one may be").await,
    }
}

/// Stores the user's status text and tells contacts.
pub async fn set_status(node: &NodeContext, user: UserId, status: Option<String>) -> Result<Success> {
    let Some(status) = status else { return Ok(Success::default()) };
    for _ in 0..8 {
        let Some(row) = in_time(node.store.user(user)).await.map_err(storage_error)? else { return Err(not_found()) };
        let next = crate::storage::UserRow { status: status.clone(), ..row.clone() };
        if in_time(node.store.replace_user(&row, next)).await.map_err(storage_error)? {
            node.router.to_presence(user, PresenceMsg::Status(status));
            return Ok(Success::default());
        }
    }
    Err(ApiError::new(Code::Busy, "the account is being changed; try again"))
}

/// Begins or ends watching contacts.
pub async fn watch(hub: &Rc<Hub>, seat: &Rc<Seat>, watch: &Watch) -> Result<Success> {
    let (node, me) = (&hub.node, seat.user.get());
    if !watch.on {
        for user in &watch.users {
            unwatch(hub, seat, *user);
        }
        return Ok(Success::default());
    }
    let users = contacts_of(node, me, &watch.users).await?;
    Ok(Success { presence: Some(begin_watching(hub, seat, &users).await?), ..Success::default() })
}

/// Begins to watch users who were contacts a moment ago; what those are who still are. A removal that came in between had nothing to
/// unwatch when this session was told of it, so it is looked for once more.
pub async fn begin_watching(hub: &Rc<Hub>, seat: &Rc<Seat>, users: &[UserId]) -> Result<Vec<PresencePush>> {
    let (node, me) = (&hub.node, seat.user.get());
    seat.watching.borrow_mut().extend(users.iter().copied());
    let mut presence = node.router.watch(node.placement.me(), me, hub.index, users).await;
    // Where that cannot be known, nobody is watched: the client asks again.
    let still: HashSet<UserId> = match contacts_of(node, me, users).await {
        Ok(still) => still.into_iter().collect(),
        Err(error) => {
            users.iter().for_each(|user| unwatch(hub, seat, *user));
            return Err(error);
        }
    };
    users.iter().filter(|user| !still.contains(user)).for_each(|gone| unwatch(hub, seat, *gone));
    presence.retain(|push| still.contains(&push.user));
    Ok(presence)
}

/// Those of `users` who are accepted contacts.
async fn contacts_of(node: &NodeContext, me: UserId, users: &[UserId]) -> Result<Vec<UserId>> {
    let states = in_time(node.store.contact_states(me, users)).await.map_err(storage_error)?;
    let accepted = |s: &Option<ContactState>| *s == Some(ContactState::Accepted);
    Ok(users.iter().zip(states).filter(|(_, s)| accepted(s)).map(|(u, _)| *u).collect())
}

fn unwatch(hub: &Rc<Hub>, seat: &Rc<Seat>, user: UserId) {
    if seat.watching.borrow_mut().remove(&user) && !hub.watched(seat.user.get(), user) {
        let place = (hub.node.placement.me(), hub.index);
        hub.node.router.to_presence(user, PresenceMsg::Unwatch { watcher: seat.user.get(), hub: Some(place) });
    }
}

/// The user and another became contacts, or are no longer: watch, or stop.
pub async fn contact_changed(hub: &Rc<Hub>, seat: &Rc<Seat>, other: UserId, may_watch: bool) {
    let (node, me) = (&hub.node, seat.user.get());
    match contacts_of(node, me, &[other]).await {
        Err(_) => return,
        Ok(contacts) if contacts.is_empty() => return unwatch(hub, seat, other),
        Ok(_) if !may_watch => return,
        Ok(_) => {}
    }
    for push in begin_watching(hub, seat, &[other]).await.unwrap_or_default() {
        seat.push(&Push::Presence(push));
    }
}
