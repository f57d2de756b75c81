//! `hadir check` on Postgres: what the server would meet, each misfit by name. Changes nothing.

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{
    connect::PostgresSettings,
    holders::{NODE_LOCK, holders},
    pooler::refuse_transaction_pooler,
    rights::lacking,
    schema::awaits_migration,
    session::{explain_start, read_only, too_slow},
    trial::{Tried, try_migrations, try_steps},
};
use crate::store::StoreError;

/// The lowest version of PostgreSQL that this server is made for.
pub const LOWEST_VERSION: i32 = 12;

/// One thing that was found: right, or wrong and what to do.
pub type Finding = Result<String, String>;

/// Looks at everything that a server asks of Postgres; what it writes it does in a transaction that is rolled back.
/// `migrates` says whether the server itself would migrate the schema.
pub async fn check(settings: &PostgresSettings, migrates: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Err(error) = look(settings, migrates, &mut found).await {
        found.push(Err(match error {
            StoreError::Unavailable(why) => format!("{why}; see that it runs and that DATABASE_URL is right"),
            other => other.to_string(),
        }));
    }
    found
}

async fn look(settings: &PostgresSettings, migrates: bool, found: &mut Vec<Finding>) -> Result<(), StoreError> {
    refuse_transaction_pooler(settings).await?;
    let awaited = awaits_migration(settings).await?;
    let mut session = settings.session("hadir check", settings.query_timeout).await?;
    // A few statements, each bounded by the server.
    let all = settings.query_timeout * 5;
    let looked = timeout(all, look_inside(&mut session, settings, migrates, awaited, found)).await;
    let _closed = timeout(settings.query_timeout, session.close()).await;
    looked.map_err(|_| too_slow())?
}

async fn look_inside(
    session: &mut PgConnection,
    settings: &PostgresSettings,
    migrates: bool,
    awaited: Option<String>,
    found: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let server = Server::ask(session).await?;
    found.push(server.version());
    found.push(server.connections(settings));
    if server.is_read_only {
        return Err(read_only());
    }
    match awaited {
        None => served(session, settings, found).await?,
        Some(what) if !migrates => found.push(Err(format!("HADIR_MIGRATE is false and {what}"))),
        Some(_) => to_be_migrated(session, settings, found).await?,
    }
    for holder in holders(session, NODE_LOCK, &settings.schema).await? {
        found.push(if holder.is_hadir() {
            Ok(format!("a Hadir is running on schema `{}`: {holder}", settings.schema))
        } else {
            Err(format!(
                "{holder} holds the lock of Hadir's nodes and is no Hadir by its name: end it before a node starts"
            ))
        });
    }
    Ok(())
}

/// A schema of this version: rights, then everything that the server does.
async fn served(
    session: &mut PgConnection,
    settings: &PostgresSettings,
    found: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let lacking = lacking(session, settings).await?;
    let may_create = lacking.optional.is_empty();
    found.extend(lacking.optional.into_iter().map(|what| Ok(format!("{what}: the backend creates these rows"))));
    if !lacking.needed.is_empty() {
        found
            .extend(lacking.needed.into_iter().map(|what| Err(format!("{what}; docs/deployment.md lists the rights"))));
        return Ok(());
    }
    let asleep: Vec<String> = sqlx::query_scalar(
        "SELECT format('the trigger `%s` of `%s` is disabled', t.tgname, c.relname) FROM pg_trigger t \
         JOIN pg_class c ON c.oid = t.tgrelid WHERE t.tgname LIKE 'hadir\\_%' AND t.tgenabled NOT IN ('O', 'A') \
         AND c.relnamespace = current_schema()::regnamespace ORDER BY 1",
    )
    .fetch_all(&mut *session)
    .await
    .map_err(explain_start)?;
    let is_awake = asleep.is_empty();
    found.extend(asleep.into_iter().map(|what| Err(format!("{what}: enable it, then run `hadir check` again"))));
    if !may_create {
        found.push(Ok("not tried: writes, which need a mitra of their own".to_owned()));
    } else if is_awake {
        let done = format!("schema `{}`: every kind of write was tried and rolled back", settings.schema);
        tell(try_steps(session).await?, done, found);
    }
    Ok(())
}

