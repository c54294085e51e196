//! The hub: one per web worker thread. Knows which sessions of its thread care about which room, and gives them the room's
//! entries in seq order, each once.
//!
//! At a hole it reads what is missing from the log before it goes on; when that cannot be done within bounds, the sessions
//! concerned are told to resume. A session is attached to a room's feed only at the very seq where its catch-up ended, so
//! that the seam has neither hole nor double. What a user's end of membership says is the last thing the user gets.
//! Bounds: [`HELD_MAX`] entries while a hole is read, [`RECENT_MAX`] entries kept per feed, [`WAITING_MAX`] envelopes waiting (what is
//! over is dropped and backfilled later).

use super::conn::Conn;
use super::node::NodeContext;
use super::presence::PresenceMsg;
use super::session::Session;
use crate::bus::{Envelope, Framed, FramedEntry, UserEvent};
use crate::protocol::close::Close;
use crate::protocol::codec::Format;
use crate::protocol::ids::{DeviceId, RoomId, Seq, Shard, UserId};
use crate::protocol::ops::{PresenceState, Push};
use crate::protocol::resume::{self, PutOut, Seam, Step};
use crate::telemetry::metrics;
use actix::prelude::*;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Entries kept per feed so that the last step of a catch-up needs no log.
const RECENT_MAX: usize = 64;
/// Bytes of frames that are joined to one piece at most.
const JOINED_MAX: usize = 64 * 1024;
/// Entries held while a hole is read.
const HELD_MAX: usize = 4_096;
/// Channels left during one session; then it resumes.
const LEFT_MAX: usize = 10_000;
/// The longest hole that a hub reads by itself.
const HOLE_MAX: u64 = 10_000;
/// Envelopes that may wait for one hub.
pub const WAITING_MAX: usize = 65_536;
/// How often every session is looked at.
const SWEEP: Duration = Duration::from_millis(500);
/// How long a feed without sessions is kept, so that a reconnect does not have to ask the owner again.
const FEED_KEPT: Duration = Duration::from_secs(30);

/// A session's place in its thread: what the hub needs of it without asking its actor.
pub struct Seat {
    /// Unique in this node.
    pub id: u64,
    /// The socket.
    pub conn: Rc<Conn>,
    /// The encoding its client chose.
    pub format: Format,
    /// Who is signed in; `UserId(0)`: nobody yet.
    pub user: Cell<UserId>,
    /// On which device.
    pub device: Cell<DeviceId>,
    /// What its client said its user is. Kept here so that a presence which is rebuilt learns it again.
    pub presence: Cell<PresenceState>,
    /// The actor.
    pub addr: Addr<Session>,
    /// When the client was last heard.
    pub heard: Cell<Instant>,
    /// What was sent to it before this has arrived: it was heard then. Its coming, until its first resume is done.
    pub reached: Cell<Instant>,
    /// A ping is out since then.
    pub pinged: Cell<bool>,
    /// Until when somebody must be signed in: first the sign-in itself, then the token's end.
    pub until: Cell<Option<Instant>>,
    /// When the oldest request under way began.
    pub oldest: Cell<Option<Instant>>,
    /// Rooms whose feeds it is attached to.
    pub rooms: RefCell<HashSet<RoomId>>,
    /// Rooms that were left without an entry since it last asked whether it may follow them.
    pub left: RefCell<HashSet<RoomId>>,
    /// Users whose presence it watches.
    pub watching: RefCell<HashSet<UserId>>,
    /// Until when it is served, once it was told that the node drains.
    pub leaves: Cell<Option<Instant>>,
}

/// How the sessions of a node that drains part from it.
#[derive(Clone, Copy, Debug)]
pub struct Parting {
    /// The last is to come back elsewhere at this time.
    pub until: Instant,
    /// There are other nodes: each session is served until its own time has come. Else nobody is, and all are closed at once.
    pub served: bool,
}

struct Attached {
    seat: Rc<Seat>,
    /// The first seq it gets; it has everything before.
    from: Seq,
}

