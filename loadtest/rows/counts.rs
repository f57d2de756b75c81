//! Counting and finding available mitras, by REST, beside the walk that a service without indexes does: the difference of the
//! two sets, then capacity and heartbeat of every id, pipelined, then a filter.

use std::time::Instant;

use anyhow::{Result, ensure};
use chrono::{Duration, Utc};
use reqwest::Method;

use super::median;
use crate::{
    bench::Bench,
    fleet::orders::{Ask, Order},
    kit::resp::{Answer, Raw},
    kit::server::Server,
    kit::tokens::Role,
    table::{Goal, Line, plain},
    worker::Fleet,
};

const ROW: &str = "counts";
const WALKS: usize = 3;
const WANTED: usize = 50;
/// Where the goals are set.
const JUDGED: usize = 100_000;

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut counts = Vec::new();
    for mitras in bench.fleets() {
        let server = bench.all_online(mitras).await?;
        let counted = server.call(Method::GET, "/internal/counts").await?;
        ensure!(counted["counts"]["available"] == mitras, "not everybody is available: {counted}");
        ensure!(counted["source"] == "valkey", "the answer is not Valkey's: {counted}");
        let raw = bench.stores().await?.valkey.raw()?;
        let walk = tokio::task::spawn_blocking(move || walks(raw, mitras)).await??;
        let count = asked(bench, &server, "/internal/counts").await?;
        let found = asked(bench, &server, &format!("/internal/mitras/available?limit={WANTED}")).await?;
        server.stop().await?;
        let goal = |least| if mitras == JUDGED { Goal::RatioAtMost(1.0 / least) } else { Goal::Told };
        let line = |what: String, figure, least: f64| {
            let note = format!("{} times as fast", plain(walk / figure));
            Line::alone(ROW, what, "ms", figure).beside("the walk", walk).goal(goal(least)).note(note)
        };
        lines.push(line(format!("count of available at {mitras} mitras"), count, 500.0));
        lines.push(line(format!("find {WANTED} available of {mitras}"), found, 100.0));
        counts.push(count);
    }
    if let (Some(first), Some(last)) = (counts.first(), counts.last()) {
        let what = "count at the largest fleet beside the smallest: flat";
        lines.push(Line::alone(ROW, what, "ms", *last).beside("smallest", *first));
    }
    Ok(lines)
}

/// Median time of a REST question over one connection, milliseconds.
async fn asked(bench: &Bench, server: &Server, path: &str) -> Result<f64> {
    let ask = Ask {
        address: server.internal,
        path: path.to_owned(),
        role: Some(Role::Service),
        connections: 1,
        seconds: bench.sizes.ask_seconds,
        conditional: false,
        expect_status: 200,
        each: None,
    };
    Ok(Fleet::start(0)?.tell(&Order::Ask(ask)).await?.each.ms(0.5))
}

fn walks(mut raw: Raw, expected: usize) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..WALKS {
        let began = Instant::now();
        let found = walk(&mut raw)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(found == expected, "the walk finds {found} of {expected}");
    }
    Ok(median(times))
}

/// How many are available, by looking at each.
fn walk(raw: &mut Raw) -> Result<usize> {
    let Answer::List(ids) = raw.ask(&[b"SDIFF", b"mitras:online", b"mitras:deactivated"])? else { return Ok(0) };
    let keys = |beginning: &str| -> Vec<Vec<u8>> {
        let key = |id: &Answer| match id {
            Answer::Text(id) => [beginning.as_bytes(), id].concat(),
            _ => Vec::new(),
        };
        ids.iter().map(key).collect()
    };
    let mut available = vec![true; ids.len()];
    // One session is the capacity of every mitra here; absent means none.
    raw.pipelined(b"GET", &keys("mitra:capacity:"), |index, load| {
        available[index] = matches!(load, Answer::Nil) || load == Answer::Text(b"0".to_vec());
    })?;
    // ISO times of one form compare as text.
    let fresh_from = (Utc::now() - Duration::seconds(7_200)).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().into_bytes();
    raw.pipelined(b"GET", &keys("mitra:heartbeat:"), |index, at| {
        available[index] &= matches!(at, Answer::Text(at) if at >= fresh_from);
    })?;
    Ok(available.into_iter().filter(|available| *available).count())
}
