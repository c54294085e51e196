//! The composition root: opens the store, starts the actors and the listeners, and stops them in order.
//!
//! Starting: secrets, store (which scans before it opens), sequencer, guardians, bus and lease (where it is one of several), unapplied rooms,
//! listeners, `node.json`. Stopping (SIGTERM, SIGINT): not ready, sessions told when to reconnect and closed, rooms passivated with a marker
//! each, lease given back, listeners, store.

use crate::actors::guardian::{Child, Guardian, GuardianMsg};
use crate::actors::hub::{HubMsg, Parting};
use crate::actors::node::{Hubs, NodeContext, Remembering, now_ms};
use crate::actors::peers::{self, secrets::Own};
use crate::actors::presence::PresenceMsg;
use crate::actors::push_worker;
use crate::actors::reading::in_time;
use crate::actors::router::Router;
use crate::actors::screening::Filter;
use crate::actors::sequencer::{IdSource, Sequencer};
use crate::actors::session::{Admitted, Gate};
use crate::actors::telling::Telling;
use crate::actors::unreached::{self, Unreached};
use crate::actors::webhooks::{self, Hooked};
use crate::auth::tokens::Tokens;
use crate::bus::asks::Changed;
use crate::bus::redis::RedisBus;
use crate::bus::{Bus, InProcess, Inbox, UserEvent};
use crate::cluster::claims::Claims;
use crate::cluster::{Alone, NodeId, Placement};
use crate::config::keys::{self, SigningKey};
use crate::config::{Config, secrets};
use crate::error::{ApiError, Code};
use crate::http::cluster::ClusterStatus;
use crate::http::socket::Doors;
use crate::http::tls::Tls;
use crate::http::{Api, NodePort, NodeStatus, Outside};
use crate::outbound::Outbound;
use crate::protocol::entry::{Caller, RoomKind};
use crate::protocol::ids::{DeviceId, RoomId, Seq, UserId};
use crate::protocol::ops::{self, PresencePush, Request};
use crate::push::Pushes;
use crate::storage::{self, Store};
use crate::telemetry::{self, metrics};
use crate::webhooks::Webhooks;
use actix::Arbiter;
use actix_web::web;
use async_trait::async_trait;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

mod chores;
mod demo;
mod filter;
mod joined;

use joined::Joined;

/// How a node is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For real.
    Serve,
    /// For trying things, with demo users and a room.
    Dev(DevOptions),
}

