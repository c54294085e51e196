//! The key-value engine (fjall) as this store uses it: two keyspaces, snapshots for reads, one batch for writes.
//!
//! Everything above sees [`StorageError`]s only. Whoever holds an [`Engine`] holds the directory's files open; all handles
//! are dropped before the directory is opened again.

use super::{OpenError, codec, scan};
use crate::storage::{Result, StorageError};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice, Snapshot};
use serde::de::DeserializeOwned;
use std::ops::Bound;
use std::path::Path;

/// Bytes of rows kept in memory per keyspace until they are written as a sorted table. Small enough that what a start must
/// replay from the journal stays below a second.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Journal files are dropped as soon as their rows are in tables; above this the engine hurries.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// Sealed tables in memory at which the writer waits. The engine itself waits at 4, but for ever, also when the thread that
/// should write them is gone; so it never gets there.
const SEALED_MAX: usize = 2;
/// The same for tables that wait for compaction (the engine slows down at 20 and waits at 30).
const UNMERGED_MAX: usize = 18;

pub(super) struct Engine {
    db: Database,
    log: Keyspace,
    rows: Keyspace,
}

/// Which keyspace a write goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// Log rows, under `record::key`.
    Log,
    /// Everything else, under `codec` keys.
    Rows,
}

/// One change: a value, or `None` to remove the key.
pub(super) struct Write {
    pub(super) space: Space,
    pub(super) key: Slice,
    pub(super) value: Option<Slice>,
}

/// How a batch failed.
pub(super) enum CommitError {
    /// Nothing of it was written.
    NotWritten(String),
    /// It may or may not be, or become, durable.
    InDoubt(String),
}

impl Engine {
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> std::result::Result<Engine, OpenError> {
        let open = || -> fjall::Result<Engine> {
            let db = Database::builder(dir)
                .cache_size(cache_bytes.max(1 << 20))
                .worker_threads(2)
                .max_journaling_size(JOURNAL_BYTES_MAX)
                .journal_compression(fjall::CompressionType::None)
                .open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            let log = db.keyspace("log", options)?;
            let rows = db.keyspace("rows", options)?;
            Ok(Engine { db, log, rows })
        };
        open().map_err(|e| OpenError::Engine(describe(&e)))
    }

    /// What is stored now, unchanged by later writes.
    pub(super) fn view(&self) -> View<'_> {
        View { engine: self, at: self.db.snapshot() }
    }

    /// What is stored now, to be read page by page with [`Engine::page`]; holds none of the engine's handles.
    pub(super) fn freeze(&self) -> Frozen {
        Frozen(self.db.snapshot())
    }

    /// Rows of a keyspace with a key greater than `after`, ascending, about so many bytes; none: there are no more.
    pub(super) fn page(&self, at: &Frozen, space: Space, after: Option<&[u8]>, bytes_max: usize) -> Result<Vec<(Slice, Slice)>> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_vec()));
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for item in at.0.range(self.keyspace(space), (from, Bound::<Vec<u8>>::Unbounded)) {
            let (k, v) = item.into_inner().map_err(failed)?;
            bytes += k.len() + v.len();
            rows.push((k, v));
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(rows)
    }

    fn keyspace(&self, space: Space) -> &Keyspace {
        match space {
            Space::Log => &self.log,
            Space::Rows => &self.rows,
        }
    }

    /// Handles of the keyspaces, for [`Tables`].
    pub(super) fn tables(&self) -> Tables {
        Tables { log: self.log.clone(), rows: self.rows.clone() }
    }

    /// Writes all or nothing; durable when it answers, if `sync`.
    pub(super) fn commit(&self, stamp: [u8; scan::STAMP_BYTES], writes: Vec<Write>, sync: bool) -> std::result::Result<(), CommitError> {
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.db.clone(), writes.len() + 1).durability(Some(mode));
        batch.insert(&self.rows, codec::STAMP, stamp);
        for w in writes {
            let space = self.keyspace(w.space);
            match w.value {
                Some(value) => batch.insert(space, w.key, value),
                None => batch.remove(space, w.key),
            }
        }
        batch.commit().map_err(|e| match e {
            // Found poisoned before the first byte was written.
            fjall::Error::Poisoned => CommitError::NotWritten("the store's engine stopped after an earlier fault".into()),
            e => CommitError::InDoubt(describe(&e)),
        })
    }

    /// Flushes to the device what was written without a flush.
    pub(super) fn sync(&self) -> std::result::Result<(), String> {
        self.db.persist(PersistMode::SyncData).map_err(|e| describe(&e))
    }

    /// Whether the engine still takes writes.
    pub(super) fn alive(&self) -> std::result::Result<(), String> {
        self.db.persist(PersistMode::Buffer).map_err(|e| describe(&e))
    }

    /// Whether tables pile up faster than they are written.
    pub(super) fn congested(&self) -> bool {
        [&self.log, &self.rows].iter().any(|k| k.sealed_memtable_count() >= SEALED_MAX || k.l0_table_count() >= UNMERGED_MAX)
    }

    /// Moves what is in memory into tables; for tests of damaged tables.
    #[cfg(test)]
    pub(super) fn flush_tables(&self) {
        for space in [&self.log, &self.rows] {
            space.rotate_memtable_and_wait().expect("tables can be written");
        }
    }
}

