//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

/// Attacks a real server on loopback while 200 sockets ping, and prints what each attack cost.
#[derive(Parser)]
#[command(name = "abuse", disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub part: Option<Part>,
    #[command(flatten)]
    pub run: Run,
}

/// What to try.
#[derive(Args, Clone)]
pub struct Run {
    /// Small sizes, about a minute: proves that no attack does harm.
    #[arg(long)]
    pub short: bool,
    /// Only these attacks, comma separated.
    #[arg(long, value_delimiter = ',')]
    pub attacks: Vec<String>,
    /// Names the attacks and ends.
    #[arg(long)]
    pub list: bool,
    /// Folder for table.md and table.json.
    #[arg(long, default_value = "target/abuse")]
    pub out: PathBuf,
    /// The server's binary; otherwise target/release/hadir, built when it is missing or old.
    #[arg(long)]
    pub server: Option<PathBuf>,
}

/// One attack for the attacker's process.
#[derive(Args, Clone)]
pub struct Order {
    #[arg(long)]
    pub attack: String,
    #[arg(long)]
    pub address: SocketAddr,
    /// How long the attack lasts.
    #[arg(long)]
    pub seconds: f64,
    /// Connections are this share of the attack's full size.
    #[arg(long)]
    pub share: f64,
    /// The number of the first subject that no resident has.
    #[arg(long)]
    pub first_subject: u64,
}

/// Parts that the suite starts as processes of their own; not for people.
#[derive(Subcommand)]
pub enum Part {
    /// Attacks.
    #[command(hide = true)]
    Attacker(Order),
    /// Runs a program for as long as the other end of its standard input is open.
    #[command(hide = true)]
    Keeper {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        program: Vec<String>,
    },
}
