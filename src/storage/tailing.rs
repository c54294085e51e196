//! Which buckets a takeover reads, and what it finds there: ownership rules 3 and 13 for a store that reads bucket by bucket. Pure.
//!
//! The room's bucket pointer is a lower bound. From it upward until a bucket is empty; then the base is known. It may lie lower: then once
//! more from its bucket **upward**, so that the row at the base, whose epoch the chain starts with, is among what is given. Never downward: an
//! owner that is fenced already may still be writing again what it adopted, the higher bucket first. Who had read the higher bucket before
//! that and the lower one after it would see epochs fall, and take what is committed for dead. For the same reason a bucket that is read in
//! pages is read from its lowest seq upward.

use super::{LogRow, Tail};
use crate::protocol::ids::{Seq, bucket_of};

/// See the module.
#[derive(Debug)]
pub struct Tailing {
    base: Seq,
    rows: Vec<LogRow>,
    /// The bucket the walk upward began with, and the one to read next; none when its end was seen.
    lowest: u32,
    above: Option<u32>,
}

impl Tailing {
    /// `pointer`: the room's bucket pointer; `marker`: its marker. Both read at quorum, before anything else.
    pub fn new(pointer: u32, marker: Seq) -> Tailing {
        Tailing { base: marker, rows: Vec::new(), lowest: pointer, above: Some(pointer) }
    }

    /// The bucket to read next, whole and at quorum, beginning now; none when everything needed is there.
    pub fn wants(&mut self) -> Option<u32> {
        let needed = bucket_of(self.base);
        if self.above.is_none() && needed < self.lowest {
            // The base never falls, so this happens once.
            (self.lowest, self.above) = (needed, Some(needed));
            if !crate::sabotage::is("downward_tail") {
                self.rows.clear();
            }
        }
        self.above
    }

    /// The rows of the bucket that [`Tailing::wants`] named, every epoch of each.
    pub fn give(&mut self, rows: Vec<LogRow>) {
        let Some(bucket) = self.above else { return };
        debug_assert!(rows.iter().all(|row| bucket_of(row.seq) == bucket));
        let downward = crate::sabotage::is("downward_tail") && self.rows.first().is_some_and(|row| bucket < bucket_of(row.seq));
        self.above = if rows.is_empty() || downward { None } else { bucket.checked_add(1) };
        self.base = rows.iter().fold(self.base, |base, row| base.max(row.committed));
        self.rows.extend(rows);
    }

    /// What was found: the base and everything from it upward, ascending by (seq, epoch).
    pub fn done(mut self) -> Tail {
        let base = self.base;
        self.rows.retain(|row| row.seq >= base);
        self.rows.sort_by_key(|row| (row.seq, row.epoch));
        Tail { base, rows: self.rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{BUCKET_ENTRIES, Epoch};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn row(seq: Seq, committed: Seq) -> LogRow {
        LogRow { seq, epoch: Epoch(1), committed, payload: Bytes::new() }
    }
    fn tail(log: &[LogRow], pointer: u32, marker: Seq) -> (Tail, Vec<u32>) {
        let (mut tailing, mut read) = (Tailing::new(pointer, marker), Vec::new());
        while let Some(bucket) = tailing.wants() {
            read.push(bucket);
            tailing.give(log.iter().filter(|row| bucket_of(row.seq) == bucket).cloned().collect());
        }
        (tailing.done(), read)
    }

    #[test]
    fn a_base_in_the_bucket_below_is_read_too() {
        let border = BUCKET_ENTRIES;
        let log = [row(border - 2, border - 3), row(border - 1, border - 3), row(border, border - 2)];
        let (tail, read) = tail(&log, 1, 0);
        assert_eq!((tail.base, tail.rows.len(), read), (border - 2, 3, vec![1, 2, 0, 1, 2]));
    }

    #[test]
    fn an_old_pointer_costs_reads_and_nothing_else() {
        let border = BUCKET_ENTRIES;
        let log = [row(5, 4), row(border + 1, border), row(border * 2, border * 2 - 1), row(border * 2 - 1, border + 1)];
        let (found, read) = tail(&log, 0, 0);
        assert_eq!((found.base, read), (border * 2 - 1, vec![0, 1, 2, 3]));
        assert!(found.rows.iter().map(|r| r.seq).eq([border * 2 - 1, border * 2]));
    }

    #[test]
    fn an_empty_room_costs_one_read() {
        assert_eq!(tail(&[], 0, 0), (Tail::default(), vec![0]));
    }

    proptest! {
        /// Wherever the pointer is, at or below the bucket of the committed head, the same is found.
        #[test]
        fn the_pointer_is_only_a_lower_bound(head in 0..BUCKET_ENTRIES * 4, lag in 0..20u64, behind in 0..3u32) {
            let from = head.saturating_sub(lag);
            let mut log: Vec<LogRow> = (1..=head).filter(|s| s % 97 == 0 || *s >= from.saturating_sub(5)).map(|s| row(s, s.saturating_sub(lag).saturating_sub(1))).collect();
            // Every bucket up to the head has rows.
            for bucket in 0..=bucket_of(head) {
                let seq = (u64::from(bucket) * BUCKET_ENTRIES).max(1);
                if seq <= head && !log.iter().any(|r| r.seq == seq) {
                    log.push(row(seq, 0));
                }
            }
            let newest = bucket_of(head);
            let want = tail(&log, newest, 0).0;
            prop_assert_eq!(tail(&log, newest.saturating_sub(behind), 0).0, want);
        }
    }
}
