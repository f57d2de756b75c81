//! Rows that nobody should write: refused by the rules, and where a rule is missing, each costs itself alone.

use std::time::Duration;

use hadir::{
    domain::{CustomerId, SessionId, SessionStatus},
    store::{DurableState, MitraQuery, StoreError},
};
use uuid::Uuid;

use super::{Bench, Beside, cause, id, ids, on_both};

on_both!(
    times_that_no_clock_shows_are_refused_where_they_are_written,
    times_that_no_clock_shows_are_read_all_the_same,
    sessions_of_such_times_expire_and_end,
    a_row_that_cannot_be_read_costs_itself_alone,
    the_row_of_the_generation_stays,
    of_many_sign_ins_those_not_valid_are_named,
);

const MINUTE: Duration = Duration::from_secs(60);
/// Columns that hold a time, by table, and a row's other values.
const TIMES: [(&str, &str); 7] = [
    ("mitra_heartbeats", "last_heartbeat_at"),
    ("chat_sessions", "expires_at"),
    ("chat_sessions", "created_at"),
    ("auth_sessions", "expires_at"),
    ("auth_sessions", "revoked_at"),
    ("presence_events", "at"),
    ("hadir_sweep_pauses", "until"),
];

impl Bench {
    fn odd_times(&self) -> [&'static str; 3] {
        match &self.beside {
            Beside::Sqlite { .. } => ["9223372036854775807", "-9223372036854775808", "9000000000000000"],
            Beside::Postgres { .. } => ["'infinity'", "'-infinity'", "'290000-01-01'"],
        }
    }

    async fn try_to(&self, sql: &str) -> Result<(), String> {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match &self.beside {
            Beside::Sqlite { pool, .. } => sqlx::raw_sql(sql).execute(pool).await.map(|_| ()),
            Beside::Postgres { pool, .. } => sqlx::raw_sql(sql).execute(pool).await.map(|_| ()),
        }
        .map_err(|error| error.to_string())
    }

    /// As a table without this rule would take it.
    async fn without_rule(&self, table: &str, rule: &str, sql: &str) {
        let sql = match &self.beside {
            Beside::Sqlite { .. } => {
                format!("PRAGMA ignore_check_constraints = ON; {sql}; PRAGMA ignore_check_constraints = OFF")
            }
            Beside::Postgres { .. } => format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {rule}; {sql}"),
        };
        self.run(sql).await;
    }

    /// A row in every table that holds times.
    async fn filled(&self) -> (SessionId, Uuid) {
        self.online(1).await;
        let (session, _) = self.create_session(None, CustomerId(Uuid::from_u128(7))).await.expect("created");
        let sign_in = self.signed_in(id(1).0, 60_000).await;
        self.pause_sweep("reseed", MINUTE).await.expect("paused");
        (session.id, sign_in)
    }
}

async fn times_that_no_clock_shows_are_refused_where_they_are_written(bench: Bench) {
    bench.filled().await;
    for (table, column) in TIMES {
        for time in bench.odd_times() {
            let refused = bench.try_to(&format!("UPDATE {table} SET {column} = {time}")).await.expect_err(column);
            assert!(refused.contains(&format!("{column}_is_a_time")), "{table}: {refused}");
        }
    }
}

async fn times_that_no_clock_shows_are_read_all_the_same(bench: Bench) {
    let (session, sign_in) = bench.filled().await;
    for time in bench.odd_times() {
        for (table, column) in TIMES {
            let rule = format!("{column}_is_a_time");
            bench.without_rule(table, &rule, &format!("UPDATE {table} SET {column} = {time}")).await;
        }
        assert!(bench.mitra(id(1)).await.expect(time).is_some());
        assert_eq!(ids(&bench.mitras(&[id(1)]).await.expect(time)), [id(1)]);
        assert_eq!(ids(&bench.scan(None, 10).await.expect(time)), [id(1)]);
        assert_eq!(ids(&bench.changed_since(0, 10).await.expect(time)), [id(1)]);
        let query = MitraQuery { state: DurableState::Any, fresh_within: None, search: None, after: None, limit: 10 };
        assert_eq!(bench.list(&query).await.expect(time).len(), 1);
        bench.find_available(MINUTE, 10).await.expect(time);
        bench.heard_within(MINUTE, None, 10).await.expect(time);
        assert_eq!(bench.counts(MINUTE).await.expect(time).reachable, 0, "{time} proves nothing");
        assert!(!bench.events(id(1), 10).await.expect(time).is_empty());
        assert!(bench.session(session).await.expect(time).is_some());
        bench.next_expiry().await.expect(time);
        bench.paused_sweeps().await.expect(time);
        bench.auth_session(sign_in).await.expect(time);
        bench.invalid_sign_ins(&[sign_in]).await.expect(time);
        bench.prune_events(MINUTE, 0).await.expect(time);
    }
}

