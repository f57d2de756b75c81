//! Pages of mitras: by id, by silence, and those that a search finds among given ids.
//!
//! SQLite folds the case of ASCII only, and a function of ours in its statements would need unsafe code. So rows stream
//! out of the statement and the search is decided here, until the page is full.

use futures_util::TryStreamExt;
use sqlx::{
    Row, Sqlite,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{SqliteStore, json_ids, reads::profile, text_of};
use crate::{
    domain::{LastHeard, MitraId},
    store::{
        DurableState, MitraProfile, MitraQuery, SilentQuery, StoreError, decode::decoded, milliseconds, page_of_state,
        part_of_id,
    },
};

/// What a search looks for.
struct Search {
    name: String,
    part_of_id: Option<String>,
}

impl Search {
    fn new(search: Option<&str>) -> Option<Self> {
        let search = search.filter(|text| !text.is_empty())?;
        Some(Self { name: fold(search), part_of_id: part_of_id(Some(search)) })
    }

    fn finds(&self, profile: &MitraProfile) -> bool {
        let id = || profile.row.id.0.simple().to_string();
        self.part_of_id.as_ref().is_some_and(|part| id().contains(part))
            || fold(&profile.display_name).contains(&self.name)
    }
}

/// One form for all cases of a letter: in upper case turned to lower case, as Postgres does it. A letter whose upper case is
/// several letters is left as it is.
fn fold(text: &str) -> String {
    let upper = |letter: char| {
        let mut upper = letter.to_uppercase();
        if upper.len() == 1 { upper.next().unwrap_or(letter) } else { letter }
    };
    text.chars().flat_map(|letter| upper(letter).to_lowercase()).collect()
}

/// Rows of a page that may be unreadable without leaving it short.
const SPARE: i64 = 1_000;

/// How many rows a statement gives at most: the page and some to spare, or all (-1) when a search decides among them.
fn most(search: Option<&str>, limit: u32) -> i64 {
    if search.is_none_or(str::is_empty) { i64::from(limit) + SPARE } else { -1 }
}

/// A mitra with its place in the order of silence.
fn placed(row: &SqliteRow) -> Result<(LastHeard, MitraProfile), sqlx::Error> {
    let (profile, heard_ms) = (profile(row)?, row.try_get::<i64, _>("heard_ms")?);
    Ok((LastHeard { at_ms: u64::try_from(heard_ms).unwrap_or(0), id: profile.row.id }, profile))
}

impl SqliteStore {
    pub(super) async fn read_list(&self, query: &MitraQuery) -> Result<Vec<MitraProfile>, StoreError> {
        macro_rules! page_where {
            ($($state:literal),+) => {
                select_mitras!(
                    "WHERE m.id > ?2 AND ",
                    $($state,)+
                    " AND (?3 IS NULL OR h.last_heartbeat_at BETWEEN CAST(unixepoch('subsec') * 1000 AS INTEGER) - ?3 \
                     AND CAST(unixepoch('subsec') * 1000 AS INTEGER) + 10000) \
                     ORDER BY m.id LIMIT ?4"
                )
            };
        }
        let sql = page_of_state!(query.state, page_where, "?1");
        let prepared = sqlx::query(sql)
            .bind(self.settings.default_max_sessions)
            .bind(query.after.map(|id| id.to_string()).unwrap_or_default())
            .bind(query.fresh_within.map(milliseconds))
            .bind(most(query.search.as_deref(), query.limit));
        let found = self.found(prepared, query.search.as_deref(), query.limit).await?;
        Ok(found.into_iter().map(|(_, profile)| profile).collect())
    }

    pub(super) async fn read_silent(&self, query: &SilentQuery) -> Result<Vec<(LastHeard, MitraProfile)>, StoreError> {
        let sql = select_mitras!(
            "WHERE s.is_online = 1 AND heard_ms < CAST(unixepoch('subsec') * 1000 AS INTEGER) - ?2 \
             AND (heard_ms, m.id) > (?3, ?4) ORDER BY heard_ms, m.id LIMIT ?5"
        );
        let (after_ms, after) = match query.after {
            Some(after) => (i64::try_from(after.at_ms).unwrap_or(i64::MAX), after.id.to_string()),
            None => (-1, String::new()),
        };
        let prepared = sqlx::query(sql)
            .bind(self.settings.default_max_sessions)
            .bind(milliseconds(query.fresh_within))
            .bind(after_ms)
            .bind(after)
            .bind(most(query.search.as_deref(), query.limit));
        self.found(prepared, query.search.as_deref(), query.limit).await
    }

    pub(super) async fn read_profiles(
        &self,
        ids: &[MitraId],
        search: Option<&str>,
    ) -> Result<Vec<MitraProfile>, StoreError> {
        let sql = select_mitras!("WHERE m.id IN (SELECT value FROM json_each(?2))");
        let prepared = sqlx::query(sql).bind(self.settings.default_max_sessions).bind(json_ids(ids.iter().copied()));
        let found = self.found(prepared, search, u32::MAX).await?;
        Ok(found.into_iter().map(|(_, profile)| profile).collect())
    }

    /// The first rows of a statement that the search finds.
    async fn found(
        &self,
        statement: Query<'_, Sqlite, SqliteArguments>,
        search: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(LastHeard, MitraProfile)>, StoreError> {
        let search = Search::new(search);
        self.reading(async {
            let mut found = Vec::new();
            let mut rows = statement.fetch(&self.readers);
            while found.len() < limit as usize
                && let Some(row) = rows.try_next().await?
            {
                found.extend(
                    decoded(&[row], "mitra", text_of("id"), placed)
                        .into_iter()
                        .filter(|(_, profile)| search.as_ref().is_none_or(|search| search.finds(profile))),
                );
            }
            Ok(found)
        })
        .await
    }
}
