//! Sessions as another program writes them, many rows in one statement: loads, revisions, events and bells follow, and what
//! cannot be is refused with the rule by name.

use std::collections::HashSet;

use futures_util::StreamExt;
use hadir::{
    domain::{MitraId, Payment, SessionAction, SessionStatus},
    store::{Bell, StoreError},
};
use sqlx::AssertSqlSafe;

use super::{super::Kind, Bench, HOUR, accept, cause, id, reroute, session_id};
use crate::support::PATIENCE;

/// Mitras 1 to 10 with room for 100 each, and one customer.
async fn bench() -> Bench {
    let bench = Kind::Postgres.empty().await;
    bench.run("INSERT INTO mitras (id, max_sessions) SELECT lpad(to_hex(n), 32, '0')::uuid, 100 FROM generate_series(1, 10) n; \
         UPDATE mitra_status SET is_online = true; INSERT INTO customers VALUES (lpad('1', 32, '0')::uuid)".to_owned()).await;
    bench
}

/// Sessions from and to these numbers; session n is of mitra n mod 10 + 1.
fn insert(from: u32, to: u32, status: SessionStatus) -> String {
    format!(
        "INSERT INTO chat_sessions (id, customer_id, mitra_id, status, expires_at) \
         SELECT ('0000c4a7' || lpad(to_hex(n), 24, '0'))::uuid, lpad('1', 32, '0')::uuid, \
         lpad(to_hex(n % 10 + 1), 32, '0')::uuid, '{status}', now() + interval '1 hour' FROM generate_series({from}, {to}) n"
    )
}

impl Bench {
    async fn refused(&self, sql: &str) -> String {
        let refused = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(self.sql()).await.expect_err(sql);
        let detail = refused.as_database_error().and_then(|error| {
            error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().and_then(|error| error.detail())
        });
        format!("{refused}; {}", detail.unwrap_or_default())
    }

    async fn loads(&self) -> Vec<u32> {
        assert_eq!(self.miscounted().await, 0);
        self.scan(None, 100).await.expect("scanned").iter().map(|row| row.sessions).collect()
    }

    async fn kinds_of_sessions(&self, kind: &str) -> i64 {
        self.count(format!("SELECT count(*) FROM presence_events WHERE kind = '{kind}' AND actor = 'sql'")).await
    }
}

#[tokio::test]
async fn many_rows_inserted_updated_and_deleted_move_the_loads() {
    let bench = bench().await;
    bench.run(insert(1, 50, SessionStatus::Active)).await;
    assert_eq!(bench.loads().await, [5; 10]);
    bench.run(insert(51, 70, SessionStatus::PendingPayment)).await;
    bench.run(insert(71, 90, SessionStatus::Ended)).await;
    assert_eq!(bench.loads().await, [7; 10]);
    assert_eq!(bench.kinds_of_sessions("session_started").await, 70);
    // All to one, and the half of those over.
    bench.run("UPDATE chat_sessions SET mitra_id = lpad('3', 32, '0')::uuid WHERE status = 'active'".to_owned()).await;
    assert_eq!(bench.loads().await, [2, 2, 52, 2, 2, 2, 2, 2, 2, 2]);
    // The five of mitra 3 stayed where they were.
    assert_eq!(bench.kinds_of_sessions("session_rerouted").await, 45);
    bench.run("UPDATE chat_sessions SET status = 'ended' WHERE status = 'active'".to_owned()).await;
    assert_eq!((bench.loads().await, bench.kinds_of_sessions("session_ended").await), (vec![2; 10], 50));
    bench.run("UPDATE chat_sessions SET status = 'active' WHERE status = 'pending_payment'".to_owned()).await;
    assert_eq!((bench.loads().await, bench.kinds_of_sessions("session_confirmed").await), (vec![2; 10], 20));
    // Ids and customers may change too.
    bench.run("UPDATE chat_sessions SET id = gen_random_uuid()".to_owned()).await;
    assert_eq!(bench.loads().await, [2; 10]);
    bench.run("DELETE FROM chat_sessions WHERE mitra_id <= lpad('5', 32, '0')::uuid".to_owned()).await;
    assert_eq!(bench.loads().await, [0, 0, 0, 0, 0, 2, 2, 2, 2, 2]);
    bench.run("TRUNCATE chat_sessions".to_owned()).await;
    assert_eq!(bench.loads().await, [0; 10]);
}

#[tokio::test]
async fn one_statement_of_several_kinds_and_one_transaction_of_several_statements() {
    let bench = bench().await;
    bench.run(insert(1, 40, SessionStatus::Active)).await;
    let upsert = format!("{} ON CONFLICT (id) DO UPDATE SET status = 'ended'", insert(31, 60, SessionStatus::Active));
    bench.run(upsert).await;
    assert_eq!(bench.loads().await, [5; 10]);
    bench
        .run(format!(
            "BEGIN; {}; UPDATE chat_sessions SET status = 'expired' WHERE status = 'active'; \
             UPDATE mitra_status SET is_online = false; DELETE FROM chat_sessions; {}; COMMIT",
            insert(61, 90, SessionStatus::Active),
            insert(1, 20, SessionStatus::PendingPayment),
        ))
        .await;
    assert_eq!(bench.loads().await, [2; 10]);
    bench.run(format!("BEGIN; {}; ROLLBACK", insert(100, 200, SessionStatus::Active))).await;
    assert_eq!(bench.loads().await, [2; 10]);
}

