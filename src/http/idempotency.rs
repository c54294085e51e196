//! `Idempotency-Key`: a POST that creates something, repeated with the same key, creates it once and gets the first answer again.
//!
//! A key is remembered per user for [`KEPT`]: first that a request with it is under way, then its answer. Both are durable before the
//! next step is taken, so the promise holds over restarts. A crash between doing and remembering leaves a key "under way"; a
//! repeat then does the request again, and that makes nothing twice: it carries the same client id (derived from the user, the key and the
//! instant it was first used) and the same `since`, by which the room, or the store for a new room, finds what is there already (P3).
//!
//! The same key with another request (method, address or body) is a `conflict`; so is a repeat while the first is still being answered, but
//! that one says to try again later. Answers that say "try again" are not remembered. A request with a key is carried to its end also when the
//! client hangs up. Keys are bounded by their number per user and day (`limits.idempotency_keys_per_day`), answers by
//! [`ANSWER_BYTES_MAX`]; [`sweep`] removes what is over.

use super::Api;
use super::error::BodyHash;
use crate::auth::{failed, now};
use crate::error::{ApiError, Code, Retry};
use crate::protocol::ids::{ClientId, Millis, Seq, UserId};
use crate::storage::records::{decode, encode};
use crate::storage::{Records, Table};
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::future::{Ready, ready};
use std::time::Duration;
use utoipa::IntoParams;

/// The header.
pub const HEADER: &str = "idempotency-key";
/// Says that an answer was given before.
const REPLAYED: &str = "idempotency-replayed";
/// How long a key is remembered after it was first used.
const KEPT: Duration = Duration::from_secs(86_400);
/// Bytes of a key at most.
const KEY_BYTES_MAX: usize = 255;
/// Bytes of an answer that is remembered; after a longer one a repeat does the request again, under the same client id.
const ANSWER_BYTES_MAX: usize = 128 * 1024;
/// Writes of one record that may collide before the caller is told to try again.
const TRIES: usize = 4;
/// Partitions of the table: each small enough to be looked through.
const BUCKETS: u64 = 256;
/// Records that [`sweep`] looks at in one go.
const SWEEP_PAGE: usize = 256;

/// What is remembered of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// Which request: a hash of method, address and body.
    print: [u8; 32],
    /// When the key was first used.
    begun: Millis,
    /// The `since` of the first try.
    since: Seq,
    /// Until when a try may be under way.
    busy_until: Millis,
    answer: Option<Answer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
}

/// What to do with a request, by what is remembered of its key.
#[derive(Debug, PartialEq)]
enum Step {
    /// It is new.
    Begin,
    /// It was begun and not answered: do it as the first time.
    Again(Kept),
    /// Give the answer that was given.
    Replay(Answer),
    /// Another request used the key.
    Conflict,
    /// It is being answered; milliseconds until it must be over.
    Busy(Millis),
}

fn step(kept: Option<Kept>, print: [u8; 32], now: Millis) -> Step {
    match kept {
        None => Step::Begin,
        Some(kept) if is_over(&kept, now) => Step::Begin,
        Some(kept) if kept.print != print => Step::Conflict,
        Some(Kept { answer: Some(answer), .. }) => Step::Replay(answer),
        Some(kept) if kept.busy_until > now => Step::Busy(kept.busy_until - now),
        Some(kept) => Step::Again(kept),
    }
}

fn is_over(kept: &Kept, now: Millis) -> bool {
    kept.begun + (KEPT.as_millis() as Millis) < now
}

/// What a request that creates is done under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The client id: the same in every try.
    pub cid: ClientId,
    /// The room's head when the request was first tried; 0 for requests without a room.
    pub since: Seq,
    /// When the request was first tried.
    pub at: Millis,
}

/// The header, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub struct KeyHeader {
    /// Anything that no other request has. The same request again with the same key does nothing and gets the first answer, for 24 hours.
    #[param(rename = "Idempotency-Key", pattern = "^[!-~]{1,255}$")]
    idempotency_key: Option<String>,
}

/// The key of a request, if it has one. A handler of a POST that creates takes it, and does its work in [`Key::once`].
pub struct Key {
    key: Option<String>,
    req: HttpRequest,
}

impl FromRequest for Key {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut all = req.headers().get_all(HEADER);
        let key = match (all.next().map(HeaderValue::to_str), all.next()) {
            (None, _) => Ok(None),
            (Some(Ok(key)), None) if (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Some(key.to_owned()))
            }
            _ => Err(ApiError::new(Code::Invalid, "idempotency-key: one, of 1 to 255 visible ASCII characters")),
        };
        ready(key.map(|key| Key { key, req: req.clone() }))
    }
}

