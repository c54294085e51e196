//! What encoding costs: reading a `send` and writing an entry's push, in both formats. Once per message, and once per
//! message, format and node: nothing here is per recipient.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hubbub::protocol::codec::{Format, decode_push, decode_request, encode_entry, encode_request};
use hubbub::protocol::entry::{Body, Entry, Message};
use hubbub::protocol::ids::{ClientId, MessageId, RoomId, UserId};
use hubbub::protocol::ops::{Request, Send};
use hubbub::protocol::ws;
use std::hint::black_box;

/// Bytes of text: a short message, and one as long as people write at times.
const TEXT_BYTES: [usize; 2] = [128, 2048];
const FORMATS: [(&str, Format); 2] = [("json", Format::Json), ("msgpack", Format::Msgpack)];

fn cid() -> ClientId {
    ClientId("0190163d-8694-739b-aea5-966c26f8ad91".parse().expect("a UUID as it is written"))
}

fn send(text_bytes: usize) -> Request {
    Request::Send(Send {
        room: RoomId(7_311_046_122_119_168),
        cid: cid(),
        since: 4711,
        text: "x".repeat(text_bytes),
        reply_to: None,
        thread: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
        data: None,
    })
}

fn entry(text_bytes: usize) -> Entry {
    Entry {
        room: RoomId(7_311_046_122_119_168),
        seq: 4712,
        n: 4000,
        id: MessageId(7_311_046_122_119_199),
        at: 1_790_000_000_000,
        by: UserId(7_311_046_122_000_001),
        cid: Some(cid()),
        body: Body::Message(Message { text: "x".repeat(text_bytes), ..Message::default() }),
    }
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode_request/send");
    for bytes in TEXT_BYTES {
        for (name, format) in FORMATS {
            let frame = encode_request(format, 17, &send(bytes));
            assert!(decode_request(format, &frame).is_ok());
            group.throughput(Throughput::Bytes(frame.len() as u64));
            group.bench_function(format!("{name}/{bytes}"), |b| b.iter(|| decode_request(format, black_box(&frame))));
        }
    }
    group.finish();
}

fn pushes(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode_entry");
    for bytes in TEXT_BYTES {
        let entry = entry(bytes);
        for (name, format) in FORMATS {
            group.throughput(Throughput::Bytes(encode_entry(format, &entry).len() as u64));
            group.bench_function(format!("{name}/{bytes}"), |b| b.iter(|| encode_entry(format, black_box(&entry))));
        }
    }
    group.finish();

    // What a client does with it.
    let mut group = c.benchmark_group("decode_push/entry");
    for (name, format) in FORMATS {
        let frame = encode_entry(format, &entry(128));
        assert!(decode_push(format, &frame).is_ok());
        group.bench_function(format!("{name}/128"), |b| b.iter(|| decode_push(format, black_box(&frame))));
    }
    group.finish();

    let mut group = c.benchmark_group("ws_frame");
    let payload = encode_entry(Format::Msgpack, &entry(128));
    group.bench_function("128", |b| {
        b.iter_batched(|| payload.as_slice(), |p| ws::frame(ws::Op::Binary, black_box(p)), BatchSize::SmallInput)
    });
    group.finish();
}

criterion_group!(benches, requests, pushes);
criterion_main!(benches);
