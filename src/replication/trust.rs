//! Trust: whether this node may judge who is silent, and whether the store's heartbeats say who is fresh.
//!
//! Missing, empty, failed or late data is never evidence of absence. The clients report here; nothing here calls them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::sleep;

use crate::hub::Hub;

/// Cadence of the node's look at its own punctuality.
const PACE: Duration = Duration::from_millis(500);
/// Late by more than this, the node was frozen or starved: what it did not hear meanwhile says nothing.
const LATE: Duration = Duration::from_secs(2);

/// A store that was away is given this long before its heartbeats are believed: until then the nodes write what they heard
/// meanwhile. As long as a write may take, and the pause between two tries.
const SETTLE: Duration = Duration::from_secs(3);

/// When this node last had reason to doubt itself, in the hub's ms.
#[derive(Default)]
struct Evidence {
    store_failed_ms: AtomicU64,
    /// The store's last answer was none.
    store_is_unavailable: AtomicBool,
    late_ms: AtomicU64,
    beat_ms: AtomicU64,
    /// When heartbeats could not be delivered to the mirror.
    undelivered_ms: AtomicU64,
    /// When the store was last not told of heartbeats, or did not answer.
    missed_ms: AtomicU64,
    /// Since when it answers, without a break; 0 when it does not.
    answers_since_ms: AtomicU64,
    /// Since when heartbeats go to the store at once; 0 while the mirror is live.
    left_live_ms: AtomicU64,
}

impl Evidence {
    /// Heartbeats could not be delivered to the mirror.
    fn mirror_missed_heartbeats(&self, now_ms: u64) {
        self.undelivered_ms.fetch_max(now_ms, Relaxed);
    }

    /// Heartbeats could not be written to the store.
    fn store_missed_heartbeats(&self, now_ms: u64) {
        self.missed_ms.fetch_max(now_ms, Relaxed);
    }

    /// The store answers, or does not.
    fn store_answers(&self, answers: bool, now_ms: u64) {
        if answers {
            let _unless_before = self.answers_since_ms.compare_exchange(0, now_ms, Relaxed, Relaxed);
        } else {
            self.answers_since_ms.store(0, Relaxed);
            self.store_missed_heartbeats(now_ms);
        }
    }

    /// Whether a seed may begin: the store is settled, or answers for long enough and will not be told (it is read-only, say).
    fn store_may_seed(&self, cadence: Duration, now_ms: u64) -> bool {
        let since = self.answers_since_ms.load(Relaxed);
        let answers = since > 0 && now_ms.saturating_sub(since) >= SETTLE.as_millis() as u64;
        answers || self.store_is_settled(cadence, now_ms)
    }

    /// The mode is live, or is not.
    fn mode_changed(&self, is_live: bool, now_ms: u64) {
        if is_live {
            self.left_live_ms.store(0, Relaxed);
        } else {
            let _unless_before = self.left_live_ms.compare_exchange(0, now_ms, Relaxed, Relaxed);
        }
    }

    /// Whether the store has had the time to be told who was heard while it was away. While the mirror is live it is told at
    /// `cadence`; without it every node tells it at once.
    fn store_is_settled(&self, cadence: Duration, now_ms: u64) -> bool {
        let missed = self.missed_ms.load(Relaxed);
        let passed = |since: u64, needed: Duration| now_ms.saturating_sub(since) >= needed.as_millis() as u64;
        missed == 0
            || passed(missed, cadence + SETTLE)
            || (passed(missed, SETTLE) && passed(self.left_live_ms.load(Relaxed), SETTLE))
    }

    /// The store did not answer.
    fn store_failed(&self, now_ms: u64) {
        self.store_failed_ms.fetch_max(now_ms, Relaxed);
        self.store_is_unavailable.store(true, Relaxed);
    }

    /// The store answered.
    fn store_answered(&self) {
        self.store_is_unavailable.store(false, Relaxed);
    }

    /// Whether the store did not answer when it was last asked.
    fn store_is_unavailable(&self) -> bool {
        self.store_is_unavailable.load(Relaxed)
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
        } else if within(&self.undelivered_ms) {
            Some("heartbeats could not be delivered within the last suspect period")
        } else if self.is_late(now_ms) || within(&self.late_ms) {
            Some("this node itself was late within the last suspect period")
        } else {
            None
        }
    }
}

