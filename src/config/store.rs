//! The data folder and the durable truth.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Secret, parse,
    setting::{AnySetting, Setting},
    values::Reader,
};

const DATA_DIR: Setting<PathBuf> = Setting::new(
    "HADIR_DATA_DIR",
    parse::path,
    "Folder of the SQLite file and the generated signing secret. Hadir creates it if it is missing.",
)
.default("./hadir-data");
const DATABASE_URL: Setting<Secret> =
    Setting::new("DATABASE_URL", parse::postgres_url, "PostgreSQL, as `postgres://user:password@host:5432/database`.")
        .unset("SQLite at HADIR_DATA_DIR/hadir.db")
        .secret_url();
const DB_SCHEMA: Setting<String> =
    Setting::new("HADIR_DB_SCHEMA", parse::schema, "Schema of the tables (PostgreSQL).").default("public");
const MIGRATE: Setting<bool> = Setting::new(
    "HADIR_MIGRATE",
    parse::truth,
    "Whether `serve` applies migrations at start. With false a node waits until you run `hadir migrate`.",
)
.default("true");
const POOL_SIZE: Setting<u32> = Setting::new(
    "HADIR_DB_POOL_SIZE",
    parse::whole::<u32, 1, 1000>,
    "Connections to the store for requests and commands (PostgreSQL).",
)
.default("10")
.unit("connections");
const PRESENCE_POOL_SIZE: Setting<u32> = Setting::new(
    "HADIR_DB_PRESENCE_POOL_SIZE",
    parse::whole::<u32, 1, 100>,
    "Further connections, for the server's own work: counts, heartbeats, polls of changes, sweeps. Requests cannot exhaust them.",
)
.default("3")
.unit("connections");
const ACQUIRE_TIMEOUT: Setting<Duration> = Setting::new(
    "HADIR_DB_ACQUIRE_TIMEOUT_MS",
    parse::milliseconds,
    "Longest wait for a free connection to the store.",
)
.default("1500")
.unit("milliseconds");
const QUERY_TIMEOUT: Setting<Duration> = Setting::new(
    "HADIR_DB_QUERY_TIMEOUT_MS",
    parse::milliseconds,
    "Longest wait for one answer of the store. Then Hadir drops the connection.",
)
.default("2000")
.unit("milliseconds");
const LOCK_TIMEOUT: Setting<Duration> = Setting::new(
    "HADIR_DB_LOCK_TIMEOUT_MS",
    parse::milliseconds,
    "Longest wait of a statement for a row lock of another transaction.",
)
.default("1000")
.unit("milliseconds");
const MIGRATE_TIMEOUT: Setting<Duration> = Setting::new(
    "HADIR_DB_MIGRATE_TIMEOUT_SECONDS",
    parse::seconds,
    "Longest wait for the migration lock and the migrations.",
)
.default("120")
.unit("seconds");
const EVENT_RETENTION: Setting<Duration> =
    Setting::new("HADIR_EVENT_RETENTION_DAYS", parse::days, "How long Hadir keeps presence events.")
        .default("30")
        .unit("days");
const MITRA_MAX_SESSIONS: Setting<u32> =
    Setting::new("MITRA_MAX_SESSIONS", parse::whole::<u32, 1, 1000>, "Capacity of a mitra without one of its own.")
        .default("1")
        .unit("sessions");

pub(super) const DATA_SETTINGS: &[&dyn AnySetting] = &[&DATA_DIR];
pub(super) const SETTINGS: &[&dyn AnySetting] = &[
    &DATABASE_URL,
    &DB_SCHEMA,
    &MIGRATE,
    &POOL_SIZE,
    &PRESENCE_POOL_SIZE,
    &ACQUIRE_TIMEOUT,
    &QUERY_TIMEOUT,
    &LOCK_TIMEOUT,
    &MIGRATE_TIMEOUT,
    &EVENT_RETENTION,
    &MITRA_MAX_SESSIONS,
];

/// What is kept on this machine.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// Folder of the SQLite file and the generated secret.
    pub dir: PathBuf,
}

/// Which database holds the truth.
#[derive(Clone, Debug)]
pub enum Database {
    /// The embedded default.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// Shared with other nodes and programs.
    Postgres {
        /// With its password.
        url: Secret,
        /// Where the tables live.
        schema: String,
    },
}

/// The durable truth.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Which database.
    pub database: Database,
    /// Whether `serve` migrates at start.
    pub migrate: bool,
    /// Connections for what callers ask and command.
    pub pool_size: u32,
    /// Connections for what presence itself asks.
    pub presence_pool_size: u32,
    /// Longest wait for a connection.
    pub acquire_timeout: Duration,
    /// Longest wait for one answer.
    pub query_timeout: Duration,
    /// Longest wait for a row lock.
    pub lock_timeout: Duration,
    /// Longest wait for the migration lock and the migrations.
    pub migrate_timeout: Duration,
    /// How long Hadir keeps presence events.
    pub event_retention: Duration,
    /// Capacity of a mitra without one of its own.
    pub default_max_sessions: u32,
}

impl DataConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { dir: reader.required(&DATA_DIR) }
    }
}

impl StoreConfig {
    pub(super) fn read(reader: &mut Reader<'_>, data_dir: &Path) -> Self {
        let url = reader.optional(&DATABASE_URL);
        let schema = reader.required(&DB_SCHEMA);
        let database = match url {
            Some(url) => Database::Postgres { url, schema },
            None => Database::Sqlite { path: data_dir.join("hadir.db") },
        };
        let store = Self {
            database,
            migrate: reader.required(&MIGRATE),
            pool_size: reader.required(&POOL_SIZE),
            presence_pool_size: reader.required(&PRESENCE_POOL_SIZE),
            acquire_timeout: reader.required(&ACQUIRE_TIMEOUT),
            query_timeout: reader.required(&QUERY_TIMEOUT),
            lock_timeout: reader.required(&LOCK_TIMEOUT),
            migrate_timeout: reader.required(&MIGRATE_TIMEOUT),
            event_retention: reader.required(&EVENT_RETENTION),
            default_max_sessions: reader.required(&MITRA_MAX_SESSIONS),
        };
        if !reader.is_set(&DATABASE_URL) && reader.is_set(&DB_SCHEMA) {
            reader.contradiction(&["HADIR_DB_SCHEMA"], || {
                "HADIR_DB_SCHEMA is set without DATABASE_URL, but SQLite has no schemas: remove it or set DATABASE_URL."
                    .to_owned()
            });
        }
        if store.lock_timeout > store.query_timeout {
            reader.contradiction(&["HADIR_DB_LOCK_TIMEOUT_MS", "HADIR_DB_QUERY_TIMEOUT_MS"], || {
                format!(
                    "HADIR_DB_LOCK_TIMEOUT_MS ({}) is longer than HADIR_DB_QUERY_TIMEOUT_MS ({}): make it at most as long.",
                    store.lock_timeout.as_millis(),
                    store.query_timeout.as_millis()
                )
            });
        }
        store
    }

    /// Whether `DATABASE_URL` is set, rightly or wrongly.
    pub(super) fn postgres_is_meant(reader: &Reader<'_>) -> bool {
        reader.is_set(&DATABASE_URL)
    }
}
