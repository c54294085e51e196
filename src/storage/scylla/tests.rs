//! The shared suite on a real database, and what only this store promises. The database is that which `HUBBUB_TEST_CQL` names, or one that
//! is started through `scripts/cql-server` and ends with this process.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::protocol::ids::{RoomId, Shard, UserId};
use crate::storage::conformance::Backend;
use crate::storage::conformance::support::{batch, member, room_row, user};
use crate::storage::records::encode;
use crate::storage::{Append, Effect, MessageLog, Ownership, Rooms, Stamp, UserRow, Users};
use async_trait::async_trait;
use names::{Account, Claimed};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;

mod suite {
    use super::*;
    crate::storage_conformance!(Temporary::new());
}

/// The database's nodes.
fn database() -> &'static [String] {
    static NODES: OnceLock<Vec<String>> = OnceLock::new();
    let started = || {
        // The server takes it away when it ends.
        let dir = tempfile::TempDir::with_prefix("hubbub-cql-").unwrap().keep();
        let held = [0, 0].map(|_| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
        let [port, inner] = held.map(|listener| listener.local_addr().unwrap().port().to_string());
        let mut start = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cql-server/cql-server"));
        start.arg("start").arg(dir).args(["--quick", "--fleeting", "--temporary", "--port", &port, "--inner-port", &inner]);
        let output = start.args(["--with", &std::process::id().to_string()]).stderr(std::process::Stdio::inherit()).output();
        let said = String::from_utf8(output.expect("python3 runs scripts/cql-server").stdout).unwrap();
        said.lines().find_map(|line| line.strip_prefix("ready ")).expect("the database is ready").replace(' ', ",")
    };
    NODES.get_or_init(|| std::env::var("HUBBUB_TEST_CQL").unwrap_or_else(|_| started()).split(',').map(str::to_owned).collect())
}

/// Keyspaces of its own. They stay: to make them costs little, to remove them much, and the database goes.
struct Temporary {
    options: ScyllaOptions,
}

impl Temporary {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let nodes = database().to_vec();
        let keyspace = format!("test_{}_{}", std::process::id(), MADE.fetch_add(1, Relaxed));
        let defaults = ScyllaOptions::of(&config::Storage::default(), &config::Scylla::default());
        // A machine that builds beside the tests is slow now and then.
        let request_timeout = Duration::from_secs(10);
        Temporary { options: ScyllaOptions { replication: nodes.len() as u32, nodes, keyspace, shards: 16, request_timeout, ..defaults } }
    }

    async fn store(&self) -> Arc<ScyllaStore> {
        ScyllaStore::open(self.options.clone()).await.unwrap_or_else(|e| panic!("the store opens: {e}"))
    }
}

#[async_trait]
impl Backend for Temporary {
    async fn open(&self) -> Arc<dyn Store> {
        self.store().await
    }
}

const ROOM: RoomId = RoomId(42);
const SHARD: Shard = Shard(1);

#[tokio::test]
async fn nodes_that_start_together_make_one_schema() {
    let t = Temporary::new();
    let opened = futures_util::future::join_all((0..4).map(|_| ScyllaStore::open(t.options.clone()))).await;
    let stores: Vec<_> = opened.into_iter().map(|store| store.unwrap()).collect();
    for (n, store) in stores.iter().enumerate() {
        store.append(batch(RoomId(n as u64), 1, 3, 0)).await.unwrap();
    }
    for n in 0..stores.len() {
        assert_eq!(stores[(n + 1) % stores.len()].rows(RoomId(n as u64), 1, 10).await.unwrap().len(), 3, "each sees the others' rows");
    }
    let other = ScyllaStore::open(ScyllaOptions { shards: 17, ..t.options.clone() }).await;
    assert!(matches!(other, Err(OpenError::Shards { stored: 16, asked: 17, .. })), "{:?}", other.err());
}

