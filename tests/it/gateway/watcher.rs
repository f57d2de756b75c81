//! Watchers: the newest snapshot at once, each change, in order, and nothing that is not theirs to know.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use hadir::domain::{Actor, Role};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, PATIENCE, World, on_both, on_cluster};

on_both!(
    a_late_joiner_needs_one_frame,
    a_change_reaches_watchers_in_order_of_version,
    a_customers_frame_holds_nothing_but_what_is_promised,
    an_idle_watcher_hears_within_max_silence,
    a_ping_to_an_idle_watcher_brings_the_frame_that_would_be_due_before_the_next,
    a_dashboard_gets_its_frame_then_the_history_then_changes,
    a_slow_watcher_gets_only_the_newest,
    all_watchers_of_a_change_are_sent_the_same_bytes,
);

on_cluster!(a_change_on_one_node_is_a_frame_on_the_other);

fn fields(frame: &Value) -> BTreeSet<&str> {
    frame.as_object().expect("an object").keys().map(String::as_str).collect()
}

async fn next_message(client: &mut Client) -> Message {
    let message = timeout(PATIENCE, client.ws.next()).await.expect("in time");
    message.expect("the socket lives").expect("a message")
}

async fn a_late_joiner_needs_one_frame(world: World) {
    let node = world.node().await;
    for _ in 0..3 {
        node.online_mitra().await;
    }
    let mut early = node.dial_customer().await;
    early.sees(3).await;
    let mut late = node.dial_customer().await;
    let first = late.next().await;
    assert_eq!((&first["type"], &first["any"], &first["available"]), (&json!("availability"), &json!(true), &json!(3)));
}

async fn a_change_reaches_watchers_in_order_of_version(world: World) {
    let node = world.node().await;
    let mut watcher = node.dial_customer().await;
    let first = watcher.frame("availability").await;
    assert_eq!((&first["any"], &first["available"]), (&json!(false), &json!(0)));
    let mitra = node.mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    let mut version = first["version"].as_u64().unwrap();
    for round in 0..5 {
        let (command, any) = if round % 2 == 0 { ("online", true) } else { ("offline", false) };
        socket.commands(command).await;
        let frame = watcher.frame("availability").await;
        assert_eq!((&frame["any"], &frame["epoch"]), (&json!(any), &first["epoch"]));
        assert!(frame["version"].as_u64().unwrap() > version, "{frame}");
        version = frame["version"].as_u64().unwrap();
    }
}

async fn a_customers_frame_holds_nothing_but_what_is_promised(world: World) {
    let node = world.node().await;
    node.online_mitra().await;
    let mut watcher = node.dial_customer().await;
    let frame = watcher.sees(1).await;
    let promised = ["any", "as_of", "available", "epoch", "source", "stale", "type", "version"];
    assert_eq!(fields(&frame), BTreeSet::from(promised));
    let welcome = BTreeSet::from([
        "connection_id",
        "heartbeat_interval_ms",
        "max_silence_ms",
        "node_id",
        "offline_after_ms",
        "reconnect_window_ms",
        "server_time",
        "type",
    ]);
    assert_eq!(fields(&watcher.welcome), welcome);
    let body = node.good("/api/client/availability", &node.token(Role::Customer)).await;
    assert_eq!(fields(&body), BTreeSet::from(promised).into_iter().filter(|field| *field != "type").collect());
}

async fn an_idle_watcher_hears_within_max_silence(world: World) {
    let node = world.node_with(&[("HADIR_MAX_SILENCE_MS", "300")]).await;
    let mut watcher = node.dial_customer().await;
    let first = watcher.frame("availability").await;
    for _ in 0..3 {
        let again = watcher.frame("availability").await;
        assert_eq!((&again["epoch"], &again["version"]), (&first["epoch"], &first["version"]));
    }
}

