//! Taking another store's rows in: everything is written so that the same again changes nothing, and no node serves from it before the end.

use super::calls::odd;
use super::log::time;
use super::rows::{RowWrite, all, slice_of};
use super::{Core, ScyllaStore};
use crate::protocol::ids::{Millis, RoomId, Seq, Shard, UserId, bucket_of};
use crate::storage::moving::{Kept, Receiving, RoomSum};
use crate::storage::records::{RecordWrite, Records, Way};
use crate::storage::{
    Append, ContactState, Cursors, Effect, EpochCell, LogRow, MessageLog, Ownership, Result, Rooms, Stamp, StorageError, Users,
};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};

/// What is being moved here, and whether that is done: one cell.
const KIND: &str = "store";
const MOVE: &[u8] = b"move";
const RUNNING: u8 = 1;
const DONE: u8 = 2;
/// The last worker slot that there may be: ids have ten bits for it.
const MAX_SLOT: u16 = 1_023;
/// Rows and bytes of one batch of log rows.
const BATCH_ROWS: usize = 200;
const BATCH_BYTES: usize = 512 * 1024;

fn note(state: u8, source: u128) -> Vec<u8> {
    [&[state][..], &source.to_be_bytes()].concat()
}

impl Core {
    /// Whether a store is being moved here and not all of it is there yet.
    pub(super) async fn is_receiving(&self) -> Result<bool> {
        Ok(self.cell(KIND, MOVE, b"").await?.is_some_and(|note| note.first() == Some(&RUNNING)))
    }

    async fn begin(&self, source: u128) -> Result<()> {
        let refuse = |why: &str| Err(StorageError::Failed(format!("keyspace {}: {why}", self.options.keyspace).into()));
        match self.cell_serial(KIND, MOVE, b"").await? {
            Some(there) if there == note(RUNNING, source) => return Ok(()),
            Some(there) if there == note(DONE, source) => return refuse("this store was moved here already"),
            Some(_) => return refuse("another store was moved here"),
            None => {}
        }
        let rooms = self.sliced(&self.statements.derived, super::rooms::ROOM, 0, 1).await?;
        let users = self.sliced(&self.statements.derived, super::users::USER_ID, 0, 1).await?;
        if !rooms.is_empty() || !users.is_empty() {
            return refuse("it holds rooms or accounts; move into an empty one");
        }
        if self.is_served().await? {
            return refuse("a node serves from it, or did a minute ago; stop it, and wait for a minute");
        }
        match self.set_cell(KIND, MOVE, b"", None, Some(&note(RUNNING, source))).await? {
            true => Ok(()),
            false => refuse("another store is being moved here"),
        }
    }

    /// Whether a node gives ids here: from its start on, each holds a worker slot until some time ahead.
    async fn is_served(&self) -> Result<bool> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis);
        let slots = all(0..=MAX_SLOT, |slot| async move { self.cell(super::ownership::WORKER, &slot.to_be_bytes(), b"").await });
        for held in slots.await?.into_iter().flatten() {
            if super::ownership::parse(&held)?.0 > now {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn done(&self, source: u128) -> Result<()> {
        match self.set_cell(KIND, MOVE, b"", Some(&note(RUNNING, source)), Some(&note(DONE, source))).await? {
            true => Ok(()),
            false => Err(StorageError::Failed("another has ended this move".into())),
        }
    }

    /// A cell that nobody else writes meanwhile.
    async fn settle(&self, kind: &str, part: &[u8], id: &[u8], value: &[u8]) -> Result<()> {
        for _ in 0..3 {
            let there = self.cell_serial(kind, part, id).await?;
            if there.as_deref() == Some(value) || self.set_cell(kind, part, id, there.as_deref(), Some(value)).await? {
                return Ok(());
            }
        }
        Err(odd("a cell that somebody else is writing while a store is moved"))
    }
}

impl ScyllaStore {
    /// Log rows of one bucket.
    async fn put_log(&self, room: RoomId, rows: Vec<LogRow>) -> Result<()> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let append = |rows| Append { room, shard: Shard(0), rows, mark_unapplied: false, new_bucket: false };
        for row in rows {
            if crate::sabotage::is("half_a_move") && row.seq % 16 == 0 {
                continue;
            }
            // A batch has each seq once.
            let again = batch.last().is_some_and(|last: &LogRow| last.seq >= row.seq);
            if !batch.is_empty() && (again || batch.len() == BATCH_ROWS || bytes + row.payload.len() > BATCH_BYTES) {
                self.append(append(std::mem::take(&mut batch))).await?;
                bytes = 0;
            }
            bytes += row.payload.len();
            batch.push(row);
        }
        self.append(append(batch)).await
    }

    async fn put_one(&self, kept: Kept, stamps: &HashMap<RoomId, Stamp>) -> Result<()> {
        let stamp = |room: &RoomId| stamps.get(room).copied().unwrap_or_default();
        let effect = |room: RoomId, effect: Effect| self.apply(room, Shard(0), stamp(&room), vec![effect], false);
        match kept {
            Kept::Mark(room, seq) => self.mark(room, seq).await,
            Kept::Bucket(room, bucket) => {
                let values = (i64::from(bucket), bucket as i32, room.0 as i64);
                self.run(move |core| async move { core.write(&core.statements.mark_bucket, values).await }).await
            }
            Kept::Floor(room, floor) => {
                let values = (floor as i64, floor as i64, room.0 as i64);
                self.run(move |core| async move { core.write(&core.statements.mark_floor, values).await }).await
            }
            Kept::Unapplied(shard, room) => {
                // What is applied from here on is at least what was applied there.
                let stamp = stamp(&room);
                self.run(move |core| async move { core.set_unapplied(shard, room, stamp, true).await }).await
            }
            Kept::Room(row) => effect(row.room, Effect::Room(row)).await,
            Kept::Member(room, row) => effect(room, Effect::Member(room, row)).await,
            Kept::Fold(room, seq, row) => effect(room, Effect::Fold(room, seq, row)).await,
            Kept::Mention(user, room, seq) => effect(room, Effect::Mention(user, room, seq)).await,
            Kept::Pin(room, seq) => effect(room, Effect::Pin(room, seq, true)).await,
            Kept::Direct(a, b, room) => match self.claim_direct(a, b, room).await? {
                there if there == room => Ok(()),
                _ => Err(odd("a pair that has another room")),
            },
            Kept::Creation(user, cid, room, hash) => {
                let cid = crate::protocol::ids::ClientId(uuid::Uuid::from_u128(cid));
                self.claim_creation(user, cid, room, hash).await.map(drop)
            }
            Kept::Cursor(user, room, cursor) => self.raise(user, room, cursor).await,
            Kept::User(row) => self.run(move |core| async move { core.put_user(row).await }).await,
            Kept::Device(row) => {
                let value = crate::storage::records::encode(&row);
                let (part, id) = (row.user.0.to_be_bytes(), row.device.0.to_be_bytes());
                self.run(move |core| async move { core.settle(super::users::DEVICE, &part, &id, &value).await }).await
            }
            Kept::Record { table, partition, key, version, value } => match table.way() {
                Way::Compared => self.run(move |core| async move { core.settle(table.name(), &partition, &key, &value).await }).await,
                Way::Versioned => self.put_records(table, &partition, vec![RecordWrite { key, version, value: Some(value) }]).await,
            },
            Kept::Worker(slot, until) => {
                let value = super::ownership::held(until, rand::random());
                self.run(move |core| async move {
                    match core.cell_serial(super::ownership::WORKER, &slot.to_be_bytes(), b"").await? {
                        Some(_) => Ok(()),
                        None => core.settle(super::ownership::WORKER, &slot.to_be_bytes(), b"", &value).await,
                    }
                })
                .await
            }
            // Both directions at once, and the epochs at the end.
            Kept::Contact(..) | Kept::Epoch(..) | Kept::Log(..) | Kept::Other => Ok(()),
        }
    }
}

