//! Two deployments on one Valkey without prefixes: the second offers only its own, and the first notices nothing.

use std::time::Duration;

use hadir::domain::{Actor, Mode, Role};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    presence::Keys,
    support::{Node, World, eventually, node::Mitra, process, valkey::Server},
};

/// Two stores, and the one server that both are given.
async fn worlds() -> (Server, World, World) {
    let server = Server::start();
    let first = World::with_valkey_at(server.url(0)).await;
    let second = World::with_valkey_at(server.url(0)).await;
    (server, first, second)
}

async fn mirror_check(node: &Node) -> Value {
    let ready = node.get("/readyz", "").await;
    assert_eq!(ready.status.as_u16(), 200, "{}", ready.text);
    let checks = ready.json()["checks"].as_array().unwrap().clone();
    checks.into_iter().find(|check| check["name"] == "mirror").expect("a check of the mirror")
}

/// A mitra with this id, online in this node's store.
async fn online_twin(node: &Node, of: &Mitra) {
    node.presence().put_mitra(of.id, "Twin", Some(3), Actor::Service).await.unwrap();
    node.presence().go_online(of.id, Actor::Mitra).await.unwrap();
}

#[tokio::test]
async fn each_of_two_stores_on_one_valkey_offers_its_own_mitras_only() {
    let (server, first, second) = worlds().await;
    let here = first.node().await;
    let mitras = [here.online_mitra().await, here.online_mitra().await];
    let mut customer = here.dial_customer().await;
    customer.sees(2).await;
    let before = mitras.each_ref().map(|mitra| Keys::of(&first, mitra.id));

    let there = second.node().await;
    there.reaches(Mode::Fallback).await;
    let mut their_customer = there.dial_customer().await;
    let shown = their_customer.frame("availability").await;
    assert_eq!((&shown["available"], &shown["source"]), (&json!(0), &json!("postgres")), "{shown}");
    let own = there.online_mitra().await;
    assert_eq!(their_customer.sees(1).await["source"], "postgres");
    // Ids may be the same in both, in a database that was copied by hand for instance.
    online_twin(&there, &mitras[0]).await;
    there.presence().go_offline(mitras[0].id, Actor::Mitra).await.unwrap();
    let service = there.token(Role::Service);
    let offered = there.good("/internal/mitras/available", &service).await;
    assert_eq!((&offered["total"], &offered["mitras"][0]["mitra_id"]), (&json!(1), &json!(own.id)), "{offered}");
    let check = mirror_check(&there).await;
    assert_eq!(check["ok"], false);
    assert!(check["detail"].as_str().unwrap().contains("VALKEY_KEY_PREFIX"), "{check}");
    let reseed = there.post("/internal/reseed", &service, json!({})).await;
    assert_eq!(reseed.status.as_u16(), 503, "{}", reseed.text);

    // The first lives on, and its customers heard nothing of it.
    assert_eq!(here.presence().mode(), Mode::Live);
    assert_eq!(mirror_check(&here).await["ok"], true);
    assert_eq!(mitras.each_ref().map(|mitra| Keys::of(&first, mitra.id)).map(|keys| keys.available), [true, true]);
    assert_eq!(mitras.each_ref().map(|mitra| Keys::of(&first, mitra.id)), before);
    let heard = tokio::time::timeout(Duration::from_millis(200), customer.frame("availability")).await;
    assert!(heard.is_err() || heard.is_ok_and(|frame| frame["available"] == 2));
    assert_eq!(server.raw().ask(&["SCARD", "mitras:online"]).number(), 2);

    // With a prefix both have a mirror of their own.
    let apart = second.node_with(&[("VALKEY_KEY_PREFIX", "second:")]).await;
    apart.reaches(Mode::Live).await;
    eventually("its mirror counts its own", async || {
        let counts = apart.good("/internal/counts", &service).await;
        (counts["counts"]["available"] == 1 && counts["source"] == "valkey").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_takes_the_mirror_when_the_other_store_is_gone_from_it() {
    let (server, first, second) = worlds().await;
    let here = first.node().await;
    here.online_mitra().await;
    let there = second.node().await;
    there.reaches(Mode::Fallback).await;
    let own = there.online_mitra().await;
    here.stop().await;
    // As the message says, for a store that is gone for good.
    server.raw().ask(&["DEL", "hadir:store"]);
    there.reaches(Mode::Live).await;
    eventually("the keys hold its own mitra only", async || {
        let online = server.raw().ask(&["SMEMBERS", "mitras:online"]).list();
        (online == [own.id.to_string()]).then_some(())
    })
    .await;
    let check = mirror_check(&there).await;
    assert_eq!(check["ok"], true, "{check}");
}

#[tokio::test]
async fn the_log_and_the_check_say_whose_mirror_it_is_and_what_to_do() {
    let (_server, first, second) = worlds().await;
    let here = first.node().await;
    here.online_mitra().await;
    let folder = TempDir::new().unwrap();
    let program = |word: &str| {
        let mut command = process::hadir(&folder);
        command.arg(word).envs(second.environment()).env("HADIR_LOG_FORMAT", "json");
        command
    };
    let checked = program("check").output().unwrap();
    let lines = String::from_utf8_lossy(&checked.stdout).into_owned() + &process::said(&checked);
    assert!(!checked.status.success(), "{lines}");
    assert!(lines.contains("another store") && lines.contains("VALKEY_KEY_PREFIX"), "{lines}");

    let log = folder.path().join("log");
    let mut serve = program("serve");
    serve.stderr(std::fs::File::create(&log).unwrap());
    let started = tokio::task::spawn_blocking(move || process::Running::start_heard(serve));
    let (_running, printed) = started.await.unwrap();
    let metrics = format!("{}/metrics", printed["internal_url"].as_str().expect("an address"));
    let refusals = async || {
        let text = reqwest::get(&metrics).await.ok()?.text().await.ok()?;
        let line = text.lines().find(|line| line.contains("op=\"tick\"") && line.contains("\"error\""))?.to_owned();
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    // It is polled many times, and says it once.
    eventually("the mirror refused often", async || refusals().await.filter(|refused| *refused >= 6.0)).await;
    let text = std::fs::read_to_string(&log).unwrap();
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("\"ERROR\"")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert!(errors[0].contains("another store") && errors[0].contains("VALKEY_KEY_PREFIX"), "{}", errors[0]);
    assert!(!text.contains("\"WARN\""), "one line for one trouble: {text}");
}
