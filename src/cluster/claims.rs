//! A node's claims on shards: the pure [`ShardCore`]s of this process, with the store behind them and those who wait in front.
//!
//! What may be decided is decided there (ownership rules 1, 2 and 6); here the store is asked, and answers find whoever waits for them.
//! What the store is asked runs to its end, or its time limit, whoever went away meanwhile: others may wait for the same.
//! The activation counters live here, outside the rooms, so that a rebuilt room never writes under its predecessor's epoch.

use super::shard::{CLAIM_MS_MAX, Do, In, Placed, Raised, Refusal, ShardCore, Verdict};
use super::{Mono, NodeId, Placement};
use crate::protocol::ids::{Epoch, RoomId, Seq, Shard};
use crate::storage::{Ownership, StorageError};
use futures_util::FutureExt;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Locks that shards are spread over.
const LOCKS: usize = 64;

/// What the rest of the node, and other nodes, are to be told of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The room must end at once: its shard is another's.
    StepDown(RoomId, Epoch),
    /// The room should finish what is in flight, mark its head and end.
    Finish(RoomId),
    /// This node owns the shard under this epoch.
    Owned(u64),
    /// This node gave the shard away, to that one; these rooms ran.
    Released(NodeId, u64, Vec<RoomId>),
}

/// Who is told. Called under a lock: it passes on and returns.
pub type Listener = Box<dyn Fn(Shard, Told) + Send + Sync>;

struct Slot {
    core: ShardCore,
    /// Who waits for an activation, in the order in which they are granted.
    activating: HashMap<RoomId, Vec<oneshot::Sender<Result<Epoch, Refusal>>>>,
    /// Who waits for a verdict, in the order in which they asked. Each verdict is one asker's: who asks while a read runs must not be
    /// answered by it (rule 6).
    checking: HashMap<(RoomId, Epoch), Vec<oneshot::Sender<Verdict>>>,
}

struct Inner {
    store: Arc<dyn Ownership>,
    placement: Arc<dyn Placement>,
    started: Instant,
    slots: [Mutex<HashMap<Shard, Slot>>; LOCKS],
    listener: OnceLock<Listener>,
    /// Committed heads that this process knows for a fact (rule 8) and no marker in the store says yet: rows tell only of the head
    /// *before* them, so without this a room that cannot be written would hide its last acknowledged entries.
    committed: Mutex<HashMap<RoomId, Seq>>,
}

/// This node's claims.
#[derive(Clone)]
pub struct Claims(Arc<Inner>);

impl Claims {
    /// No claim yet: a process that restarts takes new epochs.
    pub fn new(store: Arc<dyn Ownership>, placement: Arc<dyn Placement>) -> Self {
        Claims(Arc::new(Inner {
            store,
            placement,
            started: Instant::now(),
            slots: std::array::from_fn(|_| Mutex::default()),
            listener: OnceLock::new(),
            committed: Mutex::default(),
        }))
    }

    /// Who is told of what happens to shards. The first call counts.
    pub fn listen(&self, listener: Listener) {
        let _ = self.0.listener.set(listener);
    }

    /// A fresh writer's epoch for one start of a room's actor, higher than `above`; takes the shard first when this process has not
    /// yet, or when its activations are used up. From now on checks of the room's older activations fail.
    /// What another took while Redis said nothing is not taken back before it is known who is there: the two would take it from each other.
    pub async fn activate(&self, shard: Shard, room: RoomId, above: Epoch) -> Result<Epoch, StorageError> {
        if self.look(shard, ShardCore::is_lost).unwrap_or(false) && self.0.placement.is_blind() {
            return Err(StorageError::NotOwner("another node took the shard, and who is there is not known now"));
        }
        let (tx, rx) = oneshot::channel();
        self.0.feed(shard, In::Activate { room, above }, |slot| slot.activating.entry(room).or_default().push(tx));
        match rx.await {
            Ok(Ok(epoch)) => Ok(epoch),
            Ok(Err(refusal)) => Err(refused(refusal)),
            Err(_) => Err(StorageError::NotOwner("the node stops")),
        }
    }

    /// Whether a writer with this epoch still owns the shard, by a read that begins now or, when one is running, after it. `Lost` is final.
    pub async fn check(&self, shard: Shard, room: RoomId, epoch: Epoch) -> Verdict {
        let (tx, rx) = oneshot::channel();
        self.0.feed(shard, In::Check { room, epoch }, |slot| slot.checking.entry((room, epoch)).or_default().push(tx));
        rx.await.unwrap_or(Verdict::Again)
    }

