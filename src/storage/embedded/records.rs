//! Records, in the rows' keyspace: the value is (version, bytes).

use super::{EmbeddedStore, codec, writer::Tx};
use crate::storage::records::{RecordWrite, Records, Table, Way, check};
use crate::storage::{Result, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) version: u64,
    #[serde(with = "serde_bytes")]
    pub(super) value: Vec<u8>,
}

fn kept(version: u64, value: &Bytes) -> Kept {
    Kept { version, value: value.to_vec() }
}

#[async_trait]
impl Records for EmbeddedStore {
    async fn record(&self, table: Table, partition: &[u8], key: &[u8]) -> Result<Option<Bytes>> {
        let key = codec::record(table.letter(), partition, key);
        self.read(move |view| Ok(view.get::<Kept>(&key)?.map(|kept| kept.value.into()))).await
    }

    async fn records(&self, table: Table, partition: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>> {
        let prefix = codec::record(table.letter(), partition, &[]);
        let after = after.map(<[u8]>::to_vec);
        self.read(move |view| {
            let rows = view.list_keys::<Kept>(&prefix, after.as_deref(), limit)?;
            Ok(rows.into_iter().map(|(key, kept)| (key, kept.value.into())).collect())
        })
        .await
    }

    async fn replace_record(&self, table: Table, partition: &[u8], key: &[u8], was: Option<Bytes>, now: Option<Bytes>) -> Result<bool> {
        check(table, Way::Compared, partition, key, now.as_ref())?;
        let bytes = now.as_ref().map_or(0, Bytes::len) + key.len();
        let key = codec::record(table.letter(), partition, key);
        let work = move |tx: &mut Tx<'_>| {
            let stored = tx.get::<Kept>(&key)?;
            if stored.as_ref().map(|kept| &kept.value[..]) != was.as_deref() {
                return Ok(false);
            }
            match &now {
                Some(value) => tx.put(key, &kept(0, value)),
                None => tx.remove(key),
            }
            Ok(true)
        };
        self.shared.write(true, bytes, work).await
    }

    async fn put_records(&self, table: Table, partition: &[u8], writes: Vec<RecordWrite>) -> Result<()> {
        for write in &writes {
            check(table, Way::Versioned, partition, &write.key, write.value.as_ref())?;
            if write.version >= crate::storage::records::VERSION_MAX {
                return Err(StorageError::Failed(format!("record of {}: the version is too great", table.name()).into()));
            }
        }
        let bytes = writes.iter().map(|w| w.key.len() + w.value.as_ref().map_or(0, Bytes::len) + 64).sum();
        let partition = partition.to_vec();
        let work = move |tx: &mut Tx<'_>| {
            let mut due = Vec::with_capacity(writes.len());
            for write in writes {
                let key = codec::record(table.letter(), &partition, &write.key);
                let stored = tx.get::<Kept>(&key)?.map(|kept| kept.version);
                if stored.is_none_or(|stored| stored < write.version || (stored == write.version && write.value.is_none())) {
                    due.push((key, write));
                }
            }
            for (key, write) in due {
                match &write.value {
                    Some(value) => tx.put(key, &kept(write.version, value)),
                    None => tx.remove(key),
                }
            }
            Ok(())
        };
        self.shared.write(true, bytes, work).await
    }
}
