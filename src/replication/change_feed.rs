//! The change feed: what other programs and other nodes committed reaches the mirror and the sockets here.
//!
//! A bell of the store names a mitra that changed; the row is read and carried on, unless this node knows that revision
//! already. Bells may be lost, so a look at recent revisions follows every few seconds. Revisions are given before they are
//! committed, so that look goes back further than the last one saw.

use std::{
    collections::{HashSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use rand::RngExt;
use tokio::{
    select,
    time::{MissedTickBehavior, interval, sleep},
};
use uuid::Uuid;

use super::{
    Parts, PresenceError, mode_control::ModeControl, propagate::Propagator, reseed::Reseeder, signals::Signals,
    store_client::StoreClient,
};
use crate::{
    domain::{MitraId, StatusReason},
    hub::Hub,
    protocol::Close,
    store::Bell,
};

/// Bells within this time are answered together. Drawn at random, so that of many nodes one is first and tells the others.
const GATHER_MS: std::ops::Range<u64> = 10..60;
/// Within this time the comparison begins that lost bells ask for. Drawn at random: every node hears of a bulk removal or of
/// a restarted store in the same moment.
const SPREAD_MS: std::ops::Range<u64> = 0..1_000;
/// Rows in one question.
const BATCH: usize = 1_000;
/// How long a transaction may take from its revision to its commit and still be found by the looks. Longer ones are found by
/// the bell or the next reseed.
const OVERLAP: Duration = Duration::from_secs(15);
/// Pause before the store is asked again when it did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Pause before a bell is looked at again whose mitra is being written by this node itself.
const OWN_WRITE: Duration = Duration::from_millis(20);
/// For so long a revoked sign-in may wait for a deactivation that it came with.
const REVOKE_BY: Duration = Duration::from_millis(300);

/// Where the looks stand: the newest revision seen, and when.
#[derive(Default)]
struct RevisionCursor {
    /// The last revision that the store had given to anybody.
    given: i64,
    seen: VecDeque<(u64, i64)>,
}

impl RevisionCursor {
    /// From where to look now: the newest revision that was there an overlap ago, or further back, so that all from the revision
    /// `many_from` on are found: the transaction that many rows come from may have been longer than the overlap.
    fn from(&mut self, now_ms: u64, many_from: Option<i64>) -> Option<i64> {
        let overlap = OVERLAP.as_millis() as u64;
        while self.seen.len() > 1 && self.seen[1].0 + overlap <= now_ms {
            self.seen.pop_front();
        }
        self.seen.front().map(|(_, revision)| many_from.map_or(*revision, |from| (*revision).min(from - 1)))
    }

    fn push(&mut self, now_ms: u64, revision: i64) {
        self.seen.push_back((now_ms, revision));
    }
}

/// Bells that were heard and not yet answered.
#[derive(Default)]
struct Pending {
    mitras: HashSet<(MitraId, i64)>,
    /// With the latest time to close their sockets, in the hub's ms.
    revoked: Vec<(Uuid, u64)>,
    /// Some may have been missed: everything is looked at.
    missed: bool,
    /// More changed than was named one by one: a look goes back to this revision at least.
    many_from: Option<i64>,
    /// Sign-ins may have been revoked unheard, and were not looked at since.
    sign_ins: bool,
}

impl Pending {
    fn note(&mut self, bell: Bell, now_ms: u64) {
        match bell {
            Bell::Mitra { id, revision } => drop(self.mitras.insert((id, revision))),
            Bell::Revoked { session } => self.revoked.push((session, now_ms + REVOKE_BY.as_millis() as u64)),
            Bell::ManyMitras { from } => self.many_from = Some(self.many_from.map_or(from, |least| least.min(from))),
            Bell::ManyRevoked => self.sign_ins = true,
            Bell::Missed => self.missed = true,
        }
    }
}

/// Follows what others commit to the store.
pub struct ChangeFeed {
    hub: Arc<Hub>,
    mode: Arc<ModeControl>,
    signals: Arc<Signals>,
    store: StoreClient,
    propagator: Arc<Propagator>,
    reseeder: Arc<Reseeder>,
}

impl ChangeFeed {
    pub(super) fn new(parts: &Parts, propagator: &Arc<Propagator>, reseeder: &Arc<Reseeder>) -> Self {
        Self {
            hub: Arc::clone(&parts.hub),
            mode: Arc::clone(&parts.mode),
            signals: Arc::clone(&parts.signals),
            store: parts.store.clone(),
            propagator: Arc::clone(propagator),
            reseeder: Arc::clone(reseeder),
        }
    }

    /// Follows the store for as long as it is polled; looks at recent changes at `cadence`.
    pub async fn follow(self: Arc<Self>, cadence: Duration) {
        let mut cursor = RevisionCursor::default();
        let mut bells = self.begin(&mut cursor).await;
        let mut beat = interval(cadence);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looks, mut pending, mut again) = (0u32, Pending::default(), None);
        loop {
            let mut look = false;
            select! {
                () = sleep(again.unwrap_or(Duration::MAX)), if again.is_some() => {}
                bell = bells.next() => {
                    let Some(bell) = bell else { return };
                    pending.note(bell, self.hub.now_ms());
                    self.gather(&mut bells, &mut pending).await;
                }
                _ = beat.tick() => {
                    looks += 1;
                    // Twice the overlap and more: what a look finds again is known.
                    if Duration::from_secs(30).as_millis() <= u128::from(looks) * cadence.as_millis() {
                        looks = 0;
                        self.propagator.recent().forget_older();
                    }
                    look = true;
                    // They have no revisions to look back to, and the bell may be dead.
                    pending.sign_ins = true;
                }
            }
            again = match self.answer_bells(&mut pending.mitras).await {
                Ok(()) => (!pending.mitras.is_empty()).then_some(OWN_WRITE),
                Err(error) => {
                    tracing::debug!(%error, "bells wait for the store");
                    Some(RETRY)
                }
            };
            // After the mitras: whoever was deactivated is told that, and not that the sign-in went with it.
            let now = self.hub.now_ms();
            let (waits, due): (Vec<_>, Vec<_>) =
                pending.revoked.drain(..).partition(|(_, by_ms)| again == Some(OWN_WRITE) && now < *by_ms);
            pending.revoked = waits;
            if let Err(error) = self.revoke(&due).await {
                tracing::debug!(%error, "revoked sign-ins wait for the store");
                // The bell may be forged, and anybody may ring it: without the store no socket is closed.
                pending.sign_ins = true;
                again = again.or(Some(RETRY));
            }
            if mem::take(&mut pending.missed) {
                look = true;
                // What was removed meanwhile no look can find.
                self.reseeder.want(Duration::from_millis(rand::rng().random_range(SPREAD_MS)));
                self.signals.store_is_heard();
                pending.sign_ins = true;
            }
            if pending.sign_ins {
                match self.check_sign_ins().await {
                    Ok(()) => pending.sign_ins = false,
                    Err(error) => {
                        tracing::debug!(%error, "the look at sign-ins waits for the store");
                        again = again.or(Some(RETRY));
                    }
                }
            }
            if look || pending.many_from.is_some() {
                match self.poll_changes(&mut cursor, pending.many_from).await {
                    Ok(()) => pending.many_from = None,
                    Err(error) => {
                        tracing::debug!(%error, "the look at recent changes waits for the store");
                        again = again.or(pending.many_from.map(|_| RETRY));
                    }
                }
            }
        }
    }

    /// Notes how far the store has come and begins to listen, in this order: what is committed meanwhile is heard or found.
    async fn begin(&self, cursor: &mut RevisionCursor) -> BoxStream<'static, Bell> {
        loop {
            match self.store.newest_revision().await {
                Ok(revision) => break cursor.push(self.hub.now_ms(), revision),
                Err(_) => sleep(RETRY).await,
            }
        }
        loop {
            match self.store.bells().await {
                Ok(bells) => return bells,
                Err(error) => tracing::warn!(%error, "the store's bell cannot be heard"),
            }
            sleep(RETRY).await;
        }
    }

    /// Notes what else is heard within a short random time.
    async fn gather(&self, bells: &mut BoxStream<'static, Bell>, pending: &mut Pending) {
        let gather = Duration::from_millis(rand::rng().random_range(GATHER_MS));
        let mut gathering = std::pin::pin!(sleep(gather));
        while let Some(bell) = select! {
            bell = bells.next() => bell,
            () = gathering.as_mut() => None,
        } {
            pending.note(bell, self.hub.now_ms());
        }
    }

    /// Looks at the mitras that were pending for. What this node is writing itself stays pending until it was carried on by its
    /// writer, who knows why it changed.
    async fn answer_bells(&self, pending: &mut HashSet<(MitraId, i64)>) -> Result<(), PresenceError> {
        pending.retain(|(id, revision)| !self.propagator.recent().covers(*id, *revision));
        let mut ids: Vec<MitraId> =
            pending.iter().map(|(id, _)| *id).filter(|id| !self.propagator.recent().is_written_here(*id)).collect();
        ids.sort_unstable();
        ids.dedup();
        for ids in ids.chunks(BATCH) {
            let rows = self.store.mitras(ids).await?;
            let missing: Vec<MitraId> =
                ids.iter().filter(|id| rows.iter().all(|row| row.id != **id)).copied().collect();
            // One whose row only cannot be read is not gone.
            let gone = if missing.is_empty() { missing } else { self.store.unknown_mitras(&missing).await? };
            self.propagator.propagate_rows(rows, StatusReason::External).await;
            self.evict(&gone).await;
            pending.retain(|(id, _)| ids.binary_search(id).is_err());
        }
        Ok(())
    }

    async fn poll_changes(&self, cursor: &mut RevisionCursor, many_from: Option<i64>) -> Result<(), PresenceError> {
        let now = self.hub.now_ms();
        let Some(mut revision) = cursor.from(now, many_from) else { return Ok(()) };
        let given = self.store.last_given_revision().await?;
        if given < cursor.given {
            tracing::warn!(
                given,
                before = cursor.given,
                "the store gives older revisions than before; comparing everything"
            );
            *cursor = RevisionCursor::default();
            cursor.push(now, self.store.newest_revision().await?);
            self.mode.distrust();
            return Ok(());
        }
        cursor.given = given;
        loop {
            let mut rows = self.store.changed_since(revision, BATCH as u32).await?;
            let full = rows.len() == BATCH;
            revision = rows.last().map_or(revision, |row| row.fence.revision);
            // What is being written here is left to its writer; the next look goes back far enough to find it again.
            rows.retain(|row| {
                !self.propagator.recent().covers(row.id, row.fence.revision)
                    && !self.propagator.recent().is_written_here(row.id)
            });
            self.propagator.propagate_rows(rows, StatusReason::External).await;
            if !full {
                break;
            }
        }
        cursor.push(now, revision);
        Ok(())
    }

    /// Mitras whose rows are gone: their sockets close, the mirror forgets them.
    async fn evict(&self, gone: &[MitraId]) {
        for id in gone {
            self.hub.disconnect((*id).into(), &Close::UNKNOWN_MITRA);
        }
        if gone.is_empty() || !self.mode.mirror_takes_writes() {
            return;
        }
        if let Err(error) = self.reseeder.forget(gone).await {
            tracing::debug!(%error, "the next reseed forgets who was removed");
        }
    }

    /// Closes the sockets here of those sign-ins that are revoked indeed: a bell is a hint.
    async fn revoke(&self, told: &[(Uuid, u64)]) -> Result<(), PresenceError> {
        if told.is_empty() {
            return Ok(());
        }
        let told: HashSet<Uuid> = told.iter().map(|(session, _)| *session).collect();
        let here: Vec<Uuid> = self.hub.sign_ins().into_iter().filter(|session| told.contains(session)).collect();
        for ids in here.chunks(BATCH) {
            let invalid = self.store.invalid_sign_ins(ids).await?;
            self.hub.revoke(&invalid.into_iter().collect());
        }
        Ok(())
    }

    /// Sign-ins may have been revoked unheard: those that sockets here stand on are looked at.
    async fn check_sign_ins(&self) -> Result<(), PresenceError> {
        for ids in self.hub.sign_ins().chunks(BATCH) {
            let invalid = self.store.invalid_sign_ins(ids).await?;
            self.hub.revoke(&invalid.into_iter().collect());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_goes_back_to_what_was_there_an_overlap_ago() {
        let mut cursor = RevisionCursor::default();
        assert_eq!(cursor.from(0, None), None);
        for second in 0..40 {
            cursor.push(second * 1_000, second as i64);
        }
        assert_eq!(cursor.from(39_000, None), Some(24));
        assert_eq!(cursor.from(40_000, None), Some(25));
        assert_eq!(cursor.from(90_000, None), Some(39), "the newest stays");
    }

    #[test]
    fn many_rows_are_found_however_long_ago_their_revisions_were_given() {
        let mut cursor = RevisionCursor::default();
        cursor.push(0, 1_000);
        cursor.push(60_000, 9_000);
        let mut pending = Pending::default();
        for from in [8_500, 2_000, 8_800] {
            pending.note(Bell::ManyMitras { from }, 60_000);
        }
        assert_eq!(cursor.from(90_000, pending.many_from), Some(1_999), "those above it");
        assert_eq!(cursor.from(90_000, Some(9_500)), Some(9_000), "and never less than an overlap");
        assert!(!pending.missed && pending.mitras.is_empty());
    }
}
