//! Signing in over HTTP: register, login with or without a second factor, refresh, logout; and [`SignedIn`], which every other handler asks for.
//!
//! The refresh token goes in the body for programs, or in a cookie for web pages that ask for it ([`super::cookie`]), never in both.

use super::error::{Body, OptionalBody};
use super::{Api, address, api_of, bearer, cookie, scopes};
use crate::auth::sessions::Pair;
use crate::auth::tokens::Claims;
use crate::auth::{mfa, now};
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::storage::UserRow;
use crate::telemetry::metrics;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, web};
use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(register, login, second_step, refresh, logout))]
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

/// Body of register.
#[derive(Deserialize, ToSchema)]
pub struct Newcomer {
    /// The account's name: 2 to 32 of `a-z 0-9 _ . -`.
    #[schema(pattern = "^[a-z0-9_.-]{2,32}$")]
    name: String,
    /// Its password: 8 to 128 characters.
    #[schema(min_length = 8, max_length = 128)]
    password: String,
    /// The device's name, for people.
    #[serde(default)]
    device: Option<String>,
    /// An address for links, should the password be forgotten. A mail to it asks for confirmation.
    #[serde(default)]
    #[schema(format = "email", max_length = 254)]
    email: Option<String>,
    /// Give the refresh token as a cookie.
    #[serde(default)]
    cookie: bool,
}

/// Body of login.
#[derive(Deserialize, ToSchema)]
pub struct Credentials {
    /// The account's name.
    name: String,
    /// Its password.
    password: String,
    /// The device's name, for people.
    #[serde(default)]
    device: Option<String>,
    /// Give the refresh token as a cookie.
    #[serde(default)]
    cookie: bool,
}

/// Body of the second step.
#[derive(Deserialize, ToSchema)]
pub struct SecondStep {
    /// From the answer to the first step.
    mfa_token: String,
    /// A code of the app, or a recovery code.
    code: String,
    /// The device's name, for people.
    #[serde(default)]
    device: Option<String>,
    /// Give the refresh token as a cookie.
    #[serde(default)]
    cookie: bool,
}

/// Body of refresh; may be left out when the cookie is sent.
#[derive(Default, Deserialize, ToSchema)]
pub struct Renewal {
    /// The newest one; it is used up by this.
    #[serde(default)]
    refresh_token: Option<String>,
}

/// Body of logout; may be left out.
#[derive(Default, Deserialize, ToSchema)]
pub struct Logout {
    /// All devices, not only this one.
    #[serde(default)]
    everywhere: bool,
}

/// What signing in answers.
#[derive(Serialize, ToSchema)]
pub struct Session {
    user: UserId,
    /// The account's name.
    name: String,
    device: DeviceId,
    /// For `Authorization: Bearer` and for the socket.
    access_token: String,
    /// When the access token ends.
    expires: Millis,
    /// For one refresh; absent when it is in the cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// When the refresh token ends.
    refresh_expires: Millis,
}

/// A session, and where its refresh token goes.
pub(super) struct Entered {
    pub(super) user: UserRow,
    pub(super) pair: Pair,
    pub(super) by_cookie: bool,
}

impl Entered {
    /// The answer.
    pub(super) fn answer(self, status: StatusCode, req: &HttpRequest) -> HttpResponse {
        let Entered { user, pair, by_cookie } = self;
        let mut answer = HttpResponse::build(status);
        if by_cookie {
            cookie::put(&mut answer, req, &pair.refresh, pair.refresh_expires.saturating_sub(now()));
        }
        answer.json(Session {
            user: user.user,
            name: user.name,
            device: pair.device,
            access_token: pair.access,
            expires: pair.access_expires,
            refresh_token: (!by_cookie).then_some(pair.refresh),
            refresh_expires: pair.refresh_expires,
        })
    }
}

/// Makes an account and signs in.
#[utoipa::path(post, path = "/v1/auth/register", security(()), request_body = Newcomer,
    responses((status = 201, description = "signed in", body = Session)))]
pub async fn register(api: web::Data<Api>, req: HttpRequest, Body(who): Body<Newcomer>) -> Result<HttpResponse, ApiError> {
    let done = async {
        if !api.config.auth.registration {
            return Err(ApiError::new(Code::Forbidden, "this server lets nobody register; ask its operator for an account"));
        }
        may_have_cookie(&api, &req, who.cookie)?;
        api.limits.attempt(address(&req), Some(&who.name))?;
        let email = who.email.as_deref().map(crate::auth::emails::normalized).transpose()?;
        // Before there is an account: one that was made and not said would be in its owner's own way.
        let email = email.map(|email| Ok::<_, ApiError>((email, api.mailer.place()?))).transpose()?;
        let id = UserId(api.node.next_id().await?);
        let user = api.accounts.create(id, &who.name, &who.password).await?;
        if let Some((email, place)) = email {
            super::email::ask_for_proof(&api, place, &user, &email).await?;
        }
        sign_in(&api, user, who.device.as_deref(), who.cookie).await
    };
    counted("registered", done.await).map(|entered| entered.answer(StatusCode::CREATED, &req))
}

/// Signs in. An account with a second factor is answered with `mfa_required` and an `mfa_token` for the second step.
#[utoipa::path(post, path = "/v1/auth/login", security(()), request_body = Credentials,
    responses((status = 200, description = "signed in", body = Session)))]
