//! A real HAProxy or nginx before a test's nodes, with the file of `deploy/`; only its addresses, and where it may write, are the test's own.

use super::{SOON, eventually};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
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

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    HAProxy,
    Nginx,
}

/// See the module.
pub struct Balancer {
    dir: TempDir,
    clients: SocketAddr,
    /// nginx has nothing for them.
    operators: SocketAddr,
    child: Child,
    pub kind: Kind,
}

impl Balancer {
    /// Where HAProxy's configuration is.
    pub fn file() -> PathBuf {
        deploy("haproxy.cfg")
    }

    /// Before nodes at these addresses, which need not be there yet.
    pub async fn before(kind: Kind, nodes: [SocketAddr; 3]) -> Balancer {
        match kind {
            Kind::HAProxy => Balancer::haproxy(nodes).await,
            Kind::Nginx => Balancer::nginx(nodes).await,
        }
    }

    async fn nginx(nodes: [SocketAddr; 3]) -> Balancer {
        let dir = TempDir::new().expect("a temporary directory");
        let [clients, operators] = addresses();
        let mut text = std::fs::read_to_string(deploy("nginx.conf")).expect("nginx' configuration");
        let mut put = |from: &str, to: String| {
            assert!(text.contains(from), "nginx.conf: there is no {from}");
            text = text.replace(from, &to);
        };
        for (n, node) in (1..).zip(nodes) {
            put(&format!("server node{n}:8080 "), format!("server {node} "));
        }
        put("listen 8080;", format!("listen {clients};"));
        let own = |what: &str| format!("{what}_temp_path {};", dir.path().join(what).display());
        put("access_log off;", ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(own).join("\n") + "\naccess_log off;");
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(file).arg("-p").arg(dir.path());
        command.arg("-g").arg(format!("daemon off; pid {};", dir.path().join("pid").display()));
        let balancer = Balancer::launch(Kind::Nginx, command, dir, clients, operators);
        eventually("nginx listens", SOON, || async { tokio::net::TcpStream::connect(clients).await.is_ok() }).await;
        balancer
    }

    fn launch(kind: Kind, mut command: Command, dir: TempDir, clients: SocketAddr, operators: SocketAddr) -> Balancer {
        let log = std::fs::File::create(dir.path().join("log")).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Balancer { dir, clients, operators, child: child.expect("it is there (scripts/need haproxy nginx)"), kind }
    }

    async fn haproxy(nodes: [SocketAddr; 3]) -> Balancer {
        let dir = TempDir::new().expect("a temporary directory");
        let [clients, operators] = addresses();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(Balancer::file());
        command.env("HUBBUB_LB_LISTEN", clients.to_string()).env("HUBBUB_LB_STATS", operators.to_string());
        command.env("HUBBUB_LB_SOCKET", dir.path().join("socket")).env("HUBBUB_LB_MAXCONN", "1000");
        for (n, node) in (1..).zip(nodes) {
            command.env(format!("HUBBUB_NODE{n}"), node.to_string());
        }
        let balancer = Balancer::launch(Kind::HAProxy, command, dir, clients, operators);
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
    /// Waits until a node, counted from 1, is given new clients, or none; gives how many it has then. Only HAProxy looks.
    pub async fn notices(&self, node: usize, up: bool) -> u32 {
        let state = format!("haproxy_server_status{{proxy=\"hubbub\",server=\"node{node}\",state=\"UP\"}} {}", u8::from(up));
        let count = format!("haproxy_server_current_sessions{{proxy=\"hubbub\",server=\"node{node}\"}} ");
        let what = format!("HAProxy notices that node {node} is {}", if up { "ready" } else { "not ready" });
        let sessions = AtomicU32::new(0);
        eventually(&what, SOON, || async {
            let metrics = self.metrics().await.expect("HAProxy answers its operators");
            let counted = metrics.lines().find_map(|line| line.strip_prefix(&count)?.parse().ok());
            sessions.store(counted.expect("HAProxy counts sessions"), Ordering::Relaxed);
            metrics.lines().any(|line| line == state)
        })
        .await;
        sessions.into_inner()
    }
}

fn deploy(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if self.kind == Kind::Nginx {
            // SIGKILL to the first process would leave its workers behind.
            let _ = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &self.child.id().to_string()]).status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- {:?}'s log\n{log}---", self.kind);
        }
    }
}