async fn sessions_of_such_times_expire_and_end(bench: Bench) {
    for (n, time) in bench.odd_times().into_iter().enumerate() {
        let (odd, _) = bench.create_session(None, CustomerId(Uuid::from_u128(7))).await.expect("created");
        let overdue = bench.ago(MINUTE);
        let set =
            format!("UPDATE chat_sessions SET created_at = {time}, expires_at = {overdue} WHERE id = '{}'", odd.id);
        bench.without_rule("chat_sessions", "created_at_is_a_time", &set).await;
        let expired = bench.expire_sessions(10).await.expect("expired");
        assert_eq!(expired.iter().map(|change| change.session.id).collect::<Vec<_>>(), [odd.id], "{n}");
        let (odd, _) = bench.create_session(None, CustomerId(Uuid::from_u128(7))).await.expect("created");
        let set = format!("UPDATE chat_sessions SET created_at = {time} WHERE id = '{}'", odd.id);
        bench.without_rule("chat_sessions", "created_at_is_a_time", &set).await;
        let ended = bench.change_session(odd.id, &hadir::domain::SessionAction::End, &cause("")).await.expect("ended");
        assert_eq!(ended.session.status, SessionStatus::Cancelled);
    }
}

async fn a_row_that_cannot_be_read_costs_itself_alone(bench: Bench) {
    for n in 1..=4 {
        bench.online(n).await;
    }
    // The second and the third of four: a page may hold nothing else.
    let whose = format!("mitra_id IN ('{}', '{}')", id(2), id(3));
    match &bench.beside {
        Beside::Sqlite { .. } => {
            let sql = format!("UPDATE mitra_status SET active_sessions = -1 WHERE {whose}");
            bench.without_rule("mitra_status", "active_sessions_not_negative", &sql).await;
        }
        Beside::Postgres { .. } => {
            bench
                .run(format!(
                    "ALTER TABLE mitra_status DISABLE TRIGGER USER, ALTER online_epoch DROP NOT NULL; \
                     UPDATE mitra_status SET online_epoch = NULL WHERE {whose}; \
                     ALTER TABLE mitra_status ENABLE TRIGGER USER"
                ))
                .await;
        }
    }
    let unreadable =
        |answer: Result<(), StoreError>| assert!(matches!(answer, Err(StoreError::Unreadable(_))), "{answer:?}");
    unreadable(bench.mitra(id(2)).await.map(|_| ()));
    unreadable(bench.set_online(id(2), false, &cause("")).await.map(|_| ()));
    let others = [1, 4].map(id);
    assert_eq!(ids(&bench.mitras(&[1, 2, 3, 4].map(id)).await.expect("read")), others);
    for limit in [1, 2, 3, 4] {
        let first = bench.scan(None, limit).await.expect("scanned");
        let second = bench.scan(first.last().map(|row| row.id), limit).await.expect("scanned");
        assert_eq!(ids(&[first, second].concat()), others, "pages of {limit}");
        let first = bench.changed_since(0, limit).await.expect("read");
        let second = bench.changed_since(first.last().map_or(0, |row| row.fence.revision), limit).await.expect("read");
        let mut changed = ids(&[first, second].concat());
        changed.sort_unstable();
        assert_eq!(changed, others, "pages of {limit}");
        let query = |after| MitraQuery { state: DurableState::Any, fresh_within: None, search: None, after, limit };
        let listed = bench.list(&query(None)).await.expect("listed");
        assert_eq!(listed.len(), others.len().min(limit as usize));
        let after = bench.list(&query(Some(id(1)))).await.expect("listed");
        assert_eq!(after.iter().map(|profile| profile.row.id).collect::<Vec<_>>(), [id(4)]);
    }
    let available = bench.find_available(MINUTE, 10).await.expect("found").mitras;
    assert!(available.iter().all(|mitra| others.contains(&mitra.id)) && available.len() == 2, "{available:?}");
    let unknown = bench.unknown_mitras(&[1, 2, 3, 9].map(id)).await.expect("asked");
    assert_eq!(unknown, [id(9)], "who cannot be read is not gone");
}

async fn the_row_of_the_generation_stays(bench: Bench) {
    let before = bench.created(1).await.fence;
    assert!(bench.try_to("DELETE FROM hadir_meta").await.expect_err("refused").contains("its row stays"));
    assert_eq!(bench.row(1).await.fence, before);
}

async fn of_many_sign_ins_those_not_valid_are_named(bench: Bench) {
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(bench.signed_in(id(1).0, 60_000).await);
    }
    let expired = bench.signed_in(id(1).0, -1_000).await;
    let now = bench.at(0);
    bench.run(format!("UPDATE auth_sessions SET revoked_at = {now} WHERE id = '{}'", all[3])).await;
    let unknown: Vec<Uuid> = (0..900).map(|_| Uuid::new_v4()).collect();
    let asked: Vec<Uuid> = all.iter().chain([&expired]).chain(&unknown).copied().collect();
    let mut invalid = bench.invalid_sign_ins(&asked).await.expect("asked");
    let mut expected: Vec<Uuid> = unknown.iter().chain([&expired, &all[3]]).copied().collect();
    invalid.sort_unstable();
    expected.sort_unstable();
    assert_eq!(invalid, expected);
    assert!(bench.invalid_sign_ins(&[]).await.expect("asked").is_empty());
}
