//! Postgres without a shared mirror is one node: the lock that says so, and that nodes with one hold together.

use std::time::Duration;

use hadir::store::{
    StoreError,
    postgres::{NodeLock, PostgresSettings},
};

use sqlx::{Connection, PgConnection};

use super::settings;
use crate::support::{eventually, postgres};

fn quick(url: &str, schema: &str) -> PostgresSettings {
    let mut settings = settings(url, schema);
    settings.query_timeout = Duration::from_millis(500);
    settings.acquire_timeout = Duration::from_secs(2);
    settings
}

/// What the server says, without taking part: the first column of the first row; `None` without one, or without a server.
async fn said(settings: &PostgresSettings, sql: &'static str) -> Option<i32> {
    let mut connection = PgConnection::connect(&settings.url).await.ok()?;
    let answer = sqlx::query_scalar(sql).fetch_optional(&mut connection).await;
    let _closed = connection.close().await;
    answer.ok()?
}

const HOLDER: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'";
const ONE_OF_MANY: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ShareLock'";
/// Twice as long as sessions may idle here.
const IDLED: &str = "SELECT pid FROM pg_stat_activity WHERE application_name = 'hadir node' AND state = 'idle' \
    AND clock_timestamp() - state_change > interval '600 ms'";

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
    let first = eventually("it has idled", async || said(&settings, IDLED).await).await;
    assert_eq!(said(&settings, HOLDER).await, Some(first), "and its session lives");
    refused().await.expect("still held");
    server.stop();
    server.start();
    let other_than = async |former: i32| said(&settings, HOLDER).await.filter(|holder| *holder != former);
    let second = eventually("the lock is held again", async || other_than(first).await).await;
    refused().await.expect("held");
    server.freeze();
    // How long the fault lasts: beyond the deadline of the look at the session.
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.thaw();
    eventually("the lock is held anew", async || other_than(second).await).await;
    refused().await.expect("held");
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
    let why = tokio::time::timeout(crate::support::PATIENCE, node.keep())
        .await
        .expect("the node notices that it lost the lock");
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
    server.set("log_connections", "on");
    let settings = quick(&server.url("postgres"), "shared");
    let node = NodeLock::together(&settings).await.expect("one of many");
    server.kill();
    server.start();
    let stray = eventually("a stray node is faster", async || NodeLock::alone(&settings).await.ok()).await;
    let attempts = || server.log().matches("application_name=hadir node").count();
    let before = attempts();
    let kept = tokio::spawn(node.keep());
    eventually("it has tried again and again", async || (attempts() >= before + 3).then_some(())).await;
    assert!(!kept.is_finished(), "it does not stop");
    drop(stray);
    eventually("the lock is held together again", async || said(&settings, ONE_OF_MANY).await).await;
    assert!(!kept.is_finished(), "it does not stop");
    kept.abort();
}
