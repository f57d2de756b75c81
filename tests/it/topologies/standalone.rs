//! One server at one address. Its replica is promoted by hand, and the address moves there: what a managed service or a
//! load balancer does.

use chrono::Utc;

use super::fleet::Stage;
use crate::support::{World, valkey::Server};

#[tokio::test]
async fn a_fleet_outlives_a_primary_whose_address_moves_to_its_replica() {
    let mut primary = Server::start();
    let replica = primary.replica();
    let mut stage = Stage::set(World::with_valkey_at(primary.url(0)).await, "").await;
    stage.is_in_order(&primary).await;
    stage.news_cross().await;
    let epoch = stage.epoch().await;

    let loss = Utc::now();
    primary.kill();
    stage.staff_deactivates_one().await;
    stage.outlasts_the_offline_time(loss).await;
    replica.raw().ask(&["REPLICAOF", "NO", "ONE"]);
    stage.valkey_moves(replica.address());

    stage.is_in_order(&replica).await;
    stage.news_cross().await;
    assert_ne!(stage.epoch().await, epoch, "another server is another epoch");
    stage.only_the_silent_are_swept().await;
    stage.is_in_order(&replica).await;
    stage.nobody_was_harmed().await;
}

/// As in a planned change: the old primary lives on and follows the new one, and connections to it stand.
#[tokio::test]
async fn nodes_leave_a_primary_that_was_demoted_under_them() {
    let primary = Server::start();
    let replica = primary.replica();
    let mut stage = Stage::set(World::with_valkey_at(primary.url(0)).await, "").await;
    stage.is_in_order(&primary).await;

    replica.raw().ask(&["REPLICAOF", "NO", "ONE"]);
    primary.raw().ask(&["REPLICAOF", "127.0.0.1", &replica.port().to_string()]);
    stage.valkey_moves(replica.address());
    stage.staff_deactivates_one().await;

    stage.is_in_order(&replica).await;
    stage.news_cross().await;
    stage.only_the_silent_are_swept().await;
    stage.nobody_was_harmed().await;
}

/// `min-replicas-to-write`: what keeps a primary that was replaced, and does not know it, from taking writes.
#[tokio::test]
async fn a_primary_that_takes_no_writes_without_a_replica_is_not_believed() {
    let primary = Server::start();
    let stage = Stage::set(World::with_valkey_at(primary.url(0)).await, "").await;
    stage.is_in_order(&primary).await;

    primary.raw().ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    stage.goes_on_without_valkey().await;
    let replica = primary.replica();

    stage.is_in_order(&primary).await;
    stage.news_cross().await;
    stage.only_the_silent_are_swept().await;
    stage.nobody_was_harmed().await;
    drop(replica);
}
