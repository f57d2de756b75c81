//! Other programs' plain SQL, many rows in one statement: every effect of the calls follows, by the bell alone.

use hadir::domain::{Actor, MitraId, SessionStatus, StatusReason};
use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Desk, LONG, told};
use crate::{
    presence::in_agreement,
    support::{Client, Node, World, eventually, node::Mitra, on_cluster},
};

on_cluster!(
    a_time_that_no_clock_can_show_stops_no_routine_and_no_call,
    many_sessions_written_at_once_have_every_effect,
    one_transaction_of_many_kinds_has_every_effect,
    a_writer_may_name_itself,
    what_was_written_without_triggers_is_counted_when_asked,
    what_cannot_be_is_refused_with_the_rule_by_name,
    a_load_and_a_capacity_written_together_are_news_of_another_program,
);

/// Nothing is found by looking: what follows follows by the bell.
const BY_BELL: (&str, &str) = ("HADIR_CHANGE_FEED_SECONDS", "3600");
const MITRAS: usize = 40;

async fn run(world: &World, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(world.sql()).await.expect(sql);
}

async fn a_time_that_no_clock_can_show_stops_no_routine_and_no_call(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    // As a table of a backend may be whose rules somebody took away.
    run(&world, "ALTER TABLE chat_sessions DROP CONSTRAINT created_at_is_a_time, DROP CONSTRAINT expires_at_is_a_time")
        .await;
    for time in ["infinity", "-infinity", "290000-01-01"] {
        let [odd, plain] = [Uuid::now_v7(), Uuid::now_v7()];
        run(&world, &format!("INSERT INTO customers (id) VALUES ('{odd}')")).await;
        for (id, created) in [(odd, time), (plain, "now")] {
            let values = format!("'{id}', '{odd}', 'searching', '{created}', clock_timestamp() - interval '1 second'");
            let into = "INSERT INTO chat_sessions (id, customer_id, status, created_at, expires_at)";
            run(&world, &format!("{into} VALUES ({values})")).await;
        }
        for id in [odd, plain] {
            eventually(&format!("{id} of {time} expired"), async || {
                let session = desk.session(id).await;
                (session["status"] == json!(SessionStatus::Expired)).then_some(())
            })
            .await;
        }
        let endless = Uuid::now_v7();
        let values = format!("'{endless}', '{odd}', 'searching', '{time}', 'infinity'");
        let into = "INSERT INTO chat_sessions (id, customer_id, status, created_at, expires_at)";
        run(&world, &format!("{into} VALUES ({values})")).await;
        let ended = desk.did(endless, "end", json!({})).await;
        assert_eq!(ended["status"], json!(SessionStatus::Cancelled), "{time}: {ended}");
    }
}

struct Fleet {
    nodes: [Node; 2],
    mitras: Vec<Mitra>,
    /// Of every fourth mitra, on the nodes in turn.
    sockets: Vec<Client>,
    watchers: Vec<Client>,
}

impl Fleet {
    async fn in_the_field(world: &World) -> Self {
        let nodes = [world.node_with(&[BY_BELL]).await, world.node_with(&[BY_BELL]).await];
        let mut mitras = Vec::new();
        for _ in 0..MITRAS {
            mitras.push(nodes[0].online_mitra().await);
        }
        let mut watchers = vec![nodes[0].dial_customer().await, nodes[1].dial_customer().await];
        for watcher in &mut watchers {
            watcher.sees(MITRAS as u64).await;
        }
        let mut sockets = Vec::new();
        for (n, mitra) in mitras.iter().enumerate().step_by(4) {
            sockets.push(nodes[n / 4 % 2].dial_mitra(mitra).await);
        }
        run(world, "INSERT INTO customers (id) VALUES ('00000000-0000-4000-8000-00000000c057')").await;
        Self { nodes, mitras, sockets, watchers }
    }

    async fn every_watcher_sees(&mut self, available: u64) {
        for watcher in &mut self.watchers {
            watcher.sees(available).await;
        }
    }

