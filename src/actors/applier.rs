//! The applier: carries out what follows from committed entries. One per thread for rooms; the rooms' jobs run beside each other,
//! one room's jobs one after the other.
//!
//! It writes derived rows (memberships, folded bodies, mentions, the room's row), then tells the users whose membership began.
//! Everything is redone from the log when a room starts, so losing what waits here loses nothing. A write that fails is tried
//! again until it succeeds; meanwhile rooms refuse requests when too much waits (`Local::applying`).

use super::guardian::{Child, Guardian, GuardianMsg};
use super::node::{NodeContext, now_ms};
use super::presence::PresenceMsg;
use super::reading::in_time;
use crate::bus::UserEvent;
use crate::protocol::entry::{Entry, Role};
use crate::protocol::ids::{RoomId, Seq, UserId};
use crate::protocol::policy::Place;
use crate::protocol::resume;
use crate::storage::derive::{self, Deriving};
use crate::storage::directory;
use crate::storage::{Effect, FoldRow, Result, RoomRow};
use crate::telemetry::metrics;
use crate::webhooks::event;
use actix::prelude::*;
use futures_util::FutureExt;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Entries carried out in one write.
const CHUNK: usize = 1_024;
/// Pause before a failed write is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How far a room is followed is written with its next entries, or after this: after a crash so much may be followed again.
const NOTED_AFTER: Duration = Duration::from_millis(100);
/// A room's row is written so often over any longer time, and so many times before that at once: in a busy room, entries from which nothing
/// follows but the row wait for the next time, so that it is not written with every batch. In other rooms it is as new as can be. Whoever
/// asks for what was derived ([`Settle`]) waits for none of this.
const ROW_EVERY: Duration = Duration::from_millis(250);
const ROW_AT_ONCE: u32 = 8;
/// With more entries than this waiting on a thread, nothing is put off.
const PUT_OFF_MAX: usize = 10_000;

/// An entry, and the place before it of the user whose membership it changes.
pub type Applicable = (Arc<Entry>, Option<Place>);

/// A room has started; its row as stored.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Begin {
    /// The row.
    pub row: RoomRow,
}

/// Committed entries, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Apply {
    /// The room.
    pub room: RoomId,
    /// The entries.
    pub entries: Vec<Applicable>,
}

/// A channel's subscription: written durably before the answer.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Subscribe {
    /// The room.
    pub room: RoomId,
    /// Who.
    pub user: UserId,
    /// The place before.
    pub was: Option<Place>,
    /// The role from now on; none: the subscription ends.
    pub role: Option<Role>,
    /// The committed head.
    pub seq: Seq,
    /// The answer.
    pub reply: oneshot::Sender<Result<()>>,
}

/// Answered when everything that was committed before is applied.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Settle {
    /// The room.
    pub room: RoomId,
    /// The answer.
    pub reply: oneshot::Sender<()>,
}

/// What follows from the room's entries outside of it is written down up to this seq (`super::delivery`).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Followed {
    /// The room.
    pub room: RoomId,
    /// The seq.
    pub seq: Seq,
}

/// The room ends: when everything of it is applied, its mark is cleared and this answered.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Finish {
    /// The room.
    pub room: RoomId,
    /// The answer.
    pub reply: oneshot::Sender<()>,
}

/// Halts what an earlier life of a room left here: what waits is dropped (the log has it), what is being written ends first. Answered
/// when nothing of the room is under way, so that a load reads rows that belong together.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Halt {
    /// The room.
    pub room: RoomId,
    /// The answer.
    pub reply: oneshot::Sender<()>,
}

/// Entries counted as waiting, until this is dropped: wherever their job ends.
struct Load {
    applying: Rc<Cell<usize>>,
    entries: usize,
}
impl Load {
    fn absorb(&mut self, mut other: Load) {
        self.entries += std::mem::take(&mut other.entries);
    }
}
impl Drop for Load {
    fn drop(&mut self) {
        self.applying.set(self.applying.get().saturating_sub(self.entries));
    }
}

enum Job {
    Entries(Vec<Applicable>, Load),
    Subscribe(Subscribe),
    Settle(oneshot::Sender<()>),
    /// Write the row as it is: the room is followed further than it says.
    Note,
    Finish(oneshot::Sender<()>),
}

