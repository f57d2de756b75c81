//! Sweeps carry things onward at their own pace: idempotent, without input, on an interval, reporting their last run.
//!
//! A sweep holds no rules: it calls `presence` and says what came of it. The runner paces it, lets an operator pause it
//! without a restart, and keeps the last run for `/internal/sweeps`. Only `app` starts them; `api` reads their status.

use std::{
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
    paused: Option<(Instant, DateTime<Utc>)>,
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
#[derive(Clone, Default)]
pub struct Sweeps {
    entries: Arc<Mutex<Vec<Arc<Entry>>>>,
}

impl Sweeps {
    /// Starts a sweep; its first run is one interval from now.
    pub fn start(&self, sweep: impl Sweep, every: Duration, metrics: &Metrics, lifecycle: &Lifecycle) {
        let entry = Arc::new(Entry { name: sweep.name(), interval: every, state: Mutex::default() });
        metrics.sweep_started(sweep.name());
        self.entries.lock().push(Arc::clone(&entry));
        let metrics = metrics.clone();
        lifecycle.spawn_until_stop(async move {
            let mut beat = interval(every);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat.tick().await;
            loop {
                beat.tick().await;
                if !entry.is_paused() {
                    entry.run(&sweep, &metrics).await;
                }
            }
        });
    }

    /// Every sweep with its last run.
    pub fn status(&self) -> Vec<SweepStatus> {
        self.entries.lock().iter().map(|entry| entry.status()).collect()
    }

    /// Lets a sweep rest for a while on this node. False: no sweep has this name.
    pub fn pause(&self, name: &str, rest: Duration) -> bool {
        let until = (Instant::now() + rest, Utc::now() + rest);
        self.with(name, |state| state.paused = Some(until))
    }

    /// Ends a pause. False: no sweep has this name.
    pub fn resume(&self, name: &str) -> bool {
        self.with(name, |state| state.paused = None)
    }

    fn with(&self, name: &str, change: impl FnOnce(&mut State)) -> bool {
        let entries = self.entries.lock();
        let found = entries.iter().find(|entry| entry.name == name);
        if let Some(entry) = found {
            change(&mut entry.state.lock());
        }
        found.is_some()
    }
}

impl Entry {
    fn is_paused(&self) -> bool {
        let mut state = self.state.lock();
        if state.paused.is_some_and(|(until, _)| until <= Instant::now()) {
            state.paused = None;
        }
        state.paused.is_some()
    }

    async fn run(&self, sweep: &impl Sweep, metrics: &Metrics) {
        let (began, started_at) = (Instant::now(), timestamp(Utc::now()));
        let run = sweep.run().await;
        let (result, outcome, detail) = match run {
            Run::Done(detail) => ("ok", Outcome::Ok, detail),
            Run::Skipped(why) => ("skipped", Outcome::Skipped, why),
            Run::Failed(why) => {
                tracing::warn!(sweep = self.name, %why, "a sweep could not do its work");
                ("failed", Outcome::Error, why)
            }
        };
        metrics.sweep_ran(self.name, outcome);
        let duration_ms = began.elapsed().as_millis() as u64;
        let mut state = self.state.lock();
        state.runs += 1;
        state.last = Some(LastRun { started_at, duration_ms, result, detail });
    }

    fn status(&self) -> SweepStatus {
        let state = self.state.lock();
        let paused = state.paused.filter(|(until, _)| *until > Instant::now());
        SweepStatus {
            name: self.name,
            interval_ms: self.interval.as_millis() as u64,
            runs: state.runs,
            last: state.last.clone(),
            paused_until: paused.map(|(_, until)| timestamp(until)),
        }
    }
}
