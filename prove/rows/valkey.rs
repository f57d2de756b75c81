//! Faults of Valkey itself: it dies, freezes, is emptied, comes back with something older.

use anyhow::Result;
use rustix::process::Signal;

use crate::{
    outcome::Outcome,
    stage::{PATIENCE, Stage, until},
    trial::{Detect, Trial},
};

/// Makes loading last about as long as a row: microseconds for each of so many keys.
const LOADING: (&str, &str) = ("40000", "250");

pub async fn killed(stage: &mut Stage) -> Result<Outcome> {
    Trial::mirror_away("valkey-killed", "Valkey killed", "`kill -9`; started empty")
        .run(stage, async |stage| stage.valkey.kill().await, async |stage| stage.valkey.restart(&[]).await)
        .await
}

pub async fn frozen(stage: &mut Stage) -> Result<Outcome> {
    Trial::mirror_away("valkey-frozen", "Valkey frozen, thawed", "`SIGSTOP`, a deactivation, `SIGCONT`")
        .run(stage, async |stage| stage.valkey.signal(Signal::STOP), async |stage| stage.valkey.signal(Signal::CONT))
        .await
}

pub async fn paused(stage: &mut Stage) -> Result<Outcome> {
    Trial::mirror_away("valkey-paused", "Valkey holds every command", "`CLIENT PAUSE`")
        .run(
            stage,
            async |stage| stage.valkey(&["CLIENT PAUSE 60000 ALL"]).await,
            async |stage| stage.valkey(&["CLIENT UNPAUSE"]).await,
        )
        .await
}

pub async fn emptied(stage: &mut Stage) -> Result<Outcome> {
    Trial { detect: Detect::Epoch, ..Trial::of("valkey-emptied", "Valkey emptied", "`FLUSHALL`") }
        .run(stage, async |stage| stage.valkey(&["FLUSHALL"]).await, async |_| Ok(()))
        .await
}

pub async fn restarted(stage: &mut Stage) -> Result<Outcome> {
    Trial {
        detect: Detect::Epoch,
        ..Trial::of("valkey-restarted", "Valkey restarted with nothing saved", "`kill -9`, at once started")
    }
    .run(
        stage,
        async |stage| {
            stage.valkey.kill().await?;
            stage.valkey.restart(&[]).await
        },
        async |_| Ok(()),
    )
    .await
}

/// It answers `LOADING` for as long as the row lasts, and has then forgotten everything since the fault.
pub async fn loading(stage: &mut Stage) -> Result<Outcome> {
    Trial::mirror_away(
        "valkey-loading",
        "Valkey loading an older copy of itself",
        "`SAVE`, `kill -9`, a slow load (`LOADING`)",
    )
    .run(
        stage,
        async |stage| {
            let fill = format!("EVAL for\ti=1,{}\tdo\tredis.call('SET','filler:'..i,i)\tend 0", LOADING.0);
            stage.valkey(&[&fill, "SAVE"]).await?;
            stage.valkey.kill().await?;
            let slow = ["--key-load-delay", LOADING.1, "--loading-process-events-interval-bytes", "1024"];
            stage.valkey.restart(&slow).await
        },
        async |stage| {
            let loaded = async || stage.valkey(&["EXISTS filler:1"]).await.is_ok();
            let _waited = until(PATIENCE, loaded).await;
            Ok(())
        },
    )
    .await
}
