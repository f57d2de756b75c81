//! The scripts, each the shared prelude followed by its own file, and where their hashes are remembered.

use std::sync::OnceLock;

/// One Lua script. The server names it by hash once it was loaded, and forgets it when it restarts.
pub(super) struct Script {
    /// For errors and metrics.
    pub name: &'static str,
    source: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, hash: OnceLock::new() }
    }

    /// What to load.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// The hash, once any server has told it; a hash is of the text, so it is the same on every server.
    pub fn hash(&self) -> Option<&str> {
        self.hash.get().map(String::as_str)
    }

    /// Remembers what the server answered on loading.
    pub fn loaded_as(&self, hash: String) {
        // Lost to another task's answer: the same text has the same hash.
        let _ = self.hash.set(hash);
    }
}

macro_rules! scripts {
    ($($constant:ident = $file:literal),* $(,)?) => {
        /// The texts of all scripts that run for the sake of the mirror.
        #[cfg(test)]
        pub(super) fn every_source() -> impl Iterator<Item = &'static str> {
            [$(&$constant),*].into_iter().map(Script::source)
        }

        $(pub(super) static $constant: Script = Script::new(
            $file,
            concat!(include_str!("scripts/prelude.lua"), include_str!(concat!("scripts/", $file, ".lua"))),
        );)*
    };
}

/// Which rights are missing; without the prelude, which writes.
pub(super) static RIGHTS: Script = Script::new("rights", include_str!("scripts/rights.lua"));
/// A write and its removal.
pub(super) static TRIAL: Script = Script::new("trial", include_str!("scripts/trial.lua"));

scripts! {
    APPLY = "apply",
    BEAT = "beat",
    CLAIM = "claim",
    COUNTS = "counts",
    ENTRIES = "entries",
    FIND = "find",
    FORGET = "forget",
    KNOWN = "known",
    OPEN = "open",
    REPORT = "report",
    SILENT = "silent",
    SUSPECTS = "suspects",
    TICK = "tick",
    UNCLAIM = "unclaim",
}
