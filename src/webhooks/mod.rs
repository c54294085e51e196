//! Webhooks. Outgoing: which there are, which events each wants, and what of that is still to be sent; incoming: [`incoming`].
//!
//! A **job** is an event of a committed entry that one webhook has not accepted yet. Jobs are written by [`Webhooks::enqueue`]
//! before the entry counts as applied, and so outlive a crash: a room that is loaded again redoes what was not applied, and a
//! job is the same one by (webhook, room, seq). They are taken away when the receiver has accepted them or when they go to
//! the **dead letters**, from where an operator can send them again. Sending is `actors::webhooks`' part.
//!
//! **Bounds**: `webhooks.hooks_max` webhooks; `webhooks.waiting_max` jobs of one webhook: then it is marked failing, and events
//! go to the dead letters at once; `webhooks.dead_max` of those: then the oldest are dropped and counted. Presence, and the
//! coming and going of a channel's subscribers, are no entries and so no jobs: they are told once, to who is listening then.

use crate::config;
use crate::error::{ApiError, Code};
use crate::protocol::entry::Entry;
use crate::protocol::ids::{Millis, RoomId, Seq};
use crate::storage::records::{decode, encode};
use crate::storage::{RecordWrite, Records, Result, Table};
use crate::telemetry::metrics;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

mod dead;
pub mod event;
mod hooks;
pub mod incoming;

pub use dead::{Dead, DeadId, Why};
pub use event::Event;
pub use hooks::{Hook, HookChange, HookId, NewHook};

/// Jobs per read.
const PAGE: usize = 256;
/// Bytes of one write, but always one record.
const WRITE_BYTES_MAX: usize = 1 << 20;

/// A job's place among those of its webhook: by room, then by seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// The room.
    pub room: RoomId,
    /// The entry.
    pub seq: Seq,
}

impl JobKey {
    fn bytes(self) -> Vec<u8> {
        [self.room.0.to_be_bytes(), self.seq.to_be_bytes()].concat()
    }
    fn parse(bytes: &[u8]) -> Option<JobKey> {
        let number = |range: std::ops::Range<usize>| bytes.get(range)?.try_into().ok().map(u64::from_be_bytes);
        Some(JobKey { room: RoomId(number(0..8)?), seq: number(8..16)? })
    }
}

/// An event that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The room.
    pub room: RoomId,
    /// The entry.
    pub seq: Seq,
    /// The event's id. Empty: written by a build that made it of room and seq.
    #[serde(default)]
    pub event: String,
    /// The event's type.
    pub kind: String,
    /// When the entry was numbered.
    pub at: Millis,
    /// When the job was made, or made again by a replay: from here on its time runs.
    pub made: Millis,
    /// Grows with every replay; orders the writes of its record.
    pub version: u64,
    /// What is sent.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

impl Job {
    /// Its place.
    pub fn key(&self) -> JobKey {
        JobKey { room: self.room, seq: self.seq }
    }
    /// The event's id, the same with every attempt and every replay.
    pub fn event(&self) -> String {
        if self.event.is_empty() { format!("{}-{}", self.room, self.seq) } else { self.event.clone() }
    }
}

/// What the sender is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// These jobs were written.
    Jobs(HookId, Vec<JobKey>),
    /// An event that is told once.
    Once(HookId, Event),
    /// The webhook was made, changed or taken away.
    Changed(HookId),
    /// Jobs that another node was to send are this one's now.
    Gained,
    /// For tests: panic.
    Panic,
}

/// A webhook in use: its settings, and how it is doing.
pub struct Live {
    /// The settings.
    pub hook: Hook,
    /// How it is doing; the same one after the settings change.
    pub state: Arc<State>,
}

/// How a webhook is doing, since the process began.
#[derive(Default)]
pub struct State {
    /// Jobs.
    pub waiting: AtomicUsize,
    /// Dead letters.
    pub dead: AtomicUsize,
    /// Events that were given up for good.
    pub dropped: AtomicU64,
    /// Since when its receiver does not accept, and why.
    pub failing: Mutex<Option<(Millis, String)>>,
    /// Held by who adds or takes away dead letters, so that they are counted right.
    dying: tokio::sync::Mutex<()>,
}

