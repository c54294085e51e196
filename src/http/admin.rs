//! The operators' listener and what operators do: accounts, tokens for programs, and (in development) faults.
//!
//! Everything under `/admin` needs the admin token; it is compared by hash, so that the time it takes tells nothing of it. Whoever has it can
//! act as any user, so the listener belongs on loopback or a private network.

use super::error::Body;
use super::{Api, api_of, bearer};
use crate::auth::now;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::storage::UserRow;
use crate::telemetry::ACTORS;
use actix_web::dev::{Payload, Server};
use actix_web::{App, FromRequest, HttpRequest, HttpResponse, HttpServer, web};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;

/// Seconds that a token for a program lives at most: a year.
const TOKEN_TTL_S_MAX: u64 = 366 * 86_400;
/// Connections of operators and their tools at once; more wait in the kernel.
const CONNECTIONS_MAX: usize = 256;

/// Binds and starts the operators' listener: one worker thread. The caller awaits the server and stops it by its handle.
pub fn start(config: &crate::config::Admin, api: web::Data<Api>) -> io::Result<(Server, SocketAddr)> {
    let server = HttpServer::new(move || App::new().configure(super::admin_routes(api.clone())))
        .workers(1)
        .max_connections(CONNECTIONS_MAX)
        .shutdown_timeout(1)
        .disable_signals()
        .bind(config.listen)?;
    let address = server.addrs().first().copied().ok_or_else(|| io::Error::other("the admin listener has no address"))?;
    Ok((server.run(), address))
}

/// The request carries the admin token.
pub struct Operator;

impl FromRequest for Operator {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(api_of(req).and_then(|api| {
            let given = bearer(req).unwrap_or_default();
            let same = Sha256::digest(given) == Sha256::digest(&api.admin_token);
            let refused = || ApiError::new(Code::Unauthorized, "the admin token is needed (authorization: bearer)");
            (same && !api.admin_token.is_empty()).then_some(Operator).ok_or_else(refused)
        }))
    }
}

/// An account as operators see it.
#[derive(Serialize)]
struct Account {
    user: UserId,
    name: String,
    disabled: bool,
    created: Millis,
}

impl From<UserRow> for Account {
    fn from(row: UserRow) -> Self {
        Account { user: row.user, name: row.name, disabled: row.disabled, created: row.created }
    }
}

/// Query of the list.
#[derive(Deserialize)]
pub struct Page {
    after: Option<UserId>,
    limit: Option<usize>,
}

/// `GET /admin/users?after=&limit=`: ascending by id; the next page is after the last id of this one.
pub async fn list(_op: Operator, api: web::Data<Api>, page: web::Query<Page>) -> Result<HttpResponse, ApiError> {
    #[derive(Serialize)]
    struct Answer {
        users: Vec<Account>,
    }
    let rows = api.accounts.list(page.after.unwrap_or_default(), page.limit.unwrap_or(100)).await?;
    Ok(HttpResponse::Ok().json(Answer { users: rows.into_iter().map(Account::from).collect() }))
}

/// Body of create.
#[derive(Deserialize)]
pub struct NewAccount {
    name: String,
    password: String,
}

/// `POST /admin/users`
pub async fn create(_op: Operator, api: web::Data<Api>, Body(new): Body<NewAccount>) -> Result<HttpResponse, ApiError> {
    let id = UserId(api.node.next_id().await?);
    let row = api.accounts.create(id, &new.name, &new.password).await?;
    Ok(HttpResponse::Created().json(Account::from(row)))
}

/// `POST /admin/users/{name}/disable`: also ends its sessions.
pub async fn disable(_op: Operator, api: web::Data<Api>, name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let row = api.bans.switch(&name, true).await?;
    api.sessions.ended_everywhere(row.user);
    Ok(HttpResponse::Ok().json(Account::from(row)))
}

/// `POST /admin/users/{name}/enable`
pub async fn enable(_op: Operator, api: web::Data<Api>, name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(Account::from(api.bans.switch(&name, false).await?)))
}

/// Body of password.
#[derive(Deserialize)]
pub struct NewPassword {
    password: String,
}

/// `POST /admin/users/{name}/password`: also ends its sessions.
pub async fn password(
    _op: Operator,
    api: web::Data<Api>,
    name: web::Path<String>,
    Body(new): Body<NewPassword>,
) -> Result<HttpResponse, ApiError> {
    let row = api.accounts.set_password(&name, &new.password).await?;
    api.sessions.ended_everywhere(row.user);
    Ok(HttpResponse::Ok().json(Account::from(row)))
}

/// `DELETE /admin/users/{name}/totp`: for who has lost the app and the recovery codes.
pub async fn without_totp(_op: Operator, api: web::Data<Api>, name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let user = api.accounts.by_name(&name).await?.user;
    if !api.second_factor.is_on(user).await? {
        return Err(ApiError::new(Code::NotFound, "there is no second factor"));
    }
    api.second_factor.remove(user).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Body of token.
#[derive(Deserialize)]
pub struct TokenLife {
    ttl_s: u64,
}

/// `POST /admin/users/{name}/token`: an access token with a device of its own and no refresh token.
pub async fn token(
    _op: Operator,
    api: web::Data<Api>,
    name: web::Path<String>,
    Body(life): Body<TokenLife>,
) -> Result<HttpResponse, ApiError> {
    #[derive(Serialize)]
    struct Answer {
        token: String,
        expires: Millis,
    }
    if !(1..=TOKEN_TTL_S_MAX).contains(&life.ttl_s) {
        return Err(ApiError::new(Code::Invalid, "ttl_s is 1 to 31622400 (366 days)"));
    }
    let row = api.accounts.by_name(&name).await?;
    if row.disabled {
        return Err(ApiError::new(Code::Conflict, "the account is disabled"));
    }
    let device = DeviceId(api.node.next_id().await?);
    let (token, expires) = api.sessions.issue(&row, device, "token made by an operator", life.ttl_s * 1000, now()).await?;
    Ok(HttpResponse::Ok().json(Answer { token, expires }))
}

/// Query of fault.
#[derive(Deserialize)]
pub struct Fault {
    actor: String,
    #[serde(default)]
    id: u64,
}

/// `POST /admin/fault?actor=&id=`: makes an actor panic. Not there unless `dev.faults`.
pub async fn fault(_op: Operator, api: web::Data<Api>, fault: web::Query<Fault>) -> Result<HttpResponse, ApiError> {
    if !api.config.dev.faults {
        return super::error::not_found().await;
    }
    if !ACTORS.contains(&fault.actor.as_str()) {
        return Err(ApiError::new(Code::Invalid, format!("actor is one of {}", ACTORS.join(", "))));
    }
    if api.node.fault(&fault.actor, fault.id) {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(ApiError::new(Code::NotFound, "no such actor is running"))
    }
}
