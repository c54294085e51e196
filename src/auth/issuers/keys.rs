//! An issuer's keys: which there are, and which of them may check a token.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use std::str::FromStr;

/// Keys of one set at most; further ones are not looked at.
const KEYS_MAX: usize = 64;

struct Key {
    id: Option<String>,
    /// By which it checks: the key's own, as far as the issuer's configuration lists them.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys as they are at one moment.
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// One key without a name.
    pub(super) fn single(key: DecodingKey, allowed: &[Algorithm]) -> Result<KeySet, String> {
        let algorithms: Vec<Algorithm> = allowed.iter().copied().filter(|a| a.family() == key.family()).collect();
        if algorithms.len() != allowed.len() {
            return Err("algorithms lists one that is not the key's".into());
        }
        Ok(KeySet(vec![Key { id: None, algorithms, key }]))
    }

    /// A public key (or certificate) as PEM.
    pub(super) fn pem(pem: &[u8], allowed: &[Algorithm]) -> Result<KeySet, String> {
        let key = match allowed.first().map(|a| a.family()) {
            Some(AlgorithmFamily::Rsa) => DecodingKey::from_rsa_pem(pem),
            Some(AlgorithmFamily::Ec) => DecodingKey::from_ec_pem(pem),
            Some(AlgorithmFamily::Ed) => DecodingKey::from_ed_pem(pem),
            _ => return Err("a public key checks no HS… algorithm".into()),
        };
        KeySet::single(key.map_err(|e| format!("public_key_file: not a public key of that kind: {e}"))?, allowed)
    }

    /// A JWK set (RFC 7517). Keys that are for something else are passed over, secrets among them.
    pub(super) fn jwks(json: &[u8], allowed: &[Algorithm]) -> Result<KeySet, String> {
        let set: serde_json::Value = serde_json::from_slice(json).map_err(|_| "not JSON".to_owned())?;
        let keys = set.get("keys").and_then(|keys| keys.as_array()).ok_or("not a JWK set: no list \"keys\"")?;
        // One by one: a key of a kind that is not known here must not hide the others.
        let known = keys.iter().take(KEYS_MAX).filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
        let usable: Vec<Key> = known.filter_map(|jwk| usable(&jwk, allowed)).collect();
        if usable.is_empty() { Err("there is no key in the set that checks by a listed algorithm".into()) } else { Ok(KeySet(usable)) }
    }

    /// The key that checks a token with this header. A token that names none is for the only key, if there is only one.
    pub(super) fn pick(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let key = match (id, &self.0[..]) {
            (_, [only]) if only.id.is_none() => only,
            (None, [only]) => only,
            (None, _) => return None,
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id) && key.algorithms.contains(&algorithm))?,
        };
        key.algorithms.contains(&algorithm).then(|| key.key.clone())
    }

    /// Whether a key of exactly this name is there.
    pub(super) fn names(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Whether a key is there that may be meant.
    pub(super) fn has(&self, id: Option<&str>) -> bool {
        id.is_none() || self.0.iter().any(|key| key.id.is_none() || key.id.as_deref() == id)
    }
}

fn usable(jwk: &Jwk, allowed: &[Algorithm]) -> Option<Key> {
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
    let checks = jwk.common.key_operations.as_ref().is_none_or(|ops| ops.contains(&KeyOperations::Verify));
    let own: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms(),
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        // A secret in a set of public keys is a mistake of somebody, and known to everybody.
        _ => &[],
    };
    let said = match &jwk.common.key_algorithm {
        None => None,
        Some(name) => Some(Algorithm::from_str(&name.to_string()).ok()?),
    };
    let algorithms: Vec<Algorithm> = own.iter().copied().filter(|a| allowed.contains(a) && said.is_none_or(|said| said == *a)).collect();
    if !signs || !checks || algorithms.is_empty() {
        return None;
    }
    Some(Key { id: jwk.common.key_id.clone(), algorithms, key: DecodingKey::from_jwk(jwk).ok()? })
}
