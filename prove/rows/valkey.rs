//! Faults of Valkey itself, and of the way to it.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{
    outcome::Outcome,
    proxy::Traffic,
    stage::Stage,
    trial::{Detect, FALLBACK, LIVE, Trial},
};

pub async fn killed(stage: &mut Stage) -> Result<Outcome> {
    Trial::mirror_away("valkey-killed", "Valkey killed", "kill -9, started empty")
        .run(stage, async |stage| stage.valkey.kill().await, async |stage| stage.valkey.restart(&[]).await)
        .await
}

pub async fn frozen(stage: &mut Stage) -> Result<Outcome> {
    Trial::mirror_away("valkey-frozen", "Valkey frozen, thawed", "SIGSTOP, a deactivation, SIGCONT")
        .run(stage, async |stage| stage.valkey.signal(Signal::STOP), async |stage| stage.valkey.signal(Signal::CONT))
        .await
}

pub async fn emptied(stage: &mut Stage) -> Result<Outcome> {
    Trial { detect: Detect::Epoch, ..Trial::of("valkey-emptied", "Valkey emptied", "FLUSHALL") }
        .run(stage, async |stage| stage.valkey("FLUSHALL").await, async |_| Ok(()))
        .await
}

pub async fn pubsub_cut(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        // The other node hears of a deactivation by the store's bell.
        refused_within: Duration::from_secs(1),
        ..Trial::of("pubsub-cut", "pub/sub cut", "CLIENT KILL TYPE pubsub, ten times a second")
    };
    let port = stage.valkey.port;
    let cutting = tokio::task::spawn_blocking(move || {
        let mut raw = crate::kit::resp::Raw::to(port)?;
        let until = std::time::Instant::now() + Duration::from_secs(12);
        while std::time::Instant::now() < until {
            raw.ask(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"])?;
            std::thread::park_timeout(Duration::from_millis(100));
        }
        anyhow::Ok(())
    });
    trial.run(stage, async |_| Ok(()), async |_| cutting.await?).await
}

pub async fn one_node_alone(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        detect: Detect::Mode("fallback", &[0]),
        answers: [Some(FALLBACK), Some(LIVE)],
        ..Trial::mirror_away("one-node-alone", "one of two nodes loses Valkey", "its proxy cuts")
    };
    trial
        .run(
            stage,
            async |stage| {
                stage.nodes[0].mirror.set(Traffic::Cut);
                Ok(())
            },
            async |stage| {
                stage.nodes[0].mirror.set(Traffic::Flows);
                sleep(Duration::ZERO).await;
                Ok(())
            },
        )
        .await
}
