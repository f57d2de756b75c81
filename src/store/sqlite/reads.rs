//! Questions, over the reading connections.

use std::time::Duration;

use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use super::{SqliteStore, explain, id_column, json_ids, mitra_row, mitra_rows, sessions::time, text_of};
use crate::{
    domain::{AvailableMitra, AvailablePage, Counts, MitraId, MitraRow, PresenceEvent, SessionId, SubjectId},
    store::{
        AuthSession, MitraProfile, StoreError,
        decode::{decoded, unreadable, whole_page},
        milliseconds,
    },
};

pub(super) fn profile(row: &SqliteRow) -> Result<MitraProfile, sqlx::Error> {
    Ok(MitraProfile { row: mitra_row(row)?, display_name: row.try_get("display_name")? })
}

fn available(row: &SqliteRow) -> Result<AvailableMitra, sqlx::Error> {
    let row = mitra_row(row)?;
    Ok(AvailableMitra {
        id: row.id,
        sessions: row.sessions,
        max_sessions: row.max_sessions,
        heartbeat_age: row.heartbeat_age.unwrap_or_default(),
    })
}

impl SqliteStore {
    pub(super) async fn read_profile(&self, id: MitraId) -> Result<Option<MitraProfile>, StoreError> {
        let sql = select_mitras!("WHERE m.id = ?2");
        let query = sqlx::query(sql).bind(self.settings.default_max_sessions).bind(id.to_string());
        let row = self.reading(query.fetch_optional(&self.readers)).await?;
        row.as_ref().map(profile).transpose().map_err(|error| unreadable("mitra", id, &error))
    }

    pub(super) async fn read_rows(&self, ids: &[MitraId]) -> Result<Vec<MitraRow>, StoreError> {
        let sql = select_mitras!("WHERE m.id IN (SELECT value FROM json_each(?2)) ORDER BY m.id");
        let query = sqlx::query(sql).bind(self.settings.default_max_sessions).bind(json_ids(ids.iter().copied()));
        let rows = self.reading(query.fetch_all(&self.readers)).await?;
        Ok(mitra_rows(&rows))
    }

    pub(super) async fn read_scan(&self, after: Option<MitraId>, limit: u32) -> Result<Vec<MitraRow>, StoreError> {
        let sql = select_mitras!("WHERE m.id > ?2 ORDER BY m.id LIMIT ?3");
        let query = |after: &String, wanted: u32| {
            sqlx::query(sql).bind(self.settings.default_max_sessions).bind(after.clone()).bind(wanted)
        };
        whole_page!(
            limit,
            after.map(|id| id.to_string()).unwrap_or_default(),
            |after, wanted| self.reading(query(after, wanted).fetch_all(&self.readers)),
            text_of("id"),
            mitra_rows
        )
    }

    pub(super) async fn read_counts(&self, fresh_within: Duration) -> Result<Counts, StoreError> {
        let sql = "SELECT count(*) AS online, \
             coalesce(sum(fresh), 0) AS reachable, coalesce(sum(fresh AND room), 0) AS available, \
             (SELECT count(*) FROM mitras WHERE is_active = 0) AS deactivated, \
             (SELECT count(*) FROM chat_sessions WHERE status = 'active') AS active_sessions, \
             (SELECT count(*) FROM chat_sessions WHERE status = 'pending_payment') AS pending_payment_sessions \
             FROM (SELECT \
               coalesce(h.last_heartbeat_at BETWEEN CAST(unixepoch('subsec') * 1000 AS INTEGER) - ?2 \
                 AND CAST(unixepoch('subsec') * 1000 AS INTEGER) + 10000, 0) AS fresh, \
               s.active_sessions < coalesce(m.max_sessions, ?1) AS room \
               FROM mitra_status s JOIN mitras m ON m.id = s.mitra_id JOIN mitra_heartbeats h ON h.mitra_id = s.mitra_id \
               WHERE s.is_online = 1)";
        let query = sqlx::query(sql).bind(self.settings.default_max_sessions).bind(milliseconds(fresh_within));
        let row = self.reading(query.fetch_one(&self.readers)).await?;
        let number = |column| row.try_get::<i64, _>(column).map(|n| n as u64).map_err(explain);
        let (online, reachable, available) = (number("online")?, number("reachable")?, number("available")?);
        Ok(Counts {
            online,
            reachable,
            available,
            busy: reachable - available,
            suspect: online - reachable,
            deactivated: number("deactivated")?,
            active_sessions: number("active_sessions")?,
            pending_payment_sessions: number("pending_payment_sessions")?,
        })
    }

