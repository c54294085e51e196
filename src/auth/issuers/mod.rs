//! Tokens of other issuers: an embedder's own login signs its users in here.
//!
//! A token is accepted when an issuer of the configuration signed it for this deployment's audience and its time has come and is
//! not over. **Never** by algorithm `none`; never by an algorithm that the issuer's configuration does not list; never by one
//! that is not the key's own (an RSA key checks no HMAC). When an issuer has several keys a token must name one (`kid`). What a token's
//! header says of other keys (`jku`, `jwk`, `x5u`) is not looked at; what it says must be understood (`crit`) refuses it.
//! This module says who a token speaks for; which user that is is [`super::subjects`]' question.

use crate::config;
use crate::error::{ApiError, Code};
use crate::outbound::Outbound;
use crate::protocol::ids::Millis;
use base64::Engine;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde_json::{Map, Value};
use std::str::FromStr;
use std::sync::Arc;

mod jwks;
mod keys;

use jwks::Remote;
use keys::KeySet;

/// Bytes of a foreign token at most: group claims make some of them long.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// How far an issuer's clock may be ahead of ours. Nothing is added to the end of a token.
const AHEAD_MS_MAX: Millis = 30_000;
/// Bytes of a subject at most; a stored key holds it.
const SUBJECT_BYTES_MAX: usize = 256;
/// Bytes of a file with keys at most.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why an issuer of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("auth.issuers ({issuer}): {why}")]
pub struct IssuerError {
    /// Which.
    pub issuer: String,
    /// Why.
    pub why: String,
}

/// Who a token speaks for, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The issuer.
    pub issuer: String,
    /// Whom the issuer means.
    pub subject: String,
    /// The issuer's session, where it says one.
    pub session: Option<String>,
    /// When the token was made; in whole seconds.
    pub issued: Millis,
    /// It is accepted before this.
    pub expires: Millis,
    /// What the issuer says of the person.
    pub person: Person,
    /// Whether a user may be made of who comes for the first time.
    pub create: bool,
}

/// What is said of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Person {
    /// A wish for the account's name.
    pub name: Option<String>,
    /// The name to show.
    pub display_name: Option<String>,
    /// Where the picture is.
    pub avatar_url: Option<String>,
}

enum Keys {
    /// A secret, a key, or a file of keys: read at the start.
    Fixed(Arc<KeySet>),
    /// An address.
    Remote(Arc<Remote>),
}

struct Issuer {
    config: config::Issuer,
    algorithms: Vec<Algorithm>,
    keys: Keys,
}

/// The issuers. One per process, shared.
pub struct Issuers(Vec<Issuer>);

/// One answer to everything that is wrong with a token: what exactly is nobody's business but the log's.
fn refused(why: &'static str) -> ApiError {
    tracing::debug!(why, "a token of another issuer was refused");
    ApiError::new(Code::Unauthorized, "the access token is not accepted")
}

impl Issuers {
    /// As configured. Reads the files; addresses are asked when the first token comes.
    pub fn new(configs: &[config::Issuer], outbound: &Arc<Outbound>) -> Result<Issuers, IssuerError> {
        let one = |config: &config::Issuer| Issuer::new(config, outbound).map_err(|why| IssuerError { issuer: config.issuer.clone(), why });
        configs.iter().map(one).collect::<Result<_, _>>().map(Issuers)
    }

    /// The only issuer, when there is one.
    pub fn only(&self) -> Option<&str> {
        match &self.0[..] {
            [one] => Some(&one.config.issuer),
            _ => None,
        }
    }

    /// Whether an issuer of this name is configured.
    pub fn has(&self, issuer: &str) -> bool {
        self.0.iter().any(|i| i.config.issuer == issuer)
    }

    /// Who the token speaks for; `None` when it is of no issuer that is configured here (perhaps one of ours).
    pub async fn verify(&self, token: &str, now: Millis) -> Result<Option<Identity>, ApiError> {
        if self.0.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        // Nothing that was read before the signature was checked decides anything but which keys check it.
        let Some(named) = claimed_issuer(token) else { return Ok(None) };
        let Some(issuer) = self.0.iter().find(|i| i.config.issuer == named) else { return Ok(None) };
        issuer.verify(token, now).await.map(Some)
    }
}

/// The `iss` that a token's payload says, unchecked.
fn claimed_issuer(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let json = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Map<String, Value> = serde_json::from_slice(&json).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let fails = |e: std::io::Error| format!("{}: {e}", path.display());
    if std::fs::metadata(path).map_err(fails)?.len() > FILE_BYTES_MAX {
        return Err(format!("{}: larger than {FILE_BYTES_MAX} bytes", path.display()));
    }
    std::fs::read(path).map_err(fails)
}

