//! What the change feed asks: rows by revision, and sign-ins that are no longer good.

use uuid::Uuid;

use super::{Bench, cause, id, ids, on_both};

on_both!(
    rows_changed_since_a_revision_come_in_its_order,
    a_page_of_changes_is_the_oldest_of_them,
    every_kind_of_change_is_followed,
    the_newest_revision_is_the_greatest_of_all_rows,
    sign_ins_that_are_unknown_expired_or_revoked_are_invalid,
    many_sign_ins_are_judged_at_once,
);

async fn rows_changed_since_a_revision_come_in_its_order(bench: Bench) {
    assert!(bench.changed_since(0, 10).await.expect("read").is_empty());
    for n in [3, 1, 2] {
        bench.created(n).await;
    }
    let all = bench.changed_since(0, 10).await.expect("read");
    assert_eq!(ids(&all), [3, 1, 2].map(id));
    assert_eq!(all[1], bench.row(1).await);
    // The one it was changed to, once.
    bench.set_online(id(3), true, &cause("")).await.expect("online");
    let all = bench.changed_since(0, 10).await.expect("read");
    assert_eq!(ids(&all), [1, 2, 3].map(id));
    let since_first = bench.changed_since(all[0].fence.revision, 10).await.expect("read");
    assert_eq!(ids(&since_first), [2, 3].map(id));
    assert!(bench.changed_since(all[2].fence.revision, 10).await.expect("read").is_empty());
}

async fn a_page_of_changes_is_the_oldest_of_them(bench: Bench) {
    for n in 1..=7 {
        bench.created(n).await;
    }
    let (mut since, mut seen) = (0, Vec::new());
    loop {
        let page = bench.changed_since(since, 3).await.expect("read");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        since = last.fence.revision;
        seen.extend(ids(&page));
    }
    assert_eq!(seen, (1..=7).map(id).collect::<Vec<_>>());
    assert!(bench.changed_since(0, 0).await.expect("read").is_empty());
}

async fn every_kind_of_change_is_followed(bench: Bench) {
    bench.online(1).await;
    bench.created(2).await;
    let mut since = bench.newest_revision().await.expect("read");
    let (first, session) = (id(1), id(7));
    for (sql, changes) in [
        (format!("UPDATE mitras SET max_sessions = 9 WHERE id = '{first}'"), true),
        (format!("UPDATE mitra_status SET is_online = false WHERE mitra_id = '{first}'"), true),
        (format!("UPDATE mitras SET is_active = false WHERE id = '{first}'"), true),
        (format!("INSERT INTO customers (id) VALUES ('{session}')"), false),
        (
            format!(
                "INSERT INTO chat_sessions (id, customer_id, mitra_id, status) \
                 VALUES ('{session}', '{session}', '{first}', 'pending_payment')"
            ),
            true,
        ),
        // The load is the same.
        ("UPDATE chat_sessions SET status = 'active'".to_owned(), false),
        ("UPDATE chat_sessions SET status = 'ended'".to_owned(), true),
    ] {
        bench.run(sql.clone()).await;
        let changed = bench.changed_since(since, 10).await.expect("read");
        assert_eq!(ids(&changed), if changes { vec![first] } else { Vec::new() }, "{sql}");
        since = bench.newest_revision().await.expect("read");
    }
    // Heartbeats and names are no changes.
    bench.record_heartbeats(&[(id(1), std::time::Duration::ZERO)]).await.expect("recorded");
    bench.put_mitra(id(1), "Another", None, &cause("")).await.expect("renamed");
    assert_eq!(bench.newest_revision().await.expect("read"), since);
}

async fn the_newest_revision_is_the_greatest_of_all_rows(bench: Bench) {
    assert_eq!(bench.newest_revision().await.expect("read"), 0);
    bench.created(1).await;
    let second = bench.created(2).await.fence.revision;
    assert_eq!(bench.newest_revision().await.expect("read"), second);
    let first = bench.set_online(id(1), true, &cause("")).await.expect("online").row.fence.revision;
    assert!(first > second);
    assert_eq!(bench.newest_revision().await.expect("read"), first);
}

async fn sign_ins_that_are_unknown_expired_or_revoked_are_invalid(bench: Bench) {
    bench.online(1).await;
    let good = bench.signed_in(id(2).0, 60_000).await;
    let expired = bench.signed_in(id(2).0, -1).await;
    let revoked = bench.signed_in(id(2).0, 60_000).await;
    let deactivated = bench.signed_in(id(1).0, 60_000).await;
    let unknown = Uuid::new_v4();
    let now = bench.at(0);
    bench.run(format!("UPDATE auth_sessions SET revoked_at = {now} WHERE id = '{revoked}'")).await;
    assert!(bench.invalid_sign_ins(&[good, deactivated]).await.expect("read").is_empty());
    bench.set_active(id(1), false, &cause("")).await.expect("deactivated");
    let asked = [expired, good, unknown, revoked, deactivated];
    let mut invalid = bench.invalid_sign_ins(&asked).await.expect("read");
    invalid.sort_unstable();
    let mut expected = vec![expired, unknown, revoked, deactivated];
    expected.sort_unstable();
    assert_eq!(invalid, expected);
    assert!(bench.invalid_sign_ins(&[]).await.expect("read").is_empty());
}

async fn many_sign_ins_are_judged_at_once(bench: Bench) {
    let mut asked: Vec<_> = (0..1000).map(|_| Uuid::new_v4()).collect();
    asked[500] = bench.signed_in(id(1).0, 60_000).await;
    let invalid = bench.invalid_sign_ins(&asked).await.expect("read");
    assert_eq!(invalid.len(), 999);
    assert!(!invalid.contains(&asked[500]));
}
