//! What was derived from the log, direct rooms and creations, and cursors.

use super::{EmbeddedStore, codec, writer::Tx};
use crate::protocol::ids::{ClientId, RoomId, Seq, Shard, UserId};
use crate::storage::{CursorRow, Cursors, Effect, FoldRow, MemberRow, Result, RoomRow, Rooms, Stamp};
use async_trait::async_trait;

/// About what an effect takes, for the bound of what waits.
fn bytes_of(effect: &Effect) -> usize {
    match effect {
        Effect::Room(row) => 256 + row.name.len() + row.topic.len(),
        Effect::Fold(_, _, row) => {
            let reactions: usize = row.reactions.iter().map(|(emoji, who)| emoji.len() + 9 * who.len()).sum();
            256 + row.edit.as_ref().map_or(0, |e| e.1.len()) + reactions
        }
        _ => 128,
    }
}

fn carry_out(tx: &mut Tx<'_>, effect: Effect) {
    match effect {
        Effect::Room(row) => tx.put(codec::room(row.room), &row),
        Effect::Member(room, row) => {
            tx.put(codec::member(room, row.user), &row);
            match row.role {
                Some(_) => tx.put(codec::room_of(row.user, room), &()),
                None => tx.remove(codec::room_of(row.user, room)),
            }
        }
        Effect::NoMember(room, user) => {
            tx.remove(codec::member(room, user));
            tx.remove(codec::room_of(user, room));
        }
        Effect::Fold(room, seq, row) => tx.put(codec::fold(room, seq), &row),
        Effect::Mention(user, room, seq) => tx.put(codec::mention(user, room, seq), &()),
        Effect::Pin(room, seq, true) => tx.put(codec::pin(room, seq), &()),
        Effect::Pin(room, seq, false) => tx.remove(codec::pin(room, seq)),
    }
}

#[async_trait]
impl Rooms for EmbeddedStore {
    // One process and one thread write here, in order: there is no late write that a stamp would have to hold off.
    async fn apply(&self, room: RoomId, shard: Shard, _: Stamp, effects: Vec<Effect>, clear_unapplied: bool) -> Result<()> {
        let bytes = effects.iter().map(bytes_of).sum();
        let work = move |tx: &mut Tx<'_>| {
            for effect in effects {
                carry_out(tx, effect);
            }
            if clear_unapplied {
                tx.remove(codec::unapplied(shard, room));
            }
            Ok(())
        };
        self.shared.write(false, bytes, work).await
    }

    async fn apply_durably(&self, _: RoomId, _: Shard, _: Stamp, effects: Vec<Effect>) -> Result<()> {
        let bytes = effects.iter().map(bytes_of).sum();
        let work = move |tx: &mut Tx<'_>| {
            for effect in effects {
                carry_out(tx, effect);
            }
            Ok(())
        };
        self.shared.write(true, bytes, work).await
    }

    async fn list_rooms(&self, after: RoomId, limit: usize) -> Result<Vec<RoomRow>> {
        self.read(move |view| {
            let rows = view.list(&codec::all_rooms(), Some(after.0), limit)?;
            Ok(rows.into_iter().map(|(_, row)| row).collect())
        })
        .await
    }

    async fn rooms(&self, rooms: &[RoomId]) -> Result<Vec<Option<RoomRow>>> {
        let keys: Vec<_> = rooms.iter().map(|r| codec::room(*r)).collect();
        self.read(move |view| keys.iter().map(|k| view.get(k)).collect()).await
    }

    async fn memberships(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<Option<MemberRow>>> {
        let keys: Vec<_> = rooms.iter().map(|r| codec::member(*r, user)).collect();
        self.read(move |view| keys.iter().map(|k| view.get(k)).collect()).await
    }

    async fn members(&self, room: RoomId, after: UserId, limit: usize) -> Result<Vec<MemberRow>> {
        self.read(move |view| {
            let rows = view.list(&codec::room_members(room), Some(after.0), limit)?;
            Ok(rows.into_iter().map(|(_, row)| row).collect())
        })
        .await
    }

    async fn rooms_of(&self, user: UserId, limit: usize) -> Result<Vec<RoomId>> {
        self.read(move |view| {
            let rows = view.list::<()>(&codec::rooms_of(user), None, limit)?;
            Ok(rows.into_iter().map(|(room, ())| RoomId(room)).collect())
        })
        .await
    }

    async fn folds(&self, room: RoomId, seqs: &[Seq]) -> Result<Vec<Option<FoldRow>>> {
        let keys: Vec<_> = seqs.iter().map(|s| codec::fold(room, *s)).collect();
        self.read(move |view| keys.iter().map(|k| view.get(k)).collect()).await
    }

    async fn pins(&self, room: RoomId, after: Seq, limit: usize) -> Result<Vec<Seq>> {
        self.read(move |view| {
            let rows = view.list::<()>(&codec::pins(room), Some(after), limit)?;
            Ok(rows.into_iter().map(|(seq, ())| seq).collect())
        })
        .await
    }

    async fn mentions(&self, user: UserId, room: RoomId, after: Seq, limit: usize) -> Result<u64> {
        self.read(move |view| Ok(view.list::<()>(&codec::mentions(user, room), Some(after), limit)?.len() as u64)).await
    }

    async fn claim_direct(&self, a: UserId, b: UserId, room: RoomId) -> Result<RoomId> {
        let work = move |tx: &mut Tx<'_>| {
            let key = codec::direct(a, b);
            if let Some(there) = tx.get::<RoomId>(&key)? {
                return Ok(there);
            }
            tx.put(key, &room);
            Ok(room)
        };
        self.shared.write(true, 64, work).await
    }

    async fn claim_creation(&self, user: UserId, cid: ClientId, room: RoomId, hash: u64) -> Result<(RoomId, u64)> {
        let work = move |tx: &mut Tx<'_>| {
            let key = codec::creation(user, cid.0.as_u128());
            if let Some(there) = tx.get::<(RoomId, u64)>(&key)? {
                return Ok(there);
            }
            tx.put(key, &(room, hash));
            Ok((room, hash))
        };
        self.shared.write(true, 64, work).await
    }
}

#[async_trait]
impl Cursors for EmbeddedStore {
    async fn raise(&self, user: UserId, room: RoomId, cursor: CursorRow) -> Result<()> {
        let work = move |tx: &mut Tx<'_>| {
            let key = codec::cursor(user, room);
            let was = tx.get::<CursorRow>(&key)?.unwrap_or_default();
            // `read_n` belongs to the `read` it came with.
            let (read, read_n) = if cursor.read > was.read { (cursor.read, cursor.read_n) } else { (was.read, was.read_n) };
            let now = CursorRow { read, read_n, delivered: was.delivered.max(cursor.delivered) };
            if now != was {
                tx.put(key, &now);
            }
            Ok(())
        };
        self.shared.write(false, 64, work).await
    }

    async fn cursors(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<CursorRow>> {
        let keys: Vec<_> = rooms.iter().map(|r| codec::cursor(user, *r)).collect();
        self.read(move |view| keys.iter().map(|k| Ok(view.get(k)?.unwrap_or_default())).collect()).await
    }
}
