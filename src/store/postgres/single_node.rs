//! The lock of a node that has no shared mirror: two of them on one database would not see each other's heartbeats.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::{sleep, timeout};

use super::{
    connect::PostgresSettings,
    session::{explain_start, too_slow},
};
use crate::store::StoreError;

/// Kind of our advisory lock on a schema; any number that nobody else uses.
const SINGLE_NODE_LOCK: i32 = 0x68_61_64_69;
/// The session is looked at once in so many deadlines.
const QUIET_DEADLINES: u32 = 2;
/// Pause between attempts to take the lock again.
const PAUSE: Duration = Duration::from_millis(500);

/// Held by the one node of a store without a shared mirror; another one is refused while its session lives. Dropped, it
/// is free again.
pub struct SingleNode {
    session: PgConnection,
    /// Of the session at the server: after a break the server may hold on to it for a while, and to its lock.
    backend: i32,
    settings: PostgresSettings,
}

impl SingleNode {
    /// Takes the lock of this schema.
    ///
    /// # Errors
    /// Another node holds it, or Postgres cannot be reached.
    pub async fn take(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let mut session = settings.session("hadir single node", settings.query_timeout).await?;
        let question = sqlx::query_as("SELECT pg_try_advisory_lock($1, hashtext($2)), pg_backend_pid()")
            .bind(SINGLE_NODE_LOCK)
            .bind(&settings.schema)
            .fetch_one(&mut session);
        let (taken, backend): (bool, i32) =
            timeout(settings.query_timeout, question).await.map_err(|_| too_slow())?.map_err(explain_start)?;
        if taken {
            Ok(Self { session, backend, settings: settings.clone() })
        } else {
            Err(StoreError::Invalid(
                "another Hadir runs on this database without Valkey; stop it, or set VALKEY_URL for both".to_owned(),
            ))
        }
    }

    /// Keeps the lock: a lost session (a restarted server, a cut connection) is noticed within seconds and the lock is taken
    /// again. Ends only when another node was faster, with the reason why this one must stop.
    pub async fn keep(mut self) -> StoreError {
        loop {
            sleep(self.settings.query_timeout * QUIET_DEADLINES).await;
            let ping = timeout(self.settings.query_timeout, self.session.ping()).await;
            if matches!(ping, Ok(Ok(()))) {
                continue;
            }
            tracing::warn!("the lock of the only node was lost with its session; taking it again");
            self = loop {
                match Self::take(&self.settings).await {
                    Ok(again) => break again,
                    Err(StoreError::Unavailable(why)) => tracing::debug!(%why, "the lock cannot be taken yet"),
                    Err(taken) => match self.end_former_session().await {
                        Ok(true) => tracing::debug!("the server still held the lock for the session that was lost"),
                        Ok(false) => return taken,
                        Err(why) => tracing::debug!(%why, "the lock cannot be looked at yet"),
                    },
                }
                sleep(PAUSE).await;
            };
        }
    }

    /// Ends our own former session, if it is what holds the lock. Says whether it was.
    async fn end_former_session(&self) -> Result<bool, StoreError> {
        let mut session = self.settings.session("hadir single node", self.settings.query_timeout).await?;
        let question = sqlx::query_scalar(
            "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_locks \
             WHERE locktype = 'advisory' AND granted AND classid::bigint = $1 \
             AND objid::bigint = hashtext($2)::bigint & 4294967295 AND objsubid = 2 AND pid = $3 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .bind(i64::from(SINGLE_NODE_LOCK))
        .bind(&self.settings.schema)
        .bind(self.backend)
        .fetch_one(&mut session);
        timeout(self.settings.query_timeout, question).await.map_err(|_| too_slow())?.map_err(explain_start)
    }
}
