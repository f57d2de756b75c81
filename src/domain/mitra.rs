//! A mitra's durable facts and the words derived from them.

use std::time::Duration;

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

/// The truth about one mitra, read from the store in one statement.
#[derive(Clone, Debug, PartialEq)]
pub struct MitraRow {
    /// Who.
    pub id: MitraId,
    /// Not deactivated by staff.
    pub active: bool,
    /// The last accepted command was "go online" and nothing has taken it back.
    pub online: bool,
    /// Chat sessions in `active` or `pending_payment`.
    pub sessions: u32,
    /// Capacity; the store fills in the configured default where the row has none.
    pub max_sessions: u32,
    /// How new this row is.
    pub fence: Fence,
    /// Numbers this mitra's go-onlines; 0 before the first.
    pub online_epoch: i64,
    /// Age of the last heartbeat the store knows, in the store's own clock; `None` when there never was one.
    pub heartbeat_age: Option<Duration>,
}

impl MitraRow {
    /// Online and active: the mitra belongs in the liveness index.
    pub fn listed(&self) -> bool {
        self.online && self.active
    }

    /// Sessions below capacity.
    pub fn has_room(&self) -> bool {
        self.sessions < self.max_sessions
    }

    /// The derived words, given whether the last heartbeat is fresh.
    pub fn reachability(&self, fresh: bool) -> Reachability {
        let reachable = self.listed() && fresh;
        Reachability { reachable, available: reachable && self.has_room() }
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

    fn row() -> MitraRow {
        MitraRow {
            id: MitraId(uuid::Uuid::nil()),
            active: true,
            online: true,
            sessions: 0,
            max_sessions: 1,
            fence: Fence::default(),
            online_epoch: 1,
            heartbeat_age: None,
        }
    }

    #[test]
    fn available_needs_all_four_facts() {
        assert!(row().reachability(true).available);
        assert!(!row().reachability(false).available);
        for broken in [
            MitraRow { active: false, ..row() },
            MitraRow { online: false, ..row() },
            MitraRow { sessions: 1, ..row() },
        ] {
            assert!(!broken.reachability(true).available, "{broken:?}");
        }
    }

    #[test]
    fn a_full_mitra_is_reachable_but_not_available() {
        let full = MitraRow { sessions: 3, max_sessions: 1, ..row() };
        assert_eq!(full.reachability(true), Reachability { reachable: true, available: false });
    }

    #[test]
    fn a_newer_generation_beats_any_revision() {
        let old = Fence { generation: 1, revision: 900 };
        let restored = Fence { generation: 2, revision: 3 };
        assert!(restored > old);
    }
}
