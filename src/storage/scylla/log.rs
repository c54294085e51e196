//! The message log.

use super::calls::{nothing_written, odd};
use super::rows::{RowWrite, SLICES, all, number};
use super::{Core, ScyllaStore, packing};
use crate::protocol::ids::{BUCKET_ENTRIES, Epoch, RoomId, Seq, Shard, bucket_of};
use crate::storage::tailing::Tailing;
use crate::storage::{Append, LogEnd, LogRow, MessageLog, Purged, Result, Stamp, StorageError, Tail};
use async_trait::async_trait;
use scylla::value::CqlValue;
use std::sync::atomic::Ordering::Relaxed;

/// Seqs of one read at most: a bucket.
const ROWS_MAX: u64 = BUCKET_ENTRIES;
/// Rooms with entries that may not be applied: slice of the shard → shard and room.
const UNAPPLIED: &str = "unapplied";

/// What a room's max-registers say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    pub(super) committed: Seq,
    pub(super) bucket: u32,
    pub(super) floor: Seq,
}

/// A stamp as a time stamp: above 0.
pub(super) fn time(stamp: Stamp) -> i64 {
    i64::try_from(stamp.get() + 1).unwrap_or(i64::MAX)
}

fn slice_of_shard(shard: Shard) -> [u8; 1] {
    [(shard.0 % u32::from(SLICES)) as u8]
}

fn unapplied_id(shard: Shard, room: RoomId) -> Vec<u8> {
    [&shard.0.to_be_bytes()[..], &room.0.to_be_bytes()].concat()
}

impl Core {
    pub(super) async fn marks(&self, room: RoomId) -> Result<Marks> {
        let row = self.select_one::<(Option<i64>, Option<i32>, Option<i64>)>(&self.statements.marks, (room.0 as i64,)).await?;
        let (committed, bucket, floor) = row.unwrap_or_default();
        let whole = |n: Option<i64>, least: u64| n.map_or(least, |n| n as u64);
        Ok(Marks { committed: whole(committed, 0), bucket: bucket.unwrap_or(0) as u32, floor: whole(floor, 1) })
    }

    async fn append(&self, append: Append) -> Result<()> {
        let Append { room, shard, rows, mark_unapplied, new_bucket } = append;
        let (Some(bucket), Some(last)) = (rows.first().map(|row| bucket_of(row.seq)), rows.last().map(|row| row.seq)) else {
            return Ok(());
        };
        debug_assert!(rows.windows(2).all(|w| w[0].seq < w[1].seq && bucket_of(w[1].seq) == bucket), "one bucket, ascending");
        // Both before the rows: a mark or pointer without rows costs a read, rows without them would not be found (rule 13).
        let point = async {
            match new_bucket && bucket > 0 {
                true => {
                    let values = (i64::from(bucket), bucket as i32, room.0 as i64);
                    self.write(&self.statements.mark_bucket, values).await
                }
                false => Ok(()),
            }
        };
        let mark = async {
            match mark_unapplied {
                // Only what is applied up to the last of these rows takes this mark away.
                true => self.set_unapplied(shard, room, Stamp::new(last, 0), true).await,
                false => Ok(()),
            }
        };
        let (pointed, marked) = tokio::join!(point, mark);
        pointed.and(marked).map_err(nothing_written)?;
        let count = rows.len() as u64;
        let put = |(seq, epoch, value): (Seq, Epoch, Vec<u8>)| {
            let [room, seq, epoch] = [room.0 as i64, seq as i64, epoch.0 as i64].map(CqlValue::BigInt);
            (self.statements.log_put.clone(), vec![room, CqlValue::Int(bucket as i32), seq, epoch, CqlValue::Blob(value)])
        };
        self.write_batch(packing::pack(room, &rows).into_iter().map(put).collect()).await?;
        self.batches.fetch_add(1, Relaxed);
        self.rows.fetch_add(count, Relaxed);
        Ok(())
    }

    /// Rows of one bucket, every epoch, ascending by (seq, epoch); pages are read upward (rule 13).
    pub(super) async fn bucket_rows(&self, room: RoomId, bucket: u32, from: Seq, to: Seq) -> Result<Vec<LogRow>> {
        Ok(packing::flatten(self.bucket_packs(room, bucket, from, to).await?, from, to))
    }

    /// The packs in which they lie, whole.
    pub(super) async fn bucket_packs(&self, room: RoomId, bucket: u32, from: Seq, to: Seq) -> Result<Vec<Vec<LogRow>>> {
        let (from, to) = (from.saturating_sub(packing::REACH), i64::try_from(to).unwrap_or(i64::MAX));
        let values = (room.0 as i64, bucket as i32, i64::try_from(from).unwrap_or(i64::MAX), to);
        let rows = self.select::<(i64, i64, Vec<u8>)>(&self.statements.log_range, values, usize::MAX).await?;
        rows.into_iter().map(|(seq, epoch, value)| packing::unpack(room, seq as u64, Epoch(epoch as u64), &value)).collect()
    }

