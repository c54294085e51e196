//! What a node does now and then by itself: removes what is older than is kept, and gives its space back.
//!
//! In a cluster the node does it that owns the first shard, and the others look now and then whether that is theirs by now. Idempotency keys lie in
//! buckets, each looked through by the owner of the shard with its number.
//! Each round is bounded; what it does not get done is the next round's. A round that fails is in the log and tried again.

use crate::actors::node::NodeContext;
use crate::auth::now;
use crate::http::Api;
use crate::http::audit::Audit;
use crate::http::idempotency;
use crate::protocol::ids::Shard;
use crate::storage::retention::{self, Round};
use crate::telemetry::metrics;
use actix_web::web;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at the records of administrative acts.
const AUDIT_EVERY: Duration = Duration::from_secs(3_600);
/// Between two looks at the reports. The first is at the start: it counts those that are open.
const REPORTS_EVERY: Duration = Duration::from_secs(3_600);
/// Between two looks at the idempotency keys.
const KEYS_EVERY: Duration = Duration::from_secs(3_600);
/// From the start to the first round, so that a start has the disk for itself.
const FIRST: Duration = Duration::from_secs(60);
/// Between two looks whether the chores of another node are this one's by now.
const OTHERS: Duration = Duration::from_secs(10);
/// Between two rounds when the first one was not done with everything: the store's readers and writer come in between.
const NEXT: Duration = Duration::from_millis(200);

/// Does the rounds. Does not end.
pub(super) async fn run(node: Arc<NodeContext>, api: web::Data<Api>) {
    futures_util::join!(audit(&node, &api), reports(&node, &api), keys(&node, &api), entries(&node, &api));
}

/// Returns when the chores are this node's to do.
async fn turn(node: &NodeContext) {
    while !node.router.owns(Shard(0)) {
        tokio::time::sleep(OTHERS).await;
    }
}

async fn audit(node: &NodeContext, api: &Api) {
    tokio::time::sleep(FIRST).await;
    loop {
        turn(node).await;
        match api.audit.purge(Audit::day(now())).await {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(removed, "old records of administrative acts were removed");
                tokio::time::sleep(NEXT).await;
                continue;
            }
            Err(error) => tracing::warn!(%error, "old records of administrative acts could not be removed yet"),
        }
        tokio::time::sleep(AUDIT_EVERY).await;
    }
}

async fn reports(node: &NodeContext, api: &Api) {
    loop {
        // Every node refuses reports when too many wait, and so counts them.
        if let Err(error) = api.reports.count().await {
            tracing::warn!(%error, "open reports could not be counted");
        }
        if !node.router.owns(Shard(0)) {
            tokio::time::sleep(REPORTS_EVERY).await;
            continue;
        }
        match api.reports.sweep(now()).await {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(removed, "old resolved reports were removed");
                tokio::time::sleep(NEXT).await;
                continue;
            }
            Err(error) => tracing::warn!(%error, "old resolved reports could not be removed yet"),
        }
        tokio::time::sleep(REPORTS_EVERY).await;
    }
}

async fn keys(node: &NodeContext, api: &Api) {
    loop {
        tokio::time::sleep(KEYS_EVERY).await;
        let mine = |bucket: u64| node.router.owns(Shard((bucket % u64::from(node.store.shards())) as u32));
        match idempotency::sweep(&*api.store, now(), mine).await {
            Ok(removed) => tracing::debug!(removed, "old idempotency keys were removed"),
            Err(error) => tracing::warn!(%error, "old idempotency keys were not removed"),
        }
    }
}

async fn entries(node: &NodeContext, api: &Api) {
    let rooms = &api.config.rooms;
    let every = Duration::from_secs(rooms.purge_every_s);
    tokio::time::sleep(every.min(FIRST)).await;
    let (mut round, mut removed) = (Round::default(), 0);
    loop {
        turn(node).await;
        round.removed = 0;
        let done = retention::purge(&*api.store, rooms.keep_s, now(), rooms.purge_rows_max, &mut round).await;
        metrics().entries_purged_total.inc_by(round.removed as u64);
        removed += round.removed;
        match done {
            Err(error) => tracing::warn!(%error, "what is no longer kept could not be removed yet"),
            Ok(()) if round.removed >= rooms.purge_rows_max => {
                tokio::time::sleep(NEXT).await;
                continue;
            }
            Ok(()) => {}
        }
        if removed > 0 {
            tracing::info!(rows = removed, "what is no longer kept was removed from the log");
            removed = 0;
        }
        match api.store.reclaim().await {
            Ok(true) => tracing::info!("the log's space was given back to the disk"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the log's space could not be given back to the disk yet"),
        }
        tokio::time::sleep(every).await;
    }
}
