//! Auto-offline: mitras that were silent for too long are taken durably offline. Driven by the mirror, decided by the store.

use super::{Presence, PresenceError};
use crate::{
    domain::{MitraId, StatusReason},
    mirror::{Claimed, Write},
};

/// Mitras in one round of a sweep.
const BATCH: u32 = 1_000;

/// What one sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// So many mitras are offline now.
    Expired(u64),
    /// There was not the evidence to judge by.
    Skipped(&'static str),
}

impl Presence {
    /// Takes those offline that were silent for `MITRA_OFFLINE_AFTER_SECONDS`. Missing or failed data is never evidence of
    /// absence: it does nothing unless this node has been live for a full suspect period, and stops at any failure,
    /// putting back what it had claimed.
    ///
    /// # Errors
    /// The mirror or the store failed on the way.
    pub async fn sweep_silent(&self) -> Result<Swept, PresenceError> {
        let healthy_for = self.gate.live_for_ms(self.hub.now_ms());
        let needed = self.settings.suspect_after.as_millis() as u64;
        if healthy_for.is_none_or(|healthy| healthy < needed) {
            return Ok(Swept::Skipped("this node has not been live for a full suspect period"));
        }
        let mut expired = 0;
        loop {
            let silent_for = self.settings.offline_after;
            let answer = self.mirror.claim_silent(silent_for, BATCH).await;
            let claimed = self.asked_mirror("claim_silent", answer).map_err(unavailable)?;
            if claimed.is_empty() {
                return Ok(Swept::Expired(expired));
            }
            expired += self.expire(&claimed).await?;
            if claimed.len() < BATCH as usize {
                return Ok(Swept::Expired(expired));
            }
        }
    }

    async fn expire(&self, claimed: &[Claimed]) -> Result<u64, PresenceError> {
        let candidates: Vec<(MitraId, i64)> = claimed.iter().map(|one| (one.id, one.online_epoch)).collect();
        let answer = self.store.expire_silent(&candidates, self.settings.offline_after).await;
        let changed = match self.asked_store("expire_silent", answer) {
            Ok(changed) => changed,
            Err(error) => {
                // Whether the write took effect is unknown; the fence keeps the newer of the two either way.
                if let Err(lost) = self.asked_mirror("unclaim", self.mirror.unclaim(claimed).await) {
                    tracing::warn!(%lost, claimed = claimed.len(), "claimed mitras wait for the next reseed");
                }
                return Err(error);
            }
        };
        let expired = changed.len() as u64;
        self.metrics.auto_offlined(expired);
        if expired > 0 {
            tracing::info!(expired, "silent mitras taken offline");
        }
        // Those that the store kept (a heartbeat reached it by another way) go back as they truly are.
        let kept: Vec<MitraId> =
            candidates.iter().map(|(id, _)| *id).filter(|id| changed.iter().all(|row| row.id != *id)).collect();
        let mut writes: Vec<Write> = changed
            .into_iter()
            .map(|row| Write { row, heartbeat_age: None, announce: Some(StatusReason::AutoOffline) })
            .collect();
        if !kept.is_empty() {
            match self.asked_store("mitras", self.store.mitras(&kept).await) {
                Ok(rows) => writes.extend(rows.into_iter().map(|row| {
                    let heartbeat_age = row.heartbeat_age;
                    Write { row, heartbeat_age, announce: None }
                })),
                // What was changed must still be told; these are put right when the store answers again.
                Err(_) => kept.iter().for_each(|id| self.remember_unapplied(*id)),
            }
        }
        for write in &writes {
            let reason = write.announce.unwrap_or(StatusReason::External);
            self.known.remember(write.row.id, write.row.fence);
            self.hub.apply_status(&crate::domain::StatusChange::of(&write.row, reason));
        }
        let report = self.asked_mirror("apply", self.mirror.apply(&writes).await);
        match report {
            Ok(report) => self.absorb(report.pulse),
            Err(_) => writes.iter().for_each(|write| self.remember_unapplied(write.row.id)),
        }
        Ok(expired)
    }
}

fn unavailable(error: crate::mirror::MirrorError) -> PresenceError {
    PresenceError::Unavailable(error.to_string())
}
