//! Plain SQL as another program writes it, many rows in one statement: every effect of the API follows.

use sqlx::{AssertSqlSafe, Row};

use super::{Bench, Kind, cause, id};

async fn bench() -> Bench {
    Kind::Postgres.empty().await
}

impl Bench {
    /// Ten mitras, created by SQL.
    async fn ten(&self) {
        self.plain("INSERT INTO mitras (id, display_name) SELECT lpad(to_hex(n), 32, '0')::uuid, 'Mitra ' || n FROM generate_series(1, 10) n")
            .await
            .expect("inserted");
    }

    async fn plain(&self, sql: &str) -> Result<u64, String> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(self.sql())
            .await
            .map(|done| done.rows_affected())
            .map_err(|error| error.to_string())
    }

    async fn number(&self, sql: &str) -> i64 {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_one(self.sql()).await.expect("asked").get(0)
    }
}

#[tokio::test]
async fn many_inserted_mitras_get_their_rows_and_their_events() {
    let bench = bench().await;
    bench.ten().await;
    for n in 1..=10 {
        let row = bench.row(n).await;
        assert!(row.active && !row.online && row.fence.revision > 0);
        assert_eq!((row.online_epoch, row.heartbeat_age), (0, None));
        let event = bench.events(id(n), 10).await.expect("read").remove(0);
        assert_eq!((event.kind.as_str(), event.reason, event.actor.as_str()), ("created", None, "sql"));
    }
    assert_eq!(bench.number("SELECT count(DISTINCT revision) FROM mitra_status").await, 10);
}

#[tokio::test]
async fn many_deactivated_at_once_go_offline_and_lose_their_sign_ins() {
    let bench = bench().await;
    bench.ten().await;
    bench.plain("UPDATE mitra_status SET is_online = true").await.expect("online");
    let mut before = Vec::new();
    let mut sessions = Vec::new();
    for n in 1..=10 {
        before.push(bench.row(n).await);
        sessions.push(bench.signed_in(id(n).0, 60_000).await);
    }
    bench.plain("UPDATE mitras SET is_active = false WHERE id <> lpad('a', 32, '0')::uuid").await.expect("deactivated");
    for n in 1..=9 {
        let (row, old) = (bench.row(n).await, &before[n as usize - 1]);
        assert!(!row.active && !row.online && row.fence > old.fence, "{row:?}");
        assert!(!bench.valid(sessions[n as usize - 1]).await);
        assert_eq!(bench.kinds(n).await, ["deactivated", "offline", "online", "created"]);
        assert!(bench.events(id(n), 10).await.expect("read").iter().all(|event| event.actor == "sql"));
    }
    let spared = bench.row(10).await;
    assert!(spared.online && spared.fence == before[9].fence && bench.valid(sessions[9]).await);
    // Back again: offline, the sign-ins stay revoked.
    bench.plain("UPDATE mitras SET is_active = true").await.expect("reactivated");
    assert!(!bench.row(1).await.online && !bench.valid(sessions[0]).await);
    assert_eq!(bench.kinds(1).await[0], "reactivated");
    assert_eq!(bench.row(10).await.fence, before[9].fence);
}

#[tokio::test]
async fn many_set_online_and_offline_at_once_get_epochs_stamps_and_events() {
    let bench = bench().await;
    bench.ten().await;
    bench.online(3).await;
    bench.silence(3, std::time::Duration::from_secs(600)).await;
    let before = bench.row(3).await;
    bench.plain("UPDATE mitra_status SET is_online = true").await.expect("online");
    for n in 1..=10 {
        let row = bench.row(n).await;
        assert!(row.online && row.online_epoch == 1);
        // One who was online already is not stamped: plain SQL is no heartbeat.
        assert_eq!(row.heartbeat_age.expect("stamped").as_secs() >= 600, n == 3);
    }
    assert_eq!(bench.row(3).await.fence, before.fence);
    bench.plain("UPDATE mitra_status SET is_online = false").await.expect("offline");
    bench.plain("UPDATE mitra_status SET is_online = true, online_epoch = 99, revision = 1").await.expect("online");
    for n in 1..=10 {
        let row = bench.row(n).await;
        // The fences are the store's own, whatever is written there.
        assert_eq!(row.online_epoch, 2);
        assert!(row.fence.revision > before.fence.revision);
        assert_eq!(bench.kinds(n).await, ["online", "offline", "online", "created"]);
    }
}

