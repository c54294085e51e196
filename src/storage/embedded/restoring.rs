//! A new store from a copy.
//!
//! The store exists only once everything is in it and flushed: `STORE` is written last, and without it a directory with other files of a
//! store is not opened. Every shard's epoch is raised above every row's and above its cell (ownership rule 15), under a token of its own: whatever
//! the copied server still does elsewhere, it owns nothing here. The sequencer's slots are over at the moment of restoring at the earliest, so
//! that no id is given again that the copied server gave after the copy (as far as the machines' clocks agree).

use super::engine::{CommitError, Engine, Space, Write};
use super::ownership::Held;
use super::{DB, Identity, OpenError, STORE, codec, identity_file, lock, scan};
use crate::protocol::ids::{Millis, Shard};
use crate::storage::copying::CopiedRow;
use crate::storage::{Result, StorageError, record};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of cache for the one pass of writing.
const CACHE_BYTES: u64 = 8 << 20;

/// A store that is being made. Dropped before [`Restoring::finish`] it leaves files that are no store.
pub struct Restoring {
    dir: PathBuf,
    identity: Identity,
    engine: Engine,
    number: u64,
    /// The highest epoch of each shard, of its cell and its rows.
    epochs: HashMap<u32, u64>,
    /// Keeps every other process out.
    _lock: File,
}

impl Restoring {
    /// Begins a store with so many shards in a directory that holds none.
    pub fn begin(dir: &Path, shards: u32) -> std::result::Result<Restoring, OpenError> {
        std::fs::create_dir_all(dir).map_err(|e| OpenError::io(dir, e))?;
        let lock = lock(dir)?;
        for name in [STORE, DB] {
            let path = dir.join(name);
            if path.exists() {
                return Err(OpenError::io(&path, std::io::Error::other("a store is there already; restore into an empty directory")));
            }
        }
        let engine = Engine::open(&dir.join(DB), CACHE_BYTES)?;
        let identity = Identity::fresh(shards);
        Ok(Restoring { dir: dir.into(), identity, engine, number: 0, epochs: HashMap::new(), _lock: lock })
    }

    /// Takes rows of the copy. Blocks.
    pub fn rows(&mut self, rows: Vec<CopiedRow>, now: Millis) -> Result<()> {
        let mut writes = Vec::with_capacity(rows.len());
        for CopiedRow { log, key, value } in rows {
            if log {
                let (room, row) = record::decode_row(&key, &value)?;
                self.saw(Shard::of_room(room, self.identity.shards).0, row.epoch.shard_epoch());
                writes.push(Write { space: Space::Log, key: (&key[..]).into(), value: Some((&value[..]).into()) });
                continue;
            }
            codec::verify(&key, &value)?;
            match key.first() {
                // Written at the end, raised.
                Some(&letter) if letter == codec::CELL => {
                    let cell: Held = codec::decode(&key, &value)?;
                    self.saw(codec::last_number(&key)? as u32, cell.n);
                }
                Some(&letter) if letter == codec::WORKER => {
                    let slot: Held = codec::decode(&key, &value)?;
                    let over = codec::encode(&key, &Held { n: slot.n.max(now), token: rand::random() });
                    writes.push(Write { space: Space::Rows, key: (&key[..]).into(), value: Some(over.into()) });
                }
                _ => writes.push(Write { space: Space::Rows, key: (&key[..]).into(), value: Some((&value[..]).into()) }),
            }
        }
        self.commit(writes, false)
    }

    fn saw(&mut self, shard: u32, epoch: u64) {
        let known = self.epochs.entry(shard).or_default();
        *known = epoch.max(*known);
    }

    fn commit(&mut self, writes: Vec<Write>, sync: bool) -> Result<()> {
        while self.engine.congested() {
            self.engine.alive().map_err(|why| StorageError::Failed(why.into()))?;
            std::thread::sleep(Duration::from_millis(5));
        }
        self.number += 1;
        let stamp = scan::stamp(self.identity.nonce, self.number);
        self.engine.commit(stamp, writes, sync).map_err(|e| match e {
            CommitError::NotWritten(why) | CommitError::InDoubt(why) => StorageError::Failed(why.into()),
        })
    }

    /// Raises the epochs, flushes, and makes it a store; how many shards' epochs were raised.
    pub fn finish(mut self) -> std::result::Result<usize, OpenError> {
        let raise = |(shard, epoch): (u32, u64)| {
            let key = codec::cell(Shard(shard));
            let value = codec::encode(&key, &Held { n: epoch + 1, token: rand::random() });
            Write { space: Space::Rows, key: key.into(), value: Some(value.into()) }
        };
        let raised: Vec<Write> = std::mem::take(&mut self.epochs).into_iter().map(raise).collect();
        let shards = raised.len();
        self.commit(raised, true).map_err(|e| OpenError::Engine(e.to_string()))?;
        let Restoring { dir, identity, engine, .. } = self;
        // Every handle is closed before the directory is a store.
        drop(engine);
        identity_file(&dir, &identity)?;
        Ok(shards)
    }
}
