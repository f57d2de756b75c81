//! A server whose database file takes nothing for a while: the disk is full, or another process holds the file.

use std::process::{Command, Stdio};

use reqwest::{Client, Method};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection};
use tempfile::TempDir;

use super::{Running, eventually};

/// The kernel refuses every write to a file of this process, as a full disk would, or takes them again.
fn disk_takes(server: Pid, bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    prlimit(Some(server), Resource::Fsize, Rlimit { current: bytes, maximum }).expect("limited");
}

/// The program on SQLite, which lives on when a file may not grow, and what commands it.
struct Bench {
    server: Running,
    urls: [String; 2],
    token: String,
    client: Client,
    mitra: String,
}

impl Bench {
    fn start(folder: &TempDir) -> Self {
        let mut command = Command::new("/bin/sh");
        // Without this the kernel would end the process, where a full disk only answers with an error.
        command.args(["-c", "trap '' XFSZ; exec \"$0\"", env!("CARGO_BIN_EXE_hadir")]);
        command.env_clear().current_dir(folder.path()).stderr(Stdio::piped());
        command.env("HADIR_PUBLIC_ADDR", "127.0.0.1:0").env("HADIR_INTERNAL_ADDR", "127.0.0.1:0");
        let (server, printed) = Running::start_heard(command);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let urls = [text(&printed["internal_url"]), text(&printed["public_url"])];
        let (token, mitra) = (text(&printed["tokens"]["service"]), uuid::Uuid::now_v7().to_string());
        Self { server, urls, token, client: Client::new(), mitra }
    }

    async fn command(&self, method: Method, path: &str, body: Value) -> u16 {
        let url = format!("{}/internal/mitras/{}{path}", self.urls[0], self.mitra);
        let asked = self.client.request(method, url).bearer_auth(&self.token).json(&body);
        asked.send().await.expect("an answer").status().as_u16()
    }

    /// A write that changes something.
    async fn put(&self) -> u16 {
        let name = uuid::Uuid::now_v7().to_string();
        self.command(Method::PUT, "", json!({ "display_name": name })).await
    }

    /// What `/readyz` of a listener says of the store.
    async fn store(&self, listener: &str) -> (bool, String) {
        let answer = self.client.get(format!("{listener}/readyz")).send().await.expect("an answer");
        let body: Value = answer.json().await.expect("JSON");
        let checks = body["checks"].as_array().expect("checks");
        let store = checks.iter().find(|check| check["name"] == "store").expect("the store");
        (store["ok"].as_bool().expect("a flag"), store["detail"].as_str().expect("text").to_owned())
    }

    async fn works_again(&self) {
        eventually("/readyz says that the store works", async || self.store(&self.urls[0]).await.0.then_some(())).await;
    }

    /// The log, after the end.
    async fn log(self) -> String {
        self.server.signal(Signal::TERM);
        self.server.ended().await.1
    }
}

#[tokio::test]
async fn a_write_succeeds_as_soon_as_the_disk_has_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::start(&folder);
    assert_eq!(bench.put().await / 100, 2);
    disk_takes(bench.server.id(), Some(0));
    for _ in 0..3 {
        assert_eq!(bench.put().await, 503);
    }
    assert_eq!(bench.command(Method::PATCH, "/status", json!({ "is_active": false })).await, 503);
    let (ok, why) = bench.store(&bench.urls[0]).await;
    assert!(!ok && why.contains("disk I/O error"), "{why}");
    let (ok, why) = bench.store(&bench.urls[1]).await;
    assert!(!ok && !why.contains("disk"), "customers are not told why: {why}");
    disk_takes(bench.server.id(), getrlimit(Resource::Fsize).maximum);
    assert_eq!(bench.put().await / 100, 2, "the first write after room came back");
    assert_eq!(bench.command(Method::PATCH, "/status", json!({ "is_active": false })).await, 200);
    bench.works_again().await;
    // Nobody commands anything this time.
    disk_takes(bench.server.id(), Some(0));
    assert_eq!(bench.put().await, 503);
    disk_takes(bench.server.id(), getrlimit(Resource::Fsize).maximum);
    bench.works_again().await;
    let log = bench.log().await;
    assert_eq!(log.matches("the database file fails").count(), 2, "{log}");
    assert_eq!(log.matches("the database file works again").count(), 2, "{log}");
}

#[tokio::test]
async fn a_write_succeeds_as_soon_as_another_process_lets_go_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::start(&folder);
    assert_eq!(bench.put().await / 100, 2);
    let path = std::fs::read_dir(folder.path().join("hadir-data")).unwrap();
    let path = path.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some_and(|end| end == "db"));
    let mut other = SqliteConnection::connect(path.expect("a database").to_str().unwrap()).await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    for _ in 0..2 {
        assert_eq!(bench.put().await, 503);
    }
    let (ok, why) = bench.store(&bench.urls[0]).await;
    // On a busy machine the deadline of the whole call may pass before that of the file's lock.
    let reasons = ["another process holds the database file", "the database file did not answer in time"];
    assert!(!ok && reasons.iter().any(|reason| why.contains(reason)), "{why}");
    let metrics = bench.client.get(format!("{}/metrics", bench.urls[0])).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    let timed_out = metrics.lines().find(|line| {
        line.starts_with("hadir_store_queries_total") && line.contains("result=\"timeout\"") && !line.ends_with(" 0")
    });
    assert!(timed_out.is_some(), "a deadline that passed is counted as one: {metrics}");
    other.execute("ROLLBACK").await.unwrap();
    eventually("a write succeeds", async || (bench.put().await / 100 == 2).then_some(())).await;
    bench.works_again().await;
    let log = bench.log().await;
    assert_eq!(log.matches("the database file fails").count(), 1, "{log}");
    assert_eq!(log.matches("the database file works again").count(), 1, "{log}");
}
