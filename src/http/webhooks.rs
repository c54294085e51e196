//! Outgoing webhooks, as operators (`/admin/webhooks`) and integrators (`/v1/webhooks`, API key with `hooks:write`) keep them.

use super::Api;
use super::error::{Body, OptionalBody};
use super::page::{Page, PageQuery};
use super::scopes::Keeper;
use crate::auth::{failed, now};
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, RoomId, Seq};
use crate::webhooks::{Dead, DeadId, HookChange, HookId, Live, NewHook};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(list, create, get, change, remove, rotate, rotated, dead, replay))]
pub struct Docs;

/// Dead letters that one request may name.
const REPLAY_MAX: usize = 1_000;

/// A webhook.
#[derive(Serialize, ToSchema)]
struct Webhook {
    id: String,
    /// For people.
    name: String,
    /// Where events go.
    url: String,
    /// Types of events it wants; none: all but `presence`.
    events: Vec<String>,
    /// Rooms it wants them of; none: all.
    rooms: Vec<RoomId>,
    /// Events are made for it.
    active: bool,
    created: Millis,
    /// A secret is being rotated: two sign.
    rotating: bool,
    /// Events that wait to be sent.
    waiting: usize,
    /// Dead letters.
    dead: usize,
    /// Dead letters that were dropped since the server began: there was no room for them.
    dropped: u64,
    /// Its receiver does not accept.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing: Option<Failing>,
    /// Signs what is sent; only in the answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// Since when a receiver does not accept, and what happened last.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookFailing)]
struct Failing {
    since: Millis,
    error: String,
}

impl Webhook {
    fn of(live: &Live) -> Webhook {
        let (hook, state) = (live.hook.clone(), &live.state);
        Webhook {
            id: hook.id.to_string(),
            name: hook.name,
            url: hook.url,
            events: hook.events,
            rooms: hook.rooms,
            active: hook.active,
            created: hook.created,
            rotating: hook.previous.is_some(),
            waiting: state.waiting.load(Ordering::Relaxed),
            dead: state.dead.load(Ordering::Relaxed),
            dropped: state.dropped.load(Ordering::Relaxed),
            failing: state.failing.lock().clone().map(|(since, error)| Failing { since, error }),
            secret: None,
        }
    }
    fn with_secret(live: &Live) -> Webhook {
        Webhook { secret: Some(live.hook.secret.clone()), ..Webhook::of(live) }
    }
}

/// A dead letter.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
struct Letter {
    id: String,
    /// The event's id, as its receiver knows it.
    event: String,
    /// Its type.
    #[serde(rename = "type")]
    kind: String,
    room: RoomId,
    seq: Seq,
    /// When it happened.
    at: Millis,
    /// When it was given up.
    died: Millis,
    /// Attempts, since the server began.
    tries: u32,
    /// The status of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// What happened last.
    error: String,
}

impl Letter {
    fn of(dead: Dead) -> Letter {
        let Dead { job, why, died } = dead;
        let (id, event) = (DeadId::from(&job).to_string(), job.event());
        Letter {
            id,
            event,
            kind: job.kind,
            room: job.room,
            seq: job.seq,
            at: job.at,
            died,
            tries: why.tries,
            status: why.status,
            error: why.error,
        }
    }
}

/// A webhook that is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewWebhook)]
pub struct New {
    /// Where events go: `https://…`.
    url: String,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 100)]
    name: String,
    /// Types of events: `message`, `edit`, `delete`, `react`, `pin`, `member`, `room`, `call`, `presence`; none: all but `presence`.
    #[serde(default)]
    events: Vec<String>,
    /// Rooms; none: all.
    #[serde(default)]
    rooms: Vec<RoomId>,
}

/// What of a webhook is to change; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookChanges)]
pub struct Changes {
    /// Where events go.
    url: Option<String>,
    /// For people.
    #[schema(max_length = 100)]
    name: Option<String>,
    /// Types of events.
    events: Option<Vec<String>>,
    /// Rooms.
    rooms: Option<Vec<RoomId>>,
    /// Events are made for it. What waits is sent all the same.
    active: Option<bool>,
}

/// Which dead letters are to be sent again.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookReplay)]
pub struct Which {
    /// These; absent: all.
    #[serde(default)]
    #[schema(max_items = 1000)]
    ids: Option<Vec<String>>,
}

/// How many were taken up again.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookReplayed)]
struct Replayed {
    replayed: usize,
}

fn live(api: &Api, id: u64) -> Result<Arc<Live>, ApiError> {
    api.webhooks.get(HookId(id)).ok_or_else(|| ApiError::new(Code::NotFound, "no such webhook"))
}

