//! Time that runs out: never early, exact to a second, once on however many nodes, and before anybody is served again.

use chrono::{DateTime, TimeDelta, Utc};
use hadir::domain::{
    Actor, MitraId, Payment, SessionStatus,
    SessionStatus::{Active, Expired, PendingPayment, Searching},
};
use serde_json::{Value, json};
use sqlx::Row;
use uuid::Uuid;

use super::{Desk, LONG, refused, told};
use crate::{
    presence::in_agreement,
    support::{Node, World, eventually, node::Mitra, on_both, on_cluster, valkey::free_port},
};

on_both!(
    a_session_expires_with_every_effect_never_early_and_to_the_second,
    an_extension_moves_the_end,
    one_that_was_released_does_not_expire,
    what_ran_out_while_nobody_looked_is_over_when_the_node_serves,
);

on_cluster!(
    a_thousand_over_two_nodes_expire_once_each,
    sessions_of_plain_sql_expire_too,
    overdue_ones_are_over_before_the_public_listener_opens,
);

async fn roomy(node: &Node) -> Mitra {
    let mitra = node.mitra_with_capacity(Some(1_000)).await;
    node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    mitra
}

async fn becomes(desk: &Desk<'_>, session: Uuid, status: SessionStatus) -> Value {
    eventually(&format!("{session} {status}"), async || {
        let session = desk.session(session).await;
        (session["status"] == json!(status)).then_some(session)
    })
    .await
}

fn ends_at(session: &Value) -> DateTime<Utc> {
    session["expires_at"].as_str().expect("it has an end").parse().expect("a time")
}

/// How late each of these expired, in the store's time.
async fn lateness(node: &Node, mitra: MitraId, sessions: &[Value]) -> Vec<TimeDelta> {
    let events = node.store().events(mitra, 10_000).await.unwrap();
    sessions
        .iter()
        .map(|session| {
            let its: Vec<_> = events
                .iter()
                .filter(|event| event.kind == "session_expired" && json!(event.session_id) == session["id"])
                .collect();
            assert_eq!(its.len(), 1, "once: {session}");
            assert_eq!(its[0].actor, Actor::Sweep.as_str());
            its[0].at - ends_at(session)
        })
        .collect()
}

/// None early; and of many the middle one within a second, whatever else this machine does meanwhile.
fn to_the_second(mut late: Vec<TimeDelta>) {
    late.sort();
    // The protocol writes whole milliseconds.
    assert!(late[0] >= TimeDelta::milliseconds(-1), "early: {late:?}");
    assert!(late[late.len() / 2] <= TimeDelta::seconds(1), "late: {late:?}");
}

async fn a_session_expires_with_every_effect_never_early_and_to_the_second(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    for payment in [Payment::Paid, Payment::Pending] {
        let session = desk.taken(mitra.id, payment, 0.3).await;
        told(&mut socket, 1).await;
        watcher.sees(0).await;
        told(&mut socket, 0).await;
        watcher.sees(1).await;
        let over = desk.session(session).await;
        assert_eq!((&over["status"], &over["mitra_id"]), (&json!(Expired), &json!(mitra.id)));
        assert_eq!(in_agreement(&world, &node, mitra.id).await.sessions, 0);
        for (call, body) in [("end", json!({})), ("extend", json!({ "seconds": 9 }))] {
            assert_eq!(desk.does(session, call, body).await.problem(), refused(409, "wrong_state"));
        }
    }
    let many = roomy(&node).await;
    let mut sessions = Vec::new();
    for n in 0..20 {
        sessions.push(desk.taken(many.id, Payment::Paid, 0.2 + f64::from(n) * 0.07).await);
    }
    let mut over = Vec::new();
    for session in sessions {
        over.push(becomes(&desk, session, Expired).await);
    }
    to_the_second(lateness(&node, many.id, &over).await);
}

async fn an_extension_moves_the_end(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mitra = roomy(&node).await;
    let extended = desk.taken(mitra.id, Payment::Paid, 1.0).await;
    let first_end = ends_at(&desk.session(extended).await);
    let longer = desk.did(extended, "extend", json!({ "seconds": 1.5 })).await;
    assert_eq!(ends_at(&longer), first_end + TimeDelta::milliseconds(1_500));
    // One that ends after the other's first end, and before its second.
    let between = desk.taken(mitra.id, Payment::Paid, 1.1).await;
    let between = becomes(&desk, between, Expired).await;
    assert!(ends_at(&between) > first_end);
    let over = becomes(&desk, extended, Expired).await;
    assert_eq!(ends_at(&over), ends_at(&longer));
    to_the_second(lateness(&node, mitra.id, &[over]).await);
}

async fn one_that_was_released_does_not_expire(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mitra = roomy(&node).await;
    let released = desk.taken(mitra.id, Payment::Paid, 0.5).await;
    desk.did(released, "reroute", json!({})).await;
    let ended = desk.taken(mitra.id, Payment::Paid, 0.5).await;
    desk.did(ended, "end", json!({})).await;
    let later = desk.taken(mitra.id, Payment::Paid, 1.0).await;
    becomes(&desk, later, Expired).await;
    assert_eq!(desk.status_of(released).await, Searching);
    assert_eq!(desk.status_of(ended).await, SessionStatus::Ended);
}

