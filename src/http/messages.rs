//! Messages of a room: history, sending, changing, reacting, pinning, threads, who has read; and the entries of its log as they are.
//!
//! A message is addressed by its seq. What is written goes through the room and is done once, as on a socket: with an
//! `Idempotency-Key` or a `cid` of one's own, a repeat gets the first answer again.

use super::Api;
use super::auth::SignedIn;
use super::error::Body;
use super::etag::{Conditions, IfMatchHeader, IfNoneMatchHeader};
use super::idempotency::{Key, KeyHeader};
use super::page::{Page, PageQuery};
use super::rooms::{Node, ask, change_if, done, fresh};
use crate::actors::looking::{self, Named, Stretch};
use crate::error::{ApiError, Code};
use crate::protocol::entry::{Attachment, Entry, Opaque};
use crate::protocol::ids::{ClientId, MessageId, Millis, RoomId, Seq, UserId};
use crate::protocol::ops::{self, EditMessage, History, OnMessage, PinMessage, ReactTo, Receipt, Request, Send, Shown};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;
use utoipa::{IntoParams, OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(history, send, read, edit, delete, react, unreact, pin, unpin, thread, readers, receipts, pins, entries))]
pub struct Docs;

/// A message of a room.
type Place = web::Path<(RoomId, Seq)>;

/// Which messages: at most one of `before`, `after` and `around`; none is "the newest".
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Window {
    /// Messages with a smaller seq.
    before: Option<Seq>,
    /// Messages with a greater seq.
    after: Option<Seq>,
    /// Messages on both sides of this seq, and the one at it.
    around: Option<Seq>,
    /// How many messages at most, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// A page of a room's messages, in the order of the log.
#[derive(Serialize, ToSchema)]
struct Messages {
    /// The messages as they are now.
    items: Vec<Shown>,
    /// The room's committed head when they were read.
    head: Seq,
    /// There is more in the direction asked for.
    more: bool,
    /// The first seq that is still kept, where older ones are not and the page goes as far back as it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Seq>,
}

/// Messages of a room.
#[utoipa::path(get, path = "/v1/rooms/{room}/messages", params(("room" = RoomId, Path), Window),
    responses((status = 200, description = "a page of them", body = Messages)))]
pub async fn history(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    room: web::Path<RoomId>,
    window: web::Query<Window>,
) -> Result<HttpResponse, ApiError> {
    let Window { before, after, around, limit } = window.into_inner();
    node.router.settle(*room).await;
    let page = ask(&api, &me, Request::History(History { room: *room, before, after, around, limit })).await?;
    let (items, head, more) = (page.messages.unwrap_or_default(), page.head.unwrap_or_default(), page.more == Some(true));
    Ok(HttpResponse::Ok().json(Messages { items, head, more, first: page.first }))
}

/// A message to be sent; one of `text`, `attachments` and `data` must be there.
#[derive(Deserialize, ToSchema)]
pub struct NewMessage {
    /// The text.
    #[serde(default)]
    text: String,
    /// The seq of the message that it answers.
    #[schema(value_type = Option<u64>, minimum = 1)]
    reply_to: Option<Seq>,
    /// The seq of the message whose thread it belongs to.
    #[schema(value_type = Option<u64>, minimum = 1)]
    thread: Option<Seq>,
    /// Members to mention.
    #[serde(default)]
    mentions: Vec<UserId>,
    /// Files.
    #[serde(default)]
    attachments: Vec<Attachment>,
    /// Anything else, never looked into.
    data: Option<Opaque>,
    /// A client id of one's own, the same in every repeat.
    cid: Option<ClientId>,
    /// With `cid`: the last seq of the room that one had seen when the message was first sent.
    since: Option<Seq>,
}

/// Who is named twice is named once.
fn each_once(mut users: Vec<UserId>) -> Vec<UserId> {
    let mut seen = HashSet::with_capacity(users.len());
    users.retain(|user| seen.insert(*user));
    users
}

/// Where a message is.
#[derive(Serialize, ToSchema)]
struct Sent {
    room: RoomId,
    /// Its place in the room's log.
    seq: Seq,
    /// Messages in the room up to it.
    n: u64,
    id: MessageId,
    /// When it was numbered.
    at: Millis,
}

/// Sends a message.
#[utoipa::path(post, path = "/v1/rooms/{room}/messages", params(("room" = RoomId, Path), KeyHeader), request_body = NewMessage,
    responses((status = 201, description = "sent, and stored durably", body = Sent)))]
