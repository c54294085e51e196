//! Devices that are signed in: giving out tokens, renewing them, ending them, and judging whether a token still counts.
//!
//! **Rotation** (RFC 9700, 4.14.2): each use of a refresh token gives a new one and ends the used one, by compare-and-set on the
//! device's row. Whoever presents an ended one again is either a thief or a client that never got its answer. Within
//! [`GRACE_MS`] of the rotation the token just ended gets the *same* successor again, so a lost answer costs nothing and
//! asking twice gives no second line of tokens. Any other reuse, however old the token, closes the family: the device is
//! revoked, its sockets are closed, and the person signs in again.
//!
//! **Bounds**: a user has at most [`DEVICES_MAX`] device rows. One more sign-in takes over the row of a device that is signed out,
//! or else of the one not used for longest, which is signed out by it. Tokens of the row's earlier life are older than its `created`, and refused.

use super::failed;
use super::refresh::RefreshToken;
use super::tokens::{Claims, Tokens};
use crate::config;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::storage::{DeviceRow, UserRow, Users};
use std::sync::Arc;

/// Devices of a user at most.
pub const DEVICES_MAX: usize = 64;
/// How long after a rotation the token before is answered with its successor again. Long enough for a client's retry, short
/// enough that a thief must be there at the same moment.
pub const GRACE_MS: Millis = 10_000;
/// Characters of a device's name that are kept.
const NAME_CHARS_MAX: usize = 100;
/// Changes of one row that may collide before the caller is told to try again.
const TRIES: usize = 8;

/// Told when a user's device, or (`None`) all of them, may no longer be connected. Must not block.
pub type Announce = Arc<dyn Fn(UserId, Option<DeviceId>) + Send + Sync>;

/// What signing in gives.
#[derive(Clone)]
pub struct Pair {
    /// The device the tokens belong to.
    pub device: DeviceId,
    /// The access token.
    pub access: String,
    /// When it ends.
    pub access_expires: Millis,
    /// The refresh token.
    pub refresh: String,
    /// When it ends, unless used before.
    pub refresh_expires: Millis,
}

/// The sessions. Clones share everything.
#[derive(Clone)]
pub struct Sessions {
    users: Arc<dyn Users>,
    tokens: Arc<Tokens>,
    announce: Announce,
    refresh_ttl_ms: Millis,
}

fn revoked(what: &'static str) -> ApiError {
    ApiError::new(Code::TokenRevoked, what)
}

impl Sessions {
    /// Over a store and a key ring; `announce` is told of what is revoked here.
    pub fn new(users: Arc<dyn Users>, tokens: Arc<Tokens>, config: &config::Auth, announce: Announce) -> Sessions {
        Sessions { users, tokens, announce, refresh_ttl_ms: config.refresh_ttl_s.max(1).saturating_mul(1000) }
    }

    /// Signs a user in on a new device. `fresh` is the id it gets unless it takes over an old row.
    pub async fn sign_in(&self, user: &UserRow, fresh: DeviceId, name: &str, now: Millis) -> Result<Pair, ApiError> {
        let (row, token) = self.new_device(user, fresh, name, now, None).await?;
        Ok(self.pair(&row, &token, row.used))
    }

    /// A new family of tokens for a device whose sessions were ended by its own wish (a new password). Its id stays.
    pub async fn renew(&self, user: &UserRow, device: DeviceId, now: Millis) -> Result<Pair, ApiError> {
        for _ in 0..TRIES {
            let Some(was) = self.users.device(user.user, device).await.map_err(failed)? else { break };
            let at = now.max(user.tokens_after).max(was.used.max(was.created) + 1);
            let token = RefreshToken::fresh(&self.tokens, user.user, device, at);
            let expires = at.saturating_add(self.refresh_ttl_ms);
            let row = DeviceRow { refresh: token.hash(), previous: [0; 32], expires, revoked: false, created: at, used: at, ..was.clone() };
            if self.users.replace_device(Some(&was), row.clone()).await.map_err(failed)? {
                self.still(user, &row).await?;
                return Ok(self.pair(&row, &token, row.used));
            }
        }
        Err(ApiError::new(Code::Unavailable, "the device is being changed by others"))
    }

