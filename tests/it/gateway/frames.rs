//! Golden frames: what the server sends, compared with the fixtures that clients in other languages read too.
//!
//! Values that differ from run to run stand in the fixtures as `<uuid>`, `<word>`, `<time>` and `<number>`.

use std::{collections::BTreeMap, path::Path};

use hadir::domain::{Payment, Role};
use serde_json::{Value, json};

use crate::{
    sessions::{Desk, LONG},
    support::{World, on_both},
};

on_both!(each_frame_is_as_its_fixture_says);

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/frames.json");

async fn each_frame_is_as_its_fixture_says(world: World) {
    let node = world.node_with(&[("HADIR_TOKEN_WARNING_SECONDS", "3600"), ("DRAIN_SECONDS", "0.2")]).await;
    let mut seen = BTreeMap::new();
    let mitra = node.mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    seen.insert("welcome", socket.welcome.clone());
    seen.insert("status", socket.first_status.clone());
    seen.insert("error_without_id", socket.frame("error").await);
    let mut customer = node.dial_customer().await;
    let mut dashboard = node.dial_dashboard().await;
    dashboard.frame("dashboard").await;
    seen.insert("history", dashboard.frame("history").await);
    let with_nodes = |frame: &Value| frame["type"] == "dashboard" && frame["nodes_as_of"].is_string();
    seen.insert("dashboard", dashboard.until("the nodes are named", with_nodes).await);
    socket.send(json!({ "type": "online", "id": "c1" })).await;
    seen.insert("ack", socket.frame("ack").await);
    seen.insert("availability", customer.sees(1).await);
    Desk::at(&node).taken(mitra.id, Payment::Paid, LONG).await;
    seen.insert("status_session", socket.until("a session", |frame| frame["sessions"] == 1).await);
    socket.send(json!({ "type": "ping" })).await;
    seen.insert("pong", socket.frame("pong").await);
    customer.send(json!({ "type": "online", "id": "c2" })).await;
    seen.insert("error", customer.until("an error", |frame| frame["id"] == "c2").await);
    seen.insert("problem", node.get("/internal/counts", &node.token(Role::Mitra)).await.json());
    let (reconnect, ()) = tokio::join!(socket.frame("reconnect"), node.stop());
    seen.insert("reconnect", reconnect);

    let shapes: BTreeMap<&str, Value> = seen.iter().map(|(name, frame)| (*name, shape("", frame))).collect();
    let shapes = serde_json::to_value(&shapes).unwrap();
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(FIXTURES, serde_json::to_string_pretty(&shapes).unwrap() + "\n").unwrap();
    }
    let golden = std::fs::read_to_string(Path::new(FIXTURES)).expect("the fixtures");
    let golden: Value = serde_json::from_str(&golden).expect("JSON");
    assert_eq!(shapes, golden, "\nrun with UPDATE_FIXTURES=1 and look at the difference");
}

/// The frame with everything replaced that differs from run to run.
pub fn shape(field: &str, value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), shape(name, value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().take(1).map(|item| shape(field, item)).collect(),
        Value::String(text) if uuid::Uuid::parse_str(text).is_ok() && field != "epoch" => json!("<uuid>"),
        Value::String(_) if ["epoch", "node_id", "source"].contains(&field) => json!("<word>"),
        Value::String(text) if chrono::DateTime::parse_from_rfc3339(text).is_ok() => {
            assert!(text.len() == 24 && text.ends_with('Z'), "milliseconds and Z: {text}");
            json!("<time>")
        }
        Value::Number(_) if ["version", "revision", "after_ms", "seen_ms", "heartbeat_age_ms"].contains(&field) => {
            json!("<number>")
        }
        other => other.clone(),
    }
}
