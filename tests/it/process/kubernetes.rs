//! A pod of Kubernetes beside Services whose names begin as our settings do.

use std::process::Stdio;

use rustix::process::Signal;
use tempfile::tempdir;

use crate::support::process::{Running, hadir, said};

#[tokio::test]
async fn a_pod_beside_a_service_called_hadir_starts_and_says_what_it_ignores() {
    let folder = tempdir().expect("a folder");
    let mut command = hadir(&folder);
    let injected = [
        ("HADIR_SERVICE_HOST", "10.96.0.7"),
        ("HADIR_SERVICE_PORT", "8080"),
        ("HADIR_SERVICE_PORT_PUBLIC", "8080"),
        ("HADIR_PORT", "tcp://10.96.0.7:8080"),
        ("HADIR_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
        ("HADIR_PORT_8080_TCP_PROTO", "tcp"),
        ("HADIR_PORT_8080_TCP_PORT", "8080"),
        ("HADIR_PORT_8080_TCP_ADDR", "10.96.0.7"),
        ("HADIR_REDIS_SERVICE_HOST", "10.96.0.8"),
        ("HADIR_POSTGRES_PORT_5432_TCP_ADDR", "10.96.0.9"),
    ];
    command.envs(injected).stderr(Stdio::piped());
    let (server, _) = Running::start_heard(command);
    server.signal(Signal::TERM);
    let (status, log) = server.ended().await;
    assert!(status.success(), "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("HADIR_SERVICE_HOST")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("INFO"), "{}", lines[0]);
    assert!(injected.iter().all(|(name, _)| lines[0].contains(name)), "{}", lines[0]);
}

#[tokio::test]
async fn a_setting_that_does_not_exist_is_refused_beside_what_kubernetes_injects() {
    let folder = tempdir().expect("a folder");
    let mut command = hadir(&folder);
    command.env("HADIR_SERVICE_HOST", "10.96.0.7").env("HADIR_PORT", "8080");
    let output = command.output().expect("ran");
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(said.contains("HADIR_PORT (from environment) is not a setting"), "{said}");
    assert!(!said.contains("HADIR_SERVICE_HOST"), "{said}");
}
