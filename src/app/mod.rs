//! Composition root: builds the product from a configuration, starts it in order and stops it in order.
//!
//! The only module that names concrete back ends. Called by `cli`, the demo and the integration tests.

mod backends;
mod check;
mod crypto;
mod print;
mod systemd;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::Router;
use tokio::{
    net::{TcpListener, TcpSocket},
    time::sleep,
};

pub use check::{CheckLine, check};
pub use crypto::choose_crypto_provider;

use backends::Backends;

use crate::{
    api::{self, Api, ApiParts, ApiSettings},
    auth::{SecretError, TokenIssuer, TokenVerifier},
    cluster::Cluster,
    config::{Config, KeySource, LimitsConfig, TimingConfig},
    demo::{self, DemoSize},
    gateway::{AcceptLimits, Gateway, GatewaySettings, PlaceLimits, serve as accept},
    hub::{Hub, HubLimits},
    lifecycle::{Lifecycle, StopSignals},
    mirror::Mirror,
    presence::{Presence, PresenceError, PresenceSettings},
    protocol::MessageLimits,
    replication::{HeartbeatWriter, Replication, ReplicationSettings},
    sessions::Sessions,
    store::Store,
    sweeps::{AutoOffline, EventRetention, HeartbeatMirror, Pace, Reseed, Sweeps},
    telemetry::Metrics,
};

/// Cadence of the removal of old presence events.
const RETENTION_SWEEP: Duration = Duration::from_secs(3_600);
/// Connections that may wait in the kernel for the accept loop.
const BACKLOG: u32 = 4_096;
/// How long the answers of the waiting room may take to be sent.
const WAITING_ROOM_CLOSES: Duration = Duration::from_secs(1);
/// Pause between looks at whether the last socket has left.
const LEAVING_LOOK: Duration = Duration::from_millis(50);

/// A running server.
pub struct Server {
    config: Config,
    public_addr: SocketAddr,
    internal_addr: SocketAddr,
    issuer: Option<TokenIssuer>,
    replication: Arc<Replication>,
    presence: Arc<Presence>,
    sessions: Arc<Sessions>,
    store: Arc<dyn Store>,
    mirror: Arc<dyn Mirror>,
    lifecycle: Lifecycle,
}

impl Server {
    /// Starts in the order that lets nobody see a half-built server: stores, internal listener (alive, not ready), seed,
    /// public listener.
    ///
    /// # Errors
    /// A sentence that says what to do: a port is taken, a folder cannot be written, another node owns the store.
    pub async fn start(config: Config) -> Result<Self> {
        Self::start_with(config, Router::new()).await
    }

