//! The disk of the embedded default: full for a while. One node on SQLite, whose data folder is a small file system of its own.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::sleep};

use crate::{
    fleet::{Life, Manner, Mitra},
    http::{Door, Reply},
    journal::Journal,
    kit::{server::Server, tokens::SECRET, tokens::subject},
    node::CLOCK,
    observers::Observers,
    outcome::{Outcome, seconds},
    stage::{Means, OFFLINE_AFTER, PATIENCE, SUSPECT, until},
};

pub const NAME: &str = "disk-full";
/// Beating all the while; two more are commanded.
const MITRAS: u64 = 50;
/// The data folder of the node, in a mount that only it sees.
const MOUNT: &str = r#"mount -t tmpfs -o size=16m none "$HADIR_DATA_DIR" && exec "$0" "$@""#;

/// The node, and the file that fills its disk.
struct Bench {
    server: Server,
    door: Door,
    filler: PathBuf,
}

impl Bench {
    async fn start(binary: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        let mut settings: Vec<(String, String)> =
            CLOCK.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings.extend(
            [
                ("AUTH_JWT_SECRET", SECRET.to_owned()),
                ("HADIR_PUBLIC_ADDR", "127.0.0.1:0".to_owned()),
                ("HADIR_INTERNAL_ADDR", "127.0.0.1:0".to_owned()),
                ("HADIR_DATA_DIR", data.display().to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let binary = binary.display().to_string();
        let words = ["-rm", "bash", "-c", MOUNT, &binary, "serve"].map(str::to_owned);
        let server = Server::launch(Path::new("unshare"), &words, &settings, folder).await;
        let server = server.context("a node with a file system of its own (`unshare -rm`, of util-linux)")?;
        let door = Door::new(server.public, server.internal)?;
        let seen = PathBuf::from(format!("/proc/{}/root", server.usage.pid()));
        let filler = seen.join(data.strip_prefix("/").context("an absolute path")?).join("filler");
        Ok(Self { server, door, filler })
    }

    /// Takes what is left of the disk.
    fn fill(&self) -> Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.filler)?;
        for size in [1 << 16, 1 << 12, 1] {
            loop {
                match file.write(&vec![0; size]) {
                    Ok(_) => {}
                    Err(full) if full.kind() == io::ErrorKind::StorageFull => break,
                    Err(other) => bail!("the disk cannot be filled: {other}"),
                }
            }
        }
        Ok(())
    }

    async fn put(&self, number: u64, name: &str) -> Reply {
        let path = format!("/internal/mitras/{}", subject(number));
        self.door.ask(Method::PUT, &path, Some(json!({ "display_name": name }))).await
    }

    async fn deactivate(&self, number: u64) -> Reply {
        let path = format!("/internal/mitras/{}/status", subject(number));
        self.door.ask(Method::PATCH, &path, Some(json!({ "is_active": false }))).await
    }

    /// What `/readyz` says of the store.
    async fn store(&self) -> (bool, String) {
        let checks = self.door.get("/readyz").await.body["checks"].clone();
        let store = checks.as_array().and_then(|all| all.iter().find(|check| check["name"] == "store").cloned());
        let store = store.unwrap_or(Value::Null);
        (store["ok"] == true, store["detail"].as_str().unwrap_or_default().to_owned())
    }

    async fn online(&self) -> Option<u64> {
        self.door.get("/internal/counts").await.body["counts"]["online"].as_u64()
    }
}

/// Fills the disk beyond the offline time and makes room again.
///
/// # Errors
/// It could not be carried out.
pub async fn full(means: &Means<'_>, out: &Path) -> Result<Outcome> {
    let mut outcome = Outcome::of(
        NAME,
        "the disk of the embedded default is full",
        "the data folder's file system filled to the last byte; room made again",
    );
    let bench = Bench::start(means.binary).await?;
    let judged = judge(&bench, means.short, &mut outcome).await;
    let log = bench.server.log();
    if judged.is_err() || !outcome.is_kept() {
        fs::create_dir_all(out)?;
        fs::write(out.join(format!("{NAME}-node-0.log")), &log)?;
    }
    bench.server.finish().await?;
    judged.map(|()| outcome)
}

async fn judge(bench: &Bench, short: bool, outcome: &mut Outcome) -> Result<()> {
    let limit = |promised: Duration| if short { promised * 3 + Duration::from_secs(1) } else { promised };
    for number in 0..MITRAS + 2 {
        anyhow::ensure!(bench.put(number, "Mitra").await.is_good(), "a mitra cannot be created");
    }
    let journal = Arc::new(Journal::default());
    let life =
        Life { nodes: vec![bench.server.public], journal: Arc::clone(&journal), gate: Arc::new(Semaphore::new(16)) };
    let fleet: Vec<Mitra> = (0..MITRAS).map(|number| Mitra::live(number, 0, Manner::Beats, &life)).collect();
    let _observers = Observers::of(std::slice::from_ref(&bench.door), &journal);
    let all = async || journal.newest(0).is_some_and(|frame| frame.available == MITRAS);
    until(PATIENCE, all).await.context("the fleet does not come online")?;
    let pid = bench.server.usage.pid();

    bench.fill()?;
    let began = Instant::now();
    let refused = async || bench.put(MITRAS, "refused").await.status == 503;
    let detected = until(PATIENCE / 2, refused).await;
    outcome.detect = detected.map(seconds);
    match detected {
        Some(took) => outcome.within("to notice", took, limit(Duration::from_secs(2))),
        None => outcome.broken.push("the fault was not noticed".to_owned()),
    }
    let (ok, why) = bench.store().await;
    outcome.check(!ok && why.contains("full"), || format!("/readyz does not say why: {why}"));
    outcome.check(bench.deactivate(MITRAS + 1).await.status == 503, || "a deactivation was not refused".to_owned());
    sleep((OFFLINE_AFTER + SUSPECT).saturating_sub(began.elapsed())).await;

    fs::remove_file(&bench.filler)?;
    let healed = Instant::now();
    let first = bench.deactivate(MITRAS + 1).await;
    outcome.check(first.is_good(), || format!("the first write after room came back is answered {}", first.status));
    let right = async || bench.store().await.0 && all().await && bench.online().await == Some(MITRAS);
    match until(PATIENCE, right).await {
        Some(_) => {
            outcome.within("until everything was right again", healed.elapsed(), limit(Duration::from_secs(5)));
            outcome.truth = Some(seconds(healed.elapsed()));
        }
        None => outcome.broken.push("it did not come right".to_owned()),
    }
    // Longer than a silence may last before it counts.
    sleep(OFFLINE_AFTER + SUSPECT).await;
    outcome.wrong_offline = MITRAS.saturating_sub(bench.online().await.unwrap_or_default());
    outcome.check(outcome.wrong_offline == 0, || "mitras that beat were taken offline".to_owned());
    let frames = journal.frames_since(began);
    outcome.false_empty = frames.iter().filter(|frame| frame.available == 0 && !frame.stale).count() as u64;
    outcome.check(outcome.false_empty == 0, || "customers were told that nobody is there".to_owned());
    let lost = journal.lost_since(began);
    outcome.check(lost.is_empty(), || format!("{} sockets ended: {:?}", lost.len(), lost.first()));
    outcome.check(bench.server.usage.pid() == pid, || "another process".to_owned());
    let log = bench.server.log();
    for (words, what) in [("the database file fails", "begin"), ("the database file works again", "end")] {
        let lines = log.matches(words).count();
        outcome.check(lines == 1, || format!("{lines} lines tell its {what}"));
    }
    drop(fleet);
    Ok(())
}
