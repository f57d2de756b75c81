//! Sampling of log lines: a place in the code that logs again and again must not fill a disk or hide other lines.
//!
//! Each place has a budget of lines. What is over it is left out and counted; the writer of the log says how many.
//! Lines of the levels debug and trace are left alone: whoever asks for them wants all.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use dashmap::DashMap;
use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_subscriber::{Layer, layer::Context};

/// Seconds of the sustained rate that may come at once.
const BURST_SECONDS: f64 = 5.0;

/// Lines that were left out.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// How many lines were left out since the start.
pub(super) fn left_out() -> u64 {
    LEFT_OUT.load(Relaxed)
}

/// Gives each place in the code its budget.
pub(super) struct FloodGuard {
    per_second: f64,
    places: DashMap<Identifier, Budget>,
}

struct Budget {
    lines: f64,
    at: Instant,
}

impl FloodGuard {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second), places: DashMap::new() }
    }

    /// Whether one more line of this place may be written now.
    fn admits(&self, place: Identifier, now: Instant) -> bool {
        let most = self.per_second * BURST_SECONDS;
        let mut budget = self.places.entry(place).or_insert(Budget { lines: most, at: now });
        let gained = now.saturating_duration_since(budget.at).as_secs_f64() * self.per_second;
        budget.lines = (budget.lines + gained).min(most);
        budget.at = now;
        let admitted = budget.lines >= 1.0;
        if admitted {
            budget.lines -= 1.0;
        }
        admitted
    }
}

impl<S: Subscriber> Layer<S> for FloodGuard {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let admitted = *metadata.level() > Level::INFO || self.admits(metadata.callsite(), Instant::now());
        if !admitted {
            LEFT_OUT.fetch_add(1, Relaxed);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing::{Callsite, Metadata, subscriber::Interest};

    use super::*;

    struct Place;

    impl Callsite for Place {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("nobody asks")
        }
    }

    static ONE: Place = Place;

    #[test]
    fn a_place_has_a_burst_and_then_its_rate() {
        let guard = FloodGuard::new(2);
        let place = || Identifier(&ONE);
        let start = Instant::now();
        let admitted = |at: Instant| (0..100).filter(|_| guard.admits(place(), at)).count();
        assert_eq!(admitted(start), 10);
        assert_eq!(admitted(start), 0);
        assert_eq!(admitted(start + Duration::from_millis(1_500)), 3);
        assert_eq!(admitted(start + Duration::from_secs(600)), 10, "what was saved up is bounded");
        assert_eq!(admitted(start), 0, "an earlier moment gains nothing");
    }
}
