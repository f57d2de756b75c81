//! Advisory locks of Hadir and the sessions that hold them.

use std::fmt;

use sqlx::PgConnection;

use super::session::explain_start;
use crate::store::StoreError;

/// Kind of our advisory lock on a schema, for migrations; any number that no other program uses.
pub(super) const MIGRATION_LOCK: i32 = 0x68_61_64_01;
/// The same for the lock among nodes.
pub(super) const NODE_LOCK: i32 = 0x68_61_64_69;

/// A session of Postgres that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: i32,
    application: String,
    user: String,
    /// Held so that it excludes everyone else.
    pub(super) is_alone: bool,
}

impl Holder {
    /// As far as its name says; Postgres knows no more of it.
    pub(super) fn is_hadir(&self) -> bool {
        self.application.starts_with("hadir ")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, application, user, .. } = self;
        write!(f, "process {pid} of Postgres (application `{application}`, user `{user}`)")
    }
}

/// Other sessions that hold this lock of this schema, those that are no Hadir first.
pub(super) async fn holders(session: &mut PgConnection, lock: i32, schema: &str) -> Result<Vec<Holder>, StoreError> {
    let sql = "SELECT l.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''), l.mode = 'ExclusiveLock' \
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = $1 \
         AND l.objid::bigint = hashtext($2)::bigint & 4294967295 AND l.objsubid = 2 AND l.pid <> pg_backend_pid() \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY l.pid LIMIT 100";
    let query = sqlx::query_as::<_, (i32, String, String, bool)>(sql).bind(i64::from(lock)).bind(schema);
    let rows = query.fetch_all(session).await.map_err(explain_start)?;
    let mut found: Vec<Holder> = rows
        .into_iter()
        .map(|(pid, application, user, is_alone)| Holder { pid, application, user, is_alone })
        .collect();
    found.sort_by_key(Holder::is_hadir);
    Ok(found)
}
