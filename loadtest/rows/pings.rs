//! Pings a second: every socket pings as soon as it has its last pong. Server and floor take turns, so that whatever else the
//! machine does meets both; the figure is the median of the turns' ratios.

use std::time::Duration;

use anyhow::Result;

use super::{median, memory::bare_watchers};
use crate::{
    bench::Bench,
    fleet::orders::Order,
    kit::processes::Usage,
    kit::server::Server,
    kit::socket::Dial,
    table::{Goal, Line},
    worker::{Fleet, Floor},
};

const ROW: &str = "pings";
/// The rate limit is not what is measured.
const NO_LIMIT: &[(&str, &str)] =
    &[("HADIR_LIMIT_MESSAGES_PER_SECOND", "100000"), ("HADIR_LIMIT_BYTES_PER_SECOND", "100000000")];

pub async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for &sockets in bench.sizes.ping_fleets {
        let server = bench.embedded(sockets, NO_LIMIT).await?;
        lines.push(beside_floor(bench, &server, sockets, "embedded mirror", 0.9).await?);
        server.stop().await?;
    }
    for &sockets in bench.sizes.ping_fleets {
        let server = bench.clustered(sockets, NO_LIMIT).await?;
        lines.push(beside_floor(bench, &server, sockets, "Valkey on the same cores", 0.8).await?);
        server.stop().await?;
    }
    Ok(lines)
}

async fn beside_floor(bench: &Bench, server: &Server, sockets: usize, mirror: &str, goal: f64) -> Result<Line> {
    let floor = Floor::start(None).await?;
    let bare = Dial { path: "/ws/mitra".to_owned(), until: None, sockets, ..bare_watchers(&floor) };
    let (mut at_floor, mut at_server) = (Fleet::start(sockets)?, Fleet::start(sockets)?);
    at_floor.dial(&bare).await?;
    at_server.dial(&server.mitras(0, sockets, true)).await?;
    let mut turns = Vec::new();
    for _ in 0..bench.sizes.turns {
        let bare = burst(bench, &mut at_floor, floor.usage).await?;
        turns.push((burst(bench, &mut at_server, server.usage).await?, bare));
    }
    at_floor.tell(&Order::HangUp).await?;
    at_server.tell(&Order::HangUp).await?;
    let ratio = median(turns.iter().map(|(ours, bare)| ours.rate / bare.rate).collect());
    let bare = median(turns.iter().map(|(_, bare)| bare.rate).collect());
    let of_ours = |figure: fn(&Burst) -> f64| median(turns.iter().map(|(ours, _)| figure(ours)).collect());
    let of_bare = |figure: fn(&Burst) -> f64| median(turns.iter().map(|(_, bare)| figure(bare)).collect());
    let note = format!(
        "CPU of the server {:.1} µs a ping, of the floor {:.1}; p99 {:.1} ms, {:.1}",
        of_ours(|burst| burst.cpu_us),
        of_bare(|burst| burst.cpu_us),
        of_ours(|burst| burst.p99_ms),
        of_bare(|burst| burst.p99_ms),
    );
    let what = format!("pings a second over {sockets} mitra sockets, {mirror}");
    Ok(Line::alone(ROW, what, "/s", ratio * bare).beside("bare echo", bare).goal(Goal::RatioAtLeast(goal)).note(note))
}

struct Burst {
    rate: f64,
    cpu_us: f64,
    p99_ms: f64,
}

async fn burst(bench: &Bench, fleet: &mut Fleet, usage: Usage) -> Result<Burst> {
    let before = usage.cpu()?;
    let report = fleet.tell(&Order::PingHard { seconds: bench.sizes.burst_seconds }).await?;
    let cpu: Duration = usage.cpu()? - before;
    // Warm-up and the last pongs are in the CPU and not in the count: scaled by time.
    let share = report.seconds / (report.seconds + 0.5);
    let cpu_us = cpu.as_secs_f64() * share * 1e6 / report.done as f64;
    Ok(Burst { rate: report.rate(), cpu_us, p99_ms: report.each.ms(0.99) })
}
