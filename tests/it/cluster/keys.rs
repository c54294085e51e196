//! Secrets that nodes should have in common: who has others is found out, and a key comes into use without a token being refused.

use super::*;
use crate::support::{SOON, TestNode, TestUser, eventually};
use serde_json::{Value, json};
use std::path::PathBuf;

fn secret(node: &TestNode, file: &str) -> PathBuf {
    node.data_dir().join("secrets").join(file)
}

/// Copies files of the first node's secrets to the others, with their modes.
async fn copy(cluster: &TestCluster, files: &[&str]) {
    let first = cluster.members[0].node.read().await;
    for member in &cluster.members[1..] {
        let node = member.node.read().await;
        for file in files {
            std::fs::copy(secret(&first, file), secret(&node, file)).expect("a secret can be copied");
        }
    }
}

async fn on(cluster: &TestCluster, node: usize, path: &str, body: Value) -> Result<Value, String> {
    let node = cluster.members[node].node.read().await;
    node.operate("POST", path, Some(body)).await.map_err(|e| e.to_string())
}

async fn accepted(cluster: &TestCluster, node: usize, user: &TestUser) -> bool {
    let node = cluster.members[node].node.read().await;
    node.rest().call::<Value>("GET", "/v1/me", Some(&user.token), None).await.is_ok()
}

async fn accepted_everywhere(cluster: &TestCluster, users: &[TestUser]) {
    for user in users {
        for node in 0..cluster.members.len() {
            assert!(accepted(cluster, node, user).await, "{} at node {}", user.name, node + 1);
        }
    }
}

async fn differ(cluster: &TestCluster, from: f64) {
    eventually("all nodes know whose secrets differ", SOON, || async { cluster.metric("hubbub_cluster_secrets_differ").await == from })
        .await;
}

#[tokio::test]
async fn a_key_is_accepted_by_every_node_before_one_signs_with_it() {
    // Nobody copied anything: each node has made secrets of its own.
    let cluster = TestCluster::start_with(3, |_, node| node.set("auth.secret", "")).await;
    differ(&cluster, 6.0).await;
    {
        let first = cluster.members[0].node.read().await;
        let seen = first.operate("GET", "/admin/cluster", None).await.expect("answered");
        let second = seen["nodes"][1]["secrets"].as_str().expect("a text");
        assert!(second.contains("its access tokens are refused here"), "{seen}");
        assert!(first.log().contains("a node has other secrets"));
    }

    copy(&cluster, &["signing.key", "vapid.key"]).await;
    for member in &cluster.members[1..] {
        let mut node = member.node.write().await;
        assert!(node.stop().await.success());
        node.restart().await;
    }
    cluster.together(3).await;
    differ(&cluster, 0.0).await;
    let mut users = Vec::new();
    for (n, member) in cluster.members.iter().enumerate() {
        users.push(member.node.read().await.user(&format!("before{n}")).await);
    }
    accepted_everywhere(&cluster, &users).await;

    // At once is not possible, nor before everybody has it.
    let refused = on(&cluster, 0, "/admin/keys/rotate", json!({})).await.expect_err("the others do not have it");
    assert!(refused.contains("hubbub keys prepare"), "{refused}");
    on(&cluster, 0, "/admin/keys/prepare", json!({})).await.expect("prepared");
    let refused = on(&cluster, 0, "/admin/keys/rotate", json!({})).await.expect_err("the others do not have it");
    assert!(refused.contains("node 2, 3"), "{refused}");

    copy(&cluster, &["signing.ring"]).await;
    for node in [1, 2] {
        on(&cluster, node, "/admin/keys/reload", json!({})).await.expect("read again");
    }
    for node in 0..3 {
        eventually("a node may rotate", SOON, || async { on(&cluster, node, "/admin/keys/rotate", json!({})).await.is_ok() }).await;
        let member = cluster.members[node].node.read().await;
        users.push(member.user(&format!("after{node}")).await);
        drop(member);
        accepted_everywhere(&cluster, &users).await;
    }
    let first = cluster.members[0].node.read().await.operate("GET", "/admin/keys", None).await.expect("answered");
    for member in &cluster.members[1..] {
        let keys = member.node.read().await.operate("GET", "/admin/keys", None).await.expect("answered");
        assert_eq!(keys["items"][0], first["items"][0], "they sign with the same key");
    }
    assert_eq!(first["items"].as_array().map(Vec::len), Some(2), "{first}");
    differ(&cluster, 0.0).await;
}
