//! What watchers are sent: encoded once per node, shared by every socket.

use bytes::Bytes;
use http::HeaderValue;

use super::Published;
use crate::{
    domain::Snapshot,
    protocol::{AvailabilityBody, DashboardBody, Encoded, encode},
};

/// An availability snapshot with its bytes.
pub struct AvailabilityNews {
    snapshot: Snapshot,
    frame: Encoded,
    /// The frame without its `type`, for REST.
    body: Bytes,
    etag: HeaderValue,
}

impl AvailabilityNews {
    /// Encodes a snapshot for all watchers of this node.
    pub fn new(snapshot: Snapshot) -> Self {
        let body = AvailabilityBody::from(&snapshot);
        let frame = encode("availability", &body);
        let body = Bytes::from(serde_json::to_vec(&body).unwrap_or_default());
        let etag = format!("W/\"{}-{}\"", snapshot.epoch, snapshot.version);
        let etag = HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("W/\"\""));
        Self { snapshot, frame, body, etag }
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The frame for a socket.
    pub fn frame(&self) -> Encoded {
        self.frame.clone()
    }

    /// The body for REST.
    pub fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// The body as text.
    pub fn body_text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    /// `W/"<epoch>-<version>"`.
    pub fn etag(&self) -> &HeaderValue {
        &self.etag
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
