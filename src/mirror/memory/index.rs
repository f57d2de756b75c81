//! Mitras by last heartbeat, counted by freshness without walking them.

use std::collections::BTreeSet;

use crate::domain::MitraId;

/// Members by score, split at a cutoff that only moves forward with time. Each member crosses it once per heartbeat at
/// most, so counting costs O(log n) amortised, whatever the number of members.
#[derive(Default)]
pub(super) struct Index {
    fresh: BTreeSet<(u64, MitraId)>,
    rest: BTreeSet<(u64, MitraId)>,
    cutoff: u64,
}

impl Index {
    pub(super) fn insert(&mut self, score: u64, id: MitraId) {
        if score >= self.cutoff {
            self.fresh.insert((score, id))
        } else {
            self.rest.insert((score, id))
        };
    }

    pub(super) fn remove(&mut self, score: u64, id: MitraId) {
        if !self.fresh.remove(&(score, id)) {
            self.rest.remove(&(score, id));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.rest.len()
    }

    /// Members with a score of at least `cutoff`.
    pub(super) fn count_from(&mut self, cutoff: u64) -> usize {
        if cutoff > self.cutoff {
            let newer = self.fresh.split_off(&(cutoff, MitraId(uuid::Uuid::nil())));
            self.rest.append(&mut std::mem::replace(&mut self.fresh, newer));
        } else if cutoff < self.cutoff {
            // A clock that stepped back: rare, and worth a walk over what it frees.
            let mut freed = self.rest.split_off(&(cutoff, MitraId(uuid::Uuid::nil())));
            self.fresh.append(&mut freed);
        }
        self.cutoff = cutoff;
        self.fresh.len()
    }

    /// Fresh members by the last cutoff, in order of score.
    pub(super) fn fresh(&self) -> impl DoubleEndedIterator<Item = &(u64, MitraId)> {
        self.fresh.iter()
    }

    /// Fresh members from a place in the order, wrapping around.
    pub(super) fn fresh_from(&self, place: (u64, MitraId)) -> impl Iterator<Item = &(u64, MitraId)> {
        self.fresh.range(place..).chain(self.fresh.range(..place))
    }

    /// Members in order of score up to and including `until`.
    pub(super) fn until(&self, until: u64) -> impl Iterator<Item = &(u64, MitraId)> {
        let end = (until, MitraId(uuid::Uuid::max()));
        self.rest.range(..=end).chain(self.fresh.range(..=end))
    }
}
