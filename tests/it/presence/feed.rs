//! Other programs' plain SQL: every effect of the API follows, by the bell, without it, and at the latest by a reseed.

use std::time::Duration;

use hadir::domain::{Actor, MitraId, Role, StatusReason, SubjectId};
use serde_json::json;
use uuid::Uuid;

use super::{Keys, in_agreement};
use crate::support::{Client, Closed, World, eventually, on_cluster};

on_cluster!(
    a_mitra_inserted_by_sql_is_known_and_may_go_online,
    online_and_offline_by_sql_reach_mirror_watchers_and_sockets,
    a_deactivation_by_sql_has_every_effect_of_the_api,
    a_capacity_changed_by_sql_moves_the_count,
    a_sign_in_revoked_by_sql_closes_its_sockets_on_every_node,
    a_mitra_deleted_by_sql_is_forgotten_and_its_sockets_close,
    many_rows_in_one_statement_all_follow,
    without_the_bell_the_look_at_sign_ins_finds_a_revoked_one,
    many_changed_rows_are_looked_at_and_only_many_removed_ones_ask_for_a_reseed,
    without_the_bell_the_look_at_recent_changes_finds_them,
    without_triggers_a_reseed_finds_them,
);

async fn run(world: &World, sql: &'static str, id: MitraId) {
    sqlx::query(sql).bind(id.0).execute(world.sql()).await.expect(sql);
}

const GO_ONLINE: &str = "UPDATE mitra_status SET is_online = true WHERE mitra_id = $1";
const GO_OFFLINE: &str = "UPDATE mitra_status SET is_online = false WHERE mitra_id = $1";

/// No ring from here on: changes are committed with their revisions, and nobody is told.
async fn silence_the_bell(world: &World) {
    let sql = "CREATE OR REPLACE FUNCTION hadir_ring(channel_schema text, payloads text[]) RETURNS void \
               LANGUAGE plpgsql AS $$ BEGIN END $$";
    sqlx::query(sql).execute(world.sql()).await.unwrap();
}

async fn a_mitra_inserted_by_sql_is_known_and_may_go_online(world: World) {
    let node = world.node().await;
    let id = MitraId(Uuid::new_v4());
    run(&world, "INSERT INTO mitras (id, display_name) VALUES ($1, 'Wayan')", id).await;
    node.presence().go_online(id, Actor::Mitra).await.unwrap();
    in_agreement(&world, &node, id).await;
}

async fn online_and_offline_by_sql_reach_mirror_watchers_and_sockets(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let mitra = here.mitra().await;
    let mut sockets = [here.dial_mitra(&mitra).await, there.dial_mitra(&mitra).await];
    let mut watcher = there.dial_customer().await;
    for (sql, online) in [(GO_ONLINE, true), (GO_OFFLINE, false)] {
        run(&world, sql, mitra.id).await;
        watcher.sees(online.into()).await;
        for socket in &mut sockets {
            let told = socket.until("the change", |frame| frame["type"] == "status" && frame["online"] == online).await;
            assert_eq!(told["reason"], json!(StatusReason::External));
        }
        in_agreement(&world, &here, mitra.id).await;
    }
    let events = here.store().events(mitra.id, 2).await.unwrap();
    assert!(events.iter().all(|event| event.actor == Actor::Sql.as_str()), "{events:?}");
}

async fn a_deactivation_by_sql_has_every_effect_of_the_api(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let mitra = here.online_mitra().await;
    let mut sockets = [here.dial_mitra(&mitra).await, there.dial_mitra(&mitra).await];
    let mut watcher = here.dial_customer().await;
    watcher.sees(1).await;
    run(&world, "UPDATE mitras SET is_active = false WHERE id = $1", mitra.id).await;
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, Closed::new(4503, "deactivated"));
    }
    watcher.sees(0).await;
    eventually("refused", async || {
        let reply = here.post("/api/mitra/status/heartbeat", &mitra.token, json!({})).await;
        (reply.status.as_u16() == 403).then_some(())
    })
    .await;
    in_agreement(&world, &there, mitra.id).await;
}

async fn a_capacity_changed_by_sql_moves_the_count(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    run(&world, "UPDATE mitras SET max_sessions = 0 WHERE id = $1", mitra.id).await;
    watcher.sees(0).await;
    in_agreement(&world, &node, mitra.id).await;
}

/// A sign-in of this customer.
async fn signed_in(world: &World, customer: SubjectId) -> Uuid {
    let sign_in = Uuid::new_v4();
    sqlx::query(
        "INSERT INTO auth_sessions (id, subject_id, role, expires_at) VALUES ($1, $2, $3, now() + interval '1h')",
    )
    .bind(sign_in)
    .bind(customer.0)
    .bind(Role::Customer.as_str())
    .execute(world.sql())
    .await
    .unwrap();
    sign_in
}

async fn revoke(world: &World, sign_in: Uuid) {
    let sql = "UPDATE auth_sessions SET revoked_at = now() WHERE id = $1";
    sqlx::query(sql).bind(sign_in).execute(world.sql()).await.unwrap();
}

async fn without_the_bell_the_look_at_sign_ins_finds_a_revoked_one(world: World) {
    let node = world.node_with(&[("HADIR_CHANGE_FEED_SECONDS", "0.3")]).await;
    silence_the_bell(&world).await;
    let customer = SubjectId(Uuid::new_v4());
    let sign_in = signed_in(&world, customer).await;
    let token = node.token_for(customer, Role::Customer, Some(sign_in), Duration::from_secs(600));
    let mut socket = Client::dial(node.public(), "/ws/availability", &token).await;
    revoke(&world, sign_in).await;
    assert_eq!(socket.closed().await, Closed::new(4501, "revoked"));
}

