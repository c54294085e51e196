//! The cluster's store: tables of ScyllaDB, or of another database that speaks CQL. docs/STORAGE.md has them, and what survives what.
//!
//! Any number of processes use it at once. What one writer orders is written with time stamps that come from the data (a seq, a version,
//! the value itself), so that late and repeated writes are harmless; everything that several may want is decided by compare-and-set. No
//! clock has a part in either. All requests go through `calls`: bounded in number and time, refused at once while the database is down.
//!
//! The driver lives on a thread of its own, so that no actor's thread reads its sockets. A call that its caller has given up goes on there
//! until its time is over: a write of several steps is not left half done by an impatient caller.

use super::copying::Copying;
use super::{Health, Result, StorageError, Store};
use crate::config;
use breaker::Breaker;
use calls::Gate;
use parking_lot::Mutex;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use statements::Statements;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

mod breaker;
mod calls;
mod cells;
mod connect;
mod cursors;
mod log;
mod names;
mod ownership;
mod packing;
mod purge;
mod receiving;
mod records;
mod rooms;
mod rows;
mod schema;
mod statements;
#[cfg(test)]
mod tests;
mod together;
mod users;

/// The port of a contact point that names none.
pub const PORT: u16 = 9042;

/// How to reach a store, and how much to ask of it.
#[derive(Clone, Debug)]
pub struct ScyllaOptions {
    /// `host` or `host:port` of some database nodes; the driver finds the others by itself.
    pub nodes: Vec<String>,
    /// Keyspace of the tables; what is decided by compare-and-set lies in one beside it, with `_cas` at its end.
    pub keyspace: String,
    /// The data centre that holds everything; empty: that of the node first reached.
    pub datacenter: String,
    /// Copies of every row, when the keyspaces are made.
    pub replication: u32,
    /// User name and password, if they are asked for.
    pub credentials: Option<(String, String)>,
    /// PEM file of the authorities that the database's certificates are from; empty: no TLS.
    pub ca_file: PathBuf,
    /// Shards of a new store; an existing one must have as many.
    pub shards: u32,
    /// Until when a connection must be there.
    pub connect_timeout: Duration,
    /// How long a request may take, repetitions included.
    pub request_timeout: Duration,
    /// Repetitions of a write.
    pub retries_max: u32,
    /// Reads, and writes, under way at once.
    pub in_flight_max: usize,
    /// Reads, and writes, that may wait beside them; above it they are refused (`Busy`).
    pub waiting_max: usize,
    /// Failures in a row after which requests are refused at once (`Down`).
    pub down_after: u32,
    /// For how long, until one is let through to see.
    pub down_for: Duration,
    /// It is opened to move another store into it.
    pub receiving: bool,
}

impl ScyllaOptions {
    /// As configured.
    pub fn of(storage: &config::Storage, c: &config::Scylla) -> Self {
        ScyllaOptions {
            nodes: c.nodes.clone(),
            keyspace: c.keyspace.clone(),
            datacenter: c.datacenter.clone(),
            replication: c.replication,
            credentials: (!c.user.is_empty()).then(|| (c.user.clone(), c.password.clone())),
            ca_file: c.ca_file.clone(),
            shards: storage.shards,
            connect_timeout: Duration::from_millis(c.connect_timeout_ms),
            request_timeout: Duration::from_millis(c.request_timeout_ms),
            retries_max: c.retries_max,
            in_flight_max: c.in_flight_max,
            waiting_max: c.waiting_max,
            down_after: c.down_after,
            down_for: Duration::from_millis(c.down_for_ms),
            receiving: false,
        }
    }

