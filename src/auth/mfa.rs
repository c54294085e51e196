//! The token between the two steps of a sign-in with a second factor: that the password was right, a few minutes ago.
//!
//! `hbm_` and base64 of user, time, the account's `tokens_after`, and a MAC over these for this purpose alone. So it is no access token (those
//! are JWTs), no refresh token (those have a MAC for another purpose), and void as soon as anything has ended the account's sessions.

use super::tokens::Tokens;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, UserId};
use crate::storage::UserRow;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest, Sha256};

/// How long one has to find the code.
pub const TTL_MS: Millis = 5 * 60_000;
const PREFIX: &str = "hbm_";
const PURPOSE: &str = "second factor";
const BODY: usize = 24;
const WHOLE: usize = BODY + 32;

/// Who has shown the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfWay {
    /// The account.
    pub user: UserId,
    /// Its `tokens_after` then.
    pub tokens_after: Millis,
}

/// A token that the password was right.
pub fn issue(tokens: &Tokens, user: &UserRow, now: Millis) -> String {
    let mut bytes = [user.user.0, now, user.tokens_after].map(u64::to_be_bytes).concat();
    let mac = tokens.ring().macs(PURPOSE, &bytes).next().expect("a ring has a key");
    bytes.extend(mac);
    format!("{PREFIX}{}", BASE64.encode(bytes))
}

/// What the token says, if this deployment gave it out and its time is not over.
pub fn verify(tokens: &Tokens, text: &str, now: Millis) -> Result<HalfWay, ApiError> {
    let refused = || ApiError::new(Code::Unauthorized, "the sign-in took too long or was not begun here; begin again");
    let encoded = text.strip_prefix(PREFIX).filter(|t| t.len() <= WHOLE * 2).ok_or_else(refused)?;
    let bytes: [u8; WHOLE] = BASE64.decode(encoded).ok().and_then(|b| b.try_into().ok()).ok_or_else(refused)?;
    // Compared as hashes, so that the time it takes tells nothing of the MAC.
    let theirs = Sha256::digest(&bytes[BODY..]);
    let authentic = tokens.ring().macs(PURPOSE, &bytes[..BODY]).any(|mac| Sha256::digest(mac) == theirs);
    let number = |at: usize| bytes[at..at + 8].iter().fold(0u64, |n, &b| n << 8 | u64::from(b));
    let issued = number(8);
    let in_time = issued <= now && now - issued < TTL_MS;
    if authentic && in_time { Ok(HalfWay { user: UserId(number(0)), tokens_after: number(16) }) } else { Err(refused()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::refresh::RefreshToken;
    use crate::auth::tests::account;
    use crate::config;
    use crate::protocol::ids::DeviceId;

    const T: Millis = 1_900_000_000_000;

    #[test]
    fn it_is_good_for_its_purpose_and_its_time_only() {
        let tokens = Tokens::new(&[7; 32], &config::Auth::default()).unwrap();
        let user = UserRow { tokens_after: 42, ..account(5) };
        let text = issue(&tokens, &user, T);
        assert_eq!(verify(&tokens, &text, T + TTL_MS - 1).unwrap(), HalfWay { user: UserId(5), tokens_after: 42 });
        assert!(verify(&tokens, &text, T + TTL_MS).is_err() && verify(&tokens, &text, T - 1).is_err());
        assert!(tokens.verify(&text, T).is_err() && RefreshToken::parse(&text).is_none());
        let (access, _) = tokens.issue(UserId(5), DeviceId(6), T);
        let refresh = RefreshToken::fresh(&tokens, UserId(5), DeviceId(6), T).text();
        for foreign in [access.clone(), format!("hbm_{access}"), refresh.clone(), refresh.replace("hbr_", "hbm_"), String::new()] {
            assert!(verify(&tokens, &foreign, T).is_err(), "{foreign}");
        }
        let other = Tokens::new(&[8; 32], &config::Auth::default()).unwrap();
        assert!(verify(&other, &text, T).is_err());
        let bytes = BASE64.decode(&text[4..]).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&tokens, &format!("hbm_{}", BASE64.encode(changed)), T).is_err(), "bit {bit}");
        }
    }
}
