//! What REST reads of rooms, beside what a socket asks for (`super::answering`).
//!
//! Every read first waits until what its room has committed is applied ([`Router::settle`](super::router::Router::settle)): who was
//! answered sees what it did. Rights are those of the policy; what is hidden looks like what is not there.

use super::answering;
use super::node::{NodeContext, now_ms};
use super::reading::{self, in_time};
use super::room::{place_of, storage_error};
use crate::error::{ApiError, Code};
use crate::protocol::entry::{Body, Entry};
use crate::protocol::ids::{RoomId, Seq, UserId};
use crate::protocol::ops::{MemberShown, Members, Receipt, RoomSummary, Shown};
use crate::protocol::policy::{self, Act, Denied, Place, Restraint};
use crate::protocol::roomlog::not_found;
use crate::storage::{CursorRow, RoomRow, directory};
use std::sync::Arc;

type Result<T> = std::result::Result<T, ApiError>;

/// Entries that one page of a thread looks through; the next page goes on where it stopped.
const THREAD_ENTRIES: u64 = 4_096;
/// Entries per read.
const PAGE: u64 = 512;

/// A room, and how a user stands to it.
pub struct Seen {
    /// The room's row.
    pub row: RoomRow,
    /// The user's place.
    pub place: Place,
}

impl Seen {
    /// Whether the user may do this now.
    pub fn may(&self, act: Act) -> Result<()> {
        let now = Restraint { archived: self.row.archived, muted: self.place.is_muted(now_ms()) };
        policy::allows_now(self.row.kind, self.place.standing, now, act).map_err(|denied| match denied {
            Denied::Hidden => not_found(),
            Denied::Archived => ApiError::new(Code::Forbidden, "this room is archived"),
            Denied::Forbidden | Denied::Muted => ApiError::new(Code::Forbidden, "your role in this room does not allow that"),
        })
    }
}

/// A room that the user knows of.
pub async fn see(node: &NodeContext, user: UserId, room: RoomId) -> Result<Seen> {
    node.router.settle(room).await;
    let row = in_time(node.store.rooms(&[room])).await.map_err(storage_error)?.pop().flatten().ok_or_else(not_found)?;
    let member = in_time(node.store.memberships(user, &[room])).await.map_err(storage_error)?.pop().flatten();
    Ok(Seen { row, place: place_of(member) })
}

/// A room in which the user may do this.
pub async fn see_if(node: &NodeContext, user: UserId, room: RoomId, act: Act) -> Result<Seen> {
    let seen = see(node, user, room).await?;
    seen.may(act)?;
    Ok(seen)
}

/// A room as the user's room list shows it.
pub async fn room(node: &NodeContext, user: UserId, room: RoomId) -> Result<RoomSummary> {
    see_if(node, user, room, Act::Read).await?;
    reading::summaries(node, user, &[room]).await.map_err(storage_error)?.pop().ok_or_else(not_found)
}

/// The committed head, for requests whose client knows none.
pub async fn head(node: &NodeContext, user: UserId, room: RoomId) -> Result<Seq> {
    Ok(node.router.look(user, room).await?.head)
}

/// A message as it is now.
pub async fn message(node: &NodeContext, user: UserId, room: RoomId, seq: Seq) -> Result<Shown> {
    let seen = see_if(node, user, room, Act::Read).await?;
    let absent = || ApiError::new(Code::NotFound, format!("there is no message {seq} in this room"));
    if seq == 0 || seq > seen.row.applied {
        return Err(absent());
    }
    let found = reading::entries(node, room, seq, seq).await.map_err(storage_error)?;
    let message = found.into_iter().filter(|e| e.body.is_message()).collect();
    reading::show(node, room, message).await.map_err(storage_error)?.pop().ok_or_else(absent)
}

