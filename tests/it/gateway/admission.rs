//! Three ways of authentication, and the exact answer to everybody who may not come in.

use std::time::Duration;

use hadir::domain::{MitraId, Role, SubjectId};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Client, Closed, Node, World,
    client::{opening, with_header},
    eventually, on_both, on_cluster,
    world::ORIGIN,
};

on_both!(
    a_token_comes_by_header_subprotocol_or_first_message,
    a_bad_token_in_the_header_is_401_and_closes_4401_elsewhere,
    a_wrong_role_an_unknown_and_a_deactivated_mitra_are_403_or_4503,
    a_token_in_the_query_is_refused,
    a_late_first_message_closes_4408_and_another_than_auth_4500,
    a_foreign_origin_is_403_and_the_allowed_and_the_own_come_in,
    what_is_not_a_websocket_request_is_told_so,
    more_sockets_than_a_customer_may_hold_are_429,
    more_strangers_than_an_address_may_have_are_429_and_authenticated_ones_do_not_count,
    a_stranger_that_is_refused_is_counted_until_its_close_is_over,
    two_at_once_do_not_both_take_the_last_place,
    service_and_dashboard_subjects_have_a_limit_too,
    a_full_node_answers_503_and_its_sockets_live,
);

on_cluster!(a_revoked_sign_in_is_401_or_4501);

async fn refused(node: &Node, path: &str, token: &str) -> (u16, Value) {
    let address = if path == "/ws/dashboard" { node.internal() } else { node.public() };
    let request = with_header(opening(address, path), "authorization", &format!("Bearer {token}"));
    let response = Client::open(address, request).await.err().expect("refused");
    (response.status().as_u16(), response.body()["code"].clone())
}

async fn closed_by_subprotocol(node: &Node, path: &str, token: &str) -> Closed {
    let offer = format!("hadir.v1, hadir.bearer.{token}");
    let request = with_header(opening(node.public(), path), "sec-websocket-protocol", &offer);
    Client::open(node.public(), request).await.expect("upgraded").closed().await
}

async fn closed_by_first_message(node: &Node, path: &str, token: &str) -> Closed {
    let mut client = Client::open(node.public(), opening(node.public(), path)).await.expect("upgraded");
    client.send(json!({ "type": "auth", "token": token })).await;
    client.closed().await
}

async fn a_token_comes_by_header_subprotocol_or_first_message(world: World) {
    let node = world.node().await;
    let token = node.token(Role::Customer);
    let address = node.public();
    Client::dial(address, "/ws/availability", &token).await;

    let offer = format!("hadir.v1, hadir.bearer.{token}");
    let request = with_header(opening(address, "/ws/availability"), "sec-websocket-protocol", &offer);
    let mut by_subprotocol = Client::open(address, request).await.expect("upgraded");
    let answered = by_subprotocol.response.headers().get("sec-websocket-protocol").expect("answered");
    assert_eq!(answered, "hadir.v1", "the token is not echoed");
    by_subprotocol.frame("welcome").await;

    let mut by_message = Client::open(address, opening(address, "/ws/availability")).await.expect("upgraded");
    by_message.send(json!({ "type": "auth", "token": token })).await;
    by_message.frame("welcome").await;
    by_message.frame("availability").await;
}

async fn a_bad_token_in_the_header_is_401_and_closes_4401_elsewhere(world: World) {
    let node = world.node().await;
    let expired = node.expired_token(Role::Customer);
    let mut tampered = node.token(Role::Customer);
    tampered.push('x');
    for bad in ["", "nonsense", &tampered, &expired] {
        assert_eq!(refused(&node, "/ws/availability", bad).await, (401, json!("unauthorized")), "{bad}");
        if !bad.is_empty() {
            let closed = Closed::new(4401, "unauthorized");
            assert_eq!(closed_by_subprotocol(&node, "/ws/availability", bad).await, closed, "{bad}");
            assert_eq!(closed_by_first_message(&node, "/ws/availability", bad).await, closed, "{bad}");
        }
    }
}

async fn a_wrong_role_an_unknown_and_a_deactivated_mitra_are_403_or_4503(world: World) {
    let node = world.node().await;
    let deactivated = node.mitra().await;
    node.deactivate(&deactivated).await;
    let unknown = node.token_of(MitraId(Uuid::new_v4()), Role::Mitra);
    let cases = [
        ("/ws/mitra", node.token(Role::Customer), "forbidden"),
        ("/ws/mitra", node.token(Role::Dashboard), "forbidden"),
        ("/ws/availability", deactivated.token.clone(), "forbidden"),
        ("/ws/mitra", unknown, "unknown_mitra"),
        ("/ws/mitra", deactivated.token, "deactivated"),
    ];
    for (path, token, reason) in &cases {
        assert_eq!(refused(&node, path, token).await, (403, json!(reason)), "{path} {reason}");
        let closed = Closed::new(4503, reason);
        assert_eq!(closed_by_subprotocol(&node, path, token).await, closed, "{path}");
        assert_eq!(closed_by_first_message(&node, path, token).await, closed, "{path}");
    }
    for role in [Role::Customer, Role::Service] {
        assert_eq!(refused(&node, "/ws/dashboard", &node.token(role)).await, (403, json!("forbidden")), "{role:?}");
    }
    for role in [Role::Customer, Role::Service, Role::Dashboard] {
        Client::dial(node.public(), "/ws/availability", &node.token(role)).await;
    }
}

