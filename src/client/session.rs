//! A user's whole stay: connects, resumes with `have`, reconnects by the close code, and sends what is unanswered again.
//!
//! A request that makes an entry is answered once, however often the connection breaks: it waits in the [`Outbox`] with its
//! client id until the server answers or its entry is seen in the log. At a hole in a room, and when the server answers
//! `resync`, the client reconnects and resumes: one way of catching up, always the same.
//!
//! Bounds: [`Settings::outbox_max`] unanswered requests ([`ClientError::Full`] above), [`Settings::events_max`] events that
//! wait for the program; when it does not take them the socket is not read (whoever waits for a [`Ticket`] must go on
//! taking events), and the server will close it as a slow reader.

use super::ClientError;
use super::backoff::Backoff;
use super::connection::{Connection, End, Options};
use super::outbox::{self, Outbox};
use super::replica::{Applied, Replica};
use super::rest::Rest;
use crate::error::{ApiError, Code, Retry};
use crate::protocol::close::Close;
use crate::protocol::codec::Format;
use crate::protocol::entry::Entry;
use crate::protocol::ids::{ClientId, RoomId};
use crate::protocol::ops::{Hello, Ok as Reply, PresencePush, Push, Receipt, Refresh, Request, RoomStanding, Send, Standing, TypingPush};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

/// Commands that may wait; above it callers wait.
const COMMANDS_MAX: usize = 64;
/// Wait before a request is sent again that the server asked to send again without saying when.
const RETRY_WAIT: Duration = Duration::from_millis(200);

/// What a client signs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// An access token.
    pub token: String,
    /// To get the next one with.
    pub refresh: Option<String>,
}

/// What may be chosen about a client.
#[derive(Clone)]
pub struct Settings {
    /// The server's address.
    pub url: String,
    /// What it signs in with.
    pub credentials: Credentials,
    /// Encoding on the wire.
    pub format: Format,
    /// Of every connection.
    pub connection: Options,
    /// Between connections.
    pub backoff: Backoff,
    /// Unanswered requests at most.
    pub outbox_max: usize,
    /// Events that may wait for the program.
    pub events_max: usize,
}

impl Settings {
    /// The usual ones.
    pub fn new(url: &str, token: &str) -> Settings {
        Settings {
            url: url.into(),
            credentials: Credentials { token: token.into(), refresh: None },
            format: Format::Msgpack,
            connection: Options::default(),
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
            outbox_max: 1_000,
            events_max: 1_024,
        }
    }
}

/// What a program is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Signed in; the resume begins.
    Connected(Hello),
    /// The resume is complete.
    CaughtUp {
        /// Entries that it brought.
        missed: u64,
        /// It is not the first one of this client.
        again: bool,
    },
    /// The next entry of a room.
    Entry {
        /// The entry.
        entry: Entry,
        /// It came as it happened, not in a resume.
        live: bool,
    },
    /// How a room stands, or that one came or went.
    Standing(Box<RoomStanding>),
    /// Somebody types, or stopped.
    Typing(TypingPush),
    /// Somebody's cursors moved.
    Receipt(Receipt),
    /// A contact's presence.
    Presence(PresencePush),
    /// New tokens: the old ones are used up.
    Renewed(Credentials),
    /// The connection is gone; the next attempt is after this wait.
    Disconnected {
        /// Why.
        why: ClientError,
        /// How long.
        wait: Duration,
    },
    /// There will be no further attempt. The last event.
    Ended(ClientError),
}

type Answer = oneshot::Sender<Result<Reply, ClientError>>;

enum Command {
    Once(Box<Request>, Answer),
    Ask(Box<Request>, Answer),
    Stop,
}

/// A request under way: a future of its answer.
#[derive(Debug)]
pub struct Ticket {
    /// Its client id.
    pub cid: ClientId,
    answer: oneshot::Receiver<Result<Reply, ClientError>>,
}

impl Future for Ticket {
    type Output = Result<Reply, ClientError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map(|answer| answer.unwrap_or(Err(ClientError::NotConnected)))
    }
}

/// A user's stay. Clones share it; it ends with [`Client::stop`] or when the last one is dropped.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    replica: Arc<Mutex<Replica>>,
}

impl Client {
    /// Begins; the events tell how it goes.
    pub fn start(settings: Settings) -> (Client, mpsc::Receiver<Event>) {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (events, reader) = mpsc::channel(settings.events_max.max(1));
        let replica = Arc::new(Mutex::new(Replica::new()));
        let worker = Worker {
            outbox: Outbox::new(settings.outbox_max),
            rest: Rest::new(&settings.url),
            settings,
            inbox,
            events,
            replica: replica.clone(),
            caught_up_before: false,
        };
        tokio::spawn(worker.run());
        (Client { commands, replica }, reader)
    }

