//! Deleting one's account.
//!
//! The request notes the deletion, signs the account out everywhere, and is answered; the rest ([`work`]) follows at once and goes on
//! after a restart: the account leaves its rooms (each learns it by an entry; a room whose last owner goes gets another), loses its contacts,
//! and everything beside its row. What stays of it is said in [`crate::auth::deletion`]. In a cluster the owner of the user's shard does it, whoever
//! was asked. Each step may be repeated, so that a node that is killed in the middle, or two nodes at once, do no harm.

use super::Api;
use super::admin::Operator;
use super::auth::SignedIn;
use super::error::Body;
use super::password::confirmed;
use super::scopes::Keeper;
use super::users::no_such_user;
use crate::auth::{deletion, failed, now};
use crate::bus::asks::Changed;
use crate::error::{ApiError, Code, Retry};
use crate::protocol::entry::{Caller, Role};
use crate::protocol::ids::{ClientId, DeviceId, RoomId, Seq, UserId};
use crate::protocol::ops::{self, History, InRoom, Members, Request, SetRole, UpdateRoom};
use crate::webhooks::incoming::HOOKS_MAX;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(delete, by_key))]
pub struct Docs;

/// How long until what could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// Deletions looked at in one go.
const AT_ONCE: usize = 1_000;
/// Contacts removed in one go.
const CONTACTS: usize = 500;
/// Members among whom a new owner is looked for.
const HEIRS: u32 = 1_000;

/// What shows that it is really the account's owner.
#[derive(Deserialize, ToSchema)]
pub struct Farewell {
    /// The account's password.
    password: String,
    /// A code of the second factor, if there is one.
    #[serde(default)]
    code: Option<String>,
}

/// Deletes the account. It is signed out everywhere at once; messages stay, as a deleted user's. There is no way back.
#[utoipa::path(delete, path = "/v1/me", request_body = Farewell, responses((status = 204, description = "the account is deleted")))]
pub async fn delete(api: web::Data<Api>, req: HttpRequest, me: SignedIn, Body(body): Body<Farewell>) -> Result<HttpResponse, ApiError> {
    let user = me.user.user;
    confirmed(&api, &req, &me.user, &body.password).await?;
    if api.second_factor.is_on(user).await? {
        let missing = || ApiError::new(Code::BadCredentials, "a code of the second factor is needed");
        api.second_factor.check(user, &body.code.ok_or_else(missing)?, now()).await?;
    }
    begin(&api, user).await
}

/// Deletes an account that an embedder's own server looks after, of whoever has no password here. Needs an API key with `users:write`.
#[utoipa::path(delete, path = "/v1/users/{user}", params(("user" = UserId, Path)),
    responses((status = 204, description = "the account is deleted")))]
pub async fn by_key(api: web::Data<Api>, keeper: Keeper, user: web::Path<UserId>) -> Result<HttpResponse, ApiError> {
    if keeper.key.and_then(|key| key.user).is_some_and(|bound| bound != *user) {
        return Err(ApiError::new(Code::Forbidden, "the API key acts as another user only"));
    }
    let row = api.store.user(*user).await.map_err(failed)?.filter(|row| !deletion::is_over(row));
    begin(&api, row.ok_or_else(no_such_user)?.user).await
}

/// `DELETE /admin/users/{name}`
pub async fn by_operator(_op: Operator, api: web::Data<Api>, name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let user = api.accounts.by_name(&name).await?.user;
    begin(&api, user).await
}

async fn begin(api: &Api, user: UserId) -> Result<HttpResponse, ApiError> {
    deletion::begin(&*api.store, user, now()).await?;
    api.sessions.ended_everywhere(user);
    api.deletions.notify_one();
    api.node.changed(Changed::Deletions);
    Ok(HttpResponse::NoContent().finish())
}

/// Carries deletions out, those of earlier lives of the process first, and in a cluster those that are this node's to do. Never ends.
pub async fn work(api: Arc<Api>) {
    loop {
        if let Err(error) = look_through(&api).await {
            tracing::warn!(%error, "deletions could not be looked for; it is tried again");
        }
        // Late, or woken: either way there may be something to do.
        let _ = tokio::time::timeout(AGAIN, api.deletions.notified()).await;
    }
}

async fn look_through(api: &Api) -> Result<(), ApiError> {
    let mut after = None;
    loop {
        let users = deletion::pending(&*api.store, after, AT_ONCE).await?;
        let full = users.len() == AT_ONCE;
        after = users.last().copied();
        for user in users {
            // Asked for each: one takes its time, and shards move.
            if !api.node.owns(user) {
                continue;
            }
            match carry_out(api, user).await {
                Ok(()) => tracing::info!(%user, "an account was deleted"),
                Err(error) => tracing::warn!(%user, %error, "an account is not deleted yet; it is tried again"),
            }
        }
        if !full {
            return Ok(());
        }
    }
}

