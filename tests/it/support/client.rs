//! A client that writes down what it does and sees, for the judge.
//!
//! One [`TestClient`] is one replica: its rooms' state and its history go on over reconnects. A task of its own takes every
//! push as it comes, so a test that waits for an answer never stops the socket from being read.

use super::SOON;
use super::node::{TestNode, TestUser};
use hubbub::check::history::{Acked, History as Written, Saw, Sent, Via, What};
use hubbub::check::recorder::{Recorder, now};
use hubbub::check::{self, Options as Rules, Verdict};
use hubbub::client::outbox::once;
use hubbub::client::{ClientError, Connection, End, Options, Replica};
use hubbub::error::Retry;
use hubbub::protocol::codec::Format;
use hubbub::protocol::entry::RoomKind;
use hubbub::protocol::ids::{ClientId, RoomId, Seq, UserId};
use hubbub::protocol::ops::{Create, Have, History, Ok as Reply, Push, Request, Resume, Send, Standing};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Pushes that a test may leave unread; a test that leaves more has forgotten them.
const PUSHES_MAX: usize = 1_000_000;

#[derive(Default)]
struct State {
    replica: Replica,
    pushes: VecDeque<Push>,
    /// Rooms of the resume under way, with what the client had.
    resuming: Vec<Have>,
    caught_up: bool,
    /// When nodes that drain wanted it to leave, of each drain.
    partings: Vec<u64>,
}

struct Inner {
    state: Mutex<State>,
    recorder: Recorder,
    /// Counts pushes, so that a test can wait for the next.
    came: watch::Sender<u64>,
}

/// One device of a user, over all its connections.
pub struct TestClient {
    pub user: TestUser,
    pub connection: Connection,
    format: Format,
    options: Options,
    inner: Arc<Inner>,
    /// Takes the pushes of the connection that is there now.
    collecting: JoinHandle<()>,
}

impl TestClient {
    /// Connects and catches up. `replica` names the device in what the judge says.
    pub async fn connect(node: &TestNode, user: &TestUser, replica: &str) -> TestClient {
        TestClient::connect_with(node, user, replica, Format::Msgpack, Options::default()).await
    }

    /// The same, with a choice of encoding and options.
    pub async fn connect_with(node: &TestNode, user: &TestUser, replica: &str, format: Format, options: Options) -> TestClient {
        let recorder = Recorder::new(user.id, replica);
        let inner = Arc::new(Inner { state: Mutex::default(), recorder, came: watch::channel(0).0 });
        inner.state.lock().replica.signed_in(user.id);
        let (connection, collecting) = inner.clone().open(&node.url(), user, format, &options).await;
        let client = TestClient { user: user.clone(), connection, format, options, inner, collecting };
        client.catch_up().await;
        client
    }

    /// Connects again (the old connection is closed if it still lives), and resumes from what it has.
    pub async fn reconnect(&mut self, node: &TestNode) {
        self.disconnect().await;
        (self.connection, self.collecting) = self.inner.clone().open(&node.url(), &self.user, self.format, &self.options).await;
        self.catch_up().await;
    }

    /// Closes the connection. What it had brought is taken in and written down when this returns.
    pub async fn disconnect(&mut self) {
        self.connection.close().await;
        if !self.collecting.is_finished() {
            (&mut self.collecting).await.expect("the collector does not panic");
        }
    }

    /// The same where that may fail, because something is broken; then the next node may be tried.
    pub async fn try_reconnect(&mut self, url: &str) -> Result<(), ClientError> {
        self.disconnect().await;
        (self.connection, self.collecting) = self.inner.clone().try_open(url, &self.user, self.format, &self.options).await?;
        self.try_catch_up().await
    }

    async fn catch_up(&self) {
        self.try_catch_up().await.unwrap_or_else(|e| panic!("{}: the resume failed: {e}", self.user.name));
    }

