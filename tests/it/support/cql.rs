//! A real database for tests: the one that `HUBBUB_TEST_CQL` names, or one that is started through `scripts/cql-server` and ends with this
//! process. It is shared by a run's tests, each with a keyspace of its own. Who wants to do it harm takes the one for that ([`harmed`]), which
//! only one test has at a time, or starts its own ([`Database`]).

use super::Builder;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// A database that runs.
pub struct Database {
    /// Where its data is; none when it was given.
    dir: Option<TempDir>,
    nodes: Vec<String>,
    /// It speaks only TLS, and asks for a password.
    secured: bool,
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
            Ok(nodes) => Database { dir: None, nodes: nodes.split(',').map(str::to_owned).collect(), secured: false },
            // Nobody restarts it.
            Err(_) => Database::start_as(1, &["--quick", "--fleeting", "--temporary"]).await,
        })
    };
    Keyspace::of(SHARED.get_or_init(start).await.clone())
}

/// The database that tests may kill and pause, one test at a time. Each leaves it well behind. It speaks TLS and asks for a password.
pub async fn harmed() -> MutexGuard<'static, Arc<Database>> {
    static HARMED: OnceCell<Mutex<Arc<Database>>> = OnceCell::const_new();
    let start = || async {
        // A single copy survives a SIGKILL only if a write is flushed before it is acknowledged.
        let how = ["--quick", "--temporary", "--password", "--tls", "--sync", "batch"];
        let mut database = Database::start_as(1, &how).await;
        database.secured = true;
        Mutex::new(Arc::new(database))
    };
    let database = HARMED.get_or_init(start).await.lock().await;
    // A test that failed may have left it asleep or dead.
    database.tell("resume", &["--node", "1"]).await;
    database.restart().await;
    database
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
    /// How many there are.
    pub fn nodes(&self) -> usize {
        self.database.nodes.len()
    }
    /// What a node's configuration says to keep everything here, as keys and values.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("storage.kind", "scylla".into()),
            ("storage.shards", "64".into()),
            ("scylla.nodes", self.address()),
            ("scylla.keyspace", self.name.clone()),
            ("scylla.replication", self.nodes().to_string()),
        ];
        if self.database.secured {
            let ca = self.database.authority().display().to_string();
            settings.extend([("scylla.ca_file", ca), ("scylla.user", "cassandra".into()), ("scylla.password", "cassandra".into())]);
        }
        settings
    }
    /// A node that keeps everything here.
    pub fn under(&self, node: Builder) -> Builder {
        self.settings().into_iter().fold(node, |node, (key, value)| node.set(key, value))
    }
}

/// Ports that nobody listens on now.
fn free_ports() -> [u16; 2] {
    // Held together, so that they are two.
    let held = [0, 0].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    held.map(|listener| listener.local_addr().expect("it is bound").port())
}

impl Database {
    /// Starts one of three nodes, which may be killed and started again. What one misses meanwhile only the others have: what is promised must
    /// not rest on hints, which are lost in a longer absence.
    pub async fn of_three() -> Database {
        Database::start_as(3, &["--quick", "--unhinted"]).await
    }

    async fn start_as(nodes: usize, how: &[&str]) -> Database {
        let dir = TempDir::with_prefix("hubbub-cql-").expect("a temporary directory");
        let mut database = Database { dir: Some(dir), nodes: Vec::new(), secured: false };
        let [port, inner] = free_ports().map(|port| port.to_string());
        let nodes = nodes.to_string();
        database.nodes = database.begin(&[how, &["--nodes", &nodes, "--port", &port, "--inner-port", &inner]].concat()).await;
        database
    }

    /// The certificate of the authority that its own is from.
    pub fn authority(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    fn dir(&self) -> &Path {
        self.dir.as_ref().expect("a database that this process started").path()
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
        let (succeeded, said) = self.tell(command, options).await;
        assert!(succeeded, "cql-server {command}: {said}");
        said
    }

    async fn tell(&self, command: &str, options: &[&str]) -> (bool, String) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cql-server/cql-server");
        let mut process = Command::new(script);
        process.arg(command).arg(self.dir()).args(options).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = tokio::task::spawn_blocking(move || process.output()).await.expect("no panic");
        let output = output.expect("python3 runs scripts/cql-server");
        (output.status.success(), String::from_utf8(output.stdout).expect("text"))
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
