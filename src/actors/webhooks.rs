//! The webhook sender: one per node, on a thread of its own. Sends the jobs of `crate::webhooks`, and events that are told once. After a
//! panic it begins anew from the store; what was under way then is sent again under the same id.
//!
//! Promised: an event is sent at least once until the receiver accepts it (any 2xx), or it is a dead letter; every attempt carries
//! the same event id. **Order**: the events of one room go to one webhook one after the other, by seq; the next is sent when the one
//! before was accepted or given up. Rooms do not wait for each other. What is outside of this order: repeats (after a crash or
//! a lost answer), and replayed dead letters.
//!
//! An answer 4xx (but 408, 425 and 429) or 3xx says that the receiver will not take the event: a dead letter at once. Everything else is
//! tried again with pauses that double up to `webhooks.retry_max_ms`, with jitter, for `webhooks.retry_for_s`. A receiver that fails for
//! several rooms in a row is asked by one request at a time until one succeeds.
//! Bounds: `webhooks.in_flight_max` requests per webhook; the keys of waiting jobs are in memory, at most `webhooks.waiting_max` each;
//! of events that are told once [`ONCE_MAX`] wait, then the oldest is dropped and counted.

use super::delivery::{Committed, Consequence};
use super::node::{NodeContext, now_ms};
use super::reading::in_time;
use crate::outbound::{Answer, Call, HeaderMap, HeaderName, HeaderValue, Method, OutboundError, SIGNATURE, header, sign};
use crate::protocol::entry::Entry;
use crate::protocol::ids::{RoomId, Seq};
use crate::telemetry::metrics;
use crate::webhooks::{Event, HookId, JobKey, Live, Told, Why};
use actix::prelude::*;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Events that are told once and wait, per webhook.
const ONCE_MAX: usize = 1_000;
/// Failures in a row after which a webhook is asked by one request at a time, with pauses.
const STREAK_FREE: u32 = 4;
/// Pause before jobs that could not be read, or settled, are looked at again, and before a sender that panicked begins anew.
const STORE_RETRY: Duration = Duration::from_secs(1);

const EVENT: &str = "hubbub-event";
const WEBHOOK: &str = "hubbub-webhook";
const ATTEMPT: &str = "hubbub-attempt";

/// Makes the jobs of committed entries. Whatever is made is the same again by (webhook, room, seq).
pub struct Hooked;

#[async_trait]
impl Consequence for Hooked {
    fn name(&self) -> &'static str {
        "webhooks"
    }
    async fn carry_out(&self, node: &Arc<NodeContext>, committed: &Committed) -> crate::storage::Result<()> {
        let entries: Vec<&Entry> = committed.entries.iter().map(|entry| &**entry).collect();
        node.webhooks.enqueue(committed.room, &entries, now_ms()).await
    }
}

/// Told by `crate::webhooks`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Tell(pub Told);

/// The jobs of one room for one webhook.
#[derive(Default)]
struct Line {
    seqs: BTreeSet<Seq>,
    /// Attempts at the first one.
    tries: u32,
    /// The first is under way, waits for its next attempt, or for its turn.
    taken: bool,
}

#[derive(Default)]
struct Queue {
    lines: BTreeMap<RoomId, Line>,
    /// Jobs in all of them.
    count: usize,
    /// Rooms whose first job may be sent, in turn.
    ready: VecDeque<RoomId>,
    once: VecDeque<Event>,
    once_under_way: bool,
    under_way: usize,
    /// Failures without a success between them.
    streak: u32,
    until: Option<Instant>,
}