    fn cas_keyspace(&self) -> String {
        format!("{}_cas", self.keyspace)
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No database node could be reached, or none let this node in.
    #[error("the database ({}): {why}", nodes.join(", "))]
    Unreachable {
        /// The contact points.
        nodes: Vec<String>,
        /// What went wrong.
        why: String,
    },
    /// The tables could not be made, or are not those of this build.
    #[error("the database's {0}")]
    Schema(String),
    /// The number of shards is fixed when a store is created.
    #[error("the store in keyspace {keyspace} has {stored} shards, not {asked}: set storage.shards = {stored}")]
    Shards {
        /// The keyspace.
        keyspace: String,
        /// Shards it was created with.
        stored: u32,
        /// Shards asked for.
        asked: u32,
    },
    /// Another store is being moved into it, and not all of that is there.
    #[error("the store in keyspace {0} is being filled by `hubbub migrate`; run that to its end first")]
    Receiving(String),
    /// A certificate of the configuration cannot be used.
    #[error("scylla.ca_file: {0}")]
    Tls(String),
    /// A read or write failed.
    #[error("{0}")]
    Storage(#[from] StorageError),
}

/// What calls share, on the driver's thread.
struct Core {
    session: Session,
    statements: Statements,
    options: ScyllaOptions,
    shards: u32,
    reads: Gate,
    writes: Gate,
    breaker: Mutex<Breaker>,
    /// Compare-and-sets of this process about one partition go one after the other: side by side they would only cost each other rounds.
    turns: Vec<tokio::sync::Mutex<()>>,
    epochs: together::Together<crate::storage::EpochCell>,
    batches: AtomicU64,
    rows: AtomicU64,
}

/// The cluster's store.
pub struct ScyllaStore {
    core: Arc<Core>,
    runtime: Handle,
    closed: AtomicBool,
    /// Ends the driver's thread when dropped.
    _alive: oneshot::Sender<()>,
}

impl ScyllaStore {
    /// Connects, brings the schema up to date, and prepares the statements.
    pub async fn open(options: ScyllaOptions) -> std::result::Result<Arc<ScyllaStore>, OpenError> {
        let (alive, ended) = oneshot::channel::<()>();
        let (tx, rx) = oneshot::channel();
        let work = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return tracing::error!(%error, "the driver's runtime"),
            };
            // Who opens waits for this; then the runtime carries the calls until the store is dropped.
            _ = tx.send(runtime.handle().clone());
            _ = runtime.block_on(ended);
            runtime.shutdown_background();
        };
        let unreachable = |why: String| OpenError::Unreachable { nodes: options.nodes.clone(), why };
        std::thread::Builder::new().name("store-driver".into()).spawn(work).map_err(|e| unreachable(e.to_string()))?;
        let runtime = rx.await.map_err(|_| unreachable("the driver's thread did not start".into()))?;
        let nodes = options.nodes.clone();
        let core = runtime.spawn(Core::connect(options)).await;
        let core = Arc::new(core.unwrap_or_else(|e| Err(OpenError::Unreachable { nodes, why: e.to_string() }))?);
        runtime.spawn(look_again(Arc::downgrade(&core)));
        Ok(Arc::new(ScyllaStore { core, runtime, closed: AtomicBool::new(false), _alive: alive }))
    }

    /// [`ScyllaStore::open`] for a thread that may block and has no runtime.
    pub fn open_blocking(options: ScyllaOptions) -> std::result::Result<Arc<ScyllaStore>, OpenError> {
        let unreachable = |why: String| OpenError::Unreachable { nodes: options.nodes.clone(), why };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| unreachable(e.to_string()))?;
        runtime.block_on(ScyllaStore::open(options))
    }

    /// Carries a call out on the driver's thread.
    async fn run<T: Send + 'static, F>(&self, call: impl FnOnce(Arc<Core>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if self.closed.load(Relaxed) {
            return Err(StorageError::Failed("the store is closed".into()));
        }
        let done = self.runtime.spawn(call(self.core.clone())).await;
        done.unwrap_or_else(|e| Err(StorageError::InDoubt(format!("a call did not end: {e}").into())))
    }
}

/// While the database is down it is asked now and then whether it is back: a node that is not ready gets no requests that would find out.
async fn look_again(core: Weak<Core>) {
    while let Some(core) = core.upgrade() {
        if core.is_down() {
            // What came of it, the breaker has seen.
            _ = core.ask_whether_it_is_there().await;
        }
        let pause = core.options.down_for;
        drop(core);
        tokio::time::sleep(pause).await;
    }
}

#[async_trait::async_trait]
impl Store for ScyllaStore {
    fn health(&self) -> Health {
        Health {
            refuses_writes: self.core.is_down().then(|| "the database does not answer".into()),
            disk_bytes: 0,
            appends_waiting: self.core.writes.waiting() as u64,
            syncs: self.core.batches.load(Relaxed),
            rows: self.core.rows.load(Relaxed),
        }
    }

    fn copy(&self) -> Result<Box<dyn Copying>> {
        Err(StorageError::Failed("a cluster's store is backed up by the database's own tools (docs/STORAGE.md)".into()))
    }

    async fn reclaim(&self) -> Result<bool> {
        // Compaction is the database's business.
        Ok(false)
    }

    fn close(&self) {
        self.closed.store(true, Relaxed);
    }
}
