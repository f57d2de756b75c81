//! A mirror that others wrote to: by mistake, with the best intentions, or as the mirror of another store.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::json;

use crate::{
    kit::{
        server::run_migrate,
        stores::load_postgres,
        tokens::{SECRET, subject},
    },
    node::{Node, Plan},
    outcome::Outcome,
    stage::{Means, PATIENCE, Stage, address_of, until},
    trial::{Detect, Trial},
};

/// Mitras of the other store. Their ids are those of the first mitras of the fleet.
const STRANGERS: u64 = 20;

pub async fn poisoned(stage: &mut Stage) -> Result<Outcome> {
    let trial = Trial {
        detect: Detect::Epoch,
        ..Trial::of(
            "mirror-poisoned",
            "another program writes into the mirror",
            "keys of wrong types, members that are no id, records of absurd generations, forged messages",
        )
    };
    trial.run(stage, async |stage| poison(stage).await, async |_| Ok(())).await
}

async fn poison(stage: &Stage) -> Result<()> {
    let condemned = subject(stage.condemned());
    let epoch = stage.journal.newest(0).context("a frame")?.epoch;
    let frame = json!({
        "type": "availability", "epoch": epoch, "version": 1_000_000_000, "any": false, "available": 0,
        "as_of": "2026-01-01T00:00:00.000Z", "source": "valkey", "stale": false,
    });
    let status = json!({
        "type": "status", "mitra_id": subject(0), "online": false, "active": false, "sessions": 0, "max_sessions": 1,
        "fence": { "generation": 9_000_000_000_000_000_000_i64, "revision": 1 }, "online_epoch": 1,
        "reason": "deactivated",
    });
    stage
        .valkey(&[
            &format!("PUBLISH availability:events {frame}"),
            &format!("PUBLISH hadir:control {status}"),
            &format!("HSET hadir:mitras {condemned} o:1:9000000000000000000:1:0:1"),
            "ZADD mitras:available 9999999999999 nobody",
            "ZADD mitras:liveness 9999999999999 nobody",
            "SADD mitras:deactivated nobody",
            "DEL mitras:online hadir:claimed hadir:sweep",
            "SET mitras:online x",
            "SET hadir:claimed x",
            "SET hadir:sweep x",
        ])
        .await
}

pub async fn foreign(stage: &mut Stage, means: &Means<'_>) -> Result<Outcome> {
    let mut stranger = stranger(stage, means).await?;
    let trial = Trial {
        steady: true,
        ..Trial::of(
            "mirror-foreign",
            "a node of another store on the same Valkey",
            "a second database with the same ids, no prefix, a deactivation there",
        )
    };
    let mut outcome = trial
        .run(
            stage,
            async |_| {
                stranger.start().await?;
                let path = format!("/internal/mitras/{}/status", subject(0));
                let body = json!({ "is_active": false, "reason": "a proof" });
                let accepted = async || stranger.door.ask(Method::PATCH, &path, Some(body.clone())).await.is_good();
                until(PATIENCE, accepted).await.context("the other store's node accepts no deactivation").map(|_| ())
            },
            async |_| Ok(()),
        )
        .await?;
    let mode = stranger.door.mode().await;
    outcome.check(mode.as_deref() == Some("fallback"), || format!("the node of the other store is {mode:?}"));
    let told = stranger.door.get("/readyz").await.body.to_string().contains("VALKEY_KEY_PREFIX");
    outcome.check(told, || "its /readyz does not say what to do".to_owned());
    let errors = stranger.log().lines().filter(|line| line.contains("another store")).count();
    outcome.check(errors == 1, || format!("it said so {errors} times in its log"));
    stranger.kill().await?;
    Ok(outcome)
}

/// A node of another database of the same PostgreSQL, not started yet.
async fn stranger(stage: &Stage, means: &Means<'_>) -> Result<Node> {
    let postgres = stage.postgres.as_ref().context("it is there between two acts")?;
    let database = postgres.new_database().await?;
    let migrate = [("AUTH_JWT_SECRET", SECRET), ("DATABASE_URL", database.url.as_str())];
    let migrate: Vec<_> = migrate.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    run_migrate(means.binary, &[], &migrate)?;
    load_postgres(&database, STRANGERS, false).await?;
    let name = database.url.rsplit('/').next().context("a database has a name")?;
    Node::new(Plan {
        binary: means.binary,
        number: 2,
        valkey: SocketAddr::from(([127, 0, 0, 1], stage.valkey.port)),
        postgres: address_of(&database.url)?,
        database: name,
        valkey_url: None,
        settings: &[],
        under: &[],
    })
    .await
}
