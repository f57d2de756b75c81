//! The proof kit: every row of the fault matrix, injected for real into private stores and two real nodes, with a fleet of
//! beating mitras and with customers and a dashboard who look on. Prints a table of what each fault cost, and fails when a
//! promise of `docs/reliability.md` was broken.
//!
//! One command walks the matrix. Stores and nodes are processes of their own; this program starts itself again as `keeper`, so
//! that they end with it however it ends.

#![allow(clippy::disallowed_methods, reason = "house rules of the server; this program lives for one run")]

mod arguments;
mod fleet;
mod http;
mod journal;
#[path = "../kit/mod.rs"]
#[allow(dead_code, reason = "shared with the benchmark, which uses other parts of it")]
mod kit;
mod node;
mod observers;
mod outcome;
#[path = "../tests/it/support/proxy.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "the tests' proxy; they use it in other ways")]
mod proxy;
mod rows;
mod run;
mod sentinel;
mod stage;
mod suspects;
mod table;
mod trial;
mod truth;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Part};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.part {
        Some(Part::Keeper { program }) => kit::keeper::run(&program).map(|()| true),
        None => tokio::runtime::Runtime::new()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(run::run(arguments.run))),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("prove: {error:#}");
            ExitCode::FAILURE
        }
    }
}