impl Queue {
    /// Takes a job in, unless it is known.
    fn add(&mut self, key: JobKey) {
        let line = self.lines.entry(key.room).or_default();
        self.count += usize::from(line.seqs.insert(key.seq));
        if !std::mem::replace(&mut line.taken, true) {
            self.ready.push_back(key.room);
        }
    }
    /// The next job that may be sent now.
    fn next(&mut self, in_flight_max: usize, now: Instant) -> Option<JobKey> {
        let most = if self.streak > STREAK_FREE { 1 } else { in_flight_max };
        if self.under_way >= most || self.until.is_some_and(|until| now < until) {
            return None;
        }
        while let Some(room) = self.ready.pop_front() {
            if let Some(seq) = self.lines.get(&room).and_then(|line| line.seqs.first().copied()) {
                self.under_way += 1;
                return Some(JobKey { room, seq });
            }
        }
        None
    }
    /// The next event that is told once, if it may be sent now: one at a time, and none while the receiver fails.
    fn next_once(&mut self) -> Option<Event> {
        if self.once_under_way || self.streak > STREAK_FREE {
            return None;
        }
        let event = self.once.pop_front()?;
        self.once_under_way = true;
        Some(event)
    }
    /// A room is another node's now; that one has read its jobs from the store.
    fn leave(&mut self, room: RoomId) {
        self.under_way = self.under_way.saturating_sub(1);
        self.count -= self.lines.remove(&room).map_or(0, |line| line.seqs.len());
    }
    /// A room's first job is settled; the next may be sent.
    fn settle(&mut self, key: JobKey) {
        let Some(line) = self.lines.get_mut(&key.room) else { return };
        self.count -= usize::from(line.seqs.remove(&key.seq));
        line.tries = 0;
        if line.seqs.is_empty() {
            self.lines.remove(&key.room);
        } else {
            self.ready.push_back(key.room);
        }
    }
}

/// What became of an attempt.
enum Outcome {
    /// Accepted, given up, or gone: nothing is left to do.
    Settled { accepted: bool },
    /// To be tried again; the receiver may have said when.
    Again { after: Option<Duration> },
    /// The store could not be read or written; the receiver is not to blame.
    Store,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Refused(String),
    Failed(String, Option<Duration>),
}

fn verdict(result: &Result<Answer, OutboundError>) -> Verdict {
    match result {
        Ok(answer) if answer.is_success() => Verdict::Accepted,
        Ok(answer) => {
            let said = format!("the receiver answered {}", answer.status);
            match answer.status {
                408 | 425 | 429 | 500.. => Verdict::Failed(said, answer.retry_after()),
                300..400 => Verdict::Refused(format!("{said}; redirects are not followed")),
                _ => Verdict::Refused(said),
            }
        }
        Err(error @ OutboundError::Refused(_)) => Verdict::Refused(error.to_string()),
        Err(error) => Verdict::Failed(error.to_string(), None),
    }
}

/// The pause before attempt `tries + 1`: doubled from attempt to attempt up to a limit, of which the second half is left to chance.
fn pause(tries: u32, first_ms: u64, max_ms: u64, chance: f64) -> Duration {
    let full = first_ms.saturating_mul(1 << tries.saturating_sub(1).min(30)).min(max_ms);
    Duration::from_millis(full / 2 + (full as f64 / 2.0 * chance) as u64)
}

/// See the module.
pub struct Sender {
    node: Arc<NodeContext>,
    queues: HashMap<HookId, Queue>,
    /// Its drop says that the actor is gone, however it went.
    _alive: oneshot::Sender<()>,
}

impl Sender {
    /// Starts on an arbiter, and again whenever it ends, and tells the webhooks of itself. What they say while there is none is in the
    /// store before they say it, so the next one finds it; only what is told once is lost then.
    pub fn launch(on: &ArbiterHandle, node: Arc<NodeContext>) {
        let current: Arc<Mutex<Option<Addr<Sender>>>> = Arc::default();
        let to = current.clone();
        node.webhooks.told_to(move |told| {
            if let Some(sender) = &*to.lock() {
                sender.do_send(Tell(told));
            }
        });
        on.spawn_fn(move || {
            actix::spawn(async move {
                loop {
                    let (_alive, end) = oneshot::channel();
                    *current.lock() = Some(Sender { node: node.clone(), queues: HashMap::new(), _alive }.start());
                    let _ = end.await;
                    tracing::error!("the webhook sender panicked and begins anew");
                    metrics().actor_restarts_total.of("webhooks").inc();
                    tokio::time::sleep(STORE_RETRY).await;
                }
            });
        });
    }

