//! The embedded store: one directory, one process, nothing else needed.
//!
//! Layout: `LOCK` (held while open, with the holder's pid), `STORE` (format, shards, nonce; written once), `SYNCED` (number of
//! the last batch known to be flushed), `db/` (the engine's files). One thread writes (`writer`), reads run on the runtime's
//! blocking threads, a third watches the disk (`space`). `scan` looks at the journal before the engine opens it, `reopen`
//! does so at the start and after a fault.
//!
//! Guarantees: those of the traits in [`super`]; damage is reported, never dropped silently and never shown as a hole; after
//! a fault of the disk writes are refused, reads go on, and the store opens itself again. The machine's disk is the only one: a copy
//! elsewhere is made of `copying` and becomes a store again by `restoring`.

use super::copying::Copying;
use super::{Health, Result, StorageError, Store};
use crate::config;
use engine::{Engine, View};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

mod codec;
mod copying;
mod engine;
mod leaving;
mod log;
mod ownership;
mod purge;
mod records;
mod reopen;
mod restoring;
mod rooms;
mod scan;
mod space;
#[cfg(test)]
mod tests;
mod users;
mod writer;

pub use leaving::understand;
pub use restoring::Restoring;

const LOCK: &str = "LOCK";
const STORE: &str = "STORE";
const SYNCED: &str = "SYNCED";
const DB: &str = "db";
/// Version of the layout of directory and keys.
const FORMAT: u32 = 1;
/// Reads that run at once: more threads would only wait for the same disk.
const READS_MAX: usize = 16;
/// Reads that may wait for those; above it they are refused (`Busy`).
const READS_WAITING_MAX: usize = 8_192;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Shards of a new store; an existing one must have as many.
    pub shards: u32,
    /// Bytes the directory may hold until appends are refused; 0: no limit.
    pub disk_quota_bytes: u64,
    /// Bytes that must stay free on the disk; below it appends are refused.
    pub disk_free_bytes_min: u64,
    /// Writes that may wait for the device; above it they are refused.
    pub appends_waiting_max: usize,
    /// Bytes of cache for reads.
    pub cache_bytes: u64,
    /// Faults that tests cause.
    #[doc(hidden)]
    pub faults: Option<Arc<FaultPoint>>,
}

impl From<&config::Storage> for EmbeddedOptions {
    fn from(c: &config::Storage) -> Self {
        EmbeddedOptions {
            shards: c.shards,
            disk_quota_bytes: c.disk_quota_bytes,
            disk_free_bytes_min: c.disk_free_bytes_min,
            appends_waiting_max: c.appends_waiting_max,
            cache_bytes: c.cache_bytes,
            faults: None,
        }
    }
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        EmbeddedOptions::from(&config::Storage::default())
    }
}

/// Faults that a test causes: each number counts how often it is still to happen.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct FaultPoint {
    /// The flush fails and the batch is not on the disk.
    pub lost_syncs: AtomicU32,
    /// The flush fails although the batch is on the disk.
    pub landed_syncs: AtomicU32,
    /// The store cannot be opened again.
    pub failed_opens: AtomicU32,
    /// A shard's cell is not raised, as if somebody else had been faster.
    pub lost_raises: AtomicU32,
    /// It says that others may change it, as a cluster's store does: several nodes of one process are over it.
    pub shared: AtomicBool,
}

impl FaultPoint {
    fn take(&self, which: &AtomicU32) -> bool {
        which.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok()
    }
}

/// Why a store could not be opened. Nothing was changed on the disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store in {} is open in another process{}", dir.display(), pid.map_or(String::new(), |p| format!(" (pid {p})")))]
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// The process that holds it, where known.
        pid: Option<u32>,
    },
    /// The number of shards is fixed when a store is created.
    #[error("the store in {} has {stored} shards, not {asked}: set storage.shards = {stored}", dir.display())]
    Shards {
        /// The store's directory.
        dir: PathBuf,
        /// Shards it was created with.
        stored: u32,
        /// Shards asked for.
        asked: u32,
    },
    /// Written by a build with another layout.
    #[error("the store in {} has format {found}; this build reads format {FORMAT}", dir.display())]
    Format {
        /// The store's directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The log is damaged, and opening it would lose what lies behind, or was lost by the device.
    #[error(
        "{} is damaged at byte {offset}, with {behind} whole batches behind it: restore it from a copy; nothing was changed",
        file.display()
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where the last good batch ends.
        offset: u64,
        /// Whole batches that would be lost.
        behind: usize,
    },
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The engine's own files could not be opened.
    #[error("the store's engine: {0}")]
    Engine(String),
}

