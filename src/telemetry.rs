//! What the server says about itself: every metric's name, in one place, and how the log is written.
//!
//! Names follow the Prometheus conventions: prefix `hubbub_`, base units, counters end in `_total`; a test reads the encoded text
//! and checks it. A label's values are a closed set that is written down here or in the protocol: no ids of users or
//! rooms, and what is not in the set counts as `other`. So the number of series is fixed, and every series is there from the
//! start with 0. Counting is an atomic addition, without a lock.

use crate::config;
use crate::error::Code;
use crate::protocol::{close, entry, ops};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// The media type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names of the actors that can be restarted.
pub const ACTORS: &[&str] =
    &["room", "presence", "sequencer", "session", "hub", "delivery", "applier", "guardian", "link", "push_worker", "webhooks"];
/// Why a socket is refused before it is one.
pub const REFUSALS: &[&str] =
    &["connections_max", "per_address", "unauthenticated", "rate_limited", "draining", "origin", "subprotocol", "handshake"];
/// Why a connection is dropped before its first request.
const ARRIVALS: &[&str] = &["proxy_header", "tls", "timeout"];
const FILTER_ANSWERS: &[&str] = &["pass", "change", "refuse", "down", "busy"];
const RELOADS: &[&str] = &["reloaded", "refused"];
/// What became of an attempt to sign in, register or renew.
pub const AUTH_RESULTS: &[&str] = &["signed_in", "registered", "refreshed", "mfa_required", "refused", "rate_limited", "revoked", "failed"];
/// What became of an attempt to hand a mail over.
pub const MAIL_RESULTS: &[&str] = &["sent", "retried", "failed", "refused", "none"];
/// What became of an event for a webhook.
pub const WEBHOOK_RESULTS: &[&str] = &["delivered", "retried", "dead", "dropped"];
/// What became of a request to others.
pub const OUTBOUND_RESULTS: &[&str] = &["2xx", "3xx", "4xx", "5xx", "refused", "timed_out", "failed"];
/// What became of an attempt to push.
pub const PUSH_ATTEMPTS: &[&str] = &["sent", "later", "gone", "refused"];
/// How a notification was settled: sent, or no longer wanted, or not to be had.
pub const PUSH_ENDS: &[&str] =
    &["sent", "read", "deleted", "purged", "left", "level", "blocked", "unsubscribed", "signed_out", "expired", "gone", "refused"];
/// Why an envelope for another node is not sent.
pub const BUS_DROPS: &[&str] = &["full", "expired", "too_large", "unsent", "on_purpose"];
/// What became of an attempt to renew the lease.
pub const RENEWALS: &[&str] = &["renewed", "failed", "other"];
/// What became of questions to other nodes.
const QUESTIONS: &[&str] = &["answered", "elsewhere", "expired", "given_up", "refused"];
const STANDINGS: &[&str] = &["unchanged", "catch_up", "joined", "left", "resync"];
const STATUS_CLASSES: &[&str] = &["2xx", "3xx", "4xx", "5xx"];

