//! Heartbeats, sweeps and the push: every period that decides what people see.

use std::time::Duration;

use super::{
    parse,
    setting::{AnySetting, Setting},
    values::Reader,
};

const HEARTBEAT_INTERVAL: Setting<Duration> = Setting::new(
    "HEARTBEAT_INTERVAL_SECONDS",
    parse::seconds,
    "Interval at which clients should ping. The server pings a socket that was silent for this long.",
)
.default("15")
.unit("seconds");
const HEARTBEAT_SUSPECT: Setting<Duration> = Setting::new(
    "HEARTBEAT_SUSPECT_SECONDS",
    parse::seconds,
    "A heartbeat at most this old is fresh. Hadir closes a socket that was silent for longer. At least 3 intervals.",
)
.default("45")
.unit("seconds");
const OFFLINE_AFTER: Setting<Duration> = Setting::new(
    "MITRA_OFFLINE_AFTER_SECONDS",
    parse::seconds,
    "Hadir takes a mitra offline, durably, after this much silence. At least HEARTBEAT_SUSPECT_SECONDS.",
)
.default("90")
.unit("seconds");
const AUTO_OFFLINE_SWEEP: Setting<Duration> =
    Setting::new("MITRA_AUTO_OFFLINE_SWEEP_SECONDS", parse::seconds, "Interval of the auto-offline sweep.")
        .default("30")
        .unit("seconds");
const HEARTBEAT_MIRROR: Setting<Duration> = Setting::new(
    "HEARTBEAT_MIRROR_INTERVAL_SECONDS",
    parse::seconds,
    "Interval of the batched write of heartbeats to the store.",
)
.default("60")
.unit("seconds");
const RESEED: Setting<Duration> = Setting::new(
    "VALKEY_ONLINE_MIRROR_SWEEP_SECONDS",
    parse::seconds,
    "Interval of the full reseed, which reconciles the mirror with the store.",
)
.default("300")
.unit("seconds");
const FLUSH: Setting<Duration> = Setting::new(
    "HEARTBEAT_FLUSH_MS",
    parse::milliseconds,
    "Interval of a node's batched heartbeats to the mirror. At most HEARTBEAT_INTERVAL_SECONDS.",
)
.default("1000")
.unit("milliseconds");
const SNAPSHOT_TTL: Setting<Duration> =
    Setting::new("SNAPSHOT_TTL_SECONDS", parse::seconds, "Time to live of the key `availability:snapshot`.")
        .default("10")
        .unit("seconds");
const SNAPSHOT_WINDOW: Setting<Duration> = Setting::new(
    "SNAPSHOT_WINDOW_MS",
    parse::milliseconds,
    "Rate limit: at most one frame per window for a change of the count. Hadir sends a change of availability (`any`) at once.",
)
.default("250")
.unit("milliseconds");
const RESTRAINT_RELEASE: Setting<Duration> = Setting::new(
    "HADIR_SWEEP_RELEASE_SECONDS",
    parse::seconds_or_zero,
    "How long the auto-offline sweep may be limited (to 15 %, or by too few heartbeats). Then it takes all silent mitras offline. 0: no limit.",
)
.default("600")
.unit("seconds");
const CHANGE_FEED: Setting<Duration> = Setting::new(
    "HADIR_CHANGE_FEED_SECONDS",
    parse::seconds,
    "Interval at which Hadir polls recent changes in the store, in case notifications were lost.",
)
.default("5")
.unit("seconds");
const NODE_REPORT: Setting<Duration> = Setting::new(
    "HADIR_NODE_REPORT_SECONDS",
    parse::seconds,
    "Interval at which a node reports itself to the others. At most 3 seconds: a record older than 10 counts as gone.",
)
.default("1")
.unit("seconds");
const RECONNECT_WINDOW: Setting<Duration> = Setting::new(
    "HADIR_RECONNECT_WINDOW_MS",
    parse::milliseconds,
    "Time over which clients should spread their reconnects.",
)
.default("5000")
.unit("milliseconds");
const MAX_SILENCE: Setting<Duration> = Setting::new(
    "HADIR_MAX_SILENCE_MS",
    parse::milliseconds,
    "A watcher gets at least one frame in this time, changed or not.",
)
.default("30000")
.unit("milliseconds");
const SSE_COMMENT: Setting<Duration> = Setting::new(
    "HADIR_SSE_COMMENT_SECONDS",
    parse::seconds,
    "Interval of the comment that keeps an event stream open.",
)
.default("15")
.unit("seconds");
const TOKEN_WARNING: Setting<Duration> = Setting::new(
    "HADIR_TOKEN_WARNING_SECONDS",
    parse::seconds,
    "How long before a token expires its sockets get `token_expiring`.",
)
.default("30")
.unit("seconds");

pub(super) const SETTINGS: &[&dyn AnySetting] = &[
    &HEARTBEAT_INTERVAL,
    &HEARTBEAT_SUSPECT,
    &OFFLINE_AFTER,
    &AUTO_OFFLINE_SWEEP,
    &HEARTBEAT_MIRROR,
    &RESEED,
    &FLUSH,
    &SNAPSHOT_TTL,
    &SNAPSHOT_WINDOW,
    &RESTRAINT_RELEASE,
    &CHANGE_FEED,
    &NODE_REPORT,
    &RECONNECT_WINDOW,
    &MAX_SILENCE,
    &SSE_COMMENT,
    &TOKEN_WARNING,
];

