//! What was derived from the log, direct rooms and creations.

use super::log::time;
use super::rows::{RowWrite, all, number, pair, slice_of};
use super::{Core, ScyllaStore};
use crate::protocol::ids::{ClientId, RoomId, Seq, Shard, UserId, bucket_of};
use crate::storage::records::{decode, encode};
use crate::storage::{Effect, FoldRow, MemberRow, Result, RoomRow, Rooms, Stamp};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// Slice of the room → room: its row.
pub(super) const ROOM: &str = "room";
/// Room → user: a membership.
const MEMBER: &str = "member";
/// User → room: the rooms of a user.
const ROOM_OF: &str = "room_of";
/// Room and bucket → seq: what changed about a message.
pub(super) const FOLD: &str = "fold";
/// User and room → seq: a mention.
pub(super) const MENTION: &str = "mention";
/// Room → seq: a pinned message.
const PIN: &str = "pin";
/// Both users of a pair →: their room.
const DIRECT: &str = "direct";
/// User and client id →: the room that was made, and the hash of what was asked for.
const CREATION: &str = "creation";

/// The partition of a room's folds: as large as a bucket of its log.
pub(super) fn fold_part(room: RoomId, bucket: u32) -> Vec<u8> {
    [&room.0.to_be_bytes()[..], &bucket.to_be_bytes()].concat()
}

/// Where a row lies.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: &'static str,
    part: Vec<u8>,
}

/// What the effects write, the last word on each row only: with one stamp for all of them nothing else would order them.
#[derive(Default)]
struct Writes {
    rows: BTreeMap<Place, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    /// After all others.
    room: Option<RoomRow>,
}

impl Writes {
    fn put(&mut self, kind: &'static str, part: impl Into<Vec<u8>>, id: impl Into<Vec<u8>>, value: Option<Vec<u8>>) {
        self.rows.entry(Place { kind, part: part.into() }).or_default().insert(id.into(), value);
    }

    fn add(&mut self, effect: Effect) {
        match effect {
            Effect::Room(row) => self.room = Some(row),
            Effect::Member(room, row) => {
                let (room, user) = (room.0.to_be_bytes(), row.user.0.to_be_bytes());
                self.put(MEMBER, room, user, Some(encode(&row).to_vec()));
                self.put(ROOM_OF, user, room, row.role.map(|_| Vec::new()));
            }
            Effect::NoMember(room, user) => {
                let (room, user) = (room.0.to_be_bytes(), user.0.to_be_bytes());
                self.put(MEMBER, room, user, None);
                self.put(ROOM_OF, user, room, None);
            }
            Effect::Fold(room, seq, row) => self.put(FOLD, fold_part(room, bucket_of(seq)), seq.to_be_bytes(), Some(encode(&row).to_vec())),
            Effect::Mention(user, room, seq) => self.put(MENTION, pair(user.0, room.0), seq.to_be_bytes(), Some(Vec::new())),
            Effect::Pin(room, seq, on) => self.put(PIN, room.0.to_be_bytes(), seq.to_be_bytes(), on.then(Vec::new)),
        }
    }
}

impl Core {
    async fn apply(&self, room: RoomId, shard: Shard, stamp: Stamp, effects: Vec<Effect>, clear_unapplied: bool) -> Result<()> {
        let mut writes = Writes::default();
        effects.into_iter().for_each(|effect| writes.add(effect));
        let stamped = time(stamp);
        all(writes.rows, |(place, rows)| async move {
            let rows = rows.into_iter().map(|(id, value)| RowWrite { id, stamp: stamped, value }).collect();
            self.put_rows(&self.statements.derived, place.kind, &place.part, rows).await
        })
        .await?;
        if let Some(row) = writes.room {
            let write = RowWrite { id: row.room.0.to_be_bytes().to_vec(), stamp: stamped, value: Some(encode(&row).to_vec()) };
            self.put_rows(&self.statements.derived, ROOM, &slice_of(row.room.0), vec![write]).await?;
        }
        match clear_unapplied {
            true => self.set_unapplied(shard, room, stamp, false).await,
            false => Ok(()),
        }
    }

    async fn list_rooms(&self, after: RoomId, limit: usize) -> Result<Vec<RoomRow>> {
        let rows = self.sliced(&self.statements.derived, ROOM, after.0, limit).await?;
        rows.into_iter().map(|(_, row)| decode(&row)).collect()
    }

    async fn rooms(&self, rooms: Vec<RoomId>) -> Result<Vec<Option<RoomRow>>> {
        all(rooms, |room| async move { self.row(&self.statements.derived, ROOM, &slice_of(room.0), &room.0.to_be_bytes()).await }).await
    }

