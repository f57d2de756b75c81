//! Heartbeats as ages: only forward, only of those who exist, the same from every node.

use std::time::Duration;

use super::{Bench, id, on_both};

on_both!(
    a_heartbeat_is_stamped_at_its_age,
    an_older_heartbeat_moves_nothing,
    unknown_ids_are_ignored,
    one_of_the_future_is_corrected_by_the_next,
    of_an_id_that_comes_twice_the_newest_counts,
    a_heartbeat_is_no_change_of_the_row,
    an_absurd_age_is_taken_for_very_long_ago,
    nodes_that_report_the_same_mitras_in_other_orders_agree,
);

const MINUTE: Duration = Duration::from_secs(60);

/// Clocks run between a write and a look at it.
fn about(age: Option<Duration>, expected: Duration) -> bool {
    age.is_some_and(|age| age >= expected && age < expected + Duration::from_secs(30))
}

async fn a_heartbeat_is_stamped_at_its_age(bench: Bench) {
    bench.created(1).await;
    bench.created(2).await;
    assert_eq!(bench.record_heartbeats(&[(id(1), MINUTE), (id(2), Duration::ZERO)]).await.expect("recorded"), 2);
    assert!(about(bench.age(1).await, MINUTE), "{:?}", bench.age(1).await);
    assert!(about(bench.age(2).await, Duration::ZERO));
}

async fn an_older_heartbeat_moves_nothing(bench: Bench) {
    bench.created(1).await;
    assert_eq!(bench.record_heartbeats(&[(id(1), MINUTE)]).await.expect("recorded"), 1);
    // The same beat, told again later, and an older one.
    assert_eq!(bench.record_heartbeats(&[(id(1), MINUTE * 2)]).await.expect("recorded"), 0);
    assert!(about(bench.age(1).await, MINUTE));
    assert_eq!(bench.record_heartbeats(&[(id(1), Duration::ZERO)]).await.expect("recorded"), 1);
    assert!(about(bench.age(1).await, Duration::ZERO));
}

async fn one_of_the_future_is_corrected_by_the_next(bench: Bench) {
    bench.online(1).await;
    let at = bench.at(3_600_000);
    bench.run(format!("UPDATE mitra_heartbeats SET last_heartbeat_at = {at}")).await;
    assert_eq!(bench.age(1).await, None);
    assert_eq!(bench.record_heartbeats(&[(id(1), MINUTE)]).await.expect("recorded"), 1);
    assert!(about(bench.age(1).await, MINUTE), "{:?}", bench.age(1).await);
    // Within the tolerance it only rises.
    let at = bench.at(3_000);
    bench.run(format!("UPDATE mitra_heartbeats SET last_heartbeat_at = {at}")).await;
    assert_eq!(bench.record_heartbeats(&[(id(1), Duration::from_secs(5))]).await.expect("recorded"), 0);
}

async fn unknown_ids_are_ignored(bench: Bench) {
    bench.created(1).await;
    let beats = [(id(8), Duration::ZERO), (id(1), Duration::ZERO), (id(9), Duration::ZERO)];
    assert_eq!(bench.record_heartbeats(&beats).await.expect("recorded"), 1);
    assert_eq!(bench.mitra(id(8)).await.expect("read"), None);
    assert_eq!(bench.record_heartbeats(&[]).await.expect("recorded"), 0);
}

async fn of_an_id_that_comes_twice_the_newest_counts(bench: Bench) {
    bench.created(1).await;
    let beats = [(id(1), MINUTE * 3), (id(1), MINUTE), (id(1), MINUTE * 2)];
    assert_eq!(bench.record_heartbeats(&beats).await.expect("recorded"), 1);
    assert!(about(bench.age(1).await, MINUTE), "{:?}", bench.age(1).await);
}

async fn a_heartbeat_is_no_change_of_the_row(bench: Bench) {
    let before = bench.online(1).await;
    bench.silence(1, MINUTE).await;
    assert_eq!(bench.record_heartbeats(&[(id(1), Duration::ZERO)]).await.expect("recorded"), 1);
    let after = bench.row(1).await;
    assert_eq!((after.fence, after.online_epoch, after.online), (before.fence, before.online_epoch, true));
    assert_eq!(bench.kinds(1).await, ["online", "created"]);
}

async fn an_absurd_age_is_taken_for_very_long_ago(bench: Bench) {
    bench.created(1).await;
    bench.online(2).await;
    bench.record_heartbeats(&[(id(1), Duration::MAX), (id(2), Duration::MAX)]).await.expect("recorded");
    assert!(bench.age(1).await.is_none_or(|age| age > MINUTE * 60 * 24 * 365));
    assert!(about(bench.age(2).await, Duration::ZERO));
}

async fn nodes_that_report_the_same_mitras_in_other_orders_agree(bench: Bench) {
    const MITRAS: u128 = 300;
    for n in 1..=MITRAS {
        bench.created(n).await;
    }
    for round in 0..5u32 {
        let age = Duration::from_secs(u64::from(500 - 100 * round));
        let forwards: Vec<_> = (1..=MITRAS).map(|n| (id(n), age)).collect();
        let older: Vec<_> = forwards.iter().rev().map(|(id, age)| (*id, *age + MINUTE)).collect();
        let (a, b, c) = tokio::join!(
            bench.record_heartbeats(&forwards),
            bench.record_heartbeats(&older),
            bench.record_heartbeats(&forwards[50..]),
        );
        assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
    }
    for n in 1..=MITRAS {
        let age = bench.age(n).await;
        assert!(about(age, Duration::from_secs(100)), "{n}: {age:?}");
    }
}