/// What gives the space of removed log rows back. Blocks.
pub(super) struct Tables {
    log: Keyspace,
    rows: Keyspace,
}

impl Tables {
    /// Writes the log's tables anew without what was removed. Takes as long as writing the log does.
    pub(super) fn compact(&self) -> std::result::Result<(), String> {
        self.log.rotate_memtable_and_wait().and_then(|()| self.log.major_compact()).map_err(|e| describe(&e))
    }

    /// Lets go of the tables of before: the engine deletes those when, after a later write, what is in memory is sealed.
    pub(super) fn forget(&self) -> std::result::Result<(), String> {
        self.rows.rotate_memtable_and_wait().map_err(|e| describe(&e))
    }
}

/// An instant of the store, see [`Engine::freeze`].
pub(super) struct Frozen(Snapshot);

/// A consistent view. Fails rather than leave out what it cannot read.
pub(super) struct View<'a> {
    engine: &'a Engine,
    at: Snapshot,
}

impl View<'_> {
    /// A row.
    pub(super) fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>> {
        let value = self.raw(key)?;
        value.map(|v| codec::decode(key, &v)).transpose()
    }

    /// A value as it is stored.
    pub(super) fn raw(&self, key: &[u8]) -> Result<Option<Slice>> {
        self.at.get(&self.engine.rows, key).map_err(failed)
    }

    /// Rows whose key begins with `prefix` and whose last number is greater than `after`, ascending.
    pub(super) fn list<T: DeserializeOwned>(&self, prefix: &[u8], after: Option<u64>, limit: usize) -> Result<Vec<(u64, T)>> {
        let mut from = prefix.to_vec();
        match after.map(|a| a.checked_add(1)) {
            Some(None) => return Ok(Vec::new()),
            Some(Some(first)) => from.extend_from_slice(&first.to_be_bytes()),
            None => {}
        }
        let mut out = Vec::new();
        for item in self.at.range(&self.engine.rows, from..) {
            if out.len() == limit {
                break;
            }
            let (k, v) = item.into_inner().map_err(failed)?;
            if !k.starts_with(prefix) {
                break;
            }
            out.push((codec::last_number(&k)?, codec::decode(&k, &v)?));
        }
        Ok(out)
    }

    /// Rows whose key begins with `prefix`, with the rest of the key, from behind the rest `after`, ascending.
    pub(super) fn list_keys<T: DeserializeOwned>(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, T)>> {
        let mut from = prefix.to_vec();
        if let Some(after) = after {
            from.extend_from_slice(after);
            from.push(0); // the least key behind it
        }
        let mut out = Vec::new();
        for item in self.at.range(&self.engine.rows, from..).take(limit) {
            let (k, v) = item.into_inner().map_err(failed)?;
            let Some(rest) = k.strip_prefix(prefix) else { break };
            out.push((rest.to_vec(), codec::decode(&k, &v)?));
        }
        Ok(out)
    }

    /// Log rows of a range of keys, ascending or (`rev`) descending, until `each` says stop.
    pub(super) fn log(&self, from: &[u8], to: &[u8], rev: bool, mut each: impl FnMut(&[u8], &[u8]) -> Result<bool>) -> Result<()> {
        let mut range = self.at.range(&self.engine.log, from.to_vec()..=to.to_vec());
        while let Some(item) = if rev { range.next_back() } else { range.next() } {
            let (k, v) = item.into_inner().map_err(failed)?;
            if !each(&k, &v)? {
                break;
            }
        }
        Ok(())
    }
}

fn describe(e: &fjall::Error) -> String {
    match e {
        fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e)) => e.to_string(),
        e => e.to_string(),
    }
}

fn failed(e: fjall::Error) -> StorageError {
    use fjall::LsmError as L;
    let what = describe(&e).into();
    match e {
        fjall::Error::Storage(
            L::ChecksumMismatch { .. } | L::InvalidTag(_) | L::InvalidTrailer | L::InvalidHeader(_) | L::Decompress(_) | L::Utf8(_),
        ) => StorageError::Damaged(what),
        _ => StorageError::Failed(what),
    }
}
