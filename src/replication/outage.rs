//! One line in the log when an outage of the mirror begins, with its reason, and one when it ends, with its length.

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
}

impl Outage {
    /// The mirror failed. Whether that is an outage is decided by the mode.
    pub(super) fn failed(&self, error: &MirrorError) {
        self.0.lock().reason = Some(error.why().to_owned());
    }

    /// The mode changed. An outage lasts until the mirror is trusted again: one that comes and goes is one outage.
    pub(super) fn mode_changed(&self, mode: Mode, mirror: Source, now_ms: u64) {
        let mut state = self.0.lock();
        match mode {
            Mode::Fallback | Mode::Stale if state.since_ms.is_none() => {
                state.since_ms = Some(now_ms);
                let reason = state.reason.as_deref().unwrap_or("it does not answer");
                tracing::warn!(mirror = mirror.as_str(), reason, "the mirror is unavailable; the store answers");
            }
            Mode::Live => {
                if let Some(since_ms) = state.since_ms.take() {
                    let seconds = now_ms.saturating_sub(since_ms) as f64 / 1_000.0;
                    tracing::info!(mirror = mirror.as_str(), seconds, "the mirror is available again");
                }
                state.reason = None;
            }
            _ => {}
        }
    }
}
