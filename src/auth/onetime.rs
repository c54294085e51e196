//! One-time tokens: what a link in a mail carries. 256 random bits, kept as a hash, good for one use before their time is over.
//!
//! The use is a removal by compare-and-set: of many at once, one succeeds. An account has at most [`OPEN_MAX`] open ones; a further one
//! takes the place of the oldest, so that asking without end fills nothing. A token to reset a password is void once anything else has ended
//! the account's sessions (a new password above all).

use super::failed;
use super::rows::Row;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, UserId};
use crate::storage::{Records, Table, UserRow};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Open tokens of an account.
pub const OPEN_MAX: usize = 8;
const PREFIX: &str = "hbo_";
const KIND: &str = "one_time";

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To choose a new password.
    ResetPassword,
    /// To have this address.
    VerifyEmail(String),
}

/// What a token stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// Whose it is.
    pub user: UserId,
    /// What for.
    pub purpose: Purpose,
    /// The account's `tokens_after` when it was given out.
    pub tokens_after: Millis,
    expires: Millis,
}

/// The tokens.
#[derive(Clone)]
pub struct OneTime(Arc<dyn Records>);

/// The one answer to a token that was never given out, was used, or is over.
pub(super) fn no_such_link() -> ApiError {
    ApiError::new(Code::Invalid, "this link does not work, or no longer; ask for a new one")
}

type Hash = [u8; 32];

fn row(hash: &Hash) -> Row {
    Row::only(Table::OneTime, hash)
}

fn hash(text: &str) -> Result<Hash, ApiError> {
    let bytes = text.strip_prefix(PREFIX).filter(|t| t.len() <= 64).and_then(|t| BASE64.decode(t).ok());
    bytes.filter(|b| b.len() == 32).map(|b| Sha256::digest(b).into()).ok_or_else(no_such_link)
}

impl OneTime {
    /// Over a store.
    pub fn new(store: Arc<dyn Records>) -> OneTime {
        OneTime(store)
    }

    /// A fresh token.
    pub async fn issue(&self, user: &UserRow, purpose: Purpose, ttl_ms: Millis, now: Millis) -> Result<String, ApiError> {
        let secret: [u8; 32] = rand::random();
        let hash: Hash = Sha256::digest(secret).into();
        let allowed = Allowed { user: user.user, purpose, tokens_after: user.tokens_after, expires: now.saturating_add(ttl_ms) };
        // First into the account's list: one that is only there is harmless, one that is in no list would stay for ever.
        let over = self.enlist(user.user, hash).await?;
        for old in over {
            row(&old).remove(&*self.0).await?;
        }
        row(&hash).change(&*self.0, |_: Option<Allowed>| Ok((Some(allowed.clone()), ()))).await?;
        Ok(format!("{PREFIX}{}", BASE64.encode(secret)))
    }

    /// Puts it into the list of the account's open ones; returns those that had to make room.
    async fn enlist(&self, user: UserId, hash: Hash) -> Result<Vec<Hash>, ApiError> {
        let step = |was: Option<Vec<Hash>>| {
            let mut open = was.unwrap_or_default();
            open.push(hash);
            let over: Vec<Hash> = open.drain(..open.len().saturating_sub(OPEN_MAX)).collect();
            Ok((Some(open), over))
        };
        Row::of_account(user, KIND).change(&*self.0, step).await
    }

    /// What the token allows, without using it up.
    pub async fn look(&self, text: &str, now: Millis) -> Result<Allowed, ApiError> {
        let allowed = row(&hash(text)?).read::<Allowed>(&*self.0).await?;
        allowed.filter(|a| now < a.expires).ok_or_else(no_such_link)
    }

    /// Uses the token up. Of many who do so at once, one gets what it allows.
    pub async fn redeem(&self, text: &str, now: Millis) -> Result<Allowed, ApiError> {
        let hash = hash(text)?;
        // Whoever is second finds nothing to take.
        let take = |was: Option<Allowed>| Ok((None, was));
        let taken = row(&hash).change(&*self.0, take).await?.filter(|a| now < a.expires).ok_or_else(no_such_link)?;
        let strike = |was: Option<Vec<Hash>>| {
            let open: Vec<Hash> = was.unwrap_or_default().into_iter().filter(|h| *h != hash).collect();
            Ok(((!open.is_empty()).then_some(open), ()))
        };
        Row::of_account(taken.user, KIND).change(&*self.0, strike).await?;
        Ok(taken)
    }

    /// Removes all of an account's.
    pub async fn forget(&self, user: UserId) -> Result<(), ApiError> {
        let list = Row::of_account(user, KIND);
        for hash in list.read::<Vec<Hash>>(&*self.0).await?.unwrap_or_default() {
            row(&hash).remove(&*self.0).await?;
        }
        list.remove(&*self.0).await.map(drop)
    }

    /// Open ones of an account, expired or not.
    pub async fn open(&self, user: UserId) -> Result<usize, ApiError> {
        let list: Vec<Hash> = Row::of_account(user, KIND).read(&*self.0).await?.unwrap_or_default();
        let mut open = 0;
        for hash in list {
            open += usize::from(self.0.record(Table::OneTime, &hash, &[]).await.map_err(failed)?.is_some());
        }
        Ok(open)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::tests::{account, store};

    const T: Millis = 1_900_000_000_000;

    #[actix_rt::test]
    async fn a_token_works_once_even_when_used_many_times_at_once() {
        let (store, _dir) = store();
        let tokens = OneTime::new(store.clone());
        let token = tokens.issue(&account(1), Purpose::ResetPassword, 1_000, T).await.unwrap();
        assert_eq!(tokens.look(&token, T).await.unwrap().user, UserId(1), "looking uses nothing up");
        let all = futures_util::future::join_all((0..8).map(|_| tokens.redeem(&token, T))).await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1);
        assert_eq!(tokens.redeem(&token, T).await.unwrap_err().code, Code::Invalid);
        assert_eq!(tokens.open(UserId(1)).await.unwrap(), 0);
    }

    #[actix_rt::test]
    async fn a_token_has_an_end_and_a_form_and_the_store_has_none() {
        let (store, _dir) = store();
        let tokens = OneTime::new(store.clone());
        let token = tokens.issue(&account(1), Purpose::VerifyEmail("a@b".into()), 1_000, T).await.unwrap();
        for bad in ["", "hbo_", &token[4..], &token[..token.len() - 1], &format!("{token}A"), &token.replace("hbo_", "hbr_")] {
            assert!(tokens.look(bad, T).await.is_err() && tokens.redeem(bad, T).await.is_err(), "{bad:?}");
        }
        assert!(tokens.look(&token, T + 999).await.is_ok());
        assert!(tokens.look(&token, T + 1_000).await.is_err() && tokens.redeem(&token, T + 1_000).await.is_err());
    }

    #[actix_rt::test]
    async fn asking_without_end_fills_nothing() {
        let (store, _dir) = store();
        let tokens = OneTime::new(store.clone());
        let first = tokens.issue(&account(1), Purpose::ResetPassword, 1_000, T).await.unwrap();
        for _ in 0..OPEN_MAX + 3 {
            tokens.issue(&account(1), Purpose::ResetPassword, 1_000, T).await.unwrap();
        }
        assert_eq!(tokens.open(UserId(1)).await.unwrap(), OPEN_MAX);
        assert!(tokens.look(&first, T).await.is_err(), "the oldest made room");
        tokens.forget(UserId(1)).await.unwrap();
        assert_eq!(tokens.open(UserId(1)).await.unwrap(), 0);
    }
}
