//! Time that runs out: once, in order, however many look.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use futures_util::future::join_all;
use hadir::domain::{Payment, SessionAction, SessionId, SessionStatus};

use super::{Bench, HOUR, accept, cause, customer, id, on_both, session_id};
use crate::support::eventually;

on_both!(
    nothing_expires_before_its_time,
    what_is_overdue_expires_with_its_effects,
    the_longest_overdue_expire_first,
    the_next_expiry_is_the_earliest_of_those_that_are_not_over,
    an_extension_moves_the_expiry,
    sessions_of_another_program_expire_too,
    many_who_expire_at_once_expire_each_session_once,
    one_that_ended_or_was_told_to_expire_does_not_expire_again,
);

impl Bench {
    /// As if the session's time had run out so long ago.
    async fn overdue(&self, n: u128, by: Duration) {
        let at = self.ago(by);
        self.run(format!("UPDATE chat_sessions SET expires_at = {at} WHERE id = '{}'", session_id(n))).await;
    }

    async fn expired(&self, limit: u32) -> Vec<SessionId> {
        let changes = self.expire_sessions(limit).await.expect("expired");
        assert!(changes.iter().all(|change| change.changed && change.session.status == SessionStatus::Expired));
        changes.into_iter().map(|change| change.session.id).collect()
    }
}

async fn busy(bench: &Bench, n: u128) {
    bench.online(n).await;
    bench.put_mitra(id(n), "Busy", Some(1000), &cause("")).await.expect("updated");
}

async fn nothing_expires_before_its_time(bench: Bench) {
    assert_eq!(bench.next_expiry().await.expect("asked"), None);
    busy(&bench, 1).await;
    bench.searching(1).await;
    assert_eq!(bench.next_expiry().await.expect("asked"), None);
    bench.taken(2, 1, Payment::Paid).await;
    assert_eq!(bench.expired(100).await, []);
    let left = bench.next_expiry().await.expect("asked").expect("one has an end");
    assert!(left <= HOUR && left > HOUR / 2, "{left:?}");
    let told = bench.does(2, &SessionAction::Expire).await.expect("asked");
    assert!(!told.changed && told.session.status == SessionStatus::Active);
}

async fn what_is_overdue_expires_with_its_effects(bench: Bench) {
    busy(&bench, 1).await;
    bench.taken(1, 1, Payment::Paid).await;
    bench.taken(2, 1, Payment::Pending).await;
    bench.taken(3, 1, Payment::Paid).await;
    bench.overdue(1, HOUR).await;
    bench.overdue(2, Duration::ZERO).await;
    let before = bench.row(1).await;
    assert_eq!(bench.next_expiry().await.expect("asked"), Some(Duration::ZERO));
    let changes = bench.expire_sessions(100).await.expect("expired");
    let row = bench.row(1).await;
    assert_eq!((row.sessions, row.fence > before.fence, bench.miscounted().await), (1, true, 0));
    for (change, n) in changes.iter().zip([1, 2]) {
        assert_eq!(change.session, bench.found(n).await);
        assert_eq!((change.session.mitra_id, change.mitras[0].fence), (Some(id(1)), row.fence));
        assert_eq!((change.mitras.len(), change.mitras[0].sessions), (1, 1));
    }
    assert_eq!(changes.len(), 2);
    let events = bench.events(id(1), 2).await.expect("read");
    assert!(events.iter().all(|event| (event.kind.as_str(), event.actor.as_str()) == ("session_expired", "sweep")));
    assert_eq!(bench.found(3).await.status, SessionStatus::Active);
    assert!(bench.next_expiry().await.expect("asked") > Some(Duration::ZERO));
}

async fn the_longest_overdue_expire_first(bench: Bench) {
    busy(&bench, 1).await;
    for (n, minutes) in [(1, 3), (2, 9), (3, 1), (4, 7)] {
        bench.taken(n, 1, Payment::Paid).await;
        bench.overdue(n, Duration::from_secs(60 * minutes)).await;
    }
    assert_eq!(bench.expired(3).await, [2, 4, 1].map(session_id));
    assert_eq!(bench.expired(3).await, [3].map(session_id));
    assert_eq!(bench.expired(3).await, []);
    assert_eq!(bench.expired(0).await, []);
}