impl State {
    /// So many jobs wait.
    fn wait(&self, count: impl Fn(usize) -> usize) {
        let was = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |was| Some(count(was))).unwrap_or_default();
        metrics().webhook_jobs_waiting.inc_by(count(was) as i64 - was as i64);
    }
}

/// The webhooks. One per process, shared.
pub struct Webhooks {
    records: Arc<dyn Records>,
    config: config::Webhooks,
    live: RwLock<Arc<HashMap<HookId, Arc<Live>>>>,
    /// One change of the set at a time.
    changing: tokio::sync::Mutex<()>,
    tell: OnceLock<Box<dyn Fn(Told) + Send + Sync>>,
}

impl Webhooks {
    /// None yet: [`Webhooks::load`] reads them.
    pub fn new(records: Arc<dyn Records>, config: config::Webhooks) -> Webhooks {
        Webhooks { records, config, live: RwLock::default(), changing: tokio::sync::Mutex::default(), tell: OnceLock::new() }
    }

    /// Who sends; set once. Must not block.
    pub fn told_to(&self, tell: impl Fn(Told) + Send + Sync + 'static) {
        let _ = self.tell.set(Box::new(tell));
    }

    fn tell(&self, told: Told) {
        if let Some(tell) = self.tell.get() {
            tell(told);
        }
    }

    /// The limits.
    pub fn config(&self) -> &config::Webhooks {
        &self.config
    }

    /// A webhook that is there.
    pub fn get(&self, id: HookId) -> Option<Arc<Live>> {
        self.live.read().get(&id).cloned()
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Arc<Live>> {
        let mut all: Vec<_> = self.live.read().values().cloned().collect();
        all.sort_by_key(|live| live.hook.id);
        all
    }

    fn wanting(&self, wants: impl Fn(&Hook) -> bool) -> Vec<Arc<Live>> {
        self.live.read().values().filter(|live| live.hook.active && wants(&live.hook)).cloned().collect()
    }

    /// Makes the jobs of committed entries of a room, durably. The same entries again make the same jobs.
    pub async fn enqueue(&self, room: RoomId, entries: &[&Entry], now: Millis) -> Result<()> {
        if self.live.read().is_empty() {
            return Ok(());
        }
        for live in self.wanting(|hook| hook.wants_room(room)) {
            let wanted = entries.iter().filter(|entry| live.hook.wants(entry.body.kind()));
            let jobs: Vec<Job> = wanted.map(|entry| event::job(entry, now)).collect();
            if !jobs.is_empty() {
                self.add(&live, jobs, now).await?;
            }
        }
        Ok(())
    }

    /// Writes jobs, as many as may wait; the others go to the dead letters.
    async fn add(&self, live: &Live, mut jobs: Vec<Job>, now: Millis) -> Result<()> {
        let over = jobs.split_off(jobs.len().min(self.room_for(live)));
        let over = self.strangers(live.hook.id, over).await?;
        if !over.is_empty() {
            self.failed(live, now, "too many events are waiting for it");
            let why = Why { tries: 0, status: None, error: "too many events were waiting".into() };
            self.bury(live, over, &why, now).await?;
        }
        self.write(live, &jobs).await
    }

    /// Those of the jobs that do not wait already: a room redoes what it is not sure of.
    async fn strangers(&self, id: HookId, jobs: Vec<Job>) -> Result<Vec<Job>> {
        let mut strangers = Vec::new();
        for job in jobs {
            if self.job(id, job.key()).await?.is_none() {
                strangers.push(job);
            }
        }
        Ok(strangers)
    }

    /// How many more jobs may wait.
    fn room_for(&self, live: &Live) -> usize {
        self.config.waiting_max.saturating_sub(live.state.waiting.load(Ordering::Relaxed))
    }

    async fn write(&self, live: &Live, jobs: &[Job]) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let (id, count) = (live.hook.id, jobs.len());
        live.state.wait(|was| was + count);
        let writes = jobs.iter().map(|job| RecordWrite { key: job.key().bytes(), version: job.version, value: Some(encode(job)) });
        let written = self.put(Table::WebhookJob, id, writes.collect()).await;
        let gone = self.get(id).is_none();
        if written.is_err() || gone {
            live.state.wait(|was| was.saturating_sub(count));
        }
        written?;
        if gone {
            // It was taken away meanwhile; who did that has not seen these.
            return self.clear(Table::WebhookJob, id).await;
        }
        self.tell(Told::Jobs(id, jobs.iter().map(Job::key).collect()));
        Ok(())
    }

