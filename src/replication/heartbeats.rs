//! Heartbeats from the hub to the mirror in batches, to the store at a slower pace, and what a refused one teaches.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Parts, PresenceError, ReplicationSettings, mirror_client::MirrorClient, mode_control::ModeControl,
    propagate::Propagator, store_client::StoreClient, trust::Trust,
};
use crate::{
    domain::{MitraId, Mode, StatusChange, StatusReason},
    hub::{Hub, PendingBeat, Seat},
    mirror::{Beat, MirrorError, Refusal, Refused, Write},
    protocol::Close,
    telemetry::Metrics,
};

/// Heartbeats in one call of the mirror or the store.
const BATCH: usize = 1_000;

/// Brings the heartbeats of this node to the mirror and to the store.
pub struct HeartbeatWriter {
    settings: Arc<ReplicationSettings>,
    hub: Arc<Hub>,
    metrics: Metrics,
    mode: Arc<ModeControl>,
    trust: Arc<Trust>,
    mirror: Arc<MirrorClient>,
    store: StoreClient,
    propagator: Arc<Propagator>,
    /// Seats whose newest heartbeat the store has not seen. Bounded by the flag on the seat.
    unsaved: Mutex<Vec<Arc<Seat>>>,
    saved_ms: AtomicU64,
    /// The room of the last flush, for the next.
    scratch: Mutex<Vec<PendingBeat>>,
    /// When a mirror that is being rebuilt was last told of the sockets here.
    asserted_ms: AtomicU64,
}

impl HeartbeatWriter {
    pub(super) fn new(parts: &Parts, propagator: &Arc<Propagator>) -> Self {
        Self {
            settings: Arc::clone(&parts.settings),
            hub: Arc::clone(&parts.hub),
            metrics: parts.metrics.clone(),
            mode: Arc::clone(&parts.mode),
            trust: Arc::clone(&parts.trust),
            mirror: Arc::clone(&parts.mirror),
            store: parts.store.clone(),
            propagator: Arc::clone(propagator),
            unsaved: Mutex::default(),
            saved_ms: AtomicU64::new(0),
            scratch: Mutex::default(),
            asserted_ms: AtomicU64::new(0),
        }
    }

    /// Delivers the pending heartbeats to the mirror. Returns how many were delivered. Without the mirror
    /// [`HeartbeatWriter::flush_to_store`] takes them.
    ///
    /// # Errors
    /// The mirror failed; what was not delivered waits in the hub, each mitra once.
    pub async fn flush(&self) -> Result<usize, PresenceError> {
        match self.mode.mode() {
            Mode::Live => {
                // Taken out, so that nothing is held while the mirror is waited for; put back for its room.
                let mut beats = mem::take(&mut *self.scratch.lock());
                let delivered = self.flush_to_mirror(&mut beats).await;
                *self.scratch.lock() = beats;
                delivered
            }
            Mode::Rebuilding => {
                self.assert_seats_at_pace().await;
                Ok(0)
            }
            Mode::Fallback | Mode::Stale => Ok(0),
        }
    }

    /// A mirror that is not trusted yet is kept fresh all the same, once per heartbeat interval: other nodes may be live on
    /// it, and the store, which ages come from otherwise, may be away.
    async fn assert_seats_at_pace(&self) {
        let now = self.hub.now_ms();
        let pace = self.settings.heartbeat_interval.as_millis() as u64;
        if now.saturating_sub(self.asserted_ms.load(Relaxed)) >= pace {
            self.asserted_ms.store(now, Relaxed);
            if let Err(error) = self.assert_seats().await {
                tracing::debug!(%error, "heartbeats wait for the mirror");
            }
        }
    }

    /// Tells the mirror when each mitra with a socket here was last heard. What it refuses is settled by the next flush.
    pub(super) async fn assert_seats(&self) -> Result<(), MirrorError> {
        for seats in self.hub.seats().chunks(BATCH) {
            let beats: Vec<Beat> = seats
                .iter()
                .filter(|seat| seat.beat_ms() > 0)
                .map(|seat| Beat {
                    id: seat.id(),
                    online_epoch: seat.online_epoch(),
                    at_ms: self.mirror.clock_ms(seat.beat_ms()),
                })
                .collect();
            self.mirror.beat(&beats).await?;
        }
        Ok(())
    }

    async fn flush_to_mirror(&self, beats: &mut Vec<PendingBeat>) -> Result<usize, PresenceError> {
        self.hub.take_pending(beats);
        let mut delivered = 0;
        while !beats.is_empty() {
            let began = self.hub.now_ms();
            let batch = &beats[beats.len().saturating_sub(BATCH)..];
            let wire: Vec<Beat> = batch
                .iter()
                .map(|beat| Beat {
                    id: beat.seat.id(),
                    online_epoch: beat.seat.online_epoch(),
                    at_ms: self.mirror.clock_ms(beat.at_ms),
                })
                .collect();
            let refused = match self.mirror.beat(&wire).await {
                Ok(refused) => refused,
                Err(error) => {
                    // Heard all the same: nobody is judged silent by this node, and the store is told.
                    self.trust.mirror_missed_heartbeats();
                    self.remember_unsaved(beats.iter().map(|beat| Arc::clone(&beat.seat)));
                    self.hub.put_back(beats);
                    return Err(error.into());
                }
            };
            delivered += wire.len();
            let took = Duration::from_millis(self.hub.now_ms() - began);
            self.metrics.heartbeats_flushed(wire.len(), took);
            let of_batch = beats.split_off(beats.len() - wire.len());
            self.remember_unsaved(of_batch.into_iter().map(|beat| beat.seat));
            self.learn_from(&refused).await;
        }
        Ok(delivered)
    }

