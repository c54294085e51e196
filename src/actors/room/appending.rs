//! The way of a room's batches into the log. What is done when is decided by [`Appends`] (pure); here it is done, and what is committed
//! is acknowledged, fanned out and handed on.

use super::{APPEND_TIMEOUT, Phase, Room, RoomMsg, members_of, storage_error};
use crate::actors::applier::Applicable;
use crate::actors::delivery::Deliver;
use crate::actors::router::{Answer, Reply};
use crate::bus::{Envelope, Framed, FramedEntry};
use crate::cluster::Mono;
use crate::cluster::append::{Do, Unsettled};
use crate::cluster::shard::Verdict;
use crate::error::{ApiError, Code};
use crate::protocol::entry::Body;
use crate::protocol::ids::{Epoch, Seq, bucket_of};
use crate::protocol::roomlog::Recent;
use crate::storage::{Append, LogRow, StorageError};
use crate::telemetry::metrics;
use actix::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A check that failed is repeated after this.
pub(super) const CHECK_AGAIN: Duration = Duration::from_millis(100);
/// Rights are decided only by who was sure of the shard within so many milliseconds (P8): an owner that was paused may have been
/// followed by another, under whom somebody was put out.
const SURE_MS: u64 = 3_000;

/// What a batch of rows means.
pub(super) struct Batch {
    pub entries: Vec<Applicable>,
    pub replies: Vec<(Reply, Recent)>,
    pub since: Instant,
}

impl Room {
    fn now(&self) -> Mono {
        Mono(self.started.elapsed().as_millis() as u64)
    }

    pub(super) fn append(&mut self, rows: Vec<LogRow>, mut batch: Batch, ctx: &mut Context<Self>) {
        let now = self.now();
        let Phase::Ready(ready) = &mut self.phase else { return };
        let first = rows[0].seq;
        let append = Append {
            room: self.room,
            shard: self.local.node.router.shard(self.room),
            mark_unapplied: !std::mem::replace(&mut ready.marked, true),
            new_bucket: first == 1 || bucket_of(first) != bucket_of(first - 1),
            rows,
        };
        metrics().append_batch_rows.observe(append.rows.len() as f64);
        if crate::sabotage::is("ack_early") {
            for (reply, recent) in batch.replies.drain(..) {
                reply.send(Ok(Answer::entry(&recent)));
            }
        }
        ready.gathering.begun(Instant::now(), batch.entries.len());
        let what = ready.appends.write(now, append, batch);
        self.carry_out(what, ctx);
    }

    fn carry_out(&mut self, what: Vec<Do<Batch>>, ctx: &mut Context<Self>) {
        for what in what {
            match what {
                Do::Write(append, after) => self.write(append, Duration::from_millis(after), ctx),
                Do::Check => self.check(ctx),
                Do::CheckLater => drop(ctx.run_later(CHECK_AGAIN, |me, ctx| {
                    if let Phase::Ready(ready) = &mut me.phase {
                        let what = ready.appends.check();
                        me.carry_out(what, ctx);
                    }
                })),
                Do::Committed(batches, head) => self.committed(batches, head),
                Do::GiveUp(unsettled) => self.give_up(unsettled, ctx),
            }
        }
    }

    fn write(&mut self, append: Append, after: Duration, ctx: &mut Context<Self>) {
        let Phase::Ready(ready) = &self.phase else { return };
        let (epoch, store) = (ready.epoch, self.local.node.store.clone());
        let write = async move {
            if crate::sabotage::is("ack_early") {
                // On a fast disk the append would nearly always win the race that this sabotage is about.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            match tokio::time::timeout(APPEND_TIMEOUT, store.append(append)).await {
                Ok(result) => result,
                Err(_) => Err(StorageError::InDoubt("the append did not end in time".into())),
            }
        };
        ctx.spawn(write.into_actor(self).map(move |result, me, ctx| {
            let now = me.now();
            me.in_life(epoch, ctx, |appends| appends.written(now, result));
        }));
    }

    fn check(&mut self, ctx: &mut Context<Self>) {
        let Phase::Ready(ready) = &self.phase else { return };
        let (node, epoch, room) = (self.local.node.clone(), ready.epoch, self.room);
        let check = async move { node.claims.check(node.router.shard(room), room, epoch).await };
        ctx.spawn(check.into_actor(self).map(move |verdict, me, ctx| me.in_life(epoch, ctx, |appends| appends.checked(verdict))));
    }

    /// Goes on with an answer, unless it is for the life before the last load.
    fn in_life(&mut self, epoch: Epoch, ctx: &mut Context<Self>, with: impl FnOnce(&mut super::Appends<Batch>) -> Vec<Do<Batch>>) {
        let Phase::Ready(ready) = &mut self.phase else { return };
        if ready.epoch != epoch {
            return;
        }
        let what = with(&mut ready.appends);
        self.carry_out(what, ctx);
        self.pump(ctx);
    }

