//! The rows of the table, a function each. `loadtest/README.md` says what each means.

mod beacon;
mod changes;
mod churn;
mod connects;
mod counts;
mod expiry;
mod memory;
mod million;
mod nodes;
mod pings;
mod push;
mod reseed;
mod resting;
mod sessions;

use anyhow::{Result, bail};

use crate::{bench::Bench, table::Line};

/// Every row with what it measures, in the order of a run.
pub const NAMES: &[(&str, &str)] = &[
    ("memory", "resident memory per idle watcher and mitra socket, beside a bare socket"),
    ("pings", "pings a second, beside a bare echo"),
    ("heartbeats", "Valkey round trips per heartbeat; CPU of beating mitras"),
    ("watchers", "CPU of idle watchers, beside pinged bare sockets"),
    ("push", "from a change to the last watcher, beside a bare broadcast"),
    ("changes", "frames to each watcher while many mitras change at once"),
    ("connects", "connects a second, beside bare upgrades"),
    ("counts", "count of available and find-50, beside a walk over the fleet"),
    ("reseed", "reseed from Postgres; time to truth after FLUSHALL"),
    ("beacon", "the beacon by REST, beside a constant"),
    ("sessions", "accepting a session, beside pgbench"),
    ("expiry", "sessions that expire together on two nodes; heartbeats and pushes meanwhile"),
    ("nodes", "two nodes beside one; Valkey's load beside watchers"),
    ("million", "a mirror of a million mitras with simulated nodes"),
    ("churn", "memory while connections come and go"),
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
        "watchers" => resting::watchers(bench).await,
        "connects" => connects::measure(bench).await,
        "reseed" => reseed::measure(bench).await,
        "beacon" => beacon::measure(bench).await,
        "nodes" => nodes::measure(bench).await,
        "sessions" => sessions::measure(bench).await,
        "expiry" => expiry::measure(bench).await,
        "million" => million::measure(bench).await,
        "changes" => changes::measure(bench).await,
        "churn" => churn::measure(bench).await,
        "counts" => counts::measure(bench).await,
        "push" => push::measure(bench).await,
        other => bail!("there is no row {other}"),
    }
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
