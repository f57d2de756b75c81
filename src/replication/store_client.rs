//! Every call of the store: counted, and reported to the node's trust in the store. No other part calls the store.

use std::{sync::Arc, time::Duration};

use futures_util::stream::BoxStream;
use uuid::Uuid;

use super::{PresenceError, trust::Trust};
use crate::{
    domain::{
        AvailablePage, Cause, ChatSession, Counts, CustomerId, LastHeard, MitraId, MitraRow, NodeId, PresenceEvent,
        SessionAction, SessionId, Source,
    },
    store::{
        AuthSession, Bell, Heard, MitraProfile, MitraQuery, SessionChange, SessionCounts, SilentQuery, Store,
        StoreError, Transition,
    },
    telemetry::{Metrics, Outcome},
};

/// The store as all parts of a node use it. Clones share it.
#[derive(Clone)]
pub struct StoreClient {
    store: Arc<dyn Store>,
    trust: Arc<Trust>,
    metrics: Metrics,
}

/// One method for each call of the store, of the same name and meaning; the name is also the label of the metric.
macro_rules! measured_calls {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        impl StoreClient {
            $(
                #[doc = concat!("[`Store::", stringify!($name), "`], measured.")]
                pub(crate) async fn $name(&self, $($argument: $kind),*) -> Result<$answer, PresenceError> {
                    self.measured(stringify!($name), self.store.$name($($argument),*).await)
                }
            )*
        }
    };
}

measured_calls! {
    mitra(id: MitraId) -> Option<MitraRow>;
    mitras(ids: &[MitraId]) -> Vec<MitraRow>;
    unknown_mitras(ids: &[MitraId]) -> Vec<MitraId>;
    profile(id: MitraId) -> Option<MitraProfile>;
    put_mitra(id: MitraId, display_name: &str, max_sessions: Option<u32>, cause: &Cause) -> Transition;
    set_online(id: MitraId, online: bool, cause: &Cause) -> Transition;
    set_active(id: MitraId, active: bool, cause: &Cause) -> Transition;
    expire_silent(candidates: &[(MitraId, i64)], silent_for: Duration) -> Vec<MitraRow>;
    record_heartbeats(ages: &[(MitraId, Duration)]) -> u64;
    counts(fresh_within: Duration) -> Counts;
    find_available(fresh_within: Duration, limit: u32) -> AvailablePage;
    list(query: &MitraQuery) -> Vec<MitraProfile>;
    silent(query: &SilentQuery) -> Vec<(LastHeard, MitraProfile)>;
    profiles(ids: &[MitraId], search: Option<&str>) -> Vec<MitraProfile>;
    scan(after: Option<MitraId>, limit: u32) -> Vec<MitraRow>;
    changed_since(revision: i64, limit: u32) -> Vec<MitraRow>;
    newest_revision() -> i64;
    last_given_revision() -> i64;
    invalid_sign_ins(ids: &[Uuid]) -> Vec<Uuid>;
    create_session(id: Option<SessionId>, customer: CustomerId) -> (ChatSession, bool);
    session(id: SessionId) -> Option<ChatSession>;
    change_session(id: SessionId, action: &SessionAction, cause: &Cause) -> SessionChange;
    expire_sessions(limit: u32) -> Vec<SessionChange>;
    next_expiry() -> Option<Duration>;
    session_counts() -> SessionCounts;
    report_lone(node: &NodeId) -> ();
    has_lone_nodes(but: &NodeId, within: Duration) -> bool;
    heard_within(within: Duration, after: Option<MitraId>, limit: u32) -> Vec<Heard>;
    new_generation() -> i64;
    pause_sweep(sweep: &str, rest: Duration) -> ();
    paused_sweeps() -> Vec<(String, Duration)>;
    events(id: MitraId, limit: u32) -> Vec<PresenceEvent>;
    latest_event(id: MitraId, kind: &str) -> Option<PresenceEvent>;
    load_of(id: MitraId, limit: u32) -> Vec<SessionId>;
    prune_events(keep: Duration, limit: u32) -> u64;
    auth_session(id: Uuid) -> Option<AuthSession>;
}

impl StoreClient {
    pub(super) fn new(store: Arc<dyn Store>, trust: Arc<Trust>, metrics: Metrics) -> Self {
        Self { store, trust, metrics }
    }

    /// Which store this is.
    pub(crate) fn source(&self) -> Source {
        self.store.source()
    }

    /// Why the store fails at present, as its log says; `None` while it is well.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.store.trouble()
    }

    /// Whether the store answers at all, however slow its counts are.
    pub(crate) async fn answers(&self) -> bool {
        self.store.ping().await.is_ok()
    }

    /// The store's notifications, for as long as the stream is held.
    pub(super) async fn bells(&self) -> Result<BoxStream<'static, Bell>, StoreError> {
        self.store.bells().await
    }

    fn measured<T>(&self, op: &'static str, answer: Result<T, StoreError>) -> Result<T, PresenceError> {
        let outcome = match &answer {
            Err(error @ StoreError::Unavailable(_)) => {
                self.trust.store_failed();
                if error.timed_out() { Outcome::Timeout } else { Outcome::Error }
            }
            _ => {
                self.trust.store_answered();
                Outcome::Ok
            }
        };
        self.metrics.set_store_up(outcome == Outcome::Ok);
        self.metrics.store_query(op, outcome);
        Ok(answer?)
    }
}