#[tokio::test]
async fn a_late_write_of_derived_rows_changes_nothing() {
    let t = Temporary::new();
    let s = t.store().await;
    let at = |seq| Stamp::new(seq, 0);
    s.apply(ROOM, SHARD, at(9), vec![Effect::Member(ROOM, member(1, 9)), Effect::Room(room_row(ROOM, 9))], false).await.unwrap();
    s.apply(ROOM, SHARD, at(12), vec![Effect::NoMember(ROOM, UserId(1))], false).await.unwrap();
    // A former owner, who knows the log up to 10.
    s.apply(ROOM, SHARD, at(10), vec![Effect::Member(ROOM, member(1, 9)), Effect::Room(room_row(ROOM, 8))], false).await.unwrap();
    assert!(s.members(ROOM, UserId(0), 10).await.unwrap().is_empty() && s.rooms_of(UserId(1), 10).await.unwrap().is_empty());
    // Within one write the last word counts, whichever way round.
    let back = vec![Effect::NoMember(ROOM, UserId(1)), Effect::Member(ROOM, member(1, 15))];
    s.apply(ROOM, SHARD, at(15), back, false).await.unwrap();
    assert_eq!(s.members(ROOM, UserId(0), 10).await.unwrap(), [member(1, 15)]);
    // Subscriptions at one head are told apart by their turn.
    s.apply_durably(ROOM, SHARD, Stamp::new(15, 1), vec![Effect::NoMember(ROOM, UserId(1))]).await.unwrap();
    s.apply_durably(ROOM, SHARD, Stamp::new(15, 2), vec![Effect::Member(ROOM, member(1, 15))]).await.unwrap();
    assert_eq!(s.rooms_of(UserId(1), 10).await.unwrap(), [ROOM]);
}

#[tokio::test]
async fn a_mark_goes_only_with_what_it_stands_for() {
    let t = Temporary::new();
    let s = t.store().await;
    let append = |from, to| Append { mark_unapplied: true, shard: SHARD, ..batch(ROOM, from, to, from - 1) };
    s.append(append(1, 10)).await.unwrap();
    s.apply(ROOM, SHARD, Stamp::new(9, 5), Vec::new(), true).await.unwrap();
    assert_eq!(s.unapplied(Some(SHARD)).await.unwrap(), [ROOM], "applied up to 9 says nothing of 10");
    s.apply(ROOM, SHARD, Stamp::new(10, 0), Vec::new(), true).await.unwrap();
    assert!(s.unapplied(None).await.unwrap().is_empty());
    s.append(append(11, 12)).await.unwrap();
    s.apply(ROOM, SHARD, Stamp::new(10, 7), Vec::new(), true).await.unwrap();
    assert_eq!(s.unapplied(None).await.unwrap(), [ROOM], "a former owner's word comes late");
}

#[tokio::test]
async fn an_account_is_whole_although_its_maker_died() {
    let t = Temporary::new();
    let s = t.store().await;
    // As a node leaves it that dies behind the claim of the name.
    let row = user(7, "grace");
    let listed = rows::RowWrite { id: 7u64.to_be_bytes().to_vec(), stamp: 1, value: Some(Vec::new()) };
    let core = s.core.clone();
    let claim = encode(&Claimed::new(row.user, Some(&row)));
    s.runtime
        .spawn(async move {
            core.put_rows(&core.statements.derived, "user_id", &rows::slice_of(7), vec![listed]).await?;
            core.set_cell("name", b"grace", b"", None, Some(&claim)).await
        })
        .await
        .unwrap()
        .unwrap();
    assert!(!s.create_user(user(8, "grace")).await.unwrap(), "the name is taken");
    assert_eq!(s.user_by_name("grace").await.unwrap(), Some(user(7, "grace")));
    assert_eq!(s.list_users(UserId(0), 10).await.unwrap(), [user(7, "grace")]);
}

