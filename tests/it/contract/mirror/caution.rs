//! How a sweep is held back: its share, the doubt, and their release. Shared by all nodes, because the mirror keeps the score.

use std::{collections::BTreeSet, time::Duration};

use hadir::mirror::{Caution, Claims, Restraint};

use super::{Bench, Kind, aged, beat, calm, id, on_both, row, with, write};
use crate::support::eventually;

on_both! {
    a_sweep_takes_its_share_and_the_next_one_goes_on,
    a_small_fleet_is_swept_at_once,
    those_who_are_taken_are_drawn_at_random,
    a_brake_releases_itself,
    nobody_is_taken_while_most_are_silent_until_they_beat_again,
    a_doubt_releases_itself,
}

const OLD: Duration = Duration::from_secs(90);
const NEVER: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(300);

const CAUTION: Caution =
    Caution { sweep: NEVER, share_percent: 15, at_least: 5, doubted_from: 1_000, release_after: NEVER };

/// `silent` mitras of 100.
async fn fleet(kind: Kind, silent: u128) -> Bench {
    let bench = kind.open(calm()).await;
    let rows: Vec<_> = (0..100).map(|n| if n < silent { aged(row(n, 1), OLD) } else { write(row(n, 1)) }).collect();
    bench.apply(&rows).await.unwrap();
    bench
}

async fn claim(bench: &Bench, caution: Caution) -> Claims {
    bench.claim_silent(OLD, 1_000, &caution).await.unwrap()
}

fn restraint(claims: &Claims) -> Option<Restraint> {
    claims.restraint.map(|(restraint, _)| restraint)
}

async fn a_sweep_takes_its_share_and_the_next_one_goes_on(kind: Kind) {
    let bench = fleet(kind, 40).await;
    let first = claim(&bench, CAUTION).await;
    assert_eq!((first.claimed.len(), first.left, restraint(&first)), (15, 25, Some(Restraint::Brake)));
    let again = claim(&bench, CAUTION).await;
    assert_eq!((again.claimed.len(), again.left, restraint(&again)), (0, 25, Some(Restraint::Brake)));
    let soon = Caution { sweep: Duration::ZERO, ..CAUTION };
    let second = claim(&bench, soon).await;
    assert_eq!((second.claimed.len(), second.left), (13, 12), "15 % of the 85 that are left, rounded up");
    let third = claim(&bench, soon).await;
    assert_eq!((third.claimed.len(), third.left, restraint(&third)), (11, 1, Some(Restraint::Brake)));
    let last = claim(&bench, soon).await;
    assert_eq!((last.claimed.len(), last.left, restraint(&last)), (1, 0, None));
}

async fn a_small_fleet_is_swept_at_once(kind: Kind) {
    let bench = kind.open(calm()).await;
    bench.apply(&[aged(row(1, 1), OLD), aged(row(2, 1), OLD)]).await.unwrap();
    let claims = claim(&bench, CAUTION).await;
    assert_eq!((claims.claimed.len(), claims.left, restraint(&claims)), (2, 0, None));
}

async fn those_who_are_taken_are_drawn_at_random(kind: Kind) {
    let bench = fleet(kind, 40).await;
    let mut drawn = BTreeSet::new();
    for _ in 0..20 {
        let claims = claim(&bench, Caution { sweep: Duration::ZERO, ..CAUTION }).await;
        assert_eq!(claims.claimed.len(), 15);
        drawn.extend(claims.claimed.iter().map(|claim| claim.id));
        bench.unclaim(&claims.claimed).await.unwrap();
    }
    // Each draw of 15 leaves out a given one of 40 with 25 to 40; twenty draws leave out one in 12,000.
    assert!(drawn.len() > 35, "20 draws of 15 met only {} of 40", drawn.len());
}

async fn a_brake_releases_itself(kind: Kind) {
    let bench = fleet(kind, 40).await;
    let caution = Caution { release_after: SHORT, ..CAUTION };
    assert_eq!(claim(&bench, caution).await.claimed.len(), 15);
    let rest = eventually("released", async || {
        let claims = claim(&bench, caution).await;
        (!claims.claimed.is_empty()).then_some(claims)
    })
    .await;
    assert_eq!((rest.claimed.len(), rest.left, restraint(&rest)), (25, 0, None));
    // A sweep that finds no more than its share ends it; the next need begins anew.
    assert_eq!(claim(&bench, caution).await.claimed, []);
    bench.unclaim(&rest.claimed).await.unwrap();
    let anew = claim(&bench, Caution { sweep: Duration::ZERO, ..caution }).await;
    assert_eq!((anew.claimed.len(), restraint(&anew)), (13, Some(Restraint::Brake)));
}

async fn nobody_is_taken_while_most_are_silent_until_they_beat_again(kind: Kind) {
    let bench = fleet(kind, 60).await;
    let caution = Caution { doubted_from: 100, share_percent: 100, ..CAUTION };
    let doubted = claim(&bench, caution).await;
    assert_eq!((doubted.claimed.len(), doubted.left, restraint(&doubted)), (0, 60, Some(Restraint::Doubt)));
    assert_eq!(bench.counted().await.online, 100);
    bench.beat(&(0..10).map(beat).collect::<Vec<_>>()).await.unwrap();
    let claims = claim(&bench, caution).await;
    assert_eq!((claims.claimed.len(), claims.left, restraint(&claims)), (50, 0, None), "half of them beat: believed");
    assert!(claims.claimed.iter().all(|claim| claim.id != id(0)));
    // A smaller fleet is believed whatever it says.
    let bench = fleet(kind, 100).await;
    bench.applied(with(row(0, 2), |facts| facts.online = false)).await;
    assert_eq!(claim(&bench, caution).await.claimed.len(), 99);
}

async fn a_doubt_releases_itself(kind: Kind) {
    let bench = fleet(kind, 100).await;
    let caution = Caution { doubted_from: 20, share_percent: 50, release_after: SHORT, ..CAUTION };
    assert_eq!(restraint(&claim(&bench, caution).await), Some(Restraint::Doubt));
    let claims = eventually("released", async || {
        let claims = claim(&bench, caution).await;
        (!claims.claimed.is_empty()).then_some(claims)
    })
    .await;
    assert_eq!(
        (claims.claimed.len(), restraint(&claims)),
        (50, Some(Restraint::Brake)),
        "the share holds all the same"
    );
}
