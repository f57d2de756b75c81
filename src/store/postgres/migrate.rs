//! Migrations, under an advisory lock of the schema.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, migrate::MigrateError};
use tokio::time::{sleep, timeout};

use super::{
    connect::{PostgresSettings, run},
    holders::{Holder, MIGRATION_LOCK, holders},
    session::{explain_start, too_slow},
};
use crate::store::StoreError;

/// Between two attempts to take the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// A wait for the lock that is worth a line of the log.
const LONG_WAIT: Duration = Duration::from_secs(3);

/// Milliseconds since 1970: greater than any generation that an older copy can hold.
pub(super) const NEW_GENERATION: &str = "UPDATE hadir_meta SET \
    generation = greatest(generation + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint) RETURNING generation";

/// Applies migrations under an advisory lock, creating the schema if it is missing; with `new_generation` also declares that
/// the database was restored, so that everything from now on is newer than what was lost. Returns the generation.
///
/// # Errors
/// Postgres cannot be reached or refuses; the text says what.
pub async fn migrate(settings: &PostgresSettings, new_generation: bool) -> Result<i64, StoreError> {
    let mut connection = settings.session("hadir migrate", settings.migrate_timeout).await?;
    let work = async {
        take_lock(&mut connection, settings).await?;
        create_schema(&mut connection, settings).await?;
        // Our lock is held already.
        sqlx::migrate!("migrations/postgres").set_locking(false).run(&mut connection).await.map_err(
            |error| match error {
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => explain_start(error),
                MigrateError::VersionMismatch(_) | MigrateError::VersionMissing(_) => other_version(&settings.schema),
                other => StoreError::Invalid(format!("the migrations cannot be applied: {other}")),
            },
        )?;
        let sql = if new_generation { NEW_GENERATION } else { "SELECT generation FROM hadir_meta" };
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.map_err(explain_start)
    };
    let answer = timeout(settings.migrate_timeout, work).await.unwrap_or_else(|_| {
        Err(StoreError::Unavailable(
            "the migrations did not end in time; raise HADIR_DB_MIGRATE_TIMEOUT_SECONDS".to_owned(),
        ))
    });
    // Ends the session, and with it the lock.
    let _closed = timeout(settings.query_timeout, connection.close()).await;
    answer
}

/// Tables of another version than this one can go on from.
pub(super) fn other_version(schema: &str) -> StoreError {
    StoreError::Invalid(format!(
        "the tables of schema `{schema}` were made by another version of Hadir, from before its first release or newer than \
         this one: name an empty schema in HADIR_DB_SCHEMA, or run that version"
    ))
}

/// Asked again and again: one that waited in a statement would be waited for by CREATE INDEX CONCURRENTLY.
async fn take_lock(connection: &mut PgConnection, settings: &PostgresSettings) -> Result<(), StoreError> {
    // A migration waits for rows, however long they are locked; what a table of a backend has already is no news.
    let sql = "SET lock_timeout TO 0; SET client_min_messages TO warning";
    run(connection, sql.to_owned(), settings.query_timeout).await?;
    let began = Instant::now();
    // Ends before the whole does, so that the reason is said.
    let patience = settings.migrate_timeout.saturating_sub(LOCK_PAUSE * 4);
    let mut told = false;
    while !sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))")
        .bind(MIGRATION_LOCK)
        .bind(&settings.schema)
        .fetch_one(&mut *connection)
        .await
        .map_err(explain_start)?
    {
        let is_over = began.elapsed() >= patience;
        if is_over || began.elapsed() >= LONG_WAIT && !told {
            let asked = holders(connection, MIGRATION_LOCK, &settings.schema);
            let held = timeout(settings.query_timeout, asked).await.map_err(|_| too_slow())??;
            let holder = held.first().map_or_else(|| "another session".to_owned(), Holder::to_string);
            if is_over {
                return Err(StoreError::Unavailable(format!(
                    "the lock for migrations of schema `{}` is held by {holder}; wait until that is done, or end it",
                    settings.schema
                )));
            }
            told = true;
            tracing::warn!(%holder, "the lock for migrations is held by another session; this one waits for it");
        }
        sleep(LOCK_PAUSE).await;
    }
    Ok(())
}

/// Creates the schema if it is missing, and sees that tables would be created in it and nowhere else.
async fn create_schema(connection: &mut PgConnection, settings: &PostgresSettings) -> Result<(), StoreError> {
    // Asked first: creating one that exists needs a right that a careful operator does not give.
    let exists: bool = sqlx::query_scalar("SELECT count(*) > 0 FROM pg_namespace WHERE nspname = $1")
        .bind(&settings.schema)
        .fetch_one(&mut *connection)
        .await
        .map_err(explain_start)?;
    if !exists {
        run(connection, format!("CREATE SCHEMA {}", settings.quoted_schema()), settings.query_timeout).await?;
    }
    let current: Option<String> =
        sqlx::query_scalar("SELECT current_schema()").fetch_one(connection).await.map_err(explain_start)?;
    // Without the rights on the schema, that of temporary tables is the next in the search path.
    match current.filter(|name| !name.starts_with("pg_temp_")) {
        Some(current) if current == settings.schema => Ok(()),
        Some(other) => Err(StoreError::Invalid(format!(
            "tables would be created in schema `{other}` instead of `{}`: something between Hadir and Postgres changes \
             the search path; connect to Postgres itself",
            settings.schema
        ))),
        None => Err(StoreError::Invalid(format!(
            "give the user of DATABASE_URL the rights USAGE and CREATE on schema `{}`, or a schema of its own",
            settings.schema
        ))),
    }
}
