//! How requests come in and wait: in the room's queue, in their sender's line for the filter, or not at all.

use super::appending::CHECK_AGAIN;
use super::{APPLYING_MAX, Ask, Next, Phase, Room, RoomMsg, storage_error};
use crate::actors::reading::in_time;
use crate::actors::screening;
use crate::cluster::shard::Verdict;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Epoch, Seq};
use crate::protocol::ops::Request;
use crate::protocol::roomlog;
use crate::storage::StorageError;
use actix::prelude::*;
use std::time::Instant;

impl Room {
    pub(super) fn is_writing(&self) -> bool {
        matches!(&self.phase, Phase::Ready(ready) if ready.appends.is_writing())
    }

    pub(super) fn enqueue(&mut self, msg: RoomMsg) {
        if self.is_full() || self.local.applying.get() > APPLYING_MAX {
            msg.refuse(ApiError::new(Code::Busy, "too much is waiting in this room; try again in a moment"));
        } else {
            self.queue.push_back(msg);
        }
    }

    fn is_full(&self) -> bool {
        self.queue.len() + self.lines.len() + self.unsure.len() >= self.local.node.config.rooms.waiting_max
    }

    /// Answers what needs neither an append nor a look at the store while a batch is being written, however long that takes: reading and
    /// typing go on when the disk does not. Gives back what must wait its turn.
    pub(super) fn at_once(&mut self, msg: RoomMsg, ctx: &mut Context<Self>) -> Option<RoomMsg> {
        let Phase::Ready(ready) = &self.phase else { return Some(msg) };
        let user = match &msg {
            RoomMsg::Verdict { user, .. } => *user,
            RoomMsg::Ask(ask) if matches!(ask.request, Request::Typing(_)) => ask.caller.user,
            _ => return Some(msg),
        };
        let known = ready.log.place(user).is_some() && !ready.log.standing_in_flight(user);
        // What was searched is for the request at the front of the queue.
        if !ready.appends.is_writing() || ready.log.kind().is_none() || !known || ready.searched.is_some() {
            return Some(msg);
        }
        match self.decide(msg, ctx) {
            Next::Wait(msg) => Some(msg),
            Next::Done | Next::Append { .. } => None,
        }
    }

    /// Takes in who asks how the room stands, or has seen more than it has, where others may own it too: a head that somebody else has gone
    /// beyond would hide what was acknowledged, so nothing that was learned before the question counts.
    fn make_sure(&mut self, msg: RoomMsg, ctx: &mut Context<Self>) {
        if self.is_full() {
            return msg.refuse(ApiError::new(Code::Busy, "too much is waiting in this room; try again in a moment"));
        }
        self.unsure.push(msg);
        self.settle_unsure(ctx);
    }

    /// Whether who asks has seen entries that this room does not know of.
    fn is_behind(&self, request: &Request) -> bool {
        let Phase::Ready(ready) = &self.phase else { return false };
        self.local.node.store.is_shared() && roomlog::once(request).is_some_and(|(_, since)| since > ready.log.head())
    }

    /// Makes sure for those who wait for it: by a check that the shard is this node's or, in a room that cannot write, by a look at where the
    /// log ends. One at a time is theirs; who asks meanwhile is the next one's. While the room loads they wait.
    pub(super) fn settle_unsure(&mut self, ctx: &mut Context<Self>) {
        if self.unsure.is_empty() || self.making_sure {
            return;
        }
        let (node, room, asked) = (self.local.node.clone(), self.room, self.unsure.len());
        match &self.phase {
            Phase::Loading => {}
            Phase::Ready(ready) => {
                let epoch = ready.epoch;
                self.making_sure = true;
                let check = async move { node.claims.check(node.router.shard(room), room, epoch).await };
                ctx.spawn(check.into_actor(self).map(move |verdict, me, ctx| me.checked_for(asked, epoch, verdict, ctx)));
            }
            Phase::ReadOnly(..) => {
                self.making_sure = true;
                let look = async move { in_time(node.store.ends(&[room])).await };
                ctx.spawn(look.into_actor(self).map(move |ends, me, ctx| {
                    let top = ends.ok().and_then(|ends| ends.last().map(|end| end.top));
                    me.looked_for(asked, top, ctx);
                }));
            }
        }
    }