#[derive(Default)]
struct Feed {
    /// The next seq expected; none: the owner has not said yet.
    next: Option<Seq>,
    seats: Vec<Attached>,
    recent: VecDeque<FramedEntry>,
    put_out: PutOut,
    /// A hole is being read; what comes meanwhile.
    held: Option<Vec<FramedEntry>>,
    /// The highest head that was told while a hole was being read.
    head: Seq,
    /// Something was given since the last sweep; else `recent` is let go.
    fresh: bool,
    empty_since: Option<Instant>,
}

/// What came of [`Hub::attach`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// The session gets everything after its position from now on.
    Done,
    /// First read up to here from the log.
    Behind(Seq),
    /// The user's membership ended at this seq: give everything up to it, then nothing.
    PutOut(Seq),
    /// The feed is gone (its sessions were told to resume): follow the room again.
    Lost,
}

/// The thread's hub.
pub struct Hub {
    /// Its number within the node.
    pub index: usize,
    /// What the node's actors share.
    pub node: Arc<NodeContext>,
    feeds: RefCell<HashMap<RoomId, Feed>>,
    seats: RefCell<HashMap<u64, Rc<Seat>>>,
    users: RefCell<HashMap<UserId, Vec<Rc<Seat>>>>,
    /// Users who may be in rooms that their sessions here were not told of.
    to_look_at: RefCell<BTreeSet<UserId>>,
    /// The node drains.
    parting: Cell<Option<Parting>>,
    me: RefCell<std::rc::Weak<Hub>>,
}

thread_local! {
    static HERE: RefCell<Option<Rc<Hub>>> = const { RefCell::new(None) };
}

impl Hub {
    /// The hub of this thread, started at the first call.
    pub fn here(node: &Arc<NodeContext>) -> Rc<Hub> {
        HERE.with_borrow_mut(|here| {
            here.get_or_insert_with(|| {
                let hub = Rc::new(Hub {
                    index: node.hubs.reserve(),
                    node: node.clone(),
                    feeds: RefCell::default(),
                    seats: RefCell::default(),
                    users: RefCell::default(),
                    to_look_at: RefCell::default(),
                    parting: Cell::new(None),
                    me: RefCell::default(),
                });
                *hub.me.borrow_mut() = Rc::downgrade(&hub);
                actix::spawn(super::conn::Flusher);
                let waiting = Arc::new(AtomicUsize::new(0));
                let addr = HubActor { hub: hub.clone(), waiting: waiting.clone() }.start();
                node.hubs.register(hub.index, HubAddr { addr, waiting });
                hub
            })
            .clone()
        })
    }

    /// Sessions of this thread, signed in or not.
    pub fn seats(&self) -> Vec<Rc<Seat>> {
        self.seats.borrow().values().cloned().collect()
    }
    /// A new socket.
    pub fn enter(&self, seat: Rc<Seat>) {
        self.seats.borrow_mut().insert(seat.id, seat);
    }
    /// The socket's user has signed in.
    pub fn signed_in(&self, seat: &Rc<Seat>) {
        self.users.borrow_mut().entry(seat.user.get()).or_default().push(seat.clone());
        self.announce(seat);
    }
    fn announce(&self, seat: &Rc<Seat>) {
        let (node, hub) = (self.node.placement.me(), self.index);
        let up = PresenceMsg::Up { node, session: seat.id, device: seat.device.get(), hub, state: seat.presence.get() };
        self.node.router.to_presence(seat.user.get(), up);
    }

