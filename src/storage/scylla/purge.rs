//! Removing what is no longer kept.
//!
//! First the floor, at a quorum, then the rows: a reader who misses rows finds a floor above them. Rows that stay behind a crash in between
//! lie below the floor; the next purge of the room takes them along, since it removes by range.

use super::Core;
use super::rooms::{FOLD, MENTION, fold_part};
use super::rows::{RowWrite, all, pair};
use crate::protocol::entry::Body;
use crate::protocol::ids::{RoomId, Seq, UserId, bucket_of};
use crate::storage::{LogRow, Purged, Result, record};

/// Nothing that was derived from a message is ever written with a greater time stamp, but in rooms of more than a billion entries; and what
/// is written after the purge is about a message that is gone.
const FOR_EVER: i64 = 1 << 50;

impl Core {
    pub(super) async fn purge(&self, room: RoomId, below: Seq, rows_max: usize) -> Result<Purged> {
        let was = self.marks(room).await?.floor;
        let end = below.min(self.tail(room).await?.base);
        if end <= was {
            return Ok(Purged { floor: was, rows: 0, more: false });
        }
        let (doomed, more) = self.doomed(room, was, end, rows_max.max(1)).await?;
        let Some(floor) = doomed.last().map(|row| row.seq + 1) else {
            return Ok(Purged { floor: was, rows: 0, more: false });
        };
        self.write(&self.statements.mark_floor, (floor as i64, floor as i64, room.0 as i64)).await?;
        self.remove_derived(room, was, floor, &doomed).await?;
        let (first, last) = (bucket_of(was.saturating_sub(1)), bucket_of(floor));
        for bucket in first..last {
            self.write(&self.statements.log_remove, (room.0 as i64, bucket as i32)).await?;
        }
        self.write(&self.statements.log_remove_to, (room.0 as i64, last as i32, floor as i64)).await?;
        Ok(Purged { floor, rows: doomed.len(), more })
    }

    /// The oldest rows of `from..end`, whole seqs, at most about `rows_max`; and whether there are more.
    async fn doomed(&self, room: RoomId, from: Seq, end: Seq, rows_max: usize) -> Result<(Vec<LogRow>, bool)> {
        let mut doomed: Vec<LogRow> = Vec::new();
        for bucket in bucket_of(from)..=bucket_of(end - 1) {
            for row in self.bucket_rows(room, bucket, from, end - 1).await? {
                if doomed.len() >= rows_max && doomed.last().is_some_and(|last| last.seq != row.seq) {
                    return Ok((doomed, true));
                }
                doomed.push(row);
            }
        }
        Ok((doomed, false))
    }

    async fn remove_derived(&self, room: RoomId, from: Seq, floor: Seq, rows: &[LogRow]) -> Result<()> {
        let mut mentions = std::collections::BTreeSet::new();
        for row in rows {
            let (users, seq): (Vec<UserId>, Seq) = match record::decode_entry(&row.payload)?.body {
                Body::Message(message) => (message.mentions, row.seq),
                Body::Edit(edit) => (edit.mentions, edit.seq),
                _ => continue,
            };
            mentions.extend(users.into_iter().map(|user| (user, seq)));
        }
        all(mentions, |(user, seq)| async move {
            let gone = RowWrite { id: seq.to_be_bytes().to_vec(), stamp: FOR_EVER, value: None };
            self.put_rows(&self.statements.derived, MENTION, &pair(user.0, room.0), vec![gone]).await
        })
        .await?;
        for bucket in bucket_of(from)..=bucket_of(floor) {
            let values = (FOR_EVER, FOLD, fold_part(room, bucket), floor.to_be_bytes());
            self.write(&self.statements.derived.remove_to, values).await?;
        }
        Ok(())
    }
}
