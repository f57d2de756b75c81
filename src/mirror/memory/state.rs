//! The rules of the mirror as plain data: fences, indexes, the snapshot's version and window.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use rand::RngExt;
use uuid::Uuid;

use super::index::Index;
use crate::{
    domain::{
        AvailableMitra, AvailablePage, ControlMessage, Counts, Fence, MitraId, MitraRow, Snapshot, Source, StatusChange,
    },
    mirror::{
        Applied, Beat, Claimed, Entry, HistoryPoint, MirrorEvent, MirrorSettings, Pulse, Refusal, Refused, Write,
    },
};

const HISTORY_STEP_MS: u64 = 10_000;
const HISTORY_POINTS: usize = 360;
const PAGE: usize = 1_000;

/// What is remembered of one mitra.
struct Record {
    row: MitraRow,
    /// Last heartbeat in ms while the mitra is listed.
    score: Option<u64>,
    /// Taken out of the indexes by a sweep that has not yet written the truth.
    claimed: bool,
}

pub(super) struct State {
    settings: MirrorSettings,
    records: BTreeMap<MitraId, Record>,
    online: HashSet<MitraId>,
    deactivated: HashSet<MitraId>,
    liveness: Index,
    available: Index,
    epoch: Option<Arc<str>>,
    version: u64,
    published: Option<u64>,
    published_ms: u64,
    history: VecDeque<HistoryPoint>,
    /// Events to send when the script ends.
    pub(super) said: Vec<MirrorEvent>,
}

fn moment(ms: u64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms as i64).unwrap_or_default()
}

impl State {
    pub(super) fn new(settings: MirrorSettings) -> Self {
        Self {
            settings,
            records: BTreeMap::new(),
            online: HashSet::new(),
            deactivated: HashSet::new(),
            liveness: Index::default(),
            available: Index::default(),
            epoch: None,
            version: 0,
            published: None,
            published_ms: 0,
            history: VecDeque::new(),
            said: Vec::new(),
        }
    }

