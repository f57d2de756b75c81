//! The Postgres that operators really have: poolers in between, other defaults, other addresses, other programs' locks.

use std::process::{Command, Output};

use futures_util::StreamExt;
use hadir::store::{
    Bell, Store, StoreError,
    postgres::{NodeLock, PostgresStore, migrate},
};
use sqlx::{Connection, PgConnection, Row, postgres::PgConnectOptions};
use tempfile::TempDir;

use super::{cause, id, plain, settings};
use crate::support::{PATIENCE, pgbouncer::PgBouncer, postgres, world::SECRET};

/// The program on this database and schema, as an operator runs it.
pub(super) fn command(url: &str, schema: &str, arguments: &[&str], folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hadir"));
    command.args(arguments).env_clear().current_dir(folder.path());
    command.env("HADIR_PUBLIC_ADDR", "127.0.0.1:0").env("HADIR_INTERNAL_ADDR", "127.0.0.1:0");
    command.env("DATABASE_URL", url).env("HADIR_DB_SCHEMA", schema).env("AUTH_JWT_SECRET", SECRET);
    command
}

pub(super) fn hadir(url: &str, schema: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    command(url, schema, arguments, &folder).output().expect("the binary runs")
}

/// What it printed and logged.
pub(super) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn value<T>(url: &str, sql: &'static str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let mut connection = PgConnection::connect(url).await.expect("connected");
    let value = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("asked");
    connection.close().await.expect("closed");
    value
}

#[tokio::test]
async fn a_pooler_in_session_mode_as_debian_ships_it_serves_and_keeps_to_the_schema() {
    let server = postgres::dedicated();
    for (number, more) in ["", "ignore_startup_parameters = extra_float_digits, options"].into_iter().enumerate() {
        let schema = format!("through_{number}");
        let pooler = PgBouncer::before(&server.url("postgres"), more);
        let migrated = hadir(&pooler.url(), &schema, &["migrate"]);
        assert!(migrated.status.success(), "{}{}", said(&migrated), pooler.log());
        let checked = hadir(&pooler.url(), &schema, &["check"]);
        assert!(checked.status.success(), "{}", said(&checked));
        let settings = settings(&pooler.url(), &schema);
        let _lock = NodeLock::alone(&settings).await.expect("alone");
        let store = PostgresStore::connect(settings).expect("an address");
        let mut bells = store.bells().await.expect("a stream");
        let mut heard = async || tokio::time::timeout(PATIENCE, bells.next()).await.expect("in time");
        assert_eq!(heard().await, Some(Bell::Missed));
        store.put_mitra(id(1), "Sari", None, &cause("")).await.expect("written");
        assert!(matches!(heard().await, Some(Bell::Mitra { .. })), "notifications pass");
        store.close().await;
    }
    let sql = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(value::<i64>(&server.url("postgres"), sql).await, 0, "nothing was made in `public`");
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_in_a_sentence_and_leaves_nothing_behind() {
    let server = postgres::dedicated();
    let ignoring = "ignore_startup_parameters = extra_float_digits, options";
    for mode in [
        "pool_mode = transaction".to_owned(),
        format!("pool_mode = transaction\n{ignoring}"),
        "pool_mode = transaction\nserver_round_robin = 1".to_owned(),
        "pool_mode = transaction\ndefault_pool_size = 1".to_owned(),
        "pool_mode = statement".to_owned(),
    ] {
        let pooler = PgBouncer::before(&server.url("postgres"), &mode);
        for arguments in [&["check"][..], &["migrate"], &["serve"]] {
            let output = hadir(&pooler.url(), "elsewhere", arguments);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(1), "{mode} {arguments:?}: {said}");
            assert!(said.contains("a pooler in transaction or statement mode"), "{mode} {arguments:?}: {said}");
        }
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
        assert_eq!(value::<i64>(&server.url("postgres"), locks).await, 0, "{mode}: no lock is left");
        let options: PgConnectOptions = pooler.url().parse().expect("an address");
        let mut other = PgConnection::connect_with(&options.extra_float_digits(None)).await.expect("connected");
        let row = sqlx::raw_sql("SHOW search_path").fetch_one(&mut other).await.expect("asked");
        let path: String = row.try_get(0).expect("a text");
        assert!(path.contains("public"), "{mode}: sessions of others are as they were, not `{path}`");
    }
    let migrated = hadir(&server.url("postgres"), "elsewhere", &["migrate"]);
    assert!(migrated.status.success(), "directly it works at once: {}", said(&migrated));
}