    fn checked_for(&mut self, asked: usize, epoch: Epoch, verdict: Verdict, ctx: &mut Context<Self>) {
        self.making_sure = false;
        if verdict == Verdict::Passed {
            for msg in self.take_unsure(asked) {
                match self.is_writing() {
                    true => drop(self.at_once(msg, ctx).map(|msg| self.enqueue(msg))),
                    false => self.enqueue(msg),
                }
            }
        }
        if verdict == Verdict::Lost {
            self.step_down(epoch, ctx);
        }
        if verdict == Verdict::Again {
            // Who has given up need not be told.
            self.unsure.retain(|msg| !matches!(msg, RoomMsg::Verdict { reply, .. } if reply.is_closed()));
            ctx.run_later(CHECK_AGAIN, |me, ctx| me.settle_unsure(ctx));
        } else {
            self.settle_unsure(ctx);
        }
        self.pump(ctx);
    }

    /// What a room that cannot write knows is all that there is only when the log ends there.
    fn looked_for(&mut self, asked: usize, top: Option<Seq>, ctx: &mut Context<Self>) {
        self.making_sure = false;
        if let Phase::ReadOnly(log, ..) = &self.phase {
            let knows_all = top.is_some_and(|top| top <= log.committed());
            for msg in self.take_unsure(asked) {
                match knows_all {
                    true => self.enqueue(msg),
                    false => msg.refuse(storage_error(StorageError::NotOwner("another node may have gone on"))),
                }
            }
        }
        self.settle_unsure(ctx);
        self.pump(ctx);
    }

    /// The first of those who wait to be sure.
    fn take_unsure(&mut self, count: usize) -> Vec<RoomMsg> {
        let later = self.unsure.split_off(count.min(self.unsure.len()));
        std::mem::replace(&mut self.unsure, later)
    }

    /// Asks the filter about a request, which begins its sender's line.
    pub(super) fn screen(&mut self, ask: Box<Ask>, ctx: &mut Context<Self>) -> Next {
        let user = ask.caller.user;
        let (Some(filter), Some(draft)) = (self.local.node.filter.clone(), screening::draft(user, &ask.request)) else {
            return Next::Wait(RoomMsg::Ask(ask));
        };
        self.lines.push(ask);
        ctx.spawn(async move { filter.screen(draft).await }.into_actor(self).map(move |screened, me, ctx| {
            let line = me.lines.end(user, screened);
            me.put_back(line.into_iter().map(RoomMsg::Ask).collect());
            me.pump(ctx);
        }));
        Next::Done
    }

    /// Puts requests that were taken from the queue back to its front, in order. What was found out, or is being found out, is for the
    /// front request: that one stays where it is.
    pub(super) fn put_back(&mut self, messages: Vec<RoomMsg>) {
        let is_finding = matches!(&self.phase, Phase::Ready(ready) if ready.finding || ready.searched.is_some());
        let at = usize::from(is_finding).min(self.queue.len());
        for msg in messages.into_iter().rev() {
            self.queue.insert(at, msg);
        }
    }
}

impl Handler<RoomMsg> for Room {
    type Result = ();
    fn handle(&mut self, msg: RoomMsg, ctx: &mut Self::Context) {
        self.active = Instant::now();
        match msg {
            RoomMsg::Stop => self.stopping = true,
            RoomMsg::StepDown(epoch) => return self.step_down(epoch, ctx),
            RoomMsg::Panic => panic!("a test asked the room to panic"),
            RoomMsg::Wake => {}
            RoomMsg::Verdict { .. } if self.local.node.store.is_shared() && !crate::sabotage::is("unsure_head") => {
                return self.make_sure(msg, ctx);
            }
            // It saw more than this room has: of an owner that this node does not know of?
            RoomMsg::Ask(ref ask) if self.is_behind(&ask.request) => return self.make_sure(msg, ctx),
            RoomMsg::Verdict { .. } | RoomMsg::Ask(_) if self.is_writing() => match self.at_once(msg, ctx) {
                None => return,
                Some(msg) => self.enqueue(msg),
            },
            msg => self.enqueue(msg),
        }
        if let Phase::ReadOnly(_, _, retry_at) = &self.phase
            && *retry_at <= self.active
            && !self.queue.iter().all(|m| matches!(m, RoomMsg::Verdict { .. }))
        {
            // Somebody wants to write: perhaps the log can be written again.
            return self.load(ctx);
        }
        self.pump(ctx);
    }
}
