//! A mitra's durable facts and the words derived from them.

use std::{ops::Deref, time::Duration};

use serde::{Deserialize, Serialize};

use super::MitraId;

/// Orders everything that is known about one mitra. Greater is newer.
///
/// `revision` is given by the store while the mitra's row is locked, from one sequence for all mitras. `generation`
/// changes when the store was restored to an older state, so that revisions given anew are newer than those lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Fence {
    /// Identity of the store's history; compared first.
    pub generation: i64,
    /// Position within that history.
    pub revision: i64,
}

/// What the database says about one mitra, in one statement. The mirror, the nodes and the wire carry the same facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MitraFacts {
    /// The last accepted command was "go online" and nothing has taken it back.
    pub online: bool,
    /// Not deactivated by staff.
    pub active: bool,
    /// Chat sessions in `active` or `pending_payment`.
    pub sessions: u32,
    /// Capacity; the store fills in the configured default where the row has none.
    pub max_sessions: u32,
    /// How new these facts are.
    pub fence: Fence,
    /// Numbers this mitra's go-onlines; 0 before the first.
    pub online_epoch: i64,
}

impl MitraFacts {
    /// Online and active: the mitra belongs in the liveness index.
    pub fn listed(&self) -> bool {
        self.online && self.active
    }

    /// Sessions below capacity.
    pub fn has_room(&self) -> bool {
        self.sessions < self.max_sessions
    }

    /// Decides who is reachable and who is available, given whether the last heartbeat is fresh. No other code decides it.
    pub fn reachability(&self, fresh: bool) -> Reachability {
        let reachable = self.listed() && fresh;
        Reachability { reachable, available: reachable && self.has_room() }
    }
}

/// A place in the order of silence: the oldest heartbeat first, mitras of one moment by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LastHeard {
    /// The last heartbeat, in milliseconds on the clock of whoever keeps it; 0 when none is known.
    pub at_ms: u64,
    /// Who.
    pub id: MitraId,
}

/// One mitra as the store holds it. Reads of a fact go straight to `facts`.
#[derive(Clone, Debug, PartialEq)]
pub struct MitraRow {
    /// Who.
    pub id: MitraId,
    /// What the store says.
    pub facts: MitraFacts,
    /// Age of the last heartbeat the store knows, in the store's own clock; `None` when there never was one.
    pub heartbeat_age: Option<Duration>,
}

impl Deref for MitraRow {
    type Target = MitraFacts;

    fn deref(&self) -> &MitraFacts {
        &self.facts
    }
}

/// What others may assume about a mitra now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reachability {
    /// Online, active and fresh.
    pub reachable: bool,
    /// Reachable with room for a session.
    pub available: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> MitraFacts {
        MitraFacts {
            online: true,
            active: true,
            sessions: 0,
            max_sessions: 1,
            fence: Fence::default(),
            online_epoch: 1,
        }
    }

    #[test]
    fn available_needs_all_four_facts() {
        assert!(facts().reachability(true).available);
        assert!(!facts().reachability(false).available);
        for broken in [
            MitraFacts { active: false, ..facts() },
            MitraFacts { online: false, ..facts() },
            MitraFacts { sessions: 1, ..facts() },
        ] {
            assert!(!broken.reachability(true).available, "{broken:?}");
        }
    }

    #[test]
    fn a_full_mitra_is_reachable_but_not_available() {
        let full = MitraFacts { sessions: 3, max_sessions: 1, ..facts() };
        assert_eq!(full.reachability(true), Reachability { reachable: true, available: false });
    }

    #[test]
    fn a_newer_generation_beats_any_revision() {
        let old = Fence { generation: 1, revision: 900 };
        let restored = Fence { generation: 2, revision: 3 };
        assert!(restored > old);
    }
}
