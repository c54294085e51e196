//! Several nodes in one process: each with its own actors and threads, all over one embedded store, with a bus between them that can lose,
//! cut and delay. Who is there, each node is told by the test.

use super::super::join;
use super::{ANN, BEN};
use crate::actors::guardian::Guardian;
use crate::actors::node::{Hubs, NodeContext, Remembering};
use crate::actors::room::RoomMsg;
use crate::actors::router::{Answer, Reply, Router};
use crate::actors::sequencer::{IdSource, Sequencer};
use crate::actors::session::{Admitted, Gate, Opening, Session, Ticket};
use crate::actors::telling::Telling;
use crate::actors::unreached::Unreached;
use crate::actors::webhooks::Hooked;
use crate::bus::{Arrival, Bus, Envelope, Inbox};
use crate::cluster::claims::Claims;
use crate::cluster::membership::{Lease, Listing, Timing};
use crate::cluster::shard::Placed;
use crate::cluster::shared::Shared;
use crate::cluster::view::View;
use crate::cluster::{NodeId, Placement};
use crate::config::{Config, secrets};
use crate::error::{ApiError, Code};
use crate::outbound::Outbound;
use crate::protocol::codec::Format;
use crate::protocol::entry::{Caller, RoomKind};
use crate::protocol::ids::{ClientId, DeviceId, RoomId, Seq, UserId};
use crate::protocol::ops::{Create, Request, Send as SendRequest};
use crate::push::Pushes;
use crate::storage::embedded::{EmbeddedOptions, EmbeddedStore, FaultPoint};
use crate::storage::{ContactState, Store, UserRow};
use crate::webhooks::Webhooks;
use actix::{Arbiter, ArbiterHandle};
use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol};

pub const SHARDS: u32 = 32;
const TIMING: Timing = Timing { lease: 600, renew: 150, confirm: 150 };
/// What is waited for must have come by then.
pub const SOON: Duration = Duration::from_secs(20);

type Lose = Box<dyn FnMut(NodeId, NodeId, &Envelope) -> bool + Send>;
type Posted = (Instant, NodeId, NodeId, Envelope);

/// The net between the nodes. One thread carries everything, so that each link keeps its order.
pub struct Net {
    inboxes: Mutex<HashMap<NodeId, Inbox>>,
    cut: Mutex<HashSet<(NodeId, NodeId)>>,
    lose: Mutex<Lose>,
    delay: Mutex<Duration>,
    silent: AtomicBool,
    post: std::sync::mpsc::Sender<Posted>,
    /// What was sent from a node to a node, other than to itself.
    pub sent: AtomicU64,
}

impl Net {
    fn new() -> Arc<Net> {
        let (post, posted) = std::sync::mpsc::channel::<Posted>();
        let net = Arc::new(Net {
            inboxes: Mutex::default(),
            cut: Mutex::default(),
            lose: Mutex::new(Box::new(|_, _, _| false)),
            delay: Mutex::default(),
            silent: AtomicBool::default(),
            post,
            sent: AtomicU64::default(),
        });
        let carrier = Arc::downgrade(&net);
        std::thread::spawn(move || {
            let mut holes = HashSet::new();
            while let Ok((due, from, to, envelope)) = posted.recv() {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let Some(net) = carrier.upgrade() else { return };
                net.carry(from, to, envelope, &mut holes);
            }
        });
        net
    }

    fn carry(&self, from: NodeId, to: NodeId, envelope: Envelope, holes: &mut HashSet<(NodeId, NodeId)>) {
        let cut = from != to && self.cut.lock().contains(&(from, to));
        if cut || (from != to && (self.lose.lock())(from, to, &envelope)) {
            if !self.silent.load(Relaxed) {
                holes.insert((from, to));
            }
            return;
        }
        let Some(inbox) = self.inboxes.lock().get(&to).cloned() else { return };
        if holes.remove(&(from, to)) {
            inbox(Arrival::Missed(from));
        }
        inbox(Arrival::Envelope(from, envelope));
    }

    /// From now on loses what this says.
    pub fn lose(&self, lose: impl FnMut(NodeId, NodeId, &Envelope) -> bool + Send + 'static) {
        *self.lose.lock() = Box::new(lose);
    }
    /// Nobody hears of what is lost.
    pub fn silently(&self, on: bool) {
        self.silent.store(on, Relaxed);
    }
    /// Nothing passes between the two any more, or it does again.
    pub fn cut(&self, a: NodeId, b: NodeId, on: bool) {
        let mut cut = self.cut.lock();
        for link in [(a, b), (b, a)] {
            if on {
                cut.insert(link)
            } else {
                cut.remove(&link)
            };
        }
    }
    /// Everything takes so long.
    pub fn delay(&self, delay: Duration) {
        *self.delay.lock() = delay;
    }
}

