//! What an attacker counts: what it tried, and how the server answered.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

/// Attempts, and answers by kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Connections that were opened.
    pub connections: u64,
    /// Messages, frames or requests that were written.
    pub sent: u64,
    /// How the server answered, by kind.
    pub answers: BTreeMap<String, u64>,
}

/// A tally that many tasks share.
#[derive(Default)]
pub struct Counter(Mutex<Tally>);

impl Counter {
    /// One more connection was opened.
    pub fn connected(&self) {
        self.with(|tally| tally.connections += 1);
    }

    /// So many more were sent.
    pub fn sent(&self, many: u64) {
        self.with(|tally| tally.sent += many);
    }

    /// The server answered in this way.
    pub fn answered(&self, how: impl Into<String>) {
        self.with(|tally| *tally.answers.entry(how.into()).or_default() += 1);
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.with(|tally| tally.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Tally) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The answers in words, the most frequent first.
pub fn in_words(answers: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<_> = answers.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    sorted.iter().map(|(how, count)| format!("{count} × {how}")).collect::<Vec<_>>().join(", ")
}
