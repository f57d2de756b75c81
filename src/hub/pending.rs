//! Heartbeats that wait for the next flush: each mitra once, however often it beats.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Seat;

/// Lists that beats are spread over by mitra, so that no lock is shared by all sockets. A power of two.
const SHARDS: usize = 16;

/// One mitra's newest heartbeat.
pub struct PendingBeat {
    pub seat: Arc<Seat>,
    /// When it was heard, in the hub's milliseconds.
    pub at_ms: u64,
}

impl PendingBeat {
    /// The last heartbeat of a seat once more; `None` when it never beat.
    pub fn again(seat: Arc<Seat>) -> Option<Self> {
        let at_ms = seat.beat_ms();
        (at_ms > 0).then_some(Self { seat, at_ms })
    }
}

/// Bounded by the number of seats: the flag on a seat keeps it from being listed twice.
pub(super) struct Pending {
    shards: [Mutex<Vec<Arc<Seat>>>; SHARDS],
}

impl Pending {
    pub(super) fn new() -> Self {
        Self { shards: Default::default() }
    }

    /// A heartbeat is in this flush or in the next, never in neither: see [`super::last_heartbeat`].
    pub(super) fn mark(&self, seat: &Arc<Seat>, now_ms: u64) {
        if seat.heartbeat.hear(now_ms) {
            let shard = seat.id().0.as_u128() as usize & (SHARDS - 1);
            self.shards[shard].lock().push(Arc::clone(seat));
        }
    }

    pub(super) fn take(&self, into: &mut Vec<PendingBeat>) {
        for shard in &self.shards {
            let mut listed = shard.lock();
            into.reserve(listed.len());
            for seat in listed.drain(..) {
                let at_ms = seat.heartbeat.take_for_mirror();
                into.push(PendingBeat { seat, at_ms });
            }
        }
    }
}
