//! The counts of the store, for as long as the mirror cannot be asked: one question at a time, its answer kept for a moment,
//! so that an outage of Valkey does not become a stampede on Postgres.

use tokio::sync::Mutex;

use super::{Presence, PresenceError};
use crate::{domain::Counts, store::SessionCounts};

/// For how long an answer (or a failure) of the store serves everybody.
const KEPT_MS: u64 = 500;

type Answer = Result<Counts, PresenceError>;

/// The last answer and the hub's time of it.
#[derive(Default)]
pub(super) struct StoreCounts {
    held: Mutex<Option<(u64, Answer)>>,
}

/// The last count of sessions and the hub's time of it.
#[derive(Default)]
pub(super) struct KnownSessions {
    held: Mutex<(u64, SessionCounts)>,
}

impl Presence {
    /// Sessions by status, at most a moment old; what was last known when the store cannot be asked. Only the store counts
    /// sessions, whatever the mode.
    pub(super) async fn session_counts(&self) -> SessionCounts {
        let mut held = self.known_sessions.held.lock().await;
        let now = self.hub.now_ms();
        if held.0 == 0 || now >= held.0 + KEPT_MS {
            held.0 = now;
            if let Ok(counts) = self.asked_store("session_counts", self.store.session_counts().await) {
                held.1 = counts;
            }
        }
        held.1
    }

    /// The counts of the store, at most a moment old. Whoever comes while the store is being asked waits for that answer.
    pub(super) async fn counts_in_store(&self) -> Answer {
        let mut held = self.store_counts.held.lock().await;
        if let Some((at, answer)) = &*held
            && self.hub.now_ms() < at + KEPT_MS
        {
            return answer.clone();
        }
        let answer = self.asked_store("counts", self.store.counts(self.fresh_in_store()).await);
        *held = Some((self.hub.now_ms(), answer.clone()));
        answer
    }

    /// The counts of the store as they are now, for the one routine that pushes them.
    pub(super) async fn count_in_store(&self) -> Answer {
        self.store_counts.held.lock().await.take();
        self.counts_in_store().await
    }
}
