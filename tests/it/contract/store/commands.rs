//! Creating, going online and offline, deactivating: what a write does, and what it does not do again.

use std::time::Duration;

use hadir::{
    domain::{Actor, Cause, MitraFacts, MitraRow},
    store::{StoreError, Transition},
};
use uuid::Uuid;

use super::{Bench, DEFAULT_MAX_SESSIONS, cause, id, on_both};

on_both!(
    a_new_mitra_is_active_offline_and_has_the_default_capacity,
    an_update_without_capacity_keeps_the_capacity,
    a_new_name_alone_changes_no_fence,
    a_value_over_the_limit_is_refused_in_words,
    going_online_starts_an_epoch_and_stamps_the_heartbeat,
    going_online_again_only_stamps_the_heartbeat,
    going_offline_keeps_the_epoch_and_the_heartbeat,
    a_deactivated_mitra_may_not_go_online,
    nobody_unknown_is_written,
    deactivation_takes_offline_and_revokes_the_sign_ins,
    deactivation_of_others_sign_ins_does_not_happen,
    a_reactivated_mitra_is_offline,
    the_same_again_changes_nothing,
    the_revision_rises_with_every_change_and_only_then,
    revisions_of_all_mitras_come_from_one_sequence,
    of_many_writers_at_once_one_changes_the_row,
);

async fn a_new_mitra_is_active_offline_and_has_the_default_capacity(bench: Bench) {
    let Transition { row, changed } = bench.put_mitra(id(1), "Sari", None, &cause("hired")).await.expect("created");
    assert!(changed);
    let fence = row.fence;
    assert!(fence.generation > 0 && fence.revision > 0, "{fence:?}");
    let expected = MitraRow {
        id: id(1),
        facts: MitraFacts {
            online: false,
            active: true,
            sessions: 0,
            max_sessions: DEFAULT_MAX_SESSIONS,
            fence,
            online_epoch: 0,
        },
        heartbeat_age: None,
    };
    assert_eq!(row, expected);
    assert_eq!(bench.row(1).await, expected);
    assert_eq!(bench.profile(id(1)).await.expect("read").expect("exists").display_name, "Sari");
}

async fn an_update_without_capacity_keeps_the_capacity(bench: Bench) {
    bench.put_mitra(id(1), "Sari", Some(7), &cause("hired")).await.expect("created");
    let updated = bench.put_mitra(id(1), "Sari Dewi", None, &cause("married")).await.expect("updated");
    assert!(!updated.changed);
    assert_eq!(updated.row.max_sessions, 7);
    let updated = bench.put_mitra(id(1), "Sari Dewi", Some(0), &cause("resting")).await.expect("updated");
    assert!(updated.changed);
    assert_eq!(updated.row.max_sessions, 0);
    assert_eq!(bench.kinds(1).await, ["capacity", "created"]);
}

async fn a_new_name_alone_changes_no_fence(bench: Bench) {
    let before = bench.created(1).await;
    let renamed = bench.put_mitra(id(1), "Another", None, &cause("rename")).await.expect("updated");
    assert!(!renamed.changed);
    assert_eq!(renamed.row, before);
    assert_eq!(bench.profile(id(1)).await.expect("read").expect("exists").display_name, "Another");
    assert_eq!(bench.kinds(1).await, ["created"]);
}

async fn a_value_over_the_limit_is_refused_in_words(bench: Bench) {
    let refusal = |put: Result<Transition, StoreError>| match put {
        Err(StoreError::Invalid(why)) => why,
        other => panic!("not refused: {other:?}"),
    };
    let why = refusal(bench.put_mitra(id(1), &"x".repeat(201), None, &cause("")).await);
    assert_eq!(why, "a rule of the store is broken: display name at most 200 characters");
    let why = refusal(bench.put_mitra(id(1), "x", Some(1001), &cause("")).await);
    assert_eq!(why, "a rule of the store is broken: max sessions from 0 to 1000");
    refusal(bench.put_mitra(id(1), "x", Some(u32::MAX), &cause("")).await);
    refusal(bench.put_mitra(id(1), "zero \0 byte", None, &cause("")).await);
    let why = refusal(bench.put_mitra(id(0), "nil", None, &cause("")).await);
    assert_eq!(why, "a rule of the store is broken: id is not nil");
    assert_eq!(bench.mitra(id(1)).await.expect("read"), None);
    // Characters, not bytes.
    bench.put_mitra(id(1), &"é".repeat(200), Some(1000), &cause("")).await.expect("at the limit");
}