#[tokio::test]
async fn another_default_isolation_of_the_database_does_not_matter() {
    let server = postgres::dedicated();
    let url = server.url("postgres");
    let mut connection = PgConnection::connect(&url).await.expect("connected");
    for isolation in ["repeatable read", "serializable"] {
        let sql = format!("ALTER DATABASE postgres SET default_transaction_isolation TO '{isolation}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect("set");
        let settings = settings(&url, "isolated");
        migrate(&settings, false).await.expect("migrated");
        let stores = [(); 2].map(|()| PostgresStore::connect(settings.clone()).expect("an address"));
        stores[0].put_mitra(id(1), "Sari", None, &cause("")).await.expect("written");
        let toggles = async |store: &PostgresStore, first: bool| {
            for step in 0..100 {
                store.set_online(id(1), (step % 2 == 0) == first, &cause("")).await.expect("no conflict");
            }
        };
        tokio::join!(toggles(&stores[0], true), toggles(&stores[1], false), toggles(&stores[0], false));
    }
}

#[tokio::test]
async fn who_holds_the_locks_is_named_and_whether_it_is_a_hadir() {
    let schema = postgres::schema().await;
    let mut settings = settings(&schema.url, &schema.name);
    let held_by = async |lock: i32| {
        let mut stranger = PgConnection::connect(&schema.url).await.expect("connected");
        sqlx::query("SET application_name TO 'a report'").execute(&mut stranger).await.expect("set");
        let sql = "SELECT pg_backend_pid() FROM pg_advisory_lock($1, hashtext($2))";
        let query = sqlx::query_scalar::<_, i32>(sql).bind(lock).bind(&schema.name);
        let pid = query.fetch_one(&mut stranger).await.expect("taken");
        (stranger, pid)
    };
    let (stranger, pid) = held_by(0x6861_6469).await;
    for refused in [NodeLock::alone(&settings).await, NodeLock::together(&settings).await] {
        let Err(StoreError::Invalid(why)) = refused else { panic!("not refused") };
        assert!(why.contains(&format!("process {pid} of Postgres (application `a report`, user `postgres`)")), "{why}");
        assert!(why.contains("is no Hadir") && why.contains(&format!("pg_terminate_backend({pid})")), "{why}");
    }
    let checked = hadir(&schema.url, &schema.name, &["check"]);
    assert!(said(&checked).contains("`a report`") && !checked.status.success(), "{}", said(&checked));
    stranger.close().await.expect("closed");
    let _node = NodeLock::alone(&settings).await.expect("alone");
    let Err(StoreError::Invalid(why)) = NodeLock::together(&settings).await else { panic!("not refused") };
    assert!(why.contains("a Hadir without Valkey runs") && why.contains("application `hadir node`"), "{why}");

    let (stranger, pid) = held_by(0x6861_6401).await;
    settings.migrate_timeout = std::time::Duration::from_secs(1);
    let Err(StoreError::Unavailable(why)) = migrate(&settings, false).await else { panic!("not refused") };
    assert!(why.contains(&format!("held by process {pid}")) && why.contains("`a report`"), "{why}");
    stranger.close().await.expect("closed");
}

#[tokio::test]
async fn an_ipv6_address_is_understood() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6: not tried");
        return;
    }
    let mut server = postgres::dedicated();
    server.set("listen_addresses", "127.0.0.1,::1");
    server.stop();
    server.start();
    let url = server.url("postgres").replace("127.0.0.1", "[::1]");
    let migrated = hadir(&url, "six", &["migrate"]);
    assert!(migrated.status.success(), "{}", said(&migrated));
}

