//! Moving a user's cursors in a room: on behalf of the room, which has checked the membership and knows the head.
//!
//! Cursors are max-registers: whatever arrives late or twice never moves one back. A receipt is sent only when one moved, and
//! only in rooms small enough (`rooms.receipts_members_max`).

use super::guardian::Local;
use super::node::NodeContext;
use super::reading::{self, in_time};
use super::room::storage_error;
use super::router::{Answer, Reply};
use crate::bus::{Envelope, Framed};
use crate::protocol::ids::{RoomId, Seq, UserId};
use crate::protocol::ops::{Push, Receipt};
use crate::storage::{CursorRow, Result};
use std::rc::Rc;
use std::sync::Arc;

/// Where a user's cursors are to be.
pub struct Moved {
    /// The room.
    pub room: RoomId,
    /// Whose cursors.
    pub user: UserId,
    /// Read up to here; not above the committed head.
    pub read: Seq,
    /// Arrived up to here; not below `read`.
    pub delivered: Seq,
    /// Messages up to `read`, if the room knows; else the log is asked.
    pub read_n: Option<u64>,
    /// Tell everybody in the room.
    pub tell: bool,
}

/// Raises the cursors, answers, and sends the receipt.
pub async fn raise(local: Rc<Local>, moved: Moved, reply: Reply) {
    match stored(&local.node, &moved).await {
        Err(error) => reply.send(Err(storage_error(error))),
        Ok(now) => {
            reply.send(Ok(Answer::default()));
            let Moved { room, user, tell, .. } = moved;
            if let (Some(now), true) = (now, tell) {
                let push = Push::Receipt(Receipt { room, user, read: now.read, delivered: now.delivered });
                let push = Arc::new(Framed::new(push));
                local.fan_out(room, || Envelope::Ephemeral { room, except: None, push: push.clone() });
            }
        }
    }
}

/// The cursors after the move; none when nothing moved.
async fn stored(node: &NodeContext, moved: &Moved) -> Result<Option<CursorRow>> {
    let (room, user, read) = (moved.room, moved.user, moved.read);
    let read_n = match moved.read_n {
        Some(n) => n,
        None => reading::n_at(node, room, read).await?,
    };
    let before = in_time(node.store.cursors(user, &[room])).await?.first().copied().unwrap_or_default();
    let now =
        CursorRow { read: read.max(before.read), read_n: read_n.max(before.read_n), delivered: moved.delivered.max(before.delivered) };
    if now == before {
        return Ok(None);
    }
    in_time(node.store.raise(user, room, now)).await?;
    Ok(Some(now))
}