    /// The devices that are signed in, ascending.
    pub async fn devices(&self, user: &UserRow, now: Millis) -> Result<Vec<DeviceRow>, ApiError> {
        let all = self.users.devices(user.user).await.map_err(failed)?;
        Ok(all.into_iter().filter(|device| alive(device, user, now)).collect())
    }

    /// An access token for a program: a device of its own, a chosen life, and no refresh token.
    pub async fn issue(
        &self,
        user: &UserRow,
        fresh: DeviceId,
        name: &str,
        ttl_ms: Millis,
        now: Millis,
    ) -> Result<(String, Millis), ApiError> {
        let (row, _) = self.new_device(user, fresh, name, now, Some(ttl_ms)).await?;
        Ok(self.tokens.issue_for(row.user, row.device, row.used, ttl_ms))
    }

    /// A new pair for a refresh token. See the head of this file for what happens to one that was used before.
    pub async fn refresh(&self, text: &str, now: Millis) -> Result<(UserRow, Pair), ApiError> {
        let unknown = || ApiError::new(Code::Unauthorized, "the refresh token is not accepted");
        let token = RefreshToken::parse(text).ok_or_else(unknown)?;
        for _ in 0..TRIES {
            let row = self.users.device(token.user, token.device).await.map_err(failed)?;
            let row = row.filter(|r| r.created == token.family).ok_or_else(unknown)?;
            let user = self.users.user(token.user).await.map_err(failed)?.ok_or_else(unknown)?;
            if row.revoked || user.disabled || row.used < user.tokens_after {
                // A stranger who only guessed the ids learns nothing of the device.
                return Err(if token.authentic(&self.tokens) {
                    revoked("the refresh token was revoked; sign in again")
                } else {
                    unknown()
                });
            }
            match judge(&row, &token, &self.tokens, now) {
                Step::Rotate if now >= row.expires => {
                    return Err(ApiError::new(Code::TokenExpired, "the refresh token's time is over; sign in again"));
                }
                Step::Rotate => {
                    let Some(next) = token.successors(&self.tokens).into_iter().next() else { return Err(unknown()) };
                    let changed = DeviceRow {
                        refresh: next.hash(),
                        previous: row.refresh,
                        expires: now.saturating_add(self.refresh_ttl_ms),
                        used: now.max(row.used),
                        ..row.clone()
                    };
                    if self.users.replace_device(Some(&row), changed.clone()).await.map_err(failed)? {
                        self.still(&user, &changed).await?;
                        let pair = self.pair(&changed, &next, changed.used);
                        return Ok((user, pair));
                    }
                }
                Step::Again(next) => {
                    let pair = self.pair(&row, &next, now.max(row.used));
                    return Ok((user, pair));
                }
                Step::Reused => {
                    if self.revoke_row(&row).await? {
                        tracing::warn!(user = %row.user, device = %row.device, "a refresh token was used twice; the device is signed out");
                        return Err(revoked("the refresh token was used before; the device is signed out"));
                    }
                }
                Step::Unknown => return Err(unknown()),
            }
        }
        Err(ApiError::new(Code::Unavailable, "the device is being changed by others"))
    }

    /// Signs one device out.
    pub async fn sign_out(&self, user: UserId, device: DeviceId) -> Result<(), ApiError> {
        for _ in 0..TRIES {
            match self.users.device(user, device).await.map_err(failed)? {
                Some(row) if !row.revoked => {
                    if self.revoke_row(&row).await? {
                        return Ok(());
                    }
                }
                _ => return Ok(()),
            }
        }
        Err(ApiError::new(Code::Unavailable, "the device is being changed by others"))
    }

    /// Tells that all of a user's sessions have ended, after `Accounts` has ended them.
    pub fn ended_everywhere(&self, user: UserId) {
        (self.announce)(user, None);
    }

    /// Whether verified claims still count: the account exists and is not disabled, the device is signed in, and nothing
    /// later than the token ended the sessions. `TokenRevoked` otherwise.
    pub async fn check_live(&self, claims: &Claims) -> Result<UserRow, ApiError> {
        let user = self.users.user(claims.user).await.map_err(failed)?;
        let user = user.ok_or_else(|| revoked("the account is gone"))?;
        if user.disabled {
            return Err(revoked("the account is disabled"));
        }
        let device = self.users.device(claims.user, claims.device).await.map_err(failed)?;
        let live = device.is_some_and(|d| !d.revoked && claims.issued >= d.created);
        if live && claims.issued >= user.tokens_after { Ok(user) } else { Err(revoked("the token was revoked; sign in again")) }
    }

