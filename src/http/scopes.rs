//! What an API key may do: the scope that each request needs, in one table; and acting as a user by a key.
//!
//! A request with a key is let in when the key has **one of** the scopes of its row. A row without scopes, and an address without a
//! row, are not for keys: what concerns passwords, devices and tokens is a person's own. A test holds the table against the OpenAPI document, so that
//! no address is forgotten. `Hubbub-As: <user id>` says which user a key acts as; a key that is bound to a user acts as that one only.

use super::admin::Operator;
use super::audit::ByKey;
use super::{Api, api_of, bearer};
use crate::auth::keys::{Key, PREFIX, Scope};
use crate::auth::tokens::Claims;
use crate::auth::{failed, now};
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::storage::UserRow;
use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use std::sync::Arc;

use Scope::{HooksWrite, MessagesRead, MessagesWrite, Moderate, RoomsWrite, UsersWrite};

/// Says as which user a key acts.
pub const ACT_AS: &str = "hubbub-as";

const READ: &[Scope] = &[MessagesRead];
const WRITE: &[Scope] = &[MessagesWrite];
const ROOMS: &[Scope] = &[RoomsWrite];
const USERS: &[Scope] = &[UsersWrite];
const HOOKS: &[Scope] = &[HooksWrite];
const MODERATE: &[Scope] = &[Moderate];
/// Reading what one must know to do anything at all.
const ANY: &[Scope] = Scope::ALL;
/// Not for keys.
const NEVER: &[Scope] = &[];

