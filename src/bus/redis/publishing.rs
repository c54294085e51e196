//! Publishes what waits for other nodes: a message per node, all of them in one pipeline, a few pipelines under way.
//!
//! While answers are awaited, what comes waits and becomes the next batch; so batches grow with the load. A publication that fails or is
//! not answered in time is not repeated, and the connection is made anew: everybody is then told how far the numbers go.

use super::connect::{Connection, Pause};
use super::{Inner, rest, stopped};
use crate::cluster::NodeId;
use crate::telemetry::metrics;
use ::redis::{Cmd, ErrorKind, PushInfo, PushKind, RedisResult};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Pipelines under way: enough that a batch need not wait for the answer to the one before.
const UNDER_WAY_MAX: usize = 4;
/// How often it is said how far the numbers go.
const POSITION_EVERY: Duration = Duration::from_secs(1);

/// To whom how many envelopes went, and how many heard each.
type Answers = (Vec<(NodeId, u64)>, RedisResult<Vec<i64>>);
type Sending = Pin<Box<dyn Future<Output = Answers> + Send>>;

/// Publishes from when the bus opens until it stops.
pub(super) async fn run(inner: Arc<Inner>) {
    let (mut stop, mut pause, mut quiet) = (inner.stop.subscribe(), Pause::new(), false);
    let mut open = inner.open.subscribe();
    tokio::select! {
        () = stopped(&mut stop) => return,
        // The sender is in `inner`.
        _ = open.wait_for(|open| *open) => {}
    }
    loop {
        let result = tokio::select! {
            () = stopped(&mut stop) => return,
            connected = connect(&inner) => match connected {
                Ok((connection, gone)) => publish(&inner, connection, &gone, &mut pause, &mut quiet).await,
                Err(error) => Err(error),
            },
        };
        inner.publishes_now(false);
        inner.unsure(|_| true);
        let Err(error) = result else { return };
        if !std::mem::replace(&mut quiet, true) {
            tracing::warn!(%error, "nothing can be published to other nodes; connecting anew until it can");
        }
        metrics().bus_reconnects_total.inc();
        if rest(&mut stop, pause.after_failure()).await {
            return;
        }
    }
}

/// A connection, and what says that it is gone, so that nothing is published into it.
async fn connect(inner: &Inner) -> RedisResult<(Connection, Arc<Notify>)> {
    let gone = Arc::new(Notify::new());
    let told = gone.clone();
    let pushes = move |info: PushInfo| {
        if info.kind == PushKind::Disconnection {
            told.notify_one();
        }
    };
    Ok((inner.connector.connect(Some(Arc::new(pushes))).await?, gone))
}

/// Publishes until it fails; without error when the bus stops.
async fn publish(inner: &Inner, connection: Connection, gone: &Notify, pause: &mut Pause, quiet: &mut bool) -> RedisResult<()> {
    let mut stop = inner.stop.subscribe();
    let mut under_way: FuturesUnordered<Sending> = FuturesUnordered::new();
    let mut position = tokio::time::interval(POSITION_EVERY);
    position.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first word to Redis shows whether it takes any.
    connection.clone().all(vec![::redis::cmd("PING")]).await?;
    pause.over();
    inner.publishes_now(true);
    if std::mem::take(quiet) {
        tracing::info!("publishing to other nodes again");
    }
    loop {
        let tell = tokio::select! {
            biased;
            Some(answers) = under_way.next() => {
                settle(inner, answers)?;
                continue;
            }
            () = stopped(&mut stop) => break,
            () = gone.notified() => return Err((ErrorKind::Io, "the connection ended").into()),
            _ = position.tick(), if under_way.len() < UNDER_WAY_MAX => true,
            () = inner.wake.notified(), if under_way.len() < UNDER_WAY_MAX => false,
        };
        let sending = next(inner, &connection, tell);
        // Who has nothing to say asks all the same: so it is known whether Redis still answers.
        let idle = || (tell && under_way.is_empty()).then(|| send(&connection, Vec::new(), vec![::redis::cmd("PING")]));
        if let Some(mut sending) = sending.or_else(idle) {
            // Polled at once: so batches are handed to the connection in their order.
            match futures_util::poll!(sending.as_mut()) {
                std::task::Poll::Ready(answers) => settle(inner, answers)?,
                std::task::Poll::Pending => under_way.push(sending),
            }
        }
    }
    last(inner, &connection, under_way).await;
    Ok(())
}

/// The next pipeline, if there is something to say.
fn next(inner: &Inner, connection: &Connection, tell: bool) -> Option<Sending> {
    let batches = inner.collect(tell);
    if batches.is_empty() {
        return None;
    }
    let (mut commands, mut targets) = (Vec::with_capacity(batches.len()), Vec::with_capacity(batches.len()));
    for (node, leaving) in batches {
        let message = super::wire::batch(inner.head(leaving.first.unwrap_or(0)), &leaving.all);
        metrics().bus_sent_total.inc_by(leaving.all.len() as u64);
        metrics().bus_sent_bytes_total.inc_by(message.len() as u64);
        commands.push(connection.publish(&inner.channel(node), &message));
        targets.push((node, leaving.all.len() as u64));
    }
    metrics().bus_batches_total.inc_by(commands.len() as u64);
    Some(send(connection, targets, commands))
}

fn send(connection: &Connection, targets: Vec<(NodeId, u64)>, commands: Vec<Cmd>) -> Sending {
    let mut connection = connection.clone();
    Box::pin(async move {
        let answers = connection.all(commands).await;
        (targets, answers)
    })
}

fn unsent(count: u64) {
    metrics().bus_dropped_total.of("unsent").inc_by(count);
}

/// Takes note of what became of a pipeline.
fn settle(inner: &Inner, (targets, answers): Answers) -> RedisResult<()> {
    let answers = answers.inspect_err(|_| unsent(targets.iter().map(|(_, count)| count).sum()))?;
    for ((node, count), heard) in targets.into_iter().zip(answers) {
        if heard == 0 {
            // It does not hear now. If it is there, it will; then it must learn how far the numbers went.
            unsent(count);
            if inner.shared.look(|view| view.membership().has(node)) {
                inner.unsure(|which| which == node);
            }
        }
    }
    Ok(())
}

/// What still waits when the bus stops, within the time limit for answers.
async fn last(inner: &Inner, connection: &Connection, mut under_way: FuturesUnordered<Sending>) {
    while let Some(sending) = next(inner, connection, false) {
        under_way.push(sending);
    }
    while let Some(answers) = under_way.next().await {
        if settle(inner, answers).is_err() {
            break;
        }
    }
}
