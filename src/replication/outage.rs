//! One line in the log when an outage of the mirror begins, with its reason, and one when it ends, with its length.

use std::mem;

use parking_lot::Mutex;

use crate::{
    domain::{Mode, Source},
    mirror::MirrorError,
};

/// What is known of the mirror's present outage.
#[derive(Default)]
pub(super) struct Outage(Mutex<State>);

#[derive(Default)]
struct State {
    /// What the mirror last failed with.
    reason: Option<String>,
    /// Hub time at which the outage began; `None` while there is none.
    since_ms: Option<u64>,
    /// It belongs to another store, and that was logged.
    told_foreign: bool,
}

const NO_ANSWER: &str = "it does not answer";

impl Outage {
    /// The mirror failed. Whether that is an outage is decided by the mode.
    pub(super) fn failed(&self, error: &MirrorError) {
        let mut state = self.0.lock();
        state.reason = Some(error.why().to_owned());
        if error.is_foreign() && !mem::replace(&mut state.told_foreign, true) {
            tracing::error!(
                why = error.why(),
                "the mirror is of another store; this one answers, and nothing is written there"
            );
        }
    }

    /// Why the mirror is unavailable at present; `None` while it is not.
    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.0.lock();
        let is_out = state.since_ms.is_some() || state.told_foreign;
        is_out.then(|| state.reason.clone().unwrap_or_else(|| NO_ANSWER.to_owned()))
    }

    /// The mode changed. An outage lasts until the mirror is trusted again: one that comes and goes is one outage.
    pub(super) fn mode_changed(&self, mode: Mode, mirror: Source, now_ms: u64) {
        let mut state = self.0.lock();
        match mode {
            Mode::Fallback | Mode::Stale if state.since_ms.is_none() => {
                state.since_ms = Some(now_ms);
                let reason = state.reason.as_deref().unwrap_or(NO_ANSWER);
                // Unless an error was logged for the same reason.
                if !state.told_foreign {
                    tracing::warn!(mirror = mirror.as_str(), reason, "the mirror is unavailable; the store answers");
                }
            }
            Mode::Live => {
                if let Some(since_ms) = state.since_ms.take() {
                    let seconds = now_ms.saturating_sub(since_ms) as f64 / 1_000.0;
                    tracing::info!(mirror = mirror.as_str(), seconds, "the mirror is available again");
                }
                state.reason = None;
                state.told_foreign = false;
            }
            _ => {}
        }
    }
}
