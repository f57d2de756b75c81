//! The rows of the matrix, a function each.

mod postgres;
mod valkey;

use std::{fs, path::Path};

use anyhow::{Result, bail};

use crate::{
    outcome::Outcome,
    stage::{Means, Scenery, Stage},
};

/// What Valkey is given as a password; no log may hold it.
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
    short("valkey-killed", "kill -9 of Valkey; it comes back empty"),
    short("valkey-frozen", "SIGSTOP of Valkey, a deactivation meanwhile, SIGCONT"),
    short("valkey-emptied", "FLUSHALL"),
    row("pubsub-cut", "CLIENT KILL TYPE pubsub, again and again"),
    short("one-node-alone", "one of two nodes loses Valkey"),
    short("postgres-stopped", "pg_ctl stop -m fast"),
    row("postgres-killed", "kill -9 of PostgreSQL"),
    row("postgres-frozen", "SIGSTOP of PostgreSQL and all its processes"),
];

/// Carries a row out on a stage of its own.
///
/// # Errors
/// It could not be carried out.
pub async fn prove(name: &str, means: &Means<'_>, out: &Path) -> Result<Outcome> {
    let mut stage = Stage::set(means, Scenery::default()).await?;
    let outcome = match name {
        "valkey-killed" => valkey::killed(&mut stage).await,
        "valkey-frozen" => valkey::frozen(&mut stage).await,
        "valkey-emptied" => valkey::emptied(&mut stage).await,
        "pubsub-cut" => valkey::pubsub_cut(&mut stage).await,
        "one-node-alone" => valkey::one_node_alone(&mut stage).await,
        "postgres-stopped" => postgres::stopped(&mut stage).await,
        "postgres-killed" => postgres::killed(&mut stage).await,
        "postgres-frozen" => postgres::frozen(&mut stage).await,
        other => bail!("there is no row {other}"),
    };
    if !matches!(&outcome, Ok(outcome) if outcome.is_kept()) {
        fs::create_dir_all(out)?;
        for (number, node) in stage.nodes.iter().enumerate() {
            fs::write(out.join(format!("{name}-node-{number}.log")), node.log())?;
        }
    }
    stage.strike().await?;
    outcome
}
