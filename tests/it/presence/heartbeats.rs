//! Heartbeats: from a socket or by REST into one batch, refused where they must be, written to the store at a slower pace.

use std::time::Duration;

use hadir::domain::{Actor, MitraId};
use serde_json::json;

use super::{Keys, in_agreement};
use crate::support::{Closed, Node, World, eventually, on_both, on_cluster};

on_both!(
    a_heartbeat_extends_life,
    a_rest_heartbeat_is_accepted_online_answered_offline_and_refused_when_deactivated,
    a_heartbeat_of_an_offline_mitra_gives_no_life,
    any_frame_is_a_heartbeat,
    the_heartbeat_mirror_writes_only_what_beat_since_and_is_idempotent,
);

on_cluster!(
    a_refused_heartbeat_teaches_a_node_that_missed_a_deactivation,
    a_heartbeat_on_another_node_than_the_command_joins_the_new_online_epoch,
    the_heartbeat_mirror_is_idempotent_over_two_nodes,
    a_batch_of_heartbeats_is_one_call_of_valkey,
);

/// Age of the newest heartbeat, as the mirror knows it.
async fn age(node: &Node, id: MitraId) -> Duration {
    node.presence().reachable(id).await.unwrap().value.heartbeat_age.expect("a heartbeat")
}

/// Waits until the newest heartbeat is at least so old.
async fn ages_to(node: &Node, id: MitraId, at_least: Duration) {
    eventually("the heartbeat ages", async || (age(node, id).await >= at_least).then_some(())).await;
}

const OLD: Duration = Duration::from_millis(300);

async fn a_heartbeat_extends_life(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    ages_to(&node, mitra.id, OLD).await;
    socket.is_alive().await;
    eventually("younger again", async || (age(&node, mitra.id).await < OLD).then_some(())).await;
    in_agreement(&world, &node, mitra.id).await;
}

async fn a_rest_heartbeat_is_accepted_online_answered_offline_and_refused_when_deactivated(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    ages_to(&node, mitra.id, OLD).await;
    let beat = async || node.post("/api/mitra/status/heartbeat", &mitra.token, json!({})).await;
    let answer = beat().await;
    assert_eq!((answer.status.as_u16(), &answer.json()["online"]), (200, &json!(true)));
    eventually("delivered", async || (age(&node, mitra.id).await < OLD).then_some(())).await;
    node.presence().go_offline(mitra.id, Actor::Mitra).await.unwrap();
    let answer = beat().await;
    assert_eq!((answer.status.as_u16(), &answer.json()["online"]), (200, &json!(false)));
    node.deactivate(&mitra).await;
    assert_eq!(beat().await.problem(), (403, "deactivated".into()));
    node.flushed().await;
    assert!(!in_agreement(&world, &node, mitra.id).await.online);
}

async fn a_heartbeat_of_an_offline_mitra_gives_no_life(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    socket.commands("offline").await;
    for _ in 0..3 {
        socket.is_alive().await;
        node.flushed().await;
    }
    assert!(!in_agreement(&world, &node, mitra.id).await.online);
    assert_eq!(node.presence().overview().await.unwrap().counts.online, 0);
}