/// Every period that decides what people see.
#[derive(Clone, Debug)]
pub struct TimingConfig {
    /// What clients are told; the server pings a socket silent for this long.
    pub heartbeat_interval: Duration,
    /// A heartbeat at most this old is fresh; a silent socket is closed.
    pub suspect_after: Duration,
    /// Silent this long: durably offline.
    pub offline_after: Duration,
    /// Interval of the auto-offline sweep.
    pub auto_offline_interval: Duration,
    /// Cadence of the write of heartbeats to the store.
    pub heartbeat_mirror_interval: Duration,
    /// Cadence of the full reseed.
    pub reseed_interval: Duration,
    /// Cadence of a node's heartbeats to the mirror.
    pub flush_interval: Duration,
    /// Life of the cached snapshot.
    pub snapshot_ttl: Duration,
    /// At most one count frame per window.
    pub snapshot_window: Duration,
    /// How long the auto-offline sweep may be held back.
    pub restraint_release: Duration,
    /// Cadence of the look at recent changes in the store.
    pub change_feed_interval: Duration,
    /// Cadence at which a node reports itself.
    pub node_report_interval: Duration,
    /// Time over which clients spread their reconnects.
    pub reconnect_window: Duration,
    /// A watcher gets at least one frame in this time.
    pub max_silence: Duration,
    /// Cadence of an event stream's comment.
    pub sse_comment_interval: Duration,
    /// How long before its token's end a socket is warned.
    pub token_warning: Duration,
}

impl TimingConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let timing = Self {
            heartbeat_interval: reader.required(&HEARTBEAT_INTERVAL),
            suspect_after: reader.required(&HEARTBEAT_SUSPECT),
            offline_after: reader.required(&OFFLINE_AFTER),
            auto_offline_interval: reader.required(&AUTO_OFFLINE_SWEEP),
            heartbeat_mirror_interval: reader.required(&HEARTBEAT_MIRROR),
            reseed_interval: reader.required(&RESEED),
            flush_interval: reader.required(&FLUSH),
            snapshot_ttl: reader.required(&SNAPSHOT_TTL),
            snapshot_window: reader.required(&SNAPSHOT_WINDOW),
            restraint_release: reader.required(&RESTRAINT_RELEASE),
            change_feed_interval: reader.required(&CHANGE_FEED),
            node_report_interval: reader.required(&NODE_REPORT),
            reconnect_window: reader.required(&RECONNECT_WINDOW),
            max_silence: reader.required(&MAX_SILENCE),
            sse_comment_interval: reader.required(&SSE_COMMENT),
            token_warning: reader.required(&TOKEN_WARNING),
        };
        timing.refuse_contradictions(reader);
        timing
    }

    fn refuse_contradictions(&self, reader: &mut Reader<'_>) {
        let (interval, suspect, offline) = (self.heartbeat_interval, self.suspect_after, self.offline_after);
        // A millisecond of grace: three times 0.1 is not 0.3 in binary fractions.
        if suspect + Duration::from_millis(1) < interval * 3 {
            reader.contradiction(&["HEARTBEAT_SUSPECT_SECONDS", "HEARTBEAT_INTERVAL_SECONDS"], || {
                format!(
                    "HEARTBEAT_SUSPECT_SECONDS ({}) is less than three times HEARTBEAT_INTERVAL_SECONDS ({}), so that one \
                     lost ping could make a mitra suspect: raise it to at least {}, or shorten the interval.",
                    suspect.as_secs_f64(),
                    interval.as_secs_f64(),
                    (interval * 3).as_secs_f64()
                )
            });
        }
        if offline < suspect {
            reader.contradiction(&["MITRA_OFFLINE_AFTER_SECONDS", "HEARTBEAT_SUSPECT_SECONDS"], || {
                format!(
                    "MITRA_OFFLINE_AFTER_SECONDS ({}) is less than HEARTBEAT_SUSPECT_SECONDS ({}): raise it to at least that.",
                    offline.as_secs_f64(),
                    suspect.as_secs_f64()
                )
            });
        }
        if self.flush_interval > interval {
            reader.contradiction(&["HEARTBEAT_FLUSH_MS", "HEARTBEAT_INTERVAL_SECONDS"], || {
                format!(
                    "HEARTBEAT_FLUSH_MS ({}) is longer than HEARTBEAT_INTERVAL_SECONDS ({}), so that heartbeats would reach \
                     the mirror too late: lower it to at most {}.",
                    self.flush_interval.as_millis(),
                    interval.as_secs_f64(),
                    interval.as_millis()
                )
            });
        }
        if self.snapshot_window > self.snapshot_ttl {
            reader.contradiction(&["SNAPSHOT_WINDOW_MS", "SNAPSHOT_TTL_SECONDS"], || {
                format!(
                    "SNAPSHOT_WINDOW_MS ({}) is longer than SNAPSHOT_TTL_SECONDS ({}): lower the window or raise the life.",
                    self.snapshot_window.as_millis(),
                    self.snapshot_ttl.as_secs_f64()
                )
            });
        }
        if self.node_report_interval > Duration::from_secs(3) {
            reader.contradiction(&["HADIR_NODE_REPORT_SECONDS"], || {
                format!(
                    "HADIR_NODE_REPORT_SECONDS is {}, but a node whose record is 10 seconds old counts as gone: lower it to \
                     at most 3.",
                    self.node_report_interval.as_secs_f64()
                )
            });
        }
    }
}