async fn a_sign_in_revoked_by_sql_closes_its_sockets_on_every_node(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let customer = SubjectId(Uuid::new_v4());
    let sign_in = signed_in(&world, customer).await;
    let token = here.token_for(customer, Role::Customer, Some(sign_in), Duration::from_secs(600));
    let mut sockets = Vec::new();
    for node in [&here, &there] {
        sockets.push(Client::dial(node.public(), "/ws/availability", &token).await);
    }
    let mut other = Client::dial(there.public(), "/ws/availability", &here.token_of(customer, Role::Customer)).await;
    revoke(&world, sign_in).await;
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, Closed::new(4501, "revoked"));
    }
    other.is_alive().await;
}

async fn a_mitra_deleted_by_sql_is_forgotten_and_its_sockets_close(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    run(&world, "DELETE FROM mitras WHERE id = $1", mitra.id).await;
    assert_eq!(socket.closed().await, Closed::new(4503, "unknown_mitra"));
    watcher.sees(0).await;
    eventually("no trace", async || (Keys::of(&world, mitra.id) == Keys::default()).then_some(())).await;
}

async fn many_rows_in_one_statement_all_follow(world: World) {
    let node = world.node().await;
    let mut watcher = node.dial_customer().await;
    // More than the bell names one by one.
    sqlx::query("INSERT INTO mitras (id) SELECT gen_random_uuid() FROM generate_series(1, 1500)")
        .execute(world.sql())
        .await
        .unwrap();
    sqlx::query("UPDATE mitra_status SET is_online = true").execute(world.sql()).await.unwrap();
    watcher.sees(1_500).await;
    sqlx::query("UPDATE mitras SET is_active = false").execute(world.sql()).await.unwrap();
    watcher.sees(0).await;
    let counts = node.presence().overview().await.unwrap().counts;
    assert_eq!((counts.online, counts.deactivated), (0, 1_500));
    // Rows that are gone have no revision: everything is compared.
    let (kept, gone) = (node.online_mitra().await, node.mitra().await);
    let mut socket = node.dial_mitra(&gone).await;
    watcher.sees(1).await;
    sqlx::query("DELETE FROM mitras WHERE id <> $1").bind(kept.id.0).execute(world.sql()).await.unwrap();
    assert_eq!(socket.closed().await, Closed::new(4503, "unknown_mitra"));
    eventually("forgotten", async || (Keys::of(&world, gone.id) == Keys::default()).then_some(())).await;
    in_agreement(&world, &node, kept.id).await;
}

async fn many_changed_rows_are_looked_at_and_only_many_removed_ones_ask_for_a_reseed(world: World) {
    // Nothing follows by itself.
    let node = world.node_with(&[("HADIR_CHANGE_FEED_SECONDS", "3600")]).await;
    let reseeds = async || {
        let text = node.get("/metrics", "").await.text;
        let line = text.lines().find_map(|line| line.strip_prefix("hadir_reseed_seconds_count "));
        line.and_then(|number| number.parse::<u64>().ok()).expect("a number of reseeds")
    };
    let one = node.mitra().await;
    let mut watcher = node.dial_customer().await;
    run(&world, GO_ONLINE, one.id).await;
    watcher.sees(1).await;
    // The bell is heard from now on; the reseed that its beginning asked for need not be waited for.
    node.presence().reseed().await.unwrap();
    let before = reseeds().await;
    let insert = "INSERT INTO mitras (id) SELECT gen_random_uuid() FROM generate_series(1, 1500)";
    sqlx::query(insert).execute(world.sql()).await.unwrap();
    for (sql, available) in
        [("UPDATE mitra_status SET is_online = true", 1_501), ("UPDATE mitras SET max_sessions = 0", 0)]
    {
        sqlx::query(sql).execute(world.sql()).await.expect(sql);
        watcher.sees(available).await;
    }
    let gone = node.mitra().await;
    let mut socket = node.dial_mitra(&gone).await;
    sqlx::query("DELETE FROM mitras WHERE id <> $1").bind(one.id.0).execute(world.sql()).await.unwrap();
    assert_eq!(socket.closed().await, Closed::new(4503, "unknown_mitra"));
    eventually("compared", async || (reseeds().await > before).then_some(())).await;
    assert_eq!(reseeds().await, before + 1, "the removal alone");
}

async fn without_the_bell_the_look_at_recent_changes_finds_them(world: World) {
    let node = world.node_with(&[("HADIR_CHANGE_FEED_SECONDS", "0.3")]).await;
    silence_the_bell(&world).await;
    let mitra = node.mitra().await;
    let mut watcher = node.dial_customer().await;
    for (sql, online) in [(GO_ONLINE, 1), (GO_OFFLINE, 0)] {
        run(&world, sql, mitra.id).await;
        watcher.sees(online).await;
    }
}

async fn without_triggers_a_reseed_finds_them(world: World) {
    let node = world.node().await;
    let mitra = node.online_mitra().await;
    let mut writer = world.sql().acquire().await.unwrap();
    sqlx::query("SET session_replication_role = replica").execute(&mut *writer).await.unwrap();
    sqlx::query(GO_OFFLINE).bind(mitra.id.0).execute(&mut *writer).await.unwrap();
    sqlx::query("SET session_replication_role = DEFAULT").execute(&mut *writer).await.unwrap();
    assert!(Keys::of(&world, mitra.id).online, "nobody was told, and the revision is the same");
    let report = node.presence().reseed().await.unwrap();
    assert_eq!(report.changed, 1);
    in_agreement(&world, &node, mitra.id).await;
}
