//! Invite links: making, listing and revoking them in a room; and what who has one sees of it.

use super::Api;
use super::auth::SignedIn;
use super::error::OptionalBody;
use super::idempotency::{Key, KeyHeader};
use super::page::Page;
use super::rooms::{Node, RoomShown, shown};
use crate::actors::inviting::{self, LinkShown, Preview, Wanted};
use crate::error::{ApiError, Code};
use crate::protocol::entry::Role;
use crate::protocol::ids::{Millis, RoomId};
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(create, list, revoke, preview, accept))]
pub struct Docs;

/// Seconds that a link may be good at most: a year.
const EXPIRES_S_MAX: u64 = 365 * 86_400;
/// Uses of a link at most, where they are counted.
const USES_MAX: u32 = 100_000;

/// The roles that a link may give: more is given to whom one knows.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code)]
enum GuestRole {
    /// Reads only.
    Reader,
    /// Reads and writes.
    Member,
}

/// A link to be made; may be left out.
#[derive(Default, Deserialize, ToSchema)]
pub struct NewLink {
    /// Seconds that it is good, at most a year; absent: until it is revoked.
    #[schema(minimum = 1, maximum = 31536000)]
    expires_s: Option<u64>,
    /// How many may come by it; absent: any number.
    #[schema(minimum = 1, maximum = 100000)]
    uses_max: Option<u32>,
    /// The role of those who come by it; a member when absent.
    #[schema(value_type = Option<GuestRole>)]
    role: Option<Role>,
}

fn wanted(new: &NewLink) -> Result<(Role, Option<Millis>), ApiError> {
    let invalid = |text: String| Err(ApiError::new(Code::Invalid, text));
    if new.expires_s.is_some_and(|s| !(1..=EXPIRES_S_MAX).contains(&s)) {
        return invalid(format!("expires_s: 1 to {EXPIRES_S_MAX}"));
    }
    if new.uses_max.is_some_and(|n| !(1..=USES_MAX).contains(&n)) {
        return invalid(format!("uses_max: 1 to {USES_MAX}"));
    }
    let role = new.role.unwrap_or(Role::Member);
    if role > Role::Member {
        return invalid("role: member or reader; more is given to whom one knows".into());
    }
    Ok((role, new.expires_s.map(|s| s * 1_000)))
}

/// Makes an invite link.
#[utoipa::path(post, path = "/v1/rooms/{room}/invites", params(("room" = RoomId, Path), KeyHeader), request_body = Option<NewLink>,
    responses((status = 201, description = "a new link", body = LinkShown)))]
pub async fn create(
    api: web::Data<Api>,
    node: Node,
    me: SignedIn,
    key: Key,
    room: web::Path<RoomId>,
    OptionalBody(new): OptionalBody<NewLink>,
) -> Result<HttpResponse, ApiError> {
    let (room, user) = (*room, me.user.user);
    let (role, lasts) = wanted(&new)?;
    key.once(&api, user, async { Ok(0) }, move |attempt| async move {
        let wanted = Wanted { role, lasts, uses_max: new.uses_max, cid: attempt.cid };
        Ok(HttpResponse::Created().json(inviting::create(&node, user, room, wanted).await?))
    })
    .await
}

/// Links of a room that are good: one's own, and all for moderators.
#[utoipa::path(get, path = "/v1/rooms/{room}/invites", params(("room" = RoomId, Path)),
    responses((status = 200, description = "all of them", body = Page<LinkShown>)))]
pub async fn list(node: Node, me: SignedIn, room: web::Path<RoomId>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(Page::new(inviting::list(&node, me.user.user, *room).await?, None::<()>)))
}

/// Ends a link: one's own, or any as moderator.
#[utoipa::path(delete, path = "/v1/rooms/{room}/invites/{code}", params(("room" = RoomId, Path), ("code" = String, Path)),
    responses((status = 204, description = "the link is no more")))]
pub async fn revoke(node: Node, me: SignedIn, place: web::Path<(RoomId, String)>) -> Result<HttpResponse, ApiError> {
    let (room, code) = &*place;
    inviting::revoke(&node, me.user.user, *room, code).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What a link leads to.
#[utoipa::path(get, path = "/v1/invites/{code}", params(("code" = String, Path)),
    responses((status = 200, description = "the room", body = Preview)))]
pub async fn preview(node: Node, me: SignedIn, code: web::Path<String>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(inviting::preview(&node, me.user.user, &code).await?))
}

/// Comes into a room by a link. Who is in already stays in, and uses nothing up.
#[utoipa::path(post, path = "/v1/invites/{code}/accept", params(("code" = String, Path)),
    responses((status = 200, description = "the room", body = RoomShown)))]
pub async fn accept(api: web::Data<Api>, node: Node, me: SignedIn, code: web::Path<String>) -> Result<HttpResponse, ApiError> {
    // In a task of its own: a use that was taken is given back also when the client does not wait.
    let come_in = async move {
        let room = inviting::accept(&node, me.user.user, &code).await?;
        shown(&api, &node, me.user.user, room).await
    };
    let room = actix_web::rt::spawn(come_in)
        .await
        .map_err(|_| ApiError::new(Code::Internal, "the request failed by a fault of the server's own"))??;
    Ok(HttpResponse::Ok().json(room))
}
