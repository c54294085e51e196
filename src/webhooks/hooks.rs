//! The set of webhooks: making, changing, rotating secrets, taking away.

use super::{Live, State, Told, Webhooks, dead, event, failed, no_such_hook};
use crate::error::{ApiError, Code};
use crate::outbound::Outbound;
use crate::protocol::ids::{Millis, RoomId};
use crate::storage::records::{decode, encode};
use crate::storage::{RecordWrite, Result, Table};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Rooms that a webhook may be limited to.
const ROOMS_MAX: usize = 1_000;
/// Bytes of a webhook's name.
const NAME_BYTES_MAX: usize = 100;
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// A webhook's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookId(pub u64);

impl HookId {
    /// Its partition of jobs and dead letters.
    pub(super) fn partition(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}
impl fmt::Display for HookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A webhook as it is stored. Its secrets sign, so they are kept as they are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Its id.
    #[serde(with = "id")]
    pub id: HookId,
    /// For people.
    pub name: String,
    /// Where events go.
    pub url: String,
    /// Types of events it wants; none: all but presence.
    pub events: Vec<String>,
    /// Rooms it wants them of; none: all.
    pub rooms: Vec<RoomId>,
    /// Signs.
    pub secret: String,
    /// The secret before, which signs too until the rotation is finished.
    pub previous: Option<String>,
    /// Events are made for it. What waits is sent all the same.
    pub active: bool,
    /// When it was made.
    pub created: Millis,
}

mod id {
    use super::HookId;
    use serde::{Deserialize, Deserializer, Serializer};
    pub(super) fn serialize<S: Serializer>(id: &HookId, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_u64(id.0)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<HookId, D::Error> {
        u64::deserialize(d).map(HookId)
    }
}

/// What a new webhook is to be.
#[derive(Clone, Debug, Default)]
pub struct NewHook {
    /// For people.
    pub name: String,
    /// Where events go.
    pub url: String,
    /// Types of events.
    pub events: Vec<String>,
    /// Rooms.
    pub rooms: Vec<RoomId>,
}

/// What is to be changed; the rest stays.
#[derive(Clone, Debug, Default)]
pub struct HookChange {
    /// For people.
    pub name: Option<String>,
    /// Where events go.
    pub url: Option<String>,
    /// Types of events.
    pub events: Option<Vec<String>>,
    /// Rooms.
    pub rooms: Option<Vec<RoomId>>,
    /// Events are made for it.
    pub active: Option<bool>,
}

impl Hook {
    /// Whether it wants events of this type.
    pub fn wants(&self, kind: &str) -> bool {
        match self.events.is_empty() {
            true => kind != event::PRESENCE,
            false => self.events.iter().any(|event| event == kind),
        }
    }
    /// Whether it wants events of this room.
    pub fn wants_room(&self, room: RoomId) -> bool {
        self.rooms.is_empty() || self.rooms.contains(&room)
    }
    /// The secrets that sign, the newest first.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        [Some(self.secret.as_str()), self.previous.as_deref()].into_iter().flatten()
    }

    fn validate(&mut self, outbound: &Outbound) -> std::result::Result<(), ApiError> {
        let invalid = |what: String| ApiError::new(Code::Invalid, what);
        outbound.address(&self.url).map_err(|why| invalid(format!("url: {why}")))?;
        if self.name.len() > NAME_BYTES_MAX {
            return Err(invalid(format!("name has at most {NAME_BYTES_MAX} bytes")));
        }
        self.events.sort();
        self.events.dedup();
        if let Some(strange) = self.events.iter().find(|e| !event::kinds().any(|kind| kind == **e)) {
            let all: Vec<&str> = event::kinds().collect();
            return Err(invalid(format!("events: {strange:?} is none of {}", all.join(", "))));
        }
        self.rooms.sort_unstable();
        self.rooms.dedup();
        if self.rooms.len() > ROOMS_MAX {
            return Err(invalid(format!("rooms: at most {ROOMS_MAX}")));
        }
        Ok(())
    }
}

fn secret() -> String {
    format!("whsec_{}", hex::encode(rand::random::<[u8; SECRET_BYTES]>()))
}

impl Webhooks {
    /// Reads the webhooks, and counts what waits for each. At the start, before rooms redo what they had not applied. All of them, also
    /// when there are more than may be by now.
    pub async fn load(&self) -> Result<()> {
        let (mut live, mut after) = (HashMap::new(), None::<Vec<u8>>);
        loop {
            let rows = self.records.records(Table::Webhook, b"", after.as_deref(), super::PAGE).await?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            for (_, bytes) in rows {
                let hook: Hook = decode(&bytes)?;
                // What waits, and whether it fails, is the same as before.
                let state = self.get(hook.id).map(|known| known.state.clone()).unwrap_or_default();
                state.dead.store(self.count_dead(hook.id).await?, std::sync::atomic::Ordering::Relaxed);
                live.insert(hook.id, Arc::new(Live { hook, state }));
            }
        }
        if live.len() > self.config.hooks_max {
            tracing::warn!(
                webhooks = live.len(),
                max = self.config.hooks_max,
                "there are more webhooks than webhooks.hooks_max; all are kept"
            );
        }
        *self.live.write() = Arc::new(live);
        Ok(())
    }

