//! Lists of mitras, page by page, by state and by search.

use std::collections::BTreeSet;

use hadir::domain::{Actor, MitraId, Mode, Role};
use serde_json::json;
use uuid::Uuid;

use super::mitras::put;
use crate::support::{Backend, Node, World, node::Mitra, on_both, on_cluster, proxy::Traffic};

on_both!(
    lists_are_paged_by_key_and_lose_nobody,
    lists_are_filtered_by_state_and_searched,
    each_state_comes_in_full_pages_however_many_are_in_another,
    a_cursor_belongs_to_its_list,
);

on_cluster!(the_suspect_come_in_full_pages_from_the_store_while_the_mirror_is_away);

async fn lists_are_paged_by_key_and_lose_nobody(world: World) {
    let node = world.node().await;
    let service = node.token(Role::Service);
    let mut all = BTreeSet::new();
    for _ in 0..25 {
        all.insert(node.mitra().await.id.to_string());
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = node.good(&format!("/internal/mitras?limit=10{cursor}"), &service).await;
        let ids = page["mitras"].as_array().unwrap().iter().map(|mitra| mitra["mitra_id"].as_str().unwrap().to_owned());
        seen.extend(ids);
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((seen.len(), pages), (25, 3));
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all);
}

async fn lists_are_filtered_by_state_and_searched(world: World) {
    let node = world.node().await;
    let service = node.token(Role::Service);
    let (free, busy, offline, gone) =
        (node.mitra().await, node.mitra_with_capacity(Some(0)).await, node.mitra().await, node.mitra().await);
    for mitra in [&free, &busy] {
        node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    }
    node.deactivate(&gone).await;
    put(&node, free.id, json!({ "display_name": "Ratna 100%_sure" })).await;
    let listed = async |query: String| {
        let page = node.good(&format!("/internal/mitras?{query}"), &service).await;
        let ids = page["mitras"].as_array().unwrap().iter().map(|mitra| mitra["mitra_id"].as_str().unwrap().to_owned());
        ids.collect::<BTreeSet<String>>()
    };
    let of = |mitras: &[&Mitra]| mitras.iter().map(|mitra| mitra.id.to_string()).collect();
    let expected: [(&str, BTreeSet<String>); 6] = [
        ("online", of(&[&free, &busy])),
        ("available", of(&[&free])),
        ("busy", of(&[&busy])),
        ("suspect", of(&[])),
        ("offline", of(&[&offline])),
        ("deactivated", of(&[&gone])),
    ];
    for (state, ids) in expected {
        assert_eq!(listed(format!("state={state}")).await, ids, "{state}");
    }
    assert_eq!(listed("search=rAtNa".into()).await, of(&[&free]));
    assert_eq!(listed("search=100%25_s".into()).await, of(&[&free]), "wildcards are letters");
    assert_eq!(listed("search=_____".into()).await, of(&[]));
    let id = free.id.to_string();
    for part in [&id[..13], &id[3..30], &id[20..], &id.replace('-', "")[5..27], &id.to_uppercase()[9..]] {
        assert_eq!(listed(format!("search={part}")).await, of(&[&free]), "{part}");
    }
    assert_eq!(listed("search=-".into()).await, of(&[]), "a dash alone is no part of an id");
}

/// More than a page in each state.
const EACH: u128 = 222;

/// Nothing turns suspect by itself; the silent have been so longer than any node waits.
const PATIENT: [(&str, &str); 4] = [
    ("HEARTBEAT_INTERVAL_SECONDS", "200"),
    ("HEARTBEAT_SUSPECT_SECONDS", "600"),
    ("MITRA_OFFLINE_AFTER_SECONDS", "86400"),
    ("SNAPSHOT_WINDOW_MS", "50"),
];

fn nth(n: u128) -> MitraId {
    MitraId(Uuid::from_u128((n << 96) | 1))
}

/// In order of id: suspect with room, busy, available, suspect without room, and so on. The later a suspect comes, the
/// longer it has been silent.
async fn fleet(world: &World) -> Node {
    if world.backend == Backend::Embedded {
        // It makes the tables.
        world.node().await.stop().await;
    }
    let all = || (0..EACH * 4).map(|n| (n, nth(n)));
    let made = all().map(|(n, id)| format!("('{id}', 'Mitra {n}', {})", u32::from(matches!(n % 4, 0 | 2))));
    let made = made.collect::<Vec<_>>().join(", ");
    world.run(|_| format!("INSERT INTO mitras (id, display_name, max_sessions) VALUES {made}")).await;
    world.run(|_| "UPDATE mitra_status SET is_online = true".to_owned()).await;
    world
        .run(|ago| {
            let silent = all().filter(|(n, _)| matches!(n % 4, 0 | 3)).map(|(n, id)| {
                let at = ago(10_000_000 + n as u64 * 1_000);
                format!("UPDATE mitra_heartbeats SET last_heartbeat_at = {at} WHERE mitra_id = '{id}';")
            });
            silent.collect()
        })
        .await;
    world.node_with(&PATIENT).await
}

