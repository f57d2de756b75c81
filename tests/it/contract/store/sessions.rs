//! Sessions: what each action does in each state, to the session, to the loads of mitras and to the record.

mod adoption;
mod expiry;
mod law;
mod sql;
pub mod writers;

use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};
use hadir::{
    domain::{
        ChatSession, CustomerId, Expiry, MitraId, MitraRow, Payment, SessionAction, SessionId, SessionStatus,
        WrongState,
    },
    store::{SessionChange, SessionCounts, StoreError},
};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Bench, Beside, cause, id, ids, on_both};

on_both!(
    a_new_session_is_searching_and_its_customer_exists,
    the_same_id_again_is_the_same_session,
    an_id_of_another_customers_session_is_refused,
    without_an_id_each_session_has_its_own,
    each_action_from_each_state,
    a_repeated_accept_needs_no_room_and_nobody_online,
    a_suspect_mitra_may_accept,
    the_time_runs_from_the_accept_and_an_extension_moves_it,
    a_period_of_centuries_is_taken_or_refused_but_breaks_nothing,
    loads_move_with_the_session,
    the_record_says_what_happened_to_whom_and_by_whom,
    what_is_not_there_is_told,
    counts_are_of_those_that_are_not_over,
    the_load_of_a_mitra_is_named_the_oldest_first,
    the_latest_event_of_a_kind_is_found_behind_others,
);

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// The n-th session.
pub fn session_id(n: u128) -> SessionId {
    SessionId(Uuid::from_u128(0xc4a7 << 96 | n))
}

pub fn customer(n: u128) -> CustomerId {
    CustomerId(Uuid::from_u128(0xc057 << 96 | n))
}

pub(super) fn accept(mitra: u128, payment: Payment) -> SessionAction {
    SessionAction::Accept { mitra: id(mitra), payment, duration: HOUR }
}

pub(super) fn reroute(mitra: impl Into<Option<u128>>) -> SessionAction {
    SessionAction::Reroute { to: mitra.into().map(id) }
}

impl Bench {
    pub(super) async fn does(&self, n: u128, action: &SessionAction) -> Result<SessionChange, StoreError> {
        self.change_session(session_id(n), action, &cause("test")).await
    }

    pub(super) async fn searching(&self, n: u128) -> ChatSession {
        self.create_session(Some(session_id(n)), customer(n)).await.expect("created").0
    }

    /// A new session of this mitra.
    pub(super) async fn taken(&self, n: u128, mitra: u128, payment: Payment) -> ChatSession {
        self.searching(n).await;
        self.does(n, &accept(mitra, payment)).await.expect("accepted").session
    }

    /// A new session that stands so, of mitra 1 where somebody has or had it.
    async fn standing(&self, n: u128, status: SessionStatus) -> ChatSession {
        let session = match status {
            SessionStatus::Searching => self.searching(n).await,
            SessionStatus::PendingPayment => self.taken(n, 1, Payment::Pending).await,
            SessionStatus::Active => self.taken(n, 1, Payment::Paid).await,
            SessionStatus::Ended => {
                self.taken(n, 1, Payment::Paid).await;
                self.does(n, &SessionAction::End).await.expect("ended").session
            }
            SessionStatus::Expired => {
                self.searching(n).await;
                let at_once = SessionAction::Accept { mitra: id(1), payment: Payment::Paid, duration: Duration::ZERO };
                self.does(n, &at_once).await.expect("accepted");
                self.does(n, &SessionAction::Expire).await.expect("expired").session
            }
            SessionStatus::Cancelled => {
                self.searching(n).await;
                self.does(n, &SessionAction::End).await.expect("cancelled").session
            }
        };
        assert_eq!(session.status, status);
        session
    }

    pub(super) async fn found(&self, n: u128) -> ChatSession {
        self.session(session_id(n)).await.expect("read").expect("exists")
    }

    /// What a statement of both databases counts.
    pub(super) async fn count(&self, sql: String) -> i64 {
        let sql = AssertSqlSafe(sql);
        match &self.beside {
            Beside::Sqlite { pool, .. } => sqlx::query_scalar(sql).fetch_one(pool).await,
            Beside::Postgres { pool, .. } => sqlx::query_scalar(sql).fetch_one(pool).await,
        }
        .expect("counted")
    }

