//! The filter of messages that an operator configured: asked over HTTP, within a time limit, and what happens when it is down.

use crate::actors::screening::{Draft, Filter, Screened};
use crate::config::{self, FilterDown};
use crate::error::{ApiError, Code};
use crate::outbound::{Call, HeaderMap, HeaderName, HeaderValue, Method, Outbound, SIGNATURE, Url, header, sign};
use crate::protocol::entry::Attachment;
use crate::telemetry::metrics;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Bytes of an answer beside the text it may hold.
const ANSWER_BYTES: usize = 4_096;
/// When a sender may try again while the filter is down.
const AGAIN: Duration = Duration::from_secs(1);
/// Characters of a refusal that senders are told.
const MESSAGE_CHARS_MAX: usize = 500;

#[derive(Serialize)]
struct Question<'a> {
    room: crate::protocol::ids::RoomId,
    user: crate::protocol::ids::UserId,
    edits: Option<u64>,
    text: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    attachments: &'a [Attachment],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
enum Answer {
    Pass,
    Change { text: String },
    Refuse { message: Option<String> },
}

/// See the module.
pub(super) struct WebFilter {
    outbound: Outbound,
    /// Questions under way. Who finds none free in time is refused, also where a filter that is down lets messages pass: else whoever asks
    /// enough at once would get the rest past it.
    free: Semaphore,
    timeout: Duration,
    url: Url,
    secret: String,
    down: FilterDown,
    text_bytes_max: usize,
}

/// The filter, if one is configured.
pub(super) fn of(config: &config::Config) -> Result<Option<Arc<dyn Filter>>, String> {
    let ours = &config.moderation;
    if ours.filter_url.is_empty() {
        return Ok(None);
    }
    // The operator named the address, not a user: it may be anywhere. The limits are the filter's own.
    let outbound = Outbound::new(&config::Outbound {
        allowed_ranges: vec!["0.0.0.0/0".into(), "::/0".into()],
        timeout_ms: ours.filter_timeout_ms,
        connect_timeout_ms: ours.filter_timeout_ms,
        requests_max: ours.filter_calls_max,
        ..config.outbound.clone()
    });
    let outbound = outbound.map_err(|e| format!("moderation.filter_url: {e}"))?;
    let url = outbound.address(&ours.filter_url).map_err(|e| format!("moderation.filter_url: {e}"))?;
    let (secret, down, text_bytes_max) = (ours.filter_secret.clone(), ours.filter_down, config.rooms.text_bytes_max);
    let (free, timeout) = (Semaphore::new(ours.filter_calls_max), Duration::from_millis(ours.filter_timeout_ms));
    Ok(Some(Arc::new(WebFilter { outbound, free, timeout, url, secret, down, text_bytes_max })))
}

impl WebFilter {
    async fn ask(&self, draft: &Draft) -> Result<Answer, String> {
        let question = Question {
            room: draft.room,
            user: draft.user,
            edits: draft.edits,
            text: &draft.text,
            attachments: &draft.attachments,
            data: draft.data.as_deref(),
        };
        let body = serde_json::to_vec(&question).map_err(|e| e.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if !self.secret.is_empty() {
            let signature = sign([self.secret.as_str()], crate::auth::now() / 1000, &body);
            headers.insert(HeaderName::from_static(SIGNATURE), HeaderValue::from_str(&signature).map_err(|e| e.to_string())?);
        }
        let answer_bytes_max = ANSWER_BYTES + 6 * self.text_bytes_max;
        let call = Call { method: Method::POST, url: self.url.clone(), headers, body: body.into(), answer_bytes_max };
        let answer = self.outbound.send(call).await.map_err(|e| e.to_string())?;
        if answer.status != 200 || !answer.whole {
            return Err(format!("status {}, whole: {}", answer.status, answer.whole));
        }
        match serde_json::from_slice(&answer.body) {
            Ok(Answer::Change { text }) if text.is_empty() || text.len() > self.text_bytes_max => {
                Err("the text it wants is empty or too long".into())
            }
            Ok(answer) => Ok(answer),
            Err(e) => Err(format!("its answer is not understood: {e}")),
        }
    }
}

#[async_trait]
impl Filter for WebFilter {
    async fn screen(&self, draft: Draft) -> Screened {
        let busy = |what: &str| Screened::Refuse(ApiError::after(Code::Busy, format!("{what}; send it again in a moment"), AGAIN));
        let Ok(Ok(_free)) = tokio::time::timeout(self.timeout, self.free.acquire()).await else {
            metrics().filter_answers_total.of("busy").inc();
            return busy("too many messages are being looked at");
        };
        let (label, screened) = match self.ask(&draft).await {
            Ok(Answer::Pass) => ("pass", Screened::Pass),
            Ok(Answer::Change { text }) => ("change", Screened::Change(text)),
            Ok(Answer::Refuse { message }) => {
                let said = message.unwrap_or_else(|| "this message is not allowed here".into());
                let said: String = said.chars().take(MESSAGE_CHARS_MAX).collect();
                ("refuse", Screened::Refuse(ApiError::new(Code::Forbidden, said)))
            }
            Err(why) => {
                tracing::warn!(%why, "the filter of messages is down");
                ("down", if self.down == FilterDown::Open { Screened::Pass } else { busy("messages cannot be looked at now") })
            }
        };
        metrics().filter_answers_total.of(label).inc();
        screened
    }
}