    async fn every_socket_is_told(&mut self, sessions: u32) {
        for socket in &mut self.sockets {
            told(socket, sessions).await;
        }
    }

    async fn agrees(&self, world: &World) {
        for mitra in &self.mitras {
            for node in &self.nodes {
                in_agreement(world, node, mitra.id).await;
            }
        }
    }

    /// The newest event of each mitra is this one, by plain SQL.
    async fn is_recorded(&self, kind: &str) {
        for mitra in &self.mitras {
            let event = self.nodes[0].store().events(mitra.id, 1).await.unwrap().remove(0);
            assert_eq!((event.kind.as_str(), event.actor.as_str()), (kind, Actor::Sql.as_str()));
            assert!(event.session_id.is_some());
        }
    }
}

fn insert(status: SessionStatus) -> String {
    format!(
        "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) \
         SELECT gen_random_uuid(), '00000000-0000-4000-8000-00000000c057', id, '{status}' FROM mitras"
    )
}

async fn many_sessions_written_at_once_have_every_effect(world: World) {
    let mut fleet = Fleet::in_the_field(&world).await;
    run(&world, &insert(SessionStatus::Active)).await;
    fleet.every_watcher_sees(0).await;
    fleet.every_socket_is_told(1).await;
    fleet.agrees(&world).await;
    fleet.is_recorded("session_started").await;

    run(&world, &format!("UPDATE chat_sessions SET status = '{}'", SessionStatus::Ended)).await;
    fleet.every_watcher_sees(MITRAS as u64).await;
    fleet.every_socket_is_told(0).await;
    fleet.agrees(&world).await;
    fleet.is_recorded("session_ended").await;

    run(&world, &insert(SessionStatus::PendingPayment)).await;
    fleet.every_socket_is_told(1).await;
    run(&world, &format!("DELETE FROM chat_sessions WHERE status = '{}'", SessionStatus::PendingPayment)).await;
    fleet.every_socket_is_told(0).await;
    fleet.every_watcher_sees(MITRAS as u64).await;
    fleet.agrees(&world).await;
    fleet.is_recorded("session_removed").await;
}

/// All sessions to one mitra, one mitra out of service, another's capacity raised, a third one offline.
async fn one_transaction_of_many_kinds_has_every_effect(world: World) {
    let mut fleet = Fleet::in_the_field(&world).await;
    run(&world, &insert(SessionStatus::Active)).await;
    fleet.every_watcher_sees(0).await;
    fleet.every_socket_is_told(1).await;
    let [crowded, gone, away] = [0, 4, 8].map(|n| fleet.mitras[n].id);
    run(
        &world,
        &format!(
            "BEGIN; UPDATE chat_sessions SET mitra_id = '{crowded}'; \
             UPDATE mitras SET is_active = false WHERE id = '{gone}'; \
             UPDATE mitras SET max_sessions = 50 WHERE id = '{crowded}'; \
             UPDATE mitra_status SET is_online = false WHERE mitra_id = '{away}'; COMMIT"
        ),
    )
    .await;
    fleet.every_watcher_sees(MITRAS as u64 - 2).await;
    let sockets = &mut fleet.sockets;
    let status = sockets[0].until("crowded", |frame| frame["sessions"] == MITRAS).await;
    assert_eq!((&status["max_sessions"], &status["available"]), (&json!(50), &json!(true)));
    assert_eq!(sockets[1].closed().await.code, 4503);
    let status = sockets[2].until("away", |frame| frame["online"] == false).await;
    assert_eq!(status["sessions"], 0);
    for socket in &mut sockets[3..] {
        told(socket, 0).await;
    }
    fleet.agrees(&world).await;
}

