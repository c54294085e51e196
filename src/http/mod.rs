//! The HTTP API: what its handlers share, and the whole route table of both listeners.
//!
//! | public | |
//! |---|---|
//! | every other `GET` | the web app, [`app`] |
//! | `POST /v1/auth/register` `login` `login/mfa` `refresh` `logout` | [`auth`] |
//! | `POST /v1/auth/password/forgot` `reset`, `PUT /v1/me/password` | [`password`] |
//! | `POST /v1/auth/email/verify`, `PUT DELETE /v1/me/email` | [`email`] |
//! | `GET /v1/me/devices`, `DELETE /v1/me/devices/{device}` | [`devices`] |
//! | `POST DELETE /v1/me/totp`, `POST /v1/me/totp/confirm` | [`totp`] |
//! | `DELETE /v1/me`, `GET /v1/me/export` | [`deletion`], [`export`] |
//! | `GET PATCH /v1/me`, `GET /v1/users/{user}`, `GET /v1/users/by-name/{name}` | [`users`] |
//! | `GET /v1/contacts` `contacts/presence` `blocks`, `PUT DELETE /v1/contacts/{user}` `blocks/{user}` | [`contacts`] |
//! | `GET POST /v1/rooms`, `GET PATCH /v1/rooms/{room}`, its `join` `leave` `transfer` `cursor` | [`rooms`] |
//! | `/v1/rooms/{room}/members` `bans` `mutes` | [`members`] |
//! | `/v1/rooms/{room}/messages/…` `receipts` `pins` `entries` | [`messages`] |
//! | `/v1/rooms/{room}/invites`, `/v1/invites/{code}` | [`invites`] |
//! | `GET /v1/channels` | [`channels`] |
//! | `GET PUT /v1/rooms/{room}/notify` | [`notify`] |
//! | `GET /v1/push/vapid`, `PUT DELETE /v1/push/subscription`, `GET /v1/push/subscriptions` | [`push`] |
//! | `POST /v1/users`, `/v1/webhooks/…`, `/v1/incoming-hooks/…` (with an API key, [`scopes`]) | [`newcomers`], [`webhooks`], [`incoming`] |
//! | `POST /v1/hooks/{id}/{secret}` | [`incoming`] |
//! | `GET POST /v1/reports`, `/v1/reports/{id}/resolve`, `/v1/server-bans/…` | [`moderation`] |
//! | `GET /v1/openapi.json`, `GET /docs/` | [`openapi`] |
//! | `GET /livez`, `GET /readyz` | [`health`] |
//!
//! | operators' listener | |
//! |---|---|
//! | `GET /metrics`, `/livez`, `/readyz` | [`health`] |
//! | `/admin/…` (with the admin token) | [`admin`], [`keys`], [`audit`], [`backup`], [`retention`], [`moderation`], [`api_keys`], [`webhooks`], [`incoming`] |
//!
//! Every error is a problem+json ([`error`]); every method that an address does not have is a 405 with `Allow`, and OPTIONS says which
//! it has. What several handlers share: pages of lists ([`page`]), tags and conditions ([`etag`]), `Idempotency-Key` ([`idempotency`]),
//! other origins ([`cors`]), the document of all of it ([`openapi`]). Handlers read and write accounts and contacts themselves; what
//! sockets must learn of goes through [`NodePort`].

use crate::auth::accounts::Accounts;
use crate::auth::bans::Bans;
use crate::auth::emails::Emails;
use crate::auth::issuers::{IssuerError, Issuers};
use crate::auth::keys::Keys;
use crate::auth::limits::{Limits, Standing};
use crate::auth::mail::Mailer;
use crate::auth::onetime::OneTime;
use crate::auth::reports::Reports;
use crate::auth::sessions::{Announce, Sessions};
use crate::auth::subjects::{NextId, Subjects};
use crate::auth::tokens::Tokens;
use crate::auth::totp::SecondFactor;
use crate::auth::verifier::Verifier;
use crate::bus::asks::Changed;
use crate::config::Config;
use crate::config::keys::SigningKey;
use crate::error::{ApiError, Code};
use crate::outbound::Outbound;
use crate::protocol::entry::{Caller, RoomKind};
use crate::protocol::ids::{DeviceId, RoomId, Seq, UserId};
use crate::protocol::ops::{self, PresencePush, Request};
use crate::push::Pushes;
use crate::storage::{RoomRow, Store};
use crate::telemetry::metrics;
use crate::webhooks::Webhooks;
use crate::webhooks::incoming::IncomingHooks;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::guard::{Any, Get, Head};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpMessage, HttpRequest, Resource, ResponseError, Route, web};
use async_trait::async_trait;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Mutex, Notify, Semaphore};