async fn a_token_in_the_query_is_refused(world: World) {
    let node = world.node().await;
    let token = node.token(Role::Customer);
    for key in ["token", "access_token", "jwt"] {
        let path = format!("/ws/availability?{key}={token}");
        assert_eq!(refused(&node, &path, &token).await, (401, json!("unauthorized")), "{key}");
        let path = format!("/api/client/availability?{key}={token}");
        assert_eq!(node.get(&path, &token).await.problem(), (401, "unauthorized".into()), "{key}");
    }
}

async fn a_late_first_message_closes_4408_and_another_than_auth_4500(world: World) {
    let node = world.node_with(&[("HADIR_LIMIT_FIRST_MESSAGE_SECONDS", "0.2")]).await;
    let open = async || Client::open(node.public(), opening(node.public(), "/ws/mitra")).await.expect("upgraded");
    assert_eq!(open().await.closed().await, Closed::new(4408, "auth_timeout"));
    for other in [r#"{"type":"ping"}"#, "nonsense", r#"{"type":"auth"}"#] {
        let mut client = open().await;
        client.send_text(other).await;
        assert_eq!(client.closed().await, Closed::new(4500, "bad_message"), "{other}");
    }
}

async fn a_foreign_origin_is_403_and_the_allowed_and_the_own_come_in(world: World) {
    let node = world.node().await;
    let token = format!("Bearer {}", node.token(Role::Customer));
    let from = |origin: &str| {
        let request = with_header(opening(node.public(), "/ws/availability"), "authorization", &token);
        with_header(request, "origin", origin)
    };
    for foreign in ["https://evil.test", "null", "https://app.test.evil.test", "http://app.test"] {
        let response = Client::open(node.public(), from(foreign)).await.err().expect("refused");
        assert_eq!((response.status().as_u16(), &response.body()["code"]), (403, &json!("forbidden")), "{foreign}");
        let request = node.request(Method::GET, "/api/client/availability", &token[7..]).header("origin", foreign);
        assert_eq!(node.send(request).await.problem().0, 403, "{foreign}");
    }
    let own = format!("http://{}", node.public());
    for allowed in [ORIGIN, &own] {
        Client::open(node.public(), from(allowed)).await.expect("upgraded");
        let request = node.request(Method::GET, "/api/client/availability", &token[7..]).header("origin", allowed);
        let reply = node.send(request).await;
        assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (200, Some(allowed)));
    }
    let preflight = node
        .request(Method::OPTIONS, "/api/client/availability", "")
        .header("origin", ORIGIN)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization");
    let reply = node.send(preflight).await;
    assert_eq!(reply.status.as_u16(), 204);
    assert!(reply.header("access-control-allow-headers").is_some_and(|allowed| allowed.contains("authorization")));
}

async fn what_is_not_a_websocket_request_is_told_so(world: World) {
    let node = world.node().await;
    let token = node.token(Role::Customer);
    let ask = |version: &'static str, key: &'static str, upgrade: &'static str| {
        let url = format!("http://{}/ws/availability", node.public());
        let request = reqwest::Client::new().get(url).bearer_auth(&token).header("connection", "upgrade");
        request.header("upgrade", upgrade).header("sec-websocket-version", version).header("sec-websocket-key", key)
    };
    let plain = reqwest::Client::new().get(format!("http://{}/ws/availability", node.public())).bearer_auth(&token);
    assert_eq!(node.send(plain).await.problem(), (400, "bad_request".into()));
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    let old = node.send(ask("8", KEY, "websocket")).await;
    assert_eq!((old.status.as_u16(), old.header("sec-websocket-version")), (426, Some("13")));
    assert_eq!(node.send(ask("13", "c2hvcnQ=", "websocket")).await.problem(), (400, "bad_request".into()));
    assert_eq!(node.send(ask("13", KEY, "h2c")).await.problem(), (400, "bad_request".into()));
}

async fn more_sockets_than_a_customer_may_hold_are_429(world: World) {
    let node = world.node_with(&[("HADIR_LIMIT_SOCKETS_PER_CUSTOMER", "2")]).await;
    let token = node.token(Role::Customer);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(Client::dial(node.public(), "/ws/availability", &token).await);
    }
    let request = with_header(opening(node.public(), "/ws/availability"), "authorization", &format!("Bearer {token}"));
    let response = Client::open(node.public(), request).await.err().expect("refused");
    assert_eq!((response.status().as_u16(), &response.body()["code"]), (429, &json!("too_many_sockets")));
    assert!(response.headers().contains_key("retry-after"));
    for client in &mut held {
        client.is_alive().await;
    }
}

