//! The binary: the command line in, an exit code out.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    hadir::cli::run(std::env::args_os(), std::env::vars_os()).await
}
