//! P1 to P4 and P7 on a database: the same promises as on a disk, and what is told when it dies, stands still or is slow.

use super::{Stage, all_is_well, answered, connected, groups, head, look, people, pick};
use crate::support::cql::{Keyspace, harmed, keyspace};
use crate::support::{SOON, TestClient, TestNode, TestUser, eventually};
use hubbub::client::ClientError;
use hubbub::error::{ApiError, Code, Retry};
use hubbub::protocol::ids::RoomId;
use hubbub::protocol::ops::{PresenceState, Push, Request, SetPresence};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Within this a send is refused while the database is known to be down.
const AT_ONCE: Duration = Duration::from_millis(500);

/// P1, P2, P3, P6: kill -9 of the node at random moments under load; everything is in the database.
#[tokio::test]
async fn an_acknowledged_message_survives_kill_9_on_a_database() {
    let mut random = StdRng::seed_from_u64(5);
    let node = keyspace().await.under(TestNode::builder()).start().await;
    let users = people(&node, 8).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 3).await;
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    for _ in 0..pick(3, 30) {
        sleep(Duration::from_millis(random.random_range(300..900))).await;
        let mut node = stage.node.write().await;
        node.kill9().await;
        node.restart().await;
    }
    sleep(Duration::from_millis(500)).await;
    let clients = stage.silence(talkers).await;
    let verdict = all_is_well(&*stage.node.read().await, &clients, &rooms).await;
    assert!(verdict.stats.acked > 100, "too little happened: {:?}", verdict.stats);
}

/// Everything that a person does first, and that it is there when the process was killed: with another data directory too.
#[tokio::test]
async fn what_was_said_is_read_from_the_database_after_a_kill() {
    let keyspace = keyspace().await;
    let secret = "a secret that all nodes of the cluster know";
    let start = || keyspace.under(TestNode::builder()).set("auth.secret", secret).start();
    let mut node = start().await;
    let users = people(&node, 2).await;
    let clients = connected(&node, &users).await;
    let room = groups(&clients, 1).await[0];
    for i in 0..20 {
        clients[i % 2].send(room, &format!("message {i}")).await;
    }
    node.kill9().await;
    let node = start().await;
    let mut clients = clients;
    for client in &mut clients {
        client.reconnect(&node).await;
    }
    clients[0].send(room, "and on it goes").await;
    let again = node.user("user0").await;
    assert_eq!(again.id, users[0].id, "the account is the same");
    assert_eq!(all_is_well(&node, &clients, &[room]).await.stats.entries, 22);
}

