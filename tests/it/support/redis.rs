//! A real Redis of the test's own: a process on a free port with a directory of its own, that keeps nothing over a restart.

use super::SOON;
use hubbub::config::Config;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A Redis that runs, or one that can be started again on its port.
pub struct RedisServer {
    dir: TempDir,
    port: u16,
    options: Vec<String>,
    password: Option<&'static str>,
    tls: bool,
    child: Option<Child>,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

impl RedisServer {
    /// The usual one.
    pub fn start() -> RedisServer {
        RedisServer::build(&[]).launched()
    }

    /// One that speaks TLS only, by a certificate of its own ([`RedisServer::ca`]), and only with whoever knows the password.
    pub fn start_closed(password: &'static str) -> RedisServer {
        let mut server = RedisServer::build(&["--requirepass", password]);
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(server.ca(), cert.pem()).expect("written");
        let key = server.dir.path().join("key.pem");
        std::fs::write(&key, signing_key.serialize_pem()).expect("written");
        let (cert, key) = (server.ca().display().to_string(), key.display().to_string());
        let port = server.port.to_string();
        let tls = ["--port", "0", "--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "no"];
        server.options.extend(tls.map(String::from));
        (server.password, server.tls) = (Some(password), true);
        server.launched()
    }

    /// Three that are a Redis Cluster.
    pub fn start_cluster() -> Vec<RedisServer> {
        let all: Vec<RedisServer> = (0..3)
            .map(|_| {
                let bus = free_port().to_string();
                RedisServer::build(&["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-config-file", "nodes.conf"]).launched()
            })
            .collect();
        let mut cli = Command::new("redis-cli");
        cli.args(["--cluster", "create"]).args(all.iter().map(|s| format!("127.0.0.1:{}", s.port))).arg("--cluster-yes");
        let made = cli.stdin(Stdio::null()).output().expect("redis-cli");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        for server in &all {
            server.wait_for("every server knows all slots", |s| s.cli(&["cluster", "info"]).contains("cluster_state:ok"));
        }
        all
    }

    fn build(options: &[&str]) -> RedisServer {
        let dir = TempDir::new().expect("a temporary directory");
        let port = free_port();
        let options = options.iter().map(|o| o.to_string()).collect();
        RedisServer { dir, port, options, password: None, tls: false, child: None }
    }

    fn launched(mut self) -> RedisServer {
        self.restart();
        self
    }

    /// Starts it (again): it is as empty as a new one.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--dir", &self.dir.path().display().to_string()]).args(&self.options);
        let log = std::fs::File::create(self.dir.path().join("redis.log")).expect("a log file");
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server is there (scripts/need redis-server)"));
        self.wait_for("Redis answers", |s| s.cli(&["ping"]).trim() == "PONG");
    }

    fn wait_for(&self, what: &str, holds: impl Fn(&RedisServer) -> bool) {
        let end = Instant::now() + SOON;
        while !holds(self) {
            let log = || std::fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default();
            assert!(Instant::now() < end, "not within {SOON:?}: {what}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What its command line client says.
    pub fn cli(&self, words: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string()]);
        if let Some(password) = self.password {
            cli.args(["--no-auth-warning", "-a", password]);
        }
        if self.tls {
            cli.args(["-h", "localhost", "--tls", "--cacert"]).arg(self.ca());
        }
        let out = cli.args(words).stdin(Stdio::null()).output().expect("redis-cli");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        (std::net::Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its address.
    pub fn url(&self) -> String {
        match self.tls {
            true => format!("rediss://localhost:{}", self.port),
            false => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// The certificate that it proves itself by.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// Makes a configuration that of a node of this Redis' cluster.
    pub fn configure(&self, config: &mut Config, node: u32) {
        config.redis.url = self.url();
        config.redis.password = self.password.unwrap_or_default().into();
        if self.tls {
            config.redis.ca_file = self.ca();
        }
        config.cluster.node = node;
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a process of ours");
        child.wait().expect("a process of ours");
    }
    /// SIGSTOP: it stands still and keeps its sockets.
    pub fn pause(&self) {
        self.signal("STOP");
    }
    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }
    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status();
        assert!(status.expect("a shell").success(), "SIG{name} to {pid}");
    }

    /// Where it keeps its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A paused process takes SIGKILL too. What fails here failed because it is gone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
