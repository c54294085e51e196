//! The session: one per socket, on its web worker's thread. Speaks the wire protocol and holds nothing that a resume could not rebuild.
//!
//! Every request gets exactly one answer: an `ok`, an `error`, or (sign-in) a `hello`. Requests under way are bounded
//! (`socket.requests_in_flight_max`): above it reading from the socket pauses, so a client that floods is slowed by TCP and by its rate
//! limit. A request that takes longer than `socket.request_timeout_ms` is answered with `timeout`.
//! What concerns a room goes to the room's owner; reads are done here, bounded by the head the owner gave.

use super::answering::{self, too_slow};
use super::conn::{Conn, Incoming, Io, OutboxLimits};
use super::hub::{Hub, HubMsg, Parting, Seat};
use super::node::{NodeContext, now_ms};
use super::presence::PresenceMsg;
use super::resuming;
use super::router::{Answered, Reply};
use crate::bus::UserEvent;
use crate::error::{ApiError, Code};
use crate::protocol::close::Close;
use crate::protocol::codec::{self, Format};
use crate::protocol::entry::Caller;
use crate::protocol::ids::{DeviceId, Millis, RoomId, UserId};
use crate::protocol::ops::{self, Drain, Failed, Hello, PresenceState, Push, Request};
use crate::protocol::roomlog;
use crate::protocol::ws::{self, Message};
use crate::telemetry::metrics;
use actix::prelude::*;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Resume pages that may wait.
const RESUME_PAGES_MAX: usize = 16;
/// Refusals by the rate limit, without a pause, until the socket is closed.
const RATE_REFUSALS_MAX: u32 = 2_000;
/// A room that is attached by an earlier membership is looked at again after this.
const JOIN_AGAIN: Duration = Duration::from_millis(50);

/// Who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The user.
    pub user: UserId,
    /// The account's name.
    pub name: String,
    /// The device.
    pub device: DeviceId,
    /// When the token ends.
    pub expires: Millis,
}

/// Decides who may come in; implemented by the node on top of `auth`.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Whose token it is, if it counts now.
    async fn admit(&self, token: &str) -> Result<Admitted, ApiError>;
    /// Counts a request of the user.
    fn allow(&self, user: UserId) -> Result<(), ApiError>;
}

/// What a new session needs.
pub struct Opening {
    /// The node.
    pub node: Arc<NodeContext>,
    /// Who decides who may come in.
    pub gate: Arc<dyn Gate>,
    /// The encoding.
    pub format: Format,
    /// A token that came with the handshake.
    pub token: Option<String>,
    /// Sends back what it gets, instead of the protocol (`/v1/echo`).
    pub echo: bool,
    /// Dropped when the socket is gone: what the listener counts.
    pub ticket: Box<dyn Ticket>,
}

/// A socket as its listener counts it, until it is dropped.
pub trait Ticket {
    /// Somebody has signed in.
    fn signed_in(&self);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody is signed in.
    Unknown,
    /// A token is being looked at.
    Admitting,
    /// Signed in; entries come only after a resume.
    SignedIn,
    /// The last page of a resume is done.
    Live,
}

struct Pending {
    reference: u64,
    began: Instant,
}

/// See the module.
pub struct Session {
    seat: Rc<Seat>,
    hub: Rc<Hub>,
    node: Arc<NodeContext>,
    gate: Arc<dyn Gate>,
    stage: Stage,
    echo: bool,
    name: String,
    pending: HashMap<u64, Pending>,
    /// Where answers come from rooms; made for the first request, for most sessions send nothing.
    answers: Option<Arc<Recipient<Answered>>>,
    next_key: u64,
    in_flight: usize,
    malformed: u32,
    rate_refusals: u32,
    resumes: VecDeque<(u64, ops::Resume)>,
    resuming: bool,
    /// Rooms that any page of the resume named.
    listed: HashSet<RoomId>,
    /// Rooms that came and went while the resume was going on.
    meanwhile: Vec<UserEvent>,
    /// Rooms whose feed is being caught up with after a join; with the seq of a later join that came meanwhile.
    joining: HashMap<RoomId, Option<u64>>,
    /// Rooms where a request waits for a look at the user it names, and the requests behind it (few: `requests_in_flight_max`).
    looking_up: HashMap<RoomId, VecDeque<(Request, Reply)>>,
    leaving: Leaving,
}