    /// Writes records of a webhook in parts that no store refuses; each part is durable before the next one.
    async fn put(&self, table: Table, id: HookId, writes: Vec<RecordWrite>) -> Result<()> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        for write in writes {
            let length = write.key.len() + write.value.as_ref().map_or(0, bytes::Bytes::len);
            if bytes + length > WRITE_BYTES_MAX && !part.is_empty() {
                self.records.put_records(table, &id.partition(), std::mem::take(&mut part)).await?;
                bytes = 0;
            }
            part.push(write);
            bytes += length;
        }
        if part.is_empty() { Ok(()) } else { self.records.put_records(table, &id.partition(), part).await }
    }

    /// An event that is no entry: told once, to those that want it.
    pub fn once(&self, kind: &str, room: Option<RoomId>, event: impl FnOnce() -> Event) {
        if self.live.read().is_empty() {
            return;
        }
        let wanting = self.wanting(|hook| hook.wants(kind) && room.is_none_or(|room| hook.wants_room(room)));
        if wanting.is_empty() {
            return;
        }
        let event = event();
        for live in wanting {
            self.tell(Told::Once(live.hook.id, event.clone()));
        }
    }

    /// The places of a webhook's jobs after one, ascending; a page at most. Empty at the end.
    pub async fn jobs(&self, id: HookId, after: Option<JobKey>) -> Result<Vec<JobKey>> {
        let after = after.map(JobKey::bytes);
        let rows = self.records.records(Table::WebhookJob, &id.partition(), after.as_deref(), PAGE).await?;
        Ok(rows.iter().filter_map(|(key, _)| JobKey::parse(key)).collect())
    }

    /// A job, if it is still to be done.
    pub async fn job(&self, id: HookId, key: JobKey) -> Result<Option<Job>> {
        let row = self.records.record(Table::WebhookJob, &id.partition(), &key.bytes()).await?;
        row.map(|bytes| decode(&bytes)).transpose()
    }

    /// The receiver has accepted it.
    pub async fn done(&self, live: &Live, job: &Job) -> Result<()> {
        self.put(Table::WebhookJob, live.hook.id, vec![gone(job)]).await?;
        *live.state.failing.lock() = None;
        metrics().webhook_events_total.of("delivered").inc();
        Ok(())
    }

    /// The receiver does not accept.
    pub fn failed(&self, live: &Live, now: Millis, why: &str) {
        let mut failing = live.state.failing.lock();
        if failing.is_none() {
            tracing::warn!(webhook = %live.hook.id, why, "a webhook is failing");
        }
        let since = failing.as_ref().map_or(now, |(since, _)| *since);
        *failing = Some((since, why.to_owned()));
    }

    /// So many jobs wait, says the sender, who knows them all; what is written and not told yet comes on top.
    pub fn waits(&self, live: &Live, count: usize) {
        live.state.wait(|_| count);
    }

    /// Shards have come to this node, and the jobs of their rooms with them.
    pub fn shards_gained(&self) {
        self.tell(Told::Gained);
    }

    /// For tests: the sender panics.
    pub fn panic(&self) {
        self.tell(Told::Panic);
    }
}

/// A job's end.
fn gone(job: &Job) -> RecordWrite {
    RecordWrite { key: job.key().bytes(), version: job.version, value: None }
}

/// A store's failure as operators and integrators get it.
fn failed(error: crate::storage::StorageError) -> ApiError {
    crate::auth::failed(error)
}

fn no_such_hook() -> ApiError {
    ApiError::new(Code::NotFound, "no such webhook")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
