//! Tokens that must not be accepted, as a table, and the few that must.

use super::*;
use base64::Engine;
use base64::prelude::{BASE64_URL_SAFE as PADDED, BASE64_URL_SAFE_NO_PAD as B64};
use serde_json::{Value, json};

const SECRET: &[u8] = b"the secret of these tests, 32 B!";
const NOW: Millis = 1_700_000_000_500;

fn ring() -> Tokens {
    Tokens::new(SECRET, &config::Auth::default()).unwrap()
}

fn good_claims() -> Value {
    let iat = NOW / 1000;
    json!({"iss": "hubbub", "sub": "7", "dev": "9", "iat": iat, "iat_ms": NOW, "exp": iat + 900})
}

fn sign_as(alg: Algorithm, secret: &[u8], input: &str) -> String {
    jsonwebtoken::crypto::sign(input.as_bytes(), &EncodingKey::from_secret(secret), alg).unwrap()
}

/// A token of any header and payload text, really signed.
fn raw(header: &str, payload: &str) -> String {
    let input = format!("{}.{}", B64.encode(header), B64.encode(payload));
    format!("{input}.{}", sign_as(Algorithm::HS256, SECRET, &input))
}

const HEADER: &str = r#"{"typ":"JWT","alg":"HS256","kid":"1"}"#;

fn with_header(header: Value) -> String {
    raw(&header.to_string(), &good_claims().to_string())
}

/// Good claims with one changed (or, for `null` given as `None`, left out).
fn with_claim(name: &str, value: Option<Value>) -> String {
    let mut claims = good_claims();
    match value {
        Some(v) => claims[name] = v,
        None => drop(claims.as_object_mut().unwrap().remove(name)),
    }
    raw(HEADER, &claims.to_string())
}

/// The claims' text with a piece replaced, for what a JSON value cannot say.
fn with_text(from: &str, to: &str) -> String {
    let text = good_claims().to_string();
    assert!(text.contains(from), "{text} has no {from}");
    raw(HEADER, &text.replace(from, to))
}

