//! Connections, migrations, and the lock of a node that has no shared mirror.

use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use super::PostgresStore;
use crate::store::StoreError;

/// Keys of our advisory locks; any two numbers that nobody else uses, spelling "hadir".
const MIGRATION_LOCK: i64 = 0x68_61_64_69_72_01;
const SINGLE_NODE_LOCK: i32 = 0x68_61_64_69;

/// Where Postgres is and how long it may take.
#[derive(Clone)]
pub struct PostgresSettings {
    /// Address, with credentials.
    pub url: String,
    pub schema: String,
    /// Capacity of a mitra whose row has none.
    pub default_max_sessions: u32,
    pub pool_size: u32,
    pub acquire_timeout: Duration,
    pub query_timeout: Duration,
    pub lock_timeout: Duration,
    pub migrate_timeout: Duration,
}

impl PostgresSettings {
    /// The channel that the triggers ring on.
    pub(super) fn channel(&self) -> String {
        format!("hadir_{}", self.schema)
    }

    fn options(&self, statement_timeout: Duration) -> Result<PgConnectOptions, StoreError> {
        let ms = |period: Duration| period.as_millis().to_string();
        let options = PgConnectOptions::from_str(&self.url).map_err(|_| {
            StoreError::Invalid(
                "DATABASE_URL is not an address of Postgres: postgres://user:password@host/database".into(),
            )
        })?;
        Ok(options.application_name("hadir").options([
            ("search_path", format!("\"{}\"", self.schema.replace('"', "\"\""))),
            ("statement_timeout", ms(statement_timeout)),
            ("lock_timeout", ms(self.lock_timeout)),
            ("idle_in_transaction_session_timeout", ms(statement_timeout)),
        ]))
    }

    async fn connect(&self, statement_timeout: Duration) -> Result<PgConnection, StoreError> {
        let options = self.options(statement_timeout)?;
        match timeout(self.migrate_timeout, PgConnection::connect_with(&options)).await {
            Ok(connected) => connected.map_err(super::explain),
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
        let pool = PgPoolOptions::new()
            .max_connections(settings.pool_size)
            .acquire_timeout(settings.acquire_timeout)
            .connect_lazy_with(settings.options(settings.query_timeout)?);
        Ok(Self { settings, pool })
    }
}

/// Applies migrations under an advisory lock, creating the schema if it is missing; with `new_generation` also declares that
/// the database was restored, so that everything from now on is newer than what was lost. Returns the generation.
///
/// # Errors
/// Postgres cannot be reached or refuses; the text says what.
pub async fn migrate(settings: &PostgresSettings, new_generation: bool) -> Result<i64, StoreError> {
    let mut connection = settings.connect(settings.migrate_timeout).await?;
    let work = async {
        sqlx::query("SET lock_timeout = 0").execute(&mut connection).await?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(MIGRATION_LOCK).execute(&mut connection).await?;
        let schema = settings.schema.replace('"', "\"\"");
        // A schema's name cannot be a parameter; it is quoted, and it is the operator's own.
        sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"")))
            .execute(&mut connection)
            .await?;
        sqlx::migrate!("migrations/postgres").run(&mut connection).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error) => error,
            other => sqlx::Error::Configuration(Box::new(other)),
        })?;
        let sql = "UPDATE hadir_meta SET generation = CASE WHEN $1 \
                     THEN greatest(generation + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint) \
                     ELSE generation END RETURNING generation";
        sqlx::query_scalar(sql).bind(new_generation).fetch_one(&mut connection).await
    };
    let migrated = timeout(settings.migrate_timeout, work).await;
    let answer = match migrated {
        Ok(answer) => answer.map_err(super::explain),
        Err(_) => {
            Err(StoreError::Unavailable("the migration did not end in time; raise HADIR_DB_MIGRATE_SECONDS".into()))
        }
    };
    // Ends the session, and with it the lock.
    let _closed = connection.close().await;
    answer
}

/// Held by the one node of a store without a shared mirror; another one is refused while it lives.
pub struct SingleNode {
    _session: PgConnection,
}

impl SingleNode {
    /// Takes the lock of this schema.
    ///
    /// # Errors
    /// Another node holds it, or Postgres cannot be reached.
    pub async fn take(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let mut session = settings.connect(settings.query_timeout).await?;
        // The session lives as long as the node: nothing may time it out.
        let sql = "SELECT pg_try_advisory_lock($1, hashtext($2))";
        let taken: bool = sqlx::query_scalar(sql)
            .bind(SINGLE_NODE_LOCK)
            .bind(&settings.schema)
            .fetch_one(&mut session)
            .await
            .map_err(super::explain)?;
        if taken {
            Ok(Self { _session: session })
        } else {
            Err(StoreError::Invalid(
                "another Hadir runs on this database without Valkey; stop it, or set VALKEY_URL for both".to_owned(),
            ))
        }
    }
}
