//! Composition root: builds the product from a configuration, starts it in order and stops it in order.
//!
//! The only module that names concrete back ends. Called by `cli`, the demo and the integration tests.

mod backends;
mod check;
mod crypto;
mod ports;
mod print;
mod settings;
mod surroundings;
mod systemd;
mod tasks;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use axum::Router;
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout_at},
};

pub use check::{CheckLine, check};
pub use crypto::choose_crypto_provider;

use backends::Backends;

use crate::{
    api::{self, Api, ApiParts},
    auth::{PublicKeys, SecretError, TokenIssuer, TokenVerifier},
    cluster::Cluster,
    config::{Config, KeySource, reachable},
    demo::{self, DemoSize},
    gateway::{AcceptLimits, Gateway, serve as accept},
    hub::Hub,
    lifecycle::{Lifecycle, StopSignals},
    mirror::Mirror,
    presence::{Presence, PresenceError},
    replication::{HeartbeatWriter, Replication},
    sessions::Sessions,
    store::{Store, postgres::NodeLock},
    tasks::Tasks,
    telemetry::Metrics,
};

/// How long the answers of the waiting room may take to be sent.
const WAITING_ROOM_CLOSES: Duration = Duration::from_secs(1);
/// Least time for the stores to be closed, also when everything else took long.
const CLOSING: Duration = Duration::from_millis(200);
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
    tasks: Tasks,
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
    pub(crate) async fn start_with(mut config: Config, more: Router) -> Result<Self> {
        choose_crypto_provider();
        let lifecycle = Lifecycle::default();
        let metrics = Metrics::new();
        let (verifier, issuer) = tokens(&config, &metrics).await?;
        let limits = settings::accept_limits(&config);
        // Both ports are taken before anything is done, so that one that is not free is told at once; the public one is
        // listened on only when there is something to say.
        let (internal, internal_addr) = ports::take(&config.listen.internal_addr, "HADIR_INTERNAL_ADDR").await?;
        let (public, public_addr) = ports::take(&config.listen.public_addr, "HADIR_PUBLIC_ADDR").await?;
        let internal = Arc::new(ports::listen(internal, &config.limits, "HADIR_INTERNAL_ADDR")?);
        let waiting = open_waiting_room(&internal, &limits);
        let Backends { store, mirror, node_lock } = backends::open(&mut config, &lifecycle).await?;
        let hub = Arc::new(Hub::new(settings::hub_limits(&config.limits)));
        let (replication, inbox) = Replication::new(
            settings::replication_settings(&config),
            Arc::clone(&store),
            Arc::clone(&mirror),
            hub,
            metrics.clone(),
        );
        let replication = Arc::new(replication);
        let cluster = Arc::new(Cluster::new(&replication, config.mirror.probe_interval));
        let sessions = Arc::new(Sessions::new(&replication));
        let settings = settings::presence_settings(&config);
        let presence = Arc::new(Presence::new(settings, Arc::clone(&replication), Arc::clone(&cluster)));
        let tasks = Tasks::new(Arc::clone(&presence), metrics.clone(), lifecycle.clone());
        if let Some(lock) = node_lock {
            keep_place(&tasks, &lifecycle, lock);
        }
        if let Some(keys) = verifier.public_keys() {
            keep_keys(&tasks, keys);
        }
        let (api, gateway) = edges(&config, verifier, &presence, &sessions, &tasks, &metrics, &lifecycle);
        waiting.stop(WAITING_ROOM_CLOSES).await;
        let internal_router = api.internal_router(gateway.internal_routes());
        // Probes and operators are answered while sockets leave.
        lifecycle.spawn(accept(internal, internal_router, limits.clone(), lifecycle.clone(), ended(&lifecycle)));

        // Before anybody is told that a mitra is busy with a session whose time has run out.
        expire_overdue(&sessions).await;
        let callees = tasks::Callees {
            replication: &replication,
            cluster: &cluster,
            presence: &presence,
            sessions: &sessions,
            gateway: &gateway,
            inbox: inbox.into(),
        };
        tasks::start(&tasks, &config, callees);
        presence.started().await;

        let public_router = api.public_router(gateway.public_routes().merge(more));
        let leaving = lifecycle.clone();
        let closing = async move { leaving.accepting_stopped().await };
        let public = Arc::new(ports::listen(public, &config.limits, "HADIR_PUBLIC_ADDR")?);
        lifecycle.spawn(accept(public, public_router, limits, lifecycle.clone(), closing));
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
            tasks,
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
        let address = format!("http://{}/", reachable(internal));
        let how = match self.issuer {
            Some(_) => "`hadir token --role dashboard --link` prints an address that opens it signed in",
            None => "open it with a dashboard token of your identity provider",
        };
        tracing::info!(dashboard = address, "the dashboard is here; {how}");
    }

    async fn until_told(self, mut signals: StopSignals) -> Result<()> {
        systemd::ready();
        systemd::keep_watchdog(&self.tasks);
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
        // One time for all that remains: whoever kills the process later counts on it.
        let ends = Instant::now() + drain.stop_timeout;
        if timeout_at(ends - drain.stop_timeout / 2, self.last_heartbeats()).await.is_err() {
            tracing::warn!("the last heartbeats did not reach the stores in time");
        }
        let left = self.lifecycle.stop(ends.saturating_duration_since(Instant::now())).await;
        if left > 0 {
            tracing::warn!(left, "tasks did not end in time");
        }
        let closing = async {
            self.mirror.close().await;
            self.store.close().await;
        };
        // Connections that do not close are dropped with the process.
        let _open = timeout_at(ends.max(Instant::now() + CLOSING), closing).await;
    }

    async fn last_heartbeats(&self) {
        let heartbeats = self.heartbeats();
        // What these two cannot deliver the last one writes to the store.
        let _undelivered = heartbeats.flush().await;
        let _unwritten = heartbeats.flush_to_store().await;
        if let Err(error) = heartbeats.save().await {
            tracing::warn!(%error, "the last heartbeats did not reach the store");
        }
    }
}

