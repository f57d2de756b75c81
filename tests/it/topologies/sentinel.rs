//! Three Sentinels, which promote the replica by themselves. Servers and Sentinels have passwords of their own.

use chrono::Utc;

use super::fleet::Stage;
use crate::support::{World, sentinels::Sentinels};

#[tokio::test]
async fn a_fleet_outlives_a_primary_that_sentinels_replace() {
    let mut valkey = Sentinels::start().await;
    let mut stage = Stage::set(World::with_valkey_at(valkey.url()).await, "").await;
    stage.is_in_order(&valkey.primary).await;
    stage.news_cross().await;
    let epoch = stage.epoch().await;

    let loss = Utc::now();
    valkey.primary.kill();
    stage.staff_deactivates_one().await;
    stage.outlasts_the_offline_time(loss).await;
    valkey.promoted().await;

    stage.is_in_order(&valkey.replica).await;
    stage.news_cross().await;
    assert_ne!(stage.epoch().await, epoch, "another server is another epoch");
    stage.only_the_silent_are_swept().await;
    stage.is_in_order(&valkey.replica).await;
    stage.nobody_was_harmed().await;
}

/// As by a kernel that hangs: connections stand and nothing is answered. When it thaws it takes itself for the primary,
/// until the Sentinels tell it otherwise.
#[tokio::test]
async fn a_frozen_primary_is_left_and_harms_nobody_when_it_thaws() {
    let valkey = Sentinels::start().await;
    let mut stage = Stage::set(World::with_valkey_at(valkey.url()).await, "").await;
    stage.is_in_order(&valkey.primary).await;

    valkey.primary.freeze();
    stage.staff_deactivates_one().await;
    valkey.promoted().await;
    stage.is_in_order(&valkey.replica).await;
    valkey.primary.thaw();

    stage.news_cross().await;
    valkey.follows().await;
    stage.only_the_silent_are_swept().await;
    stage.is_in_order(&valkey.replica).await;
    stage.nobody_was_harmed().await;
}

/// Sentinels tell of each other, and a client goes by the newest list. When all of that list are gone (moved, renamed), the
/// addresses that were configured count again.
#[tokio::test]
async fn nodes_ask_the_sentinel_they_were_given_when_those_it_named_are_gone() {
    let mut valkey = Sentinels::start().await;
    let stage = Stage::set(World::with_valkey_at(valkey.url_of(1)).await, "").await;
    stage.is_in_order(&valkey.primary).await;

    valkey.lose_all_but_one();
    valkey.primary.kill();
    valkey.primary.restart();

    stage.is_in_order(&valkey.primary).await;
    stage.news_cross().await;
    stage.only_the_silent_are_swept().await;
    stage.nobody_was_harmed().await;
}
