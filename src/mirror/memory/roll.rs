//! Who is known, and the indexes over them. Plain data: `now` is a parameter, nothing here locks, publishes or waits.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::{Bound, Deref},
    time::Duration,
};

use rand::seq::IteratorRandom;

use crate::{
    domain::{Fence, LastHeard, MitraFacts, MitraId, MitraRow},
    mirror::{Applied, Beat, Claimed, Entry, Refusal, Refused},
};

/// Ids in one page of [`Roll::page`].
const PAGE: usize = 500;

/// What stands of a mitra in the indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In none: offline or deactivated.
    Nowhere,
    /// Listed, with its last heartbeat.
    Listed { last_ms: u64 },
    /// Taken out as silent; the truth has not decided yet.
    Claimed { last_ms: u64, since_ms: u64 },
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// As the store says it; a claimed mitra counts as offline.
    facts: MitraFacts,
    place: Place,
}

impl Deref for Known {
    type Target = MitraFacts;

    fn deref(&self) -> &MitraFacts {
        &self.facts
    }
}

/// A set from which a run of members can be taken at a random place in no more time than its length.
#[derive(Default)]
struct Bag {
    members: Vec<MitraId>,
    places: HashMap<MitraId, usize>,
}

impl Bag {
    fn insert(&mut self, id: MitraId) {
        self.places.entry(id).or_insert_with(|| {
            self.members.push(id);
            self.members.len() - 1
        });
    }

    fn remove(&mut self, id: MitraId) {
        if let Some(place) = self.places.remove(&id) {
            self.members.swap_remove(place);
            if let Some(moved) = self.members.get(place) {
                self.places.insert(*moved, place);
            }
        }
    }

    /// Up to `limit` members, beginning at a place given by `random` and going round.
    fn run(&self, limit: usize, random: usize) -> impl Iterator<Item = MitraId> + '_ {
        let start = random.checked_rem(self.members.len()).unwrap_or(0);
        self.members[start..].iter().chain(&self.members[..start]).take(limit).copied()
    }
}

/// The mirror's content.
pub(super) struct Roll {
    suspect_ms: u64,
    known: BTreeMap<MitraId, Known>,
    online: u64,
    deactivated: u64,
    /// Listed with a fresh heartbeat, oldest first. Kept apart from `silent`, so that counting is looking at a length;
    /// each heartbeat moves from one to the other at most once.
    fresh: BTreeSet<(u64, MitraId)>,
    /// Listed without a fresh heartbeat.
    silent: BTreeSet<(u64, MitraId)>,
    /// Those of `fresh` with room.
    available: Bag,
    /// By the time of the claim.
    claimed: BTreeSet<(u64, MitraId)>,
}

impl Roll {
    pub fn new(suspect_after: Duration) -> Self {
        Self {
            suspect_ms: suspect_after.as_millis() as u64,
            known: BTreeMap::new(),
            online: 0,
            deactivated: 0,
            fresh: BTreeSet::new(),
            silent: BTreeSet::new(),
            available: Bag::default(),
            claimed: BTreeSet::new(),
        }
    }

    pub fn online(&self) -> u64 {
        self.online
    }

    pub fn deactivated(&self) -> u64 {
        self.deactivated
    }

    pub fn reachable(&self) -> u64 {
        self.fresh.len() as u64
    }

    pub fn suspect(&self) -> u64 {
        self.silent.len() as u64
    }

    pub fn available(&self) -> u64 {
        self.available.members.len() as u64
    }

