//! API keys, as operators make and revoke them. Their text is shown once.

use super::Api;
use super::admin::Operator;
use super::error::Body;
use crate::auth::keys::{Key, Scope};
use crate::auth::{failed, now};
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, UserId};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

/// A key as operators see it.
#[derive(Serialize)]
struct Shown {
    id: String,
    name: String,
    scopes: Vec<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserId>,
    created: Millis,
    /// Only in the answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl Shown {
    fn new(key: Key, text: Option<String>) -> Shown {
        Shown { id: key.id.to_string(), name: key.name, scopes: key.scopes, user: key.user, created: key.created, key: text }
    }
}

/// Body of create.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    #[serde(default)]
    name: String,
    scopes: Vec<String>,
    #[serde(default)]
    user: Option<UserId>,
}

/// `GET /admin/api-keys`: all of them, without their text.
pub async fn list(_op: Operator, api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    let items: Vec<Shown> = api.keys.list().await?.into_iter().map(|key| Shown::new(key, None)).collect();
    Ok(HttpResponse::Ok().json(serde_json::json!({ "items": items })))
}

/// `POST /admin/api-keys`
pub async fn create(_op: Operator, api: web::Data<Api>, Body(new): Body<NewKey>) -> Result<HttpResponse, ApiError> {
    let scopes = new.scopes.iter().map(|s| s.parse()).collect::<Result<Vec<Scope>, _>>()?;
    if let Some(user) = new.user {
        let row = api.store.user(user).await.map_err(failed)?;
        row.ok_or_else(|| ApiError::new(Code::Invalid, "user: there is no such user"))?;
    }
    let id = api.node.next_id().await?;
    let (key, text) = api.keys.create(id, &new.name, scopes, new.user, now()).await?;
    Ok(HttpResponse::Created().json(Shown::new(key, Some(text))))
}

/// `DELETE /admin/api-keys/{id}`
pub async fn revoke(_op: Operator, api: web::Data<Api>, id: web::Path<u64>) -> Result<HttpResponse, ApiError> {
    api.keys.revoke(*id).await?;
    Ok(HttpResponse::NoContent().finish())
}
