//! The score of [`Caution`]: what this sweep may still take, and for how long it has been held back.

use std::time::Duration;

use crate::mirror::{Caution, Restraint};

/// What a sweep is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Census {
    pub listed: u64,
    pub fresh: u64,
    pub silent: u64,
}

#[derive(Debug, Default)]
pub(super) struct Brake {
    sweep_began_ms: Option<u64>,
    room: u64,
    braked_since_ms: Option<u64>,
    doubted_since_ms: Option<u64>,
}

impl Brake {
    /// How many may be taken now, and what holds back the others.
    pub fn judge(&mut self, census: Census, caution: &Caution, now_ms: u64) -> (u64, Option<(Restraint, Duration)>) {
        let release_ms = caution.release_after.as_millis() as u64;
        let doubtful = census.listed >= u64::from(caution.doubted_from) && census.fresh * 2 < census.listed;
        let doubted = lasted(&mut self.doubted_since_ms, doubtful, now_ms);
        if let Some(lasted_ms) = doubted.filter(|lasted_ms| *lasted_ms < release_ms) {
            return (0, Some((Restraint::Doubt, Duration::from_millis(lasted_ms))));
        }
        let sweep_ms = caution.sweep.as_millis() as u64;
        if self.sweep_began_ms.is_none_or(|began| now_ms.saturating_sub(began) >= sweep_ms || began > now_ms) {
            self.sweep_began_ms = Some(now_ms);
            let share = (census.listed * u64::from(caution.share_percent)).div_ceil(100);
            self.room = share.max(caution.at_least.into());
        }
        match lasted(&mut self.braked_since_ms, census.silent > self.room, now_ms) {
            Some(lasted_ms) if lasted_ms < release_ms => {
                (self.room, Some((Restraint::Brake, Duration::from_millis(lasted_ms))))
            }
            Some(_) => {
                self.room = census.silent;
                (self.room, None)
            }
            None => (self.room, None),
        }
    }

    /// So many were taken.
    pub fn taken(&mut self, taken: u64) {
        self.room = self.room.saturating_sub(taken);
    }
}

/// For how long something has held; forgets when it began as soon as it does not.
fn lasted(since: &mut Option<u64>, holds: bool, now_ms: u64) -> Option<u64> {
    // A beginning that is still to come can only be left over from before the clock was set back.
    *since = holds.then(|| since.map_or(now_ms, |since| since.min(now_ms)));
    since.map(|since| now_ms - since)
}
