//! Who may take a session: online, active, with room at that moment, however many ask at once.

use futures_util::future::join_all;
use hadir::{
    domain::{MitraId, Payment, SessionAction, SessionStatus},
    store::{SessionChange, StoreError},
};

use super::{Bench, accept, cause, id, on_both, reroute};

on_both!(
    a_full_mitra_is_refused_and_takes_again_when_one_ends,
    without_a_capacity_of_its_own_a_mitra_has_the_default,
    a_capacity_below_the_load_ends_nothing,
    one_who_is_offline_or_deactivated_takes_nothing,
    whoever_is_away_keeps_what_it_has,
    the_law_counts_sessions_and_not_a_number_beside_them,
    of_two_hundred_accepts_at_once_three_win_where_three_have_room,
    of_many_mitras_at_one_session_one_wins,
    reroutes_at_once_fill_no_mitra_beyond_its_room,
);

fn full(answer: Result<SessionChange, StoreError>, who: MitraId) {
    assert!(matches!(&answer, Err(StoreError::CapacityExceeded(mitra)) if *mitra == who), "{answer:?}");
}

fn away(answer: Result<SessionChange, StoreError>, who: MitraId) {
    assert!(matches!(&answer, Err(StoreError::NotAvailable(mitra)) if *mitra == who), "{answer:?}");
}

async fn room_for(bench: &Bench, n: u128, sessions: u32) {
    bench.online(n).await;
    bench.put_mitra(id(n), "Of some room", Some(sessions), &cause("")).await.expect("updated");
}

async fn a_full_mitra_is_refused_and_takes_again_when_one_ends(bench: Bench) {
    room_for(&bench, 1, 2).await;
    room_for(&bench, 2, 1).await;
    bench.taken(1, 1, Payment::Paid).await;
    bench.taken(2, 1, Payment::Pending).await;
    let before = bench.row(1).await;
    bench.searching(3).await;
    full(bench.does(3, &accept(1, Payment::Paid)).await, id(1));
    bench.taken(4, 2, Payment::Paid).await;
    full(bench.does(4, &reroute(1)).await, id(1));
    full(bench.does(1, &reroute(2)).await, id(2));
    let refused = bench.row(1).await;
    assert_eq!((refused.fence, refused.sessions), (before.fence, 2));
    assert_eq!((bench.found(3).await.status, bench.found(4).await.mitra_id), (SessionStatus::Searching, Some(id(2))));
    bench.does(2, &SessionAction::End).await.expect("ended");
    assert!(bench.does(3, &accept(1, Payment::Paid)).await.expect("accepted").changed);
    full(bench.does(4, &reroute(1)).await, id(1));
}

async fn without_a_capacity_of_its_own_a_mitra_has_the_default(bench: Bench) {
    bench.online(1).await;
    for n in 1..=u128::from(super::super::DEFAULT_MAX_SESSIONS) {
        bench.taken(n, 1, Payment::Paid).await;
    }
    bench.searching(9).await;
    full(bench.does(9, &accept(1, Payment::Paid)).await, id(1));
}

async fn a_capacity_below_the_load_ends_nothing(bench: Bench) {
    room_for(&bench, 1, 3).await;
    for n in 1..=3 {
        bench.taken(n, 1, Payment::Paid).await;
    }
    let lowered = bench.put_mitra(id(1), "Tired", Some(1), &cause("")).await.expect("lowered").row;
    assert_eq!((lowered.sessions, lowered.has_room()), (3, false));
    for n in 1..=3 {
        assert_eq!(bench.found(n).await.status, SessionStatus::Active);
    }
    bench.searching(4).await;
    for n in 1..=3 {
        full(bench.does(4, &accept(1, Payment::Paid)).await, id(1));
        bench.does(n, &SessionAction::End).await.expect("ended");
    }
    bench.does(4, &accept(1, Payment::Paid)).await.expect("room again");
    bench.put_mitra(id(1), "Resting", Some(0), &cause("")).await.expect("lowered");
    assert_eq!(bench.row(1).await.sessions, 1);
}

