//! Damage of the files: reported, or nothing but the batch that was being written is missing. Never a hole, never silence.

use super::*;
use crate::protocol::ids::RoomId;
use crate::storage::conformance::support::{batch, fill, rows, seqs};
use crate::storage::{LogRow, MessageLog};

const ROOM: RoomId = RoomId(1);
const BATCHES: u64 = 40;

/// A journal of single-row batches and some large ones, in a directory as a killed process leaves it: never closed.
async fn killed(t: &Temporary) -> PathBuf {
    let store = open(&t.dir.path().join("live"));
    for seq in 1..=BATCHES {
        let mut append = batch(ROOM, seq, seq, seq - 1);
        if seq % 8 == 0 {
            append.rows[0].payload = (0..9_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
        }
        store.append(append).await.unwrap();
    }
    let dir = t.dir.path().join("killed");
    copy(&t.dir.path().join("live"), &dir);
    dir
}

fn journal(dir: &Path) -> PathBuf {
    dir.join(DB).join("0.jnl")
}

/// Where each batch begins, and where the last one ends.
fn borders(dir: &Path) -> Vec<usize> {
    let identity = identity(dir, 16).unwrap();
    let bytes = std::fs::read(journal(dir)).unwrap();
    scan::borders(&bytes, identity.nonce)
}

/// Opens a copy of `dir` with this journal. What it holds, or `None` for a reported damage that changed nothing.
async fn outcome(t: &Temporary, dir: &Path, bytes: &[u8]) -> Option<Vec<LogRow>> {
    let copied = t.dir.path().join("copied");
    copy(dir, &copied);
    std::fs::write(journal(&copied), bytes).unwrap();
    let opened = EmbeddedStore::open(&copied, options());
    let rows = match opened {
        Err(OpenError::Damaged { .. }) => {
            assert!(std::fs::read(journal(&copied)).unwrap() == bytes, "a refused open has changed the journal");
            None
        }
        Err(e) => panic!("neither opened nor reported as damaged: {e}"),
        Ok(store) => Some(store.rows(ROOM, 1, 4096).await.unwrap()),
    };
    std::fs::remove_dir_all(&copied).unwrap();
    rows
}

fn assert_prefix(rows: &[LogRow], at_least: u64, what: &str) {
    assert!(rows.len() as u64 >= at_least, "{what}: only {} rows", rows.len());
    assert_eq!(seqs(rows), (1..=rows.len() as u64).collect::<Vec<_>>(), "{what}");
}

#[tokio::test]
async fn a_changed_journal_is_reported_or_misses_only_the_last_batch() {
    let t = Temporary::new();
    let dir = killed(&t).await;
    let borders = borders(&dir);
    assert_eq!(borders.len() as u64, BATCHES + 1);
    let end = *borders.last().unwrap();
    let last = borders[borders.len() - 2];
    let whole = std::fs::read(journal(&dir)).unwrap()[..end].to_vec();
    // Without the note of what was flushed: the hardest case.
    std::fs::remove_file(dir.join(SYNCED)).unwrap();
    let mut seeded = Seeded(1);
    for i in 0..120 {
        let at = seeded.below(end);
        let mut bytes = whole.clone();
        let what = match i % 4 {
            0 => {
                bytes[at] ^= 1 << seeded.below(8);
                format!("bit flipped at {at}")
            }
            1 => {
                let page = at / 4096 * 4096;
                let until = (page + 4096).min(end);
                // A page that holds several of the last batches looks as if they had never been written; the note tells (below).
                if until > last {
                    continue;
                }
                bytes[page..until].fill(0);
                format!("page zeroed at {page}")
            }
            2 => {
                let n = 1 + seeded.below(300).min(end - at - 1);
                bytes.drain(at..at + n);
                format!("{n} bytes cut out at {at}")
            }
            _ => {
                let n = seeded.below(64).min(end - at);
                bytes[at..at + n].iter_mut().for_each(|b| *b = b.wrapping_add(1 + seeded.below(255) as u8));
                format!("{n} bytes of garbage at {at}")
            }
        };
        let at_least = if bytes == whole { BATCHES } else { BATCHES - 1 };
        if let Some(rows) = outcome(&t, &dir, &bytes).await {
            // Whole batches that were cut out at the end leave no trace in the journal alone.
            let at_least = if i % 4 == 2 && at >= borders[borders.len() - 4] { BATCHES - 4 } else { at_least };
            assert_prefix(&rows, at_least, &what);
        } else {
            assert!(at < last || i % 4 == 1, "{what}: the last batch alone is a torn tail");
        }
    }
}

#[tokio::test]
async fn every_cut_is_a_torn_tail_or_reported() {
    let t = Temporary::new();
    let dir = killed(&t).await;
    let borders = borders(&dir);
    let (last, end) = (borders[borders.len() - 2], borders[borders.len() - 1]);
    let whole = std::fs::read(journal(&dir)).unwrap();
    let mut seeded = Seeded(2);
    // Torn while the last batch was being written, which was then not noted as flushed.
    std::fs::write(dir.join(SYNCED), synced_note(BATCHES - 1)).unwrap();
    for _ in 0..12 {
        let at = last + seeded.below(end - last);
        let mut zeros_behind = whole.clone();
        zeros_behind[at..end].fill(0);
        for bytes in [&whole[..at], &zeros_behind[..]] {
            let rows = outcome(&t, &dir, bytes).await.unwrap_or_else(|| panic!("cut at {at} of {last}..{end} is a torn tail"));
            assert_prefix(&rows, BATCHES - 1, "torn");
        }
    }
    // Noted as flushed: then the device has lost it, also where it ends at a border.
    std::fs::write(dir.join(SYNCED), synced_note(BATCHES)).unwrap();
    for at in [0, borders[10], last, last + 5, end - 1] {
        assert_eq!(outcome(&t, &dir, &whole[..at]).await, None, "cut at {at}");
    }
}

#[tokio::test]
async fn a_torn_tail_is_written_over() {
    let t = Temporary::new();
    let dir = killed(&t).await;
    std::fs::remove_file(dir.join(SYNCED)).unwrap();
    let end = *borders(&dir).last().unwrap();
    let mut bytes = std::fs::read(journal(&dir)).unwrap();
    bytes.truncate(end - 7);
    std::fs::write(journal(&dir), bytes).unwrap();
    for round in 0..3 {
        let store = open(&dir);
        let there = store.rows(ROOM, 1, 4096).await.unwrap().len() as u64;
        assert_eq!(there, BATCHES - 1 + round);
        store.append(batch(ROOM, there + 1, there + 1, there)).await.unwrap();
    }
}

#[tokio::test]
async fn a_missing_journal_is_reported() {
    let t = Temporary::new();
    let dir = killed(&t).await;
    std::fs::remove_file(journal(&dir)).unwrap();
    assert!(matches!(EmbeddedStore::open(&dir, options()), Err(OpenError::Damaged { .. })));
}

#[tokio::test]
async fn damage_of_one_journal_counts_what_lies_in_the_next() {
    let t = Temporary::new();
    let dir = killed(&t).await;
    // As after a rotation: the second half of the batches is in the next file.
    let borders = borders(&dir);
    let whole = std::fs::read(journal(&dir)).unwrap();
    let half = borders[20];
    std::fs::write(journal(&dir), &whole[..half]).unwrap();
    std::fs::write(dir.join(DB).join("1.jnl"), &whole[half..]).unwrap();
    let intact = t.dir.path().join("intact");
    copy(&dir, &intact);
    assert_prefix(&open(&intact).rows(ROOM, 1, 4096).await.unwrap(), BATCHES, "two journals");
    std::fs::write(journal(&dir), &whole[..borders[19] + 9]).unwrap();
    let damaged = EmbeddedStore::open(&dir, options()).err();
    assert!(matches!(damaged, Some(OpenError::Damaged { behind: 20, .. })), "{damaged:?}");
    std::fs::write(journal(&dir), &whole[..borders[19]]).unwrap();
    assert!(matches!(EmbeddedStore::open(&dir, options()), Err(OpenError::Damaged { .. })), "a batch is missing between the two");
}

#[tokio::test]
async fn a_creation_that_was_cut_off_is_done_again() {
    let t = Temporary::new();
    open(t.dir.path()).close();
    std::fs::remove_file(t.dir.path().join(DB).join("version")).unwrap();
    let store = open(t.dir.path());
    fill(&*store, ROOM, 1, 3).await;
    assert_eq!(store.rows(ROOM, 1, 9).await.unwrap().len(), 3);
}

/// A table's block that rotted fails the read; no row is left out.
#[tokio::test]
async fn a_damaged_table_fails_the_read() {
    let t = Temporary::new();
    let dir = t.dir.path().join("live");
    let store = open(&dir);
    let mut noise = Seeded(3);
    for seq in (1..=400).step_by(100) {
        let mut append = batch(ROOM, seq, seq + 99, seq - 1);
        append.rows.iter_mut().for_each(|r| r.payload = (0..300).map(|_| noise.below(256) as u8).collect::<Vec<_>>().into());
        store.append(append).await.unwrap();
    }
    store.shared.engine.read().as_ref().unwrap().flush_tables();
    store.close();
    let table = tables(&dir.join(DB)).into_iter().max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    let size = table.metadata().unwrap().len() as usize;
    assert!(size > 50_000, "the log's table");
    let sound = std::fs::read(&table).unwrap();
    let (mut failed, mut seeded) = (0, Seeded(4));
    for _ in 0..25 {
        let mut bytes = sound.clone();
        bytes[seeded.below(size)] ^= 1 << seeded.below(8);
        std::fs::write(&table, &bytes).unwrap();
        let Ok(store) = EmbeddedStore::open(&dir, options()) else {
            failed += 1;
            continue;
        };
        match store.rows(ROOM, 1, 400).await {
            Ok(rows) => assert_prefix(&rows, 400, "a damage that touched no row"),
            Err(StorageError::Damaged(_) | StorageError::Failed(_)) => failed += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(failed >= 15, "only {failed} of 25 were noticed");
    std::fs::write(&table, &sound).unwrap();
    assert_eq!(open(&dir).rows(ROOM, 1, 400).await.unwrap().len(), 400);
}

fn tables(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|p| p.is_dir());
    let here = files.into_iter().filter(|p| p.parent().is_some_and(|d| d.ends_with("tables")));
    here.chain(dirs.iter().flat_map(|d| tables(d))).collect()
}

/// The largest message is one batch like any other to the scan.
#[tokio::test]
async fn a_large_batch_is_scanned() {
    let t = Temporary::new();
    let mut append = batch(ROOM, 1, 512, 0);
    append.rows.iter_mut().for_each(|r| r.payload = vec![1; 16 << 10].into());
    let store = open(t.dir.path());
    store.append(append.clone()).await.unwrap();
    store.append(rows(RoomId(2), append.rows)).await.unwrap();
    store.close();
    assert_eq!(open(t.dir.path()).rows(RoomId(2), 1, 512).await.unwrap().len(), 512);
}

/// The engine's checksum leaves out a batch's seqno. With a wrong one a batch would hide all that was written after it; where the order
/// of the batches stays the same, nothing is lost.
#[tokio::test]
async fn a_changed_seqno_is_reported_or_changes_nothing() {
    const SEQNO_AT: usize = 1 + 4;
    let t = Temporary::new();
    let dir = killed(&t).await;
    let borders = borders(&dir);
    let whole = std::fs::read(journal(&dir)).unwrap();
    let mut reported = 0;
    for (i, begin) in borders[..borders.len() - 2].iter().enumerate() {
        let (byte, bit) = (SEQNO_AT + i % 8, i / 8 % 8);
        let mut bytes = whole.clone();
        bytes[begin + byte] ^= 1 << bit;
        let copied = t.dir.path().join("changed");
        copy(&dir, &copied);
        std::fs::write(journal(&copied), &bytes).unwrap();
        match EmbeddedStore::open(&copied, options()) {
            Err(OpenError::Damaged { file, offset, behind }) => {
                assert_eq!(file, journal(&copied));
                assert!(offset as usize <= *begin && behind > 0, "batch {i}: at byte {offset}, {behind} behind it");
                assert!(std::fs::read(journal(&copied)).unwrap() == bytes, "a refused open has changed the journal");
                reported += 1;
            }
            Err(e) => panic!("batch {i}: {e}"),
            Ok(store) => assert_prefix(&store.rows(ROOM, 1, 4096).await.unwrap(), BATCHES, &format!("batch {i}: byte {byte}, bit {bit}")),
        }
        std::fs::remove_dir_all(&copied).unwrap();
    }
    assert!(reported as u64 > BATCHES / 2, "only {reported} were noticed");
}