    /// The socket is gone: nothing of it stays in this thread.
    pub fn leave(&self, id: u64) {
        let Some(seat) = self.seats.borrow_mut().remove(&id) else { return };
        let user = seat.user.get();
        {
            let mut feeds = self.feeds.borrow_mut();
            for room in seat.rooms.take() {
                if let Some(feed) = feeds.get_mut(&room) {
                    feed.seats.retain(|a| a.seat.id != id);
                }
            }
        }
        if user == UserId(0) {
            return;
        }
        {
            let mut users = self.users.borrow_mut();
            if let Some(seats) = users.get_mut(&user) {
                seats.retain(|s| s.id != id);
                if seats.is_empty() {
                    users.remove(&user);
                }
            }
        }
        let me = self.node.placement.me();
        self.node.router.to_presence(user, PresenceMsg::Down { node: me, session: id });
        let back = Duration::from_millis(self.node.config.presence.offline_debounce_ms);
        self.node.unreached.ended(user, seat.reached.get(), back);
        let others: Vec<UserId> = seat.watching.take().into_iter().filter(|other| !self.watched(user, *other)).collect();
        for other in others {
            self.node.router.to_presence(other, PresenceMsg::Unwatch { watcher: user, hub: Some((me, self.index)) });
        }
    }
    /// Whether any session of the user in this thread watches the other.
    pub fn watched(&self, user: UserId, other: UserId) -> bool {
        self.users.borrow().get(&user).is_some_and(|seats| seats.iter().any(|s| s.watching.borrow().contains(&other)))
    }

    /// Begins to follow rooms: their entries reach this hub from now on.
    pub fn follow(&self, rooms: &[RoomId]) {
        let mut feeds = self.feeds.borrow_mut();
        for room in rooms {
            let feed = feeds.entry(*room).or_default();
            feed.empty_since = None;
            self.node.hubs.interested(*room, self.index, true);
        }
    }

    /// Attaches a session that has everything up to `position`; `as_of`: the head at which the room's owner said it may.
    pub fn attach(&self, seat: &Rc<Seat>, room: RoomId, position: Seq, as_of: Seq) -> Attach {
        let mut feeds = self.feeds.borrow_mut();
        let Some(feed) = feeds.get_mut(&room) else { return Attach::Lost };
        if let Some(seq) = feed.put_out.after(seat.user.get(), as_of)
            && !crate::sabotage::is("leak_after_kick")
        {
            return Attach::PutOut(seq);
        }
        if seat.left.borrow().contains(&room) {
            return Attach::PutOut(position);
        }
        let next = *feed.next.get_or_insert(as_of + 1);
        let missing = match resume::seam(next, position, as_of, feed.recent.len()) {
            Seam::Feed(missing) => missing,
            Seam::Read(to) => {
                feed.empty_since = None;
                return Attach::Behind(to);
            }
        };
        if seat.rooms.borrow_mut().insert(room) {
            for entry in feed.recent.iter().skip(feed.recent.len() - missing) {
                seat.conn.push(entry.frame(seat.format));
            }
            feed.seats.push(Attached { seat: seat.clone(), from: position + 1 });
        }
        Attach::Done
    }

    /// Whether the room's feed in this thread has passed `seq`.
    pub fn has_given(&self, room: RoomId, seq: Seq) -> bool {
        self.feeds.borrow().get(&room).is_none_or(|feed| feed.next.is_none_or(|next| next > seq))
    }

    /// The user's membership ended without an entry. A catch-up that was allowed before is told by `Seat::left`: there is no seq to
    /// tell it by.
    fn put_out(&self, user: UserId, room: RoomId, seq: Seq) {
        for seat in self.seats_of(user) {
            let mut left = seat.left.borrow_mut();
            left.insert(room);
            if left.len() > LEFT_MAX {
                seat.conn.finish(Close::RESUME);
            }
        }
        if let Some(feed) = self.feeds.borrow_mut().get_mut(&room) {
            feed.remove(room, user, seq, |_| true);
        }
    }

    /// Gives an envelope's content to the sessions it is for.
    pub fn take(&self, envelope: Envelope) {
        match envelope {
            Envelope::Entries { room, entries } => self.entries(room, &entries),
            Envelope::Head { room, head } => self.head(room, head),
            Envelope::Ephemeral { room, except, push } => self.ephemeral(room, except, &push),
            Envelope::User { user, event } => self.user_event(user, event),
            Envelope::Presence { watchers, push } => self.presence(&watchers, &push),
            Envelope::PresenceLost { user } => self.presence_lost(user),
            Envelope::Revoked { user, device } => self.revoked(user, device),
            // For the node's other actors.
            Envelope::Ask { .. } | Envelope::Answer { .. } | Envelope::Tell { .. } => {}
        }
    }

