//! What the log says of requests that a proxy in front distorts: once, and what to set.

use std::process::Stdio;

use rustix::process::Signal;

use super::{Running, hadir};
use crate::support::client::{Client, opening, with_header};

#[tokio::test]
async fn what_a_proxy_in_front_distorts_has_one_line_of_the_log_each() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = hadir(&folder);
    command.env("HADIR_TRUSTED_PROXIES", "127.0.0.1").env("HADIR_LOG_FORMAT", "json").stderr(Stdio::piped());
    let (server, printed) = Running::start_heard(command);
    let public = printed["public_url"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    let knock = async |name: &'static str, value: &str| {
        let answer = Client::open(public, with_header(opening(public, "/ws/availability"), name, value)).await;
        answer.map_or_else(|refused| refused.status().as_u16(), |_| 101)
    };
    for unreadable in ["_hidden", "unknown", "203.0.113.1:99999"] {
        assert_eq!(knock("x-forwarded-for", unreadable).await, 101, "the proxy's own address stands in");
    }
    assert_eq!(knock("x-forwarded-for", "203.0.113.1:4711").await, 101);
    for origin in ["https://one.example", "https://two.example", "https://one.example"] {
        assert_eq!(knock("origin", origin).await, 403);
    }
    server.signal(Signal::TERM);
    let (ended, log) = server.ended().await;
    assert!(ended.success(), "{log}");
    let lines = |words: &[&str]| log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(lines(&["WARN", "X-Forwarded-For"]), 1, "{log}");
    assert_eq!(lines(&["WARN", "X-Forwarded-For", "127.0.0.1"]), 1, "it names the proxy: {log}");
    for origin in ["https://one.example", "https://two.example"] {
        assert_eq!(lines(&["WARN", origin, "HADIR_ALLOWED_ORIGINS"]), 1, "{log}");
    }
}