/// A schema that the server would migrate at its start.
async fn to_be_migrated(
    session: &mut PgConnection,
    settings: &PostgresSettings,
    found: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let schema = &settings.schema;
    let rights: Option<(bool, bool)> = sqlx::query_as(
        "SELECT has_schema_privilege(oid, 'USAGE'), has_schema_privilege(oid, 'CREATE') \
         FROM pg_namespace WHERE nspname = $1",
    )
    .bind(schema)
    .fetch_optional(&mut *session)
    .await
    .map_err(explain_start)?;
    if let Some((uses, creates)) = rights.filter(|(uses, creates)| !uses || !creates) {
        for (right, is_there) in [("USAGE", uses), ("CREATE", creates)] {
            if !is_there {
                found
                    .push(Err(format!("{right} on schema `{schema}` is missing; docs/deployment.md lists the rights")));
            }
        }
        return Ok(());
    }
    let listed: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *session)
        .await
        .map_err(explain_start)?;
    let applied: Option<i64> = match listed && rights.is_some() {
        true => sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(&mut *session)
            .await
            .map_err(explain_start)?,
        false => None,
    };
    let tried = try_migrations(session, settings, applied.unwrap_or(0), rights.is_none()).await?;
    tell(tried, format!("schema `{schema}`: writable, to be migrated at start"), found);
    Ok(())
}

fn tell(tried: Tried, done: String, found: &mut Vec<Finding>) {
    if tried.wrong.is_empty() {
        found.push(Ok(done));
    }
    found.extend(tried.untried.into_iter().map(|what| Ok(format!("not tried: {what}"))));
    found.extend(tried.wrong.into_iter().map(Err));
}

/// What the server says about itself.
#[derive(sqlx::FromRow)]
struct Server {
    name: String,
    version: i32,
    is_read_only: bool,
    is_encrypted: bool,
    /// For users that are no superusers.
    allowed: i32,
    used: i64,
    /// Of this user and of this database, where they have one.
    own_limit: Option<i32>,
}

impl Server {
    async fn ask(session: &mut PgConnection) -> Result<Self, StoreError> {
        // `reserved_connections` exists from version 16 on.
        let sql = "SELECT current_setting('server_version') AS name, \
             current_setting('server_version_num')::integer AS version, \
             current_setting('transaction_read_only') = 'on' AS is_read_only, \
             coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS is_encrypted, \
             current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer \
             - coalesce(current_setting('reserved_connections', true)::integer, 0) AS allowed, \
             (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL) AS used, \
             (SELECT min(n) FROM (SELECT rolconnlimit AS n FROM pg_roles WHERE rolname = current_user UNION ALL \
              SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS limits WHERE n >= 0) AS own_limit";
        sqlx::query_as(sql).fetch_one(session).await.map_err(explain_start)
    }

    fn version(&self) -> Finding {
        let Self { name, version, .. } = self;
        if version / 10_000 < LOWEST_VERSION {
            return Err(format!("PostgreSQL {name} is too old: this server needs {LOWEST_VERSION} or newer"));
        }
        let encrypted =
            if self.is_encrypted { "the connection is encrypted" } else { "the connection is not encrypted" };
        Ok(format!("PostgreSQL {name} ({LOWEST_VERSION} or newer is needed), {encrypted}"))
    }

    fn connections(&self, settings: &PostgresSettings) -> Finding {
        let needed = settings.connections();
        let allowed = self.own_limit.map_or(self.allowed, |limit| limit.min(self.allowed));
        let told = format!(
            "a node takes up to {needed} connections; the server lets this user have {allowed}, and {} are in use",
            self.used
        );
        let is_enough = i64::from(needed) <= i64::from(allowed);
        if is_enough { Ok(told) } else { Err(format!("{told}: raise the limit, or lower HADIR_DB_POOL_SIZE")) }
    }
}