pub mod admin;
pub mod api_keys;
pub mod app;
pub mod arrival;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod channels;
pub mod cluster;
pub mod contacts;
pub mod cookie;
pub mod cors;
pub mod deletion;
pub mod devices;
pub mod email;
pub mod error;
pub mod etag;
pub mod export;
pub mod headers;
pub mod health;
pub mod idempotency;
pub mod incoming;
pub mod invites;
pub mod keys;
pub mod members;
pub mod messages;
pub mod moderation;
pub mod newcomers;
pub mod notify;
pub mod openapi;
pub mod page;
pub mod password;
pub mod peer;
pub mod push;
pub mod retention;
pub mod rooms;
pub mod scopes;
pub mod server;
pub mod socket;
pub mod tls;
pub mod totp;
pub mod users;
pub mod webhooks;

/// What authenticator apps show beside an account's name.
const ISSUER: &str = "Hubbub";

/// How the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// It is going away: no new work, please.
    pub draining: bool,
    /// Or why it should get no traffic.
    pub ready: Result<(), Vec<String>>,
    /// What is wrong around it, and would be with every other node too: no reason to send traffic elsewhere.
    pub warnings: Vec<String>,
}

/// What the HTTP API asks of the node behind it.
#[async_trait]
pub trait NodePort: Send + Sync {
    /// A fresh snowflake.
    async fn next_id(&self) -> Result<u64, ApiError>;
    /// The user's device, or all of the user's devices, may no longer be connected: closes their sockets. Does not block.
    fn revoked(&self, user: UserId, device: Option<DeviceId>);
    /// How two users stand to each other has changed: presence may be told, or must not be told any more. Does not block.
    fn contacts_changed(&self, a: UserId, b: UserId);
    /// The kind of a room that the user may read; what is hidden looks like what is not there.
    async fn kind_for(&self, user: UserId, room: RoomId) -> Result<RoomKind, ApiError>;
    /// Waits until what the room has committed can be read in what is derived from it; not for ever.
    async fn settle(&self, room: RoomId);
    /// The user's status text is another: contacts are told. Does not block.
    fn status_changed(&self, user: UserId, status: String);
    /// What users are now; those who are not connected may be left out.
    async fn presence(&self, users: &[UserId]) -> Vec<PresencePush>;
    /// Answers a request as a socket would (`actors::asking`).
    async fn ask(&self, caller: Caller, request: Request) -> Result<ops::Ok, ApiError> {
        self.ask_at(caller, request, None).await
    }
    /// The same, only if `head` (when there is one) is still the room's head; else [`Code::PreconditionFailed`].
    async fn ask_at(&self, caller: Caller, request: Request, head: Option<Seq>) -> Result<ops::Ok, ApiError>;
    /// How it is.
    fn status(&self) -> NodeStatus;
    /// The cluster as this node sees it; none where it is alone.
    fn cluster(&self) -> Option<cluster::ClusterStatus>;
    /// Has a node of the cluster leave. Does not wait for it.
    fn drain(&self, node: u32);
    /// Whether what only one node may do for a user is this one's to do.
    fn owns(&self, _user: UserId) -> bool {
        true
    }
    /// Something that nodes remember of the store was changed here. Does not block.
    fn changed(&self, _changed: Changed) {}
    /// Access tokens are signed and accepted by this ring from now on: other nodes are told, without its secrets. Does not block.
    fn ring_is(&self, _ring: &[SigningKey]) {}
    /// The other nodes that have not said that they accept tokens of this key ([`crate::config::keys::print`]).
    fn lack_key(&self, _print: u64) -> Vec<u32> {
        Vec::new()
    }
    /// Makes an actor panic (`dev.faults`); false when there is none of that name and id.
    fn fault(&self, actor: &str, id: u64) -> bool;
}

/// What reaches the world outside.
#[derive(Clone)]
pub struct Outside {
    /// Requests to others.
    pub outbound: Arc<Outbound>,
    /// Offline push.
    pub pushes: Arc<Pushes>,
    /// Outgoing webhooks.
    pub webhooks: Arc<Webhooks>,
}

