//! `hadir config`.

use std::process::ExitCode;

use crate::config::{self, Config, Values};

/// Prints every setting, and then what is wrong with them, if anything is.
pub(super) fn report(values: &Values) -> anyhow::Result<ExitCode> {
    super::print(&config::effective(values))?;
    for hint in values.misnamed() {
        super::print(&format!("\n# {hint}\n"))?;
    }
    Config::from_values(values)?;
    Ok(ExitCode::SUCCESS)
}
