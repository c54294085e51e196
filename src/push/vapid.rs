//! VAPID (RFC 8292): how a push service knows this server. One P-256 key, made into the data directory at the first start.
//!
//! Subscriptions are bound to the public key: with another one browsers must subscribe anew. A token names the push service's
//! origin with its port, lives [`TOKEN_TTL`], and is used again until half of that is over.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use url::Url;
use web_push_native::p256::SecretKey;
use web_push_native::p256::elliptic_curve::sec1::ToEncodedPoint;
use web_push_native::p256::pkcs8::EncodePrivateKey;

/// How long a token is valid: services refuse more than a day.
pub const TOKEN_TTL: Duration = Duration::from_secs(12 * 3600);
/// Push services whose tokens are kept.
const TOKENS_MAX: usize = 256;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not a secret of P-256.
    #[error("not 32 bytes of a P-256 secret in hex")]
    Secret,
    /// It cannot sign.
    #[error("cannot be used for signing: {0}")]
    Signing(String),
}

/// The key, and tokens signed with it.
pub struct Key {
    signing: EncodingKey,
    public: String,
    /// Whom a push service may write to about this server: a `mailto:` or `https:` address.
    contact: Option<String>,
    tokens: Mutex<HashMap<String, (String, Instant)>>,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
}

impl Key {
    /// From its secret, in hex.
    pub fn new(secret: &str, contact: &str) -> Result<Key, KeyError> {
        let bytes = hex::decode(secret).map_err(|_| KeyError::Secret)?;
        let secret = SecretKey::from_slice(&bytes).map_err(|_| KeyError::Secret)?;
        let der = secret.to_pkcs8_der().map_err(|e| KeyError::Signing(e.to_string()))?;
        Ok(Key {
            signing: EncodingKey::from_ec_der(der.as_bytes()),
            public: URL_SAFE_NO_PAD.encode(secret.public_key().to_encoded_point(false).as_bytes()),
            contact: (!contact.is_empty()).then(|| contact.to_owned()),
            tokens: Mutex::default(),
        })
    }

    /// The public key as browsers want it (`applicationServerKey`): an uncompressed point, base64url.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The `Authorization` of a request to that push service.
    pub fn authorization(&self, endpoint: &Url) -> Result<String, KeyError> {
        // Without the port where it is the scheme's own, with it elsewhere.
        let origin = endpoint.origin().ascii_serialization();
        let fresh = |made: &Instant| made.elapsed() < TOKEN_TTL / 2;
        if let Some((text, made)) = self.tokens.lock().get(&origin)
            && fresh(made)
        {
            return Ok(text.clone());
        }
        let now = crate::clock::now_ms() / 1000;
        let claims = Claims { aud: &origin, exp: now + TOKEN_TTL.as_secs(), sub: self.contact.as_deref() };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signing);
        let token = token.map_err(|e| KeyError::Signing(e.to_string()))?;
        let text = format!("vapid t={token}, k={}", self.public);
        let mut tokens = self.tokens.lock();
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, (_, made)| fresh(made));
            if tokens.len() >= TOKENS_MAX {
                tokens.clear();
            }
        }
        tokens.insert(origin, (text.clone(), Instant::now()));
        Ok(text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::Value;

    const SECRET: &str = "4530f559d5968d3a91d9d8d0fa3a5d9a1c0a5dfe6b7f1c3f5a0e1d2c3b4a5968";

    #[test]
    fn a_token_names_the_origin_with_its_port_and_is_verified_by_the_public_key() {
        let key = Key::new(SECRET, "mailto:ops@example.org").unwrap();
        let point = URL_SAFE_NO_PAD.decode(key.public()).unwrap();
        assert_eq!((point.len(), point[0]), (65, 4));
        let verifier = DecodingKey::from_ec_components(&URL_SAFE_NO_PAD.encode(&point[1..33]), &URL_SAFE_NO_PAD.encode(&point[33..]));
        for (endpoint, origin) in [
            ("https://push.example.org/send/abc?x=1", "https://push.example.org"),
            ("https://push.example.org:8443/send/abc", "https://push.example.org:8443"),
        ] {
            let text = key.authorization(&endpoint.parse().unwrap()).unwrap();
            let (token, public) = text.strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
            assert_eq!(public, key.public());
            let mut rules = Validation::new(Algorithm::ES256);
            rules.set_audience(&[origin]);
            let claims = jsonwebtoken::decode::<Value>(token, verifier.as_ref().unwrap(), &rules).unwrap().claims;
            assert_eq!(claims["sub"], "mailto:ops@example.org");
            let now = crate::clock::now_ms() / 1000;
            assert!((now + 1..=now + 24 * 3600).contains(&claims["exp"].as_u64().unwrap()));
            assert_eq!(key.authorization(&endpoint.parse().unwrap()).unwrap(), text, "it is used again");
        }
    }

    #[test]
    fn what_is_no_secret_of_the_curve_is_refused() {
        for bad in ["", "00", "zz", &"0".repeat(64), &"f".repeat(64)] {
            assert!(matches!(Key::new(bad, ""), Err(KeyError::Secret)), "{bad}");
        }
    }
}
