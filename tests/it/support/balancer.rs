//! A real HAProxy before a test's nodes, with the file of `deploy/`; only its addresses are the test's own.

use super::{SOON, eventually};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use tempfile::TempDir;

/// Ports that the system gives to nobody by itself, so that a node that was dead for a while finds its own free when it comes back.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Addresses on which nobody listens, each given out once.
pub fn addresses<const N: usize>() -> [SocketAddr; N] {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(rand::random_range(0..PORTS.end - PORTS.start)));
    std::array::from_fn(|_| {
        loop {
            let port = PORTS.start + next.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if TcpListener::bind(address).is_ok() {
                return address;
            }
        }
    })
}

/// See the module.
pub struct Balancer {
    dir: TempDir,
    clients: SocketAddr,
    operators: SocketAddr,
    child: Child,
}

impl Balancer {
    /// Where its configuration is.
    pub fn file() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/haproxy.cfg")
    }

    /// Before nodes at these addresses, which need not be there yet.
    pub async fn before(nodes: [SocketAddr; 3]) -> Balancer {
        let dir = TempDir::new().expect("a temporary directory");
        let [clients, operators] = addresses();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(Balancer::file());
        command.env("HUBBUB_LB_LISTEN", clients.to_string()).env("HUBBUB_LB_STATS", operators.to_string());
        command.env("HUBBUB_LB_SOCKET", dir.path().join("socket")).env("HUBBUB_LB_MAXCONN", "1000");
        for (n, node) in (1..).zip(nodes) {
            command.env(format!("HUBBUB_NODE{n}"), node.to_string());
        }
        let log = std::fs::File::create(dir.path().join("log")).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let balancer = Balancer { dir, clients, operators, child: child.expect("haproxy is there (scripts/need haproxy)") };
        eventually("HAProxy answers its operators", SOON, || async { balancer.metrics().await.is_some() }).await;
        balancer
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://{}", self.clients)
    }
    /// The same as an address.
    pub fn address(&self) -> SocketAddr {
        self.clients
    }

    async fn metrics(&self) -> Option<String> {
        let url = format!("http://{}/metrics", self.operators);
        let read = move || ureq::get(&url).call().and_then(|mut r| r.body_mut().read_to_string()).ok();
        tokio::task::spawn_blocking(read).await.expect("no panic")
    }
    /// Whether this node, counted from 1, is given new clients.
    pub async fn takes(&self, node: usize) -> bool {
        let wanted = format!("haproxy_server_status{{proxy=\"hubbub\",server=\"node{node}\",state=\"UP\"}} 1");
        self.metrics().await.expect("HAProxy answers its operators").lines().any(|line| line == wanted)
    }
    /// Waits until a node is given new clients, or none.
    pub async fn notices(&self, node: usize, up: bool) {
        let what = format!("HAProxy notices that node {node} is {}", if up { "ready" } else { "not ready" });
        eventually(&what, SOON, || async { self.takes(node).await == up }).await;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- HAProxy's log\n{log}---");
        }
    }
}
