//! Rows and fences.

use std::time::{Duration, Instant};

use hadir::{
    domain::{Fence, NodeId, StatusChange, StatusReason},
    mirror::{Applied, MirrorEvent, Refused, Write},
    protocol::ControlMessage,
};

use super::{Kind, aged, beat, calm, eventually, hasty, heard, id, on_both, row, with, write};

on_both! {
    a_row_changes_the_mirror_once,
    an_older_row_is_refused_and_learns_what_is_newer,
    a_new_generation_beats_a_higher_revision,
    an_equal_fence_with_other_content_is_repaired,
    nothing_old_lists_a_mitra_again_after_offline,
    nothing_old_lists_a_mitra_again_after_deactivation,
    every_state_is_counted,
    without_a_heartbeat_a_mitra_is_listed_at_the_edge_of_suspicion,
    a_heartbeat_moves_only_forward_within_a_go_online,
    a_new_go_online_starts_the_heartbeat_afresh,
    only_a_change_is_announced,
    two_writes_of_one_mitra_are_applied_in_order,
    a_thousand_rows_go_in_one_call,
    numbers_beyond_a_double_are_compared_exactly,
    a_generation_that_no_store_can_have_is_not_believed,
}

async fn a_row_changes_the_mirror_once(kind: Kind) {
    let bench = kind.open(calm()).await;
    assert_eq!(bench.applied(row(1, 1)).await, Applied::Changed);
    assert_eq!(bench.applied(row(1, 1)).await, Applied::Same);
    assert_eq!(bench.applied(row(1, 2)).await, Applied::Changed, "a newer fence is news");
    let entry = bench.entries(&[id(1)]).await.unwrap().of_each[0].clone().unwrap();
    assert_eq!((entry.fence.revision, entry.online, entry.active), (2, true, true));
    assert_eq!((entry.sessions, entry.max_sessions, entry.online_epoch), (0, 1, 1));
}

async fn an_older_row_is_refused_and_learns_what_is_newer(kind: Kind) {
    let bench = kind.open(calm()).await;
    bench.applied(with(row(1, 10), |facts| facts.sessions = 1)).await;
    let newer = Fence { generation: 1, revision: 10 };
    assert_eq!(bench.applied(row(1, 9)).await, Applied::Older { newer });
    assert_eq!(bench.counted().await.busy, 1, "the older row left no trace");
}

async fn a_new_generation_beats_a_higher_revision(kind: Kind) {
    let bench = kind.open(calm()).await;
    bench.applied(row(1, 900)).await;
    let restored = Fence { generation: 2, revision: 3 };
    let offline = with(row(1, 0), |facts| (facts.online, facts.fence) = (false, restored));
    assert_eq!(bench.applied(offline).await, Applied::Changed);
    assert_eq!(bench.applied(row(1, 901)).await, Applied::Older { newer: restored });
    assert_eq!(bench.counted().await.online, 0);
}

async fn an_equal_fence_with_other_content_is_repaired(kind: Kind) {
    let bench = kind.open(calm()).await;
    bench.applied(row(1, 1)).await;
    assert_eq!(bench.applied(with(row(1, 1), |facts| facts.sessions = 1)).await, Applied::Changed);
    let counts = bench.counted().await;
    assert_eq!((counts.available, counts.busy), (0, 1));
}

async fn nothing_old_lists_a_mitra_again_after_offline(kind: Kind) {
    let bench = kind.open(hasty()).await;
    bench.applied(row(1, 1)).await;
    eventually("silent", || async { bench.count_silent(hasty().suspect_after).await.unwrap() == 1 }).await;
    let claimed = bench.claimed(hasty().suspect_after, 10).await;
    assert_eq!(claimed.len(), 1);
    bench.unclaim(&claimed).await.unwrap();

    let offline = with(row(1, 2), |facts| facts.online = false);
    bench.applied(offline.clone()).await;
    // A late batch, a delayed write, a repeated write, a sweep that gave up.
    let refused = bench.beat(&[beat(1)]).await.unwrap().refused;
    assert_eq!((refused[0].why, refused[0].online_epoch), (Refused::Offline, 1));
    assert_eq!(bench.applied(row(1, 1)).await, Applied::Older { newer: offline.fence });
    assert_eq!(bench.applied(offline).await, Applied::Same);
    bench.unclaim(&claimed).await.unwrap();
    let counts = bench.counted().await;
    assert_eq!((counts.online, counts.reachable, counts.suspect), (0, 0, 0));
    assert_eq!(bench.age(1).await, None);

    bench.applied(with(row(1, 3), |facts| facts.online_epoch = 2)).await;
    assert_eq!(bench.counted().await.available, 1, "a new go-online counts");
    let refused = bench.beat(&[beat(1)]).await.unwrap().refused;
    assert_eq!((refused[0].why, refused[0].online_epoch), (Refused::OtherEpoch, 2));
}

