//! One suite for every backend: a test for each promise in the documentation of the storage traits.
//!
//! A backend's tests give a [`Backend`] to [`storage_conformance!`](crate::storage_conformance), which makes one test per
//! promise. Nothing here knows a backend, and nothing needs more than its traits, so integration tests use it too.

use super::Store;
use async_trait::async_trait;
use std::sync::Arc;

pub mod log;
pub mod ownership;
pub mod records;
pub mod rooms;
pub mod support;
pub mod users;

/// A store under test, empty at first.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Opens it. Called again only after the store of the last call was closed: then everything durable is there again.
    async fn open(&self) -> Arc<dyn Store>;
}

/// Makes a test of each promise. The argument is an expression that gives a fresh [`Backend`](crate::storage::conformance::Backend).
#[macro_export]
macro_rules! storage_conformance {
    ($backend:expr) => {
        $crate::storage_conformance!(@tests $backend;
            log: append_is_durable_when_it_answers, append_writes_all_rows_or_none, the_same_row_again_is_no_error,
                rows_are_ordered_by_seq_and_epoch, rows_are_read_by_range, rows_of_more_than_4096_seqs_are_refused,
                rows_cross_buckets, rooms_do_not_mix, sixty_four_concurrent_appenders, tail_begins_at_the_largest_committed,
                tail_begins_at_the_marker, tail_of_an_empty_room_is_empty, tail_crosses_buckets, ends_take_the_largest_head_and_the_highest_row,
                marks_are_max_registers, purging_raises_the_floor_and_keeps_the_base, purging_takes_folds_and_mentions_along,
                unapplied_rooms_are_found_after_a_restart, payloads_are_kept_byte_for_byte;
            ownership: a_missing_cell_is_the_default, raising_needs_the_right_cell, one_of_many_raises_wins, epochs_are_durable,
                shards_are_independent, a_worker_slot_has_one_holder, a_worker_slot_is_durable;
            rooms: effects_are_visible, effects_again_change_nothing, effects_are_durable_with_the_next_append,
                rooms_are_listed_in_order, a_ban_is_no_membership, a_mute_outlives_a_membership, leaving_removes_both_ways, members_are_paged, rooms_of_a_user_are_ordered_and_limited,
                mentions_are_counted_after_a_seq, folds_are_replaced_whole, pins_are_listed_in_order, a_pair_has_one_direct_room, a_direct_room_is_durable,
                a_creation_is_claimed_once, cursors_are_max_registers, cursors_are_durable_within_a_second;
            records: records_are_replaced_by_compare_and_set, records_are_listed_by_partition, versions_order_the_writes_of_a_record,
                records_are_durable, what_does_not_fit_is_refused;
            users: a_name_is_taken_once, users_are_found_by_id_and_name, users_are_listed_in_order, replacing_needs_the_stored_row,
                one_of_many_replacements_wins, renaming_frees_the_old_name,
                names_and_accounts_agree_after_many_changes_at_once, last_seen_only_grows, devices_are_replaced_by_compare_and_set,
                devices_are_listed_in_order, contacts_change_both_ways, contacts_are_listed_in_order, accounts_are_durable,
                a_closed_store_fails;
        );
    };
    (@tests $backend:expr; $($module:ident: $($name:ident),* ;)*) => {
        $(mod $module {
            #[allow(unused_imports)]
            use super::*;
            $($crate::storage_conformance!(@test $backend, $module, $name);)*
        })*
    };
    (@test $backend:expr, $module:ident, $name:ident) => {
        #[tokio::test]
        async fn $name() {
            let backend = $backend;
            $crate::storage::conformance::$module::$name(&backend).await;
        }
    };
}
