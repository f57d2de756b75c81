//! Statuses that nodes publish on the mirror's channel. Any program can publish one, so each is a hint: a socket hears of
//! it when the mirror's own record says the same, or what the store says instead.
//!
//! It writes nothing. A hint that is lost is found by the change feed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};

use super::{
    Parts, mirror_client::MirrorClient, mode_control::ModeControl, propagate::Propagator, store_client::StoreClient,
};
use crate::{
    domain::{MitraId, StatusChange, StatusReason},
    hub::Hub,
    mirror::{BATCH, Entry},
};

/// Hints that may wait. Beyond it they are dropped.
const MAX_WAITING: usize = 10_000;
/// Pause after the store was asked: a flood of forged statuses must not become a flood of queries.
const REST: Duration = Duration::from_millis(50);
/// Pause before hints that nothing could confirm are tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Hints that wait for their confirmation, the newest of each mitra.
pub(super) struct StatusHints {
    hub: Arc<Hub>,
    mode: Arc<ModeControl>,
    mirror: Arc<MirrorClient>,
    store: StoreClient,
    propagator: Arc<Propagator>,
    waiting: Mutex<HashMap<MitraId, StatusChange>>,
    arrived: Notify,
}

impl StatusHints {
    pub(super) fn new(parts: &Parts, propagator: &Arc<Propagator>) -> Self {
        Self {
            hub: Arc::clone(&parts.hub),
            mode: Arc::clone(&parts.mode),
            mirror: Arc::clone(&parts.mirror),
            store: parts.store.clone(),
            propagator: Arc::clone(propagator),
            waiting: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// A status was published. One that this node has propagated or confirmed already is no news.
    pub(super) fn heard(&self, change: StatusChange) {
        if self.propagator.recent().knows(change.mitra_id, change.fence) {
            return;
        }
        // Without the mirror the store is asked, and only for the sockets here: the change feed needs no help then.
        if !self.mode.is_live() && self.hub.seat_of(change.mitra_id).is_none() {
            return;
        }
        self.put(change);
        self.arrived.notify_one();
    }

    /// Confirms hints for as long as it is polled.
    pub(super) async fn confirm(&self) {
        loop {
            let some = self.take();
            if some.is_empty() {
                self.arrived.notified().await;
                continue;
            }
            let unlike = self.confirm_by_mirror(some).await;
            if unlike.is_empty() {
                continue;
            }
            match self.confirm_by_store(&unlike).await {
                Ok(()) => sleep(REST).await,
                Err(()) => {
                    unlike.into_iter().for_each(|change| self.put(change));
                    sleep(RETRY).await;
                }
            }
        }
    }

    fn put(&self, change: StatusChange) {
        let mut waiting = self.waiting.lock();
        if let Some(known) = waiting.get(&change.mitra_id) {
            // The fence of a hint may be forged too. Whichever is kept, its mitra is asked about.
            if known.fence >= change.fence {
                return;
            }
        } else if waiting.len() >= MAX_WAITING {
            return;
        }
        waiting.insert(change.mitra_id, change);
    }

    fn take(&self) -> Vec<StatusChange> {
        let mut waiting = self.waiting.lock();
        let ids: Vec<MitraId> = waiting.keys().copied().take(BATCH).collect();
        ids.iter().filter_map(|id| waiting.remove(id)).collect()
    }

    /// Believes what the mirror's record says too. Answers the rest.
    async fn confirm_by_mirror(&self, hints: Vec<StatusChange>) -> Vec<StatusChange> {
        let ids: Vec<MitraId> = hints.iter().map(|change| change.mitra_id).collect();
        let Some(entries) = self.mirror.trusted_entries(&ids).await else { return hints };
        let agrees = |change: &StatusChange, entry: &Option<Entry>| {
            entry.as_ref().is_some_and(|entry| entry.facts == change.facts)
        };
        let (same, unlike): (Vec<_>, Vec<_>) =
            hints.into_iter().zip(entries).partition(|(change, entry)| agrees(change, entry));
        same.iter().for_each(|(change, _)| self.propagator.confirmed(change));
        unlike.into_iter().map(|(change, _)| change).collect()
    }

    async fn confirm_by_store(&self, hints: &[StatusChange]) -> Result<(), ()> {
        let ids: Vec<MitraId> = hints.iter().map(|change| change.mitra_id).collect();
        let rows = self.store.mitras(&ids).await.map_err(|_| ())?;
        let reasons: HashMap<MitraId, &StatusChange> = hints.iter().map(|change| (change.mitra_id, change)).collect();
        for row in rows {
            let told = reasons.get(&row.id).filter(|change| change.facts == row.facts);
            let reason = told.map_or(StatusReason::External, |change| change.reason);
            self.propagator.confirmed(&StatusChange::of(&row, reason));
        }
        Ok(())
    }
}
