//! The way to rooms and presence: shard → node → guardian. Also how an answer finds its way back, always.
//!
//! A [`Reply`] that is dropped answers by itself with a retriable error: whatever ends on the way (an actor that panicked, a
//! mailbox that went with it), the caller hears of it and never waits for nothing.

use super::guardian::{Child, Guardian, GuardianMsg};
use super::presence::PresenceMsg;
use super::room::RoomMsg;
use crate::cluster::NodeId;
use crate::cluster::claims::Told;
use crate::error::{ApiError, Code};
use crate::protocol::entry::Caller;
use crate::protocol::ids::{MessageId, Millis, RoomId, Seq, Shard, UserId};
use crate::protocol::ops::{PresencePush, Request};
use crate::protocol::roomlog::Recent;
use actix::prelude::*;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// What a room answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The room.
    pub room: Option<RoomId>,
    /// The entry's seq.
    pub seq: Option<Seq>,
    /// Messages up to it.
    pub n: Option<u64>,
    /// Its id.
    pub id: Option<MessageId>,
    /// When it was numbered.
    pub at: Option<Millis>,
}

impl Answer {
    /// The answer that names an entry.
    pub fn entry(entry: &Recent) -> Answer {
        Answer { room: None, seq: Some(entry.seq), n: Some(entry.n), id: Some(entry.id), at: Some(entry.at) }
    }
}

impl From<Answer> for crate::protocol::ops::Ok {
    fn from(Answer { room, seq, n, id, at }: Answer) -> Self {
        crate::protocol::ops::Ok { room, seq, n, id, at, ..Default::default() }
    }
}

/// The result of a request, on its way to who asked.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Answered {
    /// The asker's own key.
    pub key: u64,
    /// The result.
    pub result: Result<Answer, ApiError>,
}

enum To {
    Actor(Recipient<Answered>, u64),
    Task(oneshot::Sender<Result<Answer, ApiError>>),
    Nobody,
}

/// Answers exactly once. See the module.
pub struct Reply(To);

impl Reply {
    /// To an actor.
    pub fn to(recipient: Recipient<Answered>, key: u64) -> Reply {
        Reply(To::Actor(recipient, key))
    }
    /// To a task.
    pub fn task() -> (Reply, oneshot::Receiver<Result<Answer, ApiError>>) {
        let (tx, rx) = oneshot::channel();
        (Reply(To::Task(tx)), rx)
    }
    /// Answers.
    pub fn send(mut self, result: Result<Answer, ApiError>) {
        self.give(result);
    }
    fn give(&mut self, result: Result<Answer, ApiError>) {
        match std::mem::replace(&mut self.0, To::Nobody) {
            To::Actor(recipient, key) => recipient.do_send(Answered { key, result }),
            To::Task(sender) => drop(sender.send(result)),
            To::Nobody => {}
        }
    }
}
impl Drop for Reply {
    fn drop(&mut self) {
        self.give(Err(lost()));
    }
}

/// The answer when nobody is left to give one: the same request with the same client id settles it.
pub fn lost() -> ApiError {
    ApiError::new(Code::Unavailable, "this part of the server is being rebuilt; send the same request again")
}

/// How a room stands to a user, for a session that wants to follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The room.
    pub room: RoomId,
    /// The user is a member.
    pub member: bool,
    /// The committed head at which that was so.
    pub head: Seq,
}

/// A guardian's address, with what waits for it.
#[derive(Clone)]
pub struct GuardianAddr {
    /// The mailbox.
    pub addr: Addr<Guardian>,
    /// Requests that were sent and not yet taken.
    pub waiting: Arc<AtomicUsize>,
}

/// Requests that may wait for one guardian, over all its rooms.
const WAITING_MAX: usize = 65_536;

/// A room says within this how it stands to a user: longer than an append may take, which it may have to wait for.
const VERDICTS_TIMEOUT: Duration = Duration::from_secs(20);

