//! A cluster of three primaries and their replicas. All keys are in one slot, so one primary holds them all; news travel
//! by plain pub/sub, which every server of a cluster passes on.

use chrono::Utc;

use super::fleet::Stage;
use crate::support::{World, cluster::ValkeyCluster, valkey::Raw};

/// What every key begins with unless something else is configured.
const PREFIX: &str = "{hadir}:";

#[tokio::test]
async fn a_fleet_outlives_the_primary_of_its_slot() {
    let mut valkey = ValkeyCluster::start().await;
    let mut stage = Stage::set(World::with_valkey_at(valkey.url(PREFIX)).await, PREFIX).await;
    stage.is_in_order(valkey.owner(PREFIX)).await;
    stage.news_cross().await;
    other_programs_hear_the_news_anywhere(&valkey, &stage).await;
    let epoch = stage.epoch().await;

    let loss = Utc::now();
    valkey.owner(PREFIX).kill();
    stage.staff_deactivates_one().await;
    stage.outlasts_the_offline_time(loss).await;
    valkey.promoted(PREFIX).await;

    stage.is_in_order(valkey.heir(PREFIX)).await;
    stage.news_cross().await;
    other_programs_hear_the_news_anywhere(&valkey, &stage).await;
    assert_ne!(stage.epoch().await, epoch, "another server is another epoch");
    stage.only_the_silent_are_swept().await;
    stage.is_in_order(valkey.heir(PREFIX)).await;
    stage.nobody_was_harmed().await;
}

/// As by a kernel that hangs: connections stand and nothing is answered. When it thaws it takes itself for the primary.
#[tokio::test]
async fn a_frozen_primary_of_the_slot_is_left_and_harms_nobody_when_it_thaws() {
    let mut valkey = ValkeyCluster::start().await;
    let mut stage = Stage::set(World::with_valkey_at(valkey.url(PREFIX)).await, PREFIX).await;
    stage.is_in_order(valkey.owner(PREFIX)).await;

    valkey.owner(PREFIX).freeze();
    stage.staff_deactivates_one().await;
    valkey.promoted(PREFIX).await;
    stage.is_in_order(valkey.heir(PREFIX)).await;
    valkey.owner(PREFIX).thaw();

    stage.news_cross().await;
    valkey.follows(PREFIX).await;
    stage.only_the_silent_are_swept().await;
    stage.is_in_order(valkey.heir(PREFIX)).await;
    stage.nobody_was_harmed().await;
}

/// Nothing is lost and no connection breaks: the old primary says where the slot has moved to.
#[tokio::test]
async fn nodes_follow_a_planned_failover() {
    let mut valkey = ValkeyCluster::start().await;
    let mut stage = Stage::set(World::with_valkey_at(valkey.url(PREFIX)).await, PREFIX).await;
    stage.is_in_order(valkey.owner(PREFIX)).await;

    valkey.heir(PREFIX).raw().ask(&["CLUSTER", "FAILOVER"]);
    stage.staff_deactivates_one().await;
    valkey.promoted(PREFIX).await;
    valkey.follows(PREFIX).await;

    stage.is_in_order(valkey.heir(PREFIX)).await;
    stage.news_cross().await;
    stage.only_the_silent_are_swept().await;
    stage.nobody_was_harmed().await;
}

#[tokio::test]
async fn a_fleet_outlives_a_primary_that_holds_none_of_its_keys() {
    let mut valkey = ValkeyCluster::start().await;
    let mut stage = Stage::set(World::with_valkey_at(valkey.url(PREFIX)).await, PREFIX).await;
    stage.is_in_order(valkey.owner(PREFIX)).await;

    valkey.lose_another(PREFIX);
    stage.staff_deactivates_one().await;
    valkey.well_again().await;

    stage.is_in_order(valkey.owner(PREFIX)).await;
    stage.news_cross().await;
    stage.only_the_silent_are_swept().await;
    stage.nobody_was_harmed().await;
}

/// A program with a plain SUBSCRIBE on a server that holds none of the keys.
async fn other_programs_hear_the_news_anywhere(valkey: &ValkeyCluster, stage: &Stage) {
    let mut listening: Vec<Raw> = valkey.others(PREFIX).map(|server| server.raw()).collect();
    for raw in &mut listening {
        assert_eq!(raw.ask(&["DBSIZE"]).number(), 0, "all keys are in one slot");
        raw.ask(&["SUBSCRIBE", "{hadir}:availability:events"]);
    }
    stage.news_cross().await;
    for raw in &mut listening {
        let [kind, channel, snapshot]: [String; 3] = raw.next().list().try_into().expect("a message");
        assert_eq!((&*kind, &*channel), ("message", "{hadir}:availability:events"));
        assert!(snapshot.contains("\"type\":\"availability\""), "{snapshot}");
    }
}
