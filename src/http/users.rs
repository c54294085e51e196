//! Oneself, what one shows to others, and finding others by id or by their exact name.
//!
//! Who is disabled, or blocks the caller, looks like nobody; of a deleted account its tombstone is shown. When a user was last connected is told to its contacts only.

use super::Api;
use super::auth::SignedIn;
use super::error::Body;
use super::etag::{Conditions, IfMatchHeader, IfNoneMatchHeader};
use crate::auth::emails::Email;
use crate::auth::tokens::Claims;
use crate::auth::{deletion, failed};
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::protocol::validate;
use crate::storage::{ContactState, UserRow};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(me, change, by_id, by_name))]
pub struct Docs;

/// A user as others see it.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct Profile {
    /// Who.
    pub user: UserId,
    /// The account's name: unique, and never changed.
    pub name: String,
    /// The name to show; the account's name while none was chosen.
    pub display_name: String,
    /// Where the picture is; empty: nowhere.
    pub avatar_url: String,
    /// Status text.
    pub status: String,
    /// A program and no person.
    pub bot: bool,
    /// What is left of an account that was deleted: nobody. Absent for everybody else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// When the user was last connected; absent: never, or the user is no contact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Millis>,
}

impl Profile {
    /// What `row` shows to somebody who stands to it as `state`.
    pub fn of(row: UserRow, state: Option<ContactState>) -> Profile {
        let deleted = deletion::is_over(&row);
        let close = state == Some(ContactState::Accepted);
        let display_name = if row.display_name.is_empty() { row.name.clone() } else { row.display_name };
        let last_seen = (close && row.last_seen > 0).then_some(row.last_seen);
        let UserRow { user, name, avatar_url, status, bot, .. } = row;
        Profile { user, name, display_name, avatar_url, status, bot, deleted, last_seen }
    }
}

/// Oneself.
#[derive(Serialize, ToSchema)]
struct Me {
    #[serde(flatten)]
    profile: Profile,
    /// The device of the token.
    device: DeviceId,
    /// When the account was made.
    created: Millis,
    /// When the token ends.
    expires: Millis,
    /// The verified address, else the one that waits to be verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// Whether it is verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    /// Whether there is a second factor.
    totp: bool,
}

/// What of oneself does not stand in the account's row.
struct Beside {
    claims: Claims,
    email: Option<Email>,
    totp: bool,
}

impl Beside {
    async fn of(api: &Api, me: &SignedIn) -> Result<Beside, ApiError> {
        let user = me.user.user;
        Ok(Beside { claims: me.claims, email: api.emails.of(user).await?, totp: api.second_factor.is_on(user).await? })
    }
}

impl Me {
    fn new(row: UserRow, beside: &Beside) -> Me {
        let Beside { claims, email, totp } = beside;
        Me {
            created: row.created,
            profile: Profile::of(row, None),
            device: claims.device,
            expires: claims.expires,
            email: email.as_ref().map(|e| e.address.clone()),
            email_verified: email.as_ref().map(|e| e.verified),
            totp: *totp,
        }
    }
}

/// Who one is: one's profile, device and token.
#[utoipa::path(get, path = "/v1/me", params(IfNoneMatchHeader),
    responses((status = 200, description = "oneself", body = Me), (status = 304, description = "as before")))]
pub async fn me(api: web::Data<Api>, me: SignedIn, when: Conditions) -> Result<HttpResponse, ApiError> {
    let beside = Beside::of(&api, &me).await?;
    Ok(when.show(&Me::new(me.user, &beside)))
}

/// What of one's profile is to change; what is absent stays.
#[derive(Deserialize, ToSchema)]
pub struct Changes {
    /// The name to show, at most 100 characters; empty: the account's name.
    #[schema(max_length = 100, pattern = r"^([^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?)?$")]
    display_name: Option<String>,
    /// Where the picture is: `http://…`, `https://…` or a path that begins with `/`; empty: nowhere.
    #[schema(max_length = 2048, pattern = r"^(https?://[^/\\?#\s\x00-\x1f\x7f-\x9f][!-~]*|/([!-.0-\[\]-~][!-~]*)?)?$")]
    avatar_url: Option<String>,
    /// Status text, at most 140 characters.
    #[schema(max_length = 140, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    status: Option<String>,
}

/// Changes one's profile. Contacts are told of a new status text at once.
#[utoipa::path(patch, path = "/v1/me", params(IfMatchHeader), request_body = Changes,
    responses((status = 200, description = "as it is now", body = Me)))]
pub async fn change(api: web::Data<Api>, me: SignedIn, when: Conditions, Body(changes): Body<Changes>) -> Result<HttpResponse, ApiError> {
    let Changes { display_name, avatar_url, status } = changes;
    validate::profile(display_name.as_deref(), avatar_url.as_deref(), status.as_deref())?;
    let beside = Beside::of(&api, &me).await?;
    let row = api
        .accounts
        .edit(me.user.user, |row| {
            when.allow(&Me::new(row.clone(), &beside))?;
            for (field, new) in [(&mut row.display_name, &display_name), (&mut row.avatar_url, &avatar_url), (&mut row.status, &status)] {
                if let Some(new) = new {
                    field.clone_from(new);
                }
            }
            Ok(())
        })
        .await?;
    if let Some(status) = status {
        api.node.status_changed(row.user, status);
    }
    Ok(Conditions::default().show(&Me::new(row, &beside)))
}

/// A user.
#[utoipa::path(get, path = "/v1/users/{user}", params(("user" = UserId, Path), IfNoneMatchHeader),
    responses((status = 200, description = "what the user shows", body = Profile), (status = 304, description = "as before")))]
pub async fn by_id(api: web::Data<Api>, me: SignedIn, when: Conditions, user: web::Path<UserId>) -> Result<HttpResponse, ApiError> {
    let row = api.store.user(*user).await.map_err(failed)?.ok_or_else(no_such_user)?;
    Ok(when.show(&seen_by(&api, me.user.user, row).await?))
}

/// The user with exactly this account name.
#[utoipa::path(get, path = "/v1/users/by-name/{name}", params(("name" = String, Path, min_length = 1), IfNoneMatchHeader),
    responses((status = 200, description = "what the user shows", body = Profile), (status = 304, description = "as before")))]
pub async fn by_name(api: web::Data<Api>, me: SignedIn, when: Conditions, name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let row = api.accounts.by_name(&name).await?;
    Ok(when.show(&seen_by(&api, me.user.user, row).await?))
}

/// What `row` shows to `me`.
async fn seen_by(api: &Api, me: UserId, row: UserRow) -> Result<Profile, ApiError> {
    // Its messages are still there, and have an author.
    if deletion::is_over(&row) {
        return Ok(Profile::of(row, None));
    }
    let state = states(api, row.user, me).await?;
    if row.disabled || state == Some(ContactState::Blocked) {
        return Err(no_such_user());
    }
    Ok(Profile::of(row, state))
}

/// The one answer to who does not exist and to who is not to be seen.
pub(super) fn no_such_user() -> ApiError {
    ApiError::new(Code::NotFound, "no such user")
}

/// How `a` stands to `b`.
pub(super) async fn states(api: &Api, a: UserId, b: UserId) -> Result<Option<ContactState>, ApiError> {
    Ok(api.store.contact_states(a, &[b]).await.map_err(failed)?.into_iter().next().flatten())
}
