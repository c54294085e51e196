//! Whether a notification is still wanted, a moment before it is sent: read elsewhere, deleted, left, muted, signed out? And what it says.

use super::node::{NodeContext, now_ms};
use super::reading::{self, in_time};
use crate::auth::sessions::alive;
use crate::protocol::entry::{Body, Entry, RoomKind};
use crate::protocol::ids::{DeviceId, Millis, UserId};
use crate::push::jobs::Notification;
use crate::push::payload::Payload;
use crate::push::subscriptions::Subscription;
use crate::storage::{ContactState, FoldRow, Result, RoomRow};
use std::sync::Arc;

/// The answer.
pub enum Wanted {
    /// Send this there.
    Yes(Subscription, Box<Payload>),
    /// What it rests on is not written down yet.
    NotYet,
    /// No more; why, for the metric.
    No(&'static str),
}

/// Looks. What was sent before this read is sent; what is read elsewhere before it is not.
pub async fn look(node: &NodeContext, notification: &Notification) -> Result<Wanted> {
    let (group, seq) = (notification.group, notification.seq);
    let (user, room) = (group.user, group.room);
    let Some(subscription) = in_time(node.pushes.subscriptions.valid(user, group.device)).await? else {
        return Ok(Wanted::No("unsubscribed"));
    };
    if !signed_in(node, user, group.device, now_ms()).await? {
        in_time(node.pushes.subscriptions.end(user, &subscription)).await?;
        return Ok(Wanted::No("signed_out"));
    }
    let row = match in_time(node.store.rooms(&[room])).await?.pop().flatten() {
        Some(row) if row.applied >= seq => row,
        _ => return Ok(Wanted::NotYet),
    };
    // The text of a room is nobody's who left it since.
    if in_time(node.store.memberships(user, &[room])).await?.pop().flatten().is_none_or(|m| m.role.is_none()) {
        return Ok(Wanted::No("left"));
    }
    let cursor = in_time(node.store.cursors(user, &[room])).await?.pop().unwrap_or_default();
    if cursor.read >= seq {
        return Ok(Wanted::No("read"));
    }
    if !in_time(node.pushes.levels.of(user, room, row.kind)).await?.wants(notification.row.mention, now_ms()) {
        return Ok(Wanted::No("level"));
    }
    // It is applied, so it was there.
    let Some(entry) = reading::entries(node, room, seq, seq).await?.pop() else { return Ok(Wanted::No("purged")) };
    let fold = in_time(node.store.folds(room, &[seq])).await?.pop().flatten().unwrap_or_default();
    let alone = notification.row.n <= 1;
    let blocked = in_time(node.store.contact_states(user, &[entry.by])).await?.pop().flatten() == Some(ContactState::Blocked);
    if alone && (fold.deleted.is_some() || blocked) {
        return Ok(Wanted::No(if blocked { "blocked" } else { "deleted" }));
    }
    let unread = row.n.saturating_sub(cursor.read_n);
    let text = if node.config.push.show_text && !blocked { text(&entry, fold) } else { None };
    let payload = Payload {
        id: notification.id(),
        user,
        room,
        seq,
        title: title(node, &row, user, &entry).await?,
        body: text,
        // Of what was gathered some may have been read meanwhile.
        n: notification.row.n.min(unread).max(1),
        unread,
        mention: notification.row.mention,
    };
    Ok(Wanted::Yes(subscription, Box::new(payload)))
}

/// Whether the device could still sign in.
async fn signed_in(node: &NodeContext, user: UserId, device: DeviceId, now: Millis) -> Result<bool> {
    let account = in_time(node.store.user(user)).await?;
    let device = in_time(node.store.device(user, device)).await?;
    Ok(account.is_some_and(|account| !account.disabled && device.is_some_and(|device| alive(&device, &account, now))))
}

/// The message as it is now; none when it was deleted or has no text.
fn text(entry: &Arc<Entry>, fold: FoldRow) -> Option<String> {
    let Body::Message(message) = &entry.body else { return None };
    let text = fold.edit.map_or_else(|| message.text.clone(), |(_, text, _)| text);
    (fold.deleted.is_none() && !text.is_empty()).then_some(text)
}

/// The room's name, or the other's in a direct room.
async fn title(node: &NodeContext, row: &RoomRow, user: UserId, entry: &Entry) -> Result<String> {
    match (row.kind, row.pair) {
        (RoomKind::Direct, Some((a, b))) => {
            let other = in_time(node.store.user(if a == user { b } else { a })).await?;
            Ok(other.map(|other| other.name).unwrap_or_default())
        }
        _ if row.name.is_empty() => Ok(in_time(node.store.user(entry.by)).await?.map(|by| by.name).unwrap_or_default()),
        _ => Ok(row.name.clone()),
    }
}
