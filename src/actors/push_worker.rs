//! The push worker: sends what is owed to devices of its share of the shards. It runs on a thread of its own, so that signing and
//! encrypting hold up no room.
//!
//! It reads the jobs of a shard in pages when they are due: a hint says so at once, and everything is looked through at the start and
//! now and then, so a lost hint delays and loses nothing. Before an attempt it looks whether the notification is still wanted
//! (`super::wanted`), then seals it (`crate::push::jobs`). In memory are at most [`READY_MAX`] notifications; [`SENDS_MAX`] attempts
//! run at once, [`HOST_SENDS_MAX`] of them to one host. A device has one notification at a time in memory, waiting or under way, and a user
//! [`USER_MAX`], so that who answers slowly takes no place from others. A host that fails again and again is left alone for a while; what is held up
//! by that, or by anything else than its rows, is passed over until then, and what lies behind it is sent.

use super::node::{NodeContext, now_ms};
use super::reading::in_time;
use super::wanted::{self, Wanted};
use crate::protocol::ids::{DeviceId, Millis, Seq, Shard, UserId};
use crate::push::jobs::{self, Group, Job, Notification, Plan, Row};
use crate::push::{Outcome, Outgoing};
use crate::storage::Result;
use crate::storage::records::RecordWrite;
use crate::telemetry::metrics;
use actix::ArbiterHandle;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Attempts at once. Each is little more than a connection; several hosts that answer at the last moment must not use them up.
const SENDS_MAX: usize = 256;
/// Attempts at one host at once.
const HOST_SENDS_MAX: usize = 32;
/// Notifications of one user in memory, waiting or under way.
const USER_MAX: usize = 4;
/// A host with as many is asked again after this.
const HOST_FULL_MS: Millis = 500;
/// A notification whose message is not applied yet is looked at again after this.
const NOT_YET_MS: Millis = 200;
/// What goes to a gateway that is not configured (any more) is looked at again after this: it may come back.
const NO_PROVIDER_MS: Millis = 60_000;
/// Notifications that are taken up and wait for their attempt.
const READY_MAX: usize = 128;
/// Shards that are read at once.
const VISITS_MAX: usize = 4;
/// Jobs of one read.
const PAGE: usize = 256;
/// A shard without hints is looked at again after this.
const SWEEP_MS: Millis = 10 * 60 * 1_000;
/// The same in a cluster, where hints may be lost.
const CLUSTER_SWEEP_MS: Millis = 60 * 1_000;
/// Between two looks at a shard.
const GAP_MS: Millis = 50;
/// After an error of the store.
const PAUSE_MS: Millis = 1_000;
/// Failures of a host in a row after which it is left alone.
const HOST_FAILURES: u32 = 5;
/// For how long at most.
const HOST_PAUSE_MAX_MS: Millis = 60_000;
/// Hosts that are remembered because they fail.
const HOSTS_MAX: usize = 4_096;
/// Groups that are remembered because nothing of theirs is to be sent before a time. Those over it are only looked at sooner.
const HELD_MAX: usize = 65_536;

/// Starts a worker; which shards are its, `Pushes::worker` says. A panic ends nothing: it begins anew from the store.
pub fn launch(on: &ArbiterHandle, node: Arc<NodeContext>, index: usize) {
    on.spawn_fn(move || {
        actix::spawn(async move {
            loop {
                let worker = Worker::new(node.clone(), index);
                let _ = AssertUnwindSafe(worker.run()).catch_unwind().await;
                tracing::error!("a push worker panicked and begins anew");
                metrics().actor_restarts_total.of("push_worker").inc();
                tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
            }
        });
    });
}

#[derive(Default)]
struct Host {
    under_way: usize,
    failures: u32,
    blocked_until: Millis,
}

/// What visits and attempts share.
#[derive(Default)]
struct Shared {
    /// Each user's devices with a notification that is ready or under way.
    taken: HashMap<UserId, Vec<DeviceId>>,
    hosts: HashMap<String, Host>,
    /// Groups of which nothing is to be sent before then: their last one was just now, or what it takes is not there.
    held: HashMap<Group, Millis>,
}

impl Shared {
    fn may_take(&self, group: Group) -> bool {
        self.taken.get(&group.user).is_none_or(|devices| devices.len() < USER_MAX && !devices.contains(&group.device))
    }

    fn take(&mut self, group: Group) {
        self.taken.entry(group.user).or_default().push(group.device);
    }

