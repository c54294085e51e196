//! Who is in a room, in which role, with which voice, and who may not come back.
//!
//! PUT and DELETE say how it shall be: what is so already is no conflict here.

use super::Api;
use super::auth::SignedIn;
use super::error::{Body, OptionalBody};
use super::page::{Page, PageQuery};
use super::rooms::{Node, ask, done, fresh};
use crate::actors::looking::{self, Named};
use crate::error::{ApiError, Code};
use crate::protocol::entry::Role;
use crate::protocol::ids::{Millis, RoomId, UserId};
use crate::protocol::ops::{self, InviteMember, MemberShown, Members, MuteMember, OnMember, Request, SetRole};
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(list, invite, set_role, kick, bans, ban, unban, mute, unmute))]
pub struct Docs;

/// A user of a room.
type Place = web::Path<(RoomId, UserId)>;

/// What was so already is done.
fn already(result: Result<ops::Ok, ApiError>) -> Result<ops::Ok, ApiError> {
    match result {
        Err(error) if error.code == Code::Conflict => Ok(ops::Ok::default()),
        other => other,
    }
}

async fn on_member(node: &Node, me: &SignedIn, place: &Place) -> Result<OnMember, ApiError> {
    let (room, user) = **place;
    let (cid, since) = fresh(node, me, room).await?;
    Ok(OnMember { room, user, cid, since })
}

/// Members of a room, ascending by id.
#[utoipa::path(get, path = "/v1/rooms/{room}/members", params(("room" = RoomId, Path), PageQuery),
    responses((status = 200, description = "a page of them", body = Page<MemberShown>)))]
pub async fn list(node: Node, me: SignedIn, room: web::Path<RoomId>, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let (limit, after) = (page.limit()?, page.place::<UserId>()?);
    let which = Members { room: *room, after, limit: Some(limit as u32) };
    let (members, more) = looking::members(&node, me.user.user, &which).await?;
    let next = members.last().filter(|_| more).map(|m| m.user);
    Ok(HttpResponse::Ok().json(Page::new(members, next)))
}

/// As what somebody is brought in; may be left out.
#[derive(Default, Deserialize, ToSchema)]
pub struct AsWhat {
    /// The role, below one's own; a member when absent.
    role: Option<Role>,
}

/// Brings a user in. Who is in already stays what it is.
#[utoipa::path(put, path = "/v1/rooms/{room}/members/{user}", params(("room" = RoomId, Path), ("user" = UserId, Path)),
    request_body = Option<AsWhat>,
    responses((status = 201, description = "brought in", body = MemberShown), (status = 200, description = "was in already", body = MemberShown)))]
pub async fn invite(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    place: Place,
    OptionalBody(as_what): OptionalBody<AsWhat>,
) -> Result<HttpResponse, ApiError> {
    let invite = InviteMember { role: as_what.role, ..on_member(&node, &me, &place).await?.into() };
    match ask(&api, &me, Request::Invite(invite)).await {
        Ok(_) => {
            let gone = || ApiError::new(Code::Conflict, "the user was brought in, and is out again");
            Ok(HttpResponse::Created().json(member(&node, &me, &place).await?.ok_or_else(gone)?))
        }
        Err(error) if error.code == Code::Conflict => {
            // The group may be full, and then the user is not there.
            let member = member(&node, &me, &place).await?.ok_or(error)?;
            Ok(HttpResponse::Ok().json(member))
        }
        Err(error) => Err(error),
    }
}

/// One member as the list shows it.
async fn member(node: &Node, me: &SignedIn, place: &Place) -> Result<Option<MemberShown>, ApiError> {
    let (room, user) = **place;
    let which = Members { room, after: user.0.checked_sub(1).map(UserId), limit: Some(1) };
    let (members, _) = looking::members(node, me.user.user, &which).await?;
    Ok(members.into_iter().find(|m| m.user == user))
}

/// A role.
#[derive(Deserialize, ToSchema)]
pub struct NewRole {
    /// The role from now on.
    role: Role,
}

