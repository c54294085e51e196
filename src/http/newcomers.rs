//! Users whom an embedder's server makes: its own people under their id there, and bots. Nobody signs in to them by a password.

use super::Api;
use super::error::Body;
use super::idempotency::{Key, KeyHeader};
use super::scopes::Keeper;
use super::users::Profile;
use crate::auth::accounts::valid_name;
use crate::auth::deletion;
use crate::auth::issuers::Person;
use crate::error::{ApiError, Code};
use crate::protocol::ids::UserId;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(create))]
pub struct Docs;

/// Bytes of an id elsewhere.
const EXTERNAL_ID_BYTES_MAX: usize = 256;
/// The issuer of ids that belong to no issuer of tokens.
const NO_ISSUER: &str = "";

/// A user who is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The account's name: 2 to 32 of `a-z 0-9 _ . -`. With an `external_id` it is a wish: another is found when it is taken.
    name: String,
    /// The name to show.
    #[serde(default)]
    #[schema(max_length = 100)]
    display_name: Option<String>,
    /// Where the picture is.
    #[serde(default)]
    #[schema(max_length = 2048)]
    avatar_url: Option<String>,
    /// The user's id on the embedder's side. The same again gives the user that is there.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 256)]
    external_id: Option<String>,
    /// The issuer of tokens whose subject `external_id` is; absent: the only one that is configured, if there is just one.
    #[serde(default)]
    issuer: Option<String>,
    /// A program. Shown as one.
    #[serde(default)]
    bot: bool,
}

/// Makes a user. Needs an API key with `users:write`.
#[utoipa::path(post, path = "/v1/users", params(KeyHeader), request_body = NewUser, responses(
    (status = 201, description = "made", body = Profile), (status = 200, description = "was there under this `external_id`", body = Profile)))]
pub async fn create(api: web::Data<Api>, keeper: Keeper, key: Key, Body(new): Body<NewUser>) -> Result<HttpResponse, ApiError> {
    if !valid_name(&new.name) {
        return Err(ApiError::new(Code::Invalid, "name: 2 to 32 characters of a-z, 0-9, _ . -"));
    }
    let by = UserId(keeper.key.as_ref().map_or(0, |key| key.id));
    let shared = api.clone();
    key.once(&api, by, async { Ok(0) }, move |_| async move { make(&shared, new).await }).await
}

async fn make(api: &Api, new: NewUser) -> Result<HttpResponse, ApiError> {
    let NewUser { name, display_name, avatar_url, external_id, issuer, bot } = new;
    let person = Person { name: Some(name.clone()), display_name, avatar_url };
    let subjects = api.verifier.subjects();
    let Some(external) = external_id else {
        let id = UserId(api.node.next_id().await?);
        let taken = || ApiError::new(Code::Conflict, format!("the user name {name} is taken"));
        let row = subjects.make_named(id, &name, &person, bot).await?.ok_or_else(taken)?;
        return Ok(HttpResponse::Created().json(Profile::of(row, None)));
    };
    if external.is_empty() || external.len() > EXTERNAL_ID_BYTES_MAX {
        return Err(ApiError::new(Code::Invalid, format!("external_id: 1 to {EXTERNAL_ID_BYTES_MAX} bytes")));
    }
    let issuers = api.verifier.issuers();
    let issuer = match &issuer {
        Some(issuer) if issuers.has(issuer) => issuer,
        Some(_) => return Err(ApiError::new(Code::Invalid, "issuer: none of this name is configured")),
        None => issuers.only().unwrap_or(NO_ISSUER),
    };
    let (row, made) = subjects.user(issuer, &external, &person, bot).await?;
    if row.disabled && deletion::is_over(&row) {
        return Err(ApiError::new(Code::Conflict, "external_id: this user's account was deleted"));
    }
    let mut answer = if made { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(answer.json(Profile::of(row, None)))
}