/// Why the API cannot be put together as configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Where mail goes.
    #[error("{0}")]
    Mail(String),
    /// An issuer of other tokens.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

/// What all handlers share; one per process.
pub struct Api {
    /// The configuration.
    pub config: Arc<Config>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Accounts.
    pub accounts: Accounts,
    /// Access tokens.
    pub tokens: Arc<Tokens>,
    /// Devices and refresh tokens.
    pub sessions: Sessions,
    /// E-mail addresses.
    pub emails: Emails,
    /// One-time links.
    pub links: OneTime,
    /// Second factors.
    pub second_factor: SecondFactor,
    /// Mail.
    pub mailer: Mailer,
    /// Rate limits.
    pub limits: Limits,
    /// Offline push.
    pub pushes: Arc<Pushes>,
    /// Whether a token counts, ours or another issuer's.
    pub verifier: Verifier,
    /// API keys.
    pub keys: Keys,
    /// The world outside.
    pub outbound: Arc<Outbound>,
    /// Outgoing webhooks.
    pub webhooks: Arc<Webhooks>,
    /// Incoming webhooks.
    pub incoming: IncomingHooks,
    /// The node.
    pub node: Arc<dyn NodePort>,
    /// Whom to believe about clients' addresses.
    pub proxies: peer::Proxies,
    /// What administrators did.
    pub audit: audit::Audit,
    /// What users reported.
    pub reports: Reports,
    /// Who is banned from this server.
    pub bans: Bans,
    /// What operators must present; when it is empty nobody is let in.
    admin_token: String,
    contact_locks: contacts::PairLocks,
    /// Wakes [`deletion::work`].
    deletions: Notify,
    /// Places of exports that are being written.
    exports: Arc<Semaphore>,
    /// Held while the keys are rotated.
    rotation: Mutex<()>,
    backups: backup::Backups,
}

impl Api {
    /// Puts the parts together. `tokens` signs access tokens; `Err` says what cannot be used.
    pub fn new(
        config: Arc<Config>,
        store: Arc<dyn Store>,
        outside: Outside,
        node: Arc<dyn NodePort>,
        tokens: Tokens,
        admin_token: String,
    ) -> Result<Api, SetupError> {
        let Outside { outbound, pushes, webhooks } = outside;
        let tokens = Arc::new(tokens);
        let told = node.clone();
        let announce: Announce = Arc::new(move |user, device| told.revoked(user, device));
        let accounts = Accounts::new(store.clone(), &config.auth);
        let sessions = Sessions::new(store.clone(), tokens.clone(), &config.auth, announce.clone());
        let numbers = node.clone();
        let ids: NextId = Arc::new(move || {
            let numbers = numbers.clone();
            Box::pin(async move { numbers.next_id().await })
        });
        let subjects = Subjects::new(store.clone(), accounts.clone(), ids, announce);
        let issuers = Issuers::new(&config.auth.issuers, &outbound)?;
        let (keys, told) = (Keys::new(store.clone()), node.clone());
        keys.told_to(move |id| told.changed(Changed::ApiKey(id)));
        Ok(Api {
            verifier: Verifier::new(tokens.clone(), sessions.clone(), issuers, subjects),
            keys,
            incoming: IncomingHooks::new(store.clone()),
            emails: Emails::new(store.clone()),
            links: OneTime::new(store.clone()),
            second_factor: SecondFactor::new(store.clone(), ISSUER),
            mailer: Mailer::new(&config.mail, &config.storage.data_dir).map_err(SetupError::Mail)?,
            deletions: Notify::new(),
            exports: Arc::new(Semaphore::new(export::AT_ONCE)),
            rotation: Mutex::new(()),
            reports: Reports::new(store.clone(), &config.moderation),
            bans: Bans::new(store.clone(), accounts.clone()),
            accounts,
            sessions,
            limits: Limits::new(&config),
            proxies: peer::Proxies::new(&config.proxy),
            audit: audit::Audit::new(store.clone(), &config.audit),
            contact_locks: contacts::PairLocks::default(),
            backups: backup::Backups::default(),
            config,
            store,
            tokens,
            pushes,
            outbound,
            webhooks,
            node,
            admin_token,
        })
    }

