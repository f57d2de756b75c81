//! A committed change is in the mirror when the caller hears that it is done.

use hadir::{
    domain::{Actor, Cause},
    presence::PresenceError,
};

use super::in_agreement;
use crate::support::{World, on_both};

on_both!(
    online_is_in_the_mirror_when_it_is_acknowledged,
    offline_is_in_the_mirror_when_it_is_acknowledged,
    a_deactivated_mitra_is_offline_in_both,
    a_reactivated_mitra_is_active_and_still_offline,
    capacity_moves_a_mitra_in_and_out_of_the_available,
    a_deactivated_mitra_cannot_go_online,
    an_unknown_mitra_cannot_do_anything,
);

async fn online_is_in_the_mirror_when_it_is_acknowledged(world: World) {
    let node = world.node().await;
    let mitra = node.mitra().await;
    let change = node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    let row = in_agreement(&world, &node, mitra.id).await;
    assert!(row.online && change.online && change.fence == row.fence);
    assert_eq!(node.presence().overview().await.unwrap().counts.available, 1);
}

async fn offline_is_in_the_mirror_when_it_is_acknowledged(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    node.presence().go_offline(mitra.id, Actor::Mitra).await.unwrap();
    assert!(!in_agreement(&world, &node, mitra.id).await.online);
    assert_eq!(node.presence().overview().await.unwrap().counts.online, 0);
}

async fn a_deactivated_mitra_is_offline_in_both(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    node.deactivate(&mitra).await;
    let row = in_agreement(&world, &node, mitra.id).await;
    assert!(!row.active && !row.online);
    assert_eq!(node.presence().overview().await.unwrap().counts.deactivated, 1);
}

async fn a_reactivated_mitra_is_active_and_still_offline(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    node.deactivate(&mitra).await;
    node.presence().set_active(mitra.id, true, Cause::new(Actor::Service, "came back")).await.unwrap();
    let row = in_agreement(&world, &node, mitra.id).await;
    assert!(row.active && !row.online);
    node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    assert!(in_agreement(&world, &node, mitra.id).await.online);
}

async fn capacity_moves_a_mitra_in_and_out_of_the_available(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    for (capacity, available) in [(0, 0), (5, 1)] {
        node.presence().put_mitra(mitra.id, "Sari", Some(capacity), Actor::Service).await.unwrap();
        let row = in_agreement(&world, &node, mitra.id).await;
        assert_eq!(row.max_sessions, capacity);
        let counts = node.presence().overview().await.unwrap().counts;
        assert_eq!((counts.available, counts.busy), (available, 1 - available));
    }
}

async fn a_deactivated_mitra_cannot_go_online(world: World) {
    let node = world.node().await;
    let mitra = node.mitra().await;
    node.deactivate(&mitra).await;
    assert_eq!(node.presence().go_online(mitra.id, Actor::Mitra).await, Err(PresenceError::Deactivated));
    assert!(!in_agreement(&world, &node, mitra.id).await.online);
}

async fn an_unknown_mitra_cannot_do_anything(world: World) {
    let node = world.node().await;
    let nobody = hadir::domain::MitraId(uuid::Uuid::new_v4());
    let presence = node.presence();
    let unknown = PresenceError::UnknownMitra;
    assert_eq!(presence.go_online(nobody, Actor::Mitra).await.unwrap_err(), unknown);
    assert_eq!(presence.go_offline(nobody, Actor::Mitra).await.unwrap_err(), unknown);
    assert_eq!(presence.set_active(nobody, false, Cause::new(Actor::Service, "")).await.unwrap_err(), unknown);
    assert_eq!(presence.heartbeat(nobody).await.unwrap_err(), unknown);
    assert_eq!(presence.reachable(nobody).await.unwrap_err(), unknown);
    assert_eq!(presence.explain(nobody).await.unwrap_err(), unknown);
}