    fn give_back(&mut self, group: Group) {
        if let Some(devices) = self.taken.get_mut(&group.user) {
            devices.retain(|device| *device != group.device);
            if devices.is_empty() {
                self.taken.remove(&group.user);
            }
        }
    }

    /// Takes a place among a host's attempts; or says when to ask again.
    fn begin(&mut self, host: &str, now: Millis) -> std::result::Result<(), Millis> {
        if self.hosts.len() >= HOSTS_MAX {
            self.hosts.retain(|_, h| h.under_way > 0 || h.blocked_until > now);
        }
        let state = self.hosts.entry(host.to_owned()).or_default();
        if state.blocked_until > now {
            return Err(state.blocked_until);
        }
        if state.under_way >= HOST_SENDS_MAX {
            return Err(now + HOST_FULL_MS);
        }
        state.under_way += 1;
        Ok(())
    }

    fn end(&mut self, host: &str, failed: bool, now: Millis) {
        let Some(state) = self.hosts.get_mut(host) else { return };
        state.under_way -= 1;
        state.failures = if failed { state.failures.saturating_add(1) } else { 0 };
        if state.failures >= HOST_FAILURES {
            let doubled = 1_000 << (state.failures - HOST_FAILURES).min(10);
            state.blocked_until = now + HOST_PAUSE_MAX_MS.min(doubled);
        } else if state.under_way == 0 && !failed {
            self.hosts.remove(host);
        }
    }

    fn hold(&mut self, group: Group, until: Millis, now: Millis) {
        if self.held.len() >= HELD_MAX {
            self.held.retain(|_, at| *at > now);
            if self.held.len() >= HELD_MAX {
                self.held.clear();
            }
        }
        self.held.insert(group, until);
    }
}

/// A place among a host's attempts; given back when this is dropped, however the attempt ends.
struct Place<'a> {
    shared: &'a RefCell<Shared>,
    host: String,
    failed: bool,
}
impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.borrow_mut().end(&self.host, self.failed, now_ms());
    }
}

/// A notification that is due, and the writes that seal it.
struct Ready {
    shard: Shard,
    notification: Notification,
    seal: Vec<RecordWrite>,
}

/// What a look at a shard found.
struct Visit {
    ready: Vec<Ready>,
    /// When the next job there is due; none: there is none.
    next: Option<Millis>,
}

enum Event {
    Visited(Shard, Result<Visit>),
    /// An attempt is over: its device has its turn again, the group not before this.
    Settled(Shard, Group, Millis),
}

struct Worker {
    node: Arc<NodeContext>,
    shared: Rc<RefCell<Shared>>,
    /// When each shard is looked at next.
    visits: BTreeSet<(Millis, Shard)>,
    at: HashMap<Shard, Millis>,
    visiting: HashSet<Shard>,
    ready: VecDeque<Ready>,
    sending: usize,
    under_way: FuturesUnordered<LocalBoxFuture<'static, Event>>,
    index: usize,
}

impl Worker {
    fn new(node: Arc<NodeContext>, index: usize) -> Worker {
        let mut worker = Worker {
            shared: Rc::default(),
            visits: BTreeSet::new(),
            at: HashMap::new(),
            visiting: HashSet::new(),
            ready: VecDeque::new(),
            sending: 0,
            under_way: FuturesUnordered::new(),
            node,
            index,
        };
        let pushes = worker.node.pushes.clone();
        for shard in (0..pushes.shards()).map(Shard).filter(|shard| pushes.worker(*shard) == index) {
            worker.schedule(shard, 0);
        }
        worker
    }

    async fn run(mut self) {
        let node = self.node.clone();
        loop {
            for (shard, due) in node.pushes.take_hints(self.index) {
                self.schedule(shard, due);
            }
            self.begin();
            metrics().push_under_way.set(self.sending as i64);
            let now = now_ms();
            let wait = match self.visits.first() {
                Some((at, _)) if self.visiting.len() < VISITS_MAX && self.ready.len() < READY_MAX => {
                    at.saturating_sub(now).clamp(1, 60_000)
                }
                _ => 60_000,
            };
            tokio::select! {
                () = node.pushes.hinted(self.index) => {}
                Some(event) = self.under_way.next(), if !self.under_way.is_empty() => self.take(event),
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
            }
        }
    }

    /// The shard is to be looked at no later than this.
    fn schedule(&mut self, shard: Shard, at: Millis) {
        let at = match self.at.get(&shard) {
            Some(sooner) if *sooner <= at => return,
            Some(later) => {
                self.visits.remove(&(*later, shard));
                at
            }
            None => at,
        };
        self.at.insert(shard, at);
        self.visits.insert((at, shard));
    }

