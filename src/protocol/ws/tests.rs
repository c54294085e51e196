//! The project's own table of what Autobahn's groups 1-7 and 10 ask. Every case is fed whole, byte by byte, and cut at random.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const MAX: usize = 70_000;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a client sends, and what comes of it: the messages, then the Close to send if the client broke the rules.
struct Case {
    name: String,
    sent: Vec<u8>,
    messages: Vec<Message>,
    close: Option<Close>,
}

fn text(s: &str) -> Message {
    Message::Text(Bytes::copy_from_slice(s.as_bytes()))
}
fn binary(b: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(b))
}
fn ping(b: &[u8]) -> Message {
    Message::Ping(Bytes::copy_from_slice(b))
}
fn pong(b: &[u8]) -> Message {
    Message::Pong(Bytes::copy_from_slice(b))
}
fn whole(op: Op, payload: &[u8]) -> Vec<u8> {
    client_frame(true, op, MASK, payload).to_vec()
}
fn part(op: Op, payload: &[u8]) -> Vec<u8> {
    client_frame(false, op, MASK, payload).to_vec()
}
/// A frame whose first byte is given as it is.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = whole(Op::Text, payload);
    frame[0] = first;
    frame
}

#[derive(Default)]
struct Table(Vec<Case>);

impl Table {
    fn add(&mut self, name: impl Into<String>, sent: &[Vec<u8>], messages: &[Message], close: Option<Close>) {
        self.0.push(Case { name: name.into(), sent: sent.concat(), messages: messages.to_vec(), close });
    }
    fn good(&mut self, name: impl Into<String>, sent: &[Vec<u8>], messages: &[Message]) {
        self.add(name, sent, messages, None);
    }
    fn bad(&mut self, name: impl Into<String>, sent: &[Vec<u8>], close: Close) {
        self.add(name, sent, &[], Some(close));
    }
}

fn cases() -> Vec<Case> {
    let mut t = Table::default();
    framing(&mut t);
    pings(&mut t);
    reserved(&mut t);
    fragments(&mut t);
    utf8(&mut t);
    closing(&mut t);
    limits(&mut t);
    t.0
}

/// Groups 1 and 10: sizes on both sides of every form of the length.
fn framing(t: &mut Table) {
    for n in [0, 1, 7, 8, 9, 125, 126, 127, 128, 65_535, 65_536, MAX] {
        let payload = "*".repeat(n);
        t.good(format!("text of {n}"), &[whole(Op::Text, payload.as_bytes())], &[text(&payload)]);
        t.good(format!("binary of {n}"), &[whole(Op::Binary, &vec![0xfe; n])], &[binary(&vec![0xfe; n])]);
    }
    t.good("two in a row", &[whole(Op::Text, b"a"), whole(Op::Binary, b"b")], &[text("a"), binary(b"b")]);
    let big = "*".repeat(65_536);
    let pieces: Vec<_> = big.as_bytes().chunks(1300).collect();
    let sent: Vec<_> = pieces
        .iter()
        .enumerate()
        .map(|(i, p)| client_frame(i + 1 == pieces.len(), if i == 0 { Op::Text } else { Op::Continuation }, [i as u8, 2, 3, 4], p).to_vec())
        .collect();
    t.good("64 KiB in pieces of 1300", &sent, &[text(&big)]);
}

/// Group 2.
fn pings(t: &mut Table) {
    t.good("ping", &[whole(Op::Ping, b"")], &[ping(b"")]);
    t.good("ping with bytes that are no text", &[whole(Op::Ping, &[0, 0xff, 0xfe, 0xfd])], &[ping(&[0, 0xff, 0xfe, 0xfd])]);
    t.good("ping of 125", &[whole(Op::Ping, &[7; 125])], &[ping(&[7; 125])]);
    t.bad("ping of 126", &[whole(Op::Ping, &[7; 126])], Close::PROTOCOL);
    t.good("pong nobody asked for", &[whole(Op::Pong, b"x"), whole(Op::Ping, b"y")], &[pong(b"x"), ping(b"y")]);
    let ten: Vec<_> = (0..10u8).map(|i| whole(Op::Ping, &[i])).collect();
    t.good("ten pings", &ten, &(0..10u8).map(|i| ping(&[i])).collect::<Vec<_>>());
}

