//! The way to rooms and presence: shard → node → guardian. Also how an answer finds its way back, always.
//!
//! What is for a shard of another node goes to its owner (`super::peers`); the functions whose names end in `here` are for what has come
//! to this node.
//! A [`Reply`] that is dropped answers by itself with a retriable error: whatever ends on the way (an actor that panicked, a
//! mailbox that went with it), the caller hears of it and never waits for nothing.

use super::guardian::{Child, Guardian, GuardianMsg};
use super::node::NodeContext;
use super::peers::{Here, Joined, Peers};
use super::presence::PresenceMsg;
use super::room::RoomMsg;
use crate::bus::Envelope;
pub use crate::bus::asks::{Answer, Verdict};
use crate::bus::asks::{Question, Said};
use crate::cluster::NodeId;
use crate::cluster::claims::Told;
use crate::error::{ApiError, Code};
use crate::protocol::entry::Caller;
use crate::protocol::ids::{DeviceId, Millis, RoomId, Shard, UserId};
use crate::protocol::ops::{PresencePush, Request};
use crate::push::Pushes;
use actix::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

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
    Actor(Arc<Recipient<Answered>>, u64),
    Task(oneshot::Sender<Result<Answer, ApiError>>),
    Call(Box<dyn FnOnce(Result<Answer, ApiError>) + Send>),
    Nobody,
}

/// Answers exactly once. See the module.
pub struct Reply {
    to: To,
    /// Where there are other nodes, and this one has taken the request in as the room's owner.
    here: Option<Here>,
    place: Place,
}

/// Where a request came from, among those of its room.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its order in this node's line, if it comes from there.
    pub order: Option<u64>,
    /// The other nodes at which it waits for its answer.
    pub through: Vec<NodeId>,
}

