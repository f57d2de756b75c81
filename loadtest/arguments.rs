//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Measures Hadir against a bare floor in the same run; prints ratios, writes Markdown and JSON.
#[derive(Parser)]
#[command(name = "loadtest", disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub part: Option<Part>,
    #[command(flatten)]
    pub run: Run,
}

/// What to measure.
#[derive(Args, Clone)]
pub struct Run {
    /// Small sizes, under a minute: proves that everything works and judges no figure.
    #[arg(long)]
    pub short: bool,
    /// Only these rows, comma separated; `--rows list` names them.
    #[arg(long, value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Fleets of this size and smaller ones only, where a row goes through several: a million takes its time.
    #[arg(long, value_name = "MITRAS")]
    pub largest: Option<usize>,
    /// Folder for table.md and table.json.
    #[arg(long, default_value = "target/loadtest")]
    pub out: PathBuf,
    /// The server's binary; otherwise target/release/hadir, built when it is missing or old.
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// One more variable in the server's environment, `NAME=VALUE`; may repeat. To compare settings.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub settings: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Parts that the benchmark starts as processes of their own; not for people.
#[derive(Subcommand)]
pub enum Part {
    /// The bare server that Hadir is compared with.
    #[command(hide = true)]
    Floor {
        /// Pings each socket at this cadence.
        #[arg(long)]
        ping_seconds: Option<f64>,
    },
    /// Clients.
    #[command(hide = true)]
    Fleet {
        /// How many sockets it can hold.
        #[arg(long)]
        sockets: usize,
    },
    /// Runs a program for as long as somebody holds the other end of its standard input.
    #[command(hide = true)]
    Keeper {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        program: Vec<String>,
    },
}