async fn any_frame_is_a_heartbeat(world: World) {
    use futures_util::SinkExt;
    use tokio_tungstenite::tungstenite::{Bytes, Message};
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    let frames = [
        Message::Ping(Bytes::new()),
        Message::Pong(Bytes::new()),
        Message::text(r#"{"type":"ping"}"#),
        Message::text(r#"{"type":"online"}"#),
        Message::text("nonsense"),
    ];
    for frame in frames {
        ages_to(&node, mitra.id, OLD).await;
        socket.ws.send(frame.clone()).await.unwrap();
        eventually(&format!("{frame:?}"), async || (age(&node, mitra.id).await < OLD).then_some(())).await;
    }
}

async fn the_heartbeat_mirror_writes_only_what_beat_since_and_is_idempotent(world: World) {
    let node = world.node().await;
    let (beating, silent) = (node.online_mitra().await, node.online_mitra().await);
    let mut socket = node.dial_mitra(&beating).await;
    node.flushed().await;
    assert_eq!(node.heartbeats().save().await.unwrap(), 1);
    assert_eq!(node.heartbeats().save().await.unwrap(), 0, "nobody has beaten since");
    let stored = async |id| node.store().mitra(id).await.unwrap().unwrap().heartbeat_age.unwrap();
    eventually("time passes", async || (stored(beating.id).await >= OLD).then_some(())).await;
    socket.is_alive().await;
    node.flushed().await;
    assert_eq!(node.heartbeats().save().await.unwrap(), 1);
    assert!(stored(beating.id).await < stored(silent.id).await);
}

async fn a_refused_heartbeat_teaches_a_node_that_missed_a_deactivation(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let mitra = here.online_mitra().await;
    let mut socket = there.dial_mitra(&mitra).await;
    // The other node writes, and nobody is told: its announcement is lost as pub/sub may lose it.
    let cause = hadir::domain::Cause::new(Actor::Dashboard, "unheard");
    let row = here.store().set_active(mitra.id, false, &cause).await.unwrap().row;
    let mut valkey = world.valkey();
    let id = mitra.id.to_string();
    let hadir::domain::Fence { generation, revision } = row.fence;
    let record = format!("d:{}:{generation}:{revision}:0:1", row.online_epoch);
    valkey.ask(&["HSET", "hadir:mitras", &id, &record]);
    for key in ["mitras:liveness", "mitras:available"] {
        valkey.ask(&["ZREM", key, &id]);
    }
    valkey.ask(&["SREM", "mitras:online", &id]);
    valkey.ask(&["SADD", "mitras:deactivated", &id]);
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.closed().await, Closed::new(4503, "deactivated"));
}

async fn a_heartbeat_on_another_node_than_the_command_joins_the_new_online_epoch(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let mitra = here.online_mitra().await;
    let mut socket = there.dial_mitra(&mitra).await;
    here.presence().go_offline(mitra.id, Actor::Mitra).await.unwrap();
    here.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    ages_to(&here, mitra.id, OLD).await;
    socket.is_alive().await;
    eventually("accepted in the new epoch", async || (age(&here, mitra.id).await < OLD).then_some(())).await;
}

async fn the_heartbeat_mirror_is_idempotent_over_two_nodes(world: World) {
    let nodes = [world.node().await, world.node().await];
    let mitra = nodes[0].online_mitra().await;
    let mut sockets = [nodes[0].dial_mitra(&mitra).await, nodes[1].dial_mitra(&mitra).await];
    for socket in &mut sockets {
        socket.is_alive().await;
    }
    nodes[1].flushed().await;
    nodes[0].flushed().await;
    let at = async || {
        let row: (chrono::DateTime<chrono::Utc>,) =
            sqlx::query_as("SELECT last_heartbeat_at FROM mitra_heartbeats WHERE mitra_id = $1")
                .bind(mitra.id.0)
                .fetch_one(world.sql())
                .await
                .unwrap();
        row.0
    };
    nodes[1].heartbeats().save().await.unwrap();
    let newest = at().await;
    // The other node heard its socket earlier: its older time changes nothing.
    nodes[0].heartbeats().save().await.unwrap();
    assert!(at().await >= newest);
    let before = at().await;
    for node in &nodes {
        assert_eq!(node.heartbeats().save().await.unwrap(), 0);
    }
    assert_eq!(at().await, before);
    assert!(Keys::of(&world, mitra.id).liveness);
}

async fn a_batch_of_heartbeats_is_one_call_of_valkey(world: World) {
    let node = world.node_with(&[("HEARTBEAT_FLUSH_MS", "10000")]).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mitra = node.online_mitra().await;
        sockets.push(node.dial_mitra(&mitra).await);
    }
    node.flushed().await;
    let calls = || {
        let metrics = node.get("/metrics", "");
        async move {
            let text = metrics.await.text;
            let line =
                text.lines().find(|line| line.starts_with("hadir_mirror_commands_total{op=\"beat\",result=\"ok\"}"));
            line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        }
    };
    let before = calls().await;
    for socket in &mut sockets {
        for _ in 0..5 {
            socket.is_alive().await;
        }
    }
    node.flushed().await;
    assert_eq!(calls().await - before, 1, "a hundred pings of twenty mitras");
}
