//! A room: the only writer of its log. Rebuilt from the log whenever it starts.
//!
//! It decides by [`RoomLog`] (pure), numbers, appends in batches, and only after an append is durable *and* the epoch check that
//! began after it has passed does it acknowledge, fan out and hand the entries on (ownership rules 5 to 7). One append at a time is
//! being written; what arrives meanwhile is the next batch; the check of one batch may overlap the write of the next.
//! After an append that failed or is in doubt nothing in memory is trusted: everybody concerned is answered, and the room is loaded
//! again under a new activation. While the log cannot be written the room goes on to answer who may read.
//! Bounds: `rooms.waiting_max` requests wait, more are refused with `busy`; an idle room is passivated after `rooms.idle_ms`.

use super::applier::{self, Applicable};
use super::delivery;
use super::guardian::{Child, ChildGuard, GuardianMsg, Local};
use super::loading::{self, Loaded};
use super::node::{NodeContext, now_ms};
use super::reading;
use super::router::{Answer, Reply, Verdict, lost};
use super::screening::{self, Lines};
use crate::bus::{Envelope, Framed};
use crate::cluster::append::Appends;
use crate::error::{ApiError, Code};
use crate::protocol::entry::{Body, Caller, Entry, RoomKind};
use crate::protocol::ids::{BUCKET_ENTRIES, ClientId, Epoch, MessageId, Millis, RoomId, Seq, UserId};
use crate::protocol::ops::{Create, MoveCursor, Push, Request, TypingPush};
use crate::protocol::policy::{Act, Place, allows};
use crate::protocol::roomlog::{self, Bounds, Decision, Link, Need, Old, Recent, RoomLog};
use crate::storage::{LogRow, MemberRow, StorageError, record};
use actix::prelude::*;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

mod appending;
mod coming;
mod faults;
mod gathering;
mod lines;

use appending::Batch;
pub use faults::storage_error;
use gathering::{Begin, Gathering};

/// Ids older than this are given back: an id says roughly when its message was sent.
const IDS_KEPT: Duration = Duration::from_secs(1);
/// Encoded bytes of one append at most (they ride in one write of a partition).
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// After the last append the head is told once more, so that a lost envelope is noticed though nothing follows it.
const SETTLED: Duration = Duration::from_millis(500);
/// Entries that may wait for the applier of a thread; above it requests are refused with `busy`.
const APPLYING_MAX: usize = 50_000;
/// A room that cannot write tries to load again after this when somebody wants to write; by itself after as long, doubled each time up to
/// the second figure. In a quiet room nobody asks, and whoever owned it meanwhile may have gone beyond what it knows.
const RELOAD_PAUSE: Duration = Duration::from_millis(500);
const RELOAD_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A room whose shard is being handed over asks again after this whether that is done, for so long.
const MOVING_AGAIN: Duration = Duration::from_millis(10);
const MOVING_MAX: Duration = Duration::from_secs(5);
/// An append takes at most this long, then it is in doubt.
const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A request of a user.
pub struct Ask {
    /// Who.
    pub caller: Caller,
    /// What.
    pub request: Request,
    /// The answer.
    pub reply: Reply,
    /// The filter has seen it.
    pub screened: bool,
    /// Only if this is the room's head, numbered entries included: what the request was decided on by who asks is still so.
    pub only_at: Option<Seq>,
}

/// What reaches a room.
#[derive(Message)]
#[rtype(result = "()")]
pub enum RoomMsg {
    /// A request.
    Ask(Box<Ask>),
    /// Creates the room, or answers with what is there.
    Create {
        /// Who.
        by: UserId,
        /// What.
        create: Box<Create>,
        /// The answer.
        reply: Reply,
    },
    /// Lets a user in who comes by an invite link, unless the room says otherwise.
    Admit {
        /// Who.
        user: UserId,
        /// By which link.
        link: Link,
        /// The answer.
        reply: Reply,
    },
    /// Answered when everything committed so far is applied: reads of derived rows then see it.
    Settle(oneshot::Sender<()>),
    /// How the room stands to a user.
    Verdict {
        /// The user.
        user: UserId,
        /// The answer.
        reply: oneshot::Sender<Result<Verdict, ApiError>>,
    },
    /// Load, redo what is unapplied, tell the head.
    Wake,
    /// End when everything in flight is done.
    Stop,
    /// The shard is another's: give up at once what was begun under this epoch.
    StepDown(Epoch),
    /// For tests: panic.
    Panic,
}

