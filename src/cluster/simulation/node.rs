//! A node of a run: the real cores of ownership, with the world around them instead of actors and a store.

use super::judge::{Verdict, What, what};
use super::store::{Answer, Request};
use super::world::{Event, For, Later, Send, World};
use crate::cluster::append::{self, Appends};
use crate::cluster::membership::{Lease, Timing};
use crate::cluster::shard::{self, In, ShardCore, Verdict as Check};
use crate::cluster::takeover::{Step, TakeOver};
use crate::cluster::view::{Event as Seen, View};
use crate::cluster::{Mono, NodeId, chain};
use crate::protocol::ids::{BUCKET_ENTRIES, Epoch, RoomId, Seq, Shard, bucket_of};
use crate::storage::joining::Reads;
use crate::storage::tailing::Tailing;
use crate::storage::{Append, LogRow, StorageError};
use bytes::Bytes;
use rand::Rng;
use std::collections::{BTreeMap, VecDeque};

pub const TIMING: Timing = Timing { lease: 600, renew: 150, confirm: 150 };
const BATCH_MAX: usize = 3;

pub fn shard_of(room: RoomId, shards: u32) -> Shard {
    Shard(room.0 as u32 % shards)
}

pub struct Node {
    pub id: NodeId,
    /// Which process: what an earlier one waited for concerns this one no more.
    pub life: u64,
    pub up: bool,
    pub paused_until: u64,
    /// Redis cannot be reached from here until then.
    pub cut_until: u64,
    /// Its monotonic clock began somewhere, and jumps.
    pub skew: u64,
    pub view: View,
    pub reads: Reads,
    cores: Vec<ShardCore>,
    rooms: BTreeMap<RoomId, Room>,
    room_lives: u64,
}

struct Room {
    /// Which life of the room: answers for an earlier one are dropped.
    life: u64,
    phase: Phase,
    queue: VecDeque<Send>,
    finishing: bool,
}

enum Phase {
    /// Waits for an activation.
    Activating(TakeOver),
    Taking(TakeOver, Epoch),
    /// Reads what it has taken over.
    Filling(Epoch),
    Ready(Box<Ready>),
    Ending,
}

struct Ready {
    epoch: Epoch,
    appends: Appends<Vec<Send>>,
    start: Seq,
    /// Contents from `start + 1` on, what is in flight included.
    log: Vec<What>,
    committed: Seq,
    /// Repeats of what is in flight.
    waiting: Vec<(Seq, Send)>,
}

impl Node {
    pub fn new(id: u32, life: u64, shards: u32, skew: u64) -> Node {
        let view = View::new(Lease { node: NodeId(id), incarnation: life, weight: 100 }, TIMING, shards);
        let cores = (0..shards).map(|s| ShardCore::new(view.placed(Shard(s)))).collect();
        Node {
            id: NodeId(id),
            life,
            up: true,
            paused_until: 0,
            cut_until: 0,
            skew,
            view,
            reads: Reads::default(),
            cores,
            rooms: BTreeMap::new(),
            room_lives: 0,
        }
    }
}

impl Node {
    /// For who looks into a run that failed.
    pub fn told(&self) -> String {
        let rooms: Vec<String> = self
            .rooms
            .iter()
            .map(|(room, this)| format!("{room:?} {} {} {}", this.phase.name(), this.queue.len(), this.finishing))
            .collect();
        format!("{:?} up {} weights {:?} rooms {rooms:?} cores {:?}", self.id, self.up, self.view.membership().weights(), self.cores)
    }
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Phase::Activating(_) => "activating",
            Phase::Taking(..) => "taking over",
            Phase::Filling(_) => "filling",
            Phase::Ready(ready) if ready.appends.is_settled() => "settled",
            Phase::Ready(ready) if ready.appends.is_writing() => "writing",
            Phase::Ready(_) => "checking",
            Phase::Ending => "ending",
        }
    }
}

fn in_doubt() -> StorageError {
    StorageError::InDoubt("no answer".into())
}

impl World {
    pub fn mono(&self, node: usize) -> Mono {
        Mono(self.now + self.nodes[node].skew)
    }
    fn shards(&self) -> u32 {
        self.nodes[0].cores.len() as u32
    }
    fn shard(&self, room: RoomId) -> Shard {
        shard_of(room, self.shards())
    }

