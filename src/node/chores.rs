//! What a node does now and then by itself: removes what is older than is kept.
//!
//! Each round is bounded; what it does not get done is the next round's. A round that fails is in the log and tried again.

use crate::auth::now;
use crate::http::Api;
use crate::http::audit::Audit;
use actix_web::web;
use std::time::Duration;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(3_600);
/// From the start to the first round, so that a start has the disk for itself.
const FIRST: Duration = Duration::from_secs(60);

/// Does the rounds. Does not end.
pub(super) async fn run(api: web::Data<Api>) {
    tokio::time::sleep(FIRST).await;
    loop {
        match api.audit.purge(Audit::day(now())).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "old records of administrative acts were removed"),
            Err(error) => tracing::warn!(%error, "old records of administrative acts could not be removed yet"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
