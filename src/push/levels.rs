//! The notification level: how much of a room its member wants to be told of by push.
//!
//! A level that nobody set is the kind's own: everything in a direct room or a group, mentions in a channel. Who wants every message of
//! a channel is also written down with the channel, because a channel's members are in no memory and are not asked one by one.

use super::{room_key, user_key};
use crate::protocol::entry::RoomKind;
use crate::protocol::ids::{Millis, RoomId, UserId};
use crate::storage::records::{decode, encode};
use crate::storage::{Result, StorageError, Store, Table};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Users who may want every message of one channel.
pub const EAGER_MAX: usize = 10_000;
/// Channels whose eager users are kept in memory.
const CHANNELS_KEPT: usize = 10_000;
/// How long they are kept: a change on another node that was not heard of is seen after this.
const KEPT: Duration = Duration::from_secs(60);
/// Changes of one record that may collide before the caller is told to try again.
const TRIES: usize = 8;

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Every message.
    All,
    /// Only messages that mention one.
    Mentions,
    /// Nothing.
    None,
}

/// A member's level in a room, and until when nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Notify {
    /// How much.
    pub level: Level,
    /// Nothing before this time, whatever the level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until: Option<Millis>,
}

impl Notify {
    /// What holds in a room of this kind as long as nothing was set.
    pub fn default_of(kind: RoomKind) -> Notify {
        let level = match kind {
            RoomKind::Direct | RoomKind::Group => Level::All,
            RoomKind::Channel => Level::Mentions,
        };
        Notify { level, muted_until: None }
    }

    /// Whether a message is to be told of.
    pub fn wants(&self, mentioned: bool, now: Millis) -> bool {
        let muted = self.muted_until.is_some_and(|until| now < until);
        let level = match self.level {
            Level::All => true,
            Level::Mentions => mentioned,
            Level::None => false,
        };
        level && !muted
    }
}

/// The users of a channel who want every message, as read at some time.
type Eager = (Arc<[UserId]>, Instant);

/// The levels that were set.
pub struct Levels {
    store: Arc<dyn Store>,
    eager: Mutex<Kept>,
    tell: OnceLock<Box<dyn Fn(RoomId) + Send + Sync>>,
}

#[derive(Default)]
struct Kept {
    of: HashMap<RoomId, Eager>,
    /// Grows with every change: what was read before one is not kept.
    changes: u64,
}

