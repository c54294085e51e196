//! Delivery: after a message is committed, who of the room's members is not connected anywhere? Those must be told by push.
//!
//! Presence is asked; who is online gets the message through its hub, who is not is counted (`hubbub_offline_recipients_total`): the
//! place where a push provider is told, once there is one. One per thread for rooms; what waits is bounded by [`WAITING_MAX`]
//! batches, above which the oldest are dropped and counted: a push is a hint, the message itself is in the log.

use super::node::NodeContext;
use crate::protocol::entry::{Body, Entry};
use crate::protocol::ids::{RoomId, UserId};
use crate::telemetry::metrics;
use actix::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

/// Rooms' batches that may wait.
const WAITING_MAX: usize = 10_000;

/// Committed messages of a room.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliver {
    /// The room.
    pub room: RoomId,
    /// The messages.
    pub messages: Vec<Arc<Entry>>,
    /// Its members; none for a channel, where only who is mentioned is told.
    pub members: Option<Vec<UserId>>,
}

/// See the module.
pub struct Delivery {
    node: Arc<NodeContext>,
    waiting: VecDeque<Deliver>,
    busy: bool,
}

impl Delivery {
    /// With nothing to do.
    pub fn new(node: Arc<NodeContext>) -> Self {
        Delivery { node, waiting: VecDeque::new(), busy: false }
    }

    fn next(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            return;
        }
        let Some(work) = self.waiting.pop_front() else { return };
        self.busy = true;
        let node = self.node.clone();
        ctx.spawn(async move { offline(&node, &work).await }.into_actor(self).map(|offline, me, ctx| {
            metrics().offline_recipients_total.inc_by(offline);
            me.busy = false;
            me.next(ctx);
        }));
    }
}

/// Recipients of the messages who have no connected device, each counted per message.
async fn offline(node: &NodeContext, work: &Deliver) -> u64 {
    let mut asked: Vec<UserId> = match &work.members {
        Some(members) => members.clone(),
        None => work.messages.iter().flat_map(|m| mentions(m)).copied().collect(),
    };
    asked.sort_unstable();
    asked.dedup();
    let online: std::collections::HashSet<UserId> = node.router.online(&asked).await.into_iter().collect();
    let offline: Vec<UserId> = asked.into_iter().filter(|user| !online.contains(user)).collect();
    let told = |message: &Arc<Entry>| match &work.members {
        Some(_) => offline.iter().filter(|user| **user != message.by).count(),
        None => mentions(message).iter().filter(|user| offline.contains(user)).count(),
    };
    work.messages.iter().map(|m| told(m) as u64).sum()
}

fn mentions(entry: &Entry) -> &[UserId] {
    match &entry.body {
        Body::Message(message) => &message.mentions,
        _ => &[],
    }
}

impl Actor for Delivery {
    type Context = Context<Self>;
}

impl Handler<Deliver> for Delivery {
    type Result = ();
    fn handle(&mut self, work: Deliver, ctx: &mut Self::Context) {
        // A burst in one room is one question about its members.
        match self.waiting.back_mut() {
            Some(last) if last.room == work.room && last.members == work.members => last.messages.extend(work.messages),
            _ => self.waiting.push_back(work),
        }
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
            metrics().delivery_dropped_total.inc();
        }
        self.next(ctx);
    }
}
