//! Sixty-four writers at once over two nodes, half of them over REST and half with plain SQL of many rows: no deadlock, no
//! failure, and at rest store and mirror say the same of every mitra.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use hadir::domain::{MitraId, Payment, Role};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row, postgres::PgPoolOptions};
use tokio::task::JoinSet;

use super::law::PATIENT;
use crate::{
    contract::store::{
        id,
        sessions::{
            customer, session_id,
            writers::{MITRAS, SESSIONS, mitra, session, statement},
        },
    },
    presence::{Keys, in_agreement},
    support::{Node, World, eventually},
};

const EACH_KIND: u64 = 32;
const BUSY_FOR: Duration = Duration::from_secs(5);

/// Five seconds, or what the environment says.
fn busy_for() -> Duration {
    let asked = std::env::var("HADIR_TEST_WRITERS_SECONDS").ok();
    asked.map_or(BUSY_FOR, |seconds| Duration::from_secs_f64(seconds.parse().expect("seconds")))
}

/// How much was written: calls and how many of them were not refused, and statements.
#[derive(Debug, Default)]
struct Writes {
    calls: u64,
    done: u64,
    statements: u64,
}

impl std::ops::AddAssign for Writes {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.done += other.done;
        self.statements += other.statements;
    }
}

/// One call, of every kind that writes sessions or what they are judged by; the mitra of it, where it is the mitra's own.
fn call(step: u64) -> (Method, String, Value, Option<MitraId>) {
    let who = id(mitra(step));
    let chat = format!("/internal/sessions/{}", session_id(session(step)));
    let seconds = (1 + step % 400) as f64 / 1_000.0;
    let accept = |payment| json!({ "mitra_id": who, "payment": payment, "duration_seconds": seconds });
    let of_mitra = format!("/internal/mitras/{who}");
    let (method, path, body) = match step % 13 {
        0 | 1 => (Method::POST, format!("{chat}/accept"), accept(Payment::Paid)),
        2 => (Method::POST, format!("{chat}/accept"), accept(Payment::Pending)),
        3 => (Method::POST, format!("{chat}/confirm-payment"), json!({})),
        4 => (Method::POST, format!("{chat}/extend"), json!({ "seconds": seconds })),
        5 => (Method::POST, format!("{chat}/reroute"), json!({ "mitra_id": who })),
        6 => (Method::POST, format!("{chat}/reroute"), json!({})),
        7 => (Method::POST, format!("{chat}/end"), json!({})),
        8 => {
            let body = json!({ "id": session_id(session(step)), "customer_id": customer(1).0 });
            (Method::POST, "/internal/sessions".to_owned(), body)
        }
        9 => (Method::PATCH, format!("{of_mitra}/status"), json!({ "is_active": !step.is_multiple_of(5) })),
        10 => (Method::PUT, of_mitra, json!({ "display_name": "Busy", "max_sessions": 5 + step % 30 })),
        _ => return (Method::POST, "/api/mitra/status/online".to_owned(), json!({}), Some(who)),
    };
    (method, path, body, None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_writers_of_both_kinds_leave_true_counts_and_no_deadlock() {
    let world = World::with_its_own_postgres().await;
    let nodes = [world.node_with(&PATIENT).await, world.node_with(&PATIENT).await];
    let setup = format!(
        "INSERT INTO mitras (id, max_sessions) SELECT lpad(to_hex(n), 32, '0')::uuid, 10 \
         FROM generate_series(1, {MITRAS}) n ORDER BY random(); \
         UPDATE mitra_status SET is_online = true; INSERT INTO customers VALUES ('{}')",
        customer(1)
    );
    sqlx::raw_sql(AssertSqlSafe(setup)).execute(world.sql()).await.expect("inserted");
    for n in 1..=u128::from(SESSIONS) {
        nodes[0].store().create_session(Some(session_id(n)), customer(1)).await.expect("created");
    }
    let pool = PgPoolOptions::new()
        .max_connections(EACH_KIND as u32)
        .acquire_timeout(Duration::from_secs(30))
        .connect_lazy_with((*world.sql().connect_options()).clone());

    let until = Instant::now() + busy_for();
    let mut writers = JoinSet::new();
    for writer in 0..EACH_KIND {
        let node = &nodes[writer as usize % 2];
        // The server ends a connection that was idle for five seconds; one that is used just then would be reset.
        let http = reqwest::Client::builder().pool_idle_timeout(Duration::from_secs(2)).build().expect("a client");
        let service = node.token(Role::Service);
        let own: HashMap<MitraId, String> =
            (1..=u128::from(MITRAS)).map(|n| (id(n), node.token_of(id(n), Role::Mitra))).collect();
        let (public, internal) = (node.public(), node.internal());
        writers.spawn(async move {
            let (mut calls, mut done) = (0, 0);
            for step in (writer * 1009..).take_while(|_| Instant::now() < until) {
                let (method, path, body, mitra) = call(step);
                let (listener, token) = mitra.map_or((internal, &service), |mitra| (public, &own[&mitra]));
                let request = http.request(method, format!("http://{listener}{path}")).bearer_auth(token).json(&body);
                let reply = request.send().await.expect("an answer");
                let status = reply.status().as_u16();
                let told = reply.text().await.expect("a body");
                let refused = match mitra {
                    Some(_) => [403].as_slice(),
                    None => &[404, 409],
                };
                assert!(status == 200 || refused.contains(&status), "{path} {body}: {status} {told}");
                calls += 1;
                done += u64::from(status == 200);
            }
            Writes { calls, done, statements: 0 }
        });
        let pool = pool.clone();
        writers.spawn(async move {
            let mut statements = 0;
            for step in (writer * 2003..).take_while(|_| Instant::now() < until) {
                statement(&pool, step).await.expect("written");
                statements += 1;
            }
            Writes { statements, ..Writes::default() }
        });
    }
    let mut all = Writes::default();
    while let Some(writer) = writers.join_next().await {
        all += writer.unwrap_or_else(|failed| panic!("{failed}\n{}", world.postgres_log()));
    }
    pool.close().await;
    assert!(all.done > 0 && all.statements > 0, "both kinds wrote: {all:?}");
    println!("{all:?}");
    let log = world.postgres_log();
    assert!(!log.contains("deadlock detected"), "{log}");

    they_agree_at_rest(&world, &nodes).await;
}

/// Everything that has an end is over; counts, stores and mirrors say the same.
async fn they_agree_at_rest(world: &World, nodes: &[Node; 2]) {
    eventually("nothing is left to expire", async || {
        nodes[0].store().next_expiry().await.unwrap().is_none().then_some(())
    })
    .await;
    let sql = "SELECT s.mitra_id, s.active_sessions, (SELECT count(*) FROM chat_sessions c WHERE c.mitra_id = s.mitra_id \
               AND c.status IN ('active', 'pending_payment')) AS counted FROM mitra_status s";
    let rows = sqlx::query(sql).fetch_all(world.sql()).await.unwrap();
    assert_eq!(rows.len() as u64, MITRAS);
    for row in rows {
        let mitra = MitraId(row.get("mitra_id"));
        assert_eq!(i64::from(row.get::<i32, _>("active_sessions")), row.get::<i64, _>("counted"), "{mitra}");
        for node in nodes {
            eventually("the mirror is at rest", async || {
                let truth = node.store().mitra(mitra).await.unwrap().unwrap();
                (Keys::of(world, mitra) == Keys::for_row(&truth)).then_some(())
            })
            .await;
            in_agreement(world, node, mitra).await;
        }
    }
}
