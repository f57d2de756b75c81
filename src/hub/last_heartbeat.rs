//! The newest heartbeat of a mitra, and whether it waits for the mirror and for the store. Lock-free.
//!
//! Two threads meet here: a socket that heard a heartbeat, and a flush that takes it. A flag is only
//! ever swapped, by both. Swaps of one flag follow one another, and each sees what came before the
//! one it follows: either the flush sees the time, or the socket sees that it has to list the mitra
//! again. With a plain load or store in place of a swap, a processor may let both see what was before
//! (a store buffer), and the heartbeat waits for the next one.
//!
//! `tests/it/memory_model.rs` compiles this file against loom, which tries every order: it may use
//! `super::atomic` and nothing else.

use super::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

/// When a mitra was heard last, and who still has to be told.
pub struct LastHeartbeat {
    at_ms: AtomicU64,
    for_mirror: AtomicBool,
    for_store: AtomicBool,
}

impl LastHeartbeat {
    /// None yet.
    pub fn new() -> Self {
        Self { at_ms: AtomicU64::new(0), for_mirror: AtomicBool::new(false), for_store: AtomicBool::new(false) }
    }

    /// The last heartbeat in the hub's milliseconds; 0 when there was none.
    pub fn at_ms(&self) -> u64 {
        self.at_ms.load(Relaxed)
    }

    /// A heartbeat was heard. Returns whether the caller has to list the mitra for the next flush.
    pub fn hear(&self, now_ms: u64) -> bool {
        self.at_ms.fetch_max(now_ms, Relaxed);
        !self.for_mirror.swap(true, AcqRel)
    }

    /// The newest heartbeat, for the mirror; what is heard from now on is for the next flush.
    pub fn take_for_mirror(&self) -> u64 {
        self.for_mirror.swap(false, AcqRel);
        self.at_ms()
    }

    /// The newest heartbeat has to go to the store. Returns whether the caller has to list the mitra.
    pub fn owe_to_store(&self) -> bool {
        !self.for_store.swap(true, AcqRel)
    }

    /// The newest heartbeat, for the store; 0 when there was none.
    pub fn take_for_store(&self) -> u64 {
        self.for_store.swap(false, AcqRel);
        self.at_ms()
    }

    /// Whether a heartbeat waits, for the mirror or for the store.
    pub fn is_waiting(&self) -> bool {
        self.for_mirror.load(Relaxed) || self.for_store.load(Relaxed)
    }
}
