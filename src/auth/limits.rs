//! Rate limits by address and by user name, bounded in memory whatever comes in.
//!
//! A key is hashed (with a secret of the process) into one of [`SLOTS`] slots, each with its own bucket of the governor crate;
//! so no flood of addresses or names can make the map grow. Two keys of one slot share a bucket; with 65,536 slots a person
//! shares one with somebody else who is just as busy about never. Idle slots are freed now and then.

use crate::config;
use crate::error::{ApiError, Code};
use crate::protocol::ids::UserId;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

/// Slots of one limit: 2 to 3 MiB when all are in use.
pub const SLOTS: u64 = 65_536;
/// Mails with a link to one account: nobody's mailbox is to be filled by who knows a name.
pub const MAILS_PER_HOUR: u32 = 5;
/// Exports of one account: each reads all its rooms.
pub const EXPORTS_PER_HOUR: u32 = 6;
/// Idle slots are looked for once in so many checks.
const TIDY_EVERY: u32 = 16_384;

type Slots = RateLimiter<u16, DefaultKeyedStateStore<u16>, DefaultClock, StateInformationMiddleware>;

/// How a key stands in its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What a full bucket allows at once.
    pub limit: u32,
    /// What it allows now.
    pub remaining: u32,
    /// Seconds until it is full again.
    pub reset_s: u64,
}

/// One limit over many keys.
pub struct Limit {
    slots: Option<Slots>,
    burst: u32,
    seconds: u64,
    hasher: RandomState,
    checks: AtomicU32,
    what: &'static str,
}

impl Limit {
    /// `burst` at once, refilled evenly over `seconds`; 0: no limit. `what` names the thing in the error.
    fn new(burst: u32, seconds: u64, what: &'static str) -> Limit {
        let quota =
            |burst: NonZeroU32| Quota::with_period(std::time::Duration::from_secs(seconds) / burst.get()).map(|q| q.allow_burst(burst));
        let slots = NonZeroU32::new(burst).and_then(quota).map(|quota| RateLimiter::keyed(quota).with_middleware());
        Limit { slots, burst, seconds, hasher: RandomState::new(), checks: AtomicU32::new(0), what }
    }
    /// Counts one; `RateLimited` with the time to wait when that is too many.
    pub fn check(&self, key: impl Hash) -> Result<(), ApiError> {
        self.take(key).map(drop)
    }
    /// Counts one, and says how the key stands then; `None` where there is no limit.
    pub fn take(&self, key: impl Hash) -> Result<Option<Standing>, ApiError> {
        let Some(slots) = &self.slots else { return Ok(None) };
        if self.checks.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            slots.retain_recent();
            slots.shrink_to_fit();
        }
        let taken = slots.check_key(&((self.hasher.hash_one(key) % SLOTS) as u16));
        let taken =
            taken.map_err(|until| ApiError::after(Code::RateLimited, self.what, until.wait_time_from(DefaultClock::default().now())))?;
        let (limit, remaining) = (taken.quota().burst_size().get(), taken.remaining_burst_capacity());
        let reset_s = (u64::from(limit.saturating_sub(remaining)) * self.seconds).div_ceil(u64::from(limit));
        Ok(Some(Standing { limit, remaining, reset_s }))
    }
}

/// The limits of a node.
pub struct Limits {
    attempts_by_address: Limit,
    attempts_by_name: Limit,
    http: Limit,
    connects: Limit,
    requests: Limit,
    mails: Limit,
    exports: Limit,
    reports: Limit,
    idempotency_keys: Limit,
    keys: Limit,
    hooks: Limit,
}

