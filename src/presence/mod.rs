//! The use cases of presence, and the only place that knows in which order truth and mirror are written and read.
//!
//! Writes: commit in the store, then apply to the mirror; a mirror that fails is healed later and never fails the caller.
//! Reads: the mirror while the mode is `live`, else the store; every answer says which. The mode is decided in `mode`
//! from evidence, and everything that watchers see goes through its one gate, so that no frame of an abandoned source
//! follows one of the present source. `gateway`, `api` and `sweeps` call this; it calls `hub`, `store` and `mirror` and
//! knows neither sockets nor SQL.

mod commands;
mod control;
mod dashboard;
mod error;
mod evidence;
mod explain;
mod feed;
mod heartbeats;
mod keeper;
mod known;
mod lone;
mod mirror_client;
mod mode;
mod mode_control;
mod outage;
mod reads;
mod seed;
mod sharing;
mod signals;
mod silence;
mod store_client;
mod views;
mod write_through;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use error::PresenceError;
pub use explain::Explanation;
pub use seed::ReseedReport;
pub use silence::{Restraint, Swept};
pub use store_client::StoreClient;
pub use views::{Answer, Check, ListFilter, ListPage, MitraState, MitraView, Overview, Readiness, UnknownState};

use self::{mirror_client::MirrorClient, mode_control::ModeControl};
use crate::{
    domain::{AvailablePage, Counts, MitraId, Mode, NodeId, NodeRecord},
    hub::{Hub, Seat},
    mirror::Mirror,
    store::{SessionCounts, Store},
    telemetry::Metrics,
};

/// The periods that presence needs; from the configuration.
#[derive(Clone, Debug)]
pub struct PresenceSettings {
    pub node_id: NodeId,
    pub heartbeat_interval: Duration,
    pub suspect_after: Duration,
    pub offline_after: Duration,
    /// Cadence at which heartbeats reach the store; how much older than the truth they may be there.
    pub heartbeat_mirror_interval: Duration,
    /// Consecutive failures of the mirror after which nobody waits for it any more.
    pub breaker_failures: u32,
    /// Pause between looks at a mirror that is away.
    pub breaker_retry: Duration,
    /// Cadence of the self-probe through pub/sub.
    pub probe_interval: Duration,
    /// Cadence of the auto-offline sweep.
    pub auto_offline_interval: Duration,
    /// After this long a sweep is no longer held back, whatever held it.
    pub restraint_release: Duration,
}

/// The use cases. Shared as `Arc<Presence>`.
pub struct Presence {
    settings: PresenceSettings,
    store: StoreClient,
    mirror: MirrorClient,
    hub: Arc<Hub>,
    metrics: Metrics,
    mode: Arc<ModeControl>,
    evidence: Arc<evidence::Evidence>,
    signals: Arc<signals::Signals>,
    /// Mitras whose committed change did not reach the mirror. Bounded; beyond the bound a full reseed is due.
    unapplied: Mutex<HashSet<MitraId>>,
    /// What the change feed need not carry on again.
    known: known::Known,
    /// Seats whose newest heartbeat the store has not seen. Bounded by the flag on the seat.
    unsaved: Mutex<Vec<Arc<Seat>>>,
    /// A comparison of everything that something asked for.
    reseed_wish: Mutex<seed::ReseedWish>,
    /// One reseed at a time.
    reseeding: tokio::sync::Mutex<()>,
    /// Questions to all nodes that wait for answers, by request.
    asked: Mutex<HashMap<String, mpsc::Sender<(NodeId, u64)>>>,
    nodes: Mutex<Vec<NodeRecord>>,
    shared_counts: sharing::Shared<Counts>,
    shared_sample: sharing::Shared<AvailablePage>,
    shared_sessions: sharing::Shared<SessionCounts>,
    shared_rows: sharing::Rows,
    /// What the last overview counted, for when nobody can be asked.
    last_counts: Mutex<Option<(Counts, DateTime<Utc>)>>,
    last_sessions: Mutex<SessionCounts>,
    heartbeats_saved_ms: AtomicU64,
    /// When a mirror that is being rebuilt was last told of the sockets here.
    asserted_ms: AtomicU64,
    /// Hub time at which the node last heard its own probe.
    probe_heard_ms: AtomicU64,
    started: AtomicBool,
    leaving: AtomicBool,
}

impl Presence {
    /// Presence over these parts. Nothing runs until [`Presence::keep`] is driven.
    pub fn new(
        settings: PresenceSettings,
        store: Arc<dyn Store>,
        mirror: Arc<dyn Mirror>,
        hub: Arc<Hub>,
        metrics: Metrics,
    ) -> Self {
        let evidence = Arc::<evidence::Evidence>::default();
        let signals = Arc::new(signals::Signals::new(Arc::clone(&hub)));
        let mode = Arc::new(ModeControl::new(
            settings.node_id.clone(),
            settings.breaker_failures,
            mirror.source(),
            Arc::clone(&hub),
            metrics.clone(),
            Arc::clone(&evidence),
            Arc::clone(&signals),
        ));
        let store = StoreClient::new(store, Arc::clone(&evidence), Arc::clone(&hub), metrics.clone());
        let mirror =
            MirrorClient::new(mirror, Arc::clone(&mode), Arc::clone(&hub), metrics.clone(), Arc::clone(&signals));
        Self {
            settings,
            store,
            mirror,
            hub,
            metrics,
            mode,
            evidence,
            signals,
            unapplied: Mutex::default(),
            known: known::Known::default(),
            unsaved: Mutex::default(),
            reseed_wish: Mutex::default(),
            reseeding: tokio::sync::Mutex::new(()),
            asked: Mutex::default(),
            nodes: Mutex::default(),
            shared_counts: sharing::Shared::default(),
            shared_sample: sharing::Shared::default(),
            shared_sessions: sharing::Shared::default(),
            shared_rows: sharing::Rows::default(),
            last_counts: Mutex::default(),
            last_sessions: Mutex::default(),
            heartbeats_saved_ms: AtomicU64::new(0),
            asserted_ms: AtomicU64::new(0),
            probe_heard_ms: AtomicU64::new(0),
            started: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        }
    }

    /// How this node answers at present.
    pub fn mode(&self) -> Mode {
        self.mode.mode()
    }

    /// This node is about to leave: not ready any more, though still serving.
    pub fn leave(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// This node's hub, for the edges.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The store, for the use cases that stand beside these.
    pub fn store(&self) -> &StoreClient {
        &self.store
    }

    /// How fresh a heartbeat must be in the store, where it arrives late by up to one cadence.
    fn fresh_in_store(&self) -> Duration {
        self.settings.suspect_after + self.settings.heartbeat_mirror_interval
    }
}
