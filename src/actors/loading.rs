//! How a room comes back from its log: takeover, adoption, state, and what must be redone. Also what a room finds out while it runs.

use super::applier::Applicable;
use super::node::{NodeContext, now_ms};
use super::reading::{self, in_time};
use super::room::{old_of, place_of};
use crate::cluster::Mono;
use crate::cluster::takeover::{Step, TakeOver};
use crate::protocol::entry::{Body, Entry, RoomKind};
use crate::protocol::ids::{ClientId, Epoch, Millis, RoomId, Seq, UserId};
use crate::protocol::policy::Place;
use crate::protocol::roomlog::{Need, Old, Recent, RoomLog, Settings, WINDOW, concerned};
use crate::storage::{Result, RoomRow, StorageError, derive};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Memberships per read.
const MEMBERS_PAGE: usize = 1_000;
/// Entries that a room in slow mode reads back at most, to know who spoke within its pause.
const SLOW_ENTRIES_MAX: u64 = 10_000;

/// A room that may write.
pub struct Loaded {
    /// Its state, up to the committed head.
    pub log: RoomLog,
    /// Its writer's epoch.
    pub epoch: Epoch,
    /// Its row as it is stored (a blank one for a new room).
    pub row: RoomRow,
    /// Entries above what is applied.
    pub redo: Vec<Applicable>,
}

/// A room that may not.
pub struct LoadError {
    /// Why.
    pub why: StorageError,
    /// What may be read all the same.
    pub readable: Option<Box<RoomLog>>,
}

/// Loads a room under a fresh activation.
pub async fn load(node: &NodeContext, room: RoomId) -> std::result::Result<Loaded, LoadError> {
    match take_over(node, room).await {
        Ok((epoch, head, derived)) => match state(node, room, head, derived).await {
            Ok((log, row, redo)) => Ok(Loaded { log, epoch, row, redo }),
            Err(why) => Err(LoadError { why, readable: None }),
        },
        // It cannot write; up to the committed head it can be read without owning anything (rule 8).
        Err(why) => Err(LoadError { why, readable: readable(node, room).await.ok().map(Box::new) }),
    }
}

/// The room up to the largest committed head that can be known without owning it. Rows tell of the head before them, so the last entries are
/// known by what was derived from them: that is written after commit only (rule 11).
async fn readable(node: &NodeContext, room: RoomId) -> Result<RoomLog> {
    let derived = derived(node, room).await?;
    let applied = derived.row.as_ref().map_or(0, |row| row.applied);
    let stored = in_time(node.store.ends(&[room])).await?.pop().unwrap_or_default();
    let head = stored.head.max(applied).max(node.claims.committed(room));
    Ok(state(node, room, head, Ok(derived)).await?.0)
}

/// Carries a takeover's steps out. Gives the room's epoch, its committed head, and what is derived from its log, which is read beside the
/// tail: what was applied before the epoch was taken is at most what is committed.
async fn take_over(node: &NodeContext, room: RoomId) -> Result<(Epoch, Seq, Result<Derived>)> {
    let (shard, started) = (node.router.shard(room), Instant::now());
    let now = || Mono(started.elapsed().as_millis() as u64);
    let pause = |ms| tokio::time::sleep(Duration::from_millis(ms));
    let (mut take, mut step) = TakeOver::begin(now(), room, shard, node.claims.committed(room));
    let mut epoch = Epoch(0);
    let mut derived = Err(StorageError::Failed("nothing was read of the room yet".into()));
    loop {
        step = match step {
            Step::Activate(above) => {
                let granted = in_time(node.claims.activate(shard, room, above)).await;
                epoch = *granted.as_ref().unwrap_or(&epoch);
                take.activated(granted)
            }
            Step::Read => {
                let tail;
                (tail, derived) = tokio::join!(in_time(node.store.tail(room)), self::derived(node, room));
                take.read(tail)
            }
            Step::Write(append, after) => {
                pause(after).await;
                let written = tokio::time::timeout(reading::READ_TIMEOUT, node.store.append(append)).await;
                take.written(now(), written.unwrap_or_else(|_| Err(StorageError::InDoubt("the append did not end in time".into()))))
            }
            Step::Check(after) => {
                pause(after).await;
                take.checked(now(), node.claims.check(shard, room, epoch).await)
            }
            Step::Done { epoch, head } => {
                node.claims.note_committed(room, head);
                return Ok((epoch, head, derived));
            }
            Step::GiveUp(why) => return Err(why),
        };
    }
}

/// What is derived from a room's log: its row, and the members of which all are known.
struct Derived {
    row: Option<RoomRow>,
    members: Vec<(UserId, Place)>,
}

async fn derived(node: &NodeContext, room: RoomId) -> Result<Derived> {
    let row = in_time(node.store.rooms(&[room])).await?.pop().flatten();
    let members = match row.as_ref().map(|row| row.kind) {
        Some(RoomKind::Direct | RoomKind::Group) => members(node, room).await?,
        _ => Vec::new(),
    };
    Ok(Derived { row, members })
}

