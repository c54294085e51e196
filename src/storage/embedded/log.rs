//! The message log.

use super::{EmbeddedStore, codec, engine::View};
use crate::protocol::ids::{BUCKET_ENTRIES, Epoch, RoomId, Seq, Shard, bucket_of};
use crate::storage::{Append, LogEnd, LogRow, MessageLog, Purged, Result, StorageError, Tail, record};
use async_trait::async_trait;
use fjall::Slice;

/// Seqs of one read at most: a bucket.
const ROWS_MAX: u64 = BUCKET_ENTRIES;

#[async_trait]
impl MessageLog for EmbeddedStore {
    async fn append(&self, append: Append) -> Result<()> {
        self.shared.space.check(&self.shared.options)?;
        let Append { room, shard, rows, mark_unapplied, new_bucket } = append;
        debug_assert!(rows.windows(2).all(|w| w[0].seq < w[1].seq && bucket_of(w[0].seq) == bucket_of(w[1].seq)), "one bucket, ascending");
        let Some(bucket) = rows.first().map(|row| bucket_of(row.seq)) else { return Ok(()) };
        // Encoded here, so that the one writer has less to do.
        let encode = |row: &LogRow| (Slice::from(record::key(room, row.seq, row.epoch)), Slice::from(&record::encode_value(room, row)[..]));
        let rows: Vec<(Slice, Slice)> = rows.iter().map(encode).collect();
        let bytes = rows.iter().map(|(k, v)| k.len() + v.len()).sum();
        let work = move |tx: &mut super::writer::Tx<'_>| {
            if new_bucket {
                let key = codec::bucket(room);
                if tx.get::<u32>(&key)?.is_none_or(|was| was < bucket) {
                    tx.put(key, &bucket);
                }
            }
            if mark_unapplied {
                tx.put(codec::unapplied(shard, room), &());
            }
            for (key, value) in rows {
                tx.log_row(key, value);
            }
            Ok(())
        };
        self.shared.write(true, bytes, work).await
    }

    async fn rows(&self, room: RoomId, from: Seq, to: Seq) -> Result<Vec<LogRow>> {
        if from > to {
            return Ok(Vec::new());
        }
        if to - from >= ROWS_MAX {
            return Err(StorageError::Failed(format!("{from}..={to} is more than {ROWS_MAX} seqs").into()));
        }
        self.read(move |view| {
            let (first, last) = (record::key(room, from, Epoch(0)), record::key(room, to, Epoch(u64::MAX)));
            let mut rows = Vec::new();
            view.log(&first, &last, false, |k, v| {
                rows.push(record::decode_row(k, v)?.1);
                Ok(true)
            })?;
            Ok(rows)
        })
        .await
    }

    async fn tail(&self, room: RoomId) -> Result<Tail> {
        self.read(move |view| {
            let (base, mut rows) = end_of(view, room, |row, base| row.seq >= base)?;
            rows.retain(|row| row.seq >= base);
            rows.reverse();
            Ok(Tail { base, rows })
        })
        .await
    }

    async fn ends(&self, rooms: &[RoomId]) -> Result<Vec<LogEnd>> {
        let rooms = rooms.to_vec();
        let end = |view: &View<'_>, room| {
            // A row's `committed` is below its seq: nothing at or below base + 1 can raise the base.
            let (head, rows) = end_of(view, room, |row, base| row.seq > base + 1)?;
            // From the end downward: the first is the highest.
            Ok(LogEnd { head, top: rows.first().map_or(head, |row| row.seq.max(head)) })
        };
        self.read(move |view| rooms.iter().map(|room| end(view, *room)).collect()).await
    }

    async fn mark(&self, room: RoomId, committed: Seq) -> Result<()> {
        let work = move |tx: &mut super::writer::Tx<'_>| {
            let key = codec::marker(room);
            if tx.get::<Seq>(&key)?.is_none_or(|was| was < committed) {
                tx.put(key, &committed);
            }
            Ok(())
        };
        self.shared.write(false, 32, work).await
    }

    async fn purge(&self, room: RoomId, below: Seq, rows_max: usize) -> Result<Purged> {
        self.purge_rows(room, below, rows_max).await
    }

    async fn floors(&self, rooms: &[RoomId]) -> Result<Vec<Seq>> {
        let keys: Vec<_> = rooms.iter().map(|r| codec::floor(*r)).collect();
        self.read(move |view| keys.iter().map(|k| Ok(view.get(k)?.unwrap_or(1))).collect()).await
    }

    async fn unapplied(&self, shard: Option<Shard>) -> Result<Vec<RoomId>> {
        self.read(move |view| {
            let rows = view.list::<()>(&codec::unapplied_of(shard), None, usize::MAX)?;
            Ok(rows.into_iter().map(|(room, ())| RoomId(room)).collect())
        })
        .await
    }
}

/// The room's base and its rows from the end downward while `more` says so, given the base as known by then. The base only
/// grows on the way, so whatever ends the walk stays below it.
pub(super) fn end_of(view: &View<'_>, room: RoomId, more: impl Fn(&LogRow, Seq) -> bool) -> Result<(Seq, Vec<LogRow>)> {
    let mut base: Seq = view.get(&codec::marker(room))?.unwrap_or(0);
    let mut rows = Vec::new();
    let (first, last) = (record::key(room, 0, Epoch(0)), record::key(room, Seq::MAX, Epoch(u64::MAX)));
    let (first, last) = (first, widest(last));
    view.log(&first, &last, true, |k, v| {
        let row = record::decode_row(k, v)?.1;
        base = base.max(row.committed);
        let go_on = more(&row, base);
        rows.push(row);
        Ok(go_on)
    })?;
    Ok((base, rows))
}

/// The key with the largest bucket there can be, so that it is above every key of its room.
fn widest(mut key: [u8; 28]) -> [u8; 28] {
    key[8..12].fill(0xff);
    key
}
