//! "Is anybody there?" by REST and as a stream of events.

use std::time::Duration;

use futures_util::StreamExt;
use hadir::domain::{Role, SubjectId};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Node, PATIENCE, World, on_both};

on_both!(
    the_answer_carries_a_weak_etag_and_an_unchanged_one_is_304,
    customers_services_and_dashboards_may_ask_and_mitras_not,
    the_stream_begins_with_the_current_state_and_tells_each_change,
    the_stream_ends_with_its_token_and_with_the_node,
);

const PATH: &str = "/api/client/availability";
const STREAM: &str = "/api/client/availability/stream";

async fn the_answer_carries_a_weak_etag_and_an_unchanged_one_is_304(world: World) {
    let node = world.node().await;
    let customer = node.token(Role::Customer);
    let first = node.get(PATH, &customer).await;
    let body = first.json();
    let etag = first.header("etag").unwrap().to_owned();
    assert_eq!(etag, format!("W/\"{}-{}\"", body["epoch"].as_str().unwrap(), body["version"]));
    assert_eq!(first.header("cache-control"), Some("private, no-cache"));
    let asked_again =
        async || node.send(node.request(Method::GET, PATH, &customer).header("if-none-match", &etag)).await;
    let unchanged = asked_again().await;
    assert_eq!((unchanged.status.as_u16(), unchanged.text.as_str()), (304, ""));
    assert_eq!(unchanged.header("etag"), Some(&*etag));
    node.online_mitra().await;
    crate::support::eventually("changed", async || {
        let reply = asked_again().await;
        (reply.status.as_u16() == 200).then(|| assert_eq!(reply.json()["any"], true))
    })
    .await;
}

async fn customers_services_and_dashboards_may_ask_and_mitras_not(world: World) {
    let node = world.node().await;
    for role in [Role::Customer, Role::Service, Role::Dashboard] {
        assert_eq!(node.good(PATH, &node.token(role)).await["any"], false);
    }
    for path in [PATH, STREAM] {
        assert_eq!(node.get(path, &node.mitra().await.token).await.problem(), (403, "forbidden".into()));
        assert_eq!(node.get(path, "").await.problem(), (401, "unauthorized".into()));
    }
}

/// The events of a stream as they come: `id` and `data`.
async fn events(node: &Node, token: &str) -> impl futures_util::Stream<Item = (String, Value)> + use<> {
    let response = node.request(Method::GET, STREAM, token).send().await.expect("answered");
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = futures_util::stream::unfold((response.bytes_stream(), String::new()), |(mut bytes, mut held)| async {
        loop {
            if let Some(end) = held.find("\n\n") {
                let event: String = held.drain(..end + 2).collect();
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_start().to_owned())
                };
                if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                    return Some(((id, serde_json::from_str(&data).expect("JSON")), (bytes, held)));
                }
                continue;
            }
            held.push_str(std::str::from_utf8(&bytes.next().await?.ok()?).expect("text"));
        }
    });
    Box::pin(text)
}

async fn the_stream_begins_with_the_current_state_and_tells_each_change(world: World) {
    let node = world.node().await;
    let mut events = std::pin::pin!(events(&node, &node.token(Role::Customer)).await);
    let (id, first) = events.next().await.unwrap();
    assert_eq!(first["any"], false);
    assert_eq!(id, format!("{}-{}", first["epoch"].as_str().unwrap(), first["version"]));
    assert!(first.get("type").is_none());
    node.online_mitra().await;
    let (id, change) = tokio::time::timeout(PATIENCE, events.next()).await.expect("told").unwrap();
    assert_eq!((&change["any"], &change["available"]), (&json!(true), &json!(1)));
    assert!(id.ends_with(&format!("-{}", change["version"])));
}

async fn the_stream_ends_with_its_token_and_with_the_node(world: World) {
    let node = world.node().await;
    let short = node.token_for(SubjectId(Uuid::new_v4()), Role::Customer, None, Duration::from_secs(1));
    let ending = events(&node, &short).await.collect::<Vec<_>>();
    let ended = tokio::time::timeout(PATIENCE, ending).await.expect("ended with the token");
    assert_eq!(ended.len(), 1);
    let staying = events(&node, &node.token(Role::Customer)).await;
    let ((), ended) = tokio::join!(node.stop(), staying.collect::<Vec<_>>());
    assert_eq!(ended.len(), 1);
}
