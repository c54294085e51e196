//! What clients are told of a store that fails, and who may go on reading.

use crate::actors::loading;
use crate::actors::node::NodeContext;
use crate::actors::router::Verdict;
use crate::error::{ApiError, Code};
use crate::protocol::entry::RoomKind;
use crate::protocol::ids::{RoomId, Seq, UserId};
use crate::protocol::policy::{Act, Place, allows};
use crate::protocol::roomlog::Need;
use crate::storage::StorageError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A room that changes its node is asked for again after this.
const CHANGING: Duration = Duration::from_millis(250);

/// A storage error as clients get it.
pub fn storage_error(error: StorageError) -> ApiError {
    let after = |code, text: String| ApiError::after(code, text, Duration::from_secs(1));
    match &error {
        StorageError::Busy(_) => after(Code::Busy, "the log has more waiting than it will hold; try again in a moment".into()),
        StorageError::NotOwner(_) => {
            ApiError::after(Code::Unavailable, "the room is changing its node; send the same request again", CHANGING)
        }
        StorageError::ReadOnly(_) => after(Code::LogUnavailable, "the log cannot be written now; reading goes on".into()),
        StorageError::Down(_) => after(Code::LogUnavailable, "the log cannot be reached now; try again".into()),
        StorageError::Quota { .. } => after(Code::QuotaExceeded, "the server's disk quota is used up; reading goes on".into()),
        StorageError::InDoubt(_) => {
            ApiError::new(Code::Unknown, "it is not known whether this was stored; send it again with the same client id")
        }
        StorageError::Damaged(_) | StorageError::Failed(_) => {
            tracing::error!(%error, "the store failed");
            after(Code::LogUnavailable, "the log cannot be read now; try again".into())
        }
    }
}

/// The verdict on a member of a channel, whose memberships are not in memory, while the log cannot be written.
pub(super) fn look_up(node: Arc<NodeContext>, room: RoomId, head: Seq, user: UserId, reply: oneshot::Sender<Result<Verdict, ApiError>>) {
    actix::spawn(async move {
        let found = loading::find(&node, room, user, None, Need::Standing(user)).await.map_err(storage_error);
        let _ = reply.send(found.map(|found| {
            let place = if let loading::Found::Place(_, place) = found { place } else { Place::NONE };
            let member = allows(RoomKind::Channel, place.standing, Act::Read).is_ok();
            Verdict { room, member, head }
        }));
    });
}
