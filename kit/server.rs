//! The real server: a release binary with a folder, and if wanted stores, of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use reqwest::Method;
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    processes::{Kept, Usage},
    stores::{self, Database, Valkey},
    tokens::{Mint, Role, SECRET},
};

/// Lines of a server's log that are worth a reader's time.
const WARNINGS_TOLD: usize = 5;

/// Which stores a server stands on.
#[derive(Clone, Copy)]
pub enum Backend<'a> {
    /// SQLite and the in-process mirror.
    Embedded,
    Clustered(&'a Database, &'a Valkey),
}

/// A running server. It ends when this is dropped.
pub struct Server {
    pub public: SocketAddr,
    pub internal: SocketAddr,
    pub usage: Usage,
    kept: Kept,
    http: reqwest::Client,
    service_token: String,
    folder: tempfile::TempDir,
}

#[derive(Deserialize)]
struct Addresses {
    public_url: String,
    internal_url: String,
}

impl Server {
    /// Starts the binary on free ports; `mitras` are loaded into its database before.
    ///
    /// # Errors
    /// It does not start; its log is in the error.
    pub async fn start(binary: &Path, backend: Backend<'_>, mitras: u64, more: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut settings = settings(backend, folder.path());
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        if mitras > 0 {
            run_migrate(binary, &[], &settings)?;
            match backend {
                Backend::Embedded => stores::load_sqlite(&folder.path().join("hadir.db"), mitras).await?,
                Backend::Clustered(database, _) => stores::load_postgres(database, mitras, false).await?,
            }
        }
        Self::launch(binary, &["serve".to_owned()], &settings, folder).await
    }

    /// A program that serves, with these settings and no others; its log is in `folder`, which goes with it.
    ///
    /// # Errors
    /// It does not start; its log is in the error.
    pub async fn launch(
        program: &Path,
        arguments: &[String],
        settings: &[(String, String)],
        folder: tempfile::TempDir,
    ) -> Result<Self> {
        let log = folder.path().join("log");
        let mut kept = Kept::start(program, arguments, settings, &log).await?;
        let said = kept.line().await?;
        let Some(said) = said else {
            bail!("the server does not start: {}", std::fs::read_to_string(&log).unwrap_or_default());
        };
        let told: Addresses = serde_json::from_str(&said).context("what the server prints")?;
        let address = |url: &str| url.trim_start_matches("http://").parse::<SocketAddr>();
        Ok(Self {
            public: address(&told.public_url)?,
            internal: address(&told.internal_url)?,
            usage: kept.usage,
            kept,
            http: reqwest::Client::new(),
            service_token: Mint::new().token(Uuid::from_u128(1), Role::Service)?,
            folder,
        })
    }

    /// A call of the internal listener.
    ///
    /// # Errors
    /// It is not answered with success.
    pub async fn call(&self, method: Method, path: &str) -> Result<Value> {
        let text = self.call_text(method, path).await?;
        serde_json::from_str(&text).with_context(|| format!("{path} answers {text}"))
    }

    /// The value of a metric, summed over its labels.
    ///
    /// # Errors
    /// The listener does not answer.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.call_text(Method::GET, "/metrics").await?;
        let of_metric = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let is_it = rest.starts_with(' ') || rest.starts_with('{');
            is_it.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
        };
        Ok(text.lines().filter_map(of_metric).sum())
    }

    async fn call_text(&self, method: Method, path: &str) -> Result<String> {
        let request = self.http.request(method, format!("http://{}{path}", self.internal));
        let response = request.bearer_auth(&self.service_token).send().await?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("{path} answers {status}: {text}");
        }
        Ok(text)
    }

    /// Signals the process.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.kept.signal(signal)
    }

    /// Kills it. Returns what it had logged.
    ///
    /// # Errors
    /// It does not go.
    pub async fn kill(self) -> Result<String> {
        self.kept.kill().await?;
        Ok(std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default())
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends it in order. Returns what it had logged.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn finish(self) -> Result<String> {
        let stopped = self.kept.stop().await;
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        stopped.map(|()| log)
    }

    /// Ends it in order, and tells what it warned of.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn stop(self) -> Result<()> {
        let log = self.finish().await?;
        log.lines().take(WARNINGS_TOLD).for_each(|line| eprintln!("  the server says: {line}"));
        Ok(())
    }
}

fn settings(backend: Backend<'_>, folder: &Path) -> Vec<(String, String)> {
    let mut settings = vec![
        ("AUTH_JWT_SECRET".to_owned(), SECRET.to_owned()),
        ("HADIR_PUBLIC_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
        ("HADIR_INTERNAL_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
        ("HADIR_DATA_DIR".to_owned(), folder.display().to_string()),
        ("HADIR_LOG".to_owned(), "warn".to_owned()),
        ("HADIR_LOG_FORMAT".to_owned(), "json".to_owned()),
        ("DRAIN_SECONDS".to_owned(), "0.1".to_owned()),
    ];
    if let Backend::Clustered(database, valkey) = backend {
        settings.push(("DATABASE_URL".to_owned(), database.url.clone()));
        settings.push(("VALKEY_URL".to_owned(), valkey.url()));
    }
    settings
}

/// Migrates a database before anybody loads it.
///
/// # Errors
/// The binary says why.
pub fn migrate(binary: &Path, backend: Backend<'_>) -> Result<()> {
    run_migrate(binary, &[], &settings(backend, Path::new(".")))
}

/// `hadir migrate`, with arguments, as a deployment runs it.
///
/// # Errors
/// The binary says why.
pub fn run_migrate(binary: &Path, arguments: &[&str], settings: &[(String, String)]) -> Result<()> {
    let mut command = Command::new(binary);
    command.arg("migrate").args(arguments).env_clear().envs(settings.iter().map(|(name, value)| (name, value)));
    let done = command.output().with_context(|| format!("{} cannot be run", binary.display()))?;
    if !done.status.success() {
        bail!("hadir migrate: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

/// The release binary, built when it is missing or older than the source, together with this example.
///
/// # Errors
/// The build fails.
pub fn release_binary(example: &str) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    eprintln!("looking for the release binary; the first build takes some minutes");
    // The same targets as the command that built this program, so that nothing is built twice.
    let arguments = ["build", "--release", "--locked", "--bin", "hadir", "--example", example];
    let status = Command::new("cargo").args(arguments).current_dir(root).status().context("cargo cannot be run")?;
    if !status.success() {
        bail!("the release build failed; `--server PATH` names a binary that exists");
    }
    let beside = std::env::current_exe()?;
    let target = beside.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "examples"));
    // …/target/<profile>/examples/<name>
    let folder = target.and_then(Path::parent).and_then(Path::parent).map_or(root.join("target"), Path::to_path_buf);
    Ok(folder.join("release/hadir"))
}
