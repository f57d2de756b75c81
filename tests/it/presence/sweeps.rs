//! Auto-offline and the other sweeps.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use hadir::{
    domain::{Actor, MitraId, Mode, Role},
    lifecycle::Lifecycle,
    presence::{Restraint, Swept},
    tasks::{Pace, Run, Sweep, Tasks},
    telemetry::Metrics,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::in_agreement;
use crate::support::{PATIENCE, World, eventually, on_both, on_cluster, proxy::Traffic};

on_both!(
    a_silent_mitra_is_taken_offline_once_and_may_come_back,
    a_fresh_mitra_is_left_alone,
    a_node_that_was_just_started_takes_nobody_offline,
    sweeps_report_their_last_run_and_can_be_paused,
    the_first_run_of_a_sweep_need_not_wait_for_an_interval,
    everything_that_runs_by_itself_is_in_one_table,
    a_task_that_ends_before_the_stop_is_shown_as_failed_and_starts_again,
    sweeps_run_at_their_own_pace,
);

on_cluster!(
    a_pause_holds_on_every_node,
    nobody_is_taken_offline_while_valkey_is_away,
    nobody_is_taken_offline_soon_after_postgres_failed,
    nobody_is_taken_offline_while_most_of_a_fleet_is_silent,
    one_sweep_takes_no_more_than_its_share,
    five_nodes_that_sweep_at_once_record_one_event_each,
);

const HASTY: [(&str, &str); 3] = [
    ("HEARTBEAT_INTERVAL_SECONDS", "0.2"),
    ("HEARTBEAT_SUSPECT_SECONDS", "0.8"),
    ("MITRA_OFFLINE_AFTER_SECONDS", "1.2"),
];
/// A sweep takes whoever is silent.
const UNRESTRAINED: (&str, &str) = ("HADIR_SWEEP_RELEASE_SECONDS", "0");

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
        tokio::time::sleep(Duration::from_millis(50)).await;
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

/// Mitras that went online by one statement, in the order of their ids.
async fn online_by_sql(world: &World, mitras: i32) -> Vec<MitraId> {
    sqlx::query("INSERT INTO mitras (id) SELECT gen_random_uuid() FROM generate_series(1, $1)")
        .bind(mitras)
        .execute(world.sql())
        .await
        .unwrap();
    sqlx::query("UPDATE mitra_status SET is_online = true").execute(world.sql()).await.unwrap();
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM mitras ORDER BY id").fetch_all(world.sql()).await.unwrap();
    ids.into_iter().map(MitraId).collect()
}

async fn offline_events_of_the_sweep(world: &World) -> (i64, i64) {
    sqlx::query_as("SELECT count(*), count(DISTINCT mitra_id) FROM presence_events WHERE actor = $1")
        .bind(Actor::Sweep.as_str())
        .fetch_one(world.sql())
        .await
        .unwrap()
}

async fn five_nodes_that_sweep_at_once_record_one_event_each(world: World) {
    const MITRAS: i32 = 10_000;
    // Five nodes of a debug build in one process seed ten thousand each: none of them may take itself for starved.
    let settings = [
        ("HEARTBEAT_INTERVAL_SECONDS", "1"),
        ("HEARTBEAT_SUSPECT_SECONDS", "3"),
        ("MITRA_OFFLINE_AFTER_SECONDS", "4"),
        // On a machine that is busy with other things an answer takes its time; it is no fault here.
        ("HADIR_DB_QUERY_TIMEOUT_MS", "30000"),
        ("HADIR_DB_LOCK_TIMEOUT_MS", "30000"),
        ("HADIR_DB_ACQUIRE_TIMEOUT_MS", "30000"),
        ("HADIR_MIRROR_COMMAND_TIMEOUT_MS", "10000"),
        UNRESTRAINED,
    ];
    let mut nodes = Vec::new();
    for _ in 0..5 {
        nodes.push(world.node_with(&settings).await);
    }
    let ids = online_by_sql(&world, MITRAS).await;
    eventually("the mirror knows them", async || nodes[0].presence().reseed().await.ok()).await;
    eventually("all are offline", async || {
        // One that failed has put back what it could; another run comes to it.
        let _swept = futures_util::future::join_all(nodes.iter().map(|node| node.presence().sweep_silent())).await;
        (nodes[0].store().counts(Duration::from_secs(3_600)).await.ok()?.online == 0).then_some(())
    })
    .await;
    let all = i64::from(MITRAS);
    assert_eq!(offline_events_of_the_sweep(&world).await, (all, all));
    for id in ids.iter().step_by(2_500) {
        nodes[1].reaches(Mode::Live).await;
        in_agreement(&world, &nodes[1], *id).await;
    }
}

