//! The keys that sign access tokens, for operators: which there are, and a new one, while the node runs.

use super::Api;
use super::admin::Operator;
use super::error::OptionalBody;
use crate::auth::now;
use crate::config::keys::{self, Rotated, SigningKey};
use crate::error::{ApiError, Code};
use crate::protocol::ids::Millis;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

/// Seconds that keys are kept unless asked otherwise: longer than any token that was given out lives.
pub const KEEP_S: u64 = 367 * 86_400;

/// A key without its secret.
#[derive(Serialize)]
struct Key {
    id: String,
    /// It signs.
    signs: bool,
    /// Until when its tokens are accepted; absent: as long as it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Millis>,
}

#[derive(Serialize)]
struct Answer {
    items: Vec<Key>,
    /// Ids of the keys that are gone.
    dropped: Vec<String>,
}

impl Answer {
    fn new(ring: &[SigningKey], dropped: Vec<String>) -> Answer {
        let key = |(n, key): (usize, &SigningKey)| Key { id: key.id.clone(), signs: n == 0, until: key.until };
        Answer { items: ring.iter().enumerate().map(key).collect(), dropped }
    }
}

/// `GET /admin/keys`
pub async fn list(_op: Operator, api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    let ring = on_disk(&api, |api| match keys::configured(&api.config.auth) {
        Some(ring) => Ok(Some(ring)),
        None => keys::kept(&api.config.storage.data_dir, &api.config.auth),
    });
    let ring = ring.await?.unwrap_or_default();
    Ok(HttpResponse::Ok().json(Answer::new(&ring, Vec::new())))
}

/// Body of rotate; may be left out.
#[derive(Deserialize)]
pub struct Rotate {
    /// Seconds that the keys until now are still accepted; 0: their tokens end at once.
    keep_s: u64,
}

impl Default for Rotate {
    fn default() -> Self {
        Rotate { keep_s: KEEP_S }
    }
}

/// `POST /admin/keys/rotate`: a new key signs from now on. `Conflict` when the secret is part of the configuration.
pub async fn rotate(_op: Operator, api: web::Data<Api>, OptionalBody(body): OptionalBody<Rotate>) -> Result<HttpResponse, ApiError> {
    if !api.config.auth.secret.is_empty() {
        return Err(ApiError::new(Code::Conflict, "the secret is configured (auth.secret); rotate it there, with auth.retired_keys"));
    }
    let keep_ms = body.keep_s.saturating_mul(1000);
    let _one_at_a_time = api.rotation.lock().await;
    let Rotated { ring, dropped } =
        on_disk(&api, move |api| keys::rotate(&api.config.storage.data_dir, &api.config.auth, keep_ms, now())).await?;
    api.tokens.replace(&ring).map_err(|error| {
        tracing::error!(%error, "the new ring of keys cannot be used");
        ApiError::new(Code::Internal, "the new ring of keys cannot be used")
    })?;
    tracing::info!(key = ring.first().map_or("", |key| &key.id), ?dropped, "the keys that sign access tokens were rotated");
    Ok(HttpResponse::Ok().json(Answer::new(&ring, dropped)))
}

/// Reads or writes the files of the keys, on a thread for that.
async fn on_disk<T: Send + 'static>(
    api: &web::Data<Api>,
    work: impl FnOnce(&Api) -> Result<T, crate::config::secrets::SecretsError> + Send + 'static,
) -> Result<T, ApiError> {
    let api = api.clone().into_inner();
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "the keys could not be read or written");
        ApiError::new(Code::Internal, "the keys could not be read or written; the server's log says why")
    };
    let done = tokio::task::spawn_blocking(move || work(&api)).await;
    done.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
}
