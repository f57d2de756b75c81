//! Whether this node should be given traffic.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{Presence, Readiness};
use crate::{domain::Mode, protocol::Check};

/// Who asks whether the node is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Told why something fails.
    Operators,
    /// Told that something fails: the reason may name hosts.
    Everybody,
}

/// Where this node stands between its start and its stop.
#[derive(Default)]
pub(super) struct ServingState {
    started: AtomicBool,
    leaving: AtomicBool,
}

impl Presence {
    /// Completes when this node may be given traffic: its mirror is seeded, or known to be unavailable while the store answers.
    pub async fn started(&self) {
        let mut newest = self.replication.hub.watch_availability();
        while self.mode() == Mode::Rebuilding || self.replication.hub.availability().is_none() {
            // The hub lives as long as we do; its sender cannot be gone.
            let _news = newest.changed().await;
        }
        self.serving.started.store(true, Relaxed);
    }

    /// This node is about to leave: not ready any more, though still serving.
    pub fn leave(&self) {
        self.serving.leaving.store(true, Relaxed);
    }

    /// Whether this node should be given traffic. A node whose stores are away stays ready once it has been: taking every
    /// node out of the load balancer because a shared store is down would be the outage.
    pub fn readiness(&self, audience: Audience) -> Readiness {
        let mode = self.mode();
        let started = self.serving.started.load(Relaxed);
        let leaving = self.serving.leaving.load(Relaxed);
        let line = |name, ok, detail: &str| Check { name, ok, detail: detail.to_owned() };
        Readiness {
            ready: started && !leaving,
            checks: vec![
                line("started", started, if started { "serving" } else { "starting" }),
                line("mode", mode == Mode::Live, mode.as_str()),
                self.store_check(audience),
                self.mirror_check(audience),
                line("drain", !leaving, if leaving { "stopping" } else { "staying" }),
            ],
        }
    }

    fn mirror_check(&self, audience: Audience) -> Check {
        let trouble = self.replication.mode.mirror_trouble();
        let ok = trouble.is_none();
        let detail = match trouble.filter(|_| audience == Audience::Operators) {
            Some(why) => format!("unavailable, so the store answers: {why}"),
            None if ok => "works".to_owned(),
            None => "unavailable, so the store answers".to_owned(),
        };
        Check { name: "mirror", ok, detail }
    }

    fn store_check(&self, audience: Audience) -> Check {
        let trouble = self.replication.store.trouble();
        let ok = trouble.is_none() && !self.replication.trust.store_is_unavailable();
        let detail = match trouble.filter(|_| audience == Audience::Operators) {
            Some(why) => format!("fails, so commands are refused: {why}"),
            None if ok => "works".to_owned(),
            None => "fails, so commands are refused".to_owned(),
        };
        Check { name: "store", ok, detail }
    }
}