struct RoomJobs {
    /// As it is stored.
    row: RoomRow,
    /// How far the room is followed by now.
    followed: Option<Seq>,
    noting: bool,
    jobs: VecDeque<Job>,
    /// Something waits that may not be put off.
    presses: bool,
    busy: bool,
    /// Until when the row would have been written if each time had been [`ROW_EVERY`] after the one before it.
    ahead: Option<Instant>,
    /// The time at which entries that were put off go on is awaited.
    put_off: bool,
    /// The room is being loaded again and waits for what is under way.
    halting: Option<oneshot::Sender<()>>,
    /// Tells the jobs of this life of the room from those of an earlier one.
    life: u64,
}

impl RoomJobs {
    /// With nothing to do.
    fn new(row: RoomRow, life: u64) -> RoomJobs {
        RoomJobs {
            followed: row.followed,
            row,
            noting: false,
            jobs: VecDeque::new(),
            presses: false,
            busy: false,
            ahead: None,
            put_off: false,
            halting: None,
            life,
        }
    }

    fn push(&mut self, job: Job) {
        match &job {
            Job::Entries(entries, _) if entries.iter().all(|(entry, _)| derive::only_the_row(&entry.body)) => {}
            _ => self.presses = true,
        }
        self.jobs.push_back(job);
    }

    /// For how long what waits may be put off; none: it is to be carried out now.
    fn may_wait(&self, now: Instant) -> Option<Duration> {
        let due = self.ahead.filter(|_| !self.presses)?;
        due.checked_duration_since(now + ROW_EVERY * ROW_AT_ONCE).filter(|pause| !pause.is_zero())
    }

    /// The row has been written.
    fn written(&mut self, now: Instant) {
        self.ahead = Some(self.ahead.map_or(now, |ahead| ahead.max(now)) + ROW_EVERY);
    }

    /// The next job: entries together, as many as are carried out at once.
    fn next(&mut self) -> Option<Job> {
        let mut job = self.jobs.pop_front()?;
        if let Job::Entries(entries, load) = &mut job {
            while entries.len() < CHUNK
                && matches!(self.jobs.front(), Some(Job::Entries(..)))
                && let Some(Job::Entries(more, its)) = self.jobs.pop_front()
            {
                entries.extend(more);
                load.absorb(its);
            }
        }
        self.presses &= !self.jobs.is_empty();
        Some(job)
    }
}

/// See the module.
pub struct Applier {
    node: Arc<NodeContext>,
    guardian: Addr<Guardian>,
    /// Entries that wait here; the thread's rooms look at it before they take on more.
    applying: Rc<Cell<usize>>,
    rooms: HashMap<RoomId, RoomJobs>,
    lives: u64,
}

impl Applier {
    /// An applier without work.
    pub fn new(node: Arc<NodeContext>, guardian: Addr<Guardian>, applying: Rc<Cell<usize>>) -> Self {
        Applier { node, guardian, applying, rooms: HashMap::new(), lives: 0 }
    }

    fn push(&mut self, room: RoomId, job: Job, ctx: &mut Context<Self>) {
        if let Some(jobs) = self.rooms.get_mut(&room) {
            jobs.push(job);
            self.run(room, ctx);
        }
    }

    /// Begins the room's next job, unless one is under way.
    fn run(&mut self, room: RoomId, ctx: &mut Context<Self>) {
        let Some(state) = self.rooms.get_mut(&room).filter(|s| !s.busy) else { return };
        if !state.jobs.is_empty()
            && self.applying.get() <= PUT_OFF_MAX
            && let Some(pause) = state.may_wait(Instant::now())
        {
            if !std::mem::replace(&mut state.put_off, true) {
                let life = state.life;
                ctx.run_later(pause, move |me, ctx| {
                    if let Some(state) = me.rooms.get_mut(&room).filter(|s| s.life == life) {
                        state.put_off = false;
                        me.run(room, ctx);
                    }
                });
            }
            return;
        }
        let Some(job) = state.next() else { return };
        state.busy = true;
        let row = RoomRow { followed: state.followed, ..state.row.clone() };
        let (node, noted, life) = (self.node.clone(), state.row.followed, state.life);
        let work = AssertUnwindSafe(async move {
            match carry_out(&node, row, noted, &job).await {
                Ok(row) => Ok((row, job)),
                Err(error) => Err((error, job)),
            }
        })
        .catch_unwind();
        ctx.spawn(work.into_actor(self).map(move |result, me, ctx| me.carried_out(room, life, result, ctx)));
    }

