//! Accounts, devices and contacts.
//!
//! A name is claimed by compare-and-set together with the account's first row, so that an account is whole from that moment on: whoever
//! finds the name and no row writes the row (`names`). Contacts are decided in one cell for both users; each user's list holds a copy. Before the
//! cell is tried both copies say which number is pending, after it both say what came of it; a copy with something pending is not believed,
//! the cell is read.

use super::calls::odd;
use super::names::{Account, Claimed};
use super::rows::{RowWrite, all, pair, slice_of};
use super::{Core, ScyllaStore};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::storage::records::{decode, encode};
use crate::storage::{ContactState, DeviceRow, Result, StorageError, UserRow, Users};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// User →: the account's row.
pub(super) const USER: &str = "user";
/// Name →: whose it is.
pub(super) const NAME: &str = "name";
/// Slice of the user → user: who there may be.
pub(super) const USER_ID: &str = "user_id";
/// User →: when it was last connected.
const SEEN: &str = "seen";
/// User → device.
pub(super) const DEVICE: &str = "device";
/// Both users of a pair →: how they stand to each other.
const PAIR: &str = "contact";
/// Tries of a change that others make too.
const TRIES: usize = 16;
/// Contacts up to which each is asked for by itself.
const SINGLY: usize = 16;

/// How two users stand to each other, and how often that has changed.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Pair {
    n: u64,
    /// How the user with the smaller id stands to the other, and the other way around.
    low: Option<ContactState>,
    high: Option<ContactState>,
}

impl Pair {
    fn of(&self, user: UserId, other: UserId) -> Option<ContactState> {
        if user < other { self.low } else { self.high }
    }
}

fn pair_part(a: UserId, b: UserId) -> [u8; 16] {
    pair(a.0.min(b.0), a.0.max(b.0))
}

/// A copy in a user's list.
type Copied = (i64, Option<i64>, Option<i64>, Option<String>);

fn name_of(state: ContactState) -> &'static str {
    match state {
        ContactState::Requested => "requested",
        ContactState::Pending => "pending",
        ContactState::Accepted => "accepted",
        ContactState::Blocked => "blocked",
    }
}

fn state_of(name: &str) -> Result<ContactState> {
    use ContactState::{Accepted, Blocked, Pending, Requested};
    [Requested, Pending, Accepted, Blocked].into_iter().find(|s| name_of(*s) == name).ok_or_else(|| odd("a contact's state"))
}

/// The row without what is kept beside it.
pub(super) fn bare(row: &UserRow) -> UserRow {
    UserRow { last_seen: 0, ..row.clone() }
}

impl Core {
    async fn create_user(&self, row: UserRow) -> Result<bool> {
        let id = row.user.0.to_be_bytes();
        if self.is_taken(&row.name).await? || self.cell(USER, &id, b"").await?.is_some() {
            return Ok(false);
        }
        // Before the account is there: an id without one is passed over, an account without an id would not be listed.
        let listed = RowWrite { id: id.to_vec(), stamp: 1, value: Some(Vec::new()) };
        self.put_rows(&self.statements.derived, USER_ID, &slice_of(row.user.0), vec![listed]).await?;
        let claim = Claimed::new(row.user, Some(&row));
        if !self.claim_name(&row.name, &claim).await? {
            return Ok(false);
        }
        self.write_first(&row.name, &encode(&claim), &claim).await?;
        if row.last_seen > 0 {
            self.seen(row.user, row.last_seen).await?;
        }
        Ok(true)
    }

    async fn user(&self, user: UserId) -> Result<Option<UserRow>> {
        let part = user.0.to_be_bytes();
        let (row, seen) = tokio::join!(self.cell(USER, &part, b""), self.row::<Millis>(&self.statements.derived, SEEN, &part, b""));
        let Some(row) = row? else { return Ok(None) };
        Ok(Some(UserRow { last_seen: seen?.unwrap_or(0), ..decode(&row)? }))
    }

    async fn user_by_name(&self, name: &str) -> Result<Option<UserRow>> {
        let Some(claim) = self.cell(NAME, name.as_bytes(), b"").await? else { return Ok(None) };
        let claimed: Claimed = decode(&claim)?;
        self.write_first(name, &claim, &claimed).await?;
        // While a name changes it may be another's for a moment.
        Ok(self.user(claimed.user).await?.filter(|row| row.name == name))
    }

