//! One socket as the rest of the node sees it: when it was last heard, and whether it was ordered to close.

use std::{
    future::poll_fn,
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use uuid::Uuid;

use super::{
    Holder, Hub, Seat,
    moments::{NEVER, UNLISTED},
};
use crate::protocol::Close;

/// A registered socket. Its task owns the [`Registration`]; the hub and the seat hold this.
pub struct Connection {
    holder: Holder,
    /// The sign-in of the newest token; a `refresh` may stand on another one than the first.
    session: Mutex<Option<Uuid>>,
    /// Present for a mitra's socket.
    seat: Option<Arc<Seat>>,
    heard_ms: AtomicU64,
    /// Admitted, and not only registered.
    settled: AtomicBool,
    order: OnceLock<Close>,
    /// The next moment at which its session wants to be woken.
    pub(super) due_ms: AtomicU64,
    /// The turn of the hub's wheel in which it is looked at.
    pub(super) listed: AtomicU64,
    /// Something happened that its task has not seen.
    woken: AtomicBool,
    /// The task; a socket has one.
    waiter: AtomicWaker,
}

impl Connection {
    pub(super) fn new(holder: Holder, seat: Option<Arc<Seat>>, now_ms: u64) -> Self {
        let session = Mutex::new(holder.session);
        Self {
            holder,
            session,
            seat,
            heard_ms: AtomicU64::new(now_ms),
            settled: AtomicBool::new(false),
            order: OnceLock::new(),
            due_ms: AtomicU64::new(NEVER),
            listed: AtomicU64::new(UNLISTED),
            woken: AtomicBool::new(false),
            waiter: AtomicWaker::new(),
        }
    }

    /// Whose socket this is, with the sign-in of the newest token.
    pub fn holder(&self) -> Holder {
        Holder { session: self.session(), ..self.holder }
    }

    /// The sign-in that the socket stands on.
    pub fn session(&self) -> Option<Uuid> {
        *self.session.lock()
    }

    /// The socket stands on another sign-in from now on.
    pub fn stand_on(&self, session: Option<Uuid>) {
        *self.session.lock() = session;
    }

    /// The mitra's seat on this node, for a mitra's socket.
    pub fn seat(&self) -> Option<&Arc<Seat>> {
        self.seat.as_ref()
    }

    /// Something was heard on this socket.
    pub fn heard(&self, now_ms: u64) {
        self.heard_ms.store(now_ms, Relaxed);
    }

    /// When this socket was last heard, in the hub's milliseconds.
    pub fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Relaxed)
    }

    /// Orders the socket to close; the first order stands.
    pub fn order(&self, close: Close) {
        if self.order.set(close).is_ok() {
            self.wake();
        }
    }

    /// The order to close, if there is one.
    pub fn ordered(&self) -> Option<&Close> {
        self.order.get()
    }

    pub(super) fn settle(&self) {
        self.settled.store(true, Relaxed);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Relaxed)
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.order.get().is_some()
    }

    pub(super) fn wake(&self) {
        self.woken.store(true, Relaxed);
        self.waiter.wake();
    }

    /// Its task is gone: what still lists the socket must not keep the task's memory.
    pub(super) fn leave(&self) {
        self.due_ms.store(NEVER, Relaxed);
        drop(self.waiter.take());
    }

    /// Completes after an order to close, a new status on the seat or a moment that has come, since the last wait. Look at
    /// all of them. Only the socket's own task may wait.
    pub fn woken(&self) -> impl Future<Output = ()> + Send {
        poll_fn(|context| {
            let woken = || self.woken.load(Relaxed) && self.woken.swap(false, Relaxed);
            if woken() {
                return Poll::Ready(());
            }
            self.waiter.register(context.waker());
            if woken() { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// The moment that the session awaits.
    pub fn due_ms(&self) -> u64 {
        self.due_ms.load(Relaxed)
    }
}

/// The socket's place in the hub; dropping it leaves.
pub struct Registration {
    pub(super) hub: Arc<Hub>,
    pub(super) connection: Arc<Connection>,
    pub(super) _place: Place,
}

/// One of the places for sockets of this node; dropping it gives it back.
pub struct Place {
    pub(super) hub: Arc<Hub>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.occupied.fetch_sub(1, Relaxed);
    }
}

impl Deref for Registration {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Registration {
    /// The socket itself, for a task that outlives none of it.
    pub fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Lets the socket be woken at `due_ms`, within a turn of the wheel, instead of when it was said before.
    pub fn wake_at(&self, due_ms: u64) {
        self.hub.moments.wake_at(&self.connection, due_ms);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hub.unregister(&self.connection);
    }
}
