//! Epoch cells and the sequencer's worker slots.

use super::calls::odd;
use super::{Core, ScyllaStore};
use crate::protocol::ids::{Millis, Shard};
use crate::storage::{EpochCell, Ownership, Result, StorageError};
use async_trait::async_trait;

pub(super) const EPOCH: &str = "epoch";
pub(super) const WORKER: &str = "worker";
/// Tries for a slot that changes meanwhile.
const TRIES: usize = 4;

/// A number and whose it is.
pub(super) fn held(n: u64, token: u128) -> [u8; 24] {
    let mut value = [0; 24];
    value[..8].copy_from_slice(&n.to_be_bytes());
    value[8..].copy_from_slice(&token.to_be_bytes());
    value
}

pub(super) fn parse(value: &[u8]) -> Result<(u64, u128)> {
    let (n, token) = value.split_first_chunk::<8>().ok_or_else(|| odd("a held cell"))?;
    let token = token.try_into().map_err(|_| odd("a held cell"))?;
    Ok((u64::from_be_bytes(*n), u128::from_be_bytes(token)))
}

/// An epoch cell's value.
pub(super) fn cell_of(value: &[u8]) -> Result<EpochCell> {
    parse(value).map(|(epoch, token)| EpochCell { epoch, token })
}

impl Core {
    async fn raise_epoch(&self, shard: Shard, was: EpochCell, next: EpochCell) -> Result<bool> {
        let (was_held, next) = (held(was.epoch, was.token), held(next.epoch, next.token));
        let was = (was != EpochCell::default()).then_some(&was_held[..]);
        self.set_cell(EPOCH, &shard.0.to_be_bytes(), b"", was, Some(&next)).await
    }

    async fn take_worker(&self, slot: u16, token: u128, now: Millis, until: Millis) -> Result<Option<Millis>> {
        let part = slot.to_be_bytes();
        for _ in 0..TRIES {
            let stored = self.cell_serial(WORKER, &part, b"").await?;
            let (before, whose) = stored.as_ref().map(|value| parse(value)).transpose()?.unwrap_or_default();
            if stored.is_some() && before > now && whose != token {
                return Ok(None);
            }
            if self.set_cell(WORKER, &part, b"", stored.as_deref(), Some(&held(until, token))).await? {
                return Ok(Some(before));
            }
        }
        Err(StorageError::Busy("others are taking the same worker slot"))
    }
}

#[async_trait]
impl Ownership for ScyllaStore {
    fn shards(&self) -> u32 {
        self.core.shards
    }
    async fn epoch(&self, shard: Shard) -> Result<EpochCell> {
        self.run(move |core| async move { core.epoch(shard).await }).await
    }
    async fn raise_epoch(&self, shard: Shard, was: EpochCell, next: EpochCell) -> Result<bool> {
        self.run(move |core| async move { core.raise_epoch(shard, was, next).await }).await
    }
    async fn take_worker(&self, slot: u16, token: u128, now: Millis, until: Millis) -> Result<Option<Millis>> {
        self.run(move |core| async move { core.take_worker(slot, token, now, until).await }).await
    }
}