/// The frame would be due at 0.8 s, between two pings at about 0.5 and 1 s: it goes with the first of them.
async fn a_ping_to_an_idle_watcher_brings_the_frame_that_would_be_due_before_the_next(world: World) {
    let node = world.node_with(&[("HEARTBEAT_INTERVAL_SECONDS", "0.5"), ("HADIR_MAX_SILENCE_MS", "1000")]).await;
    let mut watcher = node.dial_customer().await;
    watcher.frame("availability").await;
    for _ in 0..3 {
        assert!(matches!(next_message(&mut watcher).await, Message::Ping(_)));
        let Message::Text(frame) = next_message(&mut watcher).await else { panic!("a frame beside the ping") };
        assert!(frame.contains(r#""type":"availability""#), "{frame}");
    }
}

async fn a_dashboard_gets_its_frame_then_the_history_then_changes(world: World) {
    let node = world.node().await;
    let mut dashboard = node.dial_dashboard().await;
    let first = dashboard.next().await;
    assert_eq!(first["type"], "dashboard");
    assert_eq!(dashboard.next().await["type"], "history");
    let mitra = node.mitra_with_capacity(Some(2)).await;
    node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    let frame = dashboard.until("one online", |frame| frame["counts"]["online"] == 1).await;
    let counts = json!({ "online": 1, "reachable": 1, "available": 1, "busy": 0, "suspect": 0, "deactivated": 0,
                         "active_sessions": 0, "pending_payment_sessions": 0 });
    assert_eq!(frame["counts"], counts);
    assert_eq!(frame["sockets"], json!({ "mitra": 0, "customer": 0, "dashboard": 1 }));
    assert_eq!(frame["nodes"].as_array().map(Vec::len), Some(1));
    node.deactivate(&mitra).await;
    dashboard.until("deactivated", |frame| frame["counts"]["deactivated"] == 1).await;
}

async fn a_slow_watcher_gets_only_the_newest(world: World) {
    let node = world.node_with(&[("SNAPSHOT_WINDOW_MS", "1")]).await;
    let mut watcher = node.dial_customer().await;
    watcher.frame("availability").await;
    // Its session task does not run between these on the current-thread runtime of this test, as under load.
    let hub = node.presence().hub();
    let newest = hub.availability().unwrap().snapshot().clone();
    for step in 1..=100 {
        let snapshot = hadir::domain::Snapshot { version: newest.version + step, available: step, ..newest.clone() };
        hub.publish(hadir::hub::AvailabilityNews::new(snapshot));
    }
    assert_eq!(watcher.frame("availability").await["available"], 100);
}

async fn all_watchers_of_a_change_are_sent_the_same_bytes(world: World) {
    let node = world.node().await;
    let mut watchers = [node.dial_customer().await, node.dial_customer().await];
    node.online_mitra().await;
    let frames = [watchers[0].sees(1).await, watchers[1].sees(1).await];
    assert_eq!(frames[0].to_string(), frames[1].to_string());
    let held = node.presence().hub().availability().unwrap();
    assert_eq!(held.frame().as_ptr(), held.frame().as_ptr(), "a clone of the frame shares its buffer");
}

async fn a_change_on_one_node_is_a_frame_on_the_other(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let mut watcher = Client::dial(there.public(), "/ws/availability", &there.token(Role::Customer)).await;
    let first = watcher.frame("availability").await;
    let mitra = here.mitra().await;
    let mut socket = here.dial_mitra(&mitra).await;
    let mut elsewhere = there.dial_mitra(&mitra).await;
    socket.commands("online").await;
    let frame = watcher.frame("availability").await;
    assert_eq!((&frame["any"], &frame["epoch"]), (&json!(true), &first["epoch"]));
    let status = elsewhere.frame("status").await;
    assert_eq!(status["online"], true);
    elsewhere.commands("offline").await;
    assert_eq!(watcher.frame("availability").await["any"], false);
    socket.until("offline, from the other node", |frame| frame["type"] == "status" && frame["online"] == false).await;
}
