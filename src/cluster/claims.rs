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

/// Locks that claims on shards are spread over.
const CLAIMING: usize = 64;
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
    /// One claim on a shard at a time: two rooms of this process that start at once must not take the shard from each other.
    claiming: [tokio::sync::Mutex<()>; CLAIMING],
    /// The activation that counts now, of every room that is started.
    active: Mutex<HashMap<RoomId, Epoch>>,
    /// Committed heads that this process knows for a fact (rule 8) and no marker in the store says yet: rows tell only of the head
    /// *before* them, so without this a room that cannot be written would hide its last acknowledged entries.
    committed: Mutex<HashMap<RoomId, Seq>>,
}

impl Claims {
    /// No claim yet: a process that restarts takes new epochs.
    pub fn new(store: Arc<dyn Ownership>) -> Self {
        Claims {
            store,
            held: Mutex::new(HashMap::new()),
            claiming: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            active: Mutex::new(HashMap::new()),
            committed: Mutex::new(HashMap::new()),
        }
    }

    /// A fresh writer's epoch for one start of a room's actor, higher than `above`; takes the shard first when this process has not
    /// yet, or when its activations are used up. From now on checks of the room's older activations fail.
    pub async fn activate(&self, shard: Shard, room: RoomId, above: Epoch) -> Result<Epoch, StorageError> {
        if let Some(epoch) = self.next_activation(shard, room, above) {
            return Ok(epoch);
        }
        let _claiming = self.claiming[shard.0 as usize % CLAIMING].lock().await;
        for _ in 0..CLAIM_TRIES {
            // Another room of this process may have claimed the shard meanwhile.
            if let Some(epoch) = self.next_activation(shard, room, above) {
                return Ok(epoch);
            }
            let was = self.store.epoch(shard).await?;
            let next = EpochCell { epoch: was.epoch.max(above.shard_epoch()) + 1, token: rand::random() };
            if self.store.raise_epoch(shard, was, next).await? {
                self.held.lock().insert(shard, Claim { cell: next, activations: 0 });
            }
        }
        Err(StorageError::Busy("the shard's owner is being changed"))
    }

    /// The next activation under the claim that is held, if it is above `above`; the room's older ones count no more.
    fn next_activation(&self, shard: Shard, room: RoomId, above: Epoch) -> Option<Epoch> {
        let mut held = self.held.lock();
        let claim = held.get_mut(&shard)?;
        claim.activations += 1;
        if claim.activations >= 1 << Epoch::ACTIVATION_BITS {
            held.remove(&shard);
            return None;
        }
        let epoch = Epoch::new(claim.cell.epoch, claim.activations);
        (epoch > above).then(|| {
            self.active.lock().insert(room, epoch);
            epoch
        })
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
            // Somebody raised it: this claim is over, also for the shard's other rooms. A newer one of this process is not.
            let mut held = self.held.lock();
            if held.get(&shard).is_some_and(|c| c.cell == mine) {
                held.remove(&shard);
            }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::ids::Millis;
    use crate::storage::Result;
    use async_trait::async_trait;
    use futures_util::future::join_all;

    /// Cells in memory; every call lets others go first.
    #[derive(Default)]
    struct Cells(Mutex<HashMap<Shard, EpochCell>>);

    #[async_trait]
    impl Ownership for Cells {
        fn shards(&self) -> u32 {
            1
        }
        async fn epoch(&self, shard: Shard) -> Result<EpochCell> {
            tokio::task::yield_now().await;
            Ok(self.0.lock().get(&shard).copied().unwrap_or_default())
        }
        async fn raise_epoch(&self, shard: Shard, was: EpochCell, next: EpochCell) -> Result<bool> {
            tokio::task::yield_now().await;
            let raised = {
                let mut cells = self.0.lock();
                let cell = cells.entry(shard).or_default();
                *cell == was && {
                    *cell = next;
                    true
                }
            };
            // Written, and the answer takes its time.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            Ok(raised)
        }
        async fn take_worker(&self, _: u16, _: u128, _: Millis, _: Millis) -> Result<Option<Millis>> {
            Ok(None)
        }
    }

    const SHARD: Shard = Shard(0);

    #[tokio::test]
    async fn rooms_that_start_at_once_do_not_take_the_shard_from_each_other() {
        let cells = Arc::new(Cells::default());
        let claims = Claims::new(cells.clone());
        let start = |n: u64| {
            let claims = &claims;
            async move {
                for _ in 0..n {
                    tokio::task::yield_now().await;
                }
                claims.activate(SHARD, RoomId(n), Epoch(0)).await.unwrap()
            }
        };
        let epochs = join_all((0..8).map(start)).await;
        for (n, epoch) in epochs.iter().enumerate() {
            assert!(claims.check(SHARD, RoomId(n as u64), *epoch).await.unwrap(), "room {n}: {epoch:?}");
        }
        assert_eq!(cells.epoch(SHARD).await.unwrap().epoch, 1, "claimed once");
    }

    #[tokio::test]
    async fn a_shard_that_another_took_is_claimed_anew_above_it() {
        let cells = Arc::new(Cells::default());
        let (mine, other) = (Claims::new(cells.clone()), Claims::new(cells));
        let first = mine.activate(SHARD, RoomId(1), Epoch(0)).await.unwrap();
        let theirs = other.activate(SHARD, RoomId(1), Epoch(0)).await.unwrap();
        assert!(theirs > first && !mine.check(SHARD, RoomId(1), first).await.unwrap());
        assert!(other.check(SHARD, RoomId(1), theirs).await.unwrap());
        let again = mine.activate(SHARD, RoomId(1), Epoch(0)).await.unwrap();
        assert!(again > theirs && mine.check(SHARD, RoomId(1), again).await.unwrap());
    }

    #[tokio::test]
    async fn an_older_activation_of_a_room_does_not_count() {
        let claims = Claims::new(Arc::new(Cells::default()));
        let old = claims.activate(SHARD, RoomId(1), Epoch(0)).await.unwrap();
        let new = claims.activate(SHARD, RoomId(1), Epoch(0)).await.unwrap();
        assert!(!claims.check(SHARD, RoomId(1), old).await.unwrap() && claims.check(SHARD, RoomId(1), new).await.unwrap());
        let above = Epoch::new(9, 0);
        assert!(claims.activate(SHARD, RoomId(1), above).await.unwrap() > above);
    }
}
