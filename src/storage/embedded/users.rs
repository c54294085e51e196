//! Accounts, devices and contacts.

use super::{EmbeddedStore, codec, writer::Tx};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::storage::{ContactState, DeviceRow, Result, UserRow, Users};
use async_trait::async_trait;

fn bytes_of(row: &UserRow) -> usize {
    256 + row.name.len() + row.password.len() + row.status.len()
}

#[async_trait]
impl Users for EmbeddedStore {
    async fn create_user(&self, row: UserRow) -> Result<bool> {
        let work = move |tx: &mut Tx<'_>| {
            let (by_id, by_name) = (codec::user(row.user), codec::name(&row.name));
            if tx.get::<UserId>(&by_name)?.is_some() || tx.get::<UserRow>(&by_id)?.is_some() {
                return Ok(false);
            }
            tx.put(by_name, &row.user);
            tx.put(by_id, &row);
            Ok(true)
        };
        self.shared.write(true, 512, work).await
    }

    async fn user(&self, user: UserId) -> Result<Option<UserRow>> {
        self.read(move |view| view.get(&codec::user(user))).await
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<Option<UserRow>>> {
        let keys: Vec<_> = users.iter().map(|u| codec::user(*u)).collect();
        self.read(move |view| keys.iter().map(|k| view.get(k)).collect()).await
    }

    async fn user_by_name(&self, name: &str) -> Result<Option<UserRow>> {
        let key = codec::name(name);
        self.read(move |view| match view.get::<UserId>(&key)? {
            Some(user) => view.get(&codec::user(user)),
            None => Ok(None),
        })
        .await
    }

    async fn list_users(&self, after: UserId, limit: usize) -> Result<Vec<UserRow>> {
        self.read(move |view| Ok(view.list(&codec::all_users(), Some(after.0), limit)?.into_iter().map(|(_, row)| row).collect())).await
    }

    async fn replace_user(&self, was: &UserRow, row: UserRow) -> Result<bool> {
        let was = was.clone();
        let bytes = bytes_of(&row);
        let work = move |tx: &mut Tx<'_>| {
            let key = codec::user(was.user);
            if row.user != was.user || tx.get::<UserRow>(&key)?.as_ref() != Some(&was) {
                return Ok(false);
            }
            if row.name != was.name {
                let name = codec::name(&row.name);
                if tx.get::<UserId>(&name)?.is_some() {
                    return Ok(false);
                }
                tx.put(name, &row.user);
                tx.remove(codec::name(&was.name));
            }
            tx.put(key, &row);
            Ok(true)
        };
        self.shared.write(true, bytes, work).await
    }

    async fn seen(&self, user: UserId, at: Millis) -> Result<()> {
        let work = move |tx: &mut Tx<'_>| {
            let key = codec::user(user);
            if let Some(mut row) = tx.get::<UserRow>(&key)?.filter(|row| row.last_seen < at) {
                row.last_seen = at;
                tx.put(key, &row);
            }
            Ok(())
        };
        self.shared.write(false, 512, work).await
    }

    async fn device(&self, user: UserId, device: DeviceId) -> Result<Option<DeviceRow>> {
        self.read(move |view| view.get(&codec::device(user, device))).await
    }

    async fn devices(&self, user: UserId) -> Result<Vec<DeviceRow>> {
        self.read(move |view| Ok(view.list(&codec::devices(user), None, usize::MAX)?.into_iter().map(|(_, row)| row).collect())).await
    }

    async fn replace_device(&self, was: Option<&DeviceRow>, row: DeviceRow) -> Result<bool> {
        let was = was.cloned();
        let work = move |tx: &mut Tx<'_>| {
            let key = codec::device(row.user, row.device);
            if tx.get::<DeviceRow>(&key)? != was {
                return Ok(false);
            }
            tx.put(key, &row);
            Ok(true)
        };
        self.shared.write(true, 512, work).await
    }

    async fn set_contact(&self, a: UserId, b: UserId, a_to_b: Option<ContactState>, b_to_a: Option<ContactState>) -> Result<()> {
        let work = move |tx: &mut Tx<'_>| {
            for (key, state) in [(codec::contact(a, b), a_to_b), (codec::contact(b, a), b_to_a)] {
                match state {
                    Some(state) => tx.put(key, &state),
                    None => tx.remove(key),
                }
            }
            Ok(())
        };
        self.shared.write(true, 128, work).await
    }

    async fn contact_states(&self, a: UserId, others: &[UserId]) -> Result<Vec<Option<ContactState>>> {
        let keys: Vec<_> = others.iter().map(|b| codec::contact(a, *b)).collect();
        self.read(move |view| keys.iter().map(|k| view.get(k)).collect()).await
    }

    async fn contacts(&self, user: UserId, limit: usize) -> Result<Vec<(UserId, ContactState)>> {
        self.read(move |view| {
            let rows = view.list(&codec::contacts(user), None, limit)?;
            Ok(rows.into_iter().map(|(other, state)| (UserId(other), state)).collect())
        })
        .await
    }
}