/// Messages of the thread of `root` after a seq, at most `limit`, and where the next page begins. A page may be short, or empty, and
/// still have a next one: so much of the log was looked through.
pub async fn thread(
    node: &NodeContext,
    user: UserId,
    at: (RoomId, Seq),
    after: Option<Seq>,
    limit: usize,
) -> Result<(Vec<Shown>, Option<Seq>)> {
    let (room, root) = at;
    message(node, user, room, root).await?;
    let head = see(node, user, room).await?.row.applied;
    let mut next = after.unwrap_or(root).max(root).saturating_add(1);
    let end = head.min(next.saturating_add(THREAD_ENTRIES - 1));
    let mut found: Vec<Arc<Entry>> = Vec::new();
    while next <= end && found.len() < limit {
        let last = end.min(next + PAGE - 1);
        let page = reading::entries(node, room, next, last).await.map_err(storage_error)?;
        let in_thread = |e: &Arc<Entry>| matches!(&e.body, Body::Message(m) if m.thread == Some(root));
        found.extend(page.into_iter().filter(in_thread).take(limit - found.len()));
        next = if found.len() == limit { found.last().map_or(last, |e| e.seq) } else { last } + 1;
    }
    let fits = reading::fitting(&found, reading::ANSWER_BYTES);
    if let Some(over) = found.get(fits) {
        next = over.seq;
    }
    found.truncate(fits);
    let shown = reading::show(node, room, found).await.map_err(storage_error)?;
    Ok((shown, (next <= head).then(|| next - 1)))
}

/// Pinned messages with a greater seq, ascending, at most `limit`, and where the next page begins.
pub async fn pins(node: &NodeContext, user: UserId, room: RoomId, after: Seq, limit: usize) -> Result<(Vec<Shown>, Option<Seq>)> {
    see_if(node, user, room, Act::Read).await?;
    let mut seqs = in_time(node.store.pins(room, after, limit + 1)).await.map_err(storage_error)?;
    let mut more = seqs.len() > limit;
    seqs.truncate(limit);
    let mut last = seqs.last().copied();
    let mut found: Vec<Arc<Entry>> = Vec::with_capacity(seqs.len());
    for seq in seqs {
        found.extend(reading::entries(node, room, seq, seq).await.map_err(storage_error)?);
    }
    let fits = reading::fitting(&found, reading::ANSWER_BYTES);
    if fits < found.len() {
        more = true;
        found.truncate(fits);
        last = found.last().map(|e| e.seq);
    }
    let next = last.filter(|_| more);
    Ok((reading::show(node, room, found).await.map_err(storage_error)?, next))
}

/// Entries of a room's log.
pub struct Stretch {
    /// Contiguous, in order.
    pub entries: Vec<Arc<Entry>>,
    /// After which seq the next ones are; none: these are the last.
    pub next: Option<Seq>,
    /// The first seq that is still kept, where entries that were asked for are not.
    pub first: Option<Seq>,
}

/// Entries after a seq, at most `limit`.
pub async fn entries(node: &NodeContext, user: UserId, room: RoomId, after: Seq, limit: usize) -> Result<Stretch> {
    let head = answering::readable_head(node, user, room).await?;
    let limit = limit as u64;
    let from = after.saturating_add(1);
    let read = async |from: Seq| reading::entries(node, room, from, head.min(from.saturating_add(limit - 1))).await.map_err(storage_error);
    let (mut entries, mut first) = (read(from).await?, None);
    if from <= head && entries.first().is_none_or(|e| e.seq > from) {
        let floor = reading::floor(node, room).await.map_err(storage_error)?;
        (entries, first) = (read(floor.max(from)).await?, Some(floor));
    }
    entries.truncate(reading::fitting(&entries, reading::ANSWER_BYTES));
    let next = entries.last().map(|e| e.seq).filter(|last| *last < head);
    Ok(Stretch { entries, next, first })
}

/// A user as a list names it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Named {
    /// Who.
    pub user: UserId,
    /// The account's name.
    pub name: String,
}

async fn named(node: &NodeContext, users: Vec<UserId>) -> Result<Vec<Named>> {
    let rows = in_time(node.store.users(&users)).await.map_err(storage_error)?;
    Ok(users.into_iter().zip(rows).map(|(user, row)| Named { user, name: row.map_or_else(String::new, |r| r.name) }).collect())
}

/// Who has read a message, its author aside. Only in rooms where receipts are sent to everybody: in larger ones nobody is told.
pub async fn readers(node: &NodeContext, user: UserId, room: RoomId, seq: Seq) -> Result<Vec<Named>> {
    let author = message(node, user, room, seq).await?.entry.by;
    let max = node.config.rooms.receipts_members_max;
    let row = see(node, user, room).await?.row;
    if row.members > max {
        return Err(ApiError::new(Code::Conflict, format!("who has read is told only in rooms of at most {max} members")));
    }
    let cursors = cursors(node, room).await?;
    named(node, cursors.into_iter().filter(|c| c.user != author && c.read >= seq).map(|c| c.user).collect()).await
}

