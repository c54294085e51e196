//! How a log row's value is written: a version, a checksum, the committed head, the entry.
//!
//! `[1: version = 1][8: xxh3-64 of everything after it and of the key, big endian][8: committed, big endian][entry, MessagePack with named fields]`.
//! A later version may append fields to the entry (unknown ones are ignored) without a new record version.

use super::{LogRow, Result, StorageError};
use crate::protocol::entry::{Body, Entry};
use crate::protocol::ids::{Epoch, RoomId, Seq, bucket_of};
use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

/// The version that this build writes.
pub const VERSION: u8 = 1;
const HEAD: usize = 1 + 8 + 8;

/// The key of a row: room, bucket, seq, epoch, all big endian, so that byte order is log order.
pub fn key(room: RoomId, seq: Seq, epoch: Epoch) -> [u8; 28] {
    let mut k = [0; 28];
    k[..8].copy_from_slice(&room.0.to_be_bytes());
    k[8..12].copy_from_slice(&bucket_of(seq).to_be_bytes());
    k[12..20].copy_from_slice(&seq.to_be_bytes());
    k[20..].copy_from_slice(&epoch.0.to_be_bytes());
    k
}

/// An entry as a row's payload.
pub fn encode_entry(entry: &Entry) -> Bytes {
    // Most entries are a message's text, and names of fields.
    let text = match &entry.body {
        Body::Message(message) => message.text.len(),
        _ => 0,
    };
    let mut out = Vec::with_capacity(192 + text);
    // Writing to a Vec cannot fail, and every body that is built here has a kind that can be written.
    rmp_serde::encode::write_named(&mut out, entry).expect("an entry of a known kind can be encoded");
    out.into()
}

/// A row's payload as an entry.
pub fn decode_entry(payload: &[u8]) -> Result<Entry> {
    decode_whole(payload).map_err(|e| StorageError::Damaged(format!("log entry: {e}").into()))
}

/// A MessagePack value that fills the bytes; the decoder alone would not mind others behind it.
pub(super) fn decode_whole<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> std::result::Result<T, String> {
    let mut rest = bytes;
    let value = rmp_serde::from_read(&mut rest).map_err(|e| e.to_string())?;
    if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes behind the value", rest.len())) }
}

/// A row's value.
pub fn encode_value(room: RoomId, row: &LogRow) -> Bytes {
    let mut v = BytesMut::with_capacity(HEAD + row.payload.len());
    v.put_u8(VERSION);
    v.put_u64(sum(&key(room, row.seq, row.epoch), row.committed, &row.payload));
    v.put_u64(row.committed);
    v.put_slice(&row.payload);
    v.freeze()
}

/// A row from its key and value; `Damaged` when either is not what was written.
pub fn decode_row(k: &[u8], v: &[u8]) -> Result<(RoomId, LogRow)> {
    let damaged = |what: &str| StorageError::Damaged(format!("log row {}: {what}", hex::encode(k)).into());
    let number = |b: &[u8]| b.try_into().map(u64::from_be_bytes).map_err(|_| damaged("short key"));
    if k.len() != 28 {
        return Err(damaged("short key"));
    }
    if v.len() < HEAD {
        return Err(damaged("short value"));
    }
    if v[0] != VERSION {
        return Err(damaged("unknown record version"));
    }
    let (room, seq, epoch) = (RoomId(number(&k[..8])?), number(&k[12..20])?, Epoch(number(&k[20..])?));
    let (want, committed, payload) = (number(&v[1..9])?, number(&v[9..17])?, Bytes::copy_from_slice(&v[HEAD..]));
    if sum(k, committed, &payload) != want {
        return Err(damaged("checksum does not match"));
    }
    Ok((room, LogRow { seq, epoch, committed, payload }))
}

fn sum(key: &[u8], committed: Seq, payload: &[u8]) -> u64 {
    let mut h = Xxh3::new();
    h.update(key);
    h.update(&committed.to_be_bytes());
    h.update(payload);
    h.digest()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_an_entry_are_noticed() {
        let body = crate::protocol::entry::Body::Call("opaque".into());
        let entry = Entry { room: RoomId(1), seq: 1, n: 0, id: Default::default(), at: 5, by: Default::default(), cid: None, body };
        let mut payload = encode_entry(&entry).to_vec();
        assert_eq!(decode_entry(&payload).unwrap(), entry);
        assert!(decode_entry(&payload[..payload.len() - 1]).is_err());
        payload.push(0xc0);
        assert!(decode_entry(&payload).is_err());
    }

    #[test]
    fn a_changed_bit_anywhere_is_noticed() {
        let room = RoomId(3);
        let row = LogRow { seq: 5000, epoch: Epoch::new(2, 1), committed: 4999, payload: Bytes::from_static(b"entry") };
        let (k, v) = (key(room, row.seq, row.epoch), encode_value(room, &row));
        assert_eq!(decode_row(&k, &v).unwrap(), (room, row));
        for i in 0..v.len() * 8 {
            let mut bad = v.to_vec();
            bad[i / 8] ^= 1 << (i % 8);
            assert!(decode_row(&k, &bad).is_err(), "bit {i} of the value");
        }
        for i in 0..k.len() * 8 {
            let mut bad = k;
            bad[i / 8] ^= 1 << (i % 8);
            assert!(decode_row(&bad, &v).is_err(), "bit {i} of the key");
        }
        assert!(decode_row(&k[..27], &v).is_err() && decode_row(&k, &v[..16]).is_err());
    }
}
