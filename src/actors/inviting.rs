//! Invite links: who has one may come into a room, as often as its maker allowed, until it is over or revoked.
//!
//! A link is a record that is changed by compare-and-set only, so it is never used more often than `uses_max`, whoever comes at once:
//! a use is taken before the room is asked, and given back when the room says no. Where it is not known what the room did the use
//! stays taken: rather one too few than one too many. The room has the last word ([`RoomLog::admit`](crate::protocol::roomlog::RoomLog::admit)):
//! a link is worth what its maker may do at that time, and its entry says whose link it was.
//! A link that is over, revoked, used up, or of a room that is archived looks like one that never was.

use super::answering;
use super::looking::{Seen, see, see_if};
use super::node::{NodeContext, now_ms};
use super::reading::in_time;
use super::room::{RoomMsg, storage_error};
use super::router::{Reply, lost};
use crate::error::{ApiError, Code};
use crate::protocol::entry::{Role, RoomKind};
use crate::protocol::ids::{ClientId, Millis, RoomId, UserId};
use crate::protocol::policy::Act;
use crate::protocol::roomlog::{Link, no_invite};
use crate::storage::records::{decode, encode};
use crate::storage::{ContactState, Table};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

type Result<T> = std::result::Result<T, ApiError>;

/// Links of a room at most.
const LINKS_MAX: usize = 100;
/// Writes of one link that may collide before who comes is told to try again.
const TRIES: usize = 200;
/// All links lie in one partition: a link is found by its code alone.
const ALL: &[u8] = b"";
/// Bytes of a code, before they are written as text.
const CODE_BYTES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    room: RoomId,
    by: UserId,
    role: Role,
    created: Millis,
    #[serde(default)]
    expires: Option<Millis>,
    uses: u32,
    #[serde(default)]
    uses_max: Option<u32>,
}

impl Kept {
    fn is_over(&self, now: Millis) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
    fn is_used_up(&self) -> bool {
        self.uses_max.is_some_and(|max| self.uses >= max)
    }
}

/// What is wanted of a new link.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The role of those who come by it.
    pub role: Role,
    /// How long it is good, milliseconds; none: until it is revoked.
    pub lasts: Option<Millis>,
    /// How many may come by it; none: any number.
    pub uses_max: Option<u32>,
    /// The client id of the request: the same again gives the same link.
    pub cid: ClientId,
}

/// A link as those see it who may have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LinkShown {
    /// What makes it a link: 128 random bits.
    pub code: String,
    /// The room.
    pub room: RoomId,
    /// Who made it.
    pub by: UserId,
    /// The role of those who come by it.
    pub role: Role,
    /// When it was made.
    pub created: Millis,
    /// When it is over; absent: when it is revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Millis>,
    /// How many came by it.
    pub uses: u32,
    /// How many may; absent: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses_max: Option<u32>,
}

fn shown(code: String, kept: Kept) -> LinkShown {
    let Kept { room, by, role, created, expires, uses, uses_max } = kept;
    LinkShown { code, room, by, role, created, expires, uses, uses_max }
}

/// Makes a link. Who may bring somebody in in that role may make one for it.
pub async fn create(node: &NodeContext, user: UserId, room: RoomId, wanted: Wanted) -> Result<LinkShown> {
    see_if(node, user, room, Act::Invite { as_role: wanted.role }).await?;
    let links = of_room(node, room).await?;
    if let Some((code, _, kept)) = links.iter().find(|(_, cid, kept)| *cid == wanted.cid && kept.by == user) {
        return Ok(shown(code.clone(), kept.clone()));
    }
    if links.len() >= LINKS_MAX {
        return Err(ApiError::new(Code::Conflict, format!("a room has at most {LINKS_MAX} invite links; revoke one first")));
    }
    let code = BASE64.encode(rand::random::<[u8; CODE_BYTES]>());
    let now = now_ms();
    let expires = wanted.lasts.map(|ms| now.saturating_add(ms));
    let kept = Kept { room, by: user, role: wanted.role, created: now, expires, uses: 0, uses_max: wanted.uses_max };
    // The room's list first: a link that no list names could not be revoked.
    put(node, Table::RoomInvite, &room.0.to_be_bytes(), &code, None, Some(encode(&wanted.cid))).await?;
    put(node, Table::Invite, ALL, &code, None, Some(encode(&kept))).await?;
    Ok(shown(code, kept))
}

