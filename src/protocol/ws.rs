//! RFC 6455 frames as a server reads and writes them: bytes in, messages out. No I/O and no clock.
//!
//! Guarantees: a frame is judged as soon as the bytes that decide it are there. Its announced size is compared with the limit
//! before a byte of payload is waited for, fragments are joined under the same limit, and text is checked for UTF-8 as it
//! arrives, also within a frame that is not complete. A parser between messages holds no heap memory.
//! What a violation means is a [`Close`] to send; sending it, answering pings and closing the socket are the session's.

use super::close::Close;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of payload that a control frame may have (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// What a client sent, fragments joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message; certainly UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// To be answered by a pong with the same payload.
    Ping(Bytes),
    /// The answer to a ping, or a heartbeat of the client's own.
    Pong(Bytes),
    /// The client's Close, with a valid code and reason if it gave one. Nothing follows it.
    Close(Option<(u16, String)>),
}

/// A frame's opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// A further fragment of the message under way.
    Continuation = 0,
    /// Text, or its first fragment.
    Text = 1,
    /// Binary data, or its first fragment.
    Binary = 2,
    /// The end.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Op {
    fn from_bits(bits: u8) -> Option<Op> {
        Some(match bits {
            0 => Op::Continuation,
            1 => Op::Text,
            2 => Op::Binary,
            8 => Op::Close,
            9 => Op::Ping,
            10 => Op::Pong,
            _ => return None,
        })
    }
    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The frame whose header was read and whose payload is not yet complete.
#[derive(Clone, Copy)]
struct Frame {
    op: Op,
    fin: bool,
    mask: [u8; 4],
    len: usize,
    /// Bytes of payload that have arrived, are unmasked and, if text, checked. They lie at the front of the caller's buffer.
    seen: usize,
}

/// The message whose last fragment has not come.
struct Joining {
    text: bool,
    payload: BytesMut,
}

/// Reads the frames of one socket.
pub struct Parser {
    max: usize,
    frame: Option<Frame>,
    joining: Option<Joining>,
    utf8: Utf8,
    ended: bool,
}

impl Parser {
    /// A parser that takes messages of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Parser { max, frame: None, joining: None, utf8: Utf8::default(), ended: false }
    }

    /// Whether nothing is under way: no frame half read, no message half joined. With an empty buffer such a session needs
    /// no memory for reading.
    pub fn is_idle(&self) -> bool {
        self.frame.is_none() && self.joining.is_none()
    }

    /// Takes the next message off the front of `buf`, which holds what the socket gave and grows by what it gives next;
    /// `None` when more is needed. After a Close of either kind everything further is thrown away (RFC 6455, 1.4).
    ///
    /// # Errors
    /// The Close to send when the client broke the protocol.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Message>, Close> {
        if self.ended {
            buf.clear();
            return Ok(None);
        }
        let result = self.advance(buf);
        if matches!(result, Err(_) | Ok(Some(Message::Close(_)))) {
            *self = Parser { ended: true, ..Parser::new(self.max) };
            buf.clear();
        }
        result
    }

    fn advance(&mut self, buf: &mut BytesMut) -> Result<Option<Message>, Close> {
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.header(buf)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            self.take_arrived(&mut frame, buf)?;
            if frame.seen < frame.len {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(message) = self.complete(frame, buf.split_to(frame.len))? {
                return Ok(Some(message));
            }
        }
    }

    /// Reads a header off the front of `buf`, refusing it at the first byte that is wrong.
    fn header(&self, buf: &mut BytesMut) -> Result<Option<Frame>, Close> {
        let Some(&first) = buf.first() else { return Ok(None) };
        let op = Op::from_bits(first & 0x0f).filter(|_| first & 0x70 == 0).ok_or(Close::PROTOCOL)?;
        let fin = first & 0x80 != 0;
        let in_place = if op.is_control() { fin } else { (op == Op::Continuation) == self.joining.is_some() };
        if !in_place {
            return Err(Close::PROTOCOL);
        }
        let Some(&second) = buf.get(1) else { return Ok(None) };
        let short = usize::from(second & 0x7f);
        if second & 0x80 == 0 || (op.is_control() && short > CONTROL_BYTES_MAX) {
            return Err(Close::PROTOCOL);
        }
        let Some((len, at)) = announced(short, buf)? else { return Ok(None) };
        let joined = self.joining.as_ref().map_or(0, |j| j.payload.len());
        if !op.is_control() && len > (self.max - joined) as u64 {
            return Err(Close::TOO_BIG);
        }
        let Some(mask) = buf.get(at..at + 4).and_then(|m| m.try_into().ok()) else { return Ok(None) };
        buf.advance(at + 4);
        Ok(Some(Frame { op, fin, mask, len: len as usize, seen: 0 }))
    }

    /// Unmasks and checks the payload that has arrived since the last look.
    fn take_arrived(&mut self, frame: &mut Frame, buf: &mut BytesMut) -> Result<(), Close> {
        let until = frame.len.min(buf.len());
        let new = &mut buf[frame.seen..until];
        unmask(new, frame.mask, frame.seen);
        frame.seen = until;
        let text = match frame.op {
            Op::Continuation => self.joining.as_ref().is_some_and(|j| j.text),
            op => op == Op::Text,
        };
        if text && !self.utf8.push(new) { Err(Close::INVALID_DATA) } else { Ok(()) }
    }

    fn complete(&mut self, frame: Frame, payload: BytesMut) -> Result<Option<Message>, Close> {
        match frame.op {
            Op::Ping => Ok(Some(Message::Ping(payload.freeze()))),
            Op::Pong => Ok(Some(Message::Pong(payload.freeze()))),
            Op::Close => close_body(&payload).map(|body| Some(Message::Close(body))),
            Op::Text | Op::Binary if frame.fin => self.data(frame.op == Op::Text, payload),
            Op::Text | Op::Binary => {
                // A copy, so that a slow message does not keep the whole read buffer alive.
                self.joining = Some(Joining { text: frame.op == Op::Text, payload: BytesMut::from(&payload[..]) });
                Ok(None)
            }
            Op::Continuation => {
                let mut joining = self.joining.take().expect("a continuation is refused at its header when nothing is joined");
                joining.payload.extend_from_slice(&payload);
                if frame.fin {
                    return self.data(joining.text, joining.payload);
                }
                self.joining = Some(joining);
                Ok(None)
            }
        }
    }

    fn data(&self, text: bool, payload: BytesMut) -> Result<Option<Message>, Close> {
        match text {
            true if !self.utf8.is_whole() => Err(Close::INVALID_DATA),
            true => Ok(Some(Message::Text(payload.freeze()))),
            false => Ok(Some(Message::Binary(payload.freeze()))),
        }
    }
}

