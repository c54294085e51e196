//! What one client did and saw, in its own order: the judge's only input, and how it is written to and read from files.
//!
//! A [`History`] belongs to one **replica**: one device's copy of its rooms, over all its reconnects. It is written down by the
//! client itself ([`super::recorder::Recorder`]), never by the server, so that a server that is wrong cannot hide it.
//! On disk a history is JSON lines: a header, then one event a line; a file may hold several.
//! What an event means for the promises is [`super`]'s business.

use crate::error::{Code, Retry};
use crate::protocol::entry::{Body, Change, Entry, Message};
use crate::protocol::ids::{ClientId, MessageId, RoomId, Seq, UserId};
use crate::protocol::ops::{Request, Shown};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Write};

/// Version of the file format.
pub const VERSION: u32 = 1;

/// Microseconds of a monotonic clock; comparable between histories of the same [`History::clock`].
pub type Micros = u64;

/// What one replica did and saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Whose.
    pub user: UserId,
    /// Which of the user's devices, as the test names it. A device that forgets everything is another replica.
    pub replica: String,
    /// Which clock the times are of: the same number only in histories of the same process.
    pub clock: u64,
    /// Events are missing because the recorder was full: nothing can be judged.
    pub truncated: bool,
    /// In the order in which the client did and saw them.
    pub events: Vec<Event>,
}

/// One thing a client did or saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Micros,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What a client did or saw. Requests that become entries are `sent` and then `acked`, `refused` or `unknown`, matched by `cid`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A socket is signed in.
    Connected,
    /// The socket ended (1006: without a Close frame).
    Closed {
        /// The close code.
        code: u16,
    },
    /// A request was transmitted; noted *before* its bytes leave. Every resend is noted again.
    Sent(Sent),
    /// The request succeeded; noted when the reply has arrived.
    Acked(Acked),
    /// The request failed, and the server said so.
    Refused {
        /// The room.
        room: RoomId,
        /// The request's client id.
        cid: ClientId,
        /// Why.
        code: Code,
        /// What the server said about trying again.
        retry: Retry,
    },
    /// The client gave up waiting: the request may or may not take effect, now or later.
    Unknown {
        /// The room.
        room: RoomId,
        /// The request's client id.
        cid: ClientId,
    },
    /// An entry was shown.
    Saw(Saw),
    /// The client asked for what it missed in a room.
    ResumeStarted {
        /// The room.
        room: RoomId,
        /// The last seq it had applied.
        have: Seq,
    },
    /// The resume gave a room the client did not list; entries with a greater seq than `from` follow.
    Began {
        /// The room.
        room: RoomId,
        /// Entries follow after this.
        from: Seq,
        /// The committed head.
        head: Seq,
    },
    /// The resume of a room is complete; what follows is live. For a room the server called unchanged by silence, `head` is `have`.
    Resumed {
        /// The room.
        room: RoomId,
        /// The head the server named.
        head: Seq,
    },
    /// Continuity could not be proven: the client dropped the room's entries and took `head` as applied.
    Resync {
        /// The room.
        room: RoomId,
        /// The head the server named.
        head: Seq,
    },
    /// The client's own join of a channel was acknowledged (coming and going there are no entries).
    Entered {
        /// The room.
        room: RoomId,
    },
    /// The client's own leave was acknowledged, or a resume told that the room is left.
    Left {
        /// The room.
        room: RoomId,
    },
    /// A page of history was read: all *messages* of `from..=to` were given and are noted as [`Via::History`] just before this.
    HistoryRead {
        /// The room.
        room: RoomId,
        /// When the request was transmitted.
        began: Micros,
        /// The first seq the page covers.
        from: Seq,
        /// The last seq the page covers, at most `head`.
        to: Seq,
        /// The committed head the server named.
        head: Seq,
    },
    /// The whole log was read at the end: all *entries* of `from..=head` were given and are noted as [`Via::Log`] before this.
    LogRead {
        /// The room.
        room: RoomId,
        /// When the reading began.
        began: Micros,
        /// The first seq read.
        from: Seq,
        /// The committed head.
        head: Seq,
    },
    /// The client was connected and waited for quiet: whatever was acknowledged to anybody before `since` must be here by now.
    Settled {
        /// The instant.
        since: Micros,
    },
}

/// See [`What::Sent`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// The room; 0 when the request creates one.
    pub room: RoomId,
    /// The client id.
    pub cid: ClientId,
    /// The last seq the client had seen at its first transmission.
    pub since: Seq,
    /// The kind of entry it asks for.
    pub kind: String,
    /// [`digest`] of the entry it asks for; none where the server decides part of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<u64>,
}

/// See [`What::Acked`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acked {
    /// The room.
    pub room: RoomId,
    /// The client id.
    pub cid: ClientId,
    /// The entry's seq.
    pub seq: Seq,
    /// Messages up to it, as the answer says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The entry's id, as the answer says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
}

/// How an entry came to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// A live push.
    Live,
    /// A page of a resume.
    Resume,
    /// A page of history.
    History,
    /// The observer's reading of the whole log; not bound by membership.
    Log,
}