async fn what_ran_out_while_nobody_looked_is_over_when_the_node_serves(world: World) {
    let node = world.node().await;
    let mitra = roomy(&node).await;
    let desk = Desk::at(&node);
    let [short, long] =
        [desk.taken(mitra.id, Payment::Paid, 4.0).await, desk.taken(mitra.id, Payment::Paid, LONG).await];
    let end = ends_at(&desk.session(short).await);
    node.stop().await;
    eventually("its time has run out", async || (Utc::now() > end).then_some(())).await;
    let node = world.node().await;
    let desk = Desk::at(&node);
    assert_eq!(desk.status_of(short).await, Expired);
    assert_eq!(desk.status_of(long).await, Active);
    assert_eq!(in_agreement(&world, &node, mitra.id).await.sessions, 1);
}

/// Sessions of other programs: so many of each of these mitras, ending within a second from so many seconds on.
async fn insert(world: &World, mitras: &[MitraId], each: i32, from_seconds: f64) {
    let mitras: Vec<Uuid> = mitras.iter().map(|mitra| mitra.0).collect();
    sqlx::query(
        "WITH somebody AS (INSERT INTO customers (id) VALUES (gen_random_uuid()) RETURNING id) \
         INSERT INTO chat_sessions (id, customer_id, mitra_id, status, expires_at) \
         SELECT gen_random_uuid(), somebody.id, m.id, CASE n % 2 WHEN 0 THEN $3 ELSE $4 END, \
           clock_timestamp() + ($5 + random()) * interval '1 second' \
         FROM somebody, unnest($1) AS m (id), generate_series(1, $2) n",
    )
    .bind(mitras)
    .bind(each)
    .bind(Active.as_str())
    .bind(PendingPayment.as_str())
    .bind(from_seconds)
    .execute(world.sql())
    .await
    .expect("inserted");
}

/// Sessions and events of expiry, and how many of these are of the same session.
async fn expired(world: &World) -> (i64, i64, i64) {
    let sql = "SELECT (SELECT count(*) FROM chat_sessions WHERE status = $1) AS sessions, count(*) AS events, \
               count(*) - count(DISTINCT session_id) AS twice FROM presence_events WHERE kind = 'session_expired'";
    let row = sqlx::query(sql).bind(Expired.as_str()).fetch_one(world.sql()).await.unwrap();
    (row.get("sessions"), row.get("events"), row.get("twice"))
}

async fn a_thousand_over_two_nodes_expire_once_each(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let mut mitras = Vec::new();
    for _ in 0..20 {
        mitras.push(roomy(&here).await.id);
    }
    insert(&world, &mitras, 50, 1.0).await;
    let next = async || here.store().next_expiry().await.unwrap();
    eventually("all are over", async || next().await.is_none().then_some(())).await;
    assert_eq!(expired(&world).await, (1_000, 1_000, 0));
    for mitra in mitras {
        for node in [&here, &there] {
            eventually("at rest", async || {
                let seen = node.presence().reachable(mitra).await.unwrap();
                (seen.value.change.sessions == 0).then_some(())
            })
            .await;
            assert_eq!(in_agreement(&world, node, mitra).await.sessions, 0);
        }
    }
    let sql = "SELECT extract(epoch FROM e.at - c.expires_at)::float8 FROM presence_events e \
               JOIN chat_sessions c ON c.id = e.session_id WHERE e.kind = 'session_expired'";
    let late: Vec<f64> = sqlx::query_scalar(sql).fetch_all(world.sql()).await.unwrap();
    to_the_second(late.into_iter().map(|s| TimeDelta::microseconds((s * 1e6) as i64)).collect());
}

async fn sessions_of_plain_sql_expire_too(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    insert(&world, &[mitra.id], 1, 0.2).await;
    told(&mut socket, 1).await;
    told(&mut socket, 0).await;
    // One that nobody took, and one whose time had run out before it was written.
    let sql = "INSERT INTO chat_sessions (id, customer_id, mitra_id, status, expires_at) \
               SELECT gen_random_uuid(), c.id, m, s, now() - interval '1 hour' \
               FROM (SELECT id FROM customers LIMIT 1) c, (VALUES ($1::uuid, $2), (NULL, $3)) AS v (m, s)";
    sqlx::query(sql)
        .bind(mitra.id.0)
        .bind(Active.as_str())
        .bind(Searching.as_str())
        .execute(world.sql())
        .await
        .unwrap();
    eventually("all three are over", async || (expired(&world).await.0 == 3).then_some(())).await;
    assert_eq!(expired(&world).await, (3, 2, 0), "of a session without a mitra there is no mitra's event");
    eventually("free", async || {
        let seen = node.presence().reachable(mitra.id).await.unwrap();
        (seen.value.change.sessions == 0).then_some(())
    })
    .await;
    in_agreement(&world, &node, mitra.id).await;
}

/// Whoever reaches the public listener for the first time finds no session whose time had run out before the start.
async fn overdue_ones_are_over_before_the_public_listener_opens(world: World) {
    let node = world.node().await;
    let mitra = roomy(&node).await;
    node.stop().await;
    insert(&world, &[mitra.id], 3_000, -7_200.0).await;
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let opened = async {
        loop {
            if tokio::net::TcpStream::connect(&address).await.is_ok() {
                let (over, events, _) = expired(&world).await;
                return (over, events);
            }
            tokio::task::yield_now().await;
        }
    };
    let settings = [("HADIR_PUBLIC_ADDR", address.as_str())];
    let (node, found) = tokio::join!(world.node_with(&settings), opened);
    assert_eq!(found, (3_000, 3_000));
    assert_eq!(in_agreement(&world, &node, mitra.id).await.sessions, 0);
}
