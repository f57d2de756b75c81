//! The mirror is rebuilt from the store: at start, at every return, by call; never flushed.

use hadir::domain::{Actor, MitraId, Mode, Role};
use serde_json::json;
use uuid::Uuid;

use super::{Keys, in_agreement, mirror_of};
use crate::support::{World, eventually, on_both, on_cluster};

on_both!(
    an_empty_mirror_is_seeded_at_start,
    a_reseed_by_call_says_what_it_changed,
    a_repair_of_a_live_mirror_refreshes_nobody,
);

on_cluster!(
    a_full_mirror_is_compared_and_keeps_what_is_right,
    drift_is_repaired_by_a_reseed_without_flushing,
    a_reseed_of_several_pages_finds_all_that_is_wrong,
    an_emptied_mirror_is_seeded_again_in_a_new_epoch,
    a_return_of_valkey_is_seeded_in_the_same_epoch,
    a_store_that_was_put_back_to_an_older_state_is_the_truth,
);

async fn an_empty_mirror_is_seeded_at_start(world: World) {
    let first = world.node().await;
    let (online, offline, deactivated) = (first.online_mitra().await, first.mitra().await, first.mitra().await);
    first.deactivate(&deactivated).await;
    first.stop().await;
    if world.backend == crate::support::Backend::Clustered {
        world.valkey().ask(&["FLUSHDB"]);
    }
    let node = world.node().await;
    for mitra in [&online, &offline, &deactivated] {
        in_agreement(&world, &node, mitra.id).await;
    }
    let counts = node.presence().overview().await.unwrap().counts;
    assert_eq!((counts.online, counts.available, counts.deactivated), (1, 1, 1));
}

async fn a_reseed_by_call_says_what_it_changed(world: World) {
    let node = world.node().await;
    for _ in 0..3 {
        node.online_mitra().await;
    }
    let reply = node.post("/internal/reseed", &node.token(Role::Service), json!({})).await;
    let report = reply.json();
    assert_eq!((&report["rows"], &report["changed"], &report["removed"]), (&json!(3), &json!(0), &json!(0)));
    assert_eq!(node.presence().mode(), Mode::Live);
    let refused = node.post("/internal/reseed", &node.token(Role::Dashboard), json!({})).await;
    assert_eq!(refused.problem(), (403, "forbidden".into()));
}

async fn a_full_mirror_is_compared_and_keeps_what_is_right(world: World) {
    let first = world.node().await;
    let mitra = first.online_mitra().await;
    let before = first.presence().availability().await.unwrap().snapshot().clone();
    first.stop().await;
    let node = world.node().await;
    let after = node.presence().availability().await.unwrap().snapshot().clone();
    assert_eq!((after.epoch, after.version), (before.epoch, before.version), "the same mirror, nothing published anew");
    in_agreement(&world, &node, mitra.id).await;
}

async fn a_repair_of_a_live_mirror_refreshes_nobody(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let age = async || node.presence().reachable(mitra.id).await.unwrap().value.heartbeat_age.unwrap();
    let before = eventually("the heartbeat ages", async || Some(age().await).filter(|age| age.as_millis() > 200)).await;
    node.presence().reseed().await.unwrap();
    assert!(age().await >= before);
}

async fn drift_is_repaired_by_a_reseed_without_flushing(world: World) {
    let node = world.node().await;
    let (lost, wrong, right) = (node.online_mitra().await, node.mitra().await, node.online_mitra().await);
    let ghost = MitraId(Uuid::new_v4());
    let mut valkey = world.valkey();
    valkey.ask(&["HDEL", "hadir:mitras", &lost.id.to_string()]);
    valkey.ask(&["HSET", "hadir:mitras", &ghost.to_string(), "o:1:1:1:0:1"]);
    for key in ["mitras:liveness", "mitras:available"] {
        valkey.ask(&["ZREM", key, &lost.id.to_string()]);
        valkey.ask(&["ZADD", key, "99999999999999", &ghost.to_string()]);
        valkey.ask(&["ZADD", key, "1", &wrong.id.to_string()]);
    }
    valkey.ask(&["SADD", "mitras:online", &ghost.to_string()]);
    valkey.ask(&["SREM", "mitras:online", &lost.id.to_string()]);
    let healed = async || {
        let _report = node.presence().reseed().await.ok()?;
        (node.presence().mode() == Mode::Live).then_some(())?;
        let agree = [&lost, &right].iter().all(|mitra| Keys::of(&world, mitra.id).available)
            && !Keys::of(&world, wrong.id).liveness
            && Keys::of(&world, ghost) == Keys::default();
        agree.then_some(())
    };
    eventually("the mirror says what the store says", healed).await;
    for mitra in [&lost, &wrong, &right] {
        in_agreement(&world, &node, mitra.id).await;
    }
}