async fn nothing_old_lists_a_mitra_again_after_deactivation(kind: Kind) {
    let bench = kind.open(calm()).await;
    bench.applied(row(1, 1)).await;
    // First the flag alone, as plain SQL may leave it for a moment.
    bench.applied(with(row(1, 2), |facts| facts.active = false)).await;
    assert!(bench.is_deactivated(id(1)).await.unwrap());
    let counts = bench.counted().await;
    assert_eq!((counts.online, counts.reachable, counts.deactivated), (1, 0, 1));
    bench.applied(with(row(1, 3), |facts| (facts.active, facts.online) = (false, false))).await;
    assert_eq!(bench.beat(&[beat(1)]).await.unwrap().refused[0].why, Refused::Deactivated);
    assert!(matches!(bench.applied(row(1, 1)).await, Applied::Older { .. }));
    let counts = bench.counted().await;
    assert_eq!((counts.online, counts.reachable, counts.deactivated), (0, 0, 1));
}

async fn every_state_is_counted(kind: Kind) {
    let bench = kind.open(calm()).await;
    let rows = [
        write(row(1, 1)),
        write(row(2, 2)),
        write(with(row(3, 3), |facts| facts.sessions = 1)),
        write(with(row(4, 4), |facts| (facts.sessions, facts.max_sessions) = (3, 2))),
        aged(row(5, 5), Duration::from_secs(61)),
        write(with(row(6, 6), |facts| facts.online = false)),
        write(with(row(7, 7), |facts| (facts.online, facts.active) = (false, false))),
        write(with(row(8, 8), |facts| (facts.online, facts.sessions) = (false, 1))),
        write(with(row(9, 9), |facts| facts.max_sessions = 0)),
    ];
    bench.apply(&rows).await.unwrap();
    let counts = bench.counted().await;
    assert_eq!((counts.online, counts.reachable, counts.available), (6, 5, 2));
    assert_eq!((counts.busy, counts.suspect, counts.deactivated), (3, 1, 1));
}

async fn without_a_heartbeat_a_mitra_is_listed_at_the_edge_of_suspicion(kind: Kind) {
    let bench = kind.open(calm()).await;
    let began = Instant::now();
    bench.apply(&[Write { row: row(1, 1), heartbeat_age: None, announce: None }]).await.unwrap();
    let counts = bench.counted().await;
    assert_eq!((counts.online, counts.reachable, counts.suspect), (1, 0, 1));
    let age = bench.age(1).await.unwrap();
    assert!(
        age > calm().suspect_after && age < calm().suspect_after + began.elapsed() + Duration::from_secs(5),
        "{age:?}"
    );
    // Whoever vouches for nothing later changes nothing.
    bench.beat(&[beat(1)]).await.unwrap();
    bench.apply(&[Write { row: row(1, 2), heartbeat_age: None, announce: None }]).await.unwrap();
    assert_eq!(bench.counted().await.reachable, 1);
}

async fn a_heartbeat_moves_only_forward_within_a_go_online(kind: Kind) {
    let bench = kind.open(calm()).await;
    // Far more than a busy machine can make of any of these steps.
    bench.apply(&[aged(row(1, 1), Duration::from_secs(3_000))]).await.unwrap();
    let age = bench.age(1).await.unwrap();
    assert!(age >= Duration::from_secs(3_000) && age < Duration::from_secs(3_500), "{age:?}");
    assert_eq!(bench.apply(&[aged(row(1, 1), Duration::from_secs(1_000))]).await.unwrap().outcomes, [Applied::Same]);
    bench.apply(&[aged(row(1, 2), Duration::from_secs(5_000))]).await.unwrap();
    let age = bench.age(1).await.unwrap();
    assert!(age >= Duration::from_secs(1_000) && age < Duration::from_secs(1_500), "{age:?}");
}

async fn a_new_go_online_starts_the_heartbeat_afresh(kind: Kind) {
    let bench = kind.open(calm()).await;
    bench.applied(row(1, 1)).await;
    // It went offline and online again, and the mirror saw only the end of it.
    bench.apply(&[aged(with(row(1, 3), |facts| facts.online_epoch = 2), Duration::from_secs(40))]).await.unwrap();
    let age = bench.age(1).await.unwrap();
    assert!(age >= Duration::from_secs(40) && age < Duration::from_secs(45), "{age:?}");
}

