//! WebSocket clients that we did not write can talk to us: what we believe of the protocol is not only our own belief.

use super::support::{TestClient, TestNode};
use hubbub::protocol::entry::Body;
use hubbub::protocol::ids::RoomId;
use hubbub::protocol::ops::Push;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Installing a package from a slow registry, once, or a whole run of a script.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/strangers")
}

pub async fn run(what: &str, mut command: Command) -> Output {
    // The scripts end by themselves within their own time; so does pip.
    let output = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(move || command.output())).await;
    let output = output.unwrap_or_else(|_| panic!("{what} did not end within {PATIENCE:?}")).expect("no panic");
    output.unwrap_or_else(|e| panic!("{what} cannot be run: {e}"))
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Lets the script send a text to one of our own clients, which must see it as it was sent.
async fn talks(what: &str, mut command: Command) {
    let node = TestNode::start().await;
    let ours = TestClient::connect(&node, &node.user("alice").await, "alice").await;
    let stranger = node.user("stranger").await;
    let text = format!("hello from {what}: ünïcödé 👍");
    let password = "correct horse battery staple";
    command.args([&node.url(), "stranger", password, &ours.user.id.to_string(), &text]);
    let output = run(what, command).await;
    assert!(output.status.success(), "{what}: {}", said(&output));
    let sent: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{what}: {e}: {}", said(&output)));
    let room: RoomId = sent["room"].as_str().and_then(|r| r.parse().ok()).expect("a room");
    let seq = sent["seq"].as_u64().expect("a seq");
    ours.reaches(room, seq).await;
    let entries = ours.take_pushes().into_iter().flat_map(|p| match p {
        Push::Entry(e) => vec![e],
        Push::Entries(page) => page.entries,
        _ => vec![],
    });
    let entry = entries.into_iter().find(|e| e.seq == seq).expect("the entry");
    assert_eq!(entry.by, stranger.id);
    assert!(matches!(&entry.body, Body::Message(m) if m.text == text), "{entry:?}");
    // What the judge would ask of a client of ours cannot be asked of a stranger; ours answers.
    assert_eq!(ours.send(room, "hello, stranger").await.seq, Some(seq + 1));
}

#[tokio::test]
async fn the_websocket_of_node_speaks_with_us() {
    let mut command = Command::new("node");
    // Node 20 has it behind this flag; from 22 on the flag changes nothing.
    command.arg("--experimental-websocket").arg(scripts().join("node.mjs"));
    talks("Node.js", command).await;
}

#[tokio::test]
async fn the_websockets_of_python_speak_with_us() {
    let python = python_with("strangers-venv", &["websockets==15.0.1", "msgpack==1.1.0"]).await;
    let mut command = Command::new(python);
    command.arg(scripts().join("python_websockets.py"));
    talks("Python websockets", command).await;
}

/// A Python with the packages, made once per target directory under the name.
pub async fn python_with(name: &str, packages: &[&str]) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (python, done) = (dir.join("bin/python"), dir.join("complete"));
    if done.exists() {
        return python;
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&dir);
    let made = run("python3 -m venv", venv).await;
    assert!(made.status.success(), "python3 cannot make a virtual environment (Debian: python3-venv): {}", said(&made));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    let installed = run("pip install", pip).await;
    let why = "cannot be installed from the package index; this test needs it once";
    assert!(installed.status.success(), "{packages:?} {why}:\n{}", said(&installed));
    std::fs::write(&done, "").expect("written");
    python
}
