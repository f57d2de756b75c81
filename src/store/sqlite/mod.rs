//! The truth in one file beside the server: the embedded default.
//!
//! One process owns the file (a lock beside it says so), so there is one writer connection and nobody else to hear from.
//! Revisions, epochs and events come from the same triggers as plain SQL would fire. Only `app` constructs this.

mod files;
mod health;
mod look;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use sqlx::{
    Connection, Row, Sqlite, SqlitePool,
    error::DatabaseError,
    migrate::MigrateError,
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};
use tokio::time::timeout;
use uuid::Uuid;

pub use look::look;

use files::Locks;
use health::Health;

use super::{
    AuthSession, Bell, MitraProfile, MitraQuery, SessionChange, SessionCounts, SilentQuery, Store, StoreError,
    Transition, broken_rule, decode::decoded, milliseconds,
};
use crate::domain::{
    AvailablePage, Cause, ChatSession, Counts, CustomerId, Fence, LastHeard, MitraFacts, MitraId, MitraRow,
    PresenceEvent, SessionAction, SessionId, Source,
};

/// Part of the deadline for which SQLite waits for another process that writes.
const BUSY_SHARE: f64 = 0.8;
/// Connections that read beside the one that writes.
const READERS: u32 = 4;

/// Where the file is and what it does not say itself.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    pub path: PathBuf,
    /// Capacity of a mitra whose row has none.
    pub default_max_sessions: u32,
    /// Deadline of every call.
    pub query_timeout: Duration,
}

/// The embedded truth.
pub struct SqliteStore {
    settings: SqliteSettings,
    writer: SqlitePool,
    readers: SqlitePool,
    writes: Health,
    reads: Health,
    /// Held for as long as the store lives.
    _locks: Locks,
}

impl SqliteStore {
    /// Opens (or creates) the file, takes its lock and applies migrations.
    ///
    /// # Errors
    /// A sentence that says what to do: the folder cannot be written, another process owns the file, it is no database.
    pub async fn open(settings: SqliteSettings) -> Result<Self, StoreError> {
        let path = &settings.path;
        let locks = Locks::take(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            // Before our own deadline, so that the reason is said.
            .busy_timeout(settings.query_timeout.mul_f64(BUSY_SHARE))
            .foreign_keys(true);
        let cannot_open = |error: sqlx::Error| {
            StoreError::Invalid(format!(
                "{} cannot be opened ({error}); set HADIR_DATA_DIR to a folder that can be written, or move the file away",
                path.display()
            ))
        };
        let pool = |size| SqlitePoolOptions::new().max_connections(size).acquire_timeout(settings.query_timeout);
        // Where SQLite ended a transaction by itself (no space, an I/O error), the rollback fails and the driver counts a
        // transaction too many. Such a connection refuses every later one: it is closed, and another one opened.
        let writer = pool(1).before_acquire(|connection, _| {
            let is_sound = !connection.is_in_transaction();
            Box::pin(async move { Ok(is_sound) })
        });
        let writer = writer.connect_with(options.clone()).await.map_err(cannot_open)?;
        sqlx::migrate!("migrations/sqlite").run(&writer).await.map_err(|error| cannot_migrate(path, &error))?;
        let readers = pool(READERS).connect_with(options.read_only(true)).await.map_err(cannot_open)?;
        Ok(Self { settings, writer, readers, writes: Health::of("writes"), reads: Health::of("reads"), _locks: locks })
    }

    /// A read, within the deadline.
    async fn reading<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        let answer = self.in_time(work).await;
        match &answer {
            Err(StoreError::Unavailable(why)) => self.reads.failed(why),
            Err(_) => {}
            Ok(_) => self.reads.worked(),
        }
        answer
    }

