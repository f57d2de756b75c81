//! The sweeps over presence.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Run, Sweep};
use crate::{
    presence::{Presence, Restraint, Swept},
    replication::HeartbeatWriter,
};

/// Takes silent mitras durably offline.
pub struct AutoOffline(pub Arc<Presence>);

#[async_trait]
impl Sweep for AutoOffline {
    fn name(&self) -> &'static str {
        "auto_offline"
    }

    async fn run(&self) -> Run {
        match self.0.sweep_silent().await {
            Ok(Swept::Expired(expired)) => Run::Done(format!("{expired} taken offline")),
            Ok(Swept::Restrained { expired, left, restraint, held_for }) => {
                let why = match restraint {
                    Restraint::Brake => "one sweep takes at most 15 % of those online",
                    Restraint::Lost => {
                        "a node that held mitras' sockets vanished, and they may be well: it died, or is cut off from the stores"
                    }
                    Restraint::Doubt => "fewer than half of those online beat, so heartbeats may be lost on their way",
                };
                Run::Done(format!("{expired} taken offline, {left} left: {why}; so for {} s", held_for.as_secs()))
            }
            Ok(Swept::Skipped(why)) => Run::Skipped(why.to_owned()),
            Err(error) => Run::Failed(error.to_string()),
        }
    }
}

/// Writes the heartbeats heard since the last run to the store.
pub struct HeartbeatMirror(pub Arc<HeartbeatWriter>);

#[async_trait]
impl Sweep for HeartbeatMirror {
    fn name(&self) -> &'static str {
        "heartbeat_mirror"
    }

    async fn run(&self) -> Run {
        match self.0.save().await {
            Ok(moved) => Run::Done(format!("{moved} heartbeats written")),
            Err(error) => Run::Failed(error.to_string()),
        }
    }
}

/// Compares the whole store with the mirror and repairs what drifted.
pub struct Reseed(pub Arc<Presence>);

#[async_trait]
impl Sweep for Reseed {
    fn name(&self) -> &'static str {
        "reseed"
    }

    async fn run(&self) -> Run {
        if !self.0.mode().takes_reseed() {
            return Run::Skipped("the mirror is away; its return is a reseed of its own".to_owned());
        }
        match self.0.reseed().await {
            Ok(report) => {
                Run::Done(format!("{} compared, {} repaired, {} removed", report.rows, report.changed, report.removed))
            }
            Err(error) => Run::Failed(error.to_string()),
        }
    }
}

/// Removes presence events that are older than they need to be kept.
pub struct EventRetention {
    pub presence: Arc<Presence>,
    pub keep: Duration,
}

#[async_trait]
impl Sweep for EventRetention {
    fn name(&self) -> &'static str {
        "event_retention"
    }

    async fn run(&self) -> Run {
        match self.presence.prune_events(self.keep).await {
            Ok(removed) => Run::Done(format!("{removed} events removed")),
            Err(error) => Run::Failed(error.to_string()),
        }
    }
}
