//! Rows of the log that are written together lie together: consecutive seqs of one epoch are one row of the table, under the first of them.
//! Pure.
//!
//! What the database asks for a row of its own, however small, a busy room pays once for all messages of a batch. Nothing else changes: each
//! entry stays a [`LogRow`] with its checksum over its own key, and what is read is taken apart again. One row alone is stored as in the
//! embedded store. A pack is `[1: 2][2: rows, big endian]`, then for each row `[4: length, big endian][its value]`.
//!
//! Who reads from a seq on must begin [`REACH`] before it. What was written twice in packs that were cut differently (a move that was broken
//! off) is given once; of two packs with the same key the greater value is kept by the database, which is the longer one.

use crate::protocol::ids::{Epoch, RoomId, Seq};
use crate::storage::{LogRow, Result, StorageError, record};
use bytes::BufMut;

/// Rows of a pack at most.
pub(super) const ROWS_MAX: usize = 32;
/// The row of a seq lies under a key at most so far before it.
pub(super) const REACH: Seq = ROWS_MAX as Seq - 1;
/// Bytes of payload of a pack of several rows at most.
const BYTES_MAX: usize = 64 * 1024;
/// What a pack begins with; a row that lies alone begins with [`record::VERSION`].
const PACK: u8 = 2;
const HEAD: usize = 1 + 2;

/// The rows, ascending, as they are packed: the key's seq and epoch, and the value.
pub(super) fn pack(room: RoomId, rows: &[LogRow]) -> Vec<(Seq, Epoch, Vec<u8>)> {
    let mut packs = Vec::with_capacity(rows.len().div_ceil(ROWS_MAX));
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let mut bytes = 0;
        let together = rest.iter().enumerate().take(ROWS_MAX).take_while(|(at, row)| {
            bytes += row.payload.len();
            *at == 0 || (row.epoch == first.epoch && row.seq == first.seq + *at as Seq && bytes <= BYTES_MAX)
        });
        let (these, others) = rest.split_at(together.count());
        packs.push((first.seq, first.epoch, encode(room, these)));
        rest = others;
    }
    packs
}

fn encode(room: RoomId, rows: &[LogRow]) -> Vec<u8> {
    if let [row] = rows {
        return record::encode_value(room, row).to_vec();
    }
    let payloads: usize = rows.iter().map(|row| row.payload.len() + 32).sum();
    let mut out = Vec::with_capacity(HEAD + payloads);
    out.put_u8(PACK);
    out.put_u16(rows.len() as u16);
    for row in rows {
        let value = record::encode_value(room, row);
        out.put_u32(value.len() as u32);
        out.put_slice(&value);
    }
    out
}

