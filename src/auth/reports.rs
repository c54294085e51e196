//! What users reported, and what became of it: the queue that moderators work off.
//!
//! A report is open until somebody resolves it, once. It keeps the text as the reporter saw it, since moderators need not be members of the
//! room and the author may change it. Resolving writes the resolved report first and takes it out of the queue then, so that a report is
//! never lost; the same resolution again completes what was cut off.

use super::failed;
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, RoomId, Seq, UserId};
use crate::storage::Store;
use crate::storage::records::{self, Table};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of a reported text that are kept.
const TEXT_BYTES_MAX: usize = 4_096;
/// Reports of one read at most: a page, and one to see whether there are more.
const READ_MAX: usize = 201;

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

impl Reports {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>) -> Reports {
        Reports { store }
    }

    /// Puts a fresh report into the queue.
    pub async fn file(&self, report: &Report) -> Result<(), ApiError> {
        let value = Some(records::encode(report));
        let key = report.id.to_be_bytes();
        let put = self.store.replace_record(Table::Report, report.state.partition(), &key, None, value).await.map_err(failed)?;
        put.then_some(()).ok_or_else(|| ApiError::new(Code::Conflict, "there is such a report already"))
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

    /// Ends a report, once: the resolution that counts.
    pub async fn resolve(&self, report: Report, resolution: Resolution) -> Result<Report, ApiError> {
        let key = report.id.to_be_bytes();
        let done = Report { state: State::Resolved, resolution: Some(resolution), ..report.clone() };
        let value = Some(records::encode(&done));
        let first = self.store.replace_record(Table::Report, State::Resolved.partition(), &key, None, value).await.map_err(failed)?;
        let open = self.store.record(Table::Report, State::Open.partition(), &key).await.map_err(failed)?;
        if open.is_some() {
            self.store.replace_record(Table::Report, State::Open.partition(), &key, open, None).await.map_err(failed)?;
        }
        if first { Ok(done) } else { self.get(report.id).await }
    }
}