    pub fn follow(&mut self, node: usize, events: Vec<Seen>) -> Verdict {
        for event in events {
            match event {
                Seen::Placed(shard, placed) => self.core(node, shard, In::Placed(placed))?,
                Seen::TakeOver(shard) => self.seize(node, shard)?,
                Seen::Member(_) => {}
            }
        }
        Ok(())
    }

    /// Takes a shard over with all its rooms.
    pub fn seize(&mut self, node: usize, shard: Shard) -> Verdict {
        let rooms: Vec<RoomId> = self.rooms.iter().copied().filter(|room| self.shard(*room) == shard).collect();
        rooms.into_iter().try_for_each(|room| self.start(node, room))
    }

    pub fn announced(&mut self, node: usize, shard: Shard, by: NodeId, epoch: u64, released: bool) -> Verdict {
        if released {
            self.nodes[node].view.released(shard, by, epoch);
            return Ok(());
        }
        self.nodes[node].view.announced(shard, by, epoch);
        if by == self.nodes[node].id { Ok(()) } else { self.core(node, shard, In::Saw(epoch)) }
    }

    /// Gives a shard's core an input, and does what follows.
    pub fn core(&mut self, node: usize, shard: Shard, what: In) -> Verdict {
        if !self.nodes[node].up {
            return Ok(());
        }
        let mono = self.mono(node);
        let by = self.nodes[node].id;
        for what in self.nodes[node].cores[shard.0 as usize].step(mono, what) {
            match what {
                shard::Do::Read(_) | shard::Do::Raise(..) | shard::Do::Check(_) => self.ask_cell(node, shard, what),
                shard::Do::Granted(room, epoch) => self.activated(node, room, Ok(epoch))?,
                shard::Do::Refused(room, _) => self.activated(node, room, Err(StorageError::Busy("refused")))?,
                shard::Do::Verdict(room, epoch, verdict) => self.checked(node, room, epoch, verdict)?,
                shard::Do::Announce(epoch) => self.tell(shard, by, epoch, false),
                shard::Do::Release(_, epoch, _) => self.tell(shard, by, epoch, true),
                shard::Do::StepDown(room, epoch) => self.step_down(node, room, epoch),
                shard::Do::Finish(room) => self.finish(node, room)?,
            }
        }
        Ok(())
    }

    fn tell(&mut self, shard: Shard, by: NodeId, epoch: u64, released: bool) {
        for node in 0..self.nodes.len() {
            self.send(Event::Announced { node, shard, by, epoch, released });
        }
    }

    // A room's life.

    pub fn sent(&mut self, node: usize, via: usize, room: RoomId, send: Send) -> Verdict {
        let (shard, by) = (self.shard(room), self.nodes[node].id);
        if !self.nodes[node].cores[shard.0 as usize].is_for_me() {
            self.send(Event::NotMine { node: via, shard, by });
            return Ok(());
        }
        self.start(node, room)?;
        match self.nodes[node].rooms.get_mut(&room) {
            Some(room) if room.queue.len() < 20 => room.queue.push_back(send),
            _ => {}
        }
        self.pump(node, room)
    }

    fn start(&mut self, node: usize, room: RoomId) -> Verdict {
        if !self.nodes[node].up || self.nodes[node].rooms.contains_key(&room) {
            return Ok(());
        }
        self.take_over(node, room, VecDeque::new())
    }

    fn take_over(&mut self, node: usize, room: RoomId, queue: VecDeque<Send>) -> Verdict {
        self.nodes[node].room_lives += 1;
        let life = self.nodes[node].room_lives;
        // Sometimes it has heard of a committed head.
        let known = if self.rng.random_bool(0.3) { self.judge.head(room) } else { 0 };
        let (take, step) = TakeOver::begin(self.mono(node), room, self.shard(room), known);
        self.nodes[node].rooms.insert(room, Room { life, phase: Phase::Taking(take, Epoch(0)), queue, finishing: false });
        self.step(node, room, step)
    }

