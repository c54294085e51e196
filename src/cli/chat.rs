//! `hubbub chat`: a line-mode client over the real protocol, for people in a terminal and for scripts behind a pipe.
//!
//! Lines go out in their order: a command is finished before the next line is read, messages wait for their answers beside
//! it. At the end of the input it waits until every message is answered, then leaves with exit code 0; 1 when a message
//! was not sent or the server refused the client, 2 for wrong usage.

mod input;
mod screen;

use crate::client::rest::UserFound;
use crate::client::session::Credentials;
use crate::client::{Client, ClientError, Event, Rest, Settings, Ticket};
use crate::protocol::codec::Format;
use crate::protocol::entry::{Entry, RoomKind};
use crate::protocol::ids::{ClientId, RoomId};
use crate::protocol::ops::{
    Create, EditMessage, History, InRoom, MemberShown, Members, OnMember, OnMessage, ReactTo, Request, Rooms, Shown,
};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use input::Input;
use screen::Screen;
use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::sync::mpsc;

/// Entries that wait for a name to be looked up; above it they are shown with the user's id.
const HELD_MAX: usize = 1_000;
/// At the end of the input: how long to wait for answers.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `hubbub chat`.
#[derive(clap::Args)]
pub struct Args {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8080", env = "HUBBUB_URL")]
    url: String,
    /// Your name
    #[arg(long, required_unless_present = "token")]
    user: Option<String>,
    /// An access token, instead of a name and a password
    #[arg(long, env = "HUBBUB_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Read the password from the first line of standard input (else from $HUBBUB_PASSWORD, else ask)
    #[arg(long)]
    password_stdin: bool,
    /// Make the account first
    #[arg(long)]
    register: bool,
    /// Go to this room
    #[arg(long, value_name = "ID", conflicts_with = "with")]
    room: Option<RoomId>,
    /// Go to the direct room with this user
    #[arg(long, value_name = "NAME")]
    with: Option<String>,
    /// Print what happens as JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Speak JSON on the wire instead of MessagePack
    #[arg(long)]
    wire_json: bool,
}

/// Why it ended badly.
enum Failure {
    Usage(String),
    Client(ClientError),
    Io(io::Error),
    Unsent(usize),
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        Failure::Client(e)
    }
}
impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Failure::Io(e)
    }
}

/// Runs it.
pub fn run(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(1, &e.to_string()),
    };
    let result = runtime.block_on(chat(args));
    // A thread may still be reading standard input; nothing waits for it.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(why)) => fail(2, &why),
        Err(Failure::Client(why)) => fail(1, &why.to_string()),
        Err(Failure::Unsent(n)) => fail(1, &format!("{n} messages or commands failed")),
        // Who reads our output has gone: nobody is left to tell.
        Err(Failure::Io(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Io(e)) => fail(1, &e.to_string()),
    }
}

fn fail(code: u8, why: &str) -> ExitCode {
    use io::Write;
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "hubbub: chat: {why}");
    ExitCode::from(code)
}

async fn chat(args: Args) -> Result<(), Failure> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let rest = Rest::new(&args.url);
    let credentials = sign_in(&args, &rest, &mut lines).await?;
    let mut settings = Settings::new(&args.url, &credentials.token);
    settings.credentials = credentials.clone();
    settings.format = if args.wire_json { Format::Json } else { Format::Msgpack };
    let (client, events) = Client::start(settings);
    let first = match (args.room, args.with) {
        (Some(room), _) => Some(Input::Join(room.to_string())),
        (None, Some(name)) => Some(Input::With(name)),
        (None, None) => None,
    };
    let mut screen = Screen::new(args.json);
    // Without an answer contacts are shown by their ids.
    for contact in rest.contacts(&credentials.token).await.unwrap_or_default() {
        screen.learn(contact.user, &contact.name);
    }
    let chat = Chat {
        worker: Worker { client, rest, token: credentials.token },
        screen,
        room: None,
        first,
        command: None,
        lookup: None,
        held: VecDeque::new(),
        tickets: FuturesUnordered::new(),
        ready: false,
        failures: 0,
    };
    chat.run(events, lines).await
}

async fn sign_in(args: &Args, rest: &Rest, lines: &mut Lines<BufReader<Stdin>>) -> Result<Credentials, Failure> {
    if let Some(token) = &args.token {
        return Ok(Credentials { token: token.clone(), refresh: None });
    }
    let Some(name) = &args.user else { return Err(Failure::Usage("--user or --token is needed".into())) };
    let password = password(args, name, lines).await?;
    let signed = if args.register { rest.register(name, &password).await? } else { rest.login(name, &password).await? };
    Ok(Credentials { token: signed.access_token, refresh: Some(signed.refresh_token) })
}

