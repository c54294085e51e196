//! What nodes send each other, byte for byte: envelopes in batches.
//!
//! A batch is `[1: version = 1][MessagePack map]`: `from` (node id), `life` (which process), `first` (number of the first envelope on this
//! link), `all` (a list of byte strings, one an envelope). An envelope is `[1: kind][MessagePack map]`. Entries and pushes in it are the
//! MessagePack that sessions get, so that one encoding serves every node and every session.
//!
//! Nodes of two versions speak with each other: unknown fields are passed over, and so are envelopes of an unknown kind, which keep their
//! numbers. Sizes are bounded on both sides; no input makes it panic or allocate by an announced count.

use super::{Envelope, Framed, UserEvent};
use crate::cluster::NodeId;
use crate::error::{ApiError, Code};
use crate::protocol::codec::{self, Format};
use crate::protocol::ids::{DeviceId, RoomId, UserId};
use crate::protocol::ops::Push;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes as Packed;
use std::sync::Arc;

/// The version that this build writes, and the only one that it reads.
pub const VERSION: u8 = 1;
/// Bytes of one envelope at most: several of the largest message. What is larger is not sent.
pub const ENVELOPE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a batch at most.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Envelopes of a batch at most.
pub const BATCH_ENVELOPES_MAX: usize = 8_192;
/// Bytes of entries above which an envelope of entries is sent as two: they must not hold up what is behind them for long.
const ENTRIES_BYTES: usize = 128 * 1024;

const ENTRIES: u8 = 1;
const HEAD: u8 = 2;
const EPHEMERAL: u8 = 3;
const USER: u8 = 4;
const PRESENCE: u8 = 5;
const PRESENCE_LOST: u8 = 6;
const REVOKED: u8 = 7;
const ASK: u8 = 8;
const ANSWER: u8 = 9;
const TELL: u8 = 10;

/// Why bytes are not what a node of this version understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Written by a build that speaks otherwise.
    #[error("version {0} of the bus; this node speaks {VERSION}")]
    Version(u8),
    /// Larger than anything that is sent.
    #[error("{0} bytes are more than a node sends at once")]
    TooLarge(usize),
    /// Damaged, or somebody else's.
    #[error("malformed: {0}")]
    Malformed(String),
}

fn malformed(what: impl ToString) -> WireError {
    WireError::Malformed(what.to_string())
}

#[derive(Serialize, Deserialize)]
struct Outer<'a> {
    from: u32,
    life: u64,
    first: u64,
    #[serde(borrow, default)]
    all: Vec<&'a Packed>,
}

/// The fields of all kinds of envelope; each kind has its own.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Fields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    except: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    watchers: Vec<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    push: Option<&'a Packed>,
    #[serde(borrow, skip_serializing_if = "Vec::is_empty")]
    entries: Vec<&'a Packed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_ms: Option<u32>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    body: Option<&'a Packed>,
}

impl Fields<'_> {
    fn write(&self, kind: u8) -> Bytes {
        let mut out = vec![kind];
        rmp_serde::encode::write_named(&mut out, self).expect("plain fields can be written into memory");
        out.into()
    }
}

/// An envelope's bytes; those of entries in several where they are many, each contiguous with the one before.
pub fn pack(envelope: &Envelope) -> Vec<Bytes> {
    match envelope {
        Envelope::Entries { room, entries } => {
            let packed: Vec<Bytes> = entries.iter().map(|e| e.packed()).collect();
            parts(&packed).map(|part| pack_entries(*room, part)).collect()
        }
        other => vec![pack_one(other)],
    }
}

/// Runs of entries of about [`ENTRIES_BYTES`], at least one entry each.
fn parts(packed: &[Bytes]) -> impl Iterator<Item = &[Bytes]> {
    let mut rest = packed;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let over = rest.iter().position(|entry| {
            bytes += entry.len();
            bytes > ENTRIES_BYTES
        });
        let (part, behind) = rest.split_at(over.unwrap_or(rest.len()).max(1).min(rest.len()));
        rest = behind;
        (!part.is_empty()).then_some(part)
    })
}

fn pack_entries(room: RoomId, part: &[Bytes]) -> Bytes {
    Fields { room: Some(room.0), entries: part.iter().map(|e| Packed::new(e)).collect(), ..Fields::default() }.write(ENTRIES)
}

