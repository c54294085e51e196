//! A new password: by who knows the old one, or by a link in a mail.
//!
//! Asking for a link is answered before anything is looked up, so that neither the answer nor its time tells whether there is such an account:
//! the looking up, too, happens on the mail thread. A link goes to a verified address only. Every new password signs the account out
//! everywhere and makes all its open links void.

use super::auth::{Entered, SignedIn};
use super::error::Body;
use super::{Api, address};
use crate::auth::mail::{Mail, texts};
use crate::auth::now;
use crate::auth::onetime::Purpose;
use crate::error::{ApiError, Code};
use crate::storage::UserRow;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(forgot, reset, change))]
pub struct Docs;

/// Whose password was forgotten: one of the two.
#[derive(Deserialize, ToSchema)]
pub struct Forgotten {
    /// The account's name.
    #[serde(default)]
    name: Option<String>,
    /// Its verified address.
    #[serde(default)]
    email: Option<String>,
}

/// Sends a link by mail, if there is such an account and it has a verified address. The answer is the same whether there is or not.
#[utoipa::path(post, path = "/v1/auth/password/forgot", security(()), request_body = Forgotten,
    responses((status = 202, description = "if there is such an account, a mail is on its way")))]
pub async fn forgot(api: web::Data<Api>, req: HttpRequest, Body(who): Body<Forgotten>) -> Result<HttpResponse, ApiError> {
    let Forgotten { name, email } = who;
    if name.is_some() == email.is_some() {
        return Err(ApiError::new(Code::Invalid, "either a name or an email is needed"));
    }
    api.limits.attempt(address(&req), name.as_deref().or(email.as_deref()))?;
    let place = api.mailer.place()?;
    place.run(find_and_write(api.into_inner(), name, email, address(&req)));
    Ok(HttpResponse::Accepted().finish())
}

/// The mail with a link, if there is somebody to send it to.
async fn find_and_write(api: Arc<Api>, name: Option<String>, email: Option<String>, from: IpAddr) -> Option<Mail> {
    match link(&api, name, email).await {
        Ok(mail) => mail,
        Err(error) => {
            tracing::info!(%error, %from, "no link to reset a password was sent");
            None
        }
    }
}

async fn link(api: &Api, name: Option<String>, email: Option<String>) -> Result<Option<Mail>, ApiError> {
    let row = match (name, email) {
        (Some(name), _) => Some(api.accounts.by_name(&name).await?),
        (_, Some(email)) => match api.emails.owner(&email).await? {
            Some(user) => api.accounts.by_id(user).await?,
            None => None,
        },
        _ => None,
    };
    let Some(row) = row.filter(|row| !row.disabled) else { return Ok(None) };
    let Some(to) = api.emails.verified(row.user).await? else { return Ok(None) };
    api.limits.mail(row.user)?;
    let ttl_s = api.config.auth.reset_ttl_s;
    let token = api.links.issue(&row, Purpose::ResetPassword, ttl_s * 1000, now()).await?;
    let who = texts::For { to: &to, name: &row.name, url: &api.config.mail.public_url };
    Ok(Some(texts::reset(who, texts::Link { token: &token, ttl_s })))
}

/// A link's token and a new password.
#[derive(Deserialize, ToSchema)]
pub struct Reset {
    /// The token of the link.
    token: String,
    /// The new password: 8 to 128 characters.
    password: String,
}

/// Sets a new password by a link of a mail. The link works once; all devices are signed out.
#[utoipa::path(post, path = "/v1/auth/password/reset", security(()), request_body = Reset,
    responses((status = 204, description = "the password is set")))]
pub async fn reset(api: web::Data<Api>, req: HttpRequest, Body(body): Body<Reset>) -> Result<HttpResponse, ApiError> {
    api.limits.attempt(address(&req), None)?;
    // Looked at first, so that neither a password that cannot be nor a busy server costs the link.
    let allowed = api.links.look(&body.token, now()).await?;
    if allowed.purpose != Purpose::ResetPassword {
        return Err(ApiError::new(Code::Invalid, "this link is not one to reset a password"));
    }
    let hash = api.accounts.hash_of(&body.password).await?;
    let allowed = api.links.redeem(&body.token, now()).await?;
    let set = api.accounts.replace_hash(allowed.user, allowed.tokens_after, &hash).await;
    let row = set.map_err(|e| match e.code {
        Code::TokenRevoked => {
            ApiError::new(Code::Invalid, "this link does not work any more: the account was changed since; ask for a new one")
        }
        _ => e,
    })?;
    api.sessions.ended_everywhere(row.user);
    tell(&api, &row).await;
    Ok(HttpResponse::NoContent().finish())
}

/// The old and the new password.
#[derive(Deserialize, ToSchema)]
#[schema(as = PasswordChange)]
pub struct Change {
    /// The password as it is.
    old: String,
    /// The new one: 8 to 128 characters.
    new: String,
    /// Give the refresh token as a cookie.
    #[serde(default)]
    cookie: bool,
}

/// Sets a new password. All other devices are signed out, this one gets new tokens; open sockets are closed.
#[utoipa::path(put, path = "/v1/me/password", request_body = Change,
    responses((status = 200, description = "still signed in, with new tokens", body = super::auth::Session)))]
pub async fn change(api: web::Data<Api>, req: HttpRequest, me: SignedIn, Body(body): Body<Change>) -> Result<HttpResponse, ApiError> {
    super::auth::may_have_cookie(&api, &req, body.cookie)?;
    confirmed(&api, &req, &me.user, &body.old).await?;
    let row = api.accounts.replace_password(&me.user, &body.new).await?;
    let pair = api.sessions.renew(&row, me.claims.device, now()).await?;
    api.sessions.ended_everywhere(row.user);
    tell(&api, &row).await;
    Ok(Entered { user: row, pair, by_cookie: body.cookie }.answer(StatusCode::OK, &req))
}

/// Whether the request's own user knows the password, within the limits of guessing.
pub(super) async fn confirmed(api: &Api, req: &HttpRequest, user: &UserRow, password: &str) -> Result<(), ApiError> {
    if user.password.is_empty() {
        return Err(ApiError::new(Code::Forbidden, "this account has no password here; the server that made it looks after it"));
    }
    api.limits.attempt(address(req), Some(&user.name))?;
    api.accounts.confirm(user, password).await
}

/// Tells the owner by mail. That there was a change is more important than that the mail is sent.
async fn tell(api: &Api, row: &UserRow) {
    if let Ok(Some(to)) = api.emails.verified(row.user).await {
        api.mailer.send(texts::password_changed(texts::For { to: &to, name: &row.name, url: &api.config.mail.public_url }));
    }
}