/// An entry, as far as the judge needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saw {
    /// The room.
    pub room: RoomId,
    /// Its seq.
    pub seq: Seq,
    /// Messages up to it.
    pub n: u64,
    /// Its id.
    pub id: MessageId,
    /// Who did it.
    pub by: UserId,
    /// The client id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<ClientId>,
    /// Its kind, as on the wire.
    pub kind: String,
    /// [`digest`] of its content.
    pub digest: u64,
    /// An edit or a deletion is folded in: the content is not the one that was sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub folded: bool,
    /// Memberships that it begins (true) or ends (false).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<(UserId, bool)>,
    /// How it came.
    pub via: Via,
}

impl Saw {
    /// An entry as it was pushed or read from the log.
    pub fn entry(entry: &Entry, via: Via) -> Saw {
        Saw {
            room: entry.room,
            seq: entry.seq,
            n: entry.n,
            id: entry.id,
            by: entry.by,
            cid: entry.cid,
            kind: entry.body.kind().to_owned(),
            digest: digest(&entry.body),
            folded: false,
            members: members(&entry.body),
            via,
        }
    }
    /// A message as a page of history shows it.
    pub fn shown(shown: &Shown) -> Saw {
        Saw { folded: shown.edited.is_some() || shown.deleted.is_some(), ..Saw::entry(&shown.entry, Via::History) }
    }
}

impl Sent {
    /// What a request asks for; `None` for requests that become no entry.
    pub fn request(request: &Request) -> Option<Sent> {
        let sent = |room, cid, since, kind: &str, digest| Some(Sent { room, cid, since, kind: kind.to_owned(), digest });
        let with = |room, cid, since, body: Body| sent(room, cid, since, body.kind(), Some(digest(&body)));
        match request {
            Request::Send(r) => with(r.room, r.cid, r.since, Body::Message(message(r))),
            Request::Edit(r) => {
                let edit = crate::protocol::entry::Edit { seq: r.seq, text: r.text.clone(), mentions: r.mentions.clone() };
                with(r.room, r.cid, r.since, Body::Edit(edit))
            }
            Request::Delete(r) => with(r.room, r.cid, r.since, Body::Delete(crate::protocol::entry::Target { seq: r.seq })),
            Request::React(r) => {
                let react = crate::protocol::entry::React { seq: r.seq, emoji: r.emoji.clone(), on: r.on };
                with(r.room, r.cid, r.since, Body::React(react))
            }
            Request::Pin(r) => with(r.room, r.cid, r.since, Body::Pin(crate::protocol::entry::Pin { seq: r.seq, on: r.on })),
            Request::Create(r) => sent(RoomId(0), r.cid, 0, "room", None),
            Request::Join(r) | Request::Leave(r) => sent(r.room, r.cid, r.since, "member", None),
            Request::Invite(r) => sent(r.room, r.cid, r.since, "member", None),
            Request::Kick(r) | Request::Ban(r) | Request::Unban(r) => sent(r.room, r.cid, r.since, "member", None),
            Request::Unmute(r) | Request::Transfer(r) => sent(r.room, r.cid, r.since, "member", None),
            Request::Mute(r) => sent(r.room, r.cid, r.since, "member", None),
            Request::Role(r) => sent(r.room, r.cid, r.since, "member", None),
            Request::Update(r) => sent(r.room, r.cid, r.since, "room", None),
            _ => None,
        }
    }
}

fn message(r: &crate::protocol::ops::Send) -> Message {
    Message {
        text: r.text.clone(),
        reply_to: r.reply_to,
        thread: r.thread,
        mentions: r.mentions.clone(),
        attachments: r.attachments.clone(),
        data: r.data.clone(),
    }
}

