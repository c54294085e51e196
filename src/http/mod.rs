//! The HTTP API: what its handlers share, and the whole route table of both listeners.
//!
//! | public | |
//! |---|---|
//! | every other `GET` | the web app, [`app`] |
//! | `POST /v1/auth/register` `login` `refresh` `logout` | [`auth`] |
//! | `GET /v1/me`, `GET /v1/users/by-name/{name}` | [`users`] |
//! | `GET /v1/contacts`, `PUT DELETE /v1/contacts/{user}`, `PUT DELETE /v1/blocks/{user}` | [`contacts`] |
//! | `GET /livez`, `GET /readyz` | [`health`] |
//!
//! | operators' listener | |
//! |---|---|
//! | `GET /metrics`, `/livez`, `/readyz` | [`health`] |
//! | `/admin/…` (with the admin token) | [`admin`], [`audit`] |
//!
//! Every error is a problem+json ([`error`]); every method that an address does not have is a 405 with `Allow`. Handlers
//! read and write accounts and contacts themselves; what sockets must learn of goes through [`NodePort`].

use crate::auth::accounts::Accounts;
use crate::auth::limits::Limits;
use crate::auth::sessions::Sessions;
use crate::auth::tokens::{KeyError, Tokens};
use crate::config::Config;
use crate::error::{ApiError, Code};
use crate::protocol::entry::Caller;
use crate::protocol::ids::{DeviceId, UserId};
use crate::protocol::ops::{self, Request};
use crate::storage::Store;
use crate::telemetry::metrics;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::guard::{Any, Get, Head};
use actix_web::http::header;
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpRequest, Resource, ResponseError, Route, web};
use async_trait::async_trait;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

pub mod admin;
pub mod app;
pub mod arrival;
pub mod audit;
pub mod auth;
pub mod contacts;
pub mod error;
pub mod headers;
pub mod health;
pub mod peer;
pub mod server;
pub mod socket;
pub mod tls;
pub mod users;

/// How the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// It is going away: no new work, please.
    pub draining: bool,
    /// Or why it should get no traffic.
    pub ready: Result<(), Vec<String>>,
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
    /// Answers a request as a socket would (`actors::asking`).
    async fn ask(&self, caller: Caller, request: Request) -> Result<ops::Ok, ApiError>;
    /// How it is.
    fn status(&self) -> NodeStatus;
    /// Makes an actor panic (`dev.faults`); false when there is none of that name and id.
    fn fault(&self, actor: &str, id: u64) -> bool;
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
    /// Rate limits.
    pub limits: Limits,
    /// The node.
    pub node: Arc<dyn NodePort>,
    /// Whom to believe about clients' addresses.
    pub proxies: peer::Proxies,
    /// What administrators did.
    pub audit: audit::Audit,
    /// What operators must present; when it is empty nobody is let in.
    admin_token: String,
    contact_locks: contacts::PairLocks,
}

impl Api {
    /// Puts the parts together. `secret` signs access tokens.
    pub fn new(
        config: Arc<Config>,
        store: Arc<dyn Store>,
        node: Arc<dyn NodePort>,
        secret: &[u8],
        admin_token: String,
    ) -> Result<Api, KeyError> {
        let tokens = Arc::new(Tokens::new(secret, &config.auth)?);
        let told = node.clone();
        let announce = Arc::new(move |user, device| told.revoked(user, device));
        Ok(Api {
            accounts: Accounts::new(store.clone(), &config.auth),
            sessions: Sessions::new(store.clone(), tokens.clone(), &config.auth, announce),
            limits: Limits::new(&config.auth, &config.limits),
            proxies: peer::Proxies::new(&config.proxy),
            audit: audit::Audit::new(store.clone(), &config.audit),
            contact_locks: contacts::PairLocks::default(),
            config,
            store,
            tokens,
            node,
            admin_token,
        })
    }
}

