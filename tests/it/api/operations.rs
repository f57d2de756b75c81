//! What operators and monitoring ask.

use hadir::domain::{Mode, Role};
use serde_json::json;

use crate::support::{World, eventually, on_both, on_cluster};

on_both!(
    health_needs_no_token_and_says_a_line_per_check,
    counts_are_the_dashboard_frame_without_its_type,
    metrics_have_the_promised_names_and_no_label_per_mitra,
    the_dashboard_page_needs_no_token_and_loads_only_from_here,
);

on_cluster!(each_live_node_is_listed_and_a_stopped_one_leaves);

async fn health_needs_no_token_and_says_a_line_per_check(world: World) {
    let node = world.node().await;
    for listener in [node.public(), node.internal()] {
        for path in ["livez", "readyz"] {
            let response = reqwest::get(format!("http://{listener}/{path}")).await.unwrap();
            assert_eq!(response.status().as_u16(), 200, "{path}");
            let body: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            assert!(body["checks"].is_array(), "{body}");
        }
    }
    let ready = node.get("/readyz", "").await.json();
    let mode = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "mode").unwrap();
    assert_eq!(mode["detail"], Mode::Live.as_str());
}

async fn counts_are_the_dashboard_frame_without_its_type(world: World) {
    let node = world.node().await;
    node.online_mitra().await;
    let mut dashboard = node.dial_dashboard().await;
    let mut frame = dashboard.until("online", |frame| frame["counts"]["online"] == 1).await;
    let body = node.good("/internal/counts", &node.token(Role::Service)).await;
    frame.as_object_mut().unwrap().remove("type");
    let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&frame), names(&body));
    assert_eq!(frame["counts"], body["counts"]);
}

async fn metrics_have_the_promised_names_and_no_label_per_mitra(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    socket.is_alive().await;
    drop(socket);
    node.flushed().await;
    node.good("/internal/counts", &node.token(Role::Service)).await;
    eventually("the socket has closed", async || {
        node.get("/metrics", "").await.text.contains("hadir_socket_closes_total{").then_some(())
    })
    .await;
    let text = node.get("/metrics", "").await.text;
    for name in [
        "sockets",
        "socket_connects_total",
        "socket_closes_total",
        "heartbeats_total",
        "heartbeat_flush_size",
        "heartbeat_flush_seconds",
        "mirror_commands_total",
        "store_queries_total",
        "reads_total",
        "mode",
        "mirror_epoch_changes_total",
        "reseed_seconds",
        "reseed_drift_total",
        "sweep_runs_total",
        "auto_offline_total",
        "snapshots_published_total",
        "snapshot_delivery_seconds",
        "pubsub_loop_lag_seconds",
        "watch_skipped_total",
        "mitras",
        "sessions",
    ] {
        // A value, and not only a name that was registered.
        let value = |line: &str| {
            line.strip_prefix("hadir_").and_then(|line| line.strip_prefix(name)).is_some_and(|rest| {
                rest.starts_with([' ', '{']) || rest.starts_with("_count") || rest.starts_with("_sum")
            })
        };
        assert!(text.lines().any(value), "{name} in\n{text}");
    }
    assert!(text.contains("process_resident_memory_bytes"), "process metrics");
    assert!(!text.contains(&mitra.id.to_string()));
    assert!(text.lines().any(|line| line == "hadir_mode{mode=\"live\"} 1"), "{text}");
}

async fn the_dashboard_page_needs_no_token_and_loads_only_from_here(world: World) {
    let node = world.node().await;
    let page = node.get("/", "").await;
    assert_eq!(page.status.as_u16(), 200);
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'self'")));
    assert!(!page.text.contains("http://") && !page.text.contains("https://"), "loads nothing from elsewhere");
    let named: Vec<&str> = page.text.split('"').filter(|word| word.starts_with("assets/")).collect();
    assert!(named.iter().any(|path| path.ends_with(".js")), "a page without a script: {named:?}");
    for path in named {
        let asset = node.get(&format!("/{path}"), "").await;
        assert_eq!(asset.status.as_u16(), 200, "{path}");
        assert!(!asset.text.contains("https://cdn"), "{path} loads from elsewhere");
    }
}

async fn each_live_node_is_listed_and_a_stopped_one_leaves(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let service = here.token(Role::Service);
    let nodes = async || here.good("/internal/nodes", &service).await["nodes"].as_array().unwrap().clone();
    eventually("both are listed and live", async || {
        let nodes = nodes().await;
        (nodes.len() == 2 && nodes.iter().all(|node| node["mode"] == json!(Mode::Live))).then_some(())
    })
    .await;
    there.stop().await;
    eventually("one has left", async || (nodes().await.len() == 1).then_some(())).await;
}