async fn put(node: &NodeContext, table: Table, partition: &[u8], code: &str, was: Option<Bytes>, now: Option<Bytes>) -> Result<bool> {
    in_time(node.store.replace_record(table, partition, code.as_bytes(), was, now)).await.map_err(storage_error)
}

/// The room's links with the client ids that made them. Those that are over are removed on the way.
async fn of_room(node: &NodeContext, room: RoomId) -> Result<Vec<(String, ClientId, Kept)>> {
    let partition = room.0.to_be_bytes();
    let rows = in_time(node.store.records(Table::RoomInvite, &partition, None, LINKS_MAX)).await.map_err(storage_error)?;
    let mut links = Vec::with_capacity(rows.len());
    for (code, cid) in rows {
        let Ok(code) = String::from_utf8(code) else { continue };
        match find(node, &code).await? {
            Some((_, kept)) if !kept.is_over(now_ms()) => links.push((code, decode(&cid).map_err(storage_error)?, kept)),
            over => {
                if let Some((bytes, _)) = over {
                    put(node, Table::Invite, ALL, &code, Some(bytes), None).await?;
                }
                put(node, Table::RoomInvite, &partition, &code, Some(cid), None).await?;
            }
        }
    }
    links.sort_by_key(|(_, _, kept)| kept.created);
    Ok(links)
}

async fn find(node: &NodeContext, code: &str) -> Result<Option<(Bytes, Kept)>> {
    // What cannot be a code is not looked for.
    if BASE64.decode(code).map_or(0, |bytes| bytes.len()) != CODE_BYTES {
        return Ok(None);
    }
    let Some(bytes) = in_time(node.store.record(Table::Invite, ALL, code.as_bytes())).await.map_err(storage_error)? else {
        return Ok(None);
    };
    let kept = decode(&bytes).map_err(storage_error)?;
    Ok(Some((bytes, kept)))
}

/// The room's links, oldest first: one's own, and all for who may manage them.
pub async fn list(node: &NodeContext, user: UserId, room: RoomId) -> Result<Vec<LinkShown>> {
    let all = see_if(node, user, room, Act::Read).await?.may(Act::ManageLinks).is_ok();
    let links = of_room(node, room).await?.into_iter();
    Ok(links.filter(|(_, _, kept)| all || kept.by == user).map(|(code, _, kept)| shown(code, kept)).collect())
}

/// Ends a link: one's own, or any for who may manage them.
pub async fn revoke(node: &NodeContext, user: UserId, room: RoomId, code: &str) -> Result<()> {
    let all = see_if(node, user, room, Act::Read).await?.may(Act::ManageLinks).is_ok();
    for _ in 0..TRIES {
        let Some((bytes, kept)) = find(node, code).await?.filter(|(_, k)| k.room == room && (all || k.by == user)) else {
            return Err(no_invite());
        };
        if put(node, Table::Invite, ALL, code, Some(bytes), None).await? {
            let partition = kept.room.0.to_be_bytes();
            let listed = in_time(node.store.record(Table::RoomInvite, &partition, code.as_bytes())).await.map_err(storage_error)?;
            put(node, Table::RoomInvite, &partition, code, listed, None).await?;
            return Ok(());
        }
    }
    Err(contended())
}

fn contended() -> ApiError {
    ApiError::after(Code::Busy, "many come by this link just now; try again", Duration::from_millis(500))
}

