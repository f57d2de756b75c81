//! Looking at everything that `serve` needs from outside, changing nothing.

use super::backends;
use crate::{config::Config, lifecycle::Lifecycle};

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
    let store_line = backends::look_at_store(config).await;
    let mirror = match backends::mirror(config, &lifecycle).await {
        Ok(mirror) => mirror,
        Err(error) => return vec![line("store", store_line), line("mirror", Err(format!("{error:#}")))],
    };
    let mirror_line = match mirror.tick().await {
        Ok(pulse) => Ok(match pulse.epoch {
            Some(_) => format!("{}, seeded", mirror.source().as_str()),
            None => format!("{}, to be seeded at start", mirror.source().as_str()),
        }),
        Err(error) => Err(format!("{error}; see that Valkey runs and that VALKEY_URL is right")),
    };
    mirror.close().await;
    vec![line("store", store_line), line("mirror", mirror_line)]
}