    /// What forgets what is remembered here, when this node or another says that something was changed.
    pub fn forgetting(self: &Arc<Api>) -> impl Fn(Changed) + Send + Sync + 'static {
        let api = Arc::downgrade(self);
        move |changed| {
            let Some(api) = api.upgrade() else { return };
            match changed {
                Changed::ApiKey(id) => api.keys.forget(Some(id)),
                Changed::Deletions => api.deletions.notify_one(),
                Changed::Anything => {
                    api.keys.forget(None);
                    api.deletions.notify_one();
                }
                Changed::Subscriptions(_) | Changed::Levels(_) => {}
            }
        }
    }

    /// A room. Its row may be a little old; one that was opened a moment ago is waited for.
    async fn room(&self, room: RoomId) -> Result<Option<RoomRow>, ApiError> {
        let read = async || Ok::<_, ApiError>(self.store.rooms(&[room]).await.map_err(crate::auth::failed)?.pop().flatten());
        if let Some(row) = read().await? {
            return Ok(Some(row));
        }
        self.node.settle(room).await;
        read().await
    }
}

/// All routes of the public listener except the socket's.
pub fn routes(api: web::Data<Api>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |cfg| {
        error::extractors(cfg, api.config.http.body_bytes_max);
        cfg.app_data(api);
        public(&mut Table::new(cfg));
        cfg.default_service(web::route().to(app::serve));
    }
}

/// Registers addresses, and notes those that the OpenAPI document describes.
struct Table<'a> {
    cfg: &'a mut web::ServiceConfig,
    #[cfg_attr(not(test), allow(dead_code))]
    described: Vec<(&'static str, &'static str)>,
}

impl<'a> Table<'a> {
    fn new(cfg: &'a mut web::ServiceConfig) -> Self {
        Table { cfg, described: Vec::new() }
    }
}

/// The public listener's addresses.
fn public(cfg: &mut Table<'_>) {
    identity(cfg);
    own(cfg);
    people(cfg);
    talking(cfg);
    messaging(cfg);
    pushing(cfg);
    embedding(cfg);
    api_at(cfg, openapi::ADDRESS, "GET, HEAD", [get().to(openapi::document)]);
    plain_at(cfg, "/docs", "GET, HEAD", [get().to(openapi::to_page)]);
    plain_at(cfg, "/docs/{file:.*}", "GET, HEAD", [get().to(openapi::page)]);
    // Without rate limit: load balancers ask often, and from one address.
    plain_at(cfg, "/livez", "GET, HEAD", [get().to(health::livez)]);
    plain_at(cfg, "/readyz", "GET, HEAD", [get().to(health::readyz_public)]);
}

fn identity(cfg: &mut Table<'_>) {
    api_at(cfg, "/v1/auth/register", "POST", [web::post().to(auth::register)]);
    api_at(cfg, "/v1/auth/login", "POST", [web::post().to(auth::login)]);
    api_at(cfg, "/v1/auth/login/mfa", "POST", [web::post().to(auth::second_step)]);
    api_at(cfg, "/v1/auth/password/forgot", "POST", [web::post().to(password::forgot)]);
    api_at(cfg, "/v1/auth/password/reset", "POST", [web::post().to(password::reset)]);
    api_at(cfg, "/v1/auth/email/verify", "POST", [web::post().to(email::verify)]);
    api_at(cfg, "/v1/auth/refresh", "POST", [web::post().to(auth::refresh)]);
    api_at(cfg, "/v1/auth/logout", "POST", [web::post().to(auth::logout)]);
}

/// One's own account.
fn own(cfg: &mut Table<'_>) {
    let me = [get().to(users::me), web::patch().to(users::change), web::delete().to(deletion::delete)];
    api_at(cfg, "/v1/me", "GET, HEAD, PATCH, DELETE", me);
    api_at(cfg, "/v1/me/password", "PUT", [web::put().to(password::change)]);
    api_at(cfg, "/v1/me/email", "PUT, DELETE", [web::put().to(email::set), web::delete().to(email::remove)]);
    api_at(cfg, "/v1/me/devices", "GET, HEAD", [get().to(devices::list)]);
    api_at(cfg, "/v1/me/devices/{device}", "DELETE", [web::delete().to(devices::revoke)]);
    api_at(cfg, "/v1/me/totp", "POST, DELETE", [web::post().to(totp::begin), web::delete().to(totp::remove)]);
    api_at(cfg, "/v1/me/totp/confirm", "POST", [web::post().to(totp::confirm)]);
    api_at(cfg, "/v1/me/export", "GET, HEAD", [get().to(export::export)]);
}