/// All webhooks, the oldest first.
#[utoipa::path(get, path = "/v1/webhooks", params(PageQuery), responses((status = 200, description = "webhooks", body = Page<Webhook>)))]
pub async fn list(_keeper: Keeper, api: web::Data<Api>, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let (limit, after) = (page.limit()?, page.place::<u64>()?);
    let all = api.webhooks.all();
    let rest = all.iter().filter(|live| after.is_none_or(|after| live.hook.id.0 > after)).take(limit + 1).cloned().collect();
    Ok(HttpResponse::Ok().json(Page::of(rest, limit, |live: &Arc<Live>| live.hook.id.0).map(|live| Webhook::of(&live))))
}

/// Makes a webhook. Its secret is in this answer and in no other.
#[utoipa::path(post, path = "/v1/webhooks", request_body = New, responses((status = 201, description = "made", body = Webhook)))]
pub async fn create(_keeper: Keeper, api: web::Data<Api>, Body(new): Body<New>) -> Result<HttpResponse, ApiError> {
    let New { url, name, events, rooms } = new;
    let id = api.node.next_id().await?;
    let live = api.webhooks.create(id, NewHook { name, url, events, rooms }, now(), &api.outbound).await?;
    Ok(HttpResponse::Created().json(Webhook::with_secret(&live)))
}

/// A webhook, and how it is doing.
#[utoipa::path(get, path = "/v1/webhooks/{id}", params(("id" = u64, Path)), responses((status = 200, description = "it", body = Webhook)))]
pub async fn get(_keeper: Keeper, api: web::Data<Api>, id: web::Path<u64>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(Webhook::of(&*live(&api, *id)?)))
}

/// Changes a webhook.
#[utoipa::path(patch, path = "/v1/webhooks/{id}", params(("id" = u64, Path)), request_body = Changes,
    responses((status = 200, description = "as it is now", body = Webhook)))]
pub async fn change(_keeper: Keeper, api: web::Data<Api>, id: web::Path<u64>, Body(to): Body<Changes>) -> Result<HttpResponse, ApiError> {
    let Changes { url, name, events, rooms, active } = to;
    let live = api.webhooks.change(HookId(*id), HookChange { name, url, events, rooms, active }, &api.outbound).await?;
    Ok(HttpResponse::Ok().json(Webhook::of(&live)))
}

/// Takes a webhook away, with what waits for it and its dead letters.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", params(("id" = u64, Path)), responses((status = 204, description = "gone")))]
pub async fn remove(_keeper: Keeper, api: web::Data<Api>, id: web::Path<u64>) -> Result<HttpResponse, ApiError> {
    api.webhooks.remove(HookId(*id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a webhook a new secret, which is in this answer. The one before signs too, until the rotation is finished by DELETE.
#[utoipa::path(post, path = "/v1/webhooks/{id}/secret", params(("id" = u64, Path)),
    responses((status = 200, description = "with its new secret", body = Webhook)))]
pub async fn rotate(_keeper: Keeper, api: web::Data<Api>, id: web::Path<u64>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(Webhook::with_secret(&*api.webhooks.rotate(HookId(*id)).await?)))
}

/// Finishes a rotation: the secret before signs no more.
#[utoipa::path(delete, path = "/v1/webhooks/{id}/secret", params(("id" = u64, Path)), responses((status = 204, description = "done")))]
pub async fn rotated(_keeper: Keeper, api: web::Data<Api>, id: web::Path<u64>) -> Result<HttpResponse, ApiError> {
    api.webhooks.rotated(HookId(*id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Events that the receiver did not accept, the oldest first.
#[utoipa::path(get, path = "/v1/webhooks/{id}/dead", params(("id" = u64, Path), PageQuery),
    responses((status = 200, description = "dead letters", body = Page<Letter>)))]
pub async fn dead(_keeper: Keeper, api: web::Data<Api>, id: web::Path<u64>, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let (live, limit) = (live(&api, *id)?, page.limit()?);
    let after = page.place::<String>()?.map(|place| place.parse()).transpose()?;
    let letters = api.webhooks.letters(live.hook.id, after, limit + 1).await.map_err(failed)?;
    Ok(HttpResponse::Ok().json(Page::of(letters, limit, |dead| DeadId::from(&dead.job).to_string()).map(Letter::of)))
}

/// Sends dead letters again.
#[utoipa::path(post, path = "/v1/webhooks/{id}/replay", params(("id" = u64, Path)), request_body = Option<Which>,
    responses((status = 200, description = "they wait to be sent", body = Replayed)))]
pub async fn replay(
    _keeper: Keeper,
    api: web::Data<Api>,
    id: web::Path<u64>,
    OptionalBody(which): OptionalBody<Which>,
) -> Result<HttpResponse, ApiError> {
    let live = live(&api, *id)?;
    let ids = which.ids.map(|ids| ids.iter().map(|id| id.parse()).collect::<Result<Vec<DeadId>, _>>()).transpose()?;
    if ids.as_ref().is_some_and(|ids| ids.len() > REPLAY_MAX) {
        return Err(ApiError::new(Code::Invalid, format!("ids: at most {REPLAY_MAX}")));
    }
    let replayed = api.webhooks.replay(&live, ids.as_deref(), now()).await?;
    Ok(HttpResponse::Ok().json(Replayed { replayed }))
}
