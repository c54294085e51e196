//! Incoming webhooks: an address that posts into one room, for programs that can send JSON and nothing else.
//!
//! The address holds the secret, which is shown once and kept as a hash. What is posted is written by a bot of the webhook's own, a member of the room as
//! any other: whoever may put members out can put it out. A webhook that was revoked and one that never was look alike.

use super::Api;
use super::error::Body;
use super::idempotency::{Key, KeyHeader};
use super::page::{Page, PageQuery};
use super::scopes::Keeper;
use crate::auth::issuers::Person;
use crate::auth::{failed, now};
use crate::error::{ApiError, Code};
use crate::protocol::entry::{Caller, RoomKind};
use crate::protocol::ids::{ClientId, DeviceId, MessageId, Millis, RoomId, Seq, UserId};
use crate::protocol::ops::{InRoom, OnMember, Request, Send};
use crate::webhooks::incoming::Incoming;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(list, create, revoke, post))]
pub struct Docs;

/// Bytes of a name that a post shows.
const USERNAME_BYTES_MAX: usize = 100;

/// An incoming webhook.
#[derive(Serialize, ToSchema)]
#[schema(as = IncomingHook)]
struct Hook {
    id: String,
    /// For people; its bot is called after it.
    name: String,
    /// Where it posts.
    room: RoomId,
    /// The bot that it posts as.
    user: UserId,
    created: Millis,
    /// Where to post to: `POST` this path on the clients' listener. Only in the answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl Hook {
    fn of(hook: &Incoming, secret: Option<&str>) -> Hook {
        let path = secret.map(|secret| format!("/v1/hooks/{}/{secret}", hook.id));
        Hook { id: hook.id.to_string(), name: hook.name.clone(), room: hook.room, user: hook.user, created: hook.created, path }
    }
}

/// An incoming webhook that is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewIncomingHook)]
pub struct New {
    /// Where it posts.
    room: RoomId,
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// What is to be posted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IncomingPost)]
pub struct Post {
    /// The text.
    text: String,
    /// Who it is from; shown in the message's `data` as `username`.
    #[serde(default)]
    #[schema(max_length = 100)]
    username: Option<String>,
    /// Whatever else the message is to carry.
    #[serde(default)]
    data: Option<Map<String, Value>>,
}

/// The message that was posted.
#[derive(Serialize, ToSchema)]
#[schema(as = IncomingPosted)]
struct Posted {
    room: RoomId,
    seq: Seq,
    n: u64,
    id: MessageId,
    at: Millis,
}

/// All incoming webhooks, the oldest first.
#[utoipa::path(get, path = "/v1/incoming-hooks", params(PageQuery),
    responses((status = 200, description = "incoming webhooks", body = Page<Hook>)))]
pub async fn list(_keeper: Keeper, api: web::Data<Api>, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let (limit, after) = (page.limit()?, page.place::<u64>()?);
    let hooks = api.incoming.list(after, limit + 1).await?;
    Ok(HttpResponse::Ok().json(Page::of(hooks, limit, |hook| hook.id).map(|hook| Hook::of(&hook, None))))
}

/// Makes an incoming webhook, its bot, and the bot a member of the room. Its address is in this answer and in no other.
#[utoipa::path(post, path = "/v1/incoming-hooks", request_body = New, responses((status = 201, description = "made", body = Hook)))]
pub async fn create(_keeper: Keeper, api: web::Data<Api>, Body(new): Body<New>) -> Result<HttpResponse, ApiError> {
    let New { room, name } = new;
    let row = api.room(room).await?;
    let kind = row.ok_or_else(|| ApiError::new(Code::NotFound, "no such room"))?.kind;
    if kind == RoomKind::Direct {
        return Err(ApiError::new(Code::Invalid, "room: a direct room has two members and takes no more"));
    }
    api.incoming.has_room(&name).await?;
    let bot = UserId(api.node.next_id().await?);
    let person = Person { name: Some(name.clone()), display_name: Some(name.clone()), avatar_url: None };
    let made = api.verifier.subjects().make(bot, &person, true).await?;
    made.ok_or_else(|| ApiError::new(Code::Unavailable, "the id of the bot is taken; try again"))?;
    bring_in(&api, room, kind, bot).await?;
    let id = api.node.next_id().await?;
    let (hook, secret) = api.incoming.create(id, &name, room, bot, now()).await?;
    Ok(HttpResponse::Created().json(Hook::of(&hook, Some(&secret))))
}

