//! The second factor: set up, confirmed by a code, removed.

use super::Api;
use super::auth::SignedIn;
use super::error::Body;
use super::password::confirmed;
use crate::auth::now;
use crate::error::{ApiError, Code};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(begin, confirm, remove))]
pub struct Docs;

/// The account's password.
#[derive(Deserialize, ToSchema)]
pub struct Begin {
    /// The account's password.
    password: String,
}

/// What an app needs.
#[derive(Serialize, ToSchema)]
struct SetUp {
    /// The secret in base32, to type.
    secret: String,
    /// `otpauth://…`, to show as a QR code.
    uri: String,
}

/// A fresh secret for an app. It counts once a code of it was confirmed.
#[utoipa::path(post, path = "/v1/me/totp", request_body = Begin, responses((status = 200, description = "for the app", body = SetUp)))]
pub async fn begin(api: web::Data<Api>, req: HttpRequest, me: SignedIn, Body(body): Body<Begin>) -> Result<HttpResponse, ApiError> {
    confirmed(&api, &req, &me.user, &body.password).await?;
    let set_up = api.second_factor.begin(me.user.user, &me.user.name).await?;
    Ok(HttpResponse::Ok().json(SetUp { secret: set_up.secret, uri: set_up.uri }))
}

/// A code of the app.
#[derive(Deserialize, ToSchema)]
pub struct Confirm {
    /// The code, six digits.
    code: String,
}

/// Codes for when the app is lost.
#[derive(Serialize, ToSchema)]
struct Recovery {
    /// Each works once. They are not shown again.
    recovery_codes: Vec<String>,
}

/// Turns the second factor on.
#[utoipa::path(post, path = "/v1/me/totp/confirm", request_body = Confirm,
    responses((status = 200, description = "it is on", body = Recovery)))]
pub async fn confirm(api: web::Data<Api>, me: SignedIn, Body(body): Body<Confirm>) -> Result<HttpResponse, ApiError> {
    let recovery_codes = api.second_factor.confirm(me.user.user, &body.code, now()).await?;
    Ok(HttpResponse::Ok().json(Recovery { recovery_codes }))
}

/// Password and code.
#[derive(Deserialize, ToSchema)]
pub struct Remove {
    /// The account's password.
    password: String,
    /// A code of the app, or a recovery code.
    code: String,
}

/// Turns the second factor off.
#[utoipa::path(delete, path = "/v1/me/totp", request_body = Remove, responses((status = 204, description = "it is off")))]
pub async fn remove(api: web::Data<Api>, req: HttpRequest, me: SignedIn, Body(body): Body<Remove>) -> Result<HttpResponse, ApiError> {
    confirmed(&api, &req, &me.user, &body.password).await?;
    if !api.second_factor.is_on(me.user.user).await? {
        return Err(ApiError::new(Code::NotFound, "there is no second factor"));
    }
    api.second_factor.check(me.user.user, &body.code, now()).await?;
    api.second_factor.remove(me.user.user).await?;
    Ok(HttpResponse::NoContent().finish())
}
