//! Taking the silent out, putting them back, and forgetting.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use hadir::{
    domain::Fence,
    mirror::{Applied, Beat},
};

use crate::support::PATIENCE;

use super::{Bench, Kind, aged, beat, calm, eventually, hasty, id, on_both, row, with, write};

on_both! {
    the_silent_are_claimed_and_the_fresh_are_not,
    a_claim_takes_no_more_than_it_may_and_not_always_the_same,
    a_claimed_mitra_is_put_back_as_it_was,
    what_was_applied_after_a_claim_stays,
    a_beat_during_a_claim_counts_once_it_is_put_back,
    an_abandoned_claim_is_given_to_the_next,
    a_row_of_the_same_fence_undoes_a_claim,
    forgetting_removes_every_trace_unless_something_newer_is_known,
    every_known_id_is_listed,
}

const OLD: Duration = Duration::from_secs(90);

async fn with_silent(kind: Kind, silent: u128) -> Bench {
    let bench = kind.open(calm()).await;
    let rows: Vec<_> = (0..silent).map(|n| aged(row(n, 1), OLD)).collect();
    bench.apply(&rows).await.unwrap();
    bench
}

async fn the_silent_are_claimed_and_the_fresh_are_not(kind: Kind) {
    let bench = with_silent(kind, 3).await;
    bench.apply(&[write(row(10, 1)), aged(row(11, 1), Duration::from_secs(70))]).await.unwrap();
    assert_eq!(bench.count_silent(Duration::from_secs(80)).await.unwrap(), 3);
    let claimed = bench.claimed(Duration::from_secs(80), 10).await;
    let ids: BTreeSet<_> = claimed.iter().map(|claim| claim.id).collect();
    assert_eq!(ids, BTreeSet::from([id(0), id(1), id(2)]));
    let now_ms = bench.now_ms().await;
    assert!(claimed.iter().all(|claim| claim.online_epoch == 1 && claim.last_ms <= now_ms - 90_000));
    let counts = bench.counted().await;
    assert_eq!((counts.online, counts.suspect, counts.reachable), (2, 1, 1));
    assert_eq!(bench.count_silent(Duration::from_secs(80)).await.unwrap(), 0);
    assert!(bench.claimed(Duration::from_secs(80), 10).await.is_empty());
}

async fn a_claim_takes_no_more_than_it_may_and_not_always_the_same(kind: Kind) {
    let bench = with_silent(kind, 20).await;
    let mut first = BTreeSet::new();
    for _ in 0..40 {
        let claimed = bench.claimed(OLD, 5).await;
        assert_eq!(claimed.len(), 5);
        first.insert(claimed[0].id);
        bench.unclaim(&claimed).await.unwrap();
        assert_eq!(bench.counted().await.online, 20);
    }
    assert!(first.len() > 5, "40 claims began with only {} of 20", first.len());
}

async fn a_claimed_mitra_is_put_back_as_it_was(kind: Kind) {
    let bench = kind.open(calm()).await;
    bench.apply(&[aged(with(row(1, 7), |facts| (facts.sessions, facts.max_sessions) = (1, 2)), OLD)]).await.unwrap();
    let before = bench.entries(&[id(1)]).await.unwrap().of_each[0].clone().unwrap();
    let claimed = bench.claimed(OLD, 1).await;
    let taken = bench.entries(&[id(1)]).await.unwrap().of_each[0].clone().unwrap();
    assert_eq!((taken.online, taken.heartbeat_age, taken.fence), (false, None, before.fence));
    bench.unclaim(&claimed).await.unwrap();
    bench.unclaim(&claimed).await.unwrap();
    let after = bench.entries(&[id(1)]).await.unwrap().of_each[0].clone().unwrap();
    assert!(after.heartbeat_age >= before.heartbeat_age);
    assert_eq!(hadir::mirror::Entry { heartbeat_age: before.heartbeat_age, ..after }, before);
}

async fn what_was_applied_after_a_claim_stays(kind: Kind) {
    let bench = with_silent(kind, 3).await;
    let claimed = bench.claimed(OLD, 3).await;
    bench.applied(with(row(0, 2), |facts| facts.online = false)).await;
    let began = Instant::now();
    bench.applied(with(row(1, 2), |facts| facts.online_epoch = 2)).await;
    bench.unclaim(&claimed).await.unwrap();
    let counts = bench.counted().await;
    assert_eq!((counts.online, counts.reachable, counts.suspect), (2, 1, 1));
    let age = bench.age(1).await.unwrap();
    assert!(age < began.elapsed() + Duration::from_secs(5), "the new go-online was aged by the old claim: {age:?}");
}

