//! The mirror inside this process: one node, nothing installed, the same rules as Valkey's scripts.
//!
//! All state stands behind one short lock; no method waits while holding it. Time is given by a clock of the caller's, so
//! that tests move it. Only `app` constructs this.

mod index;
mod state;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::{
    ApplyReport, Beat, BeatReport, Claimed, Entry, HistoryPoint, Mirror, MirrorError, MirrorEvent, MirrorSettings,
    Pulse, Write,
};
use crate::domain::{AvailablePage, ControlMessage, Counts, Fence, MitraId, NodeRecord, Snapshot, Source};
use state::State;

/// Events that a slow receiver may fall behind before it is told that it lags.
const EVENTS: usize = 4_096;

/// Milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The mirror inside this process.
pub struct MemoryMirror {
    state: Mutex<State>,
    clock: Clock,
    events: broadcast::Sender<MirrorEvent>,
}

impl MemoryMirror {
    /// An empty mirror on the system's clock. It has no epoch until it is seeded.
    pub fn new(settings: MirrorSettings) -> Self {
        let system = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self::with_clock(settings, Arc::new(system))
    }

    /// An empty mirror on a given clock.
    pub fn with_clock(settings: MirrorSettings, clock: Clock) -> Self {
        Self { state: Mutex::new(State::new(settings)), clock, events: broadcast::Sender::new(EVENTS) }
    }

    /// Runs one "script": nothing else happens in between, and what it says is sent in the order it was said.
    fn script<T>(&self, work: impl FnOnce(&mut State, u64) -> T) -> (T, Pulse) {
        let mut state = self.state.lock();
        let now_ms = (self.clock)();
        let value = work(&mut state, now_ms);
        let pulse = state.pulse(now_ms);
        for event in state.said.drain(..) {
            // Nobody listening is no error.
            let _unheard = self.events.send(event);
        }
        (value, pulse)
    }
}

#[async_trait]
impl Mirror for MemoryMirror {
    fn source(&self) -> Source {
        Source::Memory
    }

    fn events(&self) -> broadcast::Receiver<MirrorEvent> {
        self.events.subscribe()
    }

    async fn apply(&self, writes: &[Write]) -> Result<ApplyReport, MirrorError> {
        let (outcomes, pulse) =
            self.script(|state, now| writes.iter().map(|write| state.apply(write, now)).collect::<Vec<_>>());
        Ok(ApplyReport { outcomes, pulse })
    }

    async fn beat(&self, beats: &[Beat]) -> Result<BeatReport, MirrorError> {
        let (refused, pulse) =
            self.script(|state, now| beats.iter().filter_map(|beat| state.beat(beat, now)).collect::<Vec<_>>());
        Ok(BeatReport { refused, pulse })
    }

    async fn tick(&self) -> Result<Pulse, MirrorError> {
        Ok(self.script(|_, _| ()).1)
    }

    async fn counts(&self) -> Result<(Counts, Pulse), MirrorError> {
        Ok(self.script(State::counts))
    }

    async fn find_available(&self, limit: u32) -> Result<(AvailablePage, Pulse), MirrorError> {
        Ok(self.script(|state, now| state.find_available(limit as usize, now)))
    }

    async fn entries(&self, ids: &[MitraId]) -> Result<Vec<Option<Entry>>, MirrorError> {
        let (state, now) = (self.state.lock(), (self.clock)());
        Ok(ids.iter().map(|id| state.entry(*id, now)).collect())
    }

    async fn is_deactivated(&self, id: MitraId) -> Result<bool, MirrorError> {
        Ok(self.state.lock().is_deactivated(id))
    }

    async fn cached_snapshot(&self) -> Result<Option<Snapshot>, MirrorError> {
        Ok(self.script(|_, _| ()).1.snapshot)
    }

    async fn count_silent(&self, silent_for: Duration) -> Result<u64, MirrorError> {
        Ok(self.script(|state, now| state.count_silent(silent_for, now)).0)
    }

    async fn claim_silent(&self, silent_for: Duration, limit: u32) -> Result<Vec<Claimed>, MirrorError> {
        Ok(self.script(|state, now| state.claim_silent(silent_for, limit as usize, now)).0)
    }

    async fn unclaim(&self, claimed: &[Claimed]) -> Result<(), MirrorError> {
        self.script(|state, _| claimed.iter().for_each(|one| state.unclaim(one)));
        Ok(())
    }

    async fn known(&self, cursor: u64) -> Result<(u64, Vec<MitraId>), MirrorError> {
        Ok(self.state.lock().known(cursor))
    }

    async fn forget(&self, ids: &[(MitraId, Fence)]) -> Result<u64, MirrorError> {
        Ok(self.script(|state, _| ids.iter().filter(|(id, seen)| state.forget(*id, *seen)).count() as u64).0)
    }

    async fn open_epoch(&self) -> Result<Arc<str>, MirrorError> {
        Ok(self.script(|state, _| state.open_epoch()).0)
    }

    async fn tell(&self, message: &ControlMessage) -> Result<(), MirrorError> {
        self.script(|state, _| state.said.push(MirrorEvent::Control(message.clone())));
        Ok(())
    }

    async fn report_node(&self, record: &NodeRecord) -> Result<Vec<NodeRecord>, MirrorError> {
        // There is only one node.
        Ok(vec![record.clone()])
    }

    async fn history(&self) -> Result<Vec<HistoryPoint>, MirrorError> {
        Ok(self.state.lock().history())
    }

    async fn close(&self) {}
}

#[cfg(test)]
mod tests;
