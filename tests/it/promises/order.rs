//! P2 and P4: one order for all members, without holes, also when envelopes between rooms and hubs are lost.

use super::{all_is_well, answered, connected, groups, people, pick};
use crate::support::TestNode;
use futures_util::future::join_all;
use hubbub::check::Verdict;

const SENDERS: usize = 50;

async fn everybody_sends(node: &TestNode) -> Verdict {
    let users = people(node, SENDERS).await;
    let clients = connected(node, &users).await;
    let rooms = groups(&clients, 3).await;
    join_all(clients.iter().map(async |client| {
        for round in 0..pick(4, 100) {
            let requests: Vec<_> = rooms.iter().map(|room| client.message(*room, &format!("{} {round}", client.user.name))).collect();
            for answer in join_all(requests.iter().map(|request| answered(client, request))).await {
                assert!(answer.is_some(), "{}: the connection ended", client.user.name);
            }
        }
    }))
    .await;
    all_is_well(node, &clients, &rooms).await
}

/// P2: 50 send at once in several rooms.
#[tokio::test]
async fn every_member_sees_every_entry_in_one_order() {
    let node = TestNode::start().await;
    let verdict = everybody_sends(&node).await;
    assert_eq!(verdict.stats.acked, SENDERS * 3 * pick(4, 100) + 3);
    assert_eq!(node.metric("hubbub_hub_backfills_total").await, 0.0, "nothing was lost, and yet holes were read");
}

/// P4: envelopes with entries are lost on their way to a hub, which notices by `seq` and reads the hole from the log. With every
/// second one lost, more are lost while a hole is being read.
#[tokio::test]
async fn every_member_sees_every_entry_though_envelopes_are_lost() {
    for every in [10, 2] {
        let node = TestNode::builder().set("dev.lose_envelopes_every", every).start().await;
        everybody_sends(&node).await;
        assert!(node.metric("hubbub_hub_backfills_total").await > 0.0, "nothing was lost");
    }
}