    /// The same with more public routes (the demo's pages).
    pub(crate) async fn start_with(config: Config, more: Router) -> Result<Self> {
        choose_crypto_provider();
        let lifecycle = Lifecycle::default();
        let metrics = Metrics::new();
        let verifier = TokenVerifier::new(&config.auth, metrics.clone())?;
        let issuer = match TokenIssuer::new(&config.auth) {
            Err(SecretError::NoSecret) => None,
            other => Some(other?),
        };
        if let Some(keys) = verifier.public_keys() {
            if let Err(why) = keys.refresh().await
                && let Some(KeySource::File(path)) = &config.auth.key_source
            {
                anyhow::bail!("AUTH_JWKS_FILE {} {why}: correct the file or the setting", path.display());
            }
            // A URL that is unavailable stops no start: it is asked again, and meanwhile its tokens are refused.
            lifecycle.spawn_until_stop(Arc::clone(keys).keep());
        }
        let limits = accept_limits(&config);
        // Both ports are taken before anything is done, so that one that is not free is told at once; the public one is
        // listened on only when there is something to say.
        let (internal, internal_addr) = take_port(config.listen.internal_addr, "HADIR_INTERNAL_ADDR")?;
        let (public, public_addr) = take_port(config.listen.public_addr, "HADIR_PUBLIC_ADDR")?;
        let internal = Arc::new(listen(internal)?);
        let waiting = Lifecycle::default();
        waiting.spawn(accept(
            Arc::clone(&internal),
            api::waiting_room(),
            limits.clone(),
            waiting.clone(),
            ended(&waiting),
        ));
        let Backends { store, mirror, node_lock } = backends::open(&config, &lifecycle).await?;
        if let Some(lock) = node_lock {
            let node = lifecycle.clone();
            lifecycle.spawn_until_stop(async move { node.give_up(lock.keep().await) });
        }
        let hub = Arc::new(Hub::new(hub_limits(&config.limits)));
        let (replication, control) = Replication::new(
            replication_settings(&config),
            Arc::clone(&store),
            Arc::clone(&mirror),
            hub,
            metrics.clone(),
        );
        let replication = Arc::new(replication);
        let cluster = Arc::new(Cluster::new(&replication, config.mirror.probe_interval));
        let sessions = Arc::new(Sessions::new(&replication));
        let settings = presence_settings(&config);
        let presence = Arc::new(Presence::new(settings, Arc::clone(&replication), Arc::clone(&cluster)));
        let sweeps = Sweeps::new(Arc::clone(&presence));
        let api = Api::new(ApiParts {
            settings: Arc::new(ApiSettings {
                allowed_origins: config.listen.allowed_origins.clone(),
                body_bytes: config.limits.body_bytes,
                body_timeout: config.limits.body_timeout,
                sse_comment_interval: config.timing.sse_comment_interval,
            }),
            verifier: verifier.clone(),
            presence: Arc::clone(&presence),
            sessions: Arc::clone(&sessions),
            sweeps: sweeps.clone(),
            metrics: metrics.clone(),
            lifecycle: lifecycle.clone(),
        });
        let gateway = Gateway::new(
            gateway_settings(&config),
            verifier,
            Arc::clone(&presence),
            metrics.clone(),
            lifecycle.clone(),
        );
        waiting.stop(WAITING_ROOM_CLOSES).await;
        let internal_router = api.internal_router(gateway.internal_routes());
        // Probes and operators are answered while sockets leave.
        lifecycle.spawn(accept(internal, internal_router, limits.clone(), lifecycle.clone(), ended(&lifecycle)));

        // Before anybody is told that a mitra is busy with a session whose time has run out.
        while let Err(error @ PresenceError::Unavailable(_)) = sessions.expire_overdue().await {
            tracing::warn!(%error, "sessions whose time ran out wait for the store");
            sleep(backends::PATIENCE).await;
        }
        lifecycle.spawn_until_stop(Arc::clone(&sessions).keep_time());
        lifecycle.spawn_until_stop(Arc::clone(&gateway).wake_sockets());
        run_replication(&replication, &config.timing, &lifecycle);
        lifecycle.spawn_until_stop(Arc::clone(&cluster).answer(control));
        lifecycle.spawn_until_stop(Arc::clone(&cluster).keep_probing());
        lifecycle.spawn_until_stop(cluster.keep_reporting(config.timing.node_report_interval));
        lifecycle.spawn_until_stop(Arc::clone(&presence).count_sessions());
        lifecycle.spawn_until_stop(Arc::clone(&presence).feed_dashboards(config.timing.node_report_interval));
        start_sweeps(&sweeps, &presence, &replication, &config, &metrics, &lifecycle);
        presence.started().await;

        let public_router = api.public_router(gateway.public_routes().merge(more));
        let leaving = lifecycle.clone();
        let closing = async move { leaving.accepting_stopped().await };
        lifecycle.spawn(accept(Arc::new(listen(public)?), public_router, limits, lifecycle.clone(), closing));
        Ok(Self {
            config,
            public_addr,
            internal_addr,
            issuer,
            replication,
            presence,
            sessions,
            store,
            mirror,
            lifecycle,
        })
    }

    /// Where mitras and customers connect.
    pub fn public_addr(&self) -> SocketAddr {
        self.public_addr
    }

    /// Where the backend, operators and Prometheus connect.
    pub fn internal_addr(&self) -> SocketAddr {
        self.internal_addr
    }

    /// Signs tokens that this server believes.
    ///
    /// # Errors
    /// Only public keys are configured.
    pub fn issuer(&self) -> Result<&TokenIssuer, SecretError> {
        self.issuer.as_ref().ok_or(SecretError::NoSecret)
    }

    /// The use cases, for the demo and tests.
    pub fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    /// The way of heartbeats to the mirror and the store, for tests.
    pub fn heartbeats(&self) -> &Arc<HeartbeatWriter> {
        &self.replication.heartbeats
    }

    /// Chat sessions, for the demo and tests.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// The durable truth, for the demo and tests.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Completes when this node cannot go on, with the reason; whoever runs it then stops it.
    pub async fn given_up(&self) -> anyhow::Error {
        self.lifecycle.given_up().await
    }

    fn log_where(&self) {
        let (version, public, internal) = (env!("CARGO_PKG_VERSION"), self.public_addr(), self.internal_addr());
        tracing::info!(version, %public, %internal, "serving");
    }

