//! How the program starts, refuses to start, and stops, as a person or a supervisor sees it.

use std::{net::TcpListener, path::Path, process::Stdio};

use hadir::store::postgres::NodeLock;
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    contract::store::settings,
    support::{
        Backend, PATIENCE, World, eventually, postgres,
        process::{Running, hadir, said},
        valkey::free_port,
        world::SECRET,
    },
};

#[tokio::test]
async fn with_nothing_configured_it_serves_and_its_printed_tokens_work() {
    let folder = tempfile::tempdir().unwrap();
    let (server, printed) = Running::start(hadir(&folder));
    let ask = async |url: &str, path: &str, role: &str| {
        let url = format!("{}{path}", printed[url].as_str().unwrap());
        let token = printed["tokens"][role].as_str().unwrap();
        reqwest::Client::new().get(url).bearer_auth(token).send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("public_url", "/api/mitra/status", "mitra").await, 200, "the mitra of the printed token exists");
    assert_eq!(ask("public_url", "/api/client/availability", "customer").await, 200);
    assert_eq!(ask("internal_url", "/internal/counts", "dashboard").await, 200);
    assert_eq!(ask("internal_url", "/internal/mitras/available", "service").await, 200);
    server.signal(Signal::TERM);
    let (ended, _) = server.ended().await;
    assert!(ended.success(), "exit code 0 after SIGTERM: {ended}");
}

#[tokio::test]
async fn the_demo_moves_and_serves_its_pages() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = hadir(&folder);
    command.args(["demo", "--mitras", "9", "--customers", "3"]);
    let (_server, printed) = Running::start(command);
    let counts = async || {
        let url = format!("{}/internal/counts", printed["internal_url"].as_str().unwrap());
        let token = printed["tokens"]["dashboard"].as_str().unwrap();
        let text = reqwest::Client::new().get(url).bearer_auth(token).send().await.ok()?.text().await.ok()?;
        serde_json::from_str::<Value>(&text).ok()
    };
    eventually("the fleet is there", async || {
        let counts = counts().await?;
        (counts["counts"]["online"].as_u64()? > 0 && counts["sockets"]["customer"].as_u64()? > 0).then_some(())
    })
    .await;
    eventually("somebody is served", async || {
        let counts = counts().await?["counts"].clone();
        let load = counts["active_sessions"].as_u64()? + counts["pending_payment_sessions"].as_u64()?;
        (load > 0 && counts["busy"].as_u64()? > 0).then_some(())
    })
    .await;
    for page in ["/demo/mitra", "/demo/customer"] {
        let url = format!("{}{page}", printed["public_url"].as_str().unwrap());
        assert_eq!(reqwest::get(url).await.unwrap().status().as_u16(), 200, "{page}");
    }
}

#[test]
fn a_taken_port_is_one_sentence_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    for setting in ["HADIR_PUBLIC_ADDR", "HADIR_INTERNAL_ADDR"] {
        let output = hadir(&folder).env(setting, taken.local_addr().unwrap().to_string()).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot listen on") && said.contains(setting), "{said}");
    }
}

#[test]
fn a_data_folder_that_cannot_be_written_is_one_sentence_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let output = hadir(&folder).env("HADIR_DATA_DIR", file.join("data")).output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("HADIR_DATA_DIR"), "{said}");
}

#[test]
fn everything_wrong_with_the_configuration_is_listed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let output = hadir(&folder)
        .env("HEARTBEAT_INTERVAL_SECONDS", "often")
        .env("HADIR_LOG_FORMAT", "xml")
        .env("VALKEY_URL", "valkey://127.0.0.1:6379")
        .env("AUTH_JWT_SECRET", "short")
        .output()
        .unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for name in ["HEARTBEAT_INTERVAL_SECONDS", "HADIR_LOG_FORMAT", "VALKEY_URL", "AUTH_JWT_SECRET"] {
        assert!(said.contains(name), "{name} is missing in: {said}");
    }
    assert!(!said.contains("`short`"), "a secret is not repeated");
}

