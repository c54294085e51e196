//! The one thread that writes: takes what waits, lets each job put its rows into one batch, flushes once, answers all.
//!
//! Guarantees: jobs run one after another, so a compare-and-set needs no other lock; a job's answer leaves only after the
//! batch it is in was flushed (or, for a job that need not be durable, written); batches reach the journal in the order in
//! which jobs were handed in. What was written without a flush is flushed within [`UNSYNCED_MAX`].
//!
//! After a failed write or flush nothing is acknowledged because a later one succeeds: jobs of that batch are in doubt, all
//! others are refused, and `reopen` starts over from what is on the disk.

use super::engine::{CommitError, Engine, Space, View, Write};
use super::{Shared, codec, reopen, scan};
use crate::storage::{Result, StorageError};
use fjall::Slice;
use parking_lot::{Condvar, Mutex};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Jobs of one batch at most; more would make the first wait for the last without saving flushes.
const GROUP_JOBS_MAX: usize = 4_096;
/// Bytes of one batch at most, but always one job.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Bytes of all jobs that wait or are being written; above it jobs are refused (`Busy`).
const WAITING_BYTES_MAX: usize = 64 << 20;
/// How long something may be written but not flushed.
const UNSYNCED_MAX: Duration = Duration::from_millis(500);

/// What a job reads and writes: the stored rows, and above them what earlier jobs of the same batch put.
pub(super) struct Tx<'a> {
    view: View<'a>,
    writes: Vec<Write>,
    put: HashMap<Slice, Option<Slice>>,
    after: Vec<Box<dyn FnOnce() + Send>>,
}

impl Tx<'_> {
    pub(super) fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>> {
        match self.put.get(key) {
            Some(value) => value.as_ref().map(|v| codec::decode(key, v)).transpose(),
            None => self.view.get(key),
        }
    }
    pub(super) fn put<T: Serialize>(&mut self, key: codec::Key, record: &T) {
        let value = codec::encode(&key, record);
        self.write(key.into(), Some(value.into()));
    }
    pub(super) fn remove(&mut self, key: codec::Key) {
        self.write(key.into(), None);
    }
    fn write(&mut self, key: Slice, value: Option<Slice>) {
        self.put.insert(key.clone(), value.clone());
        self.writes.push(Write { space: Space::Rows, key, value });
    }
    pub(super) fn log_row(&mut self, key: Slice, value: Slice) {
        self.writes.push(Write { space: Space::Log, key, value: Some(value) });
    }
    pub(super) fn remove_log(&mut self, key: Vec<u8>) {
        self.writes.push(Write { space: Space::Log, key: key.into(), value: None });
    }
    /// Runs once the batch is durable, before anybody is answered.
    pub(super) fn after_commit(&mut self, f: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(f));
    }
}

trait Job: Send {
    /// Puts its rows. Whoever fails has put none.
    fn run(&mut self, tx: &mut Tx<'_>);
    /// Answers; `Err` is what became of the batch.
    fn finish(self: Box<Self>, batch: std::result::Result<(), StorageError>);
}

struct JobOf<F, T> {
    work: Option<F>,
    value: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnOnce(&mut Tx<'_>) -> Result<T> + Send> Job for JobOf<F, T> {
    fn run(&mut self, tx: &mut Tx<'_>) {
        let before = tx.writes.len();
        self.value = self.work.take().map(|work| work(tx));
        debug_assert!(matches!(self.value, Some(Ok(_))) || tx.writes.len() == before, "a failed job has put rows");
    }
    fn finish(self: Box<Self>, batch: std::result::Result<(), StorageError>) {
        let never_ran = || Err(StorageError::Failed("the job did not run".into()));
        let JobOf { value, reply, .. } = *self;
        // Who asked may have gone away; the write stands all the same.
        _ = reply.send(batch.and_then(|()| value.unwrap_or_else(never_ran)));
    }
}

struct Waiting {
    job: Box<dyn Job>,
    bytes: usize,
    durable: bool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Jobs and bytes not yet answered, those being written included.
    jobs: usize,
    bytes: usize,
    refuses: Option<Arc<str>>,
    closing: bool,
}

/// What waits for the writer.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

enum Next {
    Group(Vec<Waiting>),
    Idle,
    Closing,
}

impl Queue {
    /// Jobs not yet answered, and why writes are refused.
    pub(super) fn status(&self) -> (usize, Option<Arc<str>>) {
        let s = self.state.lock();
        (s.jobs, s.refuses.clone())
    }