async fn going_online_starts_an_epoch_and_stamps_the_heartbeat(bench: Bench) {
    let before = bench.created(1).await;
    let Transition { row, changed } = bench.set_online(id(1), true, &cause("command")).await.expect("online");
    assert!(changed);
    assert!(row.online && row.active);
    assert_eq!(row.online_epoch, 1);
    assert!(row.fence > before.fence);
    assert!(row.heartbeat_age.expect("stamped") < Duration::from_secs(60));
    bench.set_online(id(1), false, &cause("command")).await.expect("offline");
    let again = bench.set_online(id(1), true, &cause("command")).await.expect("online").row;
    assert_eq!(again.online_epoch, 2);
}

async fn going_online_again_only_stamps_the_heartbeat(bench: Bench) {
    let before = bench.online(1).await;
    bench.silence(1, Duration::from_secs(600)).await;
    let Transition { row, changed } = bench.set_online(id(1), true, &cause("command")).await.expect("online");
    assert!(!changed);
    assert!(row.heartbeat_age.expect("stamped") < Duration::from_secs(60));
    assert_eq!(MitraRow { heartbeat_age: None, ..row }, MitraRow { heartbeat_age: None, ..before });
    assert_eq!(bench.kinds(1).await, ["online", "created"]);
}

async fn going_offline_keeps_the_epoch_and_the_heartbeat(bench: Bench) {
    let before = bench.online(1).await;
    bench.silence(1, Duration::from_secs(600)).await;
    let Transition { row, changed } = bench.set_online(id(1), false, &cause("command")).await.expect("offline");
    assert!(changed && !row.online);
    assert_eq!(row.online_epoch, before.online_epoch);
    assert!(row.fence > before.fence);
    assert!(row.heartbeat_age.expect("kept") >= Duration::from_secs(600));
}

async fn a_deactivated_mitra_may_not_go_online(bench: Bench) {
    bench.created(1).await;
    let deactivated = bench.set_active(id(1), false, &cause("fraud")).await.expect("deactivated").row;
    let refused = bench.set_online(id(1), true, &cause("command")).await;
    assert!(matches!(&refused, Err(StoreError::Deactivated(who)) if *who == id(1)), "{refused:?}");
    assert_eq!(bench.row(1).await, deactivated);
    // Offline it may go: it is.
    let offline = bench.set_online(id(1), false, &cause("command")).await.expect("offline");
    assert!(!offline.changed);
}

async fn nobody_unknown_is_written(bench: Bench) {
    let unknown = |written: Result<Transition, StoreError>| {
        assert!(matches!(&written, Err(StoreError::UnknownMitra(who)) if *who == id(9)), "{written:?}");
    };
    unknown(bench.set_online(id(9), true, &cause("")).await);
    unknown(bench.set_online(id(9), false, &cause("")).await);
    unknown(bench.set_active(id(9), true, &cause("")).await);
    unknown(bench.set_active(id(9), false, &cause("")).await);
    assert_eq!(bench.mitra(id(9)).await.expect("read"), None);
    assert_eq!(bench.profile(id(9)).await.expect("read"), None);
    assert_eq!(bench.kinds(9).await, [""; 0]);
}

async fn deactivation_takes_offline_and_revokes_the_sign_ins(bench: Bench) {
    let before = bench.online(1).await;
    let (phone, tablet) = (bench.signed_in(id(1).0, 60_000).await, bench.signed_in(id(1).0, 60_000).await);
    assert!(bench.valid(phone).await && bench.valid(tablet).await);
    let Transition { row, changed } = bench.set_active(id(1), false, &cause("fraud")).await.expect("deactivated");
    assert!(changed && !row.active && !row.online);
    assert!(row.fence > before.fence);
    assert_eq!(row.online_epoch, before.online_epoch);
    assert!(!bench.valid(phone).await && !bench.valid(tablet).await);
    assert_eq!(bench.kinds(1).await, ["deactivated", "offline", "online", "created"]);
}

async fn deactivation_of_others_sign_ins_does_not_happen(bench: Bench) {
    bench.online(1).await;
    bench.online(2).await;
    let others = bench.signed_in(id(2).0, 60_000).await;
    bench.set_active(id(1), false, &cause("fraud")).await.expect("deactivated");
    assert!(bench.valid(others).await);
    assert!(bench.row(2).await.online);
}

