//! Breaks one promise at a time, so that `make prove` can show that the promise's test then fails.
//!
//! Only in builds with the cargo feature `sabotage`, and only the one that `HUBBUB_SABOTAGE` names. Without the feature
//! [`is`] is a constant `false` and nothing of this is in the binary. Unit tests may break one on their own thread.

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
    ("cut_at_drain", "P6: a node that drains closes its clients at once, although others would serve them until their time"),
    ("accept_expired", "P8: expired tokens are accepted"),
    ("no_membership_check", "P8: everybody may read everything"),
    ("adopt_as_is", "P1: a takeover counts as committed what it finds, without writing it again"),
    ("old_epoch_rewrite", "P2: a takeover writes what it finds again under its old epoch"),
    ("no_chain", "P3: a takeover takes whatever follows, also behind a newer row"),
    ("ascending_pieces", "P1: a takeover writes what it finds again row by row from below"),
    ("early_check", "P1: a check counts for what became durable after it began"),
    ("head_before_cas", "P1: a takeover reads the log before it has its epoch"),
    ("downward_tail", "P1: a takeover reads the bucket of the base after those above it"),
    ("skip_rewrite", "P2: after a write in doubt a room goes on with the next seq"),
    ("no_token", "P2: a node that does not know whether its claim won takes it that it did"),
    ("same_epoch_restart", "P3: a room that starts again goes on under its old epoch"),
    ("one_replica", "P1: one replica is enough for a write to the database, and for a read"),
    ("sleeping_rename", "P8: a name is taken over although the change that left it behind may still succeed"),
    ("half_a_move", "P1: a move to a database loses rows and does not read back what it wrote"),
    ("unsure_head", "P4: a node says where a room stood when it last knew, whoever owns the room now"),
    ("coalesced_reader", "P2: a reader joins a read that began before it knew the head"),
];

/// Whether the promise `name` is to be broken.
#[cfg(any(feature = "sabotage", test))]
pub fn is(name: &str) -> bool {
    by_name(name) || by_test(name)
}

/// Whether the promise `name` is to be broken.
#[cfg(not(any(feature = "sabotage", test)))]
#[inline(always)]
pub const fn is(_name: &str) -> bool {
    false
}

#[cfg(feature = "sabotage")]
fn by_name(name: &str) -> bool {
    static WHICH: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    debug_assert!(ALL.iter().any(|(n, _)| *n == name), "unknown sabotage {name}");
    WHICH.get_or_init(|| std::env::var("HUBBUB_SABOTAGE").unwrap_or_default()) == name
}
#[cfg(all(test, not(feature = "sabotage")))]
fn by_name(_name: &str) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}
#[cfg(test)]
fn by_test(name: &str) -> bool {
    BROKEN.get() == Some(name)
}
#[cfg(all(feature = "sabotage", not(test)))]
fn by_test(_name: &str) -> bool {
    false
}

/// Breaks the promise `name`, if any, on this thread while `work` runs: for unit tests of pure code, which need no other build.
#[cfg(test)]
pub fn with<T>(name: Option<&'static str>, work: impl FnOnce() -> T) -> T {
    assert!(name.is_none_or(|name| ALL.iter().any(|(n, _)| *n == name)), "unknown sabotage {name:?}");
    let was = BROKEN.replace(name);
    let done = work();
    BROKEN.set(was);
    done
}
