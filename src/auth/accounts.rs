//! Accounts: making them, signing in by name and password, changing and disabling them.
//!
//! What ends sessions (a new password, disabling) does so in the same write, by `tokens_after`: every access and refresh
//! token issued before it is refused from then on. Closing the sockets at once is the caller's part.

use super::passwords::Passwords;
use super::{bans, deletion, failed, now};
use crate::config;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, UserId};
use crate::storage::{Store, UserRow};
use std::sync::Arc;

/// Changes of one row that may collide before the caller is told to try again.
const TRIES: usize = 16;
/// Accounts of a page at most.
pub const PAGE_MAX: usize = 1_000;

/// The accounts. Clones share the store and the hash threads.
#[derive(Clone)]
pub struct Accounts {
    users: Arc<dyn Store>,
    passwords: Passwords,
}

/// Whether a name may be taken: 2 to 32 of `a-z 0-9 _ . -`.
pub fn valid_name(name: &str) -> bool {
    (2..=32).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
}

/// A fresh account's row. No password fits an empty hash.
fn blank(user: UserId, name: &str, password: String) -> UserRow {
    UserRow {
        user,
        name: name.into(),
        password,
        disabled: false,
        tokens_after: 0,
        created: now(),
        status: String::new(),
        last_seen: 0,
        display_name: String::new(),
        avatar_url: String::new(),
        bot: false,
    }
}

/// The one answer to an unknown name and to a wrong password.
fn bad_credentials() -> ApiError {
    ApiError::new(Code::BadCredentials, "user name or password is wrong")
}

impl Accounts {
    /// Starts the hash threads.
    pub fn new(users: Arc<dyn Store>, config: &config::Auth) -> Accounts {
        Accounts { users, passwords: Passwords::new(config) }
    }

    /// Makes an account under a fresh id. `Invalid` for a name or password that cannot be, `Conflict` when the name is taken.
    pub async fn create(&self, user: UserId, name: &str, password: &str) -> Result<UserRow, ApiError> {
        if !valid_name(name) {
            return Err(ApiError::new(Code::Invalid, "a user name has 2 to 32 characters of a-z, 0-9, _ . -"));
        }
        Passwords::acceptable(password)?;
        let taken = || ApiError::new(Code::Conflict, format!("the user name {name} is taken"));
        // Looked up first so that a taken name costs no hashing; the store decides in the end.
        if self.users.user_by_name(name).await.map_err(failed)?.is_some() || self.withheld(name).await? {
            return Err(taken());
        }
        let password = self.passwords.hash(password.into()).await?;
        self.settle(blank(user, name, password)).await?.ok_or_else(taken)
    }

    /// Whether nobody may have a name: it was a deleted account's, or is a banned one's.
    async fn withheld(&self, name: &str) -> Result<bool, ApiError> {
        Ok(deletion::was_deleted(&*self.users, name).await? || bans::holds_name(&*self.users, name).await?)
    }

    /// Stores a fresh account; `None` when its name is not to be had, or its id.
    async fn settle(&self, row: UserRow) -> Result<Option<UserRow>, ApiError> {
        if !self.users.create_user(row.clone()).await.map_err(failed)? {
            return Ok(None);
        }
        // A name becomes free only after it was noted as deleted; so this sees what came between the look before and the store.
        if deletion::was_deleted(&*self.users, &row.name).await? {
            deletion::bury(&*self.users, row).await?;
            return Ok(None);
        }
        Ok(Some(row))
    }

    /// Makes an account that no password opens: of a bot, or of who signs in elsewhere. `None` when the name is taken, or the id.
    pub async fn adopt(&self, user: UserId, name: &str, with: impl FnOnce(UserRow) -> UserRow) -> Result<Option<UserRow>, ApiError> {
        if self.withheld(name).await? { Ok(None) } else { self.settle(with(blank(user, name, String::new()))).await }
    }

    /// The account, if the password is its own. That an account is disabled is said only to who knows its password.
    pub async fn authenticate(&self, name: &str, password: &str) -> Result<UserRow, ApiError> {
        // No account has such a name or password; the answer depends on the request alone and so tells nothing.
        if !valid_name(name) || Passwords::acceptable(password).is_err() {
            return Err(bad_credentials());
        }
        let row = self.users.user_by_name(name).await.map_err(failed)?;
        let same = self.passwords.check(password.into(), row.as_ref().map(|r| r.password.clone())).await?;
        let row = row.filter(|_| same).ok_or_else(bad_credentials)?;
        if row.disabled {
            return Err(ApiError::new(Code::Forbidden, "this account is disabled"));
        }
        if self.passwords.outdated(&row.password) {
            self.strengthen(&row, password).await;
        }
        Ok(row)
    }

    /// Whether the password is the account's own: `BadCredentials` when it is not. For who is signed in and asks for something grave.
    pub async fn confirm(&self, row: &UserRow, password: &str) -> Result<(), ApiError> {
        let same = Passwords::acceptable(password).is_ok() && self.passwords.check(password.into(), Some(row.password.clone())).await?;
        if same { Ok(()) } else { Err(ApiError::new(Code::BadCredentials, "the password is wrong")) }
    }