struct Wire {
    me: NodeId,
    net: Arc<Net>,
}

impl Bus for Wire {
    fn send(&self, to: NodeId, envelope: Envelope) {
        if to != self.me {
            self.net.sent.fetch_add(1, Relaxed);
        }
        let _ = self.net.post.send((Instant::now() + *self.net.delay.lock(), self.me, to, envelope));
    }
    fn broadcast(&self, envelope: Envelope) {
        let all: Vec<NodeId> = self.net.inboxes.lock().keys().copied().collect();
        all.into_iter().for_each(|to| self.send(to, envelope.clone()));
    }
}

/// A node of the world.
pub struct TestNode {
    pub id: NodeId,
    pub context: Arc<NodeContext>,
    pub shared: Shared,
    web: ArbiterHandle,
}

/// See the module.
pub struct World {
    pub net: Arc<Net>,
    pub nodes: Vec<TestNode>,
    pub store: Arc<dyn Store>,
    /// What goes wrong with it.
    pub faults: Arc<FaultPoint>,
    gone: Mutex<HashSet<NodeId>>,
    _dir: tempfile::TempDir,
}

impl World {
    /// So many nodes that know each other.
    pub async fn of(count: u32) -> World {
        let dir = tempfile::tempdir().unwrap();
        let faults = Arc::new(FaultPoint::default());
        faults.shared.store(true, Relaxed);
        let options = EmbeddedOptions { shards: SHARDS, faults: Some(faults.clone()), ..EmbeddedOptions::default() };
        let store: Arc<dyn Store> = EmbeddedStore::open(dir.path(), options).unwrap();
        let mut config = Config::default();
        config.storage.data_dir = dir.path().to_owned();
        config.presence.offline_debounce_ms = 300;
        config.presence.seen_every_ms = 200;
        config.rooms.idle_ms = 60_000;
        let _ = secrets::load_or_make(dir.path(), &config.auth).unwrap();
        let config = Arc::new(config);
        let net = Net::new();
        let nodes = (1..=count).map(|id| TestNode::start(NodeId(id), &config, &store, &net)).collect();
        let world = World { net, nodes, store, faults, gone: Mutex::default(), _dir: dir };
        world.list();
        world
    }

    pub fn node(&self, id: u32) -> &TestNode {
        &self.nodes[id as usize - 1]
    }

    /// Every node is told of all that live.
    pub fn list(&self) {
        let gone = self.gone.lock().clone();
        let live = self.nodes.iter().filter(|node| !gone.contains(&node.id));
        let leases: Vec<Lease> = live.clone().map(|node| node.shared.lease()).collect();
        for node in live {
            node.shared.listed(Listing { asked: node.shared.now(), server: 1, leases: leases.clone() });
        }
    }

    /// A node dies: nothing of it is heard any more, and the others conclude it.
    pub fn kill(&self, id: u32) {
        let dead = self.node(id);
        for other in self.nodes.iter().filter(|other| other.id != dead.id) {
            self.net.cut(dead.id, other.id, true);
        }
        self.gone.lock().insert(dead.id);
        for other in self.nodes.iter().filter(|other| other.id != dead.id) {
            other.shared.left(dead.id, dead.shared.lease().incarnation);
        }
    }

    /// A node wants no shards any more, or wants some again.
    pub fn weigh(&self, id: u32, weight: u32) {
        self.node(id).shared.set_weight(weight);
        self.list();
    }

    /// A row for the user.
    pub async fn account(&self, user: UserId) {
        let row = UserRow {
            user,
            name: format!("user{user}"),
            password: String::new(),
            disabled: false,
            tokens_after: 0,
            created: 1,
            status: String::new(),
            last_seen: 0,
            display_name: String::new(),
            avatar_url: String::new(),
            bot: false,
        };
        assert!(self.store.create_user(row).await.unwrap());
    }
    pub async fn last_seen(&self, user: UserId) -> u64 {
        self.store.user(user).await.unwrap().map_or(0, |row| row.last_seen)
    }

    pub async fn befriend(&self, a: UserId, b: UserId) {
        let accepted = Some(ContactState::Accepted);
        self.store.set_contact(a, b, accepted, accepted).await.unwrap();
    }