    /// A device's row and its first refresh token; with `only_ms` one that cannot be renewed and ends after it.
    async fn new_device(
        &self,
        user: &UserRow,
        fresh: DeviceId,
        name: &str,
        now: Millis,
        only_ms: Option<Millis>,
    ) -> Result<(DeviceRow, RefreshToken), ApiError> {
        for _ in 0..TRIES {
            let devices = self.users.devices(user.user).await.map_err(failed)?;
            let old = if devices.len() < DEVICES_MAX { None } else { devices.into_iter().min_by_key(|d| (alive(d, user, now), d.used)) };
            // Later than all that ended this user's or this row's earlier sessions, whatever the clock says.
            let at = now.max(user.tokens_after).max(old.as_ref().map_or(0, |d| d.used.max(d.created) + 1));
            let device = old.as_ref().map_or(fresh, |d| d.device);
            let token = RefreshToken::fresh(&self.tokens, user.user, device, at);
            let row = DeviceRow {
                user: user.user,
                device,
                name: name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect(),
                refresh: if only_ms.is_none() { token.hash() } else { [0; 32] },
                previous: [0; 32],
                expires: at.saturating_add(only_ms.unwrap_or(self.refresh_ttl_ms)),
                revoked: false,
                created: at,
                used: at,
            };
            if self.users.replace_device(old.as_ref(), row.clone()).await.map_err(failed)? {
                if old.is_some() {
                    (self.announce)(user.user, Some(device));
                }
                self.still(user, &row).await?;
                return Ok((row, token));
            }
        }
        Err(ApiError::new(Code::Unavailable, "the devices are being changed by others"))
    }

    /// After a device's row was written: ends it again if meanwhile something ended the account's sessions (a new password,
    /// say, while the old one was being checked), which a token issued by this node's clock might otherwise outlive.
    async fn still(&self, user: &UserRow, row: &DeviceRow) -> Result<(), ApiError> {
        let now = self.users.user(user.user).await.map_err(failed)?;
        if now.is_some_and(|n| !n.disabled && n.tokens_after == user.tokens_after) {
            return Ok(());
        }
        // Should another change of the row win here, it does the same check.
        self.revoke_row(row).await?;
        Err(revoked("the account's sessions were ended meanwhile; sign in again"))
    }

    /// Signs a device out, if its row is still this one; tells so. Its `expires` says from then on when that was.
    async fn revoke_row(&self, row: &DeviceRow) -> Result<bool, ApiError> {
        let ended = DeviceRow { revoked: true, refresh: [0; 32], previous: [0; 32], expires: super::now(), ..row.clone() };
        let done = self.users.replace_device(Some(row), ended).await.map_err(failed)?;
        if done {
            (self.announce)(row.user, Some(row.device));
        }
        Ok(done)
    }

    fn pair(&self, row: &DeviceRow, token: &RefreshToken, issued: Millis) -> Pair {
        let (access, access_expires) = self.tokens.issue(row.user, row.device, issued);
        Pair { device: row.device, access, access_expires, refresh: token.text(), refresh_expires: row.expires }
    }
}

/// Whether a device could still be signed in.
pub fn alive(device: &DeviceRow, user: &UserRow, now: Millis) -> bool {
    !device.revoked && device.used >= user.tokens_after && now < device.expires
}

/// What a refresh token is to its device's row.
enum Step {
    /// The valid one.
    Rotate,
    /// The one before, just rotated: its successor, which the row holds.
    Again(RefreshToken),
    /// Given out once, and over.
    Reused,
    /// Never given out.
    Unknown,
}

fn judge(row: &DeviceRow, token: &RefreshToken, tokens: &Tokens, now: Millis) -> Step {
    let hash = token.hash();
    if hash == row.refresh {
        return Step::Rotate;
    }
    let in_grace = hash == row.previous && now.saturating_sub(row.used) <= GRACE_MS;
    if in_grace && let Some(next) = token.successors(tokens).into_iter().find(|t| t.hash() == row.refresh) {
        return Step::Again(next);
    }
    if token.authentic(tokens) { Step::Reused } else { Step::Unknown }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
