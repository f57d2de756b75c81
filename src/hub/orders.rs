//! What sockets here are told to do: to show another status, or to close.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Connection, Hub};
use crate::{
    domain::{Role, StatusChange, SubjectId},
    protocol::Close,
};

impl Hub {
    /// Tells a mitra's sockets here what is true now; an older fence than the one they know is ignored. A deactivated
    /// mitra's sockets are ordered to close.
    pub fn apply_status(&self, change: &StatusChange) {
        let Some(seat) = self.seat_of(change.mitra_id) else { return };
        if !seat.learn(change) {
            return;
        }
        let close = !change.active;
        self.each_of(change.mitra_id.into(), |connection| {
            if close && connection.holder().role == Role::Mitra {
                connection.order(Close::DEACTIVATED);
            } else {
                connection.wake();
            }
        });
    }

    /// Orders those of a subject's sockets to close that were not ordered to before. Returns how many there were.
    pub fn disconnect(&self, subject: SubjectId, close: &Close) -> u64 {
        let mut closed = 0;
        self.each_of(subject, |connection| {
            if !connection.is_ordered() {
                connection.order(close.clone());
                closed += 1;
            }
        });
        closed
    }

    /// Orders every socket that stands on one of these sign-ins to close. One walk over the sockets, however many are named.
    pub fn revoke(&self, sessions: &HashSet<Uuid>) -> u64 {
        let mut closed = 0;
        if sessions.is_empty() {
            return closed;
        }
        let is_revoked = |connection: &Connection| connection.session().is_some_and(|one| sessions.contains(&one));
        for of_subject in &self.holders {
            for connection in of_subject.iter().filter(|connection| is_revoked(connection)) {
                connection.order(Close::REVOKED);
                closed += 1;
            }
        }
        closed
    }

    /// The sign-ins that sockets here stand on.
    pub fn sign_ins(&self) -> Vec<Uuid> {
        let mut held: Vec<Uuid> = self
            .holders
            .iter()
            .flat_map(|of_subject| of_subject.iter().filter_map(|connection| connection.session()).collect::<Vec<_>>())
            .collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    fn each_of(&self, subject: SubjectId, mut visit: impl FnMut(&Connection)) {
        if let Some(of_subject) = self.holders.get(&subject) {
            of_subject.iter().for_each(|connection| visit(connection));
        }
    }
}
