//! Questions.

use std::time::Duration;

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{PostgresStore, explain, mitra_row, select_mitras, uuid_of};
use crate::{
    domain::{AvailableMitra, AvailablePage, Counts, MitraId, PresenceEvent, SessionId, SubjectId},
    store::{
        AuthSession, MitraProfile, StoreError,
        decode::{decoded, unreadable},
        milliseconds,
    },
};

pub(super) fn profile(row: &PgRow) -> Result<MitraProfile, sqlx::Error> {
    Ok(MitraProfile { row: mitra_row(row)?, display_name: row.try_get("display_name")? })
}

fn available(row: &PgRow) -> Result<AvailableMitra, sqlx::Error> {
    let row = mitra_row(row)?;
    Ok(AvailableMitra {
        id: row.id,
        sessions: row.sessions,
        max_sessions: row.max_sessions,
        heartbeat_age: row.heartbeat_age.unwrap_or_default(),
    })
}

impl PostgresStore {
    pub(super) async fn read_profile(&self, id: MitraId) -> Result<Option<MitraProfile>, StoreError> {
        let query = sqlx::query(select_mitras!("FROM hadir_mitras WHERE id = $2")).bind(self.capacity()).bind(id.0);
        let row = self.callers.ask_one(query).await?;
        row.as_ref().map(profile).transpose().map_err(|error| unreadable("mitra", id, &error))
    }

    pub(super) async fn read_counts(&self, fresh_within: Duration) -> Result<Counts, StoreError> {
        let sql = "SELECT count(*) AS online, \
             count(*) FILTER (WHERE fresh) AS reachable, count(*) FILTER (WHERE fresh AND room) AS available, \
             (SELECT count(*) FROM mitras WHERE NOT is_active) AS deactivated, \
             (SELECT count(*) FROM chat_sessions WHERE status = 'active') AS active_sessions, \
             (SELECT count(*) FROM chat_sessions WHERE status = 'pending_payment') AS pending_payment_sessions \
             FROM (SELECT h.last_heartbeat_at >= now() - $2 * interval '1 millisecond' \
                     AND h.last_heartbeat_at <= hadir_latest_heartbeat() AS fresh, \
                     s.active_sessions < coalesce(m.max_sessions, $1) AS room \
                   FROM mitra_status s JOIN mitras m ON m.id = s.mitra_id \
                   JOIN mitra_heartbeats h ON h.mitra_id = s.mitra_id WHERE s.is_online) AS online";
        let query = sqlx::query(sql).bind(self.capacity()).bind(milliseconds(fresh_within));
        let row = self.presence.ask_one(query).await?.ok_or_else(|| explain(sqlx::Error::RowNotFound))?;
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
        let sql = select_mitras!(
            ", count(*) OVER () AS total FROM hadir_mitras WHERE is_online AND is_active \
             AND active_sessions < coalesce(max_sessions, $1) \
             AND last_heartbeat_at >= now() - $2 * interval '1 millisecond' \
             AND last_heartbeat_at <= hadir_latest_heartbeat() ORDER BY random() LIMIT $3"
        );
        let query =
            sqlx::query(sql).bind(self.capacity()).bind(milliseconds(fresh_within)).bind(i64::from(limit.max(1)));
        let rows = self.presence.ask(query).await?;
        let total = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>("total")).map_err(explain)?;
        // The total stands in a row: one is asked for even when none is wanted.
        let wanted = &rows[..rows.len().min(limit as usize)];
        let mitras = decoded(wanted, "mitra", uuid_of("id"), available);
        Ok(AvailablePage { mitras, total: total as u64 })
    }

    /// The newest first, of one kind or of all.
    pub(super) async fn read_events(
        &self,
        id: MitraId,
        kind: Option<&str>,
        limit: u32,
    ) -> Result<Vec<PresenceEvent>, StoreError> {
        let sql = "SELECT kind, reason, actor, id, hadir_time(at) AS at, session_id FROM presence_events \
                   WHERE mitra_id = $1 AND ($2 IS NULL OR kind = $2) ORDER BY id DESC LIMIT $3";
        let query = sqlx::query(sql).bind(id.0).bind(kind).bind(i64::from(limit));
        let rows = self.callers.ask(query).await?;
        let event = |row: &PgRow| {
            Ok(PresenceEvent {
                kind: row.try_get("kind")?,
                reason: row.try_get("reason")?,
                actor: row.try_get("actor")?,
                at: row.try_get("at")?,
                session_id: row.try_get::<Option<Uuid>, _>("session_id")?.map(SessionId),
            })
        };
        Ok(decoded(&rows, "event", |row| row.try_get::<i64, _>("id"), event))
    }

    pub(super) async fn read_auth_session(&self, id: Uuid) -> Result<Option<AuthSession>, StoreError> {
        let sql = "SELECT subject_id, role, revoked_at IS NULL AND expires_at > now() AS valid \
                   FROM auth_sessions WHERE id = $1";
        let row = self.callers.ask_one(sqlx::query(sql).bind(id)).await?;
        row.map(|row| {
            Ok(AuthSession {
                subject: SubjectId(row.try_get("subject_id")?),
                role: row.try_get("role")?,
                valid: row.try_get("valid")?,
            })
        })
        .transpose()
        .map_err(|error: sqlx::Error| unreadable("sign-in", id, &error))
    }

    pub(super) async fn read_invalid_sign_ins(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        let sql = "SELECT u.id FROM unnest($1) AS u (id) LEFT JOIN auth_sessions a ON a.id = u.id \
                   WHERE a.id IS NULL OR a.revoked_at IS NOT NULL OR a.expires_at <= now()";
        let rows = self.presence.ask(sqlx::query(sql).bind(ids.to_vec())).await?;
        rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>().map_err(explain)
    }
}
