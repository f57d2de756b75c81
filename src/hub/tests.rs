use chrono::{TimeDelta, Utc};
use futures_util::FutureExt;

use super::{heartbeats::FROZEN, *};
use crate::domain::{Fence, MitraFacts, Snapshot, Source, StatusChange, StatusReason};

const LIMITS: HubLimits =
    HubLimits { sockets_per_mitra: 2, sockets_per_customer: 2, sockets_per_operator: 2, sockets: 100 };

fn hub() -> Arc<Hub> {
    Arc::new(Hub::new(LIMITS))
}

fn holder(role: Role) -> Holder {
    Holder { subject: SubjectId(Uuid::new_v4()), role, session: None }
}

fn pending(hub: &Hub) -> Vec<(MitraId, u64)> {
    let mut beats = Vec::new();
    hub.take_pending(&mut beats);
    beats.iter().map(|beat| (beat.seat.id(), beat.at_ms)).collect()
}

fn change(id: SubjectId, revision: i64, online: bool) -> StatusChange {
    StatusChange {
        mitra_id: MitraId(id.0),
        facts: MitraFacts {
            online,
            active: true,
            sessions: 0,
            max_sessions: 1,
            fence: Fence { generation: 1, revision },
            online_epoch: revision,
        },
        reason: StatusReason::Command,
    }
}

fn deactivated(change: StatusChange) -> StatusChange {
    StatusChange { facts: MitraFacts { active: false, ..change.facts }, ..change }
}

fn news(epoch: &str, version: u64, available: u64, as_of_ms: i64) -> AvailabilityNews {
    AvailabilityNews::new(Snapshot {
        epoch: Arc::from(epoch),
        version,
        available,
        as_of: chrono::DateTime::UNIX_EPOCH.with_timezone(&Utc) + TimeDelta::milliseconds(as_of_ms),
        source: Source::Memory,
        stale: false,
    })
}

#[test]
fn many_beats_of_one_mitra_are_one_pending_beat_with_the_newest_time() {
    let hub = hub();
    let mitra = holder(Role::Mitra);
    let (one, two) = (hub.register(mitra).unwrap(), hub.register(mitra).unwrap());
    hub.beat(&one, 10);
    hub.beat(&two, 30);
    hub.beat(&one, 20);
    assert_eq!(pending(&hub), [(MitraId(mitra.subject.0), 30)]);
    assert_eq!(pending(&hub), []);
}

#[test]
fn beats_by_rest_of_a_mitra_without_a_socket_wait_once() {
    let hub = hub();
    let id = MitraId(Uuid::new_v4());
    (1..=1_000).for_each(|at_ms| hub.beat_detached(id, 1, at_ms));
    assert_eq!(pending(&hub), [(id, 1_000)]);
    hub.forget_detached();
    hub.beat_detached(id, 1, 2_000);
    hub.forget_detached();
    hub.beat_detached(id, 1, 3_000);
    assert_eq!(pending(&hub), [(id, 3_000)], "one that waits is kept");
}

