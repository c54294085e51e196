//! Cursors: the database keeps the greatest, because each is its own time stamp.

use super::{Core, ScyllaStore};
use crate::protocol::ids::{RoomId, UserId};
use crate::storage::{CursorRow, Cursors, Result};
use async_trait::async_trait;
use scylla::value::CqlValue;
use std::collections::HashMap;

/// Rooms up to which each is asked for by itself; above it all of the user's are read.
const SINGLY: usize = 16;

type Columns = (i64, Option<i64>, Option<i64>, Option<i64>);

fn cursor((_, seen, seen_n, delivered): Columns) -> CursorRow {
    let n = |n: Option<i64>| n.unwrap_or(0) as u64;
    CursorRow { read: n(seen), read_n: n(seen_n), delivered: n(delivered) }
}

impl Core {
    async fn raise(&self, user: UserId, room: RoomId, cursor: CursorRow) -> Result<()> {
        let whose = [CqlValue::BigInt(user.0 as i64), CqlValue::BigInt(room.0 as i64)];
        let mut writes = Vec::new();
        // 0 is where every cursor is by itself.
        if cursor.read > 0 {
            let read = CqlValue::BigInt(cursor.read as i64);
            let values = [read.clone(), read, CqlValue::BigInt(cursor.read_n as i64)].into_iter().chain(whose.clone());
            writes.push((self.statements.cursor_seen.clone(), values.collect()));
        }
        if cursor.delivered > 0 {
            let delivered = CqlValue::BigInt(cursor.delivered as i64);
            writes.push((self.statements.cursor_delivered.clone(), [delivered.clone(), delivered].into_iter().chain(whose).collect()));
        }
        self.write_batch(writes).await
    }

    async fn cursors(&self, user: UserId, rooms: Vec<RoomId>) -> Result<Vec<CursorRow>> {
        let user = user.0 as i64;
        if rooms.len() <= SINGLY {
            return super::rows::all(rooms, |room| async move {
                let row = self.select_one::<Columns>(&self.statements.cursor, (user, room.0 as i64)).await?;
                Ok(row.map(cursor).unwrap_or_default())
            })
            .await;
        }
        let rows = self.select::<Columns>(&self.statements.cursors, (user,), usize::MAX).await?;
        let rows: HashMap<u64, CursorRow> = rows.into_iter().map(|row| (row.0 as u64, cursor(row))).collect();
        Ok(rooms.iter().map(|room| rows.get(&room.0).copied().unwrap_or_default()).collect())
    }
}

#[async_trait]
impl Cursors for ScyllaStore {
    async fn raise(&self, user: UserId, room: RoomId, cursor: CursorRow) -> Result<()> {
        self.run(move |core| async move { core.raise(user, room, cursor).await }).await
    }
    async fn cursors(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<CursorRow>> {
        let rooms = rooms.to_vec();
        self.run(move |core| async move { core.cursors(user, rooms).await }).await
    }
}