    /// Sends a text; the ticket is answered once the message is in the log, or refused.
    pub async fn send(&self, room: RoomId, text: &str) -> Result<Ticket, ClientError> {
        self.submit(Request::Send(Send::text(room, 0, text))).await
    }

    /// Submits any request that has a client id; its `since` is set at the first transmission.
    pub async fn submit(&self, mut request: Request) -> Result<Ticket, ClientError> {
        let Some((cid, ..)) = outbox::once(&mut request) else {
            return Err(ClientError::Unusable(format!("{} has no client id: ask it", request.op())));
        };
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Once(Box::new(request), answer)).await.map_err(|_| ClientError::NotConnected)?;
        Ok(Ticket { cid, answer: answered })
    }

    /// Asks something that may be asked twice; fails when there is no connection.
    pub async fn ask(&self, request: Request) -> Result<Reply, ClientError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Ask(Box::new(request), answer)).await.map_err(|_| ClientError::NotConnected)?;
        answered.await.unwrap_or(Err(ClientError::NotConnected))
    }

    /// Looks at what is known.
    pub fn view<R>(&self, look: impl FnOnce(&Replica) -> R) -> R {
        look(&self.replica.lock())
    }

    /// Ends it; requests not answered are given up.
    pub async fn stop(&self) {
        // If the worker has ended there is nothing to stop.
        let _ = self.commands.send(Command::Stop).await;
    }
}

/// What comes back to the loop of a connection.
enum Done {
    Once(ClientId, Result<Reply, ClientError>),
    Waited(ClientId),
    Resume(Result<Reply, ClientError>),
    Asked(Result<Reply, ClientError>, Answer),
    Renewed(Result<Credentials, ClientError>),
}

/// Why a connection is left.
enum Left {
    Stopped,
    Lost(ClientError, Option<Duration>),
}

impl Left {
    /// The time that the server named has come, and it has not closed.
    fn drained() -> Left {
        let end = End { code: Close::DRAINING.code, reason: "the server drains".into() };
        Left::Lost(ClientError::Closed(end), Some(Duration::ZERO))
    }
    fn resume(why: &str) -> Left {
        Left::Lost(ClientError::Closed(End { code: Close::RESUME.code, reason: why.into() }), None)
    }
}

/// One connection's state in the loop.
struct Live {
    connection: Connection,
    working: FuturesUnordered<BoxFuture<'static, Done>>,
    caught_up: bool,
    missed: u64,
    heard: Instant,
    reconnect_at: Option<Instant>,
    renew_at: Option<Instant>,
}

struct Worker {
    settings: Settings,
    rest: Rest,
    inbox: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    replica: Arc<Mutex<Replica>>,
    outbox: Outbox<Answer>,
    caught_up_before: bool,
}

impl Worker {
    async fn run(mut self) {
        let why = loop {
            let (why, asked) = match self.stay().await {
                Left::Stopped => break ClientError::Closed(End { code: 1000, reason: "stopped".into() }),
                Left::Lost(why, asked) => (why, asked),
            };
            self.outbox.disconnected();
            if is_expired(&why) && self.renew_now().await {
                continue;
            }
            let Some(wait) = self.settings.backoff.wait(why.next(), asked) else { break why };
            self.tell(Event::Disconnected { why, wait }).await;
            if self.meanwhile(sleep(wait)).await.is_none() {
                break ClientError::Closed(End { code: 1000, reason: "stopped".into() });
            }
        };
        for answer in self.outbox.drain() {
            let _ = answer.send(Err(why.clone()));
        }
        self.tell(Event::Ended(why)).await;
    }

    /// One connection from beginning to end.
    async fn stay(&mut self) -> Left {
        let s = self.settings.clone();
        let opening = async move { Connection::open(&s.url, &s.credentials.token, s.format, &s.connection).await };
        match self.meanwhile(opening).await {
            None => Left::Stopped,
            Some(Err(e)) => Left::Lost(e, None),
            Some(Ok((connection, pushes))) => {
                let left = self.live(connection.clone(), pushes).await;
                if !matches!(&left, Left::Lost(ClientError::Closed(_), _)) || connection.end().is_none() {
                    connection.close().await;
                }
                left
            }
        }
    }