/// What `hubbub dev` puts into an empty store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevOptions {
    /// Names of the demo users.
    pub users: Vec<String>,
    /// Name of the room they are members of.
    pub room: String,
    /// Print addresses and tokens as one JSON object a line instead of as text.
    pub json: bool,
}

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration cannot be used.
    #[error("configuration: {0}")]
    Config(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> NodeError + '_ {
    move |error| NodeError::Failed(format!("{what}: {error}"))
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// When it cannot start; a node that runs does not end by itself.
pub fn run(config: Config, mode: Mode) -> Result<(), NodeError> {
    crate::clock::set_offset_ms(config.dev.clock_offset_ms);
    telemetry::init_logging(&config.log).map_err(|e| NodeError::Config(e.to_string()))?;
    raise_descriptor_limit();
    let secrets = secrets::load_or_make(&config.storage.data_dir, &config.auth).map_err(|e| NodeError::Config(e.to_string()))?;
    let store = storage::open(&config).map_err(|e| NodeError::Failed(e.to_string()))?;
    let outbound = Arc::new(Outbound::new(&config.outbound).map_err(|e| NodeError::Config(e.to_string()))?);
    let pushes = pushes(&config, store.clone(), outbound.clone())?;
    let webhooks = Arc::new(Webhooks::new(store.clone(), config.webhooks.clone()));
    actix::System::new().block_on(live(Arc::new(config), mode, secrets, store, Outside { outbound, pushes, webhooks }))
}

/// Offline push, with secrets of its own.
fn pushes(config: &Config, store: Arc<dyn Store>, outbound: Arc<Outbound>) -> Result<Arc<Pushes>, NodeError> {
    let secret = |file| secrets::further(&config.storage.data_dir, file).map_err(|e| NodeError::Config(e.to_string()));
    let gateway = if config.push.gateway_url.is_empty() { String::new() } else { secret(secrets::GATEWAY_FILE)?.expose().to_owned() };
    let pushes = Pushes::new(store, config, outbound, secret(secrets::VAPID_FILE)?.expose(), gateway);
    pushes.map(Arc::new).map_err(|e| NodeError::Config(e.to_string()))
}

/// Tells the other nodes, if there are any, what they may know of this one's secrets.
fn tell_secrets(node: &NodeContext, ring: &[SigningKey]) -> Result<(), NodeError> {
    let Some(peers) = node.router.peers() else { return Ok(()) };
    let secret = || secrets::further(&node.config.storage.data_dir, secrets::GATEWAY_FILE).map_err(|e| NodeError::Config(e.to_string()));
    let gateway = if node.pushes.has_gateway() { Some(keys::print(secret()?.expose())) } else { None };
    let own = Own { ring: Own::of_ring(ring), vapid: keys::print(node.pushes.vapid.public()), gateway };
    peers.secrets_are(node, |was| *was = own);
    Ok(())
}

/// As many descriptors as the system allows: each socket is one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

async fn live(
    config: Arc<Config>,
    mode: Mode,
    secrets: secrets::Secrets,
    store: Arc<dyn Store>,
    outside: Outside,
) -> Result<(), NodeError> {
    outside.webhooks.load().await.map_err(|e| NodeError::Failed(e.to_string()))?;
    let filter = filter::of(&config).map_err(NodeError::Config)?;
    let joined = Joined::of(&config, store.shards())?;
    let node = start_actors(config.clone(), store.clone(), outside.clone(), filter, joined.as_ref()).await?;
    tell_secrets(&node, &secrets.signing)?;
    let port = Arc::new(Port { node: node.clone(), joined: joined.clone() });
    let admin_token = secrets.admin_token.expose().into();
    let tokens = Tokens::of(&secrets.signing, &config.auth).map_err(|e| NodeError::Config(e.to_string()))?;
    let api = Api::new(config.clone(), store.clone(), outside, port, tokens, admin_token).map_err(|e| NodeError::Config(e.to_string()))?;
    let api = web::Data::new(api);
    node.remembering.listen(api.clone().into_inner().forgetting());
    let gate = Arc::new(TokenGate { api: api.clone().into_inner() });
    let doors = web::Data::new(Doors::new(node.clone(), gate));

    let tls = Tls::load(&config.tls).map_err(|e| NodeError::Config(e.to_string()))?;
    let hangup = signal(SignalKind::hangup()).map_err(failed("signals"))?;
    let listener = TcpListener::bind(config.http.listen).map_err(failed("http.listen"))?;
    let address = listener.local_addr().map_err(failed("http.listen"))?;
    redo(&node).await?;
    let (admin, admin_address) = crate::http::admin::start(&config.admin, api.clone()).map_err(failed("admin.listen"))?;
    actix::spawn(crate::http::deletion::work(api.clone().into_inner()));
    let server = crate::http::server::start(&config, listener, tls.clone(), api.clone(), doors.clone()).map_err(failed("http.listen"))?;
    let (server_handle, admin_handle) = (server.handle(), admin.handle());
    actix::spawn(async move {
        let _ = server.await;
    });
    actix::spawn(async move {
        let _ = admin.await;
    });
    match tls {
        Some(tls) => drop(actix::spawn(tls.watch(hangup))),
        None => drop(actix::spawn(ignore(hangup))),
    }
    actix::spawn(chores::run(node.clone(), api.clone()));
    if let Mode::Dev(options) = &mode {
        demo::seed(&node, &api, options, address).await?;
    }
    let told = NodeFile::write(&config.storage.data_dir, address, admin_address).map_err(failed("node.json"))?;
    metrics().node_ready.set(1);
    tracing::info!(%address, admin = %admin_address, data = %config.storage.data_dir.display(), "ready");

    let mut terminate = signal(SignalKind::terminate()).map_err(failed("signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("signals"))?;
    let usurped = async {
        match &joined {
            Some(joined) => joined.usurped().await,
            None => std::future::pending().await,
        }
    };
    let stopped = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = node.leave.notified() => Ok(()),
        () = usurped => Err(()),
    };

    drain(&node, &doors).await;
    if let Some(joined) = &joined {
        joined.leave().await;
    }
    let _ = tokio::time::timeout(Duration::from_secs(3), server_handle.stop(true)).await;
    let _ = tokio::time::timeout(Duration::from_secs(3), admin_handle.stop(false)).await;
    store.close();
    drop(told);
    tracing::info!("stopped");
    match joined {
        Some(joined) if stopped.is_err() => Err(joined.taken()),
        _ => Ok(()),
    }
}

/// Without a certificate there is nothing to read again; a terminal that goes away does not end the server all the same.
async fn ignore(mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        tracing::info!("SIGHUP: there is nothing to read again");
    }
}

/// The bus of a node alone, or of one of several.
enum Links {
    Alone(Arc<InProcess>),
    Joined(Arc<RedisBus>),
}

impl Links {
    fn of(config: &Config, joined: Option<&Joined>) -> (Arc<dyn Placement>, Links) {
        match joined {
            None => (Arc::new(Alone), Links::Alone(Arc::new(InProcess::new(config.dev.lose_envelopes_every)))),
            Some(joined) => (Arc::new(joined.shared.clone()), Links::Joined(joined.bus.clone())),
        }
    }
    fn bus(&self) -> Arc<dyn Bus> {
        match self {
            Links::Alone(bus) => bus.clone(),
            Links::Joined(bus) => bus.clone(),
        }
    }
    async fn hear(&self, inbox: Inbox) -> Result<(), NodeError> {
        match self {
            Links::Alone(bus) => {
                bus.connect(inbox);
                Ok(())
            }
            Links::Joined(bus) => {
                bus.listen(inbox).map_err(|e| NodeError::Failed(e.to_string()))?;
                bus.listens().await;
                Ok(())
            }
        }
    }
}

async fn start_actors(
    config: Arc<Config>,
    store: Arc<dyn Store>,
    outside: Outside,
    filter: Option<Arc<dyn Filter>>,
    joined: Option<&Arc<Joined>>,
) -> Result<Arc<NodeContext>, NodeError> {
    let Outside { outbound, pushes, webhooks } = outside;
    let (placement, links) = Links::of(&config, joined.map(|joined| &**joined));
    let node = Arc::new(NodeContext {
        claims: Claims::new(store.clone(), placement.clone()),
        placement,
        bus: links.bus(),
        router: Router::new(store.shards()),
        ids: IdSource::default(),
        hubs: Hubs::default(),
        pushes,
        unreached: Unreached::default(),
        consequences: OnceLock::new(),
        outbound,
        webhooks,
        leave: tokio::sync::Notify::new(),
        draining: AtomicBool::new(false),
        filter,
        sessions: AtomicU64::new(0),
        remembering: Remembering::default(),
        config: config.clone(),
        store: store.clone(),
    });
    node.tell_of_changes();
    let inbox = peers::join(&node, joined.map(|joined| joined.shared.clone()));
    let _ = node.consequences.set(vec![Arc::new(Telling), Arc::new(Hooked)]);
    Sequencer::launch(&Arbiter::new().handle(), store, &node.ids);
    let threads = match config.rooms.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    node.router.start((0..threads).map(|_| Guardian::launch(&Arbiter::new().handle(), node.clone())).collect());
    links.hear(inbox).await?;
    if let Some(joined) = joined {
        // Who does not have the lease of its number yet must neither be heard nor hear: another process may be that node. Who has it is
        // asked at once, and what it does not take in is waited for in vain.
        joined.join(&config).await?;
    }
    webhooks::Sender::launch(&Arbiter::new().handle(), node.clone());
    for index in 0..config.push.threads as usize {
        let thread = Arbiter::new().handle();
        if index == 0 {
            unreached::launch(&thread, node.clone());
        }
        push_worker::launch(&thread, node.clone(), index);
    }
    Ok(node)
}

/// The other nodes say within this what they own; one that does not is no longer counted soon.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// Starts the rooms whose last entries were not applied when the process ended; they redo them from the log. Those that other nodes own are
/// at work: they are not disturbed.
async fn redo(node: &NodeContext) -> Result<(), NodeError> {
    if let Some(peers) = node.router.peers() {
        peers.introduced(INTRODUCTION).await;
    }
    let rooms = in_time(node.store.unapplied(None)).await.map_err(|e| NodeError::Failed(e.to_string()))?;
    if !rooms.is_empty() {
        tracing::info!(rooms = rooms.len(), "redoing what was not applied");
    }
    for room in rooms {
        node.router.to_room(room, crate::actors::room::RoomMsg::Wake);
    }
    Ok(())
}

/// What closing the last sockets may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Sends everybody away, in order, within `http.stop_timeout_ms`.
async fn drain(node: &NodeContext, doors: &Doors) {
    metrics().node_ready.set(0);
    node.draining.store(true, Ordering::Relaxed);
    tracing::info!(sockets = doors.open(), "draining");
    let others = || node.router.peers().filter(|peers| peers.others_serve());
    if let Some(peers) = others() {
        // Half of the time: the sockets need some too. What is not handed over is taken over.
        let limit = Duration::from_millis(node.config.http.stop_timeout_ms / 2);
        if !peers.hand_over(node, limit).await {
            tracing::warn!(shards = node.claims.owned_shards(), "not all shards were handed over in time");
        }
    }
    let limit = Duration::from_millis(node.config.http.stop_timeout_ms);
    // The last of them must still be closed in time.
    let spread = Duration::from_millis(node.config.http.drain_spread_ms).min(limit.saturating_sub(GOODBYE));
    let parting = Parting { until: Instant::now() + spread, served: others().is_some() };
    node.hubs.each(|| HubMsg::Drain(parting));
    let gone = async {
        while doors.open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut ended = Vec::new();
        for guardian in node.router.guardians() {
            let (tx, rx) = tokio::sync::oneshot::channel();
            guardian.addr.do_send(GuardianMsg::PassivateAll(tx));
            ended.push(rx);
        }
        for rx in ended {
            let _ = rx.await;
        }
    };
    if tokio::time::timeout(limit, gone).await.is_err() {
        tracing::warn!(sockets = doors.open(), "not everything ended in time");
    }
}

/// `node.json` in the data directory: where the running node listens. Removed when the node stops.
struct NodeFile(PathBuf);

impl NodeFile {
    fn write(data_dir: &Path, http: SocketAddr, admin: SocketAddr) -> std::io::Result<NodeFile> {
        let (path, fresh) = (data_dir.join("node.json"), data_dir.join("node.json.new"));
        let text = serde_json::json!({ "pid": std::process::id(), "http": http, "admin": admin }).to_string();
        std::fs::write(&fresh, text)?;
        std::fs::rename(&fresh, &path)?;
        Ok(NodeFile(path))
    }
}
impl Drop for NodeFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What the HTTP API asks of the actors.
struct Port {
    node: Arc<NodeContext>,
    joined: Option<Arc<Joined>>,
}

#[async_trait]
impl NodePort for Port {
    async fn next_id(&self) -> Result<u64, ApiError> {
        self.node.ids.one().await
    }
    fn revoked(&self, user: UserId, device: Option<DeviceId>) {
        self.node.router.revoked(&self.node, user, device);
        let pushes = self.node.pushes.clone();
        actix::spawn(async move {
            // What this leaves behind is noticed before anything is sent (`actors::wanted`).
            let ended = match device {
                Some(device) => pushes.subscriptions.remove(user, device).await,
                None => pushes.subscriptions.remove_all(user).await,
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "a device was signed out and its push subscription is still there");
            }
        });
    }
    fn contacts_changed(&self, a: UserId, b: UserId) {
        for (user, other) in [(a, b), (b, a)] {
            // At once: who is no contact any more must not be told; the sessions then look again and watch if they may.
            self.node.router.to_presence(user, PresenceMsg::Unwatch { watcher: other, hub: None });
            self.node.router.to_presence(user, PresenceMsg::Event(UserEvent::Contact { other }));
        }
    }
    async fn kind_for(&self, user: UserId, room: RoomId) -> Result<RoomKind, ApiError> {
        crate::actors::answering::kind_for(&self.node, user, room).await
    }
    async fn settle(&self, room: RoomId) {
        self.node.router.settle(room).await;
    }
    fn status_changed(&self, user: UserId, status: String) {
        self.node.router.to_presence(user, PresenceMsg::Status(status));
    }
    async fn presence(&self, users: &[UserId]) -> Vec<PresencePush> {
        self.node.router.presences(users).await
    }
    async fn ask_at(&self, caller: Caller, request: Request, head: Option<Seq>) -> Result<ops::Ok, ApiError> {
        crate::actors::asking::ask(&self.node, caller, request, head).await
    }
    fn status(&self) -> NodeStatus {
        // What the store says of itself is read by who asks for health, each in the words meant for them.
        let mut warnings = self.joined.as_ref().map(|joined| joined.warnings()).unwrap_or_default();
        warnings.extend(self.node.router.peers().map(|peers| peers.secrets_warnings()).unwrap_or_default());
        NodeStatus { draining: self.node.draining.load(Ordering::Relaxed), ready: Ok(()), warnings }
    }
    fn cluster(&self) -> Option<ClusterStatus> {
        Some(self.joined.as_ref()?.seen(&self.node))
    }
    fn drain(&self, node: u32) {
        match self.node.router.peers() {
            Some(peers) if node != self.node.placement.me().0 => peers.send_away(&self.node, NodeId(node)),
            _ => self.node.leave.notify_one(),
        }
    }
    fn owns(&self, user: UserId) -> bool {
        self.node.router.owns(self.node.router.shard_of_user(user))
    }
    fn ring_is(&self, ring: &[SigningKey]) {
        if let Some(peers) = self.node.router.peers() {
            peers.secrets_are(&self.node, |own| own.ring = Own::of_ring(ring));
        }
    }
    fn lack_key(&self, print: u64) -> Vec<u32> {
        self.node.router.peers().map_or_else(Vec::new, |peers| peers.lack_key(print).into_iter().map(|node| node.0).collect())
    }
    fn changed(&self, changed: Changed) {
        self.node.changed(changed);
    }
    fn fault(&self, actor: &str, id: u64) -> bool {
        match actor {
            "room" => self.node.router.panic(Child::Room(RoomId(id))),
            "presence" => self.node.router.panic(Child::Presence(UserId(id))),
            "sequencer" => self.node.ids.panic(),
            "hub" => self.node.hubs.each(|| HubMsg::Panic),
            "webhooks" => self.node.webhooks.panic(),
            "session" => self.node.hubs.each(|| HubMsg::PanicSession(UserId(id))),
            _ => return false,
        }
        true
    }
}

/// Lets in whose token counts.
struct TokenGate {
    api: Arc<Api>,
}

#[async_trait]
impl Gate for TokenGate {
    async fn admit(&self, token: &str) -> Result<Admitted, ApiError> {
        // An issuer may have to be asked for its keys first.
        let limit = crate::actors::reading::READ_TIMEOUT + Duration::from_millis(self.api.config.outbound.timeout_ms);
        let verified = tokio::time::timeout(limit, self.api.verifier.verify(token, now_ms())).await;
        let (user, claims) = verified.map_err(|_| ApiError::new(Code::Timeout, "the account could not be read in time"))??;
        Ok(Admitted { user: user.user, name: user.name, device: claims.device, expires: claims.expires })
    }
    fn allow(&self, user: UserId) -> Result<(), ApiError> {
        self.api.limits.request(user)
    }
}
