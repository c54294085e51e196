//! What users reported, and what became of it: the queue that moderators work off.
//!
//! A report is open until somebody resolves it, once. It keeps the text as the reporter saw it, since moderators need not be members of the
//! room and the author may change it. A decision is written down first, once; then it is carried out, and then the report leaves the
//! queue: so a report is never lost, and the same decision again completes what was cut off.
//! **Bounds**: `moderation.reports_open_max` open ones, above which a new one is refused; resolved ones are kept for
//! `moderation.reports_kept_days`.

use super::failed;
use crate::config;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, RoomId, Seq, UserId};
use crate::storage::records::{self, Table};
use crate::storage::{self, Store};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a reported text that are kept.
const TEXT_BYTES_MAX: usize = 4_096;
/// Reports of one read at most: a page, and one to see whether there are more.
const READ_MAX: usize = 201;
/// Reports that one step of a sweep reads.
const SWEEP_PAGE: usize = 512;
/// When to try again while the queue is full.
const FULL_AGAIN: Duration = Duration::from_secs(60);

/// Where a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for a moderator.
    Open,
    /// Is done with.
    Resolved,
}

impl State {
    fn partition(self) -> &'static [u8] {
        match self {
            State::Open => b"open",
            State::Resolved => b"resolved",
        }
    }
}

/// What a moderator did about a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing.
    None,
    /// The message was deleted.
    Delete,
    /// Its author, or the user who was reported, was banned from the server.
    Ban,
}

/// How a report ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Resolution {
    /// What was done.
    pub action: Action,
    /// By whom: `operator` or `key:<id>`.
    pub by: String,
    /// When.
    pub at: Millis,
    /// Why.
    #[serde(default)]
    pub note: String,
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    /// Its id.
    #[serde(with = "id_text")]
    #[schema(value_type = String)]
    pub id: u64,
    /// Where it is.
    pub state: State,
    /// When it was made.
    pub at: Millis,
    /// By whom.
    pub by: UserId,
    /// About whom: the author of the message, or the user.
    pub user: UserId,
    /// The room of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    /// The message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// Its text when it was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why it was reported.
    pub reason: String,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
}

