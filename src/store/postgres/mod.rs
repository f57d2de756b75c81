//! The truth in Postgres, shared by all nodes and written by other programs too.
//!
//! Every call has a deadline, and a connection that missed one is dropped: a vanished server is otherwise waited for
//! without end (sqlx issue 4349). The rules live in the triggers and functions of `migrations/postgres`; this translates
//! between them and the trait. Only `app` constructs this.

mod bells;
mod connect;
mod reads;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use sqlx::{PgPool, Row, postgres::PgRow};
use tokio::time::timeout;
use uuid::Uuid;

pub use connect::{PostgresSettings, SingleNode, migrate};

use super::{AuthSession, Bell, MitraProfile, MitraQuery, Store, StoreError, Transition};
use crate::domain::{AvailablePage, Cause, Counts, Fence, MitraId, MitraRow, PresenceEvent, Source};

/// The truth in Postgres.
pub struct PostgresStore {
    settings: PostgresSettings,
    pool: PgPool,
}

/// The columns of a row of the view `hadir_mitras`, `$1` being the default capacity, and the rest of the statement.
macro_rules! select_mitras {
    ($($rest:literal),+) => {
        concat!(
            "SELECT id, display_name, is_active, is_online, active_sessions, coalesce(max_sessions, $1) AS max_sessions, \
             revision, online_epoch, generation, age_ms ",
            $($rest),+
        )
    };
}
use select_mitras;

fn mitra_row(row: &PgRow) -> Result<MitraRow, sqlx::Error> {
    let age_ms: Option<i64> = row.try_get("age_ms")?;
    let number = |column| row.try_get::<i32, _>(column).map(|n| n.max(0) as u32);
    Ok(MitraRow {
        id: MitraId(row.try_get("id")?),
        active: row.try_get("is_active")?,
        online: row.try_get("is_online")?,
        sessions: number("active_sessions")?,
        max_sessions: number("max_sessions")?,
        fence: Fence { generation: row.try_get("generation")?, revision: row.try_get("revision")? },
        online_epoch: row.try_get("online_epoch")?,
        heartbeat_age: age_ms.map(|age| Duration::from_millis(age.max(0) as u64)),
    })
}

