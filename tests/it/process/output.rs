//! Lines that cannot be written are lost and counted; the process goes on, whoever was to read them.

use std::{fs::OpenOptions, process::Stdio};

use hadir::{
    auth::Grant,
    config::Config,
    domain::{Role, SubjectId},
};
use uuid::Uuid;

use super::{Running, counted, eventually, hadir, make_it_log, make_it_log_by};
use crate::support::{
    postgres,
    valkey::{self, free_port},
    world::SECRET,
};

const LOST: &str = "hadir_log_lines_lost_total";

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").expect("a device that is always full").into()
}

/// A token of the secret that the tests' nodes share.
fn service_token() -> String {
    token_of(Role::Service, Uuid::new_v4())
}

/// The same of any role and subject.
pub(super) fn token_of(role: Role, subject: Uuid) -> String {
    let config = Config::from_pairs(&[("AUTH_JWT_SECRET", SECRET)]).expect("valid");
    let issuer = hadir::auth::TokenIssuer::new(&config.auth).expect("an issuer");
    let grant =
        Grant { subject: SubjectId(subject), role, session_id: None, ttl: std::time::Duration::from_secs(3_600) };
    issuer.issue(&grant, chrono::Utc::now())
}

#[tokio::test]
async fn an_outage_is_survived_by_a_node_whose_log_is_a_closed_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let (schema, mut valkey) = (postgres::schema().await, valkey::Server::start());
    let mut command = hadir(&folder);
    command
        .env("DATABASE_URL", &schema.url)
        .env("HADIR_DB_SCHEMA", &schema.name)
        .env("VALKEY_URL", valkey.url(0))
        .env("AUTH_JWT_SECRET", SECRET)
        .stderr(Stdio::piped());
    let (mut server, printed) = Running::start_heard(command);
    drop(server.0.stderr.take());
    let internal = printed["internal_url"].as_str().unwrap();
    valkey.kill();
    eventually("lines are lost", async || counted(internal, LOST).await.filter(|lost| *lost > 0)).await;
    valkey.restart();
    eventually("live again", async || {
        let metrics = reqwest::get(format!("{internal}/metrics")).await.ok()?.text().await.ok()?;
        metrics.contains("hadir_mode{mode=\"live\"} 1").then_some(())
    })
    .await;
    server.signal(rustix::process::Signal::TERM);
    let (ended, _) = server.ended().await;
    assert!(ended.success(), "exit code 0 after SIGTERM: {ended}");
}

#[tokio::test]
async fn full_disks_behind_both_outputs_stop_neither_start_nor_service() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    for command in ["serve", "demo"] {
        let mut process = hadir(&folder);
        process.arg(command).env("HADIR_INTERNAL_ADDR", format!("127.0.0.1:{port}"));
        process.env("AUTH_JWT_SECRET", SECRET).stdout(full()).stderr(full());
        let server = Running(process.spawn().unwrap());
        let internal = format!("http://127.0.0.1:{port}");
        let ready = async || reqwest::get(format!("{internal}/readyz")).await.ok()?.error_for_status().ok();
        eventually("ready", ready).await;
        make_it_log(&internal, &service_token()).await;
        eventually("lines are lost", async || counted(&internal, LOST).await.filter(|lost| *lost > 0)).await;
        server.signal(rustix::process::Signal::TERM);
        let (ended, _) = server.ended().await;
        assert!(ended.success(), "{command} ends with exit code 0 after SIGTERM: {ended}");
    }
}

#[tokio::test]
async fn a_reader_of_the_log_that_stopped_reading_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = hadir(&folder);
    // More than the pipe and the queue hold, soon.
    command.env("HADIR_LOG", "trace").env("HADIR_LOG_LINES_PER_SECOND", "1000000").stderr(Stdio::piped());
    let (server, printed) = Running::start_heard(command);
    let internal = printed["internal_url"].as_str().unwrap();
    let token = printed["tokens"]["service"].as_str().unwrap();
    let client = reqwest::Client::new();
    eventually("the queue is full", async || {
        futures_util::future::join_all((0..50).map(|_| make_it_log_by(&client, internal, token))).await;
        counted(internal, LOST).await.filter(|lost| *lost > 0)
    })
    .await;
    make_it_log(internal, token).await;
    server.signal(rustix::process::Signal::TERM);
    let (ended, log) = server.ended().await;
    assert!(ended.success(), "exit code 0 after SIGTERM: {ended}");
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "whole lines");
}

#[test]
fn a_command_whose_errors_cannot_be_written_keeps_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = hadir(&folder).env("HADIR_LOG_FORMAT", "xml").stderr(full()).status().unwrap();
    assert_eq!(wrong.code(), Some(2));
    // A token that was not printed was not given.
    let lost = hadir(&folder).args(["token", "--role", "customer"]).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(lost.code(), Some(1));
}
