//! The run: which rows, how large, in which order.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};

use tokio::sync::OnceCell;

use crate::{
    arguments::Run,
    kit::server::{self, Backend, Server},
    kit::stores::{Database, Stores, load_postgres},
    rows,
    table::{Goal, Line, Table},
};

/// How much of everything.
pub struct Sizes {
    /// Memory is the slope between these two numbers of sockets.
    pub few_sockets: usize,
    pub many_sockets: usize,
    /// Sockets of the other rows.
    pub sockets: usize,
    /// Fleets that ping as hard as they can.
    pub ping_fleets: &'static [usize],
    /// How long one measurement takes, seconds.
    pub burst_seconds: f64,
    /// How long idle sockets are looked at.
    pub idle_seconds: f64,
    /// Cadence of heartbeats.
    pub beat_seconds: f64,
    /// Rounds of what alternates between floor and server.
    pub turns: usize,
    pub flips: usize,
    /// Mitras in the mirror, for counts.
    fleets: &'static [usize],
    /// Sessions that can be accepted.
    pub sessions: u64,
    /// Sessions whose time runs out within so many seconds.
    pub expiring: u64,
    pub expiring_seconds: f64,
    /// Dials of one turn, for the rate of connects.
    pub dials: usize,
    /// Churn: connections a second, for so many seconds, after so many that it is given to warm up.
    pub churn_rate: f64,
    pub churn_seconds: f64,
    pub churn_warm_up_seconds: f64,
    /// For one mitra found or counted by REST, seconds.
    pub ask_seconds: f64,
    /// Longest wait for a server's memory to stand still, seconds.
    pub settle_seconds: f64,
}

const FULL: Sizes = Sizes {
    few_sockets: 2_000,
    many_sockets: 18_000,
    sockets: 10_000,
    ping_fleets: &[100, 1_000, 10_000],
    burst_seconds: 4.0,
    idle_seconds: 60.0,
    beat_seconds: 15.0,
    turns: 3,
    flips: 100,
    fleets: &[1_000, 10_000, 100_000, 1_000_000],
    ask_seconds: 2.0,
    sessions: 60_000,
    expiring: 10_000,
    expiring_seconds: 3.0,
    dials: 4_000,
    churn_rate: 1_000.0,
    churn_seconds: 600.0,
    churn_warm_up_seconds: 60.0,
    settle_seconds: 10.0,
};

const SHORT: Sizes = Sizes {
    few_sockets: 50,
    many_sockets: 250,
    sockets: 200,
    ping_fleets: &[50],
    burst_seconds: 0.5,
    idle_seconds: 2.0,
    beat_seconds: 1.0,
    turns: 1,
    flips: 4,
    fleets: &[500],
    ask_seconds: 0.3,
    sessions: 4_000,
    expiring: 400,
    expiring_seconds: 0.5,
    dials: 100,
    churn_rate: 100.0,
    churn_seconds: 2.0,
    churn_warm_up_seconds: 1.0,
    settle_seconds: 0.5,
};

/// Nobody falls silent while a row loads and counts.
const PATIENT: &[(&str, &str)] = &[("HEARTBEAT_SUSPECT_SECONDS", "7200"), ("MITRA_OFFLINE_AFTER_SECONDS", "7200")];

/// What every row may use.
pub struct Bench {
    pub sizes: &'static Sizes,
    largest: usize,
    binary: PathBuf,
    settings: Vec<(String, String)>,
    stores: OnceCell<Stores>,
}

impl Bench {
    /// Mitras in the mirror, for rows that go through several numbers of them.
    pub fn fleets(&self) -> impl Iterator<Item = usize> + Clone {
        self.sizes.fleets.iter().copied().filter(|fleet| *fleet <= self.largest)
    }

    /// The private Valkey and PostgreSQL of this run; started when the first row asks for them.
    ///
    /// # Errors
    /// One of them does not start.
    pub async fn stores(&self) -> Result<&Stores> {
        self.stores.get_or_try_init(Stores::start).await
    }