    /// Mitras whose recorded load is not the number of their sessions.
    pub(super) async fn miscounted(&self) -> i64 {
        self.count(
            "SELECT count(*) FROM mitra_status s WHERE active_sessions <> (SELECT count(*) FROM chat_sessions c \
             WHERE c.mitra_id = s.mitra_id AND c.status IN ('active', 'pending_payment'))"
                .to_owned(),
        )
        .await
    }

    async fn load_of_mitra(&self, n: u128, limit: u32) -> Vec<SessionId> {
        self.store.load_of(id(n), limit).await.expect("read")
    }

    async fn load_of(&self, n: u128) -> u32 {
        assert_eq!(self.miscounted().await, 0);
        self.row(n).await.sessions
    }

    /// Kind, reason and writer of the newest event.
    async fn newest(&self, n: u128) -> (String, Option<String>, String) {
        let event = self.events(id(n), 1).await.expect("read").remove(0);
        (event.kind, event.reason, event.actor)
    }
}

fn wrong_state<T: std::fmt::Debug>(answer: Result<T, StoreError>, status: SessionStatus) {
    assert!(matches!(&answer, Err(StoreError::WrongState(wrong)) if wrong.status == status), "{answer:?}");
}

fn roomy(rows: &[MitraRow]) -> Vec<(MitraId, u32)> {
    rows.iter().map(|row| (row.id, row.sessions)).collect()
}

async fn a_new_session_is_searching_and_its_customer_exists(bench: Bench) {
    let before = bench.now().await.expect("asked");
    let (session, created) = bench.create_session(Some(session_id(1)), customer(1)).await.expect("created");
    assert!(created);
    assert!((session.created_at - before).num_seconds().abs() < 60, "{session:?}");
    let expected = ChatSession {
        id: session_id(1),
        customer_id: customer(1),
        mitra_id: None,
        status: SessionStatus::Searching,
        expires_at: None,
        created_at: session.created_at,
    };
    assert_eq!(session, expected);
    assert_eq!(bench.found(1).await, expected);
    assert_eq!(bench.count(format!("SELECT count(*) FROM customers WHERE id = '{}'", customer(1))).await, 1);
    assert_eq!(bench.session(session_id(2)).await.expect("read"), None);
}

async fn the_same_id_again_is_the_same_session(bench: Bench) {
    bench.online(1).await;
    let calls = (0..8).map(|_| bench.create_session(Some(session_id(1)), customer(1)));
    let answers = futures_util::future::join_all(calls).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("answered")).collect();
    assert_eq!(answers.iter().filter(|(_, created)| *created).count(), 1);
    assert!(answers.iter().all(|(session, _)| *session == answers[0].0));
    // As it is by now.
    let taken = bench.does(1, &accept(1, Payment::Paid)).await.expect("accepted").session;
    let again = bench.create_session(Some(session_id(1)), customer(1)).await.expect("answered");
    assert_eq!(again, (taken, false));
}

async fn an_id_of_another_customers_session_is_refused(bench: Bench) {
    let session = bench.searching(1).await;
    let refused = bench.create_session(Some(session_id(1)), customer(2)).await;
    assert!(matches!(&refused, Err(StoreError::SessionIdTaken(id)) if *id == session_id(1)), "{refused:?}");
    assert_eq!(bench.found(1).await, session);
    // Nothing half-written.
    assert_eq!(bench.count("SELECT count(*) FROM customers".to_owned()).await, 1);
}

async fn without_an_id_each_session_has_its_own(bench: Bench) {
    let (first, created) = bench.create_session(None, customer(1)).await.expect("created");
    let (second, also) = bench.create_session(None, customer(1)).await.expect("created");
    assert!(created && also && first.id != second.id);
    assert_eq!(bench.session(first.id).await.expect("read"), Some(first));
}