/// Method, address, and the scopes of which one is needed.
pub const SCOPES: &[(&str, &str, &[Scope])] = &[
    ("POST", "/v1/users", USERS),
    ("GET", "/v1/users/{user}", ANY),
    ("DELETE", "/v1/users/{user}", USERS),
    ("GET", "/v1/users/by-name/{name}", ANY),
    ("GET", "/v1/me", ANY),
    ("PATCH", "/v1/me", USERS),
    ("DELETE", "/v1/me", NEVER),
    ("GET", "/v1/me/export", NEVER),
    ("PUT", "/v1/me/password", NEVER),
    ("PUT", "/v1/me/email", NEVER),
    ("DELETE", "/v1/me/email", NEVER),
    ("GET", "/v1/me/devices", NEVER),
    ("DELETE", "/v1/me/devices/{device}", NEVER),
    ("POST", "/v1/me/totp", NEVER),
    ("POST", "/v1/me/totp/confirm", NEVER),
    ("DELETE", "/v1/me/totp", NEVER),
    ("POST", "/v1/auth/logout", NEVER),
    ("GET", "/v1/contacts", ANY),
    ("PUT", "/v1/contacts/{user}", USERS),
    ("DELETE", "/v1/contacts/{user}", USERS),
    ("GET", "/v1/contacts/presence", ANY),
    ("GET", "/v1/blocks", ANY),
    ("PUT", "/v1/blocks/{user}", USERS),
    ("DELETE", "/v1/blocks/{user}", USERS),
    ("GET", "/v1/rooms", READ),
    ("POST", "/v1/rooms", ROOMS),
    ("GET", "/v1/rooms/{room}", READ),
    ("PATCH", "/v1/rooms/{room}", ROOMS),
    ("POST", "/v1/rooms/{room}/join", ROOMS),
    ("POST", "/v1/rooms/{room}/leave", ROOMS),
    ("POST", "/v1/rooms/{room}/transfer", ROOMS),
    ("GET", "/v1/rooms/{room}/members", READ),
    ("PUT", "/v1/rooms/{room}/members/{user}", ROOMS),
    ("PATCH", "/v1/rooms/{room}/members/{user}", ROOMS),
    ("DELETE", "/v1/rooms/{room}/members/{user}", ROOMS),
    ("GET", "/v1/rooms/{room}/bans", READ),
    ("PUT", "/v1/rooms/{room}/bans/{user}", ROOMS),
    ("DELETE", "/v1/rooms/{room}/bans/{user}", ROOMS),
    ("PUT", "/v1/rooms/{room}/mutes/{user}", ROOMS),
    ("DELETE", "/v1/rooms/{room}/mutes/{user}", ROOMS),
    ("GET", "/v1/rooms/{room}/invites", ROOMS),
    ("POST", "/v1/rooms/{room}/invites", ROOMS),
    ("DELETE", "/v1/rooms/{room}/invites/{code}", ROOMS),
    ("GET", "/v1/invites/{code}", READ),
    ("POST", "/v1/invites/{code}/accept", ROOMS),
    ("GET", "/v1/channels", READ),
    ("GET", "/v1/rooms/{room}/notify", READ),
    ("PUT", "/v1/rooms/{room}/notify", USERS),
    ("GET", "/v1/rooms/{room}/messages", READ),
    ("POST", "/v1/rooms/{room}/messages", WRITE),
    ("GET", "/v1/rooms/{room}/messages/{seq}", READ),
    ("PATCH", "/v1/rooms/{room}/messages/{seq}", WRITE),
    ("DELETE", "/v1/rooms/{room}/messages/{seq}", WRITE),
    ("PUT", "/v1/rooms/{room}/messages/{seq}/reactions/{emoji}", WRITE),
    ("DELETE", "/v1/rooms/{room}/messages/{seq}/reactions/{emoji}", WRITE),
    ("PUT", "/v1/rooms/{room}/messages/{seq}/pin", WRITE),
    ("DELETE", "/v1/rooms/{room}/messages/{seq}/pin", WRITE),
    ("GET", "/v1/rooms/{room}/messages/{seq}/thread", READ),
    ("GET", "/v1/rooms/{room}/messages/{seq}/readers", READ),
    ("GET", "/v1/rooms/{room}/receipts", READ),
    ("GET", "/v1/rooms/{room}/pins", READ),
    ("GET", "/v1/rooms/{room}/entries", READ),
    ("GET", "/v1/rooms/{room}/cursor", READ),
    ("PUT", "/v1/rooms/{room}/cursor", WRITE),
    ("GET", "/v1/push/subscription", NEVER),
    ("PUT", "/v1/push/subscription", NEVER),
    ("DELETE", "/v1/push/subscription", NEVER),
    ("GET", "/v1/push/subscriptions", NEVER),
    ("GET", "/v1/webhooks", HOOKS),
    ("POST", "/v1/webhooks", HOOKS),
    ("GET", "/v1/webhooks/{id}", HOOKS),
    ("PATCH", "/v1/webhooks/{id}", HOOKS),
    ("DELETE", "/v1/webhooks/{id}", HOOKS),
    ("POST", "/v1/webhooks/{id}/secret", HOOKS),
    ("DELETE", "/v1/webhooks/{id}/secret", HOOKS),
    ("GET", "/v1/webhooks/{id}/dead", HOOKS),
    ("POST", "/v1/webhooks/{id}/replay", HOOKS),
    ("GET", "/v1/incoming-hooks", HOOKS),
    ("POST", "/v1/incoming-hooks", HOOKS),
    ("DELETE", "/v1/incoming-hooks/{id}", HOOKS),
    ("POST", "/v1/reports", WRITE),
    ("GET", "/v1/reports", MODERATE),
    ("POST", "/v1/reports/{id}/resolve", MODERATE),
    ("GET", "/v1/server-bans", MODERATE),
    ("PUT", "/v1/server-bans/{user}", MODERATE),
    ("DELETE", "/v1/server-bans/{user}", MODERATE),
];

/// The scopes of which a key needs one; none: not for keys.
pub fn needed(method: &Method, pattern: &str) -> &'static [Scope] {
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    SCOPES.iter().find(|(m, p, _)| *m == method && *p == pattern).map_or(NEVER, |(_, _, scopes)| scopes)
}

/// Whether a bearer's text is meant as an API key.
pub fn is_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// The request's key, if it may do what the request asks for. Counts it against the key's rate.
pub async fn key(api: &Api, req: &HttpRequest, text: &str) -> Result<Arc<Key>, ApiError> {
    let key = api.keys.verify(text).await?;
    let needed = needed(req.method(), req.match_pattern().as_deref().unwrap_or_default());
    if needed.is_empty() {
        return Err(ApiError::new(Code::Forbidden, "this is not for API keys; sign in as the user"));
    }
    if !key.may(needed) {
        let names: Vec<&str> = needed.iter().map(|scope| scope.as_str()).collect();
        return Err(ApiError::new(Code::Forbidden, format!("the API key lacks the scope {}", names.join(" or "))));
    }
    if let Some(standing) = api.limits.key_standing(key.id)? {
        req.extensions_mut().insert(standing);
    }
    req.extensions_mut().insert(ByKey { key: key.id, user: None });
    Ok(key)
}

