//! Reading a room's log and what was derived from it: bounded by a committed head that was known before (ownership rule 9).

use super::node::{NodeContext, now_ms};
use crate::cluster::chain;
use crate::protocol::entry::{Body, Entry, Message, Role};
use crate::protocol::ids::{Millis, RoomId, Seq, UserId};
use crate::protocol::ops::{History, Reaction, RoomSummary, Shown};
use crate::storage::{CursorRow, FoldRow, MemberRow, Result, RoomRow, StorageError, record};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

/// Entries per read.
const PAGE: u64 = 512;
/// A read takes at most this long.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Mentions that are counted one by one.
const MENTIONS_COUNTED: usize = 100;

/// Bytes of messages in one answer, about. What does not fit is `more`: an answer must fit in an outbox, however long messages are.
pub const ANSWER_BYTES: usize = 512 * 1024;

/// Bytes of an entry in a frame, about.
fn weight(entry: &Entry) -> usize {
    let text = |s: &Option<String>| s.as_ref().map_or(0, String::len);
    192 + match &entry.body {
        Body::Message(m) => {
            let attached: usize = m.attachments.iter().map(|a| a.url.len() + a.mime.len() + a.name.len() + 64).sum();
            m.text.len() + text(&m.data) + m.mentions.len() * 24 + attached
        }
        Body::Edit(edit) => edit.text.len() + edit.mentions.len() * 24,
        Body::Room(room) => text(&room.name) + text(&room.topic) + room.members.len() * 40,
        Body::Call(opaque) => opaque.len(),
        _ => 0,
    }
}

/// How many of the first entries are about so many bytes together; at least one.
pub fn fitting<E: std::borrow::Borrow<Entry>>(entries: &[E], bytes: usize) -> usize {
    let mut sum = 0;
    let over = entries.iter().position(|entry| {
        sum += weight(entry.borrow());
        sum > bytes
    });
    over.map_or(entries.len(), |first| first.max(1))
}

/// A storage call with its time limit.
pub async fn in_time<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(READ_TIMEOUT, what).await {
        Ok(result) => result,
        Err(_) => Err(StorageError::Failed("the store did not answer in time".into())),
    }
}

/// Entries `from..=to` of the log; `to` is committed. What was purged is left out: then they begin at the room's floor, and are fewer.
pub async fn entries(node: &NodeContext, room: RoomId, from: Seq, to: Seq) -> Result<Vec<Arc<Entry>>> {
    let mut out = Vec::with_capacity((to + 1).saturating_sub(from).min(PAGE) as usize);
    let mut at = from;
    while at <= to {
        let end = to.min(at + PAGE - 1);
        match chain::committed(in_time(node.store.rows(room, at, end)).await?, at, end) {
            Ok(rows) => {
                for row in &rows {
                    out.push(Arc::new(record::decode_entry(&row.payload)?));
                }
                at = end + 1;
            }
            Err(error) => {
                // Asked only now: nearly always nothing was purged.
                let floor = floor(node, room).await?;
                if floor <= at {
                    return Err(error);
                }
                out.clear();
                at = floor;
            }
        }
    }
    Ok(out)
}

/// The first seq of a room that is still there.
pub async fn floor(node: &NodeContext, room: RoomId) -> Result<Seq> {
    Ok(in_time(node.store.floors(&[room])).await?.pop().unwrap_or(1))
}

/// Messages up to `seq`. Of what was purged only so much is known that it is before the first entry that is there.
pub async fn n_at(node: &NodeContext, room: RoomId, seq: Seq) -> Result<u64> {
    if let Some(entry) = entries(node, room, seq, seq).await?.first() {
        return Ok(entry.n);
    }
    let floor = floor(node, room).await?;
    let first = entries(node, room, floor, floor).await?;
    Ok(first.first().map_or(0, |e| e.n - u64::from(e.body.is_message())))
}