pub async fn login(api: web::Data<Api>, req: HttpRequest, Body(who): Body<Credentials>) -> Result<HttpResponse, ApiError> {
    let password = async {
        may_have_cookie(&api, &req, who.cookie)?;
        api.limits.attempt(address(&req), Some(&who.name))?;
        let user = api.accounts.authenticate(&who.name, &who.password).await?;
        // Asked only of who knows the password: nobody else learns that there is one.
        let factor = api.second_factor.is_on(user.user).await?;
        Ok((user, factor))
    };
    let (user, factor) = counted("password_right", password.await)?;
    if factor {
        metrics().auth_attempts_total.of("mfa_required").inc();
        return Ok(super::error::mfa_required(&mfa::issue(&api.tokens, &user, now())));
    }
    let done = sign_in(&api, user, who.device.as_deref(), who.cookie).await;
    counted("signed_in", done).map(|entered| entered.answer(StatusCode::OK, &req))
}

/// The second step of signing in to an account with a second factor.
#[utoipa::path(post, path = "/v1/auth/login/mfa", security(()), request_body = SecondStep,
    responses((status = 200, description = "signed in", body = Session)))]
pub async fn second_step(api: web::Data<Api>, req: HttpRequest, Body(step): Body<SecondStep>) -> Result<HttpResponse, ApiError> {
    let done = async {
        may_have_cookie(&api, &req, step.cookie)?;
        api.limits.attempt(address(&req), None)?;
        let half = mfa::verify(&api.tokens, &step.mfa_token, now())?;
        let user = api.accounts.by_id(half.user).await?.filter(|row| !row.disabled && row.tokens_after == half.tokens_after);
        let user = user.ok_or_else(|| ApiError::new(Code::Unauthorized, "the account was changed meanwhile; sign in again"))?;
        api.second_factor.check(user.user, &step.code, now()).await?;
        sign_in(&api, user, step.device.as_deref(), step.cookie).await
    };
    counted("signed_in", done.await).map(|entered| entered.answer(StatusCode::OK, &req))
}

/// A new access token, and a new refresh token, for a refresh token: of the body, else of the cookie, and given back the same way.
#[utoipa::path(post, path = "/v1/auth/refresh", security(()), request_body = Option<Renewal>,
    responses((status = 200, description = "still signed in", body = Session)))]
pub async fn refresh(api: web::Data<Api>, req: HttpRequest, OptionalBody(body): OptionalBody<Renewal>) -> Result<HttpResponse, ApiError> {
    let done = async {
        let by_cookie = body.refresh_token.is_none();
        let token = match body.refresh_token {
            Some(token) => token,
            None if !cookie::is_sent(&req) => {
                return Err(ApiError::new(Code::Unauthorized, "a refresh token is needed, in the body or the cookie"));
            }
            None => {
                cookie::allowed(&req, &api)?;
                cookie::of(&req).unwrap_or_default()
            }
        };
        let (user, pair) = api.sessions.refresh(&token, now()).await?;
        Ok(Entered { user, pair, by_cookie })
    };
    counted("refreshed", done.await).map(|entered| entered.answer(StatusCode::OK, &req))
}

/// Signs this device out, or all of them.
#[utoipa::path(post, path = "/v1/auth/logout", request_body = Option<Logout>, responses((status = 204, description = "signed out")))]
pub async fn logout(
    api: web::Data<Api>,
    req: HttpRequest,
    me: SignedIn,
    OptionalBody(body): OptionalBody<Logout>,
) -> Result<HttpResponse, ApiError> {
    if body.everywhere {
        api.accounts.sign_out_everywhere(&me.user.name).await?;
        api.sessions.ended_everywhere(me.user.user);
    } else {
        api.sessions.sign_out(me.user.user, me.claims.device).await?;
    }
    let mut answer = HttpResponse::NoContent();
    if cookie::is_sent(&req) {
        cookie::take(&mut answer, &req);
    }
    Ok(answer.finish())
}

/// Whoever wants the cookie must be a page that may have it.
pub(super) fn may_have_cookie(api: &Api, req: &HttpRequest, wanted: bool) -> Result<(), ApiError> {
    if wanted { cookie::allowed(req, api) } else { Ok(()) }
}

async fn sign_in(api: &Api, user: UserRow, device: Option<&str>, by_cookie: bool) -> Result<Entered, ApiError> {
    let fresh = DeviceId(api.node.next_id().await?);
    let pair = api.sessions.sign_in(&user, fresh, device.unwrap_or_default(), now()).await?;
    Ok(Entered { user, pair, by_cookie })
}

fn counted<T>(success: &'static str, result: Result<T, ApiError>) -> Result<T, ApiError> {
    let what = match &result {
        // The first of two steps: the second counts.
        Ok(_) if success == "password_right" => return result,
        Ok(_) => success,
        Err(e) if e.code == Code::RateLimited => "rate_limited",
        Err(e) if e.code == Code::TokenRevoked => "revoked",
        Err(e) if e.code.status() < 500 => "refused",
        Err(_) => "failed",
    };
    metrics().auth_attempts_total.of(what).inc();
    result
}
