//! Everything that runs by itself on a node, in one table: what it is, when it ran last, and whether it ended early.
//!
//! Three kinds: a sweep is idempotent work at an interval that an operator can pause on every node; repeated work runs at
//! an interval and cannot be paused; a continuous task runs until the stop, and is started again if it ends before. None of them holds a rule: they call
//! `presence`, `replication`, `cluster` or `sessions`. `app` fills the table, `api` shows it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rand::RngExt;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

mod sweeps;

pub use sweeps::{AutoOffline, EventRetention, HeartbeatMirror, Reseed};

use crate::{
    lifecycle::{Lifecycle, caught},
    presence::Presence,
    protocol::{LastRun, SweepStatus, TaskStatus, timestamp},
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

/// One line of the table.
struct Entry {
    name: &'static str,
    about: &'static str,
    /// `None`: a continuous task.
    interval: Option<Duration>,
    is_sweep: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    runs: u64,
    errors: u64,
    last: Option<LastRun>,
    ended_early: bool,
}

/// The tasks of this node. Clones share them.
#[derive(Clone)]
pub struct Tasks {
    presence: Arc<Presence>,
    metrics: Metrics,
    lifecycle: Lifecycle,
    entries: Arc<Mutex<Vec<Arc<Entry>>>>,
}

impl Tasks {
    /// None yet; whether a sweep is paused is asked of `presence`.
    pub fn new(presence: Arc<Presence>, metrics: Metrics, lifecycle: Lifecycle) -> Self {
        Self { presence, metrics, lifecycle, entries: Arc::default() }
    }

    /// Starts a sweep: work that operators see, and can pause on every node.
    pub fn sweep(&self, about: &'static str, sweep: impl Sweep, pace: Pace) {
        let entry = self.enter(sweep.name(), about, Some(pace.every), true);
        self.metrics.sweep_started(sweep.name());
        let (metrics, presence) = (self.metrics.clone(), Arc::clone(&self.presence));
        self.lifecycle.spawn_until_stop(async move {
            let mut ticks = interval_at(Instant::now() + pace.first, pace.every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let (began, started_at) = (Instant::now(), Utc::now());
                // Without the store it is unknown whether the sweep is paused, and no sweep gets anywhere.
                let run = match presence.paused_sweeps().await {
                    Ok(paused) if paused.iter().any(|(name, _)| name == entry.name) => continue,
                    Ok(_) => caught(sweep.run()).await.unwrap_or_else(panicked),
                    Err(error) => Run::Failed(error.to_string()),
                };
                if let Run::Failed(why) = &run {
                    tracing::warn!(sweep = entry.name, %why, "a sweep could not do its work");
                }
                metrics.sweep_ran(entry.name, outcome(&run));
                entry.ran(started_at, began.elapsed(), run);
            }
        });
    }

    /// Starts work that is repeated at this interval, from now on. Its failures are in the table only: an outage of a store
    /// has log lines of its own.
    pub fn repeat(
        &self,
        name: &'static str,
        about: &'static str,
        every: Duration,
        mut work: impl FnMut() -> BoxFuture<'static, Run> + Send + 'static,
    ) {
        let entry = self.enter(name, about, Some(every), false);
        self.lifecycle.spawn_until_stop(async move {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let (began, started_at) = (Instant::now(), Utc::now());
                let run = caught(async { work().await }).await.unwrap_or_else(panicked);
                entry.ran(started_at, began.elapsed(), run);
            }
        });
    }

    /// Starts a task that runs until the stop. One that returns or panics before has failed: the log and the table
    /// say so, and `make` makes it anew.
    pub fn keep<F>(&self, name: &'static str, about: &'static str, make: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let entry = self.enter(name, about, None, false);
        self.lifecycle.keep_running(name, make, move || {
            let mut state = entry.state.lock();
            state.ended_early = true;
            state.errors += 1;
        });
    }

    fn enter(&self, name: &'static str, about: &'static str, interval: Option<Duration>, is_sweep: bool) -> Arc<Entry> {
        let entry = Arc::new(Entry { name, about, interval, is_sweep, state: Mutex::default() });
        self.entries.lock().push(Arc::clone(&entry));
        entry
    }

    /// Every sweep with its last run. Which of them are paused only the store knows; while it is unavailable none is said to be.
    pub async fn sweeps(&self) -> Vec<SweepStatus> {
        let paused: HashMap<String, Duration> =
            self.presence.paused_sweeps().await.unwrap_or_default().into_iter().collect();
        let entries = self.entries.lock();
        let sweeps = entries.iter().filter(|entry| entry.is_sweep);
        sweeps.map(|entry| entry.sweep_status(paused.get(entry.name).copied())).collect()
    }

    /// The whole table.
    pub fn all(&self) -> Vec<TaskStatus> {
        self.entries.lock().iter().map(|entry| entry.status()).collect()
    }

    /// The names of the sweeps.
    pub fn sweep_names(&self) -> Vec<&'static str> {
        self.entries.lock().iter().filter(|entry| entry.is_sweep).map(|entry| entry.name).collect()
    }
}

/// A run that panicked failed; the next one has its own chance.
fn panicked() -> Run {
    Run::Failed("it panicked; the log says where".to_owned())
}

fn outcome(run: &Run) -> Outcome {
    match run {
        Run::Done(_) => Outcome::Ok,
        Run::Skipped(_) => Outcome::Skipped,
        Run::Failed(_) => Outcome::Error,
    }
}

impl Entry {
    fn ran(&self, started_at: DateTime<Utc>, took: Duration, run: Run) {
        let mut state = self.state.lock();
        state.runs += 1;
        let (result, detail) = match run {
            Run::Done(detail) => ("ok", detail),
            Run::Skipped(why) => ("skipped", why),
            Run::Failed(why) => {
                state.errors += 1;
                ("failed", why)
            }
        };
        let (started_at, duration_ms) = (timestamp(started_at), took.as_millis() as u64);
        state.last = Some(LastRun { started_at, duration_ms, result, detail });
    }

    fn interval_ms(&self) -> Option<u64> {
        self.interval.map(|every| every.as_millis() as u64)
    }

    fn sweep_status(&self, paused_for: Option<Duration>) -> SweepStatus {
        let state = self.state.lock();
        SweepStatus {
            name: self.name,
            interval_ms: self.interval_ms().unwrap_or_default(),
            runs: state.runs,
            last: state.last.clone(),
            paused_until: paused_for.map(|left| timestamp(Utc::now() + left)),
        }
    }

    fn status(&self) -> TaskStatus {
        let state = self.state.lock();
        TaskStatus {
            name: self.name,
            about: self.about,
            interval_ms: self.interval_ms(),
            runs: state.runs,
            errors: state.errors,
            last: state.last.clone(),
            ended_early: state.ended_early,
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
