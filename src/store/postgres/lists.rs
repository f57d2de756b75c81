//! Pages of mitras: by id, by silence, and those that a search finds among given ids.

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresStore, explain, reads::profile, select_mitras, select_page, uuid_of};
use crate::{
    domain::{LastHeard, MitraId},
    store::{
        DurableState, MitraProfile, MitraQuery, SilentQuery, StoreError,
        decode::{decoded, whole_page},
        milliseconds, page_of_state, part_of_id,
    },
};

/// Whether a mitra is found, by the parameters of the search and of its part of an id. Letters are compared in upper case
/// turned to lower case, so that all forms of one letter are the same (the Greek sigma has three).
macro_rules! found_by {
    ($id:literal, $name:literal, $search:literal, $part:literal) => {
        concat!(
            "(",
            $search,
            " = '' OR strpos(replace(",
            $id,
            "::text, '-', ''), ",
            $part,
            ") > 0 OR strpos(lower(upper(",
            $name,
            ")), lower(upper(",
            $search,
            "))) > 0)"
        )
    };
}

impl PostgresStore {
    pub(super) async fn read_list(&self, query: &MitraQuery) -> Result<Vec<MitraProfile>, StoreError> {
        macro_rules! page_where {
            ($($state:literal),+) => {
                select_page!(
                    "id",
                    "$4",
                    "m.id > $2 AND s.mitra_id > $2 AND h.mitra_id > $2 AND ",
                    $($state,)+
                    " AND ($6::bigint IS NULL OR h.last_heartbeat_at >= now() - $6 * interval '1 millisecond' \
                     AND h.last_heartbeat_at <= hadir_latest_heartbeat()) AND ",
                    found_by!("m.id", "m.display_name", "$3", "$5")
                )
            };
        }
        let sql = page_of_state!(query.state, page_where, "$1");
        let search = query.search.as_deref();
        let prepared = |after: &Uuid, wanted: u32| {
            sqlx::query(sql)
                .bind(self.capacity())
                .bind(*after)
                .bind(search.unwrap_or_default())
                .bind(i64::from(wanted))
                .bind(part_of_id(search))
                .bind(query.fresh_within.map(milliseconds))
        };
        whole_page!(
            query.limit,
            query.after.map_or(Uuid::nil(), |id| id.0),
            |after, wanted| self.callers.ask(prepared(after, wanted)),
            uuid_of("id"),
            |rows: &[PgRow]| decoded(rows, "mitra", uuid_of("id"), profile)
        )
    }

    pub(super) async fn read_silent(&self, query: &SilentQuery) -> Result<Vec<(LastHeard, MitraProfile)>, StoreError> {
        // A heartbeat touches no index, so this reads all who are online and keeps the oldest of them.
        let sql = select_mitras!(
            ", heard_ms FROM (SELECT *, (SELECT generation FROM hadir_meta) AS generation, \
             hadir_age_ms(last_heartbeat_at) AS age_ms \
             FROM (SELECT * FROM (SELECT m.id, m.display_name, m.is_active, s.is_online, s.active_sessions, m.max_sessions, \
             s.revision, s.online_epoch, h.last_heartbeat_at, \
             coalesce(CASE WHEN h.last_heartbeat_at <= hadir_latest_heartbeat() \
               THEN greatest(floor(extract(epoch FROM hadir_time(h.last_heartbeat_at)) * 1000)::bigint, 0) END, 0) AS heard_ms \
             FROM mitra_status s JOIN mitras m ON m.id = s.mitra_id JOIN mitra_heartbeats h ON h.mitra_id = s.mitra_id \
             WHERE s.is_online AND coalesce(h.last_heartbeat_at < now() - $2 * interval '1 millisecond' \
               OR h.last_heartbeat_at > hadir_latest_heartbeat(), true) AND ",
            found_by!("m.id", "m.display_name", "$3", "$4"),
            ") AS silent WHERE (heard_ms, id) > ($5, $6) ORDER BY heard_ms, id LIMIT $7) AS page) AS aged ORDER BY heard_ms, id"
        );
        let search = query.search.as_deref();
        let after = match query.after {
            Some(after) => (i64::try_from(after.at_ms).unwrap_or(i64::MAX), after.id.0),
            None => (-1, Uuid::nil()),
        };
        let prepared = |after: &(i64, Uuid), wanted: u32| {
            sqlx::query(sql)
                .bind(self.capacity())
                .bind(milliseconds(query.fresh_within))
                .bind(search.unwrap_or_default())
                .bind(part_of_id(search))
                .bind(after.0)
                .bind(after.1)
                .bind(i64::from(wanted))
        };
        whole_page!(
            query.limit,
            after,
            |after, wanted| self.callers.ask(prepared(after, wanted)),
            |row: &PgRow| Ok::<_, sqlx::Error>((row.try_get("heard_ms")?, row.try_get("id")?)),
            |rows: &[PgRow]| decoded(rows, "mitra", uuid_of("id"), silent)
        )
    }

    pub(super) async fn read_profiles(
        &self,
        ids: &[MitraId],
        search: Option<&str>,
    ) -> Result<Vec<MitraProfile>, StoreError> {
        let sql =
            select_mitras!("FROM hadir_mitras WHERE id = ANY($2) AND ", found_by!("id", "display_name", "$3", "$4"));
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let prepared =
            sqlx::query(sql).bind(self.capacity()).bind(ids).bind(search.unwrap_or_default()).bind(part_of_id(search));
        let rows = self.callers.ask(prepared).await?;
        Ok(decoded(&rows, "mitra", uuid_of("id"), profile))
    }
}

fn silent(row: &PgRow) -> Result<(LastHeard, MitraProfile), sqlx::Error> {
    let profile = profile(row)?;
    let heard_ms: i64 = row.try_get("heard_ms")?;
    Ok((LastHeard { at_ms: u64::try_from(heard_ms).unwrap_or(0), id: profile.row.id }, profile))
}