    async fn list_users(&self, after: UserId, limit: usize) -> Result<Vec<UserRow>> {
        let (mut found, mut after) = (Vec::new(), after.0);
        while found.len() < limit {
            let ids = self.sliced(&self.statements.derived, USER_ID, after, limit - found.len()).await?;
            let Some((last, _)) = ids.last() else { break };
            after = *last;
            let rows = all(ids, |(id, _)| self.user(UserId(id))).await?;
            found.extend(rows.into_iter().flatten());
        }
        Ok(found)
    }

    async fn replace_user(&self, was: UserRow, row: UserRow) -> Result<bool> {
        let part = was.user.0.to_be_bytes();
        let Some(stored) = self.cell_serial(USER, &part, b"").await? else { return Ok(false) };
        let account = Account::read(&stored)?;
        if row.user != was.user || account.row != bare(&was) {
            return Ok(false);
        }
        let renamed = row.name != was.name;
        // After the account's cell was read: so that whoever takes the name over meanwhile is noticed by that cell's compare-and-set.
        if renamed && !self.claim_name(&row.name, &Claimed::new(row.user, None)).await? {
            return Ok(false);
        }
        let replaced = self.set_cell(USER, &part, b"", Some(&stored), Some(&account.with(&row))).await?;
        if renamed {
            self.free_name(if replaced { &was.name } else { &row.name }, row.user).await;
        }
        if replaced && row.last_seen > was.last_seen {
            self.seen(row.user, row.last_seen).await?;
        }
        Ok(replaced)
    }

    pub(super) async fn seen(&self, user: UserId, at: Millis) -> Result<()> {
        let write = RowWrite { id: Vec::new(), stamp: at as i64 + 1, value: Some(encode(&at).to_vec()) };
        self.put_rows(&self.statements.derived, SEEN, &user.0.to_be_bytes(), vec![write]).await
    }

    async fn replace_device(&self, was: Option<DeviceRow>, row: DeviceRow) -> Result<bool> {
        let (part, id) = (row.user.0.to_be_bytes(), row.device.0.to_be_bytes());
        let stored = self.cell_serial(DEVICE, &part, &id).await?;
        if stored.as_ref().map(|stored| decode::<DeviceRow>(stored)).transpose()? != was {
            return Ok(false);
        }
        self.set_cell(DEVICE, &part, &id, stored.as_deref(), Some(&encode(&row))).await
    }

    async fn set_contact(&self, a: UserId, b: UserId, a_to_b: Option<ContactState>, b_to_a: Option<ContactState>) -> Result<()> {
        let part = pair_part(a, b);
        for _ in 0..TRIES {
            let stored = self.cell_serial(PAIR, &part, b"").await?;
            let was: Pair = stored.as_ref().map(|stored| decode(stored)).transpose()?.unwrap_or_default();
            let (low, high) = if a < b { (a_to_b, b_to_a) } else { (b_to_a, a_to_b) };
            let next = Pair { n: was.n + 1, low, high };
            let n = next.n as i64;
            all([(a, b), (b, a)], |(user, other)| self.write(&self.statements.contact_pending, (n, n, user.0 as i64, other.0 as i64)))
                .await?;
            if self.set_cell(PAIR, &part, b"", stored.as_deref(), Some(&encode(&next))).await? {
                let copies = all([(a, b), (b, a)], |(user, other)| {
                    let state = next.of(user, other).map(name_of);
                    self.write(&self.statements.contact_settled, (n, n, state, user.0 as i64, other.0 as i64))
                });
                if let Err(error) = copies.await {
                    tracing::debug!(%error, "copies of a contact are not settled; their readers look at the pair");
                }
                return Ok(());
            }
        }
        Err(StorageError::Busy("others are changing the same contact"))
    }

    /// What a copy says, or the pair where the copy cannot be believed.
    async fn settled(&self, user: UserId, (other, pending, settled, state): Copied) -> Result<(UserId, Option<ContactState>)> {
        let other = UserId(other as u64);
        if pending <= settled {
            return Ok((other, state.map(|name| state_of(&name)).transpose()?));
        }
        let stored = self.cell_serial(PAIR, &pair_part(user, other), b"").await?;
        let stands: Pair = stored.map(|stored| decode(&stored)).transpose()?.unwrap_or_default();
        Ok((other, stands.of(user, other)))
    }