    /// Begins attempts and visits, as many as may run.
    fn begin(&mut self) {
        if self.node.draining.load(Ordering::Relaxed) {
            return;
        }
        while self.sending < SENDS_MAX
            && let Some(ready) = self.ready.pop_front()
        {
            self.sending += 1;
            let (node, shared) = (self.node.clone(), self.shared.clone());
            self.under_way.push(async move { attempt(node, shared, ready).await }.boxed_local());
        }
        let now = now_ms();
        while self.visiting.len() < VISITS_MAX && self.ready.len() < READY_MAX {
            // A shard that is being looked at is not looked at once more: its turn comes when that is over.
            let Some((at, shard)) = self.visits.iter().find(|(_, shard)| !self.visiting.contains(shard)).copied() else { return };
            if at > now {
                return;
            }
            self.visits.remove(&(at, shard));
            self.at.remove(&shard);
            if !self.node.router.owns(shard) {
                // Its owner sends these. Should it come to this node, that is hinted at.
                self.schedule(shard, now + SWEEP_MS);
                continue;
            }
            self.visiting.insert(shard);
            let (node, shared) = (self.node.clone(), self.shared.clone());
            self.under_way.push(async move { Event::Visited(shard, visit(&node, &shared, shard).await) }.boxed_local());
        }
    }

    fn take(&mut self, event: Event) {
        let now = now_ms();
        match event {
            Event::Visited(shard, found) => {
                self.visiting.remove(&shard);
                let next = match found {
                    Ok(visit) => {
                        self.ready.extend(visit.ready);
                        // In a cluster the hint that there is something may have been lost on its way here.
                        let sweep = if self.node.router.peers().is_some() { CLUSTER_SWEEP_MS } else { SWEEP_MS };
                        visit.next.unwrap_or(now + sweep)
                    }
                    Err(error) => {
                        tracing::warn!(%error, "push jobs could not be read; trying again");
                        now + PAUSE_MS
                    }
                };
                self.schedule(shard, next.max(now + GAP_MS));
            }
            Event::Settled(shard, group, again) => {
                self.sending -= 1;
                let mut shared = self.shared.borrow_mut();
                shared.give_back(group);
                if again > now {
                    shared.hold(group, again, now);
                }
                drop(shared);
                self.schedule(shard, now);
            }
        }
    }
}

/// Looks through a shard's jobs: what is due is taken, what is over its time removed.
async fn visit(node: &NodeContext, shared: &RefCell<Shared>, shard: Shard) -> Result<Visit> {
    let mut visit = Visit { ready: Vec::new(), next: None };
    let (mut after, mut rest): (Option<Vec<u8>>, Vec<Job>) = (None, Vec::new());
    loop {
        let (page, last) = in_time(jobs::page(&*node.store, shard, after.as_deref(), PAGE)).await?;
        rest.extend(page);
        // The last group of a page may go on in the next one, unless it is too long for one look already.
        while let Some(first) = rest.first().map(|(group, ..)| *group) {
            let length = rest.iter().take_while(|(group, ..)| *group == first).count();
            if length == rest.len() && last.is_some() && length < PAGE {
                break;
            }
            let rows: Vec<(Seq, Row)> = rest.drain(..length).map(|(_, seq, row)| (seq, row)).collect();
            look(node, shared, shard, first, rows, &mut visit).await?;
            if visit.ready.len() >= READY_MAX / VISITS_MAX {
                visit.next = Some(0);
                return Ok(visit);
            }
        }
        match last {
            Some(last) => after = Some(last),
            None => return Ok(visit),
        }
    }
}

async fn look(
    node: &NodeContext,
    shared: &RefCell<Shared>,
    shard: Shard,
    group: Group,
    rows: Vec<(Seq, Row)>,
    visit: &mut Visit,
) -> Result<()> {
    if !shared.borrow().may_take(group) {
        return Ok(()); // its end brings us here again
    }
    let (now, ttl) = (now_ms(), node.config.push.ttl_s.saturating_mul(1_000));
    let (rows, over): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, row)| row.at.saturating_add(ttl) > now);
    if !over.is_empty() {
        metrics().push_settled_total.of("expired").inc_by(over.len() as u64);
        let removals = over.iter().map(|(seq, row)| jobs::remove(group, *seq, row)).collect();
        in_time(jobs::write(&*node.store, shard, removals)).await?;
    }
    if rows.is_empty() {
        return Ok(());
    }
    let not_before = shared.borrow().held.get(&group).copied().unwrap_or(0);
    let next = match jobs::plan(group, &rows, now, not_before) {
        Plan::Wait(until) => until,
        Plan::Join(writes, due) => {
            in_time(jobs::write(&*node.store, shard, writes)).await?;
            due
        }
        Plan::Send(notification, seal) => {
            shared.borrow_mut().take(group);
            visit.ready.push(Ready { shard, notification, seal });
            return Ok(());
        }
    };
    visit.next = Some(visit.next.map_or(next, |first| first.min(next)));
    Ok(())
}

