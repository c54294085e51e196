//! How a session comes to follow rooms: a page of a resume, a room joined meanwhile, and the seam between the log and live.

use super::answering;
use super::hub::{Attach, Hub, Seat};
use super::reading;
use super::room::storage_error;
use super::router::{Verdict, lost};
use crate::bus::UserEvent;
use crate::error::{ApiError, Code};
use crate::protocol::entry::{Entry, RoomKind};
use crate::protocol::ids::{RoomId, Seq, UserId};
use crate::protocol::ops::{CursorShown, Entries, Push, Resume, Resumed, RoomStanding, RoomSummary, Standing};
use crate::protocol::resume;
use crate::storage::ContactState;
use crate::telemetry::metrics;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

/// Entries of one push.
const PAGE: u64 = 256;
/// Bytes of one push, about: entries may be so large that a full page alone would run an outbox over.
const PUSH_BYTES: usize = 128 * 1024;

/// One page of a resume. `listed`: with the last page, every room that any page named.
pub async fn page(hub: &Rc<Hub>, seat: &Rc<Seat>, reference: u64, page: Resume, listed: HashSet<RoomId>) -> Result<(), ApiError> {
    let rooms: Vec<(RoomId, Option<Seq>)> = page.rooms.iter().map(|h| (h.room, Some(h.have))).collect();
    follow(hub, seat, &rooms).await?;
    if !page.last {
        return Ok(());
    }
    let node = &hub.node;
    let user = seat.user.get();
    let mine = reading::in_time(node.store.rooms_of(user, node.config.rooms.rooms_per_user_max)).await.map_err(storage_error)?;
    let new: Vec<(RoomId, Option<Seq>)> = mine.iter().filter(|room| !listed.contains(room)).map(|room| (*room, None)).collect();
    for part in new.chunks(500) {
        follow(hub, seat, part).await?;
    }
    let rows = reading::in_time(node.store.cursors(user, &mine)).await.map_err(storage_error)?;
    let cursors = mine
        .iter()
        .zip(rows)
        .filter(|(_, row)| row.read > 0 || row.delivered > 0)
        .map(|(room, row)| CursorShown { room: *room, read: row.read, delivered: row.delivered })
        .collect();
    let presence = watch_contacts(hub, seat).await?;
    seat.push(&Push::Resumed(Resumed { reference, cursors, presence }));
    Ok(())
}

async fn watch_contacts(hub: &Rc<Hub>, seat: &Rc<Seat>) -> Result<Vec<crate::protocol::ops::PresencePush>, ApiError> {
    let node = &hub.node;
    let contacts =
        reading::in_time(node.store.contacts(seat.user.get(), node.config.presence.contacts_max)).await.map_err(storage_error)?;
    let accepted: Vec<_> = contacts.into_iter().filter(|(_, s)| *s == ContactState::Accepted).map(|(user, _)| user).collect();
    let mut presence = answering::begin_watching(hub, seat, &accepted).await?;
    presence.retain(|p| p.state != crate::protocol::ops::PresenceState::Offline || p.last_seen > 0 || !p.status.is_empty());
    Ok(presence)
}

/// Follows rooms from where the client is in each (`None`: it does not know the room).
async fn follow(hub: &Rc<Hub>, seat: &Rc<Seat>, rooms: &[(RoomId, Option<Seq>)]) -> Result<(), ApiError> {
    if rooms.is_empty() {
        return Ok(());
    }
    let node = &hub.node;
    let ids: Vec<RoomId> = rooms.iter().map(|(room, _)| *room).collect();
    hub.follow(&ids);
    may_follow_again(seat, &ids);
    let verdicts = node.router.attach(seat.user.get(), node.placement.me(), &ids).await?;
    let verdicts: HashMap<RoomId, Verdict> = verdicts.into_iter().map(|v| (v.room, v)).collect();
    let max = node.config.rooms.resume_entries_max;
    let floors = floors(hub, rooms, &verdicts).await?;
    let mut changed = Vec::new();
    for (room, have) in rooms {
        let Some(verdict) = verdicts.get(room) else { continue };
        if !verdict.member {
            // Of a room that the client does not know nothing is said.
            if have.is_some() {
                metrics().resumes_total.of("left").inc();
                seat.push(&left(*room, 0));
            }
            continue;
        }
        let floor = floors.get(room).copied().unwrap_or(1);
        match (resume::standing(*have, floor, verdict.head, max), have) {
            (None, have) => {
                metrics().resumes_total.of("unchanged").inc();
                catch_up(hub, seat, *room, have.unwrap_or(verdict.head), verdict.head).await?;
            }
            (Some((standing, from)), _) => changed.push((*verdict, standing, from)),
        }
    }
    let ids: Vec<RoomId> = changed.iter().map(|(v, ..)| v.room).collect();
    let summaries = reading::summaries(node, seat.user.get(), &ids).await.map_err(storage_error)?;
    let mut summaries: HashMap<RoomId, RoomSummary> = summaries.into_iter().map(|s| (s.room, s)).collect();
    for (verdict, standing, from) in changed {
        stand(hub, seat, verdict, standing, from, summaries.remove(&verdict.room)).await?;
    }
    Ok(())
}

