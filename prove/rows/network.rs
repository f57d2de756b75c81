//! Faults between the nodes and Valkey: pub/sub cut or denied, slow, half open, reset; for all nodes or for one.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use crate::{
    kit::resp::Raw,
    outcome::Outcome,
    proxy::Traffic,
    stage::Stage,
    trial::{Deactivated, Detect, FALLBACK, LIVE, Trial},
};

const DENY: &str = "ACL SETUSER default -subscribe -psubscribe -ssubscribe";
const ALLOW: &str = "ACL SETUSER default +subscribe +psubscribe +ssubscribe";

fn mirrors(stage: &Stage, traffic: Traffic) {
    stage.nodes.iter().for_each(|node| node.mirror.set(traffic));
}

pub async fn pubsub_cut(stage: &mut Stage) -> Result<Outcome> {
    let port = stage.valkey.port;
    let cutting = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::to(port)?;
        let until = Instant::now() + Duration::from_secs(12);
        while Instant::now() < until {
            raw.ask(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"])?;
            std::thread::park_timeout(Duration::from_millis(100));
        }
        anyhow::Ok(())
    });
    Trial::of("pubsub-cut", "pub/sub cut", "`CLIENT KILL TYPE pubsub`, ten times a second")
        .run(stage, async |_| Ok(()), async |_| cutting.await?)
        .await
}

/// No subscription can be had: the other node hears of a deactivation by the store's bell.
pub async fn pubsub_denied(stage: &mut Stage) -> Result<Outcome> {
    Trial::of("pubsub-denied", "no pub/sub at all", "`ACL SETUSER … -subscribe`, subscribers killed")
        .run(
            stage,
            async |stage| stage.valkey(&[DENY, "CLIENT KILL TYPE pubsub"]).await,
            async |stage| stage.valkey(&[ALLOW]).await,
        )
        .await
}

/// Neither pub/sub nor the bell: only the look at recent changes is left.
pub async fn pubsub_and_bell(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        // 10 s are promised at a look every 5 s; here the clock runs 15 times as fast, and the machine does not.
        refused_within: Duration::from_millis(2_500),
        deactivated: Deactivated::At(1),
        ..Trial::of("pubsub-and-bell", "no pub/sub and no bell", "the same, and `hadir_ring` does nothing")
    };
    let silence = "ALTER FUNCTION hadir_ring(text, text[]) RENAME TO hadir_ring_kept;
        CREATE FUNCTION hadir_ring(channel_schema text, payloads text[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$";
    let ring =
        "DROP FUNCTION hadir_ring(text, text[]); ALTER FUNCTION hadir_ring_kept(text, text[]) RENAME TO hadir_ring";
    trial
        .run(
            stage,
            async |stage| {
                stage.sql(silence).await?;
                stage.valkey(&[DENY, "CLIENT KILL TYPE pubsub"]).await
            },
            async |stage| {
                stage.sql(ring).await?;
                stage.valkey(&[ALLOW]).await
            },
        )
        .await
}

/// Each answer takes 120 ms more, and the breaker must not flap.
pub async fn slow(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial { steady: true, ..Trial::of("valkey-slow", "Valkey slow", "a proxy that delays 60 ms each way") };
    trial
        .run(
            stage,
            async |stage| {
                mirrors(stage, Traffic::Late(Duration::from_millis(60)));
                Ok(())
            },
            async |stage| {
                mirrors(stage, Traffic::Flows);
                Ok(())
            },
        )
        .await
}

/// The connections there are lead nowhere; whoever connects anew is served.
pub async fn half_open(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        detect: Detect::Mode("fallback", &[0, 1]),
        // From the store first, and from the mirror again when the dead connection was given up.
        silent_within: Some(Duration::from_secs(7)),
        ..Trial::of("valkey-half-open", "connections to Valkey half open", "a proxy that forgets its connections")
    };
    trial
        .run(
            stage,
            async |stage| {
                mirrors(stage, Traffic::Forgotten);
                Ok(())
            },
            async |stage| {
                mirrors(stage, Traffic::Flows);
                Ok(())
            },
        )
        .await
}

pub async fn reset(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        silent_within: Some(Duration::from_secs(7)),
        ..Trial::of("valkey-reset", "connections to Valkey reset", "a proxy that sends RST, ten times")
    };
    trial
        .run(
            stage,
            async |stage| {
                for _ in 0..10 {
                    mirrors(stage, Traffic::Reset);
                    sleep(Duration::from_millis(20)).await;
                    mirrors(stage, Traffic::Flows);
                    sleep(Duration::from_millis(200)).await;
                }
                Ok(())
            },
            async |_| Ok(()),
        )
        .await
}

pub async fn one_node_alone(stage: &mut Stage) -> Result<Outcome> {
    one_node(
        stage,
        Trial::mirror_away("one-node-alone", "one of two nodes loses Valkey", "its proxy cuts"),
        Traffic::Cut,
    )
    .await
}

pub async fn one_node_hangs(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial::mirror_away("one-node-hangs", "one of two nodes cannot hear Valkey", "its proxy passes nothing");
    one_node(stage, trial, Traffic::Hangs).await
}

async fn one_node(stage: &mut Stage, trial: Trial, traffic: Traffic) -> Result<Outcome> {
    let trial = Trial { detect: Detect::Mode("fallback", &[0]), answers: [Some(FALLBACK), Some(LIVE)], ..trial };
    trial
        .run(
            stage,
            async |stage| {
                stage.nodes[0].mirror.set(traffic);
                Ok(())
            },
            async |stage| {
                stage.nodes[0].mirror.set(Traffic::Flows);
                Ok(())
            },
        )
        .await
}