/// Two pages and a half; a third of the mitras is lost to the mirror, another third is removed without a bell.
async fn a_reseed_of_several_pages_finds_all_that_is_wrong(world: World) {
    let node = world.node().await;
    let run = async |sql: &'static str| sqlx::raw_sql(sql).execute(world.sql()).await.map(|_| ()).expect(sql);
    run("INSERT INTO mitras (id, display_name) SELECT gen_random_uuid(), n::text FROM generate_series(1, 2500) n")
        .await;
    let known = || world.valkey().ask(&["HLEN", "hadir:mitras"]).number();
    eventually("all are known", async || (known() == 2_500).then_some(())).await;

    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM mitras ORDER BY display_name::int LIMIT 800")
        .fetch_all(world.sql())
        .await
        .unwrap();
    let mut lost = vec!["HDEL".to_owned(), "hadir:mitras".to_owned()];
    lost.extend(ids.iter().map(Uuid::to_string));
    world.valkey().ask(&lost.iter().map(String::as_str).collect::<Vec<_>>());
    run("BEGIN; SET LOCAL session_replication_role = replica; \
         DELETE FROM mitra_heartbeats USING mitras m WHERE mitra_id = m.id AND display_name::int > 1700; \
         DELETE FROM mitra_status USING mitras m WHERE mitra_id = m.id AND display_name::int > 1700; \
         DELETE FROM mitras WHERE display_name::int > 1700; COMMIT")
    .await;
    eventually("the mirror knows whom the store has", async || {
        let report = node.presence().reseed().await.ok()?;
        assert_eq!(report.rows, 1_700);
        (known() == 1_700 && report.changed == 0 && report.removed == 0).then_some(())
    })
    .await;
    for id in ids.iter().take(3) {
        in_agreement(&world, &node, MitraId(*id)).await;
    }
}

async fn an_emptied_mirror_is_seeded_again_in_a_new_epoch(world: World) {
    let node = world.node().await;
    let (with_socket, without) = (node.online_mitra().await, node.online_mitra().await);
    let mut socket = node.dial_mitra(&with_socket).await;
    let mut watcher = node.dial_customer().await;
    let before = watcher.sees(2).await;
    world.valkey().ask(&["FLUSHDB"]);
    let after = watcher
        .until("a new epoch of the mirror", |frame| {
            frame["epoch"] != before["epoch"] && frame["source"] == json!(mirror_of(&world)) && frame["available"] == 2
        })
        .await;
    assert_ne!(after["epoch"], before["epoch"]);
    node.reaches(Mode::Live).await;
    socket.is_alive().await;
    for mitra in [&with_socket, &without] {
        in_agreement(&world, &node, mitra.id).await;
    }
}

async fn a_return_of_valkey_is_seeded_in_the_same_epoch(world: World) {
    use crate::support::proxy::Traffic;
    let node = world.node().await;
    let mitra = node.mitra().await;
    let epoch = node.presence().availability().await.unwrap().snapshot().epoch.clone();
    node.mirror_traffic(Traffic::Cut);
    node.reaches(Mode::Fallback).await;
    // Written while the mirror is away: it can only be there by the seed.
    node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    node.mirror_traffic(Traffic::Flows);
    node.reaches(Mode::Live).await;
    assert_eq!(node.presence().availability().await.unwrap().snapshot().epoch, epoch);
    in_agreement(&world, &node, mitra.id).await;
}

async fn a_store_that_was_put_back_to_an_older_state_is_the_truth(world: World) {
    let node = world.node_with(&[("HADIR_CHANGE_FEED_SECONDS", "0.2")]).await;
    let (mitra, other) = (node.mitra().await, node.online_mitra().await);
    let mut socket = node.dial_mitra(&mitra).await;
    // A copy of everything, as a dump would hold it.
    let run = async |sql: &'static str| sqlx::raw_sql(sql).execute(world.sql()).await.map(|_| ()).expect(sql);
    run("CREATE TABLE kept AS TABLE mitra_status").await;
    socket.commands("online").await;
    node.presence().go_offline(other.id, Actor::Mitra).await.unwrap();
    in_agreement(&world, &node, mitra.id).await;
    // The node has looked at the store since.
    let looks = async || {
        let text = node.get("/metrics", "").await.text;
        let line = text.lines().find(|line| line.contains("last_given_revision"))?.to_owned();
        line.rsplit(' ').next()?.parse::<u64>().ok()
    };
    let before = looks().await.unwrap_or(0);
    eventually("two more looks", async || (looks().await? >= before + 2).then_some(())).await;
    run("BEGIN; SET LOCAL session_replication_role = replica; \
         UPDATE mitra_status s SET is_online = k.is_online, revision = k.revision, online_epoch = k.online_epoch \
         FROM kept k WHERE k.mitra_id = s.mitra_id; \
         SELECT setval('hadir_revision', (SELECT max(revision) FROM kept)); DROP TABLE kept; COMMIT")
    .await;
    let told = socket.until("offline again", |frame| frame["type"] == "status" && frame["online"] == false).await;
    assert_eq!(told["available"], false);
    eventually("the mirror follows", async || {
        let keys = [Keys::of(&world, mitra.id), Keys::of(&world, other.id)];
        (!keys[0].online && keys[1].online).then_some(())
    })
    .await;
    node.reaches(Mode::Live).await;
    in_agreement(&world, &node, mitra.id).await;
    // What is written from here on wins, though its revision is one that was used before.
    socket.commands("online").await;
    assert!(in_agreement(&world, &node, mitra.id).await.online);
    assert!(in_agreement(&world, &node, other.id).await.online);
}