    /// Whether the store is closing; waits for it at most `wait`.
    pub(super) fn closing(&self, wait: Duration) -> bool {
        let mut s = self.state.lock();
        self.changed.wait_while_for(&mut s, |s| !s.closing, wait);
        s.closing
    }

    /// Ends the writer once everything that waits is written.
    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }

    /// From now on everything is refused; what waits is answered so.
    pub(super) fn refuse(&self, why: &Arc<str>) {
        let waiting = {
            let mut s = self.state.lock();
            s.refuses = Some(why.clone());
            std::mem::take(&mut s.waiting)
        };
        self.answer(waiting.into(), &Err(StorageError::ReadOnly(why.clone())));
    }

    /// Takes jobs again.
    pub(super) fn resume(&self) {
        self.state.lock().refuses = None;
    }

    fn submit(&self, w: Waiting, jobs_max: usize) -> Result<()> {
        let mut s = self.state.lock();
        if s.closing {
            return Err(StorageError::Failed("the store is closed".into()));
        }
        if let Some(why) = &s.refuses {
            return Err(StorageError::ReadOnly(why.clone()));
        }
        if s.jobs >= jobs_max {
            return Err(StorageError::Busy("too many writes wait for the device"));
        }
        if s.bytes > 0 && s.bytes + w.bytes > WAITING_BYTES_MAX {
            return Err(StorageError::Busy("too many bytes wait for the device"));
        }
        (s.jobs, s.bytes) = (s.jobs + 1, s.bytes + w.bytes);
        s.waiting.push_back(w);
        drop(s);
        self.changed.notify_one();
        Ok(())
    }

    fn next(&self, wait: Duration) -> Next {
        let mut s = self.state.lock();
        if s.waiting.is_empty() && !s.closing {
            self.changed.wait_while_for(&mut s, |s| s.waiting.is_empty() && !s.closing, wait);
        }
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < GROUP_JOBS_MAX && s.waiting.front().is_some_and(|w| bytes == 0 || bytes + w.bytes <= GROUP_BYTES_MAX) {
            let w = s.waiting.pop_front().expect("front was there");
            bytes += w.bytes;
            group.push(w);
        }
        match (group.is_empty(), s.closing) {
            (false, _) => Next::Group(group),
            (true, true) => Next::Closing,
            (true, false) => Next::Idle,
        }
    }

    fn answer(&self, group: Vec<Waiting>, batch: &std::result::Result<(), StorageError>) {
        {
            let mut s = self.state.lock();
            s.jobs -= group.len();
            s.bytes -= group.iter().map(|w| w.bytes).sum::<usize>();
        }
        for w in group {
            w.job.finish(batch.clone());
        }
    }
}

impl Shared {
    /// Hands `work` to the writer and waits for its answer. `bytes`: about what it will write. `durable`: answer only after a flush.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        durable: bool,
        bytes: usize,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(JobOf { work: Some(work), value: None, reply });
        self.queue.submit(Waiting { job, bytes: bytes + 64, durable }, self.options.appends_waiting_max.max(1))?;
        answer.await.unwrap_or_else(|_| Err(StorageError::InDoubt("the writer failed".into())))
    }
}

