//! Many writers at once, through the store and with plain SQL of many rows in whatever order: no deadlock with ours in it,
//! and true counts at rest. The full form, half of 64 writers of each kind for a minute:
//! `BUSY_WRITERS=64 BUSY_SECONDS=60 cargo test --test it -- sessions::writers`. Over REST and two nodes: `tests/it/sessions/writers.rs`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hadir::{
    domain::{Actor, Cause, Payment, SessionAction},
    store::{
        Store, StoreError,
        postgres::{PostgresStore, migrate},
    },
};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use tokio::task::JoinSet;

use super::{
    super::{id, plain, settings},
    customer, session_id,
};
use crate::support::postgres;

/// Mitras 1 to 40 and sessions 1 to 400 are what everybody writes.
pub const MITRAS: u64 = 40;
pub const SESSIONS: u64 = 400;

/// How many of each kind.
fn each() -> u64 {
    set("BUSY_WRITERS", 16) / 2
}

fn busy_for() -> Duration {
    Duration::from_secs(set("BUSY_SECONDS", 4))
}

/// What the environment sets, or the short form.
pub fn set(name: &str, short: u64) -> u64 {
    std::env::var(name).map_or(short, |number| number.parse().expect("a number"))
}

/// One of the mitras, for the n-th step of a writer.
pub fn mitra(n: u64) -> u128 {
    1 + u128::from(n.wrapping_mul(7919) % MITRAS)
}

/// One of the sessions, the same way.
pub fn session(n: u64) -> u128 {
    1 + u128::from(n.wrapping_mul(7907) % SESSIONS)
}

/// One call of the store, of every kind that writes sessions or what they are judged by.
async fn call(store: &PostgresStore, step: u64) -> Result<(), StoreError> {
    let cause = Cause::new(Actor::Service, "busy");
    let who = id(mitra(step));
    let short = Duration::from_millis(step % 400);
    let action = match step % 10 {
        0 | 1 => SessionAction::Accept { mitra: who, payment: Payment::Paid, duration: short },
        2 => SessionAction::Accept { mitra: who, payment: Payment::Pending, duration: short * 10 },
        3 => SessionAction::ConfirmPayment,
        4 | 5 => SessionAction::Reroute { to: Some(who) },
        6 => SessionAction::Reroute { to: None },
        7 => SessionAction::End,
        8 => {
            store.expire_sessions(20).await?;
            return store.next_expiry().await.map(|_| ());
        }
        _ => {
            store.set_active(who, !step.is_multiple_of(50), &cause).await?;
            return match store.set_online(who, step.is_multiple_of(3), &cause).await {
                Ok(_) | Err(StoreError::Deactivated(_)) => Ok(()),
                Err(other) => Err(other),
            };
        }
    };
    match store.change_session(session_id(session(step)), &action, &cause).await {
        Ok(_)
        | Err(
            StoreError::UnknownSession(_)
            | StoreError::WrongState(_)
            | StoreError::NotAvailable(_)
            | StoreError::CapacityExceeded(_),
        ) => Ok(()),
        Err(other) => Err(other),
    }
}

