//! tracing's set-up: one line per event on standard error, for eyes on a terminal and as JSON elsewhere.

use std::{
    backtrace::Backtrace,
    io::{self, IsTerminal},
    panic,
};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use super::{flood::FloodGuard, output::LogOutput};
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
    let guard = FloodGuard::new(config.lines_per_second);
    let set = match config.format.unwrap_or(if on_terminal { LogFormat::Human } else { LogFormat::Json }) {
        // https://no-color.org
        LogFormat::Human => {
            lines.with_ansi(on_terminal && std::env::var_os("NO_COLOR").is_none()).finish().with(guard).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).finish().with(guard).try_init(),
    };
    set.map_err(|error| LogSetupError(error.to_string()))?;
    log_panics();
    Ok(())
}

/// Makes every panic an error in the log's own format, with its place and its backtrace.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace::force_capture();
        let why = panic.payload_as_str().unwrap_or("no reason given");
        tracing::error!(%why, %place, %backtrace, "panic");
    }));
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_an_error_of_the_log_with_its_place_and_its_backtrace() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
        let former = panic::take_hook();
        log_panics();
        let panicked = tracing::subscriber::with_default(subscriber, || panic::catch_unwind(|| panic!("a bad value")));
        panic::set_hook(former);
        assert!(panicked.is_err());
        let text = String::from_utf8(lines.0.lock().clone()).expect("text");
        let line: serde_json::Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        assert_eq!((line["level"].as_str(), line["why"].as_str()), (Some("ERROR"), Some("a bad value")));
        assert!(line["place"].as_str().is_some_and(|place| place.contains("log.rs:")), "{line}");
        assert!(line["backtrace"].as_str().is_some_and(|trace| trace.contains("catch_unwind")), "{line}");
    }
}