    async fn until_told(self, mut signals: StopSignals) -> Result<()> {
        systemd::ready();
        systemd::keep_watchdog(&self.lifecycle);
        let end = tokio::select! {
            () = signals.told() => Ok(()),
            why = self.given_up() => Err(why),
        };
        systemd::stopping();
        let drain = &self.config.drain;
        let over_s = (drain.delay + drain.spread).as_secs_f64();
        tracing::info!(over_s, "stopping: every socket is told when to dial again; a second signal stops at once");
        tokio::select! {
            () = self.stop() => end,
            () = signals.told() => Err(anyhow::anyhow!("told to stop twice: sockets were cut")),
        }
    }

    /// Leaves in order: not ready but still accepting, then no new connections, every socket at its own moment, the last
    /// heartbeats, the stores.
    pub async fn stop(self) {
        let drain = &self.config.drain;
        self.presence.leave();
        sleep(drain.delay).await;
        self.lifecycle.stop_accepting();
        let hub = self.presence.hub();
        hub.begin_drain(drain.spread);
        let patience = drain.spread + self.config.limits.close_timeout;
        // A socket that cannot be told is not waited for.
        let _left = tokio::time::timeout(patience, async {
            while hub.socket_counts().total() > 0 {
                sleep(LEAVING_LOOK).await;
            }
        })
        .await;
        let heartbeats = self.heartbeats();
        heartbeats.flush(&mut Vec::new()).await;
        heartbeats.flush_to_store().await;
        if let Err(error) = heartbeats.save().await {
            tracing::warn!(%error, "the last heartbeats did not reach the store");
        }
        let left = self.lifecycle.stop(drain.stop_timeout).await;
        if left > 0 {
            tracing::warn!(left, "tasks did not end in time");
        }
        self.mirror.close().await;
        self.store.close().await;
    }
}

/// Over how long the demo's sockets are closed.
const DEMO_DRAIN: Duration = Duration::from_secs(1);

/// Runs the server until it is told to stop, or cannot go on.
pub async fn serve(config: Config) -> Result<()> {
    let mut signals = StopSignals::listen()?;
    let Some(server) = unless_told(&mut signals, Server::start(config)).await? else { return Ok(()) };
    print::serving(&server).await?;
    server.log_where();
    server.until_told(signals).await
}

/// The started server, or none when a signal to stop comes first.
async fn unless_told(signals: &mut StopSignals, start: impl Future<Output = Result<Server>>) -> Result<Option<Server>> {
    tokio::select! {
        started = start => started.map(Some),
        () = signals.told() => {
            tracing::info!("told to stop during the start");
            Ok(None)
        }
    }
}

/// Runs the server, a simulated fleet that connects over real sockets and a simulated backend that gives it sessions.
pub async fn demo(mut config: Config, size: DemoSize) -> Result<()> {
    // Nobody waits for a fleet that is not there.
    config.drain.spread = config.drain.spread.min(DEMO_DRAIN);
    let mut signals = StopSignals::listen()?;
    let start = Server::start_with(config, demo::pages());
    let Some(server) = unless_told(&mut signals, start).await? else { return Ok(()) };
    print::demo(&server, size).await?;
    server.log_where();
    let fleet = demo::Fleet {
        public_addr: server.public_addr(),
        issuer: server.issuer()?.clone(),
        lifecycle: server.lifecycle().clone(),
        store: Arc::clone(server.store()),
    };
    fleet.start(size).await?;
    let backend = demo::Backend {
        presence: Arc::clone(server.presence()),
        sessions: Arc::clone(server.sessions()),
        lifecycle: server.lifecycle().clone(),
    };
    backend.start(size.mitras);
    server.until_told(signals).await
}

/// Applies migrations; with `new_generation` also declares that the database was restored. Says what it did.
pub async fn migrate(config: Config, new_generation: bool) -> Result<String> {
    backends::migrate(&config, new_generation).await
}

fn take_port(address: SocketAddr, setting: &str) -> Result<(TcpSocket, SocketAddr)> {
    let taken = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restarted server takes its port back at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let bound = socket.local_addr()?;
        Ok::<_, std::io::Error>((socket, bound))
    };
    taken().with_context(|| format!("cannot listen on {address}: stop what listens there or set {setting} to another"))
}

fn listen(socket: TcpSocket) -> Result<TcpListener> {
    Ok(socket.listen(BACKLOG)?)
}

/// When everything is to stop.
fn ended(lifecycle: &Lifecycle) -> impl Future<Output = ()> + Send + 'static {
    let lifecycle = lifecycle.clone();
    async move { lifecycle.stopped().await }
}

