//! The rows of the matrix, a function each.

mod clients;
mod clocks;
mod disk;
mod failover;
mod feed;
mod mirror;
mod network;
mod nodes;
mod postgres;
mod refusals;
mod sessions;
mod valkey;

use std::{fs, path::Path};

use anyhow::{Result, bail};

use crate::{
    outcome::Outcome,
    stage::{Means, Scenery, Stage},
};

/// What the nodes give Valkey as a password; no log may hold it.
pub const PASSWORD: &str = "open-sesame-of-the-proof-kit";

/// A row by its name.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    /// Part of the short form.
    pub short: bool,
}

const fn row(name: &'static str, what: &'static str) -> Row {
    Row { name, what, short: false }
}

const fn short(name: &'static str, what: &'static str) -> Row {
    Row { name, what, short: true }
}

/// Every row, in the order of a run.
pub const ROWS: &[Row] = &[
    row("valkey-killed", "kill -9 of Valkey; it comes back empty"),
    short("valkey-frozen", "SIGSTOP of Valkey, a deactivation meanwhile, SIGCONT"),
    row("valkey-paused", "CLIENT PAUSE"),
    short("valkey-emptied", "FLUSHALL"),
    row("valkey-restarted", "kill -9 of Valkey, started at once, empty"),
    row("valkey-loading", "Valkey loads an older copy of itself for a while (LOADING)"),
    row("valkey-oom", "CONFIG SET maxmemory, noeviction"),
    row("valkey-evicting", "CONFIG SET maxmemory, allkeys-random"),
    row("valkey-noauth", "another password, every client killed"),
    row("valkey-maxclients", "CONFIG SET maxclients 1, every client killed"),
    row("valkey-readonly", "demoted to a replica (READONLY)"),
    row("valkey-failover", "Sentinel promotes a replica that lost acknowledged writes; the old primary thaws"),
    row("mirror-poisoned", "another program writes into the mirror's keys and channels"),
    row("mirror-foreign", "a node of another store on the same Valkey, without a prefix"),
    row("pubsub-cut", "CLIENT KILL TYPE pubsub, again and again"),
    row("pubsub-denied", "no subscription can be had"),
    row("pubsub-and-bell", "no subscription, and PostgreSQL rings no bell"),
    row("valkey-slow", "a proxy delays Valkey"),
    row("valkey-half-open", "a proxy forgets the connections to Valkey"),
    row("valkey-reset", "a proxy resets the connections to Valkey"),
    short("one-node-alone", "one of two nodes loses Valkey"),
    row("one-node-hangs", "one of two nodes hears nothing of Valkey"),
    short("postgres-stopped", "pg_ctl stop -m fast"),
    row("postgres-killed", "kill -9 of PostgreSQL"),
    row("postgres-frozen", "SIGSTOP of PostgreSQL and all its processes"),
    row("postgres-readonly", "default_transaction_read_only"),
    row("postgres-row-locked", "a transaction holds the rows of ten mitras"),
    row("one-node-no-postgres", "one of two nodes loses PostgreSQL"),
    row("both-killed", "kill -9 of Valkey and PostgreSQL"),
    row("both-frozen", "SIGSTOP of Valkey and PostgreSQL"),
    row("plain-sql", "another program deactivates by plain SQL"),
    row("bell-dead", "the listening connections are ended again and again; plain SQL"),
    row("triggers-disabled", "a write past the triggers, then a reseed"),
    row("postgres-restored", "an older dump is put back"),
    short("node-killed", "kill -9 of a node"),
    row("node-frozen", "SIGSTOP of a node past the offline time, SIGCONT"),
    row("rolling-restart", "SIGTERM of each node in turn"),
    row("reconnect-storm", "every mitra's connection is cut at once"),
    row("log-unwritable", "one node logs to a full disk, the other to a closed pipe; Valkey killed meanwhile"),
    row(disk::NAME, "the data folder of a node on SQLite takes nothing for a while"),
    row("descriptors", "a node has no descriptors left"),
    row("half-open-clients", "half of the phones vanish without a word"),
    row("short-gaps", "a thousand gaps of 1 to 29 s over two nodes"),
    row("stalled-readers", "customers that stopped reading"),
    row("slow-loris", "connections that never finish their request"),
    row("sessions-valkey-cut", "sessions begin and end while Valkey comes and goes"),
    row("clocks-apart", "a node's clock +5 minutes, PostgreSQL's -7"),
    row("clocks-apart-outage", "the same, and Valkey is away for a while"),
];

