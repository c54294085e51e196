//! Requests that must take effect exactly once, until they are answered. Pure: no I/O, no clock.
//!
//! A request keeps its client id and the `since` of its first transmission through every resend (P3). Per room one is on
//! its way at a time, so what a user sends in a room arrives in the order of sending, also when one has to be sent again.
//! Bounded: a full outbox refuses.

use super::replica::Replica;
use crate::protocol::entry::Entry;
use crate::protocol::ids::{ClientId, RoomId, Seq};
use crate::protocol::ops::{Ok as Reply, Request};
use std::collections::{HashSet, VecDeque};

/// The parts of a request that make a repeat recognisable. `None`: the request is not of that kind (asking it twice is
/// harmless).
pub fn once(request: &mut Request) -> Option<(ClientId, Option<RoomId>, Option<&mut Seq>)> {
    macro_rules! all {
        ($($kind:ident)*) => {
            match request {
                $(Request::$kind(r) => Some((r.cid, Some(r.room), Some(&mut r.since))),)*
                Request::Create(r) => Some((r.cid, None, None)),
                _ => None,
            }
        };
    }
    all!(Send Edit Delete React Pin Join Leave Invite Kick Ban Unban Mute Unmute Role Transfer Update)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never transmitted: has no `since` yet.
    Fresh,
    /// On its way on the connection that is there now.
    Sent,
    /// Transmitted before, the answer did not come: to be sent again as it is.
    Again,
    /// The owner would not search so far back: after the next resume its entry was seen, or it is sent anew.
    Resync,
}

struct Item<T> {
    cid: ClientId,
    room: Option<RoomId>,
    request: Request,
    state: State,
    ticket: T,
}

/// The requests not yet answered, oldest first. `T` is what the caller wants back with the answer.
pub struct Outbox<T> {
    items: VecDeque<Item<T>>,
    max: usize,
}

impl<T> Outbox<T> {
    /// One that holds at most `max`.
    pub fn new(max: usize) -> Outbox<T> {
        Outbox { items: VecDeque::new(), max }
    }
    /// How many are unanswered.
    pub fn len(&self) -> usize {
        self.items.len()
    }
    /// Whether all are answered.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Takes a request in; gives the ticket back when full or when the request is not of the "once" kind.
    pub fn push(&mut self, mut request: Request, ticket: T) -> Result<(), T> {
        let Some((cid, room, _)) = once(&mut request) else { return Err(ticket) };
        if self.items.len() >= self.max {
            return Err(ticket);
        }
        self.items.push_back(Item { cid, room, request, state: State::Fresh, ticket });
        Ok(())
    }

    /// What is to be transmitted now, oldest first, at most one per room. Marks it as sent; sets `since` the first time.
    pub fn due(&mut self, replica: &Replica) -> Vec<(ClientId, Request)> {
        let mut busy = HashSet::new();
        let mut due = Vec::new();
        for item in &mut self.items {
            // Requests without a room (create) do not wait for each other.
            let first_of_room = item.room.is_none_or(|room| busy.insert(room));
            if !first_of_room || matches!(item.state, State::Sent | State::Resync) {
                continue;
            }
            if item.state == State::Fresh
                && let Some((_, Some(room), Some(since))) = once(&mut item.request)
            {
                *since = replica.have(room);
            }
            item.state = State::Sent;
            due.push((item.cid, item.request.clone()));
        }
        due
    }

    /// The request is answered, for good or ill: gives its ticket.
    pub fn answered(&mut self, cid: ClientId) -> Option<T> {
        let at = self.items.iter().position(|i| i.cid == cid)?;
        self.items.remove(at).map(|i| i.ticket)
    }

    /// The answer was "try again": it will be due again, as it is.
    pub fn again(&mut self, cid: ClientId) {
        self.set(cid, State::Again);
    }

    /// The answer was `resync`: it waits for a resume.
    pub fn resync(&mut self, cid: ClientId) {
        self.set(cid, State::Resync);
    }

    fn set(&mut self, cid: ClientId, state: State) {
        if let Some(item) = self.items.iter_mut().find(|i| i.cid == cid) {
            item.state = state;
        }
    }

    /// The connection ended: what was on its way is unanswered.
    pub fn disconnected(&mut self) {
        for item in &mut self.items {
            if item.state == State::Sent {
                item.state = State::Again;
            }
        }
    }

    /// One's own entry was seen: that is the answer too.
    pub fn seen(&mut self, entry: &Entry) -> Option<(T, Reply)> {
        let ticket = self.answered(entry.cid?)?;
        let reply = Reply {
            room: Some(entry.room),
            seq: Some(entry.seq),
            n: Some(entry.n),
            id: Some(entry.id),
            at: Some(entry.at),
            ..Reply::default()
        };
        Some((ticket, reply))
    }

