//! Valkey away: answers come from the store and say so, deactivated mitras are refused all the same, nobody is taken
//! offline. Both away: the last known state, marked stale.

use std::time::Duration;

use hadir::{
    domain::{Actor, Mode, Role, Source},
    presence::{ListFilter, MitraState, PresenceError, Restraint, Swept},
};
use serde_json::{Value, json};

use super::mirror_of;
use crate::support::{Closed, Node, World, eventually, node::Mitra, on_both, on_cluster, proxy::Traffic};

on_both!(each_reader_answers_from_the_mirror_while_it_is_live);

on_cluster!(
    each_reader_answers_from_the_store_while_valkey_is_away,
    a_frozen_valkey_opens_the_breaker_too,
    the_push_goes_on_without_valkey_in_an_epoch_of_the_nodes_own,
    a_heartbeat_is_checked_in_the_store_while_valkey_is_away,
    a_deactivation_closes_sockets_here_while_valkey_is_away,
    commands_are_unavailable_and_sockets_live_while_postgres_is_away,
    both_away_is_the_last_state_marked_stale,
    after_both_were_away_who_was_heard_all_the_time_is_counted_at_once,
    after_both_were_away_the_store_is_believed_when_it_was_told_who_beat,
    a_mirror_that_was_emptied_is_not_believed_about_anybody,
    a_valkey_that_answers_and_writes_nothing_is_left_until_it_writes,
    while_the_store_is_away_a_mirror_that_is_not_trusted_is_kept_fresh,
    a_valkey_that_comes_and_goes_while_the_store_is_slow_to_count_is_found_again,
    a_node_starts_without_valkey,
    a_thousand_questions_in_an_outage_are_few_questions_to_postgres,
    the_sweep_goes_on_when_the_node_that_alone_lost_valkey_is_back,
    the_mitras_of_a_node_that_alone_lost_valkey_stay_available_for_all,
    what_a_node_without_valkey_commits_is_carried_on_by_the_others,
    without_valkey_the_other_nodes_are_the_last_known_with_their_age,
    a_node_that_never_reached_valkey_says_that_it_knows_no_other,
);

async fn each_reader_answers_from_the_mirror_while_it_is_live(world: World) {
    let node = world.node().await;
    let (mitra, service) = (node.online_mitra().await, node.token(Role::Service));
    let source = json!(mirror_of(&world));
    let paths = [
        "/api/client/availability".to_owned(),
        "/internal/counts".to_owned(),
        "/internal/mitras/available".to_owned(),
        "/internal/mitras".to_owned(),
        format!("/internal/mitras/{}", mitra.id),
        format!("/internal/mitras/{}/reachable", mitra.id),
    ];
    for path in paths {
        let answer = node.good(&path, &service).await;
        assert_eq!((&answer["source"], &answer["stale"]), (&source, &json!(false)), "{path}: {answer}");
        assert!(answer["as_of"].is_string(), "{path}");
    }
}

async fn each_reader_answers_from_the_store_while_valkey_is_away(world: World) {
    let node = world.node().await;
    let (mitra, service) = (node.online_mitra().await, node.token(Role::Service));
    node.mirror_traffic(Traffic::Cut);
    node.reaches(Mode::Fallback).await;
    let source = json!(Source::Postgres);
    let availability = eventually("availability of the store", async || {
        let answer = node.good("/api/client/availability", &service).await;
        (answer["source"] == source).then_some(answer)
    })
    .await;
    assert_eq!((&availability["any"], &availability["available"]), (&json!(true), &json!(1)));
    let counts = node.good("/internal/counts", &service).await;
    assert_eq!((&counts["counts"]["available"], &counts["source"]), (&json!(1), &source));
    let available = node.good("/internal/mitras/available", &service).await;
    assert_eq!((&available["total"], &available["source"]), (&json!(1), &source));
    assert_eq!(available["mitras"][0]["mitra_id"], json!(mitra.id));
    let reachable = node.good(&format!("/internal/mitras/{}/reachable", mitra.id), &service).await;
    assert_eq!((&reachable["available"], &reachable["source"]), (&json!(true), &source));
    let list = node.good("/internal/mitras?state=available", &service).await;
    assert_eq!((list["mitras"].as_array().map(Vec::len), &list["source"]), (Some(1), &source));
    let explained = node.good(&format!("/internal/mitras/{}", mitra.id), &service).await;
    assert_eq!((&explained["mirror"], &explained["source"]), (&json!(null), &source));
    let own = node.good("/api/mitra/status", &mitra.token).await;
    assert_eq!(own["available"], true);
    assert_eq!(node.get("/readyz", "").await.status.as_u16(), 200, "a node without Valkey stays ready");
}