/// A message as it is now.
fn shown(mut entry: Entry, fold: Option<FoldRow>) -> Shown {
    let fold = fold.unwrap_or_default();
    if let (Body::Message(message), Some((_, text, mentions))) = (&mut entry.body, &fold.edit) {
        message.text.clone_from(text);
        message.mentions.clone_from(mentions);
    }
    if fold.deleted.is_some() {
        entry.body = Body::Message(Message::default());
    }
    let reactions = fold.reactions.into_iter().map(|(emoji, users)| Reaction { emoji, users }).collect();
    Shown { entry, edited: fold.edit.map(|(seq, ..)| seq), deleted: fold.deleted, reactions, pinned: fold.pinned.is_some() }
}

/// Messages as they are now.
pub async fn show(node: &NodeContext, room: RoomId, messages: Vec<Arc<Entry>>) -> Result<Vec<Shown>> {
    let seqs: Vec<Seq> = messages.iter().map(|e| e.seq).collect();
    let folds = in_time(node.store.folds(room, &seqs)).await?;
    Ok(messages.into_iter().zip(folds).map(|(entry, fold)| shown(Arc::unwrap_or_clone(entry), fold)).collect())
}

/// Messages of `from..=to`, going back from `to` (or forward from `from`) until there are `limit`.
/// Second: whether the range held more.
async fn messages(node: &NodeContext, room: RoomId, from: Seq, to: Seq, limit: usize, back: bool) -> Result<(Vec<Arc<Entry>>, bool)> {
    let mut out = Vec::new();
    let (mut low, mut high) = (from.max(1), to);
    while low <= high && high > 0 && out.len() <= limit {
        let (a, b) = if back { (low.max(high.saturating_sub(PAGE - 1)), high) } else { (low, high.min(low + PAGE - 1)) };
        let mut page = entries(node, room, a, b).await?;
        // A page that begins later than asked begins at the floor: there is nothing before it.
        let purged = page.first().is_none_or(|e| e.seq > a);
        if back {
            page.reverse();
            high = if purged { 0 } else { a - 1 };
        } else {
            low = if page.is_empty() { floor(node, room).await?.max(b + 1) } else { b + 1 };
        }
        page.retain(|e| e.body.is_message());
        out.extend(page);
    }
    let limit = limit.min(fitting(&out, ANSWER_BYTES));
    let more = out.len() > limit;
    out.truncate(limit);
    if back {
        out.reverse();
    }
    Ok((out, more))
}

/// A page of a room's messages as they are now, up to `head`. Second: whether there is more in the direction asked for.
pub async fn history(node: &NodeContext, ask: &History, head: Seq) -> Result<(Vec<Shown>, bool)> {
    let limit = ask.limit.unwrap_or(50) as usize;
    let (found, more) = if let Some(after) = ask.after {
        messages(node, ask.room, after.saturating_add(1), head, limit, false).await?
    } else if let Some(around) = ask.around {
        let (mut found, more) = messages(node, ask.room, 1, around.min(head), limit.div_ceil(2), true).await?;
        let (newer, _) = messages(node, ask.room, around.saturating_add(1), head, limit / 2, false).await?;
        found.extend(newer);
        (found, more)
    } else {
        let to = ask.before.map_or(head, |before| before.saturating_sub(1).min(head));
        messages(node, ask.room, 1, to, limit, true).await?
    };
    Ok((show(node, ask.room, found).await?, more))
}

/// Rooms as the room list shows them to `user`. Rooms that are not there, or where the user is no member, are left out.
pub async fn summaries(node: &NodeContext, user: UserId, rooms: &[RoomId]) -> Result<Vec<RoomSummary>> {
    let store = &node.store;
    let (rows, members) = (in_time(store.rooms(rooms)).await?, in_time(store.memberships(user, rooms)).await?);
    let cursors = in_time(store.cursors(user, rooms)).await?;
    let mut out = Vec::with_capacity(rooms.len());
    for ((row, member), cursor) in rows.into_iter().zip(members).zip(cursors) {
        if let (Some(row), Some(MemberRow { role: Some(role), muted_until, .. })) = (row, member) {
            out.push(RoomSummary { role, muted_until: still_muted(muted_until), ..summary(node, user, row, cursor).await? });
        }
    }
    Ok(out)
}

