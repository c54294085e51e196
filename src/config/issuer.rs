//! Issuers of tokens beside this deployment: an embedder's own login. One `[[auth.issuers]]` each.

use super::secrets::HIDDEN;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

section! {
    /// An issuer whose tokens are accepted. Its `Debug` leaves the secret out.
    Issuer {
        /// The `iss` of its tokens.
        issuer: String = String::new(),
        /// What the `aud` of its tokens must have.
        audience: String = String::new(),
        /// Algorithms that are accepted (`RS256`, `EdDSA`, …); no other is.
        algorithms: Vec<String> = Vec::new(),
        /// Secret that signs its tokens (HS…), at least 32 bytes.
        secret: String = String::new(),
        /// PEM file with its public key.
        public_key_file: PathBuf = PathBuf::new(),
        /// File with its JWK set.
        jwks_file: PathBuf = PathBuf::new(),
        /// Address of its JWK set.
        jwks_url: String = String::new(),
        /// Seconds after which the set at the address is fetched anew.
        jwks_refresh_s: u64 = 300,
        /// Seconds between two fetches at least, whatever the reason.
        jwks_pause_s: u64 = 10,
        /// The claim that says who it is.
        subject_claim: String = "sub".into(),
        /// The claim with a wish for the account's name.
        name_claim: String = "preferred_username".into(),
        /// The claim with the name to show.
        display_name_claim: String = "name".into(),
        /// The claim with the picture's address.
        avatar_claim: String = "picture".into(),
        /// The claim that tells the issuer's sessions apart.
        session_claim: String = "sid".into(),
        /// Whether users are made of who comes for the first time.
        create_users: bool = true,
    }
}

/// Where an issuer's keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A secret that both sides know.
    Secret,
    /// One public key.
    PublicKey,
    /// A file.
    JwksFile,
    /// An address.
    JwksUrl,
}

impl Issuer {
    /// Where its keys come from, if that is said once.
    pub fn source(&self) -> Option<KeySource> {
        let said = [
            (!self.secret.is_empty(), KeySource::Secret),
            (!self.public_key_file.as_os_str().is_empty(), KeySource::PublicKey),
            (!self.jwks_file.as_os_str().is_empty(), KeySource::JwksFile),
            (!self.jwks_url.is_empty(), KeySource::JwksUrl),
        ];
        let mut said = said.into_iter().filter_map(|(is, source)| is.then_some(source));
        said.next().filter(|_| said.next().is_none())
    }

    /// The same without its secret, for showing.
    pub(super) fn hidden(&self) -> Issuer {
        let secret = if self.secret.is_empty() { String::new() } else { HIDDEN.into() };
        Issuer { secret, ..self.clone() }
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({})", serde_json::to_string(&self.hidden()).map_err(|_| fmt::Error)?)
    }
}

/// What is wrong with a value of `auth.issuers`, without the value: a secret may stand in it.
pub(super) fn complaint(message: &str) -> String {
    // These two name keys and nothing else.
    let harmless = ["unknown field", "missing field"].iter().any(|begin| message.starts_with(begin));
    let what = if harmless { message } else { "a key has a value of the wrong type" };
    format!("expected [[auth.issuers]] tables: {}", what.lines().next().unwrap_or_default())
}
