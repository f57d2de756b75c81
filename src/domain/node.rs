//! What a node knows about itself and tells the others.

use serde::{Deserialize, Serialize};

use super::NodeId;

/// How a node answers at present. Decided in one place, `presence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The mirror is warm and trusted.
    Live,
    /// The mirror is reachable but not yet trusted: answers come from the store while it is seeded.
    Rebuilding,
    /// The mirror is away: answers come from the store.
    Fallback,
    /// Both are away: the last known state, marked stale.
    Stale,
}

impl Mode {
    /// Every mode, for metrics.
    pub const ALL: [Self; 4] = [Self::Live, Self::Rebuilding, Self::Fallback, Self::Stale];

    /// Whether the mirror is there to be compared with the store.
    pub fn takes_reseed(self) -> bool {
        self == Self::Live
    }

    /// The word on the wire and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Rebuilding => "rebuilding",
            Self::Fallback => "fallback",
            Self::Stale => "stale",
        }
    }
}

/// Authenticated sockets by role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketCounts {
    pub mitra: u64,
    pub customer: u64,
    pub dashboard: u64,
}

impl SocketCounts {
    /// All sockets.
    pub fn total(&self) -> u64 {
        self.mitra + self.customer + self.dashboard
    }
}

/// A node as the others see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub node_id: NodeId,
    pub sockets: SocketCounts,
    pub mode: Mode,
    /// Milliseconds since the record was written, by the mirror's clock. Filled in on reading.
    #[serde(default)]
    pub seen_ms: u64,
}
