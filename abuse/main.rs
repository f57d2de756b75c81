//! The abuse suite: attacks on the public listener of a real server, one after the other, while residents ping and newcomers
//! open sockets. Prints what each attack cost and fails when one of them did harm.
//!
//! One command runs all attacks. Server and attacker are processes of their own; this program starts itself again as
//! `attacker` and `keeper`, so that both end with it however it ends. It talks to loopback only, and every attack is bounded
//! in connections and time.

#![allow(clippy::disallowed_methods, reason = "house rules of the server; this program lives for one run")]

mod arguments;
mod attacks;
#[path = "../kit/mod.rs"]
#[allow(dead_code, reason = "shared with the benchmark and the proof kit, which use other parts of it")]
mod kit;
mod newcomers;
mod outcome;
mod residents;
mod run;
mod table;
mod tally;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Part};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.part {
        Some(Part::Keeper { program }) => kit::keeper::run(&program).map(|()| true),
        Some(Part::Attacker(order)) => on_runtime(attacks::run(order)).map(|()| true),
        None => on_runtime(run::run(arguments.run)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("abuse: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn on_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()?.block_on(work)
}