fn pack_one(envelope: &Envelope) -> Bytes {
    let none = Fields::default();
    match envelope {
        Envelope::Entries { room, entries } => {
            let packed: Vec<Bytes> = entries.iter().map(|e| e.packed()).collect();
            pack_entries(*room, &packed)
        }
        Envelope::Head { room, head } => Fields { room: Some(room.0), head: Some(*head), ..none }.write(HEAD),
        Envelope::Ephemeral { room, except, push } => {
            let packed = push.packed();
            Fields { room: Some(room.0), except: except.map(|u| u.0), push: Some(Packed::new(&packed)), ..none }.write(EPHEMERAL)
        }
        Envelope::User { user, event } => {
            let user = Fields { user: Some(user.0), ..none };
            let fields = match event {
                UserEvent::Joined { room, seq } => Fields { event: Some("joined"), room: Some(room.0), seq: Some(*seq), ..user },
                UserEvent::Left { room, seq } => Fields { event: Some("left"), room: Some(room.0), seq: Some(*seq), ..user },
                UserEvent::Contact { other } => Fields { event: Some("contact"), other: Some(other.0), ..user },
            };
            fields.write(USER)
        }
        Envelope::Presence { watchers, push } => {
            let packed = push.packed();
            Fields { watchers: watchers.iter().map(|u| u.0).collect(), push: Some(Packed::new(&packed)), ..none }.write(PRESENCE)
        }
        Envelope::PresenceLost { user } => Fields { user: Some(user.0), ..none }.write(PRESENCE_LOST),
        Envelope::Revoked { user, device } => Fields { user: Some(user.0), device: device.map(|d| d.0), ..none }.write(REVOKED),
        Envelope::Ask { id, wait_ms, body } => {
            Fields { id: Some(*id), wait_ms: Some(*wait_ms), body: Some(Packed::new(body)), ..none }.write(ASK)
        }
        Envelope::Answer { id, body } => Fields { id: Some(*id), body: Some(Packed::new(body)), ..none }.write(ANSWER),
        Envelope::Tell { body } => Fields { body: Some(Packed::new(body)), ..none }.write(TELL),
    }
}

/// Reads an envelope; nothing when it is of a kind, or about something, that only later versions know.
///
/// # Errors
/// When the bytes are not an envelope.
pub fn unpack(bytes: &Bytes) -> Result<Option<Envelope>, WireError> {
    let Some((kind, map)) = bytes.split_first() else { return Err(malformed("an envelope without a byte")) };
    if !(ENTRIES..=TELL).contains(kind) {
        return Ok(None);
    }
    let f: Fields<'_> = rmp_serde::from_slice(map).map_err(malformed)?;
    let room = || f.room.map(RoomId).ok_or_else(|| malformed("no room"));
    let user = || f.user.map(UserId).ok_or_else(|| malformed("no user"));
    let body = || f.body.map(|b| bytes.slice_ref(b)).ok_or_else(|| malformed("no body"));
    let id = || f.id.ok_or_else(|| malformed("no id"));
    let seq = || f.seq.ok_or_else(|| malformed("no seq"));
    let push = || unpack_push(f.push.ok_or_else(|| malformed("no push"))?);
    Ok(Some(match *kind {
        ENTRIES => Envelope::Entries { room: room()?, entries: f.entries.iter().map(|e| unpack_entry(e)).collect::<Result<_, _>>()? },
        HEAD => Envelope::Head { room: room()?, head: f.head.ok_or_else(|| malformed("no head"))? },
        EPHEMERAL => {
            let Some(push) = push()? else { return Ok(None) };
            Envelope::Ephemeral { room: room()?, except: f.except.map(UserId), push }
        }
        USER => {
            let event = match f.event.ok_or_else(|| malformed("no event"))? {
                "joined" => UserEvent::Joined { room: room()?, seq: seq()? },
                "left" => UserEvent::Left { room: room()?, seq: seq()? },
                "contact" => UserEvent::Contact { other: f.other.map(UserId).ok_or_else(|| malformed("no other"))? },
                _ => return Ok(None),
            };
            Envelope::User { user: user()?, event }
        }
        PRESENCE => {
            let Some(push) = push()? else { return Ok(None) };
            Envelope::Presence { watchers: f.watchers.iter().copied().map(UserId).collect(), push }
        }
        PRESENCE_LOST => Envelope::PresenceLost { user: user()? },
        REVOKED => Envelope::Revoked { user: user()?, device: f.device.map(DeviceId) },
        ASK => Envelope::Ask { id: id()?, wait_ms: f.wait_ms.unwrap_or(0), body: body()? },
        ANSWER => Envelope::Answer { id: id()?, body: body()? },
        TELL => Envelope::Tell { body: body()? },
        _ => return Ok(None),
    }))
}