    /// Does `work` while taking commands; `None`: stopped.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                command = self.inbox.recv() => match command {
                    Some(Command::Once(request, answer)) => self.take_in(*request, answer),
                    Some(Command::Ask(_, answer)) => { let _ = answer.send(Err(ClientError::NotConnected)); }
                    Some(Command::Stop) | None => return None,
                },
            }
        }
    }

    fn take_in(&mut self, request: Request, answer: Answer) {
        let full = ClientError::Full(self.settings.outbox_max);
        if let Err(answer) = self.outbox.push(request, answer) {
            let _ = answer.send(Err(full));
        }
    }

    async fn live(&mut self, connection: Connection, mut pushes: mpsc::Receiver<Push>) -> Left {
        let hello = connection.hello().clone();
        self.replica.lock().signed_in(hello.user);
        let valid = Duration::from_millis(hello.expires.saturating_sub(hello.now));
        let renew_at = self.settings.credentials.refresh.is_some().then(|| Instant::now() + valid.mul_f64(0.8));
        let working = FuturesUnordered::new();
        let mut live = Live { connection, working, caught_up: false, missed: 0, heard: Instant::now(), reconnect_at: None, renew_at };
        self.tell(Event::Connected(hello)).await;
        let pages = self.replica.lock().resume_pages();
        for page in pages {
            live.ask(Request::Resume(page), Done::Resume);
        }
        loop {
            if live.caught_up {
                let due = self.outbox.due(&self.replica.lock());
                for (cid, request) in due {
                    live.ask(request, move |result| Done::Once(cid, result));
                }
            }
            let stalled = live.heard + self.settings.connection.request_timeout;
            let renew = live.renew_at.unwrap_or_else(Instant::now);
            let leave = live.reconnect_at.unwrap_or_else(Instant::now);
            let step = tokio::select! {
                push = pushes.recv() => match push {
                    Some(push) => self.on_push(push, &mut live).await,
                    None => Err(live.lost().await),
                },
                Some(done) = live.working.next(), if !live.working.is_empty() => self.on_done(done, &mut live).await,
                command = self.inbox.recv() => match command {
                    Some(Command::Once(request, answer)) => { self.take_in(*request, answer); Ok(()) }
                    Some(Command::Ask(request, answer)) => { live.ask(*request, |result| Done::Asked(result, answer)); Ok(()) }
                    Some(Command::Stop) | None => Err(Left::Stopped),
                },
                () = sleep_until(stalled), if !live.caught_up => Err(Left::resume("the resume stood still")),
                () = sleep_until(renew), if live.renew_at.is_some() => { self.renew(&mut live); Ok(()) }
                () = sleep_until(leave), if live.reconnect_at.is_some() => Err(Left::drained()),
            };
            if let Err(left) = step {
                return left;
            }
        }
    }

    async fn on_push(&mut self, push: Push, live: &mut Live) -> Result<(), Left> {
        live.heard = Instant::now();
        match push {
            Push::Entry(entry) => self.on_entry(entry, live).await?,
            Push::Entries(page) => {
                for entry in page.entries {
                    self.on_entry(entry, live).await?;
                }
            }
            Push::Room(told) => {
                self.replica.lock().standing(&told);
                if told.standing == Standing::Resync {
                    for answer in self.outbox.lost_track(told.room) {
                        let _ = answer.send(Err(ClientError::Undecided));
                    }
                }
                self.tell(Event::Standing(Box::new(told))).await;
            }
            Push::Resumed(resumed) => {
                {
                    let mut replica = self.replica.lock();
                    resumed.cursors.iter().for_each(|c| replica.cursor(c));
                }
                for presence in resumed.presence {
                    self.tell(Event::Presence(presence)).await;
                }
                live.caught_up = true;
                self.outbox.resumed();
                self.settings.backoff.succeeded();
                let again = std::mem::replace(&mut self.caught_up_before, true);
                self.tell(Event::CaughtUp { missed: live.missed, again }).await;
            }
            Push::Typing(typing) => self.tell(Event::Typing(typing)).await,
            Push::Receipt(receipt) => self.tell(Event::Receipt(receipt)).await,
            Push::Presence(presence) => self.tell(Event::Presence(presence)).await,
            Push::Drain(drain) => live.reconnect_at = Some(Instant::now() + Duration::from_millis(drain.after_ms)),
            // Replies were taken by the connection; a second hello answers nothing.
            Push::Ok(_) | Push::Error(_) | Push::Hello(_) => {}
        }
        Ok(())
    }

    async fn on_entry(&mut self, entry: Entry, live: &mut Live) -> Result<(), Left> {
        let (applied, mine) = {
            let mut replica = self.replica.lock();
            (replica.apply(&entry), replica.me() == Some(entry.by))
        };
        match applied {
            Applied::Double => return Ok(()),
            Applied::Gap { have } => {
                return Err(Left::resume(&format!("room {}: entry {} came after {have}", entry.room, entry.seq)));
            }
            Applied::New => {}
        }
        if mine && let Some((answer, reply)) = self.outbox.seen(&entry) {
            let _ = answer.send(Ok(reply));
        }
        live.missed += u64::from(!live.caught_up);
        self.tell(Event::Entry { entry, live: live.caught_up }).await;
        Ok(())
    }

    async fn on_done(&mut self, done: Done, live: &mut Live) -> Result<(), Left> {
        match done {
            Done::Once(cid, Ok(reply)) => self.answer(cid, Ok(reply)),
            Done::Once(cid, Err(ClientError::Api(ApiError { code: Code::Resync, .. }))) => {
                self.outbox.resync(cid);
                return Err(Left::resume("a request went out too long ago to be recognised"));
            }
            // It stays in the outbox and goes out on the next connection.
            Done::Once(_, Err(ClientError::Closed(_))) => {}
            Done::Once(cid, Err(ClientError::Api(e))) if e.retry == Retry::Never => self.answer(cid, Err(ClientError::Api(e))),
            Done::Once(cid, Err(e)) => {
                let asked = if let ClientError::Api(e) = &e { e.retry_after_ms.map(Duration::from_millis) } else { None };
                let wait = asked.unwrap_or(RETRY_WAIT);
                live.working.push(Box::pin(async move {
                    sleep(wait).await;
                    Done::Waited(cid)
                }));
            }
            Done::Waited(cid) => self.outbox.again(cid),
            // What a resume brings, and its end, come as pushes; only a refusal is told here.
            Done::Resume(Err(e @ ClientError::Api(_))) => return Err(Left::Lost(e, None)),
            Done::Resume(_) => {}
            Done::Asked(result, answer) => {
                if let Ok(reply) = &result {
                    let mut replica = self.replica.lock();
                    replica.history(reply.messages.as_deref().unwrap_or_default());
                    reply.rooms.iter().flatten().for_each(|row| replica.summary(row));
                }
                let _ = answer.send(result);
            }
            Done::Renewed(Ok(credentials)) => {
                self.settings.credentials = credentials.clone();
                self.tell(Event::Renewed(credentials)).await;
            }
            // The old token goes on until it ends; then the close code says what to do.
            Done::Renewed(Err(_)) => {}
        }
        Ok(())
    }

    fn answer(&mut self, cid: ClientId, result: Result<Reply, ClientError>) {
        if let Some(answer) = self.outbox.answered(cid) {
            let _ = answer.send(result);
        }
    }

    /// Gets new tokens and gives the session the new one.
    fn renew(&mut self, live: &mut Live) {
        live.renew_at = None;
        let Some(refresh) = self.settings.credentials.refresh.clone() else { return };
        let (rest, connection) = (self.rest.clone(), live.connection.clone());
        live.working.push(Box::pin(async move {
            let signed = match rest.refresh(&refresh).await {
                Ok(signed) => signed,
                Err(e) => return Done::Renewed(Err(e)),
            };
            let credentials = Credentials { token: signed.access_token, refresh: Some(signed.refresh_token) };
            // If the socket does not take it, the next connection will.
            let _ = connection.request(Request::Refresh(Refresh { token: credentials.token.clone() })).await;
            Done::Renewed(Ok(credentials))
        }));
    }

    /// The token has ended: gets another one, if it can.
    async fn renew_now(&mut self) -> bool {
        let Some(refresh) = self.settings.credentials.refresh.take() else { return false };
        let rest = self.rest.clone();
        let Some(Ok(signed)) = self.meanwhile(async move { rest.refresh(&refresh).await }).await else { return false };
        let credentials = Credentials { token: signed.access_token, refresh: Some(signed.refresh_token) };
        self.settings.credentials = credentials.clone();
        self.tell(Event::Renewed(credentials)).await;
        true
    }

    async fn tell(&self, event: Event) {
        // A program that dropped the events' end only wants answers.
        let _ = self.events.send(event).await;
    }
}

impl Live {
    fn ask(&mut self, request: Request, done: impl FnOnce(Result<Reply, ClientError>) -> Done + std::marker::Send + 'static) {
        let connection = self.connection.clone();
        self.working.push(Box::pin(async move { done(connection.request(request).await) }));
    }

    async fn lost(&mut self) -> Left {
        let end = self.connection.ended().await;
        let wait = self.reconnect_at.map(|at| at.saturating_duration_since(Instant::now()));
        Left::Lost(ClientError::Closed(end), wait)
    }
}

fn is_expired(why: &ClientError) -> bool {
    match why {
        ClientError::Closed(end) => end.code == Close::EXPIRED.code,
        ClientError::Api(e) => e.code == Code::TokenExpired,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
