//! What operators and monitoring are answered: explanations, readiness, reseeds, and everything that runs by itself.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::{MitraFacts, MitraId, NodeId, PresenceEvent, SessionId, Source};

/// Everything known about one mitra.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pub mitra_id: MitraId,
    pub display_name: String,
    /// One or two sentences.
    pub verdict: String,
    pub available: bool,
    pub reachable: bool,
    pub truth: StoreEvidence,
    /// `None`: the mirror does not know the mitra, or cannot be asked.
    pub mirror: Option<MirrorEvidence>,
    pub node: NodeEvidence,
    /// Sockets of the mitra on each node that answered in time; without the mirror, on this one alone.
    pub sockets: BTreeMap<NodeId, u64>,
    /// The sessions that are its load, the oldest first, the first twenty of them.
    pub sessions: Vec<SessionId>,
    pub events: Vec<PresenceEvent>,
    pub source: Source,
    pub stale: bool,
    pub as_of: String,
}

/// What the store says.
#[derive(Debug, Serialize)]
pub struct StoreEvidence {
    #[serde(flatten)]
    pub facts: MitraFacts,
    pub heartbeat_age_ms: Option<u64>,
}

/// What the mirror says.
#[derive(Debug, Serialize)]
pub struct MirrorEvidence {
    #[serde(flatten)]
    pub facts: MitraFacts,
    pub heartbeat_age_ms: Option<u64>,
    /// Says the same as the store, of the same revision.
    pub agrees: bool,
}

/// What the answering node holds.
#[derive(Debug, Serialize)]
pub struct NodeEvidence {
    pub node_id: NodeId,
    pub mode: &'static str,
    pub heartbeat_age_ms: Option<u64>,
}

/// One line of `/readyz`.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub detail: String,
}

/// What a reseed found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReseedReport {
    /// Rows of the store that were compared.
    pub rows: u64,
    /// Mitras of whom the mirror said something else.
    pub changed: u64,
    /// Mitras that the mirror knew and the store does not.
    pub removed: u64,
    pub duration_ms: u64,
}

/// The last run of a task.
#[derive(Clone, Debug, Serialize)]
pub struct LastRun {
    pub started_at: String,
    pub duration_ms: u64,
    /// `ok`, `skipped` or `failed`.
    pub result: &'static str,
    pub detail: String,
}

/// A sweep.
#[derive(Clone, Debug, Serialize)]
pub struct SweepStatus {
    pub name: &'static str,
    pub interval_ms: u64,
    pub runs: u64,
    pub last: Option<LastRun>,
    pub paused_until: Option<String>,
}

/// Anything that runs by itself on the answering node.
#[derive(Clone, Debug, Serialize)]
pub struct TaskStatus {
    pub name: &'static str,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// `None`: it runs all the time.
    pub interval_ms: Option<u64>,
    pub runs: u64,
    /// Runs that failed, and an early end.
    pub errors: u64,
    pub last: Option<LastRun>,
    /// It returned although the node was not told to stop.
    pub ended_early: bool,
}
