//! Two nodes beside one: the same watchers spread over both, and what either costs Valkey. Its load grows with nodes and mitras,
//! never with watchers.

use anyhow::Result;
use tokio::time::{Duration, sleep};

use super::resting::round_trips;
use crate::{
    bench::Bench,
    fleet::orders::{Order, Report},
    kit::server::Server,
    kit::tokens::Role,
    table::Line,
    worker::Fleet,
};

const ROW: &str = "nodes";
/// The commander is mitra 0; watchers have other numbers.
const FIRST_WATCHER: u64 = 1_000;
const NO_LIMIT: &[(&str, &str)] =
    &[("HADIR_LIMIT_MESSAGES_PER_SECOND", "1000"), ("HADIR_LIMIT_BYTES_PER_SECOND", "100000000")];

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let sockets = bench.sizes.sockets;
    let database = bench.emptied().await?;
    let first = bench.node(&database, 1, NO_LIMIT).await?;
    let empty = valkey_calls(bench).await?;
    let mut fleet = Fleet::start(sockets)?;
    fleet.dial(&first.watchers(FIRST_WATCHER, sockets)).await?;
    let watched = valkey_calls(bench).await?;
    let alone = flips(bench, &mut fleet, &first).await?;
    fleet.tell(&Order::HangUp).await?;

    let second = bench.node(&database, 0, NO_LIMIT).await?;
    let mut fleet = Fleet::start(sockets)?;
    fleet.dial(&first.watchers(FIRST_WATCHER, sockets / 2)).await?;
    fleet.dial(&second.watchers(FIRST_WATCHER + sockets as u64, sockets - sockets / 2)).await?;
    let both = valkey_calls(bench).await?;
    let shared = flips(bench, &mut fleet, &first).await?;
    fleet.tell(&Order::HangUp).await?;
    second.stop().await?;
    first.stop().await?;

    let line = |what: &str, figure: fn(&Report) -> f64| {
        let what = format!("any-flip to {sockets} watchers on two nodes, from `ack` to {what}");
        Line::alone(ROW, what, "ms", figure(&shared)).beside("on one node", figure(&alone))
    };
    Ok(vec![
        line("the last, p50", |report| report.last.ms(0.5)),
        line("the last, p99", |report| report.last.ms(0.99)),
        Line::alone(ROW, format!("Valkey calls a second of one node with {sockets} watchers at rest"), "/s", watched)
            .beside("with none", empty),
        Line::alone(ROW, format!("Valkey calls a second of two nodes with {sockets} watchers"), "/s", both)
            .beside("one node", watched),
    ])
}

async fn flips(bench: &Bench, fleet: &mut Fleet, server: &Server) -> Result<Report> {
    let order = Order::Flip {
        address: server.public,
        path: "/ws/mitra".to_owned(),
        role: Some(Role::Mitra),
        subject: 0,
        rounds: bench.sizes.flips.next_multiple_of(2) + 1,
    };
    fleet.tell(&order).await
}

async fn valkey_calls(bench: &Bench) -> Result<f64> {
    let seconds = bench.sizes.burst_seconds * 2.0;
    let mut raw = bench.stores().await?.valkey.raw()?;
    let before = round_trips(&mut raw)?;
    sleep(Duration::from_secs_f64(seconds)).await;
    Ok((round_trips(&mut raw)? - before) / seconds)
}
