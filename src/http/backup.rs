//! `POST /admin/backup`: a copy of the whole store, streamed while the node goes on.
//!
//! The view is taken when the request arrives: whatever was acknowledged before is in it. One copy at a time, since each keeps the engine from
//! forgetting what it needs; a reader that takes nothing for [`STALLED`] ends it. A stream that could not be finished has no
//! end, and whoever reads it notices ([`crate::storage::copying`]).

use super::Api;
use super::admin::Operator;
use crate::auth::{failed, now};
use crate::error::{ApiError, Code};
use crate::storage::copying::{CopiedFile, Copying, Encoder, FORMAT, Head};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A reader that takes nothing for so long has gone.
const STALLED: Duration = Duration::from_secs(60);
/// Pages that wait for the reader.
const AHEAD: usize = 2;

/// One copy at a time.
pub(super) struct Backups(Arc<Semaphore>);

impl Default for Backups {
    fn default() -> Self {
        Backups(Arc::new(Semaphore::new(1)))
    }
}

/// Query of backup.
#[derive(Deserialize)]
pub struct What {
    /// The secrets' files too.
    #[serde(default)]
    secrets: bool,
}

/// `POST /admin/backup?secrets=`: the stream.
pub async fn backup(_op: Operator, api: web::Data<Api>, what: web::Query<What>) -> Result<HttpResponse, ApiError> {
    let busy = |_| ApiError::new(Code::Busy, "another backup is being taken; wait until it is done");
    let permit = api.backups.0.clone().try_acquire_owned().map_err(busy)?;
    let head = Head { format: FORMAT, shards: api.store.shards(), created: now(), secrets: what.secrets };
    let copy = api.store.copy().map_err(failed)?;
    let files = match what.secrets {
        true => secrets(&api.config.storage.data_dir).map_err(|e| {
            tracing::error!(error = %e, "the secrets could not be read for a backup");
            ApiError::new(Code::Internal, "the secrets cannot be read; the server's log says why")
        })?,
        false => Vec::new(),
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    actix_web::rt::spawn(produce(copy, head, files, sender, permit));
    let body = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|part| (part, receiver)) });
    Ok(HttpResponse::Ok().content_type("application/octet-stream").streaming(body))
}

type Sender = mpsc::Sender<Result<Bytes, io::Error>>;

async fn produce(mut copy: Box<dyn Copying>, head: Head, files: Vec<CopiedFile>, sender: Sender, permit: OwnedSemaphorePermit) {
    let mut encoder = Encoder::default();
    let mut first = vec![encoder.head(&head)];
    first.extend(files.iter().map(|file| encoder.file(file)));
    for part in first {
        if !give(&sender, Ok(part)).await {
            return;
        }
    }
    loop {
        // Reads the disk and hashes a megabyte: not on the thread that answers requests.
        let page = tokio::task::spawn_blocking(move || {
            let rows = copy.next();
            let part = rows.map(|rows| (!rows.is_empty()).then(|| encoder.rows(&rows)));
            (part, copy, encoder)
        });
        let Ok((part, used, rest)) = page.await else { return };
        (copy, encoder) = (used, rest);
        match part {
            Ok(Some(part)) => {
                if !give(&sender, Ok(part)).await {
                    return;
                }
            }
            Ok(None) => break,
            Err(error) => {
                tracing::error!(%error, "a backup could not be finished");
                give(&sender, Err(io::Error::other("the copy could not be finished"))).await;
                return;
            }
        }
    }
    give(&sender, Ok(encoder.end())).await;
    tracing::info!(secrets = head.secrets, "a backup was taken");
    drop(permit);
}

/// False when the reader has gone.
async fn give(sender: &Sender, part: Result<Bytes, io::Error>) -> bool {
    let given = matches!(tokio::time::timeout(STALLED, sender.send(part)).await, Ok(Ok(())));
    if !given {
        tracing::warn!("a backup was given up: nobody reads it any more");
    }
    given
}

/// The files of the secrets' directory.
pub fn secrets(data_dir: &Path) -> io::Result<Vec<CopiedFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(crate::config::secrets::dir(data_dir))? {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
            files.push(CopiedFile { name, content: std::fs::read(entry.path())? });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
