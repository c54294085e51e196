//! Which tokens are accepted: by key, algorithm, audience and time. The keys at an address are proven in tests/it/embedding.rs.

use super::*;
use jsonwebtoken::EncodingKey;
use serde_json::json;

const RSA: &[u8] = include_bytes!("../../../tests/keys/rsa-1.pem");
const OTHER_RSA: &[u8] = include_bytes!("../../../tests/keys/rsa-2.pem");
const ED: &[u8] = include_bytes!("../../../tests/keys/ed25519.pem");
const RSA_PUBLIC: &str = include_str!("../../../tests/keys/rsa-1.pub.pem");
const NOW: Millis = 1_900_000_000_000;
const ISSUER: &str = "https://login.example";

fn jwks(keys: &[(&str, &EncodingKey, Algorithm)]) -> String {
    let key = |(id, key, algorithm): &(&str, &EncodingKey, Algorithm)| {
        let mut jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(key, *algorithm).unwrap();
        jwk.common.key_id = Some((*id).into());
        serde_json::to_value(jwk).unwrap()
    };
    json!({ "keys": keys.iter().map(key).collect::<Vec<_>>() }).to_string()
}

struct World {
    issuers: Issuers,
    _dir: tempfile::TempDir,
}

fn world(change: impl FnOnce(&mut config::Issuer, &std::path::Path)) -> Result<World, IssuerError> {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config::Issuer { issuer: ISSUER.into(), audience: "chat".into(), ..Default::default() };
    change(&mut config, dir.path());
    let outbound = Arc::new(Outbound::new(&config::Outbound::default()).unwrap());
    Ok(World { issuers: Issuers::new(&[config], &outbound)?, _dir: dir })
}

fn with_jwks(keys: &[(&str, &EncodingKey, Algorithm)]) -> World {
    let set = jwks(keys);
    world(|config, dir| {
        config.jwks_file = dir.join("jwks.json");
        config.algorithms = vec!["RS256".into(), "EdDSA".into()];
        std::fs::write(&config.jwks_file, set).unwrap();
    })
    .unwrap()
}

fn claims() -> Value {
    let now = NOW / 1000;
    json!({ "iss": ISSUER, "aud": "chat", "sub": "42", "iat": now - 10, "exp": now + 60, "preferred_username": "Alice", "sid": 7 })
}

