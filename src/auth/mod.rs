//! Who somebody is: accounts, passwords, access tokens, the families of refresh tokens that devices hold, e-mail addresses, the second
//! factor, and the mail that goes to people.
//!
//! Guarantees: a password is hashed on threads of its own and never on the caller's; an unknown name and a wrong password
//! cannot be told apart, by answer or by time; a token is accepted only if this deployment signed it and its time is not over;
//! a refresh token works once, and its second use closes its family. No HTTP here, and no sockets: whoever holds those is
//! told of a revocation by [`sessions::Announce`].

use crate::error::{ApiError, Code};
use crate::storage::StorageError;

pub mod accounts;
pub mod bans;
pub mod deletion;
pub mod emails;
pub mod issuers;
pub mod keys;
pub mod limits;
pub mod mail;
pub mod mfa;
pub mod onetime;
pub mod passwords;
pub mod refresh;
pub mod reports;
mod rows;
pub mod sessions;
pub mod subjects;
pub mod tokens;
pub mod totp;
pub mod verifier;

pub use crate::clock::now_ms as now;

/// A store's failure as clients get it. What is the server's own fault is logged here, once, and not described to them.
pub fn failed(error: StorageError) -> ApiError {
    match error {
        StorageError::Busy(_) => ApiError::new(Code::Busy, "the store has too much waiting"),
        StorageError::NotOwner(_) => ApiError::new(Code::Unavailable, "what this belongs to is changing its node; try again"),
        StorageError::ReadOnly(_) => ApiError::new(Code::LogUnavailable, "the store takes no writes now"),
        StorageError::Down(_) => ApiError::new(Code::LogUnavailable, "the store cannot be reached now; try again"),
        StorageError::Quota { .. } => ApiError::new(Code::QuotaExceeded, "the disk quota is used up"),
        StorageError::InDoubt(_) => ApiError::new(Code::Unknown, "it is not known whether this was stored; ask again"),
        StorageError::Damaged(_) | StorageError::Failed(_) => {
            tracing::error!(%error, "accounts could not be read or written");
            ApiError::new(Code::Internal, "the store failed")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::protocol::ids::UserId;
    use crate::storage::UserRow;
    use crate::storage::embedded::EmbeddedStore;
    use std::sync::Arc;

    /// An empty store, which goes with its directory.
    pub(super) fn store() -> (Arc<EmbeddedStore>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (EmbeddedStore::open(dir.path(), Default::default()).unwrap(), dir)
    }

    /// An account that is in no store.
    pub(super) fn account(id: u64) -> UserRow {
        UserRow {
            user: UserId(id),
            name: format!("user-{id}"),
            password: String::new(),
            disabled: false,
            tokens_after: 0,
            created: 1,
            status: String::new(),
            last_seen: 0,
            display_name: String::new(),
            avatar_url: String::new(),
            bot: false,
        }
    }
}