/// Takes the seat away however the actor ends.
struct Leaving {
    hub: Rc<Hub>,
    id: u64,
    conn: Rc<Conn>,
    ticket: Box<dyn Ticket>,
}
impl Drop for Leaving {
    fn drop(&mut self) {
        metrics().sockets_open.dec();
        if std::thread::panicking() {
            metrics().actor_restarts_total.of("session").inc();
            self.hub.node.hubs.send(self.hub.index, HubMsg::SessionGone(self.id));
            metrics().socket_closed(Close::RESTART.code);
        } else {
            metrics().socket_closed(self.conn.close_code());
            self.hub.leave(self.id);
        }
    }
}

impl Session {
    /// Starts a session on a socket that was just upgraded; `read` is what came with the handshake.
    pub fn open(io: Box<dyn Io>, read: BytesMut, opening: Opening) {
        let Opening { node, gate, format, token, echo, ticket } = opening;
        let socket = &node.config.socket;
        let limits = OutboxLimits {
            soft_bytes: socket.outbox_soft_bytes,
            hard_bytes: socket.outbox_hard_bytes,
            stall: Duration::from_millis(socket.outbox_stall_ms),
        };
        let (frame_max, auth_timeout) = (socket.frame_bytes_max, Duration::from_millis(socket.auth_timeout_ms));
        metrics().sockets_open.inc();
        metrics().sockets_opened_total.inc();
        Session::create(move |ctx| {
            let hub = Hub::here(&node);
            let conn = Conn::new(io, limits);
            let now = Instant::now();
            let seat = Rc::new(Seat {
                id: node.sessions.fetch_add(1, Ordering::Relaxed) + 1,
                conn: conn.clone(),
                format,
                user: Cell::new(UserId(0)),
                device: Cell::new(DeviceId(0)),
                presence: Cell::new(PresenceState::Online),
                addr: ctx.address(),
                heard: Cell::new(now),
                reached: Cell::new(now),
                pinged: Cell::new(false),
                until: Cell::new((!echo).then_some(now + auth_timeout)),
                oldest: Cell::new(None),
                rooms: RefCell::default(),
                left: RefCell::default(),
                watching: RefCell::default(),
                leaves: Cell::new(None),
            });
            hub.enter(seat.clone());
            ctx.add_stream(Incoming::new(conn.clone(), read, frame_max));
            let leaving = Leaving { hub: hub.clone(), id: seat.id, conn, ticket };
            let mut session = Session {
                seat,
                hub,
                node,
                gate,
                stage: Stage::Unknown,
                echo,
                name: String::new(),
                pending: HashMap::new(),
                answers: None,
                next_key: 0,
                in_flight: 0,
                malformed: 0,
                rate_refusals: 0,
                resumes: VecDeque::new(),
                resuming: false,
                listed: HashSet::new(),
                meanwhile: Vec::new(),
                joining: HashMap::new(),
                looking_up: HashMap::new(),
                leaving,
            };
            if let Some(token) = token {
                session.admit(0, token, ctx);
            }
            session
        });
    }

    fn push(&self, push: &Push) {
        self.seat.push(push);
    }

    fn fail(&self, reference: u64, error: ApiError) {
        metrics().request_errors_total.of(error.code.as_str()).inc();
        self.push(&Push::Error(Failed { reference, error }));
    }

    fn answer(&self, reference: u64, result: Result<ops::Ok, ApiError>) {
        match result {
            Ok(ok) => self.push(&Push::Ok(ops::Ok { reference, ..ok })),
            Err(error) => self.fail(reference, error),
        }
    }

    fn frame(&mut self, payload: &Bytes, ctx: &mut Context<Self>) {
        match codec::decode_request(self.seat.format, payload) {
            Ok((reference, request)) => {
                metrics().requests_total.of(request.op()).inc();
                self.request(reference, request, ctx);
            }
            Err((reference, error)) => {
                self.malformed += 1;
                self.fail(reference, error);
                if self.malformed >= self.node.config.socket.malformed_max {
                    self.seat.conn.finish(Close::MALFORMED);
                }
            }
        }
    }

