//! From a committed row to the mirror and to the sockets here.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{Presence, mode::Verdict};
use crate::{
    domain::{MitraId, MitraRow, Mode, StatusChange, StatusReason},
    mirror::{BATCH, MirrorError, Pulse, Write},
    telemetry::Outcome,
};

/// Changes that may wait for the mirror before a full reseed is cheaper than remembering each.
const MAX_UNAPPLIED: usize = 10_000;
/// What writes to the mirror whatever it knows.
const WRITES: [&str; 5] = ["apply", "beat", "claim_silent", "open_epoch", "report_node"];
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
        if !self.gate.mirror_takes_writes() {
            // The watchers here are told soon; changes within this time share one count of the store.
            return self.look_soon();
        }
        for writes in writes.chunks(BATCH) {
            match self.asked_mirror("apply", self.mirror.apply(writes).await) {
                Ok(report) => self.absorb(report.pulse),
                Err(_) => writes.iter().for_each(|write| self.remember_unapplied(write.row.id)),
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
            self.verdict(self.gate.distrust());
        }
        self.keeper_wanted.notify_one();
    }

    /// Counts an answer of the mirror and lets the gate draw its conclusion from a failure.
    pub(super) fn asked_mirror<T>(&self, op: &'static str, answer: Result<T, MirrorError>) -> Result<T, MirrorError> {
        match answer {
            Ok(value) => {
                self.metrics.mirror_command(op, Outcome::Ok);
                if WRITES.contains(&op) {
                    self.gate.mirror_wrote();
                }
                Ok(value)
            }
            Err(error) => {
                self.metrics.mirror_command(op, Outcome::Error);
                tracing::debug!(op, %error, "the mirror did not answer");
                self.outage.failed(&error);
                self.verdict(self.gate.mirror_failed(WRITES.contains(&op), self.hub.now_ms()));
                Err(error)
            }
        }
    }

    /// Takes in what every script call tells on the side: the clock, the epoch, the newest snapshot, a due tick.
    pub(super) fn absorb(&self, pulse: Pulse) {
        let now = self.hub.now_ms();
        self.mirror_ahead_ms.store(pulse.now_ms as i64 - now as i64, Relaxed);
        self.verdict(self.gate.mirror_answered(pulse.epoch.as_ref()));
        if let Some(snapshot) = pulse.snapshot {
            self.push(snapshot);
        }
        if let Some(wait) = pulse.due_in {
            self.look_within(wait);
        }
    }

    /// Lets the keeper count soon, for changes while the mirror is away.
    fn look_soon(&self) {
        self.look_within(SHARED_COUNT);
    }

    /// Lets the keeper look at the mirror, or at the store in its place, when this time has passed.
    pub(super) fn look_within(&self, wait: Duration) {
        let due = self.hub.now_ms() + wait.as_millis() as u64 + 1;
        if due < self.tick_due_ms.fetch_min(due, Relaxed) {
            self.keeper_wanted.notify_one();
        }
    }

    /// Acts on a change of mode.
    pub(super) fn verdict(&self, verdict: Verdict) {
        if let Verdict::Changed(mode) = verdict {
            // At `info` an outage has its own two lines.
            tracing::debug!(mode = mode.as_str(), "mode changed");
            self.outage.mode_changed(mode, self.mirror.source(), self.hub.now_ms());
            self.metrics.set_mode(mode);
            self.evidence.mode_changed(mode == Mode::Live, self.hub.now_ms());
            self.keeper_wanted.notify_one();
            self.dashboard_wanted.notify_one();
        }
    }
}
