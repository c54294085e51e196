//! The wire and the stored record, byte for byte: whoever changes a frame sees it here, and writes it into docs/PROTOCOL.md.
//!
//! `tests/golden/{requests,pushes}.jsonl` holds a frame a line, `….msgpack.hex` the same frames on the same lines.
//! To add one: write its JSON line, run this test, and put the line it prints into the other file.

use bytes::Bytes;
use hubbub::bus::{Envelope, Framed, UserEvent, wire};
use hubbub::cluster::NodeId;
use hubbub::error::Code;
use hubbub::protocol::close::{self, Next, next};
use hubbub::protocol::codec::{Format, decode_push, decode_request, encode_entry, encode_push, encode_request};
use hubbub::protocol::ids::{DeviceId, Epoch, RoomId, UserId};
use hubbub::protocol::ops::{Push, Request};
use hubbub::storage::{LogRow, record};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The frames of a kind: JSON and MessagePack.
fn frames(kind: &str) -> Vec<(String, Vec<u8>)> {
    let json = read(&format!("tests/golden/{kind}.jsonl"));
    let packed = read(&format!("tests/golden/{kind}.msgpack.hex"));
    let packed: Vec<Vec<u8>> = packed.lines().map(|l| hex::decode(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect();
    json.lines().enumerate().map(|(i, line)| (line.to_owned(), packed.get(i).cloned().unwrap_or_default())).collect()
}

/// Checks every frame of a kind both ways in both formats and gives the ops that were seen.
fn round_trip<T: PartialEq + std::fmt::Debug>(
    kind: &str,
    decode: impl Fn(Format, &[u8]) -> T,
    encode: impl Fn(Format, &T) -> Vec<u8>,
    op: impl Fn(&T) -> String,
) -> HashSet<String> {
    let mut ops = HashSet::new();
    let mut wrong = String::new();
    let frames = frames(kind);
    for (line, (json, packed)) in frames.iter().enumerate() {
        let value = decode(Format::Json, json.as_bytes());
        assert_eq!(String::from_utf8(encode(Format::Json, &value)).unwrap(), *json, "{kind}.jsonl:{}", line + 1);
        let expected = encode(Format::Msgpack, &value);
        if expected == *packed {
            assert_eq!(decode(Format::Msgpack, packed), value, "{kind}.msgpack.hex:{}", line + 1);
        } else {
            wrong += &format!("{}: {}\n", line + 1, hex::encode(expected));
        }
        ops.insert(op(&value));
    }
    assert!(wrong.is_empty(), "lines of tests/golden/{kind}.msgpack.hex that should read:\n{wrong}");
    let packed_lines = read(&format!("tests/golden/{kind}.msgpack.hex")).lines().count();
    assert_eq!(packed_lines, frames.len(), "{kind}.msgpack.hex has other lines than {kind}.jsonl");
    ops
}

fn set(ops: &[&str]) -> HashSet<String> {
    ops.iter().map(|op| (*op).to_owned()).collect()
}

#[test]
fn every_request_is_written_and_read_as_it_always_was() {
    let decode =
        |format, frame: &[u8]| decode_request(format, frame).unwrap_or_else(|e| panic!("{}: {e:?}", String::from_utf8_lossy(frame)));
    let encode = |format, (reference, request): &(u64, Request)| encode_request(format, *reference, request);
    assert_eq!(round_trip("requests", decode, encode, |(_, r)| r.op().to_owned()), set(Request::OPS));
    for (json, _) in frames("requests") {
        let (_, request) = decode_request(Format::Json, json.as_bytes()).unwrap();
        request.validate(&Default::default()).unwrap_or_else(|e| panic!("{json}: {e}"));
    }
}

#[test]
fn every_push_is_written_and_read_as_it_always_was() {
    let decode = |format, frame: &[u8]| decode_push(format, frame).unwrap_or_else(|e| panic!("{}: {e:?}", String::from_utf8_lossy(frame)));
    let op = |push: &Push| serde_json::to_value(push).unwrap()["op"].as_str().unwrap().to_owned();
    assert_eq!(round_trip("pushes", decode, encode_push, op), set(Push::OPS));
    for (json, packed) in frames("pushes") {
        if let Push::Entry(entry) = decode_push(Format::Json, json.as_bytes()).unwrap() {
            assert_eq!(encode_entry(Format::Json, &entry), json.as_bytes());
            assert_eq!(encode_entry(Format::Msgpack, &entry), packed);
        }
    }
}

/// A log row's key and value: bytes that are on people's disks.
#[test]
fn a_stored_record_is_written_and_read_as_it_always_was() {
    let (json, _) = frames("pushes").into_iter().find(|(json, _)| json.starts_with(r#"{"op":"entry""#)).unwrap();
    let Push::Entry(entry) = decode_push(Format::Json, json.as_bytes()).unwrap() else { panic!("not an entry: {json}") };
    let row = LogRow { seq: entry.seq, epoch: Epoch::new(3, 2), committed: entry.seq - 1, payload: record::encode_entry(&entry) };
    let written = [record::key(entry.room, row.seq, row.epoch).to_vec(), record::encode_value(entry.room, &row).to_vec()];
    let golden = read("tests/golden/record.hex");
    let golden: Vec<_> = golden.lines().filter(|l| !l.starts_with('#')).map(|l| hex::decode(l).unwrap()).collect();
    assert_eq!(
        written.map(hex::encode).join("\n"),
        golden.iter().map(hex::encode).collect::<Vec<_>>().join("\n"),
        "tests/golden/record.hex"
    );
    let (room, read) = record::decode_row(&golden[0], &golden[1]).unwrap();
    assert_eq!((room, &read), (RoomId(5), &row));
    assert_eq!(record::decode_entry(&read.payload).unwrap(), entry);
}

/// One of each kind of what nodes send each other.
fn envelopes() -> Vec<(&'static str, Envelope)> {
    let push = |op: &str| {
        let (json, _) = frames("pushes").into_iter().find(|(json, _)| json.starts_with(&format!(r#"{{"op":"{op}""#))).unwrap();
        decode_push(Format::Json, json.as_bytes()).unwrap()
    };
    let framed = |op: &str| Arc::new(Framed::new(push(op)));
    let Push::Entry(entry) = push("entry") else { panic!("not an entry") };
    let (room, user) = (RoomId(5), UserId(3));
    let body = Bytes::from_static(b"\x01body");
    vec![
        ("entries", Envelope::Entries { room, entries: Arc::new([Arc::new(Framed::new(Arc::new(entry)))]) }),
        ("head", Envelope::Head { room, head: 7 }),
        ("ephemeral", Envelope::Ephemeral { room, except: Some(user), push: framed("typing") }),
        ("ephemeral", Envelope::Ephemeral { room, except: None, push: framed("typing") }),
        ("user", Envelope::User { user, event: UserEvent::Joined { room, seq: 7 } }),
        ("user", Envelope::User { user, event: UserEvent::Left { room, seq: 8 } }),
        ("user", Envelope::User { user, event: UserEvent::Contact { other: UserId(4) } }),
        ("presence", Envelope::Presence { watchers: Arc::new([user, UserId(4)]), push: framed("presence") }),
        ("presence_lost", Envelope::PresenceLost { user }),
        ("revoked", Envelope::Revoked { user, device: Some(DeviceId(9)) }),
        ("revoked", Envelope::Revoked { user, device: None }),
        ("ask", Envelope::Ask { id: 300, wait_ms: 2_000, body: body.clone() }),
        ("answer", Envelope::Answer { id: 300, body: body.clone() }),
        ("tell", Envelope::Tell { body }),
    ]
}

/// Nodes of two versions speak with each other while a cluster is upgraded.
#[test]
fn every_envelope_between_nodes_is_written_and_read_as_it_always_was() {
    let named: Vec<(&str, Bytes)> = envelopes().iter().map(|(name, envelope)| (*name, wire::pack(envelope).remove(0))).collect();
    let all: Vec<Bytes> = named.iter().map(|(_, bytes)| bytes.clone()).collect();
    let head = wire::Head { from: NodeId(1), life: 0x0123_4567_89ab_cdef, first: 70_000 };
    let batch = ("batch", Bytes::from(wire::batch(head, &all[1..3])));
    let lines: Vec<String> = named.iter().chain([&batch]).map(|(name, bytes)| format!("{name} {}", hex::encode(bytes))).collect();
    let golden = read("tests/golden/bus.hex");
    let golden: Vec<&str> = golden.lines().filter(|l| !l.starts_with('#')).collect();
    assert_eq!(lines, golden, "tests/golden/bus.hex should read:\n{}", lines.join("\n"));
    let bytes = |line: &str| Bytes::from(hex::decode(line.split(' ').nth(1).unwrap()).unwrap());
    let (last, golden) = golden.split_last().unwrap();
    for line in golden {
        let envelope = wire::unpack(&bytes(line)).unwrap().unwrap_or_else(|| panic!("passed over: {line}"));
        assert_eq!(wire::pack(&envelope), [bytes(line)], "{line}");
    }
    assert_eq!(wire::open(&bytes(last)), Ok((head, all[1..3].to_vec())));
}

#[test]
fn every_example_of_the_protocol_page_is_golden() {
    let golden: HashSet<String> = frames("requests").into_iter().chain(frames("pushes")).map(|(json, _)| json).collect();
    let page = read("docs/PROTOCOL.md");
    let examples: Vec<&str> = page.lines().filter_map(|l| l.find(r#"{"op":"#).map(|at| l[at..].trim_end_matches(['`', ' ']))).collect();
    for example in &examples {
        assert!(golden.contains(*example), "docs/PROTOCOL.md has an example that is not in tests/golden:\n{example}");
    }
    assert!(examples.len() > 20, "only {} examples found", examples.len());
}

#[test]
fn the_protocol_page_names_every_op_error_and_close_code() {
    let page = read("docs/PROTOCOL.md");
    let row = |start: String| assert!(page.lines().any(|l| l.starts_with(&start)), "docs/PROTOCOL.md has no row {start:?}");
    for op in Request::OPS.iter().chain(Push::OPS) {
        row(format!("| `{op}` |"));
    }
    for code in Code::ALL {
        row(format!("| `{}` | {} | {} |", code.as_str(), code.status(), format!("{:?}", code.retry()).to_lowercase()));
    }
    for close in close::ALL {
        let then = match next(close.code) {
            Next::Now => "now",
            Next::Later => "later",
            Next::Never => "never",
        };
        row(format!("| {} | {} | {then} |", close.code, close.reason));
    }
}
