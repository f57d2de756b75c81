//! Isolated nodes: one of several nodes may lose the mirror while the others keep it.
//!
//! It writes its heartbeats to the store and says so there. The other nodes copy those heartbeats to the mirror, so that
//! its mitras stay available for all.

use std::{sync::Arc, time::Duration};

use super::{
    Parts, PresenceError, ReplicationSettings, mirror_client::MirrorClient, mode_control::ModeControl,
    store_client::StoreClient,
};
use crate::{
    hub::Hub,
    mirror::{BATCH, Beat},
    store::Heard,
};

/// An isolated node says so once per heartbeat interval; after so many silent intervals it counts as reconnected.
const REPORTS: u32 = 3;

/// Least time between two imports.
const LEAST: Duration = Duration::from_millis(100);

/// Carries the heartbeats of nodes without the mirror to the mirror.
pub struct IsolatedNodes {
    settings: Arc<ReplicationSettings>,
    hub: Arc<Hub>,
    mode: Arc<ModeControl>,
    mirror: Arc<MirrorClient>,
    store: StoreClient,
}

impl IsolatedNodes {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            settings: Arc::clone(&parts.settings),
            hub: Arc::clone(&parts.hub),
            mode: Arc::clone(&parts.mode),
            mirror: Arc::clone(&parts.mirror),
            store: parts.store.clone(),
        }
    }

    /// How often the heartbeats must be copied, at most `wanted`: a mitra's own interval, the isolated node's and this
    /// cadence together are less than suspicion.
    pub fn cadence(&self, wanted: Duration) -> Duration {
        let spare = self.settings.suspect_after.saturating_sub(self.settings.heartbeat_interval * 2);
        wanted.min(spare / 2).max(LEAST)
    }

    /// Copies the heartbeats that isolated nodes wrote to the store since the last import, `cadence` ago. Returns how many;
    /// 0 when every node has the mirror.
    ///
    /// # Errors
    /// The store or the mirror failed on the way.
    pub async fn import(&self, cadence: Duration) -> Result<u64, PresenceError> {
        if !self.mode.is_live() {
            return Ok(0);
        }
        let interval = self.settings.heartbeat_interval;
        if !self.store.has_lone_nodes(&self.settings.node_id, interval * REPORTS).await? {
            return Ok(0);
        }
        // Written since the last import means heard an interval earlier at most. A second one for what takes its time: to carry
        // a heartbeat twice is harmless, to miss one makes its mitra suspect.
        let heard_within = cadence + interval * 2;
        let (mut carried, mut after) = (0, None);
        loop {
            let heard = self.store.heard_within(heard_within, after, BATCH as u32).await?;
            let Some(last) = heard.last() else { return Ok(carried) };
            after = Some(last.id);
            let now = self.mirror.clock_ms(self.hub.now_ms());
            // As old as they are.
            let at_ms = |age: Duration| now.saturating_sub(age.as_millis() as u64);
            let beat = |heard: &Heard| Beat { id: heard.id, online_epoch: heard.online_epoch, at_ms: at_ms(heard.age) };
            let beats: Vec<Beat> = heard.iter().map(beat).collect();
            self.mirror.beat(&beats).await?;
            carried += beats.len() as u64;
            if heard.len() < BATCH {
                return Ok(carried);
            }
        }
    }
}