    fn step(&mut self, node: usize, room: RoomId, step: Step) -> Verdict {
        let shard = self.shard(room);
        let Some(this) = self.nodes[node].rooms.get_mut(&room) else { return Ok(()) };
        let life = this.life;
        match step {
            Step::Activate(above) => {
                if let Phase::Taking(take, _) = std::mem::replace(&mut this.phase, Phase::Ending) {
                    this.phase = Phase::Activating(take);
                }
                self.core(node, shard, In::Activate { room, above })
            }
            Step::Read => {
                self.ask(node, room, life, For::Tail(None), Request::Where(room));
                Ok(())
            }
            Step::Write(append, after) => self.put_off(node, room, life, after, Later::Write(For::Adopt(None), append)),
            Step::Check(after) => self.put_off(node, room, life, after, Later::AdoptCheck),
            Step::Done { epoch, head } => {
                this.phase = Phase::Filling(epoch);
                let from = self.judge.start(room) + 1;
                self.ask(node, room, life, For::Fill(head), Request::Read(room, from, head));
                Ok(())
            }
            Step::GiveUp(_) => {
                self.nodes[node].rooms.remove(&room);
                self.core(node, shard, In::Ended(room))
            }
        }
    }

    fn put_off(&mut self, node: usize, room: RoomId, room_life: u64, after: u64, what: Later) -> Verdict {
        let life = self.nodes[node].life;
        if after == 0 {
            return self.later(node, room, room_life, what);
        }
        self.after(after, Event::Later { node, life, room, room_life, what });
        Ok(())
    }

    pub fn later(&mut self, node: usize, room: RoomId, room_life: u64, what: Later) -> Verdict {
        let shard = self.shard(room);
        let Some(this) = self.nodes[node].rooms.get_mut(&room).filter(|r| r.life == room_life) else { return Ok(()) };
        match (what, &mut this.phase) {
            (Later::Write(who, append), _) => {
                let (bucket, rows) = (bucket_of(append.rows[0].seq), append.rows.clone());
                // The pointer is raised before the bucket's first row is written.
                let (request, then) = match append.new_bucket {
                    true => (Request::Pointer(room, bucket), Some(append)),
                    false => (Request::Rows(room, rows), None),
                };
                let who = if matches!(who, For::Append(_)) { For::Append(then) } else { For::Adopt(then) };
                self.ask(node, room, room_life, who, request);
                Ok(())
            }
            (Later::AdoptCheck, Phase::Taking(_, epoch)) => {
                let epoch = *epoch;
                self.core(node, shard, In::Check { room, epoch })
            }
            (Later::Check, Phase::Ready(ready)) => {
                let what = ready.appends.check();
                self.effects(node, room, what)
            }
            _ => Ok(()),
        }
    }

    fn activated(&mut self, node: usize, room: RoomId, granted: Result<Epoch, StorageError>) -> Verdict {
        let Some(this) = self.nodes[node].rooms.get_mut(&room) else { return Ok(()) };
        if !matches!(this.phase, Phase::Activating(_)) {
            return Ok(());
        }
        let Phase::Activating(mut take) = std::mem::replace(&mut this.phase, Phase::Ending) else { return Ok(()) };
        let epoch = *granted.as_ref().unwrap_or(&Epoch(0));
        let step = take.activated(granted);
        this.phase = Phase::Taking(take, epoch);
        self.step(node, room, step)
    }

    /// The replicas answered a room, or did not.
    pub fn room_answer(&mut self, node: usize, room: RoomId, life: u64, who: For, got: Option<Answer>) -> Verdict {
        let mono = self.mono(node);
        let Some(this) = self.nodes[node].rooms.get_mut(&room).filter(|r| r.life == life) else { return Ok(()) };
        match (who, got, &mut this.phase) {
            // The pointer is there: now the rows.
            (For::Append(Some(append)), Some(_), _) => self.ask(node, room, life, For::Append(None), Request::Rows(room, append.rows)),
            (For::Adopt(Some(append)), Some(_), _) => self.ask(node, room, life, For::Adopt(None), Request::Rows(room, append.rows)),
            (For::Append(_), got, Phase::Ready(ready)) => {
                let what = ready.appends.written(mono, got.map(drop).ok_or_else(in_doubt));
                self.effects(node, room, what)?;
                return self.pump(node, room);
            }
            (For::Adopt(_), got, Phase::Taking(take, _)) => {
                let step = take.written(mono, got.map(drop).ok_or_else(in_doubt));
                return self.step(node, room, step);
            }
            (For::Tail(tailing), Some(got), Phase::Taking(take, _)) => {
                let mut tailing = match tailing {
                    None => Tailing::new(got.pointer, got.marker),
                    Some(mut tailing) => {
                        tailing.give(got.rows.into_values().collect());
                        tailing
                    }
                };
                match tailing.wants().map(u64::from) {
                    Some(bucket) => {
                        let (from, to) = (bucket * BUCKET_ENTRIES, (bucket + 1) * BUCKET_ENTRIES - 1);
                        self.ask(node, room, life, For::Tail(Some(tailing)), Request::Read(room, from, to));
                    }
                    None => {
                        let step = take.read(Ok(tailing.done()));
                        return self.step(node, room, step);
                    }
                }
            }
            (For::Tail(_), None, Phase::Taking(take, _)) => {
                let step = take.read(Err(in_doubt()));
                return self.step(node, room, step);
            }
            (For::Fill(head), got, Phase::Filling(epoch)) => {
                let epoch = *epoch;
                return self.filled(node, room, epoch, head, got);
            }
            (For::Mark, _, _) => {
                self.nodes[node].rooms.remove(&room);
                return self.core(node, self.shard(room), In::Ended(room));
            }
            _ => {}
        }
        Ok(())
    }

