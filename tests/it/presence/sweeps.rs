//! Auto-offline and the other sweeps.

use hadir::{
    domain::{Actor, Mode, Role},
    presence::Swept,
};
use serde_json::{Value, json};

use super::in_agreement;
use crate::support::{World, eventually, on_both, on_cluster, proxy::Traffic};

on_both!(
    a_silent_mitra_is_taken_offline_once_and_may_come_back,
    a_fresh_mitra_is_left_alone,
    a_node_that_was_just_started_takes_nobody_offline,
    sweeps_report_their_last_run_and_can_be_paused,
    sweeps_run_at_their_own_pace,
);

on_cluster!(nobody_is_taken_offline_while_valkey_is_away, two_nodes_that_sweep_at_once_record_one_event_each);

const HASTY: [(&str, &str); 3] = [
    ("HEARTBEAT_INTERVAL_SECONDS", "0.2"),
    ("HEARTBEAT_SUSPECT_SECONDS", "0.8"),
    ("MITRA_OFFLINE_AFTER_SECONDS", "1.2"),
];

async fn a_silent_mitra_is_taken_offline_once_and_may_come_back(world: World) {
    let node = world.node_with(&HASTY).await;
    let silent = node.online_mitra().await;
    eventually("swept", async || (node.presence().sweep_silent().await.unwrap() == Swept::Expired(1)).then_some(()))
        .await;
    let row = in_agreement(&world, &node, silent.id).await;
    assert!(!row.online);
    let events = node.store().events(silent.id, 10).await.unwrap();
    assert_eq!(events[0].actor, Actor::Sweep.as_str(), "{events:?}");
    // It comes back, finds itself offline, and goes online again.
    let mut socket = node.dial_mitra(&silent).await;
    assert_eq!(socket.first_status["online"], false);
    socket.commands("online").await;
    assert!(in_agreement(&world, &node, silent.id).await.online);
}

async fn a_fresh_mitra_is_left_alone(world: World) {
    let node = world.node_with(&HASTY).await;
    let (fresh, silent) = (node.mitra().await, node.online_mitra().await);
    let mut socket = node.dial_mitra(&fresh).await;
    socket.commands("online").await;
    let began = std::time::Instant::now();
    while node.store().mitra(silent.id).await.unwrap().unwrap().online {
        assert!(began.elapsed() < crate::support::PATIENCE, "the silent one is never swept");
        socket.is_alive().await;
        node.flushed().await;
        node.presence().sweep_silent().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(in_agreement(&world, &node, fresh.id).await.online);
}

async fn a_node_that_was_just_started_takes_nobody_offline(world: World) {
    let node = world.node().await;
    node.online_mitra().await;
    assert!(matches!(node.presence().sweep_silent().await, Ok(Swept::Skipped(_))), "not yet a full suspect period");
}

async fn nobody_is_taken_offline_while_valkey_is_away(world: World) {
    let node = world.node_with(&HASTY).await;
    let mitra = node.online_mitra().await;
    node.mirror_traffic(Traffic::Cut);
    node.reaches(Mode::Fallback).await;
    // Far beyond the offline time, seen by the store's clock.
    eventually("silent for long", async || {
        assert!(!matches!(node.presence().sweep_silent().await, Ok(Swept::Expired(1..))));
        let age = node.store().mitra(mitra.id).await.unwrap().unwrap().heartbeat_age.unwrap();
        (age.as_millis() > 2_000).then_some(())
    })
    .await;
    node.mirror_traffic(Traffic::Flows);
    node.reaches(Mode::Live).await;
    assert!(matches!(node.presence().sweep_silent().await, Ok(Swept::Skipped(_))), "evidence is gathered anew");
    assert!(node.store().mitra(mitra.id).await.unwrap().unwrap().online);
}

async fn two_nodes_that_sweep_at_once_record_one_event_each(world: World) {
    let nodes = [world.node_with(&HASTY).await, world.node_with(&HASTY).await];
    let mut mitras = Vec::new();
    for _ in 0..30 {
        mitras.push(nodes[0].online_mitra().await);
    }
    eventually("all are offline", async || {
        let swept = tokio::join!(nodes[0].presence().sweep_silent(), nodes[1].presence().sweep_silent());
        swept.0.unwrap();
        swept.1.unwrap();
        (nodes[0].store().counts(std::time::Duration::MAX / 4).await.unwrap().online == 0).then_some(())
    })
    .await;
    let (events, rows): (i64, i64) =
        sqlx::query_as("SELECT count(*), count(DISTINCT mitra_id) FROM presence_events WHERE actor = $1")
            .bind(Actor::Sweep.as_str())
            .fetch_one(world.sql())
            .await
            .unwrap();
    assert_eq!((events, rows), (30, 30));
    for mitra in &mitras {
        in_agreement(&world, &nodes[1], mitra.id).await;
    }
}

fn named<'a>(sweeps: &'a Value, name: &str) -> &'a Value {
    let all = sweeps["sweeps"].as_array().expect("a list");
    all.iter().find(|sweep| sweep["name"] == name).unwrap_or_else(|| panic!("no {name} in {sweeps}"))
}

