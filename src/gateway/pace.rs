//! How fast a client may talk, and how often it may talk nonsense.

/// A token bucket in thousandths of a message; holds two seconds' worth.
pub(super) struct Bucket {
    per_second: u32,
    level: u32,
    filled_ms: u64,
    warned: bool,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Take it.
    Fine,
    /// Refuse it, and say so.
    Warn,
    /// It goes on: close.
    Close,
}

impl Bucket {
    pub(super) fn new(per_second: u32, now_ms: u64) -> Self {
        Self { per_second, level: Self::full(per_second), filled_ms: now_ms, warned: false }
    }

    fn full(per_second: u32) -> u32 {
        per_second.saturating_mul(2_000)
    }

    /// One more message. After a warning another bucketful beyond the rate closes.
    pub(super) fn message(&mut self, now_ms: u64) -> Pace {
        let passed = now_ms.saturating_sub(self.filled_ms).min(2_000) as u32;
        self.filled_ms = now_ms;
        self.level = self.level.saturating_add(passed.saturating_mul(self.per_second)).min(Self::full(self.per_second));
        if self.level >= 1_000 {
            self.level -= 1_000;
            if self.level >= Self::full(self.per_second) / 2 {
                self.warned = false;
            }
            return Pace::Fine;
        }
        if self.warned {
            return Pace::Close;
        }
        self.warned = true;
        self.level = Self::full(self.per_second) / 2;
        Pace::Warn
    }
}

/// Counts bad messages within a minute.
pub(super) struct Patience {
    limit: u32,
    bad: u32,
    since_ms: u64,
}

impl Patience {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, bad: 0, since_ms: 0 }
    }

    /// One more bad message; true when it is the last that is borne.
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
    fn a_burst_is_borne_a_flood_is_warned_of_and_then_closed() {
        let mut bucket = Bucket::new(20, 0);
        let mut paces: Vec<Pace> = (0..100).map(|_| bucket.message(0)).collect();
        assert!(paces[..40].iter().all(|pace| *pace == Pace::Fine));
        assert_eq!(paces[40], Pace::Warn);
        paces.dedup();
        assert_eq!(paces, [Pace::Fine, Pace::Warn, Pace::Fine, Pace::Close]);
    }

    #[test]
    fn the_rate_itself_may_go_on_for_ever() {
        let mut bucket = Bucket::new(20, 0);
        assert!((0..10_000u64).all(|n| bucket.message(n * 50) == Pace::Fine));
    }

    #[test]
    fn the_tenth_bad_message_in_a_minute_is_the_last() {
        let mut patience = Patience::new(10);
        assert_eq!((1..=10).map(|_| patience.bad_message(1)).position(|last| last), Some(9));
        let mut slow = Patience::new(10);
        assert!((0..50u64).all(|n| !slow.bad_message(n * 7_000)));
    }
}
