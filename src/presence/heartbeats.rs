//! Heartbeats from the hub to the mirror in batches, to the store at a slower pace, and what a refused one teaches.

use std::{
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::join;

use super::{MitraView, Presence, PresenceError};
use crate::{
    domain::{MitraId, Mode, StatusChange, StatusReason},
    hub::{PendingBeat, Seat},
    mirror::{Beat, MirrorError, Refusal, Refused, Write},
    protocol::Close,
};

/// Heartbeats in one call of the mirror or the store.
const BATCH: usize = 1_000;

impl Presence {
    /// Delivers the pending heartbeats to the mirror, by way of `beats`, a list that the caller keeps for the next time. Returns
    /// how many were delivered. What cannot be delivered waits in the hub, each mitra once. Without the mirror
    /// [`Presence::flush_to_store`] takes them.
    pub async fn flush_heartbeats(&self, beats: &mut Vec<PendingBeat>) -> usize {
        match self.mode() {
            Mode::Live => self.flush_to_mirror(beats).await,
            Mode::Rebuilding => {
                self.assert_seats_at_pace().await;
                0
            }
            Mode::Fallback | Mode::Stale => 0,
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

    async fn flush_to_mirror(&self, beats: &mut Vec<PendingBeat>) -> usize {
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
            let Ok(refused) = self.mirror.beat(&wire).await else {
                // Heard all the same: nobody is judged silent by this node, and the store is told.
                self.evidence.mirror_missed_heartbeats(self.hub.now_ms());
                self.remember_unsaved(beats.iter().map(|beat| Arc::clone(&beat.seat)));
                self.hub.put_back(beats);
                return delivered;
            };
            delivered += wire.len();
            let took = Duration::from_millis(self.hub.now_ms() - began);
            self.metrics.heartbeats_flushed(wire.len(), took);
            let of_batch = beats.split_off(beats.len() - wire.len());
            self.remember_unsaved(of_batch.into_iter().map(|beat| beat.seat));
            self.learn_from(&refused).await;
        }
        delivered
    }

    fn remember_unsaved(&self, heard: impl Iterator<Item = Arc<Seat>>) {
        self.unsaved.lock().extend(heard.filter(|seat| seat.owe_to_store()));
    }

    /// While the mirror is not live: at once, then once per heartbeat interval, straight to the store, which also says who is
    /// deactivated. A routine of its own: a store that is away as well must not keep the mirror waiting.
    pub async fn flush_to_store(&self) -> usize {
        if self.mode.is_live() {
            return 0;
        }
        let now = self.hub.now_ms();
        let last = self.heartbeats_saved_ms.load(Relaxed);
        let pace = self.settings.heartbeat_interval.as_millis() as u64;
        if last > 0 && now.saturating_sub(last) < pace {
            return 0;
        }
        let mut beats = Vec::new();
        self.hub.take_pending(&mut beats);
        if beats.is_empty() && self.unsaved.lock().is_empty() {
            return 0;
        }
        let ids: Vec<MitraId> = beats.iter().map(|beat| beat.seat.id()).collect();
        self.remember_unsaved(beats.into_iter().map(|beat| beat.seat));
        let Ok(saved) = self.save_heartbeats().await else { return 0 };
        self.heartbeats_saved_ms.store(now, Relaxed);
        self.report_lone().await;
        for ids in ids.chunks(BATCH) {
            if let Ok(rows) = self.store.mitras(ids).await {
                rows.iter().for_each(|row| self.hub.apply_status(&StatusChange::of(row, StatusReason::External)));
            }
        }
        saved as usize
    }

    /// Writes the newest heartbeats that the store has not seen, as ages, in batches. Idempotent across nodes: the store
    /// takes the greater.
    ///
    /// # Errors
    /// The store cannot be asked; what was not written waits for the next time.
    pub async fn save_heartbeats(&self) -> Result<u64, PresenceError> {
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
                    self.evidence.store_missed_heartbeats(self.hub.now_ms());
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
        self.carry_on(&writes).await;
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

    /// A heartbeat by REST, for an app in the background: guarded by the mirror without the database, or by the store
    /// when the mirror is away; then it joins the node's batch.
    ///
    /// # Errors
    /// Unknown or deactivated mitra; neither can be asked.
    pub async fn heartbeat(&self, id: MitraId) -> Result<MitraView, PresenceError> {
        let view = match self.view_in_mirror(id).await {
            Some(view) => view,
            None => {
                let row = self.row_in_store(id).await?.ok_or(PresenceError::UnknownMitra)?;
                MitraView::of_row(&row, StatusReason::Initial, self.fresh_in_store())
            }
        };
        if !view.change.active {
            self.hub.apply_status(&view.change);
            return Err(PresenceError::Deactivated);
        }
        if !view.change.online {
            return Ok(view);
        }
        self.metrics.heartbeat();
        self.hub.beat_detached(id, view.change.online_epoch, self.hub.now_ms());
        Ok(view.heard(Some(Duration::ZERO), self.settings.suspect_after))
    }

    /// What the live mirror knows of a mitra, with a look at `mitras:deactivated`; `None` when the store must be asked.
    async fn view_in_mirror(&self, id: MitraId) -> Option<MitraView> {
        let ids = [id];
        let (deactivated, known) = join!(self.mirror.is_deactivated(id), self.mirror.trusted_entries(&ids));
        let (deactivated, entry) = (deactivated?, known?.pop()??);
        let mut view = MitraView::of_entry(&entry, StatusReason::Initial, self.settings.suspect_after);
        view.change.facts.active &= !deactivated;
        Some(view)
    }
}
