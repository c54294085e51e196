//! Rows with time stamps, under (kind, partition, id), in `derived` and `records`. A greater stamp wins, at a tie a removal does.

use super::Core;
use super::calls::odd;
use super::statements::Rows;
use crate::storage::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::value::CqlValue;
use serde::de::DeserializeOwned;

/// Requests of one call that are under way at once.
pub(super) const AT_ONCE: usize = 32;
/// Bytes and rows of one batch.
const BATCH_BYTES_MAX: usize = 256 * 1024;
const BATCH_ROWS_MAX: usize = 256;
/// Partitions over which rows are spread that are listed all together.
pub(super) const SLICES: u8 = 64;

/// The slice of an id.
pub(super) fn slice_of(id: u64) -> [u8; 1] {
    [(xxhash_rust::xxh3::xxh3_64(&id.to_be_bytes()) % u64::from(SLICES)) as u8]
}

/// An id of eight bytes.
pub(super) fn number(id: &[u8]) -> Result<u64> {
    id.try_into().map(u64::from_be_bytes).map_err(|_| odd("an id that is no number"))
}

/// Two numbers as a partition or an id.
pub(super) fn pair(a: u64, b: u64) -> [u8; 16] {
    (u128::from(a) << 64 | u128::from(b)).to_be_bytes()
}

/// A write of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RowWrite {
    pub(super) id: Vec<u8>,
    /// Above 0, below 2^63.
    pub(super) stamp: i64,
    /// None: it is removed.
    pub(super) value: Option<Vec<u8>>,
}

impl Core {
    /// A row.
    pub(super) async fn row<T: DeserializeOwned>(&self, rows: &Rows, kind: &str, part: &[u8], id: &[u8]) -> Result<Option<T>> {
        let row = self.select_one::<(Vec<u8>,)>(&rows.get, (kind, part, id)).await?;
        row.map(|(value,)| crate::storage::records::decode(&value)).transpose()
    }

    /// Rows of a partition behind `after`, ascending, as they are stored.
    pub(super) async fn raw_rows(
        &self,
        rows: &Rows,
        kind: &str,
        part: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let most = i32::try_from(limit).unwrap_or(i32::MAX);
        match after {
            _ if limit == 0 => Ok(Vec::new()),
            Some(after) => self.select(&rows.list_after, (kind, part, after, most), limit).await,
            None => self.select(&rows.list, (kind, part, most), limit).await,
        }
    }

    /// All rows of a kind that lies in slices, with a number behind `after`, ascending, at most `limit`.
    pub(super) async fn sliced(&self, rows: &Rows, kind: &str, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        // Ids are spread evenly, so each slice holds about its part of the next rows; what one slice has more comes in the next round.
        let page = (limit / usize::from(SLICES)).saturating_mul(2).clamp(8, 4_096);
        let (mut found, mut after) = (Vec::new(), after);
        while found.len() < limit {
            let of_slice = |slice| async move { self.raw_rows(rows, kind, &[slice], Some(&after.to_be_bytes()), page).await };
            let slices: Vec<_> = stream::iter(0..SLICES).map(of_slice).buffered(AT_ONCE).try_collect().await?;
            // Beyond the end of a page that is full there may be more of its slice.
            let ends = slices.iter().filter(|rows| rows.len() == page).filter_map(|rows| rows.last()).map(|(id, _)| number(id));
            let known = ends.collect::<Result<Vec<_>>>()?.into_iter().min();
            let mut round = Vec::new();
            for (id, value) in slices.into_iter().flatten() {
                round.push((number(&id)?, value));
            }
            round.retain(|(id, _)| known.is_none_or(|known| *id <= known));
            round.sort_unstable_by_key(|(id, _)| *id);
            found.extend(round);
            match known {
                Some(known) => after = known,
                None => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Writes rows of one partition: all or none while they are few enough for one batch.
    pub(super) async fn put_rows(&self, rows: &Rows, kind: &str, part: &[u8], writes: Vec<RowWrite>) -> Result<()> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for write in writes {
            let length = write.id.len() + write.value.as_ref().map_or(0, Vec::len) + part.len();
            if batch.len() == BATCH_ROWS_MAX || (bytes + length > BATCH_BYTES_MAX && !batch.is_empty()) {
                self.write_batch(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += length;
            batch.push(statement(rows, kind, part, write));
        }
        self.write_batch(batch).await
    }

    /// The same in one batch, whatever its size.
    pub(super) async fn put_rows_at_once(&self, rows: &Rows, kind: &str, part: &[u8], writes: Vec<RowWrite>) -> Result<()> {
        self.write_batch(writes.into_iter().map(|write| statement(rows, kind, part, write)).collect()).await
    }
}

fn statement(rows: &Rows, kind: &str, part: &[u8], write: RowWrite) -> (scylla::statement::prepared::PreparedStatement, Vec<CqlValue>) {
    let (kind, part, id) = (CqlValue::Text(kind.into()), CqlValue::Blob(part.to_vec()), CqlValue::Blob(write.id));
    let stamp = CqlValue::BigInt(write.stamp);
    match write.value {
        Some(value) => (rows.put.clone(), vec![kind, part, id, CqlValue::Blob(value), stamp]),
        None => (rows.remove.clone(), vec![stamp, kind, part, id]),
    }
}

/// Does `each` for all items, so many at once, and gives the answers in their order.
pub(super) async fn all<I, T, F>(items: impl IntoIterator<Item = I>, each: impl FnMut(I) -> F) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>>,
{
    stream::iter(items).map(each).buffered(AT_ONCE).try_collect().await
}
