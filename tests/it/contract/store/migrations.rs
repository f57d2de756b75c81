//! Migrations of Postgres: again, at once, by a careful operator's user, and after a restore.

use std::{
    process::{Command, Output},
    time::Duration,
};

use hadir::store::{
    Store, StoreError,
    postgres::{PostgresSettings, PostgresStore, awaits_migration, migrate},
};
use sqlx::{AssertSqlSafe, PgPool};

use super::{Kind, cause, id, plain, settings};
use crate::support::{postgres, world::SECRET};

fn command(url: &str, schema: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hadir"));
    command.arg("migrate").args(more).env_clear();
    command.env("DATABASE_URL", url).env("HADIR_DB_SCHEMA", schema).env("AUTH_JWT_SECRET", SECRET);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn run(pool: &PgPool, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.expect("done");
}

fn invalid<T>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Invalid(why)) => why,
        Err(other) => panic!("not refused: {other:?}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let bench = Kind::Postgres.empty().await;
    let before = bench.online(1).await;
    let settings = settings(&bench.schema().url, &bench.schema().name);
    for _ in 0..2 {
        assert_eq!(migrate(&settings, false).await.expect("migrated"), before.fence.generation);
    }
    let after = bench.row(1).await;
    assert_eq!((after.fence, after.online), (before.fence, true));
}

#[tokio::test]
async fn processes_that_migrate_at_once_all_succeed() {
    let schema = postgres::schema().await;
    let processes: Vec<_> =
        (0..4).map(|_| command(&schema.url, &schema.name, &[]).spawn().expect("the binary runs")).collect();
    for process in processes {
        succeeded(&process.wait_with_output().expect("ended"));
    }
    let store = PostgresStore::connect(settings(&schema.url, &schema.name)).expect("an address");
    store.put_mitra(id(1), "Sari", None, &cause("")).await.expect("written");
}

#[tokio::test]
async fn a_missing_schema_is_created() {
    let schema = postgres::schema().await;
    let pool = plain(&schema.url, &schema.name);
    run(&pool, format!("DROP SCHEMA {}", schema.name)).await;
    migrate(&settings(&schema.url, &schema.name), false).await.expect("migrated");
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = $1")
        .bind(&schema.name)
        .fetch_one(&pool)
        .await
        .expect("asked");
    assert!(tables > 5);
}

#[tokio::test]
async fn after_a_restore_a_new_generation_is_newer_than_everything_before() {
    let bench = Kind::Postgres.empty().await;
    let before = bench.online(1).await.fence;
    let schema = bench.schema();
    let said = succeeded(&command(&schema.url, &schema.name, &["--new-generation"]).output().expect("the binary runs"));
    let first = bench.row(1).await.fence;
    assert!(first > before && first.generation > before.generation, "{first:?}");
    assert_eq!(first.revision, before.revision);
    assert!(said.contains(&first.generation.to_string()), "{said}");
    // Twice within the same millisecond too.
    let settings = settings(&schema.url, &schema.name);
    let second = migrate(&settings, true).await.expect("migrated");
    let third = migrate(&settings, true).await.expect("migrated");
    assert!(first.generation < second && second < third);
}

#[tokio::test]
async fn a_store_that_was_not_migrated_says_what_to_run() {
    let schema = postgres::schema().await;
    let store = PostgresStore::connect(settings(&schema.url, &schema.name)).expect("an address");
    for refused in [
        store.scan(None, 1).await.map(|_| ()),
        store.put_mitra(id(1), "Sari", None, &cause("")).await.map(|_| ()),
        store.record_heartbeats(&[(id(1), Duration::ZERO)]).await.map(|_| ()),
    ] {
        assert!(
            matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("run `hadir migrate`")),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_user_who_owns_only_its_schema_can_migrate_it() {
    let schema = postgres::schema().await;
    let pool = plain(&schema.url, &schema.name);
    let user = format!("u_{}", schema.name);
    run(&pool, format!("CREATE ROLE {user} LOGIN; ALTER SCHEMA {} OWNER TO {user}", schema.name)).await;
    let url = schema.url.replace("postgres@", &format!("{user}:secret@"));
    migrate(&settings(&url, &schema.name), false).await.expect("migrated");
    let store = PostgresStore::connect(settings(&url, &schema.name)).expect("an address");
    store.put_mitra(id(1), "Sari", None, &cause("")).await.expect("written");
    // In a schema of somebody else it is told what is wrong.
    let other = postgres::schema().await;
    let why = invalid(migrate(&settings(&url, &other.name), false).await);
    assert!(why.contains("the user of DATABASE_URL the rights"), "{why}");
    drop(store);
    run(&pool, format!("DROP OWNED BY {user}; DROP ROLE {user}; CREATE SCHEMA IF NOT EXISTS {}", schema.name)).await;
}

#[tokio::test]
async fn a_schema_with_other_tables_or_a_changed_migration_is_refused() {
    let schema = postgres::schema().await;
    let pool = plain(&schema.url, &schema.name);
    run(&pool, "CREATE TABLE customers (name text)".to_owned()).await;
    let why = invalid(migrate(&settings(&schema.url, &schema.name), false).await);
    assert!(why.contains("customers") && why.contains("HADIR_DB_SCHEMA"), "{why}");
    // Nothing half-applied.
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = $1 AND tablename = 'mitras'")
            .bind(&schema.name)
            .fetch_one(&pool)
            .await
            .expect("asked");
    assert_eq!(tables, 0);
    run(&pool, "DROP TABLE customers".to_owned()).await;
    migrate(&settings(&schema.url, &schema.name), false).await.expect("migrated");
    run(&pool, "UPDATE _sqlx_migrations SET checksum = 'x'".to_owned()).await;
    let why = invalid(migrate(&settings(&schema.url, &schema.name), false).await);
    assert!(why.contains("made by another version of Hadir"), "{why}");
    let settings = settings(&schema.url, &schema.name);
    let why = invalid(awaits_migration(&settings).await);
    assert!(why.contains("made by another version of Hadir"), "a node that may not migrate says so too: {why}");
}

#[tokio::test]
async fn names_of_schemas_may_be_as_long_as_postgres_takes_them() {
    let short = postgres::schema().await;
    let pool = plain(&short.url, &short.name);
    let long = format!("{}{}", short.name, "x".repeat(63 - short.name.len()));
    let settings: PostgresSettings = settings(&short.url, &long);
    migrate(&settings, false).await.expect("migrated");
    let store = PostgresStore::connect(settings).expect("an address");
    let mut bells = store.bells().await.expect("a bell");
    let heard = async |bells: &mut futures_util::stream::BoxStream<'static, hadir::store::Bell>| {
        tokio::time::timeout(crate::support::PATIENCE, futures_util::StreamExt::next(bells)).await.expect("in time")
    };
    heard(&mut bells).await;
    store.put_mitra(id(1), "Sari", None, &cause("")).await.expect("written");
    assert!(matches!(heard(&mut bells).await, Some(hadir::store::Bell::Mitra { .. })));
    drop((bells, store));
    run(&pool, format!("DROP SCHEMA {long} CASCADE")).await;
}
