//! When a snapshot is published, and what it says.

use std::time::Duration;

use hadir::{
    domain::Snapshot,
    mirror::{MirrorEvent, MirrorSettings},
};

use super::{Bench, Kind, beat, calm, eventually, hasty, heard, on_both, row, with, write};

on_both! {
    nothing_is_published_before_the_mirror_is_seeded,
    opening_publishes_the_first_snapshot_and_happens_once,
    the_version_rises_only_when_the_count_changes,
    a_flip_of_any_goes_at_once_and_counts_wait_for_their_window,
    a_change_that_is_taken_back_within_the_window_is_not_told,
    a_late_pulse_publishes_what_waited,
    a_silent_mitra_leaves_the_count_by_ticks_alone,
    published_snapshots_are_heard_in_order,
    the_cached_snapshot_is_kept_fresh_while_somebody_ticks,
    the_cached_snapshot_dies_when_nobody_ticks,
    history_begins_with_the_first_pulse,
}

fn snapshots(event: MirrorEvent) -> Option<Snapshot> {
    match event {
        MirrorEvent::Snapshot(snapshot) => Some(snapshot),
        _ => None,
    }
}

async fn nothing_is_published_before_the_mirror_is_seeded(kind: Kind) {
    let bench = kind.empty(calm()).await;
    let pulse = bench.apply(&[write(row(1, 1))]).await.unwrap().pulse;
    assert!(pulse.epoch.is_none() && pulse.snapshot.is_none() && pulse.due_in.is_none());
    assert!(bench.tick().await.unwrap().epoch.is_none());
    assert!(bench.beat(&[beat(1)]).await.unwrap().pulse.epoch.is_none());
    assert_eq!(bench.cached_snapshot().await.unwrap(), None);
    assert!(bench.history().await.unwrap().is_empty());
    assert_eq!(bench.counted().await.available, 1, "it counts, but is not to be believed");
}

async fn opening_publishes_the_first_snapshot_and_happens_once(kind: Kind) {
    let bench = kind.empty(calm()).await;
    bench.applied(row(1, 1)).await;
    let epoch = bench.open_epoch(0).await.unwrap();
    assert!(!epoch.is_empty());
    let cached = bench.cached_snapshot().await.unwrap().unwrap();
    assert_eq!((&cached.epoch, cached.version, cached.available, cached.stale), (&epoch, 1, 1, false));
    assert_eq!(cached.source, bench.source());
    assert_eq!(bench.open_epoch(0).await.unwrap(), epoch);
    assert_eq!(bench.snapshot().await.version, 1);
    let other = kind.empty(calm()).await;
    assert_ne!(other.open_epoch(0).await.unwrap(), epoch, "another mirror is another epoch");
}

async fn the_version_rises_only_when_the_count_changes(kind: Kind) {
    let bench = kind.open(calm()).await;
    let version = async |bench: &Bench| bench.snapshot().await.version;
    let empty = version(&bench).await;
    bench.applied(row(1, 1)).await;
    assert_eq!(version(&bench).await, empty + 1);
    bench.beat(&[beat(1)]).await.unwrap();
    bench.applied(row(1, 2)).await;
    bench.applied(with(row(2, 3), |facts| facts.online = false)).await;
    bench.tick().await.unwrap();
    assert_eq!(version(&bench).await, empty + 1, "one available all the time");
    bench.applied(with(row(1, 4), |facts| facts.sessions = 1)).await;
    assert_eq!(version(&bench).await, empty + 2, "busy is not available");
    assert_eq!(bench.snapshot().await.available, 0);
}

/// A window that only ends when the test has waited for it.
fn windowed() -> MirrorSettings {
    MirrorSettings { snapshot_window: Duration::from_secs(2), ..calm() }
}

async fn a_flip_of_any_goes_at_once_and_counts_wait_for_their_window(kind: Kind) {
    let bench = kind.open(windowed()).await;
    let first = bench.apply(&[write(row(1, 1))]).await.unwrap().pulse;
    let version = first.snapshot.as_ref().unwrap().version;
    assert_eq!((first.snapshot.unwrap().available, first.due_in), (1, None), "none to one");

    let waiting = bench.apply(&[write(row(2, 2))]).await.unwrap().pulse;
    let due_in = waiting.due_in.expect("one to two waits");
    assert!(due_in > Duration::ZERO && due_in <= windowed().snapshot_window, "{due_in:?}");
    let shown = waiting.snapshot.unwrap();
    assert_eq!((shown.available, shown.version), (1, version));
    assert_eq!(bench.cached_snapshot().await.unwrap().unwrap().version, version);

    let off =
        [write(with(row(1, 3), |facts| facts.online = false)), write(with(row(2, 4), |facts| facts.online = false))];
    let flipped = bench.apply(&off).await.unwrap().pulse;
    let shown = flipped.snapshot.unwrap();
    assert_eq!((shown.available, shown.version, flipped.due_in), (0, version + 1, None), "two to none");
}

