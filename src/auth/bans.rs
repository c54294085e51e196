//! Bans from this server: who may not come in at all.
//!
//! A ban disables the account (which ends its sessions) and keeps its name: nobody registers it again, also when the account is deleted one
//! day. It says by whom, when and why. An account that an operator had disabled before stays so when the ban is lifted.
//! Both records of a ban and the account's row are written one after the other; the same ban again completes what was cut off.

use super::accounts::Accounts;
use super::{deletion, failed, now};
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, UserId};
use crate::storage::records::{self, Table};
use crate::storage::{Store, UserRow};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const USERS: &[u8] = b"user";
const NAMES: &[u8] = b"name";

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ban {
    /// Who is banned.
    pub user: UserId,
    /// The account's name at that time.
    pub name: String,
    /// Who banned: `operator` or `key:<id>`.
    pub by: String,
    /// When.
    pub at: Millis,
    /// Why.
    #[serde(default)]
    pub note: String,
    /// The account was disabled before.
    #[serde(default)]
    pub was_disabled: bool,
}

/// The bans.
pub struct Bans {
    store: Arc<dyn Store>,
    accounts: Accounts,
    /// One change at a time: a ban and its lifting, or an operator's switch, must not each undo half of the other.
    changing: tokio::sync::Mutex<()>,
}

fn no_such_user() -> ApiError {
    ApiError::new(Code::NotFound, "no such user")
}

/// Whether a banned account has or had this name: then nobody may have it.
pub async fn holds_name(store: &dyn Store, name: &str) -> Result<bool, ApiError> {
    // Longer ones are no names.
    if name.len() > records::KEY_BYTES_MAX {
        return Ok(false);
    }
    Ok(store.record(Table::ServerBan, NAMES, name.as_bytes()).await.map_err(failed)?.is_some())
}

