//! How long a room keeps its entries: `/admin/rooms/{room}/retention`.

use super::Api;
use super::admin::Operator;
use super::error::Body;
use crate::auth::failed;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{RoomId, Seq};
use crate::storage::retention;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

/// Seconds that a setting may say: a century only catches a wrong unit.
const KEEP_S_MAX: u64 = 100 * 365 * 86_400;

/// What is kept.
#[derive(Serialize)]
struct Kept {
    /// Seconds that entries are kept; 0: for ever.
    keep_s: u64,
    /// It is the room's own setting, not the server's.
    own: bool,
    /// The first seq that is there.
    first: Seq,
}

/// Body of set.
#[derive(Deserialize)]
pub struct Keep {
    keep_s: u64,
}

async fn exists(api: &Api, room: RoomId) -> Result<(), ApiError> {
    let row = api.room(room).await?;
    row.map(|_| ()).ok_or_else(|| ApiError::new(Code::NotFound, "there is no such room"))
}

async fn answer(api: &Api, room: RoomId) -> Result<HttpResponse, ApiError> {
    let own = retention::of_room(&*api.store, room).await.map_err(failed)?;
    let first = api.store.floors(&[room]).await.map_err(failed)?.pop().unwrap_or(1);
    Ok(HttpResponse::Ok().json(Kept { keep_s: own.unwrap_or(api.config.rooms.keep_s), own: own.is_some(), first }))
}

/// `GET /admin/rooms/{room}/retention`
pub async fn get(_op: Operator, api: web::Data<Api>, room: web::Path<RoomId>) -> Result<HttpResponse, ApiError> {
    exists(&api, *room).await?;
    answer(&api, *room).await
}

/// `PUT /admin/rooms/{room}/retention`: from now on; what is older goes with the next round.
pub async fn set(_op: Operator, api: web::Data<Api>, room: web::Path<RoomId>, Body(keep): Body<Keep>) -> Result<HttpResponse, ApiError> {
    if keep.keep_s > KEEP_S_MAX {
        return Err(ApiError::new(Code::Invalid, format!("keep_s is 0 (for ever) to {KEEP_S_MAX}")));
    }
    exists(&api, *room).await?;
    retention::set(&*api.store, *room, Some(keep.keep_s)).await.map_err(failed)?;
    answer(&api, *room).await
}

/// `DELETE /admin/rooms/{room}/retention`: the server's setting again.
pub async fn unset(_op: Operator, api: web::Data<Api>, room: web::Path<RoomId>) -> Result<HttpResponse, ApiError> {
    exists(&api, *room).await?;
    retention::set(&*api.store, *room, None).await.map_err(failed)?;
    answer(&api, *room).await
}
