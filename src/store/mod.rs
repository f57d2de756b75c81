//! The durable truth behind one trait: who is online, who is active, with which capacity and load, and what happened.
//!
//! `postgres/` and `sqlite/` are the only places with SQL; both pass the suite in `tests/it/contract/store.rs`. A store
//! does not know the mirror, sockets or modes: `presence` decides in which order truth and mirror are written. Triggers
//! give revisions and online epochs and record events, so that plain SQL of other programs has the same effects.
//!
//! Every call has a deadline of its own and fails with [`StoreError::Unavailable`] when it passes.

mod decode;
pub mod postgres;
pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use uuid::Uuid;

use crate::domain::{
    AvailablePage, Cause, ChatSession, Counts, CustomerId, LastHeard, MitraId, MitraRow, NodeId, PresenceEvent,
    SessionAction, SessionId, SessionStatus, Source, SubjectId, WrongState,
};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No mitra has this id.
    #[error("no mitra has the id {0}")]
    UnknownMitra(MitraId),
    /// The mitra is deactivated and may not go online.
    #[error("mitra {0} is deactivated")]
    Deactivated(MitraId),
    /// No session has this id.
    #[error("no session has the id {0}")]
    UnknownSession(SessionId),
    /// The session's status does not allow it.
    #[error(transparent)]
    WrongState(#[from] WrongState),
    /// A session of another customer has this id.
    #[error("the id {0} is taken by a session of another customer")]
    SessionIdTaken(SessionId),
    /// The mitra has as many sessions as it may have.
    #[error("mitra {0} has no room for another session")]
    CapacityExceeded(MitraId),
    /// The mitra is offline or deactivated.
    #[error("mitra {0} is not online, or deactivated")]
    NotAvailable(MitraId),
    /// A value breaks a constraint of the schema; the text says which, in words.
    #[error("{0}")]
    Invalid(String),
    /// Somebody else holds the row for too long; the store itself is well.
    #[error("the row is held by another transaction; try again shortly")]
    Busy,
    /// The store is well, and holds a row that this version cannot read; the log says why.
    #[error("the store holds what cannot be read: {0}")]
    Unreadable(String),
    /// Not reachable, too slow, or read-only. Nothing is known about whether a write took effect.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// How the reason ends when a deadline passed.
const IN_TIME: &str = " in time";

impl StoreError {
    /// A deadline passed. `what` did not happen in time.
    pub(crate) fn timeout(what: &str) -> Self {
        Self::Unavailable(format!("{what}{IN_TIME}"))
    }

    /// Whether it is of [`Self::timeout`].
    pub fn timed_out(&self) -> bool {
        matches!(self, Self::Unavailable(why) if why.ends_with(IN_TIME))
    }
}

/// What a write did.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The row as it is after the write.
    pub row: MitraRow,
    /// False when the row was already so: its fence is as it was and no event was recorded. (A display name is no part of
    /// the row: a new one is written and changes no fence.)
    pub changed: bool,
}

/// A mitra with what only the store knows.
#[derive(Clone, Debug, PartialEq)]
pub struct MitraProfile {
    pub row: MitraRow,
    pub display_name: String,
}

/// A heartbeat as the store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub id: MitraId,
    /// The go-online that it keeps alive.
    pub online_epoch: i64,
    pub age: Duration,
}

/// The durable half of a state, for listing. The mirror judges freshness where it is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurableState {
    Any,
    /// Online and active.
    Online,
    /// Online, active, sessions below capacity.
    OnlineWithRoom,
    /// Online, active, sessions at or over capacity.
    OnlineFull,
    /// Active and not online.
    Offline,
    Deactivated,
}

/// `$page!` of the literals that make up a [`DurableState`]'s condition on the tables `m` and `s`, in words that both databases
/// understand; `$default` is how the one at hand writes the parameter of the default capacity.
macro_rules! page_of_state {
    ($state:expr, $page:ident, $default:literal) => {
        match $state {
            DurableState::Any => $page!("true"),
            DurableState::Online => $page!("s.is_online"),
            DurableState::OnlineWithRoom => {
                $page!("s.is_online AND s.active_sessions < coalesce(m.max_sessions, ", $default, ")")
            }
            DurableState::OnlineFull => {
                $page!("s.is_online AND s.active_sessions >= coalesce(m.max_sessions, ", $default, ")")
            }
            DurableState::Offline => $page!("NOT s.is_online AND m.is_active"),
            DurableState::Deactivated => $page!("NOT m.is_active"),
        }
    };
}
use page_of_state;

