//! Clocks that disagree by minutes: a node, Valkey and PostgreSQL each have another time.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{
    outcome::Outcome,
    proxy::Traffic,
    stage::{Scenery, Stage},
    trial::Trial,
};

/// Of node 0 and of Valkey, in seconds.
const NODE_AHEAD: i64 = 300;
const VALKEY_AHEAD: i64 = -420;

/// Node 0 and Valkey under libfaketime.
///
/// # Errors
/// It is not installed.
pub fn scenery() -> Result<Scenery> {
    let library = library().context("libfaketime is not installed; `scripts/test` installs it")?;
    let under = |ahead: i64| {
        [
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME={ahead:+}"),
            // Deadlines are monotonic, and stay as they are.
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
    };
    Ok(Scenery {
        valkey_under: under(VALKEY_AHEAD).into(),
        node_under: [under(NODE_AHEAD).into(), Vec::new()],
        ..Scenery::default()
    })
}

fn library() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    places.map(|place| place.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}

pub async fn apart(stage: &mut Stage) -> Result<Outcome> {
    let mut outcome = Trial::of("clocks-apart", "clocks minutes apart", "libfaketime: a node +5 min, Valkey -7 min")
        .run(stage, async |_| Ok(()), async |_| Ok(()))
        .await?;
    differ(stage, &mut outcome).await?;
    Ok(outcome)
}

pub async fn outage(stage: &mut Stage) -> Result<Outcome> {
    let mirrors = |stage: &Stage, traffic| stage.nodes.iter().for_each(|node| node.mirror.set(traffic));
    Trial::mirror_away("clocks-apart-outage", "the same, and Valkey is away", "libfaketime; proxies cut")
        .run(
            stage,
            async |stage| {
                mirrors(stage, Traffic::Cut);
                Ok(())
            },
            async |stage| {
                mirrors(stage, Traffic::Flows);
                Ok(())
            },
        )
        .await
}

/// The clocks really differed.
async fn differ(stage: &Stage, outcome: &mut Outcome) -> Result<()> {
    let port = stage.valkey.port;
    let time = tokio::task::spawn_blocking(move || crate::kit::resp::Raw::to(port)?.ask(&[b"TIME"])).await??;
    let valkey = match time {
        crate::kit::resp::Answer::List(list) => list.first().and_then(|seconds| seconds.text().parse::<i64>().ok()),
        _ => None,
    };
    let now = chrono::Utc::now().timestamp();
    let ahead = valkey.context("TIME has seconds")? - now;
    outcome.check((ahead - VALKEY_AHEAD).abs() < 5, || format!("Valkey's clock is ahead by {ahead} s only"));
    let view = stage.nodes[0].door.get("/internal/counts").await.body;
    let as_of = view["as_of"].as_str().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    let ahead = as_of.context("an answer has a time")?.timestamp() - chrono::Utc::now().timestamp();
    outcome.check((ahead - NODE_AHEAD).abs() < 5, || format!("the node's clock is ahead by {ahead} s only"));
    outcome.note(format!("Valkey {VALKEY_AHEAD} s, node 0 {NODE_AHEAD:+} s, PostgreSQL and node 1 as they are"));
    Ok(())
}