    fn carried_out(
        &mut self,
        room: RoomId,
        life: u64,
        result: std::thread::Result<std::result::Result<(RoomRow, Job), (crate::storage::StorageError, Job)>>,
        ctx: &mut Context<Self>,
    ) {
        let Some(state) = self.rooms.get_mut(&room).filter(|s| s.life == life) else { return };
        state.busy = false;
        let halting = state.halting.take();
        match result {
            Ok(Ok((row, job))) => {
                if row.applied > state.row.applied {
                    state.written(Instant::now());
                }
                state.row = row;
                match job {
                    Job::Entries(entries, _) => {
                        for (entry, _) in &entries {
                            for user in resume::begins_membership(entry) {
                                self.tell(user, UserEvent::Joined { room, seq: entry.seq });
                            }
                        }
                    }
                    Job::Subscribe(s) => {
                        let event = match s.role {
                            Some(_) => UserEvent::Joined { room, seq: s.seq },
                            None => UserEvent::Left { room, seq: s.seq },
                        };
                        self.tell(s.user, event);
                        let told = || event::subscription(room, s.user, s.role, s.seq, now_ms());
                        self.node.webhooks.once(event::MEMBER, Some(room), told);
                        let _ = s.reply.send(Ok(()));
                    }
                    Job::Settle(reply) => drop(reply.send(())),
                    Job::Note => {}
                    Job::Finish(reply) => {
                        self.rooms.remove(&room);
                        let _ = reply.send(());
                    }
                }
            }
            Ok(Err((error, Job::Subscribe(s)))) => {
                // It may still land: what comes next must be told from it.
                state.row.take_turn();
                drop(s.reply.send(Err(error)));
            }
            // What fails while the room is loaded again is found in the log by that.
            Ok(Err(_)) | Err(_) if halting.is_some() => {}
            Ok(Err((error, job))) => {
                tracing::warn!(%error, "derived rows could not be written; trying again");
                state.jobs.push_front(job);
                state.presses = true;
                ctx.run_later(RETRY, move |me, ctx| me.run(room, ctx));
                return;
            }
            Err(_) => {
                // The job is lost with the panic; the room's next start redoes it from the log.
                tracing::error!("the applier panicked; the room is loaded again");
                metrics().actor_restarts_total.of("applier").inc();
                self.rooms.remove(&room);
                self.guardian.do_send(GuardianMsg::Panic(Child::Room(room)));
            }
        }
        match halting {
            Some(reply) => {
                self.rooms.remove(&room);
                let _ = reply.send(());
            }
            None => self.run(room, ctx),
        }
    }

    fn tell(&self, user: UserId, event: UserEvent) {
        self.node.router.to_presence(user, PresenceMsg::Event(event));
    }
}

/// `noted`: how far the stored row says that the room is followed.
async fn carry_out(node: &NodeContext, mut row: RoomRow, noted: Option<Seq>, job: &Job) -> Result<RoomRow> {
    let (room, shard) = (row.room, node.router.shard(row.room));
    match job {
        Job::Entries(entries, _) => {
            let seqs: BTreeSet<Seq> = entries.iter().filter_map(|(e, _)| derive::folds_into(&e.body)).collect();
            let seqs: Vec<Seq> = seqs.into_iter().collect();
            let folds: HashMap<Seq, FoldRow> = match seqs.is_empty() {
                true => HashMap::new(),
                false => {
                    let rows = in_time(node.store.folds(room, &seqs)).await?;
                    seqs.into_iter().zip(rows).filter_map(|(seq, fold)| Some((seq, fold?))).collect()
                }
            };
            let mut deriving = Deriving::new(row, folds);
            for (entry, was) in entries {
                deriving.apply(entry, *was);
            }
            // Before the row that says that it was done: what is lost between the two is done again.
            in_time(directory::put(&*node.store, deriving.listings())).await?;
            let (row, effects) = deriving.finish();
            in_time(node.store.apply(room, shard, row.stamp(), effects, false)).await?;
            Ok(row)
        }
        Job::Subscribe(s) => {
            let mut deriving = Deriving::new(row, HashMap::new());
            deriving.subscribe(s.user, s.was, s.role, s.seq);
            let (row, effects) = deriving.finish();
            in_time(node.store.apply_durably(room, shard, row.stamp(), effects)).await?;
            Ok(row)
        }
        Job::Settle(_) => Ok(row),
        Job::Note | Job::Finish(_) => {
            // The row was written with the last entries. Of a room that has none there must be none: it would come to exist by it.
            let further = row.followed > noted && row.applied > 0;
            if further {
                row.take_turn();
            }
            let effects = if further { vec![Effect::Room(row.clone())] } else { Vec::new() };
            in_time(node.store.apply(room, shard, row.stamp(), effects, matches!(job, Job::Finish(_)))).await?;
            Ok(row)
        }
    }
}

