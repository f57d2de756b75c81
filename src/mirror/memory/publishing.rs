//! When a count is worth publishing. The same rules as `pulse()` of the Valkey scripts, in pure Rust.

use std::{collections::VecDeque, sync::Arc};

use chrono::{DateTime, Utc};

use crate::{
    domain::{Snapshot, Source},
    mirror::{HistoryPoint, MirrorSettings, Pulse},
};

const HISTORY_STEP_MS: u64 = 10_000;
const HISTORY_POINTS: usize = 360;

/// What was published, and when.
pub(super) struct Publishing {
    window_ms: u64,
    ttl_ms: u64,
    epoch: Option<Arc<str>>,
    version: u64,
    /// The published count; `None` before the first.
    available: Option<u64>,
    published_ms: Option<u64>,
    /// When the cached snapshot was last written.
    written_ms: Option<u64>,
    history_ms: Option<u64>,
    history: VecDeque<HistoryPoint>,
}

/// What one pulse found.
pub(super) struct Outcome {
    pub pulse: Pulse,
    /// To be told to everybody.
    pub news: Option<Snapshot>,
}

impl Publishing {
    pub fn new(settings: &MirrorSettings) -> Self {
        Self {
            window_ms: settings.snapshot_window.as_millis() as u64,
            ttl_ms: settings.snapshot_ttl.as_millis() as u64,
            epoch: None,
            version: 0,
            available: None,
            published_ms: None,
            written_ms: None,
            history_ms: None,
            history: VecDeque::new(),
        }
    }

    /// The epoch in force, `candidate` if there was none.
    pub fn open(&mut self, candidate: Arc<str>) -> Arc<str> {
        self.epoch.get_or_insert(candidate).clone()
    }

    /// Compares the counts with what was published, publishes when that is due, keeps the cached snapshot and the history
    /// fresh. Without an epoch it does nothing.
    pub fn pulse(&mut self, available: u64, online: u64, now_ms: u64) -> Outcome {
        let Some(epoch) = self.epoch.clone() else {
            return Outcome { pulse: Pulse { now_ms, epoch: None, snapshot: None, due_in: None }, news: None };
        };
        let (mut published, mut due_ms) = (false, None);
        if self.available != Some(available) {
            let flipped = self.available.is_none_or(|shown| (shown > 0) != (available > 0));
            let waited_ms = elapsed(self.published_ms, now_ms);
            if flipped || waited_ms >= self.window_ms {
                published = true;
                self.version += 1;
                self.available = Some(available);
                (self.published_ms, self.written_ms) = (Some(now_ms), Some(now_ms));
            } else {
                due_ms = Some(self.window_ms - waited_ms);
            }
        } else if elapsed(self.written_ms, now_ms) >= self.ttl_ms / 3 {
            self.written_ms = Some(now_ms);
        }

        if elapsed(self.history_ms, now_ms) >= HISTORY_STEP_MS {
            self.history_ms = Some(now_ms);
            self.history.push_back(HistoryPoint { at: time(now_ms), online, available });
            while self.history.len() > HISTORY_POINTS {
                self.history.pop_front();
            }
        }

        // While a change waits, what was published is no longer true: it is as old as its last writing.
        let as_of_ms = if due_ms.is_some() { self.written_ms.unwrap_or(now_ms) } else { now_ms };
        let snapshot = self.snapshot(epoch.clone(), as_of_ms);
        Outcome {
            news: published.then(|| snapshot.clone()),
            pulse: Pulse {
                now_ms,
                epoch: Some(epoch),
                snapshot: Some(snapshot),
                due_in: due_ms.map(std::time::Duration::from_millis),
            },
        }
    }

    /// The snapshot as last written, while it lives.
    pub fn cached(&self, now_ms: u64) -> Option<Snapshot> {
        let written_ms = self.written_ms.filter(|_| elapsed(self.written_ms, now_ms) < self.ttl_ms)?;
        Some(self.snapshot(self.epoch.clone()?, written_ms))
    }

    pub fn history(&self) -> Vec<HistoryPoint> {
        self.history.iter().copied().collect()
    }

    fn snapshot(&self, epoch: Arc<str>, as_of_ms: u64) -> Snapshot {
        Snapshot {
            epoch,
            version: self.version,
            available: self.available.unwrap_or(0),
            as_of: time(as_of_ms),
            source: Source::Memory,
            stale: false,
        }
    }
}

/// Never, or a clock that was set back, is long ago: otherwise a step back would freeze whatever waits for it.
fn elapsed(since_ms: Option<u64>, now_ms: u64) -> u64 {
    since_ms.and_then(|since_ms| now_ms.checked_sub(since_ms)).unwrap_or(u64::MAX)
}

fn time(ms: u64) -> DateTime<Utc> {
    i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
