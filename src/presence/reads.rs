//! Reads: the mirror while it is live, else the store; every answer says which.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::Utc;
use rand::seq::IteratorRandom;

use super::{Answer, MitraView, Presence, PresenceError};
use crate::{
    domain::{AvailablePage, MitraId, MitraRow, Mode, Source, StatusReason},
    hub::AvailabilityNews,
    replication::HistoryPoint,
};

impl Presence {
    /// The newest availability: this node's frame, else the cached key, else the store.
    ///
    /// # Errors
    /// Before the first frame, when neither can be asked.
    pub async fn availability(&self) -> Result<Arc<AvailabilityNews>, PresenceError> {
        if let Some(news) = self.replication.hub.availability() {
            self.replication.metrics.read("availability", news.snapshot().source);
            return Ok(news);
        }
        if let Some(cached) = self.replication.mirror.cached_snapshot().await {
            self.replication.metrics.read("availability", self.replication.mirror.source());
            return Ok(Arc::new(AvailabilityNews::new(cached)));
        }
        let counts = self.replication.reads.counts().await?;
        self.replication.mode.publish_own(counts.available, self.replication.store.source(), Utc::now());
        self.replication
            .hub
            .availability()
            .ok_or_else(|| PresenceError::Unavailable("no snapshot yet; try again shortly".into()))
    }

    /// A fair random sample of the available mitras.
    ///
    /// # Errors
    /// Neither the mirror nor the store can be asked.
    pub async fn find_available(&self, limit: u32) -> Result<Answer<AvailablePage>, PresenceError> {
        if let Some(page) = self.replication.mirror.find_available(limit).await {
            return Ok(self.answer("find_available", page, self.replication.mirror.source()));
        }
        let AvailablePage { mitras, total } = self.replication.reads.sample().await?;
        let mitras = mitras.into_iter().sample(&mut rand::rng(), limit as usize);
        let page = AvailablePage { mitras, total };
        Ok(self.answer("find_available", page, self.replication.store.source()))
    }

    /// Whether a mitra can be reached now.
    ///
    /// # Errors
    /// Unknown mitra; neither the mirror nor the store can be asked.
    pub async fn reachable(&self, id: MitraId) -> Result<Answer<MitraView>, PresenceError> {
        if let Some(mut entries) = self.replication.mirror.trusted_entries(&[id]).await
            && let Some(Some(entry)) = entries.pop()
        {
            let view = MitraView::of_entry(&entry, StatusReason::Initial, self.replication.settings.suspect_after);
            return Ok(self.answer("reachable", view, self.replication.mirror.source()));
        }
        let row = self.replication.reads.row(id).await?.ok_or(PresenceError::UnknownMitra)?;
        let view = MitraView::of_row(&row, StatusReason::Initial, self.replication.settings.fresh_in_store());
        Ok(self.answer("reachable", view, self.replication.store.source()))
    }

    /// A mitra's own status: the truth from the store, freshness from whoever knows the newest heartbeat.
    ///
    /// # Errors
    /// Unknown mitra; the store cannot be asked.
    pub async fn status(&self, id: MitraId) -> Result<MitraView, PresenceError> {
        let row = self.replication.store.mitra(id).await?.ok_or(PresenceError::UnknownMitra)?;
        Ok(self.view(&row, StatusReason::Initial).await)
    }

    /// A row with its freshness, from whoever knows the newest heartbeat.
    pub(super) async fn view(&self, row: &MitraRow, reason: StatusReason) -> MitraView {
        let ages = self.heartbeat_ages(&[row.id]).await;
        self.judged(MitraView::of_row(row, reason, self.replication.settings.fresh_in_store()), ages.as_ref())
    }

    /// Ages of the last heartbeats as the live mirror knows them; `None` when it cannot be asked. Up to 1,000 ids.
    pub(super) async fn heartbeat_ages(&self, ids: &[MitraId]) -> Option<HashMap<MitraId, Duration>> {
        let entries = self.replication.mirror.trusted_entries(ids).await?;
        Some(entries.into_iter().flatten().filter_map(|entry| Some((entry.id, entry.heartbeat_age?))).collect())
    }

    /// A view of the store judged by the mirror's ages where they are known: those are exact.
    pub(super) fn judged(&self, view: MitraView, ages: Option<&HashMap<MitraId, Duration>>) -> MitraView {
        match ages {
            Some(ages) => {
                let age = ages.get(&view.change.mitra_id).copied();
                MitraView { heartbeat_age: None, fresh: false, ..view }
                    .heard(age, self.replication.settings.suspect_after)
            }
            None => view,
        }
    }

    pub(super) fn answer<T>(&self, op: &'static str, value: T, source: Source) -> Answer<T> {
        self.replication.metrics.read(op, source);
        Answer { value, source, stale: self.is_stale(source), as_of: Utc::now() }
    }

    /// Whether what this source says now may be older than it looks.
    pub(super) fn is_stale(&self, source: Source) -> bool {
        let is_store = source == self.replication.store.source();
        source == Source::Local
            || self.replication.mode.mode() == Mode::Stale
            || (is_store && !self.replication.trust.store_is_settled())
    }

    /// The last hour at 10 s, oldest first; empty while the mirror cannot be asked.
    pub async fn history(&self) -> Vec<HistoryPoint> {
        self.replication.mirror.history().await.unwrap_or_default()
    }
}