impl Bans {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>, accounts: Accounts) -> Bans {
        Bans { store, accounts, changing: tokio::sync::Mutex::default() }
    }

    /// Bans a user; the ban that counts. Closing the user's sockets is the caller's part.
    pub async fn ban(&self, user: UserId, by: &str, note: &str) -> Result<Ban, ApiError> {
        let _changing = self.changing.lock().await;
        let row = self.row(user).await?;
        let fresh = Ban { user, name: row.name.clone(), by: by.into(), at: now(), note: note.into(), was_disabled: row.disabled };
        let ban = match self.of(user).await? {
            Some(ban) => ban,
            None => {
                let value = Some(records::encode(&fresh));
                let put = self.store.replace_record(Table::ServerBan, USERS, &user.0.to_be_bytes(), None, value).await.map_err(failed)?;
                if put { fresh } else { self.of(user).await?.unwrap_or(fresh) }
            }
        };
        let value = Some(records::encode(&user));
        // A name that is banned already stays so, whoever has it.
        self.store.replace_record(Table::ServerBan, NAMES, row.name.as_bytes(), None, value).await.map_err(failed)?;
        self.accounts.set_disabled(&row.name, true).await?;
        Ok(ban)
    }

    /// Lifts a ban.
    pub async fn lift(&self, user: UserId) -> Result<(), ApiError> {
        let _changing = self.changing.lock().await;
        let Some(ban) = self.of(user).await? else {
            return Err(ApiError::new(Code::NotFound, "this user is not banned"));
        };
        if !ban.was_disabled
            && let Ok(row) = self.row(user).await
        {
            self.accounts.set_disabled(&row.name, false).await?;
        }
        let name = self.store.record(Table::ServerBan, NAMES, ban.name.as_bytes()).await.map_err(failed)?;
        if name.as_ref() == Some(&records::encode(&user)) {
            self.store.replace_record(Table::ServerBan, NAMES, ban.name.as_bytes(), name, None).await.map_err(failed)?;
        }
        // Last: until here the same request again does the rest.
        let value = Some(records::encode(&ban));
        self.store.replace_record(Table::ServerBan, USERS, &user.0.to_be_bytes(), value, None).await.map_err(failed)?;
        Ok(())
    }

    /// An operator disables or enables an account. A banned one is not enabled by this; one that is disabled while it is banned stays so
    /// when the ban is lifted.
    pub async fn switch(&self, name: &str, disabled: bool) -> Result<UserRow, ApiError> {
        let _changing = self.changing.lock().await;
        let row = self.accounts.by_name(name).await?;
        if let Some(ban) = self.of(row.user).await? {
            if !disabled {
                return Err(ApiError::new(Code::Conflict, "the user is banned from this server; lift the ban"));
            }
            let (was, now) = (Some(records::encode(&ban)), Some(records::encode(&Ban { was_disabled: true, ..ban })));
            self.store.replace_record(Table::ServerBan, USERS, &row.user.0.to_be_bytes(), was, now).await.map_err(failed)?;
        }
        self.accounts.set_disabled(name, disabled).await
    }

    /// The ban of a user.
    pub async fn of(&self, user: UserId) -> Result<Option<Ban>, ApiError> {
        let stored = self.store.record(Table::ServerBan, USERS, &user.0.to_be_bytes()).await.map_err(failed)?;
        stored.map(|bytes| records::decode(&bytes)).transpose().map_err(failed)
    }

    /// Bans of users with an id greater than `after`, ascending, at most `limit`.
    pub async fn list(&self, after: UserId, limit: usize) -> Result<Vec<Ban>, ApiError> {
        let rows = self.store.records(Table::ServerBan, USERS, Some(&after.0.to_be_bytes()), limit).await.map_err(failed)?;
        rows.into_iter().map(|(_, value)| records::decode(&value).map_err(failed)).collect()
    }

    async fn row(&self, user: UserId) -> Result<UserRow, ApiError> {
        let row = self.store.user(user).await.map_err(failed)?;
        row.filter(|row| !deletion::is_over(row)).ok_or_else(no_such_user)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::storage::embedded::EmbeddedStore;

    #[tokio::test]
    async fn a_ban_disables_the_account_keeps_its_name_and_can_be_lifted() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), Default::default()).unwrap();
        let config = crate::config::Auth { argon2_memory_kib: 8, argon2_passes: 1, ..Default::default() };
        let accounts = Accounts::new(store.clone(), &config);
        let bans = Bans::new(store.clone(), accounts.clone());
        let (alice, bob) = (UserId(1), UserId(2));
        accounts.create(alice, "alice", "correct horse").await.unwrap();
        accounts.create(bob, "bob", "correct horse").await.unwrap();
        accounts.set_disabled("bob", true).await.unwrap();
        for user in [alice, bob] {
            let ban = bans.ban(user, "operator", "spam").await.unwrap();
            assert_eq!(bans.ban(user, "key:1", "again").await.unwrap(), ban, "the first one counts");
        }
        assert!(accounts.by_name("alice").await.unwrap().disabled && holds_name(&*store, "alice").await.unwrap());
        assert_eq!(bans.list(UserId(0), 10).await.unwrap().len(), 2);
        assert_eq!(bans.switch("alice", false).await.unwrap_err().code, Code::Conflict, "the ban is lifted or it is not");
        assert_eq!(bans.list(alice, 10).await.unwrap()[0].name, "bob");
        for user in [alice, bob] {
            bans.lift(user).await.unwrap();
            assert_eq!(bans.lift(user).await.unwrap_err().code, Code::NotFound);
        }
        assert!(!accounts.by_name("alice").await.unwrap().disabled && !holds_name(&*store, "alice").await.unwrap());
        assert!(accounts.by_name("bob").await.unwrap().disabled, "it was so before");
        bans.ban(alice, "operator", "spam").await.unwrap();
        assert!(bans.switch("alice", true).await.unwrap().disabled);
        bans.lift(alice).await.unwrap();
        assert!(accounts.by_name("alice").await.unwrap().disabled, "an operator wanted it");
        assert!(!bans.switch("alice", false).await.unwrap().disabled);
        assert_eq!(bans.ban(UserId(9), "operator", "").await.unwrap_err().code, Code::NotFound);
    }
}
