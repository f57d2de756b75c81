//! Lists of mitras, page by page: the suspect by silence, all others by id. Every page but the last is full.
//!
//! The store decides who is online and has room. While the mirror is live, it knows who was heard lately: what it leaves
//! out of a page is made up for from behind.

use std::{collections::HashMap, time::Duration};

use super::{ListCursor, ListFilter, ListPage, MitraState, MitraView, Presence, PresenceError};
use crate::{
    domain::{LastHeard, MitraId, Source, StatusReason},
    replication::{DurableState, MitraProfile, MitraQuery, SilentQuery},
};

/// Mitras that are read at once when a page leaves out many.
const MANY: usize = 1_000;

/// Mitras, each with its place in the list, and who judged their freshness.
type Found = (Vec<(ListCursor, MitraView)>, Source);

impl Presence {
    /// One page of mitras: the suspect by silence, the longest first, all others by id.
    ///
    /// # Errors
    /// The store cannot be asked; the cursor belongs to another list, or to an order that is no longer known.
    pub async fn list(&self, filter: &ListFilter) -> Result<ListPage, PresenceError> {
        let (mut found, source) = match filter.state {
            Some(MitraState::Suspect) => self.list_suspects(filter).await?,
            _ => self.list_by_id(filter).await?,
        };
        // One more than the page holds was asked for: it tells whether there is a next one.
        let more = found.len() > filter.limit as usize;
        found.truncate(filter.limit as usize);
        let next = found.last().filter(|_| more).map(|(place, _)| *place);
        let mitras = found.into_iter().map(|(_, view)| view).collect();
        let answer = self.answer("list", (), source);
        Ok(ListPage { mitras, next, source: answer.source, stale: answer.stale, as_of: answer.as_of })
    }

    async fn list_by_id(&self, filter: &ListFilter) -> Result<Found, PresenceError> {
        let after = match filter.after {
            None => None,
            Some(ListCursor::Id(id)) => Some(id),
            Some(ListCursor::Silence { .. }) => return Err(foreign_cursor()),
        };
        if let Some(found) = self.list_judged_by_mirror(filter, after).await? {
            return Ok((found, self.replication.mirror.source()));
        }
        let fresh_within = self.replication.settings.fresh_in_store();
        let needs_fresh = filter.state.is_some_and(MitraState::is_fresh);
        let query = query(filter, after, wanted(filter), needs_fresh.then_some(fresh_within));
        let profiles = self.replication.store.list(&query).await?;
        let found = profiles.into_iter().map(|profile| by_id(self.stored(profile))).collect();
        Ok((found, self.replication.store.source()))
    }

    /// `None`: the mirror is not trusted.
    async fn list_judged_by_mirror(
        &self,
        filter: &ListFilter,
        mut after: Option<MitraId>,
    ) -> Result<Option<Vec<(ListCursor, MitraView)>>, PresenceError> {
        let wanted = wanted(filter);
        let (mut found, mut asked) = (Vec::with_capacity(wanted), wanted);
        while self.replication.mode.is_live() {
            let profiles = self.replication.store.list(&query(filter, after, asked, None)).await?;
            let ids: Vec<MitraId> = profiles.iter().map(|profile| profile.row.id).collect();
            let Some(ages) = self.heartbeat_ages(&ids).await else { return Ok(None) };
            let views = profiles.into_iter().map(|profile| self.judged(self.stored(profile), Some(&ages)));
            let admitted = views.filter(|view| filter.state.is_none_or(|state| state.admits(view.fresh)));
            found.extend(admitted.take(wanted - found.len()).map(by_id));
            if ids.len() < asked || found.len() == wanted {
                return Ok(Some(found));
            }
            (after, asked) = (ids.last().copied(), MANY);
        }
        Ok(None)
    }

