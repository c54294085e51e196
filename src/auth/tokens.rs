//! Access tokens: JWTs (RFC 7519) signed with HS256. Pure: a key ring, the time as an argument, no store.
//!
//! Exactly one form is accepted: three parts, at most 4 KiB, header `alg` HS256 with a `kid` of the ring and none of the
//! header fields that change what a signature means, and every claim below with its own type. Whether the account and the device still may use
//! it is [`super::sessions::Sessions::check_live`]'s question. The ring may be replaced while tokens are made and judged
//! ([`Tokens::replace`]): a key that no longer signs is accepted until its time is over, so that a rotation logs nobody out.

use crate::config;
use crate::config::keys::SigningKey;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of a token at most; ours have about 250.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Bytes of a secret at least: as many as the hash has (RFC 7518, 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// Why the keys of the configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Too little to be secret.
    #[error("the secret of token key {0:?} has fewer than 32 bytes")]
    Short(String),
    /// One id, two secrets: no token could say which it means.
    #[error("there are two token keys with the id {0:?}")]
    Twice(String),
    /// Not `key id:secret`.
    #[error("auth.retired_keys[{0}] is not of the form \"key id:secret\"")]
    Form(usize),
}

/// Who a token speaks for, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user.
    pub user: UserId,
    /// The device that signed in.
    pub device: DeviceId,
    /// When the token was made.
    pub issued: Millis,
    /// It is accepted before this and not at or after it.
    pub expires: Millis,
}

/// Claims as they stand in a token. `iat` and `exp` are whole seconds; `iat_ms` is `iat` as exact as revocation needs it.
#[derive(Serialize, Deserialize)]
struct Wire {
    iss: String,
    sub: UserId,
    dev: DeviceId,
    iat: u64,
    iat_ms: Millis,
    exp: u64,
}

struct Key {
    id: String,
    sign: EncodingKey,
    check: DecodingKey,
    /// Until when its tokens are accepted.
    until: Option<Millis>,
}

/// The keys as they are at one moment: the first signs, all are accepted until their time is over.
#[derive(Clone)]
pub(super) struct Ring(Arc<[Key]>);

/// The key ring.
pub struct Tokens {
    ring: RwLock<Ring>,
    issuer: String,
    ttl_ms: Millis,
}

impl Tokens {
    /// A ring of the secret, under the configured id, and the retired keys.
    pub fn new(secret: &[u8], config: &config::Auth) -> Result<Tokens, KeyError> {
        let retired = config.retired_keys.iter().enumerate();
        let retired = retired.map(|(n, key)| key.split_once(':').map(|(id, s)| (id, s.as_bytes(), None)).ok_or(KeyError::Form(n)));
        let keys: Vec<_> = std::iter::once(Ok((config.key_id.as_str(), secret, None))).chain(retired).collect::<Result<_, _>>()?;
        Ok(Tokens::with(Ring::of(&keys)?, config))
    }

    /// A ring of these keys, the first of which signs.
    pub fn of(keys: &[SigningKey], config: &config::Auth) -> Result<Tokens, KeyError> {
        Ok(Tokens::with(Ring::of(&plain_keys(keys))?, config))
    }

    fn with(ring: Ring, config: &config::Auth) -> Tokens {
        Tokens { ring: RwLock::new(ring), issuer: config.issuer.clone(), ttl_ms: config.access_ttl_s.max(1).saturating_mul(1000) }
    }

    /// Signs with the first of these keys from now on, and accepts only these.
    pub fn replace(&self, keys: &[SigningKey]) -> Result<(), KeyError> {
        *self.ring.write() = Ring::of(&plain_keys(keys))?;
        Ok(())
    }

    pub(super) fn ring(&self) -> Ring {
        self.ring.read().clone()
    }

    /// A token with the configured life, and when it ends.
    pub fn issue(&self, user: UserId, device: DeviceId, now: Millis) -> (String, Millis) {
        self.issue_for(user, device, now, self.ttl_ms)
    }

