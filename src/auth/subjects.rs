//! Users who are somebody elsewhere: (issuer, subject) → user, made when first seen. The same map serves tokens of other issuers
//! and `external_id` of the API, so that a user whom an embedder's server has made is the one who signs in later.
//!
//! The subject's record is written first, by compare-and-set, and decides the user's id; the account is made under it afterwards
//! and the record marked. Whoever finds a record without the mark makes the account: so a crash between the two leaves nothing behind,
//! and two who come at once get one user. An account that was made and is gone is not made again.
//!
//! Each session of an issuer (its `sid`, else the subject itself) has a device row of ours, so that it can be listed and revoked: what was
//! revoked is refused until the issuer makes a newer token. **Bounds**: [`SESSIONS_MAX`] devices per subject; one more takes the place of
//! the one used longest ago.

use super::accounts::{Accounts, valid_name};
use super::failed;
use super::issuers::{Identity, Person};
use super::sessions::Announce;
use super::tokens::Claims;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::storage::records::{decode, encode};
use crate::storage::{DeviceRow, Store, Table, UserRow};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Devices of a subject at most.
pub const SESSIONS_MAX: usize = 32;
/// Changes of one record that may collide before the caller is told to try again.
const TRIES: usize = 16;
/// Characters of a name that was made out of a wish; a suffix must fit behind it.
const NAME_CHARS_MAX: usize = 25;
/// A device's row says when it was last used, this exactly.
const USED_MS: Millis = 3_600_000;
/// The end of a device that ends by its tokens only.
const NEVER: Millis = i64::MAX as Millis;
/// Characters of a name to show, bytes of a picture's address.
const DISPLAY_NAME_CHARS_MAX: usize = 64;
const AVATAR_URL_BYTES_MAX: usize = 2048;

/// Gives fresh ids.
pub type NextId = Arc<dyn Fn() -> BoxFuture<'static, Result<u64, ApiError>> + Send + Sync>;

/// The user of a subject, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Subject {
    user: UserId,
    /// The account was made.
    made: bool,
    /// Of what was last said of the person.
    person: u64,
    sessions: Vec<Session>,
    /// Tokens before this are refused of sessions that are not among them: one such lost its place to another.
    #[serde(default)]
    floor: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    hash: [u8; 16],
    device: DeviceId,
    used: Millis,
    /// Tokens before this are refused: the device was revoked then.
    after: Millis,
}

/// See the module.
pub struct Subjects {
    store: Arc<dyn Store>,
    accounts: Accounts,
    ids: NextId,
    announce: Announce,
}

fn collided() -> ApiError {
    ApiError::new(Code::Unavailable, "the account is being changed by others")
}

fn revoked(what: &'static str) -> ApiError {
    ApiError::new(Code::TokenRevoked, what)
}

impl Subjects {
    /// Over a store. `announce` is told of devices whose place another took.
    pub fn new(store: Arc<dyn Store>, accounts: Accounts, ids: NextId, announce: Announce) -> Subjects {
        Subjects { store, accounts, ids, announce }
    }

    /// The user for whom a verified token of another issuer speaks, with the claims that one of ours would have.
    pub async fn admit(&self, identity: &Identity) -> Result<(UserRow, Claims), ApiError> {
        let (user, _) = match identity.create {
            true => self.user(&identity.issuer, &identity.subject, &identity.person, false).await?,
            false => (self.known(identity).await?, false),
        };
        if user.disabled {
            return Err(revoked("the account is disabled"));
        }
        if identity.issued < user.tokens_after {
            return Err(revoked("the token was revoked; sign in again"));
        }
        let device = self.device(&user, identity).await?;
        self.live(&user, device, identity).await?;
        let user = self.refreshed(user, identity).await?;
        let claims = Claims { user: user.user, device, issued: identity.issued, expires: identity.expires };
        Ok((user, claims))
    }

    async fn known(&self, identity: &Identity) -> Result<UserRow, ApiError> {
        let unknown = || ApiError::new(Code::Forbidden, "no user of this server belongs to this token");
        let (subject, _) = self.read(&identity.issuer, &identity.subject).await?.ok_or_else(unknown)?;
        self.store.user(subject.user).await.map_err(failed)?.ok_or_else(unknown)
    }

    /// The user of a subject, made if there is none; and whether this call made it.
    pub async fn user(&self, issuer: &str, name: &str, person: &Person, bot: bool) -> Result<(UserRow, bool), ApiError> {
        for _ in 0..TRIES {
            let Some((subject, stored)) = self.read(issuer, name).await? else {
                let fresh =
                    Subject { user: UserId((self.ids)().await?), made: false, person: digest(person), sessions: Vec::new(), floor: 0 };
                self.replace(issuer, name, None, &fresh).await?;
                continue;
            };
            if let Some(row) = self.store.user(subject.user).await.map_err(failed)? {
                return Ok((row, false));
            }
            if subject.made {
                return Err(revoked("the account is gone"));
            }
            let Some(row) = self.make(subject.user, person, bot).await? else { continue };
            // Whoever changed the record meanwhile has found the account, or finds it by the next look.
            let mut marked = subject.clone();
            marked.made = true;
            self.replace(issuer, name, Some(stored), &marked).await?;
            return Ok((row, true));
        }
        Err(collided())
    }

