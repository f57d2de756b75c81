//! The use cases of presence: commands, admission, reads, the overview, and auto-offline.
//!
//! They hold no rule about what may be believed: `replication` owns the mode, the clients and the order of writes, and
//! `cluster` the questions to other nodes. `gateway`, `api` and the tasks call this; it knows neither sockets nor SQL.

mod auto_offline;
mod commands;
mod explain;
mod heartbeat;
mod lists;
mod overview;
mod readiness;
mod reads;
mod views;

use std::{sync::Arc, time::Duration};

pub use auto_offline::Swept;
pub use readiness::Audience;
pub use views::{Answer, ListCursor, ListFilter, ListPage, MitraState, MitraView, Overview, Readiness, UnknownState};

pub use crate::replication::{PresenceError, Restraint};

use crate::{
    cluster::{Cluster, KnownNodes},
    domain::{Mode, SubjectId},
    hub::Hub,
    protocol::ReseedReport,
    replication::Replication,
};

/// The periods that only the use cases need; from the configuration.
#[derive(Clone, Debug)]
pub struct PresenceSettings {
    pub offline_after: Duration,
    /// Cadence of the auto-offline sweep.
    pub auto_offline_interval: Duration,
    /// After this long a sweep is no longer held back, whatever held it.
    pub restraint_release: Duration,
}

/// The use cases. Shared as `Arc<Presence>`.
pub struct Presence {
    settings: PresenceSettings,
    replication: Arc<Replication>,
    cluster: Arc<Cluster>,
    overview_memory: overview::OverviewMemory,
    serving: readiness::ServingState,
}

impl Presence {
    /// Presence over these parts. Nothing runs until `app` drives the tasks of this and of `replication`.
    pub fn new(settings: PresenceSettings, replication: Arc<Replication>, cluster: Arc<Cluster>) -> Self {
        Self {
            settings,
            replication,
            cluster,
            overview_memory: overview::OverviewMemory::default(),
            serving: readiness::ServingState::default(),
        }
    }

    /// How this node answers at present.
    pub fn mode(&self) -> Mode {
        self.replication.mode.mode()
    }

    /// This node's hub, for the edges.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.replication.hub
    }

    /// The nodes as last reported; at least this one.
    pub fn nodes(&self) -> KnownNodes {
        self.cluster.nodes()
    }

    /// Closes every socket of a subject on every node. Answers how many, of the nodes that replied in time; without the
    /// mirror, of this node alone.
    pub async fn disconnect(&self, subject: SubjectId, reason: &str) -> u64 {
        self.cluster.disconnect(subject, reason).await
    }

    /// Compares every row of the store with the mirror and repairs what differs.
    ///
    /// # Errors
    /// The store or the mirror failed on the way; what was repaired stays repaired.
    pub async fn reseed(&self) -> Result<ReseedReport, PresenceError> {
        self.replication.reseeder.reseed().await
    }
}
