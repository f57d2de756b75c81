//! Every call of the mirror: counted, judged by the breaker, and its pulse applied. No other part calls the mirror.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::broadcast::Receiver;

use super::{mode_control::ModeControl, signals::Signals};
use crate::{
    domain::{AvailablePage, Counts, Fence, LastHeard, MitraId, NodeRecord, Snapshot, Source},
    hub::{Hub, Published},
    mirror::{
        Applied, Beat, Caution, Claimed, Claims, Entries, Entry, HistoryPoint, Mirror, MirrorError, MirrorEvent, Pulse,
        Refusal, Write,
    },
    protocol::ControlMessage,
    telemetry::{Metrics, Outcome},
};

/// What a call tells the breaker when it succeeds or fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It writes whatever the mirror knows: only such calls prove that the mirror still writes.
    Write,
    /// It may succeed on a mirror that is full or a replica.
    Question,
}

/// The mirror as all parts of a node use it.
pub(crate) struct MirrorClient {
    mirror: Arc<dyn Mirror>,
    mode: Arc<ModeControl>,
    hub: Arc<Hub>,
    metrics: Metrics,
    signals: Arc<Signals>,
    /// Mirror clock minus hub clock, ms; only meaningful after the first pulse.
    ahead_ms: AtomicI64,
}

impl MirrorClient {
    pub(crate) fn new(
        mirror: Arc<dyn Mirror>,
        mode: Arc<ModeControl>,
        hub: Arc<Hub>,
        metrics: Metrics,
        signals: Arc<Signals>,
    ) -> Self {
        Self { mirror, mode, hub, metrics, signals, ahead_ms: AtomicI64::new(0) }
    }

    /// Which mirror this is.
    pub(crate) fn source(&self) -> Source {
        self.mirror.source()
    }

    /// What the mirror tells unasked.
    pub(crate) fn events(&self) -> Receiver<MirrorEvent> {
        self.mirror.events()
    }

    /// The hub's time on the mirror's clock. Never later than the mirror's own now: the offset was taken when a reply
    /// arrived, and the mirror had read its clock before.
    pub(crate) fn clock_ms(&self, hub_ms: u64) -> u64 {
        hub_ms.saturating_add_signed(self.ahead_ms.load(Relaxed))
    }

    /// Applies rows by their fence; answers in the order of the writes.
    pub(crate) async fn apply(&self, writes: &[Write]) -> Result<Vec<Applied>, MirrorError> {
        let report = self.measured("apply", Kind::Write, self.mirror.apply(writes)).await?;
        self.apply_pulse(report.pulse);
        Ok(report.outcomes)
    }

    /// Extends the life of mitras; answers which heartbeats were refused.
    pub(crate) async fn beat(&self, beats: &[Beat]) -> Result<Vec<Refusal>, MirrorError> {
        let report = self.measured("beat", Kind::Write, self.mirror.beat(beats)).await?;
        self.apply_pulse(report.pulse);
        Ok(report.refused)
    }

    /// Counts, and publishes what is due.
    pub(crate) async fn tick(&self) -> Result<Pulse, MirrorError> {
        let pulse = self.measured("tick", Kind::Question, self.mirror.tick()).await?;
        self.apply_pulse(pulse.clone());
        Ok(pulse)
    }

    /// The counts; `None` unless the mirror is trusted.
    pub(crate) async fn counts(&self) -> Option<Counts> {
        let (counts, pulse) = self.trusted("counts", self.mirror.counts()).await?;
        self.apply_pulse(pulse);
        self.mode.is_live().then_some(counts)
    }

    /// A sample of the available; `None` unless the mirror is trusted.
    pub(crate) async fn find_available(&self, limit: u32) -> Option<AvailablePage> {
        let (page, pulse) = self.trusted("find_available", self.mirror.find_available(limit)).await?;
        self.apply_pulse(pulse);
        self.mode.is_live().then_some(page)
    }

    /// One page of the suspect, the oldest silence first, each with the age of its heartbeat; `None` unless the mirror is
    /// trusted.
    pub(crate) async fn suspects(&self, after: Option<LastHeard>, limit: u32) -> Option<Vec<(LastHeard, Duration)>> {
        let page = self.trusted("suspects", self.mirror.suspects(after, limit)).await?;
        let now_ms = page.pulse.now_ms;
        self.apply_pulse(page.pulse);
        let age = |heard: LastHeard| (heard, Duration::from_millis(now_ms.saturating_sub(heard.at_ms)));
        self.mode.is_live().then(|| page.found.into_iter().map(age).collect())
    }

    /// What is known of each id, in order; `None` unless the mirror is trusted.
    pub(crate) async fn trusted_entries(&self, ids: &[MitraId]) -> Option<Vec<Option<Entry>>> {
        let Entries { of_each, epoch } = self.trusted("entries", self.mirror.entries(ids)).await?;
        self.mode.mirror_answered(epoch.as_ref());
        self.mode.is_live().then_some(of_each)
    }

    /// What is known of each id, in order, whether the mirror is trusted or not.
    pub(crate) async fn entries(&self, ids: &[MitraId]) -> Result<Vec<Option<Entry>>, MirrorError> {
        Ok(self.measured("entries", Kind::Question, self.mirror.entries(ids)).await?.of_each)
    }

    /// Whether staff deactivated the mitra; `None` unless the mirror is trusted.
    pub(crate) async fn is_deactivated(&self, id: MitraId) -> Option<bool> {
        self.trusted("is_deactivated", self.mirror.is_deactivated(id)).await
    }

