//! Clocks that disagree by minutes: a node, PostgreSQL, and the other node with Valkey each have another time.

use anyhow::{Context, Result};

use crate::{
    kit::stores::postgres::clock_ahead,
    outcome::Outcome,
    proxy::Traffic,
    stage::{Scenery, Stage},
    trial::Trial,
};

/// Of node 0 and of PostgreSQL, in seconds. Valkey's stays: its allocator and libfaketime wait for each other at the start.
const NODE_AHEAD: i64 = 300;
const POSTGRES_AHEAD: i64 = -420;

/// Node 0 and PostgreSQL under libfaketime.
pub fn scenery() -> Scenery {
    let variables = clock_ahead(NODE_AHEAD).map(|(name, value)| format!("{name}={value}"));
    let under = ["env".to_owned()].into_iter().chain(variables).collect();
    Scenery {
        postgres_environment: clock_ahead(POSTGRES_AHEAD).into(),
        node_under: [under, Vec::new()],
        ..Scenery::default()
    }
}

pub async fn apart(stage: &mut Stage) -> Result<Outcome> {
    let mut outcome =
        Trial::of("clocks-apart", "clocks minutes apart", "libfaketime: a node +5 min, PostgreSQL -7 min")
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
    let ahead = stage.clock_of_postgres().await? - chrono::Utc::now().timestamp();
    outcome.check((ahead - POSTGRES_AHEAD).abs() < 5, || format!("PostgreSQL's clock is ahead by {ahead} s only"));
    let view = stage.nodes[0].door.get("/internal/counts").await.body;
    let as_of = view["as_of"].as_str().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    let ahead = as_of.context("an answer has a time")?.timestamp() - chrono::Utc::now().timestamp();
    outcome.check((ahead - NODE_AHEAD).abs() < 5, || format!("the node's clock is ahead by {ahead} s only"));
    outcome.note(format!("PostgreSQL {POSTGRES_AHEAD} s, node 0 {NODE_AHEAD:+} s, Valkey and node 1 as they are"));
    Ok(())
}
