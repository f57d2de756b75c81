//! The table: each figure beside what it is compared with in the same run, its ratio, and what is to be reached.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;
use serde::Serialize;

use crate::kit::machine::Facts;

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The ratio to what it is compared with.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// The figure itself.
    AtMost(f64),
    /// There is none; it is told beside.
    Told,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub row: &'static str,
    pub what: String,
    pub unit: &'static str,
    /// What it is compared with.
    pub beside: String,
    pub beside_figure: Option<f64>,
    pub figure: f64,
    pub goal: Goal,
    pub note: String,
}

impl Line {
    /// A figure without comparison.
    pub fn alone(row: &'static str, what: impl Into<String>, unit: &'static str, figure: f64) -> Self {
        Self {
            row,
            what: what.into(),
            unit,
            beside: "–".to_owned(),
            beside_figure: None,
            figure,
            goal: Goal::Told,
            note: String::new(),
        }
    }

    /// The same beside another figure.
    pub fn beside(self, what: impl Into<String>, figure: f64) -> Self {
        Self { beside: what.into(), beside_figure: Some(figure), ..self }
    }

    /// What it is to reach.
    pub fn goal(self, goal: Goal) -> Self {
        Self { goal, ..self }
    }

    /// A remark.
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// The figure over what it is compared with.
    pub fn ratio(&self) -> Option<f64> {
        self.beside_figure.filter(|beside| *beside != 0.0).map(|beside| self.figure / beside)
    }

    /// Whether the goal is reached; `None` when there is none.
    pub fn reached(&self) -> Option<bool> {
        match self.goal {
            Goal::RatioAtMost(most) => self.ratio().map(|ratio| ratio <= most),
            Goal::RatioAtLeast(least) => self.ratio().map(|ratio| ratio >= least),
            Goal::AtMost(most) => Some(self.figure <= most),
            Goal::Told => None,
        }
    }

    fn markdown(&self) -> String {
        let figure = |value: f64| format!("{} {}", plain(value), self.unit).trim_end().to_owned();
        let beside =
            self.beside_figure.map_or(self.beside.clone(), |value| format!("{}: {}", self.beside, figure(value)));
        let goal = match self.goal {
            Goal::RatioAtMost(most) => format!("ratio ≤ {}", plain(most)),
            Goal::RatioAtLeast(least) => format!("ratio ≥ {}", plain(least)),
            Goal::AtMost(most) => format!("≤ {}", figure(most)),
            Goal::Told => String::new(),
        };
        let reached = self.reached().map_or("", |reached| if reached { "yes" } else { "**no**" });
        let ratio = self.ratio().map_or(String::new(), |ratio| format!("{}×", plain(ratio)));
        let what = if self.note.is_empty() { self.what.clone() } else { format!("{} ({})", self.what, self.note) };
        format!("| {what} | {beside} | {} | {ratio} | {goal} | {reached} |", figure(self.figure))
    }
}

/// Three digits that matter.
pub fn plain(value: f64) -> String {
    let digits = match value.abs() {
        size if size == 0.0 || size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size => (1.0 - size.log10().floor()) as usize + 1,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 && whole.as_bytes()[place - 1].is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    rest.map_or(grouped.clone(), |rest| format!("{grouped}.{rest}"))
}

/// Where and how the figures came about, and the figures.
#[derive(Serialize)]
pub struct Table {
    #[serde(flatten)]
    pub run: Facts,
    pub short: bool,
    pub lines: Vec<Line>,
}

impl Table {
    /// An empty table of this machine.
    pub fn new(short: bool) -> Self {
        Self { run: Facts::of_this_run("loadtest"), short, lines: Vec::new() }
    }

    /// The whole as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.run);
        text.push_str("| what | compared with, in the same run | Hadir | ratio | to reach | reached |\n");
        text.push_str("|---|---|---|---|---|---|\n");
        for line in &self.lines {
            let _written = writeln!(text, "{}", line.markdown());
        }
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
