//! What use cases answer with: values with their provenance.

use std::{str::FromStr, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        Counts, Fence, LastHeard, MitraId, MitraRow, NodeRecord, Reachability, SocketCounts, Source, StatusChange,
        StatusReason,
    },
    protocol::{Check, DashboardBody, StatusBody, timestamp},
    replication::{DurableState, Entry},
};

/// An answer that says where it came from, how old it is and whether it may no longer be true.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    pub value: T,
    pub source: Source,
    pub stale: bool,
    pub as_of: DateTime<Utc>,
}

/// One mitra, seen from outside.
#[derive(Clone, Debug)]
pub struct MitraView {
    pub change: StatusChange,
    /// `None` when no heartbeat is known.
    pub heartbeat_age: Option<Duration>,
    pub fresh: bool,
    /// Where the answer came from the store.
    pub display_name: Option<String>,
}

impl MitraView {
    pub(super) fn of_row(row: &MitraRow, reason: StatusReason, fresh_within: Duration) -> Self {
        Self {
            change: StatusChange::of(row, reason),
            heartbeat_age: row.heartbeat_age,
            fresh: row.heartbeat_age.is_some_and(|age| age <= fresh_within),
            display_name: None,
        }
    }

    pub(super) fn of_entry(entry: &Entry, reason: StatusReason, fresh_within: Duration) -> Self {
        Self {
            change: StatusChange { mitra_id: entry.id, facts: entry.facts, reason },
            heartbeat_age: entry.heartbeat_age,
            fresh: entry.heartbeat_age.is_some_and(|age| age <= fresh_within),
            display_name: None,
        }
    }

    /// Judges freshness by the newer of two ages.
    pub(super) fn heard(mut self, age: Option<Duration>, fresh_within: Duration) -> Self {
        self.heartbeat_age = match (self.heartbeat_age, age) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.fresh = self.fresh || age.is_some_and(|age| age <= fresh_within);
        self
    }

    /// What others may assume about the mitra now.
    pub fn reachability(&self) -> Reachability {
        self.change.reachability(self.fresh)
    }

    /// The status as the mitra itself sees it.
    pub fn status_body(&self) -> StatusBody {
        StatusBody::new(&self.change, self.fresh)
    }

    /// How new the durable facts are.
    pub fn fence(&self) -> Fence {
        self.change.fence
    }
}

/// What an operator watches.
#[derive(Clone, Debug)]
pub struct Overview {
    pub epoch: Arc<str>,
    pub version: u64,
    pub counts: Counts,
    pub sockets: SocketCounts,
    pub nodes: Vec<NodeRecord>,
    /// When the mirror last named the other nodes; `None` when it never did.
    pub nodes_as_of: Option<DateTime<Utc>>,
    pub as_of: DateTime<Utc>,
    pub source: Source,
    pub stale: bool,
}

impl Overview {
    /// The dashboard frame's body.
    pub fn body(&self) -> DashboardBody<'_> {
        DashboardBody {
            epoch: &self.epoch,
            version: self.version,
            counts: self.counts,
            sockets: self.sockets,
            nodes: self.nodes.iter().map(Into::into).collect(),
            nodes_as_of: self.nodes_as_of.map(timestamp),
            as_of: self.as_of,
            source: self.source,
            stale: self.stale,
        }
    }
}

/// A mitra's state, for filtering lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MitraState {
    Online,
    Available,
    Busy,
    Suspect,
    Offline,
    Deactivated,
}

/// The word is no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`state` is one of online, available, busy, suspect, offline, deactivated")]
pub struct UnknownState;

impl FromStr for MitraState {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(match word {
            "online" => Self::Online,
            "available" => Self::Available,
            "busy" => Self::Busy,
            "suspect" => Self::Suspect,
            "offline" => Self::Offline,
            "deactivated" => Self::Deactivated,
            _ => return Err(UnknownState),
        })
    }
}

impl MitraState {
    /// The half that the store can filter by.
    pub(super) fn durable(self) -> DurableState {
        match self {
            Self::Online | Self::Suspect => DurableState::Online,
            Self::Available => DurableState::OnlineWithRoom,
            Self::Busy => DurableState::OnlineFull,
            Self::Offline => DurableState::Offline,
            Self::Deactivated => DurableState::Deactivated,
        }
    }

    /// Whether only mitras with a fresh heartbeat are in this state.
    pub(super) fn is_fresh(self) -> bool {
        matches!(self, Self::Available | Self::Busy)
    }

    /// The other half: freshness.
    pub(super) fn admits(self, fresh: bool) -> bool {
        match self {
            Self::Available | Self::Busy => fresh,
            Self::Suspect => !fresh,
            Self::Online | Self::Offline | Self::Deactivated => true,
        }
    }
}

/// Where a page of a list ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListCursor {
    /// In order of id.
    Id(MitraId),
    /// In order of silence, as the mirror or as the store knows it.
    Silence { of_mirror: bool, heard: LastHeard },
}

/// Which mitras to list.
#[derive(Clone, Debug)]
pub struct ListFilter {
    pub state: Option<MitraState>,
    pub search: Option<String>,
    pub after: Option<ListCursor>,
    pub limit: u32,
}

/// One page of mitras, full unless it is the last.
#[derive(Clone, Debug)]
pub struct ListPage {
    pub mitras: Vec<MitraView>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<ListCursor>,
    pub source: Source,
    pub stale: bool,
    pub as_of: DateTime<Utc>,
}

/// Whether this node should be given traffic.
#[derive(Clone, Debug)]
pub struct Readiness {
    pub ready: bool,
    pub checks: Vec<Check>,
}