    /// A write, within the deadline. That the file took it is said by who knows: [`Self::commit`] and [`Self::execute`].
    async fn writing<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        let answer = self.in_time(work).await;
        if let Err(StoreError::Unavailable(why)) = &answer {
            self.writes.failed(why);
        }
        answer
    }

    /// One statement that writes, alone; how many rows it wrote.
    async fn execute(&self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<u64, StoreError> {
        let written = self.writing(query.execute(&self.writer)).await?.rows_affected();
        if written > 0 {
            self.writes.worked();
        }
        Ok(written)
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        match timeout(self.settings.query_timeout, work).await {
            Ok(answer) => answer.map_err(explain),
            Err(_) => Err(StoreError::timeout("the database file did not answer")),
        }
    }
}

fn explain(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(refused) if refused.kind() != sqlx::error::ErrorKind::Other => {
            match refused.message().strip_prefix("CHECK constraint failed: ") {
                Some(constraint) => broken_rule(constraint),
                None => StoreError::Invalid(refused.message().to_owned()),
            }
        }
        // The primary code in the lower byte: busy, locked.
        sqlx::Error::Database(refused) if matches!(primary_code(&**refused), Some(5 | 6)) => StoreError::timeout(
            "another process holds the database file: end its transaction, and let only Hadir write; it was not free",
        ),
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => StoreError::Unreadable(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn cannot_migrate(path: &Path, error: &MigrateError) -> StoreError {
    StoreError::Invalid(match error {
        MigrateError::VersionMismatch(_) | MigrateError::VersionMissing(_) => format!(
            "{} was made by another version of Hadir, from before its first release or newer than this one: move it away, or \
             run that version",
            path.display()
        ),
        other => format!("{} cannot be migrated: {other}", path.display()),
    })
}

fn primary_code(error: &dyn DatabaseError) -> Option<u32> {
    error.code()?.parse::<u32>().ok().map(|code| code & 0xff)
}

/// `SELECT … ` of the columns of a [`MitraRow`] with the given rest of the statement; `?1` is the default capacity. A macro,
/// because statements are literals: nothing of a caller's ever becomes SQL. A heartbeat more than ten seconds in the future was
/// stamped before the clock was stepped back; it proves nothing and has no age.
macro_rules! select_mitras {
    ($($rest:literal),+) => {
        concat!(
            "SELECT m.id, m.display_name, m.is_active, s.is_online, s.active_sessions, \
             coalesce(m.max_sessions, ?1) AS max_sessions, s.revision, s.online_epoch, \
             (SELECT generation FROM hadir_meta) AS generation, \
             iif(h.last_heartbeat_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER) + 10000, \
               CAST(unixepoch('subsec') * 1000 AS INTEGER) - max(h.last_heartbeat_at, -2208988800000), NULL) AS age_ms, \
             iif(h.last_heartbeat_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER) + 10000, \
               max(h.last_heartbeat_at, 0), 0) AS heard_ms \
             FROM mitras m JOIN mitra_status s ON s.mitra_id = m.id JOIN mitra_heartbeats h ON h.mitra_id = m.id ",
            $($rest),+
        )
    };
}

mod lists;
mod reads;
mod sessions;
mod writes;

fn id_column(row: &SqliteRow, column: &str) -> Result<MitraId, sqlx::Error> {
    let text: &str = row.try_get(column)?;
    MitraId::from_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn mitra_row(row: &SqliteRow) -> Result<MitraRow, sqlx::Error> {
    let age_ms: Option<i64> = row.try_get("age_ms")?;
    Ok(MitraRow {
        id: id_column(row, "id")?,
        facts: MitraFacts {
            online: row.try_get("is_online")?,
            active: row.try_get("is_active")?,
            sessions: row.try_get("active_sessions")?,
            max_sessions: row.try_get("max_sessions")?,
            fence: Fence { generation: row.try_get("generation")?, revision: row.try_get("revision")? },
            online_epoch: row.try_get("online_epoch")?,
        },
        // A little in the future is now.
        heartbeat_age: age_ms.map(|age| Duration::from_millis(age.max(0) as u64)),
    })
}

fn mitra_rows(rows: &[SqliteRow]) -> Vec<MitraRow> {
    decoded(rows, "mitra", text_of("id"), mitra_row)
}

/// Names a row by this column.
fn text_of(column: &'static str) -> impl Fn(&SqliteRow) -> Result<String, sqlx::Error> {
    move |row| row.try_get(column)
}

/// Ids as one JSON array, for `json_each`: one statement whatever their number.
fn json_ids(ids: impl Iterator<Item = impl ToString>) -> String {
    serde_json::Value::from(ids.map(|id| id.to_string()).collect::<Vec<_>>()).to_string()
}

#[async_trait]
impl Store for SqliteStore {
    fn source(&self) -> Source {
        Source::Sqlite
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.execute(sqlx::query("UPDATE hadir_meta SET id = id")).await.map(|_| ())
    }

    fn trouble(&self) -> Option<String> {
        self.writes.reason().or_else(|| self.reads.reason())
    }

    async fn mitra(&self, id: MitraId) -> Result<Option<MitraRow>, StoreError> {
        Ok(self.read_profile(id).await?.map(|profile| profile.row))
    }

    async fn mitras(&self, ids: &[MitraId]) -> Result<Vec<MitraRow>, StoreError> {
        self.read_rows(ids).await
    }

    async fn unknown_mitras(&self, ids: &[MitraId]) -> Result<Vec<MitraId>, StoreError> {
        let sql = "SELECT value AS id FROM json_each(?1) WHERE value NOT IN (SELECT id FROM mitras)";
        let query = sqlx::query(sql).bind(json_ids(ids.iter()));
        let rows = self.reading(query.fetch_all(&self.readers)).await?;
        rows.iter().map(|row| id_column(row, "id")).collect::<Result<_, _>>().map_err(explain)
    }

    async fn profile(&self, id: MitraId) -> Result<Option<MitraProfile>, StoreError> {
        self.read_profile(id).await
    }

    async fn put_mitra(
        &self,
        id: MitraId,
        display_name: &str,
        max_sessions: Option<u32>,
        cause: &Cause,
    ) -> Result<Transition, StoreError> {
        self.write_mitra(id, display_name, max_sessions, cause).await
    }

    async fn set_online(&self, id: MitraId, online: bool, cause: &Cause) -> Result<Transition, StoreError> {
        self.write_online(id, online, cause).await
    }

    async fn set_active(&self, id: MitraId, active: bool, cause: &Cause) -> Result<Transition, StoreError> {
        self.write_active(id, active, cause).await
    }

    async fn expire_silent(
        &self,
        candidates: &[(MitraId, i64)],
        silent_for: Duration,
    ) -> Result<Vec<MitraRow>, StoreError> {
        self.write_expired(candidates, silent_for).await
    }

    async fn record_heartbeats(&self, ages: &[(MitraId, Duration)]) -> Result<u64, StoreError> {
        self.write_heartbeats(ages).await
    }

    async fn counts(&self, fresh_within: Duration) -> Result<Counts, StoreError> {
        self.read_counts(fresh_within).await
    }

    async fn find_available(&self, fresh_within: Duration, limit: u32) -> Result<AvailablePage, StoreError> {
        self.read_available(fresh_within, limit).await
    }

    async fn list(&self, query: &MitraQuery) -> Result<Vec<MitraProfile>, StoreError> {
        self.read_list(query).await
    }

    async fn silent(&self, query: &SilentQuery) -> Result<Vec<(LastHeard, MitraProfile)>, StoreError> {
        self.read_silent(query).await
    }

    async fn profiles(&self, ids: &[MitraId], search: Option<&str>) -> Result<Vec<MitraProfile>, StoreError> {
        self.read_profiles(ids, search).await
    }

    async fn scan(&self, after: Option<MitraId>, limit: u32) -> Result<Vec<MitraRow>, StoreError> {
        self.read_scan(after, limit).await
    }

    async fn changed_since(&self, revision: i64, limit: u32) -> Result<Vec<MitraRow>, StoreError> {
        self.read_changed_since(revision, limit).await
    }

    async fn newest_revision(&self) -> Result<i64, StoreError> {
        self.read_newest_revision().await
    }

    async fn last_given_revision(&self) -> Result<i64, StoreError> {
        self.reading(sqlx::query_scalar("SELECT revision FROM hadir_meta").fetch_one(&self.readers)).await
    }

    async fn invalid_sign_ins(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        self.read_invalid_sign_ins(ids).await
    }

    async fn create_session(
        &self,
        id: Option<SessionId>,
        customer: CustomerId,
    ) -> Result<(ChatSession, bool), StoreError> {
        self.write_session(id, customer).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<ChatSession>, StoreError> {
        self.read_session(id).await
    }

    async fn change_session(
        &self,
        id: SessionId,
        action: &SessionAction,
        cause: &Cause,
    ) -> Result<SessionChange, StoreError> {
        self.write_session_change(id, action, cause).await
    }

    async fn expire_sessions(&self, limit: u32) -> Result<Vec<SessionChange>, StoreError> {
        self.write_expired_sessions(limit).await
    }

    async fn next_expiry(&self) -> Result<Option<Duration>, StoreError> {
        self.read_next_expiry().await
    }

    async fn session_counts(&self) -> Result<SessionCounts, StoreError> {
        self.read_session_counts().await
    }

    async fn identity(&self) -> Result<Uuid, StoreError> {
        let query = sqlx::query_scalar::<_, String>("SELECT store_id FROM hadir_meta");
        let text = self.reading(query.fetch_one(&self.readers)).await?;
        Uuid::parse_str(&text).map_err(|_| StoreError::Unavailable("hadir_meta.store_id is no UUID".to_owned()))
    }

    async fn new_generation(&self) -> Result<i64, StoreError> {
        // Milliseconds since 1970: greater than any generation an older copy can hold.
        let sql = "UPDATE hadir_meta SET generation = max(generation + 1, CAST(unixepoch('subsec') * 1000 AS INTEGER)) \
                   RETURNING generation";
        self.writing(sqlx::query_scalar(sql).fetch_one(&self.writer)).await
    }

    async fn pause_sweep(&self, sweep: &str, rest: Duration) -> Result<(), StoreError> {
        let sql = "INSERT INTO hadir_sweep_pauses (sweep, until) VALUES (?1, CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?2) \
                   ON CONFLICT (sweep) DO UPDATE SET until = excluded.until";
        let query = sqlx::query(sql).bind(sweep).bind(milliseconds(rest));
        self.execute(query).await.map(|_| ())
    }

    async fn paused_sweeps(&self) -> Result<Vec<(String, Duration)>, StoreError> {
        let sql = "SELECT sweep, min(until, 253402214400000) - CAST(unixepoch('subsec') * 1000 AS INTEGER) AS left_ms FROM hadir_sweep_pauses \
                   WHERE left_ms > 0";
        let rows: Vec<(String, i64)> = self.reading(sqlx::query_as(sql).fetch_all(&self.readers)).await?;
        Ok(rows.into_iter().map(|(sweep, left)| (sweep, Duration::from_millis(left.max(0) as u64))).collect())
    }

    async fn events(&self, id: MitraId, limit: u32) -> Result<Vec<PresenceEvent>, StoreError> {
        self.read_events(id, None, limit).await
    }

    async fn latest_event(&self, id: MitraId, kind: &str) -> Result<Option<PresenceEvent>, StoreError> {
        Ok(self.read_events(id, Some(kind), 1).await?.pop())
    }

    async fn load_of(&self, id: MitraId, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        self.read_load(id, limit).await
    }

    async fn prune_events(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        self.write_pruned(keep, limit).await
    }

    async fn auth_session(&self, id: Uuid) -> Result<Option<AuthSession>, StoreError> {
        self.read_auth_session(id).await
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        // One process, one clock.
        Ok(Utc::now())
    }

    async fn bells(&self) -> Result<BoxStream<'static, Bell>, StoreError> {
        Ok(stream::iter([Bell::Missed]).chain(stream::pending()).boxed())
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
