//! Everything of one's own, as one JSON document to keep: account, devices, contacts, rooms, and the messages one wrote in them.
//!
//! It is written while it is read: at most [`CHUNKS`] chunks wait for a slow client, who is cut off after [`PATIENCE`], so that it takes the same
//! memory for the largest account. At most [`AT_ONCE`] are written at a time. Messages are read as the account itself may read them; those
//! in rooms that it has left are not in it. The last member is `complete`: a document without it is not whole.

use super::Api;
use super::auth::SignedIn;
use crate::auth::{failed, now};
use crate::error::{ApiError, Code, Retry};
use crate::protocol::entry::{Caller, Role, RoomKind};
use crate::protocol::ids::{DeviceId, Millis, RoomId, Seq, UserId};
use crate::protocol::ops::{History, Request};
use crate::storage::{ContactState, DeviceRow, MemberRow};
use actix_web::http::header;
use actix_web::{HttpResponse, web};
use bytes::{Bytes, BytesMut};
use serde::Serialize;
use std::time::Duration;
use tokio::sync::mpsc;
use utoipa::OpenApi;

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(export))]
pub struct Docs;

/// Exports written at the same time on a node: each reads through whole rooms.
pub const AT_ONCE: usize = 2;
/// Chunks that wait for the client.
const CHUNKS: usize = 4;
/// Bytes of a chunk, about.
const CHUNK_BYTES: usize = 16 * 1024;
/// How long a client may not read until it is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages read at once.
const PAGE: u32 = 200;
/// Attempts to read a page, and the pause between them.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Account {
    user: UserId,
    name: String,
    display_name: String,
    avatar_url: String,
    status: String,
    created: Millis,
    last_seen: Millis,
    email: Option<String>,
    email_verified: bool,
    totp: bool,
}

#[derive(Serialize)]
struct Device {
    device: DeviceId,
    name: String,
    created: Millis,
    used: Millis,
    signed_in: bool,
}

impl From<DeviceRow> for Device {
    fn from(row: DeviceRow) -> Self {
        Device { device: row.device, name: row.name, created: row.created, used: row.used, signed_in: !row.revoked }
    }
}

#[derive(Serialize)]
struct Contact {
    user: UserId,
    state: ContactState,
}

#[derive(Serialize)]
struct Room {
    room: RoomId,
    kind: RoomKind,
    name: String,
    topic: String,
    with: Option<UserId>,
    role: Role,
}

/// Everything of one's own, as a file.
#[utoipa::path(get, path = "/v1/me/export",
    responses((status = 200, description = "account, devices, contacts, rooms and own messages", body = Object, content_type = "application/json")))]
pub async fn export(api: web::Data<Api>, me: SignedIn) -> Result<HttpResponse, ApiError> {
    api.limits.export(me.user.user)?;
    let busy = |_| ApiError::after(Code::Busy, "other exports are being written", Duration::from_secs(30));
    let place = api.exports.clone().try_acquire_owned().map_err(busy)?;
    let (to, mut from) = mpsc::channel(CHUNKS);
    let file = format!("attachment; filename=\"hubbub-{}.json\"", me.user.name);
    actix_web::rt::spawn(async move {
        let mut out = Out { to, buffer: BytesMut::new() };
        if let Err(error) = write(&api, &me, &mut out).await {
            tracing::info!(%error, "an export was not finished");
            // An error in a body breaks the connection off, so that nobody takes the part for the whole.
            let _ = out.to.try_send(Err(std::io::Error::other("the export could not be finished")));
        }
        drop(place);
    });
    let body = futures_util::stream::poll_fn(move |cx| from.poll_recv(cx));
    let mut answer = HttpResponse::Ok();
    answer.content_type("application/json").insert_header((header::CONTENT_DISPOSITION, file));
    Ok(answer.streaming(body))
}

/// Where the document goes.
struct Out {
    to: mpsc::Sender<Result<Bytes, std::io::Error>>,
    buffer: BytesMut,
}

