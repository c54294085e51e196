//! Removing what is no longer kept.
//!
//! First the floor, at a quorum, then the rows: a reader who misses rows finds a floor above them. Rows that stay behind a crash in between
//! lie below the floor; the next purge of the room takes them along, since it removes by range.

use super::rooms::{FOLD, MENTION, fold_part};
use super::rows::{RowWrite, all, pair};
use super::{Core, packing};
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
        let (doomed, floor, more) = self.doomed(room, was, end, rows_max.max(packing::ROWS_MAX)).await?;
        if doomed.is_empty() {
            return Ok(Purged { floor: was, rows: 0, more: false });
        }
        self.write(&self.statements.mark_floor, (floor as i64, floor as i64, room.0 as i64)).await?;
        self.remove_derived(room, was, floor, &doomed).await?;
        let (first, last) = (bucket_of(was.saturating_sub(1)), bucket_of(floor));
        for bucket in first..last {
            self.write(&self.statements.log_remove, (room.0 as i64, bucket as i32)).await?;
        }
        self.write(&self.statements.log_remove_to, (room.0 as i64, last as i32, floor as i64)).await?;
        Ok(Purged { floor, rows: doomed.len(), more })
    }

    /// The oldest rows of `from..end`, whole packs, at most about `rows_max`; the seq below which they lie; and whether there are more. A pack
    /// of which some is to be kept is kept whole: what is in it was written in one moment.
    async fn doomed(&self, room: RoomId, from: Seq, end: Seq, rows_max: usize) -> Result<(Vec<LogRow>, Seq, bool)> {
        let (mut doomed, mut floor) = (Vec::new(), from);
        for bucket in bucket_of(from)..=bucket_of(end - 1) {
            let packs = self.bucket_packs(room, bucket, from, end - 1).await?;
            let rows = packing::flatten(packs.clone(), from, end - 1);
            let Some(above) = rows.last().map(|row| row.seq + 1) else { continue };
            let cut = rows.get(rows_max.saturating_sub(doomed.len())).map(|row| row.seq);
            let seam = packing::seam(&packs, cut.unwrap_or(above));
            doomed.extend(rows.into_iter().filter(|row| row.seq < seam));
            floor = floor.max(seam);
            if seam < above {
                return Ok((doomed, floor, cut.is_some()));
            }
        }
        Ok((doomed, floor, false))
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