fn unpack_entry(packed: &[u8]) -> Result<super::FramedEntry, WireError> {
    match codec::decode_push(Format::Msgpack, packed).map_err(refused)? {
        Push::Entry(entry) => Ok(Arc::new(Framed::packed_elsewhere(Arc::new(entry), packed))),
        _ => Err(malformed("another push in place of an entry")),
    }
}

fn unpack_push(packed: &[u8]) -> Result<Option<Arc<Framed<Push>>>, WireError> {
    match codec::decode_push(Format::Msgpack, packed) {
        Ok(push) => Ok(Some(Arc::new(Framed::packed_elsewhere(push, packed)))),
        Err(e) if e.code == Code::UnknownOp => Ok(None),
        Err(e) => Err(refused(e)),
    }
}

fn refused(error: ApiError) -> WireError {
    malformed(error.message)
}

/// Who sent a batch, and where on the link it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The sender.
    pub from: NodeId,
    /// Which process of it: the incarnation of its lease.
    pub life: u64,
    /// The number of the first envelope; of the next one when there is none.
    pub first: u64,
}

/// A batch's bytes.
pub fn batch(head: Head, all: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + all.iter().map(|e| e.len() + 5).sum::<usize>());
    out.push(VERSION);
    let outer = Outer { from: head.from.0, life: head.life, first: head.first, all: all.iter().map(|e| Packed::new(e)).collect() };
    rmp_serde::encode::write_named(&mut out, &outer).expect("plain fields can be written into memory");
    out
}

