//! The mode, decided in one place, and the one gate through which anything reaches watchers.
//!
//! Invariant: a frame numbered by the mirror passes only while the mode is `live` and its epoch is the one in force; any
//! other frame carries an epoch of this node's own, new at each change of mode. Mode and publishing share one lock, so a
//! late reply of an abandoned mirror cannot slip between.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::{
    domain::{Mode, NodeId, Snapshot, Source},
    hub::{AvailabilityNews, Hub, Published},
};

/// Failures within this time are one: calls that were on their way together when the mirror stalled.
const SAME_STALL_MS: u64 = 250;

/// Decides the mode and guards what is published.
pub(super) struct ModeMachine {
    node_id: NodeId,
    breaker_failures: u32,
    /// Of everything that the mirror is asked; ended by any answer.
    failures: Failures,
    /// Of what it is told to write; ended only by something written: one that is full or a replica answers questions well.
    unwritten: Failures,
    state: Mutex<State>,
    /// Hub time since which the mode is `live`; 0 when it is not.
    live_since_ms: AtomicU64,
}

/// Failures in a row.
#[derive(Default)]
struct Failures {
    count: AtomicU32,
    /// When the last one was counted.
    last_ms: AtomicU64,
}

impl Failures {
    /// One more, unless it belongs to the last one; returns how many there are.
    fn one_more(&self, now_ms: u64) -> u32 {
        let count = self.count();
        if count > 0 && now_ms.saturating_sub(self.last_ms.load(Ordering::Relaxed)) < SAME_STALL_MS {
            return 0;
        }
        self.last_ms.store(now_ms, Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Relaxed);
        count + 1
    }

    fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.count.store(0, Ordering::Relaxed);
    }
}

struct State {
    mode: Mode,
    /// The mirror's epoch in force, from its epoch key.
    epoch: Option<Arc<str>>,
    /// Counts rebuild attempts; a return of the mirror within one begins another.
    rebuild_id: u64,
    /// Counts this node's own epochs.
    own: u64,
    own_version: u64,
    /// Count and staleness last published without the mirror.
    own_said: Option<(u64, bool)>,
}

impl State {
    fn begin_own_epoch(&mut self) {
        self.own += 1;
        self.own_version = 0;
        self.own_said = None;
    }
}

/// What a pulse or a failure calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModeChange {
    /// Nothing changed.
    None,
    /// The mode just changed; the supervisor must act.
    To(Mode),
}

