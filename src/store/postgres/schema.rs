//! Whether the schema is there: somebody else migrates it where this node may not.

use sqlx::Connection;
use tokio::time::timeout;

use super::{
    connect::PostgresSettings,
    migrate::other_version,
    session::{explain_start, too_slow},
};
use crate::store::StoreError;

/// What keeps a node from using a schema that it may not migrate, in words; `None`: nothing.
///
/// # Errors
/// Postgres cannot be reached or refuses, or this user may not use the schema; the text says what.
pub async fn awaits_migration(settings: &PostgresSettings) -> Result<Option<String>, StoreError> {
    let mut session = settings.session("hadir schema", settings.query_timeout).await?;
    let ours = sqlx::migrate!("migrations/postgres");
    let is_ours = |version, checksum: &[u8]| {
        ours.iter().any(|migration| migration.version == version && *migration.checksum == *checksum)
    };
    let newest = ours.iter().map(|migration| migration.version).max();
    let work = async {
        // Whoever migrates may be another user, who need not let this one read the list of migrations.
        let (there, list, hidden): (bool, bool, bool) = sqlx::query_as(
            "SELECT to_regclass('hadir_meta') IS NOT NULL, \
             coalesce(has_table_privilege(to_regclass('_sqlx_migrations'), 'SELECT'), false), \
             EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1 AND NOT has_schema_privilege(oid, 'USAGE'))",
        )
        .bind(&settings.schema)
        .fetch_one(&mut session)
        .await?;
        if hidden {
            return Ok(Err(format!(
                "USAGE on schema `{}` is missing; docs/deployment.md lists the rights",
                settings.schema
            )));
        }
        if !there {
            return Ok(Ok(Some("has no tables of Hadir that this user can see")));
        }
        if !list {
            return Ok(Ok(None));
        }
        let applied: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
                .fetch_all(&mut session)
                .await?;
        if !applied.iter().all(|(version, checksum)| is_ours(*version, checksum)) {
            return Ok(Err(other_version(&settings.schema).to_string()));
        }
        let applied = applied.iter().map(|(version, _)| *version).max();
        Ok(Ok((applied < newest).then_some("is older than this version of Hadir")))
    };
    let found = timeout(settings.query_timeout, work).await.map_err(|_| too_slow())?.map_err(explain_start)?;
    let _closed = timeout(settings.query_timeout, session.close()).await;
    let found = found.map_err(StoreError::Invalid)?;
    Ok(found.map(|what| format!("the schema `{}` {what}: run `hadir migrate`", settings.schema)))
}