impl OpenError {
    fn io(path: &Path, error: std::io::Error) -> Self {
        OpenError::Io { path: path.into(), error }
    }
}

/// What is fixed when a store is created.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Identity {
    format: u32,
    shards: u32,
    /// Random; marks this store's batches in the journal. Hex in the file.
    #[serde(with = "hex_nonce")]
    nonce: u128,
}

impl Identity {
    fn fresh(shards: u32) -> Identity {
        Identity { format: FORMAT, shards: shards.max(1), nonce: rand::random() }
    }
}

mod hex_nonce {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    pub(super) fn serialize<S: Serializer>(n: &u128, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{n:032x}"))
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u128, D::Error> {
        u128::from_str_radix(&String::deserialize(d)?, 16).map_err(D::Error::custom)
    }
}

/// What the store's parts share.
struct Shared {
    dir: PathBuf,
    options: EmbeddedOptions,
    identity: Identity,
    /// `None` while it cannot be opened again, and when closed.
    engine: RwLock<Option<Engine>>,
    queue: writer::Queue,
    /// The epoch cells as they are stored: nobody else writes them, as the directory is locked.
    cells: Mutex<HashMap<u32, super::EpochCell>>,
    space: space::Space,
    reading: tokio::sync::Semaphore,
    reads_waiting: AtomicUsize,
    syncs: AtomicU64,
    rows: AtomicU64,
    /// How often the engine was opened again after a fault.
    opened: AtomicU64,
    /// Bytes of log rows that were removed since the log's tables were last written anew.
    purged: AtomicU64,
}

/// The embedded store.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<File>>,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, or makes one there. Blocks while it reads the journal.
    pub fn open(dir: &Path, options: EmbeddedOptions) -> std::result::Result<Arc<EmbeddedStore>, OpenError> {
        std::fs::create_dir_all(dir).map_err(|e| OpenError::io(dir, e))?;
        let lock = lock(dir)?;
        let identity = identity(dir, options.shards)?;
        let (engine, number) = reopen::open_engine(dir, identity.nonce, options.cache_bytes)?;
        let cells = ownership::load_cells(&engine).map_err(|e| OpenError::Engine(e.to_string()))?;
        let shared = Arc::new(Shared {
            dir: dir.into(),
            options,
            identity,
            engine: RwLock::new(Some(engine)),
            queue: writer::Queue::default(),
            cells: Mutex::new(cells),
            space: space::Space::default(),
            reading: tokio::sync::Semaphore::new(READS_MAX),
            reads_waiting: AtomicUsize::new(0),
            syncs: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            purged: AtomicU64::new(0),
        });
        shared.space.measure(dir);
        let writer = writer::Writer::new(shared.clone(), number);
        let (writers, watched) = (shared.clone(), shared.clone());
        let threads = vec![
            spawn("store-writer", move || run_writer(writer, &writers)).map_err(|e| OpenError::io(dir, e))?,
            spawn("store-space", move || watched.space.watch(&watched.dir)).map_err(|e| OpenError::io(dir, e))?,
        ];
        Ok(Arc::new(EmbeddedStore { shared, threads: Mutex::new(threads), lock: Mutex::new(Some(lock)) }))
    }

    /// Runs `f` over a consistent view, off the caller's thread.
    async fn read<T: Send + 'static>(&self, f: impl FnOnce(&View<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        let waiting = Counted::new(&self.shared.reads_waiting);
        if waiting.before >= READS_WAITING_MAX {
            return Err(StorageError::Busy("too many reads wait"));
        }
        let permit = self.shared.reading.acquire().await.map_err(|_| StorageError::Failed("the store is closed".into()))?;
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || {
            let engine = shared.engine.read();
            let engine = engine.as_ref().ok_or_else(|| StorageError::Failed("the store is not open".into()))?;
            f(&engine.view())
        });
        let done = done.await.unwrap_or_else(|e| Err(StorageError::Failed(format!("a read did not end: {e}").into())));
        drop(permit);
        done
    }
}

