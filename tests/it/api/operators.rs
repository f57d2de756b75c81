//! People at the dashboard: their names in the record, and tokens that only look.

use hadir::domain::Role;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Client, World, on_both};

on_both!(
    a_named_operator_stands_in_events_and_another_kind_of_actor_cannot_be_claimed,
    a_read_only_token_sees_everything_and_changes_nothing,
);

async fn a_named_operator_stands_in_events_and_another_kind_of_actor_cannot_be_claimed(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let path = format!("/internal/mitras/{}", mitra.id);
    let set_active = async |token: &str, active: bool| {
        let body = json!({ "is_active": active, "reason": "night watch" });
        let reply = node.ask(Method::PATCH, &format!("{path}/status"), token, Some(body)).await;
        assert_eq!(reply.status.as_u16(), 200, "{}", reply.text);
    };
    set_active(&node.operator_token(Some("Sari Dewi"), false), false).await;
    set_active(&node.operator_token(Some("sweep"), false), true).await;
    set_active(&node.token(Role::Dashboard), false).await;
    let explanation = node.good(&path, &node.token(Role::Service)).await;
    let actors = |kind: &str| -> Vec<Value> {
        let events = explanation["events"].as_array().expect("events").iter();
        events.filter(|event| event["kind"] == kind).map(|event| event["actor"].clone()).collect()
    };
    // The newest first.
    assert_eq!(actors("deactivated"), ["dashboard", "dashboard:Sari Dewi"], "{explanation}");
    assert_eq!(actors("reactivated"), ["dashboard:sweep"], "{explanation}");
}

async fn a_read_only_token_sees_everything_and_changes_nothing(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let (looking, acting) = (node.operator_token(Some("Guest"), true), node.operator_token(None, false));
    let status = format!("/internal/mitras/{}/status", mitra.id);
    for path in ["/internal/counts", "/internal/mitras", "/internal/sweeps", "/internal/nodes"] {
        node.good(path, &looking).await;
    }
    let mut dashboard = Client::dial(node.internal(), "/ws/dashboard", &looking).await;
    dashboard.frame("dashboard").await;
    let writes = [
        (Method::PATCH, status.as_str(), json!({ "is_active": false })),
        (Method::POST, "/internal/disconnect", json!({ "sub": Uuid::new_v4() })),
        (Method::POST, "/internal/sweeps/reseed/pause", json!({ "seconds": 1 })),
        (Method::POST, "/internal/sweeps/reseed/resume", Value::Null),
    ];
    for (method, path, body) in writes {
        let body = (!body.is_null()).then_some(body);
        let refused = node.ask(method.clone(), path, &looking, body.clone()).await;
        assert_eq!(refused.status.as_u16(), 403, "{path}: {}", refused.text);
        let problem = refused.json();
        assert_eq!(problem["code"], "forbidden");
        assert!(problem["detail"].as_str().expect("words").contains("read-only"), "{problem}");
        let done = node.ask(method, path, &acting, body).await;
        assert_eq!(done.status.as_u16(), 200, "{path}: {}", done.text);
    }
}
