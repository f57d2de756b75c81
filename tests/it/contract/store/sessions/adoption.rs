//! Migrating a schema in which a backend's own tables are, with their rows, while it writes on.
//!
//! `ADOPTED_SESSIONS=1000000 cargo test --test it -- adoption --nocapture` prints how long it took, which locks were held for
//! how long, and the longest wait of a writer (figures in `migrations/README.md`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hadir::{
    domain::{Payment, SessionStatus},
    store::{
        StoreError,
        postgres::{PostgresStore, migrate},
    },
};
use sqlx::{AssertSqlSafe, PgPool, migrate::Migrator};

use super::{
    super::{Bench, Beside, cause, id, plain, settings},
    accept, customer,
};
use crate::support::postgres::{self, Schema};

const SESSIONS: u64 = 20_000;
const SESSIONS_OF_A_MITRA: u64 = 10;

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.expect(sql);
}

async fn empty() -> (Schema, PgPool) {
    let schema = postgres::schema().await;
    let pool = plain(&schema.url, &schema.name);
    (schema, pool)
}

async fn migrated(schema: &Schema) -> Result<(), StoreError> {
    migrate(&settings(&schema.url, &schema.name), false).await.map(|_| ())
}

fn bench(schema: Schema, pool: PgPool) -> Bench {
    let store = PostgresStore::connect(settings(&schema.url, &schema.name)).expect("an address");
    Bench { store: Arc::new(store), beside: Beside::Postgres { pool, schema } }
}

