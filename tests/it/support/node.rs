//! A node of its own for a test: a real process, a directory of its own, ports that the system picks.
//!
//! The node is ready when its `node.json` names this very process; its log goes to a file that is printed when the test
//! fails. Whatever happens, the process does not outlive the test.

use super::{SOON, eventually};
use hubbub::client::{ClientError, Rest};
use hubbub::error::Code;
use hubbub::protocol::ids::{DeviceId, UserId};
use serde::Deserialize;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The password of every test user.
const PASSWORD: &str = "correct horse battery staple";
/// Lines of the log that a failing test prints.
const LOG_LINES: usize = 80;

/// An account and its newest access token.
#[derive(Clone, Debug)]
pub struct TestUser {
    pub id: UserId,
    pub name: String,
    pub device: DeviceId,
    pub token: String,
    pub refresh: String,
}

#[derive(Clone, Debug, Deserialize)]
struct NodeFile {
    pid: u32,
    http: SocketAddr,
    admin: SocketAddr,
}

/// What may be chosen about a node.
pub struct Builder {
    dir: Option<PathBuf>,
    env: Vec<(String, String)>,
    front: Option<String>,
}

impl Builder {
    /// Sets one key, as `("limits.requests_per_second", "5")`.
    pub fn set(mut self, key: &str, value: impl ToString) -> Builder {
        self.env.push((format!("HUBBUB_{}", key.replace('.', "__").to_uppercase()), value.to_string()));
        self
    }
    /// Sets an environment variable as it is.
    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.env.push((name.into(), value.into()));
        self
    }
    /// Keeps its data in a directory of the test's choice, which is not removed.
    pub fn data_dir(mut self, dir: &Path) -> Builder {
        self.dir = Some(dir.into());
        self
    }
    /// Clients go to this address instead of the node's own, as to that of a balancer.
    pub fn behind(mut self, url: String) -> Builder {
        self.front = Some(url);
        self
    }
    /// Starts it and waits until it is ready.
    pub async fn start(self) -> TestNode {
        let mut node = self.prepare();
        node.spawn().await;
        node
    }
    /// Starts it and waits until it listens, ready or not.
    pub async fn start_unready(self) -> TestNode {
        let mut node = self.prepare();
        node.spawn_listening().await;
        node
    }
    /// Starts it and waits until it has ended: for starts that must fail. Gives its exit status and its log.
    pub async fn start_failing(self) -> (ExitStatus, String) {
        let mut node = self.prepare();
        node.launch();
        let status = node.wait().await;
        (status, node.log())
    }
    fn prepare(self) -> TestNode {
        let temp = TempDir::new().expect("a temporary directory");
        let dir = self.dir.unwrap_or_else(|| temp.path().join("data"));
        TestNode { log: temp.path().join("node.log"), temp, dir, env: self.env, front: self.front, child: None, file: None }
    }
}

/// A running node (or a stopped one that can be started again).
pub struct TestNode {
    temp: TempDir,
    dir: PathBuf,
    log: PathBuf,
    env: Vec<(String, String)>,
    front: Option<String>,
    child: Option<Child>,
    file: Option<NodeFile>,
}

