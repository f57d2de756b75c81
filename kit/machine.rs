//! Where, when and with which command figures came about.

use std::{fmt, fs, process::Command};

use chrono::Utc;
use serde::Serialize;

/// What is written beside every recorded table.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    pub command: String,
    pub date: String,
    pub machine: String,
    pub commit: String,
}

impl Facts {
    /// Of this process, which is this example.
    pub fn of_this_run(example: &str) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
        let valkey = first_line("valkey-server", &["--version"]);
        let valkey = valkey.and_then(|text| Some(text.split("v=").nth(1)?.split(' ').next()?.to_owned()));
        let postgres = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let postgres = postgres.filter_map(|entry| entry.file_name().into_string().ok()).max();
        let machine = format!(
            "{cores} cores, loopback, client on the same cores, {}, Valkey {}, PostgreSQL {}",
            system.trim_matches('"'),
            valkey.unwrap_or_else(|| "–".to_owned()),
            postgres.unwrap_or_else(|| "–".to_owned()),
        );
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let profile = if cfg!(debug_assertions) { "" } else { "--release " };
        let command = format!("cargo run {profile}--example {example} -- {}", arguments.join(" "));
        Self {
            command: command.trim_end_matches([' ', '-']).to_owned(),
            date: Utc::now().format("%Y-%m-%d").to_string(),
            machine,
            commit: first_line("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "–".to_owned()),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, machine, commit, date } = self;
        write!(out, "Command: `{command}` · machine: {machine} · commit: {commit} · date: {date}")
    }
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