    async fn contact_states(&self, a: UserId, others: Vec<UserId>) -> Result<Vec<Option<ContactState>>> {
        if others.len() <= SINGLY {
            return all(others, |b| async move {
                match self.select_one::<Copied>(&self.statements.contact, (a.0 as i64, b.0 as i64)).await? {
                    Some(copy) => Ok(self.settled(a, copy).await?.1),
                    None => Ok(None),
                }
            })
            .await;
        }
        let known: HashMap<UserId, Option<ContactState>> = self.all_contacts(a).await?.into_iter().collect();
        Ok(others.iter().map(|b| known.get(b).copied().flatten()).collect())
    }

    async fn all_contacts(&self, user: UserId) -> Result<Vec<(UserId, Option<ContactState>)>> {
        let copies = self.select::<Copied>(&self.statements.contacts, (user.0 as i64,), usize::MAX).await?;
        all(copies, |copy| self.settled(user, copy)).await
    }

    async fn contacts(&self, user: UserId, limit: usize) -> Result<Vec<(UserId, ContactState)>> {
        let known = self.all_contacts(user).await?.into_iter();
        Ok(known.filter_map(|(other, state)| Some((other, state?))).take(limit).collect())
    }

    async fn devices(&self, user: UserId) -> Result<Vec<DeviceRow>> {
        let rows = self.cells(DEVICE, &user.0.to_be_bytes(), None, usize::MAX).await?;
        rows.iter().map(|(_, row)| decode(row)).collect()
    }
}

#[async_trait]
impl Users for ScyllaStore {
    async fn create_user(&self, row: UserRow) -> Result<bool> {
        self.run(move |core| async move { core.create_user(row).await }).await
    }
    async fn user(&self, user: UserId) -> Result<Option<UserRow>> {
        self.run(move |core| async move { core.user(user).await }).await
    }
    async fn users(&self, users: &[UserId]) -> Result<Vec<Option<UserRow>>> {
        let users = users.to_vec();
        self.run(move |core| async move { all(users, |user| core.user(user)).await }).await
    }
    async fn user_by_name(&self, name: &str) -> Result<Option<UserRow>> {
        let name = name.to_owned();
        self.run(move |core| async move { core.user_by_name(&name).await }).await
    }
    async fn list_users(&self, after: UserId, limit: usize) -> Result<Vec<UserRow>> {
        self.run(move |core| async move { core.list_users(after, limit).await }).await
    }
    async fn replace_user(&self, was: &UserRow, row: UserRow) -> Result<bool> {
        let was = was.clone();
        self.run(move |core| async move { core.replace_user(was, row).await }).await
    }
    async fn seen(&self, user: UserId, at: Millis) -> Result<()> {
        self.run(move |core| async move { core.seen(user, at).await }).await
    }
    async fn device(&self, user: UserId, device: DeviceId) -> Result<Option<DeviceRow>> {
        self.run(move |core| async move {
            let row = core.cell(DEVICE, &user.0.to_be_bytes(), &device.0.to_be_bytes()).await?;
            row.map(|row| decode(&row)).transpose()
        })
        .await
    }
    async fn devices(&self, user: UserId) -> Result<Vec<DeviceRow>> {
        self.run(move |core| async move { core.devices(user).await }).await
    }
    async fn replace_device(&self, was: Option<&DeviceRow>, row: DeviceRow) -> Result<bool> {
        let was = was.cloned();
        self.run(move |core| async move { core.replace_device(was, row).await }).await
    }
    async fn set_contact(&self, a: UserId, b: UserId, a_to_b: Option<ContactState>, b_to_a: Option<ContactState>) -> Result<()> {
        self.run(move |core| async move { core.set_contact(a, b, a_to_b, b_to_a).await }).await
    }
    async fn contact_states(&self, a: UserId, others: &[UserId]) -> Result<Vec<Option<ContactState>>> {
        let others = others.to_vec();
        self.run(move |core| async move { core.contact_states(a, others).await }).await
    }
    async fn contacts(&self, user: UserId, limit: usize) -> Result<Vec<(UserId, ContactState)>> {
        self.run(move |core| async move { core.contacts(user, limit).await }).await
    }
}