/// Derived rows are written within this, or read as they are.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Presences say within this what their users are.
const PRESENCES_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module. Guardians are set once, when they have started.
#[derive(Default)]
pub struct Router {
    shards: u32,
    guardians: OnceLock<Vec<GuardianAddr>>,
}

impl Router {
    /// A router for a store with so many shards.
    pub fn new(shards: u32) -> Self {
        Router { shards, guardians: OnceLock::new() }
    }
    /// The guardians, one per thread for rooms.
    pub fn start(&self, guardians: Vec<GuardianAddr>) {
        let _ = self.guardians.set(guardians);
    }
    /// The shard of a room.
    pub fn shard(&self, room: RoomId) -> Shard {
        Shard::of_room(room, self.shards)
    }
    fn guardian(&self, shard: Shard) -> Option<(usize, &GuardianAddr)> {
        let guardians = self.guardians.get()?;
        let index = shard.0 as usize % guardians.len().max(1);
        Some((index, guardians.get(index)?))
    }
    /// All guardians.
    pub fn guardians(&self) -> &[GuardianAddr] {
        self.guardians.get().map_or(&[], |g| g)
    }

    /// Sends to a room's owner. The reply in the message answers `busy` when too much waits.
    pub fn to_room(&self, room: RoomId, msg: RoomMsg) {
        let Some((_, guardian)) = self.guardian(self.shard(room)) else { return };
        if guardian.waiting.load(Ordering::Relaxed) > WAITING_MAX {
            msg.refuse(ApiError::new(Code::Busy, "too much is waiting; try again in a moment"));
            return;
        }
        guardian.waiting.fetch_add(1, Ordering::Relaxed);
        guardian.addr.do_send(GuardianMsg::Room(room, msg));
    }
    /// Passes on what became of a shard to the guardian of its rooms.
    pub fn told(&self, shard: Shard, told: Told) {
        if let Some((_, guardian)) = self.guardian(shard) {
            guardian.addr.do_send(GuardianMsg::Told(told));
        }
    }
    /// A request to a room's owner.
    pub fn ask(&self, caller: Caller, room: RoomId, request: Request, reply: Reply) {
        self.to_room(room, RoomMsg::Ask(Box::new(super::room::Ask { caller, request, reply, screened: false, only_at: None })));
    }

    /// Sends to a user's presence. Dropped when nobody would care: presence is rebuilt from announcements.
    pub fn to_presence(&self, user: UserId, msg: PresenceMsg) {
        if let Some((_, guardian)) = self.guardian(Shard::of_user(user, self.shards)) {
            guardian.waiting.fetch_add(1, Ordering::Relaxed);
            guardian.addr.do_send(GuardianMsg::Presence(user, msg));
        }
    }

    /// Tells the owners that `node` wants the rooms' entries from now on, and asks how each stands to the user.
    pub async fn attach(&self, user: UserId, node: NodeId, rooms: &[RoomId]) -> Result<Vec<Verdict>, ApiError> {
        self.verdicts(user, Some(node), rooms).await
    }

    /// How a room stands to the user, without following it.
    pub async fn look(&self, user: UserId, room: RoomId) -> Result<Verdict, ApiError> {
        self.verdicts(user, None, &[room]).await?.pop().ok_or_else(lost)
    }

    /// Waits until everything that the room has committed is applied, so that what was derived from it can be read. What was never
    /// applied in time, the reader does without.
    pub async fn settle(&self, room: RoomId) {
        let Some((_, guardian)) = self.guardian(self.shard(room)) else { return };
        let (tx, rx) = oneshot::channel();
        guardian.waiting.fetch_add(1, Ordering::Relaxed);
        guardian.addr.do_send(GuardianMsg::Settle(room, tx));
        let _ = tokio::time::timeout(SETTLE_TIMEOUT, rx).await;
    }

