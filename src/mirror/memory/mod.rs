//! The mirror of a single node, in its own memory: no server to run, gone with the process.
//!
//! It means the same as the one in Valkey and passes the same suite. `roll.rs` knows who is there, `publishing.rs` when
//! a count is told; this module puts both under one lock, that is never held across a wait. It is chosen by the
//! composition root when no Valkey is configured, and then only one node may run.

mod brake;
mod publishing;
mod roll;

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use self::{
    brake::{Brake, Census},
    publishing::Publishing,
    roll::Roll,
};
use crate::{
    domain::{
        AvailableMitra, AvailablePage, Counts, Fence, LastHeard, MitraId, NodeId, NodeRecord, Snapshot, Source,
        StatusChange,
    },
    mirror::{
        Applied, ApplyReport, Beat, BeatReport, Caution, Claimed, Claims, EVENT_QUEUE, Entries, HistoryPoint, Mirror,
        MirrorError, MirrorEvent, MirrorSettings, NODE_LIFE, Pulse, Restraint, Suspects, Write,
    },
    protocol::ControlMessage,
};

/// The mirror's milliseconds since 1970. Injected, so that tests move it.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

struct State {
    roll: Roll,
    publishing: Publishing,
    brake: Brake,
    /// By node: when it was written, and what.
    nodes: BTreeMap<NodeId, (u64, NodeRecord)>,
}

/// See the module.
pub struct MemoryMirror {
    clock: Clock,
    events: broadcast::Sender<MirrorEvent>,
    state: Mutex<State>,
}

impl fmt::Debug for MemoryMirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryMirror").finish_non_exhaustive()
    }
}

impl MemoryMirror {
    /// An empty mirror. Its clock begins with the system's and never jumps: a correction of that must not make everybody
    /// silent at once.
    pub fn new(settings: MirrorSettings) -> Self {
        let (began, began_ms) = (Instant::now(), system_ms());
        Self::with_clock(settings, Arc::new(move || began_ms + began.elapsed().as_millis() as u64))
    }

    /// An empty mirror on a clock of the caller's.
    pub fn with_clock(settings: MirrorSettings, clock: Clock) -> Self {
        let (events, _) = broadcast::channel(EVENT_QUEUE);
        let state = State {
            roll: Roll::new(settings.suspect_after),
            publishing: Publishing::new(&settings),
            brake: Brake::default(),
            nodes: BTreeMap::new(),
        };
        Self { clock, events, state: Mutex::new(state) }
    }

    /// Does one thing at one moment, then counts and publishes, all under the lock: news leave in order.
    fn at_once<T>(&self, act: impl FnOnce(&mut State, u64) -> T) -> (T, Pulse) {
        let mut state = self.state.lock();
        let now_ms = (self.clock)();
        state.roll.advance(now_ms);
        let result = act(&mut state, now_ms);
        let State { roll, publishing, .. } = &mut *state;
        let outcome = publishing.pulse(roll.available(), roll.online(), now_ms);
        if let Some(snapshot) = outcome.news {
            self.send(MirrorEvent::Snapshot(snapshot));
        }
        (result, outcome.pulse)
    }

    fn send(&self, event: MirrorEvent) {
        // Nobody listening is nobody's loss.
        drop(self.events.send(event));
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
        let (outcomes, pulse) = self.at_once(|state, now_ms| {
            let mut apply = |Write { row, heartbeat_age, announce }: &Write| {
                let outcome = state.roll.apply(row, *heartbeat_age, now_ms);
                if let (Applied::Changed, Some(reason)) = (outcome, announce) {
                    let change = StatusChange::of(row, *reason);
                    self.send(MirrorEvent::Control(ControlMessage::Status(change)));
                }
                outcome
            };
            writes.iter().map(&mut apply).collect()
        });
        Ok(ApplyReport { outcomes, pulse })
    }

    async fn beat(&self, beats: &[Beat]) -> Result<BeatReport, MirrorError> {
        let (refused, pulse) =
            self.at_once(|state, now_ms| beats.iter().filter_map(|beat| state.roll.beat(beat, now_ms).err()).collect());
        Ok(BeatReport { refused, pulse })
    }

    async fn tick(&self) -> Result<Pulse, MirrorError> {
        Ok(self.at_once(|_, _| ()).1)
    }

    async fn counts(&self) -> Result<(Counts, Pulse), MirrorError> {
        Ok(self.at_once(|State { roll, .. }, _| Counts {
            online: roll.online(),
            reachable: roll.reachable(),
            available: roll.available(),
            busy: roll.reachable() - roll.available(),
            suspect: roll.suspect(),
            deactivated: roll.deactivated(),
            ..Counts::default()
        }))
    }

