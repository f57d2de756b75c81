//! Connections and migrations.

use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::{sleep, timeout};

use super::{
    PostgresStore,
    session::{Pool, explain_start},
};
use crate::store::StoreError;

/// Kind of our advisory lock on a schema; any number that nobody else uses.
const MIGRATION_LOCK: i32 = 0x68_61_64_01;
/// Between two attempts to take it.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Where Postgres is and how long it may take.
#[derive(Clone)]
pub struct PostgresSettings {
    /// Address, with credentials.
    pub url: String,
    pub schema: String,
    /// Capacity of a mitra whose row has none.
    pub default_max_sessions: u32,
    /// Connections for what callers ask and command.
    pub pool_size: u32,
    /// Connections for what presence itself asks; callers never use them.
    pub presence_pool_size: u32,
    pub acquire_timeout: Duration,
    pub query_timeout: Duration,
    pub lock_timeout: Duration,
    pub migrate_timeout: Duration,
}

impl PostgresSettings {
    /// The channel that the triggers ring on.
    pub(super) fn channel(&self) -> String {
        // Cut as the trigger does it: a channel's name has at most 63 bytes.
        format!("hadir_{}", self.schema.chars().take(57).collect::<String>())
    }

    pub(super) fn options(&self, statement_timeout: Duration) -> Result<PgConnectOptions, StoreError> {
        let ms = |period: Duration| period.as_millis().to_string();
        // The driver takes any scheme.
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| self.url.starts_with(scheme));
        let options = PgConnectOptions::from_str(&self.url).ok().filter(|_| is_postgres).ok_or_else(|| {
            // Why is not said: the text may hold the password.
            StoreError::Invalid(
                "DATABASE_URL is not an address of Postgres: write postgres://user:password@host:5432/database; special \
                 characters in the password as %XX, sslmode one of disable, allow, prefer, require, verify-ca, verify-full"
                    .to_owned(),
            )
        })?;
        Ok(options.application_name("hadir").options([
            ("search_path", format!("\"{}\"", self.schema.replace('"', "\"\""))),
            ("statement_timeout", ms(statement_timeout)),
            ("lock_timeout", ms(self.lock_timeout)),
            ("idle_in_transaction_session_timeout", ms(statement_timeout)),
        ]))
    }

    /// A connection outside the pool, whose statements may take so long.
    pub(super) async fn session(&self, name: &str, statement_timeout: Duration) -> Result<PgConnection, StoreError> {
        let options = self.options(statement_timeout)?.application_name(name);
        let connecting = async {
            let mut session = PgConnection::connect_with(&options).await?;
            never_idle_out(&mut session).await?;
            Ok(session)
        };
        match timeout(self.acquire_timeout + self.query_timeout, connecting).await {
            Ok(connected) => connected.map_err(explain_start),
            Err(_) => Err(StoreError::Unavailable("Postgres did not accept a connection in time".to_owned())),
        }
    }
}

impl PostgresStore {
    /// A store that connects when it is first asked: a server that is away at start is no error here.
    ///
    /// # Errors
    /// The address is not one of Postgres.
    pub fn connect(settings: PostgresSettings) -> Result<Self, StoreError> {
        let options = settings.options(settings.query_timeout)?;
        let pool = |size| {
            let pool = PgPoolOptions::new().max_connections(size).acquire_timeout(settings.acquire_timeout);
            Pool::new(pool.connect_lazy_with(options.clone()), settings.query_timeout)
        };
        let (callers, presence) = (pool(settings.pool_size), pool(settings.presence_pool_size));
        Ok(Self { settings, callers, presence })
    }
}

/// A session that lives as long as the node is not ended for being idle. The parameter exists from Postgres 14 on.
pub(super) async fn never_idle_out(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'";
    sqlx::query(sql).execute(session).await.map(|_| ())
}

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
        // Whoever comes second waits for the first, however long its rows are locked.
        sqlx::query("SET lock_timeout = 0").execute(&mut connection).await?;
        // What a table of a backend has already is no news.
        sqlx::query("SET client_min_messages = warning").execute(&mut connection).await?;
        // Asked again and again: one that waited in a statement would be waited for by CREATE INDEX CONCURRENTLY.
        while !sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))")
            .bind(MIGRATION_LOCK)
            .bind(&settings.schema)
            .fetch_one(&mut connection)
            .await?
        {
            sleep(LOCK_PAUSE).await;
        }
        // Asked first: creating one that exists needs a right that a careful operator does not give.
        let exists: bool = sqlx::query_scalar("SELECT count(*) > 0 FROM pg_namespace WHERE nspname = $1")
            .bind(&settings.schema)
            .fetch_one(&mut connection)
            .await?;
        if !exists {
            let schema = settings.schema.replace('"', "\"\"");
            // A schema's name cannot be a parameter; it is quoted, and it is the operator's own.
            sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA \"{schema}\""))).execute(&mut connection).await?;
        }
        // Our lock is held already.
        sqlx::migrate!("migrations/postgres").set_locking(false).run(&mut connection).await?;
        let sql = if new_generation { NEW_GENERATION } else { "SELECT generation FROM hadir_meta" };
        Ok(sqlx::query_scalar(sql).fetch_one(&mut connection).await?)
    };
    let migrated = timeout(settings.migrate_timeout, work).await;
    let answer = match migrated {
        Ok(answer) => answer.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => explain_start(error),
            other => StoreError::Invalid(format!("the migrations cannot be applied: {other}")),
        }),
        Err(_) => Err(StoreError::Unavailable(
            "the migrations did not end in time; raise HADIR_DB_MIGRATE_TIMEOUT_SECONDS".to_owned(),
        )),
    };
    // Ends the session, and with it the lock.
    let _closed = timeout(settings.query_timeout, connection.close()).await;
    answer
}
