//! The end of time: one routine per node waits for the earliest end of all sessions of the cluster.
//!
//! The store holds the ends, in an index; a node knows only the next one. Every node may expire what is due; the store sees
//! to it that each session expires once.

use std::{sync::Arc, time::Duration};

use tokio::{select, time::sleep};

use super::Sessions;
use crate::replication::PresenceError;

/// The next end is looked up at least this often: another node or program may have written an earlier one.
const LOOK: Duration = Duration::from_secs(1);
/// Sessions that expire in one transaction: few enough that nobody waits long for the mitras it holds.
const BATCH: u32 = 500;
/// Pause before those are tried again whom somebody was writing just then.
const BUSY: Duration = Duration::from_millis(50);

impl Sessions {
    /// Expires sessions when their time runs out, for as long as it is polled.
    pub async fn keep_time(self: Arc<Self>) {
        let mut busy = BUSY;
        loop {
            let wait = match self.until_next().await {
                Ok(Some(wait)) if wait.is_zero() => match self.expire_overdue().await {
                    Ok(expired) => {
                        // None: somebody holds the rows of those that are left, perhaps for long.
                        busy = if expired > 0 { BUSY } else { (busy * 2).min(LOOK) };
                        busy
                    }
                    Err(error) => {
                        if !matches!(error, PresenceError::Unavailable(_)) {
                            tracing::error!(%error, "sessions cannot expire: the table of sessions refuses it");
                        }
                        LOOK
                    }
                },
                Ok(Some(wait)) => wait.min(LOOK),
                Ok(None) | Err(_) => LOOK,
            };
            select! {
                () = sleep(wait) => {}
                () = self.sooner.notified() => {}
            }
        }
    }

    /// Expires every session whose time has run out. Returns how many this call expired.
    ///
    /// # Errors
    /// The store cannot be asked; what was expired stays expired.
    pub async fn expire_overdue(&self) -> Result<u64, PresenceError> {
        let mut expired = 0;
        loop {
            let changes = self.store.expire_sessions(BATCH).await?;
            let of_round = changes.len();
            expired += of_round as u64;
            self.carry(changes).await;
            if of_round < BATCH as usize {
                break;
            }
        }
        if expired > 0 {
            tracing::debug!(expired, "sessions whose time ran out");
        }
        Ok(expired)
    }

    async fn until_next(&self) -> Result<Option<Duration>, PresenceError> {
        self.store.next_expiry().await
    }
}
