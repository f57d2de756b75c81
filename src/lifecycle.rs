//! Who runs and who stops: the only place that starts tasks, so that stopping can wait for all of them.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use anyhow::Error;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Pauses before a task starts again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Starts tasks, tells them to stop and waits for them. Clones share one set of tasks.
#[derive(Clone, Default)]
pub struct Lifecycle {
    tracker: TaskTracker,
    lent: TaskTracker,
    stopping: CancellationToken,
    closing: CancellationToken,
    broken: CancellationToken,
    why_broken: Arc<Mutex<Option<Error>>>,
}

impl Lifecycle {
    /// Starts a task that ends by itself: a socket, a connection.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Starts a task that runs until the end and is dropped then, at an await of its own. One that panics takes the node with
    /// it: without its routines it would go on answering, and lie.
    pub fn spawn_until_stop(&self, task: impl Future<Output = ()> + Send + 'static) {
        let (stopping, this) = (self.stopping.clone(), self.clone());
        self.tracker.spawn(async move {
            // A routine that ends early has nothing left to do.
            let routine = AssertUnwindSafe(stopping.run_until_cancelled(task)).catch_unwind();
            if routine.await.is_err() {
                this.give_up(Error::msg("a routine of the node panicked; the log says where"));
            }
        });
    }

    /// Starts a task that is needed for as long as the node runs: `make` makes it, now and after each early
    /// end. A task that panics or returns early is logged, `noted`, and started again after a pause. So one
    /// bad value ends neither the process nor, unseen, a task.
    pub fn keep_running<F>(
        &self,
        name: &'static str,
        make: impl Fn() -> F + Send + Sync + 'static,
        noted: impl Fn() + Send + Sync + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_until_stop(async move {
            let mut pause = SHORTEST_PAUSE;
            loop {
                let began = Instant::now();
                // Made inside, so that a panic while it is made is caught as well.
                match caught(async { make().await }).await {
                    Some(()) => tracing::error!(task = name, "a task ended before the stop; it starts again"),
                    None => tracing::error!(task = name, "a task panicked; it starts again"),
                }
                noted();
                pause = if began.elapsed() > LONGEST_PAUSE { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
                sleep(pause).await;
            }
        });
    }

    /// For a part that starts tasks of its own and ends them when it is closed, which is after [`Lifecycle::stop`]: what
    /// is told to stop here may still need it on the way out.
    pub fn lent(&self) -> &TaskTracker {
        &self.lent
    }

    /// No connection is to be accepted any more; those there are live on.
    pub fn stop_accepting(&self) {
        self.closing.cancel();
    }

    /// Completes when no connection is to be accepted any more.
    pub async fn accepting_stopped(&self) {
        self.closing.cancelled().await;
    }

    /// Completes when everything is to stop.
    pub async fn stopped(&self) {
        self.stopping.cancelled().await;
    }

    /// The node cannot go on, and why; whoever runs it stops it. The first reason stands.
    pub fn give_up(&self, why: impl Into<Error>) {
        self.why_broken.lock().get_or_insert_with(|| why.into());
        self.broken.cancel();
    }

    /// Completes when the node cannot go on, with the reason.
    pub async fn given_up(&self) -> Error {
        self.broken.cancelled().await;
        self.why_broken.lock().take().unwrap_or_else(|| Error::msg("the node was given up"))
    }

    /// Tells every task to stop and waits for them, `within` at most. Returns how many were left.
    pub async fn stop(&self, within: Duration) -> usize {
        self.closing.cancel();
        self.stopping.cancel();
        self.tracker.close();
        // What is left after the deadline is dropped with the runtime; the caller says so.
        let _late = timeout(within, self.tracker.wait()).await;
        self.tracker.len()
    }
}

/// What the work answers, or `None` when it panicked: the log says where.
pub async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.ok()
}

/// Ends one HTTP connection from inside a request, whether or not its client reads. In the extensions
/// of every request.
#[derive(Clone, Debug, Default)]
pub struct Hangup(CancellationToken);

impl Hangup {
    /// Ends the connection now.
    pub fn hang_up(&self) {
        self.0.cancel();
    }

    /// Completes when the connection is to end.
    pub async fn wished(&self) {
        self.0.cancelled().await;
    }
}

/// Listens for SIGTERM, SIGINT and SIGHUP from its creation on. A process that was started to ignore
/// SIGHUP (`nohup`) goes on ignoring it.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl StopSignals {
    /// Listens from now on: none of them ends the process by itself any more.
    ///
    /// # Errors
    /// The process may not listen for signals.
    pub fn listen() -> std::io::Result<Self> {
        // Asked first: to listen for a signal is to ignore it no more.
        let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup })
    }

    /// Completes at the next of them.
    pub async fn told(&mut self) {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hung_up => {}
        }
    }
}

/// Whether the starter of this process wants SIGHUP ignored, where `/proc` tells.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let hangup = 1 << (SignalKind::hangup().as_raw_value() - 1);
    mask & hangup != 0
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_returns_early_starts_again_and_the_node_goes_on() {
        let (lifecycle, runs, done) = (Lifecycle::default(), Arc::new(AtomicU32::new(0)), CancellationToken::new());
        let (counted, reached) = (Arc::clone(&runs), done.clone());
        let early_ends = Arc::new(AtomicU32::new(0));
        let make = move || {
            let (run, reached) = (counted.fetch_add(1, Relaxed), reached.clone());
            assert_ne!(run, 0, "a bad value while the task is made");
            async move {
                match run {
                    1 => panic!("a bad value"),
                    2 => {}
                    _ => {
                        reached.cancel();
                        std::future::pending::<()>().await;
                    }
                }
            }
        };
        let counted = Arc::clone(&early_ends);
        lifecycle.keep_running("test", make, move || {
            counted.fetch_add(1, Relaxed);
        });
        done.cancelled().await;
        assert_eq!((runs.load(Relaxed), early_ends.load(Relaxed)), (4, 3));
        assert!(!lifecycle.broken.is_cancelled(), "the node was not given up");
        assert_eq!(lifecycle.stop(Duration::from_secs(1)).await, 0);
    }
}
