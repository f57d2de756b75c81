//! What nodes tell each other over `hadir:control`, as JSON.

use serde::{Deserialize, Serialize};

use crate::domain::{NodeId, StatusChange, SubjectId};

/// What nodes tell each other over `hadir:control`. A hint: a node that misses one learns the same from a refused
/// heartbeat or the next reseed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ControlMessage {
    /// A mitra's facts changed.
    Status(StatusChange),
    /// Close every socket of a subject, and say how many there were.
    Disconnect { request: String, subject: SubjectId, reason: String },
    /// How many sockets of a subject are there?
    CountSockets { request: String, subject: SubjectId },
    /// The answer of one node to `Disconnect` (how many it closed) or `CountSockets`.
    Sockets { request: String, node: NodeId, sockets: u64 },
    /// A node's question to itself, through Valkey: is pub/sub alive, and how late?
    Probe { node: NodeId, nonce: u64 },
}

impl ControlMessage {
    /// Its type, for the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Disconnect { .. } => "disconnect",
            Self::CountSockets { .. } => "count_sockets",
            Self::Sockets { .. } => "sockets",
            Self::Probe { .. } => "probe",
        }
    }
}
