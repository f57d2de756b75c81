//! Sockets at rest: what a connected fleet that only beats or waits costs in CPU, and in round trips to Valkey. CPU per socket
//! is what comes on top of the same processes without sockets, which is told beside: a node ticks, whoever is there. Floor and
//! server hold their sockets at the same time and are looked at in the same minutes: what a waking costs depends on how warm
//! the cores are.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::memory::bare_watchers;
use crate::{
    bench::Bench,
    fleet::orders::Order,
    kit::processes::Usage,
    kit::resp::Raw,
    kit::socket::Dial,
    table::{Goal, Line},
    worker::{Fleet, Floor},
};

/// Commands that scripts run inside; Valkey counts those together with the clients' own. Everything else is a client's.
const INSIDE_SCRIPTS: &[&str] = &[
    "del",
    "get",
    "hdel",
    "hget",
    "hgetall",
    "hlen",
    "hmget",
    "hset",
    "ltrim",
    "mget",
    "mset",
    "pexpire",
    "publish",
    "rpush",
    "sadd",
    "scard",
    "set",
    "setex",
    "sismember",
    "smismember",
    "srem",
    "time",
    "zadd",
    "zcard",
    "zcount",
    "zmscore",
    "zrange",
    "zrangebyscore",
    "zrem",
    "zscore",
];
const RATIO: f64 = 1.25;
const VALKEY_US: f64 = 0.2;

/// Mitras that beat at their cadence: CPU per socket, Valkey's CPU, round trips.
pub async fn heartbeats(bench: &Bench) -> Result<Vec<Line>> {
    let row = "heartbeats";
    let sockets = bench.sizes.sockets;
    let every = bench.sizes.beat_seconds;
    let beat = Order::Beat { every_seconds: every };
    // A whole cadence first, so that everybody beats in the flow of the others.
    let in_flow = Duration::from_secs_f64(every);

    let floor = Floor::start(None).await?;
    let mut beside = Fleet::start(sockets)?;
    let valkey = &bench.stores().await?.valkey;
    let settings = [("HADIR_LIMIT_MESSAGES_PER_SECOND", "100"), ("HADIR_LIMIT_BYTES_PER_SECOND", "100000000")];
    let server = bench.clustered(sockets, &settings).await?;
    let mut fleet = Fleet::start(sockets)?;
    let processes = [server.usage, valkey.usage()?, floor.usage];
    let empty = at_rest(bench, &processes).await?;
    beside.dial(&Dial { path: "/ws/mitra".to_owned(), until: None, sockets, ..bare_watchers(&floor) }).await?;
    beside.tell(&beat).await?;
    fleet.dial(&server.mitras(0, sockets, true)).await?;
    fleet.tell(&beat).await?;
    sleep(in_flow).await;
    let mut raw = valkey.raw()?;
    let before = Calls::look(&mut raw)?;
    let (beats, own) =
        (server.metric("hadir_heartbeats_total").await?, server.metric("hadir_mirror_commands_total").await?);
    let full = at_rest(bench, &processes).await?;
    let calls = Calls::look(&mut raw)?.since(&before);
    let own = server.metric("hadir_mirror_commands_total").await? - own;
    let beats = server.metric("hadir_heartbeats_total").await? - beats;
    beside.tell(&Order::HangUp).await?;
    fleet.tell(&Order::HangUp).await?;
    server.stop().await?;

    let per_socket = |process: usize| (full[process] - empty[process]) / sockets as f64;
    let trips = format!("{} in {beats} heartbeats, as Valkey counts; {own} as the server counts", calls.trips);
    let scripts = calls.script_us / bench.sizes.idle_seconds / sockets as f64;
    let whole =
        format!("in scripts {scripts:.2} with all that the node asks; without mitras {:.0} µs/s in all", empty[1]);
    Ok(vec![
        Line::alone(
            row,
            format!("Valkey round trips per heartbeat at {sockets} mitras"),
            "",
            calls.trips.max(own) / beats,
        )
        .beside("one SET each", 1.0)
        .goal(Goal::AtMost(0.01))
        .note(trips),
        Line::alone(
            row,
            format!("CPU per idle mitra socket, a ping each {every} s, with Valkey"),
            "µs/s",
            per_socket(0),
        )
        .beside("bare socket, the same pings", per_socket(2))
        .goal(Goal::RatioAtMost(RATIO))
        .note(format!("the node without sockets {:.0} µs/s", empty[0])),
        Line::alone(row, "Valkey's own CPU per such mitra", "µs/s", per_socket(1))
            .goal(Goal::AtMost(VALKEY_US))
            .note(whole),
    ])
}

