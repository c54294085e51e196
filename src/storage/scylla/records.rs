//! Records: compared ones are cells, versioned ones are rows with their version as time stamp.

use super::rows::RowWrite;
use super::{Core, ScyllaStore};
use crate::storage::records::{RecordWrite, Records, Table, VERSION_MAX, Way, check};
use crate::storage::{Result, StorageError};
use async_trait::async_trait;
use bytes::Bytes;

impl Core {
    async fn record(&self, table: Table, part: &[u8], key: &[u8]) -> Result<Option<Bytes>> {
        let value = match table.way() {
            Way::Compared => self.cell(table.name(), part, key).await?,
            Way::Versioned => {
                let rows = &self.statements.records;
                self.select_one::<(Vec<u8>,)>(&rows.get, (table.name(), part, key)).await?.map(|(value,)| value)
            }
        };
        Ok(value.map(Bytes::from))
    }

    async fn list_records(&self, table: Table, part: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>> {
        let rows = match table.way() {
            Way::Compared => self.cells(table.name(), part, after, limit).await?,
            Way::Versioned => self.raw_rows(&self.statements.records, table.name(), part, after, limit).await?,
        };
        Ok(rows.into_iter().map(|(key, value)| (key, value.into())).collect())
    }

    async fn put_records(&self, table: Table, part: &[u8], writes: Vec<RecordWrite>) -> Result<()> {
        if writes.is_empty() {
            // Nothing to do, which is asked for to learn whether writes are taken at all.
            return if self.is_down() { Err(StorageError::Down("it did not answer a moment ago".into())) } else { Ok(()) };
        }
        // Of several writes of one key only the one that would stand in the end: within one batch nothing else orders them.
        let mut last: std::collections::BTreeMap<Vec<u8>, RecordWrite> = Default::default();
        for write in writes {
            let stands = last.get(&write.key).is_none_or(|was| {
                was.version < write.version || (was.version == write.version && (write.value.is_none() || was.value.is_some()))
            });
            if stands {
                last.insert(write.key.clone(), write);
            }
        }
        let row = |write: RecordWrite| RowWrite {
            id: write.key,
            // A time stamp is above 0.
            stamp: write.version as i64 + 1,
            value: write.value.map(|value| value.to_vec()),
        };
        let writes = last.into_values().map(row).collect();
        self.put_rows_at_once(&self.statements.records, table.name(), part, writes).await
    }
}

#[async_trait]
impl Records for ScyllaStore {
    async fn record(&self, table: Table, partition: &[u8], key: &[u8]) -> Result<Option<Bytes>> {
        let (part, key) = (partition.to_vec(), key.to_vec());
        self.run(move |core| async move { core.record(table, &part, &key).await }).await
    }

    async fn records(&self, table: Table, partition: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>> {
        let (part, after) = (partition.to_vec(), after.map(<[u8]>::to_vec));
        self.run(move |core| async move { core.list_records(table, &part, after.as_deref(), limit).await }).await
    }

    async fn replace_record(&self, table: Table, partition: &[u8], key: &[u8], was: Option<Bytes>, now: Option<Bytes>) -> Result<bool> {
        check(table, Way::Compared, partition, key, now.as_ref())?;
        let (part, key) = (partition.to_vec(), key.to_vec());
        self.run(move |core| async move { core.set_cell(table.name(), &part, &key, was.as_deref(), now.as_deref()).await }).await
    }

    async fn put_records(&self, table: Table, partition: &[u8], writes: Vec<RecordWrite>) -> Result<()> {
        for write in &writes {
            check(table, Way::Versioned, partition, &write.key, write.value.as_ref())?;
            if write.version >= VERSION_MAX {
                return Err(StorageError::Failed(format!("record of {}: the version is too great", table.name()).into()));
            }
        }
        let part = partition.to_vec();
        self.run(move |core| async move { core.put_records(table, &part, writes).await }).await
    }
}
