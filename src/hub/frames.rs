//! The newest frames for watchers and dashboards: one of each, the same bytes for everybody.

use std::sync::Arc;

use tokio::sync::watch;

use super::{AvailabilityNews, DashboardNews, Hub};

/// What became of a published snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Every watcher is being sent it.
    Pushed,
    /// It confirmed what watchers have; nobody was woken.
    Confirmed,
    /// It was older than what watchers have.
    Ignored,
}

impl Hub {
    /// The newest availability frame; the receiver is marked unseen so that its first look returns at once.
    pub fn watch_availability(&self) -> watch::Receiver<Option<Arc<AvailabilityNews>>> {
        let mut receiver = self.availability.subscribe();
        receiver.mark_changed();
        receiver
    }

    /// The dashboard frames. The first look returns at once only when somebody watches already: otherwise the newest frame is
    /// as old as the last dashboard's leaving.
    pub fn watch_dashboard(&self) -> watch::Receiver<Option<Arc<DashboardNews>>> {
        let watched = self.has_dashboards();
        let mut receiver = self.dashboard.subscribe();
        if watched {
            receiver.mark_changed();
        }
        receiver
    }

    /// Whether anybody looks at the dashboard; its frame is not even computed otherwise.
    pub fn has_dashboards(&self) -> bool {
        self.dashboard.receiver_count() > 0
    }

    /// The newest availability, if there is one yet.
    pub fn availability(&self) -> Option<Arc<AvailabilityNews>> {
        self.availability.borrow().clone()
    }

    /// Publishes a snapshot to every watcher of this node. What only confirms the newest one (same epoch, same version,
    /// later `as_of`) replaces it quietly, so that the next look is fresh and nobody is woken; what is older within the
    /// same epoch is ignored. Epochs are not ordered: which one is in force is the caller's to know.
    pub fn publish(&self, news: AvailabilityNews) -> Published {
        let mut outcome = Published::Ignored;
        self.availability.send_if_modified(|held| {
            outcome = match held {
                Some(held) => news.against(held),
                None => Published::Pushed,
            };
            if outcome != Published::Ignored {
                *held = Some(Arc::new(news));
            }
            outcome == Published::Pushed
        });
        outcome
    }

    /// Publishes a dashboard frame; the caller produces them in order.
    pub fn publish_dashboard(&self, news: DashboardNews) {
        self.dashboard.send_replace(Some(Arc::new(news)));
    }
}