    /// Gives the account a new password and ends every session of it, unless anything has ended them since the account was as in `was`.
    pub async fn replace_password(&self, was: &UserRow, password: &str) -> Result<UserRow, ApiError> {
        let hash = self.hash_of(password).await?;
        self.replace_hash(was.user, was.tokens_after, &hash).await
    }

    /// The hash of a password that may be used.
    pub async fn hash_of(&self, password: &str) -> Result<String, ApiError> {
        Passwords::acceptable(password)?;
        self.passwords.hash(password.into()).await
    }

    /// Gives the account a password by its hash, and ends every session of it, if its `tokens_after` is still this.
    pub async fn replace_hash(&self, user: UserId, tokens_after: Millis, hash: &str) -> Result<UserRow, ApiError> {
        for _ in 0..TRIES {
            let was = self.users.user(user).await.map_err(failed)?.filter(|row| row.tokens_after == tokens_after && !row.disabled);
            let was = was.ok_or_else(|| ApiError::new(Code::TokenRevoked, "the account was changed meanwhile; sign in again"))?;
            let row = UserRow { password: hash.into(), tokens_after: after_now(was.tokens_after), ..was.clone() };
            if self.users.replace_user(&was, row.clone()).await.map_err(failed)? {
                return Ok(row);
            }
        }
        Err(ApiError::new(Code::Unavailable, "the account is being changed by others"))
    }

    /// An account by its id.
    pub async fn by_id(&self, user: UserId) -> Result<Option<UserRow>, ApiError> {
        self.users.user(user).await.map_err(failed)
    }

    /// Sets a new password and ends every session of the account.
    pub async fn set_password(&self, name: &str, password: &str) -> Result<UserRow, ApiError> {
        Passwords::acceptable(password)?;
        self.by_name(name).await?;
        let hash = self.passwords.hash(password.into()).await?;
        self.change(name, |row| {
            row.password.clone_from(&hash);
            row.tokens_after = after_now(row.tokens_after);
        })
        .await
    }

    /// Disables an account and ends its sessions, or enables it again (those sessions stay ended). One that is being deleted stays disabled.
    pub async fn set_disabled(&self, name: &str, disabled: bool) -> Result<UserRow, ApiError> {
        if !disabled && deletion::is_begun(&*self.users, self.by_name(name).await?.user).await? {
            return Err(ApiError::new(Code::Conflict, "the account is being deleted"));
        }
        self.change(name, |row| {
            if disabled && !row.disabled {
                row.tokens_after = after_now(row.tokens_after);
            }
            row.disabled = disabled;
        })
        .await
    }

    /// Ends every session of the account.
    pub async fn sign_out_everywhere(&self, name: &str) -> Result<UserRow, ApiError> {
        self.change(name, |row| row.tokens_after = after_now(row.tokens_after)).await
    }

    /// Accounts with an id greater than `after`, ascending; at most `limit`, and never more than [`PAGE_MAX`].
    pub async fn list(&self, after: UserId, limit: usize) -> Result<Vec<UserRow>, ApiError> {
        self.users.list_users(after, limit.min(PAGE_MAX)).await.map_err(failed)
    }

    /// An account by its name.
    pub async fn by_name(&self, name: &str) -> Result<UserRow, ApiError> {
        let row = if valid_name(name) { self.users.user_by_name(name).await.map_err(failed)? } else { None };
        row.ok_or_else(|| ApiError::new(Code::NotFound, "no such user"))
    }

    /// Changes an account's row, if `change` agrees to what it is now. What ends sessions has methods of its own.
    pub async fn edit(&self, user: UserId, change: impl Fn(&mut UserRow) -> Result<(), ApiError>) -> Result<UserRow, ApiError> {
        for _ in 0..TRIES {
            let was = self.users.user(user).await.map_err(failed)?.ok_or_else(|| ApiError::new(Code::NotFound, "no such user"))?;
            let mut row = was.clone();
            change(&mut row)?;
            if row == was || self.users.replace_user(&was, row.clone()).await.map_err(failed)? {
                return Ok(row);
            }
        }
        Err(ApiError::new(Code::Unavailable, "the account is being changed by others"))
    }

    /// Reads, changes and compares-and-sets until nobody else was in between.
    async fn change(&self, name: &str, change: impl Fn(&mut UserRow)) -> Result<UserRow, ApiError> {
        for _ in 0..TRIES {
            let was = self.by_name(name).await?;
            let mut row = was.clone();
            change(&mut row);
            if row == was || self.users.replace_user(&was, row.clone()).await.map_err(failed)? {
                return Ok(row);
            }
        }
        Err(ApiError::new(Code::Unavailable, "the account is being changed by others"))
    }

    /// Stores the password with the cost now configured. Only an improvement: when it fails, the next sign-in tries again.
    async fn strengthen(&self, row: &UserRow, password: &str) {
        let Ok(hash) = self.passwords.hash(password.into()).await else { return };
        let kept = self.users.replace_user(row, UserRow { password: hash, ..row.clone() }).await;
        if let Err(error) = kept {
            tracing::warn!(%error, "a password could not be hashed again with the cost now configured");
        }
    }
}

/// A `tokens_after` that is later than every token issued up to now, and than it was.
pub(super) fn after_now(was: Millis) -> Millis {
    (now() + 1).max(was + 1)
}
