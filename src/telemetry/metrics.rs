//! Every metric and its name. Cloning shares them.
//!
//! What is on the path of a ping or of a frame is a plain atomic; children of labels that are known in advance exist from
//! the start, so that they show 0 before anything happened.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use prometheus_client::encoding::text;

use crate::domain::{Counts, Mode, Role, Source};

use super::{
    exposition::{Exposition, plain_text},
    registered::{CloseLabels, Registered},
};

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

/// Every metric of this process.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Registered>,
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
        let metrics = Self { inner: Arc::new(Registered::new()) };
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
#[path = "metrics_tests.rs"]
mod tests;
