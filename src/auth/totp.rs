//! The second factor: codes by time (TOTP, RFC 6238) from an app, and recovery codes for when it is lost.
//!
//! Guarantees: a code works once, also when it is used many times at once: the step of the last accepted one is remembered by
//! compare-and-set, and what is not later is refused. So does a recovery code, of which only the hash is kept. After [`FREE`] wrong codes
//! in a row each further one costs a pause that doubles, up to an hour, for the account and not the address; the count is kept with the
//! account, so that neither a restart nor many guesses at once get around it. The secret itself must be kept as it is to be of use.

use super::rows::Row;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, UserId};
use crate::storage::Records;
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use totp_rs::{Builder, Secret, Totp};

/// Recovery codes that are given out.
pub const RECOVERY_CODES: usize = 10;
/// Wrong codes in a row that cost no pause.
pub const FREE: u32 = 5;
/// The first pause, and the longest.
const PAUSE_MS: Millis = 30_000;
const PAUSE_MS_MAX: Millis = 3_600_000;
/// Letters of a recovery code: 16 of 31 are 79 bits, so that its hash needs no salt.
const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
const CODE_LETTERS: usize = 16;
const KIND: &str = "totp";

/// What an app needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetUp {
    /// The secret in base32, to type.
    pub secret: String,
    /// `otpauth://…`, to show as a QR code.
    pub uri: String,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    #[serde(with = "serde_bytes")]
    secret: Vec<u8>,
    /// A code was shown: from then on one is asked for.
    on: bool,
    /// The step of the last code that was accepted.
    last_step: u64,
    /// Hashes of the recovery codes that are left.
    recovery: Vec<[u8; 32]>,
    /// Wrong codes since the last right one.
    #[serde(default)]
    wrong: u32,
    /// No code counts before this.
    #[serde(default)]
    wait_until: Millis,
}

/// The second factors of all accounts.
#[derive(Clone)]
pub struct SecondFactor {
    store: Arc<dyn Records>,
    issuer: String,
}

fn wrong() -> ApiError {
    ApiError::new(Code::BadCredentials, "the code is wrong, or was used before")
}

fn row(user: UserId) -> Row {
    Row::of_account(user, KIND)
}

impl SecondFactor {
    /// Over a store; `issuer` is what apps show beside the account's name.
    pub fn new(store: Arc<dyn Records>, issuer: &str) -> SecondFactor {
        // A colon would end the issuer in the address.
        SecondFactor { store, issuer: issuer.replace(':', " ") }
    }

    /// Whether the account has one.
    pub async fn is_on(&self, user: UserId) -> Result<bool, ApiError> {
        Ok(row(user).read::<Kept>(&*self.store).await?.is_some_and(|k| k.on))
    }

    /// A fresh secret, which counts once a code of it was shown. `Conflict` when the account has one that counts.
    pub async fn begin(&self, user: UserId, name: &str) -> Result<SetUp, ApiError> {
        let secret = Secret::generate();
        let fresh = Kept { secret: secret.as_bytes().to_vec(), on: false, last_step: 0, recovery: Vec::new(), wrong: 0, wait_until: 0 };
        let step = |was: Option<Kept>| match was {
            Some(kept) if kept.on => Err(ApiError::new(Code::Conflict, "there is a second factor already; remove it first")),
            _ => Ok((Some(fresh.clone()), ())),
        };
        row(user).change(&*self.store, step).await?;
        let uri = Builder::new().with_secret(secret.clone()).with_account_name(name).with_issuer(Some(self.issuer.as_str()));
        let uri = uri.build().and_then(|totp| totp.to_url()).map_err(|error| {
            tracing::error!(%error, "an address for apps could not be made");
            ApiError::new(Code::Internal, "the second factor could not be set up")
        })?;
        Ok(SetUp { secret: secret.to_base32(), uri })
    }

