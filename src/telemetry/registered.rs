//! The metrics themselves: name, kind, help and buckets of each. `metrics.rs` says what moves them.

use std::fmt;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::{output::LostLines, process::ProcessCollector};
use crate::domain::{Mode, Role};

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];

/// A close, by who was closed and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CloseLabels {
    pub role: &'static str,
    pub code: u32,
}

/// An answer, by what was asked and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub method: &'static str,
    /// A template of the router: one of few.
    pub route: String,
    pub status: &'static str,
}

/// Upper bounds of the buckets of answering times, in seconds.
const ANSWER_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

fn answer_histogram() -> Histogram {
    Histogram::new(ANSWER_SECONDS)
}

/// The commit that this was built from, where the build says it.
const COMMIT: &str = match option_env!("BUILD_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Every metric, registered under its name.
pub(super) struct Registered {
    pub registry: Registry,
    pub sockets: [Gauge; Role::ALL.len()],
    pub socket_connects: Family<Two, Counter>,
    pub socket_connect_seconds: [Histogram; Role::ALL.len()],
    pub http_request_seconds: Family<RequestLabels, Histogram, fn() -> Histogram>,
    pub socket_closes: Family<CloseLabels, Counter>,
    pub heartbeats: Counter,
    pub heartbeat_flush_size: Histogram,
    pub heartbeat_flush_seconds: Histogram,
    pub mirror_commands: Family<Two, Counter>,
    pub store_queries: Family<Two, Counter>,
    pub reads: Family<Two, Counter>,
    pub modes: [Gauge; Mode::ALL.len()],
    pub store_up: Gauge,
    pub mirror_epoch_changes: Counter,
    pub reseed_seconds: Histogram,
    pub reseed_drift: Counter,
    pub sweep_runs: Family<Two, Counter>,
    pub auto_offline: Counter,
    pub auto_offline_left: Gauge,
    pub snapshots_published: Counter,
    pub snapshot_delivery_seconds: Histogram,
    pub pubsub_loop_lag_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
    pub watch_skipped: Counter,
    pub key_set_refreshes: Family<One, Counter>,
    pub key_set_keys: Gauge,
    pub key_set_read_timestamp: Gauge,
    pub mitras: Family<One, Gauge>,
    pub sessions: Family<One, Gauge>,
}

impl Registered {
    /// All at zero.
    #[expect(clippy::too_many_lines, reason = "a table with one entry for each metric")]
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
        Self {
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
            snapshots_published: register(hadir, "snapshots_published", "Snapshots handed to this node's watchers"),
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
        }
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