impl ModeMachine {
    /// `first_own` numbers the first epoch of the node's own; one that rises from start to start keeps apart the epochs of
    /// a node that is always called the same.
    pub(super) fn new(node_id: NodeId, breaker_failures: u32, first_own: u64) -> Self {
        Self {
            node_id,
            breaker_failures: breaker_failures.max(1),
            failures: Failures::default(),
            unwritten: Failures::default(),
            state: Mutex::new(State {
                mode: Mode::Rebuilding,
                epoch: None,
                rebuild_id: 0,
                own: first_own,
                own_version: 0,
                own_said: None,
            }),
            live_since_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.state.lock().mode
    }

    /// The mirror may be asked by anybody.
    pub(super) fn is_live(&self) -> bool {
        self.mode() == Mode::Live
    }

    /// The mirror is there to be written to: live, or being rebuilt.
    pub(super) fn mirror_takes_writes(&self) -> bool {
        matches!(self.mode(), Mode::Live | Mode::Rebuilding)
    }

    /// How long this node has been live, in ms.
    pub(super) fn live_for_ms(&self, now_ms: u64) -> Option<u64> {
        match self.live_since_ms.load(Ordering::Relaxed) {
            0 => None,
            since => Some(now_ms.saturating_sub(since)),
        }
    }

    /// The mirror did not answer, or did not write. After enough in a row nobody waits for it any more.
    pub(super) fn mirror_failed(&self, is_write: bool, now_ms: u64) -> ModeChange {
        let mut state = self.state.lock();
        let unanswered = self.failures.one_more(now_ms);
        let unwritten = if is_write { self.unwritten.one_more(now_ms) } else { 0 };
        match state.mode {
            Mode::Live | Mode::Rebuilding if unanswered.max(unwritten) >= self.breaker_failures => {
                self.enter(&mut state, Mode::Fallback)
            }
            _ => ModeChange::None,
        }
    }

    /// The mirror wrote what it was told.
    pub(super) fn mirror_wrote(&self) {
        self.unwritten.end();
    }

    /// The mirror did not write what it was last told.
    pub(super) fn refuses_writes(&self) -> bool {
        self.unwritten.count() > 0
    }

    /// The mirror answered and this is the epoch it stands in.
    pub(super) fn mirror_answered(&self, epoch: Option<&Arc<str>>) -> ModeChange {
        self.failures.end();
        let mut state = self.state.lock();
        match state.mode {
            Mode::Live if state.epoch.as_ref() != epoch => self.enter(&mut state, Mode::Rebuilding),
            _ => ModeChange::None,
        }
    }

    /// The mirror came back, or may have missed writes: it is not believed until it was seeded again, by a seed that begins
    /// after this.
    pub(super) fn distrust(&self) -> ModeChange {
        self.failures.end();
        let mut state = self.state.lock();
        if state.mode == Mode::Rebuilding {
            state.rebuild_id += 1;
            return ModeChange::None;
        }
        self.enter(&mut state, Mode::Rebuilding)
    }

    /// Numbers the present rebuild attempt; `None` in any other mode. A seed of an earlier attempt may have missed writes
    /// and counts for nothing.
    pub(super) fn rebuild_id(&self) -> Option<u64> {
        let state = self.state.lock();
        (state.mode == Mode::Rebuilding).then_some(state.rebuild_id)
    }

    /// The mirror failed and was not given up yet.
    pub(super) fn is_doubtful(&self) -> bool {
        self.failures.count() > 0
    }

    /// The mirror's epoch when it was last trusted.
    pub(super) fn last_epoch(&self) -> Option<Arc<str>> {
        self.state.lock().epoch.clone()
    }

    /// The seed that began in this rebuild attempt is complete, and this is what the mirror counts: published at once, so
    /// that no older count on its way is the first.
    pub(super) fn trust(&self, hub: &Hub, rebuild_id: u64, counted: Snapshot, now_ms: u64) -> ModeChange {
        let mut state = self.state.lock();
        if state.mode != Mode::Rebuilding || state.rebuild_id != rebuild_id {
            return ModeChange::None;
        }
        state.epoch = Some(Arc::clone(&counted.epoch));
        self.live_since_ms.store(now_ms, Ordering::Relaxed);
        let change = self.enter(&mut state, Mode::Live);
        hub.publish(AvailabilityNews::new(counted));
        change
    }

    /// Neither store could be asked.
    pub(super) fn store_failed(&self) -> ModeChange {
        let mut state = self.state.lock();
        if state.mode == Mode::Fallback { self.enter(&mut state, Mode::Stale) } else { ModeChange::None }
    }

    /// The store answered again while the mirror is away.
    pub(super) fn store_answered(&self) -> ModeChange {
        let mut state = self.state.lock();
        if state.mode == Mode::Stale { self.enter(&mut state, Mode::Fallback) } else { ModeChange::None }
    }

    fn enter(&self, state: &mut State, mode: Mode) -> ModeChange {
        if mode == Mode::Rebuilding {
            state.rebuild_id += 1;
        }
        if mode != Mode::Live {
            self.live_since_ms.store(0, Ordering::Relaxed);
            state.begin_own_epoch();
        }
        state.mode = mode;
        ModeChange::To(mode)
    }

    /// Publishes a snapshot that the mirror numbered, if it is the mirror's turn and epoch.
    pub(super) fn publish(&self, hub: &Hub, snapshot: Snapshot) -> Published {
        let state = self.state.lock();
        if state.mode != Mode::Live || state.epoch.as_deref() != Some(&*snapshot.epoch) {
            return Published::Ignored;
        }
        hub.publish(AvailabilityNews::new(snapshot))
    }

    /// Publishes what was found without the mirror, numbered by this node.
    pub(super) fn publish_own(&self, hub: &Hub, available: u64, source: Source, as_of: DateTime<Utc>) -> Published {
        let mut state = self.state.lock();
        if state.mode == Mode::Live {
            return Published::Ignored;
        }
        let stale = source == Source::Local;
        if state.own_said.is_some_and(|(_, was_stale)| was_stale != stale) {
            state.begin_own_epoch();
        }
        if state.own_said != Some((available, stale)) {
            state.own_said = Some((available, stale));
            state.own_version += 1;
        }
        hub.publish(AvailabilityNews::new(Snapshot {
            epoch: Arc::from(format!("{}.{}", self.node_id, state.own)),
            version: state.own_version,
            available,
            as_of,
            source,
            stale,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::HubLimits;

    fn parts() -> (ModeMachine, Hub) {
        let limits = HubLimits { sockets_per_mitra: 1, sockets_per_customer: 1, sockets_per_operator: 1, sockets: 1 };
        (ModeMachine::new(NodeId::new("n"), 2, 0), Hub::new(limits))
    }

    fn snapshot(epoch: &str, version: u64) -> Snapshot {
        Snapshot {
            epoch: Arc::from(epoch),
            version,
            available: version,
            as_of: DateTime::UNIX_EPOCH,
            source: Source::Memory,
            stale: false,
        }
    }

    #[test]
    fn a_frame_of_the_mirror_passes_only_while_live_and_in_its_epoch() {
        let (machine, hub) = parts();
        assert_eq!(machine.publish(&hub, snapshot("a", 1)), Published::Ignored);
        machine.trust(&hub, 0, snapshot("a", 0), 1);
        assert_eq!(machine.publish(&hub, snapshot("b", 9)), Published::Ignored);
        assert_eq!(machine.publish(&hub, snapshot("a", 1)), Published::Pushed);
        machine.mirror_failed(false, 1_000);
        assert_eq!(machine.mirror_failed(false, 2_000), ModeChange::To(Mode::Fallback));
        assert_eq!(machine.publish(&hub, snapshot("a", 2)), Published::Ignored);
    }

    #[test]
    fn each_change_of_mode_begins_an_epoch_of_the_nodes_own() {
        let (machine, hub) = parts();
        let epoch = |hub: &Hub| hub.availability().unwrap().snapshot().epoch.to_string();
        machine.trust(&hub, 0, snapshot("a", 0), 1);
        assert_eq!(machine.publish_own(&hub, 1, Source::Postgres, DateTime::UNIX_EPOCH), Published::Ignored);
        machine.mirror_failed(false, 1_000);
        machine.mirror_failed(false, 2_000);
        machine.publish_own(&hub, 1, Source::Postgres, DateTime::UNIX_EPOCH);
        assert_eq!(epoch(&hub), "n.1");
        machine.store_failed();
        machine.publish_own(&hub, 1, Source::Local, DateTime::UNIX_EPOCH);
        assert_eq!(epoch(&hub), "n.2");
        assert!(hub.availability().unwrap().snapshot().stale);
        machine.store_answered();
        machine.publish_own(&hub, 1, Source::Postgres, DateTime::UNIX_EPOCH);
        assert_eq!(epoch(&hub), "n.3");
    }

    #[test]
    fn one_slow_answer_does_not_open_the_breaker() {
        let (machine, hub) = parts();
        let epoch: Arc<str> = Arc::from("a");
        machine.trust(&hub, 0, snapshot("a", 0), 1);
        assert_eq!(machine.mirror_failed(false, 1_000), ModeChange::None);
        machine.mirror_answered(Some(&epoch));
        assert_eq!(machine.mirror_failed(false, 2_000), ModeChange::None);
        assert!(machine.is_live());
    }

    #[test]
    fn many_calls_in_one_stall_are_one_failure() {
        let (machine, hub) = parts();
        machine.trust(&hub, 0, snapshot("a", 0), 1);
        for at_ms in [1_000, 1_010, 1_249] {
            assert_eq!(machine.mirror_failed(false, at_ms), ModeChange::None);
        }
        assert_eq!(machine.mirror_failed(false, 1_250), ModeChange::To(Mode::Fallback));
    }

    #[test]
    fn a_mirror_that_answers_and_does_not_write_is_given_up() {
        let (machine, hub) = parts();
        let epoch: Arc<str> = Arc::from("a");
        machine.trust(&hub, 0, snapshot("a", 0), 1);
        assert_eq!(machine.mirror_failed(true, 1_000), ModeChange::None);
        machine.mirror_answered(Some(&epoch));
        assert!(machine.refuses_writes());
        assert_eq!(machine.mirror_failed(true, 2_000), ModeChange::To(Mode::Fallback));
        machine.mirror_wrote();
        assert!(!machine.refuses_writes());
    }

    #[test]
    fn a_changed_or_missing_epoch_means_rebuilding_and_live_time_starts_anew() {
        let (machine, hub) = parts();
        machine.trust(&hub, 0, snapshot("a", 0), 5);
        assert_eq!(machine.live_for_ms(25), Some(20));
        assert_eq!(machine.mirror_answered(None), ModeChange::To(Mode::Rebuilding));
        assert_eq!(machine.live_for_ms(25), None);
        assert_eq!(
            machine.trust(&hub, 0, snapshot("b", 0), 30),
            ModeChange::None,
            "a seed of an earlier attempt counts for nothing"
        );
        machine.trust(&hub, 1, snapshot("b", 0), 30);
        assert_eq!(machine.mirror_answered(Some(&Arc::from("c"))), ModeChange::To(Mode::Rebuilding));
    }
}
