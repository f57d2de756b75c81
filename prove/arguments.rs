//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Injects every fault that Hadir makes promises about, into real stores and real nodes, and prints what each one cost.
#[derive(Parser)]
#[command(name = "prove", disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub part: Option<Part>,
    #[command(flatten)]
    pub run: Run,
}

/// What to prove.
#[derive(Args, Clone)]
pub struct Run {
    /// The most telling rows with a small fleet; times are told and judged with patience, for slow machines and builds.
    #[arg(long)]
    pub short: bool,
    /// Only these rows, comma separated.
    #[arg(long, value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Names the rows and ends.
    #[arg(long)]
    pub list: bool,
    /// How many mitras beat, over both nodes (200; with --short 60).
    #[arg(long)]
    pub mitras: Option<u64>,
    /// Folder for table.md and table.json, and for the nodes' logs of rows that failed.
    #[arg(long, default_value = "target/prove")]
    pub out: PathBuf,
    /// The server's binary; otherwise target/release/hadir, built when it is missing or old.
    #[arg(long)]
    pub server: Option<PathBuf>,
}

/// Parts that the proof kit starts as processes of their own; not for people.
#[derive(Subcommand)]
pub enum Part {
    /// Runs a program for as long as somebody holds the other end of its standard input.
    #[command(hide = true)]
    Keeper {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        program: Vec<String>,
    },
}
