//! What administrators did: who, what, when, from where, and whether it was done.
//!
//! Every request to `/admin/…` that may change something, with the admin token, is written down by the listener itself
//! ([`Audit::of_request`] around every handler), so that no handler can forget it. So is every act by an API key that changes something,
//! but messages, which their rooms' logs show ([`Audit::of_key`]). Moderation says why, and calls [`Audit::note`] itself. A record names the address of the thing and never a body: passwords and texts are not in it. It is durable before
//! the answer leaves. Records are kept for `audit.retention_days`, one partition a day, newest first.

use super::admin::Operator;
use super::{Api, peer, scopes};
use crate::auth::keys::Scope;
use crate::auth::{failed, now};
use crate::error::{ApiError, Code};
use crate::protocol::ids::{Millis, UserId};
use crate::storage::records::{self, RecordWrite, Table};
use crate::storage::{Result, Store};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Milliseconds of a day.
const DAY_MS: Millis = 86_400_000;
/// Records of a page at most.
const PAGE_MAX: usize = 1_000;
/// Records that one call of the purge removes at most.
const PURGE_MAX: usize = 10_000;
/// Days before the kept ones that are looked at for what is left over: a server may have been off for so long.
const LEFT_OVER_DAYS: u64 = 400;
/// Who acts by the admin token: whoever has it.
pub const OPERATOR: &str = "operator";

/// One act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// When.
    pub at: Millis,
    /// Who: `operator`, `key:<id>` (an API key), `user:<id>`, or `server`.
    pub by: String,
    /// From which address; empty for what the server did by itself.
    pub from: String,
    /// What: a method and the pattern of an address, or a word.
    pub act: String,
    /// About what.
    pub target: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// Why, where somebody said so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// An API key that was let in; [`super::scopes`] leaves it with the request.
#[derive(Clone, Copy)]
pub struct ByKey {
    /// The key's id.
    pub key: u64,
    /// As whom it acts.
    pub user: Option<UserId>,
}

/// The log.
pub struct Audit {
    store: Arc<dyn Store>,
    days_kept: u64,
}

/// A request to be written down once it is answered.
pub struct Pending {
    by: String,
    note: String,
    act: String,
    target: String,
    from: IpAddr,
}

fn partition(day: u64) -> [u8; 8] {
    day.to_be_bytes()
}

/// The key: later ones first, also of one millisecond; and another one than any other process makes.
fn key(at: Millis) -> Vec<u8> {
    static WRITTEN: AtomicU32 = AtomicU32::new(0);
    let later = u32::MAX - WRITTEN.fetch_add(1, Ordering::Relaxed);
    [&(Millis::MAX - at).to_be_bytes()[..], &later.to_be_bytes(), &rand::random::<u32>().to_be_bytes()].concat()
}

