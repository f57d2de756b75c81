//! The way from Postgres into the mirror: a reseed that finds everything right, and the rebuilding of an emptied one.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::Method;
use tokio::time::sleep;

use crate::{
    bench::Bench,
    kit::processes::PATIENCE,
    kit::server::Server,
    table::{Goal, Line},
};

const ROW: &str = "reseed";
/// Smaller fleets say nothing.
const SMALLEST: usize = 100_000;
/// Mitras a second that a reseed is to carry: 100,000 in 2 s.
const RATE: f64 = 50_000.0;
/// Longest wait for the truth, at 100,000 mitras.
const TRUTH_SECONDS: f64 = 5.0;
const LOOK: Duration = Duration::from_millis(10);

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let largest = bench.fleets().max().unwrap_or_default();
    let mut lines = Vec::new();
    for mitras in bench.fleets().filter(|fleet| *fleet >= SMALLEST.min(largest)) {
        let server = bench.all_online(mitras).await?;
        let before = server.usage.settled_rss(Duration::from_secs(2)).await?;
        let report = server.call(Method::POST, "/internal/reseed").await?;
        ensure!(report["rows"] == mitras, "the reseed did not see everybody: {report}");
        let seconds = report["duration_ms"].as_f64().unwrap_or(f64::NAN) / 1e3;
        let peak = server.usage.peak_rss()?;
        let note = format!(
            "{} changed; memory of the server {} MB before, {} MB at most",
            report["changed"],
            before / 1_000_000,
            peak / 1_000_000,
        );
        let what = format!("reseed of {mitras} mitras from Postgres that finds all in order");
        lines.push(Line::alone(ROW, what, "s", seconds).goal(Goal::AtMost(mitras as f64 / RATE)).note(note));

        let (right, trusted) = emptied(bench, &server, mitras).await?;
        server.stop().await?;
        let goal = if mitras == SMALLEST { Goal::AtMost(TRUTH_SECONDS) } else { Goal::AtMost(mitras as f64 / RATE) };
        let note = format!("the right answer from Postgres meanwhile after {right:.2} s");
        let what = format!("from FLUSHALL to the rebuilt mirror's right count at {mitras} online");
        lines.push(Line::alone(ROW, what, "s", trusted).goal(goal).note(note));
    }
    Ok(lines)
}

/// Seconds from FLUSHALL to the first right answer by anybody, and to the mirror's own.
async fn emptied(bench: &Bench, server: &Server, mitras: usize) -> Result<(f64, f64)> {
    let before = server.call(Method::GET, "/internal/counts").await?;
    let began = Instant::now();
    bench.stores().await?.valkey.raw()?.ask(&[b"FLUSHALL"])?;
    let mut right = None;
    loop {
        let now = server.call(Method::GET, "/internal/counts").await?;
        let since = began.elapsed();
        // The counts of before the fall are of the old epoch.
        if now["epoch"] != before["epoch"] && now["counts"]["available"] == mitras {
            let first = *right.get_or_insert(since.as_secs_f64());
            if now["source"] == "valkey" {
                return Ok((first, since.as_secs_f64()));
            }
        }
        ensure!(since < PATIENCE, "the mirror is not rebuilt: {now}");
        sleep(LOOK).await;
    }
}
