//! A read-only look at the journal before the engine opens it.
//!
//! The engine's own recovery ends at the first bad record and drops everything behind it without a word. That is right for
//! a torn tail (the last batch of a process that died while writing) and wrong for damage in the middle. So every batch
//! that this store writes begins with a **stamp**: the store's random nonce and the batch's number, contiguous from 1. A
//! walk over the files then tells: a batch that does not parse with nothing of ours behind it is a torn tail; a bad batch
//! with stamped batches behind it, a hole in the numbers, garbage in a journal that was sealed, or an end before the number
//! that is known to have been synced is damage. Nobody outside can forge a stamp, as nobody sees the nonce.
//!
//! Format of a journal file (fjall 3, little endian): `start = 1, u32 items, u64 seqno`, then items
//! `2, u8 type, u8 compression, u64 keyspace, u16 key length, u32 value length, u32 length on disk, key, value`, or
//! `4, u64 keyspace` for a clear, then `end = 3, u64 xxh3 of the items' bytes, "FJL" 3`. A fresh file is 64 MiB of zeros.

use super::{OpenError, codec};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = b"FJL\x03";
/// Bytes of a stamp's value: nonce and number, each big endian.
pub(super) const STAMP_BYTES: usize = 16 + 8;

/// A stamp's value.
pub(super) fn stamp(nonce: u128, number: u64) -> [u8; STAMP_BYTES] {
    let mut v = [0; STAMP_BYTES];
    v[..16].copy_from_slice(&nonce.to_be_bytes());
    v[16..].copy_from_slice(&number.to_be_bytes());
    v
}

/// The number in a stamp of this store.
pub(super) fn stamp_number(nonce: u128, value: &[u8]) -> Option<u64> {
    let number = value.get(16..STAMP_BYTES)?.try_into().ok()?;
    (value.len() == STAMP_BYTES && value[..16] == nonce.to_be_bytes()).then(|| u64::from_be_bytes(number))
}

/// What the journal holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// The newest journal file and where its last whole batch ends.
    pub(super) active: Option<(PathBuf, u64)>,
    /// Bytes of garbage behind that end.
    pub(super) torn_bytes: u64,
    /// Number of the last whole batch, of any file.
    pub(super) last: Option<u64>,
}

/// Reads every journal file of `dir`; changes nothing. `synced`: the highest batch number that is known to have been durable.
pub(super) fn scan(dir: &Path, nonce: u128, synced: u64) -> Result<Scanned, OpenError> {
    let files = journals(dir)?;
    let (mut found, mut last) = (Scanned::default(), None);
    for (i, path) in files.iter().enumerate() {
        let newest = i + 1 == files.len();
        let bytes = std::fs::read(path).map_err(|e| OpenError::io(path, e))?;
        let file = walk(&bytes, nonce, last);
        let damaged = |behind| OpenError::Damaged { file: path.clone(), offset: file.end as u64, behind };
        let torn = if file.zeros_behind { 0 } else { (bytes.len() - file.end) as u64 };
        match file.behind {
            0 if torn > 0 && !newest => return Err(damaged(later_batches(&files[i + 1..], nonce)?)),
            0 => {}
            n => return Err(damaged(n + later_batches(&files[i + 1..], nonce)?)),
        }
        last = file.last;
        found.last = last.map(|batch| batch.number);
        if newest {
            // A tail that ends before what was synced is no torn tail: the device has lost what it had confirmed.
            if found.last.is_some_and(|last| last < synced) {
                return Err(damaged(0));
            }
            found.active = Some((path.clone(), file.end as u64));
            found.torn_bytes = torn;
        }
    }
    Ok(found)
}

/// Journal files in the order in which they were written.
fn journals(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| OpenError::io(dir, e))? {
        let path = entry.map_err(|e| OpenError::io(dir, e))?.path();
        let id = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".jnl")).and_then(|n| n.parse::<u64>().ok());
        files.extend(id.map(|id| (id, path)));
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn later_batches(files: &[PathBuf], nonce: u128) -> Result<usize, OpenError> {
    let mut n = 0;
    for path in files {
        n += batches_in(&std::fs::read(path).map_err(|e| OpenError::io(path, e))?, nonce);
    }
    Ok(n)
}

