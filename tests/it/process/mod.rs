//! The process among other things of an operating system: its output, its signals, its files, its name.

mod data_folder;
mod edge;
mod full_disk;
mod kubernetes;
mod metrics;
mod names;
mod observing;
mod operators;
mod output;
mod queries;
mod roles;
mod signals;
mod surroundings;

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{
    eventually,
    process::{Running, hadir},
};

/// Asks a listener of a running process, with a printed token.
async fn ask(printed: &Value, path: &str, token: &str) -> Option<(StatusCode, String)> {
    let url = format!("{}{path}", printed["internal_url"].as_str()?);
    let reply = reqwest::Client::new().get(url).bearer_auth(token).send().await.ok()?;
    Some((reply.status(), reply.text().await.ok()?))
}

/// Makes the process log a line.
async fn make_it_log(internal: &str, token: &str) {
    make_it_log_by(&reqwest::Client::new(), internal, token).await;
}

async fn make_it_log_by(client: &reqwest::Client, internal: &str, token: &str) {
    let url = format!("{internal}/internal/sweeps/reseed/pause");
    let asked = client.post(url).bearer_auth(token).json(&serde_json::json!({ "seconds": 60 }));
    assert_eq!(asked.send().await.expect("an answer").status(), StatusCode::OK);
}

/// A counter of the process.
async fn counted(internal: &str, name: &str) -> Option<u64> {
    let text = reqwest::get(format!("{internal}/metrics")).await.ok()?.text().await.ok()?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.split(' ').nth(1)?.parse().ok()
}
