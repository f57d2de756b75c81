//! Places for connections that are no socket: in a handshake, idle, or at a request. Bounded in all
//! and per address, so that one address cannot keep others out.
//!
//! When all places are taken, the oldest connection of the address that holds most gives way. A
//! connection that became a WebSocket or an event stream holds none: it counts among the sockets.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::client_address::one_holder;

/// A younger connection gives way to none: it is most likely about to send its request.
const YOUNG: Duration = Duration::from_secs(1);
/// The same for one whose request is being answered. Longer ones send their body slowly.
const SLOW: Duration = Duration::from_secs(5);

/// How many connections may be no socket.
#[derive(Clone, Debug)]
pub struct PlaceLimits {
    /// Of one listener.
    pub in_all: usize,
    /// Of one address, or one /64 of IPv6.
    pub per_address: usize,
    /// Proxies, which bring many clients from one address: bounded in all only.
    pub exempt: Vec<IpNet>,
}

/// The places of one listener.
pub(super) struct Places {
    limits: PlaceLimits,
    started: Instant,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    by_address: HashMap<IpAddr, VecDeque<Arc<Slot>>>,
    in_all: usize,
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// The head of a request is expected or arriving.
    Head = 0,
    /// A request was answered and none has begun.
    Idle = 1,
    /// A request is being answered.
    Busy = 2,
}

/// One connection, as its task and the places see it.
pub(super) struct Slot {
    address: IpAddr,
    phase: AtomicU8,
    /// Since when it is in this phase, milliseconds since `started`.
    since_ms: AtomicU64,
    started: Instant,
    /// The head of a request has begun to arrive.
    pub(super) head_began: Notify,
    /// The connection gives way to another.
    pub(super) evicted: CancellationToken,
}

impl Slot {
    pub(super) fn phase(&self) -> (Phase, Duration) {
        let age = (self.started.elapsed().as_millis() as u64).saturating_sub(self.since_ms.load(Relaxed));
        let phase = match self.phase.load(Relaxed) {
            0 => Phase::Head,
            1 => Phase::Idle,
            _ => Phase::Busy,
        };
        (phase, Duration::from_millis(age))
    }

    /// How long it could have given way; `None`: it may not yet. Those at a request come last.
    fn may_give_way(&self) -> Option<(bool, Duration)> {
        let (phase, age) = self.phase();
        let is_waiting = phase != Phase::Busy;
        let bound = if is_waiting { YOUNG } else { SLOW };
        age.checked_sub(bound).map(|over| (is_waiting, over))
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.since_ms.store(self.started.elapsed().as_millis() as u64, Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    /// Bytes arrived: an idle connection begins a request.
    pub(super) fn heard(&self) {
        if self.phase.load(Relaxed) == Phase::Idle as u8 {
            self.enter(Phase::Head);
            self.head_began.notify_one();
        }
    }
}

/// The place of one connection; dropping it gives it back.
pub(super) struct Place {
    places: Arc<Places>,
    pub(super) slot: Arc<Slot>,
}

impl Place {
    /// The connection counts among the sockets from now on.
    pub(super) fn release(&self) {
        self.places.remove(&self.slot);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.release();
    }
}

impl Places {
    pub(super) fn new(limits: PlaceLimits) -> Arc<Self> {
        Arc::new(Self { limits, started: Instant::now(), held: Mutex::default() })
    }

    /// A place for a new connection. `None`: there is none, and no older connection to give way.
    pub(super) fn take(self: &Arc<Self>, peer: SocketAddr) -> Option<Place> {
        let peer = peer.ip().to_canonical();
        let address = one_holder(peer);
        let is_exempt = self.limits.exempt.iter().any(|network| network.contains(&peer));
        let mut held = self.held.lock();
        let of_address = held.by_address.get(&address).map_or(0, VecDeque::len);
        // With few places in all, one address must not be given them.
        let per_address = self.limits.per_address.min((self.limits.in_all / 2).max(1));
        if !is_exempt && of_address >= per_address {
            held.evict_oldest_of(address, false)?;
        }
        if held.in_all >= self.limits.in_all {
            match held.address_with_most_to_evict() {
                Some(most) => held.evict_oldest_of(most, false)?,
                // All are young: an address that holds more than its share keeps opening new ones.
                None => {
                    let most = held.address_above_its_share(self.limits.in_all)?;
                    held.evict_oldest_of(most, true)?;
                }
            }
        }
        let slot = Arc::new(Slot {
            address,
            phase: AtomicU8::new(Phase::Head as u8),
            since_ms: AtomicU64::new(self.started.elapsed().as_millis() as u64),
            started: self.started,
            head_began: Notify::new(),
            evicted: CancellationToken::new(),
        });
        held.by_address.entry(address).or_default().push_back(Arc::clone(&slot));
        held.in_all += 1;
        drop(held);
        Some(Place { places: Arc::clone(self), slot })
    }

    fn remove(&self, slot: &Arc<Slot>) {
        self.held.lock().remove(slot);
    }
}

impl Held {
    fn remove(&mut self, slot: &Arc<Slot>) {
        let Some(of_address) = self.by_address.get_mut(&slot.address) else { return };
        // Removed before, when it gave way or became a socket.
        let Some(at) = of_address.iter().position(|other| Arc::ptr_eq(other, slot)) else { return };
        of_address.remove(at);
        if of_address.is_empty() {
            self.by_address.remove(&slot.address);
        }
        self.in_all -= 1;
    }

    /// The connection of this address that has waited longest gives way, unless all are young and only
    /// older ones have to.
    fn evict_oldest_of(&mut self, address: IpAddr, even_young: bool) -> Option<()> {
        let slots = self.by_address.get(&address)?.iter();
        let young = |slot: &Slot| even_young.then(|| (slot.phase().0 != Phase::Busy, Duration::ZERO));
        let oldest = slots
            .filter_map(|slot| Some((slot.may_give_way().or_else(|| young(slot))?, slot)))
            .max_by_key(|(waits, _)| *waits);
        let oldest = Arc::clone(oldest?.1);
        oldest.evicted.cancel();
        self.remove(&oldest);
        Some(())
    }

    /// The address that holds most, when that is more than a quarter of all places.
    fn address_above_its_share(&self, in_all: usize) -> Option<IpAddr> {
        let (address, slots) = self.by_address.iter().max_by_key(|(_, slots)| slots.len())?;
        (slots.len() * 4 > in_all).then_some(*address)
    }

    fn address_with_most_to_evict(&self) -> Option<IpAddr> {
        let old = |slots: &VecDeque<Arc<Slot>>| slots.iter().filter(|slot| slot.may_give_way().is_some()).count();
        let counted = self.by_address.iter().map(|(address, slots)| (*address, old(slots)));
        counted.filter(|(_, old)| *old > 0).max_by_key(|(_, old)| *old).map(|(address, _)| address)
    }
}
