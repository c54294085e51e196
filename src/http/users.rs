//! Oneself, and finding others by their exact name.

use super::Api;
use super::auth::SignedIn;
use crate::auth::failed;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::storage::ContactState;
use actix_web::{HttpResponse, web};
use serde::Serialize;

/// `GET /v1/me`
pub async fn me(me: SignedIn) -> HttpResponse {
    #[derive(Serialize)]
    struct Me {
        user: UserId,
        name: String,
        device: DeviceId,
        status: String,
        created: Millis,
        expires: Millis,
    }
    let SignedIn { user: row, claims } = me;
    let (user, name, status, created) = (row.user, row.name, row.status, row.created);
    HttpResponse::Ok().json(Me { user, name, status, created, device: claims.device, expires: claims.expires })
}

/// `GET /v1/users/by-name/{name}`. Who is disabled, or blocks the caller, is not found.
pub async fn by_name(api: web::Data<Api>, me: SignedIn, name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    #[derive(Serialize)]
    struct Found {
        user: UserId,
        name: String,
    }
    let row = api.accounts.by_name(&name).await?;
    let blocks = states(&api, row.user, me.user.user).await? == Some(ContactState::Blocked);
    if row.disabled || blocks {
        return Err(no_such_user());
    }
    Ok(HttpResponse::Ok().json(Found { user: row.user, name: row.name }))
}

/// The one answer to who does not exist and to who is not to be seen.
pub(super) fn no_such_user() -> ApiError {
    ApiError::new(Code::NotFound, "no such user")
}

/// How `a` stands to `b`.
pub(super) async fn states(api: &Api, a: UserId, b: UserId) -> Result<Option<ContactState>, ApiError> {
    Ok(api.store.contact_states(a, &[b]).await.map_err(failed)?.into_iter().next().flatten())
}
