//! Frames' bytes: requests and pushes as JSON and as MessagePack, both ways.
//!
//! Guarantees: no input makes it panic, recurse deeper than [`DEPTH_MAX`], or allocate by an announced count; what is refused
//! is refused with the `ref` it belongs to, if that can be read, and with a message that names the field. Unknown fields are
//! passed over. What a request's values may be is [`super::validate`]'s.
//!
//! A frame is read twice, first its head and then its fields, straight from the bytes. Nothing is buffered as a tree, so field
//! order is free, and ids know which encoding they are in.

use super::entry::Entry;
use super::ops::{FieldReader, FieldWriter, Push, Request};
use crate::error::{ApiError, Code};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How deep maps and arrays of a frame may be nested; our own frames need six.
pub const DEPTH_MAX: usize = 32;
/// Characters of a decoder's message that are told to the client: it may quote what was sent.
const MESSAGE_CHARS_MAX: usize = 200;

/// An encoding of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Text frames; ids are strings.
    Json,
    /// Binary frames; maps with named fields.
    Msgpack,
}

impl Format {
    /// Both.
    pub const ALL: [Format; 2] = [Format::Json, Format::Msgpack];
    /// The WebSocket subprotocol that stands for it.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Format::Json => "hubbub.v1.json",
            Format::Msgpack => "hubbub.v1.msgpack",
        }
    }
    /// The format of a subprotocol, if it is one of ours.
    pub fn from_subprotocol(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|f| f.subprotocol() == name)
    }
}

/// Reads a client's frame.
///
/// # Errors
/// The `ref` to answer (0 when it could not be read) and what is wrong: [`Code::Malformed`] or [`Code::UnknownOp`].
pub fn decode_request(format: Format, frame: &[u8]) -> Result<(u64, Request), (u64, ApiError)> {
    let fields = Fields::new(format, frame).map_err(|e| (0, e))?;
    let head: RequestHead<'_> = fields.fields().map_err(|e| (fields.reference_alone(), e))?;
    if head.reference == 0 {
        return Err((0, malformed("ref: expected a number from 1 up")));
    }
    match Request::read(&head.op, fields) {
        Ok(request) => Ok((head.reference, request)),
        Err(e) => Err((head.reference, e)),
    }
}

/// Writes a client's frame.
pub fn encode_request(format: Format, reference: u64, request: &Request) -> Vec<u8> {
    request.write(RequestWriter { format, reference })
}

/// Writes a server's frame.
pub fn encode_push(format: Format, push: &Push) -> Vec<u8> {
    encode(format, push)
}

/// Writes the frame of [`Push::Entry`] without taking the entry.
pub fn encode_entry(format: Format, entry: &Entry) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(tag = "op", rename_all = "snake_case")]
    enum Borrowed<'a> {
        Entry(&'a Entry),
    }
    encode(format, &Borrowed::Entry(entry))
}

/// Reads a server's frame.
///
/// # Errors
/// [`Code::Malformed`], or [`Code::UnknownOp`] for a push that this build does not know: a client passes over those.
pub fn decode_push(format: Format, frame: &[u8]) -> Result<Push, ApiError> {
    let fields = Fields::new(format, frame)?;
    let head: PushHead<'_> = fields.fields()?;
    Push::read(&head.op, fields)
}

#[derive(Deserialize)]
struct RequestHead<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(rename = "ref")]
    reference: u64,
}

#[derive(Deserialize)]
struct PushHead<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RefAlone {
    #[serde(rename = "ref")]
    reference: u64,
}

/// A frame whose outer form was checked: one map, not too deep, nothing behind it.
#[derive(Clone, Copy)]
enum Fields<'a> {
    Json(&'a str),
    Msgpack(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn new(format: Format, frame: &'a [u8]) -> Result<Self, ApiError> {
        match format {
            Format::Json => {
                let text = std::str::from_utf8(frame).map_err(|e| malformed(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
                json_form(text)?;
                Ok(Fields::Json(text))
            }
            Format::Msgpack => {
                msgpack_form(frame)?;
                Ok(Fields::Msgpack(frame))
            }
        }
    }
    fn reference_alone(self) -> u64 {
        self.fields::<RefAlone>().map_or(0, |r| r.reference)
    }
}

impl<'a> FieldReader<'a> for Fields<'a> {
    fn fields<T: Deserialize<'a>>(self) -> Result<T, ApiError> {
        // A second reading finds out which field it was; the first does not pay for that.
        match self {
            Fields::Json(text) => serde_json::from_str(text).map_err(|e| {
                let path = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(text));
                wrong_field(path.err().map(|e| e.path().to_string()), &e.to_string())
            }),
            Fields::Msgpack(bytes) => rmp_serde::from_slice(bytes).map_err(|e| {
                let path = serde_path_to_error::deserialize::<_, T>(&mut rmp_serde::Deserializer::from_read_ref(bytes));
                wrong_field(path.err().map(|e| e.path().to_string()), &e.to_string())
            }),
        }
    }
}

fn wrong_field(path: Option<String>, what: &str) -> ApiError {
    let told = match path {
        Some(path) if path != "." => format!("{path}: {what}"),
        _ => what.to_owned(),
    };
    malformed(told.chars().take(MESSAGE_CHARS_MAX).collect::<String>())
}

fn malformed(what: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(Code::Malformed, what)
}

fn too_deep() -> ApiError {
    malformed(format!("maps and arrays nested more than {DEPTH_MAX} deep"))
}

