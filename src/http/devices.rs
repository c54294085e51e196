//! The devices on which one is signed in.

use super::Api;
use super::auth::SignedIn;
use super::page::Page;
use crate::auth::now;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis};
use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(list, revoke))]
pub struct Docs;

/// A device that is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Device {
    device: DeviceId,
    /// As it named itself.
    name: String,
    /// When it signed in.
    created: Millis,
    /// When it last signed in or renewed its tokens.
    used: Millis,
    /// It is the one that asks.
    current: bool,
}

/// The devices that are signed in, 64 at most, by id.
#[utoipa::path(get, path = "/v1/me/devices", responses((status = 200, description = "the devices", body = Page<Device>)))]
pub async fn list(api: web::Data<Api>, me: SignedIn) -> Result<HttpResponse, ApiError> {
    let current = me.claims.device;
    let rows = api.sessions.devices(&me.user, now()).await?.into_iter();
    let device = |d: crate::storage::DeviceRow| Device {
        device: d.device,
        name: d.name,
        created: d.created,
        used: d.used,
        current: d.device == current,
    };
    Ok(HttpResponse::Ok().json(Page::new(rows.map(device).collect(), None::<()>)))
}

/// Signs a device out: its tokens are refused from now on, its sockets are closed within seconds.
#[utoipa::path(delete, path = "/v1/me/devices/{device}", params(("device" = DeviceId, Path)),
    responses((status = 204, description = "signed out")))]
pub async fn revoke(api: web::Data<Api>, me: SignedIn, device: web::Path<DeviceId>) -> Result<HttpResponse, ApiError> {
    let signed_in = api.sessions.devices(&me.user, now()).await?;
    if !signed_in.iter().any(|d| d.device == *device) {
        return Err(ApiError::new(Code::NotFound, "no such device is signed in"));
    }
    api.sessions.sign_out(me.user.user, *device).await?;
    Ok(HttpResponse::NoContent().finish())
}