    async fn memberships(&self, user: UserId, rooms: Vec<RoomId>) -> Result<Vec<Option<MemberRow>>> {
        all(rooms, |room| async move { self.row(&self.statements.derived, MEMBER, &room.0.to_be_bytes(), &user.0.to_be_bytes()).await })
            .await
    }

    async fn members(&self, room: RoomId, after: UserId, limit: usize) -> Result<Vec<MemberRow>> {
        let (part, after) = (room.0.to_be_bytes(), after.0.to_be_bytes());
        let rows = self.raw_rows(&self.statements.derived, MEMBER, &part, Some(&after), limit).await?;
        rows.into_iter().map(|(_, row)| decode(&row)).collect()
    }

    async fn folds(&self, room: RoomId, seqs: Vec<Seq>) -> Result<Vec<Option<FoldRow>>> {
        all(seqs, |seq| async move { self.row(&self.statements.derived, FOLD, &fold_part(room, bucket_of(seq)), &seq.to_be_bytes()).await })
            .await
    }

    /// The numbers of the ids of a partition.
    async fn numbers(&self, kind: &'static str, part: &[u8], after: Option<u64>, limit: usize) -> Result<Vec<u64>> {
        let after = after.map(u64::to_be_bytes);
        let rows = self.raw_rows(&self.statements.derived, kind, part, after.as_ref().map(|after| &after[..]), limit).await?;
        rows.iter().map(|(id, _)| number(id)).collect()
    }
}

#[async_trait]
impl Rooms for ScyllaStore {
    async fn apply(&self, room: RoomId, shard: Shard, stamp: Stamp, effects: Vec<Effect>, clear_unapplied: bool) -> Result<()> {
        self.run(move |core| async move { core.apply(room, shard, stamp, effects, clear_unapplied).await }).await
    }
    async fn apply_durably(&self, room: RoomId, shard: Shard, stamp: Stamp, effects: Vec<Effect>) -> Result<()> {
        self.run(move |core| async move { core.apply(room, shard, stamp, effects, false).await }).await
    }
    async fn list_rooms(&self, after: RoomId, limit: usize) -> Result<Vec<RoomRow>> {
        self.run(move |core| async move { core.list_rooms(after, limit).await }).await
    }
    async fn rooms(&self, rooms: &[RoomId]) -> Result<Vec<Option<RoomRow>>> {
        let rooms = rooms.to_vec();
        self.run(move |core| async move { core.rooms(rooms).await }).await
    }
    async fn memberships(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<Option<MemberRow>>> {
        let rooms = rooms.to_vec();
        self.run(move |core| async move { core.memberships(user, rooms).await }).await
    }
    async fn members(&self, room: RoomId, after: UserId, limit: usize) -> Result<Vec<MemberRow>> {
        self.run(move |core| async move { core.members(room, after, limit).await }).await
    }
    async fn rooms_of(&self, user: UserId, limit: usize) -> Result<Vec<RoomId>> {
        let rooms = self.run(move |core| async move { core.numbers(ROOM_OF, &user.0.to_be_bytes(), None, limit).await }).await?;
        Ok(rooms.into_iter().map(RoomId).collect())
    }
    async fn folds(&self, room: RoomId, seqs: &[Seq]) -> Result<Vec<Option<FoldRow>>> {
        let seqs = seqs.to_vec();
        self.run(move |core| async move { core.folds(room, seqs).await }).await
    }
    async fn pins(&self, room: RoomId, after: Seq, limit: usize) -> Result<Vec<Seq>> {
        self.run(move |core| async move { core.numbers(PIN, &room.0.to_be_bytes(), Some(after), limit).await }).await
    }
    async fn mentions(&self, user: UserId, room: RoomId, after: Seq, limit: usize) -> Result<u64> {
        let seqs = self.run(move |core| async move { core.numbers(MENTION, &pair(user.0, room.0), Some(after), limit).await }).await?;
        Ok(seqs.len() as u64)
    }
    async fn claim_direct(&self, a: UserId, b: UserId, room: RoomId) -> Result<RoomId> {
        let part = pair(a.0.min(b.0), a.0.max(b.0));
        self.run(move |core| async move { Ok(RoomId(number(&core.claim(DIRECT, &part, &room.0.to_be_bytes()).await?)?)) }).await
    }
    async fn claim_creation(&self, user: UserId, cid: ClientId, room: RoomId, hash: u64) -> Result<(RoomId, u64)> {
        let part = [&user.0.to_be_bytes()[..], &cid.0.as_u128().to_be_bytes()].concat();
        self.run(move |core| async move {
            let there = core.claim(CREATION, &part, &pair(room.0, hash)).await?;
            let (room, hash) = there.split_at_checked(8).ok_or_else(|| super::calls::odd("a creation"))?;
            Ok((RoomId(number(room)?), number(hash)?))
        })
        .await
    }
}
