//! What ends the process, and what does not.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::{Running, ask, hadir};
use crate::support::{eventually, valkey::free_port, world::SECRET};

#[tokio::test]
async fn a_hangup_stops_it_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = hadir(&folder);
    command.stderr(Stdio::piped());
    let (server, _) = Running::start_heard(command);
    server.signal(Signal::HUP);
    let (ended, log) = server.ended().await;
    assert!(ended.success(), "exit code 0 after SIGHUP: {ended}");
    assert!(log.contains("stopping"), "{log}");
}

#[tokio::test]
async fn one_that_is_told_to_stop_while_it_waits_for_its_store_stops_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (port, log) = (free_port(), folder.path().join("log"));
    let mut command = hadir(&folder);
    command.env("DATABASE_URL", format!("postgres://nobody@127.0.0.1:{port}/none")).env("AUTH_JWT_SECRET", SECRET);
    command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let server = Running(command.spawn().unwrap());
    eventually("it waits", async || std::fs::read_to_string(&log).unwrap().contains("this node waits").then_some(()))
        .await;
    server.signal(Signal::TERM);
    let (ended, _) = server.ended().await;
    assert!(ended.success(), "exit code 0 after SIGTERM: {ended}");
}

#[tokio::test]
async fn one_that_was_started_to_ignore_hangups_stays() {
    let folder = tempfile::tempdir().unwrap();
    let program = hadir(&folder);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\""]).arg(program.get_program()).current_dir(folder.path());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (server, printed): (Running, Value) = Running::start(command);
    server.signal(Signal::HUP);
    let token = printed["tokens"]["service"].as_str().unwrap();
    assert_eq!(ask(&printed, "/internal/counts", token).await.expect("an answer").0, 200);
    server.signal(Signal::TERM);
    assert!(server.ended().await.0.success());
}