async fn a_frozen_valkey_opens_the_breaker_too(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    node.mirror_traffic(Traffic::Hangs);
    node.reaches(Mode::Fallback).await;
    assert_eq!(node.presence().reachable(mitra.id).await.unwrap().source, Source::Postgres);
    node.presence().go_offline(mitra.id, Actor::Mitra).await.unwrap();
    node.mirror_traffic(Traffic::Flows);
    node.reaches(Mode::Live).await;
    super::in_agreement(&world, &node, mitra.id).await;
}

async fn the_push_goes_on_without_valkey_in_an_epoch_of_the_nodes_own(world: World) {
    let node = world.node().await;
    let mut watcher = node.dial_customer().await;
    let live = watcher.frame("availability").await;
    node.mirror_traffic(Traffic::Cut);
    let from_store = watcher.until("the store", |frame| frame["source"] == json!(Source::Postgres)).await;
    assert_ne!(from_store["epoch"], live["epoch"]);
    node.online_mitra().await;
    let frame = watcher.sees(1).await;
    assert_eq!((&frame["source"], &frame["any"]), (&json!(Source::Postgres), &json!(true)));
    assert!(frame["version"].as_u64() > from_store["version"].as_u64() || frame["epoch"] != from_store["epoch"]);
    node.mirror_traffic(Traffic::Flows);
    let back = watcher.until("the mirror", |frame| frame["epoch"] == live["epoch"]).await;
    assert_eq!(back["available"], 1);
    assert!(back["version"].as_u64() >= live["version"].as_u64());
}

async fn a_heartbeat_is_checked_in_the_store_while_valkey_is_away(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let (well, deactivated) = (here.online_mitra().await, here.online_mitra().await);
    let mut socket = here.dial_mitra(&deactivated).await;
    here.mirror_traffic(Traffic::Cut);
    here.reaches(Mode::Fallback).await;
    there.mirror_traffic(Traffic::Cut);
    there.reaches(Mode::Fallback).await;
    there.deactivate(&deactivated).await;
    let beat = async |token: &str| here.post("/api/mitra/status/heartbeat", token, json!({})).await;
    assert_eq!(beat(&deactivated.token).await.problem(), (403, "deactivated".into()));
    assert_eq!(socket.closed().await, Closed::new(4503, "deactivated"));
    let answer = beat(&well.token).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["available"]), (200, &json!(true)));
    here.store_traffic(Traffic::Cut);
    eventually("both away", async || {
        let reply = beat(&well.token).await;
        (reply.status.as_u16() == 503).then(|| assert_eq!(reply.problem().1, "unavailable"))
    })
    .await;
}

async fn a_deactivation_closes_sockets_here_while_valkey_is_away(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    node.mirror_traffic(Traffic::Cut);
    node.reaches(Mode::Fallback).await;
    node.deactivate(&mitra).await;
    assert_eq!(socket.closed().await, Closed::new(4503, "deactivated"));
}