/// Groups 3 and 4: reserved bits and opcodes; and what a server must not accept from a client.
fn reserved(t: &mut Table) {
    for rsv in 1..8u8 {
        for op in [1, 2, 8, 9, 10] {
            t.bad(format!("reserved bits {rsv} on opcode {op}"), &[raw(0x80 | rsv << 4 | op, b"x")], Close::PROTOCOL);
        }
    }
    for op in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        t.bad(format!("opcode {op}"), &[raw(0x80 | op, b"")], Close::PROTOCOL);
        t.add(format!("opcode {op} after text"), &[whole(Op::Text, b"a"), raw(0x80 | op, b"x")], &[text("a")], Some(Close::PROTOCOL));
    }
    t.bad("no mask", &[frame(Op::Text, b"hello").to_vec()], Close::PROTOCOL);
    t.bad("a length of 125 in 16 bits", &[vec![0x81, 0xfe, 0, 125]], Close::PROTOCOL);
    t.bad("a length of 65535 in 64 bits", &[vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]], Close::PROTOCOL);
    t.bad("a length with the highest bit", &[vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]], Close::PROTOCOL);
}

/// Group 5.
fn fragments(t: &mut Table) {
    t.good("two fragments", &[part(Op::Text, b"he"), whole(Op::Continuation, b"llo")], &[text("hello")]);
    t.good("empty fragments", &[part(Op::Binary, b""), part(Op::Continuation, b""), whole(Op::Continuation, b"")], &[binary(b"")]);
    let between =
        [part(Op::Text, b"he"), whole(Op::Ping, b"p"), part(Op::Continuation, b"l"), whole(Op::Pong, b"q"), whole(Op::Continuation, b"lo")];
    t.good("control frames between fragments", &between, &[ping(b"p"), pong(b"q"), text("hello")]);
    t.bad("ping in fragments", &[part(Op::Ping, b"he"), whole(Op::Continuation, b"llo")], Close::PROTOCOL);
    t.bad("pong in fragments", &[part(Op::Pong, b"he")], Close::PROTOCOL);
    t.bad("close in fragments", &[part(Op::Close, b"")], Close::PROTOCOL);
    t.bad("continuation of nothing", &[whole(Op::Continuation, b"x")], Close::PROTOCOL);
    t.bad("first fragment of nothing", &[part(Op::Continuation, b"x")], Close::PROTOCOL);
    let after = [part(Op::Text, b"a"), whole(Op::Continuation, b"b"), part(Op::Continuation, b"c")];
    t.add("continuation after the end", &after, &[text("ab")], Some(Close::PROTOCOL));
    t.bad("text within text", &[part(Op::Text, b"a"), whole(Op::Text, b"b")], Close::PROTOCOL);
    t.bad("binary within text", &[part(Op::Text, b"a"), part(Op::Binary, b"b")], Close::PROTOCOL);
    t.good("close between fragments", &[part(Op::Text, b"a"), whole(Op::Close, b"")], &[Message::Close(None)]);
}

/// Group 6.
fn utf8(t: &mut Table) {
    let good = [
        "κόσμε",
        "Hello-µ@ßöäüàá-UTF-8!!",
        "\u{0}",
        "\u{7f}\u{80}",
        "\u{7ff}\u{800}",
        "\u{ffff}\u{10000}\u{10ffff}",
        "\u{d7ff}\u{e000}\u{fffd}",
    ];
    for s in good {
        t.good(format!("text {s:?}"), &[whole(Op::Text, s.as_bytes())], &[text(s)]);
        let cut: Vec<_> = s.bytes().map(|b| part(Op::Continuation, &[b])).collect();
        let sent = [vec![part(Op::Text, b"")], cut, vec![whole(Op::Continuation, b"")]].concat();
        t.good(format!("text {s:?}, one byte a fragment"), &sent, &[text(s)]);
    }
    let bad: &[&[u8]] = &[
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xbf",
        b"a\xc0 ",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xfe",
        b"\xff",
        b"\xce",
        b"\xe1\xbd",
        b"\xf0\x90\x80",
    ];
    for bytes in bad {
        t.bad(format!("text {bytes:x?}"), &[whole(Op::Text, bytes)], Close::INVALID_DATA);
        t.good(format!("binary {bytes:x?}"), &[whole(Op::Binary, bytes)], &[binary(bytes)]);
        let cut: Vec<_> = bytes.iter().map(|b| part(Op::Continuation, &[*b])).collect();
        let sent = [vec![part(Op::Text, b"")], cut, vec![whole(Op::Continuation, b"")]].concat();
        t.bad(format!("text {bytes:x?}, one byte a fragment"), &sent, Close::INVALID_DATA);
    }
    t.good(
        "a character over a ping",
        &[part(Op::Text, b"\xce"), whole(Op::Ping, b"\xff"), whole(Op::Continuation, b"\xba")],
        &[ping(b"\xff"), text("κ")],
    );
    t.add(
        "the next text begins afresh",
        &[whole(Op::Text, "κ".as_bytes()), whole(Op::Text, b"\xba")],
        &[text("κ")],
        Some(Close::INVALID_DATA),
    );
}