    async fn verdicts(&self, user: UserId, node: Option<NodeId>, rooms: &[RoomId]) -> Result<Vec<Verdict>, ApiError> {
        let mut by_guardian: std::collections::BTreeMap<usize, (&GuardianAddr, Vec<RoomId>)> = Default::default();
        for room in rooms {
            let Some((index, guardian)) = self.guardian(self.shard(*room)) else { return Err(lost()) };
            by_guardian.entry(index).or_insert_with(|| (guardian, Vec::new())).1.push(*room);
        }
        let mut answers = Vec::with_capacity(by_guardian.len());
        for (guardian, rooms) in by_guardian.into_values() {
            let (tx, rx) = oneshot::channel();
            guardian.waiting.fetch_add(1, Ordering::Relaxed);
            guardian.addr.do_send(GuardianMsg::Attach { user, node, rooms, reply: tx });
            answers.push(rx);
        }
        let mut out = Vec::with_capacity(rooms.len());
        for answer in answers {
            let answer = tokio::time::timeout(VERDICTS_TIMEOUT, answer).await;
            out.extend(answer.map_err(|_| ApiError::new(Code::Timeout, "a room did not answer in time"))?.map_err(|_| lost())??);
        }
        Ok(out)
    }

    /// For tests: makes a room or presence panic.
    pub fn panic(&self, child: Child) {
        let shard = match child {
            Child::Room(room) => self.shard(room),
            Child::Presence(user) => Shard::of_user(user, self.shards),
        };
        if let Some((_, guardian)) = self.guardian(shard) {
            guardian.addr.do_send(GuardianMsg::Panic(child));
        }
    }

    /// No session of this node needs the room any more.
    pub fn forget_interest(&self, room: RoomId) {
        if let Some((_, guardian)) = self.guardian(self.shard(room)) {
            guardian.waiting.fetch_add(1, Ordering::Relaxed);
            guardian.addr.do_send(GuardianMsg::NoInterest(room));
        }
    }

    /// Which of the users have a connected device.
    pub async fn online(&self, users: &[UserId]) -> Vec<UserId> {
        let mut by_guardian: std::collections::BTreeMap<usize, (&GuardianAddr, Vec<UserId>)> = Default::default();
        for user in users {
            if let Some((index, guardian)) = self.guardian(Shard::of_user(*user, self.shards)) {
                by_guardian.entry(index).or_insert_with(|| (guardian, Vec::new())).1.push(*user);
            }
        }
        let mut out = Vec::new();
        for (guardian, users) in by_guardian.into_values() {
            let (tx, rx) = oneshot::channel();
            guardian.waiting.fetch_add(1, Ordering::Relaxed);
            guardian.addr.do_send(GuardianMsg::Online { users, reply: tx });
            out.extend(rx.await.unwrap_or_default());
        }
        out
    }

    /// What users are now; those without a presence, who are not connected, are left out. So is one that does not answer in time.
    pub async fn presences(&self, users: &[UserId]) -> Vec<PresencePush> {
        let mut answers = Vec::with_capacity(users.len());
        for user in users {
            let (tx, rx) = oneshot::channel();
            self.to_presence(*user, PresenceMsg::Look(tx));
            answers.push(rx);
        }
        let all = async {
            let mut out = Vec::with_capacity(answers.len());
            for answer in answers {
                out.extend(answer.await);
            }
            out
        };
        tokio::time::timeout(PRESENCES_TIMEOUT, all).await.unwrap_or_default()
    }

    /// Begins to watch contacts; gives what they are now. `hub` of this node.
    pub async fn watch(&self, watcher: UserId, hub: usize, users: &[UserId]) -> Vec<PresencePush> {
        let mut answers = Vec::with_capacity(users.len());
        for user in users {
            let (tx, rx) = oneshot::channel();
            self.to_presence(*user, PresenceMsg::Watch { watcher, hub, reply: Some(tx) });
            answers.push(rx);
        }
        let mut out = Vec::with_capacity(users.len());
        for answer in answers {
            out.extend(answer.await);
        }
        out
    }
}