    /// Whether the shard was this node's for sure within the last `ms`: else a check comes before a decision on rights (P8).
    pub fn is_sure(&self, shard: Shard, ms: u64) -> bool {
        let now = self.0.now();
        self.look(shard, |core| core.is_sure(now, ms)).unwrap_or(false)
    }

    /// The epoch under which this node owns the shard.
    pub fn owned(&self, shard: Shard) -> Option<u64> {
        self.look(shard, ShardCore::owned)?.map(|cell| cell.epoch)
    }

    /// Whether requests for the shard are for this node: it owns it, or should.
    pub fn is_for_me(&self, shard: Shard) -> bool {
        let known = self.look(shard, ShardCore::is_for_me);
        known.unwrap_or_else(|| self.0.placement.should_own(shard) == self.0.placement.me())
    }

    /// Looks at a shard's core; none when nothing was ever asked about it.
    fn look<R>(&self, shard: Shard, look: impl FnOnce(&ShardCore) -> R) -> Option<R> {
        self.0.slots[shard.0 as usize % LOCKS].lock().get(&shard).map(|slot| look(&slot.core))
    }

    /// Whether the shard is being handed to another node.
    pub fn is_moving(&self, shard: Shard) -> bool {
        self.look(shard, ShardCore::is_moving).unwrap_or(false)
    }

    /// Whether rooms of the shard run here, under this node's ownership.
    pub fn has_rooms(&self, shard: Shard) -> bool {
        self.look(shard, |core| core.owned().is_some() && core.rooms() > 0).unwrap_or(false)
    }

    /// How many shards this node owns.
    pub fn owned_shards(&self) -> usize {
        self.all_owned().len()
    }

    /// The shards that this node owns, as far as it knows, and under which epochs.
    pub fn all_owned(&self) -> Vec<(Shard, u64)> {
        let mut owned = Vec::new();
        for slots in &self.0.slots {
            owned.extend(slots.lock().iter().filter_map(|(shard, slot)| Some((*shard, slot.core.owned()?.epoch))));
        }
        owned
    }

    /// The placement of a shard is another now.
    pub fn placed(&self, shard: Shard, placed: Placed) {
        self.0.feed(shard, In::Placed(placed), |_| {});
    }

    /// The shard's epoch is at least this: another node says so.
    pub fn saw(&self, shard: Shard, epoch: u64) {
        self.0.feed(shard, In::Saw(epoch), |_| {});
    }

    /// Everything of the room up to `head` is committed.
    pub fn note_committed(&self, room: RoomId, head: Seq) {
        let mut committed = self.0.committed.lock();
        let known = committed.entry(room).or_default();
        *known = head.max(*known);
    }

    /// The committed head, as far as this process knows; 0 when it does not.
    pub fn committed(&self, room: RoomId) -> Seq {
        self.0.committed.lock().get(&room).copied().unwrap_or(0)
    }

    /// The room's actor has ended; `marked`: the store says where.
    pub fn deactivate(&self, shard: Shard, room: RoomId, marked: bool) {
        if marked {
            self.0.committed.lock().remove(&room);
        }
        self.0.feed(shard, In::Ended(room), |_| {});
    }

    /// Forgets the claims on all shards: the next activation takes new epochs (after the store was reopened).
    pub fn forget(&self) {
        for slots in &self.0.slots {
            slots.lock().values_mut().for_each(|slot| slot.core.forget());
        }
    }
}

fn refused(refusal: Refusal) -> StorageError {
    match refusal {
        Refusal::NotMine => StorageError::NotOwner("another node should own it"),
        Refusal::Moving(_) => StorageError::NotOwner("it is being handed over"),
        Refusal::NotClaimed => StorageError::NotOwner("its owner is being changed"),
        Refusal::Busy => StorageError::Busy("too many rooms wait for their shard"),
    }
}

impl Inner {
    fn now(&self) -> Mono {
        Mono(self.started.elapsed().as_millis() as u64)
    }

    fn blank(&self, shard: Shard) -> Slot {
        let owner = self.placement.should_own(shard);
        let placed = if owner == self.placement.me() { Placed::Mine } else { Placed::At(owner) };
        Slot { core: ShardCore::new(placed), activating: HashMap::new(), checking: HashMap::new() }
    }

