//! The words and the rules of presence, as pure data and functions.
//!
//! No async, no IO, no clock: `now` is always a parameter. Every other module speaks in these types; nothing here
//! knows about sockets, SQL or Valkey.

mod availability;
mod change;
mod ids;
mod mitra;
mod node;
mod role;
mod session;

pub use availability::{AvailableMitra, AvailablePage, Counts, Snapshot, Source};
pub use change::{Actor, Cause, PresenceEvent, StatusChange, StatusReason, actor_text};
pub use ids::{CustomerId, MitraId, NodeId, SessionId, SubjectId};
pub use mitra::{Fence, LastHeard, MitraFacts, MitraRow, Reachability};
pub use node::{Mode, NodeRecord, SocketCounts};
pub use role::{Role, UnknownRole};
pub use session::{
    ChatSession, Expiry, Holder, Payment, SessionAction, SessionStatus, Step, UnknownStatus, WrongState,
};
