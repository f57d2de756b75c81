//! The whole chain of a deactivation, from one call to closed sockets on every node.

use std::time::Duration;

use hadir::domain::{Actor, Role};
use serde_json::json;
use uuid::Uuid;

use super::in_agreement;
use crate::support::{Client, Closed, World, on_both, on_cluster};

on_both!(a_deactivation_by_rest_closes_sockets_and_refuses_everything);
on_cluster!(a_deactivation_reaches_sockets_on_every_node_and_revokes_sign_ins);

async fn a_deactivation_by_rest_closes_sockets_and_refuses_everything(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut sockets = [node.dial_mitra(&mitra).await, node.dial_mitra(&mitra).await];
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    let path = format!("/internal/mitras/{}/status", mitra.id);
    let body = json!({ "is_active": false, "reason": "complaint" });
    let reply = node.ask(reqwest::Method::PATCH, &path, &node.token(Role::Dashboard), Some(body)).await;
    let answer = reply.json();
    assert_eq!((reply.status.as_u16(), &answer["active"], &answer["online"]), (200, &json!(false), &json!(false)));
    for socket in &mut sockets {
        let told =
            socket.until("the deactivation", |frame| frame["type"] == "status" && frame["active"] == false).await;
        assert_eq!((&told["reason"], &told["online"]), (&json!("deactivated"), &json!(false)), "{told}");
        assert_eq!(socket.closed().await, Closed::new(4503, "deactivated"));
    }
    assert_eq!(watcher.sees(0).await["any"], false);
    in_agreement(&world, &node, mitra.id).await;
    let deactivated = (403, "deactivated".to_owned());
    for path in ["online", "offline", "heartbeat"] {
        let reply = node.post(&format!("/api/mitra/status/{path}"), &mitra.token, json!({})).await;
        assert_eq!(reply.problem(), deactivated, "{path}");
    }
    let events = node.store().events(mitra.id, 10).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| (event.actor.as_str(), event.reason.as_deref())).collect();
    assert!(told.contains(&(Actor::Dashboard.as_str(), Some("complaint"))), "{events:?}");
}

async fn a_deactivation_reaches_sockets_on_every_node_and_revokes_sign_ins(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let mitra = here.online_mitra().await;
    let sign_in = Uuid::new_v4();
    sqlx::query(
        "INSERT INTO auth_sessions (id, subject_id, role, expires_at) VALUES ($1, $2, $3, now() + interval '1h')",
    )
    .bind(sign_in)
    .bind(mitra.id.0)
    .bind(Role::Mitra.as_str())
    .execute(world.sql())
    .await
    .unwrap();
    let token = here.token_for(mitra.id, Role::Mitra, Some(sign_in), Duration::from_secs(600));
    let mut sockets = vec![here.dial_mitra(&mitra).await, there.dial_mitra(&mitra).await];
    sockets.push(Client::dial(there.public(), "/ws/mitra", &token).await);
    let mut watcher = there.dial_customer().await;
    watcher.sees(1).await;
    here.deactivate(&mitra).await;
    for socket in &mut sockets {
        let told =
            socket.until("the deactivation", |frame| frame["type"] == "status" && frame["active"] == false).await;
        assert_eq!(told["reason"], "deactivated", "{told}");
        assert_eq!(socket.closed().await, Closed::new(4503, "deactivated"));
    }
    watcher.sees(0).await;
    assert!(!here.store().auth_session(sign_in).await.unwrap().unwrap().valid);
    in_agreement(&world, &there, mitra.id).await;
}
