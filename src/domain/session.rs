//! A chat session and its state machine: which action is taken in which state, and what it does.
//!
//! Whether a mitra may take a session (online, active, room) is the store's law, decided under a lock; this is the rest.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{CustomerId, MitraId, SessionId};

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// Nobody has taken it yet.
    Searching,
    /// A mitra has taken it, the customer has yet to pay. Load of that mitra.
    PendingPayment,
    /// Under way. Load of that mitra.
    Active,
    /// Over, by a call.
    Ended,
    /// Over, because its time ran out.
    Expired,
    /// Given up before anybody took it.
    Cancelled,
}

impl SessionStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Searching, Self::PendingPayment, Self::Active, Self::Ended, Self::Expired, Self::Cancelled];

    /// The word in the store, in frames and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Searching => "searching",
            Self::PendingPayment => "pending_payment",
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// Counts towards the capacity of the mitra that holds it.
    pub fn is_load(self) -> bool {
        matches!(self, Self::PendingPayment | Self::Active)
    }

    /// No action leads out of it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Ended | Self::Expired | Self::Cancelled)
    }

    /// The state machine.
    ///
    /// An accept that is repeated (its answer was lost) finds the session with the mitra already, paid for meanwhile or not.
    /// One that says `paid` of a session that waits for its payment is not the same accept.
    /// A payment that is confirmed again finds the session active; an end that is repeated finds it ended or cancelled.
    /// An expired session was ended by its time: to end it is the wrong state.
    ///
    /// # Errors
    /// The action is not taken in this status.
    pub fn next(self, action: &SessionAction) -> Result<Step, WrongState> {
        use SessionStatus::{Active, Cancelled, Ended, Expired, PendingPayment, Searching};
        let to = match (action, self) {
            (SessionAction::Accept { payment: Payment::Paid, .. }, Searching) => Active,
            (SessionAction::Accept { payment: Payment::Pending, .. }, Searching) => PendingPayment,
            (SessionAction::Accept { .. }, Active)
            | (SessionAction::Accept { payment: Payment::Pending, .. }, PendingPayment)
            | (SessionAction::ConfirmPayment, Active)
            | (SessionAction::End, Ended | Cancelled) => return Ok(Step::Repeat),
            (SessionAction::ConfirmPayment, PendingPayment) => Active,
            (SessionAction::Extend { .. }, Active) => Active,
            (SessionAction::Reroute { to: Some(_) }, Active | PendingPayment) => self,
            (SessionAction::Reroute { to: None }, Active | PendingPayment) => Searching,
            (SessionAction::End, Active | PendingPayment) => Ended,
            (SessionAction::End, Searching) => Cancelled,
            (SessionAction::Expire, Searching | PendingPayment | Active) => Expired,
            _ => return Err(WrongState { status: self }),
        };
        Ok(Step::To(to))
    }
}

impl fmt::Display for SessionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word is none of the six statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a session status")]
pub struct UnknownStatus(String);

impl FromStr for SessionStatus {
    type Err = UnknownStatus;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.as_str() == word).ok_or_else(|| UnknownStatus(word.to_owned()))
    }
}

/// Whether the customer had paid when the mitra accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payment {
    Paid,
    Pending,
}

/// What is done to a session. Who does it and why is in the [`Cause`](super::Cause).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAction {
    /// A mitra takes it; its time runs from here.
    Accept { mitra: MitraId, payment: Payment, duration: Duration },
    /// The customer has paid.
    ConfirmPayment,
    /// Its time ends so much later.
    Extend { by: Duration },
    /// To another mitra, or back to searching.
    Reroute { to: Option<MitraId> },
    /// Ends it; one that nobody took is cancelled.
    End,
    /// Its time ran out. Does nothing to a session whose time has not.
    Expire,
}

/// What an action does to the mitra of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Stays,
    /// This mitra, who must be online, active and have room.
    Becomes(MitraId),
    Nobody,
}

/// What an action does to the end of a session's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Stays,
    /// So long from now.
    In(Duration),
    /// So much later than it was; from now, where it had no end.
    LaterBy(Duration),
    /// No end.
    Never,
}

impl SessionAction {
    /// What it does to the mitra of the session.
    pub fn holder(&self) -> Holder {
        match *self {
            Self::Accept { mitra, .. } | Self::Reroute { to: Some(mitra) } => Holder::Becomes(mitra),
            Self::Reroute { to: None } => Holder::Nobody,
            Self::ConfirmPayment | Self::Extend { .. } | Self::End | Self::Expire => Holder::Stays,
        }
    }

