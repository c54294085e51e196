//! Contacts and blocks.
//!
//! One asks, the other accepts by asking too; either may end it. A block ends the contact and makes its author invisible:
//! to who is blocked, the other's account does not exist. A pair's changes happen one after the other on this node (a lock), because an
//! acceptance that overtook a block would undo it.

use super::Api;
use super::auth::SignedIn;
use super::users::{no_such_user, states};
use crate::auth::failed;
use crate::error::{ApiError, Code};
use crate::protocol::ids::UserId;
use crate::storage::ContactState::{self, Accepted, Blocked, Pending, Requested};
use actix_web::{HttpResponse, web};
use serde::Serialize;
use tokio::sync::{Mutex, MutexGuard};

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

#[derive(Serialize)]
struct Contact {
    user: UserId,
    name: String,
    state: ContactState,
}

/// `GET /v1/contacts`: everybody to whom one stands somehow, ascending by id. Bounded by `presence.contacts_max`.
pub async fn list(api: web::Data<Api>, me: SignedIn) -> Result<HttpResponse, ApiError> {
    #[derive(Serialize)]
    struct Answer {
        contacts: Vec<Contact>,
    }
    let all = api.store.contacts(me.user.user, api.config.presence.contacts_max).await.map_err(failed)?;
    let ids: Vec<UserId> = all.iter().map(|(user, _)| *user).collect();
    let rows = api.store.users(&ids).await.map_err(failed)?;
    let contacts = all.into_iter().zip(rows).filter_map(|((user, state), row)| Some(Contact { user, name: row?.name, state }));
    Ok(HttpResponse::Ok().json(Answer { contacts: contacts.collect() }))
}

/// `PUT /v1/contacts/{user}`: asks, or accepts when the other has asked. The same again changes nothing.
pub async fn ask(api: web::Data<Api>, me: SignedIn, other: web::Path<UserId>) -> Result<HttpResponse, ApiError> {
    let (me, other) = (me.user.user, not_oneself(&me, *other)?);
    let row = api.store.user(other).await.map_err(failed)?.filter(|u| !u.disabled).ok_or_else(no_such_user)?;
    let (_, now) = change(&api, me, other, asked).await?;
    let state = now.0.unwrap_or(Requested);
    Ok(HttpResponse::Ok().json(Contact { user: other, name: row.name, state }))
}

/// `DELETE /v1/contacts/{user}`: takes a request back, refuses one, or ends a contact.
pub async fn remove(api: web::Data<Api>, me: SignedIn, other: web::Path<UserId>) -> Result<HttpResponse, ApiError> {
    change(&api, me.user.user, not_oneself(&me, *other)?, |was| Ok(removed(was))).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `PUT /v1/blocks/{user}`
pub async fn block(api: web::Data<Api>, me: SignedIn, other: web::Path<UserId>) -> Result<HttpResponse, ApiError> {
    let other = not_oneself(&me, *other)?;
    api.store.user(other).await.map_err(failed)?.ok_or_else(no_such_user)?;
    change(&api, me.user.user, other, |was| Ok(blocked(was))).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `DELETE /v1/blocks/{user}`
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
