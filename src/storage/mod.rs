//! What is kept: traits by noun, their contracts, and the backends that fulfil them.
//!
//! Every promise in a trait's documentation has a test in [`conformance`], which every backend passes. Nothing above this
//! module knows which backend it runs on. All of them are asynchronous; none blocks the caller's thread.
//!
//! Keys, epochs and record versions are the same in every backend, so that rows can be copied from one to another as they are.

use crate::config::{Config, StorageKind};
use crate::protocol::entry::{Entry, Role, RoomKind};
use crate::protocol::ids::{ClientId, DeviceId, Epoch, MessageId, Millis, RoomId, Seq, Shard, UserId};
use crate::protocol::policy::{Place, Standing};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

pub mod conformance;
pub mod copying;
pub mod derive;
pub mod directory;
pub mod embedded;
pub mod joining;
pub mod moving;
pub mod record;
pub mod records;
pub mod retention;
pub mod scylla;
pub mod tailing;

pub use records::{RecordWrite, Records, Table};

/// Why a storage call did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// Nothing was written and nothing will be: too much is waiting. Try later.
    #[error("store busy: {0}")]
    Busy(&'static str),
    /// Nothing was written: this node may not write the shard, or not yet. Whoever may is found by asking again.
    #[error("not the shard's owner: {0}")]
    NotOwner(&'static str),
    /// Nothing was written: the store refuses writes until its fault is gone. Reads go on.
    #[error("store refuses writes: {0}")]
    ReadOnly(Arc<str>),
    /// Nothing was written: the configured quota of disk space is used up.
    #[error("disk quota used up: {used} of {quota} bytes")]
    Quota {
        /// Bytes used.
        used: u64,
        /// Bytes allowed.
        quota: u64,
    },
    /// The outcome is not known: the write may or may not be, or become, durable (ownership rule 7).
    #[error("outcome unknown: {0}")]
    InDoubt(Arc<str>),
    /// What was read fails its checksum or is not a record of a known version.
    #[error("damaged record: {0}")]
    Damaged(Arc<str>),
    /// Nothing was written, or nothing could be read: the store cannot be reached now. Try later.
    #[error("store cannot be reached: {0}")]
    Down(Arc<str>),
    /// The store could not read, or is closed.
    #[error("store failed: {0}")]
    Failed(Arc<str>),
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The embedded one.
    #[error(transparent)]
    Embedded(#[from] embedded::OpenError),
    /// The cluster's.
    #[error(transparent)]
    Scylla(#[from] scylla::OpenError),
}

/// Opens the store that is configured. Blocks: for threads that may, outside of any runtime.
pub fn open(config: &Config) -> std::result::Result<Arc<dyn Store>, OpenError> {
    Ok(match config.storage.kind {
        StorageKind::Embedded => embedded::EmbeddedStore::open(&config.storage.data_dir, (&config.storage).into())?,
        StorageKind::Scylla => scylla::ScyllaStore::open_blocking(scylla::ScyllaOptions::of(&config.storage, &config.scylla))?,
    })
}

/// Result of a storage call.
pub type Result<T> = std::result::Result<T, StorageError>;

/// A row of the log, as stored under ((room, bucket of seq), seq, epoch). `payload` is never re-encoded, so that
/// an entry that is written again under another epoch stays the same byte for byte (ownership rule 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// The seq.
    pub seq: Seq,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// The head that the writer had checked when it wrote this row (rules 5 and 8).
    pub committed: Seq,
    /// The encoded entry (`record::encode_entry`).
    pub payload: Bytes,
}

/// An atomic append to one partition of a room's log.
#[derive(Clone, Debug)]
pub struct Append {
    /// The room.
    pub room: RoomId,
    /// Its shard, for what the store keeps per shard.
    pub shard: Shard,
    /// Rows of one bucket, in ascending seq.
    pub rows: Vec<LogRow>,
    /// The room had nothing unapplied before this: the store notes it in the same atomic write, so that
    /// [`MessageLog::unapplied`] finds the room after a crash.
    pub mark_unapplied: bool,
    /// This batch begins the bucket: the room's bucket pointer is raised to it first (rule 13).
    pub new_bucket: bool,
}

/// What [`MessageLog::tail`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The largest `committed` seen on any row or on the room's marker: the base of rule 3.
    pub base: Seq,
    /// All rows with seq >= base, every epoch, ascending by (seq, epoch).
    pub rows: Vec<LogRow>,
}

/// Where a room's log ends, as far as the store tells without the room's owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The largest committed head that is stored: everything up to it may be shown (rule 8).
    pub head: Seq,
    /// The highest seq that any row has, at least `head`. Rows tell of the head before them: what lies above `head` may be committed and
    /// acknowledged or not, and only an owner finds out.
    pub top: Seq,
}

