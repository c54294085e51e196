//! Every error a client can see: its code, its HTTP status, and whether trying again helps.
//!
//! The same codes go over the socket (`error` replies) and over HTTP (problem+json). A message names the thing and says
//! what a person can do; the code is for programs and never changes its meaning.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Whether and when the same request may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Not without changing something.
    Never,
    /// At once: nothing was done, or doing it again is harmless.
    Now,
    /// After a pause (`retry_after_ms` where the server knows it).
    Later,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $retry:ident;)*) => {
        /// An error's code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code { $($(#[$doc])* #[serde(rename = $code)] $name,)* }
        impl Code {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];
            /// As it stands on the wire.
            pub fn as_str(self) -> &'static str { match self { $(Code::$name => $code,)* } }
            /// The HTTP status it goes with.
            pub fn status(self) -> u16 { match self { $(Code::$name => $status,)* } }
            /// Whether trying again helps.
            pub fn retry(self) -> Retry { match self { $(Code::$name => Retry::$retry,)* } }
        }
    };
}

codes! {
    /// The frame or body is not well-formed, or a field has the wrong type.
    Malformed = "malformed", 400, Never;
    /// Well-formed, but a value is not allowed.
    Invalid = "invalid", 422, Never;
    /// No request of that name.
    UnknownOp = "unknown_op", 400, Never;
    /// Not signed in, or the token is not accepted.
    Unauthorized = "unauthorized", 401, Never;
    /// User name or password is wrong (which of them is not said).
    BadCredentials = "bad_credentials", 401, Never;
    /// The password was right, and the account has a second factor: a code of it is asked for next.
    MfaRequired = "mfa_required", 401, Never;
    /// The access token's time is over.
    TokenExpired = "token_expired", 401, Never;
    /// The token or the device was revoked; or a refresh token was used twice and its family is closed.
    TokenRevoked = "token_revoked", 401, Never;
    /// Known and visible, but not allowed.
    Forbidden = "forbidden", 403, Never;
    /// Not there, or not visible to the caller: the two look alike.
    NotFound = "not_found", 404, Never;
    /// The HTTP method is not for this address.
    MethodNotAllowed = "method_not_allowed", 405, Never;
    /// In conflict with what is there (a name taken, a client id used with another body).
    Conflict = "conflict", 409, Never;
    /// `If-Match` names another state than the one that is there now: read it again, then decide.
    PreconditionFailed = "precondition_failed", 412, Never;
    /// Too far back to prove that nothing was doubled or missed: resume, look for the client id, then decide.
    Resync = "resync", 409, Never;
    /// Over a size limit.
    TooLarge = "too_large", 413, Never;
    /// Too many requests from this user, session or address.
    RateLimited = "rate_limited", 429, Later;
    /// Part of the server has more waiting than it will hold. Nothing was done.
    Busy = "busy", 503, Later;
    /// It is not known whether the request took effect. The same request with the same client id settles it.
    Unknown = "unknown", 503, Now;
    /// The part of the server that would answer has just ended and is being rebuilt. The same request settles it.
    Unavailable = "unavailable", 503, Now;
    /// The log cannot be written now (disk full, device error). Reading goes on.
    LogUnavailable = "log_unavailable", 503, Later;
    /// The disk quota is used up. Reading goes on; an operator must make room.
    QuotaExceeded = "quota_exceeded", 507, Later;
    /// The server is going away; reconnect as its `drain` push says.
    Draining = "draining", 503, Later;
    /// Took longer than its limit.
    Timeout = "timeout", 504, Now;
    /// A fault of the server's own; it is in its log.
    Internal = "internal", 500, Later;
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let names = Code::ALL.iter().map(|code| code.as_str());
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).description(Some("what is wrong, for programs")).into()
    }
}
impl ToSchema for Code {}

/// An error as clients get it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct ApiError {
    /// For programs.
    pub code: Code,
    /// For people: lower case, names the thing.
    pub message: Cow<'static, str>,
    /// Whether trying again helps.
    pub retry: Retry,
    /// Milliseconds to wait before trying again, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl ApiError {
    /// An error with its code's own answer to "try again?".
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        ApiError { code, message: message.into(), retry: code.retry(), retry_after_ms: None }
    }
    /// The same, with the time to wait.
    pub fn after(code: Code, message: impl Into<Cow<'static, str>>, wait: std::time::Duration) -> Self {
        ApiError { retry_after_ms: Some(wait.as_millis() as u64), ..ApiError::new(code, message) }
    }
}
