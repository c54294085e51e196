//! Faults of the disk: nothing is acknowledged that is not durable, reads go on, writing resumes by itself.

use super::*;
use crate::protocol::ids::{RoomId, Seq, Shard, UserId};
use crate::storage::conformance::support::{batch, seqs, user};
use crate::storage::{CursorRow, Cursors, Effect, EpochCell, MessageLog, Ownership, Rooms, Users};
use futures_util::future::join_all;
use std::time::Duration;

const ROOM: RoomId = RoomId(1);

fn with_faults(dir: &Path) -> (Arc<EmbeddedStore>, Arc<FaultPoint>) {
    let faults = Arc::new(FaultPoint::default());
    let store = EmbeddedStore::open(dir, EmbeddedOptions { faults: Some(faults.clone()), ..options() }).unwrap();
    (store, faults)
}

async fn until_it_writes(store: &EmbeddedStore) {
    let healthy = async {
        while store.health().refuses_writes.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), healthy).await.expect("the store opens itself again");
}

async fn there(store: &EmbeddedStore) -> Vec<Seq> {
    seqs(&store.rows(ROOM, 1, 4096).await.unwrap())
}

#[tokio::test]
async fn a_failed_flush_is_in_doubt_and_the_disk_decides() {
    for landed in [false, true] {
        let t = Temporary::new();
        let (store, faults) = with_faults(t.dir.path());
        store.append(batch(ROOM, 1, 3, 0)).await.unwrap();
        faults.failed_opens.store(2, Relaxed);
        if landed { &faults.landed_syncs } else { &faults.lost_syncs }.store(1, Relaxed);
        let done = store.append(batch(ROOM, 4, 4, 3)).await;
        assert!(matches!(done, Err(StorageError::InDoubt(_))), "{done:?}");
        let refused = store.append(batch(ROOM, 4, 4, 3)).await;
        assert!(matches!(refused, Err(StorageError::ReadOnly(_))), "{refused:?}");
        assert!(store.health().refuses_writes.is_some());
        assert_eq!(there(&store).await[..3], [1, 2, 3], "reads go on");
        until_it_writes(&store).await;
        assert_eq!(there(&store).await, if landed { vec![1, 2, 3, 4] } else { vec![1, 2, 3] });
        // The same rows again, as rule 7 has it.
        store.append(batch(ROOM, 4, 4, 3)).await.unwrap();
        store.close();
        assert_eq!(there(&open(t.dir.path())).await, [1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn epochs_in_doubt_are_read_again() {
    let t = Temporary::new();
    let (store, faults) = with_faults(t.dir.path());
    let cell = |epoch| EpochCell { epoch, token: u128::from(epoch) * 7 };
    assert!(store.raise_epoch(Shard(1), EpochCell::default(), cell(1)).await.unwrap());
    faults.landed_syncs.store(1, Relaxed);
    let done = store.raise_epoch(Shard(1), cell(1), cell(2)).await;
    assert!(matches!(done, Err(StorageError::InDoubt(_))), "{done:?}");
    until_it_writes(&store).await;
    assert_eq!(store.epoch(Shard(1)).await.unwrap(), cell(2), "it had landed");
    assert!(!store.raise_epoch(Shard(1), cell(1), cell(3)).await.unwrap());
    assert!(store.raise_epoch(Shard(1), cell(2), cell(3)).await.unwrap());
}

/// Under load with faults every now and then: what was acknowledged is there in the end, what was refused is not.
#[tokio::test]
async fn nothing_acknowledged_is_lost_by_faults() {
    let t = Temporary::new();
    let (store, faults) = with_faults(t.dir.path());
    let faulty = async {
        for i in 0..6 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            if i % 2 == 0 { &faults.lost_syncs } else { &faults.landed_syncs }.store(1, Relaxed);
        }
    };
    let rooms = join_all((1..=16).map(|room| {
        let store = store.clone();
        async move {
            let (mut acked, mut in_doubt) = (0, 0);
            for seq in 1..=40 {
                loop {
                    match store.append(batch(RoomId(room), seq, seq, acked)).await {
                        Ok(()) => break,
                        Err(StorageError::InDoubt(_)) => in_doubt += 1,
                        Err(StorageError::ReadOnly(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                        Err(e) => panic!("{e}"),
                    }
                }
                acked = seq;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            in_doubt
        }
    }));
    let (in_doubt, ()) = tokio::join!(rooms, faulty);
    assert!(in_doubt.iter().sum::<i32>() > 0, "no fault was hit");
    store.close();
    let store = open(t.dir.path());
    for room in 1..=16 {
        assert_eq!(seqs(&store.rows(RoomId(room), 1, 4096).await.unwrap()), (1..=40).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn above_the_quota_appends_are_refused_and_reads_go_on() {
    let t = Temporary::new();
    let store = EmbeddedStore::open(t.dir.path(), EmbeddedOptions { disk_quota_bytes: 400_000, ..options() }).unwrap();
    let mut seq = 0;
    let refused = loop {
        seq += 1;
        let mut append = batch(ROOM, seq, seq, seq - 1);
        append.rows[0].payload = vec![7; 50_000].into();
        match store.append(append).await {
            Ok(()) => tokio::time::sleep(Duration::from_millis(150)).await,
            Err(e) => break e,
        }
        assert!(seq < 100, "never refused");
    };
    assert!(matches!(refused, StorageError::Quota { used, quota: 400_000 } if used >= 400_000), "{refused}");
    assert_eq!(there(&store).await.len() as u64, seq - 1);
    assert!(store.health().refuses_writes.is_some());
    // What ends a message's way is not refused: it makes room for nothing, but nothing is left half done.
    store.mark(ROOM, seq - 1).await.unwrap();
    store.apply(ROOM, Shard(0), crate::storage::Stamp::default(), Vec::new(), true).await.unwrap();
}

#[tokio::test]
async fn below_the_free_space_that_must_be_appends_are_refused() {
    let t = Temporary::new();
    let store = EmbeddedStore::open(t.dir.path(), EmbeddedOptions { disk_free_bytes_min: u64::MAX - 1, ..options() }).unwrap();
    assert!(matches!(store.append(batch(ROOM, 1, 1, 0)).await, Err(StorageError::ReadOnly(_))));
    assert!(there(&store).await.is_empty());
}

#[tokio::test]
async fn more_than_may_wait_is_refused() {
    let t = Temporary::new();
    let store = EmbeddedStore::open(t.dir.path(), EmbeddedOptions { appends_waiting_max: 4, ..options() }).unwrap();
    let done = join_all((1..=64).map(|room| store.append(batch(RoomId(room), 1, 1, 0)))).await;
    let mut busy = 0;
    for (room, done) in (1..).zip(done) {
        let rows = store.rows(RoomId(room), 1, 1).await.unwrap().len();
        match done {
            Ok(()) => assert_eq!(rows, 1),
            Err(StorageError::Busy(_)) => {
                busy += 1;
                assert_eq!(rows, 0);
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert!((1..=60).contains(&busy), "{busy} refused");
    assert_eq!(store.health().appends_waiting, 0);
    store.append(batch(RoomId(99), 1, 1, 0)).await.unwrap();
}

/// A small file system that really is full. Only where this process may mount one.
#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let t = Temporary::new();
    let Some(mounted) = Mounted::new(t.dir.path(), 24) else {
        eprintln!("not tested: this process may not mount a file system");
        return;
    };
    let store = open(&mounted.0.join("store"));
    let ballast = mounted.0.join("ballast");
    std::fs::write(&ballast, vec![1; 12 << 20]).unwrap();
    let mut acked = 0;
    let fault = loop {
        let mut append = batch(ROOM, acked + 1, acked + 1, acked);
        append.rows[0].payload = vec![7; 60_000].into();
        match store.append(append).await {
            Ok(()) => acked += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(fault, StorageError::InDoubt(_)), "{fault}");
    assert!(acked > 10);
    for _ in 0..20 {
        let done = store.append(batch(RoomId(2), 1, 1, 0)).await;
        assert!(matches!(done, Err(StorageError::ReadOnly(_))), "{done:?}");
        assert!(there(&store).await.len() as u64 >= acked, "reads go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::fs::remove_file(&ballast).unwrap();
    until_it_writes(&store).await;
    let rows = there(&store).await;
    assert_eq!(rows, (1..=rows.len() as u64).collect::<Vec<_>>());
    assert!((acked..=acked + 1).contains(&(rows.len() as u64)));
    store.append(batch(RoomId(2), 1, 1, 0)).await.unwrap();
    store.close();
    assert_eq!(there(&open(&mounted.0.join("store"))).await, rows);
}

/// A power cut: what the device has not got is gone. Only where this process may mount a file system. The store lies on an
/// image in a file; a copy of that file holds what was flushed, and nothing of what only the kernel knows.
#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_promised() {
    let t = Temporary::new();
    let image = t.dir.path().join("image");
    let Some(mounted) = Mounted::image(&image, "before") else {
        eprintln!("not tested: this process may not mount a file system");
        return;
    };
    let store = open(&mounted.0.join("store"));
    let cursor = CursorRow { read: 5, read_n: 4, delivered: 7 };
    store.raise(UserId(1), ROOM, cursor).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    store.apply(ROOM, Shard(0), crate::storage::Stamp::default(), vec![Effect::Mention(UserId(1), ROOM, 3)], false).await.unwrap();
    for seq in 1..=50 {
        let append = |room| store.append(batch(RoomId(room), seq, seq, seq - 1));
        assert!(join_all((1..=8).map(append)).await.iter().all(|done| done.is_ok()));
    }
    assert!(store.create_user(user(1, "alice")).await.unwrap());
    assert!(store.raise_epoch(Shard(1), EpochCell::default(), EpochCell { epoch: 1, token: 2 }).await.unwrap());
    let copy = t.dir.path().join("copy");
    std::fs::copy(&image, &copy).unwrap();

    let after = Mounted::image(&copy, "after").unwrap();
    let found = EmbeddedStore::open(&after.0.join("store"), options()).expect("the store after a power cut");
    for room in 1..=8 {
        assert_eq!(seqs(&found.rows(RoomId(room), 1, 4096).await.unwrap()), (1..=50).collect::<Vec<_>>(), "acknowledged, room {room}");
    }
    assert_eq!(found.user_by_name("alice").await.unwrap(), Some(user(1, "alice")));
    assert_eq!(found.epoch(Shard(1)).await.unwrap().epoch, 1);
    assert_eq!(found.cursors(UserId(1), &[ROOM]).await.unwrap(), [cursor], "a cursor, after a second");
    assert_eq!(found.mentions(UserId(1), ROOM, 0, 9).await.unwrap(), 1, "an effect, with the next append");
    found.close();
    store.close();
}

/// A file system that goes away with it.
struct Mounted(PathBuf);
impl Mounted {
    /// In memory, of this size.
    fn new(dir: &Path, mib: u32) -> Option<Mounted> {
        let size = format!("size={mib}m");
        Mounted::mount(dir.join("disk"), &["-t", "tmpfs", "-o", &size, "tmpfs"])
    }
    /// In a file, which is made if it is not there.
    fn image(file: &Path, name: &str) -> Option<Mounted> {
        if !file.exists() {
            std::fs::File::create(file).unwrap().set_len(160 << 20).unwrap();
            let made = std::process::Command::new("mkfs.ext4").args(["-q", "-F"]).arg(file).output();
            if !made.is_ok_and(|d| d.status.success()) {
                return None;
            }
        }
        Mounted::mount(file.with_file_name(name), &["-o", "loop", file.to_str().unwrap()])
    }
    fn mount(at: PathBuf, args: &[&str]) -> Option<Mounted> {
        std::fs::create_dir(&at).unwrap();
        let done = std::process::Command::new("mount").args(args).arg(&at).output();
        done.is_ok_and(|d| d.status.success()).then_some(Mounted(at))
    }
}
impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a test that failed still has the store open.
        _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
