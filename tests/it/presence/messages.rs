//! Messages on the mirror's channels: any program can send one, so a node believes none, and none holds up the others.

use std::{sync::Arc, time::Duration};

use hadir::{
    domain::{Actor, Cause, MitraId, NodeId, Role, Source, StatusChange, StatusReason, SubjectId},
    hub::{Holder, Hub, HubLimits},
    mirror::{Mirror, MirrorSettings, Write, memory::MemoryMirror},
    protocol::ControlMessage,
    replication::{Replication, ReplicationSettings},
    store::{
        Store,
        sqlite::{SqliteSettings, SqliteStore},
    },
    telemetry::Metrics,
};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Node, World, eventually, on_cluster};

on_cluster!(a_forged_status_is_not_believed, a_forged_status_hides_no_change_that_follows);

/// What is true of a mitra, changed by whoever forges it.
async fn forged(node: &Node, id: MitraId, change: impl FnOnce(&mut StatusChange)) -> String {
    let row = node.store().mitra(id).await.unwrap().expect("a mitra");
    let mut status = StatusChange::of(&row, StatusReason::Command);
    status.facts.fence.revision += 1_000_000;
    change(&mut status);
    serde_json::to_string(&ControlMessage::Status(status)).unwrap()
}

async fn a_forged_status_is_not_believed(world: World) {
    let node = world.node().await;
    let (online, offline) = (node.online_mitra().await, node.mitra().await);
    let mut sockets = [node.dial_mitra(&online).await, node.dial_mitra(&offline).await];
    let lies = [
        forged(&node, online.id, |status| status.facts.online = false).await,
        forged(&node, online.id, |status| status.facts.active = false).await,
        forged(&node, online.id, |status| status.facts.sessions = 7).await,
        forged(&node, offline.id, |status| status.facts.online = true).await,
        forged(&node, offline.id, |status| status.facts.fence.generation = i64::MAX).await,
    ];
    for lie in &lies {
        assert!(world.valkey().ask(&["PUBLISH", "hadir:control", lie]).number() > 0, "a node listens");
    }
    // What follows is true, and is the first that the apps hear.
    for (socket, mitra) in sockets.iter_mut().zip([&online, &offline]) {
        node.presence().put_mitra(mitra.id, "Sari", Some(5), Actor::Service).await.unwrap();
        let status = socket.frame("status").await;
        assert_eq!((&status["max_sessions"], &status["sessions"]), (&json!(5), &json!(0)), "{status}");
        assert_eq!((&status["online"], &status["active"]), (&json!(mitra.id == online.id), &json!(true)), "{status}");
        socket.is_alive().await;
    }
}

async fn a_forged_status_hides_no_change_that_follows(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    let lie = forged(&node, mitra.id, |status| status.facts.fence.revision = i64::MAX).await;
    world.valkey().ask(&["PUBLISH", "hadir:control", &lie]);
    sqlx::query("UPDATE mitra_status SET is_online = false WHERE mitra_id = $1")
        .bind(mitra.id.0)
        .execute(world.sql())
        .await
        .unwrap();
    let status = socket.until("the change", |frame| frame["online"] == false).await;
    assert_eq!(status["reason"], "external");
    eventually("it is not shown as available", async || {
        let counts = node.good("/internal/counts", &node.token(Role::Service)).await;
        (counts["counts"]["available"] == 0).then_some(())
    })
    .await;
}

/// Replication alone, with a queue for other nodes' questions that nothing empties.
#[tokio::test]
async fn questions_that_nothing_answers_hold_up_no_status() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteSettings {
        path: folder.path().join("hadir.db"),
        default_max_sessions: 1,
        query_timeout: Duration::from_secs(30),
    };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(store).await.unwrap());
    let mirror: Arc<dyn Mirror> = Arc::new(MemoryMirror::new(MirrorSettings {
        suspect_after: Duration::from_secs(600),
        snapshot_ttl: Duration::from_secs(10),
        snapshot_window: Duration::from_millis(50),
    }));
    let limits = HubLimits { sockets_per_mitra: 4, sockets_per_customer: 4, sockets_per_operator: 4, sockets: 16 };
    let hub = Arc::new(Hub::new(limits));
    let settings = ReplicationSettings {
        node_id: NodeId::new("n1"),
        heartbeat_interval: Duration::from_secs(15),
        suspect_after: Duration::from_secs(600),
        heartbeat_mirror_interval: Duration::from_secs(3_600),
        breaker_failures: 2,
        breaker_retry: Duration::from_millis(100),
    };
    let (replication, _unread) =
        Replication::new(settings, Arc::clone(&store), Arc::clone(&mirror), Arc::clone(&hub), Metrics::new());
    let supervising = tokio::spawn(Arc::clone(&replication.supervisor).supervise());
    let is_live = |hub: &Hub| hub.availability().is_some_and(|news| news.snapshot().source == Source::Memory);
    eventually("the mirror is seeded", async || is_live(&hub).then_some(())).await;

    let id = MitraId(Uuid::new_v4());
    let holder = Holder { subject: id.into(), role: Role::Mitra, session: None };
    let _registration = hub.register(holder).unwrap();
    for _ in 0..1_000 {
        let subject = SubjectId(Uuid::new_v4());
        mirror.tell(&ControlMessage::CountSockets { request: "r".to_owned(), subject }).await.unwrap();
    }
    // As another node does it: the store, then the mirror, which announces it.
    let cause = Cause::new(Actor::Service, "a test");
    let row = store.put_mitra(id, "Sari", Some(3), &cause).await.unwrap().row;
    let announce = Some(StatusReason::External);
    mirror.apply(&[Write { row, heartbeat_age: None, announce }]).await.unwrap();
    eventually("the status is heard", async || {
        hub.seat_of(id).and_then(|seat| seat.belief()).filter(|belief| belief.max_sessions == 3).map(|_| ())
    })
    .await;
    supervising.abort();
}
