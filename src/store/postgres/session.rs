//! One question on one connection, bounded; and what an error means.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::{
    PgPool, Postgres, Row,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
};
use tokio::time::timeout;

use super::{
    outage::{Fault, Outage},
    servers::Servers,
};
use crate::store::{StoreError, broken_rule};

/// A prepared statement with its values.
pub(super) type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// A connection of the pool with a question on its way. Given up in the middle (deadline, or the caller went away), it leaves
/// the pool and is dropped: handed back, the pool would wait for a vanished server without end and never lend its place
/// again (sqlx issue 4349).
struct Asking(Option<PoolConnection<Postgres>>);

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Some connections, for one kind of question. Who asks through one pool never waits for those of the other.
pub(super) struct Pool {
    connections: PgPool,
    /// Longest wait for one answer.
    deadline: Duration,
    servers: Arc<Servers>,
    /// Number of the server that the pool connects to.
    server: AtomicUsize,
    outage: Arc<Outage>,
    /// Callers may use up their connections by waiting for rows: that says nothing about Postgres.
    is_presence: bool,
}

impl Pool {
    pub(super) fn new(
        connections: PgPool,
        deadline: Duration,
        servers: Arc<Servers>,
        outage: Arc<Outage>,
        is_presence: bool,
    ) -> Self {
        let server = AtomicUsize::new(servers.chosen());
        Self { connections, deadline, servers, server, outage, is_presence }
    }

    /// The rows of an answer. Every statement of the store goes through here.
    pub(super) async fn ask(&self, query: Query<'_>) -> Result<Vec<PgRow>, StoreError> {
        let chosen = self.servers.chosen();
        if self.server.swap(chosen, Relaxed) != chosen {
            self.connections.set_connect_options(self.servers.current("hadir"));
        }
        match self.try_to_ask(query).await {
            Ok(rows) => {
                self.outage.answered();
                Ok(rows)
            }
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// `None` is a deadline that passed.
    async fn try_to_ask(&self, query: Query<'_>) -> Result<Vec<PgRow>, Option<sqlx::Error>> {
        let mut asking = Asking(Some(self.connections.acquire().await?));
        let Some(connection) = &mut asking.0 else { return Ok(Vec::new()) };
        let deadline = self.deadline;
        let answer = match timeout(deadline, query.fetch_all(&mut **connection)).await {
            Ok(answer @ (Ok(_) | Err(sqlx::Error::Database(_)))) => answer,
            Ok(Err(broken)) => return Err(Some(broken)),
            Err(_) => return Err(None),
        };
        if let Some(mut connection) = asking.0.take() {
            // Handing back asks the server once more; out of time, the connection is dropped and its place is free.
            let _late = timeout(deadline, connection.return_to_pool()).await;
        }
        Ok(answer?)
    }

    /// What the error means for the caller, for the log and for the choice of the server.
    async fn failed(&self, error: Option<sqlx::Error>) -> StoreError {
        let is_waiting = matches!(error, None | Some(sqlx::Error::PoolTimedOut));
        let fault = match &error {
            Some(sqlx::Error::Database(refused)) if !is_ending(&refused.code().unwrap_or_default()) => Fault::Refusing,
            _ => Fault::Silent,
        };
        let told = error.map_or_else(too_slow, explain);
        let StoreError::Unavailable(why) = &told else {
            self.outage.answered();
            return told;
        };
        if self.servers.are_several() {
            self.servers.search().await;
        }
        if !is_waiting {
            self.outage.failed(fault, why);
        } else if self.is_presence && !self.outage.is_told() {
            // The pool says only that it waited: a connection of its own says why.
            match self.servers.connect("hadir").await {
                Err(StoreError::Unavailable(why) | StoreError::Invalid(why)) => self.outage.failed(Fault::Silent, &why),
                _ => self.outage.failed(Fault::Silent, why),
            }
        }
        told
    }

    /// The first row of an answer, if there is one.
    pub(super) async fn ask_one(&self, query: Query<'_>) -> Result<Option<PgRow>, StoreError> {
        Ok(self.ask(query).await?.into_iter().next())
    }

    /// The only value of the only row.
    pub(super) async fn single<T>(&self, query: Query<'_>) -> Result<T, StoreError>
    where
        T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        let row = self.ask_one(query).await?.ok_or_else(|| explain(sqlx::Error::RowNotFound))?;
        row.try_get(0).map_err(explain)
    }

    /// A connection that hangs is not waited for.
    pub(super) async fn close(&self) {
        let _late = timeout(self.deadline, self.connections.close()).await;
    }
}

/// Postgres ended the session, or does not let us in now.
fn is_ending(code: &str) -> bool {
    code.starts_with("57") || code.starts_with("08")
}

pub(super) fn read_only() -> StoreError {
    StoreError::Unavailable("Postgres is read-only: a replica, or default_transaction_read_only is on".to_owned())
}

pub(super) fn too_slow() -> StoreError {
    StoreError::timeout("Postgres did not answer")
}

/// Values that break a rule are the caller's; everything else means that the store cannot be asked now.
pub(super) fn explain(error: sqlx::Error) -> StoreError {
    let refused = match error {
        sqlx::Error::Database(refused) => refused,
        sqlx::Error::PoolTimedOut => {
            return StoreError::timeout(
                "no connection to Postgres within HADIR_DB_ACQUIRE_TIMEOUT_MS: it is away, or all connections are in use and none was free",
            );
        }
        undecoded @ (sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }) => {
            return StoreError::Unreadable(undecoded.to_string());
        }
        other => return StoreError::Unavailable(other.to_string()),
    };
    let code = refused.code().unwrap_or_default();
    match (&*code, refused.constraint()) {
        // Postgres names the constraint in a sentence about relations; a trigger of ours speaks for itself.
        ("23514", Some(constraint)) if refused.message().contains(constraint) => broken_rule(constraint),
        (code, _) if code.starts_with("22") || code.starts_with("23") => {
            StoreError::Invalid(refused.message().to_owned())
        }
        ("25006", _) => read_only(),
        ("57014", _) if refused.message().contains("statement timeout") => too_slow(),
        ("55P03" | "40P01", _) => StoreError::Busy,
        ("42501", _) => StoreError::Unavailable(format!(
            "the user of DATABASE_URL lacks a right ({}); `hadir check` names all that are missing",
            refused.message()
        )),
        ("42P01" | "42883" | "42703" | "3F000", _) => StoreError::Unavailable(format!(
            "the schema is not that of this version ({}); run `hadir migrate`",
            refused.message()
        )),
        _ => StoreError::Unavailable(refused.message().to_owned()),
    }
}

/// The same at start: what waiting does not heal (a wrong password, a missing database or right, a changed migration) is for
/// a person.
pub(super) fn explain_start(error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(refused) = &error {
        let code = refused.code().unwrap_or_default();
        let what = match &*code {
            code if code.starts_with("28") => "check the user and the password in DATABASE_URL",
            "3D000" => "create the database, or correct its name in DATABASE_URL",
            // The latter: the schema exists, and this user may not even look into it.
            "42501" | "3F000" => {
                "give the user of DATABASE_URL the rights to change the schema, or a schema of its own"
            }
            code if code.starts_with("42") => {
                "HADIR_DB_SCHEMA holds other tables than Hadir's: adapt them, or name an empty schema"
            }
            _ => return explain(error),
        };
        return StoreError::Invalid(format!("Postgres says: {}; {what}", refused.message()));
    }
    explain(error)
}