    /// A room whose shard the node should own.
    pub fn room_at(&self, id: u32) -> RoomId {
        self.rooms_at(id).next().unwrap()
    }
    /// Such a room, of Ann and Ben, and Ben's session at another node.
    pub async fn room_heard(&self, owner: u32, at: u32) -> (RoomId, Client) {
        let room = self.room_at(owner);
        self.node(1).create(room, &[ANN, BEN]).await;
        (room, self.node(at).session(BEN).await)
    }
    pub fn rooms_at(&self, id: u32) -> impl Iterator<Item = RoomId> {
        let node = self.node(id);
        (1_000..).map(RoomId).filter(|room| node.shared.should_own(node.context.router.shard(*room)) == node.id)
    }
    /// A user whose presence the node should keep.
    pub fn users_at(&self, id: u32) -> impl Iterator<Item = UserId> {
        let node = self.node(id);
        (10..).map(UserId).filter(|user| node.shared.should_own(node.context.router.shard_of_user(*user)) == node.id)
    }
}

impl TestNode {
    fn start(id: NodeId, config: &Arc<Config>, store: &Arc<dyn Store>, net: &Arc<Net>) -> TestNode {
        let lease = Lease { node: id, incarnation: u64::from(id.0), weight: 100 };
        let shared = Shared::new(View::new(lease, TIMING, store.shards()));
        let outbound = Arc::new(Outbound::new(&config.outbound).unwrap());
        let key = secrets::further(&config.storage.data_dir, secrets::VAPID_FILE).unwrap();
        let pushes = Pushes::new(store.clone(), config, outbound.clone(), key.expose(), String::new()).unwrap();
        let context = Arc::new(NodeContext {
            claims: Claims::new(store.clone(), Arc::new(shared.clone())),
            placement: Arc::new(shared.clone()),
            bus: Arc::new(Wire { me: id, net: net.clone() }),
            router: Router::new(store.shards()),
            ids: IdSource::default(),
            hubs: Hubs::default(),
            pushes: Arc::new(pushes),
            unreached: Unreached::default(),
            consequences: OnceLock::new(),
            outbound,
            webhooks: Arc::new(Webhooks::new(store.clone(), config.webhooks.clone())),
            leave: tokio::sync::Notify::new(),
            draining: AtomicBool::new(false),
            filter: None,
            sessions: AtomicU64::new(0),
            remembering: Remembering::default(),
            config: config.clone(),
            store: store.clone(),
        });
        context.tell_of_changes();
        let inbox = join(&context, Some(shared.clone()));
        net.inboxes.lock().insert(id, inbox);
        let _ = context.consequences.set(vec![Arc::new(Telling), Arc::new(Hooked)]);
        Sequencer::launch(&Arbiter::new().handle(), store.clone(), &context.ids);
        context.router.start(vec![Guardian::launch(&Arbiter::new().handle(), context.clone())]);
        TestNode { id, context, shared, web: Arbiter::new().handle() }
    }