impl Reply {
    /// To an actor, whose address all its requests share: to make one costs more than to send to it.
    pub fn to(recipient: Arc<Recipient<Answered>>, key: u64) -> Reply {
        To::Actor(recipient, key).into()
    }
    /// To a task.
    pub fn task() -> (Reply, oneshot::Receiver<Result<Answer, ApiError>>) {
        let (tx, rx) = oneshot::channel();
        (To::Task(tx).into(), rx)
    }
    /// To whoever takes it; called on any thread, and must not wait.
    pub fn then(call: impl FnOnce(Result<Answer, ApiError>) + Send + 'static) -> Reply {
        To::Call(Box::new(call)).into()
    }
    /// The same for a request that comes from there.
    pub fn placed(mut self, place: Place) -> Reply {
        self.place = place;
        self
    }
    /// The order in which this node has taken the request in as the room's owner; none: it has not.
    pub fn taken_in(&self) -> Option<u64> {
        self.here.as_ref().map(|here| here.order)
    }
    /// See [`Place::through`].
    pub fn through(&self) -> &[NodeId] {
        &self.place.through
    }
    /// Answers.
    pub fn send(mut self, result: Result<Answer, ApiError>) {
        self.give(result);
    }
    fn give(&mut self, result: Result<Answer, ApiError>) {
        match std::mem::replace(&mut self.to, To::Nobody) {
            To::Actor(recipient, key) => recipient.do_send(Answered { key, result }),
            To::Task(sender) => drop(sender.send(result)),
            To::Call(call) => call(result),
            To::Nobody => {}
        }
    }
}
impl From<To> for Reply {
    fn from(to: To) -> Reply {
        Reply { to, here: None, place: Place::default() }
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

/// A guardian's address, with what waits for it.
#[derive(Clone)]
pub struct GuardianAddr {
    /// The mailbox.
    pub addr: Addr<Guardian>,
    /// Requests that were sent and not yet taken.
    pub waiting: Arc<AtomicUsize>,
}

impl GuardianAddr {
    /// Sends something that counts as waiting.
    fn send(&self, msg: GuardianMsg) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.addr.do_send(msg);
    }
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
    peers: Joined,
    node: OnceLock<Weak<NodeContext>>,
}

impl Router {
    /// A router for a store with so many shards.
    pub fn new(shards: u32) -> Self {
        Router { shards, ..Router::default() }
    }
    /// The guardians, one per thread for rooms.
    pub fn start(&self, guardians: Vec<GuardianAddr>) {
        let _ = self.guardians.set(guardians);
    }
    /// From now on there are other nodes.
    pub fn join(&self, node: &Arc<NodeContext>, peers: Arc<Peers>) {
        let _ = self.node.set(Arc::downgrade(node));
        let _ = self.peers.set(peers);
    }
    /// The other nodes, in a cluster.
    pub fn peers(&self) -> Option<&Arc<Peers>> {
        self.peers.get()
    }
    /// The shard of a room.
    pub fn shard(&self, room: RoomId) -> Shard {
        Shard::of_room(room, self.shards)
    }
    /// The shard of a user's presence.
    pub fn shard_of_user(&self, user: UserId) -> Shard {
        Shard::of_user(user, self.shards)
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
    /// The other node that owns a shard; none when it is this one's.
    fn elsewhere(&self, shard: Shard) -> Option<(&Arc<Peers>, Arc<NodeContext>, NodeId)> {
        let peers = self.peers.get()?;
        let node = self.node.get()?.upgrade()?;
        let owner = peers.owner(&node, shard);
        (owner != peers.me()).then_some((peers, node, owner))
    }
    /// Whether a shard is this node's. Of what only one node may do, its owner does it.
    pub fn owns(&self, shard: Shard) -> bool {
        self.elsewhere(shard).is_none()
    }

    /// Sends to a room's owner. The reply in the message answers `busy` when too much waits.
    pub fn to_room(&self, room: RoomId, msg: RoomMsg) {
        match self.elsewhere(self.shard(room)) {
            Some((peers, ..)) => peers.to_room(self.shard(room), room, msg),
            None => self.in_turn(room, msg),
        }
    }
    /// Sends to a room of this node, behind what this node has sent to its former owner.
    pub fn in_turn(&self, room: RoomId, msg: RoomMsg) {
        match self.peers.get().filter(|peers| matches!(msg, RoomMsg::Ask(_)) && peers.has_line(room)) {
            Some(peers) => peers.to_room(self.shard(room), room, msg),
            None => self.to_room_here(room, msg),
        }
    }
    /// Sends to a room of this node.
    pub fn to_room_here(&self, room: RoomId, mut msg: RoomMsg) {
        let shard = self.shard(room);
        let Some((_, guardian)) = self.guardian(shard) else { return };
        if let (Some(peers), RoomMsg::Ask(ask)) = (self.peers.get(), &mut msg)
            && ask.reply.here.is_none()
        {
            ask.reply.here = Here::new(peers.clone(), shard, ask.reply.place.order);
        }
        if guardian.waiting.load(Ordering::Relaxed) > WAITING_MAX {
            msg.refuse(ApiError::new(Code::Busy, "too much is waiting; try again in a moment"));
            return;
        }
        guardian.send(GuardianMsg::Room(room, msg));
    }
    /// Passes on what became of a shard to the guardian of its rooms.
    pub fn told(&self, shard: Shard, told: Told) {
        if let Some((_, guardian)) = self.guardian(shard) {
            guardian.addr.do_send(GuardianMsg::Told(shard, told));
        }
    }
    /// The shard has come to this node: its rooms redo what was not applied.
    pub fn redo(&self, shard: Shard) {
        if let Some((_, guardian)) = self.guardian(shard) {
            guardian.addr.do_send(GuardianMsg::TakeOver(shard));
        }
    }
    /// A request to a room's owner.
    pub fn ask(&self, caller: Caller, room: RoomId, request: Request, reply: Reply) {
        self.to_room(room, RoomMsg::Ask(Box::new(super::room::Ask { caller, request, reply, screened: false, only_at: None })));
    }

    /// Sends to a user's presence. Dropped when nobody would care: presence is rebuilt from announcements.
    pub fn to_presence(&self, user: UserId, msg: PresenceMsg) {
        let shard = self.shard_of_user(user);
        match self.elsewhere(shard) {
            Some((peers, node, owner)) => peers.to_presence(&node, owner, shard, user, msg),
            None => self.to_presence_here(user, msg),
        }
    }
    /// Sends to a presence of this node.
    pub fn to_presence_here(&self, user: UserId, msg: PresenceMsg) {
        if let Some((_, guardian)) = self.guardian(self.shard_of_user(user)) {
            guardian.send(GuardianMsg::Presence(user, msg));
        }
    }

    /// Tells the owners that `node`, this one, wants the rooms' entries from now on, and asks how each stands to the user.
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
        match self.elsewhere(self.shard(room)) {
            Some((peers, ..)) => {
                let (tx, rx) = oneshot::channel();
                peers.to_room(self.shard(room), room, RoomMsg::Settle(tx));
                let _ = tokio::time::timeout(SETTLE_TIMEOUT, rx).await;
            }
            None => self.settle_here(room).await,
        }
    }
    /// The same for a room of this node.
    pub async fn settle_here(&self, room: RoomId) {
        let Some((_, guardian)) = self.guardian(self.shard(room)) else { return };
        let (tx, rx) = oneshot::channel();
        guardian.send(GuardianMsg::Settle(room, tx));
        let _ = tokio::time::timeout(SETTLE_TIMEOUT, rx).await;
    }

