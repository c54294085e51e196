//! The keys that sign access tokens, for operators: which there are, and a new one, while the node runs.
//!
//! In a cluster a key must be accepted by every node before one signs with it: it is prepared on one, its file copied to the others and
//! read there, and only then do they rotate. A rotation that would have other nodes refuse tokens is refused, unless it is forced.

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
    #[serde(default = "keep_s")]
    keep_s: u64,
    /// Also when other nodes of the cluster refuse the new key's tokens.
    #[serde(default)]
    force: bool,
}

fn keep_s() -> u64 {
    KEEP_S
}

impl Default for Rotate {
    fn default() -> Self {
        Rotate { keep_s: KEEP_S, force: false }
    }
}

fn made_here(api: &Api) -> Result<(), ApiError> {
    if api.config.auth.secret.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(Code::Conflict, "the secret is configured (auth.secret); rotate it there, with auth.retired_keys"))
}

fn use_ring(api: &Api, ring: &[SigningKey]) -> Result<(), ApiError> {
    api.tokens.replace(ring).map_err(|error| {
        tracing::error!(%error, "the new ring of keys cannot be used");
        ApiError::new(Code::Internal, "the new ring of keys cannot be used")
    })?;
    api.node.ring_is(ring);
    Ok(())
}

/// `POST /admin/keys/prepare`: a key that is accepted from now on and does not sign yet; the next rotation makes it the one that does.
pub async fn prepare(_op: Operator, api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    made_here(&api)?;
    let _one_at_a_time = api.rotation.lock().await;
    let ring = on_disk(&api, |api| keys::prepare(&api.config.storage.data_dir, &api.config.auth)).await?;
    use_ring(&api, &ring)?;
    tracing::info!("a key for access tokens was prepared");
    Ok(HttpResponse::Ok().json(Answer::new(&ring, Vec::new())))
}

/// `POST /admin/keys/reload`: the ring is what is in the data directory now, where it was copied from another node.
pub async fn reload(_op: Operator, api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    made_here(&api)?;
    let _one_at_a_time = api.rotation.lock().await;
    let ring = on_disk(&api, |api| keys::kept(&api.config.storage.data_dir, &api.config.auth)).await?;
    let ring = ring.ok_or_else(|| ApiError::new(Code::NotFound, "there is neither signing.ring nor signing.key in the data directory"))?;
    use_ring(&api, &ring)?;
    tracing::info!(key = ring.first().map_or("", |key| &key.id), "the keys that sign access tokens were read again");
    Ok(HttpResponse::Ok().json(Answer::new(&ring, Vec::new())))
}

/// What the command line says too when no server runs.
pub const PREPARE_FIRST: &str = "this node is one of a cluster, and the others would refuse tokens of a key that they do not have: `hubbub keys prepare` on one \
    node, copy its secrets/signing.ring to the others, `hubbub keys reload` there, then `hubbub keys rotate` on each; or --force";

/// In a cluster: refused when other nodes would refuse what is signed next.
async fn may_rotate(api: &web::Data<Api>) -> Result<(), ApiError> {
    if api.node.cluster().is_none() {
        return Ok(());
    }
    let prepared = on_disk(api, |api| keys::prepared(&api.config.storage.data_dir)).await?;
    let prepared = prepared.ok_or_else(|| ApiError::new(Code::Conflict, PREPARE_FIRST))?;
    let lack = api.node.lack_key(keys::print(prepared.secret.expose()));
    if lack.is_empty() {
        return Ok(());
    }
    let (id, lack) = (prepared.id, lack.iter().map(u32::to_string).collect::<Vec<_>>().join(", "));
    let text = format!(
        "tokens of key {id} would be refused by node {lack}: copy secrets/signing.ring there, and `hubbub keys reload`; or --force"
    );
    Err(ApiError::new(Code::Conflict, text))
}

/// `POST /admin/keys/rotate`: a new key, or the one that was prepared, signs from now on. `Conflict` when the secret is part of the
/// configuration, or when other nodes of the cluster do not accept it yet.
pub async fn rotate(_op: Operator, api: web::Data<Api>, OptionalBody(body): OptionalBody<Rotate>) -> Result<HttpResponse, ApiError> {
    made_here(&api)?;
    let keep_ms = body.keep_s.saturating_mul(1000);
    let _one_at_a_time = api.rotation.lock().await;
    if !body.force {
        may_rotate(&api).await?;
    }
    let Rotated { ring, dropped } =
        on_disk(&api, move |api| keys::rotate(&api.config.storage.data_dir, &api.config.auth, keep_ms, now())).await?;
    use_ring(&api, &ring)?;
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
