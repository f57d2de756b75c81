//! From a committed row to the mirror and to the sockets here.

use std::time::Duration;

use super::Presence;
use crate::{
    domain::{MitraId, MitraRow, StatusChange, StatusReason},
    mirror::{BATCH, Write},
};

/// Changes that may wait for the mirror before a full reseed is cheaper than remembering each.
const MAX_UNAPPLIED: usize = 10_000;
/// Changes within this time share one count of the store while the mirror is away.
const SHARED_COUNT: Duration = Duration::from_millis(100);

impl Presence {
    /// Carries a committed row to this node's sockets and to the mirror. A mirror that fails is healed by the keeper.
    ///
    /// The mode is looked at after the commit: if the mirror is not taking writes now, the seed that must come before it
    /// is trusted again begins later than the commit and reads it.
    pub(super) async fn write_through(&self, row: &MitraRow, heartbeat_age: Option<Duration>, reason: StatusReason) {
        self.carry_on(&[Write { row: row.clone(), heartbeat_age, announce: Some(reason) }]).await;
    }

    /// The same for rows of which somebody else knows why they changed. What the store knows of their heartbeats is passed on.
    pub async fn carry(&self, rows: Vec<MitraRow>, reason: StatusReason) {
        let writes: Vec<Write> = rows
            .into_iter()
            .map(|row| Write { heartbeat_age: row.heartbeat_age, row, announce: Some(reason) })
            .collect();
        self.carry_on(&writes).await;
    }

    /// The same for any number of writes.
    pub(super) async fn carry_on(&self, writes: &[Write]) {
        if writes.is_empty() {
            return;
        }
        for Write { row, announce, .. } in writes {
            self.hub.apply_status(&StatusChange::of(row, announce.unwrap_or(StatusReason::External)));
            self.known.remember(row.id, row.fence);
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

    pub(super) fn remember_unapplied(&self, id: MitraId) {
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
}
