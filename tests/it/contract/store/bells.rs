//! The bell of Postgres: what rings it, what it says, and that it is heard again after a break.

use std::time::Duration;

use futures_util::{StreamExt, stream::BoxStream};
use hadir::store::{Bell, Store, postgres::PostgresStore};
use uuid::Uuid;

use super::{Bench, Kind, cause, id, settings};
use crate::support::{PATIENCE, eventually, postgres};

async fn heard(bells: &mut BoxStream<'static, Bell>) -> Bell {
    tokio::time::timeout(PATIENCE, bells.next()).await.expect("a bell rings in time").expect("bells do not end")
}

/// An empty store, and its bell after the first look at everything.
async fn listening() -> (Bench, BoxStream<'static, Bell>) {
    let bench = Kind::Postgres.empty().await;
    let mut bells = bench.bells().await.expect("a bell");
    assert_eq!(heard(&mut bells).await, Bell::Missed);
    (bench, bells)
}

/// Everything that rings until this mark does.
async fn until_marked(bench: &Bench, bells: &mut BoxStream<'static, Bell>) -> Vec<Bell> {
    let mark = Uuid::new_v4();
    let channel = format!("hadir_{}", bench.schema().name);
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(channel)
        .bind(format!("revoked:{mark}"))
        .execute(bench.sql())
        .await
        .expect("rung");
    let mut all = Vec::new();
    loop {
        match heard(bells).await {
            Bell::Revoked { session } if session == mark => return all,
            bell => all.push(bell),
        }
    }
}

#[tokio::test]
async fn every_change_rings_with_the_mitras_new_revision() {
    let (bench, mut bells) = listening().await;
    let ring = async |bells: &mut _| heard(bells).await;
    let created = bench.created(1).await;
    assert_eq!(ring(&mut bells).await, Bell::Mitra { id: id(1), revision: created.fence.revision });
    let online = bench.set_online(id(1), true, &cause("")).await.expect("online").row;
    assert_eq!(ring(&mut bells).await, Bell::Mitra { id: id(1), revision: online.fence.revision });
    bench.run("UPDATE mitras SET max_sessions = 9".to_owned()).await;
    assert_eq!(ring(&mut bells).await, Bell::Mitra { id: id(1), revision: bench.row(1).await.fence.revision });
    let session = bench.signed_in(id(1).0, 60_000).await;
    bench.set_active(id(1), false, &cause("")).await.expect("deactivated");
    let revision = bench.row(1).await.fence.revision;
    let mut rung = until_marked(&bench, &mut bells).await;
    rung.sort_by_key(|bell| format!("{bell:?}"));
    assert_eq!(rung, [Bell::Mitra { id: id(1), revision }, Bell::Revoked { session }]);
    bench.run("DELETE FROM mitras".to_owned()).await;
    assert!(
        matches!(ring(&mut bells).await, Bell::Mitra { id: who, revision: newer } if who == id(1) && newer > revision)
    );
}

#[tokio::test]
async fn what_changes_nothing_and_heartbeats_ring_no_bell() {
    let (bench, mut bells) = listening().await;
    bench.online(1).await;
    let session = bench.signed_in(id(1).0, 60_000).await;
    bench.run("UPDATE auth_sessions SET revoked_at = now()".to_owned()).await;
    until_marked(&bench, &mut bells).await;
    bench.set_online(id(1), true, &cause("")).await.expect("online");
    bench.set_active(id(1), true, &cause("")).await.expect("active");
    bench.put_mitra(id(1), "Another", None, &cause("")).await.expect("renamed");
    bench.record_heartbeats(&[(id(1), Duration::ZERO)]).await.expect("recorded");
    bench.run(format!("UPDATE auth_sessions SET revoked_at = now() WHERE id = '{session}'")).await;
    bench.run("UPDATE mitra_status SET is_online = true; UPDATE mitras SET is_active = true".to_owned()).await;
    assert_eq!(until_marked(&bench, &mut bells).await, []);
}

#[tokio::test]
async fn a_statement_that_revokes_many_rings_for_each() {
    let (bench, mut bells) = listening().await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(bench.signed_in(Uuid::new_v4(), 60_000).await);
    }
    bench.run("UPDATE auth_sessions SET revoked_at = now()".to_owned()).await;
    let rung = until_marked(&bench, &mut bells).await;
    assert_eq!(rung.len(), 5);
    assert!(sessions.iter().all(|session| rung.contains(&Bell::Revoked { session: *session })));
}