/// A fingerprint of an entry's content. Mentions are left out: the server keeps only those of members.
pub fn digest(body: &Body) -> u64 {
    let mut plain = body.clone();
    match &mut plain {
        Body::Message(m) => m.mentions.clear(),
        Body::Edit(e) => e.mentions.clear(),
        _ => {}
    }
    // An unknown kind has no encoding; its kind, "unknown", then stands for it.
    let bytes = serde_json::to_vec(&plain).unwrap_or_else(|_| body.kind().as_bytes().to_vec());
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

fn members(body: &Body) -> Vec<(UserId, bool)> {
    match body {
        Body::Room(room) => room.members.iter().map(|(user, _)| (*user, true)).collect(),
        Body::Member(m) => match m.change {
            Change::Join | Change::Invite => vec![(m.user, true)],
            Change::Leave | Change::Kick | Change::Ban => vec![(m.user, false)],
            Change::Unban | Change::Role | Change::Mute | Change::Unmute | Change::Transfer | Change::Unknown => Vec::new(),
        },
        _ => Vec::new(),
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    history: u32,
    user: UserId,
    replica: String,
    clock: u64,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Header(Header),
    Event(Event),
}

/// Why a file is not a history.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// A line is neither a header nor an event, or an event stands before any header.
    #[error("line {line}: {why}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl History {
    /// Writes it as JSON lines.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let header =
            Header { history: VERSION, user: self.user, replica: self.replica.clone(), clock: self.clock, truncated: self.truncated };
        writeln!(out, "{}", serde_json::to_string(&header)?)?;
        for event in &self.events {
            writeln!(out, "{}", serde_json::to_string(event)?)?;
        }
        Ok(())
    }

    /// Reads all histories of a file. Blank lines are skipped; anything else that is not understood is an error.
    pub fn read_all(input: impl BufRead) -> Result<Vec<History>, ReadError> {
        let mut all: Vec<History> = Vec::new();
        for (index, line) in input.lines().enumerate() {
            let (line, number) = (line?, index + 1);
            let wrong = |why: String| ReadError::Line { line: number, why };
            if line.trim().is_empty() {
                continue;
            }
            match serde_json::from_str(&line).map_err(|e| wrong(e.to_string()))? {
                Line::Header(h) if h.history > VERSION => return Err(wrong(format!("version {} is newer than {VERSION}", h.history))),
                Line::Header(h) => {
                    all.push(History { user: h.user, replica: h.replica, clock: h.clock, truncated: h.truncated, events: Vec::new() })
                }
                Line::Event(e) => all.last_mut().ok_or_else(|| wrong("an event before any header".into()))?.events.push(e),
            }
        }
        Ok(all)
    }

    /// How the judge names it: `user/replica`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.user, self.replica)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::entry::{MemberChange, Role, RoomChange, RoomKind};

    fn entry(body: Body) -> Entry {
        Entry { room: RoomId(1), seq: 3, n: 2, id: MessageId(99), at: 5, by: UserId(7), cid: Some(ClientId::fresh()), body }
    }

    #[test]
    fn a_history_survives_the_file() {
        let cid = ClientId::fresh();
        let room = RoomId(1 << 60);
        let events = [
            What::Connected,
            What::Sent(Sent { room, cid, since: 4, kind: "message".into(), digest: Some(u64::MAX) }),
            What::Refused { room, cid, code: Code::Busy, retry: Retry::Later },
            What::Unknown { room, cid },
            What::Acked(Acked { room, cid, seq: 5, n: Some(5), id: Some(MessageId(1 << 61)) }),
            What::Saw(Saw::entry(&entry(Body::Message(Message { text: "hi".into(), ..Message::default() })), Via::Live)),
            What::HistoryRead { room, began: 1, from: 1, to: 5, head: 5 },
            What::Closed { code: 1006 },
        ];
        let events = events.into_iter().enumerate().map(|(i, what)| Event { at: i as u64, what }).collect();
        let one = History { user: UserId(7), replica: "phone".into(), clock: 9, truncated: false, events };
        let two = History { user: UserId(8), truncated: true, ..History::default() };
        let mut file = Vec::new();
        one.write(&mut file).unwrap();
        two.write(&mut file).unwrap();
        assert_eq!(History::read_all(&file[..]).unwrap(), [one, two]);
    }

    #[test]
    fn a_file_that_is_no_history_is_an_error_with_its_line() {
        for (text, line) in
            [("{\"at\":1,\"what\":\"connected\"}", 1), ("\n{\"history\":1,\"user\":\"7\",\"replica\":\"\",\"clock\":1}\n{\"at\":1", 3)]
        {
            match History::read_all(text.as_bytes()) {
                Err(ReadError::Line { line: found, .. }) => assert_eq!(found, line),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_a_request_asks_for_has_the_digest_of_its_entry() {
        let send = crate::protocol::ops::Send {
            room: RoomId(1),
            cid: ClientId::fresh(),
            since: 0,
            text: "hi".into(),
            reply_to: Some(2),
            thread: None,
            mentions: vec![UserId(404)],
            attachments: Vec::new(),
            data: None,
        };
        let sent = Sent::request(&Request::Send(send)).unwrap();
        let body = Body::Message(Message { text: "hi".into(), reply_to: Some(2), ..Message::default() });
        assert_eq!(sent.digest, Some(digest(&body)));
        assert_ne!(sent.digest, Some(digest(&Body::Message(Message { text: "hi".into(), ..Message::default() }))));
    }

    #[test]
    fn memberships_are_taken_from_entries() {
        let room = RoomChange { kind: Some(RoomKind::Group), members: vec![(UserId(7), Role::Owner)], ..RoomChange::default() };
        assert_eq!(Saw::entry(&entry(Body::Room(room)), Via::Live).members, [(UserId(7), true)]);
        for (change, expect) in [(Change::Invite, Some(true)), (Change::Kick, Some(false)), (Change::Role, None), (Change::Mute, None)] {
            let seen = Saw::entry(&entry(Body::Member(MemberChange::new(UserId(8), change, None))), Via::Live);
            assert_eq!(seen.members, expect.map(|begins| (UserId(8), begins)).into_iter().collect::<Vec<_>>());
        }
    }
}