/// A counter for each value of one label.
#[derive(Clone, Debug)]
pub struct Labeled {
    family: Family<[(&'static str, String); 1], Counter>,
    /// The closed set, and `other` as its last.
    counters: Vec<(String, Counter)>,
}

impl Labeled {
    fn new(label: &'static str, values: impl IntoIterator<Item = impl Into<String>>) -> Labeled {
        let family = Family::<[(&'static str, String); 1], Counter>::default();
        let all = values.into_iter().map(Into::into).chain(["other".to_string()]);
        let counters = all.map(|v| (v.clone(), family.get_or_create_owned(&[(label, v)]))).collect();
        Labeled { family, counters }
    }
    /// The counter of a value; of `other` when it is not in the set.
    pub fn of(&self, value: &str) -> &Counter {
        let found = self.counters.iter().find(|(v, _)| v == value).or(self.counters.last());
        &found.expect("`other` is always there").1
    }
}

/// How a kind of metric is entered in the registry.
trait Enter {
    fn enter(&self, at: &mut Registry, name: &str, help: &str, unit: Option<Unit>);
}
fn enter(at: &mut Registry, name: &str, help: &str, unit: Option<Unit>, metric: impl Metric) {
    match unit {
        Some(unit) => at.register_with_unit(name, help, unit, metric),
        None => at.register(name, help, metric),
    }
}
macro_rules! enters {
    ($($kind:ty, $self:ident => $metric:expr;)*) => {
        $(impl Enter for $kind {
            fn enter(&self, at: &mut Registry, name: &str, help: &str, unit: Option<Unit>) {
                let $self = self;
                enter(at, name, help, unit, $metric);
            }
        })*
    };
}
enters! {
    Counter, it => it.clone();
    Gauge, it => it.clone();
    Histogram, it => it.clone();
    Labeled, it => it.family.clone();
}

/// A field's name is the metric's, without `hubbub_`; the registry wants it without what follows from type and unit.
fn split(field: &str) -> (&str, Option<Unit>) {
    let name = field.strip_suffix("_total").unwrap_or(field);
    if let Some(bare) = name.strip_suffix("_seconds") {
        (bare, Some(Unit::Seconds))
    } else if let Some(bare) = name.strip_suffix("_bytes") {
        (bare, Some(Unit::Bytes))
    } else {
        (name, None)
    }
}

macro_rules! metrics {
    ($($field:ident: $ty:ty = $new:expr, $help:literal;)*) => {
        /// The metrics. A field is named as the metric is, without `hubbub_`.
        pub struct Metrics { registry: Registry, $(#[doc = $help] pub $field: $ty,)* }
        impl Metrics {
            fn new() -> Metrics {
                let mut registry = Registry::default();
                registry.register_collector(Box::new(Process));
                let ours = registry.sub_registry_with_prefix("hubbub");
                $(
                    let $field: $ty = $new;
                    let (name, unit) = split(stringify!($field));
                    $field.enter(ours, name, $help, unit);
                )*
                Metrics { registry, $($field,)* }
            }
        }
    };
}

metrics! {
    sockets_open: Gauge = Gauge::default(), "Sockets open now";
    sockets_opened_total: Counter = Counter::default(), "Sockets opened";
    sockets_closed_total: Labeled = Labeled::new("code", close_codes()), "Sockets closed, by close code (1006: without a Close frame)";
    connections_refused_total: Labeled = Labeled::new("reason", ARRIVALS.iter().copied()), "Connections dropped before their first request";
    tls_reloads_total: Labeled = Labeled::new("result", RELOADS.iter().copied()), "Times the certificate was read again";
    sockets_refused_total: Labeled = Labeled::new("reason", REFUSALS.iter().copied()), "Sockets refused before they were open";
    requests_total: Labeled = Labeled::new("op", ops::Request::OPS.iter().copied()), "Requests over sockets";
    request_errors_total: Labeled = Labeled::new("code", codes()), "Requests over sockets that were answered with an error";
    request_duration_seconds: Histogram = seconds(), "Time from reading a request to its reply";
    http_requests_total: Labeled = Labeled::new("status", STATUS_CLASSES.iter().copied()), "Requests to the HTTP API, by class of status";
    http_request_duration_seconds: Histogram = seconds(), "Time a request to the HTTP API took";
    auth_attempts_total: Labeled = Labeled::new("result", AUTH_RESULTS.iter().copied()), "Attempts to register, sign in or renew tokens";
    mails_total: Labeled = Labeled::new("result", MAIL_RESULTS.iter().copied()), "Attempts to hand mail over";
    entries_appended_total: Labeled = Labeled::new("kind", entry::KINDS.iter().copied()), "Entries acknowledged, by kind";
    entries_purged_total: Counter = Counter::default(), "Rows of the log that were removed because they are no longer kept";
    append_duration_seconds: Histogram = seconds(), "Time an append to the log took until it was durable";
    append_batch_rows: Histogram = Histogram::new((0..11).map(|n| f64::from(1 << n))), "Rows of an append";
    deliveries_total: Counter = Counter::default(), "Events put into outboxes";
    delivered_bytes_total: Counter = Counter::default(), "Bytes of frames put into outboxes";
    ephemeral_dropped_total: Counter = Counter::default(), "Ephemeral events dropped at full outboxes";
    outbox_overruns_total: Counter = Counter::default(), "Sessions closed because their outbox ran over";
    filter_answers_total: Labeled = Labeled::new("result", FILTER_ANSWERS.iter().copied()), "What the filter of messages said, by result";
    rooms_active: Gauge = Gauge::default(), "Rooms with an actor now";
    presences_active: Gauge = Gauge::default(), "Users with a presence actor now";
    actor_restarts_total: Labeled = Labeled::new("actor", ACTORS.iter().copied()), "Actors that ended or panicked and were rebuilt";
    peer_questions_total: Labeled = Labeled::new("result", QUESTIONS.iter().copied()), "Questions to other nodes, by what became of them";
    hub_backfills_total: Counter = Counter::default(), "Holes that hubs filled from the log";
    resumes_total: Labeled = Labeled::new("standing", STANDINGS.iter().copied()), "Rooms of resumes, by how they stood";
    hub_dropped_total: Counter = Counter::default(), "Envelopes dropped because too much waited for a hub (backfilled later)";
    delivery_passed_over_total: Counter = Counter::default(), "Entries of which somebody could not be told, however often it was tried";
    delivery_dropped_total: Counter = Counter::default(), "Entries that delivery had no room for and read from the log later";
    offline_recipients_total: Counter = Counter::default(), "Recipients of messages who had no session";
    outbound_requests_total: Labeled = Labeled::new("result", OUTBOUND_RESULTS.iter().copied()), "Requests made to others (webhooks, push services, issuers)";
    push_jobs_total: Counter = Counter::default(), "Push jobs written: one for each message and device";
    push_attempts_total: Labeled = Labeled::new("result", PUSH_ATTEMPTS.iter().copied()), "Attempts to push, by what became of them";
    push_settled_total: Labeled = Labeled::new("reason", PUSH_ENDS.iter().copied()), "Notifications that are settled, by how";
    push_under_way: Gauge = Gauge::default(), "Attempts to push that are under way now";
    push_delay_seconds: Histogram = seconds(), "Time from a message to the attempt that brought its push";
    webhook_events_total: Labeled = Labeled::new("result", WEBHOOK_RESULTS.iter().copied()), "Events for webhooks: accepted, tried again, dead letters, dropped";
    webhook_jobs_waiting: Gauge = Gauge::default(), "Events that wait for a webhook now";
    log_rows_total: Counter = Counter::default(), "Rows the log has stored since the start";
    log_syncs_total: Counter = Counter::default(), "Flushes of the log to the device since the start";
    log_appends_waiting: Gauge = Gauge::default(), "Appends that wait for the device now";
    storage_disk_bytes: Gauge = Gauge::default(), "Bytes the store holds on disk";
    bus_connected: Gauge = Gauge::default(), "1 when this node publishes to other nodes and hears them, else 0";
    bus_sent_total: Counter = Counter::default(), "Envelopes published for other nodes";
    bus_sent_bytes_total: Counter = Counter::default(), "Bytes published for other nodes";
    bus_batches_total: Counter = Counter::default(), "Messages that these envelopes went in";
    bus_received_total: Counter = Counter::default(), "Envelopes received from other nodes";
    bus_dropped_total: Labeled = Labeled::new("reason", BUS_DROPS.iter().copied()), "Envelopes for other nodes that were dropped, by why";
    bus_missed_total: Counter = Counter::default(), "Times that envelopes of another node may have been missed (what they told is read from the log)";
    bus_refused_total: Counter = Counter::default(), "Messages on this node's channel that could not be read";
    bus_reconnects_total: Counter = Counter::default(), "Connections to Redis that broke and were made anew";
    bus_waiting_bytes: Gauge = Gauge::default(), "Bytes that wait for other nodes now";
    bus_round_trip_seconds: Histogram = seconds(), "Time from publishing a word to oneself to Redis' answer, once a second";
    cluster_nodes: Gauge = Gauge::default(), "Nodes of the cluster that are there, this one included";
    cluster_secrets_differ: Gauge = Gauge::default(), "Nodes whose secrets are not this one's, so that tokens or pushes of one are refused by the other";
    cluster_lease_renewals_total: Labeled = Labeled::new("result", RENEWALS.iter().copied()), "Attempts to renew this node's lease";
    cluster_lease_gap_seconds: Histogram = gaps(), "Time between two renewals of this node's lease that Redis took";
    cluster_leases_ended_total: Counter = Counter::default(), "Leases of other nodes that were found ended, whether they came back or not";
    cluster_deaths_total: Counter = Counter::default(), "Other nodes that counted as gone from then on";
    cluster_takeovers_total: Counter = Counter::default(), "Shards that this node was to take over because their owner was gone";
    cluster_claims_total: Counter = Counter::default(), "Shards that this node made its own, each by raising its epoch: at first use, handed over, or taken over";
    node_ready: Gauge = Gauge::default(), "1 when the node takes traffic, else 0";
}

/// The process's metrics.
pub fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(Metrics::new)
}

impl Metrics {
    /// Counts a closed socket.
    pub fn socket_closed(&self, code: u16) {
        self.sockets_closed_total.of(&code.to_string()).inc();
    }
    /// Takes over what a store says of itself; called before [`Metrics::encode`].
    pub fn store(&self, rows: u64, syncs: u64, waiting: u64, disk_bytes: u64) {
        // These counters are kept by the store; here they are only shown.
        self.log_rows_total.inner().fetch_max(rows, Ordering::Relaxed);
        self.log_syncs_total.inner().fetch_max(syncs, Ordering::Relaxed);
        self.log_appends_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.storage_disk_bytes.set(i64::try_from(disk_bytes).unwrap_or(i64::MAX));
    }
    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}

fn seconds() -> Histogram {
    Histogram::new([0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}
/// Around the default `cluster.renew_ms` and `cluster.lease_ms`.
fn gaps() -> Histogram {
    Histogram::new([0.1, 0.16, 0.18, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 2.5])
}
fn close_codes() -> impl Iterator<Item = String> {
    // Beside our own: no status, no Close frame at all, and an error inside.
    [1005, 1006, 1011].into_iter().chain(close::ALL.iter().map(|c| c.code)).map(|c| c.to_string())
}
fn codes() -> impl Iterator<Item = &'static str> {
    Code::ALL.iter().map(|c| c.as_str())
}

/// What the operating system says of the process, under the names every Prometheus client uses. Read when asked for.
#[derive(Debug)]
struct Process;

/// Clock ticks per second in /proc: 100 on every Linux platform we build for (`USER_HZ`).
const TICKS: f64 = 100.0;

struct ProcessFacts {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: u64,
    open_fds: u64,
}

impl ProcessFacts {
    /// `None` where there is no /proc.
    fn read() -> Option<ProcessFacts> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the program's name in parentheses and may hold anything; fields count from behind it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let kib = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok());
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse::<f64>().ok())?;
        Some(ProcessFacts {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            start_seconds: boot + field(22)? / TICKS,
            resident_bytes: kib("VmRSS:")? * 1024,
            virtual_bytes: kib("VmSize:")? * 1024,
            threads: kib("Threads:")?,
            open_fds: std::fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        })
    }
}

impl Collector for Process {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(facts) = ProcessFacts::read() else { return Ok(()) };
        let mut put = |name: &str, help: &str, unit: Option<Unit>, metric: &dyn EncodeMetric| {
            metric.encode(to.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?)
        };
        let (seconds, bytes) = (Some(Unit::Seconds), Some(Unit::Bytes));
        put("process_cpu", "Processor time used.", seconds.clone(), &ConstCounter::new(facts.cpu_seconds))?;
        put("process_start_time", "When the process started, since 1970.", seconds, &ConstGauge::new(facts.start_seconds))?;
        put("process_resident_memory", "Memory held in RAM.", bytes.clone(), &ConstGauge::new(facts.resident_bytes))?;
        put("process_virtual_memory", "Address space in use.", bytes, &ConstGauge::new(facts.virtual_bytes))?;
        put("process_threads", "Threads.", None, &ConstGauge::new(facts.threads))?;
        put("process_open_fds", "File descriptors open.", None, &ConstGauge::new(facts.open_fds))
    }
}

/// Why the log cannot be written as configured.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.filter` is not a filter.
    #[error("log.filter {0:?}: {1}")]
    Filter(String, tracing_subscriber::filter::ParseError),
    /// Somebody else already writes the process's log.
    #[error("logging was already started")]
    Started,
}

/// Starts writing the log to standard error. Once per process.
pub fn init_logging(log: &config::Log) -> Result<(), LogError> {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_new(&log.filter).map_err(|e| LogError::Filter(log.filter.clone(), e))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let done = match log.format {
        config::LogFormat::Text => {
            use tracing_subscriber::util::SubscriberInitExt;
            lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init()
        }
        config::LogFormat::Json => {
            use tracing_subscriber::util::SubscriberInitExt;
            lines.json().flatten_event(true).finish().try_init()
        }
    };
    done.map_err(|_| LogError::Started)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    type Labels = Vec<(String, String)>;

    /// Name → type, and the samples' names and labels, as a scraper reads them.
    fn scrape(text: &str) -> (BTreeMap<String, String>, Vec<(String, Labels)>) {
        let mut types = BTreeMap::new();
        let mut samples = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(types.insert(name.to_string(), kind.to_string()).is_none(), "{name} is there twice");
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.trim_end_matches('}').split(',').filter(|l| !l.is_empty());
                let pair = |l: &str| l.split_once('=').map(|(k, v)| (k.to_string(), v.trim_matches('"').to_string())).unwrap();
                samples.push((name.to_string(), labels.map(pair).collect()));
            }
        }
        (types, samples)
    }