async fn more_strangers_than_an_address_may_have_are_429_and_authenticated_ones_do_not_count(world: World) {
    let node = world.node_with(&[("HADIR_LIMIT_UNAUTHENTICATED_SOCKETS_PER_IP", "2")]).await;
    let open = async || Client::open(node.public(), opening(node.public(), "/ws/availability")).await;
    let mut first = open().await.expect("upgraded");
    let _second = open().await.expect("upgraded");
    let response = open().await.err().expect("refused");
    assert_eq!((response.status().as_u16(), &response.body()["code"]), (429, &json!("too_many_sockets")));
    first.send(json!({ "type": "auth", "token": node.token(Role::Customer) })).await;
    first.frame("welcome").await;
    open().await.expect("the one that authenticated is no stranger any more");
}

async fn a_stranger_that_is_refused_is_counted_until_its_close_is_over(world: World) {
    let settings = [("HADIR_LIMIT_UNAUTHENTICATED_SOCKETS_PER_IP", "2"), ("HADIR_LIMIT_CLOSE_SECONDS", "30")];
    let node = world.node_with(&settings).await;
    let open = async || Client::open(node.public(), opening(node.public(), "/ws/availability")).await;
    let mut refused = Vec::new();
    for _ in 0..2 {
        let mut client = open().await.expect("upgraded");
        client.send(json!({ "type": "ping" })).await;
        // The close arrives and is not answered: the descriptor is held until it is.
        let mut byte = [0];
        client.ws.get_mut().peek(&mut byte).await.unwrap();
        refused.push(client);
    }
    assert_eq!(open().await.err().expect("refused").status().as_u16(), 429);
    for client in &mut refused {
        assert_eq!(client.closed().await, Closed::new(4500, "bad_message"));
    }
    drop(refused);
    eventually("a place", async || open().await.ok().map(drop)).await;
}

async fn two_at_once_do_not_both_take_the_last_place(world: World) {
    let node = world.node_with(&[("HADIR_LIMIT_SOCKETS_PER_NODE", "5")]).await;
    let (address, token) = (node.public(), node.token(Role::Dashboard));
    let mut opening_at_once = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let request = with_header(opening(address, "/ws/availability"), "authorization", &format!("Bearer {token}"));
        opening_at_once.spawn(async move { Client::open(address, request).await.ok() });
    }
    let held: Vec<Client> = opening_at_once.join_all().await.into_iter().flatten().collect();
    assert_eq!(held.len(), 5);
}

async fn service_and_dashboard_subjects_have_a_limit_too(world: World) {
    let node = world.node_with(&[("HADIR_LIMIT_SOCKETS_PER_OPERATOR", "2")]).await;
    let token = node.token(Role::Service);
    let _first = Client::dial(node.public(), "/ws/availability", &token).await;
    let _second = Client::dial(node.public(), "/ws/availability", &token).await;
    assert_eq!(refused(&node, "/ws/availability", &token).await, (429, json!("too_many_sockets")));
}

async fn a_full_node_answers_503_and_its_sockets_live(world: World) {
    let node = world.node_with(&[("HADIR_LIMIT_SOCKETS_PER_NODE", "1")]).await;
    let mut held = node.dial_customer().await;
    let (status, code) = refused(&node, "/ws/availability", &node.token(Role::Customer)).await;
    assert_eq!((status, code), (503, json!("overloaded")));
    held.is_alive().await;
}

async fn a_revoked_sign_in_is_401_or_4501(world: World) {
    let node = world.node().await;
    let mitra = node.mitra().await;
    let hour = Duration::from_secs(3_600);
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
    let token = node.token_for(mitra.id, Role::Mitra, Some(sign_in), hour);
    Client::dial(node.public(), "/ws/mitra", &token).await;
    let elsewhere = node.token_for(SubjectId(Uuid::new_v4()), Role::Mitra, Some(sign_in), hour);
    let unknown = node.token_for(mitra.id, Role::Mitra, Some(Uuid::new_v4()), hour);
    sqlx::query("UPDATE auth_sessions SET revoked_at = now() WHERE id = $1")
        .bind(sign_in)
        .execute(world.sql())
        .await
        .unwrap();
    for bad in [&token, &unknown] {
        assert_eq!(refused(&node, "/ws/mitra", bad).await, (401, json!("revoked")));
        assert_eq!(closed_by_subprotocol(&node, "/ws/mitra", bad).await, Closed::new(4501, "revoked"));
        assert_eq!(closed_by_first_message(&node, "/ws/mitra", bad).await, Closed::new(4501, "revoked"));
        assert_eq!(node.get("/api/mitra/status", bad).await.problem(), (401, "revoked".into()));
    }
    // Deactivation and existence are looked at before the sign-in.
    assert_eq!(refused(&node, "/ws/mitra", &elsewhere).await, (403, json!("unknown_mitra")));
    // A heartbeat asks no database: the token's life bounds it there.
    assert_eq!(node.post("/api/mitra/status/heartbeat", &token, json!({})).await.status.as_u16(), 200);
}
