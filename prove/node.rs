//! One node of the stage: a real `hadir serve` on fixed ports, with a proxy in front of it for its clients, and one before each
//! of its stores.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::{
    http::Door,
    kit::{processes::Usage, server::Server, stores::free_port, tokens::SECRET},
    proxy::Proxy,
    rows::PASSWORD,
};

/// The product's periods, scaled down by 15: a heartbeat a second, suspect after 3, offline after 6.
pub const CLOCK: &[(&str, &str)] = &[
    ("HEARTBEAT_INTERVAL_SECONDS", "1"),
    ("HEARTBEAT_SUSPECT_SECONDS", "3"),
    ("MITRA_OFFLINE_AFTER_SECONDS", "6"),
    ("MITRA_AUTO_OFFLINE_SWEEP_SECONDS", "1"),
    ("HEARTBEAT_MIRROR_INTERVAL_SECONDS", "2"),
    ("HEARTBEAT_FLUSH_MS", "67"),
    ("VALKEY_ONLINE_MIRROR_SWEEP_SECONDS", "15"),
    ("HADIR_CHANGE_FEED_SECONDS", "0.33"),
    ("HADIR_SWEEP_RELEASE_SECONDS", "40"),
    ("HADIR_RECONNECT_WINDOW_MS", "333"),
    ("HADIR_LIMIT_STALLED_READER_SECONDS", "3"),
    ("DRAIN_SECONDS", "4"),
    // Everybody dials from this machine.
    ("HADIR_LIMIT_UNAUTHENTICATED_SOCKETS_PER_IP", "5000"),
    ("HADIR_LOG", "info"),
    ("HADIR_LOG_FORMAT", "json"),
];

/// A node, running or not.
pub struct Node {
    /// Where it is asked, past every proxy.
    pub door: Door,
    /// Between it and its mitras.
    pub front: Proxy,
    /// Between it and Valkey.
    pub mirror: Proxy,
    /// Between it and PostgreSQL.
    pub store: Proxy,
    binary: PathBuf,
    settings: Vec<(String, String)>,
    /// A program to run it under, with arguments.
    under: Vec<String>,
    server: Option<Server>,
    /// What earlier runs of it logged.
    logged: String,
}

/// What a node is to be.
pub struct Plan<'a> {
    pub binary: &'a Path,
    pub number: usize,
    pub valkey: SocketAddr,
    pub postgres: SocketAddr,
    pub database: &'a str,
    /// Instead of the proxied address.
    pub valkey_url: Option<String>,
    pub settings: &'a [(String, String)],
    pub under: &'a [String],
}

impl Node {
    /// A node that does not run yet.
    ///
    /// # Errors
    /// No port is free.
    pub async fn new(plan: Plan<'_>) -> Result<Self> {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (public, internal) = (address(free_port()?), address(free_port()?));
        let mirror = Proxy::to(plan.valkey).await;
        let store = Proxy::to(plan.postgres).await;
        let valkey_url =
            plan.valkey_url.unwrap_or_else(|| format!("valkey://default:{PASSWORD}@{}/0", mirror.address()));
        let mut settings: Vec<(String, String)> =
            CLOCK.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings.extend(
            [
                ("AUTH_JWT_SECRET", SECRET.to_owned()),
                ("HADIR_NODE_ID", format!("node-{}", plan.number)),
                ("HADIR_PUBLIC_ADDR", public.to_string()),
                ("HADIR_INTERNAL_ADDR", internal.to_string()),
                ("DATABASE_URL", format!("postgres://postgres@{}/{}", store.address(), plan.database)),
                ("VALKEY_URL", valkey_url),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        settings.extend(plan.settings.iter().cloned());
        Ok(Self {
            door: Door::new(public, internal)?,
            front: Proxy::to(public).await,
            mirror,
            store,
            binary: plan.binary.to_owned(),
            settings,
            under: plan.under.to_vec(),
            server: None,
            logged: String::new(),
        })
    }

    /// Starts it, and waits until it serves.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(&mut self) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let binary = self.binary.display().to_string();
        let mut words = self.under.iter().cloned().chain([binary, "serve".to_owned()]);
        let program = PathBuf::from(words.next().context("a program")?);
        let arguments: Vec<String> = words.collect();
        self.server = Some(Server::launch(&program, &arguments, &self.settings, folder).await?);
        Ok(())
    }

    /// Signals the process.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.server.as_ref().context("this node does not run")?.signal(signal)
    }

    /// Kills it as by `kill -9`.
    ///
    /// # Errors
    /// It does not go.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(server) = self.server.take() {
            self.logged.push_str(&server.kill().await?);
        }
        Ok(())
    }

    /// Stops it in order: SIGTERM, and waits until it has ended.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(server) = self.server.take() {
            self.logged.push_str(&server.finish().await?);
        }
        Ok(())
    }

    /// What it uses.
    ///
    /// # Errors
    /// It does not run.
    pub fn usage(&self) -> Result<Usage> {
        Ok(self.server.as_ref().context("this node does not run")?.usage)
    }

    /// Everything that it logged, earlier runs included.
    pub fn log(&self) -> String {
        self.logged.clone() + &self.server.as_ref().map(Server::log).unwrap_or_default()
    }
}
