//! The run: which rows, in which order, and the table.

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{
    arguments::Run,
    kit::server,
    rows::{self, ROWS},
    stage::Means,
    table::Table,
};

/// Mitras of a run, and of a short one.
const MITRAS: (u64, u64) = (200, 60);

/// Runs the rows, prints each as it comes and writes the table. Returns whether every promise was kept.
///
/// # Errors
/// A row could not be carried out at all.
pub async fn run(run: Run) -> Result<bool> {
    if run.list {
        ROWS.iter()
            .for_each(|row| println!("{:18} {}{}", row.name, row.what, if row.short { " (short form)" } else { "" }));
        return Ok(true);
    }
    if let Some(unknown) = run.rows.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        bail!("there is no row {unknown}; there are {}", names.join(", "));
    }
    let binary = match run.server {
        Some(path) => path.canonicalize().with_context(|| format!("{} is not there", path.display()))?,
        None => tokio::task::spawn_blocking(|| server::release_binary("prove")).await??,
    };
    let mitras = run.mitras.unwrap_or(if run.short { MITRAS.1 } else { MITRAS.0 });
    let means = Means { binary: &binary, mitras, short: run.short };
    let mut table = Table::new(mitras);
    let began = Instant::now();
    let chosen = |row: &&rows::Row| match run.rows.as_slice() {
        [] => !run.short || row.short,
        names => names.iter().any(|name| name == row.name),
    };
    for row in ROWS.iter().filter(chosen) {
        let since = Instant::now();
        let outcome = rows::prove(row.name, &means, &run.out).await.with_context(|| format!("row {}", row.name))?;
        eprintln!(
            "{}: {} ({:.0} s)",
            row.name,
            if outcome.is_kept() { "kept" } else { "BROKEN" },
            since.elapsed().as_secs_f64()
        );
        outcome.broken.iter().for_each(|broken| eprintln!("  broken: {broken}"));
        table.rows.push(outcome);
        // After each row, so that what was found survives what comes.
        table.write(&run.out)?;
    }
    println!("{}", table.markdown());
    eprintln!("{:.0} s; written to {}", began.elapsed().as_secs_f64(), run.out.display());
    Ok(table.rows.iter().all(crate::outcome::Outcome::is_kept))
}
