//! The supervisor: one task per node that listens to the mirror, polls it, notices its loss and return, and seeds it.
//!
//! Its parts are polled side by side. No part awaits while it holds a lock or a connection that another part needs.

use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    select,
    sync::{
        broadcast::{Receiver, error::RecvError},
        mpsc::{self, error::TrySendError},
    },
    time::{sleep, timeout},
};

use super::{
    Parts, PresenceError, ReplicationSettings, heartbeats::HeartbeatWriter, mirror_client::MirrorClient,
    mode_control::ModeControl, propagate::Propagator, reseed::Reseeder, signals::Signals, single_flight::StoreReads,
    status_hints::StatusHints, store_client::StoreClient, trust::Trust,
};
use crate::{
    domain::{Mode, Source},
    hub::{Hub, PendingBeat, Published},
    mirror::{MirrorEvent, Pulse},
    protocol::ControlMessage,
    telemetry::Metrics,
};

/// Cadence at which a live node polls the mirror: how late a mitra that fell silent leaves the count.
const TICK: Duration = Duration::from_millis(500);
/// Cadence at which the store is counted while the mirror is away.
const STORE_TICK: Duration = Duration::from_secs(1);
/// The rest after a count of a large store, in times of what it took: once, so that somebody else is served too, and more during
/// a seed, which reads from the same store. At most so long.
const REST: u64 = 1;
const REST_IN_SEED: u64 = 3;
const LONGEST_REST_MS: u64 = 5_000;
/// For so long the first seed waits until the store's notifications are heard.
const LISTEN_FIRST: Duration = Duration::from_secs(1);
/// Pause before the next poll when the last one failed: the breaker is to open within a second.
const DOUBT: Duration = Duration::from_millis(50);

/// Work that goes on beside other work of the same routine.
type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a poll leaves to be done beside further polls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Nothing,
    /// The mirror is not trusted: the store is counted.
    Count,
    /// The mirror is there: what it missed is applied.
    CatchUp,
}

/// Completes with the work in this place, which is empty then; never, while there is none.
async fn done<T>(place: &mut Option<Work<'_, T>>) -> T {
    let Some(work) = place else { return pending().await };
    let result = work.await;
    *place = None;
    result
}

/// Watches over the mirror for one node.
pub struct Supervisor {
    settings: Arc<ReplicationSettings>,
    hub: Arc<Hub>,
    metrics: Metrics,
    mode: Arc<ModeControl>,
    trust: Arc<Trust>,
    signals: Arc<Signals>,
    mirror: Arc<MirrorClient>,
    store: StoreClient,
    reads: Arc<StoreReads>,
    propagator: Arc<Propagator>,
    heartbeats: Arc<HeartbeatWriter>,
    reseeder: Arc<Reseeder>,
    hints: StatusHints,
    /// What nodes ask each other; `cluster` answers.
    control: mpsc::Sender<ControlMessage>,
    was_started: AtomicBool,
}

impl Supervisor {
    pub(super) fn new(
        parts: &Parts,
        reads: &Arc<StoreReads>,
        propagator: &Arc<Propagator>,
        heartbeats: &Arc<HeartbeatWriter>,
        reseeder: &Arc<Reseeder>,
        control: mpsc::Sender<ControlMessage>,
    ) -> Self {
        Self {
            settings: Arc::clone(&parts.settings),
            hub: Arc::clone(&parts.hub),
            metrics: parts.metrics.clone(),
            mode: Arc::clone(&parts.mode),
            trust: Arc::clone(&parts.trust),
            signals: Arc::clone(&parts.signals),
            mirror: Arc::clone(&parts.mirror),
            store: parts.store.clone(),
            reads: Arc::clone(reads),
            propagator: Arc::clone(propagator),
            heartbeats: Arc::clone(heartbeats),
            reseeder: Arc::clone(reseeder),
            hints: StatusHints::new(parts, propagator),
            control,
            was_started: AtomicBool::new(false),
        }
    }

    /// Keeps this node's view of the mirror right for as long as it is polled. The app ends it by dropping it, and calls
    /// it again after an early end.
    ///
    /// Its parts are polled side by side all the time, and so is the work of each. Work that is not polled would keep what
    /// it holds (the turn to count, a connection) from the work that is waited for.
    pub async fn supervise(self: Arc<Self>) {
        let events = self.mirror.events();
        if self.was_started.swap(true, Relaxed) {
            // What the mirror said meanwhile was not heard.
            self.mode.distrust();
        }
        select! {
            () = self.hear(events) => {}
            () = self.hints.confirm() => {}
            () = self.seed_and_poll() => {}
        }
    }

