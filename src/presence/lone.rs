//! One of several nodes may lose the mirror alone. It writes its sockets' heartbeats to the store and says so there; the
//! others carry them to the mirror, so that its mitras stay where they are for everybody.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{Presence, PresenceError};
use crate::{
    mirror::{BATCH, Beat},
    store::Heard,
};

/// A lone node says so once per heartbeat interval; after so many without a word it is one no more.
const WORDS: u32 = 3;

/// Least time between two imports.
const LEAST: Duration = Duration::from_millis(100);

impl Presence {
    /// Says in the store that this node is without the mirror, while it writes its heartbeats there.
    pub(super) async fn report_lone(&self) {
        if let Err(error) = self.store.report_lone(&self.settings.node_id).await {
            tracing::debug!(%error, "the others cannot be told that this node is without the mirror");
        }
    }

    /// Carries the heartbeats of nodes without the mirror to the mirror, for as long as it is polled.
    pub async fn follow_lone_nodes(self: Arc<Self>, cadence: Duration) {
        // A mitra's own interval, the lone node's and this cadence together are less than suspicion.
        let spare = self.settings.suspect_after.saturating_sub(self.settings.heartbeat_interval * 2);
        let cadence = cadence.min(spare / 2).max(LEAST);
        let mut beat = interval(cadence);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            if self.mode.is_live()
                && let Err(error) = self.import_heartbeats(cadence).await
            {
                tracing::debug!(%error, "heartbeats of other nodes could not be imported");
            }
        }
    }

    /// Returns how many were carried over; 0 when every node has the mirror.
    pub(super) async fn import_heartbeats(&self, cadence: Duration) -> Result<u64, PresenceError> {
        let interval = self.settings.heartbeat_interval;
        if !self.store.has_lone_nodes(&self.settings.node_id, interval * WORDS).await? {
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