/// What [`MessageLog::purge`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// The room's floor after it.
    pub floor: Seq,
    /// Rows removed.
    pub rows: usize,
    /// There are more to remove.
    pub more: bool,
}

/// The message log: what happened in rooms.
#[async_trait]
pub trait MessageLog: Send + Sync + 'static {
    /// Writes all rows or none. When it answers `Ok` they are durable: they survive the end of the process and of the power.
    /// Appends of many rooms share one flush to the device (group commit). `ReadOnly`, `Quota` and `Busy` promise that nothing was
    /// written; `InDoubt` means that only the same rows again, or a new epoch, are safe (rule 7). Rows of the same key with
    /// the same content are not an error.
    async fn append(&self, append: Append) -> Result<()>;

    /// All rows of `from..=to`, every epoch, ascending by (seq, epoch), by seq range and not by count (rule 9). At most 4,096 seqs.
    /// Sees every append that answered `Ok` before the call. Fails rather than leave out a row that it cannot read.
    async fn rows(&self, room: RoomId, from: Seq, to: Seq) -> Result<Vec<LogRow>>;

    /// What a takeover reads: the base and everything from it upward (rules 3 and 13).
    async fn tail(&self, room: RoomId) -> Result<Tail>;

    /// Where each room's log ends, without its owner's help; zeros for a room without rows.
    async fn ends(&self, rooms: &[RoomId]) -> Result<Vec<LogEnd>>;

    /// Raises the room's marker to `committed`: a max-register, never lowered.
    async fn mark(&self, room: RoomId, committed: Seq) -> Result<()>;

    /// Removes the room's oldest rows with a seq below `below` and below the room's base (rule 15), at most about `rows_max` and only whole seqs,
    /// and with them what was derived from their messages (folds, mentions). The room's **floor**, the first seq that is still there, is
    /// raised in the same atomic write: a reader sees either the rows or a floor above them. Durable with the next append; until then
    /// it may be undone by a crash, and is done again. Rows that were appended at once may be kept together while some of them are to be kept.
    async fn purge(&self, room: RoomId, below: Seq, rows_max: usize) -> Result<Purged>;

    /// The floor of each room: 1 unless something was purged. Never falls.
    async fn floors(&self, rooms: &[RoomId]) -> Result<Vec<Seq>>;

    /// Rooms of the shards that may have entries which the applier has not carried out; all shards when `None`.
    async fn unapplied(&self, shard: Option<Shard>) -> Result<Vec<RoomId>>;
}

/// The epoch cell of a shard (ownership rule 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EpochCell {
    /// Grows by one with every change of owner.
    pub epoch: u64,
    /// Random; whose compare-and-set it was.
    pub token: u128,
}

/// Who may write, and the store's other compare-and-set cells.
#[async_trait]
pub trait Ownership: Send + Sync + 'static {
    /// The number of shards this store was created with.
    fn shards(&self) -> u32;
    /// Whether other processes may change the cells. Not where a lock keeps them out: then what was owned once is owned.
    fn is_shared(&self) -> bool {
        true
    }
    /// The shard's cell, as a quorum sees it. A missing cell is `EpochCell::default()`.
    async fn epoch(&self, shard: Shard) -> Result<EpochCell>;
    /// Writes `next` if the cell still equals `was`; true only when *this* call did. Durable when it answers.
    /// After an error the caller does not know, and forgets the token of `next` (rule 1).
    async fn raise_epoch(&self, shard: Shard, was: EpochCell, next: EpochCell) -> Result<bool>;
    /// Takes a sequencer's worker slot that nobody holds (rule 14), or renews it: when the slot's row is absent, is over (`until <= now`)
    /// or carries `token`, it becomes (token, until). Returns the row as it was before when taken, `None` when somebody else holds it.
    async fn take_worker(&self, slot: u16, token: u128, now: Millis, until: Millis) -> Result<Option<Millis>>;
}