/// The user as whom a key acts here, with claims such as a token would have: the key stands for the device.
pub async fn acting(api: &Api, req: &HttpRequest, text: &str) -> Result<(UserRow, Claims), ApiError> {
    let key = key(api, req, text).await?;
    let invalid = |what: &'static str| ApiError::new(Code::Invalid, what);
    let mut said = req.headers().get_all(ACT_AS);
    let said = match (said.next(), said.next()) {
        (None, _) => None,
        (Some(value), None) => {
            let user = value.to_str().ok().and_then(|text| text.parse::<UserId>().ok());
            Some(user.ok_or_else(|| invalid("hubbub-as: not a user id"))?)
        }
        _ => return Err(invalid("hubbub-as: more than one")),
    };
    let user = match (key.user, said) {
        (Some(bound), Some(said)) if bound != said => {
            return Err(ApiError::new(Code::Forbidden, "the API key acts as another user only"));
        }
        (Some(user), _) | (None, Some(user)) => user,
        (None, None) => return Err(invalid("hubbub-as: say as which user the API key acts")),
    };
    let row = api.store.user(user).await.map_err(failed)?.filter(|row| !row.disabled);
    let row = row.ok_or_else(|| invalid("hubbub-as: there is no such user, or it is disabled"))?;
    req.extensions_mut().insert(ByKey { key: key.id, user: Some(user) });
    // A key does not end by itself.
    let claims = Claims { user, device: DeviceId(key.id), issued: now(), expires: i64::MAX as Millis };
    Ok((row, claims))
}

/// Who keeps the server's integrations: an operator on the operators' listener, an API key with the scope elsewhere.
pub struct Keeper {
    /// The key.
    pub key: Option<Arc<Key>>,
}

impl FromRequest for Keeper {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let operator = Operator::from_request(req, payload);
        let req = req.clone();
        Box::pin(async move {
            if req.match_pattern().is_some_and(|p| p.starts_with("/admin/")) {
                return operator.await.map(|_| Keeper { key: None });
            }
            let api: web::Data<Api> = api_of(&req)?;
            let needed = || ApiError::new(Code::Unauthorized, "an API key is needed (authorization: bearer)");
            let text = bearer(&req).ok_or_else(needed)?;
            if !is_key(text) {
                return Err(ApiError::new(Code::Forbidden, "this is for API keys only"));
            }
            let key = key(&api, &req, text).await?;
            // These acts are nobody's own; who speaks for one user only does not rule over others.
            if key.user.is_some() {
                return Err(ApiError::new(Code::Forbidden, "this API key acts as one user only, and this is not done as a user"));
            }
            Ok(Keeper { key: Some(key) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_address_is_in_the_table_once_and_what_is_a_persons_own_is_not_for_keys() {
        let rows: BTreeSet<_> = SCOPES.iter().map(|(method, path, _)| (method, path)).collect();
        assert_eq!(rows.len(), SCOPES.len());
        for (method, path, scopes) in SCOPES {
            let personal = ["/v1/auth/", "/v1/me/", "/v1/push/"].iter().any(|p| path.starts_with(p));
            assert_eq!(scopes.is_empty(), personal || (*method, *path) == ("DELETE", "/v1/me"), "{method} {path}");
        }
        assert_eq!(needed(&Method::HEAD, "/v1/rooms"), READ);
        assert!(needed(&Method::POST, "/v1/rooms/{room}").is_empty(), "not a row");
    }

    #[test]
    fn every_operation_of_the_document_that_needs_a_token_is_in_the_table() {
        let doc = super::super::openapi::whole();
        let mut missing = Vec::new();
        for (path, item) in doc["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten().filter(|(_, o)| o.is_object()) {
                let open = operation["security"].as_array().is_some_and(Vec::is_empty);
                let method = method.to_uppercase();
                if !open && !SCOPES.iter().any(|(m, p, _)| *m == method && p == path) {
                    missing.push(format!("{method} {path}"));
                }
            }
        }
        assert!(missing.is_empty(), "addresses without a row: {missing:#?}");
    }
}