    fn with<'a>(&'a self, settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        settings.iter().copied().chain(own).collect()
    }

    /// A server on SQLite and the in-process mirror, with mitras 0 to `mitras` in its file.
    ///
    /// # Errors
    /// It does not start.
    pub async fn embedded(&self, mitras: usize, settings: &[(&str, &str)]) -> Result<Server> {
        Server::start(&self.binary, Backend::Embedded, mitras as u64, &self.with(settings)).await
    }

    /// A server on an empty Valkey and a new database with mitras 0 to `mitras` in it.
    ///
    /// # Errors
    /// It, or a store, does not start.
    pub async fn clustered(&self, mitras: usize, settings: &[(&str, &str)]) -> Result<Server> {
        let database = self.emptied().await?;
        self.node(&database, mitras, settings).await
    }

    /// An empty Valkey and a new database.
    ///
    /// # Errors
    /// A store does not start.
    pub async fn emptied(&self) -> Result<Database> {
        let stores = self.stores().await?;
        stores.valkey.raw()?.ask(&[b"FLUSHALL"])?;
        stores.postgres.new_database().await
    }

    /// One of the nodes on a database and the run's Valkey; the first one is given the mitras.
    ///
    /// # Errors
    /// It does not start.
    pub async fn node(&self, database: &Database, mitras: usize, settings: &[(&str, &str)]) -> Result<Server> {
        let backend = Backend::Clustered(database, &self.stores().await?.valkey);
        Server::start(&self.binary, backend, mitras as u64, &self.with(settings)).await
    }

    /// Makes the tables before anybody loads them.
    ///
    /// # Errors
    /// The binary says why.
    pub async fn migrate(&self, database: &Database) -> Result<()> {
        server::migrate(&self.binary, Backend::Clustered(database, &self.stores().await?.valkey))
    }

    /// The same with every mitra online, by plain SQL, for longer than a run takes.
    ///
    /// # Errors
    /// It, or a store, does not start.
    pub async fn all_online(&self, mitras: usize) -> Result<Server> {
        let database = self.emptied().await?;
        self.migrate(&database).await?;
        load_postgres(&database, mitras as u64, true).await?;
        self.node(&database, 0, PATIENT).await
    }
}

/// Runs the rows, prints each line as it comes and writes the table.
///
/// # Errors
/// Something does not work. Figures that miss their goal are no error.
pub async fn run(run: Run) -> Result<()> {
    let names: Vec<&str> = rows::NAMES.iter().map(|(name, _)| *name).collect();
    if run.rows.iter().any(|row| row == "list") {
        rows::NAMES.iter().for_each(|(name, what)| println!("{name:12} {what}"));
        return Ok(());
    }
    if let Some(unknown) = run.rows.iter().find(|row| !names.contains(&row.as_str())) {
        bail!("there is no row {unknown}; there are {}", names.join(", "));
    }
    let binary = match run.server {
        Some(path) => path.canonicalize().with_context(|| format!("{} is not there", path.display()))?,
        None => tokio::task::spawn_blocking(|| server::release_binary("loadtest")).await??,
    };
    let bench = Bench {
        sizes: if run.short { &SHORT } else { &FULL },
        largest: run.largest.unwrap_or(usize::MAX),
        binary,
        settings: run.settings,
        stores: OnceCell::new(),
    };
    let mut table = Table::new(run.short);
    let began = Instant::now();
    for name in names.into_iter().filter(|name| run.rows.is_empty() || run.rows.iter().any(|row| row == name)) {
        let since = Instant::now();
        let mut lines = rows::measure(name, &bench).await.with_context(|| format!("row {name}"))?;
        if run.short {
            lines.iter_mut().for_each(|line| line.goal = Goal::Told);
        }
        eprintln!("{name}: {:.1} s", since.elapsed().as_secs_f64());
        lines.iter().for_each(told);
        table.lines.extend(lines);
        // After each row, so that what is measured survives what comes.
        table.write(&run.out)?;
    }
    println!("{}", table.markdown());
    eprintln!("{:.0} s; written to {}", began.elapsed().as_secs_f64(), run.out.display());
    Ok(())
}

fn told(line: &Line) {
    let beside = line.beside_figure.map_or(String::new(), |figure| format!(", {} {figure:.3}", line.beside));
    let ratio = line.ratio().map_or(String::new(), |ratio| format!(", ratio {ratio:.3}"));
    eprintln!("  {}: {:.3} {}{beside}{ratio} {}", line.what, line.figure, line.unit, line.note);
}