    async fn verdicts(&self, user: UserId, node: Option<NodeId>, rooms: &[RoomId]) -> Result<Vec<Verdict>, ApiError> {
        let Some(peers) = self.peers.get() else { return self.verdicts_here(user, node, rooms).await };
        let (here, there): (Vec<RoomId>, Vec<RoomId>) = rooms.iter().partition(|room| self.owns(self.shard(**room)));
        let question = |rooms| Question::Attach { user, rooms, follow: node.is_some() };
        let take = |said| match said {
            Said::Verdicts(verdicts) => Ok(verdicts),
            said => Err(not_said(said)),
        };
        let asked = peers.gather(there, |room| self.shard(room), question, take);
        let (here, (mut out, failed)) = futures_util::join!(self.verdicts_here(user, node, &here), asked);
        out.extend(here?);
        failed.map_or(Ok(out), Err)
    }
    /// The same for rooms of this node.
    pub async fn verdicts_here(&self, user: UserId, node: Option<NodeId>, rooms: &[RoomId]) -> Result<Vec<Verdict>, ApiError> {
        let mut by_guardian: std::collections::BTreeMap<usize, (&GuardianAddr, Vec<RoomId>)> = Default::default();
        for room in rooms {
            let Some((index, guardian)) = self.guardian(self.shard(*room)) else { return Err(lost()) };
            by_guardian.entry(index).or_insert_with(|| (guardian, Vec::new())).1.push(*room);
        }
        let mut answers = Vec::with_capacity(by_guardian.len());
        for (guardian, rooms) in by_guardian.into_values() {
            let (tx, rx) = oneshot::channel();
            guardian.send(GuardianMsg::Attach { user, node, rooms, reply: tx });
            answers.push(rx);
        }
        let mut out = Vec::with_capacity(rooms.len());
        for answer in answers {
            let answer = tokio::time::timeout(VERDICTS_TIMEOUT, answer).await;
            out.extend(answer.map_err(|_| ApiError::new(Code::Timeout, "a room did not answer in time"))?.map_err(|_| lost())??);
        }
        Ok(out)
    }

    /// For tests: makes a room or presence of this node panic.
    pub fn panic(&self, child: Child) {
        let shard = match child {
            Child::Room(room) => self.shard(room),
            Child::Presence(user) => self.shard_of_user(user),
        };
        if let Some((_, guardian)) = self.guardian(shard) {
            guardian.addr.do_send(GuardianMsg::Panic(child));
        }
    }

    /// No session of this node needs the room any more.
    pub fn forget_interest(&self, me: NodeId, room: RoomId) {
        match self.elsewhere(self.shard(room)) {
            Some((peers, node, owner)) => peers.unfollow(&node, owner, room),
            None => self.unfollow_here(me, vec![room]),
        }
    }
    /// A node follows rooms of this one; it is told their heads.
    pub fn follow_here(&self, node: NodeId, rooms: Vec<RoomId>, all: bool) {
        self.each_guardian(rooms, |rooms| GuardianMsg::Follow { node, rooms, all });
    }
    /// A node follows them no more.
    pub fn unfollow_here(&self, node: NodeId, rooms: Vec<RoomId>) {
        self.each_guardian(rooms, |rooms| GuardianMsg::NoInterest(node, rooms));
    }
    fn each_guardian(&self, rooms: Vec<RoomId>, msg: impl Fn(Vec<RoomId>) -> GuardianMsg) {
        let mut by_guardian: Vec<Vec<RoomId>> = vec![Vec::new(); self.guardians().len()];
        for room in rooms {
            if let Some((index, _)) = self.guardian(self.shard(room)) {
                by_guardian[index].push(room);
            }
        }
        for (guardian, rooms) in self.guardians().iter().zip(by_guardian).filter(|(_, rooms)| !rooms.is_empty()) {
            guardian.send(msg(rooms));
        }
    }

