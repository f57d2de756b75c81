//! Mitras by last heartbeat, counted by freshness without walking them, and drawn from at random.

use std::collections::{BTreeSet, HashMap};

use crate::domain::MitraId;

/// Members by score, split at a cutoff that only moves forward with time. Each member crosses it once per heartbeat at
/// most, so counting costs O(log n) amortised, whatever the number of members.
#[derive(Default)]
pub(super) struct Index {
    fresh: BTreeSet<(u64, MitraId)>,
    rest: BTreeSet<(u64, MitraId)>,
    /// The fresh ones again, by place: a random place is a fair draw, a random score would favour who follows a gap.
    urn: Vec<MitraId>,
    places: HashMap<MitraId, usize>,
    cutoff: u64,
}

impl Index {
    pub(super) fn insert(&mut self, score: u64, id: MitraId) {
        if score >= self.cutoff {
            self.fresh.insert((score, id));
            self.places.insert(id, self.urn.len());
            self.urn.push(id);
        } else {
            self.rest.insert((score, id));
        }
    }

    pub(super) fn remove(&mut self, score: u64, id: MitraId) {
        if self.fresh.remove(&(score, id)) {
            self.take_from_urn(id);
        } else {
            self.rest.remove(&(score, id));
        }
    }

    fn take_from_urn(&mut self, id: MitraId) {
        if let Some(place) = self.places.remove(&id) {
            self.urn.swap_remove(place);
            if let Some(moved) = self.urn.get(place) {
                self.places.insert(*moved, place);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.rest.len()
    }

    /// Members with a score of at least `cutoff`.
    pub(super) fn count_from(&mut self, cutoff: u64) -> usize {
        while let Some(&(score, id)) = self.fresh.first()
            && score < cutoff
        {
            self.remove(score, id);
            self.rest.insert((score, id));
        }
        self.cutoff = cutoff;
        // Only after a clock that stepped back is anybody to be freed here.
        while let Some(&(score, id)) = self.rest.last()
            && score >= cutoff
        {
            self.rest.remove(&(score, id));
            self.insert(score, id);
        }
        self.fresh.len()
    }

    /// Fresh members by the last cutoff, from a place in the urn, wrapping around; each once.
    pub(super) fn draw(&self, place: usize) -> impl Iterator<Item = MitraId> {
        let (before, from) = self.urn.split_at(place.min(self.urn.len()));
        from.iter().chain(before).copied()
    }

    /// Members in order of score up to and including `until`.
    pub(super) fn until(&self, until: u64) -> impl Iterator<Item = &(u64, MitraId)> {
        let end = (until, MitraId(uuid::Uuid::max()));
        self.rest.range(..=end).chain(self.fresh.range(..=end))
    }
}
