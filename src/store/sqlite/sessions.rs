//! Chat sessions: read, decided by `domain`, and written in one transaction; there is one writer at a time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use super::{SqliteStore, id_column, text_of, writes::Tx};
use crate::{
    domain::{Actor, Cause, ChatSession, CustomerId, Holder, MitraFacts, MitraId, SessionAction, SessionId},
    store::{
        SessionChange, SessionCounts, StoreError,
        decode::{decoded, unreadable},
    },
};

const YEAR_1900_MS: i64 = -2_208_988_800_000;
const YEAR_9999_MS: i64 = 253_402_214_400_000;

/// `SELECT` of the columns of a [`ChatSession`].
macro_rules! select_sessions {
    ($rest:literal) => {
        concat!("SELECT id, customer_id, mitra_id, status, expires_at, created_at FROM chat_sessions ", $rest)
    };
}

fn session_row(row: &SqliteRow) -> Result<ChatSession, sqlx::Error> {
    let status: &str = row.try_get("status")?;
    let mitra: Option<&str> = row.try_get("mitra_id")?;
    let expires_at: Option<i64> = row.try_get("expires_at")?;
    Ok(ChatSession {
        id: SessionId(id_column(row, "id")?.0),
        customer_id: CustomerId(id_column(row, "customer_id")?.0),
        mitra_id: mitra.map(|_| id_column(row, "mitra_id")).transpose()?,
        status: status.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        expires_at: expires_at.map(time),
        created_at: time(row.try_get("created_at")?),
    })
}

/// Bounded as the rules of the tables bound it: a row may be older than its rules.
pub(super) fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms.clamp(YEAR_1900_MS, YEAR_9999_MS)).unwrap_or_default()
}

impl SqliteStore {
    async fn session_in(&self, tx: &mut Tx, id: SessionId) -> Result<Option<ChatSession>, sqlx::Error> {
        let query = sqlx::query(select_sessions!("WHERE id = ?1")).bind(id.to_string());
        query.fetch_optional(&mut **tx).await?.map(|row| session_row(&row)).transpose()
    }

