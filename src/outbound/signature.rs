//! How a receiver knows that a request is ours: `Hubbub-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]`.
//!
//! Each `v1` is HMAC-SHA256 of `<seconds>.<body>` under one of the secrets: two while a secret is being rotated, so that
//! a receiver that knows either of them accepts. A receiver compares in constant time, and refuses what is too old.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The header field's name.
pub const SIGNATURE: &str = "hubbub-signature";

/// The header field's value.
pub fn sign<'a>(secrets: impl IntoIterator<Item = &'a str>, at_s: u64, body: &[u8]) -> String {
    let mut text = format!("t={at_s}");
    for secret in secrets {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(format!("{at_s}.").as_bytes());
        mac.update(body);
        text.push_str(",v1=");
        text.push_str(&hex::encode(mac.finalize().into_bytes()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_hmac_of_time_and_body_under_each_secret() {
        // Counted with: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let made = sign(["secret"], 1_700_000_000, b"{\"a\":1}");
        assert_eq!(made, "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686");
        let two = sign(["secret", "other"], 1_700_000_000, b"{\"a\":1}");
        assert!(two.starts_with(&made) && two.matches(",v1=").count() == 2);
        assert_ne!(sign(["secret"], 1_700_000_001, b"{\"a\":1}")[13..], made[13..], "the time is part of it");
    }
}
