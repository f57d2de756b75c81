//! Who wakes whom inside a node: the supervisor, its next poll, the dashboards, and "the store is heard".

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::hub::Hub;

/// The wake-ups that the parts of a node share. Each has one waiter.
pub(crate) struct Signals {
    hub: Arc<Hub>,
    supervisor: Notify,
    /// Hub time of the next poll that something asked for; `u64::MAX` when nothing did.
    poll_due_ms: AtomicU64,
    dashboards: Notify,
    listening: Notify,
}

impl Signals {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            supervisor: Notify::new(),
            poll_due_ms: AtomicU64::new(u64::MAX),
            dashboards: Notify::new(),
            listening: Notify::new(),
        }
    }

    /// The supervisor has something to do.
    pub(crate) fn wake_supervisor(&self) {
        self.supervisor.notify_one();
    }

    /// Completes when the supervisor has something to do.
    pub(crate) async fn supervisor_woken(&self) {
        self.supervisor.notified().await;
    }

    /// The supervisor polls the mirror, or the store in its place, when this time has passed.
    pub(crate) fn poll_within(&self, wait: Duration) {
        let due = self.hub.now_ms() + wait.as_millis() as u64 + 1;
        if due < self.poll_due_ms.fetch_min(due, Relaxed) {
            self.wake_supervisor();
        }
    }

    /// How long until the poll that something asked for.
    pub(crate) fn poll_due_in(&self) -> Duration {
        Duration::from_millis(self.poll_due_ms.load(Relaxed).saturating_sub(self.hub.now_ms()))
    }

    /// A poll begins: what asked for one is served by it.
    pub(crate) fn poll_begins(&self) {
        self.poll_due_ms.store(u64::MAX, Relaxed);
    }

    /// The dashboards have something new to show, or one has just come.
    pub(crate) fn wake_dashboards(&self) {
        self.dashboards.notify_one();
    }

    /// Completes when the dashboards have something new to show.
    pub(crate) async fn dashboards_woken(&self) {
        self.dashboards.notified().await;
    }

    /// The store's notifications are heard from now on.
    pub(crate) fn store_is_heard(&self) {
        self.listening.notify_one();
    }

    /// Completes when the store's notifications are heard.
    pub(crate) async fn store_heard(&self) {
        self.listening.notified().await;
    }
}
