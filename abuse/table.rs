//! The table of a run, as Markdown and as JSON.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;
use serde::Serialize;

use crate::{
    kit::machine::Facts,
    outcome::{Outcome, Phases},
    tally::in_words,
};

/// All attacks, and how the figures came about.
#[derive(Serialize)]
pub struct Table {
    #[serde(flatten)]
    pub run: Facts,
    pub short: bool,
    pub attacks: Vec<Outcome>,
}

impl Table {
    /// An empty table of this machine.
    pub fn new(short: bool) -> Self {
        Self { run: Facts::of_this_run("abuse"), short, attacks: Vec::new() }
    }

    /// The whole as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.run);
        text.push_str(
            "| attack | tried | the server's answers | memory, MiB | descriptors | CPU, % of a core | ping p99, ms | slowest newcomer, ms | verdict |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for attack in &self.attacks {
            let _written = writeln!(text, "{}", line(attack));
        }
        text.push_str("\nThree figures are before / during / after the attack; during is the most there was.\n");
        text
    }

    /// Writes `table.md` and `table.json`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("table.md"), self.markdown())?;
        Ok(fs::write(folder.join("table.json"), serde_json::to_string_pretty(self)? + "\n")?)
    }
}

fn line(outcome: &Outcome) -> String {
    let Outcome { what, tally, resources, cpu_percent, ping_p99_ms, newcomer_ms, broken, .. } = outcome;
    let memory = three(&[resources.before.rss_mib, resources.during.rss_mib, resources.after.rss_mib], 0);
    let descriptors = format!(
        "{} / {} / {}",
        resources.before.descriptors, resources.during.descriptors, resources.after.descriptors
    );
    let Phases { before, during, after } = *cpu_percent;
    let cpu = three(&[before, during, after], 0);
    let Phases { before, during, after } = *ping_p99_ms;
    let pings = three(&[before, during, after], 1);
    let verdict = if broken.is_empty() { "no harm".to_owned() } else { format!("**harm**: {}", broken.join("; ")) };
    format!(
        "| {what} | {} connections, {} sent | {} | {memory} | {descriptors} | {cpu} | {pings} | {newcomer_ms:.0} | {verdict} |",
        tally.connections,
        tally.sent,
        in_words(&tally.answers),
    )
}

fn three(values: &[f64; 3], digits: usize) -> String {
    values.map(|value| format!("{value:.digits$}")).join(" / ")
}
