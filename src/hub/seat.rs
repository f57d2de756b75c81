//! One mitra on this node: what the node believes about it and when it was last heard, over all its sockets here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::last_heartbeat::LastHeartbeat;
use crate::domain::{MitraFacts, MitraId, StatusChange, StatusReason};

/// What this node last learned about a mitra.
pub type Belief = Option<Arc<StatusChange>>;

/// One mitra on this node.
pub struct Seat {
    id: MitraId,
    /// Live registrations; changed only under the hub's map entry.
    sockets: AtomicU32,
    /// The go-online that this node's heartbeats belong to; 0 until it is known.
    online_epoch: AtomicI64,
    pub(super) heartbeat: LastHeartbeat,
    /// Counts changes of the belief, so that a socket knows whether it has told its client.
    version: AtomicU32,
    belief: Mutex<Belief>,
}

impl Seat {
    pub(super) fn new(id: MitraId) -> Self {
        Self {
            id,
            sockets: AtomicU32::new(0),
            online_epoch: AtomicI64::new(0),
            heartbeat: LastHeartbeat::new(),
            version: AtomicU32::new(0),
            belief: Mutex::new(None),
        }
    }

    /// Whose seat this is.
    pub fn id(&self) -> MitraId {
        self.id
    }

    pub(super) fn join(&self) {
        self.sockets.fetch_add(1, Relaxed);
    }

    /// Returns how many sockets are left.
    pub(super) fn leave(&self) -> u32 {
        self.sockets.fetch_sub(1, Relaxed) - 1
    }

    /// The last heartbeat in the hub's milliseconds; 0 when there was none.
    pub fn beat_ms(&self) -> u64 {
        self.heartbeat.at_ms()
    }

    /// Age of the last heartbeat; `None` when there was none.
    pub fn beat_age(&self, now_ms: u64) -> Option<Duration> {
        age(self.beat_ms(), now_ms)
    }

    /// The go-online that heartbeats are sent for.
    pub fn online_epoch(&self) -> i64 {
        self.online_epoch.load(Relaxed)
    }

    /// Heartbeats are sent for this go-online from now on, if it is a later one.
    pub fn learn_epoch(&self, online_epoch: i64) {
        self.online_epoch.fetch_max(online_epoch, Relaxed);
    }

    /// Takes over what is true now, unless something newer is known. Returns whether there is news for the sockets.
    pub fn learn(&self, change: &StatusChange) -> bool {
        let mut belief = self.belief.lock();
        let mut change = change.clone();
        if let Some(known) = belief.as_deref() {
            if known.fence > change.fence || known.facts == change.facts {
                return false;
            }
            // Whoever wrote it, and however we heard of it: where nothing but the load moved, a session did.
            let other_load = MitraFacts { sessions: change.sessions, fence: change.fence, ..known.facts };
            if change.facts == other_load && change.sessions != known.sessions {
                change.reason = StatusReason::Session;
            }
        }
        // Stored, not raised: a restored store may number its go-onlines lower, and its fence has just won.
        self.online_epoch.store(change.online_epoch, Relaxed);
        *belief = Some(Arc::new(change));
        self.version.fetch_add(1, Relaxed);
        true
    }

    /// What this node believes.
    pub fn belief(&self) -> Belief {
        self.belief.lock().clone()
    }

    /// Rises with each change of the belief; read it before the belief.
    pub fn version(&self) -> u32 {
        self.version.load(Relaxed)
    }

    /// The store has not seen the newest heartbeat. Returns whether the caller has to list this mitra.
    pub fn owe_to_store(&self) -> bool {
        self.heartbeat.owe_to_store()
    }

    /// Whether a heartbeat waits, for the next flush or for the store.
    pub(super) fn is_waiting(&self) -> bool {
        self.heartbeat.is_waiting()
    }

    /// Age of the last heartbeat, which the store is about to see; `None` when there was none.
    pub fn take_for_store(&self, now_ms: u64) -> Option<Duration> {
        age(self.heartbeat.take_for_store(), now_ms)
    }
}

fn age(at_ms: u64, now_ms: u64) -> Option<Duration> {
    (at_ms > 0).then(|| Duration::from_millis(now_ms.saturating_sub(at_ms)))
}
