//! The sockets: accept loop, upgrade, hello, and a session loop for mitras and one for watchers.
//!
//! Speaks `protocol` on the wire, registers every socket in the `hub`, and calls `presence` for commands and admission
//! only: nothing on the ping path waits for a store. One task per socket, one wheel for the moments of all of them, no queue
//! but the newest snapshot. REST lives in `api`; the two never import each other. Called by `app`.

mod accept;
mod admission;
mod answering;
mod client_address;
mod frame_meter;
mod handshake;
mod mitra;
mod places;
mod rate_limit;
mod refresh;
mod session;
mod socket;
mod watcher;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::get,
};
use dashmap::DashMap;
use ipnet::IpNet;
use tokio::time::{MissedTickBehavior, interval};

pub use accept::{AcceptLimits, Peer, serve};
pub use places::PlaceLimits;

use crate::{
    auth::TokenVerifier,
    domain::{NodeId, Role},
    hub::{self, Hub},
    lifecycle::Lifecycle,
    presence::Presence,
    protocol::MessageLimits,
    telemetry::Metrics,
};

/// Bounds and periods of sockets; from the configuration.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    pub node_id: NodeId,
    pub allowed_origins: Vec<String>,
    pub trusted_proxies: Vec<IpNet>,
    pub heartbeat_interval: Duration,
    pub suspect_after: Duration,
    pub offline_after: Duration,
    pub reconnect_window: Duration,
    pub max_silence: Duration,
    pub token_warning: Duration,
    pub first_message_timeout: Duration,
    pub stalled_reader_timeout: Duration,
    pub close_timeout: Duration,
    pub frame_bytes: usize,
    pub write_buffer_bytes: usize,
    pub messages_per_second: u32,
    pub bytes_per_second: u32,
    pub fragments_per_message: u32,
    pub message_timeout: Duration,
    pub bad_messages_per_minute: u32,
    pub unauthenticated_sockets_per_ip: usize,
    pub messages: MessageLimits,
}

/// Everything a socket needs; one per node.
pub struct Gateway {
    settings: GatewaySettings,
    verifier: TokenVerifier,
    hub: Arc<Hub>,
    presence: Arc<Presence>,
    metrics: Metrics,
    lifecycle: Lifecycle,
    /// Sockets that have not authenticated yet, by address. Authenticated ones are not counted: they share carrier NATs.
    strangers: DashMap<IpAddr, usize>,
}

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Mitra,
    Availability,
    Dashboard,
}

impl Path {
    fn admits(self, role: Role) -> bool {
        match self {
            Self::Mitra => role == Role::Mitra,
            Self::Availability => role != Role::Mitra,
            Self::Dashboard => role == Role::Dashboard,
        }
    }
}

impl Gateway {
    /// A gateway over these parts.
    pub fn new(
        settings: GatewaySettings,
        verifier: TokenVerifier,
        presence: Arc<Presence>,
        metrics: Metrics,
        lifecycle: Lifecycle,
    ) -> Arc<Self> {
        let hub = Arc::clone(presence.hub());
        Arc::new(Self { settings, verifier, hub, presence, metrics, lifecycle, strangers: DashMap::new() })
    }

    /// Wakes each socket when its moment has come; runs for as long as the node does.
    pub async fn wake_sockets(self: Arc<Self>) {
        let mut turn = interval(hub::TURN);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            self.hub.wake_due();
        }
    }

    /// `/ws/mitra` and `/ws/availability`.
    pub fn public_routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/ws/mitra", get(mitra_socket))
            .route("/ws/availability", get(availability_socket))
            .with_state(Arc::clone(self))
    }

    /// `/ws/dashboard`.
    pub fn internal_routes(self: &Arc<Self>) -> Router {
        Router::new().route("/ws/dashboard", get(dashboard_socket)).with_state(Arc::clone(self))
    }
}

async fn mitra_socket(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    gateway.open(Path::Mitra, request).await
}

async fn availability_socket(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    gateway.open(Path::Availability, request).await
}

async fn dashboard_socket(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    gateway.open(Path::Dashboard, request).await
}
