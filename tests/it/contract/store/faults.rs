//! Postgres away, frozen, read-only, locked, wrongly addressed: a bounded wait, a sentence, no secret, and recovery.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hadir::{
    domain::NodeId,
    store::{
        Store, StoreError,
        postgres::{NodeLock, PostgresSettings, PostgresStore, migrate},
    },
};
use tokio::task::JoinSet;

use super::{Kind, cause, id, settings};
use crate::support::{eventually, postgres};

const SECRET: &str = "swordfish";

/// Deadlines that a test can wait for.
pub(super) fn hasty(url: &str, schema: &str) -> PostgresSettings {
    let mut settings = settings(url, schema);
    settings.query_timeout = Duration::from_millis(700);
    settings.acquire_timeout = Duration::from_millis(700);
    settings.lock_timeout = Duration::from_millis(300);
    settings
}

/// On a server of its own, with a password in the address (the server asks for none), and one mitra online.
async fn own(server: &postgres::Server) -> PostgresStore {
    let url = server.url("postgres").replace("postgres@", &format!("postgres:{SECRET}@"));
    migrate(&settings(&url, "truth"), false).await.expect("migrated");
    let store = PostgresStore::connect(hasty(&url, "truth")).expect("an address");
    eventually("a mitra is online", async || {
        store.put_mitra(id(1), "Sari", None, &cause("")).await.ok()?;
        store.set_online(id(1), true, &cause("")).await.ok()
    })
    .await;
    store
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Unavailable(why)) => {
            assert!(!why.contains(SECRET) && !why.is_empty(), "{why}");
            why
        }
        other => panic!("not unavailable: {other:?}"),
    }
}

/// Every kind of call.
async fn all_unavailable(store: &PostgresStore) {
    unavailable(store.ping().await);
    unavailable(store.mitra(id(1)).await);
    unavailable(store.set_online(id(1), true, &cause("")).await);
    unavailable(store.record_heartbeats(&[(id(1), Duration::ZERO)]).await);
    unavailable(store.counts(Duration::ZERO).await);
    unavailable(store.now().await);
}

