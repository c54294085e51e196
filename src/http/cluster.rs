//! A cluster as one of its nodes sees it, for operators: who is there, what this node owns, how it reaches the others; and a node's leave.

use super::Api;
use super::admin::Operator;
use super::error::Body;
use crate::error::{ApiError, Code};
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

/// A node as another sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSeen {
    /// Its number.
    pub node: u32,
    /// `live`, or `suspected` while its lease is missing and it does not count as dead yet.
    pub standing: String,
    /// Its share of the shards beside the others'; 0: it takes none.
    pub weight: u32,
    /// Shards that it should own.
    pub should_own: usize,
    /// Shards that it said it owns. A shard is claimed when it is first used.
    pub said_to_own: usize,
    /// Whether its secrets are this node's: `same`, `unknown` as long as it has not said so, or what goes wrong.
    #[serde(default)]
    pub secrets: String,
}

/// How this node reaches the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// It can publish to them.
    pub publishes: bool,
    /// It hears them.
    pub hears: bool,
    /// Redis says which nodes are there.
    pub leases: bool,
    /// Envelopes that wait to be published.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// Questions to other nodes that are not answered yet.
    pub questions: usize,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// This node.
    pub node: u32,
    /// The name of the cluster.
    pub name: String,
    /// All shards of the store.
    pub shards: u32,
    /// Shards that this node owns for certain.
    pub owned: usize,
    /// All nodes that are known, this one among them, by number.
    pub nodes: Vec<NodeSeen>,
    /// See [`Links`].
    pub links: Links,
    /// Appends and other writes that wait for the store.
    pub store_waiting: u64,
}

fn alone() -> ApiError {
    ApiError::new(Code::Conflict, "this node is not one of a cluster (redis.url is not set)")
}

/// `GET /admin/cluster`
pub async fn status(_op: Operator, api: web::Data<Api>) -> Result<HttpResponse, ApiError> {
    let mut status = api.node.cluster().ok_or_else(alone)?;
    status.store_waiting = api.store.health().appends_waiting;
    Ok(HttpResponse::Ok().json(status))
}

/// Body of drain.
#[derive(Deserialize)]
pub struct Drain {
    node: u32,
}

/// `POST /admin/cluster/drain`: that node hands its shards over, sends its clients elsewhere and ends, as on SIGTERM. Answered when it was told.
pub async fn drain(_op: Operator, api: web::Data<Api>, Body(drain): Body<Drain>) -> Result<HttpResponse, ApiError> {
    let status = api.node.cluster().ok_or_else(alone)?;
    if !status.nodes.iter().any(|seen| seen.node == drain.node) {
        return Err(ApiError::new(Code::NotFound, format!("there is no node {} in cluster {:?}", drain.node, status.name)));
    }
    api.node.drain(drain.node);
    Ok(HttpResponse::Accepted().finish())
}