async fn each_action_from_each_state(bench: Bench) {
    for mitra in [1, 2] {
        bench.online(mitra).await;
        bench.put_mitra(id(mitra), "Busy", Some(1000), &cause("")).await.expect("updated");
    }
    let actions = [
        accept(1, Payment::Paid),
        accept(1, Payment::Pending),
        accept(2, Payment::Paid),
        accept(2, Payment::Pending),
        SessionAction::ConfirmPayment,
        SessionAction::Extend { by: HOUR },
        reroute(1),
        reroute(2),
        reroute(None),
        SessionAction::End,
        SessionAction::Expire,
    ];
    let mut n = 0;
    for status in SessionStatus::ALL {
        for action in &actions {
            n += 1;
            let before = bench.standing(n, status).await;
            let fences = [bench.row(1).await.fence, bench.row(2).await.fence];
            let asked_at = bench.now().await.expect("asked");
            let answer = bench.does(n, action).await;
            let after = bench.found(n).await;
            let told = format!("{action:?} from {status}");
            assert_eq!(bench.miscounted().await, 0, "{told}");
            let expected = match before.after(action, asked_at) {
                Ok(expected) => expected,
                Err(WrongState { status }) => {
                    wrong_state(answer, status);
                    assert_eq!(after, before, "{told}");
                    assert_eq!([bench.row(1).await.fence, bench.row(2).await.fence], fences, "{told}");
                    continue;
                }
            };
            let change = answer.expect(&told);
            assert_eq!(change.changed, expected.is_some(), "{told}");
            assert_eq!(change.session, after, "{told}");
            let expected = expected.unwrap_or_else(|| before.clone());
            assert_eq!(ChatSession { expires_at: expected.expires_at, ..after.clone() }, expected, "{told}");
            match action.expiry() {
                Expiry::In(_) if change.changed => runs_out(after.expires_at, expected.expires_at, &told),
                _ => assert_eq!(after.expires_at, expected.expires_at, "{told}"),
            }
            let mut concerned = [before.mitra_id, after.mitra_id].into_iter().flatten().collect::<Vec<_>>();
            concerned.sort_unstable();
            concerned.dedup();
            assert_eq!(ids(&change.mitras), concerned, "{told}");
            for (n, fence) in [1, 2].into_iter().zip(fences) {
                let row = bench.row(n).await;
                let mut told_rows = change.mitras.iter().filter(|told| told.id == row.id);
                assert!(told_rows.all(|told| (told.fence, told.sessions) == (row.fence, row.sessions)), "{told}");
                let carried = |session: &ChatSession| session.status.is_load() && session.mitra_id == Some(row.id);
                assert_eq!(row.fence > fence, carried(&before) != carried(&after), "{told}: mitra {n}");
            }
        }
    }
}

/// The two are a minute apart at most: between the asking and the doing.
fn runs_out(at: Option<DateTime<Utc>>, expected: Option<DateTime<Utc>>, told: &str) {
    let late = at.expect(told) - expected.expect(told);
    assert!((-1..60_000).contains(&late.num_milliseconds()), "{told}: {late}");
}

async fn a_repeated_accept_needs_no_room_and_nobody_online(bench: Bench) {
    bench.online(1).await;
    bench.put_mitra(id(1), "Small", Some(1), &cause("")).await.expect("updated");
    let taken = bench.taken(1, 1, Payment::Pending).await;
    bench.set_online(id(1), false, &cause("")).await.expect("offline");
    let again = bench.does(1, &accept(1, Payment::Pending)).await.expect("the same");
    assert_eq!((again.changed, &again.session), (false, &taken));
    assert_eq!(roomy(&again.mitras), [(id(1), 1)]);
    let paid = bench.does(1, &SessionAction::ConfirmPayment).await.expect("confirmed").session;
    assert_eq!(bench.does(1, &accept(1, Payment::Pending)).await.expect("the same").session, paid);
    let stays = bench.does(1, &reroute(1)).await.expect("the same");
    assert_eq!((stays.changed, stays.session), (false, paid));
}

async fn a_suspect_mitra_may_accept(bench: Bench) {
    bench.online(1).await;
    bench.silence(1, HOUR).await;
    assert_eq!(bench.taken(1, 1, Payment::Paid).await.mitra_id, Some(id(1)));
}

