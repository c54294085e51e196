//! Reports, the queue that moderators work off, and bans from this server.
//!
//! A report is of what its maker can see: the message is read as the reporter would read it. Moderators come over the operators' listener,
//! or with an API key that has the scope `moderate`; their resolutions and bans are in the audit log. A message is deleted through its room's actor, by the server itself
//! ([`UserId::SERVER`]): its entry shows that no member did it.

use super::auth::SignedIn;
use super::error::{Body, OptionalBody};
use super::idempotency::{Attempt, Key, KeyHeader};
use super::page::{Page, PageQuery};
use super::scopes::Keeper;
use super::users::{no_such_user, states};
use super::{Api, audit, peer};
use crate::auth::bans::Ban;
use crate::auth::reports::{Action, Report, Resolution, State, shortened};
use crate::auth::{failed, now};
use crate::error::{ApiError, Code};
use crate::protocol::entry::{self, Caller};
use crate::protocol::ids::{ClientId, DeviceId, Millis, RoomId, Seq, UserId};
use crate::protocol::ops::{History, OnMessage, Request};
use crate::storage::ContactState;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::{IntoParams, OpenApi, ToSchema};

/// Characters of a reason or a note at most.
const REASON_CHARS_MAX: usize = 1_000;
/// Bits of a report's id that tell apart those of one millisecond.
const REPORT_ID_BITS: u32 = 22;

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(report, queue, resolve, ban, unban, bans))]
pub struct Docs;

/// Body of report.
#[derive(Deserialize, ToSchema)]
pub struct NewReport {
    /// The room of the message; with `seq`.
    room: Option<RoomId>,
    /// The message.
    seq: Option<Seq>,
    /// The user, where it is no message.
    user: Option<UserId>,
    /// Why: 1 to 1,000 characters.
    #[schema(min_length = 1, max_length = 1000, pattern = r"\S")]
    reason: String,
}

/// A report that was made.
#[derive(Serialize, ToSchema)]
pub struct Filed {
    /// Its id.
    id: String,
    /// Where it is.
    state: State,
}

/// Reports a message (`room` and `seq`) or a user to the moderators of this server. One reports only what one can see.
#[utoipa::path(post, path = "/v1/reports", params(KeyHeader), request_body = NewReport,
    responses((status = 201, description = "it waits for a moderator", body = Filed)))]
pub async fn report(api: web::Data<Api>, me: SignedIn, key: Key, Body(new): Body<NewReport>) -> Result<HttpResponse, ApiError> {
    let (data, user) = (api.clone(), me.user.user);
    key.once(&api, user, async { Ok(0) }, |attempt| file(data, me, new, attempt)).await
}

async fn file(api: web::Data<Api>, me: SignedIn, new: NewReport, attempt: Attempt) -> Result<HttpResponse, ApiError> {
    let reason = text("reason", &new.reason, 1)?;
    api.limits.report(me.user.user)?;
    let (user, text) = match (new.room, new.seq, new.user) {
        (Some(room), Some(seq), None) => {
            let caller = Caller { user: me.user.user, device: me.claims.device };
            message(&api, caller, room, seq).await.map(|(author, text)| (author, Some(text)))?
        }
        (None, None, Some(user)) => (visible(&api, me.user.user, user).await?, None),
        _ => return Err(ApiError::new(Code::Invalid, "a report names room and seq of a message, or a user")),
    };
    let (by, at) = (me.user.user, attempt.at);
    // The same in every try, and growing with time: the queue is worked off in this order.
    let id = report_id(at, attempt.cid);
    let report = Report { id, state: State::Open, at, by, user, room: new.room, seq: new.seq, text, reason, resolution: None };
    api.reports.file(&report).await?;
    Ok(HttpResponse::Created().json(Filed { id: id.to_string(), state: State::Open }))
}

/// Milliseconds, and 22 bits of the client id below them.
fn report_id(at: Millis, cid: ClientId) -> u64 {
    // The last bits: the first ones of a client id may be a time.
    at << REPORT_ID_BITS | (cid.0.as_u128() as u64 & ((1 << REPORT_ID_BITS) - 1))
}