/// Sends until one is refused at once and with the code that says why.
async fn until_refused_at_once(client: &TestClient, room: RoomId) -> ApiError {
    let (end, mut answers) = (Instant::now() + SOON, Vec::new());
    loop {
        assert!(Instant::now() < end, "no send was refused at once: {answers:?}");
        let began = Instant::now();
        let answer = client.request(client.message(room, "while the database is away")).await;
        answers.push((began.elapsed(), answer.as_ref().err().map(ToString::to_string)));
        match answer {
            Err(ClientError::Api(e)) => {
                assert_ne!(e.retry, Retry::Never, "{e}");
                if e.code == Code::LogUnavailable && began.elapsed() < AT_ONCE {
                    return e;
                }
            }
            Ok(_) => {}
            Err(e) => panic!("{e}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Two users see each other's presence from now on.
pub(super) async fn befriend(node: &TestNode, a: &TestUser, b: &TestUser) {
    for (from, to) in [(a, b), (b, a)] {
        let path = format!("/v1/contacts/{}", to.id);
        node.rest().call::<serde_json::Value>("PUT", &path, Some(&from.token), None).await.unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}

/// What is not kept goes on without the database.
async fn presence_goes_on(from: &TestClient, to: &TestClient, state: PresenceState) {
    let set = SetPresence { state: Some(state), ..SetPresence::default() };
    from.request(Request::Presence(set)).await.unwrap_or_else(|e| panic!("presence: {e}"));
    let fits = |push: &Push| matches!(push, Push::Presence(p) if p.user == from.user.id && p.state == state);
    to.expect_push("presence while the database is away", fits).await;
}

/// A database that is away for a while, by one means and another: sends are refused at once, presence goes on, the node says so,
/// and afterwards everything goes on and nothing acknowledged is missing.
#[tokio::test]
async fn while_the_database_is_away_sends_are_refused_at_once_and_nothing_is_lost() {
    let database = harmed().await;
    let node = Keyspace::of(database.clone()).under(TestNode::builder()).start().await;
    let users = people(&node, 6).await;
    befriend(&node, &users[5], &users[4]).await;
    let mut clients = connected(&node, &users).await;
    let rooms = groups(&clients, 2).await;
    let (probe, listener) = (clients.pop().unwrap(), clients.pop().unwrap());
    probe.send(rooms[0], "before").await;
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    for (how, state) in [("it stands still", PresenceState::Away), ("it is killed", PresenceState::Busy)] {
        let node = stage.node.read().await;
        sleep(Duration::from_millis(500)).await;
        match how {
            "it stands still" => database.pause(1).await,
            _ => database.kill(1).await,
        }
        let began = Instant::now();
        let refused = until_refused_at_once(&probe, rooms[0]).await;
        println!("{how}: refused at once {:?} after it went away: {refused}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(8), "{how}: that took long to notice");
        assert!(refused.retry_after_ms.is_some(), "{refused}");
        presence_goes_on(&probe, &listener, state).await;
        let (status, text) = look(&node, "/readyz").await;
        assert!(status == 503 && text.contains("the database does not answer"), "{status} {text}");
        assert_eq!(look(&node, "/livez").await.0, 200);
        match how {
            "it stands still" => database.resume(1).await,
            _ => database.restart().await,
        }
        let node = &*node;
        // Nobody sends for this: the node looks by itself.
        eventually("the node is ready again", SOON, || async move { look(node, "/readyz").await.0 == 200 }).await;
        answered(&probe, &probe.message(rooms[0], "it is back")).await.expect("the connection lives");
    }
    let mut clients = stage.silence(talkers).await;
    clients.extend([probe, listener]);
    let verdict = all_is_well(&*stage.node.read().await, &clients, &rooms).await;
    assert!(verdict.stats.acked > 50, "too little happened: {:?}", verdict.stats);
}

/// A slow database: it stands still most of the time. Requests wait or are refused, in bounded number; nothing is lost or doubled.
#[tokio::test]
async fn a_slow_database_loses_and_doubles_nothing() {
    let database = harmed().await;
    let node = Keyspace::of(database.clone()).under(TestNode::builder()).start().await;
    let users = people(&node, 5).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 2).await;
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    for _ in 0..pick(8, 60) {
        database.pause(1).await;
        sleep(Duration::from_millis(600)).await;
        database.resume(1).await;
        sleep(Duration::from_millis(200)).await;
    }
    let clients = stage.silence(talkers).await;
    let node = stage.node.read().await;
    assert!(head(&clients[0], rooms[0]).await > 1, "nothing was sent");
    all_is_well(&node, &clients, &rooms).await;
}

/// Who comes without the password, with a wrong one, or trusts another authority is told so, and why.
#[tokio::test]
async fn a_database_that_wants_tls_and_a_password_is_reached_with_both_only() {
    let database = harmed().await;
    let keyspace = Keyspace::of(database.clone());
    let wrong = |set: &[(&str, &str)]| {
        let node = keyspace.under(TestNode::builder()).set("scylla.connect_timeout_ms", 2_000);
        let node = set.iter().fold(node, |node, (key, value)| node.set(key, value));
        async move {
            let (status, log) = node.start_failing().await;
            assert!(!status.success() && log.contains("the database (127.0.0.1:"), "{log}");
            log
        }
    };
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap().cert.pem()).unwrap();
    let refusals = [
        (wrong(&[("scylla.password", "a guess")]).await, "password are incorrect"),
        (wrong(&[("scylla.user", ""), ("scylla.password", "")]).await, "uthentication"),
        // Whoever speaks no TLS is hung up on.
        (wrong(&[("scylla.ca_file", "")]).await, ""),
        (wrong(&[("scylla.ca_file", &other.path().display().to_string())]).await, "certificate"),
    ];
    for (log, why) in refusals {
        let said = log.lines().find(|line| line.contains("the database (")).unwrap_or_default();
        println!("{said}");
        assert!(log.contains(why), "{log}");
    }
    let node = keyspace.under(TestNode::builder()).start().await;
    let clients = connected(&node, &people(&node, 2).await).await;
    let room = groups(&clients, 1).await[0];
    clients[1].send(room, "behind a lock").await;
    all_is_well(&node, &clients, &[room]).await;
}