async fn the_time_runs_from_the_accept_and_an_extension_moves_it(bench: Bench) {
    bench.online(1).await;
    let taken = bench.taken(1, 1, Payment::Pending).await;
    runs_out(taken.expires_at, Some(taken.created_at + HOUR), "accepted");
    let paid = bench.does(1, &SessionAction::ConfirmPayment).await.expect("confirmed").session;
    assert_eq!(paid.expires_at, taken.expires_at);
    let longer = bench.does(1, &SessionAction::Extend { by: HOUR }).await.expect("extended").session;
    assert_eq!(longer.expires_at, taken.expires_at.map(|at| at + HOUR));
    let released = bench.does(1, &reroute(None)).await.expect("released").session;
    assert_eq!((released.expires_at, released.mitra_id), (None, None));
    // Another program's session without an end gets one.
    bench.does(1, &accept(1, Payment::Paid)).await.expect("accepted");
    bench.run("UPDATE chat_sessions SET expires_at = NULL".to_owned()).await;
    let now = bench.now().await.expect("asked");
    let ends = bench.does(1, &SessionAction::Extend { by: HOUR }).await.expect("extended").session;
    runs_out(ends.expires_at, Some(now + HOUR), "extended");
}

async fn a_period_of_centuries_is_taken_or_refused_but_breaks_nothing(bench: Bench) {
    bench.online(1).await;
    bench.searching(1).await;
    let forever = SessionAction::Accept { mitra: id(1), payment: Payment::Paid, duration: Duration::MAX };
    let taken = bench.does(1, &forever).await.expect("accepted").session;
    assert!(taken.expires_at.is_some_and(|at| at > taken.created_at + HOUR * 24 * 365 * 90));
    assert_eq!(bench.found(1).await, taken);
    // To the end of time and no further.
    for _ in 0..90 {
        bench.does(1, &SessionAction::Extend { by: Duration::MAX }).await.expect("extended");
    }
    assert_eq!(bench.found(1).await.expires_at.map(|at| at.year()), Some(9999));
    assert!(bench.next_expiry().await.expect("asked").is_some_and(|left| left > HOUR));
}

async fn loads_move_with_the_session(bench: Bench) {
    bench.online(1).await;
    bench.online(2).await;
    bench.searching(1).await;
    assert_eq!(bench.load_of(1).await, 0);
    let taken = bench.does(1, &accept(1, Payment::Pending)).await.expect("accepted");
    assert_eq!((roomy(&taken.mitras), bench.load_of(1).await), (vec![(id(1), 1)], 1));
    let moved = bench.does(1, &reroute(2)).await.expect("moved");
    assert_eq!(roomy(&moved.mitras), [(id(1), 0), (id(2), 1)]);
    let back = bench.does(1, &reroute(1)).await.expect("moved");
    assert_eq!(roomy(&back.mitras), [(id(1), 1), (id(2), 0)]);
    let released = bench.does(1, &reroute(None)).await.expect("released");
    assert_eq!((roomy(&released.mitras), bench.load_of(1).await), (vec![(id(1), 0)], 0));
    bench.does(1, &accept(1, Payment::Paid)).await.expect("accepted");
    bench.taken(2, 1, Payment::Pending).await;
    assert_eq!(bench.load_of(1).await, 2);
    let ended = bench.does(1, &SessionAction::End).await.expect("ended");
    assert_eq!(roomy(&ended.mitras), [(id(1), 1)]);
    bench.searching(3).await;
    let cancelled = bench.does(3, &SessionAction::End).await.expect("cancelled");
    assert_eq!(roomy(&cancelled.mitras), []);
}

async fn the_record_says_what_happened_to_whom_and_by_whom(bench: Bench) {
    bench.online(1).await;
    bench.online(2).await;
    bench.taken(1, 1, Payment::Pending).await;
    bench.does(1, &accept(1, Payment::Pending)).await.expect("the same");
    bench.does(1, &SessionAction::ConfirmPayment).await.expect("confirmed");
    bench.does(1, &SessionAction::Extend { by: HOUR }).await.expect("extended");
    bench.does(1, &reroute(2)).await.expect("moved");
    let event = ("session_rerouted".to_owned(), Some("test".to_owned()), "service".to_owned());
    assert_eq!(bench.newest(1).await, event);
    bench.does(1, &SessionAction::End).await.expect("ended");
    assert_eq!(bench.kinds(1).await, ["session_rerouted", "session_confirmed", "session_started", "online", "created"]);
    assert_eq!(bench.kinds(2).await, ["session_ended", "session_started", "online", "created"]);
    assert!(bench.events(id(2), 2).await.expect("read").iter().all(|event| event.session_id == Some(session_id(1))));
    assert_eq!(bench.events(id(2), 4).await.expect("read")[2].session_id, None);
}

