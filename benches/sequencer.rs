//! Message ids: what one costs by itself, and how many a room gets through the sequencer's actor. A slot gives 4,096 ids a
//! millisecond at most, which is the ceiling of the first.

use actix::prelude::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hubbub::actors::node::now_ms;
use hubbub::actors::sequencer::{BLOCK_MAX, IdSource, Sequencer, Slot};
use hubbub::storage::embedded::{EmbeddedOptions, EmbeddedStore};
use std::hint::black_box;
use std::time::Instant;

/// Ids of one request: what a quiet room asks for, and the most there is.
const COUNTS: [usize; 2] = [8, BLOCK_MAX];

fn ids_of_a_slot(c: &mut Criterion) {
    let mut slot = Slot::new(7, 1, now_ms() + 3_600_000, 0);
    let mut group = c.benchmark_group("slot");
    for count in COUNTS {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                // Refused for a moment when the clock has not moved on.
                while black_box(slot.block(count)).is_err() {}
            });
        });
    }
    group.finish();
}

fn ids_through_the_actor(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory for temporary files");
    let store = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).expect("a fresh store opens");
    let system = System::new();
    let ids = IdSource::default();
    let arbiter = Arbiter::new();
    Sequencer::launch(&arbiter.handle(), store, &ids);
    let mut group = c.benchmark_group("actor");
    for count in COUNTS {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(count.to_string(), |b| {
            b.iter_custom(|rounds| {
                system.block_on(async {
                    let began = Instant::now();
                    for _ in 0..rounds {
                        black_box(ids.take(count).await.expect("the sequencer has a slot"));
                    }
                    began.elapsed()
                })
            });
        });
    }
    group.finish();
    arbiter.stop();
}

criterion_group!(benches, ids_of_a_slot, ids_through_the_actor);
criterion_main!(benches);