    fn committed(&mut self, batches: Vec<Batch>, head: Seq) {
        let Phase::Ready(ready) = &mut self.phase else { return };
        ready.log.commit(head);
        self.local.node.claims.note_committed(self.room, head);
        self.appended = Instant::now();
        let mut entries: Vec<Applicable> = Vec::new();
        for batch in batches {
            metrics().append_duration_seconds.observe((self.appended - batch.since).as_secs_f64());
            for (reply, recent) in batch.replies {
                reply.send(Ok(Answer::entry(&recent)));
            }
            entries.extend(batch.entries);
        }
        for (entry, _) in &entries {
            metrics().entries_appended_total.of(entry.body.kind()).inc();
        }
        if self.local.is_followed(self.room) {
            let framed: Arc<[FramedEntry]> = entries.iter().map(|(e, _)| Arc::new(Framed::new(e.clone()))).collect();
            self.local.fan_out(self.room, || Envelope::Entries { room: self.room, entries: framed.clone() });
        }
        if entries.iter().any(|(e, _)| matches!(e.body, Body::Member(_) | Body::Room(_))) {
            ready.members = members_of(&ready.log);
        }
        let plain = entries.iter().map(|(e, _)| e.clone()).collect();
        self.local.delivery.do_send(Deliver { room: self.room, entries: plain, members: ready.members.clone() });
        let waiting: Vec<RoomMsg> = ready.on_commit.extract_if(.., |(seq, _)| *seq <= head).map(|(_, msg)| msg).collect();
        self.put_back(waiting);
        if let Phase::Ready(ready) = &mut self.phase
            && ready.appends.is_settled()
        {
            ready.gathering.settled(self.appended, self.queue.len());
        }
        self.apply(entries);
    }

    /// An append failed or stays in doubt, or the shard is lost: answer, forget, load again under a new activation.
    fn give_up(&mut self, unsettled: Unsettled<Batch>, ctx: &mut Context<Self>) {
        tracing::warn!(why = %unsettled.why, "a room gives up what it had not settled, and loads again");
        if let Phase::Ready(ready) = std::mem::replace(&mut self.phase, Phase::Loading) {
            self.queue.extend(ready.on_commit.into_iter().map(|(_, msg)| msg));
        }
        let unknown = || ApiError::new(Code::Unknown, "it is not known whether this was stored; send it again with the same client id");
        for (reply, _) in unsettled.unknown.into_iter().flat_map(|batch| batch.replies) {
            reply.send(Err(unknown()));
        }
        let refused = storage_error(unsettled.why);
        for (reply, _) in unsettled.refused.into_iter().flat_map(|batch| batch.replies) {
            reply.send(Err(refused.clone()));
        }
        self.load(ctx);
    }

    /// Whether rights may be decided now. When not, a check is begun, and what waits goes on after it.
    pub(super) fn is_sure(&mut self, ctx: &mut Context<Self>) -> bool {
        let (node, room) = (self.local.node.clone(), self.room);
        let shard = node.router.shard(room);
        let Phase::Ready(ready) = &mut self.phase else { return true };
        if node.claims.is_sure(shard, SURE_MS) {
            return true;
        }
        ready.finding = true;
        let epoch = ready.epoch;
        let check = async move { node.claims.check(shard, room, epoch).await };
        ctx.spawn(check.into_actor(self).map(move |verdict, me, ctx| {
            let Phase::Ready(ready) = &mut me.phase else { return };
            if ready.epoch != epoch {
                return;
            }
            ready.finding = false;
            match verdict {
                Verdict::Passed => me.pump(ctx),
                Verdict::Again => drop(ctx.run_later(CHECK_AGAIN, |me, ctx| me.pump(ctx))),
                Verdict::Lost => me.step_down(epoch, ctx),
            }
        }));
        false
    }

    /// The shard is another's since this activation.
    pub(super) fn step_down(&mut self, epoch: Epoch, ctx: &mut Context<Self>) {
        if matches!(&self.phase, Phase::Ready(ready) if ready.epoch == epoch) {
            self.fail(StorageError::InDoubt("the shard has another owner".into()), ctx);
        }
    }

    /// Something other than an append went wrong in a way that leaves nothing in memory to be trusted.
    pub(super) fn fail(&mut self, why: StorageError, ctx: &mut Context<Self>) {
        if let Phase::Ready(ready) = &mut self.phase {
            let what = ready.appends.give_up(why);
            self.carry_out(what, ctx);
        }
    }
}