#[tokio::test]
async fn capacities_set_at_once_are_new_revisions_and_events() {
    let bench = bench().await;
    bench.ten().await;
    bench.plain("UPDATE mitras SET max_sessions = 1 WHERE id < lpad('4', 32, '0')::uuid").await.expect("set");
    let before = bench.row(1).await;
    bench.plain("UPDATE mitras SET max_sessions = 5").await.expect("set");
    for n in 1..=10 {
        assert_eq!(bench.row(n).await.max_sessions, 5);
    }
    assert!(bench.row(1).await.fence > before.fence);
    assert_eq!(bench.kinds(1).await, ["capacity", "capacity", "created"]);
    assert_eq!(bench.kinds(9).await, ["capacity", "created"]);
    // Deactivation and capacity in one statement: both are told.
    bench.plain("UPDATE mitras SET max_sessions = 6, is_active = false").await.expect("set");
    let kinds = bench.kinds(9).await;
    assert!(kinds.contains(&"deactivated".to_owned()) && kinds[0] == "capacity", "{kinds:?}");
}

#[tokio::test]
async fn a_deactivated_mitra_set_online_by_sql_is_refused_with_a_sentence() {
    let bench = bench().await;
    bench.ten().await;
    bench.set_active(id(2), false, &cause("fraud")).await.expect("deactivated");
    let refused = bench.plain("UPDATE mitra_status SET is_online = true").await.expect_err("refused");
    assert!(refused.contains(&format!("mitra {} is deactivated and cannot go online", id(2))), "{refused}");
    // Nothing half-written.
    assert_eq!(bench.number("SELECT count(*) FROM mitra_status WHERE is_online").await, 0);
}

#[tokio::test]
async fn states_that_cannot_be_are_refused_with_the_rule_by_name() {
    let bench = bench().await;
    bench.ten().await;
    for (sql, rule) in [
        ("UPDATE mitras SET max_sessions = -1", "max_sessions_from_0_to_1000"),
        ("UPDATE mitras SET max_sessions = 1001", "max_sessions_from_0_to_1000"),
        ("UPDATE mitras SET display_name = repeat('x', 201)", "display_name_at_most_200_characters"),
        ("UPDATE mitra_status SET active_sessions = -1", "active_sessions_not_negative"),
        ("UPDATE mitra_heartbeats SET last_heartbeat_at = '-infinity'", "last_heartbeat_at_is_a_time"),
        ("INSERT INTO mitras (id) VALUES ('00000000-0000-0000-0000-000000000000')", "id_is_not_nil"),
        ("INSERT INTO auth_sessions VALUES (gen_random_uuid(), gen_random_uuid(), 'root', now())", "role_is_known"),
        (
            "INSERT INTO customers VALUES (lpad('1', 32, '0')::uuid); \
             INSERT INTO chat_sessions (id, customer_id, status) VALUES (gen_random_uuid(), lpad('1', 32, '0')::uuid, 'lost')",
            "status_is_known",
        ),
        ("INSERT INTO mitra_status (mitra_id) VALUES (gen_random_uuid())", "foreign key"),
    ] {
        let refused = bench.plain(sql).await.expect_err(sql);
        assert!(refused.contains(rule), "{sql}: {refused}");
    }
}

#[tokio::test]
async fn a_removed_mitra_takes_its_rows_along() {
    let bench = bench().await;
    bench.ten().await;
    bench.plain("DELETE FROM mitras WHERE id > lpad('5', 32, '0')::uuid").await.expect("deleted");
    assert_eq!(bench.number("SELECT count(*) FROM mitra_status").await, 5);
    assert_eq!(bench.number("SELECT count(*) FROM mitra_heartbeats").await, 5);
    assert_eq!(bench.mitra(id(7)).await.expect("read"), None);
}

#[tokio::test]
async fn a_writers_own_search_path_does_not_matter() {
    let bench = bench().await;
    bench.ten().await;
    let schema = &bench.schema().name;
    bench
        .plain(&format!(
            "BEGIN; SET LOCAL search_path = pg_catalog; UPDATE {schema}.mitra_status SET is_online = true; \
             UPDATE {schema}.mitras SET is_active = false; INSERT INTO {schema}.mitras (id) VALUES (gen_random_uuid()); COMMIT"
        ))
        .await
        .expect("written");
    assert!(!bench.row(1).await.active);
    assert_eq!(bench.number("SELECT count(*) FROM mitra_status").await, 11);
}

