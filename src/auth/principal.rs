//! For whom a good token speaks.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{MitraId, Role, SubjectId};

/// Whoever presented a good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// `sub`.
    pub subject: SubjectId,
    /// `role`.
    pub role: Role,
    /// `exp`. A live socket is closed then, unless it refreshed; the leeway is for arriving, not for staying.
    pub expires_at: DateTime<Utc>,
    /// `sid`: the sign-in in the store that the token stands on.
    pub session_id: Option<Uuid>,
    /// `name`, of a dashboard token: the person who acts.
    pub name: Option<Arc<str>>,
    /// `read_only`, of a dashboard token: it changes nothing.
    pub read_only: bool,
}

impl Principal {
    /// The mitra it speaks for, if its role says so.
    pub fn mitra(&self) -> Option<MitraId> {
        (self.role == Role::Mitra).then_some(MitraId(self.subject.0))
    }

    /// Whether it is one of these.
    pub fn is_one_of(&self, roles: &[Role]) -> bool {
        roles.contains(&self.role)
    }

    /// Whether `newer` may take its place on a live socket: the same subject in the same role.
    pub fn may_become(&self, newer: &Self) -> bool {
        self.subject == newer.subject && self.role == newer.role
    }
}