impl Key {
    /// Does `act`, once per key. `since` is asked for at the first try only: the head of the room that is written to (`async { Ok(0) }`
    /// where there is none). What `act` makes must be found again by the client id it is given.
    pub async fn once<F>(
        self,
        api: &web::Data<Api>,
        user: UserId,
        since: impl Future<Output = Result<Seq, ApiError>>,
        act: impl FnOnce(Attempt) -> F,
    ) -> Result<HttpResponse, ApiError>
    where
        F: Future<Output = Result<HttpResponse, ApiError>> + 'static,
    {
        let Some(key) = self.key else {
            return act(Attempt { cid: ClientId::fresh(), since: since.await?, at: now() }).await;
        };
        let place = Place::new(api, user, &key);
        let begun = match place.begin(print(&self.req), since).await? {
            Begun::Answered(answer) => return replay(answer),
            Begun::Do(kept) => kept,
        };
        let doing = act(Attempt { cid: client_id(user, &key, begun.begun), since: begun.since, at: begun.begun });
        // In a task of its own: it ends, and is remembered, also when the client does not wait for it.
        let done = actix_web::rt::spawn(async move {
            let answer = doing.await;
            place.end(begun, answer).await
        });
        done.await.unwrap_or_else(|_| Err(ApiError::new(Code::Internal, "the request failed by a fault of the server's own")))
    }
}

