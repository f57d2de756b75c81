//! Mitras as operators and services manage and look into them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hadir::domain::{Actor, MitraId, Role};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Node, World, on_both};

on_both!(
    a_mitra_is_created_and_updated_by_put,
    the_available_are_a_fair_spread_with_a_total,
    one_mitra_is_reachable_or_says_why_not,
);

pub async fn put(node: &Node, id: MitraId, body: Value) -> Value {
    let reply = node.ask(Method::PUT, &format!("/internal/mitras/{id}"), &node.token(Role::Service), Some(body)).await;
    assert_eq!(reply.status.as_u16(), 200, "{}", reply.text);
    reply.json()
}

async fn a_mitra_is_created_and_updated_by_put(world: World) {
    let node = world.node_with(&[("MITRA_MAX_SESSIONS", "3")]).await;
    let id = MitraId(Uuid::new_v4());
    let created = put(&node, id, json!({ "display_name": " Sari " })).await;
    assert_eq!(
        (&created["display_name"], &created["max_sessions"]),
        (&json!("Sari"), &json!(3)),
        "the default capacity"
    );
    assert_eq!((&created["online"], &created["active"]), (&json!(false), &json!(true)));
    let updated = put(&node, id, json!({ "display_name": "Sari W", "max_sessions": 5 })).await;
    assert_eq!((&updated["display_name"], &updated["max_sessions"]), (&json!("Sari W"), &json!(5)));
    let kept = put(&node, id, json!({ "display_name": "Sari" })).await;
    assert_eq!(kept["max_sessions"], 5, "left as it was");
}

async fn the_available_are_a_fair_spread_with_a_total(world: World) {
    const DRAWS: u64 = 1_500;
    // However long the draws take, nobody turns suspect.
    let timing = [
        ("HEARTBEAT_INTERVAL_SECONDS", "200"),
        ("HEARTBEAT_SUSPECT_SECONDS", "600"),
        ("MITRA_OFFLINE_AFTER_SECONDS", "3600"),
    ];
    let node = world.node_with(&timing).await;
    let service = node.token(Role::Service);
    let mut expected = BTreeSet::new();
    for _ in 0..12 {
        expected.insert(node.online_mitra().await.id);
    }
    // Not offered: one without room, one offline, one deactivated.
    let full = node.mitra_with_capacity(Some(0)).await;
    node.presence().go_online(full.id, Actor::Mitra).await.unwrap();
    node.mitra().await;
    node.deactivate(&node.online_mitra().await).await;
    let answer = node.good("/internal/mitras/available?limit=3", &service).await;
    assert_eq!((&answer["total"], answer["mitras"].as_array().unwrap().len()), (&json!(12), 3), "{answer}");
    for mitra in answer["mitras"].as_array().unwrap() {
        assert_eq!((&mitra["sessions"], &mitra["max_sessions"]), (&json!(0), &json!(1)));
        assert!(mitra["heartbeat_age_ms"].is_u64());
    }
    // From the mirror, and from the store as it answers while the mirror is away.
    for from_store in [false, true] {
        let mut drawn: BTreeMap<MitraId, u64> = BTreeMap::new();
        for _ in 0..DRAWS {
            let page = if from_store {
                node.store().find_available(Duration::from_secs(600), 2).await.unwrap()
            } else {
                node.presence().find_available(2).await.unwrap().value
            };
            assert_eq!((page.total, page.mitras.len()), (12, 2));
            assert_ne!(page.mitras[0].id, page.mitras[1].id);
            page.mitras.iter().for_each(|mitra| *drawn.entry(mitra.id).or_default() += 1);
        }
        assert_eq!(drawn.keys().copied().collect::<BTreeSet<_>>(), expected);
        // 250 each are expected; six standard deviations, sqrt(1500 * 1/6 * 5/6) = 14.4, to either side.
        assert!(drawn.values().all(|times| (164..=336).contains(times)), "{drawn:?}");
    }
}

async fn one_mitra_is_reachable_or_says_why_not(world: World) {
    let node = world.node().await;
    let (service, mitra) = (node.token(Role::Service), node.online_mitra().await);
    let path = format!("/internal/mitras/{}/reachable", mitra.id);
    let answer = node.good(&path, &service).await;
    assert_eq!((&answer["reachable"], &answer["available"]), (&json!(true), &json!(true)));
    node.presence().put_mitra(mitra.id, "Sari", Some(0), Actor::Service).await.unwrap();
    let answer = node.good(&path, &service).await;
    assert_eq!((&answer["reachable"], &answer["available"]), (&json!(true), &json!(false)));
    node.presence().go_offline(mitra.id, Actor::Mitra).await.unwrap();
    assert_eq!(node.good(&path, &service).await["reachable"], false);
}
