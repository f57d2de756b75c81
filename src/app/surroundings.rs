//! Whether a start on the embedded default looks like a mistake.

use std::{env, ffi::OsString, net::SocketAddr, path::Path};

use crate::config::{Config, Database};

/// Files that container engines create.
const CONTAINER_FILES: &[&str] = &["/.dockerenv", "/run/.containerenv"];
/// Variables that container engines, systemd-nspawn and Kubernetes set.
const CONTAINER_VARIABLES: &[&str] = &["container", "KUBERNETES_SERVICE_HOST"];

/// Says loudly that this node keeps everything in one file, where that was probably not meant.
pub(super) fn warn_of_embedded_default(config: &Config, listeners: [SocketAddr; 2]) {
    if !matches!(config.store.database, Database::Sqlite { .. }) {
        return;
    }
    let in_container = is_container(|name| env::var_os(name), |path| Path::new(path).exists());
    let Some(why) = looks_like_production(in_container, listeners) else { return };
    tracing::warn!(
        %why, data_dir = %config.data.dir.display(),
        "this node runs on the embedded default, and this looks like production: all data is one file on this machine, \
         and no second node can run; set DATABASE_URL, VALKEY_URL and AUTH_JWT_SECRET or AUTH_JWKS_URL"
    );
}

fn looks_like_production(in_container: bool, listeners: [SocketAddr; 2]) -> Option<String> {
    let open = listeners.into_iter().find(|address| !address.ip().to_canonical().is_loopback());
    match (in_container, open) {
        (_, Some(address)) => Some(format!("the listener {address} is not loopback")),
        (true, None) => Some("it runs in a container".to_owned()),
        (false, None) => None,
    }
}

fn is_container(variable: impl Fn(&str) -> Option<OsString>, exists: impl Fn(&str) -> bool) -> bool {
    CONTAINER_FILES.iter().any(|path| exists(path))
        || CONTAINER_VARIABLES.iter().any(|name| variable(name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_and_an_open_listener_look_like_production_and_a_workstation_does_not() {
        let nothing = |_: &str| None;
        assert!(!is_container(nothing, |_| false));
        assert!(is_container(nothing, |path| path == "/.dockerenv"));
        assert!(is_container(|name| (name == "container").then(|| "podman".into()), |_| false));
        assert!(is_container(|name| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.96.0.1".into()), |_| false));
        assert!(!is_container(|name| (name == "container").then(OsString::new), |_| false));

        let listeners = |one: &str, other: &str| [one, other].map(|text| text.parse().expect("an address"));
        let loopback = listeners("127.0.0.1:8080", "[::1]:8081");
        assert_eq!(looks_like_production(false, loopback), None);
        assert!(looks_like_production(true, loopback).is_some_and(|why| why.contains("container")));
        for open in ["0.0.0.0:8080", "[::]:8080", "10.0.0.7:8080"] {
            let why = looks_like_production(false, listeners(open, "127.0.0.1:8081"));
            assert!(why.is_some_and(|why| why.contains(open)), "{open}");
        }
    }
}