    /// A token that lives `ttl_ms` (down to whole seconds, at least one), and when it ends.
    pub fn issue_for(&self, user: UserId, device: DeviceId, now: Millis, ttl_ms: Millis) -> (String, Millis) {
        let ring = self.ring();
        let key = &ring.0[0];
        let exp = (now.saturating_add(ttl_ms) / 1000).max(now / 1000 + 1);
        let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::HS256) };
        let wire = Wire { iss: self.issuer.clone(), sub: user, dev: device, iat: now / 1000, iat_ms: now, exp };
        let token = jsonwebtoken::encode(&header, &wire, &key.sign).expect("an HMAC key signs, and claims of plain types are JSON");
        (token, exp * 1000)
    }

    /// What the token says, if this ring signed it and its time is not over: `TokenExpired` for a good token that is over
    /// (a new one helps), `Unauthorized` for everything else.
    pub fn verify(&self, token: &str, now: Millis) -> Result<Claims, ApiError> {
        let claims = self.read(token, now).ok_or_else(|| ApiError::new(Code::Unauthorized, "the access token is not accepted"))?;
        if now >= claims.expires && !crate::sabotage::is("accept_expired") {
            return Err(ApiError::new(Code::TokenExpired, "the access token's time is over; refresh it"));
        }
        Ok(claims)
    }

    fn read(&self, token: &str, now: Millis) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX || token.bytes().filter(|&b| b == b'.').count() != 2 {
            return None;
        }
        let header = jsonwebtoken::decode_header(token).ok().filter(plain)?;
        let ring = self.ring();
        let key = ring.0.iter().find(|k| header.kid.as_deref() == Some(&k.id) && k.until.is_none_or(|until| now < until))?;
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[&self.issuer]);
        rules.set_required_spec_claims(&["exp", "iss", "sub"]);
        // The time is judged by the caller's clock and without leeway.
        rules.validate_exp = false;
        let wire = jsonwebtoken::decode::<Wire>(token, &key.check, &rules).ok()?.claims;
        let ids = wire.sub.0 != 0 && wire.dev.0 != 0;
        let times = wire.iat_ms / 1000 == wire.iat && wire.exp > wire.iat;
        let claims = Claims { user: wire.sub, device: wire.dev, issued: wire.iat_ms, expires: wire.exp.checked_mul(1000)? };
        (ids && times).then_some(claims)
    }
}

fn plain_keys(keys: &[SigningKey]) -> Vec<(&str, &[u8], Option<Millis>)> {
    keys.iter().map(|key| (key.id.as_str(), key.secret.expose().as_bytes(), key.until)).collect()
}

impl Ring {
    fn of(keys: &[(&str, &[u8], Option<Millis>)]) -> Result<Ring, KeyError> {
        for (n, (id, secret, _)) in keys.iter().enumerate() {
            if secret.len() < SECRET_BYTES_MIN {
                return Err(KeyError::Short((*id).into()));
            }
            if keys[..n].iter().any(|(other, ..)| other == id) {
                return Err(KeyError::Twice((*id).into()));
            }
        }
        let key = |&(id, secret, until): &(&str, &[u8], Option<Millis>)| Key {
            id: id.into(),
            sign: EncodingKey::from_secret(secret),
            check: DecodingKey::from_secret(secret),
            until,
        };
        if keys.is_empty() { Err(KeyError::Short(String::new())) } else { Ok(Ring(keys.iter().map(key).collect())) }
    }

    /// HMAC-SHA256 of a message for another purpose than a token, under each key, the signing one first. `purpose` keeps
    /// the uses apart; no token's signing input begins with one (they begin with base64).
    pub(super) fn macs<'a>(&'a self, purpose: &'a str, message: &'a [u8]) -> impl Iterator<Item = [u8; 32]> + 'a {
        self.0.iter().map(move |key| {
            use base64::Engine;
            let input = [b"hubbub ", purpose.as_bytes(), b"\0", message].concat();
            let text = jsonwebtoken::crypto::sign(&input, &key.sign, Algorithm::HS256).expect("an HMAC key signs");
            let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).expect("the signer encodes with this alphabet");
            bytes.try_into().expect("HMAC-SHA256 has 32 bytes")
        })
    }
}

/// Whether a header has only fields that our tokens have: none that names a key elsewhere, compresses, or must be understood.
fn plain(h: &Header) -> bool {
    let foreign = h.cty.is_some() || h.jku.is_some() || h.jwk.is_some() || h.x5u.is_some() || h.x5c.is_some() || h.x5t.is_some();
    let more = h.x5t_s256.is_some() || h.crit.is_some() || h.enc.is_some() || h.zip.is_some() || h.url.is_some() || h.nonce.is_some();
    h.alg == Algorithm::HS256 && h.typ.as_deref().is_none_or(|t| t == "JWT") && !foreign && !more && h.extras.inner().is_empty()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
