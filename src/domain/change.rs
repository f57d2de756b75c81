//! What changed, why, and who did it.

use std::{ops::Deref, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{MitraFacts, MitraId, MitraRow, SessionId};

/// Why a mitra's status is sent to its sockets; the app must know whether to send `online` again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusReason {
    /// First status on a new socket.
    Initial,
    /// A command of the mitra, from any of its devices.
    Command,
    /// A chat session began, moved or ended.
    Session,
    /// Silent for too long.
    AutoOffline,
    /// Staff deactivated or reactivated the mitra.
    Deactivated,
    /// Another program or an operator changed the store, or a repair found it changed.
    External,
}

/// Who caused a transition; recorded with each presence event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The mitra's own command.
    Mitra,
    /// A person at the dashboard.
    Dashboard,
    /// The backend that pairs customers with mitras.
    Service,
    /// A sweep of this server.
    Sweep,
    /// Plain SQL by another program.
    Sql,
}

impl Actor {
    /// The word stored with an event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mitra => "mitra",
            Self::Dashboard => "dashboard",
            Self::Service => "service",
            Self::Sweep => "sweep",
            Self::Sql => "sql",
        }
    }
}

/// The kind of actor, and the person's name behind a colon where there is one.
pub fn actor_text(actor: Actor, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{}:{name}", actor.as_str()),
        None => actor.as_str().to_owned(),
    }
}

/// Who and why, handed to every write of the store so that the event is recorded in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Who.
    pub actor: Actor,
    /// The person, where the actor is one with a name.
    pub name: Option<Arc<str>>,
    /// Why, in a few words; free text from an operator has at most 200 characters, which the edge sees to.
    pub reason: String,
}

impl Cause {
    /// A cause from its parts.
    pub fn new(actor: Actor, reason: impl Into<String>) -> Self {
        Self { actor, name: None, reason: reason.into() }
    }

    /// The same, done by the person of this name.
    pub fn by(self, name: Option<Arc<str>>) -> Self {
        Self { name, ..self }
    }

    /// The text stored with an event: `dashboard`, `dashboard:Sari`. The kind stays in front, so that no name can pass
    /// itself off as another kind of actor.
    pub fn actor_text(&self) -> String {
        actor_text(self.actor, self.name.as_deref())
    }
}

/// One row of `presence_events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PresenceEvent {
    /// What happened: `online`, `offline`, `deactivated`, `reactivated`, `created`, `capacity`; of a session `session_started`,
    /// `session_confirmed`, `session_rerouted` (away from this mitra), `session_ended`, `session_expired`, `session_removed`.
    pub kind: String,
    /// Why, in words.
    pub reason: Option<String>,
    /// Who.
    pub actor: String,
    /// When, by the store's clock.
    pub at: DateTime<Utc>,
    /// Which session, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
}

/// A mitra's durable facts as told to every node when they change. Reads of a fact go straight to `facts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChange {
    pub mitra_id: MitraId,
    #[serde(flatten)]
    pub facts: MitraFacts,
    pub reason: StatusReason,
}

impl StatusChange {
    /// The change that brings a node up to `row`.
    pub fn of(row: &MitraRow, reason: StatusReason) -> Self {
        Self { mitra_id: row.id, facts: row.facts, reason }
    }
}

impl Deref for StatusChange {
    type Target = MitraFacts;

    fn deref(&self) -> &MitraFacts {
        &self.facts
    }
}