/// A room's settings and counters, as derived from its log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RoomRow {
    /// The room.
    pub room: RoomId,
    /// Its kind.
    pub kind: RoomKind,
    /// Name.
    pub name: String,
    /// Topic.
    pub topic: String,
    /// The two users of a direct room, smaller id first.
    pub pair: Option<(UserId, UserId)>,
    /// Members.
    pub members: u64,
    /// Members who are owners.
    #[serde(default)]
    pub owners: u64,
    /// Everything up to this seq is applied: this row, membership, folded bodies, mentions (rule 11).
    pub applied: Seq,
    /// What follows from entries outside the room (pushes, webhooks) is written down up to this seq. None: by a build that knew nothing of it.
    #[serde(default)]
    pub followed: Option<Seq>,
    /// Messages up to `applied`.
    pub n: u64,
    /// When the entry at `applied` was numbered.
    pub at: Millis,
    /// The newest message at or before `applied`; 0 for none.
    pub last_message: Seq,
    /// Seconds of slow mode; 0: none.
    #[serde(default)]
    pub slow_mode_s: u32,
    /// Nobody writes.
    #[serde(default)]
    pub archived: bool,
    /// Not in the directory of channels.
    #[serde(default)]
    pub unlisted: bool,
    /// How often this row was written since `applied` last grew: subscriptions, and what `followed` says. See [`Stamp`].
    #[serde(default)]
    pub turn: u32,
}

impl RoomRow {
    /// What orders this row, and all that was derived with it, among the room's other derived rows.
    pub fn stamp(&self) -> Stamp {
        Stamp::new(self.applied, self.turn)
    }
    /// The row is about to be written again without a new entry.
    pub fn take_turn(&mut self) {
        self.turn = self.turn.saturating_add(1).min(Stamp::TURN_MAX);
    }
}

/// Orders the writes of a room's derived rows, for stores in which a late one may land after an earlier one (ownership rule 11): first by
/// what was applied, then by the turn within it. A clock has no part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp(u64);

impl Stamp {
    const TURN_BITS: u32 = 20;
    /// Turns within one `applied`; further ones share this, and then a removal wins.
    pub const TURN_MAX: u32 = (1 << Self::TURN_BITS) - 1;

    /// Joins both.
    pub fn new(applied: Seq, turn: u32) -> Stamp {
        Stamp(applied.saturating_mul(1 << Self::TURN_BITS) | u64::from(turn.min(Self::TURN_MAX)))
    }
    /// As one number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A membership, as derived from the log (in channels: as the room's owner wrote it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemberRow {
    /// The member.
    pub user: UserId,
    /// Its role; `None` for who is no member: a banned user, or one who is `out`.
    pub role: Option<Role>,
    /// The seq at which this became so.
    pub seq: Seq,
    /// Until when the user may not write; 0: it may.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub muted_until: Millis,
    /// Neither member nor banned: a row that is kept because a mute goes on when its user leaves and comes back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out: bool,
}

fn is_zero(n: &Millis) -> bool {
    *n == 0
}

impl MemberRow {
    /// A place in a room as a row; none where there is nothing to keep of it at `now`.
    pub fn of(user: UserId, place: Place, seq: Seq, now: Millis) -> Option<MemberRow> {
        let row = |role, out| Some(MemberRow { user, role, seq, muted_until: place.muted_until, out });
        match place.standing {
            Standing::Member(role) => row(Some(role), false),
            Standing::Banned => row(None, false),
            Standing::Stranger if place.is_muted(now) => row(None, true),
            Standing::Stranger => None,
        }
    }

    /// The place that it says.
    pub fn place(&self) -> Place {
        let standing = match (self.role, self.out) {
            (Some(role), _) => Standing::Member(role),
            (None, false) => Standing::Banned,
            (None, true) => Standing::Stranger,
        };
        Place { standing, muted_until: self.muted_until }
    }

    /// Whether it is a ban.
    pub fn is_ban(&self) -> bool {
        self.role.is_none() && !self.out
    }
}

/// What changed about one message after it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FoldRow {
    /// The newest edit's seq, text and mentions.
    pub edit: Option<(Seq, String, Vec<UserId>)>,
    /// The deletion's seq.
    pub deleted: Option<Seq>,
    /// Emoji → who, in the order of time. At most 50 emoji, 1,000 users in all.
    pub reactions: Vec<(String, Vec<UserId>)>,
    /// Pinned by the entry with this seq.
    pub pinned: Option<Seq>,
}

/// One write of the applier. Idempotent by (room, seq): the same effects again change nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Puts the room's row.
    Room(RoomRow),
    /// Puts a membership, and the room in (or, without a role, out of) the user's rooms.
    Member(RoomId, MemberRow),
    /// Removes a membership, and the room from the user's rooms.
    NoMember(RoomId, UserId),
    /// Puts what changed about message `seq`.
    Fold(RoomId, Seq, FoldRow),
    /// The message `seq` mentions the user.
    Mention(UserId, RoomId, Seq),
    /// The message `seq` is pinned, or is not.
    Pin(RoomId, Seq, bool),
}