    /// Makes an account under a name that is free, as near as may be to the wish; `None` when the id has an account already.
    pub async fn make(&self, user: UserId, person: &Person, bot: bool) -> Result<Option<UserRow>, ApiError> {
        for name in candidates(person) {
            if let Some(row) = self.make_named(user, &name, person, bot).await? {
                return Ok(Some(row));
            }
            if self.store.user(user).await.map_err(failed)?.is_some() {
                return Ok(None);
            }
        }
        Err(ApiError::new(Code::Conflict, "no name could be found for the new user"))
    }

    /// Makes an account under exactly this name; `None` when it is taken.
    pub async fn make_named(&self, user: UserId, name: &str, person: &Person, bot: bool) -> Result<Option<UserRow>, ApiError> {
        let display_name = shown(person.display_name.as_deref());
        let avatar_url = address(person.avatar_url.as_deref());
        self.accounts.adopt(user, name, |row| UserRow { bot, display_name, avatar_url, ..row }).await
    }

    /// The device of the identity's session: the one it has, a new one, or that of the session used longest ago.
    async fn device(&self, user: &UserRow, identity: &Identity) -> Result<DeviceId, ApiError> {
        for _ in 0..TRIES {
            let Some((subject, stored)) = self.read(&identity.issuer, &identity.subject).await? else { return Err(collided()) };
            let (next, device) = match seat(&subject, identity) {
                Seat::Refused => return Err(signed_out()),
                Seat::Has(device) => return Ok(device),
                Seat::Used(next, device) => (next, device),
                Seat::New(mut next) => {
                    let device = DeviceId((self.ids)().await?);
                    next.sessions.push(Session { hash: session_hash(identity), device, used: identity.issued, after: 0 });
                    (next, device)
                }
                Seat::TakenOver(next, device) => {
                    (self.announce)(user.user, Some(device));
                    (next, device)
                }
            };
            if self.replace(&identity.issuer, &identity.subject, Some(stored), &next).await? {
                return Ok(device);
            }
        }
        Err(collided())
    }

    /// Notes that tokens of the session from before `after` stay refused, whatever becomes of its device.
    async fn refuse_before(&self, identity: &Identity, after: Millis) -> Result<(), ApiError> {
        for _ in 0..TRIES {
            let Some((mut subject, stored)) = self.read(&identity.issuer, &identity.subject).await? else { return Err(collided()) };
            match subject.sessions.iter_mut().find(|s| s.hash == session_hash(identity)) {
                Some(session) if session.after < after => session.after = after,
                _ => return Ok(()),
            }
            if self.replace(&identity.issuer, &identity.subject, Some(stored), &subject).await? {
                return Ok(());
            }
        }
        Err(collided())
    }

    /// Whether the device may be used with this token: it was not revoked since the token was made. Its row is made or brought up to date.
    async fn live(&self, user: &UserRow, device: DeviceId, identity: &Identity) -> Result<(), ApiError> {
        for _ in 0..TRIES {
            let was = self.store.device(user.user, device).await.map_err(failed)?;
            let row = match &was {
                // A revoked row says in `expires` when it was.
                Some(row) if row.revoked && identity.issued < row.expires => return Err(signed_out()),
                Some(row) if !row.revoked && row.used >= user.tokens_after && identity.issued < row.used.saturating_add(USED_MS) => {
                    return Ok(());
                }
                Some(row) if row.revoked => {
                    self.refuse_before(identity, row.expires).await?;
                    DeviceRow { used: identity.issued.max(row.used), revoked: false, expires: NEVER, ..row.clone() }
                }
                Some(row) => DeviceRow { used: identity.issued.max(row.used), ..row.clone() },
                None => DeviceRow {
                    user: user.user,
                    device,
                    name: identity.issuer.chars().filter(|c| !c.is_control()).take(100).collect(),
                    refresh: [0; 32],
                    previous: [0; 32],
                    expires: NEVER,
                    revoked: false,
                    created: identity.issued,
                    used: identity.issued,
                },
            };
            if self.store.replace_device(was.as_ref(), row).await.map_err(failed)? {
                return Ok(());
            }
        }
        Err(collided())
    }

