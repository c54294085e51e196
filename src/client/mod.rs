//! One client of our protocol, for `hubbub chat`, the load generator's setup and the tests.
//!
//! Four layers, each usable without the ones after it:
//! [`connection`] one socket: requests by `ref`, pushes, the close code; [`replica`] what a client knows, pure;
//! [`session`] a user's whole stay: reconnects, resumes, sends what is unanswered again; [`rest`] the few HTTP calls
//! that a client needs before it has a socket.

pub mod backoff;
pub mod connection;
pub mod outbox;
pub mod replica;
pub mod rest;
pub mod session;

pub use connection::{Connection, End, Options, TokenIn};
pub use replica::Replica;
pub use rest::Rest;
pub use session::{Client, Event, Settings, Ticket};

use crate::error::{ApiError, Retry};
use crate::protocol::close::{self, Next};

/// Why something that a client wanted did not happen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// The server answered with an error.
    #[error("{0}")]
    Api(ApiError),
    /// No answer in time. Whether a request took effect is not known.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// The connection ended before the answer. Whether a request took effect is not known.
    #[error("the connection ended: {0}")]
    Closed(End),
    /// The address or the token cannot be used at all.
    #[error("{0}")]
    Unusable(String),
    /// Nothing answers there.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The server refused the upgrade with this HTTP status.
    #[error("the server refused the socket with HTTP status {0}")]
    Refused(u16),
    /// As many requests wait for an answer as the client holds.
    #[error("{0} requests wait for an answer already")]
    Full(usize),
    /// There is no connection now.
    #[error("not connected")]
    NotConnected,
    /// The server cannot say whether the request took effect, and the room's log cannot be followed back to it.
    #[error("it cannot be known whether the request took effect; look at the room, then decide")]
    Undecided,
}

impl ClientError {
    /// Whether and when trying again may help.
    pub fn next(&self) -> Next {
        match self {
            ClientError::Api(e) => match e.retry {
                Retry::Never => Next::Never,
                Retry::Now => Next::Now,
                Retry::Later => Next::Later,
            },
            ClientError::Closed(end) => close::next(end.code),
            ClientError::Timeout(_) => Next::Now,
            ClientError::Unreachable(_) | ClientError::Full(_) | ClientError::NotConnected => Next::Later,
            ClientError::Refused(status) if *status == 429 || *status >= 500 => Next::Later,
            ClientError::Unusable(_) | ClientError::Refused(_) | ClientError::Undecided => Next::Never,
        }
    }
}