#[tokio::test]
async fn of_several_servers_the_one_that_can_be_written_is_used() {
    let (reader, writer) = (postgres::dedicated(), postgres::dedicated());
    reader.set("default_transaction_read_only", "on");
    let port = |server: &postgres::Server| url::Url::parse(&server.url("x")).expect("an address").port().expect("one");
    let gone = crate::support::valkey::free_port();
    let hosts = format!("127.0.0.1:{gone},127.0.0.1:{},127.0.0.1:{}", port(&reader), port(&writer));
    for query in ["", "?target_session_attrs=read-write"] {
        let url = format!("postgres://postgres@{hosts}/postgres{query}");
        let migrated = hadir(&url, "several", &["migrate"]);
        assert!(migrated.status.success(), "{}", said(&migrated));
        let checked = hadir(&url, "several", &["check"]);
        assert!(checked.status.success(), "{}", said(&checked));
        let store = PostgresStore::connect(settings(&url, "several")).expect("an address");
        crate::support::eventually("the writer is found", async || {
            store.put_mitra(id(1), "Sari", None, &cause("")).await.ok()
        })
        .await;
        store.close().await;
    }
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'several'";
    assert_eq!(value::<i64>(&writer.url("postgres"), made).await, 1);
    assert_eq!(value::<i64>(&reader.url("postgres"), made).await, 0);
    let none = format!("postgres://postgres:swordfish@127.0.0.1:{gone},127.0.0.1:{}/postgres", port(&reader));
    let checked = hadir(&none, "several", &["check"]);
    let said = said(&checked);
    assert!(!checked.status.success() && !said.contains("swordfish"), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{gone}: connection refused")) && said.contains("a replica"), "{said}");
}

/// The statements of the deployment notes, for another schema and user.
fn documented_grants(schema: &str, user: &str) -> Vec<String> {
    let notes = include_str!("../../../../docs/deployment.md");
    let lines = notes.lines().filter(|line| line.starts_with("GRANT "));
    lines.map(|line| line.replace("shop", schema).replace("hadir_server", user)).collect()
}

#[tokio::test]
async fn the_documented_rights_are_enough_and_each_missing_one_is_named() {
    let server = postgres::dedicated();
    let (owner, schema, user) = (server.url("postgres"), "rights", "careful");
    migrate(&settings(&owner, schema), false).await.expect("migrated");
    let mut connection = PgConnection::connect(&owner).await.expect("connected");
    let mut run = async |sql: &str| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("done");
    };
    run(&format!("CREATE ROLE {user} LOGIN")).await;
    let url = owner.replace("postgres@", &format!("{user}@"));
    let check = || {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = command(&url, schema, &["check"], &folder);
        let output = command.env("HADIR_MIGRATE", "false").output().expect("the binary runs");
        (output.status.code(), said(&output))
    };
    let grants = documented_grants(schema, user);
    assert!(grants.len() > 6, "{grants:?}");
    for (number, grant) in grants.iter().enumerate() {
        let (code, said) = check();
        let is_optional = number >= grants.len() - 2;
        assert_eq!(code, Some(i32::from(!is_optional)), "before {grant}: {said}");
        assert!(said.contains("missing"), "before {grant}: {said}");
        assert!(!said.contains("cannot be reached"), "{said}");
        run(grant).await;
    }
    let (code, lines) = check();
    assert!(code == Some(0) && lines.contains("every kind of write was tried"), "{lines}");
    let sql = "SELECT count(*) FROM rights.presence_events";
    assert_eq!(value::<i64>(&owner, sql).await, 0, "and rolled back");
    let store = PostgresStore::connect(settings(&url, schema)).expect("an address");
    store.put_mitra(id(1), "Sari", None, &cause("")).await.expect("written");
    store.set_online(id(1), true, &cause("")).await.expect("written");
    store.set_active(id(1), false, &cause("")).await.expect("written");
    store.close().await;

    run(&format!("REVOKE INSERT, UPDATE ON {schema}.mitra_status FROM {user}")).await;
    for arguments in [&["check"][..], &["serve"]] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = command(&url, schema, arguments, &folder);
        let output = command.env("HADIR_MIGRATE", "false").output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = said(&output);
        assert!(said.contains("INSERT, UPDATE on `rights.mitra_status` is missing"), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn check_prints_version_and_connections_and_names_tables_that_do_not_fit() {
    let schema = postgres::schema().await;
    let pool = plain(&schema.url, &schema.name);
    let run = async |sql: &str| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&pool).await.expect("done");
    };
    let check = || {
        let output = hadir(&schema.url, &schema.name, &["check"]);
        (output.status.code(), said(&output))
    };
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("to be migrated at start"), "{said}");
    assert!(said.contains("12 or newer is needed") && said.contains("a node takes up to 15 connections"), "{said}");
    run("CREATE TABLE mitras (id bigint PRIMARY KEY); CREATE TABLE chat_sessions (id uuid PRIMARY KEY, customer_id text)")
        .await;
    let (code, said) = check();
    assert_eq!(code, Some(1), "{said}");
    for misfit in ["mitras.id should be uuid", "chat_sessions.customer_id should be uuid"] {
        assert!(said.contains(misfit), "{misfit} is missing in {said}");
    }
    run("DROP TABLE mitras, chat_sessions").await;
    migrate(&settings(&schema.url, &schema.name), false).await.expect("migrated");
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("every kind of write was tried"), "{said}");
    run("ALTER TABLE mitra_status DISABLE TRIGGER hadir_status_before").await;
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("`hadir_status_before` of `mitra_status` is disabled"), "{said}");
    run("DROP TRIGGER hadir_status_before ON mitra_status").await;
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("cannot take a mitra online"), "{said}");
    run("ALTER TABLE mitra_heartbeats RENAME COLUMN last_heartbeat_at TO at").await;
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("cannot record heartbeats"), "{said}");
}