#[tokio::test]
async fn up_to_a_thousand_rows_ring_each_and_more_ring_once_for_all() {
    let (bench, mut bells) = listening().await;
    let insert = |from, to| {
        format!("INSERT INTO mitras (id) SELECT lpad(to_hex(n), 32, '0')::uuid FROM generate_series({from}, {to}) n")
    };
    bench.run(insert(1, 1000)).await;
    let rung = until_marked(&bench, &mut bells).await;
    assert_eq!(rung.len(), 1000);
    assert!(rung.iter().all(|bell| matches!(bell, Bell::Mitra { .. })));
    bench.run(insert(1001, 1001)).await;
    assert_eq!(until_marked(&bench, &mut bells).await.len(), 1);
    // The lowest of the new revisions goes along: a look finds them, however long ago they were given.
    let newest = bench.newest_revision().await.expect("read");
    bench.run("UPDATE mitra_status SET is_online = true".to_owned()).await;
    assert_eq!(until_marked(&bench, &mut bells).await, [Bell::ManyMitras { from: newest + 1 }]);
    bench
        .run("INSERT INTO auth_sessions SELECT id, id, 'mitra', now() + interval '1 hour' FROM mitras".to_owned())
        .await;
    bench.run("UPDATE auth_sessions SET revoked_at = now()".to_owned()).await;
    assert_eq!(until_marked(&bench, &mut bells).await, [Bell::ManyRevoked]);
    // No look finds who is gone.
    bench.run("DELETE FROM mitras".to_owned()).await;
    assert_eq!(until_marked(&bench, &mut bells).await, [Bell::Missed]);
}

#[tokio::test]
async fn a_bell_of_an_older_schema_is_understood() {
    let (bench, mut bells) = listening().await;
    let channel = format!("hadir_{}", bench.schema().name);
    sqlx::query("SELECT pg_notify($1, '*')").bind(channel).execute(bench.sql()).await.expect("rung");
    assert_eq!(until_marked(&bench, &mut bells).await, [Bell::Missed]);
}

#[tokio::test]
async fn a_change_that_is_rolled_back_rings_no_bell() {
    let (bench, mut bells) = listening().await;
    bench.created(1).await;
    until_marked(&bench, &mut bells).await;
    bench.run("BEGIN; UPDATE mitra_status SET is_online = true; ROLLBACK".to_owned()).await;
    assert_eq!(until_marked(&bench, &mut bells).await, []);
}

#[tokio::test]
async fn another_schemas_bell_is_not_heard() {
    let (bench, mut bells) = listening().await;
    let other = Kind::Postgres.empty().await;
    other.online(1).await;
    assert_eq!(until_marked(&bench, &mut bells).await, []);
}

#[tokio::test]
async fn after_its_connection_was_ended_the_listener_comes_back_and_says_so() {
    let (bench, mut bells) = listening().await;
    // Other tests listen on the same server: only the one on this channel.
    let channel = format!("LISTEN \"hadir_{}\"", bench.schema().name);
    let ended: i64 = sqlx::query_scalar(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE application_name = 'hadir bell' AND query = $1",
    )
    .bind(channel)
    .fetch_one(bench.sql())
    .await
    .expect("ended");
    assert_eq!(ended, 1);
    assert_eq!(heard(&mut bells).await, Bell::Missed);
    let created = bench.created(1).await;
    assert_eq!(heard(&mut bells).await, Bell::Mitra { id: id(1), revision: created.fence.revision });
}

#[tokio::test]
async fn a_listener_outlives_the_servers_limits_and_notices_a_server_that_froze_or_was_replaced() {
    let mut server = postgres::dedicated();
    server.set("idle_session_timeout", "300ms");
    server.set("statement_timeout", "300ms");
    let mut settings = settings(&server.url("postgres"), "bells");
    settings.query_timeout = Duration::from_millis(500);
    settings.acquire_timeout = Duration::from_secs(2);
    hadir::store::postgres::migrate(&settings, false).await.expect("migrated");
    let store = PostgresStore::connect(settings).expect("an address");
    let mut bells = store.bells().await.expect("a bell");
    assert_eq!(heard(&mut bells).await, Bell::Missed);
    // Longer than the server lets others idle, and long enough for the listener to ask once by itself.
    let quiet = tokio::time::timeout(Duration::from_secs(2), bells.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    server.freeze();
    // It asks, gets no answer, and connects anew once there is somebody to connect to.
    let lost = tokio::time::timeout(Duration::from_secs(3), bells.next()).await;
    assert!(lost.is_err(), "{lost:?}");
    server.thaw();
    assert_eq!(heard(&mut bells).await, Bell::Missed);
    server.stop();
    server.start();
    assert_eq!(heard(&mut bells).await, Bell::Missed);
    let written = async || store.put_mitra(id(1), "Sari", None, &cause("")).await.ok();
    let revision = eventually("the store recovers by itself", written).await.row.fence.revision;
    assert_eq!(heard(&mut bells).await, Bell::Mitra { id: id(1), revision });
}

#[tokio::test]
async fn what_is_emptied_at_once_rings_for_all() {
    let (bench, mut bells) = listening().await;
    bench.created(1).await;
    let session = bench.signed_in(id(1).0, 60_000).await;
    until_marked(&bench, &mut bells).await;
    bench.run("DELETE FROM auth_sessions".to_owned()).await;
    assert_eq!(until_marked(&bench, &mut bells).await, [Bell::Revoked { session }]);
    for (sql, rung) in [
        ("TRUNCATE auth_sessions", Bell::ManyRevoked),
        ("TRUNCATE mitra_status", Bell::Missed),
        ("TRUNCATE mitras CASCADE", Bell::Missed),
    ] {
        bench.run(sql.to_owned()).await;
        let bells = until_marked(&bench, &mut bells).await;
        assert!(!bells.is_empty() && bells.iter().all(|bell| *bell == rung), "{sql}: {bells:?}");
    }
}