    /// What it does to the end of its time.
    pub fn expiry(&self) -> Expiry {
        match *self {
            Self::Accept { duration, .. } => Expiry::In(duration),
            Self::Extend { by } => Expiry::LaterBy(by),
            Self::Reroute { to: None } => Expiry::Never,
            Self::Reroute { to: Some(_) } | Self::ConfirmPayment | Self::End | Self::Expire => Expiry::Stays,
        }
    }
}

/// What follows from a status and an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This status, with [`SessionAction::holder`] and [`SessionAction::expiry`].
    To(SessionStatus),
    /// It was done before: the same answer. An action that names a mitra is a repeat only of that mitra's session.
    Repeat,
}

/// The action is not taken in this status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session is {status}")]
pub struct WrongState {
    /// Where the session stands.
    pub status: SessionStatus,
}

/// A customer's session, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatSession {
    pub id: SessionId,
    pub customer_id: CustomerId,
    /// Who has it, or had it last; nobody while searching and after being cancelled.
    pub mitra_id: Option<MitraId>,
    pub status: SessionStatus,
    /// When its time runs out, by the store's clock. `None` while searching, and for a session of another program that has
    /// no end.
    pub expires_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

impl ChatSession {
    /// The session after this action at `now` (the store's clock), or `None` when there is nothing to change: it was done
    /// before, the mitra has it already, or its time has not run out.
    ///
    /// # Errors
    /// The action is not taken in its status.
    pub fn after(&self, action: &SessionAction, now: DateTime<Utc>) -> Result<Option<Self>, WrongState> {
        let holder = action.holder();
        let holds_it = holder == self.mitra_id.map_or(Holder::Nobody, Holder::Becomes);
        let status = match self.status.next(action)? {
            Step::To(status) => status,
            Step::Repeat if holds_it || holder == Holder::Stays => return Ok(None),
            Step::Repeat => return Err(WrongState { status: self.status }),
        };
        let is_overdue = self.expires_at.is_some_and(|at| at <= now);
        if (status == self.status && holds_it) || (*action == SessionAction::Expire && !is_overdue) {
            return Ok(None);
        }
        let expires_at = match action.expiry() {
            Expiry::Stays => self.expires_at,
            Expiry::In(duration) => Some(later(now, duration)),
            Expiry::LaterBy(by) => Some(later(self.expires_at.unwrap_or(now), by)),
            Expiry::Never => None,
        };
        let mitra_id = match holder {
            Holder::Stays => self.mitra_id,
            Holder::Becomes(mitra) => Some(mitra),
            Holder::Nobody => None,
        };
        Ok(Some(Self { mitra_id, status, expires_at, ..self.clone() }))
    }
}

/// The last day of the year 9999: the stores hold no later time.
const END_OF_TIME_MS: i64 = 253_402_214_400_000;

