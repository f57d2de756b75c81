//! What an attack cost, and the promises that it is held against.

use serde::Serialize;

use crate::tally::Tally;

/// Resources of the server at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Resources {
    pub rss_mib: f64,
    pub descriptors: u64,
}

/// Before, during and after.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Phases<T> {
    pub before: T,
    /// The most there was while it lasted.
    pub during: T,
    pub after: T,
}

/// One line of the table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    pub attack: String,
    pub what: String,
    pub tally: Tally,
    pub resources: Phases<Resources>,
    /// Share of one core that the server used, percent.
    pub cpu_percent: Phases<f64>,
    /// Round trips of the residents' pings, 99th percentile, milliseconds.
    pub ping_p99_ms: Phases<f64>,
    /// The slowest newcomer while it lasted, from connect to first frame, milliseconds.
    pub newcomer_ms: f64,
    /// Promises that were broken, in words.
    pub broken: Vec<String>,
}

impl Outcome {
    /// Holds a promise against what was found.
    pub fn check(&mut self, kept: bool, broken: impl FnOnce() -> String) {
        if !kept {
            self.broken.push(broken());
        }
    }
}
