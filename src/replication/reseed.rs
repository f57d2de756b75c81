//! Seed and reseed: compares the whole store with the mirror and repairs what differs, without ever flushing it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use tokio::sync::Mutex as Turn;

use super::{
    Parts, PresenceError, ReplicationSettings, mirror_client::MirrorClient, signals::Signals, store_client::StoreClient,
};
use crate::{
    domain::{Fence, MitraId, MitraRow, StatusChange, StatusReason},
    hub::Hub,
    mirror::{Applied, Write},
    protocol::{Close, ReseedReport},
    telemetry::Metrics,
};

/// Rows in one page of the store and one call of the mirror.
const PAGE: u32 = 1_000;
/// Pages on their way at once, so that one is read and written out while the mirror compares another (a million: 14 s, one by one
/// 21 s). With the size of a page it bounds how long the mirror keeps others waiting, also when all nodes seed together: some ten
/// milliseconds for each node.
const PAGES_AT_ONCE: usize = 2;

/// What a mirror is taken for that is compared with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It has an epoch: it was seeded once and knows liveness better than the store. Nobody is refreshed, and what had to
    /// be repaired is announced to every node.
    Repair,
    /// It was emptied or replaced. The store hears of a heartbeat up to one cadence late, so each mitra is given that much,
    /// once. Nothing is announced: every node rebuilds, and reads the rows itself.
    Rebuild,
}

/// What the comparison of a page found.
struct Compared {
    seen: Vec<MitraId>,
    /// How many had to be repaired.
    changed: u64,
    /// Of whom the mirror knows something newer than the store.
    ahead: Vec<MitraId>,
}

/// A comparison that was asked for and has not begun. One that begins for another reason grants it too.
#[derive(Debug, Default)]
struct ReseedWish {
    due_ms: Option<u64>,
}

impl ReseedWish {
    /// Who asks again meanwhile puts off nothing.
    fn want(&mut self, now_ms: u64, after: Duration) {
        let due_ms = now_ms + after.as_millis() as u64;
        self.due_ms = Some(self.due_ms.map_or(due_ms, |due| due.min(due_ms)));
    }

    fn granted(&mut self) {
        self.due_ms = None;
    }

    fn due_in(&self, now_ms: u64) -> Option<Duration> {
        self.due_ms.map(|due| Duration::from_millis(due.saturating_sub(now_ms)))
    }
}

/// Compares the whole store with the mirror, one comparison at a time.
pub struct Reseeder {
    settings: Arc<ReplicationSettings>,
    hub: Arc<Hub>,
    metrics: Metrics,
    signals: Arc<Signals>,
    mirror: Arc<MirrorClient>,
    store: StoreClient,
    wish: Mutex<ReseedWish>,
    running: Turn<()>,
}

