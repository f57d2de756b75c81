//! Sockets at rest: what a connected, beating fleet costs in CPU, and in round trips to Valkey.

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
    "hlen",
    "hmget",
    "hset",
    "ltrim",
    "mget",
    "mset",
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
    "exists",
    "pexpire",
];

/// Mitras that beat at their cadence: CPU per socket, Valkey's CPU, round trips.
pub async fn heartbeats(bench: &Bench) -> Result<Vec<Line>> {
    let sockets = bench.sizes.sockets;
    let every = bench.sizes.beat_seconds;
    let settings = [("HEARTBEAT_INTERVAL_SECONDS", "15"), ("HADIR_LIMIT_MESSAGES_PER_SECOND", "100")];

    let floor = Floor::start(None).await?;
    let mut fleet = Fleet::start(sockets)?;
    fleet.dial(&Dial { path: "/ws/mitra".to_owned(), until: None, sockets, ..bare_watchers(&floor) }).await?;
    fleet.tell(&Order::Beat { every_seconds: every }).await?;
    let bare = at_rest(bench, &[floor.usage]).await?[0];
    fleet.tell(&Order::HangUp).await?;
    drop((fleet, floor));

    let valkey = &bench.stores().await?.valkey;
    let server = bench.clustered(sockets, &settings).await?;
    let mut fleet = Fleet::start(sockets)?;
    fleet.dial(&server.mitras(0, sockets, true)).await?;
    fleet.tell(&Order::Beat { every_seconds: every }).await?;
    // A whole cadence first, so that everybody beats in the flow of the others.
    sleep(Duration::from_secs_f64(every)).await;
    let mut raw = valkey.raw()?;
    let (trips, beats) = (round_trips(&mut raw)?, server.metric("hadir_heartbeats_total").await?);
    let own = server.metric("hadir_mirror_commands_total").await?;
    let cpu = at_rest(bench, &[server.usage, valkey.usage()?]).await?;
    let trips = round_trips(&mut raw)? - trips;
    let own = server.metric("hadir_mirror_commands_total").await? - own;
    let beats = server.metric("hadir_heartbeats_total").await? - beats;
    fleet.tell(&Order::HangUp).await?;
    server.stop().await?;

    let row = "heartbeats";
    let note = format!("{trips} in {beats} heartbeats, as Valkey counts; {own} as the server counts");
    Ok(vec![
        Line::alone(row, format!("Valkey round trips per heartbeat at {sockets} mitras"), "", trips.max(own) / beats)
            .beside("one SET each", 1.0)
            .goal(Goal::AtMost(0.01))
            .note(note),
        Line::alone(row, format!("CPU per idle mitra socket, a ping each {every} s, with Valkey"), "µs/s", cpu[0])
            .beside("bare socket, the same pings", bare)
            .goal(Goal::RatioAtMost(1.25)),
        Line::alone(row, "Valkey's own CPU per such mitra", "µs/s", cpu[1]).goal(Goal::AtMost(0.2)),
    ])
}

/// Watchers that only wait, pinged by the server at its cadence.
pub async fn watchers(bench: &Bench) -> Result<Vec<Line>> {
    let sockets = bench.sizes.sockets;
    let every = bench.sizes.beat_seconds;
    let floor = Floor::start(Some(every)).await?;
    let mut fleet = Fleet::start(sockets)?;
    fleet.dial(&Dial { sockets, ..bare_watchers(&floor) }).await?;
    sleep(Duration::from_secs_f64(every)).await;
    let bare = at_rest(bench, &[floor.usage]).await?[0];
    fleet.tell(&Order::HangUp).await?;
    drop((fleet, floor));

    let settings = [("HEARTBEAT_INTERVAL_SECONDS", every.to_string())];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let valkey = &bench.stores().await?.valkey;
    let server = bench.clustered(0, &settings).await?;
    let mut fleet = Fleet::start(sockets)?;
    fleet.dial(&server.watchers(0, sockets)).await?;
    sleep(Duration::from_secs_f64(every)).await;
    let cpu = at_rest(bench, &[server.usage, valkey.usage()?]).await?;
    fleet.tell(&Order::HangUp).await?;
    server.stop().await?;
    let what = format!("CPU per idle watcher socket, a ping each {every} s, a frame each 30 s");
    Ok(vec![
        Line::alone("watchers", what, "µs/s", cpu[0])
            .beside("bare socket, the same pings", bare)
            .goal(Goal::RatioAtMost(1.25)),
        Line::alone("watchers", "Valkey's own CPU beside them", "µs/s", cpu[1]),
    ])
}

/// CPU per socket of each process over the time of rest, microseconds a second.
async fn at_rest(bench: &Bench, processes: &[Usage]) -> Result<Vec<f64>> {
    let cpu = || processes.iter().map(|usage| usage.cpu()).collect::<Result<Vec<_>>>();
    let before = cpu()?;
    sleep(Duration::from_secs_f64(bench.sizes.idle_seconds)).await;
    let per_socket = |used: Duration| used.as_secs_f64() * 1e6 / bench.sizes.idle_seconds / bench.sizes.sockets as f64;
    Ok(cpu()?.into_iter().zip(before).map(|(after, before)| per_socket(after - before)).collect())
}

/// Commands that clients sent, as far as Valkey tells them from those inside scripts: scripts, and what no script runs.
pub fn round_trips(raw: &mut Raw) -> Result<f64> {
    let mut calls = 0.0;
    for (name, value) in raw.info("commandstats")? {
        let Some(command) = name.strip_prefix("cmdstat_") else { continue };
        let own_question = command.starts_with("info");
        if !own_question && !INSIDE_SCRIPTS.contains(&command) {
            let count = value.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
            calls += count.and_then(|count| count.parse::<f64>().ok()).unwrap_or(0.0);
        }
    }
    Ok(calls)
}
