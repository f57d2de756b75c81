//! Connections, and what each of them is set to.

use std::{sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, PgConnection, postgres::PgPoolOptions};
use tokio::time::timeout;

use super::{
    PostgresStore,
    outage::Outage,
    servers::Servers,
    session::{Pool, explain_start, too_slow},
};
use crate::store::StoreError;

/// Where Postgres is and how long it may take.
#[derive(Clone)]
pub struct PostgresSettings {
    /// Address, with credentials; several servers as `host1:5432,host2:5432`.
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

    /// The schema's name as SQL writes it.
    pub(super) fn quoted_schema(&self) -> String {
        format!("\"{}\"", self.schema.replace('"', "\"\""))
    }

    pub(super) fn servers(&self) -> Result<Arc<Servers>, StoreError> {
        Servers::new(&self.url, self.acquire_timeout)
    }

    /// Connections that one node holds at most: both pools, the one that listens and the one of the nodes' lock.
    pub fn connections(&self) -> u32 {
        self.pool_size + self.presence_pool_size + 2
    }

    /// What a connection is set to, as statements. Not as parameters of its start: poolers refuse those or drop them
    /// without a word. The isolation is ours to choose, whatever the database's default is.
    pub(super) fn set_up(&self, statement_timeout: Duration) -> String {
        let ms = |period: Duration| period.as_millis();
        format!(
            // A temporary table would be found before the schema's own, were it not named last.
            "SET search_path TO {}, pg_temp; SET statement_timeout TO {}; SET lock_timeout TO {}; \
             SET idle_in_transaction_session_timeout TO {}; SET default_transaction_isolation TO 'read committed'",
            self.quoted_schema(),
            ms(statement_timeout),
            ms(self.lock_timeout),
            ms(statement_timeout),
        )
    }

    /// A connection outside the pools with nothing set.
    pub(super) async fn connect(&self, name: &str) -> Result<PgConnection, StoreError> {
        self.servers()?.connect(name).await
    }

    /// A connection outside the pools, whose statements may take so long. It is never ended for being idle.
    pub(super) async fn session(&self, name: &str, statement_timeout: Duration) -> Result<PgConnection, StoreError> {
        let mut session = self.connect(name).await?;
        let sql = format!("{}; {NEVER_IDLE_OUT}", self.set_up(statement_timeout));
        run(&mut session, sql, self.query_timeout).await?;
        Ok(session)
    }
}

/// Statements without values, as one message.
pub(super) async fn run(session: &mut PgConnection, sql: String, deadline: Duration) -> Result<(), StoreError> {
    // Names in it are quoted, and they are the operator's own.
    let running = sqlx::raw_sql(AssertSqlSafe(sql)).execute(session);
    timeout(deadline, running).await.map_err(|_| too_slow())?.map_err(explain_start).map(|_| ())
}

impl PostgresStore {
    /// A store that connects when it is first asked: a server that is away at start is no error here.
    ///
    /// # Errors
    /// The address is not one of Postgres.
    pub fn connect(settings: PostgresSettings) -> Result<Self, StoreError> {
        let servers = settings.servers()?;
        let outage = Arc::new(Outage::default());
        let set_up: Arc<str> = settings.set_up(settings.query_timeout).into();
        let pool = |size, is_presence| {
            let (set_up, followed) = (Arc::clone(&set_up), Arc::clone(&servers));
            let pool = PgPoolOptions::new()
                .max_connections(size)
                .acquire_timeout(settings.acquire_timeout)
                .after_connect(move |connection, _| {
                    let sql = AssertSqlSafe(set_up.to_string());
                    Box::pin(async move { sqlx::raw_sql(sql).execute(connection).await.map(|_| ()) })
                })
                // A connection that is older than the choice of its server may lead to another server.
                .before_acquire(move |_, connection| {
                    let is_current = !followed.are_several() || connection.age < followed.chosen_for();
                    Box::pin(async move { Ok(is_current) })
                })
                .connect_lazy_with(servers.current("hadir"));
            Pool::new(pool, settings.query_timeout, Arc::clone(&servers), Arc::clone(&outage), is_presence)
        };
        let (callers, presence) = (pool(settings.pool_size, false), pool(settings.presence_pool_size, true));
        Ok(Self { settings, servers, callers, presence, outage })
    }
}

/// A session that lives as long as the node is not ended for being idle. The parameter exists from Postgres 14 on.
pub(super) const NEVER_IDLE_OUT: &str =
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'";
