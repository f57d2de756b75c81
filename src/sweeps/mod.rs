//! Sweeps carry things onward at their own pace: idempotent, without input, on an interval, reporting their last run.
//!
//! A sweep holds no rules: it calls `presence` and says what came of it. The runner paces it, lets it rest where an operator
//! said so (on every node: the store knows), and keeps the last run for `/internal/sweeps`. Only `app` starts them; `api` reads
//! their status.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rand::RngExt;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

mod presence_sweeps;

pub use presence_sweeps::{AutoOffline, EventRetention, HeartbeatMirror, Reseed};

use crate::{
    lifecycle::Lifecycle,
    presence::Presence,
    protocol::timestamp,
    telemetry::{Metrics, Outcome},
};

/// A few minutes, within which a sweep that runs soon runs first.
const FIRST_MINUTES_SECONDS: std::ops::Range<u64> = 60..300;

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

/// When a sweep runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From the start of the node to the first run.
    pub first: Duration,
    /// From one run to the next.
    pub every: Duration,
}

impl Pace {
    /// The first run one interval from the start.
    pub fn steady(every: Duration) -> Self {
        Self { first: every, every }
    }

    /// The first run somewhere in the second half of the first interval: nodes that were started together do not run together.
    pub fn spread(every: Duration) -> Self {
        Self { first: every.mul_f64(rand::rng().random_range(0.5..1.0)), every }
    }

    /// The first run a few minutes from the start, drawn at random: a node that is restarted more often than the interval is
    /// long gets to it too.
    pub fn soon(every: Duration) -> Self {
        let first = Duration::from_secs(rand::rng().random_range(FIRST_MINUTES_SECONDS));
        Self { first: first.min(every), every }
    }
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

    /// Starts a sweep.
    pub fn start(&self, sweep: impl Sweep, pace: Pace, metrics: &Metrics, lifecycle: &Lifecycle) {
        let entry = Arc::new(Entry { name: sweep.name(), interval: pace.every, state: Mutex::default() });
        metrics.sweep_started(sweep.name());
        self.entries.lock().push(Arc::clone(&entry));
        let (metrics, presence) = (metrics.clone(), Arc::clone(&self.presence));
        lifecycle.spawn_until_stop(async move {
            let mut beat = interval_at(Instant::now() + pace.first, pace.every);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
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

    /// Every sweep with its last run. Which of them rest only the store knows; while it is away none is said to.
    pub async fn status(&self) -> Vec<SweepStatus> {
        let paused: HashMap<String, Duration> =
            self.presence.paused_sweeps().await.unwrap_or_default().into_iter().collect();
        let entries = self.entries.lock();
        entries.iter().map(|entry| entry.status(paused.get(entry.name).copied())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_runs_are_drawn_at_random_and_none_is_later_than_an_interval() {
        let (hour, minute) = (Duration::from_secs(3_600), Duration::from_secs(60));
        let drawn = |pace: fn(Duration) -> Pace, every| (0..200).map(|_| pace(every)).collect::<Vec<_>>();
        let soon = drawn(Pace::soon, hour);
        assert!(soon.iter().all(|pace| pace.every == hour && pace.first >= minute && pace.first < minute * 5));
        let spread = drawn(Pace::spread, hour);
        assert!(spread.iter().all(|pace| pace.every == hour && pace.first >= hour / 2 && pace.first <= hour));
        for paces in [soon, spread] {
            assert!(paces.iter().any(|pace| pace.first != paces[0].first));
        }
        assert!(drawn(Pace::soon, minute / 2).iter().all(|pace| pace.first == minute / 2));
    }
}