    fn entries(&self, room: RoomId, entries: &[FramedEntry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let mut feeds = self.feeds.borrow_mut();
        let Some(feed) = feeds.get_mut(&room) else { return };
        if let Some(held) = &mut feed.held {
            held.extend_from_slice(entries);
            if held.len() > HELD_MAX {
                feed.give_up(room);
            }
            return;
        }
        match resume::step(feed.next, first.what.seq, last.what.seq) {
            Step::Known => {}
            Step::Take { skip } => feed.give(room, &entries[skip..]),
            Step::Hole { .. } if crate::sabotage::is("drop_envelope") => feed.give(room, entries),
            Step::Hole { from } => {
                feed.held = Some(entries.to_vec());
                let to = first.what.seq - 1;
                drop(feeds);
                self.backfill(room, from, to);
            }
        }
    }

    fn head(&self, room: RoomId, head: Seq) {
        let mut feeds = self.feeds.borrow_mut();
        let Some(feed) = feeds.get_mut(&room) else { return };
        match feed.next {
            None => feed.next = Some(head + 1),
            // A head is told once: it is looked at when the hole that is being read is closed.
            Some(_) if feed.held.is_some() => feed.head = feed.head.max(head),
            Some(next) if next <= head && !crate::sabotage::is("drop_envelope") => {
                feed.held = Some(Vec::new());
                drop(feeds);
                self.backfill(room, next, head);
            }
            Some(_) => {}
        }
    }

    /// Reads a hole from the log, then goes on with what was held.
    fn backfill(&self, room: RoomId, from: Seq, to: Seq) {
        metrics().hub_backfills_total.inc();
        let Some(hub) = self.me.borrow().upgrade() else { return };
        actix::spawn(async move {
            let read = match to - from < HOLE_MAX {
                true => super::reading::entries(&hub.node, room, from, to).await,
                false => Err(crate::storage::StorageError::Busy("the hole is too long")),
            };
            let mut feeds = hub.feeds.borrow_mut();
            let Some(feed) = feeds.get_mut(&room) else { return };
            let Some(held) = feed.held.take() else { return };
            let read = read.and_then(|entries| match entries.first() {
                Some(first) if first.seq == from => Ok(entries),
                _ => Err(crate::storage::StorageError::Failed("the hole was purged meanwhile".into())),
            });
            match read {
                Ok(entries) => {
                    let framed: Vec<FramedEntry> = entries.into_iter().map(|e| Arc::new(Framed::new(e))).collect();
                    feed.give(room, &framed);
                    let head = feed.head;
                    drop(feeds);
                    // An envelope may have been lost meanwhile too: what was held can have holes of its own.
                    for run in held.chunk_by(|a, b| a.what.seq + 1 == b.what.seq) {
                        hub.entries(room, run);
                    }
                    if head > 0 {
                        hub.head(room, head);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, from, to, "a hub could not backfill; its sessions resume");
                    feed.give_up(room);
                }
            }
        });
    }

    fn ephemeral(&self, room: RoomId, except: Option<UserId>, push: &Framed<Push>) {
        let feeds = self.feeds.borrow();
        let Some(feed) = feeds.get(&room) else { return };
        for Attached { seat, .. } in feed.seats.iter().filter(|a| Some(a.seat.user.get()) != except) {
            seat.conn.push_ephemeral(push.frame(seat.format));
        }
    }

    /// Sessions of a user in this thread.
    pub fn seats_of(&self, user: UserId) -> Vec<Rc<Seat>> {
        self.users.borrow().get(&user).cloned().unwrap_or_default()
    }

    fn user_event(&self, user: UserId, event: UserEvent) {
        let seats = self.seats_of(user);
        if seats.is_empty() {
            return;
        }
        if let UserEvent::Left { room, seq } = event {
            self.put_out(user, room, seq);
        }
        for seat in seats {
            seat.addr.do_send(super::session::Event(event.clone()));
        }
    }

    fn presence(&self, watchers: &[UserId], push: &Framed<Push>) {
        let users = self.users.borrow();
        for seat in watchers.iter().filter_map(|w| users.get(w)).flatten() {
            seat.conn.push_ephemeral(push.frame(seat.format));
        }
    }

    fn presence_lost(&self, user: UserId) {
        for seat in self.seats_of(user) {
            self.announce(&seat);
        }
        let watchers: HashSet<UserId> =
            self.seats.borrow().values().filter(|s| s.watching.borrow().contains(&user)).map(|s| s.user.get()).collect();
        for watcher in watchers {
            let (node, hub) = (self.node.placement.me(), self.index);
            self.node.router.to_presence(user, PresenceMsg::Watch { node, watcher, hub, reply: None });
        }
    }

    /// The owners of these shards are told again who is connected here, and who is watched.
    fn announce_all(&self, shards: &HashSet<Shard>) {
        let router = &self.node.router;
        let mut watched: HashSet<(UserId, UserId)> = HashSet::new();
        for seat in self.seats().into_iter().filter(|seat| seat.user.get() != UserId(0)) {
            if shards.contains(&router.shard_of_user(seat.user.get())) {
                self.announce(&seat);
            }
            let watching = seat.watching.borrow();
            let moved = watching.iter().filter(|user| shards.contains(&router.shard_of_user(**user)));
            watched.extend(moved.map(|user| (*user, seat.user.get())));
        }
        let (node, hub) = (self.node.placement.me(), self.index);
        for (user, watcher) in watched {
            router.to_presence(user, PresenceMsg::Watch { node, watcher, hub, reply: None });
        }
    }

    /// Looks whether users of these shards are in rooms that their sessions here were not told of:
    /// one after the other, so that a net that loses all the time costs the store little.
    fn look_again(&self, shards: &HashSet<Shard>) {
        let Some(hub) = self.me.borrow().upgrade() else { return };
        let (router, users) = (&self.node.router, self.users.borrow());
        let mut waiting = self.to_look_at.borrow_mut();
        let runs = !waiting.is_empty();
        waiting.extend(users.keys().filter(|user| shards.contains(&router.shard_of_user(**user))));
        if runs || waiting.is_empty() {
            return;
        }
        actix::spawn(async move {
            loop {
                // Taken away only when it was looked at: as long as one is there, this runs.
                let Some(user) = hub.to_look_at.borrow().first().copied() else { return };
                if let Err(error) = super::resuming::look_again(&hub, user).await {
                    tracing::debug!(%error, "rooms that a user may have come into could not be looked for");
                }
                hub.to_look_at.borrow_mut().remove(&user);
            }
        });
    }

    fn revoked(&self, user: UserId, device: Option<DeviceId>) {
        for seat in self.seats_of(user) {
            if device.is_none_or(|d| d == seat.device.get()) {
                seat.conn.finish(Close::REVOKED);
            }
        }
    }

    /// Looks at every session: stuck sockets, missed heartbeats, tokens that ended. Drops feeds that nobody needs.
    fn sweep(&self) {
        let (now, heartbeat) = (Instant::now(), Duration::from_millis(self.node.config.socket.heartbeat_ms));
        let limit = Duration::from_millis(self.node.config.socket.request_timeout_ms);
        if let Some(parting) = self.parting.get() {
            // Whose time has come, and sockets that were let in just before: they were not there yet when the others were told.
            super::session::part(self, parting, now);
        }
        for seat in self.seats() {
            seat.conn.sweep(now);
            if !seat.conn.is_open() {
                continue;
            }
            if seat.until.get().is_some_and(|until| until <= now) {
                seat.conn.finish(if seat.user.get() == UserId(0) { Close::AUTH_TIMEOUT } else { Close::EXPIRED });
            } else if now - seat.heard.get() > heartbeat * 2 {
                seat.conn.finish(Close::IDLE);
            } else if now - seat.heard.get() > heartbeat && !seat.pinged.replace(true) {
                seat.conn.push(crate::protocol::ws::frame(crate::protocol::ws::Op::Ping, b""));
            }
            if seat.oldest.get().is_some_and(|began| now - began > limit) {
                seat.addr.do_send(super::session::Overdue);
            }
        }
        self.sweep_feeds(now);
    }

    fn sweep_feeds(&self, now: Instant) {
        let mut dropped = Vec::new();
        self.feeds.borrow_mut().retain(|room, feed| {
            if !std::mem::take(&mut feed.fresh) {
                feed.recent = VecDeque::new();
            }
            if !feed.seats.is_empty() || feed.held.is_some() {
                feed.empty_since = None;
                return true;
            }
            let keep = now - *feed.empty_since.get_or_insert(now) < FEED_KEPT;
            if !keep {
                dropped.push(*room);
            }
            keep
        });
        for room in dropped {
            if self.node.hubs.interested(room, self.index, false) {
                self.node.router.forget_interest(self.node.placement.me(), room);
            }
        }
    }

    /// After a panic in this thread's hub: every session here resumes, and nothing of the state is trusted.
    fn start_over(&self) {
        for (room, _) in self.feeds.take() {
            if self.node.hubs.interested(room, self.index, false) {
                self.node.router.forget_interest(self.node.placement.me(), room);
            }
        }
        for seat in self.seats() {
            seat.rooms.take();
            seat.conn.finish(Close::RESUME);
        }
    }
}

impl Feed {
    fn give(&mut self, room: RoomId, entries: &[FramedEntry]) {
        let given = self.next.map_or(0, |next| entries.partition_point(|entry| entry.what.seq < next));
        // Whoever an entry puts out gets nothing behind it.
        for run in entries[given..].split_inclusive(|entry| resume::ends_membership(&entry.what).is_some()) {
            self.give_run(run);
            let Some(last) = run.last().map(|entry| &entry.what) else { continue };
            self.next = Some(last.seq + 1);
            self.fresh = true;
            if let Some(user) = resume::ends_membership(last) {
                // Who was looked at later than this came back since.
                self.remove(room, user, last.seq, |from| from <= last.seq);
            }
        }
    }