async fn a_change_that_is_taken_back_within_the_window_is_not_told(kind: Kind) {
    let bench = kind.open(windowed()).await;
    bench.applied(row(1, 1)).await;
    let version = bench.snapshot().await.version;
    bench.applied(row(2, 2)).await;
    let pulse = bench.apply(&[write(with(row(2, 3), |facts| facts.online = false))]).await.unwrap().pulse;
    assert_eq!((pulse.due_in, pulse.snapshot.unwrap().version), (None, version));
}

async fn a_late_pulse_publishes_what_waited(kind: Kind) {
    let bench = kind.open(MirrorSettings { snapshot_window: Duration::from_millis(300), ..calm() }).await;
    let mut events = bench.events();
    bench.applied(row(1, 1)).await;
    let version = bench.snapshot().await.version;
    let due_in = bench.apply(&[write(row(2, 2)), write(row(3, 3))]).await.unwrap().pulse.due_in.expect("waits");
    tokio::time::sleep(due_in).await;
    let late = bench.snapshot().await;
    assert_eq!((late.available, late.version), (3, version + 1), "two changes, one frame");
    heard(&mut events, "the late frame", |event| snapshots(event).filter(|heard| heard.version == late.version)).await;
    assert_eq!(bench.tick().await.unwrap().due_in, None);
}

async fn a_silent_mitra_leaves_the_count_by_ticks_alone(kind: Kind) {
    let bench = kind.open(hasty()).await;
    let seen = bench.apply(&[write(row(1, 1))]).await.unwrap().pulse;
    assert_eq!(seen.snapshot.unwrap().available, 1);
    eventually("it left", || async {
        let pulse = bench.tick().await.unwrap();
        pulse.snapshot.unwrap().available == 0
    })
    .await;
    let age = bench.age(1).await.expect("listed");
    assert!(age >= hasty().suspect_after, "left at the age of {age:?}, before it was suspect");
    assert_eq!(bench.counted().await.suspect, 1, "suspect, not offline");
}

async fn published_snapshots_are_heard_in_order(kind: Kind) {
    let bench = kind.open(calm()).await;
    let mut events = bench.events();
    // Heard only once subscribed: flip until the first arrives.
    let mut revision = 0;
    let mut flip = async |bench: &Bench| {
        revision += 1;
        bench
            .applied(with(row(1, revision), |facts| (facts.online, facts.online_epoch) = (revision % 2 == 1, revision)))
            .await;
    };
    let mut first = None;
    while first.is_none() {
        flip(&bench).await;
        let wait = heard(&mut events, "a snapshot", snapshots);
        first = tokio::time::timeout(Duration::from_millis(100), wait).await.ok();
    }
    for _ in 0..50 {
        flip(&bench).await;
    }
    let end = bench.snapshot().await;
    let mut last = first.expect("heard");
    while last.version < end.version {
        let next = heard(&mut events, "the next", snapshots).await;
        assert_eq!(next.version, last.version + 1, "none lost, none out of order");
        assert_ne!(next.any(), last.any());
        assert_eq!((&next.epoch, next.source, next.stale), (&end.epoch, bench.source(), false));
        last = next;
    }
}

async fn the_cached_snapshot_is_kept_fresh_while_somebody_ticks(kind: Kind) {
    let bench = kind.open(hasty()).await;
    let first = bench.cached_snapshot().await.unwrap().unwrap();
    eventually("written again", || async {
        bench.tick().await.unwrap();
        let cached = bench.cached_snapshot().await.unwrap().expect("it never dies meanwhile");
        assert_eq!((cached.version, cached.available), (first.version, first.available));
        // Twice its life after the first one.
        cached.as_of - first.as_of > chrono::TimeDelta::milliseconds(1_200)
    })
    .await;
}

async fn the_cached_snapshot_dies_when_nobody_ticks(kind: Kind) {
    let bench = kind.open(hasty()).await;
    assert!(bench.cached_snapshot().await.unwrap().is_some());
    eventually("dead", || async { bench.cached_snapshot().await.unwrap().is_none() }).await;
}

async fn history_begins_with_the_first_pulse(kind: Kind) {
    let bench = kind.empty(calm()).await;
    bench.apply(&[write(row(1, 1)), write(with(row(2, 2), |facts| facts.sessions = 1))]).await.unwrap();
    bench.open_epoch(0).await.unwrap();
    for _ in 0..20 {
        bench.tick().await.unwrap();
    }
    let points = bench.history().await.unwrap();
    assert_eq!(points.len(), 1, "one per ten seconds");
    assert_eq!((points[0].online, points[0].available), (2, 1));
    assert_eq!(points[0].at, bench.cached_snapshot().await.unwrap().unwrap().as_of);
}