#[test]
fn a_second_server_on_the_same_sqlite_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_first, _) = Running::start(hadir(&folder));
    let output = hadir(&folder).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("another"), "{}", said(&output));
}

#[tokio::test]
async fn a_postgres_that_is_away_is_waited_for_alive_and_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = hadir(&folder);
    let internal = free_port();
    command.env("DATABASE_URL", format!("postgres://nobody:hunter2@127.0.0.1:{}/none", free_port()));
    command
        .env("HADIR_INTERNAL_ADDR", format!("127.0.0.1:{internal}"))
        .env("HADIR_PUBLIC_ADDR", format!("127.0.0.1:{port}"));
    command.env("AUTH_JWT_SECRET", SECRET);
    let mut waiting = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let status = async |path: &str| {
        Some(reqwest::get(format!("http://127.0.0.1:{internal}/{path}")).await.ok()?.status().as_u16())
    };
    assert_eq!(eventually("alive", async || status("livez").await).await, 200);
    assert_eq!(status("readyz").await, Some(503));
    assert_eq!(status("internal/counts").await, Some(503));
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody is let in");
    assert!(waiting.0.try_wait().unwrap().is_none(), "still trying");
}

#[tokio::test]
async fn a_lonely_node_whose_place_was_taken_says_so_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut postgres = postgres::dedicated();
    let mut command = hadir(&folder);
    command.env("DATABASE_URL", postgres.url("postgres")).env("AUTH_JWT_SECRET", SECRET);
    command.stderr(Stdio::piped());
    let (server, _) = Running::start_heard(command);
    // While it sleeps the server restarts and somebody else is faster.
    server.signal(Signal::STOP);
    postgres.kill();
    postgres.start();
    let settings = settings(&postgres.url("postgres"), "public");
    let _faster = eventually("another takes the lock", async || NodeLock::alone(&settings).await.ok()).await;
    server.signal(Signal::CONT);
    let (status, said) = server.ended().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("another Hadir runs on this database"), "{said}");
}

#[tokio::test]
async fn a_node_without_valkey_is_refused_beside_nodes_with_it_and_they_beside_it() {
    let world = World::new(Backend::Clustered).await;
    let (one, other) = (world.node().await, world.node().await);
    let why = world.lonely_node().await.err().expect("refused").to_string();
    assert!(why.contains("another Hadir runs on this database, and one without Valkey must be alone"), "{why}");
    one.stop().await;
    other.stop().await;
    let lonely = eventually("the database is free", async || world.lonely_node().await.ok()).await;
    let why = world.try_node_with(&[]).await.err().expect("refused").to_string();
    assert!(why.contains("a Hadir without Valkey runs on this database"), "{why}");
    lonely.stop().await;
    eventually("the database is free", async || world.try_node_with(&[]).await.ok()).await;
}

#[tokio::test]
async fn a_schema_that_is_not_migrated_is_waited_for_and_the_log_says_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let schema = postgres::schema().await;
    let log = folder.path().join("log");
    let command = |log: &Path| {
        let mut command = hadir(&folder);
        command.env("DATABASE_URL", &schema.url).env("HADIR_DB_SCHEMA", &schema.name).env("HADIR_MIGRATE", "false");
        command.env("AUTH_JWT_SECRET", SECRET).stderr(std::fs::File::create(log).unwrap());
        command
    };
    let checked = command(&folder.path().join("other-log")).arg("check").output().unwrap();
    let lines = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(!checked.status.success() && lines.contains("run `hadir migrate`"), "{lines}");

    let starting = command(&log);
    let started = tokio::task::spawn_blocking(move || Running::start_heard(starting));
    let told = async || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.contains("run `hadir migrate`").then_some(said)
    };
    let said = eventually("told what to run", told).await;
    assert!(said.contains("this node waits, and goes on by itself"), "{said}");
    assert!(!started.is_finished(), "it serves nothing yet");
    let migrated = command(&folder.path().join("other-log")).arg("migrate").output().unwrap();
    assert!(migrated.status.success());
    let (_server, printed) = tokio::time::timeout(PATIENCE, started).await.expect("started in time").unwrap();
    let ready = reqwest::get(format!("{}/readyz", printed["internal_url"].as_str().unwrap())).await.unwrap();
    assert_eq!(ready.status().as_u16(), 200);
}