fn text(what: &str, text: &str, min: usize) -> Result<String, ApiError> {
    let text = text.trim();
    if !(min..=REASON_CHARS_MAX).contains(&text.chars().count()) {
        return Err(ApiError::new(Code::Invalid, format!("{what} has {min} to {REASON_CHARS_MAX} characters")));
    }
    Ok(text.to_owned())
}

/// Author and text of a message, as the caller may read it.
async fn message(api: &Api, caller: Caller, room: RoomId, seq: Seq) -> Result<(UserId, String), ApiError> {
    let page = History { room, around: Some(seq), limit: Some(1), ..History::default() };
    let shown = api.node.ask(caller, Request::History(page)).await?.messages.unwrap_or_default();
    let found = shown.into_iter().find(|m| m.entry.seq == seq && m.deleted.is_none());
    match found.map(|m| (m.entry.by, m.entry.body)) {
        Some((author, entry::Body::Message(message))) => Ok((author, shortened(message.text))),
        _ => Err(ApiError::new(Code::NotFound, format!("there is no message {seq} in this room"))),
    }
}

/// A user whom the caller can find.
async fn visible(api: &Api, me: UserId, user: UserId) -> Result<UserId, ApiError> {
    let row = api.store.user(user).await.map_err(failed)?.filter(|row| !row.disabled).ok_or_else(no_such_user)?;
    if states(api, row.user, me).await? == Some(ContactState::Blocked) {
        return Err(no_such_user());
    }
    Ok(row.user)
}

/// Which reports.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Queue {
    /// Where they are; those that are open when absent.
    state: Option<State>,
}

/// Who moderates, as resolutions and the audit log name them.
struct Moderator {
    by: String,
    /// An API key; what operators do the listener writes down.
    from: Option<IpAddr>,
}

impl Moderator {
    fn of(keeper: &Keeper, req: &HttpRequest) -> Moderator {
        match &keeper.key {
            Some(key) => Moderator { by: format!("key:{}", key.id), from: Some(peer::client(req).address) },
            None => Moderator { by: audit::OPERATOR.into(), from: None },
        }
    }

    async fn note(&self, api: &Api, act: &str, target: String, note: &str) {
        if let Some(from) = self.from {
            api.audit.note(self.by.as_str(), Some(from), act, target, note).await;
        }
    }
}

/// What was reported, oldest first. For API keys with the scope `moderate`, and for operators (`/admin/reports`).
#[utoipa::path(get, path = "/v1/reports", params(Queue, PageQuery),
    responses((status = 200, description = "a page of it", body = Page<Report>)))]
pub async fn queue(
    _keeper: Keeper,
    api: web::Data<Api>,
    which: web::Query<Queue>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiError> {
    let (limit, after) = (page.limit()?, page.place::<u64>()?.unwrap_or(0));
    let items = api.reports.list(which.state.unwrap_or(State::Open), after, limit + 1).await?;
    Ok(HttpResponse::Ok().json(Page::of(items, limit, |report: &Report| report.id)))
}

/// Body of resolve.
#[derive(Deserialize, ToSchema)]
pub struct Decision {
    /// What is to be done.
    action: Action,
    /// Why: up to 1,000 characters.
    #[serde(default)]
    note: String,
}

/// Does what was decided about a report and ends it. The same decision again is answered as before; another one is a `conflict`.
#[utoipa::path(post, path = "/v1/reports/{id}/resolve", params(("id" = String, Path, pattern = "^[0-9]{1,19}$")), request_body = Decision,
    responses((status = 200, description = "the report as it is now", body = Report)))]
pub async fn resolve(
    keeper: Keeper,
    api: web::Data<Api>,
    req: HttpRequest,
    id: web::Path<u64>,
    Body(decision): Body<Decision>,
) -> Result<HttpResponse, ApiError> {
    let moderator = Moderator::of(&keeper, &req);
    let report = settle(&api, &moderator, *id, decision).await?;
    Ok(HttpResponse::Ok().json(report))
}