    /// Tells how many jobs wait for a webhook.
    fn count(&self, id: HookId) {
        if let Some(live) = self.node.webhooks.get(id) {
            self.node.webhooks.waits(&live, self.queues.get(&id).map_or(0, |queue| queue.count));
        }
    }

    /// Takes in the jobs that the store holds for a webhook.
    fn load(&mut self, id: HookId, after: Option<JobKey>, ctx: &mut Context<Self>) {
        let node = self.node.clone();
        let read = async move { in_time(node.webhooks.jobs(id, after)).await };
        ctx.spawn(read.into_actor(self).map(move |page, me, ctx| match page {
            Ok(keys) => {
                let Some(last) = keys.last().copied() else { return };
                // Those of other rooms are sent by the nodes that own them.
                let (router, queue) = (&me.node.router, me.queues.entry(id).or_default());
                keys.into_iter().filter(|key| router.owns(router.shard(key.room))).for_each(|key| queue.add(key));
                me.count(id);
                me.pump(id, ctx);
                me.load(id, Some(last), ctx);
            }
            Err(error) => {
                tracing::warn!(%error, "a webhook's jobs could not be read; trying again");
                ctx.run_later(STORE_RETRY, move |me, ctx| me.load(id, after, ctx));
            }
        }));
    }

    /// Sends what may be sent now.
    fn pump(&mut self, id: HookId, ctx: &mut Context<Self>) {
        let Some(live) = self.node.webhooks.get(id) else {
            self.queues.remove(&id);
            return;
        };
        let in_flight_max = self.node.webhooks.config().in_flight_max;
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let mut begun = Vec::new();
        while let Some(key) = queue.next(in_flight_max, Instant::now()) {
            if !self.node.router.owns(self.node.router.shard(key.room)) {
                queue.leave(key.room);
                continue;
            }
            begun.push((key, queue.lines.get(&key.room).map_or(1, |line| line.tries + 1)));
        }
        let once = queue.next_once();
        for (key, tries) in begun {
            let (node, live) = (self.node.clone(), live.clone());
            let work = guarded(async move { attempt(&node, &live, key, tries).await });
            // One that panicked is tried again, with pauses.
            let outcome = work.map(|outcome| outcome.unwrap_or(Outcome::Again { after: None }));
            ctx.spawn(outcome.into_actor(self).map(move |outcome, me, ctx| me.attempted(id, key, outcome, ctx)));
        }
        if let Some(event) = once {
            self.send_once(live, event, ctx);
        }
    }

    fn send_once(&self, live: Arc<Live>, event: Event, ctx: &mut Context<Self>) {
        let (node, id) = (self.node.clone(), live.hook.id);
        let work = guarded(async move { node.outbound.send(call(&live, &event.id, event.body, 1)).await });
        ctx.spawn(work.into_actor(self).map(move |result, me, ctx| {
            let accepted = result.is_some_and(|result| verdict(&result) == Verdict::Accepted);
            let what = if accepted { "delivered" } else { "dropped" };
            metrics().webhook_events_total.of(what).inc();
            if let Some(queue) = me.queues.get_mut(&id) {
                queue.once_under_way = false;
            }
            me.pump(id, ctx);
        }));
    }

