//! Looking at everything that `serve` needs from outside, changing nothing.

use super::backends;
use crate::{auth::PublicKeys, config::Config, lifecycle::Lifecycle, telemetry::Metrics};

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckLine {
    /// What was looked at, a word.
    pub name: String,
    /// What was found; when it is wrong, what to do.
    pub result: Result<String, String>,
}

/// Looks at everything that `serve` needs from outside.
pub async fn check(config: &Config) -> Vec<CheckLine> {
    let line = |name: &str, result| CheckLine { name: name.to_owned(), result };
    let lifecycle = Lifecycle::default();
    let found = backends::look_at_store(config).await;
    let mut lines: Vec<CheckLine> = found.into_iter().map(|result| line("store", result)).collect();
    let mirror = match backends::mirror(config, &lifecycle).await {
        Ok(mirror) => mirror,
        Err(error) => {
            lines.push(line("mirror", Err(format!("{error:#}"))));
            return lines;
        }
    };
    let mirror_line = match mirror.tick().await {
        Ok(pulse) => Ok(match pulse.epoch {
            Some(_) => format!("{}, seeded", mirror.source().as_str()),
            None => format!("{}, to be seeded at start", mirror.source().as_str()),
        }),
        Err(error) => Err(format!("{error}; see that Valkey runs and that VALKEY_URL is right")),
    };
    mirror.close().await;
    lines.push(line("mirror", mirror_line));
    lines.extend(public_keys(config).await);
    lines
}

/// Whether the public keys can be read, where a source is configured.
async fn public_keys(config: &Config) -> Option<CheckLine> {
    let keys = PublicKeys::new(&config.auth, Metrics::new())?;
    let result = match keys.refresh().await {
        Ok(count) => Ok(format!("{count} public keys from {}", keys.source())),
        Err(why) => {
            Err(format!("the set of public keys at {} {why}: correct AUTH_JWKS_URL or AUTH_JWKS_FILE", keys.source()))
        }
    };
    Some(CheckLine { name: "keys".to_owned(), result })
}