/// Gives a member another role.
#[utoipa::path(patch, path = "/v1/rooms/{room}/members/{user}", params(("room" = RoomId, Path), ("user" = UserId, Path)),
    request_body = NewRole, responses((status = 204, description = "it has that role")))]
pub async fn set_role(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    place: Place,
    Body(new): Body<NewRole>,
) -> Result<HttpResponse, ApiError> {
    let OnMember { room, user, cid, since } = on_member(&node, &me, &place).await?;
    ask(&api, &me, Request::Role(SetRole { room, user, role: new.role, cid, since })).await.map(done)
}

/// Puts a member out.
#[utoipa::path(delete, path = "/v1/rooms/{room}/members/{user}", params(("room" = RoomId, Path), ("user" = UserId, Path)),
    responses((status = 204, description = "out")))]
pub async fn kick(api: web::Data<Api>, node: Node, me: SignedIn, place: Place) -> Result<HttpResponse, ApiError> {
    let who = on_member(&node, &me, &place).await?;
    ask(&api, &me, Request::Kick(who)).await.map(done)
}

/// Who may not come back, ascending by id.
#[utoipa::path(get, path = "/v1/rooms/{room}/bans", params(("room" = RoomId, Path), PageQuery),
    responses((status = 200, description = "a page of them", body = Page<Named>)))]
pub async fn bans(node: Node, me: SignedIn, room: web::Path<RoomId>, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let (limit, after) = (page.limit()?, page.place::<UserId>()?);
    let (banned, more) = looking::bans(&node, me.user.user, *room, after.unwrap_or_default(), limit).await?;
    let next = banned.last().filter(|_| more).map(|b| b.user);
    Ok(HttpResponse::Ok().json(Page::new(banned, next)))
}

/// Puts a user out for good, whether it is in or not.
#[utoipa::path(put, path = "/v1/rooms/{room}/bans/{user}", params(("room" = RoomId, Path), ("user" = UserId, Path)),
    responses((status = 204, description = "banned")))]
pub async fn ban(api: web::Data<Api>, node: Node, me: SignedIn, place: Place) -> Result<HttpResponse, ApiError> {
    let who = on_member(&node, &me, &place).await?;
    already(ask(&api, &me, Request::Ban(who)).await).map(done)
}

/// Lets a user come back.
#[utoipa::path(delete, path = "/v1/rooms/{room}/bans/{user}", params(("room" = RoomId, Path), ("user" = UserId, Path)),
    responses((status = 204, description = "not banned")))]
pub async fn unban(api: web::Data<Api>, node: Node, me: SignedIn, place: Place) -> Result<HttpResponse, ApiError> {
    let who = on_member(&node, &me, &place).await?;
    already(ask(&api, &me, Request::Unban(who)).await).map(done)
}

/// How long; may be left out.
#[derive(Default, Deserialize, ToSchema)]
pub struct UntilWhen {
    /// When the mute ends by itself, milliseconds since 1970 by the server's clock; absent: when it is lifted.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 253402300799999u64)]
    until: Option<Millis>,
}

/// Takes a member's voice: it may read and not write. The same again sets another time.
#[utoipa::path(put, path = "/v1/rooms/{room}/mutes/{user}", params(("room" = RoomId, Path), ("user" = UserId, Path)),
    request_body = Option<UntilWhen>, responses((status = 204, description = "muted")))]
pub async fn mute(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    place: Place,
    OptionalBody(when): OptionalBody<UntilWhen>,
) -> Result<HttpResponse, ApiError> {
    let OnMember { room, user, cid, since } = on_member(&node, &me, &place).await?;
    ask(&api, &me, Request::Mute(MuteMember { room, user, until: when.until, cid, since })).await.map(done)
}

/// Gives a member its voice back.
#[utoipa::path(delete, path = "/v1/rooms/{room}/mutes/{user}", params(("room" = RoomId, Path), ("user" = UserId, Path)),
    responses((status = 204, description = "not muted")))]
pub async fn unmute(api: web::Data<Api>, node: Node, me: SignedIn, place: Place) -> Result<HttpResponse, ApiError> {
    let who = on_member(&node, &me, &place).await?;
    already(ask(&api, &me, Request::Unmute(who)).await).map(done)
}