    fn request(&mut self, reference: u64, request: Request, ctx: &mut Context<Self>) {
        if let Err(error) = request.validate(&answering::limits(&self.node.config)) {
            return self.fail(reference, error);
        }
        match (self.stage, request) {
            (Stage::Unknown, Request::Auth(auth)) => self.admit(reference, auth.token, ctx),
            (Stage::Unknown | Stage::Admitting, _) => {
                self.fail(reference, ApiError::new(Code::Unauthorized, "sign in first: send auth with an access token"));
            }
            (_, Request::Auth(_)) => self.fail(reference, ApiError::new(Code::Conflict, "this socket is signed in already; use refresh")),
            (_, request) => match self.gate.allow(self.seat.user.get()) {
                Ok(()) => {
                    self.rate_refusals = 0;
                    self.allowed(reference, request, ctx);
                }
                Err(error) => {
                    self.fail(reference, error);
                    self.rate_refusals += 1;
                    if self.rate_refusals > RATE_REFUSALS_MAX {
                        self.seat.conn.finish(Close::RATE);
                    }
                }
            },
        }
    }

    fn allowed(&mut self, reference: u64, request: Request, ctx: &mut Context<Self>) {
        let caller = Caller { user: self.seat.user.get(), device: self.seat.device.get() };
        match request {
            Request::Ping(_) => self.answer(reference, Ok(ops::Ok::default())),
            Request::Refresh(refresh) => self.refresh(reference, refresh.token, ctx),
            Request::Resume(resume) => self.resume(reference, resume, ctx),
            Request::Presence(set) => {
                if let Some(state) = set.state {
                    self.seat.presence.set(state);
                    self.node
                        .router
                        .to_presence(caller.user, PresenceMsg::Set { node: self.node.placement.me(), session: self.seat.id, state });
                }
                let node = self.node.clone();
                self.spawn(reference, async move { answering::set_status(&node, caller.user, set.status).await }, ctx);
            }
            Request::Watch(watch) => {
                let (hub, seat) = (self.hub.clone(), self.seat.clone());
                self.spawn(reference, async move { answering::watch(&hub, &seat, &watch).await }, ctx);
            }
            Request::History(_) | Request::Members(_) | Request::Rooms(_) | Request::Create(_) => {
                let node = self.node.clone();
                self.spawn(reference, async move { answering::read(&node, caller.user, request).await }, ctx);
            }
            request => {
                let Some(room) = roomlog::room_of(&request) else {
                    return self.fail(reference, ApiError::new(Code::UnknownOp, "this request is not answered here"));
                };
                let reply = self.expect(reference, ctx);
                self.ask_room(room, request, reply, ctx);
            }
        }
    }

    /// Sends a request to its room, after those of this session that wait for the room: they take effect in the order sent.
    fn ask_room(&mut self, room: RoomId, request: Request, reply: Reply, ctx: &mut Context<Self>) {
        if let Some(waiting) = self.looking_up.get_mut(&room) {
            return waiting.push_back((request, reply));
        }
        let caller = Caller { user: self.seat.user.get(), device: self.seat.device.get() };
        if !matches!(request, Request::Invite(_) | Request::Ban(_) | Request::Join(_)) {
            return self.node.router.ask(caller, room, request, reply);
        }
        self.looking_up.insert(room, VecDeque::new());
        let node = self.node.clone();
        let look = async move {
            let found = answering::may_be_asked(&node, caller.user, &request).await;
            (found, request)
        };
        ctx.spawn(look.into_actor(self).map(move |(found, request), me, ctx| {
            match found {
                Ok(()) => me.node.router.ask(caller, room, request, reply),
                Err(error) => reply.send(Err(error)),
            }
            for (request, reply) in me.looking_up.remove(&room).unwrap_or_default() {
                me.ask_room(room, request, reply, ctx);
            }
        }));
    }

    /// A reply that comes back to this session under `reference`.
    fn expect(&mut self, reference: u64, ctx: &mut Context<Self>) -> Reply {
        self.next_key += 1;
        let began = Instant::now();
        self.pending.insert(self.next_key, Pending { reference, began });
        if self.seat.oldest.get().is_none() {
            self.seat.oldest.set(Some(began));
        }
        self.under_way(1);
        let answers = self.answers.get_or_insert_with(|| Arc::new(ctx.address().recipient()));
        Reply::to(answers.clone(), self.next_key)
    }

