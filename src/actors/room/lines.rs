//! How requests come in and wait: in the room's queue, in their sender's line for the filter, or not at all.

use super::{APPLYING_MAX, Ask, Next, Phase, Room, RoomMsg};
use crate::actors::screening;
use crate::cluster::shard::Verdict;
use crate::error::{ApiError, Code};
use crate::protocol::ids::Epoch;
use crate::protocol::ops::Request;
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

    /// Has the shard checked for who asks how the room stands, by a read that begins after the question. Gives back what must wait for the
    /// room to be loaded.
    fn make_sure(&mut self, msg: RoomMsg, ctx: &mut Context<Self>) -> Option<RoomMsg> {
        let Phase::Ready(ready) = &self.phase else { return Some(msg) };
        if self.is_full() {
            msg.refuse(ApiError::new(Code::Busy, "too much is waiting in this room; try again in a moment"));
            return None;
        }
        let epoch = ready.epoch;
        self.unsure.push(msg);
        if self.unsure.len() == 1 {
            self.check_for_unsure(epoch, ctx);
        }
        None
    }

    /// One check at a time is theirs; who asks meanwhile is the next one's.
    fn check_for_unsure(&mut self, epoch: Epoch, ctx: &mut Context<Self>) {
        let (node, room, asked) = (self.local.node.clone(), self.room, self.unsure.len());
        let check = async move { node.claims.check(node.router.shard(room), room, epoch).await };
        ctx.spawn(check.into_actor(self).map(move |verdict, me, ctx| {
            let later = me.unsure.split_off(asked.min(me.unsure.len()));
            for msg in std::mem::replace(&mut me.unsure, later) {
                // Without an answer they wait their turn, and are decided on after the check that comes before that.
                match (verdict, me.is_writing()) {
                    (Verdict::Passed, true) => drop(me.at_once(msg, ctx).map(|msg| me.enqueue(msg))),
                    _ => me.enqueue(msg),
                }
            }
            if verdict == Verdict::Lost {
                me.step_down(epoch, ctx);
            }
            match &me.phase {
                Phase::Ready(ready) if !me.unsure.is_empty() => me.check_for_unsure(ready.epoch, ctx),
                _ => {
                    let rest = std::mem::take(&mut me.unsure);
                    rest.into_iter().for_each(|msg| me.enqueue(msg));
                }
            }
            me.pump(ctx);
        }));
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
            // A head that somebody else has gone beyond would hide what was acknowledged: no check of before the question counts.
            RoomMsg::Verdict { .. } if self.local.node.store.is_shared() => match self.make_sure(msg, ctx) {
                None => return,
                Some(msg) => self.enqueue(msg),
            },
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
