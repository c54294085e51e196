//! The form of a refresh token: `hbr_` and base64 of user, device, family, 256 bits of secret, and a MAC over these.
//!
//! Only its SHA-256 is stored. The MAC lets the server know a token that it once gave out but no longer has the hash of: so
//! the reuse of *any* earlier token of a family is noticed, not only of the one before. `family` is when the device signed
//! in, so that tokens of an earlier life of a device row do not close a later one. A token's successor is derived from it
//! with the server's key: the same token asked twice gives the same successor, which is what a client whose answer was lost needs.

use super::tokens::{Ring, Tokens};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest, Sha256};

const PREFIX: &str = "hbr_";
const BODY: usize = 8 + 8 + 8 + 32;
const WHOLE: usize = BODY + 32;

/// A refresh token, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// Its user.
    pub user: UserId,
    /// Its device.
    pub device: DeviceId,
    /// When the device signed in.
    pub family: Millis,
    bytes: [u8; WHOLE],
}

impl RefreshToken {
    /// The first of a family.
    pub fn fresh(tokens: &Tokens, user: UserId, device: DeviceId, family: Millis) -> RefreshToken {
        Self::build(&tokens.ring(), 0, user, device, family, rand::random())
    }

    /// The one that follows this one, as each key of the ring derives it: the first is the one to give out, the others are
    /// what was given out when that key was the first.
    pub fn successors(&self, tokens: &Tokens) -> Vec<RefreshToken> {
        // One look at the ring: it may be rotated meanwhile.
        let ring = tokens.ring();
        let secrets = ring.macs("refresh successor", &self.bytes).enumerate();
        secrets.map(|(key, secret)| Self::build(&ring, key, self.user, self.device, self.family, secret)).collect()
    }

    fn build(ring: &Ring, key: usize, user: UserId, device: DeviceId, family: Millis, secret: [u8; 32]) -> RefreshToken {
        let mut bytes = [0; WHOLE];
        bytes[..8].copy_from_slice(&user.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&device.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&family.to_be_bytes());
        bytes[24..BODY].copy_from_slice(&secret);
        let mac = ring.macs("refresh", &bytes[..BODY]).nth(key).expect("the ring has this key");
        bytes[BODY..].copy_from_slice(&mac);
        RefreshToken { user, device, family, bytes }
    }

    /// Reads what a client sent; `None` when it has not the form of a refresh token.
    pub fn parse(text: &str) -> Option<RefreshToken> {
        let encoded = text.strip_prefix(PREFIX).filter(|t| t.len() <= WHOLE * 2)?;
        let bytes: [u8; WHOLE] = BASE64.decode(encoded).ok()?.try_into().ok()?;
        let number = |at: usize| bytes[at..at + 8].iter().fold(0u64, |n, &b| n << 8 | u64::from(b));
        Some(RefreshToken { user: UserId(number(0)), device: DeviceId(number(8)), family: number(16), bytes })
    }

    /// As clients hold it.
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(self.bytes))
    }

    /// As the store holds it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.bytes).into()
    }

    /// Whether this deployment once gave it out.
    pub fn authentic(&self, tokens: &Tokens) -> bool {
        // Compared as hashes, so that the time it takes tells nothing of the MAC.
        let theirs = Sha256::digest(&self.bytes[BODY..]);
        tokens.ring().macs("refresh", &self.bytes[..BODY]).any(|mac| Sha256::digest(mac) == theirs)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config;

    const OLD: &str = "an old secret of thirty-two bytes";

    fn ring(secret: &[u8], id: &str, retired: &[String]) -> Tokens {
        Tokens::new(secret, &config::Auth { key_id: id.into(), retired_keys: retired.to_vec(), ..Default::default() }).unwrap()
    }

    #[test]
    fn it_is_read_back_and_no_changed_bit_is_authentic() {
        let tokens = ring(&[7; 32], "1", &[]);
        let token = RefreshToken::fresh(&tokens, UserId(5), DeviceId(6), 7);
        let text = token.text();
        let read = RefreshToken::parse(&text).unwrap();
        assert!(read == token && read.authentic(&tokens));
        assert_eq!((read.user, read.device, read.family), (UserId(5), DeviceId(6), 7));
        for bit in 0..WHOLE * 8 {
            let mut changed = token.clone();
            changed.bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!changed.authentic(&tokens), "bit {bit}");
        }
        for bad in ["", "hbr_", "x", &text[1..], &text[..text.len() - 1], &format!("{text}A"), &format!("{text}=")] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
        assert!(!RefreshToken::fresh(&ring(&[8; 32], "1", &[]), UserId(5), DeviceId(6), 7).authentic(&tokens));
    }

    #[test]
    fn a_successor_is_the_same_each_time_also_after_the_key_was_retired() {
        let before = ring(OLD.as_bytes(), "1", &[]);
        let token = RefreshToken::fresh(&before, UserId(5), DeviceId(6), 7);
        let next = token.successors(&before);
        assert!(next.len() == 1 && next == token.successors(&before) && next[0] != token);
        let after = ring(&[9; 32], "2", &[format!("1:{OLD}")]);
        assert!(token.authentic(&after) && next[0].authentic(&after));
        assert!(token.successors(&after)[0] != next[0] && token.successors(&after)[1] == next[0]);
    }
}
