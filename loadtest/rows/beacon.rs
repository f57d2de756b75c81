//! The beacon by REST, over connections that stay: 200 with the body, and 304 for the tag that is still right. Beside an axum
//! handler that returns a constant.

use anyhow::Result;

use super::{median, resting::round_trips};
use crate::{
    bench::Bench,
    fleet::orders::{Ask, Order},
    kit::tokens::Role,
    table::{Goal, Line},
    worker::{Fleet, Floor},
};

const ROW: &str = "beacon";
const LEAST: f64 = 0.7;
const CONNECTIONS: usize = 32;

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let floor = Floor::start(None).await?;
    let valkey = &bench.stores().await?.valkey;
    let server = bench.clustered(0, &[]).await?;
    let ours = Ask {
        address: server.public,
        path: "/api/client/availability".to_owned(),
        role: Some(Role::Customer),
        connections: CONNECTIONS,
        seconds: bench.sizes.burst_seconds,
        conditional: false,
        expect_status: 200,
        each: None,
    };
    let bare = Ask { address: floor.address, path: "/constant".to_owned(), role: None, ..ours.clone() };
    let unchanged = Ask { conditional: true, expect_status: 304, ..ours.clone() };
    let mut raw = valkey.raw()?;
    let mut lines = Vec::new();
    for (what, ask) in [("200, with the body", &ours), ("304, the tag is still right", &unchanged)] {
        let (mut turns, mut trips, mut answers) = (Vec::new(), 0.0, 0.0);
        for _ in 0..bench.sizes.turns {
            let before = round_trips(&mut raw)?;
            let report = Fleet::start(0)?.tell(&Order::Ask(ask.clone())).await?;
            trips += round_trips(&mut raw)? - before;
            answers += report.done as f64;
            turns.push((report.rate(), Fleet::start(0)?.tell(&Order::Ask(bare.clone())).await?.rate()));
        }
        let constant = median(turns.iter().map(|(_, bare)| *bare).collect());
        let rate = constant * median(turns.iter().map(|(rate, bare)| rate / bare).collect());
        let note = format!("{trips} Valkey calls in {answers} answers: those of the node at rest");
        let what = format!("beacon by REST, {what}");
        let line = Line::alone(ROW, what, "/s", rate).beside("a constant", constant);
        lines.push(line.goal(Goal::RatioAtLeast(LEAST)).note(note));
    }
    server.stop().await?;
    Ok(lines)
}