fn print(req: &HttpRequest) -> [u8; 32] {
    let body = req.extensions().get::<BodyHash>().map(|hash| hash.0).unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [req.method().as_str().as_bytes(), req.path().as_bytes(), req.query_string().as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(body);
    hash.finalize().into()
}

/// The same for every try of a key; another one when the key is used anew after it was forgotten.
fn client_id(user: UserId, key: &str, begun: Millis) -> ClientId {
    let hash = Sha256::new().chain_update(user.0.to_be_bytes()).chain_update(begun.to_be_bytes()).chain_update(key).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    ClientId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

enum Begun {
    Do(Kept),
    Answered(Answer),
}

/// Where a key is remembered.
struct Place {
    api: web::Data<Api>,
    user: UserId,
    partition: Vec<u8>,
    key: Vec<u8>,
}

impl Place {
    fn new(api: &web::Data<Api>, user: UserId, key: &str) -> Place {
        let id = user.0.to_be_bytes();
        let bucket = xxhash_rust::xxh3::xxh3_64(&id) % BUCKETS;
        Place { api: api.clone(), user, partition: partition(bucket), key: [&id, key.as_bytes()].concat() }
    }

    /// Notes that the request is under way, or finds out why it need not or must not be done.
    async fn begin(&self, print: [u8; 32], since: impl Future<Output = Result<Seq, ApiError>>) -> Result<Begun, ApiError> {
        let mut since = Some(since);
        for _ in 0..TRIES {
            let was = self.api.store.record(Table::Idempotency, &self.partition, &self.key).await.map_err(failed)?;
            let kept = was.as_deref().map(decode::<Kept>).transpose().map_err(failed)?;
            let at = now();
            let busy_until = at + 2 * self.api.config.socket.request_timeout_ms;
            let next = match step(kept, print, at) {
                Step::Begin => {
                    self.api.limits.idempotency_key(self.user)?;
                    let since = match since.take() {
                        Some(since) => since.await?,
                        None => break,
                    };
                    Kept { print, begun: at, since, busy_until, answer: None }
                }
                Step::Again(kept) => Kept { busy_until, ..kept },
                Step::Replay(answer) => return Ok(Begun::Answered(answer)),
                Step::Conflict => return Err(ApiError::new(Code::Conflict, "this idempotency key was used with another request")),
                Step::Busy(ms) => {
                    let busy = ApiError::after(Code::Conflict, "a request with this key is being answered", Duration::from_millis(ms));
                    return Err(ApiError { retry: Retry::Later, ..busy });
                }
            };
            if self.replace(was, Some(encode(&next))).await? {
                return Ok(Begun::Do(next));
            }
        }
        Err(ApiError::new(Code::Unavailable, "requests with this key collide"))
    }

    /// Remembers the answer, or that there was none.
    async fn end(&self, begun: Kept, result: Result<HttpResponse, ApiError>) -> Result<HttpResponse, ApiError> {
        let (answer, result) = match result {
            Ok(response) => {
                let answer = taken_apart(response).await?;
                (Some(answer.clone()), put_together(answer))
            }
            Err(error) if error.retry == Retry::Never => (taken_apart(error.error_response()).await.ok(), Err(error)),
            Err(error) => (None, Err(error)),
        };
        let answer = answer.filter(|answer| answer.body.len() <= ANSWER_BYTES_MAX);
        let ended = Kept { busy_until: 0, answer, ..begun.clone() };
        // What is done is done: when it cannot be remembered, a repeat does it again under the same client id.
        if let Err(error) = self.replace(Some(encode(&begun)), Some(encode(&ended))).await {
            tracing::warn!(%error, "the answer to a request with an idempotency key was not stored");
        }
        result
    }

    async fn replace(&self, was: Option<Bytes>, now: Option<Bytes>) -> Result<bool, ApiError> {
        self.api.store.replace_record(Table::Idempotency, &self.partition, &self.key, was, now).await.map_err(failed)
    }
}

fn partition(bucket: u64) -> Vec<u8> {
    vec![bucket as u8]
}

async fn taken_apart(response: HttpResponse) -> Result<Answer, ApiError> {
    let status = response.status().as_u16();
    let kept = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];
    let text = |name: &HeaderName| Some((name.to_string(), response.headers().get(name)?.to_str().ok()?.to_owned()));
    let headers = kept.iter().filter_map(text).collect();
    let unread = |_| ApiError::new(Code::Internal, "the answer could not be put together");
    let body = actix_web::body::to_bytes(response.into_body()).await.map_err(unread)?.to_vec();
    Ok(Answer { status, headers, body })
}

fn put_together(answer: Answer) -> Result<HttpResponse, ApiError> {
    let status = StatusCode::from_u16(answer.status).map_err(|_| ApiError::new(Code::Internal, "the stored answer has no status"))?;
    let mut response = HttpResponse::build(status);
    for header in answer.headers {
        response.insert_header(header);
    }
    Ok(if answer.body.is_empty() { response.finish() } else { response.body(answer.body) })
}

fn replay(answer: Answer) -> Result<HttpResponse, ApiError> {
    let mut response = put_together(answer)?;
    response.headers_mut().insert(HeaderName::from_static(REPLAYED), HeaderValue::from_static("true"));
    Ok(response)
}

/// Removes the keys that are over, of those buckets that are `mine` to look through. Two nodes may do it at once.
pub async fn sweep(store: &dyn Records, now: Millis, mine: impl Fn(u64) -> bool) -> crate::storage::Result<usize> {
    let mut removed = 0;
    for bucket in 0..BUCKETS {
        // Asked for each: one takes its time, and shards move.
        if !mine(bucket) {
            continue;
        }
        let partition = partition(bucket);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = store.records(Table::Idempotency, &partition, after.as_deref(), SWEEP_PAGE).await?;
            let last = page.last().map(|(key, _)| key.clone());
            let full = page.len() == SWEEP_PAGE;
            for (key, bytes) in page {
                // What cannot be read is of no use to anybody.
                if decode::<Kept>(&bytes).is_ok_and(|kept| !is_over(&kept, now)) {
                    continue;
                }
                removed += usize::from(store.replace_record(Table::Idempotency, &partition, &key, Some(bytes), None).await?);
            }
            if !full {
                break;
            }
            after = last;
        }
    }
    Ok(removed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DAY: Millis = 86_400_000;

    fn kept(print: u8, begun: Millis, busy_until: Millis, answered: bool) -> Kept {
        let answer = answered.then(|| Answer { status: 201, headers: Vec::new(), body: b"{}".to_vec() });
        Kept { print: [print; 32], begun, since: 7, busy_until, answer }
    }

    #[test]
    fn a_key_is_begun_once_answered_for_a_day_and_then_new() {
        assert_eq!(step(None, [1; 32], 5), Step::Begin);
        assert!(matches!(step(Some(kept(1, 5, 0, true)), [1; 32], 5 + DAY), Step::Replay(_)));
        assert_eq!(step(Some(kept(1, 5, 0, true)), [1; 32], 6 + DAY), Step::Begin);
        assert_eq!(step(Some(kept(2, 5, 0, true)), [1; 32], 6 + DAY), Step::Begin);
        for answered in [true, false] {
            assert_eq!(step(Some(kept(2, 5, 0, answered)), [1; 32], 6), Step::Conflict);
        }
        assert_eq!(step(Some(kept(1, 5, 30, false)), [1; 32], 20), Step::Busy(10));
        assert_eq!(step(Some(kept(1, 5, 30, false)), [1; 32], 30), Step::Again(kept(1, 5, 30, false)));
    }

    #[test]
    fn the_client_id_is_the_same_in_every_try_and_nobody_elses() {
        let id = client_id(UserId(7), "key", 5);
        assert_eq!(client_id(UserId(7), "key", 5), id);
        for other in [client_id(UserId(8), "key", 5), client_id(UserId(7), "kez", 5), client_id(UserId(7), "key", 6)] {
            assert_ne!(other, id);
        }
    }

    #[actix_rt::test]
    async fn the_sweep_removes_what_is_over_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::storage::embedded::EmbeddedStore::open(dir.path(), Default::default()).unwrap();
        for n in 0..600u64 {
            let begun = if n % 3 == 0 { DAY * 3 } else { DAY };
            let key = n.to_be_bytes();
            let now = Some(encode(&kept(1, begun, 0, true)));
            assert!(store.replace_record(Table::Idempotency, &partition(n % 2), &key, None, now).await.unwrap());
        }
        assert_eq!(sweep(&*store, DAY * 3, |_| false).await.unwrap(), 0, "it is another node's to do");
        assert_eq!(sweep(&*store, DAY * 3, |bucket| bucket == 1).await.unwrap(), 200);
        assert_eq!(sweep(&*store, DAY * 3, |_| true).await.unwrap(), 200);
        assert_eq!(sweep(&*store, DAY * 3, |_| true).await.unwrap(), 0);
    }
}