#[test]
fn check_creates_nothing_in_the_embedded_default() {
    let folder = tempfile::tempdir().unwrap();
    let check = || {
        let output = hadir(&folder).arg("check").output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (right, lines) = check();
    assert!(right && lines.contains("will be created at start") && lines.contains("can be written"), "{lines}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is created");
    let (server, _) = Running::start(hadir(&folder));
    let (right, lines) = check();
    assert!(right && lines.contains("exists") && lines.contains("a Hadir is running on it"), "{lines}");
    drop(server);
    assert!(!check().1.contains("is running"));
}

#[tokio::test]
async fn check_names_what_is_wrong_and_hides_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let schema = postgres::schema().await;
    let check = |database: &str, valkey: &str| {
        let mut command = hadir(&folder);
        command
            .arg("check")
            .env("DATABASE_URL", database)
            .env("VALKEY_URL", valkey)
            .env("HADIR_DB_SCHEMA", &schema.name);
        command.env("AUTH_JWT_SECRET", SECRET).output().unwrap()
    };
    let away = format!("valkey://:hunter2@127.0.0.1:{}", free_port());
    let output = check(&schema.url, &away);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success());
    assert!(lines.contains("store") && lines.contains("VALKEY_URL"), "{lines}");
    assert!(lines.contains("not connected") && lines.contains("refused"), "why: {lines}");
    let database = format!("postgres://hunter3:hunter2@127.0.0.1:{}/none", free_port());
    let output = check(&database, &away);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let store = lines.lines().find(|line| line.contains("store")).expect("a line");
    assert!(store.contains("refused") && store.contains("DATABASE_URL") && !lines.contains("hunter2"), "{lines}");
    assert!(!lines.contains("hunter2") && !said(&output).contains("hunter2"));
}

#[test]
fn a_token_of_the_command_line_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = hadir(&folder).args(["token", "--role", "customer"]).output().unwrap();
    let token = String::from_utf8(output.stdout).unwrap();
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    let output = hadir(&folder).args(["token", "--role", "king"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn the_health_command_tells_a_living_node_from_none() {
    let folder = tempfile::tempdir().unwrap();
    let (server, printed) = Running::start(hadir(&folder));
    let address = printed["internal_url"].as_str().unwrap().trim_start_matches("http://").to_owned();
    let health = || {
        let mut command = hadir(&folder);
        command.env("HADIR_INTERNAL_ADDR", &address).arg("health");
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let living = health().await.unwrap();
    assert!(living.status.success(), "{}", said(&living));
    server.signal(Signal::KILL);
    server.ended().await;
    let dead = health().await.unwrap();
    assert_eq!(dead.status.code(), Some(1));
    assert!(said(&dead).contains("no node answers at"), "{}", said(&dead));
}

#[tokio::test]
async fn systemd_is_told_when_the_node_is_ready_still_runs_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let mut command = hadir(&folder);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").env("DRAIN_SECONDS", "0");
    let (server, _) = tokio::task::spawn_blocking(move || Running::start(command)).await.unwrap();
    let hears = async |expected: &str| {
        let mut buffer = [0; 256];
        let told = async {
            loop {
                let length = socket.recv(&mut buffer).await.unwrap();
                if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == expected) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{expected} was never said"));
    };
    for expected in ["READY=1", "WATCHDOG=1", "WATCHDOG=1"] {
        hears(expected).await;
    }
    server.signal(Signal::TERM);
    hears("STOPPING=1").await;
    assert!(server.ended().await.0.success());
}
