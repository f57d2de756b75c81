//! Reads: the mirror while it is live, else the store; every answer says which.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::Utc;
use rand::seq::IteratorRandom;

use super::{Answer, ListFilter, ListPage, MitraView, Presence, PresenceError};
use crate::{
    domain::{AvailablePage, MitraId, MitraRow, Mode, Source, StatusReason},
    hub::AvailabilityNews,
    replication::{DurableState, HistoryPoint, MitraQuery},
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

    /// One page of mitras in order of id.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn list(&self, filter: ListFilter) -> Result<ListPage, PresenceError> {
        let query = MitraQuery {
            state: filter.state.map_or(DurableState::Any, |state| state.durable()),
            search: filter.search,
            after: filter.after,
            limit: filter.limit,
        };
        let profiles = self.replication.store.list(&query).await?;
        let ids: Vec<MitraId> = profiles.iter().map(|profile| profile.row.id).collect();
        let ages = self.heartbeat_ages(&ids).await;
        let next = (ids.len() == filter.limit as usize).then(|| ids.last().copied()).flatten();
        let mitras = profiles
            .into_iter()
            .map(|profile| {
                let view =
                    MitraView::of_row(&profile.row, StatusReason::Initial, self.replication.settings.fresh_in_store());
                self.judged(MitraView { display_name: Some(profile.display_name), ..view }, ages.as_ref())
            })
            .filter(|view| filter.state.is_none_or(|state| state.admits(view.fresh)))
            .collect();
        let answer = self.answer(
            "list",
            (),
            if ages.is_some() { self.replication.mirror.source() } else { self.replication.store.source() },
        );
        Ok(ListPage { mitras, next, source: answer.source, stale: answer.stale, as_of: answer.as_of })
    }

    /// Ages of the last heartbeats as the live mirror knows them; `None` when it cannot be asked. Up to 1,000 ids.
    async fn heartbeat_ages(&self, ids: &[MitraId]) -> Option<HashMap<MitraId, Duration>> {
        let entries = self.replication.mirror.trusted_entries(ids).await?;
        Some(entries.into_iter().flatten().filter_map(|entry| Some((entry.id, entry.heartbeat_age?))).collect())
    }

    /// A view of the store judged by the mirror's ages where they are known: those are exact.
    fn judged(&self, view: MitraView, ages: Option<&HashMap<MitraId, Duration>>) -> MitraView {
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
