//! Everything that is wrong gets its exact answer: status, code, and words that say what to do.

use hadir::domain::{MitraId, Role};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{World, on_both};

on_both!(
    no_bad_or_expired_token_is_401_everywhere,
    a_wrong_role_is_403_everywhere,
    an_unknown_path_is_404_and_a_wrong_method_405,
    a_bad_uuid_is_400_and_an_unknown_mitra_404,
    a_body_that_is_not_what_it_must_be_is_400,
    what_is_wrong_with_a_body_or_a_query_is_said_in_our_words,
    no_answer_speaks_of_types_of_the_program,
    a_nul_is_refused_and_a_backslash_before_its_letters_is_text,
    a_body_over_64_kib_is_413,
    a_query_that_is_not_what_it_must_be_is_400,
    two_authorization_headers_are_401,
);

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// Every call that needs a token: method, path, roles that may, a body that is right.
fn calls() -> Vec<(Method, String, Vec<Role>, Value)> {
    use Role::{Customer, Dashboard, Mitra, Service};
    let watchers = vec![Customer, Service, Dashboard];
    let readers = vec![Service, Dashboard];
    let mut calls = vec![
        (Method::GET, "/api/client/availability", watchers.clone(), Value::Null),
        (Method::GET, "/api/client/availability/stream", watchers, Value::Null),
        (Method::GET, "/api/mitra/status", vec![Mitra], Value::Null),
        (Method::POST, "/api/mitra/status/online", vec![Mitra], json!({})),
        (Method::POST, "/api/mitra/status/offline", vec![Mitra], json!({})),
        (Method::POST, "/api/mitra/status/heartbeat", vec![Mitra], json!({})),
        (Method::GET, "/internal/counts", readers.clone(), Value::Null),
        (Method::GET, "/internal/nodes", readers.clone(), Value::Null),
        (Method::GET, "/internal/sweeps", readers.clone(), Value::Null),
        (Method::GET, "/internal/mitras", readers.clone(), Value::Null),
        (Method::GET, "/internal/mitras/available", readers.clone(), Value::Null),
        (Method::POST, "/internal/disconnect", readers.clone(), json!({ "sub": NOBODY })),
        (Method::POST, "/internal/reseed", vec![Service], json!({})),
        (Method::POST, "/internal/sweeps/reseed/pause", readers.clone(), json!({ "seconds": 1 })),
        (Method::POST, "/internal/sweeps/reseed/resume", readers.clone(), json!({})),
    ]
    .into_iter()
    .map(|(method, path, roles, body)| (method, path.to_owned(), roles, body))
    .collect::<Vec<_>>();
    calls.push((Method::GET, format!("/internal/mitras/{NOBODY}"), readers.clone(), Value::Null));
    calls.push((Method::GET, format!("/internal/mitras/{NOBODY}/reachable"), readers.clone(), Value::Null));
    calls.push((Method::PUT, format!("/internal/mitras/{NOBODY}"), vec![Service], json!({ "display_name": "Sari" })));
    calls.push((Method::PATCH, format!("/internal/mitras/{NOBODY}/status"), readers, json!({ "is_active": true })));
    calls.push((Method::PUT, "/internal/mitras/42".to_owned(), vec![Service], json!({ "display_name": "Sari" })));
    calls
}