async fn sweeps_report_their_last_run_and_can_be_paused(world: World) {
    let node = world.node_with(&[("VALKEY_ONLINE_MIRROR_SWEEP_SECONDS", "0.1")]).await;
    let (dashboard, customer) = (node.token(Role::Dashboard), node.token(Role::Customer));
    let status = async || node.good("/internal/sweeps", &dashboard).await;
    eventually("a run", async || (named(&status().await, "reseed")["last"]["result"] == "ok").then_some(())).await;
    assert_eq!(named(&status().await, "auto_offline")["interval_ms"], 3_600_000);
    let paused = node.post("/internal/sweeps/reseed/pause", &dashboard, json!({ "seconds": 600 })).await;
    assert!(named(&paused.json(), "reseed")["paused_until"].is_string());
    let runs = async || named(&status().await, "reseed")["runs"].as_u64().unwrap();
    // One that was under way may still end.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let at_rest = runs().await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert_eq!(runs().await, at_rest);
    let resumed = node.post("/internal/sweeps/reseed/resume", &dashboard, json!({})).await;
    assert!(named(&resumed.json(), "reseed")["paused_until"].is_null());
    eventually("runs again", async || (runs().await > at_rest).then_some(())).await;
    let pause = async |name: &str, seconds: Value| {
        node.post(&format!("/internal/sweeps/{name}/pause"), &dashboard, json!({ "seconds": seconds })).await.problem()
    };
    assert_eq!(pause("broom", json!(1)).await, (404, "not_found".into()));
    for wrong in [json!(0), json!(-1), json!(1e9), json!("long"), json!(null)] {
        assert_eq!(pause("reseed", wrong).await, (400, "bad_request".into()));
    }
    assert_eq!(node.get("/internal/sweeps", &customer).await.problem(), (403, "forbidden".into()));
}

async fn sweeps_run_at_their_own_pace(world: World) {
    let node = world
        .node_with(&[
            ("HEARTBEAT_INTERVAL_SECONDS", "0.2"),
            ("HEARTBEAT_SUSPECT_SECONDS", "0.8"),
            ("MITRA_OFFLINE_AFTER_SECONDS", "1.2"),
            ("MITRA_AUTO_OFFLINE_SWEEP_SECONDS", "0.2"),
            ("HEARTBEAT_MIRROR_INTERVAL_SECONDS", "0.2"),
        ])
        .await;
    let silent = node.online_mitra().await;
    let mut watcher = node.dial_dashboard().await;
    watcher.until("online", |frame| frame["counts"]["online"] == 1).await;
    watcher.until("offline by itself", |frame| frame["counts"]["online"] == 0).await;
    eventually("durably offline", async || {
        (!node.store().mitra(silent.id).await.unwrap().unwrap().online).then_some(())
    })
    .await;
    eventually("counted", async || {
        node.get("/metrics", "").await.text.contains("hadir_auto_offline_total 1").then_some(())
    })
    .await;
}
