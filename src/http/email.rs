//! An account's e-mail address: wanted, proven by a link, taken away. Changes need the password.
//!
//! That an address is another account's is told only to who reads mail there: asking for it is answered alike.

use super::auth::SignedIn;
use super::error::Body;
use super::password::confirmed;
use super::{Api, address};
use crate::auth::emails::normalized;
use crate::auth::mail::{Place, texts};
use crate::auth::now;
use crate::auth::onetime::Purpose;
use crate::error::{ApiError, Code};
use crate::storage::UserRow;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(verify, set, remove))]
pub struct Docs;

/// A link's token.
#[derive(Deserialize, ToSchema)]
pub struct Proof {
    /// The token of the link.
    token: String,
}

/// Proves by a link of a mail that an address is the account's. The link works once.
#[utoipa::path(post, path = "/v1/auth/email/verify", security(()), request_body = Proof,
    responses((status = 204, description = "the address is the account's")))]
pub async fn verify(api: web::Data<Api>, req: HttpRequest, Body(proof): Body<Proof>) -> Result<HttpResponse, ApiError> {
    api.limits.attempt(address(&req), None)?;
    let not_for_this = || ApiError::new(Code::Invalid, "this link is not one to confirm an address");
    if !matches!(api.links.look(&proof.token, now()).await?.purpose, Purpose::VerifyEmail(_)) {
        return Err(not_for_this());
    }
    let allowed = api.links.redeem(&proof.token, now()).await?;
    let Purpose::VerifyEmail(email) = allowed.purpose else { return Err(not_for_this()) };
    let row = api.accounts.by_id(allowed.user).await?.filter(|row| !row.disabled).ok_or_else(not_for_this)?;
    let before = api.emails.verify(row.user, &email).await?;
    if let Some(before) = before {
        api.mailer.send(texts::email_changed(texts::For { to: &before, name: &row.name, url: &api.config.mail.public_url }));
    }
    Ok(HttpResponse::NoContent().finish())
}

/// A new address.
#[derive(Deserialize, ToSchema)]
pub struct Wanted {
    /// The address.
    #[schema(format = "email", max_length = 254)]
    email: String,
    /// The account's password.
    password: String,
}

/// Asks for another address: a mail with a link goes there. Until it is followed the address before stays.
#[utoipa::path(put, path = "/v1/me/email", request_body = Wanted, responses((status = 202, description = "a mail is on its way")))]
pub async fn set(api: web::Data<Api>, req: HttpRequest, me: SignedIn, Body(body): Body<Wanted>) -> Result<HttpResponse, ApiError> {
    let email = normalized(&body.email)?;
    confirmed(&api, &req, &me.user, &body.password).await?;
    ask_for_proof(&api, api.mailer.place()?, &me.user, &email).await?;
    Ok(HttpResponse::Accepted().finish())
}

/// The account's password.
#[derive(Deserialize, ToSchema)]
pub struct Confirmation {
    /// The account's password.
    password: String,
}

/// Takes the address away. Without one a forgotten password cannot be reset.
#[utoipa::path(delete, path = "/v1/me/email", request_body = Confirmation, responses((status = 204, description = "there is none")))]
pub async fn remove(api: web::Data<Api>, req: HttpRequest, me: SignedIn, Body(body): Body<Confirmation>) -> Result<HttpResponse, ApiError> {
    confirmed(&api, &req, &me.user, &body.password).await?;
    if let Some(before) = api.emails.remove(me.user.user).await? {
        let who = texts::For { to: &before, name: &me.user.name, url: &api.config.mail.public_url };
        api.mailer.send(texts::email_changed(who));
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Notes the wish, and sends a link to the address that it is about. The address is as [`normalized`] gives it. The place is taken before:
/// a wish whose link was never sent would only be in the way.
pub(super) async fn ask_for_proof(api: &Api, place: Place, user: &UserRow, email: &str) -> Result<(), ApiError> {
    api.limits.mail(user.user)?;
    api.emails.want(user.user, email).await?;
    let ttl_s = api.config.auth.verify_ttl_s;
    let token = api.links.issue(user, Purpose::VerifyEmail(email.into()), ttl_s * 1000, now()).await?;
    let who = texts::For { to: email, name: &user.name, url: &api.config.mail.public_url };
    let mail = texts::verify(who, texts::Link { token: &token, ttl_s });
    place.run(async { Some(mail) });
    Ok(())
}
