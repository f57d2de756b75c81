//! Looking at everything that `serve` needs from outside.

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
    let (store, mirror) = match backends::look(config, &lifecycle).await {
        Ok(parts) => parts,
        Err(error) => return vec![line("stores", Err(format!("{error:#}")))],
    };
    let store_line = match store.ping().await {
        Ok(()) => Ok(format!("{}, writable", store.source().as_str())),
        Err(error) => Err(format!("{error}; see that it runs and that DATABASE_URL is right")),
    };
    let mirror_line = match mirror.tick().await {
        Ok(pulse) => Ok(match pulse.epoch {
            Some(_) => format!("{}, seeded", mirror.source().as_str()),
            None => format!("{}, to be seeded at start", mirror.source().as_str()),
        }),
        Err(error) => Err(format!("{error}; see that Valkey runs and that VALKEY_URL is right")),
    };
    mirror.close().await;
    store.close().await;
    vec![line("store", store_line), line("mirror", mirror_line)]
}
