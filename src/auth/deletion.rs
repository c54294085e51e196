//! Deleting an account: what is kept of it, and in which order the rest goes.
//!
//! A deletion that was begun is finished, whatever happens to the process: [`begin`] notes it durably before anything else, and it
//! is struck off only at the very end. Each step may be repeated. Whoever carries it out ([`crate::auth`] knows no rooms) leaves the rooms between
//! [`begin`] and [`records`].
//!
//! What is kept: the row, under the name `deleted:<id>`, so that messages have an author; the hash of the name, so that nobody takes the
//! name and with it the trust of those who knew it; emptied rows of devices, so that their tokens stay refused. Everything else that is the
//! account's goes, the messages excepted: they belong to the rooms' logs.

use super::accounts::after_now;
use super::emails::Emails;
use super::failed;
use super::onetime::OneTime;
use super::rows::Row;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, UserId};
use crate::storage::{DeviceRow, Records, Store, Table, UserRow};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Partition of the deletions that were begun and are not done: user → when.
const BEGUN: &str = "to be deleted";
/// Partition of the names that nobody may take again: hash of the name → when.
const NAMES: &str = "names of the deleted";
/// What a deleted account's name begins with. No name that may be taken has a colon.
const PREFIX: &str = "deleted:";
/// Changes of one row that may collide before the caller is told to try again.
const TRIES: usize = 16;
/// Records that are removed at once.
const PAGE: usize = 64;
/// Tables whose partitions are users.
const OF_USERS: &[Table] = &[Table::PushSubscription, Table::Notify, Table::Account];

fn begun(user: UserId) -> Row {
    Row::of_all(BEGUN, &user.0.to_be_bytes())
}

fn tombstone(name: &str) -> Row {
    Row::of_all(NAMES, &Sha256::digest(name))
}

/// Whether an account of this name was deleted.
pub async fn was_deleted(store: &dyn Store, name: &str) -> Result<bool, ApiError> {
    Ok(tombstone(name).read::<Millis>(store).await?.is_some())
}

/// Whether it is what is left of an account.
pub fn is_over(row: &UserRow) -> bool {
    row.name.starts_with(PREFIX)
}

/// Whether the account's deletion was begun and is not done.
pub async fn is_begun(store: &dyn Store, user: UserId) -> Result<bool, ApiError> {
    Ok(begun(user).read::<Millis>(store).await?.is_some())
}

/// Notes that the account is to be deleted, and signs it out for good. From here on there is no way back.
pub async fn begin(store: &dyn Store, user: UserId, now: Millis) -> Result<(), ApiError> {
    begun(user).change(store, |was: Option<Millis>| Ok((Some(was.unwrap_or(now)), ()))).await?;
    lock(store, user).await
}

/// Nobody signs in to the account any more, and no token of it counts.
pub async fn lock(store: &dyn Store, user: UserId) -> Result<(), ApiError> {
    change(store, user, |row| {
        if !row.disabled || !row.password.is_empty() {
            row.tokens_after = after_now(row.tokens_after);
        }
        row.disabled = true;
        row.password.clear();
    })
    .await
}

