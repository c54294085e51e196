//! What was sent to a connection that was dead already. A phone that loses its network counts as connected until it misses its heartbeat, and
//! of what comes meanwhile nobody is told by push.
//!
//! So when a session ends, however it does, what was sent to it since it was last heard is in doubt. The user's clients get as long as
//! presence waits before it says "offline": who is back by then gets everything by its resume. Then the user is told of what is in doubt, by
//! the same rules as ever (`super::telling`); what a client has acknowledged (`delivered`, `read`) is not in doubt.
//!
//! Bounds: [`ENDS_MAX`] ends wait, more are let go; [`AT_ONCE`] users are looked at beside each other; the newest [`ENTRIES_MAX`] entries of
//! a room are told of. Kept in memory only: what was sent to a dead connection in the last minute before the process is killed is found by the
//! next resume, and not pushed.

use super::node::{NodeContext, now_ms};
use super::reading::{self, in_time};
use super::telling;
use crate::protocol::ids::{Millis, Seq, UserId};
use crate::storage::{Result, RoomRow};
use crate::telemetry::metrics;
use actix::ArbiterHandle;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};

/// Ends of sessions that wait.
const ENDS_MAX: usize = 65_536;
/// Users who are looked at beside each other.
const AT_ONCE: usize = 8;
/// Rooms that are read at once.
const ROOMS: usize = 256;
/// Entries of one room that are looked at.
const ENTRIES_MAX: u64 = 512;
/// What the client said may have crossed what was sent to it; and what came just after the end may still have found it connected.
const SLACK_MS: Millis = 1_000;
/// Attempts, and the pause between two of them, while the store fails.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_secs(1);

/// A session's end.
struct Ended {
    user: UserId,
    /// Entries that were numbered between these are in doubt.
    since: Millis,
    until: Millis,
    due: Instant,
}

/// Takes the ends of sessions. See the module.
#[derive(Default)]
pub struct Unreached(OnceLock<mpsc::Sender<Ended>>);

impl Unreached {
    /// A session of the user ended now; what was sent to it before `reached` has arrived. `back`: how long its clients get to come back.
    pub fn ended(&self, user: UserId, reached: Instant, back: Duration) {
        let now = now_ms();
        let since = now.saturating_sub(reached.elapsed().as_millis() as Millis + SLACK_MS);
        let ended = Ended { user, since, until: now + SLACK_MS, due: Instant::now() + back };
        if self.0.get().is_some_and(|ends| ends.try_send(ended).is_err()) {
            tracing::warn!("too many sessions ended at once to see what did not reach one of them");
        }
    }
}

/// Starts it on an arbiter.
pub fn launch(on: &ArbiterHandle, node: Arc<NodeContext>) {
    let (ends, mut ended) = mpsc::channel::<Ended>(ENDS_MAX);
    let _ = node.unreached.0.set(ends);
    on.spawn_fn(move || {
        actix::spawn(async move {
            let places = Arc::new(Semaphore::new(AT_ONCE));
            while let Some(ended) = ended.recv().await {
                // All wait equally long, so that the first is due first.
                tokio::time::sleep_until(ended.due.into()).await;
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let node = node.clone();
                actix::spawn(async move {
                    if AssertUnwindSafe(look(&node, &ended)).catch_unwind().await.is_err() {
                        tracing::error!("what did not reach a session could not be looked for: a panic");
                        metrics().actor_restarts_total.of("push_worker").inc();
                    }
                    drop(place);
                });
            }
        });
    });
}

async fn look(node: &Arc<NodeContext>, ended: &Ended) {
    for _ in 0..TRIES {
        match tell(node, ended).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "what did not reach a session could not be told; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn tell(node: &Arc<NodeContext>, ended: &Ended) -> Result<()> {
    let user = ended.user;
    if in_time(node.pushes.subscriptions.of(&[user])).await?.is_empty() || !node.router.online(&[user]).await.is_empty() {
        return Ok(());
    }
    let rooms = in_time(node.store.rooms_of(user, node.config.rooms.rooms_per_user_max)).await?;
    for some in rooms.chunks(ROOMS) {
        let rows = in_time(node.store.rooms(some)).await?;
        for row in rows.into_iter().flatten().filter(|row| row.at >= ended.since) {
            in_room(node, ended, &row).await?;
        }
    }
    Ok(())
}

async fn in_room(node: &Arc<NodeContext>, ended: &Ended, row: &RoomRow) -> Result<()> {
    let cursor = in_time(node.store.cursors(ended.user, &[row.room])).await?.pop().unwrap_or_default();
    let from: Seq = (row.applied + 1).saturating_sub(ENTRIES_MAX).max(cursor.read.max(cursor.delivered) + 1);
    if from > row.applied {
        return Ok(());
    }
    let mut entries = reading::entries(node, row.room, from, row.applied).await?;
    entries.retain(|entry| (ended.since..=ended.until).contains(&entry.at));
    telling::belatedly(node, ended.user, row, &entries).await
}
