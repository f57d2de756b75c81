//! Rate limits: a token bucket for messages and bytes, and an error budget for bad messages.

/// A token bucket: `per_second` tokens flow in, `burst` of them are held.
pub(super) struct TokenBucket {
    per_second: u64,
    burst: u64,
    /// Thousandths of a token.
    level: u64,
    filled_ms: u64,
    warned: bool,
}

/// What to do with what was taken from a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Within the limit.
    Allow,
    /// Beyond it for the first time: refuse, and say so.
    Warn,
    /// It goes on: close.
    Close,
}

impl TokenBucket {
    pub(super) fn new(per_second: u32, burst: u32, now_ms: u64) -> Self {
        let burst = u64::from(burst);
        Self { per_second: per_second.into(), burst, level: burst * 1_000, filled_ms: now_ms, warned: false }
    }

    /// Takes this many tokens. After a warning, half a burst more beyond the rate closes.
    pub(super) fn take(&mut self, tokens: u64, now_ms: u64) -> Verdict {
        let full = self.burst * 1_000;
        // A minute fills every bucket.
        let passed = now_ms.saturating_sub(self.filled_ms).min(60_000);
        self.filled_ms = now_ms;
        self.level = (self.level + passed * self.per_second).min(full);
        let cost = tokens * 1_000;
        if self.level >= cost {
            self.level -= cost;
            if self.level >= full / 2 {
                self.warned = false;
            }
            return Verdict::Allow;
        }
        if self.warned {
            return Verdict::Close;
        }
        self.warned = true;
        self.level = full / 2;
        Verdict::Warn
    }
}

/// Counts bad messages within a minute.
pub(super) struct ErrorBudget {
    limit: u32,
    bad: u32,
    since_ms: u64,
}

impl ErrorBudget {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, bad: 0, since_ms: 0 }
    }

    /// One more bad message; true when the budget is spent.
    pub(super) fn bad_message(&mut self, now_ms: u64) -> bool {
        if now_ms.saturating_sub(self.since_ms) > 60_000 {
            self.bad = 0;
            self.since_ms = now_ms;
        }
        self.bad += 1;
        self.bad >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_a_flood_is_warned_and_then_closed() {
        let mut bucket = TokenBucket::new(20, 40, 0);
        let mut verdicts: Vec<Verdict> = (0..100).map(|_| bucket.take(1, 0)).collect();
        assert!(verdicts[..40].iter().all(|verdict| *verdict == Verdict::Allow));
        assert_eq!(verdicts[40], Verdict::Warn);
        verdicts.dedup();
        assert_eq!(verdicts, [Verdict::Allow, Verdict::Warn, Verdict::Allow, Verdict::Close]);
    }

    #[test]
    fn the_rate_itself_may_go_on_for_ever() {
        let mut bucket = TokenBucket::new(20, 40, 0);
        assert!((0..10_000u64).all(|n| bucket.take(1, n * 50) == Verdict::Allow));
    }

    #[test]
    fn more_than_the_burst_at_once_is_a_warning_whatever_was_saved() {
        let mut bucket = TokenBucket::new(65_536, 65_536, 0);
        assert_eq!(bucket.take(70_000, 1_000_000), Verdict::Warn);
    }

    #[test]
    fn the_tenth_bad_message_in_a_minute_spends_the_budget() {
        let mut budget = ErrorBudget::new(10);
        assert_eq!((1..=10).map(|_| budget.bad_message(1)).position(|spent| spent), Some(9));
        let mut slow = ErrorBudget::new(10);
        assert!((0..50u64).all(|n| !slow.bad_message(n * 7_000)));
    }
}