    fn attempted(&mut self, id: HookId, key: JobKey, outcome: Outcome, ctx: &mut Context<Self>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.under_way = queue.under_way.saturating_sub(1);
        let config = self.node.webhooks.config();
        let wait = match outcome {
            Outcome::Settled { accepted } => {
                if accepted {
                    (queue.streak, queue.until) = (0, None);
                }
                queue.settle(key);
                self.count(id);
                None
            }
            Outcome::Again { after } => {
                queue.streak = queue.streak.saturating_add(1);
                let chance = rand::random::<f64>();
                if queue.streak > STREAK_FREE {
                    let pause = pause(queue.streak - STREAK_FREE, config.retry_first_ms, config.retry_max_ms, chance);
                    queue.until = Some(Instant::now() + pause);
                    ctx.run_later(pause, move |me, ctx| me.pump(id, ctx));
                }
                let tries = queue.lines.get_mut(&key.room).map_or(1, |line| {
                    line.tries += 1;
                    line.tries
                });
                let own = pause(tries, config.retry_first_ms, config.retry_max_ms, chance);
                Some(own.max(after.unwrap_or_default().min(Duration::from_millis(config.retry_max_ms))))
            }
            Outcome::Store => Some(STORE_RETRY),
        };
        if let Some(wait) = wait {
            ctx.run_later(wait, move |me, ctx| {
                if let Some(queue) = me.queues.get_mut(&id) {
                    queue.ready.push_back(key.room);
                }
                me.pump(id, ctx);
            });
        }
        self.pump(id, ctx);
    }
}

/// What comes of work that may panic without taking the sender with it; none: it did.
async fn guarded<T>(work: impl Future<Output = T>) -> Option<T> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    if done.is_err() {
        tracing::error!("an attempt to send an event panicked");
        metrics().actor_restarts_total.of("webhooks").inc();
    }
    done.ok()
}

fn call(live: &Live, event: &str, body: Bytes, attempt: u32) -> Call {
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: String| {
        let value = HeaderValue::try_from(value).expect("digits, letters and hyphens make a header's value");
        headers.insert(HeaderName::from_static(name), value);
    };
    put(EVENT, event.to_owned());
    put(WEBHOOK, live.hook.id.to_string());
    put(ATTEMPT, attempt.to_string());
    put(SIGNATURE, sign(live.hook.secrets(), now_ms() / 1000, &body));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // What it was when the webhook was made or changed has been looked at; the host is looked at again with every call.
    let url = live.hook.url.parse().expect("a webhook's address was parsed before it was stored");
    Call { method: Method::POST, url, headers, body, answer_bytes_max: 0 }
}

/// Sends a job, and settles it if that can be.
async fn attempt(node: &NodeContext, live: &Live, key: JobKey, tries: u32) -> Outcome {
    let webhooks = &node.webhooks;
    let job = match in_time(webhooks.job(live.hook.id, key)).await {
        Ok(Some(job)) => job,
        Ok(None) => return Outcome::Settled { accepted: false },
        Err(error) => {
            tracing::warn!(%error, "a webhook's job could not be read; trying again");
            return Outcome::Store;
        }
    };
    let result = node.outbound.send(call(live, &job.event(), job.body.clone().into(), tries)).await;
    let status = result.as_ref().ok().map(|answer| answer.status);
    let over = now_ms().saturating_sub(job.made) >= webhooks.config().retry_for_s.saturating_mul(1000);
    let (error, after) = match verdict(&result) {
        Verdict::Accepted => {
            if let Err(error) = in_time(webhooks.done(live, &job)).await {
                tracing::warn!(%error, "an event was accepted and its job could not be taken away; it will be sent again");
                return Outcome::Store;
            }
            return Outcome::Settled { accepted: true };
        }
        Verdict::Refused(error) => (error, None),
        Verdict::Failed(error, after) if !over => {
            webhooks.failed(live, now_ms(), &error);
            metrics().webhook_events_total.of("retried").inc();
            return Outcome::Again { after };
        }
        Verdict::Failed(error, after) => (error, after),
    };
    webhooks.failed(live, now_ms(), &error);
    let why = Why { tries, status, error };
    match in_time(webhooks.bury(live, vec![job], &why, now_ms())).await {
        Ok(()) => Outcome::Settled { accepted: false },
        Err(error) => {
            tracing::warn!(%error, ?after, "a dead letter could not be stored; the event is sent again");
            Outcome::Store
        }
    }
}

impl Actor for Sender {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        for live in self.node.webhooks.all() {
            self.count(live.hook.id);
            self.load(live.hook.id, None, ctx);
        }
    }
}