/// Constraint violations are the caller's; everything else means that the store cannot be asked now.
fn explain(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(refused) if refused.kind() != sqlx::error::ErrorKind::Other => {
            StoreError::Invalid(refused.message().to_owned())
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

impl PostgresStore {
    async fn within<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        match timeout(self.settings.query_timeout, work).await {
            Ok(answer) => answer.map_err(explain),
            // Dropping the future drops its connection.
            Err(_) => Err(StoreError::Unavailable("Postgres did not answer in time".to_owned())),
        }
    }

    fn capacity(&self) -> i32 {
        i32::try_from(self.settings.default_max_sessions).unwrap_or(i32::MAX)
    }

    async fn rows(
        &self,
        query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<Vec<MitraRow>, StoreError> {
        let rows = self.within(query.fetch_all(&self.pool)).await?;
        rows.iter().map(mitra_row).collect::<Result<_, _>>().map_err(explain)
    }

    async fn transition(
        &self,
        id: MitraId,
        query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<Transition, StoreError> {
        let row = self.within(query.fetch_optional(&self.pool)).await?.ok_or(StoreError::UnknownMitra(id))?;
        let transition = || Ok(Transition { row: mitra_row(&row)?, changed: row.try_get("changed")? });
        transition().map_err(explain)
    }
}

/// A write function's answer: whether it changed the row, and the row.
macro_rules! call {
    ($function:literal) => {
        select_mitras!(", changed FROM (SELECT f.changed, (f.mitra_row).* FROM ", $function, " AS f) AS written")
    };
}

#[async_trait]
impl Store for PostgresStore {
    fn source(&self) -> Source {
        Source::Postgres
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // A demoted primary still answers `SELECT 1`.
        let sql = "SELECT current_setting('transaction_read_only')";
        let read_only: String = self.within(sqlx::query_scalar(sql).fetch_one(&self.pool)).await?;
        if read_only == "on" { Err(StoreError::Unavailable("Postgres is read-only".to_owned())) } else { Ok(()) }
    }

    async fn mitra(&self, id: MitraId) -> Result<Option<MitraRow>, StoreError> {
        Ok(self.profile(id).await?.map(|profile| profile.row))
    }

    async fn mitras(&self, ids: &[MitraId]) -> Result<Vec<MitraRow>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let sql = select_mitras!("FROM hadir_mitras WHERE id = ANY ($2) ORDER BY id");
        self.rows(sqlx::query(sql).bind(self.capacity()).bind(ids)).await
    }

    async fn profile(&self, id: MitraId) -> Result<Option<MitraProfile>, StoreError> {
        self.read_profile(id).await
    }

    async fn put_mitra(
        &self,
        id: MitraId,
        display_name: &str,
        max_sessions: Option<u32>,
        cause: &Cause,
    ) -> Result<Transition, StoreError> {
        let max_sessions = max_sessions.map(|max| i32::try_from(max).unwrap_or(i32::MAX));
        let query = sqlx::query(call!("hadir_put_mitra($2, $3, $4, $5, $6)"))
            .bind(self.capacity())
            .bind(id.0)
            .bind(display_name)
            .bind(max_sessions)
            .bind(cause.actor.as_str())
            .bind(&cause.reason);
        self.transition(id, query).await
    }

    async fn set_online(&self, id: MitraId, online: bool, cause: &Cause) -> Result<Transition, StoreError> {
        let query = sqlx::query(call!("hadir_set_online($2, $3, $4, $5)"))
            .bind(self.capacity())
            .bind(id.0)
            .bind(online)
            .bind(cause.actor.as_str())
            .bind(&cause.reason);
        let transition = self.transition(id, query).await?;
        if online && !transition.row.active { Err(StoreError::Deactivated(id)) } else { Ok(transition) }
    }

    async fn set_active(&self, id: MitraId, active: bool, cause: &Cause) -> Result<Transition, StoreError> {
        let query = sqlx::query(call!("hadir_set_active($2, $3, $4, $5)"))
            .bind(self.capacity())
            .bind(id.0)
            .bind(active)
            .bind(cause.actor.as_str())
            .bind(&cause.reason);
        self.transition(id, query).await
    }

    async fn expire_silent(
        &self,
        candidates: &[(MitraId, i64)],
        silent_for: Duration,
    ) -> Result<Vec<MitraRow>, StoreError> {
        let (ids, epochs): (Vec<Uuid>, Vec<i64>) = candidates.iter().map(|(id, epoch)| (id.0, *epoch)).unzip();
        let query = sqlx::query(select_mitras!("FROM hadir_expire_silent($2, $3, $4)"))
            .bind(self.capacity())
            .bind(ids)
            .bind(epochs)
            .bind(silent_for.as_millis() as i64);
        self.rows(query).await
    }

    async fn record_heartbeats(&self, ages: &[(MitraId, Duration)]) -> Result<u64, StoreError> {
        let (ids, ages): (Vec<Uuid>, Vec<i64>) = ages.iter().map(|(id, age)| (id.0, age.as_millis() as i64)).unzip();
        let query = sqlx::query_scalar("SELECT hadir_record_heartbeats($1, $2)").bind(ids).bind(ages);
        let moved: i64 = self.within(query.fetch_one(&self.pool)).await?;
        Ok(moved as u64)
    }

    async fn counts(&self, fresh_within: Duration) -> Result<Counts, StoreError> {
        self.read_counts(fresh_within).await
    }

    async fn find_available(&self, fresh_within: Duration, limit: u32) -> Result<AvailablePage, StoreError> {
        self.read_available(fresh_within, limit).await
    }

    async fn list(&self, query: &MitraQuery) -> Result<Vec<MitraProfile>, StoreError> {
        self.read_list(query).await
    }

    async fn scan(&self, after: Option<MitraId>, limit: u32) -> Result<Vec<MitraRow>, StoreError> {
        // The nil id is nobody's: version 4 and 7 ids are greater.
        let sql = select_mitras!("FROM hadir_mitras WHERE id > $2 ORDER BY id LIMIT $3");
        let after = after.map_or(Uuid::nil(), |id| id.0);
        self.rows(sqlx::query(sql).bind(self.capacity()).bind(after).bind(i64::from(limit))).await
    }

    async fn events(&self, id: MitraId, limit: u32) -> Result<Vec<PresenceEvent>, StoreError> {
        self.read_events(id, limit).await
    }

    async fn prune_events(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM presence_events WHERE id IN (SELECT id FROM presence_events \
                   WHERE at < now() - $1 * interval '1 millisecond' ORDER BY at LIMIT $2)";
        let query = sqlx::query(sql).bind(keep.as_millis() as i64).bind(i64::from(limit));
        Ok(self.within(query.execute(&self.pool)).await?.rows_affected())
    }

    async fn auth_session(&self, id: Uuid) -> Result<Option<AuthSession>, StoreError> {
        self.read_auth_session(id).await
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.within(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&self.pool)).await
    }

    async fn bells(&self) -> Result<BoxStream<'static, Bell>, StoreError> {
        Ok(bells::listen(self.pool.clone(), self.settings.channel()))
    }

    async fn close(&self) {
        // A connection that hangs is not waited for.
        let _late = timeout(self.settings.query_timeout, self.pool.close()).await;
    }
}