impl Limits {
    /// As configured.
    pub fn new(config: &config::Config) -> Limits {
        let (auth, limits) = (&config.auth, &config.limits);
        let burst = |per_second: u32| per_second.saturating_mul(10);
        Limits {
            attempts_by_address: Limit::new(auth.attempts_per_minute, 60, "too many attempts to sign in from this address"),
            attempts_by_name: Limit::new(auth.attempts_per_minute, 60, "too many attempts to sign in under this name"),
            http: Limit::new(burst(limits.http_per_second), 10, "too many requests from this address"),
            connects: Limit::new(burst(limits.connects_per_second), 10, "too many new connections from this address"),
            requests: Limit::new(burst(limits.requests_per_second), 10, "too many requests of this user"),
            mails: Limit::new(MAILS_PER_HOUR, 3_600, "too many mails to this account"),
            exports: Limit::new(EXPORTS_PER_HOUR, 3_600, "too many exports of this account"),
            reports: Limit::new(config.moderation.reports_per_hour, 3_600, "too many reports of this user"),
            idempotency_keys: Limit::new(limits.idempotency_keys_per_day, 86_400, "too many idempotency keys of this user in a day"),
            keys: Limit::new(burst(limits.key_requests_per_second), 10, "too many requests of this API key"),
            hooks: Limit::new(burst(limits.hook_requests_per_second), 10, "too many posts of this webhook"),
        }
    }
    /// A request over a socket, by user.
    pub fn request(&self, user: UserId) -> Result<(), ApiError> {
        self.requests.check(user)
    }
    /// A report of a user.
    pub fn report(&self, user: UserId) -> Result<(), ApiError> {
        self.reports.check(user)
    }
    /// A request of a user over HTTP, from the same bucket.
    pub fn request_standing(&self, user: UserId) -> Result<Option<Standing>, ApiError> {
        self.requests.take(user)
    }
    /// A new idempotency key of a user: each is kept for a day.
    pub fn idempotency_key(&self, user: UserId) -> Result<(), ApiError> {
        self.idempotency_keys.check(user)
    }
    /// A request of an API key.
    pub fn key_standing(&self, key: u64) -> Result<Option<Standing>, ApiError> {
        self.keys.take(key)
    }
    /// A post of an incoming webhook.
    pub fn hook(&self, hook: u64) -> Result<(), ApiError> {
        self.hooks.check(hook)
    }
    /// An attempt to sign in or register (a refresh token cannot be guessed). A name is limited over all addresses, so that many addresses cannot guess at one
    /// account; the price is that they can keep its owner from signing in anew (sessions that exist go on).
    pub fn attempt(&self, address: IpAddr, name: Option<&str>) -> Result<(), ApiError> {
        self.attempts_by_address.check(network(address))?;
        name.map_or(Ok(()), |n| self.attempts_by_name.check(n))
    }
    /// A mail with a link to an account, whoever asks for it.
    pub fn mail(&self, user: UserId) -> Result<(), ApiError> {
        self.mails.check(user)
    }
    /// An export of an account's data.
    pub fn export(&self, user: UserId) -> Result<(), ApiError> {
        self.exports.check(user)
    }
    /// A request to the HTTP API.
    pub fn http(&self, address: IpAddr) -> Result<Option<Standing>, ApiError> {
        self.http.take(network(address))
    }
    /// Requests to the HTTP API that an address may make at once; 0: as many as it likes.
    pub fn http_burst(&self) -> u32 {
        self.http.burst
    }
    /// A new socket.
    pub fn connect(&self, address: IpAddr) -> Result<(), ApiError> {
        self.connects.check(network(address))
    }
}

/// What counts as one address: an IPv4 address, or the /64 that one IPv6 customer has at least.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_refused_with_the_time_to_wait() {
        let limit = Limit::new(3, 60, "too many");
        assert!((0..3).all(|_| limit.check("a").is_ok()));
        let refused = limit.check("a").unwrap_err();
        assert_eq!(refused.code, Code::RateLimited);
        assert!((19_000..=20_000).contains(&refused.retry_after_ms.unwrap()), "{refused:?}");
        let standing = limit.take("b").unwrap().unwrap();
        assert_eq!(standing, Standing { limit: 3, remaining: 2, reset_s: 20 }, "another key has its own bucket");
        assert!((0..10_000).all(|_| Limit::new(0, 60, "none").check("a").is_ok()), "0 is no limit");
    }

    #[test]
    fn no_flood_of_keys_makes_it_grow() {
        let limit = Limit::new(1, 1, "too many");
        (0..200_000u32).for_each(|n| drop(limit.check(n)));
        assert!(limit.slots.unwrap().len() <= SLOTS as usize);
    }

    #[test]
    fn a_customers_ipv6_addresses_are_one() {
        let net = |s: &str| network(s.parse().unwrap());
        assert_eq!(net("2001:db8::1"), net("2001:db8::ffff:1"));
        assert_ne!(net("2001:db8::1"), net("2001:db8:0:1::1"));
        assert_eq!(net("::ffff:192.0.2.1"), net("192.0.2.1"));
        assert_ne!(net("192.0.2.1"), net("192.0.2.2"));
    }
}