/// Makes the bot a member: it comes into a channel by itself, and into a group by the server, for no member did it.
async fn bring_in(api: &Api, room: RoomId, kind: RoomKind, bot: UserId) -> Result<(), ApiError> {
    let cid = ClientId::fresh();
    let since = head(api, room).await?;
    let (by, request) = match kind {
        RoomKind::Channel => (bot, Request::Join(InRoom { room, cid, since })),
        _ => (UserId::SERVER, Request::Invite(OnMember { room, user: bot, cid, since }.into())),
    };
    api.node.ask(Caller { user: by, device: DeviceId(0) }, request).await.map(drop)
}

/// A seq that is in the room already; not the newest one perhaps, but near.
async fn head(api: &Api, room: RoomId) -> Result<Seq, ApiError> {
    Ok(api.room(room).await?.map_or(0, |row| row.applied))
}

/// Revokes an incoming webhook. Its bot leaves the room.
#[utoipa::path(delete, path = "/v1/incoming-hooks/{id}", params(("id" = u64, Path)), responses((status = 204, description = "gone")))]
pub async fn revoke(_keeper: Keeper, api: web::Data<Api>, id: web::Path<u64>) -> Result<HttpResponse, ApiError> {
    let hook = api.incoming.revoke(*id).await?;
    let leave = Request::Leave(InRoom { room: hook.room, cid: ClientId::fresh(), since: head(&api, hook.room).await? });
    // The address is dead already; a bot that is out, or cannot leave now, changes nothing about that.
    if let Err(error) = api.node.ask(Caller { user: hook.user, device: DeviceId(0) }, leave).await {
        tracing::debug!(%error, "the bot of a revoked webhook did not leave its room");
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Posts into the webhook's room.
#[utoipa::path(post, path = "/v1/hooks/{id}/{secret}", security(()), params(("id" = u64, Path), ("secret" = String, Path), KeyHeader),
    request_body = Post, responses((status = 201, description = "posted", body = Posted)))]
pub async fn post(api: web::Data<Api>, at: web::Path<(u64, String)>, key: Key, Body(post): Body<Post>) -> Result<HttpResponse, ApiError> {
    let hook = api.incoming.verify(at.0, &at.1).await?;
    api.limits.hook(hook.id)?;
    let bot = api.store.user(hook.user).await.map_err(failed)?;
    if bot.is_none_or(|bot| bot.disabled) {
        return Err(ApiError::new(Code::Forbidden, "the account of this webhook is disabled"));
    }
    let data = data(post.username, post.data)?;
    let (shared, text, since) = (api.clone(), post.text, head(&api, hook.room));
    key.once(&api, hook.user, since, move |attempt| async move {
        let caller = Caller { user: hook.user, device: DeviceId(hook.id) };
        let send = Send { cid: attempt.cid, data, ..Send::text(hook.room, attempt.since, text) };
        let ok = shared.node.ask(caller, Request::Send(send)).await?;
        let odd = || ApiError::new(Code::Internal, "the room's answer names no message");
        let (Some(seq), Some(n), Some(id), Some(at)) = (ok.seq, ok.n, ok.id, ok.at) else { return Err(odd()) };
        Ok(HttpResponse::Created().json(Posted { room: hook.room, seq, n, id, at }))
    })
    .await
}

/// What the message carries: what was given, and the name beside it.
fn data(username: Option<String>, data: Option<Map<String, Value>>) -> Result<Option<String>, ApiError> {
    if username.as_ref().is_some_and(|name| name.is_empty() || name.len() > USERNAME_BYTES_MAX) {
        return Err(ApiError::new(Code::Invalid, format!("username: 1 to {USERNAME_BYTES_MAX} bytes")));
    }
    let mut whole = data.unwrap_or_default();
    if let Some(name) = username {
        whole.insert("username".into(), name.into());
    }
    Ok((!whole.is_empty()).then(|| Value::Object(whole).to_string()))
}