fn token(key: &EncodingKey, algorithm: Algorithm, id: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

async fn code(world: &World, token: &str) -> Result<Option<Identity>, Code> {
    world.issuers.verify(token, NOW).await.map_err(|e| e.code)
}

#[actix_rt::test]
async fn a_good_token_says_who_somebody_is() {
    let (rsa, ed) = (EncodingKey::from_rsa_pem(RSA).unwrap(), EncodingKey::from_ed_pem(ED).unwrap());
    let w = with_jwks(&[("a", &rsa, Algorithm::RS256), ("b", &ed, Algorithm::EdDSA)]);
    for (key, algorithm, id) in [(&rsa, Algorithm::RS256, "a"), (&ed, Algorithm::EdDSA, "b")] {
        let identity = code(&w, &token(key, algorithm, Some(id), &claims())).await.unwrap().unwrap();
        assert_eq!((identity.subject.as_str(), identity.session.as_deref()), ("42", Some("7")));
        assert_eq!((identity.issued, identity.expires), (NOW - 10_000, NOW + 60_000));
        assert_eq!(identity.person.name.as_deref(), Some("Alice"));
    }
}

#[actix_rt::test]
async fn a_token_by_another_key_algorithm_audience_or_time_is_refused() {
    let (rsa, other) = (EncodingKey::from_rsa_pem(RSA).unwrap(), EncodingKey::from_rsa_pem(OTHER_RSA).unwrap());
    let ed = EncodingKey::from_ed_pem(ED).unwrap();
    let w = with_jwks(&[("a", &rsa, Algorithm::RS256), ("b", &ed, Algorithm::EdDSA)]);
    let with = |claim: &str, value: Value| {
        let mut all = claims();
        all[claim] = value;
        all
    };
    let (rs, now) = (Algorithm::RS256, NOW / 1000);
    for (what, token, expected) in [
        ("no kid, two keys", token(&rsa, rs, None, &claims()), Code::Unauthorized),
        ("unknown kid", token(&rsa, rs, Some("c"), &claims()), Code::Unauthorized),
        ("another's key", token(&other, rs, Some("a"), &claims()), Code::Unauthorized),
        ("another key's kid", token(&ed, Algorithm::EdDSA, Some("a"), &claims()), Code::Unauthorized),
        ("not listed", token(&rsa, Algorithm::RS512, Some("a"), &claims()), Code::Unauthorized),
        ("audience", token(&rsa, rs, Some("a"), &with("aud", json!("shop"))), Code::Unauthorized),
        ("no audience", token(&rsa, rs, Some("a"), &with("aud", Value::Null)), Code::Unauthorized),
        ("no subject", token(&rsa, rs, Some("a"), &with("sub", json!(""))), Code::Unauthorized),
        ("no iat", token(&rsa, rs, Some("a"), &with("iat", Value::Null)), Code::Unauthorized),
        ("from the future", token(&rsa, rs, Some("a"), &with("iat", json!(now + 40))), Code::Unauthorized),
        ("not yet", token(&rsa, rs, Some("a"), &with("nbf", json!(now + 40))), Code::Unauthorized),
        ("no exp", token(&rsa, rs, Some("a"), &with("exp", Value::Null)), Code::Unauthorized),
        ("over", token(&rsa, rs, Some("a"), &with("exp", json!(now))), Code::TokenExpired),
    ] {
        assert_eq!(code(&w, &token).await.unwrap_err(), expected, "{what}");
    }
    let several = with("aud", json!(["shop", "chat"]));
    assert!(code(&w, &token(&rsa, rs, Some("a"), &several)).await.unwrap().is_some(), "one of several audiences");
    let stranger = with("iss", json!("https://other.example"));
    assert_eq!(code(&w, &token(&rsa, rs, Some("a"), &stranger)).await, Ok(None), "perhaps one of ours");
}

#[actix_rt::test]
async fn a_public_key_is_no_secret_and_none_is_no_algorithm() {
    use base64::prelude::*;
    let w = world(|config, dir| {
        config.public_key_file = dir.join("key.pem");
        config.algorithms = vec!["RS256".into()];
        std::fs::write(&config.public_key_file, RSA_PUBLIC).unwrap();
    })
    .unwrap();
    let rsa = EncodingKey::from_rsa_pem(RSA).unwrap();
    assert!(code(&w, &token(&rsa, Algorithm::RS256, None, &claims())).await.unwrap().is_some());
    // The classic confusion: the public key, which everybody knows, as the secret of an HMAC.
    let confused = token(&EncodingKey::from_secret(RSA_PUBLIC.as_bytes()), Algorithm::HS256, None, &claims());
    assert_eq!(code(&w, &confused).await.unwrap_err(), Code::Unauthorized);
    for alg in ["none", "None", "NONE"] {
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        for signature in ["", "AAAA"] {
            let unsigned = format!("{}.{}.{signature}", part(json!({ "alg": alg, "typ": "JWT" })), part(claims()));
            assert_eq!(code(&w, &unsigned).await.unwrap_err(), Code::Unauthorized, "{alg}");
        }
    }
    let must = Header { crit: Some(vec!["exp".into()]), ..Header::new(Algorithm::RS256) };
    let must = jsonwebtoken::encode(&must, &claims(), &rsa).unwrap();
    assert_eq!(code(&w, &must).await.unwrap_err(), Code::Unauthorized);
}

#[actix_rt::test]
async fn a_secret_signs_by_hmac_and_nothing_else_is_configured_beside_it() {
    let secret = "s".repeat(32);
    let make = |algorithms: &[&str]| {
        world(|config, _| {
            config.secret.clone_from(&secret);
            config.algorithms = algorithms.iter().map(|a| a.to_string()).collect();
        })
    };
    let key = EncodingKey::from_secret(secret.as_bytes());
    let w = make(&["HS256"]).unwrap();
    assert!(code(&w, &token(&key, Algorithm::HS256, None, &claims())).await.unwrap().is_some());
    assert_eq!(code(&w, &token(&key, Algorithm::HS512, None, &claims())).await.unwrap_err(), Code::Unauthorized);
    assert!(make(&["HS256", "RS256"]).is_err() && make(&["none"]).is_err());
    assert!(world(|_, _| {}).is_err(), "no key at all");
}

#[actix_rt::test]
async fn a_set_with_strange_keys_is_good_for_the_others() {
    let rsa = EncodingKey::from_rsa_pem(RSA).unwrap();
    let mut set: Value = serde_json::from_str(&jwks(&[("a", &rsa, Algorithm::RS256)])).unwrap();
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "s", "alg": "HS256" });
    let strange = json!({ "kty": "moon", "kid": "m" });
    let mut encrypts = set["keys"][0].clone();
    (encrypts["kid"], encrypts["use"]) = (json!("e"), json!("enc"));
    set["keys"].as_array_mut().unwrap().extend([secret, strange, encrypts]);
    let algorithms = [Algorithm::RS256, Algorithm::HS256];
    let set = KeySet::jwks(set.to_string().as_bytes(), &algorithms).unwrap();
    assert!(set.pick(Some("a"), Algorithm::RS256).is_some());
    for (id, algorithm) in [("s", Algorithm::HS256), ("e", Algorithm::RS256), ("m", Algorithm::RS256), ("a", Algorithm::HS256)] {
        assert!(set.pick(Some(id), algorithm).is_none(), "{id}");
    }
    assert!(KeySet::jwks(b"{\"keys\":[]}", &algorithms).is_err() && KeySet::jwks(b"[]", &algorithms).is_err());
}
