//! The attacks: each with its name, what it is, and how many connections its full size is.

mod connections;
mod frames;
mod readers;
mod target;
mod upgrades;

use std::sync::Arc;

use anyhow::{Context, Result};

use self::target::Target;
use crate::arguments::Order;

/// The attacker may not take the server's share of the cores: a real one sits on another machine.
const NICENESS: i32 = 10;

/// One attack.
pub struct Attack {
    pub name: &'static str,
    pub what: &'static str,
    /// Connections at the same time, at full size.
    pub size: usize,
}

const fn attack(name: &'static str, size: usize, what: &'static str) -> Attack {
    Attack { name, what, size }
}

/// All of them, in the order of a run.
pub const ALL: &[Attack] = &[
    attack("silent-connections", 3_000, "connections of one address that send nothing"),
    attack("idle-connections", 1_500, "connections of one address that stay idle after one request"),
    attack("slow-heads", 500, "requests whose head arrives a byte at a time"),
    attack("slow-bodies", 200, "requests whose body arrives a byte at a time"),
    attack("resets", 16, "connections that are reset as soon as they are open, without pause"),
    attack("garbage", 32, "bytes that are no HTTP, without pause"),
    attack("bad-tokens", 32, "upgrades with a forged token, without pause"),
    attack("no-first-message", 1_000, "sockets of one address that never say who they are"),
    attack("one-subject", 300, "sockets of one customer"),
    attack("one-mitra", 100, "sockets of one mitra, opened again when they are replaced"),
    attack("messages", 50, "mitras that ping without pause"),
    attack("pings", 50, "protocol pings without pause"),
    attack("endless-fragments", 50, "messages of empty fragments without end"),
    attack("bytes", 50, "texts of 4,000 bytes without pause"),
    attack("deep-json", 50, "JSON a thousand levels deep"),
    attack("huge-frames", 50, "frames that claim to be 4 EiB long"),
    attack("requests", 32, "requests over kept connections without pause"),
    attack("unread-answers", 100, "requests without pause whose answers are not read"),
    attack("unread-streams", 200, "event streams that are not read"),
];

/// The attack of this name.
pub fn named(name: &str) -> Option<&'static Attack> {
    ALL.iter().find(|attack| attack.name == name)
}

/// Carries one out and prints its tally as a line of JSON.
///
/// # Errors
/// The order names no attack.
pub async fn run(order: Order) -> Result<()> {
    rustix::process::nice(NICENESS)?;
    let attack = named(&order.attack).context("there is no such attack")?;
    let target = Arc::new(Target::new(&order));
    let (size, target) = (((attack.size as f64 * order.share) as usize).max(1), &target);
    match attack.name {
        "silent-connections" => target.swarm(size, connections::silent).await,
        "idle-connections" => target.swarm(size, connections::idle).await,
        "slow-heads" => target.swarm(size, connections::slow_head).await,
        "slow-bodies" => target.swarm(size, connections::slow_body).await,
        "resets" => target.swarm(size, connections::reset).await,
        "garbage" => target.swarm(size, connections::garbage).await,
        "bad-tokens" => target.swarm(size, upgrades::bad_token).await,
        "no-first-message" => target.swarm(size, upgrades::no_first_message).await,
        "one-subject" => target.swarm(size, upgrades::one_customer).await,
        "one-mitra" => target.swarm(size, upgrades::one_mitra).await,
        "messages" => target.swarm(size, frames::messages).await,
        "pings" => target.swarm(size, frames::pings).await,
        "endless-fragments" => target.swarm(size, frames::fragments).await,
        "bytes" => target.swarm(size, frames::bytes).await,
        "deep-json" => target.swarm(size, frames::deep_json).await,
        "huge-frames" => target.swarm(size, frames::huge).await,
        "requests" => target.swarm(size, readers::requests).await,
        "unread-answers" => target.swarm(size, readers::unread_answers).await,
        "unread-streams" => target.swarm(size, readers::unread_streams).await,
        other => unreachable!("{other} is in the list"),
    }
    println!("{}", serde_json::to_string(&target.counter.tally())?);
    Ok(())
}
