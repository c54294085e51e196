//! The notification level of a room: how much of it its member is told of by push.

use super::Api;
use super::auth::SignedIn;
use super::error::Body;
use crate::auth::failed;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, RoomId};
use crate::push::levels::{EAGER_MAX, Level, Notify};
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(read, change))]
pub struct Docs;

/// How much of the room one is told of. Only members may ask.
#[utoipa::path(get, path = "/v1/rooms/{room}/notify", params(("room" = String, Path, description = "the room")),
    responses((status = 200, description = "the level", body = Notify)))]
pub async fn read(api: web::Data<Api>, me: SignedIn, room: web::Path<RoomId>) -> Result<HttpResponse, ApiError> {
    let kind = api.node.kind_for(me.user.user, *room).await?;
    let notify = api.pushes.levels.of(me.user.user, *room, kind).await.map_err(failed)?;
    Ok(HttpResponse::Ok().json(notify))
}

/// How much of the room one wants to be told of from now on.
#[derive(Deserialize, ToSchema)]
pub struct NotifyWish {
    /// Every message, only those that mention one, or none.
    level: Level,
    /// Nothing at all before this time; absent: the level holds from now on.
    muted_until: Option<Millis>,
}

/// Sets how much of the room one is told of: every message, mentions, or nothing; and until when nothing at all.
#[utoipa::path(put, path = "/v1/rooms/{room}/notify", params(("room" = String, Path, description = "the room")), request_body = NotifyWish,
    responses((status = 200, description = "set", body = Notify)))]
pub async fn change(
    api: web::Data<Api>,
    me: SignedIn,
    room: web::Path<RoomId>,
    Body(wish): Body<NotifyWish>,
) -> Result<HttpResponse, ApiError> {
    let kind = api.node.kind_for(me.user.user, *room).await?;
    let notify = Notify { level: wish.level, muted_until: wish.muted_until };
    if !api.pushes.levels.set(me.user.user, *room, kind, notify).await.map_err(failed)? {
        return Err(ApiError::new(Code::Conflict, format!("at most {EAGER_MAX} members of a channel may be told of every message")));
    }
    Ok(HttpResponse::Ok().json(notify))
}
