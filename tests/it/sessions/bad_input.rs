//! Everything that is wrong with a call gets its exact status and code, and changes nothing.

use hadir::domain::{Payment, Role};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Desk, LONG, refused};
use crate::{
    presence::in_agreement,
    support::{World, on_both},
};

on_both!(
    a_body_that_is_not_what_it_must_be_is_400,
    what_is_not_there_is_404,
    a_wrong_role_is_403,
    a_body_may_be_missing_where_nothing_need_be_said,
);

const NIL: &str = "00000000-0000-0000-0000-000000000000";

#[expect(clippy::too_many_lines, reason = "one table of bodies")]
async fn a_body_that_is_not_what_it_must_be_is_400(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let service = node.token(Role::Service);
    let mitra = node.online_mitra().await;
    let other = node.online_mitra().await;
    let searching = desk.searching().await;
    let active = desk.taken(mitra.id, Payment::Paid, LONG).await;
    let before = [desk.session(searching).await, desk.session(active).await];
    let mut fences = Vec::new();
    for mitra in [&mitra, &other] {
        fences.push(in_agreement(&world, &node, mitra.id).await.fence);
    }
    let id = other.id;
    let accept = |field: &str, value: &str| {
        let mut body = json!({ "mitra_id": id, "payment": "paid", "duration_seconds": 60 });
        match value {
            "" => drop(body.as_object_mut().unwrap().remove(field)),
            value => body[field] = serde_json::from_str(value).unwrap(),
        }
        body.to_string()
    };
    let long_reason = json!({ "reason": "x".repeat(201) }).to_string();
    let cases: Vec<(String, Vec<String>)> = vec![
        (
            String::new(),
            [
                "not json",
                "",
                "[]",
                "null",
                "{}",
                r#"{"customer_id":"42"}"#,
                r#"{"customer_id":7}"#,
                &format!(r#"{{"customer_id":"{NIL}"}}"#),
                &format!(r#"{{"customer_id":"{id}","id":"{NIL}"}}"#),
                &format!(r#"{{"customer_id":"{id}","id":"42"}}"#),
                &format!(r#"{{"customer_id":"{id}","colour":"blue"}}"#),
                &format!(r#"{{"customer_id":"{id}","customer_id":"{id}"}}"#),
            ]
            .map(str::to_owned)
            .into(),
        ),
        (
            format!("/{searching}/accept"),
            vec![
                "not json".to_owned(),
                String::new(),
                accept("mitra_id", ""),
                accept("mitra_id", "null"),
                accept("mitra_id", r#""42""#),
                accept("payment", ""),
                accept("payment", r#""later""#),
                accept("payment", "true"),
                accept("duration_seconds", ""),
                accept("duration_seconds", "null"),
                accept("duration_seconds", r#""60""#),
                accept("duration_seconds", "0"),
                accept("duration_seconds", "-1"),
                accept("duration_seconds", "-0.0"),
                accept("duration_seconds", "2592000.1"),
                accept("duration_seconds", "1e300"),
                accept("expires_at", r#""2020-01-01T00:00:00Z""#),
            ],
        ),
        (
            format!("/{active}/extend"),
            [
                "not json",
                "",
                "{}",
                r#"{"seconds":0}"#,
                r#"{"seconds":-5}"#,
                r#"{"seconds":1e300}"#,
                r#"{"seconds":2592001}"#,
                r#"{"seconds":"9"}"#,
                r#"{"seconds":null}"#,
                r#"{"seconds":9,"by":1}"#,
            ]
            .map(str::to_owned)
            .into(),
        ),
        (
            format!("/{active}/reroute"),
            ["not json", "[]", r#"{"mitra_id":"42"}"#, r#"{"mitra":"x"}"#].map(str::to_owned).into(),
        ),
        (
            format!("/{active}/end"),
            ["not json", r#"{"reason":7}"#, r#"{"why":"x"}"#, &long_reason].map(str::to_owned).into(),
        ),
        (format!("/{active}/confirm-payment"), ["not json", r#"{"paid":true}"#].map(str::to_owned).into()),
    ];
    for (path, bodies) in cases {
        for body in bodies {
            let path = format!("/internal/sessions{path}");
            let request = node.request(Method::POST, &path, &service).header("content-type", "application/json");
            let reply = node.send(request.body(body.clone())).await;
            assert_eq!(reply.problem(), refused(400, "bad_request"), "{path} {body}");
        }
    }
    let no_type = node.request(Method::POST, &format!("/internal/sessions/{active}/end"), &service).body("{}");
    assert_eq!(node.send(no_type).await.problem(), refused(400, "bad_request"));
    assert_eq!([desk.session(searching).await, desk.session(active).await], before, "nothing half-written");
    for (mitra, fence) in [&mitra, &other].into_iter().zip(fences) {
        assert_eq!(in_agreement(&world, &node, mitra.id).await.fence, fence);
    }
    let counts = node.store().session_counts().await.unwrap();
    assert_eq!((counts.searching, counts.active), (1, 1), "no session came of any of these");
}

async fn what_is_not_there_is_404(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mitra = node.online_mitra().await;
    let calls: [(&str, Value); 5] = [
        ("accept", json!({ "mitra_id": mitra.id, "payment": Payment::Paid, "duration_seconds": 60 })),
        ("confirm-payment", json!({})),
        ("extend", json!({ "seconds": 60 })),
        ("reroute", json!({ "mitra_id": mitra.id })),
        ("end", json!({})),
    ];
    for (call, body) in calls {
        for unknown in [Uuid::new_v4(), Uuid::nil()] {
            let reply = desk.does(unknown, call, body.clone()).await;
            assert_eq!(reply.problem(), refused(404, "unknown_session"), "{call}");
        }
        let reply = desk.post(&format!("/42/{call}"), body).await;
        assert_eq!(reply.problem(), refused(400, "bad_request"), "{call}");
    }
    let service = node.token(Role::Service);
    let reply = node.get(&format!("/internal/sessions/{}", Uuid::new_v4()), &service).await;
    assert_eq!(reply.problem(), refused(404, "unknown_session"));
    assert_eq!(node.get("/internal/sessions/42", &service).await.problem(), refused(400, "bad_request"));
    let unknown = desk.post(&format!("/{}/dance", Uuid::new_v4()), json!({})).await;
    assert_eq!(unknown.problem(), refused(404, "not_found"));
    let reply = node.get(&format!("/internal/sessions/{}/end", Uuid::new_v4()), &service).await;
    assert_eq!(reply.problem(), refused(405, "method_not_allowed"));
    assert_eq!(in_agreement(&world, &node, mitra.id).await.sessions, 0);
}

async fn a_wrong_role_is_403(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let session = desk.searching().await;
    let path = format!("/internal/sessions/{session}");
    let before = desk.session(session).await;
    for role in Role::ALL {
        let token = node.token(role);
        if role != Role::Service {
            for (call, body) in [
                (String::from("/internal/sessions"), json!({ "customer_id": Uuid::new_v4() })),
                (format!("{path}/accept"), json!({ "mitra_id": session, "payment": "paid", "duration_seconds": 1 })),
                (format!("{path}/confirm-payment"), json!({})),
                (format!("{path}/extend"), json!({ "seconds": 1 })),
                (format!("{path}/reroute"), json!({})),
                (format!("{path}/end"), json!({})),
            ] {
                assert_eq!(
                    node.post(&call, &token, body).await.problem(),
                    refused(403, "forbidden"),
                    "{call} {role:?}"
                );
            }
        }
        let reply = node.get(&path, &token).await;
        match role {
            Role::Service | Role::Dashboard => assert_eq!(reply.json(), before),
            Role::Mitra | Role::Customer => assert_eq!(reply.problem(), refused(403, "forbidden")),
        }
    }
    assert_eq!(node.post(&format!("{path}/end"), "", json!({})).await.problem(), refused(401, "unauthorized"));
    assert_eq!(desk.session(session).await, before);
}

async fn a_body_may_be_missing_where_nothing_need_be_said(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let (service, mitra) = (node.token(Role::Service), node.online_mitra().await);
    let session = desk.taken(mitra.id, Payment::Pending, LONG).await;
    for call in ["confirm-payment", "reroute", "end"] {
        let reply = node.ask(Method::POST, &format!("/internal/sessions/{session}/{call}"), &service, None).await;
        assert_eq!(reply.status.as_u16(), 200, "{call}: {}", reply.text);
    }
    assert_eq!(desk.status_of(session).await, hadir::domain::SessionStatus::Cancelled);
}
