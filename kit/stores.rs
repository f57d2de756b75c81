//! Private stores of a run: Valkey and PostgreSQL on free ports, ended with it. And mitras loaded in bulk, with plain SQL:
//! the triggers do the rest, as for any other program.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tokio::time::sleep;

use super::{
    processes::{Kept, PATIENCE, Usage},
    resp::Raw,
    tokens::SUBJECT_PREFIX,
};

#[path = "../tests/it/support/postgres.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "the tests' private server; they use all of it, and may stop at what cannot go on"
)]
pub mod postgres;

/// For a private PostgreSQL that holds a million rows beside the load.
const MORE_MEMORY: (&str, &str) = ("shared_buffers", "512MB");

/// The private stores of a run.
pub struct Stores {
    pub postgres: Postgres,
    pub valkey: Valkey,
}

impl Stores {
    /// Starts both.
    ///
    /// # Errors
    /// One of them is not installed or does not start.
    pub async fn start() -> Result<Self> {
        Ok(Self { postgres: Postgres::start().await?, valkey: Valkey::start().await? })
    }
}

/// A private Valkey: nothing saved unless it is told to.
pub struct Valkey {
    pub port: u16,
    pub folder: tempfile::TempDir,
    server: Option<Kept>,
}

impl Valkey {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// `valkey-server` is not installed or does not start.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// `valkey-server` is not installed or does not start.
    pub async fn start_with(more: &[&str]) -> Result<Self> {
        let mut valkey = Self { port: free_port()?, folder: tempfile::tempdir()?, server: None };
        valkey.run(more).await?;
        Ok(valkey)
    }

    /// Starts again on the same port and folder, after [`Self::kill`].
    ///
    /// # Errors
    /// It does not start.
    pub async fn restart(&mut self, more: &[&str]) -> Result<()> {
        self.run(more).await
    }

    async fn run(&mut self, more: &[&str]) -> Result<()> {
        let port_text = self.port.to_string();
        let directory = self.folder.path().display().to_string();
        let own =
            ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &directory];
        let arguments: Vec<String> = own.iter().chain(more).map(|text| (*text).to_owned()).collect();
        let stderr = self.folder.path().join("stderr");
        let server = Kept::start(Path::new("valkey-server"), &arguments, &[], &stderr).await;
        self.server = Some(server.context("`scripts/test` installs Valkey")?);
        // Any answer will do: one that is loading, or wants a password, says so.
        let answers = || Raw::to(self.port).is_ok_and(|mut raw| raw.ask(&[b"PING"]).is_ok() || raw.was_refused());
        let mut waited = Duration::ZERO;
        while !answers() {
            if waited > PATIENCE {
                bail!(
                    "valkey-server does not answer: {}",
                    fs::read_to_string(self.folder.path().join("valkey.log")).unwrap_or_default()
                );
            }
            sleep(Duration::from_millis(20)).await;
            waited += Duration::from_millis(20);
        }
        Ok(())
    }

    /// Kills it as by `kill -9`.
    ///
    /// # Errors
    /// It does not go.
    pub async fn kill(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => server.kill().await,
            None => Ok(()),
        }
    }

    /// Signals the process.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.server.as_ref().context("this Valkey does not run")?.signal(signal)
    }

    /// What it uses.
    ///
    /// # Errors
    /// It does not run.
    pub fn usage(&self) -> Result<Usage> {
        Ok(self.server.as_ref().context("this Valkey does not run")?.usage)
    }

    /// What the server is told.
    pub fn url(&self) -> String {
        format!("valkey://127.0.0.1:{}/0", self.port)
    }

    /// A connection of the run's own.
    ///
    /// # Errors
    /// It cannot be connected to.
    pub fn raw(&self) -> Result<Raw> {
        Raw::to(self.port)
    }
}

/// A port that nobody uses just now.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A private PostgreSQL.
pub struct Postgres {
    pub server: postgres::Server,
    databases: AtomicUsize,
}

/// A database of one server of the run.
#[derive(Clone, Debug)]
pub struct Database {
    /// What the server is told.
    pub url: String,
}

impl Postgres {
    /// Starts one on a free port, in a folder of its own.
    ///
    /// # Errors
    /// The thread that starts it failed.
    pub async fn start() -> Result<Self> {
        let started = tokio::task::spawn_blocking(|| {
            let mut server = postgres::dedicated();
            server.set(MORE_MEMORY.0, MORE_MEMORY.1);
            server.stop();
            server.start();
            server
        });
        let server = started.await.context("PostgreSQL does not start; `scripts/test` installs it")?;
        Ok(Self { server, databases: AtomicUsize::new(0) })
    }

    /// A new, empty database.
    ///
    /// # Errors
    /// It cannot be created.
    pub async fn new_database(&self) -> Result<Database> {
        let name = format!("run_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        Database { url: self.server.url("postgres") }.run(format!("CREATE DATABASE {name}")).await?;
        Ok(Database { url: self.server.url(&name) })
    }
}

impl Database {
    /// Runs a statement.
    ///
    /// # Errors
    /// It is refused.
    pub async fn run(&self, sql: String) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url).await?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// The one number that a question is answered with.
    ///
    /// # Errors
    /// It is refused, or answered with something else.
    pub async fn number(&self, sql: &'static str) -> Result<i64> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let number = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(number)
    }
}

/// Mitras 0 to `count` of the load, offline, in a migrated PostgreSQL.
///
/// # Errors
/// The statement is refused.
pub async fn load_postgres(database: &Database, count: u64, online: bool) -> Result<()> {
    let load = format!(
        "INSERT INTO mitras (id, display_name)
         SELECT ('{SUBJECT_PREFIX}' || lpad(to_hex(n), 12, '0'))::uuid, 'Mitra ' || n
         FROM generate_series(0, {last}) AS n ON CONFLICT DO NOTHING;",
        last = count - 1,
    );
    database.run(load).await?;
    if online {
        database.run("UPDATE mitra_status SET is_online = true WHERE NOT is_online".to_owned()).await?;
    }
    database.run("ANALYZE".to_owned()).await
}

/// Sessions 0 to `count` of the load, searching, and room for all of them.
///
/// # Errors
/// The statement is refused.
pub async fn load_sessions(database: &Database, count: u64) -> Result<()> {
    let load = format!(
        "UPDATE mitras SET max_sessions = 1000;
         INSERT INTO customers (id) VALUES ('{SUBJECT_PREFIX}ffffffffffff');
         INSERT INTO chat_sessions (id, customer_id)
         SELECT ('{SUBJECT_PREFIX}' || lpad(to_hex(n), 12, '0'))::uuid, '{SUBJECT_PREFIX}ffffffffffff'
         FROM generate_series(0, {last}) AS n;
         ANALYZE;",
        last = count - 1,
    );
    database.run(load).await
}

/// Where PostgreSQL's programs are.
pub fn programs() -> PathBuf {
    postgres::programs()
}

/// The same in the embedded default's file, before a server owns it.
///
/// # Errors
/// The statement is refused.
pub async fn load_sqlite(file: &Path, count: u64) -> Result<()> {
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await?;
    let load = format!(
        "WITH RECURSIVE series (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n < {last})
         INSERT INTO mitras (id, display_name)
         SELECT '{SUBJECT_PREFIX}' || printf('%012x', n), 'Mitra ' || n FROM series;",
        last = count - 1,
    );
    sqlx::raw_sql(AssertSqlSafe(load)).execute(&mut connection).await?;
    Ok(connection.close().await?)
}