pub async fn send(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    key: Key,
    room: web::Path<RoomId>,
    Body(new): Body<NewMessage>,
) -> Result<HttpResponse, ApiError> {
    let (room, user, at) = (*room, me.user.user, api.clone());
    // Nothing that was sent under a fresh client id can lie before the head of now.
    let (own, head) = (new.cid, async move { looking::head(&node, user, room).await });
    let since = async move { if own.is_some() { Ok(0) } else { head.await } };
    key.once(&api, user, since, move |attempt| async move {
        let NewMessage { text, reply_to, thread, mentions, attachments, data, cid, since } = new;
        let mentions = each_once(mentions);
        let (cid, since) = cid.map_or((attempt.cid, attempt.since), |cid| (cid, since.unwrap_or(0)));
        let sent = ask(&at, &me, Request::Send(Send { room, cid, since, text, reply_to, thread, mentions, attachments, data })).await?;
        let place = format!("/v1/rooms/{room}/messages/{}", sent.seq.unwrap_or_default());
        Ok(HttpResponse::Created().insert_header((actix_web::http::header::LOCATION, place)).json(where_it_is(room, sent)))
    })
    .await
}

fn where_it_is(room: RoomId, sent: ops::Ok) -> Sent {
    let ops::Ok { seq, n, id, at, .. } = sent;
    Sent { room, seq: seq.unwrap_or_default(), n: n.unwrap_or_default(), id: id.unwrap_or_default(), at: at.unwrap_or_default() }
}

/// A message as it is now.
#[utoipa::path(get, path = "/v1/rooms/{room}/messages/{seq}", params(("room" = RoomId, Path), ("seq" = u64, Path, minimum = 1), IfNoneMatchHeader),
    responses((status = 200, description = "the message", body = Shown), (status = 304, description = "as before")))]
pub async fn read(node: Node, me: SignedIn, when: Conditions, place: Place) -> Result<HttpResponse, ApiError> {
    let (room, seq) = *place;
    Ok(when.show(&looking::message(&node, me.user.user, room, seq).await?))
}

/// A message's new text.
#[derive(Deserialize, ToSchema)]
pub struct NewText {
    /// The text from now on.
    text: String,
    /// Who is mentioned from now on.
    #[serde(default)]
    mentions: Vec<UserId>,
}

/// Changes the text of one's own message.
#[utoipa::path(patch, path = "/v1/rooms/{room}/messages/{seq}", params(("room" = RoomId, Path), ("seq" = u64, Path, minimum = 1), IfMatchHeader),
    request_body = NewText, responses((status = 200, description = "the message as it is now", body = Shown)))]
pub async fn edit(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    when: Conditions,
    place: Place,
    Body(new): Body<NewText>,
) -> Result<HttpResponse, ApiError> {
    let (room, seq) = *place;
    let (text, mentions) = (new.text, each_once(new.mentions));
    let read = async || looking::message(&node, me.user.user, room, seq).await;
    let edit = |cid, since| Request::Edit(EditMessage { room, seq, text: text.clone(), mentions: mentions.clone(), cid, since });
    change_if((&api, &node, &me, &when), room, read, edit).await?;
    Ok(Conditions::default().show(&read().await?))
}

/// Deletes a message: one's own, or as moderator. A tombstone stays in its place.
#[utoipa::path(delete, path = "/v1/rooms/{room}/messages/{seq}", params(("room" = RoomId, Path), ("seq" = u64, Path, minimum = 1)),
    responses((status = 204, description = "deleted")))]
pub async fn delete(api: web::Data<Api>, node: Node, me: SignedIn, place: Place) -> Result<HttpResponse, ApiError> {
    let (room, seq) = *place;
    let (cid, since) = fresh(&node, &me, room).await?;
    match ask(&api, &me, Request::Delete(OnMessage { room, seq, cid, since })).await {
        // It is deleted already.
        Err(error) if error.code == Code::Conflict => Ok(HttpResponse::NoContent().finish()),
        other => other.map(done),
    }
}

async fn reaction(
    api: &Api,
    node: &Node,
    me: &SignedIn,
    place: web::Path<(RoomId, Seq, String)>,
    on: bool,
) -> Result<HttpResponse, ApiError> {
    let (room, seq, emoji) = place.into_inner();
    let (cid, since) = fresh(node, me, room).await?;
    ask(api, me, Request::React(ReactTo { room, seq, emoji, on, cid, since })).await.map(done)
}

/// Adds a reaction.
#[utoipa::path(put, path = "/v1/rooms/{room}/messages/{seq}/reactions/{emoji}",
    params(("room" = RoomId, Path), ("seq" = u64, Path, minimum = 1), ("emoji" = String, Path, pattern = r"^[^\s\x00-\x1f\x7f-\x9f]{1,64}$", description = "an emoji or a short name")),
    responses((status = 204, description = "one reacts so")))]
pub async fn react(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    place: web::Path<(RoomId, Seq, String)>,
) -> Result<HttpResponse, ApiError> {
    reaction(&api, &node, &me, place, true).await
}

/// Takes a reaction back.
#[utoipa::path(delete, path = "/v1/rooms/{room}/messages/{seq}/reactions/{emoji}",
    params(("room" = RoomId, Path), ("seq" = u64, Path, minimum = 1), ("emoji" = String, Path, pattern = r"^[^\s\x00-\x1f\x7f-\x9f]{1,64}$", description = "as it was added")),
    responses((status = 204, description = "one does not react so")))]
