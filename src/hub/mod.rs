//! This node's live state: who is here, whose heartbeats wait to be flushed, when sockets are to be woken, the newest
//! snapshot, orders to close.
//!
//! The hub never awaits and never does IO, so that nothing on the ping path can wait for a store. It decides nothing about
//! presence: `gateway` registers sockets and reports what they say, `presence` takes the pending heartbeats and tells
//! what is true. A ping costs a clock read and two atomic operations, plus a push to a list once per flush.
//!
//! Architecture invariant: no method here blocks on anything but a short, uncontended lock, and no guard leaves it.

mod connection;
mod frames;
mod heartbeats;
mod last_heartbeat;
mod moments;
mod news;
mod orders;
mod pending;
mod seat;

/// What [`last_heartbeat`] uses; the test of its memory model has another.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use dashmap::{DashMap, mapref::entry::Entry};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

pub use connection::{Connection, Place, Registration};
pub use frames::Published;
pub use moments::TURN;
pub use news::{AvailabilityNews, DashboardNews};
pub use pending::PendingBeat;
pub use seat::{Belief, Seat};

use crate::{
    domain::{MitraId, Role, SocketCounts, SubjectId},
    protocol::{Close, ErrorCode},
};
use moments::Moments;
use pending::Pending;

/// How many sockets one subject, and all subjects together, may hold on this node.
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    pub sockets_per_mitra: usize,
    pub sockets_per_customer: usize,
    /// Of one service or dashboard subject.
    pub sockets_per_operator: usize,
    pub sockets: u64,
}

/// Who a socket belongs to; from its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub subject: SubjectId,
    pub role: Role,
    /// The sign-in (`sid`) the token stands on.
    pub session: Option<Uuid>,
}

/// A socket that may not be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// This subject holds as many sockets as it may on this node.
    #[error("too many sockets of this subject on this node")]
    TooManySockets,
    /// The node holds as many sockets as it may.
    #[error("this node holds as many sockets as it may")]
    NodeFull,
}

impl RegisterError {
    /// The word for it on the wire.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::TooManySockets => ErrorCode::TooManySockets,
            Self::NodeFull => ErrorCode::Overloaded,
        }
    }
}

/// This node's live state. Shared as `Arc<Hub>`.
pub struct Hub {
    started: Instant,
    limits: HubLimits,
    seats: DashMap<MitraId, Arc<Seat>>,
    /// Of mitras that beat by REST and have no socket here, while a heartbeat of theirs waits.
    detached: DashMap<MitraId, Arc<Seat>>,
    holders: DashMap<SubjectId, Vec<Arc<Connection>>>,
    sockets: [AtomicU64; 4],
    /// Places that are taken: registered sockets, and those that have not authenticated yet.
    occupied: AtomicU64,
    pending: Pending,
    moments: Moments,
    woke_ms: AtomicU64,
    thawed_ms: AtomicU64,
    availability: watch::Sender<Option<Arc<AvailabilityNews>>>,
    dashboard: watch::Sender<Option<Arc<DashboardNews>>>,
    /// 0 until this node is leaving.
    drain_ms: AtomicU64,
    drain_begins: Notify,
}

impl Hub {
    /// An empty hub.
    pub fn new(limits: HubLimits) -> Self {
        Self {
            started: Instant::now(),
            limits,
            seats: DashMap::new(),
            detached: DashMap::new(),
            holders: DashMap::new(),
            sockets: Default::default(),
            occupied: AtomicU64::new(0),
            pending: Pending::new(),
            moments: Moments::new(),
            woke_ms: AtomicU64::new(0),
            thawed_ms: AtomicU64::new(0),
            availability: watch::Sender::new(None),
            dashboard: watch::Sender::new(None),
            drain_ms: AtomicU64::new(0),
            drain_begins: Notify::new(),
        }
    }

    /// This node's monotonic milliseconds; every time inside the hub is of this clock. Starts at 1, so that 0 can mean
    /// "never".
    pub fn now_ms(&self) -> u64 {
        // Fits for 500 million years.
        self.started.elapsed().as_millis() as u64 + 1
    }

    /// The beginning of this node's clock: [`Hub::now_ms`] is the time since then, plus one.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Registers an authenticated socket before its sign-in is checked in the store, so that no kick slips between. The
    /// socket leaves when the registration is dropped.
    ///
    /// # Errors
    /// [`RegisterError`] when a customer, or the node, holds as many sockets as it may.
    pub fn register(self: &Arc<Self>, holder: Holder) -> Result<Registration, RegisterError> {
        let role = role_index(holder.role);
        // Taken before anything else is decided: two sockets must not both find the last place free.
        let place = self.take_place().ok_or(RegisterError::NodeFull)?;
        let seat = (holder.role == Role::Mitra).then(|| self.seat(MitraId(holder.subject.0)));
        let connection = Arc::new(Connection::new(holder, seat.clone(), self.now_ms()));
        {
            let mut of_subject = self.holders.entry(holder.subject).or_default();
            let most = match holder.role {
                // One more replaces the longest-silent one, once it is admitted.
                Role::Mitra => usize::MAX,
                Role::Customer => self.limits.sockets_per_customer,
                Role::Service | Role::Dashboard => self.limits.sockets_per_operator,
            };
            if of_subject.len() >= most {
                return Err(RegisterError::TooManySockets);
            }
            of_subject.push(Arc::clone(&connection));
        }
        self.sockets[role].fetch_add(1, Relaxed);
        Ok(Registration { hub: Arc::clone(self), connection, _place: place })
    }