/// Another program's change of many rows. Its own rows it takes first, one after the other by id, and changes only these: two
/// that look for rows and change them in one statement can wait for each other, in Postgres as it is (one queues for the version
/// of a row that it saw, behind one who waits for the version that it wrote). Statuses, which our triggers take too, it takes in
/// another order.
pub async fn statement(pool: &PgPool, step: u64) -> Result<(), sqlx::Error> {
    let from = session(step);
    let sessions = format!(
        "SELECT id FROM chat_sessions WHERE id BETWEEN '{}' AND '{}' ORDER BY id FOR UPDATE",
        session_id(from),
        session_id(from + 20)
    );
    let some = format!("BETWEEN '{}' AND '{}' ORDER BY", id(mitra(step)), id(mitra(step) + 10));
    let mitras = format!("SELECT id FROM mitras WHERE id {some} id FOR NO KEY UPDATE");
    let statuses =
        format!("SELECT mitra_id AS id FROM mitra_status WHERE mitra_id {some} mitra_id DESC FOR NO KEY UPDATE");
    let any = "lpad(to_hex(1 + floor(random() * 40)::int), 32, '0')::uuid";
    let (held, change) = match step % 8 {
        0 => (sessions, "UPDATE chat_sessions SET status = 'ended' WHERE status = 'active' AND id".to_owned()),
        1 => (sessions, "DELETE FROM chat_sessions WHERE id".to_owned()),
        2 | 3 => {
            let sql = format!(
                "INSERT INTO chat_sessions (id, customer_id, mitra_id, status, expires_at) \
                 SELECT ('0000c4a7' || lpad(to_hex(n), 24, '0'))::uuid, '{}', {any}, 'active', \
                 now() + interval '300 ms' FROM generate_series({from}, {from} + 20) n ON CONFLICT (id) DO NOTHING",
                customer(1)
            );
            return sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.map(|_| ());
        }
        4 => {
            let under_way = "status IN ('active', 'pending_payment')";
            (sessions, format!("UPDATE chat_sessions SET mitra_id = {any} WHERE {under_way} AND id"))
        }
        5 => {
            let freed = "status = 'searching', mitra_id = NULL, expires_at = NULL";
            (sessions, format!("UPDATE chat_sessions SET {freed} WHERE id"))
        }
        6 => (mitras, format!("UPDATE mitras SET max_sessions = {}, is_active = true WHERE id", 5 + step % 30)),
        _ => {
            let some_offline = "UPDATE mitra_status SET is_online = is_online AND random() < 0.5 WHERE mitra_id";
            (statuses, some_offline.to_owned())
        }
    };
    let sql = format!(
        "DO $$ DECLARE held uuid[]; BEGIN SELECT array_agg(l.id) INTO held FROM ({held}) l; \
         {change} = ANY (held); END $$"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.map(|_| ())
}

/// A store with as many connections as there are writers, on a server of its own.
async fn own(server: &postgres::Server, connections: u64) -> Arc<PostgresStore> {
    let mut settings = settings(&server.url("postgres"), "busy");
    settings.pool_size = connections as u32;
    migrate(&settings, false).await.expect("migrated");
    Arc::new(PostgresStore::connect(settings).expect("an address"))
}

struct Busy {
    server: postgres::Server,
    store: Arc<PostgresStore>,
    pool: PgPool,
}

async fn busy() -> Busy {
    let server = postgres::dedicated();
    let store = own(&server, each()).await;
    let options = plain(&server.url("postgres"), "busy").connect_options();
    let pool = PgPoolOptions::new()
        .max_connections(each() as u32)
        .acquire_timeout(Duration::from_secs(30))
        .connect_lazy_with((*options).clone());
    // In no order of id, as time makes them.
    let sql = format!(
        "INSERT INTO mitras (id, max_sessions) SELECT lpad(to_hex(n), 32, '0')::uuid, 10 \
         FROM generate_series(1, {MITRAS}) n ORDER BY random(); \
         UPDATE mitra_status SET is_online = true; INSERT INTO customers VALUES ('{}')",
        customer(1)
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.expect("inserted");
    for n in 1..=u128::from(SESSIONS) {
        store.create_session(Some(session_id(n)), customer(1)).await.expect("created");
    }
    Busy { server, store, pool }
}

impl Busy {
    /// Waits for the writers; who failed is told by the server's log.
    async fn all_well(&self, mut writers: JoinSet<()>) {
        let mut failed = Vec::new();
        while let Some(writer) = writers.join_next().await {
            failed.extend(writer.err());
        }
        let log = self.server.log();
        assert!(failed.is_empty() && !log.contains("deadlock detected"), "{failed:?}: {log}");
    }

    async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.expect("asked")
    }

    async fn counts_are_true(&self) {
        let wrong = self
            .number(
                "SELECT count(*) FROM mitra_status s WHERE active_sessions <> (SELECT count(*) FROM chat_sessions c \
                 WHERE c.mitra_id = s.mitra_id AND c.status IN ('active', 'pending_payment'))",
            )
            .await;
        assert_eq!(wrong, 0, "miscounted mitras");
        // Each load that came has gone, or is there.
        let recorded = "SELECT coalesce(sum(CASE WHEN kind = 'session_started' THEN 1 WHEN kind IN ('session_rerouted', \
             'session_ended', 'session_expired', 'session_removed') THEN -1 ELSE 0 END), 0)::bigint FROM presence_events";
        let there = "SELECT count(*) FROM chat_sessions WHERE status IN ('active', 'pending_payment')";
        assert_eq!(self.number(recorded).await, self.number(there).await, "events and sessions");
        assert!(self.number("SELECT count(*) FROM presence_events WHERE kind = 'session_expired'").await > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_of_both_kinds_never_wait_for_each_other_in_a_circle() {
    let busy = busy().await;
    let until = Instant::now() + busy_for();
    let mut writers = JoinSet::new();
    for writer in 0..each() {
        let store = Arc::clone(&busy.store);
        writers.spawn(async move {
            for step in (writer * 1009..).take_while(|_| Instant::now() < until) {
                call(&store, step).await.expect("written");
            }
        });
        let pool = busy.pool.clone();
        writers.spawn(async move {
            for step in (writer * 2003..).take_while(|_| Instant::now() < until) {
                statement(&pool, step).await.expect("written");
            }
        });
    }
    busy.all_well(writers).await;
    busy.counts_are_true().await;
}

/// Deactivation, reactivation, another name and another capacity, which take a mitra's row, its status and its sign-ins.
async fn change_mitra(store: &PostgresStore, step: u64) -> Result<(), StoreError> {
    let cause = Cause::new(Actor::Dashboard, "busy");
    // Each of them all four.
    let who = id(mitra(step / 4));
    match step % 4 {
        0 => store.set_active(who, false, &cause).await?,
        1 => store.set_active(who, true, &cause).await?,
        2 => store.put_mitra(who, "Another", Some(5 + (step % 30) as u32), &cause).await?,
        _ => store.put_mitra(who, "Another again", None, &cause).await?,
    };
    Ok(())
}

/// Transactions that take statuses first and sessions last, or statuses or sign-ins first and mitras last, against every order
/// of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_in_the_wrong_order_is_in_no_circle_with_the_api() {
    let busy = busy().await;
    let sign_ins = "INSERT INTO auth_sessions (id, subject_id, role, expires_at) \
                    SELECT gen_random_uuid(), id, 'mitra', now() + interval '1 hour' FROM mitras, generate_series(1, 2)";
    sqlx::raw_sql(sign_ins).execute(&busy.pool).await.expect("signed in");
    let until = Instant::now() + busy_for();
    let mut writers = JoinSet::new();
    for writer in 0..each() {
        let store = Arc::clone(&busy.store);
        writers.spawn(async move {
            for step in (writer * 1009..).take_while(|_| Instant::now() < until) {
                call(&store, step).await.expect("written");
                change_mitra(&store, step).await.expect("written");
            }
        });
    }
    let pool = busy.pool.clone();
    writers.spawn(async move {
        for step in (0..).take_while(|_| Instant::now() < until) {
            let first = session(step);
            let (from, to) = (session_id(first), session_id(first + 200));
            let then = match step % 3 {
                0 => format!(
                    "UPDATE mitra_status SET is_online = is_online; SELECT pg_sleep(0.002); \
                     UPDATE chat_sessions SET expires_at = now() WHERE id BETWEEN '{from}' AND '{to}'; \
                     UPDATE chat_sessions SET status = 'ended' WHERE status = 'active' AND id BETWEEN '{from}' AND '{to}'"
                ),
                1 => "UPDATE mitra_status SET is_online = is_online; SELECT pg_sleep(0.002); \
                      UPDATE mitras SET display_name = 'Theirs'"
                    .to_owned(),
                _ => "UPDATE auth_sessions SET revoked_at = NULL; SELECT pg_sleep(0.002); \
                      UPDATE mitras SET display_name = 'Theirs too'"
                    .to_owned(),
            };
            sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {then}; COMMIT"))).execute(&pool).await.expect("written");
        }
    });
    busy.all_well(writers).await;
    busy.counts_are_true().await;
    for kind in ["deactivated", "reactivated", "capacity"] {
        let recorded = format!("SELECT count(*) FROM presence_events WHERE kind = '{kind}' AND actor = 'dashboard'");
        assert!(busy.number(&recorded).await > 0, "nobody was {kind}");
    }
}

/// Over as many connections as the server takes at once, several times: a race shows in one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_accepts_that_meet_in_the_database_as_many_win_as_there_is_room() {
    const AT_ONCE: u64 = 25;
    let server = postgres::dedicated();
    let store = own(&server, AT_ONCE).await;
    let cause = Cause::new(Actor::Service, "race");
    for round in 0..8 {
        let who = id(1 + round);
        store.put_mitra(who, "Wanted", Some(3), &cause).await.expect("created");
        store.set_online(who, true, &cause).await.expect("online");
        let sessions = (0..200).map(|n| session_id(1 + round * 200 + n));
        let created = sessions.clone().map(|session| store.create_session(Some(session), customer(1)));
        futures_util::future::join_all(created).await.into_iter().for_each(|created| assert!(created.is_ok()));
        let mut accepts = JoinSet::new();
        for session in sessions {
            let (store, cause) = (Arc::clone(&store), cause.clone());
            let takes = SessionAction::Accept { mitra: who, payment: Payment::Paid, duration: Duration::from_secs(60) };
            accepts.spawn(async move { store.change_session(session, &takes, &cause).await });
        }
        let (taken, refused): (Vec<_>, Vec<_>) = accepts.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!(taken.len(), 3, "round {round}");
        assert!(refused.iter().all(|answer| matches!(answer, Err(StoreError::CapacityExceeded(_)))), "{refused:?}");
        assert_eq!(store.mitra(who).await.expect("read").expect("exists").sessions, 3);
    }
}