async fn settle(api: &Api, moderator: &Moderator, id: u64, decision: Decision) -> Result<Report, ApiError> {
    let note = text("note", &decision.note, 0)?;
    let report = api.reports.get(id).await?;
    let message = report.room.zip(report.seq);
    if decision.action == Action::Delete && message.is_none() {
        return Err(ApiError::new(Code::Invalid, "the report is of a user: there is no message to delete"));
    }
    let (by, act) = (moderator.by.clone(), format!("report {}", action_name(decision.action)));
    // Decided first, then done: of two moderators with two minds one acts. It leaves the queue when it is done.
    let report = api.reports.decide(report, Resolution { action: decision.action, by, at: now(), note: note.clone() }).await?;
    match (decision.action, message) {
        (Action::Delete, Some((room, seq))) => delete(api, room, seq).await?,
        (Action::Ban, _) => match banish(api, report.user, &moderator.by, &note).await {
            // An account that is gone needs no ban.
            Err(e) if e.code == Code::NotFound => {}
            banned => drop(banned?),
        },
        _ => {}
    }
    api.reports.done(id).await?;
    moderator.note(api, &act, format!("report {id} about user {}", report.user), &note).await;
    Ok(report)
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::None => "none",
        Action::Delete => "delete",
        Action::Ban => "ban",
    }
}

/// Deletes a message as the server. One that is deleted, or no longer kept, is what was wanted.
async fn delete(api: &Api, room: RoomId, seq: Seq) -> Result<(), ApiError> {
    let row = api.room(room).await?;
    let Some(row) = row else { return Ok(()) };
    let server = Caller { user: UserId::SERVER, device: DeviceId(0) };
    let request = Request::Delete(OnMessage { room, seq, cid: ClientId::fresh(), since: row.applied });
    match api.node.ask(server, request).await {
        Ok(_) => Ok(()),
        Err(e) if matches!(e.code, Code::Conflict | Code::NotFound) => Ok(()),
        Err(e) => Err(e),
    }
}

async fn banish(api: &Api, user: UserId, by: &str, note: &str) -> Result<Ban, ApiError> {
    let ban = api.bans.ban(user, by, note).await?;
    api.sessions.ended_everywhere(user);
    Ok(ban)
}

/// Body of ban; may be left out.
#[derive(Default, Deserialize, ToSchema)]
pub struct Reason {
    /// Why: up to 1,000 characters.
    #[serde(default)]
    note: String,
}

/// Bans a user from this server: the account is disabled, its sockets are closed, its name stays taken. The same again changes nothing.
#[utoipa::path(put, path = "/v1/server-bans/{user}", params(("user" = UserId, Path)), request_body = Reason,
    responses((status = 200, description = "the ban that counts", body = Ban)))]
pub async fn ban(
    keeper: Keeper,
    api: web::Data<Api>,
    req: HttpRequest,
    user: web::Path<UserId>,
    OptionalBody(reason): OptionalBody<Reason>,
) -> Result<HttpResponse, ApiError> {
    let note = text("note", &reason.note, 0)?;
    let moderator = Moderator::of(&keeper, &req);
    let ban = banish(&api, *user, &moderator.by, &note).await?;
    moderator.note(&api, "server ban", format!("user {user}"), &note).await;
    Ok(HttpResponse::Ok().json(ban))
}

/// Lifts a ban.
#[utoipa::path(delete, path = "/v1/server-bans/{user}", params(("user" = UserId, Path)),
    responses((status = 204, description = "it is lifted")))]
pub async fn unban(keeper: Keeper, api: web::Data<Api>, req: HttpRequest, user: web::Path<UserId>) -> Result<HttpResponse, ApiError> {
    api.bans.lift(*user).await?;
    Moderator::of(&keeper, &req).note(&api, "server ban lifted", format!("user {user}"), "").await;
    Ok(HttpResponse::NoContent().finish())
}

/// Who is banned from this server, ascending by id.
#[utoipa::path(get, path = "/v1/server-bans", params(PageQuery),
    responses((status = 200, description = "a page of them", body = Page<Ban>)))]
pub async fn bans(_keeper: Keeper, api: web::Data<Api>, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let (limit, after) = (page.limit()?, page.place::<UserId>()?.unwrap_or_default());
    let items = api.bans.list(after, limit + 1).await?;
    Ok(HttpResponse::Ok().json(Page::of(items, limit, |ban: &Ban| ban.user)))
}