async fn state(node: &NodeContext, room: RoomId, head: Seq, derived: Result<Derived>) -> Result<(RoomLog, RoomRow, Vec<Applicable>)> {
    let Derived { row: stored, members } = derived?;
    let kind = stored.as_ref().map(|r| r.kind);
    let mut row = stored.unwrap_or_else(|| derive::blank(room));
    // A row of an earlier build: what was applied then needs no following.
    row.followed = Some(if crate::sabotage::is("forget_push") { head } else { row.followed.unwrap_or(row.applied).min(head) });
    // Derived rows are never durable before the entries they come from, but a store may have lost its tail to damage.
    if row.applied > head {
        return Err(StorageError::Damaged(format!("room {room} was applied up to {} and its log ends at {head}", row.applied).into()));
    }
    let settings = Settings {
        kind,
        name: row.name.clone(),
        topic: row.topic.clone(),
        slow_mode_s: row.slow_mode_s,
        archived: row.archived,
        unlisted: row.unlisted,
        members: row.members,
        owners: row.owners,
        applied: row.applied,
        n: row.n,
    };
    let from = (row.applied + 1).min((head + 1).saturating_sub(WINDOW as u64)).max(1);
    let mut entries = reading::entries(node, room, from, head).await?;
    let mut log = RoomLog::new(room, settings, members).screened(node.filter.is_some());
    reach_back(node, room, &mut entries, Millis::from(row.slow_mode_s) * 1_000).await?;
    if kind == Some(RoomKind::Channel) {
        for user in entries.iter().filter(|e| e.seq > row.applied).flat_map(|e| changed_members(e)) {
            let member = in_time(node.store.memberships(user, &[room])).await?.pop().flatten();
            log.learn_place(user, place_of(member));
        }
    }
    let mut redo = Vec::new();
    for entry in entries {
        if entry.seq <= row.applied {
            log.remember(&entry);
        } else {
            let was = place_before(&log, &entry.body);
            log.replay(&entry);
            redo.push((entry, was));
        }
    }
    Ok((log, row, redo))
}

/// Puts earlier entries before these, until they reach back over the pause of slow mode: who spoke within it has still to wait, whoever
/// owns the room now.
async fn reach_back(node: &NodeContext, room: RoomId, entries: &mut Vec<Arc<Entry>>, pause: Millis) -> Result<()> {
    let since = now_ms().saturating_sub(pause);
    let Some(mut first) = entries.first().cloned().filter(|_| pause > 0) else { return Ok(()) };
    let lowest = first.seq.saturating_sub(SLOW_ENTRIES_MAX).max(1);
    while first.at > since && first.seq > lowest {
        let from = first.seq.saturating_sub(WINDOW as u64).max(lowest);
        let mut earlier = reading::entries(node, room, from, first.seq - 1).await?;
        let Some(new_first) = earlier.first().cloned() else { return Ok(()) };
        first = new_first;
        earlier.append(entries);
        *entries = earlier;
    }
    Ok(())
}

fn changed_members(entry: &Entry) -> Vec<UserId> {
    match &entry.body {
        Body::Member(change) => concerned(entry.by, change).collect(),
        _ => Vec::new(),
    }
}

/// The place of the user whose membership `body` changes, before it.
pub fn place_before(log: &RoomLog, body: &Body) -> Option<Place> {
    match body {
        Body::Member(change) => log.place(change.user),
        _ => None,
    }
}

async fn members(node: &NodeContext, room: RoomId) -> Result<Vec<(UserId, Place)>> {
    let mut out = Vec::new();
    let mut after = UserId(0);
    loop {
        let page = in_time(node.store.members(room, after, MEMBERS_PAGE)).await?;
        let full = page.len() == MEMBERS_PAGE;
        after = page.last().map_or(after, |m| m.user);
        out.extend(page.into_iter().map(|m| (m.user, m.place())));
        if !full {
            return Ok(out);
        }
    }
}

/// What a room found out.
pub enum Found {
    /// A user's place.
    Place(UserId, Place),
    /// An old message.
    Old(Seq, Old),
    /// Whether the client id was used before.
    Repeat(Option<Recent>),
    /// A part of the log that should have been searched is no longer kept.
    Purged,
}

/// Finds out what a decision needs.
pub async fn find(node: &NodeContext, room: RoomId, user: UserId, cid: Option<ClientId>, need: Need) -> Result<Found> {
    match need {
        Need::Standing(who) => {
            let member = in_time(node.store.memberships(who, &[room])).await?.pop().flatten();
            Ok(Found::Place(who, place_of(member)))
        }
        Need::Old(seq) => {
            let entries = reading::entries(node, room, seq, seq).await?;
            let fold = in_time(node.store.folds(room, &[seq])).await?.pop().flatten();
            let deleted = fold.is_some_and(|f| f.deleted.is_some());
            Ok(Found::Old(seq, entries.first().map_or(Old { by: None, deleted }, |e| old_of(e, deleted))))
        }
        Need::Search { from, to } => {
            let entries = reading::entries(node, room, from, to).await?;
            let first = entries.iter().find(|e| e.by == user && e.cid.is_some() && e.cid == cid);
            match first {
                None if entries.first().is_none_or(|e| e.seq > from) => Ok(Found::Purged),
                first => Ok(Found::Repeat(first.map(|e| Recent::of(e)))),
            }
        }
    }
}