    /// Asks a room as a user, once.
    pub async fn once(&self, user: UserId, request: Request) -> Result<Answer, ApiError> {
        let room = crate::protocol::roomlog::room_of(&request).unwrap();
        let (reply, answer) = Reply::task();
        self.context.router.ask(Caller { user, device: DeviceId(1) }, room, request, reply);
        answer.await.unwrap()
    }
    /// Sends a text, again until it is settled, as clients do.
    pub async fn say(&self, user: UserId, room: RoomId, text: &str) -> Answer {
        let request = Request::Send(SendRequest::text(room, 0, text));
        let until = Instant::now() + SOON;
        loop {
            match self.once(user, request.clone()).await {
                Ok(answer) => return answer,
                Err(error) if error.retry != crate::error::Retry::Never && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(error.retry_after_ms.unwrap_or(20).min(100))).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    /// Where a room stands for a user, as far as this node can tell.
    pub async fn head(&self, user: UserId, room: RoomId) -> Result<Seq, ApiError> {
        self.context.router.look(user, room).await.map(|verdict| verdict.head)
    }
    /// From now on this node believes that the room's shard is its own, whoever owns it.
    pub fn believe(&self, room: RoomId) {
        let shard = self.context.router.shard(room);
        let above = self.shared.look(|view| view.told(shard)).map_or(0, |(epoch, _)| epoch);
        self.shared.announced(shard, self.id, above);
        self.context.claims.placed(shard, Placed::Mine);
    }
    /// Creates a group.
    pub async fn create(&self, room: RoomId, members: &[UserId]) {
        let cid = ClientId::fresh();
        let create = Create { kind: RoomKind::Group, name: Some("a room".into()), topic: None, members: members[1..].to_vec(), cid };
        let (reply, answer) = Reply::task();
        self.context.router.to_room(room, RoomMsg::Create { by: members[0], create: Box::new(create), reply });
        answer.await.unwrap().unwrap();
        self.context.router.settle(room).await;
    }

    /// Opens a session of a user on this node and resumes; live when this returns.
    pub async fn session(&self, user: UserId) -> Client {
        let (mine, its) = tokio::io::duplex(1 << 20);
        let node = self.context.clone();
        self.web.spawn_fn(move || {
            let gate = Arc::new(AnyoneGate);
            let opening = Opening { node, gate, format: Format::Json, token: None, echo: false, ticket: Box::new(NoTicket) };
            Session::open(Box::new(its), BytesMut::new(), opening);
        });
        let socket = WebSocketStream::from_raw_socket(mine, protocol::Role::Client, None).await;
        let mut client = Client { socket, pushes: Vec::new(), texts: VecDeque::new() };
        client.send(json!({"op": "auth", "ref": 1, "token": user.0.to_string()})).await;
        client.push("hello").await;
        client.send(json!({"op": "resume", "ref": 2, "rooms": [], "last": true})).await;
        client.push("resumed").await;
        client
    }
}

/// Lets in whoever names a user.
struct AnyoneGate;
#[async_trait]
impl Gate for AnyoneGate {
    async fn admit(&self, token: &str) -> Result<Admitted, ApiError> {
        let user = token.parse().map_err(|_| ApiError::new(Code::Unauthorized, "no such user"))?;
        Ok(Admitted { user: UserId(user), name: format!("user{user}"), device: DeviceId(user), expires: u64::MAX / 2 })
    }
    fn allow(&self, _: UserId) -> Result<(), ApiError> {
        Ok(())
    }
}
struct NoTicket;
impl Ticket for NoTicket {
    fn signed_in(&self) {}
}

/// The other end of a session.
pub struct Client {
    socket: WebSocketStream<DuplexStream>,
    /// All that came.
    pub pushes: Vec<Value>,
    texts: VecDeque<String>,
}

impl Client {
    pub async fn send(&mut self, frame: Value) {
        self.socket.send(Message::Text(frame.to_string().into())).await.unwrap();
    }
    /// The next push or reply that is wanted; what comes before it is kept only in `pushes`.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let come = async {
            loop {
                let Some(Ok(message)) = self.socket.next().await else {
                    panic!("the socket ended while waiting for {what}: {:?}", self.pushes)
                };
                if let Message::Text(text) = message {
                    let push: Value = serde_json::from_str(&text).unwrap();
                    self.pushes.push(push.clone());
                    if wanted(&push) {
                        return push;
                    }
                }
            }
        };
        match tokio::time::timeout(SOON, come).await {
            Ok(push) => push,
            Err(_) => panic!("no {what} among {:?}", self.pushes),
        }
    }
    pub async fn push(&mut self, op: &str) -> Value {
        self.until(op, |push| push["op"] == op).await
    }
    /// The text of the next message, whether it comes alone or in a catch-up.
    pub async fn text(&mut self) -> String {
        loop {
            if let Some(text) = self.texts.pop_front() {
                return text;
            }
            let push = self.until("message", |push| push["op"] == "entry" || push["op"] == "entries").await;
            let entries = push["entries"].as_array().cloned().unwrap_or_else(|| vec![push]);
            let texts = entries.iter().filter_map(|entry| entry["body"]["message"]["text"].as_str());
            self.texts.extend(texts.map(str::to_owned));
        }
    }
    /// The user has come into the room.
    pub async fn joined(&mut self, room: RoomId) {
        let room = json!(room);
        self.until("the room", |push| push["op"] == "room" && push["room"] == room && push["standing"] == "joined").await;
    }
    /// The state of a user, the next time it is told.
    pub async fn presence(&mut self, of: UserId) -> String {
        let of = json!(of);
        let push = self.until("presence", |push| push["op"] == "presence" && push["user"] == of).await;
        push["state"].as_str().unwrap().to_owned()
    }
    /// The server closes the socket.
    pub async fn ended(&mut self) {
        let over = async { while !matches!(self.socket.next().await, None | Some(Err(_) | Ok(Message::Close(_)))) {} };
        tokio::time::timeout(SOON, over).await.unwrap();
    }
    /// Nothing that is unwanted comes for so long.
    pub async fn quiet(&mut self, for_ms: u64, unwanted: impl Fn(&Value) -> bool) {
        let until = tokio::time::Instant::now() + Duration::from_millis(for_ms);
        while let Ok(Some(Ok(message))) = tokio::time::timeout_at(until, self.socket.next()).await {
            if let Message::Text(text) = message {
                let push: Value = serde_json::from_str(&text).unwrap();
                assert!(!unwanted(&push), "{push}");
                self.pushes.push(push);
            }
        }
    }
}

/// Waits until something is so.
pub async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let end = Instant::now() + SOON;
    while !is().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
