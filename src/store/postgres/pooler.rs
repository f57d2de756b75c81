//! Whether a connection is one session of Postgres. Behind a pooler in transaction mode it is not: statements of one
//! connection run in sessions that others use too, so that notifications and advisory locks do not work.

use sqlx::{Connection, PgConnection, Row};
use tokio::time::timeout;

use super::{
    connect::{PostgresSettings, run},
    session::explain_start,
};
use crate::store::StoreError;

/// Refuses a pooler that lends sessions for one transaction or statement. Changes nothing: no session of it is set to
/// anything, and nothing is prepared.
///
/// # Errors
/// Such a pooler stands between Hadir and Postgres, or Postgres cannot be reached.
pub async fn refuse_transaction_pooler(settings: &PostgresSettings) -> Result<(), StoreError> {
    let mut one = settings.connect("hadir start").await?;
    let mut other = settings.connect("hadir start").await?;
    let question = is_shared(&mut one, &mut other, settings);
    let answer = timeout(settings.query_timeout, question).await.unwrap_or_else(|_| {
        Err(StoreError::Unavailable(format!(
            "two connections at once were not served in time: Hadir takes up to {} of them",
            settings.connections()
        )))
    });
    for connection in [one, other] {
        let _closed = timeout(settings.query_timeout, connection.close()).await;
    }
    if answer? { Err(transaction_pooler()) } else { Ok(()) }
}

pub(super) fn transaction_pooler() -> StoreError {
    StoreError::Invalid(
        "DATABASE_URL leads to a pooler in transaction or statement mode, which gives each transaction another session: \
         notifications and locks do not work there; connect to Postgres itself, or set the pooler to session mode"
            .to_owned(),
    )
}

/// Whether both connections met in one session, or one of them in two.
async fn is_shared(
    one: &mut PgConnection,
    other: &mut PgConnection,
    settings: &PostgresSettings,
) -> Result<bool, StoreError> {
    let first = backend(one).await?;
    // A pooler that takes turns gives another session now.
    if backend(one).await? != first {
        return Ok(true);
    }
    // One that gives the session used last gives the other connection ours.
    match run(other, "BEGIN".to_owned(), settings.query_timeout).await {
        // In statement mode there are no transactions.
        Err(StoreError::Invalid(why) | StoreError::Unavailable(why)) if why.contains("pooling mode") => {
            return Ok(true);
        }
        begun => begun?,
    }
    let held = backend(other).await?;
    let shared = held == first || backend(one).await? != first;
    run(other, "ROLLBACK".to_owned(), settings.query_timeout).await?;
    Ok(shared)
}

/// Which session of Postgres answers.
pub(super) async fn backend(connection: &mut PgConnection) -> Result<i32, StoreError> {
    let row = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await.map_err(explain_start)?;
    row.try_get(0).map_err(explain_start)
}
