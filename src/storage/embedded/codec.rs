//! Keys and values of the rows that are not log rows.
//!
//! A key is a table's letter and big-endian numbers, so that byte order is the order of the numbers. A value is
//! `[1: version = 1][8: xxh3-64 of key and rest, big endian][record, MessagePack with named fields]`: a bit that flips
//! anywhere on the way to the disk and back is noticed, and so is a value that lies under another row's key.

use crate::protocol::ids::{DeviceId, RoomId, Seq, Shard, UserId};
use crate::storage::{Result, StorageError, record};
use serde::{Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::Xxh3;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 8;

/// A row's key. Records' keys are the longest, at most about 1 KiB.
pub(super) type Key = Vec<u8>;

fn key(table: u8, numbers: &[u64]) -> Key {
    let mut k = Vec::with_capacity(1 + 8 * numbers.len());
    k.push(table);
    for n in numbers {
        k.extend_from_slice(&n.to_be_bytes());
    }
    k
}

/// Every batch's first row: the store's nonce and the batch's number (see `scan`).
pub(super) const STAMP: &[u8] = b"S";

/// Letters of the rows that a restored store changes.
pub(super) const CELL: u8 = b'E';
pub(super) const WORKER: u8 = b'W';

pub(super) fn cells() -> Key {
    key(CELL, &[])
}
pub(super) fn cell(shard: Shard) -> Key {
    key(CELL, &[u64::from(shard.0)])
}
pub(super) fn worker(slot: u16) -> Key {
    key(WORKER, &[u64::from(slot)])
}
pub(super) fn marker(room: RoomId) -> Key {
    key(b'M', &[room.0])
}
pub(super) fn bucket(room: RoomId) -> Key {
    key(b'B', &[room.0])
}
pub(super) fn unapplied_of(shard: Option<Shard>) -> Key {
    shard.map_or_else(|| key(b'U', &[]), |s| key(b'U', &[u64::from(s.0)]))
}
pub(super) fn unapplied(shard: Shard, room: RoomId) -> Key {
    key(b'U', &[u64::from(shard.0), room.0])
}
pub(super) fn room(room: RoomId) -> Key {
    key(b'R', &[room.0])
}
pub(super) fn all_rooms() -> Key {
    key(b'R', &[])
}
/// Bytes that were last given back to the disk.
pub(super) fn reclaimed() -> Key {
    key(b'g', &[])
}
pub(super) fn floor(room: RoomId) -> Key {
    key(b'f', &[room.0])
}
pub(super) fn member(room: RoomId, user: UserId) -> Key {
    key(b'm', &[room.0, user.0])
}
pub(super) fn room_members(room: RoomId) -> Key {
    key(b'm', &[room.0])
}
pub(super) fn room_of(user: UserId, room: RoomId) -> Key {
    key(b'r', &[user.0, room.0])
}
pub(super) fn rooms_of(user: UserId) -> Key {
    key(b'r', &[user.0])
}
pub(super) fn fold(room: RoomId, seq: Seq) -> Key {
    key(b'F', &[room.0, seq])
}
pub(super) fn mention(user: UserId, room: RoomId, seq: Seq) -> Key {
    key(b'@', &[user.0, room.0, seq])
}
pub(super) fn mentions(user: UserId, room: RoomId) -> Key {
    key(b'@', &[user.0, room.0])
}
pub(super) fn pin(room: RoomId, seq: Seq) -> Key {
    key(b'P', &[room.0, seq])
}
pub(super) fn pins(room: RoomId) -> Key {
    key(b'P', &[room.0])
}
pub(super) fn direct(a: UserId, b: UserId) -> Key {
    key(b'D', &[a.0.min(b.0), a.0.max(b.0)])
}
pub(super) fn creation(user: UserId, cid: u128) -> Key {
    key(b'N', &[user.0, (cid >> 64) as u64, cid as u64])
}
pub(super) fn cursor(user: UserId, room: RoomId) -> Key {
    key(b'c', &[user.0, room.0])
}
pub(super) fn user(user: UserId) -> Key {
    key(b'A', &[user.0])
}
pub(super) fn all_users() -> Key {
    key(b'A', &[])
}
pub(super) fn name(name: &str) -> Key {
    let mut k = key(b'n', &[]);
    k.extend_from_slice(name.as_bytes());
    k
}
pub(super) fn device(user: UserId, device: DeviceId) -> Key {
    key(b'd', &[user.0, device.0])
}
pub(super) fn devices(user: UserId) -> Key {
    key(b'd', &[user.0])
}
pub(super) fn contact(a: UserId, b: UserId) -> Key {
    key(b'k', &[a.0, b.0])
}
pub(super) fn contacts(user: UserId) -> Key {
    key(b'k', &[user.0])
}
/// A record: `X`, the table's letter, the partition with its length, the record's own key.
pub(super) fn record(table: u8, partition: &[u8], own: &[u8]) -> Key {
    let mut k = vec![b'X', table];
    // Longer ones are refused before (`records::check`).
    k.extend_from_slice(&(partition.len() as u16).to_be_bytes());
    k.extend_from_slice(partition);
    k.extend_from_slice(own);
    k
}

/// The number at the end of a key.
pub(super) fn last_number(key: &[u8]) -> Result<u64> {
    let tail = key.len().checked_sub(8).and_then(|at| key[at..].try_into().ok());
    tail.map(u64::from_be_bytes).ok_or_else(|| damaged(key, "short key"))
}

/// A value with its version and checksum.
pub(super) fn encode<T: Serialize>(key: &[u8], record: &T) -> Vec<u8> {
    let mut v = vec![0; HEAD];
    rmp_serde::encode::write_named(&mut v, record).expect("records have no type that MessagePack lacks, and a Vec takes every write");
    v[0] = VERSION;
    let sum = sum(key, &v[HEAD..]);
    v[1..HEAD].copy_from_slice(&sum.to_be_bytes());
    v
}

/// Whether a value is what was written under this key; `Damaged` when not.
pub(super) fn verify(key: &[u8], value: &[u8]) -> Result<()> {
    if value.len() < HEAD {
        return Err(damaged(key, "short value"));
    }
    if value[0] != VERSION {
        return Err(damaged(key, "unknown record version"));
    }
    if value[1..HEAD] != sum(key, &value[HEAD..]).to_be_bytes() {
        return Err(damaged(key, "checksum does not match"));
    }
    Ok(())
}

/// The record in a value; `Damaged` when it is not what was written under this key.
pub(super) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T> {
    verify(key, value)?;
    record::decode_whole(&value[HEAD..]).map_err(|e| damaged(key, &e))
}

fn sum(key: &[u8], record: &[u8]) -> u64 {
    let mut h = Xxh3::new();
    h.update(key);
    h.update(record);
    h.digest()
}

fn damaged(key: &[u8], what: &str) -> StorageError {
    StorageError::Damaged(format!("row {}: {what}", hex::encode(key)).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_bit_of_key_or_value_is_noticed() {
        let k = cursor(UserId(7), RoomId(9));
        let v = encode(&k, &(1u64, String::from("x")));
        assert_eq!(decode::<(u64, String)>(&k, &v).unwrap(), (1, "x".into()));
        for i in 0..v.len() * 8 {
            let mut bad = v.clone();
            bad[i / 8] ^= 1 << (i % 8);
            assert!(decode::<(u64, String)>(&k, &bad).is_err(), "bit {i}");
        }
        assert!(decode::<(u64, String)>(&cursor(UserId(7), RoomId(8)), &v).is_err());
        assert!(decode::<(u64, String)>(&k, &v[..8]).is_err());
    }
}