async fn a_reactivated_mitra_is_offline(bench: Bench) {
    bench.online(1).await;
    let session = bench.signed_in(id(1).0, 60_000).await;
    bench.set_active(id(1), false, &cause("fraud")).await.expect("deactivated");
    let Transition { row, changed } = bench.set_active(id(1), true, &cause("cleared")).await.expect("reactivated");
    assert!(changed && row.active && !row.online);
    assert!(!bench.valid(session).await);
    assert_eq!(bench.kinds(1).await[0], "reactivated");
    let online = bench.set_online(id(1), true, &cause("command")).await.expect("online").row;
    assert_eq!(online.online_epoch, 2);
}

async fn the_same_again_changes_nothing(bench: Bench) {
    let created = bench.created(1).await;
    let unchanged =
        |transition: Transition| assert_eq!(transition, Transition { row: created.clone(), changed: false });
    unchanged(bench.put_mitra(id(1), "Mitra 1", None, &cause("")).await.expect("put"));
    unchanged(bench.set_online(id(1), false, &cause("")).await.expect("offline"));
    unchanged(bench.set_active(id(1), true, &cause("")).await.expect("active"));
    let gone = bench.set_active(id(1), false, &cause("")).await.expect("deactivated").row;
    let session = bench.signed_in(Uuid::from_u128(1), 60_000).await;
    let again = bench.set_active(id(1), false, &cause("")).await.expect("deactivated");
    assert_eq!(again, Transition { row: gone, changed: false });
    // Nothing was deactivated, so nothing was revoked.
    assert!(bench.valid(session).await);
    assert_eq!(bench.kinds(1).await, ["deactivated", "created"]);
}

async fn the_revision_rises_with_every_change_and_only_then(bench: Bench) {
    let mut last = bench.created(1).await.fence.revision;
    for (step, rises) in [
        ("UPDATE mitra_status SET is_online = true", true),
        ("UPDATE mitra_status SET is_online = true", false),
        ("UPDATE mitra_status SET active_sessions = 1", true),
        ("UPDATE mitra_status SET active_sessions = 1", false),
        ("UPDATE mitras SET max_sessions = 5", true),
        ("UPDATE mitras SET max_sessions = 5", false),
        ("UPDATE mitras SET max_sessions = NULL", true),
        ("UPDATE mitras SET display_name = 'x'", false),
        ("UPDATE mitra_heartbeats SET last_heartbeat_at = NULL", false),
        ("UPDATE mitras SET is_active = false", true),
        ("UPDATE mitras SET is_active = false", false),
        ("UPDATE mitras SET is_active = true", true),
    ] {
        bench.run(step.to_owned()).await;
        let now = bench.row(1).await.fence.revision;
        assert_eq!(now > last, rises, "{step}: {last} to {now}");
        assert!(now >= last);
        last = now;
    }
}

async fn revisions_of_all_mitras_come_from_one_sequence(bench: Bench) {
    let first = bench.created(1).await.fence.revision;
    let second = bench.created(2).await.fence.revision;
    assert!(second > first);
    assert!(bench.set_online(id(1), true, &cause("")).await.expect("online").row.fence.revision > second);
}

async fn of_many_writers_at_once_one_changes_the_row(bench: Bench) {
    bench.created(1).await;
    for online in [true, false, true] {
        let cause = Cause::new(Actor::Mitra, "command");
        let writers = (0..8).map(|_| bench.set_online(id(1), online, &cause));
        let changed = futures_util::future::join_all(writers).await;
        assert_eq!(changed.into_iter().filter(|one| one.as_ref().expect("written").changed).count(), 1);
    }
    assert_eq!(bench.row(1).await.online_epoch, 2);
    assert_eq!(bench.kinds(1).await, ["online", "offline", "online", "created"]);
    // The same for one that does not exist yet.
    let cause = cause("hired");
    let writers = (0..8).map(|_| bench.put_mitra(id(2), "x", Some(3), &cause));
    let changed = futures_util::future::join_all(writers).await;
    assert_eq!(changed.into_iter().filter(|one| one.as_ref().expect("written").changed).count(), 1);
    assert_eq!(bench.kinds(2).await, ["created"]);
}