/// Group 7.
fn closing(t: &mut Table) {
    let body = |code: u16, reason: &[u8]| whole(Op::Close, &[&code.to_be_bytes()[..], reason].concat());
    let with = |code: u16, reason: &str| Message::Close(Some((code, reason.to_owned())));
    t.good("close without body", &[whole(Op::Close, b"")], &[Message::Close(None)]);
    t.good("what follows a close is nothing", &[body(1000, b""), whole(Op::Ping, b""), raw(0xff, b"")], &[with(1000, "")]);
    t.good("text before a close", &[whole(Op::Text, b"a"), body(1000, b"bye")], &[text("a"), with(1000, "bye")]);
    t.bad("close body of one byte", &[whole(Op::Close, b"\x03")], Close::PROTOCOL);
    t.good("reason of 123", &[body(1000, &[b'*'; 123])], &[with(1000, &"*".repeat(123))]);
    t.bad("reason of 124", &[body(1000, &[b'*'; 124])], Close::PROTOCOL);
    t.bad("reason that is not UTF-8", &[body(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80")], Close::INVALID_DATA);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        t.good(format!("close {code}"), &[body(code, b"")], &[with(code, "")]);
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        t.bad(format!("close {code}"), &[body(code, b"")], Close::PROTOCOL);
        t.bad(format!("close {code} with a reason"), &[body(code, b"x")], Close::PROTOCOL);
    }
}

/// Group 9 turned round: what is over the limit goes no further than its header.
fn limits(t: &mut Table) {
    let over = MAX as u64 + 1;
    t.bad("one byte too many, header only", &[[&[0x82, 0xff][..], &over.to_be_bytes()].concat()], Close::TOO_BIG);
    t.bad("a terabyte, header only", &[[&[0x81, 0xff][..], &(1u64 << 40).to_be_bytes()].concat()], Close::TOO_BIG);
    t.bad(
        "fragments that are too many together",
        &[part(Op::Binary, &vec![1; MAX - 1]), part(Op::Continuation, b"1"), vec![0x80, 0x81]],
        Close::TOO_BIG,
    );
    t.good(
        "fragments that just fit, with pings",
        &[part(Op::Binary, &vec![1; MAX - 1]), whole(Op::Ping, &[1; 125]), whole(Op::Continuation, &[1])],
        &[ping(&[1; 125]), binary(&vec![1; MAX])],
    );
}

/// Feeds `sent` in the given pieces until all is read or refused.
fn feed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<Close>) {
    let (mut parser, mut buf, mut messages) = (Parser::new(MAX), BytesMut::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match parser.next(&mut buf) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(close) => {
                    buf.extend_from_slice(piece);
                    assert!(parser.next(&mut buf).unwrap().is_none() && buf.is_empty(), "something follows an error");
                    return (messages, Some(close));
                }
            }
        }
    }
    (messages, None)
}

fn check<'a>(case: &Case, how: &str, pieces: impl Iterator<Item = &'a [u8]>) {
    let (messages, close) = feed(pieces);
    assert_eq!(close, case.close, "{}, {how}", case.name);
    assert!(messages == case.messages, "{}, {how}: {} messages", case.name, messages.len());
}

