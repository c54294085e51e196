//! The sequencer: gives snowflake ids in blocks. One per node, on a thread of its own.
//!
//! Guarantee: no id is ever given twice, whatever clocks and restarts do (ownership rule 14). The worker slot comes from the store
//! by compare-and-set with a time up to which ids may be issued; who takes a slot starts after the last holder's time. When the
//! clock runs backwards the sequencer waits rather than repeat. Ids are roughly ordered by time and nothing sorts by them.
//! A panic is caught; the sequencer then starts over with a new slot. Bound: [`WAITING_MAX`] requests wait, more are refused.

use super::node::now_ms;
use crate::error::{ApiError, Code};
use crate::protocol::ids::Millis;
use crate::storage::Store;
use crate::telemetry::metrics;
use actix::prelude::*;
use parking_lot::RwLock;
use snowflake::SnowflakeIdGenerator;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Snowflake time begins here: 2024-01-01 UTC, milliseconds since 1970.
pub const EPOCH_MS: Millis = 1_704_067_200_000;
/// Worker slots of nodes: 10 bits of an id, less the last one, which the command line takes for accounts it makes by itself.
pub const SLOTS: u16 = 1_023;
/// Ids may be issued this far ahead before the slot is renewed.
const LEASE: Duration = Duration::from_secs(60);
/// Renew when less than this is left.
const RENEW: Duration = Duration::from_secs(20);
/// Ids per request at most.
pub const BLOCK_MAX: usize = 256;
/// Requests that may wait.
const WAITING_MAX: usize = 65_536;

/// Asks for ids.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Take {
    count: usize,
    reply: oneshot::Sender<Vec<u64>>,
}

/// For tests: panics.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Panic;

/// The way to the sequencer.
#[derive(Clone, Default)]
pub struct IdSource {
    addr: Arc<RwLock<Option<Addr<Sequencer>>>>,
    waiting: Arc<AtomicUsize>,
}

impl IdSource {
    /// Takes 1 to [`BLOCK_MAX`] fresh ids. Errors are retriable: nothing was done.
    pub async fn take(&self, count: usize) -> Result<Vec<u64>, ApiError> {
        let unavailable = || ApiError::new(Code::Unavailable, "the sequencer is starting; send the same request again");
        if self.waiting.load(Ordering::Relaxed) > WAITING_MAX {
            return Err(ApiError::new(Code::Busy, "too much is waiting for the sequencer"));
        }
        let (tx, rx) = oneshot::channel();
        {
            let addr = self.addr.read();
            let Some(addr) = addr.as_ref() else { return Err(unavailable()) };
            self.waiting.fetch_add(1, Ordering::Relaxed);
            addr.do_send(Take { count: count.clamp(1, BLOCK_MAX), reply: tx });
        }
        rx.await.map_err(|_| unavailable())
    }
    /// One id.
    pub async fn one(&self) -> Result<u64, ApiError> {
        let ids = self.take(1).await?;
        ids.first().copied().ok_or_else(|| ApiError::new(Code::Internal, "the sequencer gave no id"))
    }
    /// For tests: makes it panic.
    pub fn panic(&self) {
        if let Some(addr) = self.addr.read().as_ref() {
            addr.do_send(Panic);
        }
    }
}

/// A worker slot that is held, and the generator of its ids.
pub struct Slot {
    number: u16,
    token: u128,
    until: Millis,
    generator: SnowflakeIdGenerator,
    last: u64,
}

/// See the module.
pub struct Sequencer {
    store: Arc<dyn Store>,
    waiting: Arc<AtomicUsize>,
    slot: Option<Slot>,
    /// A claim or renewal is under way.
    claiming: bool,
    /// [`Sequencer::serve`] is called again later.
    timer: bool,
    queue: VecDeque<Take>,
}

impl Sequencer {
    /// Starts the sequencer on an arbiter; `source` is the way to it from now on.
    pub fn launch(on: &ArbiterHandle, store: Arc<dyn Store>, source: &IdSource) {
        let waiting = source.waiting.clone();
        let start =
            move |_: &mut Context<Self>| Sequencer { store, waiting, slot: None, claiming: false, timer: false, queue: VecDeque::new() };
        *source.addr.write() = Some(Sequencer::start_in_arbiter(on, start));
    }

    /// Claims a slot, or renews the one it has.
    fn claim(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.claiming, true) {
            return;
        }
        let store = self.store.clone();
        let had = self.slot.as_ref().map(|s| (s.number, s.token));
        let claim = async move {
            match had {
                Some((number, token)) => take_slot(&*store, number, token).await,
                None => {
                    let first: u16 = rand::random_range(0..SLOTS);
                    for i in 0..SLOTS {
                        if let Some(slot) = take_slot(&*store, (first + i) % SLOTS, rand::random()).await {
                            return Some(slot);
                        }
                    }
                    None
                }
            }
        };
        let renewal = had.is_some();
        ctx.spawn(claim.into_actor(self).map(move |slot, me, ctx| {
            me.claiming = false;
            match (slot, &mut me.slot) {
                (Some(new), Some(old)) if new.number == old.number && new.token == old.token => old.until = new.until,
                // Started over meanwhile: what was issued under this slot in the last milliseconds is forgotten, so another one is taken.
                (Some(_), None) if renewal => {}
                (Some(new), slot) => *slot = Some(new),
                (None, slot) => {
                    tracing::warn!("the sequencer could not take or renew its worker slot");
                    // Lost to somebody else, or the store does not answer: what is held may be used up to its end, no longer.
                    if slot.as_ref().is_none_or(|s| now_ms() >= s.until) {
                        *slot = None;
                    }
                    me.serve_later(Duration::from_millis(250), ctx);
                    return;
                }
            }
            me.serve(ctx);
        }));
    }

    /// One timer, however many wait.
    fn serve_later(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.timer, true) {
            ctx.run_later(wait, |me, ctx| {
                me.timer = false;
                me.serve(ctx);
            });
        }
    }

    /// Answers what waits, as far as the slot reaches.
    fn serve(&mut self, ctx: &mut Context<Self>) {
        let now = now_ms();
        let Some(slot) = &mut self.slot else { return self.claim(ctx) };
        if now + RENEW.as_millis() as Millis >= slot.until {
            self.claim(ctx);
        }
        let Some(slot) = &mut self.slot else { return };
        while let Some(take) = self.queue.pop_front() {
            if take.reply.is_closed() {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            match slot.block(take.count) {
                Ok(ids) => {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    let _ = take.reply.send(ids);
                }
                Err(wait) => {
                    self.queue.push_front(take);
                    self.serve_later(wait, ctx);
                    return;
                }
            }
        }
    }
}