async fn a_beat_during_a_claim_counts_once_it_is_put_back(kind: Kind) {
    let bench = with_silent(kind, 2).await;
    let claimed = bench.claimed(OLD, 2).await;
    let other = Beat { online_epoch: 9, ..beat(1) };
    let began = Instant::now();
    let refused = bench.beat(&[beat(0), other]).await.unwrap().refused;
    assert_eq!(refused.len(), 1, "the right epoch is not refused: nobody has decided yet");
    assert_eq!(bench.counted().await.online, 0, "and yet it lists nobody");
    bench.unclaim(&claimed).await.unwrap();
    let counts = bench.counted().await;
    assert_eq!((counts.reachable, counts.suspect), (1, 1));
    assert!(bench.age(0).await.unwrap() < began.elapsed() + Duration::from_secs(5));
}

async fn an_abandoned_claim_is_given_to_the_next(kind: Kind) {
    let bench = kind.open(hasty()).await;
    let silent = hasty().suspect_after;
    bench.applied(row(1, 1)).await;
    eventually("silent", || async { bench.count_silent(silent).await.unwrap() == 1 }).await;
    let claimed = bench.claimed(silent, 10).await;
    assert_eq!(claimed.len(), 1);
    // Its node dies here. After the time of suspicion the claim is anybody's.
    let began = Instant::now();
    let again = loop {
        let again = bench.claimed(silent, 10).await;
        if !again.is_empty() {
            break again;
        }
        assert!(began.elapsed() < PATIENCE, "still not: an abandoned claim is given to the next");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(again, claimed);
    assert!(began.elapsed() >= silent / 2, "a claim that was just made was given away");
}

async fn a_row_of_the_same_fence_undoes_a_claim(kind: Kind) {
    let bench = with_silent(kind, 1).await;
    bench.claimed(OLD, 1).await;
    // The reseed finds the truth unchanged: the sweep that claimed was lost.
    let lost = aged(row(0, 1), Duration::from_secs(200));
    assert_eq!(bench.apply(&[lost]).await.unwrap().outcomes, [Applied::Changed]);
    let counts = bench.counted().await;
    assert_eq!((counts.online, counts.suspect), (1, 1));
    let age = bench.age(0).await.unwrap();
    assert!(age >= OLD && age < Duration::from_secs(150), "the time before the claim was lost: {age:?}");
    assert_eq!(bench.claimed(OLD, 1).await.len(), 1);
}

async fn forgetting_removes_every_trace_unless_something_newer_is_known(kind: Kind) {
    let bench = kind.open(calm()).await;
    let gone = with(row(3, 5), |facts| (facts.online, facts.active, facts.sessions) = (false, false, 2));
    bench.apply(&[write(row(1, 5)), write(row(2, 5)), write(gone)]).await.unwrap();
    let seen = |revision| Fence { generation: 1, revision };
    let removed = bench.forget(&[(id(1), seen(4)), (id(2), seen(5)), (id(3), seen(6)), (id(4), seen(6))]).await;
    assert_eq!(removed.unwrap(), 2);
    let entries = bench.entries(&[id(1), id(2), id(3), id(4)]).await.unwrap().of_each;
    let known: Vec<bool> = entries.iter().map(Option::is_some).collect();
    assert_eq!(known, [true, false, false, false]);
    let counts = bench.counted().await;
    assert_eq!((counts.online, counts.available, counts.deactivated), (1, 1, 0));
    assert!(!bench.is_deactivated(id(3)).await.unwrap());
}

async fn every_known_id_is_listed(kind: Kind) {
    let bench = kind.open(calm()).await;
    // Ids that differ in both halves, more than a page of them, in every state.
    let number = |n: u128| (n / 7) << 80 | n;
    for part in (0..1_700u128).collect::<Vec<_>>().chunks(1_000) {
        let rows: Vec<_> = part
            .iter()
            .map(|n| write(with(row(number(*n), 1), |facts| (facts.online, facts.active) = (n % 3 != 0, n % 5 != 0))))
            .collect();
        bench.apply(&rows).await.unwrap();
    }
    let (mut listed, mut cursor) = (BTreeSet::new(), 0);
    loop {
        let (next, page) = bench.known(cursor).await.unwrap();
        listed.extend(page);
        if next == 0 {
            break;
        }
        cursor = next;
    }
    assert_eq!(listed, (0..1_700).map(|n| id(number(n))).collect());
}