#[async_trait]
impl Receiving for ScyllaStore {
    async fn begin(&self, source: u128) -> Result<()> {
        self.run(move |core| async move { core.begin(source).await }).await
    }

    async fn receive(&self, rows: Vec<Kept>, stamps: &HashMap<RoomId, Stamp>) -> Result<()> {
        let (mut logs, mut others): (BTreeMap<(RoomId, u32), Vec<LogRow>>, Vec<Kept>) = Default::default();
        for row in rows {
            match row {
                Kept::Log(room, row) => logs.entry((room, bucket_of(row.seq))).or_default().push(row),
                other => others.push(other),
            }
        }
        all(logs, |((room, _), rows)| self.put_log(room, rows)).await?;
        all(others, |kept| self.put_one(kept, stamps)).await.map(drop)
    }

    async fn contact(&self, a: UserId, b: UserId, a_to_b: Option<ContactState>, b_to_a: Option<ContactState>) -> Result<()> {
        if self.contact_states(a, &[b]).await? == [a_to_b] && self.contact_states(b, &[a]).await? == [b_to_a] {
            return Ok(());
        }
        self.set_contact(a, b, a_to_b, b_to_a).await
    }

    async fn sum(&self, room: RoomId, last: Seq) -> Result<RoomSum> {
        self.run(move |core| async move {
            let mut sum = RoomSum::default();
            for bucket in 0..=bucket_of(last) {
                for row in core.bucket_rows(room, bucket, 0, Seq::MAX).await? {
                    sum.add(room, &row);
                }
            }
            Ok(sum)
        })
        .await
    }

    async fn finish(&self, source: u128, epochs: &HashMap<u32, u64>) -> Result<()> {
        let mut raise: Vec<(Shard, u64)> = Vec::with_capacity(epochs.len());
        for (shard, above) in epochs {
            raise.push((Shard(*shard), *above));
        }
        all(raise, |(shard, above)| async move {
            let was = self.epoch(shard).await?;
            if was.epoch > above || self.raise_epoch(shard, was, EpochCell { epoch: above + 1, token: rand::random() }).await? {
                return Ok(());
            }
            Err(odd("an epoch that somebody else is raising while a store is moved"))
        })
        .await?;
        self.run(move |core| async move { core.done(source).await }).await
    }
}

impl Core {
    async fn put_user(&self, row: crate::storage::UserRow) -> Result<()> {
        let listed = RowWrite { id: row.user.0.to_be_bytes().to_vec(), stamp: time(Stamp::default()), value: Some(Vec::new()) };
        self.put_rows(&self.statements.derived, super::users::USER_ID, &slice_of(row.user.0), vec![listed]).await?;
        let claim = super::names::Claimed { user: row.user, first: None, token: 0 };
        self.settle(super::users::USER, &row.user.0.to_be_bytes(), b"", &super::names::Account::first(&row)).await?;
        self.settle(super::users::NAME, row.name.as_bytes(), b"", &crate::storage::records::encode(&claim)).await?;
        if row.last_seen > 0 { self.seen(row.user, row.last_seen).await } else { Ok(()) }
    }
}
