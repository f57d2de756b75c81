//! The node's message to itself through the mirror's pub/sub.
//!
//! Messages are hints that may be lost without a trace. Probes that do not come back are the trace.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    domain::NodeId,
    hub::Hub,
    protocol::ControlMessage,
    replication::{MirrorClient, ModeControl, Replication},
    telemetry::Metrics,
};

/// Probes in a row that may be lost before the listening connection is replaced.
const MISSED_PROBES: u64 = 2;

/// Whether pub/sub is alive, and how late.
pub(super) struct Probe {
    node_id: NodeId,
    interval: Duration,
    hub: Arc<Hub>,
    metrics: Metrics,
    mode: Arc<ModeControl>,
    mirror: Arc<MirrorClient>,
    /// Hub time at which the node last heard its own probe.
    heard_ms: AtomicU64,
}

impl Probe {
    pub(super) fn new(replication: &Replication, interval: Duration) -> Self {
        Self {
            node_id: replication.settings.node_id.clone(),
            interval,
            hub: Arc::clone(&replication.hub),
            metrics: replication.metrics.clone(),
            mode: Arc::clone(&replication.mode),
            mirror: Arc::clone(&replication.mirror),
            heard_ms: AtomicU64::new(0),
        }
    }

    /// Sends the probes while the node is live, for as long as it is polled.
    pub(super) async fn run(&self) {
        loop {
            sleep(self.interval).await;
            if self.mode.is_live() {
                self.send().await;
            }
        }
    }

    /// The probe that was sent at this hub time came back.
    pub(super) fn heard(&self, sent_ms: u64) {
        let now = self.hub.now_ms();
        self.heard_ms.store(now, Relaxed);
        self.metrics.set_pubsub_loop_lag(Duration::from_millis(now.saturating_sub(sent_ms)));
    }

    async fn send(&self) {
        let now = self.hub.now_ms();
        let live_for = self.mode.live_for().unwrap_or_default().as_millis() as u64;
        let heard = self.heard_ms.load(Relaxed).max(now.saturating_sub(live_for));
        let silent_for = now.saturating_sub(heard);
        if silent_for > MISSED_PROBES * self.interval.as_millis() as u64 {
            tracing::warn!(silent_for_ms = silent_for, "pub/sub is silent; subscribing anew");
            self.metrics.set_pubsub_loop_lag(Duration::from_millis(silent_for));
            self.heard_ms.store(now, Relaxed);
            self.mirror.resubscribe().await;
        }
        let probe = ControlMessage::Probe { node: self.node_id.clone(), nonce: now };
        let _counted = self.mirror.tell(&probe).await;
    }
}
