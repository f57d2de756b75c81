//! Tells systemd when the node is ready, is stopping, and still runs (`Type=notify`, sd_notify(3)).
//! Does nothing where systemd did not start the process.

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::tasks::Tasks;

/// The node serves.
pub(super) fn ready() {
    notify(NotifyState::Ready);
}

/// The node drains; systemd waits for `TimeoutStopSec`.
pub(super) fn stopping() {
    notify(NotifyState::Stopping);
}

/// Says that the node runs, twice in each `WatchdogSec`. A runtime that no longer takes turns does
/// not say so, and systemd restarts it.
pub(super) fn keep_watchdog(tasks: &Tasks) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    tasks.keep("watchdog", "Tells systemd that the node still runs.", move || async move {
        let mut turn = interval(period / 2);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            notify(NotifyState::Watchdog);
        }
    });
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be told the state of the node");
    }
}