    fn remember_unsaved(&self, heard: impl Iterator<Item = Arc<Seat>>) {
        self.unsaved.lock().extend(heard.filter(|seat| seat.owe_to_store()));
    }

    /// While the mirror is not live: at once, then once per heartbeat interval, straight to the store, which also says who is
    /// deactivated. A routine of its own: a store that is away as well must not keep the mirror waiting.
    ///
    /// # Errors
    /// The store cannot be asked; what was not written waits for the next time.
    pub async fn flush_to_store(&self) -> Result<u64, PresenceError> {
        if self.mode.is_live() {
            return Ok(0);
        }
        let now = self.hub.now_ms();
        let last = self.saved_ms.load(Relaxed);
        let pace = self.settings.heartbeat_interval.as_millis() as u64;
        if last > 0 && now.saturating_sub(last) < pace {
            return Ok(0);
        }
        let mut beats = Vec::new();
        self.hub.take_pending(&mut beats);
        if beats.is_empty() && self.unsaved.lock().is_empty() {
            return Ok(0);
        }
        let ids: Vec<MitraId> = beats.iter().map(|beat| beat.seat.id()).collect();
        self.remember_unsaved(beats.into_iter().map(|beat| beat.seat));
        let saved = self.save().await?;
        self.saved_ms.store(now, Relaxed);
        self.report_isolation().await;
        for ids in ids.chunks(BATCH) {
            if let Ok(rows) = self.store.mitras(ids).await {
                rows.iter().for_each(|row| self.hub.apply_status(&StatusChange::of(row, StatusReason::External)));
            }
        }
        Ok(saved)
    }

    /// Writes the newest heartbeats that the store has not seen, as ages, in batches. Idempotent across nodes: the store
    /// takes the greater.
    ///
    /// # Errors
    /// The store cannot be asked; what was not written waits for the next time.
    pub async fn save(&self) -> Result<u64, PresenceError> {
        let mut seats = mem::take(&mut *self.unsaved.lock());
        let mut saved = 0;
        while !seats.is_empty() {
            let batch = &seats[seats.len().saturating_sub(BATCH)..];
            let now = self.hub.now_ms();
            let ages: Vec<(MitraId, Duration)> =
                batch.iter().filter_map(|seat| Some((seat.id(), seat.take_for_store(now)?))).collect();
            match self.store.record_heartbeats(&ages).await {
                Ok(moved) => saved += moved,
                Err(error) => {
                    self.trust.store_missed_heartbeats();
                    let tried = seats.split_off(seats.len().saturating_sub(BATCH));
                    let mut unsaved = self.unsaved.lock();
                    // Those that were not tried are still marked; of the others, who beat meanwhile is listed already.
                    unsaved.extend(seats);
                    unsaved.extend(tried.into_iter().filter(|seat| seat.owe_to_store()));
                    return Err(error);
                }
            }
            seats.truncate(seats.len().saturating_sub(BATCH));
        }
        self.hub.forget_detached();
        Ok(saved)
    }

    /// A refused heartbeat teaches. Where the mirror contradicts what this node believes, the store is asked and both are
    /// put right; where they agree (an offline mitra that keeps its socket) nothing is done.
    async fn learn_from(&self, refused: &[Refusal]) {
        let disputed: Vec<&Refusal> = refused.iter().filter(|refusal| self.disputes(refusal)).collect();
        if disputed.is_empty() {
            return;
        }
        let ids: Vec<MitraId> = disputed.iter().map(|refusal| refusal.id).collect();
        let Ok(rows) = self.store.mitras(&ids).await else {
            // Deactivation fails closed; everything else waits for the next heartbeat.
            for refusal in disputed.iter().filter(|refusal| refusal.why == Refused::Deactivated) {
                self.hub.disconnect(refusal.id.into(), &Close::DEACTIVATED);
            }
            return;
        };
        let now = self.hub.now_ms();
        let writes: Vec<Write> = rows
            .iter()
            .map(|row| {
                let heard_here = self.hub.seat_of(row.id).and_then(|seat| seat.beat_age(now));
                let heartbeat_age = [row.heartbeat_age, heard_here].into_iter().flatten().min();
                Write { row: row.clone(), heartbeat_age, announce: Some(StatusReason::External) }
            })
            .collect();
        for id in ids.iter().filter(|id| rows.iter().all(|row| row.id != **id)) {
            self.hub.disconnect((*id).into(), &Close::UNKNOWN_MITRA);
        }
        self.propagator.propagate(&writes).await;
    }

    fn disputes(&self, refusal: &Refusal) -> bool {
        let Some(belief) = self.hub.seat_of(refusal.id).and_then(|seat| seat.belief()) else {
            // Without a socket: it came by REST, whose guard had found it online.
            return matches!(refusal.why, Refused::Unknown | Refused::OtherEpoch);
        };
        match refusal.why {
            Refused::Offline => belief.online && belief.active,
            Refused::Deactivated => belief.active,
            Refused::Unknown | Refused::OtherEpoch => true,
        }
    }

    /// Says in the store that this node is without the mirror, while it writes its heartbeats there.
    async fn report_isolation(&self) {
        if let Err(error) = self.store.report_lone(&self.settings.node_id).await {
            tracing::debug!(%error, "the others cannot be told that this node is without the mirror");
        }
    }
}