#[tokio::test]
async fn a_removed_status_or_heartbeat_is_there_again_at_once() {
    let bench = bench().await;
    bench.ten().await;
    for sql in [
        "DELETE FROM mitra_status",
        "DELETE FROM mitra_heartbeats",
        "TRUNCATE mitra_status",
        "TRUNCATE mitra_heartbeats",
    ] {
        bench.plain("UPDATE mitra_status SET is_online = true").await.expect("online");
        let before = bench.row(3).await;
        bench.plain(sql).await.expect(sql);
        let row = bench.row(3).await;
        assert_eq!(row.online, sql.contains("heartbeats"), "{sql}");
        assert!(row.fence >= before.fence, "{sql}");
        assert_eq!(bench.number("SELECT count(*) FROM hadir_mitras").await, 10, "{sql}");
    }
    assert!(bench.kinds(3).await.iter().filter(|kind| *kind == "offline").count() >= 2);
    // One that goes with its mitra stays away.
    bench.plain("DELETE FROM mitras WHERE id <= lpad('5', 32, '0')::uuid").await.expect("deleted");
    let rows = "SELECT count(*) FROM mitra_status FULL JOIN mitra_heartbeats USING (mitra_id)";
    assert_eq!(bench.number(rows).await, 5);
    bench.plain("TRUNCATE mitras CASCADE").await.expect("emptied");
    assert_eq!(bench.number(rows).await, 0);
}

#[tokio::test]
async fn temporary_tables_of_a_writer_take_nothing_away() {
    let bench = bench().await;
    bench.ten().await;
    let mut writer = bench.sql().acquire().await.expect("connected");
    let sql = format!(
        "CREATE TEMP TABLE mitra_status (mitra_id uuid, is_online boolean, active_sessions integer, revision bigint); \
         CREATE TEMP TABLE mitra_heartbeats (mitra_id uuid, last_heartbeat_at timestamptz); \
         CREATE TEMP TABLE presence_events (mitra_id uuid, kind text, reason text, actor text, session_id uuid); \
         CREATE TEMP TABLE mitras (id uuid, is_active boolean); \
         CREATE TEMP TABLE auth_sessions (id uuid, subject_id uuid, revoked_at timestamptz); \
         CREATE TEMP TABLE chat_sessions (id uuid, mitra_id uuid, status text); \
         SET search_path TO pg_temp, {0}; \
         INSERT INTO customers VALUES (lpad('1', 32, '0')::uuid); \
         INSERT INTO {0}.chat_sessions (id, customer_id, mitra_id, status) VALUES (gen_random_uuid(), \
         lpad('1', 32, '0')::uuid, lpad('3', 32, '0')::uuid, 'active'); \
         UPDATE {0}.mitra_status SET is_online = true; \
         UPDATE {0}.mitras SET is_active = false WHERE id = lpad('4', 32, '0')::uuid",
        bench.schema().name
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *writer).await.expect("written");
    let row = bench.row(3).await;
    assert!(row.online && row.sessions == 1 && row.heartbeat_age.is_some(), "{row:?}");
    assert_eq!(bench.kinds(3).await, ["online", "session_started", "created"]);
    let deactivated = bench.row(4).await;
    assert!(!deactivated.online && !deactivated.active);
    for table in ["mitra_status", "mitra_heartbeats", "presence_events", "auth_sessions"] {
        let temporary = format!("SELECT count(*) FROM pg_temp.{table}");
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(temporary)).fetch_one(&mut *writer).await.expect("asked");
        assert_eq!(rows, 0, "{table}");
    }
}

#[tokio::test]
async fn every_function_looks_for_temporary_tables_last() {
    let bench = bench().await;
    // Those of one expression name no table and are inlined.
    let unpinned: Vec<String> = sqlx::query_scalar(
        "SELECT proname::text FROM pg_proc JOIN pg_language l ON l.oid = prolang WHERE pronamespace = $1::regnamespace \
         AND l.lanname = 'plpgsql' AND NOT coalesce(array_to_string(proconfig, ';') LIKE '%, pg_temp%', false)",
    )
    .bind(&bench.schema().name)
    .fetch_all(bench.sql())
    .await
    .expect("asked");
    assert_eq!(unpinned, Vec::<String>::new());
}
