//! Copying a store that is in use: all rows of one snapshot, page by page.
//!
//! A snapshot is one instant over both keyspaces, so what is copied belongs together, and everything that was acknowledged before it was
//! taken is in it. Writes go on; the engine keeps what the snapshot still needs. The engine's handles are held a page at a
//! time only: a store that must open itself again does not wait for a copy, which ends with an error instead.

use super::engine::{Frozen, Space};
use super::{Shared, codec};
use crate::storage::copying::{CopiedRow, Copying};
use crate::storage::{Result, StorageError, record};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of a page, about.
const PAGE_BYTES: usize = 1 << 20;

pub(super) struct Copy {
    shared: Arc<Shared>,
    at: Frozen,
    /// How often the store had been opened when the snapshot was taken.
    opened: u64,
    /// What is copied now; none: everything is.
    space: Option<Space>,
    after: Option<Vec<u8>>,
}

impl Copy {
    pub(super) fn begin(shared: &Arc<Shared>) -> Result<Copy> {
        let engine = shared.engine.read();
        let engine = engine.as_ref().ok_or_else(|| StorageError::Failed("the store is not open".into()))?;
        let opened = shared.opened.load(Relaxed);
        // Rows that are no log rows first: what was derived never runs ahead of the log in one snapshot, in whatever order.
        Ok(Copy { shared: shared.clone(), at: engine.freeze(), opened, space: Some(Space::Rows), after: None })
    }
}

impl Copying for Copy {
    fn next(&mut self) -> Result<Vec<CopiedRow>> {
        let engine = self.shared.engine.read();
        let engine = engine.as_ref().ok_or_else(|| StorageError::Failed("the store is not open".into()))?;
        if self.shared.opened.load(Relaxed) != self.opened {
            return Err(StorageError::Failed("the store had to open itself again meanwhile".into()));
        }
        while let Some(space) = self.space {
            let page = engine.page(&self.at, space, self.after.as_deref(), PAGE_BYTES)?;
            let Some((last, _)) = page.last() else {
                self.space = (space == Space::Rows).then_some(Space::Log);
                self.after = None;
                continue;
            };
            self.after = Some(last.to_vec());
            let mut rows = Vec::with_capacity(page.len());
            for (key, value) in page {
                match space {
                    Space::Log => drop(record::decode_row(&key, &value)?),
                    // The stamp belongs to this store's own journal.
                    Space::Rows if *key == *codec::STAMP => continue,
                    Space::Rows => codec::verify(&key, &value)?,
                }
                let bytes = |slice: fjall::Slice| Bytes::copy_from_slice(&slice);
                rows.push(CopiedRow { log: space == Space::Log, key: bytes(key), value: bytes(value) });
            }
            if !rows.is_empty() {
                return Ok(rows);
            }
        }
        Ok(Vec::new())
    }
}