/// Deletions that were begun and are not done, at most so many, those after a user.
pub async fn pending(store: &dyn Store, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, ApiError> {
    let after = after.map(|user| user.0.to_be_bytes());
    let rows = store.records(Table::Account, BEGUN.as_bytes(), after.as_ref().map(|key| &key[..]), limit).await.map_err(failed)?;
    Ok(rows.into_iter().filter_map(|(key, _)| Some(UserId(u64::from_be_bytes(key.try_into().ok()?)))).collect())
}

/// Removes what lies beside the account's row: address, second factor, links, subscriptions, settings; and empties its devices.
pub async fn records(store: &Arc<dyn Store>, user: UserId) -> Result<(), ApiError> {
    Emails::new(store.clone()).remove(user).await?;
    OneTime::new(store.clone()).forget(user).await?;
    for table in OF_USERS {
        empty(&**store, *table, &user.0.to_be_bytes()).await?;
    }
    for device in store.devices(user).await.map_err(failed)? {
        let blank = DeviceRow { name: String::new(), refresh: [0; 32], previous: [0; 32], revoked: true, ..device.clone() };
        // One that is changed meanwhile is seen to by `lock`: no token of the account counts.
        store.replace_device(Some(&device), blank).await.map_err(failed)?;
    }
    Ok(())
}

async fn empty(store: &dyn Records, table: Table, partition: &[u8]) -> Result<(), ApiError> {
    loop {
        let page = store.records(table, partition, None, PAGE).await.map_err(failed)?;
        let full = page.len() == PAGE;
        for (key, value) in page {
            store.replace_record(table, partition, &key, Some(value), None).await.map_err(failed)?;
        }
        if !full {
            return Ok(());
        }
    }
}

/// The last step: the name goes, and the deletion is struck off.
pub async fn finish(store: &dyn Store, user: UserId) -> Result<(), ApiError> {
    if let Some(row) = store.user(user).await.map_err(failed)? {
        bury(store, row).await?;
    }
    begun(user).remove(store).await.map(drop)
}

/// Leaves of an account what must stay. The name is noted as deleted before it is given up.
pub(super) async fn bury(store: &dyn Store, row: UserRow) -> Result<(), ApiError> {
    if !is_over(&row) {
        let at = super::now();
        tombstone(&row.name).change(store, |was: Option<Millis>| Ok((Some(was.unwrap_or(at)), ()))).await?;
    }
    let name = format!("{PREFIX}{}", row.user);
    change(store, row.user, |row| {
        row.tokens_after = if row.disabled { row.tokens_after } else { after_now(row.tokens_after) };
        row.disabled = true;
        row.name.clone_from(&name);
        row.password.clear();
        row.status.clear();
        row.display_name.clear();
        row.avatar_url.clear();
        row.last_seen = 0;
    })
    .await
}

async fn change(store: &dyn Store, user: UserId, change: impl Fn(&mut UserRow)) -> Result<(), ApiError> {
    for _ in 0..TRIES {
        let Some(was) = store.user(user).await.map_err(failed)? else { return Ok(()) };
        let mut row = was.clone();
        change(&mut row);
        if row == was || store.replace_user(&was, row).await.map_err(failed)? {
            return Ok(());
        }
    }
    Err(ApiError::new(Code::Unavailable, "the account is being changed by others"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::accounts::Accounts;
    use crate::auth::onetime::Purpose;
    use crate::auth::tests::store;
    use crate::auth::totp::SecondFactor;
    use crate::config;

    #[actix_rt::test]
    async fn what_was_the_accounts_goes_and_its_name_comes_back_to_nobody() {
        let (embedded, _dir) = store();
        let store: Arc<dyn Store> = embedded;
        let accounts = Accounts::new(store.clone(), &config::Auth { argon2_memory_kib: 8, argon2_passes: 1, ..Default::default() });
        let row = accounts.create(UserId(1), "alice", "correct horse").await.unwrap();
        let (emails, links) = (Emails::new(store.clone()), OneTime::new(store.clone()));
        emails.want(row.user, "a@x.org").await.unwrap();
        emails.verify(row.user, "a@x.org").await.unwrap();
        SecondFactor::new(store.clone(), "Hubbub").begin(row.user, "alice").await.unwrap();
        let link = links.issue(&row, Purpose::ResetPassword, 60_000, 1).await.unwrap();

        begin(&*store, row.user, 5).await.unwrap();
        assert_eq!(pending(&*store, None, 10).await.unwrap(), [UserId(1)]);
        let locked = store.user(row.user).await.unwrap().unwrap();
        assert!(locked.disabled && locked.password.is_empty() && locked.tokens_after > 0);
        assert_eq!(accounts.set_disabled("alice", false).await.unwrap_err().code, Code::Conflict, "there is no way back");
        // Killed here, and begun again: nothing changes.
        begin(&*store, row.user, 6).await.unwrap();
        assert_eq!(store.user(row.user).await.unwrap().unwrap(), locked);
        for _ in 0..2 {
            records(&store, row.user).await.unwrap();
            finish(&*store, row.user).await.unwrap();
        }
        assert!(pending(&*store, None, 10).await.unwrap().is_empty());
        let left = store.user(row.user).await.unwrap().unwrap();
        assert_eq!((left.name.as_str(), left.disabled), ("deleted:1", true));
        assert!(store.records(Table::Account, &1u64.to_be_bytes(), None, 10).await.unwrap().is_empty());
        assert_eq!(emails.owner("a@x.org").await.unwrap(), None);
        assert!(links.look(&link, 2).await.is_err());
        assert!(store.user_by_name("alice").await.unwrap().is_none());
        assert_eq!(accounts.create(UserId(2), "alice", "correct horse").await.unwrap_err().code, Code::Conflict);
        assert_eq!(accounts.adopt(UserId(2), "alice", |row| row).await.unwrap(), None, "nor who signs in elsewhere");
        assert_eq!(accounts.set_disabled("deleted:1", false).await.unwrap_err().code, Code::NotFound, "nobody brings it back");
    }
}