/// The rows of one row of the table.
pub(super) fn unpack(room: RoomId, seq: Seq, epoch: Epoch, value: &[u8]) -> Result<Vec<LogRow>> {
    let row = |seq: Seq, value: &[u8]| Ok(record::decode_row(&record::key(room, seq, epoch), value)?.1);
    if value.first() != Some(&PACK) {
        return Ok(vec![row(seq, value)?]);
    }
    let damaged = || StorageError::Damaged(format!("packed rows of room {room} from {seq} on").into());
    let (count, mut rest) = value[1..].split_first_chunk::<2>().ok_or_else(damaged)?;
    let count = u16::from_be_bytes(*count);
    let mut rows = Vec::with_capacity(usize::from(count).min(ROWS_MAX));
    for at in 0..count {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (value, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(damaged)?;
        rows.push(row(seq + Seq::from(at), value)?);
        rest = behind;
    }
    if rest.is_empty() && !rows.is_empty() { Ok(rows) } else { Err(damaged()) }
}

/// All rows of `from..=to` that packs hold, ascending by (seq, epoch), each once.
pub(super) fn flatten(packs: Vec<Vec<LogRow>>, from: Seq, to: Seq) -> Vec<LogRow> {
    let mut rows: Vec<LogRow> = packs.into_iter().flatten().filter(|row| (from..=to).contains(&row.seq)).collect();
    rows.sort_by_key(|row| (row.seq, row.epoch));
    rows.dedup_by_key(|row| (row.seq, row.epoch));
    rows
}

/// The highest seq up to `end` that no pack lies on both sides of: what is below it can be removed, and nothing else goes with it.
pub(super) fn seam(packs: &[Vec<LogRow>], mut end: Seq) -> Seq {
    let around = |end| move |pack: &&Vec<LogRow>| matches!((pack.first(), pack.last()), (Some(a), Some(b)) if a.seq < end && end <= b.seq);
    while let Some(first) = packs.iter().filter(around(end)).filter_map(|pack| pack.first()).map(|row| row.seq).min() {
        end = first;
    }
    end
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    const ROOM: RoomId = RoomId(7);

    fn row(seq: Seq, epoch: u64, length: usize) -> LogRow {
        LogRow { seq, epoch: Epoch(epoch), committed: seq - 1, payload: Bytes::from(vec![seq as u8; length]) }
    }
    fn unpacked(packs: &[(Seq, Epoch, Vec<u8>)]) -> Vec<Vec<LogRow>> {
        packs.iter().map(|(seq, epoch, value)| unpack(ROOM, *seq, *epoch, value).unwrap()).collect()
    }

    #[test]
    fn a_row_alone_is_stored_as_in_the_embedded_store() {
        let row = row(5, 1, 10);
        assert_eq!(pack(ROOM, std::slice::from_ref(&row)), [(5, Epoch(1), record::encode_value(ROOM, &row).to_vec())]);
    }

    #[test]
    fn a_changed_bit_anywhere_in_a_pack_is_noticed() {
        let packs = pack(ROOM, &[row(5, 1, 3), row(6, 1, 0), row(7, 1, 9)]);
        let [(5, Epoch(1), value)] = &packs[..] else { panic!("{packs:?}") };
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unpack(ROOM, 5, Epoch(1), &bad).is_err(), "bit {bit}");
        }
        for end in 0..value.len() {
            assert!(unpack(ROOM, 5, Epoch(1), &value[..end]).is_err(), "cut at {end}");
        }
        assert!(unpack(ROOM, 6, Epoch(1), value).is_err() && unpack(ROOM, 5, Epoch(2), value).is_err());
    }

    #[test]
    fn of_two_packs_with_one_key_the_longer_is_the_greater() {
        let rows: Vec<LogRow> = (5..9).map(|seq| row(seq, 1, 200)).collect();
        let value = |n: usize| pack(ROOM, &rows[..n]).remove(0).2;
        assert!((1..4).all(|n| value(n) < value(n + 1)));
    }

    #[test]
    fn what_is_removed_ends_at_a_seam() {
        let packs = |cuts: &[std::ops::Range<Seq>]| -> Vec<Vec<LogRow>> {
            cuts.iter().map(|cut| cut.clone().map(|seq| row(seq, 1, 1)).collect()).collect()
        };
        assert_eq!(seam(&packs(&[1..5, 5..9]), 5), 5);
        assert_eq!(seam(&packs(&[1..5, 5..9]), 7), 5);
        assert_eq!(seam(&packs(&[1..5, 3..7, 6..9]), 8), 1, "each lies across the end of the one before it");
        assert_eq!(seam(&packs(&[1..3, 3..5]), 9), 9);
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out_again_however_it_was_cut(
            shape in proptest::collection::vec((0..3u64, 1..4u64, prop_oneof![9 => 0..300usize, 1 => 30_000..70_000usize]), 1..120),
            cut in 1..40usize, from in 0..60u64, to in 0..200u64,
        ) {
            let mut rows: Vec<LogRow> = Vec::new();
            for (gap, epoch, length) in shape {
                let last = rows.last().map_or(0, |row| row.seq);
                rows.push(row(last + 1 + gap / 2, epoch, length));
            }
            let packs = pack(ROOM, &rows);
            for (seq, _, value) in &packs {
                let held = unpack(ROOM, *seq, packs.iter().find(|p| p.0 == *seq).unwrap().1, value).unwrap();
                prop_assert!(held.len() == 1 || held.iter().map(|r| r.payload.len()).sum::<usize>() <= BYTES_MAX);
                prop_assert!(held.iter().all(|row| row.seq - seq <= REACH));
            }
            let mut all = unpacked(&packs);
            all.extend(rows.chunks(cut).flat_map(|some| unpacked(&pack(ROOM, some))));
            let wanted: Vec<LogRow> = rows.iter().filter(|row| (from..=to).contains(&row.seq)).cloned().collect();
            prop_assert_eq!(flatten(all, from, to), wanted);
        }
    }
}