    /// Takes in what the mirror tells, until it is closed.
    async fn hear(&self, mut events: Receiver<MirrorEvent>) {
        loop {
            match events.recv().await {
                Ok(MirrorEvent::Snapshot(snapshot)) => self.mirror.hint(&snapshot),
                Ok(MirrorEvent::Control(ControlMessage::Status(change))) => self.hints.heard(change),
                Ok(MirrorEvent::Control(message)) => self.hand_on(message),
                // Every return goes through rebuilding: writes made meanwhile are not in the mirror.
                Ok(MirrorEvent::Connected) => {
                    self.mode.distrust();
                }
                Ok(MirrorEvent::Disconnected | MirrorEvent::Missed) => self.signals.poll_within(Duration::ZERO),
                Err(RecvError::Lagged(missed)) => {
                    self.metrics.watch_skipped(missed);
                    self.signals.poll_within(Duration::ZERO);
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Hands a message to `cluster`. It never waits: answers to other nodes may be slow, and what comes behind must not be.
    fn hand_on(&self, message: ControlMessage) {
        if let Err(TrySendError::Full(lost)) = self.control.try_send(message) {
            // A hint is lost. Who asked counts what was answered in time.
            self.metrics.watch_skipped(1);
            tracing::debug!(message = lost.kind(), "too many messages of other nodes wait; one is dropped");
        }
    }

    /// Seeds the mirror when it has to be, compares it when something asked for it, polls it all the while, and counts in
    /// the store while the mirror is not trusted.
    async fn seed_and_poll(&self) {
        let mut seeding: Option<Work<'_, Result<(), PresenceError>>> = None;
        let mut comparing: Option<Work<'_, Result<(), PresenceError>>> = None;
        let mut polling: Option<Work<'_, Wants>> = None;
        let mut counting: Option<Work<'_, bool>> = None;
        let mut catching_up: Option<Work<'_, ()>> = None;
        // Listen, then seed: what is committed meanwhile is heard.
        let _heard = timeout(LISTEN_FIRST, self.signals.store_heard()).await;
        let (mut seeding_in, mut next_seed) = (None, 0);
        let (mut polled_ms, mut count_wanted) = (self.hub.now_ms(), false);
        let (mut count_began, mut next_count) = (0, 0);
        loop {
            let now = self.hub.now_ms();
            let rebuild_id = self.mode.rebuild_id();
            if seeding.is_none() || seeding_in != rebuild_id {
                // A seed takes from the store who was heard: not before it knows.
                let may_seed = now >= next_seed && self.trust.store_may_seed();
                seeding_in = rebuild_id.filter(|_| may_seed);
                seeding = seeding_in.map(|rebuild_id| Box::pin(self.seed(rebuild_id)) as _);
            }
            let mut reseed_in = self.reseeder.due_in().filter(|_| comparing.is_none() && self.mode.is_live());
            if reseed_in == Some(Duration::ZERO) {
                reseed_in = None;
                comparing = Some(Box::pin(async { self.reseeder.reseed().await.map(|_| ()) }));
            }
            if count_wanted && counting.is_none() && now >= next_count {
                (count_wanted, count_began) = (false, now);
                counting = Some(Box::pin(self.poll_store()));
            }
            // Counted from the last poll: a steady stream of events must not put it off.
            let wait = self.until_next_poll(now.saturating_sub(polled_ms));
            select! {
                seeded = done(&mut seeding) => if let Err(error) = seeded {
                    tracing::debug!(%error, "the mirror could not be seeded yet");
                    next_seed = self.hub.now_ms() + self.settings.breaker_retry.as_millis() as u64;
                },
                compared = done(&mut comparing) => if let Err(error) = compared {
                    tracing::debug!(%error, "the comparison is left to the next reseed");
                },
                () = self.signals.supervisor_woken() => {}
                () = sleep(reseed_in.unwrap_or(Duration::MAX)), if reseed_in.is_some() => {}
                () = sleep(wait), if polling.is_none() => polling = Some(Box::pin(self.poll())),
                wanted = done(&mut polling) => {
                    polled_ms = self.hub.now_ms();
                    count_wanted = wanted == Wants::Count;
                    if wanted == Wants::CatchUp && catching_up.is_none() {
                        catching_up = Some(Box::pin(self.propagator.apply_unapplied()));
                    }
                }
                answered = done(&mut counting) => if answered {
                    let now = self.hub.now_ms();
                    let rest = if seeding.is_some() { REST_IN_SEED } else { REST };
                    next_count = now + LONGEST_REST_MS.min((now - count_began) * rest);
                },
                () = done(&mut catching_up) => {}
            }
        }
    }

    /// `since_ms`: how long ago the last poll was.
    fn until_next_poll(&self, since_ms: u64) -> Duration {
        let left = |pace: Duration| pace.saturating_sub(Duration::from_millis(since_ms));
        let due = self.signals.poll_due_in();
        match self.mode.mode() {
            Mode::Live | Mode::Rebuilding if self.mode.is_doubtful() => left(DOUBT),
            Mode::Live => left(TICK).min(due),
            Mode::Rebuilding => left(TICK),
            Mode::Fallback | Mode::Stale => left(STORE_TICK.min(self.settings.breaker_retry)).min(due),
        }
    }

    /// One poll of the mirror.
    async fn poll(&self) -> Wants {
        self.signals.poll_begins();
        let ticked = self.mirror.tick().await;
        match (self.mode.mode(), ticked) {
            (Mode::Live, Ok(_)) => Wants::CatchUp,
            (Mode::Live, Err(_)) => Wants::Nothing,
            (Mode::Rebuilding, _) => Wants::Count,
            (Mode::Fallback | Mode::Stale, Ok(_)) if self.mirror_writes().await => {
                self.mode.distrust();
                Wants::Nothing
            }
            (Mode::Fallback | Mode::Stale, _) => Wants::Count,
        }
    }

    /// Whether a mirror that answers questions also writes what it is told.
    async fn mirror_writes(&self) -> bool {
        !self.mode.refuses_writes() || self.mirror.report_node().await.is_ok()
    }

    /// Counts in the store and pushes what it says; when the store is unavailable too, or came back and was not yet told
    /// who was heard meanwhile, the last known state, marked stale. Whether it counted.
    async fn poll_store(&self) -> bool {
        let counted = self.reads.counts_now().await;
        // One that is only slow to count is told of heartbeats all the same.
        let answers = counted.is_ok() || self.store.answers().await;
        self.trust.store_answers(answers);
        let has_counted = counted.is_ok();
        match counted {
            Ok(counts) if self.trust.store_is_settled() => {
                self.mode.store_answered();
                let now = chrono::Utc::now();
                if self.mode.publish_own(counts.available, self.store.source(), now) == Published::Pushed {
                    self.metrics.snapshot_published();
                }
            }
            _ => {
                self.mode.store_failed();
                if let Some(last) = self.hub.availability() {
                    let last = last.snapshot();
                    self.mode.publish_own(last.available, Source::Local, last.as_of);
                }
            }
        }
        has_counted
    }

    /// Seeds the mirror, declares its epoch, asserts this node's sockets and trusts it.
    async fn seed(&self, rebuild_id: u64) -> Result<(), PresenceError> {
        let report = self.reseeder.reseed().await?;
        // Before anybody believes its count: the store may have heard of the sockets here long ago.
        self.heartbeats.assert_seats().await?;
        self.mirror.open_epoch(report.rows).await?;
        // What could not be applied meanwhile, after its page was read.
        self.propagator.apply_unapplied().await;
        let pulse = self.settled_pulse().await?;
        let Some(counted) = pulse.snapshot else {
            return Err(PresenceError::Unavailable("the mirror was emptied while it was seeded".to_owned()));
        };
        self.reassert();
        tracing::info!(rows = report.rows, changed = report.changed, ms = report.duration_ms, "the mirror is seeded");
        if self.mode.last_epoch().is_some_and(|last| last != counted.epoch) {
            self.metrics.mirror_epoch_changed();
        }
        self.mode.trust(rebuild_id, counted);
        Ok(())
    }

    /// A pulse whose snapshot counts everything that was written before the call. What was last published may be a count
    /// from the middle of a seed, and one that changed since waits for its window.
    async fn settled_pulse(&self) -> Result<Pulse, PresenceError> {
        let pulse = self.mirror.tick().await?;
        match pulse.due_in {
            // A millisecond more than it says: the mirror's clock is cut off to whole ones.
            Some(wait) => sleep(wait + Duration::from_millis(1)).await,
            None => return Ok(pulse),
        }
        Ok(self.mirror.tick().await?)
    }

    /// Every mitra with a socket here beats again in the next flush, at the time it was last heard: what is refused then
    /// is settled.
    fn reassert(&self) {
        let mut beats: Vec<_> = self.hub.seats().into_iter().filter_map(PendingBeat::again).collect();
        self.hub.put_back(&mut beats);
    }
}
