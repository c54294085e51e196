//! Epoch cells and the sequencer's worker slots: compare-and-sets on the writer's thread.

use super::engine::Engine;
use super::{EmbeddedStore, codec, writer::Tx};
use crate::protocol::ids::{Millis, Shard};
use crate::storage::{EpochCell, Ownership, Result};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

/// A cell or slot as it is stored: a number and whose it is (a token, big endian).
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Held {
    pub(super) n: u64,
    #[serde(with = "serde_bytes")]
    pub(super) token: [u8; 16],
}

impl From<EpochCell> for Held {
    fn from(c: EpochCell) -> Self {
        Held { n: c.epoch, token: c.token.to_be_bytes() }
    }
}
impl From<Held> for EpochCell {
    fn from(h: Held) -> Self {
        EpochCell { epoch: h.n, token: u128::from_be_bytes(h.token) }
    }
}

/// All cells, for the copy in memory.
pub(super) fn load_cells(engine: &Engine) -> Result<HashMap<u32, EpochCell>> {
    let rows = engine.view().list::<Held>(&codec::cells(), None, usize::MAX)?;
    Ok(rows.into_iter().map(|(shard, held)| (shard as u32, held.into())).collect())
}

#[async_trait]
impl Ownership for EmbeddedStore {
    fn is_shared(&self) -> bool {
        self.shared.options.faults.as_ref().is_some_and(|faults| faults.shared.load(Relaxed))
    }
    fn shards(&self) -> u32 {
        self.shared.identity.shards
    }

    async fn epoch(&self, shard: Shard) -> Result<EpochCell> {
        Ok(self.shared.cells.lock().get(&shard.0).copied().unwrap_or_default())
    }

    async fn raise_epoch(&self, shard: Shard, was: EpochCell, next: EpochCell) -> Result<bool> {
        if self.shared.options.faults.as_ref().is_some_and(|faults| faults.take(&faults.lost_raises)) {
            return Ok(false);
        }
        let shared = self.shared.clone();
        let work = move |tx: &mut Tx<'_>| {
            let key = codec::cell(shard);
            let stored = tx.get::<Held>(&key)?.map(EpochCell::from).unwrap_or_default();
            if stored != was {
                return Ok(false);
            }
            tx.put(key, &Held::from(next));
            tx.after_commit(move || _ = shared.cells.lock().insert(shard.0, next));
            Ok(true)
        };
        self.shared.write(true, 64, work).await
    }

    async fn take_worker(&self, slot: u16, token: u128, now: Millis, until: Millis) -> Result<Option<Millis>> {
        let work = move |tx: &mut Tx<'_>| {
            let key = codec::worker(slot);
            let stored = tx.get::<Held>(&key)?;
            let before = stored.as_ref().map_or(0, |h| h.n);
            if stored.is_some_and(|h| h.n > now && h.token != token.to_be_bytes()) {
                return Ok(None);
            }
            tx.put(key, &Held { n: until, token: token.to_be_bytes() });
            Ok(Some(before))
        };
        self.shared.write(true, 64, work).await
    }
}