    async fn rows(&self, room: RoomId, from: Seq, to: Seq) -> Result<Vec<LogRow>> {
        if from > to {
            return Ok(Vec::new());
        }
        if to - from >= ROWS_MAX {
            return Err(StorageError::Failed(format!("{from}..={to} is more than {ROWS_MAX} seqs").into()));
        }
        let mut rows = Vec::new();
        for bucket in bucket_of(from)..=bucket_of(to) {
            rows.extend(self.bucket_rows(room, bucket, from, to).await?);
        }
        Ok(rows)
    }

    pub(super) async fn tail(&self, room: RoomId) -> Result<Tail> {
        let marks = self.marks(room).await?;
        let mut tailing = Tailing::new(marks.bucket, marks.committed);
        while let Some(bucket) = tailing.wants() {
            // What lies below a committed head is not needed; the row at it is there, so its bucket is not taken for empty.
            let from = if bucket_of(marks.committed) == bucket { marks.committed } else { 0 };
            tailing.give(self.bucket_rows(room, bucket, from, Seq::MAX).await?);
        }
        Ok(tailing.done())
    }

    async fn mark(&self, room: RoomId, committed: Seq) -> Result<()> {
        if committed == 0 {
            return Ok(());
        }
        let committed = committed as i64;
        self.write(&self.statements.mark_committed, (committed, committed, room.0 as i64)).await
    }

    /// Sets a room's mark, or takes it away if it is not newer than the stamp.
    pub(super) async fn set_unapplied(&self, shard: Shard, room: RoomId, stamp: Stamp, on: bool) -> Result<()> {
        let write = RowWrite { id: unapplied_id(shard, room), stamp: time(stamp), value: on.then(Vec::new) };
        self.put_rows(&self.statements.derived, UNAPPLIED, &slice_of_shard(shard), vec![write]).await
    }

    async fn unapplied(&self, shard: Option<Shard>) -> Result<Vec<RoomId>> {
        let slices: Vec<[u8; 1]> = shard.map_or_else(|| (0..SLICES).map(|slice| [slice]).collect(), |shard| vec![slice_of_shard(shard)]);
        let rows = all(slices, |slice| async move { self.raw_rows(&self.statements.derived, UNAPPLIED, &slice, None, usize::MAX).await });
        let mut rooms = Vec::new();
        for (id, _) in rows.await?.into_iter().flatten() {
            let (of, room) = id.split_first_chunk::<4>().ok_or_else(|| odd("a mark's id"))?;
            if shard.is_none_or(|shard| shard.0.to_be_bytes() == *of) {
                rooms.push(RoomId(number(room)?));
            }
        }
        Ok(rooms)
    }
}

#[async_trait]
impl MessageLog for ScyllaStore {
    async fn append(&self, append: Append) -> Result<()> {
        self.run(move |core| async move { core.append(append).await }).await
    }
    async fn rows(&self, room: RoomId, from: Seq, to: Seq) -> Result<Vec<LogRow>> {
        self.run(move |core| async move { core.rows(room, from, to).await }).await
    }
    async fn tail(&self, room: RoomId) -> Result<Tail> {
        self.run(move |core| async move { core.tail(room).await }).await
    }
    async fn ends(&self, rooms: &[RoomId]) -> Result<Vec<LogEnd>> {
        let rooms = rooms.to_vec();
        self.run(move |core| async move {
            let core = &core;
            let end = |room| async move {
                let tail = core.tail(room).await?;
                Ok(LogEnd { head: tail.base, top: tail.rows.last().map_or(tail.base, |row| row.seq.max(tail.base)) })
            };
            all(rooms, end).await
        })
        .await
    }
    async fn mark(&self, room: RoomId, committed: Seq) -> Result<()> {
        self.run(move |core| async move { core.mark(room, committed).await }).await
    }
    async fn purge(&self, room: RoomId, below: Seq, rows_max: usize) -> Result<Purged> {
        self.run(move |core| async move { core.purge(room, below, rows_max).await }).await
    }
    async fn floors(&self, rooms: &[RoomId]) -> Result<Vec<Seq>> {
        let rooms = rooms.to_vec();
        self.run(move |core| async move {
            let core = &core;
            all(rooms, |room| async move { Ok(core.marks(room).await?.floor) }).await
        })
        .await
    }
    async fn unapplied(&self, shard: Option<Shard>) -> Result<Vec<RoomId>> {
        self.run(move |core| async move { core.unapplied(shard).await }).await
    }
}