/// Ids are texts in JSON.
mod id_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    pub(super) fn serialize<S: Serializer>(id: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(id)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// The reports.
pub struct Reports {
    store: Arc<dyn Store>,
    config: config::Moderation,
    /// Open ones, as counted last, and what came since.
    open: AtomicUsize,
    /// When that was.
    counted: Mutex<Option<Instant>>,
}

/// The first bytes of a text, whole characters.
pub fn shortened(mut text: String) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// Whether it is the same report by another try: what it is about and when it was first tried, not what the message says by now.
fn is_same(a: &Report, b: &Report) -> bool {
    (a.by, a.at, a.user, a.room, a.seq, &a.reason) == (b.by, b.at, b.user, b.room, b.seq, &b.reason)
}

impl Reports {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>, config: &config::Moderation) -> Reports {
        Reports { store, config: config.clone(), open: AtomicUsize::new(0), counted: Mutex::default() }
    }

    /// Puts a report into the queue. The same one again changes nothing, wherever it is by now.
    pub async fn file(&self, report: &Report) -> Result<(), ApiError> {
        match self.get(report.id).await {
            Ok(there) if is_same(&there, report) => return Ok(()),
            Ok(_) => return Err(ApiError::new(Code::Unavailable, "the id of the report is taken; try again")),
            Err(e) if e.code == Code::NotFound => {}
            Err(e) => return Err(e),
        }
        if self.is_full().await? {
            return Err(ApiError::after(Code::Busy, "too many reports wait for a moderator", FULL_AGAIN));
        }
        let value = Some(records::encode(report));
        let key = report.id.to_be_bytes();
        let put = self.store.replace_record(Table::Report, report.state.partition(), &key, None, value).await.map_err(failed)?;
        self.open.fetch_add(usize::from(put), Ordering::Relaxed);
        put.then_some(()).ok_or_else(|| ApiError::new(Code::Unavailable, "the id of the report is taken; try again"))
    }

    /// Reports of a state with an id greater than `after`, oldest first.
    pub async fn list(&self, state: State, after: u64, limit: usize) -> Result<Vec<Report>, ApiError> {
        let after = after.to_be_bytes();
        let rows = self.store.records(Table::Report, state.partition(), Some(&after), limit.clamp(1, READ_MAX)).await;
        rows.map_err(failed)?.into_iter().map(|(_, value)| records::decode(&value).map_err(failed)).collect()
    }

    /// A report, wherever it is.
    pub async fn get(&self, id: u64) -> Result<Report, ApiError> {
        for state in [State::Resolved, State::Open] {
            if let Some(value) = self.store.record(Table::Report, state.partition(), &id.to_be_bytes()).await.map_err(failed)? {
                return records::decode(&value).map_err(failed);
            }
        }
        Err(ApiError::new(Code::NotFound, "there is no such report"))
    }

    /// Writes a decision down: the report as it is then. Another decision than the one that was written first is a `conflict`.
    pub async fn decide(&self, report: Report, resolution: Resolution) -> Result<Report, ApiError> {
        let (key, action) = (report.id.to_be_bytes(), resolution.action);
        let decided = Report { state: State::Resolved, resolution: Some(resolution), ..report.clone() };
        let value = Some(records::encode(&decided));
        let first = self.store.replace_record(Table::Report, State::Resolved.partition(), &key, None, value).await.map_err(failed)?;
        let counts = if first { decided } else { self.get(report.id).await? };
        match &counts.resolution {
            Some(resolution) if resolution.action != action => {
                Err(ApiError::new(Code::Conflict, "the report was resolved otherwise already"))
            }
            _ => Ok(counts),
        }
    }

    /// Takes a report that was decided, and the decision carried out, out of the queue.
    pub async fn done(&self, id: u64) -> Result<(), ApiError> {
        let key = id.to_be_bytes();
        let open = self.store.record(Table::Report, State::Open.partition(), &key).await.map_err(failed)?;
        if open.is_some() && self.store.replace_record(Table::Report, State::Open.partition(), &key, open, None).await.map_err(failed)? {
            let less = |n: usize| Some(n.saturating_sub(1));
            let _ = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        Ok(())
    }

    /// Whether as many reports wait as may. Others may have been made and resolved at other nodes: before it says so it counts, now and then.
    async fn is_full(&self) -> Result<bool, ApiError> {
        let full = || self.open.load(Ordering::Relaxed) >= self.config.reports_open_max;
        if full() && self.counted.lock().is_none_or(|at| at.elapsed() > FULL_AGAIN) {
            self.count().await.map_err(failed)?;
        }
        Ok(full())
    }

    /// Counts the open reports.
    pub async fn count(&self) -> storage::Result<()> {
        *self.counted.lock() = Some(Instant::now());
        let mut open = 0;
        let mut after: Option<Vec<u8>> = None;
        while open < self.config.reports_open_max {
            let page = self.store.records(Table::Report, State::Open.partition(), after.as_deref(), SWEEP_PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            open += page.len();
        }
        self.open.store(open, Ordering::Relaxed);
        Ok(())
    }

    /// Removes resolved reports that are older than is kept, a bounded number at once; how many.
    pub async fn sweep(&self, now: Millis) -> storage::Result<usize> {
        let oldest = now.saturating_sub(self.config.reports_kept_days * 86_400_000);
        let page = self.store.records(Table::Report, State::Resolved.partition(), None, SWEEP_PAGE).await?;
        let mut removed = 0;
        for (key, value) in page {
            let report: Report = records::decode(&value)?;
            if report.resolution.is_none_or(|r| r.at < oldest) {
                removed +=
                    usize::from(self.store.replace_record(Table::Report, State::Resolved.partition(), &key, Some(value), None).await?);
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::storage::embedded::EmbeddedStore;

    fn report(id: u64) -> Report {
        let (by, user) = (UserId(1), UserId(2));
        Report { id, state: State::Open, at: id, by, user, room: None, seq: None, text: None, reason: "spam".into(), resolution: None }
    }
    fn decision(action: Action, at: Millis) -> Resolution {
        Resolution { action, by: "operator".into(), at, note: String::new() }
    }

    #[tokio::test]
    async fn a_report_is_filed_once_decided_once_and_both_ends_of_the_queue_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), Default::default()).unwrap();
        let config = config::Moderation { reports_open_max: 2, reports_kept_days: 1, ..Default::default() };
        let reports = Reports::new(store.clone(), &config);
        for id in [7, 7, 8] {
            reports.file(&report(id)).await.unwrap();
        }
        assert_eq!(reports.list(State::Open, 0, 10).await.unwrap().len(), 2, "the same one again is no other");
        assert_eq!(reports.file(&report(9)).await.unwrap_err().code, Code::Busy);

        reports.decide(report(7), decision(Action::Ban, 100)).await.unwrap();
        let other = reports.decide(report(7), decision(Action::Delete, 101)).await.unwrap_err();
        assert_eq!(other.code, Code::Conflict);
        assert_eq!(reports.list(State::Open, 0, 10).await.unwrap().len(), 2, "until it is carried out");
        assert_eq!(reports.decide(report(7), decision(Action::Ban, 102)).await.unwrap().resolution.unwrap().at, 100);
        reports.done(7).await.unwrap();
        reports.file(&report(7)).await.unwrap();
        assert_eq!(reports.list(State::Open, 0, 10).await.unwrap().len(), 1, "it is there, resolved");

        reports.file(&report(9)).await.unwrap();
        let again = Reports::new(store, &config);
        again.count().await.unwrap();
        assert_eq!(again.sweep(100 + 86_400_000).await.unwrap(), 0);
        assert_eq!(again.file(&report(10)).await.unwrap_err().code, Code::Busy, "counted after a restart");
        assert_eq!(again.sweep(101 + 86_400_000).await.unwrap(), 1);
        assert_eq!(again.get(7).await.unwrap_err().code, Code::NotFound);
    }

    #[tokio::test]
    async fn what_was_resolved_at_another_node_makes_room_for_further_reports() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), Default::default()).unwrap();
        let config = config::Moderation { reports_open_max: 2, ..Default::default() };
        let (here, there) = (Reports::new(store.clone(), &config), Reports::new(store, &config));
        for id in [7, 8] {
            here.file(&report(id)).await.unwrap();
            there.decide(report(id), decision(Action::None, 100)).await.unwrap();
            there.done(id).await.unwrap();
        }
        here.file(&report(9)).await.unwrap();
    }
}
