//! When sockets want to be woken: one coarse wheel for the node, and no timer of their own.
//!
//! A session says when its next moment is; that is one relaxed store, because nearly every moment only moves to later. The
//! wheel looks at a socket where it is listed, and a moment that has moved meanwhile lists it anew without waking its task. Only
//! a moment that moves to earlier takes the wheel's lock. What the moment is for is the session's business.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;

use super::Connection;

/// How late a moment may be noticed, beyond the load of the machine.
pub const TURN: Duration = Duration::from_millis(TURN_MS);
const TURN_MS: u64 = 50;
/// Turns ahead that a socket can be listed in, 25.6 s; what is further away is looked at then and listed anew.
const TURNS: u64 = 512;

/// No moment is awaited.
pub(super) const NEVER: u64 = u64::MAX;
/// Listed nowhere.
pub(super) const UNLISTED: u64 = u64::MAX;

/// The node's wheel.
pub(super) struct Moments(Mutex<Wheel>);

struct Wheel {
    /// The last turn that was walked.
    walked: u64,
    slots: Box<[Vec<Arc<Connection>>]>,
}

impl Moments {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Wheel { walked: 0, slots: (0..TURNS).map(|_| Vec::new()).collect() }))
    }

    /// The socket's next moment. Only its session calls this, so that nobody else moves it meanwhile.
    pub(super) fn wake_at(&self, connection: &Arc<Connection>, due_ms: u64) {
        let before = connection.due_ms.load(Relaxed);
        connection.due_ms.store(due_ms, Relaxed);
        // Whoever is listed is looked at no later than the moment that it was listed for.
        if due_ms < before || connection.listed.load(Relaxed) == UNLISTED {
            self.0.lock().list(connection, due_ms);
        }
    }

    /// Walks the turns up to `now_ms` and wakes the sockets whose moment has come.
    pub(super) fn walk(&self, now_ms: u64) {
        let mut due = Vec::new();
        // A lock per turn: after a long pause of the process there are many.
        while self.0.lock().walk_one(now_ms, &mut due) {}
        due.iter().for_each(|connection| connection.wake());
    }
}

impl Wheel {
    fn slot(&mut self, turn: u64) -> &mut Vec<Arc<Connection>> {
        &mut self.slots[(turn % TURNS) as usize]
    }

    /// Under the lock, as all writing of `listed`: a walk and a session never miss each other's.
    fn list(&mut self, connection: &Arc<Connection>, due_ms: u64) {
        let turn = due_ms.div_ceil(TURN_MS).clamp(self.walked + 1, self.walked + TURNS - 1);
        // What is listed for later stays there, and is recognised as outdated when its turn comes.
        if turn < connection.listed.load(Relaxed) {
            connection.listed.store(turn, Relaxed);
            self.slot(turn).push(Arc::clone(connection));
        }
    }

    /// Returns whether there was a turn to walk.
    fn walk_one(&mut self, now_ms: u64, due: &mut Vec<Arc<Connection>>) -> bool {
        let turn = self.walked + 1;
        if turn > now_ms / TURN_MS {
            return false;
        }
        self.walked = turn;
        for connection in std::mem::take(self.slot(turn)) {
            if connection.listed.load(Relaxed) != turn {
                continue;
            }
            connection.listed.store(UNLISTED, Relaxed);
            match connection.due_ms.load(Relaxed) {
                NEVER => {}
                due_ms if due_ms <= now_ms => due.push(connection),
                due_ms => self.list(&connection, due_ms),
            }
        }
        true
    }
}
