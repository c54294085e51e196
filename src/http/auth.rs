//! Signing in over HTTP: register, login, refresh, logout; and [`SignedIn`], which every other handler asks for.

use super::error::{Body, OptionalBody};
use super::{Api, address, api_of, bearer, scopes};
use crate::auth::now;
use crate::auth::sessions::Pair;
use crate::auth::tokens::Claims;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::storage::UserRow;
use crate::telemetry::metrics;
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, web};
use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(register, login, refresh, logout))]
pub struct Docs;

/// Who sent the request: its access token is good, and neither the account nor the device was signed out; or an API key acts as the user.
pub struct SignedIn {
    /// The account.
    pub user: UserRow,
    /// The token's claims.
    pub claims: Claims,
}

impl FromRequest for SignedIn {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let req = req.clone();
        Box::pin(async move {
            let api = api_of(&req)?;
            let needed = || ApiError::new(Code::Unauthorized, "an access token is needed (authorization: bearer)");
            let token = bearer(&req).ok_or_else(needed)?;
            if scopes::is_key(token) {
                let (user, claims) = scopes::acting(&api, &req, token).await?;
                return Ok(SignedIn { user, claims });
            }
            let (user, claims) = api.verifier.verify(token, now()).await?;
            if let Some(standing) = api.limits.request_standing(user.user)? {
                req.extensions_mut().insert(standing);
            }
            Ok(SignedIn { user, claims })
        })
    }
}

/// Body of register and login.
#[derive(Deserialize, ToSchema)]
pub struct Credentials {
    /// The account's name: 2 to 32 of `a-z 0-9 _ . -`.
    #[schema(pattern = "^[a-z0-9_.-]{2,32}$")]
    name: String,
    /// Its password: 8 to 128 characters.
    #[schema(min_length = 8, max_length = 128)]
    password: String,
    /// The device's name, for people.
    #[serde(default)]
    device: Option<String>,
}

/// Body of refresh.
#[derive(Deserialize, ToSchema)]
pub struct Renewal {
    /// The newest one; it is used up by this.
    refresh_token: String,
}

/// Body of logout; may be left out.
#[derive(Default, Deserialize, ToSchema)]
pub struct Logout {
    /// All devices, not only this one.
    #[serde(default)]
    everywhere: bool,
}

/// What register, login and refresh answer.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
struct Answer {
    user: UserId,
    /// The account's name.
    name: String,
    device: DeviceId,
    /// For `Authorization: Bearer` and for the socket.
    access_token: String,
    /// When the access token ends.
    expires: Millis,
    /// For one refresh.
    refresh_token: String,
    /// When the refresh token ends.
    refresh_expires: Millis,
}

impl Answer {
    fn new(user: UserRow, pair: Pair) -> Answer {
        Answer {
            user: user.user,
            name: user.name,
            device: pair.device,
            access_token: pair.access,
            expires: pair.access_expires,
            refresh_token: pair.refresh,
            refresh_expires: pair.refresh_expires,
        }
    }
}

/// Makes an account and signs in.
#[utoipa::path(post, path = "/v1/auth/register", security(()), request_body = Credentials,
    responses((status = 201, description = "signed in", body = Answer)))]
pub async fn register(api: web::Data<Api>, req: HttpRequest, Body(who): Body<Credentials>) -> Result<HttpResponse, ApiError> {
    let done = async {
        if !api.config.auth.registration {
            return Err(ApiError::new(Code::Forbidden, "this server lets nobody register; ask its operator for an account"));
        }
        api.limits.attempt(address(&req), Some(&who.name))?;
        if api.bans.holds_name(&who.name).await? {
            return Err(ApiError::new(Code::Conflict, format!("the user name {} is taken", who.name)));
        }
        let id = UserId(api.node.next_id().await?);
        let user = api.accounts.create(id, &who.name, &who.password).await?;
        sign_in(&api, user, who.device.as_deref()).await
    };
    counted("registered", done.await).map(|answer| HttpResponse::Created().json(answer))
}

/// Signs in.
#[utoipa::path(post, path = "/v1/auth/login", security(()), request_body = Credentials,
    responses((status = 200, description = "signed in", body = Answer)))]
pub async fn login(api: web::Data<Api>, req: HttpRequest, Body(who): Body<Credentials>) -> Result<HttpResponse, ApiError> {
    let done = async {
        api.limits.attempt(address(&req), Some(&who.name))?;
        let user = api.accounts.authenticate(&who.name, &who.password).await?;
        sign_in(&api, user, who.device.as_deref()).await
    };
    counted("signed_in", done.await).map(|answer| HttpResponse::Ok().json(answer))
}

/// A new access token, and a new refresh token, for a refresh token.
#[utoipa::path(post, path = "/v1/auth/refresh", security(()), request_body = Renewal,
    responses((status = 200, description = "still signed in", body = Answer)))]
pub async fn refresh(api: web::Data<Api>, Body(body): Body<Renewal>) -> Result<HttpResponse, ApiError> {
    let done = api.sessions.refresh(&body.refresh_token, now()).await;
    counted("refreshed", done.map(|(user, pair)| Answer::new(user, pair))).map(|answer| HttpResponse::Ok().json(answer))
}

/// Signs this device out, or all of them.
#[utoipa::path(post, path = "/v1/auth/logout", request_body = Option<Logout>, responses((status = 204, description = "signed out")))]
pub async fn logout(api: web::Data<Api>, me: SignedIn, OptionalBody(body): OptionalBody<Logout>) -> Result<HttpResponse, ApiError> {
    if body.everywhere {
        api.accounts.sign_out_everywhere(&me.user.name).await?;
        api.sessions.ended_everywhere(me.user.user);
    } else {
        api.sessions.sign_out(me.user.user, me.claims.device).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}

async fn sign_in(api: &Api, user: UserRow, device: Option<&str>) -> Result<Answer, ApiError> {
    let fresh = DeviceId(api.node.next_id().await?);
    let pair = api.sessions.sign_in(&user, fresh, device.unwrap_or_default(), now()).await?;
    Ok(Answer::new(user, pair))
}

fn counted<T>(success: &'static str, result: Result<T, ApiError>) -> Result<T, ApiError> {
    let what = match &result {
        Ok(_) => success,
        Err(e) if e.code == Code::RateLimited => "rate_limited",
        Err(e) if e.code == Code::TokenRevoked => "revoked",
        Err(e) if e.code.status() < 500 => "refused",
        Err(_) => "failed",
    };
    metrics().auth_attempts_total.of(what).inc();
    result
}
