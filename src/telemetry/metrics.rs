//! Every metric and its name. Cloning shares them.
//!
//! What is on the path of a ping or of a frame is a plain atomic; children of labels that are known in advance exist from
//! the start, so that they show 0 before anything happened.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::domain::{Counts, Mode, Role, Source};

use super::{
    exposition::{Exposition, plain_text},
    output::LostLines,
    process::ProcessCollector,
};

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];

/// The role of a socket that has not authenticated.
const NO_ROLE: &str = "none";

/// How a call to a peer or a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As hoped.
    Ok,
    /// The peer or the work said no.
    Error,
    /// Its deadline passed.
    Timeout,
    /// Not tried: the breaker is open, the sweep is paused, a guard held it back.
    Skipped,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Error, Self::Timeout, Self::Skipped];

    /// The word in the label `result`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Skipped => "skipped",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloseLabels {
    role: &'static str,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    /// A template of the router: one of few.
    route: String,
    status: &'static str,
}

/// Up to this long, in seconds, an answer takes.
const ANSWER_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

fn answer_histogram() -> Histogram {
    Histogram::new(ANSWER_SECONDS)
}

/// The commit that this was built from, where the build says it.
const COMMIT: &str = match option_env!("BUILD_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Every metric of this process.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    sockets: [Gauge; Role::ALL.len()],
    socket_connects: Family<Two, Counter>,
    socket_connect_seconds: [Histogram; Role::ALL.len()],
    http_request_seconds: Family<RequestLabels, Histogram, fn() -> Histogram>,
    socket_closes: Family<CloseLabels, Counter>,
    heartbeats: Counter,
    heartbeat_flush_size: Histogram,
    heartbeat_flush_seconds: Histogram,
    mirror_commands: Family<Two, Counter>,
    store_queries: Family<Two, Counter>,
    reads: Family<Two, Counter>,
    modes: [Gauge; Mode::ALL.len()],
    store_up: Gauge,
    mirror_epoch_changes: Counter,
    reseed_seconds: Histogram,
    reseed_drift: Counter,
    sweep_runs: Family<Two, Counter>,
    auto_offline: Counter,
    auto_offline_left: Gauge,
    snapshots_published: Counter,
    snapshot_delivery_seconds: Histogram,
    pubsub_loop_lag_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
    watch_skipped: Counter,
    key_set_refreshes: Family<One, Counter>,
    key_set_keys: Gauge,
    key_set_read_timestamp: Gauge,
    mitras: Family<One, Gauge>,
    sessions: Family<One, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        let hadir = registry.sub_registry_with_prefix("hadir");
        hadir.register_collector(Box::new(LostLines));
        // A counter's name gets `_total` when it is encoded.
        let sockets: Family<One, Gauge> = register(hadir, "sockets", "Authenticated sockets now");
        let modes: Family<One, Gauge> = register(hadir, "mode", "1 for the mode that this node is in");
        let build: Family<Two, Gauge> = register(hadir, "build_info", "What runs here; always 1");
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION")), ("commit", COMMIT)]).set(1);
        let connects = histograms::<One>(
            hadir,
            "socket_connect_seconds",
            "From the accepted connection to the socket's first frame",
        );
        let inner = Inner {
            sockets: Role::ALL.map(|role| sockets.get_or_create_owned(&[("role", role.as_str())])),
            socket_connects: register(hadir, "socket_connects", "Sockets that were asked for"),
            socket_connect_seconds: Role::ALL.map(|role| connects.get_or_create_owned(&[("role", role.as_str())])),
            http_request_seconds: histograms(
                hadir,
                "http_request_seconds",
                "From a request's head to its answer's, by route and class of status",
            ),
            socket_closes: register(hadir, "socket_closes", "Sockets that were closed, by close code"),
            heartbeats: register(hadir, "heartbeats", "Heartbeats heard"),
            heartbeat_flush_size: histogram(
                hadir,
                "heartbeat_flush_size",
                "Heartbeats in one batch to the mirror",
                exponential_buckets(1.0, 4.0, 8),
            ),
            heartbeat_flush_seconds: histogram(
                hadir,
                "heartbeat_flush_seconds",
                "Time of one batch to the mirror",
                exponential_buckets(0.000_5, 2.0, 12),
            ),
            mirror_commands: register(hadir, "mirror_commands", "Calls to the mirror"),
            store_queries: register(hadir, "store_queries", "Calls to the store"),
            reads: register(hadir, "reads", "Questions answered, by where the answer came from"),
            modes: Mode::ALL.map(|mode| modes.get_or_create_owned(&[("mode", mode.as_str())])),
            store_up: register(hadir, "store_up", "Whether the store answered when it was last asked"),
            mirror_epoch_changes: register(hadir, "mirror_epoch_changes", "Times the mirror was found replaced"),
            reseed_seconds: histogram(
                hadir,
                "reseed_seconds",
                "Time of one full reseed of the mirror",
                exponential_buckets(0.005, 2.0, 14),
            ),
            reseed_drift: register(hadir, "reseed_drift", "Entries of the mirror that a reseed corrected"),
            sweep_runs: register(hadir, "sweep_runs", "Runs of the sweeps"),
            auto_offline: register(hadir, "auto_offline", "Mitras that this node took offline for silence"),
            auto_offline_left: register(
                hadir,
                "auto_offline_left",
                "Silent mitras that the last sweep of this node left, because it is held back",
            ),
            snapshots_published: register(
                hadir,
                "snapshots_published",
                "Snapshots that this node handed to its watchers",
            ),
            snapshot_delivery_seconds: histogram(
                hadir,
                "snapshot_delivery_seconds",
                "From the moment of a snapshot, by the mirror's clock, to its being handed to this node's watchers",
                exponential_buckets(0.001, 2.0, 13),
            ),
            pubsub_loop_lag_seconds: register(hadir, "pubsub_loop_lag_seconds", "Last round trip of the pub/sub probe"),
            watch_skipped: register(
                hadir,
                "watch_skipped",
                "Messages of the mirror that this node was too slow for; it read afresh",
            ),
            key_set_refreshes: register(hadir, "key_set_refreshes", "Times the set of public keys was read, by result"),
            key_set_keys: register(hadir, "key_set_keys", "Public keys in force"),
            key_set_read_timestamp: register(
                hadir,
                "key_set_read_timestamp_seconds",
                "When the public keys in force were read, seconds since 1970",
            ),
            mitras: register(hadir, "mitras", "Mitras by state, as this node last counted"),
            sessions: register(hadir, "sessions", "Chat sessions by status, as this node last counted"),
            registry,
        };
        let metrics = Self { inner: Arc::new(inner) };
        metrics.set_counts(&Counts::default());
        metrics
    }

    /// The text for Prometheus.
    pub fn render(&self, form: Exposition) -> String {
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &self.inner.registry).expect("writing to a string does not fail");
        match form {
            Exposition::OpenMetrics => text,
            Exposition::PlainText => plain_text(&text),
        }
    }

    /// A socket authenticated: counted as connected and as one more now.
    pub fn socket_opened(&self, role: Role) {
        self.inner.sockets[index(role)].inc();
        self.connect(role.as_str(), "ok");
    }

    /// A socket has its first frame, this long after its connection was accepted.
    pub fn socket_welcomed(&self, role: Role, took: Duration) {
        self.inner.socket_connect_seconds[index(role)].observe(took.as_secs_f64());
    }

    /// A request was answered. `route` is a template of the router, `method` one of few words.
    pub fn request_answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let status = match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        let labels = RequestLabels { method, route: route.to_owned(), status };
        self.inner.http_request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A socket was refused. `why` is an error code's word, one of few; `None`: the role was never known.
    pub fn connect_refused(&self, role: Option<Role>, why: &'static str) {
        self.connect(role.map_or(NO_ROLE, Role::as_str), why);
    }

    /// An event stream began: it counts among the sockets of its role.
    pub fn stream_opened(&self, role: Role) {
        self.inner.sockets[index(role)].inc();
    }

    /// An event stream that was [opened](Metrics::stream_opened) is gone.
    pub fn stream_closed(&self, role: Role) {
        self.inner.sockets[index(role)].dec();
    }

    /// A socket that was [opened](Metrics::socket_opened) is gone; the close code that was sent or received.
    pub fn socket_closed(&self, role: Role, code: u16) {
        self.inner.sockets[index(role)].dec();
        self.closed(role.as_str(), code);
    }

    /// A socket is gone that never authenticated.
    pub fn unauthenticated_socket_closed(&self, code: u16) {
        self.closed(NO_ROLE, code);
    }

    /// A mitra was heard. One relaxed atomic addition.
    pub fn heartbeat(&self) {
        self.inner.heartbeats.inc();
    }

    /// One batch of heartbeats went to the mirror.
    pub fn heartbeats_flushed(&self, size: usize, took: Duration) {
        self.inner.heartbeat_flush_size.observe(size as f64);
        self.inner.heartbeat_flush_seconds.observe(took.as_secs_f64());
    }

    /// One call to the mirror.
    pub fn mirror_command(&self, op: &'static str, outcome: Outcome) {
        self.inner.mirror_commands.get_or_create(&[("op", op), ("result", outcome.as_str())]).inc();
    }

    /// One call to the store.
    pub fn store_query(&self, op: &'static str, outcome: Outcome) {
        self.inner.store_queries.get_or_create(&[("op", op), ("result", outcome.as_str())]).inc();
    }

    /// A question was answered.
    pub fn read(&self, op: &'static str, source: Source) {
        self.inner.reads.get_or_create(&[("op", op), ("source", source.as_str())]).inc();
    }

    /// This node's mode from now on.
    pub fn set_mode(&self, mode: Mode) {
        for (gauge, each) in self.inner.modes.iter().zip(Mode::ALL) {
            gauge.set(i64::from(each == mode));
        }
    }

    /// Whether the store answered when it was last asked.
    pub fn set_store_up(&self, is_up: bool) {
        self.inner.store_up.set(i64::from(is_up));
    }

    /// The mirror's epoch is another one than before.
    pub fn mirror_epoch_changed(&self) {
        self.inner.mirror_epoch_changes.inc();
    }

    /// A full reseed ended; `corrected` entries differed.
    pub fn reseeded(&self, took: Duration, corrected: u64) {
        self.inner.reseed_seconds.observe(took.as_secs_f64());
        self.inner.reseed_drift.inc_by(corrected);
    }

    /// A sweep exists; its runs stand at zero until the first.
    pub fn sweep_started(&self, sweep: &'static str) {
        let _at_zero = self.inner.sweep_runs.get_or_create(&[("sweep", sweep), ("result", Outcome::Ok.as_str())]);
    }

    /// A sweep ran.
    pub fn sweep_ran(&self, sweep: &'static str, outcome: Outcome) {
        self.inner.sweep_runs.get_or_create(&[("sweep", sweep), ("result", outcome.as_str())]).inc();
    }

    /// This node took mitras offline for silence.
    pub fn auto_offlined(&self, mitras: u64) {
        self.inner.auto_offline.inc_by(mitras);
    }

    /// So many silent mitras were left by the last sweep, because it is held back.
    pub fn set_auto_offline_left(&self, mitras: u64) {
        self.inner.auto_offline_left.set(gauge_value(mitras));
    }

    /// A snapshot was published.
    pub fn snapshot_published(&self) {
        self.inner.snapshots_published.inc();
    }

    /// A snapshot was handed to the watchers, this long after its moment.
    pub fn snapshot_delivered(&self, delay: Duration) {
        self.inner.snapshot_delivery_seconds.observe(delay.as_secs_f64());
    }

    /// The pub/sub probe came back, or has been out for this long.
    pub fn set_pubsub_loop_lag(&self, lag: Duration) {
        self.inner.pubsub_loop_lag_seconds.set(lag.as_secs_f64());
    }

    /// The set of public keys was read at this time and has this many.
    pub fn key_set_read(&self, keys: usize, at: DateTime<Utc>) {
        self.inner.key_set_refreshes.get_or_create(&[("result", Outcome::Ok.as_str())]).inc();
        self.inner.key_set_keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
        self.inner.key_set_read_timestamp.set(at.timestamp());
    }

    /// The set of public keys could not be read.
    pub fn key_set_failed(&self) {
        self.inner.key_set_refreshes.get_or_create(&[("result", Outcome::Error.as_str())]).inc();
    }

    /// So many messages of the mirror were missed.
    pub fn watch_skipped(&self, snapshots: u64) {
        self.inner.watch_skipped.inc_by(snapshots);
    }

    /// What was counted last.
    pub fn set_counts(&self, counts: &Counts) {
        for (state, count) in [
            ("online", counts.online),
            ("reachable", counts.reachable),
            ("available", counts.available),
            ("busy", counts.busy),
            ("suspect", counts.suspect),
            ("deactivated", counts.deactivated),
        ] {
            self.inner.mitras.get_or_create(&[("state", state)]).set(gauge_value(count));
        }
    }

    /// Sessions that are not over, by status.
    pub fn set_sessions(&self, counts: impl Iterator<Item = (&'static str, u64)>) {
        for (status, count) in counts {
            self.inner.sessions.get_or_create(&[("status", status)]).set(gauge_value(count));
        }
    }

    fn connect(&self, role: &'static str, result: &'static str) {
        self.inner.socket_connects.get_or_create(&[("role", role), ("result", result)]).inc();
    }

    fn closed(&self, role: &'static str, code: u16) {
        self.inner.socket_closes.get_or_create(&CloseLabels { role, code: u32::from(code) }).inc();
    }
}

fn register<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn histogram(registry: &mut Registry, name: &str, help: &str, buckets: impl Iterator<Item = f64>) -> Histogram {
    let histogram = Histogram::new(buckets);
    registry.register(name, help, histogram.clone());
    histogram
}

/// A histogram of answering times for each set of labels.
fn histograms<L>(registry: &mut Registry, name: &str, help: &str) -> Family<L, Histogram, fn() -> Histogram>
where
    L: Clone + fmt::Debug + Eq + std::hash::Hash + EncodeLabelSet + Send + Sync + 'static,
{
    let family = Family::new_with_constructor(answer_histogram as fn() -> Histogram);
    registry.register(name, help, family.clone());
    family
}

fn index(role: Role) -> usize {
    match role {
        Role::Mitra => 0,
        Role::Customer => 1,
        Role::Dashboard => 2,
        Role::Service => 3,
    }
}

fn gauge_value(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
