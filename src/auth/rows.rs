//! Records of accounts as typed values: read, and changed by compare-and-set.

use super::failed;
use crate::error::{ApiError, Code};
use crate::protocol::ids::UserId;
use crate::storage::Table;
use crate::storage::records::{Records, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Changes of one record that may collide before the caller is told to try again.
const TRIES: usize = 32;

/// Where a record lies.
#[derive(Clone)]
pub(super) struct Row {
    table: Table,
    partition: Vec<u8>,
    key: Vec<u8>,
}

impl Row {
    /// Something that an account has beside its row.
    pub(super) fn of_account(user: UserId, kind: &str) -> Row {
        Row { table: Table::Account, partition: user.0.to_be_bytes().to_vec(), key: kind.into() }
    }
    /// Something that all accounts share.
    pub(super) fn of_all(partition: &str, key: &[u8]) -> Row {
        // No user's partition has this length.
        debug_assert_ne!(partition.len(), 8);
        Row { table: Table::Account, partition: partition.into(), key: key.to_vec() }
    }
    /// The only record of a partition.
    pub(super) fn only(table: Table, partition: &[u8]) -> Row {
        Row { table, partition: partition.to_vec(), key: Vec::new() }
    }

    /// What is there.
    pub(super) async fn read<T: DeserializeOwned>(&self, store: &dyn Records) -> Result<Option<T>, ApiError> {
        let bytes = store.record(self.table, &self.partition, &self.key).await.map_err(failed)?;
        bytes.map(|b| decode(&b).map_err(failed)).transpose()
    }

    /// Reads, lets `step` decide what is to be there (`None`: nothing), and compares-and-sets until nobody else was in between.
    pub(super) async fn change<T, R>(
        &self,
        store: &dyn Records,
        step: impl Fn(Option<T>) -> Result<(Option<T>, R), ApiError>,
    ) -> Result<R, ApiError>
    where
        T: Serialize + DeserializeOwned,
    {
        for _ in 0..TRIES {
            let was = store.record(self.table, &self.partition, &self.key).await.map_err(failed)?;
            let (now, result) = step(was.as_deref().map(decode).transpose().map_err(failed)?)?;
            let now = now.as_ref().map(encode);
            if now == was || store.replace_record(self.table, &self.partition, &self.key, was, now).await.map_err(failed)? {
                return Ok(result);
            }
        }
        Err(ApiError::new(Code::Unavailable, "the account is being changed by others"))
    }

    /// Removes it; true when this call did.
    pub(super) async fn remove(&self, store: &dyn Records) -> Result<bool, ApiError> {
        let Some(was) = store.record(self.table, &self.partition, &self.key).await.map_err(failed)? else { return Ok(false) };
        store.replace_record(self.table, &self.partition, &self.key, Some(was), None).await.map_err(failed)
    }
}
