//! `hadir health`: whether the node of this configuration lives. For the health check of a container
//! image, which has no shell and no curl.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;

use crate::config::Config;

/// Longest wait for the answer; the image's health check allows 3 s.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks `/livez` of the internal listener; fails when it does not answer 200.
pub(super) async fn report(config: &Config) -> anyhow::Result<ExitCode> {
    let address = config.listen.internal_addr.reachable();
    let url = format!("http://{address}/livez");
    let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    let answer = client.get(&url).send().await.with_context(|| {
        format!("no node answers at {address}: see that it runs and that HADIR_INTERNAL_ADDR is its own")
    })?;
    let status = answer.status();
    super::print(&format!("{url} answers {}\n", status.as_u16()))?;
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