impl TestNode {
    /// One that is set up for tests: cheap password hashing, no rate limits.
    pub fn builder() -> Builder {
        let builder = Builder { dir: None, env: Vec::new(), front: None };
        builder
            .set("http.listen", "127.0.0.1:0")
            .set("admin.listen", "127.0.0.1:0")
            .set("auth.argon2_memory_kib", 64)
            .set("auth.argon2_passes", 1)
            .set("auth.attempts_per_minute", 1_000_000)
            .set("limits.requests_per_second", 0)
            .set("limits.http_per_second", 0)
            .set("limits.connects_per_second", 0)
            .set("storage.disk_free_bytes_min", 0)
    }
    /// Starts the usual one.
    pub async fn start() -> TestNode {
        TestNode::builder().start().await
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        self.front.clone().unwrap_or_else(|| format!("http://{}", self.running().http))
    }
    /// Where it listens itself.
    pub fn address(&self) -> SocketAddr {
        self.running().http
    }
    /// Where operators connect.
    pub fn admin(&self) -> String {
        format!("http://{}", self.running().admin)
    }
    /// The operators' token.
    pub fn admin_token(&self) -> String {
        std::fs::read_to_string(self.dir.join("secrets/admin.token")).expect("a started node has an admin token").trim().to_owned()
    }
    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.dir
    }
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running().pid
    }
    fn running(&self) -> &NodeFile {
        self.file.as_ref().expect("the node was started")
    }
    /// Whether it was started and not killed or stopped since.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }
    /// Its HTTP API.
    pub fn rest(&self) -> Rest {
        Rest::new(&self.url())
    }
    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
    /// Its resident memory.
    pub fn rss_kib(&self) -> u64 {
        hubbub::bench::record::rss_kib(self.pid()).expect("a running process")
    }

    /// Registers a user, or signs in one that this directory knows already.
    pub async fn user(&self, name: &str) -> TestUser {
        let rest = self.rest();
        let signed = match rest.register(name, PASSWORD).await {
            Err(ClientError::Api(e)) if e.code == Code::Conflict => rest.login(name, PASSWORD).await,
            other => other,
        };
        let signed = signed.unwrap_or_else(|e| panic!("user {name}: {e}"));
        TestUser { id: signed.user, name: signed.name, device: signed.device, token: signed.access_token, refresh: signed.refresh_token }
    }

    /// The metrics as text.
    pub async fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.admin());
        let read = move || ureq::get(&url).call().and_then(|mut r| r.body_mut().read_to_string());
        tokio::task::spawn_blocking(read).await.expect("no panic").expect("metrics")
    }
    /// The sum of a metric over all its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let of = |line: &str| {
            line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' '])).map(|r| r.rsplit(' ').next().map(str::parse::<f64>))
        };
        text.lines().filter_map(of).flatten().map(|value| value.expect("a number")).sum::<f64>()
    }
    /// A call of the operators' interface.
    pub async fn operate(&self, method: &'static str, path: &str, body: Option<Value>) -> Result<Value, ClientError> {
        Rest::new(&self.admin()).call(method, path, Some(&self.admin_token()), body).await
    }

    /// SIGKILL: nothing of the process runs any more when this returns.
    pub async fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a process of ours");
            child.wait().expect("a process of ours");
        }
    }
    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait().await
    }
    /// Waits for the end.
    pub async fn wait(&mut self) -> ExitStatus {
        let end = tokio::time::Instant::now() + SOON;
        loop {
            // It stays ours until it has ended, so that dropping this node kills one that does not.
            let child = self.child.as_mut().expect("the node was started");
            if let Some(status) = child.try_wait().expect("a process of ours") {
                self.child = None;
                return status;
            }
            assert!(tokio::time::Instant::now() < end, "the node did not end within {SOON:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    /// SIGSTOP: the process stands still and keeps its sockets.
    pub fn pause(&self) {
        self.signal("STOP");
    }
    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }
    /// Any signal, by its name. A shell's `kill` is everywhere, and no unsafe code is needed for it.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("the node was started").id();
        let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()]).status();
        assert!(status.expect("a shell").success(), "SIG{name} to {pid}");
    }
    /// Starts it again on the same directory (after [`TestNode::kill9`] or [`TestNode::stop`]); its ports are new ones.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        self.spawn().await;
    }

    /// The same, on a port of the test's choice.
    pub async fn restart_at(&mut self, port: u16) {
        self.env.push(("HUBBUB_HTTP__LISTEN".into(), format!("127.0.0.1:{port}")));
        self.restart().await;
    }

    async fn spawn(&mut self) {
        self.spawn_listening().await;
        let admin = self.admin();
        eventually("the node says that it is ready", SOON, || {
            let url = format!("{admin}/readyz");
            async move { tokio::task::spawn_blocking(move || ureq::get(&url).call().is_ok()).await.unwrap_or(false) }
        })
        .await;
    }

    async fn spawn_listening(&mut self) {
        self.launch();
        let pid = self.child.as_ref().map(Child::id);
        let path = self.dir.join("node.json");
        let end = tokio::time::Instant::now() + SOON;
        loop {
            let read = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<NodeFile>(&text).ok());
            // A file of an earlier process names another pid.
            if let Some(file) = read.filter(|f| Some(f.pid) == pid) {
                self.file = Some(file);
                break;
            }
            let ended = self.child.as_mut().and_then(|c| c.try_wait().expect("a process of ours"));
            assert!(ended.is_none(), "the node ended at once: {ended:?}\n{}", self.log_tail());
            assert!(tokio::time::Instant::now() < end, "the node was not ready within {SOON:?}\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn launch(&mut self) {
        let log = || -> File { OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file") };
        let mut command = Command::new(env!("CARGO_BIN_EXE_hubbub"));
        // Neither the developer's settings nor a configuration file in the working directory shall matter.
        std::env::vars().filter(|(name, _)| name.starts_with("HUBBUB_") && name != "HUBBUB_SABOTAGE").for_each(|(name, _)| {
            command.env_remove(name);
        });
        command.current_dir(self.temp.path()).arg("serve").env("HUBBUB_STORAGE__DATA_DIR", &self.dir).envs(self.env.iter().cloned());
        // Panics that tests ask for are expected; on a busy machine a backtrace of each takes longer than what is measured after it.
        command.env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stdout(log()).stderr(log());
        self.child = Some(command.spawn().expect("the binary of this build"));
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A paused process takes SIGKILL too. What fails here failed because it is gone.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the node's log ({})\n{}\n---", self.dir.display(), self.log_tail());
        }
    }
}