impl Audit {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>, config: &crate::config::Audit) -> Audit {
        Audit { store, days_kept: config.retention_days }
    }

    /// Writes an act down. What cannot be written is in the server's log; the act stands.
    pub async fn note(&self, by: impl Into<String>, from: Option<IpAddr>, act: impl Into<String>, target: impl Into<String>, note: &str) {
        let from = from.map(|a| a.to_string()).unwrap_or_default();
        self.write(Deed { at: now(), by: by.into(), from, act: act.into(), target: target.into(), status: 200, note: note.into() }).await;
    }

    async fn write(&self, deed: Deed) {
        let write = RecordWrite { key: key(deed.at), version: 1, value: Some(records::encode(&deed)) };
        let written = self.store.put_records(Table::Audit, &partition(deed.at / DAY_MS), vec![write]).await;
        if let Err(error) = written {
            tracing::error!(%error, by = %deed.by, act = %deed.act, target = %deed.target, status = deed.status, "an administrative act could not be written down");
        }
    }

    /// What to write down of a request, if it is one to the operators' interface that may change something.
    pub fn of_request(req: &ServiceRequest) -> Option<Pending> {
        // The address that was matched: a path may write the same one in many ways.
        let pattern = req.match_pattern().unwrap_or_default();
        let watched = pattern.starts_with("/admin/") && !super::headers::is_safe(req);
        watched.then(|| Pending {
            by: OPERATOR.into(),
            note: String::new(),
            act: format!("{} {pattern}", req.method()),
            target: req.path().to_owned(),
            from: peer::client(req.request()).address,
        })
    }

    /// What to write down of a request that an API key made, if it may have changed something. Messages are in their rooms' logs.
    pub fn of_key(req: &HttpRequest) -> Option<Pending> {
        let by = req.extensions().get::<ByKey>().copied()?;
        let pattern = req.match_pattern().unwrap_or_default();
        let told_elsewhere = [&[Scope::MessagesWrite][..], &[Scope::Moderate]].contains(&scopes::needed(req.method(), &pattern));
        let watched = !req.method().is_safe() && !told_elsewhere;
        watched.then(|| Pending {
            by: format!("key:{}", by.key),
            note: by.user.map(|user| format!("as user:{user}")).unwrap_or_default(),
            act: format!("{} {pattern}", req.method()),
            target: req.path().to_owned(),
            from: peer::client(req).address,
        })
    }

    /// Writes it down. Who had no token did nothing, and is in the server's log only.
    pub async fn answered<B: MessageBody>(&self, pending: Pending, response: &ServiceResponse<B>) {
        let Pending { by, note, act, target, from } = pending;
        let status = response.status().as_u16();
        if status == Code::Unauthorized.status() {
            tracing::warn!(%from, %act, "somebody without the admin token asked the operators' listener");
            return;
        }
        self.write(Deed { at: now(), by, from: from.to_string(), act, target, status, note }).await;
    }

    /// A page, newest first, of what is older than the cursor; and the next cursor.
    pub async fn page(&self, cursor: Option<&str>, limit: usize) -> std::result::Result<(Vec<Deed>, Option<String>), ApiError> {
        let today = now() / DAY_MS;
        let (mut day, mut after) = match cursor {
            None => (today + 1, None),
            Some(cursor) => {
                let read = read_cursor(cursor).filter(|(day, _)| *day <= today + 1);
                let (day, after) = read.ok_or_else(|| ApiError::new(Code::Invalid, "the cursor is none of this list"))?;
                (day, Some(after))
            }
        };
        let oldest = today.saturating_sub(self.days_kept);
        let (limit, mut items) = (limit.clamp(1, PAGE_MAX), Vec::new());
        let mut next = None;
        while day >= oldest {
            let wanted = limit + 1 - items.len();
            let rows = self.store.records(Table::Audit, &partition(day), after.as_deref(), wanted).await.map_err(failed)?;
            after = None;
            for (key, value) in rows {
                if items.len() == limit {
                    return Ok((items, next));
                }
                next = Some(hex::encode([&partition(day)[..], &key].concat()));
                items.push(records::decode(&value).map_err(failed)?);
            }
            let Some(before) = day.checked_sub(1) else { break };
            day = before;
        }
        Ok((items, None))
    }

    /// Removes what is older than is kept, in bounded steps; how many records.
    pub async fn purge(&self, today: u64) -> Result<usize> {
        let Some(end) = today.checked_sub(self.days_kept + 1) else { return Ok(0) };
        let mut removed = 0;
        for day in end.saturating_sub(LEFT_OVER_DAYS)..=end {
            while removed < PURGE_MAX {
                let rows = self.store.records(Table::Audit, &partition(day), None, 512).await?;
                if rows.is_empty() {
                    break;
                }
                removed += rows.len();
                let writes = rows.into_iter().map(|(key, _)| RecordWrite { key, version: 1, value: None }).collect();
                self.store.put_records(Table::Audit, &partition(day), writes).await?;
            }
        }
        Ok(removed)
    }

    /// The day of a time.
    pub fn day(at: Millis) -> u64 {
        at / DAY_MS
    }
}

fn read_cursor(text: &str) -> Option<(u64, Vec<u8>)> {
    let bytes = hex::decode(text).ok()?;
    let (day, key) = bytes.split_first_chunk::<8>()?;
    (!key.is_empty() && key.len() <= 32).then(|| (u64::from_be_bytes(*day), key.to_vec()))
}

/// Query of the list.
#[derive(Deserialize)]
pub struct Page {
    cursor: Option<String>,
    limit: Option<usize>,
}

/// `GET /admin/audit?cursor=&limit=`: newest first.
pub async fn list(_op: Operator, api: web::Data<Api>, page: web::Query<Page>) -> std::result::Result<HttpResponse, ApiError> {
    #[derive(Serialize)]
    struct Answer {
        items: Vec<Deed>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    }
    let (items, next) = api.audit.page(page.cursor.as_deref(), page.limit.unwrap_or(100)).await?;
    Ok(HttpResponse::Ok().json(Answer { items, next }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::storage::embedded::EmbeddedStore;

    fn deed(at: Millis, what: &str) -> Deed {
        Deed { at, by: OPERATOR.into(), from: "::1".into(), act: what.into(), target: String::new(), status: 200, note: String::new() }
    }

    #[tokio::test]
    async fn pages_go_from_the_newest_to_the_oldest_kept_and_older_ones_are_purged() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), Default::default()).unwrap();
        let audit = Audit::new(store, &crate::config::Audit { retention_days: 30 });
        let day = |n: u64| now() - n * DAY_MS;
        for (ago, what) in [(31, "old"), (32, "older"), (30, "kept"), (3, "a"), (3, "b"), (0, "now")] {
            audit.write(deed(day(ago) - u64::from(what == "a"), what)).await;
        }
        let mut seen = Vec::new();
        let mut cursor = None;
        loop {
            let (items, next) = audit.page(cursor.as_deref(), 2).await.unwrap();
            seen.extend(items.into_iter().map(|d| d.act));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["now", "b", "a", "kept"]);
        assert_eq!(audit.purge(Audit::day(now())).await.unwrap(), 2);
        assert_eq!(audit.purge(Audit::day(now())).await.unwrap(), 0);
        assert_eq!(audit.page(None, 100).await.unwrap().0.len(), 4);
        assert!(audit.page(Some("zz"), 1).await.is_err() && audit.page(Some("00"), 1).await.is_err());
        let far = hex::encode([u64::MAX.to_be_bytes(), [1; 8]].concat());
        assert!(audit.page(Some(&far), 1).await.is_err(), "no day that ever comes");
    }
}