fn people(cfg: &mut Table<'_>) {
    let user = [get().to(users::by_id), web::delete().to(deletion::by_key)];
    api_at(cfg, "/v1/users/{user}", "GET, HEAD, DELETE", user);
    api_at(cfg, "/v1/users/by-name/{name}", "GET, HEAD", [get().to(users::by_name)]);
    api_at(cfg, "/v1/contacts", "GET, HEAD", [get().to(contacts::list)]);
    api_at(cfg, "/v1/contacts/presence", "GET, HEAD", [get().to(contacts::presence)]);
    api_at(cfg, "/v1/contacts/{user}", "PUT, DELETE", [web::put().to(contacts::ask), web::delete().to(contacts::remove)]);
    api_at(cfg, "/v1/blocks", "GET, HEAD", [get().to(contacts::blocks)]);
    api_at(cfg, "/v1/reports", "GET, HEAD, POST", [get().to(moderation::queue), web::post().to(moderation::report)]);
    api_at(cfg, "/v1/reports/{id}/resolve", "POST", [web::post().to(moderation::resolve)]);
    api_at(cfg, "/v1/server-bans", "GET, HEAD", [get().to(moderation::bans)]);
    let bans = [web::put().to(moderation::ban), web::delete().to(moderation::unban)];
    api_at(cfg, "/v1/server-bans/{user}", "PUT, DELETE", bans);
    api_at(cfg, "/v1/blocks/{user}", "PUT, DELETE", [web::put().to(contacts::block), web::delete().to(contacts::unblock)]);
}

/// Rooms, who is in them, and how one comes in.
fn talking(cfg: &mut Table<'_>) {
    api_at(cfg, "/v1/rooms", "GET, HEAD, POST", [get().to(rooms::list), web::post().to(rooms::create)]);
    api_at(cfg, "/v1/rooms/{room}", "GET, HEAD, PATCH", [get().to(rooms::read), web::patch().to(rooms::change)]);
    api_at(cfg, "/v1/rooms/{room}/join", "POST", [web::post().to(rooms::join)]);
    api_at(cfg, "/v1/rooms/{room}/leave", "POST", [web::post().to(rooms::leave)]);
    api_at(cfg, "/v1/rooms/{room}/transfer", "POST", [web::post().to(rooms::transfer)]);
    api_at(cfg, "/v1/rooms/{room}/cursor", "GET, HEAD, PUT", [get().to(rooms::cursor), web::put().to(rooms::move_cursor)]);
    api_at(cfg, "/v1/rooms/{room}/members", "GET, HEAD", [get().to(members::list)]);
    let member = [web::put().to(members::invite), web::patch().to(members::set_role), web::delete().to(members::kick)];
    api_at(cfg, "/v1/rooms/{room}/members/{user}", "PUT, PATCH, DELETE", member);
    api_at(cfg, "/v1/rooms/{room}/bans", "GET, HEAD", [get().to(members::bans)]);
    api_at(cfg, "/v1/rooms/{room}/bans/{user}", "PUT, DELETE", [web::put().to(members::ban), web::delete().to(members::unban)]);
    api_at(cfg, "/v1/rooms/{room}/mutes/{user}", "PUT, DELETE", [web::put().to(members::mute), web::delete().to(members::unmute)]);
    api_at(cfg, "/v1/rooms/{room}/invites", "GET, HEAD, POST", [get().to(invites::list), web::post().to(invites::create)]);
    api_at(cfg, "/v1/rooms/{room}/invites/{code}", "DELETE", [web::delete().to(invites::revoke)]);
    api_at(cfg, "/v1/invites/{code}", "GET, HEAD", [get().to(invites::preview)]);
    api_at(cfg, "/v1/invites/{code}/accept", "POST", [web::post().to(invites::accept)]);
    api_at(cfg, "/v1/channels", "GET, HEAD", [get().to(channels::list)]);
}

