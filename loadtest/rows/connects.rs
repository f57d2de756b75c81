//! Connects a second: dial, token, upgrade, `welcome` and the first snapshot or status, beside a bare upgrade. Server and floor
//! take turns.

use anyhow::Result;

use super::{median, memory::bare_watchers};
use crate::{
    bench::Bench,
    fleet::orders::Order,
    kit::socket::Dial,
    table::{Goal, Line},
    worker::{Fleet, Floor},
};

const ROW: &str = "connects";
const LEAST: f64 = 0.7;

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let sockets = bench.sizes.dials;
    let floor = Floor::start(None).await?;
    let bare = Dial { path: "/bare".to_owned(), until: None, sockets, ..bare_watchers(&floor) };
    let embedded = bench.embedded(sockets, &[]).await?;
    let watchers = beside(bench, &bare, &embedded.watchers(0, sockets)).await?;
    let mitras = beside(bench, &bare, &embedded.mitras(0, sockets, false)).await?;
    embedded.stop().await?;
    let clustered = bench.clustered(sockets, &[]).await?;
    let postgres = beside(bench, &bare, &clustered.mitras(0, sockets, false)).await?;
    clustered.stop().await?;
    let line = |what: &str, (rate, bare): (f64, f64)| Line::alone(ROW, what, "/s", rate).beside("bare upgrade", bare);
    Ok(vec![
        line("connects a second with a token, up to the first snapshot", watchers).goal(Goal::RatioAtLeast(LEAST)),
        line("the same of mitras, up to the first status, SQLite", mitras),
        line("the same of mitras, Postgres", postgres),
    ])
}

/// The rate of a dial and of the bare one, median of the turns' ratios.
async fn beside(bench: &Bench, bare: &Dial, dial: &Dial) -> Result<(f64, f64)> {
    let mut rates = Vec::new();
    for _ in 0..bench.sizes.turns {
        rates.push((rate(dial).await?, rate(bare).await?));
    }
    let bare = median(rates.iter().map(|(_, bare)| *bare).collect());
    Ok((bare * median(rates.iter().map(|(rate, bare)| rate / bare).collect()), bare))
}

async fn rate(dial: &Dial) -> Result<f64> {
    let mut fleet = Fleet::start(dial.sockets)?;
    let report = fleet.dial(dial).await?;
    fleet.tell(&Order::HangUp).await?;
    Ok(report.rate())
}
