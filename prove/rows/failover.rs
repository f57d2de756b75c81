//! A failover that lost what was acknowledged: the replica had not heard of it, and the old primary only slept.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::{
    outcome::Outcome,
    sentinel::Watched,
    stage::Stage,
    trial::{Detect, Trial},
};

pub async fn lost_writes(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        detect: Detect::Mode("fallback", &[0, 1]),
        silent_within: Some(Duration::from_secs(8)),
        ..Trial::of(
            "valkey-failover",
            "failover that lost acknowledged writes",
            "Sentinel; the replica cut off, the primary frozen, thawed after the promotion",
        )
    };
    let mut outcome = trial
        .run(
            stage,
            async |stage| {
                watched(stage)?.replica.signal(Signal::STOP)?;
                stage.valkey(&["CLIENT KILL TYPE replica"]).await?;
                // Acknowledged by the primary, and by nobody else.
                stage.deactivate(stage.spare(), 0).await?;
                stage.valkey.signal(Signal::STOP)?;
                watched(stage)?.replica.signal(Signal::CONT)?;
                stage.mirror_port = watched(stage)?.replica.port;
                Ok(())
            },
            async |stage| {
                watched(stage)?.promoted().await?;
                stage.valkey.signal(Signal::CONT)
            },
        )
        .await?;
    outcome.note("the Sentinel waits 1.5 s before it promotes");
    Ok(outcome)
}

fn watched(stage: &Stage) -> Result<&Watched> {
    stage.watched.as_ref().context("the scenery has a Sentinel")
}