    /// A resume is complete: requests that waited for it and were not seen in it have not taken effect, so they may go out
    /// with a new `since`.
    pub fn resumed(&mut self) {
        for item in &mut self.items {
            if item.state == State::Resync {
                item.state = State::Fresh;
            }
        }
    }

    /// The room's log cannot be followed any more: for what waited for that resume nobody can tell. Gives the tickets.
    pub fn lost_track(&mut self, room: RoomId) -> Vec<T> {
        let (lost, kept) =
            std::mem::take(&mut self.items).into_iter().partition::<VecDeque<_>, _>(|i| i.room == Some(room) && i.state == State::Resync);
        self.items = kept;
        lost.into_iter().map(|i| i.ticket).collect()
    }

    /// Gives all tickets: nothing more will be sent.
    pub fn drain(&mut self) -> Vec<T> {
        self.items.drain(..).map(|i| i.ticket).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::entry::{Body, Message};
    use crate::protocol::ids::{MessageId, UserId};
    use crate::protocol::ops::Send;

    const ROOM: RoomId = RoomId(5);

    fn send(room: RoomId, text: &str) -> Request {
        Request::Send(Send {
            room,
            cid: ClientId::fresh(),
            since: 0,
            text: text.into(),
            reply_to: None,
            thread: None,
            mentions: vec![],
            attachments: vec![],
            data: None,
        })
    }
    fn entry(seq: Seq, cid: Option<ClientId>) -> Entry {
        Entry { room: ROOM, seq, n: seq, id: MessageId(seq), at: 3, by: UserId(1), cid, body: Body::Message(Message::default()) }
    }
    fn since(request: &Request) -> Seq {
        match request {
            Request::Send(s) => s.since,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn since_is_that_of_the_first_transmission_in_every_resend() {
        let (mut o, mut r) = (Outbox::new(10), Replica::new());
        r.apply(&entry(1, None));
        o.push(send(ROOM, "a"), ()).unwrap();
        let (cid, first) = o.due(&r).remove(0);
        assert_eq!(since(&first), 1);
        r.apply(&entry(2, None));
        assert!(o.due(&r).is_empty(), "on its way");
        o.disconnected();
        assert_eq!(o.due(&r), [(cid, first.clone())], "the same client id, the same since, the same body");
        o.again(cid);
        assert_eq!(o.due(&r), [(cid, first)]);
        assert_eq!(o.answered(cid), Some(()));
        assert!(o.is_empty() && o.answered(cid).is_none());
    }

    #[test]
    fn one_room_goes_in_order_and_rooms_do_not_wait_for_each_other() {
        let (mut o, r) = (Outbox::new(10), Replica::new());
        for (room, text) in [(ROOM, "a"), (ROOM, "b"), (RoomId(6), "c")] {
            o.push(send(room, text), text).unwrap();
        }
        let due = o.due(&r);
        assert_eq!(due.len(), 2);
        assert_eq!(o.answered(due[0].0), Some("a"));
        let next = o.due(&r);
        assert_eq!(next.len(), 1);
        assert_eq!(o.answered(next[0].0), Some("b"));
    }

    #[test]
    fn ones_own_entry_in_the_log_is_an_answer() {
        let (mut o, r) = (Outbox::new(10), Replica::new());
        o.push(send(ROOM, "a"), 'a').unwrap();
        let (cid, _) = o.due(&r).remove(0);
        o.disconnected();
        assert!(o.seen(&entry(3, Some(ClientId::fresh()))).is_none());
        let (ticket, reply) = o.seen(&entry(4, Some(cid))).unwrap();
        assert_eq!((ticket, reply.seq, o.len()), ('a', Some(4), 0));
    }

    #[test]
    fn after_resync_a_request_waits_for_the_resume_and_then_has_a_new_since() {
        let (mut o, mut r) = (Outbox::new(10), Replica::new());
        o.push(send(ROOM, "a"), ()).unwrap();
        let (cid, first) = o.due(&r).remove(0);
        assert_eq!(since(&first), 0);
        o.resync(cid);
        assert!(o.due(&r).is_empty());
        r.apply(&entry(1, None));
        o.resumed();
        let (again, second) = o.due(&r).remove(0);
        assert_eq!((again, since(&second)), (cid, 1));
        o.resync(cid);
        assert_eq!(o.lost_track(RoomId(6)).len(), 0);
        assert_eq!(o.lost_track(ROOM).len(), 1);
    }

    #[test]
    fn a_full_outbox_and_a_request_that_may_be_repeated_freely_are_refused() {
        let mut o = Outbox::new(1);
        assert!(o.push(send(ROOM, "a"), 1).is_ok());
        assert_eq!(o.push(send(ROOM, "b"), 2), Err(2));
        assert_eq!(Outbox::new(9).push(Request::Ping(Default::default()), 3), Err(3));
    }
}
