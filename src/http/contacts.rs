//! Contacts and blocks.
//!
//! One asks, the other accepts by asking too; either may end it. A block ends the contact and makes its author invisible:
//! to who is blocked, the other's account does not exist. A pair's changes happen one after the other on this node (a lock), because an
//! acceptance that overtook a block would undo it.

use super::Api;
use super::auth::SignedIn;
use super::page::{Page, PageQuery};
use super::users::{Profile, no_such_user, states};
use crate::auth::failed;
use crate::error::{ApiError, Code};
use crate::protocol::ids::UserId;
use crate::protocol::ops::{PresencePush, PresenceState};
use crate::storage::ContactState::{self, Accepted, Blocked, Pending, Requested};
use crate::storage::UserRow;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use tokio::sync::{Mutex, MutexGuard};
use utoipa::{IntoParams, OpenApi, ToSchema};

/// What this file adds to the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(list, presence, ask, remove, blocks, block, unblock))]
pub struct Docs;

/// Locks of pairs of users; two pairs may share one.
pub(super) struct PairLocks(Vec<Mutex<()>>);

impl Default for PairLocks {
    fn default() -> Self {
        PairLocks((0..64).map(|_| Mutex::new(())).collect())
    }
}

impl PairLocks {
    /// Held while a pair is changed.
    pub(super) async fn lock(&self, a: UserId, b: UserId) -> MutexGuard<'_, ()> {
        let pair = [a.min(b).0.to_be_bytes(), a.max(b).0.to_be_bytes()].concat();
        self.0[(xxhash_rust::xxh3::xxh3_64(&pair) % self.0.len() as u64) as usize].lock().await
    }
}

/// How two users stand: the first to the second, and the second to the first.
type Pair = (Option<ContactState>, Option<ContactState>);

/// After the first asked the second. `NotFound` when the second blocks.
fn asked(was: Pair) -> Result<Pair, ApiError> {
    match was {
        (Some(Blocked), _) => Err(ApiError::new(Code::Conflict, "you block this user; unblock first")),
        (_, Some(Blocked)) => Err(no_such_user()),
        (Some(Accepted), Some(Accepted)) | (_, Some(Requested)) => Ok((Some(Accepted), Some(Accepted))),
        _ => Ok((Some(Requested), Some(Pending))),
    }
}

/// After the first ended it. Blocks stay.
fn removed(was: Pair) -> Pair {
    let keep = |s: Option<ContactState>| s.filter(|s| *s == Blocked);
    (keep(was.0), keep(was.1))
}

/// After the first blocked the second.
fn blocked(was: Pair) -> Pair {
    (Some(Blocked), removed(was).1)
}

/// After the first took its block back.
fn unblocked(was: Pair) -> Pair {
    (was.0.filter(|s| *s != Blocked), was.1)
}

/// Somebody to whom one stands somehow.
#[derive(Serialize, ToSchema)]
pub struct Contact {
    #[serde(flatten)]
    profile: Profile,
    /// How one stands to the user.
    state: ContactState,
}

impl Contact {
    fn new(row: UserRow, state: ContactState) -> Contact {
        Contact { profile: Profile::of(row, Some(state)), state }
    }
}

/// Which contacts.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only those to whom one stands so.
    state: Option<ContactState>,
}

/// Everybody to whom one stands somehow: contacts, requests of both sides, blocks. Ascending by id.
#[utoipa::path(get, path = "/v1/contacts", params(Which, PageQuery),
    responses((status = 200, description = "a page of them", body = Page<Contact>)))]
pub async fn list(
    api: web::Data<Api>,
    me: SignedIn,
    which: web::Query<Which>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiError> {
    let found = some(&api, me.user.user, &page, |state| which.state.is_none_or(|wanted| wanted == state)).await?;
    Ok(HttpResponse::Ok().json(found.map(|(row, state)| Contact::new(row, state))))
}

/// The presence of one's contacts (accepted ones only), ascending by id.
#[utoipa::path(get, path = "/v1/contacts/presence", params(PageQuery),
    responses((status = 200, description = "a page of them", body = Page<PresencePush>)))]
pub async fn presence(api: web::Data<Api>, me: SignedIn, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let found = some(&api, me.user.user, &page, |state| state == Accepted).await?;
    let users: Vec<UserId> = found.items.iter().map(|(row, _)| row.user).collect();
    let mut told: HashMap<UserId, PresencePush> = api.node.presence(&users).await.into_iter().map(|push| (push.user, push)).collect();
    // Who has no presence running is not connected; what is known of it is in its account.
    let offline =
        |row: UserRow| PresencePush { user: row.user, state: PresenceState::Offline, last_seen: row.last_seen, status: row.status };
    Ok(HttpResponse::Ok().json(found.map(|(row, _)| told.remove(&row.user).unwrap_or_else(|| offline(row)))))
}

/// Whom one blocks, ascending by id.
#[utoipa::path(get, path = "/v1/blocks", params(PageQuery),
    responses((status = 200, description = "a page of them", body = Page<Profile>)))]
pub async fn blocks(api: web::Data<Api>, me: SignedIn, page: web::Query<PageQuery>) -> Result<HttpResponse, ApiError> {
    let found = some(&api, me.user.user, &page, |state| state == Blocked).await?;
    Ok(HttpResponse::Ok().json(found.map(|(row, state)| Profile::of(row, Some(state)))))
}

