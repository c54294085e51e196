//! A node's claims on shards: which epoch it holds, and the check that makes an append committed.
//!
//! Ownership rules 1, 2 and 6: an epoch is this node's only if *its own* compare-and-set answered "applied"; every start of a
//! room's actor takes a new activation; a check is a read of the epoch cell that began after the append was durable.
//! The activation counters live here, outside the rooms, so that a rebuilt room never writes under its predecessor's epoch.

use crate::protocol::ids::{Epoch, RoomId, Seq, Shard};
use crate::storage::{EpochCell, Ownership, StorageError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Compare-and-sets that somebody else may win before a claim gives up.
const CLAIM_TRIES: u32 = 8;

#[derive(Clone, Copy)]
struct Claim {
    cell: EpochCell,
    activations: u32,
}

/// This node's claims.
pub struct Claims {
    store: Arc<dyn Ownership>,
    held: Mutex<HashMap<Shard, Claim>>,
    /// The activation that counts now, of every room that is started.
    active: Mutex<HashMap<RoomId, Epoch>>,
    /// Committed heads that this process knows for a fact (rule 8) and no marker in the store says yet: rows tell only of the head
    /// *before* them, so without this a room that cannot be written would hide its last acknowledged entries.
    committed: Mutex<HashMap<RoomId, Seq>>,
}

impl Claims {
    /// No claim yet: a process that restarts takes new epochs.
    pub fn new(store: Arc<dyn Ownership>) -> Self {
        Claims { store, held: Mutex::new(HashMap::new()), active: Mutex::new(HashMap::new()), committed: Mutex::new(HashMap::new()) }
    }

    /// A fresh writer's epoch for one start of a room's actor, higher than `above`; takes the shard first when this process has not
    /// yet, or when its activations are used up. From now on checks of the room's older activations fail.
    pub async fn activate(&self, shard: Shard, room: RoomId, above: Epoch) -> Result<Epoch, StorageError> {
        for _ in 0..CLAIM_TRIES {
            // Also after a lost race: it may have been lost to another room of this process.
            if let Some(epoch) = self.next_activation(shard).filter(|e| *e > above) {
                self.active.lock().insert(room, epoch);
                return Ok(epoch);
            }
            let was = self.store.epoch(shard).await?;
            let next = EpochCell { epoch: was.epoch.max(above.shard_epoch()) + 1, token: rand::random() };
            if self.store.raise_epoch(shard, was, next).await? {
                let mut held = self.held.lock();
                // Two rooms of the shard may have come here at once: the higher claim stays.
                let claim = held.entry(shard).or_insert(Claim { cell: next, activations: 0 });
                if claim.cell.epoch < next.epoch {
                    *claim = Claim { cell: next, activations: 0 };
                }
                drop(held);
                if let Some(epoch) = self.next_activation(shard).filter(|e| *e > above) {
                    self.active.lock().insert(room, epoch);
                    return Ok(epoch);
                }
            }
        }
        Err(StorageError::Busy("the shard's owner is being changed"))
    }

    fn next_activation(&self, shard: Shard) -> Option<Epoch> {
        let mut held = self.held.lock();
        let claim = held.get_mut(&shard)?;
        claim.activations += 1;
        if claim.activations >= 1 << Epoch::ACTIVATION_BITS {
            held.remove(&shard);
            return None;
        }
        Some(Epoch::new(claim.cell.epoch, claim.activations))
    }

    /// Whether a writer with this epoch still owns the shard, by a read that begins now. False is final: step down.
    pub async fn check(&self, shard: Shard, room: RoomId, epoch: Epoch) -> Result<bool, StorageError> {
        if self.active.lock().get(&room) != Some(&epoch) {
            return Ok(false);
        }
        let Some(mine) = self.held.lock().get(&shard).map(|c| c.cell).filter(|c| c.epoch == epoch.shard_epoch()) else {
            return Ok(false);
        };
        let now = self.store.epoch(shard).await?;
        if now != mine {
            // Somebody raised it: this claim is over, also for the shard's other rooms.
            self.held.lock().remove(&shard);
        }
        Ok(now == mine && self.active.lock().get(&room) == Some(&epoch))
    }

    /// Everything of the room up to `head` is committed.
    pub fn note_committed(&self, room: RoomId, head: Seq) {
        let mut committed = self.committed.lock();
        let known = committed.entry(room).or_default();
        *known = head.max(*known);
    }

    /// The committed head, as far as this process knows; 0 when it does not.
    pub fn committed(&self, room: RoomId) -> Seq {
        self.committed.lock().get(&room).copied().unwrap_or(0)
    }

    /// The room's actor has ended; `marked`: the store says where.
    pub fn deactivate(&self, room: RoomId, marked: bool) {
        self.active.lock().remove(&room);
        if marked {
            self.committed.lock().remove(&room);
        }
    }

    /// Forgets the claims on all shards: the next activation takes new epochs (after the store was reopened).
    pub fn forget(&self) {
        self.held.lock().clear();
    }
}
