//! Configuration: flags over environment over a TOML file over defaults, checked as a whole before anything starts.
//!
//! Every setting is one entry of a table (name, default, unit, secrecy, one line, parser); flags, variables, TOML keys,
//! `hadir config` and `docs/configuration.md` derive from it. Everything wrong is reported at once. This module reads the
//! TOML file and secret files and nothing else: it reaches no store and binds no port. `cli` loads it, `app` and everyone
//! below get the typed [`Config`] or a section of it.

mod auth;
mod docs;
mod drain;
mod limits;
mod listen;
mod listen_address;
mod log;
mod mirror;
mod misnamed;
mod parse;
mod secret;
mod service_links;
mod setting;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod timing;
mod values;

use std::fmt;

use crate::domain::NodeId;

pub use auth::{AuthConfig, KeySource, SecretSource};
pub use docs::{effective, reference};
pub use drain::DrainConfig;
pub use limits::{LimitsConfig, NodeCap};
pub use listen::ListenConfig;
pub use listen_address::{ListenAddress, reachable};
pub use log::{LogConfig, LogFormat};
pub use mirror::{MirrorConfig, Topology, ValkeyUrl};
pub use parse::seconds;
pub use secret::{MASK, Secret, masked_url};
pub use setting::{AnySetting, Preset, Secrecy, Spec, flag_of};
pub use store::{DataConfig, Database, StoreConfig};
pub use table::{SECTIONS, Section};
pub use timing::TimingConfig;
pub use values::{Origin, Values};

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name.
    pub node_id: NodeId,
    pub listen: ListenConfig,
    pub log: LogConfig,
    pub data: DataConfig,
    pub store: StoreConfig,
    pub mirror: MirrorConfig,
    pub auth: AuthConfig,
    pub timing: TimingConfig,
    pub limits: LimitsConfig,
    pub drain: DrainConfig,
}

/// Everything that is wrong with a configuration, a sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has an error:")?,
            many => write!(f, "the configuration has {many} errors:")?,
        }
        self.0.iter().try_for_each(|sentence| write!(f, "\n  - {sentence}"))
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// A configuration of these pairs (variable, value) and defaults. Reads no environment; for programs that start
    /// Hadir in their own process.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Result<Self, ConfigErrors> {
        let mut values = Values::default();
        for (name, text) in pairs {
            values.set(name, text, Origin::Pair);
        }
        values.read_secret_files();
        Self::from_values(&values)
    }

    /// Types and checks what was set.
    pub fn from_values(values: &Values) -> Result<Self, ConfigErrors> {
        let mut reader = values::Reader::new(values);
        let config = Self::read(&mut reader);
        let mut errors = reader.into_errors();
        if errors.is_empty() {
            return Ok(config);
        }
        // What is missing was perhaps given under another name.
        errors.extend(values.misnamed().into_iter().map(|hint| format!("{hint}.")));
        Err(ConfigErrors(errors))
    }

    fn read(reader: &mut values::Reader<'_>) -> Self {
        let data = DataConfig::read(reader);
        Self {
            node_id: log::node_id(reader),
            listen: ListenConfig::read(reader),
            log: LogConfig::read(reader),
            store: StoreConfig::read(reader, &data.dir),
            mirror: MirrorConfig::read(reader),
            auth: AuthConfig::read(reader, &data.dir),
            timing: TimingConfig::read(reader),
            limits: LimitsConfig::read(reader),
            drain: DrainConfig::read(reader),
            data,
        }
    }
}
