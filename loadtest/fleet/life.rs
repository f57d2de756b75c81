//! What an open socket does until the fleet hangs up, and what all of them count together.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::orders::Report;
use crate::kit::{
    distribution::Distribution,
    socket::{Socket, any, kind, leave},
};

/// Histograms that latencies are spread over, so that sockets do not wait for each other.
const SHARDS: usize = 16;
/// Spreads the first beats evenly, whatever the number of sockets.
const GOLDEN: f64 = 0.618_033_988_75;

/// What all sockets are doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    Idle,
    PingOnce,
    PingHard,
    Beat(Duration),
    HangUp,
}

/// What the sockets of a fleet share.
pub struct Shared {
    began: Instant,
    pub phase: watch::Sender<Phase>,
    pub open: AtomicU64,
    /// Sockets that the current wave has not reached yet.
    awaited: AtomicU64,
    reached: Notify,
    /// When a wave reached each socket, nanoseconds since the beginning.
    arrivals: Box<[AtomicU64]>,
    /// Frames of availability that each socket was sent.
    frames: Box<[AtomicU64]>,
    latencies: [Mutex<Distribution>; SHARDS],
    failures: Mutex<(u64, Option<String>)>,
}

impl Shared {
    /// For so many sockets at most.
    pub fn new(sockets: usize) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            phase: watch::Sender::new(Phase::Idle),
            open: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            reached: Notify::new(),
            arrivals: (0..sockets).map(|_| AtomicU64::new(0)).collect(),
            frames: (0..sockets).map(|_| AtomicU64::new(0)).collect(),
            latencies: std::array::from_fn(|_| Mutex::new(Distribution::new())),
            failures: Mutex::default(),
        })
    }

    /// Nanoseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// From now on every open socket is awaited.
    pub fn await_all(&self) {
        self.awaited.store(self.open.load(Relaxed), Relaxed);
    }

    /// Waits until every awaited socket was reached.
    ///
    /// # Errors
    /// How many were not, in time.
    pub async fn all_reached(&self, patience: Duration) -> anyhow::Result<()> {
        let done = async {
            loop {
                let reached = self.reached.notified();
                if self.awaited.load(Relaxed) == 0 {
                    return;
                }
                reached.await;
            }
        };
        let waited = timeout(patience, done).await;
        waited.map_err(|_| anyhow::anyhow!("{} sockets were not reached in time", self.awaited.load(Relaxed)))
    }

    /// When the wave reached each open socket.
    pub fn arrivals(&self) -> impl Iterator<Item = u64> {
        self.arrivals.iter().map(|at| at.load(Relaxed)).filter(|at| *at > 0)
    }

    /// Frames of availability since this was last asked: of all sockets, and of the one that was sent the most.
    pub fn take_frames(&self) -> (u64, u64) {
        let of_each = self.frames.iter().map(|frames| frames.swap(0, Relaxed));
        of_each.fold((0, 0), |(all, most), frames| (all + frames, most.max(frames)))
    }

    fn reach(&self, slot: usize, now: u64) {
        self.arrivals[slot].store(now, Relaxed);
        let left = self.awaited.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if left == Ok(1) {
            self.reached.notify_waiters();
        }
    }

    /// Records how long something took.
    pub fn record(&self, slot: usize, nanoseconds: u64) {
        lock(&self.latencies[slot % SHARDS]).record_ns(nanoseconds);
    }

    /// Counts what failed and keeps the first reason.
    pub fn fail(&self, why: impl FnOnce() -> String) {
        let mut failures = lock(&self.failures);
        failures.0 += 1;
        failures.1.get_or_insert_with(why);
    }

    /// What was recorded since the last report; the next one begins anew.
    pub fn report(&self, began: Instant) -> Report {
        let mut report = Report { seconds: began.elapsed().as_secs_f64(), ..Report::default() };
        for shard in &self.latencies {
            let recorded = std::mem::replace(&mut *lock(shard), Distribution::new());
            // Both have the same precision, so that they add.
            let _added = report.each.add(&recorded);
        }
        (report.failed, report.first_failure) = std::mem::take(&mut *lock(&self.failures));
        report.done = report.each.len();
        report.open = self.open.load(Relaxed);
        report
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One socket's part in what the fleet does.
struct Life {
    socket: Socket,
    slot: usize,
    shared: Arc<Shared>,
    phase: Phase,
    pinged_at: u64,
    beat_at: Option<Instant>,
    any: Option<bool>,
}

/// Lives until the fleet hangs up or the server does. `first` is the frame that opened the socket.
pub async fn live(socket: Socket, slot: usize, shared: Arc<Shared>, first: Utf8Bytes) {
    let mut phase = shared.phase.subscribe();
    phase.mark_changed();
    let any = any(&first);
    drop(first);
    let mut life = Life { socket, slot, phase: Phase::Idle, pinged_at: 0, beat_at: None, any, shared };
    loop {
        let went = tokio::select! {
            Ok(()) = phase.changed() => {
                let newest = *phase.borrow_and_update();
                if newest == Phase::HangUp {
                    leave(&mut life.socket).await;
                    break;
                }
                life.enter(newest).await
            }
            message = life.socket.next() => match message {
                Some(Ok(Message::Text(text))) => life.hear(&text).await,
                Some(Ok(Message::Close(frame))) => Err(format!("the server closed: {frame:?}")),
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(error.to_string()),
                None => Err("the server hung up".to_owned()),
            },
            () = due(life.beat_at) => life.beat().await,
        };
        if let Err(why) = went {
            life.shared.fail(|| why);
            break;
        }
    }
    life.shared.open.fetch_sub(1, Relaxed);
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Life {
    async fn enter(&mut self, phase: Phase) -> Result<(), String> {
        self.phase = phase;
        self.beat_at = None;
        match phase {
            Phase::PingOnce | Phase::PingHard => self.ping().await,
            Phase::Beat(every) => {
                let share = (self.slot as f64 * GOLDEN).fract();
                self.beat_at = Some(Instant::now() + every.mul_f64(share));
                Ok(())
            }
            Phase::Idle | Phase::HangUp => Ok(()),
        }
    }

    async fn beat(&mut self) -> Result<(), String> {
        if let Phase::Beat(every) = self.phase {
            self.beat_at = self.beat_at.map(|at| at + every);
        }
        self.ping().await
    }

    async fn ping(&mut self) -> Result<(), String> {
        self.pinged_at = self.shared.now();
        let ping = Message::Text(Utf8Bytes::from_static(r#"{"type":"ping"}"#));
        self.socket.send(ping).await.map_err(|error| error.to_string())
    }

    async fn hear(&mut self, text: &str) -> Result<(), String> {
        match kind(text) {
            "pong" => {
                let now = self.shared.now();
                self.shared.record(self.slot, now - self.pinged_at);
                match self.phase {
                    Phase::PingHard => self.ping().await,
                    Phase::PingOnce => {
                        self.shared.reach(self.slot, now);
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            "availability" => {
                let now = self.shared.now();
                self.shared.frames[self.slot].fetch_add(1, Relaxed);
                let said = any(text);
                if said != self.any {
                    self.any = said;
                    self.shared.reach(self.slot, now);
                }
                Ok(())
            }
            "error" => Err(text.to_owned()),
            _ => Ok(()),
        }
    }
}
