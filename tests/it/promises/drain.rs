//! P6: a node that is told to stop sends its clients away politely and in order, and loses nothing.

use super::{Stage, all_is_well, connected, groups, people};
use crate::support::TestNode;
use hubbub::check::history::What;
use hubbub::protocol::close::Close;
use hubbub::protocol::ops::Push;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const SPREAD_MS: u64 = 4_000;
const STOP: Duration = Duration::from_secs(10);

#[tokio::test]
async fn sigterm_spreads_the_clients_out_and_loses_nothing() {
    let node = TestNode::builder().set("http.drain_spread_ms", SPREAD_MS).set("http.stop_timeout_ms", STOP.as_millis()).start().await;
    let users = people(&node, 16).await;
    let clients = connected(&node, &users).await;
    let rooms = groups(&clients, 3).await;
    clients.iter().for_each(|client| drop(client.take_pushes()));
    let stage = Stage::new(node);
    let talkers = stage.talk(clients, &rooms);
    sleep(Duration::from_millis(400)).await;
    {
        let mut node = stage.node.write().await;
        let began = Instant::now();
        let status = node.stop().await;
        let took = began.elapsed();
        assert!(status.success() && took < STOP, "{status} after {took:?}\n{}", node.log());
        assert!(!node.data_dir().join("node.json").exists(), "a stopped node says that it runs");
        node.restart().await;
    }
    let clients = stage.silence(talkers).await;
    let mut waits = HashSet::new();
    for client in &clients {
        let drains: Vec<u64> =
            client.take_pushes().iter().filter_map(|p| if let Push::Drain(d) = p { Some(d.after_ms) } else { None }).collect();
        assert_eq!(drains.len(), 1, "{}: told {drains:?}", client.user.name);
        assert!(drains[0] <= SPREAD_MS);
        waits.extend(drains);
        let closed = |e: &hubbub::check::history::Event| matches!(e.what, What::Closed { code } if code == Close::DRAINING.code);
        assert!(client.history().events.iter().any(closed), "{}: not closed with {}", client.user.name, Close::DRAINING.code);
    }
    assert!(waits.len() > clients.len() / 2, "all come back at once: {waits:?}");
    all_is_well(&*stage.node.read().await, &clients, &rooms).await;
}