impl RoomMsg {
    /// Answers with an error instead of being carried out.
    pub fn refuse(self, error: ApiError) {
        match self {
            RoomMsg::Ask(ask) => ask.reply.send(Err(error)),
            RoomMsg::Create { reply, .. } | RoomMsg::Admit { reply, .. } => reply.send(Err(error)),
            RoomMsg::Verdict { reply, .. } => drop(reply.send(Err(error))),
            // Reads go on with what is there.
            RoomMsg::Settle(reply) => drop(reply.send(())),
            RoomMsg::Wake | RoomMsg::Stop | RoomMsg::StepDown(_) | RoomMsg::Panic => {}
        }
    }
}

impl RoomMsg {
    /// Answers a request with success.
    fn answer(self, answer: Answer) {
        match self {
            RoomMsg::Ask(ask) => ask.reply.send(Ok(answer)),
            RoomMsg::Create { reply, .. } | RoomMsg::Admit { reply, .. } => reply.send(Ok(answer)),
            RoomMsg::Verdict { .. } | RoomMsg::Settle(_) | RoomMsg::Wake | RoomMsg::Stop | RoomMsg::StepDown(_) | RoomMsg::Panic => {}
        }
    }
}

/// A loaded room.
struct Ready {
    log: RoomLog,
    /// The members, for delivery; made anew only when they change.
    members: delivery::Members,
    epoch: Epoch,
    /// What is on its way into the log.
    appends: Appends<Batch>,
    gathering: Gathering,
    ids: VecDeque<u64>,
    ids_at: Instant,
    asking_ids: bool,
    /// Something the front request needs is being found out.
    finding: bool,
    /// A subscription is being written; whose it is has left the queue.
    subscribing: bool,
    /// What a search for the front request's client id found.
    searched: Option<Option<Recent>>,
    /// The store knows that this room may have unapplied entries; the mark stays until the room ends.
    marked: bool,
    /// Answers that wait for a seq to be committed.
    on_commit: Vec<(Seq, RoomMsg)>,
}

enum Phase {
    Loading,
    Ready(Box<Ready>),
    /// The log cannot be written, but what is committed may be read. Not tried again before the time given.
    ReadOnly(Box<RoomLog>, ApiError, Instant),
}

/// See the module.
pub struct Room {
    room: RoomId,
    local: Rc<Local>,
    guard: ChildGuard,
    phase: Phase,
    queue: VecDeque<RoomMsg>,
    /// Requests that wait for the filter.
    lines: Lines,
    /// Who asked how the room stands, or saw more than it has, and waits until what it knows is sure to be all; see [`Room::make_sure`].
    unsure: Vec<RoomMsg>,
    /// That is being found out.
    making_sure: bool,
    stopping: bool,
    asked_to_stop: bool,
    /// Loads in a row after which it could not write.
    failed_loads: u32,
    started: Instant,
    active: Instant,
    /// The head that was last told to those who follow.
    told: Seq,
    appended: Instant,
}

impl Room {
    /// A room that loads itself when it is started.
    pub fn new(room: RoomId, local: Rc<Local>, guard: ChildGuard) -> Self {
        let now = Instant::now();
        Room {
            room,
            local,
            guard,
            phase: Phase::Loading,
            queue: VecDeque::new(),
            lines: Lines::default(),
            unsure: Vec::new(),
            making_sure: false,
            stopping: false,
            asked_to_stop: false,
            failed_loads: 0,
            started: now,
            active: now,
            told: 0,
            appended: now,
        }
    }