#[test]
fn the_table_holds_whole_and_byte_by_byte() {
    for case in cases() {
        check(&case, "whole", std::iter::once(&case.sent[..]));
        check(&case, "byte by byte", case.sent.chunks(1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_table_holds_however_it_is_cut(cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 1..12), near in 1usize..20) {
        for case in cases() {
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(case.sent.len() + 1)).chain([near.min(case.sent.len())]).collect();
            at.extend([0, case.sent.len()]);
            at.sort_unstable();
            check(&case, "cut", at.windows(2).map(|w| &case.sent[w[0]..w[1]]));
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_gather(bytes in proptest::collection::vec(any::<u8>(), 0..4000), piece in 1usize..64) {
        let (mut parser, mut buf) = (Parser::new(500), BytesMut::new());
        for piece in bytes.chunks(piece) {
            buf.extend_from_slice(piece);
            while let Ok(Some(_)) = parser.next(&mut buf) {}
            prop_assert!(buf.len() < 500 + 14);
        }
    }

    #[test]
    fn unmasking_in_pieces_is_unmasking_at_once(bytes in proptest::collection::vec(any::<u8>(), 0..100), mask: [u8; 4], at in any::<proptest::sample::Index>()) {
        let expected: Vec<u8> = bytes.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]).collect();
        let (mut got, at) = (bytes.clone(), at.index(bytes.len() + 1));
        unmask(&mut got[..at], mask, 0);
        unmask(&mut got[at..], mask, at);
        prop_assert_eq!(got, expected);
    }
}

/// Autobahn 6.4: the refusal may not wait for the rest of the frame or message.
#[test]
fn bad_text_is_refused_at_the_byte_that_makes_it_bad() {
    for (name, sent) in [
        ("in a frame that is not complete", [&whole(Op::Text, &[b'a'; 40])[..6], &mask_off(0, b"\xce\xba\xf4\x90")].concat()),
        ("in a message that is not complete", [part(Op::Text, b"\xce\xba\xf4"), part(Op::Continuation, b"\x90")].concat()),
    ] {
        let (mut parser, mut buf) = (Parser::new(MAX), BytesMut::new());
        for (i, byte) in sent.iter().enumerate() {
            buf.put_u8(*byte);
            let got = parser.next(&mut buf);
            assert_eq!(got, if i + 1 == sent.len() { Err(Close::INVALID_DATA) } else { Ok(None) }, "{name}, byte {i}");
        }
    }
}

fn mask_off(offset: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = payload.to_vec();
    unmask(&mut bytes, MASK, offset);
    bytes
}

/// The header is refused at its first wrong byte, so nothing behind it is ever waited for.
#[test]
fn a_wrong_header_is_refused_at_its_first_wrong_byte() {
    for (bytes, close) in [
        (&[0xc1][..], Close::PROTOCOL),
        (&[0x83], Close::PROTOCOL),
        (&[0x09], Close::PROTOCOL),
        (&[0x80], Close::PROTOCOL),
        (&[0x81, 0x05], Close::PROTOCOL),
        (&[0x89, 0xfe], Close::PROTOCOL),
        (&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0], Close::TOO_BIG),
    ] {
        let (mut parser, mut buf) = (Parser::new(MAX), BytesMut::from(&bytes[..bytes.len() - 1]));
        assert_eq!(parser.next(&mut buf), Ok(None), "{bytes:x?} but for the last byte");
        buf.put_u8(bytes[bytes.len() - 1]);
        assert_eq!(parser.next(&mut buf), Err(close), "{bytes:x?}");
    }
}

#[test]
fn a_parser_is_idle_between_messages_only() {
    let (mut parser, mut buf) = (Parser::new(MAX), BytesMut::new());
    assert!(parser.is_idle());
    let sent = [part(Op::Text, b"he"), whole(Op::Continuation, b"llo")].concat();
    for (i, byte) in sent.iter().enumerate() {
        buf.put_u8(*byte);
        let done = parser.next(&mut buf).unwrap().is_some();
        assert_eq!(done, i + 1 == sent.len());
        assert_eq!(parser.is_idle() && buf.is_empty(), done, "byte {i}");
    }
}

#[test]
fn frames_of_the_server_have_the_shortest_length_and_no_mask() {
    for (n, head) in [
        (0, &[0x82, 0][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 255, 255]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let frame = frame(Op::Binary, &vec![9; n]);
        assert_eq!((&frame[..head.len()], frame.len()), (head, head.len() + n));
    }
    assert_eq!(&close_frame(4000, "slow")[..], b"\x88\x06\x0f\xa0slow");
    // 122 bytes and a character of two: it would be cut in the middle.
    let long = close_frame(4000, &format!("{}ß", "x".repeat(122)));
    assert_eq!((long.len(), long[1]), (2 + 2 + 122, 124));
}