impl Issuer {
    fn new(config: &config::Issuer, outbound: &Arc<Outbound>) -> Result<Issuer, String> {
        let algorithm = |name: &String| Algorithm::from_str(name).map_err(|_| format!("{name:?} is no algorithm that is known here"));
        let algorithms: Vec<Algorithm> = config.algorithms.iter().map(algorithm).collect::<Result<_, _>>()?;
        let keys = match config.source() {
            Some(config::KeySource::Secret) => {
                Keys::Fixed(Arc::new(KeySet::single(DecodingKey::from_secret(config.secret.as_bytes()), &algorithms)?))
            }
            Some(config::KeySource::PublicKey) => Keys::Fixed(Arc::new(KeySet::pem(&read(&config.public_key_file)?, &algorithms)?)),
            Some(config::KeySource::JwksFile) => Keys::Fixed(Arc::new(KeySet::jwks(&read(&config.jwks_file)?, &algorithms)?)),
            Some(config::KeySource::JwksUrl) => Keys::Remote(Arc::new(Remote::new(config, &algorithms, outbound.clone())?)),
            None => return Err("needs exactly one of secret, public_key_file, jwks_file, jwks_url".into()),
        };
        Ok(Issuer { config: config.clone(), algorithms, keys })
    }

    async fn verify(&self, token: &str, now: Millis) -> Result<Identity, ApiError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| refused("its header"))?;
        if !self.algorithms.contains(&header.alg) || !understood(&header) {
            return Err(refused("its header"));
        }
        let key = match &self.keys {
            Keys::Fixed(set) => set.pick(header.kid.as_deref(), header.alg).ok_or_else(|| refused("its key"))?,
            Keys::Remote(remote) => remote.pick(header.kid.as_deref(), header.alg).await?.ok_or_else(|| refused("its key"))?,
        };
        let mut rules = Validation::new(header.alg);
        rules.set_issuer(&[&self.config.issuer]);
        rules.set_audience(&[&self.config.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        // The times are judged below, by the caller's clock.
        rules.validate_exp = false;
        let read = |key: &DecodingKey| jsonwebtoken::decode::<Map<String, Value>>(token, key, &rules);
        let claims = match (read(&key), &self.keys) {
            (Ok(claims), _) => claims,
            // The key was not found by a name, so it may be an older one than the token's.
            (Err(e), Keys::Remote(remote)) if *e.kind() == ErrorKind::InvalidSignature && !remote.knows(header.kid.as_deref()) => {
                let newer = remote.newer(header.kid.as_deref(), header.alg).await?.ok_or_else(|| refused("its key"))?;
                read(&newer).map_err(|_| refused("its signature or claims"))?
            }
            (Err(_), _) => return Err(refused("its signature or claims")),
        };
        self.identity(&claims.claims, now)
    }

    fn identity(&self, claims: &Map<String, Value>, now: Millis) -> Result<Identity, ApiError> {
        let text = |claim: &str| claims.get(claim).and_then(plain).filter(|text| !text.is_empty());
        let expires = time(claims, "exp").ok_or_else(|| refused("no exp"))?;
        // Without it a revocation could not tell old from new.
        let issued = time(claims, "iat").ok_or_else(|| refused("no iat"))?;
        let begins = time(claims, "nbf").unwrap_or(0);
        if issued > now + AHEAD_MS_MAX || begins > now + AHEAD_MS_MAX || expires <= issued {
            return Err(refused("its times"));
        }
        if now >= expires && !crate::sabotage::is("accept_expired") {
            return Err(ApiError::new(Code::TokenExpired, "the access token's time is over; get a new one from its issuer"));
        }
        let config = &self.config;
        let subject = text(&config.subject_claim).filter(|s| s.len() <= SUBJECT_BYTES_MAX).ok_or_else(|| refused("its subject"))?;
        let person = Person {
            name: text(&config.name_claim),
            display_name: text(&config.display_name_claim),
            avatar_url: text(&config.avatar_claim),
        };
        Ok(Identity {
            issuer: config.issuer.clone(),
            subject,
            session: text(&config.session_claim),
            issued: issued.min(now),
            expires,
            person,
            create: config.create_users,
        })
    }
}

/// A claim as text: what issuers have for ids and names.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
        _ => None,
    }
}

/// A time (RFC 7519: seconds, perhaps with a fraction).
fn time(claims: &Map<String, Value>, claim: &str) -> Option<Millis> {
    let seconds = claims.get(claim)?.as_f64().filter(|s| (0.0..1e11).contains(s))?;
    Some((seconds * 1000.0) as Millis)
}

/// Whether a header asks for nothing that is not done here, and is of a token that speaks for somebody.
fn understood(header: &Header) -> bool {
    let kind = header.typ.as_deref().map(str::to_ascii_lowercase);
    let fits = matches!(kind.as_deref(), None | Some("jwt" | "at+jwt" | "application/at+jwt"));
    fits && header.crit.is_none() && header.enc.is_none() && header.zip.is_none()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