    fn load(&mut self, ctx: &mut Context<Self>) {
        self.phase = Phase::Loading;
        let (node, room, applier) = (self.local.node.clone(), self.room, self.local.applier.clone());
        let load = async move {
            let (reply, halted) = oneshot::channel();
            applier.do_send(applier::Halt { room, reply });
            if tokio::time::timeout(reading::READ_TIMEOUT, halted).await.is_err() {
                let why = StorageError::Failed("what the room's last life wrote has not ended".into());
                return Err(loading::LoadError { why, readable: None });
            }
            loading::load(&node, room).await
        };
        ctx.spawn(load.into_actor(self).map(|loaded, me, ctx| me.loaded(loaded, ctx)));
    }

    fn loaded(&mut self, loaded: Result<Loaded, loading::LoadError>, ctx: &mut Context<Self>) {
        match loaded {
            Ok(loaded) => {
                self.failed_loads = 0;
                let head = loaded.log.committed();
                let (members, followed) = (members_of(&loaded.log), loaded.row.followed.unwrap_or(head));
                self.local.applier.do_send(applier::Begin { row: loaded.row });
                self.apply(loaded.redo);
                self.local.delivery.do_send(delivery::Begin { room: self.room, followed, head, members: members.clone() });
                self.phase = Phase::Ready(Box::new(Ready {
                    log: loaded.log,
                    members,
                    epoch: loaded.epoch,
                    appends: Appends::new(loaded.epoch, head),
                    gathering: Gathering::default(),
                    ids: VecDeque::new(),
                    ids_at: Instant::now(),
                    asking_ids: false,
                    finding: false,
                    subscribing: false,
                    searched: None,
                    marked: false,
                    on_commit: Vec::new(),
                }));
                self.local.fan_out(self.room, || Envelope::Head { room: self.room, head });
                self.told = head;
                self.settle_unsure(ctx);
                self.pump(ctx);
            }
            Err(_) if !self.is_ours(ctx) => {}
            Err(error) => {
                let answer = storage_error(error.why);
                match error.readable {
                    Some(log) => {
                        self.failed_loads = self.failed_loads.saturating_add(1);
                        self.phase = Phase::ReadOnly(log, answer, Instant::now() + RELOAD_PAUSE);
                        self.settle_unsure(ctx);
                        self.pump(ctx);
                    }
                    None => {
                        // Nobody can be answered from here: the next request starts the room anew.
                        for msg in self.queue.drain(..).chain(self.unsure.drain(..)) {
                            msg.refuse(answer.clone());
                        }
                        ctx.stop();
                    }
                }
            }
        }
    }

    /// Whether a room that may not write is this node's all the same. If it is not, what waits goes to its owner; while it is being handed
    /// over, what waits goes on waiting.
    fn is_ours(&mut self, ctx: &mut Context<Self>) -> bool {
        let node = self.local.node.clone();
        let shard = node.router.shard(self.room);
        if node.router.peers().is_none() {
            return true;
        }
        if node.claims.is_moving(shard) && self.started.elapsed() < MOVING_MAX {
            ctx.run_later(MOVING_AGAIN, |me, ctx| me.load(ctx));
            return false;
        }
        if node.claims.is_for_me(shard) {
            return true;
        }
        let elsewhere = !node.router.owns(shard);
        for msg in self.queue.drain(..).chain(self.unsure.drain(..)) {
            match elsewhere {
                true => node.router.to_room(self.room, msg),
                false => msg.refuse(lost()),
            }
        }
        self.guard.settled();
        ctx.stop();
        false
    }

    fn apply(&self, entries: Vec<Applicable>) {
        if !entries.is_empty() {
            self.local.applying.set(self.local.applying.get() + entries.len());
            self.local.applier.do_send(applier::Apply { room: self.room, entries });
        }
    }

