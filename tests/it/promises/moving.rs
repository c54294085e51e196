//! `hubbub migrate`: a data directory becomes a cluster's store, whatever happens on the way, and whoever was connected goes on.

use super::database::befriend;
use super::{Stage, all_is_well, connected, groups, people, pick};
use crate::support::cql::{Keyspace, keyspace};
use crate::support::{SOON, TestNode, eventually};
use futures_util::future::join_all;
use hubbub::config::{Scylla, Storage};
use hubbub::protocol::ids::RoomId;
use hubbub::protocol::ops::{MoveCursor, Request};
use hubbub::storage::MessageLog;
use hubbub::storage::scylla::{OpenError, ScyllaOptions, ScyllaStore};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

fn migrating(from: &Path, keyspace: &Keyspace) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubbub"));
    command.args(["migrate", "--from"]).arg(from).current_dir(from).stdin(Stdio::null());
    command.args(["--set", "storage.disk_free_bytes_min=0"]);
    for (key, value) in keyspace.settings() {
        command.args(["--set", &format!("{key}={value}")]);
    }
    command
}

/// `hubbub migrate`; whether it succeeded and what it printed.
async fn migrate(from: &Path, keyspace: &Keyspace) -> (bool, String) {
    let mut command = migrating(from, keyspace);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// The same, killed -9 when `when` is over, unless it was faster.
async fn broken_off(from: &Path, keyspace: &Keyspace, when: impl Future<Output = ()>) -> Option<(bool, String)> {
    let mut child = migrating(from, keyspace).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    when.await;
    if child.try_wait().unwrap().is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
        return None;
    }
    let output = child.wait_with_output().unwrap();
    Some((output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
}

fn options(keyspace: &Keyspace) -> ScyllaOptions {
    let storage = Storage { shards: 64, ..Storage::default() };
    let nodes = keyspace.address().split(',').map(str::to_owned).collect();
    ScyllaOptions::of(&storage, &Scylla { nodes, keyspace: keyspace.name().into(), replication: 1, ..Scylla::default() })
}

/// Whether a move into these tables has begun and not ended: then no node may open them.
async fn is_half_done(keyspace: &Keyspace) -> bool {
    match ScyllaStore::open(options(keyspace)).await {
        Ok(_) => false,
        Err(OpenError::Receiving(_)) => true,
        Err(e) => panic!("{e}"),
    }
}

async fn get(node: &TestNode, token: &str, path: &str) -> Value {
    node.rest().call::<Value>("GET", path, Some(token), None).await.unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// P1 to P4 over a move that is killed again and again: ids, seqs and cursors are the same, so clients resume on the cluster's store as if
/// nothing had been.
#[tokio::test]
async fn a_move_that_was_broken_off_is_begun_again_and_clients_resume_behind_it() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let node = TestNode::builder().data_dir(&data).set("storage.shards", 64).start().await;
    let users = people(&node, 5).await;
    befriend(&node, &users[0], &users[1]).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 3).await;
    let cursor = MoveCursor { room: rooms[0], read: Some(1), delivered: None };
    clients[2].request(Request::Cursor(cursor)).await.unwrap();
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    sleep(Duration::from_millis(pick(1_500, 10_000))).await;
    let keyspace = keyspace().await;
    {
        let mut node = stage.node.write().await;
        let (moved, said) = migrate(&data, &keyspace).await;
        assert!(!moved && said.contains("is open in another process"), "a server runs on it: {said}");
        // Under load when it is killed: what was not applied moves along.
        node.kill9().await;
        // First when some of it is there, then ever later.
        let began = Instant::now();
        let looking = ScyllaStore::open(ScyllaOptions { receiving: true, ..options(&keyspace) }).await.unwrap();
        let some_is_there = eventually("rows of the directory are in the store", SOON, || async {
            let of_all = join_all(rooms.iter().map(|room| looking.rows(*room, 1, 4_095))).await;
            of_all.into_iter().any(|rows| !rows.unwrap().is_empty())
        });
        assert!(broken_off(&data, &keyspace, some_is_there).await.is_none(), "it was over at once");
        assert!(is_half_done(&keyspace).await);
        let (status, log) = keyspace.under(TestNode::builder()).start_failing().await;
        assert!(!status.success() && log.contains("is being filled by `hubbub migrate`"), "{log}");
        let (mut after, mut broken) = (began.elapsed() / 2, 1);
        let (moved, said) = loop {
            match broken_off(&data, &keyspace, sleep(after)).await {
                Some(ended) => break ended,
                None => broken += u32::from(is_half_done(&keyspace).await),
            }
            after = after * 5 / 4;
        };
        println!("broken off {broken} times between its beginning and its end; then: {said}");
        assert!(moved && said.contains("read back and the same"), "{said}");
        assert!(!is_half_done(&keyspace).await);
        let (again, said) = migrate(&data, &keyspace).await;
        assert!(!again && said.contains("this store was moved here already"), "{said}");
        *node = keyspace.under(TestNode::builder().data_dir(&data)).start().await;
    }
    sleep(Duration::from_millis(700)).await;
    let clients = stage.silence(talkers).await;
    let node = stage.node.read().await;
    let verdict = all_is_well(&node, &clients, &rooms).await;
    assert!(verdict.stats.acked > 100, "too little happened: {:?}", verdict.stats);
    let friends = get(&node, &users[0].token, "/v1/contacts").await;
    assert!(friends.to_string().contains("user1"), "{friends}");
    let RoomId(room) = rooms[0];
    let cursor = get(&node, &users[2].token, &format!("/v1/rooms/{room}/cursor")).await;
    assert!(cursor["read"].as_u64() >= Some(1), "{cursor}");
}

#[tokio::test]
async fn a_directory_is_not_moved_to_where_something_else_is() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let mut node = TestNode::builder().data_dir(&data).set("storage.shards", 64).start().await;
    people(&node, 1).await;
    node.kill9().await;
    let keyspace = keyspace().await;
    let mut other = keyspace.under(TestNode::builder()).start().await;
    let (moved, said) = migrate(&data, &keyspace).await;
    assert!(!moved && said.contains("a node serves from it"), "{said}");
    let user = other.user("somebody").await;
    let (moved, said) = migrate(&data, &keyspace).await;
    assert!(!moved && said.contains("holds rooms or accounts"), "{said}");
    // The refusal has changed nothing.
    other.kill9().await;
    other.restart().await;
    assert_eq!(other.user("somebody").await.id, user.id);
    let (moved, said) = migrate(temp.path(), &keyspace).await;
    assert!(!moved && said.contains("there is no store"), "{said}");
}
