//! The wire: every byte that others see. Frames in and out, bodies, errors, close codes, messages between nodes.
//!
//! Pure data: it encodes and decodes, and knows neither sockets nor stores. `gateway` speaks it over WebSockets and
//! `api` over REST; `docs/protocol.md` is its description for people.

mod close;
mod command;
mod control;
mod error_code;
mod frames;
mod operations;
mod problem;

pub use close::Close;
pub use command::{BadMessage, ClientMessage, Command, MessageLimits};
pub use control::ControlMessage;
pub use error_code::ErrorCode;
pub use frames::{
    AvailabilityBody, DashboardBody, DashboardNode, ErrorFrame, MitraBody, ReconnectFrame, SessionBody, StatusBody,
    Welcome, ack, encode, history, pong, timestamp,
};
pub use operations::{
    Check, Explanation, LastRun, MirrorEvidence, NodeEvidence, ReseedReport, StoreEvidence, SweepStatus, TaskStatus,
};
pub use problem::Problem;

/// Encoded text of a frame. Cloning shares one buffer, so a snapshot is encoded once for all its watchers.
pub type Encoded = tokio_tungstenite::tungstenite::Utf8Bytes;

/// The WebSocket subprotocol that the server answers with.
pub const SUBPROTOCOL: &str = "hadir.v1";

/// Prefix of the offered subprotocol that carries a token (a browser cannot set headers).
pub const BEARER_SUBPROTOCOL_PREFIX: &str = "hadir.bearer.";
