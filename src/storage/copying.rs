//! A whole store as a stream of bytes: the form of a backup, written and read, pure.
//!
//! A stream is [`MAGIC`] and then frames: `[kind][u32 length][payload][xxh3-64 of kind, frame number and payload]`, numbers big endian.
//! First a head, then rows (and files, when secrets are in it), last an end with the number of rows and the SHA-256 of every byte before it.
//! So a stream that was cut, changed, or put together from others is noticed: frame by frame while it is read, and as a whole at its end.
//! Rows are as they are stored, with checksums of their own; [`Copying`] looks at those while it copies.

use super::Result;
use crate::protocol::ids::Millis;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{self, Read};
use xxhash_rust::xxh3::Xxh3;

/// How a stream begins.
pub const MAGIC: &[u8; 8] = b"hubbub\x00\x01";
/// Version of the rows in a stream; [`super::embedded`]'s layout of keys.
pub const FORMAT: u32 = 1;
/// Bytes of a frame's payload at most: a page of rows, or one row of the largest size and its page.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// A consistent view of everything a store holds, row by row. Blocks: for threads that may.
pub trait Copying: Send {
    /// The next rows, about a megabyte; none at the end. Fails rather than leave out a row or hand on one that is damaged.
    fn next(&mut self) -> Result<Vec<CopiedRow>>;
}

/// A row as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedRow {
    /// A row of the log; else any other.
    pub log: bool,
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// What a stream says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`].
    pub format: u32,
    /// Shards of the store.
    pub shards: u32,
    /// When the view was taken.
    pub created: Millis,
    /// The secrets' files are in it.
    pub secrets: bool,
}

/// A file beside the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedFile {
    /// Its name in the secrets' directory.
    pub name: String,
    /// Its content.
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
}

/// What the end says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Rows of the log.
    pub log_rows: u64,
    /// Other rows.
    pub other_rows: u64,
    /// SHA-256 of every byte before the end, hex.
    pub sha256: String,
}

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first.
    Head(Head),
    /// Rows.
    Rows(Vec<CopiedRow>),
    /// A file.
    File(CopiedFile),
    /// The last.
    End(Totals),
}

const HEAD: u8 = 1;
const ROWS: u8 = 2;
const FILE: u8 = 3;
const END: u8 = 4;

fn frame_sum(kind: u8, number: u64, payload: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(&[kind]);
    sum.update(&number.to_be_bytes());
    sum.update(payload);
    sum.digest()
}

/// Writes a stream.
#[derive(Default)]
pub struct Encoder {
    frames: u64,
    whole: Sha256,
    totals: Totals,
}

impl Encoder {
    /// The beginning.
    pub fn head(&mut self, head: &Head) -> Bytes {
        self.whole.update(MAGIC);
        let frame = self.frame(HEAD, &json(head));
        [&MAGIC[..], &frame].concat().into()
    }
    /// Some rows.
    pub fn rows(&mut self, rows: &[CopiedRow]) -> Bytes {
        let mut payload = Vec::with_capacity(rows.iter().map(|r| 7 + r.key.len() + r.value.len()).sum());
        for row in rows {
            *(if row.log { &mut self.totals.log_rows } else { &mut self.totals.other_rows }) += 1;
            payload.put_u8(u8::from(row.log));
            // Keys are below 2 KiB and values far below 4 GiB in every store.
            payload.put_u16(row.key.len() as u16);
            payload.put_u32(row.value.len() as u32);
            payload.put_slice(&row.key);
            payload.put_slice(&row.value);
        }
        self.frame(ROWS, &payload)
    }
    /// A file.
    pub fn file(&mut self, file: &CopiedFile) -> Bytes {
        let payload = rmp_serde::to_vec_named(file).expect("a name and bytes are MessagePack, and a Vec takes every write");
        self.frame(FILE, &payload)
    }
    /// The end.
    pub fn end(mut self) -> Bytes {
        let totals = Totals { sha256: hex::encode(self.whole.clone().finalize()), ..std::mem::take(&mut self.totals) };
        self.frame(END, &json(&totals))
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(payload.len() + 13);
        out.put_u8(kind);
        out.put_u32(payload.len() as u32);
        out.put_slice(payload);
        out.put_u64(frame_sum(kind, self.frames, payload));
        self.frames += 1;
        self.whole.update(&out);
        out.freeze()
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain fields are JSON, and a Vec takes every write")
}

/// Reads a stream and holds it against its checksums.
pub struct Decoder<R> {
    from: R,
    frames: u64,
    whole: Sha256,
    totals: Totals,
    begun: bool,
    ended: bool,
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl<R: Read> Decoder<R> {
    /// From its first byte.
    pub fn new(from: R) -> Self {
        Decoder { from, frames: 0, whole: Sha256::new(), totals: Totals::default(), begun: false, ended: false }
    }

    /// What the stream was read from.
    pub fn into_inner(self) -> R {
        self.from
    }

    /// The next part; none after the end, and only there. An error when the stream is not whole.
    pub fn read_part(&mut self) -> io::Result<Option<Part>> {
        if self.ended {
            return match self.from.read(&mut [0])? {
                0 => Ok(None),
                _ => Err(bad("there are bytes behind its end")),
            };
        }
        if self.frames == 0 {
            let mut magic = [0; MAGIC.len()];
            self.from.read_exact(&mut magic).map_err(cut)?;
            if magic != *MAGIC {
                return Err(bad("it is no backup of this version"));
            }
            self.whole.update(magic);
        }
        let (kind, payload) = self.frame()?;
        let part = self.part(kind, &payload)?;
        match &part {
            Part::Head(_) if self.begun => return Err(bad("it has two heads")),
            Part::Head(_) => self.begun = true,
            _ if !self.begun => return Err(bad("it has no head")),
            Part::End(totals) => {
                self.ended = true;
                if *totals != self.totals {
                    return Err(bad("its end does not fit what came before"));
                }
            }
            _ => {}
        }
        Ok(Some(part))
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.from.read_exact(&mut head).map_err(cut)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(bad(format!("frame {} is too long to be one", self.frames)));
        }
        let mut rest = vec![0; length + 8];
        self.from.read_exact(&mut rest).map_err(cut)?;
        let (payload, sum) = rest.split_at(length);
        if sum != frame_sum(head[0], self.frames, payload).to_be_bytes() {
            return Err(bad(format!("frame {} is damaged", self.frames)));
        }
        if head[0] == END {
            self.totals.sha256 = hex::encode(self.whole.clone().finalize());
        }
        self.whole.update(head);
        self.whole.update(&rest);
        self.frames += 1;
        rest.truncate(length);
        Ok((head[0], rest))
    }

