//! `hubbub migrate`: moves an embedded data directory into the cluster's store.
//!
//! Neither may be served from meanwhile: the directory's lock is held, and the store lets no node in until the end. A move that was broken
//! off is begun again and changes nothing that is there. At the end every room is read back from the store and held against what was read
//! from the directory; only then the epochs are raised and nodes may start.

use super::{ConfigArgs, Failure, print};
use crate::config::StorageKind;
use crate::protocol::ids::{RoomId, UserId};
use crate::storage::embedded::{EmbeddedOptions, EmbeddedStore, understand};
use crate::storage::moving::{Kept, Moved, Receiving};
use crate::storage::scylla::{ScyllaOptions, ScyllaStore};
use crate::storage::{Ownership, Result as Stored, Rooms, Stamp, Store, Users};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Rows of one read of the source.
const PAGE: usize = 1_000;
/// Rooms that are read back at once.
const AT_ONCE: usize = 8;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The data directory to move; no server may run on it.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the subcommand.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let config = args.config.config()?;
    if config.storage.kind != StorageKind::Scylla {
        return Err(Failure::Config("storage.kind must be \"scylla\": that is where the directory is moved to".into()));
    }
    if !args.from.join("STORE").exists() {
        return Err(Failure::Failed(format!("{}: there is no store", args.from.display())));
    }
    let failed = |e: &dyn std::fmt::Display| Failure::Failed(e.to_string());
    // An existing store says itself how many shards it has; the cluster's must have as many.
    let source = EmbeddedStore::open(&args.from, EmbeddedOptions::from(&config.storage)).map_err(|e| failed(&e))?;
    let options = ScyllaOptions { receiving: true, ..ScyllaOptions::of(&config.storage, &config.scylla) };
    let target = ScyllaStore::open_blocking(options).map_err(|e| failed(&e))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
    let moved = runtime.block_on(all(&source, &target))?;
    let rows: u64 = moved.rooms.values().map(|room| room.rows).sum();
    print(&format!(
        "moved {}: {rows} log rows of {} rooms, {} others; read back and the same",
        args.from.display(),
        moved.rooms.len(),
        moved.others
    ))
}

async fn all(source: &Arc<EmbeddedStore>, target: &ScyllaStore) -> Result<Moved, Failure> {
    target.begin(source.nonce()).await?;
    let stamps = stamps(source).await?;
    let mut copy = source.copy()?;
    let mut moved = Moved::default();
    loop {
        let rows = copy.next()?;
        if rows.is_empty() {
            break;
        }
        let rows = rows.iter().map(understand).collect::<Stored<Vec<Kept>>>()?;
        for row in &rows {
            moved.add(row, source.shards());
            if let Kept::Contact(a, b, _) = row {
                contact(source, target, *a, *b).await?;
            }
        }
        target.receive(rows, &stamps).await?;
        tracing::info!(others = moved.others, rooms = moved.rooms.len(), "moving");
    }
    if !crate::sabotage::is("half_a_move") {
        verify(source, target, &moved).await?;
    }
    target.finish(source.nonce(), &moved.epochs).await?;
    Ok(moved)
}

/// The stamp of each room's derived rows.
async fn stamps(source: &EmbeddedStore) -> Stored<HashMap<RoomId, Stamp>> {
    let (mut stamps, mut after) = (HashMap::new(), RoomId(0));
    loop {
        let rows = source.list_rooms(after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(stamps) };
        after = last.room;
        stamps.extend(rows.iter().map(|row| (row.room, row.stamp())));
    }
}

/// Both directions, from the row of the first of the two that there is.
async fn contact(source: &EmbeddedStore, target: &ScyllaStore, a: UserId, b: UserId) -> Stored<()> {
    let there = source.contact_states(a, &[b]).await?.pop().flatten();
    let back = source.contact_states(b, &[a]).await?.pop().flatten();
    if a > b && back.is_some() { Ok(()) } else { target.contact(a, b, there, back).await }
}

/// Reads everything back.
async fn verify(source: &EmbeddedStore, target: &ScyllaStore, moved: &Moved) -> Result<(), Failure> {
    use futures_util::{StreamExt, TryStreamExt, stream};
    let differs = |what: String| Failure::Failed(format!("{what} is not in the store as it is in the directory; run it again"));
    stream::iter(&moved.rooms)
        .map(|(room, want)| async move {
            match target.sum(*room, want.last).await? {
                got if got == *want => Ok(()),
                got => Err(differs(format!("the log of room {room} ({} rows of {})", got.rows, want.rows))),
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    let mut after = RoomId(0);
    loop {
        let rows = source.list_rooms(after, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = last.room;
        if target.rooms(&rows.iter().map(|row| row.room).collect::<Vec<_>>()).await? != rows.iter().cloned().map(Some).collect::<Vec<_>>() {
            return Err(differs(format!("a room up to {after}")));
        }
        for row in &rows {
            members(source, target, row.room).await?.then_some(()).ok_or_else(|| differs(format!("a membership of room {}", row.room)))?;
        }
    }
    let mut after = UserId(0);
    loop {
        let rows = source.list_users(after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.user;
        if target.users(&rows.iter().map(|row| row.user).collect::<Vec<_>>()).await? != rows.iter().cloned().map(Some).collect::<Vec<_>>() {
            return Err(differs(format!("an account up to {after}")));
        }
    }
}

async fn members(source: &EmbeddedStore, target: &ScyllaStore, room: RoomId) -> Stored<bool> {
    let mut after = UserId(0);
    loop {
        let rows = source.members(room, after, PAGE).await?;
        if rows != target.members(room, after, PAGE).await? {
            return Ok(false);
        }
        let Some(last) = rows.last() else { return Ok(true) };
        after = last.user;
    }
}