    /// What a takeover found is the room's log from now on, as far as this node knows.
    fn filled(&mut self, node: usize, room: RoomId, epoch: Epoch, head: Seq, got: Option<Answer>) -> Verdict {
        let start = self.judge.start(room);
        let rows = got.and_then(|got| chain::committed(got.rows.into_values().collect(), start + 1, head).ok());
        let Some(rows) = rows else {
            return self.step(node, room, Step::GiveUp(in_doubt()));
        };
        for row in &rows {
            self.judge.commit(room, row.seq, what(row))?;
        }
        self.judge.replicas(room, start + 1, &self.replicas)?;
        let Some(this) = self.nodes[node].rooms.get_mut(&room) else { return Ok(()) };
        let log = rows.iter().map(what).collect();
        let appends = Appends::new(epoch, head);
        this.phase = Phase::Ready(Box::new(Ready { epoch, appends, start, log, committed: head, waiting: Vec::new() }));
        self.pump(node, room)
    }

    fn checked(&mut self, node: usize, room: RoomId, epoch: Epoch, verdict: Check) -> Verdict {
        let mono = self.mono(node);
        let Some(this) = self.nodes[node].rooms.get_mut(&room) else { return Ok(()) };
        match &mut this.phase {
            Phase::Taking(take, mine) if *mine == epoch => {
                let step = take.checked(mono, verdict);
                self.step(node, room, step)
            }
            Phase::Ready(ready) if ready.epoch == epoch => {
                let what = ready.appends.checked(verdict);
                self.effects(node, room, what)?;
                self.pump(node, room)
            }
            _ => Ok(()),
        }
    }

    fn effects(&mut self, node: usize, room: RoomId, effects: Vec<append::Do<Vec<Send>>>) -> Verdict {
        for what in effects {
            let Some(this) = self.nodes[node].rooms.get_mut(&room) else { return Ok(()) };
            let (life, Phase::Ready(ready)) = (this.life, &mut this.phase) else { return Ok(()) };
            let epoch = ready.epoch;
            match what {
                append::Do::Write(append, after) => self.put_off(node, room, life, after, Later::Write(For::Append(None), append))?,
                append::Do::Check => self.core(node, self.shard(room), In::Check { room, epoch })?,
                append::Do::CheckLater => self.put_off(node, room, life, 30, Later::Check)?,
                append::Do::Committed(batches, head) => self.committed(node, room, batches, head)?,
                append::Do::GiveUp(_) => {
                    let queue = std::mem::take(&mut this.queue);
                    self.take_over(node, room, queue)?;
                }
            }
        }
        Ok(())
    }

    fn committed(&mut self, node: usize, room: RoomId, batches: Vec<Vec<Send>>, head: Seq) -> Verdict {
        let Some(Room { phase: Phase::Ready(ready), .. }) = self.nodes[node].rooms.get_mut(&room) else { return Ok(()) };
        let from = ready.committed + 1;
        for seq in from..=head {
            self.judge.commit(room, seq, ready.log[(seq - ready.start) as usize - 1])?;
        }
        self.judge.replicas(room, from, &self.replicas)?;
        ready.committed = head;
        let mut answers: Vec<(Send, Seq)> = Vec::new();
        for send in batches.into_iter().flatten() {
            let at = ready.log.iter().position(|what| *what == send.what).unwrap_or_default();
            answers.push((send, ready.start + 1 + at as Seq));
        }
        answers.extend(ready.waiting.extract_if(.., |(seq, _)| *seq <= head).map(|(seq, send)| (send, seq)));
        answers.into_iter().try_for_each(|(send, seq)| self.acknowledge(room, send, seq))
    }

