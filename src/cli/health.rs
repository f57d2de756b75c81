//! `hadir health`: whether the node of this configuration lives. For the health check of a container
//! image, which has no shell and no curl.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;

use crate::config::Config;

/// Longest wait for the answer; the image's health check allows 3 s.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks `/livez` of the internal listener; fails when it does not answer 200.
pub(super) async fn report(config: &Config) -> anyhow::Result<ExitCode> {
    let address = reachable(config.listen.internal_addr);
    let url = format!("http://{address}/livez");
    let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    let answer = client.get(&url).send().await.with_context(|| {
        format!("no node answers at {address}: see that it runs and that HADIR_INTERNAL_ADDR is its own")
    })?;
    let status = answer.status();
    super::print(&format!("{url} answers {}\n", status.as_u16()))?;
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A listener on every address is reached by loopback.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    SocketAddr::new(ip, listener.port())
}
