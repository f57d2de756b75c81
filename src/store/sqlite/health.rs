//! One line in the log when the file begins to fail, with the reason, and one when it works again.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Instant,
};

use parking_lot::Mutex;

struct Failure {
    why: String,
    began: Instant,
}

/// Whether reads, or writes, of the file work.
pub(super) struct Health {
    what: &'static str,
    is_failing: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

impl Health {
    pub(super) fn of(what: &'static str) -> Self {
        Self { what, is_failing: AtomicBool::new(false), failure: Mutex::new(None) }
    }

    /// What it fails with at present.
    pub(super) fn reason(&self) -> Option<String> {
        if !self.is_failing.load(Relaxed) {
            return None;
        }
        self.failure.lock().as_ref().map(|failure| failure.why.clone())
    }

    /// Says so, once.
    pub(super) fn failed(&self, why: &str) {
        let mut failure = self.failure.lock();
        match &mut *failure {
            Some(failure) => why.clone_into(&mut failure.why),
            None => {
                tracing::warn!(what = self.what, %why, "the database file fails");
                *failure = Some(Failure { why: why.to_owned(), began: Instant::now() });
                self.is_failing.store(true, Relaxed);
            }
        }
    }

    /// The file did what it was asked.
    pub(super) fn worked(&self) {
        if !self.is_failing.load(Relaxed) {
            return;
        }
        if let Some(failure) = self.failure.lock().take() {
            self.is_failing.store(false, Relaxed);
            let after_s = failure.began.elapsed().as_secs_f64();
            tracing::info!(what = self.what, after_s, "the database file works again");
        }
    }
}