/// How far the other members have come: what `receipt`s have told so far. Empty in rooms too large for receipts.
pub async fn receipts(node: &NodeContext, user: UserId, room: RoomId) -> Result<Vec<Receipt>> {
    if see_if(node, user, room, Act::Read).await?.row.members > node.config.rooms.receipts_members_max {
        return Ok(Vec::new());
    }
    let mut cursors = cursors(node, room).await?;
    cursors.retain(|c| c.user != user);
    Ok(cursors)
}

/// The cursors of all members.
async fn cursors(node: &NodeContext, room: RoomId) -> Result<Vec<Receipt>> {
    let (mut cursors, mut after) = (Vec::new(), UserId(0));
    loop {
        let page = in_time(node.store.members(room, after, 500)).await.map_err(storage_error)?;
        let Some(last) = page.last().map(|m| m.user) else { return Ok(cursors) };
        // Bans and mutes of who is out lie between the members.
        for user in page.iter().filter(|m| m.role.is_some()).map(|m| m.user) {
            let CursorRow { read, delivered, .. } = cursor_of(node, user, room).await?;
            cursors.push(Receipt { room, user, read, delivered });
        }
        after = last;
    }
}

async fn cursor_of(node: &NodeContext, user: UserId, room: RoomId) -> Result<CursorRow> {
    Ok(in_time(node.store.cursors(user, &[room])).await.map_err(storage_error)?.pop().unwrap_or_default())
}

/// The user's own cursors.
pub async fn cursor(node: &NodeContext, user: UserId, room: RoomId) -> Result<CursorRow> {
    see_if(node, user, room, Act::MoveCursor).await?;
    cursor_of(node, user, room).await
}

/// Members with a greater user id, and whether there are more.
pub async fn members(node: &NodeContext, user: UserId, ask: &Members) -> Result<(Vec<MemberShown>, bool)> {
    see_if(node, user, ask.room, Act::ListMembers).await?;
    let page = answering::members(node, user, ask).await?;
    Ok((page.members.unwrap_or_default(), page.more == Some(true)))
}

/// Who is banned, with a greater user id, at most `limit`, and whether there are more.
pub async fn bans(node: &NodeContext, user: UserId, room: RoomId, after: UserId, limit: usize) -> Result<(Vec<Named>, bool)> {
    see_if(node, user, room, Act::ListBans).await?;
    let (mut found, mut after) = (Vec::new(), after);
    while found.len() <= limit {
        let page = in_time(node.store.members(room, after, 1_000)).await.map_err(storage_error)?;
        let Some(last) = page.last().map(|m| m.user) else { break };
        found.extend(page.into_iter().filter(|m| m.is_ban()).map(|m| m.user));
        after = last;
    }
    let more = found.len() > limit;
    found.truncate(limit);
    Ok((named(node, found).await?, more))
}

/// A channel as the directory shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct ChannelShown {
    /// The channel.
    pub room: RoomId,
    /// Its name.
    pub name: String,
    /// What it is about.
    pub topic: String,
    /// How many are in it.
    pub members: u64,
    /// Oneself is in it.
    pub joined: bool,
}

/// Public channels whose name begins with `prefix`, in whichever case, in order of their names; and where the next page begins. A page
/// may be short and still have a next one.
pub async fn channels(
    node: &NodeContext,
    user: UserId,
    prefix: &str,
    after: Option<Vec<u8>>,
    limit: usize,
) -> Result<(Vec<ChannelShown>, Option<Vec<u8>>)> {
    let prefix = directory::folded(prefix);
    let mut listed = in_time(directory::list(&*node.store, &prefix, after.as_deref(), limit + 1)).await.map_err(storage_error)?;
    let more = listed.len() > limit;
    listed.truncate(limit);
    let rooms: Vec<RoomId> = listed.iter().map(|(_, room)| *room).collect();
    let rows = in_time(node.store.rooms(&rooms)).await.map_err(storage_error)?;
    let mine = in_time(node.store.memberships(user, &rooms)).await.map_err(storage_error)?;
    let next = listed.last().filter(|_| more).map(|(key, _)| key.clone());
    let shown = listed.into_iter().zip(rows).zip(mine).filter_map(|(((key, _), row), member)| {
        let row = row.filter(|row| directory::key(row).as_ref() == Some(&key))?;
        let joined = member.is_some_and(|m| m.role.is_some());
        Some(ChannelShown { room: row.room, name: row.name, topic: row.topic, members: row.members, joined })
    });
    Ok((shown.collect(), next))
}
