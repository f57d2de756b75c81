//! From the command line to the dashboard.

use std::process::{Command, Stdio};

use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Running, hadir};
use crate::support::{process::said, valkey::free_port, world::SECRET};

fn configured(folder: &TempDir, port: u16) -> Command {
    let mut command = hadir(folder);
    command.env("HADIR_INTERNAL_ADDR", format!("localhost:{port}")).env("AUTH_JWT_SECRET", SECRET);
    command
}

fn token(folder: &TempDir, port: u16, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = configured(folder, port).args(["token", "--role"]).args(arguments).output().expect("ran");
    (output.status.code(), String::from_utf8(output.stdout.clone()).expect("text"), said(&output))
}

#[tokio::test]
async fn the_start_says_how_to_open_the_dashboard_and_the_link_opens_it_for_the_named_operator() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = configured(&folder, port);
    command.stderr(Stdio::piped());
    let (server, printed) = Running::start_heard(command);
    assert_eq!(printed["tokens"], Value::Null, "tokens of a configured secret are not printed");

    let pause = async |token: &str| {
        let url = format!("http://localhost:{port}/internal/sweeps/reseed/pause");
        let asked = reqwest::Client::new().post(url).bearer_auth(token).json(&json!({ "seconds": 60 }));
        asked.send().await.unwrap().status()
    };
    let opened = format!("http://localhost:{port}/#token=");
    let (code, link, _) = token(&folder, port, &["dashboard", "--link", "--name", "Sari Dewi"]);
    assert_eq!(code, Some(0));
    let acting = link.trim_end().strip_prefix(&opened).expect("the address of this node").to_owned();
    assert_eq!(reqwest::get(link.trim_end()).await.unwrap().status(), StatusCode::OK);
    assert_eq!(pause(&acting).await, StatusCode::OK);

    let (_, link, _) = token(&folder, port, &["dashboard", "--link=https://ops.example/", "--read-only"]);
    let looking = link.trim_end().strip_prefix("https://ops.example/#token=").expect("the given address").to_owned();
    assert_eq!(pause(&looking).await, StatusCode::FORBIDDEN);

    server.signal(Signal::TERM);
    let (_, log) = server.ended().await;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let said =
        |words: &str| lines.iter().find(|line| line["message"].as_str().is_some_and(|text| text.contains(words)));
    let how = said("hadir token --role dashboard --link").expect("a line of the start");
    assert!(how["dashboard"].as_str().is_some_and(|url| url.ends_with(&format!(":{port}/"))), "{how}");
    let paused = said("a sweep was paused").expect("the record of a command");
    assert!(paused["actor"].as_str().is_some_and(|actor| actor.contains("dashboard:Sari Dewi")), "{paused}");
    assert!(!log.contains(&acting) && !log.contains(&looking), "no token in the log");
}

#[test]
fn names_links_and_read_only_are_for_dashboard_tokens_and_a_bad_name_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for flag in ["--link", "--read-only", "--name=Sari"] {
        let (code, out, said) = token(&folder, 1, &["service", flag]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{said}");
        assert!(said.contains("--role dashboard only"), "{said}");
    }
    for name in ["a".repeat(65), "a\nb".to_owned()] {
        let (code, out, said) = token(&folder, 1, &["dashboard", "--name", &name]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
        assert!(said.contains("--name has"), "{said}");
    }
}