async fn what_is_not_there_is_told(bench: Bench) {
    let unknown = bench.does(9, &SessionAction::End).await;
    assert!(matches!(&unknown, Err(StoreError::UnknownSession(who)) if *who == session_id(9)), "{unknown:?}");
    bench.online(1).await;
    bench.searching(1).await;
    let nobody = bench.does(1, &accept(9, Payment::Paid)).await;
    assert!(matches!(&nobody, Err(StoreError::UnknownMitra(who)) if *who == id(9)), "{nobody:?}");
    assert_eq!(bench.found(1).await.status, SessionStatus::Searching);
    bench.does(1, &accept(1, Payment::Paid)).await.expect("accepted");
    let nobody = bench.does(1, &reroute(9)).await;
    assert!(matches!(&nobody, Err(StoreError::UnknownMitra(who)) if *who == id(9)), "{nobody:?}");
    assert_eq!(bench.found(1).await.mitra_id, Some(id(1)));
    // Its state is looked at first.
    wrong_state(bench.does(1, &accept(9, Payment::Paid)).await, SessionStatus::Active);
}

async fn counts_are_of_those_that_are_not_over(bench: Bench) {
    assert_eq!(bench.session_counts().await.expect("counted"), SessionCounts::default());
    bench.online(1).await;
    bench.put_mitra(id(1), "Busy", Some(1000), &cause("")).await.expect("updated");
    let mut n = 0;
    for (status, times) in SessionStatus::ALL.into_iter().zip([3, 2, 4, 1, 2, 3]) {
        for _ in 0..times {
            n += 1;
            bench.standing(n, status).await;
        }
    }
    let counts = bench.session_counts().await.expect("counted");
    assert_eq!(counts, SessionCounts { searching: 3, pending_payment: 2, active: 4 });
    let of = SessionStatus::ALL.map(|status| counts.of(status));
    assert_eq!(of, [Some(3), Some(2), Some(4), None, None, None]);
}

async fn the_load_of_a_mitra_is_named_the_oldest_first(bench: Bench) {
    bench.online(1).await;
    bench.online(2).await;
    bench.put_mitra(id(1), "Busy", Some(1000), &cause("")).await.expect("updated");
    let mut load = Vec::new();
    for (n, status) in (1..).zip(SessionStatus::ALL.into_iter().cycle().take(18)) {
        let session = bench.standing(n, status).await;
        if status.is_load() {
            load.push(session.id);
        }
    }
    bench.taken(99, 2, Payment::Paid).await;
    // Created in one millisecond, they are in order of their ids.
    assert_eq!(bench.load_of_mitra(1, 100).await, load);
    assert_eq!(bench.load_of_mitra(1, 2).await, load[..2]);
    assert_eq!(bench.load_of_mitra(2, 100).await, [session_id(99)]);
    assert_eq!(bench.load_of_mitra(3, 100).await, []);
}

async fn the_latest_event_of_a_kind_is_found_behind_others(bench: Bench) {
    bench.created(1).await;
    assert_eq!(bench.latest_event(id(1), "offline").await.expect("read"), None);
    for reason in ["first", "second"] {
        bench.set_online(id(1), true, &cause("")).await.expect("online");
        bench.set_online(id(1), false, &cause(reason)).await.expect("offline");
    }
    bench.set_online(id(1), true, &cause("")).await.expect("online");
    for n in 1..=2 {
        bench.taken(n, 1, Payment::Paid).await;
    }
    let found = bench.latest_event(id(1), "offline").await.expect("read").expect("there is one");
    assert_eq!((found.kind.as_str(), found.reason.as_deref()), ("offline", Some("second")));
    assert_eq!(bench.latest_event(id(2), "offline").await.expect("read"), None);
}