/// The ids of each page.
async fn pages(node: &Node, query: &str) -> Vec<Vec<String>> {
    let (service, mut cursor, mut pages) = (node.token(Role::Service), String::new(), Vec::new());
    loop {
        let page = node.good(&format!("/internal/mitras?{query}{cursor}"), &service).await;
        let ids = page["mitras"].as_array().unwrap().iter().map(|mitra| mitra["mitra_id"].as_str().unwrap().to_owned());
        pages.push(ids.collect::<Vec<_>>());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages,
        }
    }
}

fn ids(numbers: impl Iterator<Item = u128>) -> Vec<String> {
    numbers.map(|n| nth(n).to_string()).collect()
}

async fn each_state_comes_in_full_pages_however_many_are_in_another(world: World) {
    let node = fleet(&world).await;
    for (state, rest) in [("busy", 1), ("available", 2)] {
        let pages = pages(&node, &format!("state={state}&limit=200")).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [200, 22], "{state}");
        assert_eq!(pages.concat(), ids((0..EACH).map(|n| n * 4 + rest)), "{state} by id");
    }
    let suspect = pages(&node, "state=suspect&limit=200").await;
    assert_eq!(suspect.iter().map(Vec::len).collect::<Vec<_>>(), [200, 200, 44]);
    let by_silence = ids((0..EACH * 4).rev().filter(|n| matches!(n % 4, 0 | 3)));
    assert_eq!(suspect.concat(), by_silence, "the longest silence first");
    assert_eq!(pages(&node, "state=suspect&limit=148").await.len(), 3, "none is empty, the last one is full");
    let found = pages(&node, "state=suspect&limit=200&search=MITRA").await;
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [200, 200, 44], "searched");
    assert_eq!(pages(&node, "state=suspect&search=mitra%20884").await.concat(), ids([884].into_iter()));
    let overview = node.good("/internal/counts", &node.token(Role::Service)).await;
    let counts = &overview["counts"];
    assert_eq!((&counts["suspect"], &counts["busy"], &counts["available"]), (&json!(444), &json!(222), &json!(222)));
    node.stop().await;
}

async fn a_cursor_belongs_to_its_list(world: World) {
    let node = fleet(&world).await;
    let service = node.token(Role::Service);
    let cursor = async |state: &str| {
        let page = node.good(&format!("/internal/mitras?state={state}&limit=1"), &service).await;
        page["next_cursor"].as_str().expect("more").to_owned()
    };
    for (from, to) in [("online", "suspect"), ("suspect", "online"), ("suspect", "available")] {
        let path = format!("/internal/mitras?state={to}&cursor={}", cursor(from).await);
        let reply = node.get(&path, &service).await;
        assert_eq!(reply.problem(), (400, "bad_request".to_owned()), "{from} to {to}");
        assert_eq!(reply.json()["detail"], "`cursor` belongs to a list with another `state`: begin without one");
    }
    node.stop().await;
}

async fn the_suspect_come_in_full_pages_from_the_store_while_the_mirror_is_away(world: World) {
    let node = fleet(&world).await;
    let service = node.token(Role::Service);
    let first = node.good("/internal/mitras?state=suspect&limit=200", &service).await;
    assert_eq!(first["source"], "valkey");
    node.mirror_traffic(Traffic::Cut);
    node.reaches(Mode::Fallback).await;
    let path = format!("/internal/mitras?state=suspect&cursor={}", first["next_cursor"].as_str().unwrap());
    let refused = node.get(&path, &service).await;
    assert_eq!(refused.problem(), (400, "bad_request".to_owned()), "another clock, another order");
    let suspect = pages(&node, "state=suspect&limit=200").await;
    assert_eq!(suspect.iter().map(Vec::len).collect::<Vec<_>>(), [200, 200, 44]);
    assert_eq!(suspect.concat(), ids((0..EACH * 4).rev().filter(|n| matches!(n % 4, 0 | 3))));
    for (state, rest) in [("busy", 1), ("available", 2)] {
        let found = pages(&node, &format!("state={state}&limit=200")).await;
        assert_eq!(found.concat(), ids((0..EACH).map(|n| n * 4 + rest)), "{state}");
    }
    let again = node.good("/internal/mitras?state=suspect&limit=1", &service).await;
    assert_eq!(again["source"], "postgres");
    node.stop().await;
}