    async fn try_catch_up(&self) -> Result<(), ClientError> {
        let pages = {
            let mut state = self.inner.state.lock();
            let pages = state.replica.resume_pages();
            state.resuming = pages.iter().flat_map(|page| page.rooms.clone()).collect();
            state.caught_up = false;
            self.inner.recorder.note_all(state.resuming.iter().map(|h| What::ResumeStarted { room: h.room, have: h.have }));
            pages
        };
        let asked = pages.into_iter().map(|page| self.connection.request(Request::Resume(page)));
        for result in futures_util::future::join_all(asked).await {
            result?;
        }
        let gone = || self.connection.end().map(|end| Err(ClientError::Closed(end)));
        self.wait_for("the resume is complete", |state| if state.caught_up { Some(Ok(())) } else { gone() }).await
    }

    /// Makes a request and writes down what came of it.
    pub async fn request(&self, request: Request) -> Result<Reply, ClientError> {
        ask(&self.connection, &self.inner, request).await
    }

    /// Sends a text, which must succeed; `since` is what this client has seen.
    pub async fn send(&self, room: RoomId, text: &str) -> Reply {
        self.request(self.message(room, text)).await.unwrap_or_else(|e| panic!("{} sends {text:?}: {e}", self.user.name))
    }
    /// A send with a fresh client id, to be made (again and again) with [`TestClient::request`].
    pub fn message(&self, room: RoomId, text: &str) -> Request {
        Request::Send(Send::text(room, self.have(room), text))
    }
    /// Opens a room with these users, and waits until it is there.
    pub async fn create(&self, kind: RoomKind, members: &[UserId]) -> RoomId {
        let name = (kind != RoomKind::Direct).then(|| "test".to_owned());
        let create = Create { kind, name, topic: None, members: members.to_vec(), cid: ClientId::fresh() };
        let reply = self.request(Request::Create(create)).await.unwrap_or_else(|e| panic!("{} opens a room: {e}", self.user.name));
        reply.room.expect("the answer to a create names the room")
    }

    /// The last seq it has applied in a room.
    pub fn have(&self, room: RoomId) -> Seq {
        self.inner.state.lock().replica.have(room)
    }
    /// Looks at what it knows.
    pub fn view<R>(&self, look: impl FnOnce(&Replica) -> R) -> R {
        look(&self.inner.state.lock().replica)
    }
    /// Its history so far.
    pub fn history(&self) -> Written {
        self.inner.recorder.history()
    }
    /// Of each drain that it was told of, the time until which it was to stay, by the history's clock.
    pub fn partings(&self) -> Vec<u64> {
        self.inner.state.lock().partings.clone()
    }
    /// To write down what a test does past this client.
    pub fn recorder(&self) -> &Recorder {
        &self.inner.recorder
    }
    /// Says that the test has waited for quiet: all that was acknowledged before this instant must be here.
    pub fn settled(&self, since: u64) {
        self.inner.recorder.note(What::Settled { since });
    }
    /// Waits until it has applied `seq` of a room.
    pub async fn reaches(&self, room: RoomId, seq: Seq) {
        self.wait_for(&format!("room {room} reaches {seq}"), |state| (state.replica.have(room) >= seq).then_some(())).await;
    }
    /// How its connection ended.
    pub async fn ended(&self) -> End {
        let ended = tokio::time::timeout(SOON, self.connection.ended()).await;
        ended.unwrap_or_else(|_| panic!("{}: the connection did not end within {SOON:?}", self.user.name))
    }

    /// The next push, of those not yet taken, that fits; those before it are dropped.
    pub async fn expect_push(&self, what: &str, fits: impl Fn(&Push) -> bool) -> Push {
        self.wait_for(what, |state| {
            while let Some(push) = state.pushes.pop_front() {
                if fits(&push) {
                    return Some(push);
                }
            }
            None
        })
        .await
    }
    /// Fails if a push that fits comes within the time: for what must not happen.
    pub async fn expect_none(&self, what: &str, time: Duration, fits: impl Fn(&Push) -> bool) {
        let came = tokio::time::timeout(time, self.expect_push(what, fits)).await;
        assert!(came.is_err(), "{}: {what}: {came:?}", self.user.name);
    }
    /// Pushes not yet taken.
    pub fn take_pushes(&self) -> Vec<Push> {
        self.inner.state.lock().pushes.drain(..).collect()
    }

