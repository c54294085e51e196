//! How users come into a room and go, where that is more than a request that becomes an entry: its creation, a channel's
//! subscriptions, invite links.

use super::{APPEND_TIMEOUT, Next, Phase, Room, RoomMsg, bounds, storage_error};
use crate::actors::applier;
use crate::actors::node::now_ms;
use crate::actors::router::{Answer, Reply};
use crate::protocol::entry::Role;
use crate::protocol::ids::{MessageId, UserId};
use crate::protocol::ops::Create;
use crate::protocol::roomlog::{self, Decision, Link};
use crate::storage::StorageError;
use actix::prelude::*;
use tokio::sync::oneshot;

impl Room {
    /// A channel's subscription: written durably, then answered; not an entry.
    pub(super) fn subscribe(&mut self, who: UserId, role: Option<Role>, asked: RoomMsg, ctx: &mut Context<Self>) -> Next {
        let Phase::Ready(ready) = &mut self.phase else { return Next::Done };
        if ready.log.standing_in_flight(who) {
            // An entry about the same user would be applied after this and undo it.
            ready.on_commit.push((ready.log.head(), asked));
            return Next::Done;
        }
        // The rows of entries that are still being applied must not overwrite this one: one after the other.
        ready.subscribing = true;
        let (tx, rx) = oneshot::channel();
        let was = ready.log.place(who);
        let seq = ready.log.committed();
        self.local.applier.do_send(applier::Subscribe { room: self.room, user: who, was, role, seq, reply: tx });
        let epoch = ready.epoch;
        let written = async move {
            match tokio::time::timeout(APPEND_TIMEOUT, rx).await {
                Ok(result) => result.unwrap_or_else(|_| Err(StorageError::Failed("the applier ended".into()))),
                Err(_) => Err(StorageError::InDoubt("the subscription was not written in time".into())),
            }
        };
        ctx.spawn(written.into_actor(self).map(move |result, me, ctx| {
            let Phase::Ready(ready) = &mut me.phase else { return };
            if ready.epoch != epoch {
                return; // the life after the last load has read what became of it
            }
            ready.subscribing = false;
            match result {
                Err(StorageError::InDoubt(why)) => {
                    let why = StorageError::InDoubt(why);
                    asked.refuse(storage_error(why.clone()));
                    return me.fail(why, ctx);
                }
                Ok(()) => {
                    ready.log.subscribed(who, role);
                    let room = matches!(asked, RoomMsg::Admit { .. }).then_some(me.room);
                    asked.answer(Answer { room, ..Answer::default() });
                }
                Err(error) => asked.refuse(storage_error(error)),
            }
            me.pump(ctx);
        }));
        Next::Done
    }

    /// Who comes by an invite link. The answer names an entry, or in a channel the room; nothing, when the user was in already.
    pub(super) fn admit(&mut self, user: UserId, link: Link, reply: Reply, ctx: &mut Context<Self>) -> Next {
        let asked = RoomMsg::Admit { user, link, reply };
        let Phase::Ready(ready) = &mut self.phase else { return Next::Wait(asked) };
        if ready.log.standing_in_flight(user) {
            ready.on_commit.push((ready.log.head(), asked));
            return Next::Done;
        }
        let now = now_ms();
        match ready.log.admit(user, link, now, bounds(&self.local.node)) {
            Decision::Append(body) => match (self.next_id(ctx), asked) {
                (Some(id), RoomMsg::Admit { reply, .. }) => Next::Append { by: user, cid: None, body, id: MessageId(id), at: now, reply },
                (_, asked) => Next::Wait(asked),
            },
            Decision::Subscribe(who, role) => self.subscribe(who, role, asked, ctx),
            Decision::Need(need) => {
                self.find(user, None, need, ctx);
                Next::Wait(asked)
            }
            Decision::Refuse(error) => {
                asked.refuse(error);
                Next::Done
            }
            Decision::Done | Decision::Repeat(_) => {
                asked.answer(Answer::default());
                Next::Done
            }
        }
    }

    /// The room's first entry, or what is there already.
    pub(super) fn create(&mut self, by: UserId, create: Box<Create>, reply: Reply, ctx: &mut Context<Self>) -> Next {
        let Phase::Ready(ready) = &mut self.phase else { return Next::Wait(RoomMsg::Create { by, create, reply }) };
        if ready.log.kind().is_some() {
            if ready.log.committed() == 0 {
                ready.on_commit.push((1, RoomMsg::Create { by, create, reply }));
            } else {
                reply.send(Ok(Answer { room: Some(self.room), ..Answer::default() }));
            }
            return Next::Done;
        }
        match self.next_id(ctx) {
            Some(id) => {
                let body = roomlog::creation(by, &create);
                Next::Append { by, cid: Some(create.cid), body, id: MessageId(id), at: now_ms(), reply }
            }
            None => Next::Wait(RoomMsg::Create { by, create, reply }),
        }
    }
}