    pub(super) async fn read_available(&self, fresh_within: Duration, limit: u32) -> Result<AvailablePage, StoreError> {
        let sql = concat!(
            "SELECT *, count(*) OVER () AS total FROM (",
            select_mitras!(
                "WHERE s.is_online = 1 AND m.is_active = 1 AND s.active_sessions < coalesce(m.max_sessions, ?1)"
            ),
            ") WHERE age_ms <= ?2 ORDER BY random() LIMIT ?3"
        );
        let query = sqlx::query(sql)
            .bind(self.settings.default_max_sessions)
            .bind(milliseconds(fresh_within))
            .bind(limit.max(1));
        let rows = self.reading(query.fetch_all(&self.readers)).await?;
        let total = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>("total")).map_err(explain)?;
        // The total stands in a row: one is asked for even when none is wanted.
        let wanted = &rows[..rows.len().min(limit as usize)];
        let mitras = decoded(wanted, "mitra", text_of("id"), available);
        Ok(AvailablePage { mitras, total: total as u64 })
    }

    /// The newest first, of one kind or of all.
    pub(super) async fn read_events(
        &self,
        id: MitraId,
        kind: Option<&str>,
        limit: u32,
    ) -> Result<Vec<PresenceEvent>, StoreError> {
        let sql = "SELECT id, kind, reason, actor, at, session_id FROM presence_events \
                   WHERE mitra_id = ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY id DESC LIMIT ?3";
        let query = sqlx::query(sql).bind(id.to_string()).bind(kind).bind(limit);
        let rows = self.reading(query.fetch_all(&self.readers)).await?;
        let event = |row: &SqliteRow| {
            let session: Option<&str> = row.try_get("session_id")?;
            Ok(PresenceEvent {
                kind: row.try_get("kind")?,
                reason: row.try_get("reason")?,
                actor: row.try_get("actor")?,
                at: time(row.try_get("at")?),
                session_id: session.map(|_| id_column(row, "session_id")).transpose()?.map(|id| SessionId(id.0)),
            })
        };
        Ok(decoded(&rows, "event", |row| row.try_get::<i64, _>("id"), event))
    }

    pub(super) async fn read_auth_session(&self, id: Uuid) -> Result<Option<AuthSession>, StoreError> {
        let sql = "SELECT subject_id, role, \
             revoked_at IS NULL AND expires_at > CAST(unixepoch('subsec') * 1000 AS INTEGER) AS valid \
             FROM auth_sessions WHERE id = ?1";
        let row = self.reading(sqlx::query(sql).bind(id.to_string()).fetch_optional(&self.readers)).await?;
        row.map(|row| {
            Ok(AuthSession {
                subject: SubjectId(id_column(&row, "subject_id")?.0),
                role: row.try_get("role")?,
                valid: row.try_get("valid")?,
            })
        })
        .transpose()
        .map_err(|error: sqlx::Error| unreadable("sign-in", id, &error))
    }

    pub(super) async fn read_changed_since(&self, revision: i64, limit: u32) -> Result<Vec<MitraRow>, StoreError> {
        let sql = select_mitras!("WHERE s.revision > ?2 ORDER BY s.revision LIMIT ?3");
        let query = |after: &i64, wanted: u32| {
            sqlx::query(sql).bind(self.settings.default_max_sessions).bind(*after).bind(wanted)
        };
        whole_page!(
            limit,
            revision,
            |after, wanted| self.reading(query(after, wanted).fetch_all(&self.readers)),
            |row: &SqliteRow| row.try_get("revision"),
            mitra_rows
        )
    }

    pub(super) async fn read_newest_revision(&self) -> Result<i64, StoreError> {
        let sql = "SELECT coalesce(max(revision), 0) FROM mitra_status";
        self.reading(sqlx::query_scalar(sql).fetch_one(&self.readers)).await
    }

    pub(super) async fn read_invalid_sign_ins(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        let sql = "SELECT j.value AS id FROM json_each(?1) j LEFT JOIN auth_sessions a ON a.id = j.value \
                   WHERE a.id IS NULL OR a.revoked_at IS NOT NULL \
                   OR a.expires_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER)";
        let query = sqlx::query(sql).bind(json_ids(ids.iter()));
        let rows = self.reading(query.fetch_all(&self.readers)).await?;
        rows.iter().map(|row| id_column(row, "id").map(|id| id.0)).collect::<Result<_, _>>().map_err(explain)
    }
}
