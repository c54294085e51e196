//! Opening the files: at the start, and again after a fault, when every handle was dropped.
//!
//! Whatever is opened was looked at by `scan` first. A torn tail is cut off here and not left to the engine, which refuses
//! some of them (a last batch whose middle never reached the disk). The journal's last bytes are then written once more and
//! flushed: after a failed flush the kernel may hold pages as clean that the device never got, and only a new write of them
//! makes what is read now what will be read after a power cut.

use super::engine::Engine;
use super::{OpenError, SYNCED, Shared, codec, ownership, read_synced, scan};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Journal bytes written again before the engine opens. More than can be unflushed after one failed batch.
const REWRITTEN_BYTES: u64 = 8 << 20;
/// Bytes that must fit on the disk before the store is given up for a new try.
const PROBE_BYTES: usize = 1 << 20;
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Opens the engine in `dir/db`; returns it and the number of the last batch.
pub(super) fn open_engine(dir: &Path, nonce: u128, cache_bytes: u64) -> Result<(Engine, u64), OpenError> {
    let db = dir.join(super::DB);
    let synced = read_synced(&dir.join(SYNCED));
    let mut last = 0;
    if !crate::sabotage::is("skip_checksum") && db.exists() {
        let found = scan::scan(&db, nonce, synced)?;
        let complete = db.join("version").exists();
        match (&found.active, complete) {
            // Its creation was cut off before the first batch could be written.
            (_, false) if found.last.is_none() && synced == 0 => {
                std::fs::remove_dir_all(&db).map_err(|e| OpenError::io(&db, e))?;
            }
            (_, false) | (None, true) => return Err(OpenError::Damaged { file: db, offset: 0, behind: 0 }),
            (Some((path, end)), true) => settle(path, *end, found.torn_bytes)?,
        }
        last = found.last.unwrap_or(0).max(synced);
    }
    let engine = Engine::open(&db, cache_bytes)?;
    let number = engine.view().raw(codec::STAMP).map_err(|e| OpenError::Engine(e.to_string()))?;
    let number = number.and_then(|v| scan::stamp_number(nonce, &v)).unwrap_or(0);
    if number < last {
        // The engine kept less than the scan saw, or than was flushed.
        return Err(OpenError::Damaged { file: db, offset: 0, behind: (last - number) as usize });
    }
    Ok((engine, number))
}

/// Cuts off a torn tail and writes what is kept once more.
fn settle(journal: &Path, end: u64, torn_bytes: u64) -> Result<(), OpenError> {
    let io = |e| OpenError::io(journal, e);
    let file = File::options().read(true).write(true).open(journal).map_err(io)?;
    if torn_bytes > 0 {
        tracing::warn!(file = %journal.display(), end, torn_bytes, "the log's last write was cut off; nothing acknowledged is in it");
        file.set_len(end).map_err(io)?;
    }
    let from = end.saturating_sub(REWRITTEN_BYTES);
    let mut bytes = vec![0; (end - from) as usize];
    file.read_exact_at(&mut bytes, from).map_err(io)?;
    file.write_all_at(&bytes, from).map_err(io)?;
    file.sync_all().map_err(io)
}

/// Tries until the store is open again, with growing pauses; `None` when it is closed meanwhile. Reads go on with the old
/// handles until the disk takes writes, then wait for the moment of reopening.
pub(super) fn until_open(shared: &Shared) -> Option<u64> {
    let mut pause = BACKOFF_MIN;
    loop {
        if shared.queue.closing(pause) {
            return None;
        }
        match try_open(shared) {
            Ok(number) => return Some(number),
            Err(e) => tracing::warn!(error = %e, "the store cannot be opened again yet"),
        }
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

fn try_open(shared: &Shared) -> Result<u64, OpenError> {
    if let Some(faults) = &shared.options.faults
        && faults.take(&faults.failed_opens)
    {
        return Err(OpenError::Engine("injected: cannot be opened".into()));
    }
    probe(&shared.dir)?;
    let mut engine = shared.engine.write();
    // Dropped before the directory is opened again: the engine locks it.
    drop(engine.take());
    let (fresh, number) = open_engine(&shared.dir, shared.identity.nonce, shared.options.cache_bytes)?;
    let cells = ownership::load_cells(&fresh).map_err(|e| OpenError::Engine(e.to_string()))?;
    *shared.cells.lock() = cells;
    shared.opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    *engine = Some(fresh);
    Ok(number)
}

/// Whether the disk takes and flushes a file.
fn probe(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("PROBE");
    let written = File::create(&path).and_then(|mut f| {
        f.write_all(&vec![0x5a; PROBE_BYTES])?;
        f.sync_all()
    });
    let removed = std::fs::remove_file(&path);
    written.and(removed).map_err(|e| OpenError::io(&path, e))
}
