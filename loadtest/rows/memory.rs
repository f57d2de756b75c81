//! Resident memory per idle socket: the slope between few and many sockets, after one ping and one snapshot each. A slope,
//! because what a process holds before its first socket is not a cost per socket.

use std::time::Duration;

use anyhow::Result;

use crate::{
    bench::Bench,
    fleet::orders::Order,
    kit::processes::Usage,
    kit::socket::Dial,
    table::{Goal, Line},
    worker::{Fleet, Floor},
};

const ROW: &str = "memory";
const WATCHER_BYTES: f64 = 4_000.0;
const MITRA_BYTES: f64 = 5_000.0;

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mitras = bench.sizes.many_sockets;
    let floor = Floor::start(None).await?;
    let bare = slope(bench, floor.usage, &bare_watchers(&floor)).await?;
    drop(floor);

    let server = bench.embedded(0, &[]).await?;
    let watcher = slope(bench, server.usage, &server.watchers(0, 0)).await?;
    server.stop().await?;
    let server = bench.embedded(mitras, &[]).await?;
    let embedded = slope(bench, server.usage, &server.mitras(0, 0, true)).await?;
    server.stop().await?;
    let server = bench.clustered(mitras, &[]).await?;
    let clustered = slope(bench, server.usage, &server.mitras(0, 0, true)).await?;
    server.stop().await?;

    let line = |what: &str, bytes: f64, most: f64| {
        Line::alone(ROW, what, "bytes", bytes).beside("bare socket", bare).goal(Goal::AtMost(most))
    };
    Ok(vec![
        line("RSS per idle, authenticated watcher socket", watcher, WATCHER_BYTES),
        line("RSS per idle, authenticated, online mitra socket, with Valkey", clustered, MITRA_BYTES),
        line("the same, embedded (its mirror is in this process)", embedded, MITRA_BYTES),
    ])
}

/// Watchers of the floor.
pub fn bare_watchers(floor: &Floor) -> Dial {
    Dial {
        address: floor.address,
        path: "/ws/availability".to_owned(),
        role: None,
        first_subject: 0,
        sockets: 0,
        at_once: 64,
        until: Some("availability".to_owned()),
        online: false,
    }
}

/// Bytes per socket.
async fn slope(bench: &Bench, usage: Usage, dial: &Dial) -> Result<f64> {
    let settles = Duration::from_secs_f64(bench.sizes.settle_seconds);
    let (few, many) = (bench.sizes.few_sockets, bench.sizes.many_sockets);
    let mut fleet = Fleet::start(many)?;
    fleet.dial(&Dial { sockets: few, ..dial.clone() }).await?;
    fleet.tell(&Order::PingOnce).await?;
    let low = usage.settled_rss(settles).await?;
    let first_subject = dial.first_subject + few as u64;
    fleet.dial(&Dial { sockets: many - few, first_subject, ..dial.clone() }).await?;
    fleet.tell(&Order::PingOnce).await?;
    let high = usage.settled_rss(settles).await?;
    fleet.tell(&Order::HangUp).await?;
    Ok((high as f64 - low as f64) / (many - few) as f64)
}