    /// Works off what waits, as far as it goes now.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        match &mut self.phase {
            Phase::Loading => return,
            Phase::ReadOnly(log, error, _) => {
                for msg in self.queue.drain(..) {
                    match msg {
                        RoomMsg::Verdict { user, reply } => match verdict(self.room, log, user) {
                            Some(verdict) => drop(reply.send(Ok(verdict))),
                            None => faults::look_up(self.local.node.clone(), self.room, log.committed(), user, reply),
                        },
                        other => other.refuse(error.clone()),
                    }
                }
            }
            Phase::Ready(_) => self.fill(ctx),
        }
        self.end_if_done(ctx);
    }

    /// Decides on waiting requests in order and appends what becomes an entry.
    fn fill(&mut self, ctx: &mut Context<Self>) {
        let mut rows = Vec::new();
        let mut batch = Batch { entries: Vec::new(), replies: Vec::new(), since: Instant::now() };
        let mut bytes = 0;
        while let Some(msg) = self.queue.pop_front() {
            let Phase::Ready(ready) = &mut self.phase else { break };
            // While a batch is being written the next one collects; `at_once` is for what need not wait.
            let full = rows.len() >= self.local.node.config.rooms.batch_max || bytes >= BATCH_BYTES_MAX;
            let next = ready.log.head() + 1;
            let bucket_end = !rows.is_empty() && next.is_multiple_of(BUCKET_ENTRIES);
            let blocked = ready.finding || ready.subscribing || ready.appends.is_writing() || full || bucket_end;
            let begin = match rows.is_empty() && !blocked {
                true => ready.gathering.begin(Instant::now(), self.queue.len() + 1, ready.appends.is_settled()),
                false => Begin::Now,
            };
            if let Begin::After(pause) = begin {
                ctx.run_later(pause, Room::pump);
            }
            if blocked || begin != Begin::Now {
                self.queue.push_front(msg);
                break;
            }
            if !self.is_sure(ctx) {
                self.queue.push_front(msg);
                break;
            }
            match self.decide(msg, ctx) {
                Next::Done => {}
                Next::Wait(msg) => {
                    self.queue.push_front(msg);
                    break;
                }
                Next::Append { by, cid, body, id, at, reply } => {
                    let Phase::Ready(ready) = &mut self.phase else { break };
                    let was = loading::place_before(&ready.log, &body);
                    let entry = ready.log.number(by, cid, body, id, at);
                    let payload = record::encode_entry(&entry);
                    bytes += payload.len();
                    rows.push(LogRow { seq: entry.seq, epoch: ready.epoch, committed: ready.log.committed(), payload });
                    let recent = ready.log.recent(entry.seq).cloned().unwrap_or_else(|| Recent::of(&entry));
                    batch.replies.push((reply, recent));
                    batch.entries.push((Arc::new(entry), was));
                }
            }
        }
        if !rows.is_empty() {
            self.append(rows, batch, ctx);
            self.ask_for_ids(0, ctx);
        }
        // A room that does not exist must not cost an actor for a minute each time somebody asks for it.
        if let Phase::Ready(ready) = &self.phase
            && ready.log.kind().is_none()
            && self.is_quiet()
        {
            self.ask_to_stop();
        }
    }

    fn ask_to_stop(&mut self) {
        if !std::mem::replace(&mut self.asked_to_stop, true) {
            self.local.guardian.do_send(GuardianMsg::MayStop(Child::Room(self.room), self.guard.generation()));
        }
    }

    fn decide(&mut self, msg: RoomMsg, ctx: &mut Context<Self>) -> Next {
        match msg {
            RoomMsg::Ask(ask) => self.ask(ask, ctx),
            RoomMsg::Create { by, create, reply } => self.create(by, create, reply, ctx),
            RoomMsg::Admit { user, link, reply } => self.admit(user, link, reply, ctx),
            RoomMsg::Verdict { user, reply } => self.verdict(user, reply, ctx),
            RoomMsg::Settle(reply) => {
                self.local.applier.do_send(applier::Settle { room: self.room, reply });
                Next::Done
            }
            RoomMsg::Wake | RoomMsg::Stop | RoomMsg::StepDown(_) | RoomMsg::Panic => Next::Done,
        }
    }

    fn ask(&mut self, ask: Box<Ask>, ctx: &mut Context<Self>) -> Next {
        let Phase::Ready(ready) = &mut self.phase else { return Next::Wait(RoomMsg::Ask(ask)) };
        if self.lines.holds(&ask) {
            self.lines.push(ask);
            return Next::Done;
        }
        if ask.only_at.is_some_and(|head| head != ready.log.head()) {
            ask.reply.send(Err(ApiError::new(Code::PreconditionFailed, "something happened in the room since you read it; read it again")));
            return Next::Done;
        }
        let user = ask.caller.user;
        let unseen = self.local.node.filter.is_some() && !ask.screened && screening::draft(user, &ask.request).is_some();
        let searched = ready.searched.take();
        let now = now_ms();
        match ready.log.decide(user, &ask.request, now, searched, bounds(&self.local.node)) {
            Decision::Append(_) if unseen => self.screen(ask, ctx),
            Decision::Append(body) => {
                let Some(id) = self.next_id(ctx) else { return Next::Wait(RoomMsg::Ask(ask)) };
                let cid = roomlog::once(&ask.request).map(|(cid, _)| cid);
                Next::Append { by: user, cid, body, id: MessageId(id), at: now, reply: ask.reply }
            }
            Decision::Repeat(first) if first.seq <= ready.log.committed() => {
                ask.reply.send(Ok(Answer::entry(&first)));
                Next::Done
            }
            Decision::Repeat(first) => {
                ready.on_commit.push((first.seq, RoomMsg::Ask(ask)));
                Next::Done
            }
            Decision::Done => {
                self.done(*ask);
                Next::Done
            }
            Decision::Subscribe(who, role) => self.subscribe(who, role, RoomMsg::Ask(ask), ctx),
            Decision::Need(need) => {
                self.find(user, roomlog::once(&ask.request), need, ctx);
                Next::Wait(RoomMsg::Ask(ask))
            }
            Decision::Refuse(error) => {
                ask.reply.send(Err(error));
                Next::Done
            }
        }
    }

    /// An id, if there is a fresh one; else more are asked for.
    fn next_id(&mut self, ctx: &mut Context<Self>) -> Option<u64> {
        let waiting = self.queue.len();
        let Phase::Ready(ready) = &mut self.phase else { return None };
        if ready.ids_at.elapsed() > IDS_KEPT {
            ready.ids.clear();
        }
        let id = ready.ids.pop_front();
        if id.is_none() {
            self.ask_for_ids(waiting + 1, ctx);
        }
        id
    }

    /// Has as many ids as the next batch may need, before it begins: a batch in which ids run out ends there, however many wait.
    fn ask_for_ids(&mut self, waiting: usize, ctx: &mut Context<Self>) {
        let Phase::Ready(ready) = &mut self.phase else { return };
        let wanted = waiting.max(2 * ready.gathering.usual()).min(super::sequencer::BLOCK_MAX);
        if ready.ids.len() >= wanted || ready.asking_ids {
            return;
        }
        ready.asking_ids = true;
        let (ids, count) = (self.local.node.ids.clone(), (wanted - ready.ids.len()).next_multiple_of(8));
        ctx.spawn(async move { ids.take(count.min(super::sequencer::BLOCK_MAX)).await }.into_actor(self).map(|ids, me, ctx| {
            let Phase::Ready(ready) = &mut me.phase else { return };
            ready.asking_ids = false;
            match ids {
                Ok(ids) => {
                    ready.ids.extend(ids);
                    ready.ids_at = Instant::now();
                    me.pump(ctx);
                }
                // Nothing was done; the sequencer is starting over. Whoever waits goes on waiting until their time limit.
                Err(_) => drop(ctx.run_later(Duration::from_millis(20), |me, ctx| me.pump(ctx))),
            }
        }));
    }

    /// Finds out what a decision needs, then goes on with the same request.
    fn find(&mut self, user: UserId, once: Option<(ClientId, Seq)>, need: Need, ctx: &mut Context<Self>) {
        let Phase::Ready(ready) = &mut self.phase else { return };
        ready.finding = true;
        let (node, room, epoch) = (self.local.node.clone(), self.room, ready.epoch);
        let find = async move { loading::find(&node, room, user, once.map(|(cid, _)| cid), need).await };
        ctx.spawn(find.into_actor(self).map(move |found, me, ctx| {
            let Phase::Ready(ready) = &mut me.phase else { return };
            if ready.epoch != epoch {
                return;
            }
            ready.finding = false;
            match found {
                Ok(loading::Found::Place(user, place)) => ready.log.learn_place(user, place),
                Ok(loading::Found::Old(seq, old)) => ready.log.learn_old(seq, old),
                Ok(loading::Found::Repeat(repeat)) => ready.searched = Some(repeat),
                Ok(loading::Found::Purged) => {
                    let text = "what would have to be searched for a repeat is no longer kept: resume, then look for the client id";
                    if let Some(msg) = me.queue.pop_front() {
                        msg.refuse(ApiError::new(Code::Resync, text));
                    }
                }
                Err(error) => {
                    if let Some(msg) = me.queue.pop_front() {
                        msg.refuse(storage_error(error));
                    }
                }
            }
            me.pump(ctx);
        }));
    }

    /// A request that becomes no entry.
    fn done(&mut self, ask: Ask) {
        if !matches!(self.phase, Phase::Ready(_)) {
            return;
        }
        let user = ask.caller.user;
        match &ask.request {
            Request::Typing(typing) => {
                let push = TypingPush { room: self.room, user, on: typing.on, ttl_ms: self.local.node.config.rooms.typing_ttl_ms };
                let push = Arc::new(Framed::new(Push::Typing(push)));
                self.local.fan_out(self.room, || Envelope::Ephemeral { room: self.room, except: Some(user), push: push.clone() });
                ask.reply.send(Ok(Answer::default()));
            }
            Request::Cursor(cursor) => self.move_cursor(user, cursor.clone(), ask.reply),
            // Nothing was written, so there is no entry to name (a head that the caller may not know least of all).
            _ => ask.reply.send(Ok(Answer::default())),
        }
    }

    fn move_cursor(&self, user: UserId, ask: MoveCursor, reply: Reply) {
        let Phase::Ready(ready) = &self.phase else { return };
        let head = ready.log.committed();
        let read = ask.read.unwrap_or(0).min(head);
        let moved = super::cursor::Moved {
            room: self.room,
            user,
            read,
            delivered: ask.delivered.unwrap_or(0).min(head).max(read),
            read_n: ready.log.n_at(read),
            tell: ready.log.members() <= self.local.node.config.rooms.receipts_members_max,
        };
        actix::spawn(super::cursor::raise(self.local.clone(), moved, reply));
    }

    fn verdict(&mut self, user: UserId, reply: oneshot::Sender<Result<Verdict, ApiError>>, ctx: &mut Context<Self>) -> Next {
        let Phase::Ready(ready) = &mut self.phase else { return Next::Wait(RoomMsg::Verdict { user, reply }) };
        if ready.log.kind().is_some() && ready.log.standing_in_flight(user) {
            ready.on_commit.push((ready.log.head(), RoomMsg::Verdict { user, reply }));
            return Next::Done;
        }
        match verdict(self.room, &ready.log, user) {
            Some(verdict) => {
                let _ = reply.send(Ok(verdict));
                Next::Done
            }
            None => {
                self.find(user, None, Need::Standing(user), ctx);
                Next::Wait(RoomMsg::Verdict { user, reply })
            }
        }
    }

    /// Now and then: tells the head once more when nothing followed, tries to load again what cannot write, and ends a room that is idle.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        if let Phase::Ready(ready) = &self.phase
            && self.told < ready.log.committed()
            && self.appended.elapsed() >= SETTLED
        {
            let head = ready.log.committed();
            self.told = head;
            self.local.fan_out(self.room, || Envelope::Head { room: self.room, head });
        }
        let idle = Duration::from_millis(self.local.node.config.rooms.idle_ms);
        if self.active.elapsed() > idle && self.is_quiet() {
            return self.ask_to_stop();
        }
        if let Phase::ReadOnly(_, _, retry_at) = &self.phase {
            let longer = RELOAD_PAUSE * (2u32.pow(self.failed_loads.clamp(1, 8) - 1) - 1);
            if *retry_at + longer.min(RELOAD_PAUSE_MAX) <= Instant::now() {
                self.load(ctx);
            }
        }
    }

    fn is_quiet(&self) -> bool {
        let nobody_waits = self.queue.is_empty() && self.unsure.is_empty();
        let Phase::Ready(ready) = &self.phase else { return matches!(self.phase, Phase::ReadOnly(..)) && nobody_waits };
        nobody_waits && self.lines.is_empty() && ready.appends.is_settled() && !ready.finding && !ready.subscribing
    }

    fn end_if_done(&mut self, ctx: &mut Context<Self>) {
        if !self.stopping || !self.is_quiet() {
            return;
        }
        self.stopping = false;
        let Phase::Ready(ready) = &self.phase else { return ctx.stop() };
        let (node, room, head) = (self.local.node.clone(), self.room, ready.log.committed());
        let shard = node.router.shard(room);
        let (applying, delivery) = (self.local.applier.clone(), self.local.delivery.clone());
        let end = async move {
            // Everything applied, and a marker: the next life finds a clean tail, and readers need no owner. The marker needs nothing else:
            // the head is committed.
            let applied = async {
                // What follows from the entries comes first: without its mark the room would not be found by a start after a crash.
                let (tx, rx) = oneshot::channel();
                delivery.do_send(delivery::Finish { room, reply: tx });
                if !matches!(tokio::time::timeout(reading::READ_TIMEOUT, rx).await, Ok(Ok(()))) {
                    return false;
                }
                let (tx, rx) = oneshot::channel();
                applying.do_send(applier::Finish { room, reply: tx });
                matches!(tokio::time::timeout(reading::READ_TIMEOUT, rx).await, Ok(Ok(())))
            };
            let mark = async { if head == 0 { Ok(()) } else { reading::in_time(node.store.mark(room, head)).await } };
            let (applied, marked) = tokio::join!(applied, mark);
            if let Err(error) = &marked {
                tracing::warn!(%error, "no marker could be written for a room that ends; its next start reads more");
            }
            node.claims.deactivate(shard, room, marked.is_ok());
            applied && marked.is_ok()
        };
        ctx.spawn(end.into_actor(self).map(|settled, me, ctx| {
            if settled {
                me.guard.settled();
            }
            ctx.stop();
        }));
    }
}