async fn carry_out(api: &Api, user: UserId) -> Result<(), ApiError> {
    deletion::lock(&*api.store, user).await?;
    api.sessions.ended_everywhere(user);
    tools(api, user).await?;
    api.pushes.subscriptions.remove_all(user).await.map_err(failed)?;
    let rooms_max = api.config.rooms.rooms_per_user_max;
    api.pushes.levels.forget(user, rooms_max).await.map_err(failed)?;
    for room in api.store.rooms_of(user, rooms_max).await.map_err(failed)? {
        leave(api, user, room).await?;
    }
    part(api, user).await?;
    deletion::records(&api.store, user).await?;
    deletion::finish(&*api.store, user).await
}

/// Ends the API keys and incoming webhooks that act as the account.
async fn tools(api: &Api, user: UserId) -> Result<(), ApiError> {
    for key in api.keys.list().await?.into_iter().filter(|key| key.user == Some(user)) {
        or_gone(api.keys.revoke(key.id).await)?;
    }
    for hook in api.incoming.list(None, HOOKS_MAX).await?.into_iter().filter(|hook| hook.user == user) {
        or_gone(api.incoming.revoke(hook.id).await)?;
    }
    Ok(())
}

/// Somebody else may have been quicker.
fn or_gone<T>(revoked: Result<T, ApiError>) -> Result<(), ApiError> {
    revoked.map(drop).or_else(|e| if e.code == Code::NotFound { Ok(()) } else { Err(e) })
}

/// Leaves a room. What the room refuses for good is left as it is: a direct room stays the other's.
async fn leave(api: &Api, user: UserId, room: RoomId) -> Result<(), ApiError> {
    let mut left = ask(api, user, leaving(api, user, room).await).await;
    if left.as_ref().is_err_and(|e| e.code == Code::Conflict) {
        left = match hand_over(api, user, room).await {
            Ok(()) => ask(api, user, leaving(api, user, room).await).await,
            Err(error) => Err(error),
        };
    }
    match left {
        Err(error) if error.retry != Retry::Never => Err(error),
        Err(error) if !matches!(error.code, Code::Forbidden | Code::NotFound) => {
            tracing::warn!(%user, %room, %error, "a deleted account could not leave a room");
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn leaving(api: &Api, user: UserId, room: RoomId) -> Request {
    Request::Leave(InRoom { room, cid: ClientId::fresh(), since: head(api, user, room).await })
}

/// Makes somebody else owner of a room whose last owner goes: of those with the highest role a person rather than a bot, and the oldest account.
/// An archived room is opened for it and archived again.
async fn hand_over(api: &Api, user: UserId, room: RoomId) -> Result<(), ApiError> {
    let members = ask(api, user, Request::Members(Members { room, after: None, limit: Some(HEIRS) })).await?.members.unwrap_or_default();
    let mut heirs: Vec<(Role, UserId)> = members.iter().filter(|m| m.user != user).map(|m| (m.role, m.user)).collect();
    heirs.sort_by_key(|(role, user)| (std::cmp::Reverse(*role), *user));
    let ids: Vec<UserId> = heirs.iter().map(|(_, user)| *user).collect();
    let rows = api.store.users(&ids).await.map_err(failed)?;
    let able: Vec<_> = rows.into_iter().flatten().filter(|row| !row.disabled).collect();
    let Some(heir) = able.iter().find(|row| !row.bot).or(able.first()).map(|row| row.user) else { return Ok(()) };
    match promote(api, user, room, heir).await {
        Err(error) if error.code == Code::Forbidden => {
            archive(api, user, room, false).await?;
            promote(api, user, room, heir).await?;
            archive(api, user, room, true).await
        }
        done => done,
    }
}

async fn promote(api: &Api, user: UserId, room: RoomId, heir: UserId) -> Result<(), ApiError> {
    let since = head(api, user, room).await;
    ask(api, user, Request::Role(SetRole { room, user: heir, role: Role::Owner, cid: ClientId::fresh(), since })).await.map(drop)
}

async fn archive(api: &Api, user: UserId, room: RoomId, archived: bool) -> Result<(), ApiError> {
    let since = head(api, user, room).await;
    let change = UpdateRoom { archived: Some(archived), since, ..UpdateRoom::of(room) };
    ask(api, user, Request::Update(change)).await.map(drop)
}

/// The room's head; 0 when it cannot be read, which only makes the room look further back for a repeat that is not there.
async fn head(api: &Api, user: UserId, room: RoomId) -> Seq {
    let newest = Request::History(History { room, limit: Some(1), ..History::default() });
    ask(api, user, newest).await.ok().and_then(|ok| ok.head).unwrap_or_default()
}

async fn ask(api: &Api, user: UserId, request: Request) -> Result<ops::Ok, ApiError> {
    // No device of its own acts here any more.
    api.node.ask(Caller { user, device: DeviceId::default() }, request).await
}

/// Ends all contacts, requests and blocks, of both sides.
async fn part(api: &Api, user: UserId) -> Result<(), ApiError> {
    loop {
        let page = api.store.contacts(user, CONTACTS).await.map_err(failed)?;
        for (other, _) in &page {
            let _one_at_a_time = api.contact_locks.lock(user, *other).await;
            api.store.set_contact(user, *other, None, None).await.map_err(failed)?;
            api.node.contacts_changed(user, *other);
        }
        if page.is_empty() {
            return Ok(());
        }
    }
}
