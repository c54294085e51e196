//! Hears this node's channel, and knows whether it does.
//!
//! Once a second the node publishes a word to its own channel, over the connection that hears it: that it was handed to a subscriber is the
//! proof that this node hears. A connection that breaks, or that is silent for too long, is thrown away and made anew, for ever; after
//! each one all other nodes count as missed.

use super::connect::Pause;
use super::{Inner, rest, stopped};
use crate::telemetry::metrics;
use ::redis::{ErrorKind, PushInfo, PushKind, RedisResult, Value};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often it is looked whether this node hears.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One connection's messages.
struct Ear {
    inner: Arc<Inner>,
    /// This connection is the one that counts.
    open: AtomicBool,
    /// Messages so far.
    heard: AtomicU64,
    gone: Notify,
}

impl Ear {
    fn push(&self, info: PushInfo) {
        if !self.open.load(Ordering::Acquire) {
            return;
        }
        match info.kind {
            PushKind::Message | PushKind::SMessage => {
                self.heard.fetch_add(1, Ordering::Relaxed);
                // Channel, message.
                if let Some(Value::BulkString(bytes)) = info.data.into_iter().nth(1) {
                    self.inner.came(&Bytes::from(bytes));
                }
            }
            PushKind::Disconnection | PushKind::SUnsubscribe | PushKind::Unsubscribe => self.gone.notify_one(),
            _ => {}
        }
    }
}

/// Closes the ear, however hearing ends.
struct Closing<'a>(&'a Ear);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.open.store(false, Ordering::Release);
        self.0.inner.hears_now(false);
    }
}

/// Hears until the bus stops.
pub(super) async fn run(inner: Arc<Inner>) {
    let (mut stop, mut pause, mut quiet) = (inner.stop.subscribe(), Pause::new(), false);
    loop {
        let error = tokio::select! {
            () = stopped(&mut stop) => return,
            error = hear(&inner, &mut pause, &mut quiet) => error,
        };
        if !std::mem::replace(&mut quiet, true) {
            tracing::warn!(%error, "nothing is heard of other nodes; connecting anew until it is");
        }
        metrics().bus_reconnects_total.inc();
        if rest(&mut stop, pause.after_failure()).await {
            return;
        }
    }
}

/// Hears until it fails.
async fn hear(inner: &Arc<Inner>, pause: &mut Pause, quiet: &mut bool) -> ::redis::RedisError {
    let ear = Ear { inner: inner.clone(), open: AtomicBool::new(true), heard: AtomicU64::new(0), gone: Notify::new() };
    let ear = Arc::new(ear);
    let _closing = Closing(&ear);
    match listen(&ear, pause, quiet).await {
        Ok(()) => (ErrorKind::Io, "the connection ended").into(),
        Err(error) => error,
    }
}

async fn listen(ear: &Arc<Ear>, pause: &mut Pause, quiet: &mut bool) -> RedisResult<()> {
    let (inner, pushed) = (&ear.inner, ear.clone());
    let mut connection = inner.connector.connect(Some(Arc::new(move |info| pushed.push(info)))).await?;
    let channel = inner.channel(inner.me);
    connection.subscribe(&channel).await?;
    pause.over();
    inner.hears_now(true);
    if std::mem::take(quiet) {
        tracing::info!("hearing other nodes again");
    }
    inner.missed_all();
    let word = super::wire::batch(inner.head(0), &[]);
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ear.gone.notified() => return Ok(()),
            _ = look.tick() => {}
        }
        let (before, asked) = (ear.heard.load(Ordering::Relaxed), Instant::now());
        match connection.publish(&channel, &word).query_async::<i64>(&mut connection).await {
            Ok(0) => return Err((ErrorKind::Client, "this node's channel has no subscriber").into()),
            Ok(_) => metrics().bus_round_trip_seconds.observe(asked.elapsed().as_secs_f64()),
            // So much comes that the answer has not had its turn.
            Err(error) if error.is_timeout() && ear.heard.load(Ordering::Relaxed) != before => {}
            Err(error) => return Err(error),
        }
    }
}
