//! Looking at everything that `serve` needs from outside, changing nothing.

use super::backends;
use uuid::Uuid;

use crate::{auth::PublicKeys, config::Config, domain::NodeId, lifecycle::Lifecycle, telemetry::Metrics};

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
    // A store that does not fit is left alone: behind a pooler, settings of ours would reach the sessions of others.
    let fits = found.iter().all(Result::is_ok);
    let mut lines: Vec<CheckLine> = found.into_iter().map(|result| line("store", result)).collect();
    // A node of its own: the record of the one that runs here stays.
    let node = NodeId::new(&format!("check-{}", Uuid::new_v4().simple()));
    let identity = if fits { backends::store_identity(config).await } else { None };
    let mirror = match backends::mirror(config, node, identity, &lifecycle).await {
        Ok(mirror) => mirror,
        Err(error) => {
            lines.push(line("mirror", Err(format!("{error:#}"))));
            return lines;
        }
    };
    match mirror.preflight(config.mirror.connect_timeout).await {
        Ok(found) => lines.push(line("mirror", Ok(found))),
        Err(misfits) => lines.extend(misfits.into_iter().map(|misfit| line("mirror", Err(misfit)))),
    }
    mirror.close().await;
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