/// One page of mitras, by id. `search` matches any part of an id, with or without dashes, or any part of the display name.
/// The case of letters does not matter (on Postgres as far as the database's locale knows it).
#[derive(Clone, Debug)]
pub struct MitraQuery {
    pub state: DurableState,
    /// Only those whose stored heartbeat is at most this old.
    pub fresh_within: Option<Duration>,
    pub search: Option<String>,
    /// Only ids greater than this one.
    pub after: Option<MitraId>,
    pub limit: u32,
}

/// One page of the mitras online whose stored heartbeat is older than this, the oldest first. `search` as in [`MitraQuery`].
#[derive(Clone, Debug)]
pub struct SilentQuery {
    pub fresh_within: Duration,
    pub search: Option<String>,
    /// Only those that come later in this order.
    pub after: Option<LastHeard>,
    pub limit: u32,
}

/// What to look for in ids without their dashes, or `None`: nothing is asked for that could stand in an id.
fn part_of_id(search: Option<&str>) -> Option<String> {
    let part = search?.replace('-', "").to_ascii_lowercase();
    let can_be = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    can_be.then_some(part)
}

/// A sign-in that a token may stand on (`sid`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSession {
    pub subject: SubjectId,
    pub role: String,
    /// Neither expired nor revoked, by the store's clock.
    pub valid: bool,
}

/// What became of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionChange {
    /// The session as it is after the call.
    pub session: ChatSession,
    /// False when there was nothing to change: the same accept, payment or end again, rerouted to the mitra who has it, or told to expire
    /// before its time.
    pub changed: bool,
    /// The rows, after the call, of the mitra who has (or last had) the session and of the one who had it before; none
    /// for a session that nobody had. For writing through to the mirror.
    pub mitras: Vec<MitraRow>,
}

/// How many sessions are not over, by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    pub searching: u64,
    pub pending_payment: u64,
    pub active: u64,
}

impl SessionCounts {
    /// Those of a status; of one that is final nobody counts.
    pub fn of(&self, status: SessionStatus) -> Option<u64> {
        match status {
            SessionStatus::Searching => Some(self.searching),
            SessionStatus::PendingPayment => Some(self.pending_payment),
            SessionStatus::Active => Some(self.active),
            SessionStatus::Ended | SessionStatus::Expired | SessionStatus::Cancelled => None,
        }
    }
}

/// Rung by the store when another program (or another node) changed a mitra: a bell, never data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bell {
    /// This mitra's row has at least this revision.
    Mitra { id: MitraId, revision: i64 },
    /// A sign-in was revoked.
    Revoked { session: Uuid },
    /// More rows than are named one by one, none of them with a revision below this one: look at recent changes.
    ManyMitras { from: i64 },
    /// More sign-ins were revoked than are named one by one.
    ManyRevoked,
    /// Bells may have been missed (the listener was connected anew), or many mitras were removed: look at everything.
    Missed,
}