/// The payload's announced length and where the mask begins; `None` when the bytes that say so are not there yet.
fn announced(short: usize, buf: &[u8]) -> Result<Option<(u64, usize)>, Close> {
    let (len, at, least) = match short {
        126 => match buf.get(2..4) {
            Some(b) => (u64::from(u16::from_be_bytes([b[0], b[1]])), 4, 126),
            None => return Ok(None),
        },
        127 => match buf.get(2..10).and_then(|b| b.try_into().ok()) {
            Some(b) => (u64::from_be_bytes(b), 10, 1 << 16),
            None => return Ok(None),
        },
        _ => (short as u64, 2, 0),
    };
    // RFC 6455, 5.2: the shortest form must be used, and the highest bit of the long form must be 0.
    if len < least || len > i64::MAX as u64 { Err(Close::PROTOCOL) } else { Ok(Some((len, at))) }
}

/// A Close frame's body.
fn close_body(payload: &[u8]) -> Result<Option<(u16, String)>, Close> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Close::PROTOCOL),
        [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
    };
    // 1004-1006 and 1015 never stand in a frame; 1016-2999 have no meaning yet.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Close::PROTOCOL);
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Some((code, reason.to_owned()))),
        Err(_) => Err(Close::INVALID_DATA),
    }
}

/// Applies a mask in place to the payload bytes that begin at `offset` of their frame.
fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    let m = |i: usize| mask[(offset + i) % 4];
    let eight = u64::from_ne_bytes([m(0), m(1), m(2), m(3), m(0), m(1), m(2), m(3)]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ eight).to_ne_bytes();
    }
    for (i, byte) in rest.iter_mut().enumerate() {
        *byte ^= m(i);
    }
}

/// Checks UTF-8 piece by piece, keeping only the bytes of a character that is not complete.
#[derive(Default)]
struct Utf8 {
    open: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Whether everything so far is, or can become, UTF-8.
    fn push(&mut self, mut bytes: &[u8]) -> bool {
        while self.len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return true };
            // The standard library calls four bytes either a character or an error, so `open` never runs over.
            self.open[self.len] = byte;
            self.len += 1;
            bytes = rest;
            match std::str::from_utf8(&self.open[..self.len]) {
                Ok(_) => self.len = 0,
                Err(e) if e.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(e) if e.error_len().is_some() => false,
            Err(e) => {
                let open = &bytes[e.valid_up_to()..];
                self.open[..open.len()].copy_from_slice(open);
                self.len = open.len();
                true
            }
        }
    }
    /// Whether no character is half there.
    fn is_whole(&self) -> bool {
        self.len == 0
    }
}

/// A whole frame as a server sends it: one fragment, no mask.
pub fn frame(op: Op, payload: &[u8]) -> Bytes {
    let mut out = head(true, op, payload.len(), 0);
    out.put_slice(payload);
    out.freeze()
}

/// A frame as a client sends it: masked, and a fragment if `fin` is false. For tests and load generators.
pub fn client_frame(fin: bool, op: Op, mask: [u8; 4], payload: &[u8]) -> Bytes {
    let mut out = head(fin, op, payload.len(), 0x80);
    out.put_slice(&mask);
    let at = out.len();
    out.put_slice(payload);
    unmask(&mut out[at..], mask, 0);
    out.freeze()
}

/// A Close frame; a reason that does not fit is cut at a character.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let mut cut = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut body = code.to_be_bytes().to_vec();
    body.extend_from_slice(&reason.as_bytes()[..cut]);
    frame(Op::Close, &body)
}

/// A header with room behind it for the mask and the payload.
fn head(fin: bool, op: Op, len: usize, masked: u8) -> BytesMut {
    let mut out = BytesMut::with_capacity(14 + len);
    out.put_u8(op as u8 | if fin { 0x80 } else { 0 });
    match len {
        0..=125 => out.put_u8(masked | len as u8),
        126..=0xffff => {
            out.put_u8(masked | 126);
            out.put_u16(len as u16);
        }
        _ => {
            out.put_u8(masked | 127);
            out.put_u64(len as u64);
        }
    }
    out
}

#[cfg(test)]
mod tests;