/// The writer's own state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Number of the last batch written.
    number: u64,
    /// When the oldest write was made that is not flushed yet.
    unsynced: Option<Instant>,
    /// The file that tells the next start what was flushed.
    synced: Option<File>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, number: u64) -> Writer {
        let path = shared.dir.join(super::SYNCED);
        let synced = File::options().create(true).truncate(false).write(true).open(path).ok();
        Writer { shared, number, unsynced: None, synced }
    }

    /// Until the store is closed.
    pub(super) fn run(mut self) {
        loop {
            let wait = self.unsynced.map_or(Duration::from_secs(3600), |since| UNSYNCED_MAX.saturating_sub(since.elapsed()));
            let done = match self.shared.queue.next(wait) {
                Next::Group(group) => self.group(group),
                Next::Idle => Ok(()),
                Next::Closing => break,
            };
            let done = done.and_then(|()| self.sync_if_due());
            if let Err(why) = done {
                let why: Arc<str> = why.into();
                tracing::error!(reason = %why, "the store refuses writes until it could be opened again");
                self.shared.queue.refuse(&why);
                self.unsynced = None;
                match reopen::until_open(&self.shared) {
                    Some(number) => self.number = number,
                    None => break,
                }
                tracing::info!("the store takes writes again");
                self.shared.queue.resume();
            }
        }
        self.end();
    }

    fn end(&mut self) {
        self.shared.queue.refuse(&"the store is closed".into());
        let engine = self.shared.engine.write().take();
        if let Some(engine) = &engine
            && engine.sync().is_ok()
        {
            self.note_synced();
            if let Some(file) = &self.synced
                && let Err(e) = file.sync_all()
            {
                tracing::warn!(error = %e, "what was flushed could not be noted");
            }
        }
    }

    fn group(&mut self, mut group: Vec<Waiting>) -> std::result::Result<(), String> {
        let shared = self.shared.clone();
        let engine = shared.engine.read();
        // A job that panics must not end the writer: its batch is given up before anything of it is written.
        let done = match engine.as_ref() {
            None => Err(CommitError::NotWritten("the store is closed".into())),
            Some(engine) => catch_unwind(AssertUnwindSafe(|| self.commit(engine, &mut group)))
                .unwrap_or_else(|_| Err(CommitError::InDoubt("the writer panicked".into()))),
        };
        drop(engine);
        let (answer, fault) = match done {
            Ok(()) => (Ok(()), Ok(())),
            Err(CommitError::NotWritten(why)) => (Err(StorageError::ReadOnly(why.as_str().into())), Err(why)),
            Err(CommitError::InDoubt(why)) => (Err(StorageError::InDoubt(why.as_str().into())), Err(why)),
        };
        if let Err(why) = &fault {
            // First refuse, then answer: who hears of the fault and tries again finds the store as it is.
            self.shared.queue.refuse(&why.as_str().into());
        }
        self.shared.queue.answer(group, &answer);
        fault
    }

    fn commit(&mut self, engine: &Engine, group: &mut [Waiting]) -> std::result::Result<(), CommitError> {
        while engine.congested() {
            engine.alive().map_err(CommitError::NotWritten)?;
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut tx = Tx { view: engine.view(), writes: Vec::with_capacity(group.len() + 1), put: HashMap::new(), after: Vec::new() };
        let mut sync = false;
        for w in group {
            w.job.run(&mut tx);
            sync |= w.durable;
        }
        let Tx { writes, after, view, .. } = tx;
        drop(view);
        if !writes.is_empty() {
            self.write(engine, writes, sync)?;
        }
        after.into_iter().for_each(|f| f());
        Ok(())
    }

    fn write(&mut self, engine: &Engine, writes: Vec<Write>, sync: bool) -> std::result::Result<(), CommitError> {
        let really = sync && !crate::sabotage::is("skip_fsync");
        let rows = writes.iter().filter(|w| w.space == Space::Log && w.value.is_some()).count() as u64;
        let stamp = scan::stamp(self.shared.identity.nonce, self.number + 1);
        if let Some(faults) = &self.shared.options.faults {
            if faults.take(&faults.lost_syncs) {
                return Err(CommitError::InDoubt("injected: the flush failed, the batch is gone".into()));
            }
            if faults.take(&faults.landed_syncs) {
                engine.commit(stamp, writes, false)?;
                return Err(CommitError::InDoubt("injected: the flush failed, the batch is there".into()));
            }
        }
        engine.commit(stamp, writes, really)?;
        self.number += 1;
        self.shared.rows.fetch_add(rows, Relaxed);
        if sync {
            self.flushed();
        } else {
            self.unsynced.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn flushed(&mut self) {
        self.unsynced = None;
        self.shared.syncs.fetch_add(1, Relaxed);
        if !crate::sabotage::is("skip_fsync") {
            self.note_synced();
        }
    }

    fn sync_if_due(&mut self) -> std::result::Result<(), String> {
        if self.unsynced.is_none_or(|since| since.elapsed() < UNSYNCED_MAX) {
            return Ok(());
        }
        if !crate::sabotage::is("skip_fsync") {
            let engine = self.shared.engine.read();
            engine.as_ref().map_or(Ok(()), Engine::sync)?;
        }
        self.flushed();
        Ok(())
    }

    /// Notes the last batch's number, which is flushed by now, for the next start's scan. The note itself is not flushed: an
    /// older one only makes the scan less sharp, so a failure to write it is no fault.
    fn note_synced(&self) {
        if let Some(file) = &self.synced {
            _ = file.write_all_at(&super::synced_note(self.number), 0);
        }
    }
}
