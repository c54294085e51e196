//! Offline push: who wants to be told where, what is owed, and how a notification leaves.
//!
//! A message's way to a device without a connection: `actors/telling` asks who of the members is away and writes one **job** for
//! each message and device ([`jobs`]), durably; `actors/push_worker` gathers the jobs of a room for one device into a
//! **notification**, looks once more whether it is still wanted, and gives it to a [`Provider`]: Web Push ([`webpush`]) or the
//! embedder's own gateway ([`gateway`]). It is sent at least once; every attempt carries the same id.
//!
//! [`Pushes`] is what all of them and the HTTP handlers share.

use crate::config::Config;
use crate::outbound::{Answer, Outbound, OutboundError};
use crate::protocol::ids::{Millis, RoomId, Shard, UserId};
use crate::storage::Store;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub mod gateway;
pub mod jobs;
pub mod levels;
pub mod payload;
pub mod subscriptions;
pub mod vapid;
pub mod webpush;

use levels::Levels;
use subscriptions::{Subscriptions, Target};

/// A notification as a provider gets it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The same with every attempt: 32 characters of the base64url alphabet.
    pub id: String,
    /// JSON, see [`payload`].
    pub payload: Bytes,
    /// Seconds after which it is not worth delivering.
    pub ttl_s: u64,
    /// It is meant for this user in person: wake the device.
    pub urgent: bool,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted.
    Sent,
    /// The subscription is over and must be removed.
    Gone,
    /// Not now; not before so long, if the other side said so. The text is for the log.
    Later(Option<Duration>, String),
    /// Never: trying again would end the same. The text is for the log.
    Refused(String),
}

/// Carries notifications to devices of one kind of target.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Makes one attempt, within the outbound client's time limit. It may have arrived whatever is answered but `Refused`.
    async fn attempt(&self, target: &Target, push: &Outgoing) -> Outcome;
}

/// What an answer means for a push; `over`: the statuses by which the other side says that the subscription is.
fn answered(answer: Result<Answer, OutboundError>, over: &[u16]) -> Outcome {
    match answer {
        Ok(answer) => outcome(answer.status, answer.retry_after(), over),
        Err(error) => failed(&error),
    }
}

fn outcome(status: u16, retry_after: Option<Duration>, over: &[u16]) -> Outcome {
    match status {
        200..300 => Outcome::Sent,
        _ if over.contains(&status) => Outcome::Gone,
        408 | 425 | 429 | 500.. => Outcome::Later(retry_after, format!("answered {status}")),
        // A redirect is never followed: it could lead anywhere.
        _ => Outcome::Refused(format!("answered {status}")),
    }
}

fn failed(error: &OutboundError) -> Outcome {
    match error {
        OutboundError::Refused(why) => Outcome::Refused((*why).into()),
        other => Outcome::Later(None, other.to_string()),
    }
}

/// Why pushes cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The VAPID key.
    #[error("secrets/vapid.key: {0}")]
    Vapid(#[from] vapid::KeyError),
    /// The gateway's address.
    #[error("push.gateway_url: {0}")]
    Gateway(String),
}

/// Shards of one worker with new jobs, and when the first of them is due.
#[derive(Default)]
struct Hints {
    due: Mutex<HashMap<Shard, Millis>>,
    come: tokio::sync::Notify,
}

/// What pushing shares in a node. See the module.
pub struct Pushes {
    /// Who is told where.
    pub subscriptions: Subscriptions,
    /// Who wants to be told of what.
    pub levels: Levels,
    /// The key that Web Push services know this server by.
    pub vapid: Arc<vapid::Key>,
    /// Looks at the addresses that users name.
    pub outbound: Arc<Outbound>,
    web: webpush::WebPush,
    gateway: Option<gateway::Gateway>,
    shards: u32,
    /// One for each worker.
    hints: Vec<Hints>,
}

impl Pushes {
    /// Over a store. `key` is the VAPID key's secret, `gateway_secret` signs what the gateway gets.
    pub fn new(
        store: Arc<dyn Store>,
        config: &Config,
        outbound: Arc<Outbound>,
        key: &str,
        gateway_secret: String,
    ) -> Result<Pushes, SetupError> {
        let vapid = Arc::new(vapid::Key::new(key, &config.push.contact)?);
        let gateway = match config.push.gateway_url.is_empty() {
            true => None,
            false => {
                let url = outbound.address(&config.push.gateway_url).map_err(|e| SetupError::Gateway(e.to_string()))?;
                Some(gateway::Gateway::new(url, gateway_secret, outbound.clone()))
            }
        };
        Ok(Pushes {
            subscriptions: Subscriptions::new(store.clone()),
            levels: Levels::new(store.clone()),
            web: webpush::WebPush::new(vapid.clone(), outbound.clone()),
            vapid,
            outbound,
            gateway,
            shards: store.shards(),
            hints: (0..config.push.threads.max(1)).map(|_| Hints::default()).collect(),
        })
    }

    /// Who carries a notification to such a target; none when it is not configured (any more).
    pub fn provider(&self, target: &Target) -> Option<&dyn Provider> {
        match target {
            Target::Web(_) => Some(&self.web),
            Target::Gateway { .. } => self.gateway.as_ref().map(|g| g as &dyn Provider),
        }
    }

    /// Whether devices may be told through a gateway.
    pub fn has_gateway(&self) -> bool {
        self.gateway.is_some()
    }

    /// The shard whose owner sends a user's pushes.
    pub fn shard(&self, user: UserId) -> Shard {
        Shard::of_user(user, self.shards)
    }

    /// How many shards there are.
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// The worker that sends a shard's pushes.
    pub fn worker(&self, shard: Shard) -> usize {
        shard.0 as usize % self.hints.len()
    }

    /// There are jobs in the shard that are due then. At most one note per shard is kept, for the shard's worker.
    pub fn hint(&self, shard: Shard, due: Millis) {
        let hints = &self.hints[self.worker(shard)];
        hints.due.lock().entry(shard).and_modify(|first| *first = due.min(*first)).or_insert(due);
        hints.come.notify_one();
    }

    /// Waits until there may be hints for a worker.
    pub async fn hinted(&self, worker: usize) {
        self.hints[worker].come.notified().await;
    }

    /// Takes the hints that are there for a worker.
    pub fn take_hints(&self, worker: usize) -> HashMap<Shard, Millis> {
        std::mem::take(&mut *self.hints[worker].due.lock())
    }
}

/// A room's key in records.
fn room_key(room: RoomId) -> [u8; 8] {
    room.0.to_be_bytes()
}

/// A user's key in records.
fn user_key(user: UserId) -> [u8; 8] {
    user.0.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_to_try_again() {
        let wait = Some(Duration::from_secs(7));
        for status in [200, 201, 202, 204] {
            assert_eq!(outcome(status, wait, webpush::OVER), Outcome::Sent);
        }
        for status in [404, 410] {
            assert_eq!(outcome(status, None, webpush::OVER), Outcome::Gone);
        }
        assert_eq!(outcome(410, None, gateway::OVER), Outcome::Gone);
        assert!(matches!(outcome(404, None, gateway::OVER), Outcome::Refused(_)), "a wrong path is not the end of every token");
        for status in [408, 429, 500, 502, 503, 599] {
            assert!(matches!(outcome(status, wait, webpush::OVER), Outcome::Later(w, _) if w == wait), "{status}");
        }
        for status in [301, 302, 307, 308, 400, 401, 403, 413] {
            assert!(matches!(outcome(status, wait, webpush::OVER), Outcome::Refused(_)), "{status}");
        }
    }
}
