//! Everything of one's own, as one JSON document to keep: account, devices, contacts, rooms with what one has set and read there, and the
//! messages and reactions one wrote in them.
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
use crate::push::levels::Notify;
use crate::push::subscriptions::Subscription;
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
    /// The service that its pushes go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    push: Option<String>,
}

impl Device {
    fn new(row: DeviceRow, pushes: &[Subscription]) -> Self {
        let push = pushes.iter().find(|s| s.device == row.device).map(|s| s.target.host());
        Device { device: row.device, name: row.name, created: row.created, used: row.used, signed_in: !row.revoked, push }
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
    /// The seq up to which one has read.
    read: Seq,
    /// What one wants to be told of, if one has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    notify: Option<Notify>,
}

/// What one reacted with to a message, of whoever wrote it.
#[derive(Serialize)]
struct Reacted<'a> {
    room: RoomId,
    seq: Seq,
    emoji: &'a str,
}

/// Everything of one's own, as a file.
#[utoipa::path(get, path = "/v1/me/export",
    responses((status = 200, description = "account, devices, contacts, rooms, own messages and reactions", body = Object, content_type = "application/json")))]
pub async fn export(api: web::Data<Api>, me: SignedIn) -> Result<HttpResponse, ApiError> {
    api.limits.export(me.user.user)?;
    let busy = |_| ApiError::after(Code::Busy, "other exports are being written", Duration::from_secs(30));
    let place = api.exports.clone().try_acquire_owned().map_err(busy)?;
    let (to, mut from) = mpsc::channel(CHUNKS);
    let file = format!("attachment; filename=\"hubbub-{}.json\"", me.user.name);
    actix_web::rt::spawn(async move {
        let mut out = Out { to, buffer: BytesMut::new(), patience: PATIENCE };
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
    patience: Duration,
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
        tokio::time::timeout(self.patience, self.to.send(Ok(chunk))).await.map_err(|_| gone())?.map_err(|_| gone())
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
    let pushes = api.pushes.subscriptions.list(user).await.map_err(failed)?;
    for row in api.store.devices(user).await.map_err(failed)? {
        out.item(&mut first, &Device::new(row, &pushes)).await?;
    }
    out.text("],\n\"contacts\":[");
    first = true;
    for (user, state) in api.store.contacts(user, api.config.presence.contacts_max).await.map_err(failed)? {
        out.item(&mut first, &Contact { user, state }).await?;
    }
    out.text("],\n\"rooms\":[");
    first = true;
    let rooms = api.store.rooms_of(user, api.config.rooms.rooms_per_user_max).await.map_err(failed)?;
    let levels = api.pushes.levels.set_by(user, rooms.len()).await.map_err(failed)?;
    for room in &rooms {
        if let Some(row) = room_of(api, user, *room).await? {
            out.item(&mut first, &Room { notify: levels.get(room).copied(), ..row }).await?;
        }
    }
    // Read twice, because a list cannot be written into another, and nothing is to be kept in memory.
    for (list, what) in [("messages", What::Messages), ("reactions", What::Reactions)] {
        out.text(&format!("],\n\"{list}\":["));
        first = true;
        for room in &rooms {
            written(api, user, *room, what, out, &mut first).await?;
        }
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
    let read = api.store.cursors(user, &[room]).await.map_err(failed)?.pop().unwrap_or_default().read;
    Ok(Some(Room { room, kind: row.kind, name: row.name, topic: row.topic, with, role, read, notify: None }))
}

/// Which of what one wrote.
#[derive(Clone, Copy)]
enum What {
    Messages,
    Reactions,
}

/// What one wrote in a room, in order, page by page.
async fn written(api: &Api, user: UserId, room: RoomId, what: What, out: &mut Out, first: &mut bool) -> Result<(), ApiError> {
    let mut after: Seq = 0;
    loop {
        let page = match page(api, user, room, after).await {
            // Left, or put out, meanwhile.
            Err(error) if matches!(error.code, Code::NotFound | Code::Forbidden) => return Ok(()),
            page => page?,
        };
        let Some(last) = page.messages.as_ref().and_then(|m| m.last()).map(|m| m.entry.seq) else { return Ok(()) };
        for message in page.messages.iter().flatten().filter(|m| m.deleted.is_none()) {
            match what {
                What::Messages if message.entry.by == user => out.item(first, message).await?,
                What::Messages => {}
                What::Reactions => {
                    for reaction in message.reactions.iter().filter(|r| r.users.contains(&user)) {
                        out.item(first, &Reacted { room, seq: message.entry.seq, emoji: &reaction.emoji }).await?;
                    }
                }
            }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_a_few_chunks_and_is_given_up() {
        let (to, mut from) = mpsc::channel(CHUNKS);
        let patience = Duration::from_millis(20);
        let mut out = Out { to, buffer: BytesMut::new(), patience };
        let item = "x".repeat(1_000);
        let mut first = true;
        let mut written = 0;
        let refused = loop {
            match out.item(&mut first, &item).await {
                Ok(()) => written += item.len(),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.code, Code::Timeout);
        assert!(written < (CHUNKS + 1) * (CHUNK_BYTES + item.len()), "{written}");
        let mut taken = 0;
        while let Ok(chunk) = from.try_recv() {
            taken += chunk.unwrap().len();
        }
        assert!(taken > CHUNKS * CHUNK_BYTES && taken < CHUNKS * (CHUNK_BYTES + 2 * item.len()), "{taken}");
    }
}