    /// The socket was admitted. A mitra that now holds more sockets than it may loses the longest-silent other one, which is
    /// ordered to close as replaced: a phone with half-open sockets must not lock itself out. A socket that is refused after
    /// all replaces nobody.
    pub fn settle(&self, connection: &Connection) {
        connection.settle();
        let holder = connection.holder();
        if holder.role == Role::Mitra
            // Alone: two that settle at once would choose the same one.
            && let Some(of_subject) = self.holders.get_mut(&holder.subject)
        {
            replace_longest_silent(&of_subject, connection, self.limits.sockets_per_mitra);
        }
    }

    fn unregister(&self, connection: &Arc<Connection>) {
        connection.leave();
        let holder = connection.holder();
        if let Entry::Occupied(mut entry) = self.holders.entry(holder.subject) {
            let of_subject = entry.get_mut();
            of_subject.retain(|other| !Arc::ptr_eq(other, connection));
            if of_subject.is_empty() {
                entry.remove();
            } else if of_subject.capacity() > 4 * of_subject.len() {
                of_subject.shrink_to_fit();
            }
        }
        if let Some(seat) = connection.seat() {
            // Seats outlive their last socket only while a heartbeat of theirs waits (the list holds its own Arc).
            self.seats.remove_if(&seat.id(), |_, held| Arc::ptr_eq(held, seat) && held.leave() == 0);
        }
        self.sockets[role_index(holder.role)].fetch_sub(1, Relaxed);
    }

    fn seat(&self, id: MitraId) -> Arc<Seat> {
        let entry = self.seats.entry(id).or_insert_with(|| Arc::new(Seat::new(id)));
        entry.join();
        Arc::clone(&entry)
    }

    /// How many sockets a subject holds on this node.
    pub fn sockets_of(&self, subject: SubjectId) -> u64 {
        self.holders.get(&subject).map_or(0, |of_subject| of_subject.len() as u64)
    }

    /// Authenticated sockets by role; service sockets count as customers (they watch the same path).
    pub fn socket_counts(&self) -> SocketCounts {
        let of = |role| self.sockets[role_index(role)].load(Relaxed);
        SocketCounts {
            mitra: of(Role::Mitra),
            customer: of(Role::Customer) + of(Role::Service),
            dashboard: of(Role::Dashboard),
        }
    }

    /// One of the places for sockets of this node; `None` when all are taken. Dropping it gives it back.
    pub fn take_place(self: &Arc<Self>) -> Option<Place> {
        let one_more = |taken: u64| (taken < self.limits.sockets).then_some(taken + 1);
        self.occupied.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(Place { hub: Arc::clone(self) })
    }

    /// From now on this node is leaving: every session tells its client when to dial again, at a moment of its own within
    /// `spread`, and closes then.
    pub fn begin_drain(&self, spread: Duration) {
        self.drain_ms.store(spread.as_millis().max(1) as u64, Relaxed);
        self.drain_begins.notify_waiters();
        for of_subject in &self.holders {
            of_subject.iter().for_each(|connection| connection.wake());
        }
    }

    /// Completes when this node begins to leave.
    pub async fn drained(&self) {
        let begins = self.drain_begins.notified();
        if self.draining_ms().is_none() {
            begins.await;
        }
    }

    /// Over how many milliseconds sessions close, once this node is leaving.
    pub fn draining_ms(&self) -> Option<u64> {
        let spread = self.drain_ms.load(Relaxed);
        (spread > 0).then_some(spread)
    }
}

fn replace_longest_silent(of_subject: &[Arc<Connection>], newest: &Connection, limit: usize) {
    let standing = || of_subject.iter().filter(|connection| connection.is_settled() && !connection.is_ordered());
    let others = || standing().filter(|connection| !std::ptr::eq(Arc::as_ptr(connection), newest));
    while standing().count() > limit
        && let Some(silent) = others().min_by_key(|connection| connection.heard_ms())
    {
        silent.order(Close::REPLACED);
    }
}

fn role_index(role: Role) -> usize {
    match role {
        Role::Mitra => 0,
        Role::Customer => 1,
        Role::Dashboard => 2,
        Role::Service => 3,
    }
}

#[cfg(test)]
mod tests;