enum Next {
    Done,
    Wait(RoomMsg),
    Append { by: UserId, cid: Option<ClientId>, body: Body, id: MessageId, at: Millis, reply: Reply },
}

/// The limits that decisions are held against.
fn bounds(node: &NodeContext) -> Bounds {
    let rooms = &node.config.rooms;
    Bounds { repeat_window: rooms.repeat_window, members_max: rooms.group_members_max }
}

/// The members as delivery needs them.
fn members_of(log: &RoomLog) -> delivery::Members {
    (log.kind() != Some(RoomKind::Channel)).then(|| log.known_members().collect())
}

/// How a room stands to a user; `None` when that is not known.
fn verdict(room: RoomId, log: &RoomLog, user: UserId) -> Option<Verdict> {
    let head = log.committed();
    let Some(kind) = log.kind() else { return Some(Verdict { room, member: false, head }) };
    let standing = log.place(user)?.standing;
    let member = allows(kind, standing, Act::Read).is_ok() || crate::sabotage::is("no_membership_check");
    Some(Verdict { room, member, head })
}

impl Actor for Room {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        self.load(ctx);
        ctx.run_interval(SETTLED, Room::tick);
    }
}

/// What an old message is, for a decision.
pub fn old_of(entry: &Entry, deleted: bool) -> Old {
    Old { by: entry.body.is_message().then_some(entry.by), deleted }
}

/// A stored membership as a place.
pub fn place_of(member: Option<MemberRow>) -> Place {
    member.map_or(Place::NONE, |row| row.place())
}