impl Out {
    fn text(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    fn value(&mut self, value: &impl Serialize) -> Result<(), ApiError> {
        let json = serde_json::to_vec(value).map_err(|e| ApiError::new(Code::Internal, format!("not JSON: {e}")))?;
        self.buffer.extend_from_slice(&json);
        Ok(())
    }

    /// One item of a list.
    async fn item(&mut self, first: &mut bool, value: &impl Serialize) -> Result<(), ApiError> {
        self.text(if std::mem::take(first) { "\n" } else { ",\n" });
        self.value(value)?;
        if self.buffer.len() >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), ApiError> {
        let chunk = self.buffer.split().freeze();
        let gone = || ApiError::new(Code::Timeout, "the client does not read");
        tokio::time::timeout(PATIENCE, self.to.send(Ok(chunk))).await.map_err(|_| gone())?.map_err(|_| gone())
    }
}

async fn write(api: &Api, me: &SignedIn, out: &mut Out) -> Result<(), ApiError> {
    let user = me.user.user;
    out.text("{\"format\":1,\"at\":");
    out.value(&now())?;
    out.text(",\n\"account\":");
    out.value(&account(api, me).await?)?;
    out.text(",\n\"devices\":[");
    let mut first = true;
    for row in api.store.devices(user).await.map_err(failed)? {
        out.item(&mut first, &Device::from(row)).await?;
    }
    out.text("],\n\"contacts\":[");
    first = true;
    for (user, state) in api.store.contacts(user, api.config.presence.contacts_max).await.map_err(failed)? {
        out.item(&mut first, &Contact { user, state }).await?;
    }
    out.text("],\n\"rooms\":[");
    first = true;
    let rooms = api.store.rooms_of(user, api.config.rooms.rooms_per_user_max).await.map_err(failed)?;
    for room in &rooms {
        if let Some(room) = room_of(api, user, *room).await? {
            out.item(&mut first, &room).await?;
        }
    }
    out.text("],\n\"messages\":[");
    first = true;
    for room in rooms {
        messages(api, user, room, out, &mut first).await?;
    }
    out.text("],\n\"complete\":true}\n");
    out.flush().await
}

async fn account(api: &Api, me: &SignedIn) -> Result<Account, ApiError> {
    let row = me.user.clone();
    let email = api.emails.of(row.user).await?;
    Ok(Account {
        user: row.user,
        name: row.name,
        display_name: row.display_name,
        avatar_url: row.avatar_url,
        status: row.status,
        created: row.created,
        last_seen: row.last_seen,
        email_verified: email.as_ref().is_some_and(|e| e.verified),
        email: email.map(|e| e.address),
        totp: api.second_factor.is_on(row.user).await?,
    })
}

async fn room_of(api: &Api, user: UserId, room: RoomId) -> Result<Option<Room>, ApiError> {
    let row = api.store.rooms(&[room]).await.map_err(failed)?.pop().flatten();
    let member = api.store.memberships(user, &[room]).await.map_err(failed)?.pop().flatten();
    let (Some(row), Some(MemberRow { role: Some(role), .. })) = (row, member) else { return Ok(None) };
    let with = row.pair.map(|(a, b)| if a == user { b } else { a });
    Ok(Some(Room { room, kind: row.kind, name: row.name, topic: row.topic, with, role }))
}

/// One's own messages of a room, in order, page by page.
async fn messages(api: &Api, user: UserId, room: RoomId, out: &mut Out, first: &mut bool) -> Result<(), ApiError> {
    let mut after: Seq = 0;
    loop {
        let page = match page(api, user, room, after).await {
            // Left, or put out, meanwhile.
            Err(error) if matches!(error.code, Code::NotFound | Code::Forbidden) => return Ok(()),
            page => page?,
        };
        let Some(last) = page.messages.as_ref().and_then(|m| m.last()).map(|m| m.entry.seq) else { return Ok(()) };
        for message in page.messages.iter().flatten().filter(|m| m.entry.by == user && m.deleted.is_none()) {
            out.item(first, message).await?;
        }
        if page.more != Some(true) {
            return Ok(());
        }
        after = last;
    }
}

async fn page(api: &Api, user: UserId, room: RoomId, after: Seq) -> Result<crate::protocol::ops::Ok, ApiError> {
    let caller = Caller { user, device: DeviceId::default() };
    let mut tried = 0;
    loop {
        let ask = History { room, after: Some(after), limit: Some(PAGE), ..History::default() };
        tried += 1;
        match api.node.ask(caller, Request::History(ask)).await {
            Err(error) if error.retry != Retry::Never && tried < TRIES => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
}