/// What this node may believe about itself and about the store.
pub struct Trust {
    evidence: Evidence,
    hub: Arc<Hub>,
    /// Cadence at which heartbeats reach the store while the mirror is live.
    cadence: Duration,
    /// For so long everything must have been well before a mitra is judged silent.
    needed: Duration,
}

impl Trust {
    pub(super) fn new(hub: Arc<Hub>, cadence: Duration, needed: Duration) -> Self {
        Self { evidence: Evidence::default(), hub, cadence, needed }
    }

    /// Watches over this node's own punctuality for as long as it is polled.
    pub async fn watch_punctuality(self: Arc<Self>) {
        loop {
            self.evidence.beat(self.hub.now_ms());
            sleep(PACE).await;
        }
    }

    /// Whether the store's heartbeats may be believed: it answers, and was told of those who were heard while it did not.
    pub(crate) fn store_is_settled(&self) -> bool {
        self.evidence.store_is_settled(self.cadence, self.hub.now_ms())
    }

    /// Whether the store knows enough for a seed of the mirror.
    pub(super) fn store_may_seed(&self) -> bool {
        self.evidence.store_may_seed(self.cadence, self.hub.now_ms())
    }

    /// Why this node may not judge who is silent, if so; `live_for` is how long the mirror has been trusted.
    pub(crate) fn lacks_evidence(&self, live_for: Option<Duration>) -> Option<&'static str> {
        let live_for_ms = live_for.map(|period| period.as_millis() as u64);
        self.evidence.lacking(live_for_ms, self.needed.as_millis() as u64, self.hub.now_ms())
    }

    /// Whether the store did not answer when it was last asked.
    pub(crate) fn store_is_unavailable(&self) -> bool {
        self.evidence.store_is_unavailable()
    }

    /// The store did not answer.
    pub(super) fn store_failed(&self) {
        self.evidence.store_failed(self.hub.now_ms());
    }

    /// The store answered.
    pub(super) fn store_answered(&self) {
        self.evidence.store_answered();
    }

    /// The store answers counts or pings, or does not.
    pub(super) fn store_answers(&self, answers: bool) {
        self.evidence.store_answers(answers, self.hub.now_ms());
    }

    /// Heartbeats could not be delivered to the mirror.
    pub(super) fn mirror_missed_heartbeats(&self) {
        self.evidence.mirror_missed_heartbeats(self.hub.now_ms());
    }

    /// Heartbeats could not be written to the store.
    pub(super) fn store_missed_heartbeats(&self) {
        self.evidence.store_missed_heartbeats(self.hub.now_ms());
    }

    /// The mode is live, or is not.
    pub(super) fn mode_changed(&self, is_live: bool) {
        self.evidence.mode_changed(is_live, self.hub.now_ms());
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
    fn a_store_that_was_away_is_believed_when_every_node_could_tell_it_what_it_missed() {
        let (evidence, cadence) = (Evidence::default(), Duration::from_secs(60));
        assert!(evidence.store_is_settled(cadence, 1), "it never failed");
        evidence.store_missed_heartbeats(10_000);
        evidence.mode_changed(false, 12_000);
        assert!(!evidence.store_is_settled(cadence, 12_999), "it was away a moment ago");
        assert!(!evidence.store_is_settled(cadence, 14_999), "heartbeats go to it for less than it takes");
        assert!(evidence.store_is_settled(cadence, 15_000));
        evidence.mode_changed(false, 20_000);
        assert!(evidence.store_is_settled(cadence, 20_001), "one outage of the mirror, in several modes");
        evidence.mode_changed(true, 30_000);
        evidence.mode_changed(false, 40_000);
        assert!(!evidence.store_is_settled(cadence, 40_001), "what it missed may not have been written yet");
        evidence.mode_changed(true, 50_000);
        evidence.mode_changed(false, 80_000);
        assert!(evidence.store_is_settled(cadence, 80_001), "the sweep has written it long ago");
    }

    #[test]
    fn a_store_that_answers_and_is_not_written_to_is_good_enough_for_a_seed() {
        let (evidence, cadence) = (Evidence::default(), Duration::from_secs(60));
        evidence.mode_changed(false, 1);
        evidence.store_answers(false, 10_000);
        evidence.store_answers(true, 11_000);
        evidence.store_answers(true, 13_000);
        evidence.store_missed_heartbeats(13_500);
        assert!(!evidence.store_may_seed(cadence, 13_999));
        assert!(evidence.store_may_seed(cadence, 14_000));
        assert!(!evidence.store_is_settled(cadence, 14_000), "and what it says of freshness is not believed");
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
