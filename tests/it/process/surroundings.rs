//! Listeners by name, and what a start says about its surroundings.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::tempdir;

use crate::support::process::{Running, hadir};

/// Starts it, lets `meanwhile` use it, stops it; what it logged.
async fn log_of(mut command: Command, meanwhile: impl AsyncFnOnce(&Value)) -> String {
    command.stderr(Stdio::piped());
    let (server, printed) = Running::start_heard(command);
    meanwhile(&printed).await;
    server.signal(Signal::TERM);
    let (status, log) = server.ended().await;
    assert!(status.success(), "{log}");
    log
}

async fn is_alive(url: &str) -> bool {
    reqwest::get(format!("{url}/livez")).await.is_ok_and(|answer| answer.status().is_success())
}

#[tokio::test]
async fn listeners_take_a_host_name_and_a_port_alone() {
    let folder = tempdir().expect("a folder");
    let mut command = hadir(&folder);
    command.env("HADIR_PUBLIC_ADDR", "localhost:0").env("HADIR_INTERNAL_ADDR", ":0");
    let log = log_of(command, async |printed| {
        for url in ["public_url", "internal_url"] {
            let url = printed[url].as_str().expect("printed");
            assert!(is_alive(url).await, "{url}");
        }
        let internal = printed["internal_url"].as_str().expect("printed");
        let (_, port) = internal.rsplit_once(':').expect("a port");
        assert!(is_alive(&format!("http://127.0.0.1:{port}")).await, "IPv4 reaches every address");
    })
    .await;
    assert!(log.contains("embedded default") && log.contains("WARN"), "{log}");
}

#[tokio::test]
async fn the_embedded_default_in_a_pod_is_said_loudly_and_variables_of_other_names_are_pointed_out() {
    let folder = tempdir().expect("a folder");
    let mut command = hadir(&folder);
    command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    command.env("DATABASE_URI", "postgres://someone:hunter2@db/hadir").env("REDIS_URL", "redis://cache");
    let log = log_of(command, async |_| {}).await;
    let warned = |words: &str| log.lines().any(|line| line.contains("WARN") && line.contains(words));
    assert!(warned("embedded default") && warned("container"), "{log}");
    assert!(warned("DATABASE_URI is set, but Hadir reads DATABASE_URL"), "{log}");
    assert!(warned("REDIS_URL is set, but Hadir reads VALKEY_URL"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}
