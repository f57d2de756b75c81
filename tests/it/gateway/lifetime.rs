//! How long a socket lives: the token's life and its refresh, silence and the server's ping, kicks, the restart.

use std::time::Duration;

use futures_util::StreamExt;
use hadir::domain::{MitraId, Role, SubjectId};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::support::{Client, Closed, PATIENCE, World, on_both, on_cluster};

on_both!(
    an_expiring_token_is_warned_of_and_closes_4401_unless_refreshed,
    a_refresh_keeps_subject_and_role,
    a_silent_socket_is_pinged_and_a_dead_one_closes_4408,
    a_protocol_pong_alone_keeps_a_socket_alive,
    a_subject_is_disconnected_and_counted,
    a_stopping_node_tells_each_socket_when_to_dial_and_closes_1012,
);

on_cluster!(a_subject_is_disconnected_on_every_node, a_revoked_sign_in_refuses_a_refresh);

async fn an_expiring_token_is_warned_of_and_closes_4401_unless_refreshed(world: World) {
    let node = world.node_with(&[("HADIR_TOKEN_WARNING_SECONDS", "1")]).await;
    let subject = SubjectId(Uuid::new_v4());
    let short = |seconds| node.token_for(subject, Role::Customer, None, Duration::from_secs(seconds));
    let mut leaving = Client::dial(node.public(), "/ws/availability", &short(2)).await;
    let mut staying = Client::dial(node.public(), "/ws/availability", &short(2)).await;
    for client in [&mut leaving, &mut staying] {
        assert_eq!(client.frame("error").await["code"], "token_expiring");
    }
    staying.send(json!({ "type": "refresh", "token": short(60), "id": "r1" })).await;
    assert_eq!(staying.frame("ack").await["id"], "r1");
    assert_eq!(leaving.closed().await, Closed::new(4401, "token_expired"));
    staying.is_alive().await;
}

async fn a_refresh_keeps_subject_and_role(world: World) {
    let node = world.node().await;
    let subject = SubjectId(Uuid::new_v4());
    let mut client = Client::dial(node.public(), "/ws/availability", &node.token_of(subject, Role::Customer)).await;
    let others = [node.token(Role::Customer), node.token_of(subject, Role::Service), "nonsense".to_owned()];
    for other in &others {
        client.send(json!({ "type": "refresh", "token": other, "id": "r" })).await;
        let refused = client.until("an answer", |frame| frame["id"] == "r").await;
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("unauthorized")));
    }
    for _ in 0..3 {
        client.send(json!({ "type": "refresh", "token": node.token_of(subject, Role::Customer) })).await;
        assert_eq!(client.frame("ack").await, json!({ "type": "ack" }));
    }
}

/// Periods short enough to wait for, long enough for a busy machine.
const HASTY: [(&str, &str); 3] = [
    ("HEARTBEAT_INTERVAL_SECONDS", "0.3"),
    ("HEARTBEAT_SUSPECT_SECONDS", "1.2"),
    ("MITRA_OFFLINE_AFTER_SECONDS", "60"),
];

async fn a_silent_socket_is_pinged_and_a_dead_one_closes_4408(world: World) {
    let node = world.node_with(&HASTY).await;
    let mut client = node.dial_customer().await;
    let pinged = async { while !matches!(client.ws.next().await, Some(Ok(Message::Ping(_)))) {} };
    tokio::time::timeout(PATIENCE, pinged).await.expect("pinged");
    // From here on nothing is read, so nothing is answered: a half-open connection, as the server sees it.
    crate::support::eventually("the dead socket is gone", async || {
        (node.presence().hub().socket_counts().customer == 0).then_some(())
    })
    .await;
    assert_eq!(client.closed().await, Closed::new(4408, "silent"));
}

