//! What is remembered: events, sign-ins, the clock.

use std::time::Duration;

use chrono::Utc;
use futures_util::StreamExt;
use hadir::{
    domain::{Actor, Cause, PresenceEvent},
    store::{AuthSession, Bell},
};
use uuid::Uuid;

use super::{Bench, cause, id, on_both};

on_both!(
    each_event_says_what_why_and_who_newest_first,
    plain_sql_is_recorded_as_such,
    an_empty_reason_is_none,
    old_events_are_pruned_a_bounded_number_at_once,
    a_sign_in_is_valid_until_it_expires_or_is_revoked,
    the_clock_runs,
    a_reachable_store_answers_a_ping,
    the_bell_begins_with_a_look_at_everything,
    a_closed_store_refuses,
);

async fn each_event_says_what_why_and_who_newest_first(bench: Bench) {
    let by = |actor, reason: &str| Cause::new(actor, reason);
    bench.put_mitra(id(1), "Sari", None, &by(Actor::Service, "hired")).await.expect("created");
    bench.set_online(id(1), true, &by(Actor::Mitra, "command")).await.expect("online");
    bench.put_mitra(id(1), "Sari", Some(3), &by(Actor::Service, "trusted")).await.expect("updated");
    bench.set_active(id(1), false, &by(Actor::Dashboard, "it's \"fraud\"; --")).await.expect("deactivated");
    bench.set_active(id(1), true, &by(Actor::Dashboard, "cleared")).await.expect("reactivated");
    bench.set_online(id(1), true, &by(Actor::Mitra, "command")).await.expect("online");
    bench.set_online(id(1), false, &by(Actor::Sweep, "silent")).await.expect("offline");
    bench.online(2).await;
    let events = bench.events(id(1), 100).await.expect("read");
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.kind.as_str(), event.reason.as_deref().unwrap_or("-"), event.actor.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("offline", "silent", "sweep"),
            ("online", "command", "mitra"),
            ("reactivated", "cleared", "dashboard"),
            ("deactivated", "it's \"fraud\"; --", "dashboard"),
            ("offline", "it's \"fraud\"; --", "dashboard"),
            ("capacity", "trusted", "service"),
            ("online", "command", "mitra"),
            ("created", "hired", "service"),
        ]
    );
    assert!(events.windows(2).all(|pair| pair[0].at >= pair[1].at));
    assert!((Utc::now() - events[0].at).abs() < chrono::Duration::minutes(5));
    let newest: Vec<PresenceEvent> = bench.events(id(1), 2).await.expect("read");
    assert_eq!(newest, events[..2]);
}

async fn plain_sql_is_recorded_as_such(bench: Bench) {
    // The connection that wrote last must not lend its name to somebody else.
    bench.online(1).await;
    bench.run("UPDATE mitra_status SET is_online = false".to_owned()).await;
    let event = bench.events(id(1), 1).await.expect("read").remove(0);
    assert_eq!((event.kind.as_str(), event.reason, event.actor.as_str()), ("offline", None, "sql"));
}

async fn an_empty_reason_is_none(bench: Bench) {
    bench.put_mitra(id(1), "Sari", None, &cause("")).await.expect("created");
    assert_eq!(bench.events(id(1), 1).await.expect("read")[0].reason, None);
}

async fn old_events_are_pruned_a_bounded_number_at_once(bench: Bench) {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    for n in 1..=5 {
        bench.created(n).await;
    }
    let old = bench.ago(WEEK + Duration::from_secs(60));
    bench.run(format!("UPDATE presence_events SET at = {old} WHERE mitra_id <> '{}'", id(5))).await;
    assert_eq!(bench.prune_events(WEEK * 2, 100).await.expect("pruned"), 0);
    assert_eq!(bench.prune_events(WEEK, 3).await.expect("pruned"), 3);
    assert_eq!(bench.prune_events(WEEK, 3).await.expect("pruned"), 1);
    assert_eq!(bench.prune_events(WEEK, 3).await.expect("pruned"), 0);
    assert_eq!(bench.kinds(1).await, [""; 0]);
    assert_eq!(bench.kinds(5).await, ["created"]);
    assert_eq!(bench.prune_events(Duration::MAX, 3).await.expect("pruned"), 0);
}

async fn a_sign_in_is_valid_until_it_expires_or_is_revoked(bench: Bench) {
    let subject = Uuid::from_u128(7);
    let (live, expired, revoked) = (
        bench.signed_in(subject, 60_000).await,
        bench.signed_in(subject, -1).await,
        bench.signed_in(subject, 60_000).await,
    );
    let now = bench.at(0);
    bench.run(format!("UPDATE auth_sessions SET revoked_at = {now} WHERE id = '{revoked}'")).await;
    let expected = AuthSession { subject: subject.into(), role: "mitra".to_owned(), valid: true };
    assert_eq!(bench.auth_session(live).await.expect("read"), Some(expected));
    assert!(!bench.valid(expired).await);
    assert!(!bench.valid(revoked).await);
    assert_eq!(bench.auth_session(Uuid::from_u128(8)).await.expect("read"), None);
}

async fn the_clock_runs(bench: Bench) {
    let first = bench.now().await.expect("told");
    assert!((Utc::now() - first).abs() < chrono::Duration::minutes(5));
    assert!(bench.now().await.expect("told") >= first);
}

async fn a_reachable_store_answers_a_ping(bench: Bench) {
    bench.ping().await.expect("reachable and writable");
}

async fn the_bell_begins_with_a_look_at_everything(bench: Bench) {
    let mut bells = bench.bells().await.expect("a bell");
    assert_eq!(bells.next().await, Some(Bell::Missed));
}

async fn a_closed_store_refuses(bench: Bench) {
    bench.created(1).await;
    bench.close().await;
    assert!(matches!(bench.mitra(id(1)).await, Err(hadir::store::StoreError::Unavailable(_))));
}