/// What is said in rooms.
fn messaging(cfg: &mut Table<'_>) {
    api_at(cfg, "/v1/rooms/{room}/messages", "GET, HEAD, POST", [get().to(messages::history), web::post().to(messages::send)]);
    let message = [get().to(messages::read), web::patch().to(messages::edit), web::delete().to(messages::delete)];
    api_at(cfg, "/v1/rooms/{room}/messages/{seq}", "GET, HEAD, PATCH, DELETE", message);
    let reaction = [web::put().to(messages::react), web::delete().to(messages::unreact)];
    api_at(cfg, "/v1/rooms/{room}/messages/{seq}/reactions/{emoji}", "PUT, DELETE", reaction);
    let pin = [web::put().to(messages::pin), web::delete().to(messages::unpin)];
    api_at(cfg, "/v1/rooms/{room}/messages/{seq}/pin", "PUT, DELETE", pin);
    api_at(cfg, "/v1/rooms/{room}/messages/{seq}/thread", "GET, HEAD", [get().to(messages::thread)]);
    api_at(cfg, "/v1/rooms/{room}/messages/{seq}/readers", "GET, HEAD", [get().to(messages::readers)]);
    api_at(cfg, "/v1/rooms/{room}/receipts", "GET, HEAD", [get().to(messages::receipts)]);
    api_at(cfg, "/v1/rooms/{room}/pins", "GET, HEAD", [get().to(messages::pins)]);
    api_at(cfg, "/v1/rooms/{room}/entries", "GET, HEAD", [get().to(messages::entries)]);
}

fn pushing(cfg: &mut Table<'_>) {
    api_at(cfg, "/v1/rooms/{room}/notify", "GET, HEAD, PUT", [get().to(notify::read), web::put().to(notify::change)]);
    api_at(cfg, "/v1/push/vapid", "GET, HEAD", [get().to(push::vapid)]);
    let subscription = [web::put().to(push::subscribe), web::delete().to(push::unsubscribe)];
    api_at(cfg, "/v1/push/subscription", "PUT, DELETE", subscription);
    api_at(cfg, "/v1/push/subscriptions", "GET, HEAD", [get().to(push::list)]);
}

/// What embedders' servers use, by API key; and where programs post to.
fn embedding(cfg: &mut Table<'_>) {
    api_at(cfg, "/v1/users", "POST", [web::post().to(newcomers::create)]);
    api_at(cfg, "/v1/webhooks", "GET, HEAD, POST", [get().to(webhooks::list), web::post().to(webhooks::create)]);
    let hook = [get().to(webhooks::get), web::patch().to(webhooks::change), web::delete().to(webhooks::remove)];
    api_at(cfg, "/v1/webhooks/{id}", "GET, HEAD, PATCH, DELETE", hook);
    api_at(cfg, "/v1/webhooks/{id}/secret", "POST, DELETE", [web::post().to(webhooks::rotate), web::delete().to(webhooks::rotated)]);
    api_at(cfg, "/v1/webhooks/{id}/dead", "GET, HEAD", [get().to(webhooks::dead)]);
    api_at(cfg, "/v1/webhooks/{id}/replay", "POST", [web::post().to(webhooks::replay)]);
    api_at(cfg, "/v1/incoming-hooks", "GET, HEAD, POST", [get().to(incoming::list), web::post().to(incoming::create)]);
    api_at(cfg, "/v1/incoming-hooks/{id}", "DELETE", [web::delete().to(incoming::revoke)]);
    api_at(cfg, "/v1/hooks/{id}/{secret}", "POST", [web::post().to(incoming::post)]);
}

/// The same for operators, and their API keys.
fn integrations(cfg: &mut Table<'_>) {
    plain_at(cfg, "/admin/api-keys", "GET, HEAD, POST", [get().to(api_keys::list), web::post().to(api_keys::create)]);
    plain_at(cfg, "/admin/api-keys/{id}", "DELETE", [web::delete().to(api_keys::revoke)]);
    plain_at(cfg, "/admin/webhooks", "GET, HEAD, POST", [get().to(webhooks::list), web::post().to(webhooks::create)]);
    let hook = [get().to(webhooks::get), web::patch().to(webhooks::change), web::delete().to(webhooks::remove)];
    plain_at(cfg, "/admin/webhooks/{id}", "GET, HEAD, PATCH, DELETE", hook);
    plain_at(cfg, "/admin/webhooks/{id}/secret", "POST, DELETE", [web::post().to(webhooks::rotate), web::delete().to(webhooks::rotated)]);
    plain_at(cfg, "/admin/webhooks/{id}/dead", "GET, HEAD", [get().to(webhooks::dead)]);
    plain_at(cfg, "/admin/webhooks/{id}/replay", "POST", [web::post().to(webhooks::replay)]);
    plain_at(cfg, "/admin/incoming-hooks", "GET, HEAD, POST", [get().to(incoming::list), web::post().to(incoming::create)]);
    plain_at(cfg, "/admin/incoming-hooks/{id}", "DELETE", [web::delete().to(incoming::revoke)]);
}

