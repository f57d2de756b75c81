//! One line in the log when Postgres stops doing what it is asked, with the reason, and one when it does so again.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// A refusal that did not come again for so long is over: what was refused is asked at least once a minute.
const REFUSED_FOR: Duration = Duration::from_secs(90);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No answer.
    Silent,
    /// Answers, and refuses what a healthy one would do: read-only, a right that is missing, no space.
    Refusing,
}

struct Spell {
    fault: Fault,
    why: String,
    began: Instant,
    last: Instant,
}

/// Whether Postgres is well, as the log knows it. Shared by the pools of one node.
#[derive(Default)]
pub(super) struct Outage {
    is_told: AtomicBool,
    spell: Mutex<Option<Spell>>,
}

impl Outage {
    /// Whether the log knows of it already.
    pub(super) fn is_told(&self) -> bool {
        self.is_told.load(Relaxed)
    }

    /// What Postgres last failed with, while it fails.
    pub(super) fn reason(&self) -> Option<String> {
        if !self.is_told() {
            return None;
        }
        self.spell.lock().as_ref().map(|spell| spell.why.clone())
    }

    /// Says so, once.
    pub(super) fn failed(&self, fault: Fault, why: &str) {
        let now = Instant::now();
        let mut spell = self.spell.lock();
        if let Some(spell) = spell.as_mut().filter(|spell| spell.fault == fault) {
            spell.last = now;
            why.clone_into(&mut spell.why);
            return;
        }
        match fault {
            Fault::Silent => tracing::warn!(%why, "Postgres is unavailable"),
            Fault::Refusing => tracing::warn!(%why, "Postgres refuses what this server asks"),
        }
        let began = spell.as_ref().map_or(now, |spell| spell.began);
        *spell = Some(Spell { fault, why: why.to_owned(), began, last: now });
        self.is_told.store(true, Relaxed);
    }

    /// Postgres did what it was asked.
    pub(super) fn answered(&self) {
        if !self.is_told() {
            return;
        }
        let mut spell = self.spell.lock();
        let is_over = |spell: &mut Spell| spell.fault == Fault::Silent || spell.last.elapsed() >= REFUSED_FOR;
        if let Some(over) = spell.take_if(is_over) {
            let after_s = over.began.elapsed().as_secs_f64();
            tracing::info!(after_s, "Postgres is available again");
            self.is_told.store(false, Relaxed);
        }
    }
}