async fn password(args: &Args, name: &str, lines: &mut Lines<BufReader<Stdin>>) -> Result<String, Failure> {
    if args.password_stdin {
        return lines.next_line().await?.ok_or_else(|| Failure::Usage("there is no password on standard input".into()));
    }
    if let Ok(password) = std::env::var("HUBBUB_PASSWORD") {
        return Ok(password);
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage("no password: use --password-stdin or set HUBBUB_PASSWORD".into()));
    }
    let prompt = format!("password of {name}: ");
    match tokio::task::spawn_blocking(move || rpassword::prompt_password(prompt)).await {
        Ok(password) => Ok(password?),
        Err(e) => Err(Failure::Usage(e.to_string())),
    }
}

/// What a command came to.
enum Outcome {
    Done,
    /// The room, and who is in it as far as somebody had to be found for it.
    Entered(RoomId, Option<UserFound>),
    Rooms(Vec<crate::protocol::ops::RoomSummary>),
    History(RoomId, Vec<Shown>),
    Who(Vec<MemberShown>),
    Failed(&'static str, ClientError),
}

struct Chat {
    worker: Worker,
    screen: Screen,
    /// Where lines go.
    room: Option<RoomId>,
    /// What to do once caught up for the first time.
    first: Option<Input>,
    command: Option<BoxFuture<'static, Outcome>>,
    /// Names being looked up; entries wait for it in `held`.
    lookup: Option<BoxFuture<'static, Vec<MemberShown>>>,
    held: VecDeque<(Entry, bool)>,
    tickets: FuturesUnordered<Ticket>,
    ready: bool,
    failures: usize,
}

impl Chat {
    async fn run(mut self, mut events: mpsc::Receiver<Event>, mut lines: Lines<BufReader<Stdin>>) -> Result<(), Failure> {
        let mut ended = false;
        let patience = tokio::time::sleep(ANSWERS_TIMEOUT);
        tokio::pin!(patience);
        loop {
            if ended && self.command.is_none() && self.tickets.is_empty() {
                break;
            }
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Ended(why)) => {
                        self.screen.connection(&Event::Ended(why.clone()))?;
                        return Err(Failure::Client(why));
                    }
                    Some(event) => self.on_event(event)?,
                    None => break,
                },
                found = wait(&mut self.lookup), if self.lookup.is_some() => self.on_names(found)?,
                outcome = wait(&mut self.command), if self.command.is_some() => self.on_outcome(outcome)?,
                Some(answer) = self.tickets.next(), if !self.tickets.is_empty() => if let Err(why) = answer {
                    self.failures += 1;
                    self.screen.failed("not sent", &why.to_string())?;
                },
                line = lines.next_line(), if self.ready && self.command.is_none() && !ended => match line? {
                    Some(line) => ended = self.on_line(&line).await?,
                    None => ended = true,
                },
                () = &mut patience, if ended => break,
            }
            if !ended {
                patience.as_mut().reset(tokio::time::Instant::now() + ANSWERS_TIMEOUT);
            }
        }
        self.failures += self.tickets.len();
        self.worker.client.stop().await;
        if self.failures > 0 { Err(Failure::Unsent(self.failures)) } else { Ok(()) }
    }

    fn on_event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Connected(hello) => {
                self.screen.learn(hello.user, &hello.name);
                self.screen.connection(&Event::Connected(hello))?;
            }
            Event::CaughtUp { .. } => {
                self.screen.connection(&event)?;
                if !std::mem::replace(&mut self.ready, true)
                    && let Some(first) = self.first.take()
                {
                    self.command = self.worker.command(first, self.room);
                }
            }
            Event::Entry { entry, live } => {
                self.held.push_back((entry, live));
                self.show_held()?;
            }
            Event::Presence(presence) => self.screen.presence(&presence)?,
            Event::Renewed(credentials) => self.worker.token = credentials.token,
            Event::Disconnected { .. } => self.screen.connection(&event)?,
            Event::Standing(_) | Event::Typing(_) | Event::Receipt(_) | Event::Ended(_) => {}
        }
        Ok(())
    }

    /// Shows entries in order; one by somebody unknown, or of a room without a name, first has them looked up.
    fn show_held(&mut self) -> io::Result<()> {
        while let Some((entry, live)) = self.held.front() {
            let labelled =
                |room: &crate::client::replica::Room| room.summary.is_some() && room.peer().is_none_or(|peer| self.screen.knows(peer));
            let known = self.screen.knows(entry.by) && self.worker.client.view(|r| r.room(entry.room).is_some_and(labelled));
            if !known && self.held.len() <= HELD_MAX {
                if self.lookup.is_none() {
                    self.lookup = Some(self.worker.names(entry.room));
                }
                return Ok(());
            }
            self.worker.client.view(|r| self.screen.entry(r, entry, *live))?;
            self.held.pop_front();
        }
        Ok(())
    }

    fn on_names(&mut self, found: Vec<MemberShown>) -> io::Result<()> {
        found.iter().for_each(|m| self.screen.learn(m.user, &m.name));
        // Whoever is still unknown has left, or nobody answers: shown by id.
        if let Some((entry, live)) = self.held.pop_front() {
            self.worker.client.view(|r| self.screen.entry(r, &entry, live))?;
        }
        self.show_held()
    }

    /// A line of input; true: it was the last one.
    async fn on_line(&mut self, line: &str) -> Result<bool, Failure> {
        match (input::parse(line), self.room) {
            (Err(why), _) => {
                self.failures += 1;
                self.screen.failed("not understood", &why)?;
            }
            (Ok(Input::Nothing), _) => {}
            (Ok(Input::Help), _) => self.screen.note(input::HELP)?,
            (Ok(Input::Quit), _) => return Ok(true),
            (Ok(Input::Text(text)), Some(room)) => match self.worker.client.send(room, &text).await {
                Ok(ticket) => self.tickets.push(ticket),
                Err(why) => self.screen.failed("not sent", &why.to_string())?,
            },
            (Ok(input), room) => {
                self.command = self.worker.command(input, room);
                if self.command.is_none() {
                    self.failures += 1;
                    self.screen.failed("no room", "first /with NAME, /join NAME or /create NAME")?;
                }
            }
        }
        Ok(false)
    }

    fn on_outcome(&mut self, outcome: Outcome) -> io::Result<()> {
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Entered(room, found) => {
                found.iter().for_each(|other| self.screen.learn(other.user, &other.name));
                self.room = Some(room);
                // The room itself may come after the answer.
                let label =
                    found.map_or_else(|| self.worker.client.view(|r| self.screen.label(r, room)), |other| format!("@{}", other.name));
                self.screen.show(&format!("[in {label}, id {room}]"), serde_json::json!({"event": "in_room", "room": room}))
            }
            Outcome::Rooms(rooms) => self.screen.rooms(&rooms),
            Outcome::Who(members) => {
                members.iter().for_each(|m| self.screen.learn(m.user, &m.name));
                self.screen.members(&members)
            }
            Outcome::History(room, messages) => {
                let label = self.worker.client.view(|r| self.screen.label(r, room));
                self.screen.history(&label, &messages)
            }
            Outcome::Failed(what, why) => {
                self.failures += 1;
                self.screen.failed(what, &why.to_string())
            }
        }
    }
}

