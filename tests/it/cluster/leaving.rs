//! Nodes that go in order: their shards are handed over, their clients come back elsewhere.

use super::*;
use serde_json::json;

#[tokio::test]
async fn a_rolling_restart_under_load_costs_everybody_no_more_than_a_reconnect() {
    let mut random = seeded();
    let cluster = TestCluster::start_with(3, |_, node| node.set("http.drain_spread_ms", 300)).await;
    let (stage, talkers) = Stage::talk(cluster, 6, 3).await;
    for member in &stage.cluster.members {
        a_moment(&mut random).await;
        let mut node = member.node.write().await;
        assert!(node.stop().await.success());
        node.restart().await;
        drop(node);
        stage.cluster.together(3).await;
    }
    a_moment(&mut random).await;
    for member in &stage.cluster.members {
        // Who goes hands over, and who comes back waits until it is handed what others are at work on.
        let log = member.node.read().await.log();
        assert!(!log.contains("gives up what it had not settled"), "a shard was taken from an owner that was there:\n{log}");
    }
    stage.silence(talkers).await;
}

#[tokio::test]
async fn an_operator_sees_the_cluster_and_sends_a_node_away() {
    let (stage, talkers) = Stage::talk(TestCluster::start_with(3, |_, node| node.set("http.drain_spread_ms", 300)).await, 6, 3).await;
    let [first, second, _] = &stage.cluster.members[..] else { unreachable!() };
    let seen = first.node.read().await.operate("GET", "/admin/cluster", None).await.expect("who has the token is answered");
    assert_eq!((seen["node"].as_u64(), seen["shards"].as_u64()), (Some(1), Some(64)), "{seen}");
    let nodes = seen["nodes"].as_array().expect("a list");
    assert_eq!(nodes.iter().map(|n| n["node"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)], "{seen}");
    let shares = nodes.iter().map(|n| n["should_own"].as_u64().expect("a number"));
    assert_eq!(shares.clone().sum::<u64>(), 64, "each shard should be one node's: {seen}");
    assert!(shares.min() > Some(8) && seen["links"]["hears"] == true && seen["links"]["leases"] == true, "{seen}");

    let operate = async |node| first.node.read().await.operate("POST", "/admin/cluster/drain", Some(json!({ "node": node }))).await;
    assert!(operate(9).await.is_err(), "there is none");
    // What it answers is no object; that it was told is seen by what it does.
    let _ = operate(2).await;
    assert!(second.node.write().await.wait().await.success());
    stage.cluster.together(2).await;
    eventually("the others own what it had", SOON, || async {
        let seen = first.node.read().await.operate("GET", "/admin/cluster", None).await.expect("answered");
        seen["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2)
    })
    .await;
    stage.silence(talkers).await;
}