impl Levels {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>) -> Levels {
        Levels { store, eager: Mutex::default(), tell: OnceLock::new() }
    }

    /// Who tells other nodes of which channel it is another now who wants everything; set once. Must not block.
    pub fn told_to(&self, tell: impl Fn(RoomId) + Send + Sync + 'static) {
        let _ = self.tell.set(Box::new(tell));
    }

    /// What is remembered of a channel, or of all, may be otherwise now.
    pub fn forget_eager(&self, room: Option<RoomId>) {
        let mut kept = self.eager.lock();
        kept.changes += 1;
        match room {
            Some(room) => drop(kept.of.remove(&room)),
            None => kept.of.clear(),
        }
    }

    fn changed(&self, room: RoomId) {
        self.forget_eager(Some(room));
        if let Some(tell) = self.tell.get() {
            tell(room);
        }
    }

    /// A user's level in a room of this kind.
    pub async fn of(&self, user: UserId, room: RoomId, kind: RoomKind) -> Result<Notify> {
        let row = self.store.record(Table::Notify, &user_key(user), &room_key(room)).await?;
        row.map_or(Ok(Notify::default_of(kind)), |row| decode(&row))
    }

    /// All levels that the user has set, for lists of rooms: at most `max`.
    pub async fn set_by(&self, user: UserId, max: usize) -> Result<HashMap<RoomId, Notify>> {
        let rows = self.store.records(Table::Notify, &user_key(user), None, max).await?;
        let room = |key: &[u8]| key.try_into().map(|k| RoomId(u64::from_be_bytes(k)));
        let damaged = |_| StorageError::Damaged("a key of the notification levels".into());
        rows.iter().map(|(key, row)| Ok((room(key).map_err(damaged)?, decode(row)?))).collect()
    }

    /// Sets a level; false when too many users want every message of the channel.
    pub async fn set(&self, user: UserId, room: RoomId, kind: RoomKind, notify: Notify) -> Result<bool> {
        let eager = kind == RoomKind::Channel && notify.level == Level::All;
        if eager {
            // Before the level itself: who is listed and not eager is only looked at in vain.
            let row = self.store.record(Table::RoomNotify, &room_key(room), &user_key(user)).await?;
            if row.is_none() && self.eager(room).await?.len() >= EAGER_MAX {
                return Ok(false);
            }
            self.replace(Table::RoomNotify, &room_key(room), &user_key(user), Some(encode(&()))).await?;
        }
        let plain = notify == Notify::default_of(kind);
        self.replace(Table::Notify, &user_key(user), &room_key(room), (!plain).then(|| encode(&notify))).await?;
        if kind == RoomKind::Channel && !eager {
            self.replace(Table::RoomNotify, &room_key(room), &user_key(user), None).await?;
        }
        if kind == RoomKind::Channel {
            self.changed(room);
        }
        Ok(true)
    }

    /// Forgets what a user has set, in at most `max` rooms.
    pub async fn forget(&self, user: UserId, max: usize) -> Result<()> {
        for room in self.set_by(user, max).await?.into_keys() {
            self.replace(Table::RoomNotify, &room_key(room), &user_key(user), None).await?;
            self.replace(Table::Notify, &user_key(user), &room_key(room), None).await?;
            self.changed(room);
        }
        Ok(())
    }

    async fn replace(&self, table: Table, partition: &[u8], key: &[u8], now: Option<bytes::Bytes>) -> Result<()> {
        for _ in 0..TRIES {
            let was = self.store.record(table, partition, key).await?;
            if was == now || self.store.replace_record(table, partition, key, was, now.clone()).await? {
                return Ok(());
            }
        }
        Err(StorageError::Busy("the notification level is being changed by others"))
    }

    /// Users who may want every message of a channel; their levels decide.
    pub async fn eager(&self, room: RoomId) -> Result<Arc<[UserId]>> {
        let changes = {
            let kept = self.eager.lock();
            match kept.of.get(&room) {
                Some((users, at)) if at.elapsed() < KEPT => return Ok(users.clone()),
                _ => kept.changes,
            }
        };
        let at = Instant::now();
        let rows = self.store.records(Table::RoomNotify, &room_key(room), None, EAGER_MAX).await?;
        let users: Arc<[UserId]> = rows.iter().filter_map(|(k, _)| Some(UserId(u64::from_be_bytes(k[..].try_into().ok()?)))).collect();
        let mut kept = self.eager.lock();
        if kept.changes != changes {
            return Ok(users);
        }
        if kept.of.len() >= CHANNELS_KEPT {
            kept.of.retain(|_, (_, at)| at.elapsed() < KEPT);
            if kept.of.len() >= CHANNELS_KEPT {
                kept.of.clear();
            }
        }
        kept.of.insert(room, (users.clone(), at));
        Ok(users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_is_this_table() {
        use Level::{All, Mentions, None};
        // level, mentioned: told
        for (level, mentioned, told) in [
            (All, false, true),
            (All, true, true),
            (Mentions, false, false),
            (Mentions, true, true),
            (None, false, false),
            (None, true, false),
        ] {
            let notify = |muted_until| Notify { level, muted_until };
            assert_eq!(notify(Option::None).wants(mentioned, 100), told);
            assert_eq!(notify(Some(100)).wants(mentioned, 100), told, "a mute that is over");
            assert!(!notify(Some(101)).wants(mentioned, 100), "a mute is above every level");
        }
        assert_eq!(Notify::default_of(RoomKind::Direct).level, All);
        assert_eq!(Notify::default_of(RoomKind::Group).level, All);
        assert_eq!(Notify::default_of(RoomKind::Channel).level, Mentions);
    }
}