/// What was derived from the log, and other rows about rooms.
#[async_trait]
pub trait Rooms: Send + Sync + 'static {
    /// Carries out the effects, of several about one row the last, and the room's row after all others: what is lost in between is derived again
    /// from the row that was there. Durable no later than the next append that answers; until then redone from the log. A row that was written
    /// with a greater stamp stays as it is, where the store can tell; with an equal one a removal wins.
    /// `clear_unapplied`: everything of this room is applied, up to the stamp's seq.
    async fn apply(&self, room: RoomId, shard: Shard, stamp: Stamp, effects: Vec<Effect>, clear_unapplied: bool) -> Result<()>;
    /// The same, durable when it answers: for what no entry of the log could redo (a channel's subscriptions).
    async fn apply_durably(&self, room: RoomId, shard: Shard, stamp: Stamp, effects: Vec<Effect>) -> Result<()>;
    /// Rows of rooms with an id greater than `after`, ascending, at most `limit`.
    async fn list_rooms(&self, after: RoomId, limit: usize) -> Result<Vec<RoomRow>>;
    /// Rooms' rows; `None` where there is none.
    async fn rooms(&self, rooms: &[RoomId]) -> Result<Vec<Option<RoomRow>>>;
    /// One user's membership in each of the rooms (`role: None` for a ban, and for a mute of who is out).
    async fn memberships(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<Option<MemberRow>>>;
    /// Members, bans and mutes of who is out, with a user id greater than `after`, ascending, at most `limit`.
    async fn members(&self, room: RoomId, after: UserId, limit: usize) -> Result<Vec<MemberRow>>;
    /// Rooms in which the user is a member, ascending, at most `limit`.
    async fn rooms_of(&self, user: UserId, limit: usize) -> Result<Vec<RoomId>>;
    /// What changed about each of the messages.
    async fn folds(&self, room: RoomId, seqs: &[Seq]) -> Result<Vec<Option<FoldRow>>>;
    /// Pinned messages of the room with a seq greater than `after`, ascending, at most `limit`.
    async fn pins(&self, room: RoomId, after: Seq, limit: usize) -> Result<Vec<Seq>>;
    /// Mentions of the user in the room with a seq greater than `after`, counted up to `limit`.
    async fn mentions(&self, user: UserId, room: RoomId, after: Seq, limit: usize) -> Result<u64>;
    /// The direct room of a pair: `room` when this call made it so, else the one that was there. Durable when it answers.
    async fn claim_direct(&self, a: UserId, b: UserId, room: RoomId) -> Result<RoomId>;
    /// The room that a creator's client id made: `room` when this call made it so, else the one that was there.
    /// With it the hash of what was asked for. Durable when it answers.
    async fn claim_creation(&self, user: UserId, cid: ClientId, room: RoomId, hash: u64) -> Result<(RoomId, u64)>;
}

/// A user's cursors in a room, with `n` at the read cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CursorRow {
    /// Read up to here.
    pub read: Seq,
    /// `n` at `read`.
    pub read_n: u64,
    /// Arrived up to here.
    pub delivered: Seq,
}

/// Cursors: max-registers, written by the room's owner.
#[async_trait]
pub trait Cursors: Send + Sync + 'static {
    /// Raises the cursors; a value lower than the stored one changes nothing. Durable with the next append, or within a second.
    async fn raise(&self, user: UserId, room: RoomId, cursor: CursorRow) -> Result<()>;
    /// The user's cursors in each of the rooms.
    async fn cursors(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<CursorRow>>;
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UserRow {
    /// Its id.
    pub user: UserId,
    /// Unique name: 2 to 32 of `a-z 0-9 _ . -`, compared as it stands.
    pub name: String,
    /// PHC string of the password (argon2id).
    pub password: String,
    /// Disabled accounts cannot sign in, and their sockets are closed.
    pub disabled: bool,
    /// Access tokens issued before this (milliseconds since 1970) are revoked.
    pub tokens_after: Millis,
    /// When it was made.
    pub created: Millis,
    /// Status text.
    pub status: String,
    /// When it was last connected.
    pub last_seen: Millis,
    /// Name to show; empty: the account's name. Here and not in a record of its own, because member lists read these rows anyway.
    #[serde(default)]
    pub display_name: String,
    /// Where its picture is; empty: nowhere.
    #[serde(default)]
    pub avatar_url: String,
    /// A program and no person.
    #[serde(default)]
    pub bot: bool,
}

/// A device that signed in, and its family of refresh tokens.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceRow {
    /// Its user.
    pub user: UserId,
    /// Its id.
    pub device: DeviceId,
    /// For people ("Firefox on Linux").
    pub name: String,
    /// SHA-256 of the refresh token that is valid now; all zero when signed out.
    pub refresh: [u8; 32],
    /// SHA-256 of the one before: its use is a theft or a lost answer (see `auth`).
    pub previous: [u8; 32],
    /// When the valid refresh token ends.
    pub expires: Millis,
    /// Signed out or revoked: its tokens are refused and its sockets closed.
    pub revoked: bool,
    /// When it was made.
    pub created: Millis,
    /// When it last signed in or refreshed.
    pub used: Millis,
}