/// Checks that a JSON text begins as an object and does not nest too deep. The parser checks the rest.
fn json_form(text: &str) -> Result<(), ApiError> {
    let bytes = text.as_bytes();
    if bytes.iter().find(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r')) != Some(&b'{') {
        return Err(malformed("not a map: a frame is one JSON object"));
    }
    // Most frames have so few brackets that they cannot be too deep, and counting is much quicker than following strings.
    if bytes.iter().filter(|b| matches!(b, b'{' | b'[')).count() <= DEPTH_MAX {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for b in bytes {
        match b {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(too_deep());
        }
    }
    Ok(())
}

/// Walks a MessagePack frame without decoding it: one map with text keys, not too deep, every announced length within the
/// frame, all text UTF-8, nothing behind it.
fn msgpack_form(frame: &[u8]) -> Result<(), ApiError> {
    if !matches!(frame.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
        return Err(malformed("not a map: a frame is one MessagePack map"));
    }
    /// A map or array that is open: items still to come (a pair counts as two).
    #[derive(Clone, Copy, Default)]
    struct Open {
        left: usize,
        map: bool,
    }
    let (mut open, mut depth) = ([Open::default(); DEPTH_MAX], 0);
    let mut rest = frame;
    loop {
        let item = msgpack_item(&mut rest)?;
        if depth > 0 {
            let parent: &mut Open = &mut open[depth - 1];
            if parent.map && parent.left.is_multiple_of(2) && item != Item::Text {
                return Err(malformed(format!("a map's key at byte {} is not a string", frame.len() - rest.len())));
            }
            parent.left -= 1;
        }
        if let Item::Array(left) | Item::Map(left) = item {
            if depth == DEPTH_MAX {
                return Err(too_deep());
            }
            open[depth] = Open { left, map: matches!(item, Item::Map(_)) };
            depth += 1;
        }
        while depth > 0 && open[depth - 1].left == 0 {
            depth -= 1;
        }
        if depth == 0 {
            return if rest.is_empty() { Ok(()) } else { Err(malformed(format!("{} bytes behind the frame's map", rest.len()))) };
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Text,
    Other,
    Array(usize),
    /// Keys and values counted singly.
    Map(usize),
}

/// Takes one item off the front; of a map or array only its announcement.
fn msgpack_item(rest: &mut &[u8]) -> Result<Item, ApiError> {
    let short = || malformed("the frame ends within a value");
    let marker = take(rest, 1).ok_or_else(short)?[0];
    let skip = |rest: &mut &[u8], n: usize| take(rest, n).map(|_| Item::Other).ok_or_else(short);
    let mut number = |width: usize| take(rest, width).map(|b| b.iter().fold(0usize, |n, b| n << 8 | usize::from(*b))).ok_or_else(short);
    let (len, kind) = match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => return Ok(Item::Other),
        0xcc | 0xd0 => return skip(rest, 1),
        0xcd | 0xd1 => return skip(rest, 2),
        0xca | 0xce | 0xd2 => return skip(rest, 4),
        0xcb | 0xcf | 0xd3 => return skip(rest, 8),
        0x80..=0x8f => (usize::from(marker & 0x0f), Item::Map(0)),
        0xde => (number(2)?, Item::Map(0)),
        0xdf => (number(4)?, Item::Map(0)),
        0x90..=0x9f => (usize::from(marker & 0x0f), Item::Array(0)),
        0xdc => (number(2)?, Item::Array(0)),
        0xdd => (number(4)?, Item::Array(0)),
        0xa0..=0xbf => (usize::from(marker & 0x1f), Item::Text),
        0xd9 => (number(1)?, Item::Text),
        0xda => (number(2)?, Item::Text),
        0xdb => (number(4)?, Item::Text),
        0xc4 => (number(1)?, Item::Other),
        0xc5 => (number(2)?, Item::Other),
        0xc6 => (number(4)?, Item::Other),
        _ => return Err(malformed(format!("marker 0x{marker:02x}: extension types are not used"))),
    };
    // Every item takes at least a byte: a count that cannot come true is refused before anything is made for it.
    let within = |n: usize| if n <= rest.len() { Ok(n) } else { Err(malformed(format!("a length of {len} runs over the frame's end"))) };
    match kind {
        Item::Map(_) => within(2 * len).map(Item::Map),
        Item::Array(_) => within(len).map(Item::Array),
        Item::Other => {
            within(len)?;
            skip(rest, len)
        }
        Item::Text => {
            within(len)?;
            let text = take(rest, len).ok_or_else(short)?;
            std::str::from_utf8(text).map(|_| Item::Text).map_err(|_| malformed("a string is not UTF-8"))
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(n)?;
    *rest = left;
    Some(taken)
}

struct RequestWriter {
    format: Format,
    reference: u64,
}

impl FieldWriter for RequestWriter {
    type Out = Vec<u8>;
    fn fields<T: Serialize>(self, op: &'static str, fields: &T) -> Vec<u8> {
        #[derive(Serialize)]
        struct Framed<'a, T> {
            op: &'static str,
            #[serde(rename = "ref")]
            reference: u64,
            #[serde(flatten)]
            fields: &'a T,
        }
        encode(self.format, &Framed { op, reference: self.reference, fields })
    }
}

fn encode<T: Serialize>(format: Format, frame: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let why = "writing to a Vec cannot fail, and frames have text keys only";
    match format {
        Format::Json => serde_json::to_writer(&mut out, frame).expect(why),
        Format::Msgpack => rmp_serde::encode::write_named(&mut out, frame).expect(why),
    }
    out
}

#[cfg(test)]
mod tests;
