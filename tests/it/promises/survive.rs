//! P1: what was acknowledged survives a kill and a power cut; damage of the log is told and never passed over.

use super::{Stage, all_is_well, connected, groups, people, pick};
use crate::powercut_tool;
use crate::support::{Builder, TestNode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

async fn a_moment(random: &mut StdRng) {
    sleep(Duration::from_millis(random.random_range(120..420))).await;
}

/// P1, P2, P3, P6: kill -9 at random moments under load from many senders, who come back, resume and send again.
#[tokio::test]
async fn an_acknowledged_message_survives_kill_9() {
    let mut random = StdRng::seed_from_u64(9);
    let node = TestNode::start().await;
    let users = people(&node, 12).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 3).await;
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    for _ in 0..pick(3, 60) {
        a_moment(&mut random).await;
        let mut node = stage.node.write().await;
        node.kill9().await;
        node.restart().await;
    }
    a_moment(&mut random).await;
    let clients = stage.silence(talkers).await;
    let verdict = all_is_well(&*stage.node.read().await, &clients, &rooms).await;
    assert!(verdict.stats.acked > 100, "too little happened: {:?}", verdict.stats);
}

/// A node on `live`, of which what is durable is kept in `image`.
pub fn with_image(live: &Path, image: &Path, fault: Option<&Path>) -> Builder {
    let settings = powercut_tool::environment(live, image, fault);
    settings.iter().fold(TestNode::builder().data_dir(live), |builder, (name, value)| builder.env(name, value))
}

/// P1: everything that was written and not flushed to the device is gone, and nothing acknowledged with it.
#[tokio::test]
async fn an_acknowledged_message_survives_a_power_cut() {
    let mut random = StdRng::seed_from_u64(1);
    let temp = tempfile::tempdir().unwrap();
    let disk = |n: usize| -> PathBuf { temp.path().join(format!("disk{n}")) };
    std::fs::create_dir(disk(0)).unwrap();
    let node = with_image(&disk(0), &disk(1), None).start().await;
    let users = people(&node, 12).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 3).await;
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    let cuts = pick(2, 30);
    for cut in 1..=cuts {
        a_moment(&mut random).await;
        let mut node = stage.node.write().await;
        node.kill9().await;
        // The image is the disk from now on, and has an image of its own.
        *node = with_image(&disk(cut), &disk(cut + 1), None).start().await;
    }
    a_moment(&mut random).await;
    let clients = stage.silence(talkers).await;
    let verdict = all_is_well(&*stage.node.read().await, &clients, &rooms).await;
    assert!(verdict.stats.acked > 100, "too little happened: {:?}", verdict.stats);
}

/// The journal, and where the last byte that was written to it lies.
fn journal(data: &Path) -> (PathBuf, usize) {
    let files = std::fs::read_dir(data.join("db")).unwrap().map(|e| e.unwrap().path());
    let path = files.filter(|p| p.extension().is_some_and(|e| e == "jnl")).min().expect("a journal");
    let end = std::fs::read(&path).unwrap().iter().rposition(|b| *b != 0).expect("something was written");
    (path, end)
}

/// P1: a bit that flipped in the middle of the log stops the start; it is never taken for the torn end of a log.
#[tokio::test]
async fn damage_in_the_middle_of_the_log_is_reported() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let mut node = TestNode::builder().data_dir(&data).start().await;
    let users = people(&node, 2).await;
    let clients = connected(&node, &users).await;
    let room = groups(&clients, 1).await[0];
    for i in 0..40 {
        clients[0].send(room, &format!("message {i}, long enough to be hit: {}", "x".repeat(200))).await;
    }
    node.kill9().await;
    let (path, end) = journal(&data);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[end / 2] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    let (status, log) = TestNode::builder().data_dir(&data).start_failing().await;
    assert_eq!(status.code(), Some(1), "{log}");
    let name = path.file_name().unwrap().to_str().unwrap();
    let said = log.lines().find(|l| l.contains(name)).unwrap_or_else(|| panic!("the damaged file is not named:\n{log}"));
    let numbers: Vec<usize> = said.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    assert!(numbers.iter().any(|n| *n > 0 && *n <= end / 2), "no offset at or before {} is named: {said}", end / 2);
    assert!(std::fs::read(&path).unwrap() == bytes, "a refused start has changed the log");
    // Put right, everything is there.
    bytes[end / 2] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    node.restart().await;
    let mut clients = clients;
    for client in &mut clients {
        client.reconnect(&node).await;
    }
    assert_eq!(all_is_well(&node, &clients, &[room]).await.stats.entries, 41);
}