    fn acknowledge(&mut self, room: RoomId, send: Send, seq: Seq) -> Verdict {
        self.judge.acknowledged(room, seq, send.what)?;
        self.send(Event::Acknowledged { send, seq });
        Ok(())
    }

    /// Works off what waits: answers repeats, numbers what is new.
    fn pump(&mut self, node: usize, room: RoomId) -> Verdict {
        let (mono, shard) = (self.mono(node), self.shard(room));
        let Some(this) = self.nodes[node].rooms.get_mut(&room) else { return Ok(()) };
        let Phase::Ready(ready) = &mut this.phase else { return Ok(()) };
        if this.finishing {
            return self.end_if_settled(node, room);
        }
        let (mut rows, mut batch, mut repeats) = (Vec::new(), Vec::new(), Vec::new());
        while !ready.appends.is_writing() && rows.len() < BATCH_MAX {
            let next = ready.start + ready.log.len() as Seq + 1;
            if !rows.is_empty() && next.is_multiple_of(BUCKET_ENTRIES) {
                break;
            }
            let Some(send) = this.queue.pop_front() else { break };
            match ready.log.iter().position(|what| *what == send.what) {
                Some(at) if ready.start + (at as Seq) < ready.committed => repeats.push((send, ready.start + 1 + at as Seq)),
                Some(at) => ready.waiting.push((ready.start + 1 + at as Seq, send)),
                None => {
                    let payload = Bytes::copy_from_slice(&send.what.to_be_bytes());
                    rows.push(LogRow { seq: next, epoch: ready.epoch, committed: ready.appends.committed(), payload });
                    ready.log.push(send.what);
                    batch.push(send);
                }
            }
        }
        if let Some(first) = rows.first().map(|row| row.seq) {
            let new_bucket = first == 1 || bucket_of(first) != bucket_of(first - 1);
            let append = Append { room, shard, rows, mark_unapplied: false, new_bucket };
            let what = ready.appends.write(mono, append, batch);
            self.effects(node, room, what)?;
        }
        repeats.into_iter().try_for_each(|(send, seq)| self.acknowledge(room, send, seq))
    }

    // How rooms end.

    fn finish(&mut self, node: usize, room: RoomId) -> Verdict {
        let shard = self.shard(room);
        let Some(this) = self.nodes[node].rooms.get_mut(&room) else { return self.core(node, shard, In::Ended(room)) };
        this.finishing = true;
        if !matches!(this.phase, Phase::Ready(_) | Phase::Ending) {
            self.nodes[node].rooms.remove(&room);
            return self.core(node, shard, In::Ended(room));
        }
        self.end_if_settled(node, room)
    }

    fn end_if_settled(&mut self, node: usize, room: RoomId) -> Verdict {
        let Some(this) = self.nodes[node].rooms.get_mut(&room) else { return Ok(()) };
        let Phase::Ready(ready) = &this.phase else { return Ok(()) };
        if ready.appends.is_settled() {
            let (life, head) = (this.life, ready.committed);
            this.phase = Phase::Ending;
            self.ask(node, room, life, For::Mark, Request::Mark(room, head));
        }
        Ok(())
    }

    fn step_down(&mut self, node: usize, room: RoomId, epoch: Epoch) {
        if let Some(Room { phase: Phase::Ready(ready), .. }) = self.nodes[node].rooms.get(&room)
            && ready.epoch == epoch
        {
            self.nodes[node].rooms.remove(&room);
        }
    }

    /// A room's actor panics: what it had under way goes on without it.
    pub fn panic(&mut self, node: usize) {
        let rooms: Vec<RoomId> = self.nodes[node].rooms.keys().copied().collect();
        if !rooms.is_empty() {
            let room = rooms[self.rng.random_range(0..rooms.len())];
            let queue = self.nodes[node].rooms.remove(&room).map(|r| r.queue).unwrap_or_default();
            if self.take_over(node, room, queue).is_err() {
                self.nodes[node].rooms.remove(&room);
            }
        }
    }

    /// An idle room ends.
    pub fn passivate(&mut self, node: usize) -> Verdict {
        match self.nodes[node].rooms.keys().next().copied() {
            Some(room) => self.finish(node, room),
            None => Ok(()),
        }
    }
}