/// All routes of the operators' listener.
pub fn admin_routes(api: web::Data<Api>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |cfg| {
        error::extractors(cfg, api.config.http.body_bytes_max);
        cfg.app_data(api);
        operators(&mut Table::new(cfg));
        cfg.default_service(web::route().to(error::not_found));
    }
}

fn operators(cfg: &mut Table<'_>) {
    plain_at(cfg, "/metrics", "GET, HEAD", [get().to(health::metrics_text)]);
    plain_at(cfg, "/livez", "GET, HEAD", [get().to(health::livez)]);
    plain_at(cfg, "/readyz", "GET, HEAD", [get().to(health::readyz)]);
    plain_at(cfg, "/admin/users", "GET, HEAD, POST", [get().to(admin::list), web::post().to(admin::create)]);
    plain_at(cfg, "/admin/users/{name}", "DELETE", [web::delete().to(deletion::by_operator)]);
    plain_at(cfg, "/admin/users/{name}/totp", "DELETE", [web::delete().to(admin::without_totp)]);
    plain_at(cfg, "/admin/users/{name}/disable", "POST", [web::post().to(admin::disable)]);
    plain_at(cfg, "/admin/users/{name}/enable", "POST", [web::post().to(admin::enable)]);
    plain_at(cfg, "/admin/users/{name}/password", "POST", [web::post().to(admin::password)]);
    plain_at(cfg, "/admin/users/{name}/token", "POST", [web::post().to(admin::token)]);
    plain_at(cfg, "/admin/keys", "GET, HEAD", [get().to(keys::list)]);
    plain_at(cfg, "/admin/keys/prepare", "POST", [web::post().to(keys::prepare)]);
    plain_at(cfg, "/admin/keys/reload", "POST", [web::post().to(keys::reload)]);
    plain_at(cfg, "/admin/keys/rotate", "POST", [web::post().to(keys::rotate)]);
    plain_at(cfg, "/admin/reports", "GET, HEAD", [get().to(moderation::queue)]);
    plain_at(cfg, "/admin/reports/{id}/resolve", "POST", [web::post().to(moderation::resolve)]);
    plain_at(cfg, "/admin/server-bans", "GET, HEAD", [get().to(moderation::bans)]);
    let bans = [web::put().to(moderation::ban), web::delete().to(moderation::unban)];
    plain_at(cfg, "/admin/server-bans/{user}", "PUT, DELETE", bans);
    let keep = [get().to(retention::get), web::put().to(retention::set), web::delete().to(retention::unset)];
    plain_at(cfg, "/admin/rooms/{room}/retention", "GET, HEAD, PUT, DELETE", keep);
    plain_at(cfg, "/admin/backup", "POST", [web::post().to(backup::backup)]);
    plain_at(cfg, "/admin/cluster", "GET, HEAD", [get().to(cluster::status)]);
    plain_at(cfg, "/admin/cluster/drain", "POST", [web::post().to(cluster::drain)]);
    plain_at(cfg, "/admin/audit", "GET, HEAD", [get().to(audit::list)]);
    integrations(cfg);
    plain_at(cfg, "/admin/fault", "POST", [web::post().to(admin::fault)]);
}

/// GET, and HEAD as GET without the body.
fn get() -> Route {
    web::route().guard(Any(Get()).or(Head()))
}

fn resource<const N: usize>(path: &str, allow: &'static str, routes: [Route; N]) -> Resource {
    let resource = routes.into_iter().fold(web::resource(path), Resource::route);
    let refuse = move |req: HttpRequest| async move { error::other_method(req.method(), allow) };
    resource.default_service(web::to(refuse))
}

/// An address with the headers of every answer.
fn plain_at<const N: usize>(table: &mut Table<'_>, path: &'static str, allow: &'static str, routes: [Route; N]) {
    table.cfg.service(resource(path, allow, routes).wrap(from_fn(plain)));
}

