//! Keys at an address: fetched when the first token comes, kept, and fetched again when they are old or lack the key that a token names.
//!
//! One fetch at a time, and at most one in `jwks_pause_s`, whether it succeeds or not: neither tokens with invented key ids nor an
//! issuer that does not answer make it more. While an issuer does not answer, the keys that are there go on, up to [`STALE_MAX`].

use super::keys::KeySet;
use crate::config;
use crate::error::{ApiError, Code};
use crate::outbound::{Call, HeaderMap, HeaderValue, Method, Outbound, Url, header};
use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Bytes of a JWK set at most.
const SET_BYTES_MAX: usize = 256 * 1024;
/// Keys that could not be fetched anew for so long are believed no more: a key may have been withdrawn meanwhile.
const STALE_MAX: Duration = Duration::from_secs(86_400);

#[derive(Clone)]
struct Held {
    set: Arc<KeySet>,
    at: Instant,
}

/// See the module.
pub(super) struct Remote {
    outbound: Arc<Outbound>,
    url: Url,
    algorithms: Vec<Algorithm>,
    refresh: Duration,
    pause: Duration,
    held: RwLock<Option<Held>>,
    /// When the last fetch began.
    tried: Arc<Mutex<Option<Instant>>>,
}

impl Remote {
    pub(super) fn new(config: &config::Issuer, algorithms: &[Algorithm], outbound: Arc<Outbound>) -> Result<Remote, String> {
        let url = outbound.address(&config.jwks_url).map_err(|e| format!("jwks_url: {e}"))?;
        Ok(Remote {
            outbound,
            url,
            algorithms: algorithms.to_vec(),
            refresh: Duration::from_secs(config.jwks_refresh_s),
            pause: Duration::from_secs(config.jwks_pause_s),
            held: RwLock::default(),
            tried: Arc::default(),
        })
    }

    /// The key that checks a token with this header, if the issuer has one. `Unavailable` while no keys can be had.
    pub(super) async fn pick(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm) -> Result<Option<DecodingKey>, ApiError> {
        let held = self.held.read().clone();
        match held {
            Some(held) if held.set.has(id) => {
                if held.at.elapsed() > self.refresh
                    && let Ok(tried) = self.tried.clone().try_lock_owned()
                {
                    // Old, but good for this token: whoever else comes meanwhile need not wait.
                    self.fetch(tried).await;
                }
            }
            // It names a key that came since, perhaps; or there are no keys yet.
            _ => {
                let before = Instant::now();
                let tried = self.tried.clone().lock_owned().await;
                if self.held.read().as_ref().is_none_or(|held| held.at < before) {
                    self.fetch(tried).await;
                }
            }
        }
        self.held(id, algorithm)
    }

    /// Whether a key of this name is held: then a token that it does not check is no good.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        id.is_some_and(|id| self.held.read().as_ref().is_some_and(|held| held.set.names(id)))
    }

    /// The same as [`Remote::pick`], from keys that are fetched anew if that may be.
    pub(super) async fn newer(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm) -> Result<Option<DecodingKey>, ApiError> {
        let tried = self.tried.clone().lock_owned().await;
        self.fetch(tried).await;
        self.held(id, algorithm)
    }

    fn held(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Option<DecodingKey>, ApiError> {
        let held = self.held.read().clone().filter(|held| held.at.elapsed() < STALE_MAX);
        let none = || ApiError::after(Code::Unavailable, "the keys of the token's issuer cannot be had now", self.pause);
        Ok(held.ok_or_else(none)?.set.pick(id, algorithm))
    }

    /// Fetches the keys, unless that was tried just now. In a task of its own: whoever asked may go away before the answer comes, and the
    /// try would be spent for nothing.
    async fn fetch(self: &Arc<Self>, mut tried: OwnedMutexGuard<Option<Instant>>) {
        if tried.is_some_and(|at| at.elapsed() < self.pause) {
            return;
        }
        *tried = Some(Instant::now());
        let me = self.clone();
        let fetched = tokio::task::spawn_local(async move {
            match me.ask().await {
                Ok(set) => *me.held.write() = Some(Held { set: Arc::new(set), at: Instant::now() }),
                Err(why) => tracing::warn!(why, "the keys of an issuer could not be fetched"),
            }
            drop(tried);
        });
        let _ = fetched.await;
    }

    async fn ask(&self) -> Result<KeySet, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
        let call = Call { method: Method::GET, url: self.url.clone(), headers, body: Bytes::new(), answer_bytes_max: SET_BYTES_MAX };
        let answer = self.outbound.send(call).await.map_err(|e| e.to_string())?;
        match answer.status {
            200 if answer.whole => KeySet::jwks(&answer.body, &self.algorithms),
            200 => Err(format!("the set has more than {SET_BYTES_MAX} bytes")),
            status => Err(format!("the issuer answered {status}")),
        }
    }
}