/// What a batch says of its place.
#[derive(Clone, Copy)]
struct Batch {
    /// Ours: contiguous.
    number: u64,
    /// The engine's, which its checksum does not cover: it grows. A batch with another one would hide later writes, or be hidden.
    seqno: u64,
}

struct Walk {
    /// End of the last good batch.
    end: usize,
    /// The last good batch, or the one before this file.
    last: Option<Batch>,
    /// Only zeros (or nothing) behind `end`.
    zeros_behind: bool,
    /// Whole batches of this store behind `end`.
    behind: usize,
}

fn walk(bytes: &[u8], nonce: u128, mut last: Option<Batch>) -> Walk {
    let (mut end, mut before) = (0, (0, last));
    while let Some((next, batch)) = batch_at(bytes, end, nonce) {
        if last.is_some_and(|last| batch.number != last.number + 1) {
            break;
        }
        if last.is_some_and(|last| batch.seqno <= last.seqno) {
            // One of the two is wrong: neither is good.
            (end, last) = before;
            break;
        }
        before = (end, last);
        (end, last) = (next, Some(batch));
    }
    let rest = &bytes[end..];
    let zeros_behind = is_zero(rest);
    let behind = if zeros_behind { 0 } else { batches_in(rest, nonce) };
    Walk { end, last, zeros_behind, behind }
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|c| c == &ZEROS[..c.len()])
}

/// Whole batches of this store anywhere in `bytes`.
fn batches_in(bytes: &[u8], nonce: u128) -> usize {
    let (mut at, mut n) = (0, 0);
    while at < bytes.len() {
        if bytes[at] != START {
            at += 1;
        } else if let Some((end, _)) = batch_at(bytes, at, nonce) {
            (at, n) = (end, n + 1);
        } else {
            at += 1;
        }
    }
    n
}

/// The batch that begins at `at`, if it is whole and of this store, and where it ends.
fn batch_at(bytes: &[u8], at: usize, nonce: u128) -> Option<(usize, Batch)> {
    let mut r = Reader { bytes, at };
    if r.u8()? != START {
        return None;
    }
    let (items, seqno) = (r.u32()?, r.u64()?);
    let body = r.at;
    let mut number = None;
    for i in 0..items {
        match r.u8()? {
            ITEM => {
                let (key, value) = r.item()?;
                if i == 0 {
                    number = Some(stamp_number(nonce, value).filter(|_| key == codec::STAMP)?);
                }
            }
            CLEAR if i > 0 => _ = r.u64()?,
            _ => return None,
        }
    }
    let body = &bytes[body..r.at];
    let whole = r.u8()? == END && r.u64()? == xxh3_64(body) && r.take(TRAILER.len())? == TRAILER;
    number.filter(|_| whole).map(|number| (r.at, Batch { number, seqno }))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}
impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let part = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(part)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }
    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
    /// An item behind its tag: key and value as they lie on disk.
    fn item(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let (kind, compression) = (self.u8()?, self.u8()?);
        if !matches!(kind, 0 | 1 | 2 | 4) || compression > 1 {
            return None;
        }
        let _keyspace = self.u64()?;
        let (key, value, on_disk) = (self.u16()?, self.u32()?, self.u32()?);
        if compression == 0 && value != on_disk {
            return None;
        }
        Some((self.take(key.into())?, self.take(on_disk as usize)?))
    }
}

/// Where each batch begins, and where the last whole one ends.
#[cfg(test)]
pub(super) fn borders(bytes: &[u8], nonce: u128) -> Vec<usize> {
    let mut at = vec![0];
    while let Some((end, _)) = batch_at(bytes, at[at.len() - 1], nonce) {
        at.push(end);
    }
    at
}
