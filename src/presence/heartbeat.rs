//! A heartbeat by REST, for an app in the background.

use std::time::Duration;

use tokio::join;

use super::{MitraView, Presence, PresenceError};
use crate::domain::{MitraId, StatusReason};

impl Presence {
    /// A heartbeat by REST, for an app in the background: guarded by the mirror without the database, or by the store
    /// when the mirror is away; then it joins the node's batch.
    ///
    /// # Errors
    /// Unknown or deactivated mitra; neither can be asked.
    pub async fn heartbeat(&self, id: MitraId) -> Result<MitraView, PresenceError> {
        let view = match self.view_in_mirror(id).await {
            Some(view) => view,
            None => {
                let row = self.replication.reads.row(id).await?.ok_or(PresenceError::UnknownMitra)?;
                MitraView::of_row(&row, StatusReason::Initial, self.replication.settings.fresh_in_store())
            }
        };
        if !view.change.active {
            self.replication.hub.apply_status(&view.change);
            return Err(PresenceError::Deactivated);
        }
        if !view.change.online {
            return Ok(view);
        }
        self.replication.metrics.heartbeat();
        self.replication.hub.beat_detached(id, view.change.online_epoch, self.replication.hub.now_ms());
        Ok(view.heard(Some(Duration::ZERO), self.replication.settings.suspect_after))
    }

    /// What the live mirror knows of a mitra, with a check of `mitras:deactivated`; `None` when the store must be asked.
    async fn view_in_mirror(&self, id: MitraId) -> Option<MitraView> {
        let ids = [id];
        let (deactivated, known) =
            join!(self.replication.mirror.is_deactivated(id), self.replication.mirror.trusted_entries(&ids));
        let (deactivated, entry) = (deactivated?, known?.pop()??);
        let mut view = MitraView::of_entry(&entry, StatusReason::Initial, self.replication.settings.suspect_after);
        view.change.facts.active &= !deactivated;
        Some(view)
    }
}