/// Over how long the demo's sockets are closed.
const DEMO_DRAIN: Duration = Duration::from_secs(1);

/// Runs the server until it is told to stop, or cannot go on.
pub async fn serve(config: Config) -> Result<()> {
    let mut signals = StopSignals::listen()?;
    let Some(server) = unless_told(&mut signals, Server::start(config)).await? else { return Ok(()) };
    print::serving(&server).await?;
    surroundings::warn_of_embedded_default(server.config(), [server.public_addr(), server.internal_addr()]);
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

/// What answers REST, and what holds sockets.
fn edges(
    config: &Config,
    verifier: TokenVerifier,
    presence: &Arc<Presence>,
    sessions: &Arc<Sessions>,
    tasks: &Tasks,
    metrics: &Metrics,
    lifecycle: &Lifecycle,
) -> (Api, Arc<Gateway>) {
    let api = Api::new(ApiParts {
        settings: Arc::new(settings::api_settings(config)),
        verifier: verifier.clone(),
        presence: Arc::clone(presence),
        sessions: Arc::clone(sessions),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
        lifecycle: lifecycle.clone(),
    });
    let gateway = settings::gateway_settings(config);
    let gateway = Gateway::new(gateway, verifier, Arc::clone(presence), metrics.clone(), lifecycle.clone());
    (api, gateway)
}

/// What verifies tokens, and what signs them unless only public keys are configured.
async fn tokens(config: &Config, metrics: &Metrics) -> Result<(TokenVerifier, Option<TokenIssuer>)> {
    let verifier = TokenVerifier::new(&config.auth, metrics.clone())?;
    let issuer = match TokenIssuer::new(&config.auth) {
        Err(SecretError::NoSecret) => None,
        other => Some(other?),
    };
    // A URL that is unavailable stops no start: it is asked again, and meanwhile its tokens are refused.
    if let Some(keys) = verifier.public_keys()
        && let Err(why) = keys.refresh().await
        && let Some(KeySource::File(path)) = &config.auth.key_source
    {
        anyhow::bail!("AUTH_JWKS_FILE {} {why}: correct the file or the setting", path.display());
    }
    Ok((verifier, issuer))
}

/// Answers on the internal port until there is more to say.
fn open_waiting_room(internal: &Arc<TcpListener>, limits: &AcceptLimits) -> Lifecycle {
    let waiting = Lifecycle::default();
    let room = accept(Arc::clone(internal), api::waiting_room(), limits.clone(), waiting.clone(), ended(&waiting));
    waiting.spawn(room);
    waiting
}

async fn expire_overdue(sessions: &Sessions) {
    while let Err(error @ PresenceError::Unavailable(_)) = sessions.expire_overdue().await {
        tracing::warn!(%error, "sessions whose time ran out wait for the store");
        sleep(backends::PATIENCE).await;
    }
}

fn keep_keys(tasks: &Tasks, keys: &Arc<PublicKeys>) {
    let keys = Arc::clone(keys);
    tasks.keep("public_keys", "Refreshes the keys that tokens are verified with.", move || Arc::clone(&keys).keep());
}

/// Keeps this node's place among the nodes of its store. A node that lost it for good gives up, and so does one
/// whose task did not end as it should: nobody would hold the place.
fn keep_place(tasks: &Tasks, lifecycle: &Lifecycle, lock: NodeLock) {
    let (node, lock) = (lifecycle.clone(), Mutex::new(Some(lock)));
    tasks.keep("node_lock", "Keeps this node's place among the nodes of its store.", move || {
        let (node, lock) = (node.clone(), lock.lock().take());
        async move {
            match lock {
                Some(lock) => node.give_up(lock.keep().await),
                None => node.give_up(anyhow::anyhow!("the task that keeps the node's place ended; the log says why")),
            }
            std::future::pending().await
        }
    });
}

/// When everything is to stop.
fn ended(lifecycle: &Lifecycle) -> impl Future<Output = ()> + Send + 'static {
    let lifecycle = lifecycle.clone();
    async move { lifecycle.stopped().await }
}