async fn recovers(store: &PostgresStore) {
    eventually("the store recovers by itself", async || {
        store.ping().await.ok()?;
        store.set_online(id(1), true, &cause("")).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_frozen_server_is_unavailable_within_the_deadline_and_comes_back() {
    let server = postgres::dedicated();
    let store = own(&server).await;
    for _ in 0..2 {
        server.freeze();
        // More at once than there are connections: no place in the pool may be lost.
        let began = Instant::now();
        let calls = (0..20).map(|_| store.mitra(id(1)));
        for answer in futures_util::future::join_all(calls).await {
            unavailable(answer);
        }
        // A bound, not a figure: connection and answer each have a deadline of 0.7 s.
        assert!(began.elapsed() < crate::support::PATIENCE, "{:?}", began.elapsed());
        all_unavailable(&store).await;
        server.thaw();
        recovers(&store).await;
    }
    let all = futures_util::future::join_all((0..4).map(|_| store.mitra(id(1)))).await;
    assert!(all.iter().all(|answer| answer.as_ref().is_ok_and(Option::is_some)), "{all:?}");
}

#[tokio::test]
async fn calls_that_are_given_up_on_a_frozen_server_leave_the_pool_whole() {
    let server = postgres::dedicated();
    let store = own(&server).await;
    server.freeze();
    for _ in 0..20 {
        let given_up = tokio::time::timeout(Duration::from_millis(20), store.mitra(id(1))).await;
        assert!(given_up.is_err(), "{given_up:?}");
    }
    server.thaw();
    recovers(&store).await;
    for _ in 0..20 {
        store.mitra(id(1)).await.expect("answered");
    }
}

#[tokio::test]
async fn a_server_that_was_killed_or_restarted_is_unavailable_and_comes_back() {
    let mut server = postgres::dedicated();
    let store = own(&server).await;
    server.kill();
    all_unavailable(&store).await;
    server.start();
    recovers(&store).await;
    server.stop();
    all_unavailable(&store).await;
    server.start();
    recovers(&store).await;
}

#[tokio::test]
async fn a_read_only_server_answers_questions_and_refuses_writes_in_words() {
    let server = postgres::dedicated();
    let store = own(&server).await;
    server.set("default_transaction_read_only", "on");
    let why = eventually("the server is read-only", async || match store.ping().await {
        Err(StoreError::Unavailable(why)) => Some(why),
        _ => None,
    })
    .await;
    assert!(why.contains("read-only"), "{why}");
    assert!(store.mitra(id(1)).await.expect("answered").is_some_and(|row| row.online));
    let refused = unavailable(store.set_online(id(1), false, &cause("")).await);
    assert!(refused.contains("read-only"), "{refused}");
    server.set("default_transaction_read_only", "off");
    recovers(&store).await;
}

#[tokio::test]
async fn a_row_that_another_transaction_holds_is_waited_for_only_so_long() {
    let bench = Kind::Postgres.empty().await;
    bench.online(1).await;
    bench.online(2).await;
    bench.silence(1, Duration::from_secs(600)).await;
    bench.silence(2, Duration::from_secs(600)).await;
    let store = PostgresStore::connect(hasty(&bench.schema().url, &bench.schema().name)).expect("an address");
    let mut holder = bench.sql().begin().await.expect("begun");
    sqlx::query("SELECT 1 FROM mitra_status JOIN mitra_heartbeats USING (mitra_id) WHERE mitra_id = $1 FOR UPDATE")
        .bind(id(1).0)
        .execute(&mut *holder)
        .await
        .expect("held");
    // The row's trouble, not the store's.
    assert!(matches!(store.set_online(id(1), false, &cause("")).await, Err(StoreError::Busy)));
    // What can be done later does not wait.
    let swept = store.expire_silent(&[(id(1), 1), (id(2), 1)], Duration::from_secs(60)).await.expect("swept");
    assert_eq!(super::ids(&swept), [id(2)]);
    let beats = [(id(1), Duration::ZERO), (id(2), Duration::ZERO)];
    assert_eq!(store.record_heartbeats(&beats).await.expect("recorded"), 1);
    holder.rollback().await.expect("released");
    assert_eq!(store.record_heartbeats(&beats[..1]).await.expect("recorded"), 1);
    store.set_online(id(1), false, &cause("")).await.expect("offline");
}

/// A stranger's long transaction holds many mitras, and commands for them wait on every connection that commands have.
#[tokio::test]
async fn commands_that_wait_for_rows_on_all_their_connections_starve_none_of_presences_questions() {
    let bench = Kind::Postgres.empty().await;
    let mut settings = settings(&bench.schema().url, &bench.schema().name);
    let commands = u128::from(settings.pool_size);
    // Who finds no connection is told so soon; who has one may wait for its row.
    settings.acquire_timeout = Duration::from_millis(500);
    let store = Arc::new(PostgresStore::connect(settings).expect("an address"));
    for n in 1..=commands + 1 {
        bench.online(n).await;
    }
    let mut stranger = bench.sql().begin().await.expect("begun");
    let holder: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *stranger).await.expect("asked");
    sqlx::query("UPDATE mitra_status SET is_online = is_online").execute(&mut *stranger).await.expect("held");
    let mut waiting = JoinSet::new();
    for n in 1..=commands {
        let store = Arc::clone(&store);
        waiting.spawn(async move { store.set_online(id(n), false, &cause("")).await.map(|_| ()) });
    }
    eventually("every connection of the commands waits", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
        let blocked: i64 = sqlx::query_scalar(sql).bind(holder).fetch_one(bench.sql()).await.expect("asked");
        (blocked == commands as i64).then_some(())
    })
    .await;
    let why = unavailable(store.set_online(id(1), true, &cause("")).await);
    assert!(why.contains("all connections are in use"), "{why}");

    let (minute, node) = (Duration::from_secs(60), NodeId::new("here"));
    store.ping().await.expect("well");
    assert_eq!(store.counts(minute).await.expect("counted").online, commands as u64 + 1);
    assert!(!store.find_available(minute, 1).await.expect("found").mitras.is_empty());
    assert_eq!(store.mitras(&[id(1)]).await.expect("read").len(), 1);
    assert_eq!(store.scan(None, 1).await.expect("read").len(), 1);
    assert!(!store.changed_since(0, 1).await.expect("read").is_empty());
    assert!(store.newest_revision().await.expect("read") <= store.last_given_revision().await.expect("read"));
    bench.silence(1, minute * 10).await;
    assert_eq!(store.record_heartbeats(&[(id(1), Duration::ZERO)]).await.expect("recorded"), 1);
    assert!(!store.heard_within(minute, None, 9).await.expect("read").is_empty());
    store.report_lone(&node).await.expect("told");
    assert!(!store.has_lone_nodes(&node, minute).await.expect("read"));
    assert!(store.invalid_sign_ins(&[]).await.expect("read").is_empty());
    assert_eq!(store.session_counts().await.expect("counted").active, 0);
    assert!(store.paused_sweeps().await.expect("read").is_empty());
    // Whom somebody holds is left to the next sweep.
    assert!(store.expire_silent(&[(id(1), 1)], minute).await.expect("swept").is_empty());

    assert_eq!(waiting.len() as u128, commands, "none of the commands was answered meanwhile");
    assert!(waiting.try_join_next().is_none());
    stranger.rollback().await.expect("released");
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn an_address_that_cannot_be_right_is_refused_in_a_sentence_without_its_secret() {
    for url in [
        format!("postgres://hadir:{SECRET}@127.0.0.1:port/hadir"),
        format!("postgres://hadir:{SECRET}@127.0.0.1:5432/hadir?sslmode=maybe"),
        format!("hadir:{SECRET}@127.0.0.1"),
    ] {
        match PostgresStore::connect(hasty(&url, "truth")) {
            Err(StoreError::Invalid(why)) => {
                assert!(why.contains("DATABASE_URL") && !why.contains(SECRET), "{why}");
            }
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("taken: {url}"),
        }
    }
}

#[tokio::test]
async fn an_address_with_tls_is_taken() {
    for mode in ["disable", "prefer", "require", "verify-ca", "verify-full"] {
        let url = format!("postgres://hadir:{SECRET}@db.test:5432/hadir?sslmode={mode}&sslrootcert=/etc/ssl/root.pem");
        PostgresStore::connect(hasty(&url, "truth")).expect("an address");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_unavailable_where_tls_is_required() {
    let schema = postgres::schema().await;
    let store =
        PostgresStore::connect(hasty(&format!("{}?sslmode=require", schema.url), &schema.name)).expect("parsed");
    let why = unavailable(store.ping().await);
    assert!(why.to_lowercase().contains("tls"), "{why}");
}

#[tokio::test]
async fn nobody_at_the_address_is_told_in_a_sentence() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound").port();
    let settings = hasty(&format!("postgres://hadir:{SECRET}@127.0.0.1:{port}/hadir"), "truth");
    let why = unavailable(migrate(&settings, false).await);
    assert!(why.contains("refused"), "{why}");
    unavailable(NodeLock::alone(&settings).await.map(|_| ()));
    let store = PostgresStore::connect(settings).expect("an address");
    let why = unavailable(store.ping().await);
    assert!(why.contains("it is away"), "{why}");
}

#[tokio::test]
async fn what_waiting_does_not_heal_is_told_at_start() {
    let schema = postgres::schema().await;
    let refused = async |url: &str| match migrate(&hasty(url, &schema.name), false).await {
        Err(StoreError::Invalid(why)) => {
            assert!(why.contains("DATABASE_URL") && !why.contains(SECRET), "{why}");
            why
        }
        other => panic!("not refused: {other:?}"),
    };
    let nobody = schema.url.replace("postgres@", &format!("nobody:{SECRET}@"));
    assert!(refused(&nobody).await.contains("check the user and the password"));
    let nowhere = format!("{}_missing", schema.url);
    assert!(refused(&nowhere).await.contains("create the database"));
}