    /// Gives an input to a shard's core and carries out what follows; `first` notes who waits, before anything can be answered.
    fn feed(self: &Arc<Self>, shard: Shard, what: In, first: impl FnOnce(&mut Slot)) {
        let mut slots = self.slots[shard.0 as usize % LOCKS].lock();
        let slot = slots.entry(shard).or_insert_with(|| self.blank(shard));
        first(slot);
        for what in slot.core.step(self.now(), what) {
            match what {
                Do::Granted(room, epoch) => slot.activated(room, Ok(epoch)),
                Do::Refused(room, why) => slot.activated(room, Err(why)),
                Do::Verdict(room, epoch, verdict) => {
                    if let Some(asker) = longest_waiting(&mut slot.checking, (room, epoch)) {
                        let _ = asker.send(verdict);
                    }
                }
                Do::StepDown(room, epoch) => self.tell(shard, Told::StepDown(room, epoch)),
                Do::Finish(room) => self.tell(shard, Told::Finish(room)),
                Do::Announce(epoch) => {
                    crate::telemetry::metrics().cluster_claims_total.inc();
                    self.tell(shard, Told::Owned(epoch));
                }
                Do::Release(to, epoch, rooms) => self.tell(shard, Told::Released(to, epoch, rooms)),
                Do::Read(..) | Do::Raise(..) | Do::Check(..) => drop(tokio::spawn(self.clone().ask(shard, what))),
            }
        }
    }

    fn tell(&self, shard: Shard, told: Told) {
        if let Some(listener) = self.listener.get() {
            listener(shard, told);
        }
    }

    /// Asks the store, and gives the core the answer. A store that panics has not answered: without a word the shard would wait for ever.
    async fn ask(self: Arc<Self>, shard: Shard, what: Do) {
        let answer = match what {
            Do::Read(ticket) => In::Read(ticket, in_time(self.store.epoch(shard)).await, rand::random()),
            Do::Check(ticket) => In::Checked(ticket, in_time(self.store.epoch(shard)).await),
            Do::Raise(ticket, was, next) => {
                let raised = match in_time(self.store.raise_epoch(shard, was, next)).await {
                    Some(true) => Raised::Applied,
                    Some(false) => Raised::Refused,
                    None => Raised::Unknown,
                };
                In::Raised(ticket, raised)
            }
            _ => return,
        };
        self.feed(shard, answer, |_| {});
    }
}

/// What the store answered; none when it failed, panicked, or took too long.
async fn in_time<T>(asked: impl Future<Output = crate::storage::Result<T>>) -> Option<T> {
    let asked = AssertUnwindSafe(asked).catch_unwind();
    tokio::time::timeout(Duration::from_millis(CLAIM_MS_MAX), asked).await.ok()?.ok()?.ok()
}

impl Slot {
    fn activated(&mut self, room: RoomId, granted: Result<Epoch, Refusal>) {
        if let Some(asker) = longest_waiting(&mut self.activating, room) {
            let _ = asker.send(granted);
        }
    }
}