    async fn find_available(&self, limit: u32) -> Result<(AvailablePage, Pulse), MirrorError> {
        Ok(self.at_once(|State { roll, .. }, now_ms| {
            let found = roll.find(limit as usize, rand::random::<u32>() as usize, now_ms);
            let mitras = found.into_iter().map(|entry| AvailableMitra {
                id: entry.id,
                sessions: entry.sessions,
                max_sessions: entry.max_sessions,
                heartbeat_age: entry.heartbeat_age.unwrap_or_default(),
            });
            AvailablePage { mitras: mitras.collect(), total: roll.available() }
        }))
    }

    async fn suspects(&self, after: Option<LastHeard>, limit: u32) -> Result<Suspects, MirrorError> {
        let (found, pulse) = self.at_once(|State { roll, .. }, _| roll.suspects(after).take(limit as usize).collect());
        Ok(Suspects { found, pulse })
    }

    async fn entries(&self, ids: &[MitraId]) -> Result<Entries, MirrorError> {
        let (of_each, pulse) =
            self.at_once(|state, now_ms| ids.iter().map(|id| state.roll.entry(*id, now_ms)).collect());
        Ok(Entries { of_each, epoch: pulse.epoch })
    }

    async fn is_deactivated(&self, id: MitraId) -> Result<bool, MirrorError> {
        Ok(self.state.lock().roll.is_deactivated(id))
    }

    async fn cached_snapshot(&self) -> Result<Option<Snapshot>, MirrorError> {
        Ok(self.state.lock().publishing.cached((self.clock)()))
    }

    async fn count_silent(&self, silent_for: Duration) -> Result<u64, MirrorError> {
        Ok(self.at_once(|state, now_ms| state.roll.count_silent(silent_for, now_ms)).0)
    }

    async fn claim_silent(&self, silent_for: Duration, limit: u32, caution: &Caution) -> Result<Claims, MirrorError> {
        let claims = self.at_once(|State { roll, brake, .. }, now_ms| {
            let silent = roll.count_silent(silent_for, now_ms);
            let census = Census { listed: roll.reachable() + roll.suspect(), fresh: roll.reachable(), silent };
            let (room, restraint) = brake.judge(census, caution, now_ms);
            let (limit, room) = (limit as usize, usize::try_from(room).unwrap_or(usize::MAX));
            // In doubt even abandoned claims wait.
            let limit = if matches!(restraint, Some((Restraint::Doubt, _))) { 0 } else { limit };
            let claimed = roll.claim(silent_for, limit, room, now_ms);
            let left = roll.count_silent(silent_for, now_ms);
            brake.taken(silent - left);
            Claims { claimed, left, restraint: restraint.filter(|_| left > 0) }
        });
        Ok(claims.0)
    }

    async fn unclaim(&self, claimed: &[Claimed]) -> Result<(), MirrorError> {
        self.at_once(|state, now_ms| claimed.iter().for_each(|claim| state.roll.unclaim(claim, now_ms)));
        Ok(())
    }

    async fn known(&self, cursor: u64) -> Result<(u64, Vec<MitraId>), MirrorError> {
        Ok(self.state.lock().roll.page(cursor))
    }

    async fn forget(&self, ids: &[(MitraId, Fence)]) -> Result<u64, MirrorError> {
        let (removed, _) = self.at_once(|state, now_ms| {
            ids.iter().filter(|(id, seen)| state.roll.forget(*id, *seen, now_ms)).count() as u64
        });
        Ok(removed)
    }

    /// Nobody empties it.
    async fn open_epoch(&self, _seeded: u64) -> Result<Arc<str>, MirrorError> {
        let candidate = Arc::from(uuid::Uuid::new_v4().simple().to_string());
        Ok(self.at_once(|state, _| state.publishing.open(candidate)).0)
    }

    async fn tell(&self, message: &ControlMessage) -> Result<(), MirrorError> {
        self.send(MirrorEvent::Control(message.clone()));
        Ok(())
    }

    async fn report_node(&self, record: &NodeRecord) -> Result<Vec<NodeRecord>, MirrorError> {
        let now_ms = (self.clock)();
        let nodes = &mut self.state.lock().nodes;
        nodes.insert(record.node_id.clone(), (now_ms, record.clone()));
        // One from the future can only be left over from before the clock was set back.
        nodes.retain(|_, (at_ms, _)| now_ms.abs_diff(*at_ms) <= NODE_LIFE.as_millis() as u64);
        let seen = |(at_ms, record): &(u64, NodeRecord)| NodeRecord {
            seen_ms: now_ms.saturating_sub(*at_ms),
            ..record.clone()
        };
        Ok(nodes.values().map(seen).collect())
    }

    async fn history(&self) -> Result<Vec<HistoryPoint>, MirrorError> {
        Ok(self.state.lock().publishing.history())
    }

    async fn preflight(&self, _patience: Duration) -> Result<String, Vec<String>> {
        Ok("memory of this process, to be seeded at start".to_owned())
    }

    async fn close(&self) {
        self.state.lock().nodes.clear();
    }
}

fn system_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