/// Every task of replication; each runs for as long as the node does.
fn run_replication(replication: &Replication, timing: &TimingConfig, lifecycle: &Lifecycle) {
    lifecycle.spawn_until_stop(Arc::clone(&replication.supervisor).supervise());
    lifecycle.spawn_until_stop(Arc::clone(&replication.trust).watch_punctuality());
    lifecycle.spawn_until_stop(Arc::clone(&replication.change_feed).follow(timing.change_feed_interval));
    lifecycle.spawn_until_stop(Arc::clone(&replication.isolated_nodes).follow(timing.change_feed_interval));
    lifecycle.spawn_until_stop(Arc::clone(&replication.heartbeats).keep_flushing(timing.flush_interval));
    lifecycle.spawn_until_stop(Arc::clone(&replication.heartbeats).keep_flushing_to_store(timing.flush_interval));
}

fn start_sweeps(
    sweeps: &Sweeps,
    presence: &Arc<Presence>,
    replication: &Replication,
    config: &Config,
    metrics: &Metrics,
    lifecycle: &Lifecycle,
) {
    let timing = &config.timing;
    let own = || Arc::clone(presence);
    sweeps.start(AutoOffline(own()), Pace::steady(timing.auto_offline_interval), metrics, lifecycle);
    let heartbeats = HeartbeatMirror(Arc::clone(&replication.heartbeats));
    sweeps.start(heartbeats, Pace::steady(timing.heartbeat_mirror_interval), metrics, lifecycle);
    sweeps.start(Reseed(own()), Pace::spread(timing.reseed_interval), metrics, lifecycle);
    let retention = EventRetention { presence: own(), keep: config.store.event_retention };
    sweeps.start(retention, Pace::soon(RETENTION_SWEEP), metrics, lifecycle);
}

fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn hub_limits(limits: &LimitsConfig) -> HubLimits {
    let cap = limits.node_cap(descriptors());
    if let Some(warning) = &cap.warning {
        tracing::warn!("{warning}");
    }
    HubLimits {
        sockets_per_mitra: limits.sockets_per_mitra,
        sockets_per_customer: limits.sockets_per_customer,
        sockets_per_operator: limits.sockets_per_operator,
        sockets: cap.sockets as u64,
    }
}

fn replication_settings(config: &Config) -> ReplicationSettings {
    ReplicationSettings {
        node_id: config.node_id.clone(),
        heartbeat_interval: config.timing.heartbeat_interval,
        suspect_after: config.timing.suspect_after,
        heartbeat_mirror_interval: config.timing.heartbeat_mirror_interval,
        breaker_failures: config.mirror.breaker_failures,
        breaker_retry: config.mirror.breaker_retry,
    }
}

fn presence_settings(config: &Config) -> PresenceSettings {
    PresenceSettings {
        offline_after: config.timing.offline_after,
        auto_offline_interval: config.timing.auto_offline_interval,
        restraint_release: config.timing.restraint_release,
    }
}

fn accept_limits(config: &Config) -> AcceptLimits {
    let limits = &config.limits;
    AcceptLimits {
        places: PlaceLimits {
            in_all: limits.places(descriptors()),
            per_address: limits.http_connections_per_address,
            exempt: config.listen.trusted_proxies.clone(),
        },
        send_buffer_bytes: limits.write_buffer_bytes,
        header_read_timeout: limits.header_read_timeout,
        header_bytes: limits.header_bytes,
        keep_alive: limits.keep_alive,
        dead_peer_after: config.timing.suspect_after,
    }
}

fn gateway_settings(config: &Config) -> GatewaySettings {
    let (timing, limits) = (&config.timing, &config.limits);
    GatewaySettings {
        node_id: config.node_id.clone(),
        allowed_origins: config.listen.allowed_origins.clone(),
        trusted_proxies: config.listen.trusted_proxies.clone(),
        heartbeat_interval: timing.heartbeat_interval,
        suspect_after: timing.suspect_after,
        offline_after: timing.offline_after,
        reconnect_window: timing.reconnect_window,
        max_silence: timing.max_silence,
        token_warning: timing.token_warning,
        first_message_timeout: limits.first_message_timeout,
        stalled_reader_timeout: limits.stalled_reader_timeout,
        close_timeout: limits.close_timeout,
        frame_bytes: limits.frame_bytes,
        write_buffer_bytes: limits.write_buffer_bytes,
        messages_per_second: limits.messages_per_second,
        bytes_per_second: limits.bytes_per_second,
        fragments_per_message: limits.fragments_per_message,
        message_timeout: limits.message_timeout,
        bad_messages_per_minute: limits.bad_messages_per_minute,
        unauthenticated_sockets_per_ip: limits.unauthenticated_sockets_per_ip,
        messages: MessageLimits { max_nesting: limits.json_depth, max_id_bytes: limits.command_id_bytes },
    }
}
