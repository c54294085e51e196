//! Dead letters: events that a receiver did not accept in time, or not at all. Kept in the order of their entries' time, the oldest dropped
//! and counted when there are `webhooks.dead_max`; sent again when an operator says so.

use super::{HookId, Job, Live, PAGE, Webhooks, failed, gone};
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, RoomId, Seq};
use crate::storage::records::{decode, encode};
use crate::storage::{RecordWrite, Result, Table};
use crate::telemetry::metrics;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::Ordering;

/// Characters of [`Why::error`] that are kept.
const ERROR_CHARS_MAX: usize = 500;

/// Why an event was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Attempts since the process began.
    pub tries: u32,
    /// The status of the last answer, if there was one.
    pub status: Option<u16>,
    /// In words.
    pub error: String,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// What was to be sent.
    pub job: Job,
    /// Why it was given up.
    pub why: Why,
    /// When.
    pub died: Millis,
}

/// A dead letter's place among those of its webhook: by time, room and seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadId {
    at: Millis,
    room: RoomId,
    seq: Seq,
}

impl DeadId {
    fn bytes(self) -> Vec<u8> {
        [self.at.to_be_bytes(), self.room.0.to_be_bytes(), self.seq.to_be_bytes()].concat()
    }
}
impl From<&Job> for DeadId {
    fn from(job: &Job) -> Self {
        DeadId { at: job.at, room: job.room, seq: job.seq }
    }
}
impl fmt::Display for DeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.at, self.room, self.seq)
    }
}
impl FromStr for DeadId {
    type Err = ApiError;
    fn from_str(s: &str) -> std::result::Result<DeadId, ApiError> {
        let strange = || ApiError::new(Code::Invalid, "not the id of a dead letter");
        let mut parts = s.splitn(3, '-').map(|part| part.parse::<u64>().map_err(|_| strange()));
        let mut next = || parts.next().unwrap_or_else(|| Err(strange()));
        Ok(DeadId { at: next()?, room: RoomId(next()?), seq: next()? })
    }
}

impl Webhooks {
    /// Moves jobs to the dead letters. Those that are there already (a room redoes what it is not sure of) are one letter each.
    pub async fn bury(&self, live: &Live, jobs: Vec<Job>, why: &Why, now: Millis) -> Result<()> {
        let id = live.hook.id;
        let _one = live.state.dying.lock().await;
        let mut fresh = 0;
        for job in &jobs {
            let there = self.records.record(Table::WebhookDead, &id.partition(), &DeadId::from(job).bytes()).await?;
            fresh += usize::from(there.is_none());
        }
        let why = Why { error: why.error.chars().take(ERROR_CHARS_MAX).collect(), ..why.clone() };
        let dead = |job: &Job| {
            let dead = Dead { job: job.clone(), why: why.clone(), died: now };
            RecordWrite { key: DeadId::from(job).bytes(), version: job.version, value: Some(encode(&dead)) }
        };
        self.put(Table::WebhookDead, id, jobs.iter().map(dead).collect()).await?;
        self.put(Table::WebhookJob, id, jobs.iter().map(gone).collect()).await?;
        metrics().webhook_events_total.of("dead").inc_by(fresh as u64);
        live.state.dead.fetch_add(fresh, Ordering::Relaxed);
        if self.get(id).is_none() {
            // It was taken away meanwhile; who did that has not seen these.
            return self.clear(Table::WebhookDead, id).await;
        }
        self.drop_oldest(live).await
    }

    /// Drops and counts what is over `webhooks.dead_max`.
    async fn drop_oldest(&self, live: &Live) -> Result<()> {
        loop {
            let over = live.state.dead.load(Ordering::Relaxed).saturating_sub(self.config.dead_max);
            let letters = if over == 0 { Vec::new() } else { self.letters(live.hook.id, None, over.min(PAGE)).await? };
            if letters.is_empty() {
                return Ok(());
            }
            self.forget(live, &letters).await?;
            live.state.dropped.fetch_add(letters.len() as u64, Ordering::Relaxed);
            metrics().webhook_events_total.of("dropped").inc_by(letters.len() as u64);
        }
    }

