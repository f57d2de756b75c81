//! Sweeps carry things onward at their own pace: idempotent, without input, on an interval, reporting their last run.
//!
//! A sweep holds no rules: it calls `presence` and says what came of it. The runner paces it, lets it rest where an operator
//! said so (on every node: the store knows), and keeps the last run for `/internal/sweeps`. Only `app` starts them; `api` reads
//! their status.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

mod presence_sweeps;

pub use presence_sweeps::{AutoOffline, EventRetention, HeartbeatMirror, Reseed};

use crate::{
    lifecycle::Lifecycle,
    presence::{Presence, PresenceError},
    protocol::timestamp,
    telemetry::{Metrics, Outcome},
};

/// What one run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// It did its work; in a short sentence, what.
    Done(String),
    /// It had reason to do nothing.
    Skipped(String),
    /// It could not do its work.
    Failed(String),
}

/// Work done again and again.
#[async_trait]
pub trait Sweep: Send + Sync + 'static {
    /// Its name in the API and in metrics.
    fn name(&self) -> &'static str;

    /// One run. Must be safe to repeat and to run on every node at once.
    async fn run(&self) -> Run;
}

struct Entry {
    name: &'static str,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    runs: u64,
    last: Option<LastRun>,
}

/// The last run of a sweep, as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct LastRun {
    pub started_at: String,
    pub duration_ms: u64,
    /// `ok`, `skipped` or `failed`.
    pub result: &'static str,
    pub detail: String,
}

/// A sweep as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct SweepStatus {
    pub name: &'static str,
    pub interval_ms: u64,
    pub runs: u64,
    pub last: Option<LastRun>,
    pub paused_until: Option<String>,
}

/// All sweeps of this node. Clones share them.
#[derive(Clone)]
pub struct Sweeps {
    presence: Arc<Presence>,
    entries: Arc<Mutex<Vec<Arc<Entry>>>>,
}

impl Sweeps {
    /// None yet; whether one rests is asked of `presence`.
    pub fn new(presence: Arc<Presence>) -> Self {
        Self { presence, entries: Arc::default() }
    }

    /// Starts a sweep; its first run is one interval from now.
    pub fn start(&self, sweep: impl Sweep, every: Duration, metrics: &Metrics, lifecycle: &Lifecycle) {
        let entry = Arc::new(Entry { name: sweep.name(), interval: every, state: Mutex::default() });
        metrics.sweep_started(sweep.name());
        self.entries.lock().push(Arc::clone(&entry));
        let (metrics, presence) = (metrics.clone(), Arc::clone(&self.presence));
        lifecycle.spawn_until_stop(async move {
            let mut beat = interval(every);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat.tick().await;
            loop {
                beat.tick().await;
                // Without the store nobody knows whether it rests, and no sweep gets anywhere.
                match presence.paused_sweeps().await {
                    Ok(paused) if paused.iter().any(|(name, _)| name == entry.name) => {}
                    Ok(_) => entry.run(&sweep, &metrics).await,
                    Err(error) => entry.ended(Utc::now(), Duration::ZERO, Run::Failed(error.to_string()), &metrics),
                }
            }
        });
    }

    /// Every sweep with its last run.
    ///
    /// # Errors
    /// The store cannot be asked which of them rest.
    pub async fn status(&self) -> Result<Vec<SweepStatus>, PresenceError> {
        let paused: HashMap<String, Duration> = self.presence.paused_sweeps().await?.into_iter().collect();
        let entries = self.entries.lock();
        Ok(entries.iter().map(|entry| entry.status(paused.get(entry.name).copied())).collect())
    }

    /// The names of the sweeps.
    pub fn names(&self) -> Vec<&'static str> {
        self.entries.lock().iter().map(|entry| entry.name).collect()
    }
}

impl Entry {
    async fn run(&self, sweep: &impl Sweep, metrics: &Metrics) {
        let (began, started_at) = (Instant::now(), Utc::now());
        let run = sweep.run().await;
        self.ended(started_at, began.elapsed(), run, metrics);
    }

    fn ended(&self, started_at: DateTime<Utc>, took: Duration, run: Run, metrics: &Metrics) {
        let (result, outcome, detail) = match run {
            Run::Done(detail) => ("ok", Outcome::Ok, detail),
            Run::Skipped(why) => ("skipped", Outcome::Skipped, why),
            Run::Failed(why) => {
                tracing::warn!(sweep = self.name, %why, "a sweep could not do its work");
                ("failed", Outcome::Error, why)
            }
        };
        metrics.sweep_ran(self.name, outcome);
        let mut state = self.state.lock();
        state.runs += 1;
        let (started_at, duration_ms) = (timestamp(started_at), took.as_millis() as u64);
        state.last = Some(LastRun { started_at, duration_ms, result, detail });
    }

    fn status(&self, paused_for: Option<Duration>) -> SweepStatus {
        let state = self.state.lock();
        SweepStatus {
            name: self.name,
            interval_ms: self.interval.as_millis() as u64,
            runs: state.runs,
            last: state.last.clone(),
            paused_until: paused_for.map(|left| timestamp(Utc::now() + left)),
        }
    }
}