#[test]
fn a_node_that_was_frozen_knows_when_it_came_to_itself() {
    let hub = hub();
    hub.wake_due();
    std::thread::park_timeout(Duration::from_millis(20));
    hub.wake_due();
    assert_eq!(hub.thawed_ms(), 0, "on time");
    let began = std::time::Instant::now();
    while began.elapsed() < FROZEN + Duration::from_millis(50) {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    hub.wake_due();
    assert!(hub.thawed_ms() > FROZEN.as_millis() as u64);
}

#[test]
fn a_customer_never_beats() {
    let hub = hub();
    let customer = hub.register(holder(Role::Customer)).unwrap();
    hub.beat(&customer, 10);
    assert_eq!(pending(&hub), []);
    assert_eq!(customer.heard_ms(), 10);
}

#[test]
fn a_beat_that_was_put_back_does_not_undo_a_newer_one() {
    let hub = hub();
    let mitra = hub.register(holder(Role::Mitra)).unwrap();
    hub.beat(&mitra, 10);
    let mut beats = Vec::new();
    hub.take_pending(&mut beats);
    hub.beat(&mitra, 50);
    hub.put_back(&mut beats);
    assert_eq!(pending(&hub).iter().map(|beat| beat.1).collect::<Vec<_>>(), [50]);
}

#[test]
fn the_last_socket_takes_the_seat_with_it_and_counts_return_to_zero() {
    let hub = hub();
    let mitra = holder(Role::Mitra);
    let one = hub.register(mitra).unwrap();
    let two = hub.register(mitra).unwrap();
    assert_eq!(hub.socket_counts().mitra, 2);
    drop(one);
    assert!(hub.seat_of(MitraId(mitra.subject.0)).is_some());
    drop(two);
    assert!(hub.seat_of(MitraId(mitra.subject.0)).is_none());
    assert_eq!(hub.socket_counts(), SocketCounts::default());
    assert_eq!(hub.sockets_of(mitra.subject), 0);
}

#[test]
fn one_socket_too_many_replaces_the_longest_silent_one_of_a_mitra() {
    let hub = hub();
    let mitra = holder(Role::Mitra);
    let settled = || {
        let registration = hub.register(mitra).unwrap();
        hub.settle(&registration);
        registration
    };
    let (quiet, lively) = (settled(), settled());
    quiet.heard(1);
    lively.heard(2);
    let refused = hub.register(mitra).unwrap();
    assert!(quiet.ordered().is_none(), "a socket that was not admitted replaces nobody");
    drop(refused);
    let third = settled();
    assert_eq!(quiet.ordered(), Some(&Close::REPLACED));
    assert!(lively.ordered().is_none() && third.ordered().is_none());
}

#[test]
fn one_socket_too_many_of_a_customer_is_refused() {
    let hub = hub();
    let customer = holder(Role::Customer);
    let _held = [hub.register(customer).unwrap(), hub.register(customer).unwrap()];
    assert_eq!(hub.register(customer).err(), Some(RegisterError::TooManySockets));
    assert_eq!(hub.socket_counts().customer, 2);
}

#[test]
fn the_node_refuses_sockets_beyond_its_cap() {
    let hub = Arc::new(Hub::new(HubLimits { sockets: 1, ..LIMITS }));
    let _held = hub.register(holder(Role::Customer)).unwrap();
    assert_eq!(hub.register(holder(Role::Mitra)).err(), Some(RegisterError::NodeFull));
}

#[test]
fn an_older_status_never_replaces_a_newer_one() {
    let hub = hub();
    let mitra = hub.register(holder(Role::Mitra)).unwrap();
    let id = mitra.holder().subject;
    hub.apply_status(&change(id, 5, false));
    hub.apply_status(&change(id, 4, true));
    let seat = mitra.seat().unwrap();
    assert!(!seat.belief().unwrap().online);
    assert_eq!((seat.version(), seat.online_epoch()), (1, 5));
    hub.apply_status(&change(id, 5, false));
    assert_eq!(seat.version(), 1, "the same facts again are no news");
}

#[test]
fn deactivation_orders_every_socket_of_the_mitra_to_close_and_the_first_order_stands() {
    let hub = hub();
    let mitra = hub.register(holder(Role::Mitra)).unwrap();
    let subject = mitra.holder().subject;
    hub.apply_status(&deactivated(change(subject, 6, false)));
    assert_eq!(hub.disconnect(subject, &Close::DISCONNECTED), 0, "it is closing already");
    assert_eq!(mitra.ordered(), Some(&Close::DEACTIVATED));
}

#[test]
fn after_a_refresh_the_holder_is_of_the_new_sign_in_and_the_old_one_closes_nothing() {
    let hub = hub();
    let (older, newer) = (Uuid::new_v4(), Uuid::new_v4());
    let socket = hub.register(Holder { session: Some(older), ..holder(Role::Customer) }).unwrap();
    assert_eq!(socket.holder().session, Some(older));
    socket.stand_on(Some(newer));
    assert_eq!(socket.holder().session, Some(newer));
    assert_eq!(hub.sign_ins(), [newer]);
    assert_eq!(hub.revoke(&[older].into()), 0);
    assert_eq!(hub.revoke(&[newer].into()), 1);
    socket.stand_on(None);
    assert_eq!(socket.holder().session, None, "a token without a sign-in");
}

#[test]
fn a_revoked_sign_in_closes_only_the_sockets_that_stand_on_it() {
    let hub = hub();
    let session = Uuid::new_v4();
    let customer = Holder { session: Some(session), ..holder(Role::Customer) };
    let (on_it, other) = (hub.register(customer).unwrap(), hub.register(holder(Role::Customer)).unwrap());
    assert_eq!(hub.revoke(&[session].into()), 1);
    assert_eq!(on_it.ordered(), Some(&Close::REVOKED));
    assert!(other.ordered().is_none());
}

#[test]
fn snapshots_go_forward_within_an_epoch_and_a_confirmation_wakes_nobody() {
    let hub = hub();
    let mut watcher = hub.watch_availability();
    assert!(watcher.has_changed().unwrap(), "a late joiner looks at once");
    assert_eq!(hub.publish(news("a", 2, 5, 1)), Published::Pushed);
    watcher.borrow_and_update();
    assert_eq!(hub.publish(news("a", 2, 5, 9)), Published::Confirmed);
    assert!(!watcher.has_changed().unwrap());
    assert_eq!(hub.publish(news("a", 1, 7, 9)), Published::Ignored);
    assert_eq!(hub.publish(news("a", 2, 6, 9)), Published::Ignored, "same version, other content");
    assert_eq!(hub.publish(news("b", 1, 0, 0)), Published::Pushed, "another epoch begins anew");
    assert_eq!(watcher.borrow_and_update().as_ref().unwrap().snapshot().available, 0);
}

fn is_woken(connection: &Connection) -> bool {
    connection.woken().now_or_never().is_some()
}

#[test]
fn a_socket_is_woken_when_its_moment_has_come_and_not_before() {
    let hub = hub();
    let socket = hub.register(holder(Role::Customer)).unwrap();
    socket.wake_at(1_000);
    hub.moments.walk(999);
    assert!(!is_woken(&socket));
    hub.moments.walk(1_000);
    assert!(is_woken(&socket));
    hub.moments.walk(60_000);
    assert!(!is_woken(&socket), "nothing was awaited since");
    socket.wake_at(60_001);
    hub.moments.walk(60_049);
    assert!(!is_woken(&socket));
    hub.moments.walk(60_050);
    assert!(is_woken(&socket), "at most one turn late");
}

#[test]
fn a_moment_that_moves_is_followed_in_both_directions() {
    let hub = hub();
    let socket = hub.register(holder(Role::Customer)).unwrap();
    socket.wake_at(1_000);
    socket.wake_at(2_000);
    hub.moments.walk(1_999);
    assert!(!is_woken(&socket), "it moved to later");
    socket.wake_at(9_000);
    hub.moments.walk(2_100);
    socket.wake_at(3_000);
    hub.moments.walk(3_050);
    assert!(is_woken(&socket), "it moved to earlier");
    hub.moments.walk(20_000);
    assert!(!is_woken(&socket), "where it was listed before counts no more");
}

#[test]
fn a_moment_beyond_the_wheel_is_kept_and_a_pause_of_the_process_loses_none() {
    let hub = hub();
    let (far, near) = (hub.register(holder(Role::Customer)).unwrap(), hub.register(holder(Role::Mitra)).unwrap());
    far.wake_at(3_600_000);
    near.wake_at(10_000);
    for minute in 1..60 {
        hub.moments.walk(minute * 60_000);
        assert!(!is_woken(&far));
    }
    assert!(is_woken(&near));
    hub.moments.walk(9_000_000);
    assert!(is_woken(&far));
}