/// Takes out who has waited longest under this key.
fn longest_waiting<K: std::hash::Hash + Eq, V>(waiting: &mut HashMap<K, Vec<V>>, key: K) -> Option<V> {
    let Entry::Occupied(mut waiting) = waiting.entry(key) else { return None };
    let first = (!waiting.get().is_empty()).then(|| waiting.get_mut().remove(0));
    if waiting.get().is_empty() {
        waiting.remove();
    }
    first
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Alone;
    use super::*;
    use crate::protocol::ids::Millis;
    use crate::storage::{EpochCell, Result};
    use async_trait::async_trait;
    use futures_util::future::join_all;

    /// Cells in memory; every call lets others go first.
    #[derive(Default)]
    struct Cells {
        cells: Mutex<HashMap<Shard, EpochCell>>,
        reads: std::sync::atomic::AtomicUsize,
    }

    #[async_trait]
    impl Ownership for Cells {
        fn shards(&self) -> u32 {
            1
        }
        async fn epoch(&self, shard: Shard) -> Result<EpochCell> {
            self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(self.cells.lock().get(&shard).copied().unwrap_or_default())
        }
        async fn raise_epoch(&self, shard: Shard, was: EpochCell, next: EpochCell) -> Result<bool> {
            tokio::task::yield_now().await;
            let raised = {
                let mut cells = self.cells.lock();
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
        let claims = Claims::new(cells.clone(), Arc::new(Alone));
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
            assert_eq!(claims.check(SHARD, RoomId(n as u64), *epoch).await, Verdict::Passed, "room {n}: {epoch:?}");
        }
        assert_eq!(cells.epoch(SHARD).await.unwrap().epoch, 1, "claimed once");
    }

    #[tokio::test]
    async fn a_shard_that_another_took_is_claimed_anew_above_it() {
        let cells = Arc::new(Cells::default());
        let (mine, other) = (Claims::new(cells.clone(), Arc::new(Alone)), Claims::new(cells, Arc::new(Alone)));
        let first = mine.activate(SHARD, RoomId(1), Epoch(0)).await.unwrap();
        let theirs = other.activate(SHARD, RoomId(1), Epoch(0)).await.unwrap();
        assert!(theirs > first);
        assert_eq!(mine.check(SHARD, RoomId(1), first).await, Verdict::Lost);
        assert_eq!(other.check(SHARD, RoomId(1), theirs).await, Verdict::Passed);
        assert!(mine.activate(SHARD, RoomId(1), Epoch(0)).await.is_err(), "who lost a shard does not take it back at once");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let again = mine.activate(SHARD, RoomId(1), Epoch(0)).await.unwrap();
        assert!(again > theirs);
        assert_eq!(mine.check(SHARD, RoomId(1), again).await, Verdict::Passed);
    }

    #[tokio::test]
    async fn an_older_activation_of_a_room_does_not_count() {
        let claims = Claims::new(Arc::new(Cells::default()), Arc::new(Alone));
        let old = claims.activate(SHARD, RoomId(1), Epoch(0)).await.unwrap();
        let new = claims.activate(SHARD, RoomId(1), Epoch(0)).await.unwrap();
        assert_eq!(claims.check(SHARD, RoomId(1), old).await, Verdict::Lost);
        assert_eq!(claims.check(SHARD, RoomId(1), new).await, Verdict::Passed);
        let above = Epoch::new(9, 0);
        assert!(claims.activate(SHARD, RoomId(1), above).await.unwrap() > above);
    }

    #[tokio::test]
    async fn one_check_serves_all_who_asked_before_it_began_and_is_carried_out_whoever_went_away() {
        let cells = Arc::new(Cells::default());
        let claims = Claims::new(cells.clone(), Arc::new(Alone));
        let mut epochs = Vec::new();
        for n in 0..100 {
            epochs.push(claims.activate(SHARD, RoomId(n), Epoch(0)).await.unwrap());
        }
        let before = cells.reads.load(std::sync::atomic::Ordering::Relaxed);
        // The first asks and goes away; its read must not take the others with it.
        assert!(claims.check(SHARD, RoomId(0), epochs[0]).now_or_never().is_none());
        let all = join_all((0..100).map(|n| claims.check(SHARD, RoomId(n), epochs[n as usize]))).await;
        assert!(all.iter().all(|verdict| *verdict == Verdict::Passed));
        assert_eq!(cells.reads.load(std::sync::atomic::Ordering::Relaxed) - before, 2, "one for the first, one for all others");
    }

    /// Cells whose reads are answered when the test lets them.
    struct Slow {
        cell: Mutex<EpochCell>,
        asked: tokio::sync::Semaphore,
        go: tokio::sync::Semaphore,
    }

    #[async_trait]
    impl Ownership for Slow {
        fn shards(&self) -> u32 {
            1
        }
        async fn epoch(&self, _: Shard) -> Result<EpochCell> {
            let cell = *self.cell.lock();
            self.asked.add_permits(1);
            self.go.acquire().await.unwrap().forget();
            Ok(cell)
        }
        async fn raise_epoch(&self, _: Shard, _: EpochCell, next: EpochCell) -> Result<bool> {
            *self.cell.lock() = next;
            Ok(true)
        }
        async fn take_worker(&self, _: u16, _: u128, _: Millis, _: Millis) -> Result<Option<Millis>> {
            Ok(None)
        }
    }

    /// Rule 6: the read must have begun after what it is to confirm. One that saw the cell before another took the shard would pass both.
    #[tokio::test]
    async fn who_asks_while_a_check_runs_is_not_answered_by_it() {
        let none = || tokio::sync::Semaphore::new(0);
        let slow = Arc::new(Slow { cell: Mutex::default(), asked: none(), go: none() });
        let claims = Claims::new(slow.clone(), Arc::new(Alone));
        slow.go.add_permits(1);
        let epoch = claims.activate(SHARD, RoomId(1), Epoch(0)).await.unwrap();
        slow.asked.acquire().await.unwrap().forget();
        let first = tokio::spawn({
            let claims = claims.clone();
            async move { claims.check(SHARD, RoomId(1), epoch).await }
        });
        slow.asked.acquire().await.unwrap().forget();
        // Its read has seen the cell; now another node takes the shard, and then this one asks again.
        *slow.cell.lock() = EpochCell { epoch: 9, token: 9 };
        let mut second = Box::pin(claims.check(SHARD, RoomId(1), epoch));
        assert!(second.as_mut().now_or_never().is_none());
        slow.go.add_permits(1);
        assert_eq!(first.await.unwrap(), Verdict::Passed);
        slow.go.add_permits(1);
        assert_eq!(second.await, Verdict::Lost);
    }
}
