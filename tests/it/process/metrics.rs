//! What Prometheus' own tool thinks of the answers to `GET /metrics`.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use super::{Running, hadir};

/// In seconds: the form that the tool imports wants a time on each sample.
const TIME: &str = "1700000000";

pub(super) fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool = command.spawn().expect("promtool is installed");
    tool.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    tool.wait_with_output().expect("it ends")
}

#[tokio::test]
async fn both_forms_are_what_their_content_type_says_and_the_asked_for_one_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, printed) = Running::start(hadir(&folder));
    let url = format!("{}/metrics", printed["internal_url"].as_str().unwrap());
    let answer = async |accept: &str| {
        let reply = reqwest::Client::new().get(&url).header("accept", accept).send().await.unwrap();
        let kind = reply.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(reply.headers()["vary"], "accept");
        (kind, reply.text().await.unwrap())
    };

    // The first answer adds the series of its own route.
    answer("text/plain").await;
    let (kind, plain) = answer("text/plain").await;
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let judged = promtool(&["check", "metrics"], &plain);
    assert!(judged.status.success(), "{judged:?}");
    assert!(plain.contains("# TYPE hadir_heartbeats_total counter\n"), "{plain}");

    let (kind, open) = answer("application/openmetrics-text; version=1.0.0").await;
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let timed: Vec<String> = open
        .lines()
        .map(|line| if line.starts_with('#') { line.to_owned() } else { format!("{line} {TIME}") })
        .collect();
    let file = folder.path().join("metrics");
    std::fs::write(&file, timed.join("\n") + "\n").unwrap();
    let (file, blocks) = (file.to_str().unwrap(), folder.path().join("blocks"));
    let judged = promtool(&["tsdb", "create-blocks-from", "openmetrics", file, blocks.to_str().unwrap()], "");
    assert!(judged.status.success(), "{judged:?}");

    let samples = |text: &str| {
        let names = text.lines().filter(|line| !line.starts_with('#'));
        names.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(samples(&plain), samples(&open), "both say the same");
    assert_eq!(answer("*/*").await.0, "text/plain; version=0.0.4; charset=utf-8");
}
