//! Composition root: builds the product from a configuration. The only module that names concrete back ends.

use anyhow::{Result, bail};

use crate::config::Config;

/// How large the demo's simulated fleet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoSize {
    /// Simulated mitras.
    pub mitras: usize,
    /// Simulated customers.
    pub customers: usize,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckLine {
    /// What was looked at, a word.
    pub name: String,
    /// What was found; when it is wrong, what to do.
    pub result: std::result::Result<String, String>,
}

/// Runs the server until it is told to stop.
pub async fn serve(_config: Config) -> Result<()> {
    bail!("the server is not part of this build")
}

/// Runs the server and a simulated fleet.
pub async fn demo(_config: Config, _size: DemoSize) -> Result<()> {
    bail!("the demo is not part of this build")
}

/// Applies migrations; with `new_generation` also declares that the database was restored. Says what it did.
pub async fn migrate(_config: Config, _new_generation: bool) -> Result<String> {
    bail!("migrations are not part of this build")
}

/// Looks at everything that `serve` needs from outside.
pub async fn check(_config: &Config) -> Vec<CheckLine> {
    Vec::new()
}