/// A page of those to whom `me` stands in a way that fits. The list itself is bounded by `presence.contacts_max`.
async fn some(
    api: &Api,
    me: UserId,
    page: &PageQuery,
    fits: impl Fn(ContactState) -> bool,
) -> Result<Page<(UserRow, ContactState)>, ApiError> {
    let (limit, after) = (page.limit()?, page.place::<UserId>()?);
    let all = api.store.contacts(me, api.config.presence.contacts_max).await.map_err(failed)?;
    let wanted = all.into_iter().filter(|(user, state)| after.is_none_or(|after| *user > after) && fits(*state));
    let page = Page::of(wanted.take(limit + 1).collect(), limit, |(user, _)| *user);
    let ids: Vec<UserId> = page.items.iter().map(|(user, _)| *user).collect();
    let rows = api.store.users(&ids).await.map_err(failed)?;
    let items = page.items.into_iter().zip(rows).filter_map(|((_, state), row)| Some((row?, state))).collect();
    Ok(Page { items, next: page.next })
}

/// Asks a user to become a contact, or accepts when the other has asked. The same again changes nothing.
#[utoipa::path(put, path = "/v1/contacts/{user}", params(("user" = UserId, Path)),
    responses((status = 200, description = "how one stands to the user now", body = Contact)))]
pub async fn ask(api: web::Data<Api>, me: SignedIn, other: web::Path<UserId>) -> Result<HttpResponse, ApiError> {
    let (me, other) = (me.user.user, not_oneself(&me, *other)?);
    let row = api.store.user(other).await.map_err(failed)?.filter(|u| !u.disabled).ok_or_else(no_such_user)?;
    let (_, now) = change(&api, me, other, asked).await?;
    Ok(HttpResponse::Ok().json(Contact::new(row, now.0.unwrap_or(Requested))))
}

/// Takes a request back, declines one, or ends a contact.
#[utoipa::path(delete, path = "/v1/contacts/{user}", params(("user" = UserId, Path)),
    responses((status = 204, description = "the user is no contact")))]
pub async fn remove(api: web::Data<Api>, me: SignedIn, other: web::Path<UserId>) -> Result<HttpResponse, ApiError> {
    change(&api, me.user.user, not_oneself(&me, *other)?, |was| Ok(removed(was))).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Blocks a user: ends the contact, and the other no longer finds one.
#[utoipa::path(put, path = "/v1/blocks/{user}", params(("user" = UserId, Path)), responses((status = 204, description = "blocked")))]
pub async fn block(api: web::Data<Api>, me: SignedIn, other: web::Path<UserId>) -> Result<HttpResponse, ApiError> {
    let other = not_oneself(&me, *other)?;
    api.store.user(other).await.map_err(failed)?.ok_or_else(no_such_user)?;
    change(&api, me.user.user, other, |was| Ok(blocked(was))).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes a block back.
#[utoipa::path(delete, path = "/v1/blocks/{user}", params(("user" = UserId, Path)), responses((status = 204, description = "not blocked")))]
pub async fn unblock(api: web::Data<Api>, me: SignedIn, other: web::Path<UserId>) -> Result<HttpResponse, ApiError> {
    change(&api, me.user.user, not_oneself(&me, *other)?, |was| Ok(unblocked(was))).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn not_oneself(me: &SignedIn, other: UserId) -> Result<UserId, ApiError> {
    if other == me.user.user { Err(ApiError::new(Code::Invalid, "this is yourself")) } else { Ok(other) }
}

/// Carries a change of a pair out, and tells the node if it was one. Returns how they stood and how they stand.
async fn change(api: &Api, me: UserId, other: UserId, step: impl Fn(Pair) -> Result<Pair, ApiError>) -> Result<(Pair, Pair), ApiError> {
    let _one_at_a_time = api.contact_locks.lock(me, other).await;
    let was = (states(api, me, other).await?, states(api, other, me).await?);
    let now = step(was)?;
    if now == was {
        return Ok((was, now));
    }
    // Both lists are bounded: nobody can fill another's with requests beyond it either.
    for (user, before, after) in [(me, was.0, now.0), (other, was.1, now.1)] {
        if before.is_none() && after.is_some() {
            has_room(api, user).await?;
        }
    }
    api.store.set_contact(me, other, now.0, now.1).await.map_err(failed)?;
    api.node.contacts_changed(me, other);
    Ok((was, now))
}

async fn has_room(api: &Api, user: UserId) -> Result<(), ApiError> {
    let max = api.config.presence.contacts_max;
    let has = api.store.contacts(user, max).await.map_err(failed)?.len();
    if has < max { Ok(()) } else { Err(ApiError::new(Code::Conflict, format!("a user has at most {max} contacts, requests and blocks"))) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ALL: [Option<ContactState>; 5] = [None, Some(Requested), Some(Pending), Some(Accepted), Some(Blocked)];

    #[test]
    fn no_step_of_one_touches_a_block_of_the_other() {
        for a in ALL {
            let was = (a, Some(Blocked));
            assert_eq!(asked(was).unwrap_or(was).1, Some(Blocked));
            for now in [removed(was), blocked(was), unblocked(was)] {
                assert_eq!(now.1, Some(Blocked), "{was:?}");
            }
        }
    }

    #[test]
    fn both_sides_stay_in_step() {
        let fits = |p: Pair| {
            matches!(
                p,
                (None | Some(Blocked), None | Some(Blocked))
                    | (Some(Requested), Some(Pending))
                    | (Some(Pending), Some(Requested))
                    | (Some(Accepted), Some(Accepted))
            )
        };
        let mut reached: Vec<Pair> = vec![(None, None)];
        let mut at = 0;
        while at < reached.len() {
            let was = reached[at];
            assert!(fits(was), "{was:?}");
            let flip = |(a, b): Pair| (b, a);
            for from in [was, flip(was)] {
                for now in [asked(from).unwrap_or(from), removed(from), blocked(from), unblocked(from)] {
                    if !reached.contains(&now) {
                        reached.push(now);
                    }
                }
            }
            at += 1;
        }
        assert_eq!(reached.len(), 7, "{reached:?}");
    }
}