    fn cutoff(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.settings.suspect_after.as_millis() as u64)
    }

    fn unlist(&mut self, id: MitraId) {
        if let Some(record) = self.records.get_mut(&id)
            && let Some(score) = record.score.take()
        {
            self.liveness.remove(score, id);
            self.available.remove(score, id);
        }
    }

    fn list(&mut self, id: MitraId, score: u64) {
        self.unlist(id);
        if let Some(record) = self.records.get_mut(&id) {
            record.score = Some(score);
            record.claimed = false;
            self.liveness.insert(score, id);
            if record.row.has_room() {
                self.available.insert(score, id);
            }
        }
    }

    pub(super) fn apply(&mut self, write: &Write, now_ms: u64) -> Applied {
        let row = &write.row;
        let held = self.records.get(&row.id);
        if let Some(held) = held
            && held.row.fence > row.fence
        {
            return Applied::Older { newer: held.row.fence };
        }
        // The stored heartbeat is no fact of the row: it travels beside it.
        let facts = MitraRow { heartbeat_age: None, ..row.clone() };
        let same_go_online = held.is_some_and(|held| held.row.online_epoch == row.online_epoch);
        let before = held.map(|held| (held.row.clone(), held.score.is_some(), held.claimed));
        let held_score = held.and_then(|held| held.score).filter(|_| same_go_online);
        let vouched = write.heartbeat_age.map(|age| now_ms.saturating_sub(age.as_millis() as u64));
        let score = match (held_score, vouched) {
            (Some(held), Some(vouched)) => held.max(vouched),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => self.cutoff(now_ms).saturating_sub(1),
        };
        self.unlist(row.id);
        self.records.insert(row.id, Record { row: facts.clone(), score: None, claimed: false });
        if row.online {
            self.online.insert(row.id)
        } else {
            self.online.remove(&row.id)
        };
        if row.active {
            self.deactivated.remove(&row.id)
        } else {
            self.deactivated.insert(row.id)
        };
        if row.listed() {
            self.list(row.id, score.min(now_ms));
        }
        if before == Some((facts, row.listed(), false)) {
            return Applied::Same;
        }
        if let Some(reason) = write.announce {
            self.said.push(MirrorEvent::Control(ControlMessage::Status(StatusChange::of(row, reason))));
        }
        Applied::Changed
    }

    pub(super) fn beat(&mut self, beat: &Beat, now_ms: u64) -> Option<Refusal> {
        let refuse = |why, online_epoch| Some(Refusal { id: beat.id, why, online_epoch });
        let Some(record) = self.records.get(&beat.id) else { return refuse(Refused::Unknown, 0) };
        let epoch = record.row.online_epoch;
        if !record.row.active {
            return refuse(Refused::Deactivated, epoch);
        }
        let Some(score) = record.score else { return refuse(Refused::Offline, epoch) };
        if epoch != beat.online_epoch {
            return refuse(Refused::OtherEpoch, epoch);
        }
        let at_ms = beat.at_ms.min(now_ms);
        if at_ms > score {
            self.list(beat.id, at_ms);
        }
        None
    }

    /// Counts; gives the count a new version when it changed and may be told; keeps the history.
    pub(super) fn pulse(&mut self, now_ms: u64) -> Pulse {
        let Some(epoch) = self.epoch.clone() else {
            return Pulse { now_ms, epoch: None, snapshot: None, due_in: None };
        };
        let cutoff = self.cutoff(now_ms);
        let available = self.available.count_from(cutoff) as u64;
        self.liveness.count_from(cutoff);
        let window = self.settings.snapshot_window.as_millis() as u64;
        // A clock that stepped back must not freeze the window.
        let waited = now_ms.checked_sub(self.published_ms).unwrap_or(window);
        let mut due_in = None;
        if self.published != Some(available) {
            let flips = self.published.is_none_or(|told| (told > 0) != (available > 0));
            if flips || waited >= window {
                self.version += 1;
                self.published = Some(available);
                self.published_ms = now_ms;
                let told = self.snapshot(&epoch, now_ms);
                self.said.push(MirrorEvent::Snapshot(told));
            } else {
                due_in = Some(Duration::from_millis(window - waited));
            }
        }
        self.remember(now_ms);
        Pulse { now_ms, snapshot: Some(self.snapshot(&epoch, now_ms)), epoch: Some(epoch), due_in }
    }

    fn snapshot(&self, epoch: &Arc<str>, now_ms: u64) -> Snapshot {
        Snapshot {
            epoch: Arc::clone(epoch),
            version: self.version,
            available: self.published.unwrap_or(0),
            as_of: moment(now_ms),
            source: Source::Memory,
            stale: false,
        }
    }

    fn remember(&mut self, now_ms: u64) {
        let bucket = now_ms / HISTORY_STEP_MS * HISTORY_STEP_MS;
        let last = self.history.back().map(|point| point.at.timestamp_millis() as u64);
        if last.is_none_or(|last| bucket > last || bucket + HISTORY_STEP_MS < last) {
            let online = self.online.len() as u64;
            self.history.push_back(HistoryPoint { at: moment(bucket), online, available: self.published.unwrap_or(0) });
            while self.history.len() > HISTORY_POINTS {
                self.history.pop_front();
            }
        }
    }

    pub(super) fn counts(&mut self, now_ms: u64) -> Counts {
        let cutoff = self.cutoff(now_ms);
        let reachable = self.liveness.count_from(cutoff) as u64;
        let available = self.available.count_from(cutoff) as u64;
        Counts {
            online: self.online.len() as u64,
            reachable,
            available,
            busy: reachable - available,
            suspect: self.liveness.len() as u64 - reachable,
            deactivated: self.deactivated.len() as u64,
            ..Counts::default()
        }
    }

    pub(super) fn find_available(&mut self, limit: usize, now_ms: u64) -> AvailablePage {
        let total = self.available.count_from(self.cutoff(now_ms));
        if total == 0 {
            return AvailablePage { mitras: Vec::new(), total: 0 };
        }
        let mitras = self
            .available
            .draw(rand::rng().random_range(0..total))
            .take(limit)
            .filter_map(|id| {
                let Record { row, score, .. } = self.records.get(&id)?;
                let age = Duration::from_millis(now_ms.saturating_sub((*score)?));
                let (sessions, max_sessions) = (row.sessions, row.max_sessions);
                Some(AvailableMitra { id, sessions, max_sessions, heartbeat_age: age })
            })
            .collect();
        AvailablePage { mitras, total: total as u64 }
    }

    pub(super) fn entry(&self, id: MitraId, now_ms: u64) -> Option<Entry> {
        let Record { row, score, .. } = self.records.get(&id)?;
        Some(Entry {
            id,
            active: row.active,
            online: self.online.contains(&id),
            sessions: row.sessions,
            max_sessions: row.max_sessions,
            fence: row.fence,
            online_epoch: row.online_epoch,
            heartbeat_age: score.map(|score| Duration::from_millis(now_ms.saturating_sub(score))),
        })
    }

    pub(super) fn is_deactivated(&self, id: MitraId) -> bool {
        self.deactivated.contains(&id)
    }

    pub(super) fn count_silent(&self, silent_for: Duration, now_ms: u64) -> u64 {
        self.liveness.until(now_ms.saturating_sub(silent_for.as_millis() as u64)).count() as u64
    }

    pub(super) fn claim_silent(&mut self, silent_for: Duration, limit: usize, now_ms: u64) -> Vec<Claimed> {
        let until = now_ms.saturating_sub(silent_for.as_millis() as u64);
        let silent: Vec<(u64, MitraId)> = self.liveness.until(until).take(limit).copied().collect();
        let mut claimed = Vec::with_capacity(silent.len());
        for (last_ms, id) in silent {
            self.unlist(id);
            self.online.remove(&id);
            if let Some(record) = self.records.get_mut(&id) {
                record.claimed = true;
                claimed.push(Claimed { id, online_epoch: record.row.online_epoch, last_ms });
            }
        }
        claimed
    }

    pub(super) fn unclaim(&mut self, claimed: &Claimed) {
        let still = self
            .records
            .get(&claimed.id)
            .is_some_and(|record| record.claimed && record.row.online_epoch == claimed.online_epoch);
        if still {
            self.online.insert(claimed.id);
            self.list(claimed.id, claimed.last_ms);
        }
    }

    pub(super) fn known(&self, cursor: u64) -> (u64, Vec<MitraId>) {
        let page: Vec<MitraId> = self.records.keys().skip(cursor as usize).take(PAGE).copied().collect();
        let next = if page.len() < PAGE { 0 } else { cursor + page.len() as u64 };
        (next, page)
    }

    pub(super) fn forget(&mut self, id: MitraId, seen: Fence) -> bool {
        if self.records.get(&id).is_none_or(|record| record.row.fence > seen) {
            return false;
        }
        self.unlist(id);
        self.online.remove(&id);
        self.deactivated.remove(&id);
        self.records.remove(&id).is_some()
    }

    pub(super) fn open_epoch(&mut self) -> Arc<str> {
        Arc::clone(self.epoch.get_or_insert_with(|| Arc::from(Uuid::new_v4().to_string())))
    }

    pub(super) fn history(&self) -> Vec<HistoryPoint> {
        self.history.iter().copied().collect()
    }
}