    /// Does something that takes time, within the time limit, and answers with its result.
    fn spawn(&mut self, reference: u64, work: impl Future<Output = Result<ops::Ok, ApiError>> + 'static, ctx: &mut Context<Self>) {
        self.under_way(1);
        let (limit, began) = (Duration::from_millis(self.node.config.socket.request_timeout_ms), Instant::now());
        let timed = async move { tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(too_slow())) };
        ctx.spawn(timed.into_actor(self).map(move |result, me, _| {
            me.under_way(-1);
            metrics().request_duration_seconds.observe(began.elapsed().as_secs_f64());
            me.answer(reference, result);
        }));
    }

    fn under_way(&mut self, change: isize) {
        self.in_flight = self.in_flight.saturating_add_signed(change);
        self.seat.conn.pause(self.in_flight >= self.node.config.socket.requests_in_flight_max);
    }

    fn admit(&mut self, reference: u64, token: String, ctx: &mut Context<Self>) {
        self.stage = Stage::Admitting;
        // What the client sends meanwhile waits in the socket until it is known who it is.
        self.seat.conn.pause(true);
        let gate = self.gate.clone();
        let work = async move {
            let admitted = gate.admit(&token).await;
            (admitted, token)
        };
        ctx.spawn(work.into_actor(self).map(move |(admitted, token), me, ctx| match admitted {
            Ok(admitted) => me.admitted(reference, admitted, token, ctx),
            Err(error) => {
                let close = close_for(&error);
                me.fail(reference, error);
                me.seat.conn.finish(close);
            }
        }));
    }

    fn admitted(&mut self, reference: u64, admitted: Admitted, token: String, ctx: &mut Context<Self>) {
        let now = now_ms();
        self.stage = Stage::SignedIn;
        self.name.clone_from(&admitted.name);
        self.seat.user.set(admitted.user);
        self.seat.device.set(admitted.device);
        self.expires_at(admitted.expires, now);
        self.under_way(0);
        self.leaving.ticket.signed_in();
        self.hub.signed_in(&self.seat);
        self.push(&Push::Hello(Hello {
            reference,
            user: admitted.user,
            name: admitted.name,
            device: admitted.device,
            expires: admitted.expires,
            now,
            heartbeat_ms: self.node.config.socket.heartbeat_ms,
            frame_bytes_max: self.node.config.socket.frame_bytes_max as u64,
            server: env!("CARGO_PKG_VERSION").into(),
        }));
        // A revocation between the look at the token and the seat being known to the hub would have missed it: look again.
        let gate = self.gate.clone();
        ctx.spawn(async move { gate.admit(&token).await }.into_actor(self).map(|again, me, _| {
            if let Err(error) = again {
                me.seat.conn.finish(close_for(&error));
            }
        }));
    }

    fn expires_at(&self, expires: Millis, now: Millis) {
        self.seat.until.set(Some(Instant::now() + Duration::from_millis(expires.saturating_sub(now))));
    }

    fn refresh(&mut self, reference: u64, token: String, ctx: &mut Context<Self>) {
        let (gate, seat) = (self.gate.clone(), self.seat.clone());
        self.under_way(1);
        ctx.spawn(async move { gate.admit(&token).await }.into_actor(self).map(move |admitted, me, _| {
            me.under_way(-1);
            let result = admitted.and_then(|new| {
                if (new.user, new.device) != (seat.user.get(), seat.device.get()) {
                    return Err(ApiError::new(Code::Forbidden, "the token is of another user or device"));
                }
                me.expires_at(new.expires, now_ms());
                Ok(ops::Ok { expires: Some(new.expires), ..ops::Ok::default() })
            });
            me.answer(reference, result);
        }));
    }

    fn resume(&mut self, reference: u64, resume: ops::Resume, ctx: &mut Context<Self>) {
        if self.resumes.len() >= RESUME_PAGES_MAX {
            return self.fail(reference, ApiError::new(Code::Busy, "too many pages of a resume are waiting"));
        }
        self.resumes.push_back((reference, resume));
        self.next_resume(ctx);
    }

    fn next_resume(&mut self, ctx: &mut Context<Self>) {
        if self.resuming {
            return;
        }
        let Some((reference, page)) = self.resumes.pop_front() else { return };
        self.resuming = true;
        self.listed.extend(page.rooms.iter().map(|h| h.room));
        if self.listed.len() > self.node.config.rooms.rooms_per_user_max * 2 {
            self.fail(reference, ApiError::new(Code::Invalid, "a resume names too many rooms"));
            self.seat.conn.finish(Close::MALFORMED);
            return;
        }
        let (hub, seat, listed) = (self.hub.clone(), self.seat.clone(), if page.last { self.listed.clone() } else { HashSet::new() });
        let last = page.last;
        let work = async move { resuming::page(&hub, &seat, reference, page, listed).await };
        ctx.spawn(work.into_actor(self).map(move |result, me, ctx| {
            me.resuming = false;
            let done = result.is_ok();
            // The last page is answered by its `resumed`.
            if !(last && done) {
                me.answer(reference, result.map(|()| ops::Ok::default()));
            }
            if last && done {
                me.stage = Stage::Live;
                me.listed = HashSet::new();
                for event in std::mem::take(&mut me.meanwhile) {
                    me.came_or_went(event, ctx);
                }
            }
            me.next_resume(ctx);
        }));
    }

    fn came_or_went(&mut self, event: UserEvent, ctx: &mut Context<Self>) {
        match event {
            UserEvent::Joined { room, seq } => self.joined(room, seq, ctx),
            // If the user is back in already, the room is followed again and nothing is to be said.
            UserEvent::Left { room, seq } if !self.seat.rooms.borrow().contains(&room) => self.push(&resuming::left(room, seq)),
            UserEvent::Left { .. } | UserEvent::Contact { .. } => {}
        }
    }

    fn joined(&mut self, room: RoomId, seq: u64, ctx: &mut Context<Self>) {
        if let Some(again) = self.joining.get_mut(&room) {
            // What is under way may find that the user was put out before this.
            *again = Some(seq);
            return;
        }
        if self.seat.rooms.borrow().contains(&room) {
            // Attached by an earlier membership, if its end has not reached the feed yet: then look again.
            if !self.hub.has_given(room, seq) {
                ctx.run_later(JOIN_AGAIN, move |me, ctx| me.joined(room, seq, ctx));
            }
            return;
        }
        self.joining.insert(room, None);
        let (hub, seat) = (self.hub.clone(), self.seat.clone());
        ctx.spawn(async move { resuming::joined(&hub, &seat, room, seq).await }.into_actor(self).map(move |result, me, ctx| {
            let again = me.joining.remove(&room).flatten();
            if let Err(error) = result {
                tracing::debug!(%error, "a session could not follow a room it joined; it resumes");
                me.seat.conn.finish(Close::RESUME);
            } else if let Some(seq) = again {
                me.joined(room, seq, ctx);
            }
        }));
    }
}

