//! Vectors and properties of the codec.
#![allow(clippy::unwrap_used)]

use super::super::arbitrary::{push, request};
use super::*;
use proptest::prelude::*;

/// A frame, the `ref` that is answered, and for a bad frame its code and a part of the message.
type Vector = (&'static str, u64, Option<(Code, &'static str)>);

/// JSON frames.
const REQUESTS: &[Vector] = &[
    (r#"{"op":"ping","ref":1}"#, 1, None),
    (r#" {"ref":1,"op":"ping"} "#, 1, None),
    (r#"{"op":"p\u0069ng","ref":18446744073709551615}"#, u64::MAX, None),
    (r#"{"room":"5","on":true,"ref":2,"op":"typing"}"#, 2, None),
    (r#"{"op":"typing","later":{"a":[1,{"op":"x","ref":9}]},"ref":2,"room":"5","on":false}"#, 2, None),
    (r#"{"op":"ping","ref":1}x"#, 0, Some((Code::Malformed, "trailing"))),
    (r#"{"op":"ping","ref":1}{}"#, 0, Some((Code::Malformed, "trailing"))),
    (r#"{"op":"ping","ref":1"#, 0, Some((Code::Malformed, "EOF"))),
    ("", 0, Some((Code::Malformed, "not a map"))),
    ("null", 0, Some((Code::Malformed, "not a map"))),
    (r#"["ping",1]"#, 0, Some((Code::Malformed, "not a map"))),
    (r#""ping""#, 0, Some((Code::Malformed, "not a map"))),
    (r#"{"ref":3}"#, 3, Some((Code::Malformed, "missing field `op`"))),
    (r#"{"op":"ping"}"#, 0, Some((Code::Malformed, "missing field `ref`"))),
    (r#"{"op":"ping","ref":0}"#, 0, Some((Code::Malformed, "ref: expected"))),
    (r#"{"op":"ping","ref":-1}"#, 0, Some((Code::Malformed, "ref: invalid value: integer `-1`"))),
    (r#"{"op":"ping","ref":1.5}"#, 0, Some((Code::Malformed, "ref: invalid type"))),
    (r#"{"op":"ping","ref":"1"}"#, 0, Some((Code::Malformed, "ref: invalid type"))),
    (r#"{"op":"ping","ref":18446744073709551616}"#, 0, Some((Code::Malformed, "ref"))),
    (r#"{"op":7,"ref":3}"#, 3, Some((Code::Malformed, "op: invalid type"))),
    (r#"{"op":"ping","ref":3,"op":"send"}"#, 3, Some((Code::Malformed, "duplicate field `op`"))),
    (r#"{"op":"ping","ref":3,"ref":4}"#, 0, Some((Code::Malformed, "duplicate field `ref`"))),
    (r#"{"op":"shout","ref":3}"#, 3, Some((Code::UnknownOp, "shout"))),
    (r#"{"op":"typing","ref":2,"on":true}"#, 2, Some((Code::Malformed, "missing field `room`"))),
    (r#"{"op":"typing","ref":2,"room":5,"on":true}"#, 2, Some((Code::Malformed, "room: invalid type: integer `5`, expected an id"))),
    (r#"{"op":"typing","ref":2,"room":"05","on":true}"#, 2, Some((Code::Malformed, "room: invalid value"))),
    (r#"{"op":"typing","ref":2,"room":"9223372036854775808","on":true}"#, 2, Some((Code::Malformed, "room: invalid value"))),
    (r#"{"op":"typing","ref":2,"room":"5","on":1}"#, 2, Some((Code::Malformed, "on: invalid type"))),
    (r#"{"op":"typing","ref":2,"room":"5","room":"5","on":true}"#, 2, Some((Code::Malformed, "duplicate field `room`"))),
    (r#"{"op":"send","ref":2,"room":"5","cid":"x"}"#, 2, Some((Code::Malformed, "cid: "))),
    (r#"{"op":"history","ref":2,"room":"5","limit":4294967296}"#, 2, Some((Code::Malformed, "limit: invalid value"))),
    (r#"{"op":"resume","ref":2,"rooms":[{"room":"5","have":1},{"room":6,"have":1}]}"#, 2, Some((Code::Malformed, "rooms[1].room: "))),
    (r#"{"op":"role","ref":2,"room":"5","user":"6","role":"god"}"#, 2, Some((Code::Malformed, "role: unknown variant `god`"))),
    (r#"{"op":"presence","ref":2,"status":"\ud800"}"#, 2, Some((Code::Malformed, "status: "))),
];

#[test]
fn json_requests_are_taken_or_refused_as_the_table_says() {
    for (frame, reference, fault) in REQUESTS {
        check(frame, decode_request(Format::Json, frame.as_bytes()), *reference, *fault);
    }
}

fn check(name: &str, got: Result<(u64, Request), (u64, ApiError)>, reference: u64, fault: Option<(Code, &str)>) {
    match (got, fault) {
        (Ok((r, _)), None) => assert_eq!(r, reference, "{name}"),
        (Err((r, e)), Some((code, part))) => {
            assert_eq!((r, e.code), (reference, code), "{name}: {e}");
            assert!(e.message.contains(part), "{name}: {e}");
            assert!(e.message.chars().count() <= MESSAGE_CHARS_MAX, "{name}: {e}");
        }
        (got, _) => panic!("{name}: {got:?}"),
    }
}

/// MessagePack frames in hex: `82` a map of two, `a2 6f70` "op", `a4 70696e67` "ping", `a3 726566` "ref".
const PACKED: &[Vector] = &[
    ("82 a26f70 a470696e67 a3726566 01", 1, None),
    ("82 a3726566 cfffffffffffffffff a26f70 a470696e67", u64::MAX, None),
    ("de0002 da00026f70 d90470696e67 db00000003726566 01", 1, None),
    ("83 a26f70 a470696e67 a3726566 01 a178 9381a1780102c0", 1, None),
    ("82 a26f70 a470696e67 a3726566 01 00", 0, Some((Code::Malformed, "1 bytes behind"))),
    ("82 a26f70 a470696e67 a3726566", 0, Some((Code::Malformed, "ends within"))),
    ("82 a26f70 a470696e67", 0, Some((Code::Malformed, "ends within"))),
    ("", 0, Some((Code::Malformed, "not a map"))),
    ("92 a470696e67 01", 0, Some((Code::Malformed, "not a map"))),
    ("c0", 0, Some((Code::Malformed, "not a map"))),
    ("a470696e67", 0, Some((Code::Malformed, "not a map"))),
    ("dfffffffff", 0, Some((Code::Malformed, "runs over"))),
    ("81 a26f70 ddffffffff", 0, Some((Code::Malformed, "runs over"))),
    ("81 a26f70 dbffffffff 61", 0, Some((Code::Malformed, "runs over"))),
    ("81 a26f70 c6ffffffff 61", 0, Some((Code::Malformed, "runs over"))),
    ("82 a26f70 a4706980ff a3726566 01", 0, Some((Code::Malformed, "not UTF-8"))),
    ("82 00 a470696e67 a3726566 01", 0, Some((Code::Malformed, "not a string"))),
    ("82 c4026f70 a470696e67 a3726566 01", 0, Some((Code::Malformed, "not a string"))),
    ("81 a26f70 c1", 0, Some((Code::Malformed, "0xc1"))),
    ("81 a26f70 d40101", 0, Some((Code::Malformed, "extension"))),
    ("81 a26f70 c7010100", 0, Some((Code::Malformed, "extension"))),
    ("81 a3726566 05", 5, Some((Code::Malformed, "missing field `op`"))),
    ("82 a26f70 07 a3726566 05", 5, Some((Code::Malformed, "op: "))),
    ("82 a26f70 a470696e67 a3726566 ff", 0, Some((Code::Malformed, "ref: "))),
    ("82 a26f70 a470696e67 a3726566 00", 0, Some((Code::Malformed, "ref: expected"))),
    ("83 a26f70 a470696e67 a3726566 01 a26f70 a470696e67", 1, Some((Code::Malformed, "duplicate field `op`"))),
    ("83 a26f70 a470696e67 a3726566 01 a3726566 01", 0, Some((Code::Malformed, "duplicate field `ref`"))),
    // typing, room as a string, then beyond 2^63 - 1
    ("84 a26f70 a6747970696e67 a3726566 02 a4726f6f6d a135 a26f6e c3", 2, Some((Code::Malformed, "room: "))),
    ("84 a26f70 a6747970696e67 a3726566 02 a4726f6f6d cf8000000000000000 a26f6e c3", 2, Some((Code::Malformed, "room: "))),
];

#[test]
fn packed_requests_are_taken_or_refused_as_the_table_says() {
    for (hexed, reference, fault) in PACKED {
        let frame = hex::decode(hexed.replace(' ', "")).unwrap();
        check(hexed, decode_request(Format::Msgpack, &frame), *reference, *fault);
    }
}

#[test]
fn nesting_is_limited_in_both_formats() {
    for (levels, fine) in [(DEPTH_MAX - 1, true), (DEPTH_MAX, false), (20_000, false)] {
        let json = format!(r#"{{"op":"ping","ref":1,"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        let mut packed = hex::decode("83a26f70a470696e67a372656601a178").unwrap();
        packed.extend(std::iter::repeat_n(0x91, levels - 1));
        packed.push(0x90);
        for (format, frame) in [(Format::Json, json.into_bytes()), (Format::Msgpack, packed)] {
            match decode_request(format, &frame) {
                Ok(_) => assert!(fine, "{format:?} {levels}"),
                Err((_, e)) => assert!(!fine && e.message.contains("nested"), "{format:?} {levels}: {e}"),
            }
        }
    }
    // Brackets within strings are not nesting.
    let quoted = format!(r#"{{"op":"ping","ref":1,"x":"\"{}"}}"#, "[".repeat(100));
    assert!(decode_request(Format::Json, quoted.as_bytes()).is_ok());
}

#[test]
fn an_unknown_push_is_told_apart_from_a_broken_one() {
    let code = |frame: &str| decode_push(Format::Json, frame.as_bytes()).unwrap_err().code;
    assert_eq!(code(r#"{"op":"confetti","colour":"red"}"#), Code::UnknownOp);
    assert_eq!(code(r#"{"op":"drain","after_ms":-1}"#), Code::Malformed);
    assert_eq!(code(r#"{"op":"drain","after_ms":1,"after_ms":1}"#), Code::Malformed);
    assert_eq!(code(r#"{"after_ms":1}"#), Code::Malformed);
}

#[test]
fn not_utf8_is_refused_wherever_it_stands() {
    for at in [0, 3, 15, 30, 37] {
        let mut frame = br#"{"op":"typing","ref":2,"zzzz":"zzzzzz","room":"5","on":true}"#.to_vec();
        assert!(decode_request(Format::Json, &frame).is_ok());
        frame[at] = 0xff;
        assert_eq!(decode_request(Format::Json, &frame).unwrap_err().1.code, Code::Malformed, "byte {at}");
    }
}

#[test]
fn an_entry_of_an_unknown_kind_is_passed_on_and_still_counts() {
    let frame = br#"{"op":"entry","room":"5","seq":2,"n":1,"id":"9","at":0,"by":"7","body":{"poll":{"q":"?"}}}"#;
    let Push::Entry(entry) = decode_push(Format::Json, frame).unwrap() else { panic!("not an entry") };
    for format in Format::ALL {
        assert_eq!(decode_push(format, &encode_entry(format, &entry)).unwrap(), Push::Entry(entry.clone()));
    }
    assert!(String::from_utf8(encode_entry(Format::Json, &entry)).unwrap().contains(r#""body":{"unknown":{}}"#));
}

#[test]
fn subprotocols_name_the_formats() {
    for format in Format::ALL {
        assert_eq!(Format::from_subprotocol(format.subprotocol()), Some(format));
    }
    assert_eq!(Format::from_subprotocol("hubbub.v2.json"), None);
}

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::Json), Just(Format::Msgpack)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_request_survives(format in format(), reference in 1u64.., request in request()) {
        let frame = encode_request(format, reference, &request);
        prop_assert_eq!(decode_request(format, &frame), Ok((reference, request)));
    }

    #[test]
    fn any_push_survives(format in format(), push in push()) {
        let frame = encode_push(format, &push);
        prop_assert_eq!(decode_push(format, &frame), Ok(push.clone()));
        if let Push::Entry(entry) = &push {
            prop_assert_eq!(encode_entry(format, entry), frame);
        }
    }

    #[test]
    fn random_bytes_never_panic(format in format(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_request(format, &bytes);
        let _ = decode_push(format, &bytes);
    }

    #[test]
    fn changed_frames_never_panic(
        format in format(),
        request in request(),
        push in push(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        for frame in [encode_request(format, 1, &request), encode_push(format, &push)] {
            // A beginning is no frame; a changed one may be, and its beginning too.
            let beginning = &frame[..cut.index(frame.len())];
            prop_assert!(decode_request(format, beginning).is_err());
            prop_assert!(decode_push(format, beginning).is_err());
            let mut frame = frame.to_vec();
            for (at, byte) in &changes {
                let at = at.index(frame.len());
                frame[at] = *byte;
            }
            let _ = decode_request(format, &frame);
            let _ = decode_push(format, &frame);
            frame.truncate(cut.index(frame.len()));
            let _ = decode_request(format, &frame);
            let _ = decode_push(format, &frame);
        }
    }
}
