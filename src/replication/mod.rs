//! Replication: keeps the mirror and the sockets here in step with the store, and alone decides what may be believed.
//!
//! Writes go to the store first and are propagated after the commit. The mode (`mode.rs`) says whether the mirror is
//! trusted; everything that watchers see passes its one gate. `presence`, `cluster` and `sessions` stand on this; it
//! calls `hub`, `store` and `mirror` and knows no use case.

mod change_feed;
mod error;
mod heartbeats;
mod isolated_nodes;
mod mirror_client;
mod mode;
mod mode_control;
mod outage;
mod propagate;
mod recent_revisions;
mod reseed;
mod signals;
mod single_flight;
mod status_hints;
mod store_client;
mod supervisor;
mod trust;

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

pub use change_feed::ChangeFeed;
pub use error::PresenceError;
pub use heartbeats::HeartbeatWriter;
pub use isolated_nodes::IsolatedNodes;
pub use propagate::Propagator;
pub use reseed::Reseeder;
pub use store_client::StoreClient;
pub use supervisor::Supervisor;
pub use trust::Trust;

pub(crate) use mirror_client::MirrorClient;
pub(crate) use mode_control::ModeControl;
pub(crate) use signals::Signals;
pub(crate) use single_flight::{SingleFlight, StoreReads};

// The words in which the two clients are asked and answer.
pub(crate) use crate::{
    mirror::{Caution, Claimed, Entry, HistoryPoint, Write},
    store::{DurableState, MitraProfile, MitraQuery, SessionChange, SessionCounts, SilentQuery},
};

pub use crate::mirror::Restraint;

use crate::{domain::NodeId, hub::Hub, mirror::Mirror, protocol::ControlMessage, store::Store, telemetry::Metrics};

/// Control messages that may wait for `cluster`.
const CONTROL_QUEUE: usize = 256;

/// The periods that replication needs; from the configuration.
#[derive(Clone, Debug)]
pub struct ReplicationSettings {
    pub node_id: NodeId,
    pub heartbeat_interval: Duration,
    pub suspect_after: Duration,
    /// Cadence at which heartbeats reach the store; how much older than the truth they may be there.
    pub heartbeat_mirror_interval: Duration,
    /// Consecutive failures of the mirror that open the breaker.
    pub breaker_failures: u32,
    /// Pause between polls of a mirror that is unavailable.
    pub breaker_retry: Duration,
}

impl ReplicationSettings {
    /// How fresh a heartbeat must be in the store, where it arrives late by up to one cadence.
    pub(crate) fn fresh_in_store(&self) -> Duration {
        self.suspect_after + self.heartbeat_mirror_interval
    }
}

/// What every part of replication is built from; each keeps only what it uses.
struct Parts {
    settings: Arc<ReplicationSettings>,
    hub: Arc<Hub>,
    metrics: Metrics,
    trust: Arc<Trust>,
    signals: Arc<Signals>,
    mode: Arc<ModeControl>,
    mirror: Arc<MirrorClient>,
    store: StoreClient,
}

/// The parts of replication, wired together once. Nothing runs until `app` drives them.
pub struct Replication {
    pub(crate) settings: Arc<ReplicationSettings>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) metrics: Metrics,
    pub(crate) trust: Arc<Trust>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) mode: Arc<ModeControl>,
    pub(crate) mirror: Arc<MirrorClient>,
    pub(crate) store: StoreClient,
    pub(crate) reads: Arc<StoreReads>,
    pub(crate) propagator: Arc<Propagator>,
    pub(crate) heartbeats: Arc<HeartbeatWriter>,
    pub(crate) reseeder: Arc<Reseeder>,
    pub(crate) change_feed: Arc<ChangeFeed>,
    pub(crate) isolated_nodes: Arc<IsolatedNodes>,
    /// Also for tests that run replication alone.
    pub supervisor: Arc<Supervisor>,
}

impl Replication {
    /// Replication over these back ends, and the control messages of other nodes that `cluster` answers.
    pub fn new(
        settings: ReplicationSettings,
        store: Arc<dyn Store>,
        mirror: Arc<dyn Mirror>,
        hub: Arc<Hub>,
        metrics: Metrics,
    ) -> (Self, mpsc::Receiver<ControlMessage>) {
        let settings = Arc::new(settings);
        let trust = Arc::new(Trust::new(Arc::clone(&hub), settings.heartbeat_mirror_interval, settings.suspect_after));
        let signals = Arc::new(Signals::new(Arc::clone(&hub)));
        let mode = Arc::new(ModeControl::new(
            settings.node_id.clone(),
            settings.breaker_failures,
            mirror.source(),
            Arc::clone(&hub),
            metrics.clone(),
            Arc::clone(&trust),
            Arc::clone(&signals),
        ));
        let store = StoreClient::new(store, Arc::clone(&trust), metrics.clone());
        let mirror =
            MirrorClient::new(mirror, Arc::clone(&mode), Arc::clone(&hub), metrics.clone(), Arc::clone(&signals));
        let parts = Parts { settings, hub, metrics, trust, signals, mode, mirror: Arc::new(mirror), store };
        let reads = Arc::new(StoreReads::new(&parts));
        let propagator = Arc::new(Propagator::new(&parts));
        let heartbeats = Arc::new(HeartbeatWriter::new(&parts, &propagator));
        let reseeder = Arc::new(Reseeder::new(&parts));
        let change_feed = Arc::new(ChangeFeed::new(&parts, &propagator, &reseeder));
        let isolated_nodes = Arc::new(IsolatedNodes::new(&parts));
        let (control, inbox) = mpsc::channel(CONTROL_QUEUE);
        let supervisor = Arc::new(Supervisor::new(&parts, &reads, &propagator, &heartbeats, &reseeder, control));
        let Parts { settings, hub, metrics, trust, signals, mode, mirror, store } = parts;
        let replication = Self {
            settings,
            hub,
            metrics,
            trust,
            signals,
            mode,
            mirror,
            store,
            reads,
            propagator,
            heartbeats,
            reseeder,
            change_feed,
            isolated_nodes,
            supervisor,
        };
        (replication, inbox)
    }
}