impl Seat {
    /// Pushes something of this session's own.
    pub fn push(&self, push: &Push) {
        let payload = codec::encode_push(self.format, push);
        let op = match self.format {
            Format::Json => ws::Op::Text,
            Format::Msgpack => ws::Op::Binary,
        };
        self.conn.push(ws::frame(op, &payload));
    }
}

/// The Close that goes with a refused token.
fn close_for(error: &ApiError) -> Close {
    match error.code {
        Code::TokenExpired => Close::EXPIRED,
        Code::TokenRevoked => Close::REVOKED,
        Code::Unauthorized | Code::BadCredentials => Close::UNAUTHORIZED,
        _ => Close::RESTART,
    }
}

/// Tells every session of a hub that was not told yet to reconnect at a time of its own, and closes those whose time with this node is over.
pub fn part(hub: &Hub, parting: Parting, now: Instant) {
    for seat in hub.seats() {
        let due = seat.leaves.get().unwrap_or_else(|| {
            if seat.user.get() == UserId(0) {
                return now;
            }
            let spread = parting.until.saturating_duration_since(now).as_millis() as u64;
            let after_ms = rand::random_range(0..=spread);
            seat.push(&Push::Drain(Drain { after_ms }));
            let served = parting.served && !crate::sabotage::is("cut_at_drain");
            let due = if served { now + Duration::from_millis(after_ms) } else { now };
            seat.leaves.set(Some(due));
            due
        });
        if due <= now {
            seat.conn.finish(Close::DRAINING);
        }
    }
}