    #[test]
    fn names_follow_the_conventions() {
        let metrics = Metrics::new();
        let text = metrics.encode();
        assert!(text.ends_with("# EOF\n"));
        let (types, samples) = scrape(&text);
        assert!(types.len() >= 30, "{types:?}");
        for (name, kind) in &types {
            let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') && !name.contains("__");
            assert!(plain && (name.starts_with("hubbub_") || name.starts_with("process_")), "{name}");
            let help = text.lines().find_map(|l| l.strip_prefix(&format!("# HELP {name} "))).unwrap_or_default();
            assert!(help.len() > 5 && help.ends_with('.') && !help.ends_with(".."), "{name}: {help:?}");
            for wrong in [
                "_ms",
                "_millis",
                "_milliseconds",
                "_micros",
                "_minutes",
                "_hours",
                "_kib",
                "_kilobytes",
                "_percent",
                "_count",
                "_sum",
                "_total",
            ] {
                assert!(!name.ends_with(wrong), "{name} ends in {wrong}");
            }
            for unit in ["seconds", "bytes"] {
                let has = name.ends_with(&format!("_{unit}"));
                assert_eq!(has, text.contains(&format!("# UNIT {name} {unit}\n")), "{name}");
            }
            assert!(!name.contains("duration") || name.ends_with("_seconds"), "{name}");
            let of = |suffix: &str| samples.iter().any(|(n, _)| *n == format!("{name}{suffix}"));
            match kind.as_str() {
                "counter" => assert!(of("_total") && !of(""), "{name}"),
                "gauge" => assert!(of("") && !of("_total"), "{name}"),
                "histogram" => assert!(of("_bucket") && of("_sum") && of("_count"), "{name}"),
                _ => panic!("{name} is a {kind}"),
            }
        }
        if cfg!(target_os = "linux") {
            for name in ["process_cpu_seconds", "process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"] {
                assert!(types.contains_key(name), "{name}");
            }
        }
    }

