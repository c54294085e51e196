//! How fast appends are. Ignored: a measurement, not a test. `cargo test --release --lib speed -- --ignored --nocapture`.

use super::*;
use crate::protocol::ids::{RoomId, Shard};
use crate::storage::conformance::support::{EPOCH, row};
use crate::storage::{Append, MessageLog};
use futures_util::future::join_all;
use std::time::{Duration, Instant};

async fn measure(outstanding: u64) -> (f64, Duration, Duration, f64) {
    let t = Temporary::new();
    let store = open(t.dir.path());
    let until = Instant::now() + Duration::from_secs(3);
    let took = join_all((0..outstanding).map(|room| {
        let store = store.clone();
        async move {
            let mut took = Vec::new();
            for seq in 1.. {
                let mut row = row(RoomId(room), seq, EPOCH, seq - 1);
                row.payload = vec![b'x'; 200].into();
                let begun = Instant::now();
                let append =
                    Append { room: RoomId(room), shard: Shard(0), rows: vec![row], mark_unapplied: false, new_bucket: seq % 4096 == 1 };
                store.append(append).await.unwrap();
                took.push(begun.elapsed());
                if Instant::now() > until {
                    break;
                }
            }
            took
        }
    }))
    .await;
    let mut took: Vec<Duration> = took.into_iter().flatten().collect();
    took.sort();
    let per_flush = took.len() as f64 / store.health().syncs as f64;
    (took.len() as f64 / 3.0, took[took.len() / 2], took[took.len() * 99 / 100], per_flush)
}

/// The device alone: 300 bytes and a flush, one after the other.
fn flushes_per_second(dir: &Path) -> f64 {
    let mut file = std::fs::File::create(dir.join("flushed")).unwrap();
    file.set_len(64 << 20).unwrap();
    let (begun, mut n) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(1) {
        file.write_all(&[b'x'; 300]).unwrap();
        file.sync_data().unwrap();
        n += 1;
    }
    f64::from(n)
}

#[tokio::test]
#[ignore = "a measurement"]
async fn appends_per_second() {
    println!("the device alone: {:.0} flushes/s", flushes_per_second(Temporary::new().dir.path()));
    for outstanding in [1, 64, 512] {
        let (rate, p50, p99, per_flush) = measure(outstanding).await;
        println!("{outstanding:4} outstanding: {rate:8.0} rows/s, p50 {p50:?}, p99 {p99:?}, {per_flush:.1} rows per flush");
    }
}
