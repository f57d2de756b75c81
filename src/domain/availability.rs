//! The snapshot that is pushed, and the counts behind the dashboard.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::MitraId;

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The shared mirror.
    Valkey,
    /// The in-process mirror.
    Memory,
    /// The durable truth, asked because the mirror could not be.
    Postgres,
    /// The embedded durable truth, asked because the mirror could not be.
    Sqlite,
    /// The last value this node saw.
    Local,
}

impl Source {
    /// The word on the wire and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valkey => "valkey",
            Self::Memory => "memory",
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
            Self::Local => "local",
        }
    }
}

/// "Is anybody there?", at one moment. Absolute values only, so that any frame can replace any earlier one.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Identity of the mirror that numbered this, or of a node that is not live.
    pub epoch: Arc<str>,
    /// Rises within an epoch whenever `available` changes.
    pub version: u64,
    /// How many mitras are available.
    pub available: u64,
    /// When this was true, by the clock of the source.
    pub as_of: DateTime<Utc>,
    /// Where it came from.
    pub source: Source,
    /// It may no longer be true: nothing could be asked.
    pub stale: bool,
}

impl Snapshot {
    /// Whether anybody is available.
    pub fn any(&self) -> bool {
        self.available > 0
    }
}

/// How many mitras are in each state; what an operator watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Durably online.
    pub online: u64,
    /// Online, active and fresh.
    pub reachable: u64,
    /// Reachable with room.
    pub available: u64,
    /// Reachable without room.
    pub busy: u64,
    /// Online and active, not fresh.
    pub suspect: u64,
    /// Deactivated by staff.
    pub deactivated: u64,
    /// Chat sessions in `active`.
    pub active_sessions: u64,
    /// Chat sessions in `pending_payment`.
    pub pending_payment_sessions: u64,
}

/// One available mitra, for the backend that pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct AvailableMitra {
    pub id: MitraId,
    pub sessions: u32,
    pub max_sessions: u32,
    pub heartbeat_age: Duration,
}

/// A random sample of the available, and how many there are.
#[derive(Clone, Debug, PartialEq)]
pub struct AvailablePage {
    pub mitras: Vec<AvailableMitra>,
    pub total: u64,
}
