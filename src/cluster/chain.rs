//! Which rows of a room's log count: the chain of ownership rule 3 and the reading of rule 9. Pure.

use crate::protocol::ids::{Epoch, Seq};
use crate::storage::{LogRow, StorageError, Tail};
use std::collections::BTreeMap;

/// What a takeover found: entries that are committed up to `base`, and the live rows above it that must be adopted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takeover {
    /// Committed for sure.
    pub base: Seq,
    /// Rows above the base that belong to the chain, ascending and contiguous from `base + 1`. They may never have been
    /// acknowledged; they are written again under the owner's own epoch before anything else is (rule 4).
    pub adopt: Vec<LogRow>,
    /// The highest epoch seen on any row, dead ones included: the owner's must be higher (rule 7).
    pub highest: Epoch,
}

/// The chain rule: at each seq the highest epoch counts; the chain starts at the base and goes on while the next seq exists
/// and its epoch is not lower than that of the row before it. Everything after its end is dead.
/// `known`: a committed head that is known for a fact (rule 8).
pub fn takeover(tail: &Tail, known: Seq) -> Takeover {
    let mut best: BTreeMap<Seq, &LogRow> = BTreeMap::new();
    let mut out = Takeover { base: tail.base.max(known), ..Takeover::default() };
    for row in &tail.rows {
        out.base = out.base.max(row.committed);
        out.highest = out.highest.max(row.epoch);
        let slot = best.entry(row.seq).or_insert(row);
        if row.epoch > slot.epoch {
            *slot = row;
        }
    }
    let mut epoch = best.get(&out.base).map_or(Epoch(0), |row| row.epoch);
    for (seq, row) in best.range(out.base + 1..) {
        let dead = row.epoch < epoch && !crate::sabotage::is("no_chain");
        if *seq != out.base + 1 + out.adopt.len() as u64 || dead {
            break;
        }
        epoch = row.epoch;
        out.adopt.push((*row).clone());
    }
    out
}

/// Committed rows `from..=to` out of what a read gave: the highest epoch per seq. A missing seq is an error to retry,
/// never a hole to show. `to` must not be above a committed head that was known *before* the read began.
pub fn committed(rows: Vec<LogRow>, from: Seq, to: Seq) -> Result<Vec<LogRow>, StorageError> {
    let mut out: Vec<LogRow> = Vec::with_capacity(rows.len());
    for row in rows.into_iter().filter(|r| (from..=to).contains(&r.seq)) {
        match out.last_mut() {
            Some(last) if last.seq == row.seq => {
                if row.epoch > last.epoch {
                    *last = row;
                }
            }
            _ => out.push(row),
        }
    }
    let want = (to + 1).saturating_sub(from);
    if out.len() as u64 != want || out.first().is_some_and(|r| r.seq != from) {
        return Err(StorageError::Failed(format!("log has {} of the {want} entries {from}..={to}", out.len()).into()));
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn row(seq: Seq, epoch: u64, committed: Seq, what: &'static str) -> LogRow {
        LogRow { seq, epoch: Epoch(epoch), committed, payload: Bytes::from_static(what.as_bytes()) }
    }
    fn texts(t: &Takeover) -> String {
        t.adopt.iter().map(|r| String::from_utf8_lossy(&r.payload).into_owned()).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn a_clean_tail_needs_no_adoption() {
        let t = takeover(&Tail { base: 3, rows: vec![row(3, 1, 2, "c")] }, 0);
        assert_eq!((t.base, t.adopt.len(), t.highest), (3, 0, Epoch(1)));
    }

    #[test]
    fn unacknowledged_rows_above_the_base_are_adopted_in_order() {
        let t = takeover(&Tail { base: 0, rows: vec![row(1, 1, 0, "a"), row(2, 1, 1, "b"), row(3, 1, 1, "c")] }, 0);
        assert_eq!((t.base, texts(&t).as_str()), (1, "b,c"));
    }

    #[test]
    fn an_old_tail_behind_a_newer_row_stays_dead() {
        // An old tail: seq 1 was taken by epoch 2, so 2@1 must not come back
        let t = takeover(&Tail { base: 0, rows: vec![row(1, 1, 0, "p"), row(1, 2, 0, "q"), row(2, 1, 0, "q")] }, 0);
        assert_eq!(texts(&t), "q");
    }

    #[test]
    fn the_chain_ends_at_a_hole() {
        let t = takeover(&Tail { base: 0, rows: vec![row(1, 1, 0, "a"), row(3, 1, 0, "c")] }, 0);
        assert_eq!(texts(&t), "a");
    }

    #[test]
    fn reading_takes_the_highest_epoch_and_never_shows_a_hole() {
        let rows = vec![row(1, 1, 0, "old"), row(1, 2, 0, "new"), row(2, 2, 0, "b"), row(3, 2, 0, "above")];
        let got = committed(rows.clone(), 1, 2).unwrap();
        assert_eq!(got.iter().map(|r| &r.payload[..]).collect::<Vec<_>>(), [b"new".as_slice(), b"b"]);
        assert!(committed(rows, 1, 4).is_err());
        assert_eq!(committed(vec![], 5, 4).unwrap(), vec![]);
    }
}
