//! Auto-offline: mitras that were silent for too long are taken durably offline. Driven by the mirror, decided by the store.

use std::time::Duration;

use super::{Presence, PresenceError};
use crate::{
    domain::{MitraId, StatusReason},
    replication::{Caution, Claimed, Restraint, Write},
};

/// Mitras in one round of a sweep.
const BATCH: u32 = 1_000;
/// One sweep takes at most this share of those online offline, in percent, ...
const SHARE_PERCENT: u32 = 15;
/// ... or this many, so that a small fleet is swept normally.
const AT_LEAST: u32 = 20;
/// From so many online on, fewer than half of them beating mean that heartbeats are lost on their way.
const DOUBTED_FROM: u32 = 20;

/// What one sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// So many mitras are offline now.
    Expired(u64),
    /// So many mitras are offline now, and others that are silent were left, for this reason and for so long already.
    Restrained { expired: u64, left: u64, restraint: Restraint, held_for: Duration },
    /// There was not the evidence to judge by.
    Skipped(&'static str),
}

impl Presence {
    /// Takes those offline that were silent for `MITRA_OFFLINE_AFTER_SECONDS`. Missing or failed data is never evidence of
    /// absence: it does nothing unless stores and node were well for a full suspect period, takes no more than its share,
    /// and stops at any failure, putting back what it had claimed.
    ///
    /// # Errors
    /// The mirror or the store failed on the way.
    pub async fn sweep_silent(&self) -> Result<Swept, PresenceError> {
        let mut expired = 0;
        loop {
            // Looked at before each round: the node may have been frozen in between.
            if let Some(why) = self.lacks_evidence() {
                return Ok(if expired > 0 { Swept::Expired(expired) } else { Swept::Skipped(why) });
            }
            let claims =
                self.replication.mirror.claim_silent(self.settings.offline_after, BATCH, &self.caution()).await?;
            // Frozen between the question and the answer, this node would have claimed its own mitras.
            if let Some(why) = self.lacks_evidence() {
                self.replication.mirror.unclaim(&claims.claimed).await?;
                return Ok(Swept::Skipped(why));
            }
            if !claims.claimed.is_empty() {
                expired += self.expire(&claims.claimed).await?;
            }
            self.replication.metrics.set_auto_offline_left(claims.left);
            if let Some((restraint, held_for)) = claims.restraint
                && claims.claimed.len() < BATCH as usize
            {
                tracing::warn!(
                    left = claims.left,
                    ?restraint,
                    held_for_s = held_for.as_secs(),
                    "silent mitras were left"
                );
                return Ok(Swept::Restrained { expired, left: claims.left, restraint, held_for });
            }
            if claims.claimed.len() < BATCH as usize {
                return Ok(Swept::Expired(expired));
            }
        }
    }

    fn lacks_evidence(&self) -> Option<&'static str> {
        self.replication.trust.lacks_evidence(self.replication.mode.live_for())
    }

    fn caution(&self) -> Caution {
        Caution {
            // A little less than the cadence: the next run is a new sweep though it comes a moment early.
            sweep: self.settings.auto_offline_interval * 9 / 10,
            share_percent: SHARE_PERCENT,
            at_least: AT_LEAST,
            doubted_from: DOUBTED_FROM,
            release_after: self.settings.restraint_release,
        }
    }

    async fn expire(&self, claimed: &[Claimed]) -> Result<u64, PresenceError> {
        let candidates: Vec<(MitraId, i64)> = claimed.iter().map(|one| (one.id, one.online_epoch)).collect();
        let _writing = self.replication.propagator.writing(claimed.iter().map(|one| one.id).collect());
        let changed = match self.replication.store.expire_silent(&candidates, self.settings.offline_after).await {
            Ok(changed) => changed,
            Err(error) => {
                // Whether the write took effect is unknown; the fence keeps the newer of the two either way.
                if let Err(lost) = self.replication.mirror.unclaim(claimed).await {
                    tracing::warn!(%lost, claimed = claimed.len(), "claimed mitras wait for the next reseed");
                }
                return Err(error);
            }
        };
        let expired = changed.len() as u64;
        self.replication.metrics.auto_offlined(expired);
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
            match self.replication.store.mitras(&kept).await {
                Ok(rows) => writes.extend(rows.into_iter().map(|row| {
                    let heartbeat_age = row.heartbeat_age;
                    Write { row, heartbeat_age, announce: None }
                })),
                // What was changed must still be told; these are put right when the store answers again.
                Err(_) => kept.iter().for_each(|id| self.replication.propagator.remember_unapplied(*id)),
            }
        }
        self.replication.propagator.propagate(&writes).await;
        Ok(expired)
    }
}