/// Watchers that only wait, pinged by the server at its cadence.
pub async fn watchers(bench: &Bench) -> Result<Vec<Line>> {
    let sockets = bench.sizes.sockets;
    let every = bench.sizes.beat_seconds;
    let in_flow = Duration::from_secs_f64(every);
    let floor = Floor::start(Some(every)).await?;
    let mut beside = Fleet::start(sockets)?;
    let cadence = every.to_string();
    let server = bench.embedded(0, &[("HEARTBEAT_INTERVAL_SECONDS", &cadence)]).await?;
    let mut fleet = Fleet::start(sockets)?;
    let processes = [server.usage, floor.usage];
    let empty = at_rest(bench, &processes).await?;
    beside.dial(&Dial { sockets, ..bare_watchers(&floor) }).await?;
    fleet.dial(&server.watchers(0, sockets)).await?;
    sleep(in_flow).await;
    let full = at_rest(bench, &processes).await?;
    beside.tell(&Order::HangUp).await?;
    fleet.tell(&Order::HangUp).await?;
    server.stop().await?;
    let per_socket = |process: usize| (full[process] - empty[process]) / sockets as f64;
    let what = format!("CPU per idle watcher socket, a ping each {every} s, and the newest frame with it");
    Ok(vec![
        Line::alone("watchers", what, "µs/s", per_socket(0))
            .beside("bare socket, the same pings, no frames", per_socket(1))
            .goal(Goal::RatioAtMost(RATIO))
            .note(format!("the node without sockets {:.0} µs/s", empty[0])),
    ])
}

/// CPU of each process over the time of rest, microseconds a second.
async fn at_rest(bench: &Bench, processes: &[Usage]) -> Result<Vec<f64>> {
    let cpu = || processes.iter().map(|usage| usage.cpu()).collect::<Result<Vec<_>>>();
    let before = cpu()?;
    sleep(Duration::from_secs_f64(bench.sizes.idle_seconds)).await;
    let a_second = |used: Duration| used.as_secs_f64() * 1e6 / bench.sizes.idle_seconds;
    Ok(cpu()?.into_iter().zip(before).map(|(after, before)| a_second(after - before)).collect())
}

/// What Valkey counted since it began.
struct Calls {
    /// Commands of clients.
    trips: f64,
    /// Time in scripts, microseconds.
    script_us: f64,
}

impl Calls {
    fn look(raw: &mut Raw) -> Result<Self> {
        let mut calls = Self { trips: 0.0, script_us: 0.0 };
        for (name, value) in raw.info("commandstats")? {
            let Some(command) = name.strip_prefix("cmdstat_") else { continue };
            let number = |wanted: &str| {
                let pairs = value.split(',').filter_map(|pair| pair.split_once('='));
                pairs.filter(|(name, _)| *name == wanted).find_map(|(_, number)| number.parse::<f64>().ok())
            };
            let own_question = command.starts_with("info");
            if !own_question && !INSIDE_SCRIPTS.contains(&command) {
                calls.trips += number("calls").unwrap_or(0.0);
            }
            if command.starts_with("eval") {
                calls.script_us += number("usec").unwrap_or(0.0);
            }
        }
        Ok(calls)
    }

    fn since(&self, before: &Self) -> Self {
        Self { trips: self.trips - before.trips, script_us: self.script_us - before.script_us }
    }
}

/// Commands that clients sent, as far as Valkey tells them from those inside scripts: scripts, and what no script runs.
pub fn round_trips(raw: &mut Raw) -> Result<f64> {
    Ok(Calls::look(raw)?.trips)
}