/// Counts one up while it lives.
struct Counted<'a> {
    count: &'a AtomicUsize,
    before: usize,
}
impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        Counted { before: count.fetch_add(1, Relaxed), count }
    }
}
impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}

#[async_trait::async_trait]
impl Store for EmbeddedStore {
    fn health(&self) -> Health {
        let shared = &self.shared;
        let (waiting, refuses) = shared.queue.status();
        let full = || shared.space.check(&shared.options).err().map(|e| e.to_string());
        Health {
            refuses_writes: refuses.map(|why| why.to_string()).or_else(full),
            disk_bytes: shared.space.used(),
            appends_waiting: waiting as u64,
            syncs: shared.syncs.load(Relaxed),
            rows: shared.rows.load(Relaxed),
        }
    }

    fn copy(&self) -> Result<Box<dyn Copying>> {
        Ok(Box::new(copying::Copy::begin(&self.shared)?))
    }

    async fn reclaim(&self) -> Result<bool> {
        self.give_space_back().await
    }

    fn close(&self) {
        self.shared.queue.close();
        self.shared.space.stop();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store ended in a panic");
            }
        }
        drop(self.lock.lock().take());
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(f)
}

/// Nobody may wait for a writer that is gone.
fn run_writer(writer: writer::Writer, shared: &Shared) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.run())).is_err() {
        tracing::error!("the store's writer ended in a panic");
        shared.queue.refuse(&"the store's writer has ended: restart the server".into());
    }
}

/// Takes the directory for this process.
fn lock(dir: &Path) -> std::result::Result<File, OpenError> {
    let path = dir.join(LOCK);
    let io = |e| OpenError::io(&path, e);
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::Error(e)) => return Err(io(e)),
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The pid is for people; without it the message only says less.
            _ = file.read_to_string(&mut pid);
            return Err(OpenError::Locked { dir: dir.into(), pid: pid.trim().parse().ok() });
        }
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io)?;
    Ok(file)
}

/// What the store in `dir` is, after making it if there is none.
fn identity(dir: &Path, shards: u32) -> std::result::Result<Identity, OpenError> {
    let path = dir.join(STORE);
    let io = |e| OpenError::io(&path, e);
    if !path.try_exists().map_err(io)? {
        if dir.join(DB).join("version").exists() {
            return Err(io(std::io::Error::other("missing, but the store's other files are there")));
        }
        let fresh = Identity::fresh(shards);
        identity_file(dir, &fresh)?;
        return Ok(fresh);
    }
    let stored: Identity = serde_json::from_slice(&std::fs::read(&path).map_err(io)?).map_err(|e| io(e.into()))?;
    if stored.format != FORMAT {
        return Err(OpenError::Format { dir: dir.into(), found: stored.format });
    }
    if stored.shards != shards {
        return Err(OpenError::Shards { dir: dir.into(), stored: stored.shards, asked: shards });
    }
    Ok(stored)
}

/// Writes what a store is: from then on it is one.
fn identity_file(dir: &Path, identity: &Identity) -> std::result::Result<(), OpenError> {
    let path = dir.join(STORE);
    let io = |e| OpenError::io(&path, e);
    let text = serde_json::to_string_pretty(identity).map_err(|e| io(e.into()))? + "\n";
    let draft = dir.join("STORE.new");
    let mut file = File::create(&draft).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    std::fs::rename(&draft, &path).and_then(|()| File::open(dir)?.sync_all()).map_err(io)
}

/// The note of a flushed batch: its number and a checksum.
fn synced_note(number: u64) -> [u8; 16] {
    let mut note = [0; 16];
    note[..8].copy_from_slice(&number.to_be_bytes());
    note[8..].copy_from_slice(&xxhash_rust::xxh3::xxh3_64(&number.to_be_bytes()).to_be_bytes());
    note
}

/// The number in the note; 0 when there is none or it is half written, which only makes the scan less sharp.
fn read_synced(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap_or_default();
    let number = bytes.first_chunk().map_or(0, |n| u64::from_be_bytes(*n));
    if bytes == synced_note(number) { number } else { 0 }
}