    /// Entries for all who are fed. Their frames lie one behind the other for everybody who gets all of them.
    fn give_run(&mut self, run: &[FramedEntry]) {
        let (mut json, mut msgpack) = (None, None);
        let (mut delivered, mut bytes) = (0, 0);
        for Attached { seat, from } in &self.seats {
            let had = run.partition_point(|entry| entry.what.seq < *from);
            let of_all = match seat.format {
                Format::Json => &mut json,
                Format::Msgpack => &mut msgpack,
            };
            let some;
            let frames = match had {
                0 => of_all.get_or_insert_with(|| joined(run, seat.format)),
                _ => {
                    some = joined(&run[had..], seat.format);
                    &some
                }
            };
            for (frames, count) in frames {
                let length = frames.len() as u64;
                if seat.conn.push(frames.clone()) {
                    delivered += count;
                    bytes += length;
                }
            }
        }
        metrics().deliveries_total.inc_by(delivered);
        metrics().delivered_bytes_total.inc_by(bytes);
        self.recent.extend(run.iter().cloned());
        self.recent.drain(..self.recent.len().saturating_sub(RECENT_MAX));
    }

    /// Of the user's sessions those that are fed from a seq for which `also` holds.
    fn remove(&mut self, room: RoomId, user: UserId, seq: Seq, also: impl Fn(Seq) -> bool) {
        if crate::sabotage::is("leak_after_kick") {
            return;
        }
        self.put_out.note(user, seq);
        self.seats.retain(|a| {
            let stays = a.seat.user.get() != user || !also(a.from);
            if !stays {
                a.seat.rooms.borrow_mut().remove(&room);
            }
            stays
        });
    }

