//! WebSocket frames of a client (RFC 6455), and the two dialects spoken over them: Hubbub's own, and that of the bare
//! broadcast server (benches/ceilings), so that one driver measures both.
//!
//! Cheap on purpose: the masking key is zero, so payloads need no second pass; a delivery is recognised by one substring
//! search; only what is not a delivery is decoded. The handshake's accept hash is not checked.

use crate::client::ClientError;
use crate::protocol::codec::{self, Format};
use crate::protocol::ids::{RoomId, Seq};
use crate::protocol::ops::{Auth, Push, Request, Resume, Send};

/// Every text begins with this and eight hex digits: its number in its room.
pub const MARK: &[u8] = b"~hb";
/// A text must hold its mark and number.
pub const SIZE_MIN: usize = 11;

/// Opcodes.
pub const TEXT: u8 = 1;
/// Binary data.
pub const BINARY: u8 = 2;
/// The end.
pub const CLOSE: u8 = 8;
/// A ping.
pub const PING: u8 = 9;
/// Its answer.
pub const PONG: u8 = 10;

/// Appends one final, masked (key 0) frame.
pub fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        n @ 0..=125 => out.push(0x80 | n as u8),
        n @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The last of its message.
    pub fin: bool,
    /// Its opcode.
    pub opcode: u8,
    /// What it carries.
    pub payload: &'a [u8],
    /// Bytes it took.
    pub len: usize,
}

/// The first frame of `input`; `None`: not all of it is there.
pub fn parse(input: &[u8]) -> Option<Frame<'_>> {
    let (first, second) = (*input.first()?, *input.get(1)?);
    let (head, len) = match second & 0x7f {
        126 => (4usize, u16::from_be_bytes(input.get(2..4)?.try_into().ok()?) as usize),
        127 => (10, usize::try_from(u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)).ok()?),
        n => (2, n as usize),
    };
    let payload = input.get(head..head.checked_add(len)?)?;
    Some(Frame { fin: first & 0x80 != 0, opcode: first & 0x0f, payload, len: head + len })
}

/// Writes message number `n` of a room, `size` bytes long.
pub fn text(n: u32, size: usize) -> String {
    format!("~hb{n:08x}{:x<pad$}", "", pad = size.saturating_sub(SIZE_MIN))
}

/// The numbers of all messages in a payload.
pub fn numbers<'a>(payload: &'a [u8], finder: &'a memchr::memmem::Finder<'_>) -> impl Iterator<Item = u32> + 'a {
    finder.find_iter(payload).filter_map(|at| {
        let digits = payload.get(at + MARK.len()..at + SIZE_MIN)?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    })
}

/// Where a session sits.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Index of its room in the plan.
    pub index: usize,
    /// Index of its node in the stage.
    pub node: usize,
    /// The room.
    pub room: RoomId,
    /// Its access token.
    pub token: String,
}

/// What a payload that is not a delivery says.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// Nothing that matters here.
    Nothing,
    /// The session receives its room's messages from now on.
    Joined,
    /// A message of this session's room is stored.
    Ack {
        /// Its number.
        n: u32,
        /// The seq it got.
        seq: Seq,
    },
    /// A request failed.
    Failed(String),
}

/// A language spoken over the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours, in MessagePack.
    Hubbub,
    /// `J room` → `J`; `S n body` → `A n` to the sender and `M body` to the room.
    Bare,
}

const REF_AUTH: u64 = 1;
const REF_RESUME: u64 = 2;
/// References of sends begin here: the message's number is added.
const REF_SEND: u64 = 16;

impl Dialect {
    /// The upgrade request.
    pub fn upgrade(self, host: &str) -> String {
        let (path, subprotocol) = match self {
            Dialect::Hubbub => ("/v1/socket", format!("Sec-WebSocket-Protocol: {}\r\n", Format::Msgpack.subprotocol())),
            Dialect::Bare => ("/", String::new()),
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: aHViYnViIGJlbmNoIGtleQ==\r\nSec-WebSocket-Version: 13\r\n{subprotocol}\r\n"
        )
    }

    /// The socket is open: writes what comes first.
    pub fn opened(self, seat: &Seat, out: &mut Vec<u8>) {
        match self {
            Dialect::Hubbub => {
                let auth = Request::Auth(Auth { token: seat.token.clone() });
                frame(out, BINARY, &codec::encode_request(Format::Msgpack, REF_AUTH, &auth));
            }
            Dialect::Bare => frame(out, TEXT, format!("J {}", seat.index).as_bytes()),
        }
    }