    async fn list_suspects(&self, filter: &ListFilter) -> Result<Found, PresenceError> {
        // Their clocks differ, and the store hears later: a place in one order is none in the other.
        let after = |in_mirror: bool| match filter.after {
            None => Ok(None),
            Some(ListCursor::Silence { of_mirror, heard }) if of_mirror == in_mirror => Ok(Some(heard)),
            Some(ListCursor::Silence { .. }) => Err(changed_order()),
            Some(ListCursor::Id(_)) => Err(foreign_cursor()),
        };
        if self.replication.mode.is_live()
            && let Some(found) = self.suspects_of_mirror(filter, after(true)?).await?
        {
            return Ok((found, self.replication.mirror.source()));
        }
        let query = SilentQuery {
            fresh_within: self.replication.settings.fresh_in_store(),
            search: filter.search.clone(),
            after: after(false)?,
            limit: wanted(filter) as u32,
        };
        let silent = self.replication.store.silent(&query).await?;
        let found =
            silent.into_iter().map(|(heard, profile)| (by_silence(heard, false), self.stored(profile))).collect();
        Ok((found, self.replication.store.source()))
    }

    /// `None`: the mirror is not trusted.
    async fn suspects_of_mirror(
        &self,
        filter: &ListFilter,
        mut after: Option<LastHeard>,
    ) -> Result<Option<Vec<(ListCursor, MitraView)>>, PresenceError> {
        let wanted = wanted(filter);
        let mut found = Vec::with_capacity(wanted);
        loop {
            let asked = if filter.search.is_some() { MANY } else { wanted - found.len() };
            let Some(suspects) = self.replication.mirror.suspects(after, asked as u32).await else { return Ok(None) };
            let ids: Vec<MitraId> = suspects.iter().map(|(heard, _)| heard.id).collect();
            let profiles = self.replication.store.profiles(&ids, filter.search.as_deref()).await?;
            let mut profiles: HashMap<MitraId, MitraProfile> =
                profiles.into_iter().map(|profile| (profile.row.id, profile)).collect();
            for (heard, age) in &suspects {
                // The store has the last word on who is online.
                let profile = profiles.remove(&heard.id).filter(|profile| profile.row.listed());
                found.extend(profile.map(|profile| (by_silence(*heard, true), self.silent(profile, *age))));
            }
            if suspects.len() < asked || found.len() >= wanted {
                return Ok(Some(found));
            }
            after = suspects.last().map(|(heard, _)| *heard);
        }
    }

    /// A mitra as the store knows it.
    fn stored(&self, MitraProfile { row, display_name }: MitraProfile) -> MitraView {
        let view = MitraView::of_row(&row, StatusReason::Initial, self.replication.settings.fresh_in_store());
        MitraView { display_name: Some(display_name), ..view }
    }

    /// A mitra that the mirror knows to be silent for so long.
    fn silent(&self, profile: MitraProfile, age: Duration) -> MitraView {
        MitraView { heartbeat_age: Some(age), fresh: false, ..self.stored(profile) }
    }
}

fn wanted(filter: &ListFilter) -> usize {
    filter.limit as usize + 1
}

fn query(filter: &ListFilter, after: Option<MitraId>, limit: usize, fresh_within: Option<Duration>) -> MitraQuery {
    let state = filter.state.map_or(DurableState::Any, MitraState::durable);
    MitraQuery { state, fresh_within, search: filter.search.clone(), after, limit: limit as u32 }
}

fn by_id(view: MitraView) -> (ListCursor, MitraView) {
    (ListCursor::Id(view.change.mitra_id), view)
}

fn by_silence(heard: LastHeard, of_mirror: bool) -> ListCursor {
    ListCursor::Silence { of_mirror, heard }
}

fn foreign_cursor() -> PresenceError {
    PresenceError::Invalid("`cursor` belongs to a list with another `state`: begin without one".to_owned())
}

fn changed_order() -> PresenceError {
    let why = "`source` changed since the last page, and with it the order of this list: begin without `cursor`";
    PresenceError::Invalid(why.to_owned())
}
