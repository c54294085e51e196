//! Screening: a message that a filter outside may refuse or change before it gets a seq.
//!
//! The room decides on a request as ever, with its rights and its repeats; only when it would append a message or an edit does it ask the
//! filter, and decides again on what comes back. So a resend of what is stored is answered as the first time and never asked about twice
//! in vain. Asking blocks nobody: the request waits in its **line**, which every sender has for himself; others pass. What the same
//! sender asks of the room meanwhile waits behind it, so that one's messages keep their order.
//! Lines count among what waits in a room (`rooms.waiting_max`). A room that ends waits for them, each within the filter's time limit.

use super::room::Ask;
use crate::error::ApiError;
use crate::protocol::entry::Attachment;
use crate::protocol::ids::{RoomId, Seq, UserId};
use crate::protocol::ops::Request;
use crate::protocol::roomlog;
use async_trait::async_trait;
use std::collections::{HashMap, VecDeque};

/// What the filter is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Where it would be.
    pub room: RoomId,
    /// Who sends.
    pub user: UserId,
    /// The message that would be changed; none: it is a new one.
    pub edits: Option<Seq>,
    /// Its text.
    pub text: String,
    /// What else others will see of it.
    pub attachments: Vec<Attachment>,
    /// What it carries for the embedding product.
    pub data: Option<String>,
}

/// What the filter says.
#[derive(Clone, Debug, PartialEq)]
pub enum Screened {
    /// It may stay as it is.
    Pass,
    /// It is to have this text.
    Change(String),
    /// It is not to be; or it is not known, and then it is not to be now.
    Refuse(ApiError),
}

/// The filter. Answers within a time limit of its own, also when what it asks is down.
#[async_trait]
pub trait Filter: Send + Sync {
    /// What is to become of a draft.
    async fn screen(&self, draft: Draft) -> Screened;
}

/// The draft in a request that is to be screened.
pub fn draft(user: UserId, request: &Request) -> Option<Draft> {
    match request {
        Request::Send(send) => Some(Draft {
            room: send.room,
            user,
            edits: None,
            text: send.text.clone(),
            attachments: send.attachments.clone(),
            data: send.data.clone(),
        }),
        Request::Edit(edit) => {
            Some(Draft { room: edit.room, user, edits: Some(edit.seq), text: edit.text.clone(), attachments: Vec::new(), data: None })
        }
        _ => None,
    }
}

/// Gives a request another text.
fn put_text(request: &mut Request, text: String) {
    match request {
        Request::Send(send) => send.text = text,
        Request::Edit(edit) => edit.text = text,
        _ => {}
    }
}

/// The lines of a room: each begins with the request that the filter is asked about.
#[derive(Default)]
pub struct Lines {
    of: HashMap<UserId, VecDeque<Box<Ask>>>,
    len: usize,
}

impl Lines {
    /// Requests that wait in all lines.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Whether a request must wait behind its sender's line: all that would become an entry.
    pub fn holds(&self, ask: &Ask) -> bool {
        roomlog::once(&ask.request).is_some() && self.of.contains_key(&ask.caller.user)
    }
    /// Puts a request at the end of its sender's line.
    pub fn push(&mut self, ask: Box<Ask>) {
        self.len += 1;
        self.of.entry(ask.caller.user).or_default().push_back(ask);
    }
    /// Ends a sender's line with what the filter said about its first request: what the room is to go on with, in order.
    pub fn end(&mut self, user: UserId, screened: Screened) -> VecDeque<Box<Ask>> {
        let mut line = self.of.remove(&user).unwrap_or_default();
        self.len -= line.len();
        if let Screened::Refuse(error) = screened {
            if let Some(first) = line.pop_front() {
                first.reply.send(Err(error));
            }
            return line;
        }
        if let Some(first) = line.front_mut() {
            first.screened = true;
            if let Screened::Change(text) = screened {
                put_text(&mut first.request, text);
            }
        }
        line
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::actors::router::Reply;
    use crate::error::Code;
    use crate::protocol::entry::Caller;
    use crate::protocol::ids::{ClientId, DeviceId};
    use crate::protocol::ops::{EditMessage, OnMessage};

    fn ask(user: u64, request: Request) -> Box<Ask> {
        let caller = Caller { user: UserId(user), device: DeviceId(1) };
        Box::new(Ask { caller, request, reply: Reply::task().0, screened: false, only_at: None })
    }
    fn edit(text: &str) -> Request {
        Request::Edit(EditMessage { room: RoomId(1), seq: 3, text: text.into(), mentions: Vec::new(), cid: ClientId::fresh(), since: 0 })
    }
    fn text(ask: &Ask) -> &str {
        let Request::Edit(edit) = &ask.request else { panic!() };
        &edit.text
    }

    #[test]
    fn a_senders_requests_keep_their_order_and_nobody_waits_for_another() {
        let mut lines = Lines::default();
        lines.push(ask(1, edit("a")));
        let delete = Request::Delete(OnMessage { room: RoomId(1), seq: 2, cid: ClientId::fresh(), since: 0 });
        assert!(lines.holds(&ask(1, edit("b"))) && lines.holds(&ask(1, delete)) && !lines.holds(&ask(2, edit("c"))));
        lines.push(ask(1, edit("b")));
        lines.push(ask(2, edit("c")));
        assert_eq!(lines.len(), 3);
        let line = lines.end(UserId(1), Screened::Change("A".into()));
        assert_eq!(line.iter().map(|a| (text(a), a.screened)).collect::<Vec<_>>(), [("A", true), ("b", false)]);
        let refused = Screened::Refuse(ApiError::new(Code::Forbidden, "no"));
        assert!(lines.end(UserId(2), refused).is_empty() && lines.is_empty());
    }
}