    /// Writes a send.
    pub fn send(self, seat: &Seat, n: u32, since: Seq, size: usize, out: &mut Vec<u8>) {
        let text = text(n, size);
        match self {
            Dialect::Hubbub => {
                let send = Request::Send(Send::text(seat.room, since, text));
                frame(out, BINARY, &codec::encode_request(Format::Msgpack, REF_SEND + u64::from(n), &send));
            }
            Dialect::Bare => frame(out, TEXT, format!("S {n} {text}").as_bytes()),
        }
    }

    /// Understands a payload that is not a delivery; writes what has to follow.
    pub fn heard(self, payload: &[u8], out: &mut Vec<u8>) -> Heard {
        match self {
            Dialect::Hubbub => hubbub(payload, out),
            Dialect::Bare => match payload.split_first() {
                Some((b'J', _)) => Heard::Joined,
                Some((b'A', n)) => match std::str::from_utf8(n).ok().and_then(|n| n.trim().parse().ok()) {
                    Some(n) => Heard::Ack { n, seq: 0 },
                    None => Heard::Failed("an acknowledgement without a number".into()),
                },
                _ => Heard::Failed(format!("cannot read {:?}", String::from_utf8_lossy(payload))),
            },
        }
    }
}

fn hubbub(payload: &[u8], out: &mut Vec<u8>) -> Heard {
    match codec::decode_push(Format::Msgpack, payload) {
        Ok(Push::Ok(reply)) if reply.reference >= REF_SEND => match u32::try_from(reply.reference - REF_SEND) {
            Ok(n) => Heard::Ack { n, seq: reply.seq.unwrap_or_default() },
            Err(_) => Heard::Failed(format!("an answer to nothing: {}", reply.reference)),
        },
        Ok(Push::Hello(_)) => {
            let resume = Request::Resume(Resume { rooms: Vec::new(), last: true });
            frame(out, BINARY, &codec::encode_request(Format::Msgpack, REF_RESUME, &resume));
            Heard::Nothing
        }
        Ok(Push::Resumed(_)) => Heard::Joined,
        Ok(Push::Error(failed)) => Heard::Failed(ClientError::Api(failed.error).to_string()),
        Ok(Push::Drain(_)) => Heard::Failed("the server drains".into()),
        Ok(_) => Heard::Nothing,
        Err(e) => Heard::Failed(format!("cannot read a push: {e}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::ops::{Hello, Ok as Reply, Resumed};

    #[test]
    fn frames_of_every_length_form_are_written_and_read() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let body = vec![b'a'; len];
            let mut out = Vec::new();
            frame(&mut out, BINARY, &body);
            // As a server would send it: no mask bit, no key.
            let key = out.len() - len - 4;
            out.drain(key..key + 4);
            out[1] &= 0x7f;
            assert_eq!(parse(&out), Some(Frame { fin: true, opcode: BINARY, payload: &body, len: out.len() }));
            assert_eq!(parse(&out[..out.len() - 1]), None);
        }
    }

    #[test]
    fn all_messages_of_a_payload_are_found_by_their_numbers() {
        let finder = memchr::memmem::Finder::new(MARK);
        let payload = format!("..{}..~hbnonsense..{}~hb0", text(7, 128), text(0xabcdef, 11));
        assert_eq!(numbers(payload.as_bytes(), &finder).collect::<Vec<_>>(), [7, 0xabcdef]);
        assert_eq!((text(1, 128).len(), text(1, 0).len()), (128, SIZE_MIN));
    }

    #[test]
    fn our_dialect_signs_in_resumes_and_reads_answers() {
        let push = |push| codec::encode_push(Format::Msgpack, &push);
        let mut out = Vec::new();
        let hello = serde_json::from_str::<Hello>(
            r#"{"ref":1,"user":"1","name":"a","device":"1","expires":1,"now":0,"heartbeat_ms":1,"frame_bytes_max":1,"server":""}"#,
        );
        assert_eq!(hubbub(&push(Push::Hello(hello.unwrap())), &mut out), Heard::Nothing);
        let (reference, request) = codec::decode_request(Format::Msgpack, &out[6..]).unwrap();
        assert_eq!((reference, request), (REF_RESUME, Request::Resume(Resume { rooms: vec![], last: true })));
        assert_eq!(hubbub(&push(Push::Resumed(Resumed::default())), &mut out), Heard::Joined);
        let ok = Reply { reference: REF_SEND + 9, seq: Some(4), ..Reply::default() };
        assert_eq!(hubbub(&push(Push::Ok(ok)), &mut out), Heard::Ack { n: 9, seq: 4 });
    }
}