/// Waits for what is in the slot and empties it.
async fn wait<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => {
            let done = future.await;
            *slot = None;
            done
        }
        None => std::future::pending().await,
    }
}

/// What commands need to be done; clones go into their futures.
#[derive(Clone)]
struct Worker {
    client: Client,
    rest: Rest,
    token: String,
}

impl Worker {
    /// The command as a future; `None`: it needs a room and there is none.
    fn command(&self, input: Input, room: Option<RoomId>) -> Option<BoxFuture<'static, Outcome>> {
        let worker = self.clone();
        let name = what(&input);
        let needs_room = !matches!(input, Input::Rooms | Input::Join(_) | Input::With(_) | Input::Create(_));
        if needs_room && room.is_none() {
            return None;
        }
        let room = room.unwrap_or_default();
        Some(Box::pin(async move { worker.run(input, room).await.unwrap_or_else(|why| Outcome::Failed(name, why)) }))
    }

    async fn run(&self, input: Input, room: RoomId) -> Result<Outcome, ClientError> {
        let (cid, since) = (ClientId::fresh(), 0);
        match input {
            Input::Rooms => Ok(Outcome::Rooms(self.client.ask(Request::Rooms(Rooms::default())).await?.rooms.unwrap_or_default())),
            Input::Join(room) => self.join(&room).await,
            Input::With(name) => self.with(&name).await,
            Input::Create(name) => {
                let create = Create { kind: RoomKind::Group, name: Some(name), topic: None, members: Vec::new(), cid };
                self.entered(Request::Create(create)).await
            }
            Input::Invite(name) => {
                let user = self.rest.by_name(&self.token, &name).await?.user;
                self.done(Request::Invite(OnMember { room, user, cid, since }.into())).await
            }
            Input::History(limit) => {
                let page = History { room, limit: Some(limit), ..History::default() };
                Ok(Outcome::History(room, self.client.ask(Request::History(page)).await?.messages.unwrap_or_default()))
            }
            Input::Edit(seq, text) => self.done(Request::Edit(EditMessage { room, seq, text, mentions: Vec::new(), cid, since })).await,
            Input::Delete(seq) => self.done(Request::Delete(OnMessage { room, seq, cid, since })).await,
            Input::React(seq, emoji, on) => self.done(Request::React(ReactTo { room, seq, emoji, on, cid, since })).await,
            Input::Who => Ok(Outcome::Who(self.members(room).await?)),
            Input::Nothing | Input::Help | Input::Quit | Input::Text(_) => Ok(Outcome::Done),
        }
    }

    async fn done(&self, request: Request) -> Result<Outcome, ClientError> {
        self.client.submit(request).await?.await.map(|_| Outcome::Done)
    }

    /// Does what creates a room, and goes there.
    async fn entered(&self, request: Request) -> Result<Outcome, ClientError> {
        let reply = self.client.submit(request).await?.await?;
        let room = reply.room.ok_or_else(|| ClientError::Unusable("the server did not name the room".into()))?;
        // So that the room can be shown by its name from the first line on.
        let _ = self.client.ask(Request::Rooms(Rooms::default())).await;
        Ok(Outcome::Entered(room, None))
    }

    /// A room of one's own by its name, or any by its id.
    async fn join(&self, wanted: &str) -> Result<Outcome, ClientError> {
        let window = Rooms { offset: 0, limit: Some(200) };
        let mine = self.client.ask(Request::Rooms(window)).await?.rooms.unwrap_or_default();
        let room = match (mine.iter().find(|r| r.name == wanted), wanted.parse()) {
            (Some(named), _) => named.room,
            (None, Ok(id)) => id,
            (None, Err(_)) => return Err(ClientError::Unusable(format!("you are in no room named {wanted:?}; /rooms shows yours"))),
        };
        if self.client.view(|r| r.room(room).is_none()) {
            self.client.submit(Request::Join(InRoom { room, cid: ClientId::fresh(), since: 0 })).await?.await?;
        }
        Ok(Outcome::Entered(room, None))
    }

    async fn with(&self, name: &str) -> Result<Outcome, ClientError> {
        let found = self.rest.by_name(&self.token, name).await?;
        let user = found.user;
        // Contacts see each other come and go; talking works without.
        let _ = self.rest.add_contact(&self.token, user).await;
        let create = Create { kind: RoomKind::Direct, name: None, topic: None, members: vec![user], cid: ClientId::fresh() };
        Ok(match self.entered(Request::Create(create)).await? {
            Outcome::Entered(room, _) => Outcome::Entered(room, Some(found)),
            other => other,
        })
    }

    async fn members(&self, room: RoomId) -> Result<Vec<MemberShown>, ClientError> {
        let members = Members { room, after: None, limit: Some(1_000) };
        Ok(self.client.ask(Request::Members(members)).await?.members.unwrap_or_default())
    }

    /// Looks up who is in a room, and what one's rooms are called (the replica keeps that).
    fn names(&self, room: RoomId) -> BoxFuture<'static, Vec<MemberShown>> {
        let worker = self.clone();
        Box::pin(async move {
            let rooms = Rooms { offset: 0, limit: Some(200) };
            // Without an answer ids are shown.
            let _ = worker.client.ask(Request::Rooms(rooms)).await;
            worker.members(room).await.unwrap_or_default()
        })
    }
}

fn what(input: &Input) -> &'static str {
    match input {
        Input::Rooms => "/rooms",
        Input::Join(_) => "/join",
        Input::With(_) => "/with",
        Input::Create(_) => "/create",
        Input::Invite(_) => "/invite",
        Input::History(_) => "/history",
        Input::Edit(..) => "/edit",
        Input::Delete(_) => "/delete",
        Input::React(..) => "/react",
        Input::Who => "/who",
        Input::Nothing | Input::Help | Input::Quit | Input::Text(_) => "line",
    }
}
