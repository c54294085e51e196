//! Reports, the queue that moderators work off, and bans from this server.
//!
//! A report is of what its maker can see: the message is read as the reporter would read it. Moderators come over the operators' listener;
//! their resolutions and bans are in the audit log. A message is deleted through its room's actor, by the server itself
//! ([`UserId::SERVER`]): its entry shows that no member did it.

use super::admin::Operator;
use super::auth::SignedIn;
use super::error::{Body, OptionalBody};
use super::users::{no_such_user, states};
use super::{Api, audit};
use crate::auth::reports::{Action, PAGE_MAX, Report, Resolution, State, shortened};
use crate::auth::{failed, now};
use crate::error::{ApiError, Code};
use crate::protocol::entry::{self, Caller};
use crate::protocol::ids::{ClientId, DeviceId, RoomId, Seq, UserId};
use crate::protocol::ops::{History, OnMessage, Request};
use crate::storage::ContactState;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

/// Characters of a reason or a note at most.
const REASON_CHARS_MAX: usize = 1_000;

/// Body of report.
#[derive(Deserialize)]
pub struct NewReport {
    room: Option<RoomId>,
    seq: Option<Seq>,
    user: Option<UserId>,
    reason: String,
}

/// `POST /v1/reports`: of a message (`room` and `seq`) or of a user.
pub async fn report(api: web::Data<Api>, me: SignedIn, Body(new): Body<NewReport>) -> Result<HttpResponse, ApiError> {
    #[derive(Serialize)]
    struct Answer {
        id: String,
        state: State,
    }
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
    Ok(HttpResponse::Created().json(Answer { id: id.to_string(), state: State::Open }))
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

/// Query of the queue.
#[derive(Deserialize)]
pub struct Queue {
    state: Option<State>,
    cursor: Option<u64>,
    limit: Option<usize>,
}

/// `GET /admin/reports?state=&cursor=&limit=`: oldest first; those that are open unless asked otherwise.
pub async fn queue(_op: Operator, api: web::Data<Api>, queue: web::Query<Queue>) -> Result<HttpResponse, ApiError> {
    list(&api, &queue).await
}

async fn list(api: &Api, queue: &Queue) -> Result<HttpResponse, ApiError> {
    #[derive(Serialize)]
    struct Answer {
        items: Vec<Report>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    }
    let limit = queue.limit.unwrap_or(50).clamp(1, PAGE_MAX);
    let mut items = api.reports.list(queue.state.unwrap_or(State::Open), queue.cursor.unwrap_or(0), limit + 1).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(HttpResponse::Ok().json(Answer { items, next }))
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

async fn banish(api: &Api, user: UserId, by: &str, note: &str) -> Result<crate::auth::bans::Ban, ApiError> {
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

/// Query of the bans.
#[derive(Deserialize)]
pub struct Bans {
    cursor: Option<UserId>,
    limit: Option<usize>,
}

/// `GET /admin/server-bans?cursor=&limit=`
pub async fn bans(_op: Operator, api: web::Data<Api>, page: web::Query<Bans>) -> Result<HttpResponse, ApiError> {
    #[derive(Serialize)]
    struct Answer {
        items: Vec<crate::auth::bans::Ban>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    }
    let limit = page.limit.unwrap_or(50).clamp(1, PAGE_MAX);
    let mut items = api.bans.list(page.cursor.unwrap_or_default(), limit + 1).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last.user.to_string());
    Ok(HttpResponse::Ok().json(Answer { items, next }))
}