/// What a link leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Preview {
    /// The room.
    pub room: RoomId,
    /// Its kind.
    pub kind: RoomKind,
    /// Its name.
    pub name: String,
    /// What it is about.
    pub topic: String,
    /// How many are in it.
    pub members: u64,
    /// Who made the link.
    pub by: UserId,
}

/// What a link leads to, for who has it.
pub async fn preview(node: &NodeContext, user: UserId, code: &str) -> Result<Preview> {
    let (kept, Seen { row, .. }) = good(node, user, code).await?;
    Ok(Preview { room: row.room, kind: row.kind, name: row.name, topic: row.topic, members: row.members, by: kept.by })
}

/// A link that is good for this user, as far as can be told before the room is asked.
async fn good(node: &NodeContext, user: UserId, code: &str) -> Result<(Kept, Seen)> {
    let (_, kept) = find(node, code).await?.filter(|(_, kept)| !kept.is_over(now_ms())).ok_or_else(no_invite)?;
    let seen = see(node, user, kept.room).await.map_err(|_| no_invite())?;
    let is_member = seen.may(Act::Read).is_ok();
    let maker = in_time(node.store.contact_states(kept.by, &[user])).await.map_err(storage_error)?.pop().flatten();
    let shut = seen.row.archived || kept.is_used_up() || maker == Some(ContactState::Blocked);
    let banned = seen.place.standing == crate::protocol::policy::Standing::Banned;
    if banned || (shut && !is_member) { Err(no_invite()) } else { Ok((kept, seen)) }
}

/// Comes in by a link, or is in already. Gives the room.
pub async fn accept(node: &NodeContext, user: UserId, code: &str) -> Result<RoomId> {
    let (kept, seen) = good(node, user, code).await?;
    if seen.may(Act::Read).is_ok() {
        return Ok(kept.room);
    }
    answering::has_room(node, user, "you are in as many rooms as one may be").await?;
    let link = use_once(node, code).await?;
    let (reply, answer) = Reply::task();
    let by = Link { by: link.by, role: link.role };
    node.router.to_room(link.room, RoomMsg::Admit { user, link: by, reply });
    let limit = Duration::from_millis(node.config.socket.request_timeout_ms);
    let answered = match tokio::time::timeout(limit, answer).await {
        Ok(answered) => answered.unwrap_or_else(|_| Err(lost())),
        Err(_) => Err(answering::too_slow()),
    };
    match answered {
        Ok(answer) if answer.seq.is_some() || answer.room.is_some() => Ok(link.room),
        // In already, by another way and at the same time.
        Ok(_) => give_back(node, code).await.map(|()| link.room),
        Err(error) if matches!(error.code, Code::Unknown | Code::Unavailable | Code::Timeout) => Err(error),
        Err(error) => {
            give_back(node, code).await?;
            Err(error)
        }
    }
}

/// Takes one use of a link, if one is left.
async fn use_once(node: &NodeContext, code: &str) -> Result<Kept> {
    for _ in 0..TRIES {
        let Some((bytes, kept)) = find(node, code).await? else { return Err(no_invite()) };
        if kept.is_over(now_ms()) || kept.is_used_up() {
            return Err(no_invite());
        }
        let next = Kept { uses: kept.uses.saturating_add(1), ..kept };
        if put(node, Table::Invite, ALL, code, Some(bytes), Some(encode(&next))).await? {
            return Ok(next);
        }
    }
    Err(contended())
}

/// Gives a use back that brought nobody in.
async fn give_back(node: &NodeContext, code: &str) -> Result<()> {
    for _ in 0..TRIES {
        // Revoked meanwhile: nothing is left to give back to.
        let Some((bytes, kept)) = find(node, code).await? else { return Ok(()) };
        let next = Kept { uses: kept.uses.saturating_sub(1), ..kept };
        if put(node, Table::Invite, ALL, code, Some(bytes), Some(encode(&next))).await? {
            return Ok(());
        }
    }
    Err(contended())
}