    /// Which of the users have a connected device, as far as their presences answer.
    pub async fn online(&self, users: &[UserId]) -> Vec<UserId> {
        let Some(peers) = self.peers.get() else { return self.online_here(users).await };
        let (here, there): (Vec<UserId>, Vec<UserId>) = users.iter().partition(|user| self.owns(self.shard_of_user(**user)));
        let take = |said| match said {
            Said::Users(users) => Ok(users),
            said => Err(not_said(said)),
        };
        let asked = peers.gather(there, |user| self.shard_of_user(user), |users| Question::Online { users }, take);
        let (here, (mut out, _)) = futures_util::join!(self.online_here(&here), asked);
        out.extend(here);
        out
    }
    /// The same for users of this node's shards.
    pub async fn online_here(&self, users: &[UserId]) -> Vec<UserId> {
        let mut by_guardian: std::collections::BTreeMap<usize, (&GuardianAddr, Vec<UserId>)> = Default::default();
        for user in users {
            if let Some((index, guardian)) = self.guardian(self.shard_of_user(*user)) {
                by_guardian.entry(index).or_insert_with(|| (guardian, Vec::new())).1.push(*user);
            }
        }
        let mut out = Vec::new();
        for (guardian, users) in by_guardian.into_values() {
            let (tx, rx) = oneshot::channel();
            guardian.send(GuardianMsg::Online { users, reply: tx });
            out.extend(rx.await.unwrap_or_default());
        }
        out
    }

    /// What users are now; those without a presence, who are not connected, are left out. So is one that does not answer in time.
    pub async fn presences(&self, users: &[UserId]) -> Vec<PresencePush> {
        let all = self.each_presence(users, |users| Question::Look { users }, PresenceMsg::Look);
        tokio::time::timeout(PRESENCES_TIMEOUT, all).await.unwrap_or_default()
    }

    /// Begins to watch contacts; gives what they are now. `hub` of this node, `me`.
    pub async fn watch(&self, me: NodeId, watcher: UserId, hub: usize, users: &[UserId]) -> Vec<PresencePush> {
        let question = |users| Question::Watch { watcher, hub: hub as u32, users };
        self.each_presence(users, question, |reply| PresenceMsg::Watch { node: me, watcher, hub, reply: Some(reply) }).await
    }

    async fn each_presence(
        &self,
        users: &[UserId],
        question: impl Fn(Vec<UserId>) -> Question,
        msg: impl Fn(oneshot::Sender<PresencePush>) -> PresenceMsg,
    ) -> Vec<PresencePush> {
        let (here, there): (Vec<UserId>, Vec<UserId>) = users.iter().partition(|user| self.owns(self.shard_of_user(**user)));
        let mut answers = Vec::with_capacity(here.len());
        for user in here {
            let (tx, rx) = oneshot::channel();
            self.to_presence_here(user, msg(tx));
            answers.push(rx);
        }
        let mut out = Vec::with_capacity(users.len());
        if let Some(peers) = self.peers.get().filter(|_| !there.is_empty()) {
            let take = |said| match said {
                Said::Presences(presences) => Ok(presences),
                said => Err(not_said(said)),
            };
            out = peers.gather(there, |user| self.shard_of_user(user), question, take).await.0;
        }
        for answer in answers {
            out.extend(answer.await);
        }
        out
    }

    /// Tokens of a user, or of one of its devices, are no longer accepted.
    pub fn revoked(&self, node: &NodeContext, user: UserId, device: Option<DeviceId>) {
        match self.peers() {
            Some(peers) => peers.revoked(node, user, device),
            None => node.bus.broadcast(Envelope::Revoked { user, device }),
        }
    }

    /// There are push jobs in a shard that are due then: its owner is told.
    pub fn pushes_due(&self, pushes: &Pushes, shard: Shard, at: Millis) {
        match self.elsewhere(shard) {
            Some((peers, node, owner)) => peers.due(&node, owner, shard, at),
            None => pushes.hint(shard, at),
        }
    }
}

/// The error in an answer that should have been another.
fn not_said(said: Said) -> ApiError {
    match said {
        Said::Failed(error) => error,
        _ => lost(),
    }
}