/// All routes of the public listener except the socket's.
pub fn routes(api: web::Data<Api>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |cfg| {
        error::extractors(cfg, api.config.http.body_bytes_max);
        cfg.app_data(api);
        api_at(cfg, "/v1/auth/register", "POST", [web::post().to(auth::register)]);
        api_at(cfg, "/v1/auth/login", "POST", [web::post().to(auth::login)]);
        api_at(cfg, "/v1/auth/refresh", "POST", [web::post().to(auth::refresh)]);
        api_at(cfg, "/v1/auth/logout", "POST", [web::post().to(auth::logout)]);
        api_at(cfg, "/v1/me", "GET, HEAD", [get().to(users::me)]);
        api_at(cfg, "/v1/users/by-name/{name}", "GET, HEAD", [get().to(users::by_name)]);
        api_at(cfg, "/v1/contacts", "GET, HEAD", [get().to(contacts::list)]);
        api_at(cfg, "/v1/contacts/{user}", "PUT, DELETE", [web::put().to(contacts::ask), web::delete().to(contacts::remove)]);
        api_at(cfg, "/v1/blocks/{user}", "PUT, DELETE", [web::put().to(contacts::block), web::delete().to(contacts::unblock)]);
        // Without rate limit: load balancers ask often, and from one address.
        plain_at(cfg, "/livez", "GET, HEAD", [get().to(health::livez)]);
        plain_at(cfg, "/readyz", "GET, HEAD", [get().to(health::readyz_public)]);
        cfg.default_service(web::route().to(app::serve));
    }
}

/// All routes of the operators' listener.
pub fn admin_routes(api: web::Data<Api>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |cfg| {
        error::extractors(cfg, api.config.http.body_bytes_max);
        cfg.app_data(api);
        plain_at(cfg, "/metrics", "GET, HEAD", [get().to(health::metrics_text)]);
        plain_at(cfg, "/livez", "GET, HEAD", [get().to(health::livez)]);
        plain_at(cfg, "/readyz", "GET, HEAD", [get().to(health::readyz)]);
        plain_at(cfg, "/admin/users", "GET, HEAD, POST", [get().to(admin::list), web::post().to(admin::create)]);
        plain_at(cfg, "/admin/users/{name}/disable", "POST", [web::post().to(admin::disable)]);
        plain_at(cfg, "/admin/users/{name}/enable", "POST", [web::post().to(admin::enable)]);
        plain_at(cfg, "/admin/users/{name}/password", "POST", [web::post().to(admin::password)]);
        plain_at(cfg, "/admin/users/{name}/token", "POST", [web::post().to(admin::token)]);
        plain_at(cfg, "/admin/audit", "GET, HEAD", [get().to(audit::list)]);
        plain_at(cfg, "/admin/fault", "POST", [web::post().to(admin::fault)]);
        cfg.default_service(web::route().to(error::not_found));
    }
}

/// GET, and HEAD as GET without the body.
fn get() -> Route {
    web::route().guard(Any(Get()).or(Head()))
}

fn resource<const N: usize>(path: &str, allow: &'static str, routes: [Route; N]) -> Resource {
    let resource = routes.into_iter().fold(web::resource(path), Resource::route);
    let refuse = move |req: HttpRequest| async move { error::method_not_allowed(req.method(), allow) };
    resource.default_service(web::to(refuse))
}

/// An address with the headers of every answer.
fn plain_at<const N: usize>(cfg: &mut web::ServiceConfig, path: &str, allow: &'static str, routes: [Route; N]) {
    cfg.service(resource(path, allow, routes).wrap(from_fn(plain)));
}

/// An address of the API: counted, and limited per client address.
fn api_at<const N: usize>(cfg: &mut web::ServiceConfig, path: &str, allow: &'static str, routes: [Route; N]) {
    cfg.service(resource(path, allow, routes).wrap(from_fn(counted)));
}

async fn plain<B: MessageBody>(req: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, actix_web::Error> {
    let api = req.app_data::<web::Data<Api>>().cloned();
    let act = audit::Audit::of_request(&req);
    let mut response = next.call(req).await?;
    if let Some(api) = api {
        headers::protect(&mut response, api.config.tls.hsts_s);
        if let Some(act) = act {
            api.audit.answered(act, &response).await;
        }
    }
    Ok(response)
}

async fn counted<B: MessageBody>(req: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let begun = Instant::now();
    let method = req.method().clone();
    let path = req.match_pattern().unwrap_or_default();
    let allowed = req.app_data::<web::Data<Api>>().map_or(Ok(()), |api| api.limits.http(address(req.request())));
    let response = match allowed {
        Ok(()) => plain(req, next).await?.map_into_left_body(),
        Err(refused) => req.into_response(refused.error_response()).map_into_right_body(),
    };
    let status = response.status().as_u16();
    metrics().http_requests_total.of(&format!("{}xx", status / 100)).inc();
    metrics().http_request_duration_seconds.observe(begun.elapsed().as_secs_f64());
    // The pattern, not the path: paths hold names.
    tracing::debug!(%method, path, status, ms = begun.elapsed().as_millis() as u64, "request");
    Ok(response)
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