impl Reseeder {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            settings: Arc::clone(&parts.settings),
            hub: Arc::clone(&parts.hub),
            metrics: parts.metrics.clone(),
            signals: Arc::clone(&parts.signals),
            mirror: Arc::clone(&parts.mirror),
            store: parts.store.clone(),
            wish: Mutex::default(),
            running: Turn::default(),
        }
    }

    /// Compares every row of the store with the mirror, by fence and by content, and repairs what differs. An id that only
    /// the mirror has is asked for again in a fresh statement before it is removed: it may have been created meanwhile. What another
    /// program writes into the mirror in the middle of it is found by the next.
    /// One at a time; a second caller waits its turn.
    ///
    /// # Errors
    /// The store or the mirror failed on the way; what was repaired stays repaired.
    pub async fn reseed(&self) -> Result<ReseedReport, PresenceError> {
        let _one_at_a_time = self.running.lock().await;
        let began = self.hub.now_ms();
        self.wish.lock().granted();
        let mut ahead = HashSet::new();
        let mut report = self.compare_all(&mut ahead).await?;
        if self.store_went_back(&ahead).await? {
            let generation = self.store.new_generation().await?;
            tracing::warn!(
                generation,
                mitras = ahead.len(),
                "the store was put back to an older state; it is the truth"
            );
            report = self.compare_all(&mut HashSet::new()).await?;
        }
        let took = Duration::from_millis(self.hub.now_ms() - began);
        report.duration_ms = took.as_millis() as u64;
        self.metrics.reseeded(took, report.changed + report.removed);
        Ok(report)
    }

    /// Asks the supervisor for a comparison of everything that begins so much later.
    pub(super) fn want(&self, after: Duration) {
        self.wish.lock().want(self.hub.now_ms(), after);
        self.signals.wake_supervisor();
    }

    /// How long until one begins that something asked for; `None` when nothing did.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.wish.lock().due_in(self.hub.now_ms())
    }

    /// One comparison; the mitras of whom the mirror knows something newer than the store are put into `ahead`.
    async fn compare_all(&self, ahead: &mut HashSet<MitraId>) -> Result<ReseedReport, PresenceError> {
        let mut report = ReseedReport::default();
        // Ids that the mirror knows before the store is read and the store then lacks are removed. Before and not after: a
        // mirror that was emptied is read in a moment.
        let mut unknown = self.known_to_the_mirror().await?;
        let mut seated: HashSet<MitraId> = self.hub.seats().iter().map(|seat| seat.id()).collect();
        let pulse = self.mirror.tick().await?;
        let manner = if pulse.epoch.is_some() { Manner::Repair } else { Manner::Rebuild };
        let mut pages = self.pages().map_ok(|rows| self.compare(rows, manner)).try_buffer_unordered(PAGES_AT_ONCE);
        while let Some(page) = pages.try_next().await? {
            report.rows += page.seen.len() as u64;
            report.changed += page.changed;
            ahead.extend(page.ahead);
            for id in &page.seen {
                unknown.remove(id);
                seated.remove(id);
            }
        }
        report.removed = self.forget(&Vec::from_iter(unknown)).await?;
        self.close_sockets_of_removed(&Vec::from_iter(seated)).await?;
        Ok(report)
    }

    /// The whole store, read on as pages are taken.
    fn pages(&self) -> BoxStream<'_, Result<Vec<MitraRow>, PresenceError>> {
        let next = move |after| async move {
            let rows = self.store.scan(after, PAGE).await?;
            Ok(rows.last().map(|row| Some(row.id)).map(|last| (rows, last)))
        };
        stream::try_unfold(None, next).boxed()
    }

    /// Sockets here of mitras who are gone: whoever forgot them first may be another node.
    async fn close_sockets_of_removed(&self, unseen: &[MitraId]) -> Result<(), PresenceError> {
        for some in unseen.chunks(PAGE as usize) {
            for id in self.store.unknown_mitras(some).await? {
                self.hub.disconnect(id.into(), &Close::UNKNOWN_MITRA);
            }
        }
        Ok(())
    }

    /// Whether the store lost commits that the mirror knows of: it was restored from an older copy, or a replica took over
    /// that had not heard of them. What was only written between the two looks is newer in a fresh look at the store.
    async fn store_went_back(&self, ahead: &HashSet<MitraId>) -> Result<bool, PresenceError> {
        let some: Vec<MitraId> = ahead.iter().copied().take(PAGE as usize).collect();
        if some.is_empty() {
            return Ok(false);
        }
        // The mirror first: whatever it knows was committed before.
        let entries = self.mirror.entries(&some).await?;
        let rows = self.store.mitras(&some).await?;
        Ok(entries.iter().flatten().any(|entry| rows.iter().any(|row| row.id == entry.id && row.fence < entry.fence)))
    }

    async fn compare(&self, rows: Vec<MitraRow>, manner: Manner) -> Result<Compared, PresenceError> {
        let (grace, announce) = match manner {
            Manner::Repair => (Duration::ZERO, Some(StatusReason::External)),
            Manner::Rebuild => (self.settings.heartbeat_mirror_interval, None),
        };
        // What was missed while messages could not be heard reaches the sockets here from the truth itself.
        rows.iter().for_each(|row| self.hub.apply_status(&StatusChange::of(row, StatusReason::External)));
        let seen = rows.iter().map(|row| row.id).collect();
        let writes: Vec<Write> = rows
            .into_iter()
            .map(|row| Write { heartbeat_age: row.heartbeat_age.map(|age| age.saturating_sub(grace)), row, announce })
            .collect();
        let outcomes = self.mirror.apply(&writes).await?;
        let ahead = writes.iter().zip(&outcomes).filter(|(_, outcome)| matches!(outcome, Applied::Older { .. }));
        Ok(Compared {
            seen,
            changed: outcomes.iter().filter(|outcome| **outcome == Applied::Changed).count() as u64,
            ahead: ahead.map(|(write, _)| write.row.id).collect(),
        })
    }

    async fn known_to_the_mirror(&self) -> Result<HashSet<MitraId>, PresenceError> {
        let (mut known, mut cursor) = (HashSet::new(), 0);
        loop {
            let (next, ids) = self.mirror.known(cursor).await?;
            known.extend(ids);
            if next == 0 {
                return Ok(known);
            }
            cursor = next;
        }
    }

    /// Removes those of them from the mirror who are not in the store. Returns how many it knew.
    pub(super) async fn forget(&self, strangers: &[MitraId]) -> Result<u64, PresenceError> {
        let mut removed = 0;
        for some in strangers.chunks(PAGE as usize) {
            // What the mirror knows is read before the store is asked: whatever appears in between has a newer fence.
            let entries = self.mirror.entries(some).await?;
            let unknown: HashSet<MitraId> = self.store.unknown_mitras(some).await?.into_iter().collect();
            let gone: Vec<(MitraId, Fence)> = entries
                .into_iter()
                .flatten()
                .filter(|entry| unknown.contains(&entry.id))
                .map(|entry| (entry.id, entry.fence))
                .collect();
            if !gone.is_empty() {
                removed += self.mirror.forget(&gone).await?;
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_due_at_its_own_moment_and_granted_by_whatever_begins_before() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let mut wish = ReseedWish::default();
        assert_eq!(wish.due_in(0), None);
        wish.want(100, Duration::from_millis(700));
        assert_eq!((wish.due_in(100), wish.due_in(500), wish.due_in(900)), (ms(700), ms(300), ms(0)));
        wish.want(400, Duration::from_millis(900));
        assert_eq!(wish.due_in(500), ms(300), "asked again, it is not put off");
        wish.want(500, Duration::ZERO);
        assert_eq!(wish.due_in(500), ms(0));
        wish.granted();
        assert_eq!(wish.due_in(900), None);
    }
}
