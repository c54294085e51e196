//! Rows of this store for another one: what lies under a key, understood.

use super::ownership::Held;
use super::records::Kept as Record;
use super::{EmbeddedStore, codec};
use crate::protocol::ids::{DeviceId, RoomId, Shard, UserId};
use crate::storage::copying::CopiedRow;
use crate::storage::moving::Kept;
use crate::storage::{Result, StorageError, Table, record};
use serde::de::DeserializeOwned;

impl EmbeddedStore {
    /// Names this store, as long as it exists.
    pub fn nonce(&self) -> u128 {
        self.shared.identity.nonce
    }
}

/// What a row of [`crate::storage::Store::copy`] says.
pub fn understand(row: &CopiedRow) -> Result<Kept> {
    if row.log {
        let (room, row) = record::decode_row(&row.key, &row.value)?;
        return Ok(Kept::Log(room, row));
    }
    let key = &row.key[..];
    let odd = || StorageError::Damaged(format!("row {}: not a key of this store", hex::encode(key)).into());
    let (letter, rest) = key.split_first().ok_or_else(odd)?;
    let number = |at: usize| -> Result<u64> {
        let bytes = rest.get(at * 8..at * 8 + 8).and_then(|b| b.try_into().ok()).ok_or_else(odd)?;
        Ok(u64::from_be_bytes(bytes))
    };
    let (room, user) = (|at| number(at).map(RoomId), |at| number(at).map(UserId));
    let shard = |at| number(at).map(|n| Shard(n as u32));
    Ok(match letter {
        b'E' => Kept::Epoch(shard(0)?, value::<Held>(row)?.into()),
        b'W' => Kept::Worker(number(0)? as u16, value::<Held>(row)?.n),
        b'M' => Kept::Mark(room(0)?, value(row)?),
        b'B' => Kept::Bucket(room(0)?, value(row)?),
        b'f' => Kept::Floor(room(0)?, value(row)?),
        b'U' => Kept::Unapplied(shard(0)?, room(1)?),
        b'R' => Kept::Room(value(row)?),
        b'm' => Kept::Member(room(0)?, value(row)?),
        b'F' => Kept::Fold(room(0)?, number(1)?, value(row)?),
        b'@' => Kept::Mention(user(0)?, room(1)?, number(2)?),
        b'P' => Kept::Pin(room(0)?, number(1)?),
        b'D' => Kept::Direct(user(0)?, user(1)?, value(row)?),
        b'N' => {
            let (made, hash) = value::<(RoomId, u64)>(row)?;
            Kept::Creation(user(0)?, u128::from(number(1)?) << 64 | u128::from(number(2)?), made, hash)
        }
        b'c' => Kept::Cursor(user(0)?, room(1)?, value(row)?),
        b'A' => Kept::User(value(row)?),
        b'd' => {
            let device: crate::storage::DeviceRow = value(row)?;
            debug_assert_eq!(DeviceId(number(1)?), device.device);
            Kept::Device(device)
        }
        b'k' => Kept::Contact(user(0)?, user(1)?, value(row)?),
        b'X' => {
            let (table, rest) = rest.split_first().ok_or_else(odd)?;
            let table = *Table::ALL.iter().find(|t| t.letter() == *table).ok_or_else(odd)?;
            let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(odd)?;
            let (partition, own) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(odd)?;
            let record: Record = value(row)?;
            let (partition, key) = (partition.to_vec(), own.to_vec());
            Kept::Record { table, partition, key, version: record.version, value: record.value.into() }
        }
        // A user's rooms and names follow from memberships and accounts; bytes given back and the stamp are this store's own.
        b'r' | b'n' | b'g' | b'S' => {
            codec::verify(key, &row.value)?;
            Kept::Other
        }
        _ => return Err(odd()),
    })
}

fn value<T: DeserializeOwned>(row: &CopiedRow) -> Result<T> {
    codec::decode(&row.key, &row.value)
}