async fn one_sweep_takes_no_more_than_its_share(world: World) {
    let ids = online_by_sql(&world, 5_000).await;
    let node = world.node_with(&HASTY).await;
    let (alive, hub) = (&ids[1_000..], node.presence().hub());
    let swept = eventually("a sweep", async || {
        for id in alive {
            hub.beat_detached(*id, 1, hub.now_ms());
        }
        node.flushed().await;
        let swept = node.presence().sweep_silent().await.unwrap();
        (!matches!(swept, Swept::Skipped(_) | Swept::Expired(0))).then_some(swept)
    })
    .await;
    let Swept::Restrained { expired, left, restraint, .. } = swept else { panic!("{swept:?}") };
    assert_eq!((expired, left, restraint), (750, 250, Restraint::Brake));
    assert_eq!(offline_events_of_the_sweep(&world).await, (750, 750));
    assert!(node.get("/metrics", "").await.text.contains("hadir_auto_offline_left 250"));
}

async fn nobody_is_taken_offline_while_most_of_a_fleet_is_silent(world: World) {
    let ids = online_by_sql(&world, 30).await;
    let node = world.node_with(&HASTY).await;
    let swept = eventually("a verdict", async || {
        let swept = node.presence().sweep_silent().await.unwrap();
        (!matches!(swept, Swept::Skipped(_) | Swept::Expired(0))).then_some(swept)
    })
    .await;
    let Swept::Restrained { expired, left, restraint, .. } = swept else { panic!("{swept:?}") };
    assert_eq!((expired, left, restraint), (0, ids.len() as u64, Restraint::Doubt));
    assert_eq!(offline_events_of_the_sweep(&world).await, (0, 0));
}

async fn nobody_is_taken_offline_soon_after_postgres_failed(world: World) {
    let node = world.node_with(&HASTY).await;
    let mitra = node.online_mitra().await;
    eventually("evidence", async || {
        (!matches!(node.presence().sweep_silent().await.unwrap(), Swept::Skipped(_))).then_some(())
    })
    .await;
    node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    node.store_traffic(Traffic::Cut);
    eventually("noticed", async || node.presence().status(mitra.id).await.is_err().then_some(())).await;
    node.store_traffic(Traffic::Flows);
    eventually("back", async || node.presence().status(mitra.id).await.ok()).await;
    let swept = node.presence().sweep_silent().await.unwrap();
    assert!(matches!(swept, Swept::Skipped(why) if why.contains("store")), "{swept:?}");
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
    let at_rest = eventually("rest", async || {
        let before = runs().await;
        // Ten times its pace without a run.
        tokio::time::sleep(Duration::from_secs(1)).await;
        (runs().await == before).then_some(before)
    })
    .await;
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

async fn a_pause_holds_on_every_node(world: World) {
    let quick = [("VALKEY_ONLINE_MIRROR_SWEEP_SECONDS", "0.1")];
    let (here, there) = (world.node_with(&quick).await, world.node_with(&quick).await);
    let dashboard = here.token(Role::Dashboard);
    let runs = async || {
        let status = there.good("/internal/sweeps", &dashboard).await;
        let reseed = named(&status, "reseed");
        (reseed["runs"].as_u64().unwrap(), reseed["paused_until"].is_string())
    };
    eventually("a run there", async || (runs().await.0 > 0).then_some(())).await;
    let paused = here.post("/internal/sweeps/reseed/pause", &dashboard, json!({ "seconds": 600 })).await;
    assert_eq!(paused.status.as_u16(), 200, "{}", paused.text);
    assert!(runs().await.1, "the other node says so too");
    let rested = eventually("rest there", async || {
        let before = runs().await.0;
        // Ten times its pace without a run.
        tokio::time::sleep(Duration::from_secs(1)).await;
        (runs().await.0 == before).then_some(before)
    })
    .await;
    there.post("/internal/sweeps/reseed/resume", &dashboard, json!({})).await;
    eventually("runs again", async || (runs().await.0 > rested).then_some(())).await;
}

struct Counted(Arc<AtomicU32>);

#[async_trait]
impl Sweep for Counted {
    fn name(&self) -> &'static str {
        "counted"
    }

    async fn run(&self) -> Run {
        self.0.fetch_add(1, Relaxed);
        Run::Done("counted".to_owned())
    }
}

