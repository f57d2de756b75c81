//! Heartbeats extend life and never give it.

use std::time::Duration;

use hadir::mirror::{Beat, Refused};

use super::{Kind, aged, beat, calm, eventually, hasty, id, on_both, row, with, write};

on_both! {
    a_beat_keeps_a_mitra_fresh,
    a_beat_is_refused_with_the_reason_and_the_epoch,
    a_beat_moves_only_forward,
    a_beat_from_the_future_is_taken_as_now,
    an_empty_batch_is_a_pulse,
    a_beat_of_a_busy_mitra_does_not_make_it_available,
}

async fn a_beat_keeps_a_mitra_fresh(kind: Kind) {
    let bench = kind.open(hasty()).await;
    bench.apply(&[write(row(1, 1)), write(row(2, 2))]).await.unwrap();
    eventually("the silent one has left", || async {
        assert!(bench.beat(&[beat(1)]).await.unwrap().refused.is_empty());
        bench.counted().await.reachable == 1
    })
    .await;
    assert_eq!(bench.counted().await.suspect, 1);
    assert!(bench.age(1).await.unwrap() < hasty().suspect_after);
    // A beat brings a suspect one back: it is still online.
    assert!(bench.beat(&[beat(2)]).await.unwrap().refused.is_empty());
    assert_eq!(bench.age(2).await.map(|age| age < hasty().suspect_after), Some(true));
}

async fn a_beat_is_refused_with_the_reason_and_the_epoch(kind: Kind) {
    let bench = kind.open(calm()).await;
    let rows = [
        write(with(row(1, 1), |facts| (facts.online, facts.online_epoch) = (false, 4))),
        write(with(row(2, 2), |facts| (facts.online, facts.active, facts.online_epoch) = (false, false, 5))),
        write(with(row(3, 3), |facts| (facts.active, facts.online_epoch) = (false, 6))),
        write(with(row(4, 4), |facts| facts.online_epoch = 7)),
        write(row(5, 5)),
    ];
    bench.apply(&rows).await.unwrap();
    let beats: Vec<Beat> = (1..=6).map(beat).collect();
    let refused = bench.beat(&beats).await.unwrap().refused;
    let told: Vec<_> = refused.iter().map(|refusal| (refusal.id, refusal.why, refusal.online_epoch)).collect();
    let expected = [
        (id(1), Refused::Offline, 4),
        (id(2), Refused::Deactivated, 5),
        (id(3), Refused::Deactivated, 6),
        (id(4), Refused::OtherEpoch, 7),
        (id(6), Refused::Unknown, 0),
    ];
    assert_eq!(told, expected);
    assert_eq!(bench.counted().await.reachable, 2, "a refused beat lists nobody");
}

async fn a_beat_moves_only_forward(kind: Kind) {
    let bench = kind.open(calm()).await;
    // Far more than a busy machine can make of any of these steps.
    bench.apply(&[aged(row(1, 1), Duration::from_secs(2_000))]).await.unwrap();
    let now_ms = bench.now_ms().await;
    let at = |ms_ago| Beat { at_ms: now_ms - ms_ago, ..beat(1) };
    assert!(bench.beat(&[at(1_000_000)]).await.unwrap().refused.is_empty());
    assert!(bench.beat(&[at(1_500_000)]).await.unwrap().refused.is_empty(), "late, but not refused");
    let age = bench.age(1).await.unwrap();
    assert!(age >= Duration::from_secs(1_000) && age < Duration::from_secs(1_400), "{age:?}");
}

async fn a_beat_from_the_future_is_taken_as_now(kind: Kind) {
    let bench = kind.open(hasty()).await;
    bench.applied(row(1, 1)).await;
    let now_ms = bench.now_ms().await;
    bench.beat(&[Beat { at_ms: now_ms + 3_600_000, ..beat(1) }]).await.unwrap();
    assert!(bench.age(1).await.unwrap() < Duration::from_secs(1_000), "an hour ahead is not an hour of life");
    eventually("it goes stale like any other", || async { bench.counted().await.reachable == 0 }).await;
}

async fn an_empty_batch_is_a_pulse(kind: Kind) {
    let bench = kind.open(calm()).await;
    let report = bench.beat(&[]).await.unwrap();
    assert!(report.refused.is_empty());
    assert!(report.pulse.epoch.is_some());
    assert!(bench.apply(&[]).await.unwrap().outcomes.is_empty());
}

async fn a_beat_of_a_busy_mitra_does_not_make_it_available(kind: Kind) {
    let bench = kind.open(calm()).await;
    bench.applied(with(row(1, 1), |facts| facts.sessions = 1)).await;
    assert!(bench.beat(&[beat(1)]).await.unwrap().refused.is_empty());
    let counts = bench.counted().await;
    assert_eq!((counts.available, counts.busy), (0, 1));
    bench.applied(row(1, 2)).await;
    assert_eq!(bench.counted().await.available, 1, "the session ended");
}
