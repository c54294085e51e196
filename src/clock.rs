//! The wall clock: for people, tokens and ids. It orders nothing, and nothing of the log depends on it.

use crate::protocol::ids::Millis;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How far this process' clock is made wrong (`dev.clock_offset_ms`).
static OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// Makes this process' clock wrong by so much, to show what depends on it. Set before anything asks for the time.
pub fn set_offset_ms(offset: i64) {
    OFFSET_MS.store(offset, Ordering::Relaxed);
}

/// See [`set_offset_ms`].
pub fn offset_ms() -> i64 {
    OFFSET_MS.load(Ordering::Relaxed)
}

/// Milliseconds since 1970.
pub fn now_ms() -> Millis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis);
    now.saturating_add_signed(offset_ms())
}
