//! API keys: what an embedder's server acts with. `hbk_<id>_<secret>`, shown once, kept as a hash.
//!
//! A key has scopes, and may be bound to one user, as whom alone it acts then. What each request needs is said in one table (`http::scopes`).
//! The secret is 256 random bits, so that one SHA-256 of it is as good as any slower hash. Keys that were looked up are
//! remembered for [`REMEMBERED`]: a revocation counts at once on the node that carried it out and on those that hear of it, and so much later on others.
//! **Bounds**: [`KEYS_MAX`] keys.

use super::failed;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, UserId};
use crate::storage::records::{decode, encode};
use crate::storage::{Records, Table};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Keys at most.
pub const KEYS_MAX: usize = 1_000;
/// What every key begins with.
pub const PREFIX: &str = "hbk_";
/// How long a key is believed to be as it was.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Bytes of a key's name.
const NAME_BYTES_MAX: usize = 100;

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What a key may do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        pub enum Scope { $($(#[$doc])* #[serde(rename = $text)] $name,)* }
        impl Scope {
            /// All of them.
            pub const ALL: &'static [Scope] = &[$(Scope::$name,)*];
            /// As it is written.
            pub fn as_str(self) -> &'static str { match self { $(Scope::$name => $text,)* } }
        }
    };
}

scopes! {
    /// Make and delete users, change their profiles and contacts.
    UsersWrite = "users:write";
    /// Make rooms, change them and their members.
    RoomsWrite = "rooms:write";
    /// Send, change and delete messages, react, pin, move cursors.
    MessagesWrite = "messages:write";
    /// Read rooms, members and messages.
    MessagesRead = "messages:read";
    /// Configure webhooks, outgoing and incoming.
    HooksWrite = "hooks:write";
    /// See and decide on reports, ban from the server.
    Moderate = "moderate";
}

impl std::str::FromStr for Scope {
    type Err = ApiError;
    fn from_str(s: &str) -> Result<Scope, ApiError> {
        let all = || Scope::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ");
        let found = Scope::ALL.iter().find(|scope| scope.as_str() == s).copied();
        found.ok_or_else(|| ApiError::new(Code::Invalid, format!("a scope is one of {}", all())))
    }
}

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its id.
    pub id: u64,
    /// For people.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The only user that it acts as; none: any.
    pub user: Option<UserId>,
    /// SHA-256 of the secret.
    hash: [u8; 32],
    /// When it was made.
    pub created: Millis,
}

impl Key {
    /// Whether it may do one of these.
    pub fn may(&self, any: &[Scope]) -> bool {
        any.iter().any(|scope| self.scopes.contains(scope))
    }
}

/// The keys. One per process, shared.
pub struct Keys {
    records: Arc<dyn Records>,
    remembered: RwLock<HashMap<u64, (Arc<Key>, Instant)>>,
    /// Keys revoked here so far: what was read before the last one is not remembered after it.
    revoked: AtomicU64,
    tell: OnceLock<Box<dyn Fn(u64) + Send + Sync>>,
}

fn unknown() -> ApiError {
    ApiError::new(Code::Unauthorized, "the API key is not accepted")
}

/// The id and the secret of a key's text.
fn parse(text: &str) -> Option<(u64, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let plain = id.len() <= 19 && id.bytes().all(|b| b.is_ascii_digit()) && secret.len() == 64;
    Some((id.parse().ok().filter(|_| plain)?, secret))
}

fn place(id: u64) -> [u8; 8] {
    id.to_be_bytes()
}

impl Keys {
    /// Over a store.
    pub fn new(records: Arc<dyn Records>) -> Keys {
        Keys { records, remembered: RwLock::default(), revoked: AtomicU64::new(0), tell: OnceLock::new() }
    }

    /// Who tells other nodes that a key was revoked here; set once. Must not block.
    pub fn told_to(&self, tell: impl Fn(u64) + Send + Sync + 'static) {
        let _ = self.tell.set(Box::new(tell));
    }

    /// A key, or any, may have been revoked.
    pub fn forget(&self, id: Option<u64>) {
        let mut remembered = self.remembered.write();
        self.revoked.fetch_add(1, Ordering::Relaxed);
        match id {
            Some(id) => drop(remembered.remove(&id)),
            None => remembered.clear(),
        }
    }

    /// Makes a key under a fresh id. Its text is given this once.
    pub async fn create(
        &self,
        id: u64,
        name: &str,
        mut scopes: Vec<Scope>,
        user: Option<UserId>,
        now: Millis,
    ) -> Result<(Key, String), ApiError> {
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.is_empty() {
            return Err(ApiError::new(Code::Invalid, "a key has at least one scope"));
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(ApiError::new(Code::Invalid, format!("name has at most {NAME_BYTES_MAX} bytes")));
        }
        if self.list().await?.len() >= KEYS_MAX {
            return Err(ApiError::new(Code::Conflict, format!("there are {KEYS_MAX} API keys, as many as may be")));
        }
        let secret = hex::encode(rand::random::<[u8; 32]>());
        let key = Key { id, name: name.into(), scopes, user, hash: Sha256::digest(&secret).into(), created: now };
        let made = self.records.replace_record(Table::ApiKey, b"", &place(id), None, Some(encode(&key))).await.map_err(failed)?;
        if !made {
            return Err(ApiError::new(Code::Unavailable, "the id of the key is taken; try again"));
        }
        let text = format!("{PREFIX}{id}_{secret}");
        Ok((key, text))
    }