    /// Takes over what the issuer says of the person, when that is something new. What the user has changed here stays until then.
    async fn refreshed(&self, user: UserRow, identity: &Identity) -> Result<UserRow, ApiError> {
        let Some((subject, stored)) = self.read(&identity.issuer, &identity.subject).await? else { return Ok(user) };
        let said = digest(&identity.person);
        if subject.person == said {
            return Ok(user);
        }
        let (name, picture) = (shown(identity.person.display_name.as_deref()), address(identity.person.avatar_url.as_deref()));
        let row = self
            .accounts
            .edit(user.user, |row| {
                row.display_name.clone_from(&name);
                row.avatar_url.clone_from(&picture);
                Ok(())
            })
            .await?;
        self.replace(&identity.issuer, &identity.subject, Some(stored), &Subject { person: said, ..subject }).await?;
        Ok(row)
    }

    async fn read(&self, issuer: &str, subject: &str) -> Result<Option<(Subject, Bytes)>, ApiError> {
        let row = self.store.record(Table::Subject, issuer.as_bytes(), subject.as_bytes()).await.map_err(failed)?;
        row.map(|bytes| Ok((decode(&bytes).map_err(failed)?, bytes))).transpose()
    }

    async fn replace(&self, issuer: &str, subject: &str, was: Option<Bytes>, now: &Subject) -> Result<bool, ApiError> {
        self.store.replace_record(Table::Subject, issuer.as_bytes(), subject.as_bytes(), was, Some(encode(now))).await.map_err(failed)
    }
}

fn signed_out() -> ApiError {
    revoked("the device was signed out; sign in again at the token's issuer")
}

/// What becomes of a session's place.
enum Seat {
    /// Its tokens of that time are refused.
    Refused,
    /// It has one.
    Has(DeviceId),
    /// It has one, and was used again after a while.
    Used(Subject, DeviceId),
    /// It gets a new one.
    New(Subject),
    /// It gets that of another.
    TakenOver(Subject, DeviceId),
}

fn seat(subject: &Subject, identity: &Identity) -> Seat {
    let (hash, issued) = (session_hash(identity), identity.issued);
    let mut next = subject.clone();
    if let Some(session) = next.sessions.iter_mut().find(|s| s.hash == hash) {
        if issued < session.after {
            return Seat::Refused;
        }
        if issued < session.used.saturating_add(USED_MS) {
            return Seat::Has(session.device);
        }
        session.used = issued;
        let device = session.device;
        return Seat::Used(next, device);
    }
    if issued < subject.floor {
        return Seat::Refused;
    }
    if next.sessions.len() < SESSIONS_MAX {
        return Seat::New(next);
    }
    let Some(oldest) = next.sessions.iter_mut().min_by_key(|s| s.used) else { return Seat::New(next) };
    let device = oldest.device;
    *oldest = Session { hash, device, used: issued, after: 0 };
    next.floor = issued.max(subject.floor);
    Seat::TakenOver(next, device)
}

/// What the person is called and looks like; not the name, which is asked for once.
fn digest(person: &Person) -> u64 {
    let parts = (&person.display_name, &person.avatar_url);
    xxh3_64(&encode(&parts))
}

fn session_hash(identity: &Identity) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&Sha256::digest(identity.session.as_deref().unwrap_or_default())[..16]);
    hash
}

fn shown(name: Option<&str>) -> String {
    name.unwrap_or_default().chars().filter(|c| !c.is_control()).take(DISPLAY_NAME_CHARS_MAX).collect()
}

fn address(url: Option<&str>) -> String {
    let fits = |url: &&str| url.starts_with("https://") && url.len() <= AVATAR_URL_BYTES_MAX && url.bytes().all(|b| b.is_ascii_graphic());
    url.filter(fits).unwrap_or_default().to_owned()
}

/// Names to try, the wished for one first. The random ones end the search even among a million users called "alex".
fn candidates(person: &Person) -> impl Iterator<Item = String> {
    let base = base(person.name.as_deref().or(person.display_name.as_deref()).unwrap_or_default());
    let numbered = base.clone();
    let random = base.clone();
    std::iter::once(base)
        .chain((2..=5).map(move |n| format!("{numbered}-{n}")))
        .chain((0..8).map(move |_| format!("{random}-{:06x}", rand::random_range(0..1u32 << 24))))
}

/// A wish as a name that may be taken: an address without its host, lower case, and nothing that names do not have.
fn base(wish: &str) -> String {
    let local = wish.split('@').next().unwrap_or_default().to_lowercase();
    let kept = local.chars().filter_map(|c| match c {
        'a'..='z' | '0'..='9' | '_' | '.' | '-' => Some(c),
        c if c.is_whitespace() => Some('.'),
        _ => None,
    });
    let name: String = kept.take(NAME_CHARS_MAX).collect();
    if valid_name(&name) { name } else { "user".into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
