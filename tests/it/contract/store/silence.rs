//! Auto-offline: only the silent, only in the go-online they were judged in, each once.

use std::{collections::HashSet, time::Duration};

use hadir::store::{DurableState, MitraQuery, SilentQuery};

use super::{Bench, cause, id, ids, on_both};

on_both!(
    the_silent_go_offline_and_come_back_as_rows,
    those_heard_lately_stay,
    another_go_online_is_not_meant,
    those_already_offline_and_unknown_ones_are_not_returned,
    one_who_was_never_heard_is_silent,
    a_heartbeat_of_the_future_keeps_nobody_online,
    of_two_sweeps_at_once_each_row_is_changed_by_one,
    nobody_is_asked_about_and_nobody_goes,
);

const LONG: Duration = Duration::from_secs(120);

async fn the_silent_go_offline_and_come_back_as_rows(bench: Bench) {
    let before = bench.online(1).await;
    bench.silence(1, LONG).await;
    let expired = bench.expire_silent(&[(id(1), 1)], LONG).await.expect("swept");
    let row = bench.row(1).await;
    assert!(!row.online && row.active);
    assert!(row.fence > before.fence);
    assert_eq!((expired.len(), expired[0].fence, expired[0].online), (1, row.fence, false));
    let event = bench.events(id(1), 1).await.expect("read").remove(0);
    assert_eq!(
        (event.kind.as_str(), event.reason.as_deref(), event.actor.as_str()),
        ("offline", Some("silent"), "sweep")
    );
    assert!(bench.expire_silent(&[(id(1), 1)], LONG).await.expect("swept").is_empty());
    assert_eq!(bench.kinds(1).await, ["offline", "online", "created"]);
}

async fn those_heard_lately_stay(bench: Bench) {
    for n in 1..=3 {
        bench.online(n).await;
    }
    bench.silence(1, LONG + Duration::from_secs(1)).await;
    bench.silence(2, LONG - Duration::from_secs(60)).await;
    let all: Vec<_> = (1..=3).map(|n| (id(n), 1)).collect();
    assert_eq!(ids(&bench.expire_silent(&all, LONG).await.expect("swept")), [id(1)]);
    assert!(bench.row(2).await.online && bench.row(3).await.online);
}

async fn another_go_online_is_not_meant(bench: Bench) {
    bench.online(1).await;
    bench.set_online(id(1), false, &cause("")).await.expect("offline");
    bench.set_online(id(1), true, &cause("")).await.expect("online");
    bench.silence(1, LONG).await;
    assert!(bench.expire_silent(&[(id(1), 1), (id(1), 3)], LONG).await.expect("swept").is_empty());
    assert!(bench.row(1).await.online);
    assert_eq!(ids(&bench.expire_silent(&[(id(1), 1), (id(1), 2)], LONG).await.expect("swept")), [id(1)]);
}

async fn those_already_offline_and_unknown_ones_are_not_returned(bench: Bench) {
    bench.created(1).await;
    bench.online(2).await;
    bench.silence(2, LONG).await;
    bench.set_online(id(2), false, &cause("")).await.expect("offline");
    let asked = [(id(1), 0), (id(2), 1), (id(9), 1)];
    assert!(bench.expire_silent(&asked, LONG).await.expect("swept").is_empty());
    assert_eq!(bench.kinds(2).await, ["offline", "online", "created"]);
}

async fn one_who_was_never_heard_is_silent(bench: Bench) {
    bench.online(1).await;
    bench.run("UPDATE mitra_heartbeats SET last_heartbeat_at = NULL".to_owned()).await;
    assert_eq!(ids(&bench.expire_silent(&[(id(1), 1)], Duration::MAX).await.expect("swept")), [id(1)]);
}

async fn a_heartbeat_of_the_future_keeps_nobody_online(bench: Bench) {
    for n in 1..=3 {
        bench.online(n).await;
    }
    // The clock was stepped back: by an hour, and by so little that two servers differ as much.
    for (n, ahead_ms) in [(1, 3_600_000), (2, 3_000)] {
        let at = bench.at(ahead_ms);
        bench.run(format!("UPDATE mitra_heartbeats SET last_heartbeat_at = {at} WHERE mitra_id = '{}'", id(n))).await;
    }
    assert_eq!((bench.age(1).await, bench.age(2).await), (None, Some(Duration::ZERO)));
    let counts = bench.counts(LONG).await.expect("counted");
    assert_eq!((counts.online, counts.reachable, counts.available, counts.suspect), (3, 2, 2, 1));
    let found = bench.find_available(LONG, 10).await.expect("found");
    assert_eq!(found.total, 2);
    assert!(found.mitras.iter().all(|mitra| mitra.id != id(1)));
    let query = MitraQuery { state: DurableState::Any, fresh_within: Some(LONG), search: None, after: None, limit: 10 };
    let listed = bench.list(&query).await.expect("listed");
    assert_eq!(listed.iter().map(|profile| profile.row.id).collect::<Vec<_>>(), [2, 3].map(id));
    let query = SilentQuery { fresh_within: LONG, search: None, after: None, limit: 10 };
    let silent = bench.silent(&query).await.expect("listed");
    assert_eq!(silent.iter().map(|(_, profile)| profile.row.id).collect::<Vec<_>>(), [id(1)]);
    assert!(bench.heard_within(LONG, None, 10).await.expect("read").iter().all(|heard| heard.id != id(1)));
    let all: Vec<_> = (1..=3).map(|n| (id(n), 1)).collect();
    assert_eq!(ids(&bench.expire_silent(&all, LONG).await.expect("swept")), [id(1)]);
}

async fn of_two_sweeps_at_once_each_row_is_changed_by_one(bench: Bench) {
    const MITRAS: u128 = 200;
    for n in 1..=MITRAS {
        bench.created(n).await;
    }
    bench.run("UPDATE mitra_status SET is_online = true".to_owned()).await;
    bench.run(format!("UPDATE mitra_heartbeats SET last_heartbeat_at = {}", bench.ago(LONG))).await;
    let forwards: Vec<_> = (1..=MITRAS).map(|n| (id(n), 1)).collect();
    let backwards: Vec<_> = forwards.iter().rev().copied().collect();
    let sweeps = [&forwards, &backwards, &forwards, &backwards].map(|asked| bench.expire_silent(asked, LONG));
    let mut expired = Vec::new();
    for swept in futures_util::future::join_all(sweeps).await {
        expired.extend(ids(&swept.expect("swept")));
    }
    // One held by another sweep just then is left to the next run.
    expired.extend(ids(&bench.expire_silent(&forwards, LONG).await.expect("swept")));
    assert_eq!(expired.len(), MITRAS as usize);
    assert_eq!(expired.iter().collect::<HashSet<_>>().len(), MITRAS as usize);
    for n in 1..=MITRAS {
        assert_eq!(bench.kinds(n).await, ["offline", "online", "created"]);
    }
}

async fn nobody_is_asked_about_and_nobody_goes(bench: Bench) {
    bench.online(1).await;
    bench.silence(1, LONG).await;
    assert!(bench.expire_silent(&[], Duration::ZERO).await.expect("swept").is_empty());
    assert!(bench.row(1).await.online);
}
