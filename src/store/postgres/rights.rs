//! The rights that the server's own user needs, and which of them it lacks.

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{
    connect::PostgresSettings,
    session::{explain_start, too_slow},
};
use crate::store::StoreError;

/// Without these a node cannot serve. `docs/deployment.md` says the same as GRANT statements, and a test holds both together.
const NEEDED: &[(&str, &[&str])] = &[
    ("mitras", &["SELECT", "UPDATE"]),
    ("chat_sessions", &["SELECT", "UPDATE"]),
    ("mitra_status", &["SELECT", "INSERT", "UPDATE"]),
    ("mitra_heartbeats", &["SELECT", "INSERT", "UPDATE"]),
    ("auth_sessions", &["SELECT", "UPDATE"]),
    ("presence_events", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("hadir_meta", &["SELECT", "UPDATE"]),
    ("hadir_lone_nodes", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("hadir_sweep_pauses", &["SELECT", "INSERT", "UPDATE"]),
    ("hadir_mitras", &["SELECT"]),
    ("hadir_sessions", &["SELECT"]),
];
/// Without these the calls fail that create rows which a backend may want to create alone.
const OPTIONAL: &[(&str, &[&str])] =
    &[("mitras", &["INSERT"]), ("customers", &["SELECT", "INSERT"]), ("chat_sessions", &["INSERT"])];

/// What the user of `DATABASE_URL` lacks, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lacking {
    /// Each is a reason not to start.
    pub(super) needed: Vec<String>,
    /// Each is a call that will be refused.
    pub(super) optional: Vec<String>,
}

/// Refuses a user that lacks a right without which a node cannot serve.
///
/// # Errors
/// Rights are missing, each named with its table; or Postgres cannot be asked.
pub async fn refuse_missing_rights(settings: &PostgresSettings) -> Result<(), StoreError> {
    let mut session = settings.session("hadir schema", settings.query_timeout).await?;
    let lacking = timeout(settings.query_timeout, lacking(&mut session, settings)).await.map_err(|_| too_slow())?;
    let _closed = timeout(settings.query_timeout, session.close()).await;
    match lacking?.needed {
        missing if missing.is_empty() => Ok(()),
        missing => Err(StoreError::Invalid(format!(
            "the user of DATABASE_URL may not do what this server does: {}; docs/deployment.md lists the rights",
            missing.join("; ")
        ))),
    }
}

pub(super) async fn lacking(session: &mut PgConnection, settings: &PostgresSettings) -> Result<Lacking, StoreError> {
    let schema = &settings.schema;
    let usable: Option<bool> =
        sqlx::query_scalar("SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1")
            .bind(schema)
            .fetch_optional(&mut *session)
            .await
            .map_err(explain_start)?;
    let mut lacking = Lacking::default();
    if usable == Some(false) {
        lacking.needed.push(format!("USAGE on schema `{schema}` is missing"));
        return Ok(lacking);
    }
    lacking.needed = missing(session, schema, NEEDED).await?;
    lacking.optional = missing(session, schema, OPTIONAL).await?;
    let sequence: Option<bool> = sqlx::query_scalar(
        "SELECT has_sequence_privilege(oid, 'USAGE') AND has_sequence_privilege(oid, 'SELECT') \
         FROM pg_class WHERE relname = 'hadir_revision' AND relnamespace = current_schema()::regnamespace",
    )
    .fetch_optional(&mut *session)
    .await
    .map_err(explain_start)?;
    if sequence != Some(true) {
        lacking.needed.push(format!("USAGE, SELECT on sequence `{schema}.hadir_revision` is missing"));
    }
    let functions: Vec<String> = sqlx::query_scalar(
        "SELECT proname::text FROM pg_proc WHERE pronamespace = current_schema()::regnamespace \
         AND proname LIKE 'hadir\\_%' AND NOT has_function_privilege(oid, 'EXECUTE') ORDER BY proname",
    )
    .fetch_all(session)
    .await
    .map_err(explain_start)?;
    lacking.needed.extend(functions.iter().map(|name| format!("EXECUTE on function `{schema}.{name}` is missing")));
    Ok(lacking)
}

async fn missing(
    session: &mut PgConnection,
    schema: &str,
    wanted: &[(&str, &[&str])],
) -> Result<Vec<String>, StoreError> {
    let pairs = wanted.iter().flat_map(|(table, rights)| rights.iter().map(move |right| (*table, *right)));
    let (tables, rights): (Vec<&str>, Vec<&str>) = pairs.unzip();
    let sql = "SELECT w.name, string_agg(w.kind, ', ' ORDER BY w.place), bool_or(t.oid IS NULL) \
         FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (name, kind, place) \
         LEFT JOIN pg_class t ON t.relname = w.name AND t.relnamespace = current_schema()::regnamespace \
         WHERE t.oid IS NULL OR NOT has_table_privilege(t.oid, w.kind) GROUP BY w.name ORDER BY min(w.place)";
    let rows: Vec<(String, String, bool)> =
        sqlx::query_as(sql).bind(tables).bind(rights).fetch_all(session).await.map_err(explain_start)?;
    let words = |(table, rights, is_absent)| match is_absent {
        true => format!("`{schema}.{table}` does not exist"),
        false => format!("{rights} on `{schema}.{table}` is missing"),
    };
    Ok(rows.into_iter().map(words).collect())
}
