//! Removing what is no longer kept, and giving its space back.

use super::writer::Tx;
use super::{EmbeddedStore, codec, log};
use crate::protocol::entry::Body;
use crate::protocol::ids::{Epoch, RoomId, Seq};
use crate::storage::{Purged, Result, StorageError, record};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

/// Removed bytes below which the log's tables are not worth being written anew.
const RECLAIM_BYTES_MIN: u64 = 4 << 20;

/// What a purge removes.
#[derive(Default)]
struct Doomed {
    log: Vec<Vec<u8>>,
    rows: BTreeSet<codec::Key>,
    bytes: u64,
    floor: Seq,
    more: bool,
}

impl EmbeddedStore {
    pub(super) async fn purge_rows(&self, room: RoomId, below: Seq, rows_max: usize) -> Result<Purged> {
        let doomed = self.read(move |view| find(view, room, below, rows_max)).await?;
        let purged = Purged { floor: doomed.floor, rows: doomed.log.len(), more: doomed.more };
        if purged.rows == 0 {
            return Ok(purged);
        }
        // What is removed is immutable: committed, and below every base that is still to come.
        let Doomed { log, rows, bytes, floor, .. } = doomed;
        let weight = log.iter().map(Vec::len).sum::<usize>() + rows.iter().map(Vec::len).sum::<usize>();
        let work = move |tx: &mut Tx<'_>| {
            let key = codec::floor(room);
            if tx.get::<Seq>(&key)?.is_none_or(|was| was < floor) {
                tx.put(key, &floor);
            }
            log.into_iter().for_each(|key| tx.remove_log(key));
            rows.into_iter().for_each(|key| tx.remove(key));
            Ok(())
        };
        self.shared.write(false, weight, work).await?;
        self.shared.purged.fetch_add(bytes, Relaxed);
        Ok(purged)
    }

    pub(super) async fn give_space_back(&self) -> Result<bool> {
        if self.shared.purged.load(Relaxed) < RECLAIM_BYTES_MIN {
            return Ok(false);
        }
        let purged = self.shared.purged.swap(0, Relaxed);
        let done = self.rewrite(purged).await;
        if done.is_err() {
            self.shared.purged.fetch_add(purged, Relaxed);
        }
        done.map(|()| true)
    }

    async fn rewrite(&self, purged: u64) -> Result<()> {
        let tables = {
            let engine = self.shared.engine.read();
            engine.as_ref().ok_or_else(|| StorageError::Failed("the store is not open".into()))?.tables()
        };
        // Handles of its own: readers and the writer go on. A store that must open itself again waits for them.
        let tables = off_thread(move || tables.compact().map(|()| tables)).await?;
        // A write that is later than the new tables (see `Tables::forget`).
        let note = move |tx: &mut Tx<'_>| {
            tx.put(codec::reclaimed(), &purged);
            Ok(())
        };
        self.shared.write(true, 64, note).await?;
        off_thread(move || tables.forget()).await
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> std::result::Result<T, String> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(format!("the work did not end: {e}"))).map_err(|why| StorageError::Failed(why.into()))
}

/// The oldest rows below `below` and the room's base, whole seqs, and what was derived from them.
fn find(view: &super::View<'_>, room: RoomId, below: Seq, rows_max: usize) -> Result<Doomed> {
    let (base, _) = log::end_of(view, room, |row, base| row.seq >= base)?;
    let mut doomed = Doomed { floor: view.get(&codec::floor(room))?.unwrap_or(1), ..Doomed::default() };
    let end = below.min(base);
    if end <= doomed.floor {
        return Ok(doomed);
    }
    let (first, last) = (record::key(room, doomed.floor, Epoch(0)), record::key(room, end - 1, Epoch(u64::MAX)));
    let mut mentioned = Vec::new();
    view.log(&first, &last, false, |k, v| {
        let row = record::decode_row(k, v)?.1;
        if doomed.log.len() >= rows_max.max(1) && row.seq >= doomed.floor {
            doomed.more = true;
            return Ok(false);
        }
        doomed.log.push(k.to_vec());
        doomed.bytes += (k.len() + v.len()) as u64;
        doomed.floor = row.seq + 1;
        doomed.rows.insert(codec::fold(room, row.seq));
        match record::decode_entry(&row.payload)?.body {
            Body::Message(message) => mentioned.extend(message.mentions.into_iter().map(|user| (user, row.seq))),
            Body::Edit(edit) => mentioned.extend(edit.mentions.into_iter().map(|user| (user, edit.seq))),
            _ => {}
        }
        Ok(true)
    })?;
    doomed.rows.extend(mentioned.into_iter().map(|(user, seq)| codec::mention(user, room, seq)));
    let mut there = BTreeSet::new();
    for key in doomed.rows {
        // A removal of what is not there would only be more to write.
        if view.raw(&key)?.is_some() {
            there.insert(key);
        }
    }
    Ok(Doomed { rows: there, ..doomed })
}