/// Puts a cell as a node leaves it that dies after that.
async fn put_cell(s: &ScyllaStore, kind: &'static str, part: &[u8], was: Option<&[u8]>, now: &[u8]) -> bool {
    let (core, part, was, now) = (s.core.clone(), part.to_vec(), was.map(<[u8]>::to_vec), now.to_vec());
    s.runtime.spawn(async move { core.set_cell(kind, &part, b"", was.as_deref(), Some(&now)).await }).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_name_that_a_broken_off_change_left_behind_is_for_whoever_wants_it_next() {
    let t = Temporary::new();
    let s = t.store().await;
    assert!(s.create_user(user(1, "alice")).await.unwrap());
    // The new name was claimed, and no more.
    assert!(put_cell(&s, "name", b"bob", None, &encode(&Claimed::new(UserId(1), None))).await);
    assert_eq!(s.user_by_name("bob").await.unwrap(), None);
    assert!(s.create_user(user(2, "bob")).await.unwrap(), "nobody bears it");
    // The account's row was written, and the old name not freed.
    let (was, now) = (Account::first(&user(2, "bob")), Account::first(&user(2, "carol")));
    assert!(put_cell(&s, "name", b"carol", None, &encode(&Claimed::new(UserId(2), None))).await);
    assert!(put_cell(&s, "user", &2u64.to_be_bytes(), Some(&was), &now).await);
    assert_eq!(s.user_by_name("carol").await.unwrap(), Some(user(2, "carol")));
    assert!(s.replace_user(&user(1, "alice"), user(1, "bob")).await.unwrap(), "nobody bears it any more");
    assert_eq!(s.user_by_name("bob").await.unwrap(), Some(user(1, "bob")));
    assert_eq!(s.user_by_name("alice").await.unwrap(), None);
    // Who left a name behind may have it itself.
    assert!(put_cell(&s, "name", b"dave", None, &encode(&Claimed::new(UserId(1), None))).await);
    assert!(s.replace_user(&user(1, "bob"), user(1, "dave")).await.unwrap());
    assert!(!s.create_user(user(9, "dave")).await.unwrap() && !s.create_user(user(9, "carol")).await.unwrap());
    assert!(s.create_user(user(9, "bob")).await.unwrap());
}

#[tokio::test]
async fn a_change_of_names_that_slept_while_its_name_was_taken_has_failed() {
    let t = Temporary::new();
    let s = t.store().await;
    assert!(s.create_user(user(1, "alice")).await.unwrap());
    let (was, now) = (Account::first(&user(1, "alice")), Account::first(&user(1, "bob")));
    assert!(put_cell(&s, "name", b"bob", None, &encode(&Claimed::new(UserId(1), None))).await);
    // Here it sleeps, and is taken for dead.
    assert!(s.create_user(user(2, "bob")).await.unwrap());
    assert!(!put_cell(&s, "user", &1u64.to_be_bytes(), Some(&was), &now).await, "two accounts would bear one name");
    assert_eq!(s.user(UserId(1)).await.unwrap(), Some(user(1, "alice")), "what its row says has not changed");
    assert!(s.replace_user(&user(1, "alice"), UserRow { created: 9, ..user(1, "alice") }).await.unwrap());
}

#[tokio::test]
async fn ids_are_listed_in_order_over_all_slices() {
    let t = Temporary::new();
    let s = t.store().await;
    let write = |n: u64| s.apply(RoomId(n), SHARD, Stamp::new(1, 0), vec![Effect::Room(room_row(RoomId(n), 1))], false);
    futures_util::future::try_join_all((1..=900).map(|n| write(n * 7))).await.unwrap();
    let (mut after, mut seen) = (RoomId(0), Vec::new());
    loop {
        let page = s.list_rooms(after, 250).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.room;
        seen.extend(page.iter().map(|row| row.room.0));
    }
    assert_eq!(seen, (1..=900).map(|n| n * 7).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_purged_does_not_come_back_with_a_late_write() {
    let t = Temporary::new();
    let s = t.store().await;
    let (gone, kept) = (batch(ROOM, 1, 10, 0), batch(ROOM, 11, 20, 10));
    s.append(gone.clone()).await.unwrap();
    s.append(kept).await.unwrap();
    s.mark(ROOM, 20).await.unwrap();
    assert_eq!(s.purge(ROOM, 11, 100).await.unwrap().floor, 11);
    s.append(gone).await.unwrap();
    assert_eq!(s.rows(ROOM, 1, 20).await.unwrap().first().unwrap().seq, 11);
    assert_eq!(s.shards(), 16);
}

/// A pack goes when all of it may go; what else was written with its first row's seq, under other epochs, goes or stays with it.
#[tokio::test]
async fn a_purge_takes_whole_packs_and_nothing_that_is_to_be_kept() {
    let t = Temporary::new();
    let s = t.store().await;
    s.append(batch(ROOM, 1, 40, 0)).await.unwrap();
    s.append(batch(ROOM, 41, 60, 40)).await.unwrap();
    s.mark(ROOM, 60).await.unwrap();
    assert_eq!(s.rows(ROOM, 20, 45).await.unwrap().iter().map(|row| row.seq).collect::<Vec<_>>(), (20..=45).collect::<Vec<_>>());
    // 1 to 32 lie together, and 33 to 40.
    let purged = s.purge(ROOM, 20, 1_000).await.unwrap();
    assert_eq!((purged.floor, purged.rows), (1, 0));
    let purged = s.purge(ROOM, 39, 1_000).await.unwrap();
    assert_eq!((purged.floor, purged.rows, purged.more), (33, 32, false));
    assert_eq!(s.rows(ROOM, 1, 60).await.unwrap().iter().map(|row| row.seq).collect::<Vec<_>>(), (33..=60).collect::<Vec<_>>());
    let purged = s.purge(ROOM, 60, 1_000).await.unwrap();
    assert_eq!((purged.floor, purged.rows), (41, 8), "the pack of the base stays");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let defaults = ScyllaOptions::of(&config::Storage::default(), &config::Scylla::default());
    let nobody = ScyllaOptions { nodes: vec!["127.0.0.1:1".into()], connect_timeout: Duration::from_millis(500), ..defaults };
    let error = ScyllaStore::open(nobody).await.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.starts_with("the database (127.0.0.1:1): "), "{error}");
}
