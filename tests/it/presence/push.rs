//! The snapshot: its life as a key, when it is pushed, and in which order.

use std::time::Duration;

use hadir::domain::{Actor, Role};
use serde_json::Value;

use crate::support::{World, eventually, on_both, on_cluster};

on_both!(
    counts_are_pushed_at_most_once_per_window_and_the_last_one_is_right,
    a_mitra_that_falls_silent_leaves_the_count
);

on_cluster!(
    the_snapshot_is_a_key_with_a_life_that_is_renewed_while_a_node_lives,
    what_is_published_is_what_the_key_holds_and_what_watchers_see,
    an_older_foreign_or_forged_frame_is_not_passed_on,
);

async fn counts_are_pushed_at_most_once_per_window_and_the_last_one_is_right(world: World) {
    let node = world.node_with(&[("SNAPSHOT_WINDOW_MS", "400")]).await;
    let mut watcher = node.dial_customer().await;
    watcher.frame("availability").await;
    let mut mitras = Vec::new();
    for _ in 0..20 {
        mitras.push(node.mitra().await);
    }
    for mitra in &mitras {
        node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    }
    let mut frames: Vec<Value> = Vec::new();
    loop {
        let frame = watcher.frame("availability").await;
        let last = frame["available"] == 20;
        frames.push(frame);
        if last {
            break;
        }
    }
    assert_eq!(frames[0]["available"], 1, "the first of them at once");
    let time = |frame: &Value| chrono::DateTime::parse_from_rfc3339(frame["as_of"].as_str().unwrap()).unwrap();
    for pair in frames.windows(2) {
        assert!(pair[1]["version"].as_u64() > pair[0]["version"].as_u64());
        let apart = time(&pair[1]) - time(&pair[0]);
        assert!(apart >= chrono::Duration::milliseconds(400), "{apart} apart");
    }
}

async fn a_mitra_that_falls_silent_leaves_the_count(world: World) {
    let node = world
        .node_with(&[
            ("HEARTBEAT_INTERVAL_SECONDS", "0.2"),
            ("HEARTBEAT_SUSPECT_SECONDS", "0.8"),
            ("MITRA_OFFLINE_AFTER_SECONDS", "60"),
        ])
        .await;
    let mut watcher = node.dial_customer().await;
    let mitra = node.online_mitra().await;
    watcher.sees(1).await;
    watcher.sees(0).await;
    let row = node.store().mitra(mitra.id).await.unwrap().unwrap();
    assert!(row.online, "suspect, and durably online");
    let counts = node.presence().overview().await.unwrap().counts;
    assert_eq!((counts.online, counts.suspect, counts.available), (1, 1, 0));
}

async fn the_snapshot_is_a_key_with_a_life_that_is_renewed_while_a_node_lives(world: World) {
    let node = world.node_with(&[("SNAPSHOT_TTL_SECONDS", "2")]).await;
    node.online_mitra().await;
    let mut valkey = world.valkey();
    let held = |valkey: &mut crate::support::valkey::Raw| {
        let text = valkey.ask(&["GET", "availability:snapshot"]).text()?;
        serde_json::from_str::<Value>(&text).ok()
    };
    let first = eventually("the key", async || held(&mut world.valkey()).filter(|held| held["available"] == 1)).await;
    assert!((1..=2_000).contains(&valkey.ask(&["PTTL", "availability:snapshot"]).number()));
    let renewed = async || held(&mut world.valkey()).filter(|held| held["as_of"] != first["as_of"]);
    let later = eventually("renewed without a change", renewed).await;
    assert_eq!((&later["epoch"], &later["version"]), (&first["epoch"], &first["version"]));
    node.stop().await;
    eventually("gone when nobody renews it", async || held(&mut world.valkey()).is_none().then_some(())).await;
}

async fn what_is_published_is_what_the_key_holds_and_what_watchers_see(world: World) {
    let node = world.node().await;
    let mut watcher = node.dial_customer().await;
    watcher.frame("availability").await;
    let mut listening = world.valkey();
    listening.ask(&["SUBSCRIBE", "availability:events"]);
    node.online_mitra().await;
    let published: Value = serde_json::from_str(&listening.next().list().pop().unwrap()).unwrap();
    let key = world.valkey().ask(&["GET", "availability:snapshot"]).text().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&key).unwrap(), published);
    let seen = watcher.sees(1).await;
    for field in ["epoch", "version", "any", "available", "as_of", "source", "stale"] {
        assert_eq!(seen[field], published[field], "{field}");
    }
    let cached = node.good("/api/client/availability", &node.token(Role::Customer)).await;
    assert_eq!(cached["version"], published["version"]);
}

async fn an_older_foreign_or_forged_frame_is_not_passed_on(world: World) {
    let node = world.node().await;
    let mut watcher = node.dial_customer().await;
    node.online_mitra().await;
    let newest = watcher.sees(1).await;
    let mut valkey = world.valkey();
    let mut publish = |change: &dyn Fn(&mut Value)| {
        let mut frame = newest.clone();
        change(&mut frame);
        valkey.ask(&["PUBLISH", "availability:events", &frame.to_string()]);
    };
    publish(&|frame| {
        frame["version"] = 1.into();
        frame["available"] = 77.into();
    });
    publish(&|frame| {
        frame["epoch"] = "somewhere else".into();
        frame["version"] = 1_000.into();
        frame["available"] = 78.into();
    });
    publish(&|frame| {
        frame["version"] = 1_000_000.into();
        frame["available"] = 79.into();
    });
    node.online_mitra().await;
    let next = watcher.frame("availability").await;
    assert_eq!(next["available"], 2, "{next}");
    assert_eq!(next["epoch"], newest["epoch"]);
    // The watcher is quiet after that.
    let quiet = tokio::time::timeout(Duration::from_millis(200), watcher.frame("availability")).await;
    assert!(quiet.is_err() || quiet.is_ok_and(|frame| frame["available"] == 2));
}