async fn the_first_run_of_a_sweep_need_not_wait_for_an_interval(world: World) {
    let node = world.node().await;
    let (lifecycle, runs) = (Lifecycle::default(), Arc::<AtomicU32>::default());
    let tasks = Tasks::new(Arc::clone(node.presence()), Metrics::new(), lifecycle.clone());
    let pace = Pace { first: Duration::from_millis(10), every: Duration::from_secs(3_600) };
    tasks.sweep("Counts.", Counted(Arc::clone(&runs)), pace);
    eventually("a run", async || (runs.load(Relaxed) == 1).then_some(())).await;
    let status = tasks.sweeps().await;
    assert_eq!((status[0].runs, status[0].interval_ms), (1, 3_600_000));
    lifecycle.stop(PATIENCE).await;
}

async fn everything_that_runs_by_itself_is_in_one_table(world: World) {
    let node = world.node().await;
    let dashboard = node.token(Role::Dashboard);
    let tasks = async || node.good("/internal/sweeps", &dashboard).await["tasks"].as_array().unwrap().clone();
    let all = tasks().await;
    let names: Vec<&str> = all.iter().map(|task| task["name"].as_str().unwrap()).collect();
    for name in ["supervisor", "change_feed", "session_expiry", "heartbeat_flush", "node_report", "reseed"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert!(all.iter().all(|task| task["ended_early"] == false), "{all:?}");
    eventually("a run of repeated work", async || {
        let all = tasks().await;
        let report = all.iter().find(|task| task["name"] == "node_report").unwrap();
        (report["runs"].as_u64().unwrap() > 0 && report["last"]["result"] == "ok").then_some(())
    })
    .await;
}

async fn a_task_that_ends_before_the_stop_is_shown_as_failed_and_starts_again(world: World) {
    let node = world.node().await;
    let lifecycle = Lifecycle::default();
    let tasks = Tasks::new(Arc::clone(node.presence()), Metrics::new(), lifecycle.clone());
    tasks.keep("short", "Ends at once.", || async {});
    tasks.keep("bad", "Panics.", || async { panic!("a bad value") });
    tasks.keep("long", "Runs until the stop.", std::future::pending);
    tasks.repeat("worse", "Panics at each run.", Duration::from_millis(10), || panic!("a bad value"));
    tasks.repeat("failing", "Fails.", Duration::from_millis(10), || {
        Box::pin(async { Run::Failed("no reason".to_owned()) })
    });
    eventually("seen", async || {
        let all = tasks.all();
        let task = |name| all.iter().find(|task| task.name == name).unwrap();
        let (short, bad, long) = (task("short"), task("bad"), task("long"));
        assert!(!long.ended_early && long.errors == 0);
        let (failing, worse) = (task("failing"), task("worse"));
        let are_started_again = [short, bad].iter().all(|task| task.ended_early && task.errors > 1);
        (are_started_again
            && failing.errors > 1
            && worse.errors > 1
            && failing.last.as_ref().is_some_and(|last| last.detail == "no reason"))
        .then_some(())
    })
    .await;
    lifecycle.stop(PATIENCE).await;
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