/// Carries a row out on a stage of its own.
///
/// # Errors
/// It could not be carried out.
pub async fn prove(name: &str, means: &Means<'_>, out: &Path) -> Result<Outcome> {
    if name == disk::NAME {
        return disk::full(means, out).await;
    }
    let mut stage = Stage::set(means, scenery(name)).await?;
    let outcome = on_stage(name, &mut stage, means).await;
    finish(name, stage, outcome, out).await
}

fn scenery(name: &str) -> Scenery {
    match name {
        "clocks-apart" | "clocks-apart-outage" => clocks::scenery(),
        "log-unwritable" => nodes::unwritable_scenery(),
        "valkey-failover" => Scenery { sentinel: true, ..Scenery::default() },
        "stalled-readers" => clients::stalled_scenery(),
        "short-gaps" => clients::gaps_scenery(),
        _ => Scenery::default(),
    }
}

async fn on_stage(name: &str, stage: &mut Stage, means: &Means<'_>) -> Result<Outcome> {
    match name {
        "valkey-killed" => valkey::killed(stage).await,
        "valkey-frozen" => valkey::frozen(stage).await,
        "valkey-paused" => valkey::paused(stage).await,
        "valkey-emptied" => valkey::emptied(stage).await,
        "valkey-restarted" => valkey::restarted(stage).await,
        "valkey-loading" => valkey::loading(stage).await,
        "valkey-oom" => refusals::out_of_memory(stage).await,
        "valkey-evicting" => refusals::evicting(stage).await,
        "valkey-noauth" => refusals::no_password(stage).await,
        "valkey-maxclients" => refusals::no_clients(stage).await,
        "valkey-readonly" => refusals::read_only(stage).await,
        "valkey-failover" => failover::lost_writes(stage).await,
        "mirror-poisoned" => mirror::poisoned(stage).await,
        "mirror-foreign" => mirror::foreign(stage, means).await,
        "pubsub-cut" => network::pubsub_cut(stage).await,
        "pubsub-denied" => network::pubsub_denied(stage).await,
        "pubsub-and-bell" => network::pubsub_and_bell(stage).await,
        "valkey-slow" => network::slow(stage).await,
        "valkey-half-open" => network::half_open(stage).await,
        "valkey-reset" => network::reset(stage).await,
        "one-node-alone" => network::one_node_alone(stage).await,
        "one-node-hangs" => network::one_node_hangs(stage).await,
        "postgres-stopped" => postgres::stopped(stage).await,
        "postgres-killed" => postgres::killed(stage).await,
        "postgres-frozen" => postgres::frozen(stage).await,
        "postgres-readonly" => postgres::read_only(stage).await,
        "postgres-row-locked" => postgres::row_locked(stage).await,
        "one-node-no-postgres" => postgres::one_node(stage).await,
        "both-killed" => postgres::both_killed(stage).await,
        "both-frozen" => postgres::both_frozen(stage).await,
        "plain-sql" => feed::plain_sql(stage).await,
        "bell-dead" => feed::bell_dead(stage).await,
        "triggers-disabled" => feed::triggers_disabled(stage).await,
        "postgres-restored" => feed::restored(stage, means).await,
        "node-killed" => nodes::killed(stage).await,
        "node-frozen" => nodes::frozen(stage).await,
        "rolling-restart" => nodes::rolling(stage).await,
        "reconnect-storm" => nodes::storm(stage).await,
        "log-unwritable" => nodes::log_unwritable(stage).await,
        "descriptors" => nodes::no_descriptors(stage).await,
        "half-open-clients" => clients::half_open(stage).await,
        "short-gaps" => clients::gaps(stage).await,
        "stalled-readers" => clients::stalled(stage).await,
        "slow-loris" => clients::slow_loris(stage).await,
        "sessions-valkey-cut" => sessions::valkey_cut(stage).await,
        "clocks-apart" => clocks::apart(stage).await,
        "clocks-apart-outage" => clocks::outage(stage).await,
        other => bail!("there is no row {other}"),
    }
}

/// Keeps the nodes' logs of a row that broke a promise, and strikes the stage.
async fn finish(name: &str, stage: Stage, outcome: Result<Outcome>, out: &Path) -> Result<Outcome> {
    if !matches!(&outcome, Ok(outcome) if outcome.is_kept()) {
        fs::create_dir_all(out)?;
        for (number, node) in stage.nodes.iter().enumerate() {
            fs::write(out.join(format!("{name}-node-{number}.log")), node.log())?;
        }
    }
    stage.strike().await?;
    outcome
}