async fn only_a_change_is_announced(kind: Kind) {
    let bench = kind.open(calm()).await;
    let mut events = bench.events();
    // What arrives after SUBSCRIBE only: ask until a probe of ours is heard.
    let changes = |event| match event {
        MirrorEvent::Control(ControlMessage::Status(change)) => Some(change),
        _ => None,
    };
    let end = |event| matches!(event, MirrorEvent::Control(ControlMessage::Sockets { .. })).then_some(());
    let last = ControlMessage::Sockets { request: "end".into(), node: hadir::domain::NodeId::new("n"), sockets: 0 };
    heard_after_telling(&bench, &mut events, &last).await;

    assert_eq!(bench.announced(row(1, 1), StatusReason::Command).await, Applied::Changed);
    let change = heard(&mut events, "the change", changes).await;
    assert_eq!(change, StatusChange::of(&row(1, 1), StatusReason::Command));

    assert_eq!(bench.announced(row(1, 1), StatusReason::External).await, Applied::Same);
    assert!(matches!(bench.announced(row(1, 0), StatusReason::External).await, Applied::Older { .. }));
    bench.applied(row(1, 2)).await;
    bench.tell(&last).await.unwrap();
    let mut announced = 0;
    heard(&mut events, "the end", |event| {
        announced += usize::from(changes(event.clone()).is_some());
        end(event)
    })
    .await;
    assert_eq!(announced, 0, "the same, the older and the untold were announced");
}

async fn heard_after_telling(
    bench: &super::Bench,
    events: &mut tokio::sync::broadcast::Receiver<MirrorEvent>,
    message: &ControlMessage,
) {
    bench.tell(message).await.unwrap();
    let told = |event| matches!(event, MirrorEvent::Control(heard) if heard == *message).then_some(());
    while tokio::time::timeout(Duration::from_millis(100), heard(events, "ourselves", told)).await.is_err() {
        bench.tell(message).await.unwrap();
    }
    // The repeated ones that are still under way come before anything told later.
    let marker = ControlMessage::Probe { node: NodeId::new("marker"), nonce: 7 };
    bench.tell(&marker).await.unwrap();
    heard(events, "the marker", |event| matches!(event, MirrorEvent::Control(heard) if heard == marker).then_some(()))
        .await;
}

async fn two_writes_of_one_mitra_are_applied_in_order(kind: Kind) {
    let bench = kind.open(calm()).await;
    let writes = [
        write(row(1, 1)),
        write(row(2, 2)),
        write(with(row(1, 3), |facts| facts.online = false)),
        write(row(1, 2)),
        write(row(1, 3)),
    ];
    let newer = Fence { generation: 1, revision: 3 };
    let outcomes = bench.apply(&writes).await.unwrap().outcomes;
    let expected = [Applied::Changed, Applied::Changed, Applied::Changed, Applied::Older { newer }, Applied::Changed];
    assert_eq!(outcomes, expected);
    assert_eq!(bench.counted().await.available, 2);
}

async fn a_thousand_rows_go_in_one_call(kind: Kind) {
    let bench = kind.open(calm()).await;
    let writes: Vec<Write> = (0..1_000).map(|n| write(row(n, n as i64))).collect();
    let report = bench.apply(&writes).await.unwrap();
    assert!(report.outcomes.iter().all(|outcome| *outcome == Applied::Changed));
    assert_eq!(report.pulse.snapshot.unwrap().available, 1_000);
    let beats: Vec<_> = (0..1_000).map(beat).collect();
    assert!(bench.beat(&beats).await.unwrap().refused.is_empty());
    let offline: Vec<Write> =
        (0..1_000).map(|n| write(with(row(n, 1_000 + n as i64), |facts| facts.online = false))).collect();
    assert_eq!(bench.apply(&offline).await.unwrap().pulse.snapshot.unwrap().available, 0);
}

async fn numbers_beyond_a_double_are_compared_exactly(kind: Kind) {
    let bench = kind.open(calm()).await;
    let fence = |revision| Fence { generation: i64::MAX - 1, revision };
    bench.applied(with(row(1, 0), |facts| (facts.fence, facts.online_epoch) = (fence(i64::MAX - 1), i64::MAX))).await;
    let older = with(row(1, 0), |facts| facts.fence = fence(i64::MAX - 2));
    assert_eq!(bench.applied(older).await, Applied::Older { newer: fence(i64::MAX - 1) });
    let newer = with(row(1, 0), |facts| (facts.fence, facts.online_epoch) = (fence(i64::MAX), i64::MAX));
    assert_eq!(bench.applied(newer).await, Applied::Changed);
    let short = with(row(1, 0), |facts| facts.fence = fence(9));
    assert_eq!(bench.applied(short).await, Applied::Older { newer: fence(i64::MAX) }, "9 is not more than 92…");
    assert_eq!(bench.beat(&[beat(1)]).await.unwrap().refused[0].online_epoch, i64::MAX);
}

async fn a_generation_that_no_store_can_have_is_not_believed(kind: Kind) {
    let bench = kind.open(calm()).await;
    let absurd = Fence { generation: i64::MAX - 1, revision: 1 };
    bench.applied(with(row(1, 0), |facts| facts.fence = absurd)).await;
    assert_eq!(bench.counted().await.available, 1);
    let offline = with(row(1, 5), |facts| facts.online = false);
    assert_eq!(bench.applied(offline.clone()).await, Applied::Changed);
    assert_eq!((bench.counted().await.online, bench.counted().await.available), (0, 0));
    assert_eq!(bench.applied(offline).await, Applied::Same);
}
