//! Plain SQL that passes by the usual ways, forged notifications, and rows that nobody should write.

use std::time::Duration;

use hadir::domain::{Actor, Role};
use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Keys, in_agreement};
use crate::support::{Client, Closed, World, eventually, on_cluster};

on_cluster!(
    mitras_emptied_at_once_are_forgotten_and_their_sockets_close,
    a_forged_revocation_closes_nothing,
    a_mitra_whose_status_was_removed_is_offline_and_may_go_online_again,
    a_row_that_cannot_be_read_closes_no_socket_and_is_no_failure_of_the_store,
    a_heartbeat_of_the_future_brings_no_silent_mitra_back,
);

/// What follows does so by the bell.
const BY_BELL: (&str, &str) = ("HADIR_CHANGE_FEED_SECONDS", "3600");

async fn run(world: &World, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(world.sql()).await.expect(&sql);
}

async fn mitras_emptied_at_once_are_forgotten_and_their_sockets_close(world: World) {
    let node = world.node_with(&[BY_BELL]).await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    run(&world, "TRUNCATE mitras CASCADE".to_owned()).await;
    watcher.sees(0).await;
    assert_eq!(socket.closed().await, Closed::new(4503, "unknown_mitra"));
    eventually("no trace", async || (Keys::of(&world, mitra.id) == Keys::default()).then_some(())).await;
}

async fn a_forged_revocation_closes_nothing(world: World) {
    let node = world.node_with(&[BY_BELL]).await;
    let (customer, sign_in) = (Uuid::new_v4(), Uuid::new_v4());
    run(
        &world,
        format!(
            "INSERT INTO auth_sessions (id, subject_id, role, expires_at) \
             VALUES ('{sign_in}', '{customer}', 'customer', now() + interval '1 hour')"
        ),
    )
    .await;
    let token = node.token_for(customer, Role::Customer, Some(sign_in), Duration::from_secs(600));
    let mut socket = Client::dial(node.public(), "/ws/availability", &token).await;
    let mitra = node.mitra().await;
    let forged = format!("SELECT pg_notify('hadir_' || current_schema(), 'revoked:{sign_in}')");
    for online in [true, false] {
        run(&world, forged.clone()).await;
        // What is rung later is answered later.
        run(&world, format!("UPDATE mitra_status SET is_online = {online} WHERE mitra_id = '{}'", mitra.id)).await;
        socket.sees(online.into()).await;
    }
    socket.is_alive().await;
    run(&world, format!("UPDATE auth_sessions SET revoked_at = now() WHERE id = '{sign_in}'")).await;
    assert_eq!(socket.closed().await, Closed::new(4501, "revoked"));
}

async fn a_mitra_whose_status_was_removed_is_offline_and_may_go_online_again(world: World) {
    let node = world.node_with(&[BY_BELL]).await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    for table in ["mitra_status", "mitra_heartbeats"] {
        run(&world, format!("DELETE FROM {table} WHERE mitra_id = '{}'", mitra.id)).await;
        if table == "mitra_status" {
            watcher.sees(0).await;
        }
        node.presence().go_online(mitra.id, Actor::Mitra).await.expect(table);
        watcher.sees(1).await;
        in_agreement(&world, &node, mitra.id).await;
    }
    socket.is_alive().await;
}

async fn a_row_that_cannot_be_read_closes_no_socket_and_is_no_failure_of_the_store(world: World) {
    let node = world.node_with(&[BY_BELL]).await;
    let (odd, plain) = (node.online_mitra().await, node.mitra().await);
    let mut socket = node.dial_mitra(&odd).await;
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    run(
        &world,
        format!(
            "ALTER TABLE mitra_status DISABLE TRIGGER USER, ALTER online_epoch DROP NOT NULL; \
             UPDATE mitra_status SET online_epoch = NULL WHERE mitra_id = '{0}'; \
             ALTER TABLE mitra_status ENABLE TRIGGER USER; \
             SELECT pg_notify('hadir_' || current_schema(), '{0}:9000000')",
            odd.id
        ),
    )
    .await;
    // Answered after the bell of the odd one, and so is a comparison of everything.
    run(&world, format!("UPDATE mitra_status SET is_online = true WHERE mitra_id = '{}'", plain.id)).await;
    watcher.sees(2).await;
    node.presence().reseed().await.expect("compared");
    let dashboard = node.token(Role::Dashboard);
    let path = format!("/internal/mitras/{}", odd.id);
    let answer = node.get(&path, &dashboard).await;
    assert_eq!(answer.problem(), (500, "internal".to_owned()));
    let listed = node.good("/internal/mitras", &dashboard).await;
    let ids: Vec<_> = listed["mitras"].as_array().unwrap().iter().map(|mitra| mitra["mitra_id"].clone()).collect();
    assert_eq!(ids, [json!(plain.id)]);
    let ready = node.get("/readyz", "").await.json();
    let store = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "store").unwrap().clone();
    assert_eq!(store["ok"], true, "{store}");
    socket.is_alive().await;
}

async fn a_heartbeat_of_the_future_brings_no_silent_mitra_back(world: World) {
    let node = world
        .node_with(&[
            ("HEARTBEAT_INTERVAL_SECONDS", "0.2"),
            ("HEARTBEAT_SUSPECT_SECONDS", "0.8"),
            ("MITRA_OFFLINE_AFTER_SECONDS", "1.2"),
            ("MITRA_AUTO_OFFLINE_SWEEP_SECONDS", "0.2"),
            ("HEARTBEAT_MIRROR_INTERVAL_SECONDS", "0.2"),
            ("VALKEY_ONLINE_MIRROR_SWEEP_SECONDS", "0.2"),
        ])
        .await;
    let silent = node.online_mitra().await;
    // As a clock that was stepped back leaves it.
    let at = "now() + interval '1 hour'";
    run(&world, format!("UPDATE mitra_heartbeats SET last_heartbeat_at = {at} WHERE mitra_id = '{}'", silent.id)).await;
    eventually("durably offline", async || {
        (!node.store().mitra(silent.id).await.unwrap().unwrap().online).then_some(())
    })
    .await;
    let events = node.store().events(silent.id, 10).await.unwrap();
    assert_eq!(events[0].reason.as_deref(), Some("silent"));
}