    /// All keys, the oldest first.
    pub async fn list(&self) -> Result<Vec<Key>, ApiError> {
        let rows = self.records.records(Table::ApiKey, b"", None, KEYS_MAX).await.map_err(failed)?;
        rows.iter().map(|(_, bytes)| decode(bytes).map_err(failed)).collect()
    }

    /// Revokes a key: it is as if it had never been.
    pub async fn revoke(&self, id: u64) -> Result<Key, ApiError> {
        let none = || ApiError::new(Code::NotFound, "no such API key");
        let row = self.records.record(Table::ApiKey, b"", &place(id)).await.map_err(failed)?.ok_or_else(none)?;
        let gone = self.records.replace_record(Table::ApiKey, b"", &place(id), Some(row.clone()), None).await.map_err(failed)?;
        self.forget(Some(id));
        if let Some(tell) = self.tell.get() {
            tell(id);
        }
        if gone { decode(&row).map_err(failed) } else { Err(none()) }
    }

    /// The key whose text this is, if it was looked up a moment ago. For who cannot wait.
    pub fn known(&self, text: &str) -> Option<Arc<Key>> {
        let (id, secret) = parse(text)?;
        let (key, at) = self.remembered.read().get(&id).cloned()?;
        (at.elapsed() < REMEMBERED && matches(&key, secret)).then_some(key)
    }

    /// The key whose text this is.
    pub async fn verify(&self, text: &str) -> Result<Arc<Key>, ApiError> {
        if let Some(key) = self.known(text) {
            return Ok(key);
        }
        let (id, secret) = parse(text).ok_or_else(unknown)?;
        let revoked = self.revoked.load(Ordering::Relaxed);
        let row = self.records.record(Table::ApiKey, b"", &place(id)).await.map_err(failed)?.ok_or_else(unknown)?;
        let key: Arc<Key> = Arc::new(decode(&row).map_err(failed)?);
        if !matches(&key, secret) {
            return Err(unknown());
        }
        let mut remembered = self.remembered.write();
        if self.revoked.load(Ordering::Relaxed) == revoked {
            remembered.insert(id, (key.clone(), Instant::now()));
        }
        Ok(key)
    }
}

/// By hash, so that the time it takes tells nothing of the secret.
fn matches(key: &Key, secret: &str) -> bool {
    <[u8; 32]>::from(Sha256::digest(secret)) == key.hash
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::storage::embedded::EmbeddedStore;

    fn keys() -> (Keys, Arc<EmbeddedStore>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), Default::default()).unwrap();
        (Keys::new(store.clone()), store, dir)
    }

    #[actix_rt::test]
    async fn a_key_is_shown_once_and_kept_as_a_hash() {
        let (keys, store, _dir) = keys();
        let (key, text) = keys.create(5, "bot", vec![Scope::MessagesRead, Scope::MessagesRead], None, 1).await.unwrap();
        assert_eq!(key.scopes, [Scope::MessagesRead]);
        let secret = text.rsplit('_').next().unwrap();
        let row = store.record(Table::ApiKey, b"", &place(5)).await.unwrap().unwrap();
        assert!(!row.windows(16).any(|w| secret.as_bytes().starts_with(w)));
        assert_eq!(*keys.verify(&text).await.unwrap(), key);
        assert!(keys.known(&text).is_some());
        let wrong = format!("hbk_5_{}", "0".repeat(64));
        for bad in ["", "hbk_", "hbk_5", "hbk_5_", &wrong, &text[..text.len() - 1], &format!("hbk_6_{secret}"), &text.to_uppercase()] {
            assert_eq!(keys.verify(bad).await.unwrap_err().code, Code::Unauthorized, "{bad}");
            assert!(keys.known(bad).is_none(), "{bad}");
        }
        assert_eq!(keys.create(6, "x", vec![], None, 1).await.unwrap_err().code, Code::Invalid);
    }

    #[actix_rt::test]
    async fn a_revoked_key_is_refused_at_once() {
        let (keys, _store, _dir) = keys();
        let (_, text) = keys.create(5, "bot", vec![Scope::Moderate], Some(UserId(7)), 1).await.unwrap();
        assert_eq!(keys.verify(&text).await.unwrap().user, Some(UserId(7)));
        keys.revoke(5).await.unwrap();
        assert_eq!(keys.verify(&text).await.unwrap_err().code, Code::Unauthorized);
        assert_eq!(keys.revoke(5).await.unwrap_err().code, Code::NotFound);
        assert!(keys.list().await.unwrap().is_empty());
    }
}