    /// Makes the secret count, if this is a code of it. Returns the recovery codes, which are never shown again.
    pub async fn confirm(&self, user: UserId, code: &str, now: Millis) -> Result<Vec<String>, ApiError> {
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
        let step = |was: Option<Kept>| {
            let kept = was.filter(|k| !k.on).ok_or_else(|| ApiError::new(Code::Conflict, "no second factor is being set up"))?;
            let last_step = step_of(&kept.secret, code, now).ok_or_else(wrong)?;
            let recovery = codes.iter().map(|code| hash(&letters(code))).collect();
            Ok((Some(Kept { on: true, last_step, recovery, ..kept }), ()))
        };
        row(user).change(&*self.store, step).await?;
        Ok(codes)
    }

    /// Uses a code up: of the app, or a recovery code. An account without a second factor needs none.
    pub async fn check(&self, user: UserId, code: &str, now: Millis) -> Result<(), ApiError> {
        let step = |was: Option<Kept>| match was {
            Some(kept) if kept.on => {
                let (kept, verdict) = judge(kept, code, now);
                Ok((Some(kept), verdict))
            }
            other => Ok((other, Ok(()))),
        };
        row(user).change(&*self.store, step).await?
    }

    /// Takes it away.
    pub async fn remove(&self, user: UserId) -> Result<(), ApiError> {
        row(user).change(&*self.store, |_: Option<Kept>| Ok((None, ()))).await
    }
}

/// What a code does: the state after it, and whether it counts.
fn judge(kept: Kept, code: &str, now: Millis) -> (Kept, Result<(), ApiError>) {
    if now < kept.wait_until {
        let wait = Duration::from_millis(kept.wait_until - now);
        return (kept, Err(ApiError::after(Code::RateLimited, "too many wrong codes for this account", wait)));
    }
    let right = Kept { wrong: 0, wait_until: 0, ..kept.clone() };
    if let Some(step) = step_of(&kept.secret, code, now).filter(|step| *step > kept.last_step) {
        return (Kept { last_step: step, ..right }, Ok(()));
    }
    let hash = hash(&letters(code));
    if kept.recovery.contains(&hash) {
        let recovery = kept.recovery.iter().filter(|h| **h != hash).copied().collect();
        return (Kept { recovery, ..right }, Ok(()));
    }
    let count = kept.wrong.saturating_add(1);
    // A code that is free costs no pause, not even for another that is judged at once and came a moment before.
    let wait_until = match count.checked_sub(FREE) {
        None => 0,
        Some(over) => now + PAUSE_MS.saturating_mul(1 << over.min(16)).min(PAUSE_MS_MAX),
    };
    (Kept { wrong: count, wait_until, ..kept }, Err(wrong()))
}

/// The step that the code is of: the one now, the one before or the next.
fn step_of(secret: &[u8], code: &str, now: Millis) -> Option<u64> {
    let digits: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let plain = digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit());
    let totp: Totp = Builder::new().with_secret(secret.to_vec()).build_noncompliant();
    if plain { totp.check(&digits, now / 1000) } else { None }
}

fn recovery_code() -> String {
    let mut random = rand::rng();
    let letters: Vec<char> = (0..CODE_LETTERS).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect();
    letters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join("-")
}

/// A recovery code however it was typed.
fn letters(code: &str) -> String {
    code.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
}

