//! Backup and restore: what was acknowledged before a backup began is in it, a broken one is refused, and clients go on from it.

use super::promises::{Stage, answered, connected, groups, ids, people};
use super::support::{Receiver, Reply, SOON, TestClient, TestNode};
use hubbub::check::history::{History as Written, What};
use hubbub::check::recorder::now;
use hubbub::check::{Options as Rules, judge};
use hubbub::protocol::entry::RoomKind;
use hubbub::protocol::ids::RoomId;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tokio::time::sleep;

/// Runs the command line.
async fn hubbub(args: &[&str]) -> Output {
    let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hubbub"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HUBBUB_")) {
            command.env_remove(name);
        }
        command.args(args).output().expect("the binary of this build")
    };
    tokio::time::timeout(SOON * 3, tokio::task::spawn_blocking(run)).await.expect("in time").expect("no panic")
}

async fn done(args: &[&str]) {
    let out = hubbub(args).await;
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn backup(node: &TestNode, to: &Path) {
    done(&["backup", path(to), "--with-secrets", "--data-dir", path(node.data_dir())]).await;
}

/// A node on what was restored.
async fn restored(from: &Path, dir: &Path) -> TestNode {
    done(&["restore", path(from), "--data-dir", path(dir)]).await;
    TestNode::builder().data_dir(dir).start().await
}

/// What was acknowledged before `began`, and everything that was ever sent.
fn before(history: Written, began: u64) -> Written {
    let events = history.events.into_iter().filter(|e| e.at < began || matches!(e.what, What::Sent(_))).collect();
    Written { events, ..history }
}

#[tokio::test]
async fn nothing_acknowledged_before_a_backup_under_load_is_missing_from_it_and_clients_go_on() {
    let temp = tempfile::tempdir().unwrap();
    let node = TestNode::start().await;
    let users = people(&node, 4).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 3).await;
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    sleep(Duration::from_millis(800)).await;
    let began = now();
    let file = temp.path().join("all.backup");
    backup(&*stage.node.read().await, &file).await;
    sleep(Duration::from_millis(200)).await;
    let mut clients = stage.silence(talkers).await;
    stage.node.write().await.stop().await;

    let node = restored(&file, &temp.path().join("restored")).await;
    let observer = TestClient::connect(&node, &users[0], "observer").await;
    for room in &rooms {
        observer.read_log(&node, *room).await;
    }
    let mut histories: Vec<Written> = clients.iter().map(|c| before(c.history(), began)).collect();
    let acked = |h: &Written| h.events.iter().filter(|e| matches!(e.what, What::Acked(_))).count();
    assert!(histories.iter().all(|h| acked(h) > 10), "there was load: {:?}", histories.iter().map(acked).collect::<Vec<_>>());
    histories.push(observer.history());
    let verdict = judge(&histories, &Rules::default()).expect("a verdict");
    assert!(verdict.is_clean(), "{verdict}");

    // Everybody is ahead of the backup; they take up what is there and go on.
    for client in &mut clients {
        client.reconnect(&node).await;
    }
    for room in &rooms {
        let sent = answered(&clients[1], &clients[1].message(*room, "after the restore")).await.expect("it is taken");
        for client in &clients {
            client.reaches(*room, sent.seq.unwrap()).await;
            assert_eq!(client.have(*room), sent.seq.unwrap(), "nothing of the time after the backup is left in a client");
        }
    }
}

#[actix_rt::test]
async fn after_a_restore_what_is_new_has_ids_that_no_receiver_has_seen() {
    let temp = tempfile::tempdir().unwrap();
    let builder = || TestNode::builder().set("outbound.allowed_ranges", "127.0.0.0/8");
    let mut node = builder().start().await;
    let mut receiver = Receiver::start(|_| Reply::Status(204)).await;
    let hook = json!({ "url": receiver.url("/"), "events": ["message"] });
    node.operate("POST", "/admin/webhooks", Some(hook)).await.unwrap();
    let user = node.user("alice").await;
    let alice = TestClient::connect(&node, &user, "alice").await;
    let room = alice.create(RoomKind::Group, &[]).await;
    let file = temp.path().join("whole");
    backup(&node, &file).await;
    alice.send(room, "lost").await;
    let lost = receiver.next().await;
    node.stop().await;

    let dir = temp.path().join("restored");
    done(&["restore", path(&file), "--data-dir", path(&dir)]).await;
    let node = builder().data_dir(&dir).start().await;
    let alice = TestClient::connect(&node, &user, "alice again").await;
    alice.send(room, "new").await;
    let new = receiver.next().await;
    assert_eq!(lost.json()["seq"], new.json()["seq"], "the seq is given again");
    assert_ne!(lost.header("hubbub-event"), new.header("hubbub-event"), "a receiver would drop it as a repeat");
}