async fn a_writer_may_name_itself(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    run(&world, "INSERT INTO customers (id) VALUES ('00000000-0000-4000-8000-00000000c057')").await;
    run(
        &world,
        &format!(
            "BEGIN; SELECT set_config('hadir.actor', 'shop', true), set_config('hadir.reason', 'order 7', true); {}; COMMIT",
            insert(SessionStatus::Active)
        ),
    )
    .await;
    let event = node.store().events(mitra.id, 1).await.unwrap().remove(0);
    assert_eq!((event.actor.as_str(), event.reason.as_deref()), ("shop", Some("order 7")));
    run(&world, &format!("UPDATE chat_sessions SET status = '{}'", SessionStatus::Ended)).await;
    assert_eq!(
        node.store().events(mitra.id, 1).await.unwrap()[0].actor,
        Actor::Sql.as_str(),
        "for that transaction only"
    );
}

/// As docs/integration.md advises.
async fn what_was_written_without_triggers_is_counted_when_asked(world: World) {
    let node = world.node_with(&[BY_BELL]).await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    run(&world, "INSERT INTO customers (id) VALUES ('00000000-0000-4000-8000-00000000c057')").await;
    let silently = format!("SET session_replication_role = replica; {}; RESET ALL", insert(SessionStatus::Active));
    let mut writer = world.sql().acquire().await.unwrap();
    let schema: String = sqlx::query_scalar("SELECT current_schema()::text").fetch_one(&mut *writer).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(silently)).execute(&mut *writer).await.unwrap();
    assert_eq!(in_agreement(&world, &node, mitra.id).await.sessions, 0, "nobody counted");
    run(&world, &format!("SELECT {schema}.hadir_count_sessions(array_agg(mitra_id)) FROM {schema}.mitra_status")).await;
    told(&mut socket, 1).await;
    node.presence().reseed().await.unwrap();
    assert_eq!(in_agreement(&world, &node, mitra.id).await.sessions, 1);
}

async fn what_cannot_be_is_refused_with_the_rule_by_name(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mitra = node.online_mitra().await;
    let session = desk.taken(mitra.id, hadir::domain::Payment::Paid, LONG).await;
    let before = (desk.session(session).await, in_agreement(&world, &node, mitra.id).await.fence);
    let nobody = MitraId(Uuid::new_v4());
    for (set, rule) in [
        ("status = 'lost'".to_owned(), "status_is_known"),
        ("status = 'Active'".to_owned(), "status_is_known"),
        ("mitra_id = NULL".to_owned(), "a_session_under_way_has_a_mitra"),
        (format!("status = '{}'", SessionStatus::Searching), "a_searching_session_has_no_mitra"),
        ("expires_at = 'infinity'".to_owned(), "expires_at_is_a_time"),
        (format!("mitra_id = '{nobody}'"), "chat_sessions_mitra_id_fkey"),
        (format!("customer_id = '{nobody}'"), "chat_sessions_customer_id_fkey"),
    ] {
        let sql = AssertSqlSafe(format!("UPDATE chat_sessions SET {set}"));
        let refused = sqlx::raw_sql(sql).execute(world.sql()).await.expect_err(&set);
        let refused = refused.as_database_error().expect("Postgres says no");
        assert!(refused.message().contains(rule), "{set}: {refused}");
        let after = (desk.session(session).await, in_agreement(&world, &node, mitra.id).await.fence);
        assert_eq!(after, before, "{set}: nothing half-written");
    }
}

/// Only a moved load alone is news of a session: an app must not take a new capacity for one.
async fn a_load_and_a_capacity_written_together_are_news_of_another_program(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    run(&world, "INSERT INTO customers (id) VALUES ('00000000-0000-4000-8000-00000000c057')").await;
    run(&world, &format!("BEGIN; UPDATE mitras SET max_sessions = 5; {}; COMMIT", insert(SessionStatus::Active))).await;
    let status = socket.frame("status").await;
    assert_eq!((&status["sessions"], &status["reason"]), (&json!(1), &json!(StatusReason::External)));
    eventually("the mirror follows", async || {
        let seen = node.presence().reachable(mitra.id).await.unwrap();
        (seen.value.change.sessions == 1).then_some(())
    })
    .await;
    in_agreement(&world, &node, mitra.id).await;
}