fn hash(letters: &str) -> [u8; 32] {
    Sha256::digest(letters).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::tests::store;

    const T: Millis = 1_900_000_000_000;
    const ALICE: UserId = UserId(1);

    fn code(secret: &str, at: Millis) -> String {
        let secret = Secret::try_from_base32(secret).unwrap();
        Builder::new().with_secret(secret).build().unwrap().generate(at / 1000).to_string()
    }

    async fn with_factor() -> (SecondFactor, String, Vec<String>, tempfile::TempDir) {
        let (store, dir) = store();
        let factor = SecondFactor::new(store, "Hubbub");
        let set_up = factor.begin(ALICE, "alice").await.unwrap();
        assert!(set_up.uri.starts_with("otpauth://totp/Hubbub:alice?") && set_up.uri.contains(&set_up.secret), "{}", set_up.uri);
        assert!(!factor.is_on(ALICE).await.unwrap() && factor.check(ALICE, "", T).await.is_ok(), "not before a code was shown");
        assert!(factor.confirm(ALICE, "000000x", T).await.is_err());
        let codes = factor.confirm(ALICE, &code(&set_up.secret, T), T).await.unwrap();
        assert!(factor.is_on(ALICE).await.unwrap() && codes.len() == RECOVERY_CODES);
        (factor, set_up.secret, codes, dir)
    }

    #[actix_rt::test]
    async fn a_code_works_once_even_when_used_many_times_at_once() {
        let (factor, secret, codes, _dir) = with_factor().await;
        assert!(factor.check(ALICE, &code(&secret, T), T).await.is_err(), "the one that confirmed is used up");
        let next = code(&secret, T + 30_000);
        let all = futures_util::future::join_all((0..5).map(|_| factor.check(ALICE, &next, T + 30_000))).await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{all:?}");
        let all = futures_util::future::join_all((0..5).map(|_| factor.check(ALICE, &codes[3], T + 90_000))).await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{all:?}");
        let typed = format!(" {} ", codes[4].to_uppercase().replace('-', " "));
        assert!(factor.check(ALICE, &typed, T + 200_000).await.is_ok(), "however it is typed");
        assert_eq!(factor.begin(ALICE, "alice").await.unwrap_err().code, Code::Conflict);
        factor.remove(ALICE).await.unwrap();
        assert!(!factor.is_on(ALICE).await.unwrap());
    }

    #[actix_rt::test]
    async fn guessing_costs_pauses_that_double_also_when_many_guess_at_once() {
        let (factor, secret, _, _dir) = with_factor().await;
        let all = futures_util::future::join_all((0..20).map(|n| {
            let factor = factor.clone();
            async move { factor.check(ALICE, &format!("wrong-{n}"), T).await.unwrap_err().code }
        }))
        .await;
        assert_eq!(all.iter().filter(|c| **c == Code::BadCredentials).count(), FREE as usize, "{all:?}");
        // Now even the right one does not count.
        let right = code(&secret, T + 29_999);
        let refused = factor.check(ALICE, &right, T + 29_999).await.unwrap_err();
        assert_eq!((refused.code, refused.retry_after_ms), (Code::RateLimited, Some(1)));
        assert_eq!(factor.check(ALICE, "wrong", T + 30_000).await.unwrap_err().code, Code::BadCredentials);
        assert_eq!(factor.check(ALICE, "wrong", T + 30_001).await.unwrap_err().retry_after_ms, Some(59_999), "twice as long");
        let late = T + 90_000;
        assert!(factor.check(ALICE, &code(&secret, late), late).await.is_ok());
        assert_eq!(factor.check(ALICE, "wrong", late).await.unwrap_err().code, Code::BadCredentials, "a right one begins anew");
        assert_eq!(factor.check(ALICE, "wrong", late).await.unwrap_err().code, Code::BadCredentials);
    }

    #[test]
    fn guesses_that_are_free_are_judged_in_whatever_order_they_arrive() {
        let kept = Kept { secret: vec![1; 20], on: true, last_step: 0, recovery: Vec::new(), wrong: 0, wait_until: 0 };
        let later = judge(kept, "wrong", T + 1).0;
        assert_eq!(judge(later, "wrong", T).1.unwrap_err().code, Code::BadCredentials);
    }

    #[test]
    fn the_pause_has_an_end_and_nothing_overflows() {
        let kept = Kept { secret: vec![1; 20], on: true, last_step: 0, recovery: Vec::new(), wrong: u32::MAX, wait_until: 0 };
        let (after, _) = judge(kept, "wrong", T);
        assert_eq!((after.wait_until, after.wrong), (T + PAUSE_MS_MAX, u32::MAX));
    }
}
