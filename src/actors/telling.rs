//! Who must be told of a message by push: the members without a connected device. In a channel only who is mentioned is told.

use super::delivery::{Committed, Consequence};
use super::node::NodeContext;
use crate::protocol::entry::{Body, Entry};
use crate::protocol::ids::UserId;
use crate::storage::Result;
use crate::telemetry::metrics;
use async_trait::async_trait;
use std::collections::HashSet;
use std::sync::Arc;

/// See the module.
pub struct Telling;

#[async_trait]
impl Consequence for Telling {
    fn name(&self) -> &'static str {
        "telling who is away"
    }

    async fn carry_out(&self, node: &Arc<NodeContext>, committed: &Committed) -> Result<()> {
        let messages: Vec<&Arc<Entry>> = committed.entries.iter().filter(|e| e.body.is_message()).collect();
        if messages.is_empty() {
            return Ok(());
        }
        let mut asked: Vec<UserId> = match &committed.members {
            Some(members) => members.to_vec(),
            None => messages.iter().flat_map(|m| mentions(m)).copied().collect(),
        };
        asked.sort_unstable();
        asked.dedup();
        let online: HashSet<UserId> = node.router.online(&asked).await.into_iter().collect();
        let offline: HashSet<UserId> = asked.into_iter().filter(|user| !online.contains(user)).collect();
        let told = |message: &Arc<Entry>| match &committed.members {
            Some(_) => offline.iter().filter(|user| **user != message.by).count(),
            None => mentions(message).iter().filter(|user| offline.contains(user)).count(),
        };
        metrics().offline_recipients_total.inc_by(messages.iter().map(|m| told(m) as u64).sum());
        Ok(())
    }
}

fn mentions(entry: &Entry) -> &[UserId] {
    match &entry.body {
        Body::Message(message) => &message.mentions,
        _ => &[],
    }
}
