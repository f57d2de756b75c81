//! 64 writers at once, half through the store and half plain SQL of many rows: no deadlock, and the rules hold at rest.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hadir::{
    domain::{Actor, Cause, MitraId},
    store::{
        Store, StoreError,
        postgres::{PostgresStore, migrate},
    },
};
use sqlx::{AssertSqlSafe, PgPool, Row};
use tokio::task::JoinSet;

use super::{id, plain, settings};
use crate::support::postgres;

const MITRAS: u128 = 100;
const EACH: usize = 32;
const BUSY_FOR: Duration = Duration::from_secs(4);

/// One call of the store, of every kind that writes.
async fn call(store: &PostgresStore, step: u64) -> Result<(), StoreError> {
    let who = |n: u64| id(1 + u128::from(n.wrapping_mul(7919) % MITRAS as u64));
    let batch: Vec<MitraId> = (step..step + 30).map(who).collect();
    let cause = Cause::new(Actor::Mitra, "command");
    let refused = |answer| match answer {
        Ok(_) | Err(StoreError::Deactivated(_)) => Ok(()),
        Err(other) => Err(other),
    };
    match step % 6 {
        0 => refused(store.set_online(who(step), true, &cause).await),
        1 => refused(store.set_online(who(step), false, &cause).await),
        2 => refused(store.set_active(who(step), step.is_multiple_of(4), &cause).await),
        3 => refused(store.put_mitra(who(step), "Busy", Some((step % 9) as u32), &cause).await),
        4 => {
            let beats: Vec<_> = batch.iter().map(|id| (*id, Duration::from_millis(step % 50))).collect();
            store.record_heartbeats(&beats).await.map(|_| ())
        }
        _ => {
            let candidates: Vec<_> = batch.iter().flat_map(|id| (0..20).map(|epoch| (*id, epoch))).collect();
            store.expire_silent(&candidates, Duration::from_millis(5)).await.map(|_| ())
        }
    }
}

/// One statement of another program, of several rows. It takes its own rows in order of id, as any program must that does
/// not want to wait for itself in a circle; what the triggers take besides is theirs to order.
async fn statement(pool: &PgPool, step: u64) -> Result<(), sqlx::Error> {
    let from = step.wrapping_mul(7907) % MITRAS as u64;
    let some = |column: &str| {
        format!("{column} BETWEEN lpad(to_hex({from}), 32, '0')::uuid AND lpad(to_hex({}), 32, '0')::uuid", from + 20)
    };
    let status = some("s.mitra_id");
    let sql = match step % 4 {
        0 => format!(
            "WITH held AS (SELECT s.mitra_id FROM mitra_status s JOIN mitras m ON m.id = s.mitra_id AND m.is_active \
             WHERE {status} ORDER BY s.mitra_id FOR NO KEY UPDATE OF s) UPDATE mitra_status s SET is_online = false \
             FROM held WHERE s.mitra_id = held.mitra_id"
        ),
        1 => format!(
            "WITH held AS (SELECT s.mitra_id FROM mitra_status s WHERE {status} ORDER BY s.mitra_id FOR NO KEY UPDATE OF s) \
             UPDATE mitra_status s SET active_sessions = {} FROM held WHERE s.mitra_id = held.mitra_id",
            step % 3
        ),
        2 => format!(
            "WITH held AS (SELECT id FROM mitras WHERE {} ORDER BY id FOR NO KEY UPDATE) UPDATE mitras m \
             SET max_sessions = {} FROM held WHERE m.id = held.id",
            some("id"),
            step % 7
        ),
        _ => format!(
            "WITH held AS (SELECT id FROM mitras WHERE {} ORDER BY id FOR NO KEY UPDATE) UPDATE mitras m \
             SET is_active = {} FROM held WHERE m.id = held.id",
            some("id"),
            step.is_multiple_of(3)
        ),
    };
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.map(|_| ())
}

#[tokio::test]
async fn many_writers_of_both_kinds_never_wait_for_each_other_in_a_circle() {
    let server = postgres::dedicated();
    let mut settings = settings(&server.url("postgres"), "busy");
    settings.pool_size = EACH as u32;
    migrate(&settings, false).await.expect("migrated");
    let store = Arc::new(PostgresStore::connect(settings).expect("an address"));
    let pool = plain(&server.url("postgres"), "busy");
    let wide = sqlx::postgres::PgPoolOptions::new()
        .max_connections(EACH as u32)
        .acquire_timeout(Duration::from_secs(30))
        .connect_lazy_with((*pool.connect_options()).clone());
    // In no order of id, as time makes them.
    let sql = "INSERT INTO mitras (id) SELECT lpad(to_hex(n), 32, '0')::uuid FROM generate_series(1, 100) n ORDER BY random()";
    sqlx::raw_sql(sql).execute(&pool).await.expect("inserted");

    let until = Instant::now() + BUSY_FOR;
    let mut writers = JoinSet::new();
    for writer in 0..EACH as u64 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let mut step = writer;
            while Instant::now() < until {
                call(&store, step).await.expect("written");
                step = step.wrapping_add(1);
            }
        });
        let wide = wide.clone();
        writers.spawn(async move {
            let mut step = writer * 3;
            while Instant::now() < until {
                statement(&wide, step).await.expect("written");
                step = step.wrapping_add(1);
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("no writer fails");
    }

    assert!(!server.log().contains("deadlock detected"), "{}", server.log());
    let broken: i64 = sqlx::query(
        "SELECT count(*) FROM mitras m JOIN mitra_status s ON s.mitra_id = m.id \
         WHERE s.is_online AND NOT m.is_active OR s.revision <= 0 OR s.online_epoch <> \
           (SELECT count(*) FROM presence_events e WHERE e.mitra_id = m.id AND e.kind = 'online')",
    )
    .fetch_one(&pool)
    .await
    .expect("asked")
    .get(0);
    assert_eq!(broken, 0, "offline when deactivated, and one event for each go-online");
    let twice: i64 = sqlx::query(
        "SELECT count(*) FROM (SELECT kind, lag(kind) OVER (PARTITION BY mitra_id ORDER BY id) AS before \
         FROM presence_events WHERE kind IN ('online', 'offline')) AS e WHERE kind = before",
    )
    .fetch_one(&pool)
    .await
    .expect("asked")
    .get(0);
    assert_eq!(twice, 0, "online and offline take turns");
    let revisions: (i64, i64) = sqlx::query_as("SELECT count(*), count(DISTINCT revision) FROM mitra_status")
        .fetch_one(&pool)
        .await
        .expect("asked");
    assert_eq!(revisions, (MITRAS as i64, MITRAS as i64));
}