async fn the_next_expiry_is_the_earliest_of_those_that_are_not_over(bench: Bench) {
    busy(&bench, 1).await;
    for (n, hours) in [(1, 5), (2, 3), (3, 4)] {
        bench.searching(n).await;
        let takes = SessionAction::Accept { mitra: id(1), payment: Payment::Paid, duration: HOUR * hours };
        bench.does(n, &takes).await.expect("accepted");
    }
    let mut left = Vec::new();
    for n in [2, 3, 1] {
        left.push(bench.next_expiry().await.expect("asked").expect("one has an end"));
        bench.does(n, &SessionAction::End).await.expect("ended");
    }
    let hours: Vec<_> = left.iter().map(|left| (left.as_secs_f64() / 3600.0).ceil() as u32).collect();
    assert_eq!(hours, [3, 4, 5]);
    assert_eq!(bench.next_expiry().await.expect("asked"), None);
}

async fn an_extension_moves_the_expiry(bench: Bench) {
    busy(&bench, 1).await;
    bench.taken(1, 1, Payment::Paid).await;
    bench.overdue(1, HOUR / 2).await;
    bench.does(1, &SessionAction::Extend { by: HOUR }).await.expect("extended");
    assert_eq!(bench.expired(100).await, []);
    let left = bench.next_expiry().await.expect("asked").expect("one has an end");
    assert!(left <= HOUR / 2 && left > HOUR / 4, "{left:?}");
}

async fn sessions_of_another_program_expire_too(bench: Bench) {
    busy(&bench, 1).await;
    let past = bench.ago(HOUR);
    bench.run(format!("INSERT INTO customers (id) VALUES ('{}')", customer(1))).await;
    for (n, status, mitra) in
        [(1, "active", format!("'{}'", id(1))), (2, "searching", "NULL".to_owned()), (3, "ended", "NULL".to_owned())]
    {
        bench
            .run(format!(
                "INSERT INTO chat_sessions (id, customer_id, mitra_id, status, expires_at) \
                 VALUES ('{}', '{}', {mitra}, '{status}', {past})",
                session_id(n),
                customer(1)
            ))
            .await;
    }
    assert_eq!(bench.row(1).await.sessions, 1);
    let expired: HashSet<_> = bench.expired(100).await.into_iter().collect();
    assert_eq!(expired, HashSet::from([1, 2].map(session_id)));
    assert_eq!((bench.row(1).await.sessions, bench.found(3).await.status), (0, SessionStatus::Ended));
}

async fn many_who_expire_at_once_expire_each_session_once(bench: Bench) {
    const SESSIONS: u128 = 300;
    for n in 1..=7 {
        busy(&bench, n).await;
    }
    for n in 1..=SESSIONS {
        bench.taken(n, 1 + n % 7, Payment::Paid).await;
    }
    let past = bench.ago(Duration::from_secs(1));
    bench.run(format!("UPDATE chat_sessions SET expires_at = {past}")).await;
    let all = Mutex::new(Vec::new());
    let nodes = (0..5).map(|_| {
        eventually("none is left", async || {
            let mine = bench.expired(16).await;
            all.lock().expect("whole").extend(mine);
            bench.next_expiry().await.expect("asked").is_none().then_some(())
        })
    });
    join_all(nodes).await;
    let all = all.into_inner().expect("whole");
    assert_eq!(all.len(), SESSIONS as usize);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), SESSIONS as usize);
    let events = "SELECT count(*) FROM presence_events WHERE kind = 'session_expired'".to_owned();
    assert_eq!(bench.count(events).await, SESSIONS as i64);
    assert_eq!(bench.count("SELECT count(*) FROM mitra_status WHERE active_sessions <> 0".to_owned()).await, 0);
}

async fn one_that_ended_or_was_told_to_expire_does_not_expire_again(bench: Bench) {
    busy(&bench, 1).await;
    for n in 1..=2 {
        bench.taken(n, 1, Payment::Paid).await;
    }
    bench.does(1, &SessionAction::End).await.expect("ended");
    bench.overdue(1, HOUR).await;
    bench.overdue(2, HOUR).await;
    assert!(bench.does(2, &SessionAction::Expire).await.expect("expired").changed);
    assert_eq!(bench.expired(100).await, []);
    assert_eq!(bench.next_expiry().await.expect("asked"), None);
    assert!(bench.does(2, &accept(1, Payment::Paid)).await.is_err());
}
