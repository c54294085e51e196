//! The power is cut under the embedded store: what its log had acknowledged is there afterwards, without a hole.
//!
//! A process of its own writes under the power-cut library and says what was acknowledged; it is killed in the middle of
//! it, and the store is opened on the image of what had been synced.

use crate::powercut_tool::preload;
use bytes::Bytes;
use hubbub::protocol::ids::{Epoch, RoomId, Seq, Shard, bucket_of};
use hubbub::storage::embedded::{EmbeddedOptions, EmbeddedStore};
use hubbub::storage::{Append, LogRow, MessageLog, Store};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const ROOMS: u64 = 16;
const SHARDS: u32 = 16;
/// Acknowledgements after which the power is cut, another number in each round.
const ACKS: usize = 400;

fn rounds() -> usize {
    if std::env::var_os("HUBBUB_SOAK").is_some() { 50 } else { 4 }
}

fn open(dir: &Path) -> Arc<EmbeddedStore> {
    let options = EmbeddedOptions { shards: SHARDS, disk_free_bytes_min: 0, cache_bytes: 4 << 20, ..EmbeddedOptions::default() };
    EmbeddedStore::open(dir, options).unwrap_or_else(|e| panic!("the store opens: {e}"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn payload(room: u64, seq: Seq) -> Bytes {
    format!("{room} {seq} {}", "x".repeat((seq % 300) as usize)).into()
}

async fn fill(store: Arc<EmbeddedStore>, room: u64) {
    let mut seq = last(&store, room).await;
    loop {
        seq += 1;
        let row = LogRow { seq, epoch: Epoch::new(1, 1), committed: seq - 1, payload: payload(room, seq) };
        let new_bucket = seq > 1 && bucket_of(seq) != bucket_of(seq - 1);
        let (room_id, rows) = (RoomId(room), vec![row]);
        let shard = Shard::of_room(room_id, SHARDS);
        store.append(Append { room: room_id, shard, rows, mark_unapplied: true, new_bucket }).await.unwrap();
        // One write call per line: a line is there whole or not at all when the process is killed.
        std::io::stdout().write_all(format!("acked {room} {seq}\n").as_bytes()).unwrap();
    }
}

/// The last seq of a room, which has none missing below it.
async fn last(store: &EmbeddedStore, room: u64) -> Seq {
    let mut next = 1;
    loop {
        let rows = store.rows(RoomId(room), next, next + 4095).await.unwrap();
        for row in &rows {
            assert_eq!(row.seq, next, "room {room} has a hole");
            assert_eq!(row.payload, payload(room, next));
            next += 1;
        }
        if rows.len() < 4096 {
            return next - 1;
        }
    }
}

/// Runs in a process of its own until it is killed.
#[test]
#[ignore = "a helper process of the other test here"]
fn writer() {
    let dir = std::env::var_os("POWERCUT_DIR").expect("started by the other test");
    runtime().block_on(async {
        let store = open(Path::new(&dir));
        let tasks: Vec<_> = (1..=ROOMS).map(|room| tokio::spawn(fill(store.clone(), room))).collect();
        for t in tasks {
            t.await.unwrap();
        }
    });
}

/// Lets the writer run until it has had `acks` acknowledgements, kills it, and gives the last seq acknowledged per room.
fn write_and_cut(live: &Path, image: &Path, acks: usize) -> BTreeMap<u64, Seq> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "powercut_store::writer", "--ignored", "--nocapture"]).stdout(Stdio::piped());
    preload(&mut command, live, image, None);
    let mut child = command.spawn().unwrap();
    let (mut acked, mut seen) = (BTreeMap::new(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(("acked", rest)) = line.split_once(' ') else { continue };
        let (room, seq) = rest.split_once(' ').unwrap();
        acked.insert(room.parse().unwrap(), seq.parse().unwrap());
        seen += 1;
        if seen == acks {
            child.kill().unwrap(); // what it still had written to the pipe is read to its end
        }
    }
    child.wait().unwrap();
    assert!(seen >= acks, "the writer ended by itself after {seen} acknowledgements");
    acked
}

#[test]
fn what_the_log_acknowledged_survives_a_power_cut() {
    let temp = tempfile::tempdir().unwrap();
    let mut live = temp.path().join("disk0");
    std::fs::create_dir(&live).unwrap();
    for round in 1..=rounds() {
        let image = temp.path().join(format!("disk{round}"));
        let acked = write_and_cut(&live, &image, ACKS + 37 * round);
        runtime().block_on(async {
            let store = open(&image);
            for (room, seq) in &acked {
                let found = last(&store, *room).await;
                assert!(found >= *seq, "round {round}: room {room} had {seq} entries acknowledged, {found} are left");
            }
            store.close();
        });
        // The next round goes on with what the power cut left.
        live = image;
    }
}
