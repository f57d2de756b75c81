//! Postgres without a shared mirror is one node: the lock that says so, and that nodes with one hold together.

use std::time::Duration;

use hadir::store::{
    StoreError,
    postgres::{NodeLock, PostgresSettings},
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
    let first = NodeLock::alone(&settings).await.expect("alone");
    match NodeLock::alone(&settings).await {
        Err(StoreError::Invalid(why)) => assert!(why.contains("stop it, or set VALKEY_URL"), "{why}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("two at once"),
    }
    // Another schema is another truth.
    let other = postgres::schema().await;
    NodeLock::alone(&super::settings(&other.url, &other.name)).await.expect("alone");
    drop(first);
    eventually("the lock is free", async || NodeLock::alone(&settings).await.ok()).await;
}

#[tokio::test]
async fn the_lock_survives_idling_and_a_restart_or_a_freeze_of_the_server() {
    let mut server = postgres::dedicated();
    server.set("idle_session_timeout", "300ms");
    let settings = quick(&server.url("postgres"), "alone");
    let node = NodeLock::alone(&settings).await.expect("alone");
    let kept = tokio::spawn(node.keep());
    let refused = async || match NodeLock::alone(&settings).await {
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
    let node = NodeLock::alone(&settings).await.expect("alone");
    server.kill();
    server.start();
    let _faster = eventually("another takes the lock", async || NodeLock::alone(&settings).await.ok()).await;
    let why = tokio::time::timeout(Duration::from_secs(30), node.keep()).await.expect("noticed");
    assert!(matches!(&why, StoreError::Invalid(why) if why.contains("another Hadir")), "{why:?}");
}

fn refusal(answer: Result<NodeLock, StoreError>) -> String {
    match answer {
        Err(StoreError::Invalid(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("taken"),
    }
}

#[tokio::test]
async fn a_node_that_must_be_alone_and_nodes_that_share_a_mirror_refuse_each_other() {
    let schema = postgres::schema().await;
    let settings = settings(&schema.url, &schema.name);
    let first = NodeLock::together(&settings).await.expect("one of many");
    let second = NodeLock::together(&settings).await.expect("another of many");
    drop(first);
    let why = refusal(NodeLock::alone(&settings).await);
    assert!(why.contains("another Hadir") && why.contains("must be alone"), "{why}");
    drop(second);
    let alone = eventually("the lock is free", async || NodeLock::alone(&settings).await.ok()).await;
    let why = refusal(NodeLock::together(&settings).await);
    assert!(why.contains("a Hadir without Valkey"), "{why}");
    drop(alone);
    eventually("the lock is free", async || NodeLock::together(&settings).await.ok()).await;
}

#[tokio::test]
async fn a_node_with_a_mirror_goes_on_beside_a_stray_one_and_has_its_lock_when_that_is_gone() {
    let mut server = postgres::dedicated();
    let settings = quick(&server.url("postgres"), "shared");
    let node = NodeLock::together(&settings).await.expect("one of many");
    server.kill();
    server.start();
    let stray = eventually("a stray node is faster", async || NodeLock::alone(&settings).await.ok()).await;
    let kept = tokio::spawn(node.keep());
    // Longer than it takes to notice and to try again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!kept.is_finished(), "it does not stop");
    drop(stray);
    // Whoever asks in the moment between gets it and gives it back at once.
    eventually("the lock is held together again", async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match NodeLock::alone(&settings).await {
            Err(StoreError::Invalid(_)) => Some(()),
            _ => None,
        }
    })
    .await;
    assert!(!kept.is_finished(), "it does not stop");
    kept.abort();
}
