//! Rooms: one's list, opening one, its settings, coming and going, one's cursors.
//!
//! Everything that others must see is asked of the room (`NodePort::ask`), with the answer of a socket. What is read is read after the
//! room's last change was applied.

use super::Api;
use super::auth::SignedIn;
use super::error::Body;
use super::etag::{Conditions, IfMatchHeader, IfNoneMatchHeader};
use super::idempotency::{Key, KeyHeader};
use super::page::{Page, PageQuery};
use crate::actors::looking;
use crate::actors::node::NodeContext;
use crate::actors::reading;
use crate::actors::room::storage_error;
use crate::auth::failed;
use crate::error::{ApiError, Code};
use crate::protocol::entry::{Caller, RoomKind};
use crate::protocol::ids::{ClientId, RoomId, Seq, UserId};
use crate::protocol::ops::{self, Create, InRoom, MoveCursor, OnMember, Request, RoomSummary, UpdateRoom};
use crate::push::levels::Notify;
use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(list, create, read, change, join, leave, transfer, cursor, move_cursor))]
pub struct Docs;

/// Looks at a thing before a conditional change, in a room where much happens.
const CHANGE_TRIES: usize = 32;
/// When it may be tried again after as many.
const CHANGE_PAUSE: Duration = Duration::from_secs(1);

/// The node's rooms, for reading.
pub type Node = web::Data<NodeContext>;

/// A request to a room, as the user's device would make it.
pub async fn ask(api: &Api, me: &SignedIn, request: Request) -> Result<ops::Ok, ApiError> {
    api.node.ask(Caller { user: me.user.user, device: me.claims.device }, request).await
}

/// Asks a room for a change that the request's conditions allow of the thing as `read` shows it. Nothing happens in the room between that
/// look and the change, or it is looked at again: of two who have seen the same one changes it.
pub async fn change_if<T: Serialize>(
    (api, node, me, when): (&Api, &Node, &SignedIn, &Conditions),
    room: RoomId,
    read: impl AsyncFn() -> Result<T, ApiError>,
    request: impl Fn(ClientId, Seq) -> Request,
) -> Result<ops::Ok, ApiError> {
    let caller = Caller { user: me.user.user, device: me.claims.device };
    for _ in 0..CHANGE_TRIES {
        let (cid, since) = fresh(node, me, room).await?;
        when.allow(&read().await?)?;
        let only_at = when.is_conditional().then_some(since);
        match api.node.ask_at(caller, request(cid, since), only_at).await {
            Err(error) if error.code == Code::PreconditionFailed => {}
            done => return done,
        }
    }
    Err(ApiError::after(Code::Busy, "too much happens in this room just now to change only what you have seen", CHANGE_PAUSE))
}

/// A fresh client id, and the room's head: nothing before it can have been made under that id.
pub async fn fresh(node: &Node, me: &SignedIn, room: RoomId) -> Result<(ClientId, Seq), ApiError> {
    Ok((ClientId::fresh(), looking::head(node, me.user.user, room).await?))
}

/// A room as one's list shows it, and how much of it one is told of.
#[derive(Serialize, ToSchema)]
pub struct RoomShown {
    #[serde(flatten)]
    room: RoomSummary,
    /// How much of it one is told of by push.
    notify: Notify,
}

/// A room that the user is in.
pub async fn shown(api: &Api, node: &Node, user: UserId, room: RoomId) -> Result<RoomShown, ApiError> {
    let room = looking::room(node, user, room).await?;
    let notify = api.pushes.levels.of(user, room.room, room.kind).await.map_err(failed)?;
    Ok(RoomShown { room, notify })
}

