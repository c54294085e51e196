//! Delivery: what follows from committed entries outside the room, durably: pushes to who is away, webhooks. One per thread for rooms.
//!
//! Each [`Consequence`] is given every committed entry of every room at least once and in order, across crashes: a room's row keeps
//! `followed`, the seq up to which all of them have written down what they owe, and it is raised only afterwards. When a room
//! starts, whatever is above it is read from the log and given again, so a consequence is idempotent by (room, seq). A room
//! ends only when it is followed up to its head.
//! Acknowledging and fan-out never wait for it. Entries wait here in memory up to [`HELD_MAX`]; those that find no place are let go
//! and read from the log when their turn comes. A consequence that fails is tried again, with pauses, and holds up its room alone. Not for
//! good: after [`PATIENCE`] failures the entries are given one by one, and a consequence that fails for one of them while the store takes
//! writes is passed over for that entry, logged and counted.

use super::applier::{Applier, Followed};
use super::node::NodeContext;
use super::reading;
use crate::protocol::entry::Entry;
use crate::protocol::ids::{RoomId, Seq, UserId};
use crate::storage::{Result, StorageError, Table};
use crate::telemetry::metrics;
use actix::prelude::*;
use async_trait::async_trait;
use futures_util::FutureExt;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Entries of a thread's rooms that wait in memory.
const HELD_MAX: usize = 50_000;
/// Entries that are given at once.
const CHUNK: u64 = 512;
/// Rooms that are worked on beside each other: most of the time is waiting for the device.
const ROOMS_AT_ONCE: usize = 32;
/// How long a consequence may take for one chunk.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Failures in a row, about a minute, after which entries are given one by one.
const PATIENCE: u32 = 12;
/// The pause after a failure doubles from the first to the second.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A room's members; none for a channel, whose memberships are not in memory.
pub type Members = Option<Arc<[UserId]>>;

/// Committed entries of one room, and who they concern.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The room.
    pub room: RoomId,
    /// The entries, contiguous, in order; at least one.
    pub entries: Vec<Arc<Entry>>,
    /// The members as the room knows them now.
    pub members: Members,
}

/// Something that follows from committed entries. See the module.
#[async_trait]
pub trait Consequence: Send + Sync + 'static {
    /// Its name, for the log.
    fn name(&self) -> &'static str;
    /// Writes down durably what follows from the entries, and answers then: sending is somebody else's job. Called again with the same
    /// entries after an error, a crash, or an error of another consequence. What concerns nobody must cost next to nothing.
    async fn carry_out(&self, node: &Arc<NodeContext>, committed: &Committed) -> Result<()>;
}

/// A room has started.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Begin {
    /// The room.
    pub room: RoomId,
    /// Followed up to here.
    pub followed: Seq,
    /// Its committed head.
    pub head: Seq,
    /// Its members.
    pub members: Members,
}

/// Committed entries of a room, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliver {
    /// The room.
    pub room: RoomId,
    /// The entries.
    pub entries: Vec<Arc<Entry>>,
    /// Its members.
    pub members: Members,
}

/// The room ends: answered when it is followed up to its head.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Finish {
    /// The room.
    pub room: RoomId,
    /// The answer.
    pub reply: oneshot::Sender<()>,
}

struct Following {
    followed: Seq,
    head: Seq,
    /// The newest entries, contiguous up to the head. What is between `followed` and the first of them is read from the log.
    held: VecDeque<Arc<Entry>>,
    members: Members,
    /// It is being worked on, waits for its turn, or for the end of a pause.
    busy: bool,
    failures: u32,
    /// Up to here entries are given one by one.
    careful_to: Seq,
    finish: Option<oneshot::Sender<()>>,
    /// Tells the work of this life of the room from that of an earlier one.
    life: u64,
}

/// See the module.
pub struct Delivery {
    node: Arc<NodeContext>,
    applier: Addr<Applier>,
    rooms: HashMap<RoomId, Following>,
    /// Rooms with something to do, each once.
    turns: VecDeque<RoomId>,
    working: usize,
    /// Entries in memory, over all rooms.
    held: usize,
    lives: u64,
}

impl Delivery {
    /// With nothing to do. `applier` writes how far a room is followed.
    pub fn new(node: Arc<NodeContext>, applier: Addr<Applier>) -> Self {
        Delivery { node, applier, rooms: HashMap::new(), turns: VecDeque::new(), working: 0, held: 0, lives: 0 }
    }

    /// Lets the room have its turn if there is something to do, or ends it if it waits for that.
    fn wake(&mut self, room: RoomId, ctx: &mut Context<Self>) {
        let Some(state) = self.rooms.get_mut(&room).filter(|s| !s.busy) else { return };
        if state.followed < state.head {
            state.busy = true;
            self.turns.push_back(room);
            self.work(ctx);
        } else if let Some(finish) = state.finish.take() {
            self.forget(room);
            let _ = finish.send(());
        }
    }

    fn forget(&mut self, room: RoomId) {
        if let Some(state) = self.rooms.remove(&room) {
            self.held -= state.held.len();
        }
    }

