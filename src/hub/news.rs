//! What watchers are sent: encoded once per node, shared by every socket.

use super::Published;
use crate::{
    domain::Snapshot,
    protocol::{AvailabilityBody, DashboardBody, Encoded, encode},
};

/// An availability snapshot with its bytes.
pub struct AvailabilityNews {
    snapshot: Snapshot,
    frame: Encoded,
}

impl AvailabilityNews {
    /// Encodes a snapshot for all watchers of this node.
    pub fn new(snapshot: Snapshot) -> Self {
        let frame = encode("availability", &AvailabilityBody::from(&snapshot));
        Self { snapshot, frame }
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The frame for a socket.
    pub fn frame(&self) -> Encoded {
        self.frame.clone()
    }

    pub(super) fn against(&self, held: &Self) -> Published {
        let (new, old) = (&self.snapshot, &held.snapshot);
        if new.epoch != old.epoch || new.version > old.version {
            Published::Pushed
        } else if new.version == old.version && new.available == old.available && new.as_of >= old.as_of {
            Published::Confirmed
        } else {
            Published::Ignored
        }
    }
}

/// A dashboard frame.
pub struct DashboardNews {
    frame: Encoded,
}

impl DashboardNews {
    /// Encodes a dashboard frame for all dashboards of this node.
    pub fn new(body: &DashboardBody<'_>) -> Self {
        Self { frame: encode("dashboard", body) }
    }

    /// The frame for a socket.
    pub fn frame(&self) -> Encoded {
        self.frame.clone()
    }
}
