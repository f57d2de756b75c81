//! Heartbeats that wait to be flushed, and the wheel that wakes sockets.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{Connection, Hub, PendingBeat, Seat};
use crate::domain::MitraId;

/// A node that did not turn its wheel for so long was frozen or starved.
pub(super) const FROZEN: Duration = Duration::from_secs(1);

impl Hub {
    /// A heartbeat: any frame of an authenticated mitra socket, at `now_ms`. Allocates nothing and waits for nothing.
    pub fn beat(&self, connection: &Connection, now_ms: u64) {
        connection.heard(now_ms);
        if let Some(seat) = connection.seat() {
            self.pending.mark(seat, now_ms);
        }
    }

    /// A heartbeat that came by REST; joins the same batch. `online_epoch` as the caller last read it.
    pub fn beat_detached(&self, id: MitraId, online_epoch: i64, now_ms: u64) {
        let held = self.seats.get(&id).map(|seat| Arc::clone(&seat));
        // The same one however often it beats: its marks keep it from waiting twice.
        let seat =
            held.unwrap_or_else(|| Arc::clone(&self.detached.entry(id).or_insert_with(|| Arc::new(Seat::new(id)))));
        seat.learn_epoch(online_epoch);
        self.pending.mark(&seat, now_ms);
    }

    /// Lets go of mitras without a socket whose heartbeats wait for nothing any more.
    pub fn forget_detached(&self) {
        self.detached.retain(|_, seat| seat.is_waiting());
    }

    /// Wakes the sockets whose moment has come; called once per [`TURN`].
    pub fn wake_due(&self) {
        let now = self.now_ms();
        let before = self.woke_ms.swap(now, Relaxed);
        if before > 0 && now.saturating_sub(before) > FROZEN.as_millis() as u64 {
            self.thawed_ms.store(now, Relaxed);
        }
        self.moments.walk(now);
    }

    /// When this node last came to itself after it was frozen or starved; 0 when it never was. What it did not hear before
    /// then is no silence of anybody.
    pub fn thawed_ms(&self) -> u64 {
        self.thawed_ms.load(Relaxed)
    }

    /// Takes every pending heartbeat, into a list that the caller keeps for the next time.
    pub fn take_pending(&self, into: &mut Vec<PendingBeat>) {
        self.pending.take(into);
    }

    /// Puts back heartbeats that could not be delivered; a newer beat of the same mitra wins.
    pub fn put_back(&self, beats: &mut Vec<PendingBeat>) {
        for beat in beats.drain(..) {
            self.pending.mark(&beat.seat, beat.at_ms);
        }
    }

    /// The mitras with a socket on this node and the time of their last beat, for re-assertion.
    pub fn seats(&self) -> Vec<Arc<Seat>> {
        self.seats.iter().map(|seat| Arc::clone(&seat)).collect()
    }

    /// The seat of a mitra with a socket here.
    pub fn seat_of(&self, id: MitraId) -> Option<Arc<Seat>> {
        self.seats.get(&id).map(|seat| Arc::clone(&seat))
    }
}