    /// Makes a webhook under a fresh id.
    pub async fn create(&self, id: u64, new: NewHook, now: Millis, outbound: &Outbound) -> std::result::Result<Arc<Live>, ApiError> {
        let NewHook { name, url, events, rooms } = new;
        let mut hook = Hook { id: HookId(id), name, url, events, rooms, secret: secret(), previous: None, active: true, created: now };
        hook.validate(outbound)?;
        let _one = self.changing.lock().await;
        if self.live.read().len() >= self.config.hooks_max {
            return Err(ApiError::new(Code::Conflict, format!("there are {} webhooks, as many as may be", self.config.hooks_max)));
        }
        self.store(None, hook, Arc::default()).await
    }

    /// Changes one.
    pub async fn change(&self, id: HookId, change: HookChange, outbound: &Outbound) -> std::result::Result<Arc<Live>, ApiError> {
        self.edit(id, |hook| {
            let HookChange { name, url, events, rooms, active } = change;
            hook.name = name.unwrap_or(std::mem::take(&mut hook.name));
            hook.url = url.unwrap_or(std::mem::take(&mut hook.url));
            hook.events = events.unwrap_or(std::mem::take(&mut hook.events));
            hook.rooms = rooms.unwrap_or(std::mem::take(&mut hook.rooms));
            hook.active = active.unwrap_or(hook.active);
            hook.validate(outbound)
        })
        .await
    }

    /// Gives it a new secret; the one before signs too until [`Webhooks::rotated`]. Not before that once more: two sign, and one of them
    /// must be the one that the receiver knows.
    pub async fn rotate(&self, id: HookId) -> std::result::Result<Arc<Live>, ApiError> {
        self.edit(id, |hook| {
            if hook.previous.is_some() {
                return Err(ApiError::new(Code::Conflict, "a secret is being rotated already: finish that first (DELETE …/secret)"));
            }
            hook.previous = Some(std::mem::replace(&mut hook.secret, secret()));
            Ok(())
        })
        .await
    }

    /// The receiver knows the new secret: the one before signs no more.
    pub async fn rotated(&self, id: HookId) -> std::result::Result<Arc<Live>, ApiError> {
        self.edit(id, |hook| {
            hook.previous = None;
            Ok(())
        })
        .await
    }

    /// Takes it away, with everything that waits for it and its dead letters. It is out of sight first: who writes for it by what it saw
    /// before looks once more afterwards, and clears up behind itself. If that fails it is there as before, to be taken away again.
    pub async fn remove(&self, id: HookId) -> std::result::Result<(), ApiError> {
        let _one = self.changing.lock().await;
        let live = self.get(id).ok_or_else(no_such_hook)?;
        self.with(|all| all.remove(&id));
        if let Err(error) = self.erase(&live).await {
            self.with(|all| all.insert(id, live));
            return Err(failed(error));
        }
        live.state.wait(|_| 0);
        self.tell(Told::Changed(id));
        Ok(())
    }

    async fn erase(&self, live: &Live) -> Result<()> {
        let id = live.hook.id;
        for table in [Table::WebhookJob, Table::WebhookDead] {
            self.clear(table, id).await?;
        }
        self.records.replace_record(Table::Webhook, b"", &id.partition(), Some(encode(&live.hook)), None).await?;
        Ok(())
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<HookId, Arc<Live>>) -> T) {
        let mut all = HashMap::clone(&self.live.read());
        change(&mut all);
        *self.live.write() = Arc::new(all);
    }

    pub(super) async fn clear(&self, table: Table, id: HookId) -> Result<()> {
        loop {
            let rows = self.records.records(table, &id.partition(), None, super::PAGE).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let version = |bytes: &[u8]| -> Result<u64> {
                Ok(match table {
                    Table::WebhookJob => decode::<super::Job>(bytes)?.version,
                    _ => decode::<dead::Dead>(bytes)?.job.version,
                })
            };
            let gone = |(key, bytes): (Vec<u8>, bytes::Bytes)| Ok(RecordWrite { version: version(&bytes)?, key, value: None });
            let gone = rows.into_iter().map(gone).collect::<Result<Vec<_>>>()?;
            self.records.put_records(table, &id.partition(), gone).await?;
        }
    }

    async fn edit(
        &self,
        id: HookId,
        edit: impl FnOnce(&mut Hook) -> std::result::Result<(), ApiError>,
    ) -> std::result::Result<Arc<Live>, ApiError> {
        let _one = self.changing.lock().await;
        let was = self.get(id).ok_or_else(no_such_hook)?;
        let mut hook = was.hook.clone();
        edit(&mut hook)?;
        self.store(Some(&was.hook), hook, was.state.clone()).await
    }

    /// Under the lock of changes.
    async fn store(&self, was: Option<&Hook>, hook: Hook, state: Arc<State>) -> std::result::Result<Arc<Live>, ApiError> {
        let done = self.records.replace_record(Table::Webhook, b"", &hook.id.partition(), was.map(encode), Some(encode(&hook))).await;
        if !done.map_err(failed)? {
            return Err(ApiError::new(Code::Unavailable, "the webhook is being changed by others"));
        }
        let live = Arc::new(Live { hook, state });
        self.with(|all| all.insert(live.hook.id, live.clone()));
        self.tell(Told::Changed(live.hook.id));
        Ok(live)
    }
}