    /// Continuity cannot be kept: the sessions resume, and the feed begins anew.
    fn give_up(&mut self, room: RoomId) {
        for Attached { seat, .. } in std::mem::take(&mut self.seats) {
            seat.rooms.borrow_mut().remove(&room);
            seat.conn.finish(Close::RESUME);
        }
        // A catch-up that is under way must still hear of it when its user was put out.
        *self = Feed { put_out: std::mem::take(&mut self.put_out), ..Feed::default() };
    }
}

/// The frames of entries one behind the other, as few pieces as may be, and how many are in each.
fn joined(entries: &[FramedEntry], format: Format) -> Vec<(Bytes, u64)> {
    let frames: Vec<Bytes> = entries.iter().map(|entry| entry.frame(format)).collect();
    let mut pieces = Vec::with_capacity(1);
    let mut rest = &frames[..];
    while let Some(first) = rest.first() {
        let mut bytes = 0;
        let fits = |frame: &&Bytes| {
            bytes += frame.len();
            bytes <= JOINED_MAX
        };
        let (these, others) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        pieces.push((if these.len() == 1 { first.clone() } else { these.concat().into() }, these.len() as u64));
        rest = others;
    }
    pieces
}

/// What reaches the hub's actor.
#[derive(Message)]
#[rtype(result = "()")]
pub enum HubMsg {
    /// An envelope for this thread's sessions.
    Take(Envelope),
    /// A session's actor ended by a panic.
    SessionGone(u64),
    /// These shards have other owners, or theirs may have missed something: announce sessions and watchers again.
    Announce(Arc<HashSet<Shard>>),
    /// Who keeps presences of these shards may have told of rooms that users came into, and it was lost.
    LookAgain(Arc<HashSet<Shard>>),
    /// Tell every session when to reconnect, and close it.
    Drain(Parting),
    /// Panic, for tests.
    Panic,
    /// Make a session of this user panic, for tests.
    PanicSession(UserId),
}

/// A hub's address, with the number of envelopes that wait for it.
#[derive(Clone)]
pub struct HubAddr {
    addr: Addr<HubActor>,
    waiting: Arc<AtomicUsize>,
}

impl HubAddr {
    /// Sends, unless too much waits: then an envelope is dropped (what is missed is backfilled).
    pub fn send(&self, msg: HubMsg) {
        // Only what is noticed to be missing (a later seq or head tells) or is replaced soon; a revocation must arrive.
        let may_miss = matches!(msg, HubMsg::Take(Envelope::Entries { .. } | Envelope::Ephemeral { .. } | Envelope::Presence { .. }));
        if may_miss && self.waiting.load(Ordering::Relaxed) > WAITING_MAX {
            metrics().hub_dropped_total.inc();
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.addr.do_send(msg);
    }
}

/// The mailbox of a hub.
pub struct HubActor {
    hub: Rc<Hub>,
    waiting: Arc<AtomicUsize>,
}

impl HubActor {
    /// A panic in here must not end the thread's deliveries for good: everybody resumes instead.
    fn guarded(&self, what: impl FnOnce(&Hub)) {
        if catch_unwind(AssertUnwindSafe(|| what(&self.hub))).is_err() {
            tracing::error!(hub = self.hub.index, "a hub panicked; its sessions resume");
            metrics().actor_restarts_total.of("hub").inc();
            self.hub.start_over();
        }
    }
}

impl Actor for HubActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SWEEP, |me, _| me.guarded(Hub::sweep));
    }
}

impl Handler<HubMsg> for HubActor {
    type Result = ();
    fn handle(&mut self, msg: HubMsg, _: &mut Self::Context) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.guarded(|hub| match msg {
            HubMsg::Take(envelope) => hub.take(envelope),
            HubMsg::SessionGone(id) => {
                let seat = hub.seats.borrow().get(&id).cloned();
                if let Some(seat) = seat {
                    seat.conn.finish(Close::RESTART);
                    hub.leave(id);
                }
            }
            HubMsg::LookAgain(shards) => hub.look_again(&shards),
            HubMsg::Announce(shards) => hub.announce_all(&shards),
            HubMsg::Drain(parting) => {
                hub.parting.set(Some(parting));
                super::session::part(hub, parting, Instant::now());
            }
            HubMsg::PanicSession(user) => {
                if let Some(seat) = hub.seats_of(user).first() {
                    seat.addr.do_send(super::session::Panic);
                }
            }
            HubMsg::Panic => panic!("a test asked the hub to panic"),
        });
    }
}
