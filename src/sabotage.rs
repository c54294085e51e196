//! Breaks one promise at a time, so that `make prove` can show that the promise's test then fails.
//!
//! Only in builds with the cargo feature `sabotage`, and only the one that `HUBBUB_SABOTAGE` names. Without the feature
//! [`is`] is a constant `false` and nothing of this is in the binary.

/// The promises that can be broken, and where. `make prove` reads this list from `hubbub sabotage-list`.
pub const ALL: &[(&str, &str)] = &[
    ("skip_fsync", "P1: the log answers without flushing to the device"),
    ("ack_early", "P1: a room acknowledges before its append is durable"),
    ("reuse_seq", "P2: a room gives the seq of a batch again after a restart of its actor"),
    ("forget_client_id", "P3: a room does not look for the client id of a resend"),
    ("drop_envelope", "P4: a hub drops every tenth delivery and does not look for holes"),
    ("leak_after_kick", "P8: a hub goes on delivering to who was put out"),
    ("resume_skips", "P4: a resume leaves out one entry of each page"),
    ("slow_reader_kept", "P7: an outbox grows without bound"),
    ("skip_checksum", "P1: damage in the middle of the log is dropped silently"),
    ("forget_push", "P1: what was owed outside a room when the process was killed is not made up for"),
    ("accept_expired", "P8: expired tokens are accepted"),
    ("no_membership_check", "P8: everybody may read everything"),
];

/// Whether the promise `name` is to be broken.
#[cfg(feature = "sabotage")]
pub fn is(name: &str) -> bool {
    static WHICH: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    debug_assert!(ALL.iter().any(|(n, _)| *n == name), "unknown sabotage {name}");
    WHICH.get_or_init(|| std::env::var("HUBBUB_SABOTAGE").unwrap_or_default()) == name
}

/// Whether the promise `name` is to be broken.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn is(_name: &str) -> bool {
    false
}
