//! The table of a run, as Markdown and as JSON.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;
use serde::Serialize;

use crate::{kit::machine::Facts, outcome::Outcome};

/// All rows, and how they came about.
#[derive(Serialize)]
pub struct Table {
    #[serde(flatten)]
    pub run: Facts,
    pub mitras: u64,
    pub rows: Vec<Outcome>,
}

impl Table {
    /// An empty table of this machine.
    pub fn new(mitras: u64) -> Self {
        Self { run: Facts::of_this_run("prove"), mitras, rows: Vec::new() }
    }

    /// The whole as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("{} · mitras: {}\n\n", self.run, self.mitras);
        text.push_str(
            "| fault | injected by | detected after | wrong offline | false \"nobody\" | ghost: deactivated / silent | truth after | verdict |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let _written = writeln!(text, "{}", line(row));
        }
        text.push_str("\nAll times in seconds.\n");
        let notes = self.rows.iter().filter(|row| !row.notes.is_empty());
        for row in notes {
            let _written = write!(text, "\n- **{}**: {}", row.fault, row.notes.join("; "));
        }
        text.push('\n');
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

fn time(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.2}"))
}

fn line(row: &Outcome) -> String {
    let ghost = format!("{} / {}", time(row.ghost_deactivated), time(row.ghost_silent));
    let verdict = if row.is_kept() { "kept".to_owned() } else { format!("**broken**: {}", row.broken.join("; ")) };
    format!(
        "| {} | {} | {} | {} | {} | {ghost} | {} | {verdict} |",
        row.fault,
        row.injected,
        time(row.detect),
        row.wrong_offline,
        row.false_empty,
        time(row.truth),
    )
}
