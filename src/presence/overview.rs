//! The operator's view: counts, sockets and nodes, pushed to this node's dashboards.

use std::{mem, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::{
    select,
    time::{interval, sleep, timeout},
};

use super::{KnownNodes, Overview, Presence, PresenceError};
use crate::{
    domain::{Counts, Mode, SessionStatus, SocketCounts, Source},
    hub::DashboardNews,
    replication::{SessionCounts, SingleFlight},
};

/// Changes within this time share one dashboard frame.
const GATHER: Duration = Duration::from_millis(100);
/// Cadence of the counts while no dashboard watches: for the metrics, and to have something to say when nobody can be asked.
const UNWATCHED: Duration = Duration::from_secs(5);
/// Cadence of the count of sessions while one does.
const WATCHED: Duration = Duration::from_millis(500);
/// Longest wait for a count of sessions that somebody asks for.
const SESSIONS: Duration = Duration::from_millis(300);

/// What was counted last, for when nothing can be asked, and the query that callers share.
#[derive(Default)]
pub(super) struct OverviewMemory {
    last_counts: Mutex<Option<(Counts, DateTime<Utc>)>>,
    last_sessions: Mutex<SessionCounts>,
    session_query: SingleFlight<SessionCounts>,
}

impl Presence {
    /// Feeds this node's dashboards for as long as it is polled: at each change, and at `cadence`.
    pub async fn feed_dashboards(self: Arc<Self>, cadence: Duration) {
        let mut beat = interval(cadence);
        let mut counted_ms: Option<u64> = None;
        loop {
            select! {
                _ = beat.tick() => {}
                () = self.replication.signals.dashboards_woken() => sleep(GATHER).await,
            }
            let now = self.replication.hub.now_ms();
            let watched = self.replication.hub.has_dashboards();
            if (watched || counted_ms.is_none_or(|at| now >= at + UNWATCHED.as_millis() as u64))
                && let Ok(overview) = self.overview().await
            {
                counted_ms = Some(now);
                if watched {
                    self.replication.hub.publish_dashboard(DashboardNews::new(&overview.body()));
                }
            }
        }
    }

    /// Counts sessions by status, which only the store knows, for as long as it is polled: apart from the rest, so that a store
    /// that is away delays no frame.
    pub async fn count_sessions(self: Arc<Self>) {
        loop {
            if let Ok(counts) = self.replication.store.session_counts().await {
                let news = counts != mem::replace(&mut *self.overview_memory.last_sessions.lock(), counts);
                if news {
                    self.replication.signals.wake_dashboards();
                }
            }
            sleep(if self.replication.hub.has_dashboards() { WATCHED } else { UNWATCHED }).await;
        }
    }

    /// A dashboard has just come and waits for its first frame.
    pub fn want_dashboard(&self) {
        self.replication.signals.wake_dashboards();
    }

    /// Counts, sockets and nodes now.
    ///
    /// # Errors
    /// Never been up, and neither the mirror nor the store can be asked.
    pub async fn overview(&self) -> Result<Overview, PresenceError> {
        let (mut counts, source, as_of) = self.counts().await?;
        if !self.replication.hub.has_dashboards() {
            // Nobody has them counted twice a second.
            let ask = async { self.replication.store.session_counts().await };
            let asking = self.overview_memory.session_query.get(|| self.replication.hub.now_ms(), ask);
            if !self.replication.trust.store_is_unavailable()
                && let Ok(Ok(counted)) = timeout(SESSIONS, asking).await
            {
                *self.overview_memory.last_sessions.lock() = counted;
            }
        }
        let sessions = *self.overview_memory.last_sessions.lock();
        counts.active_sessions = sessions.active;
        counts.pending_payment_sessions = sessions.pending_payment;
        self.replication.metrics.set_sessions(
            SessionStatus::ALL.iter().filter_map(|status| Some((status.as_str(), sessions.of(*status)?))),
        );
        *self.overview_memory.last_counts.lock() = Some((counts, as_of));
        self.replication.metrics.set_counts(&counts);
        self.replication.metrics.read("counts", source);
        let KnownNodes { nodes, as_of: nodes_as_of } = self.nodes();
        let sockets = nodes.iter().fold(SocketCounts::default(), |sum, node| SocketCounts {
            mitra: sum.mitra + node.sockets.mitra,
            customer: sum.customer + node.sockets.customer,
            dashboard: sum.dashboard + node.sockets.dashboard,
        });
        let newest = self.availability().await?;
        Ok(Overview {
            epoch: Arc::clone(&newest.snapshot().epoch),
            version: newest.snapshot().version,
            counts,
            sockets,
            nodes,
            nodes_as_of,
            as_of,
            source,
            // The sessions are the store's to count.
            stale: self.is_stale(source) || self.replication.trust.store_is_unavailable(),
        })
    }

    /// With where they come from, and of when they are.
    async fn counts(&self) -> Result<(Counts, Source, DateTime<Utc>), PresenceError> {
        if let Some(counts) = self.replication.mirror.counts().await {
            return Ok((counts, self.replication.mirror.source(), Utc::now()));
        }
        // Both away: whoever waited would only wait for the next deadline.
        if self.replication.mode.mode() == Mode::Stale
            && let Some((counts, as_of)) = *self.overview_memory.last_counts.lock()
        {
            return Ok((counts, Source::Local, as_of));
        }
        let counted =
            self.replication.reads.counts().await.map(|counts| (counts, self.replication.store.source(), Utc::now()));
        // Nobody can be asked who is fresh: what was last known, and said to be so.
        let last = self.overview_memory.last_counts.lock().map(|(counts, as_of)| (counts, Source::Local, as_of));
        if self.replication.trust.store_is_settled() {
            counted.or_else(|error| last.ok_or(error))
        } else {
            last.map_or(counted, Ok)
        }
    }
}
