//! `hadir config`.

use std::process::ExitCode;

use crate::config::{self, Config, Values};

/// Prints every setting, and then what is wrong with them, if anything is.
pub(super) fn report(values: &Values) -> anyhow::Result<ExitCode> {
    super::print(&config::effective(values))?;
    Config::from_values(values)?;
    Ok(ExitCode::SUCCESS)
}
