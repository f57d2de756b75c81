//! The stage of one row: private stores, two nodes behind proxies, a fleet that beats over both, observers who look on. Everything
//! is new for each row and ends with it.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, PgConnection, Row};
use tokio::{sync::Semaphore, time::sleep};

use crate::{
    fleet::{Life, Manner, Mitra},
    http::Door,
    journal::Journal,
    kit::{
        resp::Raw,
        server::run_migrate,
        stores::{Database, Postgres, Valkey, load_postgres},
        tokens::{SECRET, subject},
    },
    node::{Node, Plan},
    observers::Observers,
    sentinel::Watched,
    truth,
};

/// `HEARTBEAT_SUSPECT_SECONDS` of the nodes.
pub const SUSPECT: Duration = Duration::from_secs(3);
/// `MITRA_OFFLINE_AFTER_SECONDS` of the nodes.
pub const OFFLINE_AFTER: Duration = Duration::from_secs(6);
/// `HEARTBEAT_MIRROR_INTERVAL_SECONDS` of the nodes.
pub const MIRROR_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for anything that a row needs and that is not a promise itself.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// What all rows are given.
pub struct Means<'a> {
    pub binary: &'a Path,
    pub mitras: u64,
    pub short: bool,
}

/// What a row changes of the usual stage.
#[derive(Default)]
pub struct Scenery {
    /// Variables in PostgreSQL's environment.
    pub postgres_environment: Vec<(String, String)>,
    /// A program, with arguments, that each node runs under.
    pub node_under: [Vec<String>; 2],
    /// Further settings of both nodes.
    pub settings: Vec<(String, String)>,
    /// A replica and a Sentinel, which the nodes ask for the primary.
    pub sentinel: bool,
}

/// The stage.
pub struct Stage {
    pub valkey: Valkey,
    /// Where the mirror is compared with the store; another one after a failover.
    pub mirror_port: u16,
    pub watched: Option<Watched>,
    pub postgres: Option<Postgres>,
    pub database: Database,
    pub nodes: [Node; 2],
    pub fleet: Vec<Mitra>,
    /// Deactivated while the row runs; a socket on each node.
    pub doomed: Vec<Mitra>,
    /// Falls silent while the row runs.
    pub mortal: Mitra,
    pub journal: Arc<Journal>,
    pub short: bool,
    observers: Option<Observers>,
    mitras: u64,
}

impl Stage {
    /// A stage with this scenery, at rest: everybody is online and beats, both nodes are live and judge.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn set(means: &Means<'_>, scenery: Scenery) -> Result<Self> {
        let mut postgres = Postgres::start().await?;
        if !scenery.postgres_environment.is_empty() {
            let environment = scenery.postgres_environment.clone();
            let restarted = tokio::task::spawn_blocking(move || {
                postgres.server.restart_with(&environment);
                postgres
            });
            postgres = restarted.await.context("PostgreSQL does not start with another environment")?;
        }
        let database = postgres.new_database().await?;
        let valkey = Valkey::start().await?;
        let watched = if scenery.sentinel { Some(Watched::start(valkey.port).await?) } else { None };

        let migrate = [("AUTH_JWT_SECRET", SECRET), ("DATABASE_URL", database.url.as_str())];
        let migrate: Vec<_> = migrate.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        run_migrate(means.binary, &[], &migrate)?;
        // The fleet, then those who play a part of their own.
        load_postgres(&database, means.mitras + 4, false).await?;

