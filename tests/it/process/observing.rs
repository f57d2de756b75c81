//! Log lines that carry the id of the request or socket they are about, and floods of them.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Running, counted, eventually, hadir, make_it_log_by};
use crate::support::Client;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn started(mut command: Command) -> (Running, Value) {
    command.stderr(Stdio::piped());
    Running::start_heard(command)
}

async fn log_lines(server: Running) -> Vec<Value> {
    server.signal(Signal::TERM);
    let (status, log) = server.ended().await;
    assert!(status.success(), "{log}");
    log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The lines of a message that carry this id.
fn lines_of<'a>(lines: &'a [Value], message: &str, field: &str, id: &str) -> Vec<&'a Value> {
    let carries = |line: &&Value| {
        let spans = line["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
        line["message"] == message && spans.iter().any(|span| span[field] == id)
    };
    lines.iter().filter(carries).collect()
}

#[tokio::test]
async fn a_request_has_one_id_on_its_answer_and_on_its_log_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = hadir(&folder);
    // A filter of levels leaves the ids on the lines.
    command.env("HADIR_LOG", "error,hadir::api::operations=info");
    let (server, printed) = started(command);
    let url = format!("{}/internal/sweeps/reseed/pause", printed["internal_url"].as_str().unwrap());
    let client = reqwest::Client::new();
    let ask = async |id: Option<&str>, traceparent: Option<String>| {
        let mut request = client.post(&url).bearer_auth(printed["tokens"]["service"].as_str().unwrap());
        for (name, value) in [("x-request-id", id.map(str::to_owned)), ("traceparent", traceparent)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let answer = request.json(&json!({ "seconds": 60 })).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(ask(Some("order-7"), Some(format!("00-{TRACE}-00f067aa0ba902b7-01"))).await, "order-7");
    let replaced = ask(Some("{\"not\":\"plain\"}"), Some(format!("00-{TRACE}-0-01"))).await;
    assert!(replaced.parse::<Uuid>().is_ok(), "{replaced}");
    let own = ask(None, None).await;
    let unknown = reqwest::get(format!("{}/nowhere", printed["public_url"].as_str().unwrap())).await.unwrap();
    assert!(unknown.headers().contains_key("x-request-id"), "refusals too");

    let lines = log_lines(server).await;
    for (id, trace) in [("order-7", json!(TRACE)), (replaced.as_str(), Value::Null), (own.as_str(), Value::Null)] {
        let lines = lines_of(&lines, "a sweep was paused", "request", id);
        assert_eq!(lines.len(), 1, "{id}: {lines:?}");
        let span = &lines[0]["span"];
        assert_eq!(span["trace"], trace, "{span}");
        assert_eq!((&span["method"], &span["route"]), (&json!("POST"), &json!("/internal/sweeps/{name}/pause")));
    }
}

#[tokio::test]
async fn a_socket_has_the_id_of_its_welcome_on_its_log_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = hadir(&folder);
    command.env("HADIR_LOG", "hadir=debug");
    let (server, printed) = started(command);
    let address = printed["public_url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let token = printed["tokens"]["customer"].as_str().unwrap();
    let (first, second) = (
        Client::dial(address, "/ws/availability", token).await,
        Client::dial(address, "/ws/availability", token).await,
    );
    let ids = [&first, &second].map(|client| client.welcome["connection_id"].as_str().unwrap().to_owned());
    assert_ne!(ids[0], ids[1]);
    let requests =
        [&first, &second].map(|client| client.response.headers()["x-request-id"].to_str().unwrap().to_owned());
    drop((first, second));
    let internal = printed["internal_url"].as_str().unwrap();
    let gone = "hadir_socket_closes_total{role=\"customer\",code=\"1006\"}";
    eventually("both are gone", async || counted(internal, gone).await.filter(|closed| *closed == 2)).await;
    let lines = log_lines(server).await;
    for (id, request) in ids.iter().zip(&requests) {
        let opened = lines_of(&lines, "a socket is open", "connection", id);
        assert_eq!(opened.len(), 1, "{lines:#?}");
        assert_eq!(opened[0]["spans"][0]["request"], request.as_str(), "the request that became this socket");
        assert_eq!(lines_of(&lines, "a socket ended", "connection", id).len(), 1, "{lines:#?}");
    }
}

#[tokio::test]
async fn a_flood_of_one_kind_of_line_is_sampled_and_counted_and_others_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = hadir(&folder);
    command.env("HADIR_LOG_LINES_PER_SECOND", "1");
    let (server, printed) = started(command);
    let internal = printed["internal_url"].as_str().unwrap();
    let token = printed["tokens"]["service"].as_str().unwrap();
    let client = reqwest::Client::new();
    let asked = AtomicU64::new(0);
    let left_out = eventually("lines are left out", async || {
        for _ in 0..50 {
            make_it_log_by(&client, internal, token).await;
        }
        asked.fetch_add(50, Relaxed);
        counted(internal, "hadir_log_lines_left_out_total").await.filter(|left_out| *left_out > 0)
    })
    .await;
    let lines = log_lines(server).await;
    let written = |message: &str| lines.iter().filter(|line| line["message"] == message).count();
    assert_eq!(written("a sweep was paused") as u64 + left_out, asked.into_inner());
    assert!(written("log lines were left out: more of one kind than HADIR_LOG_LINES_PER_SECOND") > 0);
    assert!(
        written("serving") == 1 && lines.iter().any(|line| line["message"].as_str().unwrap().starts_with("stopping"))
    );
}