pub async fn unreact(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    place: web::Path<(RoomId, Seq, String)>,
) -> Result<HttpResponse, ApiError> {
    reaction(&api, &node, &me, place, false).await
}

async fn pinned(api: &Api, node: &Node, me: &SignedIn, place: &Place, on: bool) -> Result<HttpResponse, ApiError> {
    let (room, seq) = **place;
    let (cid, since) = fresh(node, me, room).await?;
    ask(api, me, Request::Pin(PinMessage { room, seq, on, cid, since })).await.map(done)
}

/// Pins a message.
#[utoipa::path(put, path = "/v1/rooms/{room}/messages/{seq}/pin", params(("room" = RoomId, Path), ("seq" = u64, Path, minimum = 1)),
    responses((status = 204, description = "pinned")))]
pub async fn pin(api: web::Data<Api>, node: Node, me: SignedIn, place: Place) -> Result<HttpResponse, ApiError> {
    pinned(&api, &node, &me, &place, true).await
}

/// Unpins a message.
#[utoipa::path(delete, path = "/v1/rooms/{room}/messages/{seq}/pin", params(("room" = RoomId, Path), ("seq" = u64, Path, minimum = 1)),
    responses((status = 204, description = "not pinned")))]
pub async fn unpin(api: web::Data<Api>, node: Node, me: SignedIn, place: Place) -> Result<HttpResponse, ApiError> {
    pinned(&api, &node, &me, &place, false).await
}

/// Messages of a thread, oldest first. A page may be short, or empty, and still have a `next`.
#[utoipa::path(get, path = "/v1/rooms/{room}/messages/{seq}/thread", params(("room" = RoomId, Path), ("seq" = u64, Path, minimum = 1), PageQuery),
    responses((status = 200, description = "a page of them", body = Page<Shown>)))]
pub async fn thread(node: Node, me: SignedIn, place: Place, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let (shown, next) = looking::thread(&node, me.user.user, *place, page.place()?, page.limit()?).await?;
    Ok(HttpResponse::Ok().json(Page::new(shown, next)))
}

/// Who has read a message, its author aside; only in rooms of few members (100, unless the operator chose otherwise).
#[utoipa::path(get, path = "/v1/rooms/{room}/messages/{seq}/readers", params(("room" = RoomId, Path), ("seq" = u64, Path, minimum = 1)),
    responses((status = 200, description = "all of them", body = Page<Named>)))]
pub async fn readers(node: Node, me: SignedIn, place: Place) -> Result<HttpResponse, ApiError> {
    let (room, seq) = *place;
    Ok(HttpResponse::Ok().json(Page::new(looking::readers(&node, me.user.user, room, seq).await?, None::<()>)))
}

/// How far the other members have read and received; nobody in rooms too large for receipts.
#[utoipa::path(get, path = "/v1/rooms/{room}/receipts", params(("room" = RoomId, Path)),
    responses((status = 200, description = "all of them", body = Page<Receipt>)))]
pub async fn receipts(node: Node, me: SignedIn, room: web::Path<RoomId>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(Page::new(looking::receipts(&node, me.user.user, *room).await?, None::<()>)))
}

/// Pinned messages, oldest first.
#[utoipa::path(get, path = "/v1/rooms/{room}/pins", params(("room" = RoomId, Path), PageQuery),
    responses((status = 200, description = "a page of them", body = Page<Shown>)))]
pub async fn pins(node: Node, me: SignedIn, room: web::Path<RoomId>, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let (shown, next) = looking::pins(&node, me.user.user, *room, page.place()?.unwrap_or(0), page.limit()?).await?;
    Ok(HttpResponse::Ok().json(Page::new(shown, next)))
}

/// After which entry.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// Entries with a greater seq; everything when absent.
    after: Option<Seq>,
}

/// A page of a room's log.
#[derive(Serialize, ToSchema)]
#[schema(as = EntryPage)]
struct EntryPage {
    #[serde(flatten)]
    page: Page<Entry>,
    /// The first seq that is still kept, where entries that were asked for are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Seq>,
}

/// Entries of the room's log, in order: all that happened in it, for a program that polls. It goes on from the `seq` of the last one.
#[utoipa::path(get, path = "/v1/rooms/{room}/entries", params(("room" = RoomId, Path), After, PageQuery),
    responses((status = 200, description = "a page of them", body = EntryPage)))]
pub async fn entries(
    node: Node,
    me: SignedIn,
    room: web::Path<RoomId>,
    after: web::Query<After>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiError> {
    let from = page.place()?.or(after.after).unwrap_or(0);
    let Stretch { entries, next, first } = looking::entries(&node, me.user.user, *room, from, page.limit()?).await?;
    let items = entries.into_iter().map(Arc::unwrap_or_clone).collect();
    Ok(HttpResponse::Ok().json(EntryPage { page: Page::new(items, next), first }))
}
