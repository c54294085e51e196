//! Cells: what is decided by compare-and-set, each under (kind, partition, id). Rows here are written in no other way.

use super::Core;
use crate::storage::Result;
use xxhash_rust::xxh3::Xxh3;

impl Core {
    /// A cell as a quorum sees it: everything that was answered before is in it.
    pub(super) async fn cell(&self, kind: &str, part: &[u8], id: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.select_one::<(Vec<u8>,)>(&self.statements.cell, (kind, part, id)).await?.map(|(value,)| value))
    }

    /// The same after whatever is under way has been decided.
    pub(super) async fn cell_serial(&self, kind: &str, part: &[u8], id: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.select_one::<(Vec<u8>,)>(&self.statements.cell_serial, (kind, part, id)).await?.map(|(value,)| value))
    }

    /// Cells of a partition behind `after`, ascending.
    pub(super) async fn cells(&self, kind: &str, part: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let most = i32::try_from(limit).unwrap_or(i32::MAX);
        match after {
            _ if limit == 0 => Ok(Vec::new()),
            Some(after) => self.select(&self.statements.cells_after, (kind, part, after, most), limit).await,
            None => self.select(&self.statements.cells, (kind, part, most), limit).await,
        }
    }

    /// Puts `now` (`None`: removes) if the cell is `was`; true when it did. After an error it is not known.
    pub(super) async fn set_cell(&self, kind: &str, part: &[u8], id: &[u8], was: Option<&[u8]>, now: Option<&[u8]>) -> Result<bool> {
        let _turn = self.turn(kind, part).await;
        match (was, now) {
            (None, None) => Ok(self.cell_serial(kind, part, id).await?.is_none()),
            (None, Some(now)) => self.compare_and_set(&self.statements.cell_insert, (kind, part, id, now)).await,
            (Some(was), Some(now)) => self.compare_and_set(&self.statements.cell_replace, (now, kind, part, id, was)).await,
            (Some(was), None) => self.compare_and_set(&self.statements.cell_remove, (kind, part, id, was)).await,
        }
    }

    /// What the cell is after `value`, which nobody else would ever put there, was put if there was nothing. After a time-out too: then it
    /// is read what came of it.
    pub(super) async fn claim(&self, kind: &str, part: &[u8], value: &[u8]) -> Result<Vec<u8>> {
        if let Some(there) = self.cell(kind, part, b"").await? {
            return Ok(there);
        }
        let claimed = self.set_cell(kind, part, b"", None, Some(value)).await;
        if let Ok(true) = claimed {
            return Ok(value.to_vec());
        }
        match (self.cell_serial(kind, part, b"").await, claimed) {
            (Ok(Some(there)), _) => Ok(there),
            (_, Err(error)) | (Err(error), _) => Err(error),
            // Nobody removes a claim that stands.
            (Ok(None), Ok(_)) => Err(super::calls::odd("a claim that was refused and is not there")),
        }
    }

    async fn turn(&self, kind: &str, part: &[u8]) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hash = Xxh3::new();
        hash.update(kind.as_bytes());
        hash.update(part);
        self.turns[hash.digest() as usize % self.turns.len()].lock().await
    }
}