impl Handler<Tell> for Sender {
    type Result = ();
    fn handle(&mut self, Tell(told): Tell, ctx: &mut Self::Context) {
        let id = match told {
            Told::Jobs(id, keys) => {
                let queue = self.queues.entry(id).or_default();
                keys.into_iter().for_each(|key| queue.add(key));
                self.count(id);
                id
            }
            Told::Once(id, event) => {
                let queue = self.queues.entry(id).or_default();
                if queue.once.len() >= ONCE_MAX {
                    queue.once.pop_front();
                    metrics().webhook_events_total.of("dropped").inc();
                }
                queue.once.push_back(event);
                id
            }
            Told::Changed(id) => {
                if let Some(peers) = self.node.router.peers() {
                    peers.webhooks_changed(&self.node);
                }
                // An operator has mended something, perhaps: look at once.
                if let Some(queue) = self.queues.get_mut(&id) {
                    (queue.streak, queue.until) = (0, None);
                }
                id
            }
            Told::Gained => {
                for live in self.node.webhooks.all() {
                    self.load(live.hook.id, None, ctx);
                }
                return;
            }
            Told::Panic => panic!("a test asked the webhook sender to panic"),
        };
        self.pump(id, ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(room: u64, seq: Seq) -> JobKey {
        JobKey { room: RoomId(room), seq }
    }

    #[test]
    fn a_rooms_events_go_one_after_the_other_and_rooms_do_not_wait_for_each_other() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for k in [key(1, 1), key(1, 2), key(2, 7), key(1, 3)] {
            queue.add(k);
        }
        queue.add(key(1, 2));
        assert_eq!(queue.count, 4, "what is known is not counted twice");
        assert_eq!(queue.next(8, now), Some(key(1, 1)));
        assert_eq!(queue.next(8, now), Some(key(2, 7)));
        assert_eq!(queue.next(8, now), None, "the first room's next one waits for the one before");
        queue.under_way -= 1;
        queue.settle(key(1, 1));
        assert_eq!(queue.next(8, now), Some(key(1, 2)));
        queue.settle(key(2, 7));
        assert_eq!(queue.count, 2);
        assert!(!queue.lines.contains_key(&RoomId(2)), "nothing is kept of a room without jobs");
    }

    #[test]
    fn a_failing_receiver_is_asked_by_one_request_at_a_time() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        (1..=5).for_each(|room| queue.add(key(room, 1)));
        assert!(queue.next(2, now).is_some() && queue.next(2, now).is_some());
        assert_eq!(queue.next(2, now), None, "in_flight_max");
        (queue.under_way, queue.streak) = (0, STREAK_FREE + 1);
        assert!(queue.next(2, now).is_some());
        assert_eq!(queue.next(2, now), None);
        (queue.under_way, queue.until) = (0, Some(now + Duration::from_secs(1)));
        assert_eq!(queue.next(2, now), None, "it pauses");
        assert!(queue.next(2, now + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        assert_eq!(pause(1, 1_000, 60_000, 1.0), Duration::from_secs(1));
        assert_eq!(pause(3, 1_000, 60_000, 1.0), Duration::from_secs(4));
        assert_eq!(pause(3, 1_000, 60_000, 0.0), Duration::from_secs(2));
        assert_eq!(pause(u32::MAX, 1_000, 60_000, 1.0), Duration::from_secs(60));
    }

    #[test]
    fn what_a_receiver_will_not_take_is_told_from_what_it_cannot_take_now() {
        let of = |status: u16| {
            let answer = Answer { status, headers: HeaderMap::new(), body: Bytes::new(), whole: true };
            verdict(&Ok(answer))
        };
        assert_eq!(of(204), Verdict::Accepted);
        assert!([301, 307, 400, 401, 404, 410, 413].map(of).iter().all(|v| matches!(v, Verdict::Refused(_))));
        assert!([408, 425, 429, 500, 502, 503, 599].map(of).iter().all(|v| matches!(v, Verdict::Failed(..))));
        assert!(matches!(verdict(&Err(OutboundError::TimedOut(1))), Verdict::Failed(..)));
        assert!(matches!(verdict(&Err(OutboundError::Refused("private"))), Verdict::Refused(_)));
    }
}