    /// The earliest heartbeat that is fresh at `now_ms`.
    fn fresh_from(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.suspect_ms)
    }

    /// Brings the indexes to `now_ms`; everything that reads or writes them comes after this.
    pub fn advance(&mut self, now_ms: u64) {
        let fresh_from = self.fresh_from(now_ms);
        while let Some((last_ms, id)) = self.fresh.first().copied().filter(|(last_ms, _)| *last_ms < fresh_from) {
            self.fresh.remove(&(last_ms, id));
            self.silent.insert((last_ms, id));
            self.available.remove(id);
        }
        // Only after the clock was set back.
        while let Some((last_ms, id)) = self.silent.last().copied().filter(|(last_ms, _)| *last_ms >= fresh_from) {
            self.silent.remove(&(last_ms, id));
            self.fresh.insert((last_ms, id));
            if self.known.get(&id).is_some_and(|known| known.has_room()) {
                self.available.insert(id);
            }
        }
    }

    /// Replaces what is known of `id` and keeps indexes and counters in step. `None` forgets it.
    fn put(&mut self, id: MitraId, next: Option<Known>, now_ms: u64) {
        let before = match next {
            Some(known) => self.known.insert(id, known),
            None => self.known.remove(&id),
        };
        if let Some(before) = before {
            self.online -= u64::from(before.online);
            self.deactivated -= u64::from(!before.active);
            match before.place {
                Place::Nowhere => {}
                Place::Listed { last_ms } => {
                    if !self.fresh.remove(&(last_ms, id)) {
                        self.silent.remove(&(last_ms, id));
                    }
                }
                Place::Claimed { since_ms, .. } => drop(self.claimed.remove(&(since_ms, id))),
            }
        }
        let mut available = false;
        if let Some(known) = next {
            self.online += u64::from(known.online);
            self.deactivated += u64::from(!known.active);
            match known.place {
                Place::Nowhere => {}
                Place::Listed { last_ms } if last_ms >= self.fresh_from(now_ms) => {
                    self.fresh.insert((last_ms, id));
                    available = known.has_room();
                }
                Place::Listed { last_ms } => drop(self.silent.insert((last_ms, id))),
                Place::Claimed { since_ms, .. } => drop(self.claimed.insert((since_ms, id))),
            }
        }
        if available {
            self.available.insert(id);
        } else {
            self.available.remove(id);
        }
    }

    /// Compares by fence and applies; see [`crate::mirror::Mirror::apply`].
    pub fn apply(&mut self, row: &MitraRow, heartbeat_age: Option<Duration>, now_ms: u64) -> Applied {
        let before = self.known.get(&row.id).copied();
        let before = before.filter(|known| !is_absurd(known.fence, row.fence, now_ms));
        if let Some(newer) = before.map(|known| known.fence).filter(|known| *known > row.fence) {
            return Applied::Older { newer };
        }
        let place = if row.listed() {
            // Only forward within one go-online; a new one starts afresh.
            let known_ms =
                before.filter(|known| known.online_epoch == row.online_epoch).and_then(|known| match known.place {
                    Place::Nowhere => None,
                    Place::Listed { last_ms } | Place::Claimed { last_ms, .. } => Some(last_ms),
                });
            let vouched_ms = heartbeat_age.map(|age| now_ms.saturating_sub(age.as_millis() as u64));
            // Nobody vouches for a heartbeat: at the edge of suspicion.
            let edge_ms = self.fresh_from(now_ms).saturating_sub(1);
            Place::Listed { last_ms: known_ms.max(vouched_ms).unwrap_or(edge_ms).min(now_ms) }
        } else {
            Place::Nowhere
        };
        let next = Known { facts: row.facts, place };
        let changed = before.is_none_or(|known| known.facts != next.facts);
        self.put(row.id, Some(next), now_ms);
        if changed { Applied::Changed } else { Applied::Same }
    }

    /// Extends life, or says why not; see [`crate::mirror::Mirror::beat`].
    pub fn beat(&mut self, beat: &Beat, now_ms: u64) -> Result<(), Refusal> {
        let refusal = |why, online_epoch| Err(Refusal { id: beat.id, why, online_epoch });
        let Some(known) = self.known.get(&beat.id).copied() else { return refusal(Refused::Unknown, 0) };
        let at_ms = beat.at_ms.min(now_ms);
        let place = match known.place {
            Place::Nowhere if !known.active => return refusal(Refused::Deactivated, known.online_epoch),
            Place::Nowhere => return refusal(Refused::Offline, known.online_epoch),
            _ if known.online_epoch != beat.online_epoch => return refusal(Refused::OtherEpoch, known.online_epoch),
            // A time to come can only be left over from before the clock was set back.
            Place::Listed { last_ms } if at_ms > last_ms || last_ms > now_ms => Place::Listed { last_ms: at_ms },
            // Whoever claimed it decides; should it be put back, then with this beat.
            Place::Claimed { last_ms, since_ms } => Place::Claimed { last_ms: last_ms.max(at_ms), since_ms },
            unmoved => unmoved,
        };
        if place != known.place {
            self.put(beat.id, Some(Known { place, ..known }), now_ms);
        }
        Ok(())
    }

    /// Up to `limit` of those available, beginning at a random one.
    pub fn find(&self, limit: usize, random: usize, now_ms: u64) -> Vec<Entry> {
        self.available.run(limit, random).filter_map(|id| self.entry(id, now_ms)).collect()
    }

    /// Those without a fresh heartbeat that come after this place, the oldest silence first.
    pub fn suspects(&self, after: Option<LastHeard>) -> impl Iterator<Item = LastHeard> + '_ {
        let begin = after.map_or(Bound::Unbounded, |after| Bound::Excluded((after.at_ms, after.id)));
        self.silent.range((begin, Bound::Unbounded)).map(|(at_ms, id)| LastHeard { at_ms: *at_ms, id: *id })
    }

    pub fn entry(&self, id: MitraId, now_ms: u64) -> Option<Entry> {
        let Known { facts, place } = *self.known.get(&id)?;
        let heartbeat_age = match place {
            Place::Listed { last_ms } => Some(Duration::from_millis(now_ms.saturating_sub(last_ms))),
            Place::Nowhere | Place::Claimed { .. } => None,
        };
        Some(Entry { id, facts, heartbeat_age })
    }

    pub fn is_deactivated(&self, id: MitraId) -> bool {
        self.known.get(&id).is_some_and(|known| !known.active)
    }

    fn silent_at(&self, until_ms: u64) -> impl Iterator<Item = MitraId> + '_ {
        // All silent ones come before all fresh ones; a bound that is later than suspicion reaches into the fresh.
        let end = (Bound::Unbounded, Bound::Included((until_ms, MitraId(uuid::Uuid::max()))));
        self.silent.range(end).chain(self.fresh.range(end)).map(|(_, id)| *id)
    }

    pub fn count_silent(&self, silent_for: Duration, now_ms: u64) -> u64 {
        let Some(until_ms) = now_ms.checked_sub(silent_for.as_millis() as u64) else { return 0 };
        self.silent_at(until_ms).count() as u64
    }

    /// Takes silent ones out of the indexes, at most `limit` with those that were claimed and abandoned, at most `room`
    /// without; see [`crate::mirror::Mirror::claim_silent`].
    pub fn claim(&mut self, silent_for: Duration, limit: usize, room: usize, now_ms: u64) -> Vec<Claimed> {
        let Some(until_ms) = now_ms.checked_sub(silent_for.as_millis() as u64) else { return Vec::new() };
        let abandoned = self.claimed.range(..=(self.fresh_from(now_ms), MitraId(uuid::Uuid::max())));
        let mut chosen: Vec<MitraId> = abandoned.map(|(_, id)| *id).take(limit).collect();
        chosen.extend(self.silent_at(until_ms).sample(&mut rand::rng(), room.min(limit - chosen.len())));

        let mut claimed = Vec::with_capacity(chosen.len());
        for id in chosen {
            let Some(known) = self.known.get(&id).copied() else { continue };
            let (Place::Listed { last_ms } | Place::Claimed { last_ms, .. }) = known.place else { continue };
            let place = Place::Claimed { last_ms, since_ms: now_ms };
            self.put(id, Some(known.moved(false, place)), now_ms);
            claimed.push(Claimed { id, online_epoch: known.online_epoch, last_ms });
        }
        claimed
    }

    /// Puts one back, unless something newer was applied meanwhile.
    pub fn unclaim(&mut self, claim: &Claimed, now_ms: u64) {
        let Some(known) = self.known.get(&claim.id).copied() else { return };
        let Place::Claimed { last_ms, .. } = known.place else { return };
        if known.online_epoch == claim.online_epoch {
            let place = Place::Listed { last_ms: last_ms.max(claim.last_ms).min(now_ms) };
            self.put(claim.id, Some(known.moved(true, place)), now_ms);
        }
    }

    /// A page of ids. The cursor is the first half of the id to go on with.
    pub fn page(&self, cursor: u64) -> (u64, Vec<MitraId>) {
        let first_half = |id: &MitraId| id.0.as_u64_pair().0;
        let mut ids: Vec<MitraId> = Vec::with_capacity(PAGE);
        for (id, _) in self.known.range(MitraId(uuid::Uuid::from_u64_pair(cursor, 0))..) {
            // Never between two ids with the same first half.
            if ids.len() >= PAGE && ids.last().is_some_and(|last| first_half(last) != first_half(id)) {
                return (first_half(id), ids);
            }
            ids.push(*id);
        }
        (0, ids)
    }

    /// Forgets an id unless its fence is newer than `seen`.
    pub fn forget(&mut self, id: MitraId, seen: Fence, now_ms: u64) -> bool {
        let found = self.known.get(&id).is_some_and(|known| known.fence <= seen);
        if found {
            self.put(id, None, now_ms);
        }
        found
    }
}

/// Generations are small, or milliseconds since 1970 at the store. Clocks may differ by this much.
const GENERATION_AHEAD_MS: u64 = 600_000;

/// Whether the generation of `known` can be no store's: newer than the store's own, and than any that
/// could be given now.
fn is_absurd(known: Fence, own: Fence, now_ms: u64) -> bool {
    let latest = i64::try_from(now_ms + GENERATION_AHEAD_MS).unwrap_or(i64::MAX);
    known.generation > own.generation.max(latest)
}

impl Known {
    /// The same mitra in another place, and listed or not by a claim.
    fn moved(self, online: bool, place: Place) -> Self {
        Self { facts: MitraFacts { online, ..self.facts }, place }
    }
}
