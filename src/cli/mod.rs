//! The commands: what is typed, done and printed. Thin: the work is in `app`, `auth` and `config`.
//!
//! Standard output carries what was asked for (a token, the configuration, check lines) and nothing else; errors and log
//! lines go to standard error. Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.

mod arguments;
mod check;
mod health;
mod show;
mod token;
mod token_check;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use crate::{
    app,
    config::{Config, ConfigErrors, Values},
    telemetry,
};

pub use arguments::{Action, Invocation, parse};

/// Wrong command line or configuration.
const USAGE: u8 = 2;

/// Parses the command line, runs the command and says how it went.
pub async fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    app::choose_crypto_provider();
    let invocation = match parse(arguments, environment) {
        Ok(invocation) => invocation,
        Err(error) => {
            // Also the way of `--help`, which is no error; a closed pipe is nobody's fault.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    let code = match perform(invocation).await {
        Ok(code) => code,
        Err(error) => {
            telemetry::say(format_args!("hadir: {error:#}"));
            ExitCode::from(if error.is::<ConfigErrors>() { USAGE } else { 1 })
        }
    };
    telemetry::flush();
    code
}

async fn perform(Invocation { action, values }: Invocation) -> anyhow::Result<ExitCode> {
    match action {
        Action::Serve => app::serve(logging(&values)?).await?,
        Action::Demo(size) => app::demo(logging(&values)?, size).await?,
        Action::Migrate { new_generation } => {
            let done = app::migrate(logging(&values)?, new_generation).await?;
            print(&format!("{done}\n"))?;
        }
        Action::Token(request) => print(&token::issue(&Config::from_values(&values)?, &request)?)?,
        Action::TokenCheck(token) => {
            let token = if token == "-" { io::read_to_string(io::stdin())? } else { token };
            return token_check::report(&Config::from_values(&values)?, &token).await;
        }
        Action::Health => return health::report(&Config::from_values(&values)?).await,
        Action::Check => return check::report(&values).await,
        Action::Config => return show::report(&values),
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration, with logging set up as it says.
fn logging(values: &Values) -> anyhow::Result<Config> {
    let config = Config::from_values(values)?;
    telemetry::init(&config.log)?;
    let ignored = values.service_links();
    if !ignored.is_empty() {
        tracing::info!(
            variables = ignored.join(" "),
            "variables that Kubernetes injects for a Service are ignored; `enableServiceLinks: false` in the pod leaves them out"
        );
    }
    for hint in values.misnamed() {
        tracing::warn!("{hint}");
    }
    Ok(config)
}

/// Writes to standard output; a reader that went away (`hadir config | head`) is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