/// An address of the API: described by the document, counted, and limited per client address.
fn api_at<const N: usize>(table: &mut Table<'_>, path: &'static str, allow: &'static str, routes: [Route; N]) {
    table.described.push((path, allow));
    table.cfg.service(resource(path, allow, routes).wrap(from_fn(counted)));
}

async fn plain<B: MessageBody + 'static>(req: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, actix_web::Error> {
    let api = req.app_data::<web::Data<Api>>().cloned();
    let act = audit::Audit::of_request(&req);
    let by_key = !headers::is_safe(&req) && bearer(req.request()).is_some_and(scopes::is_key);
    let apart = act.is_some() || by_key;
    let doing = next.call(req);
    let done = async move {
        let mut response = doing.await?;
        if let Some(api) = api {
            headers::protect(&mut response, api.config.tls.hsts_s);
            if let Some(act) = act.or_else(|| audit::Audit::of_key(response.request())) {
                api.audit.answered(act, &response).await;
            }
        }
        Ok(response)
    };
    if !apart {
        return done.await;
    }
    // An act of administration is done whole, and written down, also when its client is gone before the answer.
    let lost = |_| ApiError::new(Code::Internal, "the request failed by a fault of the server's own");
    actix_web::rt::spawn(done).await.map_err(lost)?
}

async fn counted<B: MessageBody + 'static>(req: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let begun = Instant::now();
    let method = req.method().clone();
    let path = req.match_pattern().unwrap_or_default();
    let api = api_of(req.request())?;
    let cors = cors::headers(&method, req.headers(), &api.config.http.origins);
    // A key that was looked up a moment ago is limited by itself, wherever its server stands.
    let by_key = bearer(req.request()).is_some_and(|text| api.keys.known(text).is_some());
    let allowed = if by_key { Ok(None) } else { api.limits.http(address(req.request())) };
    let (mut response, standing) = match allowed {
        Ok(standing) => (plain(req, next).await?.map_into_left_body(), standing),
        Err(refused) => {
            let full = Standing { limit: api.limits.http_burst(), remaining: 0, reset_s: 0 };
            (req.into_response(refused.error_response()).map_into_right_body(), Some(full))
        }
    };
    say_standing(&mut response, standing);
    for (name, value) in cors {
        response.headers_mut().append(name, value);
    }
    let status = response.status().as_u16();
    metrics().http_requests_total.of(&format!("{}xx", status / 100)).inc();
    metrics().http_request_duration_seconds.observe(begun.elapsed().as_secs_f64());
    // The pattern, not the path: paths hold names.
    tracing::debug!(%method, path, status, ms = begun.elapsed().as_millis() as u64, "request");
    Ok(response)
}

/// Says in the headers how many requests are left: to the address or to the user, whichever has fewer.
fn say_standing<B>(response: &mut ServiceResponse<B>, address: Option<Standing>) {
    let user = response.request().extensions().get::<Standing>().copied();
    let Some(mut standing) = [address, user].into_iter().flatten().min_by_key(|s| s.remaining) else { return };
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|s| s.to_str().ok()?.parse().ok());
        standing = Standing { remaining: 0, reset_s: wait.unwrap_or(standing.reset_s), ..standing };
    }
    let mut say = |name, value: u64| response.headers_mut().insert(HeaderName::from_static(name), value.into());
    say("ratelimit-limit", standing.limit.into());
    say("ratelimit-remaining", standing.remaining.into());
    say("ratelimit-reset", standing.reset_s);
}

/// The address of the client a request comes from ([`peer`]).
pub fn address(req: &HttpRequest) -> IpAddr {
    peer::client(req).address
}

/// The token of an `Authorization: Bearer` header; `None` when there is none, or more than one.
pub fn bearer(req: &HttpRequest) -> Option<&str> {
    let mut all = req.headers().get_all(header::AUTHORIZATION);
    let (scheme, token) = all.next()?.to_str().ok()?.split_once(' ')?;
    (all.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

/// The shared state of a request.
fn api_of(req: &HttpRequest) -> Result<web::Data<Api>, ApiError> {
    let missing = || ApiError::new(Code::Internal, "the server was put together wrongly");
    req.app_data::<web::Data<Api>>().cloned().ok_or_else(missing)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