/// The durable truth.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Which store this is, for `source`.
    fn source(&self) -> Source;

    /// Reachable and writable. Used by readiness and by the mode.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Why it fails at present, in the words of its log; `None` while it is well. Asks nothing.
    fn trouble(&self) -> Option<String>;

    /// One mitra's row, or `None`.
    async fn mitra(&self, id: MitraId) -> Result<Option<MitraRow>, StoreError>;

    /// The rows of these ids, but for unknown ids and for rows that cannot be read. At most 1,000 ids.
    async fn mitras(&self, ids: &[MitraId]) -> Result<Vec<MitraRow>, StoreError>;

    /// Those of these ids that no mitra has: not one whose row only cannot be read. At most 1,000 ids.
    async fn unknown_mitras(&self, ids: &[MitraId]) -> Result<Vec<MitraId>, StoreError>;

    /// The mitra's row with its display name.
    async fn profile(&self, id: MitraId) -> Result<Option<MitraProfile>, StoreError>;

    /// Creates or updates a mitra. `max_sessions`: `None` leaves it (the configured default for a new one). A name over 200
    /// characters or a capacity over 1,000 is [`StoreError::Invalid`].
    async fn put_mitra(
        &self,
        id: MitraId,
        display_name: &str,
        max_sessions: Option<u32>,
        cause: &Cause,
    ) -> Result<Transition, StoreError>;

    /// Goes online (a new online epoch, and the heartbeat is stamped now) or offline. Going online twice changes
    /// nothing but stamps the heartbeat. Refuses a deactivated mitra to go online.
    async fn set_online(&self, id: MitraId, online: bool, cause: &Cause) -> Result<Transition, StoreError>;

    /// Deactivates (offline too, its `auth_sessions` revoked, one transaction) or reactivates (offline).
    async fn set_active(&self, id: MitraId, active: bool, cause: &Cause) -> Result<Transition, StoreError>;

    /// Takes those offline that are still in this online epoch and whose stored heartbeat is at least `silent_for` old, or
    /// in the future: the clock was stepped back, and it proves nothing.
    /// Returns only the rows this call changed; each with one event. One that somebody else is writing just now is left to
    /// the next call.
    async fn expire_silent(
        &self,
        candidates: &[(MitraId, i64)],
        silent_for: Duration,
    ) -> Result<Vec<MitraRow>, StoreError>;

    /// Stamps heartbeats, given as ages, only forward, but for one that stands in the future; only existing mitras; the newest of an id that comes twice. Idempotent:
    /// the same heartbeat, by now older, moves nothing. Returns how many moved.
    async fn record_heartbeats(&self, ages: &[(MitraId, Duration)]) -> Result<u64, StoreError>;

    /// The counts, judging freshness by stored heartbeats.
    async fn counts(&self, fresh_within: Duration) -> Result<Counts, StoreError>;

    /// A random sample of the available, judging freshness by stored heartbeats.
    async fn find_available(&self, fresh_within: Duration, limit: u32) -> Result<AvailablePage, StoreError>;

    /// One page of mitras in order of id.
    async fn list(&self, query: &MitraQuery) -> Result<Vec<MitraProfile>, StoreError>;

    /// One page of the silent, each with its place in that order.
    async fn silent(&self, query: &SilentQuery) -> Result<Vec<(LastHeard, MitraProfile)>, StoreError>;

    /// Those of these mitras that `search` finds (as in [`MitraQuery`]), in no order. At most 1,000 ids.
    async fn profiles(&self, ids: &[MitraId], search: Option<&str>) -> Result<Vec<MitraProfile>, StoreError>;

    /// One page of rows in order of id, for the seed. One may be short of rows that are not whole; the last is the empty one.
    async fn scan(&self, after: Option<MitraId>, limit: u32) -> Result<Vec<MitraRow>, StoreError>;

    /// Up to `limit` rows whose revision is greater than this one, in order of revision.
    async fn changed_since(&self, revision: i64, limit: u32) -> Result<Vec<MitraRow>, StoreError>;

    /// The greatest revision of all rows; 0 without rows. Revisions are given before they are committed: a smaller one may
    /// still appear.
    async fn newest_revision(&self) -> Result<i64, StoreError>;

    /// The last revision given to anybody, committed or not. It falls only when the store was put back to an older state.
    async fn last_given_revision(&self) -> Result<i64, StoreError>;

    /// Those of these sign-ins that are unknown, expired or revoked. At most 1,000.
    async fn invalid_sign_ins(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError>;

    /// A session in `searching`, and whether this call created it. A missing customer is created. The same id again gives the
    /// session as it is now; with another customer it is [`StoreError::SessionIdTaken`]. Without an id one is chosen.
    async fn create_session(
        &self,
        id: Option<SessionId>,
        customer: CustomerId,
    ) -> Result<(ChatSession, bool), StoreError>;

    /// One session, or `None`.
    async fn session(&self, id: SessionId) -> Result<Option<ChatSession>, StoreError>;

    /// Does this to a session, in one transaction with its effects: the loads of the mitras concerned are counted anew, and
    /// events recorded. A mitra who takes it must be online, active and have room at that moment, whoever else writes.
    ///
    /// # Errors
    /// In this order: [`StoreError::UnknownSession`], [`StoreError::WrongState`], [`StoreError::UnknownMitra`],
    /// [`StoreError::NotAvailable`], [`StoreError::CapacityExceeded`]. Nothing was written then.
    async fn change_session(
        &self,
        id: SessionId,
        action: &SessionAction,
        cause: &Cause,
    ) -> Result<SessionChange, StoreError>;

    /// Expires up to `limit` sessions whose time has run out, the longest overdue first, each once however many nodes
    /// ask. One that somebody is writing just now, or whose mitra, is left to the next call: no answer does not mean that
    /// none is overdue; [`Self::next_expiry`] says so.
    async fn expire_sessions(&self, limit: u32) -> Result<Vec<SessionChange>, StoreError>;

    /// How long, from the store's now, until the next session's time runs out; zero when one is overdue, `None` when no
    /// session has an end. One look at an index.
    async fn next_expiry(&self) -> Result<Option<Duration>, StoreError>;

    /// How many sessions are not over. Looks at these only, however many are.
    async fn session_counts(&self) -> Result<SessionCounts, StoreError>;

    /// This node serves without the mirror at present and writes its heartbeats here. Said again and again while it lasts.
    /// A store of one node has nobody to tell.
    async fn report_lone(&self, _node: &NodeId) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether another node than this said so within this time.
    async fn has_lone_nodes(&self, _but: &NodeId, _within: Duration) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// One page, in order of id, of the mitras online and active that were heard within this time.
    async fn heard_within(
        &self,
        _within: Duration,
        _after: Option<MitraId>,
        _limit: u32,
    ) -> Result<Vec<Heard>, StoreError> {
        Ok(Vec::new())
    }

    /// What tells this store from every other one; chosen once, when its tables were made. A copy of the store has the same.
    async fn identity(&self) -> Result<Uuid, StoreError>;

    /// Declares that the store was put back to an older state: everything from now on is newer than what was lost. Returns
    /// the new generation.
    async fn new_generation(&self) -> Result<i64, StoreError>;

    /// Lets a sweep rest on every node for so long from now; zero ends the rest.
    async fn pause_sweep(&self, sweep: &str, rest: Duration) -> Result<(), StoreError>;

    /// The sweeps that rest, each with what is left of its rest.
    async fn paused_sweeps(&self) -> Result<Vec<(String, Duration)>, StoreError>;

    /// The newest events of a mitra, newest first.
    async fn events(&self, id: MitraId, limit: u32) -> Result<Vec<PresenceEvent>, StoreError>;

    /// The newest event of this kind of a mitra, or `None` when there was none, or it was removed for its age.
    async fn latest_event(&self, id: MitraId, kind: &str) -> Result<Option<PresenceEvent>, StoreError>;

    /// The sessions that are this mitra's load, the oldest first, at most `limit`.
    async fn load_of(&self, id: MitraId, limit: u32) -> Result<Vec<SessionId>, StoreError>;

    /// Removes events older than `keep`, at most `limit` at once. Returns how many went.
    async fn prune_events(&self, keep: Duration, limit: u32) -> Result<u64, StoreError>;

    /// The sign-in behind a `sid`, or `None`.
    async fn auth_session(&self, id: Uuid) -> Result<Option<AuthSession>, StoreError>;

    /// The store's clock, for showing only.
    async fn now(&self) -> Result<DateTime<Utc>, StoreError>;

    /// The bell, for as long as the stream is held. Begins with [`Bell::Missed`] after every (re)connect and reconnects
    /// by itself, paced. A store without other writers gives a stream that stays silent after the first `Missed`.
    async fn bells(&self) -> Result<BoxStream<'static, Bell>, StoreError>;

    /// Ends connections; nothing may be called after.
    async fn close(&self);
}

/// A period as a statement takes it, in milliseconds. More than a century is a century, so that no sum overflows.
fn milliseconds(period: Duration) -> i64 {
    const CENTURY: i64 = 100 * 365 * 24 * 60 * 60 * 1000;
    i64::try_from(period.as_millis()).map_or(CENTURY, |period| period.min(CENTURY))
}

/// A broken rule in words: constraints are named as sentences.
fn broken_rule(constraint: &str) -> StoreError {
    StoreError::Invalid(format!("a rule of the store is broken: {}", constraint.replace('_', " ")))
}
