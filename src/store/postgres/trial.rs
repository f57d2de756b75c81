//! What a server does to its tables, done once in a transaction that is rolled back. Takes rows of its own only, and waits for
//! a lock for half a second at most.

use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};
use uuid::Uuid;

use super::{
    connect::PostgresSettings,
    session::{explain, explain_start},
};
use crate::store::StoreError;

/// Longest wait for a lock: other programs wait behind this one.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout TO 500";

/// A step: what it is, its statement (`$1` is the id of a mitra that only this transaction knows), and what is wrong when
/// the statement does not answer `true`.
struct Step {
    name: &'static str,
    sql: &'static str,
    otherwise: &'static str,
}

const STEPS: &[Step] = &[
    Step {
        name: "create a mitra",
        sql: "SELECT changed FROM hadir_put_mitra($1, 'hadir check', NULL, 'service', 'check')",
        otherwise: "no row appears: the triggers of `mitras` are missing",
    },
    Step {
        name: "take a mitra online",
        sql: "SELECT (mitra_row).online_epoch > 0 AND (mitra_row).last_heartbeat_at IS NOT NULL \
              FROM hadir_set_online($1, true, 'mitra', 'check')",
        otherwise: "its epoch or heartbeat is not stamped: the triggers of `mitra_status` are missing",
    },
    Step {
        name: "record heartbeats",
        sql: "SELECT moved >= 0 FROM hadir_record_heartbeats(ARRAY[$1], ARRAY[0]::bigint[])",
        otherwise: "no answer",
    },
    Step {
        name: "create a chat session",
        sql: "SELECT created FROM hadir_create_session($1, $1)",
        otherwise: "the session was there before",
    },
    Step {
        name: "give a mitra a chat session",
        sql: "WITH given AS (UPDATE chat_sessions SET mitra_id = $1, status = 'active' WHERE id = $1 RETURNING 1) \
              SELECT count(*) = 1 FROM given",
        otherwise: "the session is not there",
    },
    Step {
        name: "count the load of a mitra",
        sql: "SELECT active_sessions = 1 FROM hadir_mitras WHERE id = $1",
        otherwise: "the load is not counted: the triggers of `chat_sessions` are missing",
    },
    Step {
        name: "deactivate a mitra",
        sql: "SELECT NOT (mitra_row).is_online FROM hadir_set_active($1, false, 'dashboard', 'check')",
        otherwise: "it stays online: the triggers of `mitras` are missing",
    },
    Step {
        name: "record presence events",
        sql: "SELECT count(*) >= 4 FROM presence_events WHERE mitra_id = $1",
        otherwise: "events are missing: triggers are missing",
    },
    Step {
        name: "remove old presence events",
        sql: "WITH gone AS (DELETE FROM presence_events WHERE mitra_id = $1 RETURNING 1) SELECT count(*) >= 0 FROM gone",
        otherwise: "no answer",
    },
    Step {
        name: "say that a node is without Valkey",
        sql: "WITH said AS (INSERT INTO hadir_lone_nodes (node_id) VALUES ($1::text) \
              ON CONFLICT (node_id) DO UPDATE SET seen_at = excluded.seen_at RETURNING 1) SELECT count(*) = 1 FROM said",
        otherwise: "no answer",
    },
    Step {
        name: "let a sweep rest",
        sql: "WITH said AS (INSERT INTO hadir_sweep_pauses (sweep, until) VALUES ($1::text, now()) RETURNING 1) \
              SELECT count(*) = 1 FROM said",
        otherwise: "no answer",
    },
];

/// What came of it.
#[derive(Default)]
pub(super) struct Tried {
    /// Each is what this server would be refused.
    pub(super) wrong: Vec<String>,
    /// What could not be tried, and why.
    pub(super) untried: Vec<String>,
}

/// Does each step, and rolls all of them back.
pub(super) async fn try_steps(session: &mut PgConnection) -> Result<Tried, StoreError> {
    let mut tried = Tried::default();
    let id = Uuid::new_v4();
    say(session, "BEGIN").await?;
    say(session, LOCK_TIMEOUT).await?;
    for Step { name, sql, otherwise } in STEPS {
        say(session, "SAVEPOINT step").await?;
        match sqlx::query(AssertSqlSafe(*sql)).bind(id).fetch_optional(&mut *session).await {
            Ok(row) => {
                let is_right = row.map(|row| row.try_get::<Option<bool>, _>(0)).transpose().map_err(explain_start)?;
                if is_right.flatten() != Some(true) {
                    tried.wrong.push(format!("cannot {name}: {otherwise}"));
                }
                continue;
            }
            Err(sqlx::Error::Database(refused)) => {
                let code = refused.code().unwrap_or_default();
                let why = refused.message();
                match &*code {
                    "55P03" | "57014" | "40P01" => tried.untried.push(format!("{name}: others hold the tables")),
                    // A backend's own rules for its tables: then the backend creates these rows.
                    code if code.starts_with("22") || code.starts_with("23") => {
                        tried.untried.push(format!("{name}: the tables allow it to the backend only ({why})"));
                    }
                    _ => tried.wrong.push(format!("cannot {name}: {why}")),
                }
            }
            Err(broken) => return Err(explain(broken)),
        }
        say(session, "ROLLBACK TO step").await?;
        if !tried.untried.is_empty() {
            // What follows stands on this step.
            break;
        }
    }
    say(session, "ROLLBACK").await?;
    Ok(tried)
}

/// Applies the first migrations that are missing, up to the first that cannot be rolled back, and rolls them back: tables of
/// a backend that do not fit are refused by then.
pub(super) async fn try_migrations(
    session: &mut PgConnection,
    settings: &PostgresSettings,
    applied: i64,
    is_new: bool,
) -> Result<Tried, StoreError> {
    let mut tried = Tried::default();
    say(session, "BEGIN").await?;
    say(session, LOCK_TIMEOUT).await?;
    let work = async {
        if is_new {
            let sql = format!("CREATE SCHEMA {}", settings.quoted_schema());
            session.execute(AssertSqlSafe(sql)).await?;
        }
        for migration in sqlx::migrate!("migrations/postgres").iter().filter(|one| one.version > applied) {
            if migration.no_tx {
                break;
            }
            sqlx::raw_sql(migration.sql.clone()).execute(&mut *session).await?;
        }
        Ok::<_, sqlx::Error>(())
    };
    match work.await {
        Ok(()) => {}
        Err(sqlx::Error::Database(refused)) if matches!(refused.code().as_deref(), Some("55P03" | "57014")) => {
            tried.untried.push("the migrations: other programs hold the tables".to_owned());
        }
        Err(error @ sqlx::Error::Database(_)) => match explain_start(error) {
            StoreError::Invalid(why) | StoreError::Unavailable(why) => {
                tried.wrong.push(format!("the migrations cannot be applied: {why}"));
            }
            other => tried.wrong.push(format!("the migrations cannot be applied: {other}")),
        },
        Err(broken) => return Err(explain(broken)),
    }
    say(session, "ROLLBACK").await?;
    Ok(tried)
}

async fn say(session: &mut PgConnection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::raw_sql(sql).execute(session).await.map_err(explain_start).map(|_| ())
}
