//! What a row found.

use std::time::Duration;

use serde::Serialize;

/// One line of the table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    pub row: String,
    pub fault: String,
    pub injected: String,
    /// From the fault to the first sign of it that users and operators are given, seconds.
    pub detect: Option<f64>,
    /// Mitras that beat all the time and were recorded as taken offline for silence.
    pub wrong_offline: u64,
    /// Frames and answers that told a customer that nobody is there.
    pub false_empty: u64,
    /// For how long a mitra was still shown, or its heartbeats taken, after its deactivation was acknowledged, seconds.
    pub ghost_deactivated: Option<f64>,
    /// For how long a mitra was still shown after its last heartbeat, seconds.
    pub ghost_silent: Option<f64>,
    /// From the end of the fault until both nodes were live and the mirror equalled the store, seconds.
    pub truth: Option<f64>,
    pub notes: Vec<String>,
    /// Promises that were broken, in words.
    pub broken: Vec<String>,
}

impl Outcome {
    /// Nothing found yet.
    pub fn of(row: &str, fault: &str, injected: &str) -> Self {
        Self { row: row.to_owned(), fault: fault.to_owned(), injected: injected.to_owned(), ..Self::default() }
    }

    /// Holds a promise against what was found.
    pub fn check(&mut self, kept: bool, broken: impl FnOnce() -> String) {
        if !kept {
            self.broken.push(broken());
        }
    }

    /// The same for a time.
    pub fn within(&mut self, what: &str, took: Duration, limit: Duration) {
        self.check(took <= limit, || format!("{what} took {took:.1?}; {limit:.1?} is promised"));
    }

    /// Tells a reader something.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Whether every promise was kept.
    pub fn is_kept(&self) -> bool {
        self.broken.is_empty()
    }
}

/// Seconds to a hundredth, as tables show them.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}