    /// The cached snapshot, if there is one.
    pub(crate) async fn cached_snapshot(&self) -> Option<Snapshot> {
        self.measured("cached_snapshot", Kind::Question, self.mirror.cached_snapshot()).await.ok().flatten()
    }

    /// Claims silent mitras, no more than `caution` allows.
    pub(crate) async fn claim_silent(
        &self,
        silent_for: Duration,
        limit: u32,
        caution: &Caution,
    ) -> Result<Claims, MirrorError> {
        self.measured("claim_silent", Kind::Write, self.mirror.claim_silent(silent_for, limit, caution)).await
    }

    /// Puts claimed mitras back.
    pub(crate) async fn unclaim(&self, claimed: &[Claimed]) -> Result<(), MirrorError> {
        self.measured("unclaim", Kind::Question, self.mirror.unclaim(claimed)).await
    }

    /// One page of the ids that the mirror knows.
    pub(crate) async fn known(&self, cursor: u64) -> Result<(u64, Vec<MitraId>), MirrorError> {
        self.measured("known", Kind::Question, self.mirror.known(cursor)).await
    }

    /// Removes ids that the store does not have.
    pub(crate) async fn forget(&self, ids: &[(MitraId, Fence)]) -> Result<u64, MirrorError> {
        self.measured("forget", Kind::Question, self.mirror.forget(ids)).await
    }

    /// Declares the mirror seeded.
    pub(crate) async fn open_epoch(&self, seeded: u64) -> Result<Arc<str>, MirrorError> {
        self.measured("open_epoch", Kind::Write, self.mirror.open_epoch(seeded)).await
    }

    /// Tells every node.
    pub(crate) async fn tell(&self, message: &ControlMessage) -> Result<(), MirrorError> {
        self.measured("tell", Kind::Question, self.mirror.tell(message)).await
    }

    /// Writes this node's record; answers those of all live nodes.
    pub(crate) async fn report_node(&self) -> Result<Vec<NodeRecord>, MirrorError> {
        self.measured("report_node", Kind::Write, self.mirror.report_node(&self.mode.node_record())).await
    }

    /// The last hour; `None` unless the mirror is trusted.
    pub(crate) async fn history(&self) -> Option<Vec<HistoryPoint>> {
        self.trusted("history", self.mirror.history()).await
    }

    /// Replaces the listening connection.
    pub(crate) async fn resubscribe(&self) {
        self.mirror.resubscribe().await;
    }

    /// Offers a snapshot of the mirror to the watchers; one of another epoch makes the supervisor poll.
    pub(crate) fn offer(&self, snapshot: Snapshot) {
        let as_of_ms = u64::try_from(snapshot.as_of.timestamp_millis()).unwrap_or_default();
        if self.mode.is_live() && self.mode.last_epoch().is_some_and(|epoch| epoch != snapshot.epoch) {
            self.signals.poll_within(Duration::ZERO);
        }
        if self.mode.publish(snapshot) == Published::Pushed {
            // Both of the mirror's clock.
            let late_ms = self.clock_ms(self.hub.now_ms()).saturating_sub(as_of_ms);
            self.metrics.snapshot_delivered(Duration::from_millis(late_ms));
            self.signals.wake_dashboards();
        }
    }

    /// A frame was published. Any program can publish one, so it only says that a poll is due: what the
    /// poll reads is shown.
    pub(super) fn hint(&self, published: &Snapshot) {
        // One that was given up is polled at the breaker's pace: what is published there may be of another store.
        if !self.mode.mirror_takes_writes() {
            return;
        }
        let is_shown = self.hub.availability().is_some_and(|shown| {
            let shown = shown.snapshot();
            shown.epoch == published.epoch && shown.version >= published.version
        });
        if !is_shown {
            self.signals.poll_within(Duration::ZERO);
        }
    }

    /// Takes in what every script call tells on the side: the clock, the epoch, the newest snapshot, a count that waits.
    fn apply_pulse(&self, pulse: Pulse) {
        self.ahead_ms.store(pulse.now_ms as i64 - self.hub.now_ms() as i64, Relaxed);
        self.mode.mirror_answered(pulse.epoch.as_ref());
        if let Some(snapshot) = pulse.snapshot {
            self.offer(snapshot);
        }
        // A mirror that was given up is polled at the breaker's pace only.
        if let Some(wait) = pulse.due_in
            && self.mode.mirror_takes_writes()
        {
            self.signals.poll_within(wait);
        }
    }

    /// Asks a question that only a trusted mirror may answer.
    async fn trusted<T>(&self, op: &'static str, call: impl Future<Output = Result<T, MirrorError>>) -> Option<T> {
        if !self.mode.is_live() {
            return None;
        }
        self.measured(op, Kind::Question, call).await.ok()
    }

    async fn measured<T>(
        &self,
        op: &'static str,
        kind: Kind,
        call: impl Future<Output = Result<T, MirrorError>>,
    ) -> Result<T, MirrorError> {
        match call.await {
            Ok(value) => {
                self.metrics.mirror_command(op, Outcome::Ok);
                if kind == Kind::Write {
                    self.mode.mirror_wrote();
                }
                Ok(value)
            }
            Err(error) => {
                let outcome = if error.timed_out() { Outcome::Timeout } else { Outcome::Error };
                self.metrics.mirror_command(op, outcome);
                tracing::debug!(op, %error, "the mirror did not answer");
                self.mode.mirror_failed(&error, kind == Kind::Write);
                Err(error)
            }
        }
    }
}
