//! P1 and P7 when the disk fails, is full, or has given all it may: sends are refused, reads go on, writing resumes by itself.

use super::survive::with_image;
use super::{Stage, all_is_well, answered, connected, groups, head, look, people, refusal};
use crate::support::{SOON, TestClient, TestNode, eventually};
use futures_util::future::join_all;
use hubbub::client::ClientError;
use hubbub::error::{ApiError, Code, Retry};
use hubbub::protocol::ids::RoomId;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Sends until one is refused with this code.
async fn until_refused(client: &TestClient, room: RoomId, text: &str, code: Code) -> ApiError {
    let end = Instant::now() + SOON;
    loop {
        assert!(Instant::now() < end, "nothing was refused with {code:?}");
        match client.request(client.message(room, text)).await {
            Err(ClientError::Api(e)) if e.code == code => return e,
            Err(ClientError::Api(e)) => assert!(matches!(e.code, Code::Unknown | Code::Unavailable), "{e}"),
            Ok(_) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

/// What a disk does wrong, and gets over.
async fn survives(what: &str) {
    let temp = tempfile::tempdir().unwrap();
    let disk = |n: usize| -> PathBuf { temp.path().join(format!("disk{n}")) };
    let broken = temp.path().join("broken");
    std::fs::create_dir(disk(0)).unwrap();
    let node = with_image(&disk(0), &disk(1), Some(&broken)).start().await;
    let users = people(&node, 6).await;
    let mut clients = connected(&node, &users).await;
    let rooms = groups(&clients, 2).await;
    let probe = clients.pop().unwrap();
    let before = probe.send(rooms[0], "before").await.seq.unwrap();
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    for _ in 0..2 {
        let node = stage.node.read().await;
        sleep(Duration::from_millis(200)).await;
        std::fs::write(&broken, what).unwrap();
        let refused = until_refused(&probe, rooms[0], "while the disk is broken", Code::LogUnavailable).await;
        assert!(refused.retry_after_ms.is_some(), "{refused}");
        assert!(head(&probe, rooms[0]).await >= before, "reads do not go on");
        let (status, text) = look(&node, "/readyz").await;
        assert!(status == 503 && text.contains("the log cannot be written: "), "{status} {text}");
        assert_eq!(look(&node, "/livez").await.0, 200);
        std::fs::remove_file(&broken).unwrap();
        let node = &*node;
        eventually("the node is ready again", SOON, || async move { look(node, "/readyz").await.0 == 200 }).await;
        let request = probe.message(rooms[0], "the disk is well again");
        answered(&probe, &request).await.expect("the connection lives");
    }
    // What was acknowledged while the disk came and went is also there after a power cut.
    {
        let mut node = stage.node.write().await;
        node.kill9().await;
        *node = with_image(&disk(1), &disk(2), None).start().await;
    }
    let mut clients = stage.silence(talkers).await;
    let mut probe = probe;
    probe.reconnect(&*stage.node.read().await).await;
    clients.push(probe);
    all_is_well(&*stage.node.read().await, &clients, &rooms).await;
}

#[tokio::test]
async fn a_failed_flush_loses_nothing_acknowledged_and_writing_resumes() {
    survives("fsync").await;
}

#[tokio::test]
async fn a_full_disk_loses_nothing_acknowledged_and_writing_resumes() {
    survives("write").await;
}

/// A disk that does not answer: who sends is told so in time, nothing is acknowledged meanwhile, reads and the rest go on, and the same
/// request afterwards gets the answer of the first.
#[tokio::test]
async fn a_stalled_disk_times_requests_out_and_loses_and_doubles_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (live, image, broken) = (temp.path().join("disk"), temp.path().join("image"), temp.path().join("broken"));
    std::fs::create_dir(&live).unwrap();
    let node = with_image(&live, &image, Some(&broken)).set("socket.request_timeout_ms", 400).start().await;
    let users = people(&node, 2).await;
    let clients = connected(&node, &users).await;
    let room = groups(&clients, 1).await[0];
    let before = clients[0].send(room, "before").await.seq.unwrap();
    std::fs::write(&broken, "stall").unwrap();
    let request = clients[0].message(room, "while the disk stands still");
    let refused = refusal(clients[0].request(request.clone()).await);
    assert_eq!((refused, refused.retry()), (Code::Timeout, Retry::Now));
    assert_eq!(head(&clients[1], room).await, before, "shown before it is durable");
    std::fs::remove_file(&broken).unwrap();
    let first = answered(&clients[0], &request).await.expect("the connection lives");
    assert_eq!(first.seq, Some(before + 1));
    assert_eq!(answered(&clients[0], &request).await.expect("the connection lives").seq, first.seq);
    all_is_well(&node, &clients, &[room]).await;
}

#[tokio::test]
async fn above_the_disk_quota_sends_are_refused_and_reads_go_on() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let mut node = TestNode::builder().data_dir(&data).start().await;
    let users = people(&node, 2).await;
    let used = node.metric("hubbub_storage_disk_bytes").await as u64;
    assert!(node.stop().await.success());
    let node = TestNode::builder().data_dir(&data).set("storage.disk_quota_bytes", used + (1 << 20)).start().await;
    let clients = connected(&node, &users).await;
    let room = groups(&clients, 1).await[0];
    let text = "x".repeat(16_000);
    let filler = async { until_refused(&clients[0], room, &text, Code::QuotaExceeded).await };
    let refused = filler.await;
    assert!(refused.retry_after_ms.is_some(), "{refused}");
    let head = head(&clients[1], room).await;
    assert!(head > 10, "refused too early: {head}");
    join_all(clients.iter().map(|client| client.reaches(room, head))).await;
    all_is_well(&node, &clients, &[room]).await;
}