    async fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut came = self.inner.came.subscribe();
        let found = async {
            loop {
                came.borrow_and_update();
                if let Some(found) = look(&mut self.inner.state.lock()) {
                    return found;
                }
                if came.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let found = tokio::time::timeout(SOON, found).await;
        found.unwrap_or_else(|_| panic!("{}: not within {SOON:?}: {what} (connection: {:?})", self.user.name, self.connection.end()))
    }

    /// Reads a page of history and writes down what it claims to be complete for.
    pub async fn read_history(&self, page: History) -> Reply {
        let (room, end) = (page.room, Instant::now() + SOON);
        let (began, reply) = loop {
            let began = now();
            match self.request(Request::History(page.clone())).await {
                Ok(reply) => break (began, reply),
                // The room is changing its node.
                Err(ClientError::Api(e)) if e.retry != Retry::Never && Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(e.retry_after_ms.unwrap_or(20))).await;
                }
                Err(e) => panic!("{} reads history: {e}", self.user.name),
            }
        };
        let messages = reply.messages.as_deref().unwrap_or_default();
        let head = reply.head.unwrap_or_default();
        self.inner.recorder.note_all(messages.iter().map(|shown| What::Saw(Saw::shown(shown))));
        let seqs = || messages.iter().map(|shown| shown.entry.seq);
        // The newest page covers everything up to the head; any other what lies between its ends.
        let newest = page.before.is_none() && page.after.is_none() && page.around.is_none();
        let to = if newest { Some(head) } else { seqs().max() };
        if let (Some(from), Some(to)) = (seqs().min(), to) {
            self.inner.recorder.note(What::HistoryRead { room, began, from, to, head });
        }
        reply
    }

    /// Reads a room's whole log as this user's new device would, for the judge: the truth about loss.
    pub async fn read_log(&self, node: &TestNode, room: RoomId) {
        let began = now();
        let opened = Connection::open(&node.url(), &self.user.token, self.format, &self.options).await;
        let (connection, mut pushes) = opened.unwrap_or_else(|e| panic!("the observer connects: {e}"));
        let asking = connection.clone();
        let asked =
            tokio::spawn(async move { asking.request(Request::Resume(Resume { rooms: vec![Have { room, have: 0 }], last: true })).await });
        let (mut from, mut head, mut saws) = (0, 0, Vec::new());
        let reading = async {
            loop {
                match pushes.recv().await.expect("the observer's connection lives") {
                    Push::Room(told) if told.room == room => {
                        assert_ne!(told.standing, Standing::Resync, "the log is too long to be read by a resume");
                        (from, head) = (told.from, told.head);
                    }
                    Push::Entries(page) if page.room == room => {
                        saws.extend(page.entries.iter().map(|e| What::Saw(Saw::entry(e, Via::Log))))
                    }
                    Push::Entry(e) if e.room == room && e.seq <= head => saws.push(What::Saw(Saw::entry(&e, Via::Log))),
                    Push::Resumed(_) => return,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(SOON, reading).await.expect("the log can be read");
        asked.await.expect("no panic").expect("the observer's resume");
        connection.close().await;
        self.inner.recorder.note_all(saws.into_iter().chain([What::LogRead { room, began, from: from + 1, head }]));
    }
}

async fn ask(connection: &Connection, inner: &Inner, mut request: Request) -> Result<Reply, ClientError> {
    let Some(sent) = Sent::request(&request) else { return connection.request(request).await };
    let (cid, room) =
        once(&mut request).map(|(cid, room, _)| (cid, room.unwrap_or_default())).expect("what makes an entry has a client id");
    let (joins, leaves) = (matches!(request, Request::Join(_)), matches!(request, Request::Leave(_)));
    // A direct room may be there already: the answer names the room, and not this request's own entry.
    let finds = matches!(&request, Request::Create(create) if create.kind == RoomKind::Direct);
    inner.recorder.note(What::Sent(sent));
    let result = connection.request(request).await;
    match &result {
        Ok(reply) => {
            let room = reply.room.unwrap_or(room);
            if let Some(seq) = reply.seq.filter(|_| !finds) {
                inner.recorder.note(What::Acked(Acked { room, cid, seq, n: reply.n, id: reply.id }));
            }
            if joins {
                inner.recorder.note(What::Entered { room });
            }
            if leaves {
                inner.recorder.note(What::Left { room });
            }
        }
        Err(ClientError::Api(e)) => inner.recorder.note(What::Refused { room, cid, code: e.code, retry: e.retry }),
        Err(_) => inner.recorder.note(What::Unknown { room, cid }),
    }
    result
}

impl Inner {
    async fn open(self: Arc<Self>, url: &str, user: &TestUser, format: Format, options: &Options) -> (Connection, JoinHandle<()>) {
        self.try_open(url, user, format, options).await.unwrap_or_else(|e| panic!("{} connects: {e}", user.name))
    }

    async fn try_open(
        self: Arc<Self>,
        url: &str,
        user: &TestUser,
        format: Format,
        options: &Options,
    ) -> Result<(Connection, JoinHandle<()>), ClientError> {
        let (connection, pushes) = Connection::open(url, &user.token, format, options).await?;
        self.recorder.note(What::Connected);
        let collecting = tokio::spawn(self.collect(connection.clone(), pushes));
        Ok((connection, collecting))
    }

    /// Takes every push of one connection.
    async fn collect(self: Arc<Self>, connection: Connection, mut pushes: mpsc::Receiver<Push>) {
        while let Some(push) = pushes.recv().await {
            let mut state = self.state.lock();
            self.write_down(&push, &mut state);
            state.pushes.push_back(push);
            assert!(state.pushes.len() <= PUSHES_MAX, "the test leaves too many pushes unread");
            drop(state);
            self.came.send_modify(|n| *n += 1);
        }
        let end = connection.ended().await;
        self.recorder.note(What::Closed { code: end.code });
        self.came.send_modify(|n| *n += 1);
    }

    /// What the client was shown is written down as it came, also what it would drop as a double: the judge decides.
    fn write_down(&self, push: &Push, state: &mut State) {
        match push {
            Push::Entry(entry) => {
                self.recorder.note(What::Saw(Saw::entry(entry, Via::Live)));
                state.replica.apply(entry);
            }
            Push::Entries(page) => {
                self.recorder.note_all(page.entries.iter().map(|e| What::Saw(Saw::entry(e, Via::Resume))));
                for entry in &page.entries {
                    state.replica.apply(entry);
                }
            }
            Push::Room(told) => {
                let (room, head) = (told.room, told.head);
                match told.standing {
                    Standing::CatchUp => {}
                    Standing::Joined => self.recorder.note(What::Began { room, from: told.from, head }),
                    Standing::Left => self.recorder.note(What::Left { room }),
                    Standing::Resync => self.recorder.note(What::Resync { room, head }),
                }
                state.resuming.retain(|h| h.room != room);
                if told.standing != Standing::Left {
                    state.resuming.push(Have { room, have: head });
                }
                state.replica.standing(told);
            }
            Push::Resumed(resumed) => {
                let resumed_rooms = std::mem::take(&mut state.resuming);
                self.recorder.note_all(resumed_rooms.into_iter().map(|h| What::Resumed { room: h.room, head: h.have }));
                resumed.cursors.iter().for_each(|c| state.replica.cursor(c));
                state.caught_up = true;
            }
            Push::Drain(drain) => state.partings.push(now() + drain.after_ms * 1_000),
            _ => {}
        }
    }
}

/// Judges what these clients wrote down; panics with every violation if there is one.
pub fn judge<'a>(clients: impl IntoIterator<Item = &'a TestClient>, rules: &Rules) -> Verdict {
    let histories: Vec<Written> = clients.into_iter().map(TestClient::history).collect();
    let verdict = check::judge(&histories, rules).unwrap_or_else(|e| panic!("no verdict: {e}"));
    let described: Vec<String> = verdict.violations.iter().map(|v| format!("{v:#?}")).collect();
    assert!(verdict.is_clean(), "the judge found {:?}:\n{}", verdict.counts, described.join("\n"));
    verdict
}