async fn refused(schema: &Schema) -> String {
    match migrated(schema).await {
        Err(StoreError::Invalid(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

/// The tables of a backend that never heard of us: columns of its own, none of ours that has a default.
const OWN_TABLES: &str = "
    CREATE TABLE mitras (id uuid PRIMARY KEY, email text NOT NULL, display_name varchar(80) NOT NULL);
    CREATE TABLE chat_sessions (
        topic text NOT NULL DEFAULT 'love', id uuid PRIMARY KEY, customer_id uuid NOT NULL, mitra_id uuid,
        status varchar(20) NOT NULL, price integer NOT NULL DEFAULT 10
    );";

fn own_rows(sessions: u64) -> String {
    let mitras = sessions / SESSIONS_OF_A_MITRA;
    format!(
        "INSERT INTO mitras (id, email, display_name) SELECT lpad(to_hex(n), 32, '0')::uuid, n || '@example.test', 'Mitra ' || n FROM generate_series(1, {mitras}) n;
         INSERT INTO chat_sessions (id, customer_id, mitra_id, status)
         SELECT gen_random_uuid(), ('0000c057' || lpad(to_hex(n % 5000), 24, '0'))::uuid,
             CASE WHEN status <> 'searching' THEN lpad(to_hex(1 + n % {mitras}), 32, '0')::uuid END, status
         FROM generate_series(1, {sessions}) n, LATERAL (SELECT (ARRAY['active', 'pending_payment', 'ended', 'ended',
             'ended', 'ended', 'ended', 'expired', 'active', 'searching'])[1 + (n / {mitras} + n) % 10] AS status) s;
         ANALYZE mitras, chat_sessions"
    )
}

/// What the migration held, by relation and mode, and for how long at a stretch.
async fn watch_locks(pool: PgPool, done: Arc<AtomicBool>) -> BTreeMap<(String, String), Duration> {
    let mut since: BTreeMap<(String, String), Instant> = BTreeMap::new();
    let mut longest: BTreeMap<(String, String), Duration> = BTreeMap::new();
    while !done.load(Ordering::Relaxed) {
        let held: Vec<(String, String)> = sqlx::query_as(
            "SELECT DISTINCT c.relname::text, l.mode FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
             JOIN pg_class c ON c.oid = l.relation WHERE a.application_name = 'hadir migrate' AND l.granted \
             AND l.locktype = 'relation' AND c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'",
        )
        .fetch_all(&pool)
        .await
        .expect("asked");
        let now = Instant::now();
        since.retain(|lock, _| held.contains(lock));
        for lock in held {
            let began = *since.entry(lock.clone()).or_insert(now);
            let stretch = longest.entry(lock).or_default();
            *stretch = (*stretch).max(now - began);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    longest
}

/// The backend goes on: it takes and ends sessions all the while. Returns how many, and its longest wait.
async fn write_on(pool: PgPool, mitras: u64, done: Arc<AtomicBool>) -> (u64, Duration) {
    let (mut written, mut longest) = (0, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        let who = 1 + written * 31 % mitras;
        let sql = format!(
            "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) \
             VALUES (gen_random_uuid(), lpad('1', 32, '0')::uuid, lpad(to_hex({who}), 32, '0')::uuid, 'active'); \
             UPDATE chat_sessions SET status = 'ended' WHERE id = (SELECT id FROM chat_sessions \
             WHERE status = 'active' AND mitra_id IS NOT NULL LIMIT 1)"
        );
        let began = Instant::now();
        run(&pool, &sql).await;
        longest = longest.max(began.elapsed());
        written += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (written, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backends_own_tables_are_adopted_with_true_counts_while_it_writes_on() {
    let sessions = std::env::var("ADOPTED_SESSIONS").map_or(SESSIONS, |n| n.parse().expect("a number"));
    let mitras = sessions / SESSIONS_OF_A_MITRA;
    let (schema, pool) = empty().await;
    run(&pool, OWN_TABLES).await;
    run(&pool, &own_rows(sessions)).await;
    let done = Arc::new(AtomicBool::new(false));
    let locks = tokio::spawn(watch_locks(pool.clone(), Arc::clone(&done)));
    let writer = tokio::spawn(write_on(pool.clone(), mitras, Arc::clone(&done)));
    let began = Instant::now();
    let outcome = migrated(&schema).await;
    let took = began.elapsed();
    done.store(true, Ordering::Relaxed);
    let ((written, waited), locks) = (writer.await.expect("wrote on"), locks.await.expect("watched"));
    outcome.expect("migrated");
    println!(
        "{sessions} sessions of {mitras} mitras: migrated in {took:?}; a writer did {written} transactions, the longest took {waited:?}"
    );
    for ((relation, mode), held) in locks {
        println!("  {relation}: {mode}, at most {held:?}");
    }

    let bench = bench(schema, pool);
    assert_eq!(bench.miscounted().await, 0);
    assert_eq!(bench.count("SELECT count(*) FROM mitra_status".to_owned()).await, mitras as i64);
    assert!(bench.count("SELECT count(*) FROM mitra_status WHERE active_sessions > 0".to_owned()).await > 0);
    for rule in ["NOT convalidated", "contype = 'x'"] {
        let unfinished =
            format!("SELECT count(*) FROM pg_constraint WHERE conrelid = 'chat_sessions'::regclass AND {rule}");
        assert_eq!(bench.count(unfinished).await, 0);
    }
    let indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 'chat_sessions'::regclass AND indisvalid".to_owned();
    assert_eq!(bench.count(indexes).await, 4);
    // It is ours as well as the backend's.
    let counts = bench.session_counts().await.expect("counted");
    assert!(counts.active > 0 && counts.searching > 0 && counts.pending_payment > 0, "{counts:?}");
    let profile = bench.profile(id(7)).await.expect("read").expect("exists");
    assert_eq!(profile.display_name, "Mitra 7");
    bench.put_mitra(id(7), "Mitra 7", Some(1000), &cause("")).await.expect("updated");
    bench.set_online(id(7), true, &cause("")).await.expect("online");
    let taken = bench.taken(1, 7, Payment::Paid).await;
    assert_eq!((taken.status, taken.mitra_id), (SessionStatus::Active, Some(id(7))));
    assert_eq!(bench.row(7).await.sessions, profile.row.sessions + 1);
    assert_eq!(
        bench.count("SELECT count(*) FROM chat_sessions WHERE topic <> 'love' OR price <> 10".to_owned()).await,
        0
    );
}

#[tokio::test]
async fn sessions_written_before_the_triggers_were_there_are_counted() {
    let (schema, pool) = empty().await;
    let first = tempfile::tempdir().expect("a folder");
    let name = "0001_tables.sql";
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres").join(name);
    std::fs::copy(from, first.path().join(name)).expect("copied");
    Migrator::new(first.path()).await.expect("read").run(&pool).await.expect("migrated");
    run(
        &pool,
        &format!(
            "INSERT INTO mitras (id) SELECT lpad(to_hex(n), 32, '0')::uuid FROM generate_series(1, 2500) n; \
             INSERT INTO customers VALUES ('{0}'); \
             INSERT INTO chat_sessions (id, customer_id, mitra_id, status) SELECT gen_random_uuid(), '{0}', \
             lpad(to_hex(n % 2500 + 1), 32, '0')::uuid, CASE WHEN n % 3 = 0 THEN 'ended' ELSE 'active' END \
             FROM generate_series(1, 10000) n",
            customer(1)
        ),
    )
    .await;
    migrated(&schema).await.expect("migrated");
    let bench = bench(schema, pool);
    assert_eq!(bench.miscounted().await, 0);
    assert_eq!(bench.count("SELECT sum(active_sessions) FROM mitra_status".to_owned()).await, 6667);
    // Nothing happened to anybody: it was so before.
    let events = "SELECT count(*) FROM presence_events WHERE kind <> 'created'".to_owned();
    assert_eq!(bench.count(events).await, 0);
}

/// A dump or a long report holds a snapshot, and an index that is built concurrently waits for it.
#[tokio::test]
async fn a_migration_that_was_broken_off_at_an_index_goes_on_the_next_time() {
    let server = postgres::dedicated();
    let mut settings = settings(&server.url("postgres"), "public");
    let pool = plain(&settings.url, "public");
    run(&pool, OWN_TABLES).await;
    run(&pool, &own_rows(100)).await;
    let mut report = pool.acquire().await.expect("connected");
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").execute(&mut *report).await.expect("begun");
    settings.migrate_timeout = Duration::from_secs(3);
    let late = migrate(&settings, false).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    let broken = "SELECT count(*) FROM pg_index WHERE indrelid = 'chat_sessions'::regclass AND NOT indisvalid";
    assert_eq!(sqlx::query_scalar::<_, i64>(broken).fetch_one(&pool).await.expect("asked"), 1);
    sqlx::raw_sql("ROLLBACK").execute(&mut *report).await.expect("ended");
    settings.migrate_timeout = Duration::from_secs(60);
    migrate(&settings, false).await.expect("migrated");
    assert_eq!(sqlx::query_scalar::<_, i64>(broken).fetch_one(&pool).await.expect("asked"), 0);
}

#[tokio::test]
async fn rows_that_break_a_rule_are_told_and_once_corrected_all_is_well() {
    for (breaking, rule, correcting) in [
        ("UPDATE chat_sessions SET status = 'done'", "status_is_known", "UPDATE chat_sessions SET status = 'ended'"),
        (
            "ALTER TABLE chat_sessions ADD COLUMN expires_at timestamptz; UPDATE chat_sessions SET expires_at = 'infinity'",
            "expires_at_is_a_time",
            "UPDATE chat_sessions SET expires_at = NULL",
        ),
        (
            "UPDATE chat_sessions SET mitra_id = lpad('ffff', 32, '0')::uuid WHERE mitra_id IS NOT NULL",
            "chat_sessions_mitra_id_fkey",
            "DELETE FROM chat_sessions WHERE mitra_id IS NOT NULL",
        ),
    ] {
        let (schema, pool) = empty().await;
        run(&pool, OWN_TABLES).await;
        run(&pool, &own_rows(100)).await;
        run(&pool, breaking).await;
        let why = refused(&schema).await;
        assert!(why.contains(rule) && why.contains("chat_sessions") && why.contains("correct them"), "{why}");
        run(&pool, correcting).await;
        migrated(&schema).await.expect(rule);
        assert_eq!(bench(schema, pool).miscounted().await, 0);
    }
}

#[tokio::test]
async fn tables_that_do_not_fit_are_told_column_by_column() {
    let (schema, pool) = empty().await;
    run(
        &pool,
        "CREATE TABLE customers (id bigint PRIMARY KEY); CREATE TABLE mitras (id uuid PRIMARY KEY, is_active boolean); \
         CREATE TABLE chat_sessions (id uuid PRIMARY KEY, customer_id uuid NOT NULL, status integer NOT NULL, \
         expires_at timestamp)",
    )
    .await;
    let why = refused(&schema).await;
    for wrong in [
        "customers.id should be uuid NOT NULL and is bigint NOT NULL",
        "mitras.is_active should be boolean NOT NULL and is boolean",
        "chat_sessions.status should be text NOT NULL and is integer NOT NULL",
        "chat_sessions.expires_at should be timestamp with time zone and is timestamp without time zone",
        "HADIR_DB_SCHEMA",
    ] {
        assert!(why.contains(wrong), "{wrong}: {why}");
    }
    let tables =
        format!("SELECT count(*) FROM pg_tables WHERE schemaname = '{}' AND tablename = 'mitra_status'", schema.name);
    let bench = bench(schema, pool);
    assert_eq!(bench.count(tables).await, 0);
}

#[tokio::test]
async fn a_backends_own_foreign_keys_are_left_as_they_are() {
    let (schema, pool) = empty().await;
    run(
        &pool,
        "CREATE TABLE mitras (id uuid PRIMARY KEY); CREATE TABLE customers (id uuid PRIMARY KEY); \
         CREATE TABLE chat_sessions (id uuid PRIMARY KEY, customer_id uuid NOT NULL, status text NOT NULL, \
         mitra_id uuid CONSTRAINT own REFERENCES mitras (id) ON DELETE CASCADE)",
    )
    .await;
    migrated(&schema).await.expect("migrated");
    let bench = bench(schema, pool);
    bench.online(1).await;
    bench.taken(1, 1, Payment::Paid).await;
    assert!(bench.does(1, &accept(1, Payment::Paid)).await.is_ok_and(|again| !again.changed));
    bench.run("DELETE FROM mitras".to_owned()).await;
    assert_eq!(bench.count("SELECT count(*) FROM chat_sessions".to_owned()).await, 0);
    let keys =
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 'chat_sessions'::regclass AND contype = 'f'".to_owned();
    assert_eq!(bench.count(keys).await, 1);
}