    fn part(&mut self, kind: u8, payload: &[u8]) -> io::Result<Part> {
        Ok(match kind {
            HEAD => {
                let head: Head = serde_json::from_slice(payload)?;
                if head.format != FORMAT {
                    return Err(bad(format!("its rows are of format {}; this build reads format {FORMAT}", head.format)));
                }
                Part::Head(head)
            }
            ROWS => Part::Rows(self.read_rows(payload)?),
            FILE => Part::File(rmp_serde::from_slice(payload).map_err(|e| bad(e.to_string()))?),
            END => Part::End(serde_json::from_slice(payload)?),
            other => return Err(bad(format!("frame {} is of the unknown kind {other}", self.frames - 1))),
        })
    }

    fn read_rows(&mut self, payload: &[u8]) -> io::Result<Vec<CopiedRow>> {
        let (mut rows, mut rest) = (Vec::new(), payload);
        while !rest.is_empty() {
            let (head, after) = rest.split_first_chunk::<7>().ok_or_else(|| bad("a row is cut off"))?;
            let key = usize::from(u16::from_be_bytes([head[1], head[2]]));
            let value = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            if head[0] > 1 || after.len() < key + value {
                return Err(bad("a row is cut off"));
            }
            let log = head[0] == 1;
            *(if log { &mut self.totals.log_rows } else { &mut self.totals.other_rows }) += 1;
            let (own, behind) = after.split_at(key + value);
            let (key, value) = own.split_at(key);
            rows.push(CopiedRow { log, key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) });
            rest = behind;
        }
        Ok(rows)
    }
}

fn cut(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof { bad("it ends too early") } else { error }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn stream() -> (Vec<u8>, Vec<Part>) {
        let row = |log, key: &'static str, value: &'static str| CopiedRow { log, key: key.into(), value: value.into() };
        let head = Head { format: FORMAT, shards: 16, created: 7, secrets: true };
        let file = CopiedFile { name: "signing.key".into(), content: b"secret".to_vec() };
        let parts = [vec![row(true, "k1", "v1"), row(false, "k2", "")], vec![row(true, "k3", "v3")]];
        let mut encoder = Encoder::default();
        let mut bytes = encoder.head(&head).to_vec();
        bytes.extend(encoder.rows(&parts[0]));
        bytes.extend(encoder.file(&file));
        bytes.extend(encoder.rows(&parts[1]));
        bytes.extend(encoder.end());
        let [first, second] = parts;
        (bytes, vec![Part::Head(head), Part::Rows(first), Part::File(file), Part::Rows(second)])
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<Part>> {
        let mut decoder = Decoder::new(bytes);
        let mut parts = Vec::new();
        while let Some(part) = decoder.read_part()? {
            parts.push(part);
        }
        Ok(parts)
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, mut parts) = stream();
        let got = read(&bytes).unwrap();
        let Some(Part::End(totals)) = got.last() else { panic!("{got:?}") };
        assert_eq!((totals.log_rows, totals.other_rows), (2, 1));
        parts.push(Part::End(totals.clone()));
        assert_eq!(got, parts);
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let (bytes, _) = stream();
        for at in 0..bytes.len() {
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(read(&bad).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!(read(&[&bytes[..], b"x"].concat()).is_err());
    }
}
