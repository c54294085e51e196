//! Whether an access token counts now, whoever made it: this deployment, or an issuer that is configured. The socket and the HTTP API ask here.

use super::issuers::Issuers;
use super::sessions::Sessions;
use super::subjects::Subjects;
use super::tokens::{Claims, Tokens};
use crate::error::ApiError;
use crate::protocol::ids::Millis;
use crate::storage::UserRow;
use std::sync::Arc;

/// See the module.
pub struct Verifier {
    tokens: Arc<Tokens>,
    sessions: Sessions,
    issuers: Issuers,
    subjects: Subjects,
}

impl Verifier {
    /// Puts the parts together.
    pub fn new(tokens: Arc<Tokens>, sessions: Sessions, issuers: Issuers, subjects: Subjects) -> Verifier {
        Verifier { tokens, sessions, issuers, subjects }
    }

    /// The user whom a token speaks for, and its claims: `TokenExpired`, `TokenRevoked` or `Unauthorized` when it does not count.
    pub async fn verify(&self, token: &str, now: Millis) -> Result<(UserRow, Claims), ApiError> {
        if let Some(identity) = self.issuers.verify(token, now).await? {
            return self.subjects.admit(&identity).await;
        }
        let claims = self.tokens.verify(token, now)?;
        Ok((self.sessions.check_live(&claims).await?, claims))
    }

    /// The issuers.
    pub fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// The users who are somebody elsewhere.
    pub fn subjects(&self) -> &Subjects {
        &self.subjects
    }
}