async fn no_bad_or_expired_token_is_401_everywhere(world: World) {
    let node = world.node().await;
    let expired = node.expired_token(Role::Service);
    let foreign = {
        let other = crate::support::World::new(crate::support::Backend::Embedded).await;
        let secret = [("AUTH_JWT_SECRET", "another secret of 32 characters!")];
        other.node_with(&secret).await.token(Role::Service)
    };
    for (method, path, _, body) in calls() {
        for token in ["", "nonsense", &expired, &foreign] {
            let reply = node.ask(method.clone(), &path, token, Some(body.clone())).await;
            assert_eq!(reply.problem(), (401, "unauthorized".into()), "{method} {path}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
}

async fn a_wrong_role_is_403_everywhere(world: World) {
    let node = world.node().await;
    for (method, path, roles, body) in calls() {
        for role in Role::ALL.into_iter().filter(|role| !roles.contains(role)) {
            let reply = node.ask(method.clone(), &path, &node.token(role), Some(body.clone())).await;
            assert_eq!(reply.problem(), (403, "forbidden".into()), "{method} {path} as {role:?}");
            // Whoever may not call is not told what the call would take.
            let reply = node.ask(method.clone(), &path, &node.token(role), Some(json!(["nonsense"]))).await;
            assert_eq!(reply.problem(), (403, "forbidden".into()), "{method} {path} as {role:?}");
        }
    }
}

async fn an_unknown_path_is_404_and_a_wrong_method_405(world: World) {
    let node = world.node().await;
    let service = node.token(Role::Service);
    for path in ["/api/client/nothing", "/internal/nothing", "/api/", "/internal/mitras/a/b/c", "/assets/nothing.js"] {
        assert_eq!(node.get(path, &service).await.problem(), (404, "not_found".into()), "{path}");
    }
    // Each listener has its own paths only.
    let url = format!("http://{}/internal/counts", node.public());
    assert_eq!(reqwest::Client::new().get(url).bearer_auth(&service).send().await.unwrap().status().as_u16(), 404);
    for (method, path) in [
        (Method::DELETE, "/api/client/availability"),
        (Method::GET, "/api/mitra/status/online"),
        (Method::POST, "/internal/counts"),
        (Method::PUT, "/internal/reseed"),
    ] {
        let reply = node.ask(method.clone(), path, &service, None).await;
        assert_eq!(reply.problem(), (405, "method_not_allowed".into()), "{method} {path}");
        assert!(reply.header("allow").is_some(), "{method} {path}");
    }
}

async fn a_bad_uuid_is_400_and_an_unknown_mitra_404(world: World) {
    let node = world.node().await;
    let service = node.token(Role::Service);
    let bad = (400, "bad_request".to_owned());
    for path in ["/internal/mitras/42", "/internal/mitras/42/reachable", "/internal/mitras/x%20y"] {
        assert_eq!(node.get(path, &service).await.problem(), bad, "{path}");
    }
    let unknown = (404, "unknown_mitra".to_owned());
    for path in [format!("/internal/mitras/{NOBODY}"), format!("/internal/mitras/{NOBODY}/reachable")] {
        assert_eq!(node.get(&path, &service).await.problem(), unknown, "{path}");
    }
    let path = format!("/internal/mitras/{NOBODY}/status");
    let reply = node.ask(Method::PATCH, &path, &service, Some(json!({ "is_active": false }))).await;
    assert_eq!(reply.problem(), unknown);
    let nobody = node.token_of(MitraId(Uuid::new_v4()), Role::Mitra);
    for (method, path) in [(Method::GET, ""), (Method::POST, "/online"), (Method::POST, "/heartbeat")] {
        let reply = node.ask(method, &format!("/api/mitra/status{path}"), &nobody, Some(json!({}))).await;
        assert_eq!(reply.problem(), (403, "unknown_mitra".into()), "{path}");
    }
}

async fn a_body_that_is_not_what_it_must_be_is_400(world: World) {
    let node = world.node().await;
    let (service, mitra) = (node.token(Role::Service), node.mitra().await);
    let put = format!("/internal/mitras/{}", mitra.id);
    let before = node.store().mitra(mitra.id).await.unwrap();
    let status = format!("{put}/status");
    let cases = [
        (Method::PUT, &*put, "not json"),
        (Method::PUT, &put, "[]"),
        (Method::PUT, &put, r#"{"display_name":7}"#),
        (Method::PUT, &put, r#"{"display_name":""}"#),
        (Method::PUT, &put, r#"{"display_name":"Sari","max_sessions":-1}"#),
        (Method::PUT, &put, r#"{"display_name":"Sari","max_sessions":1000000}"#),
        (Method::PUT, &put, r#"{"display_name":"Sari","max_sessions":1.5}"#),
        (Method::PUT, &put, r#"{"display_name":"Sari","colour":"blue"}"#),
        (Method::PUT, &put, r#"{}"#),
        (Method::PATCH, &status, r#"{"is_active":"no"}"#),
        (Method::PATCH, &status, r#"{"reason":"x"}"#),
        (Method::POST, "/internal/disconnect", r#"{"sub":"42"}"#),
        (Method::POST, "/internal/disconnect", r#"{}"#),
        (Method::POST, "/internal/sweeps/reseed/pause", r#"{"seconds":"long"}"#),
    ];
    for (method, path, body) in cases {
        let request =
            node.request(method.clone(), path, &service).header("content-type", "application/json").body(body);
        assert_eq!(node.send(request).await.problem(), (400, "bad_request".into()), "{method} {path} {body}");
    }
    let no_type = node.request(Method::PUT, &put, &service).body(r#"{"display_name":"Sari"}"#);
    assert_eq!(node.send(no_type).await.problem(), (400, "bad_request".into()));
    let long = json!({ "display_name": "x".repeat(201) });
    assert_eq!(node.ask(Method::PUT, &put, &service, Some(long)).await.problem().0, 400);
    assert_eq!(
        node.store().mitra(mitra.id).await.unwrap().unwrap().fence,
        before.unwrap().fence,
        "nothing half-written"
    );
}

async fn what_is_wrong_with_a_body_or_a_query_is_said_in_our_words(world: World) {
    let node = world.node().await;
    let service = node.token(Role::Service);
    let put = format!("/internal/mitras/{NOBODY}");
    let status = format!("{put}/status");
    let pause = "/internal/sweeps/reseed/pause";
    let accept = format!("/internal/sessions/{NOBODY}/accept");
    for (method, path, body, detail) in [
        (Method::POST, pause, "", "the field `seconds` is missing"),
        (Method::POST, pause, "{}", "the field `seconds` is missing"),
        (Method::POST, pause, r#"{"seconds":"60"}"#, "the field `seconds` is wrong: it must be a number"),
        (Method::POST, pause, r#"{"seconds":60"#, "the body is not JSON: it breaks at line 1, column 13"),
        (Method::POST, pause, r#"{"for":60}"#, "the field `for` is unknown; known here: `seconds`"),
        (Method::POST, pause, "[60]", "the body is a JSON object"),
        (Method::PUT, &put, r#"{"display_name":7}"#, "the field `display_name` is wrong: it must be a text"),
        (
            Method::PUT,
            &put,
            r#"{"display_name":"Sari","max_sessions":-1}"#,
            "the field `max_sessions` is wrong: it must be a whole number, 0 or more",
        ),
        (Method::PATCH, &status, r#"{"is_active":"no"}"#, "the field `is_active` is wrong: it must be true or false"),
        (Method::POST, "/internal/disconnect", r#"{"sub":"42"}"#, "the field `sub` is wrong: it must be a UUID"),
        (
            Method::POST,
            &accept,
            r#"{"mitra_id":"a0000000-0000-4000-8000-000000000001","payment":"later","duration_seconds":60}"#,
            "the field `payment` is wrong: it must be one of `paid`, `pending`",
        ),
    ] {
        let request = node.request(method, path, &service).header("content-type", "application/json").body(body);
        let reply = node.send(request).await;
        assert_eq!(reply.problem(), (400, "bad_request".into()), "{path} {body}");
        assert_eq!(reply.json()["detail"], detail, "{path} {body}");
    }
    for (query, detail) in [
        ("mitras?limit=many", "the field `limit` is wrong: it must be a whole number, 0 or more"),
        ("mitras?limit=", "the field `limit` is wrong: it must be a whole number, 0 or more"),
        ("mitras/available?limit=-1", "the field `limit` is wrong: it must be a whole number, 0 or more"),
        ("mitras/available?limit=1&limit=2", "the field `limit` is there twice"),
        ("mitras?order=name", "the field `order` is unknown; known here: `state`, `search`, `cursor`, `limit`"),
    ] {
        let reply = node.get(&format!("/internal/{query}"), &service).await;
        assert_eq!(reply.problem(), (400, "bad_request".into()), "{query}");
        assert_eq!(reply.json()["detail"], format!("the query is wrong: {detail}"), "{query}");
    }
}

/// Every call that takes a body, with everything that a body may be by mistake.
async fn no_answer_speaks_of_types_of_the_program(world: World) {
    let node = world.node().await;
    let service = node.token(Role::Service);
    let fields = [
        "display_name",
        "max_sessions",
        "is_active",
        "reason",
        "sub",
        "seconds",
        "customer_id",
        "id",
        "mitra_id",
        "payment",
        "duration_seconds",
    ];
    let values = ["null", "7", "-1", "1e400", "1.5", "true", r#""secret-value""#, "[]", "{}", r#"{"a":{"b":1}}"#];
    let bodies: Vec<String> = fields
        .iter()
        .flat_map(|field| values.map(|value| format!(r#"{{"{field}":{value}}}"#)))
        .chain(["", "{", "null", "7", "[[]]", "\"\\ud800\"", "{\"a\":\"\u{1}\"}", "\u{feff}{}"].map(str::to_owned))
        .collect();
    let session = format!("/internal/sessions/{NOBODY}");
    let calls = [
        (Method::PUT, format!("/internal/mitras/{NOBODY}")),
        (Method::PATCH, format!("/internal/mitras/{NOBODY}/status")),
        (Method::POST, "/internal/disconnect".to_owned()),
        (Method::POST, "/internal/sweeps/reseed/pause".to_owned()),
        (Method::POST, "/internal/sessions".to_owned()),
        (Method::POST, format!("{session}/accept")),
        (Method::POST, format!("{session}/confirm-payment")),
        (Method::POST, format!("{session}/extend")),
        (Method::POST, format!("{session}/reroute")),
        (Method::POST, format!("{session}/end")),
    ];
    let foreign =
        ["u32", "f64", "i64", "usize", "struct", "enum", "variant", "Option", "invalid type", "expected value", "EOF"];
    for (method, path) in &calls {
        for body in &bodies {
            let request = node
                .request(method.clone(), path, &service)
                .header("content-type", "application/json")
                .body(body.clone());
            let reply = node.send(request).await;
            assert!(reply.status.as_u16() < 500, "{method} {path} {body}: {}", reply.text);
            for word in foreign.into_iter().chain(["secret-value"]) {
                let is_said = reply.status.as_u16() == 400 && reply.text.contains(word);
                assert!(!is_said, "`{word}` in the answer to {method} {path} {body}: {}", reply.text);
            }
        }
    }
}

async fn a_nul_is_refused_and_a_backslash_before_its_letters_is_text(world: World) {
    let node = world.node().await;
    let (service, mitra) = (node.token(Role::Service), node.mitra().await);
    let path = format!("/internal/mitras/{}", mitra.id);
    for name in [r"a\u0000b", r"a\\u0000b"] {
        let expected = json!(name);
        let reply = node.ask(Method::PUT, &path, &service, Some(json!({ "display_name": expected }))).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["display_name"]), (200, &expected), "{}", reply.text);
        assert_eq!(json!(node.store().profile(mitra.id).await.unwrap().unwrap().display_name), expected);
    }
    for name in ["a\0b", "\\\0", "\0"] {
        let reply = node.ask(Method::PUT, &path, &service, Some(json!({ "display_name": name }))).await;
        assert_eq!(reply.problem(), (400, "bad_request".into()), "{name:?}");
    }
}

async fn a_body_over_64_kib_is_413(world: World) {
    let node = world.node().await;
    let path = format!("/internal/mitras/{}", node.mitra().await.id);
    let body = json!({ "display_name": "x".repeat(64 * 1024) });
    let reply = node.ask(Method::PUT, &path, &node.token(Role::Service), Some(body)).await;
    assert_eq!(reply.problem(), (413, "too_large".into()));
}

async fn a_query_that_is_not_what_it_must_be_is_400(world: World) {
    let node = world.node().await;
    let service = node.token(Role::Service);
    for query in [
        "mitras/available?limit=0",
        "mitras/available?limit=-1",
        "mitras/available?limit=many",
        "mitras/available?limit=100000",
        "mitras/available?colour=blue",
        "mitras?limit=0",
        "mitras?state=dancing",
        "mitras?cursor=nonsense",
        "mitras?order=name",
    ] {
        assert_eq!(
            node.get(&format!("/internal/{query}"), &service).await.problem(),
            (400, "bad_request".into()),
            "{query}"
        );
    }
}

async fn two_authorization_headers_are_401(world: World) {
    let node = world.node().await;
    let token = format!("Bearer {}", node.token(Role::Service));
    let request = node.request(Method::GET, "/internal/counts", "").header("authorization", &token);
    assert_eq!(node.send(request.header("authorization", &token)).await.problem(), (401, "unauthorized".into()));
}