/// Sends a notification, unless it is not wanted any more. Never fails: what went wrong is found in the store again.
async fn attempt(node: Arc<NodeContext>, shared: Rc<RefCell<Shared>>, ready: Ready) -> Event {
    let (shard, group) = (ready.shard, ready.notification.group);
    let again = match AssertUnwindSafe(settle(&node, &shared, ready)).catch_unwind().await {
        Ok(Ok(again)) => again,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a push could not be settled; trying again");
            now_ms() + PAUSE_MS
        }
        Err(_) => {
            tracing::error!("an attempt to push panicked; trying again");
            metrics().actor_restarts_total.of("push_worker").inc();
            now_ms() + PAUSE_MS
        }
    };
    Event::Settled(shard, group, again)
}

/// Answers before when the group is not to be looked at again.
async fn settle(node: &NodeContext, shared: &RefCell<Shared>, ready: Ready) -> Result<Millis> {
    let Ready { shard, notification, seal } = ready;
    let (group, seq) = (notification.group, notification.seq);
    let (subscription, payload) = match wanted::look(node, &notification).await? {
        Wanted::Yes(subscription, payload) => (subscription, payload),
        Wanted::NotYet => return Ok(now_ms() + NOT_YET_MS),
        Wanted::No(why) => {
            metrics().push_settled_total.of(why).inc();
            let mut writes = seal;
            writes.retain(|write| write.value.is_none());
            writes.push(jobs::remove(group, seq, &notification.row));
            in_time(jobs::write(&*node.store, shard, writes)).await?;
            return Ok(now_ms());
        }
    };
    let Some(provider) = node.pushes.provider(&subscription.target) else {
        return Ok(now_ms() + NO_PROVIDER_MS);
    };
    let host = subscription.target.host();
    if let Err(until) = shared.borrow_mut().begin(&host, now_ms()) {
        return Ok(until);
    }
    let mut place = Place { shared, host, failed: false };
    in_time(jobs::write(&*node.store, shard, seal)).await?;
    let left = (notification.row.at / 1_000 + node.config.push.ttl_s).saturating_sub(now_ms() / 1_000).max(1);
    let outgoing = Outgoing { id: notification.id(), payload: payload.encode(), ttl_s: left, urgent: notification.row.mention };
    let outcome = provider.attempt(&subscription.target, &outgoing).await;
    place.failed = matches!(outcome, Outcome::Later(..));
    drop(place);
    let now = now_ms();
    let removal = jobs::remove(group, seq, &notification.row);
    let mut next = now;
    let write = match outcome {
        Outcome::Sent => {
            metrics().push_attempts_total.of("sent").inc();
            metrics().push_settled_total.of("sent").inc();
            metrics().push_delay_seconds.observe(now.saturating_sub(notification.row.at) as f64 / 1_000.0);
            next = now + node.config.push.interval_ms;
            removal
        }
        Outcome::Gone => {
            metrics().push_attempts_total.of("gone").inc();
            node.pushes.subscriptions.end(group.user, &subscription).await?;
            metrics().push_settled_total.of("gone").inc();
            removal
        }
        Outcome::Refused(why) => {
            tracing::warn!(%why, "a push was refused and is given up");
            metrics().push_attempts_total.of("refused").inc();
            metrics().push_settled_total.of("refused").inc();
            removal
        }
        Outcome::Later(asked, why) => {
            tracing::debug!(%why, attempts = notification.row.attempts, "a push is tried again later");
            metrics().push_attempts_total.of("later").inc();
            let asked = asked.map(|d| d.as_millis() as Millis);
            jobs::put(group, seq, &jobs::postponed(&notification.row, now, asked, rand::random()))
        }
    };
    in_time(jobs::write(&*node.store, shard, vec![write])).await?;
    Ok(next)
}