    async fn write_in(&self, tx: &mut Tx, session: &ChatSession) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE chat_sessions SET status = ?2, mitra_id = ?3, expires_at = ?4 WHERE id = ?1")
            .bind(session.id.to_string())
            .bind(session.status.as_str())
            .bind(session.mitra_id.map(|mitra| mitra.to_string()))
            .bind(session.expires_at.map(|at| at.timestamp_millis()))
            .execute(&mut **tx)
            .await
            .map(|_| ())
    }

    /// Why this mitra may not take a session now.
    async fn refusal(&self, tx: &mut Tx, mitra: MitraId) -> Result<Option<StoreError>, sqlx::Error> {
        let Some(row) = self.row_in(tx, mitra).await? else { return Ok(Some(StoreError::UnknownMitra(mitra))) };
        // From the sessions themselves, as Postgres does it, not from the count of them.
        let sql = "SELECT count(*) FROM chat_sessions WHERE mitra_id = ?1 AND status IN ('active', 'pending_payment')";
        let sessions = sqlx::query_scalar(sql).bind(mitra.to_string()).fetch_one(&mut **tx).await?;
        if !row.listed() {
            return Ok(Some(StoreError::NotAvailable(mitra)));
        }
        Ok((!MitraFacts { sessions, ..row.facts }.has_room()).then_some(StoreError::CapacityExceeded(mitra)))
    }

    pub(super) async fn write_session(
        &self,
        id: Option<SessionId>,
        customer: CustomerId,
    ) -> Result<(ChatSession, bool), StoreError> {
        let id = id.unwrap_or_else(|| SessionId(Uuid::now_v7()));
        self.writing(async {
            let mut tx = self.begin(&Cause::new(Actor::Service, "")).await?;
            if let Some(session) = self.session_in(&mut tx, id).await? {
                let is_same = session.customer_id == customer;
                return Ok(if is_same { Ok((session, false)) } else { Err(StoreError::SessionIdTaken(id)) });
            }
            let sql = "INSERT INTO customers (id) VALUES (?1) ON CONFLICT (id) DO NOTHING";
            sqlx::query(sql).bind(customer.to_string()).execute(&mut *tx).await?;
            let sql = "INSERT INTO chat_sessions (id, customer_id, status) VALUES (?1, ?2, 'searching')";
            sqlx::query(sql).bind(id.to_string()).bind(customer.to_string()).execute(&mut *tx).await?;
            let session = self.session_in(&mut tx, id).await?.ok_or(sqlx::Error::RowNotFound)?;
            self.commit(tx).await?;
            Ok(Ok((session, true)))
        })
        .await?
    }

    pub(super) async fn read_session(&self, id: SessionId) -> Result<Option<ChatSession>, StoreError> {
        let query = sqlx::query(select_sessions!("WHERE id = ?1")).bind(id.to_string());
        let row = self.reading(query.fetch_optional(&self.readers)).await?;
        row.as_ref().map(session_row).transpose().map_err(|error| unreadable("session", id, &error))
    }

    pub(super) async fn write_session_change(
        &self,
        id: SessionId,
        action: &SessionAction,
        cause: &Cause,
    ) -> Result<SessionChange, StoreError> {
        self.writing(async {
            let mut tx = self.begin(cause).await?;
            let Some(before) = self.session_in(&mut tx, id).await? else {
                return Ok(Err(StoreError::UnknownSession(id)));
            };
            let after = match before.after(action, Utc::now()) {
                Ok(after) => after,
                Err(wrong) => return Ok(Err(wrong.into())),
            };
            let changed = after.is_some();
            if let Some(after) = after {
                if let Holder::Becomes(mitra) = action.holder()
                    && let Some(refusal) = self.refusal(&mut tx, mitra).await?
                {
                    return Ok(Err(refusal));
                }
                self.write_in(&mut tx, &after).await?;
            }
            let session = self.session_in(&mut tx, id).await?.ok_or(sqlx::Error::RowNotFound)?;
            let mut concerned = vec![before.mitra_id, session.mitra_id];
            concerned.sort_unstable();
            concerned.dedup();
            let mut mitras = Vec::new();
            for mitra in concerned.into_iter().flatten() {
                mitras.extend(self.row_in(&mut tx, mitra).await?);
            }
            self.commit(tx).await?;
            Ok(Ok(SessionChange { session, changed, mitras }))
        })
        .await?
    }

    pub(super) async fn write_expired_sessions(&self, limit: u32) -> Result<Vec<SessionChange>, StoreError> {
        self.writing(async {
            let mut tx = self.begin(&Cause::new(Actor::Sweep, "time ran out")).await?;
            let sql = select_sessions!(
                "WHERE status IN ('searching', 'pending_payment', 'active') AND expires_at <= ?1 \
                 ORDER BY expires_at, id LIMIT ?2"
            );
            let now = Utc::now();
            let overdue = sqlx::query(sql).bind(now.timestamp_millis()).bind(limit).fetch_all(&mut *tx).await?;
            let mut changes = Vec::new();
            for session in decoded(&overdue, "session", text_of("id"), session_row) {
                let Ok(Some(session)) = session.after(&SessionAction::Expire, now) else { continue };
                self.write_in(&mut tx, &session).await?;
                changes.push(SessionChange { session, changed: true, mitras: Vec::new() });
            }
            for change in &mut changes {
                if let Some(mitra) = change.session.mitra_id {
                    change.mitras.extend(self.row_in(&mut tx, mitra).await?);
                }
            }
            self.commit(tx).await?;
            Ok(changes)
        })
        .await
    }

    pub(super) async fn read_next_expiry(&self) -> Result<Option<Duration>, StoreError> {
        let sql = "SELECT max(min(expires_at, 253402214400000), -2208988800000) - CAST(unixepoch('subsec') * 1000 AS INTEGER) FROM chat_sessions \
                   WHERE status IN ('searching', 'pending_payment', 'active') AND expires_at IS NOT NULL \
                   ORDER BY expires_at LIMIT 1";
        let ms: Option<i64> = self.reading(sqlx::query_scalar(sql).fetch_optional(&self.readers)).await?;
        Ok(ms.map(|ms| Duration::from_millis(ms.max(0) as u64)))
    }

    pub(super) async fn read_load(&self, mitra: MitraId, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        let sql = "SELECT id FROM chat_sessions WHERE mitra_id = ?1 AND status IN ('active', 'pending_payment') \
                   ORDER BY created_at, id LIMIT ?2";
        let rows = self.reading(sqlx::query(sql).bind(mitra.to_string()).bind(limit).fetch_all(&self.readers)).await?;
        Ok(decoded(&rows, "session", text_of("id"), |row| Ok(SessionId(id_column(row, "id")?.0))))
    }

    pub(super) async fn read_session_counts(&self) -> Result<SessionCounts, StoreError> {
        let sql = "SELECT count(*) FILTER (WHERE status = 'searching') AS searching, \
                   count(*) FILTER (WHERE status = 'pending_payment') AS pending_payment, \
                   count(*) FILTER (WHERE status = 'active') AS active \
                   FROM chat_sessions WHERE status IN ('searching', 'pending_payment', 'active')";
        let row = self.reading(sqlx::query(sql).fetch_one(&self.readers)).await?;
        let number = |column| row.try_get::<i64, _>(column).map(|n| n.max(0) as u64).map_err(super::explain);
        Ok(SessionCounts {
            searching: number("searching")?,
            pending_payment: number("pending_payment")?,
            active: number("active")?,
        })
    }
}
