//! Incoming webhooks: which there are, and whose secret is whose. Secrets are kept as hashes. **Bound**: [`HOOKS_MAX`] of them.

use super::failed;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, RoomId, UserId};
use crate::storage::records::{decode, encode};
use crate::storage::{Records, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Incoming webhooks at most.
pub const HOOKS_MAX: usize = 1_000;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 100;

/// One as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// Its id.
    pub id: u64,
    /// For people.
    pub name: String,
    /// Where it posts.
    pub room: RoomId,
    /// The bot it posts as.
    pub user: UserId,
    /// SHA-256 of the secret.
    hash: [u8; 32],
    /// When it was made.
    pub created: Millis,
}

/// The incoming webhooks.
pub struct IncomingHooks {
    records: Arc<dyn Records>,
}

fn unknown() -> ApiError {
    ApiError::new(Code::NotFound, "no such webhook")
}

impl IncomingHooks {
    /// Over a store.
    pub fn new(records: Arc<dyn Records>) -> IncomingHooks {
        IncomingHooks { records }
    }

    /// Whether one more of this name may be.
    pub async fn has_room(&self, name: &str) -> Result<(), ApiError> {
        if name.trim().is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(ApiError::new(Code::Invalid, format!("name: 1 to {NAME_BYTES_MAX} bytes")));
        }
        let full = || ApiError::new(Code::Conflict, format!("there are {HOOKS_MAX} incoming webhooks, as many as may be"));
        if self.list(None, HOOKS_MAX).await?.len() < HOOKS_MAX { Ok(()) } else { Err(full()) }
    }

    /// Makes one under a fresh id; gives its secret, this once.
    pub async fn create(&self, id: u64, name: &str, room: RoomId, user: UserId, now: Millis) -> Result<(Incoming, String), ApiError> {
        let secret = hex::encode(rand::random::<[u8; 32]>());
        let hook = Incoming { id, name: name.into(), room, user, hash: Sha256::digest(&secret).into(), created: now };
        let row = Some(encode(&hook));
        let made = self.records.replace_record(Table::IncomingHook, b"", &id.to_be_bytes(), None, row).await.map_err(failed)?;
        if !made {
            return Err(ApiError::new(Code::Unavailable, "the id of the webhook is taken; try again"));
        }
        Ok((hook, secret))
    }

    /// Those with a greater id, ascending, at most `limit`.
    pub async fn list(&self, after: Option<u64>, limit: usize) -> Result<Vec<Incoming>, ApiError> {
        let after = after.map(u64::to_be_bytes);
        let rows = self.records.records(Table::IncomingHook, b"", after.as_ref().map(|a| &a[..]), limit).await.map_err(failed)?;
        rows.iter().map(|(_, bytes)| decode(bytes).map_err(failed)).collect()
    }

    /// Revokes one: it is as if it had never been.
    pub async fn revoke(&self, id: u64) -> Result<Incoming, ApiError> {
        let row = self.records.record(Table::IncomingHook, b"", &id.to_be_bytes()).await.map_err(failed)?.ok_or_else(unknown)?;
        let was = Some(row.clone());
        let gone = self.records.replace_record(Table::IncomingHook, b"", &id.to_be_bytes(), was, None).await.map_err(failed)?;
        if gone { decode(&row).map_err(failed) } else { Err(unknown()) }
    }

    /// The one whose id and secret these are.
    pub async fn verify(&self, id: u64, secret: &str) -> Result<Incoming, ApiError> {
        let row = self.records.record(Table::IncomingHook, b"", &id.to_be_bytes()).await.map_err(failed)?.ok_or_else(unknown)?;
        let hook: Incoming = decode(&row).map_err(failed)?;
        // By hash, so that the time it takes tells nothing of the secret.
        if <[u8; 32]>::from(Sha256::digest(secret)) == hook.hash { Ok(hook) } else { Err(unknown()) }
    }
}
