//! Durable appends a second with 1, 64 and 512 writers, each in a room of its own, waiting for one append before the next:
//! what group commit makes of the device. `fsync` is the floor, one write and one flush of the same size without any store.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hubbub::protocol::entry::{Body, Entry, Message};
use hubbub::protocol::ids::{Epoch, MessageId, RoomId, Seq, Shard, UserId, bucket_of};
use hubbub::storage::embedded::{EmbeddedOptions, EmbeddedStore};
use hubbub::storage::{Append, LogRow, MessageLog, Store, record};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WRITERS: [usize; 3] = [1, 64, 512];
const TEXT_BYTES: usize = 128;
const SHARDS: u32 = 4096;

fn payload(room: RoomId, seq: Seq) -> Bytes {
    let body = Body::Message(Message { text: "x".repeat(TEXT_BYTES), ..Message::default() });
    record::encode_entry(&Entry { room, seq, n: seq, id: MessageId(seq), at: 1_790_000_000_000, by: UserId(7), cid: None, body })
}

fn append(room: RoomId, seq: Seq) -> Append {
    let row = LogRow { seq, epoch: Epoch::new(1, 1), committed: seq - 1, payload: payload(room, seq) };
    let new_bucket = seq > 1 && bucket_of(seq) != bucket_of(seq - 1);
    Append { room, shard: Shard::of_room(room, SHARDS), rows: vec![row], mark_unapplied: false, new_bucket }
}

/// `appends` appends, spread over the writers; how long they took. `done` is how many each room has already.
async fn write(store: &Arc<EmbeddedStore>, writers: usize, done: &mut [Seq], appends: u64) -> Duration {
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|w| {
            let share = appends / writers as u64 + u64::from((w as u64) < appends % writers as u64);
            let (store, from) = (store.clone(), done[w]);
            done[w] += share;
            tokio::spawn(async move {
                for seq in from + 1..=from + share {
                    store.append(append(RoomId(w as u64 + 1), seq)).await.expect("the store takes the append");
                }
            })
        })
        .collect();
    for t in tasks {
        t.await.expect("the writer ends well");
    }
    started.elapsed()
}

fn appends(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    for writers in WRITERS {
        let dir = tempfile::tempdir().expect("a directory");
        let options = EmbeddedOptions { disk_free_bytes_min: 0, ..EmbeddedOptions::default() };
        let store = EmbeddedStore::open(dir.path(), options).expect("an empty store opens");
        let mut done = vec![0; writers];
        group.bench_function(format!("{writers}_writers"), |b| {
            b.iter_custom(|n| runtime.block_on(write(&store, writers, &mut done, n)));
        });
        store.close();
    }
    group.finish();
}

fn floor(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut file = std::fs::File::create(dir.path().join("log")).expect("a file");
    let row = payload(RoomId(1), 1);
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    group.bench_function("fsync", |b| {
        b.iter(|| {
            file.write_all(&row).expect("room on the disk");
            file.sync_data().expect("a flush");
        });
    });
    group.finish();
}

criterion_group!(benches, floor, appends);
criterion_main!(benches);