/// An answer without content, once it is done.
pub fn done(_: ops::Ok) -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// One's rooms, newest activity first. A room that becomes active while one turns the pages moves to the first one.
#[utoipa::path(get, path = "/v1/rooms", params(PageQuery), responses((status = 200, description = "a page of them", body = Page<RoomShown>)))]
pub async fn list(api: web::Data<Api>, node: Node, me: SignedIn, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let (limit, place) = (page.limit()?, page.place()?);
    let (rooms, next) = reading::rooms_before(&node, me.user.user, place, limit).await.map_err(storage_error)?;
    let mut levels = api.pushes.levels.set_by(me.user.user, api.config.rooms.rooms_per_user_max).await.map_err(failed)?;
    let mut with_level = |room: RoomSummary| {
        let notify = levels.remove(&room.room).unwrap_or_else(|| Notify::default_of(room.kind));
        RoomShown { room, notify }
    };
    Ok(HttpResponse::Ok().json(Page::new(rooms, next).map(&mut with_level)))
}

/// A room to be opened.
#[derive(Deserialize, ToSchema)]
pub struct NewRoom {
    /// The kind.
    kind: RoomKind,
    /// Name to show, 1 to 100 characters; not for direct rooms, which have none.
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$")]
    name: Option<String>,
    /// What it is about, at most 1,000 characters; not for direct rooms.
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f]*$")]
    topic: Option<String>,
    /// Who else is in it: exactly one for a direct room.
    #[serde(default)]
    members: Vec<UserId>,
}

/// Opens a room, or finds the direct room of a pair.
#[utoipa::path(post, path = "/v1/rooms", params(KeyHeader), request_body = NewRoom,
    responses((status = 201, description = "a new room", body = RoomShown), (status = 200, description = "the direct room that was there", body = RoomShown)))]
pub async fn create(api: web::Data<Api>, node: Node, me: SignedIn, key: Key, Body(new): Body<NewRoom>) -> Result<HttpResponse, ApiError> {
    let (user, at) = (me.user.user, api.clone());
    key.once(&api, user, async { Ok(0) }, move |attempt| async move {
        let NewRoom { kind, name, topic, mut members } = new;
        members.sort_unstable();
        members.dedup();
        let made = ask(&at, &me, Request::Create(Create { kind, name, topic, members, cid: attempt.cid })).await?;
        let room = shown(&at, &node, user, made.room.unwrap_or_default()).await?;
        let mut response = if made.seq.is_some() { HttpResponse::Created() } else { HttpResponse::Ok() };
        Ok(response.insert_header((header::LOCATION, format!("/v1/rooms/{}", room.room.room))).json(room))
    })
    .await
}

/// A room that one is in.
#[utoipa::path(get, path = "/v1/rooms/{room}", params(("room" = RoomId, Path), IfNoneMatchHeader),
    responses((status = 200, description = "the room", body = RoomShown), (status = 304, description = "as before")))]
pub async fn read(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    when: Conditions,
    room: web::Path<RoomId>,
) -> Result<HttpResponse, ApiError> {
    Ok(when.show(&shown(&api, &node, me.user.user, *room).await?))
}

/// What of a room is to change; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub struct RoomChanges {
    /// Name to show.
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$")]
    name: Option<String>,
    /// What it is about.
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f]*$")]
    topic: Option<String>,
    /// Seconds that a member below moderator waits between two messages, at most 21,600; 0: none.
    #[schema(maximum = 21600)]
    slow_mode_s: Option<u32>,
    /// Ends all writing, or lets it go on.
    archived: Option<bool>,
    /// Takes a channel out of the directory, or puts it back.
    unlisted: Option<bool>,
}

/// Changes a room's settings.
#[utoipa::path(patch, path = "/v1/rooms/{room}", params(("room" = RoomId, Path), IfMatchHeader), request_body = RoomChanges,
    responses((status = 200, description = "the room as it is now", body = RoomShown)))]
pub async fn change(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    when: Conditions,
    room: web::Path<RoomId>,
    Body(changes): Body<RoomChanges>,
) -> Result<HttpResponse, ApiError> {
    let (room, read) = (*room, async || shown(&api, &node, me.user.user, *room).await);
    if changes == RoomChanges::default() {
        when.allow(&read().await?)?;
    } else {
        let update = |cid, since| {
            let RoomChanges { name, topic, slow_mode_s, archived, unlisted } = changes.clone();
            Request::Update(UpdateRoom { room, name, topic, slow_mode_s, archived, unlisted, cid, since })
        };
        change_if((&api, &node, &me, &when), room, read, update).await?;
    }
    Ok(Conditions::default().show(&read().await?))
}