        let name = database.url.rsplit('/').next().context("a database has a name")?.to_owned();
        let mut nodes = Vec::new();
        for number in 0..2 {
            let plan = Plan {
                binary: means.binary,
                number,
                valkey: SocketAddr::from(([127, 0, 0, 1], valkey.port)),
                postgres: address_of(&database.url)?,
                database: &name,
                valkey_url: watched.as_ref().map(Watched::url),
                settings: &scenery.settings,
                under: &scenery.node_under[number],
            };
            let mut node = Node::new(plan).await?;
            node.start().await?;
            nodes.push(node);
        }
        let nodes: [Node; 2] = nodes.try_into().map_err(|_| anyhow::anyhow!("there are two"))?;
        let journal = Arc::new(Journal::default());
        let life = Life {
            nodes: nodes.iter().map(|node| node.front.address()).collect(),
            journal: Arc::clone(&journal),
            gate: Arc::new(Semaphore::new(16)),
        };
        let number = means.mitras;
        let fleet =
            (0..number).map(|number| Mitra::live(number, (number % 2) as usize, Manner::Beats, &life)).collect();
        let doomed = vec![Mitra::live(number, 0, Manner::Beats, &life), Mitra::live(number, 1, Manner::Stays, &life)];
        let mortal = Mitra::live(number + 2, 1, Manner::Beats, &life);
        let mut stage = Self {
            mirror_port: valkey.port,
            valkey,
            watched,
            postgres: Some(postgres),
            database,
            nodes,
            fleet,
            doomed,
            mortal,
            journal,
            short: means.short,
            observers: None,
            mitras: means.mitras,
        };
        stage.observers = Some(Observers::of(&stage.doors(), &stage.journal));
        stage.deactivate(stage.banned(), 0).await.context("a mitra is to be deactivated before the row begins")?;
        stage.come_to_rest(means.mitras + 2).await?;
        Ok(stage)
    }

    /// Waits until so many are available for everybody, and both nodes judge who is silent.
    async fn come_to_rest(&self, available: u64) -> Result<()> {
        let began = Instant::now();
        loop {
            let shown = |node: usize| self.journal.newest(node).map(|frame| frame.available);
            let at_rest = shown(0) == Some(available) && shown(1) == Some(available) && self.judges().await;
            if at_rest && self.is_true().await.is_empty() {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                let sockets: u64 = self.fleet.iter().map(|mitra| u64::from(mitra.seen().at.is_some())).sum();
                bail!(
                    "the stage does not come to rest: {:?} and {:?} of {available} are shown, {sockets} sockets stand, {:?}\n{}",
                    shown(0),
                    shown(1),
                    self.is_true().await,
                    self.nodes[0].log(),
                );
            }
            sleep(LOOK).await;
        }
    }

    async fn judges(&self) -> bool {
        for node in &self.nodes {
            let sweeps = node.door.get("/internal/sweeps").await.body;
            let swept =
                sweeps["sweeps"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "auto_offline"));
            if swept.is_none_or(|swept| swept["last"]["result"] != "ok") {
                return false;
            }
        }
        true
    }

    /// Where the nodes are asked.
    pub fn doors(&self) -> Vec<Door> {
        self.nodes.iter().map(|node| node.door.clone()).collect()
    }

    /// The number of the mitra that is deactivated while the row runs.
    pub fn condemned(&self) -> u64 {
        self.mitras
    }

    /// The number of the one that was deactivated before.
    pub fn banned(&self) -> u64 {
        self.mitras + 1
    }

    /// The number of one that is offline and does nothing, for commands that need somebody.
    pub fn spare(&self) -> u64 {
        self.mitras + 3
    }

    /// A time limit of a promise, with patience for slow machines and builds.
    pub fn limit(&self, promised: Duration) -> Duration {
        if self.short { promised * 3 + Duration::from_secs(1) } else { promised }
    }

    /// The same by plain SQL of another program; returns when it was committed.
    ///
    /// # Errors
    /// The statement is refused.
    pub async fn deactivate_by_sql(&self, number: u64) -> Result<Instant> {
        self.sql(format!("UPDATE mitras SET is_active = false WHERE id = '{}'", subject(number))).await?;
        Ok(Instant::now())
    }

    /// Deactivates a mitra at one node, trying again while that is refused; returns when it was acknowledged.
    ///
    /// # Errors
    /// It is refused for too long.
    pub async fn deactivate(&self, number: u64, node: usize) -> Result<Instant> {
        let path = format!("/internal/mitras/{}/status", subject(number));
        let began = Instant::now();
        loop {
            let body = json!({ "is_active": false, "reason": "a proof" });
            let reply = self.nodes[node].door.ask(Method::PATCH, &path, Some(body)).await;
            if reply.is_good() {
                return Ok(Instant::now());
            }
            ensure!(began.elapsed() < PATIENCE, "the deactivation is not accepted: {reply:?}");
            sleep(LOOK).await;
        }
    }

    /// Runs a statement as another program does.
    ///
    /// # Errors
    /// It is refused.
    pub async fn sql(&self, statement: impl Into<String>) -> Result<()> {
        self.database.run(statement.into()).await
    }

    /// Commands on a connection of the row's own to Valkey, past the proxies.
    ///
    /// # Errors
    /// Valkey refuses one, or does not answer.
    pub async fn valkey(&self, commands: &[&str]) -> Result<()> {
        on_valkey(self.valkey.port, commands).await
    }

    /// Does something to the private PostgreSQL, which may take a while.
    ///
    /// # Errors
    /// It failed.
    pub async fn on_postgres(
        &mut self,
        act: impl FnOnce(&mut crate::kit::stores::postgres::Server) + Send + 'static,
    ) -> Result<()> {
        let mut postgres = self.postgres.take().context("it is there between two acts")?;
        let acted = tokio::task::spawn_blocking(move || {
            act(&mut postgres.server);
            postgres
        });
        self.postgres = Some(acted.await.context("the private PostgreSQL does not obey")?);
        Ok(())
    }

    /// What differs between mirror and store, in words.
    pub async fn is_true(&self) -> Vec<String> {
        match truth::differences(&self.database.url, self.mirror_port).await {
            Ok(differences) => differences,
            Err(error) => vec![format!("{error:#}")],
        }
    }

    /// Numbers of the fleet that were recorded as taken offline for silence, or told so.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn taken_offline(&self) -> Result<Vec<u64>> {
        let mut connection = PgConnection::connect(&self.database.url).await?;
        let rows = sqlx::query(
            "SELECT DISTINCT mitra_id::text AS id FROM presence_events WHERE kind = 'offline' AND actor = 'sweep'",
        )
        .fetch_all(&mut connection)
        .await?;
        connection.close().await?;
        let ids: Vec<String> = rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
        let all = self.fleet.iter().chain(&self.doomed).chain([&self.mortal]);
        let mut taken: Vec<u64> = all
            .filter(|mitra| ids.contains(&subject(mitra.number).to_string()) || mitra.seen().auto_offline > 0)
            .map(|mitra| mitra.number)
            .collect();
        taken.dedup();
        Ok(taken)
    }

    /// Mitras whose row says that they are online and active.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn online(&self) -> Result<u64> {
        let mut connection = PgConnection::connect(&self.database.url).await?;
        let row = sqlx::query("SELECT count(*) AS n FROM hadir_mitras WHERE is_online AND is_active")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(row.try_get::<i64, _>("n")?.unsigned_abs())
    }

    /// PostgreSQL's clock, seconds since 1970.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn clock_of_postgres(&self) -> Result<i64> {
        let mut connection = PgConnection::connect(&self.database.url).await?;
        let row = sqlx::query("SELECT extract(epoch FROM clock_timestamp())::bigint AS now");
        let now = row.fetch_one(&mut connection).await?.try_get("now")?;
        connection.close().await?;
        Ok(now)
    }

    /// Everything that both nodes logged.
    pub fn logs(&self) -> String {
        self.nodes.iter().map(Node::log).collect()
    }

    /// Ends it in order.
    pub async fn strike(mut self) -> Result<()> {
        drop(self.observers.take());
        self.fleet.clear();
        for node in &mut self.nodes {
            node.kill().await?;
        }
        self.valkey.kill().await?;
        let postgres = self.postgres.take();
        tokio::task::spawn_blocking(move || drop(postgres)).await?;
        Ok(())
    }
}

