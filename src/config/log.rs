//! This node's name and what it logs.

use crate::domain::NodeId;

use super::{
    parse,
    setting::{AnySetting, Setting},
    values::Reader,
};

const NODE_ID: Setting<String> = Setting::new(
    "HADIR_NODE_ID",
    parse::node_word,
    "Name of this node in logs, metrics and frames: letters, digits, - and _. Each node needs its own: a second node with this name takes another and logs an error.",
)
.unset("random at each start");
const LOG: Setting<String> = Setting::new(
    "HADIR_LOG",
    filter,
    "What Hadir logs: a level (error, warn, info, debug, trace) or a filter such as `info,hadir::sweeps=debug`.",
)
.default("info");
const LOG_FORMAT: Setting<LogFormat> =
    Setting::new("HADIR_LOG_FORMAT", format, "`human` or `json`, one line per event on standard error.")
        .unset("human on a terminal, else json");

const LOG_LINES: Setting<u32> = Setting::new(
    "HADIR_LOG_LINES_PER_SECOND",
    parse::whole::<u32, 1, 1_000_000>,
    "Rate limit of log lines of one kind (one place in the code), with a burst of five seconds' worth. Hadir drops and counts more, except debug and trace.",
)
.default("100")
.unit("lines per second");

pub(super) const SETTINGS: &[&dyn AnySetting] = &[&NODE_ID, &LOG, &LOG_FORMAT, &LOG_LINES];

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    Human,
    /// For machines: one JSON object per line.
    Json,
}

/// What is logged and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A filter of tracing's `EnvFilter`, known to parse.
    pub filter: String,
    /// `None`: human on a terminal, else JSON.
    pub format: Option<LogFormat>,
    /// Lines of one kind in a second; more are left out.
    pub lines_per_second: u32,
}

impl LogConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            filter: reader.required(&LOG),
            format: reader.optional(&LOG_FORMAT),
            lines_per_second: reader.required(&LOG_LINES),
        }
    }
}

/// The configured name, or a random one.
pub(super) fn node_id(reader: &mut Reader<'_>) -> NodeId {
    match reader.optional(&NODE_ID) {
        Some(word) => NodeId::new(&word),
        None => NodeId::new(&uuid::Uuid::new_v4().simple().to_string()[..12]),
    }
}

fn filter(text: &str) -> Result<String, String> {
    let text = parse::text(text)?;
    match tracing_subscriber::EnvFilter::try_new(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("is not a log filter ({error}): write for example info or info,hadir::sweeps=debug")),
    }
}

fn format(word: &str) -> Result<LogFormat, String> {
    match word {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("is not a log format: write human or json".to_owned()),
    }
}
