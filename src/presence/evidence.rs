//! Whether this node may judge who is silent. Missing, empty, failed or late data is never evidence of absence.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::sleep;

use super::Presence;

/// Cadence of the node's look at its own punctuality.
const PACE: Duration = Duration::from_millis(500);
/// Late by more than this, the node was frozen or starved: what it did not hear meanwhile says nothing.
const LATE: Duration = Duration::from_secs(2);

/// When this node last had reason to doubt itself, in the hub's ms.
#[derive(Default)]
pub(super) struct Evidence {
    store_failed_ms: AtomicU64,
    late_ms: AtomicU64,
    beat_ms: AtomicU64,
}

impl Evidence {
    /// The store did not answer.
    pub(super) fn store_failed(&self, now_ms: u64) {
        self.store_failed_ms.fetch_max(now_ms, Relaxed);
    }

    /// The node is on time, or says here that it was not.
    fn beat(&self, now_ms: u64) {
        if self.is_late(now_ms) {
            self.late_ms.fetch_max(now_ms, Relaxed);
        }
        self.beat_ms.store(now_ms, Relaxed);
    }

    fn is_late(&self, now_ms: u64) -> bool {
        let last = self.beat_ms.load(Relaxed);
        last > 0 && now_ms.saturating_sub(last) > (PACE + LATE).as_millis() as u64
    }

    /// Why nobody may be judged now, if so; what happened longer than `needed_ms` ago is forgotten.
    fn lacking(&self, live_for_ms: Option<u64>, needed_ms: u64, now_ms: u64) -> Option<&'static str> {
        let within = |at: &AtomicU64| match at.load(Relaxed) {
            0 => false,
            at => now_ms.saturating_sub(at) < needed_ms,
        };
        if live_for_ms.is_none_or(|live_for| live_for < needed_ms) {
            Some("this node has not been live for a full suspect period")
        } else if within(&self.store_failed_ms) {
            Some("the store failed within the last suspect period")
        } else if self.is_late(now_ms) || within(&self.late_ms) {
            Some("this node itself was late within the last suspect period")
        } else {
            None
        }
    }
}

impl Presence {
    /// Watches over this node's own punctuality for as long as it is polled.
    pub async fn keep_time(self: Arc<Self>) {
        loop {
            self.evidence.beat(self.hub.now_ms());
            sleep(PACE).await;
        }
    }

    /// Why this node may not judge who is silent, if so.
    pub(super) fn lacks_evidence(&self) -> Option<&'static str> {
        let now = self.hub.now_ms();
        let needed = self.settings.suspect_after.as_millis() as u64;
        self.evidence.lacking(self.gate.live_for_ms(now), needed, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_judged_before_a_full_period_of_health() {
        let evidence = Evidence::default();
        evidence.beat(1);
        assert!(evidence.lacking(None, 100, 1).is_some());
        assert!(evidence.lacking(Some(99), 100, 100).is_some());
        assert_eq!(evidence.lacking(Some(100), 100, 101), None);
        evidence.store_failed(150);
        assert!(evidence.lacking(Some(200), 100, 249).is_some());
        assert_eq!(evidence.lacking(Some(200), 100, 250), None);
    }

    #[test]
    fn a_node_that_was_frozen_notices_before_and_after_its_own_clock_did() {
        let evidence = Evidence::default();
        evidence.beat(1_000);
        evidence.beat(1_500);
        assert_eq!(evidence.lacking(Some(9_000), 100, 2_000), None);
        assert!(evidence.lacking(Some(9_000), 100, 90_000).is_some(), "woken, and the clock was not asked yet");
        evidence.beat(90_000);
        assert!(evidence.lacking(Some(9_000), 100, 90_050).is_some());
        assert_eq!(evidence.lacking(Some(9_000), 100, 90_100), None);
    }
}
