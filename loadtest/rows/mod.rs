//! The rows of the table, a function each. `loadtest/README.md` says what each means.

mod memory;
mod pings;
mod push;
mod resting;

use anyhow::{Result, bail};

use crate::{bench::Bench, table::Line};

/// Every row with what it measures, in the order of a run.
pub const NAMES: &[(&str, &str)] = &[
    ("memory", "resident memory per idle watcher and mitra socket, beside a bare socket"),
    ("pings", "pings a second, beside a bare echo"),
    ("heartbeats", "Valkey round trips per heartbeat; CPU of beating mitras"),
    ("push", "from a change to the last watcher, beside a bare broadcast"),
];

/// Measures a row by its name.
///
/// # Errors
/// Something does not work.
pub async fn measure(name: &str, bench: &Bench) -> Result<Vec<Line>> {
    match name {
        "memory" => memory::measure(bench).await,
        "pings" => pings::measure(bench).await,
        "heartbeats" => resting::heartbeats(bench).await,
        "push" => push::measure(bench).await,
        other => bail!("there is no row {other}"),
    }
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