/// Joins a channel. Who is in already stays in.
#[utoipa::path(post, path = "/v1/rooms/{room}/join", params(("room" = RoomId, Path)),
    responses((status = 200, description = "the channel", body = RoomShown)))]
pub async fn join(api: web::Data<Api>, node: Node, me: SignedIn, room: web::Path<RoomId>) -> Result<HttpResponse, ApiError> {
    let (cid, since) = fresh(&node, &me, *room).await?;
    ask(&api, &me, Request::Join(InRoom { room: *room, cid, since })).await?;
    Ok(HttpResponse::Ok().json(shown(&api, &node, me.user.user, *room).await?))
}

/// Leaves a room.
#[utoipa::path(post, path = "/v1/rooms/{room}/leave", params(("room" = RoomId, Path)), responses((status = 204, description = "out")))]
pub async fn leave(api: web::Data<Api>, node: Node, me: SignedIn, room: web::Path<RoomId>) -> Result<HttpResponse, ApiError> {
    let (cid, since) = fresh(&node, &me, *room).await?;
    ask(&api, &me, Request::Leave(InRoom { room: *room, cid, since })).await.map(done)
}

/// A user.
#[derive(Deserialize, ToSchema)]
pub struct Whom {
    /// Who.
    user: UserId,
}

/// Makes a member the owner in one's own place; the owner until now is an admin from here on.
#[utoipa::path(post, path = "/v1/rooms/{room}/transfer", params(("room" = RoomId, Path)), request_body = Whom,
    responses((status = 204, description = "the room has another owner")))]
pub async fn transfer(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    room: web::Path<RoomId>,
    Body(to): Body<Whom>,
) -> Result<HttpResponse, ApiError> {
    let (cid, since) = fresh(&node, &me, *room).await?;
    ask(&api, &me, Request::Transfer(OnMember { room: *room, user: to.user, cid, since })).await.map(done)
}

/// One's cursors in a room.
#[derive(Serialize, ToSchema)]
struct Cursors {
    room: RoomId,
    /// Everything up to this seq was read.
    read: Seq,
    /// Everything up to this seq has arrived.
    delivered: Seq,
}

/// How far one has read.
#[utoipa::path(get, path = "/v1/rooms/{room}/cursor", params(("room" = RoomId, Path), IfNoneMatchHeader),
    responses((status = 200, description = "one's cursors", body = Cursors), (status = 304, description = "as before")))]
pub async fn cursor(node: Node, me: SignedIn, when: Conditions, room: web::Path<RoomId>) -> Result<HttpResponse, ApiError> {
    let row = looking::cursor(&node, me.user.user, *room).await?;
    Ok(when.show(&Cursors { room: *room, read: row.read, delivered: row.delivered }))
}

/// Where one's cursors are to be.
#[derive(Deserialize, ToSchema)]
pub struct Moved {
    /// Everything up to this seq was read.
    read: Option<Seq>,
    /// Everything up to this seq has arrived.
    delivered: Option<Seq>,
}

/// Moves one's cursors forward; backward is ignored, and so is what lies beyond the room's head.
#[utoipa::path(put, path = "/v1/rooms/{room}/cursor", params(("room" = RoomId, Path)), request_body = Moved,
    responses((status = 200, description = "one's cursors now", body = Cursors)))]
pub async fn move_cursor(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    room: web::Path<RoomId>,
    Body(to): Body<Moved>,
) -> Result<HttpResponse, ApiError> {
    if to.read.is_some() || to.delivered.is_some() {
        ask(&api, &me, Request::Cursor(MoveCursor { room: *room, read: to.read, delivered: to.delivered })).await?;
    }
    let row = looking::cursor(&node, me.user.user, *room).await?;
    Ok(HttpResponse::Ok().json(Cursors { room: *room, read: row.read, delivered: row.delivered }))
}
