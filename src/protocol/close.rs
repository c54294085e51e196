//! Why a socket is closed: WebSocket close codes in ranges that tell a client what to do next.
//!
//! | range | what a client does |
//! |---|---|
//! | 4000-4099 | reconnect now (with jitter), then resume |
//! | 4100-4199 | reconnect later: as `drain` said, else with exponential backoff from 1 s |
//! | 4200-4299 | do not reconnect with the same token or request; a person or a program must change something |
//!
//! 1000-1015 keep the meaning RFC 6455 gives them: 1002, 1003, 1007, 1009 never retry the same frame; 1001 and 1012 retry later;
//! an abnormal end (1006, no Close frame) is "reconnect now, with backoff".

/// A close code with its reason. The reason fits in a Close frame (at most 123 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The status code.
    pub code: u16,
    /// For people.
    pub reason: &'static str,
}

/// What a client does after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Reconnect now.
    Now,
    /// Reconnect later.
    Later,
    /// Do not reconnect by itself.
    Never,
}

macro_rules! closes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $reason:literal;)*) => {
        impl Close { $($(#[$doc])* pub const $name: Close = Close { code: $code, reason: $reason };)* }
        /// All of them.
        pub const ALL: &[Close] = &[$(Close::$name,)*];
    };
}
closes! {
    /// The ordinary end.
    NORMAL = 1000, "bye";
    /// The frame breaks RFC 6455.
    PROTOCOL = 1002, "protocol error";
    /// A kind of frame this subprotocol does not use.
    UNSUPPORTED = 1003, "unsupported data";
    /// Text that is not UTF-8.
    INVALID_DATA = 1007, "invalid utf-8";
    /// Over the size limit.
    TOO_BIG = 1009, "frame too large";
    /// The session read too slowly and its outbox ran over: resume.
    SLOW = 4000, "reading too slowly; reconnect and resume";
    /// The server's actor for this session ended: resume.
    RESTART = 4001, "session restarted; reconnect and resume";
    /// The hub cannot prove that nothing was missed: resume.
    RESUME = 4002, "reconnect and resume";
    /// Nothing was heard in time.
    IDLE = 4003, "heartbeat missed";
    /// The server is going away.
    DRAINING = 4100, "server is going away";
    /// Too many connections.
    TOO_MANY = 4101, "too many connections";
    /// Kept sending above the rate limit.
    RATE = 4102, "rate limit";
    /// No token in time.
    AUTH_TIMEOUT = 4200, "no token in time";
    /// The token is not accepted.
    UNAUTHORIZED = 4201, "token not accepted";
    /// The token's time is over: get a new one, then reconnect.
    EXPIRED = 4202, "token expired";
    /// The token or device was revoked, or the account disabled: sign in again.
    REVOKED = 4203, "token revoked";
    /// Too many malformed frames.
    MALFORMED = 4204, "too many malformed frames";
}

/// What a client does after a Close with this code.
pub fn next(code: u16) -> Next {
    match code {
        1006 | 1011 | 4000..=4099 => Next::Now,
        1001 | 1012 | 1013 | 4100..=4199 => Next::Later,
        _ => Next::Never,
    }
}