    async fn forget(&self, live: &Live, letters: &[Dead]) -> Result<()> {
        let gone = |dead: &Dead| RecordWrite { key: DeadId::from(&dead.job).bytes(), version: dead.job.version, value: None };
        self.put(Table::WebhookDead, live.hook.id, letters.iter().map(gone).collect()).await?;
        let less = |was: usize| Some(was.saturating_sub(letters.len()));
        let _ = live.state.dead.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        Ok(())
    }

    /// Dead letters after one, the oldest first, at most `limit`.
    pub async fn letters(&self, id: HookId, after: Option<DeadId>, limit: usize) -> Result<Vec<Dead>> {
        let after = after.map(DeadId::bytes);
        let rows = self.records.records(Table::WebhookDead, &id.partition(), after.as_deref(), limit).await?;
        rows.iter().map(|(_, bytes)| decode(bytes)).collect()
    }

    pub(super) async fn count_dead(&self, id: HookId) -> Result<usize> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.letters(id, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(count) };
            count += page.len();
            after = Some(DeadId::from(&last.job));
        }
    }

    /// Sends dead letters again: these, or (`None`) all that are there now, as far as there is room for them to wait. Gives how many; that
    /// there is no room for the first one is an error.
    pub async fn replay(&self, live: &Live, ids: Option<&[DeadId]>, now: Millis) -> std::result::Result<usize, ApiError> {
        let (replayed, left) = match ids {
            Some(ids) => self.replay_these(live, ids, now).await?,
            None => self.replay_all(live, now).await.map_err(failed)?,
        };
        if replayed == 0 && left {
            return Err(ApiError::new(Code::Busy, "too many events are waiting for this webhook; try again later"));
        }
        Ok(replayed)
    }

    /// How many, and whether there are more for which there was no room.
    async fn replay_all(&self, live: &Live, now: Millis) -> Result<(usize, bool)> {
        let (mut replayed, mut after, all) = (0, None, live.state.dead.load(Ordering::Relaxed));
        while replayed < all {
            let _one = live.state.dying.lock().await;
            let page = self.letters(live.hook.id, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(DeadId::from(&last.job));
            let (wanted, taken) = (page.len(), self.again(live, page, now).await?);
            replayed += taken;
            if taken < wanted {
                return Ok((replayed, true));
            }
        }
        Ok((replayed, false))
    }

    async fn replay_these(&self, live: &Live, ids: &[DeadId], now: Millis) -> std::result::Result<(usize, bool), ApiError> {
        let _one = live.state.dying.lock().await;
        let letter = async |id: &DeadId| {
            let row = self.records.record(Table::WebhookDead, &live.hook.id.partition(), &id.bytes()).await.map_err(failed)?;
            let row = row.ok_or_else(|| ApiError::new(Code::NotFound, format!("there is no dead letter {id}")))?;
            decode::<Dead>(&row).map_err(failed)
        };
        // All of them are there, or none is sent again.
        for id in ids {
            letter(id).await?;
        }
        let ids: BTreeSet<&DeadId> = ids.iter().collect();
        for (replayed, id) in ids.iter().enumerate() {
            if self.again(live, vec![letter(id).await?], now).await.map_err(failed)? == 0 {
                return Ok((replayed, true));
            }
        }
        Ok((ids.len(), false))
    }

    /// As many of these as there is room for. The job first, then the letter's end: a crash between the two leaves both, and the receiver
    /// gets a repeat at most.
    async fn again(&self, live: &Live, mut letters: Vec<Dead>, now: Millis) -> Result<usize> {
        letters.truncate(self.room_for(live));
        let again = |dead: &Dead| Job { made: now, version: dead.job.version + 1, ..dead.job.clone() };
        self.write(live, &letters.iter().map(again).collect::<Vec<_>>()).await?;
        self.forget(live, &letters).await?;
        Ok(letters.len())
    }
}
