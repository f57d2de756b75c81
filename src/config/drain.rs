//! How a node stops.

use std::time::Duration;

use super::{
    parse,
    setting::{AnySetting, Setting},
    values::Reader,
};

const DELAY: Setting<Duration> = Setting::new(
    "DRAIN_DELAY_SECONDS",
    parse::seconds_or_zero,
    "How long a stopping node is not ready but still accepts, so that load balancers notice first.",
)
.default("0")
.unit("seconds");
const SPREAD: Setting<Duration> = Setting::new(
    "DRAIN_SECONDS",
    parse::seconds_or_zero,
    "Time over which a stopping node asks its sockets to reconnect and closes them.",
)
.default("20")
.unit("seconds");
const STOP: Setting<Duration> = Setting::new(
    "HADIR_STOP_SECONDS",
    parse::seconds,
    "Longest time after the drain for open requests, the last flush and closing the stores.",
)
.default("5")
.unit("seconds");

pub(super) const SETTINGS: &[&dyn AnySetting] = &[&DELAY, &SPREAD, &STOP];

/// How a node stops.
#[derive(Clone, Debug)]
pub struct DrainConfig {
    /// Not ready but still accepting.
    pub delay: Duration,
    /// Time over which the closes are spread.
    pub spread: Duration,
    /// Longest time for what remains.
    pub stop_timeout: Duration,
}

impl DrainConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { delay: reader.required(&DELAY), spread: reader.required(&SPREAD), stop_timeout: reader.required(&STOP) }
    }
}
