//! Durations with their percentiles, carried between processes.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One part in a thousand.
const DIGITS: u8 = 3;
/// Longer ones count as this long.
const LONGEST_NS: u64 = 600_000_000_000;

/// Recorded durations. Serialised as pairs of nanoseconds and how often.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Distribution(Histogram<u64>);

impl Distribution {
    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).unwrap_or_else(|_| unreachable!("good bounds")))
    }

    /// Records one duration.
    pub fn record(&mut self, duration: Duration) {
        self.record_ns(duration.as_nanos() as u64);
    }

    /// Records nanoseconds.
    pub fn record_ns(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }

    /// Adds what another recorded.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many were recorded.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// The value that this share of them does not exceed, in milliseconds.
    pub fn ms(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e6
    }
}

impl From<Distribution> for Vec<(u64, u64)> {
    fn from(distribution: Distribution) -> Self {
        distribution.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }
}

impl TryFrom<Vec<(u64, u64)>> for Distribution {
    type Error = hdrhistogram::RecordError;

    fn try_from(pairs: Vec<(u64, u64)>) -> Result<Self, Self::Error> {
        let mut distribution = Self::new();
        for (value, count) in pairs {
            distribution.0.record_n(value, count)?;
        }
        Ok(distribution)
    }
}