/// Reads a batch: who sent it, and its envelopes as bytes for [`unpack`].
///
/// # Errors
/// When it is of another version, too large, or not a batch.
pub fn open(bytes: &Bytes) -> Result<(Head, Vec<Bytes>), WireError> {
    if bytes.len() > BATCH_BYTES_MAX {
        return Err(WireError::TooLarge(bytes.len()));
    }
    match bytes.split_first() {
        None => Err(malformed("empty")),
        Some((&VERSION, map)) => {
            let outer: Outer<'_> = rmp_serde::from_slice(map).map_err(malformed)?;
            if outer.all.len() > BATCH_ENVELOPES_MAX {
                return Err(malformed(format!("{} envelopes", outer.all.len())));
            }
            let head = Head { from: NodeId(outer.from), life: outer.life, first: outer.first };
            Ok((head, outer.all.iter().map(|e| bytes.slice_ref(e)).collect()))
        }
        Some((version, _)) => Err(WireError::Version(*version)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::bus::FramedEntry;
    use crate::protocol::entry::{Body, Entry, Message};
    use crate::protocol::ids::MessageId;
    use proptest::prelude::*;

    fn entry(seq: u64, bytes: usize) -> FramedEntry {
        let body = Body::Message(Message { text: "x".repeat(bytes), ..Message::default() });
        let entry = Entry { room: RoomId(5), seq, n: seq, id: MessageId(seq), at: 9, by: UserId(3), cid: None, body };
        Arc::new(Framed::new(Arc::new(entry)))
    }
    fn entries(sizes: &[usize]) -> Envelope {
        Envelope::Entries { room: RoomId(5), entries: sizes.iter().zip(1..).map(|(bytes, seq)| entry(seq, *bytes)).collect() }
    }

    #[test]
    fn entries_come_as_they_were_and_are_not_encoded_again() {
        let packed = pack(&entries(&[3, 70_000, 200]));
        assert_eq!(packed.len(), 1);
        let Some(Envelope::Entries { room, entries: got }) = unpack(&packed[0]).unwrap() else { panic!("not entries") };
        assert_eq!((room, got.len()), (RoomId(5), 3));
        for (seq, got) in (1..).zip(got.iter()) {
            let was = entry(seq, [3, 70_000, 200][seq as usize - 1]);
            assert_eq!(got.what, was.what);
            assert_eq!((got.packed(), got.frame(Format::Json)), (was.packed(), was.frame(Format::Json)));
            assert_eq!(got.frame(Format::Msgpack), was.frame(Format::Msgpack));
        }
    }

    #[test]
    fn many_entries_go_in_several_envelopes_without_a_hole() {
        let sizes = [ENTRIES_BYTES * 2, 10, ENTRIES_BYTES / 2, ENTRIES_BYTES / 2 + 1, 10];
        let mut seqs = Vec::new();
        let packed = pack(&entries(&sizes));
        for one in &packed {
            let Some(Envelope::Entries { entries, .. }) = unpack(one).unwrap() else { panic!("not entries") };
            seqs.push(entries.iter().map(|e| e.what.seq).collect::<Vec<_>>());
        }
        assert_eq!(seqs, [vec![1], vec![2, 3], vec![4, 5]]);
        assert_eq!(pack(&entries(&[])).len(), 0);
    }

    #[test]
    fn what_later_versions_say_is_passed_over() {
        assert!(unpack(&Bytes::from_static(&[99, 0x80])).unwrap().is_none(), "another kind");
        #[derive(Serialize)]
        struct Later<'a> {
            user: u64,
            event: &'a str,
            mood: Vec<&'a str>,
        }
        let later = |event| {
            let mut bytes = vec![USER];
            rmp_serde::encode::write_named(&mut bytes, &Later { user: 3, event, mood: vec!["fine"] }).unwrap();
            Bytes::from(bytes)
        };
        assert!(unpack(&later("promoted")).unwrap().is_none(), "another event");
        #[derive(Serialize)]
        struct LaterHead {
            room: u64,
            head: u64,
            also: (u8, &'static str),
        }
        let mut bytes = vec![HEAD];
        rmp_serde::encode::write_named(&mut bytes, &LaterHead { room: 5, head: 7, also: (1, "x") }).unwrap();
        assert!(matches!(unpack(&bytes.into()).unwrap(), Some(Envelope::Head { room: RoomId(5), head: 7 })));
        let other = [&[VERSION + 1][..], &[0x80]].concat();
        assert_eq!(open(&other.into()), Err(WireError::Version(VERSION + 1)));
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        assert!(open(&Bytes::new()).is_err() && open(&Bytes::from(vec![0; BATCH_BYTES_MAX + 1])).is_err());
        let head = Head { from: NodeId(1), life: 2, first: 3 };
        let many = vec![Bytes::from_static(&[99]); BATCH_ENVELOPES_MAX + 1];
        assert!(open(&batch(head, &many).into()).is_err());
        let whole = batch(head, &pack(&entries(&[5])));
        for cut in 1..whole.len() {
            let opened = open(&Bytes::copy_from_slice(&whole[..cut]));
            assert!(opened.is_err(), "{cut} of {} bytes", whole.len());
        }
        assert!(unpack(&Bytes::from_static(&[HEAD, 0x80])).is_err(), "a field is missing");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in 0u8..12, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = open(&[&[VERSION], bytes.as_slice()].concat().into());
            let _ = unpack(&[&[kind], bytes.as_slice()].concat().into());
        }

        #[test]
        fn a_changed_byte_is_noticed_or_harmless(at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut bytes = batch(Head { from: NodeId(1), life: 2, first: 3 }, &pack(&entries(&[5, 9])));
            let at = at.index(bytes.len());
            bytes[at] = with;
            if let Ok((_, all)) = open(&bytes.into()) {
                all.iter().for_each(|one| drop(unpack(one)));
            }
        }

        #[test]
        fn a_batch_is_read_as_it_was_written(from in any::<u32>(), life in any::<u64>(), first in any::<u64>(), all in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let head = Head { from: NodeId(from), life, first };
            let all: Vec<Bytes> = all.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(open(&batch(head, &all).into()), Ok((head, all)));
        }
    }
}