/// How two users stand, from one's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContactState {
    /// Asked; not answered yet.
    Requested,
    /// Was asked; has not answered yet.
    Pending,
    /// Contacts.
    Accepted,
    /// Blocks the other.
    Blocked,
}

/// Accounts, devices and contacts. All writes are durable when they answer.
#[async_trait]
pub trait Users: Send + Sync + 'static {
    /// Makes an account; false when the name is taken.
    async fn create_user(&self, row: UserRow) -> Result<bool>;
    /// An account by id.
    async fn user(&self, user: UserId) -> Result<Option<UserRow>>;
    /// Accounts by id.
    async fn users(&self, users: &[UserId]) -> Result<Vec<Option<UserRow>>>;
    /// An account by name.
    async fn user_by_name(&self, name: &str) -> Result<Option<UserRow>>;
    /// Accounts with an id greater than `after`, ascending.
    async fn list_users(&self, after: UserId, limit: usize) -> Result<Vec<UserRow>>;
    /// Replaces an account's row if it still equals `was`; true when it did.
    async fn replace_user(&self, was: &UserRow, row: UserRow) -> Result<bool>;
    /// Raises `last_seen` (a max-register; durable within a second).
    async fn seen(&self, user: UserId, at: Millis) -> Result<()>;
    /// A device.
    async fn device(&self, user: UserId, device: DeviceId) -> Result<Option<DeviceRow>>;
    /// Devices of a user, ascending.
    async fn devices(&self, user: UserId) -> Result<Vec<DeviceRow>>;
    /// Puts `row` if the stored one equals `was` (`None`: there is none); true when it did.
    async fn replace_device(&self, was: Option<&DeviceRow>, row: DeviceRow) -> Result<bool>;
    /// Sets how `a` stands to `b` and `b` to `a`, in one atomic write; `None` removes.
    async fn set_contact(&self, a: UserId, b: UserId, a_to_b: Option<ContactState>, b_to_a: Option<ContactState>) -> Result<()>;
    /// How `a` stands to each of `others`.
    async fn contact_states(&self, a: UserId, others: &[UserId]) -> Result<Vec<Option<ContactState>>>;
    /// All to whom the user stands somehow, ascending, at most `limit`.
    async fn contacts(&self, user: UserId, limit: usize) -> Result<Vec<(UserId, ContactState)>>;
}

/// Whether the store can write, for `/readyz` and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why writes are refused, if they are.
    pub refuses_writes: Option<String>,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Appends that wait for the device.
    pub appends_waiting: u64,
    /// Flushes to the device so far.
    pub syncs: u64,
    /// Rows appended so far.
    pub rows: u64,
}

/// A whole store.
#[async_trait]
pub trait Store: MessageLog + Ownership + Rooms + Cursors + Users + Records {
    /// How it is.
    fn health(&self) -> Health;
    /// A copy of everything as of now: all that was acknowledged before the call is in it. Writes go on meanwhile.
    fn copy(&self) -> Result<Box<dyn copying::Copying>>;
    /// Gives the space of what was purged back to the disk, if there is enough of it to be worth the work; true when it did.
    async fn reclaim(&self) -> Result<bool>;
    /// Flushes and closes; later calls fail.
    fn close(&self);
}

/// An entry and the row it is stored in.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Decoded.
    pub entry: Arc<Entry>,
    /// As stored.
    pub row: LogRow,
}

/// A message's address, for what is keyed by it.
pub type MessageKey = (RoomId, Seq, MessageId);
