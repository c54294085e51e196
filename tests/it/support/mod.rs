//! What every test of a running node stands on: [`TestNode`] is a real `hubbub serve` in a process of its own,
//! [`TestClient`] is a real client that writes down everything it does and sees, [`judge`] has the last word.
//!
//! Nothing here sleeps for a guessed time: it waits for pushes, for processes, or with [`eventually`] for a condition.

#![allow(dead_code, unused_imports)] // each capability's tests use a part of it

pub mod balancer;
mod client;
pub mod cluster;
pub mod cql;
pub mod link;
mod node;
mod raw;
mod receiver;
pub mod redis;
pub mod vendor;

pub use client::{TestClient, judge};
pub use node::{Builder, TestNode, TestUser};
pub use raw::{Frame, RawSocket, Response, http, metric_is};
pub use receiver::{Received, Receiver, Reply};

use std::time::Duration;

/// Long enough for anything that should happen soon, on a busy machine too.
pub const SOON: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(10);

/// Asks again and again until the condition holds; panics with `what` at the deadline.
#[track_caller]
pub fn eventually<F, C>(what: &str, deadline: Duration, mut condition: C) -> impl Future<Output = ()>
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    let caller = std::panic::Location::caller();
    async move {
        let end = tokio::time::Instant::now() + deadline;
        while !condition().await {
            assert!(tokio::time::Instant::now() < end, "{caller}: not within {deadline:?}: {what}");
            tokio::time::sleep(RETRY).await;
        }
    }
}
