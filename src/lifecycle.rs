//! Who runs and who stops: the only place that starts tasks, so that stopping can wait for all of them.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use anyhow::Error;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

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

/// Completes at SIGTERM or SIGINT.
///
/// # Errors
/// The process may not listen for signals.
pub async fn told_to_stop() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