async fn one_who_is_offline_or_deactivated_takes_nothing(bench: Bench) {
    bench.created(1).await;
    room_for(&bench, 2, 9).await;
    bench.searching(1).await;
    bench.taken(2, 2, Payment::Paid).await;
    away(bench.does(1, &accept(1, Payment::Paid)).await, id(1));
    away(bench.does(2, &reroute(1)).await, id(1));
    // Full besides: being away is said first.
    bench.put_mitra(id(1), "Away", Some(0), &cause("")).await.expect("updated");
    away(bench.does(1, &accept(1, Payment::Paid)).await, id(1));
    bench.set_active(id(1), false, &cause("")).await.expect("deactivated");
    away(bench.does(1, &accept(1, Payment::Paid)).await, id(1));
    away(bench.does(2, &reroute(1)).await, id(1));
    assert_eq!(bench.found(2).await.mitra_id, Some(id(2)));
    assert_eq!(bench.row(1).await.sessions, 0);
}

async fn whoever_is_away_keeps_what_it_has(bench: Bench) {
    room_for(&bench, 1, 3).await;
    room_for(&bench, 2, 3).await;
    for n in 1..=3 {
        bench.taken(n, 1, Payment::Pending).await;
    }
    bench.set_active(id(1), false, &cause("")).await.expect("deactivated");
    assert_eq!(bench.row(1).await.sessions, 3);
    bench.does(1, &SessionAction::ConfirmPayment).await.expect("confirmed");
    bench.does(2, &SessionAction::End).await.expect("ended");
    bench.does(3, &reroute(2)).await.expect("moved");
    assert_eq!((bench.row(1).await.sessions, bench.row(2).await.sessions), (1, 1));
}

async fn the_law_counts_sessions_and_not_a_number_beside_them(bench: Bench) {
    room_for(&bench, 1, 1).await;
    bench.load(1, 1).await;
    bench.taken(1, 1, Payment::Paid).await;
    bench.load(1, 0).await;
    bench.searching(2).await;
    full(bench.does(2, &accept(1, Payment::Paid)).await, id(1));
    // Every move of a session puts the number right.
    room_for(&bench, 2, 1).await;
    bench.does(1, &reroute(2)).await.expect("moved");
    assert_eq!(bench.miscounted().await, 0);
}

async fn of_two_hundred_accepts_at_once_three_win_where_three_have_room(bench: Bench) {
    room_for(&bench, 1, 3).await;
    for n in 1..=200 {
        bench.searching(n).await;
    }
    let takes = accept(1, Payment::Paid);
    let answers = join_all((1..=200).map(|n| bench.does(n, &takes))).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(taken.len(), 3);
    refused.into_iter().for_each(|answer| full(answer, id(1)));
    assert_eq!((bench.row(1).await.sessions, bench.miscounted().await), (3, 0));
    assert_eq!(bench.session_counts().await.expect("counted").active, 3);
}

async fn of_many_mitras_at_one_session_one_wins(bench: Bench) {
    for n in 1..=20 {
        room_for(&bench, n, 1).await;
    }
    bench.searching(1).await;
    let takers: Vec<_> = (1..=20).map(|n| accept(n, Payment::Pending)).collect();
    let answers = join_all(takers.iter().map(|takes| bench.does(1, takes))).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(taken.len(), 1);
    assert!(refused.iter().all(|answer| matches!(answer, Err(StoreError::WrongState(_)))), "{refused:?}");
    let loads: u32 = bench.scan(None, 100).await.expect("scanned").iter().map(|row| row.sessions).sum();
    assert_eq!((loads, bench.miscounted().await), (1, 0));
}

async fn reroutes_at_once_fill_no_mitra_beyond_its_room(bench: Bench) {
    for n in 1..=4 {
        room_for(&bench, n, 10).await;
    }
    for n in 0..20 {
        bench.taken(n, 1 + n % 4, Payment::Paid).await;
    }
    // Each to its neighbour, in both directions, and everybody to the first.
    let moves: Vec<_> =
        (0..20).flat_map(|n| [(n, reroute(1 + (n + 1) % 4)), (n, reroute(1 + (n + 3) % 4)), (n, reroute(1))]).collect();
    for answer in join_all(moves.iter().map(|(n, to)| bench.does(*n, to))).await {
        assert!(matches!(&answer, Ok(_) | Err(StoreError::CapacityExceeded(_))), "{answer:?}");
    }
    let rows = bench.scan(None, 100).await.expect("scanned");
    assert!(rows.iter().all(|row| row.sessions <= row.max_sessions), "{rows:?}");
    assert_eq!((rows.iter().map(|row| row.sessions).sum::<u32>(), bench.miscounted().await), (20, 0));
}