    fn work(&mut self, ctx: &mut Context<Self>) {
        while self.working < ROOMS_AT_ONCE {
            let Some(room) = self.turns.pop_front() else { return };
            let Some(state) = self.rooms.get_mut(&room) else { continue };
            let (from, life, members) = (state.followed + 1, state.life, state.members.clone());
            let careful = from <= state.careful_to;
            let most = if careful { 1 } else { CHUNK };
            let held = match state.held.front() {
                Some(first) if first.seq == from => state.held.drain(..state.held.len().min(most as usize)).collect(),
                _ => Vec::new(),
            };
            self.held -= held.len();
            let before_held = state.held.front().map_or(state.head, |first| first.seq - 1);
            let to = before_held.min(from + most - 1);
            self.working += 1;
            let node = self.node.clone();
            let work = AssertUnwindSafe(async move {
                let entries = if held.is_empty() { reading::entries(&node, room, from, to).await? } else { held };
                // None: they are no longer kept. Of what is gone nobody is told.
                let Some(last) = entries.last().map(|entry| entry.seq) else { return Ok(to) };
                follow(&node, Committed { room, entries, members }, careful).await?;
                Ok(last)
            })
            .catch_unwind();
            ctx.spawn(work.into_actor(self).map(move |result, me, ctx| me.worked(room, life, result, ctx)));
        }
    }

    fn worked(&mut self, room: RoomId, life: u64, result: std::thread::Result<Result<Seq>>, ctx: &mut Context<Self>) {
        self.working -= 1;
        if let Some(state) = self.rooms.get_mut(&room).filter(|s| s.life == life) {
            match result {
                Ok(Ok(seq)) => {
                    (state.followed, state.failures, state.busy) = (seq, 0, false);
                    self.applier.do_send(Followed { room, seq });
                    self.wake(room, ctx);
                }
                failed => {
                    match failed {
                        Ok(Err(error)) => tracing::warn!(%error, "what follows from entries could not be written down; trying again"),
                        _ => {
                            tracing::error!("what follows from entries panicked; trying again");
                            metrics().actor_restarts_total.of("delivery").inc();
                        }
                    }
                    let pause = (PAUSE_MIN * (1 << state.failures.min(10))).min(PAUSE_MAX);
                    state.failures += 1;
                    if state.failures >= PATIENCE {
                        state.careful_to = state.followed + CHUNK;
                    }
                    ctx.run_later(pause, move |me, ctx| {
                        if let Some(state) = me.rooms.get_mut(&room).filter(|s| s.life == life) {
                            state.busy = false;
                            me.wake(room, ctx);
                        }
                    });
                }
            }
        }
        self.work(ctx);
    }
}

/// Gives the entries to every consequence. `careful`: one entry, for which each has failed often enough to be passed over.
async fn follow(node: &Arc<NodeContext>, committed: Committed, careful: bool) -> Result<()> {
    for consequence in node.consequences.get().into_iter().flatten() {
        match carry_out(&**consequence, node, &committed).await {
            Err(error) if careful && takes_writes(node).await => {
                let seq = committed.entries.first().map(|entry| entry.seq);
                tracing::error!(%error, room = %committed.room, seq, consequence = consequence.name(), "an entry is passed over");
                metrics().delivery_passed_over_total.inc();
            }
            done => done?,
        }
    }
    Ok(())
}

async fn carry_out(consequence: &dyn Consequence, node: &Arc<NodeContext>, committed: &Committed) -> Result<()> {
    let failed = |how: &str| Err(StorageError::Failed(format!("{} {how}", consequence.name()).into()));
    let work = AssertUnwindSafe(consequence.carry_out(node, committed)).catch_unwind();
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => {
            metrics().actor_restarts_total.of("delivery").inc();
            failed("panicked")
        }
        Err(_) => failed("took too long"),
    }
}

/// Whether it is not the store that fails.
async fn takes_writes(node: &NodeContext) -> bool {
    reading::in_time(node.store.put_records(Table::PushJob, b"", Vec::new())).await.is_ok()
}

impl Actor for Delivery {
    type Context = Context<Self>;
}

impl Handler<Begin> for Delivery {
    type Result = ();
    fn handle(&mut self, msg: Begin, ctx: &mut Self::Context) {
        let Begin { room, followed, head, members } = msg;
        self.forget(room);
        self.lives += 1;
        let (held, life) = (VecDeque::new(), self.lives);
        self.rooms.insert(room, Following { followed, head, held, members, busy: false, failures: 0, careful_to: 0, finish: None, life });
        self.wake(room, ctx);
    }
}

impl Handler<Deliver> for Delivery {
    type Result = ();
    fn handle(&mut self, msg: Deliver, ctx: &mut Self::Context) {
        let Some(state) = self.rooms.get_mut(&msg.room) else { return };
        let Some(last) = msg.entries.last() else { return };
        (state.head, state.members) = (last.seq, msg.members);
        if self.held + msg.entries.len() > HELD_MAX {
            // The log has them. What was held before has to go too, for the rest would not be contiguous.
            metrics().delivery_dropped_total.inc_by((state.held.len() + msg.entries.len()) as u64);
            self.held -= state.held.len();
            state.held = VecDeque::new();
        } else {
            self.held += msg.entries.len();
            state.held.extend(msg.entries);
        }
        self.wake(msg.room, ctx);
    }
}

impl Handler<Finish> for Delivery {
    type Result = ();
    fn handle(&mut self, msg: Finish, ctx: &mut Self::Context) {
        match self.rooms.get_mut(&msg.room) {
            Some(state) => {
                state.finish = Some(msg.reply);
                self.wake(msg.room, ctx);
            }
            None => drop(msg.reply.send(())),
        }
    }
}
