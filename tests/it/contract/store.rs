//! The contract of [`hadir::store::Store`], one suite over both implementations, each test on empty tables of its own. What
//! only Postgres can show (other programs' SQL, the bell, faults of the server, several nodes) and what only SQLite can is
//! in files of their own.

mod bells;
mod commands;
mod deployments;
mod faults;
mod following;
mod heartbeats;
mod lists;
mod migrations;
mod node_lock;
mod odd_rows;
mod outages;
mod reading;
mod record;
pub mod sessions;
mod silence;
mod sql;
mod sqlite;
mod writers;

use std::{sync::Arc, time::Duration};

use hadir::{
    domain::{Actor, Cause, MitraId, MitraRow},
    store::{
        Store,
        postgres::{PostgresSettings, PostgresStore, migrate},
        sqlite::{SqliteSettings, SqliteStore},
    },
};
use sqlx::{
    AssertSqlSafe, PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::postgres::{self, Schema};

/// Runs each test on both implementations.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::contract::store::Kind::Sqlite.empty().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::contract::store::Kind::Postgres.empty().await).await;
            })*
        }
    };
}
use on_both;

/// Capacity of a mitra who has none of its own.
const DEFAULT_MAX_SESSIONS: u32 = 2;

/// Which implementation a test runs on.
#[derive(Clone, Copy)]
enum Kind {
    Sqlite,
    Postgres,
}

/// A store, and plain SQL beside it.
struct Bench {
    store: Arc<dyn Store>,
    beside: Beside,
}

enum Beside {
    Sqlite { pool: SqlitePool, _folder: TempDir },
    Postgres { pool: PgPool, schema: Schema },
}

impl std::ops::Deref for Bench {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl Kind {
    async fn empty(self) -> Bench {
        match self {
            Self::Sqlite => {
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join("hadir.db");
                let store = SqliteStore::open(sqlite_settings(&folder)).await.expect("opened");
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(10));
                let pool = SqlitePool::connect_with(options).await.expect("connected");
                Bench { store: Arc::new(store), beside: Beside::Sqlite { pool, _folder: folder } }
            }
            Self::Postgres => {
                let schema = postgres::schema().await;
                let settings = settings(&schema.url, &schema.name);
                migrate(&settings, false).await.expect("migrated");
                let store = PostgresStore::connect(settings).expect("an address");
                let pool = plain(&schema.url, &schema.name);
                Bench { store: Arc::new(store), beside: Beside::Postgres { pool, schema } }
            }
        }
    }
}

fn sqlite_settings(folder: &TempDir) -> SqliteSettings {
    SqliteSettings {
        path: folder.path().join("hadir.db"),
        default_max_sessions: DEFAULT_MAX_SESSIONS,
        query_timeout: Duration::from_secs(20),
    }
}

/// Patient, because a test run is a busy machine; tests of deadlines set their own.
pub fn settings(url: &str, schema: &str) -> PostgresSettings {
    PostgresSettings {
        url: url.to_owned(),
        schema: schema.to_owned(),
        default_max_sessions: DEFAULT_MAX_SESSIONS,
        pool_size: 4,
        presence_pool_size: 3,
        acquire_timeout: Duration::from_secs(20),
        query_timeout: Duration::from_secs(20),
        lock_timeout: Duration::from_secs(20),
        migrate_timeout: Duration::from_secs(60),
    }
}

/// Another program's connections.
fn plain(url: &str, schema: &str) -> PgPool {
    let options: PgConnectOptions = url.parse().expect("an address");
    PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(30))
        .connect_lazy_with(options.options([("search_path", schema)]))
}

/// The n-th mitra.
pub fn id(n: u128) -> MitraId {
    MitraId(Uuid::from_u128(n))
}

fn cause(reason: &str) -> Cause {
    Cause::new(Actor::Service, reason)
}

fn ids(rows: &[MitraRow]) -> Vec<MitraId> {
    rows.iter().map(|row| row.id).collect()
}

impl Bench {
    /// Plain SQL that both databases understand. Times are set by [`Self::silence`].
    async fn run(&self, sql: String) {
        let sql = AssertSqlSafe(sql);
        match &self.beside {
            Beside::Sqlite { pool, .. } => sqlx::raw_sql(sql).execute(pool).await.map(|_| ()),
            Beside::Postgres { pool, .. } => sqlx::raw_sql(sql).execute(pool).await.map(|_| ()),
        }
        .expect("done");
    }

    /// Another program's connections to the same Postgres.
    fn sql(&self) -> &PgPool {
        match &self.beside {
            Beside::Postgres { pool, .. } => pool,
            Beside::Sqlite { .. } => panic!("a test of Postgres"),
        }
    }

    fn schema(&self) -> &Schema {
        match &self.beside {
            Beside::Postgres { schema, .. } => schema,
            Beside::Sqlite { .. } => panic!("a test of Postgres"),
        }
    }

    /// A time as the database writes it, so long ago.
    fn ago(&self, age: Duration) -> String {
        self.at(-(age.as_millis() as i64))
    }

    fn at(&self, ms: i64) -> String {
        match &self.beside {
            Beside::Sqlite { .. } => format!("(CAST(unixepoch('subsec') * 1000 AS INTEGER) + {ms})"),
            Beside::Postgres { .. } => format!("(now() + {ms} * interval '1 millisecond')"),
        }
    }

    async fn created(&self, n: u128) -> MitraRow {
        self.put_mitra(id(n), &format!("Mitra {n}"), None, &cause("created")).await.expect("created").row
    }

    /// Created and online.
    async fn online(&self, n: u128) -> MitraRow {
        self.created(n).await;
        self.set_online(id(n), true, &Cause::new(Actor::Mitra, "command")).await.expect("online").row
    }

    /// As if the last heartbeat had been so long ago.
    async fn silence(&self, n: u128, age: Duration) {
        let at = self.ago(age);
        self.run(format!("UPDATE mitra_heartbeats SET last_heartbeat_at = {at} WHERE mitra_id = '{}'", id(n))).await;
    }

    /// As a program writes it that keeps the triggers of this table from it.
    async fn unseen(&self, table: &str, trigger: &str, sql: String) {
        self.run(match &self.beside {
            Beside::Sqlite { .. } => format!("DROP TRIGGER {trigger}; {sql}"),
            Beside::Postgres { .. } => {
                format!("ALTER TABLE {table} DISABLE TRIGGER USER; {sql}; ALTER TABLE {table} ENABLE TRIGGER USER")
            }
        })
        .await;
    }

    async fn load(&self, n: u128, sessions: u32) {
        self.run(format!("UPDATE mitra_status SET active_sessions = {sessions} WHERE mitra_id = '{}'", id(n))).await;
    }

    async fn signed_in(&self, subject: Uuid, expires_in_ms: i64) -> Uuid {
        let session = Uuid::new_v4();
        let expires = self.at(expires_in_ms);
        self.run(format!(
            "INSERT INTO auth_sessions (id, subject_id, role, expires_at) \
             VALUES ('{session}', '{subject}', 'mitra', {expires})"
        ))
        .await;
        session
    }

    async fn row(&self, n: u128) -> MitraRow {
        self.mitra(id(n)).await.expect("read").expect("exists")
    }

    async fn age(&self, n: u128) -> Option<Duration> {
        self.row(n).await.heartbeat_age
    }

    async fn kinds(&self, n: u128) -> Vec<String> {
        self.events(id(n), 100).await.expect("read").into_iter().map(|event| event.kind).collect()
    }

    async fn valid(&self, session: Uuid) -> bool {
        self.auth_session(session).await.expect("read").expect("known").valid
    }
}
