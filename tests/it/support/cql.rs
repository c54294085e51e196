//! A real database for tests: the one that `HUBBUB_TEST_CQL` names, or one that is started through `scripts/cql-server` and ends with this
//! process. It is shared by a run's tests, each with a keyspace of its own; who wants to do it harm starts one apart ([`Database`]).

use super::Builder;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// A database that runs.
pub struct Database {
    /// Where its data is; none when it was given.
    dir: Option<TempDir>,
    nodes: Vec<String>,
}

/// Tables of a test's own.
#[derive(Clone)]
pub struct Keyspace {
    database: Arc<Database>,
    name: String,
}

/// A keyspace of the database that a run's tests share.
pub async fn keyspace() -> Keyspace {
    static SHARED: OnceCell<Arc<Database>> = OnceCell::const_new();
    let start = || async {
        Arc::new(match std::env::var("HUBBUB_TEST_CQL") {
            Ok(nodes) => Database { dir: None, nodes: nodes.split(',').map(str::to_owned).collect() },
            Err(_) => Database::start(1).await,
        })
    };
    Keyspace::of(SHARED.get_or_init(start).await.clone())
}

impl Keyspace {
    /// A fresh one.
    pub fn of(database: Arc<Database>) -> Keyspace {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("it_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        Keyspace { database, name }
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The database's nodes, separated by commas.
    pub fn address(&self) -> String {
        self.database.nodes.join(",")
    }
    /// One of them.
    pub fn first(&self) -> std::net::SocketAddr {
        self.database.nodes[0].parse().expect("an address")
    }
    /// A node that keeps everything here.
    pub fn under(&self, node: Builder) -> Builder {
        node.set("storage.kind", "scylla")
            .set("storage.shards", 64)
            .set("scylla.nodes", self.address())
            .set("scylla.keyspace", self.name())
            .set("scylla.replication", self.database.nodes.len())
    }
}

/// Ports that nobody listens on now.
fn free_ports() -> [u16; 2] {
    // Held together, so that they are two.
    let held = [0, 0].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    held.map(|listener| listener.local_addr().expect("it is bound").port())
}

impl Database {
    /// Starts one of so many nodes (1 or 3).
    pub async fn start(nodes: usize) -> Database {
        let mut database = Database { dir: Some(TempDir::new().expect("a temporary directory")), nodes: Vec::new() };
        let [port, inner] = free_ports();
        let (nodes, port, inner) = (nodes.to_string(), port.to_string(), inner.to_string());
        database.nodes = database.begin(&["--nodes", &nodes, "--port", &port, "--inner-port", &inner]).await;
        database
    }

    /// Starts what was killed.
    pub async fn restart(&self) {
        assert_eq!(self.begin(&[]).await, self.nodes, "where it was");
    }

    async fn begin(&self, options: &[&str]) -> Vec<String> {
        let pid = std::process::id().to_string();
        let said = self.run("start", &[options, &["--with", &pid]].concat()).await;
        let line = said.lines().find_map(|line| line.strip_prefix("ready ")).unwrap_or_else(|| panic!("the database is not ready: {said}"));
        line.split(' ').map(str::to_owned).collect()
    }

    /// SIGKILL to a node, counted from 1.
    pub async fn kill(&self, node: usize) {
        self.run("kill", &["--node", &node.to_string()]).await;
    }
    /// SIGSTOP.
    pub async fn pause(&self, node: usize) {
        self.run("pause", &["--node", &node.to_string()]).await;
    }
    /// SIGCONT.
    pub async fn resume(&self, node: usize) {
        self.run("resume", &["--node", &node.to_string()]).await;
    }

    /// A command of `scripts/cql-server`; what it printed.
    async fn run(&self, command: &str, options: &[&str]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cql-server/cql-server");
        let dir = self.dir.as_ref().expect("a database of this test's own").path();
        let mut process = Command::new(script);
        process.arg(command).arg(dir).args(options).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = tokio::task::spawn_blocking(move || process.output()).await.expect("no panic");
        let output = output.expect("python3 runs scripts/cql-server");
        assert!(output.status.success(), "cql-server {command}: {}", output.status);
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cql-server/cql-server");
            for node in 1..=self.nodes.len() {
                // Its data is of no use to anybody; what is dead already cannot be killed.
                let _ = Command::new(script)
                    .arg("kill")
                    .arg(dir.path())
                    .args(["--node", &node.to_string()])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
            }
        }
    }
}