/// The end of time is as late as it gets.
fn later(at: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let end = DateTime::from_timestamp_millis(END_OF_TIME_MS).unwrap_or(DateTime::<Utc>::MAX_UTC);
    TimeDelta::from_std(by).ok().and_then(|by| at.checked_add_signed(by)).map_or(end, |later| later.min(end))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{
        SessionStatus::{Active, Cancelled, Ended, Expired, PendingPayment, Searching},
        *,
    };

    const HOUR: Duration = Duration::from_secs(3600);

    fn mitra(n: u128) -> MitraId {
        MitraId(Uuid::from_u128(n))
    }

    fn accept(n: u128, payment: Payment) -> SessionAction {
        SessionAction::Accept { mitra: mitra(n), payment, duration: HOUR }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
    }

    /// Held by mitra 1 where somebody holds it, with a minute to go.
    fn session(status: SessionStatus) -> ChatSession {
        let was_taken = !matches!(status, Searching | Cancelled);
        ChatSession {
            id: SessionId(Uuid::from_u128(7)),
            customer_id: CustomerId(Uuid::from_u128(8)),
            mitra_id: was_taken.then(|| mitra(1)),
            status,
            expires_at: was_taken.then(|| now() + Duration::from_secs(60)),
            created_at: now() - HOUR,
        }
    }

    #[test]
    fn every_action_from_every_state() {
        const NO: Option<Step> = None;
        let to = |status| Some(Step::To(status));
        let again = Some(Step::Repeat);
        // Searching, PendingPayment, Active, Ended, Expired, Cancelled.
        for (action, follows) in [
            (accept(1, Payment::Paid), [to(Active), NO, again, NO, NO, NO]),
            (accept(1, Payment::Pending), [to(PendingPayment), again, again, NO, NO, NO]),
            (SessionAction::ConfirmPayment, [NO, to(Active), again, NO, NO, NO]),
            (SessionAction::Extend { by: HOUR }, [NO, NO, to(Active), NO, NO, NO]),
            (SessionAction::Reroute { to: Some(mitra(2)) }, [NO, to(PendingPayment), to(Active), NO, NO, NO]),
            (SessionAction::Reroute { to: None }, [NO, to(Searching), to(Searching), NO, NO, NO]),
            (SessionAction::End, [to(Cancelled), to(Ended), to(Ended), again, NO, again]),
            (SessionAction::Expire, [to(Expired), to(Expired), to(Expired), NO, NO, NO]),
        ] {
            for (status, expected) in SessionStatus::ALL.into_iter().zip(follows) {
                assert_eq!(status.next(&action), expected.ok_or(WrongState { status }), "{action:?} from {status}");
            }
        }
    }

    #[test]
    fn what_counts_as_load_and_what_is_over() {
        assert_eq!(SessionStatus::ALL.map(SessionStatus::is_load), [false, true, true, false, false, false]);
        assert_eq!(SessionStatus::ALL.map(SessionStatus::is_final), [false, false, false, true, true, true]);
        for status in SessionStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).expect("a word"), status.as_str());
        }
        assert_eq!("lost".parse::<SessionStatus>(), Err(UnknownStatus("lost".into())));
    }

    #[test]
    fn the_time_of_a_session_runs_from_its_accept() {
        let taken = session(Searching).after(&accept(1, Payment::Pending), now()).expect("taken").expect("changed");
        assert_eq!((taken.status, taken.mitra_id), (PendingPayment, Some(mitra(1))));
        assert_eq!(taken.expires_at, Some(now() + HOUR));
        // Paying does not move it.
        let later = now() + HOUR / 2;
        let paid = taken.after(&SessionAction::ConfirmPayment, later).expect("paid").expect("changed");
        assert_eq!((paid.status, paid.expires_at), (Active, taken.expires_at));
    }

    #[test]
    fn the_same_accept_by_the_same_mitra_changes_nothing() {
        for (status, payment) in
            [(PendingPayment, Payment::Pending), (Active, Payment::Pending), (Active, Payment::Paid)]
        {
            assert_eq!(session(status).after(&accept(1, payment), now()), Ok(None));
            assert_eq!(session(status).after(&accept(2, payment), now()), Err(WrongState { status }));
        }
        let paid_now = session(PendingPayment).after(&accept(1, Payment::Paid), now());
        assert_eq!(paid_now, Err(WrongState { status: PendingPayment }));
    }

    #[test]
    fn a_reroute_keeps_the_time_and_back_to_searching_drops_it() {
        for status in [PendingPayment, Active] {
            let before = session(status);
            let moved = before.after(&SessionAction::Reroute { to: Some(mitra(2)) }, now()).expect("moved");
            assert_eq!(moved, Some(ChatSession { mitra_id: Some(mitra(2)), ..before.clone() }));
            assert_eq!(before.after(&SessionAction::Reroute { to: Some(mitra(1)) }, now()), Ok(None));
            let released = before.after(&SessionAction::Reroute { to: None }, now()).expect("moved");
            let free = ChatSession { mitra_id: None, status: Searching, expires_at: None, ..before };
            assert_eq!(released, Some(free));
        }
    }

    #[test]
    fn an_extension_is_added_to_what_is_left() {
        let before = session(Active);
        let extend = SessionAction::Extend { by: HOUR };
        let after = before.after(&extend, now()).expect("extended").expect("changed");
        assert_eq!(after.expires_at, Some(now() + HOUR + Duration::from_secs(60)));
        let endless = ChatSession { expires_at: None, ..before };
        let after = endless.after(&extend, now()).expect("extended").expect("changed");
        assert_eq!(after.expires_at, Some(now() + HOUR));
        let extend = SessionAction::Extend { by: Duration::MAX };
        let after = endless.after(&extend, now()).expect("extended").expect("changed");
        assert_eq!(after.expires_at, DateTime::from_timestamp_millis(END_OF_TIME_MS));
    }

    #[test]
    fn only_what_is_overdue_expires() {
        let before = session(Active);
        assert_eq!(before.after(&SessionAction::Expire, now()), Ok(None));
        let overdue = now() + Duration::from_secs(60);
        let expired = before.after(&SessionAction::Expire, overdue).expect("expired").expect("changed");
        assert_eq!(expired, ChatSession { status: Expired, ..before.clone() });
        let endless = ChatSession { expires_at: None, ..before };
        assert_eq!(endless.after(&SessionAction::Expire, overdue), Ok(None));
    }

    #[test]
    fn one_who_had_it_is_remembered_after_the_end() {
        let ended = session(Active).after(&SessionAction::End, now()).expect("ended").expect("changed");
        assert_eq!(ended, ChatSession { status: Ended, ..session(Active) });
        let cancelled = session(Searching).after(&SessionAction::End, now()).expect("cancelled").expect("changed");
        assert_eq!((cancelled.status, cancelled.mitra_id), (Cancelled, None));
    }
}