#[tokio::test]
async fn what_moves_no_load_is_no_new_revision() {
    let bench = bench().await;
    bench.run(insert(1, 20, SessionStatus::Active)).await;
    let newest = bench.newest_revision().await.expect("read");
    for sql in [
        "UPDATE chat_sessions SET expires_at = expires_at + interval '1 hour'",
        "UPDATE chat_sessions SET status = 'pending_payment'",
        "UPDATE chat_sessions SET status = status, mitra_id = mitra_id",
        "UPDATE chat_sessions SET status = 'ended' WHERE false",
        "DELETE FROM chat_sessions WHERE false",
        // Two change places.
        "UPDATE chat_sessions SET mitra_id = CASE mitra_id WHEN lpad('1', 32, '0')::uuid THEN lpad('2', 32, '0')::uuid \
         ELSE lpad('1', 32, '0')::uuid END WHERE mitra_id <= lpad('2', 32, '0')::uuid",
    ] {
        bench.run(sql.to_owned()).await;
        assert_eq!(bench.newest_revision().await.expect("read"), newest, "{sql}");
        assert_eq!(bench.loads().await, [2; 10], "{sql}");
    }
    assert_eq!(bench.kinds_of_sessions("session_rerouted").await, 4);
}

#[tokio::test]
async fn each_mitra_concerned_rings_once_for_a_statement() {
    let bench = bench().await;
    let mut bells = bench.bells().await.expect("a bell");
    let mut heard = async || tokio::time::timeout(PATIENCE, bells.next()).await.expect("in time").expect("a bell");
    assert_eq!(heard().await, Bell::Missed);
    bench.run(insert(1, 50, SessionStatus::Active)).await;
    let mut rung = HashSet::new();
    for _ in 0..10 {
        let Bell::Mitra { id, revision } = heard().await else { panic!("not a mitra's") };
        assert!(rung.insert(id));
        assert_eq!(bench.mitra(id).await.expect("read").expect("exists").fence.revision, revision);
    }
    bench.run("DELETE FROM chat_sessions WHERE mitra_id = lpad('7', 32, '0')::uuid".to_owned()).await;
    assert!(matches!(heard().await, Bell::Mitra { id: who, .. } if who == id(7)));
}

#[tokio::test]
async fn sessions_of_both_kinds_of_writers_mix() {
    let bench = bench().await;
    bench.run("UPDATE mitras SET max_sessions = 3".to_owned()).await;
    // Plain SQL may do what the law refuses to the API.
    bench.run(insert(1, 50, SessionStatus::PendingPayment)).await;
    assert_eq!(bench.loads().await, [5; 10]);
    let paid = bench.does(7, &SessionAction::ConfirmPayment).await.expect("confirmed");
    assert_eq!((paid.session.status, paid.mitras[0].sessions), (SessionStatus::Active, 5));
    assert!(bench.does(7, &reroute(1)).await.is_err());
    bench.does(7, &SessionAction::Extend { by: HOUR }).await.expect("extended");
    bench.does(7, &SessionAction::End).await.expect("ended");
    assert_eq!(bench.row(8).await.sessions, 4);
    bench.searching(100).await;
    let refused = bench.does(100, &accept(1, Payment::Paid)).await;
    assert!(matches!(refused, Err(StoreError::CapacityExceeded(_))), "{refused:?}");
}

#[tokio::test]
async fn states_that_cannot_be_are_refused_with_the_rule_by_name() {
    let bench = bench().await;
    bench.run(insert(1, 10, SessionStatus::Active)).await;
    for (sql, rule) in [
        ("UPDATE chat_sessions SET status = 'lost'", "status_is_known"),
        ("UPDATE chat_sessions SET mitra_id = NULL", "a_session_under_way_has_a_mitra"),
        ("UPDATE chat_sessions SET status = 'searching'", "a_searching_session_has_no_mitra"),
        ("UPDATE chat_sessions SET expires_at = 'infinity'", "expires_at_is_a_time"),
        ("UPDATE chat_sessions SET status = NULL", "null value in column \"status\""),
        (
            "UPDATE chat_sessions SET mitra_id = lpad('b', 32, '0')::uuid",
            "(mitra_id)=(00000000-0000-0000-0000-00000000000b) is not present in table \"mitras\"",
        ),
        (
            "UPDATE chat_sessions SET customer_id = lpad('b', 32, '0')::uuid",
            "(customer_id)=(00000000-0000-0000-0000-00000000000b) is not present in table \"customers\"",
        ),
        // Who has sessions, of now or of then, is not removed.
        ("DELETE FROM mitras", "is still referenced from table \"chat_sessions\""),
        ("DELETE FROM customers", "is still referenced from table \"chat_sessions\""),
    ] {
        let refused = bench.refused(sql).await;
        assert!(refused.contains(rule), "{sql}: {refused}");
        assert_eq!(bench.loads().await, [1; 10], "nothing half-written");
    }
    bench.run("DELETE FROM chat_sessions; DELETE FROM mitras; DELETE FROM customers".to_owned()).await;
}

#[tokio::test]
async fn a_writers_own_search_path_does_not_matter() {
    let bench = bench().await;
    let schema = &bench.schema().name;
    let insert = insert(1, 10, SessionStatus::Active).replace("chat_sessions", &format!("{schema}.chat_sessions"));
    bench.run(format!("SET search_path = pg_catalog; {insert}; RESET search_path")).await;
    assert_eq!(bench.loads().await, [1; 10]);
    let mitras: Vec<MitraId> = (1..=10).map(id).collect();
    assert_eq!(bench.mitras(&mitras).await.expect("read").len(), 10);
    bench.change_session(session_id(3), &SessionAction::End, &cause("")).await.expect("ended");
}