    #[test]
    fn labels_come_from_closed_sets_whatever_is_counted() {
        let metrics = Metrics::new();
        let series = |m: &Metrics| scrape(&m.encode()).1.len();
        let before = series(&metrics);
        metrics.socket_closed(4000);
        for n in 0..1_000u32 {
            metrics.requests_total.of(&format!("user-{n}")).inc();
            metrics.socket_closed(n as u16);
            metrics.request_errors_total.of(&n.to_string()).inc();
        }
        metrics.requests_total.of("send").inc();
        assert_eq!(series(&metrics), before, "no new series");
        let text = metrics.encode();
        assert!(text.contains("hubbub_requests_total{op=\"send\"} 1\n") && text.contains("hubbub_requests_total{op=\"other\"} 1000\n"));
        assert!(text.contains("hubbub_sockets_closed_total{code=\"4000\"} 1\n"));
        let labels: BTreeSet<_> = scrape(&text).1.into_iter().flat_map(|(_, l)| l).collect();
        let names: BTreeSet<_> = labels.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["actor", "code", "kind", "le", "op", "reason", "result", "standing", "status"]));
        let known = |v: &str| {
            close_codes().any(|c| c == v) || v.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') || STATUS_CLASSES.contains(&v)
        };
        assert!(labels.iter().all(|(name, v)| name == "le" || known(v)), "{labels:?}");
    }

    #[test]
    fn what_the_store_says_is_shown() {
        let metrics = Metrics::new();
        metrics.store(10, 3, 2, 4096);
        metrics.store(12, 4, 0, 8192);
        let text = metrics.encode();
        for line in ["log_rows_total 12", "log_syncs_total 4", "log_appends_waiting 0", "storage_disk_bytes 8192"] {
            assert!(text.contains(&format!("\nhubbub_{line}\n")), "{line}");
        }
    }
}