/// Until when who is muted may not write, if that is not over.
pub fn still_muted(until: Millis) -> Option<Millis> {
    (until > now_ms()).then_some(until)
}

/// A room's summary; one's own place in it is left to be filled in.
async fn summary(node: &NodeContext, user: UserId, row: RoomRow, cursor: CursorRow) -> Result<RoomSummary> {
    let mentions = match row.n > cursor.read_n {
        true => in_time(node.store.mentions(user, row.room, cursor.read, MENTIONS_COUNTED)).await?,
        false => 0,
    };
    let last = match row.last_message {
        0 => None,
        seq => show(node, row.room, entries(node, row.room, seq, seq).await?).await?.pop(),
    };
    Ok(RoomSummary {
        room: row.room,
        kind: row.kind,
        peer: row.pair.map(|(a, b)| if a == user { b } else { a }),
        name: row.name,
        topic: row.topic,
        role: Role::Reader,
        head: row.applied,
        n: row.n,
        at: row.at,
        read: cursor.read,
        unread: row.n.saturating_sub(cursor.read_n),
        mentions,
        members: row.members,
        slow_mode_s: row.slow_mode_s,
        archived: row.archived,
        unlisted: row.unlisted,
        muted_until: None,
        last,
    })
}

/// A place in the room list: activity, and which of those that were active at once.
pub type ListPlace = (Millis, RoomId);

/// Rooms of the user that were active before a place in the list (all, when none), newest activity first, and the place after which
/// there are more. A room that becomes active meanwhile moves to the list's beginning.
pub async fn rooms_before(
    node: &NodeContext,
    user: UserId,
    place: Option<ListPlace>,
    limit: usize,
) -> Result<(Vec<RoomSummary>, Option<ListPlace>)> {
    let rows = all_rooms(node, user).await?;
    let first = place.map_or(0, |place| rows.partition_point(|row| (row.at, row.room) >= place));
    let rows = &rows[first..];
    let (shown, covered) = window(node, user, rows, limit).await?;
    let end = covered.checked_sub(1).and_then(|last| rows.get(last)).filter(|_| covered < rows.len());
    Ok((shown, end.map(|row| (row.at, row.room))))
}

/// A window of the user's room list, newest activity first, and whether there are more rooms.
pub async fn room_list(node: &NodeContext, user: UserId, offset: usize, limit: usize) -> Result<(Vec<RoomSummary>, bool)> {
    let rows = all_rooms(node, user).await?;
    let rows = rows.get(offset..).unwrap_or_default();
    let (shown, covered) = window(node, user, rows, limit).await?;
    Ok((shown, covered < rows.len()))
}

async fn all_rooms(node: &NodeContext, user: UserId) -> Result<Vec<RoomRow>> {
    let mine = in_time(node.store.rooms_of(user, node.config.rooms.rooms_per_user_max)).await?;
    let mut rows: Vec<RoomRow> = in_time(node.store.rooms(&mine)).await?.into_iter().flatten().collect();
    // Of rooms that changed in one millisecond the one that was made last comes first.
    rows.sort_by_key(|row| Reverse((row.at, row.room)));
    Ok(rows)
}

/// The first rooms of a list as the user sees them, at most `limit`, and how many of the list that covers. One that was left meanwhile is
/// covered, and not shown.
async fn window(node: &NodeContext, user: UserId, rows: &[RoomRow], limit: usize) -> Result<(Vec<RoomSummary>, usize)> {
    let window: Vec<RoomId> = rows.iter().take(limit).map(|r| r.room).collect();
    let mut shown = summaries(node, user, &window).await?;
    let mut bytes = 0;
    let over = shown.iter().skip(1).position(|room| {
        bytes += room.last.as_ref().map_or(0, |last| weight(&last.entry));
        bytes > ANSWER_BYTES
    });
    let Some(first) = over.map(|index| index + 1) else { return Ok((shown, window.len())) };
    let covered = window.iter().position(|room| *room == shown[first].room).unwrap_or(window.len());
    shown.truncate(first);
    Ok((shown, covered))
}