impl Actor for Applier {
    type Context = Context<Self>;
}
impl Handler<Begin> for Applier {
    type Result = ();
    fn handle(&mut self, msg: Begin, _: &mut Self::Context) {
        self.lives += 1;
        let (row, life) = (msg.row, self.lives);
        self.rooms.insert(row.room, RoomJobs::new(row, life));
    }
}
impl Handler<Apply> for Applier {
    type Result = ();
    fn handle(&mut self, msg: Apply, ctx: &mut Self::Context) {
        let load = Load { applying: self.applying.clone(), entries: msg.entries.len() };
        self.push(msg.room, Job::Entries(msg.entries, load), ctx);
    }
}
impl Handler<Followed> for Applier {
    type Result = ();
    fn handle(&mut self, msg: Followed, ctx: &mut Self::Context) {
        let Some(state) = self.rooms.get_mut(&msg.room) else { return };
        state.followed = state.followed.max(Some(msg.seq));
        if !std::mem::replace(&mut state.noting, true) {
            let life = state.life;
            ctx.run_later(NOTED_AFTER, move |me, ctx| {
                let Some(state) = me.rooms.get_mut(&msg.room).filter(|s| s.life == life) else { return };
                state.noting = false;
                if state.followed > state.row.followed && !state.busy && state.jobs.is_empty() {
                    me.push(msg.room, Job::Note, ctx);
                }
            });
        }
    }
}
impl Handler<Halt> for Applier {
    type Result = ();
    fn handle(&mut self, msg: Halt, _: &mut Self::Context) {
        match self.rooms.get_mut(&msg.room) {
            Some(state) if state.busy => {
                state.jobs.clear();
                state.halting = Some(msg.reply);
            }
            _ => {
                self.rooms.remove(&msg.room);
                let _ = msg.reply.send(());
            }
        }
    }
}
impl Handler<Subscribe> for Applier {
    type Result = ();
    fn handle(&mut self, msg: Subscribe, ctx: &mut Self::Context) {
        self.push(msg.room, Job::Subscribe(msg), ctx);
    }
}
impl Handler<Settle> for Applier {
    type Result = ();
    fn handle(&mut self, msg: Settle, ctx: &mut Self::Context) {
        self.push(msg.room, Job::Settle(msg.reply), ctx);
    }
}
impl Handler<Finish> for Applier {
    type Result = ();
    fn handle(&mut self, msg: Finish, ctx: &mut Self::Context) {
        self.push(msg.room, Job::Finish(msg.reply), ctx);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::entry::{Body, Message};

    const ROOM: RoomId = RoomId(1);

    fn message(seq: Seq, mentions: Vec<UserId>) -> Job {
        let body = Body::Message(Message { mentions, ..Message::default() });
        let entry = Entry { room: ROOM, seq, n: seq, id: Default::default(), at: 1, by: UserId(1), cid: None, body };
        Job::Entries(vec![(Arc::new(entry), None)], Load { applying: Rc::default(), entries: 1 })
    }

    #[test]
    fn a_busy_rooms_row_is_written_now_and_then_and_at_once_when_somebody_asks_or_is_concerned() {
        let (mut room, now) = (RoomJobs::new(derive::blank(ROOM), 1), Instant::now());
        room.push(message(1, Vec::new()));
        for _ in 0..=ROW_AT_ONCE {
            assert_eq!(room.may_wait(now), None, "it is not busy for a few messages");
            room.written(now);
        }
        room.next().unwrap();
        room.push(message(2, Vec::new()));
        assert_eq!(room.may_wait(now), Some(ROW_EVERY));
        assert_eq!(room.may_wait(now + ROW_EVERY), None);
        room.push(message(3, vec![UserId(2)]));
        assert_eq!(room.may_wait(now), None, "somebody is mentioned");
        assert!(matches!(room.next(), Some(Job::Entries(entries, load)) if entries.len() == 2 && load.entries == 2), "in one write");
        room.push(message(4, Vec::new()));
        assert_eq!(room.may_wait(now), Some(ROW_EVERY));
        room.push(Job::Settle(oneshot::channel().0));
        assert_eq!(room.may_wait(now), None, "somebody waits for what was derived");
        assert!(matches!(room.next(), Some(Job::Entries(..))));
        assert_eq!(room.may_wait(now), None);
        assert!(matches!(room.next(), Some(Job::Settle(_))));
        room.push(message(5, Vec::new()));
        assert_eq!(room.may_wait(now), Some(ROW_EVERY));
    }
}
