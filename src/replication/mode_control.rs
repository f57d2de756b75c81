//! The mode of this node with everything that follows from a change of it: log, metrics, trust, and who is woken.
//!
//! `mode.rs` decides; every other part reads and moves the mode here. Nothing here waits.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::{
    mode::{ModeChange, ModeMachine},
    outage::Outage,
    signals::Signals,
    trust::Trust,
};
use crate::{
    domain::{Mode, NodeId, NodeRecord, Snapshot, Source},
    hub::{Hub, Published},
    mirror::MirrorError,
    telemetry::Metrics,
};

/// The mode, shared by all parts of a node.
pub(crate) struct ModeControl {
    node_id: NodeId,
    machine: ModeMachine,
    outage: Outage,
    mirror: Source,
    hub: Arc<Hub>,
    metrics: Metrics,
    trust: Arc<Trust>,
    signals: Arc<Signals>,
}

impl ModeControl {
    pub(crate) fn new(
        node_id: NodeId,
        breaker_failures: u32,
        mirror: Source,
        hub: Arc<Hub>,
        metrics: Metrics,
        trust: Arc<Trust>,
        signals: Arc<Signals>,
    ) -> Self {
        let started_ms = u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default();
        let machine = ModeMachine::new(node_id.clone(), breaker_failures, started_ms);
        metrics.set_mode(machine.mode());
        Self { node_id, machine, outage: Outage::default(), mirror, hub, metrics, trust, signals }
    }

    /// This node as the others see it.
    pub(crate) fn node_record(&self) -> NodeRecord {
        NodeRecord { node_id: self.node_id.clone(), sockets: self.hub.socket_counts(), mode: self.mode(), seen_ms: 0 }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.machine.mode()
    }

    /// The mirror may be asked by everybody.
    pub(crate) fn is_live(&self) -> bool {
        self.machine.is_live()
    }

    /// The mirror is there to be written to: live, or being rebuilt.
    pub(crate) fn mirror_takes_writes(&self) -> bool {
        self.machine.mirror_takes_writes()
    }

    /// The mirror did not write what it was last told.
    pub(crate) fn refuses_writes(&self) -> bool {
        self.machine.refuses_writes()
    }

    /// The mirror failed and the breaker is still closed.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.machine.is_doubtful()
    }

    /// How long this node has been live.
    pub(crate) fn live_for(&self) -> Option<Duration> {
        self.machine.live_for_ms(self.hub.now_ms()).map(Duration::from_millis)
    }

    /// Numbers the present rebuild attempt; `None` in any other mode.
    pub(crate) fn rebuild_id(&self) -> Option<u64> {
        self.machine.rebuild_id()
    }

    /// The mirror's epoch when it was last trusted.
    pub(crate) fn last_epoch(&self) -> Option<Arc<str>> {
        self.machine.last_epoch()
    }

    /// The mirror did not answer, or did not write what it was told.
    pub(crate) fn mirror_failed(&self, error: &MirrorError, is_write: bool) {
        self.outage.failed(error);
        self.on_mode_change(self.machine.mirror_failed(is_write, self.hub.now_ms()));
    }

    /// Why the mirror is unavailable at present; `None` while it is not.
    pub(crate) fn mirror_trouble(&self) -> Option<String> {
        self.outage.trouble()
    }

    /// The mirror wrote what it was told.
    pub(crate) fn mirror_wrote(&self) {
        self.machine.mirror_wrote();
    }

    /// The mirror answered and this is the epoch it stands in.
    pub(crate) fn mirror_answered(&self, epoch: Option<&Arc<str>>) {
        self.on_mode_change(self.machine.mirror_answered(epoch));
    }

    /// The mirror may have missed writes: it is rebuilt, by a seed that begins after this.
    pub(crate) fn distrust(&self) {
        self.on_mode_change(self.machine.distrust());
        // Also where it was being rebuilt: that seed counts for nothing now.
        self.signals.wake_supervisor();
    }

    /// The seed of this rebuild attempt is complete; publishes what the mirror counted.
    pub(crate) fn trust(&self, rebuild_id: u64, counted: Snapshot) {
        self.on_mode_change(self.machine.trust(&self.hub, rebuild_id, counted, self.hub.now_ms()));
    }

    /// The store failed while the mirror is unavailable.
    pub(crate) fn store_failed(&self) {
        self.on_mode_change(self.machine.store_failed());
    }

    /// The store answered again while the mirror is unavailable.
    pub(crate) fn store_answered(&self) {
        self.on_mode_change(self.machine.store_answered());
    }

    /// Publishes a snapshot that the mirror numbered, if the mode and the epoch allow it.
    pub(crate) fn publish(&self, snapshot: Snapshot) -> Published {
        let published = self.machine.publish(&self.hub, snapshot);
        if published == Published::Pushed {
            self.metrics.snapshot_published();
        }
        published
    }

    /// Publishes what was found without the mirror, numbered by this node.
    pub(crate) fn publish_own(&self, available: u64, source: Source, as_of: DateTime<Utc>) -> Published {
        self.machine.publish_own(&self.hub, available, source, as_of)
    }

    fn on_mode_change(&self, change: ModeChange) {
        if let ModeChange::To(mode) = change {
            // At `info` an outage has its own two lines.
            tracing::debug!(mode = mode.as_str(), "mode changed");
            self.outage.mode_changed(mode, self.mirror, self.hub.now_ms());
            self.metrics.set_mode(mode);
            self.trust.mode_changed(mode == Mode::Live);
            self.signals.wake_supervisor();
            self.signals.wake_dashboards();
        }
    }
}
