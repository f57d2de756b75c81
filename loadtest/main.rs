//! The benchmark: the real server beside a bare floor, in one run, on one machine. Prints ratios, because machines differ.
//!
//! One command runs all rows. The server, the floor and the clients are processes of their own, so that memory and CPU can be
//! told apart: this program starts itself again as `floor`, `fleet` and `keeper`. `README.md` says what each row means.

mod arguments;
mod bench;
mod fleet;
mod floor;
#[path = "../kit/mod.rs"]
#[allow(dead_code, reason = "shared with the proof kit, which uses other parts of it")]
mod kit;
mod rows;
mod table;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Part};
use kit::keeper;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.part {
        Some(Part::Keeper { program }) => keeper::run(&program),
        Some(Part::Floor { ping_seconds }) => on_runtime(floor::run(ping_seconds)),
        Some(Part::Fleet { sockets }) => on_runtime(fleet::run(sockets)),
        None => on_runtime(bench::run(arguments.run)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn on_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(work)
}