async fn some_log(node: &TestNode) -> (Vec<TestClient>, RoomId) {
    let users = people(node, 2).await;
    let clients = connected(node, &users).await;
    let room = clients[0].create(hubbub::protocol::entry::RoomKind::Group, &ids(&users)[1..]).await;
    for n in 0..50 {
        clients[0].send(room, &format!("message {n}")).await;
    }
    (clients, room)
}

#[tokio::test]
async fn a_broken_backup_is_refused_and_nothing_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let node = TestNode::start().await;
    some_log(&node).await;
    let file = temp.path().join("whole");
    backup(&node, &file).await;
    done(&["restore", "--verify", path(&file)]).await;
    let bytes = std::fs::read(&file).unwrap();
    let broken = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = temp.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    for file in [
        broken("cut", &bytes[..bytes.len() - 1]),
        broken("half", &bytes[..bytes.len() / 2]),
        broken("changed", &changed),
        broken("none", b""),
    ] {
        let dir = temp.path().join("data");
        let out = hubbub(&["restore", path(&file), "--data-dir", path(&dir)]).await;
        assert_eq!(out.status.code(), Some(1), "{}", file.display());
        assert!(!dir.exists(), "{}", file.display());
        assert_eq!(hubbub(&["restore", "--verify", path(&file)]).await.status.code(), Some(1));
    }
    // Neither a file that is there nor a directory in use is written over.
    assert_eq!(hubbub(&["backup", path(&file), "--data-dir", path(node.data_dir())]).await.status.code(), Some(2));
    assert_eq!(hubbub(&["restore", path(&file), "--data-dir", path(node.data_dir())]).await.status.code(), Some(2));
}

#[tokio::test]
async fn a_restored_store_owns_its_rooms_under_higher_epochs_and_gives_no_id_again() {
    let temp = tempfile::tempdir().unwrap();
    let mut node = TestNode::start().await;
    let (clients, room) = some_log(&node).await;
    let last = clients[0].send(room, "the last before").await;
    node.stop().await;
    // From the directory of a stopped server, and without its secrets.
    let file = temp.path().join("stopped");
    done(&["backup", path(&file), "--data-dir", path(node.data_dir())]).await;
    let text = |dir: &Path| std::fs::read_to_string(dir.join("secrets/signing.key")).ok();
    let dir = temp.path().join("data");
    done(&["restore", path(&file), "--data-dir", path(&dir)]).await;
    assert_eq!(text(&dir), None, "the secrets were not asked for");
    let node2 = TestNode::builder().data_dir(&dir).start().await;
    assert_ne!(text(&dir), text(node.data_dir()));
    let user = node2.user("user0").await;
    let again = TestClient::connect(&node2, &user, "again").await;
    let fresh = again.send(room, "the first after").await;
    assert_eq!(fresh.seq, last.seq.map(|seq| seq + 1));
    assert!(fresh.id > last.id, "{:?} after {:?}", fresh.id, last.id);

    let store = hubbub::storage::embedded::EmbeddedStore::open;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "a backup is for its owner alone");
    let mut node2 = node2;
    node2.stop().await;
    let epochs = |dir: &Path| {
        use hubbub::storage::{MessageLog, Store};
        let store = store(dir, Default::default()).unwrap();
        async move {
            let rows = store.rows(room, 1, 60).await.unwrap();
            store.close();
            rows.into_iter().map(|row| (row.seq, row.epoch.shard_epoch())).collect::<Vec<_>>()
        }
    };
    let (old, new) = (epochs(node.data_dir()).await, epochs(&dir).await);
    let highest = old.iter().map(|(_, epoch)| *epoch).max().unwrap();
    let first = new.iter().find(|(seq, _)| Some(*seq) == fresh.seq).unwrap();
    assert!(first.1 > highest + 1, "written under {first:?}, the copied rows under {highest}: above the raised cell, which nobody holds");
}
