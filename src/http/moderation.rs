//! Reports, the queue that moderators work off, and bans from this server.
//!
//! A report is of what its maker can see: the message is read as the reporter would read it. Moderators come over the operators' listener;
//! their resolutions and bans are in the audit log. A message is deleted through its room's actor, by the server itself
//! ([`UserId::SERVER`]): its entry shows that no member did it.

use super::admin::Operator;
use super::auth::SignedIn;
use super::error::{Body, OptionalBody};
use super::idempotency::{Key, KeyHeader};
use super::page::{Page, PageQuery};
use super::users::{no_such_user, states};
use super::{Api, audit};
use crate::auth::bans::Ban;
use crate::auth::reports::{Action, Report, Resolution, State, shortened};
use crate::auth::{failed, now};
use crate::error::{ApiError, Code};
use crate::protocol::entry::{self, Caller};
use crate::protocol::ids::{ClientId, DeviceId, RoomId, Seq, UserId};
use crate::protocol::ops::{History, OnMessage, Request};
use crate::storage::ContactState;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

/// Characters of a reason or a note at most.
const REASON_CHARS_MAX: usize = 1_000;

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(report))]
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
    key.once(&api, user, async { Ok(0) }, |_| file(data, me, new)).await
}

async fn file(api: web::Data<Api>, me: SignedIn, new: NewReport) -> Result<HttpResponse, ApiError> {
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
    let id = api.node.next_id().await?;
    let by = me.user.user;
    let report = Report { id, state: State::Open, at: now(), by, user, room: new.room, seq: new.seq, text, reason, resolution: None };
    api.reports.file(&report).await?;
    Ok(HttpResponse::Created().json(Filed { id: id.to_string(), state: State::Open }))
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
#[derive(Deserialize)]
pub struct Queue {
    state: Option<State>,
}

/// `GET /admin/reports?state=&cursor=&limit=`: oldest first; those that are open unless asked otherwise.
pub async fn queue(
    _op: Operator,
    api: web::Data<Api>,
    which: web::Query<Queue>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiError> {
    let (limit, after) = (page.limit()?, page.place::<u64>()?.unwrap_or(0));
    let items = api.reports.list(which.state.unwrap_or(State::Open), after, limit + 1).await?;
    Ok(HttpResponse::Ok().json(Page::of(items, limit, |report: &Report| report.id)))
}

/// Body of resolve.
#[derive(Deserialize)]
pub struct Decision {
    action: Action,
    #[serde(default)]
    note: String,
}

/// `POST /admin/reports/{id}/resolve`
pub async fn resolve(
    _op: Operator,
    api: web::Data<Api>,
    id: web::Path<u64>,
    Body(decision): Body<Decision>,
) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(settle(&api, audit::OPERATOR, *id, decision).await?))
}

/// Does what was decided, then ends the report. Again with the same action it answers as before.
async fn settle(api: &Api, by: &str, id: u64, decision: Decision) -> Result<Report, ApiError> {
    let note = text("note", &decision.note, 0)?;
    let report = api.reports.get(id).await?;
    if let Some(done) = &report.resolution
        && done.action != decision.action
    {
        return Err(ApiError::new(Code::Conflict, "the report was resolved otherwise already"));
    }
    match decision.action {
        Action::None => {}
        Action::Delete => {
            let (Some(room), Some(seq)) = (report.room, report.seq) else {
                return Err(ApiError::new(Code::Invalid, "the report is of a user: there is no message to delete"));
            };
            delete(api, room, seq).await?;
        }
        Action::Ban => drop(banish(api, report.user, by, &note).await?),
    }
    api.reports.resolve(report, Resolution { action: decision.action, by: by.into(), at: now(), note }).await
}

/// Deletes a message as the server. One that is deleted, or no longer kept, is what was wanted.
async fn delete(api: &Api, room: RoomId, seq: Seq) -> Result<(), ApiError> {
    let row = api.store.rooms(&[room]).await.map_err(failed)?.pop().flatten();
    let Some(row) = row else { return Err(ApiError::new(Code::NotFound, "there is no such room any more")) };
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
#[derive(Default, Deserialize)]
pub struct Reason {
    #[serde(default)]
    note: String,
}

/// `PUT /admin/server-bans/{user}`: the account is disabled and its sockets are closed. The same again changes nothing.
pub async fn ban(
    _op: Operator,
    api: web::Data<Api>,
    user: web::Path<UserId>,
    OptionalBody(reason): OptionalBody<Reason>,
) -> Result<HttpResponse, ApiError> {
    let note = text("note", &reason.note, 0)?;
    Ok(HttpResponse::Ok().json(banish(&api, *user, audit::OPERATOR, &note).await?))
}

/// `DELETE /admin/server-bans/{user}`
pub async fn unban(_op: Operator, api: web::Data<Api>, user: web::Path<UserId>) -> Result<HttpResponse, ApiError> {
    api.bans.lift(*user).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /admin/server-bans?cursor=&limit=`
pub async fn bans(_op: Operator, api: web::Data<Api>, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let (limit, after) = (page.limit()?, page.place::<UserId>()?.unwrap_or_default());
    let items = api.bans.list(after, limit + 1).await?;
    Ok(HttpResponse::Ok().json(Page::of(items, limit, |ban: &Ban| ban.user)))
}
