//! Postgres without a shared mirror is one node: the lock that says so.

use std::time::Duration;

use hadir::store::{
    StoreError,
    postgres::{PostgresSettings, SingleNode},
};

use super::settings;
use crate::support::{eventually, postgres};

fn quick(url: &str, schema: &str) -> PostgresSettings {
    let mut settings = settings(url, schema);
    settings.query_timeout = Duration::from_millis(500);
    settings.acquire_timeout = Duration::from_secs(2);
    settings
}

#[tokio::test]
async fn a_second_node_is_refused_until_the_first_is_gone() {
    let schema = postgres::schema().await;
    let settings = settings(&schema.url, &schema.name);
    let first = SingleNode::take(&settings).await.expect("alone");
    match SingleNode::take(&settings).await {
        Err(StoreError::Invalid(why)) => assert!(why.contains("stop it, or set VALKEY_URL"), "{why}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("two at once"),
    }
    // Another schema is another truth.
    let other = postgres::schema().await;
    SingleNode::take(&super::settings(&other.url, &other.name)).await.expect("alone");
    drop(first);
    eventually("the lock is free", async || SingleNode::take(&settings).await.ok()).await;
}

#[tokio::test]
async fn the_lock_survives_idling_and_a_restart_or_a_freeze_of_the_server() {
    let mut server = postgres::dedicated();
    server.set("idle_session_timeout", "300ms");
    let settings = quick(&server.url("postgres"), "alone");
    let node = SingleNode::take(&settings).await.expect("alone");
    let kept = tokio::spawn(node.keep());
    let refused = async || match SingleNode::take(&settings).await {
        Err(StoreError::Invalid(_)) => Some(()),
        _ => None,
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    refused().await.expect("still held");
    server.stop();
    server.start();
    // Whoever asks in the moment between gets it and gives it back at once: not what is meant here, so wait first.
    tokio::time::sleep(Duration::from_secs(3)).await;
    eventually("the lock is held again", refused).await;
    server.freeze();
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.thaw();
    tokio::time::sleep(Duration::from_secs(3)).await;
    eventually("the lock is held again", refused).await;
    assert!(!kept.is_finished(), "its own former session is no other node");
    kept.abort();
}

#[tokio::test]
async fn a_node_whose_lock_went_to_another_is_told_to_stop() {
    let mut server = postgres::dedicated();
    let settings = quick(&server.url("postgres"), "alone");
    let node = SingleNode::take(&settings).await.expect("alone");
    server.kill();
    server.start();
    let _faster = eventually("another takes the lock", async || SingleNode::take(&settings).await.ok()).await;
    let why = tokio::time::timeout(Duration::from_secs(30), node.keep()).await.expect("noticed");
    assert!(matches!(&why, StoreError::Invalid(why) if why.contains("another Hadir")), "{why:?}");
}
