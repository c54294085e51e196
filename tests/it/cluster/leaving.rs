//! Nodes that go in order: their shards are handed over, their clients come back elsewhere.

use super::*;

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
    stage.silence(talkers).await;
}
