//! What the server says. Bodies are shared with REST, where the same fields travel without `type`.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::{Encoded, ErrorCode};
use crate::domain::{
    ChatSession, Counts, CustomerId, MitraFacts, MitraId, NodeRecord, Reachability, SessionId, SessionStatus, Snapshot,
    SocketCounts, Source, StatusChange, StatusReason,
};

/// RFC 3339 in UTC with milliseconds and `Z`.
pub fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn serialize_timestamp<S: serde::Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*at))
}

/// First frame on every socket.
#[derive(Serialize)]
pub struct Welcome<'a> {
    pub connection_id: uuid::Uuid,
    pub node_id: &'a str,
    #[serde(serialize_with = "serialize_timestamp")]
    pub server_time: DateTime<Utc>,
    pub heartbeat_interval_ms: u64,
    pub offline_after_ms: u64,
    pub reconnect_window_ms: u64,
    pub max_silence_ms: u64,
}

/// What is true of a mitra now.
#[derive(Clone, Debug, Serialize)]
pub struct MitraBody {
    pub mitra_id: MitraId,
    pub online: bool,
    pub active: bool,
    pub sessions: u32,
    pub max_sessions: u32,
    pub reachable: bool,
    pub available: bool,
}

impl MitraBody {
    /// A mitra whose heartbeat is (or is not) fresh.
    pub fn new(mitra_id: MitraId, facts: &MitraFacts, fresh: bool) -> Self {
        let MitraFacts { online, active, sessions, max_sessions, .. } = *facts;
        let Reachability { reachable, available } = facts.reachability(fresh);
        Self { mitra_id, online, active, sessions, max_sessions, reachable, available }
    }
}

/// A mitra's status, for its own sockets and REST.
#[derive(Clone, Debug, Serialize)]
pub struct StatusBody {
    #[serde(flatten)]
    pub mitra: MitraBody,
    pub revision: i64,
    pub reason: StatusReason,
}

impl StatusBody {
    /// The status of a mitra whose heartbeat is (or is not) fresh.
    pub fn new(change: &StatusChange, fresh: bool) -> Self {
        Self {
            mitra: MitraBody::new(change.mitra_id, &change.facts, fresh),
            revision: change.fence.revision,
            reason: change.reason,
        }
    }
}

/// "Is anybody there?" Holds nobody's identity, no count of sockets and no state of nodes.
#[derive(Clone, Debug, Serialize)]
pub struct AvailabilityBody<'a> {
    pub epoch: &'a str,
    pub version: u64,
    pub any: bool,
    pub available: u64,
    #[serde(serialize_with = "serialize_timestamp")]
    pub as_of: DateTime<Utc>,
    pub source: Source,
    pub stale: bool,
}

impl<'a> From<&'a Snapshot> for AvailabilityBody<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        Self {
            epoch: &snapshot.epoch,
            version: snapshot.version,
            any: snapshot.any(),
            available: snapshot.available,
            as_of: snapshot.as_of,
            source: snapshot.source,
            stale: snapshot.stale,
        }
    }
}

/// A chat session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionBody {
    pub id: SessionId,
    pub customer_id: CustomerId,
    pub mitra_id: Option<MitraId>,
    pub status: SessionStatus,
    pub expires_at: Option<String>,
    pub created_at: String,
}

impl From<ChatSession> for SessionBody {
    fn from(session: ChatSession) -> Self {
        Self {
            id: session.id,
            customer_id: session.customer_id,
            mitra_id: session.mitra_id,
            status: session.status,
            expires_at: session.expires_at.map(timestamp),
            created_at: timestamp(session.created_at),
        }
    }
}

/// A node in the dashboard frame.
#[derive(Clone, Debug, Serialize)]
pub struct DashboardNode<'a> {
    pub node_id: &'a str,
    pub sockets: u64,
    pub mode: &'static str,
    pub seen_ms: u64,
}

impl<'a> From<&'a NodeRecord> for DashboardNode<'a> {
    fn from(record: &'a NodeRecord) -> Self {
        Self {
            node_id: record.node_id.as_str(),
            sockets: record.sockets.total(),
            mode: record.mode.as_str(),
            seen_ms: record.seen_ms,
        }
    }
}

/// What an operator watches.
#[derive(Clone, Debug, Serialize)]
pub struct DashboardBody<'a> {
    pub epoch: &'a str,
    pub version: u64,
    pub counts: Counts,
    pub sockets: SocketCounts,
    pub nodes: Vec<DashboardNode<'a>>,
    /// When the mirror last named the other nodes; `null` when it never did.
    pub nodes_as_of: Option<String>,
    #[serde(serialize_with = "serialize_timestamp")]
    pub as_of: DateTime<Utc>,
    pub source: Source,
    pub stale: bool,
}

/// A refusal that leaves the socket open.
#[derive(Serialize)]
pub struct ErrorFrame<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    pub code: &'static str,
    pub message: &'a str,
    pub retryable: bool,
}

impl<'a> ErrorFrame<'a> {
    /// An error with its code's own answer to "may I retry?".
    pub fn new(id: Option<&'a str>, code: ErrorCode, message: &'a str) -> Self {
        Self { id, code: code.as_str(), message, retryable: code.retryable() }
    }
}

/// The node is stopping: dial again after this long.
#[derive(Serialize)]
pub struct ReconnectFrame {
    pub after_ms: u64,
    pub reason: &'static str,
}

#[derive(Serialize)]
struct Frame<'a, B> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    body: &'a B,
}

/// Encodes `body` as a frame of `kind`.
pub fn encode<B: Serialize>(kind: &'static str, body: &B) -> Encoded {
    // Serialising these plain structs to a string cannot fail: no maps with odd keys, no IO.
    Encoded::from(serde_json::to_string(&Frame { kind, body }).unwrap_or_default())
}

/// `history`, once after a dashboard's first frame.
pub fn history<P: Serialize>(points: &[P]) -> Encoded {
    #[derive(Serialize)]
    struct Body<'a, P> {
        points: &'a [P],
    }
    encode("history", &Body { points })
}

/// `ack` for a command, with its id where it had one.
pub fn ack(id: Option<&str>) -> Encoded {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    }
    encode("ack", &Body { id })
}

/// `pong`, a constant: answering a ping allocates nothing.
pub fn pong() -> Encoded {
    Encoded::from_static(r#"{"type":"pong"}"#)
}