/// Commands on a new connection to the Valkey on this port. Words are parted by a blank; an empty last one is an empty word.
///
/// # Errors
/// Valkey refuses one, or does not answer.
pub async fn on_valkey(port: u16, commands: &[&str]) -> Result<()> {
    let commands: Vec<Vec<String>> =
        commands.iter().map(|command| command.split(' ').map(str::to_owned).collect()).collect();
    let asking = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::to(port)?;
        for command in &commands {
            let words: Vec<&[u8]> = command.iter().map(String::as_bytes).collect();
            raw.ask(&words).with_context(|| command.join(" "))?;
        }
        Ok(())
    });
    asking.await?
}

/// Where the PostgreSQL of this address listens.
///
/// # Errors
/// The address names no host.
pub fn address_of(database_url: &str) -> Result<SocketAddr> {
    let host = database_url.split('@').nth(1).and_then(|rest| rest.split('/').next());
    host.context("an address of PostgreSQL names its host")?
        .parse()
        .context("a private PostgreSQL listens on an address")
}

/// Waits until something holds; how long it took, or `None` when it did not in time.
pub async fn until(limit: Duration, mut holds: impl AsyncFnMut() -> bool) -> Option<Duration> {
    let began = Instant::now();
    loop {
        if holds().await {
            return Some(began.elapsed());
        }
        if began.elapsed() > limit {
            return None;
        }
        sleep(LOOK).await;
    }
}
