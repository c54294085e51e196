//! The socket's requests for whoever has no socket: REST, bots, the server itself. The same checks, the same rooms, the same answers.

use super::answering::{self, too_slow};
use super::node::NodeContext;
use super::room::{Ask, RoomMsg};
use super::router::{Answer, Reply, lost};
use crate::error::{ApiError, Code};
use crate::protocol::entry::Caller;
use crate::protocol::ids::Seq;
use crate::protocol::ops::{self, Request};
use crate::protocol::roomlog;
use std::time::Duration;

/// Answers one request of the caller, within `socket.request_timeout_ms`. What belongs to a socket (sign-in, resume, watching) is
/// [`Code::UnknownOp`]. Rate limits are the caller's part. `only_at`: see [`Ask`].
pub async fn ask(node: &NodeContext, caller: Caller, request: Request, only_at: Option<Seq>) -> Result<ops::Ok, ApiError> {
    request.validate(&answering::limits(&node.config))?;
    let limit = Duration::from_millis(node.config.socket.request_timeout_ms);
    tokio::time::timeout(limit, answer(node, caller, request, only_at)).await.unwrap_or_else(|_| Err(too_slow()))
}

async fn answer(node: &NodeContext, caller: Caller, request: Request, only_at: Option<Seq>) -> Result<ops::Ok, ApiError> {
    match request {
        Request::History(_) | Request::Members(_) | Request::Rooms(_) | Request::Create(_) => {
            answering::read(node, caller.user, request).await
        }
        Request::Presence(set) => answering::set_status(node, caller.user, set.status).await,
        request => {
            let unknown = || ApiError::new(Code::UnknownOp, "this request needs a socket");
            let room = roomlog::room_of(&request).ok_or_else(unknown)?;
            answering::may_be_asked(node, caller.user, &request).await?;
            let (reply, answered) = Reply::task();
            node.router.to_room(room, RoomMsg::Ask(Box::new(Ask { caller, request, reply, screened: false, only_at })));
            answered.await.map_err(|_| lost())?.map(Answer::into)
        }
    }
}