async fn a_protocol_pong_alone_keeps_a_socket_alive(world: World) {
    let node = world.node_with(&HASTY).await;
    let mut client = node.dial_mitra(&node.mitra().await).await;
    // Pings of more than two suspect periods, and reading only: tungstenite answers them while it is polled.
    let listening = async {
        let mut pings = 0;
        while pings < 10 {
            match client.ws.next().await {
                Some(Ok(Message::Ping(_))) => pings += 1,
                Some(Ok(_)) => {}
                ended => panic!("the socket ended: {ended:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.expect("pinged again and again");
    client.is_alive().await;
}

async fn a_subject_is_disconnected_and_counted(world: World) {
    let node = world.node().await;
    let (mitra, service) = (node.mitra().await, node.token(Role::Service));
    let mut sockets = [node.dial_mitra(&mitra).await, node.dial_mitra(&mitra).await];
    let mut bystander = node.dial_mitra(&node.mitra().await).await;
    let answer =
        node.post("/internal/disconnect", &service, json!({ "sub": mitra.id.0, "reason": "lost phone" })).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "closed": 2 })));
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, Closed::new(4502, "lost phone"));
    }
    bystander.is_alive().await;
    let nobody = node.post("/internal/disconnect", &service, json!({ "sub": Uuid::new_v4() })).await;
    assert_eq!(nobody.json(), json!({ "closed": 0 }));
}

async fn a_subject_is_disconnected_on_every_node(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let subject = MitraId(Uuid::new_v4());
    let token = here.token_of(subject, Role::Customer);
    let mut sockets = Vec::new();
    for node in [&here, &there, &there] {
        sockets.push(Client::dial(node.public(), "/ws/availability", &token).await);
    }
    crate::support::eventually("the nodes know of each other", async || {
        (here.presence().nodes().nodes.len() == 2).then_some(())
    })
    .await;
    let dashboard = here.token(Role::Dashboard);
    let answer = here.post("/internal/disconnect", &dashboard, json!({ "sub": subject.0 })).await;
    assert_eq!(answer.json(), json!({ "closed": 3 }));
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, Closed::new(4502, "disconnected"));
    }
}

async fn a_revoked_sign_in_refuses_a_refresh(world: World) {
    let node = world.node().await;
    let mitra = node.mitra().await;
    let mut client = node.dial_mitra(&mitra).await;
    let token = node.token_for(mitra.id, Role::Mitra, Some(Uuid::new_v4()), Duration::from_secs(60));
    client.send(json!({ "type": "refresh", "token": token })).await;
    assert_eq!(client.closed().await, Closed::new(4501, "revoked"));
}

async fn a_stopping_node_tells_each_socket_when_to_dial_and_closes_1012(world: World) {
    let node = world.node_with(&[("DRAIN_SECONDS", "0.5"), ("DRAIN_DELAY_SECONDS", "0.3")]).await;
    let mitra = node.online_mitra().await;
    let mut sockets = [node.dial_mitra(&mitra).await, node.dial_customer().await];
    let (public, internal) = (node.public(), node.internal());
    let store = std::sync::Arc::clone(node.store());
    let told = async {
        crate::support::eventually("not ready", async || {
            let ready = reqwest::get(format!("http://{internal}/readyz")).await.ok()?;
            (ready.status().as_u16() == 503).then_some(())
        })
        .await;
        // For load balancers that have not noticed yet: still accepting.
        assert_eq!(reqwest::get(format!("http://{public}/livez")).await.expect("accepting").status().as_u16(), 200);
        for socket in &mut sockets {
            let reconnect = socket.frame("reconnect").await;
            assert!(reconnect["after_ms"].as_u64().is_some_and(|after| after < 500), "{reconnect}");
            assert_eq!(reconnect["reason"], "drain");
        }
        for socket in &mut sockets {
            assert_eq!(socket.closed().await, Closed::new(1012, "restart"));
        }
    };
    let ((), ()) = tokio::join!(node.stop(), told);
    assert!(tokio::net::TcpStream::connect(public).await.is_err(), "nobody listens any more");
    drop(store);
}