/// Where the logs begin of rooms whose client is behind.
async fn floors(
    hub: &Rc<Hub>,
    rooms: &[(RoomId, Option<Seq>)],
    verdicts: &HashMap<RoomId, Verdict>,
) -> Result<HashMap<RoomId, Seq>, ApiError> {
    let is_behind = |(room, have): &&(RoomId, Option<Seq>)| {
        have.is_some_and(|have| verdicts.get(room).is_some_and(|verdict| verdict.member && have < verdict.head))
    };
    let behind: Vec<RoomId> = rooms.iter().filter(is_behind).map(|(room, _)| *room).collect();
    if behind.is_empty() {
        return Ok(HashMap::new());
    }
    let floors = reading::in_time(hub.node.store.floors(&behind)).await.map_err(storage_error)?;
    Ok(behind.into_iter().zip(floors).collect())
}

async fn stand(
    hub: &Rc<Hub>,
    seat: &Rc<Seat>,
    verdict: Verdict,
    standing: Standing,
    from: Seq,
    summary: Option<RoomSummary>,
) -> Result<(), ApiError> {
    metrics()
        .resumes_total
        .of(match standing {
            Standing::CatchUp => "catch_up",
            Standing::Joined => "joined",
            Standing::Left => "left",
            Standing::Resync => "resync",
        })
        .inc();
    seat.conn.roomy().await;
    seat.push(&Push::Room(RoomStanding { room: verdict.room, standing, from, head: verdict.head, summary: summary.map(Box::new) }));
    catch_up(hub, seat, verdict.room, from, verdict.head).await
}

/// A room that the user came into while this session is live. `seq`: the entry that says so (in channels: the head then).
pub async fn joined(hub: &Rc<Hub>, seat: &Rc<Seat>, room: RoomId, seq: Seq) -> Result<(), ApiError> {
    let node = &hub.node;
    hub.follow(&[room]);
    may_follow_again(seat, &[room]);
    let verdicts = node.router.attach(seat.user.get(), node.placement.me(), &[room]).await?;
    let Some(verdict) = verdicts.first().filter(|v| v.member) else { return Ok(()) };
    let summary = reading::summaries(node, seat.user.get(), &[room]).await.map_err(storage_error)?.pop();
    let from = match summary.as_ref().map(|s| s.kind) {
        Some(RoomKind::Channel) => seq,
        _ => seq.saturating_sub(1),
    };
    stand(hub, seat, *verdict, Standing::Joined, from.min(verdict.head), summary).await
}

/// Tells the sessions of a user, of this thread, of rooms that it is in and they do not follow: a word of it was lost.
pub async fn look_again(hub: &Rc<Hub>, user: UserId) -> Result<(), ApiError> {
    let node = &hub.node;
    let mine = reading::in_time(node.store.rooms_of(user, node.config.rooms.rooms_per_user_max)).await.map_err(storage_error)?;
    let followed = |room: &RoomId| hub.seats_of(user).iter().all(|seat| seat.rooms.borrow().contains(room));
    let missing: Vec<RoomId> = mine.into_iter().filter(|room| !followed(room)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let rows = reading::in_time(node.store.rooms(&missing)).await.map_err(storage_error)?;
    for row in rows.into_iter().flatten() {
        for seat in hub.seats_of(user).iter().filter(|seat| !seat.rooms.borrow().contains(&row.room)) {
            seat.addr.do_send(super::session::Event(UserEvent::Joined { room: row.room, seq: row.applied }));
        }
    }
    Ok(())
}

/// What was left before the owner is asked is the owner's to know; what is left from now on ends the catch-up.
fn may_follow_again(seat: &Seat, rooms: &[RoomId]) {
    let mut left = seat.left.borrow_mut();
    left.retain(|room| !rooms.contains(room));
}

/// A room that the user is no longer in.
pub fn left(room: RoomId, seq: Seq) -> Push {
    Push::Room(RoomStanding { room, standing: Standing::Left, from: seq, head: seq, summary: None })
}

/// Gives everything after `position` from the log until the feed can take over, at exactly that seq.
async fn catch_up(hub: &Rc<Hub>, seat: &Rc<Seat>, room: RoomId, mut position: Seq, as_of: Seq) -> Result<(), ApiError> {
    loop {
        if !seat.conn.is_open() {
            return Ok(());
        }
        match hub.attach(seat, room, position, as_of) {
            Attach::Done => return Ok(()),
            Attach::Lost => return Err(lost()),
            Attach::Behind(to) => position = give(hub, seat, room, position, to).await?,
            Attach::PutOut(end) => {
                while position < end {
                    position = give(hub, seat, room, position, end).await?;
                }
                return Ok(());
            }
        }
    }
}

/// One page of entries after `position` and up to `to`, in pushes of bounded size; waits for room in the outbox before each.
/// Gives the new position.
async fn give(hub: &Rc<Hub>, seat: &Rc<Seat>, room: RoomId, position: Seq, to: Seq) -> Result<Seq, ApiError> {
    let end = to.min(position + PAGE);
    let entries = reading::entries(&hub.node, room, position + 1, end).await.map_err(storage_error)?;
    if entries.first().is_none_or(|e| e.seq != position + 1) {
        // Purged since the client was told where it stands: it resumes, and is told again.
        return Err(ApiError::new(Code::Resync, "what the client misses is no longer kept; resume again"));
    }
    let mut entries: Vec<Entry> = entries.into_iter().map(Arc::unwrap_or_clone).collect();
    if crate::sabotage::is("resume_skips") && entries.len() > 1 {
        entries.remove(entries.len() / 2);
    }
    metrics().deliveries_total.inc_by(entries.len() as u64);
    while !entries.is_empty() {
        let rest = entries.split_off(reading::fitting(&entries, PUSH_BYTES));
        let more = !rest.is_empty() || end < to;
        seat.conn.roomy().await;
        seat.push(&Push::Entries(Entries { room, entries, more }));
        entries = rest;
    }
    Ok(end)
}
