//! Deduplicates change notifications: the newest fence per mitra that this node has already propagated, and the mitras
//! that it is writing now.

use std::{
    collections::HashMap,
    mem,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

use parking_lot::Mutex;

use crate::domain::{Fence, MitraId};

/// Fences in two generations that are forgotten in turn, and writes under way.
#[derive(Default)]
pub(super) struct RecentRevisions {
    halves: Mutex<[HashMap<MitraId, Fence>; 2]>,
    /// The newest generation of the store that was met.
    generation: AtomicI64,
    /// Writes of this node that are not carried on yet, counted.
    writing: Mutex<HashMap<MitraId, u32>>,
}

/// While it lives, the change feed leaves these mitras to the writer.
pub(crate) struct Writing<'a> {
    recent: &'a RecentRevisions,
    ids: Vec<MitraId>,
}

impl RecentRevisions {
    /// Above this the older half is forgotten early; what is not known is only looked at once more.
    const MOST: usize = 50_000;

    pub(super) fn remember(&self, id: MitraId, fence: Fence) {
        let mut halves = self.halves.lock();
        // Revisions begin anew with a generation, and notifications name revisions only: fences of one
        // generation are held, the newest that was met.
        let newest_generation = self.generation.fetch_max(fence.generation, Relaxed);
        if newest_generation > fence.generation {
            return;
        }
        if newest_generation < fence.generation {
            *halves = Default::default();
        }
        let newest = halves[0].entry(id).or_default();
        *newest = fence.max(*newest);
        if halves[0].len() > Self::MOST {
            Self::turn(&mut halves);
        }
    }

    pub(super) fn covers(&self, id: MitraId, revision: i64) -> bool {
        self.halves.lock().iter().any(|half| half.get(&id).is_some_and(|fence| fence.revision >= revision))
    }

    /// Whether this fence, or a newer one, was propagated here.
    pub(super) fn knows(&self, id: MitraId, fence: Fence) -> bool {
        self.halves.lock().iter().any(|half| half.get(&id).is_some_and(|known| *known >= fence))
    }

    pub(super) fn forget_older(&self) {
        Self::turn(&mut self.halves.lock());
    }

    fn turn(halves: &mut [HashMap<MitraId, Fence>; 2]) {
        halves[1] = mem::take(&mut halves[0]);
    }

    /// This node is about to write these mitras, and carries them on itself. Held until it has, or has failed.
    pub(super) fn writing(&self, ids: Vec<MitraId>) -> Writing<'_> {
        let mut writing = self.writing.lock();
        ids.iter().for_each(|id| *writing.entry(*id).or_default() += 1);
        Writing { recent: self, ids }
    }

    pub(super) fn is_written_here(&self, id: MitraId) -> bool {
        self.writing.lock().contains_key(&id)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut writing = self.recent.writing.lock();
        for id in &self.ids {
            if let Some(writes) = writing.get_mut(id) {
                *writes -= 1;
                if *writes == 0 {
                    writing.remove(id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn what_is_known_is_forgotten_after_two_turns() {
        let known = RecentRevisions::default();
        let id = MitraId(Uuid::from_u128(1));
        known.remember(id, Fence { generation: 1, revision: 5 });
        assert!(known.covers(id, 5) && known.covers(id, 4) && !known.covers(id, 6));
        known.forget_older();
        assert!(known.covers(id, 5));
        known.forget_older();
        assert!(!known.covers(id, 5));
    }

    #[test]
    fn nothing_of_an_older_generation_is_known() {
        let known = RecentRevisions::default();
        let (id, other) = (MitraId(Uuid::from_u128(1)), MitraId(Uuid::from_u128(2)));
        known.remember(id, Fence { generation: 1, revision: 900 });
        known.remember(other, Fence { generation: 2, revision: 3 });
        assert!(!known.covers(id, 4), "a bell of the new generation");
        assert!(known.covers(other, 3));
    }

    #[test]
    fn a_late_fence_of_an_older_generation_is_not_remembered() {
        let known = RecentRevisions::default();
        let id = MitraId(Uuid::from_u128(1));
        known.remember(id, Fence { generation: 2, revision: 3 });
        known.remember(id, Fence { generation: 1, revision: 900 });
        assert!(known.covers(id, 3));
        assert!(!known.covers(id, 4), "a notification of the newer generation");
    }

    #[test]
    fn a_mitra_is_written_here_until_the_last_writer_is_done() {
        let known = RecentRevisions::default();
        let id = MitraId(Uuid::from_u128(1));
        let (one, other) = (known.writing(vec![id]), known.writing(vec![id]));
        drop(one);
        assert!(known.is_written_here(id));
        drop(other);
        assert!(!known.is_written_here(id));
    }
}