async fn commands_are_unavailable_and_sockets_live_while_postgres_is_away(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    node.store_traffic(Traffic::Cut);
    let answer = socket.command("offline").await;
    assert_eq!((&answer["code"], &answer["retryable"]), (&json!("unavailable"), &json!(true)));
    socket.is_alive().await;
    watcher.is_alive().await;
    assert_eq!(node.presence().mode(), Mode::Live, "the mirror answers as before");
    let reply = node.post("/api/mitra/status/online", &mitra.token, json!({})).await;
    assert_eq!(reply.problem(), (503, "unavailable".into()));
    assert!(reply.header("retry-after").is_some());
    node.store_traffic(Traffic::Flows);
    let began = std::time::Instant::now();
    while socket.command("offline").await["type"] != "ack" {
        assert!(began.elapsed() < crate::support::PATIENCE, "the pool recovers by itself");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    watcher.sees(0).await;
}

async fn both_away_is_the_last_state_marked_stale(world: World) {
    let node = world.node().await;
    let (mitra, dashboard) = (node.online_mitra().await, node.token(Role::Dashboard));
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    node.mirror_traffic(Traffic::Cut);
    node.store_traffic(Traffic::Cut);
    let stale = watcher.until("stale", |frame| frame["stale"] == true).await;
    assert_eq!((&stale["any"], &stale["available"]), (&json!(true), &json!(1)), "the last known state");
    assert_eq!(stale["source"], json!(Source::Local));
    let counts = node.good("/internal/counts", &dashboard).await;
    assert_eq!((&counts["stale"], &counts["source"]), (&json!(true), &json!(Source::Local)), "{counts}");
    assert_eq!(node.get("/readyz", "").await.status.as_u16(), 200);
    let unavailable = |error| matches!(error, PresenceError::Unavailable(_));
    assert!(unavailable(node.presence().go_offline(mitra.id, Actor::Mitra).await.unwrap_err()));
    assert!(unavailable(node.presence().heartbeat(mitra.id).await.unwrap_err()), "nothing unverifiable is accepted");
    let filter = ListFilter { state: Some(MitraState::Online), search: None, after: None, limit: 10 };
    assert!(unavailable(node.presence().list(&filter).await.unwrap_err()));
    node.store_traffic(Traffic::Flows);
    node.reaches(Mode::Fallback).await;
    node.mirror_traffic(Traffic::Flows);
    watcher.until("live again", |frame| frame["source"] == json!(mirror_of(&world)) && frame["stale"] == false).await;
}

/// A mitra's app that pings until the test ends.
async fn beating(node: &Node, mitra: &Mitra) -> tokio::task::JoinHandle<()> {
    let mut socket = node.dial_mitra(mitra).await;
    socket.commands("online").await;
    tokio::spawn(async move {
        loop {
            socket.is_alive().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

/// Longer than a heartbeat is fresh: whoever was not heard of meanwhile is counted no more.
const BEYOND_SUSPICION: Duration = Duration::from_secs(2);

async fn after_both_were_away_who_was_heard_all_the_time_is_counted_at_once(world: World) {
    let node = world.node_with(&HASTY).await;
    let mitra = node.mitra().await;
    let app = beating(&node, &mitra).await;
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    let watching = tokio::spawn(async move {
        let live = |frame: &Value| frame["source"] == json!(Source::Valkey) && frame["stale"] == false;
        watcher.until("away", |frame| frame["stale"] == true).await;
        watcher.until("the mirror, or nobody", |frame| live(frame) || frame["any"] == false).await
    });
    node.mirror_traffic(Traffic::Cut);
    node.store_traffic(Traffic::Cut);
    node.reaches(Mode::Stale).await;
    tokio::time::sleep(BEYOND_SUSPICION).await;
    node.mirror_traffic(Traffic::Flows);
    node.store_traffic(Traffic::Flows);
    assert_eq!(watching.await.unwrap()["available"], 1, "never none");
    app.abort();
}

/// Postgres comes back first, and says that nobody was heard for long: it could not be told.
async fn after_both_were_away_the_store_is_believed_when_it_was_told_who_beat(world: World) {
    let settings = HASTY.into_iter().chain([("HEARTBEAT_MIRROR_INTERVAL_SECONDS", "0.5")]);
    let node = world.node_with(&settings.collect::<Vec<_>>()).await;
    let mitra = node.mitra().await;
    let app = beating(&node, &mitra).await;
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    let watching = tokio::spawn(async move {
        let of_store = |frame: &Value| frame["source"] == json!(Source::Postgres) && frame["stale"] == false;
        watcher.until("away", |frame| frame["stale"] == true).await;
        watcher.until("the store, or nobody", |frame| of_store(frame) || frame["any"] == false).await
    });
    node.mirror_traffic(Traffic::Cut);
    node.store_traffic(Traffic::Cut);
    node.reaches(Mode::Stale).await;
    tokio::time::sleep(BEYOND_SUSPICION * 2).await;
    node.store_traffic(Traffic::Flows);
    node.reaches(Mode::Fallback).await;
    let frame = watching.await.expect("watched");
    assert_eq!((&frame["any"], &frame["available"]), (&json!(true), &json!(1)), "{frame}");
    app.abort();
}

/// Full, or demoted to a replica: questions are answered well, and no heartbeat arrives.
async fn a_valkey_that_answers_and_writes_nothing_is_left_until_it_writes(world: World) {
    let faults: [(&[&str], &[&str]); 2] = [
        (&["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]),
        (&["REPLICAOF", "127.0.0.1", "9"], &["REPLICAOF", "NO", "ONE"]),
    ];
    let node = world.node_with(&HASTY).await;
    let mitra = node.mitra().await;
    let app = beating(&node, &mitra).await;
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    let nobody = tokio::spawn(async move { watcher.until("nobody", |frame| frame["any"] == false).await });
    for (fault, cure) in faults {
        world.valkey().ask(fault);
        node.reaches(Mode::Fallback).await;
        assert_eq!(node.presence().reachable(mitra.id).await.unwrap().source, Source::Postgres, "{fault:?}");
        let began = std::time::Instant::now();
        while began.elapsed() < BEYOND_SUSPICION {
            assert_ne!(node.presence().mode(), Mode::Live, "{fault:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.valkey().ask(cure);
        node.reaches(Mode::Live).await;
        assert!(!nobody.is_finished(), "a customer was told that nobody is there: {fault:?}");
    }
    nobody.abort();
    app.abort();
}

/// Who counts in the store holds the only turn to do so: nothing that the mirror tells may wait behind that.
async fn a_valkey_that_comes_and_goes_while_the_store_is_slow_to_count_is_found_again(world: World) {
    let node = world.node().await;
    node.online_mitra().await;
    node.mirror_traffic(Traffic::Cut);
    node.reaches(Mode::Fallback).await;
    node.store_traffic(Traffic::Hangs);
    eventually("the count waits", async || {
        let asked = tokio::time::timeout(Duration::from_millis(200), node.store().ping());
        asked.await.is_err().then_some(())
    })
    .await;
    for _ in 0..3 {
        node.mirror_traffic(Traffic::Flows);
        node.reaches(Mode::Rebuilding).await;
        node.mirror_traffic(Traffic::Cut);
        eventually("Valkey is given up", async || (node.presence().mode() != Mode::Rebuilding).then_some(())).await;
    }
    node.store_traffic(Traffic::Flows);
    node.mirror_traffic(Traffic::Flows);
    node.reaches(Mode::Live).await;
}

async fn a_mirror_that_was_emptied_is_not_believed_about_anybody(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    for _ in 0..10 {
        node.reaches(Mode::Live).await;
        world.valkey().ask(&["FLUSHALL"]);
        let view = node.presence().reachable(mitra.id).await.unwrap();
        assert!(view.value.reachability().available, "{:?}", view.source);
    }
}

/// Only ages cross clocks: a Postgres that is seven minutes behind or ahead knows who is fresh, and who is not.
#[tokio::test]
async fn a_postgres_whose_clock_is_minutes_away_changes_nothing() {
    for seconds in [-420, 420] {
        let world = World::with_postgres_ahead(seconds).await;
        let settings = HASTY.into_iter().chain([("HEARTBEAT_MIRROR_INTERVAL_SECONDS", "0.5")]);
        let node = world.node_with(&settings.collect::<Vec<_>>()).await;
        let (mitra, silent) = (node.mitra().await, node.online_mitra().await);
        let app = beating(&node, &mitra).await;
        node.mirror_traffic(Traffic::Cut);
        node.reaches(Mode::Fallback).await;
        let available = async |id| node.presence().reachable(id).await.unwrap().value.reachability().available;
        eventually("the silent one is stale", async || (!available(silent.id).await).then_some(())).await;
        assert!(available(mitra.id).await, "{seconds} s");
        node.mirror_traffic(Traffic::Flows);
        node.reaches(Mode::Live).await;
        assert!(available(mitra.id).await, "{seconds} s");
        eventually("the silent one is swept", async || {
            node.presence().sweep_silent().await.unwrap();
            (!node.store().mitra(silent.id).await.unwrap().unwrap().online).then_some(())
        })
        .await;
        assert!(node.store().mitra(mitra.id).await.unwrap().unwrap().online, "{seconds} s");
        app.abort();
    }
}

async fn while_the_store_is_away_a_mirror_that_is_not_trusted_is_kept_fresh(world: World) {
    let (here, other) = (world.node_with(&HASTY).await, world.node_with(&HASTY).await);
    let mitra = here.mitra().await;
    let app = beating(&here, &mitra).await;
    here.mirror_traffic(Traffic::Cut);
    here.store_traffic(Traffic::Cut);
    here.reaches(Mode::Stale).await;
    here.mirror_traffic(Traffic::Flows);
    here.reaches(Mode::Rebuilding).await;
    // The other one lacks nothing, and hears of this one's mitras by the mirror alone.
    let is_available = async || other.presence().reachable(mitra.id).await.unwrap().value.reachability().available;
    eventually("heard again", async || is_available().await.then_some(())).await;
    let began = std::time::Instant::now();
    while began.elapsed() < BEYOND_SUSPICION {
        assert!(is_available().await, "its heartbeats reach the mirror");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((here.presence().mode(), other.presence().mode()), (Mode::Rebuilding, Mode::Live));
    app.abort();
}

fn store_queries(metrics: &str) -> u64 {
    let counts = metrics.lines().filter(|line| line.starts_with("hadir_store_queries_total{"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

async fn a_thousand_questions_in_an_outage_are_few_questions_to_postgres(world: World) {
    let node = world.node().await;
    let service = node.token(Role::Service);
    let mut mitras = Vec::new();
    for _ in 0..20 {
        mitras.push(node.online_mitra().await);
    }
    node.mirror_traffic(Traffic::Cut);
    node.reaches(Mode::Fallback).await;
    let asked = async || store_queries(&node.get("/metrics", "").await.text);
    let (before, began) = (asked().await, std::time::Instant::now());
    let one = async |n: usize| {
        let mitra = &mitras[n % mitras.len()];
        let reply = match n % 4 {
            0 => node.get("/internal/mitras/available?limit=5", &service).await,
            1 => node.get(&format!("/internal/mitras/{}/reachable", mitra.id), &service).await,
            2 => node.get("/api/client/availability", &service).await,
            _ => node.post("/api/mitra/status/heartbeat", &mitra.token, json!({})).await,
        };
        assert_eq!(reply.status.as_u16(), 200, "{}", reply.text);
    };
    for round in 0..10 {
        futures_util::future::join_all((round * 100..round * 100 + 100).map(one)).await;
    }
    let (queries, took) = (asked().await - before, began.elapsed());
    // The routines ask a few times a second besides.
    let bound = 20.0 * (1.0 + took.as_secs_f64());
    assert!((queries as f64) < bound, "{queries} queries in {took:?}");
}

const HASTY: [(&str, &str); 6] = [
    // Sockets fall silent sooner than the patience of other tests with Valkey.
    ("HADIR_MIRROR_COMMAND_TIMEOUT_MS", "300"),
    ("HEARTBEAT_INTERVAL_SECONDS", "0.3"),
    ("HEARTBEAT_SUSPECT_SECONDS", "1.5"),
    ("MITRA_OFFLINE_AFTER_SECONDS", "2"),
    ("HADIR_CHANGE_FEED_SECONDS", "0.2"),
    ("HADIR_SWEEP_RELEASE_SECONDS", "0"),
];

async fn the_mitras_of_a_node_that_alone_lost_valkey_stay_available_for_all(world: World) {
    let (alone, other) = (world.node_with(&HASTY).await, world.node_with(&HASTY).await);
    let (kept, silent) = (alone.mitra().await, alone.online_mitra().await);
    let mut socket = alone.dial_mitra(&kept).await;
    socket.commands("online").await;
    let mut watcher = other.dial_customer().await;
    watcher.sees(2).await;
    // Read all the while, as an app does: its pings are answered by reading.
    let watching = tokio::spawn(async move { watcher.until("one left", |frame| frame["available"] != 2).await });
    alone.mirror_traffic(Traffic::Cut);
    alone.reaches(Mode::Fallback).await;
    // Until the one that has no socket is durably offline, which the other node decides.
    let began = std::time::Instant::now();
    while other.store().mitra(silent.id).await.unwrap().unwrap().online {
        assert!(began.elapsed() < crate::support::PATIENCE, "the silent one is never swept");
        socket.is_alive().await;
        other.presence().sweep_silent().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(other.presence().mode(), Mode::Live);
    let view = other.presence().reachable(kept.id).await.unwrap();
    assert_eq!((view.source, view.value.reachability().available), (Source::Valkey, true));
    let row = other.store().mitra(kept.id).await.unwrap().unwrap();
    assert!(row.online);
    assert_eq!(watching.await.unwrap()["any"], true, "and never none");
}

/// The restraint would otherwise last ten minutes, on all nodes.
async fn the_sweep_goes_on_when_the_node_that_alone_lost_valkey_is_back(world: World) {
    let settings: Vec<_> = HASTY.into_iter().filter(|(name, _)| *name != "HADIR_SWEEP_RELEASE_SECONDS").collect();
    let (alone, other) = (world.node_with(&settings).await, world.node_with(&settings).await);
    let kept = alone.mitra().await;
    let mut socket = alone.dial_mitra(&kept).await;
    socket.commands("online").await;
    // The restraint is for nodes that are known to hold sockets of mitras.
    eventually("the other node knows of the socket", async || {
        other.presence().nodes().nodes.iter().any(|node| node.sockets.mitra == 1).then_some(())
    })
    .await;
    alone.mirror_traffic(Traffic::Cut);
    alone.reaches(Mode::Fallback).await;
    let socket = tokio::spawn(async move {
        loop {
            socket.is_alive().await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    // A node is missed once it did not report for a suspect time. A mitra that is silent before that is rightly taken offline.
    eventually("the node is missed", async || (other.presence().nodes().nodes.len() == 1).then_some(())).await;
    let silent = other.online_mitra().await;
    eventually("the sweep is held back", async || match other.presence().sweep_silent().await.unwrap() {
        Swept::Restrained { restraint: Restraint::Lost, .. } => Some(()),
        _ => None,
    })
    .await;
    assert!(other.store().mitra(silent.id).await.unwrap().unwrap().online);
    alone.mirror_traffic(Traffic::Flows);
    alone.reaches(Mode::Live).await;
    for node in [&other, &alone] {
        eventually("the sweep is free again", async || match node.presence().sweep_silent().await.unwrap() {
            Swept::Expired(_) => Some(()),
            _ => None,
        })
        .await;
    }
    assert!(!other.store().mitra(silent.id).await.unwrap().unwrap().online);
    assert!(other.store().mitra(kept.id).await.unwrap().unwrap().online);
    socket.abort();
}

async fn what_a_node_without_valkey_commits_is_carried_on_by_the_others(world: World) {
    let (alone, other) = (world.node().await, world.node().await);
    let mitra = alone.mitra().await;
    let mut socket = other.dial_mitra(&mitra).await;
    let mut watcher = other.dial_customer().await;
    watcher.sees(0).await;
    alone.mirror_traffic(Traffic::Cut);
    alone.reaches(Mode::Fallback).await;
    alone.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    watcher.sees(1).await;
    super::in_agreement(&world, &other, mitra.id).await;
    alone.deactivate(&mitra).await;
    assert_eq!(socket.closed().await, Closed::new(4503, "deactivated"));
    watcher.sees(0).await;
    super::in_agreement(&world, &other, mitra.id).await;
}

async fn a_node_starts_without_valkey(world: World) {
    let first = world.node().await;
    let mitra = first.online_mitra().await;
    first.stop().await;
    let node = world.node_with(&[("VALKEY_URL", "valkey://127.0.0.1:9")]).await;
    assert_eq!(node.presence().mode(), Mode::Fallback);
    assert_eq!(node.presence().reachable(mitra.id).await.unwrap().source, Source::Postgres);
    assert_eq!(node.get("/readyz", "").await.status.as_u16(), 200);
}

async fn without_valkey_the_other_nodes_are_the_last_known_with_their_age(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let mitra = there.online_mitra().await;
    let _socket = there.dial_mitra(&mitra).await;
    let service = here.token(Role::Service);
    let counts = async || here.good("/internal/counts", &service).await;
    eventually("the other node's socket is counted", async || (counts().await["sockets"]["mitra"] == 1).then_some(()))
        .await;
    here.mirror_traffic(Traffic::Cut);
    here.reaches(Mode::Fallback).await;
    let old = eventually("the other node's report is a second old", async || {
        let frame = counts().await;
        let nodes = frame["nodes"].as_array().unwrap().clone();
        assert_eq!((nodes.len(), &frame["sockets"]["mitra"]), (2, &json!(1)), "{frame}");
        nodes.iter().any(|node| node["seen_ms"].as_u64() > Some(1_000)).then_some(frame)
    })
    .await;
    let nodes = here.good("/internal/nodes", &service).await;
    assert_eq!((&nodes["nodes_as_of"], nodes["nodes"].as_array().unwrap().len()), (&old["nodes_as_of"], 2), "{nodes}");
    here.mirror_traffic(Traffic::Flows);
    here.reaches(Mode::Live).await;
    eventually("the nodes are named anew", async || {
        (counts().await["nodes_as_of"] != old["nodes_as_of"]).then_some(())
    })
    .await;
}

async fn a_node_that_never_reached_valkey_says_that_it_knows_no_other(world: World) {
    let there = world.node().await;
    let here = world.node_with(&[("VALKEY_URL", "redis://127.0.0.1:1")]).await;
    let mitra = there.online_mitra().await;
    let _socket = there.dial_mitra(&mitra).await;
    let frame = here.good("/internal/counts", &here.token(Role::Service)).await;
    assert_eq!((&frame["nodes_as_of"], frame["nodes"].as_array().unwrap().len()), (&json!(null), 1), "{frame}");
    let mut dashboard = there.dial_dashboard().await;
    dashboard.until("this one names the others", |frame| frame["nodes_as_of"].is_string()).await;
}
