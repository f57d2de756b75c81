//! From a committed row to the sockets here, to the mirror, or to the list of what the mirror missed.
//!
//! Called after the commit, never before. A mirror that fails never fails the caller.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    Parts,
    mirror_client::MirrorClient,
    mode_control::ModeControl,
    recent_revisions::{RecentRevisions, Writing},
    signals::Signals,
    store_client::StoreClient,
};
use crate::{
    domain::{MitraId, MitraRow, StatusChange, StatusReason},
    hub::Hub,
    mirror::{BATCH, Write},
};

/// Changes that may wait for the mirror before a full reseed is cheaper than remembering each.
const MAX_UNAPPLIED: usize = 10_000;
/// Changes within this time share one count of the store while the mirror is away.
const SHARED_COUNT: Duration = Duration::from_millis(100);

/// Brings committed rows to everybody who must know: sockets here, the mirror, and through it the other nodes.
pub struct Propagator {
    hub: Arc<Hub>,
    mode: Arc<ModeControl>,
    signals: Arc<Signals>,
    mirror: Arc<MirrorClient>,
    store: StoreClient,
    recent: RecentRevisions,
    /// Mitras whose committed change did not reach the mirror. Bounded; beyond the bound a full reseed is due.
    unapplied: Mutex<HashSet<MitraId>>,
}

impl Propagator {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            hub: Arc::clone(&parts.hub),
            mode: Arc::clone(&parts.mode),
            signals: Arc::clone(&parts.signals),
            mirror: Arc::clone(&parts.mirror),
            store: parts.store.clone(),
            recent: RecentRevisions::default(),
            unapplied: Mutex::default(),
        }
    }

    /// What this node propagated lately and what it is writing, for the change feed.
    pub(super) fn recent(&self) -> &RecentRevisions {
        &self.recent
    }

    /// This node is about to write these mitras and propagates them itself. Held until it has, or has failed.
    pub(crate) fn writing(&self, ids: Vec<MitraId>) -> Writing<'_> {
        self.recent.writing(ids)
    }

    /// Another node published this change, and the mirror or the store says the same: only the sockets here are told.
    pub(super) fn confirmed(&self, change: &StatusChange) {
        // The notification of the same change need not be answered.
        self.recent.remember(change.mitra_id, change.fence);
        self.hub.apply_status(change);
    }

    /// Brings a committed row to this node's sockets and to the mirror. The supervisor heals a mirror that fails.
    ///
    /// The mode is looked at after the commit: if the mirror is not taking writes now, the seed that must come before it
    /// is trusted again begins later than the commit and reads it.
    pub(crate) async fn propagate_row(&self, row: &MitraRow, heartbeat_age: Option<Duration>, reason: StatusReason) {
        self.propagate(&[Write { row: row.clone(), heartbeat_age, announce: Some(reason) }]).await;
    }

    /// The same for rows of which somebody else knows why they changed. What the store knows of their heartbeats is passed on.
    pub(crate) async fn propagate_rows(&self, rows: Vec<MitraRow>, reason: StatusReason) {
        let writes: Vec<Write> = rows
            .into_iter()
            .map(|row| Write { heartbeat_age: row.heartbeat_age, row, announce: Some(reason) })
            .collect();
        self.propagate(&writes).await;
    }

    /// The same for any number of writes.
    pub(crate) async fn propagate(&self, writes: &[Write]) {
        if writes.is_empty() {
            return;
        }
        for Write { row, announce, .. } in writes {
            self.hub.apply_status(&StatusChange::of(row, announce.unwrap_or(StatusReason::External)));
            self.recent.remember(row.id, row.fence);
        }
        if !self.mode.mirror_takes_writes() {
            // The watchers here are told soon; changes within this time share one count of the store.
            return self.signals.poll_within(SHARED_COUNT);
        }
        for writes in writes.chunks(BATCH) {
            if self.mirror.apply(writes).await.is_err() {
                writes.iter().for_each(|write| self.remember_unapplied(write.row.id));
            }
        }
    }

    /// The mirror missed a change of this mitra: it is applied when the mirror answers again.
    pub(crate) fn remember_unapplied(&self, id: MitraId) {
        let mut unapplied = self.unapplied.lock();
        if unapplied.len() < MAX_UNAPPLIED {
            unapplied.insert(id);
        } else {
            // Too many to remember one by one: a reseed finds them all.
            drop(unapplied);
            self.mode.distrust();
        }
        self.signals.wake_supervisor();
    }

    /// Carries over the changes that an unanswering mirror missed while the breaker was still closed.
    pub(super) async fn apply_unapplied(&self) {
        // Taken out before the rows are read: a change that fails from here on is remembered anew.
        let ids: Vec<MitraId> = {
            let mut unapplied = self.unapplied.lock();
            let some: Vec<MitraId> = unapplied.iter().copied().take(1_000).collect();
            unapplied.retain(|id| !some.contains(id));
            some
        };
        if ids.is_empty() {
            return;
        }
        let Ok(rows) = self.store.mitras(&ids).await else {
            return ids.iter().for_each(|id| self.remember_unapplied(*id));
        };
        self.propagate_rows(rows, StatusReason::External).await;
    }
}
