//! tracing's set-up: one line per event on standard error, for eyes on a terminal and as JSON elsewhere.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

use super::output::LogOutput;
use crate::config::{LogConfig, LogFormat};

/// Libraries that would log what is sent, tokens and passwords included, in their finest levels. Last, so that it stands
/// whatever was asked for. What the Valkey client warns of, attempt by attempt, is one line of ours.
const NEVER_VERBOSE: &str = "tungstenite=info,tokio_tungstenite=info,fred=error,hyper=info,rustls=info";

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("logging cannot be set up: {0}")]
pub struct LogSetupError(String);

/// Sets up logging for this process; call once, before anything logs. Standard output stays free for what people ask
/// for (addresses, tokens).
pub fn init(config: &LogConfig) -> Result<(), LogSetupError> {
    let filter = format!("{},{NEVER_VERBOSE}", config.filter);
    let filter = EnvFilter::try_new(filter).map_err(|error| LogSetupError(error.to_string()))?;
    let on_terminal = io::stderr().is_terminal();
    // Complaints of the formatter itself would be printed, and a print that fails panics.
    let lines = fmt().with_env_filter(filter).with_writer(LogOutput).log_internal_errors(false);
    let set = match config.format.unwrap_or(if on_terminal { LogFormat::Human } else { LogFormat::Json }) {
        // https://no-color.org
        LogFormat::Human => lines.with_ansi(on_terminal && std::env::var_os("NO_COLOR").is_none()).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).finish().try_init(),
    };
    set.map_err(|error| LogSetupError(error.to_string()))
}