impl Actor for Session {
    type Context = Context<Self>;
}

impl StreamHandler<Result<Message, Close>> for Session {
    fn handle(&mut self, item: Result<Message, Close>, ctx: &mut Self::Context) {
        self.seat.heard.set(Instant::now());
        self.seat.pinged.set(false);
        if self.stage == Stage::Live {
            self.seat.reached.set(self.seat.heard.get());
        }
        match item {
            Ok(Message::Ping(payload)) => {
                self.seat.conn.push(ws::frame(ws::Op::Pong, &payload));
            }
            Ok(Message::Pong(_)) => {}
            Ok(Message::Close(close)) => {
                let (code, reason) = close.unwrap_or((Close::NORMAL.code, String::new()));
                self.seat.conn.finish_with(code, &reason);
            }
            Ok(Message::Text(payload)) if self.echo => {
                self.seat.conn.push(ws::frame(ws::Op::Text, &payload));
            }
            Ok(Message::Binary(payload)) if self.echo => {
                self.seat.conn.push(ws::frame(ws::Op::Binary, &payload));
            }
            Ok(Message::Text(payload)) if self.seat.format == Format::Json => self.frame(&payload, ctx),
            Ok(Message::Binary(payload)) if self.seat.format == Format::Msgpack => self.frame(&payload, ctx),
            Ok(Message::Text(_) | Message::Binary(_)) => self.seat.conn.finish(Close::UNSUPPORTED),
            Err(close) => self.seat.conn.finish(close),
        }
    }
    fn finished(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<Answered> for Session {
    type Result = ();
    fn handle(&mut self, answered: Answered, _: &mut Self::Context) {
        let Some(pending) = self.pending.remove(&answered.key) else { return };
        self.under_way(-1);
        metrics().request_duration_seconds.observe(pending.began.elapsed().as_secs_f64());
        if self.pending.is_empty() {
            self.pending = HashMap::new();
            self.seat.oldest.set(None);
        } else if self.seat.oldest.get() == Some(pending.began) {
            self.seat.oldest.set(self.pending.values().map(|p| p.began).min());
        }
        self.answer(pending.reference, answered.result.map(ops::Ok::from));
    }
}

/// Something that concerns this session's user.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Event(pub UserEvent);

impl Handler<Event> for Session {
    type Result = ();
    fn handle(&mut self, Event(event): Event, ctx: &mut Self::Context) {
        match event {
            UserEvent::Joined { .. } | UserEvent::Left { .. } => match self.stage {
                Stage::Live => self.came_or_went(event, ctx),
                // The resume under way reads the user's rooms at its end; whatever is later than that is here.
                Stage::SignedIn if self.meanwhile.len() < self.node.config.rooms.rooms_per_user_max => self.meanwhile.push(event),
                Stage::SignedIn => self.seat.conn.finish(Close::RESUME),
                Stage::Unknown | Stage::Admitting => {}
            },
            UserEvent::Contact { other } => {
                // Also before the session is live: a resume under way may have read the contacts before this change.
                let (hub, seat, may_watch) = (self.hub.clone(), self.seat.clone(), self.stage == Stage::Live || self.resuming);
                ctx.spawn(async move { answering::contact_changed(&hub, &seat, other, may_watch).await }.into_actor(self));
            }
        }
    }
}

/// Some request has been under way for too long.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Overdue;

impl Handler<Overdue> for Session {
    type Result = ();
    fn handle(&mut self, _: Overdue, _: &mut Self::Context) {
        let limit = Duration::from_millis(self.node.config.socket.request_timeout_ms);
        let overdue: Vec<u64> = self.pending.iter().filter(|(_, p)| p.began.elapsed() > limit).map(|(key, _)| *key).collect();
        for key in overdue {
            if let Some(pending) = self.pending.remove(&key) {
                self.under_way(-1);
                self.fail(pending.reference, too_slow());
            }
        }
        self.seat.oldest.set(self.pending.values().map(|p| p.began).min());
    }
}

/// For tests: panics.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Panic;

impl Handler<Panic> for Session {
    type Result = ();
    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("a test asked the session to panic");
    }
}