/// Takes or renews a slot in the store: ids may then be issued up to `until`, and only after what the last holder could issue.
async fn take_slot(store: &dyn Store, number: u16, token: u128) -> Option<Slot> {
    let now = now_ms();
    let until = now + LEASE.as_millis() as Millis;
    let before = store.take_worker(number, token, now, until).await.ok()??;
    // An id's time is its upper bits: nothing at or before the last holder's `until` is issued.
    let floor = if before > now { 0 } else { before.saturating_sub(EPOCH_MS) << 22 };
    Some(Slot::new(number, token, until, floor))
}

impl Slot {
    /// A slot that may issue ids greater than `floor` with a time before `until`.
    pub fn new(number: u16, token: u128, until: Millis, floor: u64) -> Slot {
        // The crate shifts the time by the epoch and does not check ranges: both parts are below 32 here.
        // It looks at the system's clock itself; what ours is off by is taken from the epoch.
        let epoch = UNIX_EPOCH + Duration::from_millis(EPOCH_MS.saturating_add_signed(-crate::clock::offset_ms()));
        let generator = SnowflakeIdGenerator::with_epoch(i32::from(number >> 5), i32::from(number & 31), epoch);
        Slot { number, token, until, generator, last: floor }
    }

    /// `count` ids greater than all before; or how long to wait first (clock behind, lease over).
    ///
    /// # Errors
    /// How long to wait.
    pub fn block(&mut self, count: usize) -> Result<Vec<u64>, Duration> {
        let pause = Duration::from_millis(5);
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let behind = now_ms() < (self.last >> 22) + EPOCH_MS;
            if behind || now_ms() >= self.until {
                return Err(pause);
            }
            let Ok(id) = u64::try_from(self.generator.real_time_generate()) else { return Err(pause) };
            // Its own time counts: this thread may have stood still since the clock was looked at.
            if id <= self.last || (id >> 22) + EPOCH_MS >= self.until {
                return Err(pause);
            }
            self.last = id;
            ids.push(id);
        }
        Ok(ids)
    }
}

impl Actor for Sequencer {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        self.claim(ctx);
    }
}

impl Handler<Take> for Sequencer {
    type Result = ();
    fn handle(&mut self, take: Take, ctx: &mut Self::Context) {
        self.queue.push_back(take);
        if catch_unwind(AssertUnwindSafe(|| self.serve(ctx))).is_err() {
            self.start_over(ctx);
        }
    }
}

impl Sequencer {
    fn start_over(&mut self, ctx: &mut Context<Self>) {
        tracing::error!("the sequencer panicked and starts over with a new worker slot");
        metrics().actor_restarts_total.of("sequencer").inc();
        self.slot = None;
        self.claim(ctx);
    }
}

impl Handler<Panic> for Sequencer {
    type Result = ();
    fn handle(&mut self, _: Panic, ctx: &mut Self::Context) {
        let result = catch_unwind(AssertUnwindSafe(|| panic!("a test asked the sequencer to panic")));
        if result.is_err() {
            self.start_over(ctx);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number, 1, now_ms() + 10_000, 0)
    }

    #[test]
    fn ids_grow_and_are_never_given_twice() {
        let (mut a, mut b) = (slot(3), slot(1023));
        let mut all = std::collections::HashSet::new();
        for _ in 0..40 {
            for slot in [&mut a, &mut b] {
                let ids = slot.block(BLOCK_MAX).unwrap();
                assert!(ids.windows(2).all(|w| w[0] < w[1]));
                assert!(ids.iter().all(|id| *id <= i64::MAX as u64 && all.insert(*id)));
            }
        }
    }

    #[test]
    fn an_id_carries_its_time_and_its_slot() {
        let before = now_ms();
        let id = slot(777).block(1).unwrap()[0];
        assert!((before..=now_ms()).contains(&((id >> 22) + EPOCH_MS)));
        assert_eq!((id >> 12) & 1023, 777);
    }

    #[test]
    fn a_clock_behind_the_high_water_mark_gives_nothing() {
        let mut slot = slot(5);
        slot.last = (now_ms() + 60_000 - EPOCH_MS) << 22;
        assert!(slot.block(1).is_err());
        let mut over = self::slot(5);
        over.until = now_ms();
        assert!(over.block(1).is_err());
    }
}