fn forgeries() -> Vec<(&'static str, String)> {
    let good = raw(HEADER, &good_claims().to_string());
    let parts: Vec<&str> = good.split('.').collect();
    let (h, p, s) = (parts[0], parts[1], parts[2]);
    let unsigned = |header: &str| format!("{}.{p}.", B64.encode(header));
    let other_alg = |alg: Algorithm, name: &str| {
        let input = format!("{}.{p}", B64.encode(format!(r#"{{"typ":"JWT","alg":"{name}","kid":"1"}}"#)));
        format!("{input}.{}", sign_as(alg, SECRET, &input))
    };
    let input = format!("{h}.{p}");
    vec![
        ("none, no signature", unsigned(r#"{"typ":"JWT","alg":"none","kid":"1"}"#)),
        ("None", unsigned(r#"{"typ":"JWT","alg":"None","kid":"1"}"#)),
        ("NONE", unsigned(r#"{"typ":"JWT","alg":"NONE","kid":"1"}"#)),
        ("none, good signature", with_header(json!({"alg": "none", "kid": "1"}))),
        ("no alg", with_header(json!({"kid": "1"}))),
        ("alg null", with_header(json!({"alg": null, "kid": "1"}))),
        ("alg empty", with_header(json!({"alg": "", "kid": "1"}))),
        ("alg in lower case", with_header(json!({"alg": "hs256", "kid": "1"}))),
        ("alg a list", with_header(json!({"alg": ["HS256"], "kid": "1"}))),
        ("alg named twice", raw(r#"{"alg":"none","alg":"HS256","kid":"1"}"#, &good_claims().to_string())),
        ("HS384 with the secret", other_alg(Algorithm::HS384, "HS384")),
        ("HS512 with the secret", other_alg(Algorithm::HS512, "HS512")),
        ("RS256 named over HMAC", with_header(json!({"alg": "RS256", "kid": "1"}))),
        ("ES256 named over HMAC", with_header(json!({"alg": "ES256", "kid": "1"}))),
        ("EdDSA named over HMAC", with_header(json!({"alg": "EdDSA", "kid": "1"}))),
        ("no kid", with_header(json!({"alg": "HS256"}))),
        ("kid empty", with_header(json!({"alg": "HS256", "kid": ""}))),
        ("kid unknown", with_header(json!({"alg": "HS256", "kid": "2"}))),
        ("kid a number", with_header(json!({"alg": "HS256", "kid": 1}))),
        ("kid a path", with_header(json!({"alg": "HS256", "kid": "../../../dev/null"}))),
        ("kid with a blank", with_header(json!({"alg": "HS256", "kid": "1 "}))),
        ("another typ", with_header(json!({"typ": "at+jwt", "alg": "HS256", "kid": "1"}))),
        ("crit", with_header(json!({"alg": "HS256", "kid": "1", "crit": ["exp"]}))),
        ("b64 false", with_header(json!({"alg": "HS256", "kid": "1", "b64": false}))),
        ("jku", with_header(json!({"alg": "HS256", "kid": "1", "jku": "https://evil.example/keys"}))),
        ("x5u", with_header(json!({"alg": "HS256", "kid": "1", "x5u": "https://evil.example/cert"}))),
        ("jwk", with_header(json!({"alg": "HS256", "kid": "1", "jwk": {"kty": "oct", "k": B64.encode(SECRET)}}))),
        ("zip", with_header(json!({"alg": "HS256", "kid": "1", "zip": "DEF"}))),
        ("cty", with_header(json!({"alg": "HS256", "kid": "1", "cty": "JWT"}))),
        ("header not JSON", raw("HS256", &good_claims().to_string())),
        ("header a list", raw(r#"["HS256"]"#, &good_claims().to_string())),
        ("no exp", with_claim("exp", None)),
        ("exp null", with_claim("exp", Some(Value::Null))),
        ("exp a string", with_claim("exp", Some(json!("9999999999")))),
        ("exp a list", with_claim("exp", Some(json!([9_999_999_999u64])))),
        ("exp true", with_claim("exp", Some(json!(true)))),
        ("exp negative", with_claim("exp", Some(json!(-1)))),
        ("exp a fraction", with_claim("exp", Some(json!(9_999_999_999.5)))),
        ("exp too large for milliseconds", with_claim("exp", Some(json!(u64::MAX)))),
        ("exp 1e400", with_text(&format!("{}", NOW / 1000 + 900), "1e400")),
        ("exp NaN", with_text(&format!("{}", NOW / 1000 + 900), "NaN")),
        ("exp named twice", with_text("\"exp\":", "\"exp\":9999999999,\"exp\":")),
        ("exp before iat", with_claim("exp", Some(json!(NOW / 1000)))),
        ("no sub", with_claim("sub", None)),
        ("sub empty", with_claim("sub", Some(json!("")))),
        ("sub null", with_claim("sub", Some(Value::Null))),
        ("sub a number", with_claim("sub", Some(json!(7)))),
        ("sub a list", with_claim("sub", Some(json!(["7"])))),
        ("sub an object", with_claim("sub", Some(json!({"id": "7"})))),
        ("sub blank", with_claim("sub", Some(json!(" ")))),
        ("sub 0", with_claim("sub", Some(json!("0")))),
        ("sub with a leading zero", with_claim("sub", Some(json!("07")))),
        ("sub with a sign", with_claim("sub", Some(json!("+7")))),
        ("sub a name", with_claim("sub", Some(json!("alice")))),
        ("sub beyond 63 bits", with_claim("sub", Some(json!("9223372036854775808")))),
        ("sub with NUL", with_claim("sub", Some(json!("7\u{0}")))),
        ("sub named twice", with_text("\"sub\":", "\"sub\":\"8\",\"sub\":")),
        ("no dev", with_claim("dev", None)),
        ("dev a number", with_claim("dev", Some(json!(9)))),
        ("dev 0", with_claim("dev", Some(json!("0")))),
        ("no iss", with_claim("iss", None)),
        ("iss of another", with_claim("iss", Some(json!("evil")))),
        ("iss a list", with_claim("iss", Some(json!(["hubbub"])))),
        ("iss in another case", with_claim("iss", Some(json!("Hubbub")))),
        ("no iat", with_claim("iat", None)),
        ("iat a string", with_claim("iat", Some(json!("1")))),
        ("no iat_ms", with_claim("iat_ms", None)),
        ("iat_ms of another second", with_claim("iat_ms", Some(json!(NOW + 1000)))),
        ("aud of another", with_claim("aud", Some(json!("somebody else")))),
        ("payload a list", raw(HEADER, "[]")),
        ("payload empty", raw(HEADER, "")),
        ("payload null", raw(HEADER, "null")),
        ("payload not UTF-8", {
            let i = format!("{h}.{}", B64.encode([0xff, 0xfe]));
            format!("{i}.{}", sign_as(Algorithm::HS256, SECRET, &i))
        }),
        ("payload with more behind it", raw(HEADER, &format!("{} {{}}", good_claims()))),
        ("signature of another secret", format!("{input}.{}", sign_as(Algorithm::HS256, b"another secret of thirty-two byte", &input))),
        ("signature of the empty secret", format!("{input}.{}", sign_as(Algorithm::HS256, b"", &input))),
        ("signature of zeros", format!("{input}.{}", B64.encode([0; 32]))),
        ("signature empty", format!("{input}.")),
        ("signature cut", format!("{input}.{}", &s[..s.len() - 2])),
        ("signature cut to a byte", format!("{input}.{}", &s[..2])),
        ("signature with more", format!("{input}.{s}AA")),
        ("signature padded", format!("{input}.{}", PADDED.encode(B64.decode(s).unwrap()))),
        ("signature of another token", format!("{input}.{}", raw(HEADER, "{}").split('.').next_back().unwrap())),
        ("payload of another token", format!("{h}.{}.{s}", B64.encode(good_claims().to_string().replace("\"7\"", "\"8\"")))),
        ("two parts", input.clone()),
        ("one part", h.to_string()),
        ("four parts", format!("{good}.")),
        ("five parts, as JWE has", format!("{good}.{p}.{s}")),
        ("a leading dot", format!(".{good}")),
        ("dots only", "..".into()),
        ("nothing", String::new()),
        ("a blank before", format!(" {good}")),
        ("a line end behind", format!("{good}\n")),
        ("a blank inside", format!("{h}. {p}.{s}")),
        ("standard base64", good.replace('_', "/").replace('-', "+") + "+/"),
        ("percent-encoded dots", good.replace('.', "%2E")),
        ("over 4 KiB", with_claim("x", Some(json!("x".repeat(4096))))),
        ("a megabyte of dots", ".".repeat(1 << 20)),
    ]
}

#[test]
fn no_forged_or_misformed_token_is_accepted() {
    let tokens = ring();
    let claims = tokens.verify(&raw(HEADER, &good_claims().to_string()), NOW).expect("what the forgeries are made from is good");
    assert_eq!((claims.user, claims.device, claims.issued), (UserId(7), DeviceId(9), NOW));
    let forgeries = forgeries();
    assert!(forgeries.len() >= 50, "{} attacks", forgeries.len());
    for (what, token) in forgeries {
        let refused = tokens.verify(&token, NOW).expect_err(what);
        assert_eq!(refused.code, Code::Unauthorized, "{what}");
    }
}

#[test]
fn every_bit_of_a_token_counts() {
    let tokens = ring();
    let (good, _) = tokens.issue(UserId(7), DeviceId(9), NOW);
    for at in 0..good.len() {
        for bit in 0..7 {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(tokens.verify(&changed, NOW).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_token_counts_until_its_end_and_not_a_millisecond_longer() {
    let tokens = ring();
    let (token, expires) = tokens.issue(UserId(7), DeviceId(9), NOW);
    assert!(expires > NOW + 899_000 && expires <= NOW + 900_000);
    assert_eq!(tokens.verify(&token, expires - 1).unwrap(), Claims { user: UserId(7), device: DeviceId(9), issued: NOW, expires });
    for late in [expires, expires + 1, expires + 60_000, u64::MAX] {
        assert_eq!(tokens.verify(&token, late).unwrap_err().code, Code::TokenExpired);
    }
    let (short, ends) = tokens.issue_for(UserId(7), DeviceId(9), NOW, 0);
    assert!(ends > NOW && tokens.verify(&short, NOW).is_ok() && tokens.verify(&short, ends).is_err());
}

#[test]
fn a_retired_key_still_verifies_and_no_longer_signs() {
    let (old, _) = ring().issue(UserId(7), DeviceId(9), NOW);
    let retired = vec![format!("1:{}", std::str::from_utf8(SECRET).unwrap())];
    let config = config::Auth { key_id: "2".into(), retired_keys: retired.clone(), ..Default::default() };
    let tokens = Tokens::new(&[3; 32], &config).unwrap();
    assert!(tokens.verify(&old, NOW).is_ok());
    let (new, _) = tokens.issue(UserId(7), DeviceId(9), NOW);
    assert!(tokens.verify(&new, NOW).is_ok() && ring().verify(&new, NOW).is_err());
    let without = Tokens::new(&[3; 32], &config::Auth { key_id: "2".into(), ..Default::default() }).unwrap();
    assert!(without.verify(&old, NOW).is_err());
    // The kid says which key; a signature of another key of the ring under it does not count.
    let mixed = raw(r#"{"alg":"HS256","kid":"2"}"#, &good_claims().to_string());
    assert!(tokens.verify(&mixed, NOW).is_err());
    let refused = |secret: &[u8], config: &config::Auth| Tokens::new(secret, config).err().unwrap();
    assert_eq!(refused(&[3; 31], &config::Auth::default()), KeyError::Short("1".into()));
    assert_eq!(refused(&[3; 32], &config::Auth { retired_keys: retired, ..Default::default() }), KeyError::Twice("1".into()));
    assert_eq!(refused(&[3; 32], &config::Auth { retired_keys: vec!["x".into()], ..Default::default() }), KeyError::Form(0));
}
